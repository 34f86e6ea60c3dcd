"""Turn observations around: p(θ|x)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from physgen import dataset
from physgen.dataset import Dataset, Rows
from physgen.errors import UsageError
from physgen.priors import asked_for, laws_in_words, parameters_in, restrict_prior
from physgen.runtime.engine import engine
from physgen.runtime.interrupt import interruptible
from physgen.runtime.kinds import as_json_data
from physgen.runtime.progress import bar, log
from physgen.verbs.arguments import (
    EngineOptions,
    FamilyLike,
    InferredPosterior,
    LikelihoodOptions,
    ModelLike,
    ObservedLike,
    PriorLike,
    Values,
    called,
    split_options,
)
from physgen.verbs.observed import open_observed, validated_rows, with_valid_x
from physgen.verbs.opening import open_source, origin_of
from physgen.verbs.running import (
    headed,
    on_files,
    path_of,
    plural,
    require,
    require_seed,
    threaded,
    warn_of_failed,
)

if TYPE_CHECKING:
    from physgen.posterior.blocks import Block
    from physgen.posterior.methods import InferenceOptions, Source
    from physgen.sbi.networks import Network
    from physgen.verbs.unfinished import UnfinishedBlocks
    from simulators.base import Array

__all__ = ["infer"]

RESUME = "add --resume to go on"


class InferOptions(LikelihoodOptions, EngineOptions, total=False):
    """How log p is computed, and where."""


@on_files("out", "network")
@threaded
def infer(
    model: ModelLike,
    observed: ObservedLike,
    *,
    out: Path | str | None = None,
    method: str | None = None,
    prior: PriorLike | None = None,
    fix: Values | None = None,
    rows: slice | None = None,
    iid: bool = False,
    drop_invalid: bool = False,
    direct: bool = False,
    refine: ModelLike | None = None,
    interest: str | None = None,
    samples: int = 1000,
    draws: int | None = None,
    simulations: int | None = None,
    epochs: int | None = None,
    network: Path | str | None = None,
    at: Values | None = None,
    family: FamilyLike | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    force: bool = False,
    **given: Unpack[InferOptions],
) -> InferredPosterior:
    """Infer the posterior of theta for observed x, with a surrogate or from a dataset.

    A surrogate's log p gives it on a grid (one to three parameters), by a tempered population
    (smc), which tells the evidence too, nested sampling, Markov chains, rejection or variational
    inference. The methods of sbi learn from samples, of a surrogate or in a
    dataset; the trained network may be kept, and then takes the place of the surrogate. All but
    grid, smc and abc need physgen[sbi], nested needs physgen[nested].

    Args:
        model: checkpoint of a surrogate, dataset to learn from, or trained network.
        observed: file with x, each row one observation, or with a single x: HDF5, npz, npy, text,
            CSV, parquet, netCDF, ROOT. FILE:NAME names the array, FILE:A,B,C the columns; without,
            x is the columns that are called as those of the training, in its order, the array x,
            the only one of its shape, or as many columns as x has components.
        out: HDF5 file to write: theta (observations, samples, parameters), log_prob, mean, sd,
            true, where the observations say theta, and mean_error, what an estimated log Z does
            to the mean (rbm).
        method: grid, smc, nested, mcmc, rejection, vi (surrogate only); npe, nre, fmpe, npse,
            nle, abc; grid, or smc for more than three parameters, if not given, and npe for a
            dataset.
        prior: other law of a parameter, inside the support of the training's: bounds, as in
            beta=0.2:0.6, or a distribution of scipy.stats, as in h=norm:0:0.1; may be repeated.
        fix: value of a parameter that is known, as in h=0; the posterior is of the others; may be
            repeated.
        rows: which rows, as in 0:10.
        iid: take all rows as one observation, drawn at one theta.
        drop_invalid: leave out rows that cannot be x, such as NaN, with --iid.
        direct: draw from the network itself (npe, fmpe, npse), not from its density on a grid; so
            it is done anyway beyond three parameters.
        refine: trained network (npe, fmpe, npse) whose draws the surrogate's log p weighs.
        interest: parameters that the summary and the page show, as in beta,h; all if not given. Of
            up to six observations with their profiles (log p at the best of all others) and slices
            (others where all are best).
        samples: posterior samples for each observation.
        draws: random draws for each log p(x|theta); the family's default if not given.
        simulations: samples of the surrogate to learn from, 10000 if not given; of a dataset the
            first ones, all if not given.
        epochs: epochs of a training at most, from 2 on; until it no longer improves if not given.
        network: checkpoint to write the trained network to.
        at: other option of the simulator, as in size=16; taken from the file if it has one.
        family: package.module:Class of a family outside the registry; a checkpoint does not import
            code by itself.
        seed: seed of the draws, the training and the samples.
        device: auto, cpu, cuda or cuda:1.
        resume: go on with an interrupted inference, of which finished blocks of rows are kept in
            OUT.blocks, where no network is trained.
        force: overwrite the files if they exist, and drop an interrupted inference.
        **given: how log p is computed, and where.

    Returns:
        The posterior: draws, moments, intervals, its log density, and the trained network.

    Example:
        physgen infer cvae.pt observed.h5 -o posterior.h5 --rows 0:10
    """
    from physgen.posterior import blocks, methods
    from physgen.posterior import inferred as products

    where, use = split_options(given)
    require_seed(seed)
    require(
        samples=(samples, 1), draws=(draws, 1), epochs=(epochs, 1), simulations=(simulations, 1)
    )  # fmt: skip
    data = open_observed(observed)
    source = open_source(model, device, like=data, at=at, family=family, **use)
    learnt = source.about if source.data else source.about.get("data", {})
    data = open_observed(observed, source.law, learnt)
    warn_of_failed(source.path, learnt.get("failed", {}))
    proposal = open_source(refine, device).network if refine else None
    if refine and proposal is None:
        raise UsageError("refine: expected a trained network, as infer --network writes it")
    if interest:
        parameters_in(interest, source.law.prior.names)
    options = methods.InferenceOptions(
        methods.choose_method(source, method, proposal),
        restrict_prior(source.law.prior, asked_for(prior, fix)),
        samples=samples, simulations=simulations, epochs=epochs, draws=draws, iid=iid, seed=seed,
        direct=direct, refine=proposal,
    )  # fmt: skip
    methods.refuse_unused(source, options, network is not None)
    if drop_invalid and not iid:
        raise UsageError(
            "drop_invalid: goes with --iid; posteriors of single rows are known by their number, "
            "so take some with --rows"
        )
    found = data.read(rows, whole=True)
    first, *_ = (rows or slice(None)).indices(len(data))
    if drop_invalid:
        found = with_valid_x(found, source.law, data.name)
    x = validated_rows(Rows(found.x), data, source.law, rows, drops=iid).x
    strange = list(unlike(source, x, first))
    start = time.monotonic()
    what = headed(out, "inference")
    made_of = origins(source, data, rows)
    kept = unfinished_of(out, source, options, made_of)
    if resume and not kept:
        raise UsageError("resume: of --iid, and where a network is trained, nothing is kept")
    ready = kept.begun(resume, force) if kept else {}
    with (
        interruptible(what, RESUME if ready else "nothing was written") as stop,
        kept.on_end() if kept else nullcontext(),
        bar(1 if iid else len(x), f"infer by {options.method}") as move,
        engine(**where) as there,
    ):
        finished = 0

        def tell(text: str) -> None:
            stop.check()
            move(finished, text)

        def progress(count: int) -> None:
            nonlocal finished
            finished = count
            tell(f"{count:,} observations")

        def keep_block(first: int, block: Block) -> None:
            if kept:
                kept.keep(first, block)
                stop.hint = RESUME

        def keep(trained: Network) -> None:
            if path := path_of(network):
                trained.save(path)
                stop.hint = f"the trained network is kept: go on with physgen infer {path}"

        inference = methods.inference_of(source, options, tell, keep)
        inferred = blocks.infer_posteriors(
            inference, x, there, tell=tell, progress=progress, done=ready, keep=keep_block
        )
        posterior = products.InferredPosterior.of(source, inference, inferred, found, x)
        posterior = posterior.concerning(interest) if interest else posterior
    if posterior.network and (path := path_of(network)):
        posterior = replace(posterior, network=replace(posterior.network, path=path))
    for line in (*strange, *posterior.warnings):
        log.warning("%s", headed(out, line))
    command = called(
        "infer", model, observed,
        out=out, method=method, prior=laws_in_words(prior), fix=fix, rows=rows, iid=iid,
        drop_invalid=drop_invalid, direct=direct, refine=refine, interest=interest,
        samples=samples, draws=draws, simulations=simulations, epochs=epochs,
        network=network, **use, at=at, seed=seed,
    )  # fmt: skip
    about = {**posterior.about, **made_of}
    about["provenance"] = dataset.provenance(command)
    done, seconds = plural(len(posterior), "observation"), time.monotonic() - start
    text = f"{done} by {options.method} in {seconds:.1f} s; the first: {posterior.first}"
    posterior = replace(posterior, about=about, summary=headed(out, text))
    posterior = posterior.save(out, force=force) if out else posterior
    if kept:
        kept.drop()
    return posterior


def unfinished_of(
    out: Path | str | None,
    source: Source,
    options: InferenceOptions,
    made_of: Mapping[str, Any],
) -> UnfinishedBlocks | None:
    """What keeps finished blocks of the posteriors of a file, if there is more than one to keep.

    Args:
        out: the file.
        source: what is inferred with.
        options: how.
        made_of: its `origins`.
    """
    from physgen.runtime.worker import versions
    from physgen.sbi.networks import METHODS
    from physgen.verbs.unfinished import UnfinishedBlocks

    path = path_of(out)
    if path is None or options.iid or (options.method in METHODS and not source.network):
        return None
    given = {k: made_of[k] for k in (source.kind, "observed")}
    identity: dict[str, Any] = {
        k: {n: v for n, v in told.items() if n != "path"} for k, told in given.items()
    }
    by = ("method", "samples", "simulations", "draws", "direct", "seed")
    identity |= {k: getattr(options, k) for k in by} | {"version": versions()["physgen"]}
    identity["law"] = replace(source.law, prior=options.prior).to_json()
    identity["refine"] = origin_of(options.refine)["sha256"] if options.refine else None
    return UnfinishedBlocks(path, as_json_data(identity))


def unlike(source: Source, x: Array, first: int) -> Iterator[str]:
    """What of x (n, *x_shape), from row `first` on, is unlike all x that were learnt from."""
    from physgen.nn.tensors import tensor_of

    network, surrogate = source.network, source.surrogate
    scale = surrogate.transform if surrogate else network.scale if network else None
    if scale is not None:
        yield from scale.unlike(tensor_of(x), first)


def origins(source: Source, data: Dataset, rows: slice | None) -> dict[str, Any]:
    """What a posterior comes from, for a record: JSON data.

    Args:
        source: what was inferred with.
        data: the observations.
        rows: which of them; all if None.
    """
    first, last, _ = (rows or slice(None)).indices(len(data))
    path = data.path and data.name
    return {
        source.kind: {k: source.about[k] for k in ("path", "sha256", "use") if k in source.about},
        "observed": {
            "path": path,
            "sha256": data.digest,
            "rows": [first, last],
            "columns": data.columns,
        },
        "first_row": first,
    }

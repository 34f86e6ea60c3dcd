"""The verbs: files in, files out. The command line is these functions, under the same names.

simulate → fit → sample, infer, validate → report; `calibrate` asks whether posteriors are right,
`compare` looks at two datasets, `inspect` at any file, `import_` and `export` exchange datasets
with other packages. Each returns a :class:`Result`: where the product lies, one line about it, and
its figures. Heavy floors are imported inside the verbs that need them, so that importing this
module costs little.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from inspect import signature as inspect_signature
from json import dumps, loads
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
from h5py import is_hdf5

import simulators.base as declared
from physgen import dataset
from physgen.dataset import Meta, Rows, Shard
from physgen.dataset.makers import Draw, Simulate, parameters
from physgen.errors import DataError, StorageError, TrainingDiverged, UsageError
from physgen.law import Law
from physgen.registry import Kind, find, targets
from physgen.runtime.interrupt import interruptible
from physgen.runtime.options import build, command_line, options
from physgen.runtime.progress import bar, log
from physgen.verbs.describe import described, lines
from physgen.verbs.opening import (
    Bounds,
    Values,
    chosen,
    inside,
    law_of,
    load,
    narrowed,
    origin,
    parent_of,
    prepared,
    source_of,
)
from physgen.verbs.resume import keep, restore, resume_path, state_of

__all__ = [
    "Result",
    "calibrate",
    "compare",
    "export",
    "fit",
    "import_",
    "infer",
    "inspect",
    "load",
    "report",
    "sample",
    "simulate",
    "validate",
]

KINDS: tuple[Kind, ...] = ("simulators", "surrogates")
P = ParamSpec("P")


@dataclass(frozen=True)
class Result:
    """What a verb has made.

    Attributes:
        path: the file; None where there is none.
        summary: what to tell a person.
        data: its figures.
        fault: what is wrong with what was looked at; empty if nothing is.
        posterior: what `infer` has inferred (`physgen.posterior.base.Posterior`); else None.
    """

    path: Path | None
    summary: str
    data: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    posterior: Any = None

    def __str__(self) -> str:
        return self.summary


def on_files(verb: Callable[P, Result]) -> Callable[P, Result]:
    """Take text for paths, and refuse an output that could not be written before work begins."""
    signature = inspect_signature(verb, eval_str=True)
    paths = {p.name for p in signature.parameters.values() if "Path" in str(p.annotation)}

    @functools.wraps(verb)
    def wrapped(*args: P.args, **given: P.kwargs) -> Result:
        bound = signature.bind(*args, **given)
        values = bound.arguments
        for name in paths & {k for k, v in values.items() if v is not None}:
            values[name] = Path(values[name])
        out = values.get("out")
        for made in filter(None, (out, values.get("network"))):
            if not made.absolute().parent.is_dir():
                raise StorageError(f"{made}: no folder {made.parent}; make it first")
        if out and out in [values[k] for k in paths - {"out"} if k in values]:
            raise UsageError(f"{out}: is another file of this command; choose another output")
        return verb(*bound.args, **bound.kwargs)

    return wrapped


def threaded(verb: Callable[P, Result]) -> Callable[P, Result]:
    """Run a verb in as many threads as `physgen.runtime.device.threads` chooses."""

    @functools.wraps(verb)
    def wrapped(*args: P.args, **given: P.kwargs) -> Result:
        from physgen.runtime.device import threads

        with threads():
            return verb(*args, **given)

    return wrapped


@contextmanager
def judging(
    out: Path, what: str, label: str, weights: Mapping[str, float]
) -> Iterator[Callable[..., None]]:
    """A bar over the sections of a judgement, which a signal ends before anything is written.

    Args:
        out: file that will be written.
        what: what is done.
        label: a few words before the bar.
        weights: section → part of the time that it takes, about.

    Yields:
        ``progress(section, part=0)``, to be called as sections begin and go on.
    """
    begun: list[str] = []
    with interruptible(f"{out}: {what}", "nothing was written") as stop, bar(1, label) as move:

        def progress(section: str, part: float = 0.0) -> None:
            stop.check()
            if section not in begun:
                begun.append(section)
            done = sum(weights[name] for name in begun[: begun.index(section)])
            move((done + part * weights[section]) / sum(weights.values()), section)

        yield progress


def record(
    out: Path, schema: str, command: str, measured: Mapping[str, Any], **about: Mapping[str, Any]
) -> dict[str, Any]:
    """Write what was measured, and of what, as JSON."""
    found = {
        "schema": f"physgen/{schema}",
        **about,
        "provenance": dataset.provenance(command),
        **measured,
    }
    dataset.write_bytes(out, dumps(found, allow_nan=False).encode(), sidecar=False)
    return found


@on_files
def simulate(
    simulator: str,
    *,
    out: Path,
    n: int,
    seed: int = 0,
    prior: Bounds | None = None,
    workers: int = 1,
    shard_rows: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    **given: Any,
) -> Result:
    """Draw a dataset of (theta, x): theta from the prior, x from a simulator.

    The same command after an interruption finishes the file. Its bytes depend on the seed and the
    simulator's options only, not on workers, threads or restarts.

    Args:
        simulator: a registered simulator, or package.module:Class of your own.
        out: HDF5 file to write.
        n: number of rows (at least 1).
        seed: seed of the whole dataset (at least 0).
        prior: other bounds for a parameter, as in beta=0.2:0.6; may be repeated.
        workers: number of processes (at least 1).
        shard_rows: rows that are made in one go, and kept if interrupted; about 1 MiB if not
            given.
        force: overwrite the file if it exists, and drop the unfinished rows of another command.
        dry_run: say what would be made, and make its first row, without writing.
        **given: options of the simulator.

    Example:
        physgen simulate ising -n 20000 --seed 1 -o ising.h5
    """
    require(n=(n, 1), workers=(workers, 1), seed=(seed, 0))
    law = Law.of(simulator, given, prior)
    command = command_line("simulate", simulator, **given, n=n, seed=seed, prior=prior)
    source = declared.provenance(law.build())
    meta = Meta(
        law=law,
        source={"kind": "simulator", "name": simulator, **source},
        seed=seed,
        provenance=dataset.provenance(command),
    )
    make = Simulate(law)
    if dry_run:
        return rehearsed(make, n, out)
    with bar(n, f"simulate {simulator}") as move:
        written = dataset.write(
            out, n, meta, make, shard_rows=shard_rows, workers=workers, force=force, progress=move
        )
    return Result(
        out, f"{out}: {n:,} rows of {simulator} in {written.seconds:.1f} s", vars(written)
    )


def rehearsed(make: Simulate, n: int, out: Path) -> Result:
    """What a dataset would be, after its first row has been made and checked."""
    row = make(Shard(0, 0, 1, np.random.SeedSequence(0)))
    row = dataset.validated(row, make.law, str(out))
    size = n * sum(a.nbytes for a in row.arrays().values())
    what = f"{n:,} rows of {make.law.simulator}, theta {make.law.prior}, x {row.x.shape[1:]}"
    return Result(None, f"would write {out}: {what}, {size / 1e6:.1f} MB before compression")


@on_files
def inspect(path: Path | None = None, *, verify: bool = False, json: bool = False) -> Result:
    """Say what a file holds; without a file, which simulators and families there are.

    Args:
        path: dataset, posterior or checkpoint.
        verify: read and check every value, and compare a dataset with the law that it claims.
        json: print JSON.

    Example:
        physgen inspect ising.h5 --verify
    """
    registered: dict[str, Any] = {kind: targets(kind) for kind in KINDS}
    found = described(path, verify) if path else registered
    failed = [v["name"] for v in found.get("verdicts", []) if not v["passed"]]
    fault = f"{path}: does not follow its law: {', '.join(failed)} failed" if failed else ""
    return Result(path, dumps(found, indent=2) if json else "\n".join(lines(found)), found, fault)


@on_files
def import_(
    format: str,
    file: Path,
    *,
    out: Path,
    binning: Path | None = None,
    particle: str | None = None,
    max_events: int | None = None,
    force: bool = False,
) -> Result:
    """Make a dataset of (theta, x) from a file in another format.

    The same command after an interruption finishes the file.

    Args:
        format: calochallenge (showers; arXiv:2410.21611).
        file: file to read.
        out: HDF5 file to write.
        binning: XML file with the cells of the showers.
        particle: which of the particles in it, if there are several.
        max_events: rows to read at most, the first ones; all if not given.
        force: overwrite the file if it exists.

    Example:
        physgen import calochallenge dataset_2_1.hdf5 --binning binning_dataset_2.xml -o data.h5
    """
    from physgen import formats

    reader = formats.room("import", format, formats.IMPORTS)
    require(max_events=(1 if max_events is None else max_events, 1))
    dataset.refuse_overwriting(out, force)
    found = reader.open_foreign(file, binning=binning, particle=particle)
    n = min(found.rows, max_events or found.rows)
    command = command_line(
        "import", format, file, binning=binning, particle=particle, max_events=max_events
    )
    meta = Meta(found.law, found.source, provenance=dataset.provenance(command))
    with bar(n, f"import {format}") as move:
        written = dataset.write(out, n, meta, found.make, force=force, progress=move)
    note = f"; {found.note}" if found.note else ""
    done = f"{plural(n, 'row')} of {file} in {written.seconds:.1f} s"
    return Result(out, f"{out}: {done}{note}", vars(written))


@on_files
def export(
    data: Path, *, format: str, out: Path, binning: Path | None = None, force: bool = False
) -> Result:
    """Write a dataset or a posterior in another format.

    Args:
        data: dataset of a simulator, of a surrogate, or imported; posterior for arviz.
        format: calochallenge (showers; arXiv:2410.21611), arviz (netCDF of a posterior).
        out: file to write.
        binning: XML file to write the cells of the showers to.
        force: overwrite the files if they exist.

    Example:
        physgen export data.h5 --format calochallenge -o showers.hdf5
    """
    from physgen import formats

    writer = formats.room("export", format, formats.EXPORTS)
    begun = time.monotonic()
    with (
        interruptible(f"{out}: export", "nothing was written") as stop,
        bar(1, f"export {format}") as move,
    ):

        def progress(done: float) -> None:
            stop.check()
            move(done)

        rows = writer.write(data, out, binning=binning, force=force, progress=progress)
    seconds = time.monotonic() - begun
    return Result(out, f"{out}: {plural(rows, 'row')} of {data} in {seconds:.1f} s")


@on_files
@threaded
def fit(
    family: str,
    data: Path,
    *,
    out: Path,
    from_: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    force: bool = False,
    tensorboard: Path | None = None,
    **given: Any,
) -> Result:
    """Train a surrogate of p(x|theta) on a dataset.

    After each epoch the state goes to OUT.resume and the history to OUT.jsonl; the checkpoint
    appears when training has ended, and holds the weights of the best epoch (rbm and gan: of
    the last).

    Args:
        family: a registered family, or package.module:Class of your own.
        data: dataset to train on.
        out: checkpoint to write.
        from_: checkpoint of the same family to start from, at its options; x may be of another
            shape, if its networks are convolutions throughout.
        seed: seed of weights, order and noise.
        device: auto, cpu, cuda or cuda:1.
        resume: go on with an interrupted training.
        force: overwrite the checkpoint if it exists, and drop an interrupted training.
        tensorboard: folder for TensorBoard logs (needs physgen[tensorboard]).
        **given: options of the training and of the family.

    Example:
        physgen fit cvae ising.h5 -o cvae.pt --max-minutes 3
    """
    from physgen.runtime.device import device_of
    from physgen.surrogates.checkpoint import save
    from physgen.training import Trainer, Training, split

    cls = find("surrogates", family)
    ours = {o.name for o in options(Training)}
    training = build(Training, "training", {k: v for k, v in given.items() if k in ours})
    theirs = {k: v for k, v in given.items() if k not in ours}
    config = build(cls.Config, family, theirs)
    require(seed=(seed, 0))
    state = state_of(out, resume, force)
    if from_:
        surrogate = parent_of(from_, cls, device).at(law_of(data), **theirs).train()
    else:
        surrogate = cls.create(law_of(data), config, seed).to(device_of(device))
    train, val, some = split(data, training.validation, training.memory_gib, surrogate.device)
    if not from_:
        surrogate.transform.fit(some.to(surrogate.device))
    command = command_line("fit", family, data, out=out, from_=from_, **given, seed=seed)
    info = {
        "training": asdict(training),
        "seed": seed,
        "data": {"path": str(data), "sha256": dataset.file_digest(data)},
        "provenance": dataset.provenance(command),
    }
    with (
        interruptible(f"{out}: training", "add --resume to go on") as stop,
        bar(1, f"fit {family}") as move,
    ):

        def on_batch(progress: float) -> None:
            move(progress)
            stop.check()

        trainer = Trainer(surrogate, train, val, training, seed, on_batch)
        if state:
            restore(trainer, state, info | surrogate.describe(), out)
        try:
            for epoch in trainer:
                keep(trainer, epoch, info, out, tensorboard)
        except TrainingDiverged:
            if trainer.history:
                save(surrogate, out, info | {"history": [asdict(e) for e in trainer.history]})
            raise
    surrogate.settle(seed)
    history = [asdict(e) for e in trainer.history]
    save(surrogate, out, info | {"history": history})
    resume_path(out).unlink(missing_ok=True)
    kept = [e for e in trainer.history if e.best or surrogate.keeps_last][-1]
    return Result(
        out,
        f"{out}: {family}, {plural(len(history), 'epoch')} in {history[-1]['seconds']:.0f} s, "
        f"validation loss {kept.val:.4f} {surrogate.unit} (epoch {kept.epoch})",
        {"history": history},
    )


@on_files
@threaded
def sample(
    surrogate: Path,
    *,
    out: Path,
    n: int | None = None,
    theta: Values | None = None,
    like: Path | None = None,
    at: Values | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    eta: float | None = None,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
) -> Result:
    """Draw a dataset of (theta, x) from a surrogate: the same kind of file as of a simulator.

    Args:
        surrogate: checkpoint of the surrogate.
        out: HDF5 file to write.
        n: number of rows; all rows of the other file with --like.
        theta: value of a parameter, the same in all rows, as in beta=0.44; repeat for each.
        like: another dataset whose theta to take, row by row, and the shape of x.
        at: other option of the simulator, as in size=16; needs a surrogate of convolutions.
        sampler: way to draw, where the family has several (diffusion: ancestral, ddim,
            euler-maruyama, heun, dpm-solver; rbm: gibbs, tempered).
        steps: evaluations of the network, or sweeps, for one sample, where that is a choice.
        eta: noise of the sampler ddim, 0 to 1.
        seed: seed of the whole dataset.
        device: auto, cpu, cuda or cuda:1.
        force: overwrite the file if it exists.

    Example:
        physgen sample cvae.pt -o fake.h5 --theta beta=0.44 -n 1000
    """
    ways = {"sampler": sampler, "steps": steps, "eta": eta}
    model, info = prepared(surrogate, device, like, at, **ways)
    if (n is None) == (like is None):
        raise UsageError("sample: expected either -n or --like")
    rows = parameters(model.law, n, theta, like)
    count = (n or 0) if rows is None else len(rows)
    require(n=(count, 1), seed=(seed, 0))
    command = command_line(
        "sample", surrogate, n=n, theta=theta, like=like, at=at, **ways, seed=seed
    )
    meta = Meta(
        law=model.law,
        source={"kind": "surrogate", "name": model.name, "sha256": info["sha256"]},
        seed=seed,
        provenance=dataset.provenance(command),
    )
    with bar(count, f"sample {model.name}") as move:
        written = dataset.write(out, count, meta, Draw(model, rows), force=force, progress=move)
    per_s = count / written.seconds
    return Result(out, f"{out}: {count:,} rows of {model.name} at {per_s:,.0f} a s", vars(written))


@on_files
@threaded
def infer(
    model: Path,
    observed: Path,
    *,
    out: Path,
    method: str | None = None,
    prior: Bounds | None = None,
    rows: slice | None = None,
    iid: bool = False,
    samples: int = 1000,
    draws: int | None = None,
    simulations: int | None = None,
    epochs: int | None = None,
    network: Path | None = None,
    estimator: str | None = None,
    steps: int | None = None,
    ladder: int | None = None,
    symmetrise: bool = False,
    at: Values | None = None,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
) -> Result:
    """Infer the posterior of theta for observed x, with a surrogate or from a dataset.

    A surrogate's log p gives it on a grid (one to three parameters), by Markov chains, rejection
    or variational inference. The methods of sbi learn from samples, of a surrogate or in a
    dataset; the trained network may be kept, and then takes the place of the surrogate. All but
    grid and abc need physgen[sbi].

    Args:
        model: checkpoint of a surrogate, dataset to learn from, or trained network.
        observed: HDF5 file with /x; each row is one observation.
        out: HDF5 file to write: theta (observations, samples, parameters), log_prob, mean, sd,
            true, where the observations say theta, and mean_error, what an estimated log Z does
            to the mean (rbm).
        method: grid, mcmc, rejection, vi (surrogate only); npe, nre, fmpe, npse, nle, abc; grid,
            or mcmc for more than three parameters, if not given, and npe for a dataset.
        prior: narrower bounds for a parameter, as in beta=0.2:0.6; may be repeated; inside those
            of the training.
        rows: which rows, as in 0:10.
        iid: take all rows as one observation, drawn at one theta.
        samples: posterior samples for each observation.
        draws: random draws for each log p(x|theta); the family's default if not given.
        simulations: samples of the surrogate to learn from, 10000 if not given; of a dataset the
            first ones, all if not given.
        epochs: epochs of a training at most, from 2 on; until it no longer improves if not given.
        network: checkpoint to write the trained network to.
        estimator: way to log p, where the family has several (diffusion: bound, path, ode).
        steps: steps of the estimators path and ode.
        ladder: sweeps of the annealing that gives log Z (rbm).
        symmetrise: average log p over the simulator's reflections and flips of x.
        at: other option of the simulator, as in size=16; taken from the file if it has one.
        seed: seed of the draws, the training and the samples.
        device: auto, cpu, cuda or cuda:1.
        force: overwrite the files if they exist.

    Example:
        physgen infer cvae.pt observed.h5 -o posterior.h5 --rows 0:10
    """
    from physgen.verbs import inferring

    require(
        samples=(samples, 1), draws=(draws or 1, 1), seed=(seed, 0),
        epochs=(1 if epochs is None else epochs, 1),
        simulations=(1 if simulations is None else simulations, 1),
    )  # fmt: skip
    for path in filter(None, (out, network)):
        dataset.refuse_overwriting(path, force)
    ways = {
        "estimator": estimator,
        "steps": steps,
        "ladder": ladder,
        "symmetrise": symmetrise or None,
    }
    source = source_of(model, observed, device, at, **ways)
    asked = inferring.Asked(
        inferring.chosen(source, method),
        inside(source.law.prior, prior),
        samples=samples, simulations=simulations, epochs=epochs, draws=draws, iid=iid, seed=seed,
    )  # fmt: skip
    inferring.refuse_idle(source, asked, network is not None)
    found = chosen(observed, rows)
    x = dataset.validated(Rows(x=found.x), source.law, str(observed)).x
    warnings = [f"{observed}: {line}" for line in inferring.strangers(source.law, found, iid)]
    start = time.monotonic()
    with (
        interruptible(f"{out}: inference", "nothing was written") as stop,
        bar(None, f"infer by {asked.method}") as move,
    ):

        def tell(text: str) -> None:
            stop.check()
            move(0, text)

        inferred = inferring.infer(source, x, asked, tell)
        arrays = inferring.arrays(inferred, samples, seed)
    arrays |= inferring.known(found, asked)
    if network and inferred.network:
        inferred.network.save(network)
    warnings += [f"{out}: {line}" for line in inferring.objections(inferred, arrays, asked)]
    for line in warnings:
        log.warning("%s", line)
    command = command_line(
        "infer", model, observed,
        out=out, method=method, prior=prior, rows=rows, iid=iid, samples=samples, draws=draws,
        simulations=simulations, epochs=epochs, network=network, **ways, at=at, seed=seed,
    )  # fmt: skip
    about = inferring.about(source, inferred, asked) | {
        source.kind: {"path": str(model), "sha256": source.about["sha256"]},
        "observed": {"path": str(observed), "sha256": dataset.file_digest(observed)},
        "provenance": dataset.provenance(command),
        "warnings": [line.partition(": ")[2] for line in warnings],
        "first_row": max(0, rows.start or 0) if rows else 0,
    }
    dataset.write_arrays(out, arrays, about, kind="posterior", force=force)
    done, seconds = plural(len(inferred.posterior), "observation"), time.monotonic() - start
    first = ", ".join(
        f"{name} = {m:.4g} ± {s:.2g}"
        for name, m, s in zip(asked.prior.names, arrays["mean"][0], arrays["sd"][0], strict=True)
    )
    text = f"{out}: {done} by {asked.method} in {seconds:.1f} s; the first: {first}"
    return Result(out, text, about, posterior=inferred.posterior)


@on_files
@threaded
def validate(
    surrogate: Path,
    data: Path,
    *,
    out: Path,
    simulator: str | None = None,
    rows: slice | None = None,
    draws: int | None = None,
    observations: int = 100,
    estimator: str | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    ladder: int | None = None,
    symmetrise: bool = False,
    sweep: bool = False,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
) -> Result:
    """Score a surrogate against held-out data and, where there is one, the exact answer.

    Args:
        surrogate: checkpoint of the surrogate.
        data: dataset that was not trained on.
        out: metrics.json to write.
        simulator: package.module:Class of a simulator outside the registry, for its exact truth
            and its observables; files do not import code by themselves.
        rows: which rows of the data, as in 0:1000.
        draws: random draws for each log p(x|theta); the family's default if not given.
        observations: rows whose posteriors are compared with the exact ones.
        estimator: way to log p, where the family has several (diffusion: bound, path, ode).
        sampler: way to draw, where the family has several.
        steps: steps of the sampler, and of the estimators path and ode.
        ladder: sweeps of the annealing that gives log Z (rbm).
        symmetrise: average log p over the simulator's reflections and flips of x.
        sweep: compare the family's samplers at 8 to 128 steps.
        seed: seed of all that is random.
        device: auto, cpu, cuda or cuda:1.
        force: overwrite the file if it exists.

    Example:
        physgen validate cvae.pt test.h5 -o metrics.json
    """
    from physgen.checks.validation import VALIDATION_SECTIONS, validation

    require(observations=(observations, 1), draws=(draws or 1, 1), seed=(seed, 0))
    dataset.refuse_overwriting(out, force)
    ways = {
        "estimator": estimator,
        "sampler": sampler,
        "steps": steps,
        "ladder": ladder,
        "symmetrise": symmetrise or None,
    }
    model, info = prepared(surrogate, device, data, None, **ways)
    found = dataset.validated(chosen(data, rows), model.law, str(data))
    truth = model.law.build_if_known(simulator)
    if truth is None and ":" in model.law.simulator:
        log.warning("no exact truth: to compare with it add --simulator %s", model.law.simulator)
    with judging(out, "validation", f"validate {model.name}", VALIDATION_SECTIONS) as progress:
        measured = validation(
            model, found.labels(data), found.x, truth,
            draws=draws, sweep=sweep, observations=observations, seed=seed, progress=progress,
        )  # fmt: skip
    command = command_line(
        "validate", surrogate, data,
        out=out, simulator=simulator, rows=rows, draws=draws, observations=observations, **ways,
        sweep=sweep, seed=seed,
    )  # fmt: skip
    metrics = record(
        out, "metrics/1", command, measured,
        surrogate={"path": str(surrogate), **info},
        data=origin(data, found),
    )  # fmt: skip
    return Result(out, f"{out}: {verdict(metrics)}", metrics)


@on_files
@threaded
def calibrate(
    model: Path,
    data: Path,
    *,
    out: Path,
    rows: slice | None = None,
    prior: Bounds | None = None,
    draws: int | None = None,
    samples: int = 20,
    simulator: str | None = None,
    estimator: str | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    ladder: int | None = None,
    symmetrise: bool = False,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
) -> Result:
    """Check that posteriors are right, on the grid, without an exact answer.

    Ranks of theta, coverage, TARP, LC2ST, Bartlett's identities, predictive checks and
    misspecification. Each has controls, posteriors that are 30 % too narrow or shifted by 0.3
    widths, which must be caught; if they are not, the rows are too few for a verdict.

    Args:
        model: checkpoint of a surrogate with a likelihood, or trained network of infer, of one
            to three parameters.
        data: dataset that was not trained on, its theta drawn from its prior; of x without theta
            only predictive checks and misspecification are judged.
        out: calibration.json to write.
        rows: which rows of the data, as in 0:200; the first 1000 if not given.
        prior: narrower bounds for a parameter, as in beta=0.2:0.6; may be repeated; rows outside
            are left out.
        draws: random draws for each log p(x|theta); the family's default for posteriors if not
            given.
        samples: draws of each posterior, and x drawn at them, for the predictive checks.
        simulator: package.module:Class of a simulator outside the registry, for its observables;
            files do not import code by themselves.
        estimator: way to log p, where the family has several (diffusion: bound, path, ode).
        sampler: way to draw, where the family has several.
        steps: steps of the sampler, and of the estimators path and ode.
        ladder: sweeps of the annealing that gives log Z (rbm).
        symmetrise: average log p over the simulator's reflections and flips of x.
        seed: seed of all that is random.
        device: auto, cpu, cuda or cuda:1.
        force: overwrite the file if it exists.

    Example:
        physgen calibrate cvae.pt test.h5 -o calibration.json
    """
    from physgen.checks.calibration.run import CALIBRATION_SECTIONS, MOST_ROWS, calibration
    from physgen.checks.calibration.verdicts import calibration_summary

    require(samples=(samples, 1), draws=(draws or 1, 1), seed=(seed, 0))
    dataset.refuse_overwriting(out, force)
    ways = {
        "estimator": estimator,
        "sampler": sampler,
        "steps": steps,
        "ladder": ladder,
        "symmetrise": symmetrise or None,
    }
    source = source_of(model, data, device, None, **ways)
    judged = source.surrogate or source.network
    if judged is None:
        raise UsageError(f"{model}: expected a surrogate or a network; this is a dataset")
    if source.network and draws:
        raise UsageError(f"{model}: draws: are of a surrogate's likelihood; this is a network")
    found = chosen(data, rows) if rows else dataset.read(data, slice(0, MOST_ROWS))
    theirs = found.meta.law.prior if found.meta else source.law.prior
    box = narrowed(source.law.prior, theirs, prior)
    found = dataset.validated(found, replace(source.law, prior=theirs), str(data))
    with judging(out, "calibration", f"calibrate {model.name}", CALIBRATION_SECTIONS) as progress:
        measured = calibration(
            judged, found.theta, found.x, box,
            trusted=simulator, draws=draws, samples=samples, seed=seed, progress=progress,
        )  # fmt: skip
    if source.about.get("data", {}).get("sha256") == dataset.file_digest(data):
        measured["warnings"].insert(0, "the rows are those of the training, and prove little")
    command = command_line(
        "calibrate", model, data,
        out=out, rows=rows, prior=prior, draws=draws, samples=samples, simulator=simulator,
        **ways, seed=seed,
    )  # fmt: skip
    metrics = record(
        out, "calibration/1", command, measured,
        data=origin(data, found),
        **{source.kind: {"path": str(model), **source.about}},
    )  # fmt: skip
    return Result(out, f"{out}: {calibration_summary(metrics)}", metrics)


@on_files
@threaded
def compare(
    generated: Path,
    reference: Path,
    *,
    out: Path,
    rows: slice | None = None,
    simulator: str | None = None,
    seed: int = 0,
    force: bool = False,
) -> Result:
    """Compare two datasets of the same kind, whoever made them, by the metrics of the field.

    Every figure comes with what two samples of one law would give, every classifier with a
    control that it must tell.

    Args:
        generated: dataset to judge.
        reference: dataset to judge it by, of the same simulator and shape of x.
        out: metrics.json to write.
        rows: which rows of both, as in 0:1000.
        simulator: package.module:Class of a simulator outside the registry, for its observables;
            files do not import code by themselves.
        seed: seed of all that is random.
        force: overwrite the file if it exists.

    Example:
        physgen compare fake.h5 test.h5 -o metrics.json
    """
    from physgen.checks.two_sample.comparison import (
        COMPARISON_SECTIONS,
        comparison,
        comparison_summary,
    )

    require(seed=(seed, 0))
    dataset.refuse_overwriting(out, force)
    theirs, ours = chosen(generated, rows), chosen(reference, rows)
    with judging(out, "comparison", "compare", COMPARISON_SECTIONS) as progress:
        measured = comparison(theirs, ours, trusted=simulator, seed=seed, progress=progress)
    command = command_line(
        "compare", generated, reference, out=out, rows=rows, simulator=simulator, seed=seed
    )
    metrics = record(
        out, "comparison/1", command, measured,
        generated=origin(generated, theirs),
        reference=origin(reference, ours),
    )  # fmt: skip
    return Result(out, f"{out}: {comparison_summary(metrics)}", metrics)


@on_files
def report(metrics: Path, *, out: Path, force: bool = False) -> Result:
    """Draw metrics or posteriors as one self-contained HTML page.

    Args:
        metrics: metrics.json, as validate, calibrate or compare wrote it, or posterior of infer.
        out: HTML file to write.
        force: overwrite the file if it exists.

    Example:
        physgen report metrics.json -o report.html
    """
    from physgen.reporting import render

    dataset.refuse_overwriting(out, force)
    found = posterior_in(metrics) if is_hdf5(metrics) else metrics_in(metrics)
    dataset.write_bytes(out, render(found).encode(), sidecar=False)
    return Result(out, f"{out}: report of {metrics}")


def metrics_in(path: Path) -> dict[str, Any]:
    """The metrics in a JSON file.

    Raises:
        DataError: a file that holds none.
    """
    from physgen.reporting import SCHEMAS

    try:
        found = loads(dataset.read_bytes(path))
        schema = found.get("schema")
    except (ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: not a posterior, nor the JSON of validate, calibrate or compare: {error}"
        ) from error
    if schema not in SCHEMAS:
        raise DataError(f"{path}: expected schema {' or '.join(SCHEMAS)}, got {schema!r}")
    return found


def posterior_in(path: Path) -> dict[str, Any]:
    """A posterior file's metadata and arrays.

    Raises:
        DataError: another file.
    """
    arrays, about = dataset.read_arrays(path, "posterior")
    return {"schema": "physgen/posterior/1", **about, "arrays": arrays}


def verdict(metrics: Mapping[str, Any]) -> str:
    """The figures a physicist asks for first, in one line."""
    nll, posterior = metrics["nll"], metrics["posterior"]
    words = []
    if nll and nll["gap_per_dim"] is not None:
        words.append(
            f"gap {nll['gap_per_dim']:.5f} ± {nll['gap_se']:.5f} nats a dimension "
            f"({nll['gap_total']:.3f} nats in all, {nll['likelihood']})"
        )
    elif nll:
        words.append(f"NLL {nll['per_dim']:.5f} nats a dimension ({nll['likelihood']})")
    if posterior and posterior["mean_error"] is not None:
        words.append(
            f"posterior mean off by {posterior['mean_error']:.3f} exact widths, "
            f"width ratio {posterior['std_ratio']:.3f}, "
            f"C2ST {posterior['c2st']:.3f} (0.5 is perfect)"
        )
    if not words and metrics["two_sample"]:
        test, js = metrics["two_sample"]["c2st"], metrics["two_sample"]["js"]
        words.append(
            f"no likelihood; C2ST on samples {test['accuracy']:.3f} (null {test['null']:.3f}, "
            f"control {test['control']:.3f}), JS at least {js['value']:.4f} nats"
        )
    return "; ".join(words) or "no likelihood and no exact truth to compare with"


def plural(n: int, noun: str) -> str:
    """A number of things."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def require(**at_least: tuple[int, int]) -> None:
    """Refuse a number that is too small: name → (value, least value)."""
    for name, (value, least) in at_least.items():
        if value < least:
            raise UsageError(f"{name}: expected at least {least}, got {value}")

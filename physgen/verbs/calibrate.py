"""Ask whether posteriors are right, without an exact answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from physgen.dataset import Dataset, Rows
from physgen.errors import UsageError
from physgen.priors import common_prior, laws_in_words
from physgen.runtime.engine import engine
from physgen.verbs.arguments import (
    FamilyLike,
    JudgeOptions,
    ModelLike,
    ObservedLike,
    PriorLike,
    SimulatorLike,
    called,
    split_options,
)
from physgen.verbs.observed import open_observed, validated_rows, with_valid_x
from physgen.verbs.opening import name_of_simulator, open_source
from physgen.verbs.products import Scores
from physgen.verbs.running import (
    headed,
    judging,
    on_files,
    path_of,
    record,
    require,
    require_seed,
    threaded,
    warn_of_failed,
    warn_of_trained,
)
from simulators.prior import Prior

if TYPE_CHECKING:
    from physgen.posterior.methods import Source
    from physgen.sbi.networks import Network
    from physgen.surrogates.base import Surrogate

__all__ = ["calibrate"]


@on_files("out")
@threaded
def calibrate(
    model: ModelLike,
    data: ObservedLike,
    *,
    out: Path | str | None = None,
    rows: slice | None = None,
    drop_invalid: bool = False,
    prior: PriorLike | None = None,
    draws: int | None = None,
    samples: int = 20,
    simulator: SimulatorLike | None = None,
    family: FamilyLike | None = None,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    **given: Unpack[JudgeOptions],
) -> Scores:
    """Check that posteriors are right, without an exact answer, for any number of parameters.

    Ranks of theta (SBC), coverage, TARP, energy score, LC2ST, Bartlett's identities, predictive
    checks and misspecification. Each has controls, posteriors that are 30 % too narrow, shifted by
    0.3 widths or of a wrong correlation, which must be caught; if they are not, the rows are too
    few for a verdict. Posteriors of one to three parameters are computed on the grid. Of more,
    NPE, FMPE and NPSE draw them themselves; all else, by a tempered population, asks for about
    10,000 log p(x|theta) for each row.

    Args:
        model: checkpoint of a surrogate with a likelihood, or trained network of infer.
        data: dataset that was not trained on, its theta drawn from its prior; of x without theta
            only predictive checks and misspecification are judged. Other files as in infer.
        out: calibration.json to write.
        rows: which rows of the data, as in 0:200; the first 1000 if not given, or 500 of a
            surrogate of more than three parameters.
        drop_invalid: leave out rows that cannot be x, such as NaN.
        prior: narrower bounds of a parameter that is uniform, as in beta=0.2:0.6; may be repeated;
            rows outside are left out.
        draws: random draws for each log p(x|theta); the family's default for posteriors if not
            given.
        samples: draws of each posterior, and x drawn at them, for the predictive checks.
        simulator: package.module:Class of a simulator outside the registry, for its observables;
            files do not import code by themselves.
        family: package.module:Class of a family outside the registry; a checkpoint does not import
            code by itself.
        seed: seed of all that is random.
        device: auto, cpu, cuda or cuda:1.
        force: overwrite the file if it exists.
        **given: how it draws and scores, and where.

    Returns:
        The scores: JSON data, one value a section, and all checks on one table.

    Example:
        physgen calibrate cvae.pt test.h5 -o calibration.json
    """
    from physgen.checks.calibration.run import CALIBRATION_SECTIONS, calibration
    from physgen.checks.calibration.verdicts import calibration_summary
    from physgen.posterior.warnings import domain_warnings

    where, use = split_options(given)
    require_seed(seed)
    require(samples=(samples, 1), draws=(draws, 1))
    path = path_of(out)
    source = open_source(model, device, like=open_observed(data), family=family, **use)
    target = judged(source, draws)
    held_out = open_observed(data, source.law, source.about.get("data"))
    held_out.require_prior("calibrate judges theta of the prior; simulate some")
    found, theirs = held_out_rows(held_out, source, target, rows, drop_invalid)
    common = common_prior(source.law.prior, theirs, prior)
    name = getattr(target, "name", None) or source.path.name
    with (
        judging("calibration", f"calibrate {name}", CALIBRATION_SECTIONS, path) as progress,
        engine(**where) as there,
    ):
        measured = calibration(
            target, found.theta, found.x, common,
            trusted=name_of_simulator(simulator), names=held_out.columns, draws=draws,
            samples=samples, seed=seed, progress=progress, engine=there,
        )  # fmt: skip
    measured["warnings"] += [
        f"{held_out.name} {said}" for said in domain_warnings(source.law, found)
    ]
    if trained_on(source.about.get("data", {}), held_out):
        measured["warnings"].insert(0, "the rows are those of the training, and prove little")
    command = called(
        "calibrate", model, data,
        out=out, rows=rows, drop_invalid=drop_invalid, prior=laws_in_words(prior), draws=draws,
        samples=samples, simulator=name_of_simulator(simulator), **use, seed=seed,
    )  # fmt: skip
    metrics = record(
        path, "calibration/1", command, measured, calibration_summary,
        data=held_out.origin(found),
        **{source.kind: source.about},
    )  # fmt: skip
    return Scores(metrics, headed(path, metrics["summary"]), path)


def judged(source: Source, draws: int | None) -> Surrogate | Network:
    """What makes the posteriors.

    Raises:
        UsageError: a dataset, or draws of a network.
    """
    target = source.surrogate or source.network
    if target is None:
        raise UsageError(f"{source.path}: expected a surrogate or a network; this is a dataset")
    if source.network and draws:
        raise UsageError(
            f"{source.path}: draws: are of a surrogate's likelihood; this is a network"
        )
    return target


def held_out_rows(
    held_out: Dataset,
    source: Source,
    target: Surrogate | Network,
    rows: slice | None,
    drop_invalid: bool,
) -> tuple[Rows, Prior]:
    """Rows to judge by, and the prior of their θ.

    Raises:
        DataError: rows that cannot be, or that are not there.
    """
    from physgen.checks.calibration.run import default_rows

    found = (
        held_out.read(rows, whole=True) if rows else held_out.read(slice(0, default_rows(target)))
    )
    warn_of_failed(held_out.path, held_out.failures)
    warn_of_trained(held_out, source.about.get("data"))
    theirs = found.meta.law.prior if found.meta else source.law.prior
    law = replace(source.law, prior=theirs)
    if drop_invalid:
        found = with_valid_x(found, law, held_out.name)
    return validated_rows(found, held_out, law, rows), theirs


def trained_on(data: dict[str, Any], held_out: Dataset) -> bool:
    """Whether data are those of a training, as its record knows them."""
    every = [data, *data.get("parts", [])]
    known = {part.get(key) for part in every for key in ("sha256", "mark")} - {None}
    return bool(known & {held_out.digest, held_out.mark})

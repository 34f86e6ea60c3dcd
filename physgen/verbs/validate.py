"""Score a surrogate on held-out data, and against the exact answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from physgen.dataset import Dataset
from physgen.runtime.engine import engine
from physgen.runtime.progress import log
from physgen.verbs.arguments import (
    DataLike,
    FamilyLike,
    JudgeOptions,
    SimulatorLike,
    SurrogateLike,
    called,
    split_options,
)
from physgen.verbs.observed import validated_rows
from physgen.verbs.opening import (
    name_of_simulator,
    open_surrogate,
    origin_of,
)
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
    warn_of_trained,
)

__all__ = ["validate"]


@on_files("out")
@threaded
def validate(
    surrogate: SurrogateLike,
    data: DataLike,
    *,
    out: Path | str | None = None,
    simulator: SimulatorLike | None = None,
    rows: slice | None = None,
    draws: int | None = None,
    observations: int = 100,
    sweep: bool = False,
    family: FamilyLike | None = None,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    **given: Unpack[JudgeOptions],
) -> Scores:
    """Score a surrogate against held-out data and, where there is one, the exact answer.

    Args:
        surrogate: checkpoint of the surrogate.
        data: dataset that was not trained on.
        out: metrics.json to write.
        simulator: package.module:Class of a simulator outside the registry, for its exact truth
            and its observables; files do not import code by themselves.
        rows: which rows of the data, as in 0:1000.
        draws: random draws for each log p(x|theta); the family's default if not given.
        observations: rows whose posteriors are compared with the exact ones; of four and more
            parameters ten at most.
        sweep: compare the family's samplers at 8 to 128 steps.
        family: package.module:Class of a family outside the registry; a checkpoint does not import
            code by itself.
        seed: seed of all that is random.
        device: auto, cpu, cuda or cuda:1.
        force: overwrite the file if it exists.
        **given: how it draws and scores, and where.

    Returns:
        The scores: JSON data, one value a section.

    Example:
        physgen validate cvae.pt test.h5 -o metrics.json
    """
    from physgen.checks.validation import VALIDATION_SECTIONS, validation
    from physgen.posterior.warnings import domain_warnings

    where, use = split_options(given)
    require_seed(seed)
    require(observations=(observations, 1), draws=(draws, 1))
    path = path_of(out)
    source = Dataset(data)
    model = open_surrogate(surrogate, device, family=family, like=source, **use)
    source.require_columns(model.info.get("data"))
    warn_of_trained(source, model.info.get("data"))
    found = source.read(rows, whole=True)
    found = validated_rows(found, source, model.law, rows, drops=False)
    truth = model.law.build_if_known(name_of_simulator(simulator))
    if truth is None and ":" in model.law.simulator:
        name = model.law.simulator.replace("__main__:", "package.module:")
        log.warning("no exact truth: to compare with it add --simulator %s", name)
    with (
        judging("validation", f"validate {model.name}", VALIDATION_SECTIONS, path) as progress,
        engine(**where) as there,
    ):
        measured = validation(
            model, found.labels(source.where), found.x, truth,
            draws=draws, sweep=sweep, observations=observations, seed=seed, progress=progress,
            engine=there,
        )  # fmt: skip
    measured["warnings"] = [f"{source.name} {s}" for s in domain_warnings(model.law, found)]
    command = called(
        "validate", surrogate, data,
        out=out, simulator=name_of_simulator(simulator), rows=rows, draws=draws,
        observations=observations, **use, sweep=sweep, seed=seed,
    )  # fmt: skip
    metrics = record(
        path, "metrics/1", command, measured, verdict,
        surrogate=origin_of(model),
        data=source.origin(found),
    )  # fmt: skip
    return Scores(metrics, headed(path, metrics["summary"]), path)


def verdict(metrics: Mapping[str, Any]) -> str:
    """The figures a physicist asks for first, in one line."""
    nll, posterior = metrics["nll"], metrics["posterior"]
    words = []
    if nll and nll["gap_per_dim"] is not None:
        error = "" if nll["gap_se"] is None else f" ± {nll['gap_se']:.5f}"  # none of one row
        words.append(
            f"gap {nll['gap_per_dim']:.5f}{error} nats a dimension "
            f"({nll['gap_total']:.3f} nats in all, {nll['likelihood']})"
        )
    elif nll:
        words.append(f"NLL {nll['per_dim']:.5f} nats a dimension ({nll['likelihood']})")
    if posterior and posterior["mean_error"] is not None:
        words.append(
            f"posterior mean off by {posterior['mean_error']:.3f} exact widths, "
            f"width ratio {posterior['std_ratio']:.3f}"
            + (f", C2ST {posterior['c2st']:.3f} (0.5 is perfect)" if posterior["c2st"] else "")
        )
    if not words and metrics["two_sample"]:
        test, js = metrics["two_sample"]["c2st"], metrics["two_sample"]["js"]
        words.append(
            f"no likelihood; C2ST on samples {test['accuracy']:.3f} (null {test['null']:.3f}, "
            f"control {test['control']:.3f}), JS at least {js['value']:.4f} nats"
        )
    words = words or ["no likelihood and no exact truth to compare with"]
    return "; ".join([*words, *metrics.get("warnings", [])])

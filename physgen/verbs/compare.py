"""Hold two datasets against each other."""

from __future__ import annotations

from pathlib import Path

from physgen.errors import UsageError
from physgen.verbs.arguments import ObservedLike, SimulatorLike, called
from physgen.verbs.observed import open_observed
from physgen.verbs.opening import name_of_simulator
from physgen.verbs.products import Scores
from physgen.verbs.running import (
    headed,
    judging,
    on_files,
    path_of,
    record,
    require_seed,
    threaded,
)

__all__ = ["compare"]


@on_files("out")
@threaded
def compare(
    generated: ObservedLike,
    reference: ObservedLike,
    *,
    out: Path | str | None = None,
    rows: slice | None = None,
    simulator: SimulatorLike | None = None,
    seed: int = 0,
    force: bool = False,
) -> Scores:
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

    Returns:
        The scores: JSON data, one value a section.

    Example:
        physgen compare fake.h5 test.h5 -o metrics.json
    """
    from physgen.checks.two_sample.comparison import (
        COMPARISON_SECTIONS,
        comparison,
        comparison_summary,
    )

    require_seed(seed)
    path = path_of(out)
    trusted = name_of_simulator(simulator)
    theirs, ours = open_observed(generated), open_observed(reference)
    if known := [data for data in (ours, theirs) if data.meta]:
        law, said = known[0].law, {"path": known[0].name, "columns": known[0].columns}
        theirs, ours = (open_observed(d, law, said) for d in (generated, reference))
    a, b = theirs.read(rows, whole=True), ours.read(rows, whole=True)
    with judging("comparison", "compare", COMPARISON_SECTIONS, path) as progress:
        try:
            measured = comparison(a, b, trusted=trusted, seed=seed, progress=progress)
        except UsageError as error:
            raise UsageError(f"{error}: {theirs.name} and {ours.name}") from error
    command = called(
        "compare", generated, reference, out=out, rows=rows, simulator=trusted, seed=seed
    )
    metrics = record(
        path, "comparison/1", command, measured, comparison_summary,
        generated=theirs.origin(a),
        reference=ours.origin(b),
    )  # fmt: skip
    return Scores(metrics, headed(path, metrics["summary"]), path)

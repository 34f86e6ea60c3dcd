"""Draw scores or posteriors as one page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from physgen import dataset
from physgen.dataset import Dataset, Rows
from physgen.errors import DataError, UsageError, as_written
from physgen.posterior.density import kept_density
from physgen.priors import parameters_in
from physgen.reporting.quantities import free
from physgen.reporting.view import CURVES
from physgen.verbs.arguments import (
    DataLike,
    ObservedLike,
    PosteriorLike,
    ScoresLike,
    SeveralScoresLike,
    SimulatorLike,
    SurrogateLike,
)
from physgen.verbs.opening import name_of_simulator, origin_of
from physgen.verbs.pages import SCHEMAS, render, scores_in
from physgen.verbs.predicted import with_data
from physgen.verbs.products import Page
from physgen.verbs.responses import datasets_of
from physgen.verbs.running import headed, on_files, path_of
from physgen.verbs.side_by_side import models_of, overlaid_posteriors

if TYPE_CHECKING:
    from physgen.surrogates.base import Surrogate

__all__ = ["report"]

POSTERIOR, POSTERIORS = "physgen/posterior/1", "physgen/posteriors/1"
UNSEEN = ("log_prob",)
"""What of a posterior no page shows."""


@on_files("out")
def report(
    metrics: SeveralScoresLike,
    *,
    out: Path | str | None = None,
    predictive: DataLike | SurrogateLike | None = None,
    observed: ObservedLike | None = None,
    interest: str | None = None,
    simulator: SimulatorLike | None = None,
    force: bool = False,
) -> Page:
    """Draw metrics, posteriors, latents, a training or datasets as one self-contained HTML page.

    Scores of several models on x of one law are set side by side: one table, a column a model, and
    figures that have all of them. Scores of validate, calibrate and compare of one model share its
    column. Datasets of one simulator at several sizes, drawn by it or by surrogates, are shown by
    the figures of many x that it declares (ising: magnetisation, susceptibility, specific heat and
    Binder's cumulant against temperature), beside the exact ones. A dataset of another simulator,
    or of one's own, is shown by some of its rows.

    A posterior stands beside what it was inferred from; with x at its draws, bands of what it
    predicts lie over that. Several posteriors of the same parameters are drawn over each other.

    Args:
        metrics: metrics.json, as validate, calibrate or compare wrote it, or several of these;
            posterior of infer, or up to five of these; draws of restore; latents; checkpoint of
            fit, for the course of its training; or one or several datasets.
        out: HTML file to write.
        predictive: what predicts x from the posterior's draws: checkpoint of a surrogate, or the
            word simulator; or dataset of x at the draws given one row, as sample or simulate made
            it with --theta-from.
        observed: what the posterior was inferred from; its file, if not given.
        interest: parameters to show, as in beta,h; those of the posterior if not given.
        simulator: package.module:Class of a simulator outside the registry, for its observables;
            files do not import code by themselves.
        force: overwrite the file if it exists.

    Returns:
        The page, which a notebook shows.

    Example:
        physgen report metrics.json -o report.html
    """
    path = path_of(out)
    several = cast(
        "list[ScoresLike]", list(metrics) if isinstance(metrics, list | tuple) else [metrics]
    )
    if not several:
        raise UsageError("report: expected at least one file or object, got none")
    files = [one if isinstance(one, Path) else getattr(one, "path", None) for one in several]
    names = [str(file or "memory") for file in files]
    name = " + ".join(names)
    datasets = [is_dataset(one) for one in several]
    if any(datasets) and not all(datasets):
        raise UsageError(
            f"{names[datasets.index(True)]}: is a dataset, and stands beside other datasets only; "
            "give it a page of its own"
        )
    found: Mapping[str, Any]
    if all(datasets):
        found = datasets_of([Dataset(one) for one in several], name_of_simulator(simulator))
    else:
        found = on_one_page(
            [(name, reported(one)) for name, one in zip(names, several, strict=True)]
        )
    if found["schema"] != POSTERIOR:
        refuse_idle(" of a single posterior", predictive=predictive, observed=observed)
    if found["schema"] not in (POSTERIOR, POSTERIORS):
        refuse_idle(" of a posterior", interest=interest)
    if predictive is None and not all(datasets):
        refuse_idle(simulator=simulator)
    if interest:
        found = of_interest(found, interest)
    if found["schema"] == POSTERIOR:
        with as_written(name):
            posterior = cast("PosteriorLike", several[0])
            found = with_data(found, posterior, observed, predictive, simulator)
    with as_written(name):
        page = render(found, path)
        text = page.encode()
    if path:
        dataset.write_bytes(path, text, sidecar=False)
    return Page(page, headed(path, f"report of {name}"), path)


def on_one_page(several: list[tuple[str, Mapping[str, Any]]]) -> Mapping[str, Any]:
    """What a page shows: one, several scores side by side, or posteriors over each other."""
    if len(several) == 1:
        return several[0][1]
    how = overlaid_posteriors if several[0][1].get("schema") == POSTERIOR else models_of
    return how(several)


def of_interest(found: Mapping[str, Any], interest: str) -> dict[str, Any]:
    """What a page shows of posteriors, of some parameters: curves that are kept are of others.

    Raises:
        UsageError: parameters that they do not have.
    """
    names = parameters_in(interest, [p["name"] for p in free(found["law"]["prior"])])
    arrays = {k: v for k, v in found.get("arrays", {}).items() if k not in CURVES}
    return {**found, "interest": names} | ({"arrays": arrays} if "arrays" in found else {})


def is_dataset(given: object) -> bool:
    """Whether something is a dataset, or a file of one."""
    if not isinstance(given, str | Path):
        return isinstance(given, Dataset | Rows)
    return dataset.schema_of(Path(given)) == dataset.SCHEMA


def refuse_idle(what: str = " of --predictive", **given: object) -> None:
    """Refuse options that were given without what they are of.

    Raises:
        UsageError: one of them.
    """
    for name in [name for name, value in given.items() if value is not None]:
        raise UsageError(f"{name}: is an option{what}, which was not given; leave it out")


def reported(metrics: ScoresLike) -> Mapping[str, Any]:
    """What a page shows, of a file or of an object.

    Raises:
        DataError: something that no report is made of.
    """
    if isinstance(metrics, str | Path):
        path = Path(metrics)
        kind = dataset.container(path)
        if kind in ("zip", "safetensors"):
            return training_in(path)
        return arrays_in(path) if kind == "HDF5" else scores_in(path)
    if callable(getattr(metrics, "describe", None)):
        return {**origin_of(cast("Surrogate", metrics)), "schema": "physgen/training/1"}
    found = getattr(metrics, "report_data", metrics)
    if not isinstance(found, Mapping) or found.get("schema") not in SCHEMAS:
        raise DataError(
            "report: expected scores of validate, calibrate or compare, a posterior, restored x "
            f"or a surrogate, got {type(metrics).__name__}"
        )
    return found


def training_in(path: Path) -> dict[str, Any]:
    """What a checkpoint says of its training.

    Raises:
        DataError: another file.
    """
    from physgen.nn.tensors import load_tensors

    _, info = load_tensors(path)
    if "family" not in info:
        raise DataError(f"{path}: expected the checkpoint of a surrogate, as fit writes it")
    return {"schema": "physgen/training/1", **info, "sha256": dataset.file_digest(path)}


def arrays_in(path: Path) -> dict[str, Any]:
    """Metadata and arrays of a posterior, of latents or of restored x.

    Raises:
        DataError: another file.
    """
    kind = dataset.schema_of(path).removeprefix("physgen/").partition("/")[0]
    kind = kind if kind in ("latents", "restoration") else "posterior"
    arrays, about = dataset.read_arrays(path, kind, UNSEEN)
    with as_written(path):
        grid = kept_density(arrays, about)
    return {"schema": f"physgen/{kind}/1", **about, "arrays": arrays, "density": grid}

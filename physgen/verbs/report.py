"""Draw scores or posteriors as one page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from physgen import dataset
from physgen.errors import DataError, as_written
from physgen.verbs.arguments import ScoresLike
from physgen.verbs.pages import SCHEMAS, render
from physgen.verbs.products import Page
from physgen.verbs.running import headed, on_files, path_of

__all__ = ["report"]


@on_files("out")
def report(metrics: ScoresLike, *, out: Path | str | None = None, force: bool = False) -> Page:
    """Draw metrics or posteriors as one self-contained HTML page.

    Args:
        metrics: metrics.json, as validate, calibrate or compare wrote it, or posterior of infer.
        out: HTML file to write.
        force: overwrite the file if it exists.

    Returns:
        The page, which a notebook shows.

    Example:
        physgen report metrics.json -o report.html
    """
    path = path_of(out)
    name = metrics if isinstance(metrics, Path) else getattr(metrics, "path", None) or "memory"
    found = reported(metrics)
    with as_written(name):
        page = render(found)
        text = page.encode()
    if path:
        dataset.write_bytes(path, text, sidecar=False)
    return Page(page, headed(path, f"report of {name}"), path)


def reported(metrics: ScoresLike) -> Mapping[str, Any]:
    """What a page shows, of a file or of an object.

    Raises:
        DataError: something that no report is made of.
    """
    if isinstance(metrics, str | Path):
        path = Path(metrics)
        return posterior_in(path) if dataset.container(path) == "HDF5" else scores_in(path)
    found = getattr(metrics, "report_data", metrics)
    if not isinstance(found, Mapping) or found.get("schema") not in SCHEMAS:
        raise DataError(
            "report: expected scores of validate, calibrate or compare, or a posterior, got "
            f"{type(metrics).__name__}"
        )
    return found


def scores_in(path: Path) -> dict[str, Any]:
    """The metrics in a JSON file.

    Raises:
        DataError: a file that holds none.
    """
    found = dataset.read_scores(path)
    if (schema := found.get("schema")) not in SCHEMAS:
        raise DataError(f"{path}: expected schema {' or '.join(SCHEMAS)}, got {schema!r}")
    return found


def posterior_in(path: Path) -> dict[str, Any]:
    """A posterior file's metadata and arrays.

    Raises:
        DataError: another file.
    """
    arrays, about = dataset.read_arrays(path, "posterior")
    return {"schema": "physgen/posterior/1", **about, "arrays": arrays}

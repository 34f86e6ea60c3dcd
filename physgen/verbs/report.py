"""Draw scores or posteriors as one page."""

from __future__ import annotations

from collections.abc import Mapping
from json import loads
from pathlib import Path
from typing import Any

from h5py import is_hdf5

from physgen import dataset
from physgen.errors import DataError
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
    page = render(reported(metrics))
    if path:
        dataset.write_bytes(path, page.encode(), sidecar=False)
    name = metrics if isinstance(metrics, Path) else getattr(metrics, "path", None) or "memory"
    return Page(page, headed(path, f"report of {name}"), path)


def reported(metrics: ScoresLike) -> Mapping[str, Any]:
    """What a page shows, of a file or of an object.

    Raises:
        DataError: something that no report is made of.
    """
    if isinstance(metrics, str | Path):
        path = Path(metrics)
        return posterior_in(path) if is_hdf5(path) else metrics_in(path)
    found = getattr(metrics, "report_data", metrics)
    if not isinstance(found, Mapping) or found.get("schema") not in SCHEMAS:
        raise DataError(
            "report: expected scores of validate, calibrate or compare, or a posterior, got "
            f"{type(metrics).__name__}"
        )
    return found


def metrics_in(path: Path) -> dict[str, Any]:
    """The metrics in a JSON file.

    Raises:
        DataError: a file that holds none.
    """
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

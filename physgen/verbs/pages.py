"""Which page belongs to what: scores of validate and its like, posteriors and restored x."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from physgen import dataset
from physgen.errors import DataError
from physgen.reporting import ink
from physgen.verbs.links import digests_of, links_beside
from physgen.verbs.resume import epochs_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from physgen.reporting.sheet import Sheet

__all__ = ["SCHEMAS", "figures_of", "render", "scores_in"]

SCHEMAS = (
    "physgen/metrics/1", "physgen/comparison/1", "physgen/calibration/1", "physgen/posterior/1",
    "physgen/training/1", "physgen/latents/1", "physgen/restoration/1",
)  # fmt: skip


def sheet_of(metrics: Mapping[str, Any]) -> Sheet:
    """The page of some metrics or of a posterior, by its schema.

    Raises:
        UsageError: matplotlib or jinja2 is not installed.
    """
    with ink():
        from physgen.checks.calibration.verdicts import page_parts
        from physgen.reporting.calibration import calibration_sheet
        from physgen.reporting.comparison import comparison_sheet
        from physgen.reporting.data import data_sheet
        from physgen.reporting.latents import latents_sheet
        from physgen.reporting.models import models_sheet
        from physgen.reporting.page import surrogate_sheet
        from physgen.reporting.posterior import posterior_sheet, posteriors_sheet
        from physgen.reporting.responses import responses_sheet
        from physgen.reporting.restoration import restoration_sheet
        from physgen.reporting.training import training_sheet

    schema = metrics.get("schema", SCHEMAS[0])
    if schema == "physgen/calibration/1":
        return calibration_sheet(metrics, page_parts)
    others = {
        "physgen/comparison/1": comparison_sheet,
        "physgen/posterior/1": posterior_sheet,
        "physgen/restoration/1": restoration_sheet,
        "physgen/training/1": training_sheet,
        "physgen/latents/1": latents_sheet,
        "physgen/models/1": models_sheet,
        "physgen/posteriors/1": posteriors_sheet,
        "physgen/responses/1": responses_sheet,
        "physgen/data/1": data_sheet,
    }
    return others.get(schema, surrogate_sheet)(metrics)


def render(metrics: Mapping[str, Any], out: Path | None = None) -> str:
    """The report as one HTML page, without network, scripts or dates: equal input, equal text.

    Args:
        metrics: what validate, compare or calibrate wrote, of one of the `SCHEMAS`; a section that
            is null or absent is left out, with the reason in one line. Of a posterior its
            metadata, and its arrays under "arrays".
        out: where it will be; it links the pages in the same folder that speak of the same model
            or data.

    Raises:
        UsageError: matplotlib or jinja2 is not installed.
    """
    sheet, digests = sheet_of(metrics), digests_of(metrics)
    links = links_beside(out, digests)
    from physgen.reporting.conclusions import conclusion_of

    return sheet.html(conclusion=conclusion_of(metrics), digests=digests, links=links)


def figures_of(metrics: Mapping[str, Any]) -> dict[str, list[Figure]]:
    """Section of the report → its figures, of the same metrics as for `render`.

    Raises:
        UsageError: matplotlib or jinja2 is not installed.
    """
    return sheet_of(metrics).figures()


def scores_in(path: Path) -> dict[str, Any]:
    """The metrics in a JSON file.

    Raises:
        DataError: a file that holds none.
    """
    try:
        found = dataset.read_scores(path)
    except DataError as error:
        if epochs_in(path):
            told = "is the history of a training, which its checkpoint has, too; give that"
            raise DataError(f"{path}: {told}") from error
        raise
    if (schema := found.get("schema")) not in SCHEMAS:
        got = f"that of schema {str(schema)[:40]!r}" if schema else "other JSON, without a schema"
        raise DataError(f"{path}: expected JSON of validate, calibrate or compare, got {got}")
    return found

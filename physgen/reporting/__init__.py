"""Ink: the metrics of a surrogate or of two datasets, or a posterior, as one HTML file.

``figures`` and ``uniform`` draw, one function a figure; ``page`` sets the figures, the tables and
the words of a surrogate, ``comparison`` those of two datasets, ``calibration`` those of posteriors
that were put to the test, ``posterior`` those of a posterior file.
Nothing here computes a quality: a number that is not in ``metrics.json`` is not in the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from physgen.errors import UsageError

__all__ = ["SCHEMAS", "render"]

SCHEMAS = (
    "physgen/metrics/1", "physgen/comparison/1", "physgen/calibration/1", "physgen/posterior/1",
)  # fmt: skip


def render(metrics: Mapping[str, Any]) -> str:
    """The report as one HTML page, without network, scripts or dates: equal input, equal text.

    Args:
        metrics: what validate, compare or calibrate wrote, of one of the `SCHEMAS`; a section that
            is null or absent is left out, with the reason in one line. Of a posterior its
            metadata, and its arrays under "arrays".

    Raises:
        UsageError: matplotlib or jinja2 is not installed.
    """
    try:
        from physgen.reporting.calibration import calibration_page
        from physgen.reporting.comparison import comparison_page
        from physgen.reporting.page import surrogate_page
        from physgen.reporting.posterior import posterior_page
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in {"matplotlib", "jinja2"}:
            raise
        raise UsageError(
            "report needs matplotlib and jinja2: pip install 'physgen[report]'"
        ) from error
    pages = (surrogate_page, comparison_page, calibration_page, posterior_page)
    page_of = dict(zip(SCHEMAS, pages, strict=True))
    return page_of.get(metrics.get("schema", ""), surrogate_page)(metrics)

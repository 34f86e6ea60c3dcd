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
        from physgen.reporting.calibration import page as of_calibration
        from physgen.reporting.comparison import page as of_pair
        from physgen.reporting.page import page as of_surrogate
        from physgen.reporting.posterior import page as of_posterior
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in {"matplotlib", "jinja2"}:
            raise
        raise UsageError(
            "report needs matplotlib and jinja2: pip install 'physgen[report]'"
        ) from error
    pages = dict(zip(SCHEMAS, (of_surrogate, of_pair, of_calibration, of_posterior), strict=True))
    return pages.get(metrics.get("schema", ""), of_surrogate)(metrics)

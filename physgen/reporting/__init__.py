"""Ink: the metrics of one surrogate, or of two datasets, as one self-contained HTML file.

``figures`` draws, one function a figure; ``page`` sets the figures, the tables and the words of a
surrogate, ``comparison`` those of two datasets.
Nothing here computes a quality: a number that is not in ``metrics.json`` is not in the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from physgen.errors import UsageError

__all__ = ["SCHEMAS", "render"]

SCHEMAS = ("physgen/metrics/1", "physgen/comparison/1")


def render(metrics: Mapping[str, Any]) -> str:
    """The report as one HTML page, without network, scripts or dates: equal input, equal text.

    Args:
        metrics: the content of ``metrics.json``, of one of the `SCHEMAS`; a section that is null
            or absent is left out, with the reason in one line.

    Raises:
        UsageError: matplotlib or jinja2 is not installed.
    """
    try:
        from physgen.reporting.comparison import page as of_pair
        from physgen.reporting.page import page as of_surrogate
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in {"matplotlib", "jinja2"}:
            raise
        raise UsageError(
            "report needs matplotlib and jinja2: pip install 'physgen[report]'"
        ) from error
    return (of_pair if metrics.get("schema") == SCHEMAS[1] else of_surrogate)(metrics)

"""Ink: the metrics of one surrogate as one self-contained HTML file.

``figures`` draws, one function a figure; ``page`` sets the figures, the tables and the words.
Nothing here computes a quality: a number that is not in ``metrics.json`` is not in the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from physgen.errors import UsageError

__all__ = ["render"]


def render(metrics: Mapping[str, Any]) -> str:
    """The report as one HTML page, without network, scripts or dates: equal input, equal text.

    Args:
        metrics: the content of ``metrics.json`` (schema ``physgen/metrics/1``); a section that
            is null or absent is left out, with the reason in one line.

    Raises:
        UsageError: matplotlib or jinja2 is not installed.
    """
    try:
        from physgen.reporting.page import page
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in {"matplotlib", "jinja2"}:
            raise
        raise UsageError(
            "report needs matplotlib and jinja2: pip install 'physgen[report]'"
        ) from error
    return page(metrics)

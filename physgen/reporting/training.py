"""The page of a checkpoint's training: the words in training.html, the ink in figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from physgen.reporting import figures
from physgen.reporting.sheet import Sheet, plot

__all__ = ["training_sheet"]


def training_sheet(info: Mapping[str, Any]) -> Sheet:
    """The page of a training.

    Args:
        info: what a checkpoint says of its making.
    """
    history, last = info.get("history") or [], info.get("keeps_last", False)
    kept = [e for e in history if e.get("best") or last]
    values = {"m": info, "law": info.get("law") or {}, "kept": kept[-1] if kept else {}}
    drawn = plot(figures.learning, history, info.get("unit", "nats a row"), last)
    return Sheet("training.html", values, {"learning": [drawn] if history else []})

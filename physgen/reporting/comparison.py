"""The page of two datasets: the words in comparison.html, the ink in figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from physgen.reporting import figures
from physgen.reporting.page import letter
from physgen.reporting.sheet import Drawing, Sheet, grid, plot

__all__ = ["comparison_sheet"]

TALL, WIDE = (4.2, 3.6), (4.2, 2.2)


def comparison_sheet(metrics: Mapping[str, Any]) -> Sheet:
    """The page of what compare wrote."""
    laws = [(metrics.get(key) or {}).get("law") for key in figures.PAIR]
    law: Mapping[str, Any] = next(filter(None, laws), {})
    names = {p["name"]: letter(p["name"], p.get("latex", "")) for p in law.get("prior") or []}
    values = {"m": metrics, "law": law, "names": names}
    return Sheet("comparison.html", values, _plots(metrics, law))


def _plots(metrics: Mapping[str, Any], law: Mapping[str, Any]) -> dict[str, list[Drawing]]:
    """Section → its figures, one for each thing that the metrics have data for."""
    latex = {p["name"]: p.get("latex", "") for p in law.get("prior") or []}
    observables = metrics.get("observables") or {}
    average, events, cells = (metrics.get(k) for k in ("average", "events", "cells"))
    layers = (cells or {}).get("layers")
    name = (events or {}).get("parameter") or "theta"
    symbol = figures.axis_label(latex.get(name, ""), "", name)
    return {
        "events": [grid(figures.events, events, symbol, size=WIDE)] if events else [],
        "average": [grid(figures.average, average, size=WIDE)] if average else [],
        "observables": [
            plot(figures.histogram, o, name, figures.PAIR)
            for name, o in observables.items()
            if o.get("histogram")
        ],
        "curves": [
            drawing
            for name, c in (metrics.get("curves") or {}).items()
            for drawing in (
                grid(figures.profile, c, name, size=TALL),
                *(
                    [
                        plot(
                            figures.separations,
                            observables[name]["separation"],
                            c["title"] or name,
                        )
                    ]
                    if name in observables
                    else []
                ),
            )
        ],
        "cells": [
            *([plot(figures.histogram, _spectrum(cells), "", figures.PAIR)] if cells else []),
            *([plot(figures.separations, layers, "spectrum of each layer")] if layers else []),
        ],
    }


def _spectrum(cells: Mapping[str, Any]) -> dict[str, Any]:
    return {**cells, "title": "components that are hit", "latex": r"\log_{10} x"}

"""The page of latents: the words in latents.html, the ink in figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from physgen.reporting import figures
from physgen.reporting.page import letter
from physgen.reporting.sheet import Sheet, grid, plot
from simulators.prior import Prior

__all__ = ["latents_sheet"]

POINTS = 2000
"""Rows of a map that are drawn, at most."""


def latents_sheet(metrics: Mapping[str, Any]) -> Sheet:
    """The page of what latents wrote: its metadata, and its arrays under "arrays"."""
    law = (metrics.get("surrogate") or {}).get("law") or {}
    prior, arrays = Prior.from_json(law.get("prior") or []), metrics["arrays"]
    about, edit = metrics.get("observables") or [], metrics.get("edit") or {}
    symbols = {o["name"]: figures.axis_label(o["latex"], o["unit"], o["name"]) for o in about}
    colours = [
        (arrays["theta"][:POINTS, d], figures.axis_label(p.latex, p.unit, p.name))
        for d, p in enumerate(prior.parameters)
    ]
    if symbols:
        columns = arrays["observables"][:POINTS].T
        colours += list(zip(columns, symbols.values(), strict=True))
    points = arrays["map"][:POINTS]
    plots = {
        "map": [plot(figures.coloured_map, points, *colour) for colour in colours],
        "moved": [plot(figures.moved_along, edit, symbols[edit["along"]])] if edit else [],
        "others": [
            grid(figures.edit, edit, name, symbols[edit["along"]], size=figures.SQUARE)
            for name in edit.get("others") or {}
        ],
    }
    pictures = arrays.get("pictures")
    if pictures is not None:
        r, k = np.shape(pictures)[:2]
        size = (4.2, 0.3 + 4.0 * r / k)
        plots["strips"] = [grid(figures.edit_strips, pictures, edit["steps"], size=size)]
    names = {p.name: letter(p.name, p.latex) for p in prior.every}
    titles = {o["name"]: o["title"] or o["name"] for o in about}
    return Sheet(
        "latents.html", {"m": metrics, "law": law, "names": names, "titles": titles}, plots
    )

"""The page of a surrogate: the words in page.html, the ink in figures."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from physgen.reporting import figures, style
from physgen.reporting.sheet import Drawing, Sheet, grid, plot
from physgen.reporting.vectors import bands_drawing, component_names, fan_drawing, pairs_drawing

__all__ = ["letter", "steepest", "surrogate_sheet"]

KINDS, TALL = ("true", "surrogate"), (4.2, 3.6)
COLUMNS = 5  # lattices side by side in one panel of the gallery: each still shows its domains


def surrogate_sheet(metrics: Mapping[str, Any]) -> Sheet:
    """The page of what validate wrote."""
    law = (metrics.get("surrogate") or {}).get("law") or {}
    component = "spin" if law.get("support") == "spins" else "component"
    values = {
        "m": metrics,
        "law": law,
        "component": component,
        "names": {
            p["name"]: letter(p["name"], p.get("latex", "")) for p in law.get("prior") or []
        },
        "steepest": steepest(metrics.get("curves") or {}),
    }
    return Sheet("page.html", values, _plots(metrics, law, component))


def _plots(
    metrics: Mapping[str, Any], law: Mapping[str, Any], component: str
) -> dict[str, list[Drawing]]:
    """Section → its figures, one for each thing that the metrics have data for."""
    prior = {p["name"]: (p.get("latex", ""), p.get("unit", "")) for p in law.get("prior") or []}

    def axis(data: Mapping[str, Any], unit: bool = True) -> str:
        name = data.get("parameter") or "theta"
        latex, units = prior.get(name, ("", ""))
        return style.axis_label(latex, units if unit else "", name)

    def section(name: str) -> Mapping[str, Any]:
        return metrics.get(name) or {}

    def symbol(name: str, unit: bool = True) -> str:
        return axis({"parameter": name}, unit)

    nll, gallery, history = section("nll"), section("gallery"), section("surrogate").get("history")
    validated = (
        section("surrogate").get("unit", "nats a row"),
        section("surrogate").get("keeps_last", False),
    )
    curves, observables = section("curves").items(), section("observables").items()
    return {
        "gallery": [
            grid(figures.gallery, *part, size=(4.2, 2.1 + 0.2 * ("other" in gallery)))
            for part in _parts(gallery, partial(symbol, unit=False))
        ],
        "curves": [
            grid(figures.curve, c, axis(c), name.removesuffix(f", {c['parameter']}"), size=TALL)
            for name, c in curves
        ],
        "fans": [
            drawing
            for fan in metrics.get("fans") or []
            for d, by in enumerate(fan["by"])
            for drawing in _fan(fan, d, by, symbol(by["parameter"]))
        ],
        "pairs": [
            pairs_drawing({k: p[k] for k in KINDS}, component_names(p["names"], len(p["true"][0])))
            for p in [section("pairs")]
            if p
        ],
        "nll": [plot(figures.gap, nll, axis(nll), component)] if nll.get("by_theta") else [],
        "posterior": [
            plot(figures.posterior, e, axis(e)) for e in section("posterior").get("examples") or []
        ],
        "partition": [
            grid(figures.partition, z, axis(z), component, size=TALL)
            for z in [section("partition")]
            if z
        ],
        "score": [
            grid(figures.score_error, s, component, size=(4.2, 3.6))
            for s in [section("score")]
            if s
        ],
        "filters": [
            grid(figures.filters, w, size=(4.2, 0.2 + 0.75 * -(-len(w) // 8)))
            for w in [metrics.get("filters")]
            if w
        ],
        "observables": [
            plot(figures.histogram, o, name) for name, o in observables if o.get("histogram")
        ],
        "sweep": [
            plot(figures.sweep, metrics["sweep"], name)
            for name in (metrics["sweep"][0]["observables"] if metrics.get("sweep") else ())
        ],
        "learning": [plot(figures.learning, history, *validated)] if history else [],
        "latents": [
            grid(figures.traversal, z, size=(4.2, 0.25 + 3.9 / len(z["values"])))
            for z in metrics.get("latents") or []
        ],
    }


def _fan(
    fan: Mapping[str, Any], d: int, by: Mapping[str, Any], symbol: str
) -> tuple[Drawing, Drawing]:
    """Curves of one channel against one parameter: some of them, and their bands."""
    theta = [row[d] for row in fan["theta"]]
    kinds = {k if not fan["channel"] else f"{k} {fan['channel']}": fan[k] for k in KINDS}
    at = fan["components"]
    return fan_drawing(kinds, at, theta, symbol), bands_drawing(by, at, symbol)


def steepest(curves: Mapping[str, Any]) -> dict[str, Any]:
    """The energy, or the first curve, where it is steepest: where a surrogate fails first.

    For the energy of a lattice that is next to the critical coupling; this page need not know it.
    """
    if not curves:
        return {}
    name = "energy" if "energy" in curves else next(iter(curves))
    curve = {"name": name, **curves[name]}
    surrogate, true = curve["surrogate"], curve["true"]
    exact = curve.get("exact")
    reference = np.array(exact or true["mean"], dtype=float)
    slope = np.gradient(reference, curve["theta"]) if len(reference) > 1 else reference
    i = int(np.argmax(np.nan_to_num(np.abs(slope))))
    error = 0.0 if exact else true["se"][i]
    sigma = math.hypot(surrogate["se"][i] or 0.0, error or 0.0)
    return {
        **curve,
        "at": curve["theta"][i],
        "surrogate": (surrogate["mean"][i], surrogate["se"][i]),
        "reference": (float(reference[i]), error),
        "sigmas": abs(surrogate["mean"][i] - reference[i]) / sigma if sigma else None,
    }


def letter(name: str, latex: str) -> str:
    r"""The name of a parameter as text: β for ``\beta``, the plain name where it is not Greek."""
    try:
        return unicodedata.lookup(f"GREEK SMALL LETTER {latex.removeprefix(chr(92)).upper()}")
    except KeyError:
        return name


def _parts(
    gallery: Mapping[str, Any], symbol: Callable[[str], str]
) -> Iterator[tuple[Any, Any, Any]]:
    """The gallery in panels of a few columns, as equal as can be."""
    theta = {gallery.get("parameter") or "theta": gallery.get("theta", [])}
    theta |= gallery.get("other") or {}
    titles = style.theta_titles([*map(symbol, theta)], np.transpose([*theta.values()]))
    n = len(titles)
    panels = -(-n // COLUMNS)
    for i in range(panels):
        columns = slice(i * n // panels, (i + 1) * n // panels)
        yield titles[columns], *(gallery[kind][columns] for kind in KINDS)

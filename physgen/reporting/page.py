"""The page of a surrogate: the words in page.html, the ink in figures."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from physgen.reporting import figures, style
from physgen.reporting.sheet import Drawing, Sheet, grid, plot
from physgen.reporting.vectors import bands_drawing, component_names, fan_drawing, pairs_drawing

__all__ = ["letter", "parameter_axis", "parameter_letters", "steepest", "surrogate_sheet"]

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
        "names": parameter_letters(law),
        "steepest": steepest(metrics.get("curves") or {}),
    }
    return Sheet("page.html", values, _plots(metrics, law, component))


def _plots(
    metrics: Mapping[str, Any], law: Mapping[str, Any], component: str
) -> dict[str, list[Drawing]]:
    """Section → its figures, one for each thing that the metrics have data for."""
    axis = parameter_axis(law)

    def some(section: str) -> list[Any]:
        """What is known of a section, if anything is."""
        return [metrics[section]] if metrics.get(section) else []

    return {
        "gallery": [
            grid(figures.gallery, *part, size=(4.2, 2.1 + 0.2 * ("other" in gallery)))
            for gallery in some("gallery")
            for part in _parts(gallery, parameter_axis(law, units=False))
        ],
        "curves": [
            grid(figures.curve, c, axis(c), name.removesuffix(f", {c['parameter']}"), size=TALL)
            for curves in some("curves")
            for name, c in curves.items()
        ],
        "fans": [
            drawing
            for fans in some("fans")
            for fan in fans
            for d, by in enumerate(fan["by"])
            for drawing in _fan(fan, d, by, axis(by))
        ],
        "pairs": [
            pairs_drawing({k: p[k] for k in KINDS}, component_names(p["names"], len(p["true"][0])))
            for p in some("pairs")
        ],
        "nll": [
            plot(figures.gap, nll, axis(nll), component)
            for nll in some("nll")
            if nll.get("by_theta")
        ],
        "posterior": [
            plot(figures.posterior, example, axis(example))
            for posterior in some("posterior")
            for example in posterior.get("examples") or []
        ],
        "partition": [
            grid(figures.partition, z, axis(z), component, size=TALL) for z in some("partition")
        ],
        "score": [grid(figures.score_error, s, component, size=TALL) for s in some("score")],
        "filters": [
            grid(figures.filters, w, size=(4.2, 0.2 + 0.75 * -(-len(w) // 8)))
            for w in some("filters")
        ],
        "observables": [
            plot(figures.histogram, o, name)
            for observables in some("observables")
            for name, o in observables.items()
            if o.get("histogram")
        ],
        "sweep": [
            plot(figures.sweep, sweep, name)
            for sweep in some("sweep")
            for name in sweep[0]["observables"]
        ],
        "learning": [
            plot(
                figures.learning,
                s["history"],
                s.get("unit", "nats a row"),
                s.get("keeps_last", False),
            )
            for s in some("surrogate")
            if s.get("history")
        ],
        "latents": [
            grid(figures.traversal, z, size=(4.2, 0.25 + 3.9 / len(z["values"])))
            for latents in some("latents")
            for z in latents
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


def parameter_letters(law: Mapping[str, Any]) -> dict[str, str]:
    """The names of a law's parameters as text, by name."""
    return {p["name"]: letter(p["name"], p.get("latex", "")) for p in law.get("prior") or []}


def parameter_axis(
    law: Mapping[str, Any], units: bool = True
) -> Callable[[Mapping[str, Any]], str]:
    """Data → the label of an axis of the parameter that they name, θ if they name none."""
    prior = {p["name"]: p for p in law.get("prior") or []}

    def axis(data: Mapping[str, Any]) -> str:
        name = data.get("parameter") or "theta"
        known = prior.get(name, {})
        unit = known.get("unit", "") if units else ""
        return style.axis_label(known.get("latex", ""), unit, name)

    return axis


def _parts(
    gallery: Mapping[str, Any], axis: Callable[[Mapping[str, Any]], str]
) -> Iterator[tuple[Any, Any, Any]]:
    """The gallery in panels of a few columns, as equal as can be."""
    other = gallery.get("other") or {}
    symbols = [axis(gallery), *(axis({"parameter": name}) for name in other)]
    theta = np.transpose([gallery.get("theta", []), *other.values()])
    titles = style.theta_titles(symbols, theta)
    n = len(titles)
    panels = -(-n // COLUMNS)
    for i in range(panels):
        columns = slice(i * n // panels, (i + 1) * n // panels)
        yield titles[columns], *(gallery[kind][columns] for kind in KINDS)

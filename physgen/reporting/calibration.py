"""The page of a calibration: the words in calibration.html, the ink in uniform."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from physgen.reporting import figures, uniform
from physgen.reporting.page import grid, letter, plot, rendered

__all__ = ["page"]

SQUARE = (4.2, 3.9)


def page(metrics: Mapping[str, Any]) -> str:
    """The report as HTML; the same text for the same metrics."""
    judged = metrics.get("surrogate") or metrics.get("network") or {}
    law = judged.get("law") or {}
    return rendered(
        "calibration.html",
        m=metrics,
        judged=judged,
        law=law,
        names={p["name"]: letter(p["name"], p.get("latex", "")) for p in law.get("prior") or []},
        controls={name: control[0] for name, control in uniform.CONTROLS.items()},
        plots=plots(metrics, law),
    )


def plots(metrics: Mapping[str, Any], law: Mapping[str, Any]) -> dict[str, Any]:
    """Section → its figures as data URIs, one for each thing that the metrics have data for."""
    prior = {p["name"]: (p.get("latex", ""), p.get("unit", "")) for p in law.get("prior") or []}
    symbols = {n: figures.label(latex, "", n) for n, (latex, _) in prior.items()}
    axes = [figures.label(latex, unit, n) for n, (latex, unit) in prior.items()]
    bands, levels = metrics.get("bands") or {}, metrics.get("levels") or []
    sbc = {n: t for n, t in (metrics.get("sbc") or {}).items() if t["data"] and bands}
    regions = {
        title: metrics.get(key) or {}
        for key, title in (("coverage", "densest regions"), ("tarp", "TARP"))
    }
    corners, outside = metrics.get("corners") or [], metrics.get("misspecification")
    return {
        "sbc": [
            uri
            for name, test in sbc.items()
            for uri in (
                plot(uniform.ranks, test, bands["count"], _rank(symbols, name)),
                plot(uniform.difference, test, levels, bands["ecdf"], _rank(symbols, name)),
            )
        ],
        "regions": [
            grid(_axes(uniform.curve), test, levels, bands["ecdf"], title, size=SQUARE)
            for title, test in regions.items()
            if test.get("data") and bands
        ],
        "corners": [
            grid(uniform.corner, c, axes, size=SQUARE if len(axes) > 1 else figures.PANEL)
            for c in corners
            if len(axes) == len(c["axes"])
        ],
        "predictive": [
            plot(uniform.predictive, o, o["title"] or name)
            for name, o in (metrics.get("predictive") or {}).items()
        ],
        "misspecification": [plot(uniform.p_values, outside)] if outside else [],
    }


def _rank(symbols: Mapping[str, str], name: str) -> str:
    return f"posterior probability of less than the true {symbols.get(name, name)}"


def _axes(draw: Any) -> Any:
    """A figure of one axes, of any size."""
    return lambda figure, *data: draw(figure.add_subplot(), *data)

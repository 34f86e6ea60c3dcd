"""The page of a posterior file: the words in posterior.html."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from physgen.reporting import style
from physgen.reporting.corner import (
    CROWDED,
    corner_drawing,
    corner_of,
    corner_size,
    intervals,
)
from physgen.reporting.data import observation_drawing
from physgen.reporting.page import letter
from physgen.reporting.predictive import predictive_band, predictive_number
from physgen.reporting.quantities import facts
from physgen.reporting.sheet import Drawing, Sheet, plot
from physgen.reporting.view import CURVES, OBSERVATIONS, SHORT_VECTOR
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["posterior_sheet", "posteriors_sheet"]

ROWS = 50
LEVELS = (0.05, 0.16, 0.84, 0.95)
WIDE = (9.0, 3.2)
"""Size of what is as wide as the page, inches."""
PLANES, MOST = 60, 10
"""Pairs of parameters that a page shows in all, and parameters of one corner, at most."""


def posterior_sheet(metrics: Mapping[str, Any]) -> Sheet:
    """The page of a posterior.

    Args:
        metrics: metadata of a posterior file, and its arrays under "arrays"; under "density" the
            posteriors on their grids, if they are on such; under "seen" what was observed,
            (m, *x_shape), and under "predictions" what they predict of it, if that is known.
    """
    law, arrays = metrics.get("law") or {}, metrics["arrays"]
    prior = Prior.from_json(law.get("prior") or [])
    names = list(metrics.get("interest") or prior.names)
    pick = [prior.names.index(name) for name in names]
    shown = [prior.parameters[d] for d in pick]
    rows = _rows(arrays, _density(metrics), pick)
    letters = {p.name: letter(p.name, p.latex) for p in prior.every}
    values = {
        "m": metrics,
        "law": law,
        "letters": letters,
        "names": [letters[name] for name in names],
        "units": [p.unit for p in shown],
        "others": [letters[name] for name in prior.names if name not in names],
        "rows": rows,
        "in_corner": min(len(pick), MOST),
        "components": _components(metrics),
        "on_grid": _density(metrics) is not None,
    }
    symbols = [style.axis_label(p.latex, p.unit, p.name) for p in shown[:MOST]]
    drawings = [
        corner_drawing([corner], symbols) for corner in _corners(metrics, prior, pick[:MOST])
    ]
    tall = 1.0 + 0.16 * max(8, len(rows))
    several = [
        plot(intervals, {"": rows}, d, metrics.get("first_row", 0), symbol, size=(4.2, tall))
        for d, symbol in enumerate(symbols if len(rows) > 1 else ())
    ]
    size = corner_size(len(symbols)) if len(symbols) < CROWDED else WIDE
    observed = _observed(metrics, law, len(drawings), size)
    first = (metrics.get("predictions") or [{}])[0]
    plots = {
        "corners": drawings,
        "observed": observed,
        "intervals": several,
        **_predictive(first, bool(observed)),
    }
    return Sheet("posterior.html", values, plots)


def posteriors_sheet(metrics: Mapping[str, Any]) -> Sheet:
    """The page of several posteriors of the same parameters, one over the other.

    Args:
        metrics: "posteriors", each as of a page of its own, of as many observations, and its
            "name"; "rows", whether these are numbers of rows; and "interest", parameters that are
            shown.
    """
    every, interest = metrics["posteriors"], metrics["interest"]
    priors = [Prior.from_json(found["law"]["prior"]) for found in every]
    picks = [[prior.names.index(name) for name in interest] for prior in priors]
    shown = [priors[0].parameters[d] for d in picks[0]]
    tables = {
        found["name"]: _rows(found["arrays"], _density(found), pick)
        for found, pick in zip(every, picks, strict=True)
    }
    symbols = [style.axis_label(p.latex, p.unit, p.name) for p in shown[:MOST]]
    corners = _overlaid(every, priors, [pick[:MOST] for pick in picks])
    first, lines = int(every[0].get("first_row", 0)), len(every) * len(tables[every[0]["name"]])
    plots = {
        "corners": [corner_drawing(some, symbols, list(tables)) for some in corners],
        "intervals": [
            plot(intervals, tables, d, first, symbol, size=(4.2, 1.0 + 0.16 * max(8, lines)))
            for d, symbol in enumerate(symbols if lines > len(every) else ())
        ],
    }
    values = {
        "m": metrics,
        "law": every[0]["law"],
        "names": [letter(p.name, p.latex) for p in shown],
        "units": [p.unit for p in shown],
        "letters": {p.name: letter(p.name, p.latex) for prior in priors for p in prior.every},
        "tables": tables,
        "notes": {
            text: [found["name"] for found in every if text in (found.get("warnings") or [])]
            for text in dict.fromkeys(w for found in every for w in found.get("warnings") or [])
        },
        "first_row": first,
        "files": [(found["name"], [*_origins(found)]) for found in every],
    }
    return Sheet("posteriors.html", values, plots)


def _origins(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where a posterior comes from, as rows."""
    for group, rows in facts(metrics, ("provenance", "surrogate", "network", "observed")):
        yield from ((f"{group}.{path}", value) for path, value in rows)


def _overlaid(
    every: Sequence[Mapping[str, Any]], priors: Sequence[Prior], picks: Sequence[Sequence[int]]
) -> list[tuple[dict[str, Any], ...]]:
    """Of each observation the corners of all posteriors, their parameters on the same scales."""

    def corners(linear: bool) -> list[tuple[dict[str, Any], ...]]:
        each = [_corners(*one, linear) for one in zip(every, priors, picks, strict=True)]
        return list(zip(*each, strict=True))

    found = corners(linear=False)
    if any(len({tuple(corner["log"]) for corner in some}) > 1 for some in found):
        found = corners(linear=True)
    return found


def _corners(
    metrics: Mapping[str, Any], prior: Prior, pick: Sequence[int], linear: bool = False
) -> Iterator[dict[str, Any]]:
    """The corners of the first observations: fewer, the more parameters there are."""
    arrays, grids, planes = metrics["arrays"], _density(metrics), len(pick) * (len(pick) - 1) // 2
    true = arrays.get("true")
    count = max(1, min(OBSERVATIONS, PLANES // max(planes, 1)))
    for i, theta in enumerate(arrays["theta"][:count]):
        grid = None if grids is None else grids[i : i + 1]
        at = None if true is None else true[i]
        found = corner_of(theta, prior, at, pick, grid, linear=linear)
        if not metrics.get("iid"):
            found["row"] = _row(metrics, i)
        if "along" in arrays and len(arrays["along"]) > i:
            found["curves"] = {key: arrays[key][i] for key in CURVES}
        yield found


def _observed(
    metrics: Mapping[str, Any], law: Mapping[str, Any], count: int, size: tuple[float, float]
) -> list[Drawing]:
    """What was observed, beside each of the corners; nothing of few numbers."""
    if (seen := metrics.get("seen")) is None:
        return []
    predictions = metrics.get("predictions") or [None] * count
    each = [(seen[i : i + 1], f"row {_row(metrics, i)}") for i in range(count)]
    each = [(seen, "")] if metrics.get("iid") else each
    found = [
        observation_drawing(x, law, prediction, size, name)
        for (x, name), prediction in zip(each, predictions, strict=False)
    ]
    return [drawing for drawing in found if drawing]


def _row(metrics: Mapping[str, Any], i: int) -> int:
    """Which row of what was observed one of the posteriors is of."""
    return int(metrics.get("first_row", 0)) + i


def _components(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Observations of few numbers as a table; None of others."""
    seen = metrics.get("seen")
    if seen is None or seen.ndim != 2 or seen.shape[1] > SHORT_VECTOR:
        return None
    names = (metrics.get("observed") or {}).get("columns") or []
    return {"names": names or [f"x{i + 1}" for i in range(seen.shape[1])],
            "rows": seen[:OBSERVATIONS].tolist()}  # fmt: skip


def _predictive(data: Mapping[str, Any], drawn: bool) -> dict[str, list[Drawing]]:
    """What a posterior predicts of a row: curves, x too if not drawn above, and numbers."""
    bands, numbers = (data.get(key) or {} for key in ("bands", "numbers"))
    band, number_of = predictive_band, predictive_number
    return {
        "bands": [
            plot(band, b, name, size=WIDE) for name, b in bands.items() if name != "x" or not drawn
        ],
        "numbers": [plot(number_of, n, name) for name, n in numbers.items()],
    }


def _density(metrics: Mapping[str, Any]) -> Any:
    """The posteriors on their grids; None where an error of log Z makes the draws of others."""
    off = metrics["arrays"].get("mean_error")
    return None if off is not None and (off > 0).any() else metrics.get("density")


def _rows(arrays: Mapping[str, Array], density: Any, pick: Sequence[int]) -> list[dict[str, Any]]:
    """Mean, width and central intervals of 90 % and 68 % of some parameters, and what is known."""
    some, columns = arrays["theta"][:ROWS], list(pick)
    if density is None:
        ends = np.moveaxis(np.quantile(some[..., columns], LEVELS, axis=1), 0, 1)
    else:
        levels = np.array(LEVELS)
        ends = np.concatenate([part.quantile(levels) for part in density[:ROWS].parts()])
        ends = ends[..., columns]
    low, high, inner = ends[:, 0], ends[:, -1], ends[:, 1:-1]
    every: dict[str, Any] = {"low": low, "high": high, "inner": inner}
    for k in ("mean", "sd", "true"):
        every[k] = arrays[k][:ROWS, columns] if k in arrays else None
    for name, worst in (("r_hat", np.max), ("ess", np.min)):
        every[name] = worst(arrays[name], 1) if name in arrays else None
    return [
        {k: None if v is None else v[i].tolist() for k, v in every.items()}
        for i in range(len(some))
    ]

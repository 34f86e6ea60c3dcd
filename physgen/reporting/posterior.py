"""The page of a posterior file: the words in posterior.html, corners drawn by uniform."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from physgen.reporting import figures, uniform
from physgen.reporting.kernels import kernel_density, narrowing
from physgen.reporting.page import letter
from physgen.reporting.sheet import Drawing, Sheet, grid, plot
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["corner_of", "posterior_sheet"]

SHOWN, ROWS, POINTS, TINY = 6, 50, 50, 1e-9
DECADE = 10.0
"""A parameter that is uniform in its logarithm over more than this is shown on that scale."""
MANY, FINE = 20_000, 2
"""Draws that a picture is made of, at most; nodes of its densities for each that is shown."""
WIDE, FULL = (9.0, 3.2), (10.0, 9.6)
"""Sizes of what is as wide as the page, inches."""
PLANES, MOST = 60, 10
"""Pairs of parameters that a page shows in all, and parameters of one corner, at most."""


def posterior_sheet(metrics: Mapping[str, Any]) -> Sheet:
    """The page of a posterior.

    Args:
        metrics: metadata of a posterior file, and its arrays under "arrays"; under "predictive"
            what it predicts, if that was drawn.
    """
    law, arrays = metrics.get("law") or {}, metrics["arrays"]
    prior = Prior.from_json(law.get("prior") or [])
    names = list(metrics.get("interest") or prior.names)
    pick = [prior.names.index(name) for name in names]
    shown = [prior.parameters[d] for d in pick]
    letters = {p.name: letter(p.name, p.latex) for p in prior.every}
    values = {
        "m": metrics,
        "law": law,
        "letters": letters,
        "names": [letters[name] for name in names],
        "units": [p.unit for p in shown],
        "others": [letters[name] for name in prior.names if name not in names],
        "rows": _rows(arrays, pick),
        "in_corner": min(len(pick), MOST),
    }
    symbols = [figures.axis_label(p.latex, p.unit, p.name) for p in shown[:MOST]]
    size = FULL if len(symbols) >= uniform.CROWDED else figures.SQUARE
    drawings = [
        grid(uniform.corner, corner, symbols, size=size if len(symbols) > 1 else figures.PANEL)
        for corner in _corners(metrics, prior, pick[:MOST])
    ]
    plots = {"corners": drawings, **_predictive(metrics.get("predictive") or {})}
    return Sheet("posterior.html", values, plots)


def _corners(
    metrics: Mapping[str, Any], prior: Prior, pick: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """The corners of the first observations: fewer, the more parameters there are."""
    arrays, planes = metrics["arrays"], len(pick) * (len(pick) - 1) // 2
    true = arrays.get("true")
    for i, theta in enumerate(arrays["theta"][: max(1, min(SHOWN, PLANES // max(planes, 1)))]):
        found = corner_of(theta, prior, None if true is None else true[i], pick)
        found["row"] = metrics.get("first_row", 0) + i
        if "along" in arrays and len(arrays["along"]) > i:
            found["curves"] = {key: arrays[key][i] for key in ("along", "profile", "slice")}
        yield found


def _predictive(data: Mapping[str, Any]) -> dict[str, list[Drawing]]:
    """What a posterior predicts: curves, wide where they have many components, and numbers."""
    bands, numbers = (data.get(key) or {} for key in ("bands", "numbers"))
    band, number_of = figures.predictive_band, figures.predictive_number
    return {
        "bands": [plot(band, b, name, size=WIDE) for name, b in bands.items()],
        "numbers": [plot(number_of, n, name) for name, n in numbers.items()],
    }


def _rows(arrays: Mapping[str, Array], pick: Sequence[int]) -> list[dict[str, Any]]:
    """Mean, width and central interval of 90 % of some parameters, and what else is known."""
    some, columns = arrays["theta"][:ROWS], list(pick)
    ends = [np.quantile(draws[:, columns], [0.05, 0.95], axis=0) for draws in some]
    low, high = np.stack(ends, axis=1)
    every: dict[str, Any] = {"low": low, "high": high}
    for k in ("mean", "sd", "true"):
        every[k] = arrays[k][:ROWS, columns] if k in arrays else None
    for name, worst in (("r_hat", np.max), ("ess", np.min)):
        every[name] = worst(arrays[name], 1) if name in arrays else None
    return [
        {k: None if v is None else v[i].tolist() for k, v in every.items()}
        for i in range(len(some))
    ]


def corner_of(
    theta: Array, prior: Prior, true: Array | None = None, pick: Sequence[int] | None = None
) -> dict[str, Any]:
    """Densities of parameters and of pairs from draws (k, D), by Gaussian kernels.

    Args:
        theta: draws; of very many, some at equal distances are enough for a picture.
        prior: their prior, in whose own coordinates the kernels are, and which may have bounds.
        true: values to be shown, too, (D,).
        pick: columns of the parameters that are shown; all if None.
    """
    columns = list(range(len(prior)) if pick is None else pick)
    c = prior.to_coordinates(theta[:: -(-len(theta) // MANY)])
    ends = np.quantile(c, [0.001, 0.999], axis=0)
    if true is not None:
        at = prior.to_coordinates(true)
        ends = np.stack([np.minimum(ends[0], at), np.maximum(ends[1], at)])
    more = np.array([[-0.15], [0.15]]) * (ends[1] - ends[0]) + np.array([[-TINY], [TINY]])
    low, high = (ends + more).clip(*prior.ends)
    points = np.linspace(low, high, FINE * (POINTS - 1) + 1)
    bounds = (points[[0, -1]] == prior.ends) & prior.flat
    shown = prior.from_coordinates(points[::FINE])
    log = ~prior.affine & prior.flat & (shown[-1] > DECADE * shown[0])
    slope = prior.slope(points[::FINE]) / np.where(log, shown, 1)

    narrow = {d: narrowing(c[:, d]) for d in columns}

    def density(*pick: int) -> Array:
        some, widths = list(pick), np.array([narrow[d] for d in pick])
        found = kernel_density(c[:, some], points[:, some], bounds[:, some], TINY, widths)
        volume = np.prod(np.meshgrid(*slope.T[some], indexing="ij"), 0)
        return found[(slice(None, None, FINE),) * len(some)] / volume

    pairs = combinations(range(len(columns)), 2)
    return {
        "theta": None if true is None else true[columns],
        "axes": list(shown.T[columns]),
        "log": [i for i, d in enumerate(columns) if log[d]],
        "marginals": [density(d) for d in columns],
        "planes": [{"pair": [d, e], "density": density(columns[d], columns[e])} for d, e in pairs],
    }

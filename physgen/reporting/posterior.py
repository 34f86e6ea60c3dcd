"""The page of a posterior file: the words in posterior.html, corners drawn by uniform."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from physgen.reporting import figures, uniform
from physgen.reporting.kernels import kernel_density
from physgen.reporting.page import letter
from physgen.reporting.sheet import Sheet, grid
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["corner_of", "posterior_sheet"]

SHOWN, ROWS, POINTS, TINY = 6, 50, 50, 1e-9
DECADE = 10.0
"""A parameter that is uniform in its logarithm over more than this is shown on that scale."""
MANY, FINE = 20_000, 2
"""Draws that a picture is made of, at most; nodes of its densities for each that is shown."""
PLANES, MOST = 60, 10
"""Pairs of parameters that a page shows in all, and parameters of one corner, at most."""


def posterior_sheet(metrics: Mapping[str, Any]) -> Sheet:
    """The page of a posterior.

    Args:
        metrics: metadata of a posterior file, and its arrays under "arrays".
    """
    law, arrays = metrics.get("law") or {}, metrics["arrays"]
    prior = law.get("prior") or []
    axes = [figures.axis_label(p.get("latex", ""), p.get("unit", ""), p["name"]) for p in prior]
    box = Prior.from_json(prior)
    size = figures.SQUARE if len(prior) > 1 else figures.PANEL
    true = arrays.get("true")
    truths = [None] * SHOWN if true is None else true[:SHOWN]
    shown = [
        corner_of(theta, box, t) | {"row": metrics.get("first_row", 0) + i}
        for i, (theta, t) in enumerate(zip(arrays["theta"][:SHOWN], truths, strict=False))
    ]
    values = {
        "m": metrics,
        "law": law,
        "names": [letter(p["name"], p.get("latex", "")) for p in prior],
        "units": [p.get("unit", "") for p in prior],
        "rows": _rows(arrays),
    }
    corners = [grid(uniform.corner, corner, axes, size=size) for corner in shown]
    return Sheet("posterior.html", values, {"corners": corners})


def _rows(arrays: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Mean, width and central interval of 90 % of each parameter, and what else is known."""
    low, high = np.quantile(arrays["theta"], [0.05, 0.95], axis=1)
    every = {k: arrays.get(k) for k in ("mean", "sd", "true")} | {"low": low, "high": high}
    for name, worst in (("r_hat", np.max), ("ess", np.min)):
        every[name] = worst(arrays[name], 1) if name in arrays else None
    return [
        {k: None if v is None else v[i].tolist() for k, v in every.items()}
        for i in range(min(ROWS, len(low)))
    ]


def corner_of(theta: Array, prior: Prior, true: Array | None = None) -> dict[str, Any]:
    """Densities of parameters and of pairs from draws (k, D), by Gaussian kernels.

    Args:
        theta: draws; of very many, some at equal distances are enough for a picture.
        prior: their prior, in whose own coordinates the kernels are, and which may have bounds.
        true: values to be shown, too, (D,).
    """
    c = prior.to_coordinates(theta[:: -(-len(theta) // MANY)])
    ends = np.quantile(c, [0.001, 0.999], axis=0)
    if true is not None:
        at = prior.to_coordinates(true)
        ends = np.stack([np.minimum(ends[0], at), np.maximum(ends[1], at)])
    more = np.array([[-0.15], [0.15]]) * (ends[1] - ends[0]) + np.array([[-TINY], [TINY]])
    points = np.linspace(*(ends + more).clip(*prior.ends), FINE * (POINTS - 1) + 1)
    bounds = (points[[0, -1]] == prior.ends) & prior.flat
    shown = prior.from_coordinates(points[::FINE])
    log = ~prior.affine & prior.flat & (shown[-1] > DECADE * shown[0])
    slope = prior.slope(points[::FINE]) / np.where(log, shown, 1)

    def density(*pick: int) -> Array:
        some = list(pick)
        found = kernel_density(c[:, some], points[:, some], bounds[:, some], TINY)
        volume = np.prod(np.meshgrid(*slope.T[some], indexing="ij"), 0)
        return found[(slice(None, None, FINE),) * len(some)] / volume

    dims = range(theta.shape[1])
    return {
        "theta": true,
        "axes": list(shown.T),
        "log": np.flatnonzero(log).tolist(),
        "marginals": [density(d) for d in dims],
        "planes": [{"pair": [d, e], "density": density(d, e)} for d, e in combinations(dims, 2)],
    }

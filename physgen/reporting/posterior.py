"""The page of a posterior file: the words in posterior.html, corners drawn by uniform."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, product
from typing import Any

import numpy as np
from scipy.stats import gaussian_kde

from physgen.reporting import figures, uniform
from physgen.reporting.page import letter
from physgen.reporting.sheet import Sheet, grid
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["corner_of", "posterior_sheet"]

SHOWN, ROWS, POINTS, TINY = 6, 50, 50, 1e-9


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

    Their covariance is that of the draws, by Scott's rule times k^(−2/(d + 4)) (Multivariate
    Density Estimation, 1992); what they put beyond a bound of the prior is reflected there.

    Args:
        theta: draws.
        prior: their prior, in whose own coordinates the kernels are.
        true: values to be shown, too, (D,).
    """
    c = prior.to_coordinates(theta)
    ends = np.quantile(c, [0.001, 0.999], axis=0)
    if true is not None:
        at = prior.to_coordinates(true)
        ends = np.stack([np.minimum(ends[0], at), np.maximum(ends[1], at)])
    more = 0.15 * (ends[1] - ends[0]) + TINY
    points = np.linspace(
        np.maximum(ends[0] - more, prior.ends[0]),
        np.minimum(ends[1] + more, prior.ends[1]),
        POINTS,
    )
    slope = prior.slope(points)
    apart = np.random.default_rng(0).standard_normal(theta.shape)
    draws = c + TINY * apart  # kernels need a width, even of equal draws

    def density(*pick: int) -> Array:
        kernels = gaussian_kde(draws[:, pick].T)
        images = [
            [x, *(2 * b - x for b in (-1, 1) if b in (x[0], x[-1]))] for x in points.T[list(pick)]
        ]
        where = [np.stack(np.meshgrid(*some, indexing="ij")) for some in product(*images)]
        found = [kernels(p.reshape(len(pick), -1)).reshape(p.shape[1:]) for p in where]
        volume = np.prod(np.meshgrid(*slope.T[list(pick)], indexing="ij"), 0)
        return np.sum(found, 0) / volume

    dims = range(theta.shape[1])
    return {
        "theta": true,
        "axes": list(prior.from_coordinates(points).T),
        "marginals": [density(d) for d in dims],
        "planes": [{"pair": [d, e], "density": density(d, e)} for d, e in combinations(dims, 2)],
    }

"""The page of a posterior file: the words in posterior.html, corners drawn by uniform."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from physgen.reporting import figures, uniform
from physgen.reporting.page import grid, letter, rendered
from simulators.base import Array

__all__ = ["corner_of", "page"]

SHOWN, ROWS, BINS = 6, 50, 48
SQUARE = (4.2, 3.9)


def page(metrics: Mapping[str, Any]) -> str:
    """The report as HTML; the same text for the same arrays and metadata.

    Args:
        metrics: metadata of a posterior file, and its arrays under "arrays".
    """
    law, arrays = metrics.get("law") or {}, metrics["arrays"]
    prior = law.get("prior") or []
    axes = [figures.label(p.get("latex", ""), p.get("unit", ""), p["name"]) for p in prior]
    low, high = (np.array([p[end] for p in prior]) for end in ("low", "high"))
    size = SQUARE if len(prior) > 1 else figures.PANEL
    true = arrays.get("true")
    truths = [None] * SHOWN if true is None else true[:SHOWN]
    shown = [
        corner_of(theta, low, high, t)
        for theta, t in zip(arrays["theta"][:SHOWN], truths, strict=False)
    ]
    return rendered(
        "posterior.html",
        m=metrics,
        law=law,
        names=[letter(p["name"], p.get("latex", "")) for p in prior],
        units=[p.get("unit", "") for p in prior],
        rows=rows(arrays),
        plots={"corners": [grid(uniform.corner, corner, axes, size=size) for corner in shown]},
    )


def rows(arrays: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Mean, width and central interval of 90 % of each parameter, and what else is known."""
    low, high = np.quantile(arrays["theta"], [0.05, 0.95], axis=1)
    every = {k: arrays.get(k) for k in ("mean", "sd", "true")} | {"low": low, "high": high}
    for name, worst in (("r_hat", np.max), ("ess", np.min)):
        every[name] = worst(arrays[name], 1) if name in arrays else None
    return [
        {k: None if v is None else v[i].tolist() for k, v in every.items()}
        for i in range(min(ROWS, len(low)))
    ]


def corner_of(theta: Array, low: Array, high: Array, true: Array | None = None) -> dict[str, Any]:
    """Densities of parameters and of pairs from draws (k, D), by smooth histograms.

    They are smoothed by a Gaussian of Scott's width, k^(−1/(d + 4)) of the draws' (Multivariate
    Density Estimation, 1992), that is reflected at the ends, so that none leaks out of the prior.

    Args:
        theta: draws.
        low: lower bounds of the prior, (D,).
        high: upper bounds.
        true: values to be shown, too, (D,).
    """
    ends = np.quantile(theta, [0.001, 0.999], axis=0)
    if true is not None:
        ends = np.stack([np.minimum(ends[0], true), np.maximum(ends[1], true)])
    more = 0.15 * (ends[1] - ends[0]) + 1e-9 * (high - low)
    first, last = np.maximum(ends[0] - more, low), np.minimum(ends[1] + more, high)
    edges = np.linspace(first, last, BINS + 1)

    def density(*pick: int) -> Array:
        some = [edges[:, d] for d in pick]
        counts = np.histogramdd(theta[:, pick], some, density=True)[0]
        scale = len(theta) ** (-1 / (len(pick) + 4))
        sigma = [scale * theta[:, d].std() / np.diff(edges[:2, d])[0] for d in pick]
        return gaussian_filter(counts, sigma, mode="reflect")

    dims, middle = range(theta.shape[1]), (edges[1:] + edges[:-1]) / 2
    middle[0], middle[-1] = first, last  # so that figures reach the ends
    return {
        "theta": true,
        "axes": list(middle.T),
        "marginals": [density(d) for d in dims],
        "planes": [{"pair": [d, e], "density": density(d, e)} for d, e in combinations(dims, 2)],
    }

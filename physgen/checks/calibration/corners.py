"""Some posteriors to look at: densities of single parameters and of pairs."""

from __future__ import annotations

from typing import Any

import numpy as np

from physgen.checks.calibration.check import Run
from physgen.checks.estimate import evenly_ranked
from physgen.posterior.grid import GridPosterior
from simulators.base import Array

__all__ = ["corner_densities", "corners_of"]

SHOWN, PLANES, SIDE, DRAWN = 3, 60, 50, 1000
"""Posteriors, and planes of all, at most; points of an axis; draws of each posterior."""


def corners_of(run: Run) -> list[dict[str, Any]]:
    """Posteriors of a few x of the data, spread over θ₁, or over its mean if it is not known.

    On a grid densities, else draws.
    """
    _, theta, x, posteriors = run.data
    found, planes = [], len(run.prior) * (len(run.prior) - 1) // 2
    count = min(SHOWN, PLANES // max(planes, 1) or 1)
    for i in evenly_ranked(posteriors.mean[:, 0] if theta is None else theta[:, 0], count):
        some = np.array([i])
        posterior = run.target.posterior(x[some], some, run.prior, DRAWN, run.seed)
        if isinstance(posterior, GridPosterior):
            corner = corner_densities(posterior)
        else:
            corner = {"draws": posterior.sample(DRAWN, np.random.default_rng(run.seed))[0]}
        found.append({"row": i, "theta": None if theta is None else theta[i], **corner})
    return found


def corner_densities(posterior: GridPosterior) -> dict[str, Any]:
    """Densities of one posterior where there is something to see.

    Returns:
        ``axes``, D of (50,); ``marginals``, a density on each; ``planes``, the densities (50, 50)
        of each ``pair`` of parameters.
    """
    prior, dims = posterior.prior, len(posterior.axes)
    low, high = prior.to_coordinates(posterior.quantile(np.array([1e-3, 1 - 1e-3]))[0])
    more = 0.1 * (high - low)
    c = np.linspace(
        np.maximum(low - more, prior.ends[0]), np.minimum(high + more, prior.ends[1]), SIDE
    )
    slope = prior.slope(c)

    def density(*pick: int) -> Array:
        """Of some parameters, the others integrated out."""
        volume = np.prod(np.meshgrid(*slope.T[list(pick)], indexing="ij"), 0)
        return posterior.density_on(pick, [c[:, d] for d in pick]) / volume

    return {
        "axes": list(prior.from_coordinates(c).T),
        "marginals": [density(d) for d in range(dims)],
        "planes": [
            {"pair": [d, e], "density": density(d, e)} for e in range(dims) for d in range(e)
        ],
    }

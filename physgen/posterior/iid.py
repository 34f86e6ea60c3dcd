r"""The posterior of very many independent rows on a grid, from few evaluations of all of them.

Σ log p(x_i|θ) of N rows is dear, and its peak √N times narrower than that of one row. A part of
the rows, in random order, tells where to look: the posterior of m rows is √(N/m) times wider than
that of all, and holds it. So a grid is made of the first few rows, and a region, 5.5 widths of
the posterior so far to either side of its medians, is handed on to thirty or six times as many.

Within a region log p of a row is a polynomial: Chebyshev coefficients c_k in each of the prior's
own coordinates, of as many degrees as it takes for the last to be small. All of them are found for
the m rows that are known so far; for the N − m others only those of degree below p, from p nodes
an axis, as differences to what the known rows say of them. The other coefficients are taken from
the known rows, with the standard error √((N − m) N/m) s_k, s_k being the scatter of c_k over rows:
the difference estimator of survey sampling, or a control variate (Bardenet, Doucet & Holmes,
J. Mach. Learn. Res. 18 (2017) 47; Quiroz et al., J. Am. Stat. Assoc. 114 (2019) 831). p is the
least for which that moves the mean by less than 0.003 widths; what is left of it is told.

Where the last coefficients are not small, or the edge of a region has some of the mass, all rows
are evaluated on the zooming grid: no answer rests on a region that does not hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.polynomial.chebyshev import chebpts1, chebvander

from physgen.posterior.chebyshev import along_axes, coefficients, roots
from physgen.posterior.density import GridPosterior
from physgen.posterior.grid import LogLikelihood, grid_posterior
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["MANY", "iid_posterior"]

MANY, FIRST, GROWTHS = 2000, 30, (30, 6)
"""Rows from which on this is done, rows at first, and how many times more are then taken."""
DEGREES, LEAST, MOST, WIDTHS = (6, 9, 13), 3, 5, 5.5
"""Nodes an axis of rows that are known, of the others at least, and at most where less rows may be
taken; half of a region, in widths."""
TOLERANCE, DEEP = 0.003, 12.0
"""Shift of the mean in widths that is allowed, and how deep the edges must lie, in nats."""
COARSE, NODES, REACH = 33, 25, 6.5
"""Nodes of a region to find the mass, and of the mass, so many widths to either side."""
VALUES = 2**20
"""Numbers that one call is given, at most."""
LAST, ROUGH = 0.01, 20
"""Shift of the mean in widths by the last coefficients, from which on they are not small, and how
many times more is allowed while looking where to look."""
FLOOR = -1e10


def iid_posterior(
    log_likelihood: LogLikelihood,
    prior: Prior,
    rows: int,
    *,
    again: LogLikelihood | None = None,
    **grid: Any,
) -> GridPosterior:
    """The posterior of independent rows that were drawn at one θ.

    Args:
        log_likelihood: of single rows, θ (k, G, D), which (k,) → (k, G).
        prior: over one to three parameters.
        rows: how many there are.
        again: the same with other random draws, where it has any.
        **grid: as for `grid_posterior`, of the first rows, and of all if they must.

    Returns:
        that of one observation, which tells its errors in widths: "rows_error", of what was not
        evaluated, and "draws_error", of the random draws.
    """
    at = _Rows(log_likelihood, prior)
    order = np.random.default_rng(0).permutation(rows)
    m, told = max(FIRST, rows // GROWTHS[0] ** 2), dict[str, float]()
    found = grid_posterior(at.summed(order[:m]), prior, 1, **grid)
    while m < rows:
        for growth in GROWTHS:
            region, more = _Region.around(found), min(growth * m, rows)
            known, rest = order[:m], order[m:more]
            total, error = extended(at, region, known, rest, 1 if more == rows else ROUGH)
            held = None if total is None else region.posterior(total, prior)
            if held:
                break
        found = held or grid_posterior(at.summed(order[:more]), prior, 1, **grid)
        m, told = more, {"rows_error": error if held else 0.0}
    if again:
        told["draws_error"] = noise(region, at, _Rows(again, prior), known, rows)
    evaluations = np.array([math.ceil(at.evaluations / rows)])
    told_of_each = {name: np.array([value]) for name, value in told.items()}
    return replace(found, evaluations=evaluations, told=told_of_each)


class _Rows:
    """log p of rows by the prior's coordinates, in calls of bounded size."""

    def __init__(self, log_likelihood: LogLikelihood, prior: Prior) -> None:
        self.log_likelihood, self.prior, self.evaluations = log_likelihood, prior, 0

    def each(self, c: Array, rows: Array) -> list[Array]:
        """log p at points c (G, D), chunks (k, G) of all rows (m,) in turn."""
        theta, step = self.prior.from_coordinates(c), max(1, VALUES // c.size)
        self.evaluations += len(c) * len(rows)
        return [
            self.log_likelihood(np.broadcast_to(theta, (len(part), *theta.shape)), part)
            for part in np.split(rows, range(step, len(rows), step))
        ]

    def total(self, c: Array, rows: Array) -> Array:
        """Its sum over rows (m,) at points c (G, D), (G,)."""
        return np.sum([part.sum(0) for part in self.each(c, rows)], axis=0)

    def summed(self, rows: Array) -> LogLikelihood:
        """The log p of one observation, which is all of rows (m,)."""

        def log_likelihood(theta: Array, which: Array | None = None, /) -> Array:
            c = self.prior.to_coordinates(theta)
            return np.stack([self.total(one, rows) for one in c])

        return log_likelihood


@dataclass(frozen=True)
class _Region:
    """A box in the prior's coordinates, with t in [−1, 1] for each of its axes.

    Attributes:
        low: (D,).
        high: (D,).
    """

    low: Array
    high: Array

    @classmethod
    def around(cls, posterior: GridPosterior) -> _Region:
        """Where a posterior of one observation has its mass, and more."""
        (middle, width), ends = spread_of(posterior), posterior.prior.ends
        return cls(*np.clip([middle - WIDTHS * width, middle + WIDTHS * width], *ends))

    @property
    def sides(self) -> list[tuple[float, float]]:
        """Its lower and upper end along each axis."""
        return list(zip(self.low.tolist(), self.high.tolist(), strict=True))

    def points(self, p: int) -> Array:
        """Coordinates at the product of p Chebyshev nodes of each axis, (p^D, D)."""
        return (self.low + self.high) / 2 + (self.high - self.low) / 2 * roots(p, len(self.low))

    def posterior(self, total: Array, prior: Prior) -> GridPosterior | None:
        """That of one observation, of Chebyshev coefficients (q, …, q) of its log p.

        None if the region's edge has some of the mass.
        """
        wide = self._on([np.linspace(a, b, COARSE) for a, b in self.sides], total, prior)
        if wide is None:
            return None
        middle, width = spread_of(wide)
        ends = np.clip([middle - REACH * width, middle + REACH * width], self.low, self.high)
        return self._on([np.linspace(a, b, NODES) for a, b in ends.T], total, prior)

    def _on(self, axes: list[Array], total: Array, prior: Prior) -> GridPosterior | None:
        """The posterior with nodes on these axes, None if their ends have some of the mass."""
        t = [(2 * c - a - b) / (b - a) for c, (a, b) in zip(axes, self.sides, strict=True)]
        values = along_axes(total, [chebvander(one, len(total) - 1) for one in t])
        values = values + prior.log_density(np.stack(np.meshgrid(*axes, indexing="ij"), -1))
        peak = float(values.max())
        values = values - peak
        for d, ends in enumerate(prior.ends.T):
            for side, end in zip((0, -1), ends, strict=True):
                if axes[d][side] != end:
                    if np.take(values, side, d).max() > -DEEP:
                        return None
                    values = np.insert(values, len(axes[d]) if side else 0, FLOOR, d)
                    axes[d] = np.insert(axes[d], len(axes[d]) if side else 0, end)
        nodes, none = tuple(a[None] for a in axes), np.zeros(1, dtype=int)
        found = GridPosterior(prior, nodes, values[None], none + peak, none, none == 0)
        return found.normalised()


def spread_of(posterior: GridPosterior) -> tuple[Array, Array]:
    """Medians of one observation's posterior in coordinates, and its widths, (D,) each."""
    q = posterior.quantile(np.array([0.1587, 0.5, 0.8413]))[0]
    low, middle, high = posterior.prior.to_coordinates(q)
    return middle, np.maximum(high - middle, middle - low)


def extended(
    at: _Rows, region: _Region, known: Array, rest: Array, rough: float = 1
) -> tuple[Array | None, float]:
    """log p of all rows in a region, from those that are known and from few points of the rest.

    Args:
        at: log p of rows.
        region: that holds the posterior of the known rows, so many `WIDTHS` to either side.
        known: rows (m,).
        rest: other rows.
        rough: how many times larger errors may be.

    Returns:
        Chebyshev coefficients (q, …, q), None where they do not fall off, and the standard error
        of the mean by what was not evaluated, in widths.
    """
    dims, ratio = len(region.low), len(rest) / len(known)
    for q in DEGREES:
        each = coefficients(np.concatenate(at.each(region.points(q), known)), dims)
        total, degree = (1 + ratio) * each.sum(0), np.indices(each.shape[1:]).max(0)
        move = degree**2 / (WIDTHS * math.sqrt(1 + ratio))
        if abs(move * total)[degree == q - 1].sum() < rough * LAST:
            break
    else:
        return None, math.inf
    scatter = each.std(0) * math.sqrt(len(rest) * (1 + ratio))
    errors = [math.sqrt(((move * scatter)[degree >= p] ** 2).sum()) for p in range(q + 1)]
    p = next(p for p in range(LEAST, q + 1) if errors[p] < rough * TOLERANCE)
    if p > MOST and ratio > GROWTHS[-1]:
        return None, math.inf
    at_few = along_axes(each.sum(0), [chebvander(chebpts1(p), q - 1)] * dims).reshape(-1)
    extra = coefficients(at.total(region.points(p), rest) - ratio * at_few, dims)
    return total + np.pad(extra, [(0, q - p)] * dims), errors[p]


def noise(region: _Region, at: _Rows, again: _Rows, known: Array, rows: int) -> float:
    """Standard error of the mean by random draws of log p, in widths, from known rows (m,)."""
    points, dims = region.points(3), len(region.low)
    parts = zip(at.each(points, known), again.each(points, known), strict=True)
    off = coefficients(np.concatenate([a - b for a, b in parts]), dims)
    slopes = np.stack([off[(..., *row)] for row in np.eye(dims, dtype=int)])
    ratio = math.sqrt(len(known) / rows) / WIDTHS
    return float((slopes.std(1) * math.sqrt(rows / 2)).max() * ratio)

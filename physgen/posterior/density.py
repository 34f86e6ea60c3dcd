r"""A posterior on a grid: its moments, quantiles, draws and density.

log p(θ|x) is known on the product of D ≤ 3 sets of nodes, each observation having its own, and is
continued between them by :mod:`physgen.posterior.interpolation`. Integrals are taken on a finer
grid, on which p(θ|x) counts as multilinear: then a marginal is piecewise linear, its first two
moments are Simpson's rule, its quantiles are roots of quadratics, and a draw is a cell chosen by
its mass followed, axis by axis, by the quantile of a linear density (Rosenblatt 1952). Draws are
continuous and independent, not points of the grid.

The grid lies in the prior's own coordinates c, whatever the size of θ. What is asked for by θ, or
answers in it, goes through the prior's map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physgen.law import Law
from physgen.posterior.interpolation import cell_counts, integral, on_axes
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["GRID_ARRAYS", "GridPosterior", "kept_density"]

GRID_ARRAYS = ("grid_nodes", "grid_values")
"""What a file keeps of a posterior on a grid: nodes (n, D, m), and log p(c|x) (n, m, …) there."""

FINE = {1: 16, 2: 8, 3: 4}
"""Fine cells between two nodes, for D parameters."""
VANISHING = -1e7
"""A log density below this is −∞."""
TINY = np.finfo(float).tiny
AT_ONCE = 2**22
"""Points of fine grids that are held at once."""


@dataclass(frozen=True)
class GridPosterior:
    """p(θ|x) of n observations, each on a grid of its own.

    Attributes:
        prior: over D parameters.
        nodes: one (n, m) array of increasing points c for each parameter, between the ends of the
            prior; the last one is repeated where others have more.
        values: log p(c|x) on the product of the nodes, (n, m, …, m).
        log_evidence: log ∫ p(x|θ) p(θ) dθ, (n,).
        evaluations: how often log p(x|θ) was evaluated for each observation, (n,).
        resolved: whether the nodes resolve the posterior, (n,); false also where p(x|θ) drops
            to zero inside the prior, and for correlations of two parameters beyond about 0.95.
        told: what else there is to say of each, (n,).
    """

    prior: Prior
    nodes: tuple[Array, ...]
    values: Array
    log_evidence: Array
    evaluations: Array
    resolved: NDArray[np.bool_]
    told: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> GridPosterior:
        """The posteriors of some of the observations."""
        return GridPosterior(
            self.prior,
            tuple(x[rows] for x in self.nodes),
            self.values[rows],
            self.log_evidence[rows],
            self.evaluations[rows],
            self.resolved[rows],
            {name: values[rows] for name, values in self.told.items()},
        )

    def normalised(self) -> GridPosterior:
        """The same for `values` that are a log density but for a constant of each observation.

        Where `log_evidence` was that constant, it is the evidence now.
        """
        log_mass = np.log(integral(list(self.axes), self.density))
        values = self.values - log_mass.reshape(-1, *[1] * len(self.axes))
        return replace(self, values=values, log_evidence=self.log_evidence + log_mass)

    def alike(self) -> tuple[Array, Array]:
        """Nodes (n, D, m) and values (n, m, …), the last of an axis that has fewer repeated."""
        most = max(x.shape[1] for x in self.nodes)
        more = [(0, most - x.shape[1]) for x in self.nodes]
        nodes = [np.pad(x, ((0, 0), one), "edge") for x, one in zip(self.nodes, more, strict=True)]
        return np.stack(nodes, 1), np.pad(self.values, ((0, 0), *more), "edge")

    def parts(self) -> Iterator[GridPosterior]:
        """The same posteriors, a few at a time, so that their fine grids are not held at once."""
        size = math.prod((x.shape[1] - 1) * FINE[len(self.nodes)] + 1 for x in self.nodes)
        step = max(1, AT_ONCE // size)
        return (self[i : i + step] for i in range(0, len(self), step))

    @property
    def diagnostics(self) -> dict[str, Array]:
        """The evidence, whether the nodes resolve the posterior, and what is told, (n,) each."""
        return {"log_evidence": self.log_evidence, "resolved": self.resolved, **self.told}

    @cached_property
    def axes(self) -> tuple[Array, ...]:
        """The fine grid's points c, one (n, G) array for each parameter."""
        return tuple(_subdivide(x, FINE[len(self.nodes)]) for x in self.nodes)

    @cached_property
    def density(self) -> Array:
        """p(c|x) on the product of the axes, (n, G, …, G)."""
        return np.exp(self.on(self.axes))

    @property
    def mean(self) -> Array:
        """E[θ|x], (n, D)."""
        middle, unit, mean = self._moments[:3]
        return middle + unit * mean

    @property
    def sd(self) -> Array:
        """Standard deviation of each parameter, (n, D)."""
        *_, unit, _, sd = self._moments
        return unit * sd

    @cached_property
    def _moments(self) -> tuple[Array, Array, Array, Array]:
        """θ where c has its mean, dθ/dc there, and mean and width of θ in their units, (n, D)."""
        c_mean = self._expectation(lambda c, d: c)
        middle, unit = self.prior.from_coordinates(c_mean), self.prior.slope(c_mean)

        def off(c: Array, d: int) -> Array:
            if self.prior.affine[d]:
                return c - c_mean[:, [d]]
            return (self.prior.column(d, c) - middle[:, [d]]) / unit[:, [d]]

        mean = self._expectation(off)
        variance = self._expectation(lambda c, d: (off(c, d) - mean[:, [d]]) ** 2)
        return middle, unit, mean, np.sqrt(variance)

    @cached_property
    def coordinate_moments(self) -> tuple[Array, Array]:
        """Mean (n, D) and covariance (n, D, D) of the coordinates c."""
        mean = self._expectation(lambda c, d: c)
        variance = self._expectation(lambda c, d: (c - mean[:, [d]]) ** 2)
        covariance = variance[..., None] * np.eye(variance.shape[1])
        off = [c - m[:, None] for c, m in zip(self.axes, mean.T, strict=True)]
        for d, e in combinations(range(len(off)), 2):
            others = [a for f, a in enumerate(self.axes) if f not in (d, e)]
            pair = integral(others, np.moveaxis(self.density, (1 + d, 1 + e), (1, 2)))
            product = off[d][:, :, None] * off[e][:, None] * pair
            covariance[:, d, e] = integral([self.axes[d], self.axes[e]], product)
            covariance[:, e, d] = covariance[:, d, e]
        return mean, covariance

    def marginal(self, d: int) -> tuple[Array, Array]:
        """Points θ_d, (n, G), and the density of parameter d on them, (n, G)."""
        c, density = self._marginals[d]
        return self.prior.column(d, c), density / self.prior.column_slope(d, c)

    @cached_property
    def _marginals(self) -> list[tuple[Array, Array]]:
        """Of each parameter points c, (n, G), and the density on them, (n, G)."""
        found = []
        for d, c in enumerate(self.axes):
            others = [a for e, a in enumerate(self.axes) if e != d]
            found.append((c, integral(others, np.moveaxis(self.density, 1 + d, 1))))
        return found

    def density_on(self, columns: Sequence[int], points: Sequence[Array]) -> Array:
        """p(c|x) of some parameters of one observation, the others integrated out.

        Args:
            columns: which parameters.
            points: of each of them, within the prior's ends, (G,).

        Returns:
            The density on the product of the points, an axis for each.
        """
        shown = dict(zip(columns, points, strict=True))
        axes = tuple(shown[d][None] if d in shown else a[:1] for d, a in enumerate(self.axes))
        found = np.moveaxis(
            np.exp(self[:1].on(axes)), [1 + d for d in columns], range(1, 1 + len(columns))
        )
        return integral([a for d, a in enumerate(axes) if d not in shown], found)[0]

    def quantile(self, q: float | Array) -> Array:
        """Quantiles of each marginal.

        Args:
            q: level or levels (Q,) in [0, 1].

        Returns:
            (n, D) for one level, (n, Q, D) for several.
        """
        c = np.stack([_inverse_cdf(np.atleast_1d(q), *m) for m in self._marginals], -1)
        return self.prior.from_coordinates(c if np.ndim(q) else c[:, 0])

    def cdf(self, theta: Array) -> Array:
        """Distribution function of each marginal, the inverse of :meth:`quantile`.

        Args:
            theta: k points for each observation, (n, k, D).

        Returns:
            The probability of less, (n, k, D); 0 below the prior's bounds and 1 above.
        """
        c = self.prior.to_coordinates(theta)
        return np.stack([_cdf(c[..., d], *m) for d, m in enumerate(self._marginals)], -1)

    def interval(self, level: float) -> Array:
        """Central credible interval of each marginal: lower and upper ends, (n, 2, D)."""
        ends = np.array([0.5 - level / 2, 0.5 + level / 2])
        return np.concatenate([part.quantile(ends) for part in self.parts()])

    def log_prob(self, theta: Array) -> Array:
        """log p(θ|x) of k points for each, (n, k, D) → (n, k); −∞ outside of the prior."""
        c = self.prior.to_coordinates(theta)
        points = [self[i : i + 1].at(one) for i, one in enumerate(c)]
        inside = self.prior.contains(theta) & self.prior.reaches(c)
        volume = np.log(self.prior.slope(np.where(inside[..., None], c, 0))).sum(-1)
        return np.where(inside, np.stack(points) - volume, -np.inf)

    def on(self, axes: tuple[Array, ...]) -> Array:
        """log p(c|x) on the product of other axes within the ends, (n, Q) each → (n, Q, …, Q)."""
        values = on_axes(self.nodes, self.values, axes)
        return np.where(values > VANISHING, values, -np.inf)

    def sample(self, k: int, rng: np.random.Generator) -> Array:
        """Independent draws of θ, k for each observation: (n, k, D)."""
        draws = [
            _draw([a[i] for a in part.axes], part.density[i], rng.random((k, len(part.axes) + 1)))
            for part in self.parts()
            for i in range(len(part))
        ]
        return self.prior.from_coordinates(np.stack(draws))

    def probes(self, k: int) -> Array:
        """The likeliest point c of one observation and others spread over its mass, (k, D)."""
        axes, density = [a[0] for a in self.axes], self.density[0]
        best = np.unravel_index(density.argmax(), density.shape)
        top = np.array([a[i] for a, i in zip(axes, best, strict=True)])
        return np.concatenate([top[None], self.spread(halton(k, len(axes) + 1)[1:, ::-1])])

    def spread(self, u: Array) -> Array:
        """Points c of one observation from uniform numbers (k, D + 1), (k, D)."""
        return _draw([a[0] for a in self.axes], self.density[0], u)

    def at(self, c: Array) -> Array:
        """log p(c|x) of one observation at points (k, D), (k,)."""
        step = max(1, AT_ONCE // 4 // math.prod(self.values.shape[2:]))
        parts = [
            self.on(tuple(some.T[..., None])) for some in np.split(c, range(step, len(c), step))
        ]
        return np.concatenate(parts).reshape(-1)

    def chains_in(self, k: int) -> int:
        """Draws are independent: one chain."""
        return 1

    def _expectation(self, function: Callable[[Array, int], Array]) -> Array:
        """E[function(c_d, d)|x], (n, D); exact for polynomials up to the second degree."""
        moments = []
        for d in range(len(self.axes)):
            x, p = self._marginals[d]
            g, middle = function(x, d) * p, function((x[:, 1:] + x[:, :-1]) / 2, d)
            simpson = g[:, 1:] + g[:, :-1] + 2 * middle * (p[:, 1:] + p[:, :-1])
            moments.append((np.diff(x) * simpson).sum(-1) / 6)
        return np.stack(moments, -1)


def halton(k: int, d: int) -> Array:
    """The first k points of Halton's sequence (1960, Numer. Math. 2, 84) in up to four dimensions.

    Of scipy's, whose module takes half a second to import, they are the unscrambled ones, (k, d).
    """
    base = np.array([2, 3, 5, 7][:d])
    rest, scale = np.repeat(np.arange(k)[:, None], d, axis=1), 1 / base
    points = np.zeros((k, d))
    while rest.any():
        rest, digit = np.divmod(rest, base)
        points += digit * scale
        scale = scale / base
    return points


def kept_density(arrays: Mapping[str, Array], about: Mapping[str, Any]) -> GridPosterior | None:
    """The posteriors on a grid that a file keeps; None where it keeps none.

    Args:
        arrays: of the file, (n, …) each.
        about: what it says of itself.

    Raises:
        ValueError: arrays that do not fit together.
    """
    if not set(GRID_ARRAYS) <= set(arrays):
        return None
    prior = Law.from_json(about["law"]).prior
    nodes, values = (arrays[name] for name in GRID_ARRAYS)
    n, d, m = nodes.shape
    if values.shape != (n, *[m] * d) or d != len(prior) or n != len(arrays["theta"]):
        raise ValueError(f"a grid of {values.shape} on nodes {nodes.shape}")
    evidence = arrays.get("log_evidence", np.full(n, np.nan))
    resolved = np.full(n, bool(about.get("resolved", True)))
    axes = tuple(nodes[:, i] for i in range(d))
    return GridPosterior(prior, axes, values, evidence, np.zeros(n, int), resolved)


def _subdivide(x: Array, parts: int) -> Array:
    """(n, m) → (n, (m − 1) parts + 1): equal parts, but in the outer cells finer inwards.

    The outer cells may be hundreds of widths wide, with a tail of e⁻¹⁸ at their inner end.
    """
    t = np.arange(parts) / parts
    power = np.tile(t, (*np.diff(x).shape, 1))
    power[:, 0], power[np.arange(len(x)), cell_counts(x) - 1] = 1 - (1 - t) ** 4, t**4
    points = x[:, :-1, None] + np.diff(x)[..., None] * power
    return np.concatenate([points.reshape(len(x), -1), x[:, -1:]], -1)


def _draw(axes: list[Array], density: Array, u: Array) -> Array:
    """c (k, D) from uniform numbers (k, D + 1): a cell by its mass, then axis by axis."""
    mass = density
    for d, a in enumerate(axes):
        f = np.moveaxis(mass, d, -1)
        mass = np.moveaxis((f[..., 1:] + f[..., :-1]) * np.diff(a) / 2, -1, d)
    total = mass.cumsum()
    flat = np.searchsorted(total, u[:, -1] * total[-1], side="right").clip(max=mass.size - 1)
    cell = np.stack(np.unravel_index(flat, mass.shape))
    box = [2] * len(axes)
    corners = np.stack([density[tuple(cell + np.array(c)[:, None])] for c in np.ndindex(*box)])
    corners = corners.reshape(*box, -1)
    points = []
    for a, k, v in zip(axes, cell, u.T[:-1], strict=True):
        t = _slope_quantile(v, *corners.mean(tuple(range(1, corners.ndim - 1))))
        corners = (1 - t) * corners[0] + t * corners[1]
        points.append(a[k] + t * (a[k + 1] - a[k]))
    return np.stack(points, -1)


def _masses(x: Array, p: Array) -> Array:
    """Mass below each point of piecewise linear densities p (n, G) on x (n, G), (n, G)."""
    return np.pad(((p[:, 1:] + p[:, :-1]) * np.diff(x) / 2).cumsum(-1), ((0, 0), (1, 0)))


def _cdf(theta: Array, x: Array, p: Array) -> Array:
    """Distribution function at points (n, k) of piecewise linear densities p (n, G) on x."""
    values = []
    for at, a, f, m in zip(theta, x, p, _masses(x, p), strict=True):
        k = np.searchsorted(a, at, side="right").clip(1, len(a) - 1) - 1
        h = a[k + 1] - a[k]
        t = ((at - a[k]) / np.maximum(h, TINY)).clip(0, 1)
        values.append((m[k] + h * t * (f[k] + (f[k + 1] - f[k]) * t / 2)) / m[-1])
    return np.stack(values)


def _inverse_cdf(u: Array, x: Array, p: Array) -> Array:
    """Quantiles u (Q,) of piecewise linear densities p (n, G) on x (n, G), (n, Q)."""
    values = []
    for a, f, m in zip(x, p, _masses(x, p), strict=True):
        k = np.searchsorted(m, u * m[-1], side="right").clip(1, len(a) - 1) - 1
        rest = (u * m[-1] - m[k]) / np.maximum(m[k + 1] - m[k], TINY)
        values.append(a[k] + _slope_quantile(rest, f[k], f[k + 1]) * (a[k + 1] - a[k]))
    return np.stack(values)


def _slope_quantile(u: Array, f0: Array, f1: Array) -> Array:
    """Quantile u of the density on [0, 1] that goes linearly from f0 to f1."""
    scale = np.maximum(np.maximum(f0, f1), TINY)
    a, b = f0 / scale, f1 / scale
    root = a + np.sqrt(np.maximum(a**2 + u * (b**2 - a**2), 0))
    return (u * (a + b) / np.maximum(root, TINY)).clip(0, 1)

r"""Profiles and slices of a log density: what is known of one parameter without integrating.

The *profile* of θ_d is the greatest value over all other parameters at each θ_d (Murphy & van der
Vaart, J. Am. Stat. Assoc. 95 (2000) 449); the *slice* is the value along a line on which the
others stand still, at the best point if nothing else is said. Both are less their greatest value.
Of a likelihood they do not depend on the prior, nor on how a parameter is written; the marginal,
which integrates, does. Profile and marginal agree where the posterior is normal; the slice is as
narrow as if the others were known.

The greatest value is climbed to in the prior's coordinates, all points of all observations side by
side: steps of a parabola along each axis of the draws' covariance, which for a normal law is one
step. It begins at the best of some draws nearby and of their regression on θ_d, and looks at what
the neighbours have found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from simulators.base import Array
from simulators.prior import Prior

__all__ = ["Curve", "best_point", "profile_of", "slice_of"]

LogDensity = Callable[[Array], Array]
"""θ (n, k, D) → (n, k)."""
POINTS, NEAR, ROUNDS, PASSES = 41, 8, 30, 3
STEP, LEAST, GAIN = 0.5, 0.02, 3e-4
"""First and last step, in widths, and the gain in nats below which steps are made smaller."""
TINY = 1e-12


class Curve(NamedTuple):
    """A log density along one parameter.

    Attributes:
        theta: values of the parameter, (n, m).
        log_density: there, less its greatest value, (n, m).
        points: where all parameters stand, (n, m, D).
    """

    theta: Array
    log_density: Array
    points: Array


def profile_of(
    log_density: LogDensity, prior: Prior, draws: Array, d: int, points: int = POINTS
) -> Curve:
    """The greatest log density at each value of parameter d.

    Args:
        log_density: of n observations, the same value for the same θ.
        prior: inside which it is looked for.
        draws: of the posteriors, (n, k, D).
        d: which parameter.
        points: number of values, m.
    """
    climb = _Climb(log_density, prior, draws, d)
    at = _values(prior, climb.draws, d, points)
    c, f = climb.up(*climb.begin(at))
    for _ in range(PASSES):
        other, g = climb.neighbours(c, f)
        if not (better := g > f + GAIN).any():
            break
        c = np.where(better[..., None], other, c)
        c, f = climb.up(c, np.maximum(f, g), better)
    theta = prior.from_coordinates(c)
    return Curve(theta[..., d], f - f.max(1, keepdims=True), theta)


def slice_of(
    log_density: LogDensity, prior: Prior, draws: Array, d: int, at: Array, points: int = POINTS
) -> Curve:
    """The log density along parameter d, the others at θ (n, D); other arguments as above."""
    c = np.repeat(prior.to_coordinates(at)[:, None], points, 1)
    c[..., d] = _values(prior, prior.to_coordinates(draws), d, points)
    theta = prior.from_coordinates(c)
    f = log_density(theta)
    return Curve(theta[..., d], f - f.max(1, keepdims=True), theta)


def best_point(log_density: LogDensity, prior: Prior, draws: Array) -> Array:
    """Where a log density is greatest, (n, D); arguments as above."""
    climb = _Climb(log_density, prior, draws, None)
    c = climb.draws[:, :: -(-draws.shape[1] // NEAR**2)]
    c, _ = climb.up(*_first(c, climb.value(c)))
    return prior.from_coordinates(c[:, 0])


def _values(prior: Prior, c: Array, d: int, points: int) -> Array:
    """Coordinates of parameter d that draws (n, k, D) reach, and a little beyond, (n, m)."""
    low, high = np.quantile(c[..., d], [0.001, 0.999], axis=1)
    more = 0.15 * (high - low)
    ends = prior.ends[:, d]
    return np.linspace((low - more).clip(*ends), (high + more).clip(*ends), points, axis=-1)


def _first(c: Array, f: Array) -> tuple[Array, Array]:
    """The best of k points (n, k, D), (n, 1, D), and its value, (n, 1)."""
    best = f.argmax(1)[:, None]
    return np.take_along_axis(c, best[..., None], 1), np.take_along_axis(f, best, 1)


class _Climb:
    """Uphill over all parameters but one, in coordinates.

    Args:
        log_density: θ (n, k, D) → (n, k).
        prior: inside which.
        draws: (n, k, D), for places and widths.
        d: the parameter that stays; None if all move.
    """

    def __init__(self, log_density: LogDensity, prior: Prior, draws: Array, d: int | None) -> None:
        self.log_density, self.prior, self.d = log_density, prior, d
        self.draws = prior.to_coordinates(draws)
        self.mean = self.draws.mean(1)
        off = self.draws - self.mean[:, None]
        cov = np.einsum("nki,nkj->nij", off, off) / off.shape[1] + TINY * np.eye(len(prior))
        self.slope = np.zeros_like(self.mean) if d is None else cov[:, d] / cov[:, d, d, None]
        if d is not None:  # what is left of it given θ_d
            cov = cov - self.slope[:, :, None] * cov[:, None, d]
        width, axes = np.linalg.eigh(cov)
        keep = slice(None) if d is None else slice(1, None)  # the first has no width
        self.axes = (axes * np.sqrt(width.clip(0))[:, None]).swapaxes(1, 2)[:, keep]

    def value(self, c: Array) -> Array:
        """The log density at coordinates (n, …, D), (n, …); −∞ where it is NaN."""
        flat = self.prior.from_coordinates(c.reshape(len(c), -1, c.shape[-1]))
        f = self.log_density(flat).reshape(c.shape[:-1])
        return np.where(np.isnan(f), -np.inf, f)

    def begin(self, at: Array) -> tuple[Array, Array]:
        """The best of some guesses at values of parameter d, (n, m): (n, m, D), (n, m)."""
        away = at[..., None] - self.mean[:, None, None, self.d]
        regressed = self.mean[:, None] + away * self.slope[:, None]
        far = abs(self.draws[:, None, :, self.d] - at[..., None])
        near = np.argsort(far, -1)[..., :NEAR]
        rows = np.arange(len(at))[:, None, None]
        every = np.concatenate([regressed[:, :, None], self.draws[rows, near]], 2)
        every[..., self.d] = at[..., None]
        every = every.clip(*self.prior.ends)
        n, m = at.shape
        c, f = _first(
            every.reshape(n * m, -1, every.shape[-1]), self.value(every).reshape(n * m, -1)
        )
        return c.reshape(n, m, -1), f.reshape(n, m)

    def neighbours(self, c: Array, f: Array) -> tuple[Array, Array]:
        """The better of what both neighbours have found, at one's own θ_d."""
        found = []
        for shift in (1, -1):
            other = np.roll(c, shift, 1)
            other[..., self.d] = c[..., self.d]
            found.append((other, self.value(other)))
        (a, fa), (b, fb) = found
        return np.where((fa >= fb)[..., None], a, b), np.maximum(fa, fb)

    def up(self, c: Array, f: Array, moving: Array | None = None) -> tuple[Array, Array]:
        """From points (n, m, D) with values (n, m) to where no step is better.

        Args:
            c: where to begin.
            f: the values there.
            moving: which of them move, (n, m); all if None.
        """
        c, f = c.copy(), f.copy()
        if not self.axes.shape[1]:  # there is no other parameter
            return c, f
        step = np.full(f.shape, STEP) if moving is None else np.where(moving, STEP, 0.0)
        for _ in range(ROUNDS):
            some = np.flatnonzero((step >= LEAST).any(0))
            if not len(some):
                break
            before = f[:, some]
            c[:, some], f[:, some] = self.stepped(c[:, some], before, step[:, some])
            slow = f[:, some] < before + GAIN
            step[:, some] = np.where(slow, step[:, some] / 4, step[:, some])
        return c, f

    def stepped(self, c: Array, f: Array, step: Array) -> tuple[Array, Array]:
        """The best of points (n, m, D), of steps (n, m) from them, and of their parabolas."""
        axes, ends = self.axes[:, None], self.prior.ends
        away = step[..., None, None] * axes
        sides = (c[:, :, None] + np.concatenate([away, -away], 2)).clip(*ends)
        values = self.value(sides)
        plus, minus = np.split(values, 2, -1)
        with np.errstate(invalid="ignore", divide="ignore"):
            bend = plus + minus - 2 * f[..., None]
            to = np.where(bend < 0, (minus - plus) / (2 * bend), np.sign(plus - minus))
        both = (c + np.einsum("nmf,nmfd->nmd", np.nan_to_num(to).clip(-4, 4), away)).clip(*ends)
        every = np.concatenate([c[:, :, None], both[:, :, None], sides], 2)
        found = np.concatenate([f[..., None], self.value(both)[..., None], values], -1)
        best = found.argmax(-1)[..., None]
        points = np.take_along_axis(every, best[..., None], 2)[:, :, 0]
        return points, np.take_along_axis(found, best, -1)[..., 0]

r"""Polynomials of the prior's coordinates that take the place of a log density.

On a box of D coordinates, t in [−1, 1] for each, a smooth f is close to the polynomial that has
its values at the products of the m roots of T_m,

    f(t) ≈ Σ_j a_j Π_d T_{j_d}(t_d),    j_d < m,

for its error falls geometrically with m where f is analytic (Trefethen, *Approximation Theory and
Approximation Practice*, 2013, ch. 8); the log density of a Gaussian it is exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.polynomial.chebyshev import chebpts1, chebpts2, chebvander
from numpy.typing import NDArray

from simulators.base import Array

__all__ = ["Polynomials", "along_axes", "coefficients", "roots"]

FALL = 20.0
"""Nats by which a polynomial is said to fall outside of its box over half its width."""


class Polynomials(NamedTuple):
    """A polynomial for each of k functions, each on a box of its own.

    Attributes:
        values: Chebyshev coefficients, (k, m, …, m).
        middle: of the boxes, (k, D).
        half: half of their widths, (k, D).
        known: whether all values were finite, (k,); it is 0 where not.
        points: t on each axis at which it has the values of the function, (m,).
    """

    values: Array
    middle: Array
    half: Array
    known: NDArray[np.bool_]
    points: Array

    @classmethod
    def of(
        cls,
        function: Callable[[Array, Array], Array],
        which: Array,
        low: Array,
        high: Array,
        m: int,
    ) -> Polynomials:
        """Those of m^D values of each function.

        Args:
            function: c (k, G, D) and which function each is of, (k,) → (k, G).
            which: (k,).
            low: lower ends of the boxes, (k, D).
            high: upper ends, (k, D).
            m: points along each axis.
        """
        middle, half, dims = (high + low) / 2, (high - low) / 2, low.shape[1]
        values = function(middle[:, None] + half[:, None] * roots(m, dims), which)
        known = np.asarray(np.isfinite(values).all(-1))
        found = coefficients(np.where(known[:, None], values, 0), dims)
        return cls(found, middle, half, known, chebpts1(m))

    def some(self, rows: Array) -> Polynomials:
        """Those of some of the functions, by their places or a mask (k,)."""
        values, middle, half, known = self.values, self.middle, self.half, self.known
        return self._replace(
            values=values[rows], middle=middle[rows], half=half[rows], known=known[rows]
        )

    def finer(self, function: Callable[[Array, Array], Array], which: Array) -> Polynomials:
        """Those of one coordinate through the extrema of T_m as well, which enclose its roots.

        Args:
            function: as for `of`.
            which: (k,).
        """
        t = chebpts2(len(self.points) + 1)
        values = function(self.middle[:, None] + self.half[:, None] * t[:, None], which)
        known = self.known & np.isfinite(values).all(-1)
        found = self.through(self.middle + self.half * t, np.where(known[:, None], values, 0))
        return found._replace(known=known, points=np.concatenate([self.points, t]))

    def through(self, c: Array, values: Array) -> Polynomials:
        """Those of one coordinate that have further values (k, q) as well, at c (k, q)."""
        k, m = self.values.shape
        t = np.concatenate([np.tile(self.points, (k, 1)), (c - self.middle) / self.half], 1)
        before = self.values @ chebvander(self.points, m - 1).T
        inverse = np.linalg.pinv(chebvander(t, t.shape[1] - 1))
        found = inverse @ np.concatenate([before, values], 1)[..., None]
        return self._replace(values=found[..., 0])

    def at(self, c: Array, which: Array) -> Array:
        """Their values at points c (N, 1, D), each of one of them, (N,): (N, 1)."""
        t = ((c - self.middle[which, None]) / self.half[which, None])[:, 0]
        inner = t.clip(-1, 1)
        values = self.values[which]
        for basis in chebvander(inner, values.shape[1] - 1).swapaxes(0, 1):
            values = np.einsum("nj,nj...->n...", basis, values)
        return (values - FALL * abs(t - inner).sum(-1))[:, None]

    def on_nodes(self) -> tuple[list[Array], Array]:
        """Their points on each axis with the box's ends, (k, ≤ m + 2) each, and values there."""
        dims = self.middle.shape[1]
        t = np.unique([-1, *self.points, 1])
        axes = self.middle[:, None] + self.half[:, None] * t[:, None]
        values = along_axes(self.values, dims * [chebvander(t, len(self.points) - 1)])
        return list(np.moveaxis(axes, -1, 0)), values


def roots(m: int, dims: int) -> Array:
    """Products of the roots of T_m on the axes, (m^D, D)."""
    return np.stack(np.meshgrid(*dims * [chebpts1(m)], indexing="ij"), -1).reshape(-1, dims)


def coefficients(values: Array, dims: int) -> Array:
    """Chebyshev coefficients (…, m, …, m) of values (…, m^D) at the `roots`."""
    m = round(values.shape[-1] ** (1 / dims))
    inverse = np.linalg.inv(chebvander(chebpts1(m), m - 1))
    return along_axes(values.reshape(*values.shape[:-1], *dims * [m]), dims * [inverse])


def along_axes(values: Array, maps: list[Array]) -> Array:
    """(…, q, …, q) with a map (r, q) applied along each of its last axes, (…, r, …, r)."""
    for d, one in enumerate(maps):
        axis = values.ndim - len(maps) + d
        values = np.moveaxis(np.moveaxis(values, axis, -1) @ one.T, -1, axis)
    return values

r"""Posteriors against the exact ones, on one grid.

Posteriors are compared on the union of both fine grids: the shift of the mean in exact widths, the
ratio of the widths, the total variation TV = ½∫|p − q| (the best classifier between the two is
right with probability ½ + TV/2; Lopez-Paz & Oquab, arXiv:1610.06545) and KL(p‖q).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from physgen.posterior.grid import GridPosterior
from physgen.posterior.interpolation import integral
from simulators.base import Array

__all__ = ["Agreement", "agreement"]

AT_ONCE = 2**22
"""Points of the common grids that are held at once."""


class Agreement(NamedTuple):
    """n posteriors against the exact ones.

    Attributes:
        shift: (mean − exact mean) / exact standard deviation, (n, D).
        ratio: standard deviation / exact standard deviation, (n, D).
        tv: total variation, (n,).
        kl: KL(exact‖posterior) in nats, (n,).
    """

    shift: Array
    ratio: Array
    tv: Array
    kl: Array

    @property
    def c2st(self) -> Array:
        """Accuracy of the best classifier between the two, ½ + TV/2, (n,)."""
        return 0.5 + self.tv / 2


def agreement(exact: GridPosterior, model: GridPosterior) -> Agreement:
    """The model's posteriors of n observations against the exact ones, in the same order.

    Args:
        exact: exact posteriors, of D parameters.
        model: those to judge, on grids of their own.
    """
    width = exact.sd
    size = np.prod([a.shape[1] + b.shape[1] for a, b in zip(exact.axes, model.axes, strict=True)])
    step = max(1, AT_ONCE // int(size))
    parts = [
        _divergences(exact[i : i + step], model[i : i + step]) for i in range(0, len(exact), step)
    ]
    tv, kl = np.concatenate(parts, -1) if parts else np.empty((2, 0))
    return Agreement((model.mean - exact.mean) / width, model.sd / width, tv, kl)


def _divergences(exact: GridPosterior, model: GridPosterior) -> tuple[Array, Array]:
    """Total variation and KL on the union of both grids, (n,) each."""
    axes = tuple(
        np.sort(np.concatenate(pair, -1)) for pair in zip(exact.axes, model.axes, strict=True)
    )
    log_p, log_q = _normalised(exact, axes), _normalised(model, axes)
    p, q = np.exp(log_p), np.exp(log_q)
    ratio = np.where(p > 0, log_p, 0) - np.where(p > 0, log_q, 0)
    return integral(list(axes), abs(p - q)) / 2, integral(list(axes), p * ratio)


def _normalised(posterior: GridPosterior, axes: tuple[Array, ...]) -> Array:
    log_p = posterior.on(axes)
    mass = integral(list(axes), np.exp(log_p))
    return log_p - np.log(mass).reshape(-1, *[1] * len(axes))

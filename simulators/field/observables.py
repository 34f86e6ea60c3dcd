r"""What is measured on a periodic map x (L, L) of real numbers.

Its mean and variance over sites; the power spectrum, the mean of |x̃_k|² over the modes whose
wave number L|n|/2π lies within a half of 0, 1, 2, …, L/2; the correlation C(r), the mean of
x_i x_{i+r} over sites and both directions; the one-point law, as parts of the sites in bins; and
peaks, sites above all of their eight neighbours. Expectations are exact: all but those of peaks
follow from the covariance E[x_i x_{i+r}] or from the law of one site.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from simulators.base import Array, Conditional, Observable

if TYPE_CHECKING:
    from simulators.field.gaussian import GaussianField

__all__ = ["catalogue", "of_phi4", "peaks", "power_spectrum", "two_point"]

EDGES = np.linspace(-4, 4, 17)
"""Of the bins of the one-point law."""
NEIGHBOURS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]


def wave_numbers(size: int) -> Array:
    """Which bin each mode of a map is in, (size, size); −1 beyond size//2."""
    n = np.fft.fftfreq(size, 1 / size)
    bin_ = np.rint(np.hypot(n[:, None], n)).astype(int)
    return np.where(bin_ <= size // 2, bin_, -1)


def binned(modes: Array) -> Array:
    """Means of something of all modes, (n, L, L), over the bins of wave numbers, (n, L//2 + 1)."""
    size = modes.shape[-1]
    bins, wanted = wave_numbers(size).ravel(), np.arange(-1, size // 2 + 1)
    in_order = modes.reshape(len(modes), -1)[:, np.argsort(bins, kind="stable")]
    last = np.cumsum((bins == wanted[:, None]).sum(1)).tolist()
    return np.stack([in_order[:, first:end].mean(1) for first, end in pairwise(last)], 1)


def power_spectrum(x: Array) -> Array:
    """Mean |x̃_k|² of wave numbers 0, 1, …, L//2 of maps (n, L, L), (n, L//2 + 1)."""
    return binned(np.abs(np.fft.fft2(np.asarray(x, float), norm="ortho")) ** 2)


def two_point(x: Array) -> Array:
    """C(r), r = 0 … L//2, of maps (n, L, L), mean over both directions, (n, L//2 + 1)."""
    x = np.asarray(x, float)
    size = x.shape[-1]
    power = np.abs(np.fft.rfft2(x)) ** 2 / x[0].size
    both = np.fft.irfft2(power, s=x.shape[-2:])
    return 0.5 * (both[:, 0] + both[:, :, 0])[:, : size // 2 + 1]


def peaks(x: Array) -> Array:
    """Sites above all of their eight neighbours, a part of all, of maps (n, L, L), (n,)."""
    x = np.asarray(x)
    above = [x > np.roll(x, step, (1, 2)) for step in NEIGHBOURS]
    return np.all(above, 0).mean((1, 2))


def one_point(x: Array) -> Array:
    """Part of the sites in each bin, of maps (n, L, L), (n, 16)."""
    x = np.asarray(x)
    inside = [(x >= low) & (x < high) for low, high in pairwise(EDGES)]
    return np.stack([i.mean((1, 2)) for i in inside], 1)


def measured() -> dict[str, Observable]:
    """What is measured on any map, under their names."""
    return {
        "variance": Observable(
            lambda x: (np.asarray(x, float) ** 2).mean((1, 2)), "", r"\overline{x^2}",
            "mean square over sites",
        ),
        "mean": Observable(
            lambda x: x.mean((1, 2), dtype=float), "", r"\bar x", "mean over sites"
        ),
        "power_spectrum": Observable(
            power_spectrum, "", "P(k)", "power at wave number 0, 1, 2, …"
        ),
        "correlation": Observable(
            two_point, "", r"\langle x_i x_{i+r} \rangle", "correlation at r = 0, 1, 2, …"
        ),
        "one_point": Observable(
            one_point, "", "p(x_i)", "part of the sites in 16 bins from -4 to 4"
        ),
        "peaks": Observable(peaks, "", r"n_\mathrm{peak}", "sites above all eight neighbours"),
    }  # fmt: skip


def of_phi4() -> dict[str, Observable]:
    """The observables of a φ⁴ map under their names; its mean is the magnetisation."""
    found = measured()
    return found | {
        "mean": replace(
            found["mean"], latex="M/N", title="magnetisation per site",
            exact=lambda theta: np.zeros(len(theta)),
        ),
        "abs_mean": Observable(
            lambda x: abs(x.mean((1, 2), dtype=float)), "", r"|M|/N", "magnetisation without sign"
        ),
        "quartic": Observable(
            lambda x: (np.asarray(x, float) ** 4).mean((1, 2)), "", r"\overline{x^4}",
            "mean fourth power over sites",
        ),
    }  # fmt: skip


def _variance_given_mean(field: GaussianField) -> Conditional:
    """x̄² and a sum over all other modes: these are independent of x̄, the zero mode."""

    def moments(theta: Array, mean: Array) -> tuple[Array, Array]:
        power = np.exp(field.log_power(theta))[:, 1:] / field.sites
        count = field.shells.count[1:]
        return mean**2 + power @ count, np.sqrt(2 * power**2 @ count)

    return moments


def catalogue(field: GaussianField) -> dict[str, Observable]:
    """The observables of a map under their names, with their expectations given θ."""
    far = field.size // 2 + 1

    def law(theta: Array) -> Array:
        gaussian, _ = field.gaussian(np.tile(EDGES, (1, 1, 1)))
        at = (gaussian[0] + field.shift(theta)[:, None]) / np.sqrt(field.variance(theta))[:, None]
        return np.diff(ndtr(at))

    exact = {
        "mean": lambda theta: np.zeros(len(theta)),
        "variance": lambda theta: field.covariance(theta)[:, 0, 0],
        "power_spectrum": lambda theta: binned(np.fft.fft2(field.covariance(theta)).real),
        "correlation": lambda theta: field.covariance(theta)[:, 0, :far],
        "one_point": law,
    }
    given = {"variance": {"mean": _variance_given_mean(field)}}
    return {
        name: replace(o, exact=exact.get(name), given=given.get(name, {}))
        for name, o in measured().items()
    }

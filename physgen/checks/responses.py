"""Figures of many x at one θ, such as a specific heat, of rows whose θ are spread out.

Where rows share their θ, quantities are averaged over each θ. Else θ is cut in bins of equally
many rows, and in each the quantities are regressed on θ by a quadratic, whose value at the centre
is the mean there: what θ does within a bin does not count as fluctuation (local polynomial
regression, Cleveland 1979). Errors follow from residuals by the delta method.

Beside exact means and covariances errors are at least the exact ones: what is rare is not seen in
few rows, and residuals would tell too small an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import chi2

from simulators.base import Array, Response, Responses

__all__ = ["crossing_of", "least_shift", "response_curves"]

FEW, MANY = 120, 40
"""Rows of a bin at least, and bins at most."""
SHARED = 20
"""Rows a θ from which they count as rows of one θ."""
CLEAR = 0.3
"""Exact error over the figure beyond which a bin tells nothing of it."""
ALPHA = 1e-3
"""p below which figures differ from the exact ones."""
SHIFTS = np.geomspace(0.002, 0.5, 60)
"""Relative shifts of the coordinate that are tried as controls."""
STEP = 1e-6
STEEP, DEGREE, DRAWS = (0.6, 0.995), 3, 200
"""Part of the highest value of a curve within which a polynomial is fitted for a crossing; its
degree; draws that tell the error."""


class Binned(NamedTuple):
    """Means of quantities at some θ.

    Attributes:
        theta: (b, 1).
        means: (b, k).
        covariance: of the means, (b, k, k).
        weight: what the covariance of one row is multiplied by, (b,).
    """

    theta: Array
    means: Array
    covariance: Array
    weight: Array


def response_curves(theta: Array, values: Array, responses: Responses) -> dict[str, Any]:
    """Figures of rows at several θ, beside the exact ones where these are known: JSON data.

    Args:
        theta: (n, 1) of the rows.
        values: their quantities, (n, k).
        responses: what the simulator declares.
    """
    found = binned(theta, values)
    exact = responses.moments(found.theta) if responses.moments else None
    figures: dict[str, dict[str, Any]] = {}
    for name, response in responses.figures.items():
        value, se = _propagated(response, found.theta, found.means, found.covariance)
        figures[name] = {"value": value, "se": se, "exact": None, "error": None}
        if exact is not None:
            scaled = exact[1] * found.weight[:, None, None]
            figures[name]["exact"], figures[name]["error"] = _propagated(
                response, found.theta, exact[0], scaled
            )
    return {
        "theta": found.theta[:, 0],
        "at": responses.coordinate(found.theta),
        "figures": figures,
        "agreement": {
            name: _agreement(figure) for name, figure in figures.items() if exact is not None
        },
    }


def binned(theta: Array, values: Array) -> Binned:
    """Means of quantities (n, k) of rows at θ (n, 1): at each θ, or at the centres of bins."""
    distinct, which = np.unique(theta[:, 0], return_inverse=True)
    if len(distinct) * SHARED <= len(theta):
        groups = [(at, np.flatnonzero(which == i)) for i, at in enumerate(distinct)]
        parts = [_mean(values[rows]) for _, rows in groups]
    else:
        groups = _bins(theta[:, 0])
        parts = [_at_centre(theta[rows, 0] - at, values[rows]) for at, rows in groups]
    means, covariance, weight = (np.array(part) for part in zip(*parts, strict=True))
    return Binned(np.array([[at] for at, _ in groups]), means, covariance, weight)


def _bins(theta: Array) -> list[tuple[float, Array]]:
    """Centres of bins, and the rows of each, equally many."""
    order = np.argsort(theta)
    parts = np.array_split(order, min(MANY, max(1, len(theta) // FEW)))
    return [(float((theta[rows[0]] + theta[rows[-1]]) / 2), rows) for rows in parts]


def _mean(values: Array) -> tuple[Array, Array, float]:
    """Mean (k,), its covariance (k, k), and 1/n."""
    n = len(values)
    rest = values - values.mean(0)
    return values.mean(0), rest.T @ rest / (n * max(n - 1, 1)), 1 / n


def _at_centre(off: Array, values: Array) -> tuple[Array, Array, float]:
    """The same at θ = 0 of values (n, k) at θ (n,), by a quadratic."""
    scale = np.abs(off).max() or 1.0
    design = np.stack([np.ones(len(off)), off / scale, (off / scale) ** 2], axis=1)
    weights = np.linalg.pinv(design)
    rest = values - design @ (weights @ values)
    rest *= weights[0][:, None] * math.sqrt(len(off) / max(len(off) - 3, 1))
    return weights[0] @ values, rest.T @ rest, float(weights[0] @ weights[0])


def _propagated(
    response: Response, theta: Array, means: Array, covariance: Array
) -> tuple[Array, Array]:
    """A figure and its standard error, (b,) each, by the delta method."""
    slopes = []
    for j in range(means.shape[1]):
        step = STEP * np.maximum(np.abs(means[:, j]), STEP)
        up, down = means.copy(), means.copy()
        up[:, j] += step
        down[:, j] -= step
        rise = response.function(theta, up) - response.function(theta, down)
        slopes.append(rise / (2 * step))
    slope = np.nan_to_num(np.array(slopes).T)
    used = np.where((slope[:, :, None] * slope[:, None, :]) == 0, 0.0, covariance)
    variance = np.einsum("bi,bij,bj->b", slope, used, slope)
    return response.function(theta, means), np.sqrt(np.maximum(variance, 0))


def _agreement(figure: Mapping[str, Array]) -> dict[str, Any] | None:
    """χ² of a figure beside the exact one, over bins that tell of it; None if there are none.

    What is rare is seen too seldom or too often: the larger error of the exact one and of that
    which residuals tell holds for both.
    """
    some = informative(figure)
    if not some.any():
        return None
    error = larger_error(figure)[some]
    pulls = (figure["value"] - figure["exact"])[some] / error
    total, n = float((pulls**2).sum()), int(some.sum())
    worst = np.flatnonzero(some)[np.argmax(np.abs(pulls))]
    return {"chi2": total, "bins": n, "p_value": float(chi2.sf(total, n)), "worst": int(worst),
            "pull": float(pulls[np.argmax(np.abs(pulls))])}  # fmt: skip


def larger_error(figure: Mapping[str, Array]) -> Array:
    """The exact error of a figure or that which residuals tell, (b,)."""
    return np.maximum(figure["error"], figure["se"])


def informative(figure: Mapping[str, Array]) -> Array:
    """Bins (b,) in which a figure is known well enough to tell anything."""
    return (figure["error"] > 0) & (figure["error"] < CLEAR * np.abs(figure["exact"]))


def least_shift(curves: Mapping[str, Any], responses: Responses, tests: int = 1) -> float | None:
    """The control: the least relative shift of the coordinate that these rows would tell.

    Figures of as many rows at θ that are off by it would have a χ² beyond the level, in the mean.

    Args:
        curves: what `response_curves` has of them.
        responses: what the simulator declares.
        tests: how many figures are judged together, among which the level is shared out.

    Returns:
        The shift; None where no shift would be told.
    """
    theta = np.asarray(curves["theta"], float)[:, None]
    at, order = responses.coordinate(theta), np.argsort(responses.coordinate(theta))
    figures = {n: f for n, f in curves["figures"].items() if f["exact"] is not None}
    for shift in SHIFTS:
        for figure in figures.values():
            some = informative(figure)
            moved = np.interp(at * (1 + shift), at[order], figure["exact"][order])
            pulls = ((moved - figure["exact"]) / np.where(some, larger_error(figure), 1))[some]
            if some.any() and (pulls**2).sum() + some.sum() > chi2.isf(ALPHA / tests, some.sum()):
                return float(shift)
    return None


def crossing_of(
    at: tuple[Array, Array], one: tuple[Array, Array], other: tuple[Array, Array], seed: int = 0
) -> tuple[float, float] | None:
    """Where two curves cross, and its standard error.

    A cubic through the upper part of each, weighted by its errors; those of the crossing by draws
    of both curves, and larger where the curves scatter more about their cubics than that.

    Args:
        at: where each is known, (b,) and (c,).
        one: values and standard errors of one, (b,) each.
        other: of the other, (c,) each.
        seed: of the draws that tell the error.

    Returns:
        None where they do not cross, or not in most of the draws.
    """
    rng = np.random.default_rng(seed)
    steep = [(v > STEEP[0] * v.max()) & (v < STEEP[1] * v.max()) for v, _ in (one, other)]
    if min(part.sum() for part in steep) < DEGREE + 2:
        return None
    parts = [
        (x[some], v[some], np.maximum(se[some], np.median(se[some]) / 10) + 1e-12)
        for x, (v, se), some in zip(at, (one, other), steep, strict=True)
    ]
    root = _root(parts)
    draws = [[(x, rng.normal(v, se), se) for x, v, se in parts] for _ in range(DRAWS)]
    found = [r for drawn in draws if (r := _root(drawn)) is not None]
    if root is None or len(found) < 0.9 * DRAWS:
        return None
    excess = max(1.0, float(np.mean([_scatter(*part) for part in parts])))
    return root, float(np.std(found)) * math.sqrt(excess)


def _scatter(x: Array, value: Array, se: Array) -> float:
    """χ² a degree of freedom of a curve about its polynomial."""
    fitted = np.polyval(np.polyfit(x - x.mean(), value, DEGREE, w=1 / se), x - x.mean())
    return float((((value - fitted) / se) ** 2).sum() / (len(x) - DEGREE - 1))


def _root(parts: Sequence[tuple[Array, Array, Array]]) -> float | None:
    """Where polynomials through two curves (x, value, error) cross, where both are known."""
    low, high = (max(x.min() for x, *_ in parts), min(x.max() for x, *_ in parts))
    centre = (low + high) / 2
    one, other = (np.polyfit(x - centre, v, DEGREE, w=1 / se) for x, v, se in parts)
    roots = np.roots(one - other)
    real = centre + roots[np.abs(roots.imag) < 1e-9].real
    inside = real[(real > low) & (real < high)]
    return float(inside[np.argmin(np.abs(inside - centre))]) if len(inside) else None

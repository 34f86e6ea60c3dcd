r"""Coverage of credible regions: does the densest region of mass c hold θ in the part c of cases?

Of each posterior is kept the *credibility* of θ, the mass of the region that is denser than θ: the
smallest credible region that holds it. Its distribution is the expected coverage, uniform if
posteriors are right (Hermans et al. 2021, arXiv:2110.06581). Of draws it is the rank of log p(θ|x)
among log p of the draws, which is to say SBC for log p. It sees posteriors that are too sure, or
not sure enough, all parameters together; a small shift hardly.

Regions and densities go along with an affine map, so that θ in an image of a posterior has the
credibility of its preimage in the posterior itself.

Controls (:mod:`.controls`): posteriors that are 30 % too narrow, in all directions or in one, or
of a wrong correlation. Of a thousand rows of two to ten parameters it caught them all, every time,
and a wrong correlation of six or ten already of two hundred.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from physgen.checks.calibration.check import CalibrationCheck, Points, Run, Section, table_row
from physgen.checks.calibration.uniformity import coverage_picture, uniform_tests
from physgen.reporting.view import Labels, PagePart
from simulators.base import Array

if TYPE_CHECKING:
    from physgen.posterior.density import GridPosterior

__all__ = ["COVERAGE", "along", "credibility", "mass_above", "regions_part"]

SMALLEST = np.finfo(float).tiny


def credibility(posterior: GridPosterior, c: Array, around: Array) -> Array:
    """Mass of what is denser than θ in its posterior, (n,).

    Args:
        posterior: posteriors of n rows.
        c: coordinates of what they are of, (n, D); 1 where they are beyond the prior's ends.
        around: not needed.
    """
    prior = posterior.prior
    at = np.exp(posterior.on(tuple(c.clip(*prior.ends).T[..., None]))).reshape(len(c))
    return mass_above(posterior, posterior.density, np.where(prior.reaches(c), at, 0))


def _sparser(points: Points) -> Array:
    """Less where the posterior is denser, (n, k)."""
    return -points.log_density


def mass_above(posterior: GridPosterior, values: Array, level: Array) -> Array:
    """Mass of where a function is above a level, parts of cells included, (n,).

    Args:
        posterior: posteriors of n rows.
        values: of the function on their grids, (n, G₁, …, G_D).
        level: for each row, (n,).
    """
    dims = len(posterior.axes)
    mass, low, high = posterior.density, values, values
    for d, axis in enumerate(posterior.axes):
        mass = _pairs(mass, 1 + d, np.add) / 2 * along(np.diff(axis), d, dims)
        low, high = _pairs(low, 1 + d, np.minimum), _pairs(high, 1 + d, np.maximum)
    level, span = along(level, -1, dims), high - low
    part = np.where(low < level, (high - level).clip(0, span) / np.maximum(span, SMALLEST), 1)
    axes = tuple(range(1, mass.ndim))
    return (mass * part).sum(axes) / mass.sum(axes)


def along(values: Array, d: int, dims: int) -> Array:
    """Values (n, G) along axis d of `dims`, or (n,) along none, d = −1: (n, 1, …, G, …, 1)."""
    return values.reshape(len(values), *(-1 if e == d else 1 for e in range(dims)))


def _pairs(values: Array, axis: int, function: np.ufunc) -> Array:
    """A function of each two neighbours along an axis."""
    moved = np.moveaxis(values, axis, 0)
    return np.moveaxis(function(moved[1:], moved[:-1]), 0, axis)


def _measure(run: Run) -> dict[str, Any]:
    return uniform_tests(*run.ranked("coverage"))


def _rows(section: Section, result: Section) -> Iterator[dict[str, Any]]:
    about = "densest regions (SBC for log p)"
    yield table_row("coverage", about, section, ("narrow", "thin", "correlated"))


def _part(section: Section, result: Section, labels: Labels) -> PagePart:
    return regions_part(section, result, "densest regions")


def regions_part(section: Section, result: Section, title: str) -> PagePart:
    """Regions of a mass, under their title beside those of other checks.

    Args:
        section: figures of a check of regions.
        result: all figures of the calibration.
        title: which regions.
    """
    return PagePart(
        "regions",
        "Coverage",
        "No coverage: the rows have no θ.",
        coverage_picture(section, result, title),
        "Coverage of credible regions",
        "How often a region of that posterior mass holds the true θ: the densest region, and the "
        "region nearer to a random point than θ is (TARP). On the diagonal if posteriors are "
        "right, below it if they are too sure. Neither sees a small shift; the ranks do.",
    )


COVERAGE = CalibrationCheck(
    "coverage", _measure, _rows, _part, statistic=_sparser, rank=credibility, affine=True
)

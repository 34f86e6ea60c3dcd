r"""TARP, tests of accuracy with random points: is θ no nearer to one than its posterior's draws?

Of each posterior is kept the mass that is nearer to a random point r of the prior than θ is,
distances being those of the prior's own coordinates. It is uniform if posteriors are right; it
needs no density, and with enough points it is not only necessary but sufficient (Lemos et al.
2023, arXiv:2302.03026).

Control: posteriors that are 30 % too narrow. It looks along one direction of each posterior,
towards r, and hardly sees what is wrong in few directions, or between parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from physgen.checks.calibration.check import CalibrationCheck, Points, Run, Section, table_row
from physgen.checks.calibration.coverage import along, mass_above, regions_part
from physgen.checks.calibration.uniformity import uniform_tests
from physgen.reporting.view import Labels, PagePart
from simulators.base import Array

if TYPE_CHECKING:
    from physgen.posterior.density import GridPosterior

__all__ = ["TARP", "mass_nearer"]


def mass_nearer(posterior: GridPosterior, c: Array, around: Array) -> Array:
    """Mass of what is nearer to a point than θ is, (n,).

    Args:
        posterior: posteriors of n rows.
        c: coordinates of what they are of, (n, D).
        around: those of the point of each row, (n, D).
    """
    dims, near = c.shape[1], np.zeros(1)
    for d, axis in enumerate(posterior.axes):
        near = near - along((axis - around[:, [d]]) ** 2, d, dims)
    return mass_above(posterior, near, -((c - around) ** 2).sum(-1))


def _distance(points: Points) -> Array:
    """From the random point, squared, (n, k)."""
    return ((points.c - points.around) ** 2).sum(-1)


def _measure(run: Run) -> dict[str, Any]:
    return uniform_tests(*run.ranked("tarp"))


def _rows(section: Section, result: Section) -> Iterator[dict[str, Any]]:
    yield table_row("TARP", "distance from random points", section, ("narrow",))


def _part(section: Section, result: Section, labels: Labels) -> PagePart:
    return regions_part(section, result, "TARP")


TARP = CalibrationCheck("tarp", _measure, _rows, _part, statistic=_distance, rank=mass_nearer)

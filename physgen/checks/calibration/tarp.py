r"""TARP, tests of accuracy with random points: is θ no nearer to one than its posterior's draws?

Of each posterior is kept the mass that is nearer to a random point r of the prior's box than θ is,
distances in units of the box. It is uniform if posteriors are right; it needs no density, and with
enough points it is not only necessary but sufficient (Lemos et al. 2023, arXiv:2302.03026).

Control: posteriors that are 30 % too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from physgen.checks.calibration.check import CalibrationCheck, Run, Section, table_row
from physgen.checks.calibration.coverage import along, mass_above, regions_part
from physgen.checks.calibration.uniformity import uniform_tests
from physgen.reporting.view import Labels, PagePart
from simulators.base import Array
from simulators.prior import Prior

if TYPE_CHECKING:
    from physgen.posterior.density import GridPosterior

__all__ = ["TARP", "mass_nearer"]


def mass_nearer(posterior: GridPosterior, theta: Array, around: Array, prior: Prior) -> Array:
    """Mass of what is nearer to a point than θ is, (n,).

    Args:
        posterior: posteriors of n rows.
        theta: what they are of, (n, D).
        around: the point of each row, (n, D).
        prior: its box is the unit of distances.
    """
    point, dims, near = prior.to_coordinates(around), len(prior), np.zeros(1)
    for d, axis in enumerate(posterior.axes):
        near = near - along((axis - point[:, [d]]) ** 2, d, dims)
    return mass_above(posterior, near, -((prior.to_coordinates(theta) - point) ** 2).sum(-1))


def _measure(run: Run) -> dict[str, Any]:
    return uniform_tests(*run.ranked("tarp"))


def _rows(section: Section, result: Section) -> Iterator[dict[str, Any]]:
    yield table_row("TARP", "distance from random points", section, ("narrow",))


def _part(section: Section, result: Section, labels: Labels) -> PagePart:
    return regions_part(section, result, "TARP")


TARP = CalibrationCheck("tarp", _measure, _rows, _part, rank=mass_nearer)

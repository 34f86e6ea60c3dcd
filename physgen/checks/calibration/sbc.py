r"""Simulation-based calibration (SBC): is the rank of θ in its posterior uniform?

If θ is drawn from the prior and x from p(x|θ), then the distribution function of a right
posterior at θ, F(θ_d|x) of each parameter, is uniform on [0, 1] (Cook, Gelman & Rubin, J. Comput.
Graph. Stat. 15 (2006) 675; Talts et al. 2018, arXiv:1804.06788). On a grid it is exact, else a
rank among draws. Posteriors that are too narrow make a bowl of the histogram, shifted ones a
slope.

Controls: posteriors that are 30 % too narrow, and shifted by 0.3 widths. To what is wrong between
parameters it is blind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from physgen.checks.calibration.check import (
    APART,
    CalibrationCheck,
    Points,
    Run,
    Section,
    parameter_rows,
)
from physgen.checks.calibration.uniformity import (
    rank_panels,
    rank_pictures,
    uniform_tests,
)
from physgen.reporting.view import Labels, PagePart, Picture
from simulators.base import Array

if TYPE_CHECKING:
    from physgen.posterior.density import GridPosterior

__all__ = ["SBC", "rank_of_theta"]


CAUGHT = ("narrow", "shifted")


def rank_of_theta(posterior: GridPosterior, c: Array, around: Array) -> Array:
    """Posterior probability of less than θ, parameter by parameter, (n, D).

    Args:
        posterior: posteriors of n rows.
        c: coordinates of what they are of, (n, D).
        around: not needed.
    """
    return posterior.cdf(posterior.prior.from_coordinates(c)[:, None])[:, 0]


def _each(points: Points) -> Array:
    """The parameters themselves, (n, k, D)."""
    return points.c


def _measure(run: Run) -> dict[str, Any]:
    data, own, controls = run.ranked("sbc")
    return {
        name: uniform_tests(
            data if data is None else data[:, d],
            own if own is None else own[:, d],
            {k: controls[k][:, d] for k in CAUGHT},
        )
        for d, name in enumerate(run.prior.names)
    }


def _rows(section: Section, result: Section) -> Iterator[dict[str, Any]]:
    yield from parameter_rows("SBC", "rank of θ", section, CAUGHT)


def _part(section: Section, result: Section, labels: Labels) -> PagePart:
    return PagePart(
        "sbc",
        "Ranks of the true θ",
        "No ranks: the rows have no θ.",
        _pictures(section, result, labels),
        "Ranks of the true parameter in its posterior",
        "Simulation-based calibration. First: posterior probability of less than the true value, "
        "a histogram; flat if posteriors are right, a bowl if they are too narrow, a slope if "
        "they are shifted. Then: the same as a distribution function less the uniform one, with "
        "the band that 95 % of uniform samples keep within at all levels at once.",
    )


def _pictures(section: Section, result: Section, labels: Labels) -> tuple[Picture, ...]:
    """Two of each of a few parameters; of more, a panel of each in two pictures."""
    if len(section) > APART:
        return rank_panels({labels.symbol(n): t for n, t in section.items()}, result)
    of = "posterior probability of less than the true"
    each = (rank_pictures(t, result, f"{of} {labels.symbol(n)}") for n, t in section.items())
    return tuple(picture for pictures in each for picture in pictures)


SBC = CalibrationCheck("sbc", _measure, _rows, _part, statistic=_each, rank=rank_of_theta)

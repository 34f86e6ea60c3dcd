r"""Simulation-based calibration (SBC): is the rank of θ in its posterior uniform?

If θ is drawn from the prior and x from p(x|θ), then the distribution function of a right
posterior at θ, F(θ_d|x) of each parameter, is uniform on [0, 1] (Cook, Gelman & Rubin, J. Comput.
Graph. Stat. 15 (2006) 675; Talts et al. 2018, arXiv:1804.06788). Here it is exact, not a rank
among finitely many draws. Posteriors that are too narrow make a bowl of the histogram, shifted
ones a slope.

Controls: posteriors that are 30 % too narrow, and shifted by 0.3 widths.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from physgen.checks.calibration.check import (
    CalibrationCheck,
    Run,
    Section,
    by_parameter,
    table_row,
)
from physgen.checks.calibration.uniformity import rank_pictures, uniform_tests
from physgen.reporting.view import Labels, PagePart
from simulators.base import Array
from simulators.prior import Prior

if TYPE_CHECKING:
    from physgen.posterior.density import GridPosterior

__all__ = ["SBC", "rank_of_theta"]


def rank_of_theta(posterior: GridPosterior, theta: Array, around: Array, prior: Prior) -> Array:
    """Posterior probability of less than θ (n, D), parameter by parameter, (n, D).

    Args:
        posterior: posteriors of n rows.
        theta: what they are of.
        around: not needed.
        prior: not needed.
    """
    return posterior.cdf(theta[:, None])[:, 0]


def _measure(run: Run) -> dict[str, Any]:
    data, own, controls = run.ranked("sbc")
    return {
        name: uniform_tests(
            data if data is None else data[:, d],
            own if own is None else own[:, d],
            {k: ranks[:, d] for k, ranks in controls.items()},
        )
        for d, name in enumerate(run.prior.names)
    }


def _rows(section: Section, result: Section) -> Iterator[dict[str, Any]]:
    for name, test in section.items():
        yield table_row(
            by_parameter("SBC", name, section), "rank of θ", test, ("narrow", "shifted")
        )


def _part(section: Section, result: Section, labels: Labels) -> PagePart:
    return PagePart(
        "sbc",
        "Ranks of the true θ",
        "No ranks: the rows have no θ.",
        tuple(
            picture
            for name, test in section.items()
            for picture in rank_pictures(
                test, result, f"posterior probability of less than the true {labels.symbol(name)}"
            )
        ),
        "Ranks of the true parameter in its posterior",
        "Simulation-based calibration. Left: posterior probability of less than the true value, a "
        "histogram; flat if posteriors are right, a bowl if they are too narrow, a slope if they "
        "are shifted. Right: the same as a distribution function less the uniform one, with the "
        "band that 95 % of uniform samples keep within at all levels at once.",
    )


SBC = CalibrationCheck("sbc", _measure, _rows, _part, rank=rank_of_theta)

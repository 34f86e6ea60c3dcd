"""What the checks of a calibration come to: one table, warnings, and a line.

A check fails where its p-value in the data is below `ALPHA`. Where a control that it must catch is
missed, the rows are too few for it to say anything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scipy.stats import kstest

from physgen.checks.calibration.bartlett import BARTLETT
from physgen.checks.calibration.check import FAILED, NO_VERDICT, PASSED, CalibrationCheck
from physgen.checks.calibration.coverage import COVERAGE
from physgen.checks.calibration.energy import ENERGY_SCORE
from physgen.checks.calibration.lc2st import LC2ST
from physgen.checks.calibration.misspecification import MISSPECIFICATION
from physgen.checks.calibration.predictive import PREDICTIVE
from physgen.checks.calibration.sbc import SBC
from physgen.checks.calibration.tarp import TARP
from physgen.checks.calibration.uniformity import ALPHA, prior_ranks
from physgen.reporting.view import CONTROLS, Labels, PagePart
from simulators.base import Array
from simulators.prior import Prior

__all__ = [
    "CHECKS",
    "calibration_summary",
    "calibration_table",
    "calibration_warnings",
    "page_parts",
]

CHECKS: tuple[CalibrationCheck, ...] = (
    SBC, COVERAGE, TARP, ENERGY_SCORE, LC2ST, BARTLETT, PREDICTIVE, MISSPECIFICATION,
)  # fmt: skip
"""All checks, in the order in which they are made and shown."""


def calibration_table(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All checks on one table: p-value in the data and in own x, controls, verdict."""
    for check in CHECKS:
        if section := result[check.name]:
            yield from check.rows(section, result)


def page_parts(metrics: Mapping[str, Any], labels: Labels) -> list[PagePart]:
    """What each check has to show of a calibration, older ones without it included."""
    return [check.part(metrics.get(check.name) or {}, metrics, labels) for check in CHECKS]


def calibration_warnings(
    result: Mapping[str, Any], theta: Array | None, prior: Prior
) -> Iterator[str]:
    """What a reader must know before the figures.

    Args:
        result: figures of all checks, and their table.
        theta: of the rows, (n, D); None if that is not known.
        prior: of θ.
    """
    if theta is None:
        yield "the rows have no theta, so that only what their x tell is judged"
    else:
        p = [float(kstest(u, "uniform").pvalue) for u in prior_ranks(prior, theta).T]
        off = [f"{n} (p {v:.1g})" for n, v in zip(prior.names, p, strict=True) if v < ALPHA]
        if off:
            yield (
                f"theta of the rows does not follow the prior: {', '.join(off)}; ranks say "
                "nothing, so take rows of physgen simulate, with --prior for a part of the box"
            )
    if result["left_out"]:
        yield f"{result['left_out']:,} rows have theta outside the prior and are left out"
    if result["resolved"] < 1:
        part = 100 * (1 - result["resolved"])
        grid = result["posteriors"] == "grid"
        what = "the grid does not resolve" if grid else "draws do not tell"
        yield f"{what} {part:.2g} % of the posteriors; widths may be off"
    missed = [
        f"{check['name']} ({', '.join(_missed(check))})"
        for check in result["checks"]
        if not check["caught"]
    ]
    if missed:
        yield (
            f"{result['rows']:,} rows are too few to catch the controls of {'; '.join(missed)}: "
            "take more"
        )
    if wrong := [c["name"] for c in result["checks"] if (c["own_p_value"] or 1) < ALPHA]:
        yield (
            f"on x of its own the surrogate fails {', '.join(wrong)}: its log p is not that of "
            "what it draws; more --draws may help"
        )


def _missed(check: Mapping[str, Any]) -> Iterator[str]:
    for name, control in check["controls"].items():
        if control["required"] and not control["caught"]:
            yield CONTROLS[name]


def calibration_summary(result: Mapping[str, Any]) -> str:
    """The verdicts in one line."""
    found = result["checks"]
    by = {v: [c for c in found if c["verdict"] == v] for v in (PASSED, FAILED, NO_VERDICT)}
    words = []
    if by[PASSED]:
        words.append(f"passes {_named(by[PASSED])}")
    if by[FAILED]:
        words.append(f"fails {_named(by[FAILED], p=True)}")
    if by[NO_VERDICT]:
        words.append(f"no verdict on {_named(by[NO_VERDICT])}")
    words += filter(None, (c.words(s) for c in CHECKS if (s := result[c.name])))
    gained = result["information"]
    if gained and gained["excluded"]:
        words.append(f"{gained['excluded']:,} posteriors exclude their θ")
    elif gained:
        most = f" of {gained['exact']:.3f}" if gained["exact"] else ""
        words.append(f"information {gained['gain']:.3f} ± {gained['se']:.3f}{most} nats")
    return "; ".join([*words, *result["warnings"]])


def _named(some: list[Mapping[str, Any]], p: bool = False) -> str:
    return ", ".join(c["name"] + (f" (p {c['p_value']:.1g})" if p else "") for c in some)

r"""Bartlett's identities: is log q(x|θ) the law that x is drawn from? No exact answer is needed.

Differentiating ∫ q(x|θ) dx = 1 once and twice gives, for x drawn from q(·|θ) itself,

    E ∂_θ log q = 0,      E[∂²_θ log q] + E[(∂_θ log q)²] = 0

(Bartlett, Biometrika 40 (1953) 12). A log q that is not normalised alike for all θ (a bound that
is not tight, a log Z that is off, too few draws) breaks the first; one that is too sharp or too
flat breaks the second. On x of the data the same numbers speak of the surrogate: with the
information I = E[(∂_θ log q)²], a mean score s moves posteriors by s/I, hence by s·σ of their
widths where they are about σ = 1/√I; and a variance of the score above −E[∂²_θ log q] says that
posteriors are too narrow (White, Econometrica 50 (1982) 1).

Derivatives are central differences in the prior's own coordinates of θ, with the same random
numbers on both sides, a tenth of a posterior width apart, and are told in units of that width. The
mean score is tested in bins of θ, of equal probability: two biases of opposite sign would cancel.

Controls, on x of the surrogate itself: log q/0.7², whose posterior is 30 % too narrow, must break
the second; log q(x|θ_d + 0.3σ_d) the first, of each parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.stats import chi2, norm, skew, t

from physgen.checks.calibration.check import (
    CalibrationCheck,
    Run,
    Section,
    caught,
    parameter_rows,
)
from physgen.checks.calibration.controls import NARROW, SHIFT
from physgen.checks.calibration.uniformity import prior_ranks
from physgen.checks.estimate import bins, estimate
from physgen.reporting.view import Column, Labels, PagePart, TableView, Tile, Words
from simulators.base import Array
from simulators.prior import Prior

if TYPE_CHECKING:
    from physgen.checks.calibration.target import Target

__all__ = ["BARTLETT", "Derivatives", "bartlett", "derivatives", "identities"]

WIDTHS_APART = 0.1
"""Of a posterior width: the error of a derivative is of second order in it."""
BINS, ROWS = 5, 40
"""Bins of θ at most, and rows of each at least."""


class Derivatives(NamedTuple):
    """Of log q(x|θ), in units of posterior widths.

    Attributes:
        score: σ_d ∂_d log q, (n, D).
        curvature: σ_d² ∂_d² log q, (n, D).
    """

    score: Array
    curvature: Array


def derivatives(
    log_prob: Callable[[Array], Array], c: Array, width: Array, shift: float = 0.0
) -> Derivatives:
    """Derivatives at points c (n, D) by central differences, σ the width (D,).

    Args:
        log_prob: c (n, D) → log q(x_i|θ_i), (n,), with the same random numbers each time.
        c: where.
        width: a posterior width of each parameter.
        shift: by how many widths each parameter is off in its own derivatives; the second ones
            are NaN then.
    """
    middle = np.nan if shift else log_prob(c)
    first, second = [], []
    for step in np.diag(width):
        h, at = WIDTHS_APART * step, c + shift * step
        above, below = log_prob(at + h), log_prob(at - h)
        with np.errstate(invalid="ignore"):  # −∞ on both sides
            first.append((above - below) / (2 * WIDTHS_APART))
            second.append((above - 2 * middle + below) / WIDTHS_APART**2)
    return Derivatives(np.stack(first, -1), np.stack(second, -1))


def identities(found: Derivatives, theta: Array, prior: Prior) -> list[dict[str, Any]]:
    """Mean score, information and p-values of both identities, for each parameter.

    Args:
        found: derivatives of n rows; those that are not finite are left out.
        theta: θ of these rows, (n, D).
        prior: of θ, in whose bins the mean score is tested.
    """
    table = []
    for d, u in enumerate(prior_ranks(prior, theta).T):
        fine = np.isfinite(found.score[:, d]) & ~np.isinf(found.curvature[:, d])
        s, h, at = found.score[fine, d], found.curvature[fine, d], u[fine]
        count = int(np.clip(len(s) // ROWS, 1, BINS))
        parts = [r for *_, r in bins(at, 0, 1, count)]
        mean, both = estimate(s), estimate(s**2 + h)
        z = np.array([norm.isf(_tail(s[rows])) for rows in parts])
        table.append(
            {
                "mean": mean.value,
                "mean_se": mean.se,
                "mean_p": float(chi2.sf(np.nansum(z**2), max(1, np.isfinite(z).sum()))),
                "variance": float((s**2).mean()),
                "curvature": float(-h.mean()),
                "sum": both.value,
                "sum_se": both.se,
                "sum_p": 2 * _tail(s**2 + h),
            }
        )
    return table


def _tail(values: Array) -> float:
    """Half the p-value of a mean of 0, ½ at most; NaN of fewer than three.

    By Student's t, after Hall's transformation (J. R. Stat. Soc. B 54 (1992) 221), for values may
    be skew: squares of scores are, and a plain t test of them errs tenfold at p = 0.001.
    """
    n, sd = len(values), values.std()
    if n < 3 or not sd > 0:
        return np.nan
    s, skewness = values.mean() / sd, skew(values)
    z = s + skewness * s**2 / 3 + skewness**2 * s**3 / 27 + skewness / (6 * n)
    return float(t.sf(abs(z) * np.sqrt(n), n - 1))


def bartlett(
    target: Target,
    theta: Array,
    own: Array | None,
    x: Array | None,
    prior: Prior,
    width: Array,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Bartlett's identities on x of the surrogate's own and of the data, one of them at least.

    Args:
        target: what gives log q, up to a function of x.
        theta: (n, D) what all x were drawn at; those near the prior's ends are left out.
        own: one x of its own for each, (n, *x_shape), on which the controls are made.
        x: one x of the data for each.
        prior: of θ.
        width: a posterior width of each parameter, (D,), in the prior's coordinates.
        seed: seed of the random draws of each log q.

    Returns:
        Parameter → figures of the surrogate's own x ("own"), of the data ("data"), p-values of
        the controls and whether they are caught.
    """
    c = prior.to_coordinates(theta)
    lowest, highest = c - WIDTHS_APART * width, c + (SHIFT + WIDTHS_APART) * width
    keep = prior.reaches(lowest) & prior.reaches(highest)
    c, theta = c[keep], theta[keep]

    def of(rows: Array, shift: float = 0.0) -> Derivatives:
        log_density = target.log_density(rows[keep], np.arange(len(c)), seed)

        def log_prob(at: Array) -> Array:
            return log_density(prior.from_coordinates(at)[:, None])[:, 0]

        return derivatives(log_prob, c, width, shift)

    def table(found: Derivatives) -> list[dict[str, Any]]:
        return identities(found, theta, prior)

    base = x if own is None else own
    if base is None:
        raise ValueError("bartlett: needs x")
    right, shifted = of(base), table(of(base, SHIFT))
    narrow = table(Derivatives(right.score / NARROW**2, right.curvature / NARROW**2))
    nothing = [None] * len(prior)
    ours = nothing if own is None else table(right)
    data = nothing if x is None else table(of(x) if own is not None else right)
    unit = prior.slope(np.median(c, 0)) if len(c) else np.full(len(prior), np.nan)
    return {
        name: {
            "rows": len(theta),
            "width": width[d] * unit[d],
            "own": ours[d],
            "data": data[d],
            "controls": {
                "shifted": caught(shifted[d]["mean_p"]),
                "narrow": caught(narrow[d]["sum_p"]),
            },
        }
        for d, name in enumerate(prior.names)
    }


def _measure(run: Run) -> dict[str, Any]:
    """Derivatives being told in widths of posteriors."""
    right, data, own = run.right, run.data, run.own
    return bartlett(
        run.target,
        np.asarray(right.theta),
        None if own is None else own.x,
        None if data.theta is None else data.x,
        run.prior,
        np.median(right.found.sd, 0),
        seed=run.seed + 1,
    )


def _rows(section: Section, result: Section) -> Iterator[dict[str, Any]]:
    for key, what, about, control in (
        ("mean_p", "mean score", "E ∂ log q = 0", "shifted"),
        ("sum_p", "information", "E ∂² log q = −Var ∂ log q", "narrow"),
    ):
        tests = {
            name: {k: {"p_value": s[k][key]} if s[k] else None for k in ("data", "own")}
            | {"controls": {control: s["controls"][control]}}
            for name, s in section.items()
        }
        yield from parameter_rows(what, about, tests, (control,))


def _part(section: Section, result: Section, labels: Labels) -> PagePart:
    columns = [
        Column(""),
        Column("x"),
        Column("mean score", "0; in 1 / width"),
        Column("p"),
        Column("Var ∂ log q", digits=3),
        Column("−E ∂² log q", digits=3),
        Column("their difference", "0"),
        Column("p"),
    ]
    rows = [
        (
            labels.letter(name), what, (s[key]["mean"], s[key]["mean_se"]), s[key]["mean_p"],
            s[key]["variance"], s[key]["curvature"], (s[key]["sum"], s[key]["sum_se"]),
            s[key]["sum_p"],
        )
        for name, s in section.items()
        for key, what in (("own", "its own"), ("data", "data"))
        if s[key]
    ]  # fmt: skip
    return PagePart(
        "score",
        "Bartlett's identities",
        "No scores in these metrics.",
        table=TableView(columns, rows) if rows else None,
        words=Words(
            "On x of its own a normalised likelihood obeys both by construction: the score "
            "∂ log q has mean 0, and its variance is the information −E ∂² log q. On x of the "
            "data a mean score that is not 0 says that the surrogate is biased, by about that "
            "many posterior widths; a variance above the information, that it is too sure. No "
            "exact answer is needed for this. The mean is tested in bins of θ, so that biases of "
            "opposite signs do not cancel."
        ),
        tiles=tuple(
            Tile(
                f"Mean score of {labels.letter(name)}",
                (s["data"]["mean"], s["data"]["mean_se"]),
                "1 / width",
                Words("0 is perfect: about how many widths posteriors are off, on average."),
            )
            for name, s in list(section.items())[:1]
            if s["data"]
        ),
    )


BARTLETT = CalibrationCheck("score", _measure, _rows, _part, share=0.03)

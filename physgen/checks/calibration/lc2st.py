r"""LC2ST, the local classifier two-sample test: at which x is the posterior wrong?

A classifier is asked whether θ of a pair (θ, x) is the true one or a draw of the posterior of x.
At one x, the mean square by which its answers to that posterior's draws differ from ½ is 0 where
the posterior is right (Linhart, Gramfort & Rodrigues 2023, arXiv:2306.03580). θ is told in widths
of its posterior and x by its posterior's mean and its observables, so that errors of a kind look
alike for all x and few rows suffice; the classifier is a logistic regression on products of pairs
of these. sbi's own, a network on x as it is, misses both controls at a thousand rows.

Under the null hypothesis θ and the draws are exchangeable. So what the statistic would be is told
by two draws in the places of θ and a draw, at the same x; this is exact, where the shuffled pairs
of sbi's null have an x twice in one class, in none in the other. The check's statistic is the mean
over some x. It is a sum of squares, as many as its mean and variance among the trials say; and
their mean is known no better than from K(K − 1) squares, for the trials share K draws: the tail is
that of an F law. At a single x there are few squares, whose tail is no heavier than that of one:
χ² with one degree of freedom and the trials' mean.

Controls (:mod:`.controls`): draws that are 30 % too close to their mean, or in one direction,
shifted by 0.3 widths, or of a wrong correlation. Of a thousand rows it catches the first and the
last always, the shift for one to three parameters only (33 to 90 % of the time for six or ten, of
which it is not asked), and one direction hardly.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import chi2, f

from physgen.checks.calibration.check import (
    APART,
    CONTROLS,
    CalibrationCheck,
    Run,
    Section,
    Seen,
    caught,
    table_row,
)
from physgen.checks.calibration.controls import Affine
from physgen.checks.estimate import evenly_ranked
from physgen.reporting.view import Column, Labels, PagePart, TableView, Words
from simulators.base import Array

__all__ = ["LC2ST", "LC2ST_DRAWS", "Pairs", "lc2st"]

LC2ST_DRAWS = 20
"""Draws of each posterior: of pairs of them the null is made."""
TRIALS, PLACES = 100, 10


class Pairs(NamedTuple):
    """θ and draws of n posteriors, in widths of these from their means.

    Attributes:
        true: (n, D).
        draws: (n, K, D).
        features: of x, (n, F).
    """

    true: Array
    draws: Array
    features: Array


def lc2st(
    data: Pairs | None,
    own: Pairs | None,
    controls: Mapping[str, Affine],
    shown: Array,
    seed: int,
) -> dict[str, Any] | None:
    """Test posteriors at some x.

    Args:
        data: of the data; None where their θ are not known.
        own: of x that the surrogate drew, which bear the controls; None where there are none.
        controls: name → how draws are made wrong.
        shown: which rows to test at, (P,).
        seed: seed of the trials.

    Returns:
        p-values of data, own x and controls, and of each x; None without sbi.
    """
    right = own or data
    if importlib.util.find_spec("sbi") is None or right is None:
        return None
    from physgen.sbi.manners import visiting

    with visiting(seed):
        null = _null(right, shown, seed)
        wrong = {
            name: _judged(right._replace(draws=affine.image(right.draws)), shown, null)
            for name, affine in controls.items()
        }
        found = {
            name: pairs
            and _judged(pairs, shown, null if pairs is right else _null(pairs, shown, seed))
            for name, pairs in (("data", data), ("own", own))
        }
    for control in wrong.values():
        control |= caught(control["p_value"])
    return found | {"rows": shown, "controls": wrong}


def _judged(pairs: Pairs, shown: Array, null: Array) -> dict[str, Any]:
    """p-values of all x together, and of each."""
    found = _statistic(pairs, pairs.true, pairs.draws[:, 0], shown)
    mean, variance = null.mean(), null.mean(1).var(ddof=1)
    k = pairs.draws.shape[1]
    p = f.sf(found.mean() / mean, 2 * mean**2 / variance, k * (k - 1))
    return {"p_value": float(p), "each": chi2.sf(found / null.mean(0), 1)}


def _null(pairs: Pairs, shown: Array, seed: int) -> Array:
    """The statistic of pairs of draws, (TRIALS, P)."""
    every = list(itertools.combinations(range(pairs.draws.shape[1]), 2))
    some = np.random.default_rng(seed).permutation(len(every))[:TRIALS]
    draws = np.moveaxis(pairs.draws, 1, 0)
    return np.stack(
        [_statistic(pairs, draws[i], draws[j], shown) for i, j in (every[k] for k in some)]
    )


def _statistic(pairs: Pairs, true: Array, drawn: Array, shown: Array) -> Array:
    """How well a classifier tells θ from a draw, at each of some x (P,)."""
    from physgen.sbi.lc2st import lc2st_statistic

    x = pairs.features
    return lc2st_statistic(true, drawn, x, pairs.draws[shown], x[shown])


def _measure(run: Run) -> dict[str, Any] | None:
    """At x's spread over the first parameter."""

    def pairs(seen: Seen | None) -> Pairs | None:
        true, draws = (None, None) if seen is None else seen.in_widths
        if seen is None or true is None or draws is None:
            return None
        measured = [np.asarray(o(seen.x), dtype=float) for o in run.observables.values()]
        return Pairs(true, draws, np.column_stack([seen.found.mean, *measured]))

    theta = np.asarray(run.right.theta)
    shown = evenly_ranked(theta[:, 0], PLACES)
    found = lc2st(pairs(run.data), pairs(run.own), run.controls, shown, run.seed)
    return found and found | {"theta": theta[shown]}


def _rows(section: Section, result: Section) -> Iterator[dict[str, Any]]:
    few = len(section["theta"][0]) <= APART
    must = ("narrow", "correlated", *(["shifted"] if few else []))
    yield table_row("LC2ST", "a classifier at some x", section, must)


def _part(section: Section, result: Section, labels: Labels) -> PagePart:
    title, absent = "At which x?", "No local test: it needs rows with θ, and physgen[sbi]."
    if not section:
        return PagePart("lc2st", title, absent)
    tests = {
        Column("p, data"): section["data"],
        Column("p, own x"): section["own"],
    } | {Column("p, control", CONTROLS[k]): test for k, test in section["controls"].items()}
    known = {column: test["each"] for column, test in tests.items() if test}
    few = len(section["theta"][0]) <= APART
    at = [
        Words(", ".join("{}" for _ in theta), tuple(theta)) if few else f"row {row}"
        for row, theta in zip(section["rows"], section["theta"], strict=True)
    ]
    own = " Own x stand at the same θ as the data's." if section["own"] else ""
    return PagePart(
        "lc2st",
        title,
        absent,
        table=TableView(
            [Column(", ".join(labels.letters.values()) if few else "x of", digits=3), *known],
            list(zip(at, *known.values(), strict=True)),
        ),
        words=Words(
            "The local classifier two-sample test (LC2ST): at each x, can a classifier tell true "
            f"θ from draws of the posterior? Small p where it can.{own} In the table of all "
            "checks stands the p-value of these x together, which sees more than any of them."
        ),
    )


LC2ST = CalibrationCheck("lc2st", _measure, _rows, _part, share=0.04)

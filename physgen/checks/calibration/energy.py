r"""Energy score: is θ where a draw of its posterior would be, all parameters taken together?

With K draws θ_k of the posterior of x the energy score of a point θ,

    ES(θ) = E|θ_k − θ| − ½ E|θ_k − θ_l|,

is a proper score (Gneiting & Raftery, JASA 102 (2007) 359): its mean over the rows is least for
the right posteriors. Distances are in widths of each posterior, so that all rows and parameters
count alike. What it would be of a right posterior is told by the draws themselves, each of which
takes θ's place among the others, θ included. Of these K + 1 points, which are exchangeable if the
posterior is right, the score of point i against the others is

    ES_i = r_i/(K − 1) − Σ_j r_j/(2K(K − 1)),      r_i = Σ_j |θ_i − θ_j|,

the second term being equal for all. So the rank of ES(θ) among them is that of r: it is uniform,
whatever the number of parameters, and needs no density (a multivariate rank histogram: Gneiting,
Stanberry, Grimit, Held & Johnson, TEST 17 (2008) 211). It is high where θ lies too far out, which
is to say the posterior is too narrow, or off. Ties are made continuous at random.

Controls (:mod:`.controls`): draws that are 30 % too close to their mean, which must be caught; in
one direction only, which it catches of a thousand rows, too; shifted by 0.3 widths, or of a wrong
correlation, which it sees half of the time or less, so that these are left to others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from physgen.checks.calibration.check import (
    CONTROLS,
    CalibrationCheck,
    Run,
    Section,
    Seen,
    table_row,
)
from physgen.checks.calibration.controls import Affine
from physgen.checks.calibration.uniformity import rank_among, rank_pictures, uniform_tests
from physgen.checks.estimate import estimate
from physgen.reporting.view import Column, Labels, PagePart, TableView, Value, Words
from simulators.base import Array

__all__ = ["ENERGY_SCORE", "EnergyScores", "energy_scores"]

HELD = 2**21
"""Numbers of distances that are held at once."""
DRAWN = ("narrow", "shifted")
"""Controls in its pictures."""


class EnergyScores(NamedTuple):
    """Of n posteriors.

    Attributes:
        true: of θ, (n,).
        drawn: of each draw in the place of θ, (n, K).
    """

    true: Array
    drawn: Array


def energy_scores(true: Array, draws: Array) -> EnergyScores:
    """Energy scores of θ and, in its place, of each draw; the less, the nearer the middle.

    Args:
        true: θ, (n, D).
        draws: of its posterior, (n, K, D), two at least, in the same unit.
    """
    points = np.concatenate([true[:, None], draws], 1)
    n, k, dims = len(points), points.shape[1] - 1, points.shape[2]
    step = max(1, HELD // ((k + 1) ** 2 * dims))
    r = np.concatenate([_distances(points[i : i + step]) for i in range(0, n, step)])
    scores = r / (k - 1) - r.sum(1, keepdims=True) / (2 * k * (k - 1))
    return EnergyScores(scores[:, 0], scores[:, 1:])


def _distances(points: Array) -> Array:
    """Of each of some points (n, K, D) from the others in sum, (n, K)."""
    apart = points[:, :, None] - points[:, None]
    return np.sqrt((apart**2).sum(-1)).sum(-1)


def _measure(run: Run) -> dict[str, Any]:
    wrong = {name: _scored(run.right, affine) for name, affine in run.controls.items()}
    found = {"data": _scored(run.data), "own": _scored(run.own), **wrong}
    rngs = np.random.default_rng([run.seed, 10]).spawn(len(found))
    scored = {
        name: (scores, rank_among(scores.true, scores.drawn, rng))
        for (name, scores), rng in zip(found.items(), rngs, strict=True)
        if scores is not None
    }
    ranks = {name: r for name, (_, r) in scored.items()}
    section = uniform_tests(ranks.get("data"), ranks.get("own"), {k: ranks[k] for k in wrong})
    return section | {"scores": {name: _means(scores) for name, (scores, _) in scored.items()}}


def _scored(seen: Seen | None, wrong: Affine | None = None) -> EnergyScores | None:
    """Scores of rows, in draws or in an image of these; None without θ."""
    true, draws = (None, None) if seen is None else seen.in_widths
    if true is None or draws is None:
        return None
    return energy_scores(true, wrong.image(draws) if wrong else draws)


def _means(scores: EnergyScores) -> dict[str, dict[str, float]]:
    """Mean score of θ, that of the draws in its place, and what is between them."""
    drawn = scores.drawn.mean(1)
    pairs = {"true": scores.true, "drawn": drawn, "excess": scores.true - drawn}
    found = {name: estimate(values) for name, values in pairs.items()}
    return {name: {"mean": e.value, "se": e.se} for name, e in found.items()}


def _rows(section: Section, result: Section) -> Iterator[dict[str, Any]]:
    yield table_row("energy score", "rank of its score among draws", section, ("narrow",))


def _part(section: Section, result: Section, labels: Labels) -> PagePart:
    names = {"data": "data", "own": "own x"}
    names |= {name: f"control: {title}" for name, title in CONTROLS.items()}
    columns = [Column("posteriors of"), Column("score of θ"), Column("of its draws"),
               Column("their difference", "0")]  # fmt: skip
    scores = section.get("scores") or {}
    means = ("true", "drawn", "excess")
    rows: list[list[Value]] = [
        [names[name], *((score[k]["mean"], score[k]["se"]) for k in means)]
        for name, score in scores.items()
    ]
    drawn = {k: v for k, v in (section.get("controls") or {}).items() if k in DRAWN}
    return PagePart(
        "energy_score",
        "Energy score",
        "No energy score in these metrics.",
        rank_pictures(
            {**section, "controls": drawn}, result, "rank of the energy score of θ among draws"
        ),
        "Rank of the energy score of the true parameter among those of draws of its posterior",
        "How far θ lies from draws of its posterior, all parameters together, ranked among draws "
        "in its place. Flat if posteriors are right; a slope to the right if θ lies too far out: "
        "posteriors are too narrow.",
        TableView(columns, rows) if rows else None,
        Words(
            "The energy score E|θ′ − θ| − ½ E|θ′ − θ″|, θ′ and θ″ drawn from the posterior, in "
            "its widths. If posteriors are right, on average θ scores as draws do in its place."
        ),
    )


ENERGY_SCORE = CalibrationCheck("energy_score", _measure, _rows, _part, share=0.01)

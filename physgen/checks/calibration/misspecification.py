r"""Misspecification: is each x inside what the surrogate draws?

On an observation unlike all that was learnt from, a network may say anything (Schmitt et al. 2023,
arXiv:2112.08866). log q(x|θ̂) at the posterior mean says how likely x is under the best θ. What it
should be depends on θ̂, so it is held against x drawn from the surrogate with the nearest θ̂: the
residual of a local linear fit over its standard error. A network that knows no log q has the
observables of x in its place. A row's p-value is the part of other drawn x with a stranger one.
Two tests again: are all p-values uniform, and are more rows below the lowest of the drawn x than
chance would put there (a beta-binomial law, since all share the same drawn x)? What the fits are
made of and what is ranked against are two halves of the drawn x, so that data and reference are
treated alike.

Control: x whose components were dealt out anew among the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import betabinom

from physgen.checks.calibration.check import (
    CalibrationCheck,
    Run,
    Section,
    Seen,
    caught,
    table_row,
)
from physgen.checks.calibration.uniformity import ALPHA, alike, counted
from physgen.reporting.view import Labels, PagePart, Picture, Tile, Words
from simulators.base import Array

__all__ = ["MISSPECIFICATION", "misspecification", "residuals", "strangeness"]

NEIGHBOURS, LEAST = 20, 30
"""The neighbours of a row are one in so many of the surrogate's own x, and so many at least."""
NOISE, TINY = 1e-6, np.finfo(float).tiny
EVEN, ODD = slice(0, None, 2), slice(1, None, 2)
"""Least spread, in parts of the null's: below are rounding errors, and these are ties."""
Located = tuple[Array, Sequence[Array]]
"""θ̂ (n, D), and values (n,) of each row."""


def strangeness(null: Located, rows: Located, signed: bool) -> Array:
    """How unlike the x of a null with the same θ̂ each x is, (n,); the lower the stranger.

    Of each value the residual r, in standard errors, from the null's nearby: r of a single value
    that can only be too low, else −½ Σ r².

    Args:
        null: θ̂ (m, D), in the prior's coordinates, and values (m,).
        rows: θ̂ (n, D) and the same values (n,).
        signed: whether r itself is wanted.
    """
    pairs = zip(null[1], rows[1], strict=True)
    r = np.stack([residuals((null[0], a), (rows[0], b)) for a, b in pairs])
    return r[0] if signed else -(r**2).sum(0) / 2


def misspecification(data: Array, reference: Array, shuffled: Array) -> dict[str, Any]:
    """Is each x inside what is drawn? By how strange it is; all are exchangeable if it is.

    Args:
        data: of the data, (n,).
        reference: of x that were drawn, (m,).
        shuffled: of the control, (k,).
    """
    reference, m = np.sort(reference), len(reference)
    uniform, lowest = np.arange(1, m + 1) / (m + 1), max(1, int(ALPHA * (m + 1)))

    def p_values(found: Array) -> tuple[Array, Array]:
        """Of each row; and a random one among its ties, which is uniform even where x is few."""
        below, up_to = (np.searchsorted(reference, found, side=s) for s in ("left", "right"))
        among = below + np.random.default_rng(0).random(len(found)) * (up_to - below + 1)
        return (1 + up_to) / (m + 1), among / (m + 1)

    def judged(p: Array, untied: Array) -> dict[str, Any]:
        test, outside = alike(untied, uniform), int((p <= lowest / (m + 1)).sum())
        tail = float(betabinom.sf(outside - 1, len(p), lowest, m + 1 - lowest))
        return {
            "rows": len(p),
            "p_value": min(1.0, 2 * min(test.p_value, tail)),
            "outside": outside,
            "expected": len(p) * lowest / (m + 1),
        }

    right, wrong = p_values(data), p_values(shuffled)
    control = judged(*wrong)
    return judged(*right) | {
        "null_rows": m,
        "p_values": right[0],
        "level": lowest / (m + 1),
        "counts": {"data": counted(right[1]), "shuffled": counted(wrong[1])},
        "controls": {"shuffled": control | caught(control["p_value"])},
    }


def residuals(null: tuple[Array, Array], rows: tuple[Array, Array]) -> Array:
    """How far values (n,) at points (n, D) lie from those of a null nearby, in standard errors.

    Points are told apart at random where they are equal: else all that are equal would be held
    against the same few of the null. What is below a thousandth is taken for a rounding error.

    Args:
        null: points (m, D), in parts of a box, and values (m,).
        rows: other points and values, to judge.
    """
    rng, values = np.random.default_rng(0), null[1]
    points, at = (p + NOISE * rng.standard_normal(p.shape) for p in (null[0], rows[0]))
    k = min(max(len(points) // NEIGHBOURS, LEAST), len(points))
    near = np.asarray(cKDTree(points).query(at, np.arange(1, k + 1))[1])
    apart = points[near] - at[:, None]
    design = np.concatenate([np.ones((*near.shape, 1)), apart], -1)
    inverse = np.linalg.pinv(design)
    fitted = np.einsum("nik,nk->ni", inverse, values[near])
    left = values[near] - np.einsum("nki,ni->nk", design, fitted)
    variance = (left**2).sum(-1) / max(1, k - design.shape[-1])
    spread = np.sqrt(variance * (1 + (inverse[:, 0] ** 2).sum(-1)))
    floor = NOISE * values.std() + TINY
    return np.round((rows[1] - fitted[:, 0]) / np.maximum(spread, floor), 3)


def _measure(run: Run) -> dict[str, Any] | None:
    """Told by log q, or else by observables.

    The own x of every other row say what is usual at each θ̂, for x of the rest: so neither the
    data nor the own x that they are ranked among are held against x of their own θ.
    """
    if not run.drawn:
        return None
    signed = bool(run.target.likelihood)
    values = dict.fromkeys(["log q"]) if signed else run.observables

    def located(seen: Seen, rows: slice) -> tuple[Array, list[Array]]:
        known = [seen.found.log_p if o is None else o(seen.x) for o in values.values()]
        return seen.found.mean[rows], [np.asarray(v, dtype=float)[rows] for v in known]

    def strange(seen: Seen) -> Array:
        found = np.empty(len(seen.x))
        for rows, others in ((EVEN, ODD), (ODD, EVEN)):
            null = located(run.drawn["own"], others)
            found[rows] = strangeness(null, located(seen, rows), signed)
        return found

    data, drawn = strange(run.data), {k: strange(seen) for k, seen in run.drawn.items()}
    return misspecification(data, drawn["own"], drawn["shuffled"][: len(data)])


def _rows(section: Section, result: Section) -> Iterator[dict[str, Any]]:
    test = {"data": section, "own": None, "controls": section["controls"]}
    about = "log q at the best θ" if result["likelihood"] else "observables at the best θ"
    yield table_row("misspecification", about, test, ("shuffled",))


def _part(section: Section, result: Section, labels: Labels) -> PagePart:
    title = "Is each x inside what it draws?"
    absent = "Not judged: nothing draws x, for the simulator is not known."
    if not section:
        return PagePart("misspecification", title, absent)
    what = (
        "The observables of x, held against those of simulated x with the nearest posterior means"
        if result.get("network")
        else "log q(x|θ) at the posterior mean, held against x drawn from the surrogate, with the "
        "nearest means"
    )
    outside, rows, level = section["outside"], section["rows"], section["level"]
    control = section["controls"]["shuffled"]
    return PagePart(
        "misspecification",
        title,
        absent,
        (Picture("p_value_histogram", (section,)),),
        "p-values of single x",
        f"{what}. Flat if the x are like those that are drawn; a heap at 0 are x that are too "
        "unlikely under any θ.",
        words=Words(
            "{} of {} rows have a p-value of at most {}, where {} are expected; of shuffled x, "
            "{} of {}.",
            (outside, rows, level, section["expected"], control["outside"], control["rows"]),
        ),
        tiles=(
            Tile(
                "Outside of what is drawn",
                Words("{} of {}", (outside, rows)),
                "",
                Words("Rows with p of at most {}; {} are expected.", (level, section["expected"])),
            ),
        ),
    )


def _words(section: Section) -> str:
    return (
        f"{section['outside']:,} of {section['rows']:,} x outside of what is drawn "
        f"({section['expected']:.2g} expected)"
    )


MISSPECIFICATION = CalibrationCheck("misspecification", _measure, _rows, _part, words=_words)

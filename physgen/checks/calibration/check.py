"""One check of a calibration: what it is given, and what it yields.

A check is one module with one object, a :class:`CalibrationCheck`, that stands in the table
:data:`physgen.checks.calibration.verdicts.CHECKS`. It is made of functions:

``measure``
    what it finds: in the *data*, in *own* x, drawn from the surrogate, for which the posteriors
    are right if log q is the law that it draws from, and in *controls*, posteriors that are wrong
    on purpose and must be caught. Plain data, the section of that name in the JSON.
``rows``
    what that comes to, a row each in the table of all checks (:func:`table_row`).
``part``
    how it is shown: pictures, a table and words.
``statistic`` and ``rank``
    a number of each point of a posterior, and the part of the posterior where it is less than at
    θ: what the check keeps of each posterior. Where a posterior is known by its draws, that part
    is a rank among them; on a grid, ``rank`` is the same without noise.

Nothing here draws anything, and what is only shown (``rows``, ``part``) needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from physgen.checks.calibration.controls import Affine, controls_of
from physgen.checks.calibration.uniformity import ALPHA
from physgen.reporting.view import CONTROLS, Labels, PagePart
from simulators.base import Array, Observable
from simulators.prior import Prior

if TYPE_CHECKING:
    from physgen.checks.calibration.posteriors import Posteriors
    from physgen.checks.calibration.target import Target
    from physgen.posterior.density import GridPosterior

__all__ = [
    "APART", "CONTROLS", "FAILED", "NO_VERDICT", "PASSED", "CalibrationCheck", "Points", "Run",
    "Seen", "caught", "parameter_rows", "table_row",
]  # fmt: skip

PASSED, FAILED, NO_VERDICT = "passes", "fails", "too few rows: no verdict"
APART = 3
"""So many parameters, at most, have a row each in the table of all checks."""

Section = Mapping[str, Any]
Rank = Callable[["GridPosterior", Array, Array], Array]


class Points(NamedTuple):
    """Points of n posteriors, in the prior's own coordinates.

    Attributes:
        c: (n, k, D).
        log_density: log p(c|x) but for a constant of each posterior, (n, k).
        around: a random point of the prior, (n, 1, D).
    """

    c: Array
    log_density: Array
    around: Array


Statistic = Callable[[Points], Array]


class Seen(NamedTuple):
    """Rows, and their posteriors.

    Attributes:
        prior: of θ.
        theta: what x were drawn at, (n, D); None if that is not known.
        x: (n, *x_shape).
        found: their posteriors.
    """

    prior: Prior
    theta: Array | None
    x: Array
    found: Posteriors

    @property
    def in_widths(self) -> tuple[Array | None, Array]:
        """θ (n, D) and draws (n, K, D), in widths of their posteriors from their means."""
        found, scale = self.found, self.prior.to_coordinates
        draws = found.frame.standard(scale(found.draws))
        if self.theta is None:
            return None, draws
        return found.frame.standard(scale(self.theta)[:, None])[:, 0], draws


@dataclass(frozen=True)
class Run:
    """One calibration: what all its checks share.

    Attributes:
        target: what gives posteriors.
        prior: of θ.
        observables: name → a number of each x.
        samples: draws of each posterior for the predictive checks.
        seed: seed of everything that is random.
        data: rows of the data.
        drawn: "own" x, drawn at the θ of the data or at others, and such x "shuffled"; empty where
            nothing can be drawn.
        own: own x, where the target is the law that they are drawn from, so that its posteriors
            of them are right; there the controls are made, and else on the data. None without.
        progress: told the name of a section and the part of it that is done.
    """

    target: Target
    prior: Prior
    observables: Mapping[str, Observable]
    samples: int
    seed: int
    data: Seen
    drawn: Mapping[str, Seen]
    own: Seen | None
    progress: Callable[[str, float], None]

    @property
    def right(self) -> Seen:
        """The rows on which controls are made."""
        return self.own or self.data

    @property
    def controls(self) -> dict[str, Affine]:
        """How draws of these are made wrong."""
        return controls_of(self.right.found.correlation)

    def ranked(self, rank: str) -> tuple[Array | None, Array | None, dict[str, Array]]:
        """What a check's `rank` has kept of the posteriors, (n, …) each.

        Args:
            rank: name of the check.

        Returns:
            of the data and of own x, None where θ is not known; and of each control.
        """

        def right(seen: Seen | None) -> Array | None:
            ranks = seen.found.ranks.get("right") if seen else None
            return ranks[rank] if ranks else None

        wrong = self.right.found.ranks.items()
        controls = {k: v[rank] for k, v in wrong if k != "right" and rank in v}
        return right(self.data), right(self.own), controls


def _no_words(section: Section) -> str:
    """Nothing to add to the line of verdicts."""
    return ""


@dataclass(frozen=True)
class CalibrationCheck:
    """A check of posteriors.

    Attributes:
        name: of its section in the JSON.
        measure: a run → its figures; None where it cannot be asked.
        rows: its figures, all of the calibration → rows of the table of all checks.
        part: its figures (empty where there are none), all of the calibration, labels → its part
            of the page.
        statistic: points (n, k, D) of posteriors → a number of each, (n, k), or several; None
            where the posteriors themselves are not needed.
        rank: posteriors of n rows on their grids, coordinates c of θ (n, D) and of random points
            of the prior (n, D) → the mass of less than at θ, (n, …).
        affine: whether the rank of θ in an affine image of a posterior is that of θ's preimage in
            the posterior, so that a grid has it of any such image.
        words: its figures → what it adds to the line of verdicts.
        share: part of the time of a calibration that it takes, about.
    """

    name: str
    measure: Callable[[Run], dict[str, Any] | None]
    rows: Callable[[Section, Section], Iterator[dict[str, Any]]]
    part: Callable[[Section, Section, Labels], PagePart]
    statistic: Statistic | None = None
    rank: Rank | None = None
    affine: bool = False
    words: Callable[[Section], str] = _no_words
    share: float = 0.0


def table_row(name: str, about: str, test: Section, controls: tuple[str, ...]) -> dict[str, Any]:
    """A row of the table of all checks.

    Args:
        name: of the check.
        about: what it looks at, in a few words.
        test: p-values of "data" and "own", None without, and of "controls", with "caught".
        controls: which of these must be caught; those that one parameter does not have are left
            out.
    """
    data, own = test["data"], test["own"]
    judged = {
        k: {"p_value": v["p_value"], "caught": v["caught"], "required": k in controls}
        for k, v in test["controls"].items()
    }
    all_caught = all(c["caught"] for c in judged.values() if c["required"])
    p = data["p_value"] if data else None
    passed = PASSED if all_caught else NO_VERDICT
    return {
        "name": name,
        "about": about,
        "p_value": p,
        "own_p_value": own["p_value"] if own else None,
        "controls": judged,
        "caught": all_caught,
        "verdict": None if p is None else FAILED if p < ALPHA else passed,
    }


def parameter_rows(
    name: str, about: str, tests: Mapping[str, Section], controls: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """A row for each of a few parameters, or one for the worst of many.

    A p-value of many is that of the worst times their number; a control must be caught in all.

    Args:
        name: of the check.
        about: what it looks at.
        tests: parameter → its test, as `table_row` wants it.
        controls: which must be caught.
    """
    if len(tests) <= APART:
        for parameter, test in tests.items():
            title = name if len(tests) == 1 else f"{name} of {parameter}"
            yield table_row(title, about, test, controls)
        return
    every = list(tests.values())

    def worst(key: str) -> dict[str, float] | None:
        return {"p_value": _of_many(every, key, np.fmin.reduce)} if every[0][key] else None

    known = {k: [t["controls"][k] for t in every] for k in every[0]["controls"]}
    wrong = {k: caught(_of_many([{k: c} for c in v], k, np.max)) for k, v in known.items()}
    test = {"data": worst("data"), "own": worst("own"), "controls": wrong}
    least = min(tests, key=lambda n: (tests[n]["data"] or tests[n]["own"])["p_value"])
    yield table_row(name, f"{about}, worst of {len(tests)}: {least}", test, controls)


def _of_many(tests: Sequence[Section], key: str, pick: Callable[[list[float]], float]) -> float:
    """One of several p-values, times how many there are."""
    return min(1.0, len(tests) * float(pick([t[key]["p_value"] for t in tests])))


def caught(p_value: float) -> dict[str, Any]:
    """The p-value of a control, and whether it is caught."""
    return {"p_value": p_value, "caught": bool(p_value < ALPHA)}

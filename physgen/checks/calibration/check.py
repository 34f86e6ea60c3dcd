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
``rank``
    what it keeps of each posterior, where it needs the density itself, which is too large to be
    held for all rows at once.

Nothing here draws anything, and what is only shown (``rows``, ``part``) needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from physgen.checks.calibration.uniformity import ALPHA
from physgen.reporting.view import CONTROLS, Labels, PagePart
from simulators.base import Array, Observable
from simulators.prior import Prior

if TYPE_CHECKING:
    from physgen.checks.calibration.posteriors import Posteriors
    from physgen.checks.calibration.target import Target
    from physgen.posterior.density import GridPosterior

__all__ = [
    "CONTROLS", "FAILED", "NARROW", "NO_VERDICT", "PASSED", "SHIFT", "CalibrationCheck", "Run",
    "Seen", "by_parameter", "caught", "table_row",
]  # fmt: skip

NARROW, SHIFT = 0.7, 0.3
"""Width of a control that is too narrow, and shift of another, in widths of the posterior."""
PASSED, FAILED, NO_VERDICT = "passes", "fails", "too few rows: no verdict"

Section = Mapping[str, Any]
Rank = Callable[["GridPosterior", Array, Array, Prior], Array]


class Seen(NamedTuple):
    """Rows, and their posteriors.

    Attributes:
        theta: what x were drawn at, (n, D); None if that is not known.
        x: (n, *x_shape).
        found: their posteriors.
    """

    theta: Array | None
    x: Array
    found: Posteriors

    @property
    def in_widths(self) -> tuple[Array | None, Array]:
        """θ (n, D) and draws (n, K, D), in widths of their posteriors from their means."""
        mean, sd = self.found.mean, self.found.sd
        true = None if self.theta is None else (self.theta - mean) / sd
        return true, (self.found.draws - mean[:, None]) / sd[:, None]


@dataclass(frozen=True)
class Run:
    """One calibration: what all its checks share.

    Attributes:
        target: what gives posteriors.
        prior: uniform prior.
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

    def scaled(self, seen: Seen) -> Array:
        """Posterior means in the prior's own coordinates, (n, D)."""
        return self.prior.to_coordinates(seen.found.mean)

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

        wrong = self.right.found.ranks
        controls = {name: wrong[name][rank] for name in ("narrow", "shifted")}
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
        rank: posteriors of n rows on their grids, θ (n, D), random points of the prior's box
            (n, D), the prior → what is kept, (n, …), of the data, of own x and of the controls;
            None where it needs no density.
        words: its figures → what it adds to the line of verdicts.
        share: part of the time of a calibration that it takes, about.
    """

    name: str
    measure: Callable[[Run], dict[str, Any] | None]
    rows: Callable[[Section, Section], Iterator[dict[str, Any]]]
    part: Callable[[Section, Section, Labels], PagePart]
    rank: Rank | None = None
    words: Callable[[Section], str] = _no_words
    share: float = 0.0


def table_row(name: str, about: str, test: Section, controls: tuple[str, ...]) -> dict[str, Any]:
    """A row of the table of all checks.

    Args:
        name: of the check.
        about: what it looks at, in a few words.
        test: p-values of "data" and "own", None without, and of "controls", with "caught".
        controls: which of these must be caught.
    """
    data, own = test["data"], test["own"]
    judged = {
        k: {"p_value": v["p_value"], "caught": v["caught"], "required": k in controls}
        for k, v in test["controls"].items()
    }
    all_caught = all(judged[k]["caught"] for k in controls)
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


def by_parameter(what: str, name: str, section: Section) -> str:
    """What is looked at, and of which parameter if there are several in a section."""
    return what if len(section) == 1 else f"{what} of {name}"


def caught(p_value: float) -> dict[str, Any]:
    """The p-value of a control, and whether it is caught."""
    return {"p_value": p_value, "caught": bool(p_value < ALPHA)}

"""Are the posteriors of a surrogate right? Checks that need no exact answer, with controls.

========================  =====================================================================
:mod:`.sbc`               is the rank of θ in its posterior uniform? for each parameter
:mod:`.coverage`          does the densest region of mass c hold θ in the part c of the cases?
:mod:`.tarp`              is θ no nearer to a random point than its posterior's draws?
:mod:`.energy`            is θ where draws of its posterior are, all parameters together?
:mod:`.lc2st`             at some x, can a classifier tell θ from draws of the posterior?
:mod:`.bartlett`          Bartlett's identities: is log q the law that the surrogate draws from,
                          and is the surrogate biased?
:mod:`.predictive`        do observables of x stand among those of x′ drawn at the posterior's θ
                          as they should?
:mod:`.misspecification`  is each x inside what the surrogate draws?
========================  =====================================================================

Each check is made three times. On the *data*, which is the question. On *own* x, drawn from the
surrogate at the same θ, for which its posterior is right if its log q is the law that it draws
from: a log q that is a loose bound, or too few draws, fail here. And on *controls*, the same own x
with posteriors that are wrong on purpose (:mod:`.posteriors`). They must be caught; where they are
not, the rows are too few for the check to say anything, and the verdict is that there is none.

A network of sbi draws no x. Its controls are made of its posteriors of the data; and what needs
drawn x, the last two checks, takes them from the simulator, where that is known.

A posterior that is merely wide passes: the prior has uniform ranks too. What it is worth is told
by the *information* that it gains, E[log p(θ|x) − log p(θ)] over held-out rows, which is at most
the mutual information I(θ; x); ``validate`` holds it against the exact posterior itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import simulators.base as declared
from physgen.checks.calibration.check import Run, Seen
from physgen.checks.calibration.corners import corners_of
from physgen.checks.calibration.lc2st import LC2ST_DRAWS
from physgen.checks.calibration.posteriors import Posteriors, posteriors_of
from physgen.checks.calibration.target import Target, target_of
from physgen.checks.calibration.uniformity import ALPHA, ECDF_LEVELS, bands
from physgen.checks.calibration.verdicts import (
    CHECKS,
    calibration_table,
    calibration_warnings,
)
from physgen.checks.estimate import estimate
from physgen.checks.samples import of_imputed
from physgen.checks.timing import Sections
from physgen.checks.two_sample.features import observables_of, physics_of
from physgen.checks.two_sample.permutations import shuffle_components
from physgen.dataset.missing import masked_like
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.runtime.engine import Engine
from physgen.sbi.networks import Network
from physgen.surrogates.base import Surrogate
from simulators.base import Array, Observable, Simulator
from simulators.prior import Prior

__all__ = ["CALIBRATION_SECTIONS", "calibration", "default_rows"]

MOST_ROWS = 1000
"""Rows that are looked at, at most, where the caller does not choose."""
LEAST_ROWS = 20
MANY_ROWS = 500
"""The same of a surrogate of more than three parameters, whose posteriors are dear."""
SHUFFLED = {1: 200, 2: 40, 3: 20}
"""Rows of the control of shuffled components at most, for D parameters: odd x are dear."""
SHUFFLED_DRAWN, FEW_DRAWS = {"network": 200, "smc": 20}, 10
"""Likewise where posteriors are drawn; draws that tell whether a network has any for odd x."""
SAMPLES = 20
CALIBRATION_SECTIONS = {"posteriors": 0.38, "own": 0.43, "shuffled": 0.05} | {
    check.name: check.share for check in CHECKS
}
"""Those that take time, with the part of it that they take, about."""
Progress = Callable[[str, float], None]


def calibration(
    model: Surrogate | Network,
    theta: Array | None,
    x: Array,
    prior: Prior,
    *,
    trusted: str | None = None,
    names: Sequence[str] = (),
    draws: int | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Check the posteriors of a surrogate or a network on held-out rows, by checks with controls.

    Args:
        model: what gives posteriors.
        theta: (n, D) parameters of the rows, from the prior; None where they are not known, so
            that only predictive checks and misspecification are judged.
        x: (n, *x_shape), one draw of p(x|θ) for each.
        prior: what θ follow, within the training's; other rows are left out.
        trusted: name of a simulator outside the registry that the caller vouches for.
        names: of the components of x, where their file tells them.
        draws: random draws of each log p(x|θ); the family's default for posteriors if None.
        samples: draws of each posterior for the predictive checks.
        seed: seed of everything that is random here.
        progress: told the name of each section and the part of it that is done.
        engine: where posteriors are worked on, in blocks of rows; in this process if None.

    Returns:
        JSON data: one value a check, "checks" (all on one table), "warnings", "seconds".

    Raises:
        UsageError: no likelihood, too few rows under this prior, or rows without θ for a network
            whose simulator is not known.
    """
    simulator = model.law.build_if_known(trusted)
    target = target_of(model, simulator, draws)
    if theta is None and target.draw is None:
        raise UsageError(
            f"calibrate: the rows have no theta, and {model.law.simulator} is not known, so that "
            "nothing could be judged"
        )
    rows = len(x)
    theta, x = _within(prior, theta, x)
    physics = physics_of(model.law, trusted, names)
    observables = of_imputed(_scalars(physics, x, model.law), x)
    progress = progress or (lambda name, part: None)
    inference = _Inference(target, prior, samples, seed, progress, engine or Engine())
    run, section = inference.run(theta, x, observables)
    result = section.result
    result |= {
        "rows": len(x),
        "left_out": rows - len(x),
        "labelled": theta is not None,
        "prior": prior.to_json(),
        "likelihood": target.likelihood,
        "draws": target.draws,
        "samples": samples,
        "alpha": ALPHA,
        "posteriors": target.posteriors,
        "resolved": float(run.data.found.resolved.mean()),
        "evaluations": run.data.found.evaluations.mean(),
        "information": _information(run.data, simulator, prior),
        "levels": ECDF_LEVELS,
        "bands": bands(len((run.data if theta is not None else run.right).x)),
    }
    result |= {check.name: section(check.name, check.measure, run) for check in CHECKS}
    result["corners"] = corners_of(run)
    result["checks"] = list(calibration_table(result))
    result["warnings"] = list(calibration_warnings(result, theta, prior))
    return section.json()


def default_rows(model: Surrogate | Network) -> int:
    """How many rows are looked at where the caller does not choose."""
    dear = isinstance(model, Surrogate) and len(model.law.prior) not in SHUFFLED
    return MANY_ROWS if dear else MOST_ROWS


@dataclass(frozen=True)
class _Inference:
    """The posteriors of all rows that a calibration looks at, each under the clock.

    Attributes:
        target: what gives posteriors.
        prior: of θ.
        samples: draws of each posterior for the predictive checks.
        seed: seed of everything that is random.
        progress: told the name of each section and the part of it that is done.
        engine: where blocks of rows are worked on.
    """

    target: Target
    prior: Prior
    samples: int
    seed: int
    progress: Progress
    engine: Engine

    def run(
        self, theta: Array | None, x: Array, observables: dict[str, Observable]
    ) -> tuple[Run, Sections]:
        """What the checks are given of rows x (n, *x_shape), drawn at θ (n, D)."""
        section = Sections(lambda name: self.progress(name, 0.0))
        bare = theta is None or self.target.is_own  # no controls can be made of the data
        data = self.seen(section, "posteriors", theta, x, 0, controls=not bare)
        drawn = self.drawn(section, data, controls=bare)
        run = Run(
            self.target, self.prior, observables, self.samples, self.seed,
            data, drawn, drawn["own"] if bare else None, self.progress,
        )  # fmt: skip
        return run, section

    def seen(
        self,
        section: Sections,
        name: str,
        theta: Array | None,
        x: Array,
        offset: int,
        controls: bool = False,
        ranked: bool = True,
    ) -> Seen:
        """Rows x (n, *x_shape), drawn at θ (n, D), and their posteriors."""

        def found() -> Posteriors:
            return posteriors_of(
                self.target, theta, x, self.prior,
                samples=max(self.samples, LC2ST_DRAWS), seed=self.seed + offset,
                checks=CHECKS if ranked else (), controls=controls,
                tick=lambda part: self.progress(name, part), engine=self.engine,
            )  # fmt: skip

        return Seen(self.prior, theta, x, section(name, found))

    def possible(self, x: Array) -> Array:
        """The x (n, *x_shape) for which a network draws any θ of the prior: odd x may have none.

        Raises:
            DataError: of no x.
        """
        if self.target.posteriors != "network":
            return x
        good, last = [], None
        for i in range(len(x)):
            try:
                one = np.array([i])
                self.target.posterior(x[one], one, self.prior, FEW_DRAWS, self.seed)
                good.append(i)
            except DataError as error:
                last = error
        if last and not good:
            raise last
        return x[good]

    def drawn(self, section: Sections, data: Seen, controls: bool) -> dict[str, Seen]:
        """Its own x at the θ of the data, or at others, and such x shuffled; or nothing."""
        if self.target.draw is None:
            return {}
        rng = np.random.default_rng([self.seed, 9])
        theta = self.prior.sample(MOST_ROWS, rng) if data.theta is None else data.theta
        like = data.x[np.arange(len(theta)) % len(data.x)]  # what is missing there is here
        x = masked_like(self.target.draw(theta, rng).astype(data.x.dtype), like)
        most = SHUFFLED.get(len(self.prior)) or SHUFFLED_DRAWN[self.target.posteriors]
        mixed = self.possible(shuffle_components(x, rng)[:most])
        return {
            "own": self.seen(section, "own", theta, x, 1, controls, ranked=controls),
            "shuffled": self.seen(section, "shuffled", None, mixed, 2, ranked=False),
        }


def _within(prior: Prior, theta: Array | None, x: Array) -> tuple[Array | None, Array]:
    """The rows whose θ is in the prior's support; all if θ is not known.

    Raises:
        UsageError: they are too few.
    """
    if theta is None:
        return theta, x
    inside = prior.contains(theta)
    if inside.sum() < LEAST_ROWS:
        raise UsageError(
            f"calibrate: expected at least {LEAST_ROWS} rows with theta in {prior}, "
            f"got {inside.sum()} of {len(x)}"
        )
    return theta[inside], x[inside]


def _scalars(physics: object | None, x: Array, law: Law) -> dict[str, Observable]:
    """The observables that are one number for each x (n, *x_shape)."""
    every = observables_of(physics, x[:1000], law)
    return {name: o for name, o in every.items() if np.ndim(o(x[:1])) == 1}


def _information(data: Seen, simulator: Simulator | None, prior: Prior) -> dict[str, Any] | None:
    """What x tells of θ, on average, in nats, and the most that it could where that is known.

    It is −∞, told as None, where a posterior excludes the θ of its x; "excluded" counts these.
    """
    if data.theta is None:
        return None
    gain, excluded = data.found.gain, int(np.isneginf(data.found.gain).sum())
    value, se = (None, None) if excluded else estimate(gain)
    exact = declared.mutual_information(simulator, prior) if simulator else None
    return {"gain": value, "se": se, "exact": exact, "excluded": excluded}

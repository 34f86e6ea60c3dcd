"""Are the posteriors of a surrogate right? Checks that need no exact answer, with controls.

====================  =========================================================================
``sbc``               is the rank of θ in its posterior uniform? for each parameter
``coverage``          does the densest region of mass c hold θ in the part c of the cases?
``tarp``              is θ no nearer to a random point than its posterior's draws?
``lc2st``             at some x, can a classifier tell θ from draws of the posterior?
``score``             Bartlett's identities: is log q the law that the surrogate draws from, and
                      is the surrogate biased?
``predictive``        do observables of x stand among those of x′ drawn at the posterior's θ as
                      they should?
``misspecification``  is each x inside what the surrogate draws?
====================  =========================================================================

Each check is made three times. On the *data*, which is the question. On *own* x, drawn from the
surrogate at the same θ, for which its posterior is right if its log q is the law that it draws
from: a log q that is a loose bound, or too few draws, fail here. And on *controls*, the same own x
with posteriors that are wrong on purpose (:mod:`.inferred`). They must be caught; where they are
not, the rows are too few for the check to say anything, and the verdict is that there is none.

A network of sbi draws no x. Its controls are made of its posteriors of the data; and what needs
drawn x, the last two checks, takes them from the simulator, where that is known.

A posterior that is merely wide passes: the prior has uniform ranks too. What it is worth is told
by the *information* that it gains, E[log p(θ|x) − log p(θ)] over held-out rows, which is at most
the mutual information I(θ; x); ``validate`` holds it against the exact posterior itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

import simulators.base as declared
from physgen.checks.calibration.bartlett import score
from physgen.checks.calibration.lc2st import DRAWS, Pairs, local
from physgen.checks.calibration.posteriors import SHIFT, Inferred, Ranks, inferred
from physgen.checks.calibration.predictive import (
    misspecification,
    predictive,
    replicated,
    strangeness,
)
from physgen.checks.calibration.target import Judged, judged
from physgen.checks.calibration.uniformity import ALPHA, LEVELS, Uniformity, bands, uniformity
from physgen.checks.calibration.verdicts import checks, warnings
from physgen.checks.exact.truth import estimate
from physgen.checks.samples import spread
from physgen.checks.timing import Sections
from physgen.checks.two_sample.features import observables_of
from physgen.checks.two_sample.samples import shuffle_components
from physgen.errors import UsageError
from physgen.law import Law
from physgen.posterior.grid import GridPosterior
from physgen.posterior.interpolation import integral
from physgen.sbi.networks import Network
from physgen.surrogates.base import Surrogate
from simulators.base import Array, Box, Observable, Simulator

__all__ = ["MOST_ROWS", "SECTIONS", "calibrate"]

MOST_ROWS = 1000
"""Rows that are looked at where the caller does not choose."""
LEAST_ROWS = 20
SHUFFLED = {1: 200, 2: 40, 3: 20}
"""Rows of the control of shuffled components at most, for D parameters: odd x are dear."""
SAMPLES = 20
CORNERS, POINTS, PLACES = 3, 50, 10
SECTIONS = {
    "posteriors": 0.38, "own": 0.43, "shuffled": 0.05, "uniform": 0, "lc2st": 0.04,
    "score": 0.03, "predictive": 0.07,
}  # fmt: skip
"""Those that take time, with the part of it that they take, about."""
Tell = Callable[[str, float], None]


class Seen(NamedTuple):
    """Rows, and their posteriors.

    Attributes:
        theta: what x were drawn at, (n, D); None if that is not known.
        x: (n, *x_shape).
        found: their posteriors.
    """

    theta: Array | None
    x: Array
    found: Inferred


def calibrate(
    model: Surrogate | Network,
    theta: Array | None,
    x: Array,
    prior: Box,
    *,
    trusted: str | None = None,
    draws: int | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    progress: Tell | None = None,
) -> dict[str, Any]:
    """Check the posteriors of a surrogate or a network on held-out rows, by checks with controls.

    Args:
        model: what gives posteriors of one to three parameters.
        theta: (n, D) parameters of the rows, from the prior; None where they are not known, so
            that only predictive checks and misspecification are judged.
        x: (n, *x_shape), one draw of p(x|θ) for each.
        prior: uniform, within that of the training; other rows are left out.
        trusted: name of a simulator outside the registry that the caller vouches for.
        draws: random draws of each log p(x|θ); the family's default for posteriors if None.
        samples: draws of each posterior for the predictive checks.
        seed: seed of everything that is random here.
        progress: told the name of each section and the part of it that is done.

    Returns:
        JSON data: one value a section, "checks" (all on one table), "warnings", "seconds".

    Raises:
        UsageError: no likelihood, more parameters, too few rows under this prior, or rows
            without θ for a network whose simulator is not known.
    """
    simulator = model.law.build_if_known(trusted)
    judge = judged(model, simulator, draws)
    if theta is None and judge.draw is None:
        raise UsageError(
            f"calibrate: the rows have no theta, and {model.law.simulator} is not known, so that "
            "nothing could be judged"
        )
    rows = len(x)
    theta, x = within(prior, theta, x)
    run = Run(judge, prior, scalars_of(model.law, trusted, x), samples, seed, progress)
    bare = theta is None or judge.is_own  # of the data's posteriors no controls can be made
    data = run.seen("posteriors", theta, x, 0, controls=not bare)
    drawn = run.drawn(data, controls=bare)
    own = drawn["own"] if bare else None
    result = run.section.result
    result |= {
        "rows": len(x),
        "left_out": rows - len(x),
        "labelled": theta is not None,
        "prior": prior.to_json(),
        "likelihood": judge.likelihood,
        "draws": judge.draws,
        "samples": samples,
        "alpha": ALPHA,
        "resolved": float(data.found.resolved.mean()),
        "evaluations": data.found.evaluations.mean(),
        "information": information(data, simulator, prior),
    }
    result |= run.section("uniform", uniform, prior, data.found, own and own.found)
    result["lc2st"] = run.section("lc2st", run.classified, data, own)
    result["score"] = run.section("score", run.score, data, own)
    result["predictive"] = run.section("predictive", run.predictive, data, drawn)
    result["misspecification"] = run.outside(data, drawn)
    result["corners"] = run.corners(data)
    result["checks"] = list(checks(result))
    result["warnings"] = list(warnings(result, theta, prior))
    return run.section.json()


class Run:
    """One calibration: what all its checks share.

    Args:
        judge: what gives posteriors.
        prior: uniform prior.
        observables: numbers of each x.
        samples: draws of each posterior for the predictive checks.
        seed: seed of everything that is random.
        progress: told the name of each section and the part of it that is done.
    """

    def __init__(
        self,
        judge: Judged,
        prior: Box,
        observables: Mapping[str, Observable],
        samples: int,
        seed: int,
        progress: Tell | None,
    ) -> None:
        self.judge, self.prior, self.observables = judge, prior, observables
        self.samples, self.seed = samples, seed
        self.tell: Tell = progress or (lambda name, part: None)
        self.section = Sections(lambda name: self.tell(name, 0.0))

    def seen(
        self, name: str, theta: Array | None, x: Array, offset: int, controls: bool = False
    ) -> Seen:
        """The posteriors of some rows, under the clock."""

        def found() -> Inferred:
            return inferred(
                self.judge, theta, x, self.prior,
                samples=max(self.samples, DRAWS), seed=self.seed + offset, controls=controls,
                tick=lambda part: self.tell(name, part),
            )  # fmt: skip

        return Seen(theta, x, self.section(name, found))

    def drawn(self, data: Seen, controls: bool) -> dict[str, Seen]:
        """Its own x at the θ of the data, or at others, and such x shuffled; or nothing."""
        if self.judge.draw is None:
            return {}
        rng = np.random.default_rng([self.seed, 9])
        theta = self.prior.sample(MOST_ROWS, rng) if data.theta is None else data.theta
        x = self.judge.draw(theta, rng).astype(data.x.dtype)
        mixed = shuffle_components(x, rng)[: SHUFFLED[len(self.prior)]]
        return {
            "own": self.seen("own", theta, x, 1, controls),
            "shuffled": self.seen("shuffled", None, mixed, 2),
        }

    def scaled(self, seen: Seen) -> Array:
        """Posterior means in parts of the prior's box, (n, D)."""
        return (seen.found.mean - self.prior.low) / (self.prior.high - self.prior.low)

    def classified(self, data: Seen, own: Seen | None) -> dict[str, Any] | None:
        """The local classifier test at x's spread over the first parameter."""

        def pairs(seen: Seen | None) -> Pairs | None:
            if seen is None or seen.theta is None:
                return None
            mean, sd = seen.found.mean, seen.found.sd
            draws = (seen.found.draws - mean[:, None]) / sd[:, None]
            measured = [np.asarray(o(seen.x), dtype=float) for o in self.observables.values()]
            features = np.column_stack([self.scaled(seen), *measured])
            return Pairs((seen.theta - mean) / sd, draws, features)

        theta = np.asarray((own or data).theta)
        shown = spread(theta[:, 0], PLACES)
        found = local(pairs(data), pairs(own), shown, self.seed)
        return found and found | {"theta": theta[shown]}

    def score(self, data: Seen, own: Seen | None) -> dict[str, Any]:
        """Bartlett's identities, derivatives being told in widths of posteriors."""
        right, x = own or data, None if data.theta is None else data.x
        width = np.median(right.found.sd, 0)
        theta = np.asarray(right.theta)
        some = (theta, own and own.x, x)
        return score(self.judge, *some, self.prior, width, seed=self.seed + 1)

    def predictive(self, data: Seen, drawn: Mapping[str, Seen]) -> dict[str, Any] | None:
        """Ranks of observables among those of x drawn at posteriors, and their controls."""
        draw = self.judge.draw
        if draw is None:
            return None
        own, low, high = drawn["own"], self.prior.low, self.prior.high
        shifted = np.clip(own.found.draws + SHIFT * own.found.sd[:, None], low, high)
        ranked = {k: (s.x, s.found.draws) for k, s in {"data": data, **drawn}.items()}
        ranked |= {"shifted": (own.x, shifted)}
        for k in ("shifted", "shuffled"):  # as many as there are of the data
            x, theta = ranked[k]
            ranked[k] = x[: len(data.x)], theta[: len(data.x)]
        found = {}
        for i, (name, (x, theta)) in enumerate(ranked.items()):
            self.tell("predictive", i / len(ranked))
            some = theta[:, : self.samples]
            found[name] = replicated(draw, self.observables, x, some, self.seed + 3 + i)
        controls = {name: found[name] for name in ("shifted", "shuffled")}
        return predictive(self.observables, found["data"], found["own"], controls)

    def outside(self, data: Seen, drawn: Mapping[str, Seen]) -> dict[str, Any] | None:
        """Whether each x is inside what is drawn: told by log q, or else by observables.

        Half of the own x say what is usual at each θ̂; x are ranked among the other half.
        """
        if not drawn:
            return None
        values = dict.fromkeys(["log q"]) if self.judge.likelihood else self.observables

        def located(seen: Seen, rows: slice) -> tuple[Array, list[Array]]:
            known = [seen.found.log_p if o is None else o(seen.x) for o in values.values()]
            return self.scaled(seen)[rows], [np.asarray(v, dtype=float)[rows] for v in known]

        own, every = drawn["own"], slice(None)
        null = located(own, slice(0, None, 2))
        told = [
            strangeness(null, located(seen, rows), signed=bool(self.judge.likelihood))
            for seen, rows in (
                (data, every), (own, slice(1, None, 2)), (drawn["shuffled"], slice(len(data.x))),
            )
        ]  # fmt: skip
        return misspecification(*told)

    def corners(self, data: Seen) -> list[dict[str, Any]]:
        """Marginals of single parameters and of pairs, for x's spread over the first of them."""
        theta, found = data.theta, []
        for i in spread(data.found.mean[:, 0] if theta is None else theta[:, 0], CORNERS):
            some = np.array([i])
            log_density = self.judge.log_density(data.x[some], some, self.seed)
            corner = _corner(self.judge.posterior(log_density, self.prior, 1))
            found.append({"row": i, "theta": None if theta is None else theta[i], **corner})
        return found


def within(prior: Box, theta: Array | None, x: Array) -> tuple[Array | None, Array]:
    """The rows whose θ is in the prior's box; all if θ is not known.

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


def scalars_of(law: Law, trusted: str | None, x: Array) -> dict[str, Observable]:
    """The observables that are one number for each x, of a simulator that may be imported."""
    every = observables_of(law, trusted, x[:1000])
    return {name: o for name, o in every.items() if np.ndim(o(x[:1])) == 1}


def information(data: Seen, simulator: Simulator | None, prior: Box) -> dict[str, Any] | None:
    """What x tells of θ, on average, in nats, and the most that it could where that is known.

    It is −∞, told as None, where a posterior excludes the θ of its x; "excluded" counts these.
    """
    if data.theta is None:
        return None
    gain, excluded = data.found.gain, int(np.isneginf(data.found.gain).sum())
    value, se = (None, None) if excluded else estimate(gain)
    exact = declared.mutual_information(simulator, prior) if simulator else None
    return {"gain": value, "se": se, "exact": exact, "excluded": excluded}


def uniform(prior: Box, data: Inferred, own: Inferred | None) -> dict[str, Any]:
    """Tests of what a right posterior makes uniform, in the data, own x and controls."""

    def tested(pick: Callable[[Ranks], Array]) -> dict[str, Any]:
        def of(seen: Inferred | None) -> dict[str, Any] | None:
            right = seen and seen.ranks.get("right")
            return uniformity(pick(right))._asdict() if right else None

        wrong = (own or data).ranks
        controls = {k: _control(uniformity(pick(wrong[k]))) for k in ("narrow", "shifted")}
        return {"data": of(data), "own": of(own), "controls": controls}

    def of_parameter(d: int) -> Callable[[Ranks], Array]:
        return lambda ranks: ranks.cdf[:, d]

    n = len((data if data.ranks else own or data).mean)
    return {
        "levels": LEVELS,
        "bands": bands(n),
        "sbc": {name: tested(of_parameter(d)) for d, name in enumerate(prior.names)},
        "coverage": tested(lambda r: r.credibility),
        "tarp": tested(lambda r: r.tarp),
    }


def _control(found: Uniformity) -> dict[str, Any]:
    return {
        "p_value": found.p_value,
        "caught": bool(found.p_value < ALPHA),
        "counts": found.counts,
        "ecdf": found.ecdf,
    }


def _corner(posterior: GridPosterior) -> dict[str, Any]:
    """Densities of one posterior where there is something to see."""
    dims = len(posterior.axes)
    low, high = posterior.quantile(np.array([1e-3, 1 - 1e-3]))[0]
    bounds = np.array([nodes[0, [0, -1]] for nodes in posterior.nodes]).T
    ends = np.clip([low - 0.1 * (high - low), high + 0.1 * (high - low)], *bounds).T
    shown = [np.linspace(a, b, POINTS)[None] for a, b in ends]

    def density(*pick: int) -> Array:
        """Of some parameters, the others integrated out."""
        axes = [shown[d] if d in pick else posterior.axes[d] for d in range(dims)]
        p = np.moveaxis(np.exp(posterior.on(tuple(axes))), [1 + d for d in pick],
                        range(1, 1 + len(pick)))  # fmt: skip
        return integral([a for d, a in enumerate(axes) if d not in pick], p)[0]

    return {
        "axes": [a[0] for a in shown],
        "marginals": [density(d) for d in range(dims)],
        "planes": [
            {"pair": [d, e], "density": density(d, e)} for e in range(dims) for d in range(e)
        ],
    }

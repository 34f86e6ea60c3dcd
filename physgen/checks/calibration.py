"""Are the posteriors of a surrogate right? Checks that need no exact answer, with controls.

====================  =========================================================================
``sbc``               is the rank of θ in its posterior uniform? for each parameter
``coverage``          does the densest region of mass c hold θ in the part c of the cases?
``tarp``              is θ no nearer to a random point than its posterior's draws?
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

A posterior that is merely wide passes: the prior has uniform ranks too. What it is worth is
another question, which ``validate`` answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from physgen.checks.drawn import draw, spread
from physgen.checks.features import observables_of
from physgen.checks.inferred import SHIFT, Inferred, Ranks, inferred
from physgen.checks.predictive import misspecification, predictive, replicated
from physgen.checks.samples import shuffle_components
from physgen.checks.score import score
from physgen.checks.sections import Sections
from physgen.checks.uniformity import ALPHA, LEVELS, Uniformity, bands, uniformity
from physgen.checks.verdicts import checks, warnings
from physgen.errors import UsageError
from physgen.posterior.cubic import integral
from physgen.posterior.grid import NODES, GridPosterior, grid_posterior, of_surrogate
from physgen.surrogates.base import Likelihood, Surrogate
from simulators.base import Array, Box, Observable

__all__ = ["MOST_ROWS", "SECTIONS", "calibrate"]

MOST_ROWS = 1000
"""Rows that are looked at where the caller does not choose."""
LEAST_ROWS = 20
SHUFFLED = {1: 200, 2: 40, 3: 20}
"""Rows of the control of shuffled components at most, for D parameters: odd x are dear."""
SAMPLES = 20
CORNERS, POINTS = 3, 50
SECTIONS = {
    "posteriors": 0.4, "own": 0.45, "shuffled": 0.05, "uniform": 0, "score": 0.03,
    "predictive": 0.07,
}  # fmt: skip
"""Those that take time, with the part of it that they take, about."""
Tell = Callable[[str, float], None]


def calibrate(
    surrogate: Surrogate,
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
    """Check the posteriors of a surrogate on held-out rows, by checks with controls.

    Args:
        surrogate: a family with a likelihood, of one to three parameters.
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
        UsageError: no likelihood, more parameters, or too few rows under this prior.
    """
    require_grid(surrogate)
    rows = len(x)
    if theta is not None:
        inside = prior.contains(theta)
        theta, x = theta[inside], x[inside]
        if len(x) < LEAST_ROWS:
            raise UsageError(
                f"calibrate: expected at least {LEAST_ROWS} rows with theta in {prior}, "
                f"got {len(x)} of {rows}"
            )
    draws = draws or surrogate.posterior_draws
    tell = progress or (lambda name, part: None)
    section = Sections(lambda name: tell(name, 0.0))
    result = section.result
    observables = scalars_of(surrogate, trusted, x)

    def infer(name: str, at: Array | None, some: Array, offset: int, controls: bool) -> Inferred:
        options: dict[str, Any] = {"draws": draws, "samples": samples, "seed": seed + offset}
        with_tick = options | {"controls": controls, "tick": lambda part: tell(name, part)}
        return section(name, lambda: inferred(surrogate, at, some, prior, **with_tick))

    data = infer("posteriors", theta, x, 0, False)
    rng = np.random.default_rng([seed, 9])
    drawn_at = prior.sample(MOST_ROWS, rng) if theta is None else theta
    own_x = draw(surrogate, drawn_at, x, seed)
    own = infer("own", drawn_at, own_x, 1, True)
    mixed = shuffle_components(own_x, rng)[: SHUFFLED[len(prior)]]
    wrong = infer("shuffled", None, mixed, 2, False)
    result |= {
        "rows": len(x),
        "left_out": rows - len(x),
        "labelled": theta is not None,
        "prior": prior.to_json(),
        "likelihood": surrogate.likelihood,
        "draws": draws,
        "samples": samples,
        "alpha": ALPHA,
        "resolved": float(data.resolved.mean()),
        "evaluations": data.evaluations.mean(),
    }
    result |= section("uniform", uniform, prior, data, own)
    width = np.median(own.sd, 0)
    result["score"] = section(
        "score",
        lambda: score(
            surrogate, drawn_at, own_x, None if theta is None else x, prior, width,
            draws=draws, seed=seed + 1,
        ),
    )  # fmt: skip
    shifted = np.clip(own.draws + SHIFT * own.sd[:, None], prior.low, prior.high)
    ranked = {"data": (x, data.draws), "own": (own_x, own.draws), "shifted": (own_x, shifted),
              "shuffled": (mixed, wrong.draws)}  # fmt: skip

    def predicted() -> dict[str, Any]:
        found = {}
        for i, (name, (some, at)) in enumerate(ranked.items()):
            tell("predictive", i / len(ranked))
            found[name] = replicated(surrogate, observables, some, at, seed + 3 + i)
        controls = {name: found[name] for name in ("shifted", "shuffled")}
        return predictive(observables, found["data"], found["own"], controls)

    result["predictive"] = section("predictive", predicted)
    result["misspecification"] = misspecification(
        prior, *((rows.mean, rows.log_p) for rows in (data, own, wrong))
    )
    result["corners"] = corners(surrogate, theta, x, data, prior, draws, seed)
    result["checks"] = list(checks(result))
    result["warnings"] = list(warnings(result, theta, prior))
    return section.json()


def require_grid(surrogate: Surrogate) -> None:
    """Refuse a surrogate whose posteriors are not to be had on a grid."""
    if surrogate.likelihood is Likelihood.NONE:
        raise UsageError(f"calibrate: {surrogate.name} has no likelihood, so no posterior")
    if len(surrogate.law.prior) not in NODES:
        raise UsageError(f"calibrate: expected 1 to 3 parameters, got {len(surrogate.law.prior)}")


def scalars_of(surrogate: Surrogate, trusted: str | None, x: Array) -> dict[str, Observable]:
    """The observables that are one number for each x, of a simulator that may be imported."""
    every = observables_of(surrogate.law, trusted, x[:1000])
    return {name: o for name, o in every.items() if np.ndim(o(x[:1])) == 1}


def uniform(prior: Box, data: Inferred, own: Inferred) -> dict[str, Any]:
    """Tests of what a right posterior makes uniform, in the data, own x and controls."""

    def tested(pick: Callable[[Ranks], Array]) -> dict[str, Any]:
        found = {k: uniformity(pick(r)) for k, r in own.ranks.items()}
        right = data.ranks.get("right")
        return {
            "data": uniformity(pick(right))._asdict() if right else None,
            "own": found["right"]._asdict(),
            "controls": {k: _control(found[k]) for k in ("narrow", "shifted")},
        }

    def of_parameter(d: int) -> Callable[[Ranks], Array]:
        return lambda ranks: ranks.cdf[:, d]

    n = len(data.mean) if data.ranks else len(own.mean)
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


def corners(
    surrogate: Surrogate,
    theta: Array | None,
    x: Array,
    data: Inferred,
    prior: Box,
    draws: int,
    seed: int,
) -> list[dict[str, Any]]:
    """The marginals of single parameters and of pairs, for x's spread over the first of them."""
    shown = spread(data.mean[:, 0] if theta is None else theta[:, 0], CORNERS)
    found = []
    for i in shown:
        some = np.array([i])
        likelihood = of_surrogate(surrogate, x[some], draws=draws, seed=seed, index=some)
        corner = _corner(grid_posterior(likelihood, prior, 1))
        found.append({"row": i, "theta": None if theta is None else theta[i], **corner})
    return found


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

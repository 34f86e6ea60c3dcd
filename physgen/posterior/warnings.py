"""What speaks against a posterior, in one line each, with what to do.

These say that the observations are not of what was learnt, that a method has not done its work, or
that the question was too narrow. Whether a likelihood is right is for the checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from physgen.dataset import Rows
from physgen.law import Law
from physgen.nn.tensors import tensor_of
from physgen.nn.transforms import Standardise, Transform
from physgen.posterior.importance import MOST_K
from physgen.posterior.mcmc import LEAST_ESS, MOST_R_HAT
from physgen.sbi.networks import Network
from physgen.surrogates.base import Surrogate
from simulators.base import Array
from simulators.prior import Prior

__all__ = [
    "contradictions",
    "domain_warnings",
    "posterior_warnings",
    "training_warnings",
    "untrained_warnings",
]

EDGE, MOST = 0.01, 0.1
"""More than MOST of a posterior in the outermost part EDGE of the prior is ten times its own."""
MOST_LEAK = 0.2
"""Part of a network's draws outside of the prior above which that is said."""
PILED = 0.9
"""Width over mean of the distance from a bound: 0.76 for a Gaussian cut at its centre, 0.91 where
it is cut two widths out, 1 for an exponential. A right posterior is rarely cut so far out."""
FAR = 4.0
"""Normal coordinates beyond this hold 6e-5 of the prior: a training has next to nothing there."""
MOST_NOISE = 0.1
"""Widths by which random draws may move the mean without a word."""
WIDE = 0.9
"""A standard deviation above this part of the prior's is no less."""
AT_ONCE = 2**21
"""Numbers of draws that are looked at in one go."""
SAMPLING = ("sampler", "sweeps")
"""Options that say how x is drawn, not from what."""
COARSE = 0.01
"""Of a component's width in training: steps of the type of observed x above which digits are
lost."""


def posterior_warnings(
    theta: Array,
    told: Mapping[str, Array],
    prior: Prior,
    method: str,
    known: Prior | None = None,
) -> Iterator[str]:
    """What is to be said of posteriors.

    Args:
        theta: draws of each, (n, k, D).
        told: their diagnostics, (n, …) each; and their "sd", (n, D).
        prior: their prior.
        method: how they were made.
        known: prior of what was learnt from, if it may be another one.
    """
    n = len(theta)
    if "resolved" in told and not np.all(told["resolved"]):
        hint = "; look again with --method mcmc" if method == "grid" else " by per cents"
        yield f"the grid does not resolve {some(~told['resolved'], n)}; widths may be off{hint}"
    remedy = MCMC if method == "mcmc" else WEIGHTS
    if "r_hat" in told and (bad := ~(told["r_hat"] <= MOST_R_HAT)).any():
        yield f"{some(np.any(bad, -1), n)}: R-hat {told['r_hat'].max():.3g}; {remedy}"
    if "ess" in told and (bad := ~(told["ess"] >= LEAST_ESS)).any():
        yield f"{some(np.any(bad, -1), n)}: ESS {told['ess'].min():.0f}; {remedy}"
    yield from weight_warnings(told, method)
    edges = of_draws(theta, lambda some: at_the_edge(some, prior), len(prior))
    for p, flat, mass in zip(prior.parameters, prior.flat, edges, strict=True):
        if (mass > MOST).any():
            where = f"at the edge of the prior, {p.text}; the truth may lie beyond"
            where = where if flat else f"in the far tail of the prior, {p.text}"
            yield (
                f"{p.name}: up to {mass.max():.0%} of {some(mass > MOST, n)} lies {where}: widen "
                "the prior of the simulations"
            )
    yield from untrained_warnings(theta, prior, known or prior)
    widths = of_draws(theta, lambda some: prior.to_coordinates(some).std(1).T, len(prior))
    for d, p in enumerate(prior.parameters if "sd" in told else ()):
        in_units = prior.column_slope(d, np.zeros(1))
        spread = told["sd"][:, d] / in_units if prior.affine[d] else widths[d]
        ratio = spread * (math.sqrt(3) if prior.flat[d] else 1)
        if (ratio > WIDE).all():
            yield (
                f"{p.name}: {some(ratio > WIDE, n)} as wide as the prior, {p.text} "
                f"({ratio.min():.2f} of it or more): x tells nothing of it, or nothing was learnt"
            )


def untrained_warnings(theta: Array, prior: Prior, known: Prior) -> Iterator[str]:
    """What is to be said of posteriors where hardly any θ was learnt from.

    Args:
        theta: draws of each, (n, k, D).
        prior: their prior.
        known: prior of what was learnt from, of the same parameters, fixed or not.
    """
    same = {p for p in prior.parameters if p in known.parameters}

    def outside(some: Array) -> Array:
        return far_out(known.to_coordinates(prior.complete(some, known.names)))

    every = of_draws(theta, outside, len(known))
    for p, flat, mass in zip(known.parameters, known.flat, every, strict=True):
        if not flat and p not in same and (mass > MOST).any():
            yield (
                f"{p.name}: up to {mass.max():.0%} of {some(mass > MOST, len(theta))} lies in the "
                f"far tail of what was learnt from, {p.text}: simulate there too, and fit again"
            )


def of_draws(theta: Array, numbers: Callable[[Array], Array], dims: int) -> Array:
    """Numbers of each parameter of draws (n, k, D), of some posteriors at a time: (dims, n)."""
    step = max(1, AT_ONCE // math.prod(theta.shape[1:]))
    parts = [numbers(theta[i : i + step]) for i in range(0, len(theta), step)]
    return np.concatenate(parts, 1) if parts else np.empty((dims, 0))


def at_the_edge(theta: Array, prior: Prior) -> Array:
    """Part of draws (n, k, D) piled up at a bound of the prior, or in its far tail, (D, n)."""
    c = prior.to_coordinates(theta)
    piled = np.maximum(piled_up(c), piled_up(-c))
    return np.where(np.array(prior.flat)[:, None], piled, far_out(c))


def piled_up(c: Array) -> Array:
    """Part of draws (n, k, D) next to −1 of [−1, 1], if they pile up there, (D, n)."""
    distance = c + 1
    mean, mass = distance.mean(1), (distance < 2 * EDGE).mean(1)
    return np.where(distance.std(1) > PILED * mean, mass, 0).T


def far_out(c: Array) -> Array:
    """Part of draws (n, k, D) that, being normal, the prior has next to nothing of, (D, n)."""
    return (abs(c) > FAR).mean(1).T


def weight_warnings(told: Mapping[str, Array], method: str = "") -> Iterator[str]:
    """What is to be said of draws of another law and their weights, and of a random log p.

    Args:
        told: of each posterior its "leak", "effective_sample", "pareto_k" and "draws_error", (n,)
            each.
        method: how they were made.
    """
    if "leak" in told and (bad := told["leak"] > MOST_LEAK).any():
        yield (
            f"{some(bad, len(bad))}: up to {told['leak'].max():.0%} of the network's draws lay "
            "outside of the prior and were left out: train it longer, or on more simulations"
        )
    if "draws_error" in told and (error := told["draws_error"].max()) > MOST_NOISE:
        yield (
            f"the random draws of log p move the mean by {error:.2g} of its width, over so many "
            "rows: raise --draws"
        )
    if "pareto_k" in told and (bad := told["pareto_k"] > MOST_K).any():
        yield (
            f"{some(bad, len(bad))}: Pareto k of the weights {told['pareto_k'].max():.2f}, above "
            f"{MOST_K}: {UNTRUSTED.get(method, MISSES)}"
        )
    if "effective_sample" in told and (bad := told["effective_sample"] < LEAST_ESS).any():
        yield (
            f"{some(bad, len(bad))}: the weighted draws are worth "
            f"{told['effective_sample'].min():.0f} independent ones; raise --samples, or infer "
            "without --direct and --refine"
        )


def training_warnings(info: Mapping[str, Any]) -> Iterator[str]:
    """What is to be said of the training of a surrogate or a network.

    Args:
        info: what it says of it, as JSON data: "warnings"; of a network, its "gain" and the
            standard error of that.
    """
    yield from (f"of the training: {line}" for line in info.get("warnings", ()))
    gain, error = info.get("gain", (math.inf, 0))
    if not gain > 2 * error:
        yield (
            f"of simulations held out the network tells {gain:.2g} ± {error:.1g} nats of theta, "
            "which may be no more than the prior: raise --epochs, or take more simulations, "
            "unless x tells nothing of theta"
        )


def contradictions(model: Surrogate | Network | None, x: Array) -> Iterator[str]:
    """What in observed x (n, *x_shape), in the type it came in, is unlike that of the training."""
    scale = getattr(model, "transform", None) or getattr(model, "scale", None)
    if not isinstance(scale, Transform):
        return
    if (broken := scale.breaks(tensor_of(x))).any():
        yield (
            f"{int(broken.sum())} of {len(x)} rows break what all x of the training obey: "
            f"{', '.join(scale.told()[:3])}; these components are not looked at"
        )
    if isinstance(scale, Standardise) and x.dtype.kind == "f":
        steps = np.spacing(np.abs(x).max(0)) / scale.std.cpu().numpy()
        if (steps > COARSE).any():
            yield (
                f"x is {x.dtype}, with steps of {steps.max():.2g} widths of the x of the training:"
                " its digits are lost; store it in float64"
            )


def domain_warnings(law: Law, rows: Rows, iid: bool = False) -> Iterator[str]:
    """What speaks against observations being of the law that was learnt, or of one θ."""
    if iid and rows.theta is not None and (rows.theta != rows.theta[0]).any():
        yield "its rows were drawn at different θ, and are taken for one observation"
    if rows.meta is None:
        return
    theirs = rows.meta.law
    if theirs.simulator != law.simulator:
        yield f"is x of {theirs.simulator}, and p(x|θ) of {law.simulator} is what was learnt"
        return
    for name, value in theirs.options.items():
        if law.options.get(name, value) != value and name not in SAMPLING:
            yield f"was made with {name} = {value}, the training with {law.options[name]}"


UNTRUSTED = {
    "smc": "its draws are a population that no weights have checked; look again with another "
    "--seed, or with --method nested or mcmc",
    "vi": "a normal law is not its shape; use --method mcmc or smc",
}
MISSES = "the network's draws miss a part of it, and weights do not make up for it"
WEIGHTS = "the importance weights have collapsed; use --method mcmc or grid"
MCMC = "the chains have not converged; raise --samples, or use --method grid"


def some(which: Array, n: int) -> str:
    """How many of n posteriors, of a mask (n,) or (n, D)."""
    return "the posterior" if n == 1 else f"{int(which.sum())} of {n} posteriors"

"""What speaks against a posterior, in one line each, with what to do.

These say that a method has not done its work, or that the question was too narrow. Whether a
likelihood is right is for the checks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from physgen.posterior.importance import MOST_K
from physgen.posterior.mcmc import LEAST_ESS, MOST_R_HAT
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["extrapolation_warnings", "posterior_warnings", "training_warnings"]

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


def posterior_warnings(
    theta: Array, told: Mapping[str, Array], prior: Prior, method: str
) -> Iterator[str]:
    """What is to be said of posteriors.

    Args:
        theta: draws of each, (n, k, D).
        told: their diagnostics, (n, …) each; and their "sd", (n, D).
        prior: their prior.
        method: how they were made.
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
    c = prior.to_coordinates(theta)
    for p, flat, values in zip(prior.parameters, prior.flat, np.moveaxis(c, -1, 0), strict=True):
        mass = np.maximum(*(piled_up(s * values) for s in (1, -1))) if flat else far_out(values)
        if (mass > MOST).any():
            where = f"at the edge of the prior, {p.bounds}; the truth may lie beyond"
            where = where if flat else f"in the far tail of the prior, {p.bounds}"
            yield (
                f"{p.name}: up to {mass.max():.0%} of {some(mass > MOST, n)} lies {where}: widen "
                "the prior of the simulations"
            )
    for d, p in enumerate(prior.parameters if "sd" in told else ()):
        in_units = prior.column_slope(d, np.zeros(1))
        spread = told["sd"][:, d] / in_units if prior.affine[d] else c[..., d].std(-1)
        ratio = spread * (math.sqrt(3) if prior.flat[d] else 1)
        if (ratio > WIDE).all():
            yield (
                f"{p.name}: {some(ratio > WIDE, n)} as wide as the prior, {p.bounds} "
                f"({ratio.min():.2f} of it or more): x tells nothing of it, or nothing was learnt"
            )


def extrapolation_warnings(theta: Array, prior: Prior, trained: Prior) -> Iterator[str]:
    """Parameters that another prior moves to where the training saw next to nothing.

    Args:
        theta: draws of each posterior, (n, k, D).
        prior: their prior.
        trained: that of the training, over the same parameters or more.
    """
    drawn = dict(zip(prior.names, np.moveaxis(theta, -1, 0), strict=True))
    for p in trained.parameters if prior != trained else ():
        values = drawn.get(p.name, np.full((1, 1), prior.fixed.get(p.name, np.nan)))
        mass = np.zeros(1) if p.flat else far_out(p.to_coordinate(values, False))
        if (mass > MOST).any():
            yield (
                f"{p.name}: up to {mass.max():.0%} of {some(mass > MOST, len(mass))} lies in the "
                f"far tail of what was trained on, {p.bounds}, where nothing was learnt: simulate "
                "with a wider prior"
            )


def piled_up(c: Array) -> Array:
    """Part of draws (n, k) in the outermost part of [−1, 1] below, if they pile up there, (n,)."""
    distance = c + 1
    mean, mass = distance.mean(-1), (distance < 2 * EDGE).mean(-1)
    return np.where(distance.std(-1) > PILED * mean, mass, 0)


def far_out(c: Array) -> Array:
    """Part of draws (n, k) of a normal coordinate that the prior has next to nothing of, (n,)."""
    return (abs(c) > FAR).mean(-1)


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

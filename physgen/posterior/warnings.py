"""What speaks against a posterior, in one line each, with what to do.

These say that a method has not done its work, or that the question was too narrow. Whether a
likelihood is right is for the checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from physgen.posterior.mcmc import LEAST_ESS, MOST_R_HAT
from simulators.base import Array, Box

__all__ = ["posterior_warnings"]

EDGE, MOST = 0.01, 0.1
"""More than MOST of a posterior in the outermost part EDGE of the prior is ten times its own."""


def posterior_warnings(
    theta: Array, told: Mapping[str, Array], prior: Box, method: str
) -> Iterator[str]:
    """What is to be said of posteriors.

    Args:
        theta: draws of each, (n, k, D).
        told: their diagnostics, (n, …) each.
        prior: their uniform prior.
        method: how they were made.
    """
    n = len(theta)
    if "resolved" in told and not np.all(told["resolved"]):
        hint = "; look again with --method mcmc" if method == "grid" else " by per cents"
        yield f"the grid does not resolve {some(~told['resolved'], n)}; widths may be off{hint}"
    remedy = VI if method == "vi" else MCMC
    if "r_hat" in told and (bad := ~(told["r_hat"] <= MOST_R_HAT)).any():
        yield f"{some(np.any(bad, -1), n)}: R-hat {told['r_hat'].max():.3g}; {remedy}"
    if "ess" in told and (bad := ~(told["ess"] >= LEAST_ESS)).any():
        yield f"{some(np.any(bad, -1), n)}: ESS {told['ess'].min():.0f}; {remedy}"
    for p, values in zip(prior.parameters, np.moveaxis(theta, -1, 0), strict=True):
        step = EDGE * (p.high - p.low)
        mass = np.maximum((values < p.low + step).mean(-1), (values > p.high - step).mean(-1))
        if (mass > MOST).any():
            yield (
                f"{p.name}: up to {mass.max():.0%} of {some(mass > MOST, n)} lies at the edge of "
                f"the prior, {p.low:g}:{p.high:g}; the truth may lie beyond: widen the prior of "
                "the simulations"
            )


VI = "the importance weights have collapsed; use --method mcmc or grid"
MCMC = "the chains have not converged; raise --samples, or use --method grid"


def some(which: Array, n: int) -> str:
    """How many of n posteriors, of a mask (n,) or (n, D)."""
    return "the posterior" if n == 1 else f"{int(which.sum())} of {n} posteriors"

"""θ of a row of which only y is known: p(θ|y) of the exact evidence, or of a method's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from physgen.errors import UsageError
from physgen.law import Law
from physgen.verbs.measured import MeasuredRow
from simulators.base import Array, Restoration, Restorer
from simulators.prior import Prior

__all__ = ["Proposals", "as_given", "by_exact_evidence", "theta_scores"]

ROUNDS, PRIOR_PART = 3, 0.2
"""Of proposals, and the prior's part in each but the first, which is of the prior alone."""
LEAST = 12
"""Effective draws at least of what a mixture is fitted to: weights are tempered so far."""
FEW = 4.0
"""Standard deviations of so many draws, beyond which a figure is off."""


class Proposals:
    """θ of p(θ|y), each weighed by an estimate of p(y|θ): adaptive importance sampling.

    The first round is of the prior, each other of a mixture fitted to the draws so far, with the
    prior as a part of it (Cappé, Douc, Guillin, Marin & Robert, Stat. Comput. 18 (2008) 447). In
    the end all are draws of the mixture of the rounds (Veach & Guibas, SIGGRAPH 1995), and weights
    are right on average if p(y|θ) is estimated without bias.

    Args:
        prior: of θ.
        rng: random numbers.
    """

    def __init__(self, prior: Prior, rng: np.random.Generator) -> None:
        self.prior, self.rng = prior, rng
        self.z: Array = np.empty((0, len(prior)))
        self.log_p: Array = np.empty(0)
        self.of_prior, self.laws = 0, list[tuple[int, Any]]()

    def more(self, k: int) -> Array:
        """θ of the next round, (k, D)."""
        from physgen.posterior.student import fitted_mixture
        from physgen.posterior.unbounded import from_scores, to_scores

        theta, few = self.prior.sample(k, self.rng), k
        if len(self.log_p):
            log_w, few = tempered_weights(self.log_weights, LEAST), round(PRIOR_PART * k)
            law = fitted_mixture(self.z, np.exp(log_w - log_w.max()), log_w, self.rng)
            theta[few:] = from_scores(self.prior, law.sample(k - few, self.rng))
            self.laws.append((k - few, law))
        self.of_prior += few
        self.z = np.concatenate([self.z, to_scores(self.prior, theta)])
        return theta

    def told(self, log_evidence: Array) -> None:
        """Log p(y|θ) of the last round, (k,)."""
        self.log_p = np.concatenate([self.log_p, log_evidence])

    @property
    def log_weights(self) -> Array:
        """Of all draws so far, up to a constant, (N,)."""
        from physgen.posterior.unbounded import scores_density

        prior = scores_density(self.prior, self.z)
        proposed = [np.log(self.of_prior) + prior]
        proposed += [np.log(k) + law.log_density(self.z) for k, law in self.laws]
        return self.log_p + prior - np.logaddexp.reduce(proposed, axis=0)

    def posterior(self, arrays: Mapping[str, Array], n: int) -> dict[str, Array]:
        """n draws of equal weight of arrays (N, …), and how many draws they are worth."""
        from physgen.posterior.importance import effective_sample, resampled

        log_w = self.log_weights
        kept = resampled(np.arange(len(log_w))[:, None], log_w, n, self.rng)[:, 0]
        found = {name: values[kept] for name, values in arrays.items()}
        return found | {"theta_ess": np.full(n, effective_sample(log_w))}


def tempered_weights(log_w: Array, least: float) -> Array:
    """Weights (N,) to such a power, at most 1, that some effective draws are left."""
    from physgen.posterior.importance import effective_sample

    power = 1.0
    while effective_sample(power * log_w) < min(least, 0.5 * np.isfinite(log_w).sum()):
        power *= 0.8
    return power * log_w


def as_given(exact: Restorer, theta: Array, row: MeasuredRow) -> Restoration:
    """The exact p(x|θ, y) of one θ (D,).

    Raises:
        UsageError: of this measurement it is not known.
    """
    try:
        return exact(theta, row.y, row.linear, row.noise)
    except ValueError as error:
        raise UsageError(f"method exact: {error}") from error


def by_exact_evidence(exact: Restorer | None, row: MeasuredRow, law: Law) -> Any:
    """p(θ|y) where the simulator knows log p(y|θ) exactly; None where it does not."""
    middle = law.prior.from_coordinates(np.zeros((1, len(law.prior))))[0]
    try:
        if exact is None or exact(middle, row.y, row.linear, row.noise).log_evidence is None:
            return None
    except ValueError:
        return None
    from physgen.posterior.grid import grid_posterior
    from physgen.posterior.smc import smc

    def log_likelihood(theta: Array, which: Array | None = None) -> Array:
        values = [as_given(exact, t, row).log_evidence for t in theta.reshape(-1, theta.shape[-1])]
        return np.array(values).reshape(theta.shape[:2])

    if len(law.prior) > 3:
        return smc(log_likelihood, law.prior, 1)
    return grid_posterior(log_likelihood, law.prior, 1)


def theta_scores(arrays: Mapping[str, Array], exact: Any, prior: Prior) -> list[dict[str, Any]]:
    """Draws of θ (n, D) beside the exact p(θ|y), a line for each parameter.

    Args:
        arrays: theta, and theta_ess (n,), what the draws of which they are some are worth.
        exact: p(θ|y) of one y.
        prior: the control, which knows nothing of y.
    """
    theta, without = arrays["theta"], prior.sample(10_000, np.random.default_rng(0))
    worth = 1 / (1 / len(theta) + 1 / float(arrays["theta_ess"][0]))
    lines = []
    for d, name in enumerate(prior.names):
        mean, sd = float(exact.mean[0, d]), float(exact.sd[0, d])
        off, width = (theta[:, d].mean() - mean) / sd, theta[:, d].std(ddof=1) / sd
        chance, of_width = worth**-0.5, (2 * worth) ** -0.5
        lines.append(
            {
                "parameter": name, "mean": mean, "sd": sd, "off": off, "off_chance": chance,
                "width": width, "width_chance": of_width,
                "off_control": (without[:, d].mean() - mean) / sd,
                "width_control": without[:, d].std() / sd,
                "passed": bool(abs(off) < FEW * chance and abs(width - 1) < FEW * of_width),
            }
        )  # fmt: skip
    return lines

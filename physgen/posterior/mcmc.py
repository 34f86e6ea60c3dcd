r"""Markov chains for any number of parameters, by sbi's vectorised slice sampler.

The chains of all observations run side by side, so that a call of log p(x|θ) is one large batch.
They live in normal scores of the prior (:mod:`physgen.posterior.unbounded`), where nothing has an
end. They begin at draws of the prior weighted by p(x|θ)^¼, twice as wide as a Gaussian posterior,
so that R̂ has something to see; the first brackets are as wide as these draws (sbi's default,
0.01, is stepped out of one by one). Chains that do not agree go on with four times the thinning,
twice at most; what they have drawn before counts as warm-up.

log p must be a function of θ: for a simulated likelihood the same random numbers for one x under
every θ (`physgen.posterior.grid.of_surrogate`). Neal, Ann. Statist. 31 (2003) 705.
"""

from __future__ import annotations

import numpy as np

from physgen.errors import DataError
from physgen.posterior.base import Draws
from physgen.posterior.grid import LogLikelihood
from physgen.posterior.unbounded import from_scores, scores_density, to_scores
from physgen.sbi.manners import need_sbi
from physgen.sbi.slice_sampler import slice_chains
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["LEAST_ESS", "MOST_R_HAT", "mcmc"]

CHAINS, LEAST, WARM_UP, STARTS = 20, 50, 50, 400
"""Chains, draws of each at least, steps that tune the brackets, draws of the prior to begin at."""
MOST_R_HAT, LEAST_ESS = 1.05, 100.0
"""Beyond these a chain has not converged."""
THINNING = (1, 4, 16)


def mcmc(
    log_likelihood: LogLikelihood,
    prior: Prior,
    n: int,
    k: int = 1000,
    *,
    seed: int = 0,
    first: int = 0,
) -> Draws:
    """Draws from the posterior of n observations.

    Args:
        log_likelihood: θ (n, G, D) → log p(x_i|θ_ig), (n, G), the same value for the same θ.
        prior: of θ.
        n: number of observations.
        k: draws of each, at least 1000 being made.
        seed: seed of the chains.
        first: which of all observations the first is: the chains of these are their own.

    Raises:
        DataError: log p is NaN or +∞, or −∞ wherever it was looked at.
        UsageError: sbi is not installed.
    """
    need_sbi("mcmc")
    dims = len(prior)

    def log_density(flat: Array) -> Array:
        z = flat.reshape(n, -1, dims)
        theta = from_scores(prior, z)
        values = checked_log_density(log_likelihood(theta))
        return (values + scores_density(prior, z)).reshape(-1)

    rng = np.random.default_rng([seed, first])
    z, brackets = starts(log_likelihood, prior, n, rng, first)
    per_chain = max(LEAST, -(-k // CHAINS))
    for thin in THINNING:
        path = slice_chains(
            log_density, z, per_chain, thin=thin, tuning=WARM_UP if thin == 1 else 0,
            brackets=brackets, seed=seed, rng=rng,
        )  # fmt: skip
        z = path[:, -1]
        chains = from_scores(prior, path.reshape(n, CHAINS, -1, dims))
        draws = Draws(chains, log_likelihood)
        if converged(draws).all():
            break
        moved = path.reshape(n, -1, dims).std(1).mean(0)
        brackets = 2 * np.maximum(moved, 1e-3)
    return Draws(
        draws.chains,
        lambda theta: checked_log_density(log_likelihood(theta)) + prior.log_prob(theta),
        {"r_hat": draws.r_hat, "ess": draws.ess},
    )


def converged(draws: Draws) -> Array:
    """Whether the chains of each observation agree and are long enough, (n,)."""
    return np.all((draws.r_hat <= MOST_R_HAT) & (draws.ess >= LEAST_ESS), -1)


def starts(
    log_likelihood: LogLikelihood, prior: Prior, n: int, rng: np.random.Generator, first: int
) -> tuple[Array, Array]:
    """Where the chains begin, (n·C, D), and the widths of the first brackets, (D,)."""
    points = np.stack([prior.sample(STARTS, rng) for _ in range(n)])
    values = checked_log_density(log_likelihood(points))
    peak = values.max(-1, keepdims=True)
    if not np.isfinite(peak).all():
        bad = int(np.flatnonzero(~np.isfinite(peak[:, 0]))[0])
        raise DataError(
            f"observation {first + bad}: log p(x|θ) is −∞ at {STARTS} draws of the prior"
        )
    weights = np.exp((values - peak) / 4)
    cdf = weights.cumsum(-1) / weights.sum(-1, keepdims=True)
    rows = [np.searchsorted(c, rng.random(CHAINS)).clip(max=STARTS - 1) for c in cdf]
    chosen = np.take_along_axis(points, np.stack(rows)[..., None], 1)
    z = to_scores(prior, chosen)
    return z.reshape(-1, len(prior)), np.maximum(z.std(1).mean(0), 0.03)


def checked_log_density(values: Array) -> Array:
    """The values (...) of log p as float64, refused if one is NaN or +∞."""
    values = np.asarray(values, dtype=np.float64)
    if np.isnan(values).any() or (values == np.inf).any():
        raise DataError("expected a log p(x|θ) that is finite or −∞, got NaN or +∞")
    return values

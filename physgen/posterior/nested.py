"""Nested sampling in the prior's unit cube, by nautilus: evidence, many modes, one x at a time.

Nested sampling (Skilling, Bayesian Anal. 1 (2006) 833) shrinks the prior shell by shell around
where p(x|θ) is high. nautilus (Lange, Mon. Not. R. Astron. Soc. 525 (2023) 3181) finds the shells
with small neural networks, draws from them in large batches and weighs all draws. It needs no
start and no shape of a posterior, and looks at the whole prior; networks make it dear.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from physgen.errors import DataError, UsageError
from physgen.posterior.base import Draws
from physgen.posterior.grid import LogLikelihood
from physgen.posterior.importance import effective_sample, resampled
from physgen.posterior.mcmc import checked_log_density
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["nested"]

LIVE, NETWORKS, EFFECTIVE = 1000, 1, 4000
"""Live points, networks of an ensemble, and the effective draws that are enough."""


def nested(
    likelihoods: Sequence[LogLikelihood],
    prior: Prior,
    k: int = 1000,
    *,
    seed: int = 0,
    first: int = 0,
) -> Draws:
    """Draws from the posterior of each observation, with its evidence.

    Args:
        likelihoods: for each observation θ (1, G, D) → log p(x|θ), (1, G).
        prior: of θ.
        k: draws of each, at least 4000 being made.
        seed: seed of the draws.
        first: which of all observations the first is: the draws of each are its own.

    Raises:
        DataError: log p is NaN or +∞, or −∞ wherever the prior was looked at.
        UsageError: nautilus is not installed.
    """
    if importlib.util.find_spec("nautilus") is None:
        raise UsageError("nested: needs nautilus-sampler; pip install 'physgen[nested]'")
    count, theta = max(k, EFFECTIVE), []
    told: dict[str, list[float]] = {"log_evidence": [], "ess": [], "evaluations": []}
    for i, one in enumerate(likelihoods, first):
        sampler = explored(one, prior, i, seed)
        points, log_w, _ = sampler.posterior()
        rng = np.random.default_rng([seed, i])
        theta.append(resampled(points, log_w, count, rng))
        told["log_evidence"].append(sampler.log_z)
        told["ess"].append(float(effective_sample(log_w)))
        told["evaluations"].append(sampler.n_like)
    arrays = {name: np.array(values) for name, values in told.items()}

    def log_density(theta: Array) -> Array:
        each = [one(t[None]) for one, t in zip(likelihoods, theta, strict=True)]
        values = checked_log_density(np.concatenate(each)) + prior.log_prob(theta)
        return values - arrays["log_evidence"][:, None]

    return Draws(np.stack(theta)[:, None], log_density, arrays | {"ess": arrays["ess"][:, None]})


def explored(one: LogLikelihood, prior: Prior, i: int, seed: int) -> Any:
    """A finished sampler of observation i."""
    from nautilus import Sampler

    start = prior.sample(LIVE, np.random.default_rng([seed, i, 1]))
    if not np.isfinite(checked_log_density(one(start[None]))).any():
        raise DataError(f"observation {i}: log p(x|θ) is −∞ at {len(start)} draws of the prior")
    sampler = Sampler(
        prior.from_cube,
        lambda theta: checked_log_density(one(theta[None])[0]),
        n_dim=len(prior), n_live=LIVE, n_networks=NETWORKS, vectorized=True, pass_dict=False,
        seed=np.random.default_rng([seed, i]).integers(2**31),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler.run(n_eff=EFFECTIVE)
    return sampler

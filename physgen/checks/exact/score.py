r"""The learnt score of noised x beside the exact one, by noise level.

Of y = x + τε at log-SNR λ = −2 log τ, in units of the surrogate, a score ŝ in the place of the
exact s = ∇ log p(y|θ) costs

    ½ E Σ τ² (ŝ − s)²      nats of log p(x|θ) per unit of λ

(Kong, Brekelmans & Ver Steeg 2023, arXiv:2302.03792: the loss of the denoiser x̂ = y + τ²ŝ). The
integral over λ is the gap of log p by the bound. The control is the exact score at θ′ that is off:
its integral is E[log p(x|θ) − log p(x|θ′)], known from the exact log p, so that a score
of the simulator that is not that of its log p is seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from physgen.checks.estimate import estimate
from physgen.surrogates.base import Surrogate
from simulators.base import Array, Simulator, exact_log_prob, exact_score
from simulators.prior import Prior

__all__ = ["control_theta", "score_section"]

ROWS, LEVELS = 100, 21
"""Rows at most, and noise levels: the loss changes over several units of λ, not over one."""
WRONG = 0.1
"""How far θ of the control is off, in coordinates of the prior, towards its middle."""
FEW = 5.0
"""Standard errors by which two figures of one thing may differ."""


def score_section(
    surrogate: Surrogate, simulator: Simulator | None, theta: Array, x: Array, seed: int
) -> dict[str, Any] | None:
    """Loss and relative error of the score by log-SNR; None where one of the two is not known.

    Args:
        surrogate: any family.
        simulator: with an exact score of noised x.
        theta: (n, D) parameters of the rows.
        x: (n, *x_shape).
        seed: seed of the noise.
    """
    exact = exact_score(simulator) if simulator else None
    log_prob = exact_log_prob(simulator) if simulator else None
    ends, wrong = surrogate.log_snr_ends, control_theta(surrogate.law.prior, theta)
    if exact is None or ends is None:
        return None
    some = slice(ROWS)
    rng, log_snrs = np.random.default_rng([seed, 7]), np.linspace(*ends, LEVELS)
    lost: dict[str, list[Array]] = {"surrogate": [], "control": []}
    relative = []
    for log_snr in log_snrs.tolist():
        noise = surrogate.noise_at(log_snr).cpu().numpy()
        y = x[some] + noise * rng.standard_normal(x[some].shape)
        try:
            right, other = exact(theta[some], y, noise), exact(wrong[some], y, noise)
        except ValueError:  # of this noise it is not known
            return None
        learnt = surrogate.noised_score(theta[some], y, log_snr).cpu().numpy()
        size = each(noise * right)
        for name, found in (("surrogate", learnt), ("control", other)):
            lost[name].append(each(noise * (found - right)))
        relative.append(np.sqrt(lost["surrogate"][-1].mean() / size.mean()))
    known = log_prob and estimate(log_prob(theta, x) - log_prob(wrong, x))
    totals = {k: estimate(np.trapezoid(many, log_snrs, axis=0)) for k, many in lost.items()}
    off = known and abs(totals["control"].value - known.value)
    return {
        "rows": len(x[some]),
        "dims": surrogate.law.size,
        "log_snr": log_snrs,
        "relative": np.array(relative),
        **{k: level_means(many) | {"total": totals[k]._asdict()} for k, many in lost.items()},
        "known": known and known._asdict(),
        "consistent": known and off < FEW * np.hypot(totals["control"].se, known.se),
    }


def control_theta(prior: Prior, theta: Array) -> Array:
    """θ′ (n, D) of the control, beside each θ (n, D)."""
    c = prior.to_coordinates(theta)
    return prior.from_coordinates(c - WRONG * np.where(c > 0, 1, -1))


def each(score: Array) -> Array:
    """½ Σ of squares of rows (n, …), (n,)."""
    return 0.5 * np.square(score).reshape(len(score), -1).sum(1)


def level_means(lost: list[Array]) -> dict[str, Any]:
    """Nats of rows (n,) by level: their mean and its error."""
    levels = [estimate(rows) for rows in lost]
    return {"mean": [e.value for e in levels], "se": [e.se for e in levels]}

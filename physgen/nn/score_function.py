r"""The score-function gradient of E_q[f], for draws z that have no derivative.

    ∇ E_q[f] = E_q[∇f + (f − b) ∇ log q(z)]

whatever the baseline b, as long as it does not depend on z, since E_q[∇ log q] = 0 (REINFORCE:
Williams 1992, Machine Learning 8, 229). Without a baseline its variance grows with the square of
the size of f. Of K independent draws the others of a row tell one: of a mean of f it is their mean
(Kool et al. 2019, ICLR workshop on structured prediction), of the bound log (1/K) Σ w_k that bound
with log w_k replaced by the mean of the others (VIMCO: Mnih & Rezende 2016, arXiv:1602.06725).

That bound has −Σ ŵ_k ∇log q(z_k), ŵ = w/Σw, in its gradient, too, of which (1/K) Σ ∇log q(z_k) is
noise of mean 0: all of it where z says nothing of x yet and ŵ = 1/K. So 1/K is taken off the
baselines (Liévin, Dittadi, Christensen & Winther 2020, arXiv:2008.01998, for equal weights).

Each function returns what is estimated, with a derivative that is the estimate of its gradient:
log q − log q taken as a constant is 0 and has the derivative ∇ log q (Foerster et al. 2018,
arXiv:1802.05098). Draws of z must be constants.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["leave_one_out", "others_mean", "reinforce", "vimco"]


def reinforce(f: Tensor, log_q: Tensor, baseline: Tensor | float = 0.0) -> Tensor:
    """F of draws, with the score-function gradient of its mean.

    Args:
        f: (...).
        log_q: log q of the draws, of a shape that broadcasts to f.
        baseline: what is taken off f in front of ∇ log q; it must not depend on the draw.

    Returns:
        (...), f in value.
    """
    return f + (f - baseline).detach() * (log_q - log_q.detach())


def others_mean(f: Tensor) -> Tensor:
    """For each of K draws the mean of the others, (B, K), of f (B, K).

    Raises:
        ValueError: a single draw.
    """
    k = f.shape[1]
    if k < 2:
        raise ValueError(f"draws: expected at least 2, for each has the others, got {k}")
    return (f.sum(1, keepdim=True) - f) / (k - 1)


def leave_one_out(f: Tensor, log_q: Tensor) -> Tensor:
    """Mean of f over K draws, each with the mean of the others as its baseline.

    Args:
        f: (B, K).
        log_q: log q of the draws, (B, K).

    Returns:
        (B,).

    Raises:
        ValueError: a single draw.
    """
    return reinforce(f, log_q, others_mean(f)).mean(1)


def vimco(log_w: Tensor, log_q: Tensor) -> Tensor:
    """The bound log (1/K) Σ w of K draws, each with that of the others, less 1/K, as its baseline.

    Args:
        log_w: log p(x, z) − log q(z) of the draws, (B, K).
        log_q: log q of the draws, (B, K).

    Returns:
        (B,).

    Raises:
        ValueError: a single draw.
    """
    k = log_w.shape[1]
    own = torch.eye(k, dtype=torch.bool, device=log_w.device)
    without = torch.where(own, others_mean(log_w)[..., None], log_w[:, None])
    bound = (log_w.logsumexp(1) - math.log(k))[:, None]
    signal = (bound - (without.logsumexp(2) - math.log(k)) + 1 / k).detach()
    return bound[:, 0] + (signal * (log_q - log_q.detach())).sum(1)

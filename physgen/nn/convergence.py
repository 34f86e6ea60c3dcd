r"""What Markov chains say of themselves: R̂ and the effective number of draws.

Each chain is cut in two halves; draws are replaced by normal scores of their ranks, so that heavy
tails do no harm, and once more of their distances from the median, for chains of one place and
different widths (Vehtari, Gelman, Simpson, Carpenter & Bürkner, Bayesian Analysis 16 (2021) 667).
With W the mean variance within the chains of m draws and B/m the variance of their means,

    R̂ = √((m − 1)/m + B/(mW)),     N_eff = C m / (1 + 2 Σ_t ρ_t),

the sum over lags being cut where a pair ρ_{2t} + ρ_{2t+1} is no longer positive, and made monotone
(Geyer, Statist. Sci. 7 (1992) 473). All arrays are (…, C, m, D), results (…, D).
"""

from __future__ import annotations

import numpy as np
import scipy  # its parts are imported where they are first used

from simulators.base import Array

__all__ = ["effective_size", "split_r_hat"]

TINY = np.finfo(float).tiny


def scores(chains: Array) -> Array:
    """Normal scores of half chains, (…, D, 2C, m // 2); a constant one stays constant."""
    from scipy.stats import rankdata  # half a second, for what few need

    half = chains.shape[-2] // 2
    x = np.moveaxis(chains[..., : 2 * half, :], -1, -3)
    x = x.reshape(*x.shape[:-2], -1, half)
    ranks = rankdata(x.reshape(*x.shape[:-2], -1), axis=-1).reshape(x.shape)
    return scipy.special.ndtri((ranks - 0.375) / (x.shape[-1] * x.shape[-2] + 0.25))


def split_r_hat(chains: Array, *, pooled: bool = False) -> Array:
    """R̂ of chains (…, C, m, D), of place and of width, (…, D); NaN where m < 4.

    Args:
        chains: of one law for each of the leading axes.
        pooled: whether the variances are means over the first axis, of chains (n, C, m, D) of n
            laws, (D,): where there is a chain of each, one alone says little.
    """
    folded = abs(chains - np.median(chains, axis=(-3, -2), keepdims=True))
    return np.maximum(*(r_hat(scores(some), pooled=pooled) for some in (chains, folded)))


def r_hat(z: Array, *, pooled: bool) -> Array:
    """√(variance between and within over that within) of chains (…, C, m)."""
    m = z.shape[-1]
    if m < 2:
        return np.full(z.shape[pooled:-2], np.nan)
    within, between = z.var(-1, ddof=1).mean(-1), z.mean(-1).var(-1, ddof=1)
    if pooled:
        within, between = within.mean(0), between.mean(0)
    return np.sqrt((m - 1) / m + between / np.maximum(within, TINY))


def effective_size(chains: Array) -> Array:
    """N_eff of chains (…, C, m, D), (…, D); NaN where m < 4."""
    z = scores(chains)
    count, m = z.shape[-2:]
    if m < 2:
        return np.full(z.shape[:-2], np.nan)
    within = z.var(-1, ddof=1).mean(-1)
    total = (m - 1) / m * within + z.mean(-1).var(-1, ddof=1)
    rho = 1 - (within[..., None] - covariance(z).mean(-2)) / np.maximum(total, TINY)[..., None]
    rho[..., 0] = 1
    pairs = rho[..., : m // 2 * 2].reshape(*rho.shape[:-1], -1, 2).sum(-1)
    pairs = np.minimum.accumulate(pairs, -1)
    alive = np.logical_and.accumulate(pairs > 0, -1)
    tau = 2 * (pairs * alive).sum(-1) - 1
    most = np.log10(count * m)  # antithetic chains do better than independent draws, a little
    return count * m / np.maximum(tau, 1 / most)


def covariance(z: Array) -> Array:
    """Autocovariance of z (…, m) at each lag, (…, m)."""
    m = z.shape[-1]
    spectrum = np.fft.rfft(z - z.mean(-1, keepdims=True), 2 * m)
    return np.fft.irfft(abs(spectrum) ** 2, 2 * m)[..., :m] / m

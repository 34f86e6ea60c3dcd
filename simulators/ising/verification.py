"""Do lattices x_i, one at each θ_i, follow p(x|θ)? Every check has a p-value from the exact law.

**Residuals.** With σ² = var E at β_i, r_i = (E_i − ⟨E⟩)/σ has mean 0 and variance 1, whatever the
θ_i. The sum of residuals is normal only for many x: at low T nearly all of them are in the ground
state and one excitation is a large r. So a small p-value is made sure by Chernoff's bound, for
which nothing but log Z is needed, the cumulant generating function of the energy being
log Z(β − t) − log Z(β):

    P(Σ r_i ≥ s) ≤ exp(min_t Σ_i [log Z(K_i + t v_i) − log Z(K_i) − t v_i·⟨b⟩_i] − t s).

Σ (r_i² − 1) has the variance Σ (2 + κ_i), κ = fourth cumulant / σ⁴, from second differences of
var E. It counts as normal if its kurtosis is small against n; else Chebyshev's bound 1/z² is used.

**Law of the energy.** u_i = P(E < E_i|θ_i) + ξ_i P(E = E_i|θ_i) with ξ uniform is uniform on
[0, 1] if and only if each E_i follows its law (randomised probability integral transform;
Rosenblatt 1952); by Kolmogorov and Smirnov's test. ξ has a fixed seed: the verdict is a function
of the data.

**Sign.** Without field M > 0 and M < 0 are equally likely: binomial test.

**Local balance** where there is a field and too many states to count. Given its neighbours a
spin has the mean tanh(βΣ s' + βh), at every size; so Σ_i (s_i − tanh) and Σ_i Σ s' (s_i − tanh)
have mean 0. Each is a mean over independent lattices, by Student's test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from simulators.base import Array, Verdict
from simulators.ising import ensemble, observables
from simulators.ising.counting import energy_levels, joint_levels

if TYPE_CHECKING:
    from simulators.ising.lattice import Ising

__all__ = ["verify"]

DOUBT = 1e-2  # normal p-value below which Chernoff's bound is asked
MOST_SITES = 1024  # up to which the law of the energy is tabulated
ROWS = 2048  # lattices whose law is held at once
STEP, MOST_STEP = 0.05, 0.01  # of the second difference of var E, in units of 1/σ and in K


def verify(ising: Ising, theta: Array, x: Array) -> list[Verdict]:
    """The verdicts on x (n, rows, columns) drawn at θ (n, D)."""
    k, b = ising.couplings(theta), observables.bonds(x)
    if len(k) != len(b) or not len(b):
        raise ValueError(f"verify: expected one θ for each x, got {len(k)} and {len(b)}")
    if ising.has_field and not ensemble.is_counted(ising.x_shape):
        return _local_balance(k, x)
    verdicts = []
    for name, v in _directions(ising).items():
        verdicts += _residuals(name, ising.x_shape, k, np.array(v), b)
    verdicts += _laws(ising, k, b)
    return verdicts if ising.has_field else [*verdicts, _sign(b[:, 2])]


def _directions(ising: Ising) -> dict[str, tuple[float, float, float]]:
    """The statistics whose means and variances are exact, as directions in the couplings."""
    if ising.theta == "beta-xy":
        return {"energy along rows": (-1, 0, 0), "energy along columns": (0, -1, 0)}
    energy = {"energy": (-1.0, -1.0, 0.0)}
    return energy | {"magnetisation": (0.0, 0.0, 1.0)} if ising.has_field else energy


def _residuals(name: str, shape: tuple[int, int], k: Array, v: Array, b: Array) -> list[Verdict]:
    """Mean and variance of the residuals of v·b."""
    jet = ensemble.cumulants(shape, k, v)
    sigma = np.sqrt(jet.dd)
    r = (b @ v - jet.d) / sigma
    n = len(r)
    z = r.sum() / np.sqrt(n)
    p = 2 * stats.norm.sf(abs(z))
    if p < DOUBT:
        p = max(p, _chernoff(shape, k, np.sign(z) * v / sigma[:, None], abs(r.sum())))
    mean = Verdict.of(f"mean {name}", p, f"mean residual {r.mean():+.2e} σ, z = {z:+.2f}, n = {n}")
    step = np.minimum(STEP / sigma, MOST_STEP)
    up, down = (ensemble.cumulants(shape, k + t * step[:, None] * v, v).dd for t in (1, -1))
    kurtosis = (up - 2 * jet.dd + down) / (step * jet.dd) ** 2
    return [mean, _spread(f"variance of {name}", r, np.maximum(2 + kurtosis, 1e-3))]


def _chernoff(shape: tuple[int, int], k: Array, v: Array, s: float) -> float:
    """Twice Chernoff's bound of P(Σ (v_i·b_i − ⟨v_i·b_i⟩) ≥ s), s ≥ 0.

    Every t > 0 gives a bound; Newton's steps, halved where they go too far, look for the best.
    """
    start = ensemble.cumulants(shape, k, v)
    reach, best, good, t = _reach(shape, k, v), 0.0, 0.0, 0.0
    jet = start
    for _ in range(12):
        t = min(t + (s - (jet.d - start.d).sum()) / jet.dd.sum(), reach)
        for _ in range(8):
            jet = ensemble.cumulants(shape, k + t * v, v)
            bound = float((jet.f - start.f - t * start.d).sum() - t * s)
            if bound <= best:
                break
            t = (t + good) / 2
        if bound > best - 1e-2:
            break
        best, good = bound, t
    return 2 * float(np.exp(max(best, -700.0)))


def _reach(shape: tuple[int, int], k: Array, v: Array) -> float:
    """The t up to which the couplings K + tv stay moderate, and positive if they must."""
    reach = 3 / np.abs(v).max()
    if shape[0] % 2 or shape[1] % 2:
        limit = np.where(v[:, :2] < 0, k[:, :2] / np.maximum(-v[:, :2], 1e-300), np.inf)
        reach = min(reach, limit.min())
    return float(reach)


def _spread(name: str, r: Array, fourth: Array) -> Verdict:
    """Variance of residuals with E[r⁴] − 1 = `fourth`."""
    n = len(r)
    z = float((r**2 - 1).sum() / np.sqrt(fourth.sum()))
    rough = fourth.mean() > n / 50
    p = min(1.0, 1 / max(z * z, 1e-300)) if rough else float(2 * stats.norm.sf(abs(z)))
    return Verdict.of(name, p, f"variance of residuals {np.mean(r**2):.4f}, z = {z:+.2f}, n = {n}")


def _laws(ising: Ising, k: Array, b: Array) -> list[Verdict]:
    """Probability integral transforms through the laws that are tabulated."""
    if ising.theta == "beta-xy" or ising.sites > MOST_SITES:
        return []
    energy = -b[:, 0] - b[:, 1]
    if not ising.has_field:
        levels = energy_levels(ising.x_shape)
        u = _transform(lambda i: levels.law(k[i, 0], k[i, 2]), levels.energy, energy)
        return [_uniform("law of the energy", u)]
    joint = joint_levels(ising.x_shape)
    u = _transform(lambda i: joint.marginals(k[i, 0], k[i, 2])[0], joint.energy, energy)
    v = _transform(lambda i: joint.marginals(k[i, 0], k[i, 2])[1], joint.magnetisation, b[:, 2])
    return [_uniform("law of the energy", u), _uniform("law of the magnetisation", v)]


def _transform(law: Callable[[slice], Array], value: Array, drawn: Array) -> Array:
    """P(value < drawn_i) + ξ_i P(value = drawn_i), the law being that of the rows of a slice."""
    xi, parts = np.random.default_rng(0).random(len(drawn)), []
    for start in range(0, len(drawn), ROWS):
        i = slice(start, start + ROWS)
        p, d = law(i), drawn[i, None]
        parts.append((p * ((value < d) + xi[i, None] * (value == d))).sum(axis=1))
    return np.concatenate(parts)


def _uniform(name: str, u: Array) -> Verdict:
    """Kolmogorov and Smirnov's test."""
    test = stats.kstest(u, "uniform")
    detail = f"Kolmogorov distance {test.statistic:.2e}, n = {len(u)}"
    return Verdict.of(name, float(test.pvalue), detail)


def _sign(m: Array) -> Verdict:
    """Whether M > 0 and M < 0 are equally frequent."""
    up, down = int((m > 0).sum()), int((m < 0).sum())
    p = stats.binomtest(up, up + down).pvalue if up + down else 1.0
    return Verdict.of("sign of the magnetisation", p, f"{up} up, {down} down, {len(m)} in all")


def _local_balance(k: Array, x: Array) -> list[Verdict]:
    """Whether spins have the mean that their neighbours give them."""
    s = x.astype(float)
    along = np.roll(s, 1, -1) + np.roll(s, -1, -1)
    across = np.roll(s, 1, -2) + np.roll(s, -1, -2)
    kx, ky, h = k.T[:, :, None, None]
    excess = s - np.tanh(kx * along + ky * across + h)
    weighted = excess * (along + across)
    return [
        _student("local balance of spins", excess.mean(axis=(1, 2))),
        _student("local balance of bonds", weighted.mean(axis=(1, 2))),
    ]


def _student(name: str, y: Array) -> Verdict:
    """Whether the independent y have mean 0."""
    n = len(y)
    error = y.std(ddof=1) / np.sqrt(n) if n > 1 else 0.0
    t = y.mean() / error if error > 0 else 0.0
    p = 2 * stats.t.sf(abs(t), max(n - 1, 1))
    return Verdict.of(name, p, f"mean {y.mean():+.2e}, t = {t:+.2f}, n = {n}")

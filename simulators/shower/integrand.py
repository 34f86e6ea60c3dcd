r"""What is integrated: log p of a shower's cells given its two latent numbers, and their law.

With a = ln α, b = ln T and λ_v the mean number of spots in cell v,

    log N₂(a, b) + Σ_v log p(x_v|λ_v(a, b, θ)).

λ needs the part F_l of a Gamma distribution that falls into layer l, at every node. F_l is a Gauss
rule in depth, t_lk = t₀ + lΔ + g_k, whose terms factorise:

    F_l ∝ e^{−βlΔ} Σ_k (w_k t_lk^{α−1}) e^{−βg_k},

so that powers are taken once for each α, and exponentials once for each β. Layers that reach
within 1 X₀ of the shower's start, where t^{α−1} is not smooth, have their F from the incomplete
gamma function.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from simulators.base import Array
from simulators.shower.compound import gamma_p, kernel, log_atom_of, series
from simulators.shower.gflash import LOG_ALPHA_MIN, moments, radial, within

__all__ = [
    "Cells",
    "Given",
    "Hits",
    "Medium",
    "Stack",
    "given_by",
    "hits_of",
    "joint",
    "set_powers",
    "stacked",
]


class Medium(NamedTuple):
    """A calorimeter's constants: Z, E_c in GeV, e in GeV, and its threshold in e."""

    z: float
    critical_energy: float
    spot: float
    threshold: float


class Cells(NamedTuple):
    """Where the cells are: L layers of a thickness in X₀, A azimuths, and squares of radii, R_M².

    The rule in depth within a layer has nodes and weights in X₀; the one for a photon's
    conversion is on [0, 1].
    """

    layers: int
    azimuths: int
    thickness: float
    square: Array
    depth: Array
    weight: Array
    conversion: tuple[Array, Array]


class Given(NamedTuple):
    """What θ says: ln E, Z, E/e, threshold in e, the law N₂ of (a, b), log of its norm."""

    log_energy: float
    z: float
    spots: float
    threshold: float
    m_t: float
    s_t: float
    m_a: float
    s_a: float
    rho: float
    norm: float


class Hits(NamedTuple):
    """The cells of a shower that are hit, ring by ring, and the number of those that are not.

    Ring r of layer l has the number lR + r; its hits are values[first[lR + r]:first[lR + r + 1]].
    """

    values: Array
    first: Array
    empty: Array
    total: float
    front: int  # number of the first layer hit, L if none is


class Stack(NamedTuple):
    """The cells behind the start of a shower, the first of them at a depth `start`, X₀.

    `near` of them have their F_l from the incomplete gamma function; log_t are the depths t_lk of
    the others. The last three are room for w_k t_lk^{α−1}/Γ(α), e^{−βg_k} and F_l.
    """

    start: float
    thickness: float
    azimuths: int
    near: int
    square: Array
    depth: Array
    weight: Array
    log_t: Array
    powers: Array
    decay: Array
    share: Array


@kernel
def given_by(log_energy: float, medium: Medium) -> Given:
    """What θ says of a shower."""
    log_y = log_energy - math.log(medium.critical_energy)
    m_t, s_t, m_a, s_a, rho = moments(log_y, medium.z)
    inside = 0.5 * math.erfc((LOG_ALPHA_MIN - m_a) / s_a / math.sqrt(2))
    norm = -math.log(2 * math.pi * s_a * s_t * math.sqrt(1 - rho * rho) * inside)
    spots = math.exp(log_energy) / medium.spot
    return Given(log_energy, medium.z, spots, medium.threshold, m_t, s_t, m_a, s_a, rho, norm)


@kernel
def hits_of(y: Array, threshold: float) -> Hits:
    """The hits of a shower y (L, A, R)."""
    layers, azimuths, rings = y.shape
    values = np.empty(y.size)
    first, empty = np.zeros(layers * rings + 1, np.int64), np.zeros(layers * rings)
    count, total, front = 0, 0.0, layers
    for layer in range(layers):
        for ring in range(rings):
            for azimuth in range(azimuths):
                value = y[layer, azimuth, ring]
                if value > threshold:
                    values[count] = value
                    total += value
                    count += 1
                    front = min(front, layer)
                else:
                    empty[layer * rings + ring] += 1
            first[layer * rings + ring + 1] = count
    return Hits(values[:count], first, empty, total, front)


@kernel
def stacked(cells: Cells, start: float) -> Stack:
    """The layers as they lie behind the start of a shower."""
    points, depth = len(cells.depth), cells.depth
    log_t, near = np.zeros((cells.layers, points)), 0
    for layer in range(cells.layers):
        low = start + layer * cells.thickness
        if low < 1.0:
            near = layer + 1
        else:
            for k in range(points):
                log_t[layer, k] = math.log(low + depth[k])
    powers, decay, share = np.empty_like(log_t), np.empty(points), np.empty(cells.layers)
    return Stack(
        start, cells.thickness, cells.azimuths, near, cells.square, depth, cells.weight, log_t,
        powers, decay, share,
    )  # fmt: skip


@kernel
def set_powers(stack: Stack, alpha: float) -> None:
    """w_k t_lk^{α−1}/Γ(α) of the far layers."""
    log_t, powers, weight = stack.log_t, stack.powers, stack.weight
    norm = math.lgamma(alpha)
    for layer in range(stack.near, len(log_t)):
        for k in range(len(weight)):
            powers[layer, k] = weight[k] * math.exp((alpha - 1) * log_t[layer, k] - norm)


@kernel
def _share(stack: Stack, alpha: float, beta: float) -> Array:
    """F_l of all layers, from the powers at this α."""
    start, thickness, near = stack.start, stack.thickness, stack.near
    depth, powers, decay, share = stack.depth, stack.powers, stack.decay, stack.share
    below = gamma_p(alpha, beta * start) if near else 0.0
    for layer in range(near):
        above = gamma_p(alpha, beta * (start + (layer + 1) * thickness))
        share[layer] = above - below
        below = above
    for k in range(len(decay)):
        decay[k] = math.exp(-beta * depth[k])
    scale = math.exp(alpha * math.log(beta) - beta * (start + near * thickness))
    step = math.exp(-beta * thickness)
    for layer in range(near, len(share)):
        total = 0.0
        for k in range(len(decay)):
            total += powers[layer, k] * decay[k]
        share[layer] = scale * total
        scale *= step
    return share


@kernel
def joint(given: Given, hits: Hits, stack: Stack, a: float, b: float) -> float:
    """log N₂(a, b) + Σ log p(x_v|λ_v), but for −Σ y; the stack holds the powers at a."""
    alpha, top, rho = math.exp(a), math.exp(b), given.rho
    if not alpha > 1:
        return -np.inf
    u, v = (a - given.m_a) / given.s_a, (b - given.m_t) / given.s_t
    total = given.norm - 0.5 * (u * u + v * v - 2 * rho * u * v) / (1 - rho * rho)
    share = _share(stack, alpha, (alpha - 1) / top)
    mean_alpha = math.exp(given.m_a)
    scale = (alpha - 1) / alpha * mean_alpha / (mean_alpha - 1) / top
    values, first, empty = hits.values, hits.first, hits.empty
    spots = given.spots / stack.azimuths
    square, thickness = stack.square, stack.thickness
    rings, product = len(square) - 1, 1.0
    core, tail, weight = 0.0, 0.0, 1.0
    for layer in range(len(share)):
        rate = spots * share[layer]
        if square[1] < np.inf:
            tau = max(stack.start + (layer + 0.5) * thickness, 0.0) * scale
            core, tail, weight = radial(tau, given.log_energy, given.z)
        inside = 0.0
        for ring in range(rings):
            far = square[ring + 1]
            outer = within(far, core, tail, weight) if far < np.inf else 1.0
            cell, inside = rate * (outer - inside), outer
            begin, end = first[layer * rings + ring], first[layer * rings + ring + 1]
            if empty[layer * rings + ring] > 0:
                total += empty[layer * rings + ring] * log_atom_of(cell, given.threshold)
            if end > begin and cell <= 0.0:
                return -np.inf
            for h in range(begin, end):
                exponent, factor = series(cell * values[h])
                total += exponent
                product *= cell * factor
                if not 1e-100 < product < 1e100:
                    total += math.log(product)
                    product = 1.0
            total -= (end - begin) * cell
    return total + math.log(product)

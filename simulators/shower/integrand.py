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
from simulators.shower.compound import gamma_p, kernel
from simulators.shower.gflash import LOG_ALPHA_MIN, moments, radial, within
from simulators.shower.readout import Hits, Readout, log_chain, set_layers

__all__ = [
    "Cells",
    "Given",
    "Medium",
    "Stack",
    "given_by",
    "joint",
    "set_powers",
    "stacked",
]


class Medium(NamedTuple):
    """A calorimeter's constants: Z, E_c in GeV, e in GeV, and how it is read out."""

    z: float
    critical_energy: float
    spot: float
    readout: Readout


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
    """What θ says: ln E, Z, E/e, the readout, the law N₂ of (a, b), log of its norm."""

    log_energy: float
    z: float
    spots: float
    readout: Readout
    m_t: float
    s_t: float
    m_a: float
    s_a: float
    rho: float
    norm: float


class Stack(NamedTuple):
    """The cells behind the start of a shower, the first of them at a depth `start`, X₀.

    `near` of them have their F_l from the incomplete gamma function; log_t are the depths t_lk of
    the others. The last four are room for w_k t_lk^{α−1}/Γ(α), e^{−βg_k}, F_l and λ in a cell of
    each ring.
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
    rate: Array


@kernel
def given_by(log_energy: float, medium: Medium) -> Given:
    """What θ says of a shower."""
    log_y = log_energy - math.log(medium.critical_energy)
    m_t, s_t, m_a, s_a, rho = moments(log_y, medium.z)
    inside = 0.5 * math.erfc((LOG_ALPHA_MIN - m_a) / s_a / math.sqrt(2))
    norm = -math.log(2 * math.pi * s_a * s_t * math.sqrt(1 - rho * rho) * inside)
    spots = math.exp(log_energy) / medium.spot
    return Given(log_energy, medium.z, spots, medium.readout, m_t, s_t, m_a, s_a, rho, norm)


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
    rate = np.empty((cells.layers, len(cells.square) - 1))
    return Stack(
        start, cells.thickness, cells.azimuths, near, cells.square, depth, cells.weight, log_t,
        powers, decay, share, rate,
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
    share, rate = _share(stack, alpha, (alpha - 1) / top), stack.rate
    mean_alpha = math.exp(given.m_a)
    scale = (alpha - 1) / alpha * mean_alpha / (mean_alpha - 1) / top
    spots = given.spots / stack.azimuths
    square, thickness = stack.square, stack.thickness
    core, tail, weight = 0.0, 0.0, 1.0
    for layer in range(len(share)):
        if square[1] < np.inf:
            tau = max(stack.start + (layer + 0.5) * thickness, 0.0) * scale
            core, tail, weight = radial(tau, given.log_energy, given.z)
        inside = 0.0
        for ring in range(len(square) - 1):
            far = square[ring + 1]
            outer = within(far, core, tail, weight) if far < np.inf else 1.0
            rate[layer, ring], inside = spots * share[layer] * (outer - inside), outer
    if given.readout.spread > 0:
        return total + log_chain(hits, rate, stack.azimuths, given.readout)
    out = np.empty(1)
    set_layers(hits, rate, stack.azimuths, given.readout, 0, len(rate), np.zeros(1), out)
    return total + out[0]

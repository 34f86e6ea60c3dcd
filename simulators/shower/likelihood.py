r"""Exact log p(x|θ) of a shower: an integral over its two latent numbers a = ln α, b = ln T.

Given them all cells are independent, so with λ_v the mean number of spots in cell v

    p(x|θ) = ∫ da db N₂(a, b) Π_v p(x_v|λ_v(a, b, θ)),        a > ln 1.1.

The integrand is a smooth peak, often far narrower than N₂. Newton's method finds its maximum; with
the precision matrix J there, b given a is integrated by Gauss–Hermite quadrature around its
conditional mean, and a by the same around its own, or by Gauss–Legendre where the cut at ln 1.1
comes within six widths. The rule is exact for a Gaussian integrand and converges geometrically for
what it is here; tests compare orders, and brute force.

λ needs the part F_l of a Gamma distribution that falls into layer l, at every node. F_l is a Gauss
rule in depth, t_lk = t₀ + lΔ + g_k, whose terms factorise:

    F_l ∝ e^{−βlΔ} Σ_k (w_k t_lk^{α−1}) e^{−βg_k},

so that powers are taken once for each α, and exponentials once for each β. Layers that reach
within 1 X₀ of the shower's start, where t^{α−1} is not smooth, have their F from the incomplete
gamma function.

A photon converts at a depth t₀ ~ Exp(9/7): a third integral, by a Gauss rule in each layer up to
the first that holds energy.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numba import njit

from simulators.base import Array
from simulators.shower.compound import gamma_p, log_atom_of, series
from simulators.shower.gflash import LOG_ALPHA_MIN, PHOTON_DEPTH, moments, radial
from simulators.shower.materials import Material

__all__ = ["log_likelihood"]

ORDERS = {1000.0: 8, 400.0: 12, 0.0: 20}
"""Nodes of a Gauss–Hermite rule by the least Σ y: a shower of few spots leaves a broad integrand.
Over the prior of the task `shower` log p is then right to 1e-4 nats, and in the median to 1e-9."""
REACH, FLAT = 6.5, 28
"""Widths that the Gauss–Legendre rule covers, and its nodes."""
POINTS = 4
"""Depths in each X₀ of a layer."""
CONVERSIONS = 6
"""Conversion depths in each layer."""
PRIOR_REACH = 30.0
"""Nats of the conversion's exponential law that are covered."""


def log_likelihood(
    log_energy: Array,
    start: Array,
    y: Array,
    *,
    thickness: float,
    edges: Array,
    spot: float,
    threshold: float,
    material: Material,
    photon: bool,
    order: int = 0,
) -> Array:
    """log p(x|θ) in nats, the density being in units of 1/e for each cell that is hit.

    Args:
        log_energy: ln E, (n,).
        start: depth of the first layer's front behind the particle's entrance, X₀, (n,).
        y: x/e, (n, L, A, R): layers, azimuths, rings.
        thickness: of a layer, X₀.
        edges: radii of the rings, R_M, (R + 1,); of one ring without end, (0, ∞).
        spot: e, GeV.
        threshold: thr/e; a cell with y at most this is empty.
        material: of the calorimeter.
        photon: whether a photon starts the shower.
        order: nodes of a Gauss–Hermite rule; 0 for as many as Σ y asks for.

    Returns:
        (n,).
    """
    orders = {0.0: order} if order else ORDERS
    rules = tuple(rule(n) for n in orders.values())
    depth = interval_rule(POINTS * math.ceil(thickness))
    return _rows(
        np.ascontiguousarray(log_energy, dtype=float),
        np.ascontiguousarray(start, dtype=float),
        np.ascontiguousarray(y, dtype=float),
        thickness,
        np.ascontiguousarray(edges, dtype=float) ** 2,
        spot,
        threshold,
        material.critical_energy,
        material.z,
        photon,
        np.array(list(orders)),
        rules,
        (thickness * depth[0], thickness * depth[1]),
        interval_rule(CONVERSIONS),
    )


@lru_cache
def interval_rule(points: int) -> tuple[Array, Array]:
    """Nodes and weights of Gauss–Legendre on [0, 1]."""
    t, w = np.polynomial.legendre.leggauss(points)
    return (t + 1) / 2, w / 2


@lru_cache
def rule(order: int) -> tuple[Array, Array, Array, Array]:
    """Nodes and log weights, of Gauss–Hermite without its weight function and of Gauss–Legendre."""
    u, w = np.polynomial.hermite_e.hermegauss(order)
    t, m = np.polynomial.legendre.leggauss(FLAT)
    return u, np.log(w) + u**2 / 2, t, np.log(m)


@njit(cache=True)
def _rows(
    log_energy, start, y, thickness, square, spot, threshold, critical, z, photon, least, rules,
    depth, conversions,
):  # fmt: skip
    out = np.empty(len(y))
    for i in range(len(y)):
        hits = _hits(y[i], threshold)
        order = 0
        while hits[2] < least[order]:
            order += 1
        nodes = rules[order]
        known = (log_energy[i], log_energy[i] - math.log(critical), z, spot, threshold, y.shape[2])
        if photon:
            out[i] = _photon(known, hits, start[i], thickness, square, nodes, depth, conversions)
        else:
            out[i] = _electron(known, hits, start[i], thickness, square, nodes, depth)
    return out


@njit(cache=True)
def _hits(y, threshold):
    """Cells that are hit, ring by ring: where a ring's begin, their √y, their Σ y, and empty ones.

    Returns:
        first (L·R + 1,), y of the hits (h,), their sum, empty (L, R), and the last layer but one
        that can lie before the shower's start: the number of the first layer that is hit.
    """
    layers, azimuths, rings = y.shape
    first = np.zeros(layers * rings + 1, np.int64)
    empty = np.zeros((layers, rings))
    values = np.empty(y.size)
    count, total, front = 0, 0.0, layers
    for l in range(layers):
        for r in range(rings):
            for a in range(azimuths):
                value = y[l, a, r]
                if value > threshold:
                    values[count] = value
                    total += value
                    count += 1
                    front = min(front, l)
                else:
                    empty[l, r] += 1
            first[l * rings + r + 1] = count
    return first, values[:count], total, empty, front


@njit(cache=True)
def _photon(known, hits, start, thickness, square, rules, depth, conversions):
    """The mean over conversion depths, layer by layer and not behind the first layer hit."""
    layers, front = hits[3].shape[0], hits[4]
    last = max(start + thickness * min(front + 1, layers), 0.0)
    if front == layers:
        last = max(last, start + PHOTON_DEPTH * PRIOR_REACH)
    last = min(last, PHOTON_DEPTH * PRIOR_REACH)
    low, peak, total = 0.0, -np.inf, 0.0
    while low < last:
        high = start + thickness * (math.floor((low - start) / thickness + 1e-9) + 1)
        high = min(max(high, low + 1e-9), last)
        for k in range(len(conversions[0])):
            t0 = low + (high - low) * conversions[0][k]
            weight = (high - low) * conversions[1][k] / PHOTON_DEPTH
            value = _electron(known, hits, start - t0, thickness, square, rules, depth)
            value += math.log(weight) - t0 / PHOTON_DEPTH
            if value > peak:
                total = total * math.exp(peak - value) if total > 0 else 0.0
                peak = value
            if value > -np.inf:
                total += math.exp(value - peak)
        low = high
    return peak + math.log(total) if total > 0 else -np.inf


@njit(cache=True)
def _electron(known, hits, start, thickness, square, rules, depth):
    """log p of a shower that starts at a known depth."""
    layers, points = hits[3].shape[0], len(depth[0])
    log_t = np.zeros((layers, points))
    near = 0  # layers whose F comes from the incomplete gamma function
    for l in range(layers):
        low = start + l * thickness
        if low < 1.0:
            near = l + 1
        else:
            for k in range(points):
                log_t[l, k] = math.log(low + depth[0][k])
    place = (start, thickness, near, log_t, depth, square)
    powers, share = np.empty((layers, points)), np.empty(layers)
    log_p, work = moments(known[1], known[2]), (powers, share)
    a, b, jaa, jab, jbb = _maximum(known, hits, place, work, log_p)
    spread = 1 / math.sqrt(jbb)
    width = 1 / math.sqrt(jaa - jab * jab / jbb)
    cut = (LOG_ALPHA_MIN - a) / width
    hermite = cut < -REACH
    count = len(rules[0]) if hermite else len(rules[2])
    low = max(cut, -REACH)
    half = 0.5 * (REACH - low)
    peak, total = -np.inf, 0.0
    for i in range(count):
        if hermite:
            u, log_w = rules[0][i], rules[1][i]
        else:
            u = low + half * (rules[2][i] + 1)
            log_w = rules[3][i] + math.log(half)
        ai = a + width * u
        centre = b - jab / jbb * (ai - a)
        _powers(place, work, math.exp(ai))
        for j in range(len(rules[0])):
            bj = centre + spread * rules[0][j]
            value = _joint(known, hits, place, work, log_p, ai, bj) + log_w + rules[1][j]
            if value > peak:
                total = total * math.exp(peak - value) if total > 0 else 0.0
                peak = value
            if value > -np.inf:
                total += math.exp(value - peak)
    if total == 0:
        return -np.inf
    inside = 0.5 * math.erfc((LOG_ALPHA_MIN - log_p[2]) / log_p[3] / math.sqrt(2))
    constant = math.log(width * spread / inside) - hits[2]
    return peak + math.log(total) + constant


@njit(cache=True)
def _maximum(known, hits, place, work, log_p):
    """The maximum (a, b) of the integrand and the precision matrix there, by Newton's method.

    Derivatives are differences. Where the curvature is not that of a maximum, and far from it, the
    prior's precision takes its place.
    """
    _, s_t, m_a, s_a, rho = log_p
    free = 1 / (1 - rho * rho)
    paa, pab, pbb = free / s_a**2, -rho * free / (s_a * s_t), free / s_t**2
    least = LOG_ALPHA_MIN + 0.05 * s_a
    a, b = max(m_a, least + 0.2 * s_a), log_p[0]
    jaa, jab, jbb = paa, pab, pbb
    best, last_a, last_b = -np.inf, a, b
    for _ in range(60):
        ha, hb = 0.02 / math.sqrt(jaa), 0.02 / math.sqrt(jbb)
        _powers(place, work, math.exp(a))
        f = _joint(known, hits, place, work, log_p, a, b)
        if f < best:  # too far
            a, b = (a + 3 * last_a) / 4, (b + 3 * last_b) / 4
            continue
        best, last_a, last_b = f, a, b
        up = _joint(known, hits, place, work, log_p, a, b + hb)
        down = _joint(known, hits, place, work, log_p, a, b - hb)
        _powers(place, work, math.exp(a + ha))
        right = _joint(known, hits, place, work, log_p, a + ha, b)
        corner = _joint(known, hits, place, work, log_p, a + ha, b + hb)
        _powers(place, work, math.exp(a - ha))
        left = _joint(known, hits, place, work, log_p, a - ha, b)
        ga, gb = (right - left) / (2 * ha), (up - down) / (2 * hb)
        kaa, kbb = (2 * f - right - left) / ha**2, (2 * f - up - down) / hb**2
        kab = (right + up - f - corner) / (ha * hb)
        if not (kaa > 0.3 * paa and kbb > 0.3 * pbb and kaa * kbb - kab**2 > 1e-3 * kaa * kbb):
            kaa, kab, kbb = max(kaa, paa), 0.0, max(kbb, pbb)
        jaa, jab, jbb = kaa, kab, kbb
        determinant = jaa * jbb - jab * jab
        da = (jbb * ga - jab * gb) / determinant
        db = (jaa * gb - jab * ga) / determinant
        if not math.isfinite(da + db):
            break
        size = math.sqrt(jaa * da * da + 2 * jab * da * db + jbb * db * db)
        limit = min(1.0, 3 * s_a / max(abs(da), 1e-300), 3 * s_t / max(abs(db), 1e-300))
        a, b = max(a + limit * da, least), b + limit * db
        if size < 0.1:
            break
    return a, b, jaa, jab, jbb


@njit(cache=True)
def _powers(place, work, alpha):
    """w_k t_lk^{α−1} of the far layers."""
    _, _, near, log_t, depth, _ = place
    powers = work[0]
    for l in range(near, len(log_t)):
        for k in range(log_t.shape[1]):
            powers[l, k] = depth[1][k] * math.exp((alpha - 1) * log_t[l, k])


@njit(cache=True)
def _share(place, work, alpha, beta):
    """F_l of all layers, from the powers at this α."""
    start, thickness, near, log_t, depth, _ = place
    powers, share = work
    below = gamma_p(alpha, beta * start)
    for l in range(near):
        above = gamma_p(alpha, beta * (start + (l + 1) * thickness))
        share[l] = above - below
        below = above
    if near < len(share):
        decay = np.exp(-beta * depth[0])
        scale = math.exp(
            alpha * math.log(beta) - math.lgamma(alpha) - beta * (start + near * thickness)
        )
        step = math.exp(-beta * thickness)
        for l in range(near, len(share)):
            total = 0.0
            for k in range(len(decay)):
                total += powers[l, k] * decay[k]
            share[l] = scale * total
            scale *= step
    return share


@njit(cache=True)
def _joint(known, hits, place, work, log_p, a, b):
    """log N₂(a, b) + Σ log p(x_v|λ_v), but for −Σ y; `work` holds the powers at a."""
    log_energy, log_y, z, spot, threshold, azimuths = known
    first, values, _, empty, _ = hits
    start, thickness, _, _, _, square = place
    m_t, s_t, m_a, s_a, rho = log_p
    u, v = (a - m_a) / s_a, (b - m_t) / s_t
    free = 1 - rho * rho
    total = -0.5 * (u * u + v * v - 2 * rho * u * v) / free
    total -= math.log(2 * math.pi * s_a * s_t * math.sqrt(free))
    alpha, top = math.exp(a), math.exp(b)
    if alpha <= 1:
        return -np.inf
    share = _share(place, work, alpha, (alpha - 1) / top)
    spots = math.exp(log_energy) / spot
    rings = len(square) - 1
    mean_alpha = math.exp(m_a)
    scale = (alpha - 1) / alpha * mean_alpha / (mean_alpha - 1) / top
    core, tail, weight, product = 0.0, 0.0, 1.0, 1.0
    for l in range(len(share)):
        rate = spots * share[l]
        if rings > 1 or square[1] < np.inf:
            tau = max(start + (l + 0.5) * thickness, 0.0) * scale
            core, tail, weight = radial(tau, log_energy, z)
        inside = 0.0
        for r in range(rings):
            outer = 1.0
            if square[r + 1] < np.inf:
                q = square[r + 1]
                outer = weight * q / (q + core**2) + (1 - weight) * q / (q + tail**2)
            cell = rate * (outer - inside) / azimuths
            inside = outer
            if empty[l, r] > 0:
                total += empty[l, r] * log_atom_of(cell, threshold)
            n = first[l * rings + r + 1] - first[l * rings + r]
            if n > 0:
                if cell <= 0.0:
                    return -np.inf
                for h in range(first[l * rings + r], first[l * rings + r + 1]):
                    exponent, factor = series(cell * values[h])
                    total += exponent
                    product *= cell * factor
                    if not 1e-100 < product < 1e100:
                        total += math.log(product)
                        product = 1.0
                total -= n * cell
    return total + math.log(product)

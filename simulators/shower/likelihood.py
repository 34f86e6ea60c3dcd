r"""Exact log p(x|θ) of a shower: an integral over its two latent numbers a = ln α, b = ln T.

Given them all cells are independent, so with λ_v the mean number of spots in cell v
(:mod:`.integrand`), and but for gains and dead rows (:mod:`.readout`),

    p(x|θ) = ∫ da db N₂(a, b) Π_v p(x_v|λ_v(a, b, θ)),        a > ln 1.1.

The integrand is a smooth peak, often far narrower than N₂. Newton's method finds its maximum, from
the best of three guesses, for where E is far too high there is another peak, of showers that are
late enough to leak. With the precision matrix J there, b given a is integrated by Gauss–Hermite
quadrature around its conditional mean, and a by the same around its own, or by Gauss–Legendre
where the cut at ln 1.1 comes within six widths. The rule is exact for a Gaussian integrand and
converges geometrically for what it is here; tests compare orders, and brute force.

A photon converts at a depth t₀ ~ Exp(9/7): a third integral, by a Gauss rule in each layer up to
the first that holds energy.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from simulators.base import Array
from simulators.shower.gflash import LOG_ALPHA_MIN, PHOTON_DEPTH
from simulators.shower.integrand import (
    Cells,
    Given,
    Medium,
    Stack,
    given_by,
    joint,
    set_powers,
    stacked,
)
from simulators.shower.materials import Material
from simulators.shower.readout import Hits, Readout, hits_of

__all__ = ["log_likelihood"]

ORDERS = {2500.0: 8, 1000.0: 9, 400.0: 10, 0.0: 16}
"""Nodes of a Gauss–Hermite rule by the least Σ y: a shower of few spots leaves a broad integrand.
Over the prior of the task `shower` log p is then right to 1e-3 nats, and in the median to 1e-9;
above 10 GeV to 1e-7."""
REACH, FLAT = 6.5, 28
"""Widths that the Gauss–Legendre rule covers, and its nodes."""
POINTS = 4
"""Depths in each X₀ of a layer."""
CONVERSIONS = 6
"""Conversion depths in each layer."""
PRIOR_REACH = 30.0
"""Nats of the conversion's exponential law that are covered."""
DIFFERENCE, CLOSE = 0.02, 0.1
"""Part of a width over which derivatives are taken, and square of the last step in widths."""
NOWHERE = (math.nan, math.nan)


class Rule(NamedTuple):
    """Gauss–Hermite without its weight function, and Gauss–Legendre on [0, 1]; log weights."""

    u: Array
    log_w: Array
    t: Array
    log_m: Array


class Peak(NamedTuple):
    """A point (a, b), or a step to it, and the precision matrix there."""

    a: float
    b: float
    aa: float
    ab: float
    bb: float


def log_likelihood(
    log_energy: Array,
    start: Array,
    y: Array,
    *,
    thickness: float,
    edges: Array,
    spot: float,
    readout: Readout,
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
        readout: its threshold, gains and dead rows; a cell with y at most the threshold is empty.
        material: of the calorimeter.
        photon: whether a photon starts the shower.
        order: nodes of a Gauss–Hermite rule; 0 for as many as Σ y asks for.

    Returns:
        (n,).
    """
    orders = {0.0: order} if order else ORDERS
    depth, weight = interval_rule(POINTS * math.ceil(thickness))
    square = np.asarray(edges, dtype=float) ** 2
    layers, azimuths = y.shape[1:3]
    return _rows(
        np.ascontiguousarray(log_energy, dtype=float),
        np.ascontiguousarray(start, dtype=float),
        np.ascontiguousarray(y, dtype=float),
        Medium(float(material.z), material.critical_energy, float(spot), readout),
        Cells(
            layers,
            azimuths,
            float(thickness),
            square,
            thickness * depth,
            thickness * weight,
            interval_rule(CONVERSIONS),
        ),
        photon,
        np.array(list(orders)),
        tuple(rule(n) for n in orders.values()),
    )


@lru_cache
def interval_rule(points: int) -> tuple[Array, Array]:
    """Nodes and weights of Gauss–Legendre on [0, 1]."""
    t, w = np.polynomial.legendre.leggauss(points)
    return (t + 1) / 2, w / 2


@lru_cache
def rule(order: int) -> Rule:
    """The rules for a and b, of `order` nodes where the cut is far."""
    u, w = np.polynomial.hermite_e.hermegauss(order)
    t, m = interval_rule(FLAT)
    return Rule(u, np.log(w) + u**2 / 2, t, np.log(m))


@njit(cache=True)
def _rows(
    log_energy: Array, start: Array, y: Array, medium: Medium, cells: Cells, photon: bool,
    least: Array, rules: tuple[Rule, ...],
) -> Array:  # fmt: skip
    """log p of each shower, by the rule for its Σ y."""
    out = np.empty(len(y))
    for i in range(len(y)):
        given, hits = given_by(log_energy[i], medium), hits_of(y[i], medium.readout.threshold)
        k = 0
        while hits.total < least[k]:
            k += 1
        if photon:
            out[i] = _photon(given, hits, cells, start[i], rules[k])
        else:
            out[i] = _electron(given, hits, cells, start[i], rules[k])
    return out


@njit(cache=True)
def _photon(given: Given, hits: Hits, cells: Cells, start: float, rule: Rule) -> float:
    """The mean over conversion depths, layer by layer and not behind the first layer hit."""
    thickness, (nodes, weights) = cells.thickness, cells.conversion
    last = PHOTON_DEPTH * PRIOR_REACH
    if hits.front < cells.layers:
        last = min(last, start + thickness * (hits.front + 1))
    low, peak, total = 0.0, -np.inf, 0.0
    while low < last:
        high = start + thickness * (math.floor((low - start) / thickness + 1e-9) + 1)
        high = min(max(high, low + 1e-9), last)
        for k in range(len(nodes)):
            t0 = low + (high - low) * nodes[k]
            log_w = math.log((high - low) * weights[k] / PHOTON_DEPTH) - t0 / PHOTON_DEPTH
            value = _electron(given, hits, cells, start - t0, rule)
            peak, total = _added(peak, total, value + log_w)
        low = high
    return peak + math.log(total) if total > 0 else -np.inf


@njit(cache=True)
def _added(peak: float, total: float, value: float) -> tuple[float, float]:
    """e^value added to total·e^peak, as another such pair."""
    if value > peak:
        return value, 1.0 + (total * math.exp(peak - value) if total > 0 else 0.0)
    return peak, total + (math.exp(value - peak) if value > -np.inf else 0.0)


@njit(cache=True)
def _electron(given: Given, hits: Hits, cells: Cells, start: float, rule: Rule) -> float:
    """log p of a shower that starts at a known depth."""
    stack = stacked(cells, start)
    at = _maximum(given, hits, stack)
    width, spread = 1 / math.sqrt(at.aa - at.ab * at.ab / at.bb), 1 / math.sqrt(at.bb)
    low = max((LOG_ALPHA_MIN - at.a) / width, -REACH)
    cut = low > -REACH
    peak, total = -np.inf, 0.0
    for i in range(len(rule.t) if cut else len(rule.u)):
        u = low + (REACH - low) * rule.t[i] if cut else rule.u[i]
        log_w = rule.log_m[i] + math.log(REACH - low) if cut else rule.log_w[i]
        a = at.a + width * u
        centre = at.b - at.ab / at.bb * (a - at.a)
        set_powers(stack, math.exp(a))
        for j in range(len(rule.u)):
            value = joint(given, hits, stack, a, centre + spread * rule.u[j])
            peak, total = _added(peak, total, value + log_w + rule.log_w[j])
    if total == 0:
        return -np.inf
    return peak + math.log(total * width * spread) - hits.total


@njit(cache=True)
def _maximum(given: Given, hits: Hits, stack: Stack) -> Peak:
    """The maximum of the integrand and the precision matrix there, by Newton's method."""
    least = LOG_ALPHA_MIN + 0.05 * given.s_a
    a, b = _guess(given, hits, stack)
    free = 1 / (1 - given.rho**2)
    best, last_a, last_b = -np.inf, a, b
    step = Peak(0.0, 0.0, free / given.s_a**2, 0.0, free / given.s_t**2)
    for _ in range(60):
        a = max(a, least)
        set_powers(stack, math.exp(a))
        f = joint(given, hits, stack, a, b)
        if f < best:  # too far
            a, b = (a + 3 * last_a) / 4, (b + 3 * last_b) / 4
            continue
        best, last_a, last_b = f, a, b
        step = _newton(given, hits, stack, a, b, f, step)
        if a == least and step.a < 0:
            step = Peak(0.0, step.b + step.ab / step.bb * step.a, step.aa, step.ab, step.bb)
        if not math.isfinite(step.a + step.b):
            break
        far = max(abs(step.a) / given.s_a, abs(step.b) / given.s_t)
        a, b = a + step.a / max(1.0, far / 3), b + step.b / max(1.0, far / 3)
        if step.aa * step.a**2 + 2 * step.ab * step.a * step.b + step.bb * step.b**2 < CLOSE:
            break
    return Peak(max(a, least), b, step.aa, step.ab, step.bb)


@njit(cache=True)
def _guess(given: Given, hits: Hits, stack: Stack) -> tuple[float, float]:
    """Where to start: the best of the prior's mean, the hits' shape, and a shower that leaks."""
    least = LOG_ALPHA_MIN + 0.25 * given.s_a
    a, b = max(given.m_a, least), given.m_t
    set_powers(stack, math.exp(a))
    best = joint(given, hits, stack, a, b)
    leak = given.spots > 2 * hits.total + 50
    for p, q in (_profile(hits, stack), _leaking(given, hits, stack, least) if leak else NOWHERE):
        if math.isfinite(p + q):
            set_powers(stack, math.exp(p))
            value = joint(given, hits, stack, p, q)
            if value > best:
                best, a, b = value, p, q
    return a, b


@njit(cache=True)
def _profile(hits: Hits, stack: Stack) -> tuple[float, float]:
    """(a, b) of the Gamma distribution with the hits' mean depth and its variance, if any."""
    if hits.total == 0:
        return NOWHERE
    rings, first, values = len(stack.square) - 1, hits.first, hits.values
    mean, square = 0.0, 0.0
    for layer in range(len(stack.share)):
        depth = max(stack.start + (layer + 0.5) * stack.thickness, 0.0)
        part = values[first[layer * rings] : first[(layer + 1) * rings]].sum() / hits.total
        mean += part * depth
        square += part * depth**2
    variance = square - mean**2
    if not 0 < 1.2 * variance < mean**2:
        return NOWHERE
    return math.log(mean**2 / variance), math.log(mean - variance / mean)


@njit(cache=True)
def _leaking(given: Given, hits: Hits, stack: Stack, a: float) -> tuple[float, float]:
    """(a, b) of a shower so late that the layers hold no more of it than the hits."""
    alpha = math.exp(a)
    part = math.lgamma(alpha + 1) + math.log(max(hits.total, 1.0) / given.spots)
    depth = max(stack.start, 0.0) + len(stack.share) * stack.thickness
    return a, math.log((alpha - 1) * depth) - part / alpha


@njit(cache=True)
def _newton(
    given: Given, hits: Hits, stack: Stack, a: float, b: float, f: float, near: Peak
) -> Peak:
    """The step from (a, b), where log of the integrand is f and the powers are known.

    Derivatives are differences over a part of the width at a point `near`. Where the curvature is
    not that of a maximum, and far from it, the prior's precision takes its place.
    """
    ha, hb = DIFFERENCE / math.sqrt(near.aa), DIFFERENCE / math.sqrt(near.bb)
    up = joint(given, hits, stack, a, b + hb)
    down = joint(given, hits, stack, a, b - hb)
    set_powers(stack, math.exp(a + ha))
    right = joint(given, hits, stack, a + ha, b)
    corner = joint(given, hits, stack, a + ha, b + hb)
    set_powers(stack, math.exp(a - ha))
    left = joint(given, hits, stack, a - ha, b)
    ga, gb = (right - left) / (2 * ha), (up - down) / (2 * hb)
    aa, bb = (2 * f - right - left) / ha**2, (2 * f - up - down) / hb**2
    ab = (right + up - f - corner) / (ha * hb)
    free = 1 / (1 - given.rho**2)
    least_aa, least_bb = free / given.s_a**2, free / given.s_t**2
    if not (aa > 0.3 * least_aa and bb > 0.3 * least_bb and aa * bb - ab**2 > 1e-3 * aa * bb):
        aa, ab, bb = max(aa, least_aa), 0.0, max(bb, least_bb)
    determinant = aa * bb - ab * ab
    return Peak((bb * ga - ab * gb) / determinant, (aa * gb - ab * ga) / determinant, aa, ab, bb)

r"""What the readout makes of a shower: gains that fluctuate, and rows of cells that are dead.

A *row* is the cells of one layer and one azimuth, so a layer that is not divided is one row.

**Gains.** All cells of layer l read g_l = exp(σ η_l) times their energy. The η_l are standard
normal and differ from shower to shower, with correlation ρ^|l − m| between layers: a stationary
chain η_l = ρ η_{l−1} + √(1 − ρ²) z_l. **Dead rows.** Each row reads nothing with probability p.

Given a shower's shape, so the mean number λ_v of spots in each cell, the rows are independent but
for the gains, and with q_r(g) the density of row r by the cells' law (:mod:`.compound`)

    p(x_l|g, λ) = Π_r [(1 − p) q_r(g) + p·1(row r is empty)],

    p(x|λ) = ∫ dη N(η; 0, ρ^|l − m|) Π_l p(x_l|e^{σ η_l}, λ),

which is a hidden Markov chain: one integral a layer, carried from layer to layer (Rabiner, Proc.
IEEE 77, 257 (1989)). Each is a Gauss–Hermite rule around the maximum of the layer's own part. To
place it, Newton's method with a bound for the ratio of Bessel functions is enough, I₂/I₁(z) ≈
z/(3/2 + √(z² + 25/4)) (Amos, Math. Comp. 28, 239 (1974)). The wider the gains and the stronger
their correlation, the slower it converges. A layer without hit and without threshold says nothing
of its gain, and is passed over.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from simulators.base import Array
from simulators.shower.compound import inlined, kernel, log_atom_of, series

__all__ = ["Hits", "Readout", "hits_of", "log_chain", "read", "set_layers"]

NODE, WEIGHT = np.polynomial.hermite_e.hermegauss(8)
LOG_WEIGHT = np.log(WEIGHT) + NODE**2 / 2
"""Of the rule for a gain."""
STEPS = 3
"""Of Newton's method towards the maximum of a gain."""


class Readout(NamedTuple):
    """Threshold in e, spread σ of ln g, correlation ρ, probability p of a dead row."""

    threshold: float
    spread: float
    correlation: float
    dead: float


class Hits(NamedTuple):
    """The cells of a shower that are hit, ring by ring, and the number of those that are not.

    Ring r of layer l has the number lR + r; its hits are values[first[lR + r]:first[lR + r + 1]].
    """

    values: Array
    first: Array
    empty: Array
    total: float
    front: int  # number of the first layer hit, L if none is
    energy: Array  # of each layer
    silent: Array  # number of rows of each layer without a hit


def read(
    x: Array, spread: float, correlation: float, dead: float, rng: np.random.Generator
) -> None:
    """Multiply cells x (n, L, A, R) by gains, and empty dead rows, in place.

    What is off draws no random numbers.
    """
    if spread:
        eta = rng.standard_normal(x.shape[:2])
        for layer in range(1, x.shape[1]):
            eta[:, layer] *= math.sqrt(1 - correlation**2)
            eta[:, layer] += correlation * eta[:, layer - 1]
        x *= np.exp(spread * eta).astype(x.dtype)[..., None, None]
    if dead:
        x[rng.random(x.shape[:3]) < dead] = 0


@kernel
def hits_of(y: Array, threshold: float) -> Hits:
    """The hits of a shower y (L, A, R)."""
    layers, azimuths, rings = y.shape
    values = np.empty(y.size)
    first, empty = np.zeros(layers * rings + 1, np.int64), np.zeros(layers * rings)
    energy, silent = np.zeros(layers), np.zeros(layers)
    count, total, front = 0, 0.0, layers
    for layer in range(layers):
        for ring in range(rings):
            for azimuth in range(azimuths):
                value = y[layer, azimuth, ring]
                if value > threshold:
                    values[count] = value
                    total += value
                    energy[layer] += value
                    count += 1
                    front = min(front, layer)
                else:
                    empty[layer * rings + ring] += 1
            first[layer * rings + ring + 1] = count
        for azimuth in range(azimuths):
            silent[layer] += y[layer, azimuth].max() <= threshold
    return Hits(values[:count], first, empty, total, front, energy, silent)


@inlined
def set_layers(
    hits: Hits, rate: Array, azimuths: int, readout: Readout, low: int, high: int,
    log_gain: Array, out: Array,
) -> None:  # fmt: skip
    """log p of layers low … high − 1 at each log gain (k,), in units of 1/e a hit, but for −Σ y.

    Args:
        hits: of the shower.
        rate: mean number of spots in a cell of each ring, (L, R).
        azimuths: number of rows of a layer.
        readout: threshold and dead rows.
        low: the first layer.
        high: the one behind the last.
        log_gain: ln g, the same for these layers, (k,).
        out: where the answer goes, (k,).
    """
    values, first, empty = hits.values, hits.first, hits.empty
    threshold, dead, rings = readout.threshold, readout.dead, rate.shape[1]
    for k in range(len(log_gain)):
        shrink, total, product = math.exp(-log_gain[k]), 0.0, 1.0
        for layer in range(low, high):
            total += hits.energy[layer] * (1 - shrink)
            silent, quiet = hits.silent[layer], 0.0
            for ring in range(rings):
                cell, number = rate[layer, ring], layer * rings + ring
                begin, end = first[number], first[number + 1]
                if empty[number] > 0:
                    atom = log_atom_of(cell, threshold * shrink)
                    total += (empty[number] - silent) * atom
                    quiet += atom
                if end > begin and cell <= 0.0:
                    total, end = -np.inf, begin
                for h in range(begin, end):
                    exponent, factor = series(cell * shrink * values[h])
                    total += exponent
                    product *= cell * shrink * factor
                    if not 1e-100 < product < 1e100:
                        total += math.log(product)
                        product = 1.0
                total -= (end - begin) * cell
            if dead > 0:
                quiet = math.log(dead + (1 - dead) * math.exp(quiet))
                total += (azimuths - silent) * math.log(1 - dead)
            total += silent * quiet
        out[k] = total + math.log(product)


@kernel
def log_chain(hits: Hits, rate: Array, azimuths: int, readout: Readout) -> float:
    """log p of all layers, but for −Σ y: the mean over gains, carried from layer to layer."""
    u, spread = NODE, readout.spread
    eta, part = np.zeros(len(u)), np.zeros(len(u))  # of the last layer that told of its gain
    new, value = np.empty(len(u)), np.empty(len(u))
    part[0], mean, variance, r, total = 1.0, 0.0, 0.0, 0.0, 0.0
    for layer in range(len(rate)):
        r *= readout.correlation
        if hits.energy[layer] == 0 and readout.threshold == 0:
            set_layers(hits, rate, azimuths, readout, layer, layer + 1, np.zeros(1), value)
            total += value[0]
            continue
        rest = 1 - r * r
        mean, variance = _placed(hits, rate, layer, r * mean, r * r * variance + rest, spread)
        width, peak = math.sqrt(variance), -np.inf
        for j in range(len(u)):
            new[j] = mean + width * u[j]
        set_layers(hits, rate, azimuths, readout, layer, layer + 1, spread * new, value)
        for j in range(len(u)):
            value[j] += LOG_WEIGHT[j]
            peak = max(peak, value[j])
        if peak == -np.inf:
            return peak
        mass = 0.0
        for j in range(len(u)):
            before = 0.0
            for i in range(len(u)):
                before += part[i] * math.exp(-0.5 * (new[j] - r * eta[i]) ** 2 / rest)
            value[j] = before * math.exp(value[j] - peak)
            mass += value[j]
        for j in range(len(u)):
            eta[j], part[j] = new[j], value[j] / mass
        total += peak + math.log(mass * width / math.sqrt(2 * math.pi * rest))
        r = 1.0
    return total


@kernel
def _placed(
    hits: Hits, rate: Array, layer: int, mean: float, variance: float, spread: float
) -> tuple[float, float]:
    """Mean and variance of η_l given the layer's hits, nearly, from those it had before."""
    rings, values, first = rate.shape[1], hits.values, hits.first
    eta, precision = mean, 1 / variance
    for _ in range(STEPS):
        shrink = math.exp(-spread * eta)
        slope, curvature = hits.energy[layer] * shrink, hits.energy[layer] * shrink
        for ring in range(rings):
            for h in range(first[layer * rings + ring], first[layer * rings + ring + 1]):
                w = rate[layer, ring] * shrink * values[h]
                root = math.sqrt(4 * w + 6.25)
                d = 2 * w / (1.5 + root)  # d log S / d log w
                slope -= 1 + d
                curvature -= d * (1 - d / root)
        precision = 1 / variance + max(spread * spread * curvature, 0.0)
        eta += (spread * slope - (eta - mean) / variance) / precision
    return eta, 1 / precision

r"""Hybrid Monte Carlo of φ⁴ maps, with clusters for the sign.

**Hybrid Monte Carlo** (Duane, Kennedy, Pendleton & Roweth 1987, Phys. Lett. B 195, 216): momenta
are drawn anew, the equations of motion of H = p²/2 + S(φ) are followed by the leapfrog rule for a
random number of steps, and the end is accepted with probability min(1, e^{−ΔH}), which makes the
law right for any step. From a start that is none of its draws ΔH is large, for all sites err in
one direction, and a large map would never move: its first trajectories are accepted whatever it
is. **Clusters** (Brower & Tamayo 1989, Phys. Rev. Lett. 62, 1087; Wolff 1989):
given |φ| the signs are an Ising model of couplings |φ_i φ_j|, and one of its clusters, grown from
a random site by bonds of probability 1 − e^{−2 φ_i φ_j}, is flipped after each trajectory.

A map is a function of the key, its index, its θ, its start and the numbers of trajectories and
steps.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from simulators.base import Array
from simulators.random import bits, keys

__all__ = ["action", "evolve", "force"]

U64 = np.uint64


@njit(nogil=True, cache=True)
def _uniform(a: U64, b: U64, counter: int) -> float:
    """A number in (0, 1)."""
    return (float(bits(a, b, U64(counter)) >> U64(11)) + 0.5) * 2.0**-53


@njit(nogil=True, cache=True)
def _normal(a: U64, b: U64, counter: int, out: Array) -> int:
    """Fill with standard normal numbers by pairs (Box & Muller 1958); the next counter."""
    for i in range(0, len(out), 2):
        radius = math.sqrt(-2 * math.log(_uniform(a, b, counter)))
        angle = 2 * math.pi * _uniform(a, b, counter + 1)
        out[i] = radius * math.cos(angle)
        if i + 1 < len(out):
            out[i + 1] = radius * math.sin(angle)
        counter += 2
    return counter


@njit(nogil=True, cache=True)
def action(phi: Array, size: int, mass: float, coupling: float) -> float:
    """S of a map φ (N,), rows of `size` sites."""
    total = 0.0
    for y in range(size):
        for x in range(size):
            here = phi[y * size + x]
            right, below = phi[y * size + (x + 1) % size], phi[(y + 1) % size * size + x]
            square = here * here
            total += (2 + 0.5 * mass) * square + coupling * square * square
            total -= here * (right + below)
    return total


@njit(nogil=True, cache=True)
def force(phi: Array, out: Array, size: int, mass: float, coupling: float, step: float) -> None:
    """Add −step ∂S/∂φ of a map φ (N,) to another, (N,)."""
    for y in range(size):
        up, down = (y - 1) % size * size, (y + 1) % size * size
        for x in range(size):
            i = y * size + x
            here = phi[i]
            near = phi[y * size + (x + 1) % size] + phi[y * size + (x - 1) % size]
            near += phi[up + x] + phi[down + x]
            out[i] -= step * ((4 + mass + 4 * coupling * here * here) * here - near)


@njit(nogil=True, cache=True)
def _flip_cluster(phi: Array, size: int, a: U64, b: U64, counter: int, queue: Array) -> int:
    """Flip the sign of a cluster; the next counter."""
    root = int(_uniform(a, b, counter) * len(phi))
    counter += 1
    queue[0], end, k = root, 1, 0
    phi[root] = -phi[root]  # flipped sites are never joined again: φ_i φ_j < 0 with those left
    while k < end:
        i = queue[k]
        y, x = i // size, i % size
        k += 1
        for d in range(4):
            across, down = (2 * d - 1, 0) if d < 2 else (0, 2 * d - 5)
            j = (y + down) % size * size + (x + across) % size
            joined = 2 * phi[i] * phi[j]
            if joined < 0:
                if _uniform(a, b, counter) < -math.expm1(joined):
                    phi[j] = -phi[j]
                    queue[end] = j
                    end += 1
                counter += 1
    return counter


@njit(nogil=True, cache=True)
def evolve(
    out: Array, theta: Array, key: Array, trajectories: int, steps: int, step: float, free: int
) -> float:
    """Move each map along a chain of its own; the part of trajectories accepted.

    Args:
        out: (n, L, L), where the chains start and, afterwards, where they are.
        theta: m² and λ of each, (n, 2).
        key: two numbers of 64 bits.
        trajectories: of each chain.
        steps: of a trajectory, on average.
        step: of the leapfrog rule.
        free: of these trajectories, the first, which are not asked and not counted.
    """
    size, accepted = out.shape[1], 0
    sites = size * size
    p, old, queue = np.empty(sites), np.empty(sites), np.empty(sites, np.int64)
    for row in range(len(out)):
        mass, coupling = theta[row]
        a, b = keys(key, row)
        phi, counter = out[row].reshape(sites), 0
        for trajectory in range(trajectories):
            counter = _normal(a, b, counter, p)
            old[:] = phi
            before = 0.5 * (p * p).sum() + action(phi, size, mass, coupling)
            count = 1 + int(_uniform(a, b, counter) * (2 * steps - 1))
            force(phi, p, size, mass, coupling, 0.5 * step)
            for k in range(count):
                phi += step * p
                part = 1.0 if k < count - 1 else 0.5
                force(phi, p, size, mass, coupling, part * step)
            after = 0.5 * (p * p).sum() + action(phi, size, mass, coupling)
            likely = math.exp(min(before - after, 0.0))
            if trajectory < free and after < np.inf:
                pass
            elif _uniform(a, b, counter + 1) < likely:
                accepted += trajectory >= free
            else:
                phi[:] = old
            counter = _flip_cluster(phi, size, a, b, counter + 2, queue)
    return accepted / max(1, (trajectories - free) * len(out))

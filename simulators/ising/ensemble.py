"""Log Z, cumulants and laws at couplings K = (K_x, K_y, H), by whichever exact route there is.

With b = (Σ s s', Σ s s'', Σ s) the law is p ∝ e^{K·b}, and along a direction v in the space of
couplings the derivatives of log Z are the cumulants of v·b: d = ⟨v·b⟩, dd = var(v·b). In the
direction v = K itself d is the mean of log p + log Z, so that the entropy is log Z − d.

====================  =====================  ==============================================
couplings             size                   route
====================  =====================  ==============================================
H = 0                 any                    Kaufman's formula and its jets (:mod:`.exact`)
H ≠ 0, K_x = K_y      64 sites, 8 across     counted states g(E, M) (:mod:`.counting`)
H ≠ 0, K_x = K_y      12 sites across        transfer matrix (:mod:`.transfer`)
====================  =====================  ==============================================

Each distinct row of couplings is computed once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simulators.base import Array
from simulators.ising.exact import Jet, log_z_jet

__all__ = ["cumulants", "entropy", "is_counted", "is_solved", "log_z"]

MOST_ACROSS = 12  # sites of the transfer matrix
BLOCK = 1 << 20  # modes held at once
STEP = 1e-4  # of the central difference for the second derivative of the transfer matrix

Shape = tuple[int, int]


def is_counted(shape: Shape) -> bool:
    """Whether g(E, M) can be counted at this size: 64 sites, 8 across."""
    return min(shape) <= 8 and shape[0] * shape[1] <= 64


def is_solved(shape: Shape) -> bool:
    """Whether log Z with a field is exact at this size: 12 sites across."""
    return is_counted(shape) or min(shape) <= MOST_ACROSS


def cumulants(shape: Shape, k: Array, v: Array) -> Jet:
    """Log Z, ⟨v·b⟩ and var(v·b) at couplings k (n, 3) along v (3,) or (n, 3), each (n,).

    Raises:
        ValueError: no exact answer there.
    """
    rows = np.concatenate([k, np.broadcast_to(v, k.shape)], axis=1)
    rows, where = np.unique(rows, axis=0, return_inverse=True)
    k, v = rows[:, :3], rows[:, 3:]
    route = _route(shape, k, v)
    step = max(BLOCK // shape[1], 1)
    parts = [route(shape, k[i : i + step], v[i : i + step]) for i in range(0, len(k), step)]
    parts = parts or [Jet(np.zeros(0), np.zeros(0), np.zeros(0))]
    return Jet(*(np.concatenate(p)[where] for p in zip(*parts, strict=True)))


def log_z(shape: Shape, k: Array) -> Array:
    """Log Z in nats at couplings k (n, 3), (n,).

    Raises:
        ValueError: no exact answer there.
    """
    return cumulants(shape, k, np.zeros(3)).f


def entropy(shape: Shape, k: Array) -> Array:
    """Entropy in nats at couplings k (n, 3), (n,).

    Raises:
        ValueError: no exact answer there.
    """
    jet = cumulants(shape, k, k)
    return jet.f - jet.d


def _route(shape: Shape, k: Array, v: Array) -> Callable[[Shape, Array, Array], Jet]:
    """The way to the cumulants."""
    if not (k[:, 2].any() or v[:, 2].any()):
        return _kaufman
    if np.any(k[:, 0] != k[:, 1]) or np.any(v[:, 0] != v[:, 1]):
        raise ValueError(
            "log Z: no exact answer with a field and unequal couplings; take J_x = J_y"
        )
    if not is_solved(shape):
        raise ValueError(
            f"log Z: no exact answer with a field at {shape[0]} × {shape[1]}; take h = 0 or a "
            f"side of at most {MOST_ACROSS}"
        )
    return _counted if is_counted(shape) else _transferred


def _kaufman(shape: Shape, k: Array, v: Array) -> Jet:
    return log_z_jet(shape, k[:, 0], k[:, 1], v[:, 0], v[:, 1])


def _counted(shape: Shape, k: Array, v: Array) -> Jet:
    from simulators.ising.counting import joint_levels

    levels = joint_levels(shape)
    e, m = levels.energy, levels.magnetisation
    one, unit = np.ones(len(e)), np.ones(len(m))
    powers = ((e, unit), (one, m), (e**2, unit), (e, m), (one, m**2))
    log_z, means = levels.moments(k[:, 0], k[:, 2], *powers)
    a, b, aa, ab, bb = means.T
    p, q = -v[:, 0], v[:, 2]
    d = p * a + q * b
    dd = p**2 * (aa - a * a) + 2 * p * q * (ab - a * b) + q**2 * (bb - b * b)
    return Jet(log_z, d, dd)


def _transferred(shape: Shape, k: Array, v: Array) -> Jet:
    from simulators.ising.transfer import log_z_field

    def slope(t: float, row: Array, way: Array) -> complex:
        z = row + (t + 1e-30j) * way
        return log_z_field(shape, z[0], z[2])

    jets = []
    for row, way in zip(k, v, strict=True):
        here = slope(0.0, row, way)
        up, down = (slope(t, row, way).imag if way.any() else 0.0 for t in (STEP, -STEP))
        jets.append((here.real, here.imag * 1e30, (up - down) * 1e30 / (2 * STEP)))
    return Jet(*np.array(jets).reshape(-1, 3).T)

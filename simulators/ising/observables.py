"""What is measured on a lattice of spins s = ±1, and what on many lattices at one temperature.

A lattice x has shape (rows, columns) and N = rows·columns sites, both directions periodic. On a
ring of two sites each neighbour counts twice: the ring has two bonds, as it has two sites.

Per lattice: E = −Σ_⟨ij⟩ s_i s_j (in units of J), the magnetisation M = Σ s_i, and the two-point
correlation C(r) = mean of s_i s_{i+r} over sites and both directions. Per ensemble at equal θ:
C_v = β² var E / N, χ = β (⟨M²⟩ − ⟨|M|⟩²)/N and Binder's cumulant U = 1 − ⟨M⁴⟩/(3⟨M²⟩²) (Binder,
Z. Phys. B 43, 119 (1981)), which is 2/3 in the ordered phase and 0 in the disordered one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from simulators.base import Array, Conditional, Observable
from simulators.ising import ensemble

if TYPE_CHECKING:
    from simulators.ising.lattice import Ising

__all__ = [
    "abs_magnetisation",
    "bonds",
    "catalogue",
    "correlation",
    "energy",
    "energy_across",
    "energy_along",
    "magnetisation",
    "specific_heat",
    "susceptibility",
]


def _alignment(x: Array, r: int, axis: int) -> Array:
    """Σ_i s_i s_{i+r}, r sites along one axis, (n, rows, columns) → (n,) int64."""
    product = x * np.roll(x, -r, axis=axis)
    return product.sum(axis=(-2, -1), dtype=np.int64)


def bonds(x: Array) -> Array:
    """Σ s s' along the rows, Σ s s' along the columns and Σ s, (n, rows, columns) → (n, 3) int64.

    These are the sufficient statistics: log p(x|θ) = K_x b_x + K_y b_y + H M − log Z.
    """
    x = np.asarray(x, dtype=np.int8)
    m = x.sum(axis=(-2, -1), dtype=np.int64)
    return np.stack([_alignment(x, 1, -1), _alignment(x, 1, -2), m], axis=-1)


def energy(x: Array) -> Array:
    """Bond energy per spin E/N = −Σ_⟨ij⟩ s_i s_j / N, in J, (n,)."""
    return energy_along(x) + energy_across(x)


def energy_along(x: Array) -> Array:
    """Energy per spin of the bonds along the rows, in J_x, (n,)."""
    return -_alignment(np.asarray(x, dtype=np.int8), 1, -1) / np.prod(x.shape[-2:])


def energy_across(x: Array) -> Array:
    """Energy per spin of the bonds along the columns, in J_y, (n,)."""
    return -_alignment(np.asarray(x, dtype=np.int8), 1, -2) / np.prod(x.shape[-2:])


def magnetisation(x: Array) -> Array:
    """M/N, (n,), from −1 to 1."""
    return np.asarray(x).mean(axis=(-2, -1), dtype=float)


def abs_magnetisation(x: Array) -> Array:
    """|M|/N, (n,), from 0 to 1."""
    return np.abs(magnetisation(x))


def correlation(x: Array) -> Array:
    """C(r) at r = 1 … ⌊min(rows, columns)/2⌋, (n, k), mean over sites and both directions."""
    x = np.asarray(x, dtype=np.int8)
    reach = range(1, min(x.shape[-2:]) // 2 + 1)
    pairs = [_alignment(x, r, -1) + _alignment(x, r, -2) for r in reach]
    return np.stack(pairs, axis=-1) / (2 * np.prod(x.shape[-2:]))


def specific_heat(x: Array, beta: float) -> float:
    """β² var E / N of lattices x (n, rows, columns) at one β, per spin, in k_B."""
    return float(beta**2 * energy(x).var() * np.prod(x.shape[-2:]))


def susceptibility(x: Array, beta: float) -> float:
    """β (⟨M²⟩ − ⟨|M|⟩²)/N of lattices x (n, rows, columns) at one β, per spin, in 1/J."""
    return float(beta * abs_magnetisation(x).var() * np.prod(x.shape[-2:]))


def _mean(ising: Ising, *v: float) -> Callable[[Array], Array] | None:
    """θ → ⟨v·b⟩/N, or None where there is no exact answer."""
    along = np.array(v) * [1, 1, ising.has_field]  # without field ⟨M⟩ = 0
    shape, couplings = ising.x_shape, ising.couplings

    def mean(theta: Array) -> Array:
        return ensemble.cumulants(shape, couplings(theta), along).d / ising.sites

    return mean if ising.tractable else None


def _mean_abs(ising: Ising) -> Callable[[Array], Array] | None:
    """θ → ⟨|M|⟩/N, or None where the states are not counted."""

    def mean(theta: Array) -> Array:
        from simulators.ising.counting import joint_levels

        k, levels = ising.couplings(theta), joint_levels(ising.x_shape)
        m, one = np.abs(levels.magnetisation) / ising.sites, np.ones(len(levels.energy))
        return levels.moments(k[:, 0], k[:, 2], (one, m))[1][:, 0]

    return mean if ising.has_field and ensemble.is_counted(ising.x_shape) else None


ON_STATES: dict[str, Callable[[Array, Array], Array]] = {
    "energy": lambda e, m: e + 0 * m,
    "magnetisation": lambda e, m: 0 * e + m,
    "abs_magnetisation": lambda e, m: 0 * e + abs(m),
}
"""Observables that E/N (k, 1) and M/N (l,) tell, (k, l)."""


def _given(ising: Ising, name: str) -> dict[str, Conditional]:
    """The moments of an observable given θ and another one, where the states are counted."""
    if ising.theta == "beta-xy" or not ensemble.is_counted(ising.x_shape):
        return {}

    def conditional(other: str) -> Conditional:
        def moments(theta: Array, values: Array) -> tuple[Array, Array]:
            from simulators.ising.counting import joint_levels

            k, levels = ising.couplings(theta), joint_levels(ising.x_shape)
            e, m = levels.energy[:, None] / ising.sites, levels.magnetisation / ising.sites
            return levels.given(
                k[:, 0], k[:, 2], ON_STATES[name](e, m), ON_STATES[other](e, m), values
            )

        return moments

    return {other: conditional(other) for other in ON_STATES if other != name}


def catalogue(ising: Ising) -> dict[str, Observable]:
    """The observables of one lattice under their names, with ⟨·⟩ given θ where it is exact."""
    if ising.theta == "beta-xy":
        energies = {
            "energy_along": Observable(
                energy_along, "J_x", "E_x/N", "energy along rows", _mean(ising, -1, 0, 0)
            ),
            "energy_across": Observable(
                energy_across, "J_y", "E_y/N", "energy along columns", _mean(ising, 0, -1, 0)
            ),
        }
    else:
        exact = _mean(ising, -1, -1, 0)
        energies = {"energy": Observable(energy, "J", "E/N", "bond energy per spin", exact)}
    found = energies | {
        "magnetisation": Observable(
            magnetisation, "", "M/N", "magnetisation per spin", _mean(ising, 0, 0, 1)
        ),
        "abs_magnetisation": Observable(
            abs_magnetisation, "", "|M|/N", "magnetisation without sign", _mean_abs(ising)
        ),
        "correlation": Observable(
            correlation, "", r"\langle s_i s_{i+r} \rangle", "two-point correlation at r = 1, 2, …"
        ),
    }
    known = {name: _given(ising, name) for name in ON_STATES}
    return {name: replace(o, given=known.get(name, {})) for name, o in found.items()}

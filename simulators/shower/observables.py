"""What is measured of a shower, for layers alone and for cells.

Energies are in the unit of x. A mean over depth or radius is weighted by energy; of an empty
shower it is 0. Widths are standard deviations: the longitudinal one of depth, the radial one
√⟨r²⟩ about the calorimeter's axis. Of a layer the energy, its centre ⟨x⟩, ⟨y⟩ and its widths
√(⟨x²⟩ − ⟨x⟩²) and that of y are those of the CaloChallenge, x = r cos α and y = r sin α of the
cells' centres being what it calls η and φ (Krause et al. 2024, arXiv:2410.21611); occupancy is 1
less its sparsity. Of a layer that is not cut in azimuth x is r, and y is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from simulators.base import Array, JointObservable, Observable
from simulators.shower.geometry import Geometry
from simulators.shower.published import centre_bins, energy_bins, ratio_bins, width_bins

__all__ = ["of_cells", "of_energies", "of_layers"]

GEV = {"GeV": 1.0, "MeV": 1000.0}
"""1 GeV in a unit of energy."""


def flat(x: Array) -> Array:
    """Energies x (n, *x_shape) as they are, (n, cells) float64: of layers that have no cells."""
    return np.asarray(x, dtype=float).reshape(len(x), -1)


def of_layers(depth: Array, unit: str = "GeV", depth_unit: str = "X₀") -> dict[str, Observable]:
    """Observables of layer energies x (n, L).

    Args:
        depth: of the layers' centres, (L,).
        unit: unit of x.
        depth_unit: unit of depth.
    """
    return longitudinal(flat, depth, unit, depth_unit) | {
        "sparsity": Observable(
            lambda x: (flat(x) == 0).mean(1), latex="f_0", title="part of the layers without hit"
        )
    }


def of_cells(
    geometry: Geometry, unit: str = "GeV", depth: Array | None = None, mm: float = 1.0
) -> dict[str, Observable]:
    """Observables of showers x (n, *geometry.x_shape).

    Args:
        geometry: the cells.
        unit: unit of x.
        depth: of the layers' centres in X₀, (L,); the number of the layer if None.
        mm: unit of the geometry's radii, mm.
    """
    where = np.arange(float(len(geometry.present))) if depth is None else depth
    found = longitudinal(geometry.layer_energies, where, unit, "X₀" if depth is not None else "")
    energy = energy_bins(geometry, mm, 1000.0 / GEV[unit])
    found["layer_energies"] = replace(found["layer_energies"], bins=energy)
    return found | extent(geometry) | transverse(geometry, mm)


def extent(geometry: Geometry) -> dict[str, Observable]:
    """Radial width of showers, and which cells are hit."""
    radius, _ = geometry.centres

    def radial_width(x: Array) -> Array:
        energies, squares = moments(geometry, x, radius**2)
        return np.sqrt(ratio(squares.sum(1), energies.sum(1)))

    def occupancy(x: Array) -> Array:
        hit = np.asarray(x).reshape(len(x), -1) > 0
        return np.stack([hit[:, s].mean(1) for s in geometry.slices], 1)

    return {
        "radial_width": Observable(
            radial_width, geometry.unit, r"\sqrt{\langle r^2\rangle}", "radial width"
        ),
        "sparsity": Observable(
            lambda x: (np.asarray(x).reshape(len(x), -1) == 0).mean(1),
            latex="f_0",
            title="part of the cells without hit",
        ),
        "occupancy": Observable(occupancy, "", "f_l", "part of a layer's cells that are hit"),
    }


def transverse(geometry: Geometry, mm: float) -> dict[str, Observable]:
    """Centre of energy and width of each layer in x and y; `mm` is the unit of radius."""
    (radius, azimuth), found = geometry.centres, dict[str, Observable]()
    for name, along in (("x", np.cos(azimuth)), ("y", np.sin(azimuth))):
        means = partial(centres, geometry, radius * along)
        spreads = partial(widths, geometry, radius * along)
        found[f"centre_{name}"] = Observable(
            means, geometry.unit, rf"\langle {name}\rangle_l", f"centre of energy in {name}",
            bins=centre_bins(geometry, mm),
        )  # fmt: skip
        found[f"width_{name}"] = Observable(
            spreads, geometry.unit, rf"\sigma_{{{name},l}}", f"width of a layer in {name}",
            bins=width_bins(geometry, mm),
        )  # fmt: skip
    return found


def moments(geometry: Geometry, x: Array, *weights: Array) -> list[Array]:
    """Energy of each layer of x (n, …), and its sums with weights (cells,), (n, L) each."""
    flat, both = np.asarray(x).reshape(len(x), -1), np.stack([np.ones(geometry.cells), *weights])
    sums = np.stack([flat[:, s].astype(float) @ both[:, s].T for s in geometry.slices])
    return list(sums.transpose(2, 1, 0))


def centres(geometry: Geometry, place: Array, x: Array) -> Array:
    """Mean place of each layer's energy, cells at `place` (cells,), (n, L)."""
    energies, first = moments(geometry, x, place)
    return ratio(first, energies)


def widths(geometry: Geometry, place: Array, x: Array) -> Array:
    """Standard deviation of each layer's energy in place, cells at `place` (cells,), (n, L)."""
    energies, first, second = moments(geometry, x, place, place**2)
    return np.sqrt((ratio(second, energies) - ratio(first, energies) ** 2).clip(0))


def of_energies(
    energies: Callable[[Array], Array], unit: str = "GeV"
) -> dict[str, JointObservable]:
    """What is measured of θ = (ln E, …) and x together: E_tot/E, with E in GeV.

    Args:
        energies: x (n, *x_shape) → energies of the layers in `unit`, (n, L).
        unit: unit of x, GeV or MeV.
    """

    def energy_ratio(theta: Array, x: Array) -> Array:
        return energies(x).sum(1) / (GEV[unit] * np.exp(theta[:, 0]))

    return {
        "energy_ratio": JointObservable(
            energy_ratio,
            latex=r"E_\mathrm{tot}/E_\mathrm{inc}",
            title="part of the energy that is found",
            bins=ratio_bins,
        )
    }


def longitudinal(
    energies: Callable[[Array], Array], depth: Array, unit: str, depth_unit: str
) -> dict[str, Observable]:
    """Observables of the layer energies that a function makes of x."""

    def mean_depth(x: Array) -> Array:
        e = energies(x)
        return ratio(e @ depth, e.sum(1))

    def width(x: Array) -> Array:
        e = energies(x)
        mean, square = ratio(e @ depth, e.sum(1)), ratio(e @ depth**2, e.sum(1))
        return np.sqrt((square - mean**2).clip(0))

    return {
        "total_energy": Observable(
            lambda x: energies(x).sum(1), unit, r"E_\mathrm{tot}", "total energy"
        ),
        "layer_energies": Observable(energies, unit, "E_l", "energy of a layer"),
        "depth_of_maximum": Observable(
            lambda x: depth[energies(x).argmax(1)],
            depth_unit,
            r"t_\mathrm{max}",
            "depth of the layer of most energy",
        ),
        "mean_depth": Observable(
            mean_depth, depth_unit, r"\langle t\rangle", "mean depth of the energy"
        ),
        "longitudinal_width": Observable(width, depth_unit, r"\sigma_t", "longitudinal width"),
    }


def ratio(a: Array, b: Array) -> Array:
    """a/b of equal shapes (…), 0 where b is 0."""
    some = b > 0
    return np.where(some, a / np.where(some, b, 1), 0)

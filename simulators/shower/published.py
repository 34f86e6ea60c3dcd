"""The bins of the CaloChallenge's own histograms (Krause et al. 2024, arXiv:2410.21611).

As in its public code: E_tot/E_inc in 100 bins on [0.5, 1.5]; the energy of a layer in 39 bins of
equal ratio from the readout threshold up to the largest of the reference, that of a cell in 49;
centres of energy and widths in 100 bins on ranges in mm. What lies outside is not counted.
Dataset 1, with radii of metres and layers unlike one another, has a threshold of 10 MeV and wider
ranges than 2 and 3.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from simulators.base import Array, Bins
from simulators.shower.geometry import Geometry

__all__ = [
    "THRESHOLD",
    "cell_energy_bins",
    "centre_bins",
    "energy_bins",
    "ratio_bins",
    "width_bins",
]

THRESHOLD = 0.5e-6 / 0.033
"""GeV; of the readout of datasets 2 and 3: 0.5 keV in silicon, which has 0.033 of all energy."""
SMALL = 100.0
"""mm; the radius of datasets 2 and 3 is less."""
DEEP = (12, 13)
"""Layers of dataset 1 with ranges of their own."""


def is_small(geometry: Geometry, mm: float) -> bool:
    """Whether a calorimeter is like that of datasets 2 and 3; `mm` is its unit of radius."""
    return mm * max(layer.edges[-1] for layer in geometry.present) < SMALL


def ratio_bins(values: Array) -> list[Array]:
    """Of E_tot/E_inc (n,)."""
    return [np.linspace(0.5, 1.5, 101)]


def energy_bins(geometry: Geometry, mm: float, mev: float) -> Bins:
    """Of layer energies.

    Args:
        geometry: the cells.
        mm: unit of its radii, mm.
        mev: unit of the energies, MeV.
    """
    return partial(rising, least_energy(geometry, mm, mev), 40)


def cell_energy_bins(geometry: Geometry, mm: float, mev: float) -> Bins:
    """Of the energies of cells; arguments as those of `energy_bins`."""
    return partial(rising, least_energy(geometry, mm, mev), 50)


def least_energy(geometry: Geometry, mm: float, mev: float) -> float:
    """Where bins of energies begin, in the unit `mev`."""
    return (1000 * THRESHOLD if is_small(geometry, mm) else 10.0) / mev


def rising(least: float, edges: int, values: Array) -> list[Array]:
    """Edges of equal ratios up to the largest of each of the values (n,) or (n, k)."""
    most = np.atleast_1d(np.maximum(values.max(0), 2 * least))
    return [np.geomspace(least, m, edges) for m in most]


def centre_bins(geometry: Geometry, mm: float) -> Bins:
    """Of centres of energy; `mm` is the unit of radius."""
    far = ranges(geometry, mm, 30.0, 100.0, 500.0)
    return lambda values: [np.linspace(-r, r, 101) for r in far]


def width_bins(geometry: Geometry, mm: float) -> Bins:
    """Of widths; `mm` is the unit of radius."""
    far = ranges(geometry, mm, 30.0, 100.0, 400.0)
    return lambda values: [np.linspace(0, r, 101) for r in far]


def ranges(geometry: Geometry, mm: float, small: float, large: float, deep: float) -> list[float]:
    """The end of each layer's range in the geometry's unit, of three in mm."""
    if is_small(geometry, mm):
        return [small / mm] * len(geometry.present)
    return [(deep if layer.id in DEEP else large) / mm for layer in geometry.present]

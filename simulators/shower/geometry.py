"""A calorimeter's cells: layers one behind the other, each cut into rings and azimuths.

Cells are numbered layer by layer, in a layer azimuth by azimuth, and in an azimuth ring by ring:
the order (layer, α, r), r fastest, of the CaloChallenge (Krause et al. 2024, arXiv:2410.21611).
Layers may differ (*ragged*): in their rings, in their azimuths, and in having none at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from simulators.base import Array

__all__ = ["Geometry", "Layer"]


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        id: its number in the detector.
        edges: radii of the rings, increasing from 0; fewer than two where the layer is absent.
        azimuths: number of equal azimuths on [−π, π].
    """

    id: int
    edges: tuple[float, ...]
    azimuths: int

    def __post_init__(self) -> None:
        """Refuse rings that do not grow from the axis outwards."""
        if self.edges[:1] != (0.0,) or not np.all(np.diff(self.edges) > 0):
            raise ValueError(f"layer {self.id}: expected radii that grow from 0, got {self.edges}")
        if self.azimuths < 1:
            raise ValueError(f"layer {self.id}: expected at least 1 azimuth, got {self.azimuths}")

    @property
    def rings(self) -> int:
        """Number of rings."""
        return len(self.edges) - 1

    @property
    def cells(self) -> int:
        """Number of cells."""
        return self.rings * self.azimuths


@dataclass(frozen=True)
class Geometry:
    """The layers of a calorimeter, those without cells included.

    Attributes:
        layers: in the order of depth.
        unit: unit of the radii.
    """

    layers: tuple[Layer, ...]
    unit: str = "mm"

    @classmethod
    def cylinder(
        cls, layers: int, azimuths: int, rings: int, width: float, unit: str = "R_M"
    ) -> Geometry:
        """Equal layers of equal rings.

        Args:
            layers: number of layers.
            azimuths: number of azimuths.
            rings: number of rings.
            width: width of a ring, in `unit`.
            unit: unit of the radii.
        """
        edges = tuple(round(width * i, 9) for i in range(rings + 1))
        return cls(tuple(Layer(i, edges, azimuths) for i in range(layers)), unit)

    @property
    def present(self) -> tuple[Layer, ...]:
        """The layers that have cells."""
        return tuple(layer for layer in self.layers if layer.cells)

    @property
    def cells(self) -> int:
        """Number of cells in all."""
        return sum(layer.cells for layer in self.layers)

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one shower: (layers, azimuths, rings) where all layers are alike, else (n,)."""
        present = self.present
        alike = {(layer.azimuths, layer.rings) for layer in present}
        return (len(present), *next(iter(alike))) if len(alike) == 1 else (self.cells,)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The cells of each present layer within a flat shower."""
        ends = np.cumsum([0] + [layer.cells for layer in self.present]).tolist()
        return tuple(slice(a, b) for a, b in pairwise(ends))

    @cached_property
    def centres(self) -> tuple[Array, Array]:
        """Radius, in `unit`, and azimuth, in radians, of each cell's centre, (cells,) each."""
        radius, azimuth = [], []
        for layer in self.present:
            middle = (np.array(layer.edges[1:]) + layer.edges[:-1]) / 2
            angle = -np.pi + 2 * np.pi * (np.arange(layer.azimuths) + 0.5) / layer.azimuths
            a, r = np.meshgrid(angle, middle, indexing="ij")
            radius.append(r.ravel())
            azimuth.append(a.ravel())
        return np.concatenate(radius), np.concatenate(azimuth)

    def layer_energies(self, x: Array) -> Array:
        """Energy of each present layer, (n, *x_shape) → (n, layers), in the unit of x."""
        flat = np.asarray(x).reshape(len(x), -1)
        return np.stack([flat[:, s].sum(1, dtype=float) for s in self.slices], axis=1)

    def to_json(self) -> dict[str, Any]:
        """The geometry as JSON data."""
        layers = [[layer.id, list(layer.edges), layer.azimuths] for layer in self.layers]
        return {"layers": layers, "unit": self.unit}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Geometry:
        """The geometry that `to_json` wrote.

        Raises:
            ValueError: data that are no geometry.
        """

        def layer(entry: Sequence[Any]) -> Layer:
            number, edges, azimuths = entry
            return Layer(int(number), tuple(float(r) for r in edges), int(azimuths))

        try:
            return cls(tuple(layer(entry) for entry in data["layers"]), str(data["unit"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"geometry: expected layers and a unit, got {error!r}") from error

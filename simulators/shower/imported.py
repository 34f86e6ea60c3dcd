"""Showers of a file from elsewhere, which no simulator here can draw: what is measured of them.

Their law describes the calorimeter's cells and names the unit of x; from these come the same
observables as those of the showers that are drawn here, and the cells of each layer. θ is ln E of
the incident particle, E in GeV.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from simulators.base import Bins, JointObservable, Observable
from simulators.shower import observables
from simulators.shower.geometry import Geometry
from simulators.shower.published import cell_energy_bins

__all__ = ["ImportedShowers"]


@dataclass(frozen=True)
class ImportedShowers:
    """What an imported law declares of its x, as a simulator does.

    Attributes:
        options: of the law: ``binning``, the cells as :meth:`.Geometry.to_json` wrote them, and
            ``unit``, MeV or GeV; MeV where it is not said.

    Raises:
        ValueError: options without cells.
    """

    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Refuse options that describe no cells."""
        try:
            _ = self.geometry
        except (KeyError, ValueError) as error:
            raise ValueError(f"without its cells: {error!r}") from error

    @cached_property
    def geometry(self) -> Geometry:
        """The cells."""
        return Geometry.from_json(self.options["binning"])

    @property
    def unit(self) -> str:
        """Unit of x."""
        return str(self.options.get("unit", "MeV"))

    @property
    def observables(self) -> dict[str, Observable]:
        """Energies, widths, sparsity, occupancy and centres of energy."""
        return observables.of_cells(self.geometry, self.unit)

    @property
    def cell_bins(self) -> Bins:
        """Those of the CaloChallenge, of energies of cells."""
        return cell_energy_bins(self.geometry, 1.0, 1000.0 / observables.GEV[self.unit])

    @property
    def joint(self) -> dict[str, JointObservable]:
        """The part of the energy that is found."""
        return observables.of_energies(self.geometry.layer_energies, self.unit)

    @property
    def parts(self) -> tuple[slice, ...]:
        """The cells of each layer in a flat shower."""
        return self.geometry.slices

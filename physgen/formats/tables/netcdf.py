"""netCDF: version 3 by SciPy; version 4 is HDF5 and read as such."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np
from scipy.io import netcdf_file

from physgen.errors import DataError
from physgen.formats.tables.base import Table, json_text
from physgen.formats.tables.packing import CF, Packing
from simulators.base import Array

__all__ = ["NetCDF3Table"]

ABOUT = "physgen"


class NetCDF3Table(Table):
    """The variables of a netCDF file of version 3."""

    def examine(self) -> None:
        """Look at the file."""
        self.file = mapped(self.resources.enter_context(self.path.open("rb")))
        self.resources.callback(self.release)
        self.packing: dict[str, Packing] = {}
        self.about = json_text(getattr(self.file, ABOUT, None))
        for name, variable in self.file.variables.items():
            self.look(name, variable)

    def look(self, name: str, variable: Any) -> None:
        """Note a variable, and how its values are meant."""
        attributes: Mapping[str, Any] = variable._attributes
        stored = np.dtype(variable.data.dtype)
        known = {k: np.asarray(attributes[k]) for k in CF if k in attributes}
        if "_Unsigned" in attributes or any(v.dtype.kind not in "iuf" for v in known.values()):
            self.add(name, stored, (), "its attributes say that its numbers are no plain ones")
            return
        packing = self.packing[name] = Packing.of(stored, known, netcdf=True)
        kind = stored if stored.kind not in "iuf" else packing.dtype
        self.add(name, kind, variable.shape)

    def load(self, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
        """Rows of some variables, (n, …)."""
        found = {}
        for name in names:
            variable = self.file.variables[name]
            values = np.array(variable.data[start:stop] if variable.shape else variable.data)
            values = values.astype(values.dtype.newbyteorder("="))
            found[name] = self.packing[name].unpacked(values)
        return found

    def release(self) -> None:
        """Let go of the map of the file."""
        for variable in self.file.variables.values():
            variable.data = np.empty(0)  # or the map of the file stays
        self.file.close()


def mapped(file: IO[bytes]) -> netcdf_file:
    """A file that is not read but mapped.

    Raises:
        DataError: SciPy cannot read it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the map, when SciPy gives up
        try:
            return netcdf_file(file, mmap=True, maskandscale=False)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
    raise DataError(f"damaged: {reason}")

"""netCDF: version 3 by SciPy; version 4 is HDF5 and read as such."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from scipy.io import netcdf_file

from physgen.dataset import refuse_overwriting
from physgen.dataset.image import chunked, whole
from physgen.errors import DataError
from physgen.formats import Progress
from physgen.formats.tables.base import ArrayInfo, Table, json_text
from physgen.formats.tables.exportable import Exportable
from physgen.formats.tables.hdf5 import PART_BYTES, part_name
from physgen.formats.tables.packing import CF, Packing
from simulators.base import Array

__all__ = ["NetCDF3Table", "write"]

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


def write(
    data: Any,
    out: Path,
    *,
    force: bool = False,
    progress: Progress = lambda done: None,
) -> int:
    """Write a dataset or the draws of a posterior as netCDF-4, which is HDF5.

    theta has the dimensions (row, parameter), x (row, x_0, …); the names of the parameters are the
    coordinate ``parameter``, and the law is the attribute ``physgen``, as JSON.

    All else is as :mod:`physgen.formats.tables` says.
    """
    refuse_overwriting(out, force)
    source = Exportable.of(data)
    with whole(out, sidecar=False) as (file, output):
        scales = dimensions(file, source)
        made = {}
        for name, info in source.arrays.items():
            chunk, packed = chunk_of(source, info), name in source.packed
            made[name] = chunked(file, name, info.shape, info.dtype, chunk, packed)
            for axis, scale in zip(made[name].dims, dimensions_of(name, info), strict=True):
                axis.attach_scale(scales[scale])
        if "theta" in made:
            made["theta"].attrs["units"] = ", ".join(source.units)
        text = source.text.encode()
        for begin in range(0, len(text), PART_BYTES):
            file.attrs[part_name(begin)] = np.bytes_(text[begin : begin + PART_BYTES])
        done = 0
        for block in source.blocks(progress):
            for name, values in block.items():
                made[name][done : done + len(values)] = values
            output.check()
            done += len(next(iter(block.values())))
    return source.rows


def chunk_of(source: Exportable, info: ArrayInfo) -> int:
    """Rows of an array in a chunk: about a megabyte, and a whole number of them in a block."""
    rows = 2 ** int(math.log2(max(1, 2**20 // info.row_bytes)))
    return min(rows, source.block_rows, source.rows)


def dimensions_of(name: str, info: ArrayInfo) -> list[str]:
    """Names of an array's dimensions."""
    plain = name.replace("/", "_")
    inner = (
        ["parameter"] if name == "theta" else [f"{plain}_{k}" for k in range(len(info.shape) - 1)]
    )
    return ["row", *inner]


def dimensions(file: h5py.File, source: Exportable) -> dict[str, h5py.Dataset]:
    """The dimensions of a file, which hold no numbers but the names of the parameters."""
    found: dict[str, h5py.Dataset] = {}
    for array, info in source.arrays.items():
        for name, size in zip(dimensions_of(array, info), info.shape, strict=True):
            if name in found:
                continue
            if name == "parameter":
                kind, values = h5py.string_dtype(), list(source.names)
                scale = file.create_dataset(name, data=values, dtype=kind, track_times=False)
                scale.make_scale(name)
            else:
                scale = file.create_dataset(name, (size,), ">f4", track_times=False)
                scale.make_scale(f"This is a netCDF dimension but not a netCDF variable.{size:10}")
            scale.attrs["_Netcdf4Dimid"] = np.int32(len(found))
            found[name] = scale
    return found

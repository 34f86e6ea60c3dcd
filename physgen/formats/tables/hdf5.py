"""Arrays of any HDF5 file by their paths, and netCDF-4, which is HDF5.

Each array is looked at by :mod:`physgen.dataset.guard`: links, external storage, virtual datasets
and sizes that do not follow from the stored bytes are refused. Records (compound types, as
PyTables writes them) are read field by field, as ``array/field``. Packed and missing values of
netCDF-4 come as they are meant (:mod:`physgen.formats.tables.packing`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from physgen.dataset import guard
from physgen.errors import DataError
from physgen.formats.bands import Bands
from physgen.formats.tables.base import (
    BAND_BYTES,
    MAX_ARRAYS,
    Table,
    column,
    columns_of,
    json_text,
    not_real,
)
from physgen.formats.tables.packing import CF, Packing
from simulators.base import Array

__all__ = ["HDF5Table"]

ABOUT, PART_BYTES = "physgen", 2**15
MAX_DEPTH = 32


class HDF5Table(Table):
    """The arrays of an HDF5 file by their paths."""

    def examine(self) -> None:
        """Look at the file."""
        self.bands: dict[str, Bands] = {}
        self.fields: dict[str, tuple[str, str]] = {}
        self.packing: dict[str, Packing] = {}
        with guard.opened(self.path, checked=True) as file:
            self.netcdf = "_NCProperties" in file.attrs
            self.about = said(file)
            self.walk(file, "", set())

    def walk(self, group: h5py.Group, where: str, seen: set[Any]) -> None:
        """Note all arrays under a group, with their paths; no group has two of them.

        Names are in the order in which they were made, where the file keeps it. Else HDF5 has
        them sorted as text; here x_2 comes before x_10, as it does in files of other kinds.
        """
        if group.id in seen or where.count("/") > MAX_DEPTH or len(seen) > MAX_ARRAYS:
            raise DataError(f"{self.path}: /{where}: groups within groups without end")
        seen.add(group.id)
        names = list(group)
        for name in sorted(names, key=by_numbers) if names == sorted(names) else names:
            path = f"{where}/{name}".lstrip("/")
            try:
                found = guard.member(group, name)
            except DataError as error:
                self.add(path, np.dtype(object), (), str(error).removeprefix(f"{self.path}: "))
                continue
            if isinstance(found, h5py.Group):
                self.walk(found, path, seen)
            else:
                self.look(found, path)

    def look(self, data: Any, path: str) -> None:
        """Note an array, guarded, or its fields."""
        if reason := guard.objection(data, readable):
            self.add(path, np.dtype(object), (), reason)
            return
        try:
            packing = Packing.of(data.dtype, numbers(data), self.netcdf)
        except ValueError as error:
            self.add(path, np.dtype(object), (), str(error))
            return
        self.packing[path] = packing
        for field, kind in columns_of(data.dtype).items() or [("", packing.dtype)]:
            name = f"{path}/{field}" if field else path
            self.add(name, kind.base, (*data.shape, *kind.shape))
            self.fields[name] = path, field
        if data.shape:
            row = max(1, data.dtype.itemsize * int(np.prod(data.shape[1:])))
            self.bands[path] = Bands(
                partial(rows_of, self.path, path), len(data), depth(data, row)
            )

    def load(self, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
        """Rows of some arrays (n, …)."""
        found = {name: self.fields[name] for name in names}
        values = {path: self.rows(path, start, stop) for path, _ in found.values()}
        return {name: column(values[path], field) for name, (path, field) in found.items()}

    def rows(self, path: str, start: int, stop: int) -> Array:
        """Some rows of an array, (n, …); a scalar as it is."""
        if path in self.bands:
            return self.packing[path].unpacked(self.bands[path][start:stop][0])
        with guard.opened(self.path, checked=True) as file:
            return self.packing[path].unpacked(np.asarray(file[path][()]))


def by_numbers(name: str) -> list[tuple[int, str]]:
    """What sorts names as text, and the numbers in them as numbers."""
    parts = re.split(r"(\d+)", name)
    return [(len(part.lstrip("0")) if i % 2 else 0, part) for i, part in enumerate(parts)]


def readable(dtype: np.dtype[Any]) -> bool:
    """Whether a type is one of real numbers, or of records of such."""
    kinds = columns_of(dtype).values() if dtype.names else [dtype]
    return all(not not_real(kind.base) for kind in kinds)


def rows_of(path: Path, name: str, start: int, stop: int) -> tuple[Array]:
    """Some rows of one array of a file, (n, …), which has been looked at."""
    with guard.opened(path, checked=True) as file:
        return (file[name][start:stop],)


def numbers(data: h5py.Dataset) -> dict[str, Array]:
    """The attributes of an array (k,) that say how its values are meant.

    Raises:
        ValueError: they are not numbers.
    """
    found = {}
    for name in CF:
        if name in data.attrs:
            about = h5py.h5a.open(data.id, name.encode())
            if about.dtype.kind not in "iuf" or about.get_storage_size() > 1024:
                raise ValueError(f"its attribute {name} is not of numbers")
            found[name] = np.ravel(data.attrs[name])
    if "_Unsigned" in data.attrs:
        raise ValueError("its attribute _Unsigned says that its numbers are no plain ones")
    return found


def said(file: h5py.File) -> dict[str, Any]:
    """What physgen wrote of a file: that of a dataset, or an attribute."""
    if "schema" in file.attrs:
        try:
            return guard.metadata(file)[1]
        except (DataError, ValueError):
            return {}
    text = b""
    while (name := part_name(len(text))) in file.attrs:
        about = h5py.h5a.open(file.id, name.encode())
        if about.dtype.kind != "S" or about.shape != ():  # of variable length it may hang HDF5
            return {}
        text += bytes(file.attrs[name])
        if about.dtype.itemsize != PART_BYTES or len(text) > guard.MAX_JSON:
            break
    return json_text(text)


def part_name(begin: int) -> str:
    """The attribute with a part of the JSON, which may be too long for one of HDF5."""
    return f"{ABOUT}_{begin // PART_BYTES}" if begin else ABOUT


def depth(data: h5py.Dataset, row: int) -> int:
    """Rows that are read in one go: whole chunks, as many as are some megabytes."""
    most = max(1, BAND_BYTES // row)
    chunk = data.chunks[0] if data.chunks else 1
    return max(chunk, most // chunk * chunk)

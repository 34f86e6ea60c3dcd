"""Files of named arrays, whoever made them: NumPy, HDF5, text, parquet, netCDF, ROOT.

`open_table` looks at a file and says which arrays of numbers it has; its rows are read as they are
asked for, so a file may be larger than the memory. A file is hostile until it is read: what would
run code, follow a link, read another file or grow beyond what is stored is refused in one line. A
module a format; those that physgen writes offer ``write(data, out, *, force, progress)``: of a
dataset or a posterior, in memory or a file, which returns the number of rows, and raises
`UsageError` for an output that exists, for what has no rows and for two columns of one name.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import h5py

from physgen.dataset.content import OTHER, content_of
from physgen.dataset.files import check_seal
from physgen.dataset.guard import what_is
from physgen.errors import DataError, as_written
from physgen.formats.tables.base import ArrayInfo, Table

__all__ = ["ArrayInfo", "Table", "kind_of_table", "open_table"]

READERS = {
    "npy": "numpy_file:NpyTable",
    "npz": "npz:NpzTable",
    "HDF5": "hdf5:HDF5Table",
    "parquet": "parquet:ParquetTable",
    "netCDF": "netcdf:NetCDF3Table",
    "ROOT": "root:RootTable",
    "text": "text:TextTable",
}
"""Kind of file → where its reader is."""


def open_table(path: str | Path) -> Table:
    """A file of named arrays, looked at and not yet read.

    Args:
        path: the file; what it is follows from its content.

    Raises:
        DataError: a file that is damaged, hostile, or of no kind that is read here.
        StorageError: the file cannot be opened.
        UsageError: a package that is needed is not installed.
    """
    path = Path(path)
    check_seal(path)
    kind = kind_of_table(path)
    if kind == "npz" and (found := what_is(path)).startswith("a checkpoint"):
        raise DataError(f"{path}: expected data, got {found}")
    module, _, name = READERS[kind].partition(":")
    reader = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    with as_written(path, f"cannot be read as {kind}"):
        return reader(path)


def kind_of_table(path: Path) -> str:
    """The kind of a file, by its content.

    Raises:
        DataError: none that is read here.
    """
    if h5py.is_hdf5(path):  # which may begin with bytes of its user's
        return "HDF5"
    kind, words = content_of(path)
    if kind:
        return kind
    if words == OTHER:
        raise DataError(f"{path}: expected {', '.join(READERS)}, got {words}")
    raise DataError(f"{path}: is {words}")

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

from physgen.dataset.files import check_seal, storage
from physgen.dataset.guard import what_is
from physgen.errors import DataError, as_written
from physgen.formats.tables.base import ArrayInfo, Table

__all__ = ["ArrayInfo", "Table", "open_table"]

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

MAGIC = {
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "npz",
    b"PK\x05\x06": "npz",
    b"PAR1": "parquet",
    b"CDF\x01": "netCDF",
    b"CDF\x02": "netCDF",
    b"root": "ROOT",
    b"\x1f\x8b": "text",
}
"""First bytes → kind of file."""

FOREIGN = {
    b"\x80\x02": "a pickle, which can run code; save the arrays with numpy.savez",
    b"\x80\x03": "a pickle, which can run code; save the arrays with numpy.savez",
    b"\x80\x04": "a pickle, which can run code; save the arrays with numpy.savez",
    b"\x80\x05": "a pickle, which can run code; save the arrays with numpy.savez",
    b"MATLAB 5.0": "a MATLAB file of version 7 or less; save it with -v7.3, or as text",
    b"CDF\x05": "netCDF of the kind CDF-5; save it as netCDF-4, as by nccopy -k 4",
    b"ARROW1": "an Arrow or Feather file; save it as parquet",
    b"SIMPLE  =": "a FITS file; save its table as text or npz",
    b"BZh": "compressed by bzip2; use gzip",
    b"\xfd7zXZ": "compressed by xz; use gzip",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; use gzip",
    b"{": "JSON; save its numbers as CSV or npz",
    b"<": "HTML or XML; save its numbers as CSV or npz",
    b"%PDF": "a PDF file; save its numbers as CSV or npz",
    b"\xd0\xcf\x11\xe0": "an Excel file; save it as CSV",
}
"""First bytes → what a file is that is not read here, and how to mend it."""


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
    kind = content_of(path)
    if kind == "npz" and (found := what_is(path)).startswith("a checkpoint"):
        raise DataError(f"{path}: expected data, got {found}")
    module, _, name = READERS[kind].partition(":")
    reader = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    with as_written(path, f"cannot be read as {kind}"):
        return reader(path)


def content_of(path: Path) -> str:
    """The kind of a file, by its content.

    Raises:
        DataError: none that is read here.
    """
    with storage(path), path.open("rb") as file:
        head = file.read(2**12)
    if not head:
        raise DataError(f"{path}: is empty; expected arrays")
    for magic, what in FOREIGN.items():
        if head.startswith(magic):
            raise DataError(f"{path}: is {what}")
    if h5py.is_hdf5(path):
        return "HDF5"
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    if b"\0" not in head:
        return "text"
    raise DataError(f"{path}: expected {', '.join(READERS)}, got a file of another kind")

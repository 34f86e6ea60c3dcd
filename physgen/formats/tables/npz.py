"""Several arrays in one zip file, as ``numpy.savez`` and ``numpy.savez_compressed`` write them.

Members are read forward, rows as they are asked for, so their checksums are compared at their
end; one whose first axis runs fastest is copied to a temporary file first. A member that says it
has more bytes than its stored ones can hold is refused before it is read, and so is a pickle.
"""

from __future__ import annotations

import io
import math
import shutil
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from physgen.dataset.files import whole_file
from physgen.dataset.guard import MAX_JSON, MAX_RATIO
from physgen.errors import DataError
from physgen.formats import Progress
from physgen.formats.tables.base import ArrayInfo, Table, column, json_text
from physgen.formats.tables.exportable import Exportable
from physgen.formats.tables.numpy_file import Header
from simulators.base import Array

__all__ = ["NpzTable", "write"]

ABOUT = "meta"  # the member with the JSON


class NpzTable(Table):
    """The arrays of a zip file by their members' names."""

    def examine(self) -> None:
        """Look at the file."""
        self.zip = self.resources.enter_context(zipfile.ZipFile(self.path))
        self.headers: dict[str, Header] = {}
        self.open: dict[str, IO[bytes]] = {}
        self.records: dict[str, tuple[str, str]] = {}
        members = self.zip.infolist()
        if sum(m.compress_size for m in members) > self.path.stat().st_size:
            raise DataError(f"{self.path}: members overlap: hostile or damaged; make it again")
        for member in members:
            if member.filename.endswith(".npy"):
                self.look(member)
        if not self.headers:
            found = ", ".join(m.filename for m in members[:3]) or "nothing"
            raise DataError(f"{self.path}: expected arrays of numpy.savez, got {found} in a zip")

    def look(self, member: zipfile.ZipInfo) -> None:
        """Note a member, guarded."""
        name = member.filename.removesuffix(".npy")
        deflated = member.compress_type == zipfile.ZIP_DEFLATED
        if member.flag_bits & 1 or not (deflated or member.compress_type == zipfile.ZIP_STORED):
            raise DataError(f"{self.path}: {name}: encrypted, or not compressed by deflate")
        if member.file_size > member.compress_size * (MAX_RATIO if deflated else 1):
            raise DataError(
                f"{self.path}: {name}: declares {member.file_size} bytes and holds "
                f"{member.compress_size}"
            )
        with self.zip.open(member) as file:
            header = Header(file)
        if name in self.headers:
            raise DataError(f"{self.path}: two arrays are called {name!r}; rename one")
        self.headers[name] = header
        if name == ABOUT and self.say(header):
            return
        before = set(self.arrays)
        header.add_to(self, name, member.file_size)
        for new in self.arrays.keys() - before:
            self.records[new] = name, new[len(name) + 1 :]

    def say(self, header: Header) -> bool:
        """Whether a member is the JSON that physgen writes, which is kept."""
        if header.dtype != np.uint8 or header.total - header.size > MAX_JSON:
            return False
        values = self.rows(ABOUT, 0, header.shape[0] if header.shape else 0)
        self.about = json_text(values.tobytes())
        return bool(self.about)

    def load(self, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
        """Rows of some arrays (n, …); those of one member are read once."""
        members = {self.records[name][0] for name in names}
        values = {member: self.rows(member, start, stop) for member in members}
        found = [self.records[name] for name in names]
        return {
            name: column(values[member], field)
            for name, (member, field) in zip(names, found, strict=True)
        }

    def rows(self, name: str, start: int, stop: int) -> Array:
        """Some rows of a member, (n, …)."""
        header = self.headers[name]
        if name not in self.open:
            self.open[name] = self.resources.enter_context(self.begun(name, header))
        if header.fortran:
            return header.rows(self.open[name], 0, start, stop)
        row = math.prod(header.shape[1:]) * header.dtype.itemsize
        go_to(self.open[name], header.size + (start * row if header.shape else 0))
        values = header.rows(self.open[name], header.size, start, stop)
        if not header.shape or stop >= header.shape[0]:
            self.open[name].read(1)  # at the end the checksum is compared
        return values

    def begun(self, name: str, header: Header) -> IO[bytes]:
        """A member, open; one in Fortran's order is copied, since its rows lie far apart."""
        file = self.zip.open(f"{name}.npy")
        if not header.fortran:
            return file
        file.read(header.size)
        copy = TemporaryFile(buffering=0)  # noqa: SIM115
        with file:
            shutil.copyfileobj(file, copy, 2**20)
        return copy


def go_to(file: IO[bytes], place: int) -> None:
    """Move a member to a place by reading: from Python 3.12 on a seek drops the checksum."""
    if place < file.tell():
        file.seek(0)
    while file.tell() < place and file.read(min(2**20, place - file.tell())):
        pass


def write(
    data: Any,
    out: Path,
    *,
    force: bool = False,
    progress: Progress = lambda done: None,
) -> int:
    """Write a dataset or the draws of a posterior as npz: theta (N, D), x (N, …), meta.

    ``meta`` is JSON text as bytes: ``json.loads(bytes(file["meta"]))``.

    All else is as :mod:`physgen.formats.tables` says.
    """
    source = Exportable.of(data)
    large = max(source.arrays, key=lambda name: source.arrays[name].row_bytes)
    small = [name for name in source.arrays if name != large]
    with (
        whole_file(out, force) as file,
        zipfile.ZipFile(file, "w") as packed,
        ExitStack() as stack,
    ):
        with new_member(packed, ABOUT) as made:
            text = np.frombuffer(source.text.encode(), np.uint8)
            made.write(head(ArrayInfo(text.dtype, text.shape)) + text.tobytes())
        kept = {name: stack.enter_context(TemporaryFile(dir=out.parent)) for name in small}
        with new_member(packed, large) as made:
            made.write(head(source.arrays[large]))
            for block in source.blocks(progress):
                for name, values in block.items():
                    kept.get(name, made).write(np.ascontiguousarray(values).data)
        for name, copy in kept.items():
            copy.seek(0)
            with new_member(packed, name) as made:
                made.write(head(source.arrays[name]))
                shutil.copyfileobj(copy, made, 2**20)
    return source.rows


def new_member(packed: zipfile.ZipFile, name: str) -> IO[bytes]:
    """A new member of a zip file, of no date, so that the same content gives the same bytes."""
    info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
    return packed.open(info, "w", force_zip64=True)


def head(info: ArrayInfo) -> bytes:
    """What an array in a file begins with."""
    text = io.BytesIO()
    said = {"descr": info.dtype.str, "fortran_order": False, "shape": info.shape}
    npy.write_array_header_1_0(text, said)
    return text.getvalue()

"""Several arrays in one zip file, as ``numpy.savez`` and ``numpy.savez_compressed`` write them.

Members are read forward, rows as they are asked for, so their checksums are compared at their
end; one whose first axis runs fastest is copied to a temporary file first. A member that says it
has more bytes than its stored ones can hold is refused before it is read, and so is a pickle.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from tempfile import TemporaryFile
from typing import IO

import numpy as np

from physgen.dataset.guard import MAX_JSON, MAX_RATIO
from physgen.errors import DataError
from physgen.formats.tables.base import Table, column, json_text
from physgen.formats.tables.numpy_file import Header
from simulators.base import Array

__all__ = ["NpzTable"]

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

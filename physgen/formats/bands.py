"""Rows read in bands, so that what can only be read in pieces is read once.

HDF5 reads whole chunks, text and compressed members are read forward. So a file is cut into bands
of one depth; rows that are asked for are cut from the bands that they lie in, and the last band is
kept for the rows that come next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simulators.base import Array

__all__ = ["Bands", "stamp"]


@dataclass
class Bands:
    """Consecutive rows of several arrays, cut from bands: picklable if `load` is.

    Attributes:
        load: first row, row after the last → arrays of these rows, each (n, …).
        rows: number of rows.
        depth: rows of a band, which is loaded in one go.
        kept: the last band by its number.
    """

    load: Callable[[int, int], tuple[Array, ...]]
    rows: int
    depth: int
    kept: dict[int, tuple[Array, ...]] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """All but the last band."""
        return vars(self) | {"kept": {}}

    def __getitem__(self, rows: slice) -> tuple[Array, ...]:
        """The arrays (n, …) of some consecutive rows."""
        start, stop, _ = rows.indices(self.rows)
        parts = list(self.parts(start, max(start, stop))) or [self.load(start, start)]
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    def parts(self, start: int, stop: int) -> Iterator[tuple[Array, ...]]:
        """The arrays (n, …) of some consecutive rows, band by band."""
        first = start // self.depth
        for number in range(first, -(-stop // self.depth) if stop > start else first):
            begin = number * self.depth
            if number not in self.kept:
                self.kept.clear()
                band = self.load(begin, min(begin + self.depth, self.rows))
                self.kept[number] = band
            yield tuple(a[max(0, start - begin) : stop - begin] for a in self.kept[number])


class Stamp(NamedTuple):
    """What changes when a file does."""

    inode: int
    size: int
    modified: int


def stamp(path: Path) -> Stamp:
    """That of a file."""
    found = path.stat()
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns)

"""Some arrays of a table, or some columns of an array, side by side."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from physgen.errors import DataError, UsageError
from physgen.formats.tables.base import Table
from physgen.runtime.kinds import shortened
from simulators.base import Array

__all__ = ["Selection", "words_of"]


def words_of(text: str | None) -> list[str]:
    """Words between commas."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]


@dataclass(frozen=True)
class Selection:
    """Some arrays of a table side by side, or columns of one, as in ``s[0:4]``.

    Attributes:
        table: where they are.
        words: what was picked: names of arrays, with a range of columns where that is asked for.

    Raises:
        DataError: they have different numbers of rows, or none.
    """

    table: Table
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse arrays that have no rows in common."""
        rows = {name: self.table.arrays[name].shape[:1] for name, _ in self._parts}
        if len(set(rows.values())) != 1 or () in rows.values():
            told = shortened([f"{name} {n}" for name, n in rows.items()])
            raise DataError(f"{self.table.path}: expected arrays of as many rows, got {told}")

    @classmethod
    def of(cls, table: Table, wanted: str, option: str) -> Selection:
        """What is asked for, between commas: names, patterns as in ``p_*``, ``s[0:4]``.

        Args:
            table: where to look.
            wanted: the words.
            option: whose they are, for the message.

        Raises:
            DataError: arrays that are no numbers, or of different numbers of rows.
            UsageError: there is none of a name, or one twice.
        """
        found: list[str] = []
        for word in words_of(wanted):
            matching = [n for n in table.arrays if fnmatchcase(n, word)]
            if name_and_columns(word)[0] in table.arrays:
                matching = [word]
            elif word in table.refused:
                table.require(word)
            if not matching:
                raise UsageError(f"{table.path}: {option}: no {word!r}; it has {table.contents}")
            found += [n for n in matching if n not in found]
        return cls(table, tuple(found))

    @property
    def _parts(self) -> list[tuple[str, slice]]:
        exact = self.table.arrays
        return [(w, slice(None)) if w in exact else name_and_columns(w) for w in self.words]

    @property
    def names(self) -> list[str]:
        """The arrays that it takes something of."""
        return [name for name, _ in self._parts]

    @property
    def plain_names(self) -> list[str]:
        """A name for each column of what was picked, if each word is one column; else none.

        Groups that all have in common are left out.
        """
        if math.prod(self.shape) != len(self.words):
            return []
        last = [word.rpartition("/")[2] for word in self.words]
        words = last if len(set(last)) == len(last) else self.words
        return [re.sub(r"\W+", "_", word).strip("_") for word in words]

    @property
    def types(self) -> list[np.dtype[Any]]:
        """The type of each number of a row."""
        return [
            self.table.arrays[name].dtype
            for name, columns in self._parts
            for _ in range(math.prod(self._shape(name, columns)))
        ]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.table.arrays[self.names[0]].shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a row: as it lies in the one array, flat of several."""
        shapes = [self._shape(*part) for part in self._parts]
        return shapes[0] if len(shapes) == 1 else (sum(map(math.prod, shapes)),)

    def _shape(self, name: str, columns: slice) -> tuple[int, ...]:
        first, *more = self.table.arrays[name].shape[1:] or (1,)
        return (len(range(*columns.indices(first))), *more)

    def read(self, start: int = 0, stop: int | None = None) -> Array:
        """Some rows, (n, *shape)."""
        found = self.table.read(list(dict.fromkeys(self.names)), start, stop)
        parts = [
            found[name].reshape(len(found[name]), *self._shape(name, slice(None)))[:, columns]
            for name, columns in self._parts
        ]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def name_and_columns(word: str) -> tuple[str, slice]:
    """An array's name, and which of its columns, of ``name[0:4]``."""
    found = re.fullmatch(r"(.+)\[(\d*):(\d*)\]", word)
    if not found:
        return word, slice(None)
    return found[1], slice(*(int(n) if n else None for n in found.groups()[1:]))

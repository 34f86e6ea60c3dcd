"""Observations, of any kind of file and of any number of axes: one way in for all verbs.

A file of physgen's own says itself what it holds. Of any other file of named arrays
(:mod:`physgen.formats.tables`) x is, in this order: what ``FILE:name`` names, an array, columns
``FILE:a,b,c``, or parts, ``FILE:p_*`` and ``FILE:s[0:4]``; the array ``x``; the only array whose
shape is that of x; as many columns as x has components, in order. Columns that are called as those
of the training come first, in its order. One x may come without an axis
of rows, and x of several axes flat. θ is taken along where it is called so, or by its names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from physgen import dataset
from physgen.dataset import Dataset, Rows, as_array
from physgen.dataset.reader import interval
from physgen.dataset.schema import cast, faults
from physgen.errors import DataError, UsageError
from physgen.formats.tables import Table, open_table
from physgen.law import Law
from physgen.runtime.progress import log
from physgen.verbs.arguments import ObservedLike
from physgen.verbs.places import (
    Place,
    as_rows,
    layout,
    names_in_words,
    place_of_x,
    shape_of,
    together,
)
from simulators.base import Array

__all__ = ["ObservedTable", "file_and_name", "open_observed", "validated_rows", "with_valid_x"]


def open_observed(
    observed: ObservedLike, law: Law | None = None, learnt: Mapping[str, Any] | None = None
) -> Dataset:
    """Observations: a file, rows, or x (n, *x_shape), or one x (*x_shape), alone.

    Args:
        observed: what was given.
        law: what x is to follow, if that is known.
        learnt: the record of the data that were learnt from, which may name x's columns.

    Raises:
        DataError: no x of its shape.
        UsageError: a file in which several arrays could be x, or columns in another order.
    """
    called = (learnt or {}).get("columns", ())
    if isinstance(observed, str | Path):
        path, name = file_and_name(Path(observed))
        if name or not dataset.schema_of(path).startswith("physgen/"):
            return ObservedTable(path, name, law, called)
        observed = Dataset(path)
    data = Dataset(observed if isinstance(observed, Dataset | Rows) else Rows(as_array(observed)))
    data.require_columns(learnt)
    if law is None or data.path or data.meta:
        return data
    return Dataset(Rows(as_rows(data.rows.x, law, "observed"), data.rows.theta, data.rows.aux))


def with_valid_x(found: Rows, law: Law, where: str) -> Rows:
    """The rows whose x can follow a law, and tell how many others there were.

    Raises:
        DataError: there are none.
    """
    stored = cast(Rows(found.x), law, where)
    good = ~np.any([bad for _, bad in faults(stored, law)], axis=0)
    if not good.any():
        raise DataError(f"{where}: all {len(found)} rows are invalid")
    if not good.all():
        log.warning("%s: %d of %d rows are invalid, and left out", where, (~good).sum(), len(good))
    return found[good]


def validated_rows(
    found: Rows, data: Dataset, law: Law, rows: slice | None, drops: bool = True
) -> Rows:
    """Rows that were read of some data, in the types of a law that they must follow.

    Args:
        found: the rows.
        data: what they are of.
        law: what they are to follow.
        rows: which of the data they are.
        drops: whether those that do not may be left out, for the message.

    Raises:
        DataError: one that does not; the message names both simulators where they are two.
    """
    first, *_ = (rows or slice(None)).indices(len(data))
    try:
        return dataset.validated(found, law, data.name, first, mending(law, drops))
    except DataError as error:
        theirs = data.meta.law.simulator if data.meta else law.simulator
        if theirs == law.simulator:
            raise
        raise DataError(f"{error}; it is of {theirs}, and the model of {law.simulator}") from error


def mending(law: Law, drops: bool) -> str:
    """What to do about rows of observations that cannot be, for the end of a message.

    Args:
        law: what they are to follow.
        drops: whether such rows may be left out.
    """
    how = "; take others with --rows START:STOP"
    how += ", or leave such out with --drop-invalid" if drops else ""
    if law.missing or law.support not in ("reals", "nonnegative"):
        return how
    return f"{how}; where NaN is missing, train on a dataset whose law allows it"


def file_and_name(path: Path) -> tuple[Path, str]:
    """A file, and what is named in it, as in data.npz:counts; empty where nothing is."""
    if path.exists() or ":" not in str(path):
        return path, ""
    file, _, name = str(path).partition(":")
    while name and not Path(file).exists():
        more, _, name = name.partition(":")
        file = f"{file}:{more}"
    return (Path(file), name) if name else (path, "")


class ObservedTable(Dataset):
    """x, and θ where there is any, in a file of named arrays; read as it is asked for.

    Args:
        path: the file.
        array: the array that is x, or columns with commas between; found if empty.
        law: what x is to follow; None if that is not known.
        called: names that the columns of x had in the training, in its order, if any.
    """

    def __init__(
        self, path: Path, array: str = "", law: Law | None = None, called: Sequence[str] = ()
    ) -> None:
        self.path, self._summary = path, ""
        self._array, self._law, self._called = array, law, tuple(called)

    @property
    def columns(self) -> list[str]:
        """Names of the columns of x, where several were found."""
        return list(self._place.names) if len(self._place.names) > 1 else []

    @property
    def name(self) -> str:
        """It in messages: its path, and what was named in it."""
        return f"{self.path}:{self._array}" if self._array else str(self.path)

    @property
    def where(self) -> Path:
        """What it is called."""
        return Path(self.name)

    @property
    def meta(self) -> None:
        """A foreign file says nothing of itself."""
        return

    @property
    def failed(self) -> None:
        """No draws that failed are known."""
        return

    @property
    def digest(self) -> str:
        """SHA-256 of the file's bytes."""
        return dataset.file_digest(self._file)

    @property
    def in_memory(self) -> bool:
        """It is read as it is asked for."""
        return False

    @property
    def _file(self) -> Path:
        return Path(self.path or "")

    @cached_property
    def rows(self) -> Rows:
        """All rows, in memory."""
        return self.read()

    @cached_property
    def _place(self) -> Place:
        with open_table(self._file) as table:
            found = place_of_x(table, self._array, self._law, self.name, self._called)
        if not self._array and found.names != ("x",):
            log.info("%s: x is %s", self.name, names_in_words(found.names))
        return found

    def __len__(self) -> int:
        return self._place.rows

    def read(self, rows: slice | None = None, *, whole: bool = False) -> Rows:
        """Consecutive rows, in memory; as `Dataset.read`."""
        place = self._place
        start, stop = interval(rows, place.rows)
        if whole and rows and rows.stop and stop < rows.stop:
            raise UsageError(
                f"{self.name}: expected rows up to {rows.stop}, got {place.rows} of them"
            )
        with open_table(self._file) as table:
            x = self._x(table, place, start, stop)
            theta = together(table, place.theta, start, stop) if place.theta else None
            theta = theta if theta is None else theta.reshape(len(x), -1)
        return Rows(x, theta)

    def _x(self, table: Table, place: Place, start: int, stop: int) -> Array:
        if self._law is None:
            return together(table, place.names, start, stop)
        one = layout(shape_of(table, place.names), self._law.x_shape) == "one"
        x = together(table, place.names, *((0, None) if one else (start, stop)))
        return as_rows(x, self._law, self.name)

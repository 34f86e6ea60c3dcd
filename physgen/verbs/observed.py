"""Observations, of any kind of file and of any number of axes: one way in for all verbs.

A file of physgen's own says itself what it holds. Of any other file of named arrays
(:mod:`physgen.formats.tables`) x is, in this order: what ``FILE:name`` names, an array, columns
``FILE:a,b,c``, or parts, ``FILE:p_*`` and ``FILE:s[0:4]``; the array ``x``; the only array whose
shape is that of x; as many columns as x has components, in order. Columns that are called as those
of the training come first, in its order. One x may come without an axis
of rows, and x of several axes flat. θ is taken along where it is called so, or by its names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from physgen import dataset
from physgen.dataset import Dataset, Rows, as_array
from physgen.dataset.guard import attribute, opened
from physgen.dataset.reader import interval
from physgen.dataset.schema import cast, faults
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.runtime.progress import log
from physgen.verbs.arguments import ObservedLike

if TYPE_CHECKING:
    from physgen.formats.tables import Table
    from simulators.base import Array

__all__ = ["ObservedTable", "mending", "open_observed", "with_valid_x"]


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
        if name or not is_dataset(path):
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


def mending(law: Law, drops: bool = True) -> str:
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


def is_dataset(path: Path) -> bool:
    """Whether a file is one of physgen's own."""
    if dataset.container(path) != "HDF5":
        return False
    with opened(path, checked=True) as file:
        return str(attribute(file, "schema")).startswith("physgen/")


def layout(shape: tuple[int, ...], x_shape: tuple[int, ...]) -> str:
    """How an array of a shape holds x: as rows, as one, or not at all, the empty text."""
    plain = [tuple(n for n in s if n != 1) for s in (shape, x_shape)]
    size = math.prod(x_shape)
    if shape[1:] == x_shape:
        return "rows"
    if shape and math.prod(shape) == size and (plain[0] == plain[1] or plain[0] == (size,)):
        return "one"
    flat = len(shape) == 1 if size == 1 else len(shape) == 2 and shape[1] == size
    return "rows" if flat else ""


def as_rows(x: Array, law: Law, where: str) -> Array:
    """x of any layout as rows, (n, *x_shape); booleans of spins as ±1.

    Raises:
        DataError: another shape.
    """
    if not layout(x.shape, law.x_shape):
        raise DataError(f"{where}: x: {expected(law.x_shape)}, got {x.shape}")
    if x.dtype.kind == "b" and law.support == "spins":
        x = 2 * x.astype(np.int8) - 1
    n = len(x) if layout(x.shape, law.x_shape) == "rows" else 1
    return x.reshape(n, *law.x_shape)


def expected(x_shape: tuple[int, ...]) -> str:
    """The shapes that x may have, in words."""
    rows = ", ".join(["n", *map(str, x_shape)])
    return f"expected ({rows}) or one x {x_shape}"


@dataclass(frozen=True)
class Place:
    """Where x is in a file of named arrays.

    Attributes:
        names: an array, or columns.
        rows: how many x it has.
        theta: columns of θ, or the array of it; empty where there are none.
    """

    names: tuple[str, ...]
    rows: int
    theta: tuple[str, ...] = ()


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
        with self._table() as table:
            found = place_of_x(table, self._array, self._law, self.name, self._called)
        if not self._array and found.names != ("x",):
            log.info("%s: x is %s", self.name, names_in_words(found.names))
        return found

    def _table(self) -> Table:
        from physgen.formats.tables import open_table

        return open_table(self._file)

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
        with self._table() as table:
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


def shape_of(table: Table, names: tuple[str, ...]) -> tuple[int, ...]:
    """Shape of an array, or of several and of parts of them side by side."""
    from physgen.formats.tables.selection import Selection

    if len(names) == 1 and names[0] in table.arrays:
        return table.arrays[names[0]].shape
    picked = Selection(table, names)
    return (picked.rows, *picked.shape)


def together(table: Table, names: tuple[str, ...], start: int, stop: int | None) -> Array:
    """An array (n, …), or several and parts of them side by side, (n, k)."""
    from physgen.formats.tables.selection import Selection

    if len(names) == 1 and names[0] in table.arrays:
        return table.read(names, start, stop)[names[0]]
    return Selection(table, names).read(start, stop)


def place_of_x(
    table: Table, named: str, law: Law | None, where: str, called: Sequence[str] = ()
) -> Place:
    """Where x is in a file; the rules are those of this module.

    Raises:
        DataError: nothing there has its shape.
        UsageError: several arrays have it, or no such name.
    """
    from physgen.formats.tables.selection import Selection

    if named in table.arrays:
        names: tuple[str, ...] = (named,)
    elif named:
        names = Selection.of(table, named.lstrip("/"), "observed").words
    else:
        shapes = {n: info.shape for n, info in table.arrays.items()}
        every = called and all(len(shapes.get(name, ())) == 1 for name in called)
        names = tuple(called) if every else found_x(table, law, where)
    shape = shape_of(table, names)
    kind = layout(shape, law.x_shape) if law else "rows" if shape else ""
    if not kind:
        wanted = expected(law.x_shape) if law else "expected rows"
        raise DataError(f"{where}: {names_in_words(names)}: {wanted}, got {shape}")
    rows = shape[0] if kind == "rows" else 1
    if not rows:
        raise DataError(f"{where}: {names_in_words(names)}: expected at least one row, got none")
    return Place(names, rows, theta_beside(table, law, rows))


def found_x(table: Table, law: Law | None, where: str) -> tuple[str, ...]:
    """The array or the columns that are x where none is named."""
    from physgen.formats.tables.selection import contents_of

    arrays = table.arrays
    known = () if law is None else law.prior.names
    if "x" in arrays and (law is None or law.size == 1 or len(arrays["x"].shape) > 1):
        return ("x",)
    if law is not None:
        fit = [n for n, info in arrays.items() if n != "theta" and layout(info.shape, law.x_shape)]
        columns = [n for n, info in arrays.items() if len(info.shape) == 1 and n not in known]
        same = len({arrays[n].shape for n in columns}) == 1
        if same and len(columns) == law.size > 1 and not set(fit) - set(columns):
            return tuple(columns)
    else:
        columns, fit = [], [n for n in arrays if n != "theta"]
    if len(fit) == 1:
        return (fit[0],)
    if "x" in fit:
        return ("x",)
    refused = [f"{name}: {why}" for name, why in table.refused.items()]
    has = "; ".join([contents_of(table) or "no array of numbers", *refused[:3]])
    wanted = "expected one array" if law is None else expected(law.x_shape)
    if law is not None and len(law.x_shape) == 1:
        wanted += f", or {law.size} columns"
    if not fit:
        many = law is not None and len(columns) > law.size > 1
        how = f"; name {law.size} of them, as in {where}:A,B,…" if law and many else ""
        raise DataError(f"{where}: {wanted}, got {has}{how}")
    raise UsageError(f"{where}: several could be x: {has}; choose, as in {where}:{fit[0]}")


def theta_beside(table: Table, law: Law | None, rows: int) -> tuple[str, ...]:
    """Where θ of as many rows are; empty where they are not."""
    shapes = {name: info.shape for name, info in table.arrays.items()}
    names = () if law is None else law.prior.names
    if names and shapes.get("theta") == (rows, len(names)):
        return ("theta",)
    if names and all(shapes.get(name) == (rows,) for name in names):
        return names
    return ()


def names_in_words(names: Sequence[str]) -> str:
    """An array, or columns."""
    from physgen.formats.tables.selection import shortened

    return names[0] if len(names) == 1 else f"the columns {shortened(names)}"

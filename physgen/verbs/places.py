"""Where x is in a file of named arrays, and θ beside it, as :mod:`physgen.verbs.observed` says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from physgen.errors import DataError, UsageError
from physgen.formats.tables import Table
from physgen.formats.tables.selection import Selection
from physgen.law import Law
from physgen.runtime.kinds import shortened
from simulators.base import Array

__all__ = ["Place", "as_rows", "layout", "names_in_words", "place_of_x", "shape_of", "together"]


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


def shape_of(table: Table, names: tuple[str, ...]) -> tuple[int, ...]:
    """Shape of an array, or of several and of parts of them side by side."""
    if len(names) == 1 and names[0] in table.arrays:
        return table.arrays[names[0]].shape
    picked = Selection(table, names)
    return (picked.rows, *picked.shape)


def together(table: Table, names: tuple[str, ...], start: int, stop: int | None) -> Array:
    """An array (n, …), or several and parts of them side by side, (n, k)."""
    if len(names) == 1 and names[0] in table.arrays:
        return table.read(names, start, stop)[names[0]]
    return Selection(table, names).read(start, stop)


def place_of_x(
    table: Table, named: str, law: Law | None, where: str, called: Sequence[str] = ()
) -> Place:
    """Where x is in a file; the rules are those of :mod:`physgen.verbs.observed`.

    Args:
        table: the file.
        named: the array or the columns that were chosen; empty if none.
        law: what x is to be of, if that is known.
        where: the file, for messages.
        called: the columns that x was in the training, if it was columns.

    Raises:
        DataError: nothing there has its shape.
        UsageError: several arrays have it, or no such name.
    """
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
    has = "; ".join([table.contents, *refused[:3]])
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
    return names[0] if len(names) == 1 else f"the columns {shortened(names)}"

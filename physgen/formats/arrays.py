"""Arrays of θ and x from anywhere: simulations that somebody has made already.

A file of any kind that :mod:`physgen.formats.tables` reads, or one of θ and one of x, becomes a
dataset: θ is held against a prior, or one is proposed, and x is checked row by row. Nothing but θ
is ever in the memory as a whole.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import numpy as np

from physgen.dataset import Rows, Shard, file_digest
from physgen.dataset.elsewhere import describe_rows, without_faults
from physgen.errors import DataError, UsageError
from physgen.formats import Foreign
from physgen.formats.tables import Table, open_table
from physgen.law import Law
from physgen.priors import asked_for
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["open_foreign"]

THETA, X = ("theta", "params", "parameters"), ("x", "X", "data")
"""Names of arrays that are looked for where none is given."""
LOOK = 10_000
"""Rows of x that tell its type and its values."""
NAMED = 12
"""Arrays that a message names."""


def open_foreign(
    file: Path,
    /,
    *,
    theta: str | None = None,
    x: str | None = None,
    names: str | None = None,
    prior: Mapping[str, Any] | None = None,
    fix: Mapping[str, float] | None = None,
    correlation: Mapping[str, float] | None = None,
    support: str | None = None,
    x_shape: str | None = None,
    simulator: str = "arrays",
    on_error: Literal["stop", "skip"] = "stop",
) -> Foreign:
    """Make a dataset of arrays of theta and x: npz, npy, HDF5, CSV, text, parquet, netCDF, ROOT.

    Without a prior the simplest one that theta may follow is proposed, and said. Theta that do not
    follow their prior are taken, and the file says so: p(x|theta) may be learnt of any theta, and
    calibration refuses them.

    Args:
        file: file to read.
        theta: array of theta, or columns, as in a,tau or p_*; or another file, as in params.csv
            or params.h5:theta. If not given, theta, or the columns that the prior names.
        x: array of x, or columns, as for theta. If not given, x, or all that is left.
        names: names of the parameters, as in a,tau, where theta is one array.
        prior: law that theta were drawn from: bounds, as in a=0:1, or a distribution of
            scipy.stats, as in tau=loguniform:1e-3:1; may be repeated, in the order of theta's
            columns where they have no names.
        fix: value of a parameter that all rows share, as in t_up=1; may be repeated.
        correlation: of the normal scores of two parameters, as in a:tau=0.5; may be repeated.
        support: what x may be: reals, nonnegative, spins, or levels:K of integers 0 to K - 1. If
            not given, reals; of truth values and of integers that are 0 and 1 levels:2, and of
            integers that are -1 and 1 spins.
        x_shape: shape of one x, as in 16,16; as it lies in the file if not given.
        simulator: what drew x, in summaries.
        on_error: what to do about rows whose x is not finite or outside of its support: stop; or
            skip them, and keep their theta and the reason.

    Raises:
        DataError: a file that is damaged, theta outside of the prior, columns that are no numbers.
        StorageError: a file that cannot be opened.
        UsageError: no such arrays, or a prior of other parameters.
    """
    laws = asked_for(prior, fix)
    known = list(Prior.words(laws))
    table = open_table(file)
    with theta_table(table, theta) as (source, wanted):
        columns = theta_columns(source, wanted, known)
        found, called = theta_of(source, columns, words_of(names), known)
    left = [n for n in table.arrays if source is not table or n not in columns]
    picked = x_columns(table, x, left, len(found))
    shape = tuple(whole_numbers(x_shape)) or row_shape(table, picked)
    about = describe_rows(
        found, called, x_of(table, picked, shape, 0, min(LOOK, len(found))), prior=laws,
        correlation=correlation, support=support, simulator=simulator, where=str(file),
    )  # fmt: skip
    ignored = [n for n in [*left, *table.refused] if n not in picked]
    said = [*about.said, *([f"not read: {shortened(ignored)}"] if ignored else [])]
    origin = {
        "kind": "import", "format": "arrays", "file": file.name, "sha256": file_digest(file),
        "arrays": {"theta": columns, "x": picked}, **about.source,
    }  # fmt: skip
    make = FromTable(table, picked, about.law, about.theta, on_error)
    return Foreign(about.law, len(found), origin, make, "; ".join(said))


def words_of(text: str | None) -> list[str]:
    """Words between commas."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def whole_numbers(x_shape: str | None) -> list[int]:
    """Sizes between commas.

    Raises:
        UsageError: no numbers.
    """
    try:
        return [int(word) for word in words_of(x_shape)]
    except ValueError as error:
        raise UsageError(f"x_shape: expected sizes, as in 16,16, got {x_shape!r}") from error


@contextmanager
def theta_table(table: Table, theta: str | None) -> Iterator[tuple[Table, str | None]]:
    """Where θ is, and what of it: the table itself, or another one whose file is named."""
    name, _, wanted = (theta or "").partition(":")
    if not Path(name).is_file() or any(fnmatchcase(n, name) for n in table.arrays):
        yield table, theta
        return
    with open_table(name) as other:
        yield other, wanted or None


def pick(table: Table, wanted: str, option: str) -> list[str]:
    """Names of arrays that are asked for, by name or by pattern, in order.

    Raises:
        UsageError: there is none of a name.
    """
    found: list[str] = []
    for word in words_of(wanted):
        some_of = [word] if word in table.arrays else [
            n for n in table.arrays if fnmatchcase(n, word)
        ]  # fmt: skip
        if not some_of:
            raise UsageError(f"{table.path}: {option}: no {word!r}; it has {contents_of(table)}")
        found += [n for n in some_of if n not in found]
    return found


def contents_of(table: Table, names: Sequence[str] | None = None) -> str:
    """The arrays of a table in words."""
    return shortened(
        [f"{n} {table.arrays[n].shape}" for n in (table.arrays if names is None else names)]
    )


def shortened(words: Sequence[str]) -> str:
    """The first of many words."""
    return ", ".join([*words[:NAMED], *(["…"] if len(words) > NAMED else [])])


def theta_columns(table: Table, wanted: str | None, laws: Sequence[str]) -> list[str]:
    """Names of the arrays that are θ.

    Raises:
        UsageError: nobody says which.
    """
    if wanted:
        return pick(table, wanted, "theta")
    if laws and any(n in table.arrays for n in laws):
        return [n for n in laws if n in table.arrays]
    for name in THETA:
        if name in table.arrays:
            return [name]
    if len(table.arrays) == 1:
        return list(table.arrays)
    raise UsageError(
        f"{table.path}: expected to be told which are theta, as in --theta a,tau; it has "
        f"{contents_of(table)}"
    )


def theta_of(
    table: Table, columns: Sequence[str], names: Sequence[str], laws: Sequence[str]
) -> tuple[Array, list[str]]:
    """θ (n, d), and the names of its columns.

    Raises:
        DataError: arrays of different lengths.
        UsageError: names of more or fewer columns.
    """
    parts = table.read(columns)
    theta = as_columns([parts[n] for n in columns], str(table.path)).astype(np.float64)
    d = theta.shape[1]
    if names:
        called = list(names)
    elif len(columns) == d and not (d == 1 == len(laws)):
        called = [re.sub(r"\W+", "_", n).strip("_") for n in columns]
    else:
        called = list(laws) if len(laws) == d else [f"theta_{i}" for i in range(d)]
        if laws and len(laws) != d:
            raise UsageError(
                f"{table.path}: theta has {d} columns, and the prior {len(laws)} parameters: "
                f"{', '.join(laws)}; name the columns, as in --names {','.join(called)}"
            )
    if len(set(called)) != d or len(called) != d:
        raise UsageError(f"{table.path}: expected {d} different names, got {', '.join(called)}")
    return theta, called


def as_columns(parts: Sequence[Array], where: str) -> Array:
    """Arrays (n, …) as columns of one, (n, d).

    Raises:
        DataError: they are of different lengths.
    """
    if len({len(part) for part in parts}) != 1:
        raise DataError(f"{where}: expected arrays of as many rows, got {[len(p) for p in parts]}")
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def x_columns(table: Table, wanted: str | None, left: Sequence[str], n: int) -> list[str]:
    """Names of the arrays that are x, of as many rows as θ.

    Raises:
        DataError: none has as many rows.
        UsageError: nobody says which, or one that has another number of rows.
    """
    rows = {name: info.shape[:1] for name, info in table.arrays.items()}
    if wanted:
        found = pick(table, wanted, "x")
    elif named := [name for name in X if name in left]:
        found = named[:1]
    else:
        found = [name for name in left if rows[name] == (n,)]
        columns = all(len(table.arrays[name].shape) == 1 for name in found)
        if not found or (len(found) > 1 and not columns):
            raise UsageError(
                f"{table.path}: expected to be told which is x, of {n} rows, as in --x spectrum; "
                f"it has {contents_of(table)}"
            )
    if wrong := [name for name in found if rows[name] != (n,)]:
        raise DataError(
            f"{table.path}: theta has {n} rows, and x others: {contents_of(table, wrong[:1])}"
        )
    return found


def row_shape(table: Table, columns: Sequence[str]) -> tuple[int, ...]:
    """Shape of one x: as it lies in one array, or flat, of several."""
    shapes = [table.arrays[name].shape[1:] for name in columns]
    if len(shapes) == 1:
        return shapes[0] or (1,)
    return (sum(int(np.prod(shape)) for shape in shapes),)


def x_of(
    table: Table, columns: Sequence[str], shape: tuple[int, ...], start: int, stop: int
) -> Array:
    """x of some rows, (stop − start, *shape).

    Raises:
        DataError: another number of values a row.
    """
    parts = table.read(columns, start, stop)
    flat = as_columns([parts[name] for name in columns], str(table.path))
    if flat.shape[1] != math.prod(shape):
        raise DataError(
            f"{table.path}: x_shape: a row has {flat.shape[1]} numbers, got {shape}; give their "
            "shape"
        )
    return flat.reshape(-1, *shape)


@dataclass(frozen=True)
class FromTable:
    """Makes a shard of a dataset from the rows of a table: picklable, pure in the shard.

    Attributes:
        table: where x is.
        columns: names of its arrays.
        law: that the rows follow.
        theta: of all rows, (n, D).
        on_error: what to do about rows that cannot be.
    """

    table: Table
    columns: Sequence[str]
    law: Law
    theta: Array
    on_error: Literal["stop", "skip"]

    def __call__(self, shard: Shard) -> Rows:
        """The rows of a shard; those that cannot be are left out, if that is asked for."""
        x = x_of(self.table, self.columns, self.law.x_shape, shard.start, shard.stop)
        rows = Rows(x, self.theta[shard.start : shard.stop])
        name = str(self.table.path)
        return without_faults(rows, self.law, name) if self.on_error == "skip" else rows

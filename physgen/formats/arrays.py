"""Arrays of θ and x from anywhere: simulations that somebody has made already.

A file of any kind that :mod:`physgen.formats.tables` reads, or one of θ and one of x, becomes a
dataset: θ is held against a prior, or one is proposed, and x is checked row by row. Nothing but θ
is ever in the memory as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from physgen.dataset import SCHEMA, Meta, Rows, Shard, file_digest
from physgen.dataset.elsewhere import (
    describe_rows,
    described_by,
    names_of_columns,
    rows_in_order,
)
from physgen.errors import DataError, UsageError
from physgen.formats import Foreign
from physgen.formats.tables import Table, open_table
from physgen.formats.tables.selection import Selection, words_of
from physgen.law import Law
from physgen.priors import asked_for
from physgen.runtime.kinds import shortened
from simulators.base import Array, words_of_names
from simulators.columns import SupportLike
from simulators.command import sizes
from simulators.prior import Prior

__all__ = ["open_foreign"]

THETA, X = ("theta", "params", "parameters"), ("x", "X", "data")
"""Names of arrays that are looked for where none is given."""
ENOUGH = 20
"""Whole numbers one after another that are no chance finding."""
LOOK = 10_000
"""Rows of x that tell its type and its values."""


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
    support: SupportLike | None = None,
    x_shape: str | int | tuple[int, ...] | None = None,
    axes: str | None = None,
    symmetries: str | None = None,
    missing: bool = False,
    simulator: str = "arrays",
    on_error: Literal["stop", "skip"] = "stop",
) -> Foreign:
    """Make a dataset of arrays of theta and x: npz, npy, HDF5, CSV, text, parquet, netCDF, ROOT.

    A file that export wrote says its law, and is taken as it was. Without a prior the simplest one
    that theta may follow is proposed, and said. Theta that do not follow their prior are taken,
    and the file says so: p(x|theta) may be learnt of any theta, and calibration refuses them.

    Args:
        file: file to read.
        theta: array of theta, or columns, as in a,tau or p_* or s[0:4]; or another file, as in
            params.csv or params.h5:theta. If not given, theta, or the columns that the prior
            names.
        x: array of x, or columns, as for theta. If not given, x, or all that is left.
        names: names of the parameters, as in a,tau, where theta is one array.
        prior: law that theta were drawn from: bounds, as in a=0:1, or a distribution of
            scipy.stats, as in tau=loguniform:1e-3:1; may be repeated, in the order of theta's
            columns where they have no names.
        fix: value of a parameter that all rows share, as in t_up=1; may be repeated.
        correlation: of the normal scores of two parameters, as in a:tau=0.5; may be repeated.
        support: what x may be: reals, nonnegative, counts, spins, or levels:K of integers 0 to
            K - 1; or what each column may be, as in hits=levels:10,energy=nonnegative,t=reals or,
            without names, levels:2*5,reals*2. If not given, reals; of columns of integers from 0
            on counts, if they are 0 and 1 levels:2, and spins if all are -1 and 1.
        x_shape: shape of one x, as in 16,16; as it lies in the file if not given.
        axes: what each axis of x is, as in channel,open or periodic,periodic: channel only first;
            without, a matrix is an open lattice and all else a vector.
        symmetries: maps of x that leave p(x|theta) unchanged, as in shift,reflect: out of shift
            (along periodic axes), reflect, transpose and flip.
        missing: take NaN in x for components that are missing.
        simulator: what drew x, in summaries.
        on_error: what to do about rows whose x is not finite or outside of its support: stop; or
            skip them, and keep their theta and the reason.

    Raises:
        DataError: a file that is damaged, theta outside of the prior, columns that are no numbers.
        StorageError: a file that cannot be opened.
        UsageError: no such arrays, or a prior of other parameters.
    """
    laws = asked_for(prior, fix)
    table = open_table(file)
    told = correlation or names or support or x_shape or axes or symmetries or missing
    meta = None if laws or told else meta_in(table)
    known = list(meta.law.prior.names if meta else Prior.words(laws))
    with theta_table(table, theta) as (source, wanted):
        columns = theta_in(source, wanted, known)
        d = math.prod(columns.shape)
        found = columns.read().reshape(columns.rows, d).astype(np.float64)
        own = [] if d == len(known) == 1 else columns.plain_names
        called = names_of_columns(d, words_of(names), own, known, str(file))
        ordered = d > 1 and called == known and not names and len(columns.words) != d
    left = [n for n in table.arrays if source is not table or n not in columns.names]
    picked = x_in(table, x, left, len(found))
    if meta:
        about = described_by(meta, found, str(file))
    else:
        shape = sizes(x_shape) if x_shape else picked.shape
        head = picked.read(0, min(LOOK, len(found)))
        head = shaped(head if support else with_others(picked, head), shape, file)
        typed = dict(zip(picked.plain_names, picked.types, strict=False))
        about = describe_rows(
            found, called, head, prior=laws, correlation=correlation, support=support,
            columns=typed, missing=missing, simulator=simulator, where=str(file),
            axes=words_of_names(axes or ()), symmetries=words_of_names(symmetries or ()),
        )  # fmt: skip
    ignored = [n for n in [*left, *table.refused] if n not in picked.names]
    said = [f"x is {shortened(picked.words)}"] if len(picked.words) > 1 else []
    said += [f"theta are {', '.join(called)}, in this order"] if ordered and not meta else []
    said += [*about.said, *([f"not read: {shortened(ignored)}"] if ignored else [])]
    origin = {
        "kind": "import", "format": "arrays", "file": file.name, "sha256": file_digest(file),
        "arrays": {"theta": list(columns.words), "x": list(picked.words)}, **about.source,
    }  # fmt: skip
    make = FromTable(picked, about.law, about.theta, on_error)
    return Foreign(about.law, len(found), origin, make, "; ".join(said))


def meta_in(table: Table) -> Meta | None:
    """What a dataset that was exported says of itself; None of other files.

    Raises:
        DataError: it is not what it must be.
    """
    return Meta.from_json(table.about) if table.about.get("schema") == SCHEMA else None


@contextmanager
def theta_table(table: Table, theta: str | None) -> Iterator[tuple[Table, str | None]]:
    """Where θ is, and what of it: the table itself, or another one whose file is named."""
    name, _, wanted = (theta or "").partition(":")
    if name in table.arrays or not Path(name).is_file():
        yield table, theta
        return
    with open_table(name) as other:
        yield other, wanted or None


def theta_in(table: Table, wanted: str | None, laws: Sequence[str]) -> Selection:
    """The arrays that are θ.

    Raises:
        UsageError: nobody says which.
    """
    if wanted:
        return Selection.of(table, wanted, "theta")
    last = {name.rpartition("/")[2]: name for name in table.arrays}
    unique = len(last) == len(table.arrays)
    found = [n if n in table.arrays else last.get(n, "") if unique else "" for n in laws]
    if any(found):
        return Selection(table, tuple(n for n in found if n))
    for name in THETA:
        if name in table.refused:
            table.require(name)
    known = THETA if len(table.arrays) > 1 else tuple(table.arrays)
    if alone := [n for n in known if n in table.arrays][:1]:
        return Selection(table, tuple(alone))
    raise UsageError(
        f"{table.path}: expected to be told which are theta, as in --theta a,tau; it has "
        f"{table.contents}"
    )


def x_in(table: Table, wanted: str | None, left: Sequence[str], n: int) -> Selection:
    """The arrays that are x, of as many rows as θ.

    Raises:
        DataError: they have another number of rows.
        UsageError: nobody says which.
    """
    if not wanted and "x" not in left and "x_0" in left:  # as export writes columns
        wanted = "x_*"
    if wanted:
        if wanted not in table.arrays and Path(wanted).is_file():
            raise UsageError(
                f"{table.path}: x: expected an array of this file, got another file; import that "
                f"one, as in physgen import arrays {wanted} --theta {table.path}"
            )
        found = Selection.of(table, wanted, "x")
    elif named := [name for name in X if name in left or name in table.refused]:
        table.require(named[0])
        found = Selection(table, (named[0],))
    else:
        long = [name for name in left if table.arrays[name].shape[:1] == (n,)]
        long = [n for n, v in table.read(long, 0, LOOK).items() if not numbers_rows(v)]
        columns = all(len(table.arrays[name].shape) == 1 for name in long)
        if not long or (len(long) > 1 and not columns):
            raise UsageError(
                f"{table.path}: expected to be told which is x, of {n} rows, as in --x spectrum "
                f"or --x 'f_*'; it has {table.contents}"
            )
        found = Selection(table, tuple(long))
    if found.rows != n:
        raise DataError(
            f"{table.path}: theta has {n} rows, and x others: {found.words[0]} has {found.rows}"
        )
    return found


def numbers_rows(values: Array) -> bool:
    """Whether values (n, …) only say which row is which: whole numbers, one after another.

    Of few rows only from 0 or 1 on; a later part of a table may begin anywhere.
    """
    if values.ndim != 1 or len(values) < 3 or not (np.floor(values) == values).all():
        return False
    known = values[0] in (0, 1) or len(values) >= ENOUGH
    return known and bool((np.diff(values.astype(float)) == 1).all())


def with_others(x: Selection, head: Array) -> Array:
    """The first rows of x (k, …), the least and the greatest of all, and what else tells a kind.

    Where integers are among it: that is where later rows may be of another kind than the first.
    """
    if all(dtype.kind == "f" for dtype in x.types):
        return head
    low, high, spins = head.min(0), head.max(0), np.isin(head, (-1, 1)).all()
    off = head[:0]
    for start in range(len(head), x.rows, LOOK):
        rows = x.read(start, min(start + LOOK, x.rows))
        low, high = np.fmin(low, np.fmin.reduce(rows)), np.fmax(high, np.fmax.reduce(rows))
        if spins and not len(off):
            off = rows[~np.isin(rows, (-1, 1)).reshape(len(rows), -1).all(1)][:1]
    return np.concatenate([head, low[None], high[None], off])


def shaped(x: Array, shape: tuple[int, ...], file: Path) -> Array:
    """x (n, …) as rows of a shape, (n, *shape).

    Raises:
        DataError: another number of values a row.
    """
    if math.prod(x.shape[1:]) != math.prod(shape):
        raise DataError(
            f"{file}: x_shape: a row has {math.prod(x.shape[1:])} numbers, got {shape}; give "
            "their shape"
        )
    return x.reshape(len(x), *shape)


@dataclass(frozen=True)
class FromTable:
    """Makes a shard of a dataset from the rows of a table: picklable, pure in the shard.

    Attributes:
        x: where x is.
        law: that the rows follow.
        theta: of all rows, (n, D).
        on_error: what to do about rows that cannot be.
    """

    x: Selection
    law: Law
    theta: Array
    on_error: Literal["stop", "skip"]

    def __call__(self, shard: Shard) -> Rows:
        """The rows of a shard; those that cannot be are left out, if that is asked for."""
        path = self.x.table.path
        x = shaped(self.x.read(shard.start, shard.stop), self.law.x_shape, path)
        rows = Rows(x, self.theta[shard.start : shard.stop])
        names = self.x.plain_names
        return rows_in_order(rows, self.law, self.on_error, str(path), shard.start, names)

"""Rows (θ, x) and the law they follow, in memory or in a file: what verbs take and give."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from physgen.dataset.files import file_digest
from physgen.dataset.guard import loaded, opened
from physgen.dataset.reader import consecutive, contents, interval, read
from physgen.dataset.schema import Failed, Meta, Rows, block_digest, validated
from physgen.dataset.stream import InOrder
from physgen.dataset.writer import write
from physgen.errors import DataError, UsageError
from physgen.law import Law
from simulators.base import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Dataset", "as_array", "as_columns"]

MARKED = 1000
"""Rows by which data are known again, whether they lie in a file or in memory."""


class Dataset:
    """Pairs (θ, x), or x alone, and the law they follow.

    A file is read when its values are asked for, and only the rows that are.

    Args:
        source: a file, rows in memory, another dataset, or x (n, *x_shape) alone, as a NumPy array
            or a torch tensor.
        summary: how it was made, in one line.

    Attributes:
        path: its file; None in memory.

    Raises:
        DataError: what is no array of numbers, or rows in memory that do not follow their law.
    """

    def __init__(self, source: Any, summary: str = "") -> None:
        self.path: Path | None = None
        self._summary = summary
        if isinstance(source, Dataset):
            self.__class__ = source.__class__
            vars(self).update(vars(source))
            self._summary = summary or source._summary
        elif isinstance(source, str | Path):
            self.path = Path(source).expanduser()
        else:
            self.rows = in_memory(source)

    @property
    def summary(self) -> str:
        """How it was made, or what it is, in one line."""
        return self._summary or repr(self)[1:-1]

    @cached_property
    def rows(self) -> Rows:
        """All rows, in memory."""
        return read(self.where)

    @property
    def parts(self) -> Sequence[Dataset]:
        """The datasets that it is made of: itself."""
        return [self]

    @property
    def name(self) -> str:
        """It in messages: its path, if it has one."""
        return str(self.where)

    @property
    def proposal(self) -> str:
        """What θ follow, in words, where that is known and not the prior; else empty."""
        return self.meta.proposal if self.meta else ""

    def require_prior(self, why: str) -> None:
        """Refuse θ that do not follow the prior.

        Args:
            why: what needs it, with its verb, and what to do instead.

        Raises:
            UsageError: they do not.
        """
        if self.proposal:
            raise UsageError(f"{self.name}: its theta follow {self.proposal}; {why}")

    @property
    def where(self) -> Path:
        """The file's path; a stand-in for messages where there is none."""
        return self.path or Path("(in memory)")

    @property
    def in_memory(self) -> bool:
        """Whether its rows are in memory."""
        return self.path is None or "rows" in vars(self)

    @property
    def x(self) -> Array:
        """x, (n, *x_shape)."""
        return self.rows.x

    @property
    def theta(self) -> Array:
        """θ, (n, D).

        Raises:
            DataError: rows without θ.
        """
        return self.rows.labels(self.where)

    @property
    def theta_alone(self) -> Array:
        """θ, (n, D), without reading x.

        Raises:
            DataError: rows without θ.
        """
        if self.in_memory:
            return self.theta
        with opened(self.where) as file:
            found = contents(file, self.where).fields
            return loaded(found["theta"]) if "theta" in found else self.theta

    @cached_property
    def meta(self) -> Meta | None:
        """What it says of itself; None of rows that physgen did not make."""
        return self.rows.meta if self.in_memory else read(self.where, slice(0, 1)).meta

    @property
    def law(self) -> Law:
        """The law that it follows.

        Raises:
            DataError: it does not say.
        """
        if self.meta is None:
            raise DataError(
                f"{self.where}: no metadata, so no prior; make it with physgen simulate, or bring "
                "it in with physgen import arrays"
            )
        return self.meta.law

    @property
    def failures(self) -> Mapping[str, Any]:
        """What is known of draws that failed: on_error, count, fraction, messages; else empty."""
        if not self.meta:
            return {}
        return self.meta.failed or self.meta.source.get("failed", {})

    @property
    def failed(self) -> Failed | None:
        """Draws of θ for which the simulator gave no x: theta (F, D), messages; None if none."""
        if self.in_memory:
            return self.rows.failed
        with opened(self.where) as file:
            return contents(file, self.where).failed()

    @property
    def digest(self) -> str:
        """SHA-256 of the file's bytes, or of the values in memory."""
        return file_digest(self.path) if self.path else block_digest(self.rows.arrays())

    @property
    def mark(self) -> str:
        """SHA-256 of the first 1000 rows: the same in a file and in memory."""
        first = self.read(slice(0, MARKED))
        values = [v for v in (first.theta, first.x) if v is not None]
        return hashlib.sha256(b"".join(np.ascontiguousarray(v).data for v in values)).hexdigest()

    def __len__(self) -> int:
        if self.in_memory:
            return len(self.rows)
        with opened(self.where) as file:
            return contents(file, self.where).rows

    def __getitem__(self, index: int | slice | Array) -> Dataset:
        """Some rows, in memory: one, those of a slice, a mask (n,) or of row numbers (k,)."""
        if isinstance(index, int | np.integer):
            index = range(len(self))[int(index)]  # refuses what is beyond the end
            index = slice(index, index + 1)
        if isinstance(index, slice) and index.step in (None, 1):
            return Dataset(self.read(index))
        return Dataset(self.rows[index])

    def read(self, rows: slice | None = None, *, whole: bool = False) -> Rows:
        """Consecutive rows, in memory; all if None.

        Args:
            rows: which.
            whole: whether to refuse a slice that reaches beyond the last row.

        Raises:
            UsageError: no such rows.
        """
        rows = consecutive(rows)
        if self.in_memory:
            start, stop = interval(rows, len(self.rows))
            found = self.rows[start:stop]
        else:
            found = read(self.where, rows)
        if whole and rows and rows.stop and len(found) < rows.stop - (rows.start or 0):
            raise UsageError(
                f"{self.where}: expected rows up to {rows.stop}, got {len(found)} of them"
            )
        return found

    def save(
        self,
        path: str | Path,
        *,
        force: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Dataset:
        """Write it as an HDF5 file, block by block.

        Args:
            path: the file.
            force: whether to overwrite the file if it exists.
            progress: called with the number of finished rows.

        Returns:
            The dataset in the file.

        Raises:
            DataError: rows without θ or a law.
            StorageError: the file system refused.
            UsageError: the output exists.
        """
        law, sources = self.law, [part.path or part.rows for part in self.parts]
        make = InOrder(sources, self.failed)
        written = write(path, len(self), self.saved_meta, make, force=force, progress=progress)
        return Dataset(written.path, f"{path}: {len(self):,} rows of {law.simulator}")

    @property
    def saved_meta(self) -> Meta:
        """What a file of it says of itself."""
        return self.meta or Meta(self.law)

    @property
    def columns(self) -> list[str]:
        """Names that the components of x had as columns of a table; empty of all else."""
        return self.meta.columns if self.meta else []

    def require_columns(self, other: Mapping[str, Any] | None) -> None:
        """Refuse x whose columns lie in another order than those of other data.

        Args:
            other: the record of those data, which may name the columns, and the file.

        Raises:
            UsageError: they are called alike, in another order.
        """
        ours, theirs = self.columns, list((other or {}).get("columns", ()))
        if ours != theirs and sorted(ours) == sorted(theirs):
            k = next(k for k, name in enumerate(ours) if name != theirs[k])
            where = (other or {}).get("path") or "the training"
            raise UsageError(
                f"{self.name}: column {k} of x: expected {theirs[k]}, as in {where}, got "
                f"{ours[k]}; import it with --x and the columns in that order"
            )

    def origin(self, rows: Rows | None = None) -> dict[str, Any]:
        """Where rows come from, for a record: JSON data."""
        known: dict[str, Any] = {
            "path": self.name if self.path or len(self.parts) > 1 else None,
            "sha256": self.digest,
            "mark": self.mark,
        }
        if columns := self.columns:
            known["columns"] = columns
        if failed := self.failures:
            known["failed"] = {**failed, "messages": failed["messages"][:1]}
        if rows is not None:
            known["rows"] = len(rows)
        if self.meta is None or rows is None:
            return known
        return known | {"law": self.law.to_json(), "source": dict(self.meta.source)}

    def plot(self) -> Figure:
        """Some x, spread over the range of the first parameter.

        Raises:
            UsageError: matplotlib is not installed.
        """
        from physgen.reporting import ink

        with ink():
            from physgen.reporting.data import data_drawing

        first = self.read(slice(0, MARKED))
        law = self.meta.law.to_json() if self.meta else {}
        return data_drawing(first.x, first.theta, law, self.columns).figure()

    def __repr__(self) -> str:
        law = self.meta.law if self.meta else None
        what = f" of {law.simulator}, θ {law.prior}" if law else ""
        place = f", in {self.path}" if self.path else ""
        shape = law.x_shape if law else self.read(slice(0, 1)).x.shape[1:]
        return f"<Dataset: {len(self):,} rows{what}, x {shape}{place}>"


def in_memory(source: Any) -> Rows:
    """Rows as arrays, x (n, *x_shape); held to their law, if they say one."""
    rows = source if isinstance(source, Rows) else Rows(source)
    theta = None if rows.theta is None else as_array(rows.theta)
    rows = replace(rows, x=as_array(rows.x), theta=theta)
    return validated(rows, rows.meta.law, "rows") if rows.meta else rows


def as_columns(table: Any) -> dict[str, Array]:
    """Columns (n, …) by name of a mapping, a table of pandas or pyarrow, or a structured array.

    Of all else there are none.

    Raises:
        DataError: they are no numbers.
    """
    if isinstance(table, Mapping):
        names = list(table)
    else:
        fields = getattr(getattr(table, "dtype", None), "names", None) or ()
        names = list(getattr(table, "column_names", getattr(table, "columns", fields)))
    return {str(name): as_array(table[name]) for name in names}


def as_array(values: Any) -> Array:
    """Numbers (n, …) as a NumPy array, wherever a torch tensor has them; what is masked as NaN.

    Raises:
        DataError: something else.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        values = np.ma.filled(values.astype(np.result_type(values.dtype, np.float32)), np.nan)
    try:
        found = np.ascontiguousarray(values)
    except ValueError as error:
        raise DataError(f"expected an array of numbers, one row a sample: {error}") from error
    if found.dtype.kind not in "biuf" or np.ndim(values) == 0:
        what = f" of {found.dtype}" if np.ndim(values) else ""
        how = "; give real and imaginary parts as components" if found.dtype.kind == "c" else ""
        how = "; are model and data swapped?" if hasattr(values, "law") else how
        raise DataError(
            "expected a dataset, a file or an array of numbers, got "
            f"{type(values).__name__}{what}{how}"
        )
    return found

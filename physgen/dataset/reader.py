"""Reading a dataset into memory, with every value checked.

A file of physgen's own says which law its rows follow, and is held to it: types, shapes, finite
values, spins, the prior. A file of observations from elsewhere may hold no more than ``/x``; its
values must be finite, and the law comes from whoever reads it (`validated`).
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from physgen.dataset.guard import (
    BRING_IN,
    arrays,
    attribute,
    dataset,
    loaded,
    metadata,
    opened,
)
from physgen.dataset.schema import SCHEMA, Failed, Meta, Rows, faults, refuse, x_type
from physgen.errors import DataError, UsageError
from physgen.runtime.kinds import taken_rows

__all__ = ["Contents", "consecutive", "contents", "interval", "read"]

MEND = (
    "; take other rows, with --rows START:STOP, or write a file without such, as in Python "
    "physgen.read(path, drop_invalid=True) reads it"
)
FAILED = ("failed/theta", "failed/message")


@dataclass(frozen=True)
class Contents:
    """The guarded arrays of an open file, before a value is read.

    Attributes:
        path: the file.
        fields: name in the file → array; ``x`` is among them.
        meta: what the file says of itself; None in a foreign one.
        meta_json: the same as text; empty in a foreign file.
        lost: name in the file → array of the draws that failed; empty where none did.
    """

    path: Path
    fields: dict[str, h5py.Dataset]
    meta: Meta | None
    meta_json: str = ""
    lost: dict[str, h5py.Dataset] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.fields["x"].shape[0])

    def load(self, start: int, stop: int) -> Rows:
        """Some consecutive rows, not yet checked."""
        values = {name: loaded(data, start, stop) for name, data in self.fields.items()}
        return Rows(
            x=values["x"],
            theta=values.get("theta"),
            aux={k.removeprefix("aux/"): v for k, v in values.items() if k.startswith("aux/")},
            meta=self.meta,
        )

    def failed(self) -> Failed | None:
        """The draws that failed; None where none did.

        Raises:
            DataError: they are not what the metadata say.
        """
        if not self.lost or self.meta is None:
            return None
        theta, codes = (loaded(self.lost[name]) for name in FAILED)
        about, prior = self.meta.failed, self.meta.law.prior
        if not (
            about
            and prior.contains(theta).all()
            and len(codes) == about["count"]
            and 0 <= codes.min() <= codes.max() < len(about["messages"])
        ):
            raise DataError(f"{self.path}: /failed differs from its metadata; make it again")
        return Failed.of(theta, codes, about["messages"], about["on_error"])

    def checked(self, start: int, stop: int) -> Rows:
        """Some consecutive rows, refused if one is invalid."""
        rows = self.load(start, stop)
        law = self.meta.law if self.meta else None
        refuse(rows, law, str(self.path), start, MEND)
        return rows


def contents(file: h5py.File, path: Path) -> Contents:
    """The arrays of an open file.

    Raises:
        DataError: not a dataset, or not the layout it claims.
    """
    schema = attribute(file, "schema")
    if schema not in (None, SCHEMA) and str(schema).startswith("physgen/"):
        raise DataError(
            f"{path}: is a {schema} file; expected a dataset, {SCHEMA}; physgen.load opens it"
        )
    x, theta = dataset(file, "x"), dataset(file, "theta")
    if x is None:
        raise DataError(f"{path}: no /x; expected a dataset with /x of one row a sample{BRING_IN}")
    fields = ({} if theta is None else {"theta": theta}) | {"x": x}
    fields |= {f"aux/{name}": data for name, data in sorted(arrays(file, "aux").items())}
    check_rows(path, fields)
    if schema != SCHEMA:
        return Contents(path, fields, None)
    text, data = metadata(file)
    try:
        meta = Meta.from_json(data)
    except DataError as error:
        raise DataError(f"{path}: {error}; make it again") from error
    lost = {f"failed/{name}": data for name, data in arrays(file, "failed").items()}
    found = Contents(path, fields, meta, text, lost)
    check_layout(found, attribute(file, "n_rows"), attribute(file, "complete"))
    return found


def check_rows(path: Path, fields: dict[str, h5py.Dataset]) -> None:
    """Refuse arrays that do not have the same number of rows, at least one."""
    lengths = {name: data.shape[:1] for name, data in fields.items()}
    if len(set(lengths.values())) != 1 or {(), (0,)} & set(lengths.values()):
        raise DataError(f"{path}: expected arrays of the same number of rows, got {lengths}")


def check_layout(found: Contents, n_rows: Any, complete: Any) -> None:
    """Refuse types and shapes that are not those of the law."""
    law = found.meta.law if found.meta else None
    if law is None or n_rows != found.rows or complete != 1:
        raise DataError(
            f"{found.path}: is incomplete: {found.rows} of {n_rows} rows; make it again"
        )
    expected = {
        "theta": (np.dtype("f8"), (len(law.prior),)),
        "x": (x_type(law), law.x_shape),
    }
    if found.lost:
        layout = (np.dtype("f8"), (len(law.prior),)), (np.dtype("i2"), ())
        expected |= dict(zip(FAILED, layout, strict=True))
        check_rows(found.path, found.lost)
    for name, (dtype, shape) in expected.items():
        data = (found.fields | found.lost).get(name)
        got = None if data is None else (data.dtype, data.shape[1:])
        if got != (dtype, shape):
            raise DataError(
                f"{found.path}: /{name}: expected {dtype} of shape {shape} a row, got "
                f"{'nothing' if got is None else f'{got[0]} of shape {got[1]}'}"
            )


def consecutive(rows: Any) -> slice | None:
    """Rows as they may be given, `physgen.runtime.kinds.taken_rows`.

    Raises:
        UsageError: what are no consecutive rows.
    """
    try:
        return taken_rows(rows)
    except ValueError as error:
        raise UsageError(f"rows: {error}") from error


def interval(rows: slice | None, n: int) -> tuple[int, int]:
    """First row and the row after the last.

    Raises:
        UsageError: a step other than 1, or no row.
    """
    rows = consecutive(rows)
    start, stop, step = (rows or slice(None)).indices(n)
    if step != 1 or start >= stop:
        asked = f"{rows.start or 0}:{'' if rows.stop is None else rows.stop}" if rows else "none"
        raise UsageError(f"rows: expected some consecutive ones of {n}, got {asked}")
    return start, stop


def read(path: str | Path, rows: slice | None = None, *, drop_invalid: bool = False) -> Rows:
    """Read rows into memory, all of them checked.

    Args:
        path: a dataset, or a foreign HDF5 file with ``/x`` and perhaps ``/theta`` and ``/aux``.
        rows: consecutive rows; all by default.
        drop_invalid: whether to leave out invalid rows, and count them, rather than refuse them.

    Raises:
        DataError: a file that is damaged, hostile or not a dataset, or rows that are invalid.
        StorageError: the file cannot be opened.
        UsageError: no such rows, or more of them than the memory holds.
    """
    path = Path(path).expanduser()
    with opened(path) as file:
        found = contents(file, path)
        start, stop = interval(rows, found.rows)
        check_memory(found, stop - start)
        if drop_invalid:
            rows_in = without_invalid(found.load(start, stop), path)
        else:
            rows_in = found.checked(start, stop)
        return replace(rows_in, failed=found.failed()) if stop - start == found.rows else rows_in


def check_memory(found: Contents, rows: int) -> None:
    """Refuse to read more than the machine's memory."""
    row = sum(d.dtype.itemsize * math.prod(d.shape[1:]) for d in found.fields.values())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if rows * row > memory:
        raise UsageError(
            f"{found.path}: {rows} rows are {rows * row / 1e9:.0f} GB and the memory has "
            f"{memory / 1e9:.0f} GB; read fewer rows"
        )


def without_invalid(rows: Rows, path: Path) -> Rows:
    """The valid rows, with the number of the others."""
    valid = np.ones(len(rows), dtype=bool)
    for _, bad in faults(rows, rows.meta.law if rows.meta else None):
        valid &= ~bad
    if not valid.any():
        raise DataError(f"{path}: all {len(rows)} rows are invalid")
    return replace(rows[valid], dropped=int(len(rows) - valid.sum()))

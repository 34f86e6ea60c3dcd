"""Several datasets of one law as one, such as those of several rounds of simulations."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from physgen.dataset.dataset import Dataset
from physgen.dataset.reader import interval
from physgen.dataset.schema import Failed, Meta, Rows, provenance
from physgen.dataset.stream import joined
from physgen.errors import UsageError
from physgen.law import Law
from physgen.runtime.options import command_line
from physgen.runtime.progress import log
from simulators.base import Array

__all__ = ["JoinedDataset"]

COMPARED = 100
"""Rows with θ of another part that are looked at whole."""
ALIKE = (
    "simulator", "x_shape", "support", "levels", "column_supports", "symmetries", "axes",
)  # fmt: skip


class JoinedDataset(Dataset):
    """The rows of several datasets of one law, one dataset after another.

    Args:
        parts: at least one; their priors may be parts of one of them.

    Raises:
        DataError: one that does not say its law, or has no θ.
        UsageError: they are of different laws, or rows are there twice.
    """

    def __init__(self, parts: Sequence[Dataset]) -> None:
        known = [part.digest for part in parts]
        if twice := [p.name for i, p in enumerate(parts) if p.digest in known[:i]]:
            raise UsageError(f"{twice[0]}: its rows are there twice; give each dataset once")
        self.path = None
        self._parts, self._law = list(parts), joint_law(parts)
        for part in parts[1:]:
            part.require_columns({"path": parts[0].name, "columns": parts[0].columns})
        refuse_repeated(parts)
        self._summary = f"{len(self):,} rows of {self._law.simulator}, of {len(parts)} datasets"

    @property
    def parts(self) -> Sequence[Dataset]:
        """The datasets."""
        return self._parts

    @property
    def name(self) -> str:
        """The datasets in words."""
        return " + ".join(part.name for part in self._parts)

    @property
    def in_memory(self) -> bool:
        """Whether all rows are in memory."""
        return all(part.in_memory for part in self._parts)

    @cached_property
    def rows(self) -> Rows:
        """All rows, in memory."""
        return self.read()

    @cached_property
    def meta(self) -> Meta:
        """The law that all have in common, and what θ follow."""
        told = [part.proposal or f"the prior {part.law.prior}" for part in self._parts]
        same = len(set(told)) == 1 and not self._parts[0].proposal
        source = {} if same else {"theta": {"follow": ", and ".join(dict.fromkeys(told))}}
        return Meta(self._law, {"kind": "joined", **source})

    @property
    def columns(self) -> list[str]:
        """Names of the columns of x, where they are the same in all datasets."""
        found = [part.columns for part in self._parts]
        return found[0] if found.count(found[0]) == len(found) else []

    @property
    def failures(self) -> Mapping[str, Any]:
        """What is known of draws that failed, in all datasets together."""
        found = [part.failures for part in self._parts if part.failures]
        if not found:
            return {}
        count = sum(f["count"] for f in found)
        messages = list(dict.fromkeys(m for f in found for m in f["messages"]))
        about = {"count": count, "fraction": count / (count + len(self)), "messages": messages}
        return {**found[0], **about}

    @property
    def failed(self) -> Failed | None:
        """Draws of θ for which the simulator gave no x; None if there are none."""
        return Failed.joined([part.failed for part in self._parts])

    @property
    def digest(self) -> str:
        """SHA-256 of the digests of the datasets."""
        return hashlib.sha256("\n".join(part.digest for part in self._parts).encode()).hexdigest()

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def read(self, rows: slice | None = None, *, whole: bool = False) -> Rows:
        """Consecutive rows, in memory; all if None.

        Args:
            rows: which, counted through all datasets.
            whole: whether to refuse a slice that reaches beyond the last row.

        Raises:
            UsageError: no such rows.
        """
        start, stop = interval(rows, len(self))
        if whole and rows and rows.stop and stop < rows.stop:
            raise UsageError(f"{self.name}: expected rows up to {rows.stop}, got {stop}")
        found, first = [], 0
        for part in self._parts:
            low, high = max(start - first, 0), min(stop - first, len(part))
            if low < high:
                found.append(part.read(slice(low, high)))
            first += len(part)
        return replace(joined(found), meta=self.meta)

    @property
    def saved_meta(self) -> Meta:
        """What a file of it says of itself: of what datasets it is."""
        source = {**self.meta.source, "parts": [part.origin() for part in self._parts]}
        command = command_line("merge", *(part.name for part in self._parts))
        return replace(self.meta, source=source, provenance=provenance(command))

    def origin(self, rows: Rows | None = None) -> dict[str, Any]:
        """Where the rows come from, for a record: JSON data."""
        return super().origin(rows) | {"parts": [part.origin() for part in self._parts]}


def refuse_repeated(parts: Sequence[Dataset]) -> None:
    """Refuse rows that several datasets have in common, and say where they share θ alone.

    Raises:
        UsageError: rows are there twice.
    """
    if all(part.proposal for part in parts):  # θ of a table, which may well be there twice
        return
    seen, ends = np.zeros(0, np.uint64), np.cumsum([len(part) for part in parts])
    for part in parts:
        marks = row_marks(part.theta_alone)
        _, ours, theirs = np.intersect1d(marks, seen, return_indices=True)
        if len(ours):
            for i in np.argsort(ours)[:COMPARED]:
                mine, place = int(ours[i]), int(theirs[i])
                k = int(np.searchsorted(ends, place, side="right"))
                other, row = parts[k], place - int(ends[k]) + len(parts[k])
                if same_row(part[mine], other[row]):
                    raise UsageError(
                        f"{part.name}: row {mine} is row {row} of {other.name}, and "
                        f"{len(ours)} rows share their theta; draw each part with a seed of its "
                        "own"
                    )
            log.warning(
                "%s: theta of %d rows are those of %s: they are no independent draws; draw each "
                "part with a seed of its own", part.name, len(ours), other.name,
            )  # fmt: skip
        seen = np.concatenate([seen, marks])


def same_row(one: Dataset, other: Dataset) -> bool:
    """Whether two rows are the same, in the narrower type of both; what is missing is missing."""
    narrow = min(one.x.dtype, other.x.dtype, key=lambda dtype: dtype.itemsize)
    x, y = one.x.astype(narrow), other.x.astype(narrow)
    alike = (x == y) | ((x != x) & (y != y))
    return bool(alike.all()) and bool((np.asarray(one.theta) == np.asarray(other.theta)).all())


def row_marks(theta: Array) -> Array:
    """A number for each row of θ (n, D) that hardly any other has, (n,); of −0 that of 0."""
    bits = np.ascontiguousarray(theta + 0.0).view(np.uint64)
    odd = np.random.default_rng(0).integers(2**63, size=theta.shape[1], dtype=np.uint64) * 2 + 1
    return ((bits ^ (bits >> np.uint64(29))) * odd).sum(1, dtype=np.uint64)


def joint_law(parts: Sequence[Dataset]) -> Law:
    """The law of several datasets: of their priors the one that holds all others.

    Raises:
        DataError: a dataset that does not say its law.
        UsageError: they are of different laws.
    """
    first, laws = parts[0], [part.law for part in parts]
    for part, law in zip(parts, laws, strict=True):
        for name, value in in_common(laws[0]).items():
            if (theirs := in_common(law).get(name)) != value:
                raise UsageError(
                    f"{part.name}: expected {name} {value!r}, as in {first.name}, got {theirs!r}; "
                    "rows of different laws cannot be joined"
                )
    priors = [law.prior for law in laws]
    low, high = np.min([p.low for p in priors], 0), np.max([p.high for p in priors], 0)
    widest = {p for p in priors if (p.low == low).all() and (p.high == high).all()}
    if len(widest) != 1:
        raise UsageError(
            f"{first.name}: expected priors that are equal, or parts of one of them, got "
            f"{' and '.join(dict.fromkeys(str(p) for p in priors))}"
        )
    dtype = max(law.dtype for law in laws)  # float64, if one is
    missing = any(law.missing for law in laws)
    return replace(laws[0], prior=widest.pop(), dtype=dtype, missing=missing)


def in_common(law: Law) -> dict[str, Any]:
    """What laws must have in common for their rows to be joined, by its name."""
    named = {name: getattr(law, name) for name in ALIKE}
    parameters = [p.name for p in law.prior.every]
    return named | dict(law.options) | {"parameters": parameters, "fixed": law.prior.fixed}

"""What else a file of showers says of each: parameters besides ln E.

A *condition* is a column of numbers with one row a shower: an array (N,) or (N, 1) of the file's
root, called as the array is; a column of an array (N, k), called ``name_1`` … ``name_k``; or a
further column of the incident energies, ``incident_energies_2`` on. Its prior is uniform between
the least and the greatest value, each rounded outward to two digits of their difference.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import h5py
import numpy as np

from physgen.dataset.guard import dataset, loaded
from physgen.errors import DataError, UsageError
from simulators.base import Array

__all__ = ["Condition", "conditions_of", "values_of"]

MOST_COLUMNS = 8  # of an array that is taken unasked
SCAN_ROWS = 2**16


@dataclass(frozen=True)
class Condition:
    """A parameter, and where it lies.

    Attributes:
        parameter: its name.
        array: of the file's root.
        column: of that array.
        low: lower bound of its prior.
        high: upper bound of its prior.
    """

    parameter: str
    array: str
    column: int
    low: float = 0.0
    high: float = 0.0

    @property
    def bounds(self) -> tuple[float, float]:
        """The ends of its prior."""
        return self.low, self.high


def conditions_of(
    hdf5: h5py.File, energies: str, other: str, wanted: Sequence[str] | None
) -> tuple[list[Condition], list[str]]:
    """The conditions of a file, and what was left out with the reason.

    Args:
        hdf5: an open file.
        energies: name of the incident energies (N, …), whose first column is no condition.
        other: name of another array that is none.
        wanted: arrays to take; if None, all that have a row a shower and few columns.

    Raises:
        DataError: a condition that is not finite.
        UsageError: an array that is wanted and not there, or that cannot be one.
    """
    rows, left = len(hdf5[energies]), list[str]()
    columns = list[Condition]()
    arrays = [name for name in hdf5 if name not in (energies, other)]
    for name in wanted if wanted is not None else [energies, *arrays]:
        reason = unfit(hdf5, name, rows, many=wanted is not None)
        if reason and wanted is not None:
            raise UsageError(f"{hdf5.filename}: conditions: /{name} {reason}")
        if reason:
            left.append(f"/{name} ({reason})")
        else:
            columns += columns_in(hdf5[name], name, first=name == energies)
    known, found = {"ln_E"}, []
    for column in columns:
        low, high = range_of(hdf5, column)
        if column.parameter in known:
            left.append(f"/{column.array} (its name is taken)")
        elif low == high:
            left.append(f"{column.parameter} ({low:g} in all rows)")
        else:
            known.add(column.parameter)
            low, high = rounded_outward(low, high)
            found.append(replace(column, low=low, high=high))
    return found, left


def unfit(hdf5: h5py.File, name: str, rows: int, many: bool) -> str:
    """Why an array of the root cannot be a condition; empty if it can."""
    try:
        found = dataset(hdf5, name)
    except DataError as error:
        return str(error).rpartition(": ")[2]
    if found is None:
        return "is not there"
    if found.ndim not in (1, 2) or len(found) != rows:
        return f"of shape {found.shape}"
    return "" if many or found.size <= MOST_COLUMNS * rows else f"of {found.shape[1]} columns"


def columns_in(array: h5py.Dataset, name: str, first: bool) -> Iterator[Condition]:
    """The columns of an array (N,) or (N, k), without the first where that is another thing."""
    width = array.shape[1] if array.ndim == 2 else 1
    plain = re.sub(r"\W|^(?=\d)", "_", name)
    for i in range(int(first), width):
        yield Condition(plain if width == 1 else f"{plain}_{i + 1}", name, i)


def range_of(hdf5: h5py.File, column: Condition) -> tuple[float, float]:
    """The least and the greatest value.

    Raises:
        DataError: one that is not finite.
    """
    low, high, rows = math.inf, -math.inf, len(hdf5[column.array])
    for start in range(0, rows, SCAN_ROWS):
        block = values_of(hdf5, [column], start, start + SCAN_ROWS)[:, 0]
        if not np.isfinite(block).all():
            row = start + int(np.argmin(np.isfinite(block)))
            raise DataError(
                f"{hdf5.filename}: row {row}: {column.array}: expected finite numbers, got "
                f"{block[row - start]:g}; --conditions none leaves it out"
            )
        low, high = min(low, float(block.min())), max(high, float(block.max()))
    return low, high


def rounded_outward(low: float, high: float) -> tuple[float, float]:
    """Two ends rounded outward to two digits of their difference."""
    scale = 10.0 ** (1 - math.floor(math.log10(high - low)))
    return min(low, math.floor(low * scale) / scale), max(high, math.ceil(high * scale) / scale)


def values_of(hdf5: h5py.File, conditions: Sequence[Condition], start: int, stop: int) -> Array:
    """Conditions of some rows, (n, K) float64."""
    found = {c.array: loaded(hdf5[c.array], start, stop) for c in conditions}
    columns = [found[c.array].reshape(len(found[c.array]), -1)[:, c.column] for c in conditions]
    return np.stack(columns, axis=1).astype(float)

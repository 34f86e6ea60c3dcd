"""What surrogates assume of real x, and where data break it.

A density of reals wants components that vary, that are not functions of one another, that take
many values, and whose numbers have digits left after rounding. Where that is not so a surrogate
may still train, and be wrong without a sign of it; so whoever looks at data says it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from physgen.law import Law
from simulators.base import Array, Support
from simulators.columns import supports_in_words

__all__ = [
    "Relation",
    "Tails",
    "broken_assumptions",
    "by_name",
    "float_type",
    "kind_of_whole",
    "relation",
    "told_across",
]

LOOKED_AT = 10_000
"""Rows that are looked at, and as many fewer of long x as keep that many times a thousand."""
NUMBERS = 10_000_000
MOST = 1000
"""Components among which affine relations are looked for; of more, only constants and copies."""
OWN = 1e-3
"""Of a component's width: a part of its own above which no other components tell it."""
ROUNDING = 1e-5
"""Of a component's spread: an error by rounding to float32 above which x is kept in float64."""
STEPS = 1000
"""Steps of the floating type that a spread should have at least."""
HEAVY = 20.0
QUARTILES = 1.3490
"""Distance of the quartiles of a normal law of width 1."""
TINY = 1e-300
LEAST = 10
"""Rows, and distinct values of a component, of which a relation may be said."""
SEEN = float(np.finfo(np.float32).eps)
"""Rounding of standardised x as networks see it."""
FEW, REPEATED = 200, 0.05
"""Rows needed to say that values repeat; part of the rows that one value may hold of a density."""
NAMED = 5
MOST_LISTED = 32
"""Whole numbers up to which x is taken for levels; beyond, for counts."""


@dataclass(frozen=True)
class Relation:
    """Which components of x are affine functions of others: x_dropped = offset + C x_kept.

    Attributes:
        kept: (d,) bool, components that no earlier ones tell.
        offset: (k,) of the k others; the value of one that is constant.
        coefficients: (k, d), 0 for those that are not kept.
    """

    kept: Array
    offset: Array
    coefficients: Array

    def names(self, x_shape: tuple[int, ...]) -> list[str]:
        """What tells each component that is not kept, as in x[3] = 2 x[0] + 5."""
        said = []
        for j, offset, row in zip(
            np.flatnonzero(~self.kept), self.offset, self.coefficients, strict=True
        ):
            others = np.flatnonzero(row)
            terms = [f"{row[i]:.4g} {named(int(i), x_shape)}" for i in others[:NAMED]]
            if len(others) > NAMED:
                terms.append("…")
            if not terms or abs(offset) > 1e-6 * np.abs(row).sum():
                terms.append(f"{offset:.4g}")
            said.append(f"{named(int(j), x_shape)} = {' + '.join(terms)}")
        return said

    def at(self, places: Array, size: int) -> Relation:
        """The same of components of which these (d,) are some, of `size` in all."""
        kept, coefficients = np.ones(size, dtype=bool), np.zeros((len(self.offset), size))
        kept[places], coefficients[:, places] = self.kept, self.coefficients
        return Relation(kept, self.offset, coefficients)


def named(component: int, x_shape: tuple[int, ...]) -> str:
    """A component of flat x by its place, as in x[3] or x[2, 0]."""
    place = np.unravel_index(component, x_shape)
    return f"x[{', '.join(str(int(i)) for i in place)}]"


def by_name(line: str, names: Sequence[str]) -> str:
    """A line in which components of a vector x[3] are called by their names, if there are any."""

    def called(place: re.Match[str]) -> str:
        return names[int(place[1])] if int(place[1]) < len(names) else place[0]

    return re.sub(r"\bx\[(\d+)\]", called, line)


def first_rows(x: Array) -> Array:
    """The first rows of x (n, …), flat and in float64, no more than a look needs: (m, d)."""
    flat = x.reshape(len(x), -1)
    rows = max(FEW, min(LOOKED_AT, NUMBERS // flat.shape[1]))
    return np.asarray(flat[:rows], dtype=np.float64)


def precision(x: Array) -> float:
    """The relative rounding of the type of x (…); of integers that of float32."""
    return float(np.finfo(x.dtype if x.dtype.kind == "f" else np.float32).eps)


def relation(x: Array, support: Support = "reals") -> Relation:
    """The affine relations that rows of x (n, …) obey to within rounding: theirs and float32's.

    Networks see standardised x in float32, so what differs by less is the same to them.

    Each component is held against the earlier ones, by a QR factorisation of standardised x whose
    residuals are compared with what rounding explains. It is found in the first rows, and holds in
    all of them. What few rows or few values may obey by chance is none. Nor is the 0 of a
    nonnegative component that was never above, which has a probability of its own.

    Where components are missing relations are found in the complete rows and hold in all others,
    as far as these tell; of too few complete rows only constants are.
    """
    eps, flat = precision(x), first_rows(x)
    n, d = flat.shape
    if n < LEAST:
        return Relation(np.ones(d, dtype=bool), np.zeros(0), np.zeros((0, d)))
    gone = np.isnan(flat)
    if gone.any():
        flat = flat[~gone.any(1)]
        if (n := len(flat)) < LEAST:
            return constants(x.reshape(len(x), -1))
    largest = np.abs(flat).max(0)
    unit = np.where(largest > 0, largest, 1.0)  # so that no square over- or underflows
    mean = (flat / unit).mean(0) * unit
    width = (flat / unit).std(0)
    kept = width > 4 * eps
    varying, scale = np.flatnonzero(kept), (width * unit)[kept]
    noise = eps / width[kept] + SEEN
    z = (flat - mean)[:, kept] / scale
    told, weights = (affine if len(varying) <= min(MOST, n // 2) else copies)(z, noise)
    many = np.array([len(np.unique(z[:, j])) >= LEAST for j in told], dtype=bool)
    told, weights = told[many], weights[many]
    kept[varying[told]] = False
    if support == "nonnegative":
        kept |= largest == 0
    dropped = np.flatnonzero(~kept)
    coefficients = np.zeros((len(dropped), d))
    places = np.searchsorted(dropped, varying[told])
    coefficients[np.ix_(places, varying)] = weights * scale[told][:, None] / scale
    offset = np.where(coefficients.any(1), mean[dropped] - coefficients @ mean, flat[0, dropped])
    slack = 8 * SEEN * (width * unit)[dropped]
    holds = held(x.reshape(len(x), -1), dropped, offset, coefficients, 8 * eps, slack)
    kept[dropped[~holds]] = True
    return Relation(kept, offset[holds], coefficients[holds])


def held(
    x: Array, dropped: Array, offset: Array, coefficients: Array, eps: float, slack: Array
) -> Array:
    """Which relations all rows of x (n, d) obey, (k,) bool.

    Args:
        x: rows.
        dropped: components that are told, (k,).
        offset: as in `Relation`.
        coefficients: as in `Relation`.
        eps: relative to the largest term, what a residual may be.
        slack: what it may be beside that, (k,).
    """
    used = np.flatnonzero(coefficients.any(0))
    off, size = np.zeros(len(dropped)), np.abs(offset)
    for start in range(0, len(x), LOOKED_AT):
        rows = x[start : start + LOOKED_AT]
        own, others = rows[:, dropped].astype(np.float64), rows[:, used].astype(np.float64)
        gone = np.isnan(others)
        told = offset + np.where(gone, 0.0, others) @ coefficients[:, used].T
        residual = np.abs(own - told)
        if gone.any():
            residual[gone.astype(float) @ (coefficients[:, used].T != 0) > 0] = 0.0
        terms = np.abs(coefficients[:, used]) @ largest_of(others)
        off = np.maximum(off, largest_of(residual))
        size = np.maximum(size, np.maximum(terms, largest_of(own)))
    return off <= eps * size + slack


def largest_of(columns: Array) -> Array:
    """The largest |value| of each column of (n, d), (d,); 0 of one that has none."""
    return np.asarray(np.abs(np.nan_to_num(columns)).max(0, initial=0))


def constants(x: Array) -> Relation:
    """The components of rows x (n, d) that are the same wherever they are not missing."""
    low, high = np.fmin.reduce(x, 0), np.fmax.reduce(x, 0)
    kept = ~(low == high)
    return Relation(kept, low[~kept].astype(float), np.zeros((int((~kept).sum()), len(kept))))


def affine(z: Array, noise: Array) -> tuple[Array, Array]:
    """Columns that are linear in earlier ones.

    Args:
        z: (n, d), columns of mean 0 and width 1.
        noise: rounding of each column, (d,).

    Returns:
        which, (k,), and the weights of the others, (k, d).
    """
    if not z.shape[1]:
        return np.zeros(0, dtype=int), np.zeros((0, 0))
    kept = np.abs(np.diagonal(np.linalg.qr(z, mode="r"))) / np.sqrt(len(z)) >= OWN
    while True:  # until what is left is explained by what is kept
        told = np.flatnonzero(~kept)
        weights = np.zeros((len(told), z.shape[1]))
        weights[:, kept] = np.linalg.lstsq(z[:, kept], z[:, told], rcond=None)[0].T
        left = np.abs(z[:, told] - z @ weights.T).max(0)
        explained = left <= 4 * (noise[told] + np.abs(weights) @ noise)
        if explained.all():
            break
        kept[told[~explained][0]] = True
    weights[np.abs(weights) < 1e-6 * np.abs(weights).max(1, keepdims=True, initial=0)] = 0.0
    return told, weights


def copies(z: Array, noise: Array) -> tuple[Array, Array]:
    """Columns of z (n, d) that an earlier one tells, up to its sign; as `affine`."""
    first: dict[bytes, int] = {}
    found: list[tuple[int, int, float]] = []
    sign = np.sign(z[np.argmax(np.abs(z[:FEW]), 0), np.arange(z.shape[1])])
    for j in range(z.shape[1]):
        i = first.setdefault(np.round(sign[j] * z[:FEW, j], 3).tobytes(), j)
        weight = sign[i] * sign[j]
        if i != j and np.abs(z[:, j] - weight * z[:, i]).max() <= 8 * (noise[i] + noise[j]):
            found.append((j, i, weight))
    weights = np.zeros((len(found), z.shape[1]))
    for k, (_, i, weight) in enumerate(found):
        weights[k, i] = weight
    return np.array([j for j, _, _ in found], dtype=int), weights


class Tails(NamedTuple):
    """How far rows of x reach, beside the width of their middle: (d,) each.

    Attributes:
        median: of each component.
        width: of the normal law that has the same quartiles.
        heavy: whether (q₉₉.₉ − q₀.₁)/(q₇₅ − q₂₅) is above 20: it is 4.6 of a normal law, 9 of an
            exponential on both sides, 27 and 318 of Student's t with 2 and 1 degrees of freedom.
    """

    median: Array
    width: Array
    heavy: NDArray[np.bool_]

    @classmethod
    def of(cls, x: Array) -> Tails:
        """Of rows of x (n, …); none is heavy where half of the values are equal."""
        levels = [0.001, 0.25, 0.5, 0.75, 0.999]
        rows = first_rows(x)
        gone = np.isnan(rows)
        rows = np.where(gone.all(0), 0.0, rows)
        quantile = np.nanquantile if gone.any() else np.quantile
        low, quarter, median, three, high = quantile(rows, levels, axis=0)
        inner = three - quarter
        return cls(median, inner / QUARTILES, (inner > 0) & (high - low > HEAVY * inner))


def float_type(x: Array, rows: int = 0) -> Literal["float32", "float64"]:
    """The type in which rows of real x (n, …) keep their digits and their range.

    Of few rows, whose spread nobody knows, it is that in which they come.

    Args:
        x: the first rows at least.
        rows: how many there are; what is the same in all that were looked at may vary in others.
    """
    if x.dtype.kind == "f" and x.dtype.itemsize <= 4:
        return "float32"
    flat = first_rows(x)
    more = rows > len(flat)
    flat = flat[~np.isinf(flat).any(1) & ~np.isnan(flat).all(1)]
    if len(flat) < 2:
        return "float64"
    with np.errstate(over="ignore", under="ignore"):
        error = np.fmax.reduce(np.abs(flat - flat.astype(np.float32)), 0)
    spread = np.fmax.reduce(flat, 0) - np.fmin.reduce(flat, 0)
    lost = np.isinf(error) | (((spread > 0) | more) & (error > ROUNDING * spread))
    return "float64" if lost.any() else "float32"


def broken_assumptions(law: Law, x: Array) -> Iterator[str]:
    """What rows of x (n, *x_shape) break of what a density of them assumes, a line each.

    Args:
        law: what they follow.
        x: as a file stores them.
    """
    dense = np.flatnonzero(law.has_support("reals", "nonnegative"))
    if not len(dense) or len(x) < 2:
        return
    yield from (f"no density of what other columns tell: {line}" for line in told_across(law, x))
    yield from undense(law, x.reshape(len(x), -1)[:, dense], dense)


def told_across(law: Law, x: Array) -> list[str]:
    """What tells components of mixed x (n, *x_shape) that have a density, if of another support.

    What is an affine function of components of one support its own map leaves out.
    """
    if law.support != "mixed":
        return []
    flat, kinds = x.reshape(len(x), -1), np.array(law.column_supports)
    order = np.argsort(law.has_support("reals", "nonnegative"), kind="stable")
    found = relation(flat[:, order])
    said = []
    for j, offset, row in zip(order[~found.kept], found.offset, found.coefficients, strict=True):
        others = order[np.flatnonzero(row)]
        if kinds[j] in ("reals", "nonnegative") and (kinds[others] != kinds[j]).any():
            one = Relation(np.arange(law.size) != j, offset[None], row[None, order.argsort()])
            said += one.names(law.x_shape)
    return said


def undense(law: Law, x: Array, places: Array) -> Iterator[str]:
    """What some components break of what a density assumes, a line each.

    Args:
        law: of all of them.
        x: of those that have a density, (n, d).
        places: of these among all, (d,).
    """
    rows, shape = first_rows(x), law.x_shape
    support: Support = "nonnegative" if law.has_support("nonnegative")[places].all() else "reals"
    never = np.flatnonzero(np.isnan(rows).all(0))
    if len(never):
        yield (
            f"{listed(places[never], shape)} is missing in all rows that were looked at: leave it "
            "out"
        )
    found = relation(x, support)
    if not found.kept.all():
        said = found.at(places, law.size).names(shape)
        more = f" and {len(said) - NAMED} more" if len(said) > NAMED else ""
        yield (
            f"no density of components that others tell: {', '.join(said[:NAMED])}{more} "
            "(to within float32; where a difference matters, make it a component)"
        )
    span = np.fmax.reduce(rows, 0) - np.fmin.reduce(rows, 0)
    steps = span / (precision(x) * largest_of(rows).clip(min=TINY))
    coarse = np.flatnonzero((steps > 0) & (steps < STEPS))
    if len(coarse):
        yield (
            f"{listed(places[coarse], shape)} hardly varies beside its size, over "
            f"{steps[coarse].min():.2g} steps of {x.dtype}: let the simulator subtract what is "
            'the same in all rows, or declare dtype = "float64"'
        )
    atoms_at_0 = law.has_support("nonnegative")[places]
    repeated = values_repeated(rows, np.flatnonzero(found.kept), atoms_at_0)
    yield from discrete(law, rows, places, **repeated)
    smooth = found.kept & ~atoms_at_0
    for columns in repeated.values():
        smooth[columns] = False
    heavy = np.flatnonzero(Tails.of(x).heavy & smooth)
    if len(heavy):
        furthest = np.nanmax(np.abs(rows[:, heavy] - Tails.of(x).median[heavy]))
        yield (
            f"{listed(places[heavy], shape)} has heavy tails, values up to {furthest:.2g} from "
            "the median, which are hard to learn: check posteriors with physgen calibrate"
        )


def values_repeated(rows: Array, varying: Array, atoms_at_0: Array) -> dict[str, list[int]]:
    """Which varying columns of rows (n, d) are no density: whole numbers, few values, an atom.

    Args:
        rows: that are looked at.
        varying: columns.
        atoms_at_0: of which columns 0 is declared to be an atom, (d,) bool.
    """
    found: dict[str, list[int]] = {"whole": [], "few": [], "atoms": []}
    for j in varying:
        column = rows[~np.isnan(rows[:, j]), j]
        if atoms_at_0[j]:
            column = column[column > 0]
        if len(column) < FEW:
            continue
        values, counts = np.unique(column, return_counts=True)
        if (values == np.round(values)).all() and np.abs(values).max() < 2**24:
            found["whole"].append(int(j))
        elif len(values) < len(column) / 10:
            found["few"].append(int(j))
        elif counts.max() > REPEATED * len(column):
            found["atoms"].append(int(j))
    return found


def discrete(
    law: Law, rows: Array, places: Array, whole: list[int], few: list[int], atoms: list[int]
) -> Iterator[str]:
    """What to declare of columns of rows (n, d) that are no density.

    Args:
        law: of all components.
        rows: those that should have a density.
        places: of these among all, (d,).
        whole: columns of whole numbers.
        few: columns of few values.
        atoms: columns of which one value is an atom.
    """
    n, shape = len(rows), law.x_shape
    if whole:
        numbers = distinct(rows[:, whole])
        yield (
            f"{listed(places[whole], shape)} takes {len(numbers)} whole values ({numbers[0]:g} to "
            f"{numbers[-1]:g}), which have no density: declare "
            f"{declaration(law, rows[:, whole], places[whole])}"
        )
    if few:
        k = len(distinct(rows[:, few]))
        yield (
            f"{listed(places[few], shape)} takes {k} values in {n} rows, which have no density: "
            "number them from 0 and declare support = 'levels'"
            + ("" if len(few) == law.size else " of these columns (physgen simulate --help)")
        )
    if atoms:
        column = rows[~np.isnan(rows[:, atoms[0]]), atoms[0]]
        n = len(column)
        values, counts = np.unique(column, return_counts=True)
        most = counts.argmax()
        yield (
            f"{named(places[atoms[0]], shape)} is {values[most]:g} in {counts[most] / n:.0%} of "
            "the rows, an atom that no density has: declare support = 'nonnegative' if that is 0 "
            "and all else is above, or leave it out"
        )


def distinct(columns: Array) -> Array:
    """The distinct values of (n, d), missing ones left out, (k,) rising."""
    return np.unique(columns[~np.isnan(columns)])


def declaration(law: Law, rows: Array, places: Array) -> str:
    """What to declare of a law whose components at some places (k,) take whole numbers (n, k)."""
    numbers = distinct(rows)
    low, high = numbers[0], numbers[-1]
    if len(places) == law.size:
        if list(numbers) == [-1, 1]:
            return "support = 'spins'"
        if low >= 0 and high >= MOST_LISTED:
            return "support = 'counts'"
        shift = f" of x + {-low:g}" if low < 0 else ""
        return f"support = 'levels' and levels = {high - min(low, 0) + 1:.0f}{shift}"
    kinds = list(law.component_supports)
    for j, column in zip(places, rows.T, strict=True):
        kinds[j] = kind_of_whole(column) or "levels:K"
    shift = ", with levels counted from 0" if low < 0 else ""
    return f"a support of each column, as in support = {supports_in_words(kinds)!r}{shift}"


def kind_of_whole(values: Array) -> str | None:
    """The support that whole numbers (n,) look like; None where some are negative.

    Counts, which have no limit to be wrong about, but for 0 and 1.
    """
    if np.nanmin(values) < 0:
        return None
    return "counts" if np.nanmax(values) > 1 else "levels:2"


def listed(components: Array | list[int], x_shape: tuple[int, ...]) -> str:
    """Some components (k,) by name, or x where it is all of them."""
    if len(components) == np.prod(x_shape):
        return "x"
    names = [named(int(j), x_shape) for j in components[:NAMED]]
    more = f" and {len(components) - NAMED} more" if len(components) > NAMED else ""
    return ", ".join(names) + more

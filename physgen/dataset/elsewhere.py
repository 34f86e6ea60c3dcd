"""The law of rows (θ, x) that were made elsewhere: told by whoever has them, or by the rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from physgen.dataset.assumptions import float_type, kind_of_whole
from physgen.dataset.joined import row_marks
from physgen.dataset.schema import (
    Failed,
    Meta,
    Rows,
    cast,
    faults,
    refuse,
    require_fixed,
    require_inside,
)
from physgen.dataset.theta import (
    FEWEST,
    departures,
    other_order,
    proposed_correlation,
    proposed_law,
)
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.priors import correlated
from physgen.registry import registered
from simulators.base import Array
from simulators.columns import Columns, SupportLike, supports_in_words
from simulators.parameter import Parameter
from simulators.prior import Prior

__all__ = ["Described", "describe_rows", "described_by", "names_of_columns", "rows_in_order"]

MEND = "; --on-error skip leaves such rows out"
MISSING = f"{MEND}, and --missing takes NaN for missing components"
DRAWN = "; give the prior that they were drawn from"
MANY = 10
"""Parameters beyond which more of them than components of x are odd."""
MOST_COUNT = 2**24
"""Integers beyond which networks lose units."""
MOST_COLUMNS = 100
"""Columns that a line can tell the supports of."""
NAMED = 3
"""Departures from a prior that a line tells."""


@dataclass(frozen=True)
class Described:
    """Rows from elsewhere, and what they follow.

    Attributes:
        law: of x given θ, with the prior.
        theta: of the free parameters, (n, D).
        source: what a dataset's metadata say of θ, where they do not follow the prior.
        said: what was found, for whoever has the rows.
    """

    law: Law
    theta: Array
    source: Mapping[str, Any]
    said: Sequence[str]


def describe_rows(
    theta: Array,
    names: Sequence[str],
    x: Array,
    *,
    prior: Prior | Mapping[str, Any],
    correlation: Mapping[str, float] | None = None,
    support: SupportLike | None = None,
    columns: Mapping[str, np.dtype[Any]] | None = None,
    simulator: str = "arrays",
    where: str = "rows",
    **declared: Any,
) -> Described:
    """The law of rows, and θ as it wants them.

    Args:
        theta: (n, d) of all columns that are there.
        names: of the columns.
        x: (k, *x_shape), the first rows at least.
        prior: laws of parameters, or values of those that are fixed; proposed for columns
            without.
        correlation: of pairs of parameters.
        support: what x may be, as in ``levels:10``, or what each column may be; told by their type
            if None.
        columns: the columns of x by name, each with its type; none if x has no such.
        simulator: what drew x, for messages.
        where: the rows, for messages.
        **declared: what else the law says.

    Raises:
        DataError: θ that are not finite, outside of the prior, or not what is fixed.
        UsageError: laws of other parameters, or a support that there is none.
    """
    if registered("simulators", simulator) or ":" in simulator or not simulator:
        raise UsageError(
            f"simulator: {simulator!r} is one of physgen's own; give another name to what drew x"
        )
    if not len(theta):
        raise DataError(f"{where}: expected at least one row of theta and x, got none")
    if not np.isfinite(theta).all():
        row = int(np.argmin(np.isfinite(theta).all(1)))
        raise DataError(
            f"{where}: row {row}: theta is not finite; leave such rows out of the file"
        )
    try:
        found, said = prior_of_columns(theta, names, prior)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    found = correlated(found, correlation)
    theta = free_columns(theta, names, found, where)
    told, why = support_of(x, support, columns or {})
    try:
        law = Law(
            simulator, found, x.shape[1:], told.support, levels=told.levels,
            column_supports=told.mixed, **declared,
        )  # fmt: skip
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    if not law.discrete:
        law = replace(law, dtype=float_type(x, len(theta)))
    require_inside(theta, found, where, f"{DRAWN}{in_order(theta, found)}")
    source, more = followed(theta, found, where)
    if told.names and not columns:
        source["columns"] = list(told.names)
    if theta.shape[1] > max(MANY, law.size):
        why.append(f"theta has {theta.shape[1]} columns, and x {law.size}: are they swapped?")
    return Described(law, theta, source, [*said, *why, *more, *repeated(theta)])


def described_by(meta: Meta, theta: Array, where: str) -> Described:
    """Rows that say their law themselves, of θ (n, D).

    Raises:
        DataError: θ of another shape, or outside of the prior.
    """
    prior = meta.law.prior
    if theta.shape[1] != len(prior):
        raise DataError(
            f"{where}: expected theta of {', '.join(prior.names)}, got {theta.shape[1]} columns"
        )
    require_inside(theta, prior, where, DRAWN)
    known = {k: v for k, v in meta.source.items() if k == "theta"}
    source, said = (known, []) if known else followed(theta, prior, where)
    if failed := meta.failed or meta.source.get("failed"):  # still known of the draws
        source = {**source, "failed": dict(failed)}
    if columns := meta.columns:
        source = {**source, "columns": columns}
    return Described(meta.law, theta, source, [f"law of {meta.law.simulator}, as it says", *said])


def names_of_columns(
    d: int, given: Sequence[str], own: Sequence[str], laws: Sequence[str], where: str
) -> list[str]:
    """Names of the d columns of θ: as given, their own, or those of the prior.

    Raises:
        UsageError: names of more or fewer columns.
    """
    found = list(given or own or laws) or [f"theta_{i}" for i in range(d)]
    if len(found) != d or len(set(found)) != d:
        raise UsageError(
            f"{where}: theta has {d} columns; expected {d} different names, got "
            f"{', '.join(found)}; give those of all columns, as in --names a,tau"
        )
    return found


def prior_of_columns(
    theta: Array, names: Sequence[str], given: Prior | Mapping[str, Any]
) -> tuple[Prior, list[str]]:
    """The prior of the columns of θ (n, d): as given, and proposed where nothing is.

    Raises:
        ValueError: laws of other parameters, or what is no law.
    """
    if isinstance(given, Prior):
        laws: Mapping[str, Any] = {p.name: (p.law, p.unit, p.latex) for p in given.every}
    else:
        laws = given
    fixed = [name for name, law in laws.items() if Parameter.of(name, law).fixed]
    if unknown := [n for n in laws if n not in (*names, *fixed)]:
        raise ValueError(f"prior: unknown {', '.join(unknown)}; theta has {', '.join(names)}")
    columns = dict(zip(names, theta.T, strict=True))
    proposed = {n: proposed_law(values) for n, values in columns.items() if n not in laws}
    order = [*names, *(n for n in fixed if n not in names)]
    every = {**proposed, **laws}
    if all(Parameter.of(n, every[n]).fixed for n in order):
        raise ValueError(
            "theta: no column varies; say what they were drawn from, as in --prior a=0:1"
        )
    prior = Prior(getattr(given, "correlation", None), **{n: every[n] for n in order})
    if not proposed:
        return prior, []
    if not laws:
        free = np.stack([columns[n] for n in prior.names], 1)
        prior = with_correlation(prior, proposed_correlation(free, prior.names))
    words = [f"--{'fix' if p.fixed else 'prior'} {p.name}={p.text}" for p in prior.every]
    words += [f"--correlation {a}:{b}={r}" for (a, b), r in prior.correlation.items()]
    return prior, [f"prior proposed from theta: {' '.join(words)}"]


def with_correlation(prior: Prior, pairs: Mapping[tuple[str, str], float]) -> Prior:
    """A prior with correlations, if there is such a law: rounded ones may be of none."""
    try:
        return prior.correlate(pairs)
    except ValueError:
        return prior


def free_columns(theta: Array, names: Sequence[str], prior: Prior, where: str) -> Array:
    """The columns of θ (n, d) that are free, (n, D); the others are what the prior says.

    Raises:
        DataError: they are not.
    """
    columns = dict(zip(names, theta.T, strict=True))
    require_fixed(columns, prior.fixed, where)
    return np.stack([columns[n] for n in prior.names], axis=1)


def in_order(theta: Array, prior: Prior) -> str:
    """The order in which columns of θ (n, D) follow the laws of a prior, if it is another."""
    found = other_order(theta, prior)
    return f"; in the order {', '.join(found)} its laws are those of the columns" * bool(found)


def followed(theta: Array, prior: Prior, where: str) -> tuple[dict[str, Any], list[str]]:
    """What a file says of θ (n, D) that are no draws of the prior, and a line about it."""
    if not (found := list(departures(theta, prior))):
        return {}, []
    more = ["…"] if len(found) > NAMED else []
    words = ", ".join([*found[:NAMED], *more])
    said = (
        f"theta are no independent draws of the prior: {words}{in_order(theta, prior)}; "
        "p(x|theta) may be learnt of any, and calibrate, npe and all that count draws of the "
        "prior will refuse them"
    )
    return {"theta": {"follow": f"what {where} holds ({words})"}}, [said]


def repeated(theta: Array) -> Iterator[str]:
    """A line where rows of θ (n, D) are those of others: some, or half of them or more."""
    different = len(np.unique(row_marks(theta)))
    if FEWEST <= 2 * different <= len(theta):
        yield (
            f"theta has {different} different values in {len(theta)} rows: x of one theta are no "
            "independent draws of the prior, and p-values of calibrate, which takes them for "
            "such, are too small"
        )
    elif twice := len(theta) - different:
        yield (
            f"theta of {twice} rows are those of others: if x are, too, what is trained on is "
            "validated on; leave out what is there twice"
        )


def support_of(
    x: Array, asked: SupportLike | None, columns: Mapping[str, np.dtype[Any]]
) -> tuple[Columns, list[str]]:
    """Supports of x (k, …), and a line where they were told by its type or its columns'.

    Raises:
        UsageError: a support that there is none, or that of other columns.
    """
    size = math.prod(x.shape[1:])
    if asked is not None:
        try:
            found = Columns.of(asked).of_names(tuple(columns))
            found.require_size(size)
            if found.support == "levels" and not found.levels:
                raise ValueError("support: expected levels with their number, as in levels:10")
        except ValueError as error:
            raise UsageError(str(error)) from error
        return found, []
    types, flat = list(columns.values()), x.reshape(len(x), -1)
    if len(types) == size:
        kinds = tuple(kind_of_column(flat[:, j], dtype) for j, dtype in enumerate(types))
    else:
        types = [x.dtype]
        kinds = (kind_of_column(x, x.dtype),) * size
    if all(dtype.kind != "f" for dtype in types) and set(np.unique(x).tolist()) <= {-1, 1}:
        kinds = ("spins",) * size
    if set(kinds) == {"reals"} and (flat != np.round(flat)).any():
        return Columns(("reals",), one=True), [*whole_columns(flat, tuple(columns))]
    found = Columns(kinds, tuple(columns)) if len(set(kinds)) > 1 else Columns(kinds[:1], one=True)
    return found, [f"x taken for {found.text}, {TAKEN.get(found.text, BY_TYPE)}"]


TAKEN = {
    "levels:2": "for it is 0 and 1",
    "spins": "for it is -1 and +1",
    "counts": "for it is whole numbers from 0 on; --support levels:K if they have a limit",
    "reals": "though x are whole numbers; --support counts or levels:K if that is what they are",
}
BY_TYPE = "by the types of its columns; --support says otherwise"


def whole_columns(x: Array, names: tuple[str, ...]) -> Iterator[str]:
    """A line where some columns of reals (k, d) are whole numbers, with what may be declared."""
    whole = (x == np.round(x)).all(0) & (x != x[0]).any(0)
    if whole.any() and x.shape[1] <= MOST_COLUMNS:
        pairs = zip(x.T, whole, strict=True)
        kinds = [(kind_of_whole(c) if w else None) or "reals" for c, w in pairs]
        told = supports_in_words(kinds, names if len(names) == len(kinds) else ())
        if set(kinds) != {"reals"}:
            yield (
                f"x has {whole.sum()} column{'s' * bool(whole.sum() > 1)} of whole numbers, taken "
                f"for reals; --support {told} if that is what they are (levels:K of those that "
                "have a limit)"
            )


def kind_of_column(values: Array, dtype: np.dtype[Any]) -> str:
    """The support of a column (k, …) of some type: of integers from 0 on counts; 0, 1 levels."""
    if dtype.kind == "f" or np.min(values) < 0 or np.max(values) > MOST_COUNT:
        return "reals"
    return "levels:2" if np.max(values) <= 1 else "counts"


def rows_in_order(
    rows: Rows,
    law: Law,
    on_error: Literal["stop", "skip"],
    where: str,
    first: int,
    names: Sequence[str] = (),
) -> Rows:
    """The rows (n, …) that can be; of the others, if they are skipped, θ and what is wrong.

    Raises:
        DataError: a row that cannot be, if that is to stop.
    """
    stored = cast(rows, law, where)
    if on_error == "stop":
        gone = rows.x.dtype.kind == "f" and np.isnan(rows.x).any()
        refuse(stored, law, where, first, MISSING if gone else MEND, names=names)
        return rows
    why = np.full(len(rows), "", dtype=object)
    for fault, bad in faults(stored, law, names):
        why[bad & (why == "")] = fault
    bad = why != ""
    if not bad.any() or rows.theta is None:
        return rows
    return replace(rows[~bad], failed=Failed(rows.theta[bad], tuple(why[bad]), "skip"))

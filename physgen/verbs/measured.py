"""What was measured, read from files: y, its mask and the θ of its rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from physgen.dataset import Dataset, Rows
from physgen.dataset.schema import require_inside
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.verbs.arguments import ObservedLike, Values
from physgen.verbs.observed import open_observed, validated_rows
from simulators.base import Array
from simulators.measurement import LinearMap, linear_map

__all__ = ["Instrument", "MeasuredRow", "law_of_y", "open_mask", "read_y", "theta_of_rows"]

NOISE = 2**32
"""Of the seeds of a row's noise, beyond the numbers of its blocks."""


@dataclass(frozen=True)
class Instrument:
    """How y = Mx + σε is made of x, but for the mask.

    Attributes:
        noise: σ, in units of x.
        blur: standard deviation of a Gaussian that blurs along each axis, in sites.
        average: sites along each axis that become one.
    """

    noise: float = 0.0
    blur: float = 0.0
    average: int = 1

    def linear(self, law: Law, mask: Array | None = None) -> LinearMap:
        """M of x of a law, of which a mask (*y_shape,) says what is seen.

        Raises:
            UsageError: what cannot be.
        """
        try:
            return linear_map(law.x_shape, mask, self.blur, self.average, law.geometry)
        except ValueError as error:
            raise UsageError(str(error)) from None


@dataclass(frozen=True)
class MeasuredRow:
    """One y.

    Attributes:
        y: (*y_shape,), NaN where it is not seen.
        linear: M, with what is seen.
        noise: σ.
        theta: (D,); None where it is not known.
        truth: x (*x_shape,) that was measured here; None of others' measurements.
    """

    y: Array
    linear: LinearMap
    noise: float
    theta: Array | None = None
    truth: Array | None = None


def open_mask(mask: ObservedLike | None, law: Law, y_shape: tuple[int, ...]) -> Array | None:
    """Masks, True where y is seen, (rows, *y_shape), or one (1, *y_shape) of all rows.

    Raises:
        DataError: another shape, or numbers besides 0 and 1.
    """
    if mask is None:
        return None
    data = open_observed(mask, law_of_y(law, y_shape))
    found = data.read().x
    if found.shape[1:] != y_shape or not np.isin(found, (0, 1)).all():
        raise DataError(
            f"{data.name}: expected a mask of shape {y_shape}, 1 where y is seen and 0 elsewhere, "
            f"got shape {found.shape[1:]} and values from {found.min():g} to {found.max():g}"
        )
    return found.astype(bool)


def read_y(
    observed: Dataset,
    rows: slice | None,
    law: Law,
    instrument: Instrument,
    mask: Array | None,
    seed: int | None = None,
) -> list[MeasuredRow]:
    """Rows of y (*y_shape,), and θ where the file tells it; what is NaN was not seen.

    Args:
        observed: the file.
        rows: which of its rows.
        law: of x.
        instrument: how x was measured.
        mask: as `open_mask` read it.
        seed: of the noise, where the file holds x to be measured here; None if it holds y.

    Raises:
        DataError: another shape, infinity, or values that x cannot have and that have no noise.
        UsageError: another number of masks, or a row of which nothing is seen.
    """
    whole = instrument.linear(law)
    found = observed.read(rows, whole=True)
    first, *_ = (rows or slice(None)).indices(len(observed))
    for i in np.flatnonzero(np.isinf(found.x).reshape(len(found.x), -1).any(1)):
        raise DataError(
            f"{observed.name}: row {first + i}: y is infinite; what is not seen is NaN, or 0 in "
            "the mask"
        )
    kind = law_of_y(law, whole.y_shape) if seed is None else law
    y = validated_rows(Rows(found.x), observed, kind, rows, drops=False).x
    truth = None if seed is None else y
    if seed is not None:
        y = measured_here(y, whole, instrument.noise, seed, first)
    seen = np.isfinite(y)
    if mask is not None:
        mask = mask[rows or slice(None)] if len(mask) == len(observed) else mask
        if len(mask) not in (1, len(y)):
            raise UsageError(
                f"mask: expected one, or {len(observed)} as there are rows, got {len(mask)}"
            )
        seen &= mask
    if not instrument.noise and whole.only_masks:
        refuse_impossible(y, seen, law, observed.name)
    for i in np.flatnonzero(~seen.reshape(len(seen), -1).any(1)):
        raise UsageError(f"{observed.name}: row {first + i}: nothing is seen of y")
    y = np.where(seen, y, np.nan)
    theta = None if found.theta is None else np.asarray(found.theta, float)
    return [
        MeasuredRow(
            y[i], instrument.linear(law, seen[i]), instrument.noise,
            None if theta is None else theta[i], None if truth is None else truth[i],
        )
        for i in range(len(y))
    ]  # fmt: skip


def refuse_impossible(y: Array, seen: Array, law: Law, where: str) -> None:
    """Refuse y (rows, *y_shape) that no x can have, where it is x itself.

    Raises:
        DataError: such a y.
    """
    wrong = {"spins": ~np.isin(y, (-1, 1)), "nonnegative": ~(y >= 0)}.get(law.support)
    if wrong is not None and (wrong := wrong & seen).any():
        raise DataError(
            f"{where}: without noise y are {law.support} where they are seen, got "
            f"{y[wrong][0]:g}; give --noise, or NaN or a mask where nothing is seen"
        )


def measured_here(x: Array, linear: LinearMap, noise: float, seed: int, first: int) -> Array:
    """y (rows, *y_shape) of x (rows, *x_shape), the noise of each row a function of the seed."""
    y = linear(x.astype(float))
    for number, row in enumerate(y, first):
        row += noise * np.random.default_rng([seed, number, NOISE]).standard_normal(row.shape)
    return y


def theta_of_rows(
    measured: list[MeasuredRow], law: Law, given: Values | None, unknown: bool, data: Dataset
) -> tuple[list[MeasuredRow], str]:
    """The rows with their θ, and where these come from: given, the file, or unknown.

    Args:
        measured: the rows.
        law: of x.
        given: one value of each parameter.
        unknown: whether θ is not to be told.
        data: the file of the rows.

    Raises:
        DataError: θ outside the prior.
        UsageError: other parameters than the law's.
    """
    names = law.prior.names
    if given and unknown:
        raise UsageError("theta: was given, and is to be unknown; leave out one of them")
    if given:
        if set(given) != set(names):
            got = ", ".join(given)
            raise UsageError(f"theta: expected values of {', '.join(names)}, got {got}")
        one = np.array([float(given[name]) for name in names])
        require_inside(one[None], law.prior, "theta")
        return [replace(row, theta=one) for row in measured], "given"
    if unknown or any(row.theta is None for row in measured):
        return [replace(row, theta=None) for row in measured], "unknown"
    theirs = data.meta.law.prior.names if data.meta else names
    if theirs != names:
        raise UsageError(
            f"{data.name}: its theta are {', '.join(theirs)}, the model's {', '.join(names)}; "
            "give --theta, or --theta-unknown"
        )
    require_inside(np.array([row.theta for row in measured]), law.prior, data.name)
    return measured, "file"


def law_of_y(law: Law, shape: tuple[int, ...]) -> Law:
    """A law of any real numbers of a shape, with the parameters of another."""
    plain: dict[str, Any] = {
        "support": "reals", "symmetries": (), "levels": 0, "dtype": "float64", "missing": True,
        "column_supports": (), "axes": (),
    }  # fmt: skip
    return replace(law, x_shape=shape, **plain)

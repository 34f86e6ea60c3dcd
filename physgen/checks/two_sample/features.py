r"""What is measured of two samples: observables, and the columns that a classifier sees.

The observables are those that the simulator declares, quantities of θ and x together included;
where no simulator here can draw x, those of the class that describes the imported law; and else
sums and norms of x.

A classifier sees numbers over many decades best on a logarithmic scale that has room for 0:
log(1 + v/s), s a low quantile of what is above 0 in the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

import simulators.base as declared
from physgen.dataset import Rows
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.registry import find, targets
from simulators.base import Array, JointObservable, Observable

__all__ = [
    "Feature",
    "columns",
    "each_component",
    "features_of",
    "logged",
    "observables_of",
    "parts_of",
    "physics_of",
    "rare_cells_summed",
    "standardised",
]  # fmt: skip

FEW_COMPONENTS = 100
"""Components of a vector x that are looked at one by one."""
FEW_CHANNELS = 8
"""Channels of x that are looked at one by one."""
LOW = 0.05
MANY_CELLS, RARE = 1000, 0.1
"""Cells beyond which those that a smaller part of the rows hits are summed."""


@dataclass(frozen=True)
class Feature:
    """A quantity of both samples.

    Attributes:
        observable: for its labels.
        reference: its values, (n,), or (n, k) of a curve.
        generated: its values, (m,) or (m, k).
    """

    observable: Observable | JointObservable
    reference: Array
    generated: Array

    @property
    def is_curve(self) -> bool:
        """Whether it is several numbers for each x."""
        return self.reference.ndim > 1


def physics_of(
    law: Law | None, trusted: str | None = None, names: Sequence[str] = ()
) -> object | None:
    """What declares the observables of x: the simulator, or the class of an imported law.

    Args:
        law: what the file says; None in a foreign one.
        trusted: name of a simulator outside the registry that the caller vouches for.
        names: of the components of x, where its file tells them.

    Returns:
        An object that the functions of :mod:`simulators.base` can be asked of; None where nothing
        is known.

    Raises:
        DataError: an imported law that does not say what it should.
        UsageError: a trusted name that is not this law's simulator, or where there is no law.
    """
    if law is None:
        if trusted:
            raise UsageError(f"simulator: expected a file that says it is of {trusted}, got none")
        return None
    if simulator := law.build_if_known(trusted):
        return simulator
    if law.simulator not in targets("imported"):
        return MixedColumns.of(law.column_supports, names) if law.column_supports else None
    try:
        return find("imported", law.simulator)(law.options)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"metadata: {law.simulator} {error}") from error


@dataclass(frozen=True)
class MixedColumns:
    """What is known of mixed x whose simulator is not: its columns.

    Attributes:
        support: of each of them, by name where they have names.
    """

    support: tuple[str, ...] | Mapping[str, str]

    @classmethod
    def of(cls, supports: tuple[str, ...], names: Sequence[str]) -> MixedColumns:
        """Columns of some supports, with their names if there is one for each."""
        named = len({*names}) == len(supports) == len(names)
        return cls(dict(zip(names, supports, strict=True)) if named else supports)


def observables_of(
    physics: object | None, x: Array, law: Law | None = None
) -> dict[str, Observable]:
    """The observables that are declared, or else some of the components of x (n, *x_shape)."""
    found = {} if physics is None else dict(declared.observables(physics))
    return found or _of_components(x) | (of_axes(law) if law and law.axes else {})


def of_axes(law: Law) -> dict[str, Observable]:
    """Mean and spread of each channel, and what neighbours along each axis have in common."""
    found = {}
    for c in range(min(law.x_shape[0], FEW_CHANNELS) if "channel" in law.axes else 0):
        for what, reduce in (("mean", np.mean), ("spread", np.std)):
            title = f"{what} of channel {c + 1}"
            found[f"{what}_{c + 1}"] = Observable(partial(of_channel, reduce, c), title=title)
    for axis in law.spatial:
        if law.x_shape[axis] > 1:
            found[f"neighbours_{axis + 1}"] = Observable(
                partial(neighbour_product, axis, law.axes[axis] == "periodic"),
                title=f"mean product of neighbours along axis {axis + 1}",
            )
    return found


def of_channel(reduce: Callable[..., Array], channel: int, x: Array) -> Array:
    """A mean or the like of a channel of x (n, channels, …), (n,)."""
    return reduce(x[:, channel].reshape(len(x), -1), axis=1, dtype=float)


def neighbour_product(axis: int, periodic: bool, x: Array) -> Array:
    """Mean product of neighbours of x (n, *x_shape) along an axis of x, (n,)."""
    x = np.moveaxis(np.asarray(x, dtype=float), 1 + axis, 1)
    after = np.roll(x, -1, 1) if periodic else x[:, 1:]
    return (x[:, : after.shape[1]] * after).reshape(len(x), -1).mean(1)


def _of_components(x: Array) -> dict[str, Observable]:
    """Sums, norms and zeros of x of which nothing is known."""

    def flat(x: Array) -> Array:
        return np.asarray(x, dtype=float).reshape(len(x), -1)

    found = {
        "mean": Observable(lambda x: flat(x).mean(1), title="mean of the components"),
        "norm": Observable(lambda x: np.linalg.norm(flat(x), axis=1), latex="|x|", title="norm"),
    }
    if x.min() >= 0:
        found["total"] = Observable(lambda x: flat(x).sum(1), title="sum of the components")
        found["sparsity"] = Observable(
            lambda x: (flat(x) == 0).mean(1), title="part of the components that are 0"
        )
    if x.ndim == 4:
        found["layer_sums"] = Observable(
            lambda x: x.sum((2, 3), dtype=float), title="sums along the first axis"
        )
        found["ring_sums"] = Observable(
            lambda x: x.sum((1, 2), dtype=float), title="sums along the last axis"
        )
    if x.ndim == 2 and x.shape[1] <= FEW_COMPONENTS:
        found["components"] = Observable(flat, latex="x_i", title="components")
    return found


def each_component(count: int, names: Sequence[str] = ()) -> dict[str, Observable]:
    """The components of a short vector x (n, count), one by one, by their names if any."""

    def component(i: int) -> Observable:
        title = names[i] if names else f"component {i + 1}"
        latex = "" if names else f"x_{{{i + 1}}}"
        return Observable(lambda x: x[:, i], latex=latex, title=title)

    return {names[i] if names else f"x{i + 1}": component(i) for i in range(count)}


def parts_of(physics: object | None, x_shape: tuple[int, ...]) -> list[slice]:
    """The components of a flat x that belong together, as declared or told by its shape.

    Of a grid with three axes the first says which, of a vector each component stands alone if they
    are few; all else is one.
    """
    if physics is not None and (found := declared.parts(physics)):
        return found
    size = int(np.prod(x_shape))
    width = size // x_shape[0] if len(x_shape) == 3 or size <= FEW_COMPONENTS else size
    return [slice(i, i + width) for i in range(0, size, width)]


def features_of(
    observables: Mapping[str, Observable],
    joint: Mapping[str, JointObservable],
    reference: Rows,
    generated: Rows,
) -> dict[str, Feature]:
    """What is measured of both samples.

    Args:
        observables: of x.
        joint: of θ and x together; none where the rows do not both have θ.
        reference: rows, with θ if there are joint quantities.
        generated: other rows.

    Raises:
        DataError: an observable that is not finite.
    """
    both = (reference, generated)
    found = {
        name: Feature(o, *(np.asarray(o(np.asarray(r.theta), r.x)) for r in both))
        for name, o in joint.items()
    }
    found |= {
        name: Feature(o, *(np.asarray(o(r.x)) for r in both)) for name, o in observables.items()
    }
    for name, feature in found.items():
        if not (np.isfinite(feature.reference).all() and np.isfinite(feature.generated).all()):
            raise DataError(f"compare: observable {name}: expected finite values, got others")
    return found


def columns(features: Mapping[str, Feature]) -> tuple[Array, Array]:
    """All features side by side: of the reference (n, d), and of the generated sample (m, d)."""
    return (
        np.column_stack([f.reference for f in features.values()]),
        np.column_stack([f.generated for f in features.values()]),
    )


def logged(a: Array, b: Array) -> tuple[Array, Array]:
    """Columns (n, d) and (m, d) on the scale log(1 + v/s), or as they are where one is below 0."""
    low = np.minimum(a.min(0), b.min(0)) >= 0
    if not low.any():
        return a, b
    scale = np.ones(a.shape[1], dtype=a.dtype)
    for i in np.flatnonzero(low):
        hits = a[a[:, i] > 0, i]
        scale[i] = np.quantile(hits, LOW) if len(hits) else 1
    if low.all():
        return np.log1p(a / scale), np.log1p(b / scale)
    x, y = (np.where(low, np.log1p(np.where(low, v, 0) / scale), v) for v in (a, b))
    return x, y


def rare_cells_summed(a: Array, b: Array) -> tuple[Array, Array]:
    """Cells (n, d) and (m, d) of x ≥ 0 with those that few rows hit summed with such beside them.

    A cell that one row in a hundred hits tells a classifier nothing by itself; a sum of some does.
    Sums end where a tenth of the rows would hit them. Only where there are many cells.
    """
    if a.shape[1] <= MANY_CELLS or min(a.min(), b.min()) < 0:
        return a, b
    hit = ((a > 0).sum(0) + (b > 0).sum(0)) / (len(a) + len(b))
    rare = hit < RARE
    group = np.cumsum(np.where(rare, hit, 0)) // RARE
    begins = np.diff(group, prepend=-1) > 0
    starts = np.flatnonzero(~rare | begins | np.r_[True, ~rare[:-1]])
    x, y = (np.add.reduceat(v, starts, axis=1) for v in (a, b))
    return x, y


def standardised(x: Array) -> Array:
    """Columns of x (n, d) of any size with mean 0 and variance 1; a constant column is 0."""
    off = x - x.mean(0)
    unit = np.maximum(off.max(0), -off.min(0))
    off /= np.where(unit > 0, unit, 1)  # squares of small numbers are none
    width = off.std(0)
    off /= np.where(width > 0, width, 1)
    return off

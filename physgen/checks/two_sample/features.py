r"""What is measured of two samples: observables, and the columns that a classifier sees.

The observables are the simulator's where it is known, those of a calorimeter's cells where the
file describes the cells, and else sums and norms of x. Where θ has ln E (of GeV) and x a total,
the part E_tot/E_inc of the energy that is found is one of them, though it is a function of (θ, x).

A classifier sees energies over many decades best on a logarithmic scale that has room for 0:
log(1 + v/s), s a low quantile of what is above 0 in the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from physgen.dataset import Rows
from physgen.errors import DataError, UsageError
from physgen.law import Law
from simulators.base import Array, Observable
from simulators.base import observables as declared

__all__ = ["Feature", "columns", "layers", "logged", "measured", "observables_of"]

IMPORTED = "calochallenge"
"""Name of the simulator of imported showers, whose law describes the cells."""
FEW = 100
"""Components of a vector x that are looked at one by one."""
LOW = 0.05


@dataclass(frozen=True)
class Feature:
    """A quantity of both samples.

    Attributes:
        observable: for its labels.
        reference: its values, (n,), or (n, k) of a curve.
        generated: its values, (m,) or (m, k).
    """

    observable: Observable
    reference: Array
    generated: Array

    @property
    def is_curve(self) -> bool:
        """Whether it is several numbers for each x."""
        return self.reference.ndim > 1


def observables_of(law: Law | None, trusted: str | None, x: Array) -> dict[str, Observable]:
    """The observables of x under a law.

    Args:
        law: what the file says; None in a foreign one.
        trusted: name of a simulator outside the registry that the caller vouches for.
        x: some rows, (n, *x_shape).

    Raises:
        DataError: a law that describes no cells where it should.
        UsageError: a trusted name that is not this law's simulator, or where there is no law.
    """
    if trusted and law is None:
        raise UsageError(f"simulator: expected a file that says it is of {trusted}, got none")
    simulator = law.build_if_known(trusted) if law else None
    if simulator:
        found = dict(declared(simulator))
    elif law and law.simulator == IMPORTED:
        found = _of_cells(law)
    else:
        found = {}
    return found or _of_components(x)


def _of_cells(law: Law) -> dict[str, Observable]:
    from simulators.shower.geometry import Geometry
    from simulators.shower.observables import of_cells

    try:
        geometry = Geometry.from_json(law.options["binning"])
    except (KeyError, ValueError) as error:
        raise DataError(f"metadata: {IMPORTED} without its cells: {error!r}") from error
    return of_cells(geometry, str(law.options.get("unit", "MeV")))


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
    if x.ndim == 2 and x.shape[1] <= FEW:
        found["components"] = Observable(flat, latex="x_i", title="components")
    return found


def layers(law: Law | None, x_shape: tuple[int, ...]) -> list[slice]:
    """The components of each layer in a flat x: of a grid, or each of few; else all as one."""
    if law and law.simulator == IMPORTED:
        from simulators.shower.geometry import Geometry

        return list(Geometry.from_json(law.options["binning"]).slices)
    size = int(np.prod(x_shape))
    width = size // x_shape[0] if len(x_shape) == 3 or size <= FEW else size
    return [slice(i, i + width) for i in range(0, size, width)]


def measured(
    observables: Mapping[str, Observable], reference: Rows, generated: Rows, law: Law | None
) -> dict[str, Feature]:
    """The observables of both samples, with E_tot/E_inc where θ has ln E.

    Raises:
        DataError: an observable that is not finite.
    """
    found = {
        name: Feature(o, np.asarray(o(reference.x)), np.asarray(o(generated.x)))
        for name, o in observables.items()
    }
    total = found.get("total_energy", found.get("total"))
    if law and "ln_E" in law.prior.names and total:
        column = law.prior.names.index("ln_E")
        pairs = ((total.reference, reference.theta), (total.generated, generated.theta))
        unit = 1000.0 if law.options.get("unit") == "MeV" else 1.0
        parts = [e / (unit * np.exp(t[:, column])) for e, t in pairs if t is not None]
        if len(parts) == 2:
            ratio = Observable(
                total.observable.function,
                latex=r"E_\mathrm{tot}/E_\mathrm{inc}",
                title="part of the energy that is found",
            )
            found = {"energy_ratio": Feature(ratio, *parts)} | found
    for name, feature in found.items():
        if not (np.isfinite(feature.reference).all() and np.isfinite(feature.generated).all()):
            raise DataError(f"compare: observable {name}: expected finite values, got others")
    return found


def columns(features: Mapping[str, Feature]) -> tuple[Array, Array]:
    """All features side by side, (n, d) and (m, d)."""
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
    x, y = (np.where(low, np.log1p(np.where(low, v, 0) / scale), v) for v in (a, b))
    return x, y

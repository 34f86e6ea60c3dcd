"""What a simulator is: a prior over named parameters θ and a law p(x|θ) to draw from.

Any class with `prior`, `x_shape` and `sample` is a simulator; nothing is inherited and nothing is
registered. What else it knows of itself it may declare by an attribute of the name below, and
the functions of this module are the one place where an absent declaration gets its default.

=================  ============================================  ======================
attribute          meaning                                       absent means
=================  ============================================  ======================
``support``        the values of x: one of :data:`SUPPORTS`, or  ``"reals"``
                   one for each column; see `columns`
``levels``         K, where support is levels: x is one of the   not for levels
                   integers 0 … K − 1 (2 to 32768)
``dtype``          type in which reals and nonnegative x are     told by the first rows:
                   kept: ``"float32"`` or ``"float64"``          float64 where float32
                                                                 would lose digits
``missing``        whether components of real or nonnegative x   no: NaN is a failure
                   may be NaN, missing
``axes``           what each axis of x is, a word each:          a matrix is a lattice
                   ``"channel"`` (only the first), ``"open"``    of one channel; a torus,
                   or ``"periodic"``                             if it has shifts, and so
                                                                 x of three axes with
                                                                 shifts; else a vector
``symmetries``     maps of x that leave p(x|θ) unchanged, out    none
                   of :data:`SYMMETRIES`
``observables``    name → :class:`Observable`                    none; the columns, where
                                                                 x has few, of several kinds
``joint``          name → :class:`JointObservable`: quantities   none
                   of θ and x together
``cell_bins``      edges in which its field compares all         it has none
                   components of x ≥ 0: :data:`Bins`
``parts``          slices of a flat x that belong together,      told by the shape of x
                   as the layers of a detector do
``log_prob``       exact log p(x|θ): ``(theta, x) -> (n,)``      no exact truth
``log_z``          log of what its unnormalised p(x|θ)           no exact log Z
                   is divided by: ``(theta) -> (n,)``
``tractable``      whether this configuration's ``log_prob``     true if it has one
                   can be evaluated
``responses``      :class:`Responses`: figures of many x at one  none
                   θ, such as a specific heat
``restoration``    p(x|θ, y) of a measurement y = Mx + σε:       no exact p(x|θ, y)
                   ``(theta, y, linear, noise)``, one θ (D,)
                   and one y, → :class:`Restoration`;
                   ValueError where that is not known
``score``          exact ∇ log p(y|θ) of y = x + τε:             no exact score
                   ``(theta, y, noise)``, τ a number or one for
                   each component, → (n, *x_shape); ValueError
                   where that is not known
``provenance``     how x is drawn, as JSON data, for the file    nothing to say
``shard_rows``     rows that are made in one go, and kept if     about 1 MiB of x
                   interrupted: few where a row takes long
``theta_names``    names of θ of a simulator without             it has a prior
                   ``prior``: the caller gives their laws
``verify``         ``(theta, x) -> list[Verdict]``: does the     nothing to verify
                   data follow the law?
``on``             ``(device) -> simulator`` that draws the      it draws on the CPU
                   same bytes there, ``"cuda"``
=================  ============================================  ======================

A row without x is NaN, or is told with its reason by :class:`RowsFailed`; if `sample` raises
something else, all rows are drawn again, one by one, to find those that raise it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from simulators.columns import MOST_LEVELS, SUPPORTS, Columns, Support
from simulators.prior import Prior

__all__ = [
    "AXES",
    "MOST_LEVELS",
    "SUPPORTS",
    "SYMMETRIES",
    "Array",
    "Axis",
    "Bins",
    "CannotRun",
    "Conditional",
    "Fixed",
    "JointObservable",
    "LogProb",
    "Observable",
    "Response",
    "Responses",
    "Restoration",
    "RowsFailed",
    "Simulator",
    "Support",
    "Symmetry",
    "Verdict",
]

Array = NDArray[Any]
Symmetry = Literal["shift", "reflect", "transpose", "flip"]
SYMMETRIES: tuple[Symmetry, ...] = get_args(Symmetry)
LEVEL = 1e-4
"""p-value below which a check of data fails."""
Axis = Literal["channel", "open", "periodic"]
AXES: tuple[Axis, ...] = get_args(Axis)
Conditional = Callable[[Array, Array], tuple[Array, Array]]
"""θ (n, D), values (n,) of another quantity → exact mean and standard deviation, (n,) each; NaN
where that quantity cannot have this value."""
Bins = Callable[[Array], list[Array]]
"""Values of a reference, (n,) or (n, k) → edges (bins + 1,) for each of the k numbers."""


@dataclass(frozen=True)
class Observable:
    """A physical quantity computed from x.

    Attributes:
        function: (n, *x_shape) → (n,), or (n, k) for a curve of k points.
        unit: unit as text; empty for a pure number.
        latex: symbol for plots, without dollar signs.
        title: a few words for a person.
        exact: θ (n, D) → its exact expectation given θ, (n,); None where there is none.
        bins: edges in which its field compares it; None where it has none of its own.
        given: name of another observable → the exact moments of this one given θ and a value of
            that: a :data:`Conditional` for each where they are known.
    """

    function: Callable[[Array], Array]
    unit: str = ""
    latex: str = ""
    title: str = ""
    exact: Callable[[Array], Array] | None = None
    bins: Bins | None = None
    given: Mapping[str, Conditional] = field(default_factory=dict)

    def __call__(self, x: Array) -> Array:
        """The quantity of each x (n, *x_shape), (n,) or (n, k)."""
        return self.function(x)


@dataclass(frozen=True)
class JointObservable:
    """A physical quantity computed from θ and x together.

    Attributes:
        function: θ (n, D), x (n, *x_shape) → (n,), or (n, k) for a curve of k points.
        unit: unit as text; empty for a pure number.
        latex: symbol for plots, without dollar signs.
        title: a few words for a person.
        bins: edges in which its field compares it; None where it has none of its own.
    """

    function: Callable[[Array, Array], Array]
    unit: str = ""
    latex: str = ""
    title: str = ""
    bins: Bins | None = None

    def __call__(self, theta: Array, x: Array) -> Array:
        """The quantity of each pair of θ (n, D) and x (n, *x_shape), (n,) or (n, k)."""
        return self.function(theta, x)


@dataclass(frozen=True)
class Response:
    """A figure of many x at one θ: a function of the means of some quantities of x.

    Attributes:
        function: θ (n, 1), means (n, k) → (n,).
        unit: unit as text; empty for a pure number.
        latex: symbol for plots, without dollar signs.
        title: a few words for a person.
        scaling: a, where figure × sizeᵃ depends on t × size alone near the critical point, t being
            the distance from it over the point itself; None where that is not so.
        limit: θ (n, 1) → the figure at infinite size, (n,); None where it is not known.
    """

    function: Callable[[Array, Array], Array]
    unit: str = ""
    latex: str = ""
    title: str = ""
    scaling: float | None = None
    limit: Callable[[Array], Array] | None = None


@dataclass(frozen=True)
class Responses:
    """Figures of many x at one θ, of a simulator with one parameter.

    Attributes:
        quantities: x (n, *x_shape) → (n, k), whose means they are functions of.
        figures: name → figure.
        size: L, the length of one side.
        coordinate: θ (n, 1) → what figures are drawn against, (n,), a monotone function.
        latex: its symbol.
        unit: its unit.
        critical: its value at the critical point of the infinite system; None without one.
        crossing: name of the figure whose curves of several sizes cross there; empty without one.
        moments: θ (n, 1) → exact means (n, k) and covariances (n, k, k) of the quantities, NaN
            where they are not known; None where none are.
    """

    quantities: Callable[[Array], Array]
    figures: Mapping[str, Response]
    size: float
    coordinate: Callable[[Array], Array]
    latex: str = ""
    unit: str = ""
    critical: float | None = None
    crossing: str = ""
    moments: Callable[[Array], tuple[Array, Array]] | None = None


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check of data against the law it claims to follow.

    Attributes:
        name: what was checked.
        passed: the outcome.
        p_value: probability of data at least as odd as these, if the law holds.
        detail: the figures in one line for a person.
    """

    name: str
    passed: bool
    p_value: float
    detail: str

    @classmethod
    def of(cls, name: str, p: float, detail: str) -> Verdict:
        """A test of a p-value, which fails below 1e-4."""
        return cls(name, bool(p >= LEVEL), float(min(p, 1.0)), detail)


class RowsFailed(Exception):
    """What `sample` raises where it has x of some rows only: none is drawn again for that.

    Args:
        x: of all rows, (n, *x_shape), any numbers where there is none.
        reasons: number of the row, 0 … n − 1 → why it has no x.

    Raises:
        ValueError: no such row, or none.
    """

    def __init__(self, x: Array, reasons: Mapping[int, str]) -> None:
        self.x, self.reasons = x, dict(reasons)
        super().__init__(f"{len(reasons)} of {len(x)} rows: {next(iter(reasons.values()), '')}")
        if not reasons or not set(reasons) <= set(range(len(x))):
            raise ValueError(f"reasons: expected rows 0 to {len(x) - 1}, got {list(reasons)}")

    @property
    def why(self) -> Array:
        """The reason of each row, (n,) text, empty where there is x."""
        why = np.full(len(self.x), "", dtype=object)
        for row, reason in self.reasons.items():
            why[row] = reason
        return why


class CannotRun(Exception):
    """What `sample` raises where no row can be made, whatever θ: all ends there, in one line."""


class Simulator(Protocol):
    """What every simulator has; see the head of this module for what it may have."""

    @property
    def prior(self) -> Prior:
        """Prior over θ, with D named parameters."""
        ...

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one x."""
        ...

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One x for each row of θ, (n, D) → (n, *x_shape); pure in θ and rng."""
        ...


class Restoration(Protocol):
    """The exact p(x|θ, y) of one θ and of one measurement y = Mx + σε."""

    @property
    def moments(self) -> tuple[Array, Array]:
        """Mean and standard deviation of each component of x, (*x_shape,) each."""
        ...

    @property
    def error(self) -> float:
        """Standard error of the mean; 0 where it is computed, not drawn."""
        ...

    @property
    def log_evidence(self) -> float | None:
        """log p(y|θ) in nats; None where it is not known."""
        ...

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Independent draws of x, (n, *x_shape)."""
        ...


LogProb = Callable[[Array, Array], Array]
Restorer = Callable[..., Restoration]
NoisedScore = Callable[[Array, Array, Array], Array]
FEW_COLUMNS = 12
OF_THETA = ("log_prob", "log_z", "restoration", "sample", "score", "verify")
"""What of a simulator takes θ before anything else."""


class Fixed:
    """A simulator some of whose parameters are fixed: θ is of the others alone.

    Args:
        simulator: of all parameters.
        prior: over the free ones, with the values of the others.
    """

    def __init__(self, simulator: Simulator, prior: Prior) -> None:
        self._simulator, self._complete = simulator, prior.complete
        self.prior = prior
        self.observables = {
            name: replace(
                o,
                exact=o.exact and self._of_theta(o.exact),
                given={other: self._of_theta(f) for other, f in o.given.items()},
            )
            for name, o in observables(simulator).items()
        }
        self.joint = {
            name: replace(o, function=self._of_theta(o.function))
            for name, o in joint_observables(simulator).items()
        }

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "mutual_information":  # it takes the whole prior
            raise AttributeError(name)
        found = getattr(self._simulator, name)
        return self._of_theta(found) if name in OF_THETA else found

    def on(self, device: str) -> Fixed:
        """The same, drawing on a device."""
        return Fixed(on_device(self._simulator, device), self.prior)

    def _of_theta(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda theta, *args, **given: function(self._complete(theta), *args, **given)


def x_shape(simulator: Simulator) -> tuple[int, ...]:
    """Shape of one x, of whole numbers or of one; that of its columns where these alone are told.

    Raises:
        ValueError: what is no shape, or not of as many components as columns.
    """
    columns = declared_columns(simulator)
    given: Any = getattr(simulator, "x_shape", None) or columns.size or simulator.x_shape
    shape = tuple(_whole("x_shape", n) for n in (given if np.ndim(given) else (given,)))
    columns.require_size(math.prod(shape))
    return shape


def _whole(name: str, value: Any) -> int:
    """A whole number, of any type.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer) or value % 1:
        raise ValueError(f"{name}: expected whole numbers, got {value!r}")
    return int(value)


def declared_columns(simulator: Simulator) -> Columns:
    """The values that each column of x can take, and what the columns are called.

    Raises:
        ValueError: a support that there is none.
    """
    return Columns.of(getattr(simulator, "support", "reals"))


def support(simulator: Simulator) -> Support:
    """The values that x can take as a whole."""
    return declared_columns(simulator).support


def column_supports(simulator: Simulator) -> tuple[str, ...]:
    """The support of each component, where they are of several kinds; else empty."""
    return declared_columns(simulator).mixed


def axes(simulator: Simulator) -> tuple[Axis, ...]:
    """What each axis of x is; empty where nothing is said of them."""
    return words_of_names(getattr(simulator, "axes", ()) or ())


def exact_log_z(simulator: Simulator) -> Callable[[Array], Array] | None:
    """log Z(θ) of a tractable simulator that has a partition function, else None."""
    return getattr(simulator, "log_z", None) if exact_log_prob(simulator) else None


def levels(simulator: Simulator) -> int:
    """K, where x is one of the integers 0 … K − 1; 0 where it is not."""
    columns = declared_columns(simulator)
    given = getattr(simulator, "levels", 0) if columns.support == "levels" else 0
    return columns.levels or _whole("levels", given)


def dtype(simulator: Simulator) -> Literal["float32", "float64"] | None:
    """The floating type in which x is to be kept, by name; None where the data are to say."""
    found: Any = getattr(simulator, "dtype", None)
    try:
        return found and np.dtype(found).name
    except TypeError:  # a `Law` refuses it
        return found


def missing(simulator: Simulator) -> bool:
    """Whether components of x may be NaN, missing."""
    return bool(getattr(simulator, "missing", False))


def symmetries(simulator: Simulator) -> tuple[Symmetry, ...]:
    """Maps of x that leave p(x|θ) unchanged; one may stand alone.

    Raises:
        TypeError: what are no names.
    """
    found: Any = getattr(simulator, "symmetries", ()) or ()
    if not isinstance(found, str | Iterable):
        raise TypeError(f"symmetries: expected names, as in ('flip',), got {found!r}")
    return words_of_names(found)


def words_of_names(given: str | Iterable[str]) -> tuple[Any, ...]:
    """Names as a tuple, of one, of text with commas or of several."""
    return tuple(given.replace(" ", "").split(",") if isinstance(given, str) else given)


def provenance(simulator: Simulator) -> Mapping[str, Any]:
    """How x is drawn, as JSON data."""
    return dict(getattr(simulator, "provenance", {}))


def shard_rows(simulator: Simulator) -> int | None:
    """How many rows are made in one go; None where their size is to say."""
    return getattr(simulator, "shard_rows", None)


def theta_names(simulator: object) -> tuple[str, ...]:
    """Names of the parameters of a simulator that has no prior of its own; empty of others."""
    return () if hasattr(simulator, "prior") else tuple(getattr(simulator, "theta_names", ()))


def observables(simulator: object) -> Mapping[str, Observable]:
    """Named observables; a bare function counts as one without unit and symbol.

    Raises:
        TypeError: observables that are not a mapping.
    """
    declared = getattr(simulator, "observables", None)
    if declared is None:
        return of_columns(Columns.of(getattr(simulator, "support", "reals")))
    if not isinstance(declared, Mapping):
        raise TypeError(
            "observables: expected a mapping of names to functions, as in {'mean': f}, "
            f"got {type(declared).__name__}"
        )
    return {
        name: f if isinstance(f, Observable) else Observable(f) for name, f in declared.items()
    }


def of_columns(columns: Columns) -> dict[str, Observable]:
    """Each column of mixed x as an observable, if they are few; none of other x."""
    if columns.support != "mixed" or columns.size > FEW_COLUMNS:
        return {}
    names = columns.names or [f"x{j}" for j in range(columns.size)]

    def column(j: int) -> Callable[[Array], Array]:
        return lambda x: np.asarray(x.reshape(len(x), -1)[:, j])

    return {name: Observable(column(j), title=name) for j, name in enumerate(names)}


def joint_observables(simulator: object) -> Mapping[str, JointObservable]:
    """Named quantities of θ and x together."""
    return dict(getattr(simulator, "joint", {}))


def responses(simulator: object) -> Responses | None:
    """Figures of many x at one θ, or None where none are declared."""
    return getattr(simulator, "responses", None)


def parts(simulator: object) -> list[slice]:
    """Slices of a flat x that belong together; empty where nothing is said of them."""
    return list(getattr(simulator, "parts", ()))


def cell_bins(simulator: object) -> Bins | None:
    """The bins in which its field compares the components of x ≥ 0, None where it has none."""
    return getattr(simulator, "cell_bins", None)


def labels(quantity: Observable | JointObservable | Response) -> dict[str, Any]:
    """What a quantity is called, as JSON data for tables and axes."""
    return {"title": quantity.title, "unit": quantity.unit, "latex": quantity.latex}


def exact_log_prob(simulator: Simulator) -> LogProb | None:
    """The exact log p(x|θ), or None where this simulator has none."""
    if not getattr(simulator, "tractable", True):
        return None
    return getattr(simulator, "log_prob", None)


def mutual_information(simulator: Simulator, prior: Prior) -> float | None:
    """I(θ; x) in nats under a prior, or None where it is not known."""
    found = getattr(simulator, "mutual_information", None)
    try:
        return None if found is None else float(found(prior))
    except ValueError:  # of this configuration it is not
        return None


def exact_restoration(simulator: Simulator) -> Restorer | None:
    """The exact p(x|θ, y) of measurements, or None where this simulator has none."""
    return getattr(simulator, "restoration", None)


def exact_score(simulator: Simulator) -> NoisedScore | None:
    """The exact score of x with white noise, or None where this simulator has none."""
    return getattr(simulator, "score", None)


def on_device(simulator: Simulator, device: str) -> Simulator:
    """A simulator that draws the same bytes on a device.

    Args:
        simulator: any.
        device: cpu or cuda.

    Raises:
        ValueError: it draws on the CPU only, with these options at least, or there is no GPU.
    """
    if device == "cpu":
        return simulator
    if not hasattr(simulator, "on"):
        raise ValueError(f"device {device}: it draws on the CPU only; leave out --device")
    return simulator.on(device)


def verifier(simulator: Simulator) -> Callable[[Array, Array], list[Verdict]] | None:
    """The check of data against the law, or None where this simulator has none."""
    return getattr(simulator, "verify", None)

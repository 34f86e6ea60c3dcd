"""A law p(x|θ) as data: what a dataset's rows follow and what a surrogate learns.

A dataset and a checkpoint carry a :class:`Law`, never code: the simulator's name and options, the
prior over θ, the shape and support of x, and the symmetries. With it the simulator can be built
again, for its exact truth and its observables, where it can be found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import simulators.base as declared
from physgen.errors import DataError, UsageError
from physgen.registry import COMMAND, find, name_of, registered
from physgen.runtime.kinds import as_json_data
from physgen.runtime.options import build, kept_options, options
from simulators.base import AXES, SUPPORTS, SYMMETRIES, Array, Axis, Simulator, Support, Symmetry
from simulators.columns import Columns, refuse_levels, supports_in_words
from simulators.prior import Box, Prior

if TYPE_CHECKING:
    from simulators.command import Command

__all__ = ["Law", "declarations", "require_prior"]

DECLARED = (
    "x_shape", "support", "symmetries", "levels", "dtype", "missing", "column_supports", "axes",
)  # fmt: skip
"""What a law keeps of what a simulator declares, besides its prior."""


def require_prior(prior: Any) -> None:
    """Refuse what is no `Prior`, or is a class of one's own, of which files would keep less.

    Raises:
        ValueError: something else, a class derived from Prior included.
    """
    if type(prior) not in (Prior, Box):
        raise ValueError(
            f"prior: expected a simulators.Prior or Box, got {type(prior).__name__}; files keep "
            "the law of each parameter, and nothing that a class adds to it"
        )


@dataclass(frozen=True)
class Law:
    """p(x|θ) of one configured simulator under one prior, as data.

    Attributes:
        simulator: name of the simulator, as the registry knows it.
        options: all its options as JSON data, defaults included.
        prior: prior over θ (the simulator's own, or one with other laws of some parameters).
        x_shape: shape of one x.
        support: the values that x can take.
        symmetries: maps of x that leave p(x|θ) unchanged.
        levels: K, where the support is levels, of integers 0 … K − 1; else 0.
        dtype: floating type in which reals, nonnegative and mixed x are kept.
        missing: whether components of x may be NaN, missing at random: p(x|θ) of such x is that of
            the others.
        column_supports: of mixed x that of each component: reals, nonnegative, counts or levels:K.
        axes: what each axis of x is: channel (the first alone), open or periodic; empty where it
            is as its rank tells.
    """

    simulator: str
    prior: Prior
    x_shape: tuple[int, ...]
    support: Support = "reals"
    symmetries: tuple[Symmetry, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    levels: int = 0
    dtype: Literal["float32", "float64"] = "float32"
    missing: bool = False
    column_supports: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a prior, support, levels or a symmetry that cannot be, and a shape that is none.

        Raises:
            ValueError: any of these.
        """
        require_prior(self.prior)
        if not self.x_shape or min(self.x_shape) < 1:
            raise ValueError(f"x_shape: expected positive sizes, got {self.x_shape}")
        self._refuse_support()
        self._refuse_geometry()
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype: expected float32 or float64, got {self.dtype!r}")
        if self.missing and self.support not in ("reals", "nonnegative"):
            kept = (
                "are kept as integers, which have no NaN" if self.discrete else "may not miss any"
            )
            raise ValueError(f"missing: {self.support} {kept}; expected reals or nonnegative x")

    def _refuse_support(self) -> None:
        """Refuse a support that there is none, or not of these components.

        Raises:
            ValueError: either.
        """
        if self.support not in SUPPORTS:
            raise ValueError(
                f"support: expected one of {', '.join(SUPPORTS)}, got {self.support!r}"
            )
        if self.support == "levels":
            refuse_levels(self.levels, self.levels)
        elif self.levels:
            raise ValueError(f"levels: not for {self.support} x, got {self.levels}")
        expected = self.size if self.support == "mixed" else 0
        if len(self.column_supports) != expected:
            raise ValueError(
                f"column_supports: expected {expected}, one of each component of mixed x, got "
                f"{len(self.column_supports)}"
            )
        if expected and Columns(self.column_supports).support != "mixed":
            raise ValueError("column_supports: expected several kinds; of one, declare that alone")

    def _refuse_geometry(self) -> None:
        """Refuse axes and symmetries that x does not have.

        Raises:
            ValueError: any of them.
        """
        if unknown := set(self.symmetries) - set(SYMMETRIES):
            raise ValueError(
                f"symmetries: expected some of {', '.join(SYMMETRIES)}, got {sorted(unknown)}"
            )
        if self.support == "mixed" and (self.symmetries or self.axes):
            raise ValueError(
                "support: columns of different kinds are no field: they have neither symmetries "
                "nor axes"
            )
        if "flip" in self.symmetries and self.support not in ("spins", "reals"):
            raise ValueError(
                f"symmetries: flip is a change of sign, which {self.support} x does not have"
            )
        if self.axes and (len(self.axes) != len(self.x_shape) or set(self.axes) - set(AXES)):
            raise ValueError(
                f"axes: expected {len(self.x_shape)} of {', '.join(AXES)}, for x of shape "
                f"{self.x_shape}, got {self.axes}"
            )
        if "channel" in self.axes[1:]:
            raise ValueError(f"axes: expected no channel but the first, got {self.axes}")
        if len(self.spatial) > 3:
            raise ValueError(f"axes: expected at most 3 besides channel, got {self.axes}")
        if "shift" in self.symmetries and not self.shifted:
            raise ValueError(f"symmetries: shift needs a periodic axis, got {self.axes}")
        alike = {(self.x_shape[i], self.geometry[i]) for i in self.spatial}
        if "transpose" in self.symmetries and (len(alike) != 1 or len(self.spatial) < 2):
            raise ValueError(
                f"symmetries: transpose needs a square x, its axes alike, got {self.x_shape}"
            )

    @property
    def size(self) -> int:
        """Number of components of one x."""
        return math.prod(self.x_shape)

    @property
    def component_supports(self) -> tuple[str, ...]:
        """The support of each component of flat x, levels with their number."""
        alone = f"levels:{self.levels}" if self.support == "levels" else self.support
        return self.column_supports or (alone,) * self.size

    @property
    def support_text(self) -> str:
        """The support in one word, or those of the columns, as in ``levels:2*5,reals*2``."""
        return supports_in_words(self.column_supports or self.component_supports[:1])

    @property
    def discrete(self) -> bool:
        """Whether all of x are integers, of which there is no density and no gradient."""
        return self.support in ("spins", "levels", "counts")

    def has_support(self, *kinds: Support) -> Array:
        """Which components of flat x are of some kinds, (size,) booleans."""
        if self.support != "mixed":
            return np.full(self.size, self.support in kinds)
        return np.array([kind.partition(":")[0] in kinds for kind in self.column_supports])

    @property
    def geometry(self) -> tuple[Axis, ...]:
        """What each axis of x is; empty of a vector, whose components have no order.

        Where `axes` do not say, a matrix is a lattice: a torus if shifts are symmetries, and so
        is x of three axes with them.
        """
        rank, shift = len(self.x_shape), "shift" in self.symmetries
        lattice = self.support != "mixed" and (rank == 2 or (rank == 3 and shift))
        if self.axes or not lattice:
            return self.axes
        return ("periodic" if shift else "open",) * rank

    @property
    def spatial(self) -> tuple[int, ...]:
        """The axes of x along which it has an order: none of a vector, and no channels."""
        return tuple(i for i, axis in enumerate(self.geometry) if axis != "channel")

    @property
    def shifted(self) -> tuple[int, ...]:
        """The axes of x along which shifts are symmetries."""
        if "shift" not in self.symmetries:
            return ()
        every = range(len(self.x_shape))
        return tuple(i for i in every if not self.geometry or self.geometry[i] == "periodic")

    @property
    def periodic(self) -> bool:
        """Whether x lives on a torus: shifts along all its axes are symmetries."""
        return bool(self.shifted) and not set(self.spatial) - set(self.shifted)

    @classmethod
    def of(
        cls,
        what: str | type[Simulator | Command] | Simulator | Command,
        options: Mapping[str, Any] | None = None,
        prior: Prior | Mapping[str, Any] | None = None,
    ) -> Law:
        """The law of a simulator.

        Args:
            what: a registered simulator, ``package.module:Class``, a class, or a simulator itself,
                whose options are read from its attributes.
            options: options of the simulator; defaults for the rest.
            prior: other laws for some of the parameters: bounds, distributions or values; or a
                prior over all of them.

        Raises:
            UsageError: an unknown name, option or parameter, or a value that is refused.
        """
        given = dict(options or {})
        name = what if isinstance(what, str) else name_of("simulators", class_of(what))
        if not isinstance(what, str | type):
            kept = kept_options(class_of(what), name, options_of(what))
            refuse_changed(what, cls._build(name, kept))
            given = kept | given
        kept = kept_options(find("simulators", name), name, given)
        simulator = cls._build(name, given)
        if is_dataclass(simulator):  # it may keep them in another form
            kept = kept_options(type(simulator), name, options_of(simulator))
        try:
            declared.observables(simulator)
            return cls(
                simulator=name,
                options=kept,
                prior=prior_under(simulator, prior),
                **declarations(simulator),
            )
        except (AttributeError, TypeError, ValueError) as error:
            raise UsageError(f"{name}: {error}") from error

    @staticmethod
    def _build(name: str, options: Mapping[str, Any]) -> Simulator:
        return build(find("simulators", name), name, options)

    def build(self) -> Simulator:
        """The simulator itself, for a caller who vouches for its name.

        What the prior fixes is no part of the θ that it takes.

        Raises:
            UsageError: a simulator that cannot be found or built.
        """
        made = self._build(self.simulator, self.options)
        return declared.Fixed(made, self.prior) if self.prior.fixed else made

    def build_if_known(self, trusted: str | None = None) -> Simulator | None:
        """The simulator itself, or None where it may not be imported.

        A law that was read from a file imports registered simulators only: a data file must not
        choose what code runs.

        Args:
            trusted: name of a simulator outside the registry that the caller vouches for; of an
                external program its command, as the law has it.

        Raises:
            UsageError: a trusted name that is not this law's simulator, or that cannot be built.
        """
        code = self.simulator
        if code == COMMAND:
            code = str(self.options.get("command"))
        module, _, name = code.partition(":")
        if trusted and module == "__main__" and trusted.partition(":")[2] == name:
            return replace(self, simulator=trusted).build()  # of a script, now in a module
        if trusted not in (None, code):
            raise UsageError(f"simulator: expected {code}, got {trusted}")
        known = trusted or registered("simulators", self.simulator)
        return self.build() if known else None

    def changed(self, options: Mapping[str, float]) -> Law:
        """The law of the same simulator with some options changed, under the same prior.

        Raises:
            UsageError: a simulator outside the registry, or an option that it refuses.
        """
        if not registered("simulators", self.simulator):
            raise UsageError(f"{self.simulator}: not registered, so its options cannot be changed")
        return replace(Law.of(self.simulator, {**self.options, **options}), prior=self.prior)

    def to_json(self) -> dict[str, Any]:
        """The law as JSON data; what few laws have, where this one has it."""
        try:
            prior = self.prior.to_json()
        except ValueError as error:
            raise UsageError(str(error)) from error
        data = vars(self) | {"prior": prior, "options": dict(self.options)}
        usual = {
            "levels": 0,
            "dtype": "float32",
            "missing": False,
            "column_supports": (),
            "axes": (),
        }
        return {k: v for k, v in data.items() if k not in usual or v != usual[k]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Law:
        """The law that `to_json` wrote.

        Raises:
            DataError: a field that is missing or is not what it must be.
        """
        try:
            return cls(
                simulator=str(data["simulator"]),
                options=dict(data["options"]),
                prior=Prior.from_json(data["prior"]),
                x_shape=tuple(int(n) for n in data["x_shape"]),
                support=data["support"],
                symmetries=tuple(data["symmetries"]),
                levels=int(data.get("levels", 0)),
                dtype=data.get("dtype", "float32"),
                missing=data.get("missing", False) is True,
                column_supports=tuple(data.get("column_supports", ())),
                axes=tuple(data.get("axes", ())),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"metadata: not a law of (theta, x): {error!r}") from error


def prior_under(simulator: Simulator, laws: Prior | Mapping[str, Any] | None) -> Prior:
    """The prior of a simulator with other laws of some parameters, or of all if it has names only.

    Raises:
        ValueError: a parameter that it does not have, one without a law, or what is no law.
    """
    names = declared.theta_names(simulator)
    if not names:
        require_prior(simulator.prior)
        return simulator.prior.with_laws(laws)
    given = laws if isinstance(laws, Mapping) else [p.name for p in laws.every] if laws else ()
    if missing := [name for name in names if name not in given]:
        raise ValueError(
            f"prior: no law of {', '.join(missing)}; give one, as in --prior {missing[0]}=0:1, or "
            f"a value, as in --fix {missing[0]}=1"
        )
    return Box(**dict.fromkeys(names, (0, 1))).with_laws(laws)


def declarations(simulator: Simulator) -> dict[str, Any]:
    """What a law keeps of what a simulator declares, besides its prior.

    Raises:
        ValueError: a declaration that is none.
    """
    found = {name: getattr(declared, name)(simulator) for name in DECLARED}
    return found | {"dtype": found["dtype"] or "float32"}


def class_of(what: type[Any] | object) -> type[Any]:
    """The class of a simulator.

    Raises:
        UsageError: something that is none.
    """
    cls = what if isinstance(what, type) else type(what)
    if not callable(getattr(cls, "sample", None)):
        raise UsageError(
            "simulator: expected a name, a class or an object with prior, x_shape and "
            f"sample(theta, rng), got {what!r}"
        )
    return cls


def refuse_changed(simulator: Simulator | Command, again: Simulator) -> None:
    """Refuse a simulator that its options do not make again, for its files would be of another.

    Args:
        simulator: what was given.
        again: what its options make.

    Raises:
        UsageError: they differ in an option or in what they declare.
    """
    told: dict[str, Callable[[Any], Any]] = {n: getattr(declared, n) for n in DECLARED}
    told["prior"] = lambda s: getattr(s, "prior", None)
    told |= {o.name: partial(option_of, name=o.name) for o in options(type(simulator))}
    for name, read in told.items():
        one, other = read(simulator), read(again)
        if one != other:
            raise UsageError(
                f"{type(simulator).__name__}: its {name} is {one!r}, and one that is built of its "
                f"options has {other!r}; make it an option that is kept as an attribute"
            )


def option_of(simulator: Simulator | Command, name: str) -> Any:
    """An option that a simulator keeps, as JSON data where they have it."""
    value = getattr(simulator, name, None)
    try:
        return as_json_data(value)
    except (TypeError, ValueError):
        return repr(value)


def options_of(simulator: Simulator | Command) -> dict[str, Any]:
    """The options that a simulator was made with, of its attributes.

    Raises:
        UsageError: one that it does not keep, so that it could not be built again.
    """
    names = [o.name for o in options(type(simulator))]
    if lost := [name for name in names if not hasattr(simulator, name)]:
        raise UsageError(
            f"{type(simulator).__name__}: its option {lost[0]!r} cannot be read from it; keep it "
            "as an attribute, as a dataclass does"
        )
    return {name: getattr(simulator, name) for name in names}

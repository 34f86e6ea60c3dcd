"""One parameter and its law: bounds, a distribution of `scipy.stats`, or a fixed value.

Coordinates, in which grids, chains and networks live, are explained in :mod:`simulators.prior`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["REACH", "Distribution", "Parameter", "Uniform", "law_of"]

Array = NDArray[Any]
LOGARITHMIC = ("loguniform", "reciprocal")
"""Laws that are uniform in the logarithm."""
LEAST, REACH = 2.0**-53, 8.0
"""What of [0, 1] is left out at its ends, and where the normal coordinates end."""
HALF_LOG_2PI = math.log(2 * math.pi) / 2


@runtime_checkable
class Distribution(Protocol):
    """A continuous law of one number, as the frozen distributions of `scipy.stats` are."""

    def cdf(self, x: Any, /) -> Any:
        """Probability of less than x (…), (…)."""
        ...

    def ppf(self, q: Any, /) -> Any:
        """Quantile of probability q (…), (…)."""
        ...

    def logpdf(self, x: Any, /) -> Any:
        """Log density at x (…), (…)."""
        ...


@dataclass(frozen=True)
class Uniform:
    """The uniform law between two bounds.

    Raises:
        ValueError: bounds that are not finite and ordered, or too far apart for a float64.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse what is no interval."""
        if not 0 < self.high - self.low < np.inf:
            raise ValueError(f"expected finite low < high, got {self.low}:{self.high}")

    def cdf(self, x: Any) -> Any:
        """Probability of less than x (…), (…)."""
        return ((x - self.low) / (self.high - self.low)).clip(0, 1)

    def sf(self, x: Any) -> Any:
        """Probability of more than x (…), (…)."""
        return ((self.high - x) / (self.high - self.low)).clip(0, 1)

    def ppf(self, q: Any) -> Any:
        """Quantile of probability q (…), (…)."""
        return self.low + (self.high - self.low) * q

    def isf(self, q: Any) -> Any:
        """Quantile of probability 1 − q (…), (…)."""
        return self.high - (self.high - self.low) * q

    def logpdf(self, x: Any) -> Any:
        """Log density at x (…), (…)."""
        inside = (x >= self.low) & (x <= self.high)
        return np.where(inside, -np.log(self.high - self.low), -np.inf)

    def support(self) -> tuple[float, float]:
        """The bounds."""
        return self.low, self.high


def law_of(value: Any) -> Distribution | float:
    """What was given for a parameter, as a law or as a fixed value.

    Args:
        value: (low, high); a frozen distribution of `scipy.stats`, its Normal, Uniform or
            Logistic, or an object with cdf, ppf and logpdf; a number, to fix it; or text, as on
            the command line: ``0.2:0.6``, ``loguniform:1e-3:1``, ``norm:0:0.1``,
            ``truncnorm:-2:2:loc=1``, ``0.5``.

    Raises:
        ValueError: none of these, or arguments that the distribution does not take.
    """
    if isinstance(value, str):
        value = _parsed(value)
    elif hasattr(value, "tolist"):
        value = value.tolist()
    elif hasattr(value, "icdf"):
        value = _frozen(value)
    if getattr(getattr(value, "dist", None), "name", "") == "uniform":
        value = value.support()
    if isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_number, value)):
        return Uniform(float(value[0]), float(value[1]))
    if _is_number(value):
        if not math.isfinite(value):
            raise ValueError(f"expected a finite value, got {value}")
        return float(value)
    if not isinstance(value, Distribution) or hasattr(value, "freeze"):
        raise ValueError(
            "expected (low, high), a number, or a frozen distribution of scipy.stats, such as "
            f"stats.norm(0, 1), got {value!r}"
        )
    with np.errstate(all="ignore"):
        inner = np.array([value.ppf(q) for q in (0.25, 0.5, 0.75)], dtype=float)
    if inner.shape != (3,) or not (np.isfinite(inner).all() and (np.diff(inner) > 0).all()):
        raise ValueError(
            "expected a continuous law of one number, with arguments within their range, "
            f"got quartiles {inner.tolist()}"
        )
    return value


def _frozen(law: Any) -> Any:
    """A distribution of scipy's newer kind, such as stats.Normal(mu=0), as a frozen one.

    Raises:
        ValueError: one that is not among those known.
    """
    from scipy import stats

    name = type(law).__name__
    if np.ndim(law.mean()):
        raise ValueError(f"expected a law of one number, got {law!r}")
    if name in ("Normal", "StandardNormal"):
        return stats.norm(float(law.mean()), float(law.standard_deviation()))
    if name == "Uniform":
        return tuple(float(end) for end in law.support())
    if name == "Logistic":
        return stats.logistic()
    raise ValueError(
        "of scipy's new distributions expected Normal, Uniform or Logistic, got "
        f"{name}; write a frozen one in small letters, such as stats.gamma(2)"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(
        value, bool
    )


def _of_scipy(name: str) -> Any:
    """A continuous distribution of scipy by its name; None where there is none."""
    if not name:
        return None
    from scipy import stats  # slow to import, and boxes need none of it

    found = getattr(stats, name, None)
    return found if isinstance(found, stats.rv_continuous) else None


def _parsed(text: str) -> Any:
    """The law that text tells.

    Raises:
        ValueError: no number, no distribution of scipy, or not its arguments.
    """
    name, *words = text.split(":")
    known = _of_scipy(name)
    if known is None:
        try:
            numbers = tuple(float(v) for v in (name, *words))
        except ValueError:
            numbers = ()
        if len(numbers) not in (1, 2):
            raise ValueError(
                "expected a number, low:high, or a distribution of scipy.stats with its "
                f"arguments, as in norm:0:1, got {text!r}"
            )
        return numbers if len(numbers) == 2 else numbers[0]
    pairs = [word.rpartition("=") for word in words]
    try:
        args = [float(v) for key, _, v in pairs if not key]
        return known(*args, **{key: float(v) for key, _, v in pairs if key})
    except (TypeError, ValueError) as error:
        shapes = [s for s in (known.shapes or "").split(", ") if s]
        raise ValueError(
            f"{name}: expected the numbers {':'.join([*shapes, 'loc', 'scale'])}, the last two "
            f"of which may be left out, got {':'.join(words) or 'none'}"
        ) from error


def _arguments(law: Distribution) -> dict[str, float] | None:
    """Arguments of a distribution of scipy by their names; None of another object."""
    dist: Any = getattr(law, "dist", None)
    if dist is None or type(_of_scipy(getattr(dist, "name", ""))) is not type(dist):
        return None
    names = [*(dist.shapes or "").replace(",", " ").split(), "loc", "scale"]
    frozen: Any = law
    given = dict(zip(names, frozen.args, strict=False)) | frozen.kwds
    found = {name: given.get(name, {"loc": 0.0, "scale": 1.0}.get(name)) for name in names}
    return {name: float(v) for name, v in found.items()}


def _shortest(value: float) -> str:
    """A number as text that is read as the same number."""
    text = f"{value:.12g}"
    return text if float(text) == value else repr(float(value))


def _named(law: Any) -> str:
    """A law in words, as on the command line."""
    if isinstance(law, Uniform):
        return f"{_shortest(law.low)}:{_shortest(law.high)}"
    known = _arguments(law)
    if known is None:
        return repr(law)
    values = list(known.values())
    while len(values) > len(known) - 2 and values[-1] == (len(values) == len(known)):
        values.pop()
    return ":".join([law.dist.name, *map(_shortest, values)])


@dataclass(frozen=True, eq=False)
class Parameter:
    """One parameter of a simulator and its law.

    Attributes:
        name: an identifier, as in ``--theta name=0.44``.
        law: its law, or the value at which it is fixed, in `unit`.
        unit: unit as text; empty for a pure number.
        latex: symbol for plots, without dollar signs; the name if empty.
    """

    name: str
    law: Distribution | float
    unit: str = ""
    latex: str = ""

    @classmethod
    def of(cls, name: str, given: Any) -> Parameter:
        """A parameter of what was given: a law, or (low, high, unit, latex), (law, unit, latex).

        Raises:
            ValueError: what is no law.
        """
        law, more = given, ()
        if isinstance(given, tuple | list) and any(isinstance(v, str) for v in given):
            split = next(i for i, v in enumerate(given) if isinstance(v, str) and i)
            law, more = given[0] if split == 1 else given[:split], tuple(given[split:])
        try:
            return cls(name, law_of(law), *more)
        except ValueError as error:
            raise ValueError(f"prior of {name}: {error}") from error

    @property
    def fixed(self) -> bool:
        """Whether it has one value."""
        return isinstance(self.law, float)

    @property
    def flat(self) -> bool:
        """Whether its law is uniform, in it or in its logarithm."""
        name = getattr(getattr(self.law, "dist", None), "name", "")
        return isinstance(self.law, Uniform) or name in LOGARITHMIC

    @property
    def low(self) -> float:
        """Least value, in `unit`; −∞ where there is none."""
        return self._support[0]

    @property
    def high(self) -> float:
        """Greatest value, in `unit`; ∞ where there is none."""
        return self._support[1]

    @property
    def _support(self) -> tuple[float, float]:
        if isinstance(self.law, float):
            return self.law, self.law
        found = self.law.support() if hasattr(self.law, "support") else self.law.ppf(np.r_[0, 1])
        return float(found[0]), float(found[1])

    def logpdf(self, theta: Array) -> Array:
        """Log density of its law at θ_d (…), (…); beside a pole that of the next number."""
        law: Any = self.law
        found = law.logpdf(theta)
        if not np.any(pole := np.isposinf(found)):
            return found
        beside = np.nextafter(theta, law.ppf(0.5))
        return np.where(pole, law.logpdf(np.where(pole, beside, theta)), found)

    def to_coordinate(self, theta: Array, flat: bool) -> Array:
        """θ_d (…) → its coordinate c (…), uniform on [−1, 1] if flat, else standard normal.

        Finite bounds, to which what lies next to them is rounded, are at c = ∓8.
        """
        law: Any = self.law
        if flat and isinstance(law, Uniform):
            return 2 * ((theta - law.low) / (law.high - law.low)) - 1
        below = law.cdf(theta)
        if flat:
            return 2 * below - 1
        from scipy.special import ndtri  # slow to import, and boxes need none of it

        above = law.sf(theta) if hasattr(law, "sf") else 1 - below
        c = np.where(below < 0.5, ndtri(below), -ndtri(above))
        bound = np.isfinite(theta) & ((theta == self.low) | (theta == self.high))
        return np.where(bound & np.isinf(c), np.copysign(REACH, c), c)

    def from_coordinate(self, c: Array, flat: bool) -> Array:
        """A coordinate c (…) → θ_d (…), within the bounds."""
        law: Any = self.law
        if flat and isinstance(law, Uniform):
            theta = law.low + (law.high - law.low) / 2 * (c + 1)
        elif flat:
            theta = law.ppf(((1 + c) / 2).clip(0, 1))
        else:
            from scipy.special import ndtr

            q = ndtr(-abs(c))
            above = law.isf(q) if hasattr(law, "isf") else law.ppf(1 - q)
            theta = np.where(c < 0, law.ppf(q), above)
        return theta.clip(self.low, self.high)

    def slope(self, c: Array, flat: bool) -> Array:
        """dθ_d/dc at coordinates c (…), (…)."""
        law: Any = self.law
        if flat and isinstance(law, Uniform):
            return np.full(np.shape(c), (law.high - law.low) / 2)
        density = -math.log(2) if flat else -0.5 * c**2 - HALF_LOG_2PI
        return np.exp(density - self.logpdf(self.from_coordinate(c, flat)))

    def quantile(self, u: Array) -> Array:
        """Uniform numbers u (…) in [0, 1] → θ_d (…), finite."""
        law: Any = self.law
        return law.ppf(u if isinstance(law, Uniform) else u.clip(LEAST, 1 - LEAST))

    @property
    def text(self) -> str:
        """Its law as text, as in ``--prior``: low:high, or norm:0:1."""
        return _shortest(self.law) if isinstance(self.law, float) else _named(self.law)

    @property
    def symbol(self) -> str:
        """The parameter as an axis label: symbol and unit."""
        return f"${self.latex or self.name}$" + (f" [{self.unit}]" if self.unit else "")

    def to_json(self) -> dict[str, Any]:
        """The parameter as data.

        Raises:
            ValueError: a law that is neither uniform nor of `scipy.stats`.
        """
        about: dict[str, Any] = {"name": self.name}
        if isinstance(self.law, float):
            about |= {"value": self.law}
        elif isinstance(self.law, Uniform):
            about |= vars(self.law)
        elif (arguments := _arguments(self.law)) is not None:
            law: Any = self.law
            about |= {"law": law.dist.name, "arguments": arguments}
        else:
            raise ValueError(
                f"prior of {self.name}: expected bounds or a distribution of scipy.stats, which "
                f"files hold by its name, got {self.law!r}, which lives in memory only"
            )
        return about | {"unit": self.unit, "latex": self.latex}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Parameter:
        """The parameter that `to_json` wrote.

        Raises:
            ValueError: a law that is not known.
        """
        if not isinstance(data, Mapping) or not isinstance(data["name"], str):
            raise TypeError(f"expected a parameter with a name, got {data!r}")
        name = data["name"]
        if "value" in data:
            law: Any = float(data["value"]) if _is_number(data["value"]) else None
        elif "law" in data:
            known = _of_scipy(str(data["law"]))
            if known is None:
                raise ValueError(f"prior of {name}: scipy has no distribution {data['law']!r}")
            law = known(**{str(k): float(v) for k, v in data["arguments"].items()})
        else:
            law = data["low"], data["high"]
        return cls(name, law_of(law), data.get("unit", ""), data.get("latex", ""))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parameter) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[Any, ...]:
        try:
            return tuple(str(v) for v in self.to_json().items())
        except ValueError:
            return self.name, id(self.law), self.unit, self.latex

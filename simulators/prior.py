r"""Priors: what is known of named parameters θ before x, and the one map of θ to plain numbers.

Each parameter follows a law of its own: uniform between bounds, any continuous distribution of
`scipy.stats`, or a fixed value. Laws may be correlated by a Gaussian copula: the normal scores
z_d = Φ⁻¹(F_d(θ_d)) are normal of that correlation (Nelsen, An Introduction to Copulas, 2006, ch. 2),
which for normal laws is the correlated normal law itself.

Grids, chains and networks see *coordinates* c of θ, each a monotone function of one parameter:

    c_d = 2 F_d(θ_d) − 1 ∈ [−1, 1]      of what is uniform in θ or in log θ and not correlated,
    c_d = Φ⁻¹(F_d(θ_d)) ∈ [−8, 8]       of all else,

so that a bound stays a bound, and a tail, which F squeezes into nothing, stays as wide as it is.
The map is made in float64 and from the nearer end, so that neither the size of θ nor the tail
matters. What lies beyond |c| = 8, 1e-15 of the prior, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr, ndtri

__all__ = ["REACH", "Box", "Distribution", "Parameter", "Prior", "Uniform", "law_of"]

Array = NDArray[Any]
REACH, BULK = 8.0, 2.5
"""Where the normal coordinates end, and where nearly all of them lie."""
LOGARITHMIC = ("loguniform", "reciprocal")
"""Laws that are uniform in the logarithm."""
LEAST = 2.0**-54
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
        value: (low, high); a frozen distribution of `scipy.stats`, or an object with its cdf, ppf
            and logpdf; a number, to fix it; or text, as on the command line: ``0.2:0.6``,
            ``loguniform:1e-3:1``, ``norm:0:0.1``, ``truncnorm:-2:2:loc=1``, ``0.5``.

    Raises:
        ValueError: none of these, or arguments that the distribution does not take.
    """
    if isinstance(value, str):
        value = _parsed(value)
    if getattr(getattr(value, "dist", None), "name", "") == "uniform":
        value = value.support()
    if isinstance(value, tuple | list) and len(value) == 2:
        return Uniform(*(float(v) for v in value))
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError(f"expected a finite value, got {value}")
        return float(value)
    if not isinstance(value, Distribution):
        raise ValueError(
            "expected (low, high), a number, or a frozen distribution of scipy.stats, such as "
            f"stats.norm(0, 1), got {value!r}"
        )
    with np.errstate(all="ignore"):
        inner = np.array([value.ppf(q) for q in (0.25, 0.5, 0.75)], dtype=float)
    if not (np.isfinite(inner).all() and inner[0] < inner[1] < inner[2]):
        raise ValueError(
            f"expected a continuous law with quartiles, got {inner} of {_named(value)}"
        )
    return value


def _parsed(text: str) -> Any:
    """The law that text tells.

    Raises:
        ValueError: no number, no distribution of scipy, or not its arguments.
    """
    name, *words = text.split(":")
    known = getattr(stats, name, None)
    if not isinstance(known, stats.rv_continuous):
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
    dist = getattr(law, "dist", None)
    known = getattr(stats, getattr(dist, "name", ""), None)
    if not isinstance(known, stats.rv_continuous) or type(known) is not type(dist):
        return None
    names = [*(dist.shapes or "").replace(",", " ").split(), "loc", "scale"]
    given = dict(zip(names, law.args, strict=False)) | law.kwds
    found = {name: given.get(name, {"loc": 0.0, "scale": 1.0}.get(name)) for name in names}
    return {name: float(v) for name, v in found.items()}


def _named(law: Distribution) -> str:
    """A law in words, as on the command line."""
    if isinstance(law, Uniform):
        return f"{law.low:.12g}:{law.high:.12g}"
    known = _arguments(law)
    if known is None:
        return repr(law)
    values = list(known.values())
    while len(values) > len(known) - 2 and values[-1] == (len(values) == len(known)):
        values.pop()
    return ":".join([law.dist.name, *(f"{v:.12g}" for v in values)])


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
        if isinstance(given, tuple | list) and len(given) and not isinstance(given[-1], str):
            law = given
        elif isinstance(given, tuple | list):
            split = next(i for i, v in enumerate(given) if isinstance(v, str))
            law, more = given[:split] if split == 2 else given[0], given[split:]
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

    @property
    def bounds(self) -> str:
        """Its law as text, as in ``--prior``: low:high, or norm:0:1."""
        return f"{self.law:.12g}" if isinstance(self.law, float) else _named(self.law)

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
            about |= {"law": self.law.dist.name, "arguments": arguments}
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
        name = data["name"]
        if "value" in data:
            law: Any = data["value"]
        elif "law" in data:
            known = getattr(stats, str(data["law"]), None)
            if not isinstance(known, stats.rv_continuous):
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


class Prior:
    r"""What is known of named parameters before x is seen.

    Each keyword is a parameter: bounds, a distribution of `scipy.stats` or a value, with a unit
    and a LaTeX symbol if wanted::

        Prior(beta=(0.1, 0.7, "1/J", r"\beta"), tau=stats.loguniform(1e-3, 1),
              h=(stats.norm(0, 0.1), "J"), t_up=1.0, correlation={("beta", "h"): 0.5})

    What is fixed is no part of θ: it has no column, and :meth:`complete` puts it back. An object
    of one's own with cdf, ppf and logpdf serves as a law too, in memory only.

    Args:
        correlation: of the normal scores of two parameters, −1 < r < 1; 0 for the rest.
        **parameters: in the order of θ's columns.

    Raises:
        ValueError: no free parameter, a law that is none, or a correlation that cannot be.
    """

    def __init__(
        self, correlation: Mapping[tuple[str, str], float] | None = None, /, **parameters: Any
    ) -> None:
        pairs = parameters.pop("correlation", None) or correlation or {}
        self._set([Parameter.of(name, given) for name, given in parameters.items()], pairs)

    def _set(
        self, every: Sequence[Parameter], correlation: Mapping[tuple[str, str], float]
    ) -> None:
        self.every = tuple(every)
        self.parameters = tuple(p for p in every if not p.fixed)
        if not self.parameters:
            raise ValueError("a prior needs at least one parameter, for example Box(beta=(0, 1))")
        self.correlation = {k: float(r) for k, r in correlation.items() if r != 0}
        self._matrix = np.eye(len(self))
        for pair, r in self.correlation.items():
            if len(set(pair)) != 2 or not set(pair) <= set(self.names):
                raise ValueError(
                    f"correlation: expected two of {', '.join(self.names)}, got {pair}"
                )
            i, j = (self.names.index(name) for name in pair)
            self._matrix[i, j] = self._matrix[j, i] = r
        try:
            self._root = np.linalg.cholesky(self._matrix)
        except np.linalg.LinAlgError:
            raise ValueError(
                f"correlation: no normal law has {self.correlation}: the matrix is not positive"
            ) from None
        tied = (self._matrix != 0).sum(0) > 1
        self._flat = np.array([p.flat for p in self.parameters]) & ~tied

    @classmethod
    def _of(
        cls, every: Sequence[Parameter], correlation: Mapping[tuple[str, str], float]
    ) -> Prior:
        made = Prior.__new__(Prior)
        made._set(every, correlation)
        return made

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of θ's columns."""
        return tuple(p.name for p in self.parameters)

    @property
    def fixed(self) -> dict[str, float]:
        """The values of those that are fixed."""
        return {p.name: p.law for p in self.every if isinstance(p.law, float)}

    @property
    def low(self) -> Array:
        """Least values, (D,); −∞ where there is none."""
        return np.array([p.low for p in self.parameters])

    @property
    def high(self) -> Array:
        """Greatest values, (D,); ∞ where there is none."""
        return np.array([p.high for p in self.parameters])

    @property
    def uniform(self) -> bool:
        """Whether it is uniform in θ."""
        return all(isinstance(p.law, Uniform) for p in self.parameters) and not self.correlation

    def __len__(self) -> int:
        return len(self.parameters)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Prior)
            and self.every == other.every
            and np.array_equal(self._matrix, other._matrix)
        )

    def __hash__(self) -> int:
        return hash(self.every)

    def __repr__(self) -> str:
        def told(p: Parameter) -> str:
            text = p.bounds
            return (
                f"{p.name}=({text.replace(':', ', ')})"
                if isinstance(p.law, Uniform)
                else (f"{p.name}={text}")
            )

        words = [told(p) for p in self.every]
        words += [f"correlation={self.correlation}"] if self.correlation else []
        return f"{'Box' if self.uniform and not self.fixed else 'Prior'}({', '.join(words)})"

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """N draws of θ, (n, D) float64."""
        return self.from_cube(rng.random((n, len(self))))

    def contains(self, theta: Array) -> NDArray[np.bool_]:
        """Whether each row of θ (…, D) lies within the bounds, (…,); NaN does not."""
        return np.all((theta >= self.low) & (theta <= self.high), axis=-1)

    def log_prob(self, theta: Array) -> Array:
        """Log prior density of θ (…, D), (…,); −∞ outside of the support."""
        theta = np.asarray(theta, dtype=np.float64)
        inside = self.contains(theta)
        each = [p.law.logpdf(theta[..., d]) for d, p in enumerate(self.parameters)]
        total = np.sum(each, axis=0)
        if self.correlation:
            z = self.to_coordinates(np.where(inside[..., None], theta, self.median))
            total = total + self._copula(z)
        return np.where(inside, total, -np.inf)

    @property
    def median(self) -> Array:
        """Median of each parameter, (D,)."""
        return self.from_coordinates(np.zeros(len(self)))

    @property
    def ends(self) -> Array:
        """Least and greatest coordinates, (2, D): ∓1, or ∓8 where the law has a normal one."""
        return np.where(self._flat, 1.0, REACH) * np.array([[-1.0], [1.0]])

    @property
    def flat(self) -> NDArray[np.bool_]:
        """Which coordinates the prior is uniform over, (D,); over the others it is normal."""
        return self._flat

    @property
    def affine(self) -> NDArray[np.bool_]:
        """Which coordinates are θ but for its unit and origin, (D,)."""
        return self._flat & [isinstance(p.law, Uniform) for p in self.parameters]

    @property
    def bulk(self) -> Array:
        """Finite θ between which nearly all of each parameter lies, (2, D): its bounds, if flat."""
        return self.from_coordinates(self.ends.clip(-BULK, BULK))

    def to_coordinates(self, theta: Array) -> Array:
        """θ (…, D) in its units → c (…, D) float64."""
        theta = np.asarray(theta, dtype=np.float64)
        every = zip(self.parameters, self._flat, np.moveaxis(theta, -1, 0), strict=True)
        return np.stack([_to_coordinate(p.law, flat, t) for p, flat, t in every], -1)

    def from_coordinates(self, c: Array) -> Array:
        """C between its ends, (…, D), → θ (…, D) float64, within the bounds."""
        columns = np.moveaxis(np.asarray(c, dtype=np.float64), -1, 0)
        return np.stack([self.column(d, one) for d, one in enumerate(columns)], -1)

    def column(self, d: int, c: Array) -> Array:
        """Coordinates c (…) of parameter d → θ_d (…)."""
        return _from_coordinate(self.parameters[d], bool(self._flat[d]), np.asarray(c))

    def slope(self, c: Array) -> Array:
        """How much θ changes with each coordinate at c (…, D), dθ/dc, (…, D)."""
        columns = np.moveaxis(np.asarray(c, dtype=np.float64), -1, 0)
        return np.stack([self.column_slope(d, one) for d, one in enumerate(columns)], -1)

    def column_slope(self, d: int, c: Array) -> Array:
        """dθ_d/dc at coordinates c (…) of parameter d, (…)."""
        p: Any = self.parameters[d]
        if self.affine[d]:
            return np.full(c.shape, (p.high - p.low) / 2)
        density = -np.log(2) if self._flat[d] else -0.5 * c**2 - HALF_LOG_2PI
        return np.exp(density - p.law.logpdf(self.column(d, c)))

    def log_density(self, c: Array) -> Array:
        """Log density of the prior over coordinates c (…, D), (…,); −∞ beyond their ends."""
        c = np.asarray(c, dtype=np.float64)
        each = np.where(self._flat, -np.log(2), -0.5 * c**2 - HALF_LOG_2PI)
        inside = (abs(c) <= self.ends[1]).all(-1)
        return np.where(inside, each.sum(-1) + self._copula(c), -np.inf)

    def from_cube(self, u: Array) -> Array:
        """Independent uniform numbers u in [0, 1], (…, D), → θ (…, D) that follow the prior."""
        u = np.asarray(u, dtype=np.float64)
        z = ndtri(u.clip(LEAST, 1 - LEAST)) @ self._root.T if self.correlation else None
        found = []
        for d, p in enumerate(self.parameters):
            tied = z is not None and np.count_nonzero(self._matrix[d]) > 1
            if tied:
                found.append(_from_coordinate(p, False, z[..., d]))
            elif isinstance(p.law, Uniform):
                found.append(p.law.ppf(u[..., d]))
            else:
                found.append(p.law.ppf(u[..., d].clip(LEAST, 1 - LEAST)))
        return np.stack(found, -1).clip(self.low, self.high)

    def complete(self, theta: Array) -> Array:
        """θ (…, D) with what is fixed in its place, (…, all parameters), as simulators take it."""
        theta = np.asarray(theta)
        columns = iter(np.moveaxis(theta, -1, 0))
        return np.stack(
            [np.full(theta.shape[:-1], p.law) if p.fixed else next(columns) for p in self.every],
            -1,
        )

    def within(self, other: Prior) -> bool:
        """Whether its support is a part of that of another prior over the same parameters."""
        return bool(np.all(self.low >= other.low) and np.all(self.high <= other.high))

    def replace(self, **laws: Any) -> Prior:
        """The same parameters with other laws, or values, of some of them.

        Raises:
            ValueError: a name that this prior does not have, or what is no law of it.
        """
        every = [p.name for p in self.every]
        if unknown := set(laws) - set(every):
            raise ValueError(
                f"prior: unknown {', '.join(sorted(unknown))}; has {', '.join(every)}"
            )
        return Prior._of(list(self._replaced(laws)), self.correlation)

    def _replaced(self, laws: Mapping[str, Any]) -> Iterator[Parameter]:
        tied = {name for pair in self.correlation for name in pair}
        for p in self.every:
            new = Parameter.of(p.name, laws[p.name]) if p.name in laws else p
            if new.fixed and p.name in tied:
                raise ValueError(f"prior: {p.name} is correlated, and cannot be fixed")
            yield Parameter(p.name, new.law, new.unit or p.unit, new.latex or p.latex)

    def _copula(self, z: Array) -> Array:
        """Log density of the copula at normal scores z (…, D), (…,)."""
        if not self.correlation:
            return np.zeros(z.shape[:-1])
        tied = np.where(self._flat, 0, z)
        white = np.linalg.solve(self._root, tied[..., None])[..., 0]
        return ((tied**2 - white**2).sum(-1)) / 2 - np.log(np.diag(self._root)).sum()

    def to_json(self) -> list[dict[str, Any]]:
        """The prior as data: one mapping a parameter.

        Raises:
            ValueError: a law that is neither uniform nor of `scipy.stats`.
        """
        found = [p.to_json() for p in self.every]
        for p in found:
            ties = {b: r for (a, b), r in self.correlation.items() if a == p["name"]}
            p |= {"correlation": ties} if ties else {}
        return found

    @classmethod
    def from_json(cls, data: Sequence[Mapping[str, Any]]) -> Prior:
        """The prior that `to_json` wrote.

        Raises:
            ValueError: a law that is not known.
        """
        ties = {(p["name"], b): r for p in data for b, r in p.get("correlation", {}).items()}
        return Prior._of([Parameter.from_json(p) for p in data], ties)


class Box(Prior):
    r"""Independent uniform prior over named parameters: `Prior` where all have bounds.

    Each keyword is a parameter: ``name=(low, high)``, with a unit and a LaTeX symbol if wanted::

        Box(beta=(0.1, 0.7, "1/J", r"\beta"), h=(0.0, 0.5))

    Raises:
        ValueError: no parameter, or bounds that are not finite and ordered.
    """

    def __init__(self, **bounds: tuple[Any, ...]) -> None:
        super().__init__(**bounds)
        if not self.uniform or self.fixed:
            raise ValueError(f"Box: expected bounds, as in beta=(0, 1), got {self}; see Prior")


def _to_coordinate(law: Any, flat: bool, theta: Array) -> Array:
    if flat and isinstance(law, Uniform):
        return 2 * ((theta - law.low) / (law.high - law.low)) - 1
    below = law.cdf(theta)
    if flat:
        return 2 * below - 1
    above = law.sf(theta) if hasattr(law, "sf") else 1 - below
    return np.where(below < 0.5, ndtri(below), -ndtri(above))


def _from_coordinate(p: Parameter, flat: bool, c: Array) -> Array:
    law: Any = p.law
    if flat and isinstance(law, Uniform):
        theta = law.low + (law.high - law.low) / 2 * (c + 1)
    elif flat:
        theta = law.ppf(((1 + c) / 2).clip(0, 1))
    else:
        above = law.isf if hasattr(law, "isf") else lambda q: law.ppf(1 - q)
        q = ndtr(-abs(c))
        theta = np.where(c < 0, law.ppf(q), above(q))
    return theta.clip(p.low, p.high)

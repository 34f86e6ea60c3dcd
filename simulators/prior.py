r"""Priors: what is known of named parameters θ before x, and the one map of θ to plain numbers.

Each parameter follows a law of its own: uniform between bounds, any continuous distribution of
`scipy.stats`, or a fixed value. Laws may be correlated by a Gaussian copula: the normal scores
z_d = Φ⁻¹(F_d(θ_d)) are normal of that correlation (Nelsen, An Introduction to Copulas, 2006,
ch. 2), which for normal laws is the correlated normal law itself.

Grids, chains and networks see *coordinates* c of θ, each a monotone function of one parameter:

    c_d = 2 F_d(θ_d) − 1 ∈ [−1, 1]      of what is uniform in θ or in log θ and not correlated,
    c_d = Φ⁻¹(F_d(θ_d)) ∈ [−8, 8]       of all else,

so that a bound stays a bound, and a tail, which F squeezes into nothing, stays as wide as it is.
The map is made in float64 and from the nearer end, so that neither the size of θ nor the tail
matters. What lies beyond |c| = 8, 1e-15 of the prior, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.parameter import HALF_LOG_2PI, LEAST, REACH, Array, Parameter, Uniform

__all__ = ["REACH", "Box", "Prior"]

BULK, BEYOND = 2.5, 38.0
"""Where nearly all of the normal coordinates lie, and beyond which float64 has no probability."""


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

    Attributes:
        parameters: that are free, in the order of θ's columns.
        every: these and the fixed ones.
        matrix: correlation of the normal scores, (D, D).
        flat: which coordinates it is uniform over, (D,); over the others it is normal.

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
        ties = dict(self._tie(pair, r) for pair, r in correlation.items())
        self.correlation = {pair: r for pair, r in ties.items() if r != 0}
        self.matrix = np.eye(len(self))
        for pair, r in self.correlation.items():
            i, j = (self.names.index(name) for name in pair)
            self.matrix[i, j] = self.matrix[j, i] = r
        try:
            self._root = np.linalg.cholesky(self.matrix)
        except np.linalg.LinAlgError:
            raise ValueError(
                f"correlation: no normal law has {self.correlation}: the matrix is not positive"
            ) from None
        self.flat = np.array([p.flat and p.name not in self.tied for p in self.parameters])

    def _tie(self, pair: tuple[str, str], r: float) -> tuple[tuple[str, str], float]:
        """A pair of names in the order of θ's columns, so that none is tied twice, and its r."""
        if len(pair) != 2 or len(set(pair)) != 2 or not set(pair) <= set(self.names):
            raise ValueError(
                f"correlation: expected two of {', '.join(self.names)}, got {':'.join(pair)}"
            )
        first, second = sorted(pair, key=self.names.index)
        return (first, second), float(r)

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
    def tied(self) -> set[str]:
        """Names of those that are correlated."""
        return {name for pair in self.correlation for name in pair}

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
            and np.array_equal(self.matrix, other.matrix)
        )

    def __hash__(self) -> int:
        return hash(self.every)

    def __repr__(self) -> str:
        def told(p: Parameter) -> str:
            pair = isinstance(p.law, Uniform)
            return f"{p.name}=({p.text.replace(':', ', ')})" if pair else f"{p.name}={p.text}"

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
        every = enumerate(self.parameters)
        total = np.sum([p.logpdf(theta[..., d]) for d, p in every], axis=0)
        if self.correlation:
            z = self.to_coordinates(np.where(inside[..., None], theta, self.median))
            total = total + self._copula(z.clip(-BEYOND, BEYOND))
        return np.where(inside, total, -np.inf)

    @property
    def median(self) -> Array:
        """Median of each parameter, (D,)."""
        return self.from_coordinates(np.zeros(len(self)))

    @property
    def ends(self) -> Array:
        """Least and greatest coordinates, (2, D): ∓1, or ∓8 where the law has a normal one."""
        return np.where(self.flat, 1.0, REACH) * np.array([[-1.0], [1.0]])

    @property
    def affine(self) -> NDArray[np.bool_]:
        """Which coordinates are θ but for its unit and origin, (D,)."""
        return self.flat & [isinstance(p.law, Uniform) for p in self.parameters]

    @property
    def bulk(self) -> Array:
        """Finite θ between which nearly all of each lies, (2, D): its bounds, where flat."""
        return self.from_coordinates(self.ends.clip(-BULK, BULK))

    def reaches(self, c: Array) -> NDArray[np.bool_]:
        """Whether coordinates c (…, D) lie between their ends, (…,); NaN do not."""
        return np.all(abs(c) <= self.ends[1], axis=-1)

    def to_coordinates(self, theta: Array) -> Array:
        """θ (…, D) in its units → c (…, D) float64."""
        theta = np.asarray(theta, dtype=np.float64)
        every = zip(self.parameters, self.flat, np.moveaxis(theta, -1, 0), strict=True)
        return np.stack([p.to_coordinate(t, bool(flat)) for p, flat, t in every], -1)

    def from_coordinates(self, c: Array) -> Array:
        """C between its ends, (…, D), → θ (…, D) float64, within the bounds."""
        columns = np.moveaxis(np.asarray(c, dtype=np.float64), -1, 0)
        return np.stack([self.column(d, one) for d, one in enumerate(columns)], -1)

    def column(self, d: int, c: Array) -> Array:
        """Coordinates c (…) of parameter d → θ_d (…)."""
        return self.parameters[d].from_coordinate(np.asarray(c), bool(self.flat[d]))

    def slope(self, c: Array) -> Array:
        """How much θ changes with each coordinate at c (…, D), dθ/dc, (…, D)."""
        columns = np.moveaxis(np.asarray(c, dtype=np.float64), -1, 0)
        return np.stack([self.column_slope(d, one) for d, one in enumerate(columns)], -1)

    def column_slope(self, d: int, c: Array) -> Array:
        """dθ_d/dc at coordinates c (…) of parameter d, (…)."""
        return self.parameters[d].slope(np.asarray(c), bool(self.flat[d]))

    def log_density(self, c: Array) -> Array:
        """Log density of the prior over coordinates c (…, D), (…,); −∞ beyond their ends."""
        c = np.asarray(c, dtype=np.float64)
        each = np.where(self.flat, -np.log(2), -0.5 * c**2 - HALF_LOG_2PI)
        return np.where(self.reaches(c), each.sum(-1) + self._copula(c), -np.inf)

    def from_cube(self, u: Array) -> Array:
        """Independent uniform numbers u in [0, 1], (…, D), → θ (…, D) that follow the prior."""
        u = np.asarray(u, dtype=np.float64)
        z = self._scores(u) if self.correlation else u
        found = [
            p.from_coordinate(z[..., d], False) if p.name in self.tied else p.quantile(u[..., d])
            for d, p in enumerate(self.parameters)
        ]
        return np.stack(found, -1).clip(self.low, self.high)

    def _scores(self, u: Array) -> Array:
        """Correlated normal scores of uniform numbers u (…, D), (…, D)."""
        from scipy.special import ndtri

        return ndtri(u.clip(LEAST, 1 - LEAST)) @ self._root.T

    def complete(self, theta: Array, names: Sequence[str] | None = None) -> Array:
        """θ with what is fixed put back.

        Args:
            theta: (…, D).
            names: the parameters to give, in their order; all, as a simulator takes them, if None.

        Returns:
            (…, parameters).
        """
        theta = np.asarray(theta)
        every = dict(zip(self.names, np.moveaxis(theta, -1, 0), strict=True))
        every |= {name: np.full(theta.shape[:-1], v) for name, v in self.fixed.items()}
        return np.stack([every[n] for n in names or [p.name for p in self.every]], -1)

    def within(self, other: Prior) -> bool:
        """Whether its support is a part of that of another prior over the same parameters."""
        return bool(np.all(self.low >= other.low) and np.all(self.high <= other.high))

    def with_laws(self, laws: Prior | Mapping[str, Any] | None) -> Prior:
        """This prior with the laws, or values, that are given for some parameters, or for all.

        Raises:
            ValueError: other parameters than this one's, or what is no law of them.
        """
        if not isinstance(laws, Prior):
            return self.replace(**dict(laws or {}))
        names, given = ([p.name for p in q.every] for q in (self, laws))
        if sorted(names) != sorted(given):
            raise ValueError(f"prior: expected {', '.join(names)}, got {', '.join(given)}")
        mine = Prior._of(self.every, {})
        return Prior._of(
            mine.replace(**{p.name: (p.law, p.unit, p.latex) for p in laws.every}).every,
            laws.correlation,
        )

    def correlate(self, pairs: Mapping[Any, float]) -> Prior:
        """The same laws with correlations of pairs of names, besides those that it has.

        Raises:
            ValueError: no pair of its parameters, or a correlation that cannot be.
        """
        return Prior._of(self.every, {**self.correlation, **pairs})

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
        for p in self.every:
            new = Parameter.of(p.name, laws[p.name]) if p.name in laws else p
            if new.fixed and p.name in self.tied:
                raise ValueError(f"prior: {p.name} is correlated, and cannot be fixed")
            yield Parameter(p.name, new.law, new.unit or p.unit, new.latex or p.latex)

    def _copula(self, z: Array) -> Array:
        """Log density of the copula at normal scores z (…, D), (…,)."""
        if not self.correlation:
            return np.zeros(z.shape[:-1])
        tied = np.where(self.flat, 0, z)
        white = np.linalg.solve(self._root, tied[..., None])[..., 0]
        return ((tied**2 - white**2).sum(-1)) / 2 - np.log(np.diag(self._root)).sum()

    @staticmethod
    def words(laws: Prior | Mapping[str, Any] | None) -> dict[str, str]:
        """Laws of some parameters as the command line spells them.

        Raises:
            ValueError: what is no law.
        """
        if isinstance(laws, Prior):
            return {p.name: p.text for p in laws.every}
        return {name: Parameter.of(name, law).text for name, law in (laws or {}).items()}

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
        every = [Parameter.from_json(p) for p in data]
        ties = {(p["name"], b): r for p in data for b, r in p.get("correlation", {}).items()}
        return Prior._of(every, ties)


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

"""Posteriors as `physgen.infer` returns them: draws, moments, what is known of their making."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from physgen.dataset import Rows, read_arrays, write_arrays
from physgen.errors import UsageError, as_written
from physgen.law import Law
from physgen.posterior.base import Draws, Posterior
from physgen.posterior.blocks import Block, mixture
from physgen.posterior.density import GridPosterior, kept_density
from physgen.posterior.methods import Inference, InferenceOptions, Source
from physgen.posterior.profiles import Curve, best_point, profile_of, slice_of
from physgen.posterior.warnings import (
    contradictions,
    domain_warnings,
    posterior_warnings,
    training_warnings,
)
from physgen.priors import parameters_in
from physgen.reporting.quantities import digits_beside
from physgen.reporting.view import some_observations
from physgen.sbi.networks import Network
from simulators.base import Array
from simulators.prior import Prior

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from physgen.reporting.sheet import Sheet

__all__ = ["InferredPosterior"]

CURVES = 6
"""Observations whose profiles and slices are kept with them, at most."""
LogDensity = Callable[[Array], Array]


@dataclass(frozen=True, repr=False)
class InferredPosterior:
    """p(θ|x) of n observations: what a posterior file holds, and the density itself.

    Attributes:
        arrays: as in the file, the observation first: theta (n, k, D), log_prob (n, k), mean and
            sd (n, D), and what else the method says; of the P parameters of interest log
            likelihoods less their greatest, profile and slice, at along, (n, P, m) each.
        about: what the file says of itself: method, units, law, seed, likelihood, warnings.
        posterior: normalised on a grid, or known by its draws.
        bootstrap: posteriors that are off as an estimated log Z may be; else the posterior itself.
        network: what was trained or used, if anything; `infer` takes it in place of a surrogate.
        path: its file; None in memory.
        summary: what to tell a person.
    """

    arrays: Mapping[str, Array]
    about: Mapping[str, Any]
    posterior: Posterior
    bootstrap: list[Posterior]
    network: Network | None = None
    path: Path | None = None
    summary: str = field(default="")

    @classmethod
    def of(
        cls, source: Source, inference: Inference, found: Block, rows: Rows, x: Array
    ) -> InferredPosterior:
        """Draws and moments of posteriors, with what speaks against them.

        Args:
            source: what was inferred with.
            inference: what it was made into.
            found: the posteriors.
            rows: the observations, as they came.
            x: the same as they were looked at, (n, *x_shape).
        """
        options = inference.options
        arrays = arrays_of(found, inference.likelihood) | true_of(rows, options)
        told = {**found.told, "sd": found.arrays["sd"]}
        model = inference.network or source.surrogate
        warnings = [
            *domain_warnings(source.law, rows, options.iid),
            *contradictions(model, rows.x),
            *posterior_warnings(
                arrays["theta"], told, options.prior, options.method, source.law.prior
            ),
            *(training_warnings(model.info) if model else ()),
        ]
        arrays |= found.grids
        about = about_of(source, inference, found) | {"warnings": warnings}
        density = density_of(inference, x, found.told)
        return cls(arrays, about, *known_as(arrays, about, density), inference.network)

    @classmethod
    def load(cls, path: str | Path) -> InferredPosterior:
        """Read what `save` wrote: draws and moments, and the density, if it was on a small grid.

        Raises:
            DataError: a file that is damaged, or no posterior.
            StorageError: the file cannot be opened.
        """
        arrays, about = read_arrays(path, "posterior")
        with as_written(path):
            known = known_as(arrays, about, NotKept(str(path), str(about["method"])))
            found = cls(arrays, about, *known, path=Path(path))
            return replace(found, summary=f"{path}: {repr(found)[1:-1]}")

    @property
    def method(self) -> str:
        """How it was made."""
        return str(self.about["method"])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of θ's columns."""
        return tuple(self.about["parameters"])

    @property
    def warnings(self) -> list[str]:
        """What speaks against it, a line each; empty if nothing does."""
        return list(self.about["warnings"])

    @property
    def theta(self) -> Array:
        """The draws that its file holds, (n, k, D)."""
        return self.arrays["theta"]

    @property
    def mean(self) -> Array:
        """E[θ|x], (n, D)."""
        return self.arrays["mean"]

    @property
    def sd(self) -> Array:
        """Standard deviation of each parameter, (n, D)."""
        return self.arrays["sd"]

    def __len__(self) -> int:
        return len(self.mean)

    def interval(self, level: float) -> Array:
        """Central credible interval of each marginal: lower and upper ends, (n, 2, D).

        Raises:
            UsageError: a level that is no part of the mass, as in 0.9.
        """
        if not 0 < level < 1:
            raise UsageError(f"interval: expected a level between 0 and 1, got {level!r}")
        return self.posterior.interval(level)

    def log_prob(self, theta: Array) -> Array:
        """log p(θ|x) of k points for each observation, (n, k, D) → (n, k).

        It is normalised on a grid; of chains it lacks a constant of each observation.

        Raises:
            UsageError: a posterior from a file that does not keep its density.
        """
        return self.posterior.log_prob(np.asarray(theta))

    def sample(self, k: int = 1000, rng: np.random.Generator | int | None = None) -> Array:
        """Draws of θ, k for each observation: (n, k, D).

        Args:
            k: how many.
            rng: random numbers, or a seed; fresh ones if None.
        """
        return mixture(self.bootstrap, k, np.random.default_rng(rng))

    def profile(self, name: str, *, points: int = 41, prior: bool = False) -> Curve:
        """The greatest likelihood at each value of a parameter, over all others.

        Of a network that has learnt p(θ|x) it is that less the prior, and worth little where the
        prior is thin.

        Args:
            name: of the parameter.
            points: number of values.
            prior: whether of the density of the posterior, in the units of θ, instead.

        Raises:
            UsageError: no such parameter, or a method that knows no density.
        """
        if curve := self._kept_curve("profile", name, prior):
            return curve
        log_density, known, d = self._curve(name, prior)
        return profile_of(log_density, known, self.theta, d, points)

    def slice(
        self,
        name: str,
        *,
        at: Mapping[str, float] | None = None,
        points: int = 41,
        prior: bool = False,
    ) -> Curve:
        """The likelihood along one parameter, where the others stand still.

        Args:
            name: of the parameter.
            at: values of others; those of the best point for the rest.
            points: number of values.
            prior: whether of the density of the posterior, in the units of θ, instead.

        Raises:
            UsageError: no such parameter, or a method that knows no density.
        """
        if name in (at or {}):
            raise UsageError(f"slice: at: {name} is what varies; give values of others only")
        if at is None and (curve := self._kept_curve("slice", name, prior)):
            return curve
        log_density, known, d = self._curve(name, prior)
        point = best_point(log_density, known, self.theta)
        for other, value in (at or {}).items():
            point[:, column_of(self.names, other)] = value
        if not known.contains(point).all():
            raise UsageError(f"slice: expected values inside {known}, got {dict(at or {})}")
        return slice_of(log_density, known, self.theta, d, point, points)

    @property
    def _has_density(self) -> bool:
        """Whether the density of θ is known: by its method, and by its file if it is of one."""
        if self._of_file_alone:
            return False
        return not np.isnan(self.log_prob(self.theta[:, :1])).all()

    @property
    def _of_file_alone(self) -> bool:
        """Whether it is of a file that does not keep its density."""
        return isinstance(getattr(self.posterior, "log_density", None), NotKept)

    def _kept_curve(self, kind: str, name: str, prior: bool) -> Curve | None:
        """A profile or slice of the likelihood that a file keeps; of the others it has no point.

        None where there is none, or where it can be computed.
        """
        if prior or not self._of_file_alone or not {kind, "along"} <= set(self.arrays):
            return None
        if name not in self.interest:
            return None
        i = self.interest.index(name)
        along, value = self.arrays["along"][:, i], self.arrays[kind][:, i]
        points = np.full((*along.shape, len(self.names)), np.nan)
        points[..., column_of(self.names, name)] = along
        return Curve(along, value, points)

    def _curve(self, name: str, prior: bool) -> tuple[Callable[[Array], Array], Prior, int]:
        """A log density of θ, the prior that it is inside of, and a parameter's column."""
        known, d = Law.from_json(self.about["law"]).prior, column_of(self.names, name)
        if not self._has_density:
            self.log_prob(self.theta[:, :1])  # says what a file lacks
            raise UsageError(f"{self.method}: knows no density, so no profile and no slice")

        def log_density(theta: Array) -> Array:
            return self.log_prob(theta) - (0 if prior else known.log_prob(theta))

        return log_density, known, d

    def save(self, path: str | Path, *, force: bool = False) -> InferredPosterior:
        """Write it as an HDF5 file.

        Raises:
            StorageError: the file system refused.
            UsageError: the output exists.
        """
        path = Path(path).expanduser()
        write_arrays(path, self.arrays, self.about, kind="posterior", force=force)
        text = self.summary.removeprefix(f"{path}: ")
        return replace(self, path=path, summary=f"{path}: {text}")

    @property
    def report_data(self) -> dict[str, Any]:
        """What a page shows of it."""
        grid = self.posterior if isinstance(self.posterior, GridPosterior) else None
        about = {"schema": "physgen/posterior/1", **self.about}
        return {**about, "arrays": dict(self.arrays), "density": grid}

    def plot(self, row: int = 0) -> Figure:
        """Marginals and pairs of parameters of one observation.

        Raises:
            UsageError: matplotlib is not installed.
        """
        shown = some_observations(self.report_data, slice(row, row + 1))
        return self._sheet(shown).plots["corners"][0].figure()

    def _repr_html_(self) -> str:
        from physgen.reporting import framed

        return framed(self._sheet(self.report_data).html())

    def _sheet(self, shown: Mapping[str, Any]) -> Sheet:
        """The page of it, or of a part of it."""
        from physgen.reporting import ink

        with ink():
            from physgen.reporting.posterior import posterior_sheet

        return posterior_sheet(shown)

    @property
    def interest(self) -> list[str]:
        """Names of the parameters that it is shown of; all if nothing was said."""
        return list(self.about.get("interest") or self.names)

    def concerning(self, interest: str) -> InferredPosterior:
        """The same with parameters of interest, and profiles and slices of few observations.

        Args:
            interest: their names, as in ``beta,h``.

        Raises:
            UsageError: no such parameters.
        """
        names = parameters_in(interest, self.names)
        found = replace(self, about={**self.about, "interest": names})
        if len(self) > CURVES or not self._has_density:
            return found
        pairs = [(self.profile(name), self.slice(name)) for name in names]
        curves = {
            "along": np.stack([p.theta for p, _ in pairs], 1),
            "profile": np.stack([p.log_density for p, _ in pairs], 1),
            "slice": np.stack([s.log_density for _, s in pairs], 1),
        }
        return replace(found, arrays={**self.arrays, **curves})

    @property
    def first(self) -> str:
        """Mean ± width of parameters of the first observation, in words."""
        each = zip(self.names, self.mean[0], self.sd[0], strict=True)
        return ", ".join(
            f"{name} = {m:.{digits_beside(m, s, 4)}g} ± {s:.2g}"
            for name, m, s in each
            if name in self.interest
        )

    def __repr__(self) -> str:
        count = f"{len(self)} observation" + "s" * (len(self) != 1)
        return f"<Posterior of {count} by {self.method}; the first: {self.first}>"


@dataclass(frozen=True)
class NotKept:
    """The log density of a posterior whose file does not keep it.

    Attributes:
        path: the file.
        method: how the posterior was made.
    """

    path: str
    method: str

    def __call__(self, theta: Array) -> Array:
        """Say so, of θ (n, k, D).

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"{self.path}: keeps draws of {self.method}, not their density; call physgen.infer "
            "again, and use what it returns"
        )


def known_as(
    arrays: Mapping[str, Array], about: Mapping[str, Any], density: Callable[[Array], Array]
) -> tuple[Posterior, list[Posterior]]:
    """Posteriors by what a file holds of them, and where more draws come from.

    Args:
        arrays: of the file, (n, …) each.
        about: what it says of itself.
        density: of θ (n, k, D), (n, k), where the file has no grid.

    Raises:
        ValueError: arrays that do not fit together.
    """
    theta, count = arrays["theta"], int(about.get("chains", 1))
    draws = Draws(theta.reshape(len(theta), count, -1, theta.shape[-1]), density)
    grid = kept_density(arrays, about)
    known: Posterior = draws if grid is None else grid
    off = "mean_error" in arrays and (arrays["mean_error"] > 0).any()
    return known, [draws if off else known]


def density_of(inference: Inference, x: Array, told: Mapping[str, Array]) -> LogDensity:
    """log p(θ|x) of rows x (n, *x_shape), θ (n, k, D) → (n, k), as the model has it.

    It is normalised where the method has found by what.
    """
    joint, least = inference.log_joint(x), told.get("log_evidence", np.zeros(1))
    return lambda theta: joint(theta) - least[:, None]


def column_of(names: Sequence[str], name: str) -> int:
    """Which column of θ a parameter is.

    Raises:
        UsageError: none.
    """
    if name not in names:
        raise UsageError(f"expected one of {', '.join(names)}, got {name!r}")
    return list(names).index(name)


def arrays_of(found: Block, likelihood: str) -> dict[str, Array]:
    """What a posterior file holds of n observations: theta (n, k, D), mean (n, D) and so on."""
    told = {k: v for k, v in found.told.items() if v.dtype.kind == "f"}
    if not likelihood:
        told.pop("log_evidence", None)
    every = {**found.arrays, **told}
    return {name: values for name, values in every.items() if not np.isnan(values).all()}


def true_of(rows: Rows, options: InferenceOptions) -> dict[str, Array]:
    """What observations were drawn at, (n, D), under "true"; nothing if that is not known."""
    theta, meta, names = rows.theta, rows.meta, options.prior.names
    if theta is None or meta is None or not set(names) <= set(meta.law.prior.names):
        return {}
    theta = theta[:, [meta.law.prior.names.index(name) for name in names]]
    if not options.iid:
        return {"true": theta}
    return {"true": theta[:1]} if (theta == theta[0]).all() else {}


def about_of(source: Source, inference: Inference, found: Block) -> dict[str, Any]:
    """What a posterior file says of itself, as JSON data."""
    options, told = inference.options, found.told
    prior = options.prior
    return {
        "method": options.method,
        "parameters": list(prior.names),
        "units": [p.unit for p in prior.parameters],
        "latex": [p.latex or p.name for p in prior.parameters],
        "law": replace(source.law, prior=prior).to_json(),
        "likelihood": inference.likelihood,
        "resolved": bool(np.all(told.get("resolved", True))),
        "normalised": not {"log_evidence", "leak"}.isdisjoint(told),
        "chains": found.chains,
        "iid": options.iid,
        "seed": options.seed,
        "draws": options.draws,
        **inference.info,
    }

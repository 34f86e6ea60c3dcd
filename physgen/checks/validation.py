"""Validate a surrogate on held-out (θ, x): every figure of the report, with its floor or its null.

Each section answers one question, and is null where it cannot be asked:

================  ==============================================================================
``nll``           how far is log p(x|θ) from the exact one, per row and paired?
``posterior``     how far is p(θ|x) from the exact one, for one x and for sets of ten?
``score``         is the learnt ∇ log p of noised x the exact one, by noise level?
``partition``     log Z(θ) beside the exact one, where the family has one
``observables``   do physical quantities of drawn x follow their distribution? Where none are
                  declared, the components if they are few, else sums and norms
``curves``        do their means follow θ, and the exact expectation?
``fans``          curves of x against each parameter, x and drawn x
``pairs``         the same of few components, two by two
``two_sample``    can a classifier or a kernel tell drawn x from true x?
``sweep``         how do they depend on sampler and steps? (on request)
``gallery``       x and drawn x side by side
``latents``       x as one latent varies
``filters``       weights that can be looked at
================  ==============================================================================

The answer is plain JSON data: numbers that do not exist are null.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from physgen.checks.estimate import bins, estimate, evenly_ranked
from physgen.checks.exact.agreement import Agreement, agreement
from physgen.checks.exact.gap import log_mass, never_above, paired
from physgen.checks.exact.log_z import log_z_section
from physgen.checks.exact.score import score_section
from physgen.checks.samples import (
    curves_section,
    drawn_x,
    filters_section,
    gallery_section,
    latents_section,
    observables_section,
    scalars,
    scalars_of_x,
    sweep_section,
    two_sample_section,
)
from physgen.checks.timing import Sections
from physgen.checks.vectors import fans_section, pairs_section
from physgen.errors import UsageError
from physgen.posterior.grid import (
    NODES,
    GridPosterior,
    LogLikelihood,
    grid_posterior,
    iid_sets,
    of_exact,
    of_surrogate,
)
from physgen.posterior.smc import smc
from physgen.reporting.view import SHORT_VECTOR
from physgen.runtime.blocks import all_blocks
from physgen.runtime.engine import Engine
from physgen.surrogates.base import Likelihood, Surrogate
from simulators.base import Array, LogProb, Simulator, exact_log_prob

__all__ = ["VALIDATION_SECTIONS", "validation"]

SET, BY_DRAWS = 10, 10
"""Independent x that one set holds, and rows whose posteriors are compared by draws, at most."""
NLL_DRAWS = 100_000
"""Rows × draws of log p in the NLL at most; being paired, its gap needs few rows."""
EXAMPLES, THETA_BINS, PARAMETERS = 4, 8, 3
SCORED, COMPARED, DRAWN = 2**14, 25, 2
"""Rows × draws of log p, observations whose posteriors are compared on the grid, and such as are
compared by draws, in one block."""
_Each = Callable[[Callable[[Any], Any], list[Any]], list[Any]]
"""What a task makes of each of several blocks."""

VALIDATION_SECTIONS = {
    "samples": 1, "nll": 4, "posterior": 8, "score": 1, "partition": 1, "observables": 1,
    "curves": 1, "fans": 0, "pairs": 0, "two_sample": 4, "sweep": 4, "gallery": 0, "latents": 0,
    "filters": 0,
}  # fmt: skip
"""Those that take time, with the part of it that they take, about."""


def validation(
    surrogate: Surrogate,
    theta: Array,
    x: Array,
    simulator: Simulator | None,
    *,
    draws: int | None = None,
    posterior_draws: int | None = None,
    sweep: bool = False,
    observations: int = 100,
    seed: int = 0,
    progress: Callable[..., None] = lambda name, part=0.0: None,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Compare a surrogate with held-out rows, and with the exact answer where there is one.

    Args:
        surrogate: any family.
        theta: (n, D) parameters of the rows.
        x: (n, *x_shape), one draw of p(x|θ) for each.
        simulator: for its exact log p, its observables and further draws; None without these.
        draws: draws of each log p(x|θ); the family's default if None. The NLL takes as many rows
            as make 100,000 draws, the first ones.
        posterior_draws: the same for posteriors; `draws` if None, or the family's default for
            posteriors if that is less.
        sweep: whether to compare the family's samplers at several numbers of steps.
        observations: rows whose posterior is compared.
        seed: seed of everything that is random here.
        progress: told the name of each section before it starts, and the part that is done.
        engine: where log p and posteriors are computed, in blocks of rows; in this process if
            None.

    Returns:
        JSON data: one value a section, and what each took in "seconds" and "cpu_seconds".

    Raises:
        UsageError: no rows.
    """
    if not len(x):
        raise UsageError("validate: expected at least one row, got no rows")
    draws = draws or surrogate.default_draws
    less = posterior_draws or min(draws, surrogate.posterior_draws)
    truth = exact_log_prob(simulator) if simulator else None
    law, names = surrogate.law, surrogate.info.get("data", {}).get("columns", [])
    declared = scalars(simulator, x)
    quantities = declared or scalars_of_x(law, x, names)
    against = 1 if declared else PARAMETERS
    section = Sections(progress)
    result = section.result
    fake = section("samples", drawn_x, surrogate, theta, x, seed)

    def each(name: str) -> _Each:
        return partial(all_blocks, engine, tick=partial(progress, name))

    result["nll"] = section("nll", _nll, surrogate, theta, x, truth, draws, seed, each("nll"))
    comparison = _Comparison(surrogate, simulator, less, seed)
    result["posterior"] = section(
        "posterior", _posterior, comparison, theta, x, observations, each("posterior")
    )
    result["score"] = section("score", score_section, surrogate, simulator, theta, x, seed)
    result["partition"] = section("partition", log_z_section, surrogate, simulator, draws, seed)
    result["observables"] = section("observables", observables_section, quantities, x, fake, seed)
    result["curves"] = section(
        "curves", curves_section, quantities, theta, x, fake, law.prior, against
    )
    result["fans"] = section("fans", fans_section, law, theta, x, fake)
    result["pairs"] = section("pairs", pairs_section, law, theta, x, fake, names)
    result["two_sample"] = section(
        "two_sample", two_sample_section, declared, theta, x, fake, seed
    )
    if sweep:
        ways = surrogate.samplers()
        result["sweep"] = section("sweep", sweep_section, ways, quantities, theta, x, seed)
    pictures = len(law.spatial) > 1
    drawable = pictures or (len(law.x_shape) == 3 and not law.spatial)
    result["gallery"] = (
        section("gallery", gallery_section, law, theta, x, fake) if drawable else None
    )
    result["latents"] = section("latents", latents_section, surrogate) if pictures else []
    result["filters"] = section("filters", filters_section, surrogate) if pictures else None
    return section.json()


class _Rows(NamedTuple):
    """A block of rows.

    Attributes:
        number: which of all rows the first is.
        theta: what x was drawn at, (n, D).
        x: (n, *x_shape).
    """

    number: int
    theta: Array
    x: Array

    @classmethod
    def blocks(cls, theta: Array, x: Array, step: int) -> list[_Rows]:
        """All rows, `step` in a block."""
        return [cls(i, theta[i : i + step], x[i : i + step]) for i in range(0, len(x), step)]

    @property
    def places(self) -> Array:
        """Which of all rows they are, (n,)."""
        return self.number + np.arange(len(self.x))


def _scored(surrogate: Surrogate, draws: int, seed: int, rows: _Rows) -> Array:
    """log p of rows and its standard error, (2, n)."""
    found = surrogate.log_prob_with_error(
        rows.theta, rows.x, draws=draws, seed=seed, index=torch.as_tensor(rows.places)
    )
    return np.stack([found.value.numpy(), found.stderr.double().numpy()])


def _nll(
    surrogate: Surrogate,
    theta: Array,
    x: Array,
    truth: LogProb | None,
    draws: int,
    seed: int,
    each: _Each,
) -> dict[str, Any] | None:
    if surrogate.likelihood is Likelihood.NONE:
        return None
    exact = truth(theta, x) if truth else np.full(len(x), np.nan)
    usable = np.isfinite(exact) if truth else np.ones(len(x), dtype=bool)
    keep = np.flatnonzero(usable)[: max(1, NLL_DRAWS // draws)]
    theta, x, exact = theta[keep], x[keep], exact[keep]
    rows = _Rows.blocks(theta, x, max(1, SCORED // draws))

    def scored(one: Surrogate) -> Array:
        found = each(partial(_scored, one, draws, seed), rows)
        return np.concatenate([np.empty((2, 0)), *found], 1)

    (model, stderr), dims = scored(surrogate), surrogate.law.size
    bootstrap = [scored(one)[0] for one in surrogate.log_z_bootstrap()]
    others = np.array(bootstrap or [model])
    first, last = surrogate.law.prior.bulk[:, 0]
    gap, mass = paired(exact, model, others), log_mass(exact, model, others)
    verdict = never_above(gap) if truth else None
    return {
        "likelihood": surrogate.likelihood,
        "rows": len(x),
        "draws": draws,
        "dims": dims,
        **_per_dim(exact, model, others, dims),
        "per_dim_se": estimate(-model / dims).se,
        "gap_total": gap.value,
        "gap_total_se": gap.se,
        "log_mass": mass.value,
        "log_mass_se": mass.se,
        "draw_stderr": float(stderr.mean()) if len(x) else None,
        "verdict": vars(verdict) if verdict else None,
        "parameter": surrogate.law.prior.names[0],
        "by_theta": [
            {"low": low, "high": high, "rows": len(rows)}
            | _per_dim(exact[rows], model[rows], others[:, rows], dims)
            for low, high, rows in bins(theta[:, 0], first, last, THETA_BINS)
        ],
    }


def _per_dim(exact: Array, model: Array, others: Array, dims: int) -> dict[str, float]:
    gap = paired(exact, model, others)
    return {
        "per_dim": estimate(-model / dims).value,
        "floor_per_dim": estimate(-exact / dims).value,
        "gap_per_dim": gap.value / dims,
        "gap_se": gap.se / dims,
    }


class _Compared(NamedTuple):
    """Posteriors of n observations, compared.

    Attributes:
        agreement: with the exact ones; None without these.
        evaluations: of log p for each, (n,).
    """

    agreement: Agreement | None
    evaluations: Array

    @classmethod
    def joined(cls, parts: list[_Compared]) -> _Compared:
        """All of them."""
        known = [part.agreement for part in parts if part.agreement]
        both = Agreement(*map(np.concatenate, zip(*known, strict=True))) if known else None
        return cls(both, np.concatenate([part.evaluations for part in parts]))


@dataclass(frozen=True)
class _Comparison:
    """Posteriors of a surrogate, of blocks of rows, beside the exact ones where there are such.

    Attributes:
        surrogate: whose they are.
        simulator: for its exact log p; None without one.
        draws: of each log p.
        seed: of the draws.
    """

    surrogate: Surrogate
    simulator: Simulator | None
    draws: int
    seed: int

    @property
    def truth(self) -> LogProb | None:
        """The exact log p, if there is one."""
        return exact_log_prob(self.simulator) if self.simulator else None

    def likelihoods(self, x: Array, places: Array) -> tuple[LogLikelihood, LogLikelihood | None]:
        """log p of rows x (n, *x_shape) by the surrogate, and the exact one if there is one."""
        own = of_surrogate(self.surrogate, x, draws=self.draws, seed=self.seed, index=places)
        return own, of_exact(self.truth, x) if self.truth else None

    def on_grids(self, x: Array, places: Array) -> tuple[GridPosterior, GridPosterior | None]:
        """The posteriors of rows x (n, *x_shape) and the exact ones, on grids."""
        prior, first = self.surrogate.law.prior, int(places[0])
        own, exact = self.likelihoods(x, places)
        model = grid_posterior(own, prior, len(x), first=first)
        return model, grid_posterior(exact, prior, len(x), first=first) if exact else None

    def rows(self, rows: _Rows) -> _Compared:
        """Of single rows, on grids."""
        model, exact = self.on_grids(rows.x, rows.places)
        return _Compared(agreement(exact, model) if exact else None, model.evaluations)

    def sets(self, rows: _Rows) -> _Compared:
        """Of sets of successive rows, on grids."""
        prior, n = self.surrogate.law.prior, len(rows.x) // SET
        own, exact = self.likelihoods(rows.x, rows.places)
        model = grid_posterior(iid_sets(own, SET), prior, n)
        if exact is None:
            raise TypeError("sets are compared with exact posteriors")
        found = agreement(grid_posterior(iid_sets(exact, SET), prior, n), model)
        return _Compared(found, model.evaluations)

    def by_draws(self, rows: _Rows) -> _Compared:
        """Of single rows by draws: no distances of densities."""
        prior, n = self.surrogate.law.prior, len(rows.x)
        own, truth = self.likelihoods(rows.x, rows.places)
        if truth is None:
            raise TypeError("draws are compared with exact ones")
        exact = smc(truth, prior, n, seed=self.seed, first=rows.number)
        model = smc(own, prior, n, seed=self.seed, first=rows.number)
        unknown = np.full(n, np.nan)
        shift, ratio = (model.mean - exact.mean) / exact.sd, model.sd / exact.sd
        found = Agreement(shift, ratio, unknown, unknown)
        return _Compared(found, model.diagnostics["evaluations"])


def _posterior(
    comparison: _Comparison, theta: Array, x: Array, observations: int, each: _Each
) -> dict[str, Any] | None:
    surrogate, truth = comparison.surrogate, comparison.truth
    prior, likelihood = surrogate.law.prior, surrogate.likelihood
    on_grid = len(prior) in NODES
    if likelihood is Likelihood.NONE or not (on_grid or truth):
        return None
    rng = np.random.default_rng([comparison.seed, 1])
    usable = np.flatnonzero(np.isfinite(truth(theta, x))) if truth else np.arange(len(x))
    rows = rng.permutation(usable)[: observations if on_grid else min(observations, BY_DRAWS)]
    if not len(rows):
        return None
    theta, x = theta[rows], x[rows]
    task = comparison.rows if on_grid else comparison.by_draws
    blocks = _Rows.blocks(theta, x, COMPARED if on_grid else DRAWN)
    found, evaluations = _Compared.joined(each(task, blocks))
    return {
        "likelihood": likelihood,
        "observations": len(x),
        "draws": comparison.draws,
        "evaluations": evaluations.mean(),
        **_figures(found) | ({} if on_grid else dict.fromkeys(("tv", "c2st", "kl"))),
        "by_parameter": _by_parameter(found, prior.names),
        "sets": _sets(comparison, theta, each) if on_grid and truth else None,
        "examples": _examples(comparison, theta, x) if on_grid else [],
    }


def _figures(found: Agreement | None) -> dict[str, float | None]:
    """Averages over observations; the errors of several parameters count alike."""
    if found is None:
        return dict.fromkeys(("mean_error", "mean_error_se", "std_ratio", "tv", "c2st", "kl"))
    error = estimate(abs(found.shift).mean(-1))
    return {
        "mean_error": error.value,
        "mean_error_se": error.se,
        "std_ratio": found.ratio.mean(),
        "tv": found.tv.mean(),
        "c2st": found.c2st.mean(),
        "kl": found.kl.mean(),
    }


def _by_parameter(found: Agreement | None, names: tuple[str, ...]) -> dict[str, Any]:
    if found is None:
        return {}
    error, ratio = abs(found.shift).mean(0), found.ratio.mean(0)
    return {name: {"mean_error": error[d], "std_ratio": ratio[d]} for d, name in enumerate(names)}


def _sets(comparison: _Comparison, theta: Array, each: _Each) -> dict[str, Any] | None:
    """The same figures for sets of x that share their θ (n, D), drawn afresh."""
    theta = theta[: max(1, len(theta) // SET)]
    many = theta.repeat(SET, axis=0)
    simulator, truth = comparison.simulator, comparison.truth
    if simulator is None or truth is None:
        return None
    x = simulator.sample(many, np.random.default_rng([comparison.seed, 2]))
    known = np.isfinite(truth(many, x)).reshape(-1, SET).all(-1)
    if not known.any():
        return None
    blocks = _Rows.blocks(many[known.repeat(SET)], x[known.repeat(SET)], COMPARED * SET)
    found = _Compared.joined(each(comparison.sets, blocks)).agreement
    return {"size": SET, "observations": int(known.sum()), **_figures(found)}


def _examples(comparison: _Comparison, theta: Array, x: Array) -> list[dict[str, Any]]:
    """Marginal posteriors of the first parameter, for x's spread over its range."""
    rows, name = evenly_ranked(theta[:, 0], EXAMPLES), comparison.surrogate.law.prior.names[0]
    theta, x = theta[rows], x[rows]
    model, exact = comparison.on_grids(x, rows)
    shown = [p for p in (exact, model) if p]
    ends = [p.quantile(np.array([1e-4, 1 - 1e-4]))[..., 0] for p in shown]
    low, high = np.min(ends, 0)[:, 0], np.max(ends, 0)[:, 1]
    marginals = {"exact": exact.marginal(0) if exact else None, "surrogate": model.marginal(0)}
    examples = []
    for i in range(len(x)):
        grid, width = np.linspace(low[i], high[i], 200), high[i] - low[i]
        examples.append(
            {"theta": theta[i], "parameter": name, "grid": grid}
            | {
                k: np.interp(grid, m[0][i], m[1][i] * width) / width if m else None
                for k, m in marginals.items()
            }
            | {"x": x[i] if x[i].ndim < 3 and x[i].size > SHORT_VECTOR else None}
        )
    return examples

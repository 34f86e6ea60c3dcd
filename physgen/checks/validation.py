"""Validate a surrogate on held-out (θ, x): every figure of the report, with its floor or its null.

Each section answers one question, and is null where it cannot be asked:

================  ==============================================================================
``nll``           how far is log p(x|θ) from the exact one, per row and paired?
``posterior``     how far is p(θ|x) from the exact one, for one x and for sets of ten?
``partition``     log Z(θ) beside the exact one, where the family has one
``observables``   do physical quantities of drawn x follow their distribution?
``curves``        do their means follow θ, and the exact expectation?
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
from typing import Any

import numpy as np

from physgen.checks.estimate import bins, estimate, evenly_ranked
from physgen.checks.exact.agreement import Agreement, agreement
from physgen.checks.exact.gap import log_mass, never_above, paired
from physgen.checks.exact.log_z import log_z_section
from physgen.checks.samples import (
    curves_section,
    drawn_x,
    filters_section,
    gallery_section,
    latents_section,
    observables_section,
    scalars,
    sweep_section,
    two_sample_section,
)
from physgen.checks.timing import Sections
from physgen.errors import UsageError
from physgen.posterior.grid import (
    NODES,
    GridPosterior,
    grid_posterior,
    iid_sets,
    of_exact,
    of_surrogate,
)
from physgen.posterior.smc import smc
from physgen.surrogates.base import Likelihood, Surrogate
from physgen.surrogates.base import LogProb as ScoredRows
from simulators.base import Array, LogProb, Simulator, exact_log_prob

__all__ = ["VALIDATION_SECTIONS", "validation"]

SET, BY_DRAWS = 10, 10
"""Independent x that one set holds, and rows whose posteriors are compared by draws, at most."""
NLL_DRAWS = 100_000
"""Rows × draws of log p in the NLL at most; being paired, its gap needs few rows."""
EXAMPLES, THETA_BINS = 4, 8

VALIDATION_SECTIONS = {
    "samples": 1, "nll": 4, "posterior": 8, "partition": 1, "observables": 1, "curves": 1,
    "two_sample": 4, "sweep": 4, "gallery": 0, "latents": 0, "filters": 0,
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
    progress: Callable[[str], None] | None = None,
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
        progress: told the name of each section before it starts.

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
    quantities = scalars(simulator, x)
    section = Sections(progress)
    result = section.result
    fake = section("samples", drawn_x, surrogate, theta, x, seed)
    result["nll"] = section("nll", _nll, surrogate, theta, x, truth, draws, seed)
    result["posterior"] = section(
        "posterior", _posterior, surrogate, theta, x, simulator, less, observations, seed
    )
    result["partition"] = section("partition", log_z_section, surrogate, simulator, draws, seed)
    result["observables"] = section("observables", observables_section, quantities, x, fake, seed)
    law = surrogate.law
    result["curves"] = section("curves", curves_section, quantities, theta, x, fake, law.prior)
    result["two_sample"] = section(
        "two_sample", two_sample_section, quantities, theta, x, fake, seed
    )
    if sweep:
        ways = surrogate.samplers()
        result["sweep"] = section("sweep", sweep_section, ways, quantities, theta, x, seed)
    pictures = len(law.spatial) > 1
    result["gallery"] = (
        section("gallery", gallery_section, law, theta, x, fake) if pictures else None
    )
    result["latents"] = section("latents", latents_section, surrogate) if pictures else []
    result["filters"] = section("filters", filters_section, surrogate) if pictures else None
    return section.json()


def _nll(
    surrogate: Surrogate, theta: Array, x: Array, truth: LogProb | None, draws: int, seed: int
) -> dict[str, Any] | None:
    if surrogate.likelihood is Likelihood.NONE:
        return None
    exact = truth(theta, x) if truth else np.full(len(x), np.nan)
    usable = np.isfinite(exact) if truth else np.ones(len(x), dtype=bool)
    keep = np.flatnonzero(usable)[: max(1, NLL_DRAWS // draws)]
    theta, x, exact = theta[keep], x[keep], exact[keep]

    def scored(one: Surrogate) -> ScoredRows:
        return one.log_prob_with_error(theta, x, draws=draws, seed=seed)

    log_p = scored(surrogate)
    model, dims = log_p.value.numpy(), surrogate.law.size
    bootstrap = [scored(one).value.numpy() for one in surrogate.log_z_bootstrap()]
    others = np.array(bootstrap or [model])
    prior = surrogate.law.prior
    low, high = prior.bulk[:, 0]
    parts = bins(theta[:, 0], low, high, THETA_BINS)
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
        "draw_stderr": log_p.stderr.double().mean().item() if len(x) else None,
        "verdict": vars(verdict) if verdict else None,
        "parameter": prior.names[0],
        "by_theta": [
            {"low": low, "high": high, "rows": len(rows)}
            | _per_dim(exact[rows], model[rows], others[:, rows], dims)
            for low, high, rows in parts
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


def _posterior(
    surrogate: Surrogate,
    theta: Array,
    x: Array,
    simulator: Simulator | None,
    draws: int,
    observations: int,
    seed: int,
) -> dict[str, Any] | None:
    prior, likelihood = surrogate.law.prior, surrogate.likelihood
    if likelihood is Likelihood.NONE:
        return None
    truth = exact_log_prob(simulator) if simulator else None
    rng = np.random.default_rng([seed, 1])
    usable = np.flatnonzero(np.isfinite(truth(theta, x))) if truth else np.arange(len(x))
    rows = rng.permutation(usable)[:observations]
    if not len(rows):
        return None
    theta, x = theta[rows], x[rows]
    if len(prior) not in NODES:
        return _by_draws(surrogate, x[:BY_DRAWS], truth, draws, seed)
    model = grid_posterior(of_surrogate(surrogate, x, draws=draws, seed=seed), prior, len(x))
    exact = grid_posterior(of_exact(truth, x), prior, len(x)) if truth else None
    found = agreement(exact, model) if exact else None
    return {
        "likelihood": likelihood,
        "observations": len(x),
        "draws": draws,
        "evaluations": model.evaluations.mean(),
        **_figures(found),
        "by_parameter": _by_parameter(found, prior.names),
        "sets": _sets(surrogate, theta, simulator, truth, draws, seed)
        if simulator and truth
        else None,
        "examples": _examples(prior.names[0], theta, x, exact, model),
    }


def _by_draws(
    surrogate: Surrogate, x: Array, truth: LogProb | None, draws: int, seed: int
) -> dict[str, Any] | None:
    """The same of more parameters than a grid has, from draws: no distances of densities."""
    if truth is None:
        return None
    prior, n = surrogate.law.prior, len(x)
    exact = smc(of_exact(truth, x), prior, n, seed=seed)
    model = smc(of_surrogate(surrogate, x, draws=draws, seed=seed), prior, n, seed=seed)
    unknown = np.full(n, np.nan)
    found = Agreement((model.mean - exact.mean) / exact.sd, model.sd / exact.sd, unknown, unknown)
    return {
        "likelihood": surrogate.likelihood,
        "observations": n,
        "draws": draws,
        "evaluations": model.diagnostics["evaluations"].mean(),
        **_figures(found) | dict.fromkeys(("tv", "c2st", "kl")),
        "by_parameter": _by_parameter(found, prior.names),
        "sets": None,
        "examples": [],
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


def _sets(
    surrogate: Surrogate,
    theta: Array,
    simulator: Simulator,
    truth: LogProb,
    draws: int,
    seed: int,
) -> dict[str, Any] | None:
    """The same figures for sets of x that share their θ, drawn afresh."""
    theta = theta[: max(1, len(theta) // SET)]
    many = theta.repeat(SET, axis=0)
    x = simulator.sample(many, np.random.default_rng([seed, 2]))
    known = np.isfinite(truth(many, x)).reshape(-1, SET).all(-1)
    x, n, prior = x[known.repeat(SET)], int(known.sum()), surrogate.law.prior
    if not n:
        return None
    model = iid_sets(of_surrogate(surrogate, x, draws=draws, seed=seed), SET)
    exact = grid_posterior(iid_sets(of_exact(truth, x), SET), prior, n)
    figures = _figures(agreement(exact, grid_posterior(model, prior, n)))
    return {"size": SET, "observations": n, **figures}


def _examples(
    name: str, theta: Array, x: Array, exact: GridPosterior | None, model: GridPosterior
) -> list[dict[str, Any]]:
    """Marginal posteriors of the first parameter, for x's spread over its range."""
    shown = [p for p in (exact, model) if p]
    ends = [p.quantile(np.array([1e-4, 1 - 1e-4]))[..., 0] for p in shown]
    low, high = np.min(ends, 0)[:, 0], np.max(ends, 0)[:, 1]
    marginals = {"exact": exact.marginal(0) if exact else None, "surrogate": model.marginal(0)}
    examples = []
    for i in evenly_ranked(theta[:, 0], EXAMPLES):
        grid, width = np.linspace(low[i], high[i], 200), high[i] - low[i]
        examples.append(
            {"theta": theta[i], "parameter": name, "grid": grid}
            | {
                k: np.interp(grid, m[0][i], m[1][i] * width) / width if m else None
                for k, m in marginals.items()
            }
            | {"x": x[i] if x[i].ndim == 2 else None}
        )
    return examples

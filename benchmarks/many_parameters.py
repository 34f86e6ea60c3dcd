"""Posteriors of four to ten parameters from an exact likelihood, beside sbi's and emcee's.

*Linear*: x = A θ + σ ε of twice as many components as parameters, with a correlated normal prior:
posterior and evidence in closed form. *Modes*: a likelihood that is a sum of separated normal
peaks of other masses at random corners of a box. Each method is given the same log p(x|θ) in
batches, and is asked for 4,000 draws; a seed draws the observation and the method's own numbers.

Mean errors are in exact widths, the greatest of all parameters, as are the width ratios that are
furthest from 1; the mass error is that of the worst mode. emcee and sbi's slice sampler move in
normal scores of the prior, as ours do. Figures are medians over seeds; a method that has not ended
after `--limit` CPU s leaves a dash.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy import stats
from scipy.special import logsumexp

from physgen.posterior.mcmc import mcmc
from physgen.posterior.nested import nested
from physgen.posterior.smc import smc
from physgen.posterior.unbounded import from_scores, scores_density
from physgen.runtime.device import threads
from simulators.base import Array
from simulators.prior import Box, Prior

DRAWS = 4000
WALKERS, STEPS, BURNT = 100, 1000, 500
"""Of emcee, and how many of the steps are left out."""


class Problem(Protocol):
    """A log p(x|θ) whose posterior is known."""

    @property
    def prior(self) -> Prior:
        """What is known of θ before."""
        ...

    @property
    def log_evidence(self) -> float:
        """Log p(x)."""
        ...

    def log_prob(self, theta: Array) -> Array:
        """Log p(x|θ) of one observation, (N, D) → (N,)."""
        ...

    def errors(self, theta: Array) -> dict[str, float]:
        """What draws (K, D) of the posterior are off by."""
        ...


@dataclass(frozen=True)
class Linear:
    """x = A θ + σ ε, with θ normal and neighbours correlated.

    Attributes:
        dims: parameters.
        seed: of A and of x.
        noise: σ.
        correlation: of the parameters 1 and 2, 3 and 4, and so on.
    """

    dims: int
    seed: int
    noise: float = 0.3
    correlation: float = 0.6

    @cached_property
    def prior(self) -> Prior:
        """Normal, of widths that differ."""
        names = [f"t{d}" for d in range(self.dims)]
        pairs = dict.fromkeys(zip(names[::2], names[1::2], strict=True), self.correlation)
        laws = {name: stats.norm(0.5 * d, 1 + 0.2 * d) for d, name in enumerate(names)}
        return Prior(pairs, **laws)

    @cached_property
    def _known(self) -> tuple[Array, Array, Array, Array]:
        """Mean and covariance of the prior, A, x."""
        rng = np.random.default_rng(self.seed)
        mean, width = 0.5 * np.arange(self.dims), 1 + 0.2 * np.arange(self.dims)
        tied = np.kron(np.eye(self.dims // 2), [[1, self.correlation], [self.correlation, 1]])
        a = rng.standard_normal((2 * self.dims, self.dims))
        x = a @ self.prior.sample(1, rng)[0] + self.noise * rng.standard_normal(2 * self.dims)
        return mean, tied * np.outer(width, width), a, x

    def log_prob(self, theta: Array) -> Array:
        """Log p(x|θ), (N, D) → (N,)."""
        _, _, a, x = self._known
        off = (x - theta @ a.T) / self.noise
        return -0.5 * (off**2).sum(-1) - len(x) * np.log(self.noise * np.sqrt(2 * np.pi))

    @property
    def log_evidence(self) -> float:
        """Log p(x)."""
        mean, cov, a, x = self._known
        total = a @ cov @ a.T + self.noise**2 * np.eye(len(x))
        return float(stats.multivariate_normal(a @ mean, total).logpdf(x))

    def errors(self, theta: Array) -> dict[str, float]:
        """Of the means and widths, the greatest."""
        mean, cov, a, x = self._known
        inner = np.linalg.inv(cov)
        exact = np.linalg.inv(inner + a.T @ a / self.noise**2)
        centre, width = exact @ (inner @ mean + a.T @ x / self.noise**2), np.sqrt(np.diag(exact))
        ratio = theta.std(0) / width
        return {
            "mean error": float(abs((theta.mean(0) - centre) / width).max()),
            "width ratio": float(ratio[abs(np.log(ratio)).argmax()]),
        }


@dataclass(frozen=True)
class Modes:
    """Σ_m w_m N(θ; corner_m, σ²) in a box from −1 to 1.

    Attributes:
        count: modes, at most 2^dims.
        dims: parameters.
        seed: of the corners and the masses.
        width: σ.
    """

    count: int
    dims: int
    seed: int
    width: float = 0.05

    @property
    def prior(self) -> Prior:
        """Uniform."""
        return Box(**{f"t{d}": (-1.0, 1.0) for d in range(self.dims)})

    @cached_property
    def _known(self) -> tuple[Array, Array]:
        """Places and masses."""
        rng = np.random.default_rng(self.seed)
        corners = np.array(list(itertools.product([-0.5, 0.5], repeat=self.dims)))
        places = rng.choice(corners, self.count, replace=False)
        places = places + 0.1 * rng.standard_normal(places.shape)
        return places, rng.dirichlet(np.full(self.count, 4.0))

    def log_prob(self, theta: Array) -> Array:
        """Log p(x|θ), (N, D) → (N,)."""
        places, masses = self._known
        off = (theta[:, None] - places) / self.width
        constant = self.dims * (np.log(self.width) + 0.5 * np.log(2 * np.pi))
        return logsumexp(np.log(masses) - 0.5 * (off**2).sum(-1) - constant, axis=-1)

    @property
    def log_evidence(self) -> float:
        """Log p(x)."""
        return -self.dims * float(np.log(2))

    def errors(self, theta: Array) -> dict[str, float]:
        """Of the masses, the greatest."""
        places, masses = self._known
        which = ((theta[:, None] - places) ** 2).sum(-1).argmin(-1)
        found = np.bincount(which, minlength=self.count) / len(theta)
        return {"mass error": float(abs(found - masses).max())}


PROBLEMS: Mapping[str, Callable[[int], Problem]] = {
    "linear, 6 parameters": lambda seed: Linear(6, seed),
    "linear, 10 parameters": lambda seed: Linear(10, seed),
    "2 modes, 6 parameters": lambda seed: Modes(2, 6, seed),
    "4 modes, 5 parameters": lambda seed: Modes(4, 5, seed),
    "16 modes, 4 parameters": lambda seed: Modes(16, 4, seed),
    "16 modes, 6 parameters": lambda seed: Modes(16, 6, seed),
}
"""Each of a seed; others with a known posterior go here."""


# --- methods ------------------------------------------------------------------------------------


@dataclass
class Counted:
    """A problem's log p as methods see it, that counts and ends.

    Attributes:
        problem: of which it is.
        limit: CPU s after which it raises.
        count: evaluations so far.
        start: CPU time of its making.
    """

    problem: Problem
    limit: float
    count: int = 0
    start: float = field(default_factory=time.process_time)

    def flat(self, theta: Array) -> Array:
        """Log p of θ (N, D), (N,).

        Raises:
            TimeoutError: the limit has passed.
        """
        if time.process_time() - self.start > self.limit:
            raise TimeoutError
        self.count += len(theta)
        return self.problem.log_prob(theta)

    def __call__(self, theta: Array, which: Array | None = None, /) -> Array:
        """Log p of θ (1, G, D), (1, G)."""
        return self.flat(theta[0])[None]

    def scores(self, z: Array) -> Array:
        """Log p(x|θ) p(θ) of normal scores z (N, D), (N,)."""
        prior = self.problem.prior
        return self.flat(from_scores(prior, z)) + scores_density(prior, z)


Found = tuple[Array, float]
"""Draws (K, D), and the log evidence, NaN if it is not told."""


def by_smc(log_p: Counted, prior: Prior, seed: int) -> Found:
    """Our population."""
    found = smc(log_p, prior, 1, DRAWS, seed=seed)
    return found.theta[0], float(found.diagnostics["log_evidence"][0])


def by_nested(log_p: Counted, prior: Prior, seed: int) -> Found:
    """nautilus, as `--method nested` calls it."""
    found = nested([log_p], prior, DRAWS, seed=seed)
    return found.theta[0], float(found.diagnostics["log_evidence"][0])


def by_mcmc(log_p: Counted, prior: Prior, seed: int) -> Found:
    """sbi's slice sampler as `--method mcmc` calls it."""
    return mcmc(log_p, prior, 1, DRAWS, seed=seed).theta[0], np.nan


def by_sbi(log_p: Counted, prior: Prior, seed: int) -> Found:
    """sbi's slice sampler with sbi's own settings, in normal scores."""
    import torch
    from sbi.inference import MCMCPosterior

    from physgen.sbi.manners import visiting
    from physgen.sbi.prior import normal_prior

    def potential(z: torch.Tensor, x_o: torch.Tensor | None = None) -> torch.Tensor:
        return torch.from_numpy(log_p.scores(z.double().numpy())).float()

    with visiting(seed):
        posterior = MCMCPosterior(
            potential, normal_prior(prior), method="slice_np_vectorized", num_chains=20
        )
        z = posterior.sample((DRAWS,), x=torch.zeros(1, 1), show_progress_bars=False)
    return from_scores(prior, z.double().numpy()), np.nan


def by_emcee(log_p: Counted, prior: Prior, seed: int) -> Found:
    """emcee's walkers from draws of the prior, in normal scores."""
    import emcee

    rng = np.random.default_rng(seed)
    start = rng.standard_normal((WALKERS, len(prior)))
    walkers = emcee.EnsembleSampler(WALKERS, len(prior), log_p.scores, vectorize=True)
    walkers.random_state = np.random.RandomState(seed).get_state()
    walkers.run_mcmc(start, STEPS)
    z = walkers.get_chain(discard=BURNT, flat=True)
    return from_scores(prior, z), np.nan


METHODS: Mapping[str, Callable[[Counted, Prior, int], Found]] = {
    "smc": by_smc,
    "nested": by_nested,
    "mcmc": by_mcmc,
    "sbi slice_np_vectorized": by_sbi,
    "emcee": by_emcee,
}


# --- the table ----------------------------------------------------------------------------------


def measured(problem: Problem, method: str, seed: int, limit: float) -> dict[str, float]:
    """What a method comes to; only what it took, if it did not end."""
    log_p, wall = Counted(problem, limit), time.monotonic()
    row = {}
    try:
        theta, log_evidence = METHODS[method](log_p, problem.prior, seed)
        row = problem.errors(theta)
        row["log evidence error"] = abs(log_evidence - problem.log_evidence)
    except TimeoutError:
        pass
    row |= {"evaluations": log_p.count, "CPU s": time.process_time() - log_p.start}
    return row | {"wall s": time.monotonic() - wall}


COLUMNS = {
    "mean error": 3, "width ratio": 3, "mass error": 3, "log evidence error": 3,
    "evaluations": 0, "CPU s": 1, "wall s": 1,
}  # fmt: skip
"""Columns and their decimals."""


def line(name: str, rows: list[dict[str, float]]) -> str:
    """Medians over seeds, a dash where no seed has a figure."""
    cells = []
    for column, decimals in COLUMNS.items():
        values = np.array([row.get(column, np.nan) for row in rows])
        told = np.isfinite(values).all()
        cells.append(f"{np.median(values):,.{decimals}f}" if told else "–")
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print a table a problem."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--limit", type=float, default=120, help="CPU s for each")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    options = parser.parse_args()
    with threads(1):
        for name in options.problems:
            print(f"\n{name}\n\n| method | " + " | ".join(COLUMNS) + " |")
            print("|---" * (1 + len(COLUMNS)) + "|", flush=True)
            for method in options.methods:
                seeds = range(1, options.seeds + 1)
                found = [
                    measured(PROBLEMS[name](seed), method, seed, options.limit) for seed in seeds
                ]
                print(line(method, found), flush=True)


if __name__ == "__main__":
    main()

"""What `calibrate` can see: how often each check catches its controls, and cries wolf.

The posteriors that are judged are the exact ones, so that every failure is a false alarm: one in a
thousand is meant. One to three parameters are judged on the grid, more by exact draws. The
controls are those of `physgen.checks.calibration.controls`.

    python -m benchmarks.calibration [--rows 200 500 1000] [--times 20] [--laws gaussian6 …]
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import stats

from physgen.checks.calibration.run import calibration
from physgen.checks.calibration.uniformity import ALPHA
from physgen.law import Law
from simulators.base import Array, Observable
from simulators.prior import Prior


@dataclass(frozen=True)
class CorrelatedGaussian:
    """x = A z + σ ε of normal θ that are correlated; z are their normal scores.

    Attributes:
        parameters: number of parameters θ1, θ2, …
        size: number of components of x.
        noise: standard deviation σ of each component of x.
        tie: correlation of neighbours, at most ½.
    """

    parameters: int = 6
    size: int = 8
    noise: float = 1.0
    tie: float = 0.4

    @property
    def prior(self) -> Prior:
        """θ_d of mean d and width 2^d, with correlated neighbours."""
        names = [f"theta{d}" for d in range(1, self.parameters + 1)]
        laws = {
            name: (stats.norm(d, 2.0**d), "", rf"\theta_{{{d}}}")
            for d, name in enumerate(names, 1)
        }
        return Prior(**laws, correlation=dict.fromkeys(pairwise(names), self.tie))

    @property
    def x_shape(self) -> tuple[int]:
        """(size,)."""
        return (self.size,)

    @property
    def observables(self) -> dict[str, Observable]:
        """What tells of all θ together, a component of x, and its norm."""
        return {
            "all": Observable(lambda x: x @ self.matrix.sum(1)),
            "first": Observable(lambda x: x[:, 0]),
            "norm": Observable(lambda x: np.linalg.norm(x, axis=1)),
        }

    @cached_property
    def matrix(self) -> Array:
        """A, (size, parameters)."""
        i, d = np.arange(1, self.size + 1)[:, None], np.arange(1, self.parameters + 1)
        return np.cos(i * d) + (d == 1)

    def scores(self, theta: Array) -> Array:
        """Normal scores of θ (…, D), (…, D)."""
        d = np.arange(1, self.parameters + 1)
        return (theta - d) / 2.0**d

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One x for each row of θ, (n, D) → (n, size)."""
        x = self.scores(theta) @ self.matrix.T
        return x + self.noise * rng.standard_normal(x.shape)

    def log_prob(self, theta: Array, x: Array) -> Array:
        """Log p(x|θ), (n,)."""
        r = (x - self.scores(theta) @ self.matrix.T) / self.noise
        return -0.5 * (r**2).sum(-1) - self.size * np.log(self.noise * np.sqrt(2 * np.pi))

    @cached_property
    def covariance(self) -> Array:
        """Of the prior's scores, (D, D)."""
        near = np.eye(self.parameters, k=1) + np.eye(self.parameters, k=-1)
        return np.eye(self.parameters) + self.tie * near

    def posterior(self, x: Array) -> tuple[Array, Array]:
        """Mean (n, D) and covariance (D, D) of the scores given x."""
        a, s = self.matrix, self.noise**2
        precision = np.linalg.inv(self.covariance) + a.T @ a / s
        return np.linalg.solve(precision, a.T @ x.T / s).T, np.linalg.inv(precision)

    def log_evidence(self, x: Array) -> Array:
        """Log p(x), (n,)."""
        a = self.matrix
        total = a @ self.covariance @ a.T + self.noise**2 * np.eye(self.size)
        return stats.multivariate_normal(np.zeros(self.size), total).logpdf(x)

    @property
    def information(self) -> float:
        """I(θ; x) in nats."""
        a = self.matrix
        ratio = np.eye(self.size) + a @ self.covariance @ a.T / self.noise**2
        return float(np.linalg.slogdet(ratio)[1] / 2)


@dataclass(frozen=True)
class Exact:
    """A simulator's own posterior, in the place of a network.

    Attributes:
        law: of the simulator.
        method: what it is called.
        is_field: whether its density takes an ODE.
    """

    law: Law
    method: str = "exact"
    is_field: bool = False

    @cached_property
    def simulator(self) -> Any:
        """Of the law."""
        return self.law.build()

    @property
    def draws(self) -> bool:
        """Whether it draws by itself."""
        return isinstance(self.simulator, CorrelatedGaussian)

    def log_density(self, theta: Array, x: Array, which: Array | None = None) -> Array:
        """Log p(x|θ), (N,), over p(x) where that is known."""
        rows = x if which is None else x[which]
        found = self.simulator.log_prob(theta, rows)
        if not self.draws:
            return found
        known = self.simulator.log_evidence(x)
        return found - (known if which is None else known[which])

    def draw(
        self, x: Array, k: int, seed: int = 0, index: Array | None = None
    ) -> tuple[Array, Array]:
        """Exact draws in the prior's coordinates (n, k, D), and the part that is left out (n,)."""
        mean, covariance = self.simulator.posterior(x)
        root = np.linalg.cholesky(covariance)
        rows = range(len(x)) if index is None else index
        noise = [np.random.default_rng([seed, i]).standard_normal((k, len(root))) for i in rows]
        return mean[:, None] + np.stack(noise) @ root.T, np.zeros(len(x))


LAWS = {
    "ising": Law.of("ising", {"size": 8}),
    "gaussian2": Law.of("gaussian", {"size": 5, "parameters": 2, "noise": 0.5}),
    "gaussian6": Law.of(CorrelatedGaussian(6, 8)),
    "gaussian10": Law.of(CorrelatedGaussian(10, 12)),
}


def judged(law: Law, n: int, seed: int) -> dict[str, Any]:
    """A calibration of the exact posterior on n rows."""
    simulator, rng = law.build(), np.random.default_rng([n, seed])
    theta = law.prior.sample(n, rng)
    x = simulator.sample(theta, rng)
    return calibration(Exact(law), theta, x, law.prior, trusted=law.simulator, seed=seed)


def main() -> None:
    """Print a table for each simulator."""
    os.environ["OMP_NUM_THREADS"] = "1"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[200, 500, 1000])
    parser.add_argument("--times", type=int, default=20, help="datasets of each size")
    parser.add_argument("--laws", nargs="+", choices=LAWS, default=list(LAWS))
    options = parser.parse_args()
    for name in options.laws:
        caught, alarms, passed = defaultdict(list), defaultdict(list), defaultdict(list)
        for n in options.rows:
            for seed in range(options.times):
                checks = judged(LAWS[name], n, seed)["checks"]
                passed[n].append(all(check["p_value"] > ALPHA for check in checks))
                for check in checks:
                    key = check["name"].partition(" of ")[0]
                    alarms[key].append(check["p_value"] < ALPHA)
                    for control, found in check["controls"].items():
                        caught[key, control, n].append(found["caught"])
        told = ", ".join(f"{100 * np.mean(passed[n]):.0f} (n = {n})" for n in options.rows)
        print(f"\n{name}: controls caught, % of {options.times} datasets; all pass: {told} %\n")
        print("| check | control | " + " | ".join(f"n = {n}" for n in options.rows)
              + " | false alarms |")  # fmt: skip
        print("|" + "---|" * (len(options.rows) + 3))
        for key, control in dict.fromkeys(pair[:2] for pair in caught):
            part = [f"{100 * np.mean(caught[key, control, n]):.0f}" for n in options.rows]
            wrong = f"{sum(alarms[key])} of {len(alarms[key])}"
            print(f"| {key} | {control} | {' | '.join(part)} | {wrong} |", flush=True)


if __name__ == "__main__":
    main()

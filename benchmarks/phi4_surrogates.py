r"""Surrogates of φ⁴ on one table, beside what is known of it.

log p(φ|θ) = −S − log Z(θ), θ = (m², λ), where S is known and log Z is not. Its gradient is the
mean of what stands beside θ in −S,

    ∂ log Z/∂m² = −½ ⟨Σφ²⟩,      ∂ log Z/∂λ = −⟨Σφ⁴⟩,

so that least squares of these two sums over maps at many θ tell a polynomial but for a constant,
which annealed importance sampling at the middle of the prior gives. Elsewhere that is a check.
A row a design: CPU seconds of training; gap of log p in nats a site; the least p-value of the
identities of Schwinger and Dyson on drawn maps, and of which; observables of drawn maps less those
of fresh ones, in standard errors; posterior means off in widths of the known posterior, ratios of
widths, CPU seconds of posteriors and draws of a log p. Controls: maps of the simulator at
λ + 0.05, and the Gaussian law with which a diffusion begins.

    python -m benchmarks.phi4_surrogates [--only cvae] [--size 8] [--epochs 4] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

import physgen
from benchmarks.field_surrogates import DESIGNS, Design, Model, data_of, fitted
from physgen.checks.estimate import estimate
from physgen.checks.exact.agreement import agreement
from physgen.law import Law
from physgen.posterior.grid import grid_posterior, of_exact, of_surrogate
from physgen.runtime.device import threads
from physgen.surrogates.diffusion import Diffusion, DiffusionConfig
from simulators.base import Array
from simulators.field import Phi4

WRONG = 0.05
"""Of λ."""
DEGREE = 10
"""Of log Z."""
ROWS, DRAWN, POSTERIORS, CHECKED = 1000, 2000, 50, 6
OBSERVED = ("variance", "quartic", "abs_mean", "power_spectrum")
HEAD = (
    "design", "CPU s", "gap, 1e-3 nats a site", "identities: least p", "drawn less fresh, in σ",
    "means off, widths", "width ratios", "CPU s of posteriors (draws)",
)  # fmt: skip


@dataclass(frozen=True)
class LogZ:
    """log Z of θ as a polynomial.

    Attributes:
        simulator: of which.
        weights: of its terms but the constant, (terms,).
        constant: log Z at the middle of the prior.
    """

    simulator: Phi4
    weights: Array
    constant: float = 0.0

    @classmethod
    def of(cls, simulator: Phi4, theta: Array, x: Array) -> LogZ:
        """From maps x (n, L, L) at θ (n, 2)."""
        x = x.astype(float)
        sums = np.stack([0.5 * (x**2).sum((1, 2)), (x**4).sum((1, 2))])
        slopes = np.concatenate([terms(simulator, theta, axis) for axis in (0, 1)])
        found = cls(simulator, np.linalg.lstsq(slopes, -sums.ravel())[0])
        middle = simulator.prior.from_coordinates(np.zeros((1, 2)))
        bounds = simulator.log_z_bounds(middle[0], np.random.default_rng(0))
        return cls(simulator, found.weights, float(np.mean(bounds) - found(middle)[0]))

    def __call__(self, theta: Array) -> Array:
        """log Z of θ (n, 2), (n,)."""
        return terms(self.simulator, theta) @ self.weights + self.constant


def terms(simulator: Phi4, theta: Array, slope: int | None = None) -> Array:
    """Terms of the polynomial at θ (n, 2), or their derivatives by one parameter, (n, terms)."""
    low, high = simulator.prior.bulk.T
    scale = 2 / (high - low)
    u = (theta - low) * scale - 1
    powers = [(i, k - i) for k in range(1, DEGREE + 1) for i in range(k + 1)]
    columns = []
    for power in powers:
        each = [u[:, axis] ** p for axis, p in enumerate(power)]
        if slope is not None:
            p = power[slope]
            each[slope] = scale[slope] * p * u[:, slope] ** max(p - 1, 0)
        columns.append(each[0] * each[1])
    return np.stack(columns, 1)


def known(log_z: LogZ, theta: Array, x: Array) -> Array:
    """log p of maps x (n, L, L) at θ (n, 2), (n,)."""
    return -log_z.simulator.action(theta, x) - log_z(theta)


def checked(log_z: LogZ) -> str:
    """log Z at some θ less what annealing says it lies between."""
    simulator, rng = log_z.simulator, np.random.default_rng(1)
    theta = simulator.prior.sample(CHECKED, rng)
    pairs = zip(theta, log_z(theta), strict=True)
    off = [value - np.array(simulator.log_z_bounds(t, rng)) for t, value in pairs]
    return "; ".join(f"{low:+.2f} to {high:+.2f}" for high, low in off)


def moved(simulator: Phi4, step: Array, rng: np.random.Generator, theta: Array) -> Array:
    """Maps (n, L, L) at θ (n, 2) and a step."""
    return simulator.sample(theta + step, rng)


def row(label: str, simulator: Phi4, model: Model, log_z: LogZ | None = None) -> str:
    """A row of the table; without log p of what has none."""
    rng = np.random.default_rng(2)
    theta = simulator.prior.sample(ROWS, rng)
    x = simulator.sample(theta, rng)
    cells = [label, f"{model.cpu:.0f}", "–", *drawn_figures(simulator, model), *["–"] * 3]
    if log_z:
        lost = (known(log_z, theta, x) - model.log_p(theta, x)) / simulator.sites
        cells[2] = f"{1e3 * estimate(lost).value:.2f} ± {1e3 * estimate(lost).se:.2f}"
        cells[5:] = posteriors(simulator, model, log_z, x[:POSTERIORS])
    return "| " + " | ".join(cells) + " |"


def drawn_figures(simulator: Phi4, model: Model) -> list[str]:
    """Cells about drawn maps: identities and observables."""
    rng = np.random.default_rng(3)
    theta = simulator.prior.sample(DRAWN, rng)
    x, fresh = model.draw(theta), simulator.sample(theta, rng)
    least = min(simulator.verify(theta, x), key=lambda verdict: verdict.p_value)
    off = {}
    for name in OBSERVED:
        measured = simulator.observables[name]
        less = measured(x).reshape(DRAWN, -1) - measured(fresh).reshape(DRAWN, -1)  # at one θ
        off[name] = abs(less.mean(0) / less.std(0)).max() * DRAWN**0.5
    told = ", ".join(f"{name} {value:.1f}" for name, value in off.items())
    return [f"{least.p_value:.2g} ({least.name})", told]


def posteriors(simulator: Phi4, model: Model, log_z: LogZ, x: Array) -> list[str]:
    """Cells about posteriors."""
    if model.surrogate is None:
        raise TypeError("posteriors are of surrogates")
    start = time.process_time()
    mine = grid_posterior(of_surrogate(model.surrogate, x), simulator.prior, len(x))
    spent = time.process_time() - start
    exact = grid_posterior(of_exact(partial(known, log_z), x), simulator.prior, len(x))
    found = agreement(exact, mine)
    cells = [abs(found.shift).mean(0), found.ratio.mean(0)]
    told = [", ".join(f"{v:.3f}" for v in cell) for cell in cells]
    return [*told, f"{spent:.0f} ({model.surrogate.posterior_draws})"]


def gaussian(law: Law, theta: Array, x: Array) -> Model:
    """The law with which a diffusion begins, after maps x (n, L, L) at θ (n, 2)."""
    surrogate = Diffusion.create(law, DiffusionConfig(), 1).eval()
    surrogate.fit_transform(torch.from_numpy(x), torch.from_numpy(theta))
    return Model.trained(surrogate, 0.0, Design("diffusion", {}))


def main() -> None:
    """Measure the designs one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=DESIGNS, help="some designs")
    parser.add_argument("--size", type=int, default=8, help="sites along an axis")
    parser.add_argument("--epochs", type=int, help="instead of those of the designs")
    parser.add_argument("--folder", type=Path, help="where to keep data and checkpoints")
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    simulator, labels = Phi4(options.size), options.only or list(DESIGNS)
    rng = np.random.default_rng(1)
    with threads(1), tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        path, _ = data_of("phi4", options.size, folder)
        data = physgen.read(path)
        log_z = LogZ.of(simulator, data.theta, data.x)
        logging.info("log Z less its lower and upper bound: %s", checked(log_z))
        print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|", flush=True)
        for label, step in (("simulator", 0.0), (f"simulator, λ + {WRONG}", WRONG)):
            draw = partial(moved, simulator, np.array([0.0, step]), rng)
            print(row(label, simulator, Model(partial(known, log_z), draw)), flush=True)
        law = Law.of("phi4", {"size": options.size})
        model = gaussian(law, data.theta, data.x)
        print(row("its Gaussian law", simulator, model, log_z), flush=True)
        for label in labels:
            model = fitted(label, path, folder, options.epochs)
            print(row(label, simulator, model, log_z), flush=True)


if __name__ == "__main__":
    main()

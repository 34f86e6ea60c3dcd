r"""Do rounds of simulations pay? One round from the prior against two, at the same error.

Six parameters, uniform on [−1, 1]⁶, are bent by a map of unit volume,

    φ_1 = θ_1,   φ_d = θ_d + b θ_{d−1}²,   x = A φ + σ ε,   x of twelve components,

so that p(φ|x) is normal, apart from the box, and its draws, bent back, are exact draws of θ. One
round draws N simulations of the prior. The other way draws N/6 of these, infers the posteriors of
the observations, draws N/6 at these posteriors' draws, twice as wide and all mixed, and fits one
surrogate to both files: a third of N in all. Both surrogates train for as many steps. The error is
that of the posterior's mean in exact widths, over all parameters and observations; the ratio is
that of the widths.

``python -m benchmarks.rounds`` prints the table; ``--simulations``, ``--steps``, ``--seeds`` and
``--observations`` change its size.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

import physgen
from simulators.base import Array
from simulators.prior import Box

SIZE, DIMS, BATCH = 12, 6, 128


@dataclass(frozen=True)
class Bent:
    """x = A φ(θ) + σ ε, of which the posterior is known.

    Attributes:
        noise: σ (positive).
        bend: b.
    """

    noise: float = 0.05
    bend: float = 1.0

    support: ClassVar[Literal["reals"]] = "reals"
    dtype: ClassVar[Literal["float32"]] = "float32"
    x_shape: ClassVar[tuple[int]] = (SIZE,)

    @property
    def prior(self) -> Box:
        """Uniform on [−1, 1]⁶."""
        return Box(**{f"t{d}": (-1.0, 1.0, "", rf"\theta_{d}") for d in range(1, DIMS + 1)})

    @property
    def matrix(self) -> Array:
        """A, (size, parameters)."""
        return np.random.default_rng(3).standard_normal((SIZE, DIMS))

    def bent(self, theta: Array) -> Array:
        """φ of θ (n, D), (n, D)."""
        before = np.pad(theta[:, :-1], ((0, 0), (1, 0)))
        return theta + self.bend * before**2

    def straight(self, phi: Array) -> Array:
        """θ of φ (n, D), (n, D)."""
        theta = phi.copy()
        for d in range(1, DIMS):
            theta[:, d] -= self.bend * theta[:, d - 1] ** 2
        return theta

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One x for each row of θ, (n, D) → (n, size)."""
        noise = self.noise * rng.standard_normal((len(theta), SIZE))
        return self.bent(theta) @ self.matrix.T + noise

    def log_prob(self, theta: Array, x: Array) -> Array:
        """Exact log p(x|θ) in nats, (n,)."""
        r = (x - self.bent(theta) @ self.matrix.T) / self.noise
        return -0.5 * (r**2).sum(-1) - SIZE * np.log(self.noise * np.sqrt(2 * np.pi))

    def exact(self, x: Array, k: int, rng: np.random.Generator) -> Array:
        """Draws of p(θ|x) of one x (size,), about k of them, (…, D)."""
        cov = self.noise**2 * np.linalg.inv(self.matrix.T @ self.matrix)
        mean = np.linalg.lstsq(self.matrix, x, rcond=None)[0]
        theta = self.straight(rng.multivariate_normal(mean, cov, k))
        return theta[self.prior.contains(theta)]


@dataclass(frozen=True)
class Way:
    """Simulations, and what came of them.

    Attributes:
        simulations: number.
        error: of the mean, in exact widths, averaged over parameters and observations.
        ratio: of the widths, averaged alike.
        seconds: CPU time of training and inference.
    """

    simulations: int
    error: float
    ratio: float
    seconds: float


def one_round(n: int, observed: physgen.Dataset, steps: int, seed: int) -> Way:
    """A surrogate of n simulations from the prior."""
    begun = time.process_time()
    data = physgen.simulate(Bent(), n=n, seed=seed)
    return judged([data], observed, steps, seed, begun)


def two_rounds(n: int, observed: physgen.Dataset, steps: int, seed: int, folder: Path) -> Way:
    """A surrogate of n simulations, half of them at the posteriors of one of the others."""
    begun = time.process_time()
    first = physgen.simulate(Bent(), n=n // 2, seed=seed)
    rough = physgen.infer(fitted([first], steps, seed), observed, seed=seed, samples=1000)
    path = folder / f"posterior-{seed}.h5"
    rough.save(path, force=True)
    second = physgen.simulate(Bent(), n=n // 2, seed=seed + 1000, theta_from=path, widen=2.0)
    return judged([first, second], observed, steps, seed, begun)


def fitted(data: list[physgen.Dataset], steps: int, seed: int) -> physgen.Surrogate:
    """A surrogate trained for a number of steps."""
    batches = -(-sum(map(len, data)) * 9 // (10 * BATCH))
    epochs = max(1, round(steps / batches))
    return physgen.fit("cvae", data, epochs=epochs, batch_size=BATCH, seed=seed)


def judged(
    data: list[physgen.Dataset], observed: physgen.Dataset, steps: int, seed: int, begun: float
) -> Way:
    """What the surrogate of some data makes of the observations."""
    posterior = physgen.infer(fitted(data, steps, seed), observed, seed=seed, samples=1000)
    rng, error, ratio = np.random.default_rng(0), [], []
    for mean, sd, x in zip(posterior.mean, posterior.sd, observed.x, strict=True):
        exact = Bent().exact(x.astype(float), 200_000, rng)
        error.append(abs(mean - exact.mean(0)) / exact.std(0))
        ratio.append(sd / exact.std(0))
    seconds = time.process_time() - begun
    return Way(sum(map(len, data)), float(np.mean(error)), float(np.mean(ratio)), seconds)


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--simulations", type=int, default=6000, help="of one round, N")
    parser.add_argument("--steps", type=int, default=2500, help="of each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--observations", type=int, default=3)
    args = parser.parse_args(argv)
    observed = physgen.simulate(
        Bent(), n=args.observations, seed=77, prior={f"t{d}": (-0.7, 0.7) for d in range(1, 7)}
    )
    ways: dict[str, list[Way]] = {"one round, N/3": [], "two rounds, N/3": [], "one round, N": []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.seeds):
            third = args.simulations // 3
            found = (
                one_round(third, observed, args.steps, seed),
                two_rounds(third, observed, args.steps, seed, Path(folder)),
                one_round(args.simulations, observed, args.steps, seed),
            )
            for name, way in zip(ways, found, strict=True):
                ways[name].append(way)
    sys.stdout.write(f"{'':16} {'rows':>7} {'error':>14} {'ratio':>6} {'CPU s':>6}\n")
    for name, some in ways.items():
        error = np.array([w.error for w in some])
        se = error.std(ddof=1) / np.sqrt(len(error)) if len(error) > 1 else np.nan
        ratio, seconds = (np.mean([getattr(w, k) for w in some]) for k in ("ratio", "seconds"))
        sys.stdout.write(
            f"{name:16} {some[0].simulations:7,} {error.mean():7.3f} ± {se:.3f} {ratio:6.2f} "
            f"{seconds:6.0f}\n"
        )


if __name__ == "__main__":
    main()

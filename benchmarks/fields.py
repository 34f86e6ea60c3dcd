"""How fast random fields are drawn, and how soon chains of φ⁴ forget their start.

First maps and log p a CPU second of the Gaussian and the log-normal field, θ from the prior. Then
φ⁴ near its critical line (m² = −1.27, λ = 0.25): CPU ms a map, trajectories accepted, and
⟨|M|⟩/N and ⟨φ²⟩ after parts of the default length of a chain, which must have stopped to change.

    python benchmarks/fields.py [--sizes 16 32 64]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from simulators.field import GaussianField, LognormalField, Phi4

ROWS = 1000
CRITICAL = (-1.27, 0.25)
PARTS = (0.125, 0.25, 0.5, 1.0, 2.0)
LEAST = 0.2
"""CPU seconds of a timing."""
SITES = 2_000_000
"""Sites times trajectories of all chains of a length."""


def a_second(task: Callable[[], object], rows: int) -> float:
    """Rows a CPU second, the best of three; ticks of the clock may be longer than one task."""

    def once() -> float:
        start, times, spent = time.process_time(), 0, 0.0
        while spent < LEAST:
            task()
            times, spent = times + 1, time.process_time() - start
        return times * rows / spent

    return max(once() for _ in range(3))


def exact_fields(sizes: list[int]) -> None:
    """Draws and log p of the fields whose law is exact."""
    print("| field | L | maps a CPU s | log p a CPU s | I(θ; x), nats |\n|---|---|---|---|---|")
    for kind in (GaussianField, LognormalField):
        for size in sizes:
            field, rng = kind(size), np.random.default_rng(0)
            theta = field.prior.sample(ROWS, rng)
            x = field.sample(theta, rng)
            draws = a_second(lambda f=field, t=theta, r=rng: f.sample(t, r), ROWS)
            log_p = a_second(lambda f=field, t=theta, x=x: f.log_prob(t, x), ROWS)
            gain = field.mutual_information()
            print(f"| {kind.__name__} | {size} | {draws:,.0f} | {log_p:,.0f} | {gain:.2f} |")


def chains(size: int) -> None:
    """A row of φ⁴: what chains of several lengths have come to."""
    cells, rng = [], np.random.default_rng(1)
    whole = Phi4(size).trajectories_used
    for part in PARTS:
        length = max(1, round(part * whole))
        n = int(np.clip(SITES // (length * size**2), 30, 4000))
        field, theta = Phi4(size, trajectories=length), np.tile(CRITICAL, (n, 1))
        start = time.process_time()
        x = field.sample(theta, rng)
        cost = 1e3 * (time.process_time() - start) / n
        m, square = abs(x.mean((1, 2))), (x**2).mean((1, 2))
        errors = [v.std() / np.sqrt(n) for v in (m, square)]
        cells.append(f"{m.mean():.3f} ± {errors[0]:.3f}, {square.mean():.3f} ± {errors[1]:.3f}")
        if part == 1:
            accepted, ms = field.evolve(x, theta, rng, 5), cost
    print(
        f"| φ⁴ | {size} | {whole} | {ms:.1f} | {accepted:.2f} | " + " | ".join(cells) + " |",
        flush=True,
    )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 32, 64])
    sizes = parser.parse_args().sizes
    exact_fields(sizes)
    Phi4(4).sample(np.array([CRITICAL]), np.random.default_rng(0))  # compile
    after = " | ".join(f"mean abs M/N, φ² after {part:g} of these" for part in PARTS)
    print(f"\n| field | L | trajectories | CPU ms a map | accepted | {after} |")
    print("|---" * (5 + len(PARTS)) + "|")
    for size in (8, *sizes):
        chains(size)


if __name__ == "__main__":
    main()

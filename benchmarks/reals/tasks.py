"""What is measured: laws, training time, and the gap to reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.reals.laws import (
    BitsAndReals,
    CauchyNoise,
    GaussianField,
    LinearUniform,
    PoissonCounts,
    RedOscillator,
    Slcp,
    TwoCrescents,
    TwoWidths,
)
from simulators.oscillator import Oscillator

__all__ = ["TASKS", "Task"]


@dataclass(frozen=True)
class Task:
    """A law to learn.

    Attributes:
        title: for a person.
        simulator: builds it.
        target: nats above the floor to reach.
        seconds: CPU time of a training.
        observations: how many posteriors are compared.
        posterior: on the grid, or of draws of the exact posterior, weighted (fitted), or of
            draws of normal laws around x (around).
        window: half the side of the plane in which densities are drawn; 0 for no picture.
    """

    title: str
    simulator: Callable[[], Any]
    target: float
    seconds: float = 60
    observations: int = 40
    posterior: Literal["grid", "fitted", "around"] = "grid"
    window: float = 0.0


TASKS: Mapping[str, Task] = {
    "crescents": Task(
        "two crescents (2)", TwoCrescents, 0.10, observations=20, posterior="fitted", window=0.15
    ),
    "widths2": Task(
        "two widths, one mean (2)", lambda: TwoWidths(2), 0.05, posterior="around", window=2.0
    ),
    "widths5": Task(
        "two widths, one mean (5)", lambda: TwoWidths(5), 0.05, posterior="around"
    ),
    "slcp": Task(
        "four draws, 5 nonlinear parameters (8)", Slcp, 0.5, 180, 10, "fitted"
    ),
    "linear": Task(
        "linear Gaussian (10)", LinearUniform, 0.02, observations=20, posterior="fitted"
    ),
    "cauchy": Task("Cauchy noise (3)", CauchyNoise, 0.05),
    "counts": Task("Poisson counts to 1,000 (4)", PoissonCounts, 0.05),
    "bits": Task("five bits, two reals (7)", BitsAndReals, 0.03),
    "oscillator": Task("oscillator, white noise (200)", Oscillator, 1.0, 180, 20, "fitted"),
    "red": Task("oscillator, AR(1) noise (200)", RedOscillator, 1.0, 180, 20, "fitted"),
    "field": Task("Gaussian field (16 × 16)", GaussianField, 2.56, 180),
}  # fmt: skip
"""Name → law, in the order of the table."""

"""Laws of real x with an exact log p, and every density of x on one table beside sbi's.

``python -m benchmarks.reals run`` measures, ``python -m benchmarks.reals table`` writes what was
measured; each law is a simulator, as in ``physgen simulate benchmarks.reals:TwoCrescents``.
"""

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

__all__ = [
    "BitsAndReals",
    "CauchyNoise",
    "GaussianField",
    "LinearUniform",
    "PoissonCounts",
    "RedOscillator",
    "Slcp",
    "TwoCrescents",
    "TwoWidths",
]

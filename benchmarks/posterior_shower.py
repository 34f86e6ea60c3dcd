"""Posteriors beside sbi's: the energies of a shower's 25 layers, θ = (ln E, t_up).

50 held-out showers. What is measured, and how the peers are trained, stands in
`benchmarks.posteriors`; figures of each parameter stand side by side. I(θ; x) is the mean gain of
the exact posteriors of 400 other showers. The control is the exact posterior on a finer grid. sbi
has no density for x that is 0 or a positive number, so there is no NLE.

    python -m benchmarks.posterior_shower [--methods NPE cvae] [--seeds 1]
"""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.posteriors import Ours, Task, at_truth, posteriors, tabulate
from benchmarks.shower_surrogates import AT_ONCE, LARGE, WIDE
from physgen.checks.estimate import Estimate, estimate
from physgen.posterior.grid import of_exact
from simulators.shower import Shower

SEED, SHOWERS = 2**21, 400
"""Of the showers that I(θ; x) is estimated from."""
LONG = {"epochs": 10_000, "max_minutes": 1.2}


def information(shower: Shower) -> Estimate:
    """I(θ; x) in nats, by the exact posteriors of showers of their own."""
    rng = np.random.default_rng(SEED)
    theta = shower.prior.sample(SHOWERS, rng)
    x = shower.sample(theta, rng)
    exact = posteriors(partial(of_exact, shower.log_prob), x, shower.prior, AT_ONCE)
    return estimate(at_truth(exact, theta) - shower.prior.log_prob(theta))


TASK = Task(
    "shower",
    information=information,
    ours={
        "cvae": Ours("cvae", WIDE | LONG, draws=32),
        "autoregressive": Ours("autoregressive", {"batch_size": 256} | LONG),
        "diffusion": Ours("diffusion", LARGE | LONG, draws=64),
    },
    peers=("NPE", "NRE", "FMPE"),
    singles=50,
    control={"nodes": 33, "tolerance": 0.5},
    tolerance=0.003,
    at_once=AT_ONCE,
)

if __name__ == "__main__":
    tabulate(TASK, __doc__)

"""Posteriors beside sbi's: Ising L = 8, β ~ U(0.1, 0.7), every method against the exact posterior.

100 held-out lattices alone and 50 sets of ten. What is measured, and how the peers are trained,
stands in `benchmarks.posteriors`. The control is the exact posterior on a fine uniform grid: its
nodes are 0.0015 apart, a tenth of the narrowest posterior's width. `NLE-maf-raw` runs where it is
named: a continuous flow over ±1, whose loss falls while its posterior worsens.

    python -m benchmarks.posterior_ising [--methods NPE cvae] [--seeds 1]
"""

from __future__ import annotations

from benchmarks.posteriors import PEERS, Ours, Task, tabulate
from physgen.checks.estimate import Estimate

TASK = Task(
    "ising",
    information=lambda ising: Estimate(ising.mutual_information(), 0.0),
    options={"size": 8},
    ours={
        "autoregressive": Ours("autoregressive", {"epochs": 50}),
        "autoregressive, symmetrised": Ours("autoregressive", {"epochs": 50}, symmetrise=True),
        "rbm, tied": Ours("rbm", {"learning_rate": 0.01, "epochs": 150}),
        "cvae": Ours("cvae", {"epochs": 10}, draws=None),
        "diffusion, masked": Ours("diffusion", {"batch_size": 64, "epochs": 8}),
    },
    peers=tuple(PEERS),
    singles=100,
    sets=50,
    control={"nodes": 401, "rounds": 1},
    tolerance=0.003,
    at_once=100,
)

if __name__ == "__main__":
    tabulate(TASK, __doc__)

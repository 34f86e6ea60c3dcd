"""Which families does a harder shower break?

Showers as they are, with gains of layers that fluctuate (σ = 0.1, correlation 0.5) and with dead
rows (p = 0.03), each with its exact law: layer energies (`shower`) and cells (`shower-voxel`, 12 ×
8 × 6). A family is trained in the same way on all three, as many epochs on as many showers, and
held against the exact law: gap of log p in nats a shower, posterior means of (ln E, t_up) off in
exact widths, and ratio of widths. The row `plain law` is the exact law of plain showers, which
knows neither gains nor dead rows: how much there is to learn.

    python -m benchmarks.hard_showers [--only cvae "voxel cvae"] [--toys gains] [--folder DIR]
    python -m benchmarks.hard_showers --figure hard.png
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import physgen
from benchmarks.posteriors import agreement, posteriors
from physgen.checks.estimate import estimate
from physgen.posterior.grid import LogLikelihood, of_exact, of_surrogate
from physgen.runtime.device import threads
from physgen.surrogates.base import Surrogate
from simulators.base import Array
from simulators.shower import Shower, ShowerVoxel

TOYS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "gains": {"gain_spread": 0.1, "gain_correlation": 0.5},
    "dead rows": {"dead": 0.03},
}
"""Label → options of the simulator."""
SIMULATORS = {"shower": Shower, "shower-voxel": ShowerVoxel}
OBSERVATIONS = {"shower": 20, "shower-voxel": 8}
"""Posteriors; of cells log p takes longer."""
WIDE = {"channels": 64, "batch_size": 256}
DESIGNS: Mapping[str, tuple[str, str, Mapping[str, Any], int]] = {
    "cvae": ("shower", "cvae", {**WIDE, "epochs": 40}, 32),
    "autoregressive": ("shower", "autoregressive", {"batch_size": 256, "epochs": 7}, 1),
    "voxel tree": ("shower-voxel", "tree", {"learning_rate": 8e-3, "epochs": 1}, 1),
    "voxel cvae": ("shower-voxel", "cvae", {**WIDE, "epochs": 4}, 32),
    "voxel cvae, compound Poisson": (
        "shower-voxel", "cvae", {**WIDE, "head": "compound-poisson", "epochs": 4}, 32,
    ),
}  # fmt: skip
"""Label → simulator, family, options of `physgen.fit`, draws of log p."""
BASELINE = "plain law"
TRAINING, TESTING, AT_ONCE = 50_000, 500, 5
HEAD = "| showers | model | CPU s | gap, nats | posterior off: ln E, t_up | width ratio |"
Observe = Callable[[Array], LogLikelihood]


class HeldOut:
    """Fresh showers of one toy and their exact answers.

    Args:
        simulator: whose they are.
        n: number of showers that tell the gap.
        observations: number of those that have a posterior.
    """

    def __init__(self, simulator: Any, n: int, observations: int) -> None:
        rng = np.random.default_rng(2)
        self.prior, self.theta = simulator.prior, simulator.prior.sample(n, rng)
        self.x = simulator.sample(self.theta, rng)
        self.log_p = simulator.log_prob(self.theta, self.x)
        self.observed = self.x[:observations]
        self.exact = self._posteriors(partial(of_exact, simulator.log_prob))

    def _posteriors(self, observe: Observe) -> Any:
        return posteriors(observe, self.observed, self.prior, AT_ONCE)

    def figures(self, log_p: Array, observe: Observe) -> list[str]:
        """Gap of log p (n,), error of the posteriors and ratio of their widths."""
        gap = estimate(self.log_p - log_p)
        found = agreement(self.exact, self._posteriors(observe))
        pairs = abs(found.shift).mean(0), found.ratio.mean(0)
        return [
            f"{gap.value:.3f} ± {gap.se:.3f}",
            *(", ".join(f"{value:.3f}" for value in pair) for pair in pairs),
        ]


def of_plain(name: str, held: HeldOut) -> list[str]:
    """What the exact law of plain showers comes to."""
    log_prob = SIMULATORS[name]().log_prob
    return ["–", *held.figures(log_prob(held.theta, held.x), partial(of_exact, log_prob))]


def of_family(label: str, toy: str, held: HeldOut, folder: Path) -> list[str]:
    """What a family comes to, trained on a toy."""
    draws = DESIGNS[label][3]
    model, cpu = trained(label, toy, folder)
    theta, x = torch.from_numpy(held.theta), torch.from_numpy(held.x)
    log_p = model.log_prob(theta, x, draws=draws).numpy()
    return [f"{cpu:.0f}", *held.figures(log_p, partial(of_surrogate, model, draws=draws))]


def trained(label: str, toy: str, folder: Path) -> tuple[Surrogate, float]:
    """A family trained on a toy, and the CPU seconds that it took."""
    name, family, options, _ = DESIGNS[label]
    data, out = folder / f"{name}-{toy}.h5", folder / f"{label}-{toy}.pt"
    if not data.exists():
        physgen.simulate(name, out=data, n=TRAINING, seed=1, **TOYS[toy])
    if not out.exists():
        physgen.fit(family, data, out=out, **{"seed": 1, **options})
    model, info = physgen.load(out, device="cpu")
    return model, info["history"][-1]["cpu_seconds"]


def rows(labels: list[str], toys: list[str], folder: Path) -> Iterator[list[str]]:
    """The table, row by row."""
    for name, simulator in SIMULATORS.items():
        of_these = [label for label in labels if DESIGNS[label][0] == name]
        for toy in toys if of_these else ():
            held = HeldOut(simulator(**TOYS[toy]), TESTING, OBSERVATIONS[name])
            yield [f"{name}, {toy}", BASELINE, *of_plain(name, held)]
            for label in of_these:
                yield [f"{name}, {toy}", label, *of_family(label, toy, held, folder)]


def draw(path: Path) -> None:
    """A shower of 20 GeV in its cells, summed over radii, in a panel for each toy."""
    from matplotlib import colors
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.9), layout="constrained")
    axes = figure.subplots(1, len(TOYS), sharey=True)
    for ax, (toy, options) in zip(axes, TOYS.items(), strict=True):
        simulator = ShowerVoxel(**options)
        x = simulator.sample(np.array([[np.log(20.0), 1.0]]), np.random.default_rng(4))[0].sum(2)
        depth = simulator.thickness * np.arange(len(x) + 1)
        shown = np.ma.masked_equal(x.T, 0)
        image = ax.pcolormesh(depth, np.arange(9), shown, norm=colors.LogNorm(1e-3, 1))
        ax.set(title=toy, xlabel="depth, X₀", facecolor="0.85")
    axes[0].set_ylabel("azimuth, of 8")
    figure.colorbar(image, ax=axes, label="energy, GeV")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure the families on the toys."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=DESIGNS, default=list(DESIGNS))
    parser.add_argument("--toys", nargs="+", choices=TOYS, default=list(TOYS))
    parser.add_argument("--folder", type=Path, help="where to keep data and checkpoints")
    parser.add_argument("--figure", type=Path, help="draw one shower of each toy there, only")
    options = parser.parse_args()
    if options.figure:
        draw(options.figure)
        return
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    with threads(1), tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(HEAD + "\n" + "|---" * HEAD.count(" | ") + "|---|", flush=True)
        for row in rows(options.only, options.toys, folder):
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()

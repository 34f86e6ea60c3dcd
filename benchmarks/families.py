"""Every family on one table: Ising L = 8, β ~ U(0.1, 0.7), 20,000 lattices, the same for all.

Prints one row for each design: gap to the exact log p, posterior over β against the exact one for
single lattices and for sets of ten, distances of histograms of samples as multiples of what two
true sets of this size give, energy of samples at β = 0.44, CPU seconds, samples a CPU second. The
first designs of the CVAE are what others are measured against: one factorised level (the plain
conditional VAE) and the hierarchy with a factorised decoder. sbi's MADE is trained by its NLE, for
at most one CPU minute, where sbi is installed.

    python -m benchmarks.families [--only "diffusion, masked" gan]
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

import physgen
from benchmarks.posteriors import affordable, train_peer
from physgen.checks.validation import validation
from physgen.law import Law
from physgen.runtime.device import threads
from physgen.sbi.networks import components, of_x
from physgen.surrogates.base import Likelihood, Noise, Surrogate

DESIGNS: Mapping[str, tuple[str, Mapping[str, Any], int]] = {
    "cvae, plain: one level, factorised": ("cvae", {"levels": 1, "stages": 1, "epochs": 12}, 100),
    "cvae, hierarchy, factorised": ("cvae", {"stages": 1, "epochs": 8}, 100),
    "cvae": ("cvae", {"epochs": 6}, 100),
    "diffusion, masked": ("diffusion", {"batch_size": 64, "epochs": 5}, 2),
    "diffusion, gaussian": (
        "diffusion", {"batch_size": 64, "kernel": "gaussian", "epochs": 5}, 64,
    ),
    "autoregressive": ("autoregressive", {"epochs": 30}, 1),
    "rbm, tied": ("rbm", {"learning_rate": 0.01, "ladder": 8000, "epochs": 100}, 1),
    "rbm, dense": ("rbm", {"layout": "dense", "learning_rate": 0.005, "epochs": 100}, 1),
    "gan": ("gan", {"epochs": 3}, 1),
    "gan, wasserstein": (
        "gan", {"loss": "wasserstein", "penalty": 1.0, "critic_steps": 2, "epochs": 2}, 1,
    ),
}  # fmt: skip
"""Label → family, options of `physgen.fit`, draws of log p; about 40 CPU seconds of training."""
MADE, MADE_MINUTES = "sbi NLE, MADE", 1.0
BETA = 0.44
HEAD = (
    "design", "CPU s", "gap, nats/spin", "posterior: error / width ratio / ½+TV/2", "sets of ten",
    "JS ÷ null: energy, abs. magnetisation", "E/N at β = 0.44 (exact {:.4f})", "samples / CPU s",
)  # fmt: skip


@dataclass(frozen=True)
class NoOptions:
    """A peer has none."""


class Peer(Surrogate):
    """sbi's MADE in our clothes, so that it is measured by the same lines."""

    name: ClassVar[str] = MADE
    Config = NoOptions
    likelihood = Likelihood.EXACT

    def __init__(self, law: Law, net: Any) -> None:
        super().__init__(law, NoOptions())
        self.net = net

    def _loss(self, c: Tensor, z: Tensor, generator: Any, progress: float) -> Tensor:
        raise TypeError("it was trained by sbi")

    def _log_prob(self, c: Tensor, z: Tensor, noise: Noise, draws: int) -> tuple[Tensor, Tensor]:
        value = of_x(self.net, self._theta(c), components(self.law, z))
        return value, torch.zeros_like(value)

    def _sample(self, c: Tensor, generator: torch.Generator) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())  # noqa: TID251  sbi has no other way
            bits = self.net.sample((1,), self._theta(c))[0]
        return (2 * bits - 1).view(-1, *self.law.x_shape).float()

    def _theta(self, c: Tensor) -> Tensor:
        low, high = self.rescale.low, self.rescale.high
        return (low + (c.double() + 1) / 2 * (high - low)).float()


def trained(name: str, folder: Path) -> Surrogate:
    """One design, trained."""
    train = folder / "train.h5"
    if name == MADE:
        network = train_peer(train, "NLE", 1, affordable(train, "NLE", 1, MADE_MINUTES))
        return Peer(network.law, network.net).eval()
    family, given, _ = DESIGNS[name]
    out = folder / f"{list(DESIGNS).index(name)}.pt"
    physgen.fit(family, train, out=out, seed=1, **given)
    return physgen.load(out, device="cpu")[0]


def measure(name: str, folder: Path) -> str:
    """Train one design and measure it: a row of the table."""
    if name == MADE and not find_spec("sbi"):
        return f"| {name} | not installed" + " | –" * (len(HEAD) - 2) + " |"
    start = time.process_time()
    model = trained(name, folder)
    cpu = time.process_time() - start
    test = physgen.read(folder / "test.h5")
    ising = test.meta.law.build()
    draws = DESIGNS[name][2] if name in DESIGNS else 1
    found = validation(model, test.theta, test.x, ising, draws=draws, seed=1)
    theta = torch.full((4000, 1), BETA, dtype=torch.float64)
    start = time.process_time()
    x = model.sample(theta, torch.Generator().manual_seed(1)).numpy()
    rate = len(x) / (time.process_time() - start)
    e = ising.observables["energy"](x)
    nll, posterior = found["nll"], found["posterior"]
    js = [found["observables"][key] for key in ("energy", "abs_magnetisation")]
    cells = [
        name,
        f"{cpu:.0f}",
        f"{nll['gap_per_dim']:.5f} ± {nll['gap_se']:.5f}" if nll else "–",
        *(figures(p) for p in ((posterior, posterior["sets"]) if posterior else (None, None))),
        ", ".join(f"{o['js'] / o['js_null']:.2f}" for o in js),
        f"{e.mean():.4f} ± {e.std() / np.sqrt(len(e)):.4f}",
        f"{rate:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def figures(posterior: Mapping[str, float] | None) -> str:
    """Error, width ratio and ½ + TV/2 of posteriors; a dash where there are none."""
    if posterior is None:
        return "–"
    return " / ".join(f"{posterior[key]:.3f}" for key in ("mean_error", "std_ratio", "c2st"))


def main() -> None:
    """Measure the designs one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[*DESIGNS, MADE], help="some designs")
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    with threads(1), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        physgen.simulate("ising", out=folder / "train.h5", n=20_000, seed=1, size=8)
        physgen.simulate("ising", out=folder / "test.h5", n=2000, seed=2, size=8)
        exact = physgen.read(folder / "test.h5").meta.law.build().observables["energy"].exact
        at_beta = exact(np.array([[BETA]]))[0]
        print("| " + " | ".join(HEAD).format(at_beta) + " |\n" + "|---" * len(HEAD) + "|")
        for design in options.only or [*DESIGNS, MADE]:
            print(measure(design, folder), flush=True)


if __name__ == "__main__":
    main()

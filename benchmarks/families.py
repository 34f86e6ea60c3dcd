"""How good a surrogate is for its CPU time: Ising L = 8, β ~ U(0.1, 0.7), 20,000 lattices.

Prints one row for each design: gap to the exact log p, energy of its samples at β = 0.44,
posterior over β against the exact one for single lattices and for sets of ten, samples per second.
The first two designs are what others are measured against: one factorised level (the plain
conditional VAE) and the hierarchy with a factorised decoder.

    python benchmarks/families.py [--minutes 2.5] [--only "diffusion, masked"]
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import physgen
from physgen.device import threads

DESIGNS = {
    "cvae, plain: one level, factorised": ("cvae", {"levels": 1, "stages": 1}, 100),
    "cvae, hierarchy, factorised": ("cvae", {"stages": 1}, 100),
    "cvae, hierarchy, 4 stages": ("cvae", {"stages": 4}, 100),
    "cvae": ("cvae", {}, 100),
    "diffusion, masked": ("diffusion", {"batch_size": 64}, 2),
    "diffusion, masked, random order": ("diffusion", {"batch_size": 64, "order": "random"}, 2),
    "diffusion, gaussian": ("diffusion", {"batch_size": 64, "kernel": "gaussian"}, 256),
}
"""Label → family, options of `physgen.fit`, draws of log p."""
BETA = 0.44


def measure(name: str, folder: Path, minutes: float) -> str:
    """Train one design and measure it: a row of the table."""
    family, given, draws = DESIGNS[name]
    out = folder / f"{list(DESIGNS).index(name)}.pt"
    physgen.fit(
        family, folder / "train.h5", out=out, seed=1, epochs=10_000, max_minutes=minutes, **given
    )
    metrics = physgen.validate(
        out, folder / "test.h5", out=out.with_suffix(".json"), draws=draws, seed=1
    ).data
    model, info = physgen.load(out, device="cpu")
    theta = torch.full((4000, 1), BETA, dtype=torch.float64)
    with threads():
        start = time.process_time()
        x = model.sample(theta, torch.Generator().manual_seed(1)).numpy()
        rate = len(x) / (time.process_time() - start)
    energy = model.law.build().observables["energy"]
    e = energy(x)
    nll, posterior = metrics["nll"], metrics["posterior"]
    sets = posterior["sets"]
    cells = [
        name,
        f"{info['history'][-1]['cpu_seconds']:.0f}",
        f"{nll['gap_per_dim']:.5f} ± {nll['gap_se']:.5f}",
        f"{e.mean():.4f} ± {e.std() / np.sqrt(len(e)):.4f}",
        f"{posterior['mean_error']:.3f} / {posterior['std_ratio']:.3f} / {posterior['c2st']:.3f}",
        f"{sets['mean_error']:.3f} / {sets['std_ratio']:.3f} / {sets['c2st']:.3f}",
        f"{rate:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure the designs one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2.5, help="training time of each design")
    parser.add_argument("--only", choices=list(DESIGNS), help="one design")
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        physgen.simulate("ising", out=folder / "train.h5", n=20_000, seed=1, size=8)
        physgen.simulate("ising", out=folder / "test.h5", n=2000, seed=2, size=8)
        exact = physgen.read(folder / "test.h5").meta.law.build().observables["energy"].exact
        print(
            "| design | train CPU s | gap, nats/spin | "
            f"E/N at β = {BETA} (exact {exact(np.array([[BETA]]))[0]:.4f}) | "
            "posterior: error / width ratio / ½+TV/2 | sets of ten | samples / CPU s |"
        )
        print("|---|---|---|---|---|---|---|")
        for design in [options.only] if options.only else DESIGNS:
            print(measure(design, folder, options.minutes), flush=True)


if __name__ == "__main__":
    main()

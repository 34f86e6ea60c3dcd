"""Surrogates of particle showers on one table, beside the exact answer and fresh showers.

Layer energies (`shower`: 25 layers) and cells (`shower-voxel`: 12 × 8 × 6), θ = (ln E, t_up), and
50,000 training showers, the same for all but the design that draws fresh ones. First a table
against the exact law: gap of log p in nats a shower, posterior means off in exact widths, ratio of
widths and ½ + TV/2, and the p-values of uniform ranks of θ. Then one of samples against fresh
showers at the same θ, by `physgen compare`, with nulls and controls, and the time a shower takes
at batch 1, 100 and 10⁴. The row `simulator` is fresh showers, and `simulator, c = 0.11` the
control that must be told from them.

    python -m benchmarks.shower_surrogates [--minutes 8] [--only cvae "voxel cvae"]
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import chisquare

import physgen
from benchmarks.posteriors import agreement, posteriors
from physgen.checks.estimate import estimate
from physgen.checks.exact.gap import paired
from physgen.checks.two_sample.comparison import comparison
from physgen.dataset import Rows
from physgen.posterior.grid import GridPosterior, of_exact, of_surrogate
from physgen.runtime.device import threads
from physgen.surrogates.base import Surrogate
from simulators.base import Array
from simulators.shower import Shower, ShowerVoxel

CONTROL, FRESH = "simulator, c = 0.11", "simulator"
WIDE = {"channels": 64, "batch_size": 256}
SPOTS = {**WIDE, "head": "compound-poisson"}
LARGE = {"batch_size": 1024, "learning_rate": 5e-3}
FAST = {"learning_rate": 8e-3}
ANEW = {"batch_size": 256, "simulate": True, "patience": 0}
TREE = {"batch_size": 64, "learning_rate": 8e-3, "validation": 0.03, "neighbours": False}
DESIGNS: Mapping[str, tuple[str, str, Mapping[str, Any], int, int]] = {
    "cvae": ("shower", "cvae", WIDE, 100, 32),
    "autoregressive": ("shower", "autoregressive", FAST, 1, 1),
    "energies": ("shower", "autoregressive", {**FAST, **ANEW}, 1, 1),
    "diffusion": ("shower", "diffusion", LARGE, 64, 256),
    "cvae, compound Poisson": ("shower", "cvae", {**SPOTS, "epochs": 40}, 100, 32),
    "voxel cvae": ("shower-voxel", "cvae", WIDE, 50, 32),
    "voxel cvae, compound Poisson": (
        "shower-voxel", "cvae", {**SPOTS, "epochs": 30}, 50, 32,
    ),
    "voxel cvae, compound Poisson, fresh": (
        "shower-voxel", "cvae", {**SPOTS, "epochs": 30, "simulate": True}, 50, 32,
    ),
    "tree": ("shower-voxel", "tree", TREE, 1, 1),
    "tree, fresh": ("shower-voxel", "tree", {**TREE, "simulate": True, "patience": 0}, 1, 1),
    "voxel diffusion": (
        "shower-voxel", "diffusion", {"batch_size": 64, "learning_rate": 4e-3}, 32, 8,
    ),
    "voxel diffusion, channels": (
        "shower-voxel", "diffusion", {**LARGE, "batch_size": 512, "showers": "channels"}, 32, 32,
    ),
}  # fmt: skip
"""Label → simulator, family, options of `physgen.fit`, draws of log p for gap and posterior."""
SIMULATORS = {"shower": Shower, "shower-voxel": ShowerVoxel}
AT_ONCE = 5
"""Posteriors whose grids zoom until the last of them is resolved."""
RANKS = 99
"""Posterior draws among which θ has its rank."""
TRUTH = (
    "design", "CPU s", "gap, nats", "posterior off, exact widths: ln E, t_up",
    "width ratio", "½+TV/2", "p of uniform ranks",
)  # fmt: skip
SAMPLES = (
    "showers of", "AUC low (null, control)", "AUC high (null, control)", "FPD × 1000 (null)",
    "worst separation (null)", "zeros, % (fresh)", "ms a shower at batch 1, 100, 10⁴",
)  # fmt: skip


def tensor(values: Array) -> torch.Tensor:
    """An array as a tensor."""
    return torch.from_numpy(values)


def ranks(posterior: GridPosterior, theta: Array) -> Array:
    """The ranks of θ (n, D) among draws of its posterior, (n, D)."""
    draws = posterior.sample(RANKS, np.random.default_rng(0))
    return (draws < theta[:, None]).sum(1)


def uniformity(rank: Array) -> Array:
    """p-values of uniform ranks (n, D), in ten bins, (D,)."""
    edges = np.linspace(-0.5, RANKS + 0.5, 11)
    return np.array([chisquare(np.histogram(r, edges)[0]).pvalue for r in rank.T])


def against_truth(
    model: Surrogate, cpu: float, folder: Path, label: str, observations: int, ranked: int
) -> str:
    """A row of the first table."""
    name, _, _, draws, posterior_draws = DESIGNS[label]
    test = physgen.read(folder / f"{name}-test.h5")
    some = slice(0, 2000 if name == "shower" else 500)
    theta, x = test.theta[some], test.x[some]
    exact = SIMULATORS[name]().log_prob(theta, x)
    log_p = model.log_prob_with_error(tensor(theta), tensor(x), draws=draws)
    gap = paired(exact, log_p.value.numpy(), log_p.value.numpy()[None])
    prior = test.meta.law.prior

    exactly = partial(of_exact, SIMULATORS[name]().log_prob)
    learnt = partial(of_surrogate, model, draws=posterior_draws)
    n = max(observations, ranked)
    found = posteriors(learnt, test.x[:n], prior, AT_ONCE)
    of_these = agreement(posteriors(exactly, test.x[:observations], prior, AT_ONCE), found)
    error, ratio = abs(of_these.shift).mean(0), of_these.ratio.mean(0)
    tv = estimate(of_these.c2st)
    starts = range(0, n, AT_ONCE)
    rank = [ranks(m, test.theta[i : i + len(m)]) for i, m in zip(starts, found, strict=True)]
    p = uniformity(np.concatenate(rank))
    cells = [
        label,
        f"{cpu:.0f}",
        f"{gap.value:.3f} ± {gap.se:.3f}",
        ", ".join(f"{e:.3f}" for e in error),
        ", ".join(f"{r:.3f}" for r in ratio),
        f"{tv.value:.3f} ± {tv.se:.3f}",
        ", ".join(f"{v:.2f}" for v in p) + f" (n = {n})",
    ]
    return "| " + " | ".join(cells) + " |"


def against_fresh(label: str, name: str, folder: Path, model: Surrogate | None) -> str:
    """A row of the second table."""
    test = physgen.read(folder / f"{name}-test.h5")
    theta, rng = test.theta, np.random.default_rng(3)
    if model:
        x = drawn(model, theta)
        times = [per_shower(model, theta, batch) for batch in (1, 100, 10_000)]
    else:
        c = 0.11 if label.endswith(CONTROL) else 0.10
        x, times = SIMULATORS[name](resolution=c).sample(theta, rng), []
    found = comparison(Rows(x=x, theta=theta, meta=test.meta), test)
    areas = [
        f"{t['auc']:.3f} ({t['null']:.3f}, {t['control']:.3f})"
        for t in (found["classifiers"]["low"], found["classifiers"]["high"])
    ]
    fpd, worst = found["fpd"]["plain"], found["worst"]
    cells = [
        label,
        *areas,
        f"{1e3 * fpd['value']:.2f} ({1e3 * fpd['null']:.2f})",
        f"{worst['value']:.4f} ({worst['null']:.4f}), {worst['observable']}",
        f"{100 * (x == 0).mean():.2f} ({100 * (test.x == 0).mean():.2f})",
        ", ".join(f"{t:.3g}" for t in times) or "–",
    ]
    return "| " + " | ".join(cells) + " |"


def drawn(model: Surrogate, theta: Array) -> Array:
    """One shower for each θ."""
    return model.sample(tensor(theta), torch.Generator().manual_seed(1)).numpy()


def per_shower(model: Surrogate, theta: Array, batch: int) -> float:
    """Median wall time of a shower in ms, in batches of a size."""
    theta = np.resize(theta, (batch, theta.shape[1]))
    seconds = []
    for _ in range(1 if batch > 1000 else 5):
        start = time.perf_counter()
        drawn(model, theta)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)) / batch * 1e3


def trained(label: str, folder: Path, minutes: float) -> tuple[Surrogate, float]:
    """One design, trained, and the CPU seconds that it took."""
    name, family, options, *_ = DESIGNS[label]
    out = folder / f"{label}.pt"
    if not out.exists():
        about = {"seed": 1, "epochs": 10_000, "max_minutes": minutes} | dict(options)
        physgen.fit(family, folder / f"{name}-train.h5", out=out, **about)
    model, info = physgen.load(out, device="cpu")
    return model, info["history"][-1]["cpu_seconds"]


def main() -> None:
    """Measure the designs one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8, help="training time of each design")
    parser.add_argument("--only", nargs="+", choices=DESIGNS, help="some designs")
    parser.add_argument("--observations", type=int, default=100, help="exact posteriors")
    parser.add_argument("--ranked", type=int, default=100, help="posteriors for ranks")
    parser.add_argument("--folder", type=Path, help="where to keep data and checkpoints")
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    labels = options.only or list(DESIGNS)
    with threads(1), tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for name in dict.fromkeys(DESIGNS[label][0] for label in labels):
            for part, n, seed in (("train", 50_000, 1), ("test", 4000, 2)):
                out = folder / f"{name}-{part}.h5"
                if not out.exists():
                    physgen.simulate(name, out=out, n=n, seed=seed)
        print("| " + " | ".join(TRUTH) + " |\n" + "|---" * len(TRUTH) + "|", flush=True)
        models = {}
        for label in labels:
            models[label], cpu = trained(label, folder, options.minutes)
            row = against_truth(
                models[label], cpu, folder, label, options.observations, options.ranked
            )
            print(row, flush=True)
        print("\n| " + " | ".join(SAMPLES) + " |\n" + "|---" * len(SAMPLES) + "|", flush=True)
        for name in dict.fromkeys(DESIGNS[label][0] for label in labels):
            for label in (FRESH, CONTROL):
                print(against_fresh(f"{name}: {label}", name, folder, None), flush=True)
        for label, model in models.items():
            print(against_fresh(label, DESIGNS[label][0], folder, model), flush=True)


if __name__ == "__main__":
    main()

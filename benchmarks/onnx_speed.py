"""Surrogates drawn from by onnxruntime beside torch: samples a CPU second, sizes, the export.

Ising L = 8 and a spectrum of 40 bins (reals, nonnegative). The weights are random, for speed does
not depend on what was learnt. Prints one row for each family: seconds of the export, its check in
onnxruntime included, sizes of checkpoint and model, random numbers a row, samples a CPU second in
torch and in onnxruntime, each on one thread, and the largest difference of x, of the same random
numbers, in units of its spread, with the rows that a rounding made others.

    python benchmarks/onnx_speed.py [--only "diffusion, masked" gan]
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import physgen
from physgen.registry import find
from physgen.surrogates.graph import compared, draw_with, noise_columns
from simulators.base import Array
from simulators.prior import Box

ROWS, DRAWN, SECONDS = 500, 1000, 1.0
DESIGNS: Mapping[str, tuple[str, str, Mapping[str, Any], Mapping[str, Any]]] = {
    "autoregressive, spins": ("spins", "autoregressive", {}, {}),
    "cvae, spins": ("spins", "cvae", {}, {}),
    "gan, spins": ("spins", "gan", {}, {}),
    "diffusion, masked": ("spins", "diffusion", {}, {}),
    "diffusion, masked, 16 steps": ("spins", "diffusion", {}, {"steps": 16}),
    "diffusion, gaussian, 16 steps": ("spins", "diffusion", {"kernel": "gaussian"}, {"steps": 16}),
    "rbm, 64 sweeps": ("spins", "rbm", {}, {"steps": 64}),
    "cvae, reals": ("reals", "cvae", {}, {}),
    "gan, reals": ("reals", "gan", {}, {}),
    "diffusion, reals": ("reals", "diffusion", {}, {}),
    "diffusion, reals, dpm-solver": (
        "reals", "diffusion", {}, {"steps": 16, "sampler": "dpm-solver"},
    ),
    "autoregressive, hurdle": ("nonnegative", "autoregressive", {}, {}),
    "cvae, hurdle": ("nonnegative", "cvae", {}, {}),
    "diffusion, hurdle, 16 steps": ("nonnegative", "diffusion", {}, {"steps": 16}),
}  # fmt: skip
"""Label → x, family, options of `physgen.fit`, of `physgen.export`."""
HEAD = (
    "design", "export, s", "checkpoint, kB", "ONNX, kB", "random numbers a row",
    "torch, samples / CPU s", "onnxruntime", "largest difference", "other rows",
)  # fmt: skip


class Spectrum:
    """Counts of a peak on 40 bins, smeared: reals, or 0 below a threshold."""

    x_shape = (40,)
    prior = Box(place=(0.2, 0.8), width=(0.02, 0.2))

    def __init__(self, support: str = "reals") -> None:
        self.support = support

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """x (n, 40) of θ (n, 2)."""
        place, width = theta[:, :1], theta[:, 1:]
        mean = np.exp(-0.5 * ((np.linspace(0, 1, 40) - place) / width) ** 2)
        x = mean + 0.1 * rng.standard_normal(mean.shape)
        return x if self.support == "reals" else np.where(x > 0.1, x, 0)


def data_of(support: str) -> physgen.Dataset:
    """Rows to train on."""
    if support == "spins":
        return physgen.simulate("ising", n=ROWS, size=8, seed=1)
    return physgen.simulate(Spectrum(support), n=ROWS, seed=1)


def untrained(family: str, data: physgen.Dataset, options: Mapping[str, Any]) -> physgen.Surrogate:
    """A surrogate of random weights, none of them 0, that knows the units of x."""
    cls = find("surrogates", family)
    model = cls.create(data.law, cls.Config(**options), seed=1).eval()
    model.fit_transform(torch.from_numpy(data.x))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return model


def rate(draw: Callable[[], object]) -> float:
    """Samples a CPU second of what draws `DRAWN`."""
    draw()
    begun, times = time.process_time(), 0
    while time.process_time() - begun < SECONDS:
        draw()
        times += 1
    return times * DRAWN / (time.process_time() - begun)


def measured(label: str, data: physgen.Dataset, folder: Path) -> list[str]:
    """A row of the table."""
    _, family, options, use = DESIGNS[label]
    checkpoint, path = folder / "model.pt", folder / "model.onnx"
    physgen.save(untrained(family, data, options), checkpoint)
    begun = time.monotonic()
    physgen.export(checkpoint, format="onnx", out=path, force=True, **use)
    seconds = time.monotonic() - begun
    model = physgen.load(checkpoint)[0].using(**use)
    rng, columns = np.random.default_rng(0), noise_columns(model)
    theta = model.law.prior.sample(DRAWN, rng)
    draws: dict[Any, Any] = {"normal": rng.standard_normal, "uniform": rng.random}
    feed: dict[str, Array] = {"theta": theta}
    feed |= {n: draws[n]((DRAWN, k), dtype=np.float32) for n, k in columns.items()}
    one = onnxruntime.SessionOptions()
    one.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), one, providers=["CPUExecutionProvider"])

    def fresh() -> Array:
        numbers = {n: draws[n]((DRAWN, k), dtype=np.float32) for n, k in columns.items()}
        return session.run(["x"], feed | numbers)[0]

    same: Any = {n: torch.from_numpy(v) for n, v in feed.items() if n != "theta"}
    ours = draw_with(model, torch.from_numpy(theta), same).numpy()
    found = compared(ours, session.run(["x"], feed)[0])
    return [
        label, f"{seconds:.1f}", f"{checkpoint.stat().st_size / 1e3:.0f}",
        f"{path.stat().st_size / 1e3:.0f}", f"{sum(columns.values()):,}",
        f"{rate(lambda: model.sample(theta, 0)):,.0f}", f"{rate(fresh):,.0f}",
        f"{found.largest:.1g}", f"{found.others} of {DRAWN}",
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", default=list(DESIGNS), choices=list(DESIGNS))
    wanted = parser.parse_args().only
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    made: dict[str, physgen.Dataset] = {}
    for label in wanted:
        support = DESIGNS[label][0]
        made[support] = made.get(support) or data_of(support)
        with tempfile.TemporaryDirectory() as folder:
            print(
                "| " + " | ".join(measured(label, made[support], Path(folder))) + " |", flush=True
            )


if __name__ == "__main__":
    main()

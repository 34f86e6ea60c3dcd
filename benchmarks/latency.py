"""Milliseconds a draw: `model.sample(theta)` end to end, θ another one in each call.

Showers of 12 × 8 × 6 cells (`shower-voxel --layout mini`), in torch and by the exported model in
onnxruntime, random numbers included, each on one thread. The weights are those of the start, for
time hardly depends on what was learnt; or give checkpoints of any surrogates. Mean CPU and
median wall time of a call, ms a row of x. The peer is a bare network of torch, without random
numbers, maps or checks: 64 hidden units in two layers, as many numbers out as x has.

    python -m benchmarks.latency [model.pt …] [--batches 1 100]
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn

import physgen
from physgen.errors import UsageError
from physgen.registry import find
from physgen.runtime.device import threads
from physgen.surrogates.base import Surrogate
from simulators.base import Array

ROWS, THETAS, SECONDS, LEAST, HIDDEN = 2000, 64, 1.0, 10, 64
DESIGNS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "cvae, compound Poisson": ("cvae", {"channels": 64, "head": "compound-poisson"}),
    "cvae, Gamma": ("cvae", {"channels": 64}),
    "tree": ("tree", {}),
}
"""Label → family and options."""
HEAD = ("design", "batch", "torch: CPU ms", "wall ms", "onnxruntime: CPU ms", "wall ms")
Draw = Callable[[Array], object]


def started(family: str, options: Mapping[str, Any], data: physgen.Dataset) -> Surrogate:
    """A surrogate as a training begins with it."""
    cls = find("surrogates", family)
    model = cls.create(data.law, cls.Config(**options), seed=1).eval()
    model.fit_transform(torch.from_numpy(data.x), torch.from_numpy(data.theta))
    return model


def bare(law: physgen.Law) -> Draw:
    """The peer: a network of c alone."""
    layers = [nn.Linear(len(law.prior), HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU()]
    network = nn.Sequential(*layers, nn.Linear(HIDDEN, law.size)).eval()

    def call(theta: Array) -> object:
        with torch.inference_mode():
            return network(torch.from_numpy(theta).float())

    return call


def in_onnxruntime(model: Surrogate) -> Draw:
    """What draws from the exported model, with random numbers of numpy.

    Raises:
        UsageError: a model of which there is no graph.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        physgen.export(model, format="onnx", out=path)
        one = onnxruntime.SessionOptions()
        one.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), one, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    laws: dict[str, Any] = {"normal": rng.standard_normal, "uniform": rng.random}
    about = json.loads(session.get_modelmeta().custom_metadata_map["noise"])

    def draw(theta: Array) -> object:
        noise = {
            name: laws[name]((len(theta), one["columns"]), dtype=np.float32)
            for name, one in about.items()
        }
        return session.run(["x"], {"theta": theta, **noise})

    return draw


def timed(draw: Draw, thetas: list[Array]) -> str:
    """Mean CPU and median wall ms a row of a call, after a first one, which may compile."""
    draw(thetas[0])
    begun, cpu = time.perf_counter(), time.process_time()  # whose ticks may be longer than a call
    wall: list[float] = []
    for theta in itertools.cycle(thetas):
        start = time.perf_counter()
        draw(theta)
        wall.append(time.perf_counter() - start)
        if len(wall) > LEAST and time.perf_counter() - begun > SECONDS:
            break
    mean, scale = (time.process_time() - cpu) / len(wall), 1e3 / len(thetas[0])
    return f"{mean * scale:.3g} | {float(np.median(wall)) * scale:.3g}"


def models(checkpoints: list[Path]) -> Iterator[tuple[str, Surrogate]]:
    """Those of the files, or else the designs that there are."""
    if checkpoints:
        yield from ((path.stem, physgen.load(path, device="cpu")[0]) for path in checkpoints)
        return
    data = physgen.simulate("shower-voxel", n=ROWS, seed=1)
    for label, (family, options) in DESIGNS.items():
        yield label, started(family, options, data)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoints", nargs="*", type=Path, help="surrogates; designs if none")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 100], help="rows a call")
    given = parser.parse_args()
    logging.disable(logging.INFO)
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    with threads(1):
        for label, model in models(given.checkpoints):
            try:
                graph = in_onnxruntime(model)
            except UsageError as error:
                print(f"{label}: {error}")
                graph = None
            draws: list[tuple[str, Draw, Draw | None]] = [
                (f"bare network, beside {label}", bare(model.law), None),
                (label, model.sample, graph),
            ]
            rng = np.random.default_rng(0)
            for (name, draw, other), batch in itertools.product(draws, given.batches):
                thetas = [model.law.prior.sample(batch, rng) for _ in range(THETAS)]
                onnx = timed(other, thetas) if other else "– | –"
                print(f"| {name} | {batch} | {timed(draw, thetas)} | {onnx} |", flush=True)


if __name__ == "__main__":
    main()

"""Memory and speed where data are larger than the memory: `python -m benchmarks.memory`.

Steps a CPU second of trainings in memory and streamed; and the peak of resident memory until a
training on 20 GB takes its first steps: sparse showers of 6,480 voxels, whose rows repeat, so that
they take 0.2 GB on a disk. Each figure is of a process of its own. Takes about 2 minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np

from benchmarks.observations import peak

VOXELS = (45, 16, 9)
UNIQUE, CHUNK, HIT = 256, 64, 0.002
"""Rows of the file that differ; rows in one chunk; part of the voxels that are not 0."""
SECONDS, WARM = 6.0, 20
"""CPU time of a measurement of speed, s; steps before it."""
SPEEDS = (("gaussian", "flow"), ("gaussian", "autoregressive"), ("ising", "cvae"))


def showers(path: Path, rows: int) -> None:
    """A dataset of sparse x ≥ 0 whose rows repeat."""
    import physgen
    from physgen.dataset import Meta, Rows, write
    from physgen.law import Law
    from simulators.prior import Box

    law = Law("elsewhere", Box(a=(0.0, 1.0)), VOXELS, support="nonnegative")

    def drawn(shard: physgen.dataset.Shard) -> Rows:
        rng = np.random.default_rng(shard.seed)
        theta = rng.random((len(shard), 1))
        energy = rng.exponential(1 + theta[..., None, None], (len(shard), *VOXELS))
        hit = rng.random(energy.shape) < HIT
        return Rows(np.where(hit, np.round(energy, 2), 0).astype(np.float32), theta)

    small = path.with_suffix(".small")
    write(small, UNIQUE, Meta(law, seed=1), drawn, shard_rows=CHUNK, force=True)
    grown(small, path, rows // UNIQUE)


def grown(small: Path, path: Path, times: int) -> None:
    """The rows of a file so many times, chunks copied as they are; without a checksum."""
    from physgen.dataset.image import chunked, label

    with h5py.File(small) as source, h5py.File(path, "w") as file:
        rows = len(source["x"])
        for name in ("theta", "x"):
            old = source[name]
            new = chunked(file, name, (times * rows, *old.shape[1:]), old.dtype, old.chunks[0])
            for start in range(0, rows, old.chunks[0]):
                at = (start, *[0] * (old.ndim - 1))
                mask, chunk = old.id.read_direct_chunk(at)
                for k in range(times):
                    new.id.write_direct_chunk((k * rows + start, *at[1:]), chunk, mask)
        words = [source.attrs[n].decode() for n in ("schema", "created", "content_sha256")]
        label(file, words[0], bytes(source["meta/json"][()]).decode(), *words[1:])
        file.attrs["n_rows"] = times * rows


def steps(path: str, family: str, memory_gib: float, seconds: float = SECONDS) -> dict[str, Any]:
    """Steps a CPU second of a training, and the peak of the memory, GB."""
    import torch

    from physgen.dataset import Dataset
    from physgen.registry import find
    from physgen.training import Trainer, Training, split

    torch.set_num_threads(1)
    data, cls = Dataset(path), find("surrogates", family)
    train, val, some = split(data, 0.05, memory_gib, torch.device("cpu"))
    config = cls.Config(channels=4, levels=2, stages=2) if family == "cvae" else cls.Config()
    surrogate = cls.create(data.law, config)
    surrogate.fit_transform(some.x, some.theta)
    clock: list[float] = []

    class Measured(Exception):
        """Enough steps are made."""

    def on_batch(progress: float) -> None:
        clock.append(time.process_time())
        if len(clock) > WARM and clock[-1] - clock[WARM] > seconds:
            raise Measured

    options = Training(epochs=1000, batch_size=16 if data.law.size > 1000 else 128)
    with suppress(Measured):
        list(Trainer(surrogate, train, val.spread(100), options, 0, on_batch, some.spread(100)))
    rate = (len(clock) - 1 - WARM) / (clock[-1] - clock[WARM])
    return {"steps": rate, "peak": peak() * 2**20 / 1e9, "held_out": len(val), "scales": len(some)}


def apart(*arguments: object) -> dict[str, Any]:
    """What `steps` measures in a process of its own."""
    call = [sys.executable, "-m", "benchmarks.memory", "steps", *map(str, arguments)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def say(*words: object) -> None:
    """A line of the tables."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure, and print tables."""
    import physgen

    with TemporaryDirectory() as folder:
        say("| training | steps/CPU s in memory | streamed | ratio |\n|---|---|---|---|")
        for simulator, family in SPEEDS:
            path = Path(folder) / f"{simulator}.h5"
            if not path.exists():
                physgen.simulate(simulator, n=20_000, seed=1, out=path)
            whole, parts = (apart(path, family, gib)["steps"] for gib in (4, 1e-4))
            say(f"| {family}, {simulator} | {whole:.1f} | {parts:.1f} | {parts / whole:.2f} |")
        big = Path(folder) / "showers.h5"
        say("\n| file, GB | --memory-gib | held out | tell scales | peak, GB |")
        say("|---|---|---|---|---|")
        for size in (5, 20):
            showers(big, int(size * 1e9 / (4 * np.prod(VOXELS))))
            found = apart(big, "cvae", 4, 1)
            say(f"| {size} | 4 | {found['held_out']} | {found['scales']} | {found['peak']:.2f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["steps"]:
        path, family, *numbers = sys.argv[2:]
        say(json.dumps(steps(path, family, *map(float, numbers))))
    else:
        main()

"""Ising samplers on one core, beside numpy, torch and peapods: `python benchmarks/ising.py`.

Prints two Markdown tables: nanoseconds a site and sweep, and milliseconds an independent lattice.
Figures are medians over repeats; CPU time stands beside wall time, since the machine may be
shared. Compilation is not counted. A peer that is not installed is left out. The cluster sweep of
peapods cannot be had without its Metropolis sweep: the row "cluster alone" is the difference.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from statistics import median

import numba
import numpy as np

from simulators.ising import Ising

CRITICAL = 2.269185
TEMPERATURES = (1.5, 2.27, 3.5)
Timing = tuple[float, float]


def timed(run: Callable[[], object], repeats: int) -> Timing:
    """Median wall and CPU seconds of `run`, after one call that is not counted."""
    run()
    wall, cpu = [], []
    for _ in range(repeats):
        w, c = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - w)
        cpu.append(time.process_time() - c)
    return median(wall), median(cpu)


def ours(sampler: str, size: int, n: int, sweeps: int) -> Callable[[], object]:
    """Sweeps of n lattices at the critical point."""
    ising = Ising(size, theta="temperature", sampler=sampler, sweeps=sweeps)
    theta = np.full((n, 1), CRITICAL)
    return lambda: ising.sample(theta, np.random.default_rng(0))


def numpy_checkerboard(size: int, n: int, sweeps: int) -> Callable[[], object]:
    """Heat bath with whole-array operations."""
    colour = np.indices((size, size)).sum(0) % 2 == 0

    def run() -> None:
        rng, s = np.random.default_rng(0), np.ones((n, size, size), np.float32)
        for _ in range(sweeps):
            for mask in (colour, ~colour):
                field = sum(np.roll(s, r, a) for r in (1, -1) for a in (1, 2))
                up = rng.random(s.shape, np.float32) * (1 + np.exp(-2 / CRITICAL * field)) < 1
                s = np.where(mask, np.where(up, np.float32(1), np.float32(-1)), s)

    return run


def torch_checkerboard(size: int, n: int, sweeps: int) -> Callable[[], object]:
    """The same with torch on one thread."""
    import torch

    torch.set_num_threads(1)
    colour = torch.from_numpy(np.indices((size, size)).sum(0) % 2 == 0)

    def run() -> None:
        generator = torch.Generator().manual_seed(0)
        s = torch.ones(n, size, size)
        for _ in range(sweeps):
            for mask in (colour, ~colour):
                field = sum(torch.roll(s, r, a) for r in (1, -1) for a in (1, 2))
                up = torch.rand(s.shape, generator=generator) < torch.sigmoid(2 / CRITICAL * field)
                s = torch.where(mask, 2.0 * up - 1, s)

    return run


def peapods(size: int, n: int, sweeps: int, cluster: int | None) -> Callable[[], object]:
    """Metropolis, with a Swendsen–Wang step after each sweep if `cluster` is 1."""
    from peapods import Ising as Peer

    peer = Peer((size, size), temperatures=np.full(n, CRITICAL))
    return lambda: peer.sample(
        sweeps, sweep_mode="metropolis", cluster_update_interval=cluster, sequential=True
    )


def sweep_rows(size: int, sweeps: int, repeats: int) -> list[tuple[str, Timing]]:
    """Name and nanoseconds a site and sweep of each sampler, at the critical point."""
    n = max(2 * 64 * 64 // size**2, 8) * 4  # as many as the checkerboard has in a word
    runs = {
        "physgen Swendsen–Wang": ours("swendsen-wang", size, n, sweeps),
        "physgen heat bath": ours("heat-bath", size, n, sweeps),
        "physgen checkerboard": ours("checkerboard", size, n, sweeps),
        "numpy checkerboard": numpy_checkerboard(size, n, sweeps),
    }
    if find_spec("torch"):
        runs["torch checkerboard"] = torch_checkerboard(size, n, sweeps)
    if find_spec("peapods"):
        runs["peapods Metropolis"] = peapods(size, n, sweeps, None)
        runs["peapods Metropolis + cluster"] = peapods(size, n, sweeps, 1)
    scale = 1e9 / (n * size**2 * sweeps)
    rows = {}
    for name, run in runs.items():
        wall, cpu = timed(run, repeats)
        rows[name] = wall * scale, cpu * scale
    if find_spec("peapods"):
        both, alone = rows["peapods Metropolis + cluster"], rows["peapods Metropolis"]
        rows["peapods cluster alone"] = both[0] - alone[0], both[1] - alone[1]
    return list(rows.items())


def lattice_rows(size: int, n: int, repeats: int) -> list[tuple[str, list[Timing]]]:
    """Milliseconds an independent lattice, at each temperature and over T ~ U(1, 4)."""
    rows = []
    for sampler in ("perfect", "swendsen-wang"):
        ising = Ising(size, theta="temperature", sampler=sampler)
        cells = []
        for t in (*TEMPERATURES, None):
            draws = ising.prior.sample(n, np.random.default_rng(1))
            theta = draws if t is None else np.full((n, 1), t)
            wall, cpu = timed(partial(ising.sample, theta, np.random.default_rng(0)), repeats)
            cells.append((wall * 1e3 / n, cpu * 1e3 / n))
        rows.append((f"{sampler}, {ising.sweeps_used or 'no'} sweeps", cells))
    return rows


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats and samples")
    quick = parser.parse_args().quick
    numba.config.NUMBA_NUM_THREADS = 1
    os.environ["RAYON_NUM_THREADS"] = "1"  # read when peapods is first used
    repeats, sweeps = (3, 20) if quick else (7, 60)

    print("ns a site and sweep at T_c: CPU (wall)\n")
    table = {size: dict(sweep_rows(size, sweeps, repeats)) for size in (16, 32, 64)}
    print("| sampler | L = 16 | L = 32 | L = 64 |\n|---|---|---|---|")
    for name in table[16]:
        cells = [f"{cpu:.1f} ({wall:.1f})" for wall, cpu in (table[s][name] for s in table)]
        print(f"| {name} | {' | '.join(cells)} |")
    if not find_spec("peapods"):
        print("| peapods | not installed | – | – |")

    print("\nms an independent lattice: CPU (wall)\n")
    print("| sampler | T = 1.5 | T = 2.27 | T = 3.5 | T ~ U(1, 4) |\n|---|---|---|---|---|")
    for size, n in ((16, 1000), (32, 200), (64, 40), (128, 12)):
        for name, cells in lattice_rows(size, n // 4 if quick else n, repeats):
            text = " | ".join(f"{cpu:.3g} ({wall:.3g})" for wall, cpu in cells)
            print(f"| L = {size}, {name} | {text} |")


if __name__ == "__main__":
    main()

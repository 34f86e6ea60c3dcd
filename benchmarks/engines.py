"""Where simulations run: the same bytes, and what each engine costs.

``python benchmarks/engines.py`` makes one Ising dataset in this process, in two processes, on a
plain ProcessPoolExecutor, on two workers of dask and on executorlib; prints the first digits of
each file's SHA-256, CPU and wall seconds; then the same with a worker that is killed in the
middle; then what an empty task costs, and how tasks of 50 ms scale from one worker to two.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ |= {"SOURCE_DATE_EPOCH": "1000000000", "OMP_NUM_THREADS": "1", "GIT_DIR": os.devnull}

import psutil

import physgen
from physgen.dataset import Meta, write
from physgen.dataset.simulated import Simulate
from physgen.law import Law
from physgen.runtime.engine import Engine, engine

ROWS, SHARD = 4000, 50
LAW = Law.of("ising", {"size": 16})


def nothing(item: int) -> int:
    """An empty task."""
    return item


def wait_50_ms(item: int) -> int:
    """A task of a simulator that is not slowed down by others."""
    time.sleep(0.05)
    return item


def cpu_seconds() -> float:
    """Of this process and of all below it, ended ones included."""
    times = os.times()
    live = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            used = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        live += used.user + used.system + used.children_user + used.children_system
    return sum(times[:4]) + live


@contextmanager
def dask_of(count: int) -> Iterator[Executor]:
    """Workers of dask, which run one task at a time."""
    from distributed import Client, LocalCluster

    how = {"threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
    with (
        LocalCluster(n_workers=count, silence_logs=50, **how) as cluster,
        Client(cluster) as client,
    ):
        yield client.get_executor()


def executorlib_of(count: int) -> Any:
    """Processes of executorlib that stay."""
    from executorlib import SingleNodeExecutor

    return SingleNodeExecutor(max_workers=count, block_allocation=True)


def place(name: str, count: int) -> Any:
    """What an engine is made of, as a context."""
    if name == "dask":
        return dask_of(count)
    if name == "executorlib":
        return executorlib_of(count)
    if name == "pool":
        return ProcessPoolExecutor(count, get_context("spawn"))
    return nullcontext()


@contextmanager
def on(name: str, count: int) -> Iterator[Engine]:
    """An engine of a name."""
    with (
        place(name, count) as executor,
        engine(workers=count if executor is None else None, executor=executor) as where,
    ):
        yield where


def workers_below() -> list[int]:
    """Ids of the processes that have used most, the workers."""
    every = psutil.Process().children(recursive=True)
    busy = [p for p in every if "resource_tracker" not in " ".join(p.cmdline())]
    return [p.pid for p in sorted(busy, key=lambda p: -sum(p.cpu_times()[:2]))]


def written(where: Engine, kill_at: int = 0) -> tuple[str, float, float]:
    """Digest of the dataset, CPU and wall seconds; one worker is killed when so many are done."""
    killed: list[int] = []

    def progress(done: int) -> None:
        if kill_at and done >= kill_at and not killed:
            killed.append(workers_below()[0])
            os.kill(killed[0], signal.SIGKILL)

    meta = Meta(LAW, {"kind": "simulator"}, 1, {"command": "engines"})
    with tempfile.TemporaryDirectory() as folder:
        begun, cpu = time.perf_counter(), cpu_seconds()
        path = Path(folder) / "x.h5"
        found = write(
            path, ROWS, meta, Simulate(LAW), shard_rows=SHARD, engine=where, progress=progress
        )
        return found.sha256[:12], cpu_seconds() - cpu, time.perf_counter() - begun


def ms_a_task(where: Engine, task: Any, n: int) -> float:
    """Milliseconds a task, once the workers are there."""
    list(where.each(task, range(20)))
    begun = time.perf_counter()
    list(where.each(task, range(n)))
    return 1000 * (time.perf_counter() - begun) / n


def main() -> None:
    """Print all of it."""
    physgen.simulate("ising", size=16, n=10)  # numba has compiled
    print(f"Ising, L = 16, {ROWS} rows, {ROWS // SHARD} shards")
    print("engine              SHA-256       CPU s  wall s   killed: SHA-256  wall s")
    for name, count in (("local", 1), ("local", 2), ("pool", 2), ("dask", 2), ("executorlib", 2)):
        with on(name, count) as where:
            digest, cpu, wall = written(where)
        line = f"{name + ' ' + str(count):18}  {digest}  {cpu:5.1f}  {wall:6.1f}"
        if (name, count) in (("local", 2), ("dask", 2)):
            with on(name, count) as where:
                digest, _, wall = written(where, kill_at=ROWS // 4)
            line += f"   {digest}  {wall:12.1f}"
        print(line, flush=True)
    print("\nms a task             empty   of 50 ms, 1 worker   2 workers   speedup")
    for name in ("local", "pool", "dask", "executorlib"):
        took = {}
        for count in (1, 2):
            with on(name, count) as where:
                empty = ms_a_task(where, nothing, 300)
                took[count] = ms_a_task(where, wait_50_ms, 100)
        words = f"{name:18}  {empty:6.1f}  {took[1]:18.1f}  {took[2]:10.1f}"
        print(f"{words}  {took[1] / took[2]:8.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

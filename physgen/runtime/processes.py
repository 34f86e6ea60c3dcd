"""Processes of this machine that work for this one, and may die.

They are started afresh (``spawn``), so they share no state with this one, and each gets its share
of the cores for numba's threads. One that is killed, by the system when memory is short, breaks
the pool; a new one is then started for what was lost. A process whose parent is gone ends itself,
and Ctrl-C is the parent's to handle; a simulator that waits for another program ends that and its
process.

No process runs the caller's script again, guarded by ``if __name__ == "__main__":`` or not.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from physgen.runtime.worker import Outcome, work

__all__ = ["Processes", "cause_of_death", "script_hidden"]

POLL = 0.2  # seconds in which a process that is told to end may do so


class Processes:
    """A pool of processes, started as they are needed, and anew when one has died.

    Args:
        count: how many.

    Attributes:
        generation: how often a pool has died.
        deaths: of processes with an item, after which it is run alone.
    """

    deaths = 2

    def __init__(self, count: int) -> None:
        self.count, self.generation, self.reason = count, 0, ""
        self.pool: ProcessPoolExecutor | None = None
        self.before, self.ours = set(active_children()), set[BaseProcess]()
        self.results: Any = None  # the pool's queue of them

    def submit(self, *arguments: Any) -> Future[Outcome]:
        """Let one of them work."""
        if self.pool is None:
            self.pool = ProcessPoolExecutor(self.count, get_context("spawn"), start_worker)
            self.results = self.pool._result_queue
        if self.one_has_died():
            raise BrokenExecutor("a process has died")
        with script_hidden(), numba_threads(self.count):
            future = self.pool.submit(work, *arguments)
        self.ours |= set(active_children()) - self.before
        return future

    def live(self) -> int:
        """How many there are, or would be."""
        self.one_has_died()
        return self.count

    def one_has_died(self) -> bool:
        """Whether one has; then all end, as the pool alone does unless it died while it wrote."""
        died = any(process.exitcode is not None for process in self.ours)
        if died:
            self.terminate()
        return died

    def terminate(self) -> None:
        """End all, and the pool's wait for the rest of what one of them was writing."""
        for process in self.ours:
            process.terminate()
        self.results._writer.close()

    def lost(self, error: BaseException, generation: int) -> tuple[str, bool]:
        """Why an item was lost with a pool, which has ended."""
        if self.pool and generation == self.generation:
            self.pool.shutdown(cancel_futures=True)
            self.pool, self.generation = None, generation + 1
            self.reason = cause_of_death(process.exitcode or 0 for process in self.ours)
            self.ours.clear()
        return self.reason or str(error), isinstance(error, BrokenExecutor)

    def close(self, at_once: bool) -> None:
        """End them; at once, whatever they do and wait for, or when they have done their tasks."""
        if self.pool is None:
            return
        self.pool.shutdown(wait=not at_once, cancel_futures=True)
        busy = self.ours & set(active_children())
        for worker in busy:
            os.kill(worker.pid or 0, signal.SIGINT)  # heard where a program is waited for
        connection.wait([worker.sentinel for worker in busy], POLL)
        self.terminate()


def cause_of_death(codes: Iterable[int]) -> str:
    """Why processes died, of their exit codes, and what to do."""
    died = [code for code in codes if code not in (0, -signal.SIGTERM)]  # it ends the others
    code = died[0] if died else 0
    if code == -signal.SIGKILL:
        return "worker processes are killed, as when memory is short; rerun with fewer workers"
    if code < 0:
        name = signal.Signals(-code).name
        return f"worker processes crash ({name}); rerun with one worker to see where"
    return (
        f"worker processes end with exit code {code}: something in the simulator ends them, such "
        "as os._exit; rerun with one worker to see where"
    )


@contextmanager
def script_hidden() -> Iterator[None]:
    """Let processes that are started here not run the caller's script."""
    main = vars(sys.modules["__main__"])
    hidden: dict[str, Any] = {n: main.pop(n) for n in ("__file__", "__spec__") if n in main}
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(hidden)


@contextmanager
def numba_threads(workers: int) -> Iterator[None]:
    """Share the cores among the processes that are started here, unless the user has decided."""
    name = "NUMBA_NUM_THREADS"
    if name in os.environ:
        yield
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    os.environ[name] = str(max(1, (cores or 1) // workers))
    try:
        yield
    finally:
        del os.environ[name]


def start_worker() -> None:
    """Prepare a process: no Ctrl-C, no life without its parent, imports from its folder."""
    sys.path.append(str(Path.cwd()))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """End this process when its parent has ended."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGINT)  # heard where a program is waited for
        time.sleep(POLL)
        os._exit(1)

"""Running shards: here one after the other, or in processes that may die.

The processes are started afresh (``spawn``), so they share no state with this one, and each gets
its share of the cores for numba's threads. One that is killed, by the system when memory is short,
breaks the pool; the shards that are missing then run again in a new one. A process whose parent is
gone ends itself, and Ctrl-C is the parent's to handle; a simulator that waits for another program
ends that and its process.

A process started afresh runs the caller's script again, as far as it is not guarded by ``if
__name__ == "__main__":``. It does so here only where the script defines what the task needs.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from itertools import islice
from multiprocessing import (
    active_children,
    connection,
    current_process,
    get_context,
    parent_process,
)
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from physgen.dataset.job import Job
from physgen.errors import Interrupted, PhysgenError, UsageError
from physgen.runtime.interrupt import Stop

__all__ = ["end_second_round", "run"]

Task = Callable[[int], None]
POLL = 0.2  # seconds after which a signal is noticed
worker_task: Task | None = None


def run(
    task: Task, job: Job, workers: int, stop: Stop, progress: Callable[[int], None] | None
) -> None:
    """Run a task for every shard that is missing.

    Args:
        task: makes and stores the shard of a number.
        job: the shards.
        workers: number of processes; 1 is this one.
        stop: tested between shards.
        progress: called with the number of finished rows.

    Raises:
        Interrupted: a signal has arrived.
        PhysgenError: processes die again and again.
    """
    done = job.rows - sum(len(job.shard(k)) for k in job.missing())

    def finished(number: int) -> None:
        nonlocal done
        done += len(job.shard(number))
        if progress:
            progress(done)

    if progress and done:
        progress(done)
    if workers == 1:
        for number in job.missing():
            stop.check()
            task(number)
            finished(number)
        return
    run_processes(task, job, workers, stop, finished)


def end_second_round() -> None:
    """End a process that has come here by running the caller's script again, without a word."""
    if getattr(current_process(), "_inheriting", False):
        os._exit(1)


def needs_script(task: Task) -> bool:
    """Whether processes can do a task only if they run the caller's script again.

    Raises:
        UsageError: they need it, and there is none: an interactive session.
    """
    if b"__main__" not in pickle.dumps(task):
        return False
    if not Path(getattr(sys.modules["__main__"], "__file__", "<stdin>")).is_file():
        raise UsageError(
            "workers: the simulator is defined in a notebook or an interactive session, where "
            "other processes do not find it; put it into a file and import it, or take one worker"
        )
    return True


def run_processes(
    task: Task, job: Job, workers: int, stop: Stop, finished: Callable[[int], None]
) -> None:
    """Run the missing shards in processes, and again those whose process died."""
    deaths, script, begun = 0, needs_script(task), get_context("spawn").Event()
    while missing := job.missing():
        try:
            with nullcontext() if script else script_hidden():
                run_pool(task, begun, missing, workers, stop, finished)
        except BrokenProcessPool as error:
            stop.check()
            if script and not begun.is_set():
                raise UsageError(
                    f"{job.path}: each process runs your script again: put the call under "
                    'if __name__ == "__main__":, or the simulator into a module of its own'
                ) from error
            deaths = 0 if len(job.missing()) < len(missing) else deaths + 1
            if deaths == 2:
                raise PhysgenError(
                    f"{job.path}: worker processes die ({error}); rerun with fewer workers if "
                    "memory is short, with one to see the error"
                ) from error


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


def run_pool(
    task: Task,
    begun: Event,
    numbers: list[int],
    workers: int,
    stop: Stop,
    finished: Callable[[int], None],
) -> None:
    """Run some shards in one pool of processes, two a process in the queue."""
    todo = iter(numbers)
    pending: dict[Future[None], int] = {}
    with (
        numba_threads(workers),
        ProcessPoolExecutor(
            min(workers, len(numbers)), get_context("spawn"), start_worker, (task, begun)
        ) as pool,
    ):
        try:
            while True:
                for number in islice(todo, 2 * workers - len(pending)):
                    pending[pool.submit(work, number)] = number
                if not pending:
                    return
                for future in wait(pending, POLL, FIRST_COMPLETED).done:
                    future.result()
                    finished(pending.pop(future))
                stop.check()
        except Interrupted:
            for worker in active_children():  # heard by those that wait for a program
                os.kill(worker.pid or 0, signal.SIGINT)
            raise
        finally:
            pool.shutdown(cancel_futures=True)


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


def start_worker(task: Task, begun: Event) -> None:
    """Prepare a process: its task, no Ctrl-C, no life without its parent."""
    global worker_task
    worker_task = task
    begun.set()
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


def work(number: int) -> None:
    """Run the task of this process."""
    if worker_task is None:
        raise RuntimeError("the process has no task")
    try:
        worker_task(number)
    except KeyboardInterrupt:  # which ended the program that was waited for
        os._exit(1)

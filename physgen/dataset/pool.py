"""Running shards: here one after the other, or in processes that may die.

The processes are started afresh (``spawn``), so they share no state with this one, and each gets
its share of the cores for numba's threads. One that is killed, by the system when memory is short,
breaks the pool; the shards that are missing then run again in a new one. A process whose parent is
gone ends itself, and Ctrl-C is the parent's to handle; a simulator that waits for another program
ends that and its process.

No process runs the caller's script again, guarded by ``if __name__ == "__main__":`` or not. What
the task needs of a script or a notebook, such as the class of the simulator, is sent along by
value (cloudpickle); modules are imported.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing import active_children, connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Any

import cloudpickle

from physgen.dataset.job import Job
from physgen.errors import Interrupted, PhysgenError, UsageError
from physgen.registry import find
from physgen.runtime.interrupt import Stop

__all__ = ["Workers", "run"]

Task = Callable[[Any], Any]
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


def carried(task: Task, simulator: str) -> bytes:
    """A task for other processes, with the simulator's class if a script or a notebook defines it.

    Raises:
        UsageError: what they need cannot be sent.
    """
    module, _, name = simulator.partition(":")
    classes = {name: find("simulators", simulator)} if module == "__main__" else {}
    try:
        return cloudpickle.dumps((classes, task))
    except Exception as error:  # whatever pickling a user's objects raises is told in one line
        raise UsageError(
            f"workers: {simulator} cannot be sent to other processes "
            f"({' '.join(str(error).split())}); put it into a module and import it, or take one"
        ) from error


def run_processes(
    task: Task, job: Job, workers: int, stop: Stop, finished: Callable[[int], None]
) -> None:
    """Run the missing shards in processes, and again those whose process died."""
    deaths, load = 0, carried(task, job.meta.law.simulator)
    while missing := job.missing():
        dead: list[int] = []
        try:
            with script_hidden():
                run_pool(load, missing, workers, stop, finished, dead)
        except BrokenProcessPool as error:
            stop.check()
            deaths = 0 if len(job.missing()) < len(missing) else deaths + 1
            if deaths == 2:
                raise PhysgenError(f"{job.path}: {cause_of_death(dead)}") from error


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


def run_pool(
    load: bytes,
    numbers: list[int],
    workers: int,
    stop: Stop,
    finished: Callable[[int], None],
    dead: list[int],
) -> None:
    """Run some shards in one pool of processes, two a process in the queue.

    Args:
        load: the task, as `carried` packs it.
        numbers: of the shards.
        workers: number of processes.
        stop: tested between shards.
        finished: called with the number of each shard that is finished.
        dead: gets the exit codes of processes that died.
    """
    todo = iter(numbers)
    pending: dict[Future[None], int] = {}
    before, ours = set(active_children()), set[BaseProcess]()
    with (
        numba_threads(workers),
        ProcessPoolExecutor(
            min(workers, len(numbers)), get_context("spawn"), start_worker, (load,)
        ) as pool,
    ):
        try:
            while True:
                for number in islice(todo, 2 * workers - len(pending)):
                    pending[pool.submit(work, number)] = number
                if not pending:
                    return
                ours |= set(active_children()) - before
                for future in wait(pending, POLL, FIRST_COMPLETED).done:
                    future.result()
                    finished(pending.pop(future))
                stop.check()
        except Interrupted:
            for worker in ours & set(active_children()):  # heard by those that wait for a program
                os.kill(worker.pid or 0, signal.SIGINT)
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            dead += [process.exitcode for process in ours if process.exitcode]


class Workers:
    """Processes that stay, and do a task for whatever they are given.

    Args:
        task: what they do.
        simulator: name of the simulator that it needs.
        workers: how many.
    """

    def __init__(self, task: Task, simulator: str, workers: int) -> None:
        load = carried(task, simulator)
        self.before, self.ours, self.count = set(active_children()), set[BaseProcess](), workers
        self.pool = ProcessPoolExecutor(workers, get_context("spawn"), start_worker, (load,))

    def submit(self, given: Any) -> Future[Any]:
        """Let one of them do the task."""
        with script_hidden(), numba_threads(self.count):
            future = self.pool.submit(work, given)
        self.ours |= set(active_children()) - self.before
        return future

    def result(self, future: Future[Any], check: Callable[[], None]) -> Any:
        """What the task has given; `check` is called while that is waited for."""
        while not wait([future], POLL).done:
            check()
        return future.result()

    def death(self, where: str) -> PhysgenError:
        """Why they have died, in one line."""
        self.pool.shutdown(cancel_futures=True)
        return PhysgenError(f"{where}: {cause_of_death(p.exitcode or 0 for p in self.ours)}")

    def close(self) -> None:
        """End them, and what they wait for, whatever they do."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        busy = self.ours & set(active_children())
        for worker in busy:
            os.kill(worker.pid or 0, signal.SIGINT)  # heard where a program is waited for
        for worker in busy:
            worker.join(POLL)
            worker.terminate()
        self.pool.shutdown()


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


def start_worker(load: bytes) -> None:
    """Prepare a process: its task, no Ctrl-C, no life without its parent."""
    global worker_task
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        classes, worker_task = pickle.loads(load)
    except Exception as error:  # told where the shard is asked for
        worker_task = partial(refuse_load, f"{type(error).__name__}: {error}")
    else:
        vars(sys.modules["__main__"]).update(classes)


def refuse_load(reason: str, number: int) -> None:
    """Say that a task could not be unpacked in another process.

    Raises:
        UsageError: always.
    """
    raise UsageError(f"workers: another process cannot unpack the simulator ({reason}); take one")


def end_with_parent() -> None:
    """End this process when its parent has ended."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGINT)  # heard where a program is waited for
        time.sleep(POLL)
        os._exit(1)


def work(number: Any) -> Any:
    """Run the task of this process."""
    if worker_task is None:
        raise RuntimeError("the process has no task")
    try:
        return worker_task(number)
    except KeyboardInterrupt:  # which ended the program that was waited for
        os._exit(1)

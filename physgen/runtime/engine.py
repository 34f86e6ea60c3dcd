"""Where tasks run: in this process, in others of this machine, on any executor, or on dask.

A task is a function of an item alone, so that results do not depend on where they are made, nor on
how often a worker dies. Two items a worker are on their way at any time; what is lost with a
worker is run again.
"""

from __future__ import annotations

import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar

from physgen.errors import PhysgenError, UsageError
from physgen.runtime.interrupt import RESUME
from physgen.runtime.processes import Processes
from physgen.runtime.worker import Load, Outcome, error_of, packed, work

__all__ = ["Engine", "engine", "processes"]

Item = TypeVar("Item")
Result = TypeVar("Result")
POLL = 0.2  # seconds after which a signal is noticed
PATIENCE = 300.0  # seconds without a worker
DEATHS = 2  # of a pool, one after the other, with nothing done in between
INLINE = 2**15  # bytes of a task that goes along with each item


class Place(Protocol):
    """Where workers are."""

    renewable: bool
    lives: int

    def submit(self, *given: Any) -> Future[Outcome]:
        """Let a worker call `work`."""

    def live(self) -> int:
        """How many workers there are."""

    def lost(self, error: BaseException, life: int) -> str:
        """Why a task of one life of the place was lost."""

    def close(self, at_once: bool) -> None:
        """End what was started here."""


class Given:
    """An executor that the caller has made, and will close.

    Args:
        executor: of concurrent.futures.
        count: its workers; what it says of itself if None.
    """

    renewable, lives = False, 0

    def __init__(self, executor: Executor, count: int | None = None) -> None:
        self.executor = executor
        said = (getattr(executor, n, None) for n in ("_max_workers", "max_workers", "num_workers"))
        self.count = count or next((n for n in said if isinstance(n, int)), os.cpu_count() or 1)

    def submit(self, *given: Any) -> Future[Outcome]:
        """Let a worker call `work`."""
        return self.executor.submit(work, *given)

    def live(self) -> int:
        """How many workers there are, as far as is known."""
        return self.count

    def lost(self, error: BaseException, life: int) -> str:
        """Why a task was lost."""
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return f"the executor has failed ({text[:200]})"

    def close(self, at_once: bool) -> None:
        """Leave it to the caller."""


class Engine:
    """Where tasks run.

    Args:
        place: where workers are; None for this process.
        patience: seconds without a finished item after which to give up; as long as there are
            workers, for ever, if None.
    """

    def __init__(self, place: Place | None = None, patience: float | None = None) -> None:
        self.place, self.patience, self.runs = place, patience, list[Run]()

    def each(
        self,
        task: Callable[[Item], Result],
        items: Iterable[Item],
        check: Callable[[], None] = lambda: None,
        *,
        where: str = "",
        noun: str = "task",
        hint: str = RESUME,
        script: Mapping[str, Any] | None = None,
        window: int | None = None,
    ) -> Iterator[tuple[int, Result]]:
        """Run a task for each item, and give what comes of it as it is done, in any order.

        Args:
            task: a function of the item alone; what is big in it goes once to each worker.
            items: small, and picklable; one with a ``number`` is called by it in messages.
            check: called while waiting; what it raises ends the work.
            where: what is made, for messages.
            noun: what an item is, for messages.
            hint: how to go on after a failure, for messages.
            script: what the task looks up by name in the caller's script.
            window: items that are on their way at a time; two a worker if None.

        Returns:
            (position of the item, result) of each, as they are done.

        Raises:
            PhysgenError: workers die, hang or are gone; or what the task has raised.
        """
        if self.place is None:
            return in_turn(task, items, check)
        load = packed(task, script or {}, where or noun)
        told = Told(where, noun, hint)
        run = Run(self.place, load, items, check, told, window, self.patience)
        self.runs.append(run)
        return iter(run)

    def close(self, at_once: bool) -> None:
        """Take back what no worker has begun, and end those that were started here."""
        for run in self.runs:
            run.cancel()
        if self.place:
            self.place.close(at_once)


def in_turn(
    task: Callable[[Item], Result], items: Iterable[Item], check: Callable[[], None]
) -> Iterator[tuple[int, Result]]:
    """Run a task for one item after the other, here."""
    for position, item in enumerate(items):
        check()
        yield position, task(item)


class Told:
    """How messages call what is done."""

    def __init__(self, where: str, noun: str, hint: str) -> None:
        self.prefix, self.noun, self.hint = where and f"{where}: ", noun, hint

    def item(self, position: int, item: Any) -> str:
        """One of the items."""
        return f"{self.prefix}{self.noun} {getattr(item, 'number', position)}"

    def failure(self, reason: str) -> PhysgenError:
        """Why no more comes."""
        return PhysgenError(f"{self.prefix}{reason}; {self.hint}")


class Run:
    """The items of one call: those to do, and those on their way, which begin at once."""

    def __init__(
        self,
        place: Place,
        load: Load,
        items: Iterable[Any],
        check: Callable[[], None],
        told: Told,
        window: int | None,
        patience: float | None,
    ) -> None:
        self.place, self.load, self.check, self.told = place, load, check, told
        self.window, self.patience = window, patience
        self.todo = deque(enumerate(items))
        self.pending: dict[Future[Outcome], tuple[int, Any, int]] = {}
        self.deaths, self.alive = 0, time.monotonic()
        self.done = self.alive
        self.fill()

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        try:
            while self.todo or self.pending:
                self.fill()
                yield from self.finished()
                self.check()
                self.watch()
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Take back what no worker has begun."""
        for future in self.pending:
            future.cancel()

    def fill(self) -> None:
        """Send items, as many as there may be on their way."""
        most = self.window or 2 * max(1, self.place.live())
        while self.todo and len(self.pending) < most:
            self.send(*self.todo.popleft(), always=len(self.load.data) < INLINE)

    def send(self, position: int, item: Any, always: bool = True) -> None:
        """Send one item, with its task or without."""
        try:
            future = self.place.submit(self.load.digest, self.load.data if always else None, item)
        except BrokenExecutor as error:
            self.broken([(position, item)], error, self.place.lives)
        else:
            self.pending[future] = position, item, self.place.lives

    def finished(self) -> Iterator[tuple[int, Any]]:
        """Results of items that are done; those that were lost are sent again."""
        done = wait(self.pending, POLL, FIRST_COMPLETED).done
        for future in sorted(done, key=failed):
            position, item, life = self.pending.pop(future)
            if failed(future):
                self.check()
                self.failed(future, position, item, life)
                continue
            kind, value = future.result()
            if kind == "missing":
                self.send(position, item)
                continue
            if kind == "error":
                raise error_of(value, self.told.item(position, item))
            self.deaths, self.done = 0, time.monotonic()
            yield position, pickle.loads(value)

    def failed(self, future: Future[Outcome], position: int, item: Any, life: int) -> None:
        """What becomes of an item whose worker has not answered."""
        error = CancelledError() if future.cancelled() else future.exception() or CancelledError()
        if isinstance(error, BrokenExecutor):
            self.broken([(position, item)], error, life)
            return
        raise self.told.failure(self.place.lost(error, life)) from error

    def broken(self, items: list[tuple[int, Any]], error: BaseException, life: int) -> None:
        """Do again what a pool that has died leaves.

        Raises:
            PhysgenError: it dies again and again, or cannot be made anew.
        """
        self.todo.extendleft(items)
        before, reason = self.place.lives, self.place.lost(error, life)
        self.deaths += life == before
        if not self.place.renewable or self.deaths == DEATHS:
            raise self.told.failure(reason) from error

    def watch(self) -> None:
        """Give up waiting where nothing comes.

        Raises:
            PhysgenError: no worker is there, or none has done anything, for too long.
        """
        now = time.monotonic()
        if self.place.live():
            self.alive = now
        alone, idle = now - self.alive, now - self.done
        if alone > (self.patience or PATIENCE):
            raise self.told.failure(f"no worker has been alive for {alone:.0f} s")
        if self.patience and idle > self.patience:
            raise self.told.failure(
                f"no {self.told.noun} was finished in {idle:.0f} s; give a longer --patience if "
                "they take so long"
            )


def failed(future: Future[Any]) -> bool:
    """Whether something else than the task has failed."""
    return future.cancelled() or future.exception() is not None


@contextmanager
def engine(
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    scheduler: str | None = None,
    patience: float | None = None,
) -> Iterator[Engine]:
    """Where the tasks of a call run; what was started for it ends with it.

    Args:
        workers: processes of this machine, 1 for this one; of an executor, how many it has.
        executor: of concurrent.futures; it is left open.
        scheduler: address of a dask scheduler, or ``local:N``.
        patience: as for `Engine`.

    Yields:
        The engine.

    Raises:
        UsageError: several places, or none that can be had.
    """
    count = 1 if workers is None else workers
    if count < 1:
        raise UsageError(f"workers: expected at least 1, got {count}")
    if isinstance(executor, ThreadPoolExecutor):
        raise UsageError(
            "executor: threads of one process share what simulators and torch keep; take a "
            "ProcessPoolExecutor, or workers"
        )
    place: Place | None = None
    if executor is not None:
        place = Given(executor, workers)
    elif count > 1:
        place = Processes(count)
    with opened(Engine(place, patience)) as found:
        yield found


def processes(count: int) -> AbstractContextManager[Engine]:
    """Other processes of this machine, be it one."""
    return opened(Engine(Processes(count)))


@contextmanager
def opened(found: Engine) -> Iterator[Engine]:
    """An engine that ends with a block; at once if the block fails."""
    try:
        yield found
    except BaseException:
        found.close(at_once=True)
        raise
    found.close(at_once=False)

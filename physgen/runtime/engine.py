"""Where tasks run: in this process, in others of this machine, on any executor, or on dask.

A task is a function of an item alone, so that results do not depend on where they are made, nor on
how often a worker dies. Two items a worker are on their way at any time; what is lost with a
worker is run again. Whose fault a death was is not known while others work beside: so an item that
was lost again and again is run alone, and one whose worker dies even then ends the work.
"""

from __future__ import annotations

import os
import pickle
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import (
    FIRST_COMPLETED,
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
from physgen.runtime.scheduler import Dask, scheduled
from physgen.runtime.worker import Load, Outcome, error_of, packed, work

__all__ = ["Engine", "engine", "local_engine"]

Item = TypeVar("Item")
Result = TypeVar("Result")
POLL = 0.2  # seconds after which a signal is noticed
LONELY = 300.0  # seconds without a worker after which to give up
HINTS = {
    "BrokenProcessPool": ": if its processes run the script again, put what it does under "
    'if __name__ == "__main__":, or give workers instead'
}
"""What to do about errors of executors, by name."""
INLINE = 2**15  # bytes of a task that goes along with each item


class Workers(Protocol):
    """Where workers are.

    Attributes:
        generation: how often all workers have died at once, and others have begun.
        deaths: of workers with an item, after which it is run alone.
    """

    generation: int
    deaths: int

    def submit(self, *arguments: Any) -> Future[Outcome]:
        """Let a worker call `work`."""

    def live(self) -> int:
        """How many workers there are."""

    def lost(self, error: BaseException, generation: int) -> tuple[str, bool]:
        """Why an item was lost of a generation of workers, and whether its worker has died."""

    def close(self, at_once: bool) -> None:
        """End what was started here."""


class GivenExecutor:
    """An executor that the caller has made, and will close.

    Args:
        executor: of concurrent.futures.
        count: its workers; what it says of itself if None.
    """

    generation, deaths = 0, 1

    def __init__(self, executor: Executor, count: int | None = None) -> None:
        self.executor = executor
        said = (getattr(executor, n, None) for n in ("_max_workers", "max_workers", "num_workers"))
        self.count = count or next((n for n in said if isinstance(n, int)), os.cpu_count() or 1)

    def submit(self, *arguments: Any) -> Future[Outcome]:
        """Let a worker call `work`."""
        return self.executor.submit(work, *arguments)

    def live(self) -> int:
        """How many workers there are, as far as is known."""
        return self.count

    def lost(self, error: BaseException, generation: int) -> tuple[str, bool]:
        """Why an item was lost: of a death it would not be known whose it is."""
        text = " ".join(f"{type(error).__name__}: {error}".split())
        hint = HINTS.get(type(error).__name__, "")
        return f"the executor has failed ({text[:200]}){hint}", False

    def close(self, at_once: bool) -> None:
        """Leave it to the caller."""


class Engine:
    """Where tasks run.

    Args:
        place: where workers are; None for this process.
        idle_timeout: seconds without a finished item after which to give up; as long as there are
            workers, for ever, if None.
    """

    def __init__(self, place: Workers | None = None, idle_timeout: float | None = None) -> None:
        self.place, self.idle_timeout, self.runs = place, idle_timeout, list[Submitted]()

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
            task: a function of the item alone; a big one goes to each worker once or twice, and
                not with each item.
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
        messages = Messages(where, noun, hint)
        run = Submitted(self.place, load, items, check, messages, window, self.idle_timeout)
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


class Messages:
    """How messages call what is done."""

    def __init__(self, where: str, noun: str, hint: str) -> None:
        self.prefix, self.noun, self.hint = where and f"{where}: ", noun, hint

    def item(self, position: int, item: Any) -> str:
        """One of the items."""
        return f"{self.prefix}{self.noun} {getattr(item, 'number', position)}"

    def failure(self, reason: str) -> PhysgenError:
        """Why no more comes."""
        return PhysgenError(f"{self.prefix}{reason}; {self.hint}")


class Submitted:
    """The items of one call: those to do, and those on their way, which begin at once."""

    def __init__(
        self,
        place: Workers,
        load: Load,
        items: Iterable[Any],
        check: Callable[[], None],
        messages: Messages,
        window: int | None,
        idle_timeout: float | None,
    ) -> None:
        self.place, self.load, self.check, self.messages = place, load, check, messages
        self.window, self.idle_timeout = window, idle_timeout
        self.todo = deque(enumerate(items))
        self.pending: dict[Future[Outcome], tuple[int, Any, int]] = {}
        self.suspects, self.alone = deque[tuple[int, Any]](), set[int]()
        self.deaths, self.missed = Counter[int](), 0
        self.last_alive = self.last_done = time.monotonic()
        self.fill()

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        try:
            while self.todo or self.pending or self.suspects:
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
        """Send items, as many as there may be on their way; suspects alone."""
        alone = self.suspects or any(p in self.alone for p, _, _ in self.pending.values())
        most = 1 if alone else self.window or 2 * max(1, self.place.live())
        queue = self.suspects or self.todo
        while queue and len(self.pending) < most:
            fresh = self.missed > 2 * most  # workers that are begun anew for each item
            self.send(*queue.popleft(), always=fresh or len(self.load.data) < INLINE)

    def send(self, position: int, item: Any, always: bool = True) -> None:
        """Send one item, with its task or without."""
        try:
            future = self.place.submit(self.load.digest, self.load.data if always else None, item)
        except Exception as error:  # whatever a pool that is broken, or closed, raises
            self.lost(position, item, error, self.place.generation)
        else:
            self.pending[future] = position, item, self.place.generation

    def finished(self) -> Iterator[tuple[int, Any]]:
        """Results of items that are done; those that were lost are sent again."""
        done = wait(self.pending, POLL, FIRST_COMPLETED).done
        for future in sorted(done, key=lambda f: (failed(f), self.pending[f][0])):
            position, item, generation = self.pending.pop(future)
            if failed(future):
                self.check()
                cancelled = future.cancelled()
                error = CancelledError() if cancelled else future.exception() or CancelledError()
                self.lost(position, item, error, generation)
                continue
            kind, value = future.result()
            if kind == "missing":
                self.missed += 1
                self.send(position, item)
                continue
            if kind == "error":
                raise error_of(value, self.messages.item(position, item))
            self.last_done = time.monotonic()
            yield position, pickle.loads(value)

    def lost(self, position: int, item: Any, error: BaseException, generation: int) -> None:
        """What becomes of an item that has no answer: it is run again, in the end alone.

        Raises:
            PhysgenError: it kills its worker alone too, or something else has failed.
        """
        reason, dead = self.place.lost(error, generation)
        if not dead:
            raise self.messages.failure(reason) from error
        if position in self.alone:
            name = self.messages.item(position, item)
            raise PhysgenError(
                f"{name} kills its workers: {reason}; {self.messages.hint}"
            ) from error
        self.deaths[position] += 1
        if self.deaths[position] < self.place.deaths:
            self.todo.appendleft((position, item))
        else:
            self.alone.add(position)
            self.suspects.append((position, item))

    def watch(self) -> None:
        """Give up waiting where nothing comes.

        Raises:
            PhysgenError: no worker is there, or none has done anything, for too long.
        """
        now = time.monotonic()
        if self.place.live():
            self.last_alive = now
        lonely, idle = now - self.last_alive, now - self.last_done
        if lonely > (self.idle_timeout or LONELY):
            raise self.messages.failure(f"no worker has been alive for {lonely:.0f} s")
        if self.idle_timeout and idle > self.idle_timeout:
            raise self.messages.failure(
                f"nothing was finished in {idle:.1f} s; raise --idle-timeout if a task may take "
                "longer"
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
    idle_timeout: float | None = None,
) -> Iterator[Engine]:
    """Where the tasks of a call run; what was started for it ends with it.

    Args:
        workers: processes of this machine, 1 for this one; of an executor, how many it has.
        executor: of concurrent.futures; it is left open.
        scheduler: address of a dask scheduler, or ``local:N``.
        idle_timeout: as for `Engine`.

    Yields:
        The engine.

    Raises:
        UsageError: several places, or none that can be had.
    """
    place = place_of(workers, executor, scheduler)
    if idle_timeout is not None and not idle_timeout > 0:
        raise UsageError(f"idle_timeout: expected seconds above 0, got {idle_timeout}")
    with closed_after(Engine(place, idle_timeout)) as found:
        yield found


def local_engine(count: int) -> AbstractContextManager[Engine]:
    """Other processes of this machine, be it one."""
    return closed_after(Engine(Processes(count)))


@contextmanager
def closed_after(found: Engine) -> Iterator[Engine]:
    """An engine that ends with a block; at once if the block fails."""
    try:
        yield found
    except BaseException:
        found.close(at_once=True)
        raise
    found.close(at_once=False)


def place_of(
    workers: int | None, executor: Executor | None, scheduler: str | None
) -> Workers | None:
    """Where workers are; None for this process.

    Raises:
        UsageError: several places, or none that can be had.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers: expected at least 1, got {workers}")
    if scheduler and (workers or executor is not None):
        other = "workers" if workers else "an executor"
        raise UsageError(f"scheduler: give either that or {other}, not both")
    if scheduler:
        return scheduled(scheduler)
    if executor is None:
        return Processes(workers) if workers and workers > 1 else None
    if not isinstance(executor, Executor):
        hint = "; give client.get_executor()" if hasattr(executor, "get_executor") else ""
        kind = type(executor).__name__
        raise UsageError(f"executor: expected one of concurrent.futures, got {kind}{hint}")
    if isinstance(executor, ThreadPoolExecutor):
        raise UsageError(
            "executor: threads of one process share what simulators and torch keep; take a "
            "ProcessPoolExecutor, or workers"
        )
    return Dask(executor) if hasattr(executor, "_client") else GivenExecutor(executor, workers)

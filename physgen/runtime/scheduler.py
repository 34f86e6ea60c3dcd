"""Workers of a dask scheduler: by its address, started here, or of a client's executor."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from physgen.errors import PhysgenError, UsageError
from physgen.runtime.processes import script_hidden
from physgen.runtime.worker import Outcome, work

__all__ = ["Dask", "scheduled"]

ANSWER = 10.0  # seconds in which a scheduler must answer
LOOK = 2.0  # seconds after which workers are counted again
BEGIN = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.path.append({!r})"
"""How a worker of this machine begins: it leaves Ctrl-C to this process, and imports from here."""
ADDRESS = re.compile(r"(\w+://)?.+:\d+|local:.*")
LOGGERS = ("distributed", "distributed.client")


class Dask:
    """The workers of a scheduler, as many as there are at the time.

    Args:
        executor: of a client.
        opened: what is closed with it.
    """

    generation, deaths = 0, 1  # it has tried several times itself

    def __init__(self, executor: Any, opened: ExitStack | None = None) -> None:
        self.executor, self.opened = executor, opened or ExitStack()
        self.client = executor._client
        self.address = self.client.scheduler.address
        self.looked, self.count = float("-inf"), 0

    def submit(self, *arguments: Any) -> Future[Outcome]:
        """Let a worker call `work`."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # a model, and not with each
            return self.executor.submit(work, *arguments, pure=False)

    def live(self) -> int:
        """How many workers there are; none where the scheduler does not answer."""
        if time.monotonic() - self.looked > LOOK:
            try:
                found = self.client.sync(self.client.scheduler.ncores, callback_timeout=ANSWER)
            except Exception:  # whatever a lost connection raises
                found = {}
            self.looked, self.count = time.monotonic(), len(found)
        return self.count

    def lost(self, error: BaseException, generation: int) -> tuple[str, bool]:
        """Why an item was lost, and whether that is since its workers have died."""
        if type(error).__name__ == "KilledWorker":
            return "they die, as when memory is short; see their logs", True
        if isinstance(error, CancelledError) or self.client.status != "running":
            return f"the dask scheduler at {self.address} is gone, or has dropped the work", False
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return f"dask has failed ({text[:200]})", False

    def close(self, at_once: bool) -> None:
        """Close what was opened here."""
        self.opened.close()


def scheduled(name: str) -> Dask:
    """The workers of a scheduler.

    Args:
        name: its address, or ``local:N`` to start one with N workers of this machine.

    Raises:
        UsageError: dask is not installed, or nobody answers.
    """
    if not ADDRESS.fullmatch(name):
        raise UsageError(f"scheduler: expected tcp://host:8786 or local:4, got {name!r}")
    try:
        import distributed
    except ImportError as error:
        raise UsageError("scheduler: needs dask; pip install 'physgen[dask]'") from error
    with ExitStack() as stack:
        stack.enter_context(dask_quiet())
        where: Any = name
        kind, _, count = name.partition(":")
        if kind == "local":
            where = stack.enter_context(local_cluster(distributed, count))
        else:
            require_answer(distributed, name)
        client = distributed.Client(where, timeout=ANSWER, set_as_default=False)
        stack.callback(client.close, timeout=ANSWER)
        return Dask(client.get_executor(), stack.pop_all())


def require_answer(distributed: Any, address: str) -> None:
    """Refuse an address at which no scheduler of dask is; a client would leave threads behind.

    Raises:
        UsageError: nobody answers, or something else does.
    """

    async def asked() -> None:
        how = distributed.Security().get_connection_args("client")
        comm = await distributed.comm.connect(address, timeout=ANSWER, **how)
        await comm.close()

    try:
        with ThreadPoolExecutor(1) as aside:  # a notebook has a loop of its own here
            aside.submit(lambda: asyncio.run(asyncio.wait_for(asked(), ANSWER))).result()
    except Exception as error:  # whatever the answer of another program breaks
        raise UsageError(
            f"scheduler: no dask scheduler answers at {address} ({dask_error(error)}); start one "
            "there with: dask scheduler"
        ) from error


def dask_error(error: Exception) -> str:
    """An error of dask in some words."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:100].rstrip(":")


@contextmanager
def local_cluster(distributed: Any, count: str) -> Iterator[Any]:
    """A scheduler of this process with workers of this machine, which do not run the script.

    Raises:
        PhysgenError: dask cannot start them.
        UsageError: what is no number of workers.
    """
    if not count.isdecimal() or int(count) < 1:
        raise UsageError(f"scheduler: expected local:N with N at least 1, got local:{count}")
    with script_hidden():
        try:
            cluster = distributed.LocalCluster(
                n_workers=int(count), threads_per_worker=1, dashboard_address=":0", memory_limit=0,
                silence_logs=logging.CRITICAL, preload=[BEGIN.format(str(Path.cwd()))],
            )  # fmt: skip
        except Exception as error:  # whatever dask raises where its processes do not start
            raise PhysgenError(
                f"scheduler: dask could not start local:{count} ({dask_error(error)}); rerun, "
                "with fewer workers if memory is short"
            ) from error
        with cluster:
            yield cluster


@contextmanager
def dask_quiet() -> Iterator[None]:
    """Let dask not say in many lines what we say in one."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)

"""Processes that train one model together, as torchrun starts them; each has a number, its *rank*.

They hold the same state and deal the rows of each batch among themselves; whatever decides on how
a training goes on is the sum over all, or the word of the first. DistributedDataParallel wraps one
``forward`` and one loss, which families are not; what is left to do by hand is in `Ranks`.

A process that fails leaves word of it, then closes its connections. So the others, which wait for
its numbers, end as well; one of them all says why.
"""

from __future__ import annotations

import functools
import itertools
import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from json import dumps, loads
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from physgen.errors import Interrupted, PhysgenError, RankLost, UsageError
from physgen.runtime.interrupt import SIGNALS, Stop, end_without_a_word, interruptible
from physgen.runtime.progress import log

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.distributed.distributed_c10d import Store

__all__ = [
    "ALONE",
    "Ranks",
    "by_all_ranks",
    "first_of_all",
    "ranks_joined",
    "ranks_now",
    "require_together",
    "wait_for_the_word",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables of the environment by which torchrun tells processes of each other."""
TIMEOUT, LONG = timedelta(minutes=10), timedelta(days=7)
"""How long a process waits for another's numbers, and where these may take any time. One that has
ended is found out at once, by its connection."""
GONE = (
    "another process of this training is gone, or has not answered for 10 minutes; start all of "
    "them again, with --resume if an epoch was finished"
)
GRACE = 1.0
"""How long others wait for the first to say what all of them know, s."""
SAID = 20.0
"""How long a process that leaves the word to another waits to be ended, s."""
MEETINGS = itertools.count()
"""Numbers of the times that this process joins others, so that each has a store of its own."""


class Ranks:
    """Processes that train together, seen from one of them; one alone has nobody to ask.

    Args:
        rank: number of this one, from 0.
        world: how many there are.
        store: where they find each other; None for one alone.
        timeout: how long to wait for numbers of another.
    """

    def __init__(
        self,
        rank: int = 0,
        world: int = 1,
        store: Store | None = None,
        timeout: timedelta = TIMEOUT,
    ) -> None:
        self.rank, self.world, self.timeout = rank, world, timeout
        self.store: Any = store
        self.cuda: Any = None
        self.group: Any = None
        if store is not None:
            from torch.distributed import ProcessGroupGloo

            with answered():
                self.group = ProcessGroupGloo(store, rank, world, timeout)
            self.total(0.0)  # connects them, so that from now on one that ends is missed at once

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def share(self, rows: Any) -> Any:
        """This process's part of rows, or of a list: one in each `world`."""
        return rows[self.rank :: self.world] if self.world > 1 else rows

    def stream(self, seed: int) -> int:
        """A seed of this process's own random numbers, of one of all; the first keeps it."""
        if self.first:
            return seed
        return int(np.random.SeedSequence([seed, self.rank]).generate_state(1, np.uint64)[0] >> 1)

    def total(self, *values: float) -> list[float]:
        """Sums of numbers over all."""
        if self.group is None:
            return list(values)
        import torch

        sums = torch.tensor(values, dtype=torch.float64)
        with answered():
            self.group.allreduce(sums).wait()
        return sums.tolist()

    def add_up(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace gradients by their sums over all; where one has none it counts as zero.

        A weight without a gradient in any process is left without, as in a training by one: zero
        would let it decay.
        """
        if self.group is None:
            return
        import torch

        trained = [p for p in parameters if p.requires_grad]
        own = [p.grad is not None for p in trained]
        each = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        if not each:
            return
        there = torch.tensor(own, dtype=each[0].dtype).to(each[0].device)
        flat = torch.cat([there, *(g.flatten() for g in each)])
        group = self.group_on(flat.device)
        sums = flat if group is self.cuda else flat.cpu()
        with answered():
            group.allreduce(sums).wait()
        found, *parts = sums.to(flat.device).split([len(own), *(g.numel() for g in each)])
        some = own if all(own) else (found > 0).tolist()  # which waits for the device
        for parameter, gradient, part, any_has in zip(trained, each, parts, some, strict=True):
            if any_has:
                gradient.copy_(part.view_as(gradient))  # in its own layout, as optimisers expect
                parameter.grad = gradient

    def group_on(self, device: torch.device) -> Any:
        """What adds up tensors on a device: NCCL on GPUs, where it is there, else Gloo."""
        from torch import distributed
        from torch.distributed.distributed_c10d import PrefixStore

        if device.type != "cuda" or not distributed.is_nccl_available():
            return self.group
        if self.cuda is None:
            nccl, store = distributed.ProcessGroupNCCL, PrefixStore("cuda", self.store)
            how = nccl.Options()
            how._timeout = self.timeout
            self.cuda = nccl(store, self.rank, self.world, how)
        return self.cuda

    def gathered(self, value: T, timeout: timedelta | None = None) -> list[T]:
        """The values of all, in their order."""
        if self.group is None:
            return [value]
        import torch
        from torch.distributed import AllreduceOptions

        data = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        sizes, how = torch.zeros(self.world, dtype=torch.int64), AllreduceOptions()
        sizes[self.rank], how.timeout = len(data), timeout or self.timeout
        with answered():
            self.group.allreduce([sizes], how).wait()
            padded = torch.zeros(int(sizes.max()), dtype=torch.uint8)
            padded[: len(data)] = data
            each = [torch.zeros_like(padded) for _ in range(self.world)]
            self.group.allgather(each, padded).wait()
        return [
            pickle.loads(part[:n].numpy().tobytes())
            for part, n in zip(each, sizes.tolist(), strict=True)
        ]

    def first_of(self, value: T) -> T:
        """The value that the first has."""
        return self.gathered(value if self.first else None)[0]  # type: ignore[return-value]

    def collected(self, parts: Sequence[T]) -> list[T]:
        """A list of which `share` has given each its part, however long that took."""
        each = self.gathered(parts, LONG)
        total = sum(len(part) for part in each)
        return [each[k % self.world][k // self.world] for k in range(total)]

    def require_same(self, about: Any, what: str) -> None:
        """Refuse to go on where JSON data differ between processes.

        Raises:
            UsageError: they do; it names the first keys that do.
        """
        ours, *others = self.gathered(about)
        for rank, theirs in enumerate(others, 1):
            if changed := [k for k in ours if ours[k] != theirs.get(k)]:
                raise UsageError(
                    f"{what}: rank {rank} differs from rank 0 in {', '.join(changed)}; expected "
                    "the same data and options in all processes"
                )

    def unite(self, tensors: Mapping[str, Tensor], in_turns: Iterable[str] = ()) -> None:
        """Give all the first one's values of tensors, and of some of them rows of each in turn.

        Args:
            tensors: name → (...), to be changed in place.
            in_turns: names of those of which row i is that of rank i modulo world.
        """
        if self.group is None:
            return
        turns = set(in_turns)
        parts = {k: self.share(t.cpu()) for k, t in tensors.items() if k in turns}
        whole = {k: t.cpu() for k, t in tensors.items() if k not in turns and self.first}
        each = self.gathered((parts, whole))
        for name, value in each[0][1].items():
            tensors[name].copy_(value)
        for name in parts:
            for rank, (theirs, _) in enumerate(each):
                tensors[name][rank :: self.world] = theirs[name].to(tensors[name].device)

    def check(self, stop: Stop) -> None:
        """Stop here, all at once, if a signal has arrived at any.

        Raises:
            Interrupted: it has.
        """
        if self.group is None:
            stop.check()
            return
        arrived = self.total(*(float(stop.signum == signum) for signum in SIGNALS))
        for signum, count in zip(SIGNALS, arrived, strict=True):
            if count:
                raise Interrupted(signum, stop.where, stop.hint)

    def leave(self, error: BaseException) -> BaseException:
        """Tell the others why this process ends, and close its connections.

        Args:
            error: why.

        Returns:
            What is to be raised: the error, or what another has told of before.
        """
        with suppress(Interrupted), interruptible():  # torchrun ends the others by a signal
            rank, code, text = self.cause([self.rank, *code_and_text(error)])
        self.close()
        if not isinstance(error, Exception):
            return error
        silent = rank != self.rank
        if silent and (isinstance(error, RankLost) or not isinstance(error, PhysgenError)):
            error = PhysgenError(text)
            error.exit_code = code
        if isinstance(error, PhysgenError):
            error.silent = silent
            if self.rank and not silent:
                error.args = (f"rank {self.rank}: {error}",)
        return error

    def close(self) -> None:
        """Close the connections, so that others that wait for numbers are told at once."""
        if self.cuda is not None:
            self.cuda.abort()
        self.group = self.cuda = None

    def cause(self, mine: list[Any]) -> list[Any]:
        """Rank, exit code and text of what ends all: of the first who has told, or mine."""
        late = time.monotonic() + (0.0 if self.first else GRACE)
        with suppress(RuntimeError):  # the store ends with the process that holds it
            while not self.store.check(["cause"]) and time.monotonic() < late:
                time.sleep(0.05)
            return loads(self.store.compare_set("cause", "", dumps(mine)))
        return mine


ALONE = Ranks()
NOW: ContextVar[Ranks] = ContextVar("ranks", default=ALONE)


def ranks_now() -> Ranks:
    """The processes that this one has joined; itself alone if there are none."""
    return NOW.get()


def first_of_all() -> bool:
    """Whether this process is the one that speaks, before it has joined others."""
    return started()[0] == 0


def wait_for_the_word() -> None:
    """Wait until another process has said why all end, when whoever started them ends this one.

    One that ended first would have the others ended before they speak.
    """
    end_without_a_word()
    time.sleep(SAID)


def started() -> tuple[int, int]:
    """Rank of this process, and how many whoever started it has started; (0, 1) if it alone.

    Raises:
        UsageError: variables of the environment that are no numbers.
    """
    if not all(name in os.environ for name in NEEDED):
        return 0, 1
    try:
        rank, world = (int(os.environ[name]) for name in NEEDED[:2])
    except ValueError as error:
        raise UsageError(f"RANK and WORLD_SIZE: expected integers: {error}") from error
    return (rank, world) if world > 1 else (0, 1)


@contextmanager
def ranks_joined() -> Iterator[Ranks]:
    """Join the processes that torchrun has started for the length of a block, if there are any.

    In all but the first nothing is shown of what goes on.

    Yields:
        They, as this one sees them.
    """
    if started()[1] == 1:
        yield ALONE
        return
    ranks, level = connected(), log.level
    token = NOW.set(ranks)
    if not ranks.first:
        log.setLevel("CRITICAL")
    try:
        yield ranks
    except BaseException as error:
        raised = ranks.leave(error)
        if raised is error:
            raise
        raise raised from None
    finally:
        NOW.reset(token)
        log.setLevel(level)


def connected() -> Ranks:
    """Meet the others where the environment says.

    Raises:
        RankLost: some have not come.
    """
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    with answered("the processes of torchrun do not find each other: {}"):
        store, rank, world = next(rendezvous("env://", timeout=TIMEOUT))
        return Ranks(rank, world, PrefixStore(f"physgen{next(MEETINGS)}", store))


@contextmanager
def answered(what: str = GONE) -> Iterator[None]:
    """Say in one line that another process no longer answers.

    Raises:
        RankLost: it does not.
    """
    try:
        yield
    except RuntimeError as error:
        raise RankLost(what.format(str(error).partition("\n")[0][:150])) from error


def code_and_text(error: BaseException) -> tuple[int, str]:
    """The exit code and the text of an error, with its type if it is none of ours."""
    if isinstance(error, PhysgenError):
        return error.exit_code, str(error)
    return 1, f"{type(error).__name__}: {error}"


def by_all_ranks(verb: Callable[P, R]) -> Callable[P, R]:
    """Let the processes that torchrun has started run a verb together."""

    @functools.wraps(verb)
    def wrapped(*args: P.args, **given: P.kwargs) -> R:
        with ranks_joined():
            return verb(*args, **given)

    wrapped.by_all_ranks = True  # type: ignore[attr-defined]
    return wrapped


def require_together(verb: Callable[..., Any]) -> None:
    """Refuse to run a verb in all processes that torchrun has started, if it is for one.

    Raises:
        UsageError: it is; silent but in the first.
    """
    if started()[1] > 1 and not hasattr(verb, "by_all_ranks"):
        name = verb.__name__.removesuffix("_")
        error = UsageError(f"{name}: is for one process; run it without torchrun")
        error.silent = not first_of_all()
        raise error

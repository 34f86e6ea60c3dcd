"""Blocks of rows as tasks of an engine, with tensors computed alike wherever they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, TypeVar

import cloudpickle
import torch

from physgen.runtime.device import device_of_worker, threads
from physgen.runtime.engine import Engine
from physgen.runtime.worker import worker_number

__all__ = ["Here", "all_blocks", "each_block", "nothing", "sent_with"]

Item = TypeVar("Item")
Result = TypeVar("Result")
HINT = "nothing was written"


@dataclass(frozen=True)
class Here:
    """A function that is called in this process, and nowhere else: sent along, it does nothing.

    Attributes:
        function: what is called.
    """

    function: Callable[[Any], None]

    def __call__(self, told: Any) -> None:
        """Call it."""
        self.function(told)

    def __reduce__(self) -> tuple[type[Here], tuple[Callable[[Any], None]]]:
        return Here, (nothing,)


def nothing(told: Any) -> None:
    """Told, and does nothing."""


@dataclass(frozen=True)
class Threaded:
    """A task in as many threads as its caller has, so that sums are taken in the same order.

    What is on a GPU here goes to the worker's own.

    Attributes:
        task: a function of a block.
        cores: threads of torch.
    """

    task: Callable[[Any], Any]
    cores: int

    def __call__(self, item: Any) -> Any:
        """What the task makes of a block."""
        with threads(self.cores):
            return self.task(item)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return sent_with(Threaded, self.task, self.cores)


def sent_with(
    kind: Callable[..., Any], first: Any, *rest: Any, device: str = ""
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """How an object is made again in a worker, as ``__reduce__`` returns it.

    Args:
        kind: makes it, of
        first: what has tensors, and
        *rest: what has none.
        device: where all tensors go there, of several GPUs to the worker's own; if empty, those
            that are on a GPU here.
    """
    data = BytesIO()
    torch.save(first, data, pickle_module=cloudpickle)
    return made_there, (kind, data.getvalue(), device, *rest)


def made_there(kind: Callable[..., Any], data: bytes, device: str, *rest: Any) -> Any:
    """The object, in a worker."""

    def place(storage: Any, location: str) -> Any:
        name = device or ("cuda" if location.startswith("cuda") else "cpu")
        return storage.to(device=device_of_worker(name, worker_number()))

    return kind(torch.load(BytesIO(data), map_location=place, weights_only=False), *rest)


def each_block(
    engine: Engine | None,
    task: Callable[[Item], Result],
    items: Sequence[Item],
    check: Callable[[], None],
) -> Iterator[tuple[int, Result]]:
    """What a task makes of blocks of rows, as they are done: which it is, and what was made.

    Args:
        engine: where they run; in this process if None.
        task: a function of a block alone.
        items: blocks; ``number`` is the first row of each.
        check: called while waiting; may raise.
    """
    alike = Threaded(task, torch.get_num_threads())
    return (engine or Engine()).each(alike, items, check, noun="rows from", hint=HINT)


def all_blocks(
    engine: Engine | None,
    task: Callable[[Item], Result],
    items: Sequence[Item],
    tick: Callable[[float], None] = lambda part: None,
) -> list[Result]:
    """The same of all blocks, in their order; `tick` is told the part that is done."""
    found: dict[int, Result] = {}
    for i, made in each_block(engine, task, items, lambda: tick(len(found) / len(items))):
        found[i] = made
    return [found[i] for i in range(len(items))]

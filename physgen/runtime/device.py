"""Where tensors live, and how many threads compute them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from physgen.errors import UsageError
from physgen.runtime.ranks import ranks_now

__all__ = ["device_of", "device_of_worker", "full_precision", "threads"]


def device_of(name: str) -> torch.device:
    """The device of a name.

    Args:
        name: ``auto`` (CUDA if there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:1``; of
            processes that train together each has a GPU of its own.

    Raises:
        UsageError: a name that is no device, or a device that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if ranks_now().world > 1 and name.startswith("cuda"):
        name = own_gpu(name, torch.cuda.device_count())
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {name!r}: {reason}; expected auto, cpu or cuda") from error
    return device


def own_gpu(name: str, gpus: int) -> str:
    """The GPU of one of several processes of a machine.

    Args:
        name: device that was asked for.
        gpus: that there are.

    Raises:
        UsageError: a GPU by its number, or fewer than processes.
    """
    if name != "cuda":
        raise UsageError(f"device {name!r}: expected auto, cpu or cuda, one GPU a process")
    number = int(os.environ.get("LOCAL_RANK", "0"))
    if number >= gpus:
        raise UsageError(
            f"device 'cuda': {gpus} GPUs for process {number + 1} of this machine; expected one "
            f"each: torchrun --nproc-per-node {max(gpus, 1)}, or --device cpu"
        )
    return f"cuda:{number}"


def device_of_worker(name: str, number: int) -> torch.device:
    """The device of one of the workers of a machine: of its GPUs each takes one, in turn.

    Args:
        name: ``cpu``, ``cuda``, or ``cuda:1`` for all.
        number: of the worker, from 0.

    Raises:
        UsageError: a device that is not there.
    """
    if name == "cuda" and (count := torch.cuda.device_count()):
        return torch.device("cuda", number % count)
    return device_of(name)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Convolve in float32, and the same each time, for the length of a block.

    On CUDA torch convolves in TF32 by default, with 10 bits, and by whatever algorithm: a log p is
    then off by 1e-3 of itself, and no smooth function of θ.
    """
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield


@contextmanager
def threads(n: int | None = None) -> Iterator[None]:
    """Run torch's CPU kernels in n threads for the length of a block.

    Args:
        n: number of threads; if None what OMP_NUM_THREADS says, else one. Steps of networks this
            small gain nothing from a second thread, and wait long for it where another process has
            the core (benchmarks/RESULTS.md).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(n or int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        yield
    finally:
        torch.set_num_threads(before)

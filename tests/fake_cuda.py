"""A device that says it is CUDA and computes on the CPU: it finds what would break on a GPU.

A tensor of it wraps one of the CPU, calls itself `cuda`, and refuses what CUDA refuses: to meet a
tensor of the CPU in one operation, numpy, and random numbers of a generator on the CPU. All else
is computed as it is there, so that results must be those of the CPU to the last bit.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import ClassVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["fake_cuda"]

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
Real = torch.Generator
MOVES = ("aten::_to_copy", "aten::copy_", "aten::_copy_from", "aten::set_", "aten::lift_fresh")
BY_INDEX = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_unsafe_index")
WAITS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::_unique2", "aten::equal")
"""Operations whose result the CPU waits for; copies to the CPU are others."""


class Generator(Real):
    """Random numbers of a device, or of the CPU that stands for it."""

    known: ClassVar[dict] = {}

    def __new__(cls, device="cpu"):
        made = super().__new__(cls)
        made.of = torch.device(device)
        Generator.known[made._cdata] = made  # which also keeps it, so that no other has its number
        return made

    @property
    def device(self):
        return self.of

    @staticmethod
    def is_cuda(one):
        """Whether a generator is of CUDA; an operation sees it as one of another Python object."""
        known = Generator.known.get(one._cdata)
        return known is not None and known.of.type == "cuda"


class OnCuda(torch.Tensor):
    """A tensor of the CPU that says it is on CUDA."""

    @staticmethod
    def __new__(cls, real):
        made = torch.Tensor._make_wrapper_subclass(
            cls, real.size(), strides=real.stride(), storage_offset=real.storage_offset(),
            dtype=real.dtype, device="meta",
        )  # fmt: skip
        made.inner = real
        return made

    @property
    def device(self):
        return CUDA

    @property
    def is_cuda(self):
        return True

    def tolist(self):
        return self.inner.tolist()

    def __getitem__(self, index):
        return super().__getitem__(of_lists(index))

    def __setitem__(self, index, value):
        super().__setitem__(of_lists(index), value)

    def __repr__(self):
        return f"OnCuda({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


def of_lists(index):
    """An index, its lists as tensors: torch makes these below all modes."""
    if isinstance(index, tuple):
        return tuple(of_lists(one) for one in index)
    return OnCuda(torch.tensor(index)) if isinstance(index, list) else index


def is_cuda(value):
    return isinstance(value, OnCuda)


def require_one_device(func, args, kwargs):
    """Refuse what CUDA refuses."""
    name = func._schema.name
    leaves = tree_leaves((args, kwargs))
    tensors = [t for t in leaves if isinstance(t, torch.Tensor)]
    if any(t.device.type == "meta" for t in tensors):
        raise RuntimeError(f"{name}: a tensor that was made below all modes")
    devices = {is_cuda(t) for t in tensors if t.dim() > 0}
    by_index = name in BY_INDEX and is_cuda(args[0])
    if len(devices) > 1 and not by_index and name not in MOVES:
        raise RuntimeError(f"{name}: tensors of cuda and of the cpu meet")
    given = kwargs.get("device")
    here = on_cuda(given) if given is not None else any(map(is_cuda, tensors))
    for generator in (g for g in leaves if isinstance(g, Real)):
        if Generator.is_cuda(generator) != here:
            raise RuntimeError(f"{name}: a generator of another device")


def on_cuda(device):
    return device is not None and torch.device(device).type in ("cuda", "meta")


def run(func, args, kwargs):
    """One operation, on the CPU."""
    require_one_device(func, args, kwargs)
    given = kwargs.get("device")
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    goes = on_cuda(given) if given is not None else any(map(is_cuda, tensors))
    if func._schema.name == "aten::copy_":
        goes = is_cuda(args[0])

    def bare(value):
        if is_cuda(value):
            return value.inner
        return CPU if isinstance(value, torch.device) else value

    out = func(*tree_map(bare, args), **tree_map(bare, kwargs))
    first = func._schema.arguments[0].alias_info if args else None
    in_place = first is not None and first.is_write and isinstance(out, torch.Tensor)
    if in_place and isinstance(args[0], torch.Tensor):
        return args[0]
    if not goes:
        return out
    return tree_map(lambda t: OnCuda(t) if type(t) is torch.Tensor else t, out)


class Mode(TorchDispatchMode):
    """What makes tensors on `cuda` where none are given, and sees all operations."""

    def __init__(self, looked):
        super().__init__()
        self.looked = looked

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._schema.name in WAITS and is_cuda(args[0]):
            self.looked(func._schema.name)
        return run(func, args, kwargs or {})


def made_by(function):
    """torch.tensor or torch.as_tensor, which make their tensors below all modes."""

    def make(data, *, device=None, **given):
        made = data if is_cuda(data) else function(data, **given)
        return made if device is None else made.to(device)

    return make


@contextmanager
def fake_cuda(looked=lambda name: None):
    """Tensors on `cuda` are of the CPU, for the length of a block.

    Args:
        looked: told of each operation that waits for the device.
    """
    before = torch.Generator, torch.tensor, torch.as_tensor, torch.cuda._lazy_init
    torch.Generator, torch.cuda._lazy_init = Generator, lambda: None
    torch.tensor, torch.as_tensor = made_by(torch.tensor), made_by(torch.as_tensor)
    try:
        with Mode(looked):
            yield CUDA
    finally:
        Generator.known.clear()
        torch.Generator, torch.tensor, torch.as_tensor, torch.cuda._lazy_init = before

"""What a function of tensors computes, written down call by call for a batch of any size.

The function is run on two batches, of 3 and of 4 rows, while each call of torch is recorded. What
does not depend on its inputs is a constant, however it came about. The sizes in which the two
records differ are those of the batch; so are the rows of constants that differ, which must be
base + i · step in the row's number i, or come again and again. Whatever else differs cannot be
written down and is refused: a loop whose length θ decides, or a map that leaves torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _disable_current_modes,
    _get_current_dispatch_mode,
)
from torch.utils._pytree import tree_map

from physgen.errors import UsageError

__all__ = [
    "BatchSize",
    "Call",
    "Constant",
    "Operand",
    "Value",
    "all_hold",
    "is_recorded",
    "recorded",
]

ROWS = (3, 4)


@dataclass(frozen=True)
class BatchSize:
    """A size of so many times the rows of the batch."""

    times: int


Size = int | BatchSize


@dataclass(frozen=True, eq=False)
class Operand:
    """What a call takes or gives.

    Attributes:
        dtype: its type.
        shape: its shape, sizes of the batch told as such.
    """

    dtype: torch.dtype
    shape: tuple[Size, ...]

    def size(self, axis: int) -> int:
        """The size of an axis.

        Raises:
            UsageError: that of the batch.
        """
        found = self.shape[axis]
        if isinstance(found, BatchSize):
            raise UsageError("puts rows of the batch together")
        return found


@dataclass(frozen=True, eq=False)
class Value(Operand):
    """A result of a call, or an input."""

    number: int


@dataclass(frozen=True, eq=False)
class Constant(Operand):
    """What no input decides.

    Attributes:
        value: the whole; its first row, (1, …), where it grows with the batch; those of the first
            row of the batch, (t, …), where it has t of them for each, which come again.
        step: by how much a row exceeds the one before it, (1, …); None where all are alike.
    """

    value: Tensor
    step: Tensor | None = None


@dataclass(frozen=True)
class Call:
    """A call of torch.

    Attributes:
        name: of the operator, as in ``aten.add.Tensor``.
        args: its arguments, tensors as operands.
        kwargs: further ones by name.
        results: what it gives, in order.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: tuple[Value, ...]


@dataclass(frozen=True)
class Numbered:
    """A tensor that inputs decide, on one batch."""

    number: int
    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class BatchCall:
    """A call on one batch."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: tuple[Numbered | None, ...]


MOST_CALLS = 200_000
"""Of a graph: a runtime takes minutes to open more."""


class Recorder(TorchDispatchMode):
    """Write down the calls that inputs decide, on one batch.

    Args:
        inputs: the tensors that count as inputs.
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[BatchCall] = []
        self.known: dict[int, tuple[int, int]] = {}
        self.constants: dict[tuple[int, int], Tensor] = {}
        self.kept: list[Tensor] = []  # so that an id stays that of its tensor
        self.count = 0
        for tensor in inputs:
            self.add(tensor, tensor._version)

    def add(self, tensor: Tensor, version: int = 0) -> Numbered:
        """A tensor (...) that inputs decide from now on, and how often it was written to."""
        number, self.count = self.count, self.count + 1
        self.known[id(tensor)] = number, version
        self.kept.append(tensor)
        return Numbered(number, tensor.dtype, tuple(tensor.shape))

    def seen(self, value: Any) -> Any:
        """An argument as it is now: a number, or a copy of a constant."""
        if not isinstance(value, Tensor):
            return value
        version = value._version
        if id(value) in self.known:
            number, then = self.known[id(value)]
            if then != version:
                raise UsageError("writes into a part of a tensor and uses the whole")
            return Numbered(number, value.dtype, tuple(value.shape))
        if (id(value), version) not in self.constants:
            self.constants[id(value), version] = value.detach().clone()
            self.kept.append(value)
        return self.constants[id(value), version]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Make a call, and write it down if inputs decide what it gives."""
        kwargs = kwargs or {}
        name = str(func)
        if torch.Tag.nondeterministic_seeded in func.tags and "attention" not in name:
            raise UsageError(f"draws by torch's {name}, which takes other numbers")
        if not self.decided((args, tuple(kwargs.values()))):
            return func(*args, **kwargs)
        if DECIDES & set(func.tags) and not name.startswith("aten.index"):
            raise UsageError("decides by its numbers what to compute next")
        args_seen, kwargs_seen = tree_map(self.seen, (args, kwargs))
        out = func(*args, **kwargs)
        writes = func._schema.is_mutable
        if writes and out is not args[0]:
            raise UsageError(f"calls torch's {name}, which is not known here")
        every = out if isinstance(out, tuple | list) else (out,)
        version = args[0]._version + writes if writes or func.is_view else 0
        results = tuple(self.add(t, version) if isinstance(t, Tensor) else None for t in every)
        if len(self.calls) == MOST_CALLS:
            raise UsageError(f"takes more than {MOST_CALLS:,} operations, too many for a graph")
        self.calls.append(BatchCall(name, args_seen, kwargs_seen, results))
        return out

    def decided(self, value: Any) -> bool:
        """Whether inputs decide some tensor in it."""
        if isinstance(value, tuple | list):
            return any(map(self.decided, value))
        return isinstance(value, Tensor) and id(value) in self.known


DECIDES = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


def is_recorded() -> bool:
    """Whether calls are written down now, so that no number may decide which are made."""
    return isinstance(_get_current_dispatch_mode(), Recorder)


def all_hold(condition: Tensor) -> bool:
    """Whether all of a condition (…) hold: where calls are written down, of the example's rows.

    For what is so of all rows or may be otherwise in some, of which an example has to have one.
    """
    with _disable_current_modes():
        return bool(condition.all())


@torch.no_grad()
def recorded(
    function: Callable[..., Tensor], inputs: Callable[[int], Sequence[Tensor]]
) -> tuple[list[Call], Value]:
    """The calls that a function makes, for a batch of any size.

    Args:
        function: of tensors (B, …), to one.
        inputs: B → inputs, of other numbers for each B.

    Returns:
        the calls in order, and the operand that is the result; inputs are the values 0, 1, ….

    Raises:
        UsageError: a function that cannot be written down so.
    """
    records, ends = [], []
    for rows in ROWS:
        given = list(inputs(rows))
        with Recorder(given) as record:
            end = function(*given)
        records.append(record)
        ends.append(record.seen(end))
    first, second = (record.calls for record in records)
    if [c.name for c in first] != [c.name for c in second]:
        raise UsageError("computes in another way for another number of rows")
    merge = Merge()
    calls = [
        Call(
            a.name,
            merge(a.args, b.args),
            merge(a.kwargs, b.kwargs),
            merge(a.results, b.results),
        )
        for a, b in zip(first, second, strict=True)
    ]
    end = merge(*ends)
    if not isinstance(end, Value):
        raise UsageError("does not depend on its inputs")
    return calls, end


class Merge:
    """What two batches have of one thing, as it is for any batch."""

    def __init__(self) -> None:
        self.constants: dict[tuple[int, int], Constant] = {}

    def __call__(self, a: Any, b: Any) -> Any:
        """The merger of an argument, or of a list of them."""
        if isinstance(a, tuple | list):
            if len(a) != len(b):
                raise UsageError("computes in another way for another number of rows")
            return type(a)(self(x, y) for x, y in zip(a, b, strict=True))
        if isinstance(a, dict):
            return {name: self(value, b[name]) for name, value in a.items()}
        if isinstance(a, Numbered):
            return Value(a.dtype, self(a.shape, b.shape), a.number)
        if isinstance(a, Tensor):
            key = id(a), id(b)
            if key not in self.constants:
                self.constants[key] = self.constant(a, b)
            return self.constants[key]
        if type(a) is int and a != b:
            times, rest = divmod(b - a, ROWS[1] - ROWS[0])
            if rest or a != times * ROWS[0]:
                raise UsageError("computes in another way for another number of rows")
            return BatchSize(times)
        return a

    def constant(self, a: Tensor, b: Tensor) -> Constant:
        """A constant of two batches, (...) each.

        Raises:
            UsageError: its rows follow no rule.
        """
        shape = self(tuple(a.shape), tuple(b.shape))
        if a.shape == b.shape and same(a, b):
            return Constant(a.dtype, shape, a)
        grows = [d for d, n in enumerate(shape) if isinstance(n, BatchSize)]
        pairs = list(zip((a, b), ROWS, strict=True))
        row = b
        for d in grows:
            row = row.narrow(d, 0, 1)
        if grows and all(same(v, row.expand_as(v)) for v in (a, b)):
            return Constant(a.dtype, shape, row)
        if grows == [0] and shape[0] == BatchSize(1) and b.dtype == torch.int64:
            step = b[1:2] - b[:1]
            number = torch.arange(len(b)).view(-1, *[1] * (b.ndim - 1))
            if all(same(v, b[:1] + number[: len(v)] * step) for v in (a, b)):
                return Constant(a.dtype, shape, b[:1], step)
        if grows == [0] and len(b) > 1:
            block = b[: len(b) // ROWS[1]]
            if all(same(v, block.repeat(rows, *[1] * (b.ndim - 1))) for v, rows in pairs):
                return Constant(a.dtype, shape, block)
        raise UsageError("computes something outside of torch, or by the number of rows")


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors (…) are equal, but for what rounding does in products of many rows."""
    if not a.is_floating_point():
        return torch.equal(a, b)
    largest = float(torch.where(a.isfinite(), a, 0).abs().max())
    return torch.allclose(a, b, rtol=1e-5, atol=1e-6 * largest, equal_nan=True)

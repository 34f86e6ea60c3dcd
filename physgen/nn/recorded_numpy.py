"""A function of numpy arrays as calls of torch, so that it can be written down as a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from physgen.errors import UsageError
from physgen.nn.recorded import ROWS
from simulators.base import Array

__all__ = ["torch_of_numpy"]


def torch_of_numpy(
    function: Callable[..., Array], inputs: Callable[[int], tuple[Tensor, ...]]
) -> Callable[..., Tensor]:
    """The same function of tensors, for the batches that `recorded` runs.

    Args:
        function: of arrays (n, …), in numpy.
        inputs: n → its arguments, of other numbers for each n.

    Raises:
        UsageError: a function that does more than torch's numpy knows.
    """
    found: dict[int, tuple[Any, tuple[Tensor, ...], tuple[Tensor, ...]]] = {}

    def backend(module: Any, _: Any) -> Callable[..., Any]:
        def run(*given: Tensor) -> Any:
            found[rows] = module, given, arguments
            return module(*given)

        return run

    for rows in ROWS:
        arguments = inputs(rows)
        torch.compiler.reset()
        traced: Any = torch.compile(
            torch.compiler.wrap_numpy(function), backend=backend, fullgraph=True, dynamic=False
        )
        try:
            traced(*arguments)
        except Exception as error:
            raise UsageError("computes in numpy what torch does not know") from error

    def again(*some: Tensor) -> Tensor:
        """The same calls; arrays that are no arguments are those of then."""
        module, given, then = found[len(some[0])]
        places = {argument.data_ptr(): now for argument, now in zip(then, some, strict=True)}
        return module(*(places.get(one.data_ptr(), one) for one in given))[0]

    return again

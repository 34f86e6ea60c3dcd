"""Nodes and constants of an ONNX graph, as they are added one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from physgen.nn.recorded import BatchSize, Constant, Size, Value

__all__ = ["Nodes", "numpy_type", "onnx_type"]


def onnx_type(dtype: torch.dtype) -> int:
    """ONNX's number of a type of torch."""
    return helper.np_dtype_to_tensor_dtype(torch.zeros((), dtype=dtype).numpy().dtype)


def numpy_type(dtype: torch.dtype) -> np.dtype[Any]:
    """numpy's type of torch's."""
    return torch.zeros((), dtype=dtype).numpy().dtype


class Nodes:
    """Nodes and constants as they are added.

    Args:
        names: number of a value → name of the input that it is.
    """

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self.rows = ""
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.known: dict[Any, str] = {}

    def give(self, results: Sequence[Value | None], names: Sequence[str]) -> None:
        """The names that the results of a call have."""
        for result, name in zip(results, names, strict=False):
            if result is not None:
                self.names[result.number] = name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The result of a node with one."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        """A constant of numbers, each once."""
        array = np.ascontiguousarray(np.asarray(values, dtype))
        array = array.reshape(np.shape(values))
        key = array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest()
        if key not in self.known:
            self.known[key] = name = f"c{len(self.initializers)}"
            self.initializers.append(numpy_helper.from_array(array, name))
        return self.known[key]

    def scalar(self, value: float, dtype: torch.dtype) -> str:
        """A number as a constant of a type."""
        return self.constant(torch.tensor(value, dtype=dtype).numpy(), numpy_type(dtype))

    def name(self, operand: Any, dtype: torch.dtype | None = None) -> str:
        """The name of an operand or a number, of a type if that is given."""
        if isinstance(operand, Constant):
            name = self.grown(operand)
        elif isinstance(operand, Value):
            name = self.names[operand.number]
        else:
            return self.scalar(operand, dtype or torch.float32)
        if dtype is None or dtype == operand.dtype:
            return name
        return self.once("Cast", name, to=onnx_type(dtype))

    def grown(self, constant: Constant) -> str:
        """A constant, with as many rows as there are."""
        value = constant.value.numpy()
        name = self.constant(value, value.dtype)
        if constant.step is not None:
            count = self.once("Squeeze", self.sizes([BatchSize(1)]))
            zero, one = self.constant(0), self.constant(1)
            rows = self.once("Range", zero, count, one)
            rows = self.once("Reshape", rows, self.constant([-1, *[1] * (value.ndim - 1)]))
            return self.once(
                "Add", name, self.once("Mul", rows, self.constant(constant.step.numpy()))
            )
        if value.ndim and len(value) > 1 and isinstance(constant.shape[0], BatchSize):
            return self.once("Tile", name, self.sizes([BatchSize(1), *[1] * (value.ndim - 1)]))
        if any(isinstance(n, BatchSize) for n in constant.shape):
            return self.once("Expand", name, self.sizes(constant.shape))
        return name

    def once(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The result of a node that is wanted often."""
        key = kind, inputs, tuple(attributes.items())
        if key not in self.known:
            self.known[key] = self.node(kind, *inputs, **attributes)
        return self.known[key]

    def sizes(self, shape: Sequence[Size]) -> str:
        """A shape as a vector."""
        if not any(isinstance(n, BatchSize) for n in shape):
            return self.constant(list(shape))
        rows = self.once("Shape", self.rows, start=0, end=1)
        parts = [
            self.once("Mul", rows, self.constant([n.times]))
            if isinstance(n, BatchSize)
            else self.constant([n])
            for n in shape
        ]
        return parts[0] if len(parts) == 1 else self.once("Concat", *parts, axis=0)

    def reshaped(self, name: str, shape: Sequence[Size]) -> str:
        """A tensor in another shape; one size that is the batch's follows from the rest."""
        if 0 in shape:
            return self.node("Reshape", name, self.sizes(shape), allowzero=1)
        if sum(isinstance(n, BatchSize) for n in shape) > 1:
            return self.node("Reshape", name, self.sizes(shape))
        known = [-1 if isinstance(n, BatchSize) else n for n in shape]
        return self.node("Reshape", name, self.constant(known))

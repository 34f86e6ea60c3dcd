r"""What calls of torch with complex numbers become in ONNX, which has none: real ones in pairs.

A complex tensor is a real one with an axis of two more, its last: real and imaginary part. A
Fourier transform along an axis of n is a product with a matrix,

    y_k = Σ_j x_j e^{∓2πijk/n},

of n² operations; maps in pages are small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from physgen.nn.onnx_nodes import Nodes, numpy_type
from physgen.nn.onnx_operators import Operator, result, unchanged_node
from physgen.nn.recorded import Call, Operand, Size
from simulators.base import Array

__all__ = ["COMPLEX", "has_complex"]


def has_complex(call: Call) -> bool:
    """Whether a call takes or gives complex numbers."""
    every = [*call.args, *call.results]
    return any(isinstance(v, Operand) and v.dtype.is_complex for v in every)


def real_type(dtype: torch.dtype) -> torch.dtype:
    """The type of the parts of complex numbers, or that of real ones itself."""
    return torch.zeros((), dtype=dtype).real.dtype


def roots_of_unity(n: int, forward: bool) -> Array:
    """cos and ∓sin of 2πjk/n for each j and k of n, (n, n, 2)."""
    angle = 2 * np.pi * (np.outer(np.arange(n), np.arange(n)) % n) / n
    return np.stack([np.cos(angle), (-1 if forward else 1) * np.sin(angle)], -1)


def scale_of_transform(n: int, norm: int) -> float:
    """By what a transform of n numbers is multiplied: 1, 1/√n or 1/n, as torch numbers them."""
    return float(n) ** (-norm / 2)


def transformed(
    g: Nodes, name: str, shape: Sequence[Size], axis: int, matrix: Array, dtype: torch.dtype
) -> str:
    """A product with a matrix (n, p, m, q) along an axis of n, of p parts each, to m of q parts.

    Args:
        g: the graph.
        name: of the tensor, its parts last where p is 2.
        shape: of it, without that axis of parts.
        axis: which.
        matrix: the numbers.
        dtype: of the parts.
    """
    n, p, m, q = matrix.shape
    rank, others = len(shape), [d for d in range(len(shape)) if d != axis]
    sizes = [shape[d] for d in others]
    order = [*others, axis, rank]  # that of the parts is the last before and after
    rows = g.node("Transpose", name, perm=order[: rank + (p == 2)])
    rows = g.reshaped(rows, [*sizes, n * p])
    found = g.node("MatMul", rows, g.constant(matrix.reshape(n * p, m * q), numpy_type(dtype)))
    found = g.reshaped(found, [*sizes, m, *[2] * (q == 2)])
    return g.node("Transpose", found, perm=[order.index(d) for d in range(rank + (q == 2))])


def complex_matrix(table: Array) -> Array:
    """The matrix (n, 2, m, 2) of parts that multiplies by complex numbers, of table (n, m, 2)."""
    real, imaginary = table[..., 0], table[..., 1]
    rows = np.stack([real, imaginary], -1), np.stack([-imaginary, real], -1)
    return np.stack(rows, 1)


def from_real_node(g: Nodes, call: Call, a: Operand, **_: Any) -> str:
    """Real numbers with an imaginary part of 0, or complex ones of another precision."""
    dtype = real_type(result(call).dtype)
    if a.dtype.is_complex:
        return str(unchanged_node(g, call, a))
    real = g.reshaped(g.name(a, dtype), [*a.shape, 1])
    pads = [0] * (2 * len(a.shape) + 1) + [1]
    return g.node("Pad", real, g.constant(pads), g.scalar(0.0, dtype))


def complex_to_complex_node(
    g: Nodes, call: Call, a: Operand, dims: Sequence[int], norm: int, forward: bool
) -> str:
    """A transform along each of some axes."""
    name, dtype = g.name(a), real_type(a.dtype)
    for axis in dims:
        n = a.size(axis)
        table = complex_matrix(scale_of_transform(n, norm) * roots_of_unity(n, forward))
        name = transformed(g, name, a.shape, axis % len(a.shape), table, dtype)
    return name


def real_to_complex_node(
    g: Nodes, call: Call, a: Operand, dims: Sequence[int], norm: int, onesided: bool
) -> str:
    """The same of real numbers, along the last of these axes only half of the waves if wanted."""
    last, whole = dims[-1] % len(a.shape), result(call)
    n, dtype = a.size(last), real_type(a.dtype)
    table = scale_of_transform(n, norm) * roots_of_unity(n, True)[:, None, : whole.size(last)]
    name = transformed(g, g.name(a), a.shape, last, table, dtype)
    for axis in dims[:-1]:
        n = a.size(axis)
        matrix = complex_matrix(scale_of_transform(n, norm) * roots_of_unity(n, True))
        name = transformed(g, name, whole.shape, axis % len(a.shape), matrix, dtype)
    return name


def complex_to_real_node(
    g: Nodes, call: Call, a: Operand, dims: Sequence[int], norm: int, n: int
) -> str:
    """The way back to n real numbers along the last axis, of the half of its waves."""
    last, name, dtype = dims[-1] % len(a.shape), g.name(a), real_type(a.dtype)
    for axis in dims[:-1]:
        table = complex_matrix(
            scale_of_transform(a.size(axis), norm) * roots_of_unity(a.size(axis), False)
        )
        name = transformed(g, name, a.shape, axis % len(a.shape), table, dtype)
    half = a.size(last)
    twice = np.where((np.arange(half) == 0) | (2 * np.arange(half) == n), 1.0, 2.0)
    table = scale_of_transform(n, norm) * twice[:, None, None] * roots_of_unity(n, False)[:half]
    parts = np.stack([table[..., 0], -table[..., 1]], 1)[..., None]
    return transformed(g, name, a.shape, last, parts, dtype)


def size_node(g: Nodes, call: Call, a: Operand) -> str:
    """|a|."""
    square = g.node("Mul", g.name(a), g.name(a))
    axis = g.constant([len(a.shape)])
    return g.node("Sqrt", g.node("ReduceSum", square, axis, keepdims=0))


COMPLEX: dict[str, Operator] = {
    "_to_copy.default": from_real_node,
    "_fft_c2c.default": complex_to_complex_node,
    "_fft_r2c.default": real_to_complex_node,
    "_fft_c2r.default": complex_to_real_node,
    "abs.default": size_node,
    "view_as_real.default": unchanged_node,
    "detach.default": unchanged_node,
    "clone.default": unchanged_node,
}
"""A call of torch with complex numbers → the function that writes it."""

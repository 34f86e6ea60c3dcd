"""ONNX models as JSON data, which the interpreter of a page runs (``reporting/graph.js``)."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, helper, numpy_helper

from simulators.base import Array

__all__ = ["Constants", "deflated", "graph_data"]

LARGE = 256
"""Numbers from which on constants are looked for within others."""
MATRIX, LEVELS, FAR = 1024, 32767, 100.0
"""Numbers of a matrix that is rounded, at least; to so many steps on either side of 0; and how
many times the mean of their sizes the largest may be."""


def deflated(data: bytes) -> str:
    """Bytes as text: compressed (zlib's), in base64."""
    return base64.b64encode(zlib.compress(data, 9)).decode()


class Constants:
    """The numbers of the constants of several graphs, each once.

    A constant that lies within another one, as a row of a matrix does, is told by its place there.

    Args:
        rounds: whether float32 matrices are told in 16 bits a number, as multiples of a step.
    """

    def __init__(self, rounds: bool = False) -> None:
        self.rounds = rounds
        self.known: dict[tuple[str, bytes], int] = {}
        self.given: dict[str, bytearray] = {}
        self.kept: dict[str, list[Array]] = {}
        self.chunks: list[tuple[str, int, float]] = []
        self.told: list[bytes] = []

    def place(self, array: Array) -> tuple[str, list[int], int]:
        """Type, shape and first number of an array (…), which is kept if it is new.

        Whole numbers of 64 bits are told as float64, for a page has no others.
        """
        kind, shape = str(array.dtype), list(array.shape)
        flat = array.ravel().astype(np.float64) if kind == "int64" else array.ravel()
        given, data = self.given.setdefault(kind, bytearray()), flat.tobytes()
        start = self.known.get((kind, data), -1)
        if start < 0 and flat.size >= LARGE:
            start = aligned_place(given, data, flat.itemsize)
        if start < 0:
            start = len(given) // flat.itemsize
            given += data
            self.keep(kind, flat, array.ndim)
        self.known[kind, data] = start
        return kind, shape, start

    def keep(self, kind: str, flat: Array, rank: int) -> None:
        """Numbers (n,) of an array of some rank, rounded where that is wanted and can be."""
        step, whole = 0.0, flat
        if self.rounds and kind == "float32" and rank > 1 and flat.size >= MATRIX:
            most, typical = abs(flat).max(), abs(flat).mean()
            if 0 < most < FAR * typical:
                scale = np.float32(most / LEVELS)
                step, whole = float(scale), np.rint(flat / scale).astype(np.int16)
                flat = scale * whole.astype(np.float32)
        self.kept.setdefault(kind, []).append(flat)
        self.chunks.append((kind, flat.size, step))
        little = whole.astype(whole.dtype.newbyteorder("<"))
        self.told.append(little.view(np.uint8).reshape(flat.size, whole.itemsize).T.tobytes())

    def rounded(self, model: ModelProto) -> ModelProto:
        """The same graph with its constants as they are told."""
        found = ModelProto()
        found.CopyFrom(model)
        whole = {kind: np.concatenate(parts) for kind, parts in self.kept.items()}
        for initializer in found.graph.initializer:
            array = numpy_helper.to_array(initializer)
            kind, _, start = self.place(array)
            told = whole[kind][start : start + array.size].reshape(array.shape)
            initializer.CopyFrom(numpy_helper.from_array(told.astype(kind), initializer.name))
        return found

    def to_json(self) -> dict[str, Any]:
        """Type, count and step of each run of numbers; all their bytes, those of a rank together.

        Without a step numbers are told as they are, else as int16.
        """
        return {"chunks": self.chunks, "bytes": deflated(b"".join(self.told))}


def aligned_place(within: bytearray, data: bytes, size: int) -> int:
    """Which number of so many bytes the data begin with; −1 where they are not there."""
    at = within.find(data)
    while at % size and at >= 0:
        at = within.find(data, at + 1)
    return at // size


def graph_data(model: ModelProto, constants: Constants) -> dict[str, Any]:
    """Nodes, and the names of constants with their places among all.

    A node is [operator, inputs, outputs, attributes].
    """
    graph = model.graph
    return {
        "nodes": [
            [n.op_type, list(n.input), list(n.output), dict(map(named_attribute, n.attribute))]
            for n in graph.node
        ],
        "constants": {
            i.name: constants.place(numpy_helper.to_array(i)) for i in graph.initializer
        },
        "output": graph.output[0].name,
    }


def named_attribute(found: AttributeProto) -> tuple[str, Any]:
    """Name and value; a type by its name."""
    value = helper.get_attribute_value(found)
    if found.name == "to":
        value = str(helper.tensor_dtype_to_np_dtype(value))
    return found.name, list(value) if isinstance(value, list | tuple) else value

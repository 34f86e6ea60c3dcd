"""An ONNX model as JSON data, which the interpreter of a page runs (``reporting/graph.js``)."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, helper, numpy_helper

from simulators.base import Array

__all__ = ["graph_data"]


def graph_data(model: ModelProto) -> dict[str, Any]:
    """Nodes, the names and places of constants, and all of their numbers in base64.

    A node is [operator, inputs, outputs, attributes]; a constant [type, shape, first byte]. Whole
    numbers of 64 bits are told as float64, for a page has no others.
    """
    graph = model.graph
    constants, parts, end = {}, [], 0
    for initializer in graph.initializer:
        array = numpy_helper.to_array(initializer)
        told = in_bytes(array)
        constants[initializer.name] = [str(array.dtype), list(array.shape), end]
        parts.append(told)
        end += len(told)
    return {
        "nodes": [
            [n.op_type, list(n.input), list(n.output), dict(map(named_attribute, n.attribute))]
            for n in graph.node
        ],
        "constants": constants,
        "weights": base64.b64encode(b"".join(parts)).decode(),
        "output": graph.output[0].name,
    }


def in_bytes(array: Array) -> bytes:
    """The numbers of an array (…), up to a multiple of eight bytes, in which the next begins."""
    kept = array.astype(np.float64) if array.dtype == np.int64 else array
    told = kept.astype(kept.dtype.newbyteorder("<")).tobytes()
    return told + bytes(-len(told) % 8)


def named_attribute(found: AttributeProto) -> tuple[str, Any]:
    """Name and value; a type by its name."""
    value = helper.get_attribute_value(found)
    if found.name == "to":
        value = str(helper.tensor_dtype_to_np_dtype(value))
    return found.name, list(value) if isinstance(value, list | tuple) else value

"""Recorded calls of torch as an ONNX graph, which any runtime of ONNX can run.

:mod:`physgen.nn.onnx_operators` says for each call of torch which nodes it becomes; a call that is
not there is refused by its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import helper

from physgen.errors import UsageError
from physgen.nn.onnx_complex import COMPLEX, has_complex
from physgen.nn.onnx_nodes import Nodes, onnx_type
from physgen.nn.onnx_operators import OPERATORS
from physgen.nn.recorded import BatchSize, Call, Operand, Value

__all__ = ["graph_of"]

OPSET, IR_VERSION = 18, 8
"""What onnxruntime has read since 1.14, of 2023."""


def graph_of(
    calls: Sequence[Call],
    end: Value,
    inputs: Mapping[str, Value],
    output: str,
    about: Mapping[str, str],
) -> onnx.ModelProto:
    """An ONNX model of what was recorded, of which the first axis of all is the batch, n.

    Args:
        calls: in order.
        end: the result.
        inputs: name → input, the first of which has a row for each of the batch.
        output: name of the result.
        about: name → what is to be said of it.

    Raises:
        UsageError: a call of torch that is not known here.
    """
    graph = Nodes({value.number: name for name, value in inputs.items()})
    graph.rows = next(iter(inputs))
    for call in needed(calls, end):
        table = COMPLEX if has_complex(call) else OPERATORS
        make = table.get(call.name.removeprefix("aten."))
        if make is None:
            raise UsageError(f"calls torch's {call.name}, which is not known here")
        made = make(graph, call, *call.args, **call.kwargs)
        graph.give(call.results, made if isinstance(made, list) else [made])
    graph.nodes.append(helper.make_node("Identity", [graph.name(end)], [output]))
    made_of = helper.make_graph(
        graph.nodes,
        "surrogate",
        [typed(name, value, about) for name, value in inputs.items()],
        [typed(output, end, about)],
        graph.initializers,
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(
        made_of, opset_imports=opset, ir_version=IR_VERSION, producer_name="physgen"
    )


def needed(calls: Sequence[Call], end: Value) -> list[Call]:
    """The calls that the result comes of."""
    wanted, found = {end.number}, []
    for call in reversed(calls):
        if wanted & {r.number for r in call.results if r is not None}:
            wanted |= {v.number for v in values_in((call.args, call.kwargs))}
            found.append(call)
    return found[::-1]


def values_in(arguments: Any) -> list[Value]:
    """The values among arguments."""
    if isinstance(arguments, Value):
        return [arguments]
    if isinstance(arguments, dict):
        arguments = list(arguments.values())
    some = arguments if isinstance(arguments, tuple | list) else ()
    return [value for argument in some for value in values_in(argument)]


def typed(name: str, value: Operand, about: Mapping[str, str]) -> onnx.ValueInfoProto:
    """An input or an output, its first axis the batch."""
    shape = ["n" if isinstance(n, BatchSize) else n for n in value.shape]
    text = about.get(name, "")
    return helper.make_tensor_value_info(name, onnx_type(value.dtype), shape, doc_string=text)

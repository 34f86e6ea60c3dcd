"""A surrogate as an ONNX graph that draws x, for any runtime of ONNX and without torch.

    x = f(θ, normal, uniform)

θ (n, D) is in its units and x (n, *x_shape) in those of the data: the maps of both are part of the
graph. The random numbers are inputs, so that a runtime needs none of its own: standard normal ones
and uniform ones in [0, 1), a row of each for each row of θ. With the same numbers torch draws the
same x (`draw_with`), which is what `checked` looks at.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import physgen
from physgen.errors import UsageError
from physgen.nn.coordinate_table import tabulated
from physgen.nn.given_noise import GivenNoise, NoiseLaw
from physgen.nn.onnx_graph import graph_of
from physgen.nn.recorded import BatchSize, Value, recorded
from physgen.nn.tensors import digest
from physgen.surrogates.base import Likelihood, Noise, Surrogate
from simulators.base import Array

__all__ = [
    "NOTHING",
    "WORDS",
    "GraphAgreement",
    "checked",
    "draw_with",
    "log_prob_model",
    "log_prob_off",
    "model_of",
    "noise_columns",
    "on_cpu",
    "onnx_model",
    "operations",
]

Given = Mapping[NoiseLaw, Tensor]
WORDS: dict[NoiseLaw, str] = {
    "normal": "standard normal numbers",
    "uniform": "uniform numbers in [0, 1)",
}
BATCHES, FEW, SAME = (1, 7, 192), 3, 1e-3
"""Rows that are compared, how many may draw another x, and by how much the same x may be off, in
units of its spread. A uniform number that lies within rounding of a probability decides for
either side: for one row in thousands."""


def on_cpu(surrogate: Any) -> Surrogate:
    """A surrogate where its graph is made: itself, or a copy of one elsewhere.

    Raises:
        UsageError: something else.
    """
    if not isinstance(surrogate, Surrogate):
        what = type(surrogate).__name__.lower()
        raise UsageError(f"onnx: expected a surrogate, as fit makes it, got a {what}")
    return surrogate if surrogate.device.type == "cpu" else copy.deepcopy(surrogate).cpu()


@torch.no_grad()
def draw_with(
    surrogate: Surrogate,
    theta: Tensor,
    noise: Given,
    coordinates: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """x of given random numbers, as the graph has them, (n, *x_shape).

    Args:
        surrogate: what draws, on the CPU.
        theta: (n, D) in their units.
        noise: law → numbers (n, columns).
        coordinates: the map of θ; the surrogate's own if None.
    """
    with GivenNoise(lambda law, start, end: noise[law][:, start:end]):
        return drawn_batch(surrogate, theta, coordinates)


def drawn_batch(
    surrogate: Surrogate, theta: Tensor, coordinates: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """As `Surrogate.sample`, of one batch (n, D), (n, *x_shape)."""
    c = (coordinates or surrogate.rescale)(theta)
    z = surrogate._sample(c, torch.Generator())
    return surrogate.transform.read_out(surrogate.transform.inverse(z))


@torch.no_grad()
def noise_columns(surrogate: Surrogate) -> dict[NoiseLaw, int]:
    """How many random numbers of each law a row takes.

    Raises:
        UsageError: a surrogate that draws others.
    """
    rng = np.random.default_rng(0)

    def deal(law: NoiseLaw, start: int, end: int) -> Tensor:
        return noise_rows(law, 2, end - start, rng)

    with GivenNoise(deal) as noise, said_of_graph(surrogate):
        drawn_batch(surrogate, torch.from_numpy(surrogate.law.prior.sample(2, rng)))
    return {law: count for law, count in noise.taken.items() if count}


def operations(surrogate: Surrogate, x: Array | None = None) -> int:
    """How many floating-point operations products of matrices take for a row.

    Args:
        surrogate: on the CPU.
        x: (1, *x_shape) whose log p is computed, as for posteriors; None for a row that is drawn.
    """
    still = copy.deepcopy(surrogate if x is None else surrogate.for_posteriors())
    still.requires_grad_(False)
    theta = still.law.prior.median[None]
    with FlopCounterMode(display=False) as counter:
        if x is None:
            still.sample(theta, 0)
        else:
            still.log_prob(theta, x, draws=still.posterior_draws)
    return int(counter.get_total_flops())


@contextmanager
def said_of_graph(surrogate: Surrogate) -> Iterator[None]:
    """Say of what there is no graph, and what to try."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"onnx: {surrogate.name}: {error}{hint(surrogate)}") from error


def noise_rows(law: NoiseLaw, rows: int, columns: int, rng: np.random.Generator) -> Tensor:
    """Random numbers of a law, (rows, columns) float32."""
    draw = rng.standard_normal if law == "normal" else rng.random
    return torch.from_numpy(draw((rows, columns), dtype=np.float32))


def onnx_model(surrogate: Surrogate, columns: Mapping[NoiseLaw, int]) -> ModelProto:
    """The graph of a surrogate, with what is to be known of it.

    Args:
        surrogate: on the CPU.
        columns: its `noise_columns`.

    Raises:
        UsageError: a surrogate that no graph of fixed length can draw from.
    """
    coordinates = mapped_in_torch(surrogate)

    def draw(theta: Tensor, *noise: Tensor) -> Tensor:
        return draw_with(surrogate, theta, dict(zip(columns, noise, strict=True)), coordinates)

    with said_of_graph(surrogate):
        model = model_of(
            draw, lambda n: inputs_of(surrogate, columns, n), "x", said_of_inputs(surrogate)
        )
    model.doc_string = f"x of {surrogate.law.simulator} given theta, drawn by {surrogate.name}"
    for name, value in facts_of(surrogate, columns).items():
        model.metadata_props.add(
            key=name, value=value if isinstance(value, str) else json.dumps(value)
        )
    return model


def model_of(
    function: Callable[..., Tensor],
    inputs: Callable[[int], Mapping[str, Tensor]],
    output: str,
    about: Mapping[str, str],
) -> ModelProto:
    """The graph of a function of tensors (n, …), the same for each number of rows.

    Args:
        function: of the inputs in their order.
        inputs: n → its inputs by their names, of other numbers for each n.
        output: name of the result.
        about: name → what is to be said of it.

    Raises:
        UsageError: a function that cannot be written down.
    """
    n = BatchSize(1)
    named = {
        name: Value(tensor.dtype, (n, *tensor.shape[1:]), number)
        for number, (name, tensor) in enumerate(inputs(1).items())
    }
    calls, end = recorded(function, lambda rows: list(inputs(rows).values()))
    return graph_of(calls, end, named, output, about)


def mapped_in_torch(surrogate: Surrogate) -> Callable[[Tensor], Tensor] | None:
    """The map of θ (n, D) without scipy, (n, D); None where the surrogate's own is."""
    prior = surrogate.rescale.prior
    with said_of_graph(surrogate):
        return None if prior.uniform else tabulated(prior)


def log_prob_model(surrogate: Surrogate) -> ModelProto:
    """The graph of log p(x|θ) of given θ and x, in nats, (n,), as posteriors take it.

    Its random draws, where it takes any, are part of the graph: those of seed 0 and of the x of
    index 0, the same for all rows.

    Args:
        surrogate: on the CPU.

    Raises:
        UsageError: a surrogate without one, or that no graph of fixed length can score.
    """
    if surrogate.likelihood is Likelihood.NONE:
        raise UsageError(f"{surrogate.name} has no log p(x|theta)")
    if surrogate.symmetrise:
        raise UsageError(f"log p(x|theta) of {surrogate.name} is averaged over images of x")
    score, inputs = scored(surrogate.for_posteriors())
    score(*inputs(1).values())  # what it computes once is a constant
    try:
        return model_of(score, inputs, "log_prob", {})
    except UsageError as error:
        raise UsageError(f"log p(x|theta) of {surrogate.name} {error}") from error


def scored(
    surrogate: Surrogate,
) -> tuple[Callable[[Tensor, Tensor], Tensor], Callable[[int], dict[str, Tensor]]]:
    """log p (n,) of θ (n, D) and x (n, *x_shape) as its graph has it, and n → some of both."""
    scale = mapped_in_torch(surrogate) or surrogate.rescale

    def score(theta: Tensor, x: Tensor) -> Tensor:
        noise = Noise(torch.zeros(len(x), dtype=torch.int64))
        return surrogate._scored_at(scale(theta), x, noise, surrogate.posterior_draws)[0]

    def inputs(rows: int) -> dict[str, Tensor]:
        given = inputs_of(surrogate, {}, rows)
        x = surrogate.sample(given["theta"], rows)
        if surrogate.law.missing:
            x.flatten(1)[0, 0] = torch.nan
        return given | {"x": x}

    return score, inputs


@torch.no_grad()
def log_prob_off(model: ModelProto, surrogate: Surrogate) -> float:
    """By how many nats log p of a graph differs from torch's, at most.

    It is run by the reference of ONNX, since onnxruntime lacks operators in float64.

    Args:
        model: as of `log_prob_model`.
        surrogate: what it is of.
    """
    score, inputs = scored(surrogate.for_posteriors())
    given = inputs(BATCHES[1])
    feed = {name: value.numpy() for name, value in given.items()}
    (found,) = ReferenceEvaluator(model, new_ops=[GatherElements]).run(None, feed)
    return float(abs(found - score(*given.values()).numpy()).max())


class GatherElements(OpRun):
    """Numbers along an axis: the reference's own can take them from fewer than 64 places only."""

    def _run(self, data: Array, indices: Array, axis: int) -> tuple[Array]:
        return (np.take_along_axis(data, indices, axis),)


def inputs_of(
    surrogate: Surrogate, columns: Mapping[NoiseLaw, int], rows: int
) -> dict[str, Tensor]:
    """θ (n, D) of the prior and random numbers (n, columns), a function of the number n."""
    rng = np.random.default_rng(rows)
    given = {"theta": torch.from_numpy(surrogate.law.prior.sample(rows, rng))}
    return given | {law: noise_rows(law, rows, many, rng) for law, many in columns.items()}


def hint(surrogate: Surrogate) -> str:
    """What to try, where a sampler takes as many steps as it finds that it needs."""
    options = surrogate.inference_options
    if "steps" in options and not surrogate.config.steps:
        return "; give --steps, of which a graph needs a fixed number"
    return "; choose another sampler" if "sampler" in options else ""


def said_of_inputs(surrogate: Surrogate) -> dict[str, str]:
    """What is said of each input and of x."""
    prior, law = surrogate.rescale.prior, surrogate.law
    units = [f"{p.name} [{p.unit}]" if p.unit else p.name for p in prior.parameters]
    return WORDS | {"theta": ", ".join(units), "x": f"{law.support} {law.x_shape}"}


def facts_of(surrogate: Surrogate, columns: Mapping[NoiseLaw, int]) -> dict[str, Any]:
    """Metadata of the model: text, or JSON data."""
    law, prior = surrogate.law, surrogate.rescale.prior
    return {
        "physgen": physgen.__version__,
        "family": surrogate.name,
        "options": asdict(surrogate.config),
        "parameters": prior.names,
        "units": [p.unit for p in prior.parameters],
        "noise": {name: {"law": WORDS[name], "columns": n} for name, n in columns.items()},
        "law": law.to_json(),
        "weights_sha256": digest(dict(surrogate.state_dict()), ""),
    }


@dataclass(frozen=True)
class GraphAgreement:
    """How x of a graph compares with x of torch, of the same θ and random numbers.

    Attributes:
        rows: that were compared.
        others: of these, that are another x.
        largest: difference among the rest, in units of the spread of x.
    """

    rows: int
    others: int
    largest: float


def checked(data: bytes, surrogate: Surrogate, columns: Mapping[NoiseLaw, int]) -> GraphAgreement:
    """Run a graph in onnxruntime beside torch.

    Args:
        data: the model as it is to be written.
        surrogate: what it is of.
        columns: its `noise_columns`.

    Raises:
        UsageError: it does not run there, or draws another x.
    """
    try:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        pairs = []
        for rows in BATCHES:
            given = inputs_of(surrogate, columns, rows)
            feed = {name: value.numpy() for name, value in given.items()}
            noise: Any = {law: given[law] for law in columns}
            found = session.run(["x"], feed)[0]
            pairs.append((draw_with(surrogate, given["theta"], noise).numpy(), found))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"onnx: onnxruntime cannot run it: {reason}; {NOTHING}") from error
    found = compared(*(np.concatenate(side) for side in zip(*pairs, strict=True)))
    if found.others > FEW:
        raise UsageError(
            f"onnx: of {found.rows} rows {found.others} are others in onnxruntime than in torch; "
            f"{NOTHING}"
        )
    return found


NOTHING = "nothing was written"


def compared(ours: Array, theirs: Array) -> GraphAgreement:
    """x of torch and of a graph, (n, *x_shape) each.

    Raises:
        UsageError: another shape or type.
    """
    if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
        raise UsageError(
            f"onnx: expected x of {ours.dtype} {ours.shape}, got {theirs.dtype} {theirs.shape}; "
            f"{NOTHING}"
        )
    n = len(ours)
    ours, theirs = (x.reshape(n, -1).astype(np.float64) for x in (ours, theirs))
    size = ours.std(0) + abs(ours)
    off = np.where(ours == theirs, 0, abs(ours - theirs) / np.where(size > 0, size, 1)).max(1)
    same = off < SAME
    return GraphAgreement(n, int((~same).sum()), float(off[same].max(initial=0)))

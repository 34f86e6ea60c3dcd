"""What a page of a surrogate holds: graphs, exact curves, scales and observations."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from physgen.errors import UsageError
from physgen.nn.onnx_data import graph_data
from physgen.nn.recorded_numpy import torch_of_numpy
from physgen.posterior.density import GridPosterior
from physgen.posterior.grid import grid_posterior, of_exact
from physgen.reporting.page import letter
from physgen.runtime.kinds import as_json_data
from physgen.surrogates import graph
from simulators.base import Array, LogProb, Observable, labels

if TYPE_CHECKING:
    from physgen.posterior.inferred import InferredPosterior
    from physgen.surrogates.base import Surrogate
    from simulators.prior import Prior

__all__ = ["explored_page"]

STOPS = 241
"""Places of a slider, equally far apart in the prior's own coordinate."""
EVERY = {1: 2, 2: 8, 3: 20}
"""Of D parameters: so many stops lie between nodes of exact curves, which of more are graphs."""
GRID_NODES, GRID_LEAST, GRID_ROWS = (25, 81), 3, (4, 16)
"""Of a precomputed grid: nodes in all, about, of a parameter at least, and rows at each; fewer
nodes and rows where all of them would take more than so many floating-point operations:"""
GRID_OPERATIONS = 3e11
MOST_PARAMETERS = 6
"""Of a precomputed grid: with more, three nodes each are too many."""
MOST_OPERATIONS, MOST_NODES, MOST_BYTES = 5e7, 20_000, 12e6
"""Of a graph that a browser runs while a slider moves: floating-point operations of a row, nodes,
and bytes."""
MOST_EXACT = 2
"""Parameters up to which posteriors of the exact log p are cheap."""
LEVELS, GRID_BYTES = 255, 4e6
FINE_BINS, COARSE_BINS = 2, 8
"""Stops from one bin's edge of a posterior to the next: known on a grid, and by draws."""
SCALE_ROWS = (64, 256)
"""Rows of the prior that tell over what ranges x and its observables are shown, likewise."""


def explored_page(
    surrogate: Surrogate,
    observables: Mapping[str, Observable],
    rows: int,
    seed: int,
    grid: bool,
    observed: tuple[Array, InferredPosterior | None, LogProb | None] | None,
    progress: Callable[..., None],
) -> dict[str, Any]:
    """All that the page shows, as JSON data.

    Args:
        surrogate: on the CPU.
        observables: of x, by name.
        rows: how many x it draws.
        seed: of what is drawn beforehand.
        grid: whether x is to be drawn beforehand, though it could be drawn live.
        observed: x (n, *x_shape), their posteriors, and the exact log p(x|θ), if these are known.
        progress: called with what comes next, and the part of it that is done.

    Raises:
        UsageError: a surrogate of which no x can be had, neither live nor on a grid.
    """
    law, prior = surrogate.law, surrogate.law.prior
    rng = np.random.default_rng(seed)
    stops = np.linspace(-1, 1, STOPS)[:, None] * abs(prior.to_coordinates(prior.bulk))[1]
    progress("scales")
    operations = graph.operations(surrogate)
    affordable = GRID_OPERATIONS / max(operations, 1)
    theta = prior.sample(int(np.clip(affordable, *SCALE_ROWS)), rng)
    x = surrogate.sample(theta, seed).numpy()
    measured = {name: np.asarray(o(x), float) for name, o in observables.items()}
    found: dict[str, Any] = {
        "parameters": parameters_of(prior, stops),
        "x": {
            "shape": law.x_shape,
            "axes": law.geometry,
            "support": law.support,
            "integer": law.discrete,
            "kind": str(x.dtype),
            **scale_of(x, law.support),
        },
        "rows": rows,
        "notes": [],
    }
    progress("graphs")
    notes = found["notes"]
    graphs = {} if grid else live_graphs(surrogate, observables, x, operations, notes)
    if "x" not in graphs:
        log = found["x"]["log"]
        found["grid"] = grid_of(surrogate, observables, stops, log, seed, affordable, progress)
    progress("exact curves")
    many = len(prior) not in EVERY
    found["graphs"] = graphs | (exact_graphs(observables, theta) if many else {})
    found["observables"] = [
        {
            "name": name,
            **labels(o),
            **shown_range(measured[name]),
            "exact": exact_of(o, prior, stops),
        }
        for name, o in observables.items()
        if "grid" in found or f"observable {name}" in graphs
    ]
    if observed:
        found["observed"] = observed_of(*observed, observables, prior, stops)
    return as_json_data(found)


def parameters_of(prior: Prior, stops: Array) -> list[dict[str, Any]]:
    """Name, unit and the values (STOPS, D) at which each slider may stand."""
    theta, density = prior.from_coordinates(stops), np.where(prior.flat, 0, -0.5 * stops**2)
    return [
        {
            "name": p.name,
            "letter": letter(p.name, p.latex),
            "unit": p.unit,
            "values": theta[:, d].tolist(),
            "log_prior": density[:, d].tolist(),
        }
        for d, p in enumerate(prior.parameters)
    ]


def scale_of(x: Array, support: str) -> dict[str, Any]:
    """Between which values x (n, *x_shape) are shown, and from which on in logarithms."""
    x = x.astype(float)
    low, high = np.nanquantile(x, [0.002, 0.998])
    if support == "nonnegative" and (x > 0).any():
        return {"low": 0.0, "high": high, "log": np.quantile(x[x > 0], 0.05)}
    return {"low": low, "high": high if high > low else low + 1, "log": 0}


def shown_range(values: Array) -> dict[str, Any]:
    """Between which values an observable (n,) or (n, k) is shown, and its length k."""
    low, high = np.nanquantile(values, [0.005, 0.995])
    wide = (high - low or 1.0) * 0.05
    return {"low": low - wide, "high": high + wide, "length": values[0].size}


def exact_of(observable: Observable, prior: Prior, stops: Array) -> dict[str, Any] | None:
    """Its exact expectation on a grid of some of the stops (STOPS, D); None where unknown."""
    if observable.exact is None or (step := EVERY.get(len(prior))) is None:
        return None
    nodes = prior.from_coordinates(stops[::step])
    theta = np.array(list(product(*nodes.T)))
    values = np.asarray(observable.exact(theta), float)
    if not np.isfinite(values).all():
        return None
    return {"step": step, "nodes": len(nodes), "values": six_digits(values.ravel())}


def six_digits(values: Array) -> list[float]:
    """Numbers (n,) to six digits, as text needs them."""
    return [float(f"{v:.6g}") for v in values]


def live_graphs(
    surrogate: Surrogate,
    observables: Mapping[str, Observable],
    x: Array,
    operations: int,
    notes: list[str],
) -> dict[str, Any]:
    """Graphs of x (n, *x_shape), of its observables and of log p; why there is none, in notes."""
    try:
        columns = graph.noise_columns(surrogate)
        require_live(surrogate, f"{operations / 1e6:,.0f} million operations a row",
                     operations > MOST_OPERATIONS)  # fmt: skip
        model = graph.onnx_model(surrogate, columns)
        nodes, size = len(model.graph.node), model.ByteSize()
        require_live(surrogate, f"{nodes:,} operators, {size / 1e6:.2g} MB",
                     nodes > MOST_NODES or size > MOST_BYTES)  # fmt: skip
        graph.checked(model.SerializeToString(), surrogate, columns)
    except UsageError as error:
        said = str(error).removesuffix(f"; {graph.NOTHING}")
        notes.append(f"x is not drawn live: {said}")
        return {}
    found = {"x": graph_data(model) | {"noise": columns}}
    for name, observable in observables.items():
        try:
            found[f"observable {name}"] = graph_data(numpy_model(observable.function, "x", x))
        except UsageError as error:
            notes.append(f"{name} is not shown live: it {error}")
    try:
        found["log_prob"] = graph_data(graph.log_prob_model(surrogate, columns))
    except UsageError as error:
        notes.append(f"p(θ|x) is not computed live: {error}")
    return found


def require_live(surrogate: Surrogate, length: str, long: bool) -> None:
    """Refuse the graph of a surrogate that a browser cannot run while a slider moves.

    Raises:
        UsageError: it is too long.
    """
    if long:
        hint = "; --steps makes it shorter" if "steps" in surrogate.inference_options else ""
        raise UsageError(f"its graph is too long for a browser ({length}){hint}")


def exact_graphs(observables: Mapping[str, Observable], theta: Array) -> dict[str, Any]:
    """Graphs of exact expectations given θ (n, D), of those that have one."""
    found = {}
    for name, observable in observables.items():
        if observable.exact is not None:
            with suppress(UsageError):
                found[f"exact {name}"] = graph_data(numpy_model(observable.exact, "theta", theta))
    return found


def numpy_model(function: Callable[[Array], Array], name: str, values: Array) -> Any:
    """The graph of a function in numpy of an input (n, …), as some values of it are.

    Raises:
        UsageError: one that torch's numpy cannot compute.
    """
    function(values[:1])  # what it computes once is a constant

    def inputs(rows: int) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(values[rows : 2 * rows].copy())}

    traced = torch_of_numpy(function, lambda rows: tuple(inputs(rows).values()))
    return graph.model_of(traced, inputs, "value", {})


def grid_of(
    surrogate: Surrogate,
    observables: Mapping[str, Observable],
    stops: Array,
    log: float,
    seed: int,
    affordable: float,
    progress: Callable[..., None],
) -> dict[str, Any]:
    """x and its observables at some of the stops (STOPS, D), drawn from the same seed at each.

    x is told in 256 steps, of its logarithm where it is shown so (log > 0). There are as many as
    are affordable, within bounds.

    Raises:
        UsageError: too many parameters.
    """
    prior, many = surrogate.law.prior, len(surrogate.law.prior)
    if many > MOST_PARAMETERS:
        raise UsageError(
            f"explore: x of {surrogate.name} cannot be drawn live, and a grid of {many} "
            f"parameters is too large; expected at most {MOST_PARAMETERS}"
        )
    most = np.clip(affordable / GRID_ROWS[1], *GRID_NODES)
    each = max(GRID_LEAST, int(most ** (1 / many) + 1e-9))
    places = np.rint(np.linspace(0, STOPS - 1, each)).astype(int)
    nodes = prior.from_coordinates(stops[places])
    rows = np.clip(affordable // each**many, *GRID_ROWS)
    rows = int(np.clip(GRID_BYTES // (each**many * surrogate.law.size), 1, rows))
    drawn = []
    for i, theta in enumerate(product(*nodes.T)):
        progress("grid of theta", i / each**many)
        drawn.append(surrogate.sample(np.tile(theta, (rows, 1)), seed).numpy())
    x = np.stack(drawn).astype(float)
    if log:
        x = np.log1p(x / log)
    low, high = x.min(), x.max()
    whole = surrogate.law.discrete and high - low <= LEVELS
    step = 1.0 if whole else (high - low) / LEVELS or 1.0
    levels = np.rint((x - low) / step).astype(np.uint8)
    return {
        "places": places,
        "rows": rows,
        "low": low,
        "step": step,
        "x": base64.b64encode(levels.tobytes()).decode(),
        "values": {
            name: [six_digits(np.asarray(o(one), float).ravel()) for one in drawn]
            for name, o in observables.items()
        },
    }


def observed_of(
    x: Array,
    posterior: InferredPosterior | None,
    exact: LogProb | None,
    observables: Mapping[str, Observable],
    prior: Prior,
    stops: Array,
) -> dict[str, Any]:
    """Observed x (n, *x_shape) in the order of an observable, and masses of their posteriors.

    Args:
        x: observed.
        posterior: of the surrogate, if it has any.
        exact: the exact log p(x|θ), if that is known.
        observables: of x; the first that is a number orders the rows.
        prior: of θ.
        stops: of the sliders, (STOPS, D).
    """
    values = {name: np.asarray(o(x), float) for name, o in observables.items()}
    name, first = next((v for v in values.items() if v[1].ndim == 1), ("row", np.arange(len(x))))
    order = np.argsort(first, kind="stable")
    found: dict[str, Any] = {
        "x": [six_digits(one.astype(float).ravel()) for one in x[order]],
        "labels": [f"row {i}" + (f", {name} {first[i]:.3g}" if values else "") for i in order],
    }
    if posterior is not None:
        found["masses"] = told_masses(masses_of(posterior, prior, stops)[order])
    if exact is not None and len(prior) <= MOST_EXACT:
        known = grid_posterior(of_exact(exact, x), prior, len(x))
        found["exact"] = told_masses(grid_masses(known, prior, stops)[order])
    return found


def masses_of(posterior: InferredPosterior, prior: Prior, stops: Array) -> Array:
    """How much mass of each marginal lies between some stops, (n, bins, D)."""
    if isinstance(posterior.posterior, GridPosterior):
        return grid_masses(posterior.posterior, prior, stops)
    edges, draws = stops[::COARSE_BINS], np.sort(prior.to_coordinates(posterior.theta), axis=1)
    below = [[np.searchsorted(*pair) for pair in zip(c.T, edges.T, strict=True)] for c in draws]
    return np.diff(np.swapaxes(below, 1, 2), axis=1) / draws.shape[1]


def grid_masses(posterior: GridPosterior, prior: Prior, stops: Array) -> Array:
    """The same of posteriors on grids, (n, bins, D)."""
    theta = prior.from_coordinates(stops[::FINE_BINS])
    return np.diff(posterior.cdf(np.tile(theta, (len(posterior), 1, 1))), axis=1)


def told_masses(masses: Array) -> list[list[list[float]]]:
    """Masses (n, bins, D) as numbers of each row and each parameter."""
    return [[six_digits(column) for column in row.T] for row in masses]

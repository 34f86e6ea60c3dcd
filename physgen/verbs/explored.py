"""What a page of a surrogate holds: graphs, exact curves, scales and observations."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from physgen.dataset import Rows
from physgen.errors import UsageError
from physgen.nn.onnx_data import Constants, deflated, graph_data
from physgen.nn.recorded_numpy import torch_of_numpy
from physgen.posterior.density import GridPosterior
from physgen.posterior.grid import grid_posterior, of_exact
from physgen.reporting.page import letter
from physgen.runtime.kinds import as_json_data
from physgen.surrogates import graph
from physgen.surrogates.base import Likelihood
from physgen.verbs.infer import infer
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
POSTERIOR_NODES = {1: 98, 2: 1250}
"""Of D parameters: at how many θ the page computes log p whenever x changes; of more than two for
each parameter as of one."""
MOST_POSTERIOR = 4e9
"""Floating-point operations of all of these together."""
EVALUATIONS = {1: 60, 2: 900, 3: 4000}
"""Of log p that a posterior of D parameters takes, about; of more parameters:"""
MANY_EVALUATIONS = 100_000
MOST_OBSERVED = 24
"""Observations whose posteriors a page holds, at most."""
MOST_WEIGHTS = 200_000
"""Of a surrogate whose page tells them in 32 bits each, and not in 16."""
MOST_NATS = 0.05
"""By which log p of a graph may differ from torch's."""
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
    observed: Rows | None,
    exact: LogProb | None,
    progress: Callable[..., None],
) -> dict[str, Any]:
    """All that the page shows, as JSON data.

    Args:
        surrogate: on the CPU.
        observables: of x, by name.
        rows: how many x it draws.
        seed: of what is drawn beforehand.
        grid: whether x is to be drawn beforehand, though it could be drawn live.
        observed: rows whose posteriors are shown; some that the surrogate draws if None, where
            posteriors of any x are not found live.
        exact: the exact log p(x|θ), if that is known.
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
        "precision": precision_of(prior),
        "x": {
            "shape": law.x_shape,
            "axes": law.geometry,
            "support": law.support,
            "integer": law.discrete,
            "kind": str(x.dtype),
            "missing": law.missing,
            **scale_of(x, law.support),
        },
        "rows": rows,
        "notes": [],
    }
    progress("graphs")
    notes = found["notes"]
    models: dict[str, Any] = {}
    with noted("p(θ|x) is not computed live", notes):
        models["log_prob"] = log_prob_graph(surrogate, x)
        found["log_prob"] = about_log_prob(surrogate, theta)
    if not grid:
        models |= live_graphs(surrogate, observables, x, operations, notes)
    if "x" in models:
        found["noise"] = graph.noise_columns(surrogate)
    else:
        log = found["x"]["log"]
        found["grid"] = grid_of(surrogate, observables, stops, log, seed, affordable, progress)
    progress("exact curves")
    many = len(prior) not in EVERY
    models |= exact_graphs(observables, theta) if many else {}
    constants, graphs = told_graphs(surrogate, models, notes)
    found["graphs"] = deflated(json.dumps(graphs).encode())
    found["constants"] = constants.to_json()
    found["observables"] = [
        {
            "name": name,
            **labels(o),
            **shown_range(measured[name]),
            "exact": exact_of(o, prior, stops),
            "exact_graph": f"exact {name}" in models,
        }
        for name, o in observables.items()
        if "grid" in found or f"observable {name}" in models
    ]
    progress("posteriors")
    own = observed is None and "log_prob" not in models
    with noted("p(θ|x) is not shown of drawn x", notes):
        shown = own_rows(surrogate, rng, x, seed) if own else observed
        if shown is not None:
            known = surrogate.likelihood is not Likelihood.NONE
            posterior = infer(surrogate, shown, seed=seed) if known else None
            found["observed"] = observed_of(shown, posterior, exact, observables, prior, stops)
            found["observed"]["own"] = own
    return as_json_data(found)


def own_rows(surrogate: Surrogate, rng: np.random.Generator, x: Array, seed: int) -> Rows | None:
    """θ of the prior and an x that the surrogate draws at each, as many as can be afforded.

    Args:
        surrogate: on the CPU.
        rng: of θ.
        x: some that it has drawn, (n, *x_shape).
        seed: of the draws.

    Raises:
        UsageError: not one of them.
    """
    if surrogate.likelihood is Likelihood.NONE:
        return None
    law = surrogate.law
    each = graph.operations(surrogate, x[:1])
    each *= EVALUATIONS.get(len(law.prior), MANY_EVALUATIONS)
    many = min(int(GRID_OPERATIONS / max(each, 1)), MOST_OBSERVED)
    if not many:
        said = f"a posterior takes {each / 1e9:,.0f} thousand million operations"
        raise UsageError(f"{said}; --observation has those of a file computed all the same")
    theta = law.prior.sample(many, rng)
    return Rows(surrogate.sample(theta, seed + 1).numpy(), theta)


def parameters_of(prior: Prior, stops: Array) -> list[dict[str, Any]]:
    """Name, unit, and the values and coordinates (STOPS, D) at which each slider may stand."""
    theta = prior.from_coordinates(stops)
    return [
        {
            "name": p.name,
            "letter": letter(p.name, p.latex),
            "unit": p.unit,
            "values": theta[:, d].tolist(),
            "end": stops[-1, d],
        }
        for d, p in enumerate(prior.parameters)
    ]


def precision_of(prior: Prior) -> Array:
    """P (D, D) of the prior's density over coordinates c, exp(−cᵀPc/2): 0 along what is flat."""
    normal = ~prior.flat
    return np.linalg.inv(prior.matrix) * normal * normal[:, None]


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


def six_digits(values: Array) -> list[float | None]:
    """Numbers (n,) to six digits, as text needs them; None for what is missing."""
    return [None if np.isnan(v) else float(f"{v:.6g}") for v in values]


def live_graphs(
    surrogate: Surrogate,
    observables: Mapping[str, Observable],
    x: Array,
    operations: int,
    notes: list[str],
) -> dict[str, Any]:
    """Graphs of x (n, *x_shape) and of its observables; why there is none, in notes."""
    found: dict[str, Any] = {}
    with noted("x is not drawn live", notes):
        columns = graph.noise_columns(surrogate)
        hint = "; --steps makes it shorter" if "steps" in surrogate.inference_options else ""
        refuse_dear(operations, MOST_OPERATIONS, "operations a row", hint)
        model = graph.onnx_model(surrogate, columns)
        refuse_long(model, hint)
        graph.checked(model.SerializeToString(), surrogate, columns)
        found["x"] = model
    for name, observable in observables.items() if found else ():
        with noted(f"{name} is not shown live", notes):
            found[f"observable {name}"] = numpy_model(observable.function, "x", x)
    return found


def told_graphs(
    surrogate: Surrogate, models: Mapping[str, Any], notes: list[str]
) -> tuple[Constants, dict[str, Any]]:
    """The constants of all graphs, and the graphs, as data.

    Of a large surrogate matrices are told in 16 bits a number, if x and log p in a runtime of ONNX
    say that this leaves them as they are; how far, in notes.
    """
    large = sum(w.numel() for w in surrogate.parameters()) > MOST_WEIGHTS and "x" in models
    for rounds in (True, False) if large else (False,):
        constants = Constants(rounds)
        graphs = {name: graph_data(model, constants) for name, model in models.items()}
        if rounds:
            data = constants.rounded(models["x"]).SerializeToString()
            try:
                how = graph.checked(data, surrogate, graph.noise_columns(surrogate))
            except UsageError:
                continue
            off = f"by up to {how.largest:.1g} of their spread"
            if model := models.get("log_prob"):
                nats = graph.log_prob_off(constants.rounded(model), surrogate)
                if not nats < MOST_NATS:
                    continue
                off += f", and log p by up to {nats:.1g} nats"
            notes.append(f"weights are told in 16 bits each, which moves the numbers of x {off}")
        break
    return constants, graphs


def log_prob_graph(surrogate: Surrogate, x: Array) -> Any:
    """The graph of log p(x|θ) of a surrogate, of x as in (n, *x_shape).

    Raises:
        UsageError: there is none, it is too long for a browser, or not log p.
    """
    if surrogate.likelihood is Likelihood.NONE:
        raise UsageError(f"{surrogate.name} has no likelihood")
    many = len(surrogate.law.prior)
    theta = POSTERIOR_NODES.get(many, many * POSTERIOR_NODES[1])
    surrogate.log_prob(surrogate.law.prior.median[None], x[:1])  # once: what is kept of log Z
    needed = theta * graph.operations(surrogate, x[:1])
    refuse_dear(needed, MOST_POSTERIOR, f"operations for {theta:,} θ")
    model = graph.log_prob_model(surrogate)
    refuse_long(model)
    if not (off := graph.log_prob_off(model, surrogate)) < MOST_NATS:
        raise UsageError(f"its graph is off by {off:.2g} nats")
    return model


def about_log_prob(surrogate: Surrogate, theta: Array) -> dict[str, Any]:
    """What its log p is: its kind, draws, and the greatest error of log Z of θ (n, D), if any."""
    normaliser = surrogate.normaliser(torch.from_numpy(theta))
    return {
        "kind": surrogate.likelihood,
        "draws": surrogate.posterior_draws,
        "log_z_error": float(normaliser["stderr"].max()) if normaliser else 0.0,
    }


@contextmanager
def noted(what: str, notes: list[str]) -> Iterator[None]:
    """Add to the notes why something is not so."""
    try:
        yield
    except UsageError as error:
        notes.append(f"{what}: " + str(error).removesuffix(f"; {graph.NOTHING}"))


def refuse_dear(operations: float, most: float, what: str, hint: str = "") -> None:
    """Refuse what takes a browser too many floating-point operations.

    Raises:
        UsageError: it does.
    """
    if operations > most:
        millions = f"{operations / 1e6:,.0f} million"
        raise UsageError(f"its graph is too long for a browser ({millions} {what}){hint}")


def refuse_long(model: Any, hint: str = "") -> None:
    """Refuse a graph that a browser takes too long to read.

    Raises:
        UsageError: it does.
    """
    nodes, size = len(model.graph.node), model.ByteSize()
    if nodes > MOST_NODES or size > MOST_BYTES:
        long = f"{nodes:,} operators, {size / 1e6:.2g} MB"
        raise UsageError(f"its graph is too long for a browser ({long}){hint}")


def exact_graphs(observables: Mapping[str, Observable], theta: Array) -> dict[str, Any]:
    """Graphs of exact expectations given θ (n, D), of those that have one."""
    found = {}
    for name, observable in observables.items():
        if observable.exact is not None:
            with suppress(UsageError):
                found[f"exact {name}"] = numpy_model(observable.exact, "theta", theta)
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
    rows: Rows,
    posterior: InferredPosterior | None,
    exact: LogProb | None,
    observables: Mapping[str, Observable],
    prior: Prior,
    stops: Array,
) -> dict[str, Any]:
    """Observed x in the order of an observable, and masses of their posteriors.

    Args:
        rows: x (n, *x_shape), observed.
        posterior: of the surrogate, if it has any.
        exact: the exact log p(x|θ), if that is known.
        observables: of x; the first that is a number orders the rows.
        prior: of θ.
        stops: of the sliders, (STOPS, D).
    """
    x = rows.x
    values = {name: np.asarray(o(x), float) for name, o in observables.items()}
    name, first = next((v for v in values.items() if v[1].ndim == 1), ("row", np.arange(len(x))))
    order = np.argsort(first, kind="stable")
    told = [f", {name} {v:.3g}" if values and np.isfinite(v) else "" for v in first]
    found: dict[str, Any] = {
        "x": [six_digits(one.astype(float).ravel()) for one in x[order]],
        "labels": [f"row {i}{told[i]}" for i in order],
    }
    if posterior is not None:
        found["masses"] = told_masses(masses_of(posterior, prior, stops)[order])
    theirs = rows.meta.law.prior if rows.meta else prior
    if rows.theta is not None and theirs.names == prior.names:
        c = prior.to_coordinates(rows.theta[order]) / stops[-1]
        found["places"] = [six_digits((STOPS - 1) * (row + 1) / 2) for row in c]
    if exact is not None and len(prior) <= MOST_EXACT and np.isfinite(x).all():
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


def told_masses(masses: Array) -> list[list[list[float | None]]]:
    """Masses (n, bins, D) as numbers of each row and each parameter."""
    return [[six_digits(column) for column in row.T] for row in masses]

"""What was observed, and what a posterior predicts of it, for the posterior's page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from physgen import dataset
from physgen.checks.posterior_predictive import posterior_predictive
from physgen.checks.two_sample.features import physics_of
from physgen.dataset import Dataset
from physgen.errors import DataError, PhysgenError, UsageError
from physgen.law import Law
from physgen.reporting.view import OBSERVATIONS, some_observations
from physgen.runtime.progress import bar
from physgen.verbs.arguments import (
    DataLike,
    ObservedLike,
    PosteriorLike,
    SimulatorLike,
    SurrogateLike,
)
from physgen.verbs.draws import PosteriorDraws, open_draws
from physgen.verbs.observed import file_and_name, open_observed
from physgen.verbs.opening import name_of_simulator, open_surrogate
from simulators.base import Array

__all__ = ["with_data"]

MOST, DRAWS, EXAMPLES = 10_000, 200, 3
"""Predicted rows that are looked at, at most; that are drawn here; that are shown as such."""
Draw = Callable[[Array, int], Array]
"""x (k, *x_shape) at θ (k, D), from a seed."""


def with_data(
    found: Mapping[str, Any],
    posterior: PosteriorLike,
    observed: ObservedLike | None,
    predictive: DataLike | SurrogateLike | None,
    simulator: SimulatorLike | None,
) -> dict[str, Any]:
    """A posterior with what it was inferred from, and with what it predicts of that.

    Args:
        found: the posterior, as a page shows it.
        posterior: the same, as it was given.
        observed: what it was inferred from, if not in its file.
        predictive: x at draws of it given one row, which alone is shown then; or a surrogate, or
            the word simulator, which draw x here; None for no prediction.
        simulator: of observables, outside the registry.

    Returns:
        The same with the first rows under "seen" (m, *x_shape), or why there are none under
        "unseen", and a list of what is predicted of them under "predictions".

    Raises:
        DataError: x that are not of the law, or observations that are others.
        UsageError: x that were drawn at other θ, or something that cannot draw them.
    """
    trusted, law = name_of_simulator(simulator), Law.from_json(found["law"])
    if predictive is None:
        return with_observations(found, observed)
    draws = open_draws(posterior)
    if drawer := drawer_of(law, draws, predictive, trusted):
        found, (by, draw) = with_observations(found, observed), drawer
        columns, parts = (found.get("observed") or {}).get("columns") or [], []
        thetas = found["arrays"]["theta"][:OBSERVATIONS]
        with bar(len(thetas), f"predict by {by}") as move:
            for i, theta in enumerate(thetas):
                some = np.linspace(0, len(theta) - 1, min(DRAWS, len(theta))).round().astype(int)
                parts.append(prediction(found, i, draw(theta[some], i), law, trusted, columns))
                move(i + 1)
    else:
        data = Dataset(cast("DataLike", predictive))
        row = row_of(data, draws.origin)
        i = row - found.get("first_row", 0)
        shown = found if found.get("iid") else some_observations(found, slice(i, i + 1))
        found = with_observations({**shown, "first_row": row}, observed)
        by = (data.meta.source if data.meta else {}).get("name", "someone")
        x = data.read(slice(0, MOST)).x
        parts = [prediction(found, 0, x, data.law, trusted, data.columns)]
    return {**found, "predictions": [part | {"by": by} for part in parts]}


def with_observations(found: Mapping[str, Any], observed: ObservedLike | None) -> dict[str, Any]:
    """A posterior with the first rows that it was inferred from, or why not."""
    try:
        return {**found, "seen": observed_rows(found, observed)}
    except PhysgenError as error:
        if observed is not None:
            raise
        return {**found, "unseen": str(error)}


def observed_rows(found: Mapping[str, Any], observed: ObservedLike | None) -> Array:
    """What a posterior was inferred from, (m, *x_shape): first rows, or all taken for one.

    Raises:
        DataError: a file that was changed since.
        UsageError: no file is known.
    """
    known, law = found.get("observed") or {}, Law.from_json(found["law"])
    if observed is None:
        if not known.get("path"):
            raise UsageError("the posterior does not know its file; give it with --observed")
        observed = Path(known["path"])
        if not file_and_name(observed)[0].is_file():
            raise UsageError(f"{observed}: no such file; give it with --observed")
    data = open_observed(observed, law, known)
    if known.get("sha256") not in (None, data.digest):
        raise DataError(f"{data.name}: is not what the posterior was inferred from")
    first, count = found.get("first_row", 0), len(found["arrays"]["theta"])
    rows = (first, first + min(count, OBSERVATIONS))
    start, stop = (known.get("rows") or (0, len(data))) if found.get("iid") else rows
    x = data.read(slice(start, stop), whole=True).x
    if x.shape[1:] != law.x_shape:
        raise UsageError(f"{data.name}: expected x of shape {law.x_shape}, got {x.shape[1:]}")
    return x


def prediction(
    found: Mapping[str, Any],
    i: int,
    x: Array,
    law: Law,
    trusted: str | None,
    columns: list[str],
) -> dict[str, Any]:
    """What x (k, *x_shape) at draws of the posterior of one of the rows say of it.

    Raises:
        UsageError: x of another shape.
    """
    if x.shape[1:] != (shape := tuple(found["law"]["x_shape"])):
        raise UsageError(
            f"predictive: expected x of shape {shape}, as was observed, got {x.shape[1:]}"
        )
    seen = found.get("seen")
    if seen is not None and not found.get("iid"):
        seen = seen[i : i + 1]
    measured = posterior_predictive(x, seen, physics_of(law, trusted, columns), law)
    return {**measured, "row": found.get("first_row", 0) + i, "examples": x[:EXAMPLES]}


def drawer_of(
    law: Law,
    draws: PosteriorDraws,
    predictive: DataLike | SurrogateLike,
    trusted: str | None,
) -> tuple[str, Draw] | None:
    """What draws x at θ, and its name; None of a dataset, which has them.

    Raises:
        UsageError: other parameters, or a simulator that may not be imported.
    """
    path = Path(predictive) if isinstance(predictive, str | Path) else None
    if path and path.name == "simulator" and not path.exists():
        if (built := law.build_if_known(trusted)) is None:
            raise UsageError(
                f"predictive: {law.simulator} is no simulator of ours; add --simulator "
                "package.module:Class, or give a surrogate"
            )
        return law.simulator, lambda theta, i: built.sample(theta, np.random.default_rng(i))
    if hasattr(predictive, "likelihood") or (path and dataset.container(path) != "HDF5"):
        model = open_surrogate(cast("SurrogateLike", predictive))
        ours, theirs = draws.law.prior.names, model.law.prior.names
        if ours != theirs:
            raise UsageError(
                f"predictive: expected a surrogate given {', '.join(ours)}, got one given "
                f"{', '.join(theirs)}"
            )
        return model.name, lambda theta, i: drawn_by(model, theta, i)
    return None


def drawn_by(model: Any, theta: Array, seed: int) -> Array:
    """x (k, *x_shape) of a surrogate at θ (k, D)."""
    import torch

    generator = torch.Generator(model.device).manual_seed(seed)
    return np.asarray(model.sample(torch.as_tensor(theta), generator).cpu().numpy())


def row_of(data: Dataset, posterior: Mapping[str, Any]) -> int:
    """The row of what was observed, at draws of whose posterior x were drawn.

    Args:
        data: x.
        posterior: its path and sha256.

    Raises:
        UsageError: x that were drawn at other θ, or at draws of several rows.
    """
    told = data.meta.source.get("theta") if data.meta else None
    about: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    drawn = about.get("posterior", {})
    if drawn.get("sha256") != posterior["sha256"] or about.get("widened", 1) != 1:
        raise UsageError(
            f"{data.name}: expected x at draws of {posterior['path'] or 'this posterior'}, its "
            f"theta follow {data.proposal or 'the prior'}; draw some with physgen sample "
            "--theta-from"
        )
    if (row := drawn.get("row")) is None:
        raise UsageError(
            f"{data.name}: is of several observations, mixed; draw it for one of them with --row"
        )
    return int(row)

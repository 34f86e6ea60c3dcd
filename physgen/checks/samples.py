"""Sections of a validation that look at drawn x: physical quantities, tests, pictures.

Drawn and true x stand at the same θ, row by row, so that their averages over any set of rows
differ by noise alone if the surrogate's law is right.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from scipy.stats import wasserstein_distance

from physgen.checks.exact.truth import bins, estimate
from physgen.checks.two_sample.samples import (
    c2st,
    common_edges,
    counts,
    js_distance,
    mmd,
    shuffle_components,
)
from physgen.surrogates.base import Surrogate
from simulators.base import Array, Box, Observable, Simulator
from simulators.base import observables as declared

__all__ = [
    "curves",
    "distribution",
    "draw",
    "drawn_by",
    "filters",
    "gallery",
    "labels",
    "latents",
    "observables",
    "scalars",
    "spread",
    "two_sample",
]

GALLERY, BINS, FILTERS = 8, 12, 16


def scalars(simulator: Simulator | None, x: Array) -> dict[str, Observable]:
    """The observables that are one number for each x."""
    every = declared(simulator) if simulator else {}
    return {name: o for name, o in every.items() if o(x[:1]).ndim == 1}


def observables(
    scalars: Mapping[str, Observable], x: Array, fake: Array, seed: int
) -> dict[str, Any]:
    """Distributions over all rows: distance, its null, and the histograms themselves."""
    rng = np.random.default_rng([seed, 3])
    return {
        name: labels(observable)
        | distribution(observable(x), observable(fake), rng, ("true", "surrogate"))
        for name, observable in scalars.items()
    }


def distribution(
    a: Array, b: Array, rng: np.random.Generator, names: tuple[str, str]
) -> dict[str, Any]:
    """Distances of two samples of a number, (n,) and (m,), and their histograms under `names`."""
    edges = common_edges(a)
    p, q = counts(a, edges), counts(b, edges)
    js = js_distance(p, q, rng)
    return {
        "js": js.value,
        "js_null": js.null,
        "wasserstein": wasserstein_distance(a, b),
        "histogram": {"edges": edges, names[0]: p, names[1]: q},
    }


def curves(
    scalars: Mapping[str, Observable], theta: Array, x: Array, fake: Array, prior: Box
) -> dict[str, Any]:
    """Means in bins of the first parameter, each at the mean θ of its rows."""
    first = prior.parameters[0]
    parts = [r for *_, r in bins(theta[:, 0], first.low, first.high, BINS)]
    section = {}
    for name, observable in scalars.items():
        exact = observable.exact(theta) if observable.exact else None
        section[name] = labels(observable) | {
            "parameter": first.name,
            "theta": [theta[r, 0].mean() for r in parts],
            "exact": None if exact is None else [exact[r].mean() for r in parts],
            "true": _means(observable(x), parts),
            "surrogate": _means(observable(fake), parts),
        }
    return section


def _means(values: Array, parts: list[Array]) -> dict[str, list[float]]:
    estimates = [estimate(values[rows]) for rows in parts]
    return {"mean": [e.value for e in estimates], "se": [e.se for e in estimates]}


def two_sample(
    scalars: Mapping[str, Observable], theta: Array, x: Array, fake: Array, seed: int
) -> dict[str, Any] | None:
    """Tests on x and its scalar observables; the classifier is told θ as well."""
    if len(x) < 10:
        return None
    rng, given = np.random.default_rng([seed, 4]), (theta, theta)

    def features(rows: Array) -> Array:
        return np.column_stack([rows.reshape(len(rows), -1), *(o(rows) for o in scalars.values())])

    true, drawn = features(x), features(fake)
    control = features(shuffle_components(x, rng))
    test, kernel = c2st(true, drawn, given=given, seed=seed), mmd(true, drawn, rng)
    caught = c2st(true, control, given=given, seed=seed, null=False)
    accuracy = {"accuracy": test.accuracy, "se": test.se, "null": test.null}
    return {
        "c2st": accuracy | {"control": caught.accuracy},
        "js": test.js._asdict() | {"control": caught.js.value},
        "mmd": kernel._asdict() | {"control": mmd(true, control, rng).value},
    }


def draw(surrogate: Surrogate, theta: Array, x: Array, seed: int) -> Array:
    """One x of the surrogate for each θ, of the type of x."""
    generator = torch.Generator(surrogate.device).manual_seed(seed)
    return surrogate.sample(torch.as_tensor(theta), generator).cpu().numpy().astype(x.dtype)


def drawn_by(
    ways: Iterable[tuple[str, int, Surrogate]],
    scalars: Mapping[str, Observable],
    theta: Array,
    x: Array,
    seed: int,
) -> list[dict[str, Any]]:
    """Distances of observables, and samples a CPU second, for each sampler and its evaluations."""
    table = []
    for name, evaluations, surrogate in ways:
        start = time.process_time()
        fake = draw(surrogate, theta, x, seed)
        rate = len(x) / max(time.process_time() - start, 1e-9)
        distances = {
            key: {k: o[k] for k in ("title", "js", "js_null")}
            for key, o in observables(scalars, x, fake, seed).items()
        }
        way = {"sampler": name, "evaluations": evaluations, "samples_per_cpu_s": rate}
        table.append(way | {"observables": distances})
    return table


def gallery(name: str, theta: Array, x: Array, fake: Array) -> dict[str, Any]:
    """True and drawn x at the same θ, spread over the range of its first column."""
    rows = spread(theta[:, 0], GALLERY)
    return {"parameter": name, "theta": theta[rows, 0], "true": x[rows], "surrogate": fake[rows]}


def latents(surrogate: Surrogate) -> list[dict[str, Any]]:
    """Rows of x along latents from −2 to 2, at the centre of the prior."""
    centre = (surrogate.law.prior.low + surrogate.law.prior.high) / 2
    theta = centre[0] if len(centre) == 1 else centre
    return [
        {"name": name, "theta": theta, "values": np.linspace(-2, 2, len(x)), "x": x.cpu().numpy()}
        for name, x in surrogate.latents(torch.as_tensor(centre[None]))
    ]


def filters(surrogate: Surrogate) -> Array | None:
    """The first of the surrogate's filters."""
    found = surrogate.filters()
    return None if found is None else found[:FILTERS].cpu().numpy()


def labels(observable: Observable) -> dict[str, Any]:
    """What an observable is called, for tables and axes."""
    return {"title": observable.title, "unit": observable.unit, "latex": observable.latex}


def spread(values: Array, count: int) -> Array:
    """Rows at equal steps of the ranks of their values."""
    order = np.argsort(values, kind="stable")
    return order[
        np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    ]

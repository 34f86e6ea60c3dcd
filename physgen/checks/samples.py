"""Sections of a validation that look at drawn x: physical quantities, tests, pictures.

Drawn and true x stand at the same θ, row by row, so that their averages over any set of rows
differ by noise alone if the surrogate's law is right. Where components of true x are missing, so
are those of the drawn x of the row, and observables see means in their place.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from physgen.checks.estimate import bins, estimate, evenly_ranked
from physgen.checks.two_sample.c2st import c2st
from physgen.checks.two_sample.features import each_component, observables_of, physics_of
from physgen.checks.two_sample.mmd import mmd
from physgen.checks.two_sample.permutations import shuffle_components
from physgen.checks.two_sample.separation import histogram_distances
from physgen.dataset.missing import column_means, imputed, masked_like, seeing_imputed
from physgen.law import Law
from physgen.reporting.view import SHORT_VECTOR
from physgen.surrogates.base import Surrogate
from simulators.base import Array, Observable, Simulator, labels
from simulators.base import observables as declared
from simulators.prior import Prior

__all__ = [
    "curves_section", "drawn_x", "filters_section", "gallery_section", "latents_section",
    "observables_section", "of_imputed", "scalars", "scalars_of_x", "sweep_section",
    "two_sample_section",
]  # fmt: skip

GALLERY, BINS, FILTERS = 8, 12, 16
SLICES, CHANNELS = 4, 4


def scalars(simulator: Simulator | None, x: Array) -> dict[str, Observable]:
    """The observables that are one number for each x (n, *x_shape)."""
    every = declared(simulator) if simulator else {}
    found = {name: o for name, o in every.items() if o(x[:1]).ndim == 1}
    return of_imputed(found, x)


def scalars_of_x(law: Law, x: Array, names: Sequence[str]) -> dict[str, Observable]:
    """What is looked at of x (n, *x_shape) where no number of it is declared.

    Args:
        law: of x.
        x: some of it.
        names: of its components, if they have any.
    """
    if len(law.x_shape) == 1 and law.size <= SHORT_VECTOR:
        return of_imputed(each_component(law.size, names), x)
    every = observables_of(physics_of(law, names=names), x[:1000], law)
    return of_imputed({k: o for k, o in every.items() if np.ndim(o(x[:1])) == 1}, x)


def of_imputed(observables: Mapping[str, Observable], x: Array) -> dict[str, Observable]:
    """Observables that see means in place of what is missing, if of x (n, *x_shape) anything is.

    They have no exact expectation.
    """
    if not (x.dtype.kind == "f" and np.isnan(x).any()):
        return dict(observables)
    means = column_means(x)
    return {
        name: replace(o, function=seeing_imputed(o.function, means), exact=None, given={})
        for name, o in observables.items()
    }


def observables_section(
    scalars: Mapping[str, Observable], x: Array, fake: Array, seed: int
) -> dict[str, Any]:
    """Distributions over all rows: distance, its null, and the histograms themselves.

    Args:
        scalars: name → a number of each x.
        x: true, (n, *x_shape).
        fake: drawn at the same θ, (n, *x_shape).
        seed: seed of the null.
    """
    rng = np.random.default_rng([seed, 3])
    return {
        name: labels(observable)
        | histogram_distances(observable(x), observable(fake), rng, ("true", "surrogate"))
        for name, observable in scalars.items()
    }


def curves_section(
    scalars: Mapping[str, Observable],
    theta: Array,
    x: Array,
    fake: Array,
    prior: Prior,
    parameters: int = 1,
) -> dict[str, Any]:
    """Means in bins of a parameter, each at the mean θ of its rows: of the first, or of several.

    Those against another than the first are called "observable, parameter".

    Args:
        scalars: name → a number of each x.
        theta: parameters of the rows, (n, D).
        x: true, (n, *x_shape).
        fake: drawn at the same θ, (n, *x_shape).
        prior: whose range of each parameter is binned.
        parameters: how many of the first ones.
    """
    section = {}
    for name, observable in scalars.items():
        exact = observable.exact(theta) if observable.exact else None
        true, drawn = observable(x), observable(fake)
        for d, against in enumerate(prior.names[:parameters]):
            low, high = prior.bulk[:, d]
            parts = [r for *_, r in bins(theta[:, d], low, high, BINS)]
            section[f"{name}, {against}" if d else name] = labels(observable) | {
                "parameter": against,
                "theta": [theta[r, d].mean() for r in parts],
                "exact": None if exact is None else [exact[r].mean() for r in parts],
                "true": _means(true, parts),
                "surrogate": _means(drawn, parts),
            }
    return section


def _means(values: Array, parts: list[Array]) -> dict[str, list[float]]:
    estimates = [estimate(values[rows]) for rows in parts]
    return {"mean": [e.value for e in estimates], "se": [e.se for e in estimates]}


def two_sample_section(
    scalars: Mapping[str, Observable], theta: Array, x: Array, fake: Array, seed: int
) -> dict[str, Any] | None:
    """Tests on x and its scalar observables; the classifier is told θ as well.

    Args:
        scalars: name → a number of each x.
        theta: parameters of the rows, (n, D).
        x: true, (n, *x_shape).
        fake: drawn at the same θ, (n, *x_shape).
        seed: seed of the tests.

    Returns:
        JSON data; None of fewer than ten rows.
    """
    if len(x) < 10:
        return None
    rng, given, means = np.random.default_rng([seed, 4]), (theta, theta), column_means(x)

    def features(rows: Array) -> Array:
        whole = imputed(rows, means).reshape(len(rows), -1)
        return np.column_stack([whole, *(o(rows) for o in scalars.values())])

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


def drawn_x(surrogate: Surrogate, theta: Array, x: Array, seed: int) -> Array:
    """One x of the surrogate for each θ (n, D), of the type and mask of x: (n, *x_shape)."""
    generator = torch.Generator(surrogate.device).manual_seed(seed)
    drawn = surrogate.sample(torch.as_tensor(theta), generator).cpu().numpy().astype(x.dtype)
    return masked_like(drawn, x)


def sweep_section(
    ways: Iterable[tuple[str, int, Surrogate]],
    scalars: Mapping[str, Observable],
    theta: Array,
    x: Array,
    seed: int,
) -> list[dict[str, Any]]:
    """Distances of observables, and samples a CPU second, for each sampler and its evaluations.

    Args:
        ways: name of the sampler, evaluations of its network, and the surrogate that draws so.
        scalars: name → a number of each x.
        theta: parameters of the rows, (n, D).
        x: true, (n, *x_shape).
        seed: seed of the draws.
    """
    table = []
    for name, evaluations, surrogate in ways:
        start = time.process_time()
        fake = drawn_x(surrogate, theta, x, seed)
        rate = len(x) / max(time.process_time() - start, 1e-9)
        distances = {
            key: {k: o[k] for k in ("title", "js", "js_null")}
            for key, o in observables_section(scalars, x, fake, seed).items()
        }
        way = {"sampler": name, "evaluations": evaluations, "samples_per_cpu_s": rate}
        table.append(way | {"observables": distances})
    return table


def gallery_section(law: Law, theta: Array, x: Array, fake: Array) -> dict[str, Any]:
    """True and drawn x at the same θ, spread over the range of its first column.

    Of two parameters the other one stands beside it.

    Args:
        law: for the names of the parameters, and the axes of x.
        theta: parameters of the rows, (n, D).
        x: true, (n, *x_shape).
        fake: drawn at the same θ, (n, *x_shape).
    """
    rows = evenly_ranked(theta[:, 0], GALLERY)
    true, drawn = (pictures_of(law, values[rows]) for values in (x, fake))
    name, *others = law.prior.names
    found = {"parameter": name, "theta": theta[rows, 0], "true": true, "surrogate": drawn}
    return found | ({"other": {others[0]: theta[rows, 1]}} if len(others) == 1 else {})


def pictures_of(law: Law, x: Array) -> Array:
    """Fields (n, *x_shape) as pictures (n, h, w): slices side by side, channels below.

    Of three axes of which nothing is known the first are channels if they are few, and else the
    middle one is summed over.
    """
    if not law.spatial and law.x_shape[0] > CHANNELS:
        return x.sum(2, dtype=float)
    channels, space = len(law.x_shape) - len(law.spatial), len(law.spatial) == 3
    x = x if channels else x[:, None]
    if space:
        places = np.linspace(0, x.shape[2] - 1, min(SLICES, x.shape[2])).round().astype(int)
        x = np.concatenate([x[:, :, i] for i in places], -1)
    return x[:, :CHANNELS].reshape(len(x), -1, x.shape[-1])


def latents_section(surrogate: Surrogate) -> list[dict[str, Any]]:
    """Rows of x along latents from −2 to 2, at the centre of the prior."""
    centre = surrogate.law.prior.median
    theta = centre[0] if len(centre) == 1 else centre
    return [
        {
            "name": name,
            "theta": theta,
            "values": np.linspace(-2, 2, len(x)),
            "x": pictures_of(surrogate.law, x.cpu().numpy()),
        }
        for name, x in surrogate.latents(torch.as_tensor(centre[None]))
    ]


def filters_section(surrogate: Surrogate) -> Array | None:
    """The first of the surrogate's filters, (k, rows, columns)."""
    found = surrogate.filters()
    return None if found is None else found[:FILTERS].cpu().numpy()

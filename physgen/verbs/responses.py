"""Datasets on a page: figures of many x at one θ, of one or several sizes, or one's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from physgen.checks.responses import crossing_of, least_shift, response_curves
from physgen.checks.two_sample.features import physics_of
from physgen.dataset import Dataset
from physgen.errors import UsageError
from physgen.law import Law
from physgen.reporting.quantities import free
from physgen.runtime.options import command_line
from simulators.base import Array, Responses, labels, responses

__all__ = ["datasets_of", "responses_of"]

BLOCK, DENSE = 4096, 300
"""Rows whose quantities are computed at once, and points of an exact curve."""
SHOWN = 1000
"""Rows, the first, of which some are shown as they are."""


def datasets_of(several: Sequence[Dataset], trusted: str | None = None) -> dict[str, Any]:
    """The figures of datasets, or the rows of a single one whose simulator declares none.

    Raises:
        UsageError: as for `responses_of`.
    """
    first = several[0]
    if len(several) == 1 and responses(physics_of(first.law, trusted, first.columns)) is None:
        return shown_rows(first)
    return responses_of(several, trusted)


def shown_rows(data: Dataset) -> dict[str, Any]:
    """Some rows of a dataset, and what is known of it."""
    rows = data.read(slice(0, SHOWN))
    theta, law = rows.labels(data.where), data.law.to_json()
    ends = zip(theta.min(0), theta.max(0), strict=True)
    parameters = [
        {**p, "least": low, "largest": high}
        for p, (low, high) in zip(free(law["prior"]), ends, strict=True)
    ]
    return {
        "schema": "physgen/data/1",
        "law": law,
        "rows": len(data),
        "shown": len(rows),
        "names": data.columns,
        "parameters": parameters,
        "arrays": {"theta": theta, "x": rows.x},
        "data": data.origin() | {"source": dict(data.meta.source) if data.meta else {}},
        "provenance": {"command": command_line("report", data.name)},
    }


def responses_of(several: Sequence[Dataset], trusted: str | None = None) -> dict[str, Any]:
    """Figures of the rows of several datasets, one entry each, beside the exact ones.

    Args:
        several: of one simulator, at any sizes, drawn by it or by surrogates of it.
        trusted: name of a simulator outside the registry that the caller vouches for.

    Raises:
        UsageError: datasets of several simulators, or of one that declares no such figures.
    """
    laws = [data.law for data in several]
    declared = [
        declared_responses(data, law, trusted) for data, law in zip(several, laws, strict=True)
    ]
    for data, law in zip(several, laws, strict=True):
        if (law.simulator, law.prior.names) != (laws[0].simulator, laws[0].prior.names):
            raise UsageError(
                f"{data.name}: is of {law.simulator} with θ {', '.join(law.prior.names)}, "
                f"{several[0].name} of {laws[0].simulator} with {', '.join(laws[0].prior.names)}; "
                "give each a page of its own"
            )
    sizes = [one_size(data, r) for data, r in zip(several, declared, strict=True)]
    tests = sum(a is not None for one in sizes for a in one["agreement"].values())
    for one, r in zip(sizes, declared, strict=True):
        one["least_shift"] = least_shift(one, r, tests)
    first = declared[0]
    order = sorted(range(len(sizes)), key=lambda i: (sizes[i]["size"], sizes[i]["kind"] != "true"))
    found = {
        "schema": "physgen/responses/1",
        "law": laws[0].to_json(),
        "coordinate": {"latex": first.latex, "unit": first.unit},
        "critical": first.critical,
        "crossing": first.crossing,
        "labels": {n: {**labels(f), "scaling": f.scaling} for n, f in first.figures.items()},
        "sizes": [sizes[i] for i in order],
        "exact": exact_curves(sizes, declared),
        "limit": limit_curves(sizes, declared),
        "provenance": {"command": command_line("report", *(data.name for data in several))},
    }
    return {**found, "crossings": crossings(found)}


def declared_responses(data: Dataset, law: Law, trusted: str | None) -> Responses:
    """The figures of many x that the simulator of some data declares.

    Raises:
        UsageError: there are none.
    """
    physics = physics_of(law, trusted, data.columns)
    if (found := responses(physics)) is None:
        raise UsageError(
            f"{data.name}: is one of several datasets, whose page shows figures of many x at one "
            f"θ; {law.simulator} with θ {', '.join(law.prior.names)} declares none (ising of beta "
            "or temperature does); give each a page of its own, or judge two by physgen compare"
        )
    return found


def one_size(data: Dataset, declared: Responses) -> dict[str, Any]:
    """The figures of one dataset, and where it is from."""
    theta, values = [], []
    for start in range(0, len(data), BLOCK):
        rows = data.read(slice(start, start + BLOCK))
        theta.append(rows.labels(data.where))
        values.append(declared.quantities(rows.x))
    found = response_curves(np.concatenate(theta), np.concatenate(values), declared)
    source = data.meta.source if data.meta else {}
    drawn = source.get("kind") == "surrogate"
    return {
        "name": Path(data.name).name,
        "size": declared.size,
        "rows": len(data),
        "kind": "surrogate" if drawn else "true",
        "by": source.get("name") or "the simulator",
        **found,
        "data": data.origin() | {"source": dict(source)},
    }


def ends_of(sizes: Sequence[Mapping[str, Any]]) -> Array:
    """Parameters from the lowest to the highest of all data, (p, 1)."""
    theta = np.concatenate([one["theta"] for one in sizes])
    return np.linspace(theta.min(), theta.max(), DENSE)[:, None]


def exact_curves(
    sizes: Sequence[Mapping[str, Any]], declared: Sequence[Responses]
) -> list[dict[str, Any]]:
    """The exact figures of each size, where some are known."""
    theta, found = ends_of(sizes), {}
    for one, of in zip(sizes, declared, strict=True):
        if of.moments and one["size"] not in found:
            means = of.moments(theta)[0]
            curves = {name: f.function(theta, means) for name, f in of.figures.items()}
            known = {name: y for name, y in curves.items() if np.isfinite(y).all()}
            found[one["size"]] = {
                "size": one["size"],
                "at": of.coordinate(theta),
                "figures": known,
            }
    return [found[size] for size in sorted(found)]


def limit_curves(
    sizes: Sequence[Mapping[str, Any]], declared: Sequence[Responses]
) -> dict[str, Any]:
    """The figures of the infinite system, where they are known."""
    theta, first = ends_of(sizes), declared[0]
    figures = {name: f.limit(theta) for name, f in first.figures.items() if f.limit}
    return {"at": first.coordinate(theta), "figures": figures}


def crossings(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where curves of neighbouring sizes cross, of true rows and of a surrogate's."""
    name, lines = found["crossing"], []
    for kind in ("true", "surrogate") if name else ():
        some = {one["size"]: one for one in found["sizes"] if one["kind"] == kind}
        for a, b in pairwise(sorted(some)):
            curves = [some[size]["figures"][name] for size in (a, b)]
            at = (np.asarray(some[a]["at"]), np.asarray(some[b]["at"]))
            pairs = [(np.asarray(c["value"]), np.asarray(c["se"])) for c in curves]
            if measured := crossing_of(at, pairs[0], pairs[1]):
                exact = exact_crossing(found["exact"], name, (a, b))
                lines.append({"kind": kind, "sizes": [a, b], "at": measured[0],
                              "se": measured[1], "exact": exact})  # fmt: skip
    return lines


def exact_crossing(
    curves: Sequence[Mapping[str, Any]], name: str, pair: tuple[float, float]
) -> float | None:
    """Where the exact curves of two sizes cross, by their largest change of sign."""
    known = {c["size"]: c for c in curves if name in c["figures"]}
    if not set(pair) <= set(known):
        return None
    at, (one, other) = known[pair[0]]["at"], (known[size]["figures"][name] for size in pair)
    difference = np.asarray(one) - np.asarray(other)
    signs = np.flatnonzero(difference[1:] * difference[:-1] < 0)
    if not len(signs):
        return None
    i = max(signs, key=lambda k: abs(difference[k + 1] - difference[k]))
    part = difference[i] / (difference[i] - difference[i + 1])
    return float(at[i] + part * (at[i + 1] - at[i]))

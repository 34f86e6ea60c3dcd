r"""Posterior predictive checks: does the surrogate make x like those that are seen?

A right posterior of a wrong law is worth nothing. Draw θ from the posterior of x and x′ from
q(·|θ); where does an observable of x stand among those of x′? Since x was used to find θ, such
ranks crowd around ½ even where all is right (Robins, van der Vaart & Ventura, JASA 95 (2000)
1143), so that they must not be held against the uniform law. They are held against the ranks of
the surrogate's *own* x, which went the same way (Hjort, Dahl & Steinbakk, JASA 101 (2006) 1157).

Controls: own x with draws of θ that are shifted by 0.3 widths; and x whose components were dealt
out anew among the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import simulators.base as declared
from physgen.checks.calibration.check import (
    CalibrationCheck,
    Run,
    Section,
    caught,
    table_row,
)
from physgen.checks.calibration.controls import SHIFT
from physgen.checks.calibration.uniformity import alike, counted, rank_among
from physgen.dataset.missing import masked_like
from physgen.reporting.view import Column, Labels, PagePart, Picture, TableView, Words
from simulators.base import Array, Observable

__all__ = ["PREDICTIVE", "predictive", "replicated"]

Ranked = Mapping[str, Array]


def replicated(
    draw: Callable[[Array, np.random.Generator], Array],
    observables: Mapping[str, Observable],
    x: Array,
    theta: Array,
    seed: int,
    tick: Callable[[float], None] | None = None,
) -> dict[str, Array]:
    """Rank of each observable of x among x′ drawn at draws of the posterior, in (0, 1), (n,).

    It is made continuous at random, so that it is exactly uniform for x like x′, ties or not.

    Args:
        draw: θ (n, D) → one x for each, (n, *x_shape).
        observables: name → a number of each x.
        x: what was seen, (n, *x_shape).
        theta: draws of the posterior of each, (n, K, D).
        seed: seed of x′ and of ties.
        tick: told the part that is done.
    """
    n, k, dims = theta.shape
    rng, step = np.random.default_rng([seed, 8]), max(1, 2**24 // (k * x[0].size))
    parts: dict[str, list[Array]] = {name: [] for name in observables}
    for i in range(0, n, step):
        if tick:
            tick(i / n)
        some = theta[i : i + step].reshape(-1, dims)
        drawn = draw(some, rng).astype(x.dtype)
        drawn = masked_like(drawn, x[i : i + step].repeat(k, 0))
        for name, observable in observables.items():
            seen = np.asarray(observable(x[i : i + step]), dtype=float)
            among = np.asarray(observable(drawn), dtype=float).reshape(len(seen), k)
            parts[name].append(rank_among(seen, among, rng))
    return {name: np.concatenate(values) for name, values in parts.items()}


def predictive(
    observables: Mapping[str, Observable],
    data: Ranked,
    own: Ranked,
    controls: Mapping[str, Ranked],
) -> dict[str, Any]:
    """Ranks of each observable in the data, beside those of the surrogate's own x.

    Args:
        observables: names and labels.
        data: name → ranks of the data's x, (n,).
        own: of the surrogate's, (n,).
        controls: of what must be caught, (n,).
    """
    section = {}
    for name, observable in observables.items():
        test = alike(data[name], own[name])
        against = {k: caught(alike(r[name], own[name]).p_value) for k, r in controls.items()}
        section[name] = declared.labels(observable) | {
            "p_value": test.p_value,
            "mean": test.mean,
            "null_mean": test.null_mean,
            "counts": {"data": counted(data[name]), "own": counted(own[name])},
            "controls": against,
        }
    return section


def _measure(run: Run) -> dict[str, Any] | None:
    draw = run.target.draw
    if draw is None:
        return None
    own, n = run.drawn["own"], len(run.data.x)
    shifted = run.prior.to_coordinates(own.found.draws) + SHIFT * own.found.sd[:, None]
    shifted = run.prior.from_coordinates(shifted.clip(*run.prior.ends))
    ranked = {k: (s.x, s.found.draws) for k, s in {"data": run.data, **run.drawn}.items()}
    ranked |= {"shifted": (own.x, shifted)}
    for k in ("shifted", "shuffled"):  # as many as there are of the data
        x, theta = ranked[k]
        ranked[k] = x[:n], theta[:n]
    found = {}
    for i, (name, (x, theta)) in enumerate(ranked.items()):
        run.progress("predictive", i / len(ranked))
        some = theta[:, : run.samples]
        found[name] = replicated(draw, run.observables, x, some, run.seed + 3 + i)
    controls = {name: found[name] for name in ("shifted", "shuffled")}
    return predictive(run.observables, found["data"], found["own"], controls)


def _rows(section: Section, result: Section) -> Iterator[dict[str, Any]]:
    """The worst observable; a control is caught if any of them catches it."""

    def worst(p_values: list[float]) -> float:
        return min(1.0, len(p_values) * min(p_values))

    controls = {
        name: caught(worst([o["controls"][name]["p_value"] for o in section.values()]))
        for name in ("shifted", "shuffled")
    }
    p = worst([o["p_value"] for o in section.values()])
    test = {"data": {"p_value": p}, "own": None, "controls": controls}
    yield table_row("predictive", f"worst of {len(section)} observables", test, ("shifted",))


def _part(section: Section, result: Section, labels: Labels) -> PagePart:
    drawn_by = "the simulator" if result.get("network") else "the surrogate itself"
    columns = [
        Column("observable"),
        Column("p"),
        Column("mean rank", digits=3),
        Column("of own x", digits=3),
        Column("control: shifted", "p"),
        Column("control: shuffled", "p"),
    ]
    rows = [
        (o["title"] or name, o["p_value"], o["mean"], o["null_mean"],
         *(_control(o["controls"][k]) for k in ("shifted", "shuffled")))
        for name, o in section.items()
    ]  # fmt: skip
    return PagePart(
        "predictive",
        "Predictive checks",
        "No predictive checks: nothing draws x, for the simulator is not known.",
        tuple(Picture("predictive_ranks", (o, o["title"] or name)) for name, o in section.items()),
        "Ranks of an observable",
        "Where an observable of x stands among those of x′ drawn at θ of its own posterior. Such "
        "ranks crowd around ½ even if all is right, so they are held against those of x drawn "
        f"from {drawn_by} (grey).",
        TableView(columns, rows) if rows else None,
        Words("An observable that says nothing of θ cannot catch a posterior that is shifted."),
    )


def _control(control: Section) -> Words:
    return Words("{}, caught" if control["caught"] else "{}", (control["p_value"],))


PREDICTIVE = CalibrationCheck("predictive", _measure, _rows, _part, share=0.07)

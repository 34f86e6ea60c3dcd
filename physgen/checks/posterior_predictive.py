r"""What a posterior predicts, beside what was observed: bands of x′ drawn at draws of θ.

x was used to find θ, so that it lies nearer to the middle of its x′ than a new x would (Gelman,
Meng & Stern, Stat. Sinica 6 (1996) 733): what lies outside of the bands speaks against the
posterior or the law, and what lies inside says little. ``calibrate`` holds such ranks against what
they should be.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import simulators.base as declared
from physgen.checks.two_sample.features import each_component, observables_of
from physgen.checks.two_sample.separation import common_edges
from physgen.dataset.missing import imputed
from physgen.law import Law
from simulators.base import Array, Observable
from simulators.columns import Columns

__all__ = ["posterior_predictive"]

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
FEW, LINES, BINS, CURVES = 3, 20, 30, 8
"""Components of a vector that is no curve; rows that are shown; bins of a histogram; channels
that are shown one by one."""


def posterior_predictive(
    x: Array, observed: Array | None, physics: object | None, law: Law | None = None
) -> dict[str, Any]:
    """Bands of curves and histograms of numbers, as JSON data.

    Args:
        x: drawn at draws of the posterior, (k, *x_shape).
        observed: what the posterior was inferred from, (m, *x_shape), one row or several at one θ;
            None where it is not known.
        physics: what declares observables, if anything.
        law: that x follows, for its channels; None where it is not known.
    """
    if observed is not None and np.isnan(observed).any():  # observables want whole x
        observed = imputed(observed, x.mean(0, dtype=float))
    every = observables_of(physics, x, law)
    several = len(np.unique(x[:1000])) > FEW and not declared.of_columns(known_columns(physics))
    if x.ndim == 2 and several:
        every.pop("components", None)
        whole = {"x": Observable(np.asarray, latex="x_i", title="x")}
        every = (whole if x.shape[1] > FEW else each_component(x.shape[1])) | every
    if x.ndim == 3 and law and law.axes[:1] == ("channel",) and x.shape[1] <= CURVES:
        every = _curves(x.shape[1]) | every
    bands, numbers = {}, {}
    for name, observable in every.items():
        drawn = np.asarray(observable(x), dtype=float)
        seen = None if observed is None else np.asarray(observable(observed), dtype=float)
        if drawn.ndim == 1:
            numbers[name] = declared.labels(observable) | _number(drawn, seen)
        else:
            bands[name] = declared.labels(observable) | _band(drawn, seen)
    return {"draws": len(x), "observed": observed is not None, "bands": bands, "numbers": numbers}


def known_columns(physics: object | None) -> Columns:
    """The columns of x, as far as anything is known of them."""
    return Columns.of(getattr(physics, "support", "reals"))


def _curves(channels: int) -> dict[str, Observable]:
    """The channels of a series, a curve each."""

    def channel(i: int) -> Observable:
        return Observable(lambda x: x[:, i], latex=f"x_{{{i + 1}}}", title=f"channel {i + 1}")

    return {f"x{i + 1}": channel(i) for i in range(channels)}


def _band(drawn: Array, seen: Array | None) -> dict[str, Any]:
    """Quantiles of each component of drawn (k, …), and how many of those seen (m, …) they hold."""
    q = np.quantile(drawn.reshape(len(drawn), -1), LEVELS, axis=0)
    found: dict[str, Any] = {"levels": LEVELS, "quantiles": q.tolist()}
    if seen is not None:
        seen = seen.reshape(len(seen), -1)
        inside = {0.5: (q[1], q[3]), 0.9: (q[0], q[4])}
        found["inside"] = {
            f"{level:g}": float(((seen >= low) & (seen <= high)).mean())
            for level, (low, high) in inside.items()
        }
        found["observed"] = seen[:LINES].tolist()
    return found


def _number(drawn: Array, seen: Array | None) -> dict[str, Any]:
    """A histogram of drawn (k,), and where among them those seen (m,) stand."""
    shown = np.append(np.quantile(drawn, [0.002, 0.998]), [] if seen is None else seen)
    ends = (shown.min(), shown.max()) if shown.min() < shown.max() else None
    edges = np.histogram_bin_edges(drawn, BINS, ends)
    if (drawn == np.round(drawn)).all():
        edges = common_edges(np.clip(drawn, shown.min(), shown.max()), BINS)
    counts, _ = np.histogram(drawn, edges)
    found: dict[str, Any] = {"histogram": {"edges": edges.tolist(), "predicted": counts.tolist()}}
    if seen is not None:
        below = (drawn < seen[:, None]).mean(1) + (drawn == seen[:, None]).mean(1) / 2
        found |= {"observed": seen[:LINES].tolist(), "rank": float(below.mean())}
    return found

"""Compare two samples of (θ, x), whoever made them: each figure beside what equal laws give.

=================  =============================================================================
``theta``          do both files have θ, and of one distribution? row by row the same?
``observables``    separation power of every observable and every component of a curve, in our
                   bins and in those that its field publishes
``given_theta``    mean and spread of every number about what θ says (:mod:`.given_theta`)
``curves``         means of observables that are curves: profiles
``classifiers``    area under the ROC curve on x (low) and on the observables (high level)
``fpd``, ``kpd``   distances of the observables' joint distribution
``cells``          the spectrum of single components of x ≥ 0, in all and in each layer
``average``        the mean x
``events``         some x of each
=================  =============================================================================

The null of each is had by dealing the pooled rows out anew (:mod:`.permutations`); rows that share
their θ change places in pairs only. A separation is worst where it is most above its null's mean;
its p-value is that of the *worst of all*, which is had from the same deals.

A classifier that is too weak cannot tell anything apart. So each is also set to tell the reference
from a control, the reference with each of the numbers that it sees dealt out anew; where it fails,
that it cannot tell the generated rows says nothing, and the verdict is that there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import ks_2samp

import simulators.base as declared
from physgen.checks.estimate import evenly_ranked
from physgen.checks.timing import Sections
from physgen.checks.two_sample.c2st import C2ST, c2st
from physgen.checks.two_sample.features import (
    Feature,
    columns,
    features_of,
    logged,
    observables_of,
    parts_of,
    physics_of,
    rare_cells_summed,
)
from physgen.checks.two_sample.frechet import fpd, kpd
from physgen.checks.two_sample.given_theta import SEEN, given_theta
from physgen.checks.two_sample.permutations import Tested, deals, first_of, shuffle_components
from physgen.checks.two_sample.separation import (
    common_edges,
    histogram_distances,
    separation_power,
)
from physgen.dataset import Rows
from physgen.dataset.missing import column_means, imputed, masked_like, missing_in_words
from physgen.errors import UsageError
from physgen.law import Law
from simulators.base import Array, labels

__all__ = ["COMPARISON_SECTIONS", "comparison", "comparison_summary"]

COMPARISON_SECTIONS = {
    "theta": 1, "features": 1, "observables": 1, "given_theta": 1, "curves": 1, "fpd": 3, "kpd": 1,
    "classifiers": 6, "cells": 1,
}  # fmt: skip
"""Those that take time, in their order, with the part of it that they take, about."""
_PAIR = ("reference", "generated")
See = Callable[[Array, Array], tuple[Array, Array]]
LEAST_ROWS, MOST_ROWS = 40, 20_000
NUMBERS = 40_000_000
"""Rows × components of x that a classifier is given at most, of each sample."""
DIFFERENT = 4.0
"""Standard errors that make a difference: folds share rows, so areas spread 1.2 times theirs."""
FEW_DEALS = 51
"""Deals of the histograms in published bins."""
CAUGHT, SIGMAS = 0.6, 5.0
THETA_ALPHA = 1e-3
BINS, EVENTS, PICTURE = 40, 4, 4096


def comparison(
    generated: Rows,
    reference: Rows,
    *,
    trusted: str | None = None,
    seed: int = 0,
    steps: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Compare generated rows with reference rows.

    Args:
        generated: rows of any file.
        reference: rows of a file of the same kind; its law says what to measure.
        trusted: name of a simulator outside the registry that the caller vouches for.
        seed: seed of everything that is random here.
        steps: steps of the classifiers' training; 250 if None.
        progress: told the name of each section before it starts.

    Returns:
        JSON data: one value a section, "warnings", and the seconds that each took.

    Raises:
        UsageError: samples of different kinds, or of too few rows.
        DataError: an observable that is not finite.
    """
    law = _same_kind(generated, reference)
    generated, reference, said = _complete(generated, reference)
    physics = physics_of(law, trusted, names_of(reference, generated))
    section, rng = Sections(progress), np.random.default_rng([seed, 6])
    a, b, paired = _shuffled(reference, generated, rng)
    result = section.result
    result["theta"] = section("theta", _theta, a, b, law, paired)
    result["warnings"] = _warnings(result["theta"], reference, generated) + said
    order = deals(len(a), len(b), rng, paired=paired)
    first = first_of(order, len(a))
    observables = observables_of(physics, a.x[:1000], law)
    joint = declared.joint_observables(physics) if physics is not None and _told(a, b) else {}
    features = section("features", features_of, observables, joint, a, b)
    found = section("observables", _separations, features, first, rng)
    result["observables"], result["worst"] = found
    result["given_theta"] = section("given_theta", _given_theta, a, b, features, first)
    result["curves"] = section("curves", _curves, features, paired)
    high = columns(features)
    result["features"] = high[0].shape[1]
    result["fpd"] = section("fpd", _fpd, *high, rng, paired)
    result["kpd"] = section("kpd", _kpd, *high, rng, paired)
    result["classifiers"] = section("classifiers", _classifiers, a, b, high, seed, steps)
    parts, bins = parts_of(physics, a.x.shape[1:]), declared.cell_bins(physics)
    result["cells"] = section("cells", _cells, a.x, b.x, parts, first, bins)
    result["average"] = _average(a.x, b.x)
    result["events"] = _events(a, b, law)
    return section.json()


def names_of(*several: Rows) -> list[str]:
    """Names of the components of x, of the first rows that have any."""
    return next((r.meta.columns for r in several if r.meta and r.meta.columns), [])


def _same_kind(generated: Rows, reference: Rows) -> Law | None:
    """The law of both, that of the reference if they name one each.

    Raises:
        UsageError: another simulator, support or shape of x, or too few rows.
    """
    laws = [rows.meta.law for rows in (reference, generated) if rows.meta]
    what = [
        ("rows of x of shape", *(rows.x.shape[1:] for rows in (generated, reference))),
        *(("x of", b.simulator, a.simulator) for a, b in pairwise(laws)),
        *(("x that are", b.support_text, a.support_text) for a, b in pairwise(laws)),
    ]
    for name, theirs, ours in what:
        if theirs != ours:
            raise UsageError(
                f"compare: expected two files of the same kind, got {name} {theirs} and {ours}"
            )
    if (least := min(len(generated), len(reference))) < LEAST_ROWS:
        raise UsageError(f"compare: expected at least {LEAST_ROWS} rows of each, got {least}")
    return laws[0] if laws else None


def _complete(generated: Rows, reference: Rows) -> tuple[Rows, Rows, list[str]]:
    """Both with means of the reference in place of what is missing, and what is to be said of it.

    Rows of which nothing is missing are given the masks of the others.
    """
    gone = {
        rows: missing_in_words(both.x)
        for rows, both in zip(_PAIR, (reference, generated), strict=True)
    }
    if not any(gone.values()):
        return generated, reference, []
    masked = []
    for one, other in ((generated, reference), (reference, generated)):
        like = other.x[np.arange(len(one)) % len(other)]
        masked.append(one if np.isnan(one.x).any() else replace(one, x=masked_like(one.x, like)))
    means = column_means(masked[1].x)
    whole = [replace(rows, x=imputed(rows.x, means)) for rows in masked]
    how = "; ".join(f"{rows}: {words or 'none missing'}" for rows, words in gone.items())
    return (
        whole[0],
        whole[1],
        [
            f"components of x are missing ({how}): means of the reference stand in their place"
            + ("" if all(gone.values()) else ", in the complete rows too, at the same components")
        ],
    )


def _shuffled(
    reference: Rows, generated: Rows, rng: np.random.Generator
) -> tuple[Rows, Rows, bool]:
    """Both in random order, and whether θ is the same in row i of both, which stays so."""
    t, u = reference.theta, generated.theta
    paired = _told(reference, generated) and t is not None and np.array_equal(t, np.asarray(u))
    order = rng.permutation(len(reference))
    other = order if paired else rng.permutation(len(generated))
    a, b = (replace(rows, aux={}) for rows in (reference, generated))
    return a[order], b[other], paired


def _theta(a: Rows, b: Rows, law: Law | None, paired: bool) -> dict[str, Any]:
    """Which rows have θ, and the Kolmogorov–Smirnov distance of each parameter."""
    known, tests = [rows.theta is not None for rows in (a, b)], {}
    if _told(a, b) and a.theta is not None and b.theta is not None:
        names = law.prior.names if law else [f"theta{i}" for i in range(a.theta.shape[1])]
        for name, t, u in zip(names, a.theta.T, b.theta.T, strict=True):
            test = ks_2samp(t, u, method="asymp")
            tests[name] = {"ks": float(test.statistic), "p_value": float(test.pvalue)}
    return {"reference": known[0], "generated": known[1], "paired": paired, "parameters": tests}


def _told(a: Rows, b: Rows) -> bool:
    """Whether both have θ of the same parameters."""
    names = [rows.meta.law.prior.names for rows in (a, b) if rows.meta]
    shapes = {None if rows.theta is None else rows.theta.shape[1:] for rows in (a, b)}
    return None not in shapes and len(shapes) == 1 and len(set(names)) <= 1


def _warnings(theta: Mapping[str, Any], reference: Rows, generated: Rows) -> list[str]:
    """What a reader must know before the figures."""
    found = []
    off = {k: v for k, v in theta["parameters"].items() if v["p_value"] < THETA_ALPHA}
    if off:
        each = ", ".join(f"{k} (KS {v['ks']:.2g}, p {v['p_value']:.1g})" for k, v in off.items())
        found.append(f"theta of the two files differ: {each}; all figures see it")
    elif theta["reference"] != theta["generated"]:
        found.append("only one of the files has theta; no figure is told it")
    elif theta["reference"] and not theta["parameters"]:
        found.append("theta of the two files have other parameters; no figure is told it")
    if len(reference) != len(generated):
        least = min(len(reference), len(generated))
        found.append(f"the classifiers and KPD see {least:,} rows of each file at most")
    return found


def _separations(
    features: Mapping[str, Feature], first: Array, rng: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Separation power of every number with its null, by observable; and the worst of them."""
    section: dict[str, Any] = {}
    every, places = [], []
    for name, feature in features.items():
        ours = _rows(feature.reference)
        pooled = np.concatenate([ours, _rows(feature.generated)], axis=1)
        powers = np.stack(
            [_powers(v, common_edges(a), first) for v, a in zip(pooled, ours, strict=True)]
        )
        every.append(powers)
        places += [(name, i if feature.is_curve else None) for i in range(len(powers))]
        tests = [Tested.of(p)._asdict() for p in powers]
        section[name] = labels(feature.observable) | {
            "separation": tests if feature.is_curve else tests[0]
        }
        if feature.observable.bins:
            bins = feature.observable.bins(feature.reference)
            theirs = _published(pooled, bins, first[:FEW_DEALS])
            section[name]["published"] = theirs if feature.is_curve else theirs[0]
        if not feature.is_curve:
            section[name] |= histogram_distances(feature.reference, feature.generated, rng, _PAIR)
    return section, _worst(np.concatenate(every), places)


def _published(pooled: Array, bins: Sequence[Array], first: Array) -> list[dict[str, Any]]:
    """Separation power of numbers (k, N) in given bins: what lies outside of them is not counted.

    Args:
        pooled: values of the pooled rows, (k, N).
        bins: edges of each of them.
        first: labels of the deals, (P, N).
    """
    found = []
    for values, edges in zip(pooled, bins, strict=True):
        code = np.searchsorted(edges, values, side="right") - 1
        code = np.where(values == edges[-1], len(edges) - 2, code)
        hits = code[:, None] == np.arange(len(edges) - 1)
        test = Tested.of(_dealt(hits.astype(np.float32), first))._asdict()
        found.append(test | {"bins": len(edges) - 1, "inside": float(hits.any(1).mean())})
    return found


def _given_theta(
    a: Rows, b: Rows, features: Mapping[str, Feature], first: Array
) -> dict[str, Any] | None:
    """Shift and spread of every single number given θ; None where both have no common θ."""
    if not _told(a, b) or a.theta is None or b.theta is None:
        return None
    numbers = {
        name: np.concatenate([f.reference, f.generated])
        for name, f in features.items()
        if not f.is_curve
    }
    return given_theta(np.concatenate([a.theta, b.theta]), numbers, first)


def _worst(powers: Array, places: Sequence[tuple[str, int | None]]) -> dict[str, Any]:
    """Of powers (k, P), the one that is most above its null; its p-value is that of all k."""
    above = powers - powers[:, 1:].mean(1, keepdims=True)
    worst = int(above[:, 0].argmax())
    name, index = places[worst]
    return Tested.of(powers[worst])._asdict() | {
        "observable": name,
        "component": None if index is None else index + 1,
        "of": len(powers),
        "p_value": Tested.of(above.max(0)).p_value,
    }


def _rows(values: Array) -> Array:
    """Numbers of a quantity, (N,) or (N, k) → (k, N)."""
    return values.reshape(len(values), -1).T


def _powers(values: Array, edges: Array, first: Array) -> Array:
    """Separation power for each deal (P, N) of pooled values (N,), (P,)."""
    code = np.searchsorted(edges, values, side="right") - 1
    hits = code.clip(0, len(edges) - 2)[:, None] == np.arange(len(edges) - 1)
    return _dealt(hits.astype(np.float32), first)


def _dealt(hits: Array, first: Array) -> Array:
    """Separation power for each deal (P, N) of each row's histogram (N, bins), (P,)."""
    one = first @ hits
    return separation_power(one, hits.sum(0) - one)


def _curves(features: Mapping[str, Feature], paired: bool) -> dict[str, Any]:
    """Mean and standard error of each component, of both and of their difference."""
    section = {}
    for name, f in features.items():
        if not f.is_curve:
            continue
        means = [_mean(v) for v in (f.reference, f.generated)]
        (m, se), (mean, error) = means
        apart = (mean - m, np.hypot(se, error))
        difference = _mean(f.generated - f.reference) if paired else apart
        both = zip((*_PAIR, "difference"), (*means, difference), strict=True)
        section[name] = labels(f.observable) | {k: {"mean": v, "se": e} for k, (v, e) in both}
    return section


def _mean(values: Array) -> tuple[Array, Array]:
    return values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))


def _fpd(a: Array, b: Array, rng: np.random.Generator, paired: bool) -> dict[str, Any]:
    found = fpd(a, b, rng, paired=paired)
    whole = {"plain": found.plain._asdict(), "infinite": found.infinite._asdict()}
    return whole | {"halves": found.halves, "rows": [len(a), len(b)]}


def _kpd(a: Array, b: Array, rng: np.random.Generator, paired: bool) -> dict[str, Any]:
    found = kpd(a, b, rng, paired=paired)
    return found.median._asdict() | {"se": found.se, "batch": found.batch}


def _classifiers(
    a: Rows, b: Rows, high: tuple[Array, Array], seed: int, steps: int | None
) -> dict[str, Any]:
    """The areas of classifiers that see x, and the observables; told θ where both have it."""
    n = min(len(a), len(b), MOST_ROWS)
    few = min(n, max(500, NUMBERS // a.x[0].size))
    x, y = (rows.x[:few].reshape(few, -1).astype(np.float32) for rows in (a, b))
    theta = [rows.theta if _told(a, b) else None for rows in (a, b)]

    def judged(ours: Array, theirs: Array, see: See) -> dict[str, Any]:
        rows = len(ours)
        t, u = (None if t is None else t[:rows] for t in theta)
        control = shuffle_components(ours, np.random.default_rng([seed, 4]))
        test = c2st(*see(ours, theirs), given=_both(t, u), seed=seed, steps=steps)
        told = _both(t, t)
        caught = c2st(
            *see(ours, control), given=told, seed=seed, steps=steps, null=False, brief=True
        )
        return _verdict(test, caught) | {"rows": rows, "told_theta": t is not None}

    x, y = rare_cells_summed(x, y)
    return {"low": judged(x, y, logged), "high": judged(high[0][:n], high[1][:n], _twice)}


def _both(t: Array | None, u: Array | None) -> tuple[Array, Array] | None:
    return None if t is None or u is None else (t, u)


def _twice(a: Array, b: Array) -> tuple[Array, Array]:
    """Columns as they are, and on the logarithmic scale beside them."""
    u, v = logged(a, b)
    return np.concatenate([a, u], 1), np.concatenate([b, v], 1)


def _verdict(test: C2ST, control: C2ST) -> dict[str, Any]:
    """The figures of a classifier, and what they allow to say."""
    area, caught = test.auc, control.auc
    strong = caught.value > max(CAUGHT, 0.5 + SIGMAS * caught.se)
    if area.value - max(area.null, 0.5) > DIFFERENT * area.se:
        verdict = "told apart"
    else:
        verdict = "cannot be told apart" if strong else "classifier too weak: no verdict"
    return {
        "auc": area.value,
        "se": area.se,
        "null": area.null,
        "control": caught.value,
        "control_caught": bool(strong),
        "verdict": verdict,
        "js": test.js._asdict() | {"control": control.js.value},
    }


def _cells(
    a: Array, b: Array, parts: list[slice], first: Array, bins: declared.Bins | None
) -> dict[str, Any] | None:
    """Spectra of log₁₀ x of what is hit, in all and in each part of x; None where x has signs.

    The rows are dealt out anew, not the components, which depend on one another.
    """
    a, b = (x.reshape(len(x), -1) for x in (a, b))
    if min(a.min(), b.min()) < 0 or not a.any():
        return None
    hits = a[a > 0]
    edges = np.linspace(np.log10(hits.min()), np.log10(hits.max()), BINS + 1)
    if edges[0] == edges[-1]:
        return None
    spectra = [np.concatenate([_spectra(x[:, part], edges) for x in (a, b)]) for part in parts]
    whole = np.asarray(np.sum(spectra, 0, dtype=np.float32))
    return {
        "histogram": {
            "edges": edges,
            _PAIR[0]: whole[: len(a)].sum(0, dtype=float),
            _PAIR[1]: whole[len(a) :].sum(0, dtype=float),
        },
        "separation": Tested.of(_dealt(whole, first))._asdict(),
        "published": _in_published_bins(a, b, bins(hits)[0], first) if bins else None,
        "layers": [Tested.of(_dealt(s, first))._asdict() for s in spectra]
        if len(parts) > 1
        else None,
        "sparsity": {name: float((x == 0).mean()) for name, x in zip(_PAIR, (a, b), strict=True)},
    }


def _in_published_bins(a: Array, b: Array, edges: Array, first: Array) -> dict[str, Any]:
    """Separation of the spectra of x (n, d) and (m, d) in bins of the field, by their edges."""
    inside = [np.where((x >= edges[0]) & (x <= edges[-1]), x, 0) for x in (a, b)]
    counts = np.concatenate([_spectra(x, np.log10(edges)) for x in inside])
    return Tested.of(_dealt(counts, first))._asdict() | {"bins": len(edges) - 1}


def _spectra(x: Array, edges: Array) -> Array:
    """Histogram of log₁₀ x of each row's hits, (n, d) → (n, bins) float32."""
    row, column = np.nonzero(x)
    bins = len(edges) - 1
    code = np.searchsorted(edges, np.log10(x[row, column]), side="right") - 1
    flat = np.bincount(row * bins + code.clip(0, bins - 1), minlength=len(x) * bins)
    return flat.reshape(len(x), bins).astype(np.float32)


def _average(a: Array, b: Array) -> dict[str, Any] | None:
    """The mean x of both; of a grid of cells, its sums over the azimuth. None if it is large."""
    means = [_folded(x.mean(0, dtype=float)[None])[0] for x in (a, b)]
    if means[0].size > PICTURE:
        return None
    return dict(zip(_PAIR, means, strict=True)) | {"axes": _axes(a)}


def _folded(x: Array) -> Array:
    """X as it is drawn: (n, layers, azimuths, rings) summed over azimuths."""
    return x.sum(2, dtype=float) if x.ndim == 4 else x


def _axes(x: Array) -> tuple[str, str] | None:
    return ("layer", "ring") if x.ndim == 4 else None


def _events(a: Rows, b: Rows, law: Law | None) -> dict[str, Any] | None:
    """Some x of each, spread over the range of θ where there is one; None if they are large."""
    if a.x[0].size > PICTURE and a.x.ndim != 4:
        return None
    shown = {}
    for name, rows in zip(_PAIR, (a, b), strict=True):
        theta = None if rows.theta is None else rows.theta[:, 0]
        chosen = np.arange(EVENTS) if theta is None else evenly_ranked(theta, EVENTS)
        shown[name] = {
            "theta": None if theta is None else theta[chosen],
            "x": _folded(rows.x[chosen]),
        }
    return {"parameter": law.prior.names[0] if law else "theta", "axes": _axes(a.x)} | shown


def comparison_summary(result: Mapping[str, Any]) -> str:
    """The figures of a comparison in one line."""
    parts = [_areas(result["classifiers"]), _distances(result), _spreads(result)]
    return "; ".join([*(words for part in parts for words in part), *result["warnings"]])


def _areas(tests: Mapping[str, Any]) -> Iterator[str]:
    words = [
        f"{name} {t['auc']:.3f} (null {t['null']:.3f}, control {t['control']:.3f}"
        + ("" if t["verdict"] in ("told apart", "cannot be told apart") else ", too weak")
        + ")"
        for name, t in tests.items()
    ]
    yield "AUC " + ", ".join(words)


def _spreads(result: Mapping[str, Any]) -> Iterator[str]:
    found = result["given_theta"]
    if found:
        worst = found["worst"]
        of = found["numbers"][worst["observable"]]
        figure, name = of[worst["figure"]], worst["observable"].replace("_", " ")
        verdict = "told apart" if abs(worst["errors"]) > SEEN else "not told apart"
        yield (
            f"given theta: {verdict}, worst {worst['figure']} {figure['value']:.3f} ± "
            f"{figure['se']:.3f} in {name}"
        )


def _thousandths(value: float) -> str:
    """A distance in the unit of the field, 10⁻³, unless it is 1 or more."""
    return f"{1e3 * value:.3g}e-3" if abs(value) < 0.9995 else f"{value:.3g}"


def _distances(result: Mapping[str, Any]) -> Iterator[str]:
    plain, infinite = result["fpd"]["plain"], result["fpd"]["infinite"]
    rows = " and ".join(f"{n:,}" for n in result["fpd"]["rows"])
    yield (
        f"FPD of {rows} rows {_thousandths(plain['value'])} (null {_thousandths(plain['null'])}; "
        f"at infinite N {_thousandths(infinite['value'])})"
    )
    worst = result["worst"]
    number = "" if worst["component"] is None else f" {worst['component']}"
    yield (
        f"worst separation {worst['value']:.3g} (null {worst['null']:.3g}) in "
        f"{worst['observable'].replace('_', ' ')}{number}"
    )

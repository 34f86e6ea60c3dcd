"""What a page says first: one or two sentences in plain words, with the figures that decide.

Each page has a function that reads its figures and says whether what it is about is good, to be
taken with care or bad, or that nobody can tell: where a control was missed, an error is too large
or nothing was there to compare with. It measures nothing of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np

from physgen.reporting.page import letter
from physgen.reporting.quantities import measured, number
from physgen.reporting.restoration import differs
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["Conclusion", "conclusion_of"]

SIGMAS, TOLD = 2.0, 3.0
"""Standard errors from which a figure differs, and from which a classifier tells."""
SEEN = 0.5
"""Nats a row: figures with a larger error say nothing of a gap."""
FEW = 10
"""Observations below which a mean error of posteriors says nothing."""
LEAST = 0.1
"""Part of a variance that a check of latents should be able to see."""
LITTLE = 0.9
"""Of the prior's width: posteriors that are wider have learnt next to nothing."""
ALPHA, MOVED = 0.01, 4.0
"""p of the worst histogram, and standard errors of the worst figure given θ, of what differs."""
SHIFTED, POWERFUL = 1e-3, 0.05
"""p below which figures are not the exact ones, and the relative shift that must be told."""
TINY = 1e-12
"""p below which it is only said to be small."""
MIXED = 1.05
"""R̂ above which chains have not mixed."""


class Conclusion(NamedTuple):
    """What a page says first.

    Attributes:
        tone: whether that is good.
        head: a few words.
        text: a sentence or two, with the figures that decide.
    """

    tone: Literal["good", "care", "bad", "unknown"]
    head: str
    text: str


def conclusion_of(metrics: Mapping[str, Any]) -> Conclusion:
    """What the page of some scores, a posterior, latents, restored x or a training says first."""
    kind = str(metrics.get("schema", "physgen/metrics/1")).split("/")[1]
    return {
        "metrics": surrogate_conclusion,
        "calibration": calibration_conclusion,
        "comparison": comparison_conclusion,
        "posterior": posterior_conclusion,
        "posteriors": posteriors_conclusion,
        "restoration": restoration_conclusion,
        "latents": latents_conclusion,
        "training": training_conclusion,
        "models": models_conclusion,
        "responses": responses_conclusion,
        "data": data_conclusion,
    }[kind](metrics)


def surrogate_conclusion(metrics: Mapping[str, Any]) -> Conclusion:
    """Of validate: whether to infer with a surrogate, or else whether its samples are told."""
    nll, post = metrics.get("nll") or {}, metrics.get("posterior") or {}
    if metrics.get("warnings"):
        return Conclusion("bad", "Mind the note below.", "It is judged by x of another law.")
    gap, se = _float(nll.get("gap_total")), _float(nll.get("gap_total_se"))
    known, apart = _known(gap, se), gap > SIGMAS * se
    if known and gap < -TOLD * se:
        return _above("Its", gap, se)
    few = (post.get("observations") or 0) < FEW
    if _known(post.get("mean_error")) and not (few and apart):
        return _of_posteriors(post, few, _loss(nll) if known else "")
    if not known:
        return _of_samples(metrics.get("two_sample") or {})
    if apart and nll.get("likelihood") == "lower bound":
        text = f"It {_loss(nll)}; how much of that is the law's own, the bound does not say."
        return Conclusion("care", "Its bound on log p is not the exact log p.", text)
    if apart:
        tone: Any = "care" if gap < SEEN else "bad"
        return Conclusion(tone, "It can be told from the exact law.", f"It {_loss(nll)}.")
    if SIGMAS * se > SEEN:
        return Conclusion(
            "unknown", "Cannot tell.",
            f"Its gap to the exact law is {measured(gap, se)} nats a row: these rows are too few.",
        )  # fmt: skip
    return Conclusion(
        "good", "Nothing tells it from the exact law.",
        f"It {_loss(nll)}; {number(SIGMAS * se)} nats would have been seen.",
    )  # fmt: skip


def _above(whose: str, gap: float, se: float) -> Conclusion:
    """Of a log p that is above the exact one by more than its error."""
    text = f"{whose} log p(x|θ) is {measured(-gap, se)} nats a row above the exact one, which no "
    return Conclusion("bad", "Something is wrong.", f"{text}normalised law can be.")


def _of_posteriors(post: Mapping[str, Any], few: bool, loss: str) -> Conclusion:
    """Of the error of posterior means, in exact widths, and of their widths."""
    off, se, ratio = post["mean_error"], post.get("mean_error_se"), post.get("std_ratio") or 1.0
    figures = f"Its posterior means are {measured(off, se)} exact posterior widths off"
    spread = abs(math.log(ratio)) if ratio > 0 else math.inf
    wide = f" and its widths {number(ratio)} times the exact ones" if spread > 0.1 else ""
    text = f"{figures}{wide}" + (f"; it {loss}." if loss else ".")
    if few:
        count = f"Of so few posteriors ({number(post.get('observations'))}) a mean says little. "
        return Conclusion("unknown", "Cannot tell.", count + text)
    if off < 0.1 and spread < 0.1:
        return Conclusion("good", "Good to infer with.", text)
    if off < 0.3 and spread < 0.25:
        return Conclusion("good", "Good to infer with from single x.", text)
    if off < 1 and spread < 0.7:
        return Conclusion("care", "Infer with care.", text)
    return Conclusion("bad", "Do not infer with it.", text)


def _loss(nll: Mapping[str, Any]) -> str:
    """What a likelihood loses, as what follows "it"."""
    most = "at most " if nll.get("likelihood") == "lower bound" else ""
    told = measured(nll["gap_total"], nll["gap_total_se"])
    return f"loses {most}{told} nats a row against the exact law"


def _of_samples(two: Mapping[str, Any]) -> Conclusion:
    """Of a classifier between samples and true x."""
    test = two.get("c2st") or {}
    if not _known(test.get("accuracy"), test.get("se"), test.get("control")):
        return Conclusion(
            "unknown", "Cannot tell.",
            "There is no exact answer here, and nothing else to hold it against.",
        )  # fmt: skip
    said = f"is right in {measured(100 * test['accuracy'], 100 * test['se'])} % of the cases"
    control = f"{number(100 * test['control'])} %"
    rest = "Whether its posteriors are right, physgen calibrate tells."
    least = 0.5 + TOLD * test["se"]
    if test["accuracy"] > least:
        text = f"A classifier {said}; 50 % is chance. {rest}"
        return Conclusion("care", "Its samples are told from true ones.", text)
    if test["control"] <= least:
        text = f"The classifier {said}, but misses the control, too ({control}): take more rows."
        return Conclusion("unknown", "Cannot tell.", text)
    text = f"A classifier {said}, where it tells the control in {control}; 50 % is chance. {rest}"
    return Conclusion("good", "Its samples are not told from true ones.", text)


def calibration_conclusion(metrics: Mapping[str, Any]) -> Conclusion:
    """Of calibrate: whether posteriors can be believed."""
    checks = [c for c in metrics.get("checks") or [] if c.get("verdict")]
    failed = [c for c in checks if c["verdict"] == "fails"]
    passed = [c for c in checks if c["verdict"] == "passes"]
    rows = number(metrics.get("rows"))
    if (metrics.get("information") or {}).get("excluded"):
        text = f"{number(metrics['information']['excluded'])} of them exclude the true θ."
        return Conclusion("bad", "Do not believe these posteriors.", text)
    if failed:
        worst = min(failed, key=lambda c: c["p_value"])
        text = (
            f"{len(failed)} of {len(checks)} checks fail on {rows} rows, {worst['name']} with "
            f"p = {number(worst['p_value'])}."
        )
        return Conclusion("bad", "Do not believe these posteriors.", text)
    if not passed or len(passed) < len(checks):
        text = (
            f"No check fails on {rows} rows, but {len(checks) - len(passed)} of {len(checks)} "
            "would miss posteriors that are wrong on purpose: take more rows."
        )
        return Conclusion(
            "unknown", "Cannot tell yet.", text if checks else "Nothing was checked."
        )
    text = (
        f"All {len(checks)} checks pass on {rows} rows, and each of them catches posteriors "
        "that are wrong on purpose."
    )
    return Conclusion("good", "Nothing speaks against these posteriors.", text)


def comparison_conclusion(metrics: Mapping[str, Any]) -> Conclusion:
    """Of compare: whether two files are of one law."""
    every = metrics.get("classifiers") or {}
    tests = [t for t in (every.get("low"), every.get("high")) if t]
    worst, spread = metrics.get("worst") or {}, (metrics.get("given_theta") or {}).get("worst")
    told = [t for t in tests if t["verdict"] == "told apart"]
    found = []
    if told:
        most = max(told, key=lambda t: t["auc"])
        found.append(
            f"a classifier tells them, with an area of {measured(most['auc'], most['se'])}"
        )
    if _known(worst.get("p_value")) and worst["p_value"] < ALPHA:
        name = str(worst["observable"]).replace("_", " ")
        found.append(f"the distribution of {name} differs (p = {number(worst['p_value'])})")
    if spread and abs(spread["errors"]) > MOVED:
        name, errors = str(spread["observable"]).replace("_", " "), number(abs(spread["errors"]))
        found.append(f"{name} given θ is {errors} standard errors off")
    if found:
        text = f"{found[0][0].upper()}{found[0][1:]}" + "".join(f"; {more}" for more in found[1:])
        return Conclusion("care", "The two files differ.", f"{text}.")
    strong = [t for t in tests if t["verdict"] == "cannot be told apart"]
    if not strong:
        text = "No classifier tells even the control: take more rows."
        return Conclusion("unknown", "Cannot tell.", text)
    test = strong[0]
    text = (
        f"A classifier that tells the control ({number(test['control'], 3)}) has an area of "
        f"{measured(test['auc'], test['se'])}; 0.5 is chance."
    )
    return Conclusion("good", "Nothing tells the two files apart.", text)


def posterior_conclusion(metrics: Mapping[str, Any]) -> Conclusion:
    """Of infer: what x tells of θ, and what speaks against the draws."""
    arrays, law = metrics["arrays"], metrics.get("law") or {}
    prior = Prior.from_json(law.get("prior") or [])
    worst = float(np.max(arrays["r_hat"])) if "r_hat" in arrays else 1.0
    if worst > MIXED:
        text = f"R̂ is {number(worst, 3)}, where 1 is right: sample longer."
        return Conclusion("bad", "The chains have not mixed.", text)
    names = list(metrics.get("interest") or prior.names)
    pick = [prior.names.index(name) for name in names]
    wide = prior.sample(10_000, np.random.default_rng(0)).std(0)[pick]
    draws = [np.asarray(theta)[:, pick].std(0) for theta in arrays["theta"]]
    ratio = np.mean(draws, 0) / wide
    told = [letter(p.name, p.latex) for p in (prior.parameters[d] for d in pick)]
    rest = "Whether that is right, physgen calibrate tells."
    best = int(np.argmin(ratio))
    if ratio[best] > LITTLE:
        text = (
            f"The posterior of {told[best]} is {number(ratio[best])} times as wide as its prior."
        )
        return Conclusion("unknown", "x says next to nothing of θ.", f"{text} {rest}")
    parts = [f"{name} to {number(r)}" for name, r in zip(told[:3], ratio, strict=False)]
    mean = " on average" if len(draws) > 1 else ""
    text = f"x narrows {', '.join(parts)} of the prior's width{mean}."
    if warnings := metrics.get("warnings"):
        return Conclusion("care", "Mind the note below.", f"{text} {len(warnings)} to mind.")
    return Conclusion("unknown", "", f"{text} {rest}")


def posteriors_conclusion(metrics: Mapping[str, Any]) -> Conclusion:
    """Of several posteriors: how far their means are from each other, in widths."""
    every, names = metrics["posteriors"], metrics["interest"]
    worst, words = -1.0, ""
    for one, other in combinations(every, 2):
        (a, s), (b, t) = _moments(one, names), _moments(other, names)
        apart = abs(a - b) / np.sqrt((s**2 + t**2) / 2)
        i, d = np.unravel_index(int(np.nanargmax(apart)), apart.shape)
        if apart[i, d] > worst:
            row = int(one.get("first_row", 0) + i) if metrics["rows"] else int(i)
            worst = float(apart[i, d])
            words = f"{names[d]}, {one['name']} beside {other['name']}, row {row}"
    text = f"Their means are at most {number(worst)} of their widths apart ({words})."
    return Conclusion("unknown", "", text)


def _moments(posterior: Mapping[str, Any], names: Sequence[str]) -> tuple[Array, Array]:
    """Means and widths of some parameters, (n, D) each."""
    known = Prior.from_json(posterior["law"]["prior"]).names
    pick = [known.index(name) for name in names]
    arrays = posterior["arrays"]
    return np.asarray(arrays["mean"])[:, pick], np.asarray(arrays["sd"])[:, pick]


def restoration_conclusion(metrics: Mapping[str, Any]) -> Conclusion:
    """Of restore: whether draws are those of the exact p(x|y)."""
    scores: Sequence[Mapping[str, Any]] = metrics.get("scores") or []
    n, rows = metrics["arrays"]["x"].shape[1], len(metrics["arrays"]["x"])
    some = f"{number(n)} draws of {'one row' if rows == 1 else number(rows) + ' rows'}"
    if not scores:
        text = f"How right {some} are is not known: {metrics.get('absent')}."
        return Conclusion("unknown", "Cannot tell.", text)
    off = max(s["off"]["value"] for s in scores)
    figures = f"Their means are {number(off)} exact widths off"
    if wrong := differs(scores):
        text = f"{figures}. Beyond chance in {some}: {'; '.join(wrong)}."
        return Conclusion("bad", "These draws differ from the exact ones.", text)
    if any(s["control_fails"] is False for s in scores):
        text = (
            "x drawn without y is no worse here: y says next to nothing, and this proves nothing."
        )
        return Conclusion("unknown", "Cannot tell.", text)
    text = f"{figures}, as those of as many exact draws, in as far as {some} can tell."
    if warnings := metrics.get("warnings"):
        return Conclusion("care", "Mind the note below.", f"{text} {len(warnings)} to mind.")
    return Conclusion("good", "Nothing tells these draws from exact ones.", text)


def latents_conclusion(metrics: Mapping[str, Any]) -> Conclusion:
    """Of latents: what they say of x that θ does not."""
    told = (metrics.get("told") or {}).get("observables") or {}
    titles = {o["name"]: o.get("title") or o["name"] for o in metrics.get("observables") or []}
    known = {k: t["all"] for k, t in told.items() if _known(*t["all"])}
    if not known:
        text = "No observable of x is known that they might tell of."
        return Conclusion("unknown", "Cannot tell.", text)
    name = max(known, key=lambda k: known[k][0])
    value, se = known[name]
    figure = f"{measured(100 * value, 100 * se)} % of the variance of {titles.get(name, name)}"
    if value > TOLD * se:
        text = f"They tell {figure} that θ leaves."
        return Conclusion("good", "The latents say what θ does not.", text)
    if TOLD * se > LEAST:
        text = f"They tell {figure} that θ leaves: these rows are too few."
        return Conclusion("unknown", "Cannot tell.", text)
    text = f"Of all observables they tell {figure} that θ leaves."
    return Conclusion("care", "The latents say nothing that θ does not.", text)


def training_conclusion(info: Mapping[str, Any]) -> Conclusion:
    """Of a checkpoint: whether it overfits, and whether its samples are told from held-out x."""
    over, held = info.get("overfitting") or {}, info.get("held_out") or {}
    rest = "How good it is, physgen validate and calibrate tell."
    gap, se = _float(over.get("gap")), _float(over.get("se"))
    likelier = f"Rows of the training are {measured(gap, se)} nats likelier than others. {rest}"
    if gap > TOLD * se:
        return Conclusion("care", "It overfits.", likelier)
    if _known(held.get("auc"), held.get("se"), held.get("control")):
        area, least = measured(held["auc"], held["se"]), 0.5 + TOLD * held["se"]
        if held["auc"] > least:
            text = f"A classifier has an area of {area}; 0.5 is chance. {rest}"
            return Conclusion("care", "Its samples are told from held-out x.", text)
        if held["control"] > least:
            text = (
                f"A classifier that tells the control ({number(held['control'])}) has an area of "
                f"{area}; 0.5 is chance. {rest}"
            )
            return Conclusion("good", "Its samples are not told from held-out x.", text)
    if TOLD * se < SEEN:
        return Conclusion("good", "It does not overfit.", likelier)
    return Conclusion("unknown", "Cannot tell.", f"The held-out rows are too few. {rest}")


def models_conclusion(metrics: Mapping[str, Any]) -> Conclusion:
    """Of several models: which is closest to the exact law, if that can be told."""
    known = []
    for model in metrics["models"]:
        nll = (model.get("metrics") or {}).get("nll") or {}
        if _known(nll.get("gap_total"), nll.get("gap_total_se")):
            bound = nll.get("likelihood") == "lower bound"
            known.append((nll["gap_total"], nll["gap_total_se"], model["name"], bound))
    if len(known) < 2:
        return _of_areas(metrics["models"])
    (gap, se, name, _), (after, error, other, bound) = sorted(known)[:2]
    if gap < -TOLD * se:
        return _above(f"{name}:", gap, se)
    figures = f"{name} loses {measured(gap, se)} nats a row, {other} {measured(after, error)}"
    if after - gap <= SIGMAS * math.hypot(se, error):
        return Conclusion("unknown", "Their likelihoods cannot be told apart.", f"{figures}.")
    if bound:
        text = f"{figures} at most: its log p is a lower bound, so that it may be the better one."
        return Conclusion("unknown", "Cannot tell which is better.", text)
    return Conclusion("good", f"{name} is the closest to the exact law.", f"{figures}.")


def _of_areas(models: Sequence[Mapping[str, Any]]) -> Conclusion:
    """Of several models without an exact law: which one a classifier tells least from true x."""
    known = []
    for model in models:
        every = (model.get("comparison") or {}).get("classifiers") or {}
        test = every.get("low") or {}
        if _known(test.get("auc"), test.get("se")) and test.get("control_caught", True):
            known.append((test["auc"], test["se"], model["name"]))
    if len(known) < 2:
        text = "There is no exact law here, nor a comparison, that two of them were held against."
        return Conclusion("unknown", "Cannot tell which is better.", text)
    (area, se, name), (after, error, other) = sorted(known)[:2]
    text = (
        f"A classifier between it and true x has an area of {measured(area, se)}, of {other} "
        f"{measured(after, error)}; 0.5 is chance."
    )
    if after - area <= SIGMAS * math.hypot(se, error):
        return Conclusion("unknown", f"{name} and {other} cannot be told apart.", text)
    return Conclusion("good", f"{name} is the hardest to tell from true x.", text)


def responses_conclusion(metrics: Mapping[str, Any]) -> Conclusion:
    """Of figures of several sizes: whether they are the exact ones, and where curves cross."""
    text = "".join(
        f" Curves of L = {number(c['sizes'][0], 4)} and {number(c['sizes'][1], 4)} ({c['kind']}) "
        f"cross at {measured(c['at'], c['se'])}; the infinite system is critical at "
        f"{number(metrics['critical'], 4)}."
        for c in metrics["crossings"][-1:]
    )
    known = [
        (found["p_value"], found, name, one)
        for one in metrics["sizes"]
        for name, found in one["agreement"].items()
        if found
    ]
    if not known:
        return Conclusion("unknown", "Cannot tell.", f"Nothing exact is known here.{text}")
    p, found, name, one = min(known, key=lambda k: k[0])
    if p * len(known) < SHIFTED:
        at = number(one["at"][found["worst"]], 3)
        told = f"{one['name']}: the {metrics['labels'][name]['title']} at {at} is "
        chance = f"p = {number(p)}" if p > TINY else f"p < {number(TINY)}"
        figures = f"{number(abs(found['pull']))} standard errors off ({chance})."
        return Conclusion("bad", "These are not the exact figures.", told + figures + text)
    symbol = metrics["coordinate"]["latex"] or "θ"
    judged = [o for o in metrics["sizes"] if o["agreement"]]
    shifts = [o["least_shift"] for o in judged]
    if None in shifts or max(shifts) > POWERFUL:
        weak = f"Nothing differs, but these rows would not tell a {symbol} that is 5 % off."
        return Conclusion("unknown", "Cannot tell.", weak + text)
    told = f"A {symbol} that is {number(100 * max(shifts))} % off would have been told."
    return Conclusion("good", "Nothing tells these figures from the exact ones.", told + text)


def data_conclusion(metrics: Mapping[str, Any]) -> Conclusion:
    """Of rows that are shown as they are: how many, of what, and what could judge them."""
    law = metrics["law"]
    names = ", ".join(Prior.from_json(law["prior"]).names)
    text = (
        f"{metrics['rows']:,} rows, θ = ({names}), x of {law['support']}. Nothing is judged here: "
        "physgen compare judges two files, physgen validate a surrogate."
    )
    return Conclusion("unknown", "", text)


def _float(value: object) -> float:
    """A number; NaN where there is none."""
    return float(value) if isinstance(value, int | float) else math.nan


def _known(*values: object) -> bool:
    """Whether all are numbers."""
    return all(isinstance(v, int | float) and math.isfinite(v) for v in values)

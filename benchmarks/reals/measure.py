"""One law, one method, one seed: trained and measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import physgen
from benchmarks.reals.methods import Learnt, learn
from benchmarks.reals.pictures import keep_densities
from benchmarks.reals.truth import COLLAPSED, Moments, Truth
from physgen.checks.estimate import estimate
from simulators.base import Array

__all__ = ["measure"]

LEAST = 5
"""Posteriors that must be affordable, or none is compared."""


def measure(
    truth: Truth,
    method: str,
    seed: int,
    seconds: float,
    simulations: int,
    limit: float,
    picture: Path,
) -> dict[str, Any]:
    """Train a method and hold it against the truth.

    Args:
        truth: of the law.
        method: one of sbi's, or a family with options.
        seed: of data and training.
        seconds: CPU time of the training.
        simulations: rows to train on.
        limit: CPU time that its posteriors may take.
        picture: file for its density in the plane, where x has two components.

    Returns:
        JSON data: CPU seconds, gap, posterior errors and rates.
    """
    data = physgen.simulate(truth.simulator, n=simulations, seed=seed)
    start = time.process_time()
    learnt = learn(method, data, seed, seconds)
    found: dict[str, Any] = {"cpu": time.process_time() - start, "told": learnt.told}
    found["history"] = {k: [round(v, 5) for v in values] for k, values in learnt.history.items()}
    found |= {"heats": learnt.heats} if learnt.heats else {}
    found |= gap(truth, learnt) | rates(truth, learnt)
    if truth.task.window and learnt.log_prob:
        keep_densities(truth.task, learnt.log_prob, picture)
    return found | posteriors(truth, learnt, found.get("log_p_rate"), limit)


def gap(truth: Truth, learnt: Learnt) -> dict[str, Any]:
    """Nats above the floor over the test rows, their standard error, and the median."""
    if learnt.log_prob is None:
        return {}
    lost = truth.log_p - learnt.log_prob(*truth.rows)
    bad = ~np.isfinite(lost)
    found = estimate(lost[~bad])
    return {
        "gap": [found.value, found.se],
        "median": float(np.median(lost)),
        "bad": int(bad.sum()),
    }


def rates(truth: Truth, learnt: Learnt) -> dict[str, float]:
    """log p as posteriors ask for it, and samples, a CPU second."""
    theta, x = truth.rows
    found: dict[str, float] = {}
    if learnt.observe is not None:
        one = theta[:200, None]
        found["log_p_rate"] = rate(lambda: learnt.observe(x[:200])(one), len(one))  # type: ignore[misc]
    if learnt.sample is not None:
        found["sample_rate"] = rate(lambda: learnt.sample(theta), len(theta))  # type: ignore[misc]
    return found


def rate(call: Callable[[], Any], rows: int, most: float = 1.0) -> float:
    """Rows a CPU second, over at least two calls, the first not counted where it is quick."""
    start = time.process_time()
    call()
    if (first := time.process_time() - start) > most:
        return rows / first
    calls, start = 0, time.process_time()
    while time.process_time() - start < min(most, 5 * first + 0.05):
        call()
        calls += 1
    return rows * calls / (time.process_time() - start)


def posteriors(
    truth: Truth, learnt: Learnt, log_p_rate: float | None, limit: float
) -> dict[str, Any]:
    """Errors of means in exact widths, and ratios of widths, over observations."""
    start = time.process_time()
    if learnt.draw is not None:
        theta = learnt.draw(truth.observed)
        found = Moments(theta.mean(1), theta.std(1), np.full(len(theta), math.inf))
    elif learnt.observe is not None:
        n = len(truth.observed)
        few = min(n, int(limit * (log_p_rate or 0.0) / truth.points))
        if few < LEAST:
            return {"posterior": f"{truth.points / (log_p_rate or math.nan):.0f} CPU s each"}
        found = truth.moments(learnt.observe, few)
    else:
        return {}
    spent = (time.process_time() - start) / len(found.mean)
    return compared(truth, found) | {"posterior_cpu": spent}


def compared(truth: Truth, found: Moments) -> dict[str, Any]:
    """Errors and ratios of posteriors, the first of the observations."""
    n = len(found.mean)
    exact = Moments(*(values[:n] for values in truth.exact))
    shift, ratio = abs(found.mean - exact.mean) / exact.sd, found.sd / exact.sd
    told = estimate(shift.mean(1))
    return {
        "error": [told.value, told.se],
        "ratio": float(np.exp(np.log(ratio).mean())),
        "errors": each(shift),
        "ratios": each(ratio),
        "observations": n,
        "collapsed": int((found.worth < COLLAPSED).sum()),
    } | ({} if np.isnan(exact.worth).all() else {"exact_worth": float(exact.worth.min())})


def each(values: Array) -> list[float]:
    """Mean over observations (n, D) of each parameter."""
    return [round(float(v), 4) for v in values.mean(0)]

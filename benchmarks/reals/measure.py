"""One law, one method, one seed: trained and measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import physgen
from benchmarks.reals.methods import Learnt, learn
from benchmarks.reals.pictures import keep_densities
from benchmarks.reals.truth import COLLAPSED, TEST, Moments, Truth
from physgen.checks.estimate import estimate
from physgen.dataset import Dataset
from simulators.base import Array

__all__ = ["measure"]

ROWS, MANY = 200, 20
"""Rows whose log p is timed, and at how many θ each, where it is quick."""
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
    found |= gap(truth, learnt, data) | rates(truth, learnt)
    if truth.task.window and learnt.log_prob:
        keep_densities(truth.task, learnt.log_prob, picture)
    return found | posteriors(truth, learnt, found.get("log_p_rate"), limit)


def gap(truth: Truth, learnt: Learnt, data: Dataset) -> dict[str, Any]:
    """Nats above the floor over the test rows, their standard error and median; overfitting.

    Overfitting is by how much less the gap is over as many rows of the training.
    """
    if learnt.log_prob is None:
        return {}
    theta, x = data.theta[:TEST], data.x[:TEST]
    lost = truth.log_p - learnt.log_prob(*truth.rows)
    there = truth.simulator.log_prob(theta, x) - learnt.log_prob(theta, x)
    test, train = (estimate(rows[np.isfinite(rows)]) for rows in (lost, there))
    return {
        "gap": list(test),
        "median": float(np.median(lost)),
        "bad": int((~np.isfinite(lost)).sum()),
        "overfitting": [test.value - train.value, math.hypot(test.se, train.se)],
    }


def rates(truth: Truth, learnt: Learnt) -> dict[str, float]:
    """log p as posteriors ask for it, and samples, a CPU second."""
    theta, x = truth.rows
    found: dict[str, float] = {}
    if learnt.observe is not None:
        for many in (1, MANY):
            points = theta[:ROWS, None].repeat(many, axis=1)
            found["log_p_rate"] = rate(partial(learnt.observe(x[:ROWS]), points), ROWS * many)
            if found["log_p_rate"] < ROWS * MANY:
                break
    if learnt.sample is not None:
        found["sample_rate"] = rate(partial(learnt.sample, theta), len(theta))
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

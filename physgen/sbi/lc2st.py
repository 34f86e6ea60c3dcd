"""The statistic of the local classifier two-sample test (LC2ST), by sbi.

A classifier is trained to tell θ from draws of a posterior, x being given; at one x, the mean
square by which its answers to that posterior's draws differ from ½ is 0 where the posterior is
right (Linhart, Gramfort & Rodrigues 2023, arXiv:2306.03580). Here it is a logistic regression on
products of pairs.
"""

from __future__ import annotations

import numpy as np

from physgen.sbi.manners import single
from simulators.base import Array

__all__ = ["lc2st_statistic"]

STRENGTH = 0.1
"""Inverse of the regression's penalty."""


def lc2st_statistic(true: Array, drawn: Array, x: Array, draws: Array, places: Array) -> Array:
    """How well a classifier tells θ from a draw of its posterior, at each of some x.

    Args:
        true: θ of each row, (n, D).
        drawn: one draw of its posterior, (n, D).
        x: features of what was observed, (n, F).
        draws: K draws of the posterior at each of the places, (P, K, D).
        places: features of x there, (P, F).

    Returns:
        (P,).
    """
    from sbi.diagnostics import LC2ST
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    steps = [
        ("scale", StandardScaler()),
        ("products", PolynomialFeatures(2, include_bias=False)),
        ("classify", LogisticRegression(C=STRENGTH, max_iter=500)),
    ]
    test = LC2ST(
        single(true), single(x), single(drawn),
        classifier=Pipeline, classifier_kwargs={"steps": steps},
    ).train_on_observed_data(verbosity=0)  # fmt: skip
    at = zip(single(draws), single(places), strict=True)
    return np.array([test.get_statistic_on_observed_data(theta, one) for theta, one in at])

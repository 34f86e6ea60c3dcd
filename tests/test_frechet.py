"""Fréchet and kernel distances: closed forms, sums term by term, and the bias at small N."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from physgen.checks.two_sample.frechet import (
    at_infinity,
    fpd,
    frechet_distance,
    kpd,
    polynomial_kernel,
)


def normals(n, cov, seed, mean=0.0):
    rng = np.random.default_rng(seed)
    return mean + rng.standard_normal((n, len(cov))) @ np.linalg.cholesky(cov).T


def test_frechet_distance_of_two_gaussians_is_the_closed_form():
    s = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, 0.3], [0.0, 0.3, 0.5]])
    t = np.array([[0.7, -0.2, 0.1], [-0.2, 1.5, 0.0], [0.1, 0.0, 0.9]])
    mean = np.array([0.3, 0.0, -0.5])
    exact = mean @ mean + np.trace(s + t - 2 * np.real(sqrtm(s @ t)))
    found = frechet_distance(normals(200_000, s, 0), normals(200_000, t, 1, mean))
    assert found == pytest.approx(exact, rel=0.02)


def test_frechet_distance_of_singular_features():
    a, b = normals(5000, np.eye(2), 0), normals(5000, np.eye(2), 1, 0.5)
    doubled = frechet_distance(a[:, [0, 1, 1]], b[:, [0, 1, 1]])
    assert doubled == pytest.approx(0.75, rel=0.1)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-10)


def test_fpd_of_one_law_is_biased_and_its_null_says_so():
    """d = 41 features of 600 rows: the distance is far from 0, as it is in half of all deals."""
    a, b = normals(600, np.eye(41), 0), normals(600, np.eye(41), 1)
    found = fpd(a, b, np.random.default_rng(0))
    assert found.plain.value > 20 * abs(found.infinite.value - found.infinite.null)
    assert found.plain.value == pytest.approx(found.plain.null, rel=0.1)
    assert found.halves == pytest.approx(2 * found.plain.null, rel=0.2)
    assert abs(found.infinite.null) < 0.12 * found.plain.null
    assert min(found.plain.p_value, found.infinite.p_value) > 0.02


def test_fpd_sees_a_shift_and_a_width():
    a, rng = normals(400, np.eye(5), 0), np.random.default_rng(0)
    for other in (normals(400, np.eye(5), 1, 0.3), normals(400, 1.5 * np.eye(5), 1)):
        found = fpd(a, other, rng)
        assert max(found.plain.p_value, found.infinite.p_value) < 0.02
        assert found.plain.value > 2 * found.plain.null_95


def test_at_infinity_removes_the_bias_on_average():
    pairs = [at_infinity(*np.random.default_rng(i).normal(size=(2, 200, 7))) for i in range(60)]
    plain, infinite = np.mean(pairs, 0)
    spread = np.std(pairs, 0)[1] / np.sqrt(60)
    assert abs(infinite) < 3 * spread + 0.03 * plain
    assert plain > 10 * spread


def test_fpd_of_pairs_deals_in_pairs():
    """What both rows of a pair share cannot separate them, and makes the null narrower."""
    theta = 5 * np.random.default_rng(2).normal(size=(300, 1))
    a, b = theta + normals(300, np.eye(3), 0), theta + normals(300, np.eye(3), 1)
    paired, free = (fpd(a, b, np.random.default_rng(0), paired=p).plain for p in (True, False))
    assert paired.null < 0.5 * free.null
    assert paired.p_value > 0.02


def test_polynomial_kernel_term_by_term():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 5)), rng.normal(size=(2, 5))
    expected = [
        [(sum(p * q for p, q in zip(u, v, strict=True)) / 5 + 1) ** 4 for v in y] for u in x
    ]
    np.testing.assert_allclose(polynomial_kernel(x, y), expected)


def test_kpd_is_the_median_of_sums_over_all_pairs():
    a, b = normals(70, np.eye(2), 0), normals(70, np.eye(2), 1, 0.4)
    most = abs(a).max(0)

    def k(u, v):
        return ((u / most) @ (v / most) / 2 + 1) ** 4

    def unbiased(x, y):
        n = len(x)
        within = sum(k(s[i], s[j]) for s in (x, y) for i in range(n) for j in range(n) if i != j)
        return within / (n * (n - 1)) - 2 * sum(k(u, v) for u in x for v in y) / n**2

    batches = [unbiased(a[i : i + 7], b[i : i + 7]) for i in range(0, 70, 7)]
    found = kpd(a, b, np.random.default_rng(0))
    assert found.median.value == pytest.approx(np.median(batches))
    assert found.se == pytest.approx(np.sqrt(np.pi / 20) * np.std(batches, ddof=1))
    assert found.batch == 7


def test_kpd_reads_its_null_for_one_law_and_more_for_another():
    a, rng = normals(1000, np.eye(3), 0), np.random.default_rng(0)
    same, other = (kpd(a, normals(1000, np.eye(3), 1, m), rng).median for m in (0.0, 0.4))
    assert same.p_value > 0.02
    assert other.p_value < 0.01
    assert other.value > 3 * other.null_95

"""The law of a cell's energy by second routes: scipy's Bessel functions, quadrature, sums."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import special, stats

from simulators.shower.compound import gamma_p, log_atom, log_density, series

RATES = [0.01, 0.1, 0.7, 1.0, 5.0, 30.0, 300.0, 1e4]


def quadrature(low, high, points=400):
    """Nodes y and weights of ∫ dy, by Gauss–Legendre in √y between √low and √high."""
    t, w = np.polynomial.legendre.leggauss(points)
    root = np.sqrt(low) + (np.sqrt(high) - np.sqrt(low)) * (t + 1) / 2
    return root**2, w * (np.sqrt(high) - np.sqrt(low)) * root


def moments(rate, density_rate=None):
    """Atom + integral, mean and variance of y, the mass lying within 7 of √λ in √y."""
    root = np.sqrt(rate)
    y, w = quadrature(max(root - 7, 0) ** 2, (root + 7) ** 2)
    p = w * np.exp(log_density(y, density_rate or rate))
    return np.exp(-rate) + p.sum(), p @ y, p @ y**2 - (p @ y) ** 2


@pytest.mark.parametrize("rate", RATES)
def test_the_law_has_mass_1_mean_λ_and_variance_2λ(rate):
    mass, mean, variance = moments(rate)
    assert abs(mass - 1) < 5e-11
    assert_allclose([mean, variance], [rate, 2 * rate], rtol=1e-8)


@pytest.mark.parametrize("rate", RATES[:5])
def test_an_atom_that_does_not_belong_to_the_density_is_seen(rate):
    assert abs(moments(rate, 1.001 * rate)[0] - 1) > 1e-7


def bessel(y, rate):
    """log of e·p(x) by scipy's scaled Bessel function."""
    w = rate * y
    return np.log(rate * special.ive(1, 2 * np.sqrt(w)) / np.sqrt(w)) + 2 * np.sqrt(w) - rate - y


def test_density_against_bessel_functions():
    y, rate = np.meshgrid(np.geomspace(1e-6, 2e4, 131), np.geomspace(1e-4, 2e4, 137))
    assert_allclose(log_density(y, rate), bessel(y, rate), rtol=1e-12, atol=1e-11)
    assert not np.allclose(log_density(y, rate), bessel(y, 1.0001 * rate), rtol=1e-12, atol=1e-11)
    assert log_density(1.0, 0.0) == -np.inf


@pytest.mark.parametrize("edge", [0.2, 16.0, 100.0, 1600.0])
def test_the_series_continue_each_other(edge):
    (u, v), (p, q) = series(edge * (1 - 1e-14)), series(edge)
    assert_allclose(np.log(v) + u, np.log(q) + p, atol=5e-13)


def brute_atom(rate, threshold):
    n = np.arange(1, 30_000)
    return np.exp(-rate) + stats.poisson.pmf(n, rate) @ special.gammainc(n, threshold)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("threshold", [1e-3, 0.3, 4.0, 60.0])
def test_threshold_against_quadrature_and_sum(rate, threshold):
    y, w = quadrature(0, threshold)
    atom = np.logaddexp(-rate, special.logsumexp(log_density(y, rate), b=w))
    assert_allclose(log_atom(rate, threshold), atom, rtol=1e-11, atol=1e-11)
    if atom > -500:
        assert_allclose(np.exp(log_atom(rate, threshold)), brute_atom(rate, threshold), rtol=1e-10)
    assert abs(log_atom(rate, 1.01 * threshold) - atom) > 1e-11 or atom > -1e-11


def test_thresholds_of_nothing_and_of_everything():
    assert log_atom(3.7, 0.0) == -3.7
    sure = log_atom(np.array([0.0, 5.0, 1e4]), np.array([2.0, 900.0, 2e4]))
    assert_allclose(sure, 0, atol=1e-12)


def test_sums_of_cells_stay_in_the_family():
    """The density of x₁ + x₂ at λ₁, λ₂, by convolution, is that at λ₁ + λ₂, and at no other."""
    first, second = 0.7, 1.9
    for total in (0.05, 1.0, 3.3, 14.0):
        t, w = np.polynomial.legendre.leggauss(60)
        u, w = total * (t + 1) / 2, total * w / 2
        both = w @ np.exp(log_density(u, first) + log_density(total - u, second))
        one = np.exp(log_density(total, second) - first) + np.exp(
            log_density(total, first) - second
        )
        assert_allclose(both + one, np.exp(log_density(total, first + second)), rtol=1e-12)
        assert abs((both + one) / np.exp(log_density(total, first + second + 0.01)) - 1) > 1e-4


def test_the_incomplete_gamma_function():
    a, z = np.meshgrid(np.geomspace(1.1, 40, 23), np.geomspace(1e-3, 100, 29))
    ours = np.vectorize(gamma_p)(a, z)
    assert_allclose(ours, special.gammainc(a, z), rtol=2e-12, atol=1e-300)
    assert not np.allclose(ours, special.gammainc(a, 1.001 * z), rtol=2e-12)
    assert gamma_p(2.0, 0.0) == gamma_p(2.0, -1.0) == 0

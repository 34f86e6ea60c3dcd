"""Comparisons with the exact answer, where the difference itself is known in closed form."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from physgen.checks.estimate import bins, estimate
from physgen.checks.exact.agreement import agreement
from physgen.checks.exact.gap import log_mass, never_above, paired
from physgen.posterior.grid import grid_posterior, iid_sets, of_exact
from simulators.gaussian import LinearGaussian


def rows(simulator, n, seed=0):
    rng = np.random.default_rng(seed)
    theta = simulator.prior.replace(theta1=(-1.0, 1.0)).sample(n, rng)
    return theta, simulator.sample(theta, rng)


def shifted(simulator, shift):
    """log p with the mean of x moved by A shift: the posterior moves by −shift."""
    return lambda theta, x: simulator.log_prob(theta + shift, x)


def posteriors(simulator, log_prob, x):
    return grid_posterior(of_exact(log_prob, x), simulator.prior, len(x))


def test_the_paired_gap_is_the_divergence():
    simulator = LinearGaussian(size=5, parameters=1)
    theta, x = rows(simulator, 4000)
    shift = 0.1
    gap = estimate(simulator.log_prob(theta, x) - shifted(simulator, shift)(theta, x))
    kl = ((simulator.matrix[:, 0] * shift) ** 2).sum() / (2 * simulator.noise**2)
    assert gap.se == pytest.approx(np.sqrt(2 * kl / 4000), rel=0.1)
    assert gap.value == pytest.approx(kl, abs=4 * gap.se)


def above(exact, model):
    return never_above(paired(exact, model, model[None]))


def test_never_above_passes_the_exact_law_and_any_other_but_not_an_unnormalised_one():
    simulator = LinearGaussian(size=5, parameters=1)
    theta, x = rows(simulator, 1000)
    exact = simulator.log_prob(theta, x)
    assert above(exact, exact).passed
    assert above(exact, shifted(simulator, 0.1)(theta, x)).passed
    assert above(exact, replace(simulator, noise=0.6).log_prob(theta, x)).passed
    cheat = above(exact, exact + 0.1 + np.random.default_rng(1).normal(size=1000) / 10)
    assert not cheat.passed
    assert cheat.p_value < 1e-6


def test_an_error_that_all_rows_share_is_part_of_the_gaps():
    exact = np.random.default_rng(0).normal(size=400)
    model = exact + 0.05
    assert not never_above(paired(exact, model, model[None])).passed
    replicas = model + np.array([-0.1, 0.1])[:, None]
    told = paired(exact, model, replicas)
    assert told.value == pytest.approx(-0.05)
    assert told.se == pytest.approx(0.1)
    assert never_above(told).passed


def test_the_mass_tells_a_wrong_normalisation_from_a_wrong_law():
    """E_p[q/p] is 1 for any q that is normalised, and e^δ for one that is e^δ too large."""
    simulator = LinearGaussian(size=5, parameters=1)
    theta, x = rows(simulator, 4000)
    exact = simulator.log_prob(theta, x)
    other = replace(simulator, noise=1.05 * simulator.noise).log_prob(theta, x)
    for delta in (0.0, 0.2):
        found = log_mass(exact, other + delta, other[None] + delta)
        assert abs(found.value - delta) < 5 * found.se
        assert found.se < 0.03
    assert found.value > 5 * found.se
    replicas = other + np.array([-0.3, 0.3])[:, None]
    assert log_mass(exact, other, replicas).se == pytest.approx(0.3, rel=0.1)
    far = shifted(simulator, 3.0)(theta, x)  # a few rows carry all of E[q/p]
    assert np.isnan(log_mass(exact, far, far[None]).value)


def test_a_shift_of_the_mean():
    simulator = LinearGaussian(size=7, parameters=1, noise=0.2)
    _, x = rows(simulator, 13)
    width = np.sqrt(simulator.posterior(x)[1][0, 0])
    exact = posteriors(simulator, simulator.log_prob, x)
    moved = agreement(exact, posteriors(simulator, shifted(simulator, 0.3 * width), x))
    np.testing.assert_allclose(moved.shift, -0.3, atol=1e-3)
    np.testing.assert_allclose(moved.ratio, 1, atol=1e-3)
    np.testing.assert_allclose(moved.tv, 2 * norm.cdf(0.15) - 1, atol=1e-3)
    np.testing.assert_allclose(moved.kl, 0.3**2 / 2, atol=1e-3)
    np.testing.assert_allclose(moved.c2st, norm.cdf(0.15), atol=1e-3)
    far = agreement(exact, posteriors(simulator, shifted(simulator, 10 * width), x))
    np.testing.assert_allclose(far.tv, 1, atol=1e-5)
    np.testing.assert_allclose(far.kl, 50, rtol=1e-3)


def test_a_ratio_of_widths_and_the_same_posterior():
    simulator = LinearGaussian(size=7, parameters=1, noise=0.2)
    _, x = rows(simulator, 13)
    exact = posteriors(simulator, simulator.log_prob, x)
    wide = agreement(exact, posteriors(simulator, replace(simulator, noise=0.25).log_prob, x))
    np.testing.assert_allclose(wide.shift, 0, atol=1e-3)
    np.testing.assert_allclose(wide.ratio, 1.25, atol=1e-3)
    np.testing.assert_allclose(wide.kl, np.log(1.25) + 0.5 / 1.25**2 - 0.5, atol=1e-3)
    same = agreement(exact, exact)
    assert abs(same.shift).max() == same.tv.max() == same.kl.max() == 0


def test_two_parameters(monkeypatch):
    simulator = LinearGaussian(size=7, parameters=2, noise=0.1)
    _, x = rows(simulator, 5)
    mean, cov = simulator.posterior(x)
    width = np.sqrt(np.diag(cov))
    inside = (abs(mean) + 6 * width < 2).all(-1)
    shift = np.array([0.5, -0.2]) * width
    exact = posteriors(simulator, simulator.log_prob, x)
    model = posteriors(simulator, shifted(simulator, shift), x)
    whole = agreement(exact, model)
    kl = shift @ np.linalg.inv(cov) @ shift / 2
    np.testing.assert_allclose(whole.kl[inside], kl, rtol=0.01)
    np.testing.assert_allclose(whole.shift[inside], [[-0.5, 0.2]] * inside.sum(), atol=2e-3)
    monkeypatch.setattr("physgen.checks.exact.agreement.AT_ONCE", 1)
    np.testing.assert_array_equal(agreement(exact, model).tv, whole.tv)


def test_ten_iid_rows_feel_a_shift_more():
    simulator = LinearGaussian(size=5, parameters=1)
    theta = np.array([[0.3], [-0.9]]).repeat(10, 0)
    x = simulator.sample(theta, np.random.default_rng(0))

    def sets(log_prob):
        return grid_posterior(iid_sets(of_exact(log_prob, x), 10), simulator.prior, 2)

    width = np.sqrt(simulator.posterior(x)[1][0, 0])
    moved = agreement(sets(simulator.log_prob), sets(shifted(simulator, 0.1 * width)))
    np.testing.assert_allclose(moved.shift, -0.1 * np.sqrt(10), atol=2e-3)


def test_bins_hold_each_row_once_and_skip_the_empty():
    parameter = np.array([0.0, 0.1, 0.5, 1.0])
    parts = list(bins(parameter, 0.0, 1.0, 4))
    assert [(low, high) for low, high, _ in parts] == [(0, 0.25), (0.5, 0.75), (0.75, 1)]
    assert np.concatenate([r for *_, r in parts]).tolist() == [0, 1, 2, 3]


def test_estimates_of_too_few_values_have_no_error():
    assert np.isnan(estimate(np.array([1.0])).se)
    assert np.isnan(estimate(np.array([])).value)

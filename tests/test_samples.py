"""Two-sample checks: each must see what it should, and read its null where there is nothing."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from physgen.checks.two_sample.c2st import area, c2st, jensen_shannon
from physgen.checks.two_sample.mmd import mmd
from physgen.checks.two_sample.permutations import deals, first_of, shuffle_components
from physgen.checks.two_sample.separation import (
    common_edges,
    counts,
    js_distance,
    kl_divergence,
    separation_power,
)


def normals(n, d=3, seed=0, rho=0.0, shift=0.0):
    rng = np.random.default_rng(seed)
    cov = np.full((d, d), rho) + (1 - rho) * np.eye(d)
    return shift + rng.multivariate_normal(np.zeros(d), cov, size=n)


def histograms(shift, n=200_000):
    a, b = normals(n, 1)[:, 0], normals(n, 1, seed=1, shift=shift)[:, 0]
    edges = common_edges(a, 60)
    return counts(a, edges), counts(b, edges)


def test_divergences_of_histograms_agree_with_quadrature():
    p, q = histograms(0.5)
    x = np.linspace(-9, 9, 4001)
    f, g = norm.pdf(x), norm.pdf(x, 0.5)
    m = (f + g) / 2
    js = np.trapezoid(f * np.log(f / m) + g * np.log(g / m), x) / 2
    assert js_distance(p, q, np.random.default_rng(0)).value == pytest.approx(js**0.5, rel=0.01)
    some = (p > 0) & (q > 0)
    assert kl_divergence(p[some], q[some]) == pytest.approx(0.125, rel=0.03)
    assert kl_divergence(np.array([1, 1]), np.array([1, 0])) == np.inf


def test_js_distance_reads_its_null_for_the_same_law_and_more_for_another():
    p, q = histograms(0.0, n=2000)
    same = js_distance(p, q, np.random.default_rng(0))
    assert 0.03 < same.null < 0.2
    assert same.value == pytest.approx(same.null, rel=0.35)
    other = js_distance(*histograms(0.5, n=2000), np.random.default_rng(0))
    assert other.value > 1.5 * other.null


def test_counts_keep_what_lies_outside():
    edges = common_edges(np.array([0.0, 0.5, 1.0]), 4)
    assert counts(np.array([-5.0, 0.1, 0.6, 9.0]), edges).tolist() == [2, 0, 1, 1]


def test_bins_of_whole_numbers_hold_as_many_each():
    assert common_edges(np.array([0, 1, 3])).tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5]
    assert set(np.diff(common_edges(np.arange(100.0), 40))) == {3.0}


def test_mmd_sees_a_shift_and_a_correlation_but_not_the_same_law():
    a, rng = normals(500), np.random.default_rng(0)
    same = mmd(a, normals(700, seed=1), rng)
    assert same.p_value > 0.01
    assert abs(same.value) < 3 * same.null
    for other in (normals(500, seed=1, shift=0.4), normals(500, seed=1, rho=0.8)):
        found = mmd(a, other, rng)
        assert found.p_value < 0.01
        assert found.value > 2 * found.null


def test_mmd_is_unbiased():
    values = [
        mmd(
            normals(60, seed=2 * i),
            normals(60, seed=2 * i + 1),
            np.random.default_rng(i),
            permutations=1,
        ).value
        for i in range(100)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / 10


def test_c2st_reads_a_half_for_the_same_law():
    test = c2st(normals(400), normals(400, seed=1))
    assert abs(test.accuracy - 0.5) < 4 * test.se
    assert abs(test.null - 0.5) < 4 * test.se


def test_c2st_comes_near_the_best_classifier_for_a_shift():
    test = c2st(normals(1000), normals(1000, seed=1, shift=0.6))
    best = norm.cdf(0.6 * np.sqrt(3) / 2)
    assert best - 0.04 < test.accuracy < best + 3 * test.se


def divergence(shift):
    """JS of two unit normals whose means are so far apart, by quadrature."""
    x = np.linspace(-9, 9 + shift, 4001)
    f, g = norm.pdf(x), norm.pdf(x, shift)
    m = (f + g) / 2
    return np.trapezoid(f * np.log(f / m) + g * np.log(g / m), x) / 2


@pytest.mark.slow
@pytest.mark.parametrize("shift", [pytest.param(0.6, marks=pytest.mark.slow), 1.5])
def test_js_of_normals_is_below_the_exact_one_and_near_it(shift):
    js = c2st(normals(2000), normals(2000, seed=1, shift=shift)).js
    exact = divergence(shift * np.sqrt(3))
    assert 0.85 * exact - 2 * js.se < js.value < exact + 2 * js.se
    assert js.se < 0.1 * exact
    assert abs(js.null) < 3e-3


@pytest.mark.parametrize(
    ("n", "d"),
    [(1000, 67), *(pytest.param(n, 3, marks=pytest.mark.slow) for n in (400, 2000))],
)
def test_js_of_equal_laws_is_zero(n, d):
    """Also where the network learns its rows by heart: 67 numbers, 1600 rows."""
    js = c2st(normals(n, d), normals(n, d, seed=1)).js
    assert abs(js.value) < 3 * js.se + 1e-3
    assert abs(js.null) < 6e-3


def test_js_of_the_best_logit_is_exact_and_does_not_ask_for_its_scale():
    n, shift = 50_000, 1.3
    a, b = normals(n, 1)[:, 0], normals(n, 1, seed=1, shift=shift)[:, 0]
    x = torch.from_numpy(np.concatenate([a, b]).reshape(2, 5, -1)).transpose(0, 1).flatten(1)
    y = torch.arange(2).repeat_interleave(n // 5).expand(5, -1) == 0
    best = shift * (shift / 2 - x)
    for scale in (1, 4):
        value, se = jensen_shannon(scale * best, y.float())
        assert value == pytest.approx(divergence(shift), abs=4 * se)
        assert 0 < se < 0.01 * divergence(shift) + 0.002


def test_the_control_keeps_marginals_and_is_caught():
    x = normals(600, d=5, rho=0.8)
    control = shuffle_components(x, np.random.default_rng(3))
    np.testing.assert_array_equal(np.sort(control, 0), np.sort(x, 0))
    assert abs(np.corrcoef(control.T)[0, 1]) < 0.15
    assert c2st(normals(600, d=5, rho=0.8, seed=4), control).accuracy > 0.75


@pytest.mark.slow
def test_c2st_with_theta_sees_what_the_marginal_law_hides():
    theta = np.random.default_rng(0).choice([-1.0, 1.0], (300, 1))
    a, b = theta + 0.5 * normals(300, 1), -theta + 0.5 * normals(300, 1, seed=1)
    assert c2st(a, b).accuracy < 0.58
    assert c2st(a, b, given=(theta, theta)).accuracy > 0.9


@pytest.mark.usefixtures("quick")
def test_c2st_repeats_and_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    a, b = normals(50), normals(50, seed=1)
    assert c2st(a, b, seed=3) == c2st(a, b, seed=3)
    assert torch.equal(state, torch.random.get_rng_state())
    with pytest.raises(ValueError, match="two samples of n >= 10"):
        c2st(a, b[:-1])


def test_separation_power_of_hand_made_histograms():
    p, q = np.array([3, 1, 0, 0]), np.array([1, 1, 2, 0])
    assert separation_power(p, q) == pytest.approx((0.5**2 / 1 + 0 + 0.5**2 / 0.5) / 2)
    both = separation_power(np.array([[2, 0], [2, 6], [1, 0]]), np.array([[0, 5], [1, 3], [0, 0]]))
    np.testing.assert_allclose(both, [1, 0, 0.5])


def test_separation_power_of_normals_is_the_integral():
    p, q = histograms(0.5)
    x = np.linspace(-9, 9, 4001)
    f, g = norm.pdf(x), norm.pdf(x, 0.5)
    assert separation_power(p, q) == pytest.approx(
        np.trapezoid((f - g) ** 2 / (f + g), x) / 2, rel=0.02
    )


@pytest.mark.parametrize("paired", [False, True])
def test_deals_begin_with_the_samples_and_keep_every_row(paired):
    order = deals(7, 7, np.random.default_rng(0), 11, paired=paired)
    np.testing.assert_array_equal(order[0], np.arange(14))
    np.testing.assert_array_equal(np.sort(order), np.tile(np.arange(14), (12, 1)))
    assert len(np.unique(order, axis=0)) == 12
    assert (order % 7 == np.arange(14) % 7).all() == paired
    labels = first_of(order, 7)
    assert (labels.sum(1) == 7).all()
    assert labels[0].tolist() == [1] * 7 + [0] * 7


def scores(n, shift, seed=0):
    """Logits and labels of two normals as one fold, (1, 2n)."""
    a, b = normals(n, 1, seed, shift=shift)[:, 0], normals(n, 1, seed + 1000)[:, 0]
    return torch.from_numpy(np.concatenate([a, b]))[None], (torch.arange(2 * n) < n)[None].float()


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_area_of_two_normals(shift):
    value, se = area(*scores(20_000, shift))
    assert value == pytest.approx(norm.cdf(shift / np.sqrt(2)), abs=4 * se)
    assert 0 < se < 0.004


def test_the_error_of_an_area_is_its_spread():
    found = np.array([area(*scores(90, 0.7, seed)) for seed in range(300)])
    assert found[:, 0].std() == pytest.approx(found[:, 1].mean(), rel=0.12)


def test_area_counts_ties_half_and_averages_folds():
    logit = torch.tensor([[1.0, 1.0, 1.0, 1.0], [9.0, 3.0, 2.0, 1.0]])
    y = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(2, -1)
    assert area(logit, y)[0] == pytest.approx(0.75)
    assert area(logit[:1], y[:1]) == (0.5, 0.0)


def test_the_area_of_c2st_comes_near_the_best_and_its_null_is_a_half():
    test = c2st(normals(1000), normals(1000, seed=1, shift=0.6)).auc
    best = norm.cdf(0.6 * np.sqrt(3 / 2))
    assert best - 0.03 < test.value < best + 3 * test.se
    assert abs(test.null - 0.5) < 4 * test.se
    alone = c2st(normals(1000), normals(1000, seed=1, shift=0.6), null=False)
    assert alone.auc.value == test.value
    assert np.isnan([alone.null, alone.js.null, alone.auc.null]).all()

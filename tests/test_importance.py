"""Importance weights, against laws whose weights are known in closed form."""

import numpy as np
import pytest

from physgen.posterior.importance import (
    MOST_K,
    effective_sample,
    pareto_k,
    resampled,
    smoothed,
)


def pareto(k, n, count, seed=0):
    """Log weights u^(−k): their tail is generalised Pareto of shape k, their mean 1/(1 − k)."""
    return -k * np.log(np.random.default_rng(seed).random((n, count)))


def test_the_effective_size_of_lognormal_weights():
    sigma = np.array([[0.1], [0.5], [1.0]])
    log_w = sigma * np.random.default_rng(0).standard_normal((3, 200_000))
    expected = 200_000 * np.exp(-(sigma[:, 0] ** 2))
    np.testing.assert_allclose(effective_sample(log_w + 1000), expected, rtol=0.03)
    extremes = np.array([[0.0, 0.0], [0.0, -np.inf], [-np.inf, -np.inf]])
    np.testing.assert_allclose(effective_sample(extremes), [2, 1, 0])


@pytest.mark.parametrize("k", [0.3, 0.6, 1.0])
def test_the_shape_of_a_pareto_tail_is_found(k):
    found = pareto_k(pareto(k, 50, 4000))
    drawn_to_half = (k * 190 + 5) / 200
    assert abs(found.mean() - drawn_to_half) < 4 * found.std() / np.sqrt(50) + 0.01
    assert (found < MOST_K).mean() == pytest.approx(float(k < MOST_K), abs=0.25)


def test_bounded_weights_are_trusted_and_a_lone_one_is_not():
    bounded = np.log(np.random.default_rng(0).random((3, 1000)))
    assert (pareto_k(bounded) < 0).all()
    lone = np.full((1, 1000), -np.inf)
    lone[0, 7] = 0
    assert pareto_k(lone) == np.inf
    assert pareto_k(np.full((1, 1000), -np.inf)) == np.inf
    assert pareto_k(np.zeros((1, 1000))) == -np.inf


def test_weights_of_zero_stay_so_and_a_tie_is_no_tail():
    log_w = np.full((1, 10_000), -np.inf)
    log_w[0, :250] = 0.01 * np.random.default_rng(0).standard_normal(250)
    assert np.isneginf(smoothed(log_w)[0, 250:]).all(), "no draw comes back from outside"
    assert pareto_k(log_w) < MOST_K
    inside = np.full((1, 10_000), -np.inf)
    inside[0, :200] = 0  # as under a narrower box
    assert pareto_k(inside) == -np.inf
    levels = np.zeros((1, 1000))
    levels[0, :30] = 1
    np.testing.assert_array_equal(smoothed(levels), levels)
    assert pareto_k(levels) == -np.inf
    rare = np.zeros((1, 1000))
    rare[0, :3] = 9
    assert pareto_k(rare) == np.inf


def test_smoothing_takes_the_luck_out_of_means():
    log_w = pareto(0.6, 400, 2000)
    smooth = smoothed(log_w)
    assert (smooth.max(1) <= log_w.max(1)).all()
    sorted_by_weight = np.take_along_axis(smooth, log_w.argsort(1), 1)
    assert (np.diff(sorted_by_weight, axis=1) >= 0).all()
    raw, better = (np.sqrt(((np.exp(w).mean(1) * 0.4 - 1) ** 2).mean()) for w in (log_w, smooth))
    assert better < 0.8 * raw
    light = 0.1 * np.random.default_rng(0).standard_normal((5, 2000))
    np.testing.assert_allclose(np.exp(smoothed(light)).mean(1), np.exp(0.005), rtol=0.01)


def test_resampled_draws_follow_the_weights():
    rng = np.random.default_rng(0)
    c = rng.standard_normal((3, 5000, 2))
    shift = np.array([0.0, 0.5, 1.0])[:, None]
    found = resampled(c, shift * c[..., 0], 4000, rng)  # a normal law, moved by the shift
    np.testing.assert_allclose(found[..., 0].mean(1), shift[:, 0], atol=0.1)
    np.testing.assert_allclose(found[..., 1].mean(1), 0, atol=0.1)
    first, again = found[:, :2000, 0].mean(1), found[:, 2000:, 0].mean(1)
    assert (abs(first - again) < 0.15).all(), "the order is random"
    counts = np.unique(resampled(c[:1], np.zeros((1, 5000)), 5000, rng)[0, :, 0])
    assert len(counts) == 5000, "of equal weights each comes up once"

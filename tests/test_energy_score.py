"""The energy score: closed forms, ranks that are uniform if posteriors are right, controls."""

import numpy as np
import pytest
from scipy.special import gamma
from scipy.stats import norm

from physgen.checks.calibration.energy import energy_scores
from physgen.checks.calibration.uniformity import rank_among, uniformity


def posteriors(seed, n=300, dims=1, draws=20):
    """θ and draws of right posteriors, in widths."""
    rng = np.random.default_rng([dims, seed])
    return rng.standard_normal((n, dims)), rng.standard_normal((n, draws, dims)), rng


def p_value(true, draws, rng):
    return uniformity(rank_among(*energy_scores(true, draws), rng)).p_value


def test_scores_of_a_normal_are_the_closed_form():
    """In one dimension the CRPS of a normal (Gneiting & Raftery 2007); in three, at its mean."""
    z = np.array([-2.0, 0.0, 0.7, 1.9])
    draws = np.random.default_rng(0).standard_normal((4, 3000, 1))
    exact = z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi)
    np.testing.assert_allclose(energy_scores(z[:, None], draws).true, exact, atol=0.04)
    draws = np.random.default_rng(1).standard_normal((3, 2000, 3))
    apart = np.sqrt(2) * gamma(2) / gamma(1.5)
    found = energy_scores(np.zeros((3, 3)), draws).true
    np.testing.assert_allclose(found, apart * (1 - 1 / np.sqrt(2)), atol=0.04)


def test_each_draw_is_scored_among_the_others_term_by_term(monkeypatch):
    monkeypatch.setattr("physgen.checks.calibration.energy.HELD", 1)  # a row at a time
    true, draws, _ = posteriors(0, n=3, dims=2, draws=5)
    found = energy_scores(true, draws)
    for i in range(3):
        points = [true[i], *draws[i]]
        for k, score in enumerate([found.true[i], *found.drawn[i]]):
            others = points[:k] + points[k + 1 :]
            near = np.mean([np.linalg.norm(p - points[k]) for p in others])
            pairs = [np.linalg.norm(p - q) for p in others for q in others if p is not q]
            assert score == pytest.approx(near - np.mean(pairs) / 2)


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.slow
def test_right_posteriors_pass_at_the_stated_rate(dims):
    p = np.array([p_value(*posteriors(seed, dims=dims)) for seed in range(300)])
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.04)
    assert p.min() > 1e-4


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("width", [0.7, 1.4])
def test_posteriors_of_another_width_are_caught(dims, width):
    for seed in range(10):
        true, draws, rng = posteriors(seed, dims=dims)
        assert p_value(true, width * draws, rng) < 1e-3


def test_wrong_correlations_are_caught_where_each_marginal_is_right():
    true, draws, rng = posteriors(0, n=1000, dims=2)
    true[:, 1] = 0.95 * true[:, 0] + np.sqrt(1 - 0.95**2) * true[:, 1]
    assert p_value(true, draws, rng) < 1e-3
    draws[..., 1] = 0.95 * draws[..., 0] + np.sqrt(1 - 0.95**2) * draws[..., 1]
    assert p_value(true, draws, rng) > 1e-3


def test_ties_are_broken_at_random():
    """θ of three values, and all equal: ranks are uniform still."""
    for values in (3, 1):
        rng = np.random.default_rng(values)
        true, draws = (rng.integers(values, size=(500, *k, 1)) for k in ((), (20,)))
        ranks = rank_among(*energy_scores(true, draws), rng)
        assert uniformity(ranks).p_value > 1e-3
        assert 0 < ranks.min() < ranks.max() < 1

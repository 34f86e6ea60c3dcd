"""p(x|θ, y) exactly: the Wiener filter by dense matrices, clamped spins by enumeration."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from simulators.field.gaussian import GaussianField
from simulators.field.lognormal import LognormalField
from simulators.ising.lattice import Ising
from simulators.measurement import linear_map

THETA = np.array([0.3, 2.0])
AXES = ("periodic", "periodic")


def dense_covariance(field, theta):
    c = GaussianField.covariance(field, theta[None])[0]
    n = np.arange(field.size)
    off = (n[:, None] - n) % field.size
    return c[off[:, None, :, None], off[None, :, None, :]].reshape(field.sites, -1)


def draws_agree(found, of=None, n=4000):
    """Whether moments are those of draws, by 5 standard errors."""
    (mean, sd), x = found.moments, (of or found).sample(n, np.random.default_rng(0))
    assert (np.abs(x.mean(0) - mean) < 5 * sd / np.sqrt(n) + 1e-6).all()
    spread = np.sqrt(((x - mean) ** 2).mean(0))
    off = 5 * np.sqrt(((x - mean) ** 4).mean(0) / n) + 1e-6  # of the variance
    assert (np.abs(spread**2 - sd**2) < off).all()


def measured(field, noise, **how):
    rng = np.random.default_rng(3)
    shape = (field.size // how.get("average", 1),) * 2
    linear = linear_map(field.x_shape, rng.random(shape) < 0.5, axes=AXES, **how)
    x = field.sample(THETA[None], rng)
    y = linear(x)[0] + noise * rng.standard_normal(shape)
    return linear, np.where(linear.seen, y, np.nan)


@pytest.mark.parametrize("how", [{}, {"blur": 0.6}, {"average": 2}])
def test_the_wiener_filter_is_that_of_dense_matrices(how):
    """(C⁻¹ + MᵀM/σ²)⁻¹ and scipy's normal law of y, where the filter factorises M C Mᵀ + σ²."""
    field, noise = GaussianField(size=6), 0.3
    linear, y = measured(field, noise, **how)
    found = field.restoration(THETA, y, linear, noise)
    m, c, seen = linear.dense(), dense_covariance(field, THETA), y[linear.seen]
    cov = np.linalg.inv(np.linalg.inv(c) + m.T @ m / noise**2)
    np.testing.assert_allclose(found.moments[0].ravel(), cov @ m.T @ seen / noise**2, atol=1e-9)
    np.testing.assert_allclose(found.moments[1].ravel(), np.sqrt(np.diag(cov)), rtol=1e-8)
    law = multivariate_normal(cov=m @ c @ m.T + noise**2 * np.eye(len(m)))
    assert found.log_evidence == pytest.approx(law.logpdf(seen), abs=1e-8)
    draws = found.sample(20_000, np.random.default_rng(0)).reshape(20_000, -1)
    assert np.abs(np.cov(draws.T) - cov).max() < 0.06 * cov.max()


@pytest.mark.parametrize(
    ("field", "noise"),
    [(GaussianField(size=8), 0.2), (GaussianField(size=8), 0.0), (LognormalField(size=8), 0.0)],
)
def test_moments_are_those_of_draws_and_a_control_fails(field, noise):
    linear, y = measured(field, noise)
    found = field.restoration(THETA, y, linear, noise)
    draws_agree(found)
    other = np.where(linear.seen, y * 0.5, np.nan)
    wrong = field.restoration(THETA, other, linear, noise)
    with pytest.raises(AssertionError):
        draws_agree(found, wrong)


def test_conditioning_keeps_what_is_seen():
    field = LognormalField(size=8)
    linear, y = measured(field, 0.0)
    found = field.restoration(THETA, y, linear, 0.0)
    seen = linear.seen
    draws = found.sample(3, np.random.default_rng(0))
    np.testing.assert_allclose(draws[:, seen], np.tile(y[seen], (3, 1)), atol=1e-9)
    assert (found.moments[1][seen] < 1e-6).all()
    assert (found.moments[1][~seen] > 0.01).all()


def test_the_evidence_times_the_posterior_is_the_joint():
    """log p(y|θ) = log p(x|θ) − log p(x|θ, y) of a mask without noise, log-normal included."""
    field = LognormalField(size=6)
    linear, y = measured(field, 0.0)
    found = field.restoration(THETA, y, linear, 0.0)
    x = found.sample(1, np.random.default_rng(5))
    g = field.gaussian(x)[0] + field.shift(THETA[None])[0]
    c, unseen = dense_covariance(field, THETA), ~linear.seen.ravel()
    cross = c[np.ix_(unseen, ~unseen)] @ np.linalg.inv(c[np.ix_(~unseen, ~unseen)])
    law = multivariate_normal(
        cross @ g.ravel()[~unseen], c[np.ix_(unseen, unseen)] - cross @ c[np.ix_(~unseen, unseen)]
    )
    volume = -np.log(field.strength * (1 + x.ravel()[unseen])).sum()
    conditional = law.logpdf(g.ravel()[unseen]) + volume
    joint = field.log_prob(THETA[None], x)[0]
    assert found.log_evidence == pytest.approx(joint - conditional, abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.8])
def test_perfect_draws_of_clamped_spins_are_those_of_enumeration(noise, monkeypatch):
    from simulators.ising import clamped

    ising, rng = Ising(size=4, theta="beta-h"), np.random.default_rng(1)
    linear = linear_map((4, 4), rng.random((4, 4)) < 0.4, axes=AXES)
    y = ising.sample(np.array([[0.4, 0.1]]), rng)[0] + noise * rng.standard_normal((4, 4))
    found = ising.restoration(np.array([0.4, 0.1]), y, linear, noise)
    assert found.error == 0
    draws_agree(found)
    monkeypatch.setattr(clamped, "ENUMERATED", 0)
    drawn = ising.restoration(np.array([0.4, 0.1]), y, linear, noise)
    assert 0 < drawn.error < 0.02
    assert np.abs(drawn.moments[0] - found.moments[0]).max() < 4 * drawn.error + 1e-3
    wrong = ising.restoration(np.array([0.3, 0.1]), y, linear, noise)
    with pytest.raises(AssertionError):
        draws_agree(found, wrong)


def test_what_is_not_exact_is_refused():
    field, mask = LognormalField(size=8), linear_map((8, 8), axes=AXES)
    y = np.zeros((8, 8))
    with pytest.raises(ValueError, match="without noise, blur or average"):
        field.restoration(THETA, y, mask, 0.1)
    with pytest.raises(ValueError, match="values that x can take"):
        field.restoration(THETA, y - 2, mask, 0.0)
    wide = linear_map((8, 8), blur=30.0, axes=AXES)
    with pytest.raises(ValueError, match="give a larger"):
        GaussianField(size=8).restoration(THETA, y, wide, 0.0)
    ising = Ising(size=8)
    with pytest.raises(ValueError, match="spins of −1 and"):
        ising.restoration(np.array([0.4]), y, mask, 0.0)
    with pytest.raises(ValueError, match="neither blurred nor averaged"):
        ising.restoration(np.array([0.4]), y, wide, 0.1)
    one = np.zeros((8, 8), bool)
    one[0, 0] = True
    alone = linear_map((8, 8), one, axes=AXES)
    cold = ising.restoration(np.array([2.0]), np.ones((8, 8)), alone, 5.0)
    with pytest.raises(ValueError, match="chains did not meet"):
        cold.sample(1, np.random.default_rng(0))

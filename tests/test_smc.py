"""Tempered populations and nested sampling, against closed forms; and that they say when not."""

import importlib.util
import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from physgen.errors import DataError, UsageError
from physgen.posterior import methods
from physgen.posterior import smc as populations
from physgen.posterior.importance import MOST_K
from physgen.posterior.mcmc import mcmc
from physgen.posterior.nested import nested
from physgen.posterior.smc import smc
from physgen.posterior.student import StudentMixture, fitted_mixture
from physgen.posterior.unbounded import from_scores, scores_density, to_scores
from physgen.posterior.warnings import posterior_warnings
from simulators.prior import Box, Prior

MIXED = Prior(
    {("a", "b"): 0.6},
    a=stats.norm(2, 3),
    b=stats.gamma(2),
    c=(-1.0, 4.0),
    d=stats.loguniform(1e-3, 10),
)


class Linear:
    """x = A θ + 0.3 ε, θ normal with correlated pairs: posterior and evidence in closed form."""

    def __init__(self, dims, n, seed=0, noise=0.3):
        rng = np.random.default_rng(seed)
        names = [f"t{d}" for d in range(dims)]
        mean, width = 0.5 * np.arange(dims), 1 + 0.2 * np.arange(dims)
        self.prior = Prior(
            dict.fromkeys(zip(names[::2], names[1::2], strict=True), 0.6),
            **{t: stats.norm(m, w) for t, m, w in zip(names, mean, width, strict=True)},
        )
        cov = np.kron(np.eye(dims // 2), [[1, 0.6], [0.6, 1]]) * np.outer(width, width)
        self.a, self.noise = rng.standard_normal((2 * dims, dims)), noise
        x = self.prior.sample(n, rng) @ self.a.T
        self.x = x + noise * rng.standard_normal(x.shape)
        inner = np.linalg.inv(cov)
        self.cov = np.linalg.inv(inner + self.a.T @ self.a / noise**2)
        self.mean = (inner @ mean + self.x @ self.a / noise**2) @ self.cov
        total = self.a @ cov @ self.a.T + noise**2 * np.eye(2 * dims)
        self.log_evidence = stats.multivariate_normal(self.a @ mean, total).logpdf(self.x)
        self.width = np.sqrt(np.diag(self.cov))

    def __call__(self, theta, which=None):
        x = self.x if which is None else self.x[which]
        off = (x[:, None] - theta @ self.a.T) / self.noise
        return -0.5 * (off**2).sum(-1) - off.shape[-1] * math.log(
            self.noise * math.sqrt(2 * math.pi)
        )


def peaks(places, masses, width):
    """A likelihood of separated normal peaks."""

    def log_likelihood(theta, which=None):
        off = (theta[..., None, :] - places) / width
        dims = places.shape[1]
        constant = dims * math.log(width * math.sqrt(2 * math.pi))
        return logsumexp(np.log(masses) - 0.5 * (off**2).sum(-1) - constant, axis=-1)

    return log_likelihood


def masses_of(theta, places):
    which = ((theta[:, None] - places) ** 2).sum(-1).argmin(-1)
    return np.bincount(which, minlength=len(places)) / len(theta)


def said(found, prior, method="smc"):
    told = found.diagnostics | {"sd": found.sd}
    return " ".join(posterior_warnings(found.theta, told, prior, method))


# --- normal scores ------------------------------------------------------------------------------


def test_normal_scores_are_normal_and_lead_back():
    rng = np.random.default_rng(0)
    theta = MIXED.sample(20_000, rng)
    z = to_scores(MIXED, theta)
    for column in z.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    assert np.corrcoef(z.T)[0, 1] == pytest.approx(0.6, abs=0.02)
    np.testing.assert_allclose(from_scores(MIXED, z), theta, rtol=1e-9)
    expected = stats.multivariate_normal(np.zeros(4), np.eye(4) + 0.6 * np.eye(4)[[1, 0, 3, 2]]
                                         * np.array([1, 1, 0, 0])).logpdf(z)  # fmt: skip
    np.testing.assert_allclose(scores_density(MIXED, z), expected, atol=1e-6)
    far = np.array([[50.0, -50, 50, -50]])
    assert MIXED.contains(from_scores(MIXED, far)).all()
    assert np.isneginf(scores_density(MIXED, far))
    assert np.isfinite(to_scores(MIXED, MIXED.from_coordinates(MIXED.ends))).all()


# --- the proposal -------------------------------------------------------------------------------


def test_a_mixture_is_normalised_and_draws_what_it_says():
    rng = np.random.default_rng(0)
    roots = np.stack([np.diag([1.0, 0.5]), np.array([[0.3, 0], [0.2, 0.4]])])
    q = StudentMixture(np.log([0.3, 0.7]), np.array([[0.0, 0], [3, 1]]), roots)
    nodes = np.linspace(-30, 30, 1201)
    grid = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
    density = np.exp(q.log_density(grid)) * (nodes[1] - nodes[0]) ** 2
    assert density.sum() == pytest.approx(1, abs=1e-3)
    z = q.sample(100_000, rng)
    np.testing.assert_allclose(z.mean(0), density @ grid, atol=0.02)
    assert (z[:, 0] > 2).mean() == pytest.approx(density[grid[:, 0] > 2].sum(), abs=0.01)


def test_a_fit_finds_components_and_none_that_are_not_there():
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((1500, 5)) @ rng.standard_normal((5, 5))
    apart = rng.standard_normal((1500, 5)) * 0.05 + rng.choice([-1, 1], (1500, 1))
    ones = np.ones(1500)
    flat = stats.multivariate_normal(np.zeros(5), np.cov(normal.T)).logpdf(normal)
    assert len(fitted_mixture(normal, ones, flat, rng).means) == 1
    found = fitted_mixture(apart, ones, np.zeros(1500), rng)
    places = np.sort(found.means[np.exp(found.log_weights) > 0.2, 0])
    np.testing.assert_allclose(places, [-1, 1], atol=0.05)


# --- the population -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dims", [4, *(pytest.param(dims, marks=pytest.mark.slow) for dims in (6, 10))]
)
def test_the_linear_normal_problem(dims):
    problem = Linear(dims, 2)
    found = smc(problem, problem.prior, 2, seed=1)
    off = (found.mean - problem.mean) / problem.width
    np.testing.assert_allclose(off, 0, atol=0.06)
    np.testing.assert_allclose(found.sd / problem.width, 1, atol=0.04)
    told = found.diagnostics
    np.testing.assert_allclose(told["log_evidence"], problem.log_evidence, atol=0.05)
    assert (told["evaluations"] <= 40_000).all()
    assert (told["ess"] > 2000).all()
    assert (told["pareto_k"] < 0.5).all()
    correlation = np.corrcoef(found.theta[0].T)
    exact = problem.cov / np.outer(problem.width, problem.width)
    np.testing.assert_allclose(correlation, exact, atol=0.08)
    assert said(found, problem.prior) == ""
    theta = problem.mean[:, None]
    expected = [stats.multivariate_normal(t[0], problem.cov).logpdf(t[0]) for t in theta]
    np.testing.assert_allclose(found.log_prob(theta)[:, 0], expected, atol=0.06)


def test_a_likelihood_that_tells_nothing_leaves_the_prior():
    found = smc(lambda theta, which=None: np.zeros(theta.shape[:2]), MIXED, 1, seed=1)
    np.testing.assert_allclose(found.diagnostics["log_evidence"], 0, atol=0.02)
    c = MIXED.to_coordinates(found.theta[0])
    assert stats.kstest(c[:, 2], stats.uniform(-1, 2).cdf).statistic < 0.04
    assert stats.kstest(c[:, 0], "norm").statistic < 0.04
    assert np.corrcoef(c.T)[0, 1] == pytest.approx(0.6, abs=0.05)


def test_a_posterior_at_a_bound_and_far_from_the_prior_s_centre():
    """Exponential at the lower bound, and 1e-4 of the prior wide in the other."""
    box = Box(a=(0.0, 1.0), b=(5.0, 6.0), c=(0.0, 1.0), d=(0.0, 1.0))

    def log_likelihood(theta, which=None):
        return -50 * theta[..., 0] - 0.5 * ((theta[..., 1] - 5.3) / 1e-4) ** 2

    found = smc(log_likelihood, box, 1, seed=1)
    assert box.contains(found.theta).all()
    expected = math.log(1 / 50) + math.log(1e-4 * math.sqrt(2 * math.pi))
    assert found.diagnostics["log_evidence"][0] == pytest.approx(expected, abs=0.05)
    np.testing.assert_allclose(found.mean[0, :2], [1 / 50, 5.3], rtol=0.05)
    np.testing.assert_allclose(found.sd[0, :2], [1 / 50, 1e-4], rtol=0.08)


@pytest.mark.parametrize(
    ("count", "dims"),
    [(4, 5), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((2, 6), (16, 4)))],
)
def test_separated_modes_keep_their_masses(count, dims):
    rng = np.random.default_rng(3)
    corners = np.array(np.meshgrid(*[[-0.5, 0.5]] * dims)).reshape(dims, -1).T
    places = rng.choice(corners, count, replace=False) + 0.1 * rng.standard_normal((count, dims))
    masses = rng.dirichlet(np.full(count, 4.0))
    box = Box(**{f"t{d}": (-1.0, 1.0) for d in range(dims)})
    found = smc(peaks(places, masses, 0.05), box, 1, seed=1)
    np.testing.assert_allclose(masses_of(found.theta[0], places), masses, atol=0.03)
    expected = -dims * math.log(2)
    assert found.diagnostics["log_evidence"][0] == pytest.approx(expected, abs=0.06)


def test_an_observation_does_not_depend_on_who_else_is_in_the_call():
    problem = Linear(4, 3)
    every = smc(problem, problem.prior, 3, seed=2)
    first = smc(
        lambda theta, which=None: problem(theta, np.zeros(1, int)), problem.prior, 1, seed=2
    )
    np.testing.assert_array_equal(every.theta[0], first.theta[0])
    assert (every.theta[1] != every.theta[0]).any()
    assert len(set(every.diagnostics["evaluations"])) > 1, "some are done before others"
    other = smc(problem, problem.prior, 3, seed=3)
    assert (other.theta != every.theta).any()


def test_half_of_the_prior_may_be_impossible():
    def log_likelihood(theta, which=None):
        inside = theta[..., 2] < 0  # a fifth of the prior
        return np.where(inside, -0.5 * theta[..., 0] ** 2, -np.inf)

    found = smc(log_likelihood, MIXED, 1, seed=1)
    assert (found.theta[..., 2] < 0).all()
    both = stats.norm(2, math.hypot(3, 1)).pdf(0) * math.sqrt(2 * math.pi) / 5
    assert found.diagnostics["log_evidence"][0] == pytest.approx(math.log(both), abs=0.05)


def test_bad_likelihoods_are_refused_with_their_observation():
    with pytest.raises(DataError, match="NaN"):
        smc(lambda theta, which=None: theta[..., 0] * np.nan, MIXED, 1)

    def second(theta, which=None):
        values = np.zeros(theta.shape[:2])
        values[np.arange(2)[which] == 1 if which is not None else 1] = -np.inf
        return values

    with pytest.raises(DataError, match=r"observation 1: .* −∞ at"):
        smc(second, MIXED, 2)


# --- what speaks against it ---------------------------------------------------------------------


def funnel(theta, which=None):
    """A law of which no mixture has the shape: widths from 1e-4 to 1e3."""
    scale = np.exp(4 * theta[..., :1])
    return stats.norm(0, scale).logpdf(theta[..., 1:]).sum(-1)


@pytest.mark.slow
def test_where_weights_are_bad_the_population_is_handed_back_and_named():
    prior = Prior(**{f"t{d}": stats.norm(0, 1 if d == 0 else 30) for d in range(8)})
    found = smc(funnel, prior, 1, seed=2)
    assert found.diagnostics["pareto_k"][0] > MOST_K
    assert "its draws are a population" in said(found, prior)
    assert len(np.unique(found.theta)) > 8 * 1000


def test_a_proposal_that_misses_is_named(monkeypatch):
    """Control: a last mixture that is far too narrow, and the population is handed back."""
    problem, fitted = Linear(4, 1), populations.fitted_mixture
    populated = []

    def narrow(*known):
        q = fitted(*known)
        beta_is_one = len(known[0]) > populations.POINTS
        populated.append(beta_is_one)
        shift = 3 * q.roots[:, :, 0] if beta_is_one else 0
        return StudentMixture(
            q.log_weights, q.means + shift, q.roots * (0.2 if beta_is_one else 1)
        )

    monkeypatch.setattr(populations, "fitted_mixture", narrow)
    found = smc(problem, problem.prior, 1, seed=1)
    assert any(populated)
    assert found.diagnostics["pareto_k"][0] > MOST_K
    assert "Pareto k" in said(found, problem.prior)
    off = (found.mean - problem.mean) / problem.width
    np.testing.assert_allclose(off, 0, atol=0.2)


def test_a_high_pareto_k_is_named():
    found = smc(lambda theta, which=None: np.zeros(theta.shape[:2]), MIXED, 1, seed=1)
    told = {"pareto_k": np.array([0.3, 0.9]), "ess": np.array([[500.0], [500.0]])}
    theta = np.repeat(found.theta, 2, 0)
    lines = [w for w in posterior_warnings(theta, told, MIXED, "smc") if "Pareto" in w]
    assert len(lines) == 1
    assert lines[0].startswith("1 of 2 posteriors: Pareto k of the weights 0.90")


# --- where it is called -------------------------------------------------------------------------


def test_chains_follow_any_prior():
    pytest.importorskip("sbi")
    problem = Linear(2, 1)
    found = mcmc(problem, problem.prior, 1, 1000, seed=1)
    off = (found.mean - problem.mean) / problem.width
    np.testing.assert_allclose(off, 0, atol=0.2)
    np.testing.assert_allclose(found.sd / problem.width, 1, atol=0.15)


@pytest.mark.parametrize("method", ["rejection", "vi"])
def test_sbi_s_samplers_follow_any_prior(method):
    pytest.importorskip("sbi")
    from physgen.posterior import samplers

    problem = Linear(2, 1, noise=2.0)
    found = getattr(samplers, method)([problem], problem.prior, 2000, seed=1)
    off = (found.mean - problem.mean) / problem.width
    np.testing.assert_allclose(off, 0, atol=0.15)
    np.testing.assert_allclose(found.sd / problem.width, 1, atol=0.1)


def test_beyond_three_parameters_it_is_the_default():
    options = methods.InferenceOptions("npe", MIXED, 2000, seed=1)
    found = methods.by_density(lambda theta, which=None: -(theta[..., 0] ** 2) / 2, 1, options, {})
    assert found.chains.shape == (1, 1, 4000, 4)
    assert methods.LIKELIHOOD[:2] == ("grid", "smc")


def test_without_nautilus_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"nested: needs .* pip install 'physgen\[nested\]'"):
        nested([], MIXED)


@pytest.mark.slow
def test_nested_sampling_agrees_with_the_closed_form():
    pytest.importorskip("nautilus")
    problem = Linear(4, 1)
    found = nested([problem], problem.prior, seed=1)
    np.testing.assert_allclose((found.mean - problem.mean) / problem.width, 0, atol=0.06)
    np.testing.assert_allclose(found.sd / problem.width, 1, atol=0.05)
    told = found.diagnostics
    np.testing.assert_allclose(told["log_evidence"], problem.log_evidence, atol=0.08)
    with pytest.raises(DataError, match=r"observation 0: .* −∞ at"):
        nested([lambda theta: np.full(theta.shape[:2], -np.inf)], problem.prior)

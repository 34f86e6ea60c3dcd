"""Draws of networks: of their own density, of another prior, and weighted by a likelihood."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats

from physgen.checks.calibration.posteriors import _trusted
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.posterior import methods
from physgen.posterior.amortised import network_draws
from physgen.posterior.grid import GRID, grid_posterior, of_network
from physgen.posterior.warnings import weight_warnings
from physgen.sbi.networks import METHODS, Network, train
from simulators.prior import Box, Prior

pytest.importorskip("sbi")

NOISE = 0.5
NORMAL = Prior(a=stats.norm(0, 1), b=stats.norm(2, 0.5), correlation={("a", "b"): 0.6})
MEAN, COV = np.array([0.0, 2.0]), np.array([[1, 0.3], [0.3, 0.25]])


def noisy(prior, n, seed=0, noise=NOISE):
    """θ of a prior, and x = θ + noise."""
    rng = np.random.default_rng(seed)
    theta = prior.sample(n, rng)
    return theta, (theta + noise * rng.standard_normal(theta.shape)).astype(np.float32)


def law_of(prior):
    return Law("mine", prior, (len(prior),), "reals")


@pytest.fixture(scope="module")
def networks():
    """Method → a network of one parameter in a box, trained when it is first asked for."""
    box = Box(a=(-1.0, 1.0))
    theta, x = noisy(box, 1000)
    return cache(lambda method: train(method, law_of(box), theta, x, epochs=5, seed=1))


@pytest.mark.parametrize("method", ["npe", "fmpe", "npse"])
@pytest.mark.slow
def test_draws_follow_the_density_of_the_same_network(networks, method):
    """By Kolmogorov & Smirnov; as a control, not those of another x."""
    network, x = networks(method), np.array([[-0.9], [0.2], [0.7]], np.float32)
    grid = grid_posterior(of_network(network, x), network.law.prior, 3, **GRID[1])
    c, leak = network.draw(x, 700, seed=3)
    assert c.shape == (3, 700, 1)
    assert (abs(c) <= 1).all()
    u = grid.cdf(network.law.prior.from_coordinates(c))[..., 0]
    assert min(stats.kstest(row, "uniform").pvalue for row in u) > 1e-3
    others = grid.cdf(network.law.prior.from_coordinates(c[[1, 2, 0]]))[..., 0]
    assert max(stats.kstest(row, "uniform").pvalue for row in others) < 1e-6
    assert leak[0] > 0.02  # near the bound
    mass = np.exp(network.log_density(np.linspace(-1, 1, 400)[:, None], x[:1], np.zeros(400, int)))
    np.testing.assert_allclose(1 - leak[0], mass.mean(), atol=5 * np.sqrt(leak[0] / 700) + 0.01)


@pytest.mark.slow
def test_a_rows_draws_do_not_depend_on_the_others_nor_on_how_many_there_are(networks):
    network, x = networks("npe"), np.array([[-0.9], [0.2], [0.7]], np.float32)
    every, _ = network.draw(x, 50, seed=3)
    some, _ = network.draw(x[1:], 20, seed=3, index=np.array([1, 2]))
    np.testing.assert_allclose(some, every[1:, :20], atol=1e-6)
    assert abs(network.draw(x, 50, seed=4)[0] - every).max() > 0.1


@pytest.mark.slow
def test_log_density_of_draws_is_normalised(networks):
    box, x = networks("npe").law.prior, np.array([[-0.9], [0.2]], np.float32)
    theta = np.broadcast_to(np.linspace(-1, 1, 401)[:, None], (2, 401, 1))
    for prior in (box, Box(a=(-0.5, 0.5)), Prior(a=stats.truncnorm(-2, 2, 0, 0.3))):
        found = network_draws(networks("npe"), x, prior, 4000, seed=1)
        total = np.trapezoid(np.exp(found.log_prob(theta)), theta[..., 0], axis=1)
        np.testing.assert_allclose(total, 1, atol=0.05)
        assert prior.contains(found.theta).all()
        assert ("effective_sample" in found.diagnostics) == (prior != box)


PRIORS = {
    "one": (Prior(a=stats.norm(2, 0.5)), 2200, 9, 0.35),
    "correlated": (NORMAL, 6000, 60, 0.25),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one", pytest.param("correlated", marks=pytest.mark.slow)])
def test_a_network_under_a_normal_prior_finds_the_closed_form(name):
    """Its draws, and its density, which does not hold the prior: as a control, not with it."""
    prior, n, epochs, off = PRIORS[name]
    theta, x = noisy(prior, n)
    network = train("npe", law_of(prior), theta, x, epochs=epochs, seed=1)
    centre, cov = (MEAN, COV) if len(prior) == 2 else (np.array([2.0]), np.array([[0.25]]))
    x = (centre + np.array([[1.5], [-1.5]]) * np.sqrt(np.diag(cov))).astype(np.float32)
    within = np.linalg.inv(np.linalg.inv(cov) + np.eye(len(prior)) / NOISE**2)
    mean, sd = (np.linalg.inv(cov) @ centre + x / NOISE**2) @ within, np.sqrt(np.diag(within))
    found = network_draws(network, x, prior, 1000)
    assert abs((found.mean - mean) / sd).max() < off
    width = np.diff(found.interval(0.6827), axis=1)[:, 0] / 2  # a spline's tails are heavy
    np.testing.assert_allclose(width / sd, 1, atol=off)
    points = mean + np.linspace(-2, 2, 9)[:, None, None] * sd  # (9, 2, D)
    log_p = network.log_density(points.reshape(18, -1), x, np.tile([0, 1], 9)).reshape(9, 2)
    exact = -(((x - points) / NOISE) ** 2).sum(-1) / 2
    slope, held = (
        np.polyfit(np.linspace(-2, 2, 9), values, 1)[0]
        - np.polyfit(np.linspace(-2, 2, 9), exact, 1)[0]
        for values in (log_p, log_p + prior.log_prob(points))
    )
    assert abs(slope).max() < 2 * off
    assert abs(held).max() > abs(slope).max()


@dataclass(frozen=True)
class Toy(Network):
    """A network whose draws are normal around x, and its density theirs."""

    width: float = 1.0

    def log_density(self, theta, x, which=None):
        rows = x if which is None else x[which]
        log_q = stats.norm(rows, self.width).logpdf(theta).sum(-1)
        return log_q - self.law.prior.log_prob(theta)

    def features(self, x):
        return torch.as_tensor(x)

    def _mapped(self, noise, seen):
        return self.law.prior.to_coordinates(seen.numpy() + self.width * noise)


def toy(prior, width):
    return Toy("npe", law_of(prior), torch.nn.Identity(), None, {}, width=width)


FOUR = Prior(**dict.fromkeys("abcd", stats.norm(0, 2)))
CLOSED = dict(zip(("mean", "var"), (4 / (4 + NOISE**2), 1 / (1 / 4 + 1 / NOISE**2)), strict=True))


def likelihood(x):
    def log_p(theta, which=None):
        rows = x if which is None else x[which]
        return stats.norm(rows[:, None], NOISE).logpdf(theta).sum(-1)

    return log_p


def test_weights_make_up_for_a_network_that_is_wrong():
    """Moments and evidence of a linear Gaussian of four parameters, from draws that are too wide.

    As a control, without weights they are too wide.
    """
    x = np.array([[0.1, 0.7, -1.0, 1.5], [-2.0, 0.0, 0.4, 1.0]])
    wide = toy(FOUR, 0.7)
    found = network_draws(wide, x, FOUR, 4000, log_likelihood=likelihood(x), seed=2)
    sd = np.sqrt(CLOSED["var"])
    np.testing.assert_allclose((found.mean - CLOSED["mean"] * x) / sd, 0, atol=0.08)
    np.testing.assert_allclose(found.sd / sd, 1, atol=0.05)
    evidence = stats.norm(0, np.sqrt(4 + NOISE**2)).logpdf(x).sum(-1)
    np.testing.assert_allclose(found.diagnostics["log_evidence"], evidence, atol=0.05)
    assert (found.diagnostics["pareto_k"] < 0.7).all()
    assert (found.diagnostics["effective_sample"] > 3000).all()
    assert not list(weight_warnings(found.diagnostics, "npe"))
    exact = stats.norm(CLOSED["mean"] * x, sd).logpdf(x).sum(-1)
    np.testing.assert_allclose(found.log_prob(x[:, None])[:, 0], exact, atol=0.05)
    plain = network_draws(wide, x, FOUR, 4000, seed=2)
    assert (plain.sd / sd > 1.3).all()


def test_bad_weights_are_named():
    x = np.array([[0.1, 0.7, -1.0, 1.5]])
    narrow = toy(FOUR, 0.15)
    found = network_draws(narrow, x, FOUR, 500, log_likelihood=likelihood(x), seed=2)
    lines = list(weight_warnings(found.diagnostics, "npe"))
    assert any("Pareto k of the weights" in line for line in lines)
    assert any("are worth" in line for line in lines)


def test_another_prior_is_that_of_the_draws():
    """By weights, against the closed form; an effective sample too small is named."""
    x = np.array([[0.1, 0.7, -1.0, 1.5]])
    right = toy(FOUR, 1.0)  # of a likelihood of variance 4/3
    narrow = Prior(**dict.fromkeys("abcd", stats.norm(0, 1)))
    found = network_draws(right, x, narrow, 2000, seed=3)
    precision = 1 + 1 - 1 / 4
    np.testing.assert_allclose(found.mean, x / precision, atol=0.08)
    np.testing.assert_allclose(found.sd, precision**-0.5, rtol=0.06)
    far = Prior(**dict.fromkeys("abcd", stats.norm(0, 0.05)))
    lines = list(weight_warnings(network_draws(right, x, far, 200, seed=3).diagnostics, "npe"))
    assert any("worth" in line for line in lines)
    with pytest.raises(DataError, match="none has a weight"):
        network_draws(right, x, Prior(**dict.fromkeys("abcd", (9.0, 9.1))), 10)


@pytest.mark.slow
def test_one_weighted_draw_is_of_the_posterior_too():
    """A lone draw has no weight to be told by: it would be of the network's law."""
    x = np.tile(np.array([[0.1, 0.7, -1.0, 1.5]]), (300, 1))
    wide = toy(FOUR, 1.5)
    found = network_draws(wide, x, FOUR, 1, log_likelihood=likelihood(x), seed=2)
    sd = np.sqrt(CLOSED["var"])
    np.testing.assert_allclose(found.theta[:, 0].std(0) / sd, 1, atol=0.2)  # 3 without weights


def test_calibration_does_not_trust_draws_that_are_worth_few():
    told = {"pareto_k": np.zeros(2), "effective_sample": np.array([20.0, 400.0])}
    assert _trusted(told, 2).tolist() == [False, True]


def test_draws_that_nearly_all_leave_the_prior_are_refused_and_many_are_named():
    box = Box(a=(-1.0, 1.0))
    with pytest.raises(DataError, match=r"draws for one x \d+ lie inside of the prior"):
        toy(box, 0.1).draw(np.array([[3.0]]), 10)
    found = network_draws(toy(box, 0.1), np.array([[1.0], [0.0]]), box, 300)
    (line,) = weight_warnings(found.diagnostics, "npe")
    assert line.startswith("1 of 2 posteriors: up to ")


def test_networks_draw_where_there_is_no_grid_or_where_that_is_asked_for(networks):
    x = np.array([[0.2]], np.float32)

    def kind(network, x=x, **given):
        options = methods.InferenceOptions(network.method, network.law.prior, 100, **given)
        inference = methods.Inference(options, network.law, network=network)
        return type(methods.by_network(inference, x, 0, lambda text: None)).__name__

    assert kind(networks("npe")) == "GridPosterior"
    assert kind(networks("npe"), direct=True) == "Draws"
    assert kind(toy(FOUR, 1.0), np.zeros((1, 4))) == "Draws"


def test_what_has_no_draws_is_refused(networks):
    box = Box(a=(-1.0, 1.0))
    theta, x = noisy(box, 100)
    nre = train("nre", law_of(box), theta, x, epochs=1)
    with pytest.raises(UsageError, match="nre: has a density of theta"):
        nre.draw(x, 1)
    source = methods.Source("nre.pt", nre.law, {}, network=nre)
    refused = {"nre": {"direct": True}, "npe": {"direct": True, "iid": True}}
    for method, given in refused.items():
        options = methods.InferenceOptions(method, box, **given)
        with pytest.raises(UsageError, match="direct: "):
            methods.refuse_unused(source, options, False)
    with pytest.raises(UsageError, match="refine: expected a surrogate"):
        methods.choose_method(source, None, networks("npe"))
    assert {m for m in METHODS if METHODS[m].draw} == {"npe", "fmpe", "npse"}

"""Posteriors of many independent rows, against the grid over all of them."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

import physgen
from physgen.posterior import iid
from physgen.posterior.grid import grid_posterior, of_exact
from physgen.posterior.iid import iid_posterior
from physgen.posterior.warnings import weight_warnings
from simulators.gaussian import LinearGaussian
from simulators.ising import Ising
from simulators.prior import Box, Prior


@dataclass
class Counted:
    """A log p of rows that counts its evaluations."""

    log_prob: object
    count: int = 0
    most: int = 0

    def __call__(self, theta, x):
        self.count += len(theta)
        self.most = max(self.most, theta.size)
        return self.log_prob(theta, x)


@dataclass
class Student:
    """x of a Student law of place and width: rows differ in all derivatives."""

    prior: Prior = Box(a=(-3.0, 3.0), s=(0.2, 3.0))  # noqa: RUF009 - a prior does not change

    def log_prob(self, theta, x):
        return stats.t.logpdf(x[:, 0], 1.5, theta[:, 0], theta[:, 1])

    def sample(self, theta, rng):
        return theta[:, :1] + theta[:, 1:] * rng.standard_t(1.5, (len(theta), 1))


class Normal(LinearGaussian):
    """With a normal prior, far wider than a posterior of many rows."""

    prior = Prior(theta1=stats.norm(1, 2), theta2=stats.norm(0, 3))


CASES = {
    "lattice": (Ising(8), [0.44], 6),
    "at a bound": (Ising(8), [0.1], 4),
    "normal prior": (Normal(size=5, parameters=2), [0.3, -0.2], 10),
    "heavy tails": (Student(), [0.3, 0.8], 2),
}


def both(simulator, theta, n, seed=0):
    """The posterior of n rows by few evaluations and by all, and their counts."""
    x = simulator.sample(np.tile(theta, (n, 1)), np.random.default_rng(seed))
    few, every = Counted(simulator.log_prob), Counted(simulator.log_prob)
    found = iid_posterior(of_exact(few, x), simulator.prior, n)
    exact = grid_posterior(of_exact(every, x, iid=True), simulator.prior, 1)
    return found, exact, few, every


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_few_evaluations_are_as_good_as_all(name):
    simulator, theta, gain = CASES[name]
    found, exact, few, every = both(simulator, theta, 4000)
    np.testing.assert_allclose((found.mean - exact.mean) / exact.sd, 0, atol=0.005)
    np.testing.assert_allclose(found.sd / exact.sd, 1, atol=0.005)
    np.testing.assert_allclose(found.log_evidence, exact.log_evidence, atol=0.01)
    assert every.count > gain * few.count
    assert few.most <= iid.VALUES
    assert 0 <= found.diagnostics["rows_error"][0] < iid.TOLERANCE
    assert found.evaluations == -(-few.count // 4000)


@pytest.mark.slow
def test_ten_thousand_lattices_take_a_tenth_of_the_evaluations():
    found, exact, few, every = both(Ising(8), [0.3], 10_000)
    np.testing.assert_allclose((found.mean - exact.mean) / exact.sd, 0, atol=0.005)
    assert every.count > 10 * few.count


def test_what_the_first_rows_do_not_tell_is_found_by_all():
    """Rows of two kinds: the first alone are elsewhere, and alone would be off, as a control.

    The edge of the region then has some of the mass, and all rows are evaluated.
    """
    n = 3000
    order = np.random.default_rng(0).permutation(n)
    x = np.random.default_rng(1).normal(0.5, 1, n)
    x[order[:100]] -= 4.0  # those that are looked at first
    log_p = of_exact(lambda theta, x: stats.norm(theta[:, 0], 1).logpdf(x), x)
    found = iid_posterior(log_p, Box(a=(-10.0, 10.0)), n)
    np.testing.assert_allclose((found.mean[0, 0] - x.mean()) * np.sqrt(n), 0, atol=0.005)
    np.testing.assert_allclose(found.sd * np.sqrt(n), 1, atol=0.005)
    assert abs(x[order[:100]].mean() - x.mean()) * np.sqrt(n) > 50


def test_a_step_that_no_polynomial_follows_is_left_to_the_grid():
    x = np.random.default_rng(1).uniform(0, 1, (3000, 1))

    def log_p(theta, x):
        return np.where(x[:, 0] < theta[:, 0], -np.log(theta[:, 0]), -30.0)

    found = iid_posterior(of_exact(log_p, x), Box(a=(0.5, 3.0)), 3000)
    exact = grid_posterior(of_exact(log_p, x, iid=True), Box(a=(0.5, 3.0)), 1)
    np.testing.assert_allclose(found.mean, exact.mean)
    assert found.diagnostics["rows_error"][0] == 0


@pytest.mark.slow
def test_the_error_by_random_draws_is_told():
    """Against the scatter of means over seeds."""
    rng, n, noise = np.random.default_rng(0), 3000, 0.3
    x = rng.normal(0.2, 1, n)

    def of(seed):
        eps = np.random.default_rng([5, seed]).normal(0, noise, n)
        return of_exact(
            lambda theta, i: stats.norm(theta[:, 0], 1).logpdf(x[i]) + eps[i] * theta[:, 0],
            np.arange(n),
        )

    box = Box(a=(-2.0, 2.0))
    found = [iid_posterior(of(s), box, n, again=of(s + 100)) for s in range(20)]
    scatter = np.std([p.mean[0, 0] / p.sd[0, 0] for p in found])
    told = [p.diagnostics["draws_error"][0] for p in found]
    np.testing.assert_allclose(np.mean(told), noise, rtol=0.15)
    assert 0.6 < scatter / np.mean(told) < 1.5
    (line,) = weight_warnings(found[0].diagnostics, "grid")
    assert line.startswith("the random draws of log p move the mean by 0.3")
    quiet = iid_posterior(of(0), box, n, again=of(0)).diagnostics
    assert not list(weight_warnings(quiet, "grid"))
    assert quiet["draws_error"] == 0


def test_infer_takes_few_evaluations_of_many_rows(monkeypatch):
    """With the answer of the grid over all; as a control, it does not where rows are few."""
    monkeypatch.setattr("physgen.posterior.methods.MANY", 200)
    train = physgen.simulate("ising", n=600, seed=1, size=4)
    model = physgen.fit("autoregressive", train, epochs=2)
    x = Ising(4).sample(np.full((300, 1), 0.4), np.random.default_rng(2))
    few = physgen.infer(model, x, iid=True)
    monkeypatch.setattr("physgen.posterior.methods.MANY", 400)
    every = physgen.infer(model, x, iid=True)
    np.testing.assert_allclose((few.mean - every.mean) / every.sd, 0, atol=0.005)
    assert "rows_error" in few.arrays
    assert "rows_error" not in every.arrays

"""The laws of the table of densities of reals: each exact log p by a second route."""

import importlib
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

ROOT = Path(__file__).parents[1]
NAMES = [
    "TwoCrescents",
    "TwoWidths",
    "Slcp",
    "LinearUniform",
    "CauchyNoise",
    "PoissonCounts",
    "BitsAndReals",
    "RedOscillator",
    "GaussianField",
]


@pytest.fixture(scope="module")
def reals():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        yield importlib.import_module("benchmarks.reals")


def rows(simulator, n, seed=0):
    """θ of the prior (n, D) and their x."""
    rng = np.random.default_rng(seed)
    theta = simulator.prior.sample(n, rng)
    return theta, simulator.sample(theta, rng)


def at(simulator, theta, x):
    """log p(x|θ) of many x (n, …) at one θ (D,), (n,)."""
    x = np.asarray(x, dtype=float)
    return simulator.log_prob(np.broadcast_to(theta, (len(x), len(theta))), x)


@pytest.mark.parametrize("name", NAMES[1:])  # the crescent has an edge, which moves with θ
def test_the_score_of_theta_is_zero_on_average(reals, name):
    """E[∂ log p/∂θ | θ] = 0, at an inner θ; not so for x of another θ."""
    simulator = getattr(reals, name)()
    rng = np.random.default_rng(1)
    c = rng.uniform(0.2, 0.5, len(simulator.prior)) * simulator.prior.ends[1]
    c = np.minimum(c, 0.5)
    theta, step = simulator.prior.from_coordinates(c), 1e-5

    def scores(x):
        found = []
        for e in np.eye(len(c)) * step:
            up, down = (simulator.prior.from_coordinates(c + s * e) for s in (1, -1))
            found.append((at(simulator, up, x) - at(simulator, down, x)) / (2 * step))
        found = np.array(found)
        return found.mean(1) / (found.std(1) / math.sqrt(len(x)))

    def drawn(theta):
        return simulator.sample(np.tile(theta, (4000, 1)), rng)

    assert abs(scores(drawn(theta))).max() < 4
    other = simulator.prior.from_coordinates(0.6 * c)
    assert abs(scores(drawn(other))).max() > 6


def test_the_crescent_is_its_histogram_and_has_mass_one(reals):
    simulator, theta = reals.TwoCrescents(noise=0.03), np.array([0.3, -0.5])
    edges = np.linspace(0.0, 0.2, 9), np.linspace(-0.15, 0.15, 13)
    centre = simulator.centre(theta[None])[0]
    x = simulator.sample(np.tile(theta, (200_000, 1)), np.random.default_rng(0)) - centre
    seen = np.histogram2d(*x.T, bins=edges)[0]

    def expected(shift):
        fine = [np.linspace(e[0], e[-1], 40 * (len(e) - 1) + 1) for e in edges]
        mids = [(f[1:] + f[:-1]) / 2 for f in fine]
        grid = np.stack(np.meshgrid(*mids, indexing="ij"), -1).reshape(-1, 2) + centre + shift
        p = np.exp(at(simulator, theta, grid)).reshape(len(mids[0]), len(mids[1]))
        cell = (fine[0][1] - fine[0][0]) * (fine[1][1] - fine[1][0])
        return cell * p.reshape(8, 40, 12, 40).sum((1, 3)) * len(x)

    def chi2(expected):
        some = expected > 20
        return ((seen - expected)[some] ** 2 / expected[some]).sum() / some.sum()

    assert chi2(expected(0.0)) < 1.5
    assert chi2(expected(0.003)) > 5
    r = np.linspace(1e-9, 0.4, 4001)
    x = centre + r[:, None] * np.array([math.cos(1.0), math.sin(1.0)])
    back = centre - r[:, None] * np.array([math.cos(1.0), math.sin(1.0)])
    total = integrate.trapezoid(np.pi * r * np.exp(at(simulator, theta, x)), r)
    total += integrate.trapezoid(np.pi * r * np.exp(at(simulator, theta, back)), r)
    assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("size", [1, 2])
def test_the_mixture_of_two_widths_has_mass_one_and_its_variance(reals, size):
    simulator, theta = reals.TwoWidths(size=size), np.array([1.3, -2.1])[:size]
    axis = np.linspace(-7, 7, 1401)
    x = np.stack(np.meshgrid(*[axis + t for t in theta], indexing="ij"), -1).reshape(-1, size)
    p = np.exp(at(simulator, theta, x)) * (axis[1] - axis[0]) ** size
    assert p.sum() == pytest.approx(1, abs=1e-9)
    assert (p * (x[:, 0] - theta[0]) ** 2).sum() == pytest.approx(0.505, abs=1e-6)
    drawn = simulator.sample(np.tile(theta, (20_000, 1)), np.random.default_rng(0))
    assert (drawn - theta).var() == pytest.approx(0.505, abs=0.03)
    assert np.mean(abs(drawn - theta) < 0.2) > 0.5


def test_slcp_is_four_normal_draws(reals):
    simulator = reals.Slcp()
    theta, x = rows(simulator, 20)
    by_scipy = []
    for (m1, m2, a, b, c), four in zip(theta, x.reshape(-1, 4, 2), strict=True):
        s1, s2, rho = a**2, b**2, math.tanh(c)
        cov = [[s1**2, rho * s1 * s2], [rho * s1 * s2, s2**2]]
        law = stats.multivariate_normal([m1, m2], cov, allow_singular=True)
        by_scipy.append(law.logpdf(four).sum())
    np.testing.assert_allclose(simulator.log_prob(theta, x), by_scipy, rtol=1e-9)
    theta = np.array([0.7, -2.9, -1.1, -1.3, 0.6])
    four = simulator.sample(np.tile(theta, (20_000, 1)), np.random.default_rng(0)).reshape(-1, 2)
    s1, s2, rho = 1.1**2, 1.3**2, math.tanh(0.6)
    expected = [[s1**2, rho * s1 * s2], [rho * s1 * s2, s2**2]]
    np.testing.assert_allclose(np.cov(four.T), expected, rtol=0.03)
    for signs in itertools.product([1, -1], repeat=2):  # four modes
        other = theta * np.array([1, 1, *signs, 1])
        assert at(simulator, other, x[:3]) == pytest.approx(at(simulator, theta, x[:3]))


def test_linear_and_cauchy_are_those_of_scipy(reals):
    linear, cauchy = reals.LinearUniform(), reals.CauchyNoise()
    theta, x = rows(linear, 20)
    expected = stats.norm(theta, math.sqrt(0.1)).logpdf(x).sum(1)
    np.testing.assert_allclose(linear.log_prob(theta, x), expected)
    assert (x - theta).var() == pytest.approx(0.1, rel=0.3)
    theta, x = rows(cauchy, 4000)
    expected = stats.cauchy(theta, 0.1).logpdf(x).sum(1)
    np.testing.assert_allclose(cauchy.log_prob(theta, x), expected)
    assert stats.kstest((x - theta).ravel(), stats.cauchy(0, 0.1).cdf).pvalue > 1e-3


def test_counts_are_poisson_and_go_to_a_thousand(reals):
    simulator = reals.PoissonCounts()
    theta, x = rows(simulator, 4000)
    assert x.dtype.kind == "i"
    assert x.max() > 1000
    assert x.min() == 0
    rates = theta[:, :1] * theta[:, 1:] ** np.arange(4)
    np.testing.assert_allclose(
        simulator.log_prob(theta, x), stats.poisson(rates).logpmf(x).sum(1), rtol=1e-9
    )
    pulls = (x - rates) / np.sqrt(rates)
    np.testing.assert_allclose(pulls.var(0), 1, atol=0.15)


def test_bits_and_reals_are_enumerated(reals):
    simulator, theta = reals.BitsAndReals(), np.array([0.7, 1.2])
    bits = np.array(list(itertools.product([0.0, 1.0], repeat=5)))
    y1, y2 = (np.linspace(*ends, 400) for ends in ((-1, 5), (-13, 13)))
    y = np.stack(np.meshgrid(y1, y2, indexing="ij"), -1).reshape(-1, 2)
    cell = (y1[1] - y1[0]) * (y2[1] - y2[0])
    masses = np.array(
        [
            cell * np.exp(at(simulator, theta, np.hstack([np.tile(b, (len(y), 1)), y]))).sum()
            for b in bits
        ]
    )
    assert masses.sum() == pytest.approx(1, abs=1e-4)
    x = simulator.sample(np.tile(theta, (100_000, 1)), np.random.default_rng(0))
    seen = np.bincount((x[:, :5] @ 2 ** np.arange(4, -1, -1)).astype(int), minlength=32)
    assert stats.chisquare(seen, masses / masses.sum() * len(x)).pvalue > 1e-3
    assert stats.chisquare(seen, np.roll(masses, 1) / masses.sum() * len(x)).pvalue < 1e-9
    entropy = -simulator.log_prob(np.tile(theta, (len(x), 1)), x)
    exact = -(masses * np.log(masses)).sum() + 2 * (0.5 + 0.5 * math.log(2 * math.pi))
    exact += math.log(0.3) + masses @ np.log(0.2 + bits.mean(1))
    assert entropy.mean() == pytest.approx(exact, abs=5 * entropy.std() / math.sqrt(len(x)))


def test_the_noise_of_the_red_oscillator_has_its_covariance(reals):
    simulator = reals.RedOscillator(size=20)
    theta, x = rows(simulator, 5)
    lag = abs(np.subtract.outer(np.arange(20), np.arange(20)))
    for one, seen in zip(theta, x, strict=True):
        law = stats.multivariate_normal(simulator.mean(one[:6]), one[4] ** 2 * one[6] ** lag)
        assert at(simulator, one, seen[None])[0] == pytest.approx(law.logpdf(seen))
    drawn = simulator.sample(np.tile(theta[0], (20_000, 1)), np.random.default_rng(1))
    expected = theta[0, 4] ** 2 * theta[0, 6] ** lag
    np.testing.assert_allclose(np.cov(drawn.T), expected, atol=0.05 * expected[0, 0])


def test_the_field_has_the_covariance_of_its_spectrum(reals):
    simulator, theta = reals.GaussianField(size=4), np.array([1.3, 1.7])
    sites = np.array(list(itertools.product(range(4), repeat=2)))
    cov = np.zeros((16, 16))
    for k in sites:
        signed = (k + 2) % 4 - 2
        power = 1.3**2 * (signed @ signed or 1) ** (-1.7 / 2)
        phase = 2 * np.pi * (sites[:, None] - sites) @ k / 4
        cov += power * np.cos(phase) / 16
    law = stats.multivariate_normal(np.zeros(16), cov)
    x = simulator.sample(np.tile(theta, (20_000, 1)), np.random.default_rng(0))
    np.testing.assert_allclose(at(simulator, theta, x), law.logpdf(x.reshape(-1, 16)))
    np.testing.assert_allclose(np.cov(x.reshape(-1, 16).T), cov, atol=0.05 * cov[0, 0])
    moved = [np.roll(x, (1, 2), (1, 2)), x[:, ::-1], x.swapaxes(1, 2), -x]
    for other in moved:
        np.testing.assert_allclose(at(simulator, theta, other), at(simulator, theta, x))


@pytest.mark.parametrize("name", ["TwoCrescents", "TwoWidths", "Slcp", "GaussianField"])
def test_they_are_simulators_of_the_house(reals, name):
    from physgen.testing import check_simulator

    assert check_simulator(getattr(reals, name)()) == []

"""Gains that fluctuate and dead rows: samples, exact log p by second routes, verdicts, ranks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose
from scipy import special, stats

from physgen.cli import main
from physgen.posterior.grid import grid_posterior, of_exact
from physgen.testing import check_simulator
from simulators.shower import Shower, ShowerEnergy, ShowerVoxel, readout

GAINS = {"gain_spread": 0.1, "gain_correlation": 0.5}
DEAD = {"dead": 0.05}
HARD = [Shower(**GAINS), Shower(**DEAD), ShowerVoxel(**GAINS), ShowerVoxel(**DEAD)]
SLOW = pytest.mark.slow


def rng(seed=1):
    return np.random.default_rng(seed)


def drawn(simulator, n, seed=1):
    theta = simulator.prior.sample(n, rng(seed))
    return theta, simulator.sample(theta, rng(seed + 100))


# --- what is off changes nothing ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("simulator", "energy", "expected"),
    [
        (Shower(), 839.56621, [28.31549032, 52.40660845]),
        (ShowerVoxel(), 824.9207, [825.92740984, 185.4167976]),
    ],
)
def test_without_options_it_is_what_it_was(simulator, energy, expected):
    generator = rng(0)
    theta = simulator.prior.sample(40, generator)
    x = simulator.sample(theta, generator)
    assert_allclose(x.sum(), energy, rtol=1e-5)
    assert_allclose(simulator.log_prob(theta[:2], x[:2]), expected, rtol=1e-9)


def test_what_is_nearly_off_is_nearly_nothing():
    for plain in (Shower(threshold=0.01), ShowerVoxel()):
        theta, x = drawn(plain, 5)
        log_p = plain.log_prob(theta, x)
        for other in ({"gain_spread": 1e-5, "gain_correlation": 0.5}, {"dead": 1e-9}):
            nearly = type(plain)(threshold=plain.threshold, **other)
            assert_allclose(nearly.log_prob(theta, x), log_p, atol=1e-5)


# --- samples ------------------------------------------------------------------------------------


def test_gains_have_their_law():
    """A gain multiplies all cells of a layer, and ln g has its spread and correlation."""
    x = np.ones((20_000, 5, 2, 3), np.float32)
    readout.read(x, 0.2, 0.6, 0.0, rng())
    assert np.all(x == x[:, :, :1, :1])
    log_gain = np.log(x[:, :, 0, 0])
    layers = np.arange(5)
    expected = 0.6 ** np.abs(layers[:, None] - layers)
    assert_allclose(log_gain.std(0), 0.2, rtol=4 / 200)
    assert_allclose(log_gain.mean(0), 0, atol=4 * 0.2 / 141)
    assert_allclose(np.corrcoef(log_gain.T), expected, atol=4 / 141)
    assert not np.allclose(
        np.corrcoef(log_gain.T), 0.5 ** np.abs(layers[:, None] - layers), 4 / 141
    )


def test_dead_rows_have_their_law():
    """Cells of a row are dead together, and rows by themselves."""
    x = np.ones((20_000, 3, 2, 4), np.float32)
    readout.read(x, 0.0, 0.0, 0.1, rng())
    assert np.all(x == x[..., :1])
    dead = x[..., 0].reshape(-1, 6) == 0
    assert_allclose(dead.mean(0), 0.1, atol=4 * 0.3 / 141)
    assert np.all(np.abs(np.corrcoef(dead.T) - np.eye(6)) < 4 / 141)
    assert abs(dead.mean() - 0.11) > 4 * 0.3 / math.sqrt(dead.size)


def test_a_threshold_comes_after_the_gain():
    simulator = Shower(threshold=0.02, **GAINS)
    x = simulator.sample(np.tile([1.0, 0.5], (500, 1)), rng())
    free = Shower(**GAINS).sample(np.tile([1.0, 0.5], (500, 1)), rng())
    assert np.array_equal(x, np.where(free > 0.02, free, 0))


# --- log p of cells of known rates --------------------------------------------------------------


def log_cell(y, rate, threshold):
    """log p of a cell in units of e, by scipy's Bessel and incomplete gamma functions."""
    if np.all(y <= threshold):
        n = np.arange(1, 80)[:, None]
        part = (stats.poisson.pmf(n, rate) * special.gammainc(n, threshold)).sum(0)
        return np.log(np.exp(-rate) + part)
    root = np.sqrt(rate * y)
    return np.log(rate * special.ive(1, 2 * root) / root) + 2 * root - rate - y


def layer_by_gain(y, rate, eta, threshold, spread, dead):
    """p of a layer's cells y (A, R) at each η (k,), a row being dead with a probability."""
    gain, total = np.exp(spread * eta), np.ones(len(eta))
    for row in y:
        log_p = np.zeros(len(eta))
        for ring, value in enumerate(row):
            at = [log_cell(value / g, rate[ring], threshold / g) for g in gain]
            log_p += np.ravel(at) - np.log(gain) * (value > threshold)
        total *= (1 - dead) * np.exp(log_p) + dead * np.all(row <= threshold)
    return total


def by_quadrature(y, rate, threshold, spread, correlation, dead):
    """log p of three layers, by Gauss–Legendre in all three gains at once."""
    t, w = np.polynomial.legendre.leggauss(60)
    eta, layers = 7 * t, np.arange(3)
    one, two, three = (
        layer_by_gain(y[i], rate[i], eta, threshold, spread, dead) * 7 * w for i in layers
    )
    law = stats.multivariate_normal(cov=correlation ** np.abs(layers[:, None] - layers))
    p = law.pdf(np.stack(np.meshgrid(eta, eta, eta, indexing="ij"), -1))
    return np.log(np.einsum("ijk,i,j,k", p, one, two, three))


def ours(y, rate, threshold, spread, correlation, dead):
    hits = readout.hits_of(y, threshold)
    settings = readout.Readout(threshold, spread, correlation, dead)
    return readout.log_chain(hits, rate, y.shape[1], settings) - hits.total


@pytest.mark.parametrize("threshold", [0.0, 0.7])
@pytest.mark.parametrize("dead", [0.0, 0.2])
@pytest.mark.parametrize(("spread", "correlation"), [(0.1, 0.0), (0.15, 0.5), (0.2, 0.6)])
def test_correlated_gains_against_a_quadrature(spread, correlation, dead, threshold):
    rate = np.array([[20.0, 1.5], [3.0, 0.4], [60.0, 7.0]])
    generator = rng(3)
    y = generator.standard_gamma(generator.poisson(rate[:, None], (3, 4, 2)).astype(float))
    y[0, 1] = y[2, 3] = 0  # two silent rows
    y *= np.exp([0.2, -0.1, 0.1])[:, None, None]
    expected = by_quadrature(y, rate, threshold, spread, correlation, dead)
    assert_allclose(ours(y, rate, threshold, spread, correlation, dead), expected, atol=2e-5)
    for other in (
        (1.05 * spread, correlation, dead),
        (spread, correlation + 0.05, dead),
        (spread, correlation, dead + 0.02),
    ):
        assert abs(ours(y, rate, threshold, *other) - expected) > 1e-4


def test_a_silent_layer_between_passes_correlation_on():
    rate, y = np.full((3, 1), 50.0), np.array([60.0, 0.0, 62.0]).reshape(3, 1, 1)
    expected = by_quadrature(y, rate, 0.0, 0.2, 0.7, 0.3)
    assert_allclose(ours(y, rate, 0.0, 0.2, 0.7, 0.3), expected, atol=1e-6)
    assert abs(ours(y, rate, 0.0, 0.2, math.sqrt(0.7), 0.3) - expected) > 1e-2


# --- log p of showers ---------------------------------------------------------------------------


class Thick(ShowerVoxel):
    """Few and thick layers, so that brute force needs no patience."""

    grid, thickness = (4, 2, 2), 5.0


@pytest.mark.parametrize(
    "options", [GAINS, {"dead": 0.2}, {**GAINS, "dead": 0.2, "threshold": 0.01}]
)
def test_against_monte_carlo(options):
    """The mean over drawn shapes and gains of what is exact given them."""
    simulator, n = Thick(**options), 10_000
    theta = np.array([[math.log(1.5), 0.5]])
    x = simulator.sample(theta, rng(5))
    rate = simulator.rates(np.repeat(theta, n, 0), rng(6)) / 2
    gain = np.ones((n, 4, 1, 1), np.float32)
    readout.read(gain, simulator.gain_spread, simulator.gain_correlation, 0.0, rng(7))
    log_p = np.zeros(n)
    for layer in range(4):
        g = gain[:, layer, 0, 0].astype(float)
        for row in x[0, layer]:
            one = np.zeros(n)
            for ring, value in enumerate(row.astype(float)):
                threshold, spot = simulator.cut / g / 0.005, 0.005 * g
                one += log_cell(value / spot, rate[:, layer, ring], threshold)
                one -= np.log(spot) * (value > simulator.cut)
            p = (1 - simulator.dead) * np.exp(one) + simulator.dead * np.all(row <= simulator.cut)
            log_p += np.log(p)
    weight = np.exp(log_p - log_p.max())
    error = weight.std() / weight.mean() / math.sqrt(n)
    expected = math.log(weight.mean()) + log_p.max()
    assert error < 0.1
    assert abs(simulator.log_prob(theta, x)[0] - expected) < 4 * error
    assert abs(simulator.log_prob(theta + np.array([0.4, 0.0]), x)[0] - expected) > 4 * error


class Whole(Shower):
    """One layer that holds nearly everything: its moments are known."""

    grid, thickness = (1, 1, 1), 100.0


@pytest.mark.parametrize("options", [{"gain_spread": 0.1}, DEAD, {"gain_spread": 0.2, **DEAD}])
def test_mass_mean_and_variance(options):
    simulator, rate, spot = Whole(**options), 40.0, 0.005
    t, w = np.polynomial.legendre.leggauss(80)
    x, w = (t + 1) ** 2 * 0.2, w * (t + 1) * 0.4
    theta = np.tile([math.log(rate * spot), 0.0], (81, 1))
    log_p = simulator.log_prob(theta, np.r_[0, x][:, None])
    atom, p = np.exp(log_p[0]), w * np.exp(log_p[1:])
    alive, s = 1 - simulator.dead, simulator.gain_spread
    mean = alive * rate * math.exp(s**2 / 2)
    square = alive * (rate**2 + 2 * rate) * math.exp(2 * s**2)
    assert_allclose(atom + p.sum(), 1, atol=1e-7)
    assert_allclose([p @ x / spot, p @ x**2 / spot**2], [mean, square], rtol=2e-4)
    assert abs(mean / rate - 1) > 1e-3
    assert_allclose(atom, simulator.dead + alive * math.exp(-rate), atol=1e-7)


def z_of(ratio):
    return (ratio.mean() - 1) / (ratio.std() / math.sqrt(len(ratio)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "n"),
    [(DEAD, 3000), (GAINS, 300), pytest.param(GAINS, 3000, marks=SLOW)],
)
def test_ratios_have_mean_1(options, n):
    """E p(x|θ′)/p(x|θ) = 1, which does not hold of another law's denominator."""
    simulator = Shower(**options)
    theta = np.tile([math.log(15.0), 1.1], (n, 1))
    x = simulator.sample(theta, rng())
    log_p = simulator.log_prob(theta, x)
    log_q = simulator.log_prob(theta + np.array([0.01, 0.1]), x)
    assert abs(z_of(np.exp(log_q - log_p))) < 4
    plain = Shower().log_prob(theta, x)
    assert abs(z_of(np.exp((log_q - plain).clip(max=2)))) > 4


@pytest.mark.parametrize(
    ("simulator", "n", "worst"),
    [
        (Shower(**DEAD), 300, 2e-3),
        (ShowerVoxel(**DEAD), 100, 2e-3),
        pytest.param(Shower(**GAINS), 200, 2e-3, marks=SLOW),
        pytest.param(ShowerVoxel(**GAINS), 60, 2e-3, marks=SLOW),
    ],
)
def test_orders_converge(simulator, n, worst):
    theta, x = drawn(simulator, n)
    error = np.abs(simulator.log_prob(theta, x) - simulator._log_prob(theta, x, 28))
    assert error.max() < worst
    assert np.median(error) < 1e-6
    assert np.abs(simulator._log_prob(theta, x, 3) - simulator.log_prob(theta, x)).max() > worst


# --- verdicts and posteriors --------------------------------------------------------------------


def failures(simulator, theta, x):
    return {v.name for v in simulator.verify(theta, x) if not v.passed}


@pytest.mark.slow
@pytest.mark.parametrize("simulator", HARD)
def test_its_own_showers_pass(simulator):
    assert failures(simulator, *drawn(simulator, 600)) == set()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (GAINS, {}),
        (GAINS, {**GAINS, "gain_spread": 0.15}),
        (GAINS, {**GAINS, "gain_correlation": 0.0}),
        (DEAD, {}),
        (DEAD, {"dead": 0.08}),
    ],
)
def test_other_options_fail(right, wrong):
    assert failures(Shower(**right), *drawn(Shower(**wrong), 1000))


def test_dead_cells_are_not_dead_rows():
    """As many cells, each by itself."""
    theta, x = drawn(ShowerVoxel(), 600)
    x[rng(9).random(x.shape) < DEAD["dead"]] = 0
    found = failures(ShowerVoxel(**DEAD), theta, x)
    assert "mean silent rows" in found
    assert "mean sparsity" not in found


def ranks(data, law, n):
    """P(ln E < truth|x) of n showers of a simulator, by the likelihood of another."""
    theta, x = drawn(data, n, 5)
    posterior = grid_posterior(of_exact(law.log_prob, x), data.prior, n)
    assert posterior.resolved.all()
    points, density = posterior.marginal(0)
    cdf = np.cumsum((density[:, 1:] + density[:, :-1]) / 2 * np.diff(points), axis=1)
    cdf = np.pad(cdf, ((0, 0), (1, 0))) / cdf[:, -1:]
    return np.array([np.interp(*row) for row in zip(theta[:, 0], points, cdf, strict=True)])


@pytest.mark.parametrize(
    ("options", "n"),
    [(DEAD, 60), pytest.param(DEAD, 500, marks=SLOW), pytest.param(GAINS, 150, marks=SLOW)],
)
def test_energy_is_calibrated(options, n):
    data = ShowerEnergy(**options)
    assert stats.kstest(ranks(data, data, n), "uniform").pvalue > 1e-3
    assert stats.kstest(ranks(data, ShowerEnergy(), n), "uniform").pvalue < 1e-3


# --- as a user ----------------------------------------------------------------------------------


@SLOW
@pytest.mark.parametrize("simulator", [*HARD, Shower(particle="photon", **DEAD)])
def test_contract(simulator):
    assert check_simulator(simulator) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("gain_spread", -0.1), ("gain_spread", 0.3), ("gain_correlation", 0.7),
     ("gain_correlation", -0.1), ("gain_correlation", 0.5), ("dead", 1.0),
     ("dead", -0.1), ("dead", math.nan)],
)  # fmt: skip
def test_options_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected .*, got {value!r}$"):
        ShowerVoxel(**{name: value})


@pytest.mark.parametrize(
    "options", [["--gain-spread", "0.1", "--gain-correlation", "0.5"], ["--dead", "0.05"]]
)
def test_on_the_command_line(tmp_path, options):
    path = str(tmp_path / "showers.h5")
    made = CliRunner().invoke(main, ["simulate", "shower", "-n", "300", "-o", path, *options])
    assert made.exit_code == 0, made.output
    found = CliRunner().invoke(main, ["inspect", path, "--verify"])
    assert found.exit_code == 0, found.output
    assert "law of the total energy" in found.output

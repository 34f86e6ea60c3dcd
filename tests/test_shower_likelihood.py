"""log p of showers by second routes: brute force, normalisation, scores, calibrated posteriors."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from scipy.interpolate import CubicSpline
from scipy.special import gammainc, ive, logsumexp, ndtr

from physgen.posterior.grid import grid_posterior, of_exact
from simulators.shower import Shower, ShowerEnergy, ShowerVoxel
from simulators.shower.likelihood import log_likelihood
from simulators.shower.readout import Readout
from simulators.shower.simulator import LAYOUTS


def rng(seed=1):
    return np.random.default_rng(seed)


# --- brute force --------------------------------------------------------------------------------


def log_normal(a, b, log_y, z):
    """log N₂ of (ln α, ln T) with its cut, from the paper's formulas."""
    m_t, s_t = math.log(log_y - 0.812), 1 / (1.26 * log_y - 1.4)
    m_a, s_a = math.log(0.81 + (0.458 + 2.26 / z) * log_y), 1 / (0.86 * log_y - 0.58)
    rho = 0.705 - 0.023 * log_y
    cov = [[s_a**2, rho * s_a * s_t], [rho * s_a * s_t, s_t**2]]
    law = stats.multivariate_normal([m_a, m_t], cov)
    return law.logpdf(np.stack([a, b], -1)) - np.log(ndtr((m_a - math.log(1.1)) / s_a))


def ring_parts(simulator, log_e, alpha, top, depth):
    """Parts of a layer's energy in its rings, (…, L, R)."""
    edges, z = simulator.edges, simulator.medium.z
    if len(edges) == 2:
        return np.ones((*alpha.shape, len(depth), 1))
    mean = 0.81 + (0.458 + 2.26 / z) * (log_e - math.log(simulator.medium.critical_energy))
    tau = depth.clip(0) * ((alpha - 1) / alpha * mean / (mean - 1) / top)[..., None]
    core = 0.0251 + 0.00319 * log_e + (0.1162 - 0.000381 * z) * tau
    tail = (0.659 - 0.00309 * z) * (
        np.exp(-2.59 * (tau - 0.645)) + np.exp((0.3585 + 0.0412 * log_e) * (tau - 0.645))
    )
    u = (0.401 + 0.00187 * z - tau) / (1.313 - 0.0686 * log_e)
    w = ((2.632 - 0.00094 * z) * np.exp(u - np.exp(u)))[..., None]
    square = edges**2
    cdf = w * square / (square + core[..., None] ** 2)
    return np.diff(cdf + (1 - w) * square / (square + tail[..., None] ** 2))


def log_cells(simulator, rate, x):
    """Σ log p(x_v|λ_v) at mean numbers of spots (…, L, R), x (L, A, R)."""
    spot, rate = simulator.spot, rate / x.shape[1]
    hit = x > simulator.cut
    atom = -rate
    if simulator.cut:
        at, n = np.linspace(0, 1.01 * np.sqrt(rate.max()), 600) ** 2, np.arange(1, 400)
        part = gammainc(n, simulator.cut / spot) @ stats.poisson.pmf(n[:, None], at)
        atom = CubicSpline(np.sqrt(at), np.log(np.exp(-at) + part + 1e-300))(np.sqrt(rate))
    total = ((~hit).sum(1) * atom).sum((-2, -1))
    for layer, _, ring in zip(*np.nonzero(hit), strict=True):
        y, r = x[layer, _, ring] / spot, rate[..., layer, ring]
        w = np.sqrt(r * y)
        with np.errstate(divide="ignore"):
            total += np.log(r * ive(1, 2 * w) / w / spot) + 2 * w - r - y
    return total


def log_integrand(simulator, log_e, start, x, a, b):
    """log of N₂ Π p on the points of a grid a (i, j), b (i, j)."""
    alpha, top = np.exp(a), np.exp(b)
    edges = start + simulator.thickness * np.arange(simulator.grid[0] + 1)
    beta = ((alpha - 1) / top)[..., None]
    share = np.diff(gammainc(alpha[..., None], beta * edges.clip(0)))
    rings = ring_parts(simulator, log_e, alpha, top, (edges[1:] + edges[:-1]) / 2)
    rate = math.exp(log_e) / simulator.spot * share[..., None] * rings
    log_y = log_e - math.log(simulator.medium.critical_energy)
    return log_normal(a, b, log_y, simulator.medium.z) + log_cells(simulator, rate + 1e-300, x)


def brute(simulator, log_e, start, x, points=160, reach=8, looks=2):
    """log p(x|θ): some coarse looks for the mass within the prior, then Gauss–Legendre on it."""
    x = x.reshape(simulator.grid).astype(float)
    log_y, z = log_e - math.log(simulator.medium.critical_energy), simulator.medium.z
    m_t, s_t = math.log(log_y - 0.812), 1 / (1.26 * log_y - 1.4)
    m_a, s_a = math.log(0.81 + (0.458 + 2.26 / z) * log_y), 1 / (0.86 * log_y - 0.58)
    centre, width = np.array([m_a, m_t]), reach * np.array([s_a, s_t])
    low, high = centre - width, centre + width
    low[0] = max(low[0], math.log(1.1))
    for n in (50,) * looks + (points,):
        t, w = np.polynomial.legendre.leggauss(n)
        a, b = (low[d] + (high[d] - low[d]) * (t + 1) / 2 for d in (0, 1))
        f = log_integrand(simulator, log_e, start, x, *np.meshgrid(a, b, indexing="ij"))
        rows, columns = np.nonzero(f > f.max() - 40)
        value = logsumexp(f, b=np.outer(w, w) * np.prod(high - low) / 4)
        a, b = (np.r_[low[d], axis, high[d]] for d, axis in enumerate((a, b)))
        low = np.array([a[rows.min()], b[columns.min()]])
        high = np.array([a[rows.max() + 2], b[columns.max() + 2]])
    return value


CASES = [
    pytest.param(Shower(), 1.2, 0.0, 1e-4, marks=pytest.mark.slow),
    (Shower(), 1.2, 3.7, 1e-3),
    pytest.param(Shower(), 5.0, 0.4, 1e-5, marks=pytest.mark.slow),
    (Shower(), 20.0, 1.3, 1e-7),
    pytest.param(Shower(), 90.0, 2.9, 1e-7, marks=pytest.mark.slow),
    (Shower(threshold=0.02), 1.5, 1.1, 1e-4),
    pytest.param(Shower(threshold=0.02), 12.0, 0.6, 1e-6, marks=pytest.mark.slow),
    (ShowerEnergy(material="Fe", resolution=0.2), 8.0, 0.0, 1e-4),
]


@pytest.mark.slow
@pytest.mark.parametrize(("simulator", "energy", "start", "error"), CASES)
def test_against_brute_force(simulator, energy, start, error):
    theta = np.array([[math.log(energy), start]])[:, : len(simulator.prior)]
    x = simulator.sample(theta, rng())
    ours = simulator.log_prob(theta, x)[0]
    assert abs(ours - brute(simulator, theta[0, 0], start, x)) < error
    assert abs(ours - brute(simulator, theta[0, 0] + 0.05, start, x)) > 10 * error
    elsewhere = theta + 0.08
    there = simulator.log_prob(elsewhere, x)[0]
    start += 0.08 * (len(simulator.prior) - 1)
    assert abs(there - brute(simulator, elsewhere[0, 0], start, x)) < 10 * error


def test_energies_far_too_high_mean_a_shower_that_leaks():
    """Of 20 GeV hits of 1.5 GeV are the start, in a second mode of the integrand."""
    simulator = Shower()
    x = simulator.sample(np.array([[math.log(1.5), 0.2]]), rng())
    for log_e in (1.8, 3.0):
        expected = brute(simulator, log_e, 0.2, x, reach=16)
        assert abs(simulator.log_prob(np.array([[log_e, 0.2]]), x)[0] - expected) < 0.1


@pytest.mark.parametrize(("energy", "start", "threshold"), [(2.0, 0.5, 0.0), (15.0, 2.2, 0.004)])
def test_voxels_against_brute_force(energy, start, threshold):
    simulator = ShowerVoxel(threshold=threshold)
    theta = np.array([[math.log(energy), start]])
    x = simulator.sample(theta, rng())
    expected = brute(simulator, theta[0, 0], start, x, 60)
    assert abs(simulator.log_prob(theta, x)[0] - expected) < 1e-4
    assert abs(simulator.log_prob(theta, np.roll(x, 1, 3))[0] - expected) > 1


@pytest.mark.slow
@pytest.mark.parametrize("energy", [8.0, pytest.param(1000.0, marks=pytest.mark.slow)])
def test_dataset_2_against_brute_force(energy):
    """With the threshold in, which at 1 TeV is 0.1 nats and more: without it is another law."""
    simulator = ShowerVoxel(layout="calochallenge-2")
    theta = np.array([[math.log(energy), 1.7]])
    x = simulator.sample(theta, rng())
    expected = brute(simulator, theta[0, 0], 1.7, x, 30, looks=3)
    assert abs(simulator.log_prob(theta, x)[0] - expected) < 1e-5 * abs(expected) ** 0.5
    free = LAYOUTS["calochallenge-2"]._replace(threshold=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LAYOUTS, "calochallenge-2", free)
        assert abs(simulator.log_prob(theta, x)[0] - expected) > 0.1


@pytest.mark.slow
def test_a_photon_against_brute_force():
    """The mean over conversion depths, layer by layer up to the end of the first that is hit."""
    simulator, start = Shower(particle="photon"), 0.6
    theta = np.array([[math.log(8.0), start]])
    x = simulator.sample(theta, rng(3))
    last = start + np.nonzero(x[0])[0][0] + 1
    edges = np.r_[0, np.arange(start, last + 0.5)]
    t, w = np.polynomial.legendre.leggauss(9)
    parts = [
        brute(simulator, theta[0, 0], start - t0, x, 50) + math.log(v * 7 / 9) - t0 * 7 / 9
        for low, high in pairwise(edges)
        for t0, v in zip(low + (high - low) * (t + 1) / 2, w * (high - low) / 2, strict=True)
    ]
    expected = logsumexp(parts)
    assert abs(simulator.log_prob(theta, x)[0] - expected) < 1e-5
    assert abs(Shower().log_prob(theta, x)[0] - expected) > 1e-2


def test_a_shower_that_cannot_be_and_one_that_is_nothing():
    x = np.zeros((1, 25))
    for particle in ("electron", "photon"):
        simulator = Shower(particle=particle, threshold=0.03)
        empty = np.exp(simulator.log_prob(np.array([[-2.0, 1.0]]), x))
        drawn = simulator.sample(np.tile([-2.0, 1.0], (20_000, 1)), rng())
        assert_allclose(empty, (drawn == 0).all(1).mean(), atol=4 * 0.5 / 141)
    for simulator in (Shower(), Shower(threshold=0.1)):  # it would have to lie behind the layers
        log_p = simulator.log_prob(np.array([[4.0, 0.0]]), x)[0]
        assert abs(log_p - brute(simulator, 4.0, 0.0, x, 200, reach=40)) < 0.2


# --- the quadrature -----------------------------------------------------------------------------


@pytest.mark.slow
def test_orders_converge():
    simulator = Shower()
    theta = simulator.prior.sample(400, rng(2))
    x = simulator.sample(theta, rng(3))
    error = np.abs(simulator.log_prob(theta, x) - simulator._log_prob(theta, x, 28))
    assert error.max() < 1e-3
    assert np.median(error) < 1e-7
    assert error[theta[:, 0] > math.log(12)].max() < 3e-7
    assert np.abs(simulator._log_prob(theta, x, 3) - simulator.log_prob(theta, x)).max() > 1e-3


def test_grids_agree():
    """One ring and one azimuth are layers; cells of one ring share its energy evenly."""
    simulator = Shower()
    theta = simulator.prior.sample(20, rng(2))
    x = simulator.sample(theta, rng(3)).astype(float) / simulator.spot
    common = {"thickness": 1.0, "spot": simulator.spot, "photon": False}
    common |= {"readout": Readout(0.0, 0.0, 0.0, 0.0), "material": simulator.medium, "order": 12}
    split = np.stack([x, np.zeros_like(x)], -1)[:, :, None, :]
    layers = log_likelihood(*theta.T, x[:, :, None, None], edges=np.array([0, np.inf]), **common)
    rings = log_likelihood(*theta.T, split, edges=np.array([0, 1e9, np.inf]), **common)
    assert_allclose(rings, layers, rtol=1e-9)
    y = np.concatenate([x, 0 * x], 1)[:, :25, None, None]
    assert np.array_equal(
        log_likelihood(*theta.T, y, edges=np.array([0, np.inf]), **common), layers
    )


# --- log p and samples belong together ----------------------------------------------------------


def z_of(ratio):
    return (ratio.mean() - 1) / (ratio.std() / math.sqrt(len(ratio)))


@pytest.mark.slow
@pytest.mark.parametrize(("energy", "start"), [(1.5, 0.3), (15.0, 2.1)])
def test_ratios_have_mean_1(energy, start):
    simulator, n = Shower(), 2000
    theta = np.tile([math.log(energy), start], (n, 1))
    moved = theta + np.array([0.08 / math.sqrt(energy), 0.1])
    x = simulator.sample(theta, rng())
    log_p, log_q = simulator.log_prob(theta, x), simulator.log_prob(moved, x)
    assert abs(z_of(np.exp(log_q - log_p))) < 4
    other = Shower(resolution=0.11).log_prob(theta, x)
    assert abs(z_of(np.exp(log_q - other).clip(0, 10))) > 4


@pytest.mark.slow
@pytest.mark.parametrize("n", [1000, pytest.param(2000, marks=pytest.mark.slow)])
def test_scores_have_mean_0(n):
    simulator = Shower()
    theta = simulator.prior.sample(n, rng()) * 0.9 + 0.05
    step = np.array([1e-3, 1e-2])

    def z(x):
        scores = [
            simulator.log_prob(theta + d, x) - simulator.log_prob(theta - d, x)
            for d in np.diag(step)
        ]
        return [s.mean() / (s.std() / math.sqrt(n)) for s in scores]

    x = simulator.sample(theta, rng(2))
    assert np.all(np.abs(z(x)) < 4)
    assert np.abs(z(1.02 * x)).max() > 4


# --- posteriors ---------------------------------------------------------------------------------


def ranks(data, n):
    """P(ln E < truth|x) of n showers of a simulator, by the likelihood at c = 0.10."""
    theta = data.prior.sample(n, rng(5))
    x = data.sample(theta, rng(6))
    posterior = grid_posterior(of_exact(ShowerEnergy().log_prob, x), data.prior, n)
    assert posterior.resolved.all()
    points, density = posterior.marginal(0)
    cdf = np.cumsum((density[:, 1:] + density[:, :-1]) / 2 * np.diff(points), axis=1)
    cdf = np.pad(cdf, ((0, 0), (1, 0))) / cdf[:, -1:]
    return np.array([np.interp(*row) for row in zip(theta[:, 0], points, cdf, strict=True)])


@pytest.mark.slow
@pytest.mark.parametrize("n", [300, pytest.param(1000, marks=pytest.mark.slow)])
def test_energy_is_calibrated(n):
    assert stats.kstest(ranks(ShowerEnergy(), n), "uniform").pvalue > 1e-3


@pytest.mark.slow
def test_energy_of_a_wrong_resolution_is_not():
    assert stats.kstest(ranks(ShowerEnergy(resolution=0.13), 300), "uniform").pvalue < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "uniform"), [(1.0, True), (1.04, False)])
def test_highest_densities_are_calibrated_in_two_dimensions(scale, uniform):
    simulator, n, draws = Shower(), 150, 499
    theta = simulator.prior.sample(n, rng(7))
    x = scale * simulator.sample(theta, rng(8))
    posterior = grid_posterior(of_exact(simulator.log_prob, x), simulator.prior, n)
    others = posterior.log_prob(posterior.sample(draws, rng(9)))
    rank = (others < posterior.log_prob(theta[:, None])).sum(1)
    p = stats.kstest((rank + rng(10).random(n)) / (draws + 1), "uniform").pvalue
    assert p > 1e-3 if uniform else p < 1e-3

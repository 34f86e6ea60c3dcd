"""The grid posterior against closed forms and quadrature, by a second route each."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import kstest, norm, qmc, truncnorm

from benchmarks.reals.laws import TwoWidths
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.posterior.chebyshev import Polynomials
from physgen.posterior.density import halton
from physgen.posterior.grid import grid_posterior, iid_sets, of_exact, of_surrogate
from physgen.posterior.interpolation import interpolate, on_axes, upper_bound
from physgen.surrogates.base import Likelihood, Surrogate
from simulators.field import GaussianField
from simulators.gaussian import LinearGaussian
from simulators.prior import Box

LINE = Box(theta=(-2.0, 2.0))


def data(simulator, n, seed=0):
    rng = np.random.default_rng(seed)
    theta = simulator.prior.sample(n, rng)
    return theta, simulator.sample(theta, rng)


def posterior(simulator, x, **options):
    return grid_posterior(of_exact(simulator.log_prob, x), simulator.prior, len(x), **options)


def truncated(simulator, x):
    """Mean, sd and bounds of the exact posterior of one parameter on the box."""
    mean, cov = simulator.posterior(x)
    sd = np.sqrt(cov[0, 0])
    a, b = (-2 - mean[:, 0]) / sd, (2 - mean[:, 0]) / sd
    return truncnorm(a, b, mean[:, 0], sd)


@pytest.mark.parametrize("noise", [0.005, 0.02, 0.5, 2.0, 20.0])
def test_one_parameter_agrees_with_the_truncated_gaussian(noise):
    simulator = LinearGaussian(size=7, parameters=1, noise=noise)
    _, x = data(simulator, 53)
    exact, grid = truncated(simulator, x), posterior(simulator, x)
    assert grid.resolved.all()
    most = 23 if noise < 1 else 12
    assert grid.evaluations.max() == most, "a Gaussian's log p is a polynomial"
    np.testing.assert_allclose((grid.mean[:, 0] - exact.mean()) / exact.std(), 0, atol=2e-3)
    np.testing.assert_allclose(grid.sd[:, 0] / exact.std(), 1, atol=3e-3)
    for q in (0.001, 0.1, 0.5, 0.99):
        np.testing.assert_allclose(exact.cdf(grid.quantile(q)[:, 0]), q, atol=5e-4)
    theta = exact.rvs((5, 53), random_state=np.random.default_rng(1)).T[..., None]
    expected = exact.logpdf(theta[..., 0].T).T
    np.testing.assert_allclose(grid.log_prob(theta), expected, atol=1e-3)


@pytest.mark.parametrize("parameters", [2, 3])
def test_several_parameters_agree_with_the_closed_form(parameters):
    simulator = LinearGaussian(size=7, parameters=parameters, noise=0.05)
    _, x = data(simulator, 13)
    mean, cov = simulator.posterior(x)
    sd = np.sqrt(np.diag(cov))
    inside = (abs(mean) + 6 * sd < 2).all(-1)
    grid = posterior(simulator, x)
    assert inside.sum() > 5
    assert grid.resolved.all()
    shift, ratio = {2: (1e-3, 0.006), 3: (3e-3, 0.01)}[parameters]
    np.testing.assert_allclose(((grid.mean - mean) / sd)[inside], 0, atol=shift)
    np.testing.assert_allclose((grid.sd / sd)[inside], 1, atol=ratio)
    a, k = simulator.matrix, simulator.size
    residual = x - simulator.mean(mean)
    chi2 = (residual**2).sum(-1) / simulator.noise**2
    log_det = np.linalg.slogdet(a.T @ a / simulator.noise**2)[1]
    evidence = -0.5 * chi2 - 0.5 * log_det + parameters / 2 * np.log(2 * np.pi)
    evidence -= k * np.log(simulator.noise * np.sqrt(2 * np.pi)) + parameters * np.log(4)
    np.testing.assert_allclose(grid.log_evidence[inside], evidence[inside], atol=0.01)


BOXES = {
    "cross section": (1e-20, 5e-20),
    "Julian date": (2459000.0, 2459000.5),
    "luminosity": (1e44, 3e44),
    "tiny": (-1e-300, 1e-300),
}


@pytest.mark.parametrize("name", BOXES)
def test_theta_of_any_size_has_the_same_posterior(name):
    """Mean, width, quantiles, density, marginal and draws in the prior's own coordinates."""
    centre, width, unit = np.array([0.1, -0.4]), np.array([0.05, 0.2]), Box(a=(-1.0, 1.0))
    box = Box(a=BOXES[name])

    def found(prior):
        def log_p(theta, which):
            c = prior.to_coordinates(theta)[..., 0]
            return -(((c - centre[which, None]) / width[which, None]) ** 2) / 2

        return grid_posterior(log_p, prior, 2)

    one, other = found(unit), found(box)
    exact = truncnorm((-1 - centre) / width, (1 - centre) / width, centre, width)
    tight = {"rtol": 1e-6, "atol": 1e-7}
    np.testing.assert_allclose(box.to_coordinates(other.mean)[:, 0], exact.mean(), atol=1e-3)
    np.testing.assert_allclose((other.sd / box.slope(np.zeros(1)))[:, 0], exact.std(), rtol=0.01)
    np.testing.assert_allclose(box.to_coordinates(other.mean), one.mean, **tight)
    np.testing.assert_allclose(other.sd / box.slope(np.zeros(1)), one.sd, **tight)
    np.testing.assert_allclose(other.log_evidence, one.log_evidence, atol=1e-6)
    np.testing.assert_allclose(box.to_coordinates(other.interval(0.9)), one.interval(0.9), **tight)
    c = np.random.default_rng(1).uniform(-0.9, 0.9, (2, 5, 1))
    theta = box.from_coordinates(c)
    np.testing.assert_allclose(other.cdf(theta), one.cdf(c), atol=1e-6)
    density = other.log_prob(theta) - box.log_prob(theta)
    np.testing.assert_allclose(density, one.log_prob(c) - unit.log_prob(c), rtol=1e-5, atol=1e-5)
    axis, marginal = other.marginal(0)
    np.testing.assert_allclose(
        marginal * box.slope(np.zeros(1)), one.marginal(0)[1], rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(box.to_coordinates(axis[..., None])[..., 0], one.axes[0], atol=1e-7)
    draws = [p.sample(50, np.random.default_rng(0)) for p in (other, one)]
    assert box.contains(draws[0]).all()
    np.testing.assert_allclose(box.to_coordinates(draws[0]), draws[1], atol=1e-6)


def test_evidence_of_a_truncated_posterior_agrees_with_quadrature():
    simulator = LinearGaussian(size=3, parameters=1, noise=1.5)
    _, x = data(simulator, 5)
    for row, log_evidence in zip(x, posterior(simulator, x).log_evidence, strict=True):
        value, _ = quad(
            lambda t, row=row: np.exp(simulator.log_prob(np.array([[t]]), row[None])[0]) / 4, -2, 2
        )
        assert log_evidence == pytest.approx(np.log(value), abs=1e-3)


def test_mass_piled_up_at_a_bound():
    grid = grid_posterior(lambda theta, _: -theta[..., 0] / 0.01, LINE, 1)
    assert grid.resolved.all()
    assert grid.mean[0, 0] == pytest.approx(-1.99, abs=2e-4)
    assert grid.sd[0, 0] == pytest.approx(0.01, rel=0.02)
    assert grid.log_evidence[0] == pytest.approx(200 + np.log(0.01 / 4), abs=0.02)
    assert grid.interval(0.9)[0, 0, 0] == pytest.approx(-2 - 0.01 * np.log(0.95), abs=1e-4)


def test_two_narrow_modes_keep_their_weights():
    centres, widths = np.array([1.013, -0.7]), np.array([0.02, 0.03])

    def log_p(theta, _):
        return np.logaddexp(
            *(-(((theta[..., 0] - c) / s) ** 2) / 2 for c, s in zip(centres, widths, strict=True))
        )

    grid = grid_posterior(log_p, LINE, 1)
    weights = widths / widths.sum()
    assert grid.resolved.all()
    assert grid.evaluations <= 75 + 2 * 23
    assert grid.mean[0, 0] == pytest.approx(weights @ centres, abs=1e-3)
    assert grid.log_evidence[0] == pytest.approx(
        np.log(widths.sum() * np.sqrt(2 * np.pi) / 4), abs=1e-3
    )
    draws = grid.sample(20_000, np.random.default_rng(0))[0, :, 0]
    assert (draws > 0).mean() == pytest.approx(weights[0], abs=0.012)
    assert not ((draws > -0.4) & (draws < 0.8)).any()


def test_a_mode_that_the_first_polynomial_hides_is_kept():
    """Of two modes narrower than its nodes are apart it may leave one out of the second's box."""
    rng = np.random.default_rng(0)
    centres, widths = rng.uniform(-1.8, 1.8, (200, 2)), rng.uniform(0.02, 0.08, (200, 2))

    def log_p(theta, which):
        z = (theta - centres[which, None]) / widths[which, None]
        return np.logaddexp.reduce(-(z**2) / 2 - np.log(widths[which, None]), -1)

    grid = grid_posterior(log_p, LINE, len(centres))
    sides = norm.cdf((2 - centres) / widths) - norm.cdf((-2 - centres) / widths)
    exact = np.log(sides.sum(1) * np.sqrt(2 * np.pi) / 4)
    off = abs(grid.log_evidence - exact) > 0.1
    assert (grid.resolved & off).sum() <= 6, "they are off without a word"


SPINS, SUM = np.array([64.0, 64.0, 6400.0]), np.array([3.0, 20.0, 2000.0])


def smooth(theta, which):
    """log p of a sum of spins in a field: analytic, no Gaussian, and once narrow."""
    t = theta[..., 0]
    return SUM[which, None] * t - SPINS[which, None] * np.log(np.cosh(t))


def saw(theta, which):
    """The same with kinks, as a network of ReLUs has."""
    return smooth(theta, which) - abs(theta[..., 0] * 7 % 1 - 0.5)


@pytest.mark.parametrize("law", [smooth, saw])
def test_a_polynomial_is_taken_where_it_is_log_p(monkeypatch, law):
    dense = grid_posterior(law, LINE, 3, nodes=801, rounds=1)

    def off(other):
        return abs(np.stack([(other.mean - dense.mean) / dense.sd, other.sd / dense.sd - 1]))

    found = grid_posterior(law, LINE, 3)
    if law is smooth:
        assert found.evaluations.tolist() == [14, 14, 23], "the last needs a finer polynomial"
        assert off(found).max() < 0.01
        return
    assert (found.evaluations > 30).all()
    assert off(found)[:, found.resolved[:, None]].max() < 0.05
    monkeypatch.setattr("physgen.posterior.grid.CLOSE", np.inf)
    blind = grid_posterior(law, LINE, 3)
    assert (blind.evaluations <= 25).all()
    assert off(blind).max() > 0.05, "the control: polynomials that nobody looked at"


def test_few_evaluations_tell_the_posteriors_of_ising_lattices(monkeypatch):
    simulator = Law.of("ising", {"size": 8}).build()
    _, x = data(simulator, 40)
    dense = posterior(simulator, x, nodes=401, rounds=1)

    def off(found):
        return max(
            abs((found.mean - dense.mean) / dense.sd).max(), abs(found.sd / dense.sd - 1).max()
        )

    found = posterior(simulator, x)
    assert found.evaluations.mean() < 15
    assert off(found) < 0.01
    for name, value in (("POINTS", {1: 4}), ("NEAR", np.inf), ("CLOSE", np.inf)):
        monkeypatch.setattr(f"physgen.posterior.grid.{name}", value)
    assert off(posterior(simulator, x)) > 0.01, "the control: few points, and nobody looks"


def test_a_kink_is_resolved_or_told(monkeypatch):
    rng = np.random.default_rng(0)
    centre, width = rng.uniform(-1.5, 1.5, 40), np.exp(rng.uniform(*np.log([0.01, 0.5]), 40))

    def laplace(theta, which):
        return -abs(theta[..., 0] - centre[which, None]) / width[which, None]

    ends = np.exp(-(2 - centre) / width) + np.exp(-(2 + centre) / width)
    exact = np.log(width * (2 - ends) / 4)

    def off(grid):
        return abs(grid.log_evidence - exact)[grid.resolved].max()

    assert off(grid_posterior(laplace, LINE, 40)) < 0.04
    monkeypatch.setattr("physgen.posterior.grid.EVIDENCE", np.inf)
    assert off(grid_posterior(laplace, LINE, 40)) > 0.08, "the control: nobody looks at it"


@pytest.mark.slow
def test_three_parameters_are_resolved_as_the_points_between_tell():
    """Of a correlation no cell is as flat as it should be, and the interpolation is right."""
    cov = 0.15**2 * (0.8 + 0.2 * np.eye(3))
    precision, box = np.linalg.inv(cov), Box(a=(-2.0, 2.0), b=(-2.0, 2.0), c=(-2.0, 2.0))
    exact = 0.5 * np.linalg.slogdet(2 * np.pi * cov)[1] - 3 * np.log(4)

    def found(log_p):
        return grid_posterior(lambda t, _: log_p(t), box, 1, nodes=15)

    grid = found(lambda t: -np.einsum("ngi,ij,ngj->ng", t, precision, t) / 2)
    assert grid.resolved.all()
    np.testing.assert_allclose(grid.sd, 0.15, rtol=0.015)
    assert grid.log_evidence[0] == pytest.approx(exact, abs=0.03)
    root = np.linalg.cholesky(precision)
    assert not found(lambda t: -abs(t @ root).sum(-1)).resolved.any(), "the control: kinks"


def test_a_polynomial_whose_mass_is_at_one_node_has_no_box_for_another():
    def log_likelihood(theta, which=None):
        u = 20 * (theta[..., 0] - 0.3)
        return -1e5 * (np.exp(u) - 1 - u)

    grid = grid_posterior(log_likelihood, LINE, 1)
    np.testing.assert_allclose(grid.mean, 0.3, atol=1e-5)
    np.testing.assert_allclose(grid.sd, 1 / np.sqrt(400 * 1e5), rtol=0.01)


def test_polynomials_are_exact_for_polynomials_on_boxes_of_their_own():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 4, 4))
    low, high = np.array([[-1.0, 0], [0, 2], [-3, -2]]), np.array([[1.0, 3], [0.5, 5], [4, -1]])

    def function(c, which):
        powers = c[..., None] ** np.arange(4)
        return np.einsum("ngi,ngj,nij->ng", powers[..., 0, :], powers[..., 1, :], a[which])

    fit = Polynomials.of(function, np.arange(3), low, high, 4)
    which = rng.integers(3, size=50)
    c = rng.uniform(low[which], high[which])[:, None]
    np.testing.assert_allclose(fit.at(c, which), function(c, which), rtol=1e-9, atol=1e-7)
    lower = Polynomials.of(function, np.arange(3), low, high, 3)
    assert abs(lower.at(c, which) - function(c, which)).max() > 1, "the control"
    end, first = high[:1, None], np.zeros(1, int)
    assert fit.at(end + 1, first) < fit.at(end, first) - 20 + 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [1, 2, 3])
def test_a_peak_between_the_nodes_is_found(parameters):
    """Half of the mass a tenth as wide as the rest, and between the first nodes."""
    law, rng = TwoWidths(parameters), np.random.default_rng(0)
    x = law.sample(law.prior.sample(23, rng), rng)
    grid = grid_posterior(of_exact(law.log_prob, x), law.prior, len(x))
    each = [norm.cdf((10 - x) / w) - norm.cdf((-10 - x) / w) for w in law.widths]
    exact = np.log(np.mean(np.prod(each, -1), 0)) - parameters * np.log(20)
    off = abs(grid.log_evidence - exact)
    assert np.median(off) < {1: 0.15, 2: 0.05, 3: 0.05}[parameters]
    assert (grid.resolved & (off > 0.1)).mean() < 0.1, "they are off without a word"


def test_a_ridge_between_two_parameters():
    width, rho, centre = 0.02, 0.95, np.array([0.331, -0.4])
    cov = width**2 * np.array([[1, rho], [rho, 1]])
    precision = np.linalg.inv(cov)
    grid = grid_posterior(
        lambda t, _: -np.einsum("ngi,ij,ngj->ng", t - centre, precision, t - centre) / 2,
        Box(a=(-2.0, 2.0), b=(-2.0, 2.0)),
        1,
    )
    np.testing.assert_allclose((grid.mean[0] - centre) / width, 0, atol=1e-3)
    np.testing.assert_allclose(grid.sd[0] / width, 1, atol=1e-3)
    draws = grid.sample(20_000, np.random.default_rng(0))[0]
    assert np.corrcoef(draws.T)[0, 1] == pytest.approx(rho, abs=0.003)


@pytest.mark.parametrize("width", [0.3, 0.01])
def test_the_bound_of_a_ridge_is_exact_however_coarse_the_nodes(width):
    precision = np.linalg.inv(width**2 * np.array([[1, 0.9], [0.9, 1]]))
    axes = np.linspace(-1, 1, 7)[None], np.linspace(-1, 1, 11)[None]
    new = np.linspace(-1, 1, 17)[None], np.linspace(-1, 1, 13)[None]

    def log_p(x, y):
        t = np.stack(np.meshgrid(x[0] - 0.1, y[0] + 0.2, indexing="ij"), -1)
        return -np.einsum("abi,ij,abj->ab", t, precision, t)[None] / 2

    found = on_axes(axes, log_p(*axes), new, upper_bound)
    np.testing.assert_allclose(found, log_p(*new), rtol=1e-9, atol=1e-9)
    if width < 0.1:
        assert (on_axes(axes, log_p(*axes), new) < log_p(*new) - 10).any(), "the control"


def test_what_is_bounded_is_not_evaluated_and_tells_nothing(monkeypatch):
    """Maps of a Gaussian field: fewer evaluations, the same posteriors."""
    field, rng = GaussianField(16), np.random.default_rng(5)
    x = field.sample(field.prior.sample(11, rng), rng)

    def at(negligible):
        monkeypatch.setattr("physgen.posterior.grid.NEGLIGIBLE", negligible)
        return posterior(field, x, nodes=18)

    found, whole, wrong = at(18.0), at(np.inf), at(0.5)
    assert found.resolved.all()
    assert found.evaluations.mean() < min(540, 0.8 * whole.evaluations.mean())

    def off(other):
        return abs(np.stack([(other.mean - whole.mean) / whole.sd, other.sd / whole.sd - 1]))

    assert off(found).max() < 1e-3
    assert off(wrong).max() > 5e-3


def test_zero_probability_inside_the_box():
    grid = grid_posterior(
        lambda t, _: np.where(t[..., 0] > 0.3, -((t[..., 0] / 0.5) ** 2) / 2, -np.inf), LINE, 1
    )
    exact = truncnorm(0.6, 4, 0, 0.5)
    assert grid.mean[0, 0] == pytest.approx(exact.mean(), abs=1e-3)
    assert grid.sd[0, 0] == pytest.approx(exact.std(), abs=1e-3)
    assert grid.sample(1000, np.random.default_rng(0)).min() > 0.299
    assert grid.log_prob(np.array([[[0.2], [-2.5]]])).tolist() == [[-np.inf, -np.inf]]


def test_heavy_tails():
    grid = grid_posterior(lambda t, _: -3 * np.log1p((t[..., 0] / 0.1) ** 2), LINE, 1)
    value, _ = quad(lambda t: (1 + (t / 0.1) ** 2) ** -3 / 4, -2, 2, points=[0])
    assert grid.log_evidence[0] == pytest.approx(np.log(value), abs=0.02)


def test_without_the_zoom_a_narrow_posterior_is_wrong_and_says_so():
    simulator = LinearGaussian(size=7, parameters=1, noise=0.02)
    _, x = data(simulator, 53)
    coarse = posterior(simulator, x, rounds=1)
    assert not coarse.resolved.any()
    assert (coarse.sd[:, 0] / truncated(simulator, x).std() > 1.05).mean() > 0.5


def test_draws_are_continuous_and_follow_the_exact_posterior():
    simulator = LinearGaussian(size=7, parameters=1)
    _, x = data(simulator, 7)
    draws = posterior(simulator, x).sample(4000, np.random.default_rng(3))
    assert len(np.unique(draws)) == draws.size
    exact = truncated(simulator, x)
    u = exact.cdf(draws[..., 0].T).T
    assert min(kstest(row, "uniform").pvalue for row in u) > 1e-3


@pytest.mark.parametrize("parameters", [1, 2])
@pytest.mark.slow
def test_credible_intervals_cover_the_truth(parameters):
    simulator = LinearGaussian(size=5, parameters=parameters)
    n = 997 if parameters == 1 else 199
    theta, x = data(simulator, n)
    low, high = np.moveaxis(posterior(simulator, x).interval(0.8), 1, 0)
    covered = ((low < theta) & (theta < high)).mean(0)
    np.testing.assert_allclose(covered, 0.8, atol=4 * np.sqrt(0.16 / n))
    wrong = LinearGaussian(size=5, parameters=parameters, noise=0.25)
    low, high = np.moveaxis(posterior(wrong, x).interval(0.8), 1, 0)
    assert (((low < theta) & (theta < high)).mean(0) < 0.72).all()


def test_iid_rows_are_one_observation():
    simulator = LinearGaussian(size=5, parameters=1)
    theta = np.full((11, 1), 0.4)
    x = simulator.sample(theta, np.random.default_rng(0))
    grid = grid_posterior(of_exact(simulator.log_prob, x, iid=True), simulator.prior, 1)
    mean, cov = simulator.posterior(x)
    assert grid.mean[0, 0] == pytest.approx(mean.mean(), abs=1e-4)
    assert grid.sd[0, 0] == pytest.approx(np.sqrt(cov[0, 0] / 11), rel=1e-3)
    twice = iid_sets(of_exact(simulator.log_prob, np.concatenate([x, x])), 11)
    both = grid_posterior(twice, simulator.prior, 2)
    np.testing.assert_allclose(both.mean, grid.mean.repeat(2, 0))


@dataclass(frozen=True)
class NoConfig:
    """No options."""


class Noisy(Surrogate):
    """log p of the toy with noise that is smooth in θ and belongs to x's index; or is not."""

    name = "noisy"
    likelihood = Likelihood.ESTIMATE
    Config = NoConfig

    def __init__(self, simulator, *, common=True):
        options = {"size": simulator.size, "parameters": simulator.parameters}
        super().__init__(Law.of("gaussian", options), NoConfig())
        self.simulator, self.common = simulator, common
        self.rows, self.anything = 0, torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def _loss(self, c, z, generator, progress):
        raise NotImplementedError

    def _sample(self, c, generator):
        raise NotImplementedError

    def _log_prob(self, c, z, noise, draws):
        self.rows += len(c)
        eps = noise.normal(draws).double().mean(1)
        if not self.common:
            eps = torch.randn(len(c), generator=self.anything, dtype=torch.float64)
        value = torch.as_tensor(self.simulator.log_prob(2 * c.double().numpy(), z.numpy()))
        return value + 0.3 * eps * c[:, 0], torch.zeros(len(c))


def test_a_surrogate_meets_the_same_noise_under_every_theta():
    simulator = LinearGaussian(size=5, parameters=1)
    _, x = data(simulator, 13)
    surrogate = Noisy(simulator)
    grid = grid_posterior(of_surrogate(surrogate, x, draws=3, seed=7), simulator.prior, 13)
    assert grid.resolved.all()
    assert surrogate.rows == grid.evaluations.sum()
    again = grid_posterior(of_surrogate(surrogate, x, draws=3, seed=7), simulator.prior, 13)
    np.testing.assert_array_equal(grid.values, again.values)
    surrogate.chunk = 17
    chunked = grid_posterior(of_surrogate(surrogate, x, draws=3, seed=7), simulator.prior, 13)
    np.testing.assert_allclose(chunked.values, grid.values, atol=1e-9)
    other = grid_posterior(of_surrogate(surrogate, x, draws=3, seed=8), simulator.prior, 13)
    assert abs(other.mean - grid.mean).max() > 1e-4


def test_noise_that_depends_on_theta_is_not_resolved():
    simulator = LinearGaussian(size=5, parameters=1, noise=1.0)
    _, x = data(simulator, 3)
    surrogate = Noisy(simulator, common=False)
    grid = grid_posterior(of_surrogate(surrogate, x, draws=1), simulator.prior, 3, tolerance=0.3)
    smooth = grid_posterior(of_surrogate(Noisy(simulator), x), simulator.prior, 3, tolerance=0.3)
    assert smooth.resolved.all()
    assert not grid.resolved.all()


def test_observations_may_be_evaluated_apart(monkeypatch):
    simulator = LinearGaussian(size=5, parameters=2)
    _, x = data(simulator, 7)
    whole = posterior(simulator, x)
    monkeypatch.setattr("physgen.posterior.grid.VALUES", 2000)
    np.testing.assert_array_equal(posterior(simulator, x).values, whole.values)
    np.testing.assert_array_equal(whole[2:5].mean, whole.mean[2:5])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-30, 0), min_size=6, max_size=12), st.integers(0, 10))
def test_interpolation_invents_no_mass(values, cliff):
    f = np.array([values])
    f[0, min(cliff, len(values) - 1)] = -1e10
    x = np.linspace(0, 1, len(values))[None] ** 2
    new = np.linspace(0, 1, 501)[None]
    fine = interpolate(x, f, new)
    cell = np.searchsorted(x[0], new[0], side="right").clip(1, len(values) - 1)
    assert (fine[0] <= np.maximum(f[0, cell - 1], f[0, cell]) + 0.25).all()
    np.testing.assert_allclose(interpolate(x, f, x), f, rtol=1e-9, atol=1e-9)


def test_interpolation_is_exact_for_cubics():
    x = np.sort(np.random.default_rng(0).random((3, 7)), -1)
    new = np.linspace(x.min(-1), x.max(-1), 19).T

    def cubic(t):
        return -2 * (t - 0.4) ** 2 - 0.1 * t**3

    np.testing.assert_allclose(
        interpolate(x, cubic(x), new)[:, 6:-6], cubic(new)[:, 6:-6], atol=1e-9
    )


def test_bad_calls_are_refused():
    def zero(theta, _):
        return np.zeros(theta.shape[:2])

    with pytest.raises(UsageError, match="1 to 3 parameters"):
        grid_posterior(zero, Box(a=(0, 1), b=(0, 1), c=(0, 1), d=(0, 1)), 1)
    with pytest.raises(UsageError, match="at least 5 nodes"):
        grid_posterior(zero, LINE, 1, nodes=4)
    with pytest.raises(DataError, match=r"observation 1: .* got a maximum of nan"):
        grid_posterior(lambda t, i: np.where(i[:, None] == 1, np.nan, t[..., 0]), LINE, 2)
    with pytest.raises(DataError, match="got a maximum of -inf"):
        grid_posterior(lambda t, i: zero(t, i) - np.inf, LINE, 1)


def test_a_flat_likelihood_gives_back_the_prior():
    grid = grid_posterior(lambda t, _: np.zeros(t.shape[:2]), LINE, 1)
    assert grid.evaluations == 10 + 2
    assert grid.log_evidence[0] == pytest.approx(0, abs=1e-12)
    assert grid.sd[0, 0] == pytest.approx(4 / np.sqrt(12))
    np.testing.assert_allclose(grid.quantile(np.array([0.0, 0.25, 1.0]))[0, :, 0], [-2, -1, 2])


def test_a_tail_far_outside_keeps_its_log_density():
    grid = grid_posterior(lambda t, _: -((t[..., 0] / 0.02) ** 2) / 2, LINE, 1)
    theta = np.array([[[0.5], [-1.5]]])
    np.testing.assert_allclose(
        grid.log_prob(theta), norm(0, 0.02).logpdf(theta[..., 0]), rtol=0.02
    )


@settings(deadline=None, max_examples=12)
@given(
    st.sampled_from([(1, 0.005), (1, 0.5), (1, 20.0), (2, 0.05), (3, 0.5)]),
    st.lists(st.floats(1e-6, 1 - 1e-6), min_size=1, max_size=5),
    st.integers(0, 2**16),
)
def test_the_distribution_function_is_the_inverse_of_the_quantiles(case, levels, seed):
    parameters, noise = case
    simulator = LinearGaussian(size=7, parameters=parameters, noise=noise)
    grid = posterior(simulator, data(simulator, 3, seed)[1])
    levels = np.sort(levels)
    found = grid.cdf(grid.quantile(levels))
    np.testing.assert_allclose(found, np.broadcast_to(levels[:, None], found.shape), atol=1e-9)
    ends = np.tile(np.array([-2.1, -2, 2, 2.1])[:, None], (3, 1, parameters))
    np.testing.assert_allclose(grid.cdf(ends), np.isin(ends, [2, 2.1]), atol=1e-12)


def test_the_distribution_function_is_that_of_the_truncated_gaussian():
    simulator = LinearGaussian(size=7, parameters=1, noise=2.0)
    theta, x = data(simulator, 53)
    found = posterior(simulator, x).cdf(theta[:, None])[:, 0, 0]
    np.testing.assert_allclose(found, truncated(simulator, x).cdf(theta[:, 0]), atol=2e-4)


def test_some_rows_meet_the_random_numbers_of_all_rows():
    surrogate = Noisy(LinearGaussian(size=5, parameters=1))
    x, theta = np.zeros((5, 5)), np.linspace(-1, 1, 3).reshape(1, 3, 1)
    some = of_surrogate(surrogate, x[3:], index=np.arange(3, 5))(theta.repeat(2, 0))
    np.testing.assert_array_equal(some, of_surrogate(surrogate, x)(theta.repeat(5, 0))[3:])


class Counted:
    """An exact log p that counts the rows that it is asked for."""

    def __init__(self, log_prob):
        self.log_prob, self.rows = log_prob, 0

    def __call__(self, theta, x):
        self.rows += len(x)
        return self.log_prob(theta, x)


def told_of(posterior, i, theta):
    """All that a posterior tells of observation i."""
    one = posterior[i : i + 1]
    levels = np.array([0.0, 1e-3, 0.3, 0.999])
    return {
        "values": [one.log_evidence, one.evaluations, one.resolved, one.mean, one.sd],
        "quantiles": one.quantile(levels),
        "cdf": one.cdf(theta),
        "log_prob": one.log_prob(theta),
        "draws": one.sample(50, np.random.default_rng(0)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [1, 2, 3])
def test_a_posterior_does_not_depend_on_who_else_is_in_the_call(parameters):
    """Some that one round resolves, among others that are a thousand times narrower."""
    simulator = LinearGaussian(size=5, parameters=parameters, noise=1.0)
    _, x = data(simulator, 11)
    sharper = np.array([1.0, 1e-3, 1.0, 0.05, 0.3, 1.0, 1e-3, 0.02, 1.0, 0.1, 2.0])
    mean = simulator.posterior(x)[0].clip(-1.9, 1.9)

    def likelihood(some):
        def log_p(theta, which):
            off = (theta - mean[some[which], None]) / sharper[some[which], None, None]
            return -np.logaddexp(off, -off).sum(-1) - 0.5 * (off**2).sum(-1)

        return log_p

    every = np.arange(11)
    crowd = grid_posterior(likelihood(every), simulator.prior, 11)
    assert len(set(crowd.evaluations.tolist())) >= 3
    ends = np.array([simulator.prior.low, simulator.prior.high])
    for i in every:
        alone = grid_posterior(likelihood(every[[i]]), simulator.prior, 1)
        points = np.concatenate([mean[i] + sharper[i] * np.linspace(-1, 1, 7)[:, None], ends])
        told = [told_of(p, j, points[None]) for p, j in ((alone, 0), (crowd, i))]
        for name in told[0]:
            pairs = zip(told[0][name], told[1][name], strict=True)
            for one, other in pairs:
                np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_crowd_costs_what_its_members_cost_alone():
    simulator = LinearGaussian(size=5, parameters=1, noise=0.01)
    _, x = data(simulator, 31)
    asked = Counted(simulator.log_prob)
    crowd = grid_posterior(of_exact(asked, x), simulator.prior, 31, nodes=15)
    alone = [posterior(simulator, row[None], nodes=15).evaluations[0] for row in x]
    assert asked.rows == crowd.evaluations.sum()
    assert crowd.evaluations.tolist() == alone
    assert len(set(alone)) > 1


def test_sets_are_asked_by_their_rows():
    simulator = LinearGaussian(size=5, parameters=1)
    _, x = data(simulator, 12)
    sets = iid_sets(of_exact(simulator.log_prob, x), 3)
    theta = np.linspace(-1, 1, 8).reshape(4, 2, 1)
    which = np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(sets(theta[which], which), sets(theta)[which])


@pytest.mark.parametrize("more", [1, 7])
def test_repeated_last_nodes_change_nothing(more):
    rng = np.random.default_rng(more)
    x = np.sort(rng.random((3, 9)), -1)
    f = rng.normal(size=(3, 4, 9))
    new = np.sort(rng.uniform(x[:, :1], x[:, -1:], (3, 31)), -1)
    new[:, -1] = x[:, -1]
    wide, values = (np.pad(a, ((0, 0),) * (a.ndim - 1) + ((0, more),), "edge") for a in (x, f))
    np.testing.assert_array_equal(interpolate(wide, values, new), interpolate(x, f, new))


def test_points_of_halton_are_scipys():
    for d in (1, 2, 4):
        expected = qmc.Halton(d, scramble=False).random(300)
        assert halton(300, d) == pytest.approx(expected, abs=1e-15)
        assert halton(300, d) != pytest.approx(expected[::-1], abs=0.1)

"""Random fields: p(x|θ), information and observables against dense matrices and against draws."""

import numpy as np
import pytest
from scipy import integrate, stats

import physgen
from physgen.errors import DataError
from simulators.base import exact_log_prob
from simulators.field import GaussianField, LognormalField, Phi4
from simulators.field.inference import log_prob_of_all
from simulators.field.observables import power_spectrum

THETA = {2: np.array([[0.3, 2.0], [-0.7, 3.1]]), 3: np.array([[0.3, -1.0, 2.0], [0.9, -0.2, 0.7]])}
FIELDS = [
    GaussianField(4),
    GaussianField(5, theta="amplitude-mass-slope"),
    LognormalField(4, strength=0.7),
]


def theta_of(field):
    return THETA[len(field.prior)]


def dense(field, theta):
    """Covariance of all sites of the Gaussian field at one θ (D,), by its waves, one by one."""
    n, sites = field.size, field.sites
    at = np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), -1).reshape(-1, 2)
    log_mass = theta[1] if len(theta) == 3 else np.log(field.mass)
    total = np.zeros((sites, sites))
    for wave in at:
        square = (4 * np.sin(np.pi * wave / n) ** 2).sum()
        power = np.exp(theta[0]) * (square + np.exp(2 * log_mass)) ** (-theta[-1] / 2)
        phase = 2 * np.pi * (at @ wave) / n
        total += power * np.cos(phase[:, None] - phase) / sites
    return total


@pytest.mark.parametrize("field", FIELDS)
def test_log_p_is_that_of_a_dense_normal_law(field):
    theta = theta_of(field)
    x = field.sample(theta, np.random.default_rng(0))
    for t, one, found in zip(theta, x, field.log_prob(theta, x), strict=True):
        covariance, log_det, g = dense(field, t), 0.0, one.ravel()
        if isinstance(field, LognormalField):
            s = field.strength
            log_det = -np.log(s * (1 + g)).sum()
            g = (np.log(1 + g) + s**2 * covariance[0, 0] / 2) / s
        want = stats.multivariate_normal(cov=covariance).logpdf(g) + log_det
        assert found == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("field", FIELDS)
def test_all_pairs_of_maps_and_parameters(field):
    theta = field.prior.sample(7, np.random.default_rng(1))
    x = field.sample(theta[:3], np.random.default_rng(2))
    want = [field.log_prob(np.repeat(t[None], 3, 0), x) for t in theta]
    np.testing.assert_allclose(log_prob_of_all(field, theta, x), np.stack(want, 1), atol=1e-9)


@pytest.mark.parametrize("field", FIELDS[:2])
def test_fisher_is_the_curvature_of_the_divergence(field):
    theta, step = theta_of(field)[0], 1e-3
    here = dense(field, theta)

    def divergence(move):
        there = dense(field, theta + move)
        ratio = np.linalg.solve(there, here)
        return 0.5 * (np.trace(ratio) - field.sites - np.linalg.slogdet(ratio)[1])

    def both(move):
        return (divergence(move) + divergence(-move)) / 2

    units = step * np.eye(len(theta))
    want = np.array([[both(a + b) - both(a - b) for a in units] for b in units])
    np.testing.assert_allclose(field.fisher(theta[None])[0], want / (2 * step**2), rtol=1e-4)


@pytest.mark.parametrize("field", FIELDS)
def test_entropy_is_the_mean_of_minus_log_p(field):
    theta = np.repeat(theta_of(field)[:1], 20_000, 0)
    found = -field.log_prob(theta, field.sample(theta, np.random.default_rng(3)))
    error = found.std() / np.sqrt(len(found))
    assert abs(found.mean() - field.entropy(theta[:1])[0]) < 4 * error
    assert abs(found.mean() - field.entropy(theta[:1] + 0.1)[0]) > 8 * error


@pytest.mark.parametrize("field", [FIELDS[0], FIELDS[2]])
def test_evidence_is_the_integral_over_the_prior(field):
    x = field.sample(theta_of(field)[:1], np.random.default_rng(4))
    low, high = field.prior.low, field.prior.high

    def joint(slope, amplitude):
        return np.exp(field.log_prob(np.array([[amplitude, slope]]), x)[0] - log_p)

    log_p = field.log_evidence(x)[0]
    area = (high - low).prod()
    total, _ = integrate.dblquad(joint, low[0], high[0], low[1], high[1], epsrel=1e-5)
    assert total / area == pytest.approx(1, abs=1e-4)
    theta = field.prior.sample(5, np.random.default_rng(5))
    gain = field.log_posterior(theta, x)[0] - np.log(1 / area)
    np.testing.assert_allclose(gain, log_prob_of_all(field, theta, x)[0] - log_p, atol=1e-9)


def test_mutual_information_is_the_mean_gain_of_posteriors():
    for field in (GaussianField(8), LognormalField(8)):
        rng = np.random.default_rng(6)
        theta = field.prior.sample(1000, rng)
        x = field.sample(theta, rng)
        gain = field.log_prob(theta, x) - field.log_evidence(x)
        found = field.mutual_information()
        assert abs(gain.mean() - found) < 4 * gain.std() / np.sqrt(len(gain)) + 0.02
        assert 1.5 < found < 4


def test_posteriors_too_narrow_for_the_nodes_are_refused():
    field = GaussianField(16)
    x = 0.1 * field.sample(np.array([[0.0, 2.0]]), np.random.default_rng(0))
    wide = field.prior.replace(log_amplitude=(-400.0, 400.0))
    with pytest.raises(ValueError, match="take a narrower prior"):
        field.log_evidence(x, wide)


@pytest.mark.parametrize("field", [GaussianField(6), LognormalField(6), GaussianField(7)])
def test_observables_have_their_expectations(field):
    theta = np.repeat([[0.2, 1.8]], 20_000, 0)
    x = field.sample(theta, np.random.default_rng(7))
    exact = {name: o for name, o in field.observables.items() if o.exact}
    assert len(exact) == 5
    for name, o in exact.items():
        found = o(x).reshape(len(x), -1)
        want = o.exact(theta[:1]).reshape(1, -1)
        error = found.std(0) / np.sqrt(len(x)) + 1e-12
        assert found.shape[1] == want.shape[1]
        assert (abs(found.mean(0) - want[0]) < 4.5 * error).all(), name
    off = exact["power_spectrum"].exact(theta[:1] + 0.1)[0]
    found = exact["power_spectrum"](x)
    assert (abs(found.mean(0) - off) > 4.5 * found.std(0) / np.sqrt(len(x))).any()


def test_peaks_of_white_noise():
    x = np.random.default_rng(8).standard_normal((4000, 8, 8))
    found = GaussianField(8).observables["peaks"](x)
    assert abs(found.mean() - 1 / 9) < 4 * found.std() / np.sqrt(len(x))


@pytest.mark.parametrize("field", [GaussianField(8), LognormalField(8)])
def test_maps_are_verified_and_wrong_ones_are_not(field):
    rng = np.random.default_rng(9)
    theta = field.prior.sample(1500, rng)
    x = field.sample(theta, rng)
    assert all(v.passed for v in field.verify(theta, x))

    def failed(theta, x):
        return {v.name for v in field.verify(theta, x) if not v.passed}

    assert failed(theta + np.array([0, 0.05]), x)  # a wrong spectrum
    assert failed(theta + np.array([0.06, 0]), x)
    uniform = GaussianField.sample(field, theta, Uniform())
    assert "law of white sites" in failed(theta, uniform)
    if isinstance(field, LognormalField):
        other = LognormalField(8, strength=0.55)
        assert {v.name for v in other.verify(theta, x) if not v.passed}


class Uniform:
    """Random numbers of mean 0 and variance 1 that are not normal."""

    def standard_normal(self, shape):
        return np.sqrt(12) * (np.random.default_rng(10).random(shape) - 0.5)


def test_bad_options_and_data_are_told():
    with pytest.raises(ValueError, match="size: expected 4 to 1024, got 3"):
        GaussianField(3)
    with pytest.raises(ValueError, match="mass: expected a positive number"):
        GaussianField(mass=0)
    with pytest.raises(ValueError, match="strength: expected a positive number"):
        LognormalField(strength=-1)
    with pytest.raises(ValueError, match="theta: expected one of"):
        GaussianField(theta="beta")
    with pytest.raises(ValueError, match=r"expected density contrasts above -1, got -2"):
        LognormalField(4).log_prob(THETA[2][:1], np.full((1, 4, 4), -2.0))
    with pytest.raises(ValueError, match=r"theta: expected finite numbers of shape \(n, 2\)"):
        GaussianField(4).log_prob(THETA[3], np.zeros((2, 4, 4)))
    with pytest.raises(ValueError, match="x: expected finite numbers"):
        GaussianField(4).log_prob(THETA[2], np.full((2, 4, 4), np.nan))
    assert exact_log_prob(GaussianField(4)) is not None


# --- φ⁴ -------------------------------------------------------------------------------------


def free_power(size, mass_squared):
    k = 4 * np.sin(np.pi * np.arange(size) / size) ** 2
    return 1 / (k[:, None] + k + mass_squared)


@pytest.mark.slow
def test_phi4_without_coupling_is_the_free_field():
    field = Phi4(4, trajectories=30)
    theta = np.tile([0.5, 0.0], (4000, 1))
    x = field.sample(theta, np.random.default_rng(0))
    found = abs(np.fft.fft2(x, norm="ortho")) ** 2 / free_power(4, 0.5)
    assert (abs(found.mean(0) - 1) < 4.5 * found.std(0) / np.sqrt(len(x))).all()
    assert field.free_log_z(0.5) == pytest.approx(
        0.5 * np.log(2 * np.pi * free_power(4, 0.5)).sum(), abs=1e-10
    )


def test_phi4_score_is_the_slope_of_the_action():
    field, step = Phi4(4), 1e-5
    x = np.random.default_rng(1).standard_normal((1, 4, 4))
    theta = np.array([[-1.0, 0.3]])
    units = step * np.eye(16).reshape(16, 4, 4)
    many = np.repeat(theta, 16, 0)
    slope = (field.action(many, x + units) - field.action(many, x - units)) / (2 * step)
    np.testing.assert_allclose(-field.score(theta, x).ravel(), slope, atol=1e-7)


@pytest.mark.slow
def test_phi4_maps_are_verified_and_wrong_ones_are_not():
    rng, field = np.random.default_rng(2), Phi4(4)
    theta = field.prior.sample(2000, rng)
    x = field.sample(theta, rng)
    assert all(v.passed for v in field.verify(theta, x))

    def failed(field, theta, x):
        return {v.name for v in field.verify(theta, x) if not v.passed}

    assert failed(field, theta + np.array([0, 0.04]), x)  # a wrong coupling
    assert "sign of M" in failed(field, theta, abs(x))
    wrong = Phi4(4, trajectories=2)  # too short
    assert failed(field, theta, wrong.sample(theta, rng))


def test_a_large_phi4_map_leaves_its_start():
    field, theta = Phi4(96, trajectories=40), np.array([[-2.0, 0.1], [-0.5, 0.4]])
    x = field.sample(theta, np.random.default_rng(6))
    pull = -field.score(theta, x)
    np.testing.assert_allclose((x * pull).mean((1, 2)), 1, atol=0.1)
    assert np.allclose((x**3 * pull).mean((1, 2)) / (3 * x**2).mean((1, 2)), 1, atol=0.1)


def test_log_z_of_phi4_lies_between_its_bounds():
    field, rng = Phi4(4), np.random.default_rng(3)
    low, high = field.log_z_bounds(np.array([0.5, 0.0]), rng, temperatures=100)
    assert low - 0.05 < field.free_log_z(0.5) < high + 0.05
    small = 0.002  # first order: ⟨φ⁴⟩ = 3 ⟨φ²⟩²
    low, high = field.log_z_bounds(np.array([1.0, small]), rng, temperatures=20)
    first = field.free_log_z(1.0) - 3 * small * 16 * free_power(4, 1.0).mean() ** 2
    assert low == pytest.approx(first, abs=2e-3)
    assert high == pytest.approx(first, abs=2e-3)
    low, high = field.log_z_bounds(np.array([-1.0, 0.25]), rng, temperatures=200)
    assert high - 0.2 < low < high + 0.1


@pytest.mark.slow
def test_slope_of_log_z_is_the_mean_quartic():
    field, rng = Phi4(4), np.random.default_rng(4)
    theta = np.tile([-0.5, 0.2], (3000, 1))
    x = field.sample(theta, rng)
    there = theta + np.array([0, 0.02])
    ratio = np.log(np.exp(field.action(theta, x) - field.action(there, x)).mean())
    mean = -0.02 * field.sites * field.observables["quartic"](x).mean()
    bounds = [field.log_z_bounds(t[0], rng, chains=400) for t in (there, theta)]
    assert ratio == pytest.approx(np.mean(bounds[0]) - np.mean(bounds[1]), abs=0.05)
    assert mean < ratio < 0.8 * mean


def test_bad_options_of_phi4_are_told():
    with pytest.raises(ValueError, match="size: expected 4 to 256, got 2"):
        Phi4(2)
    with pytest.raises(ValueError, match=r"expected λ > 0, or λ = 0 and m² > 0, got \[-1.0, 0.0"):
        Phi4(4).sample(np.array([[-1.0, 0.0]]), np.random.default_rng(0))
    theta = np.tile([-1.5, 0.3], (50, 1))
    with pytest.raises(ValueError, match=r"step: expected one .* got 0.5 with \d+%, so that maps"):
        Phi4(4, step=0.5).sample(theta, np.random.default_rng(0))


def test_what_cannot_be_verified_is_refused_in_one_line():
    one = physgen.simulate("phi4", size=4, n=1, seed=1)
    with pytest.raises(DataError, match="one θ for each x, of 2 maps at least, got 1 and 1"):
        physgen.inspect(one, verify=True)
    maps = physgen.simulate("lognormal-field", size=4, n=9, seed=1)
    maps.x[3] -= 2
    with pytest.raises(DataError, match="expected density contrasts above -1, got -"):
        physgen.inspect(maps, verify=True)


def test_a_large_mean_leaves_the_power_of_small_waves_as_it_is():
    x = 1e-4 * np.random.default_rng(0).normal(size=(3, 8, 8))
    found, expected = power_spectrum(x + 300), power_spectrum(x)
    np.testing.assert_allclose(found[:, 1:], expected[:, 1:], rtol=1e-6)
    assert (found[:, 0] > 1e11 * expected[:, 1:].max()).all(), "the control"

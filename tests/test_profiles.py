"""Profiles and slices, against closed forms of normal laws and against brute force."""

import numpy as np
import pytest
from scipy import stats

import physgen
from physgen.errors import UsageError
from physgen.posterior.profiles import best_point, profile_of, slice_of
from simulators.prior import Box, Prior

COV = np.array([[0.04, 0.03, -0.01], [0.03, 0.09, 0.02], [-0.01, 0.02, 0.03]])
MEAN = np.array([[0.2, -0.1, 0.3], [-0.3, 0.4, 0.1]])


def normal(theta):
    off = theta - MEAN[:, None]
    return -0.5 * np.einsum("nki,ij,nkj->nk", off, np.linalg.inv(COV), off)


@pytest.fixture
def draws():
    rng = np.random.default_rng(0)
    return np.stack([rng.multivariate_normal(m, COV, 1000) for m in MEAN])


BOX = Box(a=(-3, 3), b=(-3, 3), c=(-3, 3))
WIDE = Prior(a=stats.norm(0, 2), b=(-3, 3), c=stats.norm(1, 1))


@pytest.mark.parametrize("prior", [BOX, WIDE])
@pytest.mark.parametrize("d", [0, 2])
def test_the_profile_of_a_normal_law_is_that_of_its_marginal(prior, draws, d):
    found = profile_of(normal, prior, draws, d)
    exact = -0.5 * (found.theta - MEAN[:, [d]]) ** 2 / COV[d, d]
    exact -= exact.max(1, keepdims=True)
    np.testing.assert_allclose(found.log_density, exact, atol=1e-3)
    np.testing.assert_allclose(normal(found.points).max(1), 0, atol=0.02)
    assert (found.theta.min(1) < MEAN[:, d] - 3 * np.sqrt(COV[d, d])).all()
    at_mean = -0.5 * (found.theta - MEAN[:, [d]]) ** 2 * np.linalg.inv(COV)[d, d]
    assert abs(found.log_density - at_mean).max() > 0.5  # the control: others are not fixed


def test_the_slice_of_a_normal_law_is_as_narrow_as_if_the_others_were_known(draws):
    best = best_point(normal, BOX, draws)
    np.testing.assert_allclose(best, MEAN, atol=0.003)
    found = slice_of(normal, BOX, draws, 1, best)
    exact = -0.5 * (found.theta - MEAN[:, [1]]) ** 2 * np.linalg.inv(COV)[1, 1]
    np.testing.assert_allclose(found.log_density, exact - exact.max(1, keepdims=True), atol=0.05)


def test_profiles_follow_bent_ridges_and_keep_to_the_prior():
    """Of (b − a²)²: against a fine search over b, inside its bounds."""

    def bent(theta):
        a, b = np.moveaxis(theta, -1, 0)
        return -0.5 * a**2 - 200 * (b - a**2) ** 2

    rng = np.random.default_rng(1)
    a = rng.normal(size=3000)
    a = a[a**2 < 1.5]
    theta = np.stack([a, a**2 + rng.normal(0, 0.05, len(a))], -1)[None]
    theta = theta[:, (theta[0, :, 1] > -0.1) & (theta[0, :, 1] < 1)]
    prior = Box(a=(-2, 2), b=(-0.1, 1))
    found = profile_of(bent, prior, theta, 0)
    b = np.linspace(-0.1, 1, 4001)
    mesh = np.stack(np.meshgrid(found.theta[0], b, indexing="ij"), -1)
    exact = bent(mesh).max(1)
    np.testing.assert_allclose(found.log_density[0], exact - exact.max(), atol=2e-3)
    assert prior.contains(found.points).all()


def test_profiles_choose_the_higher_of_two_modes():
    def two(theta):
        a, b = np.moveaxis(theta, -1, 0)
        low = -50 * (b + 1) ** 2 - 8 * (a - 0.5) ** 2
        return np.logaddexp(low, -50 * (b - 1) ** 2 - 8 * (a + 0.5) ** 2)

    rng = np.random.default_rng(2)
    side = rng.choice([-1, 1], 2000)
    theta = np.stack(
        [-0.5 * side + rng.normal(0, 0.25, 2000), side + rng.normal(0, 0.1, 2000)], -1
    )
    found = profile_of(two, Box(a=(-3, 3), b=(-3, 3)), theta[None], 0)
    a = found.theta[0]
    np.testing.assert_allclose(found.log_density[0], -8 * (abs(a) - 0.5) ** 2, atol=0.02)


def test_the_profile_of_one_parameter_is_the_likelihood_itself():
    theta = np.random.default_rng(3).normal(0.3, 0.2, (2, 500, 1))
    found = profile_of(lambda t: -((t[..., 0] - 0.3) ** 2) / 0.08, Box(a=(-3, 3)), theta, 0)
    exact = -((found.theta - 0.3) ** 2) / 0.08
    np.testing.assert_allclose(found.log_density, exact - exact.max(1, keepdims=True), atol=1e-9)


@pytest.fixture(scope="module")
def posterior():
    surrogate = physgen.fit("cvae", physgen.simulate("gaussian", n=200), epochs=1)
    return physgen.infer(surrogate, physgen.simulate("gaussian", n=2, seed=1), samples=300)


def test_posteriors_have_profiles_and_slices(posterior):
    found = posterior.profile("theta2")
    assert found.theta.shape == found.log_density.shape == (2, 41)
    likelihood = posterior.log_prob(found.points)
    np.testing.assert_allclose(
        likelihood - likelihood.max(1, keepdims=True), found.log_density, atol=1e-9
    )
    line = posterior.slice("theta2", at={"theta1": 0.5})
    assert (line.points[..., 0] == 0.5).all()
    best = posterior.slice("theta2")
    assert posterior.log_prob(best.points).max() >= posterior.log_prob(line.points).max()
    grid = np.linspace(-2, 2, 201)
    mesh = np.stack(np.meshgrid(grid, found.theta[0], indexing="ij"), -1).reshape(1, -1, 2)
    exact = posterior.log_prob(np.repeat(mesh, 2, 0))[0].reshape(201, 41).max(0)
    np.testing.assert_allclose(found.log_density[0], exact - exact.max(), atol=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.profile("beta"), "expected one of theta1, theta2, got 'beta'"),
        (lambda p: p.slice("theta1", at={"x": 0}), "expected one of theta1, theta2, got 'x'"),
        (lambda p: p.slice("theta1", at={"theta2": 9.0}), "expected values inside"),
    ],
)
def test_what_no_curve_can_be_made_of_is_refused(posterior, call, message):
    with pytest.raises(UsageError, match=message):
        call(posterior)

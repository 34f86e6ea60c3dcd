"""What one observable says of another, exactly: by enumeration, and by samples."""

import itertools

import numpy as np
import pytest

from physgen.law import prior_under
from simulators.base import Fixed, observables
from simulators.field import GaussianField, LognormalField
from simulators.ising import Ising

PAIRS = list(itertools.permutations(("energy", "magnetisation", "abs_magnetisation"), 2))


@pytest.mark.parametrize(("of", "known"), PAIRS)
@pytest.mark.parametrize("theta", ["beta-h", "temperature"])
def test_ising_moments_given_a_value_against_enumeration(of, known, theta):
    """Of all 2¹² states of 3 × 4, with their exact p; another θ would not do."""
    ising = Ising(size=3, width=4, theta=theta)
    at = np.array([[0.3, 0.4]] if theta == "beta-h" else [[2.5]])
    states = np.array(list(itertools.product((-1, 1), repeat=12)), np.int8).reshape(-1, 3, 4)
    p = np.exp(ising.log_prob(np.repeat(at, len(states), 0), states))
    y, z = (observables(ising)[name](states) for name in (of, known))
    for value in np.unique(z):
        here = np.where(np.isclose(z, value), p, 0)
        mean = here @ y / here.sum()
        sd = np.sqrt(here @ (y - mean) ** 2 / here.sum())
        found = observables(ising)[of].given[known](at, np.array([value]))
        np.testing.assert_allclose(np.ravel(found), [mean, sd], atol=1e-9)
    mean, sd = observables(ising)[of].given[known](at, np.array([0.1234]))
    assert np.isnan([mean, sd]).all()


def test_energy_given_magnetisation_does_not_know_the_field():
    """A field says nothing more of the states once M is known; the temperature does."""
    moments = observables(Ising(size=4, theta="beta-h"))["energy"].given["magnetisation"]
    theta = np.array([[0.4, -0.5], [0.4, 0.5], [0.2, 0.5]])
    mean, _ = moments(theta, np.full(3, 0.5))
    assert mean[0] == pytest.approx(mean[1])
    assert mean[2] > mean[1] + 0.05


@pytest.mark.parametrize(
    ("simulator", "at", "of", "known"),
    [
        (Ising(size=6), [0.3], "energy", "magnetisation"),
        (GaussianField(size=8), [0.3, 3.0], "variance", "mean"),
    ],
    ids=["ising", "gaussian-field"],
)
def test_samples_have_the_moments_that_are_given(simulator, at, of, known):
    """In units of the moments they are of mean 0 and variance 1, whatever the known value."""
    n, rng = 4000, np.random.default_rng(0)
    theta = np.tile(at, (n, 1))
    x = simulator.sample(theta, rng)
    every = observables(simulator)
    y, z = every[of](x), every[known](x)
    mean, sd = every[of].given[known](theta, z)
    least = 0.5 * np.sqrt((sd**2).mean())  # lattices of equal spins have but one energy
    u, far = (y - mean)[sd > least] / sd[sd > least], abs(z)[sd > least]
    far = far > np.median(far)
    for some in (u[far], u[~far]):
        assert abs(some.mean()) < 5 / np.sqrt(len(some))
        assert abs((some**2).mean() - 1) < 5 * (some**2).std() / np.sqrt(len(some))
    plain = (y - y.mean()) / y.std()  # the control: moments that do not know the value
    plain = plain[sd > least]
    assert abs(plain[far].mean()) > 10 / np.sqrt(far.sum())


def test_what_is_not_known_is_not_given():
    every = [Ising(size=8, theta="beta-xy"), Ising(size=16), LognormalField()]
    assert not any(o.given for simulator in every for o in observables(simulator).values())


def test_what_is_fixed_is_put_back():
    ising = Ising(size=4, theta="beta-h")
    fixed = Fixed(ising, prior_under(ising, {"h": 0.2}))
    theta, m = np.array([[0.3]]), np.array([0.5])
    found = observables(fixed)["energy"].given["magnetisation"](theta, m)
    assert found == observables(ising)["energy"].given["magnetisation"]([[0.3, 0.2]], m)

"""Verdicts on Ising data: right data pass, data with a small and known fault fail."""

from __future__ import annotations

import numpy as np
import pytest

from simulators.ising import Ising
from simulators.ising.verification import verify


def verdicts(n=2000, seed=1, shift=0.0, **options):
    ising = Ising(**options)
    theta = ising.prior.sample(n, np.random.default_rng(seed))
    x = ising.sample(theta, np.random.default_rng(seed + 1))
    return {v.name: v for v in ising.verify(theta + shift, x)}


NAMES = {
    "beta": {
        "mean energy", "variance of energy", "law of the energy", "sign of the magnetisation",
    },
    "beta-h": {
        "mean energy", "variance of energy", "law of the energy", "mean magnetisation",
        "variance of magnetisation", "law of the magnetisation",
    },
    "beta-xy": {
        "mean energy along rows", "variance of energy along rows", "mean energy along columns",
        "variance of energy along columns", "sign of the magnetisation",
    },
}  # fmt: skip
NAMES["temperature"] = NAMES["beta"]


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize(("size", "width"), [(5, 7), (4, 4), (2, 3)])
def test_perfect_samples_pass(kind, size, width):
    found = verdicts(size=size, width=width, theta=kind)
    assert set(found) == NAMES[kind]
    assert all(v.passed for v in found.values()), found


def test_larger_lattices_pass():
    assert all(v.passed for v in verdicts(n=1000, size=16, theta="temperature").values())
    found = verdicts(n=50, size=40)
    assert "law of the energy" not in found
    assert all(v.passed for v in found.values()), found


def test_the_same_data_have_the_same_verdict():
    assert verdicts(size=5) == verdicts(size=5)


@pytest.mark.parametrize(("sampler", "sweeps"), [("heat-bath", 10), ("swendsen-wang", 2)])
def test_too_short_a_burn_in_fails(sampler, sweeps):
    found = verdicts(n=4000, size=16, theta="temperature", sampler=sampler, sweeps=sweeps)
    assert not found["mean energy"].passed
    assert found["mean energy"].p_value < 1e-6


@pytest.mark.parametrize("kind", NAMES)
def test_a_wrong_theta_fails(kind):
    found = verdicts(size=6, theta=kind, shift=0.2 if kind == "temperature" else 0.03)
    assert not all(v.passed for v in found.values())


def test_a_fixed_sign_fails():
    ising = Ising(5)
    theta = np.full((500, 1), 0.6)
    x = ising.sample(theta, np.random.default_rng(1))
    x[x.mean((1, 2)) < 0] *= -1
    assert [v.name for v in ising.verify(theta, x) if not v.passed] == [
        "sign of the magnetisation"
    ]


def test_a_shuffled_temperature_fails_the_law_but_not_the_mean():
    """The energies of a mixture have the right mean at its mean energy, and the wrong law."""
    ising = Ising(8)
    rng = np.random.default_rng(1)
    x = ising.sample(rng.choice([0.36, 0.42], (3000, 1)), rng)
    found = {v.name: v for v in ising.verify(np.full((3000, 1), 0.39), x)}
    assert not found["variance of energy"].passed
    assert not found["law of the energy"].passed


def test_rare_excitations_are_not_taken_for_faults():
    """At T = 0.5 one excitation among 1000 lattices is a residual of hundreds of σ."""
    ising = Ising(4, theta="temperature")
    x = np.ones((1000, 4, 4), dtype=np.int8)
    x[::2] = -1
    x[17, 2, 1] = 1
    assert all(v.passed for v in ising.verify(np.full((1000, 1), 0.5), x))
    x[:60, 0, 0] *= -1
    found = {v.name: v for v in ising.verify(np.full((1000, 1), 0.5), x)}
    assert not found["mean energy"].passed


@pytest.mark.parametrize("seed", range(3))
def test_few_samples_pass(seed):
    for n in (1, 2, 5, 30):
        assert all(v.passed for v in verdicts(n=n, seed=seed, size=3, theta="beta-h").values())
        assert all(v.passed for v in verdicts(n=n, seed=seed, size=4).values())


def test_a_field_without_exact_law_is_checked_locally():
    found = verdicts(n=400, size=13, theta="beta-h")
    assert set(found) == {"local balance of spins", "local balance of bonds"}
    assert all(v.passed for v in found.values())
    wrong = verdicts(n=400, size=13, theta="beta-h", shift=np.array([0.0, 0.3]))
    assert not wrong["local balance of spins"].passed


def test_p_values_are_uniform():
    ising = Ising(4, 3)
    p = []
    for seed in range(100):
        theta = ising.prior.sample(200, np.random.default_rng(seed))
        x = ising.sample(theta, np.random.default_rng(seed + 1000))
        p.append([v.p_value for v in verify(ising, theta, x)])
    mean, variance, law, sign = np.mean(p, axis=0)
    assert np.all(np.abs(np.array([mean, law, sign]) - 0.5) < 0.15)
    assert variance > 0.35  # Chebyshev's bound where the kurtosis is large


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError, match="one θ for each x"):
        Ising(4).verify(np.full((2, 1), 0.3), np.ones((3, 4, 4)))

"""The checkerboard of 32 lattices at once: its random numbers, its law, and what it depends on."""

import re

import numpy as np
import pytest

from simulators.ising import Ising
from simulators.ising import multispin as m
from tests.test_ising_sampling import CRITICAL_BETA, LAWS, deviation, draw, misfit

WORD = np.uint32
SAMPLER = {"sampler": "checkerboard"}


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
@pytest.mark.parametrize("philox", [m.philox, m.philox.py_func])
def test_philox_gives_its_published_vectors(philox, counter, key, expected):
    """Those of Random123, kat_vectors: zeros, ones, and digits of π."""
    words = philox(*map(WORD, counter), *map(WORD, key))
    assert " ".join(f"{int(word):08x}" for word in words) == expected


@pytest.mark.parametrize("shape", [(2, 2), (4, 2), (2, 6)])
@pytest.mark.parametrize(("kind", "theta"), LAWS)
def test_every_state_is_as_frequent_as_it_should_be(kind, theta, shape):
    options = {"size": shape[0], "width": shape[1], "theta": kind, "sweeps": 80, **SAMPLER}
    ising, x = draw(theta, 20000, **options)
    assert misfit(ising, theta, x) > 1e-3


def test_one_sweep_from_the_cold_start_is_not_enough():
    ising, x = draw([0.3], 20000, size=2, width=4, sweeps=1, **SAMPLER)
    assert misfit(ising, [0.3], x) < 1e-9


def test_a_wrong_temperature_is_seen():
    ising, x = draw([0.30], 20000, size=2, width=6, **SAMPLER)
    assert misfit(ising, [0.33], x) < 1e-9


@pytest.mark.parametrize(("size", "width"), [(8, 8), (16, 16), (10, 14)])
def test_energies_at_the_critical_point(size, width):
    _, x = draw([CRITICAL_BETA], 1536, size=size, width=width, **SAMPLER)
    assert abs(deviation(x, CRITICAL_BETA)) < 4


def test_too_short_a_burn_in_is_seen_in_the_energy():
    _, x = draw([CRITICAL_BETA], 1536, size=16, sweeps=20, **SAMPLER)
    assert abs(deviation(x, CRITICAL_BETA)) > 6


@pytest.mark.parametrize("kind", ["beta", "temperature", "beta-h", "beta-xy"])
def test_lattices_of_as_many_theta_pass_verification(kind):
    """32 lattices of a word have 32 θ."""
    ising = Ising(4, theta=kind, sweeps=80, **SAMPLER)
    theta = ising.prior.sample(2000, np.random.default_rng(1))
    x = ising.sample(theta, np.random.default_rng(2))
    assert [v for v in ising.verify(theta, x) if not v.passed] == []
    mixed = x.reshape(-1, 4, 4)[np.arange(len(x)) ^ 1]  # the lattice beside
    assert [v for v in ising.verify(theta, mixed) if not v.passed]


def test_probabilities_are_those_of_the_heat_bath_to_32_bits():
    couplings = np.array([[0.3, 0.5, -0.2], [0.0, 0.0, 0.0], [9.0, 9.0, 0.0]])
    table = np.empty(m.CLASSES * m.LEVELS, WORD)
    m.threshold_bits(couplings, table)
    bits = table.reshape(m.LEVELS, m.CLASSES)
    weights = 0.5 ** np.arange(1, 1 + m.LEVELS)
    for lane, (kx, ky, h) in enumerate(couplings):
        found = ((bits >> WORD(lane)) & WORD(1)).T @ weights
        up = np.arange(3)
        field = kx * (2 * up - 2)[:, None] + ky * (2 * up - 2) + h
        np.testing.assert_allclose(found, 1 / (1 + np.exp(-2 * field.ravel())), atol=2.0**-31)
    assert not (bits >> WORD(3)).any()


def test_words_are_up_with_the_probability_of_their_class():
    """Of 2¹⁷ words in each lane, with the bits of its own P(+)."""
    p = np.linspace(0.02, 0.98, 32)
    couplings = np.stack([0 * p, 0 * p, np.log(p / (1 - p)) / 2], 1)
    table = np.empty(m.CLASSES * m.LEVELS, WORD)
    m.threshold_bits(couplings, table)
    n, one = 1 << 12, WORD(5)
    words = np.array([
        m.heat_bath_word(one, one, one, one, table, WORD(i), one, one, one, one)
        for i in range(n)
    ])  # fmt: skip
    up = ((words[:, None] >> np.arange(32)) & 1).mean(0)
    z = (up - p) / np.sqrt(p * (1 - p) / n)
    assert np.abs(z).max() < 4.5
    pairs = np.corrcoef(((words[:, None] >> np.arange(32)) & 1).T)[np.triu_indices(32, 1)]
    assert np.abs(pairs).max() * np.sqrt(n) < 5


def test_a_lattice_depends_on_its_index_and_theta_alone(monkeypatch):
    import numba

    ising = Ising(6, 4, theta="beta-h", sweeps=30, **SAMPLER)
    theta = ising.prior.sample(150, np.random.default_rng(2))
    drawn = {}
    for threads in (1, 2):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
        drawn[threads] = ising.sample(theta, np.random.default_rng(7))
    assert np.array_equal(drawn[1], drawn[2])
    assert np.array_equal(ising.sample(theta[:10], np.random.default_rng(7)), drawn[1][:10])
    other = theta.copy()
    other[0] = 0.2, 0.1
    assert np.array_equal(ising.sample(other, np.random.default_rng(7))[1:], drawn[1][1:])
    assert not np.array_equal(ising.sample(theta, np.random.default_rng(8)), drawn[1])
    assert ising.sample(theta[:0], np.random.default_rng(7)).shape == (0, 6, 4)


def test_frozen_and_antiferromagnetic_lattices():
    _, cold = draw([5.0], 200, size=4, width=6, sweeps=9, **SAMPLER)
    assert np.all(np.abs(cold.mean((1, 2))) == 1)
    assert 60 < (cold[:, 0, 0] > 0).sum() < 140
    _, field = draw([5.0, -5.0], 40, size=4, width=6, theta="beta-h", **SAMPLER)
    assert np.all(field == -1)
    _, x = draw([-2.0], 20, size=4, width=6, sweeps=300, **SAMPLER)
    board = 1 - 2 * (np.indices((4, 6)).sum(0) % 2)
    assert np.mean(np.abs((x * board).mean((1, 2))) == 1) > 0.5


@pytest.mark.parametrize("shape", [(5, 0), (4, 3), (3, 4)])
def test_odd_sides_are_refused(shape):
    with pytest.raises(ValueError, match=re.escape("checkerboard expects even sides, got ")):
        Ising(*shape, **SAMPLER)


def test_what_is_made_in_one_go_is_groups_of_32():
    assert Ising(64, **SAMPLER).shard_rows == 4096
    assert Ising(1024, **SAMPLER).shard_rows == 64
    assert Ising(4096, **SAMPLER).shard_rows == 32
    assert Ising(64).shard_rows is None
    assert Ising(64, **SAMPLER).provenance == {"sampler": "checkerboard", "sweeps": 6400}


@pytest.mark.slow
def test_nothing_is_left_of_the_cold_start_at_the_critical_point():
    """The control is a third of the sweeps, after which the energy is still too low."""
    theta = np.full((65536, 1), np.log(1 + np.sqrt(2)) / 2)
    law = Ising(16, **SAMPLER)
    step = 1e-5 * np.array([[-1], [1]])
    right = np.diff(law.log_z(theta[:2] + step))[0] / 2e-5 / law.sites

    def off(law):
        x = law.sample(theta, np.random.default_rng(2))
        bonds = x * np.roll(x, 1, 1) + x * np.roll(x, 1, 2)
        found = bonds.mean((1, 2))
        return (found.mean() - right) / found.std() * np.sqrt(len(x))

    assert abs(off(law)) < 3.5
    assert off(Ising(16, sweeps=law.sweeps_used // 3, **SAMPLER)) > 3.5

"""Exact Ising answers by a second route: enumeration, published figures, other quadratures."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from simulators.ising import Ising
from simulators.ising.counting import energy_levels, joint_levels
from simulators.ising.ensemble import cumulants
from simulators.ising.exact import CRITICAL_BETA, log_z_complex, log_z_jet, thermal
from simulators.ising.observables import bonds
from simulators.ising.transfer import log_z_field
from simulators.prior import Box

SHAPES = [(2, 2), (2, 3), (3, 2), (3, 3), (3, 4), (5, 3), (4, 4)]


def states(shape):
    n = shape[0] * shape[1]
    rows = list(itertools.product((-1, 1), repeat=n))
    return np.array(rows, dtype=np.int8).reshape(-1, *shape)


def enumerated(shape, k, v):
    """Log Z, mean and variance of v·b over all states."""
    b = bonds(states(shape))
    w = b @ k
    p = np.exp(w - w.max())
    z, p, y = p.sum(), p / p.sum(), b @ v
    return w.max() + np.log(z), p @ y, p @ (y - p @ y) ** 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("kx", "ky"), [(0.44, 0.44), (CRITICAL_BETA, CRITICAL_BETA), (0.1, 0.7), (0.9, 0.03), (3.1, 2)]
)
def test_kaufman_and_its_derivatives_against_enumeration(shape, kx, ky):
    jet = log_z_jet(shape, np.array([kx]), np.array([ky]), np.array(0.7), np.array(0.3))
    expected = enumerated(shape, np.array([kx, ky, 0]), np.array([0.7, 0.3, 0]))
    assert_allclose(np.ravel(jet), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [0.44, 0.1 + 0.3j, 0.02 + 1.2j, 0.9 + 0.01j])
def test_kaufman_at_complex_coupling(shape, k):
    e = bonds(states(shape))[:, :2].sum(1)
    assert_allclose(
        np.exp(log_z_complex(shape, np.array([k])))[0], np.exp(k * e).sum(), rtol=1e-11
    )


def test_published_energies_and_specific_heats_at_the_critical_point():
    sizes = (8, 16, 32, 64, 128)
    means = [thermal((n, n), np.array([CRITICAL_BETA])) for n in sizes]
    u = [m.energy[0] / n**2 for m, n in zip(means, sizes, strict=True)]
    c = [CRITICAL_BETA**2 * m.variance[0] / n**2 for m, n in zip(means, sizes, strict=True)]
    published = [-1.491589107, -1.453064853, -1.433658466, -1.423938390, -1.419076272]
    assert_allclose(u, published, atol=5e-10)
    assert_allclose(c, [1.14556, 1.49870, 1.84677, 2.19221, 2.53633], atol=5e-6)


def test_entropy_per_spin():
    t = np.array([1.0, 1.5, 2.0, 1 / CRITICAL_BETA, 2.5, 3.0, 4.0])
    table = {
        8: [0.01402, 0.04905, 0.16379, 0.28239, 0.39544, 0.53615, 0.61951],
        16: [0.00590, 0.04093, 0.15574, 0.29185, 0.42727, 0.54332, 0.61979],
        32: [0.00386, 0.03889, 0.15369, 0.29853, 0.43646, 0.54345, 0.61979],
    }
    for n, entropy in table.items():
        ising = Ising(n, theta="temperature")
        assert_allclose(ising.entropy(t[:, None]) / n**2, entropy, atol=6e-6)


@pytest.mark.parametrize("beta", [0.0, 1e-7, 1e-3, 5.0, 40.0])
def test_extreme_temperatures(beta):
    n = 60 * 37
    f, energy, variance, entropy = (a[0] for a in thermal((60, 37), np.array([beta])))
    assert np.all(np.isfinite([f, energy, variance, entropy]))
    if beta < 1e-2:
        assert_allclose(
            [f, energy, entropy], [n * np.log(2), -2 * n * beta, f], rtol=2e-5, atol=1e-2
        )
    else:
        assert_allclose([f, energy, entropy], [2 * n * beta, -2 * n, 0], rtol=1e-6, atol=0.8)


def test_a_negative_coupling_is_its_mirror_image_or_refused():
    beta = np.array([-0.3, 0.3])
    up = thermal((4, 6), beta)
    assert_allclose(up.log_z[0], up.log_z[1])
    assert_allclose(up.energy[0], -up.energy[1])
    with pytest.raises(ValueError, match="even size"):
        thermal((4, 5), beta)


def test_density_of_states_of_beale():
    levels = energy_levels((32, 32))
    g = dict(zip(levels.energy.tolist(), np.exp(levels.log_count), strict=True))
    beale = [2, 0, 2048, 4096, 1057792, 4218880, 371621888, 2191790080]
    assert_allclose([g.get(-2048 + 4 * i, 0) for i in range(8)], beale, rtol=1e-9)
    assert_allclose(np.logaddexp.reduce(levels.log_count), 1024 * np.log(2), rtol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_states_are_counted_rightly(shape):
    b = bonds(states(shape))
    energy, g = np.unique(-b[:, :2].sum(1), return_counts=True)
    levels = energy_levels(shape)
    assert np.array_equal(levels.energy, energy)
    assert_allclose(np.exp(levels.log_count), g, rtol=1e-10)
    pairs, g = np.unique(np.stack([-b[:, :2].sum(1), b[:, 2]], 1), axis=0, return_counts=True)
    joint = joint_levels(shape)
    i, j = np.nonzero(joint.count)
    assert np.array_equal(np.stack([joint.energy[i], joint.magnetisation[j]], 1), pairs)
    assert np.array_equal(joint.count[i, j], g)


def test_the_two_densities_of_states_agree():
    joint, levels = joint_levels((7, 6)), energy_levels((7, 6))
    g = joint.count.sum(axis=1)[: len(levels.energy)]
    assert np.array_equal(joint.energy[: len(levels.energy)], levels.energy)
    assert_allclose(np.exp(levels.log_count), g, rtol=1e-6)
    assert_allclose(np.exp(levels.log_count[:20]), g[:20], rtol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("k", "h"), [(0.44, 0.0), (0.3, 0.2), (0.9, -0.7)])
def test_a_field_against_enumeration(shape, k, h):
    couplings, v = np.array([k, k, h]), np.array([-1.0, -1.0, 0.4])
    expected = enumerated(shape, couplings, v)
    assert_allclose(log_z_field(shape, k, h).real, expected[0], rtol=1e-12)
    assert_allclose(
        np.ravel(cumulants(shape, couplings[None], v)), expected, rtol=1e-10, atol=1e-11
    )


def test_the_transfer_matrix_meets_the_other_routes():
    k, h = np.array([0.41]), np.array([0.03])
    assert_allclose(
        log_z_field((6, 7), 0.41, 0.03), joint_levels((6, 7)).moments(k, h)[0][0], rtol=1e-13
    )
    assert_allclose(log_z_field((300, 9), 0.41, 0), thermal((300, 9), k).log_z[0], rtol=1e-12)
    couplings = np.array([[0.41, 0.41, 1e-9]])
    jet = cumulants((9, 10), couplings, np.array([1.0, 1.0, 0.0]))
    exact = log_z_jet((9, 10), k, k, np.array(1.0), np.array(1.0))
    assert_allclose(np.ravel(jet), np.ravel(exact), rtol=1e-6)


KINDS = [
    ("beta", [0.41]),
    ("temperature", [2.3]),
    ("beta-h", [0.38, -0.2]),
    ("beta-xy", [0.2, 0.6]),
]


@pytest.mark.parametrize(("kind", "theta"), KINDS)
@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (4, 3)])
def test_probabilities_of_all_states_sum_to_one(kind, theta, shape):
    ising = Ising(*shape, theta=kind)
    x = states(shape)
    p = np.exp(ising.log_prob(np.tile(theta, (len(x), 1)), x))
    assert_allclose(p.sum(), 1, rtol=1e-12)
    assert_allclose(ising.entropy(np.array([theta])), -(p @ np.log(p)), rtol=1e-10)


@pytest.mark.parametrize(("kind", "theta"), KINDS)
def test_exact_means_of_the_observables(kind, theta):
    ising = Ising(3, 4, theta=kind)
    x, rows = states((3, 4)), np.array([theta])
    p = np.exp(ising.log_prob(np.tile(theta, (len(x), 1)), x))
    for name, observable in ising.observables.items():
        if observable.exact is not None:
            assert_allclose(
                observable.exact(rows), p @ observable(x), rtol=1e-9, atol=1e-12, err_msg=name
            )


@given(
    x=arrays(np.int8, (3, 5, 7), elements=st.sampled_from([-1, 1])),
    dy=st.integers(0, 4),
    dx=st.integers(0, 6),
)
@settings(max_examples=25, deadline=None)
def test_symmetries_leave_log_p_unchanged(x, dy, dx):
    for kind, theta in KINDS:
        ising = Ising(5, 7, theta=kind)
        rows = np.tile(theta, (3, 1))
        log_p = ising.log_prob(rows, x)
        moved = [np.roll(x, (dy, dx), (1, 2)), x[:, ::-1], x[:, :, ::-1]]
        for y in [*moved, -x] if "flip" in ising.symmetries else moved:
            assert_allclose(ising.log_prob(rows, y), log_p, rtol=1e-12)


def test_symmetries_that_are_declared_are_those_that_hold():
    assert Ising(5).symmetries == ("shift", "reflect", "transpose", "flip")
    assert Ising(5, 7).symmetries == ("shift", "reflect", "flip")
    assert Ising(5, theta="beta-xy").symmetries == ("shift", "reflect", "flip")
    assert Ising(5, theta="beta-h").symmetries == ("shift", "reflect", "transpose")


def test_mutual_information_and_floor_by_another_quadrature():
    """Plain midpoints in place of Gauss and Legendre; 0.8155 and 1.3077 nats."""
    t = 1 + 3 * (np.arange(2000) + 0.5) / 2000
    for n, expected in ((8, 0.8155), (16, 1.3077)):
        ising = Ising(n, theta="temperature")
        p = energy_levels((n, n)).law(1 / t, 0 * t)
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.nansum(np.where(p > 0, p * np.log(p / p.mean(0)), 0)) / len(t)
        assert_allclose(ising.mutual_information(), gain, rtol=1e-5)
        assert_allclose(gain, expected, atol=5e-5)
        floor = thermal((n, n), 1 / t).entropy.mean()
        assert_allclose(ising.mean_entropy(), floor, rtol=1e-5)


def test_the_posterior_integrates_to_one_and_follows_bayes():
    ising = Ising(4, 3, theta="temperature")
    x = states((4, 3))[[5, 1234, 4095]]
    t = 1 + 3 * (np.arange(3000) + 0.5) / 3000
    log_p = ising.log_posterior(t[:, None], x)
    assert_allclose(np.exp(log_p).mean(1) * 3, 1, rtol=1e-6)
    narrow = Box(temperature=(1.5, 2.5))
    assert_allclose(ising.log_posterior(np.array([[1.4]]), x, narrow), -np.inf)
    field = Ising(4, 3, theta="beta-h")
    grid = field.prior.sample(20000, np.random.default_rng(3))
    volume = np.prod(field.prior.high - field.prior.low)
    assert_allclose(np.exp(field.log_posterior(grid, x)).mean(1) * volume, 1, rtol=0.05)


def test_the_evidence_of_all_states_sums_to_one():
    for kind, _ in KINDS:
        assert_allclose(np.exp(Ising(2, 3, theta=kind).log_evidence(states((2, 3)))).sum(), 1)


def test_no_exact_answer_is_said_so():
    assert Ising(12, 40, theta="beta-h").tractable
    large = Ising(13, theta="beta-h")
    assert not large.tractable
    x = np.ones((1, 13, 13))
    with pytest.raises(ValueError, match=re.escape("no exact answer with a field at 13 × 13")):
        large.log_prob(np.array([[0.3, 0.1]]), x)
    assert np.isfinite(large.log_prob(np.array([[0.3, 0.0]]), x)).all()
    with pytest.raises(ValueError, match="64 sites"):
        joint_levels((9, 8))
    with pytest.raises(ValueError, match="4096 sites"):
        energy_levels((65, 64))
    with pytest.raises(ValueError, match="take theta = beta"):
        Ising(4, theta="beta-xy").mutual_information()

"""Ising samplers as distributions, against enumeration and exact energies, with controls."""

from __future__ import annotations

import hashlib
import itertools
import re

import numba
import numpy as np
import pytest
from scipy import stats
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import simulators.ising as package
from simulators import base, random
from simulators.ising import Ising, binder_cumulant, specific_heat, susceptibility
from simulators.ising import sampling as kernels
from simulators.ising.exact import CRITICAL_BETA, thermal
from simulators.ising.observables import correlation, energy, magnetisation

SAMPLERS = ["perfect", "swendsen-wang", "heat-bath"]
LAWS = [
    ("beta", [0.35]),
    ("beta", [0.7]),
    ("temperature", [2.5]),
    ("beta-h", [0.3, 0.3]),
    ("beta-h", [0.4, -0.1]),
    ("beta-xy", [0.15, 0.6]),
]


def draw(values, n, seed=1, **options):
    ising = Ising(**options)
    return ising, ising.sample(np.tile(values, (n, 1)), np.random.default_rng(seed))


def misfit(ising, theta, x):
    """P-value of χ² of all states, the rare ones as one."""
    shape = ising.x_shape
    n = shape[0] * shape[1]
    rows = np.array(list(itertools.product((-1, 1), repeat=n)), dtype=np.int8)
    p = np.exp(ising.log_prob(np.tile(theta, (len(rows), 1)), rows.reshape(-1, *shape)))
    code = (x.reshape(len(x), n) > 0) @ (1 << np.arange(n)[::-1])
    count, expected = np.bincount(code, minlength=1 << n), p * len(x)
    rare = expected < 5
    if rare.any():
        count = np.append(count[~rare], count[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    return stats.chisquare(count, expected).pvalue


@pytest.mark.parametrize("shape", [(2, 3), (3, 3)])
@pytest.mark.parametrize(("kind", "theta"), LAWS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_state_is_as_frequent_as_it_should_be(sampler, kind, theta, shape):
    sweeps = 0 if sampler == "perfect" else 60
    ising, x = draw(
        theta, 20000, size=shape[0], width=shape[1], theta=kind, sampler=sampler, sweeps=sweeps
    )
    assert misfit(ising, theta, x) > 1e-3


@pytest.mark.parametrize("sampler", ["swendsen-wang", "heat-bath"])
def test_one_sweep_from_the_cold_start_is_not_enough(sampler):
    ising, x = draw([0.3], 20000, size=3, sampler=sampler, sweeps=1)
    assert misfit(ising, [0.3], x) < 1e-9


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_wrong_temperature_is_seen(sampler):
    ising, x = draw([0.30], 20000, size=3, sampler=sampler)
    assert misfit(ising, [0.33], x) < 1e-9


def deviation(x, beta):
    """The mean energy's distance from the exact one, in standard errors."""
    shape = x.shape[1:]
    exact = thermal(shape, np.array([beta]))
    total = energy(x) * shape[0] * shape[1]
    return (total.mean() - exact.energy[0]) / np.sqrt(exact.variance[0] / len(x))


@pytest.mark.parametrize(("size", "width"), [(8, 8), (16, 16), (11, 13)])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_energies_at_the_critical_point(sampler, size, width):
    _, x = draw([CRITICAL_BETA], 1500, size=size, width=width, sampler=sampler)
    assert abs(deviation(x, CRITICAL_BETA)) < 4


@pytest.mark.parametrize(("sampler", "sweeps"), [("swendsen-wang", 2), ("heat-bath", 20)])
def test_too_short_a_burn_in_is_seen_in_the_energy(sampler, sweeps):
    _, x = draw([CRITICAL_BETA], 1500, size=16, sampler=sampler, sweeps=sweeps)
    assert abs(deviation(x, CRITICAL_BETA)) > 6


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("kind", ["beta", "beta-h"])
def test_a_lattice_depends_on_its_index_and_theta_alone(sampler, kind, monkeypatch):
    ising = Ising(6, 5, theta=kind, sampler=sampler)
    theta = ising.prior.sample(100, np.random.default_rng(2))
    drawn = {}
    for threads in (1, 2):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
        drawn[threads] = ising.sample(theta, np.random.default_rng(7))
    assert np.array_equal(drawn[1], drawn[2])
    assert np.array_equal(ising.sample(theta[:10], np.random.default_rng(7)), drawn[1][:10])
    assert not np.array_equal(ising.sample(theta, np.random.default_rng(8)), drawn[1])
    assert drawn[1].dtype == np.int8
    assert set(np.unique(drawn[1])) == {-1, 1}


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ("perfect", "434544f6b7c9e2ac"),
        ("swendsen-wang", "4de9c3acfdca4a25"),
        ("heat-bath", "88d76ee2232b80b0"),
        ("checkerboard", "708e72a80558efff"),
    ],
)
def test_a_seed_gives_the_lattices_that_it_gave_in_version_0_1(sampler, expected):
    k = np.linspace(0, 0.7, 70)
    couplings = np.stack([k, k[::-1], np.where(k < 0.3, 0, k - 0.5)], 1)
    x = kernels.draw(sampler, couplings, (4, 6), 5, np.array([3, 5], np.uint64))
    assert hashlib.sha256(x.tobytes()).hexdigest()[:16] == expected


def test_sample_takes_the_same_from_rng_whatever_n():
    ising, first, second = Ising(4), np.random.default_rng(5), np.random.default_rng(5)
    ising.sample(np.full((3, 1), 0.3), first)
    ising.sample(np.full((30, 1), 0.3), second)
    assert first.random() == second.random()
    assert ising.sample(np.empty((0, 1)), first).shape == (0, 4, 4)


@pytest.mark.parametrize("h", [0, 0.1])
def test_bonds_from_the_past_do_not_depend_on_the_window(h):
    """The control is another key."""

    def bonds(window, key=2):
        n, p = 30, -np.expm1(-2 * np.array([0.4, 0.5, h]))
        limits = np.rint(np.stack([p / (2 - p), p], 1) * 2**32).astype(np.uint64).ravel()
        low, top, queue = np.zeros(n, np.uint8), np.zeros(n, np.uint8), np.zeros(2 * n, np.uint32)
        kernels._couple(
            low, top, np.uint64(1), np.uint64(key), limits, window, kernels._steps(6, 5),
            np.zeros(n, np.int32), queue, np.zeros(1, np.int64),
        )  # fmt: skip
        return low.tolist()

    expected = bonds(1)
    assert bonds(5) == bonds(40) == expected
    assert bonds(1, key=3) != expected


def test_marks_of_searches_begin_again_before_they_overflow():
    none, seen = np.zeros(4, np.uint8), np.full(4, 9, np.int32)
    mark, one = np.array([kernels.MARKS + 1]), np.uint64(1)
    kernels._scan(
        none, none, one, one, 1, np.zeros(6, np.uint64), 0, kernels._steps(2, 2), seen,
        np.zeros(8, np.uint32), mark,
    )  # fmt: skip
    assert mark[0] == 0
    assert not seen.any()


def clusters(left, up, ghost):
    """Cluster of each site and of the ghost, (N + 1,), of bonds (rows, columns)."""
    sites = np.arange(left.size).reshape(left.shape)
    ends = [
        np.stack([sites[left], np.roll(sites, 1, 1)[left]]),
        np.stack([sites[up], np.roll(sites, 1, 0)[up]]),
        np.stack([sites[ghost], np.full(ghost.sum(), left.size)]),
    ]
    i, j = np.concatenate(ends, 1)
    return connected_components(coo_array((np.ones(len(i)), (i, j)), 2 * [left.size + 1]))[1]


def site_bits(left, up, ghost):
    """The open bonds of each site as the kernels have them, (N,)."""
    right, down = np.roll(left, -1, 1), np.roll(up, -1, 0)
    return np.stack([right, left, down, up, ghost]).reshape(5, -1).T @ 2 ** np.arange(5)


@pytest.mark.parametrize("chance", [0, 0.1])
def test_searches_find_what_scipy_finds(chance):
    """In a lower state, and in an upper one where the lower search already tells."""
    rng, shape, n = np.random.default_rng(1), (5, 4), 20
    queue, step, told = np.zeros(2 * n, np.uint32), kernels._steps(*shape), []
    for _ in range(200):
        opens = [rng.random(shape) < p for p in (0.4, 0.4, chance)]
        more = [bonds | (rng.random(shape) < 0.03) for bonds in opens[:2]] + opens[2:]
        low, top = (site_bits(*each).astype(np.uint8) for each in (opens, more))
        for b in (*range(1, 4), -1):
            linked = [c[0] == c[b] for c in (clusters(*opens), clusters(*more))]
            found, alike = kernels._linked(low, top, 0, b, step, np.zeros(n, np.int32), queue, 4)
            assert found == linked[0]
            assert not alike or linked[0] == linked[1]
            told.append((found, alike, linked[1]))
    assert {(True, True, True), (False, True, False), (False, False, True)} <= set(told)


def test_labels_are_the_clusters_of_open_bonds():
    rng, label, parent = (
        np.random.default_rng(2),
        np.zeros((6, 5), np.int32),
        np.zeros(30, np.int32),
    )
    for _ in range(100):
        left, up = rng.random((2, 6, 5)) < 0.45
        bonds = (kernels.LEFT * left + kernels.UP * up).astype(np.uint8)
        births = kernels._label(bonds, label, parent)
        roots = [kernels._find(parent, k) for k in label.ravel()]
        both = set(zip(roots, clusters(left, up, left & False)[:-1], strict=True))
        assert len(both) == len(set(roots)) == len({c for _, c in both})
        inside = left.copy(), up.copy()
        inside[0][:, 0], inside[1][0] = False, False
        assert births == (~inside[0] & ~inside[1]).sum()


def test_random_bits_are_fair_and_independent():
    key = np.array([3, 5], dtype=np.uint64)

    def word(i, counter):
        a, b = random.keys(key, i)
        return random.bits(np.uint64(a), np.uint64(b), np.uint64(counter))

    bits = np.array([[word(i, c) for c in range(256)] for i in range(64)], dtype=np.uint64)
    words = np.unpackbits(bits.view(np.uint8).reshape(-1, 8), axis=1)
    z = (words.mean(0) - 0.5) * 2 * np.sqrt(len(words))
    assert np.abs(z).max() < 4.5
    u = (bits >> np.uint64(32)).astype(float) / 2**32
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3
    for pair in ((u[:, 1:], u[:, :-1]), (u[1:], u[:-1])):
        r = np.corrcoef(pair[0].ravel(), pair[1].ravel())[0, 1]
        assert abs(r) * np.sqrt(pair[0].size) < 4.5
    first = np.array([word(i, 0) for i in range(4096)], dtype=np.uint64)
    assert stats.kstest(first.astype(float) / 2**64, "uniform").pvalue > 1e-3


def test_frozen_and_free_lattices():
    _, cold = draw([5.0], 200, size=5, width=7)
    assert np.all(np.abs(magnetisation(cold)) == 1)
    assert 60 < (magnetisation(cold) > 0).sum() < 140
    _, free = draw([0.0], 2000, size=5, width=7)
    assert abs(free.mean()) * np.sqrt(free.size) < 4.5
    _, field = draw([5.0, -5.0], 20, size=5, width=7, theta="beta-h")
    assert np.all(field == -1)


def test_antiferromagnets_need_the_heat_bath():
    _, x = draw([-2.0], 20, size=4, width=6, sampler="heat-bath", sweeps=300)
    assert np.mean(energy(x) == 2) > 0.5
    for sampler in ("perfect", "swendsen-wang"):
        with pytest.raises(ValueError, match="choose sampler heat-bath"):
            draw([-2.0], 2, size=4, sampler=sampler)


def test_what_auto_stands_for():
    assert Ising(32).provenance == {"sampler": "perfect", "sweeps": 0}
    assert Ising(33, 5).provenance == {"sampler": "swendsen-wang", "sweeps": 51}
    assert Ising(64, sampler="heat-bath").provenance == {"sampler": "heat-bath", "sweeps": 6400}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 1}, "size: expected 2 to 4096 rows, got 1"),
        ({"width": 1}, "width: expected 2 to 4096 columns or 0 (square), got 1"),
        ({"theta": "J"}, "theta: expected one of beta, temperature, beta-h, beta-xy, got 'J'"),
        ({"sampler": "wolff"}, "sampler: expected auto, perfect"),
        ({"sweeps": -1}, "sweeps: expected 0 to 1000000, got -1"),
        ({"sweeps": 5}, "sweeps: expected 0 with perfect samples, got 5"),
    ],
)
def test_a_bad_configuration_is_refused(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Ising(**options)


@pytest.mark.parametrize(
    ("theta", "message"),
    [([0.3], "expected shape (n, 1)"), ([[np.nan]], "finite"), ([[0.1, 0.2]], "got (1, 2)")],
)
def test_a_bad_theta_is_refused(theta, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Ising(4).sample(np.array(theta), np.random.default_rng(0))


def test_a_bad_x_is_refused():
    ising = Ising(4)
    with pytest.raises(ValueError, match="expected shape"):
        ising.log_prob(np.array([[0.3]]), np.ones((1, 3, 4)))
    with pytest.raises(ValueError, match="−1 and \\+1"):
        ising.log_prob(np.array([[0.3]]), np.zeros((1, 4, 4)))
    with pytest.raises(ValueError, match="T ≠ 0"):
        Ising(4, theta="temperature").log_z(np.array([[0.0]]))


def test_observables_of_known_lattices():
    board = 1 - 2 * (np.indices((4, 6)).sum(0) % 2)
    x = np.stack([np.ones((4, 6)), board]).astype(np.int8)
    assert np.array_equal(energy(x), [-2, 2])
    assert np.array_equal(magnetisation(x), [1, 0])
    assert np.array_equal(correlation(x), [[1, 1], [-1, 1]])
    assert binder_cumulant(x[:1]) == pytest.approx(2 / 3)
    assert specific_heat(x, 0.5) == 0.25 * 4 * 24
    assert susceptibility(x, 0.5) == 0.5 * 0.25 * 24


def test_ensemble_quantities_against_the_exact_ones():
    _, x = draw([0.4], 4000, size=8)
    exact = thermal((8, 8), np.array([0.4]))
    assert specific_heat(x, 0.4) == pytest.approx(0.16 * exact.variance[0] / 64, rel=0.1)


def test_the_contract_and_the_exports():
    ising = Ising(5)
    assert base.support(ising) == "spins"
    assert base.symmetries(ising) == ising.symmetries
    assert base.exact_log_prob(ising) is not None
    assert base.exact_log_prob(Ising(13, theta="beta-h")) is None
    assert base.verifier(ising) is not None
    assert all(o.latex and o.title for o in base.observables(ising).values())
    assert sorted(package.__all__) == [
        "Ising", "binder_cumulant", "specific_heat", "susceptibility",
    ]  # fmt: skip
    assert all(hasattr(package, name) for name in package.__all__)
    assert all(p.unit or p.name.startswith("beta_") for p in ising.prior.parameters)

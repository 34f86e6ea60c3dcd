"""The Monte Carlo cascade: its cross sections by quadrature, its showers by what is known."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from physgen.testing import check_simulator
from simulators.shower import interactions, transport
from simulators.shower.cascade import Cascade
from simulators.shower.interactions import M
from simulators.shower.materials import MATERIALS

PARTICLES = ["electron", "photon"]
DRAWS = 40000


def stream(seed):
    return interactions.stream_of(np.array([seed, 2], np.uint64), 0, 0)


def draws(sampler, *arguments, n=DRAWS, seed=1):
    random = stream(seed)
    return np.array([sampler(*arguments, random) for _ in range(n)])


def deviation(values, exact):
    """Distance of the mean from the exact one, in standard errors."""
    return (values.mean() - exact) / (values.std() / np.sqrt(len(values)))


def moment(density, power, low, high):
    """∫ v^power density(v) dv, not normalised."""
    return integrate.quad(lambda v: v**power * density(v), low, high, epsabs=0, epsrel=1e-10)[0]


# --- bremsstrahlung ------------------------------------------------------------------------------


def phi(v):
    return (4 / 3 - 4 * v / 3 + v * v) / v


@pytest.mark.parametrize("t", [1.5e-3, 0.02, 10.0])
def test_bremsstrahlung_takes_one_e_th_a_radiation_length(t):
    v = interactions.SOFT / t
    assert interactions.hard_rate(t) == pytest.approx(moment(phi, 0, v, 1))
    hard = t * moment(phi, 1, v, 1)
    assert interactions.soft_loss(t) + hard == pytest.approx(t)


@pytest.mark.parametrize("t", [1.5e-3, 0.02, 10.0])
@pytest.mark.parametrize("power", [1, 2])
def test_photons_follow_the_spectrum(t, power):
    low = interactions.SOFT / t
    exact = moment(phi, power, low, 1) / moment(phi, 0, low, 1)
    assert abs(deviation(draws(interactions.radiated, t) ** power, exact)) < 4


@pytest.mark.parametrize("t", [0.02, 10.0])
def test_a_wrong_spectrum_is_seen(t):
    low = interactions.SOFT / t
    exact = moment(phi, 1, low, 1) / moment(phi, 0, low, 1)
    inverse = low ** np.random.default_rng(1).uniform(size=DRAWS)
    assert abs(deviation(inverse, exact)) > 10


def steps(t, length, random):
    """Loss of an electron on a path of at least this length, and ∫ (T + E_c) ds along it."""
    ec, stack, row = MATERIALS["Pb"].critical_energy, np.zeros((3, 4)), np.zeros(3)
    stack[0] = -1, t, 0, 1
    path = loss = expected = 0.0
    while path < length and stack[0, 1] > transport.ELECTRON_CUT:
        before, row[:] = stack[0, 1], 0
        top = transport.charged(row, stack, 0, random, ec, 0.0, 1e3)
        s = row.sum() / (ec + interactions.soft_loss(before))
        path += s
        expected += s * (before - row.sum() / 2 + ec)
        if top:
            stack[0] = stack[0] if stack[0, 0] else stack[1]
        loss += before - stack[0, 1]
    return loss, expected


@pytest.mark.slow
def test_an_electron_loses_its_energy_and_the_critical_one_each_radiation_length():
    random = stream(3)
    loss, expected = np.array([steps(50.0, 0.3, random) for _ in range(16000)]).T
    excess = loss - expected
    assert abs(deviation(excess, 0.0)) < 4
    assert excess.std() / np.sqrt(len(excess)) < 0.01 * expected.mean()


# --- photons -------------------------------------------------------------------------------------


def differential(e, k):
    """dσ/dε of Klein and Nishina over r_e²."""
    x = k / M
    cosine = 1 - (1 / e - 1) / x
    return np.pi / x * (1 / e + e - (1 - cosine**2))


@pytest.mark.parametrize("k", [0.4e-3, 5e-3, 0.3])
def test_compton_scattering_is_that_of_klein_and_nishina(k):
    least = 1 / (1 + 2 * k / M)
    total, first = (moment(lambda e: differential(e, k), p, least, 1) for p in (0, 1))
    assert interactions.klein_nishina(k) == pytest.approx(total)
    e = draws(interactions.scattered, k)
    assert least <= e.min() <= e.max() <= 1
    assert abs(deviation(e, first / total)) < 4
    assert abs(deviation(draws(interactions.scattered, 2 * k), first / total)) > 8


def test_a_soft_photon_sees_the_cross_section_of_thomson():
    assert interactions.klein_nishina(1e-6) == pytest.approx(8 * np.pi / 3, rel=0.01)


def test_electrons_per_radiation_length_of_lead():
    lead = 82 / 207.2 * 6.02214e23 * 6.37 * 2.8179e-13**2  # Z/A N_A X₀ r_e²
    assert Cascade(material="Pb").electrons == pytest.approx(lead, rel=0.02)


def test_pairs_begin_at_their_threshold_and_end_at_seven_ninths():
    k = np.geomspace(1e-3, 1e4, 200)
    rate = np.array([interactions.pair_rate(x) for x in k])
    assert interactions.pair_rate(2 * M) == 0 < interactions.pair_rate(2.01 * M)
    assert (np.diff(rate) >= 0).all()
    assert rate[-1] == pytest.approx(7 / 9, rel=1e-3)


def test_a_pair_shares_its_energy():
    u = draws(interactions.shared)

    def density(v):
        return 9 / 7 * (1 - 4 / 3 * v * (1 - v))

    second = moment(density, 2, 0, 1)
    assert abs(deviation(u, 0.5)) < 4
    assert abs(deviation(u**2, second)) < 4
    even = np.random.default_rng(1).uniform(size=DRAWS)
    assert abs(deviation(even**2, second)) > 5


@pytest.mark.slow
@pytest.mark.parametrize("depth", [0.3, 1.0, 2.3])
def test_the_mean_free_path_of_a_photon(depth):
    """Nothing is left without a pair, and a pair leaves something."""
    cascade = Cascade("photon", layers=1, thickness=depth)
    x = cascade.sample(np.tile([np.log(100.0), 0.0], (6000, 1)), np.random.default_rng(4))
    rate = interactions.pair_rate(100.0)
    assert rate == pytest.approx(7 / 9, rel=0.002)
    assert abs(deviation(x[:, 0] > 0, 1 - np.exp(-depth * rate))) < 4
    assert abs(deviation(x[:, 0] > 0, 1 - np.exp(-depth))) > 4


# --- directions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("square", [1e-4, 0.05, 1.0])
def test_the_mean_deflection_is_that_of_diffusion(square):
    bend = 1 - draws(interactions.swerve, square)
    assert bend.min() >= 0
    assert bend.max() <= 2
    assert bend.mean() == pytest.approx(1 - np.exp(-square / 2), rel=0.05)


def test_a_turn_keeps_the_mean_direction():
    azimuth = 2 * np.pi * np.arange(11) / 11
    turned = [interactions.turned(0.3, 0.8, a) for a in azimuth]
    assert np.mean(turned) == pytest.approx(0.24)
    assert interactions.turned(1.0, 0.8, 1.0) == pytest.approx(0.8)


# --- showers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("particle", PARTICLES)
@pytest.mark.parametrize(
    "options",
    [{}, {"material": "Fe", "layers": 3, "thickness": 0.7}, {"layers": 300, "thickness": 0.01}],
    ids=str,
)
def test_energy_is_conserved(particle, options):
    cascade = Cascade(particle, **options)
    theta = cascade.prior.sample(11, np.random.default_rng(5))
    budget = cascade.budget(theta, np.random.default_rng(6))
    assert (budget >= 0).all()
    np.testing.assert_allclose(budget.sum(axis=1), np.exp(theta[:, 0]), rtol=1e-9)


@pytest.mark.parametrize(
    ("particle", "energy"),
    [("electron", 0.9e-3), ("electron", np.nextafter(1e-3, 1)), ("photon", 0.3e-3)],
)
def test_a_particle_at_the_cut_stays_where_it_is(particle, energy):
    theta = np.array([[np.log(energy), 0.0]])
    x = Cascade(particle, layers=3).sample(theta, np.random.default_rng(1))
    np.testing.assert_allclose(x, [[energy, 0, 0]])


NUMBER = {1: 5000, 10: 400, 100: 40}


@cache
def profile(particle, energy, part=1):
    """Mean energy in 40 layers of 1 X₀, over E, of a part of so many showers."""
    theta = np.tile([np.log(energy), 0.0], (NUMBER[energy] // part, 1))
    return Cascade(particle, layers=40).sample(theta, np.random.default_rng(7)).mean(0) / energy


def maximum(profile):
    """Where the gamma distribution fitted to a profile has its maximum, X₀."""
    edges = np.arange(len(profile) + 1)

    def law(_, alpha, beta, total):
        return total * np.diff(stats.gamma.cdf(edges, alpha, scale=1 / beta))

    alpha, beta, _ = optimize.curve_fit(law, edges[1:], profile, p0=(4, 0.5, 1))[0]
    return (alpha - 1) / beta


@pytest.mark.slow
@pytest.mark.parametrize("particle", PARTICLES)
@pytest.mark.parametrize("energy", NUMBER)
def test_the_shower_maximum(particle, energy):
    """Within 0.4 X₀ of the rule, and three standard errors of so few showers."""
    y = energy / MATERIALS["PbWO4"].critical_energy
    rule = np.log(y) + (0.5 if particle == "photon" else -0.5)
    error = 1.6 / np.sqrt(NUMBER[energy])
    assert abs(maximum(profile(particle, energy)) - rule) < 0.4 + 3 * error


@pytest.mark.parametrize("particle", PARTICLES)
@pytest.mark.parametrize("energy", NUMBER)
def test_the_deposit_is_linear_in_the_energy(particle, energy):
    assert profile(particle, energy, part=5).sum() == pytest.approx(1, abs=0.01)


def test_dead_material_takes_the_first_layers():
    """The same shower behind 2 X₀ of it; only the back face moves, and less than 1e-4 leaks."""
    energy = np.full(5, np.log(2.0))
    bare, behind = (
        Cascade(layers=40).sample(np.stack([energy, t], axis=1), np.random.default_rng(8))
        for t in (0 * energy, 0 * energy + 2)
    )
    assert bare[:, :2].sum() > 0.05
    np.testing.assert_allclose(behind[:, :-2], bare[:, 2:], atol=1e-12)


# --- randomness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [0.0, 0.1])
def test_a_row_depends_on_itself_its_index_and_the_key(resolution):
    cascade = Cascade(resolution=resolution)
    theta = np.stack([np.log(np.linspace(1, 3, 7)), np.linspace(0, 4, 7)], axis=1)
    x = cascade.sample(theta, np.random.default_rng(9))
    np.testing.assert_array_equal(x[:3], cascade.sample(theta[:3], np.random.default_rng(9)))
    moved = theta[[0, 5, 2, 3, 4, 1, 6]]
    other = cascade.sample(moved, np.random.default_rng(9))
    same = [0, 2, 3, 4, 6]
    np.testing.assert_array_equal(x[same], other[same])
    assert not np.isclose(x[1], other[5]).all()
    alike = cascade.sample(np.tile(theta[:1], (7, 1)), np.random.default_rng(9))
    assert len(np.unique(alike, axis=0)) == 7


@pytest.mark.parametrize("c", [0.05, 0.2])
def test_the_readout_has_its_stochastic_term(c):
    theta = np.tile([np.log(0.5), 0.0], (2000, 1))
    plain, drawn = (
        Cascade(layers=40, resolution=r).sample(theta, np.random.default_rng(10)) for r in (0, c)
    )
    assert (drawn[plain == 0] == 0).all()
    noise, variance = (drawn - plain).sum(axis=1), c**2 * plain.sum(axis=1)
    assert abs(deviation(noise, 0)) < 4
    assert abs(deviation(noise**2 / variance, 1)) < 4


# --- the simulator -------------------------------------------------------------------------------


@pytest.mark.parametrize("cascade", [Cascade(), Cascade("photon", "W", 11, 2.0, 0.1)], ids=str)
def test_the_contract_holds(cascade):
    assert check_simulator(cascade) == []


def test_its_provenance_is_json():
    assert json.loads(json.dumps(Cascade().provenance))["electron_cut_GeV"] == 1e-3


@pytest.mark.parametrize(
    "options",
    [
        {"particle": "muon"},
        {"material": "Xe"},
        {"layers": 0},
        {"layers": 1001},
        {"thickness": 0.0},
        {"thickness": float("nan")},
        {"resolution": -0.1},
        {"resolution": 0.001},
        {"resolution": float("nan")},
    ],
    ids=str,
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=rf"^{next(iter(options))}: expected .*, got "):
        Cascade(**options)


@pytest.mark.parametrize(
    "theta",
    [[1.0, 2.0], [[1.0]], [[np.nan, 0.0]], [[1.0, np.inf]], [[10.0, 0.0]], [[1.0, -0.1]]],
    ids=str,
)
def test_bad_theta_is_refused(theta):
    with pytest.raises(ValueError, match=r"^theta: expected .*, got "):
        Cascade().sample(np.array(theta), np.random.default_rng(1))

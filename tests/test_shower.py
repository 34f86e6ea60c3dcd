"""Showers: physics that is known, one process at every granularity, observables, options."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import ndtr
from scipy.stats import ks_2samp

from physgen.testing import check_simulator
from simulators.shower import Shower, ShowerEnergy, ShowerVoxel, gflash
from simulators.shower.compound import log_atom
from simulators.shower.materials import MATERIALS
from simulators.shower.observables import of_layers
from simulators.shower.simulator import _spots

LEAD = MATERIALS["PbWO4"]


def rng(seed=1):
    return np.random.default_rng(seed)


def at(energy, n, *more):
    """θ of n showers of an energy in GeV."""
    return np.tile([math.log(energy), *more], (n, 1))


def shapes(energy, n, material=LEAD):
    """ln E, ln y, T and α of n showers."""
    log_e = np.full(n, math.log(energy))
    log_y = log_e - math.log(material.critical_energy)
    return log_e, log_y, *gflash.draw(log_y, material.z, rng())


# --- the physics --------------------------------------------------------------------------------


def test_log_t_and_log_α_have_their_moments():
    _, log_y, t, alpha = shapes(10, 200_000)
    m_t, s_t, m_a, s_a, rho = gflash.moments(log_y[0], LEAD.z)
    found = [np.log(t).mean(), np.log(t).std(), np.log(alpha).mean(), np.log(alpha).std()]
    assert_allclose(found, [m_t, s_t, m_a, s_a], atol=4 * s_t / 400)
    assert abs(np.corrcoef(np.log(t), np.log(alpha))[0, 1] - rho) < 4 / 400


def test_α_is_cut_off_at_1_1():
    log_y = np.full(100_000, 2.2)
    _, _, m_a, s_a, _ = gflash.moments(2.2, LEAD.z)
    u = (np.log(gflash.draw(log_y, LEAD.z, rng())[1]) - m_a) / s_a
    low = (math.log(1.1) - m_a) / s_a
    assert u.min() > low
    assert ndtr(low) > 0.1  # or else nothing is tested
    assert_allclose((u < 0.3).mean(), 1 - ndtr(-0.3) / ndtr(-low), atol=4 * 0.5 / 316)


@pytest.mark.parametrize("energy", [1, 10, 100])
def test_depth_of_maximum_and_containment(energy):
    _, log_y, t, alpha = shapes(energy, 4000)
    edges = np.linspace(0, 25, 501)
    profile = gflash.fractions(t, alpha, np.tile(edges, (len(t), 1))).mean(0)
    assert abs(edges[profile.argmax()] - (log_y[0] - 0.5)) < 0.5
    assert profile.sum() > 0.99
    assert profile[edges[1:] <= 12].sum() < 0.99


@pytest.mark.parametrize("energy", [1, 10, 100, 1000])
@pytest.mark.parametrize("material", ["PbWO4", "W", "Pb"])
def test_nine_tenths_lie_within_a_molière_radius(energy, material):
    medium = MATERIALS[material]
    log_e, log_y, t, alpha = shapes(energy, 2000, medium)
    edges = np.tile(np.arange(61) * 0.5, (len(t), 1))
    share = gflash.fractions(t, alpha, edges)
    radii = np.array([0, 0.3, 1.0, np.inf])
    ring = gflash.ring_shares(
        t, alpha, log_e, log_y, medium.z, (edges[:, 1:] + edges[:, :-1]) / 2, radii
    )
    within = (share[..., None] * ring).sum((0, 1)).cumsum() / share.sum()
    assert_allclose(ring.sum(2), 1)
    assert 0.84 < within[1] < 0.93
    assert within[0] < 0.84


def resolution(simulator):
    """σ/E·√E of showers of 10 GeV."""
    total = simulator.sample(at(10, 20_000), rng()).sum(1)
    return total.std() / 10 * math.sqrt(10)


def test_resolution():
    assert_allclose(resolution(ShowerEnergy()), 0.10, rtol=0.03)
    assert_allclose(resolution(ShowerEnergy(resolution=0.13)), 0.13, rtol=0.03)
    assert abs(resolution(ShowerEnergy(resolution=0.13)) / 0.10 - 1) > 0.03


def test_a_photon_starts_later():
    depth = Shower().observables["mean_depth"]
    electron, photon = (
        depth(Shower(particle=p).sample(at(10, 20_000, 0.0), rng())).mean()
        for p in ("electron", "photon")
    )
    assert_allclose(photon - electron, 9 / 7, atol=0.06)


def test_dead_material_takes_the_start_of_a_shower():
    """A shower behind 2 X₀ is one without its first two layers."""
    early, late = (
        Shower().sample(at(10, 4000, 0.0), rng()),
        Shower().sample(at(10, 4000, 2.0), rng(2)),
    )
    assert ks_2samp(late[:, :5].sum(1), early[:, 2:7].sum(1)).pvalue > 1e-3
    assert ks_2samp(late[:, :5].sum(1), early[:, 1:6].sum(1)).pvalue < 1e-6


def test_threshold():
    simulator = Shower(threshold=0.02)
    theta = at(2, 4000, 1.0)
    x, free = simulator.sample(theta, rng()), Shower().sample(theta, rng())
    assert np.array_equal(x, np.where(free > 0.02, free, 0))
    rate = simulator.rates(theta, rng(2))[..., 0]
    empty = np.exp(log_atom(rate, simulator.cut / simulator.spot))
    error = np.sqrt((empty.var(0) + (empty * (1 - empty)).mean(0)) / len(x)) + 1e-4
    assert np.all(np.abs((x == 0).mean(0) - empty.mean(0)) < 5 * error)
    assert np.any(np.abs((free == 0).mean(0) - empty.mean(0)) > 5 * error)


# --- one process --------------------------------------------------------------------------------


class Wide(ShowerVoxel):
    """Voxels whose outermost ring has no end."""

    @property
    def edges(self):
        return np.r_[super().edges[:-1], np.inf]


class Coarse(Shower):
    """Layers like those of the voxels."""

    grid, thickness = (12, 1, 1), 2.0


def smallest_p(a, b):
    """Bonferroni's p-value of the layers' energies and their sum being alike."""
    a, b = (np.c_[x, x.sum(1)] for x in (a, b))
    return min(ks_2samp(p, q).pvalue for p, q in zip(a.T, b.T, strict=True)) * a.shape[1]


def test_voxels_sum_to_layers():
    theta = at(10, 4000, 1.0)
    layers = Coarse(material="W").sample(theta, rng())
    cells = Wide().sample(theta, rng(2))
    assert smallest_p(cells.sum((2, 3)), layers) > 1e-3
    assert smallest_p(ShowerVoxel().sample(theta, rng(2)).sum((2, 3)), layers) < 1e-6


def test_rings_of_voxels_have_their_law():
    theta = at(10, 6000, 1.0)
    x, rate = Wide().sample(theta, rng()), Wide().rates(theta, rng(2))
    drawn = 0.005 * rng(3).standard_gamma(rng(4).poisson(rate))
    assert smallest_p(x.sum(2)[:, 3], drawn[:, 3]) > 1e-3
    assert smallest_p(x.sum(2)[:, 3], 1.05 * drawn[:, 3]) < 1e-3
    by_azimuth = x.sum((1, 3))
    assert_allclose(by_azimuth.mean(0) / by_azimuth.mean(), 1, atol=0.01)


def thrown(few, mean):
    """Cells of 6000 rings of 5 azimuths."""
    x = np.zeros((6000, 1, 5, 1), np.float32)
    _spots(np.full((6000, 1, 1), mean), 0.01, few, rng(int(few)), x)
    return x[:, 0, :, 0]


@pytest.mark.parametrize("mean", [2.0, 30.0])
def test_spots_thrown_one_by_one_or_cell_by_cell(mean):
    one, cell = thrown(1e9, mean), thrown(0.0, mean)
    assert smallest_p(one, cell) > 1e-3
    assert smallest_p(one, thrown(0.0, 1.2 * mean)) < 1e-3
    for x in (one, cell):
        assert_allclose((x == 0).mean(), np.exp(-mean / 5), atol=4 * 0.5 / 173)
        assert np.all(np.abs(np.corrcoef(x.T) - np.eye(5)) < 4 / 77)


# --- the contract -------------------------------------------------------------------------------


@pytest.mark.slow
def test_contract():
    assert check_simulator(Shower()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "simulator",
    [
        ShowerEnergy(),
        ShowerEnergy(threshold=0.01, material="Fe"),
        ShowerEnergy(particle="photon"),
        ShowerVoxel(),
    ],
)
def test_contract_of_the_others(simulator):
    assert check_simulator(simulator) == []


@pytest.mark.slow
def test_a_likelihood_of_another_scale_breaks_the_contract():
    class Wrong(ShowerEnergy):
        def log_prob(self, theta, x):
            return super().log_prob(theta, 1.03 * x)

    assert check_simulator(Wrong()) != []


@pytest.mark.parametrize("simulator", [Shower(), ShowerVoxel(), ShowerVoxel(particle="photon")])
def test_sampling_is_pure(simulator):
    theta = simulator.prior.sample(7, rng())
    x = simulator.sample(theta, rng(2))
    assert x.dtype == np.float32
    assert np.array_equal(x, simulator.sample(theta, rng(2)))
    assert not np.array_equal(x, simulator.sample(theta, rng(3)))
    assert simulator.sample(theta[:0], rng()).shape == (0, *simulator.x_shape)


@pytest.mark.parametrize(
    ("number", "grid", "ring"), [(2, (45, 16, 9), 4.65), (3, (45, 50, 18), 2.325)]
)
def test_layouts_of_the_calochallenge(number, grid, ring):
    """Cells, radii in mm, energies and readout threshold of datasets 2 and 3."""
    simulator = ShowerVoxel(layout=f"calochallenge-{number}")
    assert simulator.x_shape == grid == simulator.geometry.x_shape
    assert simulator.geometry.unit == "mm"
    assert_allclose(simulator.geometry.layers[44].edges, ring * np.arange(grid[2] + 1), rtol=1e-12)
    assert_allclose(simulator.edges[-1] * 9.327, 41.85)
    assert_allclose(simulator.prior.high[0], math.log(1000))
    assert simulator.prior.low[0] == 0
    assert simulator.cut == np.float32(0.5e-6 / 0.033) == np.float32(1.5151515e-5)
    x = simulator.sample(at(3, 30, 0.0), rng())
    assert x[x > 0].min() > 1.515e-5
    higher = replace(simulator, threshold=1e-3).sample(at(3, 30, 0.0), rng())
    assert np.array_equal(higher, np.where(x > 1e-3, x, 0))
    assert (x > 0).sum() > (higher > 0).sum()


@pytest.mark.slow
def test_showers_of_1_tev():
    """Response, resolution and exact log p at the end of what the formulas are used for."""
    simulator = ShowerVoxel(layout="calochallenge-2")
    theta = at(1000, 60, 0.0)
    x = simulator.sample(theta, rng())
    total = x.sum((1, 2, 3), dtype=float) / 1000
    assert 0.97 < total.mean() < 1.0
    assert total.std() < 0.01
    assert abs(simulator.observables["depth_of_maximum"](x).mean() - 11.24) < 0.5  # ln y − 0.5
    found = simulator.log_prob(theta[:3], x[:3])
    assert np.isfinite(found).all()
    low = np.array(
        [simulator.log_prob(theta[:3] + np.array([d, 0]), x[:3]) for d in (-0.02, 0.02)]
    )
    assert np.all(found > low + 3)


def test_calochallenge_layout():
    simulator = ShowerVoxel(layout="calochallenge")
    x = simulator.sample(at(10, 50, 0.0), rng())
    assert x.shape == (50, 45, 16, 9)
    assert 0.8 < x.sum((1, 2, 3)).mean() / 10 < 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [("material", "Au"), ("particle", "pion"), ("resolution", 0.0), ("resolution", math.nan),
     ("threshold", -1.0), ("threshold", math.inf), ("layout", "huge")],
)  # fmt: skip
def test_options_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected .*, got {value!r}$"):
        replace(ShowerVoxel(), **{name: value})


def test_a_threshold_below_that_of_the_layout_is_refused():
    with pytest.raises(ValueError, match="threshold: expected 0, which is that of the layout, or"):
        ShowerVoxel(layout="calochallenge-2", threshold=1e-6)


def test_arguments_are_refused():
    simulator, x = Shower(), np.zeros((1, 25))
    with pytest.raises(ValueError, match=r"theta: expected shape \(n, 2\) for ln_E, t_up"):
        simulator.sample(np.zeros((3, 1)), rng())
    with pytest.raises(ValueError, match="theta: expected finite values"):
        simulator.sample(at(math.nan, 1, 0.0), rng())
    with pytest.raises(ValueError, match=r"ln_E: expected at least -2\.64, got -3"):
        simulator.log_prob(np.array([[-3.0, 0.0]]), x)
    with pytest.raises(ValueError, match="t_up: expected at least 0 X₀, got -1"):
        simulator.log_prob(at(1, 1, -1.0), x)
    with pytest.raises(ValueError, match=r"x: expected shape \(n, 25\), got \(1, 24\)"):
        simulator.log_prob(at(1, 1, 0.0), x[:, 1:])
    with pytest.raises(ValueError, match="x: expected energies of at least 0"):
        simulator.log_prob(at(1, 1, 0.0), x - 1)


# --- observables --------------------------------------------------------------------------------


def test_observables_of_layers():
    x = np.zeros((3, 5))
    x[0, 1], x[0, 3] = 1, 3
    x[1] = 2
    named = of_layers(2.0 * np.arange(5) + 1)
    found = {name: o(x) for name, o in named.items()}
    assert_allclose(found["total_energy"], [4, 10, 0])
    assert_allclose(found["layer_energies"], x)
    assert_allclose(found["depth_of_maximum"], [7, 1, 1])
    assert_allclose(found["mean_depth"], [6, 5, 0])
    assert_allclose(found["longitudinal_width"], [math.sqrt(3), math.sqrt(8), 0])
    assert_allclose(found["sparsity"], [0.6, 0, 1])
    assert {name: o.unit for name, o in named.items()} == {
        "total_energy": "GeV",
        "layer_energies": "GeV",
        "depth_of_maximum": "X₀",
        "mean_depth": "X₀",
        "longitudinal_width": "X₀",
        "sparsity": "",
    }


def test_observables_of_cells():
    """One hit of 1 GeV at r = 1.25 R_M and α = −7π/8, and one of 3 GeV at 0.25 R_M and π/8."""
    simulator = ShowerVoxel()
    x = np.zeros((2, 12, 8, 6))
    x[0, 3, 0, 2], x[0, 3, 4, 0] = 1, 3
    named = simulator.observables
    found = {name: o(x) for name, o in named.items()}
    square = (1.25**2 + 3 * 0.25**2) / 4
    across = (1.25 * math.sin(-7 * math.pi / 8) + 0.75 * math.sin(math.pi / 8)) / 4
    along = (1.25 * math.cos(-7 * math.pi / 8) + 0.75 * math.cos(math.pi / 8)) / 4
    assert_allclose(found["total_energy"], [4, 0])
    assert_allclose(found["mean_depth"], [7, 0])
    assert_allclose(found["radial_width"], [math.sqrt(square), 0])
    assert_allclose(found["sparsity"], [1 - 2 / 576, 1])
    layer = np.eye(12)[3]
    assert_allclose(found["occupancy"], [layer * 2 / 48, 0 * layer])
    spread = (
        found["width_x"] ** 2 + found["width_y"] ** 2
        + found["centre_x"] ** 2 + found["centre_y"] ** 2
    )  # fmt: skip
    assert_allclose(spread, [layer * square, 0 * layer], atol=1e-15)
    assert_allclose(found["centre_x"], [layer * along, 0 * layer], atol=1e-15)
    assert_allclose(found["centre_y"], [layer * across, 0 * layer], atol=1e-15)
    units = {name: o.unit for name, o in named.items()}
    for name in ("radial_width", "centre_x", "centre_y", "width_x", "width_y"):
        assert units[name] == "R_M"
    assert units["mean_depth"] == "X₀"
    assert units["occupancy"] == ""

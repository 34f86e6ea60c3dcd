"""Verdicts on showers: right data pass, data with a small and known fault fail."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from physgen.cli import main
from simulators.shower import Shower, ShowerEnergy, ShowerVoxel


def drawn(simulator, n=1500, seed=1):
    theta = simulator.prior.sample(n, np.random.default_rng(seed))
    return theta, simulator.sample(theta, np.random.default_rng(seed + 100))


def failures(simulator, theta, x):
    return {v.name for v in simulator.verify(theta, x) if not v.passed}


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
@pytest.mark.parametrize(
    "simulator", [Shower(), ShowerEnergy(particle="photon"), Shower(threshold=0.02)]
)
def test_its_own_showers_pass(simulator, seed):
    verdicts = simulator.verify(*drawn(simulator, seed=seed))
    assert len(verdicts) == 12
    assert all(v.passed for v in verdicts), verdicts


@pytest.mark.slow
def test_voxels_pass_and_turned_voxels_do_not():
    simulator = ShowerVoxel()
    theta, x = drawn(simulator, 400)
    assert failures(simulator, theta, x) == set()
    assert "law of the radial width" in failures(simulator, theta, x[..., ::-1])


@pytest.mark.slow
def test_showers_up_to_1_tev_pass_and_others_do_not():
    simulator = ShowerVoxel(layout="calochallenge-2")
    theta, x = drawn(simulator, 200)
    assert theta[:, 0].max() > np.log(900)
    assert failures(simulator, theta, x) == set()
    assert "mean sparsity" in failures(simulator, theta, np.where(x > 1e-3, x, 0))


@pytest.mark.parametrize("simulator", [Shower(), ShowerEnergy()])
def test_a_wrong_resolution_fails(simulator):
    wrong = type(simulator)(resolution=0.13)
    assert "law of the total energy" in failures(simulator, *drawn(wrong))


def test_shuffled_parameters_fail():
    theta, x = drawn(Shower())
    assert "law of the total energy" in failures(Shower(), theta[::-1], x)
    start_alone = np.stack([theta[:, 0], theta[::-1, 1]], 1)
    assert "law of the mean depth" in failures(Shower(), start_alone, x)


def test_lost_hits_fail():
    theta, x = drawn(Shower())
    x[x < 0.005] = 0
    assert "mean sparsity" in failures(Shower(), theta, x)


def test_another_scale_fails():
    theta, x = drawn(Shower(), 4000)
    assert "mean total energy" in failures(Shower(), theta, 1.01 * x)


def test_the_same_data_have_the_same_verdict():
    data = drawn(Shower(), 300)
    assert Shower().verify(*data) == Shower().verify(*data)


@pytest.mark.parametrize("seeds", [6, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("n", [1, 2, 5, 30, 60])
def test_few_showers_pass(n, seeds):
    for seed in range(seeds):
        assert failures(ShowerEnergy(), *drawn(ShowerEnergy(), n, seed)) == set()


@pytest.mark.parametrize("n", [20, pytest.param(60, marks=pytest.mark.slow)])
def test_p_values_are_uniform(n):
    p = [[v.p_value for v in Shower().verify(*drawn(Shower(), 100, seed))] for seed in range(n)]
    assert np.all(np.abs(np.mean(p, axis=0) - 0.5) < 4 * 0.29 / np.sqrt(n))


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError, match="one θ for each x"):
        Shower().verify(np.zeros((2, 2)), np.zeros((3, 25)))


@pytest.mark.parametrize(
    "options", [["--threshold", "0.01"], pytest.param([], marks=pytest.mark.slow)]
)
def test_on_the_command_line(tmp_path, options):
    path = str(tmp_path / "showers.h5")
    made = CliRunner().invoke(main, ["simulate", "shower", "-n", "300", "-o", path, *options])
    assert made.exit_code == 0, made.output
    found = CliRunner().invoke(main, ["inspect", path, "--verify"])
    assert found.exit_code == 0, found.output
    assert "law of the total energy" in found.output

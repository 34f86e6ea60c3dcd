"""Posteriors by sbi's samplers and networks, against the grid and closed forms."""

import contextlib
import io
import runpy
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import physgen
from physgen.dataset import Dataset, Meta, Rows
from physgen.errors import DataError, StorageError, UsageError
from physgen.law import Law
from physgen.nn.convergence import effective_size, split_r_hat
from physgen.posterior import methods
from physgen.posterior.base import Draws
from physgen.posterior.grid import GRID, grid_posterior, of_exact, of_network
from physgen.posterior.mcmc import mcmc
from physgen.posterior.warnings import domain_warnings, posterior_warnings, training_warnings
from physgen.sbi.manners import Tracker, visiting
from physgen.sbi.networks import METHODS, Network, train
from physgen.surrogates.base import Likelihood, Surrogate
from simulators.gaussian import LinearGaussian
from simulators.ising import Ising
from simulators.prior import Box

pytest.importorskip("sbi")

EXAMPLES = Path(__file__).parents[1] / "examples"


def data(simulator, n, seed=0):
    rng = np.random.default_rng(seed)
    theta = simulator.prior.sample(n, rng)
    return theta, simulator.sample(theta, rng)


def box_uniform(box):
    from sbi.utils import BoxUniform

    return BoxUniform(torch.tensor(box.low).float(), torch.tensor(box.high).float())


@pytest.fixture(autouse=True)
def numpy_state():
    """sbi draws from numpy's global generator, and the root logger gets its words."""
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    yield
    after = np.random.get_state()[1].tobytes()  # noqa: NPY002
    assert after == before, "numpy's global RNG was used"


# --- chains -----------------------------------------------------------------------------------


def test_the_effective_size_of_an_autoregressive_chain():
    rng, rho = np.random.default_rng(0), 0.6
    x = np.empty((7, 4, 2000, 2))
    x[:, :, 0] = rng.standard_normal((7, 4, 2))
    for t in range(1, 2000):
        noise = rng.standard_normal((7, 4, 2))
        x[:, :, t] = rho * x[:, :, t - 1] + np.sqrt(1 - rho**2) * noise
    expected = 8000 * (1 - rho) / (1 + rho)
    np.testing.assert_allclose(effective_size(x).mean(), expected, rtol=0.1)
    np.testing.assert_allclose(effective_size(rng.standard_normal((5, 8, 500, 1))), 4000, rtol=0.2)
    assert (split_r_hat(x) < 1.02).all()


def test_r_hat_sees_chains_of_other_places_and_of_other_widths():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 8, 100, 1))
    assert (split_r_hat(x) < 1.05).all()
    place, width, drift = x.copy(), x.copy(), x.copy()
    place[:, 0] += 2
    width[:, 0] *= 5
    drift += np.linspace(-1.5, 1.5, 100)[:, None]
    for bad in (place, width, drift):
        assert (split_r_hat(bad) > 1.05).all()
    assert (effective_size(drift) < 60).all()
    assert np.isnan(split_r_hat(x[:, :, :3])).all()


# --- samplers beside the grid -----------------------------------------------------------------


CASES = {
    "one parameter": (LinearGaussian(size=5, parameters=1), 7),
    "two parameters": (LinearGaussian(size=5, parameters=2, noise=0.05), 3),
    "lattice": (Ising(8), 7),
}


def disagreement(found, grid):
    """The largest difference of means and of widths, in standard errors of the chain's."""
    sizes = np.minimum(found.ess, found.theta.shape[1])
    shift = abs(found.mean - grid.mean) / grid.sd * np.sqrt(sizes)
    return max(shift.max(), (abs(found.sd / grid.sd - 1) * np.sqrt(2 * sizes)).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_chains_and_grid_agree_on_one_likelihood(name):
    """Within errors of the chains; and, as a control, not where one likelihood is shifted."""
    simulator, n = CASES[name]
    _, x = data(simulator, n, seed=1)
    likelihood = of_exact(simulator.log_prob, x)
    grid = grid_posterior(likelihood, simulator.prior, n)
    found = mcmc(likelihood, simulator.prior, n, seed=3)
    assert (found.r_hat < 1.05).all()
    assert (found.ess > 400).all()
    assert found.theta.shape == (n, 1000, len(simulator.prior))
    assert disagreement(found, grid) < 4.5
    np.testing.assert_allclose(
        found.interval(0.8) / grid.sd[:, None], grid.interval(0.8) / grid.sd[:, None], atol=0.25
    )

    def shifted(theta, which):
        return likelihood(theta - 0.3 * grid.sd[which, None], which)

    assert disagreement(found, grid_posterior(shifted, simulator.prior, n)) > 4.5


@pytest.mark.slow
def test_chains_agree_with_the_closed_form_and_keep_to_the_prior():
    simulator = LinearGaussian(size=7, parameters=3, noise=0.1)
    _, x = data(simulator, 4, seed=2)
    mean, cov = simulator.posterior(x)
    sd = np.sqrt(np.diag(cov))
    found = mcmc(of_exact(simulator.log_prob, x), simulator.prior, 4, 3000)
    inside = (abs(mean) + 5 * sd < 2).all(-1)
    assert inside.sum() >= 2
    np.testing.assert_allclose(((found.mean - mean) / sd)[inside], 0, atol=0.1)
    np.testing.assert_allclose((found.sd / sd)[inside], 1, atol=0.07)
    assert simulator.prior.contains(found.theta).all()
    differences = np.diff(found.log_prob(found.theta[:, :2]))[:, 0]
    exact = [
        np.diff(simulator.log_prob(t[:2], np.stack([row, row])))[0]
        for t, row in zip(found.theta, x, strict=True)
    ]
    np.testing.assert_allclose(differences, exact)
    assert (found.log_prob(np.full((4, 1, 3), 2.5)) == -np.inf).all()


def test_chains_are_a_function_of_their_seed():
    simulator = LinearGaussian(size=5, parameters=1)
    _, x = data(simulator, 2)
    a, b, c = (
        mcmc(of_exact(simulator.log_prob, x), simulator.prior, 2, seed=s) for s in (1, 1, 2)
    )
    assert np.array_equal(a.theta, b.theta)
    assert not np.array_equal(a.theta, c.theta)


def test_bad_likelihoods_are_refused():
    box = Box(a=(0.0, 1.0))
    with pytest.raises(DataError, match="got NaN"):
        mcmc(lambda theta: theta[..., 0] * np.nan, box, 1)
    with pytest.raises(DataError, match=r"observation 0: .* −∞ at"):
        mcmc(lambda theta: np.full(theta.shape[:2], -np.inf), box, 1)


def test_beyond_three_parameters_a_population_takes_over():
    box = Box(**dict.fromkeys("abcd", (-1.0, 1.0)))
    centre, width = np.array([0.1, -0.3, 0.5, 0.0]), np.array([0.02, 0.1, 0.05, 0.2])

    def log_density(theta):
        return -(((theta - centre) / width) ** 2).sum(-1) / 2

    options = methods.InferenceOptions("npe", box, 2000, seed=1)
    found = methods.by_density(log_density, 1, options, {})
    np.testing.assert_allclose((found.mean[0] - centre) / width, 0, atol=0.12)
    np.testing.assert_allclose(found.sd[0] / width, 1, atol=0.08)
    assert (found.diagnostics["ess"] > 1000).all()


@pytest.mark.parametrize("method", ["rejection", "vi"])
@pytest.mark.slow
def test_rejection_and_variational_inference_agree_with_the_grid(method):
    from physgen.posterior import samplers

    simulator = LinearGaussian(size=5, parameters=1)
    _, x = data(simulator, 2, seed=1)
    grid = grid_posterior(of_exact(simulator.log_prob, x), simulator.prior, 2)
    apart = [of_exact(simulator.log_prob, row[None]) for row in x]
    found = getattr(samplers, method)(apart, simulator.prior, 1000, seed=2)
    np.testing.assert_allclose((found.mean - grid.mean) / grid.sd, 0, atol=0.12)
    np.testing.assert_allclose(found.sd / grid.sd, 1, atol=0.1)
    density = found.log_prob(found.theta[:, :5]) - grid.log_prob(found.theta[:, :5])
    np.testing.assert_allclose(density - density[:, :1], 0, atol=1e-3)


# --- networks ---------------------------------------------------------------------------------


TOLERANCE = {"npe": 0.3, "nle": 0.3, "nre": 0.3}


@pytest.mark.slow
@pytest.mark.parametrize("n", [2200, pytest.param(2500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", TOLERANCE)
def test_networks_recover_the_closed_form(method, n):
    simulator, law = LinearGaussian(size=5, parameters=1), Law.of("gaussian", {"parameters": 1})
    theta, x = data(simulator, n)
    network = train(method, law, theta, x, epochs=8, seed=1)
    _, observed = data(simulator, 40, seed=7)
    exact = grid_posterior(of_exact(simulator.log_prob, observed), simulator.prior, 40)
    found = grid_posterior(of_network(network, observed), simulator.prior, 40, **GRID[1])
    assert (abs(found.mean - exact.mean) / exact.sd).mean() < TOLERANCE[method]
    assert abs(np.log(found.sd / exact.sd)).mean() < TOLERANCE[method]
    wrong = of_network(network, observed[::-1].copy())  # control: the posteriors of others
    others = grid_posterior(wrong, simulator.prior, 40, **GRID[1])
    assert (abs(others.mean - exact.mean) / exact.sd).mean() > 1


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_network_is_a_function_of_its_seed_and_survives_a_file(method, tmp_path):
    law = Law.of("ising", {"size": 3})
    theta, x = data(law.build(), 250)
    network, again, other = (
        train(method, law, theta, x, epochs=2, seed=seed) for seed in (1, 1, 2)
    )
    points = np.random.default_rng(0).uniform(0.1, 0.7, (3, 2, 1))

    def density(network):
        return of_network(network, x[:3])(points)

    found = density(network)
    assert np.isfinite(found).all()
    assert np.array_equal(found, density(again))
    assert not np.array_equal(found, density(other))
    network.save(tmp_path / "net.pt")
    loaded = Network.load(tmp_path / "net.pt", torch.device("cpu"))
    assert np.array_equal(density(loaded), found)
    assert loaded.info == network.info
    assert loaded.law == law
    iid = of_network(network, x[:3], iid=True)(points[:1])
    np.testing.assert_allclose(iid, of_network(network, x[:3])(points[[0, 0, 0]]).sum(0)[None])


def test_every_support_has_its_networks():
    laws = {
        "levels": Law("mine", Box(a=(0.0, 1.0)), (2, 3), "levels", ("shift",), levels=4),
        "reals": Law("mine", Box(a=(0.0, 1.0)), (4, 3), "reals", ("shift",)),
        "nonnegative": Law("mine", Box(a=(0.0, 1.0)), (3, 2, 2), "nonnegative"),
    }
    rng = np.random.default_rng(0)
    for name, law in laws.items():
        theta = law.prior.sample(120, rng)
        x = rng.integers(0, 4, (120, *law.x_shape)).astype(np.float32)
        for method in ("npe", "nle"):
            if (name, method) == ("nonnegative", "nle"):
                with pytest.raises(UsageError, match="no density for x with zeros"):
                    train(method, law, theta, x, epochs=1)
                continue
            network = train(method, law, theta, x, epochs=1)
            assert np.isfinite(of_network(network, x[:2])(theta[:2, None])).all()


# --- θ and x of any size ----------------------------------------------------------------------


UNIT = Box(a=(-1.0, 1.0), b=(-1.0, 1.0))
MIXED = Box(a=(1e-20, 5e-20), b=(2459000.0, 2459000.5))


def noisy(box, n, seed=0):
    """θ of a prior, and x = c + 0.2 ε, c being its own coordinates: the same x for all."""
    rng = np.random.default_rng(seed)
    theta = box.sample(n, rng)
    return theta, (box.to_coordinates(theta) + 0.2 * rng.standard_normal(theta.shape)).astype(
        np.float32
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_network_is_the_same_for_theta_of_any_size(method):
    c = np.random.default_rng(1).uniform(-0.9, 0.9, (7, 2))
    found = []
    for box in (UNIT, MIXED):
        theta, x = noisy(box, 150)
        network = train(method, Law("mine", box, (2,), "reals"), theta, x, epochs=2, seed=1)
        found.append(network.log_density(box.from_coordinates(c), x[:7]))
    np.testing.assert_allclose(found[1], found[0], atol=0.02)  # float32's last bit, trained on
    assert np.ptp(found[0]) > 0.1  # the control


@pytest.mark.parametrize("method", ["nle", "nre"])
@pytest.mark.slow
def test_networks_learn_theta_of_any_size(method):
    theta, x = noisy(MIXED, 1500)
    law = Law("mine", MIXED, (2,), "reals")
    network = train(method, law, theta, x, epochs=10, seed=1)
    observed = np.array([[0.1, -0.3], [0.3, 0.2]], np.float32)
    found = grid_posterior(of_network(network, observed), MIXED, 2, **GRID[2])
    shift = (MIXED.to_coordinates(found.mean) - observed) / 0.2
    assert abs(shift).mean() < 0.3
    assert abs(np.log(found.sd / MIXED.slope(np.zeros(len(MIXED))) / 0.2)).mean() < 0.2
    gain, error = network.info["gain"]
    assert 1 < gain < np.log(8)
    assert 0 < error < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mcmc", "rejection", "vi", "abc"])
def test_draws_are_the_same_for_theta_of_any_size(method):
    from physgen.posterior import samplers
    from physgen.posterior.abc import nearest_simulations

    def found(box):
        if method == "abc":
            theta, x = noisy(box, 1000)
            return nearest_simulations(Law("mine", box, (2,), "reals"), theta, x, x[:1])

        def one(theta, which=None):
            return -(((box.to_coordinates(theta) - [0.1, -0.3]) / 0.2) ** 2).sum(-1) / 2

        if method == "mcmc":
            return mcmc(one, box, 1, seed=1)
        return getattr(samplers, method)([one], box, 300, seed=1)

    # powers of two, so that no bit differs and chains stay together
    one, other = found(UNIT), found(Box(a=(-(2.0**-1000), 2.0**-1000), b=(-(2.0**150), 2.0**150)))
    np.testing.assert_array_equal(other.theta / [2.0**-1000, 2.0**150], one.theta)
    np.testing.assert_allclose(other.sd / [2.0**-1000, 2.0**150], one.sd)
    mixed = found(MIXED)
    np.testing.assert_allclose(MIXED.to_coordinates(mixed.mean), one.mean, atol=0.05)
    np.testing.assert_allclose(mixed.sd / MIXED.slope(np.zeros(len(MIXED))), one.sd, rtol=0.1)
    assert MIXED.contains(mixed.theta).all()


def test_showers_of_any_unit_train_the_same_network():
    law = Law("mine", Box(a=(0.0, 1.0)), (5,), "nonnegative")
    rng = np.random.default_rng(0)
    theta = law.prior.sample(200, rng)
    x = np.where(rng.random((200, 5)) < 0.5, 0, theta * rng.gamma(2, size=(200, 5)))
    found = [
        train("npe", law, theta, unit * x, epochs=2).log_density(theta[:9], unit * x[:9])
        for unit in (1.0, 2.0**-400, 2.0**-400 * (1 + (np.arange(5) == 0)))
    ]
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)
    assert abs(found[2] - found[0]).max() > 1e-3  # the control: in one column


def test_a_prior_that_float32_cannot_resolve_is_not_given_to_sbi():
    line = LinearGaussian(size=5, parameters=1)
    surrogate = Learnt(line)
    wrong = r"too few values of theta1 in 2459000:2459000.5; take another unit"
    for bounds in ((2459000.0, 2459000.5), (1e44, 3e44), (-1e-300, 1e-300)):
        surrogate.law = replace(surrogate.law, prior=Box(theta1=bounds))
        match = wrong if bounds[0] == 2459000 else "too few values of theta1"
        with pytest.raises(UsageError, match=match):
            surrogate.as_sbi()
        draw = physgen.as_simulator(surrogate)
        with pytest.raises(UsageError, match="as_simulator: sbi gives"):
            draw(torch.ones(3, 1))
        with visiting(0):
            assert draw(torch.full((3, 1), 0.5, dtype=torch.float64)).shape == (3, 5)
    surrogate.law = replace(surrogate.law, prior=Box(theta1=(1e-20, 5e-20)))
    surrogate.as_sbi()


@pytest.mark.slow
def test_what_learnt_nothing_is_named():
    theta, x = noisy(UNIT, 1000)
    law = Law("mine", UNIT, (2,), "reals")
    wrong, right = (train("nre", law, theta, rows, epochs=6) for rows in (x[::-1].copy(), x))
    (line,) = training_warnings(wrong.info)
    assert "may be no more than the prior" in line
    assert not list(training_warnings(right.info))
    assert not list(training_warnings({}))  # of an earlier version
    for network, n in ((wrong, 2), (right, 0)):
        found = grid_posterior(of_network(network, x[:3]), UNIT, 3, **GRID[2])
        draws = found.sample(500, np.random.default_rng(0))
        lines = list(posterior_warnings(draws, {"sd": found.sd}, UNIT, "nre"))
        assert sum("3 of 3 posteriors as wide as the prior, -1:1" in line for line in lines) == n


def test_too_few_simulations_are_refused():
    law = Law.of("gaussian", {})
    theta, x = data(law.build(), 99)
    with pytest.raises(UsageError, match="at least 100 simulations, got 99"):
        train("npe", law, theta, x)


# --- a surrogate inside sbi -------------------------------------------------------------------


@dataclass(frozen=True)
class NoConfig:
    """No options."""


class Learnt(Surrogate):
    """The toy itself, as a surrogate that has learnt it."""

    name = "learnt"
    likelihood = Likelihood.ESTIMATE
    Config = NoConfig

    def __init__(self, simulator):
        options = {"size": simulator.size, "parameters": simulator.parameters}
        super().__init__(Law.of("gaussian", options), NoConfig())
        self.simulator = simulator
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def _loss(self, c, z, generator, progress):
        raise NotImplementedError

    def _sample(self, c, generator):
        mean = torch.as_tensor(self.simulator.mean(2 * c.double().numpy()))
        noise = torch.randn(mean.shape, generator=generator, dtype=torch.float64)
        return mean + self.simulator.noise * noise

    def _log_prob(self, c, z, noise, draws):
        value = self.simulator.log_prob(2 * c.double().numpy(), z.numpy())
        eps = noise.normal(draws).double().mean(1)  # belongs to x's index, as it should
        return torch.as_tensor(value) + 0.2 * eps * c[:, 0], torch.zeros(len(c))


def test_a_surrogate_is_a_density_estimator_of_sbi():
    simulator = LinearGaussian(size=5, parameters=2)
    theta, x = (torch.as_tensor(a).float() for a in data(simulator, 3))
    surrogate = Learnt(simulator)
    estimator = surrogate.as_sbi(draws=2, seed=5)
    assert estimator.input_shape == (5,)
    found = estimator.log_prob(x[:, None].expand(3, 7, 5), theta[:1].expand(7, 2))
    assert found.shape == (3, 7)
    assert (found[:, 0] == found[:, 6]).all()
    index = torch.arange(3)
    alone = surrogate.log_prob(theta[:1].expand(3, 2), x, draws=2, seed=5, index=index)
    torch.testing.assert_close(found[:, 0], alone.float())
    points = theta.clone().requires_grad_()
    estimator.log_prob(x[None], points).sum().backward()
    residual = (x.double() - torch.as_tensor(simulator.mean(theta.double().numpy()))).numpy()
    exact = residual @ simulator.matrix / simulator.noise**2
    np.testing.assert_allclose(points.grad, exact, atol=0.3)  # and the noise's own derivative
    assert estimator.loss(x, theta).shape == (3,)
    with visiting(0):
        assert estimator.sample((4,), theta).shape == (4, 3, 5)


@pytest.mark.slow
def test_nle_builds_a_posterior_on_a_surrogate():
    from sbi.inference import NLE

    simulator = LinearGaussian(size=5, parameters=1)
    _, x = data(simulator, 1, seed=3)
    grid = grid_posterior(of_exact(simulator.log_prob, x), simulator.prior, 1)
    prior = box_uniform(simulator.prior)
    with visiting(1):
        trainer = NLE(prior, tracker=Tracker())
        posterior = trainer.build_posterior(
            density_estimator=Learnt(simulator).as_sbi(),
            mcmc_method="slice_np_vectorized",
            mcmc_parameters={"num_chains": 20, "warmup_steps": 20},
        )
        draws = posterior.sample((400,), x=torch.as_tensor(x).float(), show_progress_bars=False)
    assert (draws.mean() - grid.mean[0, 0]).abs() / grid.sd[0, 0] < 0.25
    assert abs(draws.std() / grid.sd[0, 0] - 1) < 0.2


def test_a_surrogate_is_a_simulator_for_sbi():
    from sbi.utils.simulation_utils import simulate_for_sbi

    simulator = LinearGaussian(size=5, parameters=2)
    draw = physgen.as_simulator(Learnt(simulator))
    prior = box_uniform(simulator.prior)
    found = []
    for seed in (1, 1, 2):
        with visiting(0):
            theta, x = simulate_for_sbi(
                draw, prior, 50, simulation_batch_size=20, seed=seed, show_progress_bar=False
            )
            found.append(x)
    assert found[0].shape == (50, 5)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    residual = x.double().numpy() - simulator.mean(theta.double().numpy())
    assert residual.std() == pytest.approx(simulator.noise, rel=0.15)


# --- files ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(once):
    """A dataset, observations and a surrogate."""

    def make(folder):
        physgen.simulate("ising", out=folder / "train.h5", n=1500, seed=1, size=4)
        physgen.simulate("ising", out=folder / "test.h5", n=20, seed=2, size=4)
        physgen.fit("autoregressive", folder / "train.h5", out=folder / "ar.pt", epochs=3)

    return once("sbi", make)


def inferred(files, out, model="ar.pt", **options):
    """A posterior's arrays and metadata."""
    given = {"rows": slice(0, 2), "samples": 200} | options
    result = physgen.infer(files / model, files / "test.h5", out=out, **given)
    arrays, about = physgen.read_arrays(out, "posterior")
    assert result.path == out
    assert len(result.posterior) == len(arrays["theta"])
    return arrays, about


@pytest.mark.slow
def test_every_method_of_a_surrogate_writes_a_posterior(files, tmp_path):
    grid, about = inferred(files, tmp_path / "grid.h5")
    assert about["method"] == "grid"
    assert about["units"] == ["1/J"]
    assert about["normalised"] is True
    few, learn = {"simulations": 700}, {"epochs": 6}
    for method, off in {
        "smc": 0.1, "mcmc": 0.3, "rejection": 0.3, "vi": 0.35, "npe": 0.6, "nre": 0.6, "abc": 0.8,
    }.items():  # fmt: skip
        given = {"abc": few, "npe": few | learn, "nre": few | learn}.get(method, {})
        arrays, about = inferred(files, tmp_path / f"{method}.h5", method=method, **given)
        assert about["method"] == method
        assert arrays["theta"].shape == (2, 200, 1)
        assert (abs(arrays["mean"] - grid["mean"]) / grid["sd"]).max() < off, method
        np.testing.assert_allclose(arrays["sd"] / grid["sd"], 1, atol=0.25)
        assert ("log_prob" in arrays) == (method != "abc")
        assert ("r_hat" in arrays) == (method == "mcmc")
        assert ("log_evidence" in arrays) == (method == "smc")
        if method == "smc":
            np.testing.assert_allclose(arrays["log_evidence"], grid["log_evidence"], atol=0.05)


@pytest.mark.slow
def test_a_dataset_trains_a_network_that_then_infers_alone(files, tmp_path):
    network = tmp_path / "npe.pt"
    first, about = inferred(
        files, tmp_path / "a.h5", "train.h5", epochs=5, network=network, samples=100
    )
    assert about["method"] == "npe"
    assert about["training"]["simulations"] == 1500
    assert set(about["data"]) == {"path", "sha256"}
    physgen.infer(network, files / "test.h5", out=tmp_path / "b.h5", rows=slice(0, 2), samples=100)
    again, about = physgen.read_arrays(tmp_path / "b.h5", "posterior")
    assert np.array_equal(again["theta"], first["theta"])
    assert about["network"]["path"] == str(network)
    assert physgen.inspect(network).data["method"] == "npe"
    physgen.infer(
        network, files / "test.h5", out=tmp_path / "d.h5", prior={"beta": (0.2, 0.4)}, iid=True
    )
    narrow, about = physgen.read_arrays(tmp_path / "d.h5", "posterior")
    assert narrow["theta"].shape == (1, 1000, 1)
    assert 0.2 <= narrow["theta"].min() < narrow["theta"].max() <= 0.4
    assert about["law"]["prior"][0]["low"] == 0.2
    with pytest.raises(UsageError, match="expected one of npe, got 'grid'"):
        physgen.infer(network, files / "test.h5", out=tmp_path / "e.h5", method="grid")


@pytest.mark.slow
def test_a_narrower_prior_is_that_of_the_posterior(files, tmp_path):
    for method in ("grid", "mcmc"):
        arrays, _ = inferred(
            files, tmp_path / f"{method}.h5", method=method, prior={"beta": (0.3, 0.5)},
            rows=slice(0, 1),
        )  # fmt: skip
        assert 0.3 <= arrays["theta"].min() < 0.32
        assert 0.48 < arrays["theta"].max() <= 0.5


@pytest.mark.slow
def test_independent_rows_are_one_observation_for_chains_too(files, tmp_path):
    grid, chains = (
        inferred(files, tmp_path / f"{m}.h5", method=m, iid=True, rows=slice(0, 9), samples=1000)
        for m in ("grid", "mcmc")
    )
    assert chains[0]["theta"].shape == (1, 1000, 1)
    assert chains[1]["chains"] == 20
    np.testing.assert_allclose((chains[0]["mean"] - grid[0]["mean"]) / grid[0]["sd"], 0, atol=0.15)


@pytest.mark.parametrize(
    ("method", "few"),
    [
        ("nre", {"simulations": 200, "epochs": 2}),
        pytest.param("vi", {"rows": slice(0, 1)}, marks=pytest.mark.slow),
    ],
)
def test_files_of_one_seed_are_alike(method, few, files, tmp_path):
    a, b, c = (
        inferred(files, tmp_path / f"{i}.h5", method=method, seed=seed, **few)[0]["theta"]
        for i, seed in enumerate((1, 1, 2))
    )
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.slow
def test_arviz_gets_chains_draws_and_observations(files, tmp_path):
    inferred(files, tmp_path / "p.h5", method="mcmc", samples=1000)
    done = physgen.export(tmp_path / "p.h5", format="arviz", out=tmp_path / "p.nc")
    assert "2 rows" in done.summary
    arrays, _ = physgen.read_arrays(tmp_path / "p.h5", "posterior")
    with h5py.File(tmp_path / "p.nc") as file:
        beta = file["posterior/beta"]
        assert beta.shape == (20, 50, 2)
        assert [d.keys()[0] for d in beta.dims] == ["chain", "draw", "observation"]
        assert beta.attrs["units"] == "1/J"
        assert np.array_equal(beta[..., 1].ravel(), arrays["theta"][1, :, 0])
        assert np.array_equal(file["sample_stats/lp"][..., 0].ravel(), arrays["log_prob"][0])
    with pytest.raises(DataError, match="is a physgen/1 file"):
        physgen.export(files / "test.h5", format="arviz", out=tmp_path / "q.nc")
    with pytest.raises(UsageError, match="arviz has no option 'binning'"):
        physgen.export(
            tmp_path / "p.h5", format="arviz", out=tmp_path / "q.nc", binning=tmp_path / "b.xml"
        )
    assert not (tmp_path / "q.nc").exists()


# --- guard rails ------------------------------------------------------------------------------


REFUSED = {
    "no likelihood method for a dataset": ("train.h5", {"method": "grid"}, "grid needs a surr"),
    "unknown method": ("ar.pt", {"method": "magic"}, "expected one of grid, smc"),
    "beyond the prior": ("ar.pt", {"prior": {"beta": (0.0, 0.5)}}, "within 0.1:0.7, where the tr"),
    "another parameter": ("ar.pt", {"prior": {"h": (0.0, 0.5)}}, "unknown h; has beta"),
    "an option of surrogates": ("train.h5", {"steps": 3}, "steps is an option of surrogates"),
    "more than there is": ("train.h5", {"simulations": 1501}, "has 1500 rows, not 1501"),
    "nothing trained": ("ar.pt", {"network": Path("net.pt")}, "grid trains none"),
    "sets by distance": ("train.h5", {"method": "abc", "iid": True}, "compares single rows"),
    "draws of a network's": ("train.h5", {"draws": 5}, "draws: of no effect with npe of"),
    "epochs of a grid": ("ar.pt", {"epochs": 5}, "epochs: of no effect with grid of"),
    "a folder that is not there": ("train.h5", {"network": Path("nowhere/n.pt")}, "no folder"),
    "no epochs": ("train.h5", {"epochs": 0}, "epochs: expected at least 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_said_in_one_line(case, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, options, piece = REFUSED[case]
    with pytest.raises((UsageError, StorageError), match=piece) as refused:
        physgen.infer(files / model, files / "test.h5", out=tmp_path / "p.h5", **options)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_model_is_refused(files, tmp_path):
    (tmp_path / "text").write_text("no model")
    with pytest.raises(DataError, match="expected a checkpoint or a dataset"):
        physgen.infer(tmp_path / "text", files / "test.h5", out=tmp_path / "p.h5")
    inferred(files, tmp_path / "p.h5")
    with pytest.raises(DataError, match="is a physgen/posterior/1 file"):
        physgen.infer(tmp_path / "p.h5", files / "test.h5", out=tmp_path / "q.h5")


def test_without_sbi_one_line_says_what_to_install(files, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "physgen")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for method in ("mcmc", "vi", "rejection", "npe"):
        with pytest.raises(UsageError, match=r"needs sbi; pip install 'physgen\[sbi\]'"):
            inferred(files, tmp_path / "p.h5", method=method)
    assert "training" not in caplog.text
    inferred(files, tmp_path / "p.h5", method="grid")


def test_a_stranger_is_named(files, tmp_path, caplog):
    physgen.simulate("gaussian", out=tmp_path / "x.h5", n=2, size=16)
    with pytest.raises(DataError, match=r"expected shape \(2, 4, 4\)"):
        physgen.infer(files / "ar.pt", tmp_path / "x.h5", out=tmp_path / "p.h5")
    ising = physgen.read(files / "test.h5", slice(0, 2))
    meta = ising.meta
    other = replace(meta, law=replace(meta.law, options={**meta.law.options, "theta": "h"}))
    lines = list(domain_warnings(meta.law, replace(ising, meta=other)))
    assert lines == ["was made with theta = h, the training with beta"]
    stranger = replace(ising, meta=replace(meta, law=replace(meta.law, simulator="spins")))
    assert "is x of spins" in next(domain_warnings(meta.law, stranger))
    assert list(domain_warnings(meta.law, ising)) == []


def test_mass_at_the_edge_is_named(files, tmp_path, caplog):
    cold = {"beta": (0.6, 0.7)}
    physgen.simulate("ising", out=tmp_path / "x.h5", n=200, seed=2, size=4, prior=cold)
    physgen.infer(
        files / "ar.pt", tmp_path / "x.h5", out=tmp_path / "p.h5", prior={"beta": (0.1, 0.4)},
        iid=True,
    )  # fmt: skip
    assert len(caplog.records) == 3
    assert "drawn at different θ, and are taken for one observation" in caplog.text
    assert "of the posterior lies at the edge of the prior, 0.1:0.4" in caplog.text
    _, about = physgen.read_arrays(tmp_path / "p.h5", "posterior")
    assert [w.partition(" ")[0] for w in about["warnings"]] == ["its", "beta:", "of"]
    box, rng = Box(a=(0.0, 1.0)), np.random.default_rng(0)
    for inside in (rng.random((5, 1000, 1)), 0.5 + 0.1 * rng.standard_normal((5, 1000, 1))):
        assert list(posterior_warnings(inside, {}, box, "grid")) == []


@pytest.mark.slow
def test_chains_that_have_not_converged_are_named():
    """Two modes that no step connects."""
    centres = np.array([0.05, 0.95])

    def two(theta):
        return np.logaddexp(*(-(((theta[..., 0] - c) / 0.001) ** 2) / 2 for c in centres))

    box = Box(a=(0.0, 1.0))
    found = mcmc(two, box, 1, seed=1)
    lines = list(posterior_warnings(found.theta, found.diagnostics, box, "mcmc"))
    assert any("R-hat" in line and "have not converged" in line for line in lines)


def test_weights_that_collapse_are_named():
    box = Box(a=(0.0, 1.0))
    theta = np.full((1, 100, 1), 0.5)
    lines = list(posterior_warnings(theta, {"ess": np.array([[3.0]])}, box, "vi"))
    assert lines == [
        "the posterior: ESS 3; the importance weights have collapsed; use --method mcmc or grid"
    ]


def test_draws_are_a_posterior():
    rng = np.random.default_rng(0)
    draws = Draws(rng.random((3, 2, 50, 1)), lambda theta: theta.sum(-1))
    assert draws.sample(100, rng).shape == (3, 100, 1)
    assert draws.chains_in(100) == 2
    few = draws.sample(7, rng)
    assert draws.chains_in(7) == 1
    assert few.shape == (3, 7, 1)
    assert len(np.unique(few)) == 21
    assert draws.sample(205, rng).shape == (3, 205, 1)
    assert draws.interval(0.5).shape == (3, 2, 1)


# --- examples ---------------------------------------------------------------------------------


@pytest.mark.docs
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_run_and_are_short(path, tmp_path, monkeypatch):
    assert len(path.read_text().splitlines()) < 40
    monkeypatch.setattr(sys, "argv", [str(path), str(tmp_path)])
    said = io.StringIO()
    with visiting(0), contextlib.redirect_stdout(said):
        runpy.run_path(str(path), run_name="__main__")
    assert len(said.getvalue().splitlines()) >= 4


class Sums:
    """x of which one component is constant and one is the sum of two others."""

    prior = Box(a=(1.0, 2.0))
    x_shape = (4,)

    def sample(self, theta, rng):
        x = theta + 0.1 * rng.normal(size=(len(theta), 2))
        return np.column_stack([x, x.sum(1), np.full(len(x), 7.0)])


@pytest.mark.parametrize("method", ["nle", "nre"])
@pytest.mark.slow
def test_networks_leave_out_what_other_components_tell(method, tmp_path):
    """The exact posterior of a mean of two: width 0.1/√2."""
    data = physgen.simulate(Sums, n=1000, seed=1)
    rows = slice(0, 10)
    post = physgen.infer(
        data, data, method=method, epochs=15, rows=rows, network=tmp_path / "net.pt", seed=1
    )
    assert np.abs(post.mean[:, 0] - data.x[:10, :2].mean(1).clip(1, 2)).mean() < 0.05
    assert 0.04 < np.median(post.sd) < 0.11
    again = physgen.infer(tmp_path / "net.pt", data, rows=rows, seed=1)
    np.testing.assert_allclose(again.mean, post.mean, rtol=1e-6)


def test_observations_that_break_what_all_x_obeyed_are_warned_of():
    data = physgen.simulate(Sums, n=400, seed=1)
    model = physgen.fit("cvae", data, epochs=1)
    told = model.info["warnings"][0]
    assert told.startswith("no density of components that others tell: x[2] = 1 x[0] + 1 x[1]")
    right, wrong = data.x[:3], data.x[:3].copy()
    wrong[1, 2] += 0.1
    wrong[2, 3] += 1
    assert f"of the training: {told}" in physgen.infer(model, right, samples=10).warnings
    for x, broken in ((right, False), (wrong, True)):
        lines = physgen.infer(model, x, samples=10).warnings
        assert any("2 of 3 rows break" in line for line in lines) is broken


def test_observations_whose_digits_are_lost_are_warned_of():
    theta = np.random.default_rng(0).uniform(size=(400, 1))
    x = 1e9 + theta + 0.1 * np.random.default_rng(1).normal(size=(400, 2))
    law = Law("none", Box(a=(0.0, 1.0)), (2,), "reals", dtype="float64")
    model = physgen.fit("cvae", Dataset(Rows(x, theta, meta=Meta(law))), epochs=1)
    for dtype, lost in (("f4", True), ("f8", False)):
        lines = physgen.infer(model, x[:3].astype(dtype), samples=10).warnings
        assert any("its digits are lost" in line for line in lines) is lost

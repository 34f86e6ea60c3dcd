"""Hamiltonian Monte Carlo: of laws in closed form, and of x given y beside the exact answer."""

import numpy as np
import pytest
import torch

import physgen
from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.hmc import hamiltonian_chains
from physgen.nn.measurement import Measurement
from physgen.nn.seen_spins import chains_of_rows
from physgen.surrogates.base import Likelihood
from physgen.surrogates.flow import Flow, FlowConfig
from physgen.surrogates.hamiltonian import Differentiable
from physgen.verbs.restore import warnings_of
from simulators.field.gaussian import GaussianField
from simulators.gaussian import LinearGaussian

WIDTHS = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64)
FIELD, THETA = GaussianField(size=8), {"log_amplitude": 0.3, "slope": 2.0}
AT, NOISE = np.array(list(THETA.values())), 0.3


class ExactField(Differentiable):
    """The field's own law, in torch."""

    name = "exact-field"
    likelihood = Likelihood.EXACT
    Config = FlowConfig

    def _power(self, c):
        theta = self.law.prior.from_coordinates(c.double().numpy())
        return torch.from_numpy(np.exp(FIELD.log_power(theta))[:, FIELD.shells.shell])

    def _loss(self, c, z, generator, progress):
        raise NotImplementedError

    def _sample(self, c, generator):
        white = torch.fft.rfft2(torch.randn(len(c), 8, 8, generator=generator).double())
        x = torch.fft.irfft2(white * self._power(c).sqrt(), s=(8, 8))
        return self.transform(x)

    def _log_prob(self, c, z, noise, draws):
        x = self.transform.inverse(z).double()
        white = torch.fft.irfft2(torch.fft.rfft2(x) / self._power(c).sqrt(), s=(8, 8))
        return -0.5 * white.square().sum((1, 2)), torch.zeros(len(z))


@pytest.fixture(scope="module")
def model():
    found = ExactField.create(Law.of("gaussian-field", {"size": 8}), FlowConfig())
    rng = np.random.default_rng(0)
    theta = FIELD.prior.sample(200, rng)
    found.fit_transform(torch.from_numpy(FIELD.sample(theta, rng)))
    return found


@pytest.fixture(scope="module")
def seen():
    rng = np.random.default_rng(2)
    x = FIELD.sample(AT[None], rng)
    return {
        "observed": x + NOISE * rng.standard_normal(x.shape), "noise": NOISE, "theta": THETA,
        "mask": rng.random((8, 8)) < 0.5, "method": "hmc",
    }  # fmt: skip


def chains(step=0.0, slope=1.0, rows=64, sweeps=100):
    def log_density(u):
        return -0.5 * (u / WIDTHS).square().sum(1), -slope * u / WIDTHS**2

    generator = torch.Generator().manual_seed(1)
    start = torch.full((rows, 3), 3.0, dtype=torch.float64)
    return hamiltonian_chains(log_density, start, generator, warm_up=100, sweeps=sweeps, step=step)


def test_chains_follow_a_law_in_closed_form():
    found = chains()
    assert 0.7 < found.accepted.mean() < 0.97
    u = found.u[::5].flatten(0, 1)
    error = WIDTHS * len(u) ** -0.5
    assert (abs(u.mean(0)) < 6 * error).all()
    assert (abs(u.std(0) / WIDTHS - 1) < 0.15).all()


def test_a_slope_that_is_off_costs_acceptance_and_not_the_law():
    right, off = chains(step=0.25), chains(step=0.25, slope=1.3)
    assert off.accepted.mean() < right.accepted.mean() - 0.02
    assert (abs(off.u[::5].flatten(0, 1).std(0) / WIDTHS - 1) < 0.15).all()


def test_too_large_a_step_is_seen():
    found = chains(step=20.0, sweeps=20)
    assert found.accepted.max() < 0.02
    assert torch.equal(found.u[0], found.u[-1])


def test_maps_given_y_are_those_of_the_wiener_filter(model, seen):
    found = physgen.restore(model, n=64, **seen)
    assert not found.warnings
    for name in ("off", "widths", "covered", "spectrum"):
        assert found.scores[0][name]["passed"], (name, found.scores[0][name])
    assert found.scores[0]["control_fails"]


def test_chains_that_do_not_move_are_warned_of(model, seen):
    """Control: a step far too large, and far too small."""
    for step, told in ((50.0, "are accepted"), (1e-4, "have not met")):
        how = {"step": step, "warm_up": 1, "sweeps": 8}
        found = physgen.restore(model, n=32, tune=how, **seen)
        assert any(told in line for line in found.warnings), (step, found.warnings)
        assert not found.scores[0]["off"]["passed"]


@pytest.mark.slow
def test_a_flow_that_is_a_normal_law_has_that_law_given_y():
    toy, theta = LinearGaussian(size=4, noise=0.5), np.array([[0.5, -0.3]])
    rng = np.random.default_rng(0)
    many = toy.prior.sample(4000, rng)
    flow = Flow.create(Law.of("gaussian", {"size": 4}), FlowConfig(tails="gaussian"))
    flow.fit_transform(torch.from_numpy(toy.sample(many, rng)), torch.from_numpy(many))
    y, mask, n = np.array([0.2, np.nan, 1.0, np.nan]), np.array([True, False] * 2), 200
    found = flow.restore(
        theta.repeat(n, 0),
        np.tile(y, (n, 1)),
        Measurement.of(flow.law, mask, 0.3),
        generator=1,
        warm_up=30,
        sweeps=20,
    )
    precision = 1 / 0.5**2 + mask / 0.3**2
    mean = (toy.mean(theta)[0] / 0.5**2 + np.nan_to_num(y) / 0.3**2) / precision
    x = found.x.double().numpy()
    assert (abs(x.mean(0) - mean) * precision**0.5 < 6 * n**-0.5 + 0.1).all()
    assert x.std(0) * precision**0.5 == pytest.approx(np.ones(4), abs=0.15)
    assert found.diagnostics["r_hat"].max() < 1.1


@pytest.mark.slow
def test_x_of_a_curved_map_is_that_of_weighted_draws():
    law = Law.of("gaussian", {"size": 2})
    flow = Flow.create(law, FlowConfig(tails="gaussian"))
    rng = np.random.default_rng(0)
    flow.fit_transform(torch.from_numpy(np.sinh(2 * rng.standard_normal((2000, 2)))))
    assert flow.transform.width(torch.zeros(2)) is None
    y, n = np.array([2.0, np.nan]), 300
    measurement = Measurement.of(law, np.array([True, False]), 0.7)
    theta = np.zeros((1, 2))
    found = flow.restore(theta.repeat(n, 0), np.tile(y, (n, 1)), measurement, generator=1,
                         warm_up=30, sweeps=10)  # fmt: skip
    x = flow.sample(theta.repeat(50_000, 0), 2).double().numpy()
    weight = np.exp(-0.5 * ((x[:, 0] - 2) / 0.7) ** 2)
    mean = (weight @ x[:, 0]) / weight.sum()
    sd = np.sqrt(weight @ (x[:, 0] - mean) ** 2 / weight.sum())
    drawn = found.x[:, 0].double().numpy()
    assert abs(drawn.mean() - mean) < 6 * sd * n**-0.5
    assert drawn.std() / sd == pytest.approx(1, abs=0.15)


def test_what_hmc_is_not_for_is_refused(model, seen):
    with pytest.raises(UsageError, match="p\\(y\\|theta\\) by this method"):
        physgen.restore(ExactField(Law.of("phi4", {"size": 8}), FlowConfig()),
                        seen["observed"], noise=0.1, theta_unknown=True)  # fmt: skip
    for tune, says in (({"step": -1.0}, "step"), ({"leaps": 2.0}, "no option 'leaps'")):
        with pytest.raises(UsageError, match=says):
            physgen.restore(model, n=2, tune=tune, **seen)
    with pytest.raises(UsageError, match="noise: is 0"):
        physgen.restore(model, n=2, **seen | {"noise": 0.0})


def test_few_independent_states_are_warned_of():
    told = list(warnings_of({"chain_ess": np.array([[1.5, 30.0]])}, [], "hmc", 2))
    assert len(told) == 1
    assert "1.5" in told[0]


def test_chains_of_as_many_laws_are_told_apart_from_those_that_drift():
    rng, rows = np.random.default_rng(0), torch.arange(40.0)[:, None]
    still = rng.standard_normal((50, 40, 30)) + 10 * np.arange(40)[:, None]
    for series, met in ((still, True), (np.cumsum(still - still.mean(0), 0), False)):
        told = chains_of_rows(torch.from_numpy(series), rows)
        assert (told["r_hat"].max() < 1.1) == met
        assert (told["chain_ess"].min() > 25) == met
    assert chains_of_rows(torch.zeros(3, 2, 1), rows[:2])["r_hat"].isnan().all()


def test_theta_that_is_not_told_has_a_chain_each(model, seen):
    found = physgen.restore(model, n=48, **seen | {"theta": None})
    assert found.about["theta"]["from"] == "p(θ|y) of the exact evidence"
    assert not found.warnings
    assert found.scores[0]["off"]["passed"]

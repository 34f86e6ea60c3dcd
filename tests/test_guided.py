"""Diffusion as a prior: x given y = Mx + σε, with the exact denoiser of a Gaussian field."""

import numpy as np
import pytest
import torch

from benchmarks.restoration import exact_model
from physgen.errors import UsageError
from physgen.nn.measurement import Measurement
from simulators.field.gaussian import GaussianField
from simulators.field.modes import coloured

SIZE, NOISE, DRAWS = 8, 0.3, 400
THETA = np.array([0.3, 2.0])
FIELD = GaussianField(size=SIZE)


@pytest.fixture(scope="module")
def model():
    return exact_model(FIELD, THETA)


@pytest.fixture(scope="module")
def observed(model):
    rng = np.random.default_rng(1)
    measurement = Measurement.of(model.law, rng.random((SIZE, SIZE)) < 0.5, NOISE)
    x = torch.from_numpy(FIELD.sample(THETA[None], rng))
    y = measurement(x) + NOISE * torch.from_numpy(rng.standard_normal(x.shape))
    exact = FIELD.restoration(THETA, y[0].numpy(), measurement.linear, NOISE)
    return measurement, y, exact


def restored(model, measurement, y, method, n=DRAWS, **options):
    theta = torch.from_numpy(np.tile(THETA, (n, 1)))
    return model.restore(
        theta, y.expand(n, -1, -1), measurement, method=method, generator=0, **options
    )


def off(x, exact):
    """Error of the mean in exact widths, rms, and the ratio of widths, mean over sites."""
    mean, sd = exact.moments
    x = x.double().numpy()
    return np.sqrt((((x.mean(0) - mean) / sd) ** 2).mean()), (x.std(0) / sd).mean()


def test_particles_are_exact_for_a_gaussian_field(model, observed):
    measurement, y, exact = observed
    found = restored(model, measurement, y, "particles", particles=2)
    error, ratio = off(found.x, exact)
    assert error < 1.5 / np.sqrt(DRAWS)
    assert abs(ratio - 1) < 0.02
    assert (found.diagnostics["worst_ess"] > 0.9).all()
    assert abs(found.diagnostics["log_evidence"] - exact.log_evidence).max() < 0.2


def test_particles_weigh_what_the_wrong_theta_says(model, observed):
    """Control: the evidence of another y is another one."""
    measurement, y, _ = observed
    rng = np.random.default_rng(2)
    other = y + torch.from_numpy(coloured(rng.standard_normal(y.shape), 1.0))
    exact = FIELD.restoration(THETA, other[0].numpy(), measurement.linear, NOISE)
    told = restored(model, measurement, y, "particles", 8).diagnostics["log_evidence"]
    assert abs(told - exact.log_evidence).min() > 5


def test_a_denoiser_of_another_law_draws_from_that_law(observed):
    """Control: it is off the data's posterior, and its evidence is the other law's."""
    measurement, y, exact = observed
    theta = THETA + np.array([1.2, 0.0])
    other = exact_model(FIELD, theta)
    found = restored(other, measurement, y, "particles", particles=1)
    assert off(found.x, exact)[1] > 1.1
    its_own = FIELD.restoration(theta, y[0].numpy(), measurement.linear, NOISE)
    assert abs(its_own.log_evidence - exact.log_evidence) > 2
    assert abs(found.diagnostics["log_evidence"] - its_own.log_evidence).max() < 0.2


def test_rows_of_several_y_do_not_mix(model, observed):
    measurement, y, exact = observed
    theta = torch.from_numpy(np.tile(THETA, (DRAWS, 1)))
    both = torch.cat([y, -y]).repeat(DRAWS // 2, 1, 1)
    x = model.restore(theta, both, measurement, generator=0, particles=1).x
    few = 1.5 / np.sqrt(DRAWS // 2)
    assert off(x[::2], exact)[0] < few < off(x[1::2], exact)[0]
    assert off(-x[1::2], exact)[0] < few


@pytest.mark.parametrize(("method", "most"), [("mmps", 0.15), ("pigdm", 0.6), ("dps", 1.0)])
def test_guidance_comes_nearer_than_the_prior(model, observed, method, most):
    measurement, y, exact = observed
    error, _ = off(restored(model, measurement, y, method).x, exact)
    prior = model.sample(torch.from_numpy(np.tile(THETA, (DRAWS, 1))), 0)
    without, _ = off(prior, exact)
    assert error < most < without


def test_what_cannot_be_is_refused_in_a_line(model, observed):
    measurement, y, _ = observed
    certain = Measurement(measurement.linear, 0.0)
    for method in model.restorers:
        with pytest.raises(UsageError, match="noise: is 0"):
            restored(model, certain, y, method, 2)
    with pytest.raises(UsageError, match="no method 'magic'"):
        restored(model, measurement, y, "magic", 2)
    with pytest.raises(UsageError, match="particles: expected a whole number"):
        restored(model, measurement, y, "particles", 2, particles=0)
    with pytest.raises(UsageError, match="dps: no option 'particles'; it has strength"):
        restored(model, measurement, y, "dps", 2, particles=4)

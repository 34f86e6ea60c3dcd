"""What held-out rows gain nothing by is left out, and nothing else."""

import numpy as np
import pytest
import torch

from physgen.checks.exact.agreement import agreement
from physgen.law import Law
from physgen.posterior.grid import grid_posterior, of_surrogate
from physgen.surrogates.cvae import CVAE
from physgen.surrogates.diffusion import Diffusion, DiffusionConfig
from physgen.surrogates.diffusion.known import KnownDenoiser
from physgen.surrogates.pruning import FEWEST, is_zero
from simulators.field import GaussianField

FIELD = GaussianField(4)
RNG = np.random.default_rng(0)
THETA = FIELD.prior.sample(1100, RNG)
X = FIELD.sample(THETA, RNG)
HELD_OUT = slice(1000, 1100)


def fitted(family=Diffusion, config=None):
    """An untrained model whose law is fitted to rows."""
    law = Law.of("gaussian-field", {"size": FIELD.size})
    model = family.create(law, config or family.Config(), seed=1).eval()
    model.fit_transform(torch.from_numpy(X[:1000]), torch.from_numpy(THETA[:1000]))
    return model


def finalized(model, rows=HELD_OUT):
    model.finalize(0, torch.from_numpy(THETA[rows]), torch.from_numpy(X[rows]))
    return model


def left_out(model):
    return [is_zero(part) for part in getattr(model, "kernel", model).parts.values()]


def add(weight, value):
    with torch.no_grad():
        weight += value


@pytest.mark.parametrize("gains", [True, False])
def test_a_network_stays_only_where_it_gains(gains):
    """Of a law whose mean is too low, what moves x̂ up does, and what moves it down does not."""
    model = fitted()
    denoiser = model.kernel.denoiser
    add(denoiser.waves.location[0, 0, 0], -4.0)
    add(denoiser.net.leave.bias, 0.1 if gains else -0.1)
    before = model.log_prob(THETA[:50], X[:50], draws=8)
    assert left_out(finalized(model)) == [not gains, True]
    same = torch.equal(before, model.log_prob(THETA[:50], X[:50], draws=8))
    assert same == gains


@pytest.mark.parametrize("gains", [True, False])
def test_latents_stay_only_where_they_gain(gains):
    """Of the same law; they do not see that what they say of x is the same for all."""
    model = fitted(CVAE)
    add(model.waves.location[0, 0, 0], -4.0)
    with torch.no_grad():
        model.decoder.head.weight.zero_()
        model.decoder.head.bias.copy_(torch.tensor([0.3 if gains else -0.3, 0.0]))
    before = model.log_prob(THETA[:50], X[:50], draws=8)
    assert left_out(finalized(model)) == [not gains, True]
    assert torch.equal(before, model.log_prob(THETA[:50], X[:50], draws=8)) == gains


def test_without_latents_log_p_is_that_of_the_diffusion_without_a_network():
    """Both are fitted to the same rows; it has no error, and its control is another θ."""
    model, other = finalized(fitted(CVAE)), finalized(fitted())
    assert left_out(model) == left_out(other) == [True, True]
    found, expected = (m.log_prob_with_error(THETA[:50], X[:50], draws=2) for m in (model, other))
    assert not found.stderr.any()
    torch.testing.assert_close(found.value, expected.value, rtol=1e-5, atol=1e-3)
    wrong = other.log_prob(THETA[1:51], X[:50])
    assert (wrong - found.value).abs().max() > 1


def test_a_strip_along_a_latent_that_is_left_out_is_one_map():
    """And along one in use it is not."""
    theta = torch.from_numpy(THETA[:1])
    model = fitted(CVAE)
    assert all((x != x[:1]).any() for _, x in model.latents(theta))
    assert all((x == x[:1]).all() for _, x in finalized(model).latents(theta))


@pytest.mark.parametrize("gains", [True, False])
def test_the_laws_network_stays_only_where_it_gains(gains):
    """Where it makes good what regressions lack, and where it spoils what they have."""
    model = fitted()
    waves = model.kernel.denoiser.waves
    add(waves.affine.scale.leave.bias[0], 0.5)
    if gains:
        add(waves.power[0, :, 0], -1.0)  # of log P, twice what is added to log width
    assert left_out(finalized(model)) == [True, not gains]


def test_of_few_rows_nothing_is_told():
    model = fitted()
    add(model.kernel.denoiser.net.leave.bias, 0.5)
    assert left_out(finalized(model, slice(FEWEST - 1))) == [False, True]


def test_posteriors_are_those_of_the_network_that_adds_nothing(monkeypatch):
    """The second route runs it all the same."""
    model = finalized(fitted(config=DiffusionConfig(network="small")))
    assert left_out(model) == [True, True]

    def posterior():
        return grid_posterior(of_surrogate(model, X[:4]), FIELD.prior, 4)

    saved = posterior()
    assert not model.log_prob_with_error(THETA[:4], X[:4], draws=1).stderr.any()
    monkeypatch.setattr(KnownDenoiser, "plain", False)
    found = agreement(posterior(), saved)
    assert abs(found.shift).max() < 1e-4
    assert abs(found.ratio - 1).max() < 1e-4
    add(model.kernel.denoiser.net.leave.bias, 0.3)
    assert abs(agreement(posterior(), saved).shift).max() > 1e-2


def test_what_was_left_out_learns_again():
    model = finalized(fitted()).train()
    loss = model.loss(THETA[:8], X[:8], torch.Generator().manual_seed(0)).sum()
    loss.backward()
    assert model.kernel.denoiser.net.leave.weight.grad.abs().max() > 0

"""What held-out rows gain nothing by is left out, and nothing else."""

import numpy as np
import pytest
import torch

from physgen.checks.exact.agreement import agreement
from physgen.law import Law
from physgen.posterior.grid import grid_posterior, of_surrogate
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
    return [is_zero(part) for part in model.kernel.parts.values()]


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

"""Spins given what was seen of them, drawn by families, beside enumeration of the learnt law."""

import itertools

import numpy as np
import pytest
import torch

import physgen
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.nn.measurement import Measurement
from physgen.surrogates.diffusion import Diffusion, DiffusionConfig
from physgen.surrogates.rbm import RBM, RBMConfig
from simulators.prior import Box

SHAPE, DRAWS = (2, 4), 2000
STATES = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=8)))
SEEN = np.array([[1, 0, 0, 1], [0, 1, 0, 0]], bool)
Y = torch.tensor([[1.0, 0.0, 0.0, -1.0], [0.0, 1.0, 0.0, 0.0]])
LAW = Law("toy", Box(beta=(0.1, 0.7)), SHAPE, "spins")
COLOUR = torch.tensor([(i + j) % 2 for i in range(2) for j in range(4)])


def energies():
    """log p but for a constant of each state: couplings between the colours alone, and fields."""
    rng = torch.Generator().manual_seed(3)
    j = 0.5 * torch.randn(8, 8, generator=rng) * (COLOUR[:, None] != COLOUR)
    return torch.einsum("ni,ij,nj->n", STATES, j, STATES) + STATES @ (
        0.3 * torch.randn(8, generator=rng)
    )


def masked(order):
    """A masked kernel whose network is exact: odds by enumeration of all states."""
    model = Diffusion.create(LAW, DiffusionConfig(kernel="masked", order=order))
    weight = energies().exp()

    def logits(x, visible, c):
        fits = ((x[:, None] == STATES) | (visible[:, None] == 0)).all(2) * weight
        up = (fits[..., None] * (STATES > 0)).sum(1)
        return (up / (fits.sum(1, keepdim=True) - up).clamp(min=1e-30)).clamp(1e-20, 1e20).log()

    model.kernel.logits = logits
    return model.eval(), energies()


def rbm():
    model = RBM.create(LAW, RBMConfig(layout="dense", hidden=6)).eval()
    with torch.no_grad():
        model.energy.net[-1].bias.normal_(0, 0.5, generator=torch.Generator().manual_seed(1))
        log_p = model.log_prob(torch.full((256, 1), 0.4), STATES.view(-1, *SHAPE))
    return model, log_p


def exact_mean(log_p, noise, y=Y):
    """E[s|y] of states of these log p."""
    seen = torch.from_numpy(SEEN.ravel())
    if noise:
        log_p = log_p + (STATES * (y.flatten() * seen)).sum(1) / noise**2
    else:
        log_p = log_p.masked_fill((y.flatten() != STATES)[:, seen].any(1), -torch.inf)
    return (log_p.softmax(0).double() @ STATES.double()).numpy()


def drawn_mean(model, noise, y=Y, **options):
    theta = torch.full((DRAWS, 1), 0.4)
    measurement = Measurement.of(LAW, SEEN, noise)
    found = model.restore(theta, y.expand(DRAWS, -1, -1), measurement, generator=0, **options)
    return found.x.double().mean(0).flatten().numpy(), found.diagnostics


MODELS = {
    "checkerboard": lambda: masked("checkerboard"),
    "random": lambda: masked("random"),
    "rbm": rbm,
}


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.9])
@pytest.mark.parametrize("name", MODELS)
def test_draws_are_those_of_the_learnt_law(name, noise):
    model, log_p = MODELS[name]()
    few = {} if name == "rbm" else {"sweeps": 10}
    mean, told = drawn_mean(model, noise, **few)
    right, other = exact_mean(log_p, noise), exact_mean(log_p, noise, -Y)
    most = 5 / np.sqrt(DRAWS)
    assert abs(mean - right).max() < most
    assert abs(mean - other).max() > 2 * most  # the control: of another y
    if name == "rbm":
        assert told["r_hat"].max() < 1.02


def test_x_of_which_all_is_seen_is_y_at_once():
    ising = Law.of("ising", {"size": 4})
    model, y = RBM.create(ising, RBMConfig(hidden=6)).eval(), np.ones((4, 4))
    found = physgen.restore(model, y, theta={"beta": 0.4}, n=4)
    np.testing.assert_array_equal(found.x, np.ones((1, 4, 4, 4)))
    assert not found.scores
    assert "y tells all of x" in found.about["absent"]


def test_the_native_chain_tells_the_evidence():
    model, log_p = masked("random")
    _, told = drawn_mean(model, 0.0)
    seen = torch.from_numpy(SEEN.ravel())
    fits = (Y.flatten() == STATES)[:, seen].all(1)
    evidence = float(log_p[fits].logsumexp(0) - log_p.logsumexp(0))
    np.testing.assert_allclose(told["log_evidence"], evidence, atol=1e-4)


def test_theta_follows_the_evidence_of_the_chain():
    """p(θ|y) of draws of the prior, weighted, beside quadrature; without y it is the prior."""
    model, log_p = masked("random")

    def logits(x, visible, c):
        strength = (1 + 0.9 * c[:, :1]) * log_p
        fits = ((x[:, None] == STATES) | (visible[:, None] == 0)).all(2) * strength.exp()
        up = (fits[..., None] * (STATES > 0)).sum(1)
        return (up / (fits.sum(1, keepdim=True) - up).clamp(min=1e-30)).clamp(1e-20, 1e20).log()

    model.kernel.logits = logits
    y = torch.where(torch.from_numpy(SEEN), Y, torch.nan)
    found = physgen.restore(model, y, n=400, theta_unknown=True)
    c = torch.linspace(-1, 1, 401)
    strength = (1 + 0.9 * c[:, None]) * log_p
    fits = (Y.flatten() == STATES)[:, torch.from_numpy(SEEN.ravel())].all(1)
    p = (strength[:, fits].logsumexp(1) - strength.logsumexp(1)).softmax(0).numpy()
    beta = 0.4 + 0.3 * c.numpy()
    mean = p @ beta
    sd = np.sqrt(p @ (beta - mean) ** 2)
    assert abs(found.theta.mean() - mean) < 5 * sd / 20
    assert abs(mean - 0.4) > 0.02  # the control: y says something of θ
    assert found.about["theta"]["from"] == "p(θ|y) of the evidence of masked"
    assert found.arrays["theta_ess"].min() > 100
    with pytest.raises(UsageError, match="nor is p"):
        physgen.restore(masked("checkerboard")[0], y, n=2, tune={"sweeps": 1})


def test_what_cannot_be_of_spins_is_refused():
    model, _ = rbm()
    theta, y = torch.full((1, 1), 0.4), Y[None]
    with pytest.raises(UsageError, match="no option 'particles'; it has sweeps"):
        model.restore(theta, y, Measurement.of(LAW, SEEN), particles=2)
    with pytest.raises(UsageError, match="sweeps: expected a whole number"):
        model.restore(theta, y, Measurement.of(LAW, SEEN), sweeps=0)
    with pytest.raises(UsageError, match="blur, average: not of spins"):
        model.restore(theta, Y[None, :1, :2], Measurement.of(LAW, average=2), generator=0)
    with pytest.raises(DataError, match="expected spins"):
        model.restore(theta, 0.5 * y, Measurement.of(LAW, SEEN), generator=0)

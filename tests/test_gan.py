"""The GAN: its game against closed forms, its spins, and laws that it can learn."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from physgen.errors import UsageError
from physgen.law import Law
from physgen.runtime.options import build
from physgen.surrogates.checkpoint import load_surrogate, save_surrogate
from physgen.surrogates.gan import GAN, GANConfig, noisy, squared_slope, straight_through
from physgen.training import InMemory, Trainer, Training
from simulators.prior import Box

SMALL = {"channels": 8, "latent": 3}
FIELD = Law("none", Box(h=(-1.0, 1.0)), (2, 3), "spins", ("shift",))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gan(law=FIELD, **options):
    return GAN.create(law, GANConfig(**(SMALL | options)), seed=1)


def rows(n, seed=0):
    """Spins in a field h: independent, of mean tanh h."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(-1, 1, (n, 1))
    up = rng.random((n, 2, 3)) < 1 / (1 + np.exp(-2 * theta[..., None]))
    return torch.from_numpy(theta), torch.from_numpy(np.where(up, 1.0, -1.0))


def train(model, theta, x, epochs):
    held_out = InMemory(theta[:200], x[:200])
    config = Training(epochs=epochs, batch_size=64, warm_up_steps=20, ema=0.99)
    list(Trainer(model, InMemory(theta, x), held_out, config))
    return model.eval()


class Linear(nn.Module):
    """ℓ = w·x + b, whatever θ."""

    def __init__(self, w, b=0.0):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.as_tensor(w)), b

    def forward(self, z, c):
        return (z.flatten(1) * self.w).sum(1) + self.b


def judged_by(critic, **options):
    model = gan(**options)
    model.discriminator = critic
    return model


def test_losses_against_closed_forms():
    theta, x = rows(11)
    logit = 0.7
    d = 1 / (1 + math.exp(-logit))
    expected = {
        "non-saturating": (-math.log(d) - math.log(1 - d), -math.log(d)),
        "minimax": (-math.log(d) - math.log(1 - d), math.log(1 - d)),
        "wasserstein": (0.0, -logit),
    }
    for loss, values in expected.items():
        model = judged_by(Linear(torch.zeros(6), logit), loss=loss, penalty=0.0)
        for objective, value in zip(model.objectives(), values, strict=True):
            found = objective.loss(theta, x, generator())
            torch.testing.assert_close(found, torch.full((11,), value))


def test_the_penalty_of_a_linear_critic_is_that_of_its_weights():
    theta, x = rows(11)
    c, w = theta.float(), torch.tensor([0.3, -0.5, 0.2, 1.1, 0.0, -0.4])
    norm = w.norm()
    r1 = (2.5 * norm**2, 5 * w)
    lipschitz = (5 * (norm - 1) ** 2, 10 * (norm - 1) * w / norm)
    for loss, (value, slope) in {"non-saturating": r1, "wasserstein": lipschitz}.items():
        model = judged_by(Linear(w.clone()), loss=loss, penalty=5.0)
        found = model._penalty(c, x.float(), -x.float(), generator())
        torch.testing.assert_close(found, value)
        torch.testing.assert_close(torch.autograd.grad(found, model.discriminator.w)[0], slope)


def test_the_slope_is_that_of_finite_differences_and_has_a_gradient():
    model = gan().double()
    x, c = rows(5)[1], torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    with torch.no_grad():
        steps = torch.eye(6, dtype=torch.float64).view(6, 1, 2, 3) * 1e-5
        ends = [torch.stack([model.discriminator(x + s * h, c) for h in steps]) for s in (1, -1)]
    expected = ((ends[0] - ends[1]) / 2e-5).square().sum(0)
    squared = squared_slope(model.discriminator, x, c)
    torch.testing.assert_close(squared, expected, rtol=1e-6, atol=1e-12)
    squared.sum().backward()
    assert model.discriminator.trunk.enter.weight.grad.abs().max() > 0


@pytest.mark.parametrize("loss", ["non-saturating", "minimax"])
def test_the_best_discriminator_reads_the_divergence(loss):
    """V = 2 JS − 2 log 2 at ℓ = log p/q, by enumeration of two laws of six spins."""
    shape = (64, 2, 3)
    states = 2.0 * (torch.arange(64)[:, None] >> torch.arange(6) & 1).view(shape) - 1
    energies = [states.flatten(1) @ torch.linspace(-0.5, a, 6) for a in (0.2, 0.9)]
    p, q = (e.double().softmax(0) for e in energies)
    m = (p + q) / 2
    js = (p * (p / m).log() + q * (q / m).log()).sum() / 2
    w = torch.linspace(-0.5, 0.2, 6) - torch.linspace(-0.5, 0.9, 6)
    b = float(energies[1].logsumexp(0) - energies[0].logsumexp(0))

    def divergence(scale):
        model = judged_by(Linear(scale * w, scale * b), loss=loss)
        true, drawn = states.repeat_interleave(64, 0), states.repeat(64, 1, 1)
        model._sample = lambda c, generator: drawn
        theta = torch.zeros(len(true), 1)
        return (p[:, None] * q).flatten() @ model.validation_loss(
            theta, true, generator()
        ).double()

    torch.testing.assert_close(divergence(1.0), js, rtol=1e-5, atol=1e-6)
    assert max(divergence(0.7), divergence(1.4)) < js - 1e-4


def test_each_objective_moves_its_own_network():
    model = gan(critic_steps=2)
    theta, x = rows(11)
    judge, again, draw = model.objectives()
    assert (judge.name, again.name, draw.name) == ("discriminator", "discriminator", "generator")
    ours, theirs = set(draw.parameters), set(judge.parameters)
    assert not ours & theirs
    assert ours | theirs == set(model.parameters())
    for objective, others in ((judge, ours), (draw, theirs)):
        model.zero_grad()
        objective.loss(theta, x, generator()).mean().backward()
        assert all(w.grad is not None for w in objective.parameters)
        assert all(w.grad is None for w in others)


def test_spins_follow_their_logit():
    logit = torch.tensor([-2.0, 0.0, 1.5])
    noise = torch.rand(20_000, 3, generator=generator())
    up = (noisy(logit, noise) > 0).double().mean(0)
    torch.testing.assert_close(up, logit.sigmoid().double(), rtol=0, atol=0.015)
    assert noisy(logit, torch.tensor([0.0, 1.0, 0.5])).isfinite().all()


def test_straight_through_is_a_sign_with_the_gradient_of_the_middle():
    z = torch.tensor([-30.0, -0.2, 0.0, 0.2, 30.0], requires_grad=True)
    x = straight_through(z)
    assert x.tolist() == [-1, -1, 1, 1, 1]
    (through,) = torch.autograd.grad(x.sum(), z)
    (middle,) = torch.autograd.grad(torch.tanh(z).sum(), z)
    assert torch.equal(through, torch.ones(5))
    assert middle[2] == through[2]


def test_the_discriminator_sees_spins_or_their_relaxation():
    c = torch.zeros(50, 1)
    hard, soft = (
        gan(spins=s, temperature=0.5)._draw(c, generator())
        for s in ("straight-through", "relaxed")
    )
    assert (hard.abs() == 1).all()
    assert (soft.abs() < 1).any()
    assert torch.equal(soft.sign(), hard)
    sampled = gan(spins="relaxed").sample(c, generator())
    assert (sampled.abs() == 1).all()


def test_a_law_with_a_flip_has_no_sign():
    model = gan(Law("none", Box(b=(0.0, 1.0)), (2, 3), "spins", ("flip",)))
    with torch.no_grad():
        model.generator.trunk.leave.bias.fill_(50)
    m = model.sample(torch.full((400, 1), 0.5), generator()).mean((1, 2))
    assert (m.abs() == 1).all()
    assert abs(m.mean()) < 0.2


@pytest.mark.slow
def test_it_learns_spins_in_a_field():
    model = train(gan(channels=16), *rows(2000), 12)
    x = [model.sample(torch.full((3000, 1), h), generator()).flatten(1) for h in (-0.8, 0.0, 0.8)]
    low, _, high = (float(y.mean()) for y in x)  # −0.664 and 0.664; the game is noisy
    assert 0.6 < high - low < 1.9
    correlation = np.corrcoef(x[1].T.numpy())[np.triu_indices(6, 1)]
    assert abs(correlation.mean()) < 0.5


def gaussian(epochs, **options):
    law = Law.of("gaussian", {"size": 2, "parameters": 1})
    simulator, rng = law.build(), np.random.default_rng(0)
    theta = law.prior.sample(3000, rng)
    x = torch.from_numpy(simulator.sample(theta, rng))
    model = gan(law, channels=24, **options)
    model.transform.fit(x)
    model = train(model, torch.from_numpy(theta), x, epochs) if epochs else model.eval()
    ends = np.array([[-1.5], [0.5]])
    drawn = [model.sample(torch.full((3000, 1), t), generator()).double() for t in ends[:, 0]]
    return torch.stack(drawn), torch.from_numpy(simulator.mean(ends))


@pytest.mark.slow
def test_it_learns_mean_and_variance_of_a_gaussian():
    """Roughly: 560 steps of a game, which differs with the last bits of a sum."""
    untrained, mean = gaussian(0)
    assert (untrained.mean(1) - mean).abs().max() > 1
    drawn, mean = gaussian(12)
    assert (drawn.mean(1) - mean).abs().max() < 1
    assert drawn.std(1).min() > 0.05
    assert drawn.std(1).max() < 1


@pytest.mark.slow
@pytest.mark.parametrize("loss", [pytest.param("minimax", marks=pytest.mark.slow), "wasserstein"])
def test_every_loss_learns_how_the_mean_depends_on_theta(loss):
    drawn, mean = gaussian(8, loss=loss, penalty=1.0)
    found, expected = (ends[1] - ends[0] for ends in (drawn.mean(1), mean))
    assert 0.4 < found @ expected / (expected @ expected) < 1.6
    assert drawn.std(1).min() > 0.05


def test_a_checkpoint_draws_the_same_and_at_other_sizes(tmp_path):
    model, theta = gan(spins="relaxed").eval(), rows(7)[0]
    save_surrogate(model, tmp_path / "gan.pt", {})
    loaded, _ = load_surrogate(tmp_path / "gan.pt", torch.device("cpu"))
    assert torch.equal(loaded.sample(theta, generator()), model.sample(theta, generator()))
    larger = Law("none", FIELD.prior, (5, 4), "spins", ("shift",))
    assert model.at(larger).sample(theta, generator()).shape == (7, 5, 4)


def test_what_it_cannot_do_is_said_in_one_line():
    theta, x = rows(3)
    for model in (gan(), gan().using(symmetrise=True)):
        with pytest.raises(TypeError, match=r"^gan: .* no likelihood; train an sbi method.*$"):
            model.log_prob_with_error(theta, x)
    for options, message in (
        ({"loss": "hinge"}, "loss: expected one of non-saturating, minimax, wasserstein"),
        ({"critic_steps": 0}, "critic_steps: expected at least 1, got 0"),
        ({"latent": 0}, "latent: expected at least 1, got 0"),
        ({"temperature": 0.0}, "temperature: expected a positive number"),
        ({"penalty": -1.0}, "penalty: expected at least 0"),
        ({"penalty": math.nan}, "penalty: expected at least 0"),
    ):
        with pytest.raises(UsageError, match=message):
            build(GANConfig, "gan", options)

"""Schedules, parameterisations and samplers of the diffusion room, against closed forms."""

import itertools
import math

import pytest
import torch

from physgen.law import Law
from physgen.surrogates.diffusion.denoiser import Denoiser, convert
from physgen.surrogates.diffusion.sampler import SAMPLERS, Sampler, Step, integrate, sampler
from physgen.surrogates.diffusion.schedule import SCHEDULES, alpha_sigma, rows_like
from physgen.surrogates.diffusion.unet import PRESETS
from simulators.prior import Box

HIGH, LOW = 7.0, -9.0
MEAN = torch.tensor([0.3, -1.1], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.2, 0.7], [0.7, 0.6]], dtype=torch.float64)
ORDER = {"ancestral": 1, "ddim": 1, "euler-maruyama": 1, "heun": 2, "dpm-solver": 2}


@pytest.fixture(params=SCHEDULES)
def schedule(request):
    made = SCHEDULES[request.param](HIGH, LOW).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for w in made.parameters():
            w += 0.3 * torch.randn(w.shape, generator=generator)
    return made


def test_a_schedule_falls_between_its_ends(schedule):
    log_snr = schedule(torch.linspace(0, 1, 301, dtype=torch.float64))
    assert log_snr[0].item() == pytest.approx(HIGH)
    assert log_snr[-1].item() == pytest.approx(LOW)
    assert (log_snr.diff() < 0).all()


def test_the_slope_is_the_derivative(schedule):
    t = torch.linspace(0.01, 0.99, 37, dtype=torch.float64, requires_grad=True)
    log_snr, slope = schedule.slope(t)
    (expected,) = torch.autograd.grad(-log_snr.sum(), t)
    torch.testing.assert_close(slope, expected)


def test_the_linear_schedule_is_that_of_a_thousand_steps():
    """DDPM: β from 1e-4 to 0.02 in 1000 steps."""
    kept = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    linear = SCHEDULES["linear"](float(torch.logit(kept[100])), float(torch.logit(kept[900])))
    t = torch.linspace(0, 1, 801, dtype=torch.float64)
    torch.testing.assert_close(linear(t), torch.logit(kept[100:901]), atol=0.02, rtol=0)


def test_the_cosine_schedule_has_alpha_a_cosine():
    alpha, _ = alpha_sigma(SCHEDULES["cosine"](HIGH, LOW)(torch.linspace(0, 1, 11).double()))
    torch.testing.assert_close(alpha.acos().diff(n=2), torch.zeros(9).double(), atol=1e-6, rtol=0)


def test_alpha_and_sigma_preserve_the_variance():
    log_snr = torch.linspace(-20, 20, 41, dtype=torch.float64)
    alpha, sigma = alpha_sigma(log_snr)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))
    torch.testing.assert_close((alpha**2 / sigma**2).log(), log_snr)


@pytest.mark.parametrize("source", ["x0", "epsilon", "score", "v"])
@pytest.mark.parametrize("target", ["x0", "epsilon", "score", "v"])
def test_parameterisations_are_one(source, target):
    generator = torch.Generator().manual_seed(0)
    x, epsilon = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    log_snr = torch.linspace(-4, 4, 5, dtype=torch.float64)[:, None]
    alpha, sigma = alpha_sigma(log_snr)
    known = {"x0": x, "epsilon": epsilon, "v": alpha * epsilon - sigma * x}
    known["score"] = -epsilon / sigma
    z = alpha * x + sigma * epsilon
    torch.testing.assert_close(convert(known[source], z, log_snr, source, target), known[target])


def test_the_score_is_the_gradient_of_log_p():
    z = torch.randn(9, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    log_snr = torch.tensor(0.7, dtype=torch.float64)
    alpha, sigma = alpha_sigma(log_snr)
    law = torch.distributions.MultivariateNormal(
        alpha * MEAN, alpha**2 * COVARIANCE + sigma**2 * torch.eye(2).double()
    )
    z.requires_grad_()
    (expected,) = torch.autograd.grad(law.log_prob(z).sum(), z)
    score = convert(exact(z, log_snr), z, log_snr, "x0", "score")
    torch.testing.assert_close(score, expected)


@pytest.mark.parametrize("support", ["spins", "reals"])
def test_a_silent_network_is_exact_for_independent_components(support):
    law = Law("none", Box(a=(0.0, 1.0)), (3,), support)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        denoiser = Denoiser(law, PRESETS["small"])
        for w in denoiser.net.leave.parameters():
            w.zero_()
    z = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    log_snr, c = torch.linspace(-3, 3, 7), torch.zeros(7, 1)
    alpha, sigma = (rows_like(v, z) for v in alpha_sigma(log_snr))
    if support == "reals":  # x ~ N(0, 1): z and x have covariance α
        expected = alpha * z
    else:
        up, down = (torch.exp(-0.5 * ((z - s * alpha) / sigma) ** 2) for s in (1, -1))
        expected = (up - down) / (up + down)
    torch.testing.assert_close(denoiser(z, log_snr, c).detach(), expected)


def exact(z, log_snr):
    """E[x|z] of x ~ N(MEAN, COVARIANCE)."""
    alpha, sigma = alpha_sigma(log_snr)
    gain = alpha * torch.linalg.inv(alpha**2 * COVARIANCE + sigma**2 * torch.eye(2, dtype=z.dtype))
    return MEAN + (z - alpha * MEAN) @ (COVARIANCE @ gain)


def reached(solver, denoise, steps):
    """Mean and covariance of z at the end, exactly: all is affine in the normal numbers."""
    log_snrs = torch.linspace(LOW, HIGH, steps + 1, dtype=torch.float64)
    count = itertools.count(1)
    inputs = 2 * (steps + 1)
    alpha, sigma = alpha_sigma(log_snrs[0])
    spread = torch.linalg.cholesky(alpha**2 * COVARIANCE + sigma**2 * torch.eye(2).double())
    start = (alpha * MEAN).repeat(inputs + 1, 1)
    start[:2] += spread.T

    def normal(z):
        unit, k = torch.zeros_like(z), next(count)
        unit[2 * k, 0] = unit[2 * k + 1, 1] = 1
        return unit

    z = integrate(solver, denoise, start, log_snrs, normal)
    moved = z[:-1] - z[-1]
    return z[-1], moved.T @ moved


def error(solver, denoise=exact, steps=64):
    """How far the law that is reached is from the true one, in mean and covariance."""
    alpha, sigma = alpha_sigma(torch.tensor(HIGH, dtype=torch.float64))
    mean, covariance = reached(solver, denoise, steps)
    expected = alpha**2 * COVARIANCE + sigma**2 * torch.eye(2).double()
    return max((mean - alpha * MEAN).abs().max(), (covariance - expected).abs().max()).item()


def named(name):
    return sampler(name, 0.0)


@pytest.mark.parametrize("name", ORDER)
def test_a_sampler_converges_at_its_order(name):
    errors = [error(named(name), steps=n) for n in (32, 64, 128, 256)]
    assert errors[-1] < {1: 0.04, 2: 2e-3}[ORDER[name]]
    ratio = errors[0] / errors[1]
    assert 2 ** ORDER[name] * 0.7 < ratio < 2 ** ORDER[name] * 2.2


@pytest.mark.parametrize("name", ORDER)
def test_a_sampler_shows_a_wrong_denoiser(name):
    """The negative control: x̂ of a law that is a tenth narrower."""
    wrong = error(named(name), lambda z, s: MEAN + 0.95 * (exact(z, s) - MEAN), steps=256)
    assert wrong > 3 * error(named(name), steps=256)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_reaches_the_law_at_every_eta(eta):
    assert error(sampler("ddim", eta), steps=512) < 0.02


def test_a_sampler_without_its_noise_fails():
    silent = Sampler(
        lambda step: sampler("ddim", 1.0).solve(step._replace(normal=torch.zeros_like))
    )
    assert error(silent, steps=512) > 0.2


def test_ancestral_is_the_posterior_of_the_chain():
    """q(z_s|z_t, x) by conditioning the joint normal of (z_s, z_t) given x."""
    now, then = (torch.tensor(v, dtype=torch.float64) for v in (-0.4, 0.9))
    (a, s), (a1, s1) = alpha_sigma(now), alpha_sigma(then)
    x, z = torch.tensor([[0.7]]).double(), torch.tensor([[-1.3]]).double()
    covariance = (a / a1) * s1**2  # of z_s and z_t: z_t = (a/a1) z_s + fresh noise
    mean = a1 * x + covariance / s**2 * (z - a * x)
    variance = s1**2 - covariance**2 / s**2
    step = Step(z, x, now, then, None, lambda z, t: x, torch.ones_like)
    moved = SAMPLERS["ancestral"].solve(step)
    still = SAMPLERS["ancestral"].solve(step._replace(normal=torch.zeros_like))
    torch.testing.assert_close(still, mean)
    torch.testing.assert_close((moved - still) ** 2, variance.expand(1, 1))


def test_heun_asks_twice_and_the_others_once():
    for name, solver in SAMPLERS.items():
        calls = []

        def denoise(z, log_snr, calls=calls):
            calls.append(1)
            return exact(z, log_snr)

        z = torch.zeros(1, 2, dtype=torch.float64)
        integrate(solver, denoise, z, torch.linspace(LOW, HIGH, 6).double(), torch.zeros_like)
        assert len(calls) == 5 * solver.evaluations, name


def test_half_the_log_odds_is_what_spins_add():
    """tanh(αz/σ² + h) is the posterior mean of a spin with prior odds e^{2h}."""
    z, h, log_snr = torch.tensor(0.3), 0.4, torch.tensor(0.2)
    alpha, sigma = alpha_sigma(log_snr)
    up, down = (
        math.exp(s * h) * torch.exp(-0.5 * ((z - s * alpha) / sigma) ** 2) for s in (1, -1)
    )
    torch.testing.assert_close(torch.tanh(alpha * z / sigma**2 + h), (up - down) / (up + down))

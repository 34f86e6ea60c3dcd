"""Diffusion by second routes: sums over all states, closed forms, averages over orders."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, ks_2samp, multivariate_normal
from torch import nn

from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.blocks import field_shape
from physgen.nn.multivariate import MultivariateMixture
from physgen.posterior.grid import of_surrogate
from physgen.registry import find
from physgen.surrogates.base import Noise
from physgen.surrogates.diffusion import Diffusion, DiffusionConfig, masked
from physgen.surrogates.diffusion.denoiser import convert
from physgen.surrogates.diffusion.likelihood import (
    diffusion_loss,
    mean_reconstruction,
    noised,
    path_log_weight,
    prior_kl,
    reconstruction,
    times,
    trace,
)
from physgen.surrogates.diffusion.schedule import SCHEDULES, alpha_sigma, rows_like
from simulators.gaussian import LinearGaussian
from simulators.prior import Box

TINY = Law.of("ising", {"size": 2, "width": 4})  # 256 states
SQUARE = Law.of("ising", {"size": 4})


def model(law=TINY, scale=0.03, **options):
    made = Diffusion.create(law, DiffusionConfig(network="small", **options), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for w in made.parameters():
            w += scale * torch.randn(w.shape, generator=generator)
    return made.eval()


def states(law):
    x = itertools.product((-1.0, 1.0), repeat=law.size)
    return torch.tensor(list(x)).view(-1, *law.x_shape)


def of_states(surrogate, draws, seed=0):
    """log p of every state at one θ, all with the same random numbers."""
    x = states(surrogate.law)
    theta = torch.full((len(x), 1), 0.4, dtype=torch.float64)
    same = torch.zeros(len(x), dtype=torch.long)
    return surrogate.log_prob_with_error(theta, x, draws=draws, seed=seed, index=same)


# --- the masked kernel ------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["checkerboard", "random"])
@pytest.mark.parametrize("steps", [0, 3])
def test_a_chain_is_normalised(order, steps):
    chain = model(order=order).using(estimator="path", steps=steps)
    for draws in (1, 3):
        total = of_states(chain, draws).value.exp().sum()
        assert total.item() == pytest.approx(1, abs=1e-4)


def test_a_chain_that_saw_what_it_predicts_would_not_be():
    leaky = model(scale=0.08).using(estimator="path")
    kernel, honest = leaky.kernel, leaky.kernel.logits
    kernel.logits = lambda x, visible, *rest: honest(x, torch.ones_like(visible), *rest)
    assert abs(of_states(leaky, 1).value.exp().sum().item() - 1) > 0.05


@pytest.mark.parametrize("axes", [None, ("open", "periodic")])
def test_what_theta_does_not_enter_is_shared_by_all_theta(monkeypatch, axes):
    law = SQUARE if axes is None else replace(SQUARE, axes=axes, symmetries=("flip",))
    chain, generator = model(law, scale=0.08), torch.Generator().manual_seed(0)
    x = 2.0 * torch.randint(2, (9, 4, 4), generator=generator) - 1
    which = torch.arange(9).repeat(3)[torch.randperm(27, generator=generator)]
    theta = (0.1 + 0.2 * torch.randint(3, (27, 1), generator=generator)).double()

    def scored():
        return chain.log_prob(theta, x[which], draws=2, index=which)

    found = scored()
    each = [
        chain.log_prob(t[None], x[i][None], draws=2, index=i[None])
        for t, i in zip(theta, which, strict=True)
    ]
    torch.testing.assert_close(found, torch.cat(each), atol=1e-4, rtol=0)
    honest = masked.distinct_rows
    monkeypatch.setattr(
        masked, "distinct_rows", lambda rows: (honest(rows)[0], honest(rows)[1] * 0)
    )
    assert abs(scored() - found).max() > 0.1, "the control: all rows are the first"


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [15, pytest.param(40, marks=pytest.mark.slow)])
def test_the_bound_is_the_mean_over_orders_and_the_path_the_mean_of_p(seeds):
    chain = model(order="random", scale=0.08)
    bound, path = (of_states(chain.using(estimator=e), 8).value for e in ("bound", "path"))
    single = [of_states(chain.using(estimator="path"), 1, seed=s).value for s in range(seeds)]
    assert (path > bound).all()
    spread = torch.stack(single).std(0) / 8**0.5
    assert ((bound - torch.stack(single).mean(0)).abs() < 6 * spread + 1e-6).all()


@pytest.mark.slow
@pytest.mark.parametrize("order", ["checkerboard", "random"])
def test_the_training_loss_is_the_bound_on_average(order):
    surrogate = model(order=order, scale=0.08)
    x = states(TINY)[[5, 77, 200]].repeat(4000, 1, 1)
    theta = torch.full((len(x), 1), 0.4, dtype=torch.float64)
    loss = surrogate.loss(theta, x, torch.Generator().manual_seed(1)).detach().view(-1, 3).T
    bound = -surrogate.log_prob(theta[:3], x[:3], draws=500)
    error = loss.std(1) / 4000**0.5
    assert ((loss.mean(1) - bound).abs() < 4 * error + 0.02).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "draws"), [(6000, 40), pytest.param(20_000, 100, marks=pytest.mark.slow)]
)
def test_samples_follow_the_chain(n, draws):
    surrogate = model(scale=0.08)
    theta = torch.full((n, 1), 0.4, dtype=torch.float64)
    x = surrogate.sample(theta, torch.Generator().manual_seed(0)).flatten(1)
    code = ((x > 0).long() * 2 ** torch.arange(7, -1, -1)).sum(1)
    p = of_states(surrogate.using(estimator="path"), draws).value.exp()
    seen = np.bincount(code, minlength=256)
    expected = n * (p / p.sum()).numpy()
    assert chisquare(seen, expected).pvalue > 1e-3
    assert chisquare(seen, np.full(256, n / 256)).pvalue < 1e-6  # the control: another law


def test_few_steps_draw_whole_spins():
    for steps in (1, 2, 5):
        x = model(SQUARE).using(steps=steps).sample(torch.full((9, 1), 0.4), torch.Generator())
        assert x.shape == (9, 4, 4)
        assert (x.abs() == 1).all()


def test_a_chain_goes_from_coarse_to_fine_from_any_site_of_the_first_colour_on():
    kernel = model(SQUARE).kernel
    numbers = torch.rand(400, 16, generator=torch.Generator().manual_seed(0))
    ranks = kernel.coarse_ranks(numbers).view(-1, 4, 4)
    assert (ranks.flatten(1).sort(1).values == torch.arange(16)).all()
    row, column = (
        axis.expand(400, 4, 4) for axis in torch.meshgrid(*2 * [torch.arange(4)], indexing="ij")
    )
    place = torch.stack([torch.stack([row[ranks == k], column[ranks == k]]) for k in range(16)])
    assert (place[:8].sum(1) % 2 == 0).all(), "one colour first"
    assert ((place[1] - place[0]).abs() == 2).all(), "the second is the farthest from the first"
    assert len({tuple(p) for p in place[0].T.tolist()}) == 8, "which may be any"
    others = kernel.ranks(numbers).argsort(1)[:, :2]
    assert ((others // 4).diff().abs() != 2).any(), "the control: a random order"
    random = model(SQUARE, order="random").kernel
    assert (random.coarse_ranks(numbers) == random.ranks(numbers)).all()


def test_posteriors_take_fewer_steps_where_their_number_is_open():
    chain = model(Law.of("ising", {"size": 8}))
    assert chain.for_posteriors().config.steps == 15
    assert chain.using(steps=20).for_posteriors().config.steps == 20
    assert chain.using(estimator="path").for_posteriors().config.steps == 0
    x, theta = np.ones((1, 4, 4), np.float32), np.array([[[0.3], [0.5]]])
    square = model(SQUARE, scale=0.08)
    few, same, whole = (
        of_surrogate(one, x)(theta)
        for one in (square, square.using(steps=8), square.using(steps=9))
    )
    np.testing.assert_array_equal(few, same)
    assert (few != whole).all()


def test_cuts_fill_every_site_once():
    for order, late in (("checkerboard", 8), ("random", 0)):
        kernel = model(SQUARE, order=order).kernel
        for steps in range(20):
            cuts = kernel.cuts(steps)
            assert cuts[0] == 0
            assert cuts[-1] == 16
            assert all(a < b for a, b in itertools.pairwise(cuts))
            assert steps == 0 or len(cuts) - 1 <= max(steps, 1 + (late > 0))
            assert not late or cuts[-2] == 8
        assert len(kernel.cuts(0)) - 1 == (9 if late else 16)


# --- the Gaussian kernel ----------------------------------------------------------------------


class Exact(nn.Module):
    """E[z|noised z, θ] of the linear-Gaussian simulator in standardised space."""

    def __init__(self, surrogate, shrink=1.0):
        super().__init__()
        self.simulator, self.surrogate = surrogate.law.build(), surrogate
        self.shrink = shrink

    def moments(self, c):
        return torch.zeros(1), torch.ones(1)

    def forward(self, z, log_snr, c):
        rescale, standardise = self.surrogate.rescale, self.surrogate.transform
        theta = (c + 1) / 2 * (rescale.high - rescale.low) + rescale.low
        mean = standardise(torch.as_tensor(self.simulator.mean(theta.numpy())))
        variance = (self.simulator.noise * self.shrink / standardise.std) ** 2
        alpha, sigma = (rows_like(v, z) for v in alpha_sigma(log_snr))
        gain = alpha * variance / (alpha**2 * variance + sigma**2)
        return mean + gain * (z - alpha * mean)


@pytest.fixture(scope="module")
def gaussian():
    """Rows of the linear-Gaussian simulator with exact log p, and a surrogate that knows it."""
    simulator = LinearGaussian(size=3, parameters=2)
    rng = np.random.default_rng(3)
    theta = simulator.prior.sample(60, rng)
    x = simulator.sample(theta, rng)
    surrogate = model(Law.of("gaussian", vars(simulator)), head="independent")
    surrogate.transform.fit(torch.as_tensor(simulator.sample(simulator.prior.sample(9, rng), rng)))
    surrogate.kernel.denoiser = Exact(surrogate)
    exact = torch.as_tensor(simulator.log_prob(theta, x))
    return surrogate, torch.as_tensor(theta), torch.as_tensor(x), exact


def gaps(gaussian, draws, **options):
    surrogate, theta, x, exact = gaussian
    found = surrogate.using(**options).log_prob_with_error(theta, x, draws=draws)
    return exact - found.value


def test_the_continuous_bound_of_the_exact_denoiser_is_tight(gaussian):
    gap = gaps(gaussian, 2000, estimator="bound")
    assert abs(gap.mean()) < 4 * gap.std() / len(gap) ** 0.5
    assert gap.std() < 0.3


@pytest.mark.slow
def test_path_weights_of_the_exact_denoiser_are_log_p(gaussian):
    gap = gaps(gaussian, 200, estimator="path", steps=256)
    assert abs(gap.mean()) < 0.04
    assert gap.std() < 0.15


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_the_flow_of_the_exact_denoiser_is_log_p(gaussian, trace):
    """Its Jacobian is diagonal here, so that Hutchinson's trace is exact too.

    What is left is the mismatch of N(0, 1) with z at the lowest log-SNR.
    """
    gap = gaps(gaussian, 1, estimator="ode", steps=200, trace=trace)
    assert abs(gap.mean()) < 0.005
    assert gap.abs().max() < 0.04


def test_few_steps_of_the_flow_are_an_estimate_of_unknown_sign(gaussian):
    few, some, many = (
        gaps(gaussian, 1, estimator="ode", steps=n, trace="exact").mean() for n in (32, 96, 288)
    )
    assert few < -0.02  # above the exact log p
    assert abs(few) > 4 * abs(some) > 8 * abs(many)


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "draws"), [("bound", 2000), ("path", 200), ("ode", 1)])
def test_estimators_show_a_wrong_denoiser(gaussian, estimator, draws):
    """The negative control: a law that is 30 % too narrow costs nats."""
    surrogate, theta, x, exact = gaussian
    surrogate.kernel.denoiser.shrink = 0.7
    try:
        shrunk = surrogate.using(estimator=estimator, steps=128)
        log_p = shrunk.log_prob_with_error(theta, x, draws=draws)
    finally:
        surrogate.kernel.denoiser.shrink = 1.0
    assert (exact - log_p.value).mean() > 0.2


COUPLED = torch.tensor([[0.0, 0.6, 0.2], [0.0, 0.0, -0.4], [0.0, 0.0, 0.0]])


class Enumerated(nn.Module):
    """E[x|z] of three coupled spins, by their eight states."""

    def __init__(self, strength=1.0):
        super().__init__()
        self.x = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)))
        energy = (self.x @ COUPLED * self.x).sum(1) + self.x @ torch.tensor([0.3, -0.1, 0.2])
        self.log_p = (strength * energy).log_softmax(0)

    def forward(self, z, log_snr, c):
        alpha, sigma = (rows_like(v, z) for v in alpha_sigma(log_snr))
        return (self.log_p + alpha / sigma**2 * z @ self.x.T).softmax(1) @ self.x


@pytest.fixture(scope="module")
def spins():
    """A Gaussian kernel that knows three coupled spins; its states, and their exact log p."""
    law = Law("none", TINY.prior, (3,), "spins")
    surrogate = model(law, kernel="gaussian", noise_schedule="cosine", scale=0.0)
    surrogate.kernel.denoiser = Enumerated()
    surrogate.anchor = nn.Parameter(torch.zeros(()))  # tells the device
    return surrogate, surrogate.kernel.denoiser


WAYS = [
    ({"estimator": "bound"}, 8000, 0.1),
    ({"estimator": "path", "steps": 128}, 1000, 0.1),
    ({"estimator": "ode", "steps": 128}, 100, 0.05),
]


@pytest.mark.parametrize(("options", "draws", "close"), WAYS)
def test_estimators_give_log_p_of_coupled_spins(spins, options, draws, close):
    surrogate, exact = spins
    theta = torch.full((8, 1), 0.4, dtype=torch.float64)
    found = surrogate.using(**options).log_prob_with_error(theta, exact.x, draws=draws)
    assert ((found.value - exact.log_p).abs() < 5 * found.stderr + 0.01).all()
    assert found.stderr.max() < close


@pytest.mark.parametrize(("options", "draws", "close"), WAYS)
def test_estimators_show_the_wrong_couplings(spins, options, draws, close):
    """The negative control: a denoiser of spins that are coupled by half as much."""
    surrogate, exact = spins
    surrogate.kernel.denoiser = Enumerated(0.5)
    try:
        theta = torch.full((8, 1), 0.4, dtype=torch.float64)
        found = surrogate.using(**options).log_prob_with_error(theta, exact.x, draws=draws)
    finally:
        surrogate.kernel.denoiser = exact
    assert (found.value - exact.log_p).abs().max() > 2 * close


def test_finite_chains_of_coupled_spins_have_their_own_bound(spins):
    """The bound in T steps is the mean of the path's log weight, at any T."""
    _, exact = spins
    for steps in (1, 3, 10):
        surrogate = model(
            Law("none", TINY.prior, (3,), "spins"),
            kernel="gaussian", noise_schedule="cosine", timesteps=steps, scale=0.0,
        )  # fmt: skip
        surrogate.kernel.denoiser = exact
        surrogate.anchor = nn.Parameter(torch.zeros(()))
        theta = torch.full((8, 1), 0.4, dtype=torch.float64)
        bound = surrogate.log_prob_with_error(theta, exact.x, draws=6000)
        many = exact.x.repeat_interleave(6000, 0)
        normal = torch.randn(len(many), steps + 1, 3, generator=torch.Generator().manual_seed(1))
        schedule = surrogate.kernel.schedule
        log_w = path_log_weight(lambda z, s: exact(z, s, None), schedule, "spins", many, normal)
        mean, error = log_w.view(8, -1).mean(1), log_w.view(8, -1).std(1) / 6000**0.5
        assert ((bound.value - mean).abs() < 5 * (error + bound.stderr)).all()


@pytest.mark.parametrize("sampler", ["ancestral", "heun"])
def test_samples_of_coupled_spins_follow_their_law(spins, sampler):
    surrogate, exact = spins
    x = surrogate.using(sampler=sampler, steps=256).sample(
        torch.full((6000, 1), 0.4), torch.Generator().manual_seed(0)
    )
    seen = torch.bincount(((x > 0).long() * torch.tensor([4, 2, 1])).sum(1), minlength=8)
    right, free = (e.log_p.double().softmax(0).numpy() for e in (exact, Enumerated(0.5)))
    assert chisquare(seen, 6000 * right).pvalue > 1e-3
    assert chisquare(seen, 6000 * free).pvalue < 1e-6  # the control


def spread_and_told(surrogate, theta, x, draws, seeds=40):
    """The standard deviation of log p over seeds, and the standard error that it tells."""
    found = [surrogate.log_prob_with_error(theta, x, draws=draws, seed=s) for s in range(seeds)]
    spread = torch.stack([f.value for f in found]).std(0)
    return spread, torch.stack([f.stderr for f in found]).mean(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "symmetrise", "seeds"),
    [
        ("bound", False, 40),
        ("path", False, 40),
        ("bound", True, 15),
        pytest.param("bound", True, 40, marks=pytest.mark.slow),
    ],
)
def test_standard_errors_of_orders_are_honest(estimator, symmetrise, seeds):
    surrogate = model(scale=0.05).using(estimator=estimator, symmetrise=symmetrise)
    theta = torch.full((2, 1), 0.4, dtype=torch.float64)
    spread, told = spread_and_told(surrogate, theta, states(TINY)[[3, 99]], 6, seeds)
    assert (spread < 1.5 * told + 1e-3).all()
    assert symmetrise or (told < 2 * spread + 1e-3).all()  # images' errors need not all add up


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "draws"),
    [({"estimator": "bound"}, 100), ({"estimator": "path", "steps": 32}, 200)],
)
def test_standard_errors_of_noise_are_honest(spins, options, draws):
    """Evenly spread times do better than is told, but by no lot."""
    surrogate, exact = spins
    theta = torch.full((8, 1), 0.4, dtype=torch.float64)
    spread, told = spread_and_told(surrogate.using(**options), theta, exact.x, draws, 25)
    assert (spread < 1.6 * told).all()
    assert (told < 4 * spread).all()


def test_one_draw_has_no_standard_error():
    for options in ({"estimator": "bound"}, {"estimator": "path"}):
        assert of_states(model().using(**options), 1).stderr.isnan().all()


def test_hutchinsons_trace_is_the_exact_one_on_average():
    z = torch.randn(1, 5, generator=torch.Generator().manual_seed(0)).expand(40_000, 5)
    z = z.clone().requires_grad_()
    matrix = torch.randn(5, 5, generator=torch.Generator().manual_seed(1))
    v = torch.tanh(z @ matrix)
    probes = torch.randint(2, z.shape, generator=torch.Generator().manual_seed(2)) * 2.0 - 1
    noisy = trace(v, z, probes)
    jacobian = torch.autograd.functional.jacobian(lambda y: torch.tanh(y @ matrix), z[0].detach())
    exact = jacobian.diagonal().sum()
    torch.testing.assert_close(trace(v, z, None)[:3], exact.expand(3))
    assert abs(noisy.mean() - exact) < 5 * noisy.std() / 200
    assert noisy.std() > 0.1


def test_the_ends_of_the_bound_are_those_of_torch():
    """Prior matching against torch's KL, and the mean reconstruction of reals by quadrature."""
    schedule = SCHEDULES["cosine"](1.0, -1.5)
    x = torch.tensor([[0.7, -1.3]])
    alpha, sigma = alpha_sigma(torch.tensor(schedule.low))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(alpha * x, sigma), normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(prior_kl(schedule, x), expected)
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    total = 0.0
    for d in range(2):
        one = x[:, d : d + 1].expand(20, 1)
        z = noised(schedule, one, torch.tensor(nodes)[:, None].float())
        log_p = reconstruction(schedule, "reals", one, z)
        total += float((log_p * torch.tensor(weights / weights.sum())).sum())
    assert mean_reconstruction(schedule, x).item() == pytest.approx(total, rel=1e-5)


def test_the_simple_loss_is_the_error_of_the_noise():
    surrogate = model(kernel="gaussian", loss="simple", noise_schedule="cosine").train()
    x = states(TINY)[:64]
    theta = torch.full((64, 1), 0.4, dtype=torch.float64)
    loss = surrogate.loss(theta, x, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    t = times(torch.rand(1, generator=generator), 64)[0]
    epsilon = torch.randn(x.shape, generator=generator)
    log_snr = surrogate.kernel.schedule(t)
    alpha, sigma = alpha_sigma(rows_like(log_snr, x))
    z = alpha * x + sigma * epsilon
    mean = surrogate.kernel.denoiser(z, log_snr, surrogate.rescale(theta))
    guess = convert(mean, z, rows_like(log_snr, x), "x0", "epsilon")
    expected = 0.5 * (epsilon - guess).square().flatten(1).sum(1)
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-3)


def test_a_batch_without_any_loss_does_no_harm():
    """Spins that are told with certainty: the schedule's gradient is 0, not NaN."""
    schedule = SCHEDULES["learnt"](5.0, -10.0)
    x = torch.ones(1, 3)
    diffusion_loss(lambda z, s: x, schedule, "spins", x, torch.tensor([0.5]), x, 0)[0].backward()
    assert schedule.logit.grad.isfinite().all()


def test_the_learnt_schedule_holds_in_float32_wherever_training_takes_it():
    schedule = SCHEDULES["learnt"](5.0, -10.0)
    with torch.no_grad():
        schedule.logit += 30 * torch.randn(24, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0, 1, 1001)
    single, double = schedule.slope(t), schedule.double().slope(t.double())
    torch.testing.assert_close(single[0].double(), double[0], atol=1e-4, rtol=1e-5)
    assert (single[0].diff() < 0).all()
    assert single[1].max() <= 2 * 15.001


@pytest.mark.parametrize("steps", [1, 4])
def test_path_weights_are_unbiased_for_a_normalised_chain(steps):
    """Σ_x E[w(x)] = 1 of any denoiser, at any number of steps; a bound on log p sums to less."""
    x = states(Law.of("ising", {"size": 2}))
    schedule = SCHEDULES["cosine"](0.5, -3.0)
    generator = torch.Generator().manual_seed(0)

    def denoise(z, log_snr):
        return torch.tanh(0.7 * z.roll(1, 1) - 0.3 * z + 0.2)

    many = x.repeat(20_000, 1, 1)
    normal = torch.randn(len(many), steps + 1, 2, 2, generator=generator)
    log_w = path_log_weight(denoise, schedule, "spins", many, normal).view(-1, 16)
    w = log_w.exp()
    error = w.std(0).square().sum().sqrt() / 20_000**0.5
    assert error < 0.05
    assert abs(w.mean(0).sum() - 1) < 4 * error
    assert log_w.mean(0).exp().sum() < 0.97  # the control


@pytest.mark.slow
def test_a_bound_of_many_steps_is_the_continuous_one():
    """Of a finite chain it is lower, by the cost of its steps."""
    x = states(TINY)[::16]
    continuous, hundred, ten = (
        model(kernel="gaussian", noise_schedule="cosine", timesteps=n) for n in (0, 1000, 10)
    )
    theta = torch.full((len(x), 1), 0.4, dtype=torch.float64)
    values = [m.log_prob(theta, x, draws=700).mean() for m in (continuous, hundred, ten)]
    assert abs(values[0] - values[1]) < 0.1 < values[0] - values[2]


def test_times_are_spread_evenly():
    u = torch.tensor([0.3, 0.999])
    t = times(u, 8)
    assert torch.equal((t * 8).floor().sort(1).values, torch.arange(8.0).expand(2, -1))
    discrete = times(u, 12, 4)
    assert torch.bincount((discrete[0] * 4).round().long()).tolist() == [0, 3, 3, 3, 3]


def test_the_schedule_learns_to_lower_the_variance():
    """Its gradient is that of log E[l²], by a second route: autograd of that itself."""
    schedule = SCHEDULES["learnt"](5.0, -10.0).double()
    generator = torch.Generator().manual_seed(0)
    x, epsilon = torch.randn(2, 64, 3, generator=generator, dtype=torch.float64)
    t = torch.rand(64, generator=generator, dtype=torch.float64)

    def denoise(z, log_snr):
        return torch.tanh(z * rows_like(log_snr, z))

    diffusion_loss(denoise, schedule, "spins", x, t, epsilon, 0)[0].mean().backward()
    hooked = [w.grad.clone() for w in schedule.parameters()]
    log_snr, slope = schedule.slope(t)
    alpha, sigma = alpha_sigma(rows_like(log_snr, x))
    error = (x - denoise(alpha * x + sigma * epsilon, log_snr)).square().sum(1)
    value = 0.5 * slope * log_snr.exp() * error
    expected = torch.autograd.grad(value.square().mean().log(), list(schedule.parameters()))
    for found, wanted in zip(hooked, expected, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "euler-maruyama", "heun", "dpm-solver"])
def test_samples_of_the_exact_denoiser_follow_the_simulator(gaussian, sampler):
    surrogate, theta, _, _ = gaussian
    one = theta[:1].expand(4000, -1)
    drawn = surrogate.using(sampler=sampler, steps=200, eta=0.5).sample(
        one, torch.Generator().manual_seed(1)
    )
    simulator = surrogate.law.build()
    z = (drawn.numpy() - simulator.mean(theta[:1].numpy())) / simulator.noise
    assert abs(z.mean(0)).max() < 5 / 4000**0.5 + 0.02
    np.testing.assert_allclose(np.cov(z.T), np.eye(3), atol=0.12)


# --- the family -------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["masked", "gaussian"])
def test_a_network_runs_at_another_size(kernel):
    """A tiled x has tiled odds: nothing in the network is tied to a size."""
    small = model(SQUARE, kernel=kernel)
    large = small.at(SQUARE.changed({"size": 8}))
    x = torch.where(torch.rand(5, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.5, 1.0, -1)
    c, tiled = torch.zeros(5, 1), x.repeat(1, 2, 2)
    if kernel == "gaussian":
        log_snr = torch.zeros(5)
        a, b = (m.kernel.denoiser(v, log_snr, c) for m, v in ((small, x), (large, tiled)))
    else:
        seen = [(v > 0).float() for v in (x, tiled)]
        a = small.kernel.logits(x.flatten(1), seen[0].flatten(1), c).view(5, 4, 4)
        b = large.kernel.logits(tiled.flatten(1), seen[1].flatten(1), c).view(5, 8, 8)
    torch.testing.assert_close(a.repeat(1, 2, 2), b, rtol=1e-4, atol=1e-5)
    assert large.sample(torch.full((3, 1), 0.4), torch.Generator()).shape == (3, 8, 8)


def test_a_family_whose_weights_are_tied_to_a_size_says_so():
    cvae = find("surrogates", "cvae")
    with pytest.raises(UsageError, match=r"trained on x of shape \(4, 4\)"):
        cvae.create(SQUARE, cvae.Config()).at(SQUARE.changed({"size": 8}))
    with pytest.raises(UsageError, match="given beta"):
        model().at(Law.of("gaussian", {"parameters": 1}))


def test_another_prior_leaves_the_law_as_it_is():
    surrogate = model(scale=0.08)
    moved = surrogate.at(Law.of("ising", {"size": 2, "width": 4}, {"beta": (0.3, 0.5)}))
    x, theta = states(TINY)[:9], torch.full((9, 1), 0.45, dtype=torch.float64)
    before, after = (m.log_prob(theta, x) for m in (surrogate, moved))
    torch.testing.assert_close(before, after)
    assert moved.law.prior.low[0] == 0.3


def test_symmetrised_log_p_has_the_symmetries_and_is_normalised():
    chain = model(scale=0.08).using(estimator="path", symmetrise=True)
    x = states(TINY)
    value = of_states(chain, 2).value
    assert value.exp().sum().item() == pytest.approx(1, abs=1e-4)
    plain = of_states(chain.using(symmetrise=False), 2).value
    for move in (-x, x.flip(1), x.flip(2)):
        code = ((move.flatten(1) > 0).long() * 2 ** torch.arange(7, -1, -1)).sum(1)
        torch.testing.assert_close(value[code], value, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(plain[code], plain, atol=1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "heun"}, "masked kernel has no sampler heun"),
        ({"estimator": "ode"}, "masked kernel has no estimator ode"),
        ({"steps": -1}, "steps: expected at least 0"),
        ({"eta": 2.0}, "eta: expected 0 to 1"),
        ({"kernel": "gaussian"}, "no option 'kernel'"),
    ],
)
def test_ways_that_do_not_exist_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        model().using(**options)


def test_options_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="simple needs a noise_schedule"):
        DiffusionConfig(loss="simple")
    with pytest.raises(UsageError, match="masked kernel: not for reals x"):
        model(Law.of("gaussian"), kernel="masked")


def test_using_leaves_the_surrogate_as_it_was():
    surrogate = model()
    other = surrogate.using(steps=3, symmetrise=True)
    assert (surrogate.config.steps, surrogate.symmetrise) == (0, False)
    assert (other.config.steps, other.symmetrise) == (3, True)
    assert other.kernel is surrogate.kernel


@pytest.mark.parametrize(
    "shape", [(1, 1), (2, 2), (3, 5), (4, 6), pytest.param((16, 16), marks=pytest.mark.slow)]
)
def test_every_preset_fits_every_shape(shape):
    law = Law("none", TINY.prior, shape, "spins", ("shift",))
    for network in ("small", "medium", "large"):
        made = Diffusion.create(law, DiffusionConfig(network=network))
        x = made.sample(torch.full((2, 1), 0.4), torch.Generator())
        assert x.shape == (2, *shape)
        assert field_shape(law) == (1, *shape)


def test_noise_of_a_row_is_even():
    noise = Noise(torch.arange(2000)).uniform(3, 2)
    assert noise.shape == (2000, 3, 2)
    assert abs(noise.mean() - 0.5) < 0.02
    assert 0 <= noise.min() < noise.max() < 1


# --- beside a mixture ---------------------------------------------------------------------------


class Lumps:
    """Two correlated normal laws at ±(1, θ) in the plane, of weights 0.3 and 0.7."""

    prior = Box(a=(-1.0, 1.0))
    x_shape = (2,)
    root = np.array([[0.4, 0.0], [0.3, 0.2]])

    def sample(self, theta, rng):
        side = np.where(rng.random((len(theta), 1)) < 0.3, 1.0, -1.0)
        middle = np.concatenate([np.ones_like(theta), theta], 1)
        return side * middle + rng.standard_normal((len(theta), 2)) @ self.root.T

    def log_prob(self, theta, x, part=slice(None)):
        covariance = (self.root @ self.root.T)[part][:, part]
        middle = np.concatenate([np.ones_like(theta), theta], 1)[:, part]
        each = [
            multivariate_normal(np.zeros(len(covariance)), covariance).logpdf(
                x[:, part] - s * middle
            )
            for s in (1, -1)
        ]
        return np.logaddexp(np.log(0.3) + each[0], np.log(0.7) + each[1])


def knowing(surrogate, wrong=0.0):
    """A surrogate of `Lumps` whose mixture is exact, and whose network says `wrong`."""
    net, width = surrogate.kernel.denoiser.mixture, torch.diag(1 / surrogate.transform.std.float())
    root = width @ torch.tensor(Lumps.root, dtype=torch.float32)
    regression = root[1, 0] / root[0, 0]

    def forward(c, given=None):
        middle = torch.cat([torch.ones_like(c), c], 1)
        raw = torch.zeros(len(c), 5 + 2 * 6)
        for k, (sign, p) in enumerate(((1, 0.3), (-1, 0.7))):
            start = 5 + 6 * k
            raw[:, start] = math.log(p)
            raw[:, start + 1 : start + 3] = (
                sign * middle - surrogate.transform.mean.float()
            ) @ width
            log_width = root.diagonal().log()
            raw[:, start + 3 : start + 5] = 7 * torch.atanh(log_width / 7)
            raw[:, start + 5] = regression
        return MultivariateMixture(raw, 2)

    net.forward = forward
    with torch.no_grad():
        surrogate.kernel.denoiser.net.leave.bias.fill_(wrong)
    return surrogate


def lumps(wrong=0.0, missing=False):
    rng = np.random.default_rng(0)
    theta = Lumps.prior.sample(300, rng)
    x = Lumps().sample(theta, rng)
    law = Law("lumps", Lumps.prior, (2,), dtype="float64", missing=missing)
    surrogate = Diffusion.create(law, DiffusionConfig(network="small"), 1).eval()
    surrogate.transform.fit(torch.from_numpy(x))
    return knowing(surrogate, wrong), torch.from_numpy(theta), torch.from_numpy(x)


def test_the_bound_of_an_exact_mixture_is_log_p_without_noise():
    surrogate, theta, x = lumps()
    found = surrogate.log_prob_with_error(theta, x, draws=2)
    exact = torch.from_numpy(Lumps().log_prob(theta.numpy(), x.numpy()))
    torch.testing.assert_close(found.value, exact, atol=1e-4, rtol=1e-4)
    assert found.stderr.max() == 0
    assert not torch.allclose(found.value, exact.flip(0), atol=0.1)


def test_a_network_that_is_wrong_lowers_the_bound():
    """By ½ ∫ e^λ E‖w F‖² dλ, as its error and that of the mixture are not correlated."""
    surrogate, theta, x = lumps(wrong=0.3)
    found = surrogate.log_prob_with_error(theta, x, draws=500)
    loss = Lumps().log_prob(theta.numpy(), x.numpy()) - found.value.numpy()
    assert loss.mean() > 0.2
    assert found.stderr.mean() > 0.01


@pytest.mark.slow
def test_the_flow_of_an_exact_mixture_is_log_p():
    surrogate, theta, x = lumps()
    exact = torch.from_numpy(Lumps().log_prob(theta.numpy(), x.numpy()))[:8]
    flow = surrogate.using(estimator="ode", steps=64).log_prob(theta[:8], x[:8])
    assert (flow - exact).abs().mean() < 0.03
    wrong, *_ = lumps(wrong=0.3)
    flow = wrong.using(estimator="ode", steps=64).log_prob(theta[:8], x[:8])
    assert (flow - exact).abs().mean() > 0.1


@pytest.mark.parametrize("there", [0, 1])
def test_the_bound_of_what_is_there_is_its_marginal(there):
    surrogate, theta, x = lumps(missing=True)
    some = x.clone()
    some[:, 1 - there] = math.nan
    found = surrogate.log_prob(theta, some, draws=2)
    exact = torch.from_numpy(Lumps().log_prob(theta.numpy(), x.numpy(), [there]))
    torch.testing.assert_close(found, exact, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("sampler", "steps"), [("ancestral", 2), ("heun", 64)])
def test_samples_of_an_exact_mixture_follow_it(sampler, steps):
    surrogate, theta, _ = lumps()
    theta = torch.full((2000, 1), 0.5, dtype=torch.float64)
    x = (
        surrogate.using(sampler=sampler, steps=steps)
        .sample(theta, torch.Generator().manual_seed(0))
        .numpy()
    )
    theirs = Lumps().sample(theta.numpy(), np.random.default_rng(1))
    for a in ((1.0, 0.0), (0.0, 1.0), (3.0, -4.0)):
        assert ks_2samp(x @ a, theirs @ a).pvalue > 1e-3
        assert ks_2samp(x @ a + 0.3, theirs @ a).pvalue < 1e-3


def test_a_mixture_is_refused_where_there_is_none():
    with pytest.raises(ValueError, match="continuous bound"):
        DiffusionConfig(head="mixture", timesteps=10)
    with pytest.raises(UsageError, match="take head independent"):
        Diffusion.create(Law("none", Box(a=(0.0, 1.0)), (4, 4)), DiffusionConfig(head="mixture"))

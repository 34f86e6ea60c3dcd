"""The conditional VAE by second routes: sums over all states, quadrature, autograd."""

import functools
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch.distributions import Normal
from torch.nn import functional as F

from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.blocks import stages_of
from physgen.nn.grouped_film import grouped_film
from physgen.nn.tensors import load_tensors, save_tensors
from physgen.nn.transforms import Identity
from physgen.registry import find
from physgen.surrogates.base import Noise
from physgen.surrogates.checkpoint import load_surrogate, save_surrogate
from physgen.surrogates.cvae import CVAE, CVAEConfig
from physgen.surrogates.cvae.decoder import (
    CoarseToFine,
    GaussianDecoder,
    MixtureDecoder,
    windows,
)
from physgen.surrogates.cvae.latents import Latents, grids_of
from simulators.field import GaussianField
from simulators.prior import Box

BETA = Law.of("ising", {"size": 2, "width": 4})  # two levels of latents, 256 states
SMALL = CVAEConfig(latent_dim=2, levels=2, channels=5, stages=3, window=3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def lattice(rows, columns, symmetries=("shift",)):
    return Law("none", Box(a=(0.0, 1.0), b=(-1.0, 1.0)), (rows, columns), "spins", symmetries)


def reals(d, parameters=2):
    return Law.of("gaussian", {"size": d, "parameters": parameters})


def states(law):
    x = itertools.product((-1.0, 1.0), repeat=law.size)
    return torch.tensor(list(x)).view(-1, *law.x_shape)


def stirred(module, scale=0.3, seed=0):
    """The module with weights far from the tidy ones of the start; no global random numbers."""
    g = generator(seed)
    with torch.no_grad():
        for w in module.parameters():
            w += scale * torch.randn(w.shape, generator=g)
    return module.eval()


def model(law, config=SMALL, scale=0.3, seed=0):
    return stirred(CVAE.create(law, config, seed), scale)


def unseeded(build, *args):
    """What `build` makes, with torch's global random numbers left as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # noqa: TID251
        return build(*args)


def two_modes(theta, rng):
    return rng.choice([-3.0, 3.0], (len(theta), 1)) + rng.normal(size=(len(theta), 1))


@functools.cache
def trained(width, prior="learnt"):
    """A model whose posterior has learnt to depend on x: 2×width spins, or two modes if 0."""
    law = Law.of("ising", {"size": 2, "width": width, "theta": "beta-h"}) if width else reals(1, 1)
    draw = law.build().sample if width else two_modes
    surrogate = CVAE.create(law, CVAEConfig(2, 2, 7, 1, 3, prior)).train()
    optimiser = torch.optim.Adam(surrogate.parameters(), 1e-2)
    rng, g = np.random.default_rng(0), generator()
    for _ in range(100 if width else 200):
        theta = law.prior.sample(101, rng)
        optimiser.zero_grad()
        x = torch.from_numpy(draw(theta, rng))
        surrogate.loss(torch.from_numpy(theta), x, g).mean().backward()
        optimiser.step()
    return surrogate.eval()


def theta_of(law, n=1, at=0.3):
    return torch.from_numpy(law.prior.low + at * (law.prior.high - law.prior.low)).expand(n, -1)


def drop_log_ratio(monkeypatch):
    descend = Latents.descend

    def wrong(self, *args):
        trace = descend(self, *args)
        return trace._replace(log_ratio=0 * trace.log_ratio)

    monkeypatch.setattr(Latents, "descend", wrong)


# --- the likelihood ------------------------------------------------------------------------------


def total(surrogate, draws):
    """Σ or ∫ over x of the mean weight, and its standard error over the draws."""
    spins = surrogate.law.support == "spins"
    x = states(surrogate.law) if spins else torch.linspace(-10, 10, 101)[:, None]
    log_p = surrogate.log_prob_with_error(theta_of(surrogate.law, len(x), 0.8), x, draws=draws)
    cell = 1.0 if spins else 0.2
    p = cell * log_p.value.exp()
    return float(p.sum()), float((p * log_p.stderr).norm())


@pytest.mark.slow
@pytest.mark.parametrize(
    "draws", [70, pytest.param(200, marks=pytest.mark.slow)], ids=["few", "many"]
)
@pytest.mark.parametrize(("width", "prior"), [(4, "learnt"), (2, "standard"), (0, "learnt")])
def test_probabilities_of_all_x_sum_to_one(width, prior, draws, monkeypatch):
    """Unbiased, whatever the weights; without p(z)/q(z|x) the sum of the spins is near 2."""
    surrogate = trained(width, prior)
    mean, error = total(surrogate, draws)
    assert error < 0.05 * math.sqrt(200 / draws)
    assert abs(mean - 1) < 5 * error
    drop_log_ratio(monkeypatch)
    assert total(surrogate, 30)[0] > (1.3 if width else 1.05)


@pytest.mark.slow
def test_weights_of_another_law_sum_to_one_too():
    mean, error = total(model(trained(2).law, SMALL, 0.05), 250)
    assert error < 0.07
    assert abs(mean - 1) < 5 * error


@pytest.mark.parametrize("prior", ["learnt", "standard"])
def test_closed_form_kl_is_the_mean_log_ratio(prior):
    surrogate = model(BETA, CVAEConfig(3, 2, 5, 3, 3, prior))
    x, n, g = states(BETA)[13:14], 40_000, generator()
    c = surrogate.rescale(theta_of(BETA))
    features = [e.expand(n, -1, -1, -1) for e in surrogate.hierarchy.encode(x, c)]
    trace = surrogate.hierarchy.descend(
        c.expand(n, -1), lambda level, shape: torch.randn(shape, generator=g), features
    )
    difference = trace.kl.sum(1) + trace.log_ratio  # the coarse levels' draws move the fine KL
    assert trace.kl.sum(1).mean() > 0.3
    assert abs(difference.mean()) < 5 * difference.std() / math.sqrt(n)
    assert (trace.kl >= 0).all()


def test_one_level_of_latents_against_torch_distributions():
    law = reals(3)
    hierarchy = stirred(unseeded(Latents, law, 1, 5, 2))
    c, x = torch.rand(7, 2, generator=generator()), torch.randn(7, 3, generator=generator())
    epsilon = torch.randn(7, 2, 1, 1, generator=generator())
    level, features = hierarchy.levels[0], hierarchy.encode(x, c)
    trace = hierarchy.descend(c, lambda number, shape: epsilon, features)
    t = level.field(hierarchy.top.expand(7, -1, 1, 1), c)
    mean, raw = level.p(t).chunk(2, 1)
    p = Normal(mean, (5 * torch.tanh(raw / 5)).exp())
    shift, raw = level.q(torch.cat([t, features[0]], 1)).chunk(2, 1)
    q = Normal(p.mean + p.stddev * shift, p.stddev * (5 * torch.tanh(raw / 5)).exp())
    z = q.mean + q.stddev * epsilon
    torch.testing.assert_close(trace.log_ratio, (p.log_prob(z) - q.log_prob(z)).flatten(1).sum(1))
    kl = torch.distributions.kl_divergence(q, p).flatten(1).sum(1)
    torch.testing.assert_close(trace.kl[:, 0], kl)


def test_only_the_coarsest_prior_is_standard_and_the_others_follow_theta():
    for prior, standard in (("standard", [False, True]), ("learnt", [False, False])):
        surrogate = model(Law.of("ising", {"size": 4}), CVAEConfig(2, 2, 5, 3, 3, prior))
        seen = []
        for level in surrogate.hierarchy.levels:
            level.z.register_forward_hook(lambda _, args, out, seen=seen: seen.append(args[0]))
        c = torch.tensor([[-0.9], [0.9]])
        surrogate.hierarchy.descend(c, lambda level, shape: torch.ones(shape))
        assert [torch.equal(z, torch.ones_like(z)) for z in seen[::-1]] == standard
        assert [torch.equal(z[0], z[1]) for z in seen[::-1]] == standard


@pytest.mark.slow
def test_bounds_rise_with_the_number_of_draws_towards_the_exact_mixture():
    surrogate = trained(4)
    x = states(surrogate.law)[::4]
    theta = theta_of(surrogate.law, len(x))

    def bound(runs, draws):
        values = [surrogate.log_prob(theta, x, draws=draws, seed=s) for s in range(runs)]
        return torch.stack(values).mean(0)

    with torch.no_grad():
        elbo = torch.stack([-surrogate.loss(theta, x, generator(s)) for s in range(20)]).mean(0)
    few = bound(12, 4)
    for low, high in ((elbo, few), (few, bound(1, 200))):
        gain = high - low
        assert gain.mean() > 3 * gain.std() / math.sqrt(len(gain))
    difference = bound(20, 1) - elbo  # one draw of the weight, and the closed-form KL
    assert abs(difference.mean()) < 5 * difference.std() / math.sqrt(len(x))


def test_importance_weighted_loss_is_minus_log_prob_on_average():
    surrogate = model(BETA, CVAEConfig(2, 2, 5, 3, 3, importance_draws=7), 0.1)
    x = states(BETA)[:5].repeat_interleave(400, 0)
    theta = theta_of(BETA, len(x))
    with torch.no_grad():
        loss = surrogate.loss(theta, x, generator())
    difference = (loss + surrogate.log_prob(theta, x, draws=7)).view(5, 400)
    assert (difference.mean(1).abs() < 5 * difference.std(1) / 20).all()


@pytest.mark.slow
def test_stderr_is_the_spread_over_seeds():
    surrogate = trained(4)
    x = states(surrogate.law)[[0, 17, 255]]
    theta = theta_of(surrogate.law, 3)
    runs = [surrogate.log_prob_with_error(theta, x, draws=200, seed=s) for s in range(120)]
    spread = torch.stack([r.value for r in runs]).std(0)
    claimed = torch.stack([r.stderr for r in runs]).mean(0)
    assert (spread > 0.005).all()
    torch.testing.assert_close(claimed, spread, rtol=0.3, atol=0)
    assert surrogate.log_prob_with_error(theta, x, draws=1).stderr.isnan().all()


@pytest.mark.slow
def test_samples_follow_log_prob_over_all_states():
    surrogate, n = trained(4), 5000
    x = states(surrogate.law)
    p = surrogate.log_prob(theta_of(surrogate.law, len(x), 0.4), x, draws=150).exp()
    drawn = surrogate.sample(theta_of(surrogate.law, n, 0.4), generator())
    assert pearson(drawn, p.numpy(), n) > 1e-4
    assert pearson(-drawn, p.numpy(), n) < 1e-9


def test_no_rows_have_no_log_prob():
    empty = model(BETA).log_prob_with_error(theta_of(BETA, 0), states(BETA)[:0])
    assert empty.value.shape == empty.stderr.shape == (0,)


# --- the training loss ---------------------------------------------------------------------------


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 0.0), (0.1, 0.5), (0.2, 1.0), (1.0, 1.0)])
def test_warm_up_scales_kl_and_free_bits(progress, weight):
    surrogate = model(BETA, CVAEConfig(warm_up=0.2, free_bits=0.7)).train()
    kl = torch.tensor([[0.1, 2.0], [0.5, 3.0], [0.3, 1.0]])  # mean 0.3 is lifted to 0.7
    assert surrogate._penalty(kl, progress).mean() == pytest.approx(weight * (0.7 + 2.0))
    torch.testing.assert_close(surrogate.eval()._penalty(kl, progress), kl.sum(1))


def test_no_warm_up_is_full_weight_from_the_start():
    surrogate = model(BETA, CVAEConfig(warm_up=0.0, free_bits=0.0)).train()
    kl = torch.tensor([[0.1, 2.0], [0.5, 3.0]])
    torch.testing.assert_close(surrogate._penalty(kl, 0.0), kl.sum(1))


def test_free_bits_give_no_gradient_below_them():
    surrogate = model(BETA, CVAEConfig(free_bits=0.7)).train()
    kl = torch.tensor([[0.1, 2.0], [0.5, 3.0]], requires_grad=True)
    surrogate._penalty(kl, 1.0).mean().backward()
    torch.testing.assert_close(kl.grad, torch.tensor([[0.0, 0.5], [0.0, 0.5]]))


def test_training_loss_at_the_start_is_the_reconstruction_and_validation_the_bound():
    config = CVAEConfig(2, 2, 5, 3, 3, warm_up=0.5, free_bits=0.0)
    surrogate, x = model(BETA, config), states(BETA)
    theta = theta_of(BETA, len(x))
    c = surrogate.rescale(theta)

    def trace():
        g = generator(3)
        return surrogate.hierarchy.descend(
            c, lambda _, shape: torch.randn(shape, generator=g), surrogate.hierarchy.encode(x, c)
        )

    log_p = surrogate.decoder.log_prob(x, trace().h[:, None], c)[:, 0]
    for training, progress, weight in (
        (True, 0, 0),
        (True, 0.25, 0.5),
        (True, 1, 1),
        (False, 0, 1),
    ):
        loss = surrogate.train(training).loss(theta, x, generator(3), progress)
        torch.testing.assert_close(loss, weight * trace().kl.sum(1) - log_p)


# --- the decoder of spins ------------------------------------------------------------------------


def spins(law, stages, window=3, channels=5):
    return stirred(unseeded(CoarseToFine, law, channels, stages, window), 0.7)


def pearson(x, p, n):
    """p-value of Pearson's χ² of samples against probabilities of all states."""
    powers = 2 ** torch.arange(x[0].numel()).flip(0)
    counts = torch.bincount(((x.flatten(1) > 0) * powers).sum(1), minlength=len(p)).numpy()
    p = p / p.sum()
    return chi2.sf((((counts - n * p) ** 2) / (n * p)).sum(), len(p) - 1)


@pytest.mark.parametrize("symmetries", [("shift",), ()])
@pytest.mark.parametrize("stages", [1, 2, 4, 7])
@pytest.mark.parametrize("shape", [(2, 2), (2, 4), (3, 3), (1, 5)])
def test_factors_of_the_decoder_multiply_to_a_law(shape, stages, symmetries):
    law = lattice(*shape, symmetries)
    decoder, x = spins(law, stages), states(law)
    h = torch.randn(1, 1, 5, *shape, generator=generator())
    c = torch.tensor([[0.3, -0.7]])
    with torch.no_grad():
        log_p = decoder.log_prob(x, h.expand(len(x), -1, -1, -1, -1), c.expand(len(x), -1))
    assert log_p.double().exp().sum() == pytest.approx(1, abs=1e-5)
    assert (log_p.std() > 0.1).all()


def test_a_site_that_sees_its_own_stage_breaks_the_law():
    law = lattice(2, 3)
    decoder, x = spins(law, 2), states(law)
    decoder.visible.fill_(1.0)
    h = torch.randn(1, 1, 5, 2, 3, generator=generator()).expand(len(x), -1, -1, -1, -1)
    with torch.no_grad():
        log_p = decoder.log_prob(x, h, torch.zeros(len(x), 2))
    assert abs(log_p.exp().sum() - 1) > 0.1


def test_logits_are_those_of_the_whole_window_with_and_without_gradients():
    law = lattice(4, 6)
    decoder, n = spins(law, 0, window=5), law.size
    x = torch.randn(9, n, generator=generator())
    h = torch.randn(9, 1, n, 5, generator=generator())
    c = torch.randn(9, 2, generator=generator())
    stage = decoder.stage
    near, _ = windows((4, 6), 5, (True, True))
    visible = stage[near] < stage[:, None]
    gain, shift = decoder.film.coefficients(decoder._condition(c))
    found = [decoder.logits(x, h, c, torch.arange(n))[:, 0]]
    with torch.no_grad():
        found += [decoder.logits(x, h, c, torch.arange(n))[:, 0]]
    for shown in (visible, torch.ones_like(visible)):  # the second is the control
        seen = torch.einsum("bnm,nm,nmc->bnc", x[:, near], shown.float(), decoder.weight[stage])
        a = F.silu(gain[:, stage] * (seen + h[:, 0]) + shift[:, stage])
        expected = decoder.logit(F.silu(decoder.hidden(a)))[..., 0]
        for logits in found:
            if shown is visible:
                torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
            else:
                assert (logits - expected).abs().max() > 0.1


def test_film_of_groups_has_the_gradients_of_differences_and_theirs():
    def drawn(*shape):
        return torch.randn(shape, generator=generator(), dtype=torch.float64).requires_grad_()

    given, group = (drawn(4, 2, 3), drawn(3, 2, 3), drawn(3, 2, 3)), torch.tensor([0, 2, 2, 1])

    def modulated(h, gain, shift):
        return grouped_film(h, gain, shift, group).square()

    expected = (given[0] * given[1][group] + given[2][group]).square()
    torch.testing.assert_close(modulated(*given), expected)
    assert (grouped_film(*given, group.flip(0)).square() - expected).abs().max() > 0.1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # noqa: TID251
        assert torch.autograd.gradcheck(modulated, given, fast_mode=True)
        assert torch.autograd.gradgradcheck(modulated, given, fast_mode=True)


@pytest.mark.parametrize("shape", [(4, 6), (3, 5)])
def test_logits_see_earlier_stages_of_the_window_and_nothing_else(shape):
    law = lattice(*shape)
    decoder = spins(law, 4)
    n = law.size
    x = torch.randn(1, n, generator=generator(), requires_grad=True)
    h = torch.randn(1, 1, n, 5, generator=generator())
    logits = decoder.logits(x, h, torch.zeros(1, 2), torch.arange(n))[0, 0]
    i, j = np.divmod(np.arange(n), shape[1])
    for site in range(n):
        (seen,) = torch.autograd.grad(logits[site], x, retain_graph=True)
        di, dj = (i - i[site]) % shape[0], (j - j[site]) % shape[1]
        near = np.isin(di, (0, 1, shape[0] - 1)) & np.isin(dj, (0, 1, shape[1] - 1))
        earlier = (decoder.stage < decoder.stage[site]).numpy()
        np.testing.assert_array_equal(seen[0].numpy() != 0, near & earlier)


def test_decoder_of_several_fields_is_the_decoder_of_each():
    law = lattice(2, 3)
    decoder = spins(law, 3)
    x, c = states(law)[:7], torch.rand(7, 2, generator=generator())
    h = torch.randn(7, 4, 5, 2, 3, generator=generator())
    each = torch.cat([decoder.log_prob(x, h[:, k : k + 1], c) for k in range(4)], 1)
    torch.testing.assert_close(decoder.log_prob(x, h, c), each)


@pytest.mark.parametrize("stages", [1, 3])
def test_decoder_samples_follow_its_log_prob(stages):
    law, n = lattice(2, 3), 20_000
    decoder, x = spins(law, stages), states(law)
    h = torch.randn(1, 5, 2, 3, generator=generator())
    c = torch.tensor([[0.3, -0.7]])
    with torch.no_grad():
        log_p = decoder.log_prob(x, h.expand(len(x), 1, -1, -1, -1), c.expand(len(x), -1))[:, 0]
        drawn = decoder.sample(h.expand(n, -1, -1, -1), c.expand(n, -1), generator())
    assert pearson(drawn, log_p.exp().numpy(), n) > 1e-4
    assert pearson(drawn.flip(2), log_p.exp().numpy(), n) < 1e-9


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("shape", [(4, 6), (3, 5), (8, 8), (1, 7), (2, 2)])
def test_stages_partition_the_lattice(shape, stages):
    stage = stages_of(shape, stages)
    assert stage.shape == (math.prod(shape),)
    assert stage.min() == 0
    assert stage.max() < stages
    assert set(stage.tolist()) == set(range(stage.max() + 1))


def test_stages_of_eight_by_eight_halve_what_is_left():
    assert torch.bincount(stages_of((8, 8), 7)).tolist() == [1, 1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize("shape", [(4, 6), (8, 8), (2, 4)])
def test_neighbours_of_the_last_stage_are_in_earlier_ones(shape):
    for stages in (2, 3, 4):
        stage = stages_of(shape, stages).view(shape)
        last = stage == stages - 1
        assert last.sum() == last.numel() // 2
        for axis, step in itertools.product((0, 1), (-1, 1)):
            assert (stage.roll(step, axis)[last] < stages - 1).all()


@pytest.mark.parametrize("window", [1, 3, 4, 9])
@pytest.mark.parametrize("shape", [(3, 5), (2, 7), (4, 4)])
def test_windows_on_a_torus_are_relative_and_see_no_site_twice(shape, window):
    neighbours, inside = windows(shape, window, (True, True))
    assert inside.all()
    sides = [min(window, n) for n in shape]
    assert neighbours.shape == (math.prod(shape), math.prod(sides))
    steps = list(itertools.product(*[range(-((s - 1) // 2), s // 2 + 1) for s in sides]))
    for site, row in enumerate(neighbours.tolist()):
        i, j = divmod(site, shape[1])
        expected = [(i + a) % shape[0] * shape[1] + (j + b) % shape[1] for a, b in steps]
        assert row == expected
        assert len(set(row)) == len(row)


@pytest.mark.parametrize("window", [1, 3, 5, 9, 21])
def test_windows_on_an_open_lattice_end_at_its_edge(window):
    shape, half = (3, 5), window // 2
    neighbours, inside = windows(shape, window, (False, False))
    for site in range(15):
        i, j = divmod(site, 5)
        seen = neighbours[site][inside[site]].tolist()
        expected = {k for k in range(15) if abs(k // 5 - i) <= half and abs(k % 5 - j) <= half}
        assert set(seen) == expected
        assert len(seen) == len(expected)


# --- the decoder of reals ------------------------------------------------------------------------


@pytest.mark.parametrize("x_shape", [(3,), (2, 3)])
def test_gaussian_decoder_against_torch_distributions(x_shape):
    law = Law("none", Box(a=(0.0, 1.0)), x_shape)
    decoder = stirred(unseeded(GaussianDecoder, law, 5))
    sites = x_shape if len(x_shape) == 2 else (1, 1)
    h = 9 * torch.randn(7, 2, 5, *sites, generator=generator())
    x, c = torch.randn(7, *x_shape, generator=generator()), torch.zeros(7, 1)
    for k in range(2):
        mean, raw = decoder.head(h[:, k]).chunk(2, 1)
        law_of_x = Normal(mean.reshape(x.shape), (7 * torch.tanh(raw / 7)).exp().reshape(x.shape))
        expected = law_of_x.log_prob(x).flatten(1).sum(1)
        torch.testing.assert_close(decoder.log_prob(x, h, c)[:, k], expected)
    many = decoder.sample(h[:1, 0].expand(20_000, -1, -1, -1), c, generator())
    mean, log_sigma = decoder.moments(h[:1, 0])
    r = (many - mean) / log_sigma.exp()
    assert r.mean(0).abs().max() < 5 / math.sqrt(20_000)
    assert (r.std(0) - 1).abs().max() < 5 / math.sqrt(40_000)


def test_rescaled_data_have_the_rescaled_density():
    """x → s x with the transform fitted again: the same z, so log p falls by d log s."""
    surrogate = model(reals(3))
    x = torch.randn(50, 3, dtype=torch.float64, generator=generator()) + 2
    theta = theta_of(surrogate.law, 50)

    def log_p(scale):
        surrogate.transform.fit(scale * x)
        bound = -surrogate.loss(theta, scale * x, generator()).double()
        return torch.stack([surrogate.log_prob(theta, scale * x, draws=7), bound])

    for scale in (1e-3, 700.0):
        moved = log_p(scale) + 3 * math.log(scale)
        torch.testing.assert_close(moved, log_p(1.0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", ["mixture", "student"])
def test_density_of_a_mixture_decoder_integrates_to_one_under_any_latents(head):
    surrogate = model(reals(2, 1), CVAEConfig(2, 1, 5, head=head), 0.1)
    edge = torch.linspace(-30, 30, 121)
    x = torch.stack(torch.meshgrid(edge, edge, indexing="ij"), -1).view(-1, 2)
    surrogate.transform.std.fill_(2.0)
    log_p = surrogate.log_prob_with_error(theta_of(surrogate.law, len(x)), x, draws=2)
    p = log_p.value.exp() * 0.5**2
    error = float((p * log_p.stderr).norm())
    assert abs(float(p.sum()) - 1) < 5 * error + 0.01
    assert error < 0.1


def test_a_mixture_decoder_integrates_out_what_is_missing():
    """Against a sum over what is missing; a value in its place would give another density."""
    law = replace(reals(2, 1), missing=True)
    decoder = stirred(unseeded(MixtureDecoder, law, 5, 3, False), 0.1)
    h, c = torch.randn(1, 4, 5, 1, 1, generator=generator()), torch.zeros(1, 1)
    edge = torch.linspace(-24, 24, 1921)
    x = torch.stack([torch.full_like(edge, 0.7), edge], 1)
    many = decoder.log_prob(x, h.expand(len(x), -1, -1, -1, -1), c.expand(len(x), -1)).exp()
    alone = decoder.log_prob(torch.tensor([[0.7, math.nan]]), h, c)[0].exp()
    torch.testing.assert_close(0.025 * many.sum(0), alone, rtol=1e-3, atol=0)
    assert not torch.allclose(many[960], alone, rtol=0.05)
    nothing = decoder.log_prob(torch.full((1, 2), math.nan), h, c)
    torch.testing.assert_close(nothing, torch.zeros(1, 4), atol=1e-5, rtol=0)


def test_heads_that_do_not_fit_are_refused_and_auto_takes_what_does():
    heads = {
        MixtureDecoder: [reals(3), reals(64), replace(reals(3), missing=True)],
        GaussianDecoder: [reals(65), Law("none", Box(a=(0.0, 1.0)), (4, 4))],
    }
    for decoder, laws in heads.items():
        assert all(type(CVAE.create(law, CVAEConfig()).decoder) is decoder for law in laws)
    with pytest.raises(UsageError, match="take head independent"):
        CVAE.create(reals(65), CVAEConfig(head="mixture"))
    with pytest.raises(UsageError, match="take mixture"):
        CVAE.create(replace(reals(3), missing=True), CVAEConfig(head="student"))


def test_a_file_of_an_earlier_version_keeps_its_decoder(tmp_path):
    surrogate = model(reals(3), replace(SMALL, head="independent"))
    described = surrogate.describe()
    del described["options"]["head"]
    save_tensors(tmp_path / "old.pt", surrogate.state_dict(), described)
    found, _ = load_surrogate(tmp_path / "old.pt", torch.device("cpu"))
    theta, x = theta_of(surrogate.law, 4), torch.randn(4, 3, generator=generator())
    assert found.log_prob(theta, x, draws=3).equal(surrogate.log_prob(theta, x, draws=3))


# --- the hierarchy -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "levels", "grids"),
    [
        ((8, 8), 3, [(4, 4), (2, 2), (1, 1)]),
        ((8, 8), 2, [(4, 4), (2, 2)]),
        ((4, 6), 3, [(2, 3), (1, 3)]),
        ((3, 5), 3, [(1, 1)]),
        ((1, 1), 3, [(1, 1)]),
    ],
)
def test_grids_halve_even_axes(shape, levels, grids):
    assert grids_of(lattice(*shape), levels) == grids


def test_encoder_follows_translations_of_the_torus():
    law = lattice(8, 12)
    hierarchy = stirred(unseeded(Latents, law, 2, 5, 2))
    c = torch.rand(3, 2, generator=generator())
    x = torch.randn(3, 8, 12, generator=generator()).sign()
    shifted = hierarchy.encode(x.roll((4, -4), (1, 2)), c)
    for level, (a, b) in enumerate(zip(hierarchy.encode(x, c), shifted, strict=True)):
        step = 4 // 2 ** (level + 1)
        torch.testing.assert_close(b, a.roll((step, -step), (2, 3)))
    other = hierarchy.encode(x.roll(1, 1), c)[0]
    assert not torch.allclose(other, hierarchy.encode(x, c)[0])


def test_priors_and_decoder_of_the_torus_do_not_know_its_origin():
    """The noise moved by a site of the coarsest grid moves the spins."""
    surrogate = model(lattice(4, 8), CVAEConfig(2, 2, 5, 3, 3))
    numbers = [torch.randn(1, *s, generator=generator()) for s in surrogate.hierarchy.shapes]
    c = torch.tensor([[0.3, -0.7]])
    h = surrogate.hierarchy.descend(c, lambda level, shape: numbers[level]).h
    moved = [z.roll(2 // 2**level, 3) for level, z in enumerate(numbers)]
    again = surrogate.hierarchy.descend(c, lambda level, shape: moved[level]).h
    near = {"rtol": 1e-4, "atol": 1e-4}  # sums in another order, which the processor chooses
    torch.testing.assert_close(again, h.roll(4, 3), **near)
    assert not torch.allclose(again, h, **near)


# --- random numbers ------------------------------------------------------------------------------


def test_noise_is_a_function_of_seed_index_stream_and_draw():
    index = torch.tensor([5, 0, 5, 3])
    noise = Noise(index, 7)
    few, many = noise.normal(3, 2, 5, stream=1), noise.normal(11, 2, 5, stream=1)
    assert few.shape == (4, 3, 2, 5)
    assert torch.equal(many[:, :3], few)
    assert torch.equal(few[0], few[2])
    assert torch.equal(Noise(index.flip(0), 7).normal(3, 2, 5, stream=1), few.flip(0))
    others = [
        noise.normal(3, 2, 5, stream=0),
        Noise(index, 8).normal(3, 2, 5, stream=1),
        Noise(index + 1, 7).normal(3, 2, 5, stream=1),
        few.roll(1, 1),
    ]
    for other in others:
        assert not torch.isclose(few, other).any()


def test_noise_is_standard_normal_and_independent():
    n, m = 101, 997
    rows = [
        Noise(torch.arange(n), seed).normal(m, 1, stream=stream)[..., 0]
        for seed, stream in ((0, 0), (0, 1), (1, 0))
    ]
    numbers = torch.stack(rows).double()
    size = numbers.numel()
    assert abs(numbers.mean()) < 5 / math.sqrt(size)
    assert abs(numbers.pow(2).mean() - 1) < 5 * math.sqrt(2 / size)
    assert abs(numbers.pow(4).mean() - 3) < 5 * math.sqrt(96 / size)
    correlation = torch.corrcoef(numbers.view(3 * n, m))
    off = correlation[~torch.eye(3 * n, dtype=torch.bool)]
    assert off.abs().max() < 5.5 / math.sqrt(m)
    lag = (numbers[..., 1:] * numbers[..., :-1]).mean()
    assert abs(lag) < 5 / math.sqrt(size)


def test_levels_draw_from_streams_of_their_own(monkeypatch):
    streams, normal = [], Noise.normal

    def recorded(self, *shape, stream=0):
        streams.append(stream)
        return normal(self, *shape, stream=stream)

    monkeypatch.setattr(Noise, "normal", recorded)
    model(BETA).log_prob_with_error(theta_of(BETA), states(BETA)[:1], draws=3)
    assert sorted(streams) == [0, 1]


# --- odds and ends -------------------------------------------------------------------------------


def test_a_traverse_moves_one_latent_and_holds_the_rest():
    surrogate = model(Law.of("ising", {"size": 4}), CVAEConfig(2, 2, 5, 3, 3))
    theta = theta_of(surrogate.law)
    named = dict(surrogate.latents(theta))
    assert list(named) == ["z2 on 1×1", "z1 on 2×2"]
    assert all(x.shape == (5, 4, 4) for x in named.values())
    assert all(torch.equal(x, dict(surrogate.latents(theta))[k]) for k, x in named.items())


@pytest.mark.parametrize("bad", [{"levels": 0}, {"warm_up": 1.1}, {"free_bits": math.nan}])
def test_options_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))}: expected"):
        CVAEConfig(**bad)


def test_spins_are_kept_as_they_are():
    assert isinstance(model(BETA).transform, Identity)
    assert find("surrogates", "cvae") is CVAE


@pytest.mark.slow
def test_posteriors_take_the_fewest_draws_that_held_out_rows_need(tmp_path, monkeypatch):
    field, rng = GaussianField(4), np.random.default_rng(0)
    theta = field.prior.sample(53, rng)
    x = torch.from_numpy(field.sample(theta, rng))
    theta = torch.from_numpy(theta)
    model = CVAE.create(Law.of("gaussian-field", {"size": 4}), CVAEConfig()).eval()
    model.fit_transform(x)
    for weight in model.parameters():  # latents that do not fall silent
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator())
    moved = theta - 0.1 * torch.tensor([1.0, 1.5]) * (theta - torch.tensor([0.0, 2.0])).sign()
    seen = {}
    for k in (2, 8):
        seeds = [
            model.log_prob(moved, x, draws=k, seed=s) - model.log_prob(theta, x, draws=k, seed=s)
            for s in range(2, 18)
        ]
        seen[k] = torch.stack(seeds).std(0).square().mean().sqrt().item()
    assert seen[8] < 0.8 * seen[2]
    monkeypatch.setattr(CVAE, "parts", {})
    for precise, expected in ((10 * seen[2], 2), (0.2 * seen[8], 32)):
        monkeypatch.setattr("physgen.surrogates.fewest_draws.PRECISE", precise)
        model.finalize(0, theta, x)
        assert model.posterior_draws == expected
    save_surrogate(model, tmp_path / "m.pt", {})
    assert (
        load_surrogate(tmp_path / "m.pt", torch.device("cpu"))[0].posterior_draws
        == model.posterior_draws
    )


def test_posteriors_take_all_draws_where_the_bound_of_few_is_looser_at_some_theta(monkeypatch):
    field = Law.of("gaussian-field", {"size": 4})
    model = CVAE.create(field, CVAEConfig())
    theta = torch.from_numpy(field.prior.sample(7, np.random.default_rng(0)))
    for looser, expected in ((0.1, 2), (5.0, 8), (100.0, 32)):

        def log_prob(self, theta, x, *, draws, seed, looser=looser):
            return -looser * theta[:, 0] / draws

        monkeypatch.setattr(CVAE, "log_prob", log_prob)
        model.finalize(0, theta, torch.zeros(7, 4, 4))
        assert model.posterior_draws == expected
    model.finalize()
    assert model.enough == model.posterior_draws == 32, "without rows nothing is known"


def test_draws_that_do_on_one_lattice_are_not_those_of_another():
    model = CVAE.create(Law.of("ising", {"size": 8}), SMALL)
    model.enough.fill_(2)
    model.load_state_dict(model.state_dict())
    assert model.posterior_draws == 2
    assert model.at(Law.of("ising", {"size": 16})).posterior_draws == 32


def test_a_file_of_real_maps_of_before_means_what_it_did(tmp_path):
    """log p that the version before the regressions wrote, of weights that a seed tells."""
    law = Law.of("gaussian-field", {"size": 4})
    field, rng = law.build(), np.random.default_rng(0)
    theta = field.prior.sample(60, rng)
    x = field.sample(theta, rng)
    model = CVAE.create(law, CVAEConfig(channels=8, latent_dim=2), seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for w in model.parameters():
            w += 0.03 * torch.randn(w.shape, generator=generator)
    model.fit_transform(torch.from_numpy(x), torch.from_numpy(theta))
    later = {"waves.location", "waves.power"}
    weights = {k.replace("waves.affine.", "affine."): v for k, v in model.state_dict().items()}
    save_tensors(
        tmp_path / "m.pt",
        {k: v for k, v in weights.items() if k not in later},
        model.describe() | {"provenance": {"version": "0"}},
    )
    opened, _ = load_surrogate(tmp_path / "m.pt", torch.device("cpu"))
    expected = torch.tensor([-22.3861, -20.3609, -65.4093], dtype=torch.float64)
    found = opened.log_prob(theta[:3], x[:3], draws=4)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    assert not torch.allclose(model.log_prob(theta[:3], x[:3], draws=4), expected, atol=0.1)


def test_a_file_without_that_number_opens_with_the_default(tmp_path):
    model = CVAE.create(BETA, SMALL)
    save_surrogate(model, tmp_path / "m.pt", {})
    weights, info = load_tensors(tmp_path / "m.pt")
    del weights["enough"]
    save_tensors(tmp_path / "old.pt", weights, info)
    assert load_surrogate(tmp_path / "old.pt", torch.device("cpu"))[0].posterior_draws == 32

"""Discrete latents of the conditional VAE, and gradients by the score function, by second routes:
sums over all states and draws, autograd through the probabilities, reparametrised gradients."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from benchmarks.gradients import MODELS, Bumps, gap, noise, trained
from physgen.law import Law
from physgen.nn.tensors import save_tensors
from physgen.surrogates import cvae
from physgen.surrogates.base import Likelihood
from physgen.surrogates.checkpoint import load_surrogate
from physgen.surrogates.cvae import CVAE, CVAEConfig
from physgen.surrogates.cvae.latent_laws import BinaryLatents, NormalLatents, bounded
from physgen.testing import check_surrogate

VECTOR = Law.of("gaussian", {"size": 2, "parameters": 1})
MIXTURE = CVAEConfig(3, 1, 5, 2, 3, latents="mixture")
BINARY = CVAEConfig(2, 1, 5, 2, 3, latents="binary")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def stirred(law, config, scale=0.1):
    made, g = CVAE.create(law, config, 0), generator()
    with torch.no_grad():
        for w in made.parameters():
            w += scale * torch.randn(w.shape, generator=g)
    return made.eval()


def theta_of(law, n, at=0.3):
    return torch.from_numpy(law.prior.low + at * (law.prior.high - law.prior.low)).expand(n, -1)


def forced(noise):
    """What takes the place of `fresh`: the noise of one level, (B, S)."""
    return lambda _: lambda level, shape: noise.view(shape)


# --- log p ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [MIXTURE, BINARY], ids=["mixture", "binary"])
def test_exact_log_p_is_what_the_bound_of_many_draws_goes_to(config, monkeypatch):
    model, x = stirred(VECTOR, config), torch.randn(7, 2, generator=generator())
    found = model.log_prob_with_error(theta_of(VECTOR, 7), x)
    assert found.kind is Likelihood.EXACT
    assert (found.stderr == 0).all()
    monkeypatch.setattr(model.hierarchy, "states", None)
    drawn = model.log_prob_with_error(theta_of(VECTOR, 7), x, draws=20_000)
    assert drawn.kind is Likelihood.BOUND
    assert ((drawn.value - found.value).abs() < 5 * drawn.stderr + 1e-5).all()
    assert (drawn.stderr < 0.02).all()


def test_each_state_of_bits_is_drawn_by_its_noise_however_unlikely():
    law, odds = BinaryLatents(), torch.tensor([[-200.0, 200.0, 0.0]])
    noise = law.states(3, 8)
    drawn = law.draw(odds.expand(8, -1), None, noise)
    torch.testing.assert_close(drawn.z, (noise < 0).float())
    assert drawn.log_drawn.logsumexp(0).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("config", [MIXTURE, BINARY], ids=["mixture", "binary"])
def test_density_integrates_to_one_and_draws_follow_it(config):
    model, edge = stirred(VECTOR, config), torch.linspace(-20, 20, 201)
    x = torch.stack(torch.meshgrid(edge, edge, indexing="ij"), -1).view(-1, 2)
    p = model.log_prob(theta_of(VECTOR, len(x)), x).exp() * 0.2**2
    assert float(p.sum()) == pytest.approx(1, abs=1e-3)
    mean = (p[:, None] * x).sum(0)
    spread = (p[:, None] * (x - mean) ** 2).sum(0).sqrt()
    many = model.sample(theta_of(VECTOR, 20_000), generator()).double()
    assert ((many.mean(0) - mean).abs() < 5 * spread / math.sqrt(20_000)).all()
    torch.testing.assert_close(many.std(0), spread, rtol=0.03, atol=0)


@pytest.mark.parametrize("config", [MIXTURE, BINARY], ids=["mixture", "binary"])
def test_probabilities_of_all_spins_sum_to_one(config, monkeypatch):
    """In a hierarchy of latents on a lattice; without p(z)/q(z|x) they do not."""
    law = Law.of("ising", {"size": 2, "width": 4})
    model = stirred(law, replace(config, levels=2))
    x = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=8))).view(-1, 2, 4)
    found = model.log_prob_with_error(theta_of(law, len(x)), x, draws=100)
    assert found.kind is Likelihood.BOUND
    p = found.value.exp()
    assert abs(p.sum() - 1) < 5 * (p * found.stderr).norm()
    assert (p * found.stderr).norm() < 0.05


def test_a_gaussian_mixture_is_what_a_mixture_of_vectors_is():
    """Against Σ p(k|θ) N(x; μ_k(θ), Σ_k(θ)), each term by torch's own distributions."""
    model, x = stirred(VECTOR, MIXTURE), torch.randn(7, 2, generator=generator())
    c = model.rescale(theta_of(VECTOR, 7))
    level = model.hierarchy.levels[0]
    t = level.field(model.hierarchy.top.expand(7, -1, 1, 1), c)
    log_p = level.p(t).flatten(1).log_softmax(1)
    terms = []
    for k, state in enumerate(torch.eye(3)):
        h = level.up(torch.nn.functional.silu(t + level.z(state.view(1, 3, 1, 1))))
        h = model.hierarchy.film(model.hierarchy.last(h), c)
        law = model.decoder.net(c, h.flatten(1)[:, None])
        assert law.mean.shape == (7, 1, 1, 2)
        precision = law.precision_root.mT @ law.precision_root
        normal = torch.distributions.MultivariateNormal(law.mean, precision_matrix=precision)
        terms.append(log_p[:, k] + normal.log_prob(x.view(7, 1, 1, 2))[:, 0, 0])
    expected = torch.stack(terms).logsumexp(0).double()
    torch.testing.assert_close(model.log_prob(theta_of(VECTOR, 7), x), expected)


# --- gradients -----------------------------------------------------------------------------------


def gradient(value, model):
    found = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in found if g is not None])


def gradients(config, draws, monkeypatch):
    """Mean of the estimated gradient over all tuples of draws, and the exact one of the bound."""
    model = stirred(VECTOR, config).double()
    x, theta = torch.tensor([[0.7, -0.4]], dtype=torch.float64), theta_of(VECTOR, 1)
    c, states = model.rescale(theta).double(), model.hierarchy.states.double()
    trace, log_p = model._drawn(
        c, x, lambda _, shape: states.view(shape), model.hierarchy.encode(x, c), len(states)
    )
    log_q, log_w = trace.log_drawn, log_p[0] + trace.log_ratio
    z = torch.tensor(list(itertools.product(range(len(states)), repeat=draws)))
    p = log_q[z].sum(1).exp()
    one = config.importance_draws == 1
    bound = log_w[z].mean(1) if one else log_w[z].logsumexp(1) - math.log(draws)
    exact = gradient(-(p * bound).sum(), model)
    monkeypatch.setattr(cvae, "fresh", forced(states[z].flatten(0, 1)))
    loss = model._loss(c.expand(len(z), -1), x.expand(len(z), -1), generator(), 1.0)
    return gradient((p.detach() * loss).sum(), model), exact


@pytest.mark.parametrize("config", [MIXTURE, BINARY], ids=["mixture", "binary"])
@pytest.mark.parametrize("draws", [1, 2])
def test_mean_gradient_over_all_draws_is_that_of_the_bound(config, draws, monkeypatch):
    """Of all weights; without the score function's term it is another."""
    config = replace(config, importance_draws=draws)
    draws = cvae.SCORE_DRAWS if draws == 1 else draws
    mean, exact = gradients(config, draws, monkeypatch)
    assert (mean - exact).norm() < 1e-6 * exact.norm()
    monkeypatch.setattr(cvae, "leave_one_out", lambda f, log_q: f.mean(1))
    monkeypatch.setattr(cvae, "vimco", lambda w, log_q: w.logsumexp(1) - math.log(w.shape[1]))
    wrong, exact = gradients(config, draws, monkeypatch)
    assert (wrong - exact).norm() > 1e-4 * exact.norm()


def test_normal_latents_as_constants_have_the_densities_of_torch_distributions():
    """Values, and gradients by the numbers of p and q, at the z that was drawn."""
    p, q, epsilon = (
        torch.randn(7, n, 2, 2, dtype=torch.float64, generator=generator(n)) for n in (10, 10, 5)
    )
    p, q = p.requires_grad_(), q.requires_grad_()
    drawn = NormalLatents().draw(p, q, epsilon, pathwise=False)
    assert not drawn.z.requires_grad
    (mean, log_sigma), (shift, log_r) = bounded(p), bounded(q)
    prior = Normal(mean, log_sigma.exp())
    encoder = Normal(mean + log_sigma.exp() * shift, (log_sigma + log_r).exp())
    log_p, log_q = (law.log_prob(drawn.z).flatten(1).sum(1) for law in (prior, encoder))
    torch.testing.assert_close(drawn.log_ratio, log_p - log_q)
    pairs = ((drawn.log_ratio, log_p - log_q), (drawn.log_drawn, log_q))
    for found, expected in pairs:
        slopes = [
            torch.autograd.grad(v.sum(), (p, q), retain_graph=True) for v in (found, expected)
        ]
        torch.testing.assert_close(*slopes)
    moved = NormalLatents().draw(p, q, epsilon)
    torch.testing.assert_close(moved.z.detach(), drawn.z)
    assert moved.z.requires_grad


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("draws", [1, 3])
def test_score_function_of_normal_latents_is_the_reparametrised_gradient(levels, draws):
    """On average over noise, for sums of the weights of q and of p; the value is the same."""
    config = CVAEConfig(2, levels, 5, 2, 3, importance_draws=draws, warm_up=0.0, free_bits=0.0)
    law = Law.of("ising", {"size": 4})
    n, x = 1200, torch.ones(1, 4, 4)
    x[0, :2, 0] = -1
    found = []
    for way in ("reparametrised", "score"):
        model = stirred(law, replace(config, gradient=way))
        theta = theta_of(law, 60)
        weights = [w for level in model.hierarchy.levels for w in (level.q.weight, level.p.bias)]
        each = []
        for seed in range(n // 60):
            loss = model.loss(theta, x.expand(60, -1, -1), generator(seed)).mean()
            got = torch.autograd.grad(loss, weights)
            each.append(torch.stack([g.sum() for g in got] + [loss.detach()]))
        found.append(torch.stack(each))
    (a, b), m = found, len(found[0])
    error = (a.var(0) / m + b.var(0) / m).sqrt()
    assert ((a.mean(0) - b.mean(0)).abs() < 5 * error).all()
    assert (a.mean(0).abs() > 10 * a.std(0) / math.sqrt(m)).any()


def test_the_gradient_that_trains_says_nothing_of_log_p():
    """Nor of its derivatives by θ, which go through the draws."""
    x, values = torch.randn(5, 2, generator=generator()), []
    for way in ("reparametrised", "score"):
        model = stirred(VECTOR, CVAEConfig(2, 1, 5, head="independent", gradient=way))
        theta = theta_of(VECTOR, 5).clone().requires_grad_()
        log_p = model.log_prob(theta, x, draws=7)
        values.append((log_p.detach(), torch.autograd.grad(log_p.sum(), theta)[0]))
    torch.testing.assert_close(*values)


# --- a law of bumps ------------------------------------------------------------------------------


def test_exact_log_p_of_the_bumps_is_that_of_torch_distributions():
    law, rng = Bumps(), np.random.default_rng(0)
    theta = law.prior.sample(5, rng)
    x = law.sample(theta, rng)
    weight, mean, width = (torch.from_numpy(v) for v in law.bumps(theta))
    mixture = MixtureSameFamily(
        Categorical(weight), Independent(Normal(mean, width[..., None].expand(5, 3, 2)), 1)
    )
    expected = mixture.log_prob(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(law.log_prob(theta, x), expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mixture", "normal"])
def test_estimators_of_the_benchmark_are_right_and_baselines_make_them_quieter(kind):
    model = trained(1, 0, **MODELS[kind])[0]
    told = noise(model, 300)
    control = told.pop("ELBO, own draw in baseline (control)")
    assert max(one.off for one in told.values()) < 6 < control.off
    assert told["ELBO, leave-one-out"].noise < 0.5 * told["ELBO, no baseline"].noise
    assert told["IWAE, VIMCO"].noise < 0.5 * told["IWAE, no baseline"].noise


@pytest.mark.slow
def test_states_that_the_score_function_trains_find_the_bumps(monkeypatch):
    """And those that it does not train do not."""
    found, _ = gap(trained(10, 0, **MODELS["mixture"])[0])
    monkeypatch.setattr(cvae, "leave_one_out", lambda f, log_q: f.mean(1))
    without, _ = gap(trained(10, 0, **MODELS["mixture"])[0])
    assert found < 0.5 * without


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"latents": "mixture", "gradient": "reparametrised"},
            "latents mixture have no",
        ),
        ({"latents": "binary", "gradient": "reparametrised"}, "expected score or auto"),
        ({"latents": "mixture", "latent_dim": 1}, "expected at least 2 states"),
    ],
)
def test_options_that_cannot_be_together_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CVAEConfig(**options)


def test_log_p_is_exact_of_few_states_of_one_site_only():
    few = {"mixture": 256, "binary": 8}
    for latents, most in few.items():
        for law, latent_dim, likelihood in (
            (VECTOR, most, Likelihood.EXACT),
            (VECTOR, most + 1, Likelihood.BOUND),
            (Law.of("ising", {"size": 4}), 2, Likelihood.BOUND),
        ):
            config = CVAEConfig(latent_dim, 2, 5, 2, 3, latents=latents)
            assert CVAE.create(law, config).likelihood is likelihood
    assert CVAE.create(VECTOR, CVAEConfig(2)).likelihood is Likelihood.BOUND


@pytest.mark.parametrize("law", [VECTOR, Law.of("ising", {"size": 4})], ids=["vector", "spins"])
@pytest.mark.parametrize(
    "config",
    [MIXTURE, BINARY, CVAEConfig(2, 1, 5, 2, 3, gradient="score")],
    ids=["mixture", "binary", "normal"],
)
def test_the_contract_holds(law, config):
    assert check_surrogate(stirred(law, config)) == []


def test_a_file_of_an_earlier_version_has_normal_latents(tmp_path):
    model = stirred(VECTOR, CVAEConfig(2, 1, 5))
    described = model.describe()
    for name in ("latents", "gradient"):
        del described["options"][name]
    save_tensors(tmp_path / "old.pt", model.state_dict(), described)
    found, _ = load_surrogate(tmp_path / "old.pt", torch.device("cpu"))
    theta, x = theta_of(VECTOR, 4), torch.randn(4, 2, generator=generator())
    assert found.log_prob(theta, x, draws=3).equal(model.log_prob(theta, x, draws=3))


def test_discrete_latents_have_no_line_to_be_looked_at():
    assert not list(stirred(VECTOR, MIXTURE).latents(theta_of(VECTOR, 1)))

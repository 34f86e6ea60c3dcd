"""Hurdles: densities by quadrature and by scipy, samples as distributions, volumes by autograd."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from scipy import integrate, special, stats

from physgen.law import Law
from physgen.nn.hurdle import HurdleGamma, hits, shown, stirling
from physgen.nn.transforms import LogHurdle, for_support
from physgen.surrogates.autoregressive import Autoregressive
from physgen.surrogates.diffusion import Diffusion
from physgen.surrogates.diffusion.hurdle import split_hits
from simulators.prior import Box

INF = math.inf
PRIOR = Box(a=(0.0, 1.0))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def raw(*shape, components=3, seed=0):
    numbers = HurdleGamma.parameters(components)
    return torch.randn(*shape, numbers, generator=generator(seed), dtype=torch.float64)


def law(size):
    return Law("none", PRIOR, (size,), "nonnegative")


def scrambled(family, size, scale=0.2):
    """A surrogate whose layers that start at zero do not."""
    model = family.create(law(size), family.Config(), seed=1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += scale * torch.randn(weight.shape, generator=generator(2))
    return model.double().eval()


# --- the law -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_atom_and_density_sum_to_one(seed):
    one = HurdleGamma(raw(seed=seed))

    def density(u):
        return one.log_prob(torch.tensor(u, dtype=torch.float64)).exp().item()

    mass = integrate.quad(density, -60, 15, limit=500, epsabs=1e-10)[0]
    assert mass + density(-INF) == pytest.approx(1, abs=1e-8)


def test_density_against_scipy():
    r = raw(7, seed=3)
    one, u = HurdleGamma(r), torch.linspace(-4, 2, 7, dtype=torch.float64)
    x, a, m = u.exp()[:, None], one.shape, one.mean.exp()
    f = torch.from_numpy(stats.gamma.pdf(x.numpy(), a.numpy(), scale=(m / a).numpy()))
    f = (one.log_weight.exp() * f).sum(-1) * u.exp()
    expected = (f * r[:, 0].sigmoid()).log()
    torch.testing.assert_close(one.log_prob(u), expected)


def test_stirling_against_the_gamma_function():
    a = torch.logspace(-0.5, 4, 200, dtype=torch.float64)
    expected = a * a.log() - a - torch.from_numpy(special.gammaln(a.numpy()))
    torch.testing.assert_close(stirling(a), expected, atol=1e-8, rtol=1e-8)
    single = stirling(a.float()).double()
    torch.testing.assert_close(single, expected, atol=3e-5, rtol=1e-5)


def test_samples_follow_the_law():
    r = raw(seed=4)
    u = HurdleGamma(r.expand(100_000, -1)).sample(generator(5))
    one = HurdleGamma(r)
    n, expected = int((~hits(u)).sum()), (-r[0]).sigmoid().item()
    assert stats.binomtest(n, len(u), expected).pvalue > 1e-4

    def p_value(shift):
        x, a, m = u[hits(u)].exp().numpy(), one.shape.numpy(), (one.mean + shift).exp().numpy()
        w = one.log_weight.exp().numpy()
        cdf = (w * stats.gamma.cdf(x[:, None], a, scale=m / a)).sum(-1)
        return stats.kstest(cdf, "uniform").pvalue

    assert p_value(0.0) > 1e-4
    assert p_value(0.1) < 1e-6, "the control: means 10 % higher"


def test_zeros_pass_no_gradient_that_is_not_a_number():
    r = raw(4).requires_grad_()
    u = torch.tensor([-INF, 0.0, 80.0, -80.0], dtype=torch.float64)
    HurdleGamma(r).log_prob(u).sum().backward()
    assert r.grad.isfinite().all()


def test_networks_are_shown_hits_and_logarithms():
    u = torch.tensor([[-INF, 2.0]])
    assert shown(u).tolist() == [[-1, 1, 0, 2]]


# --- the map -------------------------------------------------------------------------------------


def test_the_map_has_an_inverse_and_its_volume_by_autograd():
    x = torch.rand(97, 3, generator=generator(), dtype=torch.float64) + 0.1
    x[::2, 1] = 0
    x[:, 2] = 0
    transform = LogHurdle(replace(law(3), dtype="float64"))
    transform.fit(x)
    torch.testing.assert_close(transform.inverse(transform(x)), x, rtol=1e-5, atol=0)
    assert not hits(transform(x))[:, 2].any()
    y = x[1, :2]
    jacobian = torch.autograd.functional.jacobian(lambda v: v.log() - transform.mean[:2], y)
    expected = torch.linalg.slogdet(jacobian)[1]
    torch.testing.assert_close(transform.log_det(x[1:2])[0], expected)
    assert transform.log_det(torch.zeros(1, 3)).item() == 0, "atoms have no volume"
    assert isinstance(for_support(law(3)), LogHurdle)


def test_what_is_below_the_least_of_the_training_data_is_not_read_out():
    transform = LogHurdle(law(2))
    transform.fit(torch.tensor([[0.0, 0.5], [2.0, 0.25]]))
    assert transform.read_out(torch.tensor([[0.2, 0.3]])).tolist() == [[0, pytest.approx(0.3)]]


# --- families ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_autoregressive_model_is_normalised():
    """All patterns of hits of two components, each with its integral."""
    model = scrambled(Autoregressive, 2, scale=0.05)
    z = torch.linspace(-40, 6, 400, dtype=torch.float64)
    total = 0.0
    for pattern in itertools.product([False, True], repeat=2):
        axes = [z if hit else torch.tensor([-INF], dtype=torch.float64) for hit in pattern]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
        c = torch.full((len(grid), 1), 0.3, dtype=torch.float64)
        p = model._log_prob(c, grid, None, 1)[0].exp().sum().item()
        total += p * float(z[1] - z[0]) ** sum(pattern)
    assert total == pytest.approx(1, abs=1e-4)


def test_hits_of_the_diffusion_sum_to_one():
    """Every chain of the masked kernel is a normalised law of the hits."""
    model = scrambled(Diffusion, 3)
    kernel = model.kernel.hits
    x = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)), dtype=torch.float64)
    ranks = torch.tensor([[2, 0, 1]]).expand(len(x), -1)
    c = torch.full((len(x), 1), -0.4, dtype=torch.float64)
    log_p = kernel._chain(c, x, ranks, kernel.cuts(0), None)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_what_is_not_hit_holds_nothing():
    """The Gaussian bound counts hit components alone, and does not see what others would hold."""
    kernel = scrambled(Diffusion, 4).kernel.values
    c = torch.zeros(8, 5, dtype=torch.float64)
    x = torch.randn(8, 4, generator=generator(3), dtype=torch.float64)
    every, none = torch.ones(8, 4), torch.zeros(8, 4)
    whole = kernel.loss(c, x, generator(4))
    torch.testing.assert_close(kernel.loss(c, x, generator(4), every), whole)
    assert not kernel.loss(c, x, generator(4), none).any()
    parts = [kernel.loss(c, x, generator(4), torch.eye(4)[i].expand(8, -1)) for i in range(4)]
    torch.testing.assert_close(sum(parts), whole)


def test_splitting_keeps_hits_and_values():
    spins, values = split_hits(torch.tensor([[-INF, 1.5]]))
    assert spins.tolist() == [[-1, 1]]
    assert values.tolist() == [[0, 1.5]]

"""Mixtures: mass by quadrature and by sums, densities by scipy, samples as distributions."""

import math

import pytest
import torch
from scipy import integrate, stats

from physgen.nn.mixtures import CountMixture, GaussianMixture, StudentTMixture

REAL = {"gaussian": GaussianMixture, "student": StudentTMixture}
COUNTS = {
    "counts": {},
    "counts, in their own units": {"mean": 3.0, "width": 2.0},
    "up to seven": {"most": 7},
    "zero or one": {"most": 1},
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def raw(law, *shape, components=3, seed=0):
    numbers = law.parameters(components)
    return torch.randn(*shape, numbers, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("law", REAL.values(), ids=REAL)
@pytest.mark.parametrize("seed", range(3))
def test_densities_integrate_to_one(law, seed):
    one = law(raw(law, seed=seed))

    def density(y):
        z = torch.tensor(math.sinh(y), dtype=torch.float64)
        return one.log_prob(z).exp().item() * math.cosh(y)

    mass = integrate.quad(density, -60, 60, limit=1000, epsabs=1e-10)[0]
    assert mass == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("options", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("seed", range(3))
def test_counts_add_up_to_one(options, seed):
    r = raw(CountMixture, seed=seed) - torch.tensor([0, 0, 0, 0, 0, 0, 2.0, 2, 2])
    one = CountMixture(r, **options)
    k = torch.arange(1 + options.get("most", 20_000), dtype=torch.float64)
    mass = CountMixture(r.expand(len(k), -1), **options).log_prob(k).exp().sum()
    above = mass_above(one, len(k)) if "most" not in options else 0
    assert mass + above == pytest.approx(1, abs=1e-9)


def mass_above(one, n):
    """1 − F(log(n − ½))."""
    y = (math.log(n - 0.5) - one.middle) / one.unit
    tail = torch.sigmoid((one.mean - y) * (-one.log_width).exp())
    return (one.log_weight.exp() * tail).sum().item()


@pytest.mark.parametrize("components", [1, 2, 3, 8])
def test_it_begins_as_a_normal_law(components):
    """The relative entropy of the law at 0, by quadrature; the control: means farther apart."""
    law = GaussianMixture(torch.zeros(3 * components, dtype=torch.float64))
    z = torch.linspace(-12, 12, 2401, dtype=torch.float64)
    p = torch.from_numpy(stats.norm.pdf(z.numpy()))

    def entropy(of):
        return integrate.simpson((p * (p.log() - of.log_prob(z))).numpy(), x=z.numpy())

    assert abs(entropy(law)) < 1e-3
    law.mean = 2 * law.mean + 0.5
    assert entropy(law) > 0.05


def test_equal_laws_learn_to_differ():
    numbers = torch.zeros(9, dtype=torch.float64, requires_grad=True)
    GaussianMixture(numbers).log_prob(torch.tensor(0.7)).backward()
    assert len(set(numbers.grad.round(decimals=6).tolist())) == 9


def test_against_scipy():
    r, z = raw(GaussianMixture, 5), torch.linspace(-3, 3, 5, dtype=torch.float64)
    one = GaussianMixture(r)
    f = torch.from_numpy(stats.norm.pdf(z[:, None], one.mean, one.log_width.exp()))
    torch.testing.assert_close(one.log_prob(z), (one.log_weight.exp() * f).sum(-1).log())
    one = StudentTMixture(raw(StudentTMixture, 5))
    f = stats.t.pdf(z[:, None], one.freedom, one.mean, one.log_width.exp())
    f = one.log_weight.exp() * torch.from_numpy(f)
    torch.testing.assert_close(one.log_prob(z), f.sum(-1).log())


def test_without_a_word_of_the_network_the_law_is_about_normal():
    z = torch.linspace(-3, 3, 301, dtype=torch.float64)
    p = torch.from_numpy(stats.norm.pdf(z))
    for law in REAL.values():
        for components in (1, 2, 8):
            one = law(torch.zeros(law.parameters(components), dtype=torch.float64))
            gap = (p * (p.log() - one.log_prob(z))).sum() * (z[1] - z[0])
            assert abs(gap) < 0.03, (law, components)
            assert components == 1 or one.mean.diff().min() > 0.1, "apart"


@pytest.mark.parametrize("law", REAL.values(), ids=REAL)
def test_samples_follow_the_density(law):
    r = raw(law, seed=4)
    z = law(r.expand(100_000, -1)).sample(generator(5))
    edges = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = law(r).log_prob(edges).exp()
    cdf = torch.cumulative_trapezoid(density, edges)
    inside = z[z.abs() < 8].numpy()
    assert len(inside) / len(z) == pytest.approx(cdf[-1].item(), abs=0.01)

    def p_value(shift):
        at = ((inside + 8 + shift) / 0.004).astype(int).clip(0, 3999)
        return stats.kstest((cdf / cdf[-1])[at].numpy(), "uniform").pvalue

    assert p_value(0.0) > 1e-4
    assert p_value(0.2) < 1e-6, "the control: shifted"


@pytest.mark.parametrize("options", COUNTS.values(), ids=COUNTS)
def test_counts_follow_their_probabilities(options):
    r = raw(CountMixture, seed=4)
    k = CountMixture(r.expand(100_000, -1), **options).sample(generator(5))
    assert (k == k.round()).all()
    assert k.min() >= 0
    assert k.max() <= options.get("most", math.inf)
    values = torch.arange(min(8, options.get("most", 8)), dtype=torch.float64)
    p = CountMixture(r.expand(len(values), -1), **options).log_prob(values).exp()
    p = torch.cat([p, 1 - p.sum()[None]])
    seen = torch.stack([(k == v).sum() for v in values] + [(k > values[-1]).sum()]).double()

    def p_value(p):
        return stats.chisquare(seen.numpy(), (p / p.sum() * seen.sum()).numpy()).pvalue

    assert p_value(p) > 1e-4
    assert p_value(p.roll(1)) < 1e-6, "the control: of the count before"


@pytest.mark.parametrize("law", [*REAL.values(), CountMixture])
def test_gradients_are_finite_however_far(law):
    z = torch.tensor([0.0, 1, 2, 1e3, 1e6, 1e12])
    for scale in (1.0, 30.0):
        r = scale * torch.randn(len(z), law.parameters(4), generator=generator())
        value = law(r.requires_grad_()).log_prob(z)
        value.sum().backward()
        assert value.isfinite().all()
        assert r.grad.isfinite().all()


def test_counts_far_in_the_tail_keep_their_digits():
    r = raw(CountMixture, 1)
    k = torch.tensor([10.0**6])
    exact = CountMixture(r).log_prob(k.double())
    single = CountMixture(r.float()).log_prob(k)
    assert single.item() == pytest.approx(exact.item(), abs=1e-4)


def test_what_is_no_number_does_not_count():
    z = torch.tensor([math.nan, math.inf])
    for law in (*REAL.values(), CountMixture):
        assert law(raw(law, 2).float()).log_prob(z).tolist() == [0, 0]


def test_large_counts_are_drawn_odd_and_even():
    """Between 2²³ and 2²⁴ float32 holds all whole numbers, but no halves."""
    law = CountMixture(torch.zeros(4000, 3), math.log(1.2e7), 1e-3)
    drawn = law.sample(torch.Generator().manual_seed(1))
    assert float((drawn % 2).mean()) == pytest.approx(0.5, abs=0.04)
    assert len(drawn.unique()) > 3500

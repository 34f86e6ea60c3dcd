"""The compound Poisson law and the decoder of it, against sums of its spots."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate, stats

from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.nn.compound_poisson import CompoundPoisson, require_no_threshold, spot_of
from physgen.surrogates.cvae import CVAE, CVAEConfig
from physgen.testing import check_surrogate
from simulators.prior import Box

INF = math.inf
HEAD = CVAEConfig(head="compound-poisson", channels=8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def law_of(rate, spot, dtype=torch.float64):
    rate, spot = torch.as_tensor(rate, dtype=dtype), torch.as_tensor(spot, dtype=dtype)
    return CompoundPoisson(rate.log() + spot.log(), spot.log())


def exact(rate, spot, x):
    """log of x p(x) in 40 digits, from the Bessel function; of 0 the atom."""
    with mpmath.workdps(40):
        rate, spot, x = mpmath.mpf(rate), mpmath.mpf(spot), mpmath.mpf(x)
        if x == 0:
            return float(-rate)
        bessel = mpmath.log(mpmath.besseli(1, 2 * mpmath.sqrt(rate * x / spot)))
        return float(-rate - x / spot + mpmath.log(rate * x / spot) / 2 + bessel)


CASES = [
    (rate, spot, rate * spot * factor)
    for rate in (1e-6, 0.03, 1.0, 40.0, 3e4)
    for spot in (0.01, 5.0)
    for factor in (1e-4, 0.5, 1.0, 1.01, 3.0)
]


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_density_against_the_bessel_function(dtype, accuracy):
    rate, spot, x = torch.tensor(CASES, dtype=dtype).T
    found = law_of(rate, spot, dtype).log_prob(x.log()).double()
    rows = zip(rate.double(), spot.double(), x.double(), strict=True)
    expected = torch.tensor([exact(*map(float, row)) for row in rows], dtype=torch.float64)
    likely = expected > -1000  # what is further out float32 tells to a part in 10⁵
    assert likely.sum() > 40
    torch.testing.assert_close(
        found,
        expected,
        atol=10 * accuracy,
        rtol=accuracy,
        msg=lambda m: f"{m}\n{found - expected}",
    )


@pytest.mark.parametrize("log_rate", [-100.0, -40.0, -25.0, -15.0])
def test_density_where_hardly_a_spot_is_expected(log_rate):
    u = torch.tensor([-3.0, 0.0, 2.0, 5.0], requires_grad=True)  # of a spot
    mean, spot = torch.tensor([log_rate, 0.0], requires_grad=True)
    found = CompoundPoisson(mean, spot).log_prob(u)
    expected = [exact(math.exp(log_rate), 1.0, math.exp(v)) for v in u.tolist()]
    np.testing.assert_allclose(found.tolist(), expected, rtol=1e-5)
    slopes = torch.autograd.grad(found.sum(), [mean, u])
    np.testing.assert_allclose(slopes[0].item(), len(u), rtol=1e-3)  # λ itself
    np.testing.assert_allclose(slopes[1], 1 - u.detach().exp(), rtol=1e-3, atol=1e-3)


def test_density_is_that_of_a_sum_of_exponential_spots():
    rate, spot, x = 3.0, 0.2, np.linspace(0.01, 3, 50)
    n = np.arange(1, 80)
    gamma = stats.gamma.pdf(x[:, None], n, scale=spot)
    expected = (stats.poisson.pmf(n, rate) * gamma).sum(1) * x
    found = law_of(rate, spot).log_prob(torch.from_numpy(x).log()).exp()
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("rate", [0.01, 1.0, 30.0, 1000.0])
def test_atom_and_density_sum_to_one(rate):
    one = law_of(rate, 0.3)

    def density(u):
        return one.log_prob(torch.tensor(u, dtype=torch.float64)).exp().item()

    middle = math.log(0.3 * max(rate, 1))
    mass = integrate.quad(density, -50, 8, points=[middle - 1, middle, middle + 1], limit=500)[0]
    assert mass + density(-INF) == pytest.approx(1, abs=1e-7)
    assert density(-INF) == pytest.approx(math.exp(-rate))


def test_gradients_by_differences():
    rate, spot, x = torch.tensor(CASES, dtype=torch.float64).T

    def log_p(log_mean, log_spot, u):
        return CompoundPoisson(log_mean, log_spot).log_prob(u)

    some = (rate < 100) & (x > 1e-5)
    inputs = [v[some].log().requires_grad_() for v in (rate * spot, spot, x)]
    assert torch.autograd.gradcheck(log_p, inputs, atol=1e-5, rtol=1e-4)


def test_gradients_in_single_precision():
    def slopes(dtype):
        rate, spot, x = torch.tensor(CASES, dtype=torch.float64).T
        inputs = [v.log().to(dtype).requires_grad_() for v in (rate * spot, spot, x)]
        CompoundPoisson(*inputs[:2]).log_prob(inputs[2]).sum().backward()
        return torch.stack([v.grad.double() for v in inputs])

    torch.testing.assert_close(slopes(torch.float32), slopes(torch.float64), rtol=1e-3, atol=1e-2)


def test_zeros_and_extremes_pass_no_gradient_that_is_not_a_number():
    u = torch.tensor([-INF, math.nan, 0.0, 80.0, -80.0, 0.0, 0.0])
    log_mean = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, -60.0, 30.0], requires_grad=True)
    log_spot = torch.zeros(7, requires_grad=True)
    log_p = CompoundPoisson(log_mean, log_spot).log_prob(u)
    assert log_p.isfinite().all()
    assert log_p[1] == 0, "what is missing counts for nothing"
    log_p.sum().backward()
    assert log_mean.grad.isfinite().all()
    assert log_spot.grad.isfinite().all()


@pytest.mark.parametrize("rate", [0.5, 20.0])
def test_samples_follow_the_law(rate):
    u = law_of(torch.full((20_000,), rate), 0.2, torch.float32).sample(generator(1))
    atom = int((u == -INF).sum())
    assert stats.binomtest(atom, len(u), math.exp(-rate)).pvalue > 1e-4
    edges = np.linspace(-9, 4, 2000)

    def p_value(spot):
        """Of Kolmogorov and Smirnov, given a hit; the mean is what it is."""
        mean = math.log(rate * 0.2)
        one = CompoundPoisson(torch.tensor(mean), torch.tensor(spot).log())
        density = one.log_prob(torch.from_numpy(edges).float()).double().exp().numpy()
        cdf = integrate.cumulative_trapezoid(density, edges, initial=0)
        return stats.kstest(u[u > -9].numpy(), lambda v: np.interp(v, edges, cdf / cdf[-1])).pvalue

    assert p_value(0.2) > 1e-4
    assert p_value(0.24) < 1e-6, "the control: another spot"


def test_the_spot_that_moments_suggest():
    rate = torch.linspace(0.1, 20, 50, dtype=torch.float64).expand(20_000, -1)
    x = law_of(rate, 0.05).sample(generator()).exp()
    assert spot_of(x).item() == pytest.approx(0.05, rel=0.05)
    holes = torch.where(torch.rand(x.shape, generator=generator(2)) < 0.1, math.nan, x)
    assert spot_of(holes).item() == pytest.approx(0.05, rel=0.05)


class Spots:
    """Five cells that share an energy e^θ, a tenth of a unit a spot."""

    prior = Box(log_mean=(-1.0, 1.0))
    x_shape = (5,)
    support = "nonnegative"

    def sample(self, theta, rng):
        n = rng.poisson(10 * np.exp(theta) * [0.01, 0.05, 0.1, 0.2, 0.64])
        return rng.gamma(np.maximum(n, 1), 0.1) * (n > 0)


def started(missing=False):
    """A surrogate that has seen data, and they."""
    rng = np.random.default_rng(3)
    theta = Spots.prior.sample(4000, rng)
    x = Spots().sample(theta, rng)
    if missing:
        x[rng.random(x.shape) < 0.1] = np.nan
    law = Law("spots", Spots.prior, (5,), "nonnegative", missing=missing)
    model = CVAE.create(law, HEAD, seed=1)
    theta, x = torch.from_numpy(theta), torch.from_numpy(x).float()
    model.fit_transform(x, theta)
    return model.eval(), theta, x


@pytest.mark.parametrize("missing", [False, True])
def test_the_decoder_starts_at_moments(missing):
    model, theta, x = started(missing)
    spot = (model.decoder.spot + model.transform.mean).exp()
    torch.testing.assert_close(spot, spot.mean().expand(5), rtol=1e-4, atol=0)
    assert spot.mean().item() == pytest.approx(0.1, rel=0.15)
    with torch.no_grad():
        for weight in model.decoder.head.parameters():
            weight.zero_()
    drawn = model.sample(theta, 1).double()
    torch.testing.assert_close(drawn.mean(0), x.double().nanmean(0), rtol=0.15, atol=0.005)


def test_the_contract_holds():
    assert check_surrogate(started()[0]) == []


def test_a_readout_threshold_is_refused():
    x = law_of(torch.full((2000, 3), 0.5), 0.1).sample(generator()).exp()
    require_no_threshold(x, torch.tensor(0.1))
    bright = law_of(torch.full((2000, 3), 50.0), 0.1).sample(generator()).exp()
    require_no_threshold(bright, torch.tensor(0.1))
    with pytest.raises(DataError, match="got none: x has a readout threshold"):
        require_no_threshold(torch.where(x < 0.02, 0, x), torch.tensor(0.1))


def test_other_x_and_mixtures_are_refused():
    with pytest.raises(UsageError, match="head compound-poisson: not for reals x"):
        CVAE.create(Law("none", Spots.prior, (5,), "reals"), HEAD)
    with pytest.raises(UsageError, match="head student: not for nonnegative x; expected reals"):
        CVAE.create(Law("none", Spots.prior, (5,), "nonnegative"), CVAEConfig(head="student"))
    with pytest.raises(ValueError, match="components: head compound-poisson has no mixture"):
        CVAEConfig(head="compound-poisson", components=3)


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_x_that_does_not_vary_is_refused(value):
    with pytest.raises(DataError, match="expected x that varies"):
        spot_of(torch.full((5, 3), value))

"""The chain of energies: its law by quadrature, samples as distributions, where it starts."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import physgen
from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn import energy_chain
from physgen.nn.column_places import ColumnPlaces
from physgen.nn.energy_chain import EnergyChain, logistic, moments_of_square
from physgen.nn.regression import quadratic
from physgen.nn.tensors import save_tensors
from physgen.surrogates.autoregressive import Autoregressive, AutoregressiveConfig
from physgen.surrogates.checkpoint import load_surrogate
from simulators.prior import Box

INF = math.inf
PRIOR = Box(a=(0.0, 1.0), b=(0.0, 1.0))
C = torch.tensor([[0.3, -0.6]], dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def seeded(cls, *sizes, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)  # noqa: TID251
        return cls(*sizes, **options)


def chain(layers, components=2, scale=0.2, condition=2):
    """A chain of random weights in float64, near a start with energy in most layers."""
    made = seeded(EnergyChain, layers, condition, components, hidden=8, blocks=1)
    with torch.no_grad():
        for weight in made.parameters():
            weight += scale * torch.randn(weight.shape, generator=generator(2))
        made.places.straight[:layers, 0] = 1
        made.odds.normal_(0, 0.5, generator=generator(3))
    return made.double().eval()


def law(size):
    return Law("none", PRIOR, (size,), "nonnegative")


def spots(n, layers=5, seed=0, low=1.0):
    """Layers of Poisson many exponential spots around a common cause, and θ (n, 2)."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(0, 1, (n, 2))
    cause = theta[:, :1] + 0.2 * rng.standard_normal((n, 1))
    rate = low + 20 * np.exp(-((np.linspace(0, 1, layers) - cause) ** 2) / 0.1) * (
        1 + theta[:, 1:]
    )
    count = rng.poisson(rate)
    return theta, np.where(count > 0, rng.gamma(np.maximum(count, 1)), 0.0).astype(np.float32)


def logs(x):
    """u of energies x (n, L)."""
    x = torch.from_numpy(x).double()
    log = torch.where(x > 0, x, 1.0).log()
    mean = torch.where(x > 0, log, 0.0).sum(0) / (x > 0).sum(0).clamp(min=1)
    return torch.where(x > 0, log - mean, -INF).float()


# --- the law -------------------------------------------------------------------------------------


@pytest.mark.parametrize("components", [1, 3])
def test_atoms_and_densities_sum_to_one(components):
    """All patterns of two layers with energy or without, each with its integral."""
    made, z = chain(2, components), torch.linspace(-40, 6, 400, dtype=torch.float64)
    total, atoms = 0.0, 0.0
    for pattern in itertools.product([False, True], repeat=2):
        axes = [z if hit else torch.tensor([-INF], dtype=torch.float64) for hit in pattern]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
        with torch.no_grad():
            p = made.log_p(C.expand(len(grid), -1), grid).sum(1).exp().sum().item()
        total += p * float(z[1] - z[0]) ** sum(pattern)
        atoms += p if sum(pattern) < 2 else 0
    assert total == pytest.approx(1, abs=1e-4)
    assert atoms > 0.01, "the control: there are atoms to forget"


def test_a_layer_sees_earlier_ones_alone():
    made, u = chain(5), torch.randn(1, 5, generator=generator(), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: made.log_p(C, v)[0], u)[:, 0]
    assert jacobian.triu(1).abs().max() == 0
    assert (jacobian.tril().abs() > 1e-9).equal(torch.ones(5, 5).tril().bool())


@pytest.mark.parametrize("few", [0, 10**6])
@pytest.mark.slow
def test_samples_follow_the_law(few, monkeypatch):
    """A second layer given the first one in a narrow bin, and the odds of any energy."""
    monkeypatch.setattr(energy_chain, "FEW", few)
    made, n = chain(3, scale=0.3), 40_000
    with torch.no_grad():
        u = made.sample(C.expand(n, -1), generator())
        near = u[(u[:, 0] > -0.4) & (u[:, 0] < -0.2)]
        assert len(near) > 1000
        z = torch.linspace(-30, 6, 3000, dtype=torch.float64)
        rows = near[:1].expand(len(z), -1).clone()
        rows[:, 0], rows[:, 1] = near[:, 0].mean(), z
        density = made.log_p(C.expand(len(z), -1), rows)[:, 1].exp()
    cdf = density.cumsum(0) * float(z[1] - z[0])
    hit, part = (near[:, 1] > -INF).numpy(), float(cdf[-1])
    assert abs(hit.mean() - part) < 4 * math.sqrt(part * (1 - part) / len(hit))
    ranks = np.interp(near[hit, 1].numpy(), z.numpy(), (cdf / part).numpy())
    assert stats.kstest(ranks, "uniform").pvalue > 1e-3
    assert stats.kstest(ranks**1.4, "uniform").pvalue < 1e-3, "the control"


@pytest.mark.slow
@pytest.mark.parametrize("few", [0, 10**6])
def test_log_p_of_samples_is_their_entropy(few, monkeypatch):
    """−⟨log p⟩ under its own samples, layer by layer, by quadrature of each conditional."""
    monkeypatch.setattr(energy_chain, "FEW", few)
    made = chain(2, scale=0.3)
    with torch.no_grad():
        u = made.sample(C.expand(20_000, -1), generator())
        found = made.log_p(C.expand(len(u), -1), u)[:, 0]
        z = torch.linspace(-40, 6, 4000, dtype=torch.float64)
        both = torch.stack([z, z], 1)
        log_p = made.log_p(C.expand(len(z), -1), both)[:, 0]
        none = made.log_p(C, torch.full((1, 2), -INF, dtype=torch.float64))[0, 0]
    exact = (log_p.exp() * log_p).sum() * (z[1] - z[0]) + none.exp() * none
    assert abs(found.mean() - exact) < 4 * found.std() / math.sqrt(len(found))


def test_few_rows_are_drawn_from_the_law_of_many(monkeypatch):
    """Means, second moments, odds and products of neighbours, of numba and of torch."""
    made, c = chain(7, components=3, scale=0.3).float(), C.float().expand(20_000, -1)
    draws = []
    with torch.inference_mode():
        for few in (0, 10**6):
            monkeypatch.setattr(energy_chain, "FEW", few)
            draws.append(made.sample(c, generator(5)))

    def worst(u, v):
        def told(u):
            root = energy_chain.root(u)
            return torch.cat([root, root**2, (root == 0).float(), root * root.roll(1, 1)], 1)

        u, v = told(u), told(v)
        error = ((u.var(0) + v.var(0)) / len(u)).sqrt()
        return ((u.mean(0) - v.mean(0)).abs() / error).max()

    assert worst(*draws) < 4.5
    assert worst(draws[0], draws[1] + 0.1) > 4.5, "the control"


def test_gradient_in_theta_by_differences():
    made, u = chain(4), torch.randn(1, 4, generator=generator(), dtype=torch.float64)
    u[0, 2] = -INF
    c = C.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(made.log_p(c, u).sum(), c)
    for d, step in enumerate(torch.eye(2, dtype=torch.float64) * 1e-5):
        with torch.no_grad():
            ends = [made.log_p(C + sign * step, u).sum().item() for sign in (1, -1)]
        assert gradient[0, d].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


# --- where it starts -----------------------------------------------------------------------------


def test_moments_of_a_square():
    """Of y² of a normal y, mean and shape, far from 0 and at it."""
    width = 0.3
    for mean, tolerance in ((0.0, 1e-6), (9.0, 2e-3)):
        m = torch.tensor(mean, dtype=torch.float64)
        log_e, log_shape = moments_of_square(m, torch.tensor(math.log(width), dtype=torch.float64))
        expected = mean**2 + width**2
        variance = 4 * mean**2 * width**2 + 2 * width**4
        assert log_e.item() == pytest.approx(math.log(expected), abs=tolerance)
        assert log_shape.item() == pytest.approx(math.log(expected**2 / variance), abs=tolerance)
    assert moments_of_square(torch.tensor(-1e3), torch.tensor(0.0))[0].isfinite()


def test_places_start_at_a_normal_law():
    """Means quadratic in c, a width and slopes that are linear in it are found."""
    rng = np.random.default_rng(0)
    c = torch.from_numpy(rng.uniform(-1, 1, (10_000, 2)))
    e = torch.from_numpy(rng.standard_normal((10_000, 2)))
    first = 1 + c[:, 0] - 2 * c[:, 0] * c[:, 1] + 0.5 * c[:, 0].exp() * e[:, 0]
    second = c[:, 1] + (0.7 - 0.4 * c[:, 1]) * e[:, 0] + 0.2 * e[:, 1]
    places = seeded(ColumnPlaces, 2, 2, 8)
    places.fit(c, torch.stack([first, second], 1))
    m, s, t, slopes = places.double()(C)
    assert m[0, 0].item() == pytest.approx(1 + 0.3 + 0.36, abs=0.02)
    assert s[0, 0].item() == pytest.approx(math.log(0.5) + 0.3, abs=0.03)
    assert (s + t)[0, 1].item() == pytest.approx(math.log(0.2), abs=0.03)
    assert (slopes[0, 1, 0] * s[0, 1].exp()).item() == pytest.approx(0.7 + 0.24, abs=0.03)
    started = places.straight @ quadratic(C)[0]
    torch.testing.assert_close(torch.cat([m[0], s[0], t[0]]), started[:6])


def test_energies_known_to_a_third_of_a_percent(monkeypatch):
    """Of 10⁵ parts, as layers of TeV showers in a fine calorimeter; files of before know 8,000."""
    rng, made = np.random.default_rng(0), seeded(EnergyChain, 2, 1)
    u = torch.from_numpy(np.log(rng.gamma(1e5, 1e-5, (20_000, 2)))).float()
    theta = 2 * torch.rand(len(u), 1, generator=generator()) - 1
    expected = stats.gamma(1e5, scale=1e-5).logpdf(u.double().exp().numpy()) + u.numpy()
    made.fit(u, theta)
    with torch.no_grad():
        lost = expected.mean(0) - made.log_p(theta, u).double().mean(0).numpy()
        assert abs(lost).max() < 0.02
        for few in (0, 10**6):
            monkeypatch.setattr(energy_chain, "FEW", few)
            drawn = made.sample(theta, generator(1))
            np.testing.assert_allclose(drawn.std(0), 1e5**-0.5, rtol=0.1)
        before = {name: v for name, v in made.state_dict().items() if name != "most"}
        made.load_state_dict(before)
        assert made.most == 9
        lost = expected.mean(0) - made.log_p(theta, u).double().mean(0).numpy()
        assert lost.min() > 0.5


def test_logistic_regression():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal(50_000))
    hit = torch.from_numpy(rng.uniform(size=50_000)) < (0.5 + 2 * x).sigmoid()
    torch.testing.assert_close(
        logistic(x, hit), torch.tensor([0.5, 2.0], dtype=torch.float64), atol=0.08, rtol=0
    )
    always = logistic(x, torch.ones(50_000, dtype=torch.bool))
    assert always[0] > 10
    assert always[1] == 0


@pytest.mark.parametrize("rows", [3, 40, 1000])
def test_few_rows_and_layers_that_do_not_vary(rows):
    """Layers that are always, never or all but never hit, and constant ones, start finite."""
    theta, x = spots(rows)
    x[:, 1], x[:, 3], x[:, 4] = 0, 2.5, 0
    x[0, 4] = 1.0
    u, c = logs(x), torch.from_numpy(2 * theta - 1).float()
    made = seeded(EnergyChain, 5, 2, hidden=8)
    made.fit(u, c)
    log_p = made.log_p(c, u).sum()
    log_p.backward()
    assert log_p.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in made.parameters())
    assert not made.sample(c, generator()).isnan().any()


def test_one_layer_and_no_theta():
    _, x = spots(500)
    u = logs(x[:, :1])
    made = seeded(EnergyChain, 1, 2, hidden=8)
    made.fit(u, None)
    with torch.no_grad():
        log_p = made.log_p(torch.zeros(500, 2), u)
        hit = u > -INF
        some = u[hit]
        normal = torch.distributions.Normal(some.mean(), some.std()).log_prob(some)
    assert log_p[hit].mean() > normal.mean() - 0.5
    assert made.sample(torch.zeros(7, 2), generator()).shape == (7, 1)


# --- the family ----------------------------------------------------------------------------------


def test_which_x_has_a_chain():
    def chained(given, **options):
        made = Autoregressive.create(given, AutoregressiveConfig(**options))
        return isinstance(made.columns, EnergyChain)

    assert chained(law(64))
    assert not chained(law(65))
    assert not chained(law(5), network="shared")
    assert not chained(law(5), nonnegative="shared")
    assert not chained(replace(law(5), axes=("open",)))
    assert chained(replace(law(5), axes=("open",)), network="chain")
    for given in (law(65), replace(law(5), support="reals")):
        with pytest.raises(UsageError, match="network chain: expected at most 64 nonnegative"):
            chained(given, network="chain")
    with pytest.raises(UsageError, match="order: is an option of shared networks, and chain"):
        chained(law(5), order="raster")


def test_files_of_before_the_chain_open(tmp_path):
    """Their options do not name what auto takes of nonnegative x."""
    model = Autoregressive.create(law(3), AutoregressiveConfig(nonnegative="shared"), seed=1)
    theta, x = (torch.from_numpy(values) for values in spots(20, 3))
    model.fit_transform(x, theta)
    about = model.describe()
    assert about["options"].pop("nonnegative") == "shared"
    save_tensors(tmp_path / "old.pt", model.state_dict(), about)
    again, _ = load_surrogate(tmp_path / "old.pt", torch.device("cpu"))
    assert again.columns is None
    torch.testing.assert_close(again.log_prob(theta, x), model.log_prob(theta, x))


@pytest.mark.slow
def test_it_learns_layers_of_spots_with_a_cause_in_common(tmp_path):
    """A cause that is integrated out by brute force tells how far log p is off."""
    theta, x = spots(20_000)
    data = physgen.dataset_of(theta, x, prior=PRIOR, support="nonnegative")
    made = physgen.fit("autoregressive", data, epochs=15, batch_size=256)
    theta, x = spots(500, seed=5)
    cause = theta[:, :1] + 0.2 * np.linspace(-5, 5, 401)
    weight = np.exp(-0.5 * np.linspace(-5, 5, 401) ** 2)
    rate = 1 + 20 * (1 + theta[:, 1:, None]) * np.exp(
        -((np.linspace(0, 1, 5) - cause[..., None]) ** 2) / 0.1
    )
    k = np.arange(1, 120)[:, None, None, None]
    terms = stats.poisson.pmf(k, rate) * stats.gamma.pdf(x[:, None], k)
    each = np.where(x[:, None] > 0, terms.sum(0), np.exp(-rate))
    exact = np.log(each.prod(-1) @ (weight / weight.sum()))
    gap = (exact - made.log_prob(theta, x).numpy()).mean()
    assert -0.01 < gap < 0.05

"""Autoregression of long x by second routes: quadrature, Jacobians, what depends on what."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from physgen.law import Law
from physgen.nn.affine import AffineMap, Grid, slowest_modes, waves
from physgen.surrogates.autoregressive import Autoregressive, AutoregressiveConfig
from physgen.surrogates.autoregressive.window import nearest_offsets, window_parts
from physgen.testing import check_surrogate
from physgen.training import InMemory, Trainer, Training
from simulators.prior import Box

THETA = Box(a=(-1.0, 1.0), b=(-1.0, 1.0))


def reals(*shape, axes=(), symmetries=()):
    return Law("reals", THETA, shape, "reals", symmetries, axes=axes)


def model(law, scale=0.2, **options):
    given = {"hidden": 8, "components": 3, "window": 4, "network": "causal"} | options
    made = Autoregressive.create(law, AutoregressiveConfig(**given), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for w in made.parameters():
            w += scale * torch.randn(w.shape, generator=generator)
    return made.eval()


LAWS = {
    "series": (reals(7), {}),
    "series, cosines": (reals(7), {"spectrum": "all"}),
    "two channels": (reals(2, 5, axes=("channel", "open")), {}),
    "open": (reals(3, 5), {}),
    "torus": (reals(4, 3, symmetries=("shift",)), {}),
    "torus, no waves": (reals(4, 3, symmetries=("shift",)), {"spectrum": "none"}),
    "cylinder": (reals(3, 4, axes=("open", "periodic")), {}),
    "counts": (replace(reals(7), support="counts"), {}),
    "box of two channels": (
        reals(2, 2, 3, 2, axes=("channel", "periodic", "periodic", "periodic")),
        {"spectrum": "all"},
    ),
}


@pytest.fixture(params=LAWS)
def case(request):
    return LAWS[request.param]


# --- the grid ------------------------------------------------------------------------------------


def test_windows_by_hand():
    """The nearest earlier ones; 7 or 16 for none."""
    assert nearest_offsets((7,), 3).tolist() == [[-1], [-2], [-3]]
    assert nearest_offsets((3, 5), 4).tolist() == [[-1, 0], [0, -1], [-1, -1], [-1, 1]]
    assert nearest_offsets((2, 2), 9).tolist() == [[-1, 0], [0, -1], [-1, -1], [-1, 1]]
    assert nearest_offsets((1,), 9).tolist() == [[-1]]
    (series,) = window_parts(Grid(1, (7,), (False,), False), 3)
    assert series.parents[[0, 2, 6]].tolist() == [[7, 7, 7], [1, 0, 7], [5, 4, 3]]
    (torus,) = window_parts(Grid(1, (4, 4), (True, True), True), 2)
    assert torus.parents[0].tolist() == [16, 16, 16, 16]
    assert torus.parents[13].tolist() == [9, 12, 1, 16], "the first row is below the last"
    assert torus.parents[15].tolist() == [11, 14, 3, 12], "and the first column right of the last"


def test_a_channel_sees_all_sides_of_those_before_it():
    first, second = window_parts(Grid(2, (4,), (False,), False), 2)
    assert first.parents[1].tolist() == [0, 8]
    assert second.sites.tolist() == [4, 5, 6, 7]
    assert second.parents[1].tolist() == [1, 0, 8, 2, 3, 4, 8]


@pytest.mark.parametrize("periodic", [False, True])
def test_transforms_are_orthonormal_and_modes_are_slow(periodic):
    q = waves(11, periodic)
    torch.testing.assert_close(q @ q.T, torch.eye(11, dtype=torch.float64))
    grid = Grid(1, (11, 7), (periodic, periodic), False)
    modes = slowest_modes(grid, 13)
    torch.testing.assert_close(modes @ modes.T / 77, torch.eye(13), atol=1e-5, rtol=0)
    fast = torch.tensor([(-1.0) ** i for i in range(77)])
    assert (modes @ fast / 77).abs().max() < 0.1
    assert len(slowest_modes(replace(grid, stationary=True), 13)) == (1 if periodic else 13)


# --- the map -------------------------------------------------------------------------------------


def affine_of(law, waves):
    with torch.random.fork_rng(devices=[]):
        made = AffineMap(Grid.of(law), 2, 5, waves)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for w in made.parameters():
            w += 0.2 * torch.randn(w.shape, generator=generator)
    return made.double().requires_grad_(False)


@pytest.mark.parametrize("wave", [False, True])
def test_the_map_has_an_inverse_and_the_volume_of_its_jacobian(case, wave):
    law, _ = case
    made = affine_of(law, (wave,) * len(Grid.of(law).shape))
    generator = torch.Generator().manual_seed(4)
    c = torch.rand(1, 2, generator=generator, dtype=torch.float64)
    z = torch.randn(1, law.size, generator=generator, dtype=torch.float64)
    theta = made.coefficients(c)
    u, log_det = made(z, theta)
    torch.testing.assert_close(made.inverse(u, theta), z, rtol=0, atol=1e-4)
    jacobian = torch.autograd.functional.jacobian(lambda z: made(z, theta)[0][0], z)
    value = torch.linalg.slogdet(jacobian[:, 0])[1]
    assert abs(float(log_det - value)) < 1e-5 < 0.01 < abs(float(value))


def test_on_a_torus_the_map_commutes_with_shifts_and_else_it_does_not():
    def off(law):
        made = affine_of(law, (True, True))
        generator = torch.Generator().manual_seed(4)
        z = torch.randn(1, 4, 3, generator=generator, dtype=torch.float64)
        theta = made.coefficients(torch.ones(1, 2, dtype=torch.float64))
        u = made(z.flatten(1), theta)[0].view(1, 4, 3)
        again = made(z.roll((1, 2), (1, 2)).flatten(1), theta)[0].view(1, 4, 3)
        return float((again - u.roll((1, 2), (1, 2))).abs().max())

    assert off(reals(4, 3, symmetries=("shift",))) < 1e-6 < 0.1 < off(reals(4, 3))


# --- normalised, and causal, whatever the weights ------------------------------------------------


def test_the_contract_is_kept(case):
    law, options = case
    assert check_surrogate(model(law, scale=0.05, **options)) == []


def raw(surrogate, u, c):
    field = surrogate.field(u)
    stages = surrogate.stages
    return torch.cat([s.raw(field, s.all, s.net.coefficients(c)) for s in stages], 1)


def test_no_conditional_depends_on_its_own_or_a_later_site(case):
    law, options = case
    surrogate = model(law, **options)
    generator = torch.Generator().manual_seed(3)
    u = torch.randn(2, law.size, generator=generator).abs()
    c = torch.zeros(2, 2)
    before = raw(surrogate, u, c)
    chain = torch.cat([s.sites for s in surrogate.stages]).tolist()
    assert sorted(chain) == list(range(law.size))
    seen = 0
    for t, site in enumerate(chain):
        moved = u.clone()
        moved[:, site] += 1
        after = raw(surrogate, moved, c)
        assert torch.equal(after[:, : t + 1], before[:, : t + 1])
        seen += bool((after[:, t + 1 :] != before[:, t + 1 :]).any())
    assert seen == law.size - 1, "all but the last are seen"


PAIRS = {
    "series": (reals(2), {}),
    "cosines": (reals(2), {"spectrum": "all"}),
    "channels": (reals(2, 1, axes=("channel", "open")), {}),
    "torus": (reals(2, 1, symmetries=("shift",)), {}),
}


def on_a_plane(surrogate, n=181, width=9.0):
    """Log p on a grid of x, and the area of a cell."""
    at = torch.linspace(-width, width, n, dtype=torch.float64)
    x = torch.cartesian_prod(at, at).view(-1, *surrogate.law.x_shape).float()
    theta = torch.full((len(x), 2), 0.4, dtype=torch.float64)
    return surrogate.log_prob(theta, x), (2 * width / (n - 1)) ** 2


@pytest.mark.parametrize("pair", PAIRS)
def test_the_integral_over_the_plane_is_1(pair):
    law, options = PAIRS[pair]
    surrogate = model(law, scale=0.1, **options)
    log_p, area = on_a_plane(surrogate)
    assert abs(float(log_p.exp().sum() * area) - 1) < 2e-3
    for stage in surrogate.stages:  # the control: sites that see themselves
        stage.parents[:, 0] = stage.sites
    log_p, area = on_a_plane(surrogate)
    assert abs(float(log_p.exp().sum() * area) - 1) > 0.01


@pytest.mark.parametrize("pair", PAIRS)
def test_samples_follow_log_p(pair):
    """Mean and spread of log p over samples, against the integrals."""
    law, options = PAIRS[pair]
    surrogate, n = model(law, scale=0.1, **options), 20_000
    log_p, area = on_a_plane(surrogate)
    p = log_p.exp() * area
    mean = float((p * log_p).sum())
    sd = math.sqrt(float((p * (log_p - mean) ** 2).sum()))
    theta = torch.full((n, 2), 0.4, dtype=torch.float64)

    def off(by):
        drawn = by.sample(theta, torch.Generator().manual_seed(5))
        return abs(float(surrogate.log_prob(theta, drawn).mean()) - mean) / sd * math.sqrt(n)

    assert off(surrogate) < 4
    assert off(model(law, scale=0.15, **options)) > 6, "the control: other weights"


def test_a_step_on_some_sites_has_the_loss_of_all_of_them_as_its_mean():
    law = reals(11)
    surrogate = model(law, scale=0.1, sites=3)
    generator = torch.Generator().manual_seed(9)
    theta = torch.zeros(5, 2, dtype=torch.float64)
    x = torch.randn(5, 11, generator=generator)
    with torch.no_grad():
        whole = surrogate.loss(theta, x, generator)
        log_p = surrogate.log_prob(theta, x)
        torch.testing.assert_close(whole.double(), -log_p, rtol=1e-6, atol=1e-5)
        surrogate.train()
        some = torch.stack([surrogate.loss(theta, x, generator) for _ in range(400)])
    z = (some.mean(0) - whole) / (some.std(0) / 400**0.5)
    assert z.abs().max() < 4
    assert (some.std(0) > 0.01).all()


@pytest.mark.slow
def test_counts_add_up_to_1():
    law = Law("counts", THETA, (2,), "counts")
    surrogate = model(law, scale=0.1)
    x = torch.cartesian_prod(torch.arange(400), torch.arange(400))
    theta = torch.full((len(x), 2), 0.4, dtype=torch.float64)
    assert abs(float(surrogate.log_prob(theta, x).exp().sum()) - 1) < 5e-3
    surrogate.stages[0].parents[:, 0] = surrogate.stages[0].sites
    assert abs(float(surrogate.log_prob(theta, x).exp().sum()) - 1) > 0.05, "the control"


# --- training ------------------------------------------------------------------------------------


class Series:
    """x_i = a t_i + noise that remembers, ρ = 0.45 (1 + b); its first value is 0, always."""

    prior = THETA
    x_shape = (30,)

    def sample(self, theta, rng):
        noise = rng.standard_normal((len(theta), *self.x_shape))
        rho = 0.45 * (1 + theta[:, 1])
        for i in range(1, 30):
            noise[:, i] = rho * noise[:, i - 1] + np.sqrt(1 - rho**2) * noise[:, i]
        x = 3 * theta[:, :1] * np.linspace(-1, 1, 30) + noise
        x[:, 0] = 0
        return x


@pytest.mark.slow
def test_it_learns_a_series_and_leaves_out_what_is_constant():
    simulator, rng = Series(), np.random.default_rng(10)
    law = Law("series", THETA, (30,), "reals")
    theta = THETA.sample(2000, rng)
    x = simulator.sample(theta, rng).astype(np.float32)
    config = AutoregressiveConfig(network="causal", hidden=16, window=6)
    made = Autoregressive.create(law, config, seed=0)
    made.fit_transform(torch.from_numpy(x))
    rows = [InMemory(torch.from_numpy(theta[i::2]), torch.from_numpy(x[i::2])) for i in (0, 1)]
    for _ in Trainer(made, *rows, Training(epochs=12, warm_up_steps=20, ema=0.95)):
        pass
    made.eval()
    theta = THETA.sample(1000, rng)
    x = simulator.sample(theta, rng).astype(np.float32)
    rho = 0.45 * (1 + theta[:, [1]])
    noise = x - 3 * theta[:, :1] * np.linspace(-1, 1, 30)
    new = (noise[:, 2:] - rho * noise[:, 1:-1]) / np.sqrt(1 - rho**2)
    square = (new**2 + np.log(1 - rho**2)).sum(1) + noise[:, 1] ** 2
    exact = -0.5 * (square + 29 * math.log(2 * math.pi))
    scored = made.log_prob(torch.from_numpy(theta), torch.from_numpy(x)).numpy()
    assert 0 < (exact - scored).mean() < 0.8, "nats in all"
    drawn = made.sample(torch.from_numpy(theta), 3).numpy()
    assert (drawn[:, 0] == 0).all()
    assert (
        abs(np.corrcoef(drawn[:, 20], drawn[:, 21])[0, 1] - np.corrcoef(x[:, 20:22].T)[0, 1]) < 0.1
    )


@pytest.mark.parametrize("waves", [True, False])
def test_the_volume_of_an_affine_map_is_that_of_what_counts(waves):
    """By autograd; where a component is told, waves carry a part of it to others (the control)."""
    rng = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    grid = Grid.of(Law.of("gaussian-field", {"size": 4}))
    with torch.random.fork_rng(devices=[]):
        affine = AffineMap(grid, 2, 1, (True, True)).double()
    affine.requires_grad_(False)
    for weight in affine.parameters():
        weight.copy_(0.3 * normal(*weight.shape))
    c, z = normal(1, 2), normal(16)
    told = torch.tensor([torch.inf], dtype=torch.float64)

    def of_others(part):
        return affine.white(c, torch.cat([part, told]).view(1, 4, 4), waves)[0].flatten()[:15]

    volume = affine.white(c, torch.cat([z[:15], told]).view(1, 4, 4), waves)[1]
    exact = torch.autograd.functional.jacobian(of_others, z[:15]).slogdet()[1]
    assert (abs(volume - exact) > 0.01 if waves else abs(volume - exact) < 1e-6).all()
    theta = affine.coefficients(c, waves)
    assert torch.allclose(affine.inverse(affine(z[None], theta)[0], theta), z[None])

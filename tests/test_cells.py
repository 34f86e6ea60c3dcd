"""Showers cell by cell: groups of hits, shares untied by a random factor, normal scores."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.cells import CellNet
from physgen.nn.layer_energies import CellShares
from physgen.nn.mixtures import GaussianMixture
from physgen.surrogates.base import Noise
from physgen.surrogates.diffusion import Diffusion
from physgen.surrogates.diffusion.cells import CellsKernel
from physgen.surrogates.diffusion.grouped import GroupedHits
from physgen.surrogates.diffusion.likelihood import times
from simulators.prior import Box

INF = math.inf


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def law(*shape):
    return Law("none", Box(a=(0.0, 1.0)), shape, "nonnegative")


def showers(n, *shape, seed=0):
    """Cells of which half are hit, layers without energy, and a layer with a single hit."""
    g = generator(seed)
    x = torch.rand(n, *shape, generator=g) * (torch.rand(n, *shape, generator=g) < 1 / 2)
    x[0, 0] = 0
    x[1, -1] = 0
    x[1, -1, 0, 1] = 2.0
    return x


def shaken(module, seed=0, size=0.3):
    """The module with weights of some size in the place of zeros."""
    g = generator(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(size * torch.randn(p.shape, generator=g))
    return module


def model_of(*shape, **options):
    model = Diffusion.create(law(*shape), Diffusion.Config(**options), seed=1).eval()
    x = showers(97, *shape)
    model.fit_transform(x, torch.rand(97, 1, generator=generator(2), dtype=torch.float64))
    return model


def test_the_map_has_an_inverse_that_a_random_factor_does_not_change():
    x = showers(97, 2, 3, 5)
    shares = CellShares(law(2, 3, 5))
    shares.fit(x)
    z = shares(x)
    torch.testing.assert_close(shares.inverse(z), x, rtol=1e-5, atol=1e-6)
    z[:, 2:17] += torch.randn(97, 1, generator=generator())
    torch.testing.assert_close(shares.inverse(z), x, rtol=1e-5, atol=1e-6)
    z[:, 5] += 0.3  # control: of one cell it does
    assert not torch.allclose(shares.inverse(z), x, atol=1e-2)


def test_the_volume_of_energies_and_untied_shares_against_autograd():
    x = showers(7, 2, 3, 5)[3].double()
    values, s = x[x > 0].log(), torch.tensor([0.3, -0.7], dtype=torch.float64)
    layer = (x > 0).nonzero()[:, 0]

    def image(v):
        log_x, s = v[:-2], v[-2:]
        log_e = torch.stack([log_x[layer == i].logsumexp(0) for i in range(2)])
        return torch.cat([log_e, log_x - log_e[layer] + s[layer]])

    jacobian = torch.autograd.functional.jacobian(image, torch.cat([values, s]))
    assert torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(0, abs=1e-12)
    shares = CellShares(law(2, 3, 5))
    assert shares.log_det(x[None]).item() == pytest.approx(-values.sum().item())


def test_scores_of_a_mixture_are_normal_and_have_an_inverse():
    mixture = GaussianMixture(0.5 * torch.randn(5000, 12, generator=generator(3)))
    r = torch.randn(5000, generator=generator(4))
    torch.testing.assert_close(mixture.to_normal(mixture.from_normal(r)), r, atol=1e-3, rtol=0)
    z = mixture.sample(generator(5))
    score = mixture.to_normal(z)
    assert abs(score.mean()) < 0.06
    assert score.var().item() == pytest.approx(1, abs=0.08)
    assert z.var().item() > 1.1  # control: z itself is not


def test_scores_have_an_inverse_where_laws_lie_far_apart():
    raw = 2 * torch.randn(20_000, 12, generator=generator(3))
    r = torch.randn(20_000, generator=generator(4))
    z, mixture = GaussianMixture(raw).from_normal(r), GaussianMixture(raw.double())
    torch.testing.assert_close(mixture.to_normal(z.double()), r.double(), atol=1e-3, rtol=0)


def test_the_slope_of_the_scores_is_the_density():
    raw = torch.randn(50, 12, generator=generator(3), dtype=torch.float64)
    z = torch.randn(50, generator=generator(1), dtype=torch.float64).requires_grad_()
    r = GaussianMixture(raw).to_normal(z)
    (slope,) = torch.autograd.grad(r.sum(), z)
    expected = slope.log() - 0.5 * (r**2 + math.log(2 * math.pi))
    torch.testing.assert_close(GaussianMixture(raw).log_prob(z), expected, rtol=1e-6, atol=1e-6)


def net_of(grid, inputs, condition):
    with torch.random.fork_rng():
        return shaken(CellNet(grid, (False, True, False), inputs, 1, condition, 8))


def hits_of(grid, groups):
    return GroupedHits(grid, groups, net_of(grid, 3, 1 + groups))


@pytest.mark.parametrize("groups", [1, 3])
def test_probabilities_of_hits_add_up_to_one_where_layers_have_energy(groups):
    hits = hits_of((2, 2, 2), groups)
    patterns = torch.tensor(list(itertools.product([False, True], repeat=8))).view(-1, 2, 2, 2)
    told, known = torch.full((256, 1), 0.4), torch.ones(256, 2, 2, 2, 1)
    for lit in ([True, True], [True, False]):
        lit = torch.tensor(lit).expand(256, 2)
        right = (patterns.flatten(2).any(2) == lit).all(1)
        log_p = hits.log_prob(patterns, lit, told, known)[right].double()
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_probabilities_of_hits_add_up_to_one_where_none_was_to_be_expected():
    hits = hits_of((1, 2, 2), 1)
    with torch.no_grad():
        hits.net.leave.bias -= 30
    patterns = torch.tensor(list(itertools.product([False, True], repeat=4))).view(-1, 1, 2, 2)
    told, known = torch.full((16, 1), 0.4), torch.ones(16, 1, 2, 2, 1)
    log_p = hits.log_prob(patterns, torch.ones(16, 1, dtype=torch.bool), told, known)
    assert log_p[1:].exp().sum().item() == pytest.approx(1, abs=1e-5)
    (slope,) = torch.autograd.grad(log_p[1:].sum(), hits.net.leave.bias)
    assert slope.isfinite().all()


@pytest.mark.parametrize("groups", [1, 3])
def test_drawn_hits_follow_their_probabilities(groups):
    hits, n = hits_of((2, 2, 1), groups), 40_000
    lit = torch.ones(n, 2, dtype=torch.bool)
    with torch.no_grad():
        told, known = torch.full((n, 1), 0.4), torch.ones(n, 2, 2, 1, 1)
        drawn = hits.sample(lit, told, known, generator(1))
        patterns = torch.tensor(list(itertools.product([False, True], repeat=4))).view(-1, 2, 2, 1)
        right = patterns.flatten(2).any(2).all(1)
        p = hits.log_prob(patterns, lit[:16], told[:16], known[:16]).exp() * right
    code = drawn.flatten(1).long() @ torch.tensor([8, 4, 2, 1])
    counts = torch.bincount(code, minlength=16)
    assert not counts[~right].any()
    chi = ((counts - n * p)[right] ** 2 / (n * p)[right]).sum().item()
    assert chi < 27.9  # 0.1 % of 9 degrees of freedom
    wrong = p[right].flip(0)  # control
    assert ((counts[right] - n * wrong) ** 2 / (n * wrong)).sum().item() > 100


def test_axes_that_are_declared_are_cells_on_request():
    declared = Law(
        "none", Box(a=(0.0, 1.0)), (2, 3, 4), "nonnegative", axes=("open", "open", "periodic")
    )
    kernel = Diffusion.create(declared, Diffusion.Config(stages="two")).kernel
    assert isinstance(kernel, CellsKernel)
    assert kernel.head.blocks[0].periodic == (False, False, True)
    assert not isinstance(Diffusion.create(declared, Diffusion.Config()).kernel, CellsKernel)
    with pytest.raises(UsageError, match="stages two: not for x of shape"):
        Diffusion.create(law(6), Diffusion.Config(stages="two"))


def test_cells_see_their_neighbours_across_the_seam_and_not_beyond_an_open_end():
    net = net_of((5, 4, 3), 1, 1)
    for p in net.blocks[0].mix.parameters():
        p.data.zero_()
    cells, c = torch.zeros(1, 5, 4, 3, 1), torch.zeros(1, 1)
    before = net(cells, c)
    cells[0, 0, 0, 0] = 1.0
    moved = (net(cells, c) != before)[0, ..., 0].nonzero().tolist()
    assert sorted(moved) == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 3, 0], [1, 0, 0]]


def test_energy_is_conserved_whatever_is_drawn():
    model = model_of(2, 4, 5)
    shaken(model.kernel.hits)
    shaken(model.kernel.head)
    theta = torch.rand(50, 1, generator=generator(3), dtype=torch.float64)
    with torch.no_grad():
        z = model.kernel.sample(model.rescale(theta), generator(4), model.config)
        u = model.kernel.energies.sample(model.rescale(theta), generator(4))
    x = model.transform.inverse(z)
    expected = (u + model.transform.energy).exp().float()
    torch.testing.assert_close(x.sum((2, 3)), expected, rtol=1e-5, atol=1e-7)
    assert ((x > 0).flatten(2).any(2) == (u > -INF)).all()


def test_the_bound_is_one_of_a_law_in_closed_form():
    """Two cells that are hit: the share of the first, by its normal law of y, integrated over s.

    Where the network is 0, y are independent normal numbers given the hits, and the density of
    y_1 − y_2 = log w_1/w_2 is exact; log p is below it, by what it costs not to know s.
    """
    model = model_of(1, 1, 2).double()
    kernel = model.kernel
    kernel.parts.fill_(20.0)
    w = torch.tensor([0.2, 0.5, 0.7], dtype=torch.float64)
    x = torch.stack([w, 1 - w], 1).view(3, 1, 1, 2) * 1.7
    theta = torch.full((3, 1), 0.4, dtype=torch.float64)
    with torch.no_grad():
        c, z = model.rescale(theta).double(), model.transform(x).double()
        found = kernel.log_prob(c, z, Noise(torch.arange(3)), 20_000, model.config)[0]
        u, lit, told, hit, y, part = kernel._split(c, z)
        cells = kernel._known(u, told)
        known = kernel.energies.log_p(c, u).sum(1)
        known = known + kernel.hits.log_prob(hit, lit, told, cells.cells)
        raw = kernel._head(hit, part, told, cells)[1]
        grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)
        at = (y[..., None] + grid - cells.middle[..., None]) / cells.width[..., None]
        log_f = GaussianMixture(raw[..., None, :]).log_prob(at) - cells.width.log()[..., None]
    share = torch.logsumexp(log_f.sum((1, 2, 3)), 1) + math.log(float(grid[1] - grid[0]))
    exact = known + share
    assert (found < exact + 0.02).all()
    assert (found > exact - 0.5)[1:].all()  # s of the first share is far from q's


@pytest.mark.parametrize("sampler", ["euler", "ancestral"])
def test_few_steps_draw_normal_scores_where_the_network_adds_nothing(sampler):
    model = model_of(2, 4, 5)
    seen = torch.ones(2000, 2, 4, 5, 17)
    for steps in (1, 2):
        config = model.using(sampler=sampler, steps=steps).config
        with torch.no_grad():
            r = model.kernel.shares.sample(seen, generator(1), config)
        assert r.var().item() == pytest.approx(1, abs=0.02)
    config = model.using(sampler="ddim", steps=2).config  # control: shrinks them
    with torch.no_grad():
        assert model.kernel.shares.sample(seen, generator(1), config).var() < 0.9


def test_few_steps_draw_a_normal_law_in_closed_form():
    """F of normal numbers of width s is exact; Euler's steps then widen them by known factors."""
    model = model_of(2, 4, 5)
    kernel, s = model.kernel.shares, 1.3

    class Exact(torch.nn.Module):
        def forward(self, z, log_snr, c):
            alpha, sigma = log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()
            gain = alpha * s**2 / (alpha**2 * s**2 + sigma**2)
            return gain.view(-1, 1, 1, 1) * z

    kernel.denoiser = Exact()
    seen = torch.ones(2000, 2, 4, 5, 17)
    width = {}
    for steps in (1, 4, 32):
        config = model.using(sampler="euler", steps=steps).config
        width[steps] = kernel.sample(seen, generator(1), config).std().item()
    assert width[32] == pytest.approx(s, rel=0.02)
    assert abs(width[4] - s) < 0.1
    assert abs(width[1] - s) > 0.2  # control


def test_drawn_shares_follow_their_law():
    """Of two cells that are hit, y_1 − y_2 = log w_1/w_2 has a law by quadrature."""
    model = model_of(1, 1, 2)
    kernel, n = model.kernel, 3000
    shaken(kernel.head)
    kernel.shares.denoiser.net.leave.weight.data.zero_()
    kernel.shares.denoiser.net.leave.bias.data.zero_()
    theta = torch.rand(n, 1, generator=generator(3), dtype=torch.float64)
    with torch.no_grad():
        c = model.rescale(theta)
        u, _, told, hit, y, part = kernel._split(c, kernel.sample(c, generator(4), model.config))
        cells = kernel._known(u, told)
        raw = kernel._head(hit, part, told, cells)[1][:, 0, 0]
    both = part.flatten(1).all(1)
    assert both.sum() > 200
    middle, width = (v.expand(n, 1, 1, 2)[both][:, 0, 0] for v in (cells.middle, cells.width))
    at = torch.linspace(-8, 8, 2001)  # of y_2, in its units
    second = GaussianMixture(raw[both, 1][:, None]).log_prob(at.expand(len(middle), -1)).exp()

    def function(log_ratio):
        first = log_ratio[:, None] + middle[:, 1:] + width[:, 1:] * at
        z = (first - middle[:, :1]) / width[:, :1]
        score = GaussianMixture(raw[both, 0][:, None]).to_normal(z)
        return (second * torch.special.ndtr(score)).sum(1) * (at[1] - at[0])

    log_ratio = (y[both][..., 0] - y[both][..., 1]).flatten()
    assert kstest(function(log_ratio), "uniform").pvalue > 1e-3
    assert kstest(function(log_ratio + 0.5 * log_ratio.std()), "uniform").pvalue < 1e-6  # control


@pytest.mark.slow
def test_a_network_raises_the_bound_of_shares_that_depend_on_one_another():
    """Trained on what neighbours share, the diffusion gains over independent cells."""
    model = model_of(1, 4, 4)
    g, kernel = generator(5), model.kernel.shares
    common = torch.randn(512, 1, 1, 1, generator=g)
    r = 0.8 * common + 0.6 * torch.randn(512, 1, 4, 4, generator=g)
    seen, part = torch.ones(512, 1, 4, 4, 17), torch.ones(512, 1, 4, 4, dtype=torch.bool)

    def gain():
        t = times(torch.rand(1, generator=g), 512)[0]
        return kernel.gain(seen, r, t, torch.randn(r.shape, generator=g), part).mean()

    def common_part():
        with torch.no_grad():
            config = model.using(sampler="euler", steps=8).config
            return kernel.sample(seen, g, config).mean((1, 2, 3)).var().item()

    assert gain() == 0
    assert common_part() == pytest.approx(1 / 16, abs=0.02)  # control: of independent numbers
    optimiser = torch.optim.Adam(kernel.parameters(), 1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        (-gain()).backward()
        optimiser.step()
    with torch.no_grad():
        found = torch.stack([gain() for _ in range(20)]).mean().item()
    covariance = 0.64 * np.ones((16, 16)) + 0.36 * np.eye(16)
    most = -0.5 * np.linalg.slogdet(covariance)[1]
    assert 0.5 * most < found < 1.1 * most
    assert common_part() == pytest.approx(0.64 + 0.36 / 16, abs=0.15)

"""A tree of splits: an inverse, its volume, a law that is normalised, and draws that follow it."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.halving import halvings
from physgen.nn.shares import Shares
from physgen.nn.split_law import SplitLaw, spots
from physgen.surrogates.tree import Tree, TreeConfig
from physgen.surrogates.tree.rings import turns
from simulators.prior import Box

INF = math.inf
SHAPES = [(3, 4, 5), (2, 6, 3), (4, 1, 2), (2, 5, 1), (3, 7), (5,), (2, 2, 3, 2)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def law(*shape):
    return Law("none", Box(a=(0.0, 1.0)), shape, "nonnegative")


def showers(n, *shape, seed=0):
    """Cells of which a third are hit; a shower of nothing, and one of a single hit."""
    g = generator(seed)
    x = torch.rand(n, *shape, generator=g) * (torch.rand(n, *shape, generator=g) < 1 / 3)
    x[0] = 0
    x[1] = 0
    x[1].view(-1)[-1] = 2.0
    return x


def tree(*shape, **options):
    """A tree of weights that nothing in it hides."""
    model = Tree.create(law(*shape), TreeConfig(**options), seed=1)
    model.fit_transform(showers(300, *shape), torch.rand(300, 1, generator=generator(5)).double())
    g = generator(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=g)
    return model.eval()


@pytest.mark.parametrize("n", [1, 2, 3, 6, 9, 16, 18, 50])
def test_a_line_is_halved_until_each_piece_is_one_cell(n):
    levels = halvings(n)
    assert len(levels) == math.ceil(math.log2(n))
    for level in levels:
        sizes = [stop - start for start, stop in level.pieces]
        assert sum(sizes) == n
        assert max(sizes) - min(sizes) <= 1
        cells = torch.arange(n)
        pieces, left, right = (
            torch.tensor([float(cells[a:b].sum()) for a, b in spans])
            for spans in (
                level.pieces,
                [(a, m) for a, m, _ in level.ends],
                [(m, b) for _, m, b in level.ends],
            )
        )
        after = [float(cells[a:b].sum()) for a, b in level.after]
        assert level.split(pieces, left, right).tolist() == after
    assert n == 1 or levels[-1].after == [(i, i + 1) for i in range(n)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_map_has_an_inverse_that_keeps_zeros_and_energies(shape):
    x = showers(97, *shape)
    shares = Shares(law(*shape))
    shares.fit(x)
    z = shares(x)
    assert z.shape == (97, x[0].numel())
    again = shares.inverse(z)
    assert torch.equal(again > 0, x > 0)
    torch.testing.assert_close(again, x, rtol=1e-5, atol=1e-6)
    layers = shape[0]
    z[:, layers:] = torch.where(z[:, layers:].isfinite(), 3 * z[:, layers:] + 1, z[:, layers:])
    other = shares.inverse(z).flatten(2) if len(shape) > 1 else shares.inverse(z)[..., None]
    energy = x.flatten(2).sum(2) if len(shape) > 1 else x
    torch.testing.assert_close(other.sum(2), energy, rtol=1e-6, atol=1e-9)
    assert len(shape) == 1 or not torch.allclose(other, x.flatten(2), atol=0.1)


@pytest.mark.parametrize("shape", SHAPES)
def test_volume_against_autograd(shape):
    x = showers(9, *shape).double()
    shares = Shares(law(*shape)).double()
    shares.fit(x)
    for row in x.flatten(1).any(1).nonzero()[:, 0].tolist():
        hit, keep = x[row].flatten() > 0, shares(x[row : row + 1])[0]

        def finite(values, hit=hit, row=row, keep=keep):
            full = torch.zeros(x[row].numel(), dtype=torch.float64)
            full[hit] = values
            z = shares(full.view(1, *shape))[0]
            return z[keep.isfinite()]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "float", torch.Tensor.double)
            jacobian = torch.autograd.functional.jacobian(finite, x[row].flatten()[hit])
        assert jacobian.shape == (int(hit.sum()),) * 2
        expected = torch.linalg.slogdet(jacobian)[1].item()
        assert shares.log_det(x[row : row + 1]).item() == pytest.approx(expected, abs=1e-8)


def split_laws():
    raw = torch.randn(6, 2 + 9, generator=generator(3), dtype=torch.float64)
    raw[:, 5:8] = 4 * raw[:, 5:8].abs()
    return SplitLaw(raw)


def test_a_split_is_normalised():
    laws = split_laws()
    y = torch.linspace(-40, 40, 40_001, dtype=torch.float64)
    density = laws.log_prob(y[:, None]).exp()
    atoms = sum(laws.log_prob(torch.full((6,), at).double()).exp() for at in (-INF, INF))
    total = integrate.simpson(density.numpy(), x=y.numpy(), axis=0) + atoms.numpy()
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert (atoms > 0.1).all()


def test_the_densities_of_a_split_are_betas():
    laws = split_laws()
    s = np.linspace(0.01, 0.99, 50)[:, None, None]
    betas = stats.beta(laws.a.numpy(), laws.b.numpy()).pdf(s) * s * (1 - s)
    expected = np.log((laws.log_weight[:, 2:].exp().numpy() * betas).sum(-1))
    y = torch.from_numpy(np.log(s / (1 - s)))[..., 0]
    np.testing.assert_allclose(laws.log_prob(y).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("tilt", [0.0, 0.3, -4.0])
def test_the_density_of_a_split_of_very_many_spots(tilt):
    law = SplitLaw(spots(torch.tensor(math.log(5e4)), torch.tensor(tilt), 1))
    a, b = law.a.item(), law.b.item()
    width = math.sqrt(1 / a + 1 / b)
    y = (math.log(a / b) + width * torch.linspace(-5, 5, 101)).float()
    log_s, log_rest = (-np.logaddexp(0, sign * y.double().numpy()) for sign in (-1, 1))
    expected = a * log_s + b * log_rest - special.betaln(a, b) + law.log_weight[2].item()
    np.testing.assert_allclose(law.log_prob(y).numpy(), expected, atol=1e-3)


def test_a_split_of_any_number_of_spots_has_a_slope():
    log_k = torch.tensor([-200.0, 50.0, 200.0], requires_grad=True)
    tilt = torch.tensor([[-60.0], [0.0], [60.0]], requires_grad=True)
    log_p = SplitLaw(spots(log_k.expand(3, 3), tilt.expand(3, 3), 3)).log_prob(torch.ones(3, 3))
    assert log_p.isfinite().all()
    for slope in torch.autograd.grad(log_p.sum(), [log_k, tilt]):
        assert slope.isfinite().all()


def test_splits_are_drawn_from_their_law():
    laws = split_laws()
    many = SplitLaw(torch.zeros(1, 11))
    many.log_weight, many.a, many.b = (
        v[:, None].expand(-1, 20_000, -1).float() for v in (laws.log_weight, laws.a, laws.b)
    )
    y = many.sample(generator(4)).numpy()
    for i in range(6):
        for at in (-INF, INF):
            p = laws.log_prob(torch.full((6,), at).double()).exp()[i].item()
            assert stats.binomtest(int((y[i] == at).sum()), 20_000, p).pvalue > 1e-3
        s = 1 / (1 + np.exp(-y[i][np.isfinite(y[i])]))
        weight = laws.log_weight[i, 2:].softmax(-1).numpy()
        betas = stats.beta(laws.a[i].numpy(), laws.b[i].numpy())

        def cdf(v, betas=betas, weight=weight):
            return (weight * betas.cdf(np.asarray(v)[..., None])).sum(-1)

        assert stats.kstest(s, cdf).pvalue > 1e-3
        assert stats.kstest(s**1.1, cdf).pvalue < 1e-3  # the control


def test_a_split_starts_as_one_of_spots():
    """k + 1 spots: the mean share is m, and one spot falls to one side."""
    log_k = torch.tensor([-9.0, 1.0, 4.0])
    laws = SplitLaw(spots(log_k, torch.full((3,), 0.8), 1))
    m = torch.tensor(0.8).sigmoid()
    torch.testing.assert_close(laws.a[:, 0], 1 + log_k.exp() * m)
    torch.testing.assert_close(laws.b[:, 0], 1 + log_k.exp() * (1 - m))
    p = laws.log_weight.exp()
    torch.testing.assert_close(p[0, 1] / p[0, 0], m / (1 - m), rtol=1e-3, atol=0)
    assert p[2, :2].sum() < 1e-3


def masses(model, theta, shape):
    """P of nothing, of hits in one of two cells, in the other, and in both, by quadrature."""
    at = np.linspace(-14, 6, 241)
    e = torch.from_numpy(np.exp(at))
    none = torch.zeros(1, *shape, dtype=torch.float64)
    zero = model.log_prob(theta[:1], none).exp().item()
    alone = []
    for cell in (0, 1):
        x = torch.zeros(len(e), 2, dtype=torch.float64)
        x[:, cell] = e
        x = x.view(-1, *shape)
        p = model.log_prob(theta[:1].expand(len(e), -1), x).exp() * e
        alone.append(integrate.simpson(p.numpy(), x=at))
    y = np.linspace(-25, 25, 161)
    s = torch.from_numpy(1 / (1 + np.exp(-y)))
    x = torch.stack([e[:, None] * s, e[:, None] * (1 - s)], -1).view(-1, *shape)
    p = model.log_prob(theta[:1].expand(len(x), -1), x).exp().view(len(e), len(y))
    p = p * e[:, None] ** 2 * s * (1 - s)
    both = integrate.simpson(integrate.simpson(p.numpy(), x=y, axis=1), x=at)
    return np.array([zero, *alone, both])


@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 2, 1)])
def test_a_tiny_tree_is_normalised_and_drawn_from_its_law(shape):
    model = tree(*shape)
    model.transform.least.zero_()  # nothing is below what is read out
    theta = torch.full((20_000, 1), 0.3, dtype=torch.float64)
    p = masses(model, theta, shape)
    assert p.sum() == pytest.approx(1, abs=1e-3)
    x = model.sample(theta, generator(6)).flatten(1) > 0
    found = [(~x).all(1), x[:, 0] & ~x[:, 1], ~x[:, 0] & x[:, 1], x.all(1)]
    counts = np.array([int(v.sum()) for v in found])
    assert stats.chisquare(counts, p / p.sum() * len(x)).pvalue > 1e-3
    assert stats.chisquare(counts, np.roll(p, 1) / p.sum() * len(x)).pvalue < 1e-6


def test_a_turn_is_told_of_earlier_ones_alone():
    """So that the product of laws of splits is a law of all of them."""
    assert turns(12).tolist() == [0, 3, 2, 3, 1, 3, 2, 3, 0, 3, 2, 3]
    model = tree(6, 1, 4)
    stage, turn = model.rings.levels[0], turns(6)
    c, pieces = torch.zeros(1, 1), torch.zeros(1, 6, 1)
    y = torch.randn(1, 6, 1, generator=generator(7)).requires_grad_()
    told = stage.inputs(c, pieces, y, range(stage.turns))
    for layer in range(6):
        (slope,) = torch.autograd.grad(told[0, layer].sum(), y, retain_graph=True)
        assert ((slope.flatten() != 0) == (turn < turn[layer])).all()


def test_draws_have_what_their_splits_were_told():
    """Drawn turn by turn and level by level, x is told what `log_prob` is told of it."""
    model = tree(4, 3, 5)
    theta = torch.rand(50, 1, generator=generator(3)).double()
    seen = []
    forward = model.rings.net.forward
    model.rings.net.forward = lambda *a: seen.append([v.flatten() for v in a]) or forward(*a)
    z = model._sample(model.rescale(theta), generator(4))
    drawn = torch.cat([parent for _, parent, _ in seen])
    seen.clear()
    model.score(model.rescale(theta), z, 50)
    scored = torch.cat([parent for _, parent, _ in seen])
    drawn = drawn[drawn.isfinite()]
    torch.testing.assert_close(drawn.sort().values, scored.sort().values, rtol=1e-4, atol=1e-4)


def test_azimuths_of_some_rows_stand_for_all():
    model = tree(2, 4, 2)
    x = showers(12, 2, 4, 2, seed=8)[2:]
    theta = torch.rand(10, 1, generator=generator(3)).double()
    c, z = model.rescale(theta), model.transform(x)
    whole = model.score(c, z, 10)
    some = torch.stack([model.score(c.roll(k, 0), z.roll(k, 0), 5).sum() for k in range(10)])
    torch.testing.assert_close(some.mean(), whole.sum(), rtol=1e-4, atol=1e-3)
    assert some.std() > 0.1


def test_layers_without_energy_stay_empty_and_energies_add_up():
    model = tree(4, 3, 5)
    theta = torch.rand(500, 1, generator=generator(3)).double()
    model.transform.least.zero_()
    x = model.sample(theta, generator(4))
    u = model.energies.sample(model.rescale(theta), generator(4))
    energy = (u + model.transform.energy).exp()
    torch.testing.assert_close(x.sum((2, 3)), energy, rtol=1e-5, atol=1e-8)
    assert (energy == 0).any()
    assert ((x == 0).float().mean() - 2 / 3).abs() < 0.3


@pytest.mark.parametrize("neighbours", [True, False])
def test_a_split_of_azimuths_is_told_of_its_neighbours_if_asked_for(neighbours):
    model = tree(3, 4, 3, neighbours=neighbours)
    stage = model.azimuths.levels[1]
    pieces = torch.randn(1, 3, 3, 2, generator=generator(7)).requires_grad_()
    told = stage.inputs(torch.zeros(1, 3, 3), pieces)[0, 1, 1, 0]
    (slope,) = torch.autograd.grad(told.sum(), pieces)
    seen = slope[0] != 0
    assert seen[1, 1, 0]
    around = [seen[0, 1, 0], seen[2, 1, 0], seen[1, 0, 0], seen[1, 2, 0], seen[1, 1, 1]]
    assert torch.stack(around).tolist() == [neighbours] * 5
    assert seen.sum() == 1 + 5 * neighbours


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"components": 0}, "components: expected at least 1, got 0"),
        ({"azimuth_rows": 0.0}, "azimuth_rows: expected above 0, to 1, got 0"),
    ],
)
def test_options_outside_their_range_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        TreeConfig(**options)


def test_a_long_vector_is_refused():
    with pytest.raises(UsageError, match="tree: expected at most 128 layers, got 368"):
        Tree.create(law(368), TreeConfig())

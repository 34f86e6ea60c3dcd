"""Building blocks of networks."""

import pytest
import torch

from physgen.law import Law
from physgen.nn.blocks import FiLM, Refine, ResidualBlock, as_field, convolution, field_shape, wrap
from simulators.prior import Box


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def law(shape, support="reals", symmetries=()):
    return Law("none", Box(a=(0.0, 1.0)), shape, support, symmetries)


def build(kind, *args):
    """A module far from its start, with torch's global random numbers left as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # noqa: TID251
        module = kind(*args)
        with torch.no_grad():
            for w in module.parameters():
                w += 0.3 * torch.randn(w.shape)
    return module


@pytest.mark.parametrize(
    ("shape", "support", "field"),
    [
        ((3, 5), "spins", (1, 3, 5)),
        ((3, 5), "reals", (1, 3, 5)),
        ((7,), "spins", (1, 1, 7)),
        ((7,), "reals", (7, 1, 1)),
        ((2, 3, 5), "spins", (1, 1, 30)),
        ((2, 3, 5), "reals", (30, 1, 1)),
    ],
)
def test_x_as_a_field(shape, support, field):
    assert field_shape(law(shape, support)) == field
    x = torch.randn(2, *shape, generator=generator())
    assert torch.equal(as_field(law(shape, support), x).flatten(), x.flatten())


@pytest.mark.parametrize("shape", [(3, 5), (1, 7), (2, 2)])
def test_a_block_follows_translations_of_a_torus_and_of_nothing_else(shape):
    x = torch.randn(3, 5, *shape, generator=generator())
    c = torch.rand(3, 1, generator=generator())
    for symmetries, same in ((("shift",), True), ((), False)):
        block = build(ResidualBlock, 5, 1, law(shape, "spins", symmetries))
        for axis in (2, 3):
            if shape[axis - 2] > 1:
                moved, image = block(x.roll(1, axis), c), block(x, c).roll(1, axis)
                assert torch.allclose(moved, image, atol=1e-5) == same


def test_circular_convolution_against_a_sum():
    conv = build(convolution, 2, 3, law((3, 5), "spins", ("shift",)))
    x = torch.randn(1, 2, 3, 5, generator=generator())
    expected = conv.bias.view(1, 3, 1, 1) + sum(
        torch.einsum("oi,bihw->bohw", conv.weight[:, :, a, b], x.roll((1 - a, 1 - b), (2, 3)))
        for a in range(3)
        for b in range(3)
    )
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize(("shape", "k"), [((3, 5), 1), ((4, 3), 2), ((1, 7), 1)])
def test_wrapping_a_torus_has_the_gradients_of_padding_of_any_order(shape, k):
    x = torch.randn(2, 3, *shape, generator=generator(), dtype=torch.float64, requires_grad=True)
    padded = torch.nn.functional.pad(x, (k, k, k, k), mode="circular")
    weight = torch.randn(padded.shape, generator=generator(1), dtype=torch.float64)
    assert torch.equal(wrap(x, k), padded)
    found, expected = (
        torch.autograd.grad((weight * y**3).sum(), x)[0] for y in (wrap(x, k), padded)
    )
    torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(lambda x: wrap(x, k), x)
    assert torch.autograd.gradgradcheck(lambda x: wrap(x, k) ** 2, x, weight)


def test_convolution_on_a_single_site_is_a_matrix_product():
    conv = build(convolution, 7, 3, law((7,)))
    assert conv.weight.shape == (3, 7, 1, 1)


@pytest.mark.parametrize(("grid", "ratio"), [((3, 5), (2, 2)), ((1, 4), (1, 2)), ((1, 1), (1, 1))])
def test_refining_is_a_transposed_convolution(grid, ratio):
    ours = build(Refine, 7, 3, ratio)
    x = torch.randn(2, 7, *grid, generator=generator(), requires_grad=True)
    theirs = torch.nn.functional.conv_transpose2d(x, ours.weight, ours.bias, ratio)
    torch.testing.assert_close(ours(x), theirs)
    found, expected = (
        torch.autograd.grad((y**2).sum(), [x, ours.weight, ours.bias]) for y in (ours(x), theirs)
    )
    torch.testing.assert_close(found, expected)


def test_film_is_the_identity_at_the_start():
    with torch.random.fork_rng(devices=[]):
        film = FiLM(2, 5)
    h = torch.randn(3, 5, 2, 3, generator=generator())
    assert torch.equal(film(h, torch.rand(3, 2, generator=generator())), h)


def test_film_scales_and_shifts_each_channel():
    film, c = build(FiLM, 2, 5), torch.rand(3, 2, generator=generator())
    h = torch.randn(3, 5, 2, 3, generator=generator())
    gain, shift = film.net(c).chunk(2, -1)
    expected = torch.einsum("bchw,bc->bchw", h, 1 + gain) + shift[..., None, None]
    torch.testing.assert_close(film(h, c), expected)

"""Circular convolutions in the Fourier basis of a torus, against sums over shifted fields."""

import math

import numpy as np
import pytest
import torch
from torch.autograd.gradcheck import GradcheckError

from physgen.nn import torus
from physgen.nn.blocks import Coarsen, Convolution, Refine
from physgen.nn.recorded import recorded
from physgen.nn.torus import (
    concatenated,
    fields_of,
    fourier_basis,
    has_rows_last,
    repeated_rows,
    sines_and_cosines,
    with_rows_last,
)
from physgen.nn.torus_fft import WIDTH, from_waves, to_waves

GRIDS = [(1, 1), (2, 2), (4, 4), (6, 5), (10,), (2, 4, 3), (16, 8), (4, 16), (4, 2, 2)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def field(*shape):
    return torch.randn(*shape, generator=generator(1), dtype=torch.float64)


def summed(x, weight, bias):
    """The convolution as a sum over the places of its kernel."""
    y, axes = bias.view(1, -1, *[1] * (x.ndim - 2)), range(2, x.ndim)
    for place in np.ndindex(*weight.shape[2:]):
        steps = [side // 2 - p for side, p in zip(weight.shape[2:], place, strict=True)]
        moved = x.roll(steps, tuple(axes))
        y = y + torch.einsum("oi,bi...->bo...", weight[(..., *place)], moved)
    return y


def rows_in_memory(x):
    return fields_of(with_rows_last(x).contiguous())


@pytest.mark.parametrize("grid", GRIDS)
def test_waves_are_orthonormal_and_the_first_is_constant(grid):
    found = sines_and_cosines(grid)
    np.testing.assert_allclose(found @ found.T, np.eye(math.prod(grid)), atol=1e-12)
    np.testing.assert_allclose(found[0], math.prod(grid) ** -0.5)


@pytest.mark.parametrize("grid", GRIDS)
def test_convolution_in_the_basis_is_the_sum_with_its_gradients(grid):
    x, kernel = field(9, 3, *grid).requires_grad_(), (5 if len(grid) == 1 else 3,) * len(grid)
    weight, bias = field(4, 3, *kernel).requires_grad_(), field(4).requires_grad_()
    ours = fourier_basis(x, kernel).convolve(x, weight, bias)
    theirs = summed(x, weight, bias)
    torch.testing.assert_close(ours, theirs)
    assert has_rows_last(ours)
    found, expected = (
        torch.autograd.grad((y**3).sum(), [x, weight, bias]) for y in (ours, theirs)
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    mirrored = summed(x, weight.flip(-1), bias)  # the control: another one on sides above 2
    assert ((ours - mirrored).abs().max() > 0.1) == (grid[-1] > 2)


def test_gradients_of_gradients_are_those_of_the_sum_of_one_kernel_used_twice():
    x = field(8, 3, 2, 4).requires_grad_()
    weight, bias = field(3, 3, 3, 3).requires_grad_(), field(3).requires_grad_()
    basis = fourier_basis(x, (3, 3))
    found = []
    for convolve in (basis.convolve, summed):
        y = convolve(convolve(x, weight, bias).tanh(), weight, bias)
        slopes = torch.autograd.grad(y.square().sum(), [x, weight], create_graph=True)
        total = sum(slope.square().sum() for slope in slopes)
        found.append(slopes + torch.autograd.grad(total, [x, weight, bias]))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("columns", [1, 127, 300])
@pytest.mark.parametrize("grid", [(2, 2), (8, 8), (4, 16), (16,), (2, 2, 4)])
def test_the_fast_transform_is_that_of_the_waves_in_blocks_of_any_width(grid, columns):
    basis = fourier_basis(field(8, 1, *grid), (1,) * len(grid))
    x = field(*grid, 1, columns)
    u = basis.into(x)
    matrix = torch.from_numpy(sines_and_cosines(grid))
    assert basis.fft is not None
    torch.testing.assert_close(u.reshape(-1, columns), matrix @ x.view(-1, columns))
    torch.testing.assert_close(basis.out_of(u, grid), x)
    found, back = np.empty((2, math.prod(grid), columns))
    room = np.full((len(found), 2 * WIDTH), np.nan)  # what was there before says nothing
    to_waves(basis.fft, x.view(-1, columns).numpy(), found, room)
    from_waves(basis.fft, found, back, np.full_like(room, np.nan))
    torch.testing.assert_close(torch.from_numpy(found), u.reshape(-1, columns))
    torch.testing.assert_close(torch.from_numpy(back), x.view(-1, columns))
    with torch.no_grad():
        slow = fourier_basis(field(8, 1, *grid), (1,) * len(grid))
    assert slow.fft is None
    torch.testing.assert_close(slow.into(x), u)
    wrong = basis._replace(fft=basis.fft._replace(factors=-basis.fft.factors))  # the control
    assert (wrong.into(x) - u).abs().max() > 0.01


@pytest.mark.parametrize("grid", [(2, 4), (2, 8)])
def test_gradients_of_gradients_are_those_of_differences(grid):
    """Of a torus that goes fast, of 4ˢ sites, and of one that does not."""
    x, kernel = field(8, 1, *grid).requires_grad_(), (1, 3)
    weight, bias = field(2, 1, *kernel).requires_grad_(), field(2).requires_grad_()
    basis = fourier_basis(x, kernel)
    assert (basis.fft is None) == (grid == (2, 4))

    def convolved(x, weight, bias):
        return basis.convolve(x, weight, bias).square()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # noqa: TID251
        assert torch.autograd.gradcheck(convolved, (x, weight, bias), fast_mode=True)
        assert torch.autograd.gradgradcheck(convolved, (x, weight, bias), fast_mode=True)


def test_a_wrong_transpose_is_seen_by_differences(monkeypatch):
    """The control of the test above."""
    x = field(8, 1, 2, 8).requires_grad_()
    weight, bias = field(2, 1, 1, 3).requires_grad_(), field(2).requires_grad_()
    basis = fourier_basis(x, (1, 3))
    monkeypatch.setattr(
        torus, "out_of_basis", lambda u, grid, basis: basis.out_of(u.flip(0), grid)
    )
    with torch.random.fork_rng(devices=[]), pytest.raises(GradcheckError):
        torch.autograd.gradcheck(basis.convolve, (x, weight, bias), fast_mode=True)


@pytest.mark.parametrize("periodic", [(True, False), (False, False)])
def test_an_open_axis_is_no_torus(periodic):
    with torch.random.fork_rng(devices=[]):
        layer = Convolution(2, 3, 3, periodic).double()
    x = field(9, 2, 4, 4)
    assert (layer(x) - summed(x, layer.weight, layer.bias)).abs().max() > 0.01


def test_a_convolution_says_the_same_of_few_rows_and_of_many():
    with torch.random.fork_rng(devices=[]):
        layer = Convolution(2, 3, 3, (True, True)).double()
    x = field(9, 2, 4, 6)
    parts = torch.cat([layer(part) for part in x.split(3)])
    torch.testing.assert_close(layer(x), parts)


def test_what_is_written_down_is_the_same_of_few_rows_and_of_many():
    """Two draws for each of 3 and of 4 rows: 6 are too few for the basis, 8 are not."""
    with torch.random.fork_rng(devices=[]):
        layer = Convolution(2, 3, 3, (True, True)).double()
    assert fourier_basis(field(8, 2, 4, 4), (3, 3)) is not None
    recorded(lambda x: layer(repeated_rows(x, 2)), lambda rows: [field(rows, 2, 4, 4)])


@pytest.mark.parametrize("ratio", [(2, 2), (1, 1), (2, 1), (2, 2, 1)])
@pytest.mark.parametrize("kind", [Coarsen, Refine])
def test_layers_say_the_same_whichever_way_a_field_lies_in_memory(kind, ratio):
    with torch.random.fork_rng(devices=[]):
        layer = kind(3, 5, ratio).double()
    x = field(9, 3, *(4, 6, 2)[: len(ratio)])
    one, other = layer(x), layer(rows_in_memory(x))
    torch.testing.assert_close(one, other)
    assert has_rows_last(other)
    assert not has_rows_last(one)


def test_fields_are_joined_and_repeated_in_their_memory():
    x = field(4, 3, 2, 2)
    for given in (x, rows_in_memory(x)):
        for ours, theirs in (
            (concatenated(given, 2 * given), torch.cat([x, 2 * x], 1)),
            (repeated_rows(given, 3), x.repeat_interleave(3, 0)),
        ):
            assert torch.equal(ours, theirs)
            assert has_rows_last(ours) == has_rows_last(given)

r"""Convolutions of fields on a small torus, in its Fourier basis, where they are few products.

In the real basis cos k·i, sin k·i of a torus of N sites a circular convolution leaves each pair
(k, −k) to itself: it is a 2 × 2 matrix there, of blocks (outputs, inputs). So N/2 products of
matrices (2C, 2C), 2C² multiplications a site, do what 3ᵈC² would; on tori of few sites the change
of basis costs less than that saves (Mathieu, Henaff & LeCun 2013, arXiv:1312.5851). It is real and
orthonormal, hence its own inverse when transposed, and is made in two steps: along the first axis,
then, for each pair of frequencies there, along all others. Where gradients are asked for, as in
trainings, :mod:`physgen.nn.torus_fft` makes it in a half to a third of the time, on one thread.

What is fast is where the rows of a batch lie next to each other in memory: *rows last*, a field
(B, C, *grid) with the memory of (*grid, C, B). Then every step is a product of matrices of what
lies there, without a copy, and what θ says of channels is one block for all sites.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from physgen.nn.recorded import is_recorded
from simulators.base import Array

if TYPE_CHECKING:
    from physgen.nn.torus_fft import TorusFFT

__all__ = [
    "FEWEST_ROWS",
    "FourierBasis",
    "chosen_rows",
    "concatenated",
    "fields_of",
    "fourier_basis",
    "has_rows_last",
    "repeated_rows",
    "site_product",
    "takes_numba",
    "with_rows_last",
]

MOST_SITES, FEW_SITES, FEWEST_ROWS = 256, 16, 8
"""Sites of a torus whose basis is used, and up to which one step is best; rows of a batch for
which a kernel is worth its change of basis."""
FEW_THREADS = 3
"""Beyond which products of matrices, which use them all, change the basis faster."""


class FourierBasis(NamedTuple):
    """The real Fourier basis of a torus of N sites, frequencies in groups of g.

    g is 2, and 1 on a single site.

    Attributes:
        steps: (p, k, k) each: matrices of p parts of the sites, one step after another.
        kernel: (N/g, g, g, kᵈ) what each number of a kernel comes to in each group's (g, g) block.
        fft: what takes the place of these steps, if any.
    """

    steps: tuple[Tensor, ...]
    kernel: Tensor
    fft: TorusFFT | None

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The circular convolution of fields.

        Args:
            x: (B, C, *grid).
            weight: (C′, C, *kernel).
            bias: (C′,).

        Returns:
            (B, C′, *grid), rows last.
        """
        return fields_of(in_basis(with_rows_last(x), weight, bias, self))

    def into(self, x: Tensor) -> Tensor:
        """Numbers (*grid, C, B) of each group, (N/g, g C, B)."""
        parts, g, *_ = self.kernel.shape
        c, b = x.shape[-2:]
        if self.fft:
            from physgen.nn.torus_fft import to_waves

            u = torch.empty(parts * g, c * b, dtype=x.dtype)
            to_waves(self.fft, *in_numpy(x.reshape(u.shape), u))
        else:
            u = x
            for step in self.steps:
                u = torch.bmm(step, u.reshape(*step.shape[:2], -1))
        return u.reshape(parts, g * c, b)

    def out_of(self, u: Tensor, grid: Sequence[int]) -> Tensor:
        """The inverse, (*grid, C, B)."""
        b, n = u.shape[-1], math.prod(grid)
        if self.fft:
            from physgen.nn.torus_fft import from_waves

            x = torch.empty(n, u.numel() // n, dtype=u.dtype)
            from_waves(self.fft, *in_numpy(u.reshape(x.shape), x))
        else:
            x = u
            for step in reversed(self.steps):
                x = torch.bmm(step.mT, x.reshape(*step.shape[:2], -1))
        return x.view(*grid, -1, b)

    def blocks(self, weight: Tensor) -> Tensor:
        """Kernels (C′, C, *kernel) as matrices of each group of g, (N/g, g C′, g C)."""
        (o, c), (parts, g, _, places) = weight.shape[:2], self.kernel.shape
        numbers = weight.flatten(2).movedim(2, 0).reshape(places, -1)
        blocks = self.kernel.view(-1, places) @ numbers
        blocks = blocks.view(parts, g, g, o, c).transpose(2, 3)
        return blocks.reshape(parts, g * o, g * c)

    def weight(self, blocks: Tensor, shape: Sequence[int]) -> Tensor:
        """The transpose of `blocks`: (N/g, g C′, g C) → (C′, C, *kernel), that shape."""
        parts, g, _, places = self.kernel.shape
        o, c, *_ = shape
        numbers = blocks.view(parts, g, o, g, c).transpose(2, 3).reshape(-1, o * c)
        found = self.kernel.view(-1, places).t() @ numbers
        return found.view(places, o, c).movedim(0, 2).reshape(shape)


class Into(torch.autograd.Function):
    """The change of basis, whose transpose is its inverse."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, basis: FourierBasis) -> Tensor:
        """x (*grid, C, B) → (N/g, g C, B)."""
        ctx.basis, ctx.grid = basis, x.shape[:-2]
        return basis.into(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Of that of the result, (*grid, C, B)."""
        return out_of_basis(gradient, ctx.grid, ctx.basis), None


class OutOf(torch.autograd.Function):
    """The inverse of `Into`."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, grid: Sequence[int], basis: FourierBasis) -> Tensor:
        """u (N/g, g C, B) → (*grid, C, B)."""
        ctx.basis = basis
        return basis.out_of(u, grid)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Of that of the result, (N/g, g C, B)."""
        return into_basis(gradient, ctx.basis), None, None


class InBasis(torch.autograd.Function):
    """A circular convolution, its gradient in closed form.

    Autograd makes the same of the steps, in three times as many calls.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, basis: FourierBasis) -> Tensor:
        """x (*grid, C, B), weight (C′, C, *kernel) and bias (C′,) → (*grid, C′, B)."""
        u, blocks = basis.into(x), basis.blocks(weight)
        ctx.save_for_backward(x, weight, bias, u, blocks)
        ctx.basis, grid = basis, x.shape[:-2]
        v = torch.bmm(blocks, u)
        v[0, : len(bias)] += math.sqrt(math.prod(grid)) * bias[:, None]
        return basis.out_of(v, grid)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, weight and bias, of that of the result (*grid, C′, B)."""
        x, weight, bias, u, blocks = ctx.saved_tensors
        basis, grid = ctx.basis, x.shape[:-2]
        if torch.is_grad_enabled():  # what is made here is to be differentiated again
            u, blocks = into_basis(x, basis), basis.blocks(weight)
        v = into_basis(gradient, basis)
        slope = None
        if ctx.needs_input_grad[0]:
            slope = out_of_basis(torch.bmm(blocks.mT, v), grid, basis)
        constant = math.sqrt(math.prod(grid)) * v[0, : len(bias)].sum(1)
        return slope, basis.weight(torch.bmm(v, u.mT), weight.shape), constant, None


into_basis: Callable[[Tensor, FourierBasis], Tensor] = Into.apply
out_of_basis: Callable[[Tensor, Sequence[int], FourierBasis], Tensor] = OutOf.apply
in_basis: Callable[[Tensor, Tensor, Tensor, FourierBasis], Tensor] = InBasis.apply


def in_numpy(given: Tensor, made: Tensor) -> tuple[Array, Array, Array]:
    """Numbers (N, R) that are given, those that are made of them, and room to work in."""
    from physgen.nn.torus_fft import WIDTH

    room = torch.empty(len(given), 2 * WIDTH, dtype=given.dtype)
    return given.detach().contiguous().numpy(), made.numpy(), room.numpy()


def with_rows_last(x: Tensor) -> Tensor:
    """A field (B, C, *grid) as (*grid, C, B)."""
    return x.movedim((0, 1), (-1, -2))


def fields_of(x: Tensor) -> Tensor:
    """What `with_rows_last` gave, as a field (B, C, *grid)."""
    return x.movedim((-1, -2), (0, 1))


def has_rows_last(x: Tensor) -> bool:
    """Whether a field (B, C, *grid) has its rows last in memory."""
    return len(x) > 1 and x.stride(0) == 1 and x.stride(1) == len(x)


def concatenated(*fields: Tensor) -> Tensor:
    """Fields (B, C, *grid) of all their channels, in the memory of the first."""
    if has_rows_last(fields[0]):
        return fields_of(torch.cat([with_rows_last(field) for field in fields], -2))
    return torch.cat(fields, 1)


def repeated_rows(x: Tensor, k: int) -> Tensor:
    """Each row of a field (B, C, *grid) k times, (B k, C, *grid), in its memory."""
    if has_rows_last(x):
        return fields_of(with_rows_last(x).repeat_interleave(k, -1))
    return x.repeat_interleave(k, 0)


def chosen_rows(x: Tensor, which: Tensor) -> Tensor:
    """Rows (B,) of a field (N, C, *grid), (B, C, *grid), in its memory."""
    if has_rows_last(x):
        return fields_of(with_rows_last(x).index_select(-1, which))
    return x.index_select(0, which)


def site_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Matrices for each site.

    Args:
        x: (*grid, C, B).
        weight: (C′, C).
        bias: (C′,).

    Returns:
        (*grid, C′, B).
    """
    (*grid, c, b), o = x.shape, len(weight)
    sites = x.reshape(math.prod(grid), c, b)
    many = weight.expand(len(sites), o, c)
    if bias is None:
        return torch.bmm(many, sites).view(*grid, o, b)
    return torch.baddbmm(bias[:, None], many, sites).view(*grid, o, b)


def fourier_basis(x: Tensor, kernel: tuple[int, ...]) -> FourierBasis | None:
    """The basis in which convolutions of a field with kernels of a shape are cheaper, if any.

    Args:
        x: (B, C, *grid), on a torus.
        kernel: its sides, odd.
    """
    (b, _, *grid), n = x.shape, math.prod(x.shape[2:])
    if b < FEWEST_ROWS or n > MOST_SITES or not (grid[0] % 2 == 0 or n == 1):
        return None
    if not in_plain_sight(x):  # a graph holds for any number of rows
        return None
    return basis_of(tuple(grid), kernel, x.dtype, takes_numba(x))


def in_plain_sight(x: Tensor) -> bool:
    """Whether numbers are made of x (...) on a CPU, here and now, in its precision."""
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    return not (is_recorded() or torch.compiler.is_compiling())


def takes_numba(x: Tensor) -> bool:
    """Whether numba makes numbers of x (...) faster than torch: not once, nor on many threads.

    Its import takes a second, so that it is for trainings, where gradients are asked for.
    """
    few = torch.get_num_threads() <= FEW_THREADS
    return few and torch.is_grad_enabled() and in_plain_sight(x)


@lru_cache
def basis_of(
    grid: tuple[int, ...], kernel: tuple[int, ...], dtype: torch.dtype, fast: bool
) -> FourierBasis:
    """The basis of a grid, and what shifts by the places of a kernel are in it; fast by numba."""
    rows, sites = sines_and_cosines(grid), np.arange(math.prod(grid)).reshape(grid)
    g, m = (2 if len(rows) > 1 else 1), len(rows) // grid[0]
    steps, fft = [rows[None]] if len(rows) > 1 else [], None
    if fast and steps:
        from physgen.nn.torus_fft import torus_fft

        fft = torus_fft(grid, wave_pairs(grid), torch.empty(0, dtype=dtype).numpy().dtype)
    if m > 1 and len(rows) > FEW_SITES:
        first = sines_and_cosines(grid[:1])
        steps = [first[None], diagonal_blocks(rows @ np.kron(first, np.eye(m)).T, g * m)]
    kept = []
    for step in np.ndindex(kernel):
        shift = [k // 2 - s for k, s in zip(kernel, step, strict=True)]
        moved = np.roll(sites, shift, range(len(grid))).ravel()
        kept.append(diagonal_blocks(rows @ rows.T[moved], g))
    return FourierBasis(
        tuple(torch.from_numpy(step).to(dtype) for step in steps),
        torch.from_numpy(np.stack(kept, -1)).to(dtype),
        fft,
    )


def wave_pairs(grid: tuple[int, ...]) -> list[tuple[int, int]]:
    """The frequencies k and −k of a torus, as sites; of both one pair.

    By frequency along the first axis; 0 comes with n/2, those that are their own negative first.
    """
    k = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1).reshape(-1, len(grid))
    index, sides = np.arange(len(k)), np.array(grid)
    negative = np.ravel_multi_index(tuple((-k % sides).T), grid)
    half = np.where(2 * k[:, 0] % grid[0], k[:, 0], 0)
    order = np.lexsort([index, index != negative, half])
    return [(i, j) for i, j in zip(order, negative[order], strict=True) if i <= j]


def sines_and_cosines(grid: tuple[int, ...]) -> Array:
    """Real orthonormal waves of a torus, (N, N), a row each.

    In the order of `wave_pairs`, of pairs cosine and sine.
    """
    k = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1).reshape(-1, len(grid))
    phase = 2 * np.pi * (k / np.array(grid)) @ k.T
    rows = []
    for i, j in wave_pairs(grid):
        rows += [np.cos(phase[i])] if i == j else [np.cos(phase[i]), np.sin(phase[i])]
    found = np.array(rows)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def diagonal_blocks(matrix: Array, size: int) -> Array:
    """The blocks (n/size, size, size) along the diagonal of a matrix (n, n)."""
    n = len(matrix) // size
    return matrix.reshape(n, size, n, size)[np.arange(n), :, np.arange(n)]

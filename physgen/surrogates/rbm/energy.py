r"""The energy of a conditional RBM, its free energy and its two conditional laws.

With spins v_i and hidden units h_j of ±1, and c the rescaled θ,

    E(v, h|c) = −Σ_j g_j(c) h_j (W_j·v) − Σ_j d_j(c) h_j − b(c)·v,
    F(v|c) = −b(c)·v − Σ_j log 2cosh(a_j),   a_j = d_j(c) + g_j(c) W_j·v,

and p(v|c) = e^{−F(v|c)}/Z(c). θ scales the weights, since biases alone cannot say how strongly
spins are coupled. Where the law is unchanged by a flip of all spins b = d = 0: so is the model.

*Dense*: every hidden unit sees every spin. *Tied*: filters of k × k sites that move over the
torus, a hidden unit for each filter and site, so that no weight depends on the size of the
lattice (Lee et al., ICML 2009).

Arrays: v (B, N); h and a (B, C, S), with C units and S = 1, or C filters and S = N sites.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from physgen.law import Law
from physgen.nn.blocks import wrap

__all__ = ["Coefficients", "Energy", "Weights", "free_energy", "gibbs", "spins", "sum_log_2cosh"]

SMALL = 100
"""Sites up to which a product with one matrix is faster than a convolution."""


class Weights(Protocol):
    """W as two linear maps, W·v and Wᵀ·h."""

    def up(self, v: Tensor) -> Tensor:
        """(B, N) → (B, C, S)."""
        ...

    def down(self, h: Tensor) -> Tensor:
        """(B, C, S) → (B, N)."""
        ...


class Matrix(NamedTuple):
    """W written out, (C, S, N)."""

    w: Tensor

    def up(self, v: Tensor) -> Tensor:
        """(B, N) → (B, C, S)."""
        return (v @ self.w.flatten(0, 1).T).unflatten(1, self.w.shape[:2])

    def down(self, h: Tensor) -> Tensor:
        """(B, C, S) → (B, N)."""
        return h.flatten(1) @ self.w.flatten(0, 1)


class Filters(NamedTuple):
    """W as filters (C, 1, k, k) on a torus of some rows and columns."""

    w: Tensor
    shape: tuple[int, ...]

    def up(self, v: Tensor) -> Tensor:
        """(B, N) → (B, C, N)."""
        return self._convolve(v[:, None], self.w)

    def down(self, h: Tensor) -> Tensor:
        """(B, C, N) → (B, N)."""
        return self._convolve(h, self.w.flip(-1, -2).transpose(0, 1))[:, 0]

    def _convolve(self, field: Tensor, w: Tensor) -> Tensor:
        k = w.shape[-1] // 2
        field = field.unflatten(2, self.shape)
        return F.conv2d(wrap(field, k) if k else field, w).flatten(2)


class Coefficients(NamedTuple):
    """What θ decides, for each row: gains g and shifts d of hidden units, biases b of spins.

    g is (B, C, 1); d broadcasts to (B, C, S) and b to (B, N), and both are None where they vanish.
    """

    g: Tensor
    d: Tensor | None
    b: Tensor | None

    def each(self, change: Callable[[Tensor], Tensor]) -> Coefficients:
        """All of them changed; what vanishes stays so."""
        d, b = (None if a is None else change(a) for a in (self.d, self.b))
        return Coefficients(change(self.g), d, b)

    def hidden(self, u: Tensor) -> Tensor:
        """a, half the log odds of each hidden unit, from u = W·v, (B, C, S)."""
        a = self.g * u
        return a if self.d is None else a + self.d

    def visible(self, u: Tensor) -> Tensor:
        """Half the log odds of each spin, from u = Wᵀ·(g h), (B, N)."""
        return u if self.b is None else u + self.b


class Gains(NamedTuple):
    """Gains g (B, C) at c (B, D), and what their gradient needs: h (B, 16) and s = silu h."""

    c: Tensor
    h: Tensor
    s: Tensor
    g: Tensor


class GainNetwork(nn.Sequential):
    """Two layers that make log gains and biases of c; they begin at 0.

    Args:
        parameters: D.
        outputs: how many numbers it makes.
    """

    def __init__(self, parameters: int, outputs: int) -> None:
        last = nn.Linear(16, outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        super().__init__(nn.Linear(parameters, 16), nn.SiLU(), last)

    def kept(self, c: Tensor) -> Gains:
        """Gains at c (B, D), of a network that makes nothing else."""
        first, last = cast(nn.Linear, self[0]), cast(nn.Linear, self[2])
        h = F.linear(c, first.weight, first.bias)
        s = F.silu(h)
        return Gains(c, h, s, F.linear(s, last.weight, last.bias).exp_())

    def pull(self, gains: Gains, slope: Tensor) -> None:
        """Write the gradient that derivatives by g (B, C) make, in closed form."""
        first, last = cast(nn.Linear, self[0]), cast(nn.Linear, self[2])
        slope = slope * gains.g
        last.weight.grad, last.bias.grad = slope.T @ gains.s, slope.sum(0)
        sigma = gains.h.sigmoid()
        slope = (slope @ last.weight) * (sigma + gains.s * (1 - sigma))
        first.weight.grad, first.bias.grad = slope.T @ gains.c, slope.sum(0)


class Energy(nn.Module):
    """Weights, and a small network that makes gains and biases of c.

    Args:
        law: what x is.
        tied: filters on the torus, or weights for every pair.
        hidden: number of filters, or of hidden units.
        filter_size: k, odd.
        centred: whether spins and hidden units count from the means μ = tanh b and λ = tanh d that
            they would have without W, E = −Σ_j g_j (h_j − λ_j) W_j·(v − μ) − d·h − b·v: the same
            laws in coordinates of better condition (Montavon & Müller 2012; Melchior, Fischer &
            Wiskott 2016, arXiv:1311.1354).
    """

    places: Tensor | None

    def __init__(
        self, law: Law, *, tied: bool, hidden: int, filter_size: int, centred: bool
    ) -> None:
        super().__init__()
        self.tied, self.units, self.centred = tied, hidden, centred
        self.sites = law.size
        self.shape = law.x_shape if len(law.spatial) == len(law.x_shape) == 2 else (1, law.size)
        if tied:
            rows, columns = law.x_shape
            self.w = nn.Parameter(
                0.4 * torch.randn(hidden, filter_size, filter_size) / filter_size
            )
            written = self.sites <= SMALL or min(rows, columns) < filter_size // 2
            places = filter_sites(rows, columns, filter_size) if written else None
            self.register_buffer("places", places, persistent=False)
        else:
            self.w = nn.Parameter(0.4 * torch.randn(hidden, self.sites) / math.sqrt(self.sites))
        biased = "flip" not in law.symmetries
        uniform = len(law.shifted) == len(law.x_shape)
        self.sizes = (hidden, hidden, 1 if uniform else self.sites) if biased else (hidden,)
        self.biased = biased
        self.net = GainNetwork(len(law.prior), sum(self.sizes))

    @property
    def written(self) -> bool:
        """Whether W is written out for products with one matrix."""
        return not self.tied or self.places is not None

    @property
    def hidden_units(self) -> int:
        """Number of hidden units, C · S."""
        return self.units * (self.sites if self.tied else 1)

    def weights(self) -> Weights:
        """W as it is now; write it once for many products."""
        if not self.tied:
            return Matrix(self.w[:, None])
        if self.places is None:
            return Filters(self.w[:, None], self.shape)
        whole = self.w.flatten(1) @ self.places.to(self.w.dtype)
        return Matrix(whole.view(self.units, self.sites, self.sites))

    def gathered(self, slope: Tensor) -> Tensor:
        """Derivatives by w of those by W written out, (H, N)."""
        if not self.tied:
            return slope
        places = cast(Tensor, self.places).to(slope.dtype)
        return (slope.view(self.units, -1) @ places.T).view_as(self.w)

    def coefficients(self, c: Tensor, weights: Weights) -> Coefficients:
        """Gains and biases at c (B, D)."""
        log_g, *biases = self.net(c).split(self.sizes, 1)
        g = log_g.exp()[..., None]
        if not biases:
            return Coefficients(g, None, None)
        d, b = biases[0][..., None], biases[1]
        if not self.centred:
            return Coefficients(g, d, b)
        mu, pull = b.tanh().expand(-1, self.sites), g * d.tanh()
        pull = pull.expand(-1, -1, self.sites if self.tied else 1)
        return Coefficients(g, d - g * weights.up(mu), b - weights.down(pull))


def filter_sites(rows: int, columns: int, k: int) -> Tensor:
    """Which site lies at each place of a filter on each site: (k², N²) of 0 and 1.

    On a torus smaller than the filter a site may lie at several places.
    """
    i, j = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    steps = torch.arange(k) - k // 2
    at = ((i.flatten() + steps[:, None, None]) % rows) * columns
    at = at + (j.flatten() + steps[:, None]) % columns  # (k, k, N)
    return F.one_hot(at.flatten(0, 1), rows * columns).flatten(1)


class SumLogCosh(torch.autograd.Function):
    """Σ log 2cosh a over all but the first axis; autograd's own graph costs twice as much."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        """a (B, …) → (B,)."""
        ctx.save_for_backward(a)
        a = a.flatten(1)
        return 2 * F.softplus(a, beta=2).sum(1) - a.sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """tanh a, (B, …)."""
        (a,) = ctx.saved_tensors
        return gradient.view(-1, *[1] * (a.ndim - 1)) * a.tanh()


sum_log_2cosh: Callable[[Tensor], Tensor] = SumLogCosh.apply


def free_energy(coefficients: Coefficients, v: Tensor, u: Tensor) -> Tensor:
    """F(v|c) in nats from v (B, N) and u = W·v (B, C, S), (B,)."""
    value = -sum_log_2cosh(coefficients.hidden(u))
    return value if coefficients.b is None else value - (coefficients.b * v).sum(1)


def spins(a: Tensor, generator: torch.Generator) -> Tensor:
    """Spins of mean tanh a, so of log odds 2a, of a (...), (...)."""
    noise = torch.empty_like(a).uniform_(-1, 1, generator=generator)
    return torch.copysign(torch.ones_like(a), torch.tanh(a) - noise)


def gibbs(
    weights: Weights, coefficients: Coefficients, u: Tensor, generator: torch.Generator
) -> Tensor:
    """One sweep of block Gibbs sampling, all hidden units and then all spins.

    Args:
        weights: W.
        coefficients: those of the rows.
        u: W·v, (B, C, S).
        generator: random numbers.

    Returns:
        spins (B, N).
    """
    h = spins(coefficients.hidden(u), generator)
    return spins(coefficients.visible(weights.down(coefficients.g * h)), generator)

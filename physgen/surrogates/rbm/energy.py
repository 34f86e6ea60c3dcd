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
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from physgen.law import Law
from physgen.nn.blocks import wrap
from simulators.base import Array

__all__ = ["Coefficients", "Energy", "Weights", "free_energy", "gibbs", "spins", "sum_log_2cosh"]

SMALL = 100
"""Sites up to which a product with one matrix is faster than a convolution."""
HIDDEN = 16
"""Width of the network that makes gains and biases of c."""


class Weights(Protocol):
    """W as two linear maps, W·v and Wᵀ·h."""

    def up(self, v: Tensor) -> Tensor:
        """(B, N) → (B, C, S)."""
        ...

    def down(self, h: Tensor) -> Tensor:
        """(B, C, S) → (B, N)."""
        ...

    def compiled(self) -> tuple[Array, Array]:
        """W (C, k²) and the sites near each (k², N), or W (H, N) and nothing, on a CPU."""
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

    def compiled(self) -> tuple[Array, Array]:
        """(H, N) and (0, 0)."""
        return self.w.detach().flatten(0, 1).to(torch.float32).numpy(), np.empty((0, 0), np.int32)


class Filters(NamedTuple):
    """W as filters (C, 1, k, k) on a torus, and written out where that is faster.

    Attributes:
        w: the filters.
        shape: rows and columns.
        near: the site at each place of a filter on each site, (k², N) int32.
        whole: (C, N, N).
    """

    w: Tensor
    shape: tuple[int, ...]
    near: Tensor
    whole: Matrix | None = None

    def up(self, v: Tensor) -> Tensor:
        """(B, N) → (B, C, N)."""
        return self.whole.up(v) if self.whole else self._convolve(v[:, None], self.w)

    def down(self, h: Tensor) -> Tensor:
        """(B, C, N) → (B, N)."""
        if self.whole:
            return self.whole.down(h)
        return self._convolve(h, self.w.flip(-1, -2).transpose(0, 1))[:, 0]

    def compiled(self) -> tuple[Array, Array]:
        """(C, k²) and (k², N)."""
        return self.w.detach().flatten(1).to(torch.float32).numpy(), self.near.numpy()

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

    near: Tensor
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
            near = filter_sites(rows, columns, filter_size)
            places = F.one_hot(near.long(), law.size).flatten(1) if written else None
            self.register_buffer("near", near, persistent=False)
            self.register_buffer("places", places, persistent=False)
        else:
            self.w = nn.Parameter(0.4 * torch.randn(hidden, self.sites) / math.sqrt(self.sites))
        biased = "flip" not in law.symmetries
        uniform = len(law.shifted) == len(law.x_shape)
        self.sizes = (hidden, hidden, 1 if uniform else self.sites) if biased else (hidden,)
        self.biased = biased
        last = nn.Linear(HIDDEN, sum(self.sizes))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(nn.Linear(len(law.prior), HIDDEN), nn.SiLU(), last)

    @property
    def hidden_units(self) -> int:
        """Number of hidden units, C · S."""
        return self.units * (self.sites if self.tied else 1)

    def weights(self) -> Weights:
        """W as it is now; write it once for many products."""
        if not self.tied:
            return Matrix(self.w[:, None])
        filters = Filters(self.w[:, None], self.shape, self.near)
        if self.places is None:
            return filters
        whole = self.w.flatten(1) @ self.places.to(self.w.dtype)
        return filters._replace(whole=Matrix(whole.view(self.units, self.sites, self.sites)))

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
    """Which site lies at each place of a filter on each site, (k², N) int32.

    On a torus smaller than the filter a site may lie at several places.
    """
    i, j = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    steps = torch.arange(k) - k // 2
    at = ((i.flatten() + steps[:, None, None]) % rows) * columns
    at = at + (j.flatten() + steps[:, None]) % columns  # (k, k, N)
    return at.flatten(0, 1).int()


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

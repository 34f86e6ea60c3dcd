r"""Networks of their own for all columns of a short x, evaluated side by side.

What θ tells of places is told first: a network of θ alone gives each column a location and a
scale, and each pair a slope,

    r_i = (y_i − m_i − e^{s_i} Σ_{j<i} L_ij e_j) e^{−s_i − t_i},      e_j = (y_j − m_j) e^{−s_j},

so that any law that is Gaussian given θ is white in r whatever its mean and covariance. What is
left is the business of one residual network a column, which sees r of the columns before it and θ,
and gives a mixture for its own. The networks of all columns are products of batches of matrices
(as are masked ones of Germain et al. 2015, arXiv:1502.03509, which share what these do not).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.nn.column_places import FARTHEST, AdditivePlaces
from physgen.surrogates.autoregressive.columns import column_kind

__all__ = ["SeparateColumns", "SiteNets"]

LEAST = 1e-3
"""Width of log counts in the data, at least."""


class SiteNets(nn.Module):
    """A residual network for each of N columns: earlier columns and θ → R numbers; 0 at first.

    Args:
        owner: (I,) the column of each input.
        columns: N.
        condition: components of c.
        outputs: R.
        hidden: units of a layer, H.
        blocks: residual blocks of two layers.
    """

    earlier: Tensor

    def __init__(
        self, owner: Tensor, columns: int, condition: int, outputs: int, hidden: int, blocks: int
    ) -> None:
        super().__init__()
        earlier = owner < torch.arange(columns)[:, None]
        self.register_buffer("earlier", earlier[..., None], persistent=False)
        self.seen, self.told = (
            uniform_weight(columns, n, hidden) for n in (len(owner), condition)
        )
        self.first, self.second = (
            nn.ParameterList(uniform_weight(columns, hidden, hidden) for _ in range(blocks))
            for _ in range(2)
        )
        self.biases = nn.Parameter(torch.zeros(1 + 2 * blocks, columns, 1, hidden))
        self.leave = nn.Parameter(torch.zeros(columns, hidden, outputs))
        self.last = nn.Parameter(torch.zeros(columns, 1, outputs))

    def forward(self, inputs: Tensor, c: Tensor, which: slice) -> Tensor:
        """The numbers of some n columns, (B, n, R).

        Args:
            inputs: (B, I) what is seen of all columns; later ones do not matter.
            c: (B, D).
            which: the columns.
        """
        seen, bias = (self.seen * self.earlier)[which], self.biases[:, which]
        h = bias[0] + inputs @ seen + c @ self.told[which]
        for k, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            u = torch.baddbmm(bias[2 * k + 1], F.silu(h), first[which])
            h = h + torch.baddbmm(bias[2 * k + 2], F.silu(u), second[which])
        raw = torch.baddbmm(self.last[which], F.silu(h), self.leave[which])
        return raw.transpose(0, 1)


def uniform_weight(*shape: int) -> nn.Parameter:
    """Weights of layers (N, inputs, outputs), uniform within ±1/√inputs."""
    return nn.Parameter((2 * torch.rand(shape) - 1) / math.sqrt(max(1, shape[-2])))


class SeparateColumns(nn.Module):
    """p(z|θ) = Π_i p(z_i|z_<i, θ) of N columns, each with a network of its own.

    Args:
        supports: reals, nonnegative, counts, spins or levels:K, of each column.
        condition: components of c.
        site: of reals, gaussian or student.
        components: laws in a mixture.
        hidden: units of a layer.
        blocks: residual blocks.
    """

    middle: Tensor
    width: Tensor
    kept: Tensor
    placed: Tensor

    def __init__(
        self,
        supports: tuple[str, ...],
        condition: int,
        site: str,
        components: int,
        hidden: int,
        blocks: int,
    ) -> None:
        super().__init__()
        columns = len(supports)
        self.kinds = {s: column_kind(s, site, components) for s in dict.fromkeys(supports)}
        self.supports = supports
        self.at = {s: [i for i, t in enumerate(supports) if s == t] for s in self.kinds}
        placed = torch.tensor([self.kinds[s].placed for s in supports])
        self.register_buffer("placed", placed, persistent=False)
        self.register_buffer("middle", torch.zeros(columns))
        self.register_buffer("width", torch.ones(columns))
        self.register_buffer("kept", torch.ones(columns, dtype=torch.bool))
        inputs = torch.tensor([self.kinds[s].inputs for s in supports])
        owner = torch.arange(columns).repeat_interleave(inputs)
        self.ends = inputs.cumsum(0).tolist()
        outputs = max(kind.outputs for kind in self.kinds.values())
        self.places = AdditivePlaces(condition, columns, 2 * hidden)
        self.nets = SiteNets(owner, columns, condition, outputs, hidden, blocks)

    @torch.no_grad()
    def fit(self, z: Tensor, c: Tensor | None = None) -> None:
        """Take the units of counts, which columns count, and where they lie given θ.

        Args:
            z: (n, N).
            c: (n, D).
        """
        self.kept.copy_(z.isfinite().any(0) | (z == -math.inf).any(0))
        for support, kind in self.kinds.items():
            if kind.measured:
                at = self.at[support]
                width, mean = torch.std_mean(kind.place(z[:, at].double()), 0, correction=0)
                self.middle[at], self.width[at] = mean.float(), width.clamp(min=LEAST).float()
        if c is not None:
            y, there = self.placed_at(z)
            self.places.fit(c, y, there.all(0) & self.kept)

    def log_p(self, c: Tensor, z: Tensor) -> Tensor:
        """log p of each column of z (B, N) given those before it and c (B, D), (B, N)."""
        with torch.autocast(z.device.type, enabled=False):  # half precision is many narrow widths
            location, scale, r = self.whitened(c, z)
        parts: list[Tensor] = [r] * len(self.supports)
        for support, kind in self.kinds.items():
            at = self.at[support]
            for i, code in zip(at, kind.code(z[:, at], r[:, at]).unbind(1), strict=True):
                parts[i] = code
        raw = self.nets(torch.cat(parts, 1), c, slice(None))
        return self.scored(raw, z, location, scale)

    def whitened(self, c: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Location, log scale and r of columns of z (B, N) given those before, (B, N) each."""
        m, s, t, slopes = self.places(c)
        y, there = self.placed_at(z)
        e = torch.where(there, (y - m) * (-s).exp(), 0.0)
        pull = (slopes @ e.clamp(-FARTHEST, FARTHEST)[..., None])[..., 0]
        location, scale = m + s.exp() * pull, s + t
        return location, scale, torch.where(there, (y - location) * (-scale).exp(), 0.0)

    def placed_at(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Places of z (B, N) in units of the data, and where there are such, (B, N) each."""
        y, there = torch.zeros_like(z), torch.zeros_like(z, dtype=torch.bool)
        for support, kind in self.kinds.items():
            at = self.at[support]
            y = y.index_copy(1, self.numbers(at), kind.place(z[:, at]))
            there = there.index_copy(1, self.numbers(at), kind.there(z[:, at]))
        return (y - self.middle) / self.width, there

    def numbers(self, at: list[int]) -> Tensor:
        """Numbers of columns, (n,)."""
        return torch.tensor(at, device=self.middle.device)

    def scored(self, raw: Tensor, z: Tensor, location: Tensor, scale: Tensor) -> Tensor:
        """log p of each column of z (B, N) by the numbers (B, N, R) of its law, (B, N)."""
        raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
        location, scale = self.in_their_units(location, scale, slice(None))
        total = torch.zeros_like(location)
        for support, kind in self.kinds.items():
            at = self.at[support]
            found = kind.log_p(raw[:, at, : kind.outputs], z[:, at], location[:, at], scale[:, at])
            total = total.index_copy(1, self.numbers(at), found)
        return total

    def in_their_units(
        self, location: Tensor, scale: Tensor, which: slice
    ) -> tuple[Tensor, Tensor]:
        """m and s of some columns (B, n) in units of their places."""
        middle, width = self.middle[which], self.width[which]
        return middle + width * location, scale + width.log()

    def sample(self, c: Tensor, generator: torch.Generator) -> Tensor:
        """One z for each row of c (B, D), (B, N), a column after the other."""
        m, s, t, slopes = self.places(c)
        n, blank = len(self.supports), torch.zeros(len(c), self.ends[-1]).to(c)
        drawn: list[Tensor] = []
        near: list[Tensor] = []
        seen: list[Tensor] = []
        for i, support in enumerate(self.supports):
            kind, one, end = self.kinds[support], slice(i, i + 1), self.ends[i - 1] if i else 0
            pull = slopes[:, i] * torch.cat([*near, blank[:, : n - i]], 1)
            location = m[:, one] + s[:, one].exp() * pull.sum(1, keepdim=True)
            scale = s[:, one] + t[:, one]
            raw = self.nets(torch.cat([*seen, blank[:, end:]], 1), c, one)[..., : kind.outputs]
            z = kind.draw(raw, *self.in_their_units(location, scale, one), generator)
            z = torch.where(self.kept[one], z, math.inf)
            y, there = (kind.place(z) - self.middle[one]) / self.width[one], kind.there(z)
            r, e = (
                torch.where(there, (y - at) * (-by).exp(), 0.0)
                for at, by in ((location, scale), (m[:, one], s[:, one]))
            )
            near.append(e.clamp(-FARTHEST, FARTHEST))
            seen.append(kind.code(z, r)[:, 0])
            drawn.append(z)
        return torch.cat(drawn, 1)

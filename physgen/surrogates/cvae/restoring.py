r"""x given y = Mx + σε by Markov chains in the latents of a VAE.

In units ε of their prior the latents are standard normal, whatever θ, and *elliptical slice
sampling* (Murray, Adams & MacKay 2010, arXiv:1001.0540) draws them given a likelihood ℓ(ε): with
ν ~ N(0, 1) and an angle φ the next point is ε cos φ + ν sin φ, φ drawn from a bracket that shrinks
until ℓ is above a slice. It has no step to tune and rejects nothing.

*Independent Gaussians given latents*: x = a + A w, w ~ N(m(ε), s²(ε)), so that y given ε is
N(A m, A s² Aᵀ + σ²), which is ℓ: x is integrated out, and drawn at the end given ε and y, exactly
(Hoffman & Ribak 1991).

*Spins*: ε given x, with ℓ = log p(x|ε), and heat bath of each spin that was not seen, in turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor

from physgen.nn.linear_view import LinearView
from physgen.nn.measurement import Measurement
from physgen.nn.seen_spins import SeenSpins, r_hat_of_rows
from physgen.surrogates.base import Restored

if TYPE_CHECKING:
    from physgen.surrogates.cvae import CVAE
    from physgen.surrogates.cvae.decoder import GaussianDecoder

__all__ = ["LATENT", "elliptical_slice", "field_of", "restored_reals", "restored_spins"]

LATENT = {
    "latents": "elliptical slice sampling in the latents (Murray et al. 2010, arXiv:1001.0540): "
    "exact for the learnt law as sweeps grow, which R̂ watches"
}
WARM_UP = 0.25
"""Part of the sweeps that R̂ does not see."""
TURNS = 60
"""Times that a bracket shrinks, at most: to 10⁻¹⁸ of the circle."""
VALUES = 2**23
"""Numbers of the matrices of all chains that are held at once."""


class SliceStep(NamedTuple):
    """Where chains are: latents ε (B, E), and ℓ there, (B,)."""

    epsilon: Tensor
    log_l: Tensor


def elliptical_slice(
    log_l: Callable[[Tensor], Tensor], now: SliceStep, generator: torch.Generator
) -> SliceStep:
    """The next step of chains.

    Args:
        log_l: ε (B, E) → ℓ (B,).
        now: where they are.
        generator: random numbers.
    """

    def uniform() -> Tensor:
        return torch.rand(len(now.log_l), generator=generator, device=device, dtype=torch.float64)

    device = now.log_l.device
    nu = torch.randn(now.epsilon.shape, generator=generator, device=device)
    level = now.log_l + uniform().log()
    angle = 2 * math.pi * uniform()
    low, high = angle - 2 * math.pi, angle.clone()
    found, value = now.epsilon, now.log_l
    moving = torch.ones_like(level) > 0
    for _ in range(TURNS):
        cos, sin = (f(angle)[:, None].float() for f in (torch.cos, torch.sin))
        tried = torch.where(moving[:, None], now.epsilon * cos + nu * sin, found)
        told = log_l(tried)
        done = moving & (told > level)
        found = torch.where(done[:, None], tried, found)
        value = torch.where(done, told, value)
        moving = moving & ~done
        if not moving.any():
            break
        low, high = torch.where(angle < 0, angle, low), torch.where(angle >= 0, angle, high)
        angle = torch.where(moving, low + (high - low) * uniform(), angle)
    return SliceStep(found, value)


def field_of(model: CVAE, c: Tensor, epsilon: Tensor) -> Tensor:
    """The field h (B, C, *grid) of latents ε (B, E) at c (B, D)."""
    sizes = [math.prod(shape) for shape in model.hierarchy.shapes]
    parts = epsilon.split(sizes, 1)
    return model.hierarchy.descend(c, lambda level, shape: parts[level].view(shape)).h


def prior_latents(model: CVAE, c: Tensor, generator: torch.Generator) -> Tensor:
    """Draws of the prior of ε, (B, E)."""
    size = sum(math.prod(shape) for shape in model.hierarchy.shapes)
    return torch.randn(len(c), size, generator=generator, device=c.device)


def chains_told(series: list[Tensor], *rows: Tensor) -> dict[str, Tensor]:
    """R̂ of chains (T, B), those of equal rows (B, …) being of one law."""
    some = torch.stack(series[int(WARM_UP * len(series)) :])
    same = torch.cat([row.double().flatten(1) for row in rows], 1)
    return {"r_hat": r_hat_of_rows(some, same)}


class GivenLatents(NamedTuple):
    """p(y|ε) of rows, w being white x.

    Attributes:
        model: the learnt law.
        c: (B, D).
        matrix: A of each row, or of all, (B or 1, m, d) float64.
        rest: y − a, (B, m) float64.
        noise: σ.
    """

    model: CVAE
    c: Tensor
    matrix: Tensor
    rest: Tensor
    noise: float

    @classmethod
    def of(cls, model: CVAE, c: Tensor, view: LinearView) -> GivenLatents:
        """Of what is seen of x in units of the data, at c (B, D)."""
        shape, d = model.law.x_shape, model.law.size
        unit = torch.cat([torch.zeros(1, d), torch.eye(d)]).to(c.device).view(-1, *shape)
        values, which = c.unique(dim=0, return_inverse=True)
        seen = torch.stack([
            torch.cat([
                model._coloured(one.expand(len(u), -1), u).flatten(1).double() @ view.matrix.T
                for u in unit.split(1024)
            ]) for one in values
        ])  # fmt: skip
        matrix = (seen[:, 1:] - seen[:, :1]).mT
        matrix = matrix if len(values) == 1 else matrix[which]
        return cls(model, c, matrix, view.rest - seen[which, 0], view.noise)

    def seen(self, w: Tensor) -> Tensor:
        """Aw of rows (B, d), (B, m)."""
        return (self.matrix @ w[..., None])[..., 0]

    def parts(self, epsilon: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """m and s² of w (B, d), and the factor of A s² Aᵀ + σ², (B, m, m)."""
        decoder = cast("GaussianDecoder", self.model.decoder)
        mean, log_s = decoder.moments(field_of(self.model, self.c, epsilon))
        variance = (2 * log_s.double()).exp().flatten(1)
        s = (self.matrix * variance[:, None]) @ self.matrix.mT
        s.diagonal(dim1=1, dim2=2).add_(self.noise**2)
        return mean.double().flatten(1), variance, torch.linalg.cholesky(s)

    def log_l(self, epsilon: Tensor) -> Tensor:
        """log p(y|ε) of ε (B, E), but for a constant, (B,)."""
        mean, _, factor = self.parts(epsilon)
        rest = (self.rest - self.seen(mean))[..., None]
        white = torch.linalg.solve_triangular(factor, rest, upper=False)
        log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        return -0.5 * white.square().sum((1, 2)) - log_det

    def draw(self, epsilon: Tensor, generator: torch.Generator) -> Tensor:
        """z (B, *x_shape) given ε (B, E) and y."""

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator, device=like.device).double()

        mean, variance, factor = self.parts(epsilon)
        free = mean + variance.sqrt() * normal(mean)
        rest = self.rest - self.seen(free) - self.noise * normal(self.rest)
        pull = (self.matrix.mT @ torch.cholesky_solve(rest[..., None], factor))[..., 0]
        w = (free + variance * pull).float()
        return self.model._coloured(self.c, w.view(-1, *self.model.law.x_shape))


def restored_reals(
    model: CVAE,
    c: Tensor,
    y: Tensor,
    measurement: Measurement,
    generator: torch.Generator,
    sweeps: int,
) -> Restored:
    """One z for each row of c (B, D) and y (B, *y_shape), (B, *x_shape)."""
    like = torch.zeros(1, *model.law.x_shape, device=c.device)
    view = LinearView.of(model.transform, measurement, y, like)
    z, r_hat = like.expand(len(c), *like.shape[1:]).clone(), c.new_zeros(len(c)).double()
    at_once = max(4, VALUES // view.matrix.numel())
    for rows in torch.arange(len(c), device=c.device).split(at_once):
        given = GivenLatents.of(model, c[rows], view._replace(rest=view.rest[rows]))
        epsilon, series = prior_latents(model, c[rows], generator), []
        step = SliceStep(epsilon, given.log_l(epsilon))
        for _ in range(sweeps):
            step = elliptical_slice(given.log_l, step, generator)
            series.append(step.log_l)
        z[rows] = given.draw(step.epsilon, generator)
        r_hat[rows] = chains_told(series, c[rows], y[rows])["r_hat"].to(r_hat)
    return Restored(z, {"r_hat": r_hat})


def restored_spins(
    model: CVAE,
    c: Tensor,
    y: Tensor,
    measurement: Measurement,
    generator: torch.Generator,
    sweeps: int,
) -> Restored:
    """Spins (B, *x_shape) for each row of c (B, D) and y (B, *y_shape)."""
    seen = SeenSpins.of(y, measurement)

    def log_p(x: Tensor, h: Tensor, at: Tensor) -> Tensor:
        return model.decoder.log_prob(x.view(-1, *model.law.x_shape), h[:, None], at)[:, 0]

    epsilon, series = prior_latents(model, c, generator), []
    x = seen.held(
        model.decoder.sample(field_of(model, c, epsilon), c, generator).flatten(1).float()
    )
    for _ in range(sweeps):

        def log_l(e: Tensor, x: Tensor = x) -> Tensor:
            return log_p(x, field_of(model, c, e), c).double()

        epsilon, _ = elliptical_slice(log_l, SliceStep(epsilon, log_l(epsilon)), generator)
        h = field_of(model, c, epsilon)
        for i in (~seen.clamped).nonzero()[:, 0].tolist():
            up, down = x.clone(), x.clone()
            up[:, i], down[:, i] = 1, -1
            both = log_p(torch.cat([up, down]), torch.cat([h, h]), torch.cat([c, c]))
            odds = both[: len(c)] - both[len(c) :] + 2 * seen.field[:, i]
            chance = torch.rand(len(c), generator=generator, device=c.device)
            x = torch.where((chance < odds.sigmoid())[:, None], up, down)
        series.append(x.sum(1))
    return Restored(x.view(-1, *model.law.x_shape), chains_told(series, c, y))

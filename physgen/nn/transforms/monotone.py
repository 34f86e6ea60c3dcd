r"""Monotone maps of single components of x that make p(x|θ) more normal, chosen by likelihood.

A map v(u) of standardised u is straight, an inverse hyperbolic sine (tails), the logarithm of
the distance from a bound on one side, or any of these and a rational-quadratic spline (Gregory &
Delbourgo 1982, IMA J. Numer. Anal. 2, 123). Every map is a bijection of the real line with a
continuous slope: beyond its data a logarithm or a spline goes on as a straight line.

Which one a component gets is decided by what it says of x *given θ*: v is regressed on a
quadratic in θ, and a map must win on held-out rows, by the normal likelihood of its residuals
with log|dv/dx|, clearly against a straight line, and again where widths are functions of θ, too.
So normal noise stays what it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from physgen.dataset.assumptions import Tails
from physgen.nn.additive import AdditiveWidths, normal_law
from physgen.nn.regression import quadratic

__all__ = ["NO_KNOTS", "Fitted", "MonotoneMap", "MonotoneMaps", "best_map", "residual_loss"]

KNOTS = 16
ROWS, FEWEST = 4000, 250
"""Rows that other maps are fitted to at most, and at least; as many others decide."""
GAIN, ERRORS = 0.05, 4.0
"""Nats a row, and standard errors, by which a map must win over a straight one."""
MOST_GAIN = 10.0
"""Nats of one row that count at most, so that no outlier decides."""
BOUNDS = (0.02, 0.1, 0.5)
"""How far beyond the last value a bound may lie, in distances of that from the median."""
CURVED, STEPS = 2000, 40
"""Rows that a spline is fitted to, and steps of its fit, at most."""
NO_KNOTS = torch.zeros(3, 0, dtype=torch.float64)


class Fitted(nn.Module):
    """A module of buffers alone, of the sizes in a file; those that it lacks stay as they are."""

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *rest: Any
    ) -> None:
        for name, buffer in list(self.named_buffers(recurse=False)):
            given = state_dict.setdefault(prefix + name, buffer)
            setattr(self, name, buffer.new_empty(given.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


@dataclass(frozen=True)
class MonotoneMap:
    """A monotone map of one component: v of x, by u = (x − mean)/std.

    Attributes:
        mean: what is subtracted; of a logarithm its bound.
        std: what is divided by.
        heavy: whether v begins with asinh u.
        side: of its bound on which x lies, 1 or −1, if v begins with a logarithm; else 0.
        floor: distance from the bound, in units of std, below which the logarithm is straight.
        knots: (3, K) places, heights and slopes of a spline, or (3, 0).
    """

    mean: float = 0.0
    std: float = 1.0
    heavy: bool = False
    side: int = 0
    floor: float = 1.0
    knots: Tensor = NO_KNOTS

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """v (n,) and log dv/dx (n,) of x (n,) float64."""
        u, slope = (x - self.mean) / self.std, torch.full_like(x, -math.log(self.std))
        if self.heavy:
            u, slope = u.asinh(), slope - 0.5 * u.square().log1p()
        if self.side:
            u, more = logarithm(u, torch.tensor(float(self.side)), torch.tensor(self.floor))
            slope = slope + more
        if self.knots.shape[1]:
            u, more = spline(u[:, None], self.knots[None])
            u, slope = u[:, 0], slope + more[:, 0]
        return u, slope

    @property
    def word(self) -> str:
        """Its name, "" if it is straight; with x for the component."""
        sign = "−" if self.mean > 0 else "+"
        bound = f"{sign} {abs(self.mean):.3g}" if self.mean else ""
        if self.side < 0:
            bound = f"{self.mean:.3g} − x"
        log = f"log({bound})" if self.side < 0 else f"log(x {bound})".replace("x )", "x)")
        simple = log if self.side else "asinh" if self.heavy else ""
        curved = "spline" if self.knots.shape[1] else ""
        return f"{curved} of {simple}" if simple and curved else simple or curved


def logarithm(u: Tensor, side: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """±log(±u), straight where ±u is below a floor; its log slope; all of shapes that broadcast.

    Args:
        u: (…).
        side: 1 or −1.
        floor: above 0.
    """
    w = side * u
    inside = w > floor
    log_w = torch.where(inside, w, floor).log()
    v = torch.where(inside, log_w, log_w + w / floor - 1)
    return side * v, -log_w


def exponential(v: Tensor, side: Tensor, floor: Tensor) -> Tensor:
    """The inverse of `logarithm`, of v (…)."""
    w, least = side * v, floor.log()
    straight = floor * (1 + w - least)
    return side * torch.where(w > least, w.maximum(least).exp(), straight)


def bin_of(at: Tensor, knots: Tensor, row: int) -> tuple[Tensor, ...]:
    """The bin of (B, m) between knots (m, 3, K): in which at lies, by places (0) or heights (1).

    Returns:
        lower and upper place, height and slope, (B, m) each.
    """
    k = (at[..., None] >= knots[:, row]).sum(-1)
    k = (k - 1).clamp(0, knots.shape[2] - 2)
    every = [knots[:, i].expand(*at.shape, -1) for i in range(3)]
    return tuple(
        values.gather(-1, (k + end)[..., None])[..., 0] for values in every for end in (0, 1)
    )


def spline(u: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    """v and log dv/du, (B, m) each, of u (B, m) and the knots (m, 3, K) of splines."""
    x0, x1, y0, y1, d0, d1 = bin_of(u, knots, 0)
    low, high = knots[:, 0, 0], knots[:, 0, -1]
    inside, secant = u.maximum(low).minimum(high), (y1 - y0) / (x1 - x0)
    t = (inside - x0) / (x1 - x0)
    both = t * (1 - t)
    below = secant + (d0 + d1 - 2 * secant) * both
    v = y0 + (y1 - y0) * (secant * t.square() + d0 * both) / below
    slope = secant.square() * (d1 * t.square() + 2 * secant * both + d0 * (1 - t).square())
    slope = slope / below.square()
    return v + (u - inside) * slope, slope.log()


def spline_inverse(v: Tensor, knots: Tensor) -> Tensor:
    """u (B, m) of v (B, m)."""
    x0, x1, y0, y1, d0, d1 = bin_of(v, knots, 1)
    low, high = knots[:, 1, 0], knots[:, 1, -1]
    inside, secant = v.maximum(low).minimum(high), (y1 - y0) / (x1 - x0)
    up, excess = inside - y0, d0 + d1 - 2 * secant
    a = (y1 - y0) * (secant - d0) + up * excess
    b = (y1 - y0) * d0 - up * excess
    c = -secant * up
    t = 2 * c / (-b - (b.square() - 4 * a * c).clamp(min=0).sqrt())
    u = x0 + t * (x1 - x0)
    beyond = torch.where(v > high, knots[:, 2, -1], knots[:, 2, 0])
    return u + (v - inside) / beyond


class MonotoneMaps(Fitted):
    """Monotone maps m of components, after u = (x − μ)/σ and tails: v = (m(u) − shift)/gain.

    Args:
        x_shape: shape of one x.
    """

    side: Tensor
    floor: Tensor
    shift: Tensor
    gain: Tensor
    curved: Tensor
    knots: Tensor

    def __init__(self, x_shape: tuple[int, ...]) -> None:
        super().__init__()
        for name, value in {"side": 0.0, "floor": 1.0, "shift": 0.0, "gain": 1.0}.items():
            self.register_buffer(name, torch.full(x_shape, value, dtype=torch.float64))
        self.register_buffer("curved", torch.zeros(0, dtype=torch.long))
        self.register_buffer("knots", torch.zeros(0, 3, KNOTS, dtype=torch.float64))

    @property
    def straight(self) -> bool:
        """Whether there is none."""
        return not (len(self.curved) or self.side.any() or (self.gain != 1).any())

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """v and log|dv/du| of u (B, *x_shape) float64, (B, *x_shape) each."""
        v, slope = u, -self.gain.log().expand_as(u)
        if self.side.any():
            mapped, more = logarithm(u, self.side, self.floor)
            v = torch.where(self.side != 0, mapped, v)
            slope = slope + torch.where(self.side != 0, more, 0.0)
        if len(self.curved):
            mapped, more = spline(v.flatten(1)[:, self.curved], self.knots)
            v = v.flatten(1).index_copy(1, self.curved, mapped).view(v.shape)
            zero = torch.zeros_like(slope).flatten(1)
            slope = slope + zero.index_copy(1, self.curved, more).view(v.shape)
        return (v - self.shift) / self.gain, slope

    def inverse(self, v: Tensor) -> Tensor:
        """u of v (B, *x_shape) float64, (B, *x_shape)."""
        u = v * self.gain + self.shift
        if len(self.curved):
            flat = u.flatten(1)
            back = spline_inverse(flat[:, self.curved], self.knots)
            u = flat.index_copy(1, self.curved, back).view(u.shape)
        if self.side.any():
            u = torch.where(self.side != 0, exponential(u, self.side, self.floor), u)
        return u


# --- the choice ----------------------------------------------------------------------------------


class Halves(NamedTuple):
    """Rows of one component with their features: some to fit, others to decide.

    Attributes:
        x: (n,) and (m,).
        features: (n, k) and (m, k).
        c: (n, D) and (m, D).
    """

    x: tuple[Tensor, Tensor]
    features: tuple[Tensor, Tensor]
    c: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, x: Tensor, c: Tensor) -> Halves | None:
        """Of x (n,) and c (n, D), without what is missing; None of too few rows."""
        there = ~x.isnan()
        x, c = x[there].double()[: 2 * ROWS], c[there].double()[: 2 * ROWS]
        half, features = len(x) // 2, quadratic(c)
        if 10 * features.shape[1] > half:
            features = features[:, : 1 + c.shape[1]]
        if half < max(FEWEST, 10 * features.shape[1]):
            return None
        first, last = x[:half], x[half:]
        return cls((first, last), (features[:half], features[half:]), (c[:half], c[half:]))


def left_by_theta(halves: Halves, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """What a quadratic of θ, fitted to the first rows (n,), leaves of them and the last (m,)."""
    weights = torch.linalg.lstsq(halves.features[0], first[:, None]).solution
    left, right = (f @ weights for f in halves.features)
    return first - left[:, 0], last - right[:, 0]


def residual_loss(first: Tensor, last: Tensor) -> Tensor:
    """−log p of residuals (m, …) under a normal law of the width of others (n, …), (m, …)."""
    variance = first.square().mean(0).clamp(min=1e-300)
    return 0.5 * (last.square() / variance + variance.log() + math.log(2 * math.pi))


def map_losses(halves: Halves, through: MonotoneMap) -> tuple[float, Tensor]:
    """−log p of x given θ if what it is mapped to is normal.

    Returns:
        The mean of the fitted rows, and that of each of the last ones, (m,).
    """
    (first, slope), (last, more) = through(halves.x[0]), through(halves.x[1])
    rest, held = left_by_theta(halves, first, last)
    return float((residual_loss(rest, rest) - slope).mean()), residual_loss(rest, held) - more


def normal_losses(halves: Halves, one: MonotoneMap) -> Tensor:
    """−log p of the last x (m,) if its map is normal given θ, and its width a function of θ."""
    (first, _), (last, slope) = one(halves.x[0]), one(halves.x[1])
    c, at = halves.c
    middle, unit = first.mean(), first.std()
    widths = AdditiveWidths(c.shape[1], 1)
    weights, scale = normal_law(widths, c, ((first - middle) / unit)[:, None], rounds=2)
    s = (scale + widths(at))[:, 0]
    r = ((last - middle) / unit - (quadratic(at) @ weights)[:, 0]) * (-s).exp()
    return 0.5 * (r.square() + math.log(2 * math.pi)) + s + unit.log() - slope


def holds(halves: Halves, one: MonotoneMap, other: MonotoneMap) -> bool:
    """Whether a map wins against another where widths are functions of θ."""
    return wins(normal_losses(halves, one), normal_losses(halves, other))


def wins(loss: Tensor, other: Tensor) -> bool:
    """Whether a loss (m,) is clearly below another of the same rows."""
    gain = (other - loss).clamp(-MOST_GAIN, MOST_GAIN)
    return bool(gain.mean() > max(GAIN, ERRORS * float(gain.std()) / math.sqrt(len(gain))))


def best_map(x: Tensor, c: Tensor, straight: MonotoneMap) -> MonotoneMap | None:
    """The map of a component given θ, if there is a better one than its own.

    Args:
        x: (n,), NaN where it is missing.
        c: (n, D) coordinates of θ.
        straight: its own, which another must beat.
    """
    halves = Halves.of(x, c)
    if halves is None or not float(halves.x[0].std()) > 0:
        return None
    scored = [(*map_losses(halves, m), m) for m in (tails(x), *logarithms(x))]
    best, held = straight, map_losses(halves, straight)[1]
    _, other, likeliest = min(scored, key=lambda s: s[0])
    if wins(other, held) and holds(halves, likeliest, straight):
        best, held = likeliest, other
    if curves(halves, best):
        curved = replace(best, knots=best_knots(halves, best))
        if wins(map_losses(halves, curved)[1], held) and holds(halves, curved, best):
            best = curved
    return None if best is straight else best


def tails(x: Tensor) -> MonotoneMap:
    """The inverse hyperbolic sine of x (n,) in units of the normal law of the same quartiles."""
    median, width, _ = (float(part[0]) for part in Tails.of(x.numpy()))
    return MonotoneMap(median, width or 1.0, heavy=True)


def logarithms(x: Tensor) -> Iterator[MonotoneMap]:
    """Logarithms of distances from bounds on either side of x (n,)."""
    for side in (1, -1):
        w = side * x[~x.isnan()].double()
        low, median = float(w.min()), float(w.median())
        bounds = [low - part * (median - low) for part in BOUNDS]
        for bound in ([0.0] if low > 0 else []) + bounds:
            if median > low > bound:
                std = math.exp(float((w - bound).log().mean()))
                yield MonotoneMap(side * bound, std, side=side, floor=0.5 * (low - bound) / std)


def curves(halves: Halves, best: MonotoneMap) -> bool:
    """Whether some spline may do better: the slope of log p along small changes, v² or v³.

    Along v → v + ε h(v) the normal log p of residuals r of width σ has the slope h' − r h/σ².
    """
    v = best(halves.x[0])[0]
    v = (v - v.mean()) / v.std()
    rest = left_by_theta(halves, v, v[:1].expand_as(halves.x[1]))[0]
    score = rest / rest.square().mean()
    for power in (2, 3):
        h, slope = v**power, power * v ** (power - 1)
        off = slope - score * left_by_theta(halves, h, h[:1].expand_as(halves.x[1]))[0]
        if abs(off.mean()) > ERRORS * off.std() / math.sqrt(len(off)):
            return True
    return False


def best_knots(halves: Halves, best: MonotoneMap) -> Tensor:
    """The spline after a map under which fitted rows are likeliest, (3, K)."""
    v = best(halves.x[0][:CURVED])[0]
    basis = torch.linalg.qr(halves.features[0][:CURVED])[0]
    places = v.quantile(torch.linspace(0.002, 0.998, KNOTS, dtype=torch.float64))
    places = places + 1e-9 * (places[-1] - places[0]) * torch.arange(KNOTS)  # no two are one
    steps = (places[1:] - places[:-1]).log().clone().requires_grad_()
    start = steps.detach().clone()
    optimiser = torch.optim.LBFGS([steps], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        w, slope = spline(v[:, None], knots_of(places, steps)[None])
        rest = w - basis @ (basis.T @ w)
        rough = (steps - start).diff().diff().square().sum() / len(v)
        value = 0.5 * rest.square().mean().log() - slope.mean() + rough
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)
    return knots_of(places, steps.detach())


def knots_of(places: Tensor, log_steps: Tensor) -> Tensor:
    """Knots of a spline (3, K) at places (K,), of heights whose steps have logarithms (K − 1,).

    Slopes are harmonic means of those of the secants (Fritsch & Butland 1984), at the ends theirs.
    """
    steps = log_steps.exp()
    heights = torch.cat([places[:1], places[:1] + steps.cumsum(0)])
    secants = steps / (places[1:] - places[:-1])
    inner = 2 * secants[1:] * secants[:-1] / (secants[1:] + secants[:-1])
    return torch.stack([places, heights, torch.cat([secants[:1], inner, secants[-1:]])])

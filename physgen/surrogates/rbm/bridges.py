r"""log Z(θ) by chains that start at lattices of each θ, where no walk comes through.

Training leaves lattices at all θ, which nearly follow the model's own law. Chains that go on from
those of the nearest θ have no transition to cross, and say at each node of the grid what log Z
changes by to the next one, from either side (Zwanzig 1954),

    Z_{k+1}/Z_k = E_k[e^{F_k − F_{k+1}}] = 1 / E_{k+1}[e^{F_{k+1} − F_k}],

in a few steps between where nodes are far apart (Neal 2001, arXiv:physics/9803008). The estimate
is the mean of both, by their effective numbers of chains; annealing from W = 0 to the first node
gives the constant. A kept lattice belongs to one of the eight groups at all nodes, so that the
scatter of these is the error.

That is right if chains follow the model's law. Three things would tell that they do not: they move
away from the kept lattices, log Z still changes as they go on, or walks from weak coupling find a
larger one. For those are too low but for chance, P(log Z by forward chains > log Z + d) < e^{−d}.
Then the walks keep the last word.
"""

from __future__ import annotations

import logging
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from physgen.surrogates.rbm.energy import Coefficients, Energy
from physgen.surrogates.rbm.gibbs import run_sweeps
from physgen.surrogates.rbm.log_z import (
    EQUILIBRATION,
    GROUPS,
    RAMP,
    LogZ,
    annealed,
    effective,
    left_out,
    moved_along,
    partial_sums,
    pilot,
    places_in_walk,
    ramped,
    rows_repeated,
    settled,
    weakest_first,
)

__all__ = ["Kept", "bridged", "by_walks_or_bridges"]

_log = logging.getLogger(__name__)

AGREE = 1.0
"""Nats between walks there and back on a quarter of the ladder, up to which longer ones follow."""
WALKERS = 64
"""Chains of these."""
DOUBT = 3.0
"""Nats that log Z may change by as chains go on, or be below that of forward walks; and spreads of
∂F/∂θ that chains may move by from the kept lattices."""
EVERY, LEAST = 8, 8
"""Sweeps between two looks at a chain, and looks at least."""
TINY, STEPS = 1e-6, 64
"""A spread at least, in nats, and steps between two nodes at most."""
USES = 4
"""Nodes at which a kept lattice is used."""


class Kept(NamedTuple):
    """Lattices of all θ.

    Attributes:
        c: where they were drawn, (n, D).
        v: spins, (n, N) int8.
    """

    c: Tensor
    v: Tensor

    @property
    def enough(self) -> bool:
        """Whether each group has two."""
        return len(self.c) >= 2 * GROUPS

    def near(self, c: Tensor, nodes: int) -> Tensor:
        """Those nearest to each c (m, D), as many of each group, (m, M, N); of a grid of nodes."""
        each = len(self.c) // GROUPS
        far = torch.cdist(c, self.c[: each * GROUPS].to(c)).unflatten(1, (each, GROUPS))
        wanted = min(each, max(2, USES * each // nodes))
        places = far.topk(wanted, 1, largest=False).indices  # (m, wanted, G)
        return self.v[(places * GROUPS + torch.arange(GROUPS, device=c.device)).flatten(1)]


def by_walks_or_bridges(
    energy: Energy,
    axes: list[Tensor],
    kept: Kept,
    *,
    ladder: int,
    chains: int,
    generator: torch.Generator,
) -> LogZ:
    """log Z by annealing, or from the kept lattices where walks there and back do not agree.

    Args:
        energy: the model.
        axes: (m_d,) nodes of each parameter in units of c.
        kept: lattices of all θ.
        ladder: sweeps from W = 0 to the end of the last axis.
        chains: that walk.
        generator: random numbers.
    """
    how: dict[str, Any] = {"ladder": ladder, "chains": chains, "generator": generator}
    if kept.enough:
        few = how | {"ladder": ladder // 4, "chains": WALKERS, "back": True}
        first = pilot(energy, axes, **few)
        apart = float((first.backward - first.forward).abs().max())
        if apart > AGREE:
            found, moved = bridged(energy, axes, kept, **how)
            value, half = found.value.flatten(), found.half.flatten()
            doubts = (half - value).abs(), first.forward - value, moved
            if all(float(doubt.max()) < DOUBT for doubt in doubts):
                _log.info(
                    "rbm: log Z from %d lattices of the training, for walks there and back differ "
                    "by %.2g nats",
                    len(kept.c), apart,
                )  # fmt: skip
                return found
    return annealed(energy, axes, **how)


@torch.no_grad()
def bridged(
    energy: Energy,
    axes: list[Tensor],
    kept: Kept,
    *,
    ladder: int,
    chains: int,
    generator: torch.Generator,
) -> tuple[LogZ, Tensor]:
    """log Z by chains from the kept lattices, and how far these moved, in their spreads, (K,).

    Args:
        energy: the model.
        axes: (m_d,) nodes of each parameter in units of c.
        kept: lattices of all θ.
        ladder: sweeps, a quarter of which go to the walk from W = 0 to the first node, and as many
            to each chain.
        chains: of that walk.
        generator: random numbers.
    """
    weights, shape = energy.weights(), [len(a) for a in axes]
    turned, order = weakest_first(energy, weights, axes)
    c = torch.stack([a[0] for a in turned])[None].to(energy.w)
    sweeps = torch.full((RAMP,), max(1, ladder // 4 // RAMP))
    start, _ = ramped(energy, weights, c, sweeps, chains, generator, back=True)
    forward, ess = left_out(start.log_w), effective(start.log_w)
    found = Estimates(start.value, forward, start.back, start.value, ess, 0 * ess)
    looks = max(LEAST, ladder // 4 // EVERY)
    for d in order:
        places = c[:, None].repeat(1, shape[d], 1)
        places[..., d] = turned[d].to(c)
        starts = [kept.near(path, math.prod(shape)) for path in places]
        lines = zip(places, starts, strict=True)
        found = found.and_on([changes(energy, c, v, looks, generator) for c, v in lines])
        c = places.flatten(0, 1)
    where = places_in_walk(axes, turned, order)
    value, forward, backward, half, ess, moved = (a[where] for a in found)
    return settled(value, forward, backward, half, ess, shape), moved


class Estimates(NamedTuple):
    """log Z at K nodes, or its changes, each group left out and last of all, (K, G + 1).

    Attributes:
        value: by the chains of both nodes.
        forward: by those of the first.
        backward: by those of the second.
        half: by the first half of the looks.
        ess: effective part of the chains, (K,).
        moved: how far the chains moved from the kept lattices, in their spreads, (K,).
    """

    value: Tensor
    forward: Tensor
    backward: Tensor
    half: Tensor
    ess: Tensor
    moved: Tensor

    def and_on(self, lines: list[Estimates]) -> Estimates:
        """From each of these nodes along its line, by the changes there, (K · m, G + 1)."""
        steps = [torch.stack(each) for each in zip(*lines, strict=True)]
        sums = [partial_sums(a, b).flatten(0, 1) for a, b in zip(self[:4], steps, strict=False)]
        said = zip(self[4:], steps[4:], strict=True)
        return Estimates(*sums, *(torch.cat([a[:, None], b], 1).flatten() for a, b in said))


def changes(
    energy: Energy, c: Tensor, v: Tensor, looks: int, generator: torch.Generator
) -> Estimates:
    """What log Z changes by along a line of nodes.

    Args:
        energy: the model.
        c: the nodes, (m, D).
        v: lattices to start from at each, (m, M, N).
        looks: at the chains.
        generator: random numbers.

    Returns:
        (m − 1, G + 1) each.
    """
    weights = energy.weights()
    rows = rows_repeated(energy.coefficients(c, weights), v.shape[1])

    def path(steps: int) -> list[Coefficients]:
        parts = torch.linspace(0, 1, steps + 1).tolist()
        return [energy.coefficients(c[:-1].lerp(c[1:], part), weights) for part in parts]

    def look(v: Tensor, way: list[Coefficients]) -> Tensor:
        ends = v.unflatten(0, (len(c), -1))
        there = moved_along(weights, way, ends[:-1].flatten(0, 1), generator)[1]
        back = moved_along(weights, way[::-1], ends[1:].flatten(0, 1), generator)[1]
        return torch.stack([there, back]).unflatten(1, (len(c) - 1, -1))

    v, step = v.flatten(0, 1).float(), path(1)
    before = look(v, step)
    v = run_sweeps(weights, rows, v, EQUILIBRATION, generator)
    after = look(v, step)
    spread = after.std(-1)
    moved = ((after.mean(-1) - before.mean(-1)).abs() / spread.clamp(min=TINY)).amax(0)
    way, gained = path(math.ceil(spread.max().clamp(1, STEPS))), []
    for _ in range(looks):
        gained.append(look(v, way))
        v = run_sweeps(weights, rows, v, EVERY, generator)
    whole = torch.stack(gained, 2)
    value, forward, backward, ess = from_both_sides(whole)
    half = from_both_sides(whole[:, :, : looks // 2])[0]
    return Estimates(value, forward, backward, half, ess, moved)


def from_both_sides(gained: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Changes by log weights (2, m − 1, looks, M): by both, there, back, and effective parts."""
    there, back = gained.flatten(2)
    forward, backward = left_out(there), -left_out(back)
    good, other = effective(there), effective(back)
    part = (good / (good + other))[:, None]
    return part * forward + (1 - part) * backward, forward, backward, torch.minimum(good, other)

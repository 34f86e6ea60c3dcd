r"""Annealed importance sampling (AIS) of log Z(θ) on a grid of θ, or enumeration of a layer.

**Annealed importance sampling** (Neal 2001, arXiv:physics/9803008) **with resampling** (Del Moral,
Doucet & Jasra 2006). Chains start at W = 0, where log Z = (N + H) log 2, and go a Gibbs sweep at a
time, first to the weakest coupling in the prior's box and from there along θ through all nodes:
one run gives log Z on the whole grid. At each node chains are drawn anew by their weights, so that
these do not pile up along the way, and each of eight groups from its own, so that the groups
stay independent and their scatter is the error. The mean weight of chains that go forward bounds
log Z from below, but for chance; of chains that go back from where the others end, from above
(Grosse, Ghahramani & Adams 2015, arXiv:1511.02543). Between two nodes the estimate is the mean of
both, by their effective numbers of chains. A first walk on a quarter of the ladder says where the
sweeps are needed: with variance A/n of n sweeps in an interval, n ∝ √A.

With two or three parameters the chains walk along one axis, and from each of its nodes along the
next. The axis along which the coupling grows most comes last: a field that is turned round where
the coupling is strong would leave the chains behind, in the wrong phase.

No walk of a length that can be paid takes a large lattice through a transition. What a first walk
shows, there and back, is enough to know; `bridges` starts where lattices of all θ are at hand.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from physgen.surrogates.rbm import compiled
from physgen.surrogates.rbm.energy import (
    Coefficients,
    Energy,
    Weights,
    free_energy,
    gibbs,
    spins,
    sum_log_2cosh,
)
from physgen.surrogates.rbm.gibbs import (
    counter,
    is_compiled,
    rows_last,
    run_sweeps,
    written_out,
)

__all__ = [
    "EQUILIBRATION",
    "GROUPS",
    "RAMP",
    "Chains",
    "LogZ",
    "Pilot",
    "annealed",
    "can_enumerate",
    "count",
    "effective",
    "enumerated",
    "left_out",
    "moved_along",
    "nodes",
    "partial_sums",
    "pilot",
    "places_in_walk",
    "ramped",
    "rows_repeated",
    "settled",
    "weakest",
    "weakest_first",
]

MOST_UNITS = {1: 20, 2: 17, 3: 15}
"""Units of a layer that is enumerated, at most, for D parameters."""
ANNEALED, ENUMERATED = {1: 129, 2: 31, 3: 11}, {1: 33, 2: 13, 3: 9}
"""Nodes of an axis, for D parameters."""
MARGIN = 0.02
"""Part of the prior's width that the grid reaches beyond it."""
GROUPS = 8
"""Groups of chains; leaving out one at a time gives the error of log Z."""
STATES = 2**14
"""States that are enumerated at once."""
RAMP = 16
"""Intervals between W = 0 and the first node."""
EQUILIBRATION = 20
"""Sweeps of chains at one θ before anything is made of them."""


class LogZ(NamedTuple):
    """log Z in nats on the nodes of a grid, m^D values each.

    Attributes:
        value: the estimate, or the exact value.
        stderr: its standard error, by leaving out groups of chains.
        forward: by chains from weak to strong coupling; in the mean too low.
        backward: by chains that come back; in the mean too high.
        half: forward on half the ladder; of bridges, by the first half of the looks.
        ess: effective number of forward chains, as a part of all, since the node before.
        groups: the estimate with one group of chains left out, its deviation blown up to the
            estimate's error, (GROUPS, m^D).
    """

    value: Tensor
    stderr: Tensor
    forward: Tensor
    backward: Tensor
    half: Tensor
    ess: Tensor
    groups: Tensor


def can_enumerate(energy: Energy, parameters: int) -> bool:
    """Whether log Z is had exactly, in seconds."""
    return min(energy.sites, energy.hidden_units) <= MOST_UNITS[parameters]


def count(parameters: int, exact: bool) -> int:
    """Nodes on each axis of a grid that resolves log Z."""
    return (ENUMERATED if exact else ANNEALED)[parameters]


def nodes(low: Tensor, high: Tensor, count: int) -> list[Tensor]:
    """Equal steps on each axis of a box (D,), a little beyond its ends, (count,) each."""
    margin = MARGIN * (high - low)
    ends = zip(low - margin, high + margin, strict=True)
    return [torch.linspace(float(a), float(b), count, dtype=torch.float64) for a, b in ends]


@torch.no_grad()
def enumerated(energy: Energy, axes: list[Tensor]) -> LogZ:
    """log Z by the sum over all states of the smaller layer, on axes of (m_d,) nodes."""
    weights = energy.weights()
    c = torch.cartesian_prod(*axes).view(-1, len(axes)).to(energy.w)
    value = torch.stack([_sum(energy, weights, row[None]) for row in c])
    value = value.view([len(a) for a in axes])
    zero = torch.zeros_like(value)
    return LogZ(value, zero, value, value, value, zero + 1, value.expand(GROUPS, *value.shape))


def _sum(energy: Energy, weights: Weights, c: Tensor) -> Tensor:
    """Log Z at one c (1, D)."""
    coefficients = energy.coefficients(c, weights)
    over_spins = energy.sites <= energy.hidden_units
    units = energy.sites if over_spins else energy.hidden_units
    parts = []
    half = coefficients.b is None  # a flip of all changes nothing: hold the last one
    for numbers in torch.arange(2 ** (units - half), device=c.device).split(STATES):
        s = 2.0 * (numbers[:, None] >> torch.arange(units, device=c.device) & 1) - 1
        if over_spins:
            log_p = -free_energy(coefficients, s, weights.up(s))
        else:
            h = s[..., None]
            a = coefficients.visible(weights.down(coefficients.g * h))
            log_p = sum_log_2cosh(a)
            if coefficients.d is not None:
                log_p = log_p + (coefficients.d * h).sum((1, 2))
        parts.append(log_p.double().logsumexp(0))
    return torch.stack(parts).logsumexp(0) + half * math.log(2)


Plan = list[Tensor]
"""Sweeps in each interval of the way from W = 0 to the first node, then of each axis."""


class Pilot(NamedTuple):
    """A walk on a short ladder, sweeps spread evenly.

    Attributes:
        forward: log Z on the nodes by chains that go forward, (nodes,).
        backward: the same by chains that come back; if none do, that of the first node.
        plan: sweeps where they are needed.
    """

    forward: Tensor
    backward: Tensor
    plan: Plan


class Chains(NamedTuple):
    """M chains at each of K nodes.

    Attributes:
        c: where the nodes are, (K, D).
        v: spins, (K, M, N) int8.
        log_w: log weights since W = 0, those of the ancestors as a group's mean, (K, M).
        back: log Z by the walks back, each group of chains left out and last of all, (K, G + 1).
        value: log Z by both, likewise.
    """

    c: Tensor
    v: Tensor
    log_w: Tensor
    back: Tensor
    value: Tensor


@torch.no_grad()
def annealed(
    energy: Energy, axes: list[Tensor], *, ladder: int, chains: int, generator: torch.Generator
) -> LogZ:
    """log Z by annealed importance sampling, forward, backward, and on half the ladder.

    Args:
        energy: the model.
        axes: (m_d,) nodes of each parameter in units of c.
        ladder: sweeps from W = 0 to the end of the last axis.
        chains: number of chains; a D² part of that at each node.
        generator: random numbers.
    """
    plan = pilot(energy, axes, ladder=ladder // 4, chains=chains, generator=generator).plan
    short, _ = _walks(energy, axes, _scaled(plan, ladder // 2), chains, generator, back=False)
    found, _ = _walks(energy, axes, _scaled(plan, ladder), chains, generator, back=True)
    forward, half = left_out(found.log_w), left_out(short.log_w)
    ess = effective(found.log_w)
    return settled(found.value, forward, found.back, half, ess, [len(a) for a in axes])


def settled(
    value: Tensor, forward: Tensor, backward: Tensor, half: Tensor, ess: Tensor, shape: list[int]
) -> LogZ:
    """What `LogZ` holds of estimates at K nodes, each group left out and last of all (K, G + 1).

    Args:
        value: the best one.
        forward: by chains from one side.
        backward: by chains from the other.
        half: with half the work.
        ess: effective part of the chains, (K,).
        shape: of the grid of nodes.
    """
    deviation = value[:, :-1] - value[:, :-1].mean(1, keepdim=True)
    deviation = math.sqrt(GROUPS - 1) * deviation
    stderr, groups = deviation.square().mean(1).sqrt(), (value[:, -1:] + deviation).T
    tables = (value[:, -1], stderr, forward[:, -1], backward[:, -1], half[:, -1], ess, groups)
    return LogZ(*(a.reshape(-1, *shape).squeeze(0) for a in tables))


@torch.no_grad()
def pilot(
    energy: Energy,
    axes: list[Tensor],
    *,
    ladder: int,
    chains: int,
    generator: torch.Generator,
    back: bool = False,
) -> Pilot:
    """A first walk, with sweeps spread evenly, and where more are needed.

    Args:
        energy: the model.
        axes: (m_d,) nodes of each parameter in units of c.
        ladder: sweeps from W = 0 to the end of the last axis.
        chains: that walk.
        generator: random numbers.
        back: whether they come back.
    """
    even = [torch.ones(RAMP), *(3 * RAMP * torch.ones(len(a) - 1) / (len(a) - 1) for a in axes)]
    found, plan = _walks(energy, axes, _scaled(even, ladder), chains, generator, back=back)
    return Pilot(left_out(found.log_w)[:, -1], found.back[:, -1], plan)


def _scaled(plan: Plan, ladder: int) -> Plan:
    """The plan with `ladder` sweeps in all, or one for each interval if that is more."""
    factor = ladder / max(sum(float(p.sum()) for p in plan), 1e-9)  # W = 0 needs none
    return [(factor * p).round().clamp(min=1).long() for p in plan]


def _walks(
    energy: Energy,
    axes: list[Tensor],
    plan: Plan,
    chains: int,
    generator: torch.Generator,
    back: bool,
) -> tuple[Chains, Plan]:
    """From W = 0 to the weakest corner of the grid, and from there along one axis after another.

    Returns:
        chains at all nodes, in the order of the grid, and the plan that this one teaches.
    """
    weights = energy.weights()
    turned, order = weakest_first(energy, weights, axes)
    chains = GROUPS * max(2, chains // len(axes) ** 2 // GROUPS)
    c = torch.stack([a[0] for a in turned])[None].to(energy.w)
    state, needed = ramped(energy, weights, c, plan[0], chains, generator, back)
    wanted = [needed, *plan[1:]]
    for d in order:
        fine = between(turned[d], plan[1 + d]).to(energy.w)
        places = state.c[:, None].repeat(1, len(fine), 1)
        places[..., d] = fine
        path = [energy.coefficients(at, weights) for at in places.unbind(1)]
        walked = _walk(weights, state, places, path, plan[1 + d], generator, back)
        state, wanted[1 + d] = walked
    where = places_in_walk(axes, turned, order)
    return Chains(*(a[where] for a in state)), wanted


def ramped(
    energy: Energy,
    weights: Weights,
    c: Tensor,
    steps: Tensor,
    chains: int,
    generator: torch.Generator,
    back: bool,
) -> tuple[Chains, Tensor]:
    """Chains from W = 0 to a node c (1, D), and the sweeps that each interval needs.

    `steps` (RAMP,) are sweeps in the intervals between.
    """
    start, device = energy.coefficients(c, weights), energy.w.device
    v = spins(torch.zeros(1, chains, energy.sites, device=device), generator).to(torch.int8)
    log_2 = (energy.sites + energy.hidden_units) * math.log(2)
    log_w = torch.full((1, chains), log_2, device=device, dtype=torch.float64)
    log_z = log_w[:, : GROUPS + 1]
    state = Chains(c, v, log_w, log_z, log_z)
    rungs = between(torch.linspace(0, 1, RAMP + 1), steps)
    ramp = [start.each(partial(torch.mul, s)) for s in rungs.to(energy.w)]
    state, needed = _walk(weights, state, c[:, None], ramp, steps, generator, back)
    return Chains(*(a[-1:] for a in state)), needed


def between(points: Tensor, steps: Tensor) -> Tensor:
    """Points (m,) and equal steps between them, so many (m − 1,) in each interval."""
    parts = [
        torch.linspace(float(a), float(b), int(n) + 1)[:-1]
        for (a, b), n in zip(pairwise(points), steps, strict=True)
    ]
    return torch.cat([*parts, points[-1:].float()])


def _walk(
    weights: Weights,
    state: Chains,
    places: Tensor,
    path: list[Coefficients],
    steps: Tensor,
    generator: torch.Generator,
    back: bool,
) -> tuple[Chains, Tensor]:
    """Chains at the nodes of a path, (K · nodes) in all, and the sweeps that each interval needs.

    `places` (K, steps, D) are the c of the path, `steps` the sweeps between its nodes. The walk
    back starts from the forward chains at the end, dealt out by their weights and moved on.
    """
    k, m, n = state.v.shape
    marks = [0, *steps.cumsum(0).tolist()]
    v, start = _dealt(state.v, state.log_w, generator)
    log_w, v = _anneal(weights, path, marks, v.flatten(0, 1).float(), start, generator)
    noise = log_w[1:].view(len(marks) - 1, k, -1, GROUPS).var(2).mean((1, 2))
    needed = (noise.cpu() * steps / k).sqrt()
    log_w = log_w.view(-1, k, m).transpose(0, 1)
    v = v.view(-1, k, m, n).transpose(0, 1)
    value = home = state.value[:, None].expand(-1, len(marks), -1)
    if back:
        ends, start = _dealt(v[:, -1], log_w[:, -1], generator)
        ends = ends.flatten(0, 1).float()
        ends = run_sweeps(weights, rows_repeated(path[-1], m), ends, EQUILIBRATION, generator)
        returning = [marks[-1] - i for i in reversed(marks)]
        back_w, _ = _anneal(weights, path[::-1], returning, ends, start, generator)
        back_w = back_w.view(-1, k, m).transpose(0, 1).flip(1)
        there, here = left_out(log_w).diff(dim=1), left_out(back_w).diff(dim=1)
        good_there, good_here = effective(log_w)[:, 1:], effective(back_w)[:, :-1]
        part = (good_there / (good_there + good_here))[..., None]
        value = partial_sums(state.value, part * there + (1 - part) * here)
        home = partial_sums(state.back, here)
    places = places[:, marks] if places.shape[1] > 1 else places.expand(-1, len(marks), -1)
    return Chains(*(a.flatten(0, 1) for a in (places, v, log_w, home, value))), needed


def partial_sums(start: Tensor, steps: Tensor) -> Tensor:
    """Partial sums of steps (K, m, G) from a start (K, G), (K, m + 1, G)."""
    return torch.cat([start[:, None], steps], 1).cumsum(1)


def _anneal(
    weights: Weights,
    path: list[Coefficients],
    marks: list[int],
    v: Tensor,
    log_w: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Log weights (marks, B) and spins (marks, B, N) int8 at the marked steps of a path."""
    shape, log_w = log_w.shape, log_w.flatten()
    kept = [(log_w, v.to(torch.int8))]
    for first, last in pairwise(marks):
        v, gained = moved_along(weights, path[first : last + 1], v, generator)
        log_w = log_w + gained
        kept.append((log_w, v.to(torch.int8)))
        v, log_w = _dealt(v.view(*shape, -1), log_w.view(shape), generator)
        v, log_w = v.flatten(0, 1), log_w.flatten()
    return torch.stack([w for w, _ in kept]), torch.stack([s for _, s in kept])


def moved_along(
    weights: Weights, path: list[Coefficients], v: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """v (B, N) after a sweep at each point of a path but the first, and what log weights gain."""
    if is_compiled(v):
        written = [written_out(weights, point) for point in path]
        g, d, b = (np.stack(a) for a in list(zip(*written, strict=True))[2:])
        w, near = weights.compiled()
        found = compiled.climbed(rows_last(v), w, near, g, d, b, counter(generator))
        return torch.from_numpy(found[0].T), torch.from_numpy(found[1])
    gained = torch.zeros(len(v), device=v.device, dtype=torch.float64)
    rows = (rows_repeated(p, len(v) // len(p.g)) for p in path)
    for now, then in pairwise(rows):
        u = weights.up(v)
        gained += (free_energy(now, v, u) - free_energy(then, v, u)).double()
        v = gibbs(weights, then, u, generator)
    return v, gained


def _dealt(v: Tensor, log_w: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Chains (K, M, N) drawn by their weights (K, M), each group from its own, and its log mean.

    Drawn evenly along the sum of the weights: of equal chains each is drawn once.
    """
    k, m = log_w.shape
    grouped = log_w.view(k, -1, GROUPS).transpose(1, 2)  # (K, G, M / G)
    size = m // GROUPS
    first = torch.rand(k, GROUPS, 1, generator=generator, device=v.device, dtype=log_w.dtype)
    ticks = (torch.arange(size, device=v.device) + first) / size
    share = grouped.softmax(2).cumsum(2).contiguous()
    places = torch.searchsorted(share, ticks).clamp(max=size - 1)
    group = torch.arange(GROUPS, device=v.device)
    places = (places.transpose(1, 2) * GROUPS + group).flatten(1)
    mean = grouped.logsumexp(2, keepdim=True) - math.log(size)
    mean = mean.expand_as(grouped).transpose(1, 2).flatten(1)
    return v.gather(1, places[..., None].expand_as(v)), mean


def rows_repeated(coefficients: Coefficients, times: int) -> Coefficients:
    """Each row so many times over: made when it is needed, since a path of them is long."""
    return coefficients.each(lambda a: a.repeat_interleave(times, 0))


def effective(log_w: Tensor) -> Tensor:
    """Effective number of chains (…, M) as a part of all, (…,)."""
    w = (log_w - log_w.amax(-1, keepdim=True)).exp()
    return w.sum(-1).square() / w.square().sum(-1) / w.shape[-1]


def left_out(log_w: Tensor) -> Tensor:
    """Log mean weight of (…, M) with each group of chains left out, and last of all (…, G + 1)."""
    group = torch.arange(log_w.shape[-1], device=log_w.device) % GROUPS
    kept = torch.stack([group != i for i in range(GROUPS)] + [group >= 0])
    return log_w[..., None, :].masked_fill(~kept, -math.inf).logsumexp(-1) - kept.sum(1).log()


def places_in_walk(axes: list[Tensor], turned: list[Tensor], order: list[int]) -> Tensor:
    """Where each node of the axes stands in the order of a walk, (nodes,)."""
    index = torch.arange(math.prod(map(len, axes))).view([len(axes[d]) for d in order])
    index = index.permute([order.index(d) for d in range(len(axes))])
    flipped = [d for d, (a, b) in enumerate(zip(axes, turned, strict=True)) if not a.equal(b)]
    return index.flip(flipped).flatten()


def weakest(energy: Energy, axes: list[Tensor]) -> Tensor:
    """The corner of a grid where the coupling is weakest, (D,)."""
    return torch.stack([a[0] for a in weakest_first(energy, energy.weights(), axes)[0]])


def weakest_first(
    energy: Energy, weights: Weights, axes: list[Tensor]
) -> tuple[list[Tensor], list[int]]:
    """Each axis (m_d,) turned to start at its weaker coupling, the others being at their middle.

    And the order to walk along them: where the coupling changes by the largest factor comes last.
    """
    middle = torch.stack([a[len(a) // 2] for a in axes])
    turned, contrast = [], []
    for d, axis in enumerate(axes):
        ends = middle.repeat(2, 1)
        ends[:, d] = axis[[0, -1]]
        found = energy.coefficients(ends.to(energy.w), weights)
        parts = [a.square().flatten(1).mean(1) for a in found if a is not None]
        strength = torch.stack(parts).sum(0).detach()
        turned.append(axis if strength[0] <= strength[1] else axis.flip(0))
        contrast.append(abs(float(strength[0].log() - strength[1].log())))
    return turned, sorted(range(len(axes)), key=contrast.__getitem__)

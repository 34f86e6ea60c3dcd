r"""The normalised posterior of one to three parameters on a grid, from any log p(x|θ).

With D ≤ 3 parameters Bayes' rule needs no Markov chain: p(θ|x) = p(x|θ) p(θ)/p(x) on a product of
node sets, with the evidence p(x) = ∫ p(x|θ) p(θ) dθ as a by-product. What is dear is log p(x|θ).

Where it is smooth in θ, a polynomial has it from few evaluations (:mod:`physgen.posterior
.chebyshev`), and the posterior is made of that. It is held against log p at a few other points,
the likeliest one and others spread over the mass: where these are off by more than 0.01 nats a
second one is tried, on a box around all mass that the bound below allows between the values of
the first, and if that is off as well nothing is taken from either. Then log p itself is asked for,
and nodes go where the mass can be. Of one parameter, where points are few, a polynomial that is
nearly log p at two points of the mass goes through these as well, and is held against it at two
others; one that is not, or whose mass is narrow, gets as many points again, between its own.

They lie in the prior's own coordinates, so that the size of θ does not matter; the first are
uniform between their ends. With f the log of p(x|θ) times the prior's density there, less its
maximum over the nodes, and s the smaller second divided difference of a cell's two ends,

    b(t) = (1 − t) f_k + t f_{k+1} − h² t(1 − t) s

tells how high f may go between two nodes h apart: exactly for a Gaussian, even where all nodes
lie in its flanks. Axis by axis it bounds log p on a product of nodes, where it is exact for any
Gaussian, too. The next nodes are the prior's ends and the edges of the parts where b > −18, and
within these points at a density of max(√|s|, |b′|/7) exp(min(b, 0)/12): a fixed number for each
width of a mode, fewer in tails, but enough to resolve each cell that is not yet. In the first
rounds only that part of their product is evaluated which the bound puts above −18. Each
observation has nodes of its own, where and as many as it wants them, so that a posterior may be
hundreds of times narrower than the prior,
piled up at a bound or in several modes. It is *resolved* once h²|s|, which is h²/2σ² for a
Gaussian, is below `tolerance` in all cells where b > −4.5. Then a few points between the nodes,
the likeliest one and others spread over the mass, are looked at. With f̂ what the nodes tell, the
mean of exp(f − f̂) over the latter is the part by which the evidence is off. Where that is more
than 3 %, as at kinks, or f is off by a nat, since a narrow peak stands between the nodes, the
worst place becomes a node, and the rounds go on with a quarter of the tolerance. If that is so to
the end it is not resolved; a mode that neither a flank nor one of these points announces is
missed. Of three parameters, whose cells stay wide, these points alone tell what is resolved.

An observation's posterior and its cost do not depend on who else is in the call. In arrays that
others need wider its last node is repeated: cells of no width, which change nothing
(:mod:`physgen.posterior.interpolation`).

log p must be a function of θ: of a simulated likelihood that asks the same random numbers for one
x under every θ (Gouriéroux & Monfort 1996, ch. 3), which :func:`of_surrogate` sees to. Quadrature
for posteriors: Naylor & Smith, Appl. Stat. 31 (1982) 214.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from physgen.errors import DataError, UsageError
from physgen.nn.tensors import tensor_of
from physgen.posterior.chebyshev import Polynomials
from physgen.posterior.density import FINE, GridPosterior
from physgen.posterior.interpolation import (
    along_last,
    cell_counts,
    curvatures,
    on_axes,
    upper_bound,
)
from physgen.runtime.blocks import nothing
from simulators.base import Array, LogProb
from simulators.prior import Prior

if TYPE_CHECKING:
    from physgen.sbi.networks import Network
    from physgen.surrogates.base import Surrogate

__all__ = [
    "GRID",
    "GridPosterior",
    "LogLikelihood",
    "fine_points",
    "grid_posterior",
    "iid_sets",
    "network_grid",
    "of_exact",
    "of_network",
    "of_surrogate",
]


Joint = Callable[[Array, Array], Array]
"""c (k, G, D) and the observation of each (k,) → log p(x, c), (k, G)."""


class LogLikelihood(Protocol):
    """log p(x|θ) of n observations."""

    def __call__(self, theta: Array, which: Array | None = None, /) -> Array:
        """Log p of G parameter points for each of some observations.

        Args:
            theta: (k, G, D).
            which: the observation of each, (k,); all n in their order if None.

        Returns:
            (k, G).
        """
        ...


NODES = {1: 15, 2: 18, 3: 15}
"""Nodes per axis in the first round, for D parameters."""
SECOND, MOST = {1: 15, 2: 21, 3: 15}, {1: 45, 2: 33, 3: 19}
"""Nodes per axis at most, in the second round and from the third on."""
GRID: dict[int, dict[str, Any]] = {
    1: {"nodes": 61, "tolerance": 2.0},
    2: {"nodes": 31, "tolerance": 2.0},
    3: {"nodes": 17, "tolerance": 2.0},
}
"""Options of `grid_posterior` for a network of D parameters: densities of ReLUs and splines have
kinks, which fewer nodes miss."""
FIELD_GRID: dict[int, dict[str, Any]] = GRID | {1: {"nodes": 25, "tolerance": 2.0}}
"""The same for a vector field, whose density is smooth, and dear."""
DEPTH, CORE, STEEP, TEMPERATURE, LEAST, DENSITY, FLOOR = 18.0, 4.5, 7.0, 12.0, 0.25, 1.7, 1e10
NEGLIGIBLE, BOUNDED = 18.0, 4
"""Nats below the maximum at which log p is not evaluated where the round before bounds it, and the
rounds in which that is so: what is not resolved then is no law for which the bound is close."""
SPLIT = np.concatenate([[0], 2.0 ** np.arange(-12, 0), 1 - 2.0 ** np.arange(-2, -13, -1), [1]])
"""Parts of a cell in which log p is bounded: fine at both ends, for the outer cells are wide."""
PROBES, LOOKS, SURPRISE, EVIDENCE, FINER = {1: 9, 2: 17, 3: 65}, 2, 1.0, 0.03, 4.0
"""Points between the nodes at which a posterior of D parameters is looked at once more, how often
it goes on from what they show, the nats by which log p there may differ from what the nodes tell,
the part by which the evidence may, and by how much the tolerance falls where they do."""
POINTS, FITS, MARGIN, SMALLER = {1: 10, 2: 15, 3: 8}, 2, 0.3, 0.5
"""Points per axis of a polynomial that may take the place of log p, and how many are tried; by how
much the next one's box is longer than the mass, to each side, and its part of the volume at most.
"""
HELD, CLOSE = {2: 8, 3: 16}, 0.01
"""Points at which a polynomial is held against log p, and the nats by which it may be off."""
LEVELS, NEAR = np.array([[0.15, 0.85], [0.5, 0.95]]), 0.3
"""Of one parameter the levels of its mass at which a polynomial goes through log p as well, if it
is no more nats off there, and those at which it is held against it."""
VALUES = 2**24
"""Components of x that one call of log p may hold."""


def network_grid(network: Network, dims: int) -> dict[str, Any]:
    """Options of `grid_posterior` for a network's density of D parameters; none of more."""
    return (FIELD_GRID if network.is_field else GRID).get(dims, {})


def fine_points(dims: int) -> int:
    """Points of the fine grid of a posterior of D parameters, at most."""
    return ((MOST[dims] - 1) * FINE[dims] + 1) ** dims


def grid_posterior(
    log_likelihood: LogLikelihood,
    prior: Prior,
    n: int,
    *,
    nodes: int | None = None,
    rounds: int = 6,
    tolerance: float = 1.2,
    first: int = 0,
) -> GridPosterior:
    """The posterior of n observations, from few evaluations of log p(x|θ).

    Args:
        log_likelihood: of n observations, the same value for the same θ.
        prior: over one to three parameters.
        n: number of observations.
        nodes: nodes per axis in the first round, at least 5, and no polynomial takes the place of
            log p; by the number of parameters if None.
        rounds: rounds of evaluation at most; 1 does not zoom.
        tolerance: curvature of log p across a cell, in nats, below which it is resolved.
        first: which of all observations the first is, for messages.

    Raises:
        UsageError: more than three parameters, or fewer than 5 nodes or 1 round.
        DataError: log p is NaN or +∞, or −∞ on all nodes of an observation.
    """
    if len(prior) not in NODES:
        raise UsageError(f"grid: expected 1 to 3 parameters, got {len(prior)}; use a sampler")
    m = NODES[len(prior)] if nodes is None else nodes
    if m < 5 or rounds < 1:
        raise UsageError(f"grid: expected at least 5 nodes and 1 round, got {m} and {rounds}")

    def joint(c: Array, which: Array) -> Array:
        return log_likelihood(prior.from_coordinates(c), which) + prior.log_density(c)

    search = _Search(prior, m, rounds, tolerance, first)
    left, evaluations = np.arange(n), np.zeros(n, dtype=int)
    parts: list[_Part] = []
    if nodes is None and rounds > 1:
        parts = _smooth(joint, search, left, evaluations)
        left = np.setdiff1d(left, [i for part in parts for i in part.which])
    axes = search.start(len(left))
    for looks in range(LOOKS, -1, -1):
        if not len(left):
            break
        known = search(joint, axes, left, evaluations)
        seen = known.resolved | (len(prior) == 3)  # cells of three parameters stay wide
        look = _look(joint, prior, known._replace(resolved=seen), PROBES[len(prior)], evaluations)
        missed = look.missed(SURPRISE) | (abs(look.evidence) > EVIDENCE)
        points = look.worst(SURPRISE)
        again = missed & known.resolved & (looks > 0) & (rounds > 1)
        parts.append(known._replace(resolved=seen & ~missed).of(~again))
        left = known.which[again]
        axes = [_with_node(a[again], c) for a, c in zip(known.axes, points[again].T, strict=True)]
        search = search._replace(tolerance=search.tolerance / FINER)
    _, axes, values, peak, resolved = _joined(parts)
    found = GridPosterior(prior, tuple(axes), values, peak, evaluations, resolved)
    return found.normalised()


class _Search(NamedTuple):
    """Rounds of evaluation, each on nodes that the one before asks for.

    Attributes:
        prior: of θ.
        nodes: per axis in the first round.
        rounds: at most.
        tolerance: curvature of log p across a cell, in nats, below which it is resolved.
        first: which of all observations the first is, for messages.
    """

    prior: Prior
    nodes: int
    rounds: int
    tolerance: float
    first: int

    def start(self, k: int) -> list[Array]:
        """The first nodes of k observations, (k, m) along each axis."""
        ends = self.prior.ends[1].tolist()
        return [np.tile(np.linspace(-end, end, self.nodes), (k, 1)) for end in ends]

    def __call__(self, joint: Joint, axes: list[Array], left: Array, evaluations: Array) -> _Part:
        """What is known of some observations at the end, and how often each was evaluated."""
        new: list[_Part] = []
        before = None
        for done in range(1, self.rounds + 1):
            values, peak, count = _evaluate(
                joint, axes, left, self.first, before if done <= BOUNDED else None
            )
            evaluations[left] += count
            wishes, resolved = _plan(axes, values, self.tolerance)
            ready = resolved | (done == self.rounds)
            known = _Part(left, axes, values, peak, resolved)
            new.append(known.of(ready))
            before = known.of(~ready)
            left = before.which
            if not len(left):
                break
            dims = len(self.prior)
            most = max(self.nodes, (SECOND if done == 1 else MOST)[dims])
            axes = [_zoom(a, w[~ready], most) for a, w in zip(before.axes, wishes, strict=True)]
        return _joined(new)


def _smooth(joint: Joint, search: _Search, left: Array, evaluations: Array) -> list[_Part]:
    """The observations whose log p is a polynomial of c where their mass is.

    A polynomial takes the place of log p and is held against it at points between its nodes,
    spread over the mass; where it is off, a finer one if there is but one parameter, and then
    another one of the part of the prior that may hold the mass.
    """
    one, points = len(search.prior) == 1, POINTS[len(search.prior)]
    parts: list[_Part] = []
    low, high = (np.tile(end, (len(left), 1)) for end in search.prior.ends)
    for _ in range(FITS):
        fit = Polynomials.of(joint, left, low, high, points)
        evaluations[left] += points ** len(search.prior)
        for agree in (_nearly, _held) if one else (_held,):
            if agree is _held and one:
                fit = fit.finer(joint, left)
                evaluations[left] += points + 1
            fit, left = fit.some(fit.known), left[fit.known]
            if not len(left):
                return parts
            known, held = agree(joint, search, fit, left, evaluations)
            parts.append(known.of(held))
            fit, left = fit.some(~held), left[~held]
            if not len(left):
                return parts
        ends, smaller = _boxes(fit, search.tolerance)
        left, (low, high) = left[smaller], ends[:, smaller]
        if not len(left):
            return parts
    return parts


def _told(search: _Search, fit: Polynomials, which: Array) -> _Part:
    """What polynomials tell of observations."""
    rows = np.arange(len(which))
    known = search(fit.at, search.start(len(rows)), rows, np.zeros(len(rows), dtype=int))
    return known._replace(which=which)


def _held(
    joint: Joint, search: _Search, fit: Polynomials, which: Array, evaluations: Array
) -> tuple[_Part, NDArray[np.bool_]]:
    """What polynomials tell of observations, and whether log p agrees, (k,)."""
    known = _told(search, fit, which)
    where = HELD.get(len(search.prior), LEVELS[1])
    look = _look(joint, search.prior, known, where, evaluations)
    return known, known.resolved & ~look.missed(CLOSE)


def _nearly(
    joint: Joint, search: _Search, fit: Polynomials, which: Array, evaluations: Array
) -> tuple[_Part, NDArray[np.bool_]]:
    """The same of one parameter, where those that nearly agree go through more of log p first.

    Not where the mass is narrow: beside it another mode may stand between the points.
    """
    known = _told(search, fit, which)
    known = known._replace(resolved=known.resolved & ~_boxes(fit, search.tolerance)[1])
    look = _look(joint, search.prior, known, LEVELS[0], evaluations)
    near = known.resolved & ~look.missed(NEAR)
    if not near.any():
        return known, near
    fit = fit.some(near).through(look.c[near, :, 0], look.value[near])
    closer = _told(search, fit, which[near])
    open_ones = closer._replace(resolved=closer.resolved & look.missed(CLOSE)[near])
    look = _look(joint, search.prior, open_ones, LEVELS[1], evaluations)
    held = closer.resolved & ~look.missed(CLOSE)
    return _joined([closer, known.of(~near)]), np.isin(which, closer.which[held])


def _boxes(fit: Polynomials, tolerance: float) -> tuple[Array, NDArray[np.bool_]]:
    """Ends of boxes around all mass that the fits' nodes allow, (2, k, D), and which are smaller.

    The polynomials themselves are no guide: between the nodes they may hide a mode.
    """
    axes, values = fit.on_nodes()
    values -= values.max(tuple(range(1, values.ndim)), keepdims=True)
    lows, highs = [], []
    for x, wish in zip(axes, _plan(axes, values, tolerance)[0], strict=True):
        edges = x[:, :-1, None] + np.diff(x)[..., None] * SPLIT
        low = np.where(wish > 0, edges[..., :-1], np.inf).min((1, 2))
        high = np.where(wish > 0, edges[..., 1:], -np.inf).max((1, 2))
        margin = MARGIN * (high - low)
        lows.append(np.maximum(low - margin, x[:, 0]))
        highs.append(np.minimum(high + margin, x[:, -1]))
    ends = np.stack([np.stack(lows, -1), np.stack(highs, -1)])
    return ends, np.prod((ends[1] - ends[0]) / (2 * fit.half), -1) < SMALLER


class _Part(NamedTuple):
    """What is known of some observations after a round.

    Attributes:
        which: (k,) which they are.
        axes: (k, m) nodes of each parameter.
        values: log p less its maximum on their product, (k, m, …, m).
        peak: that maximum, (k,).
        resolved: (k,).
    """

    which: Array
    axes: list[Array]
    values: Array
    peak: Array
    resolved: NDArray[np.bool_]

    def of(self, rows: Array) -> _Part:
        """Those of some rows."""
        which, axes, values, peak, resolved = self
        return _Part(
            which[rows], [a[rows] for a in axes], values[rows], peak[rows], resolved[rows]
        )


def _joined(parts: list[_Part]) -> _Part:
    """All observations in their order, the last node repeated where others have more."""
    most = np.max([p.values.shape[1:] for p in parts], 0)

    def repeated(values: Array, sizes: Sequence[int]) -> Array:
        more = np.subtract(sizes, values.shape[1:])
        return np.pad(values, ((0, 0), *((0, m) for m in more)), "edge")

    def of(name: str) -> Array:
        return np.concatenate([getattr(p, name) for p in parts])

    axes = [np.concatenate([repeated(p.axes[d], [m]) for p in parts]) for d, m in enumerate(most)]
    values = np.concatenate([repeated(p.values, most) for p in parts])
    joined = _Part(of("which"), axes, values, of("peak"), of("resolved"))
    return joined.of(joined.which.argsort())


class _Look(NamedTuple):
    """log p of some observations at points between their nodes; 0 of those not resolved.

    Attributes:
        c: (k, q, D).
        value: log p, (k, q).
        guess: what the nodes tell, (k, q).
    """

    c: Array
    value: Array
    guess: Array

    def missed(self, surprise: float) -> NDArray[np.bool_]:
        """Whether log p differs by a surprise at one of the points, (k,)."""
        return np.asarray(self.off(surprise).any(-1))

    def off(self, surprise: float) -> NDArray[np.bool_]:
        """Points at which it does, (k, q)."""
        return ~(abs(self.value - self.guess) <= surprise)

    @property
    def evidence(self) -> Array:
        """By what part the evidence is more than the nodes tell, (k,).

        The mean of p̃/p − 1 over points that are spread over the mass of p, all but the first.
        """
        return np.asarray(np.expm1((self.value - self.guess)[:, 1:].clip(max=SURPRISE)).mean(-1))

    def worst(self, surprise: float) -> Array:
        """The likeliest of these points, or that of the greatest difference, (k, D)."""
        size = abs(self.value - self.guess)
        likely = np.where(self.off(surprise), np.maximum(self.value, self.guess), -np.inf)
        best = np.where(self.missed(surprise), likely.argmax(-1), size.argmax(-1))
        return self.c[np.arange(len(best)), best]


def _look(
    joint: Joint, prior: Prior, part: _Part, where: int | Array, evaluations: Array
) -> _Look:
    """log p of resolved observations at so many points, or at levels of one parameter's mass."""
    q = where if isinstance(where, int) else len(where)
    k, rows = len(part.which), np.flatnonzero(part.resolved)
    look = _Look(np.zeros((k, q, len(prior))), np.zeros((k, q)), np.zeros((k, q)))
    if not len(rows):
        return look
    some = part.of(part.resolved)
    found = GridPosterior(
        prior, tuple(some.axes), some.values, some.peak, some.which, some.resolved
    ).normalised()
    each = [found[i : i + 1] for i in range(len(found))]
    if isinstance(where, int):
        look.c[rows] = [one.probes(where) for one in each]
    else:
        look.c[rows] = [one.spread(np.stack([np.full(q, 0.5), where], 1)) for one in each]
    evidence = found.log_evidence[:, None]
    look.guess[rows] = np.stack([a.at(c) for a, c in zip(each, look.c[rows], strict=True)])
    look.guess[rows] += evidence
    points = look.c[rows].reshape(-1, 1, len(prior))
    look.value[rows] = joint(points, some.which.repeat(q)).reshape(-1, q)
    evaluations[some.which] += q
    return look


def _with_node(x: Array, c: Array) -> Array:
    """Nodes (k, m) and one more in each row, (k,): (k, m + 1).

    It takes the place of an inner node that is nearer than a quarter of its cell, since cells of
    very unequal widths have no curvature to go by.
    """
    rows, c = np.arange(len(x)), c[:, None]
    last = cell_counts(x)
    k = ((x <= c).sum(-1) - 1).clip(0, last - 1)
    t = (c[:, 0] - x[rows, k]) / (x[rows, k + 1] - x[rows, k])
    near = k + np.rint(t).astype(int)
    gone = (abs(t - np.rint(t)) < 0.25) & (near > 0) & (near < last)
    x, end = x.copy(), x[:, -1:]
    x[rows[gone], near[gone]] = end[gone, 0]
    return np.sort(np.concatenate([x, c], -1), -1)


def of_surrogate(
    surrogate: Surrogate,
    x: Array,
    *,
    draws: int | None = None,
    seed: int = 0,
    iid: bool = False,
    index: Array | None = None,
    tell: Callable[[str], None] = nothing,
) -> LogLikelihood:
    """log p(x|θ) of a surrogate, with the same random numbers for one x under every θ.

    Args:
        surrogate: a family with a likelihood.
        x: observations (n, *x_shape).
        draws: random draws for each log p; the family's default for posteriors if None.
        seed: seed of the draws.
        iid: whether all rows are one observation, n = 1.
        index: which x of a larger set each row is, (n,), so that some of them at a time meet the
            same random numbers as all of them at once.
        tell: is told before each few rows how many points were evaluated so far; may raise.
    """
    data, draws = tensor_of(x), draws or surrogate.posterior_draws
    surrogate = surrogate.for_posteriors()
    names = torch.arange(len(x)) if index is None else torch.as_tensor(index)

    points = 0

    def rows(theta: Array, which: Array) -> Array:
        nonlocal points
        step, parts = surrogate.rows_at_once(draws), []
        for some, i in zip(
            tensor_of(theta).split(step), torch.as_tensor(which).split(step), strict=True
        ):
            tell(f"{points:,} log densities")
            points += len(some)
            parts.append(surrogate.log_prob(some, data[i], draws=draws, seed=seed, index=names[i]))
        return torch.cat(parts).numpy()

    return _by_rows(rows, x, iid)


def of_exact(log_prob: LogProb, x: Array, *, iid: bool = False) -> LogLikelihood:
    """log p(x|θ) of a simulator.

    Args:
        log_prob: θ (N, D), x (N, *x_shape) → log p(x|θ), (N,).
        x: observations (n, *x_shape).
        iid: whether all rows are one observation, n = 1.
    """
    return _by_rows(lambda theta, index: log_prob(theta, x[index]), x, iid)


def of_network(network: Network, x: Array, iid: bool = False) -> LogLikelihood:
    """log p(x|θ) of a trained network, up to a function of x.

    Args:
        network: a network of sbi.
        x: observations (n, *x_shape).
        iid: whether all rows are one observation, n = 1.
    """
    return _by_rows(lambda theta, which: network.log_density(theta, x, which), x, iid)


def iid_sets(log_likelihood: LogLikelihood, size: int) -> LogLikelihood:
    """One observation from each `size` successive rows, independent given θ: the sum of log p.

    Args:
        log_likelihood: of n · size rows, θ (k, G, D) → (k, G).
        size: rows of an observation.

    Returns:
        that of n observations.
    """

    def total(theta: Array, which: Array | None = None, /) -> Array:
        rows = None if which is None else (which[:, None] * size + np.arange(size)).reshape(-1)
        values = log_likelihood(np.repeat(theta, size, axis=0), rows)
        return values.reshape(len(theta), size, -1).sum(1)

    return total


def _by_rows(rows: Callable[[Array, Array], Array], x: Array, iid: bool) -> LogLikelihood:
    """(θ (N, D), which x (N,)) → (N,) as a function of θ (n, G, D), some observations a call."""

    def log_likelihood(theta: Array, which: Array | None = None, /) -> Array:
        n, g, d = theta.shape
        which = np.arange(n) if which is None else which
        step = max(1, VALUES // math.prod(x.shape[1:]))
        if g > step:  # of one observation, many more than are looked at in one go
            columns = np.split(theta, range(step, g, step), axis=1)
            return np.concatenate([log_likelihood(some, which) for some in columns], 1)
        parts = [
            rows(theta[i : i + step // g].reshape(-1, d), which[i : i + step // g].repeat(g))
            for i in range(0, n, step // g)
        ]
        return np.concatenate(parts).reshape(n, g)

    return iid_sets(log_likelihood, len(x)) if iid else log_likelihood


def _evaluate(
    joint: Joint,
    axes: list[Array],
    which: Array,
    first: int,
    before: _Part | None,
) -> tuple[Array, Array, Array]:
    """log p(x, c) on the product of the axes less its maximum, that maximum, and evaluations.

    What repeats a node repeats its value. Where the bound of the round before says that there is
    no mass, it takes the place of log p.
    """
    c = np.stack(
        [np.stack(np.meshgrid(*rows, indexing="ij"), -1) for rows in zip(*axes, strict=True)]
    )
    new = np.ones(c.shape[:-1], dtype=bool)
    for d, x in enumerate(axes):
        new &= np.moveaxis(along_last(np.diff(x, prepend=-np.inf) > 0, new), -1, 1 + d)
    values = np.empty(new.shape)
    if before is not None:
        bound = on_axes(before.axes, before.values, axes, upper_bound)
        new &= bound > -NEGLIGIBLE
        values = np.where(bound > -FLOOR / 2, bound, -np.inf)
        values = values + along_last(before.peak[:, None], bound)
    count = new.reshape(len(new), -1).sum(-1)
    values[new] = joint(c[new][:, None], which.repeat(count))[:, 0]
    for d, x in enumerate(axes):
        known = along_last(np.minimum(np.arange(x.shape[1]), cell_counts(x)[:, None]), values)
        values = np.take_along_axis(values, np.moveaxis(known, -1, 1 + d), 1 + d)
    peak = values.max(tuple(range(1, values.ndim)))
    if not np.isfinite(peak).all():
        bad = int(np.flatnonzero(~np.isfinite(peak))[0])
        raise DataError(
            f"observation {first + which[bad]}: expected a log p(x|θ) that is NaN nowhere and "
            f"finite somewhere under the prior, got a maximum of {peak[bad]}"
        )
    return np.maximum(values - along_last(peak, values), -FLOOR), peak, count


def _plan(
    axes: list[Array], values: Array, tolerance: float
) -> tuple[list[Array], NDArray[np.bool_]]:
    """For each axis the wish for nodes in each part of its cells, and what is resolved, (n,)."""
    wishes, resolved = [], np.ones(len(values), dtype=bool)
    for d, x in enumerate(axes):
        f = np.moveaxis(values, 1 + d, -1)
        left, right = (np.diff(along_last(x, f)) ** 2 * s for s in curvatures(x, f))
        low, high = np.minimum(f[..., :-1], f[..., 1:]), np.maximum(f[..., :-1], f[..., 1:])
        bend = np.maximum(abs(left), abs(right))
        chord = f[..., :-1, None] * (1 - SPLIT) + f[..., 1:, None] * SPLIT
        bound = chord - np.minimum(left, right)[..., None] * SPLIT * (1 - SPLIT)
        rough = (bound.max(-1) > -CORE) & (bend > tolerance)
        rough |= (high > -CORE) & (high - low > STEEP)
        resolved &= ~rough.any(tuple(range(1, f.ndim)))
        steady = np.where(left * right > 0, 3 * np.minimum(abs(left), abs(right)), LEAST)
        even = np.sqrt(np.minimum(bend, steady).clip(LEAST))[..., None] * np.diff(SPLIT)
        nodes = np.maximum(even, abs(np.diff(bound)).clip(max=STEEP) / STEEP)
        bound = (bound[..., 1:] + bound[..., :-1]) / 2
        cliff = ((low <= -FLOOR) & (high > -DEPTH))[..., None]
        nodes = np.where(cliff, 3 * np.diff(SPLIT), nodes)
        bound = np.where(cliff, high[..., None], bound)
        wish = nodes * np.exp(np.minimum(bound, 0) / TEMPERATURE) * (bound > -DEPTH)
        fine = 1.25 / (DENSITY * np.sqrt(tolerance)) * even
        wish = np.where(rough[..., None], np.maximum(wish, fine), wish)
        wish = wish * (np.diff(along_last(x, f)) > 0)[..., None]
        wishes.append(wish.max(tuple(range(1, f.ndim - 1))))
    return wishes, resolved


def _zoom(x: Array, wish: Array, most: int) -> Array:
    """New nodes (n, m): the prior's ends, the rest by the wish (n, m − 1, P) for them.

    Each row gets as many as it wishes for, within limits, and its last one again up to m.
    An edge of the parts that are wished for becomes a node, so that no wide cell reaches into
    the mass: the inverse CDF jumps there by one step. A gap between such parts keeps a node or
    two, for what the coarse nodes did not show (a ridge between the axes, another mode).
    """
    edges = (x[:, :-1, None] + np.diff(x)[..., None] * SPLIT[:-1]).reshape(len(x), -1)
    edges = np.concatenate([edges, x[:, -1:]], -1)
    wish = wish.reshape(len(x), -1)
    active = wish > 0
    gap = ~active & (active.cumsum(-1) > 0) & (active[:, ::-1].cumsum(-1)[:, ::-1] > 0)
    wish = np.where(gap, np.tile(np.diff(SPLIT), x.shape[1] - 1), wish)
    jumps = np.pad(active[:, 1:] != active[:, :-1], ((0, 0), (1, 1))) & (edges < x[:, -1:])
    wanted = jumps.sum(-1, keepdims=True) + DENSITY * wish.sum(-1, keepdims=True)
    inner = np.ceil(wanted).clip(1 + cell_counts(x)[:, None], most) - 2
    jumps = jumps * (jumps.sum(-1, keepdims=True) <= inner // 2)
    step = wish.sum(-1, keepdims=True) / (inner - jumps.sum(-1, keepdims=True))
    mass = np.pad(wish.cumsum(-1), ((0, 0), (1, 0))) + step * (jumps.cumsum(-1) - jumps)
    mass = np.stack([mass, mass + step * jumps], -1).reshape(len(x), -1)
    levels = (np.arange(inner.max()) + 0.5) * step
    middle = [np.interp(*row) for row in zip(levels, mass, edges.repeat(2, -1), strict=True)]
    return np.concatenate([x[:, :1], np.stack(middle), x[:, -1:]], -1)

r"""The posteriors of many rows, a few at a time, and what calibration keeps of each.

A posterior on its grid, or its draws, may take megabytes, so that a thousand are never held at
once. Of each are kept mean, widths, correlations, some draws, and what checks rank in it, given
the θ that x was drawn at: its distribution function (:mod:`.sbc`), the mass of what is denser
(:mod:`.coverage`) or nearer to a random point (:mod:`.tarp`) than θ. On the grid these are exact.
Else they are ranks of θ among draws; mean and widths are then told by other draws than those that
are ranked, so that θ and the latter are alike in all that is made of them if the posterior is
right.

The same is kept of *controls*, posteriors that are wrong on purpose (:mod:`.controls`). Of draws
they are affine images. On the grid the one that is too narrow is p(θ|x) to the power of 1/0.7², a
shift is that of θ and the random point, and of any other image there is the rank that goes along
with affine maps.

All moments are in the prior's own coordinates of θ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from physgen.checks.calibration.check import CalibrationCheck, Points
from physgen.checks.calibration.controls import NARROW, SHIFT, Affine, controls_of
from physgen.checks.calibration.target import Target
from physgen.checks.calibration.uniformity import rank_among
from physgen.posterior.base import APART, Draws, ahead
from physgen.posterior.grid import GridPosterior, fine_points
from physgen.posterior.importance import MOST_K
from physgen.posterior.mcmc import LEAST_ESS, MOST_R_HAT
from physgen.runtime.blocks import Here, all_blocks
from physgen.runtime.engine import Engine
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["Posteriors", "posteriors_of", "tempered"]

POINTS, ROWS = 2**17, 50
"""Points of fine grids that are held at once; rows that are worked on in one go."""
RANKED, MOMENTS = 100, 300
"""Draws among which θ is ranked, and others that tell a posterior's moments: as many for all rows,
for what is noisier is told from what is not."""
TINY = np.finfo(float).tiny


class Frame(NamedTuple):
    """Where n posteriors are, and how wide.

    Attributes:
        mean: in the prior's coordinates, (n, D).
        sd: likewise, (n, D).
    """

    mean: Array
    sd: Array

    def standard(self, c: Array) -> Array:
        """Points c (n, k, D) in widths from the means."""
        return (c - self.mean[:, None]) / self.sd[:, None]

    def through(self, function: Callable[[Array], Array], c: Array) -> Array:
        """A function of points in widths from the means, in coordinates c (n, k, D) again."""
        return self.mean[:, None] + self.sd[:, None] * function(self.standard(c))


class Posteriors(NamedTuple):
    """Posteriors of n rows in short.

    Attributes:
        ranks: "right" and each control if asked for → check → what it keeps, (n, …); empty
            without θ.
        mean: in the prior's coordinates, (n, D).
        sd: likewise, (n, D).
        correlation: of the coordinates, (n, D, D).
        draws: draws of each posterior, θ in its units, (n, K, D).
        log_p: log p(x|θ) at the posterior mean, (n,), but for a function of x of a network.
        gain: log p(θ|x) − log p(θ), what x tells of θ in nats, (n,); NaN without θ.
        resolved: whether the grid resolves each, or its draws can be trusted, (n,).
        evaluations: of log p(x|θ) for each, (n,).
    """

    ranks: dict[str, dict[str, Array]]
    mean: Array
    sd: Array
    correlation: Array
    draws: Array
    log_p: Array
    gain: Array
    resolved: NDArray[np.bool_]
    evaluations: Array

    @property
    def frame(self) -> Frame:
        """Where they are, and how wide."""
        return Frame(self.mean, self.sd)


def posteriors_of(
    target: Target,
    theta: Array | None,
    x: Array,
    prior: Prior,
    *,
    samples: int,
    seed: int,
    checks: Sequence[CalibrationCheck] = (),
    controls: bool = False,
    tick: Callable[[float], None] = lambda part: None,
    engine: Engine | None = None,
) -> Posteriors:
    """Posteriors of rows x (n, *x_shape) under a prior.

    Args:
        target: what gives the posteriors.
        theta: what x was drawn at, (n, D); None if that is not known.
        x: observations.
        prior: of θ.
        samples: draws K of each posterior.
        seed: seed of all that is random.
        checks: what to keep of a posterior and its θ.
        controls: whether to rank θ in posteriors that are wrong on purpose, too.
        tick: told the part that is done; may raise.
        engine: where blocks of rows are worked on; in this process if None.
    """
    rng = np.random.default_rng([seed, 7])
    around = prior.to_coordinates(prior.sample(len(x), rng))
    c = None if theta is None else prior.to_coordinates(theta)
    starts = range(0, len(x), ROWS)
    rows = [slice(i, i + ROWS) for i in starts]
    items = [_Rows(r.start, x[r], None if c is None else c[r], around[r]) for r in rows]
    ranked = [check for check in checks if check.statistic]
    tell = Here(lambda i: tick(i / len(x)))
    task = _Kept(target, prior, samples, ranked, controls, seed, rng, tell)
    return _joined(all_blocks(engine, task, items, tick))


class _Rows(NamedTuple):
    """Rows of which the posteriors are wanted.

    Attributes:
        number: which of all rows the first is.
        x: (n, *x_shape).
        c: coordinates of the θ that x was drawn at, (n, D); None if that is not known.
        around: random points of the prior, (n, D).
    """

    number: int
    x: Array
    c: Array | None
    around: Array


@dataclass(frozen=True)
class _Kept:
    """What is kept of the posteriors of some rows, a function of the seed and of these.

    Attributes:
        target: what gives the posteriors.
        prior: of θ.
        samples: draws of each.
        checks: what is ranked.
        controls: whether to rank θ in posteriors that are wrong on purpose, too.
        seed: seed of all that is random.
        rng: random numbers of all rows, for their draws and ties.
        tick: told which row comes next; may raise.
    """

    target: Target
    prior: Prior
    samples: int
    checks: Sequence[CalibrationCheck]
    controls: bool
    seed: int
    rng: np.random.Generator
    tick: Callable[[int], None]

    @property
    def at_once(self) -> int:
        """Rows whose posteriors are held at once."""
        if self.target.posteriors != "grid":
            return ROWS
        return max(1, POINTS // fine_points(len(self.prior)))

    def __call__(self, rows: _Rows) -> Posteriors:
        """Of some rows."""
        grid = self.target.posteriors == "grid"
        each = self.samples * (len(self.prior) + 1) if grid else APART
        rng = ahead(self.rng, rows.number * each)
        keeper = _Keeper(self.prior, self.samples, self.checks, self.controls, rng)
        step = self.at_once
        some = [slice(i, i + step) for i in range(0, len(rows.x), step)]
        return _joined([self.part(rows, each, keeper) for each in some])

    def part(self, rows: _Rows, some: slice, keeper: _Keeper) -> Posteriors:
        """Of a few of them."""
        x, c = rows.x[some], None if rows.c is None else rows.c[some]
        index = rows.number + np.arange(len(rows.x))[some]
        self.tick(int(index[0]))
        posterior = self.target.posterior(x, index, self.prior, keeper.draws, self.seed)
        if isinstance(posterior, GridPosterior):
            return keeper.of_grid(posterior, c, rows.around[some])
        return keeper.of_draws(posterior, c, rows.around[some])


@dataclass(frozen=True)
class _Keeper:
    """What is kept of posteriors.

    Attributes:
        prior: of θ.
        samples: draws of each.
        checks: what is ranked.
        controls: whether to rank θ in posteriors that are wrong on purpose, too.
        rng: random numbers of draws and ties.
    """

    prior: Prior
    samples: int
    checks: Sequence[CalibrationCheck]
    controls: bool
    rng: np.random.Generator

    @property
    def ranked(self) -> int:
        """Draws among which θ is ranked."""
        return max(RANKED, self.samples) if self.checks else self.samples

    @property
    def draws(self) -> int:
        """Draws of each posterior, those that tell its moments included."""
        return self.ranked + MOMENTS

    def of_grid(self, posterior: GridPosterior, c: Array | None, around: Array) -> Posteriors:
        """Of some posteriors on their grids, given the coordinates of θ and of points (n, D)."""
        mean, covariance = posterior.coordinate_moments
        sd, correlation = _split(covariance)
        found, gain = {}, np.full(len(mean), np.nan)
        if c is not None:
            theta = self.prior.from_coordinates(c)
            gain = posterior.log_prob(theta[:, None])[:, 0] - self.prior.log_prob(theta)
            found["right"] = self._on_grid(posterior, c, around)
            if self.controls:
                wrong = controls_of(correlation)
                found |= self._wrong_on_grid(posterior, wrong, c, around, Frame(mean, sd))
        middle = self.prior.from_coordinates(mean)
        log_p = posterior.log_prob(middle[:, None])[:, 0] + posterior.log_evidence
        return Posteriors(
            found, mean, sd, correlation, posterior.sample(self.samples, self.rng),
            log_p - self.prior.log_prob(middle), gain, posterior.resolved, posterior.evaluations,
        )  # fmt: skip

    def _on_grid(
        self, posterior: GridPosterior, c: Array, around: Array, affine: bool = False
    ) -> dict[str, Array]:
        """Ranks by all checks, or by those that go along with affine maps."""
        some = [check for check in self.checks if check.affine or not affine]
        return {check.name: check.rank(posterior, c, around) for check in some if check.rank}

    def _wrong_on_grid(
        self,
        posterior: GridPosterior,
        wrong: Mapping[str, Affine],
        c: Array,
        around: Array,
        frame: Frame,
    ) -> dict[str, dict[str, Array]]:
        """Ranks in controls, as far as a grid has them."""
        shift, narrow = SHIFT * frame.sd, tempered(posterior, NARROW**-2)
        found = {
            name: self._on_grid(
                posterior, frame.through(affine.preimage, c[:, None])[:, 0], around, affine=True
            )
            for name, affine in wrong.items()
        }
        return found | {
            "narrow": self._on_grid(narrow, c, around),
            "shifted": self._on_grid(posterior, c - shift, around - shift),
        }

    def of_draws(self, posterior: Draws, c: Array | None, around: Array) -> Posteriors:
        """Of some posteriors by their draws and their density; as for `of_grid`."""
        ranked, others = np.split(self._shuffled(posterior), [self.ranked], axis=1)
        mean, covariance = _moments(others)
        sd, correlation = _split(covariance)
        told, n, found, gain = posterior.diagnostics, len(mean), {}, np.full(len(mean), np.nan)
        if c is not None:
            drawn, true = (
                Points(p, self._density(posterior, p), around[:, None])
                for p in (ranked, c[:, None])
            )
            gain = true.log_density[:, 0] - self.prior.log_density(c)
            found["right"] = self._among(true, drawn)
            for name, wrong in (controls_of(correlation) if self.controls else {}).items():
                back = Frame(mean, sd).through(wrong.preimage, true.c)
                image = Frame(mean, sd).through(wrong.image, ranked)
                found[name] = self._among(
                    true._replace(log_density=self._density(posterior, back)),
                    drawn._replace(c=image),
                )
        log_p = self._density(posterior, mean[:, None])[:, 0] + told.get("log_evidence", 0.0)
        return Posteriors(
            found, mean, sd, correlation,
            self.prior.from_coordinates(ranked[:, : self.samples]),
            log_p - self.prior.log_density(mean), gain,
            _trusted(told, n), np.broadcast_to(told.get("evaluations", 0), n),
        )  # fmt: skip

    def _density(self, posterior: Draws, c: Array) -> Array:
        """log p(c|x) of points (n, k, D), (n, k); −∞ beyond the prior's ends."""
        inside, c = self.prior.reaches(c), c.clip(*self.prior.ends)
        value = posterior.log_prob(self.prior.from_coordinates(c))
        return np.where(inside, value + np.log(self.prior.slope(c)).sum(-1), -np.inf)

    def _shuffled(self, posterior: Draws) -> Array:
        """Draws in the prior's coordinates, in random order, (n, K, D)."""
        c = self.prior.to_coordinates(posterior.theta).clip(*self.prior.ends)
        order = np.tile(np.arange(c.shape[1]), (len(c), 1))
        return np.take_along_axis(c, self.rng.permuted(order, axis=1)[..., None], 1)

    def _among(self, true: Points, drawn: Points) -> dict[str, Array]:
        """Ranks of points (n, 1, D) among draws (n, K, D)."""
        pairs = ((c.name, c.statistic) for c in self.checks)
        return {
            name: rank_among(statistic(true)[:, 0], statistic(drawn), self.rng)
            for name, statistic in pairs
            if statistic
        }


def _moments(c: Array) -> tuple[Array, Array]:
    """Means (n, D) and covariances (n, D, D) of points (n, K, D)."""
    mean = c.mean(1)
    off = c - mean[:, None]
    return mean, np.einsum("nki,nkj->nij", off, off) / (c.shape[1] - 1)


def _split(covariance: Array) -> tuple[Array, Array]:
    """Widths (n, D) and correlations (n, D, D) of covariances (n, D, D)."""
    sd = np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), TINY))
    return sd, covariance / (sd[:, :, None] * sd[:, None])


def _trusted(told: Mapping[str, Array], n: int) -> NDArray[np.bool_]:
    """Whether draws can be trusted, by what their method says of them, (n,)."""
    good = np.ones(n, dtype=bool)
    if "r_hat" in told:
        good &= (told["r_hat"] <= MOST_R_HAT).all(-1)
    if "ess" in told:
        good &= (told["ess"] >= LEAST_ESS).all(-1)
    if "effective_sample" in told:
        good &= told["effective_sample"] >= LEAST_ESS
    if "pareto_k" in told:
        good &= told["pareto_k"] < MOST_K
    return good


def _joined(parts: list[Posteriors]) -> Posteriors:
    def of(name: str) -> Array:
        return np.concatenate([getattr(p, name) for p in parts])

    ranked = {
        control: {name: np.concatenate([p.ranks[control][name] for p in parts]) for name in kept}
        for control, kept in parts[0].ranks.items()
    }
    return Posteriors(ranked, *(of(name) for name in Posteriors._fields[1:]))


def tempered(posterior: GridPosterior, power: float) -> GridPosterior:
    """The posterior to a power, not normalised: narrower for a power above 1."""
    peak = posterior.values.max(tuple(range(1, posterior.values.ndim)), keepdims=True)
    values = power * (posterior.values - peak)
    return replace(posterior, values=values)

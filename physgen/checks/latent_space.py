r"""What the latents of x say: a map of them, what they tell of observables, x moved along them.

Latents v are counted in standard deviations of their prior given θ (:meth:`Surrogate.encode`), so
that what they say is what θ does not. Of an observable that is, on rows that were held out,

    R² = 1 − Σ (y − ŷ(θ, v))² / Σ (y − ŷ(θ))²,

v drawn from q(z|x, θ): means of q tell of x in digits that no draw of v keeps. ŷ is found by
least squares: of θ up to its fifth powers, of v and v² and their products with θ. Rows whose
latents are shuffled are the control: their R² is 0 but for noise. Where shifts of x are
symmetries, an observable does not tell the sites of a level apart: v and v² are summed over them,
and the squares of the sums of v count, too.

The direction d, |d| = 1, along which an observable grows is that of the least squares on v alone.
A row is moved to v + td, v a draw of q(z|x, θ), and decoded. If p(x|v, θ) and the direction were
right, another observable y of x moved to where the chosen one is a would be, on average, the exact
E[y | a, θ]: its distance is counted in exact standard deviations of y given a and θ. Beside it
stand three controls: the rows themselves, whose distance is 0 but for noise; y of the row that was
not moved, which must be far; and a random direction, along which the observable must stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import eigh

from physgen.checks.estimate import Estimate, estimate, evenly_ranked
from physgen.checks.samples import pictures_of
from physgen.errors import UsageError
from physgen.law import Law
from physgen.surrogates.base import Surrogate
from simulators.base import Array, Observable, labels

__all__ = ["Along", "edited", "latent_map", "told_by_latents"]

MANY = 4000
"""Rows that R² is measured on, at most."""
FEWEST = 100
"""Rows that are asked for."""
MAPPED = 2000
"""Rows that principal components are found by, at most."""
EDITED, SHOWN = 500, 4
"""Rows that are moved, and those that are shown, at most."""
POWERS = 5
"""Of θ, in what it tells by itself."""
RIDGES = 10.0 ** np.arange(-9, 1)
"""Ridges that a fit may choose, in squares of its largest singular value."""
LEAST = 1e-6
"""Exact standard deviation of y, in those of y over all rows, below which its distance is none."""


@dataclass(frozen=True)
class Along:
    """How x is moved.

    Attributes:
        name: of the observable that is to grow.
        reach: how far to move to either side, in standard deviations of the latents' prior.
        places: how many, an odd number: the one in the middle is the row itself, decoded.

    Raises:
        UsageError: a reach that is not positive, or an even number of places or fewer than 3.
    """

    name: str
    reach: float = 2.0
    places: int = 5

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 0 < self.reach < np.inf:
            raise UsageError(f"reach: expected a positive number, got {self.reach:g}")
        if self.places < 3 or self.places % 2 == 0:
            raise UsageError(f"places: expected an odd number from 3 on, got {self.places}")

    @property
    def steps(self) -> Array:
        """Where the rows are moved, (places,)."""
        return np.linspace(-self.reach, self.reach, self.places)


# --- a map ---------------------------------------------------------------------------------------


def latent_map(latents: Array) -> tuple[Array, Array]:
    """The first two principal components of latents (n, K).

    Returns:
        (n, 2), and the parts of the variance that they have, (2,).
    """
    centred = latents - latents.mean(0)
    some = centred[:MAPPED]
    wide = some.shape[1] > len(some)
    gram = some @ some.T if wide else some.T @ some
    _, vectors = eigh(gram, subset_by_index=[max(len(gram) - 2, 0), len(gram) - 1])
    axes = (some.T @ vectors if wide else vectors)[:, ::-1]
    axes = axes / np.maximum(np.linalg.norm(axes, axis=0), 1e-300)
    axes = axes * np.where(axes[abs(axes).argmax(0), range(axes.shape[1])] < 0, -1, 1)
    found = np.zeros((len(latents), 2))
    found[:, : axes.shape[1]] = centred @ axes
    return found, found.var(0) / max(centred.var(0).sum(), 1e-300)


# --- what they tell ------------------------------------------------------------------------------


def told_by_latents(
    model: Surrogate,
    theta: Array,
    latents: Array,
    values: Mapping[str, Array],
    seed: int = 0,
) -> dict[str, Any]:
    """R² of observables by all latents, by each level and by shuffled rows.

    Args:
        model: what encoded.
        theta: (n, D).
        latents: draws of the encoder, (n, K).
        values: name of an observable → its values, (n,).
        seed: of the halves and of the control.

    Returns:
        JSON data: ``levels``, coarse to fine, and ``observables``.

    Raises:
        UsageError: fewer than 100 rows.
    """
    if len(theta) < FEWEST:
        raise UsageError(f"rows: expected at least {FEWEST} for least squares, got {len(theta)}")
    some, rng = slice(0, MANY), np.random.default_rng([seed, 1])
    c, v = model.law.prior.to_coordinates(theta[some]), latents[some]
    levels = by_level(model, v)
    linear = [sums(model.law, level) for level in levels]
    sets = {
        name: np.hstack([part, part**2, sums(model.law, level**2)])
        for name, part, level in zip(model.latent_names, linear, levels, strict=True)
    }
    every = np.hstack(list(sets.values()))
    shuffled = every[rng.permutation(len(every))]
    sets |= {"all": every, "linear": np.hstack(linear), "shuffled": shuffled}
    halves, given = np.array_split(rng.permutation(len(c)), 2), powers(c)
    found = {
        name: {
            key: part_told(given, interacting(part, c), y[some], halves)
            for key, part in sets.items()
        }
        for name, y in values.items()
    }
    about = [
        {"name": name, "numbers": level[0].size}
        for name, level in zip(model.latent_names, levels, strict=True)
    ]
    return {"rows": len(c), "levels": about[::-1], "observables": found}


def part_told(given: Array, features: Array, y: Array, halves: Sequence[Array]) -> Estimate:
    """Part of what `given` leaves of y that features tell, each half by a fit to the other.

    Args:
        given: (n, b).
        features: (n, m).
        y: (n,).
        halves: rows of each.
    """
    left, after = np.empty_like(y, float), np.empty_like(y, float)
    for test, train in (halves, halves[::-1]):
        rest = beyond(given, np.column_stack([y, features]), train)
        left[test] = rest[test, 0]
        after[test] = left[test] - rest[test, 1:] @ ridge(rest[train, 1:], rest[train, 0])
    before = (left**2).mean()
    if before <= 1e-20 * max((y**2).mean(), 1e-300):  # θ tells all of it
        return Estimate(np.nan, np.nan)
    kept = estimate(after**2).value / before
    return Estimate(1 - kept, estimate(after**2 - kept * left**2).se / before)


def beyond(given: Array, values: Array, train: Array | slice = slice(None)) -> Array:
    """What least squares on `given` (n, b), by some of the rows, leaves of values (n, …)."""
    return values - given @ np.linalg.lstsq(given[train], values[train], rcond=None)[0]


def ridge(features: Array, y: Array) -> Array:
    """Weights (m,) of least squares of y (n,) on features (n, m), each in its own units.

    The ridge is that of the least generalised cross-validation (Golub, Heath & Wahba 1979).
    """
    unit = features.std(0)
    unit = np.where(unit > 1e-12 * unit.max(initial=0), unit, np.inf)
    u, s, vt = np.linalg.svd(features / unit, full_matrices=False)
    shrunk = s**2 / (s**2 + RIDGES[:, None] * max(s.max(initial=0) ** 2, 1e-300))
    a = u.T @ y
    error = (y**2).sum() - ((2 * shrunk - shrunk**2) * a**2).sum(1)
    best = shrunk[np.argmin(error / (len(y) - shrunk.sum(1)).clip(1e-9) ** 2)]
    return vt.T @ (best * a / np.where(s > 0, s, np.inf)) / unit


def powers(c: Array) -> Array:
    """1, powers of each component of c (n, D) and products of two, (n, b)."""
    i, j = np.triu_indices(c.shape[1], 1)
    each = [c**p for p in range(1, POWERS + 1)]
    return np.column_stack([np.ones(len(c)), *each, c[:, i] * c[:, j]])


def interacting(features: Array, c: Array) -> Array:
    """Features (n, m), and times each component of c (n, D), (n, m(1 + D))."""
    return np.hstack([features, *(features * c[:, d, None] for d in range(c.shape[1]))])


def by_level(model: Surrogate, latents: Array) -> list[Array]:
    """Latents (n, K) of each level, (n, C, *grid), fine to coarse."""
    sizes = [math.prod(shape) for shape in model.latent_shapes]
    parts = np.split(latents, np.cumsum(sizes)[:-1], axis=1)
    return [v.reshape(-1, *s) for v, s in zip(parts, model.latent_shapes, strict=True)]


def summed_axes(law: Law) -> tuple[int, ...]:
    """The axes of a level (n, C, *grid) along which shifts are symmetries of x."""
    return tuple(2 + i for i, axis in enumerate(law.spatial) if axis in law.shifted)


def sums(law: Law, level: Array) -> Array:
    """Latents of a level (n, C, *grid) summed over sites that are alike, as one unit vector each.

    Returns:
        (n, m).
    """
    axes = summed_axes(law)
    return (level.sum(axes) / math.sqrt(math.prod(level.shape[i] for i in axes))).reshape(
        len(level), -1
    )


def lifted(model: Surrogate, weights: Array) -> Array:
    """The direction in the latents (K,) along which a function of their sums, w (m,), grows."""
    axes, parts = summed_axes(model.law), []
    for shape in model.latent_shapes:
        kept = [1 if 2 + i in axes else n for i, n in enumerate(shape[1:])]
        size = shape[0] * math.prod(kept)
        mine, weights = weights[:size].reshape(shape[0], *kept), weights[size:]
        parts.append(np.broadcast_to(mine, shape).ravel() / math.sqrt(math.prod(shape) / size))
    return np.concatenate(parts)


# --- x moved along them --------------------------------------------------------------------------


def direction(model: Surrogate, theta: Array, latents: Array, y: Array) -> Array:
    """The unit vector (K,) in latents (n, K) along which y (n,) grows at fixed θ (n, D).

    Raises:
        UsageError: there is none: y does not depend on the latents.
    """
    c, v = model.law.prior.to_coordinates(theta[:MANY]), latents[:MANY]
    features = np.hstack([sums(model.law, level) for level in by_level(model, v)])
    rest = beyond(powers(c), np.column_stack([y[:MANY], features]))
    d = lifted(model, ridge(rest[:, 1:], rest[:, 0]))
    if not np.linalg.norm(d) > 0:
        raise UsageError("along: the latents say nothing of it, so that there is no direction")
    return d / np.linalg.norm(d)


def edited(
    model: Surrogate,
    theta: Array,
    x: Array,
    latents: Array,
    observables: Mapping[str, Observable],
    along: Along,
    seed: int = 0,
) -> tuple[dict[str, Any], Array | None]:
    """x moved along the direction of an observable, beside the exact answer.

    Args:
        model: what encodes and decodes.
        theta: (n, D).
        x: (n, *x_shape).
        latents: draws of the encoder, (n, K).
        observables: a number of each x, by name; the one that is to grow is among them.
        along: which, and how far.
        seed: of draws.

    Returns:
        JSON data; and pictures of some rows (r, places, h, w), None of x that is no field.

    Raises:
        UsageError: an observable that the latents say nothing of.
    """
    chosen = observables[along.name]
    true = {name: np.asarray(o(x), float) for name, o in observables.items()}
    d = direction(model, theta, latents, true[along.name])
    rows = evenly_ranked(theta[:, 0], EDITED)
    theta, start = theta[rows], latents[rows]
    true = {name: values[rows] for name, values in true.items()}

    def moved(way: Array) -> list[Array]:
        return [
            model.decode(theta, start + t * way, seed + 1).cpu().numpy().astype(x.dtype)
            for t in along.steps
        ]

    places = moved(d)
    numbers = [{n: np.asarray(o(y), float) for n, o in observables.items()} for y in places]
    aside = np.random.default_rng([seed, 2]).standard_normal(len(d))
    aside -= (aside @ d) * d
    ends = [np.asarray(chosen(y), float) for y in moved(aside / np.linalg.norm(aside))]
    at = [values[along.name] for values in numbers]
    unit = beyond(powers(model.law.prior.to_coordinates(theta)), true[along.name]).std()
    found = {
        "along": along.name,
        "rows": len(rows),
        "steps": along.steps,
        "chosen": [estimate(values) for values in at],
        "moved": estimate((at[-1] - at[0]) / unit),
        "moved_at_random": estimate((ends[-1] - ends[0]) / unit),
        "random": [estimate(values) for values in ends],
        "others": {
            name: labels(o) | given_exactly(o, name, along.name, theta, numbers, true)
            for name, o in observables.items()
            if name != along.name
        },
    }
    if len(model.law.spatial) < 2:
        return found, None
    some = evenly_ranked(theta[:, 0], SHOWN)
    found["shown"] = theta[some]
    return found, np.stack([pictures_of(model.law, y[some]) for y in places], 1)


def given_exactly(
    observable: Observable,
    name: str,
    along: str,
    theta: Array,
    numbers: Sequence[Mapping[str, Array]],
    true: Mapping[str, Array],
) -> dict[str, Any]:
    """One observable of moved rows, and its distance from the exact mean given the chosen one.

    Args:
        observable: which.
        name: its name.
        along: name of the chosen one.
        theta: (n, D).
        numbers: at each place, name → values of the moved rows, (n,).
        true: name → values of the rows themselves, (n,).
    """
    found: dict[str, Any] = {"mean": [estimate(values[name]) for values in numbers]}
    if along not in observable.given:
        return found
    least = LEAST * max(true[name].std(), 1e-300)
    stays = numbers[len(numbers) // 2][name]

    def distance(y: Array, a: Array) -> tuple[Array, Estimate]:
        mean, sd = observable.given[along](theta, a)
        known = sd > least  # NaN is not
        return mean, estimate((y[known] - mean[known]) / sd[known])

    exact, error = zip(*(distance(v[name], v[along]) for v in numbers), strict=True)
    found["exact"] = [estimate(mean[np.isfinite(mean)]) for mean in exact]
    if np.isnan([e.value for e in error]).any():  # the chosen one tells all of it
        return found
    return found | {
        "error": error,
        "unmoved": [distance(stays, values[along])[1] for values in numbers],
        "true": distance(true[name], true[along])[1],
    }

"""Invertible maps between data space and the standardised space in which networks live.

θ is mapped to its prior's own coordinates, x by a map that its support asks for. Where the map
of x is not volume-preserving, log p(x) = log p(z) + log|det ∂z/∂x|: the maps carry that term, so
that every log p that leaves a surrogate is in the raw units of x.
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from physgen.dataset.assumptions import Relation, Tails, named, relation, told_across
from physgen.errors import DataError
from physgen.law import Law
from physgen.nn.monotone import NO_KNOTS, Bend, Bends, best_bend
from physgen.nn.ranges import Ranges, row_words
from physgen.nn.rotation import Rotation
from simulators.base import MOST_LEVELS, Support, Symmetry
from simulators.prior import Prior

__all__ = [
    "KNOWN",
    "ByColumn",
    "Counts",
    "Identity",
    "LogHurdle",
    "Related",
    "Rescale",
    "Standardise",
    "Symmetries",
    "Transform",
    "coordinates",
    "finite_part",
    "for_support",
]

TINY = 1e-300
FEW = 5
MOST, SITES = 256, 8
"""Components of which each may get a bend of its own; sites of a torus that are looked at."""
MOST_COUNT = 2**24
"""Beyond it float32 loses whole numbers."""
KINDS: tuple[Support, ...] = ("reals", "nonnegative", "counts", "levels")
"""What a column of mixed x may be."""
KNOWN = 5.0
"""Normal coordinates beyond which there is nothing to train on."""
NEW = ("kept", "offset", "coefficients", "heavy")
"""Buffers that files of earlier versions do not have."""


class Coordinates(torch.autograd.Function):
    """θ (B, D) float64 → the prior's own coordinates c (B, D), with their derivative."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, prior: Prior) -> Tensor:
        """The coordinates, (B, D)."""
        ctx.prior, ctx.c = prior, prior.to_coordinates(theta.detach().cpu().numpy())
        return torch.from_numpy(ctx.c).to(theta.device)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None]:
        """∂c/∂θ times what comes from above, (B, D)."""
        slope = torch.from_numpy(ctx.prior.slope(ctx.c.clip(*ctx.prior.ends)))
        return gradient[0] / slope.to(gradient[0].device), None


coordinates: Callable[[Tensor, Prior], Tensor] = Coordinates.apply
"""θ (B, D) float64, prior → c (B, D), with a derivative."""


class Rescale(nn.Module):
    """θ → the prior's own coordinates c, as networks see them.

    Of normal coordinates what lies beyond `KNOWN` counts as that.
    """

    low: Tensor
    high: Tensor

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior
        if prior.uniform:
            self.register_buffer("low", torch.tensor(prior.low, dtype=torch.float64))
            self.register_buffer("high", torch.tensor(prior.high, dtype=torch.float64))

    def forward(self, theta: Tensor) -> Tensor:
        """θ (B, D) in its units → c (B, D) float32; the map itself is made in float64."""
        theta = theta.double()
        if self.prior.uniform:
            return (2 * ((theta - self.low) / (self.high - self.low)) - 1).float()
        return coordinates(theta, self.prior).clamp(-KNOWN, KNOWN).float()


class Transform(nn.Module, abc.ABC):
    """An invertible map z(x) with its volume."""

    @abc.abstractmethod
    def fit(self, x: Tensor) -> None:
        """Take what there is to learn from rows of data (n, *x_shape)."""

    @abc.abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """x (B, *x_shape) → z (B, …), float32."""

    @abc.abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """z (B, …) → x (B, *x_shape)."""

    @abc.abstractmethod
    def log_det(self, x: Tensor) -> Tensor:
        """log|det ∂z/∂x|, (B,), or () where it is the same for all x."""

    def unlike(self, x: Tensor, first: int = 0) -> Iterator[str]:
        """What of x (n, *x_shape), from row `first` on, is unlike all x of the training."""
        return iter(())

    def read_out(self, x: Tensor) -> Tensor:
        """x (B, *x_shape) as a detector would tell it: nothing changes by default."""
        return x

    def choose(self, x: Tensor, c: Tensor) -> None:
        """Take what of rows x (n, *x_shape) depends on c (n, D), after `fit`; nothing by default.

        Args:
            x: rows of data.
            c: coordinates of their θ.
        """
        return

    def words(self, names: Sequence[str] = ()) -> list[str]:
        """What is done to components of x besides shifts and scales, a line each.

        Args:
            names: of the components; their places if there are none.
        """
        return []

    def told(self) -> list[str]:
        """Components of x that are constant or that others tell, each with what tells it."""
        return []

    def lost(self, x: Tensor) -> Tensor:
        """In which rows of x (n, *x_shape) a told component is all that is known, (n,) bool.

        What it tells of others, which are missing, a density that leaves it out does not know.
        """
        return torch.zeros(len(x), dtype=torch.bool)

    def breaks(self, x: Tensor) -> Tensor:
        """Which rows of x (n, *x_shape) break what tells a component, (n,) bool."""
        return torch.zeros(len(x), dtype=torch.bool)


def finite_part(z: Tensor) -> tuple[Tensor, Tensor]:
    """z (B, …) with 0 for the components that do not count, and which do, (B, …)."""
    part = z.isfinite()
    return torch.where(part, z, 0.0), part


class Related(Transform):
    """A map of x some of whose components may be constant, or affine functions of others.

    These have no density of their own: they are left out of it, and told by the others when x is
    drawn. So is what is missing, NaN, of single rows.

    Args:
        law: what x is.
    """

    kept: Tensor
    offset: Tensor
    coefficients: Tensor

    def __init__(self, law: Law) -> None:
        super().__init__()
        self.x_shape, self.support = law.x_shape, law.support
        self.dtype = getattr(torch, law.dtype)
        self.register_buffer("kept", torch.ones(law.x_shape, dtype=torch.bool))
        self.register_buffer("offset", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("coefficients", torch.zeros(0, law.size, dtype=torch.float64))
        self.ranges = Ranges(law.x_shape)

    def fit(self, x: Tensor) -> None:
        """Take the relations that rows of data (n, *x_shape) obey.

        Raises:
            DataError: x that does not vary at all.
        """
        found, device = relation(x.cpu().numpy(), self.support), self.kept.device
        if never := x.isnan().all(0).flatten().nonzero()[:, 0].tolist():
            raise DataError(
                f"x: {len(never)} of {x[0].numel()} components are missing in all rows, "
                f"{named(never[0], self.x_shape)} the first; leave them out of x"
            )
        if not found.kept.any():
            raise DataError(
                f"x does not vary: {', '.join(found.names(self.x_shape)[:3])}; if that is "
                "rounded away, let the simulator subtract what is the same in all rows"
            )
        self.kept = torch.from_numpy(found.kept).view(self.x_shape).to(device)
        self.offset = torch.from_numpy(found.offset).to(device)
        self.coefficients = torch.from_numpy(found.coefficients).to(device)
        self.ranges.fit(x)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *rest: Any
    ) -> None:
        """Take buffers of the sizes in the file; those that it does not have stay as they are."""
        for name in NEW:
            if (buffer := getattr(self, name, None)) is not None:
                given = state_dict.setdefault(prefix + name, buffer)
                if given.shape[1:] == buffer.shape[1:]:
                    setattr(self, name, buffer.new_empty(given.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def told(self) -> list[str]:
        """Components that are constant or that others tell, each with what tells it."""
        return self.relation().names(self.x_shape)

    def relation(self) -> Relation:
        """What tells the components that others tell."""
        buffers = (self.kept.flatten(), self.offset, self.coefficients)
        return Relation(*(b.cpu().numpy() for b in buffers))

    def completed(self, x: Tensor) -> Tensor:
        """x (B, *x_shape) in its law's type, with the components that the others tell."""
        if len(self.offset):
            flat = torch.where(self.kept, x, 0.0).flatten(1)
            told = self.offset + flat @ self.coefficients.T
            flat = flat.index_copy(1, (~self.kept.flatten()).nonzero()[:, 0], told)
            x = flat.view(x.shape)
        return x.to(self.dtype)

    def breaks(self, x: Tensor) -> Tensor:
        """Which rows of x (n, *x_shape) break a relation by more than a thousandth, (n,) bool."""
        x = x.double().to(self.offset.device)
        flat = torch.where(self.kept, x, 0.0).flatten(1).nan_to_num()
        size = self.offset.abs() + flat.abs() @ self.coefficients.abs().T
        off = (self.completed(x).double() - x).abs().flatten(1)[:, ~self.kept.flatten()]
        return (off > 1e-3 * size).any(1)

    def unlike(self, x: Tensor, first: int = 0) -> Iterator[str]:
        """What of x (n, *x_shape), from row `first` on, is unlike all x of the training."""
        yield from self.ranges.unlike(x, first)
        for rows, what in ((self.breaks(x), "breaks"), (self.lost(x), "has only one side of")):
            if rows.any():
                yield (
                    f"{row_words(rows, first)}: x {what} {', '.join(self.told()[:3])}, which held "
                    "for all x of the training: what others tell is not used"
                )

    def lost(self, x: Tensor) -> Tensor:
        """In which rows of x (n, *x_shape) what is missing could be told by what is left out."""
        gone = x.isnan().flatten(1).to(self.offset.device)
        told = ~gone[:, ~self.kept.flatten()]
        others = gone.double() @ (self.coefficients != 0).double().T > 0
        return (told & others).any(1)


class Threshold(Transform):
    """A map of x ≥ 0 that knows the least x above 0 in its training data: what was read out."""

    least: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("least", torch.zeros((), dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """Take the least x above 0 of rows of data (n, *x_shape)."""
        self.least.copy_(torch.where(x > 0, x, torch.inf).min())

    def read_out(self, x: Tensor) -> Tensor:
        """What of x (B, *x_shape) is below the least that was ever read out is 0."""
        return torch.where(x < self.least, 0, x)


class Identity(Transform):
    """z = x, for spins and levels: counting measure, no volume term."""

    def fit(self, x: Tensor) -> None:
        """Nothing to learn of rows (n, *x_shape)."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, *x_shape) as float32."""
        return x.float()

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, *x_shape) itself."""
        return z

    def log_det(self, x: Tensor) -> Tensor:
        """log|det ∂z/∂x| = 0, ()."""
        return torch.zeros(())


class Standardise(Related):
    """z = (x − μ)/σ for each component, or the inverse hyperbolic sine of that for heavy tails.

    μ and σ are mean and width of the training data; of a component with heavy tails, where these
    say little, the median and the width of a normal law with the same quartiles. Components that
    shifts make alike have one μ and one σ, so that shifts stay symmetries. The arithmetic is in
    float64, so that neither a large offset nor the unit of x matters. A component that others tell
    is +∞, one that is missing NaN: neither counts.

    Where θ is known, each component of a vector, or all of a torus, may get another bend
    (:mod:`physgen.nn.monotone`) and a vector its principal components
    (:mod:`physgen.nn.rotation`), if held-out rows say so.
    """

    mean: Tensor
    std: Tensor
    heavy: Tensor

    def __init__(self, law: Law) -> None:
        super().__init__(law)
        self.alike = law.shifted
        self.register_buffer("mean", torch.zeros(law.x_shape, dtype=torch.float64))
        self.register_buffer("std", torch.ones(law.x_shape, dtype=torch.float64))
        self.register_buffer("heavy", torch.zeros(law.x_shape, dtype=torch.bool))
        self.bends, self.rotation = Bends(law.x_shape), Rotation()
        self.missing, self.groups = law.missing, groups_of(law)

    def fit(self, x: Tensor) -> None:
        """Take μ, σ, tails and relations from rows of data (n, *x_shape); a constant has σ = 1."""
        super().fit(x)
        rows = x.double()
        if self.alike:  # as further rows
            first = tuple(range(1, 1 + len(self.alike)))
            rows = rows.movedim([1 + axis for axis in self.alike], first)
            rows = rows.flatten(0, len(self.alike))
            for axis in self.alike:
                rows = rows.unsqueeze(1 + axis)
        largest = rows.abs().nan_to_num().amax(0)
        unit = largest.frexp().exponent.double().exp2()  # no square over- or underflows
        std, mean = width_and_mean(rows / unit)
        tails = [torch.from_numpy(t).view(mean.shape) for t in Tails.of(rows.cpu().numpy())]
        median, width, heavy = (t.to(mean.device) for t in tails)
        self.heavy.copy_(heavy)
        self.mean.copy_(torch.where(heavy, median, mean * unit))
        std = torch.where(heavy, width, std * unit)
        self.std.copy_(torch.where(self.kept & (std > 0), std, 1.0))
        self.bends, self.rotation = Bends(self.x_shape).to(x.device), Rotation().to(x.device)

    @torch.no_grad()
    def choose(self, x: Tensor, c: Tensor) -> None:
        """Choose bends and principal components of rows x (n, *x_shape) given c (n, D).

        Args:
            x: rows of data.
            c: coordinates of their θ.
        """
        if not 0 < self.groups <= MOST:
            return
        device, each = self.mean.device, x[0].numel() // self.groups
        self.cpu()
        rows = x.double().cpu().reshape(len(x), self.groups, -1)
        sites = torch.linspace(0, each - 1, SITES).long().unique()
        given = c.cpu().repeat_interleave(len(sites), 0)
        for group, kept in enumerate(self.kept.flatten()[::each].tolist()):
            some = rows[:, group, sites].flatten()
            if kept and (found := best_bend(some, given, self._bend(group * each))):
                self._take(found, slice(group * each, (group + 1) * each), some)
        if not self.alike and not self.missing:
            self.rotation.fit(self._bent(x.cpu())[0].flatten(1), c.cpu(), self.kept.flatten())
        self.to(device)

    def _bend(self, j: int) -> Bend:
        """The bend of component j of flat x."""
        bends, curved = self.bends, (self.bends.curved == j).nonzero()[:, 0].tolist()
        mean, std, heavy, side, floor = (
            b.flatten()[j].item()
            for b in (self.mean, self.std, self.heavy, bends.side, bends.floor)
        )
        knots = bends.knots[curved[0]] if curved else NO_KNOTS
        return Bend(mean, std, bool(heavy), int(side), floor, knots.cpu())

    def _take(self, bend: Bend, which: slice, rows: Tensor) -> None:
        """Give components of flat x a bend, scaled by rows (n,)."""
        v = bend(rows[~rows.isnan()])[0]
        values = {"mean": bend.mean, "std": bend.std, "heavy": bend.heavy}
        others = {"side": bend.side, "floor": bend.floor, "shift": v.mean(), "gain": v.std()}
        for part, given in ((self, values), (self.bends, others)):
            for name, value in given.items():
                getattr(part, name).view(-1)[which] = value
        if bend.knots.shape[1]:
            places = torch.arange(self.mean.numel())[which]
            self.bends.curved = torch.cat([self.bends.curved, places])
            knots = bend.knots.expand(len(places), 3, -1)
            self.bends.knots = torch.cat([self.bends.knots, knots])

    def words(self, names: Sequence[str] = ()) -> list[str]:
        """What is done to components of x besides shifts and scales, a line each.

        Args:
            names: of the components; their places if there are none.
        """
        found: dict[str, list[str]] = {}
        for j in self.kept.flatten().nonzero()[:, 0].tolist():
            if word := self._bend(j).word:
                found.setdefault(word, []).append(names[j] if names else named(j, self.x_shape))
        said = [f"{listed(which)}: {word}" for word, which in found.items()]
        return said + self.rotation.words()

    def unlike(self, x: Tensor, first: int = 0) -> Iterator[str]:
        """What of x (n, *x_shape), from row `first` on, is unlike all x of the training."""
        yield from super().unlike(x, first)
        side = self.bends.side
        beyond = (side * (x.double().to(side.device) - self.mean) < 0).flatten(1)
        if (rows := beyond.any(1)).any():
            j = int(beyond[rows][0].int().argmax())
            yield (
                f"{row_words(rows, first)}: {named(j, self.x_shape)} is beyond the bound of the "
                f"logarithm that it is taken by, {self.mean.flatten()[j]:.4g}"
            )

    def _bent(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The bent components of x (B, *x_shape), missing ones as the mean, and their log slopes.

        Returns:
            (B, *x_shape) float64 each, before any principal components are taken.
        """
        x = torch.where(x.isnan(), self.mean, x.double())
        u, slope = (x - self.mean) / self.std, -self.std.log().expand_as(x)
        slope = slope - torch.where(self.heavy, 0.5 * u.square().log1p(), 0.0)
        v = torch.where(self.heavy, u.asinh(), u)
        if self.bends.straight:
            return v, slope
        v, more = self.bends(v)
        return v, slope + more

    def forward(self, x: Tensor) -> Tensor:
        """X → z, (B, *x_shape) float32."""
        z = self.rotation(self._bent(x)[0])
        z = torch.where(self.kept, z, torch.inf) if len(self.offset) else z
        return torch.where(x.isnan(), torch.nan, z).float()

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, *x_shape) → x."""
        z = z.double()
        if not self.rotation.idle:
            z = self.rotation.inverse(torch.where(self.kept, z, 0.0))
        if not self.bends.straight:
            z = self.bends.inverse(z)
        z = torch.where(self.heavy, z.sinh(), z)
        return self.completed(z * self.std + self.mean)

    def log_det(self, x: Tensor) -> Tensor:
        """log|det ∂z/∂x| = Σ log dz/dx over what is not missing, and that of a rotation, (B,).

        It is −log σ of a component, less ½ log(1 + u²), u = (x − μ)/σ, of one with heavy tails.
        """
        slope = torch.where(x.isnan() | ~self.kept, 0.0, self._bent(x)[1])
        return slope.flatten(1).sum(1) + self.rotation.log_det()


class LogHurdle(Related, Threshold):
    """z = log x − μ for each component of x ≥ 0, and −∞ where x is 0; μ from the training data.

    Volumes are those of the components above 0: the others are atoms. A component that others tell
    is −∞ too, as if never hit; one that is missing is NaN.
    """

    mean: Tensor

    def __init__(self, law: Law) -> None:
        super().__init__(law)
        self.register_buffer("mean", torch.zeros(law.x_shape, dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """Take μ from rows of data (n, *x_shape): the mean of log x above 0.

        A component that is never above 0 takes the mean of all others.
        """
        Related.fit(self, x)
        Threshold.fit(self, x)
        if (self.coefficients < 0).any() or (self.offset < -TINY).any():
            raise DataError(
                f"x >= 0 with components that others tell by differences: "
                f"{', '.join(self.told()[:3])}; leave them out of x"
            )
        hit, log_x = x > 0, x.double().clamp(min=TINY).log()
        count, total = hit.sum(0), torch.where(hit, log_x, 0.0).sum(0)
        everywhere = total.sum() / count.sum().clamp(min=1)
        self.mean.copy_(torch.where(count > 0, total / count.clamp(min=1), everywhere))

    def forward(self, x: Tensor) -> Tensor:
        """X → z, (B, *x_shape) float32; of no gradient where x is 0."""
        atom, gone = (x == 0) | ~self.kept, x.isnan()
        log_x = torch.where(atom | gone, 1.0, x).log()
        z = torch.where(atom, -torch.inf, log_x - self.mean)
        return torch.where(gone, torch.nan, z).float()

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, *x_shape) → x; −∞ → 0."""
        return self.completed((z + self.mean).exp())

    def log_det(self, x: Tensor) -> Tensor:
        """log|det ∂z/∂x| = −Σ log x over what is above 0, (B,)."""
        x = x.double()
        return -torch.where((x > 0) & self.kept, x, 1.0).log().flatten(1).sum(1)


class Counts(Identity):
    """z = k for counts: counting measure, no volume term."""

    def __init__(self, law: Law) -> None:
        super().__init__()
        self.ranges = Ranges(law.x_shape)

    def fit(self, x: Tensor) -> None:
        """Take the ranges of rows of data (n, *x_shape).

        Raises:
            DataError: counts of which float32 loses units.
        """
        if (most := int(x.max())) > MOST_COUNT:
            raise DataError(
                f"x: counts up to {most}, and networks see float32, which loses units above "
                f"{MOST_COUNT}; let the simulator divide them, or declare reals"
            )
        self.ranges.fit(x)

    def unlike(self, x: Tensor, first: int = 0) -> Iterator[str]:
        """What of x (n, *x_shape), from row `first` on, is unlike all x of the training."""
        return self.ranges.unlike(x, first)


class ByColumn(Transform):
    """The map of each component of mixed x by its own support; their volumes multiply.

    Args:
        law: what x is.
    """

    order: Tensor

    def __init__(self, law: Law) -> None:
        super().__init__()
        self.law, self.maps = law, nn.ModuleDict()
        self.places = {
            kind: torch.from_numpy(np.flatnonzero(law.components(kind))) for kind in KINDS
        }
        self.places = {kind: at for kind, at in self.places.items() if len(at)}
        for kind, at in self.places.items():
            self.maps[kind] = for_support(part_of(law, kind, len(at)))
        order = torch.cat(list(self.places.values())).argsort()
        self.register_buffer("order", order, persistent=False)
        self.ranges = Ranges(law.x_shape)

    def parts(self, x: Tensor) -> Iterator[tuple[Transform, Tensor]]:
        """Each map, and the columns of x (B, *x_shape) that go through it, (B, n)."""
        flat = x.flatten(1)
        for kind, at in self.places.items():
            map_of: Any = self.maps[kind]
            yield map_of, flat[:, at.to(x.device)]

    def together(self, parts: list[Tensor], x: Tensor) -> Tensor:
        """Columns of the maps (B, n) in the order of x (B, *x_shape), of its shape."""
        return torch.cat(parts, 1)[:, self.order].view(x.shape)

    def fit(self, x: Tensor) -> None:
        """Fit each map to its columns of rows of data (n, *x_shape).

        Raises:
            DataError: a real component that others tell, of another support.
        """
        for map_of, columns in self.parts(x):
            map_of.fit(columns)
        if told := told_across(self.law, x.cpu().numpy()):
            raise DataError(
                f"x has no density where other columns tell one: {', '.join(told[:3])}; leave it "
                "out of x"
            )
        self.ranges.fit(x)

    def choose(self, x: Tensor, c: Tensor) -> None:
        """Choose bends of real columns of rows x (n, *x_shape) given c (n, D).

        Args:
            x: rows of data.
            c: coordinates of their θ.
        """
        for map_of, columns in self.parts(x):
            map_of.choose(columns, c)

    def words(self, names: Sequence[str] = ()) -> list[str]:
        """What is done to real columns besides shifts and scales, a line each.

        Args:
            names: of the columns; their places if there are none.
        """
        names = names or [named(j, self.law.x_shape) for j in range(self.law.size)]
        said = []
        for kind, at in self.places.items():
            map_of: Any = self.maps[kind]
            said += map_of.words([names[j] for j in at.tolist()])
        return said

    def unlike(self, x: Tensor, first: int = 0) -> Iterator[str]:
        """What of x (n, *x_shape), from row `first` on, is unlike all x of the training."""
        return self.ranges.unlike(x, first)

    def forward(self, x: Tensor) -> Tensor:
        """X → z, (B, *x_shape) float32."""
        return self.together([map_of(columns) for map_of, columns in self.parts(x)], x)

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, *x_shape) → x."""
        return self.together([map_of.inverse(columns) for map_of, columns in self.parts(z)], z)

    def log_det(self, x: Tensor) -> Tensor:
        """The sum of the log|det ∂z/∂x| of all maps, (B,)."""
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for map_of, columns in self.parts(x):
            total = total + map_of.log_det(columns)
        return total

    def read_out(self, x: Tensor) -> Tensor:
        """x (B, *x_shape) as a detector would tell it."""
        return self.together([map_of.read_out(columns) for map_of, columns in self.parts(x)], x)

    def breaks(self, x: Tensor) -> Tensor:
        """Which rows of x (n, *x_shape) break what tells a component, (n,) bool."""
        found = [map_of.breaks(columns) for map_of, columns in self.parts(x)]
        return torch.stack(found).any(0)

    def told(self) -> list[str]:
        """Components that are constant or that others tell, each with what tells it."""
        said = []
        for kind, at in self.places.items():
            if isinstance(map_of := self.maps[kind], Related):
                said += map_of.relation().at(at.numpy(), self.law.size).names(self.law.x_shape)
        return said


def part_of(law: Law, kind: Support, columns: int) -> Law:
    """The law of the columns of mixed x that are of one support; levels whatever their number."""
    return replace(
        law, x_shape=(columns,), support=kind, column_supports=(), symmetries=(), axes=(),
        levels=MOST_LEVELS if kind == "levels" else 0,
    )  # fmt: skip


def groups_of(law: Law) -> int:
    """In how many equal parts of flat x components may share a bend; 0 where none can.

    Each component of a vector is one, and each channel of a torus; along open axes μ and σ differ.
    """
    if not law.spatial and not law.shifted:
        return law.size
    channels = law.x_shape[0] if law.geometry[:1] == ("channel",) else 1
    return channels if law.periodic else 0


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more


def width_and_mean(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean of each component of (n, …), NaN left out, (…) each."""
    if not rows.isnan().any():
        return torch.std_mean(rows, dim=0, correction=0)
    mean = rows.nanmean(0)
    return (rows - mean).square().nanmean(0).sqrt(), mean


def for_support(law: Law) -> Transform:
    """The map that the support of x asks for."""
    maps: dict[str, Callable[[Law], Transform]] = {
        "reals": Standardise, "nonnegative": LogHurdle, "counts": Counts, "mixed": ByColumn,
    }  # fmt: skip
    return maps[law.support](law) if law.support in maps else Identity()


class Symmetries:
    """Random elements of the symmetry group that a law declares, for augmentation.

    ``shift`` translates along periodic axes, ``reflect`` mirrors each axis, ``transpose``
    exchanges them, ``flip`` changes the sign of x; channels stay where they are. A batch draws one
    move of the axes, each row its own sign: cheap, and over many batches uniform on the group.
    """

    def __init__(self, law: Law) -> None:
        self.names: tuple[Symmetry, ...] = law.symmetries
        self.axes = tuple(1 + axis for axis in law.spatial or range(len(law.x_shape)))
        self.shifts = {1 + axis: law.x_shape[axis] for axis in law.shifted}
        self.orders = list(itertools.permutations(self.axes))

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x (B, *x_shape) → g·x with a random g."""

        def integer(high: int) -> int:
            return int(torch.randint(high, (), generator=generator, device=generator.device))

        if self.shifts:
            x = x.roll([integer(n) for n in self.shifts.values()], [*self.shifts])
        if "reflect" in self.names:
            x = x.flip([a for a in self.axes if integer(2)])
        if "transpose" in self.names:
            x = x.movedim(self.axes, self.orders[integer(len(self.orders))])
        if "flip" in self.names:
            shape = (len(x), *[1] * (x.ndim - 1))
            sign = torch.randint(2, shape, generator=generator, device=generator.device)
            x = x * (2 * sign - 1).to(x.dtype)
        return x

    def images(self, x: Tensor) -> list[Tensor]:
        """x (B, *x_shape) under every reflection, transposition and flip; shifts are left out."""
        images = [x]
        if "reflect" in self.names:
            for axis in self.axes:
                images += [image.flip(axis) for image in images]
        if "transpose" in self.names:
            images = [i.movedim(self.axes, order) for order in self.orders for i in images]
        if "flip" in self.names:
            images += [-image for image in images]
        return images

"""Real x: shifted, scaled, made more normal, and turned to principal components."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from physgen.dataset.assumptions import Tails, named
from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.ranges import row_words
from physgen.nn.transforms.monotone import NO_KNOTS, MonotoneMap, MonotoneMaps, best_map
from physgen.nn.transforms.related import Related
from physgen.nn.transforms.rotation import Rotation

__all__ = ["Standardise"]

FEW = 5
MOST, SITES = 256, 8
"""Components that may each get a map of their own; sites of a torus that are looked at."""


class Standardise(Related):
    """z = (x − μ)/σ for each component, or the inverse hyperbolic sine of that for heavy tails.

    μ and σ are mean and width of the training data; of a component with heavy tails, where these
    say little, the median and the width of a normal law with the same quartiles. Components that
    shifts make alike have one μ and one σ, so that shifts stay symmetries. The arithmetic is in
    float64, so that neither a large offset nor the unit of x matters. A component that others tell
    is +∞, one that is missing NaN: neither counts.

    Where θ is known, each component of a vector, or all of a torus, may get another map
    (:mod:`physgen.nn.transforms.monotone`) and a vector its principal components
    (:mod:`physgen.nn.transforms.rotation`), if held-out rows say so.
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
        self.monotone, self.rotation = MonotoneMaps(law.x_shape), Rotation()
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
        self.monotone = MonotoneMaps(self.x_shape).to(x.device)
        self.rotation = Rotation().to(x.device)

    @torch.no_grad()
    def choose(self, x: Tensor, c: Tensor) -> None:
        """Choose monotone maps and principal components of rows x (n, *x_shape) given c (n, D).

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
            if kept and (found := best_map(some, given, self._map_of(group * each))):
                self._take(found, slice(group * each, (group + 1) * each), some)
        if not self.alike and not self.missing:
            self.rotation.fit(self._mapped(x.cpu())[0].flatten(1), c.cpu(), self.kept.flatten())
        self.to(device)

    def _map_of(self, j: int) -> MonotoneMap:
        """The map of component j of flat x."""
        others, curved = self.monotone, (self.monotone.curved == j).nonzero()[:, 0].tolist()
        mean, std, heavy, side, floor = (
            b.flatten()[j].item()
            for b in (self.mean, self.std, self.heavy, others.side, others.floor)
        )
        knots = others.knots[curved[0]] if curved else NO_KNOTS
        return MonotoneMap(mean, std, bool(heavy), int(side), floor, knots.cpu())

    def _take(self, chosen: MonotoneMap, which: slice, rows: Tensor) -> None:
        """Give components of flat x a map, scaled by rows (n,)."""
        v = chosen(rows[~rows.isnan()])[0]
        values = {"mean": chosen.mean, "std": chosen.std, "heavy": chosen.heavy}
        others = {"side": chosen.side, "floor": chosen.floor, "shift": v.mean(), "gain": v.std()}
        for part, given in ((self, values), (self.monotone, others)):
            for name, value in given.items():
                getattr(part, name).view(-1)[which] = value
        if chosen.knots.shape[1]:
            places = torch.arange(self.mean.numel())[which]
            self.monotone.curved = torch.cat([self.monotone.curved, places])
            knots = chosen.knots.expand(len(places), 3, -1)
            self.monotone.knots = torch.cat([self.monotone.knots, knots])

    def words(self, names: Sequence[str] = ()) -> list[str]:
        """What is done to components of x besides shifts and scales, a line each.

        Args:
            names: of the components; their places if there are none.
        """
        found: dict[str, list[str]] = {}
        for j in self.kept.flatten().nonzero()[:, 0].tolist():
            if word := self._map_of(j).word:
                found.setdefault(word, []).append(names[j] if names else named(j, self.x_shape))
        said = [f"{first_named(which)}: {word}" for word, which in found.items()]
        return said + self.rotation.words()

    def unlike(self, x: Tensor, first: int = 0) -> Iterator[str]:
        """What of x (n, *x_shape), from row `first` on, is unlike all x of the training."""
        yield from super().unlike(x, first)
        side = self.monotone.side
        beyond = (side * (x.double().to(side.device) - self.mean) < 0).flatten(1)
        if (rows := beyond.any(1)).any():
            j = int(beyond[rows][0].int().argmax())
            yield (
                f"{row_words(rows, first)}: {named(j, self.x_shape)} is beyond the bound of the "
                f"logarithm that it is taken by, {self.mean.flatten()[j]:.4g}"
            )

    def state_at(self, law: Law) -> dict[str, Tensor]:
        """Its buffers (...) for x of a law: along axes of another length all sites are alike.

        That needs shifts along these axes to be symmetries; elsewhere buffers stay as they are.

        Raises:
            UsageError: sites that are constant or that others tell.
        """
        state = super().state_at(law)
        shapes = [
            [n for axis, n in enumerate(shape) if axis not in self.alike]
            for shape in (self.x_shape, law.x_shape)
        ]
        if law.x_shape == self.x_shape or law.shifted != self.alike or shapes[0] != shapes[1]:
            return state
        if told := self.told():
            raise UsageError(
                f"x of shape {law.x_shape}: in that of the training, {self.x_shape}, some sites "
                f"tell others, {told[0]}; train anew, or leave what others tell out of x"
            )
        first = torch.arange(self.kept.numel(), device=self.kept.device).view(self.x_shape)
        for axis in self.alike:
            first = first.narrow(axis, 0, 1)
        first = first.expand(law.x_shape)
        state = {
            name: value.flatten()[first] if value.shape == self.x_shape else value
            for name, value in state.items()
        }
        state["coefficients"] = state["coefficients"].new_zeros(0, law.size)
        knots = torch.full_like(self.kept, -1, dtype=torch.long).flatten()
        knots[self.monotone.curved] = torch.arange(len(self.monotone.curved), device=knots.device)
        knots = knots[first].flatten()
        state["monotone.curved"] = (knots >= 0).nonzero()[:, 0]
        state["monotone.knots"] = self.monotone.knots[knots[knots >= 0]]
        return state

    def _mapped(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What components of x (B, *x_shape) are mapped to, missing ones as means, and log slopes.

        Returns:
            (B, *x_shape) float64 each, before any principal components are taken.
        """
        x = torch.where(x.isnan(), self.mean, x.double())
        u, slope = (x - self.mean) / self.std, -self.std.log().expand_as(x)
        slope = slope - torch.where(self.heavy, 0.5 * u.square().log1p(), 0.0)
        v = torch.where(self.heavy, u.asinh(), u)
        if self.monotone.straight:
            return v, slope
        v, more = self.monotone(v)
        return v, slope + more

    def forward(self, x: Tensor) -> Tensor:
        """X → z, (B, *x_shape) float32."""
        z = self.rotation(self._mapped(x)[0])
        z = torch.where(self.kept, z, torch.inf) if len(self.offset) else z
        return torch.where(x.isnan(), torch.nan, z).float()

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, *x_shape) → x."""
        z = z.double()
        if not self.rotation.idle:
            z = self.rotation.inverse(torch.where(self.kept, z, 0.0))
        if not self.monotone.straight:
            z = self.monotone.inverse(z)
        z = torch.where(self.heavy, z.sinh(), z)
        return self.completed(z * self.std + self.mean)

    def log_det(self, x: Tensor) -> Tensor:
        """log|det ∂z/∂x| = Σ log dz/dx over what is not missing, and that of a rotation, (B,).

        It is −log σ of a component, less ½ log(1 + u²), u = (x − μ)/σ, of one with heavy tails.
        """
        slope = torch.where(x.isnan() | ~self.kept, 0.0, self._mapped(x)[1])
        return slope.flatten(1).sum(1) + self.rotation.log_det()


def groups_of(law: Law) -> int:
    """In how many equal parts of flat x components may share a map; 0 where none can.

    Each component of a vector is one, and each channel of a torus; along open axes μ and σ differ.
    """
    if not law.spatial and not law.shifted:
        return law.size
    channels = law.x_shape[0] if law.geometry[:1] == ("channel",) else 1
    return channels if law.periodic else 0


def first_named(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more


def width_and_mean(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean of each component of (n, …), NaN left out, (…) each."""
    if not rows.isnan().any():
        return torch.std_mean(rows, dim=0, correction=0)
    mean = rows.nanmean(0)
    return (rows - mean).square().nanmean(0).sqrt(), mean

r"""What θ tells of a long real x at once: location, scale and spectrum, as a map with a volume.

    u = Qᵀ e^{g(θ)} Q (z − μ(θ)) e^{−s(θ)},      log|det ∂u/∂z| = Σ g − Σ s

μ and s are smooth fields: sums of the slowest modes of the grid (cosines of an open axis, waves of
a periodic one) with a network of θ for their amplitudes, so that few numbers are learnt however
long x is. Q is the orthonormal transform to waves, and g a function of θ and of the frequency: of
a Gaussian field on a torus u is white for the right g, whatever the spectrum. What is left is the
law of u, whose mean is 0 and width 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.blocks import ResidualMLP

__all__ = [
    "ALONE",
    "AffineMap",
    "Grid",
    "Spectrum",
    "axes_of_shifts",
    "frequencies",
    "pooled",
    "slowest_modes",
    "stationary_map",
    "waves",
]

FEW = 8
"""Modes of the scale, and functions of the frequency."""
AffineCoefficients = tuple[Tensor, Tensor, Tensor | None]
LONG = 4096
"""Sites of an axis that is transformed."""
LIMIT = 8.0
"""Of s and of g: widths lie within e^±8 of the data's."""
ALONE = 0.6
"""Part of a training in which the map learns alone, as if what it leaves were white."""


@dataclass(frozen=True)
class Grid:
    """Positions of x and what lives there.

    Attributes:
        channels: numbers at each position.
        shape: positions along each axis.
        periodic: whether each axis closes.
        stationary: whether the law is the same at all positions along the periodic axes.
    """

    channels: int
    shape: tuple[int, ...]
    periodic: tuple[bool, ...]
    stationary: bool

    @classmethod
    def of(cls, law: Law) -> Grid:
        """The grid that a law declares; all axes of x, open, where it declares none."""
        shifts = "shift" in law.symmetries
        axes = law.axes or len(law.x_shape) * ("periodic" if shifts else "open",)
        first = axes[0] == "channel"
        shape = law.x_shape[first:] or (1,)
        periodic = tuple(axis == "periodic" for axis in axes[first:]) or (False,)
        return cls(law.x_shape[0] if first else 1, shape, periodic, shifts)

    @property
    def positions(self) -> int:
        """How many there are, n."""
        return math.prod(self.shape)

    @property
    def alike(self) -> tuple[bool, ...]:
        """Along which axes shifts are symmetries."""
        return tuple(self.stationary and p for p in self.periodic)


def waves(n: int, periodic: bool, which: Tensor | None = None) -> Tensor:
    """The orthonormal transform along an axis, a row a wave, (n, n) float64; or some (m,) of them.

    Of a periodic axis that of Hartley, cos + sin, of an open one the cosine transform.
    """
    i = torch.arange(n, dtype=torch.float64)
    k = i if which is None else i[which]
    if periodic:
        angle = 2 * math.pi / n * torch.outer(k, i).remainder(n)
        return (angle.cos() + angle.sin()) / math.sqrt(n)
    width = torch.where(k == 0, 1 / n, 2 / n).sqrt()
    return width[:, None] * torch.cos(math.pi / n * torch.outer(k, i + 0.5))


def frequencies(n: int, periodic: bool) -> Tensor:
    """Of each wave of an axis, in cycles a step, 0 to ½, (n,) float64."""
    i = torch.arange(n, dtype=torch.float64)
    return torch.minimum(i, n - i) / n if periodic else i / (2 * n)


def pooled(values: Tensor, alike: Tensor) -> Tensor:
    """The sum over those alike (d,) of values (d,), each in its place."""
    total = values.new_zeros(int(alike.max()) + 1)
    return total.index_add(0, alike, values)[alike]


def axes_of_shifts(law: Law) -> tuple[Tensor, Tensor]:
    """Waves along the axes of x that shifts make alike, and which have one variance.

    Returns:
        (d, d) float64, orthogonal, a column each, and (d,) labels.
    """
    basis, label = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 0, dtype=torch.float64)
    for axis, n in enumerate(law.x_shape):
        shifted = axis in law.shifted
        column = waves(n, True).T if shifted else torch.eye(n, dtype=torch.float64)
        number = frequencies(n, True) if shifted else torch.arange(n, dtype=torch.float64)
        basis = torch.kron(basis, column.contiguous())
        label = torch.cat(
            [label.repeat_interleave(n, 0), number.repeat(len(label))[:, None]], dim=1
        )
    if "transpose" in law.symmetries and len(label.T) == len(law.shifted):
        label = label.sort(1).values
    return basis, torch.unique(label, dim=0, return_inverse=True)[1]


def slowest_modes(grid: Grid, count: int) -> Tensor:
    """Waves of lowest frequency over all positions, their mean square 1, (count or fewer, n).

    Along periodic axes of a stationary law there is only the constant.
    """
    axes, kept = [], []
    for n, periodic in zip(grid.shape, grid.periodic, strict=True):
        only = 1 if periodic and grid.stationary else min(n, count)
        order = frequencies(n, periodic).argsort(stable=True)[:only]
        axes.append(waves(n, periodic, order) * math.sqrt(n))
        kept.append(frequencies(n, periodic)[order] * n)
    size = sum(f.square().view([-1] + [1] * (len(kept) - 1 - i)) for i, f in enumerate(kept))
    chosen = torch.as_tensor(size).flatten().argsort(stable=True)[:count]
    modes = torch.ones(len(chosen), 1, dtype=torch.float64)
    for rows, place in zip(axes, torch.unravel_index(chosen, [len(a) for a in axes]), strict=True):
        modes = (modes[:, :, None] * rows[place][:, None]).flatten(1)
    return modes.float()


class Spectrum(nn.Module):
    """g of each wave and channel, as Σ_k a_k(θ) b_k(frequency).

    Attributes:
        reference: (rank,) the shape that it was made for, and that may be used at another: b are
            functions of the frequency alone, so that weights mean the same at both.

    Args:
        grid: the positions.
        along: which axes are transformed; along the others g is a function of the position.

    Raises:
        UsageError: an axis that is too long for a matrix.
    """

    reference: Tensor
    features: Tensor

    def __init__(self, grid: Grid, along: tuple[bool, ...]) -> None:
        super().__init__()
        self.grid, self.shape, self.along = grid, grid.shape, along
        if (longest := max(n for n, wave in zip(grid.shape, along, strict=True) if wave)) > LONG:
            raise UsageError(
                f"spectrum: expected axes of at most {LONG} sites, got {longest}; "
                "take spectrum none"
            )
        for axis, (n, periodic) in enumerate(zip(grid.shape, grid.periodic, strict=True)):
            if along[axis]:
                matrix = waves(n, periodic).float()
                self.register_buffer(f"matrix{axis}", matrix, persistent=False)
        self.register_buffer("reference", torch.tensor(grid.shape))
        self.register_buffer("features", self._features().float(), persistent=False)
        # torch has no types for this call
        self.register_load_state_dict_post_hook(of_the_reference)  # type: ignore[no-untyped-call]
        self.straight = nn.Linear(self.features.shape[1], FEW)
        self.curved = ResidualMLP(self.features.shape[1], FEW, 32, 1)

    def _features(self) -> Tensor:
        """What b sees of each wave, (n, F) float64: of its frequency alone, not of the size."""
        each = [
            2 * frequencies(n, periodic) if wave else torch.linspace(-1, 1, n, dtype=torch.float64)
            for n, periodic, wave in zip(self.shape, self.grid.periodic, self.along, strict=True)
        ]
        place = torch.cartesian_prod(*each).view(-1, len(each))
        frequency = place[:, list(self.along)]
        size = frequency.square().sum(1, keepdim=True) + float(self.reference.max()) ** -2
        return torch.cat([place, 0.5 * size.log(), (frequency == 0).double()], 1)

    def functions(self) -> Tensor:
        """b of each wave, (FEW, n)."""
        return (self.straight(self.features) + self.curved(self.features)).T

    def scaled(self, r: Tensor, gain: Tensor) -> Tensor:
        """Each wave of r (B, C, n) times e^gain, (B, C, n)."""
        return self.transform(self.transform(r) * gain.exp(), back=True)

    def transform(self, r: Tensor, back: bool = False) -> Tensor:
        """Q r, or Qᵀ r, of (B, C, n)."""
        r = r.unflatten(2, self.shape)
        for axis, wave in enumerate(self.along, 2):
            if wave:
                matrix = getattr(self, f"matrix{axis - 2}")
                r = (r.transpose(axis, -1) @ (matrix if back else matrix.T)).transpose(axis, -1)
        return r.flatten(2)


def of_the_reference(spectrum: Spectrum, _: object) -> None:
    """Features of the size that weights were trained at, once that is read."""
    spectrum.features.copy_(spectrum._features())


class AffineMap(nn.Module):
    """z → u of a long x, given θ.

    Args:
        grid: the positions.
        condition: components of c.
        modes: of the location.
        along: which axes have a spectrum; none for no spectrum.
    """

    location_modes: Tensor
    scale_modes: Tensor

    def __init__(self, grid: Grid, condition: int, modes: int, along: tuple[bool, ...]) -> None:
        super().__init__()
        self.grid, self.channels = grid, grid.channels
        every = slowest_modes(grid, modes)
        self.register_buffer("location_modes", every, persistent=False)
        self.register_buffer("scale_modes", every[:FEW], persistent=False)
        self.location = ResidualMLP(condition, grid.channels * len(self.location_modes))
        self.scale = ResidualMLP(condition, grid.channels * len(self.scale_modes), 32, 1)
        self.spectrum = Spectrum(grid, along) if any(along) else None
        if self.spectrum:
            self.amplitudes = ResidualMLP(condition, grid.channels * FEW, 32, 1)

    @property
    def last(self) -> list[nn.Module]:
        """The layers that are 0 at first, when it is the identity."""
        nets = [self.location, self.scale] + ([self.amplitudes] if self.spectrum else [])
        return [net.leave for net in nets]

    def coefficients(self, c: Tensor, whole: bool = True) -> AffineCoefficients:
        """μ, s and g of c (B, D), (B, C, n) each.

        There is no g where there is no spectrum, and none of z that is not whole: each wave has
        something of all components.
        """
        location = self.location(c).unflatten(1, (self.channels, -1)) @ self.location_modes
        scale = self.scale(c).unflatten(1, (self.channels, -1)) @ self.scale_modes
        scale = LIMIT * torch.tanh(scale / LIMIT)
        if self.spectrum is None or not whole:
            return location, scale, None
        gain = self.amplitudes(c).unflatten(1, (self.channels, -1)) @ self.spectrum.functions()
        return location, scale, LIMIT * torch.tanh(gain / LIMIT)

    def forward(self, z: Tensor, theta: AffineCoefficients) -> tuple[Tensor, Tensor]:
        """z (B, N) → u (B, N) and log|det ∂u/∂z|, (B,).

        A component that is not finite has no volume, and stays what it is.
        """
        location, scale, gain = theta
        z = z.view_as(location)
        there = z.isfinite()
        u = (torch.where(there, z, 0.0) - location) * (-scale).exp()
        log_det = -torch.where(there, scale, 0.0).flatten(1).sum(1)
        if self.spectrum is not None and gain is not None:
            u = self.spectrum.scaled(u, gain)
            log_det = log_det + gain.flatten(1).sum(1)
        return torch.where(there, u, z).flatten(1), log_det

    def white(self, c: Tensor, z: Tensor, whole: bool) -> tuple[Tensor, Tensor]:
        """u (B, *x_shape) of z (B, *x_shape) given c (B, D), and log|det ∂u/∂z|, (B,)."""
        with torch.autocast(z.device.type, enabled=False):  # waves of half precision are noise
            u, log_det = self(z.flatten(1), self.coefficients(c, whole))
        return u.view_as(z), log_det

    def inverse(self, u: Tensor, theta: AffineCoefficients) -> Tensor:
        """u (B, N) → z (B, N)."""
        location, scale, gain = theta
        r = u.view_as(location)
        if self.spectrum is not None and gain is not None:
            r = self.spectrum.scaled(r, -gain)
        return (r * scale.exp() + location).flatten(1)


def stationary_map(law: Law, modes: int) -> AffineMap | None:
    """The map of real maps along whose periodic axes shifts are symmetries; None of other x.

    Args:
        law: of x.
        modes: of the location, along other axes.
    """
    grid = Grid.of(law)
    longest = max((n for n, wave in zip(grid.shape, grid.alike, strict=True) if wave), default=0)
    whole = law.support == "reals" and bool(law.spatial) and not law.missing
    if not (whole and 0 < longest <= LONG):
        return None
    return AffineMap(grid, len(law.prior), modes, grid.alike)

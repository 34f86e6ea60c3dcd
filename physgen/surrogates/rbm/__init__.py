r"""Conditional restricted Boltzmann machine: the energy-based baseline of lattice physics.

A layer of hidden units stands for the couplings of the spins (Smolensky 1986; for the Ising model
Torlai & Melko, arXiv:1606.02718). It learns by contrastive divergence (Hinton 2002): the gradient
of log p is the mean of −∂F over the data less that over the model, and the model's part comes from
Markov chains.

`energy` is the model, `gibbs` how it is drawn from, `log_z` its log Z by annealed importance
sampling (AIS), or `bridges` from lattices of all θ, without which there is no log p. The loss is a
difference of free energies and says nothing about quality; what validation looks at is the
negative log-likelihood with a rough log Z. The log Z that scores x is made once the weights are
final, and lies with them in the checkpoint. Between its nodes it is a cubic spline in θ, and so
has the gradient that log p needs.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.nn.descent import Descent
from physgen.nn.measurement import Measurement
from physgen.nn.recorded import is_recorded
from physgen.nn.seen_spins import SeenSpins, r_hat_of_rows
from physgen.nn.transforms import KNOWN
from physgen.surrogates.base import (
    Likelihood,
    Noise,
    Objective,
    Restored,
    Surrogate,
    refuse_unknown_options,
)
from physgen.surrogates.rbm import compiled, gibbs
from physgen.surrogates.rbm import log_z as ais
from physgen.surrogates.rbm.bridges import Kept, by_walks_or_bridges
from physgen.surrogates.rbm.energy import (
    HIDDEN,
    Coefficients,
    Energy,
    Weights,
    free_energy,
    spins,
)
from physgen.surrogates.rbm.log_z import LogZ
from simulators.base import Support

Rng = torch.Generator

__all__ = ["RBM", "RBMConfig"]

_log = logging.getLogger(__name__)
WATCHED = 60
"""Sweeps of clamped chains that R̂ is of, in autocorrelation times."""

UNKNOWN = 3.0
"""Nats between both estimates of log Z above which that is said."""
QUICK_CHAINS, QUICK_LADDER, QUICK_NODES = 64, 300, 9
"""Of the log Z that validation looks at."""
DEFAULT_HIDDEN = {True: 4, False: 128}
"""Filters, or hidden units."""


@dataclass(frozen=True)
class RBMConfig:
    """Options of the RBM.

    Attributes:
        layout: tied moves its filters over the torus, dense couples every pair; auto ties them
            where x is a lattice of two axes on a torus.
        hidden: filters, or hidden units; 0 for 4 filters or 128 units.
        filter_size: sites on a filter's side, odd.
        divergence: where the chains of the gradient start: at the data (cd), or where they were
            (pcd), which is noisier and need not be better.
        sweeps: Gibbs sweeps of a training step, the k of CD-k.
        chains: persistent chains, and chains of the annealing that gives log Z.
        tempering: whether persistent chains of neighbouring theta exchange their spins.
        centred: whether spins and hidden units count from their means, where there are biases.
        ladder: sweeps of the annealing that gives log Z.
        sampler: how to draw: gibbs, or tempered along theta with exchanges.
        steps: sweeps for a sample; 0 for as many as the measured autocorrelation asks for.
    """

    layout: Literal["auto", "tied", "dense"] = "auto"
    hidden: int = 0
    filter_size: int = 3
    divergence: Literal["cd", "pcd"] = "cd"
    sweeps: int = 1
    chains: int = 512
    tempering: bool = True
    centred: bool = True
    ladder: int = 4000
    sampler: Literal["gibbs", "tempered"] = "gibbs"
    steps: int = 0

    def __post_init__(self) -> None:
        """Refuse values outside the documented ranges."""
        least = {"hidden": 0, "steps": 0, "sweeps": 1, "ladder": 1, "chains": 2 * ais.GROUPS}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name}: expected at least {low}, got {getattr(self, name)}")
        if self.filter_size < 1 or self.filter_size % 2 == 0:
            raise ValueError(f"filter_size: expected an odd number, got {self.filter_size}")


class RBM(Surrogate):
    """Restricted Boltzmann machine whose couplings and biases θ scales."""

    name: ClassVar[str] = "rbm"
    Config = RBMConfig
    supports: ClassVar[tuple[Support, ...]] = ("spins",)
    inference_options: ClassVar[tuple[str, ...]] = ("sampler", "steps", "ladder")
    keeps_last: ClassVar[bool] = True
    unit = "nats a row, with a rough log Z"
    chain_buffers: ClassVar[tuple[str, ...]] = ("chain_v", "chain_c")
    restorers: Mapping[str, str] = {
        "clamped": "Gibbs sweeps with the seen spins clamped, or in their fields: exact for the "
        "learnt law as sweeps grow, which R̂ watches"
    }
    law_buffers: ClassVar[tuple[str, ...]] = (
        *chain_buffers, "settled_for", *(f"log_z_{name}" for name in LogZ._fields)
    )  # fmt: skip

    chain_v: Tensor
    chain_c: Tensor
    settled_for: Tensor

    def __init__(self, law: Law, config: RBMConfig) -> None:
        super().__init__(law, config)
        if len(law.prior) not in ais.ANNEALED:
            raise UsageError(f"rbm: expected 1 to 3 parameters, got {len(law.prior)}")
        on_torus = law.periodic and len(law.x_shape) == len(law.spatial) == 2
        if config.layout == "tied" and not on_torus:
            raise UsageError(
                "rbm: tied filters need a torus of two axes and no channels; choose layout dense"
            )
        tied = config.layout == "tied" or (config.layout == "auto" and on_torus)
        self.energy = Energy(
            law,
            tied=tied,
            hidden=config.hidden or DEFAULT_HIDDEN[tied],
            filter_size=config.filter_size,
            centred=config.centred,
        )
        m, d = config.chains, len(law.prior)
        self.register_buffer("chain_v", torch.zeros(m, law.size, dtype=torch.int8))
        self.register_buffer("chain_c", 2 * torch.rand(m, d) - 1)
        axes = [len(a) for a in self._axes()]
        for name in LogZ._fields:
            groups = [ais.GROUPS] if name == "groups" else []
            empty = torch.zeros(groups + axes, dtype=torch.float64)
            self.register_buffer(f"log_z_{name}", empty)
        self.register_buffer("settled_for", torch.zeros(32, dtype=torch.uint8))

    @property
    def likelihood(self) -> Likelihood:
        """Exact where a layer is small enough to be enumerated."""
        small = ais.can_enumerate(self.energy, len(self.law.prior))
        return Likelihood.EXACT if small else Likelihood.ESTIMATE

    # --- training -----------------------------------------------------------------------------

    def _loss(self, c: Tensor, z: Tensor, generator: Rng, progress: float) -> Tensor:
        """F(data) − F(chains), whose gradient is that of −log p but for the chains' noise."""
        with torch.autocast(c.device.type, enabled=False):
            weights, v = self.energy.weights(), z.flatten(1)
            coefficients = self.energy.coefficients(c, weights)
            with torch.no_grad():
                model = self._negative(c, v, weights, coefficients, generator)
            both, twice = torch.cat([v, model]), coefficients.each(lambda a: torch.cat([a, a]))
            data, chain = free_energy(twice, both, weights.up(both)).chunk(2)
            return data - chain

    def objectives(self) -> list[Objective]:
        """On a CPU the gradient is in closed form; of gains alone and CD whole steps are."""
        on_cpu, cd = self.device.type == "cpu", self.config.divergence == "cd"
        gradient = self._gradient if on_cpu else None
        steps = self._steps if on_cpu and cd and not self.energy.biased else None
        return [Objective("loss", list(self.parameters()), self.loss, gradient, steps)]

    def _gradient(
        self, theta: Tensor, x: Tensor, generator: Rng, progress: float, part: float
    ) -> Tensor:
        """The mean of `_loss` and its gradient: by g, d, b and W, and autograd's from there on."""
        c, v = self.rescale(theta), self.transform(x).flatten(1)
        weights = self.energy.weights()
        coefficients = self.energy.coefficients(c, weights)
        cd, chains = self.config.divergence == "cd", gibbs.NONE
        with torch.no_grad():
            if not cd:
                chains = gibbs.rows_last(self._negative(c, v, weights, coefficients, generator))
        found = compiled.contrast(
            gibbs.rows_last(v), chains, *gibbs.written_out(weights, coefficients),
            self.config.sweeps, gibbs.counter(generator),
        )  # fmt: skip
        model, loss, dg, dd, dw = map(torch.from_numpy, found)
        if cd and self.training:
            self._keep(c, model.T, generator)
        if coefficients.b is not None:
            loss = loss + (coefficients.b.detach() * (model.T - v)).sum(1)
        slopes = dg.T[..., None], dd.T.unflatten(1, (self.energy.units, -1)), model.T - v
        scale, w = part / len(v), self.energy.w
        made = [(a, s) for a, s in zip(coefficients, slopes, strict=True) if a is not None]
        along = [scale * s.sum_to_size(a.shape) for a, s in made]
        torch.autograd.backward([w, *(a for a, _ in made)], [scale * dw.view_as(w), *along])
        return loss.mean().float()

    def _steps(
        self,
        theta: Tensor,
        x: Tensor,
        places: Tensor,
        batch: int,
        generator: Rng,
        descent: Descent,
    ) -> float:
        """Steps down `_gradient`, all in numba."""
        c, chains = self.rescale(theta), len(self.chain_c)
        _, near = self.energy.weights().compiled()
        shapes = (len(self.energy.w), self.energy.w[0].numel(), HIDDEN)
        loss, model = compiled.steps(
            gibbs.rows_last(x, torch.int8), places.numpy(), gibbs.rows_last(c), near, shapes,
            batch, self.config.sweeps, gibbs.counter(generator), descent,
        )  # fmt: skip
        self._keep(c[-chains:], torch.from_numpy(model[:, -chains:].T), generator)
        return loss

    def _keep(self, c: Tensor, model: Tensor, rng: Rng) -> None:
        """Chains (B, N) of a step at c (B, D), where samples will start."""
        n = min(len(c), len(self.chain_c))
        at = int(torch.randint(len(self.chain_c) - n + 1, (), generator=rng, device=c.device))
        self.chain_v[at : at + n], self.chain_c[at : at + n] = model[:n].to(torch.int8), c[:n]

    def _negative(
        self, c: Tensor, v: Tensor, weights: Weights, coefficients: Coefficients, rng: Rng
    ) -> Tensor:
        """The model's part: spins (B, N) from chains at the c of each row."""
        if self.config.divergence == "cd":
            model = gibbs.run_sweeps(weights, coefficients, v, self.config.sweeps, rng)
            if self.training:  # where samples will start
                self._keep(c, model, rng)
            return model
        which = gibbs.nearest_chains(c, self.chain_c)
        start = self.chain_v[which].to(v.dtype)
        model = gibbs.run_sweeps(weights, coefficients, start, self.config.sweeps, rng)
        if self.config.tempering:
            order = gibbs.exchange_pairs(c, rng)
            model = gibbs.exchanged(weights, coefficients, order, model, rng)
        if self.training:
            self.chain_v[which], self.chain_c[which] = model.to(torch.int8), c
        return model

    def validation_loss(self, theta: Tensor, x: Tensor, generator: Rng) -> Tensor:
        """−log p(x|θ) with a rough log Z, from few chains on a short ladder, (B,)."""
        axes = self._axes(QUICK_NODES)
        c, v = self.rescale(theta), self.transform(x).flatten(1)
        with torch.autocast(c.device.type, enabled=False):
            found = ais.pilot(
                self.energy, axes, ladder=QUICK_LADDER, chains=QUICK_CHAINS, generator=generator
            )
            log_z = found.forward.view([len(a) for a in axes])
            return self._free_energy(c, v) + interpolated(axes, log_z, c)

    # --- drawing ------------------------------------------------------------------------------

    @property
    def _at_once(self) -> int:
        """Fewer where each row is drawn at several θ."""
        return super()._at_once // (gibbs.LEVELS if self.config.sampler == "tempered" else 1)

    def samplers(self) -> Iterator[tuple[str, int, Self]]:
        """Both samplers at 8 to 128 sweeps."""
        for name in ("gibbs", "tempered"):
            for steps in (8, 16, 32, 64, 128):
                yield name, steps, self.using(sampler=name, steps=steps)

    def _sample(self, c: Tensor, generator: Rng) -> Tensor:
        weights = self.energy.weights()
        tempered = self.config.sampler == "tempered"
        levels = gibbs.LEVELS if tempered else 1
        if tempered:
            c = gibbs.ladders(ais.weakest(self.energy, self._axes()).to(c), c)
        coefficients = self.energy.coefficients(c, weights)
        v = self.chain_v[gibbs.nearest_chains(c, self.chain_c)].float()
        if "flip" in self.law.symmetries:
            v = v * spins(torch.zeros(len(c), 1, device=c.device), generator)

        def sweep(v: Tensor) -> Tensor:
            v = gibbs.run_sweeps(weights, coefficients, v, 1, generator)
            order = gibbs.rungs(len(v), generator)
            return gibbs.exchanged(weights, coefficients, order, v, generator)

        def observe(v: Tensor) -> Tensor:
            return free_energy(coefficients, v, weights.up(v))[levels - 1 :: levels]

        def plain(v: Tensor, sweeps: int) -> tuple[Tensor, Tensor]:
            return gibbs.watched_sweeps(weights, coefficients, v, sweeps, generator)

        run = gibbs.watching(sweep, observe) if tempered else plain
        if self.config.steps:
            v, _ = run(v, self.config.steps)
        elif len(v):
            v, _ = gibbs.burnt_in(run, v)
        return v[levels - 1 :: levels].view(-1, *self.law.x_shape)

    def _restore(
        self,
        c: Tensor,
        y: Tensor,
        measurement: Measurement,
        method: str,
        generator: Rng,
        **options: Any,
    ) -> Restored:
        refuse_unknown_options(method, options, ("sweeps",))
        seen = SeenSpins.of(y, measurement)
        weights = self.energy.weights()
        coefficients = self.energy.coefficients(c, weights)
        b = coefficients.b if coefficients.b is not None else torch.zeros_like(seen.field)
        coefficients = coefficients._replace(b=b + seen.field)

        def sweep(v: Tensor) -> Tensor:
            return seen.held(gibbs.run_sweeps(weights, coefficients, v, 1, generator))

        def observe(v: Tensor) -> Tensor:
            return free_energy(coefficients, v, weights.up(v))

        v = seen.held(spins(torch.zeros(len(c), self.law.size, device=c.device), generator))
        sweeps = int(options.get("sweeps", 0))
        run = gibbs.watching(sweep, observe)
        if not sweeps:
            v, tau = gibbs.burnt_in(run, v)
            sweeps = int(WATCHED * tau) + 1
        v, series = run(v, sweeps)
        r_hat = r_hat_of_rows(
            series[len(series) // 5 :], torch.cat([c.double(), y.double().flatten(1)], 1)
        )
        return Restored(v.view(-1, *self.law.x_shape), {"r_hat": r_hat})

    # --- log p --------------------------------------------------------------------------------

    def finalize(
        self, seed: int = 0, theta: Tensor | None = None, x: Tensor | None = None
    ) -> None:
        """Compute log Z on its grid, and keep it for these weights.

        Args:
            seed: of the chains.
            theta: (n, D), and
            x: (n, *x_shape), rows of which nothing is asked.
        """
        generator = torch.Generator(self.device).manual_seed(seed)
        axes = self._axes()
        if self.likelihood is Likelihood.EXACT:
            log_z = ais.enumerated(self.energy, axes)
        else:
            count, ladder = self.config.chains, self.config.ladder
            _log.info("rbm: log Z along theta with %d chains, %d sweeps each way", count, ladder)
            log_z = by_walks_or_bridges(
                self.energy, axes, self._kept(), ladder=ladder, chains=count, generator=generator
            )
            _log.info(
                "rbm: log Z to ±%.2g nats with %d chains: backward − forward %.2g nats, "
                "effective chains %.0f %%, half the ladder off by %.2g (the worst of the grid)",
                log_z.stderr.max(), count, (log_z.backward - log_z.forward).abs().max(),
                100 * log_z.ess.min(), (log_z.half - log_z.forward).abs().max(),
            )  # fmt: skip
        for name, table in log_z._asdict().items():
            self.get_buffer(f"log_z_{name}").copy_(table)
        self.settled_for.copy_(self._digest())

    def _kept(self) -> Kept:
        """Where chains of training ended."""
        known = self.chain_v.any(1)
        return Kept(self.chain_c[known], self.chain_v[known])

    def normaliser(self, theta: Tensor) -> dict[str, Tensor]:
        """log Z of each θ (n, D), as :meth:`Surrogate.normaliser`."""
        axes, tables = self._axes(), self.log_z()._asdict()
        c = self.rescale(theta.to(self.device))
        return {k: interpolated(axes, v, c) for k, v in tables.items() if k != "groups"}

    def filters(self) -> Tensor:
        """W as lattices, those of the largest norm first, (n, rows, columns)."""
        w = self.energy.w.detach()
        w = w if self.energy.tied else w.view(-1, *self.energy.shape)
        return w[w.flatten(1).norm(dim=1).argsort(descending=True)]

    def unsettled(self) -> Iterator[str]:
        """A log Z on which chains from weak coupling and those that come back do not agree."""
        log_z = self.log_z()
        off = float((log_z.backward - log_z.forward).abs().max())
        if off > UNKNOWN:
            yield (
                f"log Z is not known, and posteriors are wrong: chains there and back differ by "
                f"{off:.0f} nats; raise --ladder {self.config.ladder}, of fit or of infer"
            )

    def log_z_bootstrap(self) -> Iterator[Self]:
        """Surrogates whose log Z is off by as much as it may be."""
        if self.likelihood is Likelihood.EXACT:
            return
        for value in self.log_z().groups:
            other = copy.copy(self)
            other._buffers = self._buffers | {"log_z_value": value}
            yield other

    def _log_prob(self, c: Tensor, z: Tensor, noise: Noise, draws: int) -> tuple[Tensor, Tensor]:
        axes, found = self._axes(), self.log_z()
        log_z, stderr = (interpolated(axes, table, c) for table in (found.value, found.stderr))
        return -self._free_energy(c, z.flatten(1)).double() - log_z, stderr.clamp(min=0)

    def _free_energy(self, c: Tensor, v: Tensor) -> Tensor:
        weights = self.energy.weights()
        return free_energy(self.energy.coefficients(c, weights), v, weights.up(v))

    def log_z(self) -> LogZ:
        """log Z on its grid, made anew if the weights have changed."""
        if not self.settled_for.equal(self._digest()):
            self.finalize()
            for line in self.unsettled():
                _log.warning("rbm: %s", line)
        return LogZ(*(self.get_buffer(f"log_z_{name}") for name in LogZ._fields))

    def _digest(self) -> Tensor:
        """SHA-256 of all that log Z depends on."""
        h = hashlib.sha256(repr((self.law.x_shape, self.config.ladder)).encode())
        for tensor in (*self.energy.parameters(), *self._axes()):
            h.update(tensor.detach().cpu().numpy().tobytes())
        return torch.tensor(list(h.digest()), dtype=torch.uint8, device=self.device)

    def _box(self) -> tuple[Tensor, Tensor]:
        """The least and greatest c that the energy sees, (D,) each."""
        prior = self.law.prior
        ends = torch.from_numpy(prior.from_coordinates(prior.ends.clip(-KNOWN, KNOWN)))
        low, high = self.rescale(ends.to(self.device)).double().cpu()
        return low, high

    def _axes(self, count: int = 0) -> list[Tensor]:
        """The grid of log Z in units of c; `count` nodes on each axis, or as many as it takes."""
        exact = self.likelihood is Likelihood.EXACT
        return ais.nodes(*self._box(), count or ais.count(len(self.law.prior), exact))


def interpolated(axes: list[Tensor], table: Tensor, c: Tensor) -> Tensor:
    """A table on the nodes of a grid, by cubic splines at c (B, D), (B,) float64; differentiable.

    Args:
        axes: (m_d,) nodes of each of the D axes, in equal steps.
        table: (m_1, …, m_D).
        c: (B, D).

    Raises:
        DataError: c outside the grid.
    """
    c, values = c.double(), table.cpu().numpy()
    first, last = (torch.stack([a[i] for a in axes]).to(c.device) for i in (0, -1))
    if not is_recorded() and ((c < first) | (c > last)).any():
        raise DataError("theta: expected values within the prior; log Z is known there")
    for axis in axes:  # which goes, and its cells and the four powers in each come last
        values = np.moveaxis(CubicSpline(axis.numpy(), values).c, (0, 1), (-1, -2))
    cells, dims = values.shape[::2], range(len(axes))
    order = [2 * d for d in dims] + [2 * d + 1 for d in dims]
    pieces = torch.from_numpy(values.transpose(order).reshape(-1, 4 ** len(axes))).to(c.device)
    place, powers = torch.zeros_like(c[:, 0]).long(), []
    for d, count in enumerate(cells):
        step = (last[d] - first[d]) / count
        k = ((c[:, d] - first[d]) / step).floor().clamp(0, count - 1)
        t = c[:, d] - (first[d] + step * k)
        place = place * count + k.long()
        powers.append(torch.stack([t**3, t**2, t, torch.ones_like(t)], 1))
    found = pieces[place]
    for power in powers:
        found = (power[..., None] * found.unflatten(1, (4, -1))).sum(1)
    return found[:, 0]

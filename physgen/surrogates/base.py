r"""What a surrogate is: a learnt p(x|θ) that can be trained, sampled and evaluated.

A family is a subclass of :class:`Surrogate`. It writes, in the standardised space of
:mod:`physgen.nn.transforms` (c for θ, z for x):

- ``_loss(c, z, generator, progress)``, what training minimises, one value a row;
- ``_sample(c, generator)``;
- ``_log_prob(c, z, noise, draws)``, if it has a likelihood; ``likelihood`` says of what kind.

The public methods are final: they work in data space, check shapes, split long batches and add
log|det|. Three properties hold for every family and are held by the contract tests:

- a log p has a gradient by θ, and by x where x is real, and comes with its standard error and its
  kind where these are asked for;
- its random numbers are a function of (x's index, draw, seed) and never of θ, of the order of the
  batch or of the chunk, so that log p(x|θ) is a smooth, repeatable function of θ (*common random
  numbers*), as grids and slice samplers need;
- what is saved is weights and data (never code), and loads to the same log p.
"""

from __future__ import annotations

import abc
import copy
import enum
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self, final

import numpy as np
import torch
from torch import Tensor, nn

from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.nn.measurement import Measurement
from physgen.nn.recompute import recomputed
from physgen.nn.tensors import tensor_of
from physgen.nn.transforms import Rescale, Symmetries, Transform, for_support
from physgen.registry import class_path, require_own_name
from physgen.runtime.device import full_precision
from physgen.runtime.kinds import as_json_data
from physgen.runtime.options import build
from simulators.base import Array, Support

if TYPE_CHECKING:
    from physgen.nn.descent import Descent
    from physgen.sbi.estimator import SurrogateEstimator

__all__ = [
    "GradientFunction",
    "Likelihood",
    "LogProb",
    "LossFunction",
    "Noise",
    "Objective",
    "Restored",
    "Surrogate",
    "refuse_unknown_options",
]

CACHED, FEWEST_ROWS = 1 << 16, 32
"""Numbers of x that are scored at once on a CPU, few enough for its cache; rows at least."""


class Likelihood(enum.StrEnum):
    """What a family's log p(x|θ) is."""

    EXACT = "exact"
    BOUND = "lower bound"
    UNBIASED = "unbiased"
    ESTIMATE = "estimate"
    NONE = "none"


class LogProb(NamedTuple):
    """log p(x|θ) with its error, in nats and raw units of x.

    Attributes:
        value: (n,) float64.
        stderr: (n,) standard error over the draws; zero where exact.
        kind: what `value` is.
    """

    value: Tensor
    stderr: Tensor
    kind: Likelihood


class Restored(NamedTuple):
    """Draws of x given y = Mx + σε.

    Attributes:
        x: (n, *x_shape).
        diagnostics: (n,) each, by name: ``ess``, the effective part of the particles or draws;
            ``accepted``, the part of the proposals; ``r_hat`` of chains; ``log_evidence``, an
            estimate of log p(y|θ). A method names those that it knows.
    """

    x: Tensor
    diagnostics: dict[str, Tensor]


class Objective(NamedTuple):
    """One thing to minimise: a name, the parameters that it moves, and its loss.

    Most families have one; a GAN has two. A gradient that is known in closed form goes without
    autograd; where one process trains one objective, steps may be taken without the loop. Either
    is compiled by its first call, which `fit` makes before it counts time.
    """

    name: str
    parameters: list[nn.Parameter]
    loss: LossFunction
    gradient: GradientFunction | None = None
    steps: StepsFunction | None = None


class LossFunction(Protocol):
    """A loss in data space, one value a row."""

    def __call__(
        self, theta: Tensor, x: Tensor, generator: torch.Generator, progress: float = 1.0
    ) -> Tensor:
        """θ (B, D), x (B, *x_shape) → (B,); progress in [0, 1] is the part of training done."""
        ...


class GradientFunction(Protocol):
    """The gradient of a mean loss, in closed form."""

    def __call__(
        self,
        theta: Tensor,
        x: Tensor,
        generator: torch.Generator,
        progress: float,
        part: float,
    ) -> Tensor:
        """θ (B, D), x (B, *x_shape) → the mean loss, ().

        So much of its gradient as `part` says is the ``grad`` of the parameters afterwards.
        """
        ...


class StepsFunction(Protocol):
    """Several steps of the training loop at once."""

    def __call__(
        self,
        theta: Tensor,
        x: Tensor,
        places: Tensor,
        batch: int,
        generator: torch.Generator,
        descent: Descent,
    ) -> float:
        """θ (n, D), x (n, *x_shape) → the sum of the losses of all rows.

        The rows of K batches follow each other, `batch` each but for the last; of batch k site i
        takes the value of site `places` (K, N) [k, i]. Step k moves `descent` by its k-th rate.
        """
        ...


@dataclass(frozen=True)
class Noise:
    """Random numbers that belong to rows of x: a function of (seed, index, stream, draw).

    Attributes:
        index: (B,) which x each row is; rows of equal index share their numbers.
        seed: seed of the whole evaluation.
        device: where the numbers go.
    """

    index: Tensor
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def normal(self, draws: int, *shape: int, stream: int = 0) -> Tensor:
        """Standard normal numbers, (B, draws, *shape); more draws extend fewer."""
        return self._numbers("standard_normal", stream, draws, *shape)

    def uniform(self, draws: int, *shape: int, stream: int = 0) -> Tensor:
        """Numbers in [0, 1), (B, draws, *shape), as above; give them another stream."""
        return self._numbers("random", stream, draws, *shape)

    def _numbers(self, law: str, stream: int, *shape: int) -> Tensor:
        unique, inverse = self.index.unique(return_inverse=True)
        numbers = np.empty((len(unique), *shape), np.float32)
        for i, row in zip(unique.tolist(), numbers, strict=True):
            philox = np.random.Philox(key=self.seed, counter=[0, 0, stream, i])
            getattr(np.random.Generator(philox), law)(out=row, dtype=np.float32)
        return torch.from_numpy(numbers).to(self.device)[inverse.to(self.device)]


class Surrogate(nn.Module, abc.ABC):
    """A learnt conditional density p(x|θ).

    Attributes:
        name: the family's name in the registry.
        Config: a frozen dataclass; its fields are the options of ``physgen fit``.
        supports: what x may be; a law of other x is refused.
        inference_options: the fields of `Config` that say how to draw and to score, not what to
            learn; they may be chosen anew for a trained surrogate.
        earlier_options: what options mean that files of earlier versions do not name, where that
            is not their default.
        earlier_names: prefixes of weights in files of earlier versions, and what they are now.
        law_buffers: buffers that belong to one law, and stay behind when the weights move to
            another.
        later_buffers: buffers that files of earlier versions lack; there they are as they begin.
        chain_buffers: buffers whose rows are chains, which go on with each row of a training; of
            several processes that train together each gives rows in turn.
        default_draws: draws of `log_prob` where the caller does not choose.
        posterior_draws: the same on a grid of θ, where fewer may do.
        keeps_last: whether the last epoch's weights are kept, and not those of the lowest
            validation loss: for a loss that is a game, or too noisy to choose by.
        unit: what validation counts in; of a family that keeps its last weights the training loss
            is something else.
        symmetrise: whether log p is averaged over the law's reflections and flips of x.
        leaves_out: whether a component of real z that is not finite is left out of its density:
            one that is constant or that others tell. Other families refuse such x.
        with_missing: supports of x of which it leaves out missing components of single rows: log p
            is that of the others. Elsewhere a law of such x is refused.
        restorers: how x is drawn given y = Mx + σε: the name of a method, and what it is, in a
            line that says whether it is exact or an approximation; the first is the default.
        chunk: rows × draws that are evaluated at once on a CPU, few enough for its cache.
        path: the file it was read from or written to; None if there is none.
        file_digests: SHA-256 of that file, and of the weights in it.
        summary: what is to be said of its training, in a line or two; may be empty.
        info: what is known of its making, as JSON data.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Any]]
    supports: ClassVar[tuple[Support, ...]] = ("spins", "reals")
    inference_options: ClassVar[tuple[str, ...]] = ()
    earlier_options: ClassVar[dict[str, Any]] = {}
    earlier_names: ClassVar[Mapping[str, str]] = {}
    law_buffers: ClassVar[tuple[str, ...]] = ()
    later_buffers: ClassVar[tuple[str, ...]] = ()
    chain_buffers: ClassVar[tuple[str, ...]] = ()
    default_draws: int = 1
    posterior_draws: int = 1
    keeps_last: ClassVar[bool] = False
    unit: str = "nats a row"
    symmetrise: bool = False
    leaves_out: ClassVar[bool] = False
    with_missing: ClassVar[tuple[Support, ...]] = ()
    restorers: Mapping[str, str] = {}
    chunk: ClassVar[int] = 1024
    here: Tensor
    path: Path | None = None
    file_digests: tuple[str, str] = ("", "")
    summary: str = ""
    info: dict[str, Any]

    def __init__(self, law: Law, config: Any) -> None:
        super().__init__()
        if law.support not in self.supports:
            expected = " or ".join(self.supports)
            other = "; take autoregressive or cvae" if law.support in ("counts", "mixed") else ""
            raise UsageError(f"{self.name}: not for {law.support} x; expected {expected}{other}")
        if law.missing and law.support not in self.with_missing:
            raise UsageError(
                f"{self.name}: cannot leave out missing components of {law.support} x (NaN); take "
                "cvae, or infer --method npe from the dataset, or simulate without them"
            )
        self.law = law
        self.config = config
        self.info = {}
        self.rescale = Rescale(law.prior)
        self.transform: Transform = for_support(law)
        self.register_buffer("here", torch.empty(0), persistent=False)

    @property
    @abc.abstractmethod
    def likelihood(self) -> Likelihood:
        """What its log p(x|θ) is."""

    @classmethod
    def create(cls, law: Law, config: Any, seed: int = 0) -> Self:
        """A surrogate with random weights that are a function of the seed.

        Raises:
            UsageError: a law or options that the family refuses, or a class that goes by the name
                of another one in the registry.
        """
        require_own_name(cls)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # what layers are initialised from
            return cls(law, config)

    @classmethod
    def candidates(cls, law: Law) -> Iterable[Mapping[str, Any]]:
        """Sets of options that `fit auto` tries for a law, few; the defaults alone by default."""
        return [{}]

    @abc.abstractmethod
    def _loss(self, c: Tensor, z: Tensor, generator: torch.Generator, progress: float) -> Tensor:
        """What training minimises, (B,), of c (B, D) and z (B, *x_shape)."""

    @abc.abstractmethod
    def _sample(self, c: Tensor, generator: torch.Generator) -> Tensor:
        """One z for each row of c (B, D), (B, *x_shape)."""

    def _log_prob(self, c: Tensor, z: Tensor, noise: Noise, draws: int) -> tuple[Tensor, Tensor]:
        """log p(z|c) and its standard error, (B,) each, of c (B, D) and z (B, *x_shape).

        Written in torch from c and z on, it has a gradient by itself. It must be deterministic
        in its arguments, for the gradient comes from a second evaluation.
        """
        raise TypeError(f"{self.name}: this family has no likelihood")

    def _restore(
        self,
        c: Tensor,
        y: Tensor,
        measurement: Measurement,
        method: str,
        generator: torch.Generator,
        **options: Any,
    ) -> Restored:
        """One z for each row of c (B, D) and y (B, *y_shape), (B, *x_shape), by one method.

        The measurement is of x, ``self.transform.inverse(z)``; of y what is not seen is 0.
        """
        raise TypeError(f"{self.name}: this family restores nothing")

    @property
    def log_snr_ends(self) -> tuple[float, float] | None:
        """Log-SNRs λ between which it has learnt the score of noised x; None if it has not.

        x is then a + uz, component by component. A family that has learnt it writes `_denoised`.
        """
        return None

    def _denoised(self, c: Tensor, z: Tensor, log_snr: Tensor) -> Tensor:
        """E[z₀|z] of z = z₀ + e^{−λ/2} ε (B, *x_shape) given c (B, D) at one λ, of z's shape."""
        raise NotImplementedError

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes (C, *grid) of the latents of x, fine to coarse: none by default.

        A family that has some writes `_encode` and `_decode`.
        """
        return ()

    @property
    def latent_names(self) -> tuple[str, ...]:
        """What each level of them is called, as in z2 on 4×4."""
        grids = ("×".join(map(str, shape[1:])) for shape in self.latent_shapes)
        return tuple(f"z{level} on {grid}" for level, grid in enumerate(grids, 1))

    def _encode(self, c: Tensor, z: Tensor, generator: torch.Generator | None) -> Tensor:
        """Latents of each row of c (B, D) and z (B, *x_shape), (B, K): means, or draws."""
        raise NotImplementedError

    def _decode(self, c: Tensor, latent: Tensor, generator: torch.Generator) -> Tensor:
        """One z for each row of c (B, D) and latents (B, K), (B, *x_shape)."""
        raise NotImplementedError

    def latents(self, theta: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Named rows of x along each latent direction, for a picture; nothing by default.

        Args:
            theta: (1, D) where to look.

        Yields:
            a name, and (n, *x_shape).
        """
        return iter(())

    def filters(self) -> Tensor | None:
        """Weights that can be looked at, (n, rows, columns); none by default."""
        return None

    def normaliser(self, theta: Tensor) -> dict[str, Tensor]:
        """log Z of each θ (n, D), where p(x|θ) = e^{−F(x|θ)}/Z(θ), and how well it is known.

        Returns:
            (n,) each: ``value``, its ``stderr``, a ``forward`` and a ``backward`` estimate, one on
            ``half`` the work, and the effective part of the chains, ``ess``; nothing by default.
        """
        return {}

    def fit_transform(self, x: Tensor, theta: Tensor | None = None) -> None:
        """Fit the map of x to rows of data (n, *x_shape).

        Args:
            x: rows of data.
            theta: their parameters (n, D), given which a map may be chosen.

        Raises:
            DataError: there are such, and the family has no density without them; or x does not
                vary at all.
        """
        self.transform.fit(x)
        if theta is not None:
            self.transform.choose(x, self.rescale(theta.to(self.device)))
        told = self.transform.told()
        if told and self.law.has_support("reals").any() and not self.leaves_out:
            raise DataError(
                f"{self.name}: has no density where components of x tell others: "
                f"{', '.join(told[:5])}; leave them out of x, or take cvae or diffusion"
            )
        if told and (lost := self.transform.lost(x)).any():
            raise DataError(
                f"x: {', '.join(told[:3])}, and in {int(lost.sum())} of {len(lost)} rows one side "
                "is missing without the other; leave what others tell out of x"
            )

    def objectives(self) -> Iterable[Objective]:
        """What training minimises: one loss over all parameters by default."""
        return [Objective("loss", list(self.parameters()), self.loss)]

    def validation_loss(self, theta: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """What validation looks at, lower being better: the first objective by default.

        Args:
            theta: (B, D) parameters in their units.
            x: (B, *x_shape).
            generator: random numbers, on the surrogate's device.

        Returns:
            (B,).
        """
        return next(iter(self.objectives())).loss(theta, x, generator, 1.0)

    def finalize(
        self, seed: int = 0, theta: Tensor | None = None, x: Tensor | None = None
    ) -> None:
        """Compute what is kept beside the weights once they are final; nothing by default.

        Args:
            seed: of what is random here.
            theta: parameters of held-out rows (n, D), if there are any.
            x: the rows (n, *x_shape).
        """
        return

    def unsettled(self) -> Iterator[str]:
        """What speaks against that which `finalize` computed, a line each; none by default."""
        return iter(())

    def log_z_bootstrap(self) -> Iterator[Self]:
        """Surrogates that differ from this one as its estimate of log p may be off.

        That is for errors that all x share, such as those of log Z; none by default.
        """
        return iter(())

    def using(self, *, symmetrise: bool | None = None, **options: Any) -> Self:
        """The same weights, drawing and scoring in another way.

        Args:
            symmetrise: average each log p over the law's reflections and flips of x, which costs
                as many times as there are.
            **options: fields of `Config` that are named in `inference_options`; None leaves one as
                it is.

        Raises:
            UsageError: an option that this family does not have, or a value that it refuses.
        """
        given = {name: value for name, value in options.items() if value is not None}
        if unknown := [name for name in given if name not in self.inference_options]:
            known = ", ".join(self.inference_options) or "none"
            raise UsageError(f"{self.name}: no option {unknown[0]!r}; it has {known}")
        other = copy.copy(self)
        other.info = dict(self.info)
        other.config = build(self.Config, self.name, asdict(self.config) | given)
        other.symmetrise = self.symmetrise if symmetrise is None else symmetrise
        return other

    def for_posteriors(self) -> Self:
        """The same weights, scoring as is enough for differences of log p by θ."""
        return self

    def at(self, law: Law, **options: Any) -> Self:
        """The same weights for another law: another prior, or x of another shape.

        p(x|θ) stays what it was: the box that θ is rescaled by comes along.

        Args:
            law: of the same parameters and support.
            **options: fields of `Config` to change.

        Raises:
            UsageError: a law that differs in more, an option that is refused, or weights that are
                tied to the shape of x.
        """
        kinds = [(one.prior.names, one.support, one.column_supports) for one in (self.law, law)]
        if kinds[0] != kinds[1]:
            ours, theirs = (
                f"{one.support_text} given {', '.join(one.prior.names)}" for one in (self.law, law)
            )
            raise UsageError(f"{self.name}: expected {ours}, got {theirs}")
        if law.missing and not self.law.missing:
            raise UsageError(
                f"{self.name}: was trained on x without missing components, and has no mask for "
                "any; train anew"
            )
        law = replace(law, missing=self.law.missing)
        other = type(self).create(
            law, build(self.Config, self.name, asdict(self.config) | options)
        )
        try:
            own = {k: v for k, v in other.state_dict().items() if k in self.law_buffers}
            other.load_state_dict(own | self._state_for(other))
        except RuntimeError as error:
            raise UsageError(
                f"{self.name}: was trained on x of shape {self.law.x_shape}, and its weights do "
                f"not fit x of shape {law.x_shape} with these options"
            ) from error
        other.symmetrise = self.symmetrise
        other.path, other.summary, other.info = self.path, self.summary, dict(self.info)
        return other.to(self.device).train(self.training)

    def _state_for(self, other: Self) -> dict[str, Tensor]:
        """Its weights, and its buffers that belong to no law, as one of another law holds them."""
        state = {k: v for k, v in self.state_dict().items() if k not in self.law_buffers}
        moved = self.transform.state_at(other.law)
        return state | {f"transform.{k}": v for k, v in moved.items()}

    def samplers(self) -> Iterator[tuple[str, int, Self]]:
        """Samplers to compare: name, evaluations of the network, and the surrogate that has it."""
        return iter(())

    def as_sbi(self, *, draws: int | None = None, seed: int = 0) -> SurrogateEstimator:
        """This p(x|θ) as a density estimator of `sbi`: input x, condition θ.

        So ``NLE(prior).build_posterior(density_estimator=model.as_sbi())``, and whatever else sbi
        does with a likelihood.

        Args:
            draws: random draws for each log p; the family's default for posteriors if None.
            seed: seed of the draws.

        Raises:
            UsageError: sbi is not installed, or a family without a likelihood.
        """
        if self.likelihood is Likelihood.NONE:
            raise UsageError(f"{self.name}: has no likelihood; give sbi physgen.as_simulator(it)")
        try:
            from physgen.sbi.estimator import SurrogateEstimator
        except ImportError as error:
            raise UsageError("as_sbi: needs sbi; pip install 'physgen[sbi]'") from error
        return SurrogateEstimator(self, draws, seed)

    @property
    def device(self) -> torch.device:
        """Where the weights are: a buffer tells it sooner than a walk to the first of them."""
        return self.here.device

    @property
    def _at_once(self) -> int:
        """Rows × draws that are evaluated at once: more on a GPU, which wants to be filled."""
        return self.chunk if self.device.type == "cpu" else 64 * self.chunk

    @final
    def loss(
        self,
        theta: Tensor | Array,
        x: Tensor | Array,
        generator: torch.Generator,
        progress: float = 1.0,
    ) -> Tensor:
        """What training minimises, in data space.

        Args:
            theta: (B, D) parameters in their units.
            x: (B, *x_shape).
            generator: random numbers, on the surrogate's device.
            progress: part of the training that is done, 0 to 1.

        Returns:
            (B,), with a gradient by the weights.

        Raises:
            UsageError: a family whose loss is not one value a row.
        """
        theta, x = tensor_of(theta, torch.float64), tensor_of(x)
        theta, x = theta.to(self.device), x.to(self.device)
        value = self._loss(self.rescale(theta), self.transform(x), generator, progress)
        if value.shape != (len(x),):
            raise UsageError(f"loss: expected {len(x)} values, got shape {tuple(value.shape)}")
        return value - self.transform.log_det(x).to(value.device, value.dtype)

    @final
    @torch.no_grad()
    def sample(
        self, theta: Tensor | Array, generator: torch.Generator | int | None = None
    ) -> Tensor:
        """One x for each row of θ.

        Args:
            theta: (n, D) parameters in their units.
            generator: random numbers, on the surrogate's device, or a seed of them; fresh ones,
                that no seed tells, if None.

        Returns:
            x: (n, *x_shape) in data space, on the surrogate's device.

        Raises:
            DataError: θ of another shape, or not finite.
        """
        theta = tensor_of(theta, torch.float64)
        self._check(theta)
        rng = self._generator(generator)
        parts = [
            self.transform.read_out(self.transform.inverse(self._sample(self.rescale(t), rng)))
            for t in theta.to(self.device).split(self._at_once)
        ]
        return torch.cat(parts)

    @final
    @torch.no_grad()
    def encode(
        self,
        theta: Tensor | Array,
        x: Tensor | Array,
        generator: torch.Generator | int | None = None,
    ) -> Tensor:
        """The latents of each x: means of the encoder q(z|x, θ), or draws from it.

        They are counted in standard deviations of their prior p(z|θ), from its mean, each level
        given those above it. So draws, over x of p(x|θ), are independent standard normal numbers
        at any θ, if the model is right; the mean of a latent that says nothing of x is 0.

        Args:
            theta: (n, D) parameters in their units.
            x: (n, *x_shape).
            generator: random numbers, on the surrogate's device, or a seed of them, to draw; the
                means if None.

        Returns:
            (n, K), the levels of `latent_shapes` one after another, flat; on the surrogate's
            device.

        Raises:
            DataError: shapes that do not fit this surrogate.
            UsageError: a family that has no latents.
        """
        self.require_latents()
        theta, x = tensor_of(theta, torch.float64), tensor_of(x)
        self._check(theta, x)
        c, z = self.rescale(theta.to(self.device)), self.transform(x.to(self.device))
        pairs = zip(c.split(self._at_once), z.split(self._at_once), strict=True)
        rng = None if generator is None else self._generator(generator)
        return torch.cat([self._encode(*pair, rng) for pair in pairs])

    @final
    @torch.no_grad()
    def decode(
        self,
        theta: Tensor | Array,
        latent: Tensor | Array,
        generator: torch.Generator | int | None = None,
    ) -> Tensor:
        """One x for each row of θ and latents: a draw from the decoder p(x|z, θ).

        With standard normal latents that is `sample`.

        Args:
            theta: (n, D) parameters in their units.
            latent: (n, K) as `encode` has them.
            generator: as for `sample`.

        Returns:
            (n, *x_shape) in data space, on the surrogate's device.

        Raises:
            DataError: shapes that do not fit this surrogate, or numbers that are not finite.
            UsageError: a family that has no latents.
        """
        self.require_latents()
        theta, latent = tensor_of(theta, torch.float64), tensor_of(latent)
        self._check(theta)
        expected = (len(theta), sum(map(math.prod, self.latent_shapes)))
        if tuple(latent.shape) != expected:
            raise DataError(f"latent: expected shape {expected}, got {tuple(latent.shape)}")
        if not latent.isfinite().all():
            raise DataError("latent: expected finite numbers, got nan or inf")
        rng = self._generator(generator)
        c, v = self.rescale(theta.to(self.device)), latent.to(self.device).float()
        pairs = zip(c.split(self._at_once), v.split(self._at_once), strict=True)
        parts = [self._decode(*pair, rng) for pair in pairs]
        return torch.cat([self.transform.read_out(self.transform.inverse(z)) for z in parts])

    def noise_at(self, log_snr: float) -> Tensor:
        """τ = u e^{−λ/2} of y = x + τε at a log-SNR λ, (*x_shape,) float64.

        Raises:
            UsageError: it has learnt no score of x with independent noise.
        """
        width = self.transform.width(torch.zeros(self.law.x_shape, device=self.device))
        if width is None or not self.log_snr_ends:
            raise UsageError(f"{self.name}: has learnt no score of x with independent noise")
        return width * math.exp(-log_snr / 2)

    @final
    @torch.no_grad()
    def noised_score(self, theta: Tensor | Array, y: Tensor | Array, log_snr: float) -> Tensor:
        """The learnt ∇ log p(y|θ) of y = x + τε, by Tweedie's formula (E[x|y] − y)/τ².

        Args:
            theta: (n, D) parameters in their units.
            y: (n, *x_shape).
            log_snr: λ, at which τ is `noise_at`.

        Returns:
            (n, *x_shape) float64 in units of 1/x, on the surrogate's device.

        Raises:
            DataError: shapes that do not fit this surrogate.
            UsageError: as `noise_at`.
        """
        noise = self.noise_at(log_snr)
        theta, y = tensor_of(theta, torch.float64), tensor_of(y)
        self._check(theta, y)
        c, z = self.rescale(theta.to(self.device)), self.transform(y.to(self.device))
        level, parts = torch.tensor(log_snr, device=self.device), []
        for at, rows in zip(c.split(self._at_once), z.split(self._at_once), strict=True):
            parts.append(self._denoised(at, rows, level).double() - rows.double())
        return torch.cat(parts) * math.exp(log_snr / 2) / noise

    def require_latents(self) -> None:
        """Refuse a family that has no latents.

        Raises:
            UsageError: this is one.
        """
        if not self.latent_shapes:
            raise UsageError(
                f"{self.name}: has no latents of x; expected a family that encodes, such as cvae"
            )

    @final
    @torch.no_grad()
    def restore(
        self,
        theta: Tensor | Array,
        y: Tensor | Array,
        measurement: Measurement,
        *,
        method: str = "",
        generator: torch.Generator | int | None = None,
        **options: Any,
    ) -> Restored:
        """One x for each row of θ and y, drawn given y = Mx + σε.

        Args:
            theta: (n, D) parameters in their units.
            y: (n, *y_shape) what was measured; NaN where nothing is seen.
            measurement: M and σ.
            method: one of `restorers`; the first if empty.
            generator: as for `sample`.
            **options: of the method.

        Returns:
            x (n, *x_shape) in data space, on the surrogate's device, and what its method tells of
            how well it did.

        Raises:
            UsageError: a family that restores nothing, or not by that method.
            DataError: θ or y of another shape, or not finite where seen.
        """
        method = self.restorer(method)
        theta, y = tensor_of(theta, torch.float64), tensor_of(y)
        self._check(theta)
        expected = (len(theta), *measurement.y_shape)
        if measurement.x_shape != self.law.x_shape or tuple(y.shape) != expected:
            raise DataError(
                f"y: expected shape {expected}, measured of x of shape {self.law.x_shape}; got "
                f"{tuple(y.shape)}, of {measurement.x_shape}"
            )
        y = torch.where(measurement.seen.to(y.device), y, 0.0)
        if not y.isfinite().all():
            raise DataError("y: expected finite numbers where seen, got nan or inf")
        c, y = self.rescale(theta.to(self.device)), y.to(self.device)
        z, told = self._restore(c, y, measurement, method, self._generator(generator), **options)
        return Restored(self.transform.read_out(self.transform.inverse(z)), told)

    def restorer(self, method: str = "") -> str:
        """The method of `restorers` that is asked for, the first if none is.

        Raises:
            UsageError: a family that has none, or not this one.
        """
        if not self.restorers:
            raise UsageError(f"{self.name}: has no way to draw x given a measurement y of it")
        if method and method not in self.restorers:
            known = ", ".join(self.restorers)
            raise UsageError(f"{self.name}: no method {method!r} to restore x; it has {known}")
        return method or next(iter(self.restorers))

    @final
    def log_prob(
        self,
        theta: Tensor | Array,
        x: Tensor | Array,
        *,
        draws: int | None = None,
        seed: int = 0,
        index: Tensor | None = None,
    ) -> Tensor:
        """log p(x|θ) in nats, in raw units of x (counting measure for spins); differentiable.

        Where θ or x requires a gradient it has one: that of the value itself, for the same random
        numbers. A component of nonnegative x that is 0 is an atom, by which the gradient is 0.
        Weights get no gradient; for that there is :meth:`loss`.

        Args:
            theta: (n, D) parameters in their units.
            x: (n, *x_shape).
            draws: random draws for each row; the family's default if None.
            seed: seed of the draws.
            index: (n,) which x each row is, so that one x under many θ meets the same random
                numbers; 0 … n−1 if None.

        Returns:
            (n,) float64, on the CPU; the value of :meth:`log_prob_with_error`.

        Raises:
            DataError: shapes that do not fit this surrogate, θ or x that are not finite, or x that
                is negative where it cannot be. NaN is what x lacks, where the law allows that.
            TypeError: a family without a likelihood.
            UsageError: x that requires a gradient and is discrete; and, when it is differentiated,
                a family whose log p autograd does not see, or a second derivative.
        """
        theta, x = tensor_of(theta, torch.float64), tensor_of(x)
        if not (torch.is_grad_enabled() and (theta.requires_grad or x.requires_grad)):
            return self.log_prob_with_error(theta, x, draws=draws, seed=seed, index=index).value
        self._check(theta, x)
        if x.requires_grad and self.law.discrete:
            raise UsageError(f"x: {self.law.support} are discrete and have no gradient; detach x")
        draws = draws or self.default_draws

        def value(index: Tensor, theta: Tensor, x: Tensor) -> Tensor:
            return self._scored(theta, without_slope(self.law, x), index, draws, seed)[0]

        chunks = self._chunks(theta, x, index, draws)
        return torch.cat([recomputed(t, y, partial(value, i), self.name) for t, y, i in chunks])

    @final
    @torch.no_grad()
    def log_prob_with_error(
        self,
        theta: Tensor | Array,
        x: Tensor | Array,
        *,
        draws: int | None = None,
        seed: int = 0,
        index: Tensor | None = None,
    ) -> LogProb:
        """log p(x|θ), its standard error and its kind; arguments and errors as `log_prob`.

        Args:
            theta: (n, D) parameters in their units.
            x: (n, *x_shape).
            draws: random draws for each row; the family's default if None.
            seed: seed of the draws.
            index: (n,) which x each row is.
        """
        theta, x = tensor_of(theta, torch.float64), tensor_of(x)
        self._check(theta, x)
        draws = draws or self.default_draws
        found = [
            self._scored(t, y, i, draws, seed) for t, y, i in self._chunks(theta, x, index, draws)
        ]
        value, error = (torch.cat(parts) for parts in zip(*found, strict=True))
        return LogProb(value, error, self.likelihood)

    def _chunks(
        self, theta: Tensor, x: Tensor, index: Tensor | None, draws: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Rows of θ, x and the index that are evaluated at once."""
        index = torch.arange(len(x)) if index is None else torch.as_tensor(index)
        rows = self.rows_at_once(draws)
        return zip(theta.split(rows), x.split(rows), index.split(rows), strict=True)

    def rows_at_once(self, draws: int) -> int:
        """How many rows `log_prob` evaluates at once, of so many draws each."""
        at_once = self._at_once
        if self.device.type == "cpu":
            at_once = min(at_once, max(FEWEST_ROWS, CACHED // self.law.size))
        return max(1, at_once // draws)

    def _scored(
        self, theta: Tensor, x: Tensor, index: Tensor, draws: int, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Log p and its error of one chunk, (n,) float64 each, on the CPU.

        Averaged over the images of x under the point group, if that is asked for. These share
        their draws, so that it is the same for all of them, and so that their errors add up. Of a
        lower bound it is the mean, of all else the log of the mean p.
        """
        if not self.symmetrise:
            return self._scored_plainly(theta, x, index, draws, seed)
        parts = [
            self._scored_plainly(theta, image, index, draws, seed)
            for image in Symmetries(self.law).images(x)
        ]
        value, stderr = (torch.stack(part) for part in zip(*parts, strict=True))
        if self.likelihood is Likelihood.BOUND:
            mean, weight = value.mean(0), torch.full_like(value, 1 / len(parts))
        else:
            mean, weight = value.logsumexp(0) - math.log(len(parts)), value.softmax(0)
        return mean, (weight * stderr).sum(0)

    def _scored_plainly(
        self, theta: Tensor, x: Tensor, index: Tensor, draws: int, seed: int
    ) -> tuple[Tensor, Tensor]:
        """The same of x alone."""
        x, noise = x.to(self.device), Noise(index, seed, self.device)
        with full_precision(self.device):
            value, error = self._scored_at(self.rescale(theta.to(self.device)), x, noise, draws)
        return value.cpu(), error.double().cpu()

    def _scored_at(self, c: Tensor, x: Tensor, noise: Noise, draws: int) -> tuple[Tensor, Tensor]:
        """The same at c (B, D), where x is."""
        value, error = self._log_prob(c, self.transform(x), noise, draws)
        value = value.double() + self.transform.log_det(x)
        if self.law.missing:  # nothing seen is certain
            bare = x.isnan().flatten(1).all(1)
            value, error = torch.where(bare, 0.0, value), torch.where(bare, 0.0, error)
        return value, error

    def _generator(self, given: torch.Generator | int | None) -> torch.Generator:
        """The generator that was given, one of a seed, or one that no seed tells."""
        if isinstance(given, torch.Generator):
            return given
        generator = torch.Generator(self.device)
        if given is None:
            generator.seed()
            return generator
        return generator.manual_seed(int(given))

    def _check(self, theta: Tensor, x: Tensor | None = None) -> None:
        expected = (len(theta), len(self.law.prior))
        if tuple(theta.shape) != expected:
            raise DataError(f"theta: expected shape {expected}, got {tuple(theta.shape)}")
        if not theta.isfinite().all():
            raise DataError("theta: expected finite numbers, got nan or inf")
        if x is not None and tuple(x.shape) != (len(theta), *self.law.x_shape):
            raise DataError(
                f"x: expected shape {(len(theta), *self.law.x_shape)}, got {tuple(x.shape)}"
            )
        if x is not None and not self.law.missing and x.isnan().any():
            raise DataError(
                f"x: has NaN, and this {self.name} was trained on x without missing components; "
                "train it on a dataset whose law allows them"
            )
        if x is not None and x.isinf().any():
            raise DataError("x: expected finite numbers, got inf")
        if x is not None and self.law.support == "nonnegative" and (x < 0).any():
            raise DataError(f"x: expected nonnegative, got {x[x < 0].min():.4g}")

    def describe(self) -> dict[str, Any]:
        """The surrogate as JSON data: all that is needed to build it again, but the weights."""
        return {
            "family": self.name,
            "class": class_path(type(self)),
            "options": as_json_data(asdict(self.config)),
            "law": self.law.to_json(),
            "unit": self.unit,
            "keeps_last": self.keeps_last,
        }

    def content(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What its file holds: tensors (...) by their names, and JSON data."""
        known = {k: v for k, v in self.info.items() if k not in ("format", "sha256", "weights")}
        return dict(self.state_dict()), known | self.describe()

    def __repr__(self) -> str:
        """Family, parameters → x, weights, what its log p is, and its file."""
        weights = sum(w.numel() for w in self.parameters())
        return (
            f"{type(self).__name__} ({self.name}): {', '.join(self.law.prior.names)} → "
            f"{self.law.support_text} {self.law.x_shape}, {weights:,} weights, "
            f"log p: {self.likelihood}" + (f"\n  {self.path}" if self.path else "")
        )


def refuse_unknown_options(
    method: str, given: Mapping[str, Any], known: Iterable[str] = (), reals: Iterable[str] = ()
) -> None:
    """Refuse options that a method to restore x does not have, or values that they cannot have.

    Args:
        method: its name.
        given: the options.
        known: those that it has, whole numbers of at least 1
        reals: but for these.

    Raises:
        UsageError: one of them.
    """
    for name, value in given.items():
        if name not in known:
            told = ", ".join(known) or "none"
            raise UsageError(f"{method}: no option {name!r}; it has {told}")
        real = name in reals
        if not (math.isfinite(value) if real else value >= 1 and value % 1 == 0):
            wanted = "a finite number" if real else "a whole number of at least 1"
            raise UsageError(f"{name}: expected {wanted}, got {value}")


def without_slope(law: Law, x: Tensor) -> Tensor:
    """x (B, *x_shape), with no derivative in what is discrete or an atom: it has no neighbours."""
    if law.support not in ("nonnegative", "mixed"):
        return x
    shape, device = law.x_shape, x.device
    atoms = torch.from_numpy(law.has_support("nonnegative")).to(device).view(shape) & (x == 0)
    discrete = torch.from_numpy(law.has_support("levels", "counts")).to(device).view(shape)
    return torch.where(atoms | discrete, x.detach(), x)

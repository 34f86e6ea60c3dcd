"""From a source and observations to posteriors: which methods there are, and what each needs.

===========  ==================================================================================
surrogate    ``grid``, ``smc``, ``nested``, ``mcmc``, ``rejection``, ``vi``: with its log p(x|θ)
surrogate    ``npe``, ``nre``, ``fmpe``, ``npse``, ``nle``, ``abc``: with samples drawn from it
dataset      the same six, with its rows
network      what it was trained for
===========  ==================================================================================

What comes out of a trained network is a log density of θ given x up to a function of x, like a
log p(x|θ): both become posteriors on the grid for one to three parameters, else by a tempered
population. NPE, FMPE and NPSE draw by themselves where there is no grid, or where that is asked
for; what they draw may be weighted with a surrogate's log p(x|θ), the method ``importance``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from physgen.dataset import Dataset
from physgen.dataset.assumptions import broken_assumptions
from physgen.errors import UsageError
from physgen.law import Law
from physgen.posterior.abc import nearest_simulations, unknown
from physgen.posterior.amortised import network_draws
from physgen.posterior.base import Posterior
from physgen.posterior.grid import (
    GRID,
    LogLikelihood,
    grid_posterior,
    network_grid,
    of_network,
    of_surrogate,
)
from physgen.posterior.iid import MANY, iid_posterior
from physgen.posterior.mcmc import checked_log_density, mcmc
from physgen.runtime.blocks import nothing
from physgen.runtime.kinds import did_you_mean
from physgen.runtime.progress import log
from physgen.sbi.manners import need_sbi
from physgen.sbi.networks import METHODS, Network, train
from physgen.surrogates.base import Likelihood, Surrogate
from simulators.base import Array
from simulators.prior import Prior

__all__ = [
    "Inference",
    "InferenceOptions",
    "Source",
    "choose_method",
    "inference_of",
    "refuse_unused",
]

LIKELIHOOD = ("grid", "smc", "nested", "mcmc", "rejection", "vi")
IMPORTANCE = "importance"
"""A network's draws, weighted with a surrogate's likelihood."""
SIMULATED = (*METHODS, "abc")
OF_ANY_THETA = ("nle", "nre")
"""Methods that learn p(x|θ), or its ratio to a function of x, whatever law θ follow."""
SIMULATIONS = 10_000
STEP = 1000
"""Simulations that are drawn at once."""

ROW_BY_ROW = ("nested", "rejection", "vi")
"""Methods that look at one observation after the other."""

Tell = Callable[[str], None]
"""Told what is being done; may raise, to stop."""


@dataclass(frozen=True)
class Source:
    """What is inferred with: one of a surrogate, a dataset and a trained network.

    Attributes:
        path: its file, or a stand-in for messages.
        law: what x follows, as far as it knows; its prior is where it knows θ.
        about: what is known of its making, as JSON data; its "sha256".
        surrogate: a learnt p(x|θ).
        data: rows of (θ, x).
        network: a trained network of sbi.
    """

    path: Path
    law: Law
    about: Mapping[str, Any]
    surrogate: Surrogate | None = None
    data: Dataset | None = None
    network: Network | None = None

    @property
    def kind(self) -> str:
        """Which of these it is."""
        return "data" if self.data else "network" if self.network else "surrogate"

    @property
    def methods(self) -> tuple[str, ...]:
        """What can be done with it, the default first."""
        if self.network:
            return (self.network.method,)
        if self.surrogate is None:
            return SIMULATED
        if self.surrogate.likelihood == "none":
            return SIMULATED
        few = len(self.law.prior) in GRID
        return (*(LIKELIHOOD if few else LIKELIHOOD[1:]), *SIMULATED)


@dataclass(frozen=True)
class InferenceOptions:
    """How to infer.

    Attributes:
        method: one of the source's methods.
        prior: inside the support of the source's; what it fixes is known, and no part of θ.
        samples: draws of each posterior.
        simulations: to draw from a surrogate for a method that learns from samples.
        epochs: of a training at most; sbi's early stopping if None.
        draws: random draws for each log p(x|θ).
        iid: whether all rows are one observation.
        direct: whether to draw from a network itself where there is a grid.
        refine: network whose draws a surrogate's likelihood weighs.
        seed: seed of all that is random.
    """

    method: str
    prior: Prior
    samples: int = 1000
    simulations: int | None = None
    epochs: int | None = None
    draws: int | None = None
    iid: bool = False
    direct: bool = False
    refine: Network | None = None
    seed: int = 0


@dataclass(frozen=True)
class Inference:
    """What turns observations around, once it is trained and has its simulations.

    Observations are independent: what is found of one is a function of the seed, of its place
    among all and, by ``mcmc`` and of draws, of the block of rows that it is in.

    Attributes:
        options: how.
        law: what x follow.
        surrogate: whose log p(x|θ) it is, if it is one.
        network: what was trained or read, if anything.
        simulated: θ (N, D) and x (N, *x_shape), which observations are compared with, if they are.
        likelihood: what the log p(x|θ) is; empty where there is none.
        info: JSON data.
    """

    options: InferenceOptions
    law: Law
    surrogate: Surrogate | None = None
    network: Network | None = None
    simulated: tuple[Array, Array] | None = None
    likelihood: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dims(self) -> int:
        """Number of parameters that the posteriors are of."""
        return len(self.options.prior)

    @property
    def drawn(self) -> bool:
        """Whether a network draws by itself, for single rows."""
        whole = self.options.prior.names == self.law.prior.names
        asked = self.options.direct or self.dims not in GRID
        return self.network is not None and self.network.draws and whole and asked

    @property
    def sampler(self) -> str:
        """What the posteriors of single rows are found by: a method, or a network's draws."""
        if self.options.refine:
            return "draws"
        if self.network is None:
            return self.options.method
        return "draws" if self.drawn else "grid" if self.dims in GRID else "smc"

    def posteriors(self, x: Array, first: int = 0, tell: Tell = nothing) -> list[Posterior]:
        """Posteriors of rows of x, and those of the surrogate's replicas, if it has any.

        Args:
            x: observations (n, *x_shape) that follow the law's shape and support.
            first: which of all observations the first is.
            tell: is told often how far it is, and may raise.

        Raises:
            UsageError: a method that cannot do what is asked, or sbi is not installed.
            DataError: log p is NaN or infinite.
        """
        if self.surrogate:
            every = [self.surrogate, *self.surrogate.log_z_bootstrap()]
            return [by_likelihood(one, x, self.options, tell, first) for one in every]
        if self.network:
            return [by_network(self, x, first, tell)]
        return [by_distance(self, x)]

    def log_joint(self, x: Array) -> Callable[[Array], Array]:
        """log p(x|θ) p(θ) of rows x (n, *x_shape), all of them: θ (n, k, D) → (n, k).

        Of a network it is so up to a function of x; NaN where there is none.
        """
        if not (self.surrogate or self.network):
            return unknown
        prior = self.options.prior
        if self.surrogate:
            found = likelihood_of(self.surrogate, x, self.options)
        else:
            found = network_density(self, x, self.options.iid, nothing)
        return lambda theta: checked_log_density(found(theta)) + prior.log_prob(theta)


def choose_method(source: Source, method: str | None, refine: Network | None = None) -> str:
    """The method that was asked for, or the default.

    Args:
        source: what is inferred with.
        method: what was asked for.
        refine: network whose draws are to be weighted.

    Raises:
        UsageError: one that the source has not the means for.
    """
    surrogate, known = source.surrogate, source.methods
    if refine:
        refuse_refining(source, method, refine)
        return IMPORTANCE
    if surrogate and surrogate.likelihood == "none" and method in (None, *LIKELIHOOD):
        raise UsageError(
            f"{source.path}: {surrogate.name} has no likelihood; train an sbi method, such as "
            "--method npe, on its samples"
        )
    if method not in (None, *known):
        why = "" if surrogate or method not in LIKELIHOOD else f"{method} needs a surrogate; "
        meant = did_you_mean(method, known)
        raise UsageError(f"method: {why}expected one of {', '.join(known)}, got {method!r}{meant}")
    return method or known[0]


def refuse_refining(source: Source, method: str | None, network: Network) -> None:
    """Refuse to weigh draws of a network with what has no likelihood for them.

    Raises:
        UsageError: another method, no likelihood, a network without draws, or of other (θ, x).
    """
    if source.surrogate is None or source.surrogate.likelihood == "none":
        raise UsageError(f"refine: expected a surrogate with a likelihood, got {source.path}")
    if method not in (None, IMPORTANCE):
        raise UsageError(f"refine: is the method {IMPORTANCE}; leave out --method {method}")
    if not network.draws:
        raise UsageError(f"refine: {network.method} draws no theta; use npe, fmpe or npse")
    ours, theirs = ((law.prior.names, law.x_shape) for law in (source.law, network.law))
    if ours != theirs:
        raise UsageError(f"refine: expected a network of (theta, x) {ours}, got {theirs}")


def inference_of(
    source: Source,
    options: InferenceOptions,
    tell: Tell = nothing,
    keep: Callable[[Network], None] = lambda network: None,
) -> Inference:
    """What turns observations around: trained, or with its simulations drawn, where it learns.

    Args:
        source: what is inferred with.
        options: how.
        tell: is told often how far it is, and may raise.
        keep: is given a network as soon as it is trained.

    Raises:
        UsageError: a method that cannot do what is asked, or sbi is not installed.
    """
    if source.surrogate and options.method in (*LIKELIHOOD, IMPORTANCE):
        one = source.surrogate
        return Inference(options, one.law, one, likelihood=str(one.likelihood))
    if options.method == "abc":
        return of_simulations(source, options, tell)
    network = source.network
    if network is None:
        network = trained(source, options, tell)
        keep(network)
    return Inference(options, network.law, network=network, info={"training": network.info})


def likelihood_of(
    surrogate: Surrogate,
    x: Array,
    options: InferenceOptions,
    first: int = 0,
    *,
    iid: bool | None = None,
    seed: int | None = None,
    tell: Tell = nothing,
) -> LogLikelihood:
    """log p(x|θ) of a surrogate, of what the prior leaves free, as the method asks for it.

    Methods that go row by row give all rows the same random numbers.

    Args:
        surrogate: a family with a likelihood.
        x: observations (n, *x_shape).
        options: how to infer.
        first: which of all observations the first is.
        iid: whether all rows are one observation; as the options say if None.
        seed: of the random draws; that of the options if None.
        tell: is told often how far it is, and may raise.
    """
    iid, seed = options.iid if iid is None else iid, options.seed if seed is None else seed
    alone = options.method in ROW_BY_ROW and not iid
    index = np.zeros(len(x), int) if alone else first + np.arange(len(x))
    found = of_surrogate(
        surrogate, x, draws=options.draws, seed=seed, iid=iid, index=index, tell=tell
    )
    return given(found, options.prior, surrogate.law)


def by_likelihood(
    surrogate: Surrogate, x: Array, options: InferenceOptions, tell: Tell, first: int
) -> Posterior:
    """Posteriors of x (n, *x_shape), from row `first` on, from a surrogate's log p(x|θ)."""

    def likelihood(x: Array = x, **given: Any) -> LogLikelihood:
        return likelihood_of(surrogate, x, options, first, tell=tell, **given)

    n, k, seed = 1 if options.iid else len(x), options.samples, options.seed
    if options.refine:
        return network_draws(
            options.refine, x, options.prior, k,
            log_likelihood=likelihood(), seed=seed, first=first, tell=tell,
        )  # fmt: skip
    if options.method == "grid" and options.iid and len(x) >= MANY:
        random = surrogate.likelihood is not Likelihood.EXACT
        again = likelihood(iid=False, seed=seed + 1) if random else None
        return iid_posterior(likelihood(iid=False), options.prior, len(x), again=again)
    if options.method == "grid":
        return grid_posterior(likelihood(), options.prior, n, first=first)
    if options.method in ("smc", "mcmc"):
        from physgen.posterior.smc import smc

        together = {"smc": smc, "mcmc": mcmc}[options.method]
        return together(likelihood(), options.prior, n, k, seed=seed, first=first)
    from physgen.posterior import samplers
    from physgen.posterior.nested import nested

    sampler = {"nested": nested, "rejection": samplers.rejection, "vi": samplers.vi}[
        options.method
    ]
    apart = [likelihood(x if options.iid else x[i : i + 1]) for i in range(n)]
    return sampler(apart, options.prior, k, seed=seed, first=first)


def network_density(inference: Inference, x: Array, iid: bool, tell: Tell) -> LogLikelihood:
    """A network's log density of θ given x (n, *x_shape), of what the prior leaves free."""
    network = inference.network
    if network is None:
        raise TypeError("no network")
    return watched(given(of_network(network, x, iid), inference.options.prior, network.law), tell)


def by_network(inference: Inference, x: Array, first: int, tell: Tell) -> Posterior:
    """Posteriors of x (n, *x_shape), from row `first` on, by a network: its draws or density."""
    options, network = inference.options, inference.network
    if network is None:
        raise TypeError("no network")
    if inference.drawn and (len(x) == 1 or not options.iid):
        return network_draws(
            network, x, options.prior, options.samples, seed=options.seed, first=first, tell=tell
        )
    how = network_grid(network, inference.dims)
    many = bool(how) and options.iid and len(x) >= MANY
    found = network_density(inference, x, options.iid and not many, tell)
    if many:
        return iid_posterior(found, options.prior, len(x), **how)
    return by_density(found, 1 if options.iid else len(x), options, how, first)


def by_density(
    log_density: LogLikelihood,
    n: int,
    options: InferenceOptions,
    grid: Mapping[str, Any],
    first: int = 0,
) -> Posterior:
    """Posteriors from a log density of θ given x, up to a function of x.

    They are on a grid of these options, or of a population if there are none.
    """
    if grid:
        return grid_posterior(log_density, options.prior, n, first=first, **grid)
    from physgen.posterior.smc import smc  # scipy's part of it is slow to import

    k, seed = options.samples, options.seed
    return smc(log_density, options.prior, n, k, seed=seed, first=first)


def of_simulations(source: Source, options: InferenceOptions, tell: Tell) -> Inference:
    """What compares observations with simulations under the prior that is asked for."""
    if options.iid:
        raise UsageError("abc: compares single rows; use another method with --iid")
    law, theta, x = simulations(source, options, tell)
    inner = followers(theta, law.prior, options)
    law, info = replace(law, prior=options.prior), {"simulations": int(inner.sum())}
    return Inference(options, law, simulated=(theta[inner], x[inner]), info=info)


def by_distance(inference: Inference, x: Array) -> Posterior:
    """Posteriors of x (n, *x_shape) from the simulations that come nearest."""
    if inference.simulated is None:
        raise TypeError("no simulations")
    return nearest_simulations(inference.law, *inference.simulated, x)


def trained(source: Source, options: InferenceOptions, tell: Tell) -> Network:
    """A network of sbi that has learnt from the source.

    Raises:
        UsageError: sbi is not installed.
    """
    need_sbi(options.method)
    law, theta, x = simulations(source, options, tell)
    log.info("training %s on %d simulations", options.method, len(theta))
    device = source.surrogate.device if source.surrogate else None
    found = train(
        options.method, law, theta, x,
        epochs=options.epochs, seed=options.seed, device=device,
        on_batch=lambda k: tell(f"epoch {k}"),
    )  # fmt: skip
    learnt = source.about if source.data else source.about.get("data", {})
    if known := {k: learnt[k] for k in ("failed", "columns", "sha256") if k in learnt}:
        found.info["data"] = known
    found.info["warnings"] = list(broken_assumptions(law, x)) if options.method == "nle" else []
    epochs, loss, gain = (found.info[k] for k in ("epochs", "validation_loss", "gain"))
    log.info(
        "%s: %d epochs, validation loss %.4f, of rows held out %.2f ± %.2f nats of theta",
        options.method, epochs, loss, *gain,
    )  # fmt: skip
    return found


def simulations(source: Source, options: InferenceOptions, tell: Tell) -> tuple[Law, Array, Array]:
    """The law of (θ, x) to learn from, with its prior, θ (N, D) and x (N, *x_shape).

    A surrogate draws from the prior that is asked for, a dataset has its own.

    Raises:
        UsageError: more simulations than a dataset has, or θ of another law than the prior for a
            method that takes them for its draws.
    """
    if source.data:
        if options.method not in OF_ANY_THETA:
            source.data.require_prior(
                f"{options.method} learns from theta of the prior: simulate some with --truncate, "
                f"or take --method {' or '.join(OF_ANY_THETA)}, or fit a surrogate"
            )
        rows = source.data.read(slice(0, options.simulations))
        if options.simulations and len(rows) < options.simulations:
            raise UsageError(f"{source.path}: has {len(rows)} rows, not {options.simulations}")
        return source.law, rows.labels(source.path), rows.x
    surrogate = source.surrogate
    if surrogate is None:
        raise UsageError(f"{source.path}: nothing to draw from")
    theta = options.prior.sample(
        options.simulations or SIMULATIONS, np.random.default_rng([options.seed, 1])
    )
    generator = torch.Generator(surrogate.device).manual_seed(options.seed)
    every = options.prior.complete(theta, source.law.prior.names)
    x: list[Array] = []
    for part in torch.from_numpy(every).split(STEP):
        tell(f"{len(x) * STEP:,} samples")
        x.append(surrogate.sample(part, generator).cpu().numpy())
    return replace(surrogate.law, prior=options.prior), theta, np.concatenate(x)


def given(log_likelihood: LogLikelihood, prior: Prior, law: Law) -> LogLikelihood:
    """log p(x|θ) as a function of what a prior leaves free of the parameters of a law."""
    if prior.names == law.prior.names:
        return log_likelihood
    return lambda theta, which=None: log_likelihood(prior.complete(theta, law.prior.names), which)


def followers(theta: Array, prior: Prior, options: InferenceOptions) -> Array:
    """Which rows of θ (N, D), drawn from a prior, to keep so that they follow the one asked for.

    Raises:
        UsageError: a parameter is fixed, which none of the rows obeys.
    """
    if options.prior.names != prior.names:
        fixed = ", ".join(options.prior.fixed)
        raise UsageError(f"fix: the simulations have {fixed} of all values; use a surrogate")
    if options.prior == prior:
        return np.ones(len(theta), dtype=bool)
    log_w = options.prior.log_prob(theta) - prior.log_prob(theta)
    rng = np.random.default_rng([options.seed, 2])
    return rng.random(len(theta)) < np.exp(log_w - log_w.max())


def watched(log_density: LogLikelihood, tell: Tell) -> LogLikelihood:
    """The same function, telling before each call how many points were asked for so far."""
    points = 0

    def telling(theta: Array, which: Array | None = None, /) -> Array:
        nonlocal points
        tell(f"{points:,} log densities")
        points += theta.shape[0] * theta.shape[1]
        return log_density(theta, which)

    return telling


def refuse_unused(source: Source, options: InferenceOptions, keep: bool) -> None:
    """Refuse what would have no effect.

    Args:
        source: what is inferred with.
        options: how.
        keep: whether a trained network is to be kept.

    Raises:
        UsageError: options of what is not done.
    """
    learns = options.method in METHODS and not source.network
    scored = source.surrogate and options.method in (*LIKELIHOOD, IMPORTANCE)
    draws = options.method in METHODS and METHODS[options.method].draw
    unused = {
        "direct": options.direct and not draws,
        "draws": options.draws and not scored,
        "simulations": options.simulations and not (learns or options.method == "abc"),
        "epochs": options.epochs and not learns,
    }
    for name in filter(unused.get, unused):
        raise UsageError(
            f"{name}: of no effect with {options.method} of {source.path}; leave it out"
        )
    if options.iid and (options.direct or options.refine):
        name = "direct" if options.direct else "refine"
        raise UsageError(
            f"{name}: a network draws for single rows; leave out one of --{name} and --iid, of "
            "which densities of rows multiply"
        )
    if (options.direct or options.refine) and options.prior.names != source.law.prior.names:
        fixed = ", ".join(options.prior.fixed)
        raise UsageError(f"fix: a network's draws have {fixed} of all values; its density has one")
    if options.refine and not options.prior.within(options.refine.law.prior):
        raise UsageError(
            f"refine: its prior, {options.refine.law.prior}, ends inside of the prior"
        )
    if keep and not learns:
        raise UsageError(f"network: {options.method} trains none; use --method npe")

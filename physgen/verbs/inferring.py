"""From a file and observations to posteriors: which methods there are, and what each needs.

===========  ==================================================================================
surrogate    ``grid``, ``mcmc``, ``rejection``, ``vi``: with its log p(x|θ)
surrogate    ``npe``, ``nre``, ``fmpe``, ``npse``, ``nle``, ``abc``: with samples drawn from it
dataset      the same six, with its rows
network      what it was trained for
===========  ==================================================================================

What comes out of a trained network is a log density of θ given x up to a function of x, like a
log p(x|θ): both become posteriors on the grid for one to three parameters, else by Markov chains.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from physgen import dataset
from physgen.dataset import Rows
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.nn.tensors import load_tensors
from physgen.posterior import warnings as guards
from physgen.posterior.base import Posterior
from physgen.posterior.grid import (
    GRID,
    LogLikelihood,
    grid_posterior,
    of_network,
    of_surrogate,
)
from physgen.posterior.mcmc import mcmc
from physgen.runtime.progress import log
from physgen.sbi.networks import METHODS, Network, train
from physgen.surrogates.base import Surrogate
from simulators.base import Array, Box

__all__ = [
    "Asked",
    "Inferred",
    "Source",
    "about",
    "arrays",
    "chosen",
    "infer",
    "kind_of",
    "known",
    "objections",
    "refuse_idle",
    "strangers",
]

LIKELIHOOD = ("grid", "mcmc", "rejection", "vi")
SIMULATED = (*METHODS, "abc")
SIMULATIONS = 10_000
SAMPLING = ("sampler", "sweeps")
"""Options that say how x is drawn, not from what."""
STEP = 1000
"""Simulations that are drawn at once."""

Tell = Callable[[str], None]
"""Told what is being done; may raise, to stop."""


@dataclass(frozen=True)
class Source:
    """What is inferred with: one of a surrogate, a dataset and a trained network.

    Attributes:
        path: its file.
        law: what x follows, as far as it knows; its prior is where it knows θ.
        about: what is known of its making, as JSON data; its "sha256".
        surrogate: a learnt p(x|θ).
        data: file of (θ, x).
        network: a trained network of sbi.
    """

    path: Path
    law: Law
    about: Mapping[str, Any]
    surrogate: Surrogate | None = None
    data: Path | None = None
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
class Asked:
    """How to infer.

    Attributes:
        method: one of the source's methods.
        prior: uniform prior inside the source's.
        samples: draws of each posterior.
        simulations: to draw from a surrogate for a method that learns from samples.
        epochs: of a training at most; sbi's early stopping if None.
        draws: random draws for each log p(x|θ).
        iid: whether all rows are one observation.
        seed: seed of all that is random.
    """

    method: str
    prior: Box
    samples: int = 1000
    simulations: int | None = None
    epochs: int | None = None
    draws: int | None = None
    iid: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Inferred:
    """Posteriors, and what made them.

    Attributes:
        posterior: of the observations.
        others: posteriors of the surrogate's replicas, or the posterior itself: samples come from
            these in equal parts.
        likelihood: what the log p(x|θ) was; empty where there was none.
        network: what was trained or read, if anything.
        info: JSON data.
    """

    posterior: Posterior
    others: list[Posterior]
    likelihood: str = ""
    network: Network | None = None
    info: Mapping[str, Any] = field(default_factory=dict)


def kind_of(path: Path) -> str:
    """What a file is, by its content: surrogate, network or dataset.

    Raises:
        DataError: neither a checkpoint nor HDF5.
        StorageError: the file cannot be opened.
    """
    if h5py.is_hdf5(path):
        return "dataset"
    if zipfile.is_zipfile(path):
        return str(load_tensors(path)[1].get("kind", "surrogate"))
    dataset.file_digest(path)
    raise DataError(f"{path}: expected a checkpoint or a dataset, got neither")


def chosen(source: Source, method: str | None) -> str:
    """The method that was asked for, or the default.

    Raises:
        UsageError: one that the source has not the means for.
    """
    surrogate, known = source.surrogate, source.methods
    if surrogate and surrogate.likelihood == "none" and method in (None, *LIKELIHOOD):
        raise UsageError(
            f"{source.path}: {surrogate.name} has no likelihood; train an sbi method, such as "
            "--method npe, on its samples"
        )
    if method not in (None, *known):
        why = "" if surrogate or method not in LIKELIHOOD else f"{method} needs a surrogate; "
        raise UsageError(f"method: {why}expected one of {', '.join(known)}, got {method!r}")
    return method or known[0]


def infer(source: Source, x: Array, asked: Asked, tell: Tell = lambda text: None) -> Inferred:
    """The posteriors of rows of x.

    Args:
        source: what is inferred with.
        x: observations (n, *x_shape) that follow its law's shape and support.
        asked: how.
        tell: is told often how far it is, and may raise.

    Raises:
        UsageError: a method that cannot do what is asked, or sbi is not installed.
        DataError: log p is NaN or infinite.
    """
    if source.surrogate and asked.method in LIKELIHOOD:
        one = source.surrogate
        posterior = by_likelihood(one, x, asked, tell)
        others = [by_likelihood(other, x, asked, tell) for other in one.log_z_bootstrap()]
        return Inferred(posterior, others or [posterior], str(one.likelihood))
    if asked.method == "abc":
        return by_distance(source, x, asked, tell)
    network = source.network or trained(source, asked, tell)
    n = 1 if asked.iid else len(x)
    posterior = by_density(watched(of_network(network, x, asked.iid), tell), n, asked)
    return Inferred(posterior, [posterior], network=network, info={"training": network.info})


def by_likelihood(surrogate: Surrogate, x: Array, asked: Asked, tell: Tell) -> Posterior:
    """Posteriors from a surrogate's log p(x|θ)."""

    def likelihood(x: Array) -> LogLikelihood:
        found = of_surrogate(surrogate, x, draws=asked.draws, seed=asked.seed, iid=asked.iid)
        return watched(found, tell)

    n = 1 if asked.iid else len(x)
    if asked.method == "grid":
        return grid_posterior(likelihood(x), asked.prior, n)
    if asked.method == "mcmc":
        return mcmc(likelihood(x), asked.prior, n, asked.samples, seed=asked.seed)
    from physgen.posterior import samplers

    sampler = {"rejection": samplers.rejection, "vi": samplers.vi}[asked.method]
    apart = [likelihood(x if asked.iid else x[i : i + 1]) for i in range(n)]
    return sampler(apart, asked.prior, asked.samples, seed=asked.seed)


def by_density(log_density: LogLikelihood, n: int, asked: Asked) -> Posterior:
    """Posteriors from a log density of θ given x, up to a function of x."""
    if len(asked.prior) in GRID:
        return grid_posterior(log_density, asked.prior, n, **GRID[len(asked.prior)])
    return mcmc(log_density, asked.prior, n, asked.samples, seed=asked.seed)


def by_distance(source: Source, x: Array, asked: Asked, tell: Tell) -> Inferred:
    """Posteriors from the simulations that come nearest."""
    from physgen.posterior.abc import nearest_simulations

    if asked.iid:
        raise UsageError("abc: compares single rows; use another method with --iid")
    law, theta, simulated = simulations(source, asked, tell)
    inner = asked.prior.contains(theta)
    law = replace(law, prior=asked.prior)
    posterior = nearest_simulations(law, theta[inner], simulated[inner], x)
    return Inferred(posterior, [posterior], info={"simulations": int(inner.sum())})


def trained(source: Source, asked: Asked, tell: Tell) -> Network:
    """A network of sbi that has learnt from the source."""
    law, theta, x = simulations(source, asked, tell)
    log.info("training %s on %d simulations", asked.method, len(theta))
    device = source.surrogate.device if source.surrogate else None
    found = train(
        asked.method, law, theta, x,
        epochs=asked.epochs, seed=asked.seed, device=device, on_batch=lambda k: tell(f"epoch {k}"),
    )  # fmt: skip
    epochs, loss = found.info["epochs"], found.info["validation_loss"]
    log.info("%s: %d epochs, validation loss %.4f", asked.method, epochs, loss)
    return found


def simulations(source: Source, asked: Asked, tell: Tell) -> tuple[Law, Array, Array]:
    """The law of (θ, x) to learn from, with its prior, θ (N, D) and x (N, *x_shape).

    A surrogate draws from the prior that is asked for, a dataset has its own.

    Raises:
        UsageError: more simulations than a dataset has.
    """
    if source.data:
        rows = dataset.read(source.data, slice(0, asked.simulations))
        if asked.simulations and len(rows) < asked.simulations:
            raise UsageError(f"{source.data}: has {len(rows)} rows, not {asked.simulations}")
        return source.law, rows.labels(source.data), rows.x
    surrogate = source.surrogate
    if surrogate is None:
        raise UsageError(f"{source.path}: nothing to draw from")
    theta = asked.prior.sample(
        asked.simulations or SIMULATIONS, np.random.default_rng([asked.seed, 1])
    )
    generator = torch.Generator(surrogate.device).manual_seed(asked.seed)
    x: list[Array] = []
    for part in torch.from_numpy(theta).split(STEP):
        tell(f"{len(x) * STEP:,} samples")
        x.append(surrogate.sample(part, generator).cpu().numpy())
    return replace(surrogate.law, prior=asked.prior), theta, np.concatenate(x)


def watched(log_density: LogLikelihood, tell: Tell) -> LogLikelihood:
    """The same function, telling before each call how many points were asked for so far."""
    points = 0

    def telling(theta: Array, which: Array | None = None, /) -> Array:
        nonlocal points
        tell(f"{points:,} log densities")
        points += theta.shape[0] * theta.shape[1]
        return log_density(theta, which)

    return telling


def refuse_idle(source: Source, asked: Asked, keep: bool) -> None:
    """Refuse what would have no effect.

    Args:
        source: what is inferred with.
        asked: how.
        keep: whether a trained network is to be kept.

    Raises:
        UsageError: options of what is not done.
    """
    learns = asked.method in METHODS and not source.network
    idle = {
        "draws": asked.draws and not (source.surrogate and asked.method in LIKELIHOOD),
        "simulations": asked.simulations and not (learns or asked.method == "abc"),
        "epochs": asked.epochs and not learns,
    }
    for name in filter(idle.get, idle):
        raise UsageError(
            f"{name}: of no effect with {asked.method} of {source.path}; leave it out"
        )
    if keep and not learns:
        raise UsageError(f"network: {asked.method} trains none; use --method npe")


def strangers(law: Law, rows: Rows, iid: bool = False) -> Iterator[str]:
    """What speaks against observations being of the law that was learnt, or of one θ."""
    if iid and rows.theta is not None and (rows.theta != rows.theta[0]).any():
        yield "its rows were drawn at different θ, and are taken for one observation"
    if rows.meta is None:
        return
    theirs = rows.meta.law
    if theirs.simulator != law.simulator:
        yield f"is x of {theirs.simulator}, and p(x|θ) of {law.simulator} is what was learnt"
        return
    for name, value in theirs.options.items():
        if law.options.get(name, value) != value and name not in SAMPLING:
            yield f"was made with {name} = {value}, the training with {law.options[name]}"


def known(rows: Rows, asked: Asked) -> dict[str, Array]:
    """What observations were drawn at, (n, D), under "true"; nothing if that is not known."""
    theta, meta = rows.theta, rows.meta
    if theta is None or meta is None or meta.law.prior.names != asked.prior.names:
        return {}
    if not asked.iid:
        return {"true": theta}
    return {"true": theta[:1]} if (theta == theta[0]).all() else {}


def objections(found: Inferred, arrays: Mapping[str, Array], asked: Asked) -> Iterator[str]:
    """What speaks against the posteriors."""
    told = found.posterior.diagnostics
    return guards.posterior_warnings(arrays["theta"], told, asked.prior, asked.method)


def about(source: Source, found: Inferred, asked: Asked) -> dict[str, Any]:
    """What a posterior file says of itself, as JSON data."""
    prior, told = asked.prior, found.posterior.diagnostics
    return {
        "method": asked.method,
        "parameters": list(prior.names),
        "units": [p.unit for p in prior.parameters],
        "latex": [p.latex or p.name for p in prior.parameters],
        "law": replace(source.law, prior=prior).to_json(),
        "likelihood": found.likelihood,
        "resolved": bool(np.all(told.get("resolved", True))),
        "normalised": "log_evidence" in told,
        "chains": found.posterior.chains_in(asked.samples) if len(found.others) == 1 else 1,
        "iid": asked.iid,
        "seed": asked.seed,
        "draws": asked.draws,
        **found.info,
    }


def arrays(found: Inferred, samples: int, seed: int) -> dict[str, Array]:
    """What a posterior file holds; the first axis is the observation."""
    posterior, others = found.posterior, found.others
    rng = np.random.default_rng(seed)
    share = -(-samples // len(others))
    theta = np.concatenate([p.sample(share, rng) for p in others], 1)
    if len(others) > 1:
        theta = rng.permutation(theta, axis=1)
    theta = theta[:, :samples]
    told = dict(figures(posterior))
    if not found.likelihood:
        told.pop("log_evidence", None)
    every = {
        "theta": theta,
        "log_prob": posterior.log_prob(theta),
        "mean": posterior.mean,
        "sd": posterior.sd,
        "mean_error": np.sqrt(np.mean([(p.mean - posterior.mean) ** 2 for p in others], 0)),
        **told,
    }
    return {name: values for name, values in every.items() if not np.isnan(values).all()}


def figures(posterior: Posterior) -> Iterator[tuple[str, Array]]:
    """What the method says of its own work, where it is numbers."""
    for name, values in posterior.diagnostics.items():
        if values.dtype.kind == "f":
            yield name, values

"""Who learns: any family of physgen, the networks of sbi in physgen, and sbi by itself.

All get the same rows and the same CPU time. ``nle`` and ``npe`` are sbi's networks as physgen
trains them; ``sbi-nle``, ``sbi-npe`` and, of mixed rows, ``sbi-mnle`` are sbi's own classes with
all defaults, given x as it is. sbi ends a training when 20 epochs have brought nothing; at the end
of its time it keeps its best epoch, as it does then. Rows that ``simulate=True`` draws anew are
drawn in the time of the training.
"""

from __future__ import annotations

import ast
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

import physgen
from physgen.dataset import Dataset
from physgen.nn.tensors import tensor_of
from physgen.posterior.amortised import network_draws
from physgen.posterior.grid import LogLikelihood, of_exact, of_network, of_surrogate
from physgen.sbi.manners import Tracker, single, visiting
from physgen.sbi.networks import Network, train
from physgen.sbi.prior import as_prior
from simulators.base import Array

__all__ = ["PEERS", "Learnt", "learn"]

DRAWS = 4000
"""Of each posterior of a network that draws."""
CLOCKED = ("physgen.training.trainer", "physgen.verbs.auto")
"""Modules that look at the time."""
ROWS = 10_000
"""Rows that sbi evaluates at once."""


@dataclass(frozen=True)
class Learnt:
    """What came out of a training.

    Attributes:
        log_prob: θ (n, D), x (n, *x_shape) → log p(x|θ) in nats of raw x, (n,); None without one.
        observe: x (n, *x_shape) → log p(x|θ) up to a function of x; None where it draws θ.
        draw: x (n, *x_shape) → θ (n, K, D) of its posteriors; None where it has a density of x.
        sample: θ (n, D) → x (n, *x_shape); None without samples.
        history: losses of the epochs by their names, nats a row.
        told: what there is to say in a few words.
        heats: of `fit auto`, as it tells them.
    """

    log_prob: Callable[[Array, Array], Array] | None = None
    observe: Callable[[Array], LogLikelihood] | None = None
    draw: Callable[[Array], Array] | None = None
    sample: Callable[[Array], Array] | None = None
    history: Mapping[str, list[float]] = field(default_factory=dict)
    told: str = ""
    heats: Mapping[str, Any] | None = None


def learn(method: str, data: Dataset, seed: int, seconds: float) -> Learnt:
    """Train a method for so many CPU seconds.

    Args:
        method: one of `PEERS`, or a family, auto included, with options of `physgen.fit`, as in
            ``flow:simulate=True``.
        data: rows of (θ, x).
        seed: of the training.
        seconds: of CPU time.
    """
    if method in PEERS:
        with deadline(seconds):
            return PEERS[method](data, seed)
    name, _, given = method.partition(":")
    parts = (part.partition("=") for part in given.split(",") if part)
    return of_family(name, data, seed, seconds, **{key: value(text) for key, _, text in parts})


def value(text: str) -> Any:
    """A number, True, False or, if it is none of these, the text itself."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def of_family(name: str, data: Dataset, seed: int, seconds: float, **given: Any) -> Learnt:
    """A family of physgen at its defaults, but for the options given."""
    if "simulate" in given and ":" in data.law.simulator:
        given["simulator"] = data.law.simulator
    limit = {"epochs": 100_000, "max_minutes": seconds / 60}
    with cpu_clock():
        model = physgen.fit(name, data, seed=seed, device="cpu", **limit | given)
    epochs = model.info["history"]
    history = {key: [e[key] for e in epochs] for key in ("train", "val", "cpu_seconds")}
    kept = max((e["epoch"] for e in epochs if e["best"]), default=len(epochs))
    told = f"{model.name}, {len(epochs)} epochs, best {kept}, {weights(model):,} weights"
    sample = partial(sample_of_surrogate, model)
    if model.likelihood == "none":
        return Learnt(sample=sample, history=history, told=told)

    def log_prob(theta: Array, x: Array) -> Array:
        return model.log_prob(theta, x).numpy()

    heats = model.info.get("auto")
    return Learnt(log_prob, partial(of_surrogate, model), None, sample, history, told, heats)


def sample_of_surrogate(model: Any, theta: Array) -> Array:
    """x (n, *x_shape) of a surrogate at θ (n, D)."""
    return model.sample(torch.as_tensor(theta), torch.Generator().manual_seed(0)).numpy()


def weights(module: Any) -> int:
    """Numbers that a network has learnt."""
    return sum(w.numel() for w in module.parameters())


# --- sbi's networks, as physgen trains them -----------------------------------------------------


def in_house(method: str, data: Dataset, seed: int) -> Learnt:
    """NLE or NPE of physgen."""
    network = train(method, data.law, data.theta, data.x, seed=seed)
    told = f"{network.info['epochs']} epochs, {weights(network.net):,} weights"
    if network.draws:
        return Learnt(draw=partial(drawn, network), told=told)
    log_prob = partial(raw_log_density, network)
    sample = partial(sample_of_network, network)
    return Learnt(log_prob, partial(of_network, network), None, sample, told=told)


def drawn(network: Network, x: Array) -> Array:
    """Draws of a network's posteriors of x (n, *x_shape), (n, K, D)."""
    return network_draws(network, x, network.law.prior, DRAWS).theta


def raw_log_density(network: Network, theta: Array, x: Array) -> Array:
    """log p(x|θ) of an NLE in nats of raw x, θ (n, D), x (n, *x_shape) → (n,)."""
    assert network.scale is not None  # noqa: S101  of version 0.1 only
    return network.log_density(theta, x) + network.scale.log_det(tensor_of(x)).numpy()


@torch.no_grad()
def sample_of_network(network: Network, theta: Array) -> Array:
    """x (n, *x_shape) of an NLE at θ (n, D)."""
    assert network.scale is not None  # noqa: S101  of version 0.1 only
    with visiting(0):
        seen = single(network.law.prior.to_coordinates(theta))
        z = network.net.sample((1,), seen)[0]
        return network.scale.inverse(z.reshape(-1, *network.law.x_shape)).numpy()


# --- sbi by itself ------------------------------------------------------------------------------


def alone(trainer: str, data: Dataset, seed: int) -> Learnt:
    """A class of sbi with its defaults, given θ and x as they are."""
    import sbi.inference

    order = discrete_last(data) if trainer == "MNLE" else np.arange(data.law.size)
    x = single(data.x.reshape(len(data.x), -1)[:, order])
    with visiting(seed):
        made = getattr(sbi.inference, trainer)(
            as_prior(data.law), show_progress_bars=False, tracker=Tracker()
        )
        net = made.append_simulations(single(data.theta), x).train().eval()
    losses = {"train": "training_loss", "val": "validation_loss"}
    history = {ours: list(made.summary[theirs]) for ours, theirs in losses.items()}
    told = f"{len(history['val'])} epochs, {weights(net):,} weights"
    if trainer == "NPE":
        with visiting(seed):
            posterior = made.build_posterior(net)
        return Learnt(draw=partial(accepted, posterior), history=history, told=told)
    if trainer == "NLE" and data.law.support != "reals":
        told += "; of whole numbers a density, not probabilities: compare posteriors, no gap"
    log_prob = partial(log_prob_of, net, order)
    sample = None if trainer == "MNLE" else partial(sample_of, net, data.law.x_shape)
    return Learnt(log_prob, partial(of_exact, log_prob), None, sample, history, told)


def discrete_last(data: Dataset) -> Array:
    """Components of x with the reals first, as MNLE wants them."""
    whole = (data.x == data.x.round()).all(0)
    return np.argsort(whole, kind="stable")


def accepted(posterior: Any, x: Array) -> Array:
    """Draws of sbi's NPE that lie within the prior, for x (n, *x_shape), (n, K, D).

    Where few do, it stops after twenty seconds, and what there is stands for all.
    """
    found = []
    with visiting(0):
        for row in single(x.reshape(len(x), -1)):
            theta = posterior.sample(
                (DRAWS,), x=row, show_progress_bars=False, max_sampling_time=20,
                return_partial_on_timeout=True,
            )  # fmt: skip
            found.append(np.resize(theta.numpy(), (DRAWS, theta.shape[1])))
    return np.stack(found).astype(float)


@torch.no_grad()
def log_prob_of(net: Any, order: Array, theta: Array, x: Array) -> Array:
    """log p(x|θ) of sbi's density, θ (n, D), x (n, *x_shape) → (n,)."""
    pairs = zip(
        single(theta).split(ROWS), single(x.reshape(len(x), -1)[:, order]).split(ROWS), strict=True
    )
    return torch.cat([net.log_prob(b[None], a)[0] for a, b in pairs]).double().numpy()


@torch.no_grad()
def sample_of(net: Any, shape: tuple[int, ...], theta: Array) -> Array:
    """x (n, *x_shape) of sbi's density at θ (n, D)."""
    with visiting(0):
        x: Tensor = net.sample((1,), single(theta))[0]
    return x.reshape(-1, *shape).numpy()


PEERS: Mapping[str, Callable[[Dataset, int], Learnt]] = {
    "nle": partial(in_house, "nle"),
    "npe": partial(in_house, "npe"),
    "sbi-nle": partial(alone, "NLE"),
    "sbi-npe": partial(alone, "NPE"),
    "sbi-mnle": partial(alone, "MNLE"),
}
"""Name → rows, seed → what was learnt."""


# --- time ---------------------------------------------------------------------------------------


@contextmanager
def cpu_clock() -> Iterator[None]:
    """Trainings that are given wall time count CPU time, so that others on the machine do not."""
    clock = SimpleNamespace(monotonic=time.process_time, process_time=time.process_time)
    with ExitStack() as stack:
        for name in filter(find_spec, CLOCKED):
            stack.enter_context(mock.patch.object(import_module(name), "time", clock))
        yield


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Trainings of sbi end after so many CPU seconds, with their best epoch."""
    from sbi.inference.trainers.base import NeuralInference

    end, ended = time.process_time() + seconds, NeuralInference._converged

    def converged(self: Any, epoch: int, stop_after_epochs: int) -> bool:
        late = epoch > 0 and time.process_time() >= end
        return ended(self, epoch, -math.inf if late else stop_after_epochs)

    with mock.patch.object(NeuralInference, "_converged", converged):
        yield

"""Networks of sbi that are trained once and then turn any x around: NPE, NLE, NRE, FMPE, NPSE.

Each learns, from (θ, x), a log density of θ given x up to a function of x: log p(θ|x) (NPE, FMPE,
NPSE), log p(x|θ) (NLE) or log p(x|θ)/p(x) (NRE). What the first three learn holds the prior of the
training; without it, it is a log p(x|θ)/p(x) too. So what makes a posterior of a surrogate's
likelihood makes one of them all: none leaks out of the prior, any prior inside the one that they
were trained on will do, and independent rows multiply (sbi's own posteriors offer that for NLE and
NRE only). The first three are draws as well: noise, mapped by the network. What of these lies
outside of the prior's support is drawn again, and told.

They work in float32, and sbi takes a width below 1e-14 for that. So θ enters in its prior's own
coordinates and x as `physgen.nn.embedding.scaled_for` maps it, both mapped in float64. x is
embedded once, for however many θ and steps of an ODE; what is missing of it is 0, beside a mask.
What a network has learnt is told by what it says of simulations held out (`gain`).

A network is saved as weights and JSON, and built again by name: no code is pickled. Greenberg et
al. 2019 (NPE-C), Papamakarios et al. 2019 (NLE), Durkan et al. 2020 (NRE-B), Wildberger et al.
2023 (FMPE), Geffner et al. 2023 (NPSE).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy  # its parts are imported where they are first used
import torch
from torch import Tensor, nn

from physgen.errors import DataError, UsageError, as_written
from physgen.law import Law
from physgen.nn.embedding import embedding, scaled_for, with_mask
from physgen.nn.tensors import load_tensors, save_tensors, tensor_of
from physgen.nn.transforms import Related, Transform
from physgen.sbi.manners import Tracker, need_sbi, single, visiting
from physgen.sbi.prior import coordinate_prior
from simulators.base import Array

__all__ = ["METHODS", "Network", "train"]

RATE = 1e-3
"""Learning rate: twice sbi's default, and no worse in trials."""
PAIRS = 2**14
"""Pairs (θ, x) that are evaluated at once."""
SPARE, LEAST_INSIDE = 1.1, 0.01
"""Draws for each that is expected inside of the prior, and what part of them must lie there."""
LEAST, BATCH = 100, (50, 200)
"""Simulations to train on, at least; rows of a batch: a hundredth of them, within these."""
AMONG = 8
"""θ among which that of each row held out is to be told."""
SCALE = "scale."
"""In a file the names of the tensors by which x is scaled begin so."""
TOLERANCES = {"atol": 1e-5, "rtol": 1e-4}
"""Of an ODE: ten times sbi's own, and within 1e-4 widths and 4e-3 nats of a hundredth of them."""
STRAIGHT = {"atol": 1e-4, "rtol": 1e-3}
"""The same of flow matching, whose paths are straighter: within 3e-4 widths."""
CATEGORIES = 64
"""Levels that sbi's network of categories is asked to hold, at most."""

NO_DENSITY = {
    "nonnegative": "x with zeros among densities",
    "counts": "counts without a limit",
    "mixed": "columns of different kinds",
}
Builder = Callable[[Tensor, Tensor], nn.Module]
OfPairs = Callable[[Any, Tensor, Tensor], Tensor]
"""A network that sees features, θ or noise (N, D), features of x (N, …) → of each pair."""


@dataclass(frozen=True)
class Method:
    """How sbi is called for one of its methods.

    Attributes:
        trainer: class in `sbi.inference`.
        network: its argument that builds the network.
        build: law → builder of the network from rows of θ and of x, as it sees them.
        density: network, θ (N, D), features of x (N, …) → its log density, (N,).
        embedding: where in sbi's network the one that makes the features is; none if empty.
        draw: network, noise (N, D), features of x (N, …) → θ, (N, D); None of one that cannot.
        held: rows held out that say what was learnt, at most: an ODE is dear.
        view: law, x → x as the network sees it.
        is_field: whether its density is that of a vector field, by an ODE.
    """

    trainer: str
    network: str
    build: Callable[[Law], Builder]
    density: OfPairs
    embedding: str = ""
    draw: OfPairs | None = None
    held: int = 200
    view: Callable[[Law, Tensor], Tensor] = with_mask
    is_field: bool = False


def with_features(
    factory: str, model: str, argument: str = "embedding_net"
) -> Callable[[Law], Builder]:
    """A network from one of sbi's factories that sees features of x.

    Args:
        factory: its name in `sbi.neural_nets`.
        model: the kind of network.
        argument: what the factory calls the network of features.
    """

    def of(law: Law) -> Builder:
        def build(theta: Tensor, x: Tensor) -> nn.Module:
            from sbi import neural_nets

            features = {argument: embedding(law, x)}
            return getattr(neural_nets, factory)(model, z_score_x="none", **features)(theta, x)

        return build

    return of


npe = with_features("posterior_nn", "nsf")
nre = with_features("classifier_nn", "resnet", "embedding_net_x")
fmpe = with_features("posterior_flow_nn", "mlp")
npse = with_features("posterior_score_nn", "mlp")


def nle(law: Law) -> Builder:
    """A flow over real x; over spins and levels a masked network of categories.

    A flow over ±1 is the named bad example of benchmarks/posterior_ising.py: its loss falls while
    its posterior worsens. Over x with atoms at 0 it would do the same.

    Raises:
        UsageError: x for which sbi has no density.
    """
    what = NO_DENSITY.get(law.support, "so many levels" if law.levels > CATEGORIES else "")
    if what:
        raise UsageError(f"nle: sbi has no density for {what}; physgen fit has, or use npe or nre")

    if law.missing:
        raise UsageError(
            "nle: sbi's density cannot leave out missing components; physgen fit cvae can, or "
            "take npe or nre, which see the mask"
        )

    def build(theta: Tensor, x: Tensor) -> nn.Module:
        if law.support == "reals":
            from sbi.neural_nets import likelihood_nn

            return likelihood_nn("maf")(theta, x)
        from sbi.neural_nets.estimators import CategoricalMADE, CategoricalMassEstimator
        from sbi.utils.sbiutils import standardizing_net

        wide = nn.Sequential(standardizing_net(theta), nn.Linear(theta.shape[1], 32), nn.ReLU())
        made = CategoricalMADE(
            torch.full((x.shape[1],), law.levels or 2),
            128,
            num_context_features=32,
            embedding_net=wide,
        )
        return CategoricalMassEstimator(made, x[0].shape, theta[0].shape)

    return build


def components(law: Law, x: Tensor) -> Tensor:
    """x (B, *x_shape) → (B, N): spins as 0 and 1, and what is told by others left out."""
    flat = x.flatten(1)
    return (flat + 1) / 2 if law.support == "spins" else flat[:, flat[0].isfinite()]


def of_theta(net: Any, theta: Tensor, x: Tensor) -> Tensor:
    """log p(θ|x) of a flow over θ, (N,), for θ (N, D) and x (N, …)."""
    return net.log_prob(theta[None], x)[0]


def of_x(net: Any, theta: Tensor, x: Tensor) -> Tensor:
    """log p(x|θ), (N,), for θ (N, D) and x (N, …)."""
    return net.log_prob(x[None], theta)[0]


def of_ratio(net: Any, theta: Tensor, x: Tensor) -> Tensor:
    """log p(x|θ)/p(x), (N,), for θ (N, D) and x (N, …)."""
    return net.unnormalized_log_ratio(theta, x)


def of_field(tolerances: Mapping[str, float], net: Any, theta: Tensor, x: Tensor) -> Tensor:
    """log p(θ|x) of a vector field by its ODE, (N,), for θ (N, D) and x (N, …)."""
    return ode(tolerances, net, x).log_prob(theta[None])[0]


def by_flow(net: Any, noise: Tensor, x: Tensor) -> Tensor:
    """θ (N, D) of a flow over θ, for normal noise (N, D) and x (N, …)."""
    return net.net._transform.inverse(noise, context=x)[0]


def by_field(tolerances: Mapping[str, float], net: Any, noise: Tensor, x: Tensor) -> Tensor:
    """θ (N, D) of a vector field by its ODE, for normal noise (N, D) and x (N, …)."""
    return ode(tolerances, net, x).transform.inv(net.mean_base + net.std_base * noise)


def ode(tolerances: Mapping[str, float], net: Any, x: Tensor) -> Any:
    """The flow over θ that a vector field makes, for x (N, …)."""
    from sbi.inference.potentials.vector_field_potential import VectorFieldBasedPotential

    return VectorFieldBasedPotential(net, None, neural_ode_kwargs=dict(tolerances)).neural_ode(x)


def field_method(trainer: str, build: Callable[[Law], Builder], tolerances: Any) -> Method:
    """How sbi is called for a vector field, whose ODE is solved to these tolerances."""
    density, draw = partial(of_field, tolerances), partial(by_field, tolerances)
    return Method(
        trainer, "vf_estimator", build, density, "_embedding_net", draw, held=20, is_field=True
    )


METHODS = {
    "npe": Method("NPE", "density_estimator", npe, of_theta, "net._embedding_net", by_flow),
    "nle": Method("NLE", "density_estimator", nle, of_x, view=components),
    "nre": Method("NRE", "classifier", nre, of_ratio, "embedding_net_x"),
    "fmpe": field_method("FMPE", fmpe, STRAIGHT),
    "npse": field_method("NPSE", npse, TOLERANCES),
}


def apart(net: Any, embedding: str) -> tuple[nn.Module, nn.Module]:
    """The part of a network that makes features of x, and a network that is given these.

    Args:
        net: of sbi.
        embedding: where in it the first part is; the identity if empty.
    """
    if not embedding:
        return nn.Identity(), net
    first = net.get_submodule(embedding)
    head: Any = copy.deepcopy(net, {id(first): nn.Identity()})
    example = next(net.parameters()).new_zeros(1, *net.condition_shape)
    head._condition_shape = head.x_shape = first(example).shape[1:]
    return first, head


@dataclass(frozen=True)
class Network:
    """A trained network of sbi, and what it was trained on.

    Attributes:
        method: its name in `METHODS`.
        law: what its x followed; its prior is where θ was trained.
        net: the network, in evaluation mode.
        scale: the map by which it sees x; None of one of version 0.1, which sees x and θ as
            they are.
        info: JSON data: epochs, losses, gain, simulations, data, seed.
        path: its file; None in memory.
    """

    method: str
    law: Law
    net: nn.Module
    scale: Transform | None
    info: dict[str, Any]
    path: Path | None = None

    @property
    def summary(self) -> str:
        """What to tell a person."""
        weights = sum(w.numel() for w in self.net.parameters())
        text = f"{self.method} of {', '.join(self.law.prior.names)}, {weights:,} weights"
        return f"{self.path}: {text}" if self.path else text

    @cached_property
    def parts(self) -> tuple[nn.Module, nn.Module]:
        """The network that makes features of x, and the one that is given these."""
        with torch.no_grad():
            return apart(self.net, METHODS[self.method].embedding)

    @property
    def draws(self) -> bool:
        """Whether it can draw θ by itself."""
        return METHODS[self.method].draw is not None

    @property
    def is_field(self) -> bool:
        """Whether its density is that of a vector field, by an ODE."""
        return METHODS[self.method].is_field

    @torch.no_grad()
    def log_density(self, theta: Array, x: Array, which: Array | None = None) -> Array:
        """log p(x|θ) up to a function of x; of NPE, FMPE and NPSE log p(θ|x)/p(θ).

        Args:
            theta: (N, D) parameters in their units.
            x: (n, *x_shape).
            which: the row of x of each θ, (N,); one each if None.

        Returns:
            (N,) float64, in nats.
        """
        how, net = METHODS[self.method], self.parts[1]
        used, rows = np.unique(np.arange(len(x)) if which is None else which, return_inverse=True)
        seen, c = self.features(x[used]), theta_as_seen(self.law, self.scale, theta)
        pairs = zip(c.split(PAIRS), torch.as_tensor(rows).split(PAIRS), strict=True)
        parts = [how.density(net, some.to(seen), seen[i]).double().cpu() for some, i in pairs]
        found = torch.cat(parts).numpy()
        return found - self._prior_density(theta) if self.draws else found

    @torch.no_grad()
    def draw(
        self, x: Array, k: int, seed: int = 0, index: Array | None = None
    ) -> tuple[Array, Array]:
        """Draws from the network itself, those outside of the prior's support left out.

        A row's draws are a function of the seed, its place and its x.

        Args:
            x: (n, *x_shape).
            k: draws for each row.
            seed: seed of the noise.
            index: which x of a larger set each row is, (n,).

        Returns:
            θ in the prior's own coordinates, (n, k, D), and what part of all draws lay outside,
            (n,).

        Raises:
            UsageError: NLE or NRE, which have none.
            DataError: a network that draws hardly any θ of the prior's support.
        """
        if not self.draws:
            raise UsageError(f"{self.method}: has a density of theta, and no draws of it")
        places = range(len(x)) if index is None else index
        rows = zip(self.features(x).split(1), places, strict=True)
        with visiting(seed):
            found = [self._inside(seen, k, np.random.default_rng([seed, i])) for seen, i in rows]
        return np.stack([c for c, _ in found]), np.array([leak for _, leak in found])

    def _inside(self, seen: Tensor, k: int, rng: np.random.Generator) -> tuple[Array, float]:
        """The first k draws (k, D) inside of the support, for features of one x, and the leak."""
        prior, dims = self.law.prior, len(self.law.prior)
        c = np.empty((0, dims))
        while True:
            inside = np.flatnonzero(prior.reaches(c))
            if len(inside) >= k:
                return c[inside[:k]], 1 - k / (inside[k - 1] + 1)
            if len(inside) + 10 < LEAST_INSIDE * len(c):
                raise DataError(
                    f"{self.method}: of {len(c)} draws for one x {len(inside)} lie inside of the "
                    "prior; look whether x is like that of the training, or train longer"
                )
            missing = (k - len(inside)) * (len(c) + 1) / (len(inside) + 1)
            m = min(math.ceil(SPARE * missing), PAIRS)
            c = np.concatenate([c, self._mapped(rng.standard_normal((m, dims)), seen)])

    def _mapped(self, noise: Array, seen: Tensor) -> Array:
        """What noise (m, D) becomes, in coordinates, for features of one x (1, …)."""
        draw: Any = METHODS[self.method].draw
        z = single(noise).to(self.device)
        c = draw(self.parts[1], z, seen.expand(len(z), *seen.shape[1:])).double().cpu().numpy()
        return c if self.scale else self.law.prior.to_coordinates(c)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return next(self.net.parameters()).device

    def features(self, x: Array) -> Tensor:
        """What the network makes of x (n, *x_shape) before it meets θ, (n, …)."""
        seen = x_as_seen(METHODS[self.method], self.law, self.scale, x).split(PAIRS)
        return torch.cat([self.parts[0](part.to(self.device)) for part in seen])

    def _prior_density(self, theta: Array) -> Array:
        """Log density of the training's θ where the network sees it, (N,)."""
        prior = self.law.prior
        if not self.scale:
            return prior.log_prob(theta.clip(prior.low, prior.high))
        return prior.log_density(prior.to_coordinates(theta).clip(*prior.ends))

    def save(self, path: Path) -> None:
        """Write the network: weights and JSON."""
        save_tensors(path, *self.content())

    def content(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What its file holds: tensors (...) by their names, and JSON data."""
        about = {"kind": "network", "method": self.method, "law": self.law.to_json()}
        tensors = dict(self.net.state_dict())
        if self.scale:
            about["coordinates"] = "prior"
            tensors |= {SCALE + name: v for name, v in self.scale.state_dict().items()}
        return tensors, self.info | about

    @classmethod
    def load(cls, path: Path, device: torch.device) -> Network:
        """Read what `save` wrote.

        Raises:
            DataError: a file that is none, is damaged, or does not fit its own description.
            UsageError: sbi is not installed.
        """
        weights, info = load_tensors(path)
        if info.get("kind") != "network" or str(info.get("method")) not in METHODS:
            raise DataError(f"{path}: not a network of {', '.join(METHODS)}")
        need_sbi(f"{path}: {info['method']}")
        with as_written(path, "weights do not fit their own description"):
            law, how = Law.from_json(info["law"]), METHODS[info["method"]]
            rng, x, scale = np.random.default_rng(0), _example(law), None
            if info.get("coordinates") == "prior":
                scale = scaled_for(law, x)
                theirs = [name for name in weights if name.startswith(SCALE)]
                scale.load_state_dict({n.removeprefix(SCALE): weights.pop(n) for n in theirs})
                x = torch.where(scale.kept, x, torch.inf) if isinstance(scale, Related) else x
            with visiting(0):
                net = how.build(law)(single(law.prior.sample(8, rng)), how.view(law, x))
            net.load_state_dict(weights)
        ours = ("format", "kind", "method", "law", "coordinates")
        known = {k: v for k, v in info.items() if k not in ours}
        net = net.eval().requires_grad_(False).to(device)
        return cls(info["method"], law, net, scale, known, path)


def theta_as_seen(law: Law, scale: Transform | None, theta: Array) -> Tensor:
    """θ (N, D) in their units as a network sees it, (N, D) float32: as it is without a scale."""
    return single(law.prior.to_coordinates(theta) if scale else theta)


def x_as_seen(how: Method, law: Law, scale: Transform | None, x: Array) -> Tensor:
    """x (N, *x_shape) as a network sees it, (N, …) float32: as it is without a scale.

    Raises:
        DataError: components are missing, and the network was not trained on such x.
    """
    if not law.missing and np.isnan(x).any():
        raise DataError(
            "x: has NaN, and this network was trained on x without missing components; train one "
            "on a dataset whose law allows them"
        )
    return how.view(law, scale(tensor_of(x)) if scale else single(x))


def _example(law: Law) -> Tensor:
    """Rows of x that a network can be built from; its scales come with the weights."""
    x = torch.arange(8 * law.size).reshape(8, *law.x_shape) % 2
    return single(2 * x.numpy() - 1 if law.support == "spins" else x.numpy())


def train(
    method: str,
    law: Law,
    theta: Array,
    x: Array,
    *,
    epochs: int | None = None,
    seed: int = 0,
    device: torch.device | None = None,
    on_batch: Callable[[int], None] = lambda epoch: None,
) -> Network:
    """Train a network of sbi on simulations.

    Args:
        method: one of `METHODS`.
        law: what they follow; its prior is that of θ.
        theta: (N, D) parameters.
        x: (N, *x_shape).
        epochs: epochs at most; until the validation loss has not improved for 20 if None.
        seed: seed of weights, order and noise.
        device: where to train.
        on_batch: is told before each batch in which epoch it is, from 1, and may raise.

    Raises:
        UsageError: too few simulations, or x that the method is not for.
    """
    if len(theta) < LEAST:
        raise UsageError(f"{method}: expected at least {LEAST} simulations, got {len(theta)}")
    how, device = METHODS[method], device or torch.device("cpu")
    build = how.build(law)
    scale = scaled_for(law, tensor_of(x), tensor_of(theta, torch.float64))
    with visiting(seed):
        import sbi.inference

        trainer = getattr(sbi.inference, how.trainer)(
            prior=coordinate_prior(law.prior, device),
            device=str(device),
            tracker=Tracker(),
            show_progress_bars=False,
            **{how.network: build},
        )
        loaders = trainer.get_dataloaders
        trainer.get_dataloaders = lambda *args, **given: tuple(
            Batches(loader, on_batch) for loader in loaders(*args, **given)
        )
        seen = theta_as_seen(law, scale, theta), x_as_seen(how, law, scale, x)
        trainer.append_simulations(*seen, data_device="cpu")
        most = {} if epochs is None else {"max_num_epochs": max(1, epochs - 1)}
        batch = int(np.clip(len(theta) // 100, *BATCH))
        net = trainer.train(training_batch_size=batch, learning_rate=RATE, **most)
    loss = float(trainer.summary["best_validation_loss"][-1])
    if not math.isfinite(loss):
        raise DataError(f"{method}: its loss is {loss}; look at x with physgen inspect --verify")
    info: dict[str, Any] = {
        "simulations": len(theta),
        "epochs": int(trainer.summary["epochs_trained"][-1]),
        "validation_loss": loss,
        "seed": seed,
    }
    network = Network(method, law, net.eval().requires_grad_(False), scale, info)
    held = np.asarray(trainer.val_indices)[: how.held]
    info["gain"] = gain(network, theta[held], x[held])
    return network


def gain(network: Network, theta: Array, x: Array) -> list[float]:
    r"""What a network tells of θ, of simulations held out, in nats, and its standard error.

    The mean of log q(θ_i|x_i) − log Σ_j q(θ_j|x_i)/K over K θ of these, θ_i among them: 0 where
    it knows no more than the prior, less where it misleads, and no more than I(θ; x) or log K
    (van den Oord et al. 2018, arXiv:1807.03748). A function of x in log q drops out.

    Args:
        network: of any method.
        theta: (N, D).
        x: (N, *x_shape).
    """
    n, k = len(theta), min(AMONG, len(theta))
    which = (np.arange(n)[:, None] + np.arange(k)) % n
    rows = np.arange(n).repeat(k)
    found = network.log_density(theta[which.ravel()], x, rows).reshape(n, k)
    told = found[:, 0] - scipy.special.logsumexp(found, 1) + math.log(k)
    return [float(told.mean()), float(told.std() / math.sqrt(n))]


class Batches:
    """The batches of one of sbi's loaders by direct indexing: row by row it is 70 times slower.

    Args:
        loader: of rows that lie in memory, in random order, whole batches only.
        on_batch: is told before each batch in which epoch it is, from 1.
    """

    def __init__(self, loader: Any, on_batch: Callable[[int], None]) -> None:
        self.tensors = loader.dataset.tensors
        self.index = torch.as_tensor(loader.sampler.indices)
        self.batch_size: int = loader.batch_size
        self.on_batch, self.epoch = on_batch, 0

    def __len__(self) -> int:
        return len(self.index) // self.batch_size

    def __iter__(self) -> Iterator[list[Tensor]]:
        self.epoch += 1
        order = self.index[torch.randperm(len(self.index))]
        for rows in order.split(self.batch_size)[: len(self)]:
            self.on_batch(self.epoch)
            yield [t[rows] for t in self.tensors]

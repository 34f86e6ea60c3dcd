r"""Variance of gradients: reparametrised and score function, with each baseline; discrete latents.

    python -m benchmarks.gradients [--epochs 20] [--seeds 2] [--draws 200] [--out gradients.png]

The law is three Gaussian bumps whose weights, places and widths follow θ, with an exact log p. Of
a conditional VAE at the same weights each estimator is drawn many times, of 64 rows and four draws
of the latents each; its *noise* is the root of the sum of its variances over the weights by which
the encoder ends in q(z|x, θ). *Off* is how far the mean of all is from the exact gradient, in
squares, over what noise explains: on average 1 where there is no bias (of about three independent
numbers, so that 5 happens once in 500 times). The exact gradient is a sum over all
states, or over all tuples of four of them; of normal latents it is the mean of other draws of the
reparametrised one. The control has a baseline to which each draw itself belongs.

The second table is of trainings: the gap in nats, mean over held-out rows of exact log p − log p,
and of discrete latents the signal to noise of both estimators where the first seed ended: size of
the exact gradient over the noise of a batch (Rainforth et al. 2018, arXiv:1802.04537).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import physgen
from physgen.nn.score_function import leave_one_out, reinforce, vimco
from physgen.surrogates import cvae
from physgen.surrogates.cvae import CVAE
from simulators.base import Array
from simulators.prior import Box

K = cvae.SCORE_DRAWS
Estimate = Callable[[Tensor, Tensor], Tensor]


class Told(NamedTuple):
    """Of an estimator: size of the exact gradient, noise of a batch, and *off*."""

    size: float
    noise: float
    off: float


class Bumps:
    """Three Gaussian bumps in the plane, of weights, places and widths given θ = (a, b)."""

    prior = Box(a=(-1.0, 1.0), b=(-1.0, 1.0))
    x_shape = (2,)

    def bumps(self, theta: Array) -> tuple[Array, Array, Array]:
        """Weights (n, 3), means (n, 3, 2) and widths (n, 3) given θ (n, 2)."""
        a, b = theta.T
        one = np.ones_like(a)
        weight = np.exp(np.stack([0 * one, a, -b], 1))
        x = np.stack([a - 3, 3 * one, a], 1)
        y = np.stack([0 * one, 2 * b, 4 - b], 1)
        width = np.stack([np.exp(0.3 * b), one, np.exp(-0.3 * a) / 1.5], 1)
        return weight / weight.sum(1, keepdims=True), np.stack([x, y], 2), width

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One x for each θ (n, 2), (n, 2)."""
        weight, mean, width = self.bumps(theta)
        k = (rng.random((len(theta), 1)) > weight.cumsum(1)[:, :-1]).sum(1)
        row = np.arange(len(theta))
        return mean[row, k] + width[row, k, None] * rng.normal(size=(len(theta), 2))

    def log_prob(self, theta: Array, x: Array) -> Array:
        """Exact log p of x (n, 2) given θ (n, 2), (n,)."""
        weight, mean, width = self.bumps(theta)
        r2 = ((x[:, None] - mean) ** 2).sum(2) / width**2
        return np.logaddexp.reduce(np.log(weight / (2 * math.pi * width**2)) - r2 / 2, axis=1)


def plain(log_w: Tensor) -> Tensor:
    """The bound log (1/K) Σ w of log w (B, K), (B,)."""
    return log_w.logsumexp(1) - math.log(log_w.shape[1])


def of_itself(f: Tensor, log_q: Tensor) -> Tensor:
    """The control: a baseline to which the draw belongs, of f (B, K), (B,)."""
    return reinforce(f, log_q, f.mean(1, keepdim=True)).mean(1)


ESTIMATES: dict[str, tuple[str, Estimate]] = {
    "ELBO, no baseline": ("elbo", lambda f, log_q: reinforce(f, log_q).mean(1)),
    "ELBO, mean of all rows": ("elbo", lambda f, log_q: reinforce(f, log_q, f.mean()).mean(1)),
    "ELBO, leave-one-out": ("elbo", leave_one_out),
    "ELBO, own draw in baseline (control)": ("elbo", of_itself),
    "IWAE, no baseline": ("iwae", lambda w, log_q: reinforce(plain(w), log_q.sum(1))),
    "IWAE, VIMCO": ("iwae", vimco),
}
"""Bound of which it is the gradient, and the estimate from f or log w, and log q, (B, K) each."""


def drawn(model: CVAE, c: Tensor, z: Tensor, generator: torch.Generator, pathwise: bool) -> Any:
    """F, log w and log q of K draws for each row, (B, K) each."""
    features = model.hierarchy.encode(z, c)
    trace, log_p = model._drawn(c, z, cvae.fresh(generator), features, K, pathwise)
    log_ratio, log_q = (v.view_as(log_p) for v in (trace.log_ratio, trace.log_drawn))
    return log_p - trace.kl.sum(1).view_as(log_p), log_p + log_ratio, log_q


def gradient(model: CVAE, value: Tensor) -> Tensor:
    """Of the mean of value (B,) over rows, by the weights by which q is told, (P,)."""
    weights = list(model.hierarchy.levels[0].q.parameters())
    found = torch.autograd.grad(value.mean(), weights, retain_graph=True)
    return torch.cat([g.flatten() for g in found]).double()


def estimates(
    model: CVAE, c: Tensor, z: Tensor, generator: torch.Generator
) -> Iterator[tuple[str, str, Tensor]]:
    """Name, bound and one draw (P,) of each estimator."""
    f, log_w, log_q = drawn(model, c, z, generator, False)
    for name, (bound, estimate) in ESTIMATES.items():
        yield name, bound, gradient(model, estimate(f if bound == "elbo" else log_w, log_q))
    if model.config.latents == "normal":
        f, log_w, _ = drawn(model, c, z, generator, True)
        yield "ELBO, reparametrised", "elbo", gradient(model, f.mean(1))
        yield "IWAE, reparametrised", "iwae", gradient(model, plain(log_w))


def exact(model: CVAE, c: Tensor, z: Tensor) -> dict[str, Tensor]:
    """The exact gradient of each bound, (P,), by sums over states, and tuples of them."""
    states = model.hierarchy.states
    if states is None:
        return {}
    many = states.repeat(len(z), 1)
    features = model.hierarchy.encode(z, c)
    trace, log_p = model._drawn(c, z, lambda _, s: many.view(s), features, len(states))
    log_q = trace.log_drawn.view_as(log_p)
    log_w = log_p + trace.log_ratio.view_as(log_p)
    tuples = torch.cartesian_prod(*[torch.arange(len(states))] * K)
    p = log_q[:, tuples].sum(2).exp()
    bound = log_w[:, tuples].logsumexp(2) - math.log(K)
    values = {"elbo": (log_q.exp() * log_w).sum(1), "iwae": (p * bound).sum(1)}
    return {name: gradient(model, value) for name, value in values.items()}


def noise(model: CVAE, draws: int, rows: int = 64) -> dict[str, Told]:
    """Size of the gradient, noise of one batch and *off* of each estimator."""
    law, rng = Bumps(), np.random.default_rng(1)
    theta = law.prior.sample(rows, rng)
    z = model.transform(torch.from_numpy(law.sample(theta, rng)).float())
    c = model.rescale(torch.from_numpy(theta))
    found: dict[tuple[str, str], list[Tensor]] = {}
    generator = torch.Generator().manual_seed(0)
    for _ in range(draws):
        for name, bound, value in estimates(model, c, z, generator):
            found.setdefault((name, bound), []).append(value)
    truth, rest = exact(model, c, z), dict.fromkeys(("elbo", "iwae"), 0.0)
    if not truth:
        other: dict[str, list[Tensor]] = {"elbo": [], "iwae": []}
        for _ in range(draws):
            f, log_w, _ = drawn(model, c, z, generator, True)
            other["elbo"].append(gradient(model, f.mean(1)))
            other["iwae"].append(gradient(model, plain(log_w)))
        truth = {bound: torch.stack(v).mean(0) for bound, v in other.items()}
        rest = {bound: float(torch.stack(v).var(0).sum()) / draws for bound, v in other.items()}
    told = {}
    for (name, bound), values in found.items():
        many = torch.stack(values)
        variance = float(many.var(0).sum())
        square = float((many.mean(0) - truth[bound]).square().sum())
        off = square / (variance / draws + rest[bound])
        told[name] = Told(float(truth[bound].norm()), math.sqrt(variance), off)
    return told


DISCRETE = ("ELBO, leave-one-out", "IWAE, VIMCO")
"""The estimators by which discrete latents are trained."""
MODELS: dict[str, dict[str, Any]] = {
    "mixture": {"latents": "mixture", "latent_dim": 4},
    "binary": {"latents": "binary", "latent_dim": 2},
    "normal": {"head": "mixture", "components": 1, "latent_dim": 2},
}
TRAININGS: dict[str, dict[str, Any]] = {
    "four states, ELBO": MODELS["mixture"],
    "four states, ELBO without warm-up": MODELS["mixture"] | {"warm_up": 0.0},
    "four states, VIMCO of 4": MODELS["mixture"] | {"importance_draws": 4},
    "two bits, ELBO": MODELS["binary"],
    "two normal latents, reparametrised": MODELS["normal"],
    "two normal latents, score function": MODELS["normal"] | {"gradient": "score"},
    "head mixture of four, by its likelihood": {"head": "mixture", "components": 4},
}


def trained(epochs: int, seed: int, **options: Any) -> tuple[CVAE, float]:
    """A model, and the CPU seconds that it took."""
    data = physgen.simulate(Bumps(), n=10_000, seed=1)
    start = time.process_time()
    model = physgen.fit("cvae", data, epochs=epochs, seed=seed, learning_rate=1e-3, **options)
    return model, time.process_time() - start


def gap(model: CVAE, rows: int = 5000) -> tuple[float, float]:
    """Mean of exact log p − log p over fresh rows, and its standard error."""
    law, rng = Bumps(), np.random.default_rng(2)
    theta = law.prior.sample(rows, rng)
    x = law.sample(theta, rng)
    off = law.log_prob(theta, x) - model.log_prob(theta, x).numpy()
    return float(off.mean()), float(off.std() / math.sqrt(rows))


def drawing(measured: dict[str, dict[int, dict[str, Told]]], out: str) -> None:
    """Noise of each estimator by the epochs of training, a panel for each kind of latents."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.2), layout="constrained")
    panels = figure.subplots(1, len(measured), sharey=True)
    names = [n for n in (*ESTIMATES, "ELBO, reparametrised", "IWAE, reparametrised")
             if "control" not in n]  # fmt: skip
    for panel, (kind, by_epoch) in zip(panels, measured.items(), strict=True):
        for i, name in enumerate(names):
            told = [told[name].noise for told in by_epoch.values() if name in told]
            if told:
                style = "-" if name.startswith("ELBO") else "--"
                panel.plot(range(len(told)), told, style, marker="o", color=f"C{i}", label=name)
        size = [told["ELBO, leave-one-out"].size for told in by_epoch.values()]
        panel.plot(range(len(size)), size, ":k", label="the ELBO's gradient itself")
        panel.set(title=f"{kind} latents", xlabel="epochs trained", yscale="log")
        panel.set_xticks(range(len(by_epoch)), [str(e) for e in by_epoch])
    panels[0].set_ylabel("noise of a batch's gradient, nats per unit weight")
    panels[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    figure.savefig(out, dpi=120)


def main() -> None:
    """Print the tables and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2, help="0 for no second table")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--out", default="gradients.png")
    given = parser.parse_args()
    torch.set_num_threads(1)
    measured: dict[str, dict[int, dict[str, Told]]] = {}
    print("| latents | epochs | estimator | gradient | noise | off |")
    for kind, options in MODELS.items():
        for epochs in (1, 3, given.epochs):
            told = noise(trained(epochs, 0, **options)[0], given.draws)
            measured.setdefault(kind, {})[epochs] = told
            for name, (size, spread, off) in told.items():
                row = f"{size:.4f} | {spread:.4f} | {off:.2f}"
                print(f"| {kind} | {epochs} | {name} | {row} |", flush=True)
    drawing(measured, given.out)
    if not given.seeds:
        return
    print("| training | gap by seed, nats | ± | signal/noise: ELBO, IWAE | CPU s |")
    for name, options in TRAININGS.items():
        each = [trained(given.epochs, seed, **options) for seed in range(given.seeds)]
        gaps, seconds = [gap(model) for model, _ in each], np.mean([spent for _, spent in each])
        row = ", ".join(f"{g:.3f}" for g, _ in gaps)
        told = noise(each[0][0], given.draws) if options.get("latents") in MODELS else {}
        ratios = (told[k].size / told[k].noise for k in DISCRETE if told)
        ratio = ", ".join(f"{r:.2f}" for r in ratios) or "–"
        print(f"| {name} | {row} | {gaps[0][1]:.3f} | {ratio} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()

"""Ising from L = 8 to 64: what size transfer and a short tuning reach, and how cost grows with N.

    python -m benchmarks.scaling --family autoregressive --size 8
    python -m benchmarks.scaling --family autoregressive --size 16
    python -m benchmarks.scaling --family autoregressive --theta beta-h
    python -m benchmarks.scaling --table

β ~ U(0.1, 0.7), perfect lattices for training and for judging. L = 8 is trained anew; each larger
size starts from the tuned model of half the size, so they are run in order. A training sees as
many spins at every size. Beside the tuned model stand, on the same lattices, the one of half the
size as it is (*untuned*), one of random weights with the same rows, epochs and steps (*anew*), and
as a control the exact posterior of lattices that were taken for those of another β, half a
posterior's width off. `--theta` trains at L = 8 with two parameters, (β, h) or (βJ_x, βJ_y).

The gap E[log p − log q] is in nats of the whole lattice; that of an RBM holds the error of its
log Z, so beside it stands the divergence at given θ, log E[q/p] − E[log q/p], in which Z drops
out. The masked diffusion evaluates its network N/2 + 1 times for a log p; in *64 steps* it does so
64 times, and fills in many sites at once. Its posteriors are those of `infer`, in few steps, with
one order of the sites at all θ. A part takes less than ten CPU minutes, and leaves its models and
its figures in the folder `--into`; `--table` prints all that are there and draws `scaling.png`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import logsumexp

import physgen
from physgen.checks.estimate import Estimate, estimate
from physgen.checks.exact.agreement import agreement
from physgen.checks.exact.gap import paired
from physgen.dataset import Dataset
from physgen.posterior.grid import grid_posterior, of_exact, of_surrogate
from physgen.runtime.device import threads
from physgen.surrogates.base import Surrogate
from simulators.base import Array
from simulators.ising import Ising

SIZES = (8, 16, 32, 64)
SHIFT = 0.5
"""Of the control, in widths of the exact posterior."""
HOME = Path.home() / ".cache" / "physgen" / "scaling"
HEAD = (
    "family", "L", "model", "CPU s: training, log Z", "gap, nats", "but for log Z",
    "posterior: error / width ratio", "control", "ms: log p, posterior, draw",
)  # fmt: skip
Figures = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """How a family is trained and judged.

    Attributes:
        rows: lattices of L = 8 to train on; of larger ones as many as have as many spins.
        epochs: at L = 8, and of a tuning.
        judged: lattices of each size whose log p is compared.
        observed: the same of posteriors.
        drawn: lattices that are drawn.
        options: of the family, by the size.
        training: of the training.
        untuned: of the family, at a size that it was not trained at.
        steps: in which log p is taken, by the size, if not in one way alone. The first are those
            of posteriors, which only the tuned model has; none is trained anew.
        largest: size that a model is tuned at; above it stands the one of half the size as it is.
    """

    rows: int
    epochs: tuple[int, int]
    judged: dict[int, int]
    observed: dict[int, int]
    drawn: dict[int, int]
    options: Callable[[int], Figures] = lambda size: {}
    training: Figures = field(default_factory=dict)
    untuned: Figures = field(default_factory=dict)
    steps: dict[int, tuple[int, ...]] = field(default_factory=dict)
    largest: int = SIZES[-1]


MANY = {8: 500, 16: 500, 32: 300, 64: 200}
SOME = {8: 50, 16: 50, 32: 30, 64: 20}
LADDERS = {8: (512, 1000), 16: (512, 500), 32: (512, 500), 64: (1024, 320)}
"""Chains and sweeps of the RBM's log Z."""
FAMILIES = {
    "autoregressive": Work(
        20_000, (20, 8), MANY, SOME, SOME, lambda size: {"sites": size**2 // 4}
    ),
    "diffusion": Work(
        80_000,
        (4, 2),
        {8: 300, 16: 60, 32: 12, 64: 6},
        {8: 50, 16: 8, 32: 6, 64: 2},
        {8: 64, 16: 16, 32: 2, 64: 1},
        steps={16: (29, 8, 16, 64, 129), 32: (58, 16, 32, 128, 513), 64: (64, 32, 128)},
        largest=32,
    ),
    "rbm": Work(
        80_000,
        (5, 10),
        MANY,
        SOME,
        SOME,
        lambda size: dict(zip(("chains", "ladder"), LADDERS[size], strict=True)),
        {"learning_rate": 0.01},
        {"chains": 64},
    ),
}


def data(size: int, n: int, seed: int, theta: str) -> Dataset:
    """Perfect lattices."""
    return physgen.simulate("ising", n=n, size=size, theta=theta, sampler="perfect", seed=seed)


class Trained(NamedTuple):
    """A model and the CPU seconds of its training, and of what came after it."""

    model: Surrogate
    seconds: tuple[float, float]
    passes: int

    def in_steps(self, steps: int) -> Trained:
        """The same model, scoring and drawing in so many steps."""
        return self._replace(model=self.model.using(steps=steps))


def trained(
    family: str, size: int, theta: str, out: Path, half: Surrogate | None, epochs: int
) -> Trained:
    """A model, from random weights or from those of half the size."""
    work = FAMILIES[family]
    rows = data(size, work.rows * 64 // size**2, 1, theta)
    start = time.process_time()
    options = work.options(size) | work.training
    if half is not None:
        options |= {"learning_rate": work.training.get("learning_rate", 1e-3), "from_": half}
    model = physgen.fit(
        family, rows, out=out, epochs=epochs, seed=1, batch_size=1024 // size,
        warm_up_steps=20, force=True, **options,
    )  # fmt: skip
    told = model.info["history"]
    seconds, passes = told[-1]["cpu_seconds"], len(told) * len(rows)
    return Trained(model.eval(), (seconds, time.process_time() - start - seconds), passes)


def models(
    family: str, size: int, theta: str, folder: Path
) -> Iterator[tuple[str, Trained, Work]]:
    """Those of one size by name, each with how it is judged."""
    work = FAMILIES[family]
    here = folder / f"{family}-{size}-{theta}"
    if size == SIZES[0]:
        yield (
            "anew",
            trained(family, size, theta, here.with_suffix(".pt"), None, work.epochs[0]),
            work,
        )
        return
    parent = folder / f"{family}-{size // 2}-{theta}.pt"
    if not parent.exists():
        raise SystemExit(
            f"{parent}: expected the model of L = {size // 2}; run --size {size // 2}"
        )
    half = physgen.load(parent, device="cpu")[0]
    law = half.law.changed({"size": size})
    start = time.process_time()
    untuned = half.at(law, **(work.options(size) | work.untuned)).eval()
    if family == "rbm":
        untuned.log_z()
    moved = Trained(untuned, (0.0, time.process_time() - start), 0)
    gaps = replace(work, observed=dict.fromkeys(SIZES, 0))
    if size > work.largest:
        for i, steps in enumerate(work.steps[size]):
            yield f"untuned, {steps} steps", moved.in_steps(steps), gaps if i else work
        return
    tuned = trained(family, size, theta, here.with_suffix(".pt"), half, work.epochs[1])
    if not work.steps:
        anew = trained(family, size, theta, here.with_suffix(".anew.pt"), None, work.epochs[1])
        yield from (("tuned", tuned, work), ("untuned", moved, work), ("anew", anew, work))
        return
    few, *others = work.steps[size]
    yield f"tuned, {few} steps", tuned.in_steps(few), work
    yield f"untuned, {few} steps", moved.in_steps(few), gaps
    for steps in others:
        yield f"tuned, {steps} steps", tuned.in_steps(steps), gaps


def judged(found: Trained, work: Work, size: int, theta: str) -> Figures:
    """Gap, posteriors and costs of a model, and of the control."""
    model, (training, after), passes = found
    observed, n = work.observed[size], work.judged[size]
    rows = data(size, max(n, observed), 2, theta).read()
    simulator = Ising(size, theta=theta)
    t, x = rows.theta[:n], rows.x[:n]
    start = time.process_time()
    own = scored(model, t, x)
    per_row = (time.process_time() - start) / n
    exact = simulator.log_prob(t, x)
    others = np.array([scored(one, t, x) for one in model.log_z_bootstrap()] or [own])
    start = time.process_time()
    model.sample(torch.from_numpy(rows.theta[: work.drawn[size]]), 0)
    per_draw = (time.process_time() - start) / work.drawn[size]
    told = {
        "training": training, "after": after, "ms a lattice": 1e3 * training / max(passes, 1),
        "ms a log p": 1e3 * per_row, "ms a draw": 1e3 * per_draw, "judged": n,
        "gap": paired(exact, own, others),
    }  # fmt: skip
    if model.normaliser(torch.from_numpy(t)):
        told["but for log Z"] = divergence(model, simulator)
    return told | (posteriors(model, simulator, rows.x[:observed]) if observed else {})


def scored(model: Surrogate, theta: Array, x: Array) -> Array:
    """Log p of rows, from one draw each, (n,)."""
    return model.log_prob(theta, x, draws=1, seed=1).numpy()


def divergence(model: Surrogate, simulator: Ising, points: int = 8, n: int = 40) -> Estimate:
    """KL(p‖q) in nats at points drawn from the prior, whatever the Z of q."""
    rng = np.random.default_rng(3)
    theta = simulator.prior.sample(points, rng).repeat(n, axis=0)
    x = replace(simulator, sampler="perfect").sample(theta, rng)
    off = (scored(model, theta, x) - simulator.log_prob(theta, x)).reshape(points, n)
    value = logsumexp(off, 1) - np.log(n) - off.mean(1)
    return Estimate(float(value.mean()), float(np.sqrt((off.var(1) / n).sum()) / points))


def posteriors(model: Surrogate, simulator: Ising, x: Array) -> Figures:
    """Of single lattices, beside the exact ones and the control."""
    prior, n = model.law.prior, len(x)
    exact = grid_posterior(of_exact(simulator.log_prob, x), prior, n)
    start = time.process_time()
    own = grid_posterior(of_surrogate(model, x, draws=1, seed=1), prior, n)
    seconds = time.process_time() - start
    step = SHIFT * np.median(exact.sd, 0)
    off = grid_posterior(of_exact(lambda t, y: simulator.log_prob(t + step, y), x), prior, n)
    found, control = agreement(exact, own), agreement(exact, off)
    return {
        "ms a posterior": 1e3 * seconds / n,
        "evaluations": float(own.evaluations.mean()),
        "observed": n,
        "width": exact.sd.mean(0).tolist(),
        "error": estimate(abs(found.shift).mean(1)),
        "shift": [estimate(s) for s in found.shift.T],
        "ratio": [estimate(r) for r in found.ratio.T],
        "c2st": float(found.c2st.mean()),
        "control": {
            "error": estimate(abs(control.shift).mean(1)),
            "c2st": float(control.c2st.mean()),
        },
    }


# --- what is shown ------------------------------------------------------------------------------


def row(family: str, size: int, theta: str, name: str, told: Figures) -> str:
    """One model as a row of the table."""
    gap, bare = told["gap"], told.get("but for log Z")
    posterior = control = "–"
    if "error" in told:
        ratio = ", ".join(f"{r:.3f} ± {se:.3f}" for r, se in told["ratio"])
        posterior = f"{told['error'][0]:.3f} ± {told['error'][1]:.3f} / {ratio}"
        control = f"{told['control']['error'][0]:.2f}"
    cells = (
        family + f", {theta}" * (theta != "beta"), str(size), name,
        f"{told['training']:.0f}, {number(told['after'])}",
        f"{gap[0]:.3f} ± {gap[1]:.3f}",
        f"{bare[0]:.3f} ± {bare[1]:.3f}" if bare else "–", posterior, control,
        ", ".join(number(told.get(f"ms a {k}")) for k in ("log p", "posterior", "draw")),
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def number(value: float | None) -> str:
    """With as many digits as it is good for."""
    if value is None or np.isnan(value):
        return "–"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def found_in(folder: Path) -> list[tuple[str, int, str, Figures]]:
    """Family, size, θ and figures of all parts that have run, by family and size."""
    names = [path.stem.split("-", 2) for path in folder.glob("*.json")]
    order = list(FAMILIES)
    names.sort(key=lambda name: (len(name[2]), order.index(name[0]), int(name[1]), name[2]))
    return [
        (
            family,
            int(size),
            theta,
            json.loads((folder / f"{family}-{size}-{theta}.json").read_text()),
        )
        for family, size, theta in names
    ]


def exponent(sites: Array, cost: Array) -> float:
    """a of cost ∝ Nᵃ by least squares of logarithms."""
    return float(np.polyfit(np.log(sites), np.log(cost), 1)[0])


def drawing(parts: list[tuple[str, int, str, Figures]], out: Path) -> None:
    """Gap and posteriors by L above, costs by N below."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(12, 7), layout="constrained")
    above, below = figure.subplots(2, 3)
    for i, family in enumerate(FAMILIES):
        sizes = {size: told for f, size, theta, told in parts if (f, theta) == (family, "beta")}
        for name, style in {"tuned": "-o", "untuned": ":x", "anew": "--s"}.items():
            about = {"fmt": style, "color": f"C{i}", "ms": 4}
            if len(found := dict(curve(sizes, name))) > 1:
                curves(above, found, about | {"label": f"{family}, {name}"})
        costs(below, sizes, family, f"C{i}")
    above[0].set(ylabel="gap (rbm: but for log Z), nats", yscale="log", ylim=(1e-3, None))
    above[1].set(ylabel="posterior mean off, exact widths", yscale="log")
    above[1].axhline(SHIFT, color="grey", lw=0.8)
    above[1].text(SIZES[0], SHIFT, "control", color="grey", va="top")
    above[2].set(ylabel="width ÷ exact width")
    above[2].axhline(1, color="grey", lw=0.8)
    for panel in above[:2]:
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
        panel.yaxis.set_minor_formatter(NullFormatter())
    for panel in above:
        panel.set_xscale("log", base=2)
        panel.set_xticks(SIZES, map(str, SIZES))
        panel.set_xlabel("L")
    figure.legend(*above[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    figure.savefig(out, dpi=120)


def curve(sizes: dict[int, Figures], name: str) -> Iterator[tuple[int, Figures]]:
    """A model by size, from that of L = 8 on; in fewer steps where all are too dear."""
    for size, told in sizes.items():
        wanted = "anew" if size == SIZES[0] else name
        yield from [(size, told[one]) for one in told if one.split(",")[0] == wanted][:1]


def curves(panels: Array, sizes: dict[int, Figures], about: Figures) -> None:
    """Gap, error and width of a model by size."""
    gaps = [told.get("but for log Z", told["gap"]) for told in sizes.values()]
    observed = {size: told for size, told in sizes.items() if "error" in told}
    errors = [told["error"] for told in observed.values()]
    ratios = [told["ratio"][0] for told in observed.values()]
    for panel, found in zip(panels, (gaps, errors, ratios), strict=True):
        if found:
            at = sizes if panel is panels[0] else observed
            panel.errorbar(list(at), *zip(*found, strict=True), **about)


def costs(panels: Array, sizes: dict[int, Figures], family: str, colour: str) -> None:
    """CPU ms of a family by N, with the exponents."""
    for panel, part in zip(panels, ("lattice", "posterior", "draw"), strict=True):
        key = f"ms a {part}"
        cost = {size**2: told[key] for size, told in curve(sizes, "tuned") if key in told}
        if len(cost) > 1:
            n, ms = np.array(list(cost)), np.array(list(cost.values()))
            panel.loglog(
                n, ms, "-o", color=colour, ms=4, label=f"{family}: N^{exponent(n, ms):.2f}"
            )
        panel.set(
            xlabel="N = L²",
            ylabel={"lattice": "training: CPU ms a lattice"}.get(part, f"CPU {key}"),
        )
        panel.legend(frameon=False, fontsize=8)


def main() -> None:
    """Run one part, or show all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", choices=FAMILIES)
    parser.add_argument("--size", type=int, choices=SIZES, default=SIZES[0])
    parser.add_argument("--theta", choices=("beta", "beta-h", "beta-xy"), default="beta")
    parser.add_argument("--into", type=Path, default=HOME, help="folder of all parts")
    parser.add_argument("--table", action="store_true", help="print and draw what has run")
    given = parser.parse_args()
    given.into.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    if not given.table and (given.family is None or (given.theta != "beta" and given.size != 8)):
        parser.error("expected --family and a size, or --theta at L = 8; or --table")
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    if given.table:
        parts = found_in(given.into)
        for family, size, theta, told in parts:
            for name, figures in told.items():
                print(row(family, size, theta, name, figures))
        drawing(parts, given.into / "scaling.png")
        return
    part, told = (given.family, given.size, given.theta), {}
    with threads(1):
        for name, found, work in models(*part, given.into):
            told[name] = judged(found, work, given.size, given.theta)
            print(row(*part, name, told[name]), flush=True)
    (given.into / f"{given.family}-{given.size}-{given.theta}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()

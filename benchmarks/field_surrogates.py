"""Surrogates of random fields on one table, beside the exact answer.

Maps of `gaussian-field` or `lognormal-field`, θ = (ln A, n), 20,000 to train on. A row a design:
CPU seconds of training; gap of log p in nats a site, of all test maps and by thirds of the slope
n; the power spectrum of drawn maps over the exact one, in parts from the largest to the smallest
scale; the law of one site, as the greatest distance between the distribution function
of its exact normal score and the normal one (in brackets that of fresh maps); posterior means off
in exact widths, and ratios of widths; CPU seconds of `physgen validate` of 300 maps, and of its
posteriors alone. `simulator` is the exact law, and `simulator, n + 0.1` the control that must be
told from it. With `--at` each design is also drawn and scored at other sizes than it was trained
on.

    python -m benchmarks.field_surrogates [--only cvae] [--field lognormal-field] [--size 32]
        [--at 32 64] [--pictures FOLDER] [--drawn 500] [--posteriors]
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr

import physgen
from physgen.checks.estimate import Estimate, estimate
from physgen.checks.exact.agreement import agreement
from physgen.posterior.grid import grid_posterior, of_exact, of_surrogate
from physgen.runtime.device import threads
from physgen.surrogates.base import Surrogate
from simulators.base import Array, LogProb
from simulators.field import GaussianField, LognormalField

FIELDS = {"gaussian-field": GaussianField, "lognormal-field": LognormalField}


class Design(NamedTuple):
    """A family and how it is trained.

    Attributes:
        family: its name.
        options: of `physgen.fit`, about ten CPU minutes at most.
        draws: of a log p for the gap; the family's default if None.
    """

    family: str
    options: Mapping[str, Any]
    draws: int | None = None


DESIGNS: Mapping[str, Design] = {
    "cvae": Design("cvae", {"epochs": 12}),
    "autoregressive": Design("autoregressive", {"epochs": 6}),
    "diffusion": Design("diffusion", {"epochs": 2}, draws=16),
}
"""By their labels."""
EXACT, CONTROL = "simulator", "simulator, n + 0.1"
WRONG = 0.1
TRAIN, TEST, VALIDATED, OBSERVED, DRAWN = 20_000, 1000, 300, 100, 4000
SHELLS = 4
"""Parts of the spectrum that are told in the table."""
HEAD = (
    "design", "L", "CPU s", "gap, 1e-5 nats a site", "by n", "P over the exact one (worst, in σ)",
    "one site (fresh)", "means off, widths", "width ratios", "CPU s of validate (posteriors)",
)  # fmt: skip


@dataclass
class Model:
    """What is measured: a trained surrogate, or the simulator at its or at a wrong θ.

    Attributes:
        log_p: θ (n, D), x (n, L, L) → (n,).
        draw: θ (n, D) → x (n, L, L).
        surrogate: for `validate`; None of the simulator.
        cpu: seconds of training.
    """

    log_p: LogProb
    draw: Callable[[Array], Array]
    surrogate: Surrogate | None = None
    cpu: float = 0.0
    design: Design = field(default=Design("", {}))

    @classmethod
    def trained(cls, surrogate: Surrogate, cpu: float, design: Design) -> Model:
        """Of a surrogate."""

        def log_p(theta: Array, x: Array) -> Array:
            return surrogate.log_prob(theta, x, draws=design.draws).numpy()

        def draw(theta: Array) -> Array:
            return surrogate.sample(theta, 1).numpy()

        return cls(log_p, draw, surrogate, cpu, design)

    @classmethod
    def exact(cls, simulator: GaussianField, off: float = 0.0) -> Model:
        """The simulator at another slope."""
        step = np.array([0.0, off])
        rng = np.random.default_rng(1)
        return cls(
            lambda theta, x: simulator.log_prob(theta + step, x),
            lambda theta: simulator.sample(theta + step, rng),
        )

    def at(self, simulator: GaussianField) -> Model:
        """The same at another size of maps."""
        if self.surrogate is None:
            raise TypeError("the simulator is made for its size")
        law = self.surrogate.law.changed({"size": simulator.size})
        return Model.trained(self.surrogate.at(law), self.cpu, self.design)


def gaps(simulator: GaussianField, model: Model, rows: int = TEST) -> list[Estimate]:
    """Nats a site below the exact log p: of all test maps, and of thirds of the slope."""
    rng = np.random.default_rng(2)
    theta = simulator.prior.sample(rows, rng)
    x = simulator.sample(theta, rng)
    lost = (simulator.log_prob(theta, x) - model.log_p(theta, x)) / simulator.sites
    third = np.array_split(theta[:, 1].argsort(), 3)
    return [estimate(lost), *(estimate(lost[rows]) for rows in third)]


def spectrum(simulator: GaussianField, x: Array, theta: Array) -> tuple[Array, Array]:
    """Mean of the spectrum of maps x over the exact one, and its standard error, (shells,)."""
    known = simulator.observables["power_spectrum"]
    ratio = known(x) / known.exact(theta)
    return ratio.mean(0), ratio.std(0, ddof=1) / np.sqrt(len(x))


def scores(simulator: GaussianField, x: Array, theta: Array) -> Array:
    """Exact normal scores of all sites of maps x at θ, given which they are normal, flat."""
    found = simulator.gaussian(x)[0] + simulator.shift(theta)[:, None, None]
    return np.ravel(found / np.sqrt(simulator.variance(theta))[:, None, None])


def distance(score: Array) -> float:
    """The greatest between the distribution function of scores and the normal one."""
    u = np.sort(ndtr(score))
    return float(abs(u - (np.arange(len(u)) + 0.5) / len(u)).max())


def drawn_figures(simulator: GaussianField, model: Model, n: int) -> list[str]:
    """Cells about drawn maps: their spectrum and the law of one site."""
    theta = simulator.prior.sample(n, np.random.default_rng(3))
    x, fresh = model.draw(theta), simulator.sample(theta, np.random.default_rng(4))
    ratio, error = spectrum(simulator, x, theta)
    parts = np.array_split(np.arange(len(ratio)), SHELLS)
    mean = [estimate(ratio[p]).value for p in parts]
    worst = abs((ratio - 1) / error).max()
    one, null = (distance(scores(simulator, some, theta)) for some in (x, fresh))
    return [
        ", ".join(f"{m:.3f}" for m in mean) + f" ({worst:.1f})",
        f"{one:.4f} ({null:.4f})",
    ]


def validated(simulator: GaussianField, model: Model, test: Any, alone: bool = False) -> list[str]:
    """Cells about posteriors, and the CPU time of `validate`, unless those are asked for alone."""
    if model.surrogate is None or alone:
        return posteriors(simulator, model, test.x[:OBSERVED])
    start = time.process_time()
    found = physgen.validate(model.surrogate, test, rows=slice(0, VALIDATED))
    spent, known = time.process_time() - start, found["posterior"]
    each = known["by_parameter"].values()
    return [
        ", ".join(f"{p['mean_error']:.3f}" for p in each),
        ", ".join(f"{p['std_ratio']:.3f}" for p in each),
        f"{spent:.0f} ({found['cpu_seconds']['posterior']:.0f})",
    ]


def posteriors(simulator: GaussianField, model: Model, x: Array) -> list[str]:
    """The same of another log p than the exact one, without a time."""
    start = time.process_time()
    own = of_surrogate(model.surrogate, x) if model.surrogate else of_exact(model.log_p, x)
    mine = grid_posterior(own, simulator.prior, len(x))
    spent = time.process_time() - start
    exact = grid_posterior(of_exact(simulator.log_prob, x), simulator.prior, len(x))
    found = agreement(exact, mine)
    cells = [abs(found.shift).mean(0), found.ratio.mean(0)]
    return [", ".join(f"{v:.3f}" for v in cell) for cell in cells] + [f"({spent:.0f})"]


def row(
    label: str,
    simulator: GaussianField,
    model: Model,
    test: Any,
    drawn: int = DRAWN,
    alone: bool = False,
) -> str:
    """A row of the table; without posteriors where there are no test maps to take them of."""
    gap = gaps(simulator, model, TEST if test else 300)
    cells = [
        label,
        f"{simulator.size}",
        f"{model.cpu:.0f}",
        f"{1e5 * gap[0].value:.1f} ± {1e5 * gap[0].se:.1f}",
        ", ".join(f"{1e5 * g.value:.1f}" for g in gap[1:]),
        *drawn_figures(simulator, model, drawn),
        *(validated(simulator, model, test, alone) if test else ["–"] * 3),
    ]
    return "| " + " | ".join(cells) + " |"


def fitted(label: str, data: Path, folder: Path, epochs: int | None) -> Model:
    """One design, trained, or as it was trained before."""
    design = DESIGNS[label]
    out = folder / f"{label}-{data.stem}.pt"
    if not out.exists():
        about = {"seed": 1, "patience": 0} | dict(design.options)
        about |= {"epochs": epochs} if epochs else {}
        physgen.fit(design.family, data, out=out, **about)
    surrogate, info = physgen.load(out, device="cpu")
    return Model.trained(surrogate, info["history"][-1]["cpu_seconds"], design)


def data_of(name: str, size: int, folder: Path) -> tuple[Path, Any]:
    """The file of maps to train on, and those to test on."""
    paths = []
    for part, n, seed in (("train", TRAIN, 1), ("test", TEST, 2)):
        paths.append(folder / f"{name}-{size}-{part}.h5")
        if not paths[-1].exists():
            physgen.simulate(name, out=paths[-1], n=n, seed=seed, size=size)
    return paths[0], physgen.read(paths[1])


def draw_pictures(simulator: GaussianField, models: Mapping[str, Model], out: Path) -> None:
    """Spectra over the exact one with error bars, and laws of one site."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    theta = simulator.prior.sample(DRAWN, np.random.default_rng(3))
    edges = np.linspace(-4, 4, 41)
    for i, (label, model) in enumerate(models.items()):
        x = model.draw(theta)
        mean, error = spectrum(simulator, x, theta)
        shift = 0.1 * (i - (len(models) - 1) / 2)
        left.errorbar(np.arange(len(mean)) + shift, mean, error, fmt="o", ms=3, label=label)
        count = np.histogram(scores(simulator, x, theta), edges)[0]
        part = count / (x.size * np.diff(ndtr(edges)))
        right.plot((edges[1:] + edges[:-1]) / 2, part, label=label)
    left.axhline(1, color="black", lw=0.8)
    left.set(xlabel="wave number", ylabel="power spectrum over the exact one")
    right.axhline(1, color="black", lw=0.8)
    right.set(xlabel="normal score of a site given θ", ylabel="density over the normal one",
              ylim=(0.8, 1.2))  # fmt: skip
    left.legend(frameon=False)
    figure.savefig(out, dpi=120)


def main() -> None:
    """Measure the designs one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=DESIGNS, help="some designs")
    parser.add_argument("--field", choices=FIELDS, default="gaussian-field")
    parser.add_argument("--size", type=int, default=16, help="sites along an axis")
    parser.add_argument("--at", type=int, nargs="+", default=[], help="other sizes, untrained")
    parser.add_argument("--epochs", type=int, help="instead of those of the designs")
    parser.add_argument("--drawn", type=int, default=DRAWN, help="maps drawn of each design")
    parser.add_argument("--posteriors", action="store_true", help="without the rest of validate")
    parser.add_argument("--folder", type=Path, help="where to keep data and checkpoints")
    parser.add_argument("--pictures", type=Path, help="folder for pictures")
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    make, labels = FIELDS[options.field], list(DESIGNS) if options.only is None else options.only
    with threads(1), tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        train, test = data_of(options.field, options.size, folder)
        simulator = make(options.size)
        print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|", flush=True)
        models = {EXACT: Model.exact(simulator), CONTROL: Model.exact(simulator, WRONG)}
        for label in (*models, *labels):
            if label not in models:
                models[label] = fitted(label, train, folder, options.epochs)
            drawn, alone = options.drawn, options.posteriors
            print(row(label, simulator, models[label], test, drawn, alone), flush=True)
            for size in options.at if label in DESIGNS else ():
                print(row(label, make(size), models[label].at(make(size)), None, 200), flush=True)
        if options.pictures:
            options.pictures.mkdir(parents=True, exist_ok=True)
            picture = options.pictures / f"{options.field}-{options.size}.png"
            draw_pictures(simulator, models, picture)


if __name__ == "__main__":
    main()

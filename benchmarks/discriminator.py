r"""The discriminator of a GAN beside the exact one, D* = p/(p + q).

    python -m benchmarks.discriminator [--only ising] [--steps 600]
    python -m benchmarks.discriminator [--only modes] [--minutes 1.5] [--picture discriminator.png]

Its logit is log p(x|θ) − log q(x|θ), which is exact where both laws are. *Ising*: p are lattices
at β and q others at 0.9 β, both with exact log p, and only the discriminator learns. *Two modes*:
p is a mixture of two normal laws of one number, and the GAN learns both; q of its generator is no
density, and is counted: a histogram of many draws at one θ, whose bins are known to one in √n.

What D lacks is what its bound of the Jensen–Shannon divergence lacks, in nats:

    JS − [log 2 + ½ E_p log D + ½ E_q log(1 − D)] = E_{(p + q)/2} KL(D* ‖ D) ≥ 0,

KL between two coins. The controls: D = ½, which lacks all of JS, and D of other θ.
"""

from __future__ import annotations

import argparse
import copy
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import physgen
from physgen.law import Law
from physgen.surrogates.gan import GAN, GANConfig
from simulators.base import Array
from simulators.prior import Box

WIDTH, EDGES = 0.4, np.linspace(-4, 4, 81)
COOLER = 0.9
LOOKED_AT = (0.5, 1.0, 2.0)


class TwoModes:
    """x of two normal laws of one width at −a and a, in equal parts."""

    prior = Box(a=(0.2, 2.2))
    x_shape = (1,)

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One x for each θ (n, 1), (n, 1)."""
        mode = theta * rng.choice([-1.0, 1.0], theta.shape)
        return mode + WIDTH * rng.standard_normal(theta.shape)

    def log_prob(self, theta: Array, x: Array) -> Array:
        """log p(x|θ) of θ (n, 1) and x (n, 1), (n,)."""
        each = [-0.5 * ((x - s * theta) / WIDTH)[:, 0] ** 2 for s in (-1, 1)]
        return np.logaddexp(*each) - math.log(2 * WIDTH * math.sqrt(2 * math.pi))


def logits(model: GAN, theta: Array, x: Array) -> Array:
    """The discriminator's logit at θ (n, D) and x (n, *x_shape), (n,)."""
    with torch.no_grad():
        parts = [
            model.discriminator(model.transform(y), model.rescale(t))
            for t, y in zip(
                torch.from_numpy(theta).split(4096), torch.from_numpy(x).split(4096), strict=True
            )
        ]
    return torch.cat(parts).double().numpy()


def js_bound(true: Array, drawn: Array) -> tuple[Array, Array]:
    """What rows of p and of q add to the bound of JS by logits (n,) and (m,), in nats."""
    return 0.5 * (math.log(2) - np.logaddexp(0, -true)), 0.5 * (
        math.log(2) - np.logaddexp(0, drawn)
    )


def taught(
    model: GAN,
    theta: Array,
    x: Array,
    drawn: Array,
    *,
    penalty: float,
    steps: int,
    batch: int = 256,
    rate: float = 3e-3,
    seed: int = 0,
) -> GAN:
    """A copy whose discriminator has learnt to tell rows of p from rows of q, and nothing else.

    Args:
        model: where it begins.
        theta: (n, D).
        x: rows of p, (n, *x_shape).
        drawn: rows of q at the same θ, (n, *x_shape).
        penalty: weight of R₁.
        steps: of the optimiser.
        batch: rows a step.
        rate: at which it begins, and from which it falls to 0.
        seed: of the batches.
    """
    made = copy.deepcopy(model).train()
    made.config = replace(model.config, penalty=penalty)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(made.discriminator.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    c = made.rescale(torch.from_numpy(theta))
    z, w = (made.transform(torch.from_numpy(y)) for y in (x, drawn))
    for _ in range(steps):
        rows = torch.from_numpy(rng.integers(len(c), size=batch))
        loss = made._contrast(c[rows], z[rows], w[rows]).mean()
        if penalty:
            loss = loss + made._penalty(c[rows], z[rows], w[rows], generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return made.eval()


# --- two exact laws ------------------------------------------------------------------------------


def ising(steps: int, size: int = 8, rows: int = 20_000) -> None:
    """Lattices at β against lattices at 0.9 β: what discriminators lack, with and without R₁."""
    law = Law.of("ising", {"size": size})
    simulator: Any = law.build()
    rng = np.random.default_rng(0)
    theta, test = law.prior.sample(rows, rng), law.prior.sample(4000, rng)
    pairs = [(simulator.sample(t, rng), simulator.sample(COOLER * t, rng)) for t in (theta, test)]
    (x, drawn), (y, other) = pairs

    def exact(x: Array) -> Array:
        return simulator.log_prob(test, x) - simulator.log_prob(COOLER * test, x)

    best = js_bound(exact(y), exact(other))
    plain = GAN.create(law, GANConfig())
    shuffled = rng.permutation(test)
    print(
        f"Ising {size} × {size}, beta against {COOLER} beta: JS {sum(b.mean() for b in best):.4f}"
    )
    print(
        "| discriminator | lacks, nats | error of its logit (sd of the exact one) | correlation |"
    )
    print("|---|---|---|---|")
    for penalty in (0.0, 5.0):
        model = taught(plain, theta, x, drawn, penalty=penalty, steps=steps)
        for name, at in (("", test), (", of other beta", shuffled)):
            told(f"R₁ {penalty:g}{name}", best, [exact(v) for v in (y, other)],
                 [logits(model, at, v) for v in (y, other)])  # fmt: skip
    told("½", best, [exact(v) for v in (y, other)], [0 * best[0], 0 * best[1]])


def told(
    name: str, best: tuple[Array, Array], exact: list[Array], learnt: list[Array]
) -> tuple[float, float]:
    """A row of the table, and what the discriminator lacks with its standard error."""
    lacks = [b - mine for b, mine in zip(best, js_bound(*learnt), strict=True)]
    value = sum(float(v.mean()) for v in lacks)
    error = math.sqrt(sum(float(v.var()) / len(v) for v in lacks))
    true, mine = np.concatenate(exact), np.concatenate(learnt)
    off = math.sqrt(float(((mine - true) ** 2).mean()))
    same = float(np.corrcoef(true, mine)[0, 1]) if mine.any() else 0.0
    print(f"| {name} | {value:.4f} ± {error:.4f} | {off:.2f} ({true.std():.2f}) | {same:.3f} |")
    return value, error


# --- the GAN's own generator, counted ------------------------------------------------------------


@dataclass(frozen=True)
class Counted:
    """p and q in bins at one θ, of one number.

    Attributes:
        x: middles of the bins, (k,).
        p: mass of each by the exact law, (k,).
        q: by draws of the generator, (k,).
        learnt: logits of discriminators at the middles, by name, (k,) each.
        error: of log q, root mean square over (p + q)/2.
    """

    x: Array
    p: Array
    q: Array
    learnt: dict[str, Array]
    error: float

    def lacking(self, logit: Array) -> float:
        """JS less its bound by a discriminator of some logits (k,), in nats."""
        return self.bound(np.log(self.p / self.q)) - self.bound(logit)

    def bound(self, logit: Array) -> float:
        """The bound of JS by logits (k,), in nats."""
        true, drawn = js_bound(logit, logit)
        return float(self.p @ true + self.q @ drawn)


def counted(models: dict[str, GAN], a: float, draws: int) -> Counted:
    """The laws of two modes at ±a, in bins, and discriminators there."""
    law, middle = TwoModes(), 0.5 * (EDGES[1:] + EDGES[:-1])
    theta = np.full((len(middle), 1), a)
    first = next(iter(models.values()))
    x = first.sample(np.full((draws, 1), a), 0).numpy()[:, 0]
    number = np.histogram(x, EDGES)[0] + 0.5  # none is empty
    p, q = np.exp(law.log_prob(theta, middle[:, None])), number / number.sum()
    p = p / p.sum()
    error = math.sqrt(float((0.5 * (p + q)) @ (1 / number)))
    learnt = {name: logits(model, theta, middle[:, None]) for name, model in models.items()}
    return Counted(middle, p, q, learnt, error)


def two_modes(minutes: float, steps: int, draws: int) -> dict[float, Counted]:
    """A GAN of two modes: its discriminator as the game leaves it, and taught on alone."""
    data = physgen.simulate(TwoModes, n=20_000)
    game = physgen.fit("gan", data, max_minutes=minutes, epochs=1000)
    theta, x = data.theta, data.x
    drawn = game.sample(theta, 1).numpy()
    models = {
        "as the game leaves it": game,
        "taught on, R₁ 5": taught(game, theta, x, drawn, penalty=5.0, steps=steps),
        "taught on": taught(game, theta, x, drawn, penalty=0.0, steps=steps),
    }
    found = {a: counted(models, a, draws) for a in LOOKED_AT}
    print(f"Two modes at ±a: {minutes:g} minutes of a game; nats that D lacks")
    print("| a | JS | " + " | ".join(models) + " | ½ | of other a | error of log q |")
    print("|---|---" + "|---" * (len(models) + 3) + "|")
    for a, at in found.items():
        far = found[LOOKED_AT[(LOOKED_AT.index(a) + 1) % len(LOOKED_AT)]].learnt["taught on"]
        each = [at.lacking(logit) for logit in (*at.learnt.values(), 0 * at.x, far)]
        cells = " | ".join(f"{v:.4f}" for v in (at.bound(np.log(at.p / at.q)), *each))
        print(f"| {a:g} | {cells} | {at.error:.3f} |")
    return found


def draw(found: dict[float, Counted], path: Path) -> None:
    """D of each kind against D*, above p and q, a column for each θ."""
    from matplotlib.figure import Figure

    from physgen.reporting.style import GREY, HUES, INK, figure_of

    def panels(figure: Figure) -> None:
        axes = figure.subplots(2, len(found), sharex=True, sharey="row", height_ratios=(2, 1))
        for (top, bottom), (a, at) in zip(axes.T, found.items(), strict=True):
            some = at.p + at.q > 2e-5
            exact = at.p / (at.p + at.q)
            top.plot(at.x[some], exact[some], color=INK, linewidth=2.4, label="exact, p/(p + q)")
            for (name, logit), hue in zip(at.learnt.items(), HUES, strict=False):
                top.plot(at.x[some], 1 / (1 + np.exp(-logit[some])), color=hue, label=name)
            bottom.stairs(at.p, EDGES, fill=True, color=GREY, alpha=0.5, label="p")
            bottom.stairs(at.q, EDGES, color=HUES[0], label="q, of the generator")
            top.set_title(f"a = {a:g}")
            top.set_ylim(0, 1)
            bottom.set_xlabel("x")
        axes[0, 0].set_ylabel("D")
        for row, columns in ((0, 4), (1, 2)):
            handles = axes[row, 0].get_legend_handles_labels()
            place = "outside upper center" if row == 0 else "outside lower center"
            figure.legend(*handles, loc=place, ncols=columns)

    figure_of(panels, (9.0, 4.6)).savefig(path, dpi=110)
    print(f"{path}: drawn")


def main() -> None:
    """Both tables, and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=("ising", "modes"))
    parser.add_argument("--minutes", type=float, default=1.5)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--draws", type=int, default=300_000)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    if given.only != "modes":
        ising(given.steps)
    if given.only != "ising":
        found = two_modes(given.minutes, given.steps, given.draws)
        if given.picture:
            draw(found, given.picture)


if __name__ == "__main__":
    main()

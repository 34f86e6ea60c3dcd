r"""Second modes that the grid of posteriors misses without a word.

    python -m benchmarks.hidden_modes [--pairs 600] [--nodes 18] [--points 10 15 17]

Pairs of normal modes of one height in a box of ±1 of two parameters, anywhere: one 0.05 to 0.3
wide, the other 0.1 to 0.3 times as wide. The evidence is known in closed form. A mode is missed
if log of it is off by more than 0.005; the grid says so if the posterior is not resolved. The
control has two modes of one width. So many nodes an axis come first where no polynomial takes the
place of log p, so many points have the polynomials.
"""

from __future__ import annotations

import argparse
from functools import partial
from unittest.mock import patch

import numpy as np
from scipy.special import ndtr

from physgen.posterior import grid
from simulators.base import Array
from simulators.prior import Box

PRIOR = Box(a=(-1.0, 1.0), b=(-1.0, 1.0))
OFF = 0.005
"""Nats of log evidence."""


def pairs(n: int, ratio: tuple[float, float]) -> tuple[Array, Array]:
    """Places (n, 2, 2) and widths (n, 2) of both modes, the second narrower by a ratio."""
    rng = np.random.default_rng(0)
    place, width = rng.uniform(-1, 1, (n, 2, 2)), rng.uniform(0.05, 0.3, n)
    return place, np.stack([width, width * rng.uniform(*ratio, n)], 1)


def log_likelihood(place: Array, width: Array, theta: Array, which: Array | None = None) -> Array:
    """Log of the sum of both modes (n, 2, 2) at θ (k, G, 2), (k, G)."""
    rows = np.arange(len(place)) if which is None else which
    off = (theta[:, :, None] - place[rows][:, None]) / width[rows][:, None, :, None]
    return np.logaddexp.reduce(-0.5 * np.square(off).sum(-1), axis=-1)


def log_evidence(place: Array, width: Array) -> Array:
    """Log of its mean over the box, (n,)."""
    s = width[..., None]
    mass = s * np.sqrt(2 * np.pi) * (ndtr((1 - place) / s) - ndtr((-1 - place) / s))
    return np.log(mass.prod(-1).sum(-1) / 4)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=600)
    parser.add_argument("--nodes", type=int, nargs="+", default=[18])
    parser.add_argument("--points", type=int, nargs="+", default=[10, 15, 17])
    given = parser.parse_args()
    print("| second mode | first | missed without a word | not resolved | evaluations |")
    for name, ratio in (("0.1 to 0.3 times as wide", (0.1, 0.3)), ("as wide", (1.0, 1.0))):
        modes = pairs(given.pairs, ratio)
        ways = [("nodes", n) for n in given.nodes] + [("points", m) for m in given.points]
        for kind, many in ways:
            log_p = partial(log_likelihood, *modes)
            with patch.dict(grid.POINTS, {2: many}):
                nodes = many if kind == "nodes" else None
                found = grid.grid_posterior(log_p, PRIOR, given.pairs, nodes=nodes)
            off = abs(found.log_evidence - log_evidence(*modes)) > OFF
            missed, open_ = (off & found.resolved).sum(), (~found.resolved).sum()
            mean = found.evaluations.mean()
            print(f"| {name} | {many} {kind} | {missed} | {open_} | {mean:,.0f} |", flush=True)


if __name__ == "__main__":
    main()

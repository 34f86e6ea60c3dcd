r"""p(θ|y) from the evidence of a diffusion's particles, beside the exact one.

    python -m benchmarks.evidence MODEL [--draws 4] [--particles 32]

A diffusion of maps of the Gaussian field (`physgen fit diffusion`); of a map half of the sites are
seen, noise 0.1. log p(y|θ) along each parameter, the other at its true value: the Wiener filter's
and the particles' mean estimate. Means and widths of θ given y and the other parameter come from
both curves by quadrature; the control takes the curve of another y.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import physgen
from physgen.nn.measurement import Measurement
from simulators.base import Array
from simulators.field.gaussian import GaussianField

NODES = 7


def moments(at: Array, log_p: Array) -> tuple[float, float]:
    """Mean and width of θ at nodes (n,) of log densities (n,), a parabola through them."""
    curve = np.polyfit(at - at.mean(), log_p, 2, w=np.exp(0.25 * (log_p - log_p.max())))
    return at.mean() - curve[1] / (2 * curve[0]), (-2 * curve[0]) ** -0.5


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--particles", type=int, default=32)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model, _ = physgen.load(given.model)
    field = GaussianField(size=model.law.x_shape[0])
    theta, rng = np.array([0.0, 2.0]), np.random.default_rng(0)
    measurement = Measurement.of(model.law, rng.random(field.x_shape) < 0.5, 0.1)
    truths = field.sample(np.array([theta, [0.6, 2.0]]), rng)
    y, other = measurement(truths) + 0.1 * rng.standard_normal(truths.shape)
    print("| θ | exact | particles | of another y | log p̂ − log p: mean, sd over nodes |")
    for d, (name, width) in enumerate(zip(model.law.prior.names, (0.15, 0.15), strict=True)):
        at = np.tile(theta, (NODES, 1))
        at[:, d] += width * np.linspace(-2, 2, NODES)
        exact, wrong = (
            np.array([
                field.restoration(t, one, measurement.linear, 0.1).log_evidence for t in at
            ])
            for one in (y, other)
        )  # fmt: skip
        found = model.restore(
            at.repeat(given.draws, 0), np.tile(y, (NODES * given.draws, 1, 1)), measurement,
            method="particles", particles=given.particles, generator=d,
        ).diagnostics["log_evidence"].numpy()[:: given.draws]  # fmt: skip
        cells = [f"{m:.3f} ± {s:.3f}" for m, s in (
            moments(at[:, d], curve) for curve in (exact, found, wrong))]  # fmt: skip
        off = found - exact
        print(f"| {name} | {' | '.join(cells)} | {off.mean():.2f}, {off.std():.2f} |", flush=True)


if __name__ == "__main__":
    main()

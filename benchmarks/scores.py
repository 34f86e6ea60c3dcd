r"""The learnt score of maps beside the exact one, by noise level.

    python -m benchmarks.scores [--size 16] [--epochs 4]

Nats a site that the score loses per unit of log-SNR, as `physgen validate` has it. Rows: a network
alone, one beside the stationary law, and the exact score at parameters that are off, whose loss is
known in closed form: a check of the integral, and the control.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

import physgen
from physgen.checks.exact.score import ROWS, control_theta, score_section
from simulators.base import Array
from simulators.field.gaussian import GaussianField

SHOWN = slice(2, -2, 2)
"""Those in the table."""


def known_loss(field: GaussianField, theta: Array, off: Array) -> float:
    """KL a site of the field at θ (n, D) from that at θ + off, the mean over θ."""
    ratio = field.log_power(theta) - field.log_power(theta + off)
    each = 0.5 * (np.expm1(ratio) - ratio) @ field.shells.count
    return float(each.mean()) / field.sites


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4, help="of the network alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    field = GaussianField(size=given.size)
    data = physgen.simulate("gaussian-field", size=given.size, n=20_000, seed=1)
    base = physgen.fit("diffusion", data, seed=1, epochs=1)
    alone = physgen.fit("diffusion", data, seed=1, epochs=given.epochs, spectrum="none")
    rng = np.random.default_rng(0)
    theta = field.prior.sample(ROWS, rng)
    x = field.sample(theta, rng)
    network, law = (score_section(model, field, theta, x, 2) for model in (alone, base))
    found = {
        "network alone": network["surrogate"],
        "beside the stationary law": law["surrogate"],
        "control": law["control"],
    }
    shown = " | ".join(f"λ = {v:.0f}" for v in law["log_snr"][SHOWN])
    print(
        f"| score | {shown} | integral | ± |\n" + "|---" * (len(law["log_snr"][SHOWN]) + 3) + "|"
    )
    for label, lost in found.items():
        values = [*lost["mean"][SHOWN], *lost["total"].values()]
        print(f"| {label} | " + " | ".join(f"{v / field.sites:.1e}" for v in values) + " |")
    wrong = control_theta(field.prior, theta)
    print(f"the control in closed form: {known_loss(field, theta, wrong - theta):.2e}")


if __name__ == "__main__":
    main()

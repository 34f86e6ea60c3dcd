r"""log Z(θ) of a surrogate that has one, beside the exact one.

Two energies that differ by a function of θ alone make the same law, so their log Z cannot be
compared as they are. With x drawn from p(x|θ) at one θ,

    log Ẑ(θ) = log Z_q(θ) + E[log p̃(x|θ) − log q̃(x|θ)],

p̃ and q̃ being the laws without their Z, is the surrogate's log Z in the simulator's units: it lies
above log Z by KL(p‖q), and by the error of log Z_q.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from physgen.surrogates.base import Surrogate
from simulators.base import Simulator, exact_log_prob, exact_log_z

__all__ = ["log_z_section"]

POINTS, ROWS = 13, 200


def log_z_section(
    surrogate: Surrogate, simulator: Simulator | None, draws: int, seed: int
) -> dict[str, Any] | None:
    """log Z in nats a component along the first parameter, the others at their middle.

    Args:
        surrogate: any family; None is said of one without a Z.
        simulator: with an exact log Z.
        draws: draws of a log p.
        seed: seed of x and of the draws.
    """
    log_z = exact_log_z(simulator) if simulator else None
    log_prob = exact_log_prob(simulator) if simulator else None
    prior, n = surrogate.law.prior, surrogate.law.size
    theta = np.tile(prior.median, (POINTS, 1))
    low, high = prior.bulk[:, 0]
    theta[:, 0] = np.linspace(low, high, POINTS)
    known = {k: v.cpu().numpy() for k, v in surrogate.normaliser(torch.as_tensor(theta)).items()}
    if not known or simulator is None or log_z is None or log_prob is None:
        return None
    many = theta.repeat(ROWS, axis=0)
    x = simulator.sample(many, np.random.default_rng([seed, 5]))
    q = surrogate.log_prob_with_error(many, x, draws=draws, seed=seed)
    gap = (log_prob(many, x) - q.value.numpy()).reshape(POINTS, ROWS)
    exact = log_z(theta)
    implied = exact + gap.mean(1)
    bounds = {k: (implied + known[k] - known["value"]) / n for k in ("forward", "backward")}
    stderr = np.hypot(known["stderr"], gap.std(1, ddof=1) / np.sqrt(ROWS))
    return {
        "parameter": prior.names[0],
        "theta": theta[:, 0],
        "exact": exact / n,
        "surrogate": {"mean": implied / n, "se": stderr / n},
        "ess": known["ess"],
        "nats": {
            "stderr": known["stderr"].max(),
            "backward_forward": abs(known["backward"] - known["forward"]).max(),
            "half": abs(known["half"] - known["forward"]).max(),
        },
        **bounds,
    }

"""Surrogates whose log p is a mean over draws, of which posteriors may need few."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from physgen.surrogates.base import Likelihood, Surrogate

__all__ = ["FewestDraws"]

FEWER, PRECISE, STEP, ROWS = (2, 4, 8, 16), 0.1, 0.1, 200
"""Draws that may do for posteriors; the error in nats, root mean square over so many held-out
rows, that they may leave on what log p changes by over a step of the prior's coordinates."""


class FewestDraws(Surrogate):
    """A surrogate that keeps the fewest draws that posteriors need, once it is trained."""

    later_buffers: ClassVar[tuple[str, ...]] = ("enough",)

    enough: Tensor

    def start_draws(self, most: int) -> None:
        """The draws of posteriors where `finalize` finds no fewer, to be called once."""
        self.posterior_draws = self.most = most
        self.register_buffer("enough", torch.tensor(most))

    def finalize(
        self, seed: int = 0, theta: Tensor | None = None, x: Tensor | None = None
    ) -> None:
        """Keep the fewest draws for posteriors: differences of log p by θ are known to `PRECISE`.

        Draws are the same under every θ, so that differences are far less noisy than log p.

        Args:
            seed: of the draws.
            theta: parameters of held-out rows (n, D); without any all draws are kept.
            x: the rows (n, *x_shape).
        """
        if theta is None or x is None or self.likelihood is Likelihood.EXACT:
            return
        theta, x = theta[:ROWS].cpu().double(), x[:ROWS]
        c = self.law.prior.to_coordinates(theta.numpy())
        moved = torch.from_numpy(self.law.prior.from_coordinates(c - np.copysign(STEP, c)))

        def noisy(k: int) -> bool:
            one, other = (
                self.log_prob(moved, x, draws=k, seed=s) - self.log_prob(theta, x, draws=k, seed=s)
                for s in (seed, seed + 1)
            )
            return float((one - other).square().mean().sqrt()) > math.sqrt(2) * PRECISE

        self.posterior_draws = next((k for k in FEWER if not noisy(k)), self.most)
        self.enough.fill_(self.posterior_draws)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state, prefix, *rest)
        self.posterior_draws = int(self.enough)

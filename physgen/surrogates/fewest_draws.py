"""Families whose log p takes draws: how few do for posteriors is measured once they are trained.

Draws are the same under every θ, so that differences of log p by θ, which are all that a posterior
takes, are far less noisy than log p. How noisy depends on what was learnt: held-out rows tell.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from physgen.surrogates.base import Likelihood, Surrogate

__all__ = ["FewestDraws"]

BEST = 32
"""Draws that fewer are held against."""
PRECISE, STEP, ROWS = 0.1, 0.1, 200
"""The error in nats, root mean square over so many held-out rows, that they may leave on what log
p changes by over a step of the prior's coordinates."""


class FewestDraws(Surrogate):
    """A family that keeps the fewest draws which posteriors need.

    Attributes:
        fewer: draws for posteriors that may do.
        most: those where nothing is known.
        enough: () those that are kept.
    """

    law_buffers: ClassVar[tuple[str, ...]] = ("enough",)
    later_buffers: ClassVar[tuple[str, ...]] = law_buffers

    fewer: ClassVar[tuple[int, ...]] = (2, 4, 8, 16)
    most: int
    enough: Tensor

    def take_at_most(self, draws: int) -> None:
        """Begin with so many draws for posteriors; a family calls it as it is made."""
        self.most = self.posterior_draws = draws
        self.register_buffer("enough", torch.tensor(draws))

    @property
    def may_take_fewer(self) -> bool:
        """Whether it is worth to look: not where log p is exact."""
        return self.likelihood is not Likelihood.EXACT

    def finalize(
        self, seed: int = 0, theta: Tensor | None = None, x: Tensor | None = None
    ) -> None:
        """Keep the fewest draws for posteriors: differences of log p by θ are known to `PRECISE`.

        They are told from those of many draws: of fewer a bound may be looser, by more at some θ.

        Args:
            seed: of the draws.
            theta: parameters of held-out rows (n, D); without any all draws are kept.
            x: the rows (n, *x_shape).
        """
        if not self.may_take_fewer:
            return
        self.posterior_draws = self.most
        if theta is not None and x is not None:
            self.posterior_draws = self._fewest(seed, theta[:ROWS].cpu().double(), x[:ROWS])
        self.enough.fill_(self.posterior_draws)

    def _fewest(self, seed: int, theta: Tensor, x: Tensor) -> int:
        """Draws for posteriors, from rows θ (n, D) and x (n, *x_shape)."""
        c = self.law.prior.to_coordinates(theta.numpy())
        moved = torch.from_numpy(self.law.prior.from_coordinates(c - np.copysign(STEP, c)))

        def change(draws: int, seed: int) -> Tensor:
            one, other = (self.log_prob(t, x, draws=draws, seed=seed) for t in (moved, theta))
            return one - other

        best = change(BEST, seed + 1)

        def error(k: int) -> float:  # less the noise of `best`
            off = (change(k, seed) - best).square().mean() / (1 + k / BEST)
            return float(off.sqrt())

        return next((k for k in self.fewer if error(k) <= PRECISE), self.most)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state, prefix, *rest)
        self.posterior_draws = int(self.enough)

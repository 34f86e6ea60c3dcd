"""Parts of a trained surrogate of which held-out rows gain nothing are taken back to 0.

A part begins as 0, and what stands beside it is a law in closed form. Where that law is right,
training adds noise that a validation loss is too noisy to see. The gain of a part is seen by row:
log p with it and without it, from the same random numbers, which differ by nothing where it adds
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from physgen.runtime.progress import log
from physgen.surrogates.base import Surrogate
from physgen.surrogates.fewest_draws import FewestDraws

__all__ = ["Part", "Prunable", "is_zero"]

Part = Sequence[nn.Module]
"""The layers of a part that are 0 where it adds nothing."""
DRAWS, ROWS, NUMBERS, FEWEST = 8, 2000, 2**19, 30
"""Draws of log p; held-out rows at most, and numbers of x in them, about; rows at least: of fewer
nothing is told."""
SIGNIFICANT = 2.0
"""Standard errors that the gain of a part has to be above 0."""


class Prunable(FewestDraws):
    """A family with parts beside a law in closed form."""

    @property
    def parts(self) -> Mapping[str, Part]:
        """Those that may be left out, by their names."""
        return {}

    @property
    def bounded(self) -> Self:
        """The same weights, with a log p that is a bound or exact."""
        return self

    def finalize(
        self, seed: int = 0, theta: Tensor | None = None, x: Tensor | None = None
    ) -> None:
        """Leave out what gains nothing over the law; keep the fewest draws.

        Args:
            seed: of the draws.
            theta: parameters of held-out rows (n, D).
            x: the rows (n, *x_shape).
        """
        if self.parts and theta is not None and x is not None:
            prune(self.bounded, self.parts, theta, x, seed)
        super().finalize(seed, theta, x)


@torch.no_grad()
def prune(
    surrogate: Surrogate, parts: Mapping[str, Part], theta: Tensor, x: Tensor, seed: int = 0
) -> None:
    """Take parts back to 0, one after another, of which log p gains nothing.

    Args:
        surrogate: whose they are, its log p a bound or exact.
        parts: by their names.
        theta: parameters of held-out rows (n, D).
        x: the rows (n, *x_shape).
        seed: of the draws of log p.
    """
    if len(x) < FEWEST:
        return
    rows = max(FEWEST, min(ROWS, NUMBERS // surrogate.law.size))
    theta, x, was_training = theta[:rows], x[:rows], surrogate.training
    surrogate.eval()
    for name, part in parts.items():
        if is_zero(part):
            continue
        with_it = surrogate.log_prob(theta, x, draws=DRAWS, seed=seed)
        weights: list[Tensor] = [w for layer in part for w in layer.parameters()]
        kept = [w.clone() for w in weights]
        torch._foreach_zero_(weights)
        gain = with_it - surrogate.log_prob(theta, x, draws=DRAWS, seed=seed)
        gain = gain[~gain.isnan()]  # not of rows that are impossible either way
        if gain.mean() > SIGNIFICANT * gain.std() / len(gain) ** 0.5:
            torch._foreach_copy_(weights, kept)
        else:
            log.info("%s: held-out rows gain nothing by %s: left out", surrogate.name, name)
    surrogate.train(was_training)


def is_zero(part: Part) -> bool:
    """Whether a part is as it began."""
    return not any(bool(w.any()) for layer in part for w in layer.parameters())

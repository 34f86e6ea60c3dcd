"""What a measurement y_i = s_i + σε_i says of spins: their values, or a field y_i/σ² if σ > 0."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from physgen.errors import DataError, UsageError
from physgen.nn.convergence import effective_size, split_r_hat
from physgen.nn.measurement import Measurement
from physgen.nn.tensors import equal_rows

__all__ = ["SeenSpins", "chains_of_rows", "r_hat_of_rows"]

FEWEST = 4
"""Sweeps that R̂ needs."""


class SeenSpins(NamedTuple):
    """What is known of spins x (B, N).

    Attributes:
        clamped: which are known, (N,) booleans.
        value: their values, 0 elsewhere, (B, N).
        field: half the log odds of +1 that y adds, y/σ², 0 where nothing is seen, (B, N).
    """

    clamped: Tensor
    value: Tensor
    field: Tensor

    @classmethod
    def of(cls, y: Tensor, measurement: Measurement) -> SeenSpins:
        """What y (B, *x_shape), 0 where it is not seen, says.

        Raises:
            DataError: y that are no spins, without noise.
            UsageError: spins that were blurred or averaged.
        """
        if not measurement.linear.only_masks:
            raise UsageError("blur, average: not of spins by this method; expected a mask alone")
        y, seen = y.flatten(1).float(), measurement.seen.flatten().to(y.device)
        if measurement.noise:
            none = torch.zeros_like(seen)
            return cls(none, torch.zeros_like(y), y * seen / measurement.noise**2)
        if not (y[:, seen].abs() == 1).all():
            raise DataError("y: expected spins of −1 and +1 without noise; give a noise > 0")
        return cls(seen, y * seen, torch.zeros_like(y))

    def held(self, x: Tensor) -> Tensor:
        """x (B, N) with the known spins in their places."""
        return torch.where(self.clamped, self.value, x)


def r_hat_of_rows(series: Tensor, rows: Tensor) -> Tensor:
    """R̂ of chains, for each of those that have one law.

    Args:
        series: something of each chain, sweep by sweep, (T, B).
        rows: what their laws are of, (B, k): equal rows are of one law.

    Returns:
        (B,), NaN of fewer than 4 of them.
    """
    return chains_of_rows(series[..., None], rows)["r_hat"]


def chains_of_rows(series: Tensor, rows: Tensor) -> dict[str, Tensor]:
    """What chains say of themselves, all of one law together, at the worst of several numbers.

    Args:
        series: numbers of each chain, sweep by sweep, (T, B, m).
        rows: what their laws are of, (B, k): equal rows are of one law.

    Returns:
        ``r_hat`` and ``chain_ess``, the independent states that each chain went through, (B,)
        each; NaN of fewer than 4 sweeps. Where no two chains are of one law, those of all.
    """
    found = torch.full((2, len(rows)), torch.nan, dtype=torch.float64)
    chains = series.double().transpose(0, 1).cpu().numpy()
    laws = list(equal_rows(rows.cpu())) if len(series) >= FEWEST else []
    if len(laws) == len(rows) > 0:  # no two chains of one law
        each = chains[:, None]
        found[0] = float(split_r_hat(each, pooled=True).max())
        found[1] = float(effective_size(each).mean(0).min())
        return {"r_hat": found[0], "chain_ess": found[1]}
    for mine in laws:
        found[0, mine] = float(split_r_hat(chains[mine]).max())
        found[1, mine] = float(effective_size(chains[mine]).min()) / len(mine)
    return {"r_hat": found[0], "chain_ess": found[1]}

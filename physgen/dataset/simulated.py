"""Rows that a simulator makes, shard by shard: pure in the shard, and picklable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from physgen.dataset.job import Shard
from physgen.dataset.schema import Rows
from physgen.errors import UsageError
from physgen.law import Law

__all__ = ["Simulate"]


@dataclass(frozen=True)
class Simulate:
    """Makes a shard of a dataset by simulation: picklable, and pure in the shard.

    Attributes:
        law: what to draw from.
    """

    law: Law

    def __call__(self, shard: Shard) -> Rows:
        """θ from the prior and x from the simulator, each with a stream of its own."""
        theta_seed, x_seed = shard.seed.spawn(2)
        theta = self.law.prior.sample(len(shard), np.random.default_rng(theta_seed))
        simulator = self.law.build()
        try:
            x = simulator.sample(theta, np.random.default_rng(x_seed))
        except Exception as error:  # whatever a user's code raises is told in one line
            raise UsageError(
                f"{self.law.simulator}: sample raised {type(error).__name__}: {error}"
            ) from error
        return Rows(x=np.asarray(x), theta=theta)

"""Rows made shard by shard, by a simulator or by a surrogate: pure in the shard, and picklable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from physgen.dataset.job import Shard
from physgen.dataset.schema import Rows
from physgen.errors import UsageError
from physgen.law import Law
from simulators.base import Array

if TYPE_CHECKING:
    from physgen.surrogates.base import Surrogate

__all__ = ["Draw", "Simulate"]


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


@dataclass(frozen=True)
class Draw:
    """Makes a shard of a dataset by a surrogate.

    Attributes:
        surrogate: what draws.
        theta: (n, D) the parameters of all rows; None to draw them from the prior.
    """

    surrogate: Surrogate
    theta: Array | None

    def __call__(self, shard: Shard) -> Rows:
        """θ as given or from the prior, and x from the surrogate."""
        import torch

        theta_seed, x_seed = shard.seed.spawn(2)
        prior, n = self.surrogate.law.prior, len(shard)
        if self.theta is None:
            theta = prior.sample(n, np.random.default_rng(theta_seed))
        else:
            theta = self.theta[shard.start : shard.stop]
        generator = torch.Generator(self.surrogate.device)
        generator.manual_seed(int(x_seed.generate_state(1, np.uint64)[0] >> 1))
        x = self.surrogate.sample(torch.from_numpy(theta), generator)
        return Rows(x=x.cpu().numpy(), theta=theta)

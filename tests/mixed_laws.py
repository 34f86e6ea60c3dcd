"""Laws of mixed columns with an exact log p, for the tests."""

from typing import ClassVar

import numpy as np
from scipy.stats import norm

from simulators import Box


class Race:
    """Two runners of lognormal times: the first that arrives is chosen, at time t."""

    prior = Box(drift=(-1.0, 1.0), noise=(0.2, 0.6))
    support: ClassVar[object] = {"choice": "levels:2", "t": "reals"}

    def sample(self, theta, rng):
        mean = np.stack([-theta[:, 0], theta[:, 0]], 1) / 2
        t = np.exp(mean + theta[:, 1:] * rng.standard_normal(mean.shape))
        return np.column_stack([t.argmin(1), t.min(1)])

    def log_prob(self, theta, x):
        mean = np.stack([-theta[:, 0], theta[:, 0]], 1) / 2
        z = (np.log(x[:, 1:]) - mean) / theta[:, 1:]
        rows, chosen = np.arange(len(x)), x[:, 0].astype(int)
        density = norm.logpdf(z)[rows, chosen] - np.log(theta[:, 1] * x[:, 1])
        return density + norm.logsf(z)[rows, 1 - chosen]


class RaceOfReals(Race):
    """The same, its choice declared as a real number."""

    support = "reals"
    x_shape = (2,)


class Events:
    """How many events, of which sort the first was, the energy of all, 0 without any."""

    prior = Box(log_rate=(0.0, 6.0))
    support: ClassVar[object] = {"n": "counts", "energy": "nonnegative", "sort": "levels:3"}

    def sample(self, theta, rng):
        n = rng.poisson(np.exp(theta[:, 0]))
        energy = np.where(n > 0, rng.gamma(np.maximum(n, 1)), 0.0)
        return np.column_stack([n, energy, rng.integers(3, size=len(n))])


class Spoilt(Events):
    """One row in a while has a sort that there is none."""

    def sample(self, theta, rng):
        x = super().sample(theta, rng)
        x[3, 2] = 7
        return x

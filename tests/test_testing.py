"""The checks for classes of one's own: good ones pass, broken ones fail for their reason."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from physgen.law import Law
from physgen.surrogates.base import Likelihood, Objective, Surrogate
from physgen.surrogates.cvae import CVAE
from physgen.testing import check_simulator, check_surrogate
from simulators.gaussian import LinearGaussian
from simulators.ising import Ising
from simulators.prior import Box


@dataclass(frozen=True)
class TwoMoons:
    """The simulator of the README."""

    noise: float = 0.01
    prior = Box(theta1=(-1.0, 1.0), theta2=(-1.0, 1.0))
    x_shape = (2,)

    def sample(self, theta, rng):
        angle = rng.uniform(-np.pi / 2, np.pi / 2, len(theta))
        radius = rng.normal(0.1, self.noise, len(theta))
        moon = np.stack([radius * np.cos(angle) + 0.25, radius * np.sin(angle)], axis=1)
        a, b = theta.T
        return moon + np.stack([-abs(a + b), b - a], axis=1) / np.sqrt(2)


@pytest.mark.parametrize(
    "simulator",
    [
        LinearGaussian(),
        LinearGaussian(7, 3, 0.01),
        LinearGaussian(1, 1, 30.0),
        Ising(4),
        Ising(3, 5),
        Ising(3, 4, theta="beta-xy"),
        Ising(2, 5, theta="beta-h"),
        Ising(4, theta="temperature"),
        TwoMoons(),
    ],
    ids=str,
)
def test_good_simulators_pass(simulator):
    assert check_simulator(simulator) == []


# --- broken simulators ---------------------------------------------------------------------------


class Wide(LinearGaussian):
    def log_prob(self, theta, x):
        return LinearGaussian(self.size, noise=0.6).log_prob(theta, x)


class Displaced(LinearGaussian):
    def sample(self, theta, rng):
        return super().sample(theta, rng) + 0.1


class FirstRowOnly(LinearGaussian):
    def sample(self, theta, rng):
        return super().sample(np.repeat(theta[:1], len(theta), 0), rng)


class OneNoise(LinearGaussian):
    def sample(self, theta, rng):
        return self.mean(theta) + self.noise * rng.standard_normal(self.size)


class ChangesTheta(LinearGaussian):
    def sample(self, theta, rng):
        theta *= 0.5
        return super().sample(theta, rng)


class ChangesX(LinearGaussian):
    def log_prob(self, theta, x):
        x -= self.mean(theta)
        return super().log_prob(theta, x + self.mean(theta))


class Unseeded(LinearGaussian):
    def sample(self, theta, rng):
        return super().sample(theta, np.random.default_rng())


class Frozen(LinearGaussian):
    def sample(self, theta, rng):
        return super().sample(theta, np.random.default_rng(0))


class Flat(LinearGaussian):
    def sample(self, theta, rng):
        return super().sample(theta, rng).ravel()


class Squeezed(LinearGaussian):
    def sample(self, theta, rng):
        return super().sample(theta, rng).squeeze()


class NotFinite(LinearGaussian):
    def sample(self, theta, rng):
        return np.where(rng.random((len(theta), self.size)) < 0.2, np.nan, 0.0)


class SummedLogProb(LinearGaussian):
    def log_prob(self, theta, x):
        return super().log_prob(theta, x).sum()


class Flipped(LinearGaussian):
    symmetries = ("flip",)


class Mirrored(LinearGaussian):
    symmetries = ("reflect",)


class Spinless(LinearGaussian):
    support = "spins"


class Negative(LinearGaussian):
    support = "nonnegative"


class Dice:
    """Faces 0 … 2, each thrown alone, p(k) ∝ exp(θ k)."""

    prior = Box(bias=(-1.0, 1.0))
    x_shape = (3,)
    support = "levels"
    levels: ClassVar[object] = 3

    def weights(self, theta):
        return np.exp(theta[:, :1] * np.arange(3))

    def sample(self, theta, rng):
        p = self.weights(theta)
        below = (p / p.sum(1, keepdims=True)).cumsum(1)[:, None]
        return (rng.random((len(theta), 3, 1)) > below[..., :-1]).sum(-1)

    def log_prob(self, theta, x):
        return theta[:, 0] * x.sum(1) - 3 * np.log(self.weights(theta).sum(1))


class TooManyFaces(Dice):
    levels: ClassVar[object] = 2


class NoFaces(Dice):
    levels: ClassVar[object] = None


class FlippedDice(Dice):
    symmetries = ("flip",)


class HalfFaces(Dice):
    def sample(self, theta, rng):
        return super().sample(theta, rng) / 2


class Complex(LinearGaussian):
    support = "complex"


class Turned(LinearGaussian):
    symmetries = ("turn",)


class Oblong(Ising):
    symmetries = ("transpose",)


class HalfShape(LinearGaussian):
    x_shape: ClassVar[list[float]] = [5.5]


class OddObservable(LinearGaussian):
    @property
    def observables(self):
        return {"mean": lambda x: x.mean()}


class FlippedField(Ising):
    symmetries = ("shift", "reflect", "flip")


class TurnedCouplings(Ising):
    symmetries = ("shift", "transpose")


class Cylinder:
    """Spins in columns that are coupled along axis 1, which is open; axis 2 is free."""

    prior = Box(beta=(0.1, 0.7))
    x_shape = (3, 2)
    support = "spins"
    symmetries = ("shift",)

    def sample(self, theta, rng):
        p = 1 / (1 + np.exp(-2 * theta[:, :1, None]))
        steps = 2 * (rng.random((len(theta), 3, 2)) < p) - 1
        steps[:, 0] = 2 * rng.integers(0, 2, (len(theta), 2)) - 1
        return np.cumprod(steps, axis=1)

    def log_prob(self, theta, x):
        pairs = (x[:, 1:] * x[:, :-1]).sum((1, 2))
        return theta[:, 0] * pairs - 4 * np.log(2 * np.cosh(theta[:, 0])) - 2 * np.log(2)


class OpenCylinder(Cylinder):
    symmetries = ("reflect", "flip")


class Nothing:
    prior = None


class Tilted(Box):
    """A prior of its own law, which no file would keep."""

    def sample(self, n, rng):
        return self.low + (self.high - self.low) * rng.random((n, len(self))) ** 2


class TiltedGaussian(LinearGaussian):
    prior = Tilted(theta1=(-1.0, 1.0), theta2=(-1.0, 1.0))


@pytest.mark.parametrize(
    ("simulator", "told"),
    [
        (Wide(), "log_prob: x does not follow it"),
        (Displaced(), "log_prob: x does not follow it"),
        (FirstRowOnly(), "log_prob: x does not follow it"),
        (OneNoise(), "sample: no density of components that others tell"),
        (ChangesTheta(), "sample: changes the caller's theta"),
        (ChangesX(), "log_prob: changes the caller's theta or x"),
        (Unseeded(), "sample: the same theta and the same rng give another x"),
        (Frozen(), "sample: another rng gives the same x"),
        (Flat(), "sample: expected shape (7, 5), got (35,)"),
        (Squeezed(), "sample: of one row, expected shape (1, 5), got (5,)"),
        (NotFinite(), "sample: x is not finite"),
        (SummedLogProb(), "log_prob: expected 2000 finite values, got shape ()"),
        (Flipped(), "symmetries: log_prob changes under flip"),
        (Mirrored(), "symmetries: log_prob changes under reflect of axis 1"),
        (FlippedField(3, theta="beta-h"), "symmetries: log_prob changes under flip"),
        (TurnedCouplings(3, theta="beta-xy"), "symmetries: log_prob changes under transpose"),
        (Cylinder(), "symmetries: log_prob changes under shift of axis 1"),
        (Spinless(), "sample: support is spins"),
        (Negative(), "sample: support is nonnegative"),
        (TooManyFaces(), "sample: support is levels:2, but x is no integer from 0 to 1"),
        (HalfFaces(), "sample: support is levels:3, but x is no integer from 0 to 2"),
        (NoFaces(), "levels: expected whole numbers, got None"),
        (FlippedDice(), "symmetries: flip is a change of sign"),
        (Complex(), "support: expected one of"),
        (Turned(), "symmetries: expected some of"),
        (Oblong(3, 5), "symmetries: transpose needs a square x, its axes alike, got (3, 5)"),
        (HalfShape(), "x_shape: expected whole numbers"),
        (OddObservable(), "observable mean: expected shape (7,) or (7, k), got ()"),
        (Nothing(), "prior: expected a simulators.Prior or Box, got NoneType"),
        (TiltedGaussian(), "prior: expected a simulators.Prior or Box, got Tilted"),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, str) else "",
)
def test_broken_simulators_fail_for_their_reason(simulator, told):
    complaints = check_simulator(simulator)
    assert complaints
    assert complaints[0].startswith(told), complaints
    assert not any("\n" in c for c in complaints)


def test_dice_pass():
    assert check_simulator(Dice()) == []


def test_the_same_cylinder_rightly_declared_passes():
    assert check_simulator(OpenCylinder()) == []


# --- surrogates ----------------------------------------------------------------------------------

LAW = Law.of("gaussian", {"size": 3})
SPINS = Law.of("ising", {"size": 2})
LEVELS = Law("dice", Box(bias=(-1, 1)), (3,), "levels", levels=3)


@dataclass(frozen=True)
class NoConfig:
    pass


class Good(Surrogate):
    """N(w c₁, 1) for each component."""

    name: ClassVar[str] = "good"
    likelihood: ClassVar[Likelihood] = Likelihood.EXACT
    Config = NoConfig

    def __init__(self, law, config):
        super().__init__(law, config)
        self.w = nn.Parameter(torch.ones(law.x_shape))

    def _mean(self, c):
        return torch.einsum("b,...->b...", c[:, 0], self.w)

    def _loss(self, c, z, generator, progress):
        return 0.5 * ((z - self._mean(c)) ** 2).flatten(1).sum(1)

    def _sample(self, c, generator):
        mean = self._mean(c)
        return mean + torch.randn(mean.shape, generator=generator)

    def _log_prob(self, c, z, noise, draws):
        value = -0.5 * ((z - self._mean(c)) ** 2).flatten(1).sum(1)
        return value, torch.zeros_like(value)


class NotWhole(Good):
    supports = ("levels",)


class Clock:
    """Counts calls: what a broken class may depend on."""

    calls = 0

    def __call__(self):
        self.calls += 1
        return self.calls


CLOCK = Clock()


class MeanLoss(Good):
    def _loss(self, c, z, generator, progress):
        return super()._loss(c, z, generator, progress).mean()


class NanLoss(Good):
    def objectives(self):
        loss = [Objective("critic", [self.w], lambda t, x, g, p=1.0: self.loss(t, x, g) * np.nan)]
        return [*super().objectives(), *loss]


class UnseededLoss(Good):
    def _loss(self, c, z, generator, progress):
        return super()._loss(c, z, generator, progress) + CLOCK()


class FlatSample(Good):
    def _sample(self, c, generator):
        return super()._sample(c, generator)[..., :1]


class UnseededSample(Good):
    def _sample(self, c, generator):
        return super()._sample(c, generator) + CLOCK()


class NanLogProb(Good):
    def _log_prob(self, c, z, noise, draws):
        value, error = super()._log_prob(c, z, noise, draws)
        return value * np.nan, error


class NanError(Good):
    def _log_prob(self, c, z, noise, draws):
        value, error = super()._log_prob(c, z, noise, draws)
        return value, error * np.nan


class OrderedNoise(Good):
    def _log_prob(self, c, z, noise, draws):
        value, error = super()._log_prob(c, z, noise, draws)
        return value + torch.arange(len(value)), error


class BatchNormed(Good):
    def _log_prob(self, c, z, noise, draws):
        value, error = super()._log_prob(c, z, noise, draws)
        return value - value.mean(), error


class UnseededLogProb(Good):
    def _log_prob(self, c, z, noise, draws):
        value, error = super()._log_prob(c, z, noise, draws)
        return value + CLOCK(), error


class HalfGradient(Good):
    """Right values; θ acts by half where a gradient is asked for."""

    def _log_prob(self, c, z, noise, draws):
        return super()._log_prob((c + c.detach()) / 2, z, noise, draws)


class HalfGradientOfX(Good):
    def _log_prob(self, c, z, noise, draws):
        return super()._log_prob(c, (z + z.detach()) / 2, noise, draws)


class Forgetful(Good):
    """What it is like is neither a weight nor an option."""

    factor = 1.0

    def _mean(self, c):
        return self.factor * super()._mean(c)

    def __init__(self, law, config):
        super().__init__(law, config)
        self.factor = CLOCK()


class Unregistered(CVAE):
    """Has the name of its parent."""


class Stubborn(Good):
    def __init__(self, law, config, *, size=1):
        super().__init__(law, config)
        self.more = nn.Parameter(torch.ones(CLOCK()))


class SilentGan(Good):
    likelihood: ClassVar[Likelihood] = Likelihood.NONE

    def _log_prob(self, c, z, noise, draws):
        raise TypeError


@pytest.mark.parametrize("family", [Good, SilentGan])
def test_good_surrogates_pass(family):
    assert check_surrogate(family.create(LAW, NoConfig())) == []


@pytest.mark.parametrize(
    ("family", "law", "told"),
    [
        (MeanLoss, LAW, "loss: expected 7 values, got shape ()"),
        (NanLoss, LAW, "critic: expected 7 finite values"),
        (UnseededLoss, LAW, "loss: the same generator gives another loss"),
        (UnseededSample, LAW, "sample: the same generator gives another x"),
        (Good, SPINS, "sample: support is spins"),
        (NotWhole, LEVELS, "sample: support is levels"),
        (NanLogProb, LAW, "log_prob: expected 7 finite values"),
        (NanError, LAW, "log_prob: expected 7 standard errors"),
        (OrderedNoise, LAW, "log_prob: depends on the order of the batch"),
        (BatchNormed, LAW, "log_prob: depends on the other rows of the batch"),
        (UnseededLogProb, LAW, "log_prob: depends on the order of the batch"),
        (HalfGradient, LAW, "log_prob: its gradient by theta1 is not the slope of its values"),
        (HalfGradientOfX, LAW, "log_prob: its gradient by x is not the slope of its values"),
        (Forgetful, LAW, "save: loads to another log p"),
        (Stubborn, LAW, "save: does not load again: checkpoint: weights do not fit"),
    ],
)
def test_broken_surrogates_fail_for_their_reason(family, law, told):
    complaints = check_surrogate(family.create(law, NoConfig()))
    assert complaints
    assert complaints[0].startswith(told), complaints


def test_a_class_that_no_checkpoint_could_name_is_told():
    class Local(Good):
        name = "local"

    (told,) = check_surrogate(Local.create(LAW, NoConfig()))
    assert told.startswith("class: ")
    assert "Local lies within a function" in told
    surrogate = CVAE.create(LAW, CVAE.Config(channels=3))
    assert check_surrogate(surrogate) == []
    surrogate.__class__ = Unregistered
    (told,) = check_surrogate(surrogate)
    assert "Unregistered: goes by the name 'cvae' of physgen.surrogates.cvae:CVAE" in told
    moved = type("Good", (Good,), {"__module__": Good.__module__})
    (told,) = check_surrogate(moved.create(LAW, NoConfig()))
    assert told.endswith("Good is another class than this surrogate's")


def test_a_gradient_that_autograd_does_not_see_is_told():
    class Numpy(Good):
        def _log_prob(self, c, z, noise, draws):
            value = torch.from_numpy(-(c.numpy() ** 2).sum(1))
            return value, torch.zeros_like(value)

    Numpy.__qualname__ = "Numpy"
    globals()["Numpy"] = Numpy
    (told,) = check_surrogate(Numpy.create(LAW, NoConfig()))
    assert told.startswith("good: its log p has no gradient by")

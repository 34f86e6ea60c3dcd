"""The gradient of log p by θ and by x, against central differences in float64, for each family."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.registry import find
from physgen.surrogates.base import Likelihood
from simulators.prior import Box

SPINS = Law.of("ising", {"size": 4, "width": 2})
FIELD = Law.of("ising", {"size": 3, "theta": "beta-h"})  # two parameters, no flip
LEVELS = Law("dice", Box(bias=(-1.0, 1.0)), (5,), "levels", levels=3)
REALS = Law.of("gaussian", {"size": 3, "parameters": 2})
RAIN = Law("rain", Box(mean=(-1.0, 1.0), spread=(1.0, 3.0)), (5,), "nonnegative")
SHOWER = replace(RAIN, x_shape=(2, 2, 2))
ROWS = 5

CASES = {
    "autoregressive, spins": ("autoregressive", SPINS, {}),
    "autoregressive, no flip": ("autoregressive", FIELD, {}),
    "autoregressive, levels": ("autoregressive", LEVELS, {}),
    "autoregressive, hurdle": ("autoregressive", RAIN, {}),
    "autoregressive, reals": ("autoregressive", REALS, {}),
    "autoregressive, student": ("autoregressive", REALS, {"mixture": "student"}),
    "autoregressive, separate hurdles": ("autoregressive", RAIN, {"network": "separate"}),
    "cvae, spins": ("cvae", SPINS, {"channels": 5}),
    "cvae, reals": ("cvae", REALS, {"channels": 5}),
    "cvae, hurdle": ("cvae", RAIN, {"channels": 5}),
    "masked, bound": ("diffusion", SPINS, {}),
    "masked, path": ("diffusion", SPINS, {"estimator": "path"}),
    **{
        f"gaussian {law.support}, {', '.join(how.values())}": (
            "diffusion", law, {"kernel": "gaussian", "steps": 4} | how,
        )
        for law in (SPINS, REALS)
        for how in (
            {"estimator": "bound"}, {"estimator": "path"}, {"estimator": "ode"},
            {"estimator": "ode", "trace": "hutchinson"},
        )
    },
    "gaussian reals, discrete time": ("diffusion", REALS, {"timesteps": 10}),
    "flow": ("flow", REALS, {"hidden": 8}),
    "flow, coupling": ("flow", REALS, {"passes": 2, "hidden": 8, "tails": "gaussian"}),
    "hurdle": ("diffusion", RAIN, {"network": "wide"}),
    "layered": ("diffusion", SHOWER, {"network": "wide", "showers": "channels"}),
    "cells": ("diffusion", SHOWER, {}),
    "tree": ("tree", SHOWER, {"hidden": 8, "context": 8}),
    "rbm, enumerated": ("rbm", SPINS, {}),
    "rbm, two parameters": ("rbm", FIELD, {"layout": "dense", "hidden": 4}),
    "rbm, annealed": ("rbm", Law.of("ising", {"size": 5}), {"ladder": 60, "chains": 32}),
}  # fmt: skip


@pytest.fixture
def double(monkeypatch):
    """All of the house in float64: what casts to float32 casts to float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)  # noqa: TID251 - what is made anew, too
    yield
    torch.set_default_dtype(torch.float32)  # noqa: TID251


def model(name, law, options):
    """A family with random weights everywhere, in float64, and rows with atoms among them."""
    cls = find("surrogates", name)
    made = cls.create(law, cls.Config(**options), seed=1).double().eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in made.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    rng = np.random.default_rng(3)
    theta = torch.from_numpy(
        law.prior.low
        + (0.1 + 0.8 * rng.random((ROWS, len(law.prior)))) * (law.prior.high - law.prior.low)
    )
    x = {
        "spins": lambda shape: 2.0 * rng.integers(2, size=shape) - 1,
        "levels": lambda shape: rng.integers(3, size=shape),
        "reals": rng.standard_normal,
        "nonnegative": lambda shape: np.where(
            rng.random(shape) < 0.4, 0, rng.exponential(2, shape)
        ),
    }[law.support]((ROWS, *law.x_shape))
    x = torch.as_tensor(x)
    made.transform.fit(x)
    return made, theta, x


def by_differences(f, at, step=1e-5):
    """∂f/∂at of rows, element by element, where an element is not 0 or all may move."""
    slope = torch.zeros_like(at)
    for i in range(at[0].numel()):
        up, down = at.clone(), at.clone()
        up.flatten(1)[:, i] += step
        down.flatten(1)[:, i] -= step
        slope.flatten(1)[:, i] = (f(up) - f(down)) / (2 * step)
    return slope


DEAR = {
    ("masked, bound", True), ("gaussian spins, ode", False),
    ("gaussian spins, ode, hutchinson", False),
}  # fmt: skip


@pytest.mark.parametrize(
    ("case", "symmetrise"),
    [
        pytest.param(*one, marks=pytest.mark.slow if one in DEAR else ())
        for one in (
            *((c, False) for c in CASES),
            ("masked, bound", True),
            ("rbm, two parameters", True),
        )
    ],
)
def test_gradients_are_those_of_the_value(case, symmetrise, double, monkeypatch):
    surrogate, theta, x = model(*CASES[case])
    surrogate = surrogate.using(symmetrise=symmetrise)
    monkeypatch.setattr(type(surrogate), "chunk", 12)  # several chunks
    continuous = surrogate.law.support in ("reals", "nonnegative")
    t, y = theta.clone().requires_grad_(), x.clone().requires_grad_(continuous)

    def value(theta, x):
        return surrogate.log_prob(theta, x, draws=4, seed=1)

    found = value(t, y)
    assert torch.equal(
        found.detach(), surrogate.log_prob_with_error(theta, x, draws=4, seed=1).value
    )
    weights = torch.linspace(-1, 2, ROWS, dtype=torch.float64)
    (weights * found).sum().backward()
    expected = weights[:, None] * by_differences(lambda theta: value(theta, x), theta)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(t.grad, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(AssertionError):  # the control
        torch.testing.assert_close(t.grad, 1.001 * expected, rtol=1e-5, atol=1e-6)
    assert all(w.grad is None for w in surrogate.parameters())
    if continuous:
        least = 0.0 if surrogate.law.support == "nonnegative" else -math.inf
        atoms = x == least
        shape = (-1, *[1] * len(surrogate.law.x_shape))
        differences = by_differences(lambda x: value(theta, x.clamp(min=least)), x, 1e-6)
        expected = weights.view(shape) * differences
        assert expected[~atoms].abs().max() > 1e-3
        torch.testing.assert_close(y.grad[~atoms], expected[~atoms], rtol=1e-4, atol=1e-5)
        assert not y.grad[atoms].any()


# --- what has no gradient says so ---------------------------------------------------------------


def test_values_alone_build_no_graph():
    surrogate, theta, x = model(*CASES["cvae, reals"])
    surrogate = surrogate.float()
    assert not surrogate.log_prob(theta, x, draws=2).requires_grad
    with torch.no_grad():
        assert not surrogate.log_prob(theta.clone().requires_grad_(), x, draws=2).requires_grad
    assert surrogate.log_prob(theta.clone().requires_grad_(), x, draws=2).requires_grad


def test_arrays_are_as_good_as_tensors():
    surrogate, theta, x = model(*CASES["cvae, reals"])
    surrogate = surrogate.float()
    frozen = np.broadcast_to(x.numpy()[:1], x.shape)  # neither writable nor contiguous
    for rows in (x.numpy(), x.numpy()[:, ::-1], frozen):
        tensor = torch.tensor(rows.copy())
        assert torch.equal(
            surrogate.log_prob(theta.numpy(), rows), surrogate.log_prob(theta, tensor)
        )
        losses = [
            surrogate.loss(theta, r, torch.Generator().manual_seed(1)) for r in (rows, tensor)
        ]
        assert torch.equal(*losses)
    drawn = [
        surrogate.sample(t, g)
        for t, g in ((theta, torch.Generator().manual_seed(7)), (theta.numpy(), 7))
    ]
    assert torch.equal(*drawn)
    assert not torch.equal(surrogate.sample(theta), surrogate.sample(theta))


def test_discrete_x_has_no_gradient():
    surrogate, theta, x = model(*CASES["autoregressive, spins"])
    with pytest.raises(UsageError, match="x: spins are discrete and have no gradient"):
        surrogate.float().log_prob(theta, x.requires_grad_())


def test_second_derivatives_are_refused():
    surrogate, theta, x = model(*CASES["cvae, reals"])
    t = theta.requires_grad_()
    value = surrogate.float().log_prob(t, x, draws=2).sum() + (t**2).sum()
    with pytest.raises(UsageError, match="cvae: log_prob has first derivatives only"):
        torch.autograd.grad(value, t, create_graph=True)


def test_theta_beyond_the_grid_of_log_z_is_refused():
    surrogate, theta, x = model(*CASES["rbm, enumerated"])
    with pytest.raises(DataError, match="expected values within the prior"):
        surrogate.float().log_prob((theta + 1).requires_grad_(), x)


def wrong(kind):
    """A family whose log p autograd does not see: it leaves torch, or ignores the gradient."""
    cvae = find("surrogates", "cvae")

    class Wrong(cvae):
        name = f"wrong-{kind}"
        likelihood = Likelihood.EXACT

        def _log_prob(self, c, z, noise, draws):
            if kind == "detached":
                value = (c.detach() ** 2).sum(1)
            elif kind == "numpy":
                value = torch.from_numpy(c.numpy() ** 2).sum(1)
            else:
                value = (z**2).sum(1)
            return value, torch.zeros_like(value)

    return Wrong.create(REALS, cvae.Config(channels=5))


@pytest.mark.parametrize("kind", ["detached", "numpy", "of x alone"])
def test_a_missing_gradient_is_an_error(kind):
    _, theta, x = model(*CASES["cvae, reals"])
    t, y = theta.requires_grad_(), x.requires_grad_()
    with pytest.raises(UsageError, match=f"wrong-{kind}: its log p has no gradient by"):
        wrong(kind).log_prob(t, y).sum().backward()

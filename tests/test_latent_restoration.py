"""x given y by chains in the latents of a CVAE, beside draws of the CVAE weighted by p(y|x)."""

import numpy as np
import pytest
import torch

from physgen.law import Law
from physgen.nn.linear_view import LinearView
from physgen.nn.measurement import Measurement
from physgen.surrogates.cvae import CVAE, CVAEConfig
from physgen.surrogates.cvae.restoring import (
    GivenLatents,
    SliceStep,
    elliptical_slice,
    prior_latents,
)
from simulators.prior import Box

DRAWS, SHAPE = 1500, (4, 4)
PRIOR = Box(a=(0.0, 1.0))
TORUS = {"symmetries": ("shift",), "axes": ("periodic", "periodic")}
LAWS = {
    "reals": (Law("toy", PRIOR, SHAPE), CVAEConfig(channels=8, latent_dim=2)),
    "white": (Law("toy", PRIOR, SHAPE, **TORUS), CVAEConfig(channels=8, latent_dim=2)),
    "spins": (Law("toy", PRIOR, SHAPE, "spins"), CVAEConfig(channels=8, latent_dim=2)),
}
SEEN = np.zeros(SHAPE, bool)
SEEN[0, :2] = SEEN[2, 1] = True
Y = torch.zeros(SHAPE).double()
Y[0, 0], Y[0, 1], Y[2, 1] = 1.0, 1.0, -1.0


def made(kind):
    """A CVAE that was not trained, whose latents say much of x."""
    law, config = LAWS[kind]
    model = CVAE.create(law, config).eval()
    rng = torch.Generator().manual_seed(2)
    if kind != "spins":
        model.fit_transform(
            torch.randn(200, *SHAPE, generator=rng), torch.rand(200, 1, generator=rng)
        )
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(
                (0.25 if kind == "spins" else 0.1)
                * torch.randn(weight.shape, generator=rng)
                * (weight.ndim > 1)
            )
        if kind == "white":
            for weight in model.waves.affine.parameters():
                weight.add_(0.2 * torch.randn(weight.shape, generator=rng))
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "noise"), [("reals", 0.5), ("white", 0.5), ("spins", 0.0),
                                              ("spins", 0.8)])  # fmt: skip
def test_draws_are_those_of_the_learnt_law(kind, noise):
    model = made(kind)
    theta = torch.full((100_000, 1), 0.3)
    x, y = model.sample(theta, 0).double(), Y
    if kind != "spins":
        y, noise = x.mean(0) + 0.7 * x.std(0) * Y, noise * float(x.std())
    measurement = Measurement.of(model.law, SEEN, noise)
    if noise:
        log_w = measurement.log_p(y.expand(len(x), *SHAPE), x)
    else:
        log_w = torch.log(((x - Y).abs() < 0.5)[:, torch.from_numpy(SEEN)].all(1).double())
    w = log_w.softmax(0)
    mean = torch.tensordot(w, x, 1)
    sd = torch.tensordot(w, (x - mean) ** 2, 1).sqrt()
    ess = 1 / w.square().sum()
    assert ess > 1000
    found = model.restore(
        theta[:DRAWS], y.expand(DRAWS, *SHAPE), measurement, generator=1, sweeps=30
    )
    some = found.x.double()
    most = 5 * (1 / DRAWS + 1 / ess) ** 0.5
    assert ((some.mean(0) - mean).abs() <= most * sd + 1e-6).all()
    np.testing.assert_allclose(some.std(0), sd, rtol=0.15, atol=1e-6)
    assert ((x[:DRAWS].mean(0) - mean).abs() > most * sd).any()  # the control: without y
    assert found.diagnostics["r_hat"].max() < 1.1


@pytest.mark.parametrize("kind", ["reals", "white"])
def test_rows_of_several_theta_at_once_have_the_likelihood_of_each_alone(kind):
    model, c = made(kind), torch.tensor([[-0.6], [0.2], [0.2], [0.9]])
    y = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(3)).double()
    measurement = Measurement.of(model.law, SEEN, 0.5)
    view = LinearView.of(model.transform, measurement, y, torch.zeros(1, *SHAPE))
    epsilon = prior_latents(model, c, torch.Generator().manual_seed(4))
    with torch.no_grad():
        together = GivenLatents.of(model, c, view).log_l(epsilon)
        alone = [
            GivenLatents.of(model, c[i : i + 1], view.row(i)).log_l(epsilon[i : i + 1])
            for i in range(4)
        ]
        wrong = GivenLatents.of(model, c.flip(0), view).log_l(epsilon)
    np.testing.assert_allclose(together, torch.cat(alone), rtol=1e-5)
    assert abs(wrong - together).max() > 1e-3


def test_elliptical_slices_follow_a_gaussian_posterior():
    """ε ~ N(0, 1) and y = ε + N(0, ¼) of y = 1: N(0.8, 0.2)."""
    rng = torch.Generator().manual_seed(0)

    def log_l(e):
        return -2 * (1 - e.double()).square().sum(1)

    e = torch.randn(4000, 1, generator=rng)
    step = SliceStep(e, log_l(e))
    for _ in range(20):
        step = elliptical_slice(log_l, step, rng)
    assert float(step.epsilon.mean()) == pytest.approx(0.8, abs=0.03)
    assert float(step.epsilon.var()) == pytest.approx(0.2, abs=0.02)
    np.testing.assert_allclose(step.log_l, log_l(step.epsilon))

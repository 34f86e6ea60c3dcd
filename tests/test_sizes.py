"""Weights trained on real maps of one size at another: what depends on the size, and what not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import physgen
from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.transforms import Standardise
from physgen.registry import find
from physgen.surrogates.checkpoint import load_surrogate, save_surrogate
from simulators.field import GaussianField, LognormalField

SMALL, LARGE = GaussianField(8), GaussianField(16)
FAMILIES = ("cvae", "autoregressive", "diffusion")


def law_of(size, name="gaussian-field"):
    return Law.of(name, {"size": size})


def rows(field, n, seed=0):
    rng = np.random.default_rng(seed)
    theta = field.prior.sample(n, rng)
    return torch.from_numpy(theta), torch.from_numpy(field.sample(theta, rng))


def moved(surrogate, size):
    return surrogate.at(surrogate.law.changed({"size": size}))


def untrained(family, size=8, n=100, **options):
    """A model whose maps are fitted to rows, of weights that say something of everything."""
    cls = find("surrogates", family)
    model = cls.create(law_of(size), cls.Config(**options), seed=1).eval()
    theta, x = rows(GaussianField(size), n)
    model.fit_transform(x, theta)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for w in model.parameters():
            w += 0.03 * torch.randn(w.shape, generator=generator)
    return model


def affine_of(model):
    if hasattr(model, "affine"):
        return model.affine
    return (model.kernel.denoiser if hasattr(model, "kernel") else model).waves.affine


def made_for(model, size):
    """The same weights, as if they had been trained at another size."""
    affine_of(model).spectrum.reference.fill_(size)
    model.load_state_dict(model.state_dict())
    return model


def gap(field, model, theta, x, **options):
    lost = field.log_prob(theta.numpy(), x.numpy()) - model.log_prob(theta, x, **options).numpy()
    return lost / field.sites


# --- features of the spectrum -------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_wave_number_means_the_same_at_every_size(family):
    """The control takes features of the size that it is used at."""
    small, c = untrained(family), torch.tensor([[0.3, -0.4]])
    large = moved(small, 16)

    def gain(model):
        found = affine_of(model).coefficients(c)[2].detach()
        return found.view(model.law.x_shape)

    torch.testing.assert_close(gain(large)[::2, ::2], gain(small))
    again = moved(large, 8)
    torch.testing.assert_close(gain(again), gain(small), rtol=0, atol=0)
    assert (gain(made_for(large, 16))[::2, ::2] - gain(small)).abs().max() > 1e-3


def test_a_stationary_law_of_one_size_is_exact_at_another():
    """The diffusion's, fitted in closed form; the control as above."""
    cls = find("surrogates", "diffusion")
    small = cls.create(law_of(8), cls.Config(), seed=1).eval()
    theta, x = rows(SMALL, 4000)
    small.fit_transform(x, theta)
    theta, x = rows(LARGE, 200, seed=3)
    large = moved(small, 16)
    found = gap(LARGE, large, theta, x, draws=2)
    assert abs(found.mean()) < 3e-4 + 3 * found.std() / 200**0.5
    assert gap(LARGE, made_for(large, 16), theta, x, draws=2).mean() > 5e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_files_keep_the_size_and_those_without_one_mean_what_they_did(family, tmp_path):
    small = untrained(family)
    large = moved(small, 16)
    for model in (small, large):
        theta, x = rows(GaussianField(model.law.x_shape[0]), 3, seed=4)
        expected = model.log_prob(theta, x, draws=2)
        save_surrogate(model, tmp_path / "model.pt", {})
        opened, _ = load_surrogate(tmp_path / "model.pt", torch.device("cpu"))
        torch.testing.assert_close(opened.log_prob(theta, x, draws=2), expected, rtol=0, atol=0)
    state = small.state_dict()
    earlier = [name for name in small.later_buffers if name.endswith("reference")]
    assert earlier
    assert all(state[name].tolist() == [8, 8] for name in earlier)


# --- maps of x ----------------------------------------------------------------------------------


def test_the_map_of_a_site_is_that_of_all_sites_of_another_size():
    """Of log-normal maps, which it takes by a logarithm or a spline."""
    law = replace(law_of(8, "lognormal-field"), dtype="float64", symmetries=("shift",))
    small, large = Standardise(law), Standardise(replace(law, x_shape=(16, 24)))
    theta, x = rows(LognormalField(8), 2000)
    small.fit(x)
    small.choose(x, theta)
    assert not small.monotone.straight
    large.load_state_dict(small.state_at(replace(law, x_shape=(16, 24))))
    z, tiled = small(x[:5]), x[:5].repeat(1, 2, 3)
    torch.testing.assert_close(large(tiled), z.repeat(1, 2, 3))
    torch.testing.assert_close(large.log_det(tiled), 6 * small.log_det(x[:5]))
    torch.testing.assert_close(large.inverse(large(tiled)), tiled, rtol=1e-4, atol=1e-4)
    assert not list(large.unlike(tiled))
    assert list(large.unlike(100 * tiled))


@pytest.mark.parametrize("axes", [("open", "periodic"), ("open", "open")])
def test_along_open_axes_sizes_stay(axes):
    shifts = ("shift",) if "periodic" in axes else ()
    law = replace(law_of(8), axes=axes, symmetries=shifts)
    cls = find("surrogates", "cvae")
    model = cls.create(law, cls.Config(), seed=1)
    with pytest.raises(UsageError, match=r"\Acvae: was trained on x of shape \(8, 8\).*\Z"):
        model.at(replace(law, x_shape=(16, 8)))
    if shifts:
        assert model.at(replace(law, x_shape=(8, 16))).law.x_shape == (8, 16)


def test_sites_that_others_tell_are_those_of_one_size():
    theta, x = rows(SMALL, 500)
    cls = find("surrogates", "cvae")
    model = cls.create(law_of(8), cls.Config(), seed=1)
    model.fit_transform(x - x.mean((1, 2), keepdims=True), theta)
    with pytest.raises(UsageError, match=r"\Ax of shape \(16, 16\):.*some sites tell others.*\Z"):
        moved(model, 16)


# --- networks -----------------------------------------------------------------------------------


def test_a_unet_keeps_its_grids_and_a_cvae_its_levels():
    assert moved(untrained("diffusion"), 64).config.grids == 2
    with pytest.raises(UsageError, match="do not fit x of shape"):  # 2 levels there, 3 here
        moved(untrained("cvae", 4), 8)


def test_x_that_do_not_fit_are_told_by_their_file(tmp_path):
    path = tmp_path / "large.h5"
    physgen.simulate("gaussian-field", size=8, n=2, out=path)
    with pytest.raises(UsageError, match=rf"{path}: cvae: was trained on x of shape \(4, 4\)"):
        physgen.infer(untrained("cvae", 4), path)


def test_windows_that_hold_other_sites_are_refused():
    model = untrained("autoregressive", 4, window=24)
    with pytest.raises(UsageError, match="24 nearest earlier sites are others"):
        moved(model, 16)
    assert moved(untrained("autoregressive", 8, window=24), 16).law.x_shape == (16, 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "epochs", "most"),
    [("cvae", 3, 1e-2), ("autoregressive", 4, 5e-3), ("diffusion", 1, 1e-3)],
)
def test_a_short_training_at_one_size_draws_and_scores_at_others(family, epochs, most):
    """Of L = 16 at 32, gap in nats a site; the control is the law at another θ."""
    data = physgen.simulate("gaussian-field", n=4000, size=16, seed=1)
    model = moved(physgen.fit(family, data, epochs=epochs, seed=1), 32)
    field = GaussianField(32)
    theta, x = rows(field, 60, seed=3)
    found = gap(field, model, theta, x, draws=4)
    assert abs(found.mean()) < most + 3 * found.std() / 60**0.5
    wrong = model.log_prob(theta + torch.tensor([0.0, 0.2]), x, draws=4).numpy() / field.sites
    assert (field.log_prob(theta.numpy(), x.numpy()) / field.sites - wrong - found).mean() > 2e-3
    theta = torch.tensor([[0.2, 2.0]]).expand(400, 2)
    power = field.observables["power_spectrum"]
    mean = power(model.sample(theta, 0).numpy()).mean(0)
    assert abs(mean / power.exact(theta[:1].numpy()) - 1).max() < 0.35
    assert abs(mean / power.exact(np.array([[0.2, 3.0]])) - 1).max() > 0.7


@pytest.mark.slow
def test_a_training_goes_on_at_another_size():
    data = [physgen.simulate("gaussian-field", n=2000, size=size, seed=1) for size in (8, 16)]
    small = physgen.fit("diffusion", data[0], epochs=1, seed=1)
    large = physgen.fit("diffusion", data[1], from_=small, epochs=1, seed=1)
    assert affine_of(large).spectrum.reference.tolist() == [8, 8]
    theta, x = rows(LARGE, 100, seed=3)
    assert abs(gap(LARGE, large, theta, x, draws=4).mean()) < 1e-2

"""Diffusion beside a stationary Gaussian law: closed forms by dense matrices, and what is left."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

import physgen
from physgen.law import Law
from physgen.nn.affine import stationary_map
from physgen.nn.stationary import StationaryNet
from physgen.surrogates.checkpoint import load_surrogate, save_surrogate
from physgen.surrogates.diffusion import Diffusion, DiffusionConfig
from physgen.surrogates.diffusion.gaussian import GaussianKernel
from physgen.surrogates.diffusion.schedule import alpha_sigma
from physgen.surrogates.diffusion.stationary import StationaryKernel, Wiener
from simulators.field import GaussianField
from simulators.prior import Box

PRIOR = Box(a=(-1.0, 1.0), b=(0.0, 2.0))
LAWS = {
    "ring": Law("none", PRIOR, (7,), symmetries=("shift",), axes=("periodic",)),
    "torus": Law("none", PRIOR, (3, 4), symmetries=("shift",)),
    "tori": Law(
        "none", PRIOR, (2, 3, 4), symmetries=("shift",), axes=("channel", "periodic", "periodic")
    ),
    "cylinder": Law("none", PRIOR, (3, 4), symmetries=("shift",), axes=("open", "periodic")),
}
FIELD = GaussianField(size=8)


def net_of(law):
    """A net that says something of everything."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # noqa: TID251 - torch initialises layers from its global state
        net = StationaryNet(stationary_map(law, 8), len(law.prior)).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for w in [*net.parameters(), net.location, net.power]:
            w += 0.1 * torch.randn(w.shape, generator=generator, dtype=w.dtype)
    return net


def dense(law, size):
    """Mean and covariance of the first row."""
    eye = torch.eye(size, dtype=torch.float64)
    many = law.repeat(size)
    root = many.waves(many.waves(eye) * many.log_width.flatten(1).exp(), True)
    return law.mean.flatten(), root @ root


@pytest.fixture(params=LAWS)
def known(request):
    """A law for one c, its dense normal law, and some z."""
    spec = LAWS[request.param]
    law = net_of(spec)(torch.tensor([[0.3, -0.7]], dtype=torch.float64))
    normal = MultivariateNormal(*dense(law, spec.size))
    z = torch.randn(5, spec.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return spec, law, normal, z


def test_log_p_is_that_of_the_dense_normal_law(known):
    _, law, normal, z = known
    found = law.repeat(5).log_prob(z, torch.ones_like(z))
    torch.testing.assert_close(found, normal.log_prob(z), rtol=1e-5, atol=1e-4)
    assert not torch.allclose(found, normal.log_prob(2 * z), atol=0.1)
    mean, width = law.moments
    torch.testing.assert_close(mean[0], normal.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(width[0], normal.stddev, rtol=1e-4, atol=1e-5)


def test_white_is_standard_normal_and_coloured_its_inverse(known):
    _, law, normal, z = known
    u, log_det = law.repeat(5).white(z)
    found = torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(1) + log_det
    torch.testing.assert_close(found, normal.log_prob(z), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(law.repeat(5).coloured(u), z, rtol=1e-5, atol=1e-5)
    z[:, 0] = torch.inf
    u, log_det = law.of_sites.repeat(5).white(z)
    assert u[:, 0].isinf().all()
    found = (torch.distributions.Normal(0.0, 1.0).log_prob(u)[:, 1:]).sum(1) + log_det
    each = torch.distributions.Normal(normal.mean, normal.stddev).log_prob(z)
    torch.testing.assert_close(found, each[:, 1:].sum(1), rtol=1e-4, atol=1e-3)


def test_shifts_along_periodic_axes_are_symmetries_and_no_others(known):
    spec, law, _, z = known
    one = torch.ones_like(z)
    for axis in range(len(spec.x_shape)):
        moved = z.view(5, *spec.x_shape).roll(1, 1 + axis).flatten(1)
        same = torch.allclose(law.repeat(5).log_prob(z, one), law.repeat(5).log_prob(moved, one))
        assert same == (axis in spec.shifted)


@pytest.mark.parametrize("log_snr", [-4.0, 0.5, 4.0])
def test_the_wiener_filter_is_the_dense_posterior(known, log_snr):
    """x̂ = μ + αC(α²C + σ²)⁻¹(z − αμ), and the covariance C − α²C(α²C + σ²)⁻¹C."""
    _, law, normal, z = known
    λ = torch.full((5,), log_snr, dtype=torch.float64)
    found = Wiener(law.repeat(5), z, λ, torch.ones_like(z))
    alpha, sigma = alpha_sigma(λ[0])
    c, eye = normal.covariance_matrix, torch.eye(z.shape[1], dtype=torch.float64)
    gain = alpha * c @ torch.linalg.inv(alpha**2 * c + sigma**2 * eye)
    mean = normal.mean + (z - alpha * normal.mean) @ gain.T
    torch.testing.assert_close(found.mean, mean, rtol=1e-4, atol=1e-5)
    many = Wiener(law.repeat(len(eye)), eye, λ[:1].expand(len(eye)), torch.ones_like(eye))
    root = many.spread(eye)
    torch.testing.assert_close(root @ root.T, c - alpha * gain @ c, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(root @ root.T, c, rtol=1e-3, atol=1e-4)


def test_sites_that_are_not_whole_are_independent_and_as_wide(known):
    spec, law, normal, z = known
    sites, part = law.of_sites, torch.ones_like(z)
    part[:, 0] = 0
    each = torch.distributions.Normal(normal.mean, normal.stddev).log_prob(z)
    found = sites.repeat(5).log_prob(z, part)
    torch.testing.assert_close(found, each[:, 1:].sum(1), rtol=1e-4, atol=1e-3)
    if spec.x_shape != (3,):
        whole = law.repeat(5).log_prob(z, torch.ones_like(z))
        assert not torch.allclose(whole, each.sum(1), atol=1e-2)


# --- a model ------------------------------------------------------------------------------------


def started(field, n=4000, **options):
    """An untrained diffusion, its law fitted to rows of a field; θ and x of others."""
    rng = np.random.default_rng(0)
    theta = field.prior.sample(n, rng)
    law = Law.of("gaussian-field", {"size": field.size})
    model = Diffusion.create(law, DiffusionConfig(**options), seed=1).eval()
    model.fit_transform(torch.from_numpy(field.sample(theta, rng)), torch.from_numpy(theta))
    test = field.prior.sample(400, rng)
    return model, test, field.sample(test, rng)


@pytest.mark.slow
def test_untrained_it_is_the_exact_law_of_a_field():
    """In nats a site; the controls are its law at another slope, and another spectrum."""
    field, most = FIELD, 2e-4
    model, theta, x = started(field)
    found = model.log_prob_with_error(theta, x, draws=2)
    gap = (field.log_prob(theta, x) - found.value.numpy()) / field.sites
    assert found.stderr.max() == 0
    assert abs(gap.mean()) < most + 3 * gap.std() / 20
    wrong = model.log_prob(theta + np.array([0.0, 0.2]), x).numpy()
    assert ((field.log_prob(theta, x) - wrong) / field.sites).mean() > 2 * most
    with torch.no_grad():
        model.kernel.denoiser.waves.power[0, 0, 1] += 1.0
    wrong = model.log_prob(theta, x).numpy()
    assert ((field.log_prob(theta, x) - wrong) / field.sites).mean() > 2 * most


@pytest.mark.parametrize(
    ("sampler", "steps"), [("ancestral", 2), pytest.param("heun", 128, marks=pytest.mark.slow)]
)
def test_draws_have_the_spectrum_of_the_field(sampler, steps):
    """Heun's own error of a power is 0.6 % at 128 evaluations, and would be 2.7 % at 64."""
    model = started(FIELD)[0].using(sampler=sampler, steps=steps)
    theta = np.tile([0.2, 2.5], (2000, 1))
    x = model.sample(theta, 0).numpy()
    power = FIELD.observables["power_spectrum"]
    ratio = power(x) / power.exact(theta)
    off = (ratio.mean(0) - 1) / (ratio.std(0) / len(x) ** 0.5)
    assert abs(off).max() < 5
    wrong = power(x) / power.exact(theta + np.array([0.0, 0.2]))
    assert abs((wrong.mean(0) - 1) / (wrong.std(0) / len(x) ** 0.5)).max() > 8


@pytest.mark.slow
def test_its_flow_is_the_exact_law():
    model, theta, x = started(GaussianField(size=4))
    exact = GaussianField(size=4).log_prob(theta[:20], x[:20])
    flow = model.using(estimator="ode", steps=96).log_prob(theta[:20], x[:20], draws=1).numpy()
    assert abs(flow - exact).mean() < 0.3
    assert abs(flow - exact[::-1]).mean() > 1


@pytest.mark.slow
def test_training_leaves_a_gaussian_field_as_exact():
    """What training adds of so few maps, 1e-3 after four epochs, is noise, and is left out."""
    data = physgen.simulate("gaussian-field", n=4000, size=8, seed=1)
    model = physgen.fit("diffusion", data, epochs=4, seed=1)
    assert model.kernel.denoiser.plain
    rng = np.random.default_rng(5)
    theta = FIELD.prior.sample(1000, rng)
    x = FIELD.sample(theta, rng)
    exact = FIELD.log_prob(theta, x)
    gap = (exact - model.log_prob(theta, x, draws=16).numpy()) / FIELD.sites
    assert abs(gap.mean()) < 2e-4
    without = physgen.fit("diffusion", data, epochs=4, seed=1, spectrum="none")
    gap = (exact - without.log_prob(theta, x, draws=16).numpy()) / FIELD.sites
    assert gap.mean() > 5e-3


@pytest.mark.slow
def test_posteriors_take_few_draws_where_a_law_stands_beside_the_network(tmp_path, monkeypatch):
    """All of them by another estimator, and where the gain is noisy."""
    model, theta, x = started(GaussianField(4), 500)
    theta, x = torch.from_numpy(theta), torch.from_numpy(x)
    assert model.posterior_draws == 32
    model.finalize(0, theta, x)
    assert model.posterior_draws == 1
    assert model.using(estimator="ode").posterior_draws == model.at(model.law).most == 32
    save_surrogate(model, tmp_path / "m.pt", {})
    opened, _ = load_surrogate(tmp_path / "m.pt", torch.device("cpu"))
    assert opened.using(steps=8).posterior_draws == 1
    monkeypatch.setattr("physgen.surrogates.fewest_draws.PRECISE", -1.0)
    model.finalize(0, theta, x)
    assert model.posterior_draws == 32
    without = Diffusion.create(model.law, DiffusionConfig(spectrum="none"))
    without.finalize(0, theta, x)
    assert without.posterior_draws == 256


# --- where there is no such law ------------------------------------------------------------------


def test_maps_some_of_whose_sites_others_tell_have_independent_sites():
    """A mean that is taken off: waves would see a site that is told, which has no density."""
    rng = np.random.default_rng(0)
    theta = FIELD.prior.sample(500, rng)
    x = FIELD.sample(theta, rng)
    x = torch.from_numpy(x - x.mean((1, 2), keepdims=True))
    law = replace(Law.of("gaussian-field", {"size": 8}), dtype="float64")
    model = Diffusion.create(law, DiffusionConfig(steps=4), seed=1).eval()
    model.fit_transform(x, torch.from_numpy(theta))
    assert not model.transform.whole
    log_p = model.log_prob(theta[:5], x[:5], draws=2)
    sites = torch.distributions.Normal(0.0, 1.0).log_prob(model.transform(x[:5]).flatten(1))
    expected = sites.nan_to_num(neginf=0).sum(1) + model.transform.log_det(x[:5])
    width = model.kernel.denoiser.known(model.rescale(torch.from_numpy(theta[:5])), False).moments
    torch.testing.assert_close(width[1], torch.ones_like(width[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(log_p, expected.double(), rtol=1e-5, atol=1e-3)
    drawn = model.sample(theta[:9], 0)
    assert drawn.mean((1, 2)).abs().max() < 1e-6
    loss = model.train().loss(torch.from_numpy(theta[:9]), x[:9], torch.Generator())
    assert loss.isfinite().all()


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({"spectrum": "none"}, {}),
        ({"timesteps": 10}, {}),
        ({"loss": "simple", "noise_schedule": "cosine"}, {}),
        ({}, {"missing": True}),
        ({}, {"symmetries": ("reflect",), "axes": ("open", "open")}),
    ],
)
def test_elsewhere_the_kernel_is_the_one_without(options, changes):
    law = Law.of("gaussian-field", {"size": 4})
    assert isinstance(Diffusion.create(law, DiffusionConfig()).kernel, StationaryKernel)
    other = Diffusion.create(replace(law, **changes), DiffusionConfig(**options))
    assert type(other.kernel) is GaussianKernel


def test_files_of_before_have_the_kernel_of_before(tmp_path):
    """log p that the version before this law wrote, of weights that are a function of a seed."""
    law = Law.of("gaussian-field", {"size": 4})
    field, rng = law.build(), np.random.default_rng(0)
    theta = field.prior.sample(60, rng)
    x = field.sample(theta, rng)
    model = Diffusion.create(law, DiffusionConfig(spectrum="none"), seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for w in model.parameters():
            w += 0.03 * torch.randn(w.shape, generator=generator)
    model.fit_transform(torch.from_numpy(x), torch.from_numpy(theta))
    expected = torch.tensor([-19.3226, -20.5072, -103.3179], dtype=torch.float64)
    torch.testing.assert_close(
        model.log_prob(theta[:3], x[:3], draws=4), expected, rtol=0, atol=1e-3
    )
    options = {k: v for k, v in vars(model.config).items() if k != "spectrum"}
    assert Diffusion.earlier_options["spectrum"] == "none"
    assert DiffusionConfig(**(Diffusion.earlier_options | options)) == model.config
    save_surrogate(started(FIELD)[0], tmp_path / "now.pt", {})
    now, _ = load_surrogate(tmp_path / "now.pt", torch.device("cpu"))
    found = (m.log_prob(theta[:2], FIELD.sample(theta[:2], np.random.default_rng(1)))
             for m in (now, started(FIELD)[0]))  # fmt: skip
    torch.testing.assert_close(*found, rtol=0, atol=0)

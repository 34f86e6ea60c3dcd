"""Monotone maps and principal components: by autograd, round trips, and when they are chosen."""

import numpy as np
import pytest
import torch
from scipy import stats

from physgen.law import Law
from physgen.nn.transforms import Rescale, Standardise, for_support
from physgen.nn.transforms.monotone import KNOTS, MonotoneMap, best_map, knots_of
from physgen.surrogates.checkpoint import load_surrogate, save_surrogate
from physgen.surrogates.cvae import CVAE
from simulators.prior import Box

BOX = Box(a=(0.0, 1.0), b=(-1.0, 1.0))
SEEDS = 40
NOISE = {
    "normal": lambda mean, rng: mean + 0.1 * rng.normal(size=mean.shape),
    "lognormal": lambda mean, rng: np.exp(mean + rng.normal(size=mean.shape)),
    "upper bound": lambda mean, rng: 3 - np.exp(mean + rng.normal(size=mean.shape)),
    "cauchy": lambda mean, rng: mean + 0.05 * rng.standard_cauchy(mean.shape),
    "cube": lambda mean, rng: (mean + 0.3 * rng.normal(size=mean.shape)) ** 3,
    "logistic": lambda mean, rng: 1 / (1 + np.exp(-3 * mean - rng.normal(size=mean.shape))),
    "uniform": lambda mean, rng: mean + rng.random(mean.shape),
}
EXPECTED = {
    "normal": "", "lognormal": "log(x", "upper bound": "− x)", "cauchy": "asinh",
    "cube": "spline of asinh", "logistic": "", "uniform": "",
}  # fmt: skip


def rows(noise, n=6000, size=3, seed=0):
    rng = np.random.default_rng(seed)
    theta = BOX.sample(n, rng)
    mean = np.stack([theta[:, 0], theta[:, 1], theta.sum(1), theta.prod(1)], 1)[:, :size]
    return torch.from_numpy(theta), torch.from_numpy(NOISE[noise](mean, rng))


def law(shape, **options):
    return Law("none", BOX, shape, "reals", dtype="float64", **options)


def fitted(theta, x, **options):
    transform = Standardise(law(tuple(x.shape[1:]), **options))
    transform.fit(x)
    transform.choose(x, Rescale(BOX)(theta))
    return transform


def jacobian(transform, x):
    """log|det ∂z/∂x| of one x (d,) by autograd, before z is rounded to float32."""
    found = torch.autograd.functional.jacobian(
        lambda y: transform.rotation(transform._mapped(y[None])[0])[0].flatten(), x
    )
    return torch.linalg.slogdet(found.view(x.numel(), -1))[1]


def extremes(x):
    """Rows of x, between them, and far beyond them."""
    low, high = x.amin(0), x.amax(0)
    beyond = [low - s * (high - low) for s in (1e-6, 0.1, 3)]
    beyond += [high + s * (high - low) for s in (1e-6, 0.1, 3)]
    return torch.cat([x[:200], torch.stack([low, high, *beyond])])


@pytest.mark.parametrize("noise", NOISE)
def test_each_noise_gets_its_map(noise):
    words = fitted(*rows(noise)).words()
    assert bool(words) == (noise not in ("normal", "uniform"))
    assert all(EXPECTED[noise] in word for word in words), words
    assert sum(word.count("x[") for word in words) == 3 * bool(words)


@pytest.mark.parametrize("noise", NOISE)
def test_volume_and_inverse_far_beyond_the_data(noise):
    theta, x = rows(noise)
    transform, points = fitted(theta, x), extremes(x)
    z = transform.rotation(transform._mapped(points)[0])
    back = transform.inverse(z)
    torch.testing.assert_close(back, points, rtol=1e-9, atol=1e-9 * float(x.std()))
    order = points[:, 0].argsort()
    assert (z[order, 0].diff() >= 0).all()
    log_det = transform.log_det(points)
    for i in (0, 3, -1, -2, -3, -4, -8):
        torch.testing.assert_close(log_det[i], jacobian(transform, points[i]))


@pytest.mark.parametrize("noise", ["lognormal", "logistic", "cauchy"])
def test_density_of_normal_z_integrates_to_one(noise):
    """∫ φ(z(x)) |dz/dx| dx = 1, on a grid that is even in z."""
    transform = fitted(*rows(noise, size=1))
    z = torch.linspace(-9, 9, 40_001, dtype=torch.float64)[:, None]
    x = transform.inverse(z)[:, 0]
    p = stats.norm.pdf(z[:, 0]) * transform.log_det(x[:, None]).exp().numpy()
    assert np.trapezoid(p, x.numpy()) == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
def test_normal_noise_keeps_straight_lines():
    """In nearly all seeds; with a cube, which is not normal, in none."""

    def mapped(noise, seed):
        return len(fitted(*rows(noise, 1500, 2, seed)).words()) > 0

    assert sum(mapped("normal", seed) for seed in range(SEEDS)) <= 0.05 * SEEDS
    assert all(mapped("cube", seed) for seed in range(3))


def test_a_map_makes_noise_likelier_in_the_units_of_x():
    theta, x = rows("logistic", 8000)
    plain = Standardise(law((3,)))
    plain.fit(x[:4000])
    chosen = fitted(theta[:4000], x[:4000])
    value = []
    for transform in (plain, chosen):
        z = transform(x).double()
        features = torch.cat([torch.ones(8000, 1).double(), theta, theta**2], 1)
        weights = torch.linalg.lstsq(features[:4000], z[:4000]).solution
        rest = z - features @ weights
        law_of = torch.distributions.Normal(0.0, rest[:4000].std(0))
        value.append(float((law_of.log_prob(rest).sum(1) + transform.log_det(x))[4000:].mean()))
    assert value[1] > value[0] + 0.5


def test_straight_splines_and_maps_are_the_identity():
    places = torch.linspace(-2, 3, KNOTS, dtype=torch.float64)
    straight = MonotoneMap(knots=knots_of(places, places.diff().log()))
    x = torch.linspace(-9, 9, 100, dtype=torch.float64)
    for through in (straight, MonotoneMap()):
        v, slope = through(x)
        torch.testing.assert_close(v, x)
        torch.testing.assert_close(slope, torch.zeros_like(x), rtol=0, atol=1e-12)


def test_few_rows_and_constants_stay_straight():
    theta, x = rows("lognormal", 400)
    assert fitted(theta, x).words() == []
    same = torch.full((5000,), 7.0, dtype=torch.float64)
    assert best_map(same, theta.repeat(13, 1)[:5000], MonotoneMap(1.0, 2.0)) is None


def test_all_sites_of_a_torus_share_a_map():
    theta, _ = rows("lognormal", 3000)
    noise = torch.randn(3000, 4, 6, generator=torch.Generator().manual_seed(0))
    field = torch.exp(theta[:, :1, None] + noise)
    transform = fitted(theta, field, symmetries=("shift",))
    assert len(transform.monotone.side.unique()) == 1
    assert transform.monotone.side[0, 0] == 1
    shifted = field.roll((1, 2), (1, 2))
    torch.testing.assert_close(transform(shifted), transform(field).roll((1, 2), (1, 2)))
    torch.testing.assert_close(transform.log_det(shifted), transform.log_det(field))
    torch.testing.assert_close(transform.inverse(transform(field)), field, rtol=1e-5, atol=1e-5)
    opened = fitted(theta, field)  # an open lattice
    assert not opened.monotone.side.any()


def test_channels_of_a_torus_have_maps_of_their_own():
    theta, _ = rows("lognormal", 3000)
    noise = torch.randn(3000, 2, 4, 6, generator=torch.Generator().manual_seed(0)).double()
    field = torch.cat([torch.exp(theta[:, :1, None, None] + noise[:, :1]), noise[:, 1:]], 1)
    axes = ("channel", "periodic", "periodic")
    transform = fitted(theta, field, symmetries=("shift",), axes=axes)
    assert transform.monotone.side.flatten(1).unique(dim=1).tolist() == [[1], [0]]
    open_axes = fitted(theta, field[:, 0], axes=("open", "open"))
    assert not open_axes.monotone.side.any()


def nearly(n=4000, seed=0):
    """Components that differ by 10⁻⁶ of their width, and one that two others tell."""
    theta, x = rows("normal", n, 4, seed)
    y = torch.stack([x[:, 0], x[:, 0] + 1e-6 * x[:, 1], x[:, 2], x[:, 0] - x[:, 2] + x[:, 3]], 1)
    return theta, torch.cat([y, (2 * y[:, :1] - y[:, 2:3])], 1)


def test_nearly_dependent_components_become_principal_components():
    theta, x = nearly()
    transform = fitted(theta, x)
    assert transform.kept.tolist() == [True] * 4 + [False]
    assert transform.words()[0].startswith("principal components")
    z = transform(x)
    assert z[:, 4].isinf().all()
    torch.testing.assert_close(z[:, :4].std(0), torch.ones(4), rtol=0.01, atol=0)
    exact = transform.inverse(transform.rotation(transform._mapped(x)[0]))
    torch.testing.assert_close(exact[:, :4], x[:, :4], rtol=0, atol=1e-13)
    difference = transform.inverse(z)[:, 1] - transform.inverse(z)[:, 0]
    torch.testing.assert_close(difference, x[:, 1] - x[:, 0], rtol=0, atol=1e-11)
    kept = torch.autograd.functional.jacobian(
        lambda y: transform.rotation(transform._mapped(torch.cat([y, x[0, 4:]])[None])[0])[0, :4],
        x[0, :4],
    )
    torch.testing.assert_close(transform.log_det(x[:1])[0], torch.linalg.slogdet(kept)[1])


def test_principal_components_want_whole_x_that_depends():
    theta, x = nearly()
    assert fitted(theta, x, missing=True).words() == []
    assert fitted(*rows("normal", 4000, 4)).words() == []  # independent
    assert fitted(theta, x[:, :4].reshape(-1, 2, 2)).words() == []  # a lattice


def test_rows_beyond_a_bound_are_told():
    theta, x = rows("lognormal")
    transform = fitted(theta, x)
    assert not list(transform.unlike(x))
    far = x[:3].clone()
    far[1, 2] = transform.mean[2] - 0.1
    (said,) = transform.unlike(far)
    assert said.startswith("row 1: x[2] is beyond the bound of the logarithm")


@pytest.mark.parametrize("noise", ["logistic", "lognormal", "nearly"])
def test_a_checkpoint_keeps_them(noise, tmp_path):
    theta, x = nearly() if noise == "nearly" else rows(noise)
    model = CVAE.create(law((x.shape[1],)), CVAE.Config(), 1).eval()
    model.fit_transform(x, theta)
    assert model.transform.words()
    save_surrogate(model, tmp_path / "m.pt", {})
    again, _ = load_surrogate(tmp_path / "m.pt", torch.device("cpu"))
    assert again.transform.words() == model.transform.words()
    assert torch.equal(again.log_prob(theta[:50], x[:50]), model.log_prob(theta[:50], x[:50]))
    assert torch.equal(again.sample(theta[:50], 1), model.sample(theta[:50], 1))


def test_files_without_monotone_maps_have_none(tmp_path):
    theta, x = rows("normal")
    model = CVAE.create(law((3,)), CVAE.Config(), 1).eval()
    model.fit_transform(x)
    old = {k: v for k, v in model.state_dict().items() if "monotone" not in k and "rot" not in k}
    assert len(old) < len(model.state_dict())
    again = CVAE.create(law((3,)), CVAE.Config(), 2).eval()
    again.load_state_dict(old)
    assert torch.equal(again.log_prob(theta[:50], x[:50]), model.log_prob(theta[:50], x[:50]))


def test_real_columns_among_counts_get_their_maps_by_their_own_places():
    theta, x = rows("lognormal", 4000)
    counts = torch.poisson(3 * torch.ones(4000, 1), generator=torch.Generator().manual_seed(0))
    mixed = torch.cat([x[:, :1], counts.double(), x[:, 1:2]], 1)
    supports = ("reals", "counts", "reals")
    transform = for_support(Law("none", BOX, (3,), "mixed", column_supports=supports))
    transform.fit(mixed)
    transform.choose(mixed, Rescale(BOX)(theta))
    assert [word.split(":")[0] for word in transform.words()] in (["x[0]", "x[2]"], ["x[0], x[2]"])
    back = transform.inverse(transform(mixed)).double()
    torch.testing.assert_close(back, mixed, rtol=1e-5, atol=1e-5)

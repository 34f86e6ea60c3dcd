"""x of any rank, with channels, open or periodic along each axis: networks and families."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from physgen.checks.posterior_predictive import posterior_predictive
from physgen.checks.samples import pictures_of
from physgen.checks.two_sample.features import observables_of
from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.blocks import Convolution, SiteTerms, as_field, convolution, field_shape
from physgen.nn.embedding import embedding, scaled_for, with_mask
from physgen.nn.transforms import Standardise, Symmetries
from physgen.registry import find
from physgen.surrogates.checkpoint import load_surrogate, save_surrogate
from simulators.prior import Box

GEOMETRIES = {
    "series": ((6,), ("open",), ()),
    "ring": ((6,), ("periodic",), ("shift",)),
    "two series": ((2, 6), ("channel", "open"), ()),
    "two rings": ((2, 6), ("channel", "periodic"), ("shift",)),
    "cylinder": ((4, 6), ("open", "periodic"), ("shift",)),
    "images": ((2, 4, 4), ("channel", "open", "open"), ("reflect", "transpose")),
    "tori": ((2, 4, 6), ("channel", "periodic", "periodic"), ("shift",)),
    "odd": ((3, 5), ("open", "open"), ()),
    "cube": ((4, 4, 4), ("periodic",) * 3, ("shift", "reflect", "transpose")),
    "told by shifts": ((2, 4, 4), (), ("shift",)),
    "boxes": ((2, 2, 4, 2), ("channel", "open", "open", "periodic"), ()),
}
SMALL = {
    "cvae": {"channels": 4, "levels": 2},
    "diffusion": {"steps": 4},
    "gan": {"channels": 4, "latent": 2},
    "autoregressive": {"hidden": 4},
    "flow": {},
    "rbm": {"hidden": 2, "chains": 64, "ladder": 8},
    "tree": {"hidden": 8, "context": 8},
}


def law_of(name, support="reals", **more):
    shape, axes, symmetries = GEOMETRIES[name]
    return Law(
        "none", Box(a=(0.0, 1.0), b=(-1.0, 1.0)), shape, support, symmetries, axes=axes, **more
    )


def rows(law, n=16, seed=0):
    x = torch.randn(n, *law.x_shape, generator=torch.Generator().manual_seed(seed))
    if law.support == "spins":
        return torch.where(x < 0, -1.0, 1.0)
    return x.exp() * (x > -0.5) if law.support == "nonnegative" else x


def flat(x):
    """What tells one x from another."""
    return tuple(x.flatten().tolist())


def random(kind, *args):
    """A module far from its start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # noqa: TID251
        module = kind(*args)
        with torch.no_grad():
            for w in module.parameters():
                w += 0.2 * torch.randn(w.shape)
    return module.eval()


def moved(law, x, axis, by=1):
    """Rows x (n, *x_shape) rolled along an axis of x."""
    return x.roll(by, 1 + axis)


# --- what a law says of its axes ----------------------------------------------------------------


def test_the_axes_are_told_by_the_shape_where_nothing_is_declared():
    def geometry(shape, symmetries=()):
        return Law("none", Box(a=(0.0, 1.0)), shape, symmetries=symmetries).geometry

    assert geometry((5,)) == geometry((2, 3, 4)) == geometry((2, 2, 2, 2), ("shift",)) == ()
    assert geometry((3, 5)) == ("open", "open")
    assert geometry((3, 5), ("shift",)) == ("periodic", "periodic")
    assert geometry((3, 5, 2), ("shift",)) == ("periodic",) * 3


@pytest.mark.parametrize(
    ("shape", "axes", "symmetries", "message"),
    [
        ((4,), ("open", "open"), (), "axes: expected 1 of"),
        ((4,), ("closed",), (), "axes: expected 1 of"),
        ((4, 4), ("open", "channel"), (), "no channel but the first"),
        ((2, 2, 2, 2), ("open",) * 4, (), "at most 3 besides channel"),
        ((2, 4), ("channel", "open"), ("shift",), "shift needs a periodic axis"),
        ((4, 4), ("channel", "open"), ("transpose",), "transpose needs a square x"),
        ((4, 4), ("open", "periodic"), ("transpose",), "transpose needs a square x"),
        ((2, 4, 6), ("periodic",) * 3, ("transpose",), "transpose needs a square x"),
    ],
)
def test_axes_that_cannot_be_are_refused(shape, axes, symmetries, message):
    with pytest.raises(ValueError, match=message):
        Law("none", Box(a=(0.0, 1.0)), shape, symmetries=symmetries, axes=axes)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_field_has_the_channels_and_the_grid_of_the_law(name):
    law = law_of(name)
    x = rows(law)
    assert as_field(law, x).shape == (16, *field_shape(law))
    channels = law.x_shape[0] if "channel" in law.axes else 1
    assert field_shape(law) == (channels, *law.x_shape[-len(law.spatial) :])


def test_a_law_comes_back_from_json():
    law = law_of("two rings")
    assert Law.from_json(law.to_json()) == law
    assert "axes" not in law_of("told by shifts").to_json()


# --- convolutions --------------------------------------------------------------------------------


@pytest.mark.parametrize("periodic", [*itertools.product([True, False], repeat=3)])
def test_a_convolution_in_space_against_scipy(periodic):
    conv = random(Convolution, 2, 3, 3, periodic)
    x = torch.randn(1, 2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    for o in range(3):
        expected = conv.bias[o].item()
        for i in range(2):
            wide = np.pad(x[0, i].numpy(), [(1, 1) if p else (0, 0) for p in periodic], "wrap")
            part = ndimage.correlate(wide, conv.weight[o, i].detach().numpy(), mode="constant")
            inner = tuple(slice(1, -1) if p else slice(None) for p in periodic)
            expected = expected + part[inner]
        np.testing.assert_allclose(conv(x)[0, o].detach(), expected, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in GEOMETRIES if n != "odd"])
def test_convolutions_follow_shifts_along_periodic_axes_and_no_others(name):
    law = law_of(name)
    conv = random(convolution, field_shape(law)[0], 3, law)
    x = rows(law)
    for number, axis in enumerate(law.spatial):
        image = conv(as_field(law, x)).roll(1, 2 + number)
        same = torch.allclose(conv(as_field(law, moved(law, x, axis))), image, atol=1e-5)
        assert same == (law.geometry[axis] == "periodic")


def test_a_stride_makes_half_as_many_sites_rounded_up():
    x = torch.randn(1, 2, 5, 6, generator=torch.Generator().manual_seed(1))
    assert random(Convolution, 2, 3, 3, (True, False), 2)(x).shape == (1, 3, 3, 3)


@pytest.mark.parametrize("name", ["series", "cylinder", "ring", "odd"])
def test_places_tell_sites_apart_where_shifts_are_no_symmetry(name):
    law = law_of(name)
    places = random(SiteTerms, 2, 3, law)
    h = torch.zeros(4, 3, *field_shape(law)[1:])
    found = places(h, torch.rand(4, 2, generator=torch.Generator().manual_seed(0)))
    for number, axis in enumerate(law.spatial):
        alike = torch.equal(found, found.roll(1, 2 + number))
        assert alike == (axis in law.shifted)


# --- symmetries and scales -----------------------------------------------------------------------


@pytest.mark.parametrize("name", GEOMETRIES)
def test_moves_leave_channels_and_open_axes_where_they_are(name):
    law = law_of(name)
    generator = torch.Generator().manual_seed(0)
    x = rows(law, 1)
    steps = itertools.product(*[range(law.x_shape[a]) for a in law.shifted])
    axes = [1 + a for a in law.shifted]
    reachable = {flat(x.roll(by, axes) if axes else x) for by in steps}
    symmetries = ("shift",) if axes else ()
    moves = Symmetries(replace(law, symmetries=symmetries))
    seen = {flat(moves(x, generator)) for _ in range(300)}
    assert seen <= reachable
    assert len(seen) > len(reachable) / 2


def test_images_of_a_cube_are_its_48_and_of_an_image_of_channels_8():
    for name, order in (("cube", 48), ("images", 8)):
        x = rows(law_of(name), 1)
        images = Symmetries(law_of(name)).images(x)
        assert len({tuple(i.flatten().tolist()) for i in images}) == order
        if name == "images":
            assert all(i[0, 0].sort().values.sum() != 0 for i in images)
            channels = [i[0].flatten(1).sort().values for i in images]
            assert all(torch.equal(c, channels[0]) for c in channels)


@pytest.mark.parametrize("name", ["two rings", "tori", "cylinder", "cube", "series"])
def test_components_that_shifts_make_alike_share_a_scale(name):
    law = law_of(name)
    place = torch.arange(law.size).view(law.x_shape)
    x = rows(law, 400) * (1 + place) + 10 * place
    transform = Standardise(law)
    transform.fit(x)
    for axis in range(len(law.x_shape)):
        alike = torch.equal(transform.mean, transform.mean.roll(1, axis))
        assert alike == (axis in law.shifted)
    z = transform(x)
    torch.testing.assert_close(transform.inverse(z).double(), x.double(), rtol=1e-4, atol=1e-4)


# --- families ------------------------------------------------------------------------------------


def created(family, law):
    cls = find("surrogates", family)
    return cls.create(law, cls.Config(**SMALL[family]), seed=1)


def trained(family, law):
    """A surrogate after two steps."""
    model, x = created(family, law), rows(law)
    theta = torch.from_numpy(law.prior.sample(len(x), np.random.default_rng(0)))
    model.fit_transform(x)
    generator = torch.Generator().manual_seed(0)
    for _, objective in itertools.product(range(2), model.objectives()):
        step = torch.optim.Adam(objective.parameters, 1e-2)
        step.zero_grad()
        objective.loss(theta, x, generator, 0.5).mean().backward()
        step.step()
    return model.eval(), theta, x


SUPPORTS = {
    "cvae": ("spins", "reals", "nonnegative"),
    "diffusion": ("spins", "reals", "nonnegative"),
    "gan": ("spins", "reals"),
    "autoregressive": ("spins", "reals", "nonnegative"),
    "rbm": ("spins",),
    "flow": ("reals",),
    "tree": ("nonnegative",),
}
CASES = [
    pytest.param(
        family, support, name, marks=() if (number + i) % len(supports) == 0 else pytest.mark.slow
    )
    for family, supports in SUPPORTS.items()
    for i, support in enumerate(supports)
    for number, name in enumerate(GEOMETRIES)
]
"""Each family in each geometry, quickly with one of its supports, in turn, and slowly with all."""


@pytest.mark.parametrize(("family", "support", "name"), CASES)
def test_every_family_has_every_geometry_or_refuses_it_by_name(family, support, name, tmp_path):
    law = law_of(name, support)
    if family == "cvae" and support == "spins" and "channel" in law.axes:
        with pytest.raises(UsageError, match="cvae: spins of several channels"):
            created(family, law)
        return
    model, theta, x = trained(family, law)
    assert model.sample(theta[:3], 1).shape == (3, *law.x_shape)
    if family == "rbm":
        model.finalize()
    save_surrogate(model, tmp_path / "model.pt", {})
    again, _ = load_surrogate(tmp_path / "model.pt", torch.device("cpu"))
    assert again.law == law
    assert torch.equal(again.sample(theta[:3], 1), model.sample(theta[:3], 1))
    if family != "gan":
        log_p = model.log_prob(theta[:5], x[:5], draws=4)
        assert torch.isfinite(log_p).all()
        assert torch.equal(again.log_prob(theta[:5], x[:5], draws=4), log_p)


@pytest.mark.parametrize("family", ["cvae", "diffusion"])
def test_what_is_missing_of_channels_is_left_out(family):
    law = law_of("two series", missing=True)
    model, theta, x = trained(family, law)
    x[:5, 1, 2:] = torch.nan
    log_p = model.log_prob(theta[:5], x[:5], draws=4)
    assert torch.isfinite(log_p).all()
    x[:5] = torch.nan
    assert torch.equal(model.log_prob(theta[:5], x[:5], draws=4), torch.zeros(5).double())


@pytest.mark.parametrize(
    ("family", "name"),
    [("cvae", "two rings"), ("cvae", "boxes"), ("cvae", "cube"), ("gan", "cylinder"),
     ("gan", "cube"), ("diffusion", "series")],
)  # fmt: skip
def test_onnxruntime_draws_fields_of_any_rank(family, name):
    graph = pytest.importorskip("physgen.surrogates.graph")
    model, _, _ = trained(family, law_of(name))
    columns = graph.noise_columns(model)
    data = graph.onnx_model(model, columns).SerializeToString()
    assert graph.checked(data, model, columns).others == 0


# --- features of networks that read x ------------------------------------------------------------


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("missing", [False, True])
def test_features_of_a_torus_are_invariant_and_those_of_others_are_not(name, missing):
    law = law_of(name, missing=missing)
    x = rows(law, 32)
    seen = with_mask(law, scaled_for(law, x)(x))
    net = random(embedding, law, seen)
    for axis in law.spatial:
        image = net(with_mask(law, scaled_for(law, x)(moved(law, x, axis))))
        assert torch.allclose(image, net(seen), atol=1e-5) == law.periodic


@pytest.mark.parametrize(("name", "same"), [("tori", True), ("cube", True), ("images", False)])
def test_a_discriminator_of_a_torus_does_not_see_shifts(name, same):
    law = law_of(name)
    net = random(lambda: created("gan", law).discriminator)
    x, c = rows(law), torch.zeros(16, 2)
    for axis in law.spatial:
        assert torch.allclose(net(moved(law, x, axis), c), net(x, c), atol=1e-5) == same


# --- what is shown and measured ------------------------------------------------------------------


def test_observables_of_axes_are_those_of_a_loop():
    law = law_of("tori")
    x = rows(law, 5).double().numpy()
    found = observables_of(None, x, law)
    np.testing.assert_allclose(found["spread_2"](x), [one[1].std() for one in x])
    expected = [
        np.mean([c[i, j] * c[(i + 1) % 4, j] for c in one for i in range(4) for j in range(6)])
        for one in x
    ]
    np.testing.assert_allclose(found["neighbours_2"](x), expected)
    assert "neighbours_1" not in found
    assert "mean_1" not in observables_of(None, x, replace(law, axes=("periodic",) * 3))


def test_pictures_have_channels_below_one_another_and_slices_side_by_side():
    law = law_of("boxes")
    x = torch.arange(law.size).view(1, *law.x_shape).numpy()
    (picture,) = pictures_of(law, x)
    expected = np.block([[x[0, 0, 0], x[0, 0, 1]], [x[0, 1, 0], x[0, 1, 1]]])
    np.testing.assert_array_equal(picture, expected)


def test_each_channel_of_a_series_is_predicted_as_a_curve():
    law = law_of("two series")
    x = rows(law).numpy()
    bands = posterior_predictive(x, x[:1], None, law)["bands"]
    assert [*bands] == ["x1", "x2"]
    assert bands["x2"]["observed"] == [x[0, 1].tolist()]
    assert [*posterior_predictive(x, x[:1], None)["bands"]] == []

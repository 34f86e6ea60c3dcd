"""Maps of x and θ: autograd Jacobians, and the group that augmentation generates."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import physgen
from physgen.dataset import Dataset, Meta, Rows
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.nn.transforms import Identity, Rescale, Standardise, Symmetries, for_support
from physgen.registry import find
from simulators.ising.observables import bonds
from simulators.prior import Box

BOX = Box(a=(0.0, 1.0))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def law(shape, symmetries, support="spins"):
    return Law("none", BOX, shape, support, symmetries)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1e3, 1e3), min_size=21, max_size=21), st.floats(1e-3, 1e3))
def test_log_det_of_standardise_against_autograd(values, scale):
    z = Standardise(law((3,), (), "reals"))
    x = scale * torch.tensor(values).view(7, 3)
    z.fit(x)
    jacobian = torch.autograd.functional.jacobian(lambda y: z(y[None])[0], x[0])
    expected = torch.linalg.slogdet(jacobian.double())[1]
    torch.testing.assert_close(z.log_det(x[:1])[0], expected, rtol=1e-5, atol=1e-5)


def test_standardise_has_mean_zero_and_unit_spread_and_an_inverse():
    x = torch.randn(997, 2, 3, generator=generator()) * torch.tensor([1e-3, 1.0, 50.0]) + 7
    transform = Standardise(law((2, 3), (), "reals"))
    transform.fit(x)
    z = transform(x)
    assert z.mean(0).abs().max() < 1e-2
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(2, 3), rtol=1e-2, atol=0)
    torch.testing.assert_close(transform.inverse(z), x)


def test_few_rows_keep_their_unit():
    transform = Standardise(law((3,), (), "reals"))
    transform.fit(torch.tensor([[0.1, 2.0, 3.0], [0.1, 2.0, 5.0]]))
    assert transform.std.tolist() == [1, 1, 1]
    transform.fit(torch.tensor([[0.1, 2.0, 3.0]]))
    assert transform.std.tolist() == [1, 1, 1]
    assert not transform.told()


def test_the_support_chooses_the_map():
    assert isinstance(for_support(law((2, 3), ())), Identity)
    dice = Law("dice", Box(a=(0, 1)), (2, 3), "levels", levels=6)
    assert isinstance(for_support(dice), Identity)
    assert isinstance(for_support(law((2, 3), (), "reals")), Standardise)


def test_rescale_maps_the_prior_onto_the_cube_in_float64():
    rescale = Rescale(Box(a=(1e9, 1e9 + 1), b=(-3.0, 5.0)))
    corners = torch.tensor([[1e9, 5.0], [1e9 + 1, -3.0], [1e9 + 0.5, 1.0]], dtype=torch.float64)
    assert rescale(corners).tolist() == [[-1, 1], [1, -1], [0, 0]]
    assert rescale(corners).dtype == torch.float32


# --- symmetries ----------------------------------------------------------------------------------

PATTERN = torch.tensor([[1, 1, -1], [1, -1, -1], [-1, -1, -1]], dtype=torch.int8)
ASYMMETRIC = torch.arange(1.0, 10.0).view(3, 3)


def orbit(names, x, draws=600):
    """All x that augmentation has made, as tuples."""
    symmetries, g = Symmetries(law(x.shape, names, "reals")), generator()
    batch = x.expand(3, *x.shape)
    return {tuple(row.flatten().tolist()) for _ in range(draws) for row in symmetries(batch, g)}


def group(names, x):
    """The same by numpy, over all products of the declared moves."""
    x = x.numpy()
    shifts = itertools.product(*map(range, x.shape)) if "shift" in names else [(0,) * x.ndim]
    mirrors = [m for k in range(x.ndim + 1) for m in itertools.combinations(range(x.ndim), k)]
    moved = set()
    for shift, mirror, turn, sign in itertools.product(
        list(shifts), mirrors if "reflect" in names else [()], (0, 1), (1, -1)
    ):
        if (turn and "transpose" not in names) or (sign < 0 and "flip" not in names):
            continue
        y = sign * np.flip(np.roll(x, shift, tuple(range(x.ndim))), mirror)
        moved.add(tuple((y.T if turn else y).ravel().tolist()))
    return moved


@pytest.mark.parametrize(
    ("names", "order"),
    [
        ((), 1),
        (("flip",), 2),
        (("shift",), 9),
        (("reflect",), 4),
        (("transpose",), 2),
        (("reflect", "transpose"), 8),
        (("shift", "flip"), 18),
        (("shift", "reflect", "transpose", "flip"), 144),
    ],
)
def test_augmentation_covers_the_declared_group_and_no_more(names, order):
    seen = orbit(names, ASYMMETRIC)
    assert seen == group(names, ASYMMETRIC)
    assert len(seen) == order


def test_augmentation_of_other_shapes():
    assert len(orbit(("shift", "reflect", "flip"), torch.arange(1.0, 7).view(2, 3))) == 24
    assert len(orbit(("shift", "reflect"), torch.arange(1.0, 6))) == 10


def test_augmentation_keeps_energy_and_dtype():
    symmetries = Symmetries(Law.of("ising", {"size": 3}))
    batch, g = PATTERN.expand(5, 3, 3), generator()
    energy = bonds(batch.numpy())[:, :2].sum(1)
    for _ in range(50):
        moved = symmetries(batch, g)
        assert moved.dtype == torch.int8
        assert (bonds(moved.numpy())[:, :2].sum(1) == energy).all()
    assert (batch == PATTERN).all()


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (3, 3, 3)])
def test_places_are_those_that_a_move_takes_values_from(shape):
    names = ("shift", "reflect", *(["transpose"] if len(set(shape)) == 1 else []))
    symmetries = Symmetries(law(shape, names, "reals"))
    x, g, moves = torch.arange(math.prod(shape)).view(1, *shape), generator(), generator()
    found = symmetries.places(20, g)
    moved = torch.stack([symmetries(x, moves).flatten() for _ in range(20)])
    assert torch.equal(found, moved)
    assert len(found.unique(dim=0)) > 10
    assert symmetries.places(0, g).shape == (0, x.numel())


def test_rows_have_signs_of_their_own():
    moved = Symmetries(law((3,), ("flip",)))(torch.ones(997, 3), generator())
    assert (moved == moved[:, :1]).all()
    assert abs(moved[:, 0].mean()) < 5 / 997**0.5


def test_a_transpose_of_an_oblong_is_refused():
    with pytest.raises(ValueError, match="square"):
        law((2, 3), ("transpose",))


# --- numbers of any size, tails, components that others tell -------------------------------------


@pytest.mark.parametrize(
    ("scale", "offset"), [(1.0, 0.0), (1.0, 1e9), (1e-32, 0.0), (1e45, 0.0), (1e-180, 0.0)]
)
def test_the_unit_and_the_origin_of_x_do_not_matter(scale, offset):
    """z of any numbers is that of the same numbers of size 1, to the rounding of float64."""
    plain = torch.randn(500, 4, generator=generator(), dtype=torch.float64)
    plain[:, 3] = plain[:, 3].tan()  # heavy tails
    reals = law((4,), (), "reals")
    one, other = Standardise(reals), Standardise(replace(reals, dtype="float64"))
    one.fit(plain)
    other.fit(plain * scale + offset)
    x = plain * scale + offset
    torch.testing.assert_close(other(x), one(plain), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(other.inverse(other(x)), x, rtol=1e-6, atol=1e-5 * scale)
    volume = -4 * torch.tensor(scale, dtype=torch.float64).log()
    torch.testing.assert_close(other.log_det(x), one.log_det(plain) + volume, rtol=1e-5, atol=1e-5)


def test_tails_are_drawn_in_and_normal_components_are_not():
    x = torch.randn(2000, 2, generator=generator())
    x[:, 1] /= torch.randn(2000, generator=generator(1))
    transform = Standardise(law((2,), (), "reals"))
    transform.fit(x)
    assert transform.heavy.tolist() == [False, True]
    assert transform(x)[:, 1].abs().max() < 12 < x[:, 1].abs().max()
    assert transform(x)[:, 1].diff().sign().equal(x[:, 1].diff().sign()), "monotone"


def test_components_that_others_tell_do_not_count_and_come_back():
    x = torch.randn(300, 4, generator=generator())
    x[:, 1], x[:, 3] = 0.1, 2 * x[:, 0] - x[:, 2] + 5
    transform = Standardise(law((4,), (), "reals"))
    transform.fit(x)
    assert transform.told() == ["x[1] = 0.1", "x[3] = 2 x[0] + -1 x[2] + 5"]
    z = transform(x)
    assert z.isinf().any(0).tolist() == [False, True, False, True]
    z[:, [1, 3]] = torch.randn(300, 2, generator=generator(1))  # what a network makes of them
    torch.testing.assert_close(transform.inverse(z), x, rtol=1e-5, atol=1e-5)
    alone = Standardise(law((2,), (), "reals"))
    alone.fit(x[:, [0, 2]])
    torch.testing.assert_close(transform.log_det(x), alone.log_det(x[:, [0, 2]]))


@pytest.mark.parametrize("family", ["cvae", "diffusion", "gan"])
def test_a_density_of_x_with_told_components_is_that_of_the_others(family):
    """After a training that sees copies and constants, log p does not depend on their widths."""
    x = torch.randn(400, 2, generator=generator())
    more = torch.cat([x, x[:, :1], torch.full((400, 1), 3.0)], 1)
    cls = find("surrogates", family)
    model = cls.create(law((4,), (), "reals"), cls.Config()).eval()
    model.fit_transform(more)
    assert model.transform.told() == ["x[2] = 1 x[0]", "x[3] = 3"]
    theta = torch.full((50, 1), 0.5, dtype=torch.float64)
    drawn = model.sample(theta, 0)
    torch.testing.assert_close(drawn[:, 2:], torch.stack([drawn[:, 0], 0 * drawn[:, 0] + 3], 1))
    if family != "gan":
        log_p = model.log_prob(theta, more[:50])
        untrained = torch.distributions.Normal(0, 1).log_prob(x[:50]).sum(1)
        assert (log_p - untrained).mean().abs() < 1, "two components count, not four"


def test_a_family_without_such_densities_refuses_them(monkeypatch):
    x = torch.randn(100, 2, generator=generator())
    cls = find("surrogates", "cvae")
    monkeypatch.setattr(cls, "leaves_out", False)
    model = cls.create(law((2,), (), "reals"), cls.Config())
    model.fit_transform(x)
    with pytest.raises(DataError, match=r"x\[1\] = -1 x\[0\]"):
        model.fit_transform(torch.stack([x[:, 0], -x[:, 0]], 1))
    with pytest.raises(DataError, match="does not vary"):
        model.fit_transform(0 * x)


def test_shares_are_refused_and_sums_are_told_of_nonnegative_x():
    """A difference could be below 0, where nothing is."""
    shares = torch.rand(200, 3, generator=generator()).cumsum(1) + 0.1
    transform = for_support(law((4,), (), "nonnegative"))
    total = torch.cat([shares, shares.sum(1, keepdim=True)], 1)
    transform.fit(total)
    torch.testing.assert_close(transform.inverse(transform(total)), total)
    with pytest.raises(DataError, match=r"tell by differences: x\[3\] = -1 x\[0\] \+ -1 x\[1\]"):
        transform.fit(torch.cat([shares, 9 - shares[:, :2].sum(1, keepdim=True)], 1))


def test_shifts_stay_symmetries_of_a_field():
    x = torch.randn(500, 4, 4, generator=generator()) / torch.rand(
        500, 4, 4, generator=generator(1)
    )
    transform = Standardise(law((4, 4), ("shift",), "reals"))
    transform.fit(x)
    torch.testing.assert_close(transform(x.roll(1, 1)), transform(x).roll(1, 1))
    torch.testing.assert_close(transform.log_det(x.roll(1, 2)), transform.log_det(x))


def test_a_start_from_other_relations_is_refused():
    x = torch.randn(300, 2, generator=generator())
    x[:, 1] = 3.0
    theta = np.random.default_rng(0).uniform(size=(300, 1))
    meta = Meta(law((2,), (), "reals"))
    model = physgen.fit("cvae", Dataset(Rows(x.numpy(), theta, meta=meta)), epochs=1)
    other = Dataset(Rows(x.numpy() + np.array([0, 1]), theta, meta=meta))
    with pytest.raises(UsageError, match=r"270 of 270 rows break .* x\[1\] = 3; train anew"):
        physgen.fit("cvae", other, from_=model, epochs=1)

"""The flow: by quadrature, by autograd, and by what it is before it is trained."""

import sys

import numpy as np
import pytest
import torch
from scipy import stats

from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.nn.regression import least_squares, quadratic
from physgen.registry import find
from physgen.surrogates.flow import Base, Flow, FlowConfig
from simulators.prior import Box

pytest.importorskip("zuko")
BOX = Box(a=(-1.0, 1.0), b=(0.0, 3.0))
VARIANTS = {
    "spline": {},
    "coupling": {"passes": 2},
    "affine": {"transform": "affine", "layers": 2},
    "gaussian": {"tails": "gaussian", "bins": 4, "depth": 1},
}


def law(size, **options):
    return Law("none", BOX, (size,), **options)


def rows(n, size, seed=0):
    rng = np.random.default_rng(seed)
    theta = BOX.sample(n, rng)
    noise = rng.normal(size=(n, size)) @ rng.normal(size=(size, size))
    x = theta @ rng.normal(size=(2, size)) + noise
    return torch.from_numpy(theta), torch.from_numpy(x)


def flow(size, scale=0.3, seed=1, **options):
    """One whose weights are random everywhere."""
    made = Flow.create(law(size), FlowConfig(hidden=16, **options), seed)
    generator = torch.Generator().manual_seed(seed)
    made.fit_transform(*rows(500, size)[::-1])
    with torch.no_grad():
        for weight in made.parameters():
            weight += scale * torch.randn(weight.shape, generator=generator)
    return made.eval()


@pytest.mark.slow
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_its_density_integrates_to_one(options):
    model = flow(2, scale=0.15, **options)
    theta = torch.tensor([[0.3, 1.0]], dtype=torch.float64)
    drawn = model.sample(theta.expand(4000, 2), 0).double()
    middle, width = drawn.median(0).values, drawn.std(0).clamp(max=20)
    axes = [m + w * torch.linspace(-12, 12, 301) for m, w in zip(middle, width, strict=True)]
    points = torch.cartesian_prod(*axes)
    p = model.log_prob(theta.expand(len(points), 2), points).exp()
    cell = float(torch.stack([a[1] - a[0] for a in axes]).prod())
    assert float(p.sum()) * cell == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_log_p_is_that_of_the_map_by_autograd(options):
    model = flow(5, **options).double()
    c, z = torch.tensor([[0.2, -0.7]]), torch.randn(5, generator=torch.Generator().manual_seed(0))

    def to_base(z):
        u, _ = model.residuals(c.double(), z[None], model.part)
        for layer in model.layers:
            u = layer(c.double(), u)[0]
        return u[0]

    jacobian = torch.autograd.functional.jacobian(to_base, z.double())
    expected = torch.linalg.slogdet(jacobian)[1] + model.base.log_prob(to_base(z.double())).sum()
    torch.testing.assert_close(model.score(c.double(), z[None].double())[0], expected)
    assert abs(float(torch.linalg.slogdet(jacobian)[1])) > 0.1


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_what_is_drawn_goes_back_to_where_it_came_from(options):
    model = flow(5, scale=0.1, **options)
    c = torch.rand(200, 2, generator=torch.Generator().manual_seed(3))
    u = 3 * torch.randn(200, 5, generator=torch.Generator().manual_seed(4)).double()
    z = u
    for layer in reversed(model.layers):
        z = layer.inverse(c, z, model.part)
    z = model.residuals.inverse(c, z, model.part)
    back, _ = model.residuals(c, z, model.part)
    for layer in model.layers:
        back = layer(c, back)[0]
    torch.testing.assert_close(back, u, rtol=1e-4, atol=1e-4)


def test_half_of_the_components_need_two_passes():
    assert [layer.passes for layer in flow(5, passes=2).layers] == [2, 2, 2]
    assert [layer.passes for layer in flow(5).layers] == [5, 5, 5]
    assert [layer.passes for layer in flow(1).layers] == [1, 1, 1]


def test_it_begins_with_the_normal_law_of_least_squares():
    theta, x = rows(2000, 3)
    x = x + theta.prod(1, keepdim=True) * torch.tensor([1.0, -2.0, 4.0])
    model = Flow.create(law(3), FlowConfig(tails="gaussian"), 0)
    model.fit_transform(x, theta)
    features = quadratic(model.rescale(theta).double())
    weights = np.linalg.lstsq(features.numpy(), x.numpy(), rcond=None)[0]
    rest = x.numpy() - features.numpy() @ weights
    expected = stats.multivariate_normal(np.zeros(3), rest.T @ rest / len(x)).logpdf(rest)
    np.testing.assert_allclose(model.log_prob(theta, x), expected, atol=1e-3)


def test_few_rows_and_many_parameters_leave_products_out():
    c = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    weights = least_squares(c, c[:, :1] * 2 + 1)
    torch.testing.assert_close(weights[:2, 0], torch.tensor([1.0, 0.0]).double(), atol=9, rtol=0)
    assert not least_squares(c, c[:, :1])[7:].any()
    assert least_squares(torch.cat([c] * 20), torch.cat([c[:, :1] ** 2] * 20))[7:].any()
    assert quadratic(torch.zeros(2, 21)).shape == (2, 22)


def test_each_column_has_the_features_that_rows_left_out_want():
    generator = torch.Generator().manual_seed(0)
    c = 2 * torch.rand(900, 8, generator=generator) - 1
    noise = torch.randn(900, 3, generator=generator)
    mean = torch.stack([torch.ones(900), c[:, 0] - c[:, 1], c[:, 0] * c[:, 1]], 1)
    weights = least_squares(c, 3 * mean + noise)
    assert not weights[1:, 0].any()
    assert not weights[9:, 1].any()
    assert weights[1:9, 1].all()
    assert weights[9:, 2].all()
    error = quadratic(c.double()) @ weights - 3 * mean
    assert (error[:, :2].square().mean(0) < 0.02).all(), "the control: 45 features cost 0.05"
    assert error[:, 2].square().mean() > 0.03


def test_the_base_is_student_s_t():
    base = Base(3, heavy=True)
    with torch.no_grad():
        base.log_degrees.copy_(torch.tensor([0.0, 1.0, 9.3]))
    u = torch.linspace(-40, 40, 30)[:, None].expand(30, 3)
    expected = stats.t(np.exp([0.0, 1.0, np.log(1e4)])).logpdf(u.numpy())
    np.testing.assert_allclose(base.log_prob(u).detach(), expected, atol=1e-4)
    drawn = base.sample(torch.zeros(20_000, 3), torch.Generator().manual_seed(0)).detach().numpy()
    laws = [stats.t(1), stats.t(np.e), stats.norm()]
    p = [stats.kstest(d, of.cdf).pvalue for d, of in zip(drawn.T, laws, strict=True)]
    assert min(p) > 1e-3
    assert stats.kstest(drawn[:, 1], laws[0].cdf).pvalue < 1e-6


def test_components_that_others_tell_are_left_out_and_told():
    theta = rows(500, 2)[0]
    x = theta + torch.randn(500, 2, generator=torch.Generator().manual_seed(1)).double()
    whole = torch.stack([x[:, 0], torch.full_like(x[:, 0], 7), x[:, 1], 2 * x[:, 0] - x[:, 1]], 1)
    model = Flow.create(law(4), FlowConfig(hidden=16), 1)
    model.fit_transform(whole, theta)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    assert model.part.tolist() == [True, False, True, False]
    drawn = model.sample(theta, 0)
    torch.testing.assert_close(drawn[:, 3], 2 * drawn[:, 0] - drawn[:, 2], rtol=0, atol=1e-4)
    other = whole.clone()
    other[:, 1] += 1
    assert torch.equal(model.log_prob(theta, whole), model.log_prob(theta, other))
    other[:, 0] += 1
    assert not torch.equal(model.log_prob(theta, whole), model.log_prob(theta, other))
    point, axis = theta[:1].expand(40401, 2), torch.linspace(-20, 20, 201, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    grid = torch.stack([grid[:, 0], 7 + 0 * grid[:, 0], grid[:, 1], grid[:, 0]], 1)
    mass = model.log_prob(point, grid).exp().sum() * 0.04
    assert float(mass) == pytest.approx(1, abs=0.05)


def test_it_draws_from_its_generator_alone():
    model, theta = flow(3), rows(7, 3)[0]
    state = torch.get_rng_state()
    once, again, other = (model.sample(theta, seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (65, {}, "flow: not for x of 65 components; expected at most 64; take"),
        (3, {"missing": True}, "flow: cannot leave out missing components"),
        (3, {"support": "nonnegative"}, "flow: not for nonnegative x; expected reals"),
    ],
)
def test_what_it_is_not_for_is_refused_by_name(size, options, message):
    with pytest.raises(UsageError, match=message):
        Flow.create(law(size, **options), FlowConfig())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"layers": 0}, "layers: expected at least 1"), ({"passes": 1}, "passes: expected 0, or")],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FlowConfig(**options)


def test_without_zuko_it_says_so_and_other_families_do_not_care(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(UsageError, match=r"^flow: needs zuko; pip install 'physgen\[flow\]'$"):
        Flow.create(law(3), FlowConfig())
    assert find("surrogates", "flow") is Flow


def test_nan_is_refused():
    theta, x = rows(5, 3)
    x[2, 1] = torch.nan
    with pytest.raises(DataError, match="has NaN"):
        flow(3).log_prob(theta, x)

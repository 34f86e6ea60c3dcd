"""y = Mx + σε: M by its matrices, Mᵀ and the dense M; refusals."""

import numpy as np
import pytest
import torch

from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.nn.measurement import Measurement
from physgen.surrogates.gan import GAN, GANConfig
from simulators.field.gaussian import GaussianField
from simulators.prior import Box


def normal(*shape):
    return torch.from_numpy(np.random.default_rng(2).standard_normal(shape))


@pytest.fixture
def law():
    field = GaussianField(size=8)
    return Law("gaussian-field", field.prior, (8, 8), symmetries=field.symmetries)


@pytest.mark.parametrize("how", [{}, {"blur": 1.3}, {"average": 2}, {"blur": 0.7, "average": 4}])
def test_the_map_is_its_dense_matrix_and_the_adjoint_its_transpose(law, how):
    side = 8 // how.get("average", 1)
    mask = np.random.default_rng(0).random((side, side)) < 0.6
    measured = Measurement.of(law, mask, 0.1, **how)
    dense = torch.from_numpy(measured.linear.dense())
    x, y = normal(3, 8, 8), normal(3, side, side)
    seen = measured(x)[:, measured.seen]
    torch.testing.assert_close(seen, x.flatten(1) @ dense.T)
    assert (measured(x)[:, ~measured.seen] == 0).all()
    back = measured.adjoint(y).flatten(1)
    torch.testing.assert_close(back, y[:, measured.seen] @ dense)
    np.testing.assert_allclose(measured.linear(x.numpy()), measured(x).numpy())


def test_blur_and_average_keep_the_mean_and_commute_with_shifts(law):
    x = normal(2, 8, 8)
    blurred = Measurement.of(law, blur=1.5)
    torch.testing.assert_close(blurred(x).mean((1, 2)), x.mean((1, 2)))
    torch.testing.assert_close(blurred(x.roll(3, 1)), blurred(x).roll(3, 1))
    blocks = Measurement.of(law, average=4)
    torch.testing.assert_close(blocks(x)[:, 0, 0], x[:, :4, :4].mean((1, 2)))


def test_log_p_is_that_of_independent_normals_over_what_is_seen(law):
    mask = np.random.default_rng(1).random((8, 8)) < 0.5
    measured = Measurement.of(law, mask, 0.3)
    x, y = normal(3, 8, 8), normal(6, 8, 8)[3:]
    each = torch.distributions.Normal(x, 0.3).log_prob(y)[:, measured.seen]
    y[:, ~measured.seen] = torch.nan
    torch.testing.assert_close(measured.log_p(y, x), each.sum(1))


def test_what_cannot_be_is_refused(law):
    for how, words in (
        ({"mask": np.ones((4, 4), bool)}, r"mask: expected shape \(8, 8\), got \(4, 4\)"),
        ({"mask": np.zeros((8, 8), bool)}, "nothing is seen"),
        ({"noise": -1.0}, "noise: expected a standard deviation ≥ 0"),
        ({"blur": -1.0}, "blur"),
        ({"average": 3}, "divisor of 8"),
    ):
        with pytest.raises(UsageError, match=words):
            Measurement.of(law, **how)
    vector = Law("mine", Box(a=(0.0, 1.0)), (4,))
    with pytest.raises(UsageError, match="no axes of neighbours"):
        Measurement.of(vector, blur=1.0)
    with pytest.raises(UsageError, match="noise > 0"):
        Measurement.of(law).log_p(torch.zeros(1, 8, 8), torch.zeros(1, 8, 8))


def test_a_family_without_methods_and_y_of_another_shape_are_refused(law):
    model = GAN.create(law, GANConfig())
    theta, y = torch.zeros(2, 2), torch.zeros(2, 8, 8)
    with pytest.raises(UsageError, match="gan: has no way to draw x given a measurement"):
        model.restore(theta, y, Measurement.of(law))
    restoring = type("Restoring", (type(model),), {"restorers": {"prior": "ignores y"}})
    model.__class__ = restoring
    with pytest.raises(UsageError, match="no method 'dps' to restore x; it has prior"):
        model.restore(theta, y, Measurement.of(law), method="dps")
    with pytest.raises(DataError, match=r"y: expected shape \(2, 4, 4\)"):
        model.restore(theta, y, Measurement.of(law, average=2))
    with pytest.raises(DataError, match="finite numbers where seen"):
        model.restore(theta, y * torch.nan, Measurement.of(law))

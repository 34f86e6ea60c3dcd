"""Layer energies and shares: an inverse, its volume by autograd, and two stages in a density."""

import itertools
import math

import pytest
import torch

from physgen.law import Law
from physgen.nn.layer_energies import Layers
from physgen.surrogates.diffusion import Diffusion
from simulators.prior import Box

INF = math.inf


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def law(*shape):
    return Law("none", Box(a=(0.0, 1.0)), shape, "nonnegative")


def showers(n, *shape, seed=0):
    """Cells of which a third are hit, layers without energy, and a layer with a single hit."""
    g = generator(seed)
    x = torch.rand(n, *shape, generator=g) * (torch.rand(n, *shape, generator=g) < 1 / 3)
    x[0, 0] = 0
    x[1, 1] = 0
    x[1, 1, 0, 1] = 2.0
    return x


@pytest.fixture
def fitted():
    x = showers(97, 2, 3, 5)
    layers = Layers(law(2, 3, 5))
    layers.fit(x)
    return layers, x


def test_the_map_has_an_inverse(fitted):
    layers, x = fitted
    z = layers(x)
    assert z.shape == (97, 2 + 30)
    torch.testing.assert_close(layers.inverse(z), x, rtol=1e-4, atol=1e-6)
    assert torch.equal(layers.inverse(z) > 0, x > 0)


def test_numbers_are_standardised(fitted):
    layers, x = fitted
    z = layers(x)[:, 2:]
    there = z.isfinite()
    for cell in (0, 6, 11, 17, 23):
        values = z[:, cell][there[:, cell]]
        assert values.mean().abs() < 1e-5
        assert values.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_cells_add_up_to_the_energy_whatever_the_shares(fitted):
    layers, x = fitted
    z = layers(x)
    z[:, 2:] = torch.where(
        z[:, 2:].isfinite(), 3 * torch.randn(97, 30, generator=generator()), z[:, 2:]
    )
    again = layers.inverse(z)
    torch.testing.assert_close(again.sum((2, 3)), x.sum((2, 3)), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(again, x, atol=0.1)


def test_a_layer_without_hits_keeps_its_energy_and_one_without_energy_its_silence(fitted):
    layers, _ = fitted
    z = torch.full((1, 32), -INF)
    z[0, 0] = 0.3
    z[0, 20] = 1.0
    x = layers.inverse(z)
    assert x[0, 0].sum().item() == pytest.approx((layers.energy[0] + 0.3).exp().item(), rel=1e-5)
    assert (x[0, 0] > 0).sum() == 1
    assert not x[0, 1].any()


def test_volume_against_autograd(fitted):
    layers, x = fitted
    for row in (0, 1, 2, 5):
        hit = x[row].flatten() > 0
        values = x[row].flatten()[hit].double()
        keep = layers(x[row : row + 1])[0].isfinite()

        def finite(values, hit=hit, keep=keep):
            full = torch.zeros(30, dtype=torch.float64)
            full[hit] = values
            cells = full.view(1, 2, 15)
            log_e, y = layers._split(cells.view(1, 2, 3, 5))
            z = torch.cat([log_e, ((y - layers.mean) / layers.std).flatten(1)], 1)[0]
            return z[keep]

        assert int(keep.sum()) == len(values)
        jacobian = torch.autograd.functional.jacobian(finite, values)
        expected = torch.linalg.slogdet(jacobian)[1].item()
        assert layers.log_det(x[row : row + 1]).item() == pytest.approx(
            expected, rel=1e-5, abs=1e-4
        )


def test_samples_are_showers_and_their_energies_those_of_the_first_stage():
    model = Diffusion.create(
        law(2, 3, 5), Diffusion.Config(steps=8, showers="channels"), seed=1
    ).eval()
    model.transform.fit(showers(97, 2, 3, 5))
    theta = torch.rand(50, 1, generator=generator(3), dtype=torch.float64)
    x = model.sample(theta, generator(4))
    assert (x >= 0).all()
    with torch.no_grad():
        energy = model.kernel.energies.sample(model.rescale(theta), generator(4), model.config)
    expected = (energy + model.transform.energy).exp()
    torch.testing.assert_close(x.sum((2, 3)), expected, rtol=1e-4, atol=1e-6)


def test_shares_of_a_single_layer_are_normalised():
    """P(hits|E) p(y|hits, E) over all patterns of two cells, at an energy, is 1."""
    model = (
        Diffusion.create(law(1, 1, 2), Diffusion.Config(showers="channels"), seed=1)
        .double()
        .eval()
    )
    kernel, c = model.kernel, torch.zeros(1, 3, dtype=torch.float64)
    x = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=2)), dtype=torch.float64)
    ranks = torch.tensor([[1, 0]]).expand(4, -1)
    log_p = kernel.hits._chain(c.expand(4, -1), x, ranks, kernel.hits.cuts(0), None)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)

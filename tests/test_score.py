"""The learnt score of noised x beside the exact one: by a denoiser that is exact, and one off."""

import numpy as np
import pytest
import torch

from benchmarks.restoration import exact_model
from benchmarks.scores import known_loss
from physgen.checks.exact.score import score_section
from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.transforms import for_support
from physgen.reporting.page import surrogate_sheet
from physgen.surrogates.diffusion import Diffusion, DiffusionConfig
from simulators.base import exact_score
from simulators.field.gaussian import GaussianField
from simulators.field.lognormal import LognormalField
from simulators.field.phi4 import Phi4
from simulators.gaussian import LinearGaussian
from simulators.measurement import linear_map

FIELD, THETA, OFF = GaussianField(size=8), np.array([0.2, 2.0]), np.array([0.2, 0.3])


def rows(n=100, field=FIELD):
    rng = np.random.default_rng(3)
    theta = np.tile(THETA, (n, 1))
    return theta, field.sample(theta, rng)


@pytest.fixture(scope="module")
def right():
    return score_section(exact_model(FIELD, THETA), FIELD, *rows(), 0)


def test_scores_are_exact_by_another_route():
    """Tweedie's formula of the Wiener filter's mean; the slope of a wider law's log p."""
    theta, x = rows(1)
    y = x + 0.7 * np.random.default_rng(1).standard_normal(x.shape)
    mean, _ = FIELD.restoration(THETA, y[0], linear_map((8, 8)), 0.7).moments
    assert y + 0.7**2 * FIELD.score(theta, y, 0.7) == pytest.approx(mean[None], abs=1e-9)
    assert abs(y + 0.6**2 * FIELD.score(theta, y, 0.6) - mean).max() > 1e-2
    toy, wide = LinearGaussian(size=3, noise=0.3), LinearGaussian(size=3, noise=0.5)
    y = np.array([[0.5, -1.0, 2.0]])
    steps = 1e-5 * np.eye(3)
    slope = (wide.log_prob(theta, y + steps) - wide.log_prob(theta, y - steps)) / 2e-5
    assert toy.score(theta, y, np.full(3, 0.4))[0] == pytest.approx(slope, rel=1e-6)


def test_a_score_that_is_not_known_is_refused():
    theta, x = rows(1)
    for simulator, noise in ((LognormalField(size=8), 0.1), (Phi4(size=8), 0.1)):
        with pytest.raises(ValueError, match="not known"):
            simulator.score(theta, x, noise)
    with pytest.raises(ValueError, match="same at all sites"):
        FIELD.score(theta, x, np.linspace(0.1, 0.2, 64).reshape(8, 8))
    assert exact_score(object()) is None


def test_an_exact_score_loses_nothing(right):
    assert right["surrogate"]["total"]["value"] < 1e-5
    assert max(right["relative"]) < 0.01
    assert right["consistent"]
    assert right["control"]["total"]["value"] > 0.05


def test_a_score_at_other_parameters_loses_the_divergence():
    found = score_section(exact_model(FIELD, THETA + OFF), FIELD, *rows(), 0)
    kl = FIELD.sites * known_loss(FIELD, THETA[None], OFF)
    total = found["surrogate"]["total"]
    assert abs(total["value"] - kl) < 5 * total["se"] < kl


def test_a_score_that_is_not_that_of_log_p_is_seen(right):
    class Wrong(GaussianField):
        def score(self, theta, y, noise):
            return super().score(theta, y, 0.5 * noise)

    found = score_section(exact_model(FIELD, THETA), Wrong(size=8), *rows(400), 0)
    assert right["consistent"]
    assert not found["consistent"]


def test_there_is_a_score_only_where_both_are_known():
    theta, x = rows(4)
    model = exact_model(FIELD, THETA)
    assert score_section(model, LognormalField(size=8), theta, x, 0) is None
    assert score_section(model, None, theta, x, 0) is None
    curved = Diffusion.create(model.law, DiffusionConfig(spectrum="none"))
    curved.fit_transform(torch.from_numpy(np.random.default_rng(0).standard_cauchy(x.shape)))
    assert curved.log_snr_ends is None
    assert score_section(curved, FIELD, theta, x, 0) is None
    with pytest.raises(UsageError, match="no score"):
        curved.noised_score(theta, x, 0.0)


def test_the_width_of_a_map_is_that_of_each_component():
    widths = np.array([1.0, 10.0, 100.0])
    x = torch.from_numpy(7 + widths * np.random.default_rng(0).standard_normal((500, 3)))
    transform = for_support(Law.of("gaussian", {"size": 3}))
    transform.fit(x)
    assert transform.width(x[0]).numpy() == pytest.approx(x.std(0).numpy(), rel=5e-3)
    transform.fit(torch.cat([x, x[:, :1] ** 3], 1)[:, [3, 1, 2]] ** 3)
    assert transform.width(x[0]) is None


@pytest.mark.usefixtures("blank")
def test_the_page_shows_it(right):
    def page(**section):
        return surrogate_sheet({"nll": None, **section})

    sheet = page(score=right)
    assert len(sheet.plots["score"]) == 1
    assert "mistrust this section" not in sheet.html()
    assert "mistrust this section" in page(score=right | {"consistent": False}).html()
    assert 'id="score"' not in page(score=None).html()

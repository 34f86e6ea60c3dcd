"""Vectors of which nothing is declared have pages: curves, pairs of components, their means."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from physgen.checks.samples import pictures_of, scalars_of_x
from physgen.checks.vectors import fans_section, pairs_section
from physgen.law import Law
from simulators.prior import Box

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from physgen.reporting.data import observation_drawing
from physgen.reporting.vectors import fan_drawing, pairs_drawing
from physgen.verbs.pages import render

PRIOR = Box(a=(0.0, 1.0), b=(-1.0, 1.0))


def law_of(shape, **more):
    return Law("arrays", PRIOR, shape, **more)


def curves(n=6000, k=300, shift=0.0):
    """x = a s + 0.1 ε: a scales a shape, b does nothing; with x that are shifted."""
    rng, shape = np.random.default_rng(0), np.sin(np.linspace(0, np.pi, k))
    theta = PRIOR.sample(n, rng)
    true, drawn = (theta[:, :1] * shape + 0.1 * rng.normal(size=(n, k)) for _ in range(2))
    return theta, true.astype(np.float32), (drawn + shift).astype(np.float32), shape


def test_bands_of_like_parameters_are_those_of_the_law():
    """In closed form: thirds of a have the means 1/6, 1/2, 5/6, and so their bands."""
    theta, x, fake, shape = curves(shift=0.05)
    (found,) = fans_section(law_of((300,)), theta, x, fake)
    places = np.array(found["components"]) - 1
    assert len(places) == 200
    assert (places[0], places[-1]) == (0, 299)
    of_a, of_b = (by["groups"] for by in found["by"])
    for k, group in enumerate(of_a):
        mean = (2 * k + 1) / 6 * shape[places]
        np.testing.assert_allclose(group["true"]["mean"], mean, atol=0.015)
        np.testing.assert_allclose(group["surrogate"]["mean"], mean + 0.05, atol=0.015)
        assert abs(group["surrogate"]["mean"] - mean).mean() > 0.04  # the control
        edge = group["true"]["high"][0] - group["true"]["mean"][0]  # there s = 0
        assert edge == pytest.approx(0.1 * stats.norm.ppf(0.95), abs=0.01)
        assert group["rows"] == 2000
    assert np.ptp([g["true"]["mean"][100] for g in of_b]) < 0.05
    row = np.all(theta == found["theta"][3], axis=1)
    np.testing.assert_allclose(found["true"][3], x[row][0, places], atol=1e-4)


@pytest.mark.parametrize(
    ("law", "fans", "pairs"),
    [
        (law_of((40,)), 1, False),
        (law_of((5,)), 0, True),
        (law_of((1,)), 0, False),
        (law_of((3, 40), axes=("channel", "open")), 3, False),
        (law_of((6, 6)), 0, False),
        (law_of((40,), support="spins"), 0, False),
    ],
)
def test_curves_and_pairs_are_of_vectors_alone(law, fans, pairs):
    theta = PRIOR.sample(30, np.random.default_rng(0))
    x = np.ones((30, *law.x_shape), np.int8 if law.support == "spins" else np.float32)
    found = fans_section(law, theta, x, x)
    assert [fan["channel"] for fan in found] == ([1, 2, 3] if fans == 3 else [None] * fans)
    assert (pairs_section(law, theta, x, x, []) is not None) == pairs


def test_components_that_are_missing_are_their_means():
    theta, x, fake, _ = curves(n=100, k=5)
    x[::2, 1] = np.nan
    found = pairs_section(law_of((5,), missing=True), theta, x, fake, [])
    assert np.isfinite(found["true"]).all()
    assert np.isin(np.round(np.nanmean(x[:, 1], dtype=float), 4), np.round(found["true"][:, 1], 4))


def test_short_vectors_are_looked_at_by_component_and_by_name():
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    named = scalars_of_x(law_of((3,)), x, ["mass", "p_t", "η"])
    assert list(named) == ["mass", "p_t", "η"]
    np.testing.assert_array_equal(named["p_t"](x), x[:, 1])
    assert list(scalars_of_x(law_of((3,)), x, [])) == ["x1", "x2", "x3"]
    assert set(scalars_of_x(law_of((40,)), np.ones((5, 40)), [])) >= {"mean", "norm"}
    mixed = replace(law_of((3,)), support="mixed", column_supports=("reals", "counts", "counts"))
    assert list(scalars_of_x(mixed, x, [])) == ["x1", "x2", "x3"]


@pytest.mark.parametrize(("shape", "picture"), [((3, 8, 6), (24, 6)), ((12, 8, 6), (12, 6))])
def test_fields_of_three_axes_are_channels_or_sums(shape, picture):
    """Of few channels each pixel is there, of many layers the sum over the middle axis."""
    x = np.random.default_rng(0).random((5, *shape))
    found = pictures_of(law_of(shape), x)
    assert found.shape == (5, *picture)
    np.testing.assert_allclose(found.sum((1, 2)), x.sum((1, 2, 3)))
    drawn = observation_drawing(x[:1], {}, None, (4, 3), "row 0").figure().axes[0].images[0]
    np.testing.assert_allclose(drawn.get_array(), found[0])


@pytest.mark.parametrize("shape", [(40,), (4,)])
def test_the_page_of_ones_own_data_has_no_empty_sections(shape, monkeypatch):
    theta, x, fake, _ = curves(n=60, k=shape[0])
    law, names = law_of(shape), ["a$b", "c", "d", "e"] if shape == (4,) else []
    drawn = []
    monkeypatch.setattr(
        "physgen.reporting.sheet.svg", lambda draw, size: drawn.append(draw) or b"<svg/>"
    )
    found = {
        "surrogate": {"family": "cvae", "law": law.to_json()},
        "fans": fans_section(law, theta, x, fake),
        "pairs": pairs_section(law, theta, x, fake, names),
    }
    as_json = json.dumps(found, default=lambda v: v.tolist())
    page = render({"schema": "physgen/metrics/1"} | json.loads(as_json))
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert headings == ["Curves" if shape == (40,) else "Components", "Provenance"]
    assert len(drawn) == (4 if shape == (40,) else 1)
    assert "absent" not in page.partition("</style>")[2]


def test_figures_hold_all_curves_and_all_pairs():
    _, x, fake, _ = curves(n=20, k=4)
    figure = fan_drawing({"true": x, "surrogate": fake}, range(1, 5), range(20), "θ").figure()
    assert [len(ax.lines) for ax in figure.axes] == [20, 20, 0]  # and a bar of colours
    pairs = pairs_drawing({"true": x, "surrogate": fake}, list("abcd")).figure()
    seen = [len(ax.collections) for ax in pairs.axes]
    assert seen == [2 if j < i else 0 for i in range(4) for j in range(4)]
    alone = pairs_drawing({"x": x}, list("abcd"), x[:, 0], "θ").figure()
    assert max(len(ax.collections) for ax in alone.axes[:16]) == 1

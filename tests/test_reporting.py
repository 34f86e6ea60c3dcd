"""The report: what it must say, draw and never do, on synthetic metrics of Ising lattices."""

import base64
import copy
import re
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

import physgen
import physgen.reporting
from physgen import dataset
from physgen.checks.samples import gallery_section
from physgen.errors import UsageError
from physgen.law import Law
from physgen.verbs.pages import figures_of, render

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

import matplotlib
from matplotlib.figure import Figure

from physgen.reporting import figures, style
from physgen.reporting.corner import corner_of
from physgen.reporting.page import letter, steepest
from physgen.reporting.quantities import flat, measured, number, to_width
from simulators.prior import Box

BETA = np.linspace(0.16, 0.64, 13)
ATTACK = "<script>alert('x')</script>"
SECTIONS = {
    "gallery": "gallery",
    "curves": "curves",
    "nll": "likelihood",
    "posterior": "posterior",
    "observables": "observables",
    "two_sample": "two-sample",
    "latents": "latents",
}


def lattices(beta, seed, size=8, sweeps=60):
    """Ising lattices by checkerboard heat bath, nested lists."""
    rng = np.random.default_rng(seed)
    x = rng.choice([-1, 1], (len(beta), size, size))
    even = np.indices((size, size)).sum(0) % 2 == 0
    for half in [even, ~even] * sweeps:
        field = sum(np.roll(x, s, a) for s in (1, -1) for a in (1, 2))
        up = rng.random(x.shape) < 1 / (1 + np.exp(-2 * beta[:, None, None] * field))
        x = np.where(half, np.where(up, 1, -1), x)
    return x.tolist()


def energy(beta):
    return -1.0 - 0.75 * np.tanh((beta - 0.42) / 0.13)


def curve(title, unit, latex, exact, shift, seed):
    rng = np.random.default_rng(seed)
    se = np.full(len(BETA), 0.012)
    noise = rng.normal(size=(2, len(BETA))) * se
    return {
        "title": title,
        "unit": unit,
        "latex": latex,
        "parameter": "beta",
        "theta": BETA.tolist(),
        "exact": exact.tolist(),
        "true": {"mean": (exact + noise[0]).tolist(), "se": se.tolist()},
        "surrogate": {"mean": (exact + shift + noise[1]).tolist(), "se": se.tolist()},
    }


def example(truth, bias, seed):
    grid = np.linspace(0.1, 0.7, 301)

    def density(mean, width):
        p = np.exp(-(((grid - mean) / width) ** 2) / 2)
        return (p / p.sum() / (grid[1] - grid[0])).tolist()

    return {
        "theta": [truth],
        "parameter": "beta",
        "grid": grid.tolist(),
        "exact": density(truth - 0.02, 0.05),
        "surrogate": density(truth - 0.02 + bias, 0.054),
        "x": lattices(np.array([truth]), seed)[0],
    }


def observable(title, unit, latex, low, high, seed):
    rng = np.random.default_rng(seed)
    edges = np.linspace(low, high, 33)
    draws = low + (high - low) * rng.beta(2.0, 3.0, (2, 4000))
    counts = [np.histogram(d, edges)[0].tolist() for d in draws]
    return {
        "title": title,
        "unit": unit,
        "latex": latex,
        "js": 0.0031,
        "js_null": 0.0022,
        "wasserstein": 0.0145,
        "histogram": {"edges": edges.tolist(), "true": counts[0], "surrogate": counts[1]},
    }


def build():
    low = np.linspace(0.1, 0.6, 6)
    gaps = [0.0008, 0.0019, 0.0048, 0.0112, 0.0097, 0.0051]
    epochs = np.arange(1, 121)
    shown = np.linspace(0.15, 0.65, 8)
    z = [-2.0, -1.0, 0.0, 1.0, 2.0]
    return {
        "schema": "physgen/metrics/1",
        "surrogate": {
            "path": "runs/ising8.pt",
            "sha256": "3f1c9a" * 10 + "77aa",
            "family": "cvae",
            "options": {"latents": 16, "width": 128, "dims": [64, 32]},
            "law": {
                "simulator": "ising",
                "options": {"size": 8},
                "prior": [
                    {"name": "beta", "low": 0.1, "high": 0.7, "unit": "1/J", "latex": r"\beta"}
                ],
                "x_shape": [8, 8],
                "support": "spins",
                "symmetries": ["shift", "reflect", "transpose", "flip"],
            },
            "likelihood": "lower bound",
            "weights": 412_345,
            "history": [
                {
                    "epoch": int(e),
                    "train": 33.0 + 12 / e**0.7,
                    "val": 33.4 + 12 / e**0.7 + 0.002 * e,
                    "seconds": 1.1 * e,
                    "cpu_seconds": 2.0 * e,
                    "lr": 1e-3,
                }
                for e in epochs.tolist()
            ],
        },
        "data": {"path": "data/ising8-test.h5", "sha256": "ab12" * 16, "rows": 20_000},
        "provenance": {
            "package": "physgen",
            "version": "0.1.0",
            "git": "46d7f06",
            "command": "physgen validate runs/ising8.pt data/ising8-test.h5 -o metrics.json",
            "created": "2025-01-01T00:00:00Z",
        },
        "seconds": {"nll": {"wall": 12.3, "cpu": 22.1}, "posterior": {"wall": 40.2, "cpu": 78.0}},
        "nll": {
            "likelihood": "lower bound",
            "rows": 20_000,
            "draws": 256,
            "dims": 64,
            "per_dim": 0.52861,
            "per_dim_se": 0.0012,
            "floor_per_dim": 0.52304,
            "gap_per_dim": 0.00557,
            "gap_se": 0.00012,
            "gap_total": 0.3565,
            "gap_total_se": 0.0077,
            "draw_stderr": 0.071,
            "parameter": "beta",
            "by_theta": [
                {
                    "low": a,
                    "high": a + 0.1,
                    "rows": 3333,
                    "per_dim": 0.6 - a / 2 + g,
                    "floor_per_dim": 0.6 - a / 2,
                    "gap_per_dim": g,
                    "gap_se": 0.0004,
                }
                for a, g in zip(low.tolist(), gaps, strict=True)
            ],
        },
        "posterior": {
            "likelihood": "lower bound",
            "observations": 500,
            "mean_error": 0.118,
            "mean_error_se": 0.006,
            "std_ratio": 1.034,
            "tv": 0.061,
            "c2st": 0.5305,
            "kl": 0.0124,
            "by_parameter": {"beta": {"mean_error": 0.118, "std_ratio": 1.034}},
            "sets": {
                "size": 10,
                "observations": 50,
                "mean_error": 0.36,
                "mean_error_se": 0.04,
                "std_ratio": 1.02,
                "tv": 0.17,
                "c2st": 0.585,
                "kl": 0.11,
            },
            "examples": [
                example(0.2, 0.004, 1),
                example(0.35, -0.006, 2),
                example(0.44, 0.012, 3),
                example(0.6, 0.008, 4),
            ],
        },
        "observables": {
            "energy": observable("energy per spin", "J", "E/N", -2.0, 0.0, 5),
            "magnetisation": observable("magnetisation per spin", "", "|m|", 0.0, 1.0, 6),
        },
        "curves": {
            "magnetisation": curve(
                "magnetisation per spin",
                "",
                "|m|",
                0.55 + 0.4 * np.tanh((BETA - 0.4) / 0.1),
                -0.006,
                7,
            ),
            "energy": curve("energy per spin", "J", "E/N", energy(BETA), 0.011, 8),
        },
        "two_sample": {
            "c2st": {"accuracy": 0.527, "se": 0.006, "null": 0.501, "control": 0.934},
            "js": {"value": 0.0021, "se": 0.0006, "null": -0.0001, "control": 0.51},
            "mmd": {"value": 4.1e-4, "null": 2.7e-5},
        },
        "gallery": {
            "parameter": "beta",
            "theta": shown.tolist(),
            "true": lattices(shown, 9),
            "surrogate": lattices(shown, 10),
        },
        "latents": [
            {
                "name": f"z{k}",
                "theta": 0.44,
                "values": z,
                "x": lattices(0.44 + np.zeros(5), 20 + k),
            }
            for k in (3, 11, 0, 7)
        ],
    }


@pytest.fixture(scope="module")
def whole():
    return build()


@pytest.fixture(scope="module")
def page(whole):
    return render(whole)


@pytest.fixture
def metrics(whole):
    """A copy to change, with one figure a section."""
    m = copy.deepcopy(whole)
    m["curves"] = {"energy": m["curves"]["energy"]}
    m["observables"] = {"energy": m["observables"]["energy"]}
    m["gallery"] |= {key: m["gallery"][key][:2] for key in ("theta", "true", "surrogate")}
    m["posterior"]["examples"], m["latents"] = m["posterior"]["examples"][:1], m["latents"][:1]
    return m


@pytest.fixture
def few(metrics):
    """With two figures in all, for tests that print it more than once."""
    absent = ("gallery", "nll", "observables", "posterior", "two_sample", "latents")
    return metrics | dict.fromkeys(absent)


class Tags(HTMLParser):
    """Balanced tags or an error; text and attributes kept."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, html):
        super().__init__()
        self.open, self.seen, self.text = [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if self.open and self.open[-1] != "style" else ""

    def images(self, start):
        return [a["src"] for tag, a in self.seen if tag == "img" and a["alt"].startswith(start)]


def cells(ax):
    """The x that an axes shows, from its enlarged image."""
    image = np.asarray(ax.images[0].get_array())
    return image[::32, ::32]


def svgs(html):
    return [
        base64.b64decode(uri).decode()
        for uri in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", html)
    ]


def test_page_is_balanced_html_with_every_section(page):
    tags = Tags(page)
    ids = {a["id"] for _, a in tags.seen if "id" in a}
    assert ids == {"verdict", *SECTIONS.values(), "learning", "provenance"}
    assert 'class="absent"' not in page
    assert [len(tags.images(alt)) for alt in ("True x", "Expect", "Neg", "Post", "Dist")] == [
        2,
        2,
        1,
        4,
        2,
    ]
    assert len(page) < 2_000_000


def test_page_says_the_three_figures(page):
    text = " ".join(Tags(page).text.split())
    assert "0.00557(12) nats per spin" in text
    assert "0.356(8) nats in all" in text
    assert "0.118(6) exact posterior widths" in text
    assert "C2ST 0.530" in text or "C2ST 0.531" in text
    assert "at β = 0.4" in text
    assert "a lower bound" in text


def test_page_loads_nothing(page):
    assert "http://" not in page
    assert "https://" not in page
    tags = Tags(page)
    assert not {tag for tag, _ in tags.seen} & {"script", "link", "iframe", "object"}
    assert all(a["src"].startswith("data:") for tag, a in tags.seen if tag == "img")
    assert "default-src 'none'" in page


def test_figures_are_well_formed_and_have_no_date(page):
    for svg in svgs(page):
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert "<dc:date>" not in svg


@pytest.mark.slow
def test_equal_metrics_make_equal_pages_and_others_do_not(few):
    page = render(few)
    assert render(copy.deepcopy(few)) == page
    few["curves"]["energy"]["surrogate"]["mean"][0] += 0.1
    assert render(few) != page


@pytest.mark.slow
def test_the_users_own_matplotlib_settings_change_nothing(few):
    page = render(few)
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": None}):
        assert render(few) == page
        assert matplotlib.rcParams["font.size"] == 20


@pytest.mark.usefixtures("blank")
def test_a_section_without_data_is_left_out(metrics):
    whole = render(metrics)
    for section, name in SECTIONS.items():
        assert f'id="{name}"' in whole
        rest = {key: value for key, value in metrics.items() if key != section}
        html = render(rest)
        Tags(html)
        assert 'class="absent"' not in html
        assert f'id="{name}"' not in html
        assert render(rest | {section: None}) == html


def test_only_a_surrogate_is_enough(metrics):
    tags = Tags(render({"surrogate": {"family": "cvae", "law": metrics["surrogate"]["law"]}}))
    assert not tags.images("")
    assert Tags(render({"schema": "physgen/metrics/1"}))


@pytest.mark.usefixtures("blank")
def test_without_exact_truth_there_is_no_gap_but_the_rest_stays(metrics):
    nll = metrics["nll"]
    for part in (nll, *nll["by_theta"]):
        part.update(floor_per_dim=None, gap_per_dim=None, gap_se=None)
    nll.update(gap_total=None, gap_total_se=None)
    metrics["posterior"] = None
    for c in metrics["curves"].values():
        c["exact"] = None
    tags = Tags(render(metrics))
    assert "Likelihood gap" not in tags.text
    assert "No exact floor is known" in tags.text
    assert "True samples:" in tags.text
    assert "None" not in tags.text


@pytest.mark.slow
def test_strings_from_the_metrics_are_text_and_never_markup(metrics):
    metrics["surrogate"]["family"] = ATTACK
    metrics["surrogate"]["options"] = {ATTACK: ATTACK}
    metrics["provenance"]["command"] = ATTACK
    law = metrics["surrogate"]["law"]
    law["simulator"] = law["prior"][0]["name"] = law["prior"][0]["unit"] = ATTACK
    law["prior"][0]["latex"] = ""
    metrics["observables"][ATTACK] = metrics["observables"].pop("energy") | {
        "title": ATTACK,
        "unit": ATTACK,
    }
    metrics["curves"] = {ATTACK: metrics["curves"]["energy"] | {"title": ATTACK, "unit": ATTACK}}
    for part in ("nll", "gallery"):
        metrics[part]["parameter"] = ATTACK
    metrics["posterior"]["examples"][0]["parameter"] = ATTACK
    metrics["posterior"]["by_parameter"] = {ATTACK: {}, "b": {}}
    metrics["latents"][0]["name"] = ATTACK
    html = render(metrics)
    assert "script" not in {tag for tag, _ in Tags(html).seen}
    assert "&lt;script&gt;" in html
    for svg in svgs(html):
        assert "<script" not in svg
        ElementTree.fromstring(svg)


@pytest.mark.slow
def test_broken_latex_and_dollars_are_drawn_as_text(metrics):
    metrics["surrogate"]["law"]["prior"][0]["latex"] = r"\nosuch{"
    metrics["observables"]["energy"].update(latex=r"\frac{", title="cost in $ and $")
    Tags(render(metrics))
    assert style.axis_label(r"\nosuch{", "1/J", "beta") == "beta [1/J]"
    assert style.axis_label(r"\beta", "1/J", "beta") == r"$\beta$ [1/J]"
    assert style.axis_label("", "$", "a$b$") == r"a\$b\$ [\$]"


def test_all_digits_of_an_index_are_in_it():
    found = [style.axis_label(latex) for latex in (r"\theta_10", "x_1", "x_{10}", "a_1b")]
    assert found == [r"$\theta_{10}$", "$x_1$", "$x_{10}$", "$a_1b$"]


def test_curve_draws_exact_true_surrogate_and_their_difference(whole):
    data, figure = whole["curves"]["energy"], Figure()
    figures.curve(figure, data, "β")
    top, below = figure.axes
    np.testing.assert_array_equal(top.lines[0].get_ydata(), data["exact"])
    drawn = {c.get_label(): c for c in top.containers}
    for key in ("true", "surrogate"):
        np.testing.assert_array_equal(drawn[key][0].get_xdata(), data["theta"])
        np.testing.assert_array_equal(drawn[key][0].get_ydata(), data[key]["mean"])
        bars = np.array(drawn[key][2][0].get_segments())[:, :, 1]
        np.testing.assert_allclose(np.ptp(bars, axis=1) / 2, data[key]["se"])
    rest = below.containers[1][0].get_ydata()
    expected = np.subtract(data["surrogate"]["mean"], data["exact"])
    np.testing.assert_allclose(rest, expected)


def test_curve_without_exact_is_held_against_true_samples(whole):
    figure = Figure()
    figures.curve(figure, whole["curves"]["energy"] | {"exact": None}, "β")
    np.testing.assert_array_equal(figure.axes[1].containers[0][0].get_ydata(), 0)


@pytest.mark.parametrize("known", [True, False])
def test_gap_draws_gaps_or_else_the_likelihood_itself(whole, known):
    nll, ax = whole["nll"] | ({} if known else {"gap_per_dim": None}), Figure().add_subplot()
    figures.gap(ax, nll, "β", "spin")
    x, y = ax.containers[0][0].get_data()
    key = "gap_per_dim" if known else "per_dim"
    np.testing.assert_array_equal(y, [b[key] for b in nll["by_theta"]])
    np.testing.assert_allclose(x, [(b["low"] + b["high"]) / 2 for b in nll["by_theta"]])
    assert (ax.get_ylim()[0] < 0) == known
    assert "nats / spin" in ax.get_ylabel()


def test_posterior_draws_both_densities_and_the_true_value(whole):
    example, ax = whole["posterior"]["examples"][2], Figure().add_subplot()
    figures.posterior(ax, example, "β")
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_array_equal(lines["exact"].get_ydata(), example["exact"])
    np.testing.assert_array_equal(lines["surrogate"].get_ydata(), example["surrogate"])
    assert set(lines["true value"].get_xdata()) == {0.44}
    np.testing.assert_array_equal(cells(ax.child_axes[0]), example["x"])
    low, high = ax.get_xlim()
    assert low < 0.44 < high


def test_posterior_without_exact_or_lattice(whole):
    example, ax = whole["posterior"]["examples"][0], Figure().add_subplot()
    figures.posterior(ax, example | {"exact": None, "x": None}, "β")
    assert [line.get_label() for line in ax.lines] == ["surrogate", "true value"]
    assert not ax.child_axes


def test_histogram_draws_densities_of_the_counts(whole):
    data, ax = whole["observables"]["energy"], Figure().add_subplot()
    figures.histogram(ax, data)
    for patch, key in zip(ax.patches, ("true", "surrogate"), strict=True):
        values, edges, _ = patch.get_data()
        assert np.sum(values * np.diff(edges)) == pytest.approx(1)
        counts = np.array(data["histogram"][key])
        np.testing.assert_allclose(values / values.max(), counts / counts.max())


def test_learning_draws_train_and_validation_losses(whole):
    history, ax = whole["surrogate"]["history"], Figure().add_subplot()
    figures.learning(ax, history)
    for line, key in zip(ax.lines, ("train", "val"), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), [e[key] for e in history])


def test_learning_leaves_out_what_is_null():
    ax = Figure().add_subplot()
    figures.learning(ax, [{"epoch": 0, "train": 3.0, "val": None}, {"epoch": 1, "train": 2.0}])
    assert np.isnan(ax.lines[1].get_ydata()).all()


@pytest.mark.slow
def test_gallery_and_traversal_draw_each_x_on_one_scale(whole):
    figure, gallery = Figure(), whole["gallery"]
    figures.gallery(figure, ["β"] * len(gallery["theta"]), gallery["true"], gallery["surrogate"])
    shown = [cells(ax) for ax in figure.axes]
    np.testing.assert_array_equal(shown, gallery["true"] + gallery["surrogate"])
    assert {ax.images[0].get_clim() for ax in figure.axes} == {(-1, 1)}
    figure, latent = Figure(), whole["latents"][0]
    figures.traversal(figure, latent)
    np.testing.assert_array_equal([cells(ax) for ax in figure.axes], latent["x"])


def test_a_gallery_has_both_of_two_parameters_and_the_first_of_three():
    theta, x = np.random.default_rng(0).uniform(-1, 1, (20, 3)), np.ones((20, 2, 2))
    order = np.argsort(theta[:, 0])
    for d, others in ((1, []), (2, ["b"]), (3, [])):
        prior = Box(**dict.fromkeys("abc"[:d], (-1.0, 1.0)))
        found = gallery_section(Law("toy", prior, (2, 2)), theta[:, :d], x, x)
        assert found["parameter"] == "a"
        assert list(found.get("other", {})) == others
        for b in found.get("other", {}).values():
            pairs = np.transpose([found["theta"], b]).tolist()
            assert all(pair in theta[order, :2].tolist() for pair in pairs)


def test_titles_of_a_gallery_say_all_that_it_has(few, whole):
    gallery = {key: whole["gallery"][key][:2] for key in ("true", "surrogate")}
    gallery |= {"parameter": "beta", "theta": [0.1, 0.25], "other": {"h": [-1.0, 0.3333]}}
    (figure,) = figures_of(few | {"gallery": gallery})["gallery"]
    titles = [ax.get_title() for ax in figure.axes[:2]]
    assert titles == [r"$\beta$ = 0.10" "\nh = −1", r"$\beta$ = 0.25" "\nh = 0.33"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, " that the simulator drew."),
        ({"kind": "simulator", "name": "ising"}, " that the simulator drew."),
        ({"kind": "surrogate", "name": "flow"}, " of flow."),
        ({"kind": "import", "file": "sims.npz"}, " of sims.npz."),
        ({"kind": "import"}, "."),
    ],
)
@pytest.mark.usefixtures("blank")
def test_rows_are_of_those_who_drew_them(few, source, words):
    found = few | {"data": {"rows": 400, "source": source}, "observables": None, "curves": None}
    assert f"400 rows{words}" in Tags(render(found)).text.replace("\n", " ")


def test_lattices_of_equal_spins_are_still_up_or_down(whole):
    for spin in (-1, 1):
        ax = Figure().add_subplot()
        x = np.full((8, 8), spin).tolist()
        figures.posterior(ax, whole["posterior"]["examples"][0] | {"x": x}, "β")
        assert ax.child_axes[0].images[0].get_clim() == (-1, 1)


def test_steepest_is_where_the_energy_falls_fastest(whole):
    found = steepest(whole["curves"])
    i = whole["curves"]["energy"]["theta"].index(found["at"])
    assert found["at"] == pytest.approx(0.42, abs=0.03)
    assert found["reference"] == (whole["curves"]["energy"]["exact"][i], 0)
    assert found["surrogate"][0] == whole["curves"]["energy"]["surrogate"]["mean"][i]
    assert steepest({}) == {}


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.01234, 0.0004, "0.0123(4)"),
        (0.01234, 0.00014, "0.01234(14)"),
        (-1.4142, 0.01, "−1.414(10)"),
        (-0.001, 0.04, "0.00(4)"),
        (12345.6, 40, "12,350(40)"),
        (2459000.2971, 0.05, "2,459,000.30(5)"),
        (4.19e-20, 4e-21, "4.2(4)×10⁻²⁰"),
        (-2.19e44, 1.4e43, "−2.19(14)×10⁴⁴"),
        (1.0, 0.0, "1"),
        (None, 0.1, "–"),
    ],
)
def test_measured(value, error, text):
    assert measured(value, error) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (20000, "20,000"),
        (0.0123, "0.012"),
        (-4.1e-5, "−4.1×10⁻⁵"),
        (0, "0"),
        (None, "–"),
        (9.96, "10"),
        (3e44, "3.0×10⁴⁴"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_a_number_is_told_from_its_neighbours():
    found = [to_width(value, 0.05) for value in (2459000.25, 0.44, 0.0)]
    assert found == ["2,459,000.250", "0.440", "0"]
    assert to_width(3.3812e-20, 4e-21) == "3.38×10⁻²⁰"


def test_flat_and_letter():
    nested = {"a": {"b": 1, "c": None}, "d": [1, 2], "e": "β"}
    assert list(flat(nested)) == [("a.b", "1"), ("d", "[1, 2]"), ("e", "β")]
    assert (letter("beta", r"\beta"), letter("h", ""), letter("T", "T_c")) == ("β", "h", "T")


def test_the_floor_is_light_until_it_renders():
    code = "import sys, physgen.reporting; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("z", "text"),
    [(1.96, "cannot be told from"), (2.04, "It loses"), (-2.04, "no normalised law can")],
)
@pytest.mark.usefixtures("blank")
def test_a_gap_counts_beyond_two_errors_and_below_zero_is_impossible(metrics, z, text):
    metrics["nll"] |= {"gap_per_dim": z * 1e-3, "gap_se": 1e-3}
    assert text in Tags(render(metrics)).text


def posterior(parameters, n, **more):
    """A posterior file's metadata and arrays: n Gaussians of two widths."""
    law = Law.of("gaussian", {"size": 5, "parameters": parameters})
    rng = np.random.default_rng(n)
    theta = 0.2 * rng.standard_normal((n, 400, parameters)) + 0.5
    arrays = {"theta": theta, "mean": theta.mean(1), "sd": theta.std(1)}
    about = {"law": law.to_json(), "method": "mcmc", "iid": False, "observed": {"path": ATTACK},
             "provenance": {"command": "physgen infer m.pt o.h5"}}  # fmt: skip
    return about, arrays | more


@pytest.mark.parametrize(
    ("parameters", "known"),
    [
        (1, True),
        (2, False),
        *(pytest.param(*case, marks=pytest.mark.slow)
          for case in ((1, False), (2, True), (3, False), (3, True))),
    ],
)  # fmt: skip
def test_the_page_of_a_posterior(parameters, known, tmp_path):
    more = {"true": np.full((8, parameters), 0.45), "r_hat": np.full((8, parameters), 1.013)}
    about, arrays = posterior(parameters, 8, **(more if known else {}))
    about |= {"warnings": ["mass lies at the edge"], "first_row": 7} if known else {}
    dataset.write_arrays(tmp_path / "p.h5", arrays, about, kind="posterior")
    out = tmp_path / "p.html"
    assert "report of" in str(physgen.report(tmp_path / "p.h5", out=out))
    html = out.read_text()
    assert html.count("<img") == 6 + parameters  # of eight, and all of them side by side
    assert f"uniform in [{number(-2.0, 3)}, {number(2.0, 3)}]" in html
    assert ("True values" in html) == known
    for text in ("1.013", "mass lies at the edge", "<td>14</td>"):
        assert (text in html) == known
    assert "<script" not in html
    assert "None" not in html
    assert len(svgs(html)) == 6 + parameters


def test_corners_are_densities_that_keep_to_the_prior():
    """Of an exponential at a bound: normalised, highest at the bound, its mean as of the draws."""
    rng = np.random.default_rng(0)
    theta = np.column_stack([rng.exponential(0.2, 4000), rng.normal(1, 0.3, 4000)])
    found = corner_of(theta, Box(a=(0.0, 4.0), b=(-2.0, 2.0)), np.array([3.0, 1.0]))
    (x, y), (plane,) = found["axes"], found["planes"]
    assert x[0] == 0
    assert x[-1] > 3.0  # the true value is shown
    for axis, values, draws in zip((x, y), found["marginals"], theta.T, strict=True):
        assert np.trapezoid(values, axis) == pytest.approx(1, abs=0.03)
        assert np.trapezoid(axis * values, axis) == pytest.approx(draws.mean(), abs=0.02)
    assert np.argmax(found["marginals"][0]) == 0
    assert plane["pair"] == [0, 1]
    total = np.trapezoid(np.trapezoid(plane["density"], y, axis=1), x)
    assert total == pytest.approx(1, abs=0.05)


def test_corners_keep_narrow_ridges_narrow():
    rng = np.random.default_rng(0)
    draws = rng.multivariate_normal([0, 0], [[1, 0.95], [0.95, 1]], 4000)
    corner = corner_of(draws, Box(a=(-9.0, 9.0), b=(-9.0, 9.0)))
    across = np.subtract.outer(*corner["axes"]) / np.sqrt(2)
    weights = corner["planes"][0]["density"]
    sd = np.sqrt((across**2 * weights).sum() / weights.sum())
    assert sd == pytest.approx(np.sqrt(0.05), rel=0.06)


@pytest.mark.parametrize("extra", ["matplotlib", "jinja2"])
def test_a_missing_extra_is_a_usage_error(monkeypatch, metrics, extra):
    for module in [name for name in sys.modules if name.startswith("physgen.reporting.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(UsageError, match=r"pip install 'physgen\[report\]'"):
        render(metrics)

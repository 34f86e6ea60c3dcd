"""Every kind of page as a reader opens it: in a browser, on a phone, in the dark, on paper."""

import copy
import re
import shutil
from pathlib import Path

import pytest

import physgen
from physgen import dataset
from tests.chromium import Chromium, chromium_or_skip

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from tests.test_reporting import posterior as posterior_of

pytestmark = pytest.mark.docs
FOLDER = Path(__file__).parents[1] / "data" / "v0.1"
NAMES = ("surrogate", "models", "calibration", "comparison", "posterior", "training", "latents",
         "restoration", "responses", "posteriors", "data", "corner")  # fmt: skip
OVERFLOW = """[document.documentElement.scrollWidth - document.documentElement.clientWidth,
  ...[...document.querySelectorAll("main *")].filter(
    e => !e.closest(".wide, .full") && e.getBoundingClientRect().right > innerWidth + 1
  ).map(e => e.outerHTML.slice(0, 200))]"""


@pytest.fixture(scope="module")
def pages(once):
    """A folder with a page of every kind, of the small files that every version must open."""
    chromium_or_skip()
    return once("pages", make_pages)


def make_pages(folder):
    scores, _ = physgen.load(FOLDER / "metrics.json")
    other = copy.deepcopy(dict(scores))
    other["surrogate"] |= {"sha256": "ab" * 32, "family": "another"}
    products = {
        "surrogate": scores,
        "models": [scores, other],
        "calibration": FOLDER / "calibration.json",
        "comparison": FOLDER / "comparison.json",
        "posterior": FOLDER / "posterior.h5",
        "training": FOLDER / "cvae.pt",
        "latents": physgen.latents(FOLDER / "cvae.pt", FOLDER / "ising.h5", along="magnetisation"),
        "restoration": physgen.restore(
            FOLDER / "cvae.pt", FOLDER / "ising.h5", measure=True, noise=0.5, rows=slice(0, 1),
            n=20, method="exact",
        ),
    }  # fmt: skip
    again = physgen.infer(FOLDER / "cvae.pt", FOLDER / "ising.h5", rows=slice(0, 2))
    products["posteriors"] = [FOLDER / "posterior.h5", again]
    products["responses"] = [physgen.simulate("ising", size=s, n=800, seed=s) for s in (2, 4)]
    products["data"] = physgen.simulate("gaussian", n=50, seed=1)
    products["corner"] = folder / "corner.h5"  # of ten parameters, the most that one shows
    about, arrays = posterior_of(10, 1)
    dataset.write_arrays(products["corner"], arrays, about, kind="posterior")
    for name, product in products.items():
        physgen.report(product, out=folder / f"{name}.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    folder = tmp_path_factory.mktemp("profile")
    with Chromium(folder) as found:
        yield found
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_opens_without_error_or_network_and_fits_a_phone(pages, browser, name):
    for width in (1200, 390):
        browser.open(pages / f"{name}.html", width)
        assert browser.complaints == []
        assert browser.requests == []
        assert browser.value(OVERFLOW) == [0]
        assert browser.value("document.images.length") > 0
        broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        assert browser.value(broken) == 0
        assert browser.value("document.querySelector('.conclusion').innerText.length") > 20


PAPER = 688
"""Width of what is printed on A4 within its margins, in pixels of 1/96 inch."""
FIGURES = """[...document.images].map(i => [i.getBoundingClientRect().width / i.naturalWidth,
  atob(i.src.split(",")[1]), getComputedStyle(i).breakInside])"""
TURNED = """[...document.images].map(i => {
  const style = getComputedStyle(i), picture = atob(i.src.split(",")[1]).includes("<image");
  return (picture ? "picture " : "ink ") + (style.filter != "none" ? "turned"
    : style.backgroundColor != "rgba(0, 0, 0, 0)" ? "on a plate" : "as it is") })"""
SCROLLS = """[...document.querySelectorAll(".wide")].filter(
  e => e.scrollWidth > e.clientWidth + 1
).map(e => getComputedStyle(e).backgroundImage.split("linear-gradient").length - 1)"""


def smallest(svg):
    """The smallest text of a figure in points: matplotlib scales outlines of 100 to it."""
    sizes = re.findall(r"scale\((0\.\d+) -0\.\d+\)", svg)
    return 100 * min(map(float, sizes), default=1)


@pytest.mark.parametrize("name", NAMES)
def test_text_of_figures_can_be_read_on_paper_and_none_is_cut(pages, browser, name):
    browser.open(pages / f"{name}.html", PAPER, media="print")
    found = browser.value(FIGURES)
    assert min(scale * smallest(svg) for scale, svg, _ in found) >= 9
    assert {cut for *_, cut in found} == {"avoid"}


def test_figures_beside_each_other_would_be_too_small_on_paper(pages, browser):
    """The control: as they are set on the screen."""
    browser.open(pages / "surrogate.html", PAPER, media="print")
    browser.value(
        "document.querySelectorAll('.panels').forEach("
        "p => p.style.setProperty('grid-template-columns', '1fr 1fr', 'important'))"
    )
    assert min(scale * smallest(svg) for scale, svg, _ in browser.value(FIGURES)) < 9


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_dark_in_the_dark_and_tables_show_that_they_scroll(pages, browser, name):
    paper = {}
    for dark in (False, True):
        browser.open(pages / f"{name}.html", 390, dark=dark)
        paper[dark] = browser.value("getComputedStyle(document.body).backgroundColor")
        assert set(browser.value(TURNED)) <= ({"ink turned", "picture on a plate"} if dark else {
            "ink as it is", "picture as it is"})  # fmt: skip
        assert set(browser.value(SCROLLS)) <= {4}
    assert paper == {False: "rgb(255, 255, 255)", True: "rgb(23, 25, 28)"}


def test_the_browser_tells_errors_network_and_overflow(tmp_path, browser):
    """The control: a page that does all that none of ours does."""
    page = tmp_path / "control.html"
    page.write_text(
        "<main><div style='width: 800px'>wide</div><img src='http://192.0.2.1/x.png'>"
        "<script>console.error('told'); nothing()</script></main>"
    )
    browser.open(page, 390)
    assert len(browser.complaints) >= 2
    assert browser.requests == ["http://192.0.2.1/x.png"]
    assert browser.value(OVERFLOW)[0] > 0

"""Scores of several models on one page, and links between the pages of a folder."""

import copy
import re
from pathlib import Path

import pytest

import physgen
from physgen.errors import UsageError
from physgen.verbs.links import digests_of, links_beside
from physgen.verbs.pages import figures_of, render
from physgen.verbs.side_by_side import models_of
from tests.test_reporting import Tags, build

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")


@pytest.fixture(scope="module")
def first():
    """Scores of a model."""
    m = build()
    m["curves"] = {"energy": m["curves"]["energy"]}
    m["observables"] = {"energy": m["observables"]["energy"]}
    m["posterior"]["examples"] = m["posterior"]["examples"][:1]
    return m


def like(first, family="rbm", gap=0.9, digest="cd" * 32):
    """Scores of another model on the same rows."""
    m = copy.deepcopy(first)
    m["surrogate"] |= {"family": family, "sha256": digest, "path": f"runs/{family}.pt"}
    m["nll"] |= {"gap_total": gap, "gap_per_dim": gap / 64, "likelihood": "exact"}
    m["curves"]["energy"]["surrogate"]["mean"][0] += 1
    return m


def calibration(first, p=0.25, verdict="passes"):
    checks = [{"name": "SBC", "p_value": p, "verdict": verdict, "caught": True, "controls": {}}]
    return {"schema": "physgen/calibration/1", "checks": checks, "rows": 500,
            "surrogate": first["surrogate"], "data": first["data"],
            "provenance": first["provenance"]}  # fmt: skip


def table(html):
    """Title of a line → its cells."""
    rows = re.findall(r"<tr><td>(.*?)</td>(.*?)</tr>", html.split('class="side"')[1], re.DOTALL)
    plain = [re.sub("<[^>]+>", "", title).strip() for title, _ in rows]
    cells = [re.findall(r'<td class="words">(.*?)</td>', rest) for _, rest in rows]
    return dict(zip(plain, cells, strict=True))


@pytest.mark.usefixtures("blank")
def test_scores_of_one_model_share_a_column_and_figures_have_all_models(first):
    found = models_of([("a", first), ("b", like(first)), ("c", calibration(first))])
    assert [m["name"] for m in found["models"]] == ["cvae", "rbm"]
    html = render(found)
    Tags(html)
    lines = table(html)
    assert lines["gap to the exact law nats a row"] == ["0.356(8)", "0.900(8)"]
    assert lines["SBC calibration, p"] == ["0.25, passes", "–"]
    assert "cvae is the closest to the exact law." in html
    drawn = figures_of(found)
    assert {k: len(v) for k, v in drawn.items()} == {
        "nll": 1, "posterior": 1, "curves": 1, "observables": 1,
    }  # fmt: skip
    top = drawn["curves"][0].axes[0]
    ours, theirs = (c[0].get_ydata() for c in top.containers[1:])
    assert theirs[0] - ours[0] == pytest.approx(1)
    assert [t.get_text() for t in top.get_legend().get_texts()] == ["exact", "true", "cvae", "rbm"]


def test_what_is_of_other_rows_is_marked_and_not_drawn_together(first):
    other = like(first)
    other["data"] = other["data"] | {"sha256": "ee" * 32}
    other["curves"]["energy"]["theta"] = [t + 0.01 for t in other["curves"]["energy"]["theta"]]
    other["posterior"]["examples"][0]["theta"] = [0.9]
    other["observables"]["energy"]["histogram"]["true"][0] += 1
    found = models_of([("a", first), ("b", other)])
    assert found["apart"] == ["metrics"]
    assert "of different rows" in render(found)
    drawn = figures_of(found)
    assert [len(drawn[k]) for k in ("nll", "curves", "posterior", "observables")] == [1, 0, 0, 0]
    assert models_of([("a", first), ("b", like(first))])["apart"] == []


def test_what_cannot_stand_side_by_side_is_refused_in_a_line(first):
    other = like(first)
    other["surrogate"] = copy.deepcopy(other["surrogate"])
    other["surrogate"]["law"]["options"]["size"] = 16
    with pytest.raises(UsageError, match=r"^b: has size 16, a has 8: scores of different laws"):
        models_of([("a", first), ("b", other)])
    other["surrogate"]["law"] = copy.deepcopy(first["surrogate"]["law"])
    other["surrogate"]["law"]["prior"][0]["high"] = 0.9
    with pytest.raises(UsageError, match="has prior"):
        models_of([("a", first), ("b", other)])
    with pytest.raises(UsageError, match="is there twice"):
        models_of([("a", first), ("a", first)])
    with pytest.raises(UsageError, match="expected scores of two models"):
        models_of([("a", first), ("c", calibration(first))])
    with pytest.raises(UsageError, match="got none"):
        physgen.report([])
    with pytest.raises(UsageError, match="posterior"):
        models_of([("a", first), ("p", {"schema": "physgen/posterior/1"})])


def test_comparisons_of_two_files_with_one_reference_stand_side_by_side():
    from physgen.verbs.pages import scores_in

    one = scores_in(Path(__file__).parents[1] / "data" / "v0.1" / "comparison.json")
    other = copy.deepcopy(one)
    other["generated"] |= {"sha256": "ab" * 32, "path": "better.h5"}
    other["generated"]["source"] = {}
    other["classifiers"]["low"] |= {"auc": 0.5, "se": 0.01}
    found = models_of([("one", one), ("other", other)])
    assert found["apart"] == []
    lines = table(render(found))
    assert lines["AUC on x 0.5 is perfect"][1] == "0.500(10)"
    drawn = figures_of(found)["observables"]
    assert [t.get_text() for t in drawn[0].axes[0].get_legend().get_texts()] == [
        "reference", *(m["name"] for m in found["models"]),
    ]  # fmt: skip


def test_models_of_one_family_go_by_their_files_or_numbers(first):
    same = [("a.json", first), ("b.json", like(first, family="cvae"))]
    assert [m["name"] for m in models_of(same)["models"]] == ["ising8", "cvae"]
    both = copy.deepcopy(same)
    both[1][1]["surrogate"]["path"] = both[0][1]["surrogate"]["path"]
    assert [m["name"] for m in models_of(both)["models"]] == ["a", "b"]
    both = [("memory", m) for _, m in both]
    assert [m["name"] for m in models_of(both)["models"]] == ["cvae 1", "cvae 2"]


@pytest.mark.usefixtures("blank")
def test_a_page_links_those_beside_it_of_the_same_model_or_data(first, tmp_path):
    physgen.report(first, out=tmp_path / "first page.html")
    physgen.report(like(first), out=tmp_path / "other.html")
    stranger = like(first, digest="99" * 32)
    stranger["data"] = {"sha256": "98" * 32}
    stranger["surrogate"]["family"] = "<b>stranger"
    physgen.report(stranger, out=tmp_path / "stranger.html")
    (tmp_path / "broken.html").write_bytes(b"\xff\xfe<title>no")
    page = physgen.report(calibration(first), out=tmp_path / "calibration.html").html
    assert re.findall(r'<a href="([^"]+)"', page) == ["first%20page.html", "other.html"]
    assert "Of the same model:" in page
    assert "Of the same data:" in page
    assert "<a" not in physgen.report(calibration(first)).html
    several = digests_of({"schema": "physgen/posteriors/1", "posteriors": [first, stranger]})
    assert several["model"] == sorted([first["surrogate"]["sha256"], "99" * 32])
    found = links_beside(tmp_path / "new.html", digests_of(stranger))
    assert [(link.href, link.title) for link in found] == [
        ("stranger.html", "<b>stranger of ising 8\u00a0×\u00a08")
    ]


@pytest.mark.usefixtures("blank")
def test_several_files_on_the_command_line(first, tmp_path):
    from click.testing import CliRunner

    from physgen.cli import main
    from physgen.verbs.products import Scores

    for name, m in {"a": first, "b": like(first)}.items():
        physgen.save(Scores(m, ""), tmp_path / f"{name}.json")
    files = [str(tmp_path / f"{name}.json") for name in "ab"]
    out = tmp_path / "page.html"
    done = CliRunner().invoke(main, ["report", *files, "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert "cvae beside rbm" in out.read_text()
    again = CliRunner().invoke(main, ["report", *files, "-o", str(out), "--interest", "beta"])
    assert again.exit_code == 2

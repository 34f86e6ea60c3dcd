"""The table of densities of reals: its posteriors by a closed form, and a run from end to end."""

import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reals():
    """The modules of the benchmark by their names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        yield lambda name: importlib.import_module(f"benchmarks.reals.{name}")


def line(law, method, seed=1, **found):
    about = {"law": law, "method": method, "seed": seed, "seconds": 60, "simulations": 10_000}
    return about | {"floor": [1.0, 0.1], "cpu": 60.0} | found


def test_weighted_draws_have_the_moments_of_the_truncated_normal_law(reals):
    truth, tasks, laws = reals("truth"), reals("tasks"), reals("laws")
    task = tasks.Task("", lambda: laws.LinearUniform(2), 0.0, observations=2, posterior="fitted")
    here = truth.Truth(task)

    def exact(noise):
        a, b = ((end - here.observed) / noise for end in (-1, 1))
        law = stats.truncnorm(a, b, loc=here.observed, scale=noise)
        return law.mean(), law.std()

    mean, sd = exact(math.sqrt(0.1))
    assert abs((here.exact.mean - mean) / sd).max() < 0.06
    assert abs(here.exact.sd / sd - 1).max() < 0.06
    wider = laws.LinearUniform(2, noise=0.6)  # a model that is twice as wide
    found = here.moments(lambda x: truth.of_exact(wider.log_prob, x))
    mean, sd = exact(0.6)
    assert abs((found.mean - mean) / sd).max() < 0.06
    assert abs(found.sd / sd - 1).max() < 0.06
    assert found.worth.min() > truth.COLLAPSED
    far = here.moments(lambda x: truth.of_exact(lambda t, y: -1e5 * (t[:, 0] - 0.777) ** 2, x))
    assert far.worth.max() < truth.COLLAPSED


def test_draws_around_x_have_the_moments_of_the_two_widths(reals):
    truth, tasks = reals("truth"), reals("tasks")
    here = truth.Truth(tasks.TASKS["widths5"])
    inner = np.flatnonzero((abs(here.observed) < 6).all(1))
    assert abs(here.exact.mean - here.observed)[inner].max() < 0.08
    np.testing.assert_allclose(here.exact.sd[inner], math.sqrt(0.505), rtol=0.05)
    outer = abs(here.observed) > 9.9
    assert (abs(here.exact.mean) < 10).all()
    assert (here.exact.sd[outer] < 0.65).all()


def test_a_table_has_a_row_for_each_method_the_best_first(reals):
    table = reals("table")
    lines = [
        line("cauchy", "bad", gap=[0.5, 0.01], error=[0.4, 0.02], ratio=1.2),
        line("cauchy", "good", 1, gap=[0.1, 0.01], error=[0.1, 0.02], ratio=1.0, bad=2),
        line("cauchy", "good", 2, gap=[0.3, 0.01], error=[0.1, 0.02], ratio=1.0),
        line("cauchy", "draws", error=[0.4, 0.02], ratio=1.1),
        line("cauchy", "none", refused="no density for this"),
    ]
    rows = table.section(reals("tasks").TASKS["cauchy"], lines).splitlines()[4:]
    assert [r.split("|")[1].strip() for r in rows] == ["good (2 seeds)", "bad", "draws", "none"]
    assert "0.200 (0.100–0.300)" in rows[0]
    assert "log p of 2 rows is not finite" in rows[0]
    assert "0.500 ± 0.010" in rows[1]
    assert "no density for this" in rows[3]


@pytest.mark.slow
def test_a_run_from_end_to_end_goes_on_where_it_was(reals, tmp_path, capsys, monkeypatch):
    """NLE and NPE of sbi by themselves, one of physgen and a family."""
    main = reals("__main__").main
    monkeypatch.chdir(tmp_path)
    given = ["run", "--laws", "widths2", "--seeds", "1", "--seconds", "8", "--out", "found"]
    given += ["--posterior-seconds", "12"]
    main([*given, "--methods", "cvae", "nle", "sbi-nle", "sbi-npe"])
    main([*given, "--methods", "nle", "sbi-nle"])
    found = [json.loads(row) for row in Path("found/results.jsonl").read_text().splitlines()]
    assert [one["method"] for one in found] == ["cvae", "nle", "sbi-nle", "sbi-npe"]
    gaps = [one["gap"][0] for one in found[:3]]
    assert min(gaps) > -0.1
    assert max(gaps) < 3
    assert all(5 < one["cpu"] < 25 for one in found)
    assert all(0 < one["error"][0] < 3 for one in found[1:])
    main(["table", "--out", "found"])
    assert "sbi-npe" in capsys.readouterr().out
    for method in ("cvae", "nle", "sbi-nle"):  # in nats of raw x each is a density of mass one
        log_p = np.load(f"found/density-widths2-{method}.npz")["log_p"]
        cell = (2 * reals("tasks").TASKS["widths2"].window / (log_p.shape[1] - 1)) ** 2
        assert np.exp(log_p).sum((1, 2)) * cell == pytest.approx(0.93, abs=0.1)
    names = {path.name for path in tmp_path.rglob("*")}
    assert {"table.md", "density-widths2.svg", "learning-widths2.svg"} <= names
    assert "sbi-logs" not in names

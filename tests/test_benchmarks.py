"""The benchmarks in parts: what is read of their tables, and what a run leaves behind."""

import importlib.util
import subprocess
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from benchmarks import __main__ as benchmarks
from benchmarks import page
from benchmarks.figures import (
    Goal,
    Part,
    Run,
    Table,
    figures,
    newest,
    parts,
    place,
    runs,
    shown,
    tables,
)

ROOT = Path(__file__).parents[1]
PRINTED = """CPU ms a draw

| method | time, ms (wall) | error / width |
|---|---|---|
| ours | 1,200.5 (3) | 0.10 ± 0.02 / −1e-3 |
a word between
| peer | 2,401 (7) | – / 2 |

| | rate |
|---|---|
| 8 | 3 of 4 |
"""
TOY = Part("toy", "benchmarks.toy", over="peer", goals={"ours": Goal("≤", 0.4)})


def run_of(commit="abc", day="2026-01-01", text=PRINTED, part="toy"):
    return Run(part, commit, day, day, "a processor", 1.0, tables(text))


def test_what_is_printed_is_read_as_tables_and_figures():
    first, second = tables(PRINTED)
    assert first.caption == "CPU ms a draw"
    assert first.rows[1] == ["peer", "2,401 (7)", "– / 2"]
    assert second == Table("", ["", "rate"], [["8", "3 of 4"]])
    plain = list(figures(run_of(), Part("toy", "")))
    assert plain == [
        ("CPU ms a draw", "time, ms (wall)", "ours", 1200.5),
        ("CPU ms a draw", "error", "ours", 0.1),
        ("CPU ms a draw", "width", "ours", -0.001),
        ("CPU ms a draw", "time, ms (wall)", "peer", 2401),
        ("CPU ms a draw", "width", "peer", 2),
    ]  # neither a dash nor "3 of 4" is a figure
    ratios = list(figures(run_of(), TOY))
    assert [row[1:] for row in ratios] == [
        ("time, ms (wall) ÷ peer", "ours", 0.5),
        ("error", "ours", 0.1),  # the peer has none
        ("width ÷ peer", "ours", -0.0005),
    ]
    across = list(figures(run_of(text="| n | a | peer |\n|---|---|---|\n| 8 | 6 | 3 |"), TOY))
    assert across == [("", "a ÷ peer", "8", 2)]
    twice = run_of(text="| n | a | s | b | s |\n|---|---|---|---|---|\n| 8 | 1 | 2 | 3 | 4 |")
    assert [row[1] for row in figures(twice, TOY)] == ["a", "s", "b", "s, beside b"]


def test_a_run_is_the_same_after_it_was_written():
    assert Run.of(run_of().line()) == run_of()


def test_pieces_share_a_table_and_the_newest_commit_counts():
    known = {"toy-a": TOY, "toy-b": TOY}
    table = "| m | x |\n|---|---|\n| {} | 1 |\n| control | {} |"
    found = [
        run_of("old", "2026-01-01", table.format("a", 1), "toy-a"),
        run_of("new", "2026-01-02", table.format("a", 2), "toy-a"),
        run_of("new", "2026-01-02", table.format("b", 3), "toy-b"),
    ]
    text = shown("toy", found, known)
    assert "| a | 1 |\n| control | 2 |\n| b | 1 |\n\n" in text
    assert "`toy-b`: commit new of 2026-01-02" in text
    assert "old" not in text
    assert "old" in shown("toy", found[:1], known)  # the control


@pytest.mark.parametrize(
    "text",
    ["", "<!-- figures: toy -->\n", 2 * "<!-- figures: toy -->\n<!-- end -->\n",
     "<!-- figures: toy -->\n<!-- figures: b -->\n<!-- end -->\n"],
)  # fmt: skip
def test_a_table_without_a_place_is_refused(text):
    with pytest.raises(LookupError, match="expected once <!-- figures: toy -->"):
        place("toy", text)
    first, last = place("toy", "a\n<!-- figures: toy -->\nold<!-- end -->")  # the control
    assert last - first == len("old")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A checkout whose only part runs a script, and what that prints before its last line."""
    for folder in (*benchmarks.MEASURED, *benchmarks.SCRIPTS):
        (tmp_path / folder).mkdir()
    (tmp_path / "physgen/a.py").touch()
    (tmp_path / "benchmarks/RESULTS.md").write_text("a <!-- figures: toy -->\nold\n<!-- end -->\n")
    monkeypatch.delenv("GIT_DIR", raising=False)
    git = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "toy"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(benchmarks, "ROOT", tmp_path)
    monkeypatch.setattr(benchmarks, "parts", lambda: {"toy": TOY})

    def made(last):
        (tmp_path / "benchmarks/toy.py").write_text(f"print('''{PRINTED}''')\n{last}\n")
        done = benchmarks.done("toy", tmp_path)
        folder = tmp_path / "benchmarks"
        return done, runs(folder), (folder / "RESULTS.md").read_text()

    return made


def test_a_run_adds_a_line_and_writes_its_table_and_a_failed_one_does_not(
    toy, tmp_path, monkeypatch, capfd
):
    old = (tmp_path / "benchmarks/RESULTS.md").read_text()
    monkeypatch.setattr(benchmarks, "CPU_LIMIT", 1)
    for last in ("raise SystemExit(3)", "import os; os.kill(os.getpid(), 15)", "while True: pass"):
        assert toy(last) == (False, [], old), last
        assert "its table stays as it was" in capfd.readouterr().err
    done, (run,), text = toy("")
    assert done
    assert run.commit == benchmarks.commit_of(tmp_path)[0]
    assert "| ours | 1,200.5 (3) |" in text
    assert "old" not in text
    (tmp_path / "physgen/a.py").write_text("1")
    _, both, _ = toy("")
    assert [one.commit for one in both] == [run.commit, run.commit + "+"]
    with pytest.raises(LookupError, match="expected a checkout of git"):
        benchmarks.commit_of(tmp_path / "nowhere")


def test_every_part_is_a_script_and_its_table_is_that_of_the_history():
    text, known, found = (ROOT / "benchmarks/RESULTS.md").read_text(), parts(), runs()
    for part in known.values():
        assert importlib.util.find_spec(part.command.split()[0]), part
        first, last = place(part.table, text)
        assert text[first:last].strip() == shown(part.table, found, known), part.table
    assert shown("ising", [*found[:-1], run_of(part="ising")], known) not in text  # the control


def test_goals_have_a_side_and_those_of_the_history_a_figure():
    assert Goal.of("≤ 0.4").reached(0.4)
    assert not Goal.of("≤ 0.4").reached(0.5)
    assert Goal.of("≥ 1.5").reached(2)
    assert not Goal.of("≥ 1.5").reached(1)
    with pytest.raises(ValueError, match="expected ≤ or ≥ and a number, got '3'"):
        Goal.of("3")
    known, found = parts(), runs()
    for part in {part.table: part for part in known.values()}.values():
        last = newest(part.table, found, known)
        if {name for name, one in known.items() if one.table == part.table} == {
            run.part for run, _ in last
        }:
            of = {text for run, _ in last for _, column, row, _ in figures(run, part)
                  for text in (row, f"{row} | {column}")}  # fmt: skip
            assert set(part.goals) <= of, part.table


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """The page of runs of the toy, its words apart by one space each."""
    monkeypatch.setattr(page, "HERE", tmp_path)
    monkeypatch.setattr(page, "parts", lambda: {"toy": TOY})
    (tmp_path / "RESULTS.md").write_text(
        "## A & b: `words`\n<!-- figures: toy -->\nold\n<!-- end -->\n"
    )

    def made(*found):
        monkeypatch.setattr(page, "runs", lambda: list(found))
        page.drawn(tmp_path / "page.html")
        return " ".join((tmp_path / "page.html").read_text().split())

    return made


def test_the_page_has_goals_and_tables_and_draws_what_was_measured_twice(drawn):
    text = drawn(run_of())
    assert "1 of 3 goals are missed" in text
    assert '<td><a href="#toy">A &amp; b</a></td><td>time, ms (wall) ÷ peer</td>' in text
    assert "<td>1,200.5 (3)</td>" in text
    assert "<img" not in text  # one commit
    text = drawn(run_of(), run_of("def", "2026-01-02", PRINTED.replace("1,200.5", "900")))
    assert "All 3 goals are reached" in text
    assert "1,200.5" not in text
    assert text.count("<img") == 1 + 3  # the key, and three columns


def test_a_panel_draws_points_and_the_goal():
    ax = Figure().add_subplot()
    rows = {"ours": {"a": [("abc", 0.5), ("def", 0.3)]}}
    page.panel(ax, "x", rows, {"ours": {"color": "r"}}, TOY, ["abc", "def"])
    points, goal = ax.lines
    assert list(points.get_xdata()) == [0, 1]
    assert set(goal.get_ydata()) == {0.4}

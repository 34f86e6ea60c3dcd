"""The house stands as its documents say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def test_every_block_of_the_readme_runs(tmp_path):
    """From the top, in an empty folder, each block in its turn."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = 0
    for language, block in re.findall(r"^```(bash|python)\n(.*?)^```", README, re.M | re.S):
        if named := re.match(r"# (\w+\.py)\n", block):
            (tmp_path / named[1]).write_text(block)
        call = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-c"]
        done = subprocess.run(
            [*call, block], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran == len(blocks("bash")) + len(blocks("python")) == 9
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_the_install_commands_of_the_readme_are_those_of_make():
    """`make demo` and `make test` themselves are run by .ci/run."""
    make, plain = blocks("sh")
    for line in make.splitlines():
        target = line.split()[1]
        done = subprocess.run(
            ["make", "--dry-run", "--always-make", target],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        commands = done.stdout.replace("--quiet ", "")
        if target == "demo":
            for step in plain.replace("\\\n    ", "").splitlines():
                assert step in commands
    assert {"make demo", "make test"} <= set((ROOT / ".ci" / "run").read_text().splitlines())


def test_nothing_is_left_to_fill_in():
    for path in (*ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.md")):
        assert "@@" not in path.read_text(), path


def test_the_readme_names_the_nouns_before_any_code():
    head = README.partition("```")[0]
    for noun in ("simulator", "surrogate", "posterior", "check"):
        assert f"*{noun}*" in head


def test_torch_is_pinned_to_the_tested_build():
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()


@pytest.mark.parametrize("package", ["physgen", "simulators"])
def test_every_module_stands_in_the_architecture(package):
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for path in (ROOT / package).glob("*.py"):
        if package == "physgen" and not path.stem.startswith("_"):
            assert f"`physgen.{path.stem}`" in text or f"`{path.stem}`" in text, path


@pytest.mark.parametrize("folder", ["physgen", "simulators", "tests", "benchmarks"])
def test_no_drawer(folder):
    drawers = {"utils", "helpers", "misc", "common"}
    assert [p for p in (ROOT / folder).rglob("*.py") if p.stem in drawers] == []

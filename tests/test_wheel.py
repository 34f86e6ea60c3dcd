"""The wheel holds all that the package is, and works outside of a checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("physgen", "simulators")


def run(*words, **options):
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of the tree, offline, with the setuptools that are here."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index")
    run(*pip, "-w", tree / "dist", tree)
    (found,) = (tree / "dist").glob("physgen-*-py3-none-any.whl")
    return found


@pytest.mark.slow
def test_it_holds_every_file_of_the_packages(wheel):
    names = {n for n in zipfile.ZipFile(wheel).namelist() if n.startswith(PACKAGES)}
    tree = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert tree == {name for name in names if ".dist-info/" not in name}
    assert {"physgen/py.typed", "simulators/py.typed"} < tree  # and pages:
    assert {".html", ".css"} < {Path(name).suffix for name in tree}


@pytest.mark.slow
def test_the_main_job_outside_of_a_checkout(wheel, tmp_path):
    site, home = tmp_path / "site", tmp_path / "home"
    home.mkdir()
    pip = (sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet")
    run(*pip, "--target", site, wheel)
    env = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    where = "import physgen, simulators; print(physgen.__file__, simulators.__file__)"
    for path in run(sys.executable, "-P", "-c", where, cwd=home, env=env).split():
        assert Path(path).is_relative_to(site)
    command = (sys.executable, site / "bin" / "physgen")
    assert "simulate" in run(*command, "--help", cwd=home, env=env)
    run(*command, "demo", "--size", "4", "--n", "120", "--minutes", "0.02", "-o", "demo",
        cwd=home, env=env)  # fmt: skip
    assert "</html>" in (home / "demo" / "report.html").read_text()

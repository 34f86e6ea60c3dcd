"""Every kind of file, spoilt (mutation.py): refused in one line, equal, or noticed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("mutation.py")
KINDS = (
    "dataset", "observations", "foreign", "binning", "checkpoint", "posterior", "metrics",
    "calibration", "comparison", "history", "resume", "job", "latents", "network",
)  # fmt: skip


def spoilt(folder, n, seed, *kinds):
    call = [sys.executable, str(SCRIPT), str(folder), str(n), str(seed), *kinds]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_some_mutants_of_each_kind(tmp_path):
    found = spoilt(tmp_path, 2, 1, *KINDS[:-1])  # without sbi, which takes long to import
    assert found["faults"] == []
    assert found["counts"].keys() == set(KINDS[:-1])
    assert sum(c.get("refused", 0) for c in found["counts"].values()) > found["mutants"] / 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_mutants(kind, tmp_path):
    if kind == "network":
        pytest.importorskip("sbi")
    found = spoilt(tmp_path, 200, 7, kind)  # 14 kinds: 2,800, of which some change nothing
    assert found["faults"] == []
    assert found["mutants"] > 150
    assert found["counts"][kind]["refused"] > found["mutants"] / 2


@pytest.mark.slow
def test_a_fault_is_told(tmp_path):
    """The control: a reader that lets an error through, and one that takes what it gets."""
    code = f"""
import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import mutation
mutation.READERS |= {{
    "binning": lambda path: str(path.read_bytes()), "job": lambda path: path.read_text("ascii")}}
mutation.UNSEALED.clear()
mutation.main({str(tmp_path)!r}, 12, 1, "binning", "job")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    outcomes = {fault["outcome"] for fault in json.loads(done.stdout)["faults"]}
    assert {"FAULT silent", "FAULT traceback"} <= outcomes

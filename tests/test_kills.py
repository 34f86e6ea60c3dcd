"""Verbs that are killed at random times lose nothing, halve nothing and leave nothing behind."""

import subprocess
import sys
from pathlib import Path

import pytest

KILLS = Path(__file__).parents[1] / "benchmarks" / "kills.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "verbs"),
    [
        (1, ["simulate", "fit", "infer", "report", "export"]),
        pytest.param(5, [], marks=pytest.mark.slow),
    ],
)
def test_kills_at_random_times(kills, verbs):
    done = subprocess.run(
        [sys.executable, str(KILLS), str(kills), *verbs],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(verbs or range(10))
    assert all("no fault" in line for line in lines)
    assert sum(int(line.split(" kills, ")[1].split()[0]) for line in lines) > 0, (
        "none met its verb"
    )

"""The script that measures a GPU, rehearsed at toy size: it must work when there is one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu

ROOT = Path(__file__).parents[1]
ABSENT = {
    "sbi", "zuko", "nautilus", "emcee", "pandas", "pyarrow", "uproot", "arviz", "sklearn", "onnx",
    "onnxruntime", "safetensors", "tensorboard", "distributed", "dask", "xdist", "hypothesis",
}  # fmt: skip
BARE = """
import sys
from importlib.machinery import PathFinder


class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = name.partition(".")[0] in ABSENT
        return None if absent else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
"""


@pytest.mark.slow
def test_every_section_runs_without_what_is_not_on_a_bare_machine(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(f"ABSENT = {ABSENT!r}{BARE}")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    words = ["-m", "benchmarks.gpu", "--cpu-rehearsal", "--out", str(tmp_path / "out")]
    subprocess.run(
        [sys.executable, *words], cwd=ROOT, check=True, capture_output=True,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    text = (tmp_path / "out" / "gpu.md").read_text()
    for name in gpu.ALL:
        found = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert found["rows"], name
        assert not found["error"], (name, found["error"])
        words = [v for row in found["rows"] for v in row.values() if isinstance(v, str)]
        assert not [w for w in words if "Error" in w or "cut after" in w], (name, words)
        assert f"## {name}: " in text
    assert "cut after" not in text
    assert "ended with" not in text


def test_a_section_that_fails_or_hangs_loses_nothing(tmp_path, monkeypatch):
    def fails(scale, out):
        yield {"figure": 1.0}
        raise RuntimeError("no more")

    monkeypatch.setitem(gpu.ALL, "fails", fails)
    gpu.run_section("fails", gpu.TOY, tmp_path)
    kept = json.loads((tmp_path / "fails.json").read_text())
    assert kept["rows"] == [{"figure": 1.0}]
    assert kept["error"] == "RuntimeError: no more"
    sleeper = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    assert gpu.ended(sleeper, 0.2) == "cut after 0 s"
    assert sleeper.poll() is not None
    assert "| 1 |" in gpu.say(tmp_path, {"fails": "cut after 5 s"})


def test_a_figure_that_takes_too_long_or_breaks_is_told_in_words():
    def forever():
        while True:
            pass

    assert gpu.tried(forever, 0.05) == "cut after 0.05 s"
    assert gpu.tried(lambda: [][0], 1.0) == "IndexError: list index out of range"
    assert gpu.tried(lambda: 3.5, 1.0) == 3.5


def test_time_in_kernels_counts_what_overlaps_once():
    class Event:
        def __init__(self, start, end, name="k", kind="CUDA", note=False):
            self.time_range = type("Range", (), {"start": start, "end": end})
            self.device_type, self.name = type("Kind", (), {"name": kind}), name
            self.is_user_annotation = note

    events = [
        Event(0, 100), Event(50, 150), Event(60, 70), Event(300, 400, "long"),
        Event(0, 1e6, note=True), Event(0, 1e6, "Optimizer.step#AdamW.step"),
        Event(0, 1e6, kind="CPU"),
    ]  # fmt: skip
    found = gpu.busy(events, "CUDA", wall=1e-3)
    assert found["busy"] == pytest.approx(0.25)
    assert found["kernels/s"] == 4000
    assert found["longest"].startswith("k")


def test_the_last_sections_keep_their_time_and_all_fits_under_nine_minutes():
    alone, last = sum(gpu.SECTIONS.values()), max(gpu.LAST.values())
    assert alone + last <= 8.9 * 60
    assert 60 * gpu.GPU.minutes + 60 <= last  # to simulate, and to score
    assert {s.__name__ for s in (*gpu.FIRST, *gpu.SECTIONS, *gpu.LAST)} == set(gpu.ALL)

"""Writing that is killed, stopped or starved is finished by the same command, byte for byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

from physgen.dataset import read
from tests.dataset_toy import ENV, started, toy


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "set.h5"
    assert toy(path).returncode == 0
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("small") / "set.h5"
    assert toy(path, "--rows", "151").returncode == 0
    return path


@pytest.mark.slow
def test_killed_at_every_touch_of_the_file_system(small):
    done = toy(small, "--rows", "151", "--mode", "everywhere")
    assert done.returncode == 0, done.stderr
    deaths = int(done.stdout.split("deaths")[1])
    assert deaths > 20


@pytest.mark.slow
def test_kill_9_loop_ends_in_the_same_bytes(whole, tmp_path):
    path = tmp_path / "set.h5"
    deaths = 0
    for loops in range(1, 20):
        with started(path, "--delay", "0.03", "--workers", str(1 + loops % 2)) as process:
            for _ in range(loops):
                process.stdout.readline()
            process.kill()
            process.communicate()
        if process.returncode == 0 or path.exists():
            break
        deaths += 1
    toy(path)
    assert deaths >= 2
    assert path.read_bytes() == whole.read_bytes()


def test_disk_full_is_an_error_and_resumes(small):
    done = toy(small, "--rows", "151", "--mode", "disk-full")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "codes 74"
    assert all("File too large" in line for line in done.stderr.splitlines())


@pytest.mark.parametrize(
    ("signum", "code", "workers"),
    [
        (signal.SIGINT, 130, "2"),
        (signal.SIGTERM, 143, "1"),
        pytest.param(signal.SIGINT, 130, "1", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, "2", marks=pytest.mark.slow),
    ],
)
def test_signals_stop_cleanly_and_resume(whole, tmp_path, signum, code, workers):
    path = tmp_path / "set.h5"
    with started(path, "--delay", "0.2", "--workers", workers) as process:
        time.sleep(0.1)  # so that the workers are at it
        (os.killpg if signum == signal.SIGINT else os.kill)(process.pid, signum)
        _, message = process.communicate(timeout=60)
    assert process.returncode == code, message
    assert message.count("\n") == 1
    assert "rerun the same command" in message
    assert not path.exists()
    done = toy(path)
    assert int(done.stdout.split()[0]) >= 101, "what was finished was kept"
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("workers", ["2", pytest.param("3", marks=pytest.mark.slow)])
def test_bytes_do_not_depend_on_workers(whole, tmp_path, workers):
    path = tmp_path / "set.h5"
    assert toy(path, "--workers", workers).returncode == 0
    assert path.read_bytes() == whole.read_bytes()
    assert path.with_name("set.h5.sha256").read_text().endswith("  set.h5\n")


def test_bytes_depend_on_the_seed(whole, tmp_path):
    assert toy(tmp_path / "set.h5", "--seed", "17").returncode == 0
    assert (tmp_path / "set.h5").read_bytes() != whole.read_bytes()


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(whole, tmp_path):
    path = tmp_path / "set.h5"
    done = toy(path, "--workers", "2", "--dies-once", str(tmp_path / "died"))
    assert (tmp_path / "died").exists()
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.slow
def test_workers_that_always_die_are_given_up(tmp_path):
    done = toy(tmp_path / "set.h5", "--workers", "2", "--always-dies")
    assert done.returncode == 1
    assert "fewer workers" in done.stderr


def test_workers_end_when_their_parent_is_killed(tmp_path):
    with started(tmp_path / "set.h5", "--delay", "0.3", "--workers", "2") as process:
        assert len(alive_in_session(process.pid)) >= 3
    for _ in range(50):
        if not alive_in_session(process.pid):
            return
        time.sleep(0.1)
    pytest.fail("workers outlive their parent")


def alive_in_session(session: int) -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = stat.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(sid) == session and state != "Z":
            found.append(stat.parent.name)
    return found


def test_two_writers(whole, tmp_path):
    path = tmp_path / "set.h5"
    with started(path, "--delay", "0.3") as first:
        second = toy(path)
        first.communicate()
    assert second.returncode == 2
    assert f"process {first.pid} on " in second.stderr
    assert first.returncode == 0
    assert path.read_bytes() == whole.read_bytes()


def stopped_early(path: Path) -> None:
    with started(path, "--delay", "0.1") as process:
        process.terminate()
        process.communicate()
    assert process.returncode == 143


@pytest.mark.slow
def test_another_configuration_is_refused_and_force_discards(tmp_path):
    path = tmp_path / "set.h5"
    stopped_early(path)
    other = toy(path, "--seed", "17")
    assert other.returncode == 2
    assert "other seed" in other.stderr
    assert "--force" in other.stderr
    assert toy(path, "--seed", "17", "--force").returncode == 0
    assert read(path).meta.seed == 17


def test_created_is_the_first_start(tmp_path):
    path = tmp_path / "set.h5"
    stopped_early(path)
    job = json.loads((tmp_path / ".set.h5.parts" / "job.json").read_text())
    done = toy(path, env=ENV | {"SOURCE_DATE_EPOCH": "1"})
    assert done.returncode == 0
    assert job["created"] == "2001-09-09T01:46:40+00:00"
    assert job["created"].encode() in path.read_bytes()


def cut_short(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:3000])


def changed(part: Path) -> None:
    with h5py.File(part, "r+") as file:
        file["x"][3, 0] += 1


@pytest.mark.parametrize("spoil", [cut_short, changed])
def test_a_shard_that_was_spoilt_is_made_again(whole, tmp_path, spoil):
    path = tmp_path / "set.h5"
    stopped_early(path)
    spoil(tmp_path / ".set.h5.parts" / "00000000.h5")
    assert toy(path).returncode == 0
    assert path.read_bytes() == whole.read_bytes()


OWN = """
from simulators import Box


class Own:
    prior, x_shape = Box(a=(0.0, 1.0)), (2,)

    def sample(self, theta, rng):
        return theta + rng.normal(size=(len(theta), 2))
"""
CALL = "physgen.simulate({what}, n=300, shard_rows=37, workers=2, out='x.h5')"
GUARDED = 'if __name__ == "__main__":\n    '


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        "physgen.simulate('gaussian', n=9, out='y.h5')\n" + CALL.format(what="'gaussian'"),
        OWN + GUARDED + CALL.format(what="Own"),
        OWN + CALL.format(what="Own"),
    ],
    ids=["unguarded", "its own class, guarded", "its own class, unguarded"],
)
def test_workers_of_a_script(script, tmp_path):
    (tmp_path / "script.py").write_text("import physgen\nprint('once')\n" + script)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "once\n", "")
    assert len(read(tmp_path / "x.h5")) == 300


@pytest.mark.slow
def test_workers_of_an_interactive_session(tmp_path):
    script = f"import physgen\n{OWN}\n{CALL.format(what='Own')}"
    subprocess.run([sys.executable, "-"], input=script, cwd=tmp_path, text=True, check=True)
    assert len(read(tmp_path / "x.h5")) == 300
    (tmp_path / "x.h5").unlink()
    script = f"import physgen\n{CALL.format(what=repr('gaussian'))}"
    subprocess.run([sys.executable, "-"], input=script, cwd=tmp_path, text=True, check=True)

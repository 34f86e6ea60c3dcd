"""What strangers leave in a folder or put into a file does no harm: it is refused in a line."""

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import physgen
from physgen import dataset
from physgen.cli import main
from physgen.dataset import files
from physgen.errors import DataError, StorageError, UsageError
from physgen.formats.binning import write_binning
from physgen.nn.tensors import load_tensors, save_tensors
from physgen.reporting.sheet import Sheet
from physgen.runtime.terminal import printable
from simulators.shower.geometry import Geometry, Layer

OLD = Path(__file__).parents[1] / "data" / "v0.1"
HOST = socket.gethostname()


def run(*args):
    return CliRunner().invoke(main, list(map(str, args)))


# Temporaries and work folders.


def test_a_temporary_is_never_opened_where_something_is(tmp_path, monkeypatch):
    victim, out = tmp_path / "victim", tmp_path / "out.json"
    victim.write_text("mine")
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "guessed")
    name = f".out.json.{HOST}.{os.getpid()}.guessed.tmp"
    (tmp_path / name).symlink_to(victim)
    with pytest.raises(StorageError, match="exists"):
        dataset.write_bytes(out, b"data", sidecar=False)
    assert victim.read_text() == "mine"
    assert not out.exists()
    monkeypatch.undo()
    dataset.write_bytes(out, b"data", sidecar=True)
    assert out.read_bytes() == b"data"


def test_what_dead_processes_left_goes_and_nothing_else(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    token = "0123456789abcdef"
    stale = [f".a.h5.{HOST}.{ended.pid}.{token}.tmp", f".a.h5.{HOST}.{ended.pid}.tmp"]
    kept = [
        f".a.h5.{HOST}.{os.getppid()}.{token}.tmp",  # alive
        f".a.h5.elsewhere.{ended.pid}.{token}.tmp",  # perhaps alive
        f".b.h5.{HOST}.{ended.pid}.{token}.tmp",  # of another output
        f".a.h5.{HOST}.{ended.pid}.notes.tmp",  # a stranger's
        f".a.h5.{HOST}.{10**30}.tmp",
        "a.h5.tmp",
    ]
    for name in stale + kept:
        (tmp_path / name).write_text("half a file")
    dataset.write_bytes(tmp_path / "a.h5", b"whole", sidecar=False)
    assert {p.name for p in tmp_path.iterdir()} == {"a.h5", *kept}


@pytest.mark.parametrize("force", [False, True])
def test_a_work_folder_that_is_not_ours_is_left_alone(tmp_path, force):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "00000001.h5").write_text("theirs")
    work = tmp_path / ".a.h5.parts"
    work.symlink_to(theirs)
    with pytest.raises(UsageError, match="a folder of unfinished rows"):
        physgen.simulate("gaussian", n=3, out=tmp_path / "a.h5", force=force)
    work.unlink()
    work.mkdir()
    for name in ("results.h5", "1.h5"):
        (work / name).write_text("theirs")
        with pytest.raises(UsageError, match=f"holds '{name}'"):
            physgen.simulate("gaussian", n=3, out=tmp_path / "a.h5", force=force)
        assert (work / name).read_text() == "theirs"
        (work / name).unlink()
    (work / "merged").symlink_to(theirs / "00000001.h5")
    with pytest.raises(UsageError, match="holds 'merged'"):
        physgen.simulate("gaussian", n=3, out=tmp_path / "a.h5", force=force)
    (work / "merged").unlink()
    assert (theirs / "00000001.h5").read_text() == "theirs"
    physgen.simulate("gaussian", n=3, out=tmp_path / "a.h5")
    assert not work.exists()


def test_a_damaged_job_file_is_one_line_and_its_rows_stay(tmp_path):
    work = tmp_path / ".a.h5.parts"
    work.mkdir()
    (work / "00000000.h5").write_text("a shard")
    for text in (
        "{",
        "[]",
        '{"digest": 1}',
        "\udcff",
        '{"created": "now", "digest": "", "config": {}}',
    ):
        (work / "job.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        for flags in ([], ["--force"]):
            done = run("simulate", "gaussian", "-n", 3, "-o", tmp_path / "a.h5", *flags)
            assert done.exit_code == 3
            assert "job.json: is damaged; remove its folder" in done.output
    assert (work / "00000000.h5").exists()


# HDF5.


@pytest.fixture
def showers(tmp_path):
    """A file of the CaloChallenge whose index has two levels, and its cells."""
    binning = tmp_path / "bins.xml"
    write_binning(binning, Geometry((Layer(0, (0.0, 1.0, 2.0), 3),)), "electron")
    path, rng = tmp_path / "showers.h5", np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        packed = {"compression": "gzip", "fletcher32": True}
        energies = rng.uniform(1e3, 1e5, (300, 1))
        file.create_dataset("incident_energies", data=energies, **packed)
        x = rng.exponential(size=(300, 6)).astype("f4")
        file.create_dataset("showers", data=x, chunks=(4, 6), **packed)
    return path, binning


@pytest.mark.slow
def test_no_byte_of_a_chunk_index_makes_rows_of_zeros(showers):
    path, binning = showers
    data = path.read_bytes()
    want = physgen.import_("calochallenge", path, binning=binning).x
    nodes = [i for i in range(len(data)) if data[i : i + 6] == b"TREE\x01\x01"]  # above the leaves
    assert nodes
    wrong = 0
    for at in range(nodes[0] + 24, nodes[0] + 24 + 2 * 40):  # two keys of it, with their nodes
        spoilt = bytearray(data)
        spoilt[at] ^= 4
        path.write_bytes(spoilt)
        with contextlib.suppress(OSError), h5py.File(path) as file:  # what HDF5 makes of it
            wrong += not np.array_equal(file["showers"][()].reshape(want.shape), want)
        with contextlib.suppress(DataError):
            got = physgen.import_("calochallenge", path, binning=binning).x
            assert np.array_equal(got, want), at
    assert wrong, "no byte of these mattered to HDF5"


def test_a_chunk_without_its_filters_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("x", data=np.ones((8, 4)), chunks=(4, 4), compression="gzip")
        data.id.write_direct_chunk((4, 0), bytes(128), filter_mask=1)
    with pytest.raises(DataError, match="stored without its filters"):
        dataset.read(path)


def test_numbers_of_another_layout_are_refused(tmp_path):
    path, kind = tmp_path / "a.h5", h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)
    with h5py.File(path, "w") as file:
        h5py.h5d.create(file.id, b"x", kind, h5py.h5s.create_simple((120, 25)))
    with pytest.raises(DataError, match="not laid out as"):
        dataset.read(path)


# Checkpoints.


def checkpoint(path, tensors, text="{}"):
    info = json.dumps({"format": "physgen/checkpoint/1"} | json.loads(text))
    torch.save({"tensors": tensors, "json": info, "sha256": "0" * 64}, path)


@pytest.mark.parametrize(
    ("tensor", "match"),
    [
        (torch.ones(1).expand(2**50), "its tensors claim"),
        ("text", "SHA-256 differs"),
        (torch.empty(2**50, device="meta"), "not a physgen checkpoint"),
        (torch.eye(3).to_sparse(), "not a physgen checkpoint"),
        (b"bytes", "not a physgen checkpoint"),
    ],
)
def test_tensors_that_claim_more_than_there_is(tmp_path, tensor, match):
    checkpoint(tmp_path / "a.pt", {"w": tensor})
    with pytest.raises(DataError, match=match):
        load_tensors(tmp_path / "a.pt")


def test_a_checkpoint_that_inflates_is_refused_before_it_does(tmp_path):
    path = tmp_path / "bomb.pt"
    save_tensors(path, {"w": torch.zeros(5)}, {})
    every = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in every.namelist():
            bomb.writestr(name, bytes(2**26) if name.endswith("/0") else every.read(name))
    assert path.stat().st_size < 10**5
    with pytest.raises(DataError, match="claims more bytes than it holds"):
        load_tensors(path)


def test_a_text_for_a_weight_is_one_line(tmp_path):
    tensors, info = load_tensors(OLD / "cvae.pt")
    tensors[next(iter(tensors))] = "text"
    save_tensors(tmp_path / "a.pt", tensors, info)
    for verb in (["inspect"], ["sample", "-n", 3, "-o", tmp_path / "b.h5"]):
        done = run(verb[0], tmp_path / "a.pt", *verb[1:])
        assert done.exit_code == 3
        assert "as physgen wrote it" in done.output or "do not fit" in done.output


# Scores.


@pytest.mark.parametrize("name", ["metrics", "calibration", "comparison"])
def test_a_changed_figure_is_noticed(tmp_path, name):
    path = tmp_path / "scores.json"
    scores = dataset.sealed(json.loads((OLD / f"{name}.json").read_bytes()))
    text = json.dumps(scores)
    path.write_text(text)
    assert run("inspect", path, "--verify").exit_code == 0
    digit = next(i for i in range(len(text) // 2, len(text)) if text[i].isdigit())
    path.write_text(f"{text[:digit]}{(int(text[digit]) + 1) % 10}{text[digit + 1 :]}")
    for command in (["inspect", path, "--verify"], ["report", path, "-o", tmp_path / "r.html"]):
        done = run(*command)
        assert done.exit_code == 3
        assert "differ from its content_sha256" in done.output


@pytest.mark.usefixtures("quick")
def test_scores_are_sealed_in_memory_and_in_the_file(tmp_path):
    data, rng = physgen.simulate("gaussian", n=64), np.random.default_rng(0)
    scores = physgen.compare(data, data[rng.permutation(64)], out=tmp_path / "a.json")
    assert dataset.read_scores(tmp_path / "a.json") == dict(scores)
    physgen.save(scores, tmp_path / "b.json")
    assert dataset.read_scores(tmp_path / "b.json")["content_sha256"] == scores["content_sha256"]


# What is shown.


def test_control_characters_never_reach_a_terminal(tmp_path):
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m\ud800"
    assert printable("two\n\tlines") == "two\n\tlines"
    assert printable(evil).isascii()
    assert printable(evil).isprintable()
    path = tmp_path / "posterior.h5"
    arrays, about = dataset.read_arrays(OLD / "posterior.h5", "posterior")
    about |= {"parameters": [evil[:-1] + "\nverified: True"], "warnings": [evil[:-1]]}
    dataset.write_arrays(path, arrays, about, kind="posterior")
    named = tmp_path / "a\x1b[31m.h5"
    named.write_bytes(b"no HDF5")
    unknown = tmp_path / "law.h5"
    dataset.write_arrays(unknown, {"x": np.ones(3)}, {}, kind="posterior")
    with h5py.File(unknown, "r+") as file:
        file.attrs["schema"] = np.bytes_(b"physgen/\x1b[31m")
    unknown.with_name("law.h5.sha256").unlink()
    calls = (
        ("inspect", path), ("inspect", path, "--json"), ("inspect", named), ("inspect", unknown),
        ("inspect", named, "--debug"), ("inspect", path, named), ("report", "--\x1b[31m"),
    )  # fmt: skip
    for call in calls:
        done = run(*call)
        text = done.output.replace("\n", "")
        assert "31m" in text or "owned" in text
        assert all(c.isprintable() for c in text), call
        assert not any(line.startswith("verified: True") for line in done.output.splitlines())


def test_control_characters_and_markup_never_reach_a_page():
    evil = "\x1b]0;owned\x07<script>alert(1)</script>"
    page = Sheet("posterior.html", {"about": {"method": evil}, "title": evil}, {}).html()
    assert "\x1b" not in page
    assert "<script>" not in page


# What is no file, and file systems without locks.


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    path, other = tmp_path / "in", tmp_path / "good.h5"
    shutil.copy(OLD / "ising.h5", other)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        left = socket.socket(socket.AF_UNIX)
        left.bind(str(path))
        left.close()
    out = tmp_path / "out"
    for call in (
        ("inspect", path), ("inspect", path, "--verify"), ("report", path, "-o", out),
        ("fit", "cvae", path, "-o", out), ("sample", path, "-n", 1, "-o", out),
        ("infer", path, other, "-o", out), ("infer", other, path, "-o", out),
        ("validate", path, other, "-o", out), ("calibrate", path, other, "-o", out),
        ("compare", other, path, "-o", out), ("export", path, "--format", "arviz", "-o", out),
        ("import", "calochallenge", path, "--binning", path, "-o", out),
    ):  # fmt: skip
        done = run(*call)
        assert done.exit_code == 3, (call, done.output)
        assert done.output == f"Error: {path}: not a regular file; give a file\n"
    path.unlink() if kind != "folder" else path.rmdir()
    os.mkfifo(tmp_path / "good.h5.sha256")
    assert "good.h5.sha256: not a regular file" in run("inspect", other).output


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs a compiler")
def test_a_file_system_without_locks(tmp_path):
    source, library = tmp_path / "nolock.c", tmp_path / "nolock.so"
    source.write_text(
        "#include <errno.h>\nint flock(int fd, int op) { (void)fd; (void)op; errno = ENOLCK; "
        "return -1; }\n"
    )
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    code = """
import fcntl, physgen
try: fcntl.flock(1, fcntl.LOCK_SH)
except OSError as error: assert error.errno == 37
physgen.simulate("gaussian", n=5, out="a.h5", seed=1)
assert len(physgen.read("a.h5")) == 5
physgen.inspect("a.h5", verify=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob(".*"))

"""Outputs are looked at before work begins: no other file is lost, and no work to a bad place."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import physgen
from physgen.cli import main
from physgen.errors import Interrupted, StorageError, UsageError
from physgen.nn.tensors import save_tensors
from physgen.verbs.resume import kept_beside

CALLS = {
    "simulate": lambda out, **o: physgen.simulate("gaussian", n=3, out=out, **o),
    "fit": lambda out, **o: physgen.fit("cvae", "in.h5", out=out, **o),
    "sample": lambda out, **o: physgen.sample("in.pt", n=3, out=out, **o),
    "infer": lambda out, **o: physgen.infer("in.pt", "in.h5", out=out, **o),
    "network": lambda out, **o: physgen.infer("in.h5", "in.h5", network=out, **o),
    "validate": lambda out, **o: physgen.validate("in.pt", "in.h5", out=out, **o),
    "calibrate": lambda out, **o: physgen.calibrate("in.pt", "in.h5", out=out, **o),
    "compare": lambda out, **o: physgen.compare("in.h5", "in.h5", out=out, **o),
    "latents": lambda out, **o: physgen.latents("in.pt", "in.h5", out=out, **o),
    "report": lambda out, **o: physgen.report("in.h5", out=out, **o),
    "import": lambda out, **o: physgen.import_("calochallenge", "in.h5", out=out, **o),
    "export": lambda out, **o: physgen.export("in.h5", format="arviz", out=out, **o),
    "cells": lambda out, **o: physgen.export(
        "in.h5", format="calochallenge", out="x.h5", binning=out, **o
    ),
}
TAKE_A_FILE = sorted(set(CALLS) - {"simulate"})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spellings(path):
    """Other ways to say a file: absolute, through a folder and back, by links."""
    Path("sub").mkdir()
    Path("linked").symlink_to(Path.cwd(), target_is_directory=True)
    os.link(path, "hard")
    return [Path.cwd() / path, Path("sub") / ".." / path, Path("linked") / path, Path("hard")]


@pytest.mark.parametrize("verb", TAKE_A_FILE)
def test_an_input_is_never_overwritten_however_it_is_spelt(verb):
    given = "in.pt" if verb in ("sample", "infer", "validate", "calibrate", "latents") else "in.h5"
    Path(given).write_text("precious")
    for out in spellings(given):
        with pytest.raises(UsageError, match="another file of this command"):
            CALLS[verb](out, force=True)
    Path(f"{given}.sha256").write_text("its checksum")
    with pytest.raises(UsageError, match="another file of this command"):
        CALLS[verb](f"{given}.sha256", force=True)
    assert Path(given).read_text() == "precious"


def test_all_inputs_and_all_outputs_are_looked_at():
    for name in ("in.h5", "in.pt", "cells.xml", "like.h5", "log.jsonl", "log.resume"):
        Path(name).write_text("precious")
    Path("sub").mkdir()
    for call in (
        lambda: physgen.fit("cvae", "in.h5", out="sub/../in.pt", from_="in.pt", force=True),
        lambda: physgen.fit("cvae", "log.jsonl", out="sub/../log", force=True),
        lambda: physgen.fit("cvae", "in.h5", out="log", from_="log.resume", force=True),
        lambda: physgen.sample("in.pt", out="sub/../like.h5", like="like.h5", force=True),
        lambda: physgen.import_(
            "calochallenge", "in.h5", out="sub/../cells.xml", binning="cells.xml", force=True
        ),
        lambda: physgen.export(
            "in.h5", format="calochallenge", out="a.h5", binning="sub/../a.h5", force=True
        ),
        lambda: physgen.infer("in.h5", "in.h5", out="a.h5", network="sub/../a.h5", force=True),
        lambda: physgen.infer("in.h5", "in.h5", out="a.h5", network="a.h5.sha256", force=True),
    ):
        with pytest.raises(UsageError, match="another file of this command"):
            call()
    assert {p.name for p in Path().iterdir()} == {
        "in.h5", "in.pt", "cells.xml", "like.h5", "log.jsonl", "log.resume", "sub",
    }  # fmt: skip


@pytest.fixture
def closed(folder):
    """A folder in which nobody can make a file; of the kernel, where we are root."""
    if os.geteuid() == 0:
        yield Path("/proc")
        return
    (folder / "closed").mkdir(mode=0o555)
    yield folder / "closed"
    (folder / "closed").chmod(0o755)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that root cannot write to")
@pytest.mark.parametrize("verb", CALLS)
def test_a_place_that_cannot_be_written_to_is_found_before_the_inputs(verb, closed):
    """The inputs are not there, and whoever looked for them first would say so."""
    with pytest.raises(StorageError, match="out: "):
        CALLS[verb](closed / "out")
    with pytest.raises(StorageError, match="no folder"):
        CALLS[verb](Path("none") / "out")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that root cannot write to")
def test_folders_to_write_into_are_looked_at_too(closed):
    with pytest.raises(StorageError, match="logs: "):
        physgen.fit("cvae", "in.h5", out="x.pt", tensorboard=closed / "logs")
    with pytest.raises(StorageError, match="demo: "):
        physgen.demo(out=closed / "demo")
    done = CliRunner().invoke(main, ["report", "in.h5", "-o", str(closed / "x.html")])
    assert done.exit_code == 74
    assert len(done.output.splitlines()) == 1


@pytest.mark.parametrize("verb", CALLS)
def test_an_output_that_exists_is_refused_before_the_inputs(verb):
    if verb in ("simulate", "fit", "sample", "import"):  # these may go on with it
        pytest.skip("looks at the work that has begun first")
    Path("out").write_text("precious")
    with pytest.raises(UsageError, match="out: exists"):
        CALLS[verb]("out")


@pytest.mark.parametrize("verb", CALLS)
def test_a_link_is_refused_before_the_inputs(verb):
    Path("out").symlink_to("elsewhere")
    with pytest.raises(UsageError, match="symbolic link"):
        CALLS[verb]("out", force=True)


@pytest.mark.parametrize("verb", CALLS)
def test_a_checksum_that_is_none_is_not_removed(verb):
    Path("out.sha256").write_text("my notes on sha256\n")
    with pytest.raises(UsageError, match=r"out\.sha256: is in the way"):
        CALLS[verb]("out", force=True)
    assert Path("out.sha256").read_text() == "my notes on sha256\n"


@pytest.mark.parametrize("name", ["out.jsonl", "out.resume"])
@pytest.mark.parametrize("content", [b"mine\n", b'{"mine": 1}\n', b"[1]\n", b"PK\x03\x04"])
def test_files_of_the_users_own_beside_a_training_stay(name, content):
    Path(name).write_bytes(content)
    for force in (False, True):
        with pytest.raises(UsageError, match="is in the way"):
            CALLS["fit"]("out", force=force)
    assert Path(name).read_bytes() == content
    assert [p.name for p in Path().iterdir()] == [name]


def test_a_checkpoint_is_not_taken_for_the_state_of_a_training():
    save_tensors(Path("out.resume"), {"weights": np.ones(3).tolist()}, {"family": "cvae"})
    with pytest.raises(UsageError, match="is in the way"):
        CALLS["fit"]("out", force=True)


def test_what_a_training_keeps_is_its_own():
    data = physgen.simulate("gaussian", n=150, out="train.h5")
    physgen.fit("cvae", data, out="x.pt", epochs=2)
    (_, is_state), (history, is_history) = kept_beside(Path("x.pt")).items()
    assert is_history(history)
    assert len(history.read_text().splitlines()) == 2
    physgen.fit("cvae", data, out="x.pt", epochs=1, force=True)
    assert len(history.read_text().splitlines()) == 1
    assert not is_state(Path("x.pt"))


@pytest.mark.parametrize(("epoch", "hint"), [(1, "nothing is kept"), (2, "add --resume to go on")])
def test_an_interrupted_training_says_what_is_there(epoch, hint, monkeypatch):
    from physgen.training import Trainer

    def interrupted(trainer, number):
        if number == epoch:
            signal.raise_signal(signal.SIGTERM)
        return one(trainer, number)

    one = Trainer._epoch
    monkeypatch.setattr(Trainer, "_epoch", interrupted)
    with pytest.raises(Interrupted, match=hint) as caught:
        physgen.fit("cvae", physgen.simulate("gaussian", n=150), out="x.pt", epochs=2)
    assert caught.value.exit_code == 143
    assert Path("x.pt.resume").exists() == (epoch == 2)


def test_a_trained_network_is_there_before_it_is_used(monkeypatch):
    pytest.importorskip("sbi")
    from physgen.posterior import methods

    data = physgen.simulate("gaussian", n=150, out="in.h5")
    grid = methods.grid_posterior

    def interrupted(*args, **given):
        assert Path("net.pt").exists()
        signal.raise_signal(signal.SIGINT)
        return grid(*args, **given)

    options = {"method": "npe", "rows": slice(0, 1), "epochs": 2, "samples": 5}
    with monkeypatch.context() as patch:
        patch.setattr(methods, "grid_posterior", interrupted)
        with pytest.raises(Interrupted, match=r"is kept: go on with physgen infer net\.pt"):
            physgen.infer(data, data, out="p.h5", network="net.pt", **options)
    assert not Path("p.h5").exists()
    assert physgen.infer("net.pt", data, out="p.h5", rows=slice(0, 1), samples=5).path

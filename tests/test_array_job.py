"""Parts of an array job are the dataset that one run makes, byte for byte, however they end."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import physgen
from physgen.dataset import Meta, Rows, array_part, write, write_part
from physgen.errors import DataError, UsageError
from physgen.law import Law
from simulators.gaussian import LinearGaussian
from simulators.prior import Box
from tests.dataset_toy import started, toy


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "set.h5"
    assert toy(path).returncode == 0
    return path.read_bytes()


def in_folder(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir())


WRITTEN = ["set.h5", "set.h5.sha256"]


@pytest.mark.slow
def test_three_parts_one_of_which_is_killed(tmp_path, whole):
    path = tmp_path / "set.h5"
    assert toy(path, "--part", "1/3").returncode == 0
    with started(path, "--part", "2/3", "--delay", "0.3") as part:
        part.kill()
    assert toy(path, "--part", "3/3").returncode == 0
    shards = {p.name for p in (tmp_path / ".set.h5.parts").glob("0*.h5")}
    assert {f"{k:08d}.h5" for k in (0, 3, 6, 9, 2, 5, 8)} <= shards
    assert len(shards) < 10
    assert toy(path).returncode == 0
    assert path.read_bytes() == whole
    assert in_folder(path) == WRITTEN


@pytest.mark.slow
def test_two_parts_at_a_time_and_who_must_wait(tmp_path, whole):
    """The ordinary command, the same part, another number of parts and --force all wait."""
    path = tmp_path / "set.h5"
    law, source = Law.of("gaussian", {"size": 7}), {"kind": "simulator"}
    meta, other = (Meta(law, source, seed, {"command": "toy"}) for seed in (13, 14))

    def refused(words, *only, meta=meta, **how):
        with pytest.raises(UsageError) as error:
            (write_part if only else write)(path, 997, meta, None, *only, shard_rows=101, **how)
        assert words in str(error.value)
        assert "\n" not in str(error.value)

    with (
        started(path, "--part", "1/2", "--delay", "0.3") as one,
        started(path, "--part", "2/2", "--delay", "0.3") as two,
    ):
        first, second = (
            f"part {i}/2, process {p.pid} on {os.uname().nodename}, is writing it; wait for it"
            for i, p in ((1, one), (2, two))
        )
        refused(first)
        refused(second, (2, 2))
        refused(first, (1, 3))
        refused("holds unfinished rows with other seed", (1, 2), meta=other)
        refused(first, (1, 2), meta=other, force=True)
        refused(first, meta=other, force=True)
        assert one.poll() is two.poll() is None
        assert one.wait(60) == two.wait(60) == 0, one.stderr.read() + two.stderr.read()
    assert toy(path).returncode == 0
    assert path.read_bytes() == whole
    assert in_folder(path) == WRITTEN


@dataclass(frozen=True)
class Make:
    """Rows of a shard, and what happens when that of a number has been made."""

    law: Law
    number: int = -1
    then: object = None

    def __call__(self, shard):
        rng = np.random.default_rng(shard.seed)
        theta = self.law.prior.sample(len(shard), rng)
        x = LinearGaussian(7).sample(theta, rng)
        if shard.number == self.number:
            x = self.then(x)
        return Rows(x, theta)


LAW = Law.of("gaussian", {"size": 7})
META = Meta(LAW, {"kind": "simulator"}, 3, {"command": "toy"})


def part(path, only, make=None, meta=META, **how):
    return write_part(path, 60, meta, make or Make(LAW), only, shard_rows=10, **how)


def test_a_part_drops_nothing_that_others_have_made(tmp_path):
    path = tmp_path / "set.h5"
    assert part(path, (1, 2)).finished() == [0, 2, 4]
    with pytest.raises(DataError, match="x is not finite"):
        part(path, (2, 2), Make(LAW, 3, lambda x: x * np.nan))
    assert part(path, (2, 3)).finished() == [0, 1, 2, 4]  # resumed with other parts
    assert write(path, 60, META, Make(LAW), shard_rows=10).resumed == 40


def test_a_part_of_another_seed_that_begins_before_a_shard_is_finished(tmp_path):
    """As with --seed $SLURM_ARRAY_TASK_ID: it must not take the folder over."""
    path = tmp_path / "set.h5"
    part(path, (7, 7))
    other = Meta(LAW, {"kind": "simulator"}, 4, {"command": "toy"})
    for call in (part, lambda *_, **how: write(path, 60, other, Make(LAW), shard_rows=10)):
        with pytest.raises(UsageError, match="holds unfinished rows with other seed"):
            call(path, (1, 2), meta=other)
    assert part(path, (1, 2), meta=other, force=True).finished() == [0, 2, 4]


@pytest.mark.parametrize("again", [False, True], ids=["finished", "begun anew"])
def test_a_part_that_outlives_the_job(again, tmp_path, monkeypatch):
    """Where locks do not reach other machines: it says so, and no folder is left."""
    path = tmp_path / "set.h5"
    folder, away = tmp_path / ".set.h5.parts", tmp_path / "elsewhere"

    def others(x):
        shutil.move(folder, away)
        write(path, 60, META, Make(LAW), shard_rows=10)
        if again:
            part(path, (7, 7), meta=Meta(LAW, {"kind": "simulator"}, 4, {"command": "toy"}),
                 force=True)  # fmt: skip
        return x

    with pytest.raises(UsageError, match="was finished or begun anew while part 1/2 ran"):
        part(path, (1, 2), Make(LAW, 2, others))
    assert folder.exists() == again
    assert not list(folder.glob("0*.h5"))
    if not again:
        with pytest.raises(UsageError, match="there is nothing left to do for part"):
            part(path, (2, 2))
        assert not folder.exists()


def test_without_locks_of_the_file_system(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    path = tmp_path / "set.h5"

    def refused(x):
        with pytest.raises(UsageError, match=r"part 1/2, .*\(if it has ended, remove .*-1-of-2\)"):
            write(path, 60, META, Make(LAW), shard_rows=10)
        return x

    part(path, (1, 2), Make(LAW, 2, refused))
    assert write(path, 60, META, Make(LAW), shard_rows=10).resumed == 30
    assert in_folder(path) == WRITTEN


def test_folders_of_machines_without_a_shared_disk_are_put_together(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    write(tmp_path / "one.h5", 60, META, Make(LAW), shard_rows=10)
    for i in (1, 2):
        (tmp_path / f"host{i}").mkdir()
        part(tmp_path / f"host{i}" / "set.h5", (i, 2))
        folder = tmp_path / f"host{i}" / ".set.h5.parts"
        shutil.copytree(folder, tmp_path / folder.name, dirs_exist_ok=True)
    assert write(tmp_path / "set.h5", 60, META, Make(LAW), shard_rows=10).resumed == 60
    assert (tmp_path / "set.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()


@pytest.mark.parametrize("wrong", ["0/3", "4/3", "2", "a/b", "1/2/3", "", (2, 1), 3, (1.5, "x")])
def test_parts_that_are_none(wrong):
    with pytest.raises(UsageError, match="part: expected I/N with 1 <= I <= N, as in 2/4"):
        array_part(wrong)
    assert array_part("2/4") == array_part((2, 4)) == array_part([2, 4]) == (2, 4)


def test_a_part_needs_a_file():
    with pytest.raises(UsageError, match="part: parts are joined in a file"):
        physgen.simulate("gaussian", n=10, part=(1, 2))


class Fails:
    """Fails at large θ, and says so."""

    x_shape = (2,)

    def __init__(self):
        self.prior = Box(a=(0.0, 1.0))

    def sample(self, theta, rng):
        x = theta + rng.normal(size=(len(theta), 2))
        x[theta[:, 0] > 0.8] = np.nan
        return x


@pytest.mark.parametrize("on_error", ["skip", "redraw"])
def test_parts_of_a_simulator_that_fails(on_error, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    how = {"n": 100, "seed": 5, "shard_rows": 9, "on_error": on_error}
    one = physgen.simulate(Fails, out=tmp_path / "one.h5", **how)
    path = tmp_path / "set.h5"
    for i in (3, 1):
        made = physgen.simulate(Fails, out=path, part=f"{i}/3", **how)
        assert made.path == path
        assert f"part {i}/3, 4 shards" in made.summary
    physgen.simulate(Fails, out=path, **how)
    assert path.read_bytes() == one.path.read_bytes()
    assert in_folder(path) == ["one.h5", "one.h5.sha256", *WRITTEN]


def test_parts_in_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    how = {"n": 60, "seed": 5, "shard_rows": 9}
    one = physgen.simulate("gaussian", out=tmp_path / "one.h5", **how)
    path = tmp_path / "set.h5"
    made = physgen.simulate("gaussian", out=path, part=(2, 2), workers=2, **how)
    assert "part 2/2, 3 shards; 3 of 7 are finished" in made.summary
    physgen.simulate("gaussian", out=path, **how)
    assert path.read_bytes() == one.path.read_bytes()


def test_parts_of_a_surrogate(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    monkeypatch.setattr("physgen.dataset.writer.chunk_rows", lambda law: 10)
    data = physgen.simulate("gaussian", n=100, seed=1)
    model = physgen.fit("flow", data, epochs=1, out=tmp_path / "flow.pt")
    one = physgen.sample(model.path, n=35, seed=2, out=tmp_path / "one.h5")
    path = tmp_path / "set.h5"
    made = physgen.sample(model.path, n=35, seed=2, out=path, part="1/2")
    assert "part 1/2, 2 shards; 2 of 4 are finished" in made.summary
    physgen.sample(model.path, n=35, seed=2, out=path)
    assert path.read_bytes() == one.path.read_bytes()


def test_the_file_tells_the_command_that_makes_its_rows(tmp_path):
    how = {"n": 20, "seed": 2, "out": tmp_path / "x.h5", "force": True}
    told = "physgen simulate gaussian -n 20 --seed 2"
    assert physgen.simulate("gaussian", **how).meta.provenance["command"] == told
    data = physgen.simulate("gaussian", shard_rows=7, **how)
    assert data.meta.provenance["command"] == f"{told} --shard-rows 7"

"""A small dataset written in a process of its own, which the tests interrupt in every way.

``python dataset_toy.py OUTPUT [--rows N] [--workers W] …`` prints the number of finished rows as
it grows; an expected error goes to stderr and its code is the exit code. Tests call it by `toy`
and `started`.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from physgen.dataset import Meta, Rows, Shard, array_part, write, write_part
from physgen.errors import PhysgenError
from physgen.law import Law
from physgen.runtime.engine import engine
from simulators.gaussian import LinearGaussian

ENV = os.environ | {"SOURCE_DATE_EPOCH": "1000000000"}
TOUCHES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def toy(path: Path, *options: str, env=ENV) -> subprocess.CompletedProcess[str]:
    """What a writer says, and its code."""
    call = [sys.executable, __file__, str(path), *options]
    return subprocess.run(call, env=env, capture_output=True, text=True, check=False, timeout=100)


@contextmanager
def started(path: Path, *options: str):
    """A writer that has finished its first shard; killed on leaving if it still runs."""
    call = [sys.executable, __file__, str(path), *options]
    with subprocess.Popen(
        call, env=ENV, stdout=-1, stderr=-1, text=True, start_new_session=True
    ) as process:
        try:
            process.stdout.readline()
            yield process
        finally:
            process.kill()


@dataclass(frozen=True)
class Make:
    law: Law
    delay: float = 0.0
    dies_once: str = ""
    always_dies: bool = False

    def __call__(self, shard: Shard) -> Rows:
        if self.always_dies or (self.dies_once and shard.number == 2 and self.first()):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.delay)
        rng = np.random.default_rng(shard.seed)
        theta = self.law.prior.sample(len(shard), rng)
        x = LinearGaussian(7).sample(theta, rng)
        return Rows(x, theta, {"norm": np.linalg.norm(x, axis=1), "index": np.arange(len(x))})

    def first(self) -> bool:
        try:
            Path(self.dies_once).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def run(args: argparse.Namespace, path: str) -> int:
    law = Law.of("gaussian", {"size": 7})
    make = Make(law, args.delay, args.dies_once, args.always_dies)
    try:
        only = {"part": array_part(args.part)} if args.part else {}
        with engine(workers=args.workers) as where:
            (write_part if only else write)(
                path,
                args.rows,
                Meta(law, {"kind": "simulator"}, args.seed, {"command": "toy"}),
                make,
                **only,
                shard_rows=args.shard_rows,
                engine=where,
                force=args.force,
                progress=say,
            )
    except PhysgenError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def forked(task) -> int:
    """Exit code of a task in a forked process; negative for a signal."""
    if (pid := os.fork()) == 0:
        os._exit(task())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die_at(touch: int, folder: str) -> None:
    """Kill −9 this process when it touches the folder for the given time."""
    left = [touch]

    def hook(event: str, args: tuple) -> None:
        if event in TOUCHES and str(args[0]).startswith(folder):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    sys.addaudithook(hook)


def everywhere(args: argparse.Namespace) -> int:
    """Die at every touch of the file system in turn; each time finish and compare."""
    want = Path(args.path).read_bytes()
    folder = Path(args.path).parent / "killed"
    for touch in range(10_000):
        folder.mkdir()
        path = str(folder / "set.h5")

        def dying(touch=touch, path=path) -> int:
            die_at(touch, str(folder))
            return run(args, path)

        died = forked(dying)
        again = forked(lambda path=path: run(args, path))
        assert again in ((0, 2) if died else (2,)), (touch, died, again)
        assert sorted(p.name for p in folder.iterdir()) == ["set.h5", "set.h5.sha256"], touch
        assert Path(path).read_bytes() == want, touch
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        if died == 0:
            say("deaths", touch)
            return 0
    return 1


def disk_full(args: argparse.Namespace) -> int:
    """Let the disk be full at sizes up to the whole file; each time finish and compare."""
    want = Path(args.path).read_bytes()
    folder = Path(args.path).parent / "full"
    codes = []
    for limit in np.linspace(1, len(want) - 1, 12).astype(int):
        folder.mkdir()
        path = str(folder / "set.h5")

        def limited(limit=int(limit), path=path) -> int:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            return run(args, path)

        codes.append(forked(limited))
        assert not Path(path).exists(), limit
        assert forked(lambda path=path: run(args, path)) == 0
        assert Path(path).read_bytes() == want, limit
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    say("codes", *sorted(set(codes)))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("--mode", choices=["run", "everywhere", "disk-full"], default="run")
    parser.add_argument("--rows", type=int, default=997)
    parser.add_argument("--shard-rows", type=int, default=101)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--part", default="")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--dies-once", default="")
    parser.add_argument("--always-dies", action="store_true")
    args = parser.parse_args()
    if args.mode == "everywhere":
        return everywhere(args)
    if args.mode == "disk-full":
        return disk_full(args)
    return run(args, args.path)


if __name__ == "__main__":
    sys.exit(main())

"""Kills of every verb at random times: is anything lost, halved or left behind?

``python benchmarks/kills.py [KILLS] [VERB …]`` runs each verb once in peace, and then so often
with a signal at a random time of its run: SIGKILL, SIGINT and SIGTERM in turn. After each, the
outputs must be absent or whole; the same command must succeed (fit and infer with ``--resume``,
where they ask for that) and end in the same bytes, or in the same figures where a file says how
long it took; and nothing but the products may lie there. A signal that can be answered must be, in
one line. Each verb runs in a forked process, so that a kill costs what its work does, and no
imports.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

os.environ |= {"SOURCE_DATE_EPOCH": "1000000000", "OMP_NUM_THREADS": "1", "GIT_DIR": os.devnull}

import physgen
import physgen.checks.calibration.lc2st as lc2st
import physgen.checks.two_sample.c2st as c2st
import physgen.checks.two_sample.frechet as frechet
import physgen.cli.commands
import physgen.posterior.blocks as blocks
import physgen.verbs.unfinished as unfinished
from physgen.__main__ import start
from physgen.nn.tensors import digest, load_tensors
from physgen.runtime.interrupt import end

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
TIMES = {"seconds", "cpu_seconds"}
"""What a file says of time, and of nothing else."""
SOME = ["--rows", "0:100", "--draws", "2"]
COMMANDS = {
    "simulate": ["simulate", "gaussian", "-n", "9000", "--shard-rows", "200", "-o", "out.h5"],
    "fit": ["fit", "cvae", "in.h5", "-o", "out.pt", "--epochs", "5", "-q"],
    "sample": ["sample", "in.pt", "-n", "9000", "-o", "out.h5"],
    "infer": ["infer", "in.pt", "in.h5", "-o", "out.h5", "--rows", "0:20", "--draws", "2"],
    "validate": ["validate", "in.pt", "in.h5", "-o", "out.json", "--observations", "5", *SOME],
    "calibrate": ["calibrate", "in.pt", "in.h5", "-o", "out.json", *SOME],
    "compare": ["compare", "in.h5", "other.h5", "-o", "out.json"],
    "report": ["report", "in.json", "-o", "out.html"],
    "export": [
        "export", "showers.h5", "--format", "calochallenge", "--binning", "out.xml",
        "-o", "out.hdf5",
    ],
    "import": [
        "import", "calochallenge", "showers.hdf5", "--binning", "cells.xml", "-o", "out.h5",
    ],
}  # fmt: skip


@dataclass
class Tally:
    """What came of the kills of one verb."""

    kills: int = 0
    met: int = 0  # that met the verb before it had ended
    begun: int = 0  # after which something of it was there
    faults: Counter[str] = field(default_factory=Counter)


def prepare(folder: Path) -> None:
    """The inputs of all verbs, classifiers that hardly learn, and many small blocks."""
    c2st.STEPS, frechet.FLOPS, lc2st.TRIALS = 3, 0, 5
    blocks.ROWS["grid"], unfinished.EVERY = 4, 0.0
    os.chdir(folder)
    data = physgen.simulate("gaussian", n=1000, out="in.h5")
    physgen.simulate("gaussian", n=1000, seed=2, out="other.h5")
    model = physgen.fit("cvae", data, out="in.pt", epochs=1)
    physgen.validate(model, data, out="in.json", rows=slice(0, 50), observations=2, draws=2)
    showers = physgen.simulate("shower-voxel", n=300, out="showers.h5")
    physgen.export(showers, format="calochallenge", out="showers.hdf5", binning="cells.xml")


def started(words: list[str]) -> int:
    """A process that runs a command, what it says in ``said``."""
    said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        os.close(said)
        return pid
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["physgen", *words]
    code = 1
    try:
        for signum in SIGNALS[1:]:  # as `start` does, before one can come
            signal.signal(signum, end)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        start()
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 0
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    """Exit code of a process; negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def timeless(value: Any) -> Any:
    """JSON data without what they say of time."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES | {"content_sha256"}}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def content(path: Path) -> str:
    """What must be the same in each file of one command."""
    if path.suffix == ".pt":
        return digest(load_tensors(path)[0], "")
    if path.suffix == ".json":
        return json.dumps(timeless(json.loads(path.read_bytes())))
    if path.suffix == ".jsonl":
        return json.dumps([timeless(json.loads(line)) for line in path.read_text().splitlines()])
    return sha256(path.read_bytes()).hexdigest()


def products() -> dict[str, str]:
    """Name → content of what a command has made here."""
    paths = [p for p in Path().iterdir() if "out." in p.name]
    return {p.name: content(p) if p.is_file() else "" for p in paths}


def removed() -> None:
    """Remove what a command has made here."""
    for name in [p.name for p in Path().iterdir() if "out." in p.name]:
        shutil.rmtree(name) if Path(name).is_dir() else Path(name).unlink()


def killed(words: list[str], whole: dict[str, str], after: float, signum: int, to: Tally) -> None:
    """One kill, and all that must hold after it."""
    pid = started(words)
    time.sleep(after)
    os.kill(pid, signum)
    code, said = ended(pid), Path("said").read_text()
    to.kills += 1
    to.met += code != 0
    to.begun += any("out." in p.name for p in Path().iterdir())
    if signum != signal.SIGKILL:
        to.faults["unanswered"] += code not in (0, 128 + signum)
        if "Traceback" in said:
            to.faults["traceback"] += 1
            sys.stderr.write(f"{words[0]}: signal {signum} after {after:.3f} s: {said}\n")
        to.faults["no line"] += code != 0 and said.count("Error: ") != 1
    wanted = {name for name in whole if not name.endswith((".jsonl", ".sha256"))}
    there = {name for name in wanted if Path(name).exists()}
    to.faults["half"] += any(content(Path(name)) != whole[name] for name in there)
    resumes = any(Path(name).exists() for name in ("out.pt.resume", "out.h5.blocks"))
    again = ended(started([*words, *["--resume"] * resumes]))
    there_already = "exists" in Path("said").read_text() and there == wanted
    to.faults["not rerun"] += again != 0 and not there_already
    found = products()
    to.faults["left behind"] += bool(found.keys() - whole.keys())
    for name in sorted(found.keys() - whole.keys()):
        sys.stderr.write(f"{words[0]}: signal {signum} after {after:.3f} s left {name}\n")
    to.faults["other bytes"] += any(found.get(name) != whole[name] for name in wanted)


def tally(verb: str, kills: int) -> Tally:
    """Many kills of one verb."""
    words, found, rng = COMMANDS[verb], Tally(), random.Random(verb)
    removed()
    begun = time.monotonic()
    if code := ended(started(words)):
        raise SystemExit(f"{verb}: ended with {code}: {Path('said').read_text()}")
    seconds, whole = time.monotonic() - begun, products()
    for k in range(kills):
        removed()
        killed(words, whole, rng.uniform(0, seconds), SIGNALS[k % 3], found)
    removed()
    return found


def run(kills: int, verbs: list[str]) -> int:
    """A line for each verb; the number of faults."""
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for verb in verbs or COMMANDS:
            found = tally(verb, kills)
            told = ", ".join(f"{n} {what}" for what, n in found.faults.items() if n)
            print(
                f"{verb:9} {found.kills} kills, {found.met} before its end, {found.begun} with "
                f"something there: {told or 'no fault'}",
                flush=True,
            )
            faults += sum(found.faults.values())
        os.chdir("/")
    return faults


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]) if sys.argv[1:] else 30, sys.argv[2:]) > 0)

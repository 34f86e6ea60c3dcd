"""The benchmarks in parts: ``python -m benchmarks list``, ``run NAME …``, ``page``, ``tables``.

``run`` measures parts one after another, adds a line of each to figures.jsonl and writes its
table in RESULTS.md anew; one that fails, is interrupted or takes more than ten CPU minutes leaves
both as they were. With ``--checkout`` the package of another checkout is measured by the scripts
of this one: so old commits have points that were made on the same machine. ``page`` draws every
figure against the commits. ``tables`` writes RESULTS.md anew, as after a merge.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import RESULTS, Part, Run, parts, place, runs, tables, written

ROOT = Path(__file__).parents[1]
MEASURED, SCRIPTS = ("physgen", "simulators"), ("benchmarks", "tests", "data")
CPU_LIMIT = 600
"""Seconds of each process of a part."""


def git(checkout: Path, *words: str) -> str:
    """What git says of a checkout; nothing where it fails."""
    call = ["git", "-C", checkout, *words]
    return subprocess.run(call, capture_output=True, text=True).stdout.strip()


def commit_of(checkout: Path) -> tuple[str, str]:
    """The commit, with a + if the package differs from it, and when it was made.

    Raises:
        LookupError: there is none.
    """
    commit, _, committed = git(checkout, "log", "-1", "--format=%h %cI").partition(" ")
    if not commit:
        raise LookupError(f"{checkout}: expected a checkout of git, for figures are of a commit")
    changed = git(checkout, "status", "--porcelain", "--", *MEASURED)
    return commit + "+" * bool(changed), committed


def processor() -> str:
    """Its name."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def limited() -> None:
    """The limit of a process that runs a part."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT))


def printed(part: Part, checkout: Path) -> str:
    """What a part prints, of the package of a checkout.

    Raises:
        ChildProcessError: it failed.
    """
    with tempfile.TemporaryDirectory() as name:
        for owner, folders in ((checkout, MEASURED), (ROOT, SCRIPTS)):
            for folder in folders:
                (Path(name) / folder).symlink_to(owner / folder)
        env = os.environ | {"PYTHONPATH": name, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        words, lines = [sys.executable, "-m", *shlex.split(part.command)], []
        how = {"cwd": name, "env": env, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(words, preexec_fn=limited, **how) as process:
            try:
                for line in process.stdout:
                    print(line, end="", flush=True)
                    lines.append(line)
            except BaseException:
                process.terminate()
                raise
    if process.returncode == -signal.SIGXCPU:
        raise ChildProcessError(f"took more than {CPU_LIMIT} CPU s; give it less to do")
    if process.returncode:
        raise ChildProcessError(f"`python -m {part.command}` ended with {process.returncode}")
    return "".join(lines)


def cpu() -> float:
    """CPU seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(name: str, checkout: Path) -> None:
    """Measure a part and keep its figures."""
    known = parts()
    place(known[name].table, (ROOT / "benchmarks" / RESULTS).read_text())
    commit, committed = commit_of(checkout)
    begun = cpu()
    found = tables(printed(known[name], checkout))
    if not any(table.rows for table in found):
        raise ChildProcessError("expected tables in Markdown, none came")
    today = datetime.date.today().isoformat()
    seconds = round(cpu() - begun, 1)
    made = Run(name, commit, committed, today, processor(), seconds, found)
    written(known, made, ROOT / "benchmarks")


def done(name: str, checkout: Path) -> bool:
    """Measure a part, and say so if it fails: the others go on."""
    print(f"\n{name}", file=sys.stderr)
    try:
        run(name, checkout)
    except (ChildProcessError, LookupError) as error:
        print(f"{name}: {error}; its table stays as it was", file=sys.stderr)
        return False
    return True


def listed() -> None:
    """Print the parts, and how old their figures are."""
    newest = {run.part: run for run in runs()}
    for name, part in parts().items():
        age = ""
        if last := newest.get(name):
            behind = git(ROOT, "rev-list", "--count", f"{last.commit.rstrip('+')}..HEAD")
            age = f"  # {last.commit}, {behind or '?'} commits ago, {last.cpu_s:.0f} CPU s"
        print(f"{name:24} python -m {part.command}{age}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="parts, and the age of their figures")
    verbs.add_parser("tables", help="write all tables of RESULTS.md anew")
    measure = verbs.add_parser("run", help="measure parts; all without names")
    measure.add_argument(
        "names", nargs="*", metavar="NAME", help="of list; a table's name: all of it"
    )
    measure.add_argument("--checkout", type=Path, default=ROOT, help="whose package is measured")
    page = verbs.add_parser("page", help="draw every figure against commits")
    page.add_argument("--out", type=Path, default=Path("figures.html"))
    options = parser.parse_args()
    if options.verb == "list":
        listed()
    elif options.verb == "tables":
        written(parts())
    elif options.verb == "page":
        from benchmarks.page import drawn

        drawn(options.out)
    else:
        failed = [n for n in chosen(options.names) if not done(n, options.checkout.resolve())]
        sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def chosen(names: list[str]) -> list[str]:
    """The parts that were asked for."""
    known = parts()
    found = {
        name: [part for part, about in known.items() if name in (part, about.table)]
        for name in names
    }
    if unknown := [name for name, some in found.items() if not some]:
        sys.exit(f"{', '.join(unknown)}: no such part; `python -m benchmarks list` names them")
    return [part for some in found.values() for part in some] if names else list(known)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("interrupted"))
    main()

"""Densities of real x on one table, sbi's beside.

    python -m benchmarks.reals run [--laws crescents slcp] [--methods cvae flow sbi-nle]
        [--seeds 3] [--seconds 60] [--out reals]
    python -m benchmarks.reals table [--out reals]

``run`` appends a line of JSON to OUT/results.jsonl for each law, method and seed, and leaves out
those that stand there already, so that a run that was killed goes on where it was; ``table``
writes OUT/table.md and pictures of what stands there. A method is a family, with options after a
colon (``flow:simulate=True``, ``cvae:channels=64,weight_decay=0.01``), auto for the best of them,
one of sbi's networks in physgen (nle, npe), or sbi by itself (sbi-nle, sbi-npe, sbi-mnle).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.reals.measure import measure
from benchmarks.reals.methods import PEERS
from benchmarks.reals.table import write_table
from benchmarks.reals.tasks import TASKS
from benchmarks.reals.truth import Truth
from physgen.checks.estimate import estimate
from physgen.errors import PhysgenError
from physgen.registry import targets
from physgen.runtime.device import threads

METHODS = ("autoregressive", "flow", "cvae", "diffusion", "sbi-nle", "sbi-npe")
RESULTS = "results.jsonl"
KEY = ("law", "method", "seed", "seconds", "simulations")


def main(argv: list[str] | None = None) -> None:
    """Run or tabulate."""
    options = arguments(argv)
    if options.command == "table":
        if not (found := list(results(options.out).values())):
            sys.exit(f"{options.out}: nothing was measured yet; begin with run")
        sys.stdout.write(write_table(options.out, found))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    with threads(1):
        for name in options.laws:
            run_law(name, options)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train and measure")
    table = commands.add_parser("table", help="write what was measured")
    for each in (run, table):
        each.add_argument("--out", type=Path, default=Path("reals"), help="folder of the results")
    run.add_argument("--laws", nargs="+", choices=TASKS, default=list(TASKS), metavar="LAW",
                     help=f"of {', '.join(TASKS)}")  # fmt: skip
    run.add_argument("--methods", nargs="+", default=METHODS, type=known, metavar="METHOD",
                     help=f"default: {' '.join(METHODS)}")  # fmt: skip
    run.add_argument("--seeds", type=int, default=3, help="how many")
    run.add_argument("--first", type=int, default=1, help="the first of them")
    run.add_argument("--seconds", type=float, help="CPU time of a training; the law's own if none")
    run.add_argument("--simulations", type=int, default=10_000, help="to train on")
    run.add_argument("--posterior-seconds", type=float, default=30,
                     help="CPU time for the posteriors of a method")  # fmt: skip
    return parser.parse_args(argv)


def known(method: str) -> str:
    """A method, if there is such a one.

    Raises:
        argparse.ArgumentTypeError: there is none.
    """
    names = ["auto", *PEERS, *targets("surrogates")]
    if method.partition(":")[0] in names:
        return method
    raise argparse.ArgumentTypeError(f"expected one of {', '.join(names)}, got {method!r}")


def run_law(name: str, options: argparse.Namespace) -> None:
    """All methods and seeds of one law that were not measured yet."""
    task, out = TASKS[name], options.out
    truth = Truth(task, out / f"exact-{name}.npz")
    done = {key for key, line in results(out).items() if not {"failed", "refused"} & set(line)}
    seconds = options.seconds or task.seconds
    for seed in range(options.first, options.first + options.seeds):
        for method in options.methods:
            about = dict(zip(KEY, (name, method, seed, seconds, options.simulations), strict=True))
            if key_of(about) not in done:
                found = measured(truth, about, options.posterior_seconds, out)
                keep(out / RESULTS, about | found)


def measured(truth: Truth, about: Mapping[str, Any], limit: float, out: Path) -> dict[str, Any]:
    """What a method comes to, and the floor; the reason where it cannot."""
    start = time.process_time()
    floor = estimate(truth.log_p)
    try:
        law, method, seed, seconds, simulations = about.values()
        picture = out / f"density-{law}-{method}.npz"
        found = measure(truth, method, seed, seconds, simulations, limit, picture)
    except PhysgenError as error:
        found = {"refused": str(error)}
    except Exception as error:  # a table of many hours goes on
        traceback.print_exc()
        found = {"failed": repr(error)}
    total = time.process_time() - start
    return {"floor": [floor.value, floor.se]} | found | {"total_cpu": round(total, 1)}


def keep(file: Path, line: Mapping[str, Any]) -> None:
    """Append a line, and say the main of it."""
    with file.open("a") as out:
        out.write(json.dumps(line) + "\n")
    told = {k: v for k, v in line.items() if k not in ("history", "heats", "errors", "ratios")}
    sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def results(out: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What was measured, by what makes a line the only one of its kind; the last one counts."""
    file = out / RESULTS
    rows = file.read_text().splitlines() if file.exists() else []
    return {key_of(line): line for line in map(json.loads, rows)}


def key_of(line: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes a line the only one of its kind."""
    return tuple(line[k] for k in KEY)


if __name__ == "__main__":
    main()

"""Memory and time of infer, calibrate and validate by the number of observations, and by workers.

``python -m benchmarks.observations`` (about three minutes of CPU), or one measurement of it as
``python -m benchmarks.observations grid 10000 --workers 2``. Each is made in a process of its own,
whose peak of resident memory is told, with that of torch and physgen alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CURVE = [
    *(("grid", n) for n in (100, 1_000, 10_000)),
    *(("planes", n) for n in (100, 400)),
    *(("smc", n) for n in (10, 20)),
    *(("npe", n) for n in (100, 1_000)),
    *(("draws", n) for n in (50, 100)),
    *(("calibrate", n) for n in (100, 300)),
    *(("validate", n) for n in (100, 300)),
]
"""What is measured, and of how many observations."""
SPEED = [("grid", 1_000, 1), ("grid", 1_000, 2)]
WHAT = {
    "grid": "infer, 1 parameter, grid",
    "planes": "infer, 2 parameters, grid",
    "smc": "infer, 4 parameters, smc",
    "npe": "infer by npe, 1 parameter, grid",
    "draws": "infer by npe, 4 parameters, its draws",
    "calibrate": "calibrate, 1 parameter",
    "validate": "validate, 1 parameter",
}
DATA = {"planes": "planes", "smc": "many", "draws": "many"}


def peak() -> float:
    """Most memory that this process has had, MiB; getrusage would tell its parent's, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def prepared(folder: Path) -> None:
    """Data sets and models, barely trained: only what they cost is looked at."""
    import physgen

    spins = physgen.simulate("ising", n=10_000, size=6, out=folder / "ising.h5", seed=1)
    physgen.fit("autoregressive", spins, epochs=1, out=folder / "ising.pt")
    planes = physgen.simulate("ising", n=2_000, size=6, theta="beta-xy", out=folder / "planes.h5")
    physgen.fit("autoregressive", planes, epochs=1, out=folder / "planes.pt")
    many = physgen.simulate("gaussian", n=2_000, parameters=4, out=folder / "many.h5")
    physgen.fit("flow", many, epochs=1, out=folder / "many.pt")
    for data, name in ((spins, "npe"), (many, "draws")):
        some = {"rows": slice(0, 1), "method": "npe", "epochs": 2}
        if data is spins:
            some["simulations"] = 2_000
        physgen.infer(data, data, network=folder / f"{name}.pt", **some)


def measured(folder: Path, what: str, n: int, workers: int) -> dict[str, Any]:
    """One measurement, in this process."""
    import physgen
    import physgen.checks.validation
    import physgen.posterior.blocks  # what all of them import

    data = folder / f"{DATA.get(what, 'ising')}.h5"
    model = folder / f"{what if what in ('npe', 'draws') else DATA.get(what, 'ising')}.pt"
    how: dict[str, Any] = {"rows": slice(0, n), "workers": workers, "out": folder / "out"}
    verb = getattr(physgen, what if what in ("calibrate", "validate") else "infer")
    how |= {"observations": n} if what == "validate" else {}
    before, wall, cpu = peak(), time.perf_counter(), time.process_time()
    verb(model, data, **how, force=True)
    theirs = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "base": before,
        "peak": peak(),
        "worker": theirs.ru_maxrss / 1024 if workers > 1 else 0.0,
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "workers_cpu": theirs.ru_utime + theirs.ru_stime,
    }


def apart(folder: Path, what: str, n: int, workers: int = 1) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.observations", what, str(n)]
    command += ["--workers", str(workers), "--folder", str(folder)]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(made.stdout.splitlines()[-1]))


def everything(folder: Path) -> None:
    """All measurements, as tables."""
    print("| | observations | peak, MiB | above torch and physgen alone | CPU s |")
    print("|---|---|---|---|---|")
    for what, n in CURVE:
        m = apart(folder, what, n)
        row = f"| {WHAT[what]} | {n:,} | {m['peak']:.0f} | {m['peak'] - m['base']:.0f} |"
        print(f"{row} {m['cpu']:.1f} |", flush=True)
    print("\nWorkers\n")
    print("| | workers | wall s | CPU s of the driver | of the workers | a worker's peak, MiB |")
    print("|---|---|---|---|---|---|")
    for what, n, workers in SPEED:
        m = apart(folder, what, n, workers)
        row = f"| {WHAT[what]}, {n:,} | {workers} | {m['wall']:.1f} | {m['cpu']:.1f} |"
        print(f"{row} {m['workers_cpu']:.1f} | {m['worker']:.0f} |", flush=True)


def main() -> None:
    """Measure all, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=WHAT)
    parser.add_argument("n", nargs="?", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as new:
        folder = given.folder or Path(new)
        if not (folder / "draws.pt").exists():
            folder.mkdir(exist_ok=True)
            prepared(folder)
        if given.what:
            print(json.dumps(measured(folder, given.what, given.n, given.workers)))
        else:
            everything(folder)


if __name__ == "__main__":
    main()

"""Bytes a second in and out of each format: `python -m benchmarks.formats [--megabytes 1000]`.

One dataset of a spectrum of 40 bins in float32 and 4 parameters is exported to each format and
read back, all rows in their order, beside plain use of the package that knows the format, which
reads the dataset by h5py and holds it in memory. Prints a Markdown table of megabytes of numbers
a second of CPU time, with wall time in parentheses, the ratio of CPU times, and the growth of the
process's peak memory in megabytes, ours and theirs. Each figure is of a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

PARAMETERS, BINS = 4, 40
BLOCK = 2**16
READ = 6250  # rows, about those of a shard of a dataset
FORMATS = ("npz", "csv", "parquet", "netcdf", "root", "h5")
NAMES = tuple("abcd")


def rows_of(megabytes: int) -> int:
    """Rows of so many megabytes."""
    return megabytes * 10**6 // (8 * PARAMETERS + 4 * BINS)


def make(path: Path, rows: int) -> None:
    """The dataset, of spectra that are counts on a slope, so that some bytes repeat."""
    import physgen
    from physgen.dataset import Meta, Rows, write
    from physgen.law import Law
    from simulators.prior import Box

    prior = Box(**dict.fromkeys(NAMES, (0.0, 1.0)))
    law = Law("elsewhere", prior, (BINS,))

    def shard(part: physgen.dataset.Shard) -> Rows:
        rng = np.random.default_rng(part.seed)
        theta = rng.random((len(part), PARAMETERS))
        x = rng.normal(theta @ rng.random((PARAMETERS, BINS)), 0.1)
        return Rows(x.astype(np.float32), theta)

    write(path, rows, Meta(law), shard)


# --- ours ---------------------------------------------------------------------------------------


def export(kind: str, source: Path, out: Path) -> None:
    """Write it by physgen, from its file."""
    import physgen

    physgen.export(source, format=kind, out=out)


def read(kind: str, out: Path) -> None:
    """Read all rows by physgen, in their order."""
    from physgen.formats.tables import open_table

    with open_table(out) as table:
        names = list(table.arrays)
        rows = table.arrays[names[0]].shape[0]
        for start in range(0, rows, READ):
            table.read(names, start, start + READ)


# --- the packages themselves --------------------------------------------------------------------


def plain_write(kind: str, source: Path, out: Path) -> None:
    """Write the dataset as one would by hand."""
    import h5py

    with h5py.File(source) as file:
        theta, x = file["theta"][:], file["x"][:]
    columns = {name: theta[:, d] for d, name in enumerate(NAMES)}
    if kind == "npz":
        with out.open("wb") as file:
            np.savez(file, theta=theta, x=x)
    elif kind == "csv":
        import pandas as pd

        flat = {f"x_{k}": x[:, k] for k in range(BINS)}
        pd.DataFrame(columns | flat).to_csv(out, index=False)
    elif kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        lists = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), BINS)
        pq.write_table(pa.table(columns | {"x": lists}), out)
    elif kind == "root":
        import uproot

        with uproot.recreate(out, compression=None) as file:
            tree = file.mktree("t", {**dict.fromkeys(NAMES, "f8"), "x": ("f4", (BINS,))})
            for start in range(0, len(x), BLOCK):
                part = slice(start, start + BLOCK)
                tree.extend({**{n: c[part] for n, c in columns.items()}, "x": x[part]})
    else:
        with h5py.File(out, "w") as file:
            packed = {"compression": "gzip", "compression_opts": 1} if kind == "h5" else {}
            for name, values in (("theta", theta), ("x", x)):
                file.create_dataset(name, data=values, chunks=(4096, values.shape[1]), **packed)


def plain_read(kind: str, out: Path) -> None:
    """Read all as one would by hand."""
    if kind == "npz":
        with np.load(out) as file:
            _ = file["theta"], file["x"]
    elif kind == "csv":
        import pandas as pd

        pd.read_csv(out).to_numpy()
    elif kind == "parquet":
        import pyarrow.parquet as pq

        found = pq.read_table(out, use_threads=False)
        found["x"].combine_chunks().flatten().to_numpy()
    elif kind == "root":
        import uproot

        with uproot.open(out) as file:
            tree = next(iter(file.values(filter_classname="TTree")))
            tree.arrays([*NAMES, "x"], library="np")
    else:
        import h5py

        with h5py.File(out) as file:
            for name in ("theta", "x"):
                for start in range(0, len(file[name]), READ):
                    _ = file[name][start : start + READ]


def load_all() -> None:
    """Import what is used, so that no figure counts it."""
    import awkward  # noqa: F401
    import h5py  # noqa: F401
    import pandas  # noqa: F401
    import pyarrow.csv
    import pyarrow.parquet
    import scipy.stats
    import uproot

    import physgen.verbs.export  # noqa: F401

    _ = pyarrow.csv, scipy.stats, uproot


def measured(what: str, kind: str, source: Path, out: Path) -> None:
    """Do one thing, and print CPU seconds, wall seconds and megabytes of memory."""
    load_all()
    run: Callable[[], None]
    if what == "plain_write":
        run = partial(plain_write, kind, source, out)
    elif what == "export":
        run = partial(export, kind, source, out)
    else:
        run = partial(read if what == "read" else plain_read, kind, out)
    begun = resource.getrusage(resource.RUSAGE_SELF)
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun.ru_maxrss
    print(cpu, wall, grown / 1024)


def in_process(*words: object) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and memory of one thing in a process of its own."""
    call = [sys.executable, "-m", "benchmarks.formats", "--one", *map(str, words)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    cpu, wall, grown = map(float, done.stdout.split())
    return cpu, wall, grown


def line_of(kind: str, source: Path, folder: Path, megabytes: int) -> str:
    """A line of the table."""
    ours, theirs = folder / f"ours.{kind}", folder / f"theirs.{kind}"
    cells = []
    for way, plain, mine in (("export", "plain_write", ours), ("read", "plain_read", theirs)):
        if way == "export" and kind == "h5":
            in_process(plain, kind, source, theirs)
            cells += ["", "", "", ""]
            continue
        other = in_process(plain, kind, source, theirs)
        own = in_process(way, kind, source, mine if way == "export" else theirs)
        cells += [
            f"{megabytes / own[0]:.0f} ({megabytes / own[1]:.0f})",
            f"{megabytes / other[0]:.0f} ({megabytes / other[1]:.0f})",
            f"{own[0] / other[0]:.2f}",
            f"{own[2]:.0f} / {other[2]:.0f}",
        ]
    size = (ours if ours.exists() else theirs).stat().st_size / 1e6
    for path in (ours, theirs):
        path.unlink(missing_ok=True)
    return f"| {kind} | {size:.0f} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--only", nargs="*", default=FORMATS)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        measured(asked.one[0], asked.one[1], Path(asked.one[2]), Path(asked.one[3]))
        return
    with TemporaryDirectory() as folder:
        source = Path(folder) / "data.h5"
        make(source, rows_of(asked.megabytes))
        print(
            f"{asked.megabytes} MB of numbers, {source.stat().st_size / 1e6:.0f} MB as a dataset"
        )
        print("| format | MB | export | plain | ratio | memory | read | plain | ratio | memory |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        for kind in asked.only:
            print(line_of(kind, source, Path(folder), asked.megabytes), flush=True)


if __name__ == "__main__":
    main()

"""A page of `physgen explore` in Chromium: its size, its start, and x as a slider moves.

    python -m benchmarks.explore model.pt […]

Of each checkpoint: seconds of CPU in which the page is made, its MB, and milliseconds from opening
it until 64 x are drawn, and of a draw after a slider has moved: of the CPU, all threads of the
browser together, and by the clock; medians of five. The browser is headless, 1,200 × 900 pixels;
it shares its cores with whatever else runs, so look at CPU time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import psutil

import physgen
from tests.chromium import Chromium

TIMES = 5
HEAD = (
    "model", "made: CPU s", "MB", "start: CPU ms", "wall ms", "64 x: CPU ms", "wall ms", "how",
)  # fmt: skip
READY = """new Promise((done) => {
  const { dataset } = document.body;
  const look = () => (dataset.ready ? done(Number(dataset.ready)) : setTimeout(look, 5));
  look();
})"""
MOVED = """(async () => {
  at[0] = (at[0] + 37) % stops;
  const begun = performance.now();
  await draw();
  return performance.now() - begun;
})()"""


def spent(browser: Chromium) -> float:
    """CPU time of all processes of a browser so far, in ms."""
    every = psutil.Process(browser._process.pid)
    times = [p.cpu_times() for p in (every, *every.children(recursive=True))]
    return 1000 * sum(t.user + t.system for t in times)


def measured(path: Path, browser: Chromium) -> tuple[list[float], str]:
    """What the head of the table says of one checkpoint."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        page, begun = Path(folder) / "page.html", time.process_time()
        made = physgen.explore(path, out=page)
        seconds = time.process_time() - begun
        for _ in range(TIMES):
            before = spent(browser)
            browser.open(page)
            start = browser.value(READY)
            opened = spent(browser)
            draw = browser.value(MOVED)
            rows.append((opened - before, start, spent(browser) - opened, draw))
        size = page.stat().st_size / 1e6
    how = "live" if "x drawn live" in made.summary else "grid"
    return [seconds, size, *map(statistics.median, zip(*rows, strict=True))], how


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    models = parser.parse_args().models
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    with tempfile.TemporaryDirectory() as folder, Chromium(folder) as browser:
        for path in models:
            (seconds, size, *times), how = measured(path, browser)
            told = " | ".join(f"{ms:.0f}" for ms in times)
            print(f"| {path.stem} | {seconds:.1f} | {size:.2f} | {told} | {how} |", flush=True)


if __name__ == "__main__":
    main()

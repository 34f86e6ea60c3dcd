"""From a fresh clone to an explored surrogate, as a new user: ``python benchmarks/first_hour.py``.

In an empty folder, with an environment of its own: the install (not editable), Python and shell of
the README as they stand, and what its links lead to next. CPU seconds of each step (wall).
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
MORE = """
physgen validate ar.pt test.h5 -o metrics.json
physgen report metrics.json -o report.html
physgen explore ar.pt -o explore.html --observation test.h5
"""


def steps() -> list[str]:
    """The commands, one after another."""
    page = (ROOT / "README.md").read_text()
    plain, python, shell = (
        re.findall(rf"^```{language}\n(.*?)^```", page, re.M | re.S)[-1]
        for language in ("sh", "python", "bash")
    )
    (extras,) = re.findall(r"--editable '\.(\[.*?\])'", plain)
    Path("first.py").write_text(python)
    return [
        f"git clone --quiet {ROOT} clone",
        f"{sys.executable} -m venv .venv",
        f"pip install --quiet --constraint clone/constraints.txt './clone{extras}'",
        "python first.py",
        *(line for line in (shell + MORE).splitlines() if line),
    ]


def main() -> None:
    """Print what each step takes, and the last line that it says."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        path = f"{folder}/.venv/bin:{os.environ['PATH']}"
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PATH": path}
        total = [0.0, 0.0]
        for step in steps():
            before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            done = subprocess.run(
                step, shell=True, env=env, check=True, stdout=subprocess.PIPE, text=True
            )
            wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            total = [total[0] + cpu, total[1] + wall]
            print(
                f"{step}\n    {cpu:.1f} ({wall:.0f})", *done.stdout.splitlines()[-1:], flush=True
            )
        print(f"all\n    {total[0]:.0f} ({total[1]:.0f})")


if __name__ == "__main__":
    main()

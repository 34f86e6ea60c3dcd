"""All figures of a GPU in one go, in under nine minutes: `python -m benchmarks.gpu --out DIR`.

Each section is a process of its own with a time of its own, so that one that fails, hangs or
breaks the device loses nothing of the others. Each figure is written when it is known, to
DIR/SECTION.json, and all of them as tables to DIR/gpu.md. One CPU core does the same beside.

Nothing but torch, numpy, scipy, numba, h5py, click, filelock, cloudpickle and pytest is needed,
and physgen may be a checkout: `PYTHONPATH=. python3 -m benchmarks.gpu --out figures`.

`--cpu-rehearsal` runs every section at toy size where there is no GPU, kernels in numba's
simulator of CUDA. `--only SECTION` runs some; `--minutes` is the time of all.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

Row = dict[str, Any]
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        device: where the networks are.
        sizes: sides of Ising lattices.
        layouts: cells of showers.
        rows: batch of a training step, there and on one CPU core.
        batches: rows that are drawn and scored at once.
        seconds: that a figure is measured for.
        limit: seconds after which a figure is given up.
        compiled: labels of what is also compiled.
        backend: of torch.compile.
        minutes: of each whole training.
        trained_on: rows, and how many are held against the exact law.
        lattices: sides, and how many at once, of the kernels.
        threads: of a block of the kernels.
        tests: what pytest runs.
        options: of families, smaller than the defaults.
    """

    device: str = "cuda"
    sizes: tuple[int, ...] = (32, 16, 64)
    layouts: tuple[str, ...] = ("mini", "calochallenge")
    rows: tuple[int, int] = (512, 16)
    batches: tuple[int, ...] = (1, 100, 10_000)
    seconds: float = 0.6
    limit: float = 8.0
    compiled: tuple[str, ...] = ("diffusion L=32", "cvae L=32", "cvae mini")
    backend: str = "inductor"
    minutes: float = 3.0
    trained_on: tuple[int, int] = (50_000, 2_000)
    lattices: tuple[tuple[int, ...], int] = ((64, 32, 16, 128), 10_000)
    threads: tuple[int, ...] = (256, 128, 512, 1024)
    tests: tuple[str, ...] = ("-m", "gpu", "--durations=9", "tests/test_gpu.py")
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


GPU = Scale(options={"rbm": {"ladder": 400}})
TOY = Scale(
    device="cpu", sizes=(4,), layouts=("mini",), rows=(8, 4), batches=(1, 3), seconds=0.05,
    limit=20.0, compiled=("diffusion L=4", "cvae L=4", "cvae mini"), backend="eager",
    minutes=0.02, trained_on=(200, 20),
    lattices=((2,), 2), threads=(4,), tests=("tests/test_progress.py",),
    options={
        "rbm": {"ladder": 10, "chains": 16},
        "diffusion": {"network": "small", "steps": 4},
        "cvae": {"channels": 8},
    },
)  # fmt: skip
SPINS = ("diffusion", "cvae", "autoregressive", "rbm", "gan")
CELLS = ("cvae", "diffusion")
SEEN = 512
"""Rows by which the map of x is fitted, and that are trained on."""


@dataclass(frozen=True)
class Case:
    """A family on a law."""

    label: str
    family: str
    law: str
    given: Mapping[str, Any]

    def model(self, scale: Scale, device: str) -> Any:
        """The surrogate, its map of x fitted, with θ (n, D) and x (n, *x_shape) to train on."""
        import torch

        from physgen.law import Law
        from physgen.registry import find

        law, rng = Law.of(self.law, dict(self.given)), np.random.default_rng(0)
        theta = law.prior.sample(SEEN, rng)
        spins = law.support == "spins"  # any will do for a time
        x = rng.integers(2, size=(SEEN, *law.x_shape), dtype=np.int8) * 2 - 1 if spins else None
        x = law.build().sample(theta, rng) if x is None else x
        cls = find("surrogates", self.family)
        model = cls.create(law, cls.Config(**scale.options.get(self.family, {}))).to(device)
        theta, x = (torch.from_numpy(a).to(device) for a in (theta, x))
        model.fit_transform(x, theta)
        return model, theta, x


def cases(scale: Scale) -> Iterator[Case]:
    """What is measured, the most telling first."""
    lattices = [
        Case(f"{family} L={size}", family, "ising", {"size": size})
        for size, family in product(scale.sizes, SPINS)
    ]
    showers = [
        Case(f"{family} {layout}", family, "shower-voxel", {"layout": layout})
        for layout, family in product(scale.layouts, CELLS)
    ]
    first = len(SPINS)
    yield from [*lattices[:first], *showers, *lattices[first:]]


# --- measuring ----------------------------------------------------------------------------------


class Overrun(Exception):
    """A figure takes too long."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Give up after some seconds.

    Raises:
        Overrun: they are over.
    """

    def stop(signum: int, frame: Any) -> None:
        raise Overrun(f"cut after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def tried(figure: Callable[[], Any], limit: float) -> Any:
    """A figure, or in a few words why there is none."""
    try:
        with within(limit):
            return figure()
    except Overrun as error:
        return str(error)
    except Exception as error:  # whatever breaks is a figure too
        traceback.print_exc()
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160]


def settled(device: str) -> None:
    """Wait until the device has done what it was given."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def rate(run: Callable[[], object], seconds: float, device: str) -> float:
    """Runs a second, after one that is not counted."""
    run()
    settled(device)
    start, runs = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        run()
        settled(device)
        runs += 1
    return runs / (time.perf_counter() - start)


class Enough(Exception):
    """Steps have been counted for long enough."""


def steps_a_second(
    made: Any, rows: int, seconds: float, device: str, warm: int = 3, **options: Any
) -> float:
    """Steps of the training loop a second, as `fit` takes them."""
    from physgen.training import InMemory, Trainer, Training

    model, theta, x = made
    times = max(1, -(-rows // len(x)))
    data = InMemory(theta.repeat(times, 1), x.repeat(times, *[1] * (x.ndim - 1)))
    few = InMemory(theta[:2], x[:2])
    done, start = 0, 0.0

    def count(progress: float) -> None:
        nonlocal done, start
        done += 1
        if done == warm:
            settled(device)
            start = time.perf_counter()
        if done > warm and time.perf_counter() - start > seconds:
            settled(device)
            raise Enough

    config = Training(epochs=100_000, batch_size=rows, **options)
    try:
        for _ in Trainer(model, data, few, config, on_batch=count):
            pass
    except Enough:
        pass
    return (done - warm) / (time.perf_counter() - start)


def peak_mib(device: str) -> float:
    """Most memory of tensors since it was last asked, MiB; of a CPU, the process's."""
    import torch

    if device != "cuda":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = torch.cuda.max_memory_allocated() / 2**20
    torch.cuda.reset_peak_memory_stats()
    return found


# --- sections -----------------------------------------------------------------------------------


def machine(scale: Scale, out: Path) -> Iterator[Row]:
    """What it is measured on."""
    import torch

    from physgen import __version__

    found = {"python": platform.python_version(), "torch": torch.__version__}
    if scale.device == "cuda":
        told = torch.cuda.get_device_properties(0)
        found |= {"device": told.name, "memory, GiB": round(told.total_memory / 2**30, 1)}
        found |= {"multiprocessors": told.multi_processor_count}
    else:
        found |= {"device": f"rehearsal on a CPU: {platform.machine()}"}
    yield {**found, "cores": os.cpu_count(), "physgen": __version__}


def tests(scale: Scale, out: Path) -> Iterator[Row]:
    """The tests that need a GPU."""
    path = out / "tests.xml"
    words = ["-q", "-W", "default", "-p", "no:cacheprovider", f"--junit-xml={path}"]
    if scale.device == "cuda" and find_spec("xdist"):
        words += ["-n", "6"]
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pytest", *words, *scale.tests], cwd=ROOT, check=False)
    yield of_junit(path) | {"seconds": round(time.perf_counter() - start, 1)}


def of_junit(path: Path) -> Row:
    """How many tests there were, and which failed."""
    suite = next(ElementTree.parse(path).getroot().iter("testsuite"))
    failed = [
        f"{case.get('name')}: {(found.get('message') or '').splitlines()[0][:120]}"
        for case in suite.iter("testcase")
        for found in [*case.findall("failure"), *case.findall("error")]
    ]
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    return counts | {"failed": "; ".join(failed)}


def training(scale: Scale, out: Path) -> Iterator[Row]:
    """Training steps a second, and what memory they take."""
    for case in cases(scale):
        found: Row = {"case": case.label, "rows a step": scale.rows[0]}
        for precision in ("fp32", "bf16"):
            found[f"{precision}, steps/s"] = stepped(case, scale, precision=precision)
        yield found | {"peak, MiB": peak_mib(scale.device)}


def compiled(scale: Scale, out: Path) -> Iterator[Row]:
    """The same with a compiled loss, and the seconds that it takes to compile."""
    import torch

    torch.compile = functools.partial(torch.compile, backend=scale.backend)
    for case in cases(scale):
        if case.label in scale.compiled:
            start = time.perf_counter()
            told = stepped(case, scale, 5 * scale.limit, precision="bf16", compile=True)
            seconds = time.perf_counter() - start
            yield {
                "case": case.label,
                "bf16 compiled, steps/s": told,
                "with compiling, s": seconds,
            }


def stepped(case: Case, scale: Scale, limit: float | None = None, **options: Any) -> Any:
    """Training steps a second of a case."""

    def figure() -> float:
        made = case.model(scale, scale.device)
        return steps_a_second(made, scale.rows[0], scale.seconds, scale.device, **options)

    return tried(figure, limit or scale.limit)


def cpu(scale: Scale, out: Path) -> Iterator[Row]:
    """Training rows, samples and log p a second on one CPU core, beside all else."""
    import torch

    torch.set_num_threads(1)
    rows = scale.rows[1]
    for case in cases(scale):
        made = tried(lambda case=case: case.model(scale, "cpu"), scale.limit)
        if isinstance(made, str):
            yield {"case": case.label, "rows/s": made}
            continue

        def steps(made=made):
            return rows * steps_a_second(made, rows, scale.seconds, "cpu", warm=1)

        found: Row = {"case": case.label, "rows a step": rows, "rows/s": tried(steps, scale.limit)}
        model, theta, x = made
        yield found | drawn_and_scored(model, theta, x, (1, rows), scale, "cpu")


def sampling(scale: Scale, out: Path) -> Iterator[Row]:
    """Samples and log p a second, by how many at once."""
    for case in cases(scale):
        made = tried(lambda case=case: case.model(scale, scale.device), scale.limit)
        if isinstance(made, str):
            yield {"case": case.label, "samples/s": made}
            continue
        model, theta, x = made
        found: Row = {"case": case.label}
        yield found | drawn_and_scored(model, theta, x, scale.batches, scale, scale.device)


def drawn_and_scored(
    model: Any, theta: Any, x: Any, batches: Iterable[int], scale: Scale, device: str
) -> Row:
    """Samples and log p a second at each size of a batch, and the memory of all of it."""
    import torch

    from physgen.surrogates.base import Surrogate

    model.eval()
    generator, found = torch.Generator(device).manual_seed(0), {}
    if type(model).finalize is not Surrogate.finalize:
        found["log Z, s"] = tried(lambda: finalized(model, device), scale.limit)
    for n in batches:
        times = -(-n // len(x))
        t, y = theta.repeat(times, 1)[:n], x.repeat(times, *[1] * (x.ndim - 1))[:n]

        def drawn(t=t, n=n):
            return n * rate(lambda: model.sample(t, generator), scale.seconds / 3, device)

        def scored(t=t, y=y, n=n):
            return n * rate(lambda: model.log_prob(t, y, draws=1), scale.seconds / 3, device)

        found[f"samples/s at {n}"] = tried(drawn, scale.limit)
        if model.likelihood != "none":
            found[f"log p/s at {n}"] = tried(scored, scale.limit)
    return found | {"peak, MiB": peak_mib(device)}


def finalized(model: Any, device: str) -> float:
    """Seconds of what follows a training: an RBM's log Z."""
    start = time.perf_counter()
    model.finalize()
    settled(device)
    return time.perf_counter() - start


def kernels(scale: Scale, out: Path) -> Iterator[Row]:
    """Part of the time of training steps in which kernels run, and the longest of them."""
    from torch.profiler import ProfilerActivity, profile

    cuda = scale.device == "cuda"
    watched = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    for case in cases(scale):
        if not case.label.endswith((f"L={scale.sizes[0]}", scale.layouts[-1])):
            continue

        def figure(case=case):
            made = case.model(scale, scale.device)
            steps_a_second(made, scale.rows[0], 0.1, scale.device)  # warm
            with profile(activities=watched) as found:
                start = time.perf_counter()
                steps_a_second(made, scale.rows[0], 0.2, scale.device)
                wall = time.perf_counter() - start
            return busy(found.events(), "CUDA" if cuda else "CPU", wall)

        told = tried(figure, scale.limit)
        yield {"case": case.label} | (told if isinstance(told, dict) else {"busy": told})


def busy(events: Iterable[Any], device: str, wall: float) -> Row:
    """Part of the wall time in which at least one kernel runs, their number, and the longest."""
    found = [
        (e.time_range.start, e.time_range.end, e.name)
        for e in events
        if e.device_type.name == device
        and not getattr(e, "is_user_annotation", False)
        and not e.name.startswith(("Optimizer.", "ProfilerStep"))
    ]
    total, last, longest = 0.0, 0.0, {}
    for start, end, name in sorted(found):
        total += max(0.0, end - max(start, last))
        last = max(last, end)
        longest[name] = longest.get(name, 0.0) + end - start
    top = sorted(longest, key=longest.__getitem__)[-3:][::-1]
    return {
        "busy": total * 1e-6 / wall,
        "kernels/s": len(found) / wall,
        "longest": "; ".join(name[:60].replace("|", "/") for name in top),
    }


def ising(scale: Scale, out: Path) -> Iterator[Row]:
    """Flips of Ising spins a nanosecond, each lattice at a temperature of its own."""
    from simulators.ising import Ising, cuda

    (first, *others), n = scale.lattices
    runs = [(first, t) for t in scale.threads] + [(size, scale.threads[0]) for size in others]
    for sampler, (size, threads) in product(cuda.SAMPLERS, runs):
        law = Ising(size, sampler=sampler)
        theta = np.random.default_rng(1).uniform(0.1, 0.7, (n, 1))
        found: Row = {"sampler": sampler, "L": size, "lattices": n, "threads": threads}

        def figure(law=law, theta=theta, threads=threads):
            return flips_a_nanosecond(law, law.couplings(theta), threads, scale.seconds / 2)

        found["flips/ns"] = tried(figure, 2 * scale.limit)
        if threads == scale.threads[0]:
            found |= {"as on the CPU": tried(lambda law=law: same_bytes(law, n), scale.limit)}
            found |= {"verify": tried(lambda law=law: verified(law, n), 2 * scale.limit)}
        yield found


def flips_a_nanosecond(law: Any, couplings: Any, threads: int, seconds: float) -> float:
    """Of twice as many sweeps, what the second half takes: without copies and compilation."""
    from simulators.ising import cuda

    key = np.array([1, 2], np.uint64)

    def timed(sweeps: int) -> float:
        start = time.perf_counter()
        cuda.draw(law.sampler_used, couplings, law.x_shape, sweeps, key, threads)
        return time.perf_counter() - start

    timed(1)
    sweeps = 2
    while (once := timed(sweeps)) < seconds:
        sweeps *= 2
    return len(couplings) * law.sites * sweeps * 1e-9 / max(timed(2 * sweeps) - once, 1e-9)


def same_bytes(law: Any, n: int) -> bool:
    """Whether the device gives the lattices that the CPU gives."""
    from dataclasses import replace

    few = replace(law, sweeps=3)
    theta = few.prior.sample(min(n, 40), np.random.default_rng(2))
    there, here = (one.sample(theta, np.random.default_rng(3)) for one in (few.on("cuda"), few))
    return bool(np.array_equal(there, here))


def verified(law: Any, n: int) -> str:
    """The p-values of the exact law, of lattices of the default number of sweeps."""
    theta = law.prior.sample(min(n, 2000), np.random.default_rng(4))
    x = law.on("cuda").sample(theta, np.random.default_rng(5))
    return ", ".join(f"{v.name} {v.p_value:.2g}" for v in law.verify(theta, x))


def masked(scale: Scale, out: Path) -> Iterator[Row]:
    """A training of the masked diffusion, and its gap to the exact law."""
    yield from whole_training(scale, "ising", {"size": scale.sizes[0]}, "diffusion", {}, out)


def voxel(scale: Scale, out: Path) -> Iterator[Row]:
    """A training of showers of cells, and its gap to the exact law."""
    given = {"batch_size": 1024, "learning_rate": 5e-3}
    yield from whole_training(scale, "shower-voxel", {"layout": "mini"}, "diffusion", given, out)


def whole_training(
    scale: Scale, name: str, of_law: Row, family: str, given: Row, out: Path
) -> Iterator[Row]:
    """What a user does: simulate, fit, and look how far log p is from the exact one."""
    import physgen

    rows, held = scale.trained_on
    options = {"batch_size": 512 if scale.device == "cuda" else 32, **given}
    options |= scale.options.get(family, {})
    start = time.perf_counter()
    data = physgen.simulate(name, n=rows, seed=1, **of_law)
    test = physgen.simulate(name, n=held, seed=2, **of_law).read()
    simulated = time.perf_counter() - start
    model = physgen.fit(
        family, data, seed=1, device=scale.device, max_minutes=scale.minutes, epochs=100_000,
        out=out / f"{name}.pt", force=True, **options,
    )  # fmt: skip
    found = {"case": f"{family}, {name} {of_law}", "rows": rows, "simulate, s": simulated}
    found |= {"fit, s": time.perf_counter() - start - simulated}
    yield found | {"epochs": len(model.info.get("history", ()))}
    exact = data.law.build().log_prob(test.theta, test.x)
    gap = exact - model.log_prob(test.theta, test.x, draws=8).numpy()
    found = {"case": str(model.likelihood), "rows": held, "gap, nats": float(gap.mean())}
    found |= {"±": float(gap.std(ddof=1) / np.sqrt(held)), "entropy, nats": -float(exact.mean())}
    yield found


# --- all of it ----------------------------------------------------------------------------------

Section = Callable[[Scale, Path], Iterator[Row]]
FIRST: dict[Section, float] = {machine: 30, cpu: 400}
"""Sections that begin at once, the longest seconds of each."""
SECTIONS: dict[Section, float] = {
    ising: 45, tests: 60, training: 52, sampling: 48, kernels: 20, compiled: 35,
}  # fmt: skip
"""Sections that have the device for themselves, one after another."""
LAST: dict[Section, float] = {masked: 262, voxel: 262}
"""Sections that share the device; their time is kept for them."""
ALL = {section.__name__: section for section in (*FIRST, *SECTIONS, *LAST)}


def written(path: Path, text: str) -> None:
    """Write a file beside its place, and put it there."""
    beside = path.with_suffix(".part")
    beside.write_text(text)
    beside.replace(path)


def run_section(name: str, scale: Scale, out: Path) -> None:
    """One section in this process: its rows, written as they come."""
    rows, start, error = [], time.perf_counter(), ""

    def keep() -> None:
        seconds = round(time.perf_counter() - start, 1)
        found = {"rows": rows, "seconds": seconds, "error": error}
        written(out / f"{name}.json", json.dumps(found, indent=1, default=str))

    try:
        for row in ALL[name](scale, out):
            rows.append(row)
            keep()
    except Exception as failure:  # told in the table
        traceback.print_exc()
        error = f"{type(failure).__name__}: {failure}"[:300]
    keep()


def begun(name: str, out: Path, rehearsal: bool) -> subprocess.Popen[bytes]:
    """A section in a process of its own."""
    (out / f"{name}.json").unlink(missing_ok=True)
    words = [sys.executable, "-m", "benchmarks.gpu", "--section", name, "--out", str(out)]
    words += ["--cpu-rehearsal"] if rehearsal else []
    simulated = {"NUMBA_ENABLE_CUDASIM": "1"} if rehearsal and name == "ising" else {}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, **simulated, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    with (out / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            words, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True
        )


def ended(process: subprocess.Popen[bytes], seconds: float) -> str:
    """Wait for a section; what it died of."""
    try:
        code = process.wait(max(seconds, 0.1))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"cut after {seconds:.0f} s"
    return f"ended with {code}" if code else ""


def run_all(names: list[str], out: Path, rehearsal: bool, minutes: float) -> None:
    """All sections, within a time; the table after each. A CPU that is shared has more of it."""
    died, slack = {}, 5 if rehearsal else 1
    end = time.monotonic() + 60 * minutes * slack

    def chosen(group: Mapping[Section, float]) -> dict[str, float]:
        return {s.__name__: slack * t for s, t in group.items() if s.__name__ in names}

    first, last = chosen(FIRST), chosen(LAST)

    def left(seconds: float, kept: float = 0.0) -> float:
        return min(seconds, end - kept - time.monotonic())

    reserve = max(last.values(), default=0.0)
    beside = {name: begun(name, out, rehearsal) for name in first}
    for name, seconds in chosen(SECTIONS).items():
        died[name] = ended(begun(name, out, rehearsal), left(seconds, reserve))
        say(out, died)
    for name, process in {name: begun(name, out, rehearsal) for name in last}.items():
        died[name] = ended(process, left(last[name]))
        say(out, died)
    for name, process in beside.items():
        died[name] = ended(process, left(first[name]))
    print(say(out, died))


def say(out: Path, died: Mapping[str, str]) -> str:
    """All tables, written and returned."""
    parts = []
    for name in ALL:
        path = out / f"{name}.json"
        found = json.loads(path.read_text()) if path.exists() else {"rows": [], "seconds": 0}
        if name in died or found["rows"]:
            troubles = "; ".join(filter(None, (found.get("error"), died.get(name, ""))))
            heading = f"## {name}: {(ALL[name].__doc__ or '').rstrip('.')}"
            parts.append(f"{heading} ({found['seconds']} s){': ' + troubles if troubles else ''}")
            parts.append(table(found["rows"]))
    text = "\n\n".join(filter(None, parts)) + "\n"
    written(out / "gpu.md", text)
    return text


def table(rows: list[Row]) -> str:
    """Rows as a Markdown table."""
    heads = list(dict.fromkeys(name for row in rows for name in row))
    lines = [[in_words(row.get(name, "–")) for name in heads] for row in rows]
    body = [f"| {' | '.join(line)} |" for line in [heads, ["---"] * len(heads), *lines]]
    return "\n".join(body) if rows else ""


def in_words(value: Any) -> str:
    """A number with four digits, or text."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cpu-rehearsal", action="store_true")
    parser.add_argument("--minutes", type=float, default=8.9)
    parser.add_argument("--only", nargs="+", choices=ALL, default=list(ALL))
    parser.add_argument("--section", choices=ALL, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.section:
        run_section(given.section, TOY if given.cpu_rehearsal else GPU, given.out.resolve())
    else:
        run_all(given.only, given.out.resolve(), given.cpu_rehearsal, given.minutes)


if __name__ == "__main__":
    main()

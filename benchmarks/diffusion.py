"""What a diffusion sample costs: evaluations, size of the lattice, size of the batch, memory.

The network's weights do not matter for its speed: they are random. One table for each kernel:
samples a second at L = 8, 16 and 32 and at 8 to 128 evaluations, for 1, 100 and 10,000 lattices at
once (fewer on a CPU: `--most`), the part of the time that is spent in the network, and on CUDA
the memory; then one training step, plain and compiled.

    python benchmarks/diffusion.py [--device cuda] [--network medium] [--compile]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from physgen.law import Law
from physgen.runtime.device import threads
from physgen.surrogates.diffusion import Diffusion, DiffusionConfig

SIZES, EVALUATIONS, BATCHES = (8, 16, 32), (8, 16, 32, 64, 128), (1, 100, 10_000)


def clock(device: torch.device) -> float:
    """Seconds of CPU time, or of wall time once the GPU is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def median_of(work: Callable[[], object], device: torch.device, times: int = 3) -> float:
    """Median seconds of a call, after one that is not counted."""
    work()
    taken = []
    for _ in range(times):
        start = clock(device)
        work()
        taken.append(clock(device) - start)
    return sorted(taken)[times // 2]


class Stopwatch:
    """The time spent in a module's forward passes."""

    def __init__(self, module: torch.nn.Module, device: torch.device) -> None:
        self.seconds, self.device = 0.0, device
        self.hooks = [
            module.register_forward_pre_hook(self._start),
            module.register_forward_hook(self._stop),
        ]

    def _start(self, *_: object) -> None:
        self.began = clock(self.device)

    def _stop(self, *_: object) -> None:
        self.seconds += clock(self.device) - self.began

    def remove(self) -> None:
        """Stop watching."""
        for hook in self.hooks:
            hook.remove()


def surrogate(kernel: str, size: int, options: argparse.Namespace) -> Diffusion:
    """A surrogate with random weights."""
    config = DiffusionConfig(kernel=kernel, network=options.network)
    return Diffusion.create(Law.of("ising", {"size": size}), config).to(options.device).eval()


def sampling(kernel: str, size: int, options: argparse.Namespace) -> None:
    """Rows of the table: one for each number of evaluations and lattices at once."""
    device, model = torch.device(options.device), surrogate(kernel, size, options)
    net = model.kernel.net if kernel == "masked" else model.kernel.denoiser.net
    ways = [model.using(steps=n) for n in options.evaluations]
    for evaluations, few in {way.kernel.evaluations(way.config): way for way in ways}.items():
        for batch in [b for b in BATCHES if b <= options.most]:
            theta = torch.full((batch, 1), 0.44, dtype=torch.float64)
            generator = torch.Generator(device).manual_seed(0)

            def draw(few=few, theta=theta, generator=generator) -> None:
                few.sample(theta, generator)

            seconds = median_of(draw, device)
            watch, start = Stopwatch(net, device), clock(device)
            draw()
            part = watch.seconds / (clock(device) - start)
            watch.remove()
            memory = ""
            if device.type == "cuda":
                memory = f"{torch.cuda.max_memory_allocated() / 2**30:.2f}"
                torch.cuda.reset_peak_memory_stats()
            print(
                f"| {kernel} | {size} | {evaluations} | {batch} | {batch / seconds:.1f} | "
                f"{1e3 * seconds / batch:.3g} | {part:.2f} | {memory} |",
                flush=True,
            )


def training(kernel: str, size: int, options: argparse.Namespace, rows: int = 128) -> None:
    """One step, plain and, if asked for, compiled."""
    device = torch.device(options.device)
    generator = torch.Generator(device).manual_seed(0)
    theta = torch.full((rows, 1), 0.44, dtype=torch.float64, device=device)
    for compiled in (False, True) if options.compile else (False,):
        model = surrogate(kernel, size, options).train()
        x = model.using(steps=8).sample(theta, generator)
        loss = torch.compile(model.loss) if compiled else model.loss

        def step(loss=loss, x=x) -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                value = loss(theta, x, generator).mean()
            value.backward()

        seconds = median_of(step, device, 5)
        print(f"| {kernel} | {size} | {rows} | {compiled} | {1e3 * seconds:.1f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--network", default="small", choices=["small", "medium", "large"])
    parser.add_argument("--most", type=int, default=100, help="lattices at once, at most")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="L")
    parser.add_argument("--evaluations", type=int, nargs="+", default=EVALUATIONS)
    parser.add_argument("--compile", action="store_true", help="torch.compile a training step too")
    options = parser.parse_args()
    with threads():
        print("| kernel | L | evaluations | at once | samples/s | ms a sample | in the network | "
              "GiB |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
        for kernel in ("masked", "gaussian"):
            for size in options.sizes:
                sampling(kernel, size, options)
        print("\n| kernel | L | rows | compiled | ms a training step |\n|---|---|---|---|---|")
        for kernel in ("masked", "gaussian"):
            for size in options.sizes:
                training(kernel, size, options)


if __name__ == "__main__":
    main()

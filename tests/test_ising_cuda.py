"""The GPU's samplers give the CPU's bytes: in numba's simulator of CUDA, and typed for a GPU.

The simulator has to be chosen before numba is imported: hence processes of their own.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import physgen
from physgen.errors import UsageError
from simulators import Box
from simulators.base import on_device
from simulators.gaussian import LinearGaussian
from simulators.ising import Ising

ROOT = Path(__file__).parents[1]
SIMULATED = """
import numpy as np
from simulators.ising import Ising, cuda, sampling

rng = np.random.default_rng(0)
key = rng.integers(0, 1 << 64, size=2, dtype=np.uint64)


def compare(sampler, shape, n, sweeps, threads, h):
    couplings = rng.uniform(0, 0.7, (n, 3)) * [1, 1, h]
    couplings[::2, 2] = 0
    expected = sampling.draw(sampler, couplings, shape, sweeps, key)
    found = cuda.draw(sampler, couplings, shape, sweeps, key, threads)
    assert np.array_equal(found, expected), (sampler, shape, threads)
    assert abs(expected.mean()) < 0.95


for shape, n, threads in (((4, 4), 37, 4), ((2, 6), 32, 5), ((6, 2), 3, 16)):
    compare("checkerboard", shape, n, 4, threads, 0.3)
for shape, threads in (((4, 4), 3), ((3, 5), 8), ((2, 2), 5), ((4, 7), 64)):
    compare("swendsen-wang", shape, 7, 3, threads, -0.3)
cuda.BLOCKS = 2  # of seven lattices: a block has one after another
compare("swendsen-wang", (3, 4), 7, 3, 4, 0.3)

theta = np.full((40, 1), 0.4)
for sampler in cuda.SAMPLERS:
    ising = Ising(4, sampler=sampler, sweeps=2)
    cuda.THREADS = 4
    there = ising.on("cuda")
    assert ising.device == "cpu" and there.device == "cuda" and there == ising
    found = [s.sample(theta[:5], np.random.default_rng(3)) for s in (ising, there)]
    assert np.array_equal(*found)
    assert there.sample(theta[:0], np.random.default_rng(3)).shape == (0, 4, 4)
"""
LAWS = """
import itertools
import numpy as np
from scipy import stats
from simulators.ising import Ising

shape, n = (2, 4), 2000
ising = Ising(*shape, theta="beta-h", sampler=SAMPLER, sweeps=SWEEPS)
theta = np.tile([0.35, 0.2], (n, 1))
x = ising.on("cuda").sample(theta, np.random.default_rng(1))
states = np.array(list(itertools.product((-1, 1), repeat=8)), np.int8).reshape(-1, *shape)
p = np.exp(ising.log_prob(theta[:256], states))
code = (x.reshape(n, 8) > 0) @ (1 << np.arange(8)[::-1])
count, often = np.bincount(code, minlength=256), p * n >= 5
count, p = np.append(count[often], count[~often].sum()), np.append(p[often], p[~often].sum())
print(stats.chisquare(count, n * p).pvalue)
"""
TYPED = """
import sys
import numba.cuda.dispatcher as dispatcher
from numba import types
from numba.cuda.compiler import compile_cuda
from numba.cuda.cudadrv import nvvm


class Compiler:
    data_layout = (
        "e-p:64:64:64-i1:8:8-i8:8:8-i16:16:16-i32:32:32-i64:64:64-i128:128:128-f32:32:32-f64:64:64"
    )

    def get_ir_version(self):
        return 2, 0, 3, 1


class Device:
    compute_capability = 9, 0


try:
    nvvm.NVVM, dispatcher.get_current_device = Compiler, Device
    dispatcher.CUDADispatcher.compile_device
except AttributeError:
    sys.exit(77)
from simulators.ising import cuda


def arrays(*kinds):
    return [types.Array(getattr(types, kind[:-1]), int(kind[-1]), "C") for kind in kinds]


kernels = {
    cuda.checkerboard: arrays("int82", "uint322", "uint322", "uint321", "int321", "uint321"),
    cuda.swendsen_wang: arrays(
        "int82", "float642", "uint642", "uint642", "int323", "int322", "int321"
    ),
}
for kernel, kinds in kernels.items():
    code = compile_cuda(kernel.py_func, types.void, (*kinds, types.int64), cc=(9, 0)).library
    print(len(code.get_llvm_str()))
WRONG
"""


class Elsewhere:
    """It can draw on another device, where all is 1 more, which no right one would do."""

    prior = Box(a=(0.0, 1.0), b=(0.0, 1.0))
    x_shape = (3,)
    device = "cpu"

    def on(self, device):
        made = Elsewhere()
        made.device = device
        return made

    def sample(self, theta, rng):
        noise = rng.normal(size=(len(theta), 3))
        return theta[:, :1] + theta[:, 1:] * noise + (self.device == "cuda")


@pytest.mark.parametrize("fix", [None, {"b": 0.5}])
def test_a_simulator_draws_on_the_device_that_is_asked_for(fix):
    here, there = (
        physgen.simulate(Elsewhere, n=9, fix=fix, device=device) for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(there.read().x, here.read().x + 1, atol=1e-5)
    assert there.law == here.law
    assert "device" not in str(there.meta.provenance)


def run(code, simulator=True):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    env |= {"NUMBA_ENABLE_CUDASIM": "1"} if simulator else {}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=env, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_kernels_give_the_bytes_of_the_cpu():
    done = run(SIMULATED)
    assert not done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "sweeps", "right"),
    [("checkerboard", 25, True), ("checkerboard", 1, False)],
)
def test_the_kernels_draw_from_the_law(sampler, sweeps, right):
    code = LAWS.replace("SAMPLER", repr(sampler)).replace("SWEEPS", str(sweeps))
    done = run("import simulators.ising.cuda as c; c.THREADS = 2\n" + code)
    assert not done.returncode, done.stderr
    assert (float(done.stdout) > 1e-3) == right, done.stdout


@pytest.mark.slow
def test_the_kernels_have_types_that_numba_compiles_for_a_gpu():
    """The simulator takes what the compiler does not, such as min of two numbers."""
    done = run(TYPED.replace("WRONG", ""), simulator=False)
    if done.returncode == 77:
        pytest.skip("numba's compiler is not where it was")
    assert not done.returncode, done.stderr
    assert len(done.stdout.split()) == 2
    wrong = "compile_cuda(lambda x: x.nothing(), types.void, arrays('int82'), cc=(9, 0))"
    assert "TypingError" in run(TYPED.replace("WRONG", wrong), simulator=False).stderr


def test_without_a_gpu_that_is_said_in_one_line(tmp_path):
    ising = Ising(4, sampler="checkerboard")
    with pytest.raises(ValueError, match="device cuda: no GPU that numba can use"):
        ising.on("cuda")
    with pytest.raises(UsageError, match="ising: device cuda: no GPU that numba can use"):
        physgen.simulate("ising", size=4, sampler="checkerboard", n=5, device="cuda")


def test_what_draws_on_the_cpu_only_is_refused():
    with pytest.raises(ValueError, match=r"sampler perfect is of the CPU; add --sampler"):
        Ising(4).on("cuda")
    with pytest.raises(ValueError, match="expected cpu or cuda, got 'tpu'"):
        Ising(4, sampler="checkerboard").on("tpu")
    with pytest.raises(UsageError, match="gaussian: device cuda: it draws on the CPU only"):
        physgen.simulate("gaussian", n=5, device="cuda")
    assert on_device(Ising(4), "cpu") == Ising(4)
    assert not hasattr(LinearGaussian(), "on")

import gc
import hashlib
import os
import sys

import pytest
import torch
from filelock import FileLock

gc.disable()  # until all tests are imported: nothing that they import is ever garbage
sys.dont_write_bytecode = False  # each worker and subprocess would compile all of it again
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="device on which surrogates are tested")
    parser.addoption("--part", metavar="k/n", help="of n parts of the tests the k-th alone")


LONG = ("test_every_block_of_the_readme_runs", "test_examples_run_and_are_short")
"""Tests that take minutes begin first, so that no worker waits for them at the end."""


def part_of(name, n):
    """In which of n parts a test is, 1 … n: by its name alone, whatever others there are."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % n + 1


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: not item.name.startswith(LONG))
    if part := config.getoption("part"):
        k, _, n = part.partition("/")
        if not (k.isdigit() and n.isdigit() and 1 <= int(k) <= int(n)):
            raise pytest.UsageError(f"--part: expected k/n with 1 ≤ k ≤ n, got {part!r}")
        others = [item for item in items if part_of(item.nodeid, int(n)) != int(k)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def pytest_collection_finish():
    """Look no more through what was imported: half a second, each time that much is new."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def device(request):
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """A folder of files that take long to make, made once for all workers.

    Nobody may write into it: what a test makes goes to its tmp_path.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def folder(name, make):
        path = shared / f"shared-{name}"
        with FileLock(shared / f"{name}.lock"):
            if not path.exists():
                made = tmp_path_factory.mktemp(name)
                make(made)
                made.rename(path)
        return path

    return folder


@pytest.fixture
def quick(monkeypatch):
    """Classifiers that hardly learn: for tests of what is done with what they say."""
    monkeypatch.setattr("physgen.checks.two_sample.c2st.STEPS", 3)
    monkeypatch.setattr("physgen.checks.two_sample.frechet.FLOPS", 0)
    monkeypatch.setattr("physgen.checks.calibration.lc2st.TRIALS", 5)


@pytest.fixture
def blank(monkeypatch):
    """Pages without ink, for tests of words: quick."""
    sheet = pytest.importorskip("physgen.reporting.sheet")
    monkeypatch.setattr(sheet, "svg", lambda draw, size: b"<svg/>")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Two workers share two cores: threads that wait for each other would take far longer."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def torch_state():
    """No test may depend on, or change, torch's global random numbers, threads or dtype."""
    before = torch.random.get_rng_state(), torch.get_default_dtype()
    yield
    assert torch.equal(torch.random.get_rng_state(), before[0]), "torch's global RNG was used"
    assert torch.get_default_dtype() == before[1]

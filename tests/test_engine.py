"""Where tasks run has no effect on what they make; what goes wrong there is told in one line."""

import json
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

import physgen
from physgen import errors
from physgen.dataset import Meta, write
from physgen.dataset.simulated import Simulate
from physgen.errors import Interrupted, PhysgenError, UsageError
from physgen.law import Law
from physgen.registry import find
from physgen.runtime import engine as engines
from physgen.runtime import worker
from physgen.runtime.device import device_of_worker
from physgen.runtime.engine import engine
from physgen.verbs.sample import device_here

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import it


@pytest.fixture(autouse=True)
def one_time(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")


@pytest.fixture(autouse=True)
def fresh_worker(monkeypatch):
    """This process has no task yet."""
    monkeypatch.setattr(worker, "kept", None)


class Inline(Executor):
    """Runs each task at once in this process, and notes what was sent."""

    _max_workers = 2

    def __init__(self):
        self.loads = []

    def submit(self, fn, /, *given):
        self.loads.append(given[1])
        future = Future()
        try:
            future.set_result(fn(*pickle.loads(pickle.dumps(given))))
        except BaseException as error:
            future.set_exception(error)
        return future


class Idle(Executor):
    """Takes tasks, and does nothing."""

    def submit(self, fn, /, *given):
        return Future()


@dataclass(frozen=True)
class Add:
    """Adds to an item what is big in the task."""

    values: np.ndarray

    def __call__(self, item):
        return float(self.values.sum()) + item


def square(x):
    return x * x


def results(executor, task, items, **how):
    with engine(executor=executor) as where:
        return dict(where.each(task, items, **how))


def raised(error):
    """What comes of an error that a task raises in a worker."""

    def task(item):
        raise error

    with pytest.raises(BaseException) as caught:  # noqa: PT011 — any
        results(Inline(), task, [1], where="x.h5", noun="shard")
    return caught.value


# --- results -------------------------------------------------------------------------------------


def test_each_item_comes_once():
    with engine() as here:
        assert list(here.each(square, [3, 5, 7])) == [(0, 9), (1, 25), (2, 49)]
    assert results(Inline(), square, range(100)) == {i: i * i for i in range(100)}
    assert results(Inline(), square, []) == {}


def test_what_is_big_goes_once_to_a_worker():
    there = Inline()
    found = results(there, Add(np.ones(10**5)), range(50))
    assert found == {i: 10**5 + i for i in range(50)}
    assert sum(load is not None for load in there.loads) == 4  # the items on their way at first
    small = Inline()
    results(small, Add(np.ones(3)), range(50))
    assert all(small.loads)


def test_a_worker_works_for_several_in_turn():
    there = Inline()
    with engine(executor=there) as where:
        one, other = where.each(Add(np.ones(10**5)), range(9)), where.each(square, range(9))
        pairs = list(zip(one, other, strict=True))
    assert dict(a for a, _ in pairs) == {i: 10**5 + i for i in range(9)}
    assert dict(b for _, b in pairs) == {i: i * i for i in range(9)}


def test_check_is_called_while_waiting():
    def stop():
        raise Interrupted(15, "x.h5")

    with pytest.raises(Interrupted), engine(executor=Idle()) as where:
        next(where.each(square, [1], stop))


# --- what goes wrong -----------------------------------------------------------------------------


def test_errors_come_back_as_themselves():
    every = [getattr(errors, name) for name in errors.__all__ if name[0].isupper()]
    assert len(every) >= 7
    for error in [kind("a: b") for kind in every if kind is not Interrupted]:
        found = raised(error)
        assert (type(found), str(found), found.exit_code) == (
            type(error), str(error), error.exit_code,
        )  # fmt: skip
    stop = Interrupted(15, "x.h5", "go on")
    found = raised(stop)
    assert str(found) == str(stop) == "x.h5: interrupted by SIGTERM; go on"
    assert found.exit_code == 143


def test_errors_of_others_come_with_where_they_arose():
    found = raised(ZeroDivisionError("by zero"))
    assert type(found) is ZeroDivisionError
    assert "in x.h5: shard 0" in found.__notes__
    assert any("in task" in note for note in found.__notes__)


def test_an_error_that_cannot_be_sent_is_told_in_one_line():
    class Held(Exception):
        def __init__(self):
            self.lock = threading.Lock()
            super().__init__("held\nfast")

    def task(item):
        raise Held

    with pytest.raises(PhysgenError) as caught:
        results(Inline(), task, [1], where="x.h5", noun="shard")
    found = caught.value
    assert type(found) is PhysgenError
    assert str(found) == "x.h5: shard 0: Held: held fast"


def test_a_task_that_cannot_be_sent_is_refused():
    lock = threading.Lock()
    with pytest.raises(UsageError, match=r"x\.h5: cannot be sent to workers .*take one worker"):
        results(Inline(), lambda item: lock, [1], where="x.h5")


def test_a_worker_that_cannot_import_says_what_to_do():
    found = raised(ModuleNotFoundError("No module named 'mine'"))
    assert "No module named 'mine'; put its folder on PYTHONPATH" in str(found)
    with pytest.raises(UsageError, match=r"No module named 'gone'.*client\.upload_file"):
        results(Inline(), looks_up, ["gone:Own"])


def looks_up(name):
    return find("simulators", name)


def test_another_version_is_refused(monkeypatch):
    load = worker.packed(square, {}, "x")
    assert worker.work(load.digest, load.data, 3)[0] == "value"
    monkeypatch.setattr(worker, "kept", None)
    monkeypatch.setattr(worker, "sources", lambda: "other")
    kind, said = worker.work(load.digest, load.data, 3)
    error = worker.error_of(said, "x")
    assert kind == "error"
    assert isinstance(error, UsageError)
    assert f"has physgen {physgen.__version__} (other) instead of" in str(error)


def test_an_executor_that_fails_is_told():
    class Failing(Inline):
        def submit(self, fn, /, *given):
            raise RuntimeError("cannot schedule\nnew futures")

    with pytest.raises(PhysgenError, match=r"^x: the executor has failed .*schedule new futures"):
        results(Failing(), square, [1], where="x")


@pytest.mark.slow
def test_a_pool_that_runs_the_script_again_says_what_to_do(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(UNGUARDED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 1
    # Workers speak of their own failure too, before or after.
    (said,) = (s for s in done.stderr.splitlines() if "has failed (BrokenProcessPool" in s)
    assert 'under if __name__ == "__main__":, or give workers instead; nothing was kept' in said


def half_written(path, end):
    """A task that begins to write its result, and does not come to an end with it; once."""
    if path.exists():
        return 16

    def half(connection, data, write=None):
        os.write(connection.fileno(), data[:2])
        path.touch()
        end()

    Connection._send = half
    return 4


def test_a_worker_that_dies_while_it_writes_is_replaced(tmp_path):
    path = tmp_path / "began"
    with engine(workers=2) as where:
        task = partial(half_written, end=lambda: os.kill(os.getpid(), signal.SIGKILL))
        assert dict(where.each(task, [path])) == {0: 16}


def test_closing_at_once_does_not_wait_for_what_is_being_written(tmp_path):
    path, before = tmp_path / "began", set(threading.enumerate())
    with engine(workers=2) as where:
        where.each(partial(half_written, end=lambda: time.sleep(600)), [path])
        while not path.exists():
            time.sleep(0.05)
        where.close(at_once=True)
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive(), thread


def test_waiting_ends(monkeypatch):
    with (
        pytest.raises(PhysgenError, match=r"^x: nothing was finished in 0.\d s; raise .*; rerun"),
        engine(executor=Idle(), idle_timeout=0.3) as where,
    ):
        list(where.each(square, [1], where="x", noun="rows from"))
    monkeypatch.setattr(engines, "LONELY", 0.3)
    monkeypatch.setattr(engines.GivenExecutor, "live", lambda self: 0)
    with pytest.raises(PhysgenError, match="no worker has been alive for"):
        results(Idle(), square, [1])


def test_slow_tasks_are_waited_for(monkeypatch):
    monkeypatch.setattr(engines, "LONELY", 0.1)

    class Slow(Inline):
        def submit(self, fn, /, *given):
            future = Future()
            threading.Timer(0.6, lambda: future.set_result(fn(*given))).start()
            return future

    assert results(Slow(), square, [3]) == {0: 9}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"workers": 0}, "at least 1"),
        ({"executor": ThreadPoolExecutor(1)}, "ProcessPoolExecutor"),
        ({"executor": Inline(), "scheduler": "local:2"}, "not both"),
        ({"executor": 3}, "expected one of concurrent.futures"),
        ({"idle_timeout": 0}, "idle_timeout: expected seconds above 0"),
        ({"scheduler": "local:x"}, "local:N with N at least 1"),
        ({"scheduler": "host"}, "expected tcp://host:8786 or local:4, got 'host'"),
        ({"workers": 2, "scheduler": "local:2"}, "not both"),
    ],
)
def test_places_that_cannot_be_had(given, said):
    with pytest.raises(UsageError, match=said), engine(**given):
        pass


def test_a_client_of_dask_has_an_executor():
    class Client:
        get_executor = None

    with (
        pytest.raises(UsageError, match=r"got Client; give client.get_executor\(\)$"),
        engine(executor=Client()),
    ):
        pass


def test_processes_of_dask_that_do_not_start(monkeypatch):
    distributed = pytest.importorskip("distributed")

    def fails(**given):
        raise RuntimeError("Nanny\nfailed to start.")

    monkeypatch.setattr(distributed, "LocalCluster", fails)
    said = r"^scheduler: dask could not start local:2 \(RuntimeError: Nanny failed to start.\);"
    with pytest.raises(PhysgenError, match=said), engine(scheduler="local:2"):
        pass


def test_without_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    told = pytest.raises(UsageError, match=r"pip install 'physgen\[dask\]'")
    with told, engine(scheduler="a:1"):
        pass


def test_an_address_at_which_something_else_is(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("physgen.runtime.scheduler.ANSWER", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        told = pytest.raises(UsageError, match=f"no dask scheduler answers at {address}")
        with told, engine(scheduler=address):
            pass


def test_a_worker_knows_its_number(monkeypatch):
    assert worker.worker_number() == 0
    monkeypatch.setenv("SLURM_LOCALID", "3")
    assert worker.worker_number() == 3


# --- processes of this machine -------------------------------------------------------------------


def numbered(item):
    time.sleep(0.05)
    return worker.worker_number()


def test_each_worker_takes_a_gpu_in_turn(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [str(device_of_worker("cuda", k)) for k in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert str(device_of_worker("cpu", 1)) == "cpu"
    with pytest.raises(UsageError, match="cuda:7"):
        device_of_worker("cuda:7", 0)


@pytest.mark.slow
@pytest.mark.parametrize("nowhere", [{}, {"workers": None, "executor": None, "scheduler": None}])
@pytest.mark.parametrize("one", [{}, {"workers": 1}])
def test_a_surrogate_that_draws_here_is_opened_on_the_device(nowhere, one):
    assert device_here("model.pt", "cuda", nowhere | one) == "cuda"
    for there in ({"workers": 2}, {"scheduler": "local:1"}, {"executor": Idle()}):
        assert device_here("model.pt", "cuda", nowhere | there) == "cpu"
        assert device_here("model.pt", "auto", nowhere | there) == "auto"


def test_processes_have_successive_numbers():
    with engine(workers=2) as where:
        first, second = sorted(set(dict(where.each(numbered, range(30))).values()))
    assert second == first + 1


@dataclass(frozen=True)
class DiesOnce:
    """Kills its process at one item, once, or always."""

    mark: Path
    always: bool = False

    def __call__(self, item):
        if item == 4 and (self.always or not self.mark.exists()):
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return item * item


@pytest.mark.slow
def test_a_process_that_dies_is_replaced(tmp_path):
    with engine(workers=2) as where:
        found = dict(where.each(DiesOnce(tmp_path / "died"), range(9)))
    assert found == {i: i * i for i in range(9)}
    with (
        pytest.raises(PhysgenError, match=r"task 4 kills its workers: .*as when memory is short"),
        engine(workers=2) as where,
    ):
        list(where.each(DiesOnce(tmp_path / "died", always=True), range(9)))


UNGUARDED = """
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection

import physgen

pool = ProcessPoolExecutor(2, get_context("spawn"))
physgen.simulate("gaussian", n=20, shard_rows=10, executor=pool)
"""


# --- a cluster -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    """Two processes of dask, which give up a task at its first death."""
    dask = pytest.importorskip("dask")
    from distributed import Client, LocalCluster

    once = {"distributed.scheduler.allowed-failures": 0}
    how = {"dashboard_address": ":0", "memory_limit": 0, "silence_logs": logging.CRITICAL}
    with (
        dask.config.set(once),
        LocalCluster(n_workers=2, threads_per_worker=1, **how) as workers,
        Client(workers) as client,
    ):
        yield client


@pytest.fixture
def there(cluster):
    cluster.wait_for_workers(2, timeout=60)
    return cluster.get_executor()


def made(out, **how):
    data = physgen.simulate("ising", n=600, size=8, shard_rows=50, out=out, seed=3, **how)
    return data.path.read_bytes()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1000000000")
        return made(tmp_path_factory.mktemp("alone") / "x.h5")


@pytest.mark.slow
def test_simulations_of_a_cluster_are_those_of_one_process(alone, there, tmp_path):
    assert made(tmp_path / "x.h5", executor=there) == alone
    memory = physgen.simulate("ising", n=600, size=8, shard_rows=50, seed=3, executor=there)
    assert np.array_equal(memory.x, physgen.Dataset(tmp_path / "x.h5").x)


@pytest.mark.slow
def test_the_same_by_the_address_of_the_scheduler(alone, there, cluster, tmp_path):
    assert made(tmp_path / "x.h5", scheduler=cluster.scheduler.address) == alone


@pytest.mark.slow
def test_samples_of_a_cluster_are_those_of_one_process(there, tmp_path):
    data = physgen.simulate("gaussian", n=200, size=3, seed=1)
    model = physgen.fit("cvae", data, epochs=1, channels=4, levels=1)
    files = [tmp_path / f"{k}.h5" for k in range(3)]
    given = [{}, {"executor": there}, {"workers": 2}]
    for file, how in zip(files, given, strict=True):
        physgen.sample(model, n=60_000, out=file, seed=2, **how)
    assert len({file.read_bytes() for file in files}) == 1


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(alone, there, cluster, tmp_path):
    """In the middle of a dataset, whose bytes stay the same."""
    file, pids = tmp_path / "x.h5", list(cluster.run(os.getpid).values())

    def kill(done):
        if pids and 100 <= done < 600:
            os.kill(pids.pop(), signal.SIGKILL)

    meta, make = parts_of(alone, tmp_path)
    with engine(executor=there) as where:
        write(file, 600, meta, make, shard_rows=50, engine=where, progress=kill)
    assert len(pids) == 0
    assert file.read_bytes() == alone


def parts_of(alone, folder):
    """What a dataset is written of."""
    (folder / "alone.h5").write_bytes(alone)
    meta = physgen.Dataset(folder / "alone.h5").meta
    return meta, Simulate(meta.law)


@pytest.mark.slow
def test_an_item_that_kills_its_workers_is_named(there, tmp_path):
    deadly = DiesOnce(tmp_path / "died", always=True)
    told = r"^x\.h5: shard 4 kills its workers: .*memory is short.*rerun the same command"
    with pytest.raises(PhysgenError, match=told):
        results(there, deadly, range(30), where="x.h5", noun="shard")
    assert results(there, DiesOnce(tmp_path / "died"), range(9)) == {i: i * i for i in range(9)}


@pytest.mark.slow
def test_a_class_that_workers_cannot_import_is_told(there, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    told = r"No module named 'only_here'; put its folder on PYTHONPATH.*client\.upload_file"
    with pytest.raises(UsageError, match=told):
        physgen.simulate("only_here:Own", n=9, executor=there)
    there._client.upload_file(str(tmp_path / "only_here.py"))
    assert len(physgen.simulate("only_here:Own", n=9, executor=there)) == 9


OWN = """
from simulators import Box


class Own:
    prior, x_shape = Box(a=(0.0, 1.0)), (2,)

    def sample(self, theta, rng):
        return theta + rng.normal(size=(len(theta), 2))
"""


@contextmanager
def scheduler_with_a_worker(folder):
    """A scheduler and a worker, each a process of its own; its address."""
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0"]
    file = folder / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(
        [
            *scheduler,
            "--scheduler-file",
            str(file),
            "--no-dashboard",
            "--dashboard-address",
            ":0",
            "--host",
            "127.0.0.1",
        ],
        **quiet,
    ) as process:
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file"]
        call = [*worker, str(file), "--nthreads", "1", "--no-dashboard", "--death-timeout", "60"]
        try:
            with subprocess.Popen(call, **quiet) as other:
                try:
                    for _ in range(600):
                        if file.exists():
                            break
                        time.sleep(0.1)
                    yield process, json.loads(file.read_text())["address"]
                finally:
                    other.kill()
        finally:
            process.kill()


@pytest.mark.slow
def test_a_scheduler_that_goes_away(tmp_path):
    with scheduler_with_a_worker(tmp_path) as (process, address):

        def kill(done):
            process.kill()

        law = Law.of("gaussian", {"size": 3})
        meta = Meta(law, {"kind": "simulator"}, 1, {"command": "x"})
        told = rf"x\.h5: the dask scheduler at {address} is gone.*; rerun the same command"
        with pytest.raises(PhysgenError, match=told), engine(scheduler=address) as where:
            write(
                tmp_path / "x.h5", 900, meta, Simulate(law), shard_rows=9, engine=where,
                progress=kill,
            )  # fmt: skip
    assert write(tmp_path / "x.h5", 900, meta, Simulate(law), shard_rows=9).resumed >= 9


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["processes", "executorlib"])
def test_other_executors(alone, tmp_path, kind):
    if kind == "processes":
        executor = ProcessPoolExecutor(2, get_context("spawn"))
    else:
        lib = pytest.importorskip("executorlib")
        executor = lib.SingleNodeExecutor(max_workers=2, block_allocation=True)
    with executor:
        assert made(tmp_path / "x.h5", executor=executor) == alone


@pytest.mark.slow
def test_a_scheduler_of_this_machine_has_the_workers_asked_for():
    pytest.importorskip("distributed")
    with engine(scheduler="local:1") as where:
        assert where.place.live() == 1
        assert dict(where.each(square, range(3))) == {0: 0, 1: 1, 2: 4}

"""What a worker does, wherever it is: it keeps a task, and runs it for the items it is given.

A task travels as bytes (cloudpickle), with what it needs of a script or a notebook by value, such
as the class of a simulator; modules are imported. A worker keeps the last one, so that what is
big in it, as a model is, comes once to each. It runs one item at a time, whatever threads it has.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import current_process
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import cloudpickle

import physgen
from physgen.errors import PhysgenError, UsageError

__all__ = ["Load", "Outcome", "Task", "error_of", "packed", "work", "worker_number"]

Task: TypeAlias = Callable[[Any], Any]
Outcome: TypeAlias = tuple[Literal["value", "error", "missing"], Any]
"""What became of an item: its pickled result; an error, pickled and in words; or nothing, since
the worker does not have the task."""

MEND = (
    "put its folder on PYTHONPATH where workers start, install it there, or send the file with "
    "dask's client.upload_file"
)
LIBRARIES = ("numpy", "scipy", "numba", "torch")
lock = threading.Lock()
kept: tuple[str, Task] | None = None


class Load(NamedTuple):
    """A task on its way.

    Attributes:
        digest: SHA-256 of the bytes.
        data: the bytes.
    """

    digest: str
    data: bytes


def packed(task: Task, script: Mapping[str, Any], what: str) -> Load:
    """A task for workers.

    Args:
        task: what they run.
        script: what it looks up by name in the caller's script.
        what: what is sent, for the message.

    Raises:
        UsageError: it cannot be sent.
    """
    try:
        inner = cloudpickle.dumps((dict(script), task))
    except Exception as error:  # whatever pickling a user's objects raises is told in one line
        raise UsageError(
            f"{what}: cannot be sent to workers ({' '.join(str(error).split())}); put what it is "
            "made of into a module and import it, or take one worker"
        ) from error
    data = pickle.dumps((sender(), versions(), os.environ.get("NUMBA_CACHE_DIR"), inner))
    return Load(hashlib.sha256(data).hexdigest(), data)


def sender() -> tuple[str, int]:
    """Which process this is."""
    return socket.gethostname(), os.getpid()


def versions() -> dict[str, str]:
    """Versions of what results depend on, as far as it is in use here."""
    found = {"physgen": f"{physgen.__version__} ({sources()})"}
    return found | {name: version(name) for name in LIBRARIES if name in sys.modules}


@cache
def sources() -> str:
    """A digest of the code of physgen and its simulators, 8 hexadecimal digits."""
    root, found = Path(physgen.__file__).parents[1], hashlib.sha256()
    for package in ("physgen", "simulators"):
        for path in sorted((root / package).rglob("*.py")):
            found.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return found.hexdigest()[:8]


def work(digest: str, data: bytes | None, item: Any) -> Outcome:
    """Run a task for an item.

    Args:
        digest: of the task.
        data: the task; None where the worker may have it.
        item: what it is run for.
    """
    with lock:
        try:
            task = unpacked(digest, data)
            return ("missing", None) if task is None else ("value", pickle.dumps(task(item), 5))
        except KeyboardInterrupt:  # which ended the program that was waited for
            os._exit(1)
        except (Exception, SystemExit) as error:  # whatever a task raises
            return "error", sent(error)


def unpacked(digest: str, data: bytes | None) -> Task | None:
    """The task of a digest, unpacked unless it was; None if it is not here.

    Raises:
        UsageError: it cannot be unpacked here, or results would be others.
    """
    global kept
    if kept and kept[0] == digest:
        return kept[1]
    if data is None:
        return None
    origin, theirs, folder, inner = pickle.loads(data)
    refuse_versions(theirs)
    if origin != sender() and "numba" not in sys.modules:
        prepare_numba(folder)
    try:
        script, task = pickle.loads(inner)
    except (ImportError, PhysgenError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"workers: another process cannot unpack the task ({reason})") from error
    if origin != sender():
        vars(sys.modules["__main__"]).update(script)
    kept = digest, task
    return task


def prepare_numba(folder: str | None) -> None:
    """Let numba use the sender's cache, if it is here, and no more threads than others may."""
    if folder and Path(folder).is_dir():
        os.environ.setdefault("NUMBA_CACHE_DIR", folder)
    if "OMP_NUM_THREADS" in os.environ:
        os.environ.setdefault("NUMBA_NUM_THREADS", os.environ["OMP_NUM_THREADS"])


def refuse_versions(theirs: Mapping[str, str]) -> None:
    """Refuse to work for another version of physgen.

    Raises:
        UsageError: results would differ, or might.
    """
    ours = versions() | {n: version_or_none(n) for n in theirs if n in LIBRARIES}
    other = [f"{n} {ours[n]} instead of {theirs[n]}" for n in theirs if ours[n] != theirs[n]]
    if other:
        raise UsageError(
            f"workers: one on {socket.gethostname()} has {', '.join(other)}: its results may "
            "differ; install the same there"
        )


def version_or_none(name: str) -> str:
    """The version of a package that is installed here."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def sent(error: BaseException) -> tuple[bytes, str]:
    """An error for the process that asked, and the same in words."""
    missing = error.__cause__ if isinstance(error, UsageError) else error
    if isinstance(missing, ImportError):
        error = UsageError(f"workers: one on {socket.gethostname()}: {missing}; {MEND}")
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if not isinstance(error, PhysgenError):
        error.add_note("".join(traceback.format_exception(error)))
    try:
        data = cloudpickle.dumps(error)
        if str(pickle.loads(data)) == str(error):
            return data, text
    except Exception:  # whatever pickling a user's errors raises
        pass
    return b"", text


def error_of(said: tuple[bytes, str], where: str) -> BaseException:
    """An error that a worker sent, or what it said in words."""
    data, text = said
    try:
        error: BaseException = pickle.loads(data)
        if not isinstance(error, PhysgenError):
            error.add_note(f"in {where}")
    except Exception:  # of a class that is not known here
        return PhysgenError(f"{where}: {text}")
    return error


def worker_number() -> int:
    """Which of the workers of its machine this process is; 0 where nobody says.

    Those that one process starts have successive numbers, not always from 0.
    """
    for name in ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK"):
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    identity = getattr(current_process(), "_identity", ())
    return identity[-1] - 1 if identity else 0

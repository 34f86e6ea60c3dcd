"""Whole files, or none: atomic writing, checksums next to the file, and errors with the path.

A file is written under a temporary name in the folder where it will be, forced to the disk and
renamed, so a reader sees the old file or the new one and never half of one. ``NAME.sha256`` next
to it (the format of ``sha256sum -c``) is checked before anything parses the file: HDF5's own
checksums cover the data, and not the structure that leads to them.

An output that is a symbolic link is refused: replacing it would cut the link, and writing through
it would change a file that nobody named. The temporary name cannot be guessed, and is opened only
where nothing has it, a link included. What is read is a regular file: nothing waits for a pipe.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
import secrets
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from physgen.errors import DataError, StorageError, UsageError

__all__ = ["read_bytes", "require_file", "write_bytes"]

LARGEST_PROCESS = 2**22  # that Linux gives a number to
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system says that has no locks, as NFS or Lustre without them."""


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into a StorageError with the path."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(f"{path}: no such file or folder; check the path") from error
    except OSError as error:
        raise StorageError(
            f"{path}: {error.strerror or error}; check permissions and free space"
        ) from error


def refuse_overwriting(path: Path, force: bool) -> None:
    """Refuse an output that is a link or a folder and, without `force`, one that exists."""
    if path.is_symlink():
        raise UsageError(f"{path}: is a symbolic link; give the path of the file itself")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is not a regular file; choose another output")
    if path.exists() and not force:
        raise UsageError(f"{path}: exists; choose another output, or --force to overwrite it")


def write_bytes(path: str | Path, data: bytes, *, sidecar: bool, durable: bool = True) -> None:
    """Write a whole file, or leave what was there.

    Args:
        path: the file; replaced if it exists.
        data: its content.
        sidecar: whether to write ``NAME.sha256`` next to it.
        durable: whether to wait until it would survive a power cut.

    Raises:
        StorageError: the file system refused.
        UsageError: the path is a symbolic link or a folder.
    """
    path = Path(path)
    refuse_overwriting(path, force=True)
    with storage(path), beside(path) as temporary:
        if durable:  # not for each of the many shards: their folder goes as a whole
            clear(path)
        store(temporary, data, durable)
        publish(temporary, path, hashlib.sha256(data).hexdigest() if sidecar else "", durable)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """The name of a file until it is finished: in the same folder, and not to be guessed.

    It says host and process, so that `clear` can tell it.
    """
    token = f"{os.getpid()}.{secrets.token_hex(8)}"
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{token}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path, force: bool = False) -> Iterator[IO[bytes]]:
    """A file in the making, of another package's format: it has its name when the block has ended.

    Args:
        path: the file.
        force: whether to overwrite the file if it exists.

    Yields:
        The open file, empty.

    Raises:
        StorageError: the file system refused; nothing is left of it.
        UsageError: the output exists.
    """
    refuse_overwriting(path, force)
    with storage(path), beside(path) as temporary:
        clear(path)
        with temporary.open("x+b") as file:
            yield file
            if not file.closed:
                sync(file)
        publish(temporary, path, "")


def clear(path: Path) -> None:
    """Remove what dead processes of this host have left of a file, under names of `beside`."""
    ours = f".{path.name}.{socket.gethostname()}."
    for left in path.parent.glob(f"{glob.escape(ours)}*.tmp"):
        made = re.fullmatch(r"(\d+)(\.[0-9a-f]{16})?\.tmp", left.name[len(ours) :])
        if made and not running(int(made[1])) and left.is_file():
            left.unlink(missing_ok=True)


def running(process: int) -> bool:
    """Whether a process of this host may be running."""
    if not 0 < process <= LARGEST_PROCESS:
        return True  # not of ours
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def publish(temporary: Path, path: Path, digest: str, durable: bool = True) -> None:
    """Give a finished file its name, and then its sidecar if there is a digest."""
    seal(path).unlink(missing_ok=True)  # the old file's: it must not outlive it
    temporary.replace(path)
    if digest:
        store(temporary, f"{digest}  {path.name}\n".encode(), durable)
        temporary.replace(seal(path))
    if durable:
        sync_folder(path.parent)


def store(path: Path, data: bytes, durable: bool) -> None:
    """Write a file under the name it is not known by, and that nothing has."""
    with path.open("xb") as file:
        file.write(data)
        if durable:
            sync(file)


def sync(file: IO[bytes]) -> None:
    """Force a file's content to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def seal(path: Path) -> Path:
    """The sidecar of a file."""
    return path.with_name(path.name + ".sha256")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with storage(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_file(path: Path) -> None:
    """Refuse what is no regular file, before anything waits for it.

    Raises:
        DataError: a folder, a pipe, a device or a socket.
        StorageError: the file cannot be read.
    """
    with storage(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: not a regular file; give a file")
        path.open("rb").close()


def check_seal(path: Path) -> Literal["ok", "missing"]:
    """Compare a file with its sidecar, if it has one.

    Raises:
        DataError: the path is not a regular file, or its bytes are not those the sidecar says.
        StorageError: the file cannot be read.
    """
    require_file(path)
    if not seal(path).exists():
        return "missing"
    require_file(seal(path))
    with storage(seal(path)), seal(path).open("rb") as file:
        expected = file.read(64).decode("ascii", "replace")
    if expected != file_digest(path):
        raise DataError(
            f"{path}: differs from its checksum in {seal(path).name}: damaged or changed since it "
            "was written; make it again (or remove the checksum if the change is yours)"
        )
    return "ok"


def read_bytes(path: str | Path) -> bytes:
    """A file's content, compared with its sidecar if there is one.

    Raises:
        DataError: the bytes are not those the sidecar says.
        StorageError: the file cannot be read.
    """
    path = Path(path)
    check_seal(path)
    with storage(path):
        return path.read_bytes()

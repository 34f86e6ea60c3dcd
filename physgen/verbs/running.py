"""How every verb runs: outputs are looked at before work begins, a signal ends it cleanly."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature as signature_of
from json import dumps
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, ParamSpec, TypeVar, Unpack, get_origin

from physgen import dataset
from physgen.dataset import Dataset, Meta, Rows, Shard
from physgen.dataset.files import seal, storage
from physgen.errors import StorageError, UsageError
from physgen.runtime.interrupt import interruptible
from physgen.runtime.kinds import did_you_mean, members, taken
from physgen.runtime.options import REQUIRED, Option, options
from physgen.runtime.progress import bar, log
from physgen.runtime.ranks import ranks_now

__all__ = [
    "asked_part",
    "headed",
    "judging",
    "make_dataset",
    "make_part",
    "on_files",
    "path_of",
    "plural",
    "record",
    "require",
    "require_seed",
    "sections",
    "threaded",
    "warn_of_failed",
]

P = ParamSpec("P")
R = TypeVar("R")
MOST_SEED = 2**62
"""Of torch's generators, with room for those that are derived from it."""
Beside = Callable[[Path], Mapping[Path, Callable[[Path], bool]]]


def on_files(
    *outputs: str,
    folders: Sequence[str] = (),
    resumes: bool = False,
    beside: Beside = lambda out: {},
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Take arguments as their kinds, and refuse outputs that could not be written, before all.

    Args:
        outputs: names of the verb's parameters that are files to write.
        folders: names of those that are folders to write into.
        resumes: whether the verb may go on with an output of its own that exists, and so looks
            at it itself.
        beside: output → each file that is kept beside it, and whether one that exists is ours.

    Raises:
        StorageError: a folder that is not there, or that cannot be written to.
        UsageError: an argument that is none of its kind, or an option that the verb does not have;
            an output that exists, or is another file of the command, however it is spelt; or a
            file in the way of one that is kept beside it.
    """

    def decorated(verb: Callable[P, R]) -> Callable[P, R]:
        name, signature = verb.__name__.removesuffix("_"), signature_of(verb, eval_str=True)
        declared = {o.name: o for o in options(verb)}
        rest = [p for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]
        shared = [p for p in rest if get_origin(p.annotation) is Unpack]

        @functools.wraps(verb)
        def wrapped(*args: P.args, **given: P.kwargs) -> R:
            if rest == shared:
                refuse_unknown(name, given, declared)
            try:
                bound = signature.bind(*args, **given)
            except TypeError as error:
                raise UsageError(f"{name}: {error}") from error
            values = bound.arguments
            for some in (values, *(values[p.name] for p in shared if p.name in values)):
                for k in declared.keys() & some:
                    some[k] = as_declared(declared[k], some[k], k in (*outputs, *folders))
            writes = ranks_now().first
            made = [values[k] for k in outputs if writes and isinstance(values.get(k), Path)]
            into = [values[k] for k in folders if writes and isinstance(values.get(k), Path)]
            used = [v for k, v in values.items() if k not in (*outputs, *folders)]
            refuse_outputs(made, into, files_in(used), beside)
            for path in made:
                dataset.refuse_overwriting(path, force=resumes or values.get("force", False))
            return verb(*bound.args, **bound.kwargs)

        return wrapped

    return decorated


def refuse_unknown(verb: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse options that a verb does not have.

    Raises:
        UsageError: one of them.
    """
    for name in given:
        if name not in known:
            told = did_you_mean(name, known) or f"; it has {', '.join(known)}"
            raise UsageError(f"{verb}: no option {name!r}{told}")


def as_declared(option: Option, value: Any, written: bool) -> Any:
    """An argument as one of its kind; objects in the place of files, and of names, as they are.

    Args:
        option: what the verb declares.
        value: what was given.
        written: whether it is a file or a folder to write.

    Raises:
        UsageError: what is none of its kind.
    """
    kinds = members(option.type)
    files = Path in kinds or Sequence[Path] in kinds
    if Sequence[Path] in kinds and isinstance(value, list | tuple):
        return [as_declared(replace(option, type=Path), one, False) for one in value]
    if files and not written and not isinstance(value, str | os.PathLike):
        return value
    if option.name == "device" and type(value).__name__ == "device":
        value = str(value)  # torch's own
    if (str in kinds and not files and value is not None) or Mapping[str, Any] in kinds:
        return value  # of names, laws and their like the verbs take more
    try:
        return taken(Path if files and value is not None else option.type, value)
    except ValueError as error:
        usual = value is None and option.default is not REQUIRED
        mend = f"; leave it out for {option.default!r}" if usual else ""
        raise UsageError(f"{option.name}: {error}{mend}") from error


def refuse_outputs(
    files: Sequence[Path], folders: Sequence[Path], inputs: Sequence[Path], beside: Beside
) -> None:
    """Refuse outputs that cannot be written, or that would cost a file that is not ours."""
    known = {
        file_identity(file)
        for path in inputs
        for file in (path, *([seal(path)] if path.name else []))
        if file.exists()
    }
    for folder in folders:
        require_folder(next(p for p in (folder, *folder.absolute().parents) if p.exists()), folder)
    for path in files:
        if not path.name:
            raise UsageError(f"{path}: expected a file to write, got a folder")
        require_folder(path.parent, path)
    for path in (*folders, *files):
        kept = {} if path in folders else {seal(path): is_seal, **beside(path)}
        for file in (path, *kept):
            if file_identity(file) in known:
                raise UsageError(f"{file}: is another file of this command; choose another output")
            known.add(file_identity(file))
        for file, ours in kept.items():
            if (file.exists() or file.is_symlink()) and not (file.is_file() and ours(file)):
                raise UsageError(
                    f"{file}: is in the way of what is kept beside {path.name}, and not "
                    "physgen's; move it away, or choose another output"
                )


def files_in(arguments: Iterable[Any]) -> list[Path]:
    """The files among arguments and what they list, and those of the objects among these."""
    used = list(arguments)
    used += [v for some in used if isinstance(some, list | tuple) for v in some]
    used += [as_file(v) for some in used if isinstance(some, dict) for v in some.values()]
    known = [v if isinstance(v, Path) else getattr(v, "path", None) for v in used]
    return [path for path in known if isinstance(path, Path)]


def as_file(value: Any) -> Any:
    """The path of a file that is there, if text names one; else the value itself."""
    try:
        return Path(value) if isinstance(value, str) and Path(value).is_file() else value
    except (OSError, ValueError):  # no text of a path
        return value


def require_folder(folder: Path, path: Path) -> None:
    """Refuse a folder that is not there, or in which no file can be made."""
    if not folder.is_dir():
        raise StorageError(f"{path}: no folder {folder}; make it first")
    with storage(path), TemporaryFile(dir=folder):
        pass


def file_identity(path: Path) -> tuple[Any, ...]:
    """What all spellings of a path share: the file or, where none is, its folder and name."""
    if path.exists():
        found = path.stat()
        return found.st_dev, found.st_ino
    folder = path.absolute().parent
    return (*(file_identity(folder) if folder.exists() else (str(folder),)), path.name)


def is_seal(path: Path) -> bool:
    """Whether a file is a checksum as physgen and sha256sum write it."""
    with storage(path), path.open("rb") as file:
        return re.fullmatch(rb"[0-9a-f]{64} [ *][^\n]+\n?", file.read(5000)) is not None


def threaded(verb: Callable[P, R]) -> Callable[P, R]:
    """Run a verb in as many threads as `physgen.runtime.device.threads` chooses."""

    @functools.wraps(verb)
    def wrapped(*args: P.args, **given: P.kwargs) -> R:
        from physgen.runtime.device import threads

        with threads():
            return verb(*args, **given)

    return wrapped


@contextmanager
def sections(label: str, weights: Mapping[str, float]) -> Iterator[Callable[..., None]]:
    """A bar over the sections of some work.

    Args:
        label: a few words before the bar.
        weights: section → part of the time that it takes, about.

    Yields:
        ``progress(section, part=0)``, to be called as sections begin and go on.
    """
    begun: list[str] = []
    with bar(1, label) as move:

        def progress(section: str, part: float = 0.0) -> None:
            if section not in begun:
                begun.append(section)
            done = sum(weights[name] for name in begun[: begun.index(section)])
            move((done + part * weights[section]) / sum(weights.values()), section)

        yield progress
        move(1)


@contextmanager
def judging(
    what: str, label: str, weights: Mapping[str, float], out: Path | None
) -> Iterator[Callable[..., None]]:
    """The bar of a judgement, which a signal ends between its steps, before anything is written.

    Args:
        what: what is done.
        label: a few words before the bar.
        weights: section → part of the time that it takes, about.
        out: file that will be written, if any.

    Yields:
        ``progress(section, part=0)``, to be called as sections begin and go on.
    """
    where = f"{out}: {what}" if out else what
    with interruptible(where, "nothing was written") as stop, sections(label, weights) as move:

        def progress(section: str, part: float = 0.0) -> None:
            stop.check()
            move(section, part)

        yield progress


def record(
    out: Path | None,
    schema: str,
    command: str,
    measured: Mapping[str, Any],
    say: Callable[[Mapping[str, Any]], str],
    **about: Mapping[str, Any],
) -> dict[str, Any]:
    """What was measured, and of what, as JSON data, written to a file if there is one.

    Args:
        out: the file.
        schema: of the data, without physgen/.
        command: that made them.
        measured: what it found.
        say: the data → a line for a person, which they carry as "summary".
        **about: what was looked at.
    """
    found = {
        "schema": f"physgen/{schema}",
        **about,
        "provenance": dataset.provenance(command),
        **measured,
    }
    found = dataset.sealed({"summary": say(found), **found})
    if out:
        dataset.write_bytes(out, dumps(found).encode(), sidecar=False)
    return found


def make_dataset(
    out: Path | str | None,
    n: int,
    meta: Meta,
    make: Callable[[Shard], Rows],
    label: str,
    *,
    force: bool = False,
    **how: Any,
) -> tuple[Dataset, float]:
    """A dataset in its file, or in memory if there is none, and the seconds that writing took.

    Args:
        out: file to write.
        n: number of rows.
        meta: what the file says of itself.
        make: the rows of a shard.
        label: a few words before the bar.
        force: whether to overwrite the file if it exists.
        **how: as for `dataset.gather`.
    """
    with bar(n, label) as move:
        if out is None:
            made, seconds = Dataset(dataset.gather(n, meta, make, progress=move, **how)), 0.0
        else:
            written = dataset.write(out, n, meta, make, force=force, progress=move, **how)
            made, seconds = Dataset(written.path), written.seconds
    warn_of_failed(out, made.failures)
    return made, seconds


def asked_part(part: Sequence[int] | str | None, out: Path | str | None) -> tuple[int, int] | None:
    """Which part of an array job is to be made, if only one is; `out` is what all write.

    Raises:
        UsageError: none of a number of parts, or parts of no file.
    """
    if part is None:
        return None
    found = dataset.array_part(part)
    if out is None:
        raise UsageError("part: parts are joined in a file; add out=FILE, the same for all")
    return found


def make_part(
    out: Path | str,
    part: tuple[int, int],
    n: int,
    meta: Meta,
    make: Callable[[Shard], Rows],
    label: str,
    **how: Any,
) -> Dataset:
    """One part of a dataset, kept beside its file until that is written.

    Args:
        out: file that will be written.
        part: which part of how many.
        n: number of rows of the whole.
        meta: what the file will say of itself.
        make: the rows of a shard.
        label: a few words before the bar.
        **how: as for `dataset.write_part`.

    Returns:
        The dataset, which can be read when the file is written.
    """
    name = f"part {part[0]}/{part[1]}"
    with bar(n / part[1], f"{label}, {name}") as move:
        job = dataset.write_part(out, n, meta, make, part, progress=move, **how)
    mine, done = plural(len(job.numbers), "shard"), len(job.finished())
    if not job.numbers:
        log.warning("%s: %s has no shards: the file has %d in all", out, name, len(job))
    rest = "the same command without --part makes what is missing and joins them"
    return Dataset(out, headed(out, f"{name}, {mine}; {done} of {len(job)} are finished: {rest}"))


def warn_of_failed(where: Path | str | None, failed: Mapping[str, Any]) -> None:
    """Say what it means that the simulator of a dataset has failed in some draws, if it has.

    Args:
        where: the dataset, or what was trained on it.
        failed: what the dataset's metadata say of them.
    """
    if failed:
        log.warning(
            "%s: the simulator failed in %s (%.2g %%), the first: %s; theta of its rows follow "
            "p(theta | success), not the prior: posteriors lack the factor p(success | theta)",
            where or "(in memory)", plural(failed["count"], "draw"), 100 * failed["fraction"],
            failed["messages"][0],
        )  # fmt: skip


def warn_of_trained(data: dataset.Dataset, learnt: Mapping[str, Any] | None) -> None:
    """Say that a model is judged on what it was trained on, if it is.

    Args:
        data: what it is judged on.
        learnt: the record of what it was trained on.
    """
    if data.digest == (learnt or {}).get("sha256"):
        log.warning(
            "%s: is what was trained on: scores on such rows say nothing of others; take some "
            "that were held out", data.name,
        )  # fmt: skip


def headed(out: Path | str | None, text: str) -> str:
    """A summary, behind the name of the file that it is of."""
    return f"{out}: {text}" if out else text


def path_of(out: Path | str | None) -> Path | None:
    """The path of a file, if there is to be one."""
    return None if out is None else Path(out)


def plural(n: int, noun: str) -> str:
    """A number of things."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def require(**at_least: tuple[int | None, int]) -> None:
    """Refuse what is too small: name → (value or None, least value)."""
    for name, (value, least) in at_least.items():
        if value is not None and value < least:
            raise UsageError(f"{name}: expected at least {least}, got {value}")


def require_seed(seed: int) -> None:
    """Refuse a seed that torch cannot take."""
    if not 0 <= seed < MOST_SEED:
        raise UsageError(f"seed: expected 0 to 2**62, got {seed}")

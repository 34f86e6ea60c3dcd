"""A training on disk: its state after each epoch, its history, and how it goes on after a kill."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from json import dumps, loads
from pathlib import Path
from typing import TYPE_CHECKING, Any

from physgen import dataset
from physgen.errors import DataError, UsageError, as_written
from physgen.runtime.progress import log

if TYPE_CHECKING:
    from physgen.training import Epoch, Trainer

__all__ = ["go_on", "identity_of", "keep", "kept_beside", "resume_path", "state_of"]

LENGTH = ("epochs", "max_minutes", "patience")  # what may change when a training is resumed
EARLIER = {"precision": "auto"}  # what trainings did before there was an option


def resume_path(out: Path) -> Path:
    """Where the state of an unfinished training lies."""
    return out.with_name(f"{out.name}.resume")


def history_path(out: Path) -> Path:
    """Where the history of a training lies."""
    return out.with_name(f"{out.name}.jsonl")


def kept_beside(out: Path) -> Mapping[Path, Callable[[Path], bool]]:
    """What a training keeps beside its output, and whether one that exists is a training's."""
    return {resume_path(out): is_state, history_path(out): is_history}


def is_state(path: Path) -> bool:
    """Whether a file is the state of a training."""
    from physgen.nn.tensors import load_tensors

    try:
        tensors, _ = load_tensors(path)
    except DataError:
        return False
    return isinstance(tensors, dict) and {"optimisers", "history"} <= tensors.keys()


def is_history(path: Path) -> bool:
    """Whether a file is the history of a training."""
    return epochs_in(path) is not None


def epochs_in(path: Path) -> list[dict[str, Any]] | None:
    """The epochs of a training's history, a line of JSON each; None of another file."""
    try:
        epochs = [loads(line) for line in dataset.read_bytes(path).splitlines()]
    except (DataError, RecursionError, ValueError):
        return None
    return epochs if all(map(is_epoch, epochs)) else None


def is_epoch(entry: Any) -> bool:
    """Whether JSON data are an epoch of a training, with its losses."""
    numbers = ("epoch", "train", "val")
    return isinstance(entry, dict) and all(isinstance(entry.get(k), int | float) for k in numbers)


def state_of(out: Path, resume: bool, force: bool) -> Any:
    """The state to go on from; None to begin.

    Raises:
        UsageError: nothing to resume, or something in the way.
    """
    path = resume_path(out)
    if resume and path.exists():
        from physgen.nn.tensors import load_tensors

        return load_tensors(path)
    if resume:
        raise UsageError(f"{path}: nothing to resume; run without --resume")
    if path.exists() and not force:
        raise UsageError(f"{path}: an interrupted training; add --resume, or --force to drop it")
    dataset.refuse_overwriting(out, force)
    return None


def identity_of(info: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a training the one that it is, of what a file says of it, as JSON data."""
    training = {k: v for k, v in (EARLIER | info["training"]).items() if k not in LENGTH}
    keys = ("family", "options", "law", "seed")
    rows = {"data": info["data"]["sha256"], "fresh": info.get("fresh")}
    return loads(dumps({k: info[k] for k in keys} | training | rows))


def go_on(trainer: Trainer, state: Any, now: dict[str, Any], out: Path) -> list[int]:
    """Go on from a saved state, if it is of the same training.

    Returns:
        How many processes have trained together, one number for each time that it has changed.

    Raises:
        DataError: weights of another version of the family.
        UsageError: other options, data, law or seed; only its length may differ.
    """
    from physgen.surrogates.checkpoint import require_weights

    tensors, then = state
    path = resume_path(out)

    with as_written(path):
        ours, theirs = identity_of(now), identity_of(then)
        if changed := [k for k in ours if ours[k] != theirs.get(k)]:
            raise UsageError(
                f"{path}: an interrupted training that differs in {', '.join(changed)}; "
                "give the same options, or --force to drop it"
            )
        require_weights(path, trainer.surrogate, tensors["best"], then)
        trainer.restore(tensors)
    log.info("%s: resumed after epoch %d", out, len(trainer.history))
    before, here = then.get("processes", [1]), trainer.ranks.world
    if before[-1] == here:
        return before
    log.warning(
        "%s: was trained by %d processes at once and goes on with %d: what comes out is what "
        "neither would have come to", out, before[-1], here,
    )  # fmt: skip
    return [*before, here]


def keep(
    trainer: Trainer,
    epoch: Epoch,
    info: dict[str, Any],
    out: Path | None,
    tensorboard: Path | None,
) -> None:
    """Keep state and history after an epoch, where there is a file, and say how it went."""
    from physgen.nn.tensors import save_tensors

    if out:
        save_tensors(resume_path(out), trainer.state(), info | trainer.surrogate.describe())
        text = "".join(dumps(asdict(e)) + "\n" for e in trainer.history)
        dataset.write_bytes(history_path(out), text.encode(), sidecar=False)
    star = " *" if epoch.best else ""
    log.info(
        "epoch %d: train %.4f, validation %.4f %s, %.0f s%s",
        epoch.epoch, epoch.train, epoch.val, trainer.surrogate.unit, epoch.seconds, star,
    )  # fmt: skip
    if tensorboard:
        write_scalars(tensorboard, epoch)


def write_scalars(folder: Path, epoch: Epoch) -> None:
    """Append one epoch to a TensorBoard log."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError("tensorboard: pip install 'physgen[tensorboard]'") from error
    with SummaryWriter(str(folder)) as writer:
        for name in ("train", "val", "lr"):
            writer.add_scalar(name, getattr(epoch, name), epoch.epoch)

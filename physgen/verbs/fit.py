"""Train a surrogate of p(x|θ)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from physgen import dataset
from physgen.dataset import Dataset
from physgen.dataset.assumptions import broken_assumptions
from physgen.dataset.missing import missing_in_words, missing_warnings
from physgen.errors import TrainingDiverged, UsageError
from physgen.registry import find, name_of
from physgen.runtime.interrupt import interruptible
from physgen.runtime.options import build, options
from physgen.runtime.progress import bar, log
from physgen.verbs.arguments import DatasetsLike, FamilyLike, Surrogate, SurrogateLike, called
from physgen.verbs.opening import open_data, open_surrogate, remember_file
from physgen.verbs.resume import keep, kept_beside, restore, resume_path, state_of
from physgen.verbs.running import (
    headed,
    on_files,
    path_of,
    plural,
    require_seed,
    threaded,
    warn_of_failed,
)

__all__ = ["fit"]

RESUME = "add --resume to go on"


@on_files("out", folders=("tensorboard",), resumes=True, beside=kept_beside)
@threaded
def fit(
    family: FamilyLike,
    data: DatasetsLike,
    *,
    out: Path | str | None = None,
    from_: SurrogateLike | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    force: bool = False,
    tensorboard: Path | str | None = None,
    **given: Any,
) -> Surrogate:
    """Train a surrogate of p(x|theta) on a dataset.

    With a file to write, the state goes to OUT.resume and the history to OUT.jsonl after each
    epoch; the checkpoint appears when training has ended, and holds the weights of the best epoch
    (rbm and gan: of the last). The summary tells how well a classifier tells samples from the
    held-out x, as the area under its ROC curve (0.5 is best), and in brackets that of its control:
    held-out x whose components were dealt out anew. Warnings say what speaks against the data or
    the training.

    Args:
        family: a registered family, or package.module:Class of your own; in Python also the class.
        data: dataset to train on, or several of one law, such as those of several rounds.
        out: checkpoint to write.
        from_: checkpoint of the same family to start from, at its options; x may be of another
            shape, if its networks are convolutions throughout.
        seed: seed of weights, order and noise.
        device: auto, cpu, cuda or cuda:1.
        resume: go on with an interrupted training.
        force: overwrite the checkpoint if it exists, and drop an interrupted training.
        tensorboard: folder for TensorBoard logs (needs physgen[tensorboard]).
        **given: options of the training and of the family.

    Returns:
        The surrogate: a torch module that draws x and, for most families, has a log p(x|theta).

    Example:
        physgen fit cvae ising.h5 -o cvae.pt --max-minutes 3
    """
    from physgen.checks.held_out import auc_in_words, held_out_warnings, plain_loss, told_apart
    from physgen.runtime.device import device_of
    from physgen.surrogates.base import Surrogate as Family
    from physgen.surrogates.checkpoint import save_surrogate
    from physgen.training import Trainer, Training, split

    cls = find("surrogates", family) if isinstance(family, str) else family
    if not (isinstance(cls, type) and issubclass(cls, Family)):
        raise UsageError(f"family: expected a name or a class of surrogates, got {family!r}")
    name = name_of("surrogates", cls)
    ours = {o.name for o in options(Training)}
    training = build(Training, "training", {k: v for k, v in given.items() if k in ours})
    theirs = {k: v for k, v in given.items() if k not in ours}
    config = build(cls.Config, name, theirs, [*ours, *(o.name for o in options(fit))])
    require_seed(seed)
    path, log_folder = path_of(out), path_of(tensorboard)
    if (resume or log_folder) and not path:
        raise UsageError("fit: resume and tensorboard need a file to write; add out=")
    state = state_of(path, resume, force) if path else None
    source = open_data(data)
    warn_of_failed(source.name, source.failures)
    source.law.to_json()  # refuses a law that no surrogate can tell of, before the training
    if from_:
        parent = parent_of(from_, cls, device)
        source.require_columns(parent.info.get("data"))
        surrogate = parent.at(source.law, **theirs).train()
    else:
        surrogate = cls.create(source.law, config, seed).to(device_of(device))
    train, val, some = split(source, training.validation, training.memory_gib, surrogate.device)
    said = warned(path, nowhere_else(source))
    first = some.theta.cpu().numpy(), some.x.cpu().numpy()
    said += warned(path, broken_assumptions(source.law, first[1]))
    said += warned(path, missing_warnings(source.law, *first))
    if words := missing_in_words(first[1]):
        log.info(
            "%s: x: %s; log p is that of the others, which leaves out what the mask itself says "
            "of theta or of what is missing",
            source.name, words,
        )  # fmt: skip
    if not from_:
        surrogate.fit_transform(some.x, some.theta)
        for line in surrogate.transform.words():
            log.info("%s", headed(path, f"x is taken by {line}"))
    elif (broken := surrogate.transform.breaks(some.x)).any():
        raise UsageError(
            f"from_: {int(broken.sum())} of {len(broken)} rows break what all x of its training "
            f"obeyed: {', '.join(surrogate.transform.told()[:3])}; train anew"
        )
    command = called("fit", name, data, out=out, from_=from_, **given, seed=seed)
    info = {
        "training": asdict(training),
        "seed": seed,
        "data": source.origin(),
        "provenance": dataset.provenance(command),
    }
    hint = RESUME if state else "nothing is kept"
    with interruptible(headed(path, "training"), hint) as stop, bar(1, f"fit {name}") as move:

        def on_batch(progress: float) -> None:
            move(progress, last(trainer.history))
            stop.check()

        trainer = Trainer(surrogate, train, val, training, seed, on_batch)
        if state and path:
            restore(trainer, state, info | surrogate.describe(), path)
        try:
            for epoch in trainer:
                keep(trainer, epoch, info, path, log_folder)
                stop.hint = RESUME if path else stop.hint
        except TrainingDiverged:
            if trainer.history and path:
                save_surrogate(
                    surrogate, path, info | {"history": [asdict(e) for e in trainer.history]}
                )
            raise
    surrogate.finalize(seed)
    history = [asdict(e) for e in trainer.history]
    plain = plain_loss(surrogate, (some.theta, some.x), (val.theta, val.x))
    apart = told_apart(surrogate.eval(), val.theta, val.x, seed)
    losses = [e.val for e in trainer.history]
    said += warned(path, held_out_warnings(surrogate, losses, plain, apart))
    if bends := surrogate.transform.words():
        info["x is taken by"] = bends
    info |= {"history": history, "held_out": apart, "warnings": said}
    surrogate.path, surrogate.info = None, info | surrogate.describe()
    if path:
        save_surrogate(surrogate, path, surrogate.info)
        remember_file(surrogate, path)
        resume_path(path).unlink(missing_ok=True)
    kept = [e for e in trainer.history if e.best or surrogate.keeps_last][-1]
    surrogate.summary = headed(
        path,
        f"{name}, {plural(len(history), 'epoch')} in {history[-1]['seconds']:.0f} s, "
        f"validation loss {kept.val:.4f} {surrogate.unit} (epoch {kept.epoch})"
        + (f"; samples told from held-out x: {auc_in_words(apart)}" if apart else ""),
    )
    return surrogate


def warned(path: Path | None, lines: Iterable[str]) -> list[str]:
    """The lines, each said to the user."""
    said = list(lines)
    for line in said:
        log.warning("%s", headed(path, line))
    return said


def nowhere_else(source: Dataset) -> Iterable[str]:
    """What it means that no θ of the data follow the prior, if that is so."""
    if all(part.proposal for part in source.parts):
        yield (
            f"all theta follow {source.proposal}, not the prior: away from these nothing is "
            "learnt; fit it on the first round, too"
        )


def last(history: list[Any]) -> str:
    """The last epoch in a few words."""
    return f"epoch {history[-1].epoch}: {history[-1].val:.4f}" if history else ""


def parent_of(parent: SurrogateLike, family: type[Surrogate], device: str) -> Surrogate:
    """The surrogate to start from.

    Raises:
        UsageError: one of another family.
    """
    own = family if ":" in name_of("surrogates", family) else None
    found = open_surrogate(parent, device, family=own)
    if type(found) is not family:
        name = parent if isinstance(parent, Path) else "from_"
        raise UsageError(f"{name}: expected a checkpoint of {family.name}, got {found.name}")
    return found

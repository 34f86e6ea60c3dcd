"""Train a surrogate of p(x|θ)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from physgen import dataset
from physgen.dataset.simulated import OnError
from physgen.errors import UsageError
from physgen.registry import find, name_of
from physgen.runtime.interrupt import interruptible
from physgen.runtime.options import build, options
from physgen.runtime.ranks import by_all_ranks, ranks_now
from physgen.verbs.arguments import (
    DatasetsLike,
    FamilyLike,
    SimulatorLike,
    Surrogate,
    SurrogateLike,
    called,
)
from physgen.verbs.fresh import FreshOptions
from physgen.verbs.opening import name_of_simulator, open_data
from physgen.verbs.resume import go_on, identity_of, kept_beside, state_of
from physgen.verbs.running import headed, on_files, path_of, require_seed, threaded

if TYPE_CHECKING:
    from physgen.training import Training

__all__ = ["fit"]


@by_all_ranks
@on_files("out", folders=("tensorboard",), resumes=True, beside=kept_beside)
@threaded
def fit(
    family: FamilyLike,
    data: DatasetsLike,
    *,
    out: Path | str | None = None,
    from_: SurrogateLike | None = None,
    simulate: bool = False,
    simulator: SimulatorLike | None = None,
    workers: int = 0,
    reuse: int = 1,
    on_error: OnError | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    force: bool = False,
    tensorboard: Path | str | None = None,
    **given: Any,
) -> Surrogate:
    """Train a surrogate of p(x|theta) on a dataset.

    With a file to write, the state goes to OUT.resume and the history to OUT.jsonl after each
    epoch; the checkpoint appears when training has ended, and holds the weights of the best epoch,
    or those it began with if none is better (rbm and gan: of the last). The summary tells how much
    lower the loss is on rows of the training than on held-out ones, which is overfitting; and how
    well a classifier tells samples from the held-out x, as the area under its ROC curve (0.5 is
    best), and in brackets that of its control: held-out x whose components were dealt out anew;
    not where a hundred draws would take minutes.
    Warnings say what speaks against the data or the training.

    The family auto tries all that take the data, in short heats, keeps the one that has the
    highest log p of held-out rows, and tells of all in a table.

    Under torchrun all its processes train one model together, each on its part of every batch, on
    a GPU of its own where there are any; what comes out depends on how many they are.

    Args:
        family: a registered family, or package.module:Class of your own; in Python also the class;
            auto for the best of all.
        data: dataset to train on, or several of one law, such as those of several rounds.
        out: checkpoint to write.
        from_: checkpoint of the same family to start from, at its options; x may be of another
            shape, if its networks are convolutions throughout.
        simulate: train on rows that the dataset's simulator draws anew for each epoch, as many as
            the dataset has to train on; the dataset's held-out rows stay what is validated on.
        simulator: package.module:Class of a simulator outside the registry, for --simulate; files
            do not import code by themselves. In Python also the class, or a simulator itself.
        workers: processes that draw the rows of the next epoch while this one trains; 0 for none.
        reuse: epochs that are trained on the same fresh rows, where simulating is slow.
        on_error: what to do about fresh rows that fail; as in the dataset, if not given.
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
    from physgen.runtime.device import device_of
    from physgen.surrogates.base import Surrogate as Family
    from physgen.verbs.auto import auto_table, raced
    from physgen.verbs.fitting import (
        concluded,
        opened_material,
        shown_training,
        started_from,
        to_the_end,
    )

    require_seed(seed)
    fresh = FreshOptions(simulate, simulator, workers, reuse, on_error)
    name, cls, training, config, theirs = asked_for_training(family, given)
    path, log_folder = path_of(out), path_of(tensorboard)
    if (resume or log_folder) and not path:
        raise UsageError("fit: resume and tensorboard need a file to write; add out=")
    if from_ and cls is None:
        raise UsageError("from_: auto begins anew; name the family of that checkpoint")
    ranks = ranks_now()
    if cls is None and ranks.world > 1:
        raise UsageError(
            "auto: races in one process; run it without torchrun, then the family that it chooses "
            "with torchrun"
        )
    state = ranks.first_of(state_of(path, resume, force) if path and ranks.first else None)
    command = called(
        "fit", name, data, out=out, from_=from_, simulate=simulate,
        simulator=name_of_simulator(simulator), reuse=reuse if reuse > 1 else None,
        on_error=on_error, **given, seed=seed,
    )  # fmt: skip
    hint = "add --resume to go on" if state else "nothing is kept"
    where = device_of(device)
    if isinstance(from_, Family) and device == "auto":
        where = from_.device  # what is in memory stays where it is
    with (
        opened_material(open_data(data), training, fresh, seed, where, path) as material,
        interruptible(headed(path, "training"), hint) as stop,
    ):
        info = material.info | {"provenance": dataset.provenance(command)}
        if cls is None:
            trainer, heats = raced(material, config, "epochs" in given, state, stop)
            info |= {"auto": heats}
        else:
            new = started_from(from_, cls, material, **theirs) if from_ else None
            trainer = material.trainer(new or material.new(cls, config), training, stop)
        now = info | trainer.surrogate.describe()
        ranks.require_same(identity_of(now), name)
        told = go_on(trainer, state, now, path) if state and path else [ranks.world]
        info |= {"processes": told} if told != [1] else {}
        path, log_folder = (path, log_folder) if ranks.first else (None, None)
        with shown_training(trainer, material, f"fit {trainer.surrogate.name}", stop):
            to_the_end(trainer, info, path, log_folder, stop)
    made = concluded(trainer, material, info, path)
    if cls is None:
        made.summary = "\n".join([made.summary, *auto_table(info["auto"])])
    return made


def asked_for_training(
    family: FamilyLike, given: dict[str, Any]
) -> tuple[str, type[Surrogate] | None, Training, Any, dict[str, Any]]:
    """What is to be trained, and how.

    Args:
        family: its name or class; auto for the best of all.
        given: options of the training and of the family.

    Returns:
        Name and class of the family, the latter None for auto; options of the training and of the
        family; and those of the latter that were given.

    Raises:
        UsageError: no family, or an option that neither has.
    """
    from physgen.surrogates.base import Surrogate as Family
    from physgen.training import Training
    from physgen.verbs.auto import AutoConfig

    named = isinstance(family, str) and family != "auto"
    cls: Any = find("surrogates", str(family)) if named else family
    if cls == "auto":
        cls, name = None, "auto"
    elif isinstance(cls, type) and issubclass(cls, Family):
        name = name_of("surrogates", cls)
    else:
        raise UsageError(f"family: expected a name or a class of surrogates, got {family!r}")
    ours = {o.name for o in options(Training)}
    training = build(Training, "training", {k: v for k, v in given.items() if k in ours})
    theirs = {k: v for k, v in given.items() if k not in ours}
    others = [*ours, *(o.name for o in options(fit))]
    config = build(cls.Config if cls else AutoConfig, name, theirs, others)
    return name, cls, training, config, theirs

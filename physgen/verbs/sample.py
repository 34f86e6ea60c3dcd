"""Draw (θ, x) from a surrogate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from physgen import dataset
from physgen.dataset import Dataset, Meta, Rows, Shard
from physgen.dataset.schema import outside
from physgen.errors import DataError, UsageError
from physgen.runtime.engine import engine
from physgen.verbs.arguments import (
    DataLike,
    EngineOptions,
    FamilyLike,
    PartLike,
    SamplerOptions,
    SurrogateLike,
    ThetaLike,
    Values,
    called,
    split_options,
)
from physgen.verbs.draws import PosteriorDraws
from physgen.verbs.opening import open_surrogate, origin_of
from physgen.verbs.running import (
    asked_part,
    headed,
    make_dataset,
    make_part,
    on_files,
    plural,
    require,
    threaded,
)
from physgen.verbs.where import ThetaTable, open_theta, rows_asked_for, theta_given
from simulators.base import Array

if TYPE_CHECKING:
    from physgen.law import Law
    from physgen.surrogates.base import Surrogate

__all__ = ["sample"]


class SampleOptions(SamplerOptions, EngineOptions, total=False):
    """How a dataset is drawn from a surrogate, and where."""


@on_files("out", resumes=True)
@threaded
def sample(
    surrogate: SurrogateLike,
    *,
    out: Path | str | None = None,
    n: int | None = None,
    theta: Values | None = None,
    like: DataLike | None = None,
    theta_from: ThetaLike | None = None,
    row: int | None = None,
    at: Values | None = None,
    family: FamilyLike | None = None,
    seed: int = 0,
    part: PartLike | None = None,
    device: str = "auto",
    force: bool = False,
    **given: Unpack[SampleOptions],
) -> Dataset:
    """Draw a dataset of (theta, x) from a surrogate: the same kind of file as of a simulator.

    Args:
        surrogate: checkpoint of the surrogate.
        out: HDF5 file to write.
        n: number of rows; all rows of the other file with --like, and all draws or rows with
            --theta-from, if not given.
        theta: value of a parameter, the same in all rows, as in beta=0.44; repeat for each.
        like: another dataset whose theta to take, row by row, and the shape of x.
        theta_from: posterior of infer whose draws to take for theta: x are then predictive, and
            physgen report shows them beside what was observed. Or a table whose rows to take, in
            turn, as for simulate.
        row: row of what was observed whose posterior to take; all of them, mixed, if not given.
        at: other option of the simulator, as in size=16; needs a surrogate of convolutions.
        family: package.module:Class of a family outside the registry; a checkpoint does not import
            code by itself.
        seed: seed of the whole dataset.
        part: I/N, as in 2/4: make part I of N alone and join nothing, as for simulate.
        device: auto, cpu, cuda or cuda:1.
        force: overwrite the file if it exists.
        **given: how it draws, and where.

    Returns:
        The dataset, in memory or in its file.

    Example:
        physgen sample cvae.pt -o fake.h5 --theta beta=0.44 -n 1000
    """
    array_part = asked_part(part, out)
    where, use = split_options(given)
    example = None if like is None else Dataset(like)
    here = device_here(surrogate, device, where)
    model = open_surrogate(surrogate, here, family=family, like=example, at=at, **use)
    draws = open_theta(theta_from, row)
    rows, follow = parameters(model.law, n, theta, example, draws, seed)
    count = (n or 0) if rows is None else len(rows)
    require(n=(count, 1), seed=(seed, 0))
    command = called(
        "sample", surrogate,
        n=n, theta=theta, like=like, theta_from=theta_from, row=row, at=at, **use, seed=seed,
    )  # fmt: skip
    source = {"kind": "surrogate", "name": model.name, "sha256": origin_of(model)["sha256"]}
    meta = Meta(model.law, source | follow, seed, dataset.provenance(command))
    drawing = model.device.type if device == "auto" else device
    make, label = Draw(model, rows, drawing), f"sample {model.name}"
    with engine(**where) as there:
        how: dict[str, Any] = {"engine": there, "force": force}
        if out is not None and array_part:
            return make_part(out, array_part, count, meta, make, label, **how)
        made, seconds = make_dataset(out, count, meta, make, label, **how)
    speed = f" at {count / seconds:,.0f} a s" if out else ""
    return Dataset(made, headed(out, f"{plural(count, 'row')} of {model.name}{speed}"))


def device_here(surrogate: SurrogateLike, device: str, where: Mapping[str, Any]) -> str:
    """Where a surrogate is opened: workers take GPUs of their own, which need not be here."""
    workers, executor, scheduler = map(where.get, ("workers", "executor", "scheduler"))
    here = executor is None and not scheduler and (workers or 1) == 1
    if here or not device.startswith("cuda"):
        return device
    return "cpu" if isinstance(surrogate, str | Path) else "auto"


@dataclass(frozen=True)
class Draw:
    """Makes a shard of a dataset by a surrogate.

    Attributes:
        surrogate: what draws.
        theta: (n, D) the parameters of all rows; None to draw them from the prior.
        device: where workers draw; that of the surrogate if empty.
    """

    surrogate: Surrogate
    theta: Array | None
    device: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        from physgen.runtime.blocks import sent_with

        device = self.device or str(self.surrogate.device)
        return sent_with(Draw, self.surrogate, self.theta, device, device=device)

    def __call__(self, shard: Shard) -> Rows:
        """θ as given or from the prior, and x from the surrogate."""
        import torch

        from physgen.runtime.device import threads

        theta_seed, x_seed = shard.seed.spawn(2)
        prior, n = self.surrogate.law.prior, len(shard)
        if self.theta is None:
            theta = prior.sample(n, np.random.default_rng(theta_seed))
        else:
            theta = self.theta[shard.start : shard.stop]
        generator = torch.Generator(self.surrogate.device)
        generator.manual_seed(int(x_seed.generate_state(1, np.uint64)[0] >> 1))
        with threads():
            x = self.surrogate.sample(torch.from_numpy(theta), generator)
        return Rows(x=x.cpu().numpy(), theta=theta)


def parameters(
    law: Law,
    n: int | None,
    theta: Values | None,
    like: Dataset | None,
    draws: PosteriorDraws | ThetaTable | None,
    seed: int,
) -> tuple[Array | None, dict[str, Any]]:
    """The θ of all rows that were asked for, (n, D), None for the prior; and what they follow.

    Raises:
        UsageError: parameters that are missing or that the law does not have, or none or several
            ways to choose them.
        DataError: data without θ, or θ outside the prior.
    """
    ways = {"theta": theta, "like": like, "theta-from": draws}
    given = [f"--{name}" for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"sample: give either {' or '.join(given)}, not both")
    if (n is None) != (like is not None) and draws is None:
        raise UsageError("sample: expected either -n or --like")
    if draws:
        follows, about = theta_given(law, draws, {}, n)
        rows = np.arange(rows_asked_for(n, follows))
        return follows.at(rows, np.random.default_rng([seed, 3])), about
    if like:
        follow = like.proposal or ("" if like.meta and like.law.prior == law.prior else like.name)
        return like.theta, {"theta": {"follow": follow}} if follow else {}
    if theta is None:
        return None, {}
    if set(theta) != set(law.prior.names):
        raise UsageError(
            f"theta: expected {', '.join(law.prior.names)}, got {', '.join(theta) or 'none'}"
        )
    one = [float(theta[name]) for name in law.prior.names]
    if not law.prior.contains(np.array([one]))[0]:
        raise DataError(f"theta is outside the prior{outside(np.array(one), law.prior)}")
    return np.tile(one, (n or 0, 1)), {"theta": {"follow": f"one value, {dict(theta)}"}}

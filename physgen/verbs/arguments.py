"""What verbs take: paths or objects in every place, and the options that several of them share.

The command line reads a verb's signature when it starts, and must not import torch for that: there
a surrogate, a dataset or a posterior is a path, and what is returned is anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypedDict

from physgen.runtime.kinds import bare
from physgen.runtime.options import command_line

if TYPE_CHECKING:
    from torch import Tensor

    from physgen.dataset import Dataset, Rows
    from physgen.posterior.inferred import InferredPosterior
    from physgen.sbi.networks import Network
    from physgen.surrogates.base import Surrogate
    from physgen.verbs.products import Scores
    from simulators.base import Array, Simulator
    from simulators.command import Command
    from simulators.prior import Prior

    DataLike: TypeAlias = Dataset | Rows | Path | str
    DatasetsLike: TypeAlias = DataLike | Sequence[DataLike]
    ObservedLike: TypeAlias = Dataset | Rows | Array | Tensor | Path | str
    SurrogateLike: TypeAlias = Surrogate | Path | str
    ModelLike: TypeAlias = Surrogate | Network | InferredPosterior | Dataset | Rows | Path | str
    PosteriorLike: TypeAlias = InferredPosterior | Path | str
    ThetaLike: TypeAlias = PosteriorLike | DataLike | Array | Tensor | Mapping[str, Any]
    ScoresLike: TypeAlias = Scores | InferredPosterior | Surrogate | Mapping[str, Any] | Path | str
    SeveralScoresLike: TypeAlias = ScoresLike | Sequence[ScoresLike]
    AnyProduct: TypeAlias = Dataset | Surrogate | InferredPosterior | Scores | Path | str
    FamilyLike: TypeAlias = type[Surrogate] | str
    SimulatorLike: TypeAlias = Simulator | Command | type[Simulator] | type[Command] | str
    PriorLike: TypeAlias = Prior | Mapping[str, Any]
    PartLike: TypeAlias = tuple[int, int] | str
else:
    PriorLike = Mapping[str, Any]
    DataLike = ObservedLike = SurrogateLike = ModelLike = ScoresLike = AnyProduct = Path
    DatasetsLike = SeveralScoresLike = Sequence[Path]
    PosteriorLike = ThetaLike = Path
    FamilyLike = SimulatorLike = PartLike = str
    InferredPosterior = Surrogate = Any

__all__ = [
    "AnyProduct",
    "DataLike",
    "DatasetsLike",
    "EngineOptions",
    "FamilyLike",
    "InferredPosterior",
    "JudgeOptions",
    "LikelihoodOptions",
    "ModelLike",
    "ObservedLike",
    "PartLike",
    "PosteriorLike",
    "PriorLike",
    "SamplerOptions",
    "ScoresLike",
    "SeveralScoresLike",
    "SimulatorLike",
    "StepsOption",
    "Surrogate",
    "SurrogateLike",
    "ThetaLike",
    "UseOptions",
    "Values",
    "called",
    "split_options",
]

Values = Mapping[str, float]


class EngineOptions(TypedDict, total=False):
    """Where the work of a verb is done; what it makes does not depend on that."""

    workers: Annotated[
        int | None, "number of processes, on GPUs one each; 1 if not given: this one alone."
    ]
    executor: Annotated[
        Executor | None,
        "where to work instead: any of concurrent.futures, such as client.get_executor() of dask.",
    ]
    scheduler: Annotated[
        str | None,
        "address of a dask scheduler whose workers to take, as in tcp://host:8786; or local:4, to "
        "start one with 4 here.",
    ]
    idle_timeout: Annotated[
        float | None,
        "seconds in which nothing is finished, after which to give up; if not given, 300 s "
        "without any worker.",
    ]


class StepsOption(TypedDict, total=False):
    """Steps, whether of drawing or of scoring."""

    steps: Annotated[
        int | None,
        "steps of the sampler, or of the estimators path and ode: evaluations of the network, or "
        "sweeps, where that is a choice.",
    ]


class SamplerOptions(StepsOption, total=False):
    """How a trained surrogate draws x."""

    sampler: Annotated[
        str | None,
        "way to draw, where the family has several (diffusion: ancestral, ddim, euler, "
        "euler-maruyama, heun, dpm-solver; rbm: gibbs, tempered).",
    ]
    eta: Annotated[float | None, "noise of the sampler ddim, 0 to 1."]


class LikelihoodOptions(StepsOption, total=False):
    """How a trained surrogate's log p(x|θ) is computed."""

    estimator: Annotated[
        str | None, "way to log p, where the family has several (diffusion: bound, path, ode)."
    ]
    ladder: Annotated[int | None, "sweeps of the annealing that gives log Z (rbm)."]
    symmetrise: Annotated[bool, "average log p over the simulator's reflections and flips of x."]


class UseOptions(SamplerOptions, LikelihoodOptions, total=False):
    """How a trained surrogate is used; what it has learnt stays as it is."""


class JudgeOptions(UseOptions, EngineOptions, total=False):
    """How what is judged draws and scores, and where."""


def split_options(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of an engine, and the others."""
    names = EngineOptions.__annotations__
    return (
        {k: v for k, v in given.items() if k in names},
        {k: v for k, v in given.items() if k not in names},
    )


def called(verb: str, *arguments: object, **given: Any) -> str:
    """A verb's call as the shell would have it; objects in memory are told as such."""

    def told(value: object) -> object:
        value = bare(value)
        if isinstance(value, list):
            return [told(item) for item in value]
        if isinstance(value, str | int | float | bool | slice | Enum | Mapping | tuple | None):
            return value
        return getattr(value, "path", value if isinstance(value, Path) else None) or "(in memory)"

    every = [b for a in arguments for b in (a if isinstance(a, list | tuple) else [a])]
    words = [told(a) for a in every]
    return command_line(verb, *words, **{k: told(v) for k, v in given.items()})

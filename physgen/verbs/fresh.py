"""Fresh rows for a training: whose simulator may draw them, and what is told of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from physgen.dataset import Dataset
from physgen.dataset.fresh import FreshRows
from physgen.dataset.simulated import OnError, Simulate
from physgen.errors import UsageError
from physgen.law import Law
from physgen.registry import registered
from physgen.runtime.ranks import ranks_now
from physgen.verbs.arguments import SimulatorLike
from physgen.verbs.opening import name_of_simulator
from physgen.verbs.running import require

__all__ = ["FreshOptions"]


@dataclass(frozen=True)
class FreshOptions:
    """How the rows of a training are drawn anew.

    Attributes:
        simulate: whether they are.
        simulator: word for a simulator outside the registry.
        workers: processes that draw the rows of the next epoch meanwhile.
        reuse: epochs that are trained on the same rows.
        on_error: what to do about rows that fail; as in the dataset, if None.
    """

    simulate: bool
    simulator: SimulatorLike | None
    workers: int
    reuse: int
    on_error: OnError | None

    def __post_init__(self) -> None:
        """Refuse what is out of range, or means nothing.

        Raises:
            UsageError: one of them.
        """
        require(workers=(self.workers, 0), reuse=(self.reuse, 1))
        usual = {"simulator": None, "workers": 0, "reuse": 1, "on_error": None}
        for name, value in usual.items():
            if not self.simulate and getattr(self, name) != value:
                raise UsageError(f"{name}: is an option of --simulate, which was not given")

    @contextmanager
    def opened(
        self, source: Dataset, rows: int, epochs: int, seed: int
    ) -> Iterator[FreshRows | None]:
        """What draws the rows of each epoch; None where they stay those of the dataset.

        Args:
            source: the dataset, for its law.
            rows: of an epoch.
            epochs: at most.
            seed: of all rows.

        Raises:
            UsageError: θ that do not follow the prior, or no simulator that may be run.
        """
        if not self.simulate:
            yield None
            return
        source.require_prior("--simulate draws theta from the prior; fit it without")
        make = Simulate(self.law_of(source), self.on_error or as_in(source))
        how, ranks = (epochs, self.reuse, self.workers), ranks_now()
        with FreshRows(
            make, rows, seed, *how, share=ranks.share, collect=ranks.collected
        ) as fresh:
            yield fresh

    def law_of(self, source: Dataset) -> Law:
        """The law of a dataset, whose simulator may be built.

        Raises:
            UsageError: it is outside the registry, and nobody vouches for it; or there is none,
                since the rows were imported.
        """
        law, trusted = source.law, name_of_simulator(self.simulator)
        if ":" not in law.simulator and not registered("simulators", law.simulator):
            raise UsageError(
                f"{source.name}: its rows are of {law.simulator}, not of a simulator that physgen "
                "ran, so that none can be drawn anew; fit without --simulate"
            )
        if law.build_if_known(trusted) is None:
            raise UsageError(
                f"{source.name}: its simulator {law.simulator} is outside the registry; add "
                f"--simulator {law.simulator} if you trust it (in Python the class), or fit "
                "without --simulate"
            )
        module = (trusted or "").partition(":")[0]
        return replace(law, simulator=trusted) if trusted and module == "__main__" else law

    def told(self, source: Dataset, seed: int, rows: int) -> dict[str, Any] | None:
        """What the rows of the training depend on, as JSON data; None if on the dataset alone."""
        if not self.simulate:
            return None
        return {
            "simulator": source.law.simulator,
            "seed": seed,
            "rows_per_epoch": rows,
            "reuse": self.reuse,
            "on_error": self.on_error or as_in(source),
        }


def as_in(source: Dataset) -> OnError:
    """What was done about rows that failed when a dataset was made."""
    known: Mapping[str, Any] = source.failures
    return known.get("on_error", "stop")

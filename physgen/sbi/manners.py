"""Manners for calling `sbi`: what it needs, and what it must not do to those who call.

It draws from the global generators of torch and numpy, writes TensorBoard folders where the
program runs, prints, logs through the root logger (which then gets a handler), and works in
float32. Nothing else in the house imports it at its head but
what is imported only when a method of sbi is asked for.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from physgen.errors import UsageError
from simulators.base import Array
from simulators.prior import Prior

__all__ = [
    "Tracker",
    "need_sbi",
    "need_single",
    "single",
    "visiting",
]

VALUES = 1000
"""Values that float32 must tell apart in a prior."""


def need_sbi(what: str) -> None:
    """Refuse in one line where `sbi` is not installed.

    Args:
        what: what it is needed for.

    Raises:
        UsageError: it is not installed.
    """
    if importlib.util.find_spec("sbi") is None:
        raise UsageError(f"{what}: needs sbi; pip install 'physgen[sbi]'")


@contextlib.contextmanager
def visiting(seed: int) -> Iterator[None]:
    """Run sbi's code: seeded, silent, and leaving the global random numbers as they were."""
    before = np.random.get_state()  # noqa: NPY002 - sbi draws from the global generator
    muted = logging.root.manager.disable
    logging.disable(max(muted, logging.WARNING))
    try:
        with (
            torch.random.fork_rng(devices=[]),
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)  # noqa: TID251 - so does torch in it
            np.random.seed(seed % 2**32)  # noqa: NPY002, TID251
            yield
    finally:
        logging.disable(muted)
        np.random.set_state(before)  # noqa: NPY002


def single(a: Array) -> Tensor:
    """An array (...) in sbi's precision, float32."""
    return torch.as_tensor(a, dtype=torch.float32)


def need_single(prior: Prior, what: str) -> None:
    """Refuse a prior that θ in float32 cannot tell its own values apart in.

    Args:
        prior: of θ in its units.
        what: what would be given such θ.

    Raises:
        UsageError: of `VALUES` evenly spread over its bulk some are one, or beyond float32.
    """
    low, high = prior.to_coordinates(prior.bulk)
    theta = prior.from_coordinates(np.linspace(low, high, VALUES))
    with np.errstate(over="ignore"):
        seen = theta.astype(np.float32)
    for p, values in zip(prior.parameters, seen.T, strict=True):
        if not np.isfinite(values).all() or len(np.unique(values)) < VALUES:
            raise UsageError(
                f"{what}: sbi gives θ in float32, which has too few values of {p.name} in "
                f"{p.text}; take another unit or origin, or physgen infer, which maps the prior "
                "in float64"
            )


class Tracker:
    """An sbi tracker that writes nothing; the default makes a folder where the program runs."""

    log_dir = None

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Forget a figure."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Forget figures."""

    def flush(self) -> None:
        """Nothing to write."""

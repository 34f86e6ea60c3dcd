"""Priors between what was learnt and what is asked for: a part of one, and what two share."""

from __future__ import annotations

from collections.abc import Mapping

from physgen.errors import UsageError
from simulators.prior import Prior

__all__ = ["common_prior", "restrict_prior"]


def restrict_prior(
    known: Prior, bounds: Mapping[str, tuple[float, float]] | None, who: str = "the training knows"
) -> Prior:
    """The prior that was asked for, inside what is known.

    Args:
        known: the box outside of which nothing is known.
        bounds: other bounds for some of the parameters.
        who: what knows it, with its verb.

    Raises:
        UsageError: another parameter, or bounds beyond what is known.
    """
    try:
        prior = known.replace(**dict(bounds or {}))
    except ValueError as error:
        raise UsageError(str(error)) from error
    for p, k in zip(prior.parameters, known.parameters, strict=True):
        if p.low < k.low or p.high > k.high:
            raise UsageError(
                f"prior: expected {p.name} within {k.bounds}, where {who} it, got {p.bounds}"
            )
    return prior


def common_prior(
    trained: Prior, data: Prior, bounds: Mapping[str, tuple[float, float]] | None
) -> Prior:
    """The prior to judge posteriors under: what the training knew and the data have, or less.

    Args:
        trained: prior of the surrogate.
        data: prior of the dataset.
        bounds: what was asked for.

    Raises:
        UsageError: another parameter, bounds outside, or nothing in common.
    """
    if trained.names != data.names:
        raise UsageError(
            f"theta: expected data of {', '.join(trained.names)}, as was learnt, got "
            f"{', '.join(data.names)}; of another simulator?"
        )
    pairs = zip(trained.parameters, data.parameters, strict=True)
    try:
        common = trained.replace(
            **{t.name: (max(t.low, d.low), min(t.high, d.high)) for t, d in pairs}
        )
    except ValueError as error:
        raise UsageError(f"surrogate and data have no prior in common: {error}") from error
    return restrict_prior(common, bounds, "surrogate and data know")

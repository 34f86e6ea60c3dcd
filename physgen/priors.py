"""Priors between what was learnt and what is asked for: one inside another, and what two share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from physgen.errors import UsageError
from simulators.base import Array
from simulators.parameter import LOGARITHMIC, Parameter, Uniform
from simulators.prior import Prior

__all__ = [
    "asked_for", "common_prior", "correlated", "laws_in_words", "parameters_in", "restrict_prior",
    "truncated_prior",
]  # fmt: skip


def asked_for(
    prior: Prior | Mapping[str, Any] | None, fix: Mapping[str, float] | None
) -> Prior | Mapping[str, Any]:
    """Laws of some parameters, and values of others, together.

    Raises:
        UsageError: a parameter in both, or one that the prior does not have.
    """
    if not isinstance(prior, Prior | Mapping | None):
        raise UsageError(
            "prior: expected a Prior, or laws by name, as in {'h': stats.norm(0, 1)}, "
            f"got {prior!r}"
        )
    values = {name: float(value) for name, value in (fix or {}).items()}
    if isinstance(prior, Prior):
        return restrict_prior(prior, values, "the prior has") if values else prior
    if twice := set(prior or {}) & set(values):
        raise UsageError(f"prior: {', '.join(sorted(twice))} is both given a law and fixed")
    return {**(prior or {}), **values}


def correlated(prior: Prior, correlation: Mapping[str, float] | None) -> Prior:
    """A prior with correlations of pairs, as in ``beta:h``, besides its own.

    Raises:
        UsageError: no pair of its parameters, or a correlation that cannot be.
    """
    pairs = {tuple(key.split(":")): float(r) for key, r in (correlation or {}).items()}
    try:
        return prior.correlate(pairs)
    except ValueError as error:
        raise UsageError(str(error)) from error


def restrict_prior(
    known: Prior,
    laws: Prior | Mapping[str, Any] | None,
    who: str = "the training knows",
) -> Prior:
    """The prior that was asked for, inside what is known.

    Args:
        known: the prior outside of whose support nothing is known.
        laws: other laws, or values, of some of the parameters.
        who: what knows it, with its verb.

    Raises:
        UsageError: another parameter, or support beyond what is known.
    """
    try:
        prior = known.with_laws(laws)
    except ValueError as error:
        raise UsageError(str(error)) from error
    support = {p.name: p for p in known.parameters}
    for p in prior.every:
        k = support.get(p.name, p)
        if p.low < k.low or p.high > k.high:
            raise UsageError(
                f"prior: expected {p.name} within {k.text}, where {who} it, got {p.text}"
            )
    return prior


def common_prior(trained: Prior, data: Prior, bounds: Prior | Mapping[str, Any] | None) -> Prior:
    """The prior to judge posteriors under: that of the data, in what the training knew, or less.

    Args:
        trained: prior of the surrogate.
        data: prior of the dataset, which its θ follow.
        bounds: what was asked for: bounds of what is uniform, so that the θ inside follow it too.

    Raises:
        UsageError: another parameter, bounds outside, nothing in common, or a prior that no part
            of the rows follows.
    """
    if trained.names != data.names:
        raise UsageError(
            f"theta: expected data of {', '.join(trained.names)}, as was learnt, got "
            f"{', '.join(data.names)}; of another simulator?"
        )
    cut = {
        d.name: (max(t.low, d.low), min(t.high, d.high))
        for t, d in zip(trained.parameters, data.parameters, strict=True)
        if t.low > d.low or t.high < d.high
    }
    return _cut(_cut(data, cut, "surrogate and data know"), bounds, "surrogate and data know")


def _cut(data: Prior, bounds: Prior | Mapping[str, Any] | None, who: str) -> Prior:
    """The law of those θ of a dataset that lie inside of bounds.

    Raises:
        UsageError: bounds of what is not uniform, or nothing inside.
    """
    try:
        prior = data.with_laws(bounds)
    except ValueError as error:
        raise UsageError(f"surrogate and data have no prior in common: {error}") from error
    changed = [(p, q) for p, q in zip(data.every, prior.every, strict=True) if p != q]
    for p, q in changed:
        if not (isinstance(p.law, Uniform) and isinstance(q.law, Uniform)) or data.correlation:
            raise UsageError(
                f"prior: theta of the data follow {p.name} = {p.text}, and no part of them "
                f"{q.text}; judge data that were drawn from the prior of the posteriors"
            )
    return restrict_prior(data, bounds, who)


def laws_in_words(prior: Prior | Mapping[str, Any] | None) -> dict[str, str]:
    """Laws that were given, as the command line spells them.

    Raises:
        UsageError: what is no law.
    """
    try:
        return Prior.words(prior)
    except ValueError as error:
        raise UsageError(str(error)) from error


def truncated_prior(prior: Prior, box: Array) -> tuple[Prior, list[str]]:
    """The prior of those θ that lie in a box, as far as scipy has a name for it.

    Args:
        prior: of θ.
        box: least and greatest values, (2, D), inside the support.

    Returns:
        the prior, and the names of parameters that keep their whole law: those that are
        correlated, or of whose law scipy has no part.
    """
    laws, whole = {}, []
    for p, low, high in zip(prior.parameters, *box.tolist(), strict=True):
        if low <= p.low and high >= p.high:
            continue
        part = None if p.name in prior.tied else _part(p, max(low, p.low), min(high, p.high))
        if part is None:
            whole.append(p.name)
        else:
            laws[p.name] = part
    return prior.replace(**laws), whole


def _part(p: Parameter, low: float, high: float) -> Any:
    """The law of a parameter between two values; None where scipy has none."""
    if isinstance(p.law, Uniform):
        return low, high
    from scipy import stats  # slow to import

    about = p.to_json()
    name, known = about.get("law"), about.get("arguments", {})
    if name in LOGARITHMIC and known["loc"] == 0:
        return stats.loguniform(low, high)
    if name not in ("norm", "truncnorm"):
        return None
    loc, scale = known["loc"], known["scale"]
    return stats.truncnorm((low - loc) / scale, (high - loc) / scale, loc, scale)


def parameters_in(text: str | Sequence[str], names: Sequence[str]) -> list[str]:
    """Names of parameters, as in ``beta,h`` or a list of names.

    Raises:
        UsageError: one that is none of the names, or twice there.
    """
    found = [n.strip() for n in (text.split(",") if isinstance(text, str) else text)]
    for name in found:
        if name not in names or found.count(name) > 1:
            raise UsageError(f"interest: expected some of {', '.join(names)}, got {text!r}")
    return found

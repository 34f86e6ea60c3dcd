"""Several files on one page: which scores are of one model, and what fits together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from physgen.dataset.joined import in_common
from physgen.errors import UsageError
from physgen.law import Law
from physgen.reporting.quantities import free
from physgen.reporting.view import CURVES, some_observations

__all__ = ["models_of", "overlaid_posteriors"]

MOST = 5
"""Posteriors that are drawn over each other, at most."""

KINDS = {
    "physgen/metrics/1": "metrics",
    "physgen/calibration/1": "calibration",
    "physgen/comparison/1": "comparison",
}
"""Schema → what it is of a model."""


def models_of(several: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """What several scores say, one entry a model, as one page shows it.

    Args:
        several: name of a file, and what is in it: scores of validate, calibrate or compare.

    Raises:
        UsageError: something that is no score, scores of different laws, of one model, or twice.
    """
    models: list[dict[str, Any]] = []
    for name, found in several:
        if (kind := KINDS.get(found.get("schema", ""))) is None:
            raise UsageError(
                f"{name}: expected scores of validate, calibrate or compare beside others, got "
                f"{found.get('schema')!r}; give it a page of its own"
            )
        require_same_law(several[0], (name, found))
        mine = weights_and_use(kind, found)
        if any(m.get(kind) == found for m in models):
            raise UsageError(f"{name}: is there twice; leave it out")
        known = [m for m in models if m["identity"] == mine and kind not in m]
        if not known:
            models.append({"identity": mine, "file": name, **about(kind, found)})
        (known or models[-1:])[0][kind] = found
    if len(models) < 2:
        raise UsageError(
            f"report: expected scores of two models at least, got {len(several)} files of one; "
            "give each a page of its own"
        )
    for model, name in zip(models, short_names(models), strict=True):
        model["name"] = name
    apart = {k for k in KINDS.values() if len(judged_on(m[k] for m in models if k in m)) > 1}
    law = law_in(several[0][1])
    return {"schema": "physgen/models/1", "law": law, "models": models, "apart": sorted(apart)}


def weights_and_use(kind: str, found: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells a model from others: SHA-256 of its weights, and how it is used."""
    if kind == "comparison":
        made = found["generated"]
        source = made.get("source") or {}
        return source.get("sha256") or made.get("sha256"), "{}"
    judged = found.get("surrogate") or found.get("network") or {}
    use = {k: v for k, v in (judged.get("use") or {}).items() if v}
    return judged.get("sha256"), str(use)


def about(kind: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """The family of a model and its file."""
    if kind == "comparison":
        made = found["generated"]
        source = made.get("source") or {}
        return {"family": source.get("name") or "generated", "path": made.get("path")}
    judged = found.get("surrogate") or found.get("network") or {}
    return {"family": judged.get("family") or "model", "path": judged.get("path")}


def short_names(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """A short name for each: its family, or its own file, or that of its scores, or a number."""
    ways = (
        [m["family"] for m in models],
        [Path(m["path"]).stem if m["path"] else "" for m in models],
        [Path(m["file"]).stem for m in models],
    )
    numbered = [f"{m['family']} {i}" for i, m in enumerate(models, 1)]
    return next((w for w in ways if all(w) and len(set(w)) == len(w)), numbered)


def require_same_law(
    first: tuple[str, Mapping[str, Any]], other: tuple[str, Mapping[str, Any]]
) -> None:
    """Refuse scores on x of another law, or under another prior.

    Raises:
        UsageError: they cannot stand beside each other.
    """
    ours, theirs = (facts_of_law(found) for _, found in (first, other))
    for name in ours.keys() | theirs.keys() if ours and theirs else ():
        if ours.get(name) != theirs.get(name):
            raise UsageError(
                f"{other[0]}: has {name} {theirs.get(name)}, {first[0]} has {ours.get(name)}: "
                "scores of different laws cannot stand side by side; give each a page of its own"
            )


def facts_of_law(found: Mapping[str, Any]) -> dict[str, Any]:
    """What scores must have in common, by its name; empty where no law is told."""
    if not (data := law_in(found)):
        return {}
    law = Law.from_json(data)
    return in_common(law) | {"prior": law.prior}


def law_in(found: Mapping[str, Any]) -> dict[str, Any]:
    """The law of the x that was judged, as JSON data; empty if none is told."""
    places = ("data", "reference", "surrogate", "network", "generated")
    laws = ((found.get(place) or {}).get("law") for place in places)
    return next(filter(None, laws), {})


def judged_on(several: Iterable[Mapping[str, Any]]) -> set[tuple[Any, Any]]:
    """The rows that some scores are of."""
    data = [found.get("data") or found.get("reference") or {} for found in several]
    return {(d.get("sha256"), d.get("rows")) for d in data}


def overlaid_posteriors(several: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Several posteriors of the same parameters, of the rows that all of them have.

    Where they are of different observations, the first ones go together.

    Args:
        several: name of a file, and what is in it.

    Raises:
        UsageError: something that is no posterior, one of other parameters or of other rows, one
            that is there twice, or too many.
    """
    names, first = [name for name, _ in several], several[0][1]
    if len(several) > MOST:
        raise UsageError(f"report: expected at most {MOST} posteriors, got {len(several)}")
    if twice := [name for name in names if name != "memory" and names.count(name) > 1]:
        raise UsageError(f"{twice[0]}: is there twice; leave it out")
    ours = sorted(p["name"] for p in free(first["law"]["prior"]))
    for name, found in several:
        if found.get("schema") != first["schema"]:
            raise UsageError(
                f"{name}: expected a posterior beside others, got {found.get('schema')!r}; give "
                "it a page of its own"
            )
        if (theirs := sorted(p["name"] for p in free(found["law"]["prior"]))) != ours:
            raise UsageError(
                f"{name}: is of {', '.join(theirs)}, {names[0]} of {', '.join(ours)}: only "
                "posteriors of the same parameters are drawn over each other"
            )
    every = [found for _, found in several]
    seen = {(found.get("observed") or {}).get("sha256") for found in every}
    rows = len(seen) == 1 and seen != {None}
    begins = [found.get("first_row", 0) if rows else 0 for found in every]
    ends = [b + len(f["arrays"]["theta"]) for b, f in zip(begins, every, strict=True)]
    start, stop = max(begins), min(ends)
    if start >= stop:
        raise UsageError(f"{names[-1]}: has no row in common with {names[0]}")
    stems = [Path(name).stem for name in names]
    called = stems
    if len(set(stems)) < len(stems):
        called = [f"{k}: {stem}" for k, stem in enumerate(stems, 1)]
    posteriors = []
    for name, found, begin in zip(called, every, begins, strict=True):
        one = some_observations(found, slice(start - begin, stop - begin))
        one["arrays"] = {k: v for k, v in one["arrays"].items() if k not in CURVES}
        posteriors.append({**one, "name": name})
    return {"schema": "physgen/posteriors/1", "posteriors": posteriors, "rows": rows,
            "interest": first.get("interest") or [p["name"] for p in free(first["law"]["prior"])],
            "law": first["law"]}  # fmt: skip

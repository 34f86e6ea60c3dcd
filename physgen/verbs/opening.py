"""The files that verbs read: surrogates, networks, datasets, and whether they fit each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from physgen import dataset
from physgen.dataset import Rows
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.runtime.progress import log
from simulators.base import Box

if TYPE_CHECKING:
    from physgen.surrogates.base import Surrogate
    from physgen.verbs.inferring import Source

__all__ = [
    "Bounds",
    "Values",
    "chosen",
    "inside",
    "law_of",
    "load",
    "narrowed",
    "origin",
    "parent_of",
    "prepared",
    "source_of",
]

Bounds = Mapping[str, tuple[float, float]]
Values = Mapping[str, float]


def load(surrogate: Path, device: str = "auto") -> tuple[Surrogate, dict[str, Any]]:
    """Read a surrogate for use in Python.

    Args:
        surrogate: checkpoint of the surrogate.
        device: auto, cpu, cuda or cuda:1.

    Returns:
        the surrogate on its device, and what is known of its making.

    Raises:
        DataError: a file that is no checkpoint, or is damaged.
    """
    from physgen.runtime.device import device_of
    from physgen.surrogates import checkpoint

    model, info = checkpoint.load(Path(surrogate), device_of(device))
    weights = sum(w.numel() for w in model.parameters())
    return model, info | {"sha256": dataset.file_digest(Path(surrogate)), "weights": weights}


def parent_of(path: Path, family: type[Surrogate], device: str) -> Surrogate:
    """The checkpoint to start from.

    Raises:
        UsageError: one of another family.
    """
    parent, _ = load(path, device)
    if not isinstance(parent, family):
        raise UsageError(f"{path}: expected a checkpoint of {family.name}, got {parent.name}")
    return parent


def prepared(
    path: Path, device: str, data: Path | None, at: Values | None, **options: Any
) -> tuple[Surrogate, dict[str, Any]]:
    """A surrogate that draws or scores as asked, at the shape of x that is asked for.

    Args:
        path: checkpoint.
        device: where to put it.
        data: dataset whose shape of x to take, if it is of the same simulator.
        at: options of the simulator to change.
        **options: as for `Surrogate.using`.
    """
    model, info = load(path, device)
    law = model.law.changed(at) if at else model.law
    meta = dataset.read(data, slice(0, 1)).meta if data and not at else None
    if meta and meta.law.simulator == law.simulator:
        law = replace(meta.law, prior=law.prior)
    if law.x_shape != model.law.x_shape:
        trained, model = model.law.x_shape, model.at(law)
        log.info("%s: trained on x of shape %s, used on %s", path, trained, law.x_shape)
    return model.using(**options), info


def source_of(path: Path, rows: Path, device: str, at: Values | None, **ways: Any) -> Source:
    """What to infer with, by the content of its file.

    Args:
        path: checkpoint of a surrogate, trained network, or dataset.
        rows: dataset whose shape of x a surrogate is to take.
        device: where to put it.
        at: options of a surrogate's simulator to change.
        **ways: options of a surrogate, as for `Surrogate.using`.

    Raises:
        DataError: a file that is none of these.
        UsageError: options of a surrogate for something else.
    """
    from physgen.runtime.device import device_of
    from physgen.sbi.networks import Network
    from physgen.verbs.inferring import Source, kind_of

    kind = kind_of(path)
    if kind == "surrogate":
        model, info = prepared(path, device, rows, at, **ways)
        return Source(path, model.law, info, surrogate=model)
    given = [name for name, value in ways.items() if value is not None] + ["at"] * bool(at)
    if given:
        raise UsageError(f"{path}: is a {kind}; {given[0]} is an option of surrogates")
    about: dict[str, Any] = {"sha256": dataset.file_digest(path)}
    if kind == "dataset":
        return Source(path, law_of(path), about, data=path)
    network = Network.load(path, device_of(device))
    weights = sum(w.numel() for w in network.net.parameters())
    law = network.law.to_json()
    about |= {"family": network.method, "law": law, "weights": weights, **network.info}
    return Source(path, network.law, about, network=network)


def chosen(path: Path, rows: slice | None) -> Rows:
    """The rows that were asked for.

    Raises:
        UsageError: the file has fewer.
    """
    found = dataset.read(path, rows)
    if rows and rows.stop and len(found) < rows.stop - (rows.start or 0):
        raise UsageError(f"{path}: expected rows up to {rows.stop}, got {len(found)} of them")
    return found


def inside(known: Box, bounds: Bounds | None, who: str = "the training knows") -> Box:
    """The prior that was asked for.

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
                f"prior: expected {p.name} within {k.low:g}:{k.high:g}, where {who} it, "
                f"got {p.low:g}:{p.high:g}"
            )
    return prior


def narrowed(trained: Box, file: Box, bounds: Bounds | None) -> Box:
    """The prior to judge posteriors under: what the training knew and the file has, or less.

    Args:
        trained: prior of the surrogate.
        file: prior of the dataset.
        bounds: what was asked for.

    Raises:
        UsageError: another parameter, bounds outside, or nothing in common.
    """
    if trained.names != file.names:
        raise UsageError(
            f"theta: expected data of {', '.join(trained.names)}, as was learnt, got "
            f"{', '.join(file.names)}; of another simulator?"
        )
    pairs = zip(trained.parameters, file.parameters, strict=True)
    try:
        common = trained.replace(
            **{t.name: (max(t.low, f.low), min(t.high, f.high)) for t, f in pairs}
        )
    except ValueError as error:
        raise UsageError(f"surrogate and data have no prior in common: {error}") from error
    return inside(common, bounds, "surrogate and data know")


def origin(path: Path, rows: Rows) -> dict[str, Any]:
    """Where rows come from, for a record."""
    found = {"path": str(path), "sha256": dataset.file_digest(path), "rows": len(rows)}
    if rows.meta is None:
        return found
    return found | {"law": rows.meta.law.to_json(), "source": dict(rows.meta.source)}


def law_of(path: Path) -> Law:
    """The law that a dataset follows.

    Raises:
        DataError: a file that does not say.
    """
    meta = dataset.read(path, slice(0, 1)).meta
    if meta is None:
        raise DataError(f"{path}: no metadata, so no prior; make it with physgen simulate")
    return meta.law

"""Paths or objects: what verbs were given, opened, and whether it fits together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from physgen import dataset
from physgen.dataset import Dataset, Rows
from physgen.errors import DataError, UsageError
from physgen.registry import name_of
from physgen.runtime.kinds import as_json_data
from physgen.runtime.progress import log
from physgen.verbs.arguments import (
    DatasetsLike,
    FamilyLike,
    ModelLike,
    SimulatorLike,
    SurrogateLike,
    Values,
)
from physgen.verbs.products import LatentCodes, Scores
from simulators.command import Command

if TYPE_CHECKING:
    from physgen.posterior.methods import Source
    from physgen.sbi.networks import Network
    from physgen.surrogates.base import Surrogate

__all__ = [
    "load",
    "name_of_simulator",
    "open_data",
    "open_source",
    "open_surrogate",
    "origin_of",
    "remember_file",
    "save",
]


def load(
    path: Path | str, device: str = "auto", *, family: FamilyLike | None = None
) -> tuple[Any, dict[str, Any]]:
    """Open what a verb wrote, by the content of the file, for use in Python.

    Args:
        path: a surrogate, a network, a posterior, latents, a dataset or scores.
        device: auto, cpu, cuda or cuda:1, of a surrogate or a network.
        family: class, or package.module:Class, of a family outside the registry; a checkpoint does
            not import code by itself.

    Returns:
        the object, as the verb returned it, and what is known of its making.

    Raises:
        DataError: a file that is none of these, or is damaged.
        UsageError: a family outside the registry that is not vouched for.
    """
    path = Path(path).expanduser()
    kind = dataset.container(path)
    if kind == "HDF5":
        return load_rows(path)
    if kind == "JSON":
        from physgen.verbs.pages import scores_in

        found = scores_in(path)
        scores = Scores(found, f"{path}: {found.get('summary', found['schema'])}", path)
        return scores, dict(found.get("provenance") or {})
    if kind in ("zip", "safetensors") and kind_of(path) == "network":
        from physgen.runtime.device import device_of
        from physgen.sbi.networks import Network

        network = Network.load(path, device_of(device))
        return network, network.info
    model = load_surrogate_of(path, device, family)
    return model, model.info


def load_rows(path: Path) -> tuple[Any, dict[str, Any]]:
    """A posterior, latents, restored x or a dataset, and what its file says of itself."""
    schema = dataset.schema_of(path)
    if schema.startswith("physgen/latents/"):
        codes = LatentCodes.load(path)
        return codes, dict(codes["provenance"])
    if schema.startswith("physgen/restoration/"):
        from physgen.verbs.restored import RestoredRows

        restored = RestoredRows.load(path)
        return restored, dict(restored.about)
    if not dataset.is_posterior(path):
        data = Dataset(path)
        return data, data.meta.to_json() if data.meta else {}
    from physgen.posterior.inferred import InferredPosterior

    posterior = InferredPosterior.load(path)
    return posterior, dict(posterior.about)


def load_surrogate_of(
    path: Path, device: str = "auto", family: FamilyLike | None = None
) -> Surrogate:
    """The surrogate of a checkpoint; arguments and errors as for `load`."""
    from physgen.runtime.device import device_of
    from physgen.surrogates import checkpoint

    model, info = checkpoint.load_surrogate(path, device_of(device), family)
    weights = sum(w.numel() for w in model.parameters())
    model.info = info | {"sha256": dataset.file_digest(path), "weights": weights}
    model.summary = f"{path}: {type(model).__name__} of {weights:,} weights"
    remember_file(model, path)
    return model


def save(product: Any, path: Path | str, *, force: bool = False) -> None:
    """Write a surrogate, a dataset, a posterior, scores or a page that was made in memory.

    Args:
        product: what a verb returned.
        path: file to write.
        force: overwrite the file if it exists.

    Raises:
        StorageError: the file system refused.
        UsageError: the file exists, or something that has no file of its own.
    """
    path = Path(path).expanduser()
    dataset.refuse_overwriting(path, force)
    if hasattr(product, "save"):
        product.save(path, force=force)
    elif text := getattr(product, "html", None) or getattr(product, "as_json", None):
        dataset.write_bytes(path, text.encode(), sidecar=False)
    elif hasattr(product, "state_dict") and hasattr(product, "describe"):
        from physgen.surrogates.checkpoint import save_surrogate

        save_surrogate(product, path, product.info)
        remember_file(product, path)
    else:
        raise UsageError(f"save: expected what a verb returned, got {type(product).__name__}")


def remember_file(model: Surrogate, path: Path) -> None:
    """Let a surrogate know its file, and the weights that are in it."""
    from physgen.nn.tensors import digest

    model.path = path
    model.file_digests = dataset.file_digest(path), digest(dict(model.state_dict()), "")


def open_surrogate(
    model: SurrogateLike,
    device: str = "auto",
    *,
    family: FamilyLike | None = None,
    like: Dataset | None = None,
    at: Values | None = None,
    **use: Any,
) -> Surrogate:
    """A surrogate that draws or scores as asked, at the shape of x that is asked for.

    Args:
        model: checkpoint, or the surrogate itself.
        device: where to put it; one in memory stays where it is if auto.
        family: as for `load`.
        like: dataset whose shape of x to take, if it is of the same simulator.
        at: options of the simulator to change.
        **use: as for `Surrogate.using`.
    """
    from physgen.runtime.device import device_of
    from physgen.surrogates.base import Surrogate

    if isinstance(model, str | Path):
        surrogate = load_surrogate_of(Path(model), device, family)
    elif not isinstance(model, Surrogate):
        raise UsageError(f"expected a surrogate or its checkpoint, got {given_type(model)}")
    else:
        surrogate = model if device == "auto" else model.to(device_of(device))
    law = surrogate.law.changed(at) if at else surrogate.law
    meta = like.meta if like is not None and not at else None
    if meta and meta.law.simulator == law.simulator:
        law = replace(meta.law, prior=law.prior)
    if law.x_shape != surrogate.law.x_shape:
        trained = surrogate.law.x_shape
        try:
            surrogate = surrogate.at(law)
        except UsageError as error:
            if like is None or at:
                raise
            raise UsageError(f"{like.name}: {error}") from error
        name = getattr(model, "path", model) or surrogate.name
        log.info("%s: trained on x of shape %s, used on %s", name, trained, law.x_shape)
    return surrogate.using(**use) if use else surrogate


def open_source(
    model: ModelLike,
    device: str,
    *,
    like: Dataset | None = None,
    at: Values | None = None,
    family: FamilyLike | None = None,
    **use: Any,
) -> Source:
    """What to infer with, by what it is or by the content of its file.

    Args:
        model: surrogate, trained network, posterior that has one, or dataset; or a file of these.
        device: where to put it.
        like: dataset whose shape of x a surrogate is to take.
        at: options of a surrogate's simulator to change.
        family: as for `load`.
        **use: options of a surrogate, as for `Surrogate.using`.

    Raises:
        DataError: a file that is none of these.
        UsageError: options of a surrogate for something else.
    """
    from physgen.posterior.inferred import InferredPosterior
    from physgen.posterior.methods import Source
    from physgen.runtime.device import device_of
    from physgen.sbi.networks import Network
    from physgen.surrogates.base import Surrogate

    if isinstance(model, InferredPosterior):
        if model.network is None:
            raise UsageError(
                f"model: a posterior by {model.method}, which trains no network, or of a file, "
                "which holds none; give what infer --network wrote"
            )
        model = model.network
    path = model if isinstance(model, Path) else getattr(model, "path", None)
    name = path or Path("(in memory)")
    kind = kind_of(model) if isinstance(model, Path) else ""
    if isinstance(model, Surrogate) or (isinstance(model, Path) and kind == "surrogate"):
        surrogate = open_surrogate(model, device, like=like, at=at, family=family, **use)
        return Source(name, surrogate.law, origin_of(surrogate), surrogate=surrogate)
    given = [n for n, value in (use | {"at": at, "family": family}).items() if value]
    if given:
        what = kind or type(model).__name__.lower()
        raise UsageError(f"{name}: is a {what}; {given[0]} is an option of surrogates")
    if kind == "network":
        model = Network.load(name, device_of(device))
    if isinstance(model, Network):
        return Source(name, model.law, origin_of(model, path), network=model)
    if not isinstance(model, Dataset | Rows | Path):
        raise UsageError(
            "expected a surrogate, a network, a dataset or a file of these, got "
            f"{given_type(model)}"
        )
    data = Dataset(model)
    return Source(name, data.law, data.origin(), data=data)


def given_type(model: object) -> str:
    """What was given in the place of a model, for an error."""
    pair = isinstance(model, tuple) and len(model) == 2 and isinstance(model[1], Mapping)
    return type(model).__name__ + ("; load returns a pair, take its first" if pair else "")


def origin_of(model: Surrogate | Network, path: Path | None = None) -> dict[str, Any]:
    """What is known of the making of a surrogate or a network, for a record: JSON data."""
    from physgen.nn.tensors import digest
    from physgen.sbi.networks import Network

    if isinstance(model, Network):
        module, about = model.net, {"family": model.method, "law": model.law.to_json()}
        about |= model.info
    else:
        module, path = model, model.path
        about = model.info | model.describe()
        options = {n: as_json_data(getattr(model.config, n)) for n in model.inference_options}
        about["use"] = options | {"symmetrise": model.symmetrise}
    weights, known = sum(w.numel() for w in module.parameters()), digest(module.state_dict(), "")
    file, then = getattr(model, "file_digests", ("", known))
    if path and known == then:
        known = file or dataset.file_digest(path)
    elif path:  # the weights are no longer those of the file
        path = None
    return {"path": path and str(path), **about, "sha256": known, "weights": weights}


def kind_of(path: Path) -> str:
    """What a file is, by its content: surrogate, network or dataset.

    Raises:
        DataError: neither a checkpoint nor HDF5.
        StorageError: the file cannot be opened.
    """
    from physgen.nn.tensors import load_tensors

    found = dataset.container(path)
    if found == "HDF5":
        return "dataset"
    if found in ("zip", "safetensors"):
        return str(load_tensors(path)[1].get("kind", "surrogate"))
    raise DataError(f"{path}: expected a checkpoint or a dataset, got neither")


def open_data(data: DatasetsLike) -> Dataset:
    """A dataset, or several of one law as one.

    Raises:
        UsageError: none, or several of different laws.
    """
    if not isinstance(data, list | tuple):
        return Dataset(data)
    if not data:
        raise UsageError("expected at least one dataset, got none")
    parts = [Dataset(one) for one in data]
    return parts[0] if len(parts) == 1 else dataset.JoinedDataset(parts)


def name_of_simulator(simulator: SimulatorLike | None) -> str | None:
    """The name of a simulator that the caller vouches for: of text, a class, or an object.

    Of an external program it is its command.
    """
    if isinstance(simulator, Command):
        return simulator.command
    if simulator is None or isinstance(simulator, str):
        return simulator
    return name_of("simulators", simulator if isinstance(simulator, type) else type(simulator))

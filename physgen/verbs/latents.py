"""See and edit the latents of a surrogate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from physgen.dataset import Dataset
from physgen.errors import UsageError
from physgen.runtime.progress import log
from physgen.verbs.arguments import (
    DataLike,
    FamilyLike,
    SimulatorLike,
    SurrogateLike,
    called,
)
from physgen.verbs.observed import validated_rows
from physgen.verbs.opening import name_of_simulator, open_surrogate, origin_of
from physgen.verbs.products import LatentCodes
from physgen.verbs.running import (
    judging,
    on_files,
    path_of,
    plural,
    record,
    require_seed,
    threaded,
    warn_of_trained,
)
from simulators.base import Array, Observable, labels

if TYPE_CHECKING:
    from physgen.checks.latent_space import Along
    from physgen.surrogates.base import Surrogate

__all__ = ["latents"]

LATENT_SECTIONS = {"latents": 2, "told": 2, "edit": 4}
"""Sections, with the part of the time that each takes, about."""
LEAST_TOLD = 0.01
"""R² below which a direction is noise."""


@on_files("out")
@threaded
def latents(
    surrogate: SurrogateLike,
    data: DataLike,
    *,
    out: Path | str | None = None,
    along: str | None = None,
    reach: float = 2.0,
    places: int = 5,
    rows: slice | None = None,
    simulator: SimulatorLike | None = None,
    family: FamilyLike | None = None,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
) -> LatentCodes:
    """Latents of x as a surrogate encodes them: a file of them, what they say, x moved along them.

    physgen report draws it: a map of the latents, the part of each observable that they tell and,
    with --along, decoded x as that observable grows, beside the exact answer.

    Args:
        surrogate: checkpoint of a surrogate that encodes x (cvae).
        data: dataset that was not trained on.
        out: HDF5 file to write.
        along: observable to edit, as in magnetisation: rows are moved along the direction in the
            latents that regression finds for it, and decoded.
        reach: how far to move to either side, in standard deviations of the latents' prior.
        places: at how many places to decode, an odd number from 3 on.
        rows: which rows of the data, as in 0:1000.
        simulator: package.module:Class of a simulator outside the registry, for its observables;
            files do not import code by themselves.
        family: package.module:Class of a family outside the registry; a checkpoint does not import
            code by itself.
        seed: seed of all that is random.
        device: auto, cpu, cuda or cuda:1.
        force: overwrite the file if it exists.

    Returns:
        The latents, (n, K) under "arrays", and what was measured of them.

    Example:
        physgen latents cvae.pt test.h5 -o latents.h5 --along magnetisation
    """
    from physgen.checks.latent_space import Along

    require_seed(seed)
    way = None if along is None else Along(along, reach, places)
    path, trusted, source = path_of(out), name_of_simulator(simulator), Dataset(data)
    model = open_surrogate(surrogate, device, family=family, like=source)
    model.require_latents()
    source.require_columns(model.info.get("data"))
    warn_of_trained(source, model.info.get("data"))
    found = source.read(rows, whole=True)
    found = validated_rows(found, source, model.law, rows, drops=False)
    numbers = numbers_of(found.x, model, source, trusted)
    if way and along not in numbers:
        known = ", ".join(numbers) or "none, for no number of x is known"
        raise UsageError(f"along: expected one of {known}; got {along!r}")
    with judging("latents", f"latents of {model.name}", LATENT_SECTIONS, path) as progress:
        theta = found.labels(source.where)
        arrays, measured = encoded(model, theta, found.x, numbers, way, seed, progress)
    command = called(
        "latents", surrogate, data, out=out, along=along, reach=reach if way else None,
        places=places if way else None, rows=rows, simulator=trusted, seed=seed,
    )  # fmt: skip
    about = record(
        None, "latents/1", command, measured, partial(summary_of, arrays["latents"]),
        surrogate=origin_of(model),
        data=source.origin(found),
    )  # fmt: skip
    made = LatentCodes(about | {"arrays": arrays}, about["summary"])
    return made.save(path, force=force) if path else made


def numbers_of(
    x: Array, model: Surrogate, source: Dataset, trusted: str | None
) -> dict[str, Observable]:
    """The observables of x (n, *x_shape) that are one number a row, by their names."""
    from physgen.checks.samples import of_imputed
    from physgen.checks.two_sample.features import observables_of, physics_of

    every = observables_of(physics_of(model.law, trusted, source.columns), x, model.law)
    return of_imputed({n: o for n, o in every.items() if np.ndim(o(x[:1])) == 1}, x)


def encoded(
    model: Surrogate,
    theta: Array,
    x: Array,
    numbers: Mapping[str, Observable],
    way: Along | None,
    seed: int,
    progress: Callable[..., None],
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Latents of rows θ (n, D) and x (n, *x_shape), and what they say of observables.

    Args:
        model: encodes.
        theta: parameters.
        x: rows.
        numbers: the observables.
        way: along which to edit, if any.
        seed: of all that is random.
        progress: is told the section that begins.

    Returns:
        The arrays of a file of latents, and what was measured.
    """
    from physgen.checks.latent_space import edited, latent_map, told_by_latents
    from physgen.checks.timing import Sections

    section = Sections(progress)
    codes = section("latents", model.encode, theta, x).cpu().numpy()
    values = {name: np.asarray(o(x), float) for name, o in numbers.items()}
    flat, variance = latent_map(codes)
    arrays = {"theta": theta, "latents": codes, "map": flat}
    if values:
        arrays["observables"] = np.column_stack(list(values.values()))
    drawn = model.encode(theta, x, seed).cpu().numpy()
    told = section("told", told_by_latents, model, theta, drawn, values, seed)
    edit, warnings = None, []
    if way:
        warnings = silence(way.name, told["observables"][way.name]["linear"])
        edit, pictures = section("edit", edited, model, theta, x, drawn, numbers, way, seed)
        if pictures is not None:
            arrays["pictures"] = pictures
    about = [{"name": name} | labels(o) for name, o in numbers.items()]
    measured = {"told": told, "map": variance, "edit": edit, "warnings": warnings}
    section.result |= measured | {"observables": about}
    return arrays, section.json()


def silence(name: str, linear: tuple[float, float]) -> list[str]:
    """That a direction is noise, if least squares on latents have an R² of nothing.

    Args:
        name: of the observable.
        linear: its R² and the standard error of that.

    Raises:
        UsageError: an observable that θ tells.
    """
    value, error = linear
    if np.isnan(value):
        raise UsageError(f"along: theta alone tells {name}; choose an observable that varies")
    if value > max(LEAST_TOLD, 3 * error):
        return []
    said = (
        f"the latents tell nothing of {name} that theta does not (linear R² {value:.3f} ± "
        f"{error:.3f}): its direction is noise"
    )
    log.warning("%s", said)
    return [said]


def summary_of(codes: Array, about: Mapping[str, Any]) -> str:
    """What latents (n, K) say, in a line."""
    told = about["told"]["observables"]
    words = [f"{plural(len(codes), 'row')} of {plural(codes.shape[1], 'latent')}"]
    if best := [f"{name} {r['all'][0]:.2f}" for name, r in told.items() if r["all"][0]]:
        words.append(f"R² beyond theta: {', '.join(best)}")
    if edit := about["edit"]:
        words.append(
            f"{edit['along']} moves by {edit['moved'][0]:.2f} of its standard deviations, by "
            f"{edit['moved_at_random'][0]:.2f} along a random direction"
        )
        for name, other in edit["others"].items():
            if "error" in other:
                off, stays = (max(abs(e[0]) for e in other[k]) for k in ("error", "unmoved"))
                words.append(f"{name} off by up to {off:.2f} exact widths ({stays:.2f} unmoved)")
    return "; ".join(words)

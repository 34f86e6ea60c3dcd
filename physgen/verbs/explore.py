"""A surrogate under the fingers: one page that draws x as sliders of theta move."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Unpack

import numpy as np

from physgen import dataset
from physgen.dataset import Rows
from physgen.errors import UsageError
from physgen.reporting import ink
from physgen.verbs.arguments import (
    FamilyLike,
    ObservedLike,
    SamplerOptions,
    SimulatorLike,
    SurrogateLike,
    called,
)
from physgen.verbs.links import digests_of, links_beside
from physgen.verbs.observed import open_observed, validated_rows
from physgen.verbs.opening import name_of_simulator, open_surrogate, origin_of
from physgen.verbs.products import Page
from physgen.verbs.running import (
    headed,
    on_files,
    path_of,
    plural,
    require,
    require_seed,
    sections,
    threaded,
)
from simulators.base import exact_log_prob

__all__ = ["explore"]

EXPLORE_SECTIONS = {
    "scales": 1, "graphs": 4, "grid of theta": 8, "exact curves": 2, "posteriors": 4,
}  # fmt: skip
"""Sections, with the part of the time that each takes, about."""


@on_files("out")
@threaded
def explore(
    surrogate: SurrogateLike,
    *,
    out: Path | str | None = None,
    observation: ObservedLike | None = None,
    rows: int = 64,
    grid: bool = False,
    simulator: SimulatorLike | None = None,
    family: FamilyLike | None = None,
    seed: int = 0,
    force: bool = False,
    **use: Unpack[SamplerOptions],
) -> Page:
    """Explore a surrogate in a browser: sliders of theta, x drawn live with held noise.

    One HTML file that needs neither a server nor a network. Observables are shown beside their
    exact expectations, where the simulator knows these, and with p(theta|x) of an x that can be
    changed by hand. What takes too much for a browser is found beforehand, x on a grid of theta
    and posteriors of some x, and the page says so.

    Args:
        surrogate: checkpoint of the surrogate.
        out: HTML file to write.
        observation: file with x, each row an observation, whose posteriors the page shows: of the
            first 24.
        rows: how many x are drawn live.
        grid: draw on a grid of theta beforehand, though x could be drawn live.
        simulator: package.module:Class of a simulator outside the registry, for its observables;
            files do not import code by themselves.
        family: package.module:Class of a family outside the registry; a checkpoint does not import
            code by itself.
        seed: seed of what is drawn beforehand.
        force: overwrite the file if it exists.

    Returns:
        The page, which a notebook shows.

    Example:
        physgen explore model.pt -o explore.html
    """
    require_seed(seed)
    require(rows=(rows, 1))
    for package in ("onnx", "onnxruntime"):
        if not find_spec(package):
            raise UsageError(f"explore: needs {package}; pip install 'physgen[onnx,report]'")
    with ink():
        from physgen.reporting.explore import conclusion_of_explored, explore_sheet
    from physgen.checks.two_sample.features import observables_of, physics_of
    from physgen.surrogates.graph import on_cpu
    from physgen.verbs.explored import MOST_OBSERVED, explored_page

    path, trusted = path_of(out), name_of_simulator(simulator)
    like = None if observation is None else open_observed(observation)
    model = on_cpu(open_surrogate(surrogate, "cpu", family=family, like=like, **use))
    with sections(f"explore {model.name}", EXPLORE_SECTIONS) as progress:
        observed: Rows | None = None
        left_out: list[str] = []
        if observation is not None:
            data = open_observed(observation, model.law, model.info.get("data", {}))
            found = data.read(slice(0, min(len(data), MOST_OBSERVED)), whole=True)
            if len(data) > MOST_OBSERVED:
                of = f"of {len(data):,} rows the first {MOST_OBSERVED} are here"
                left_out = [f"{data.name}: {of}"]
            observed = validated_rows(found, data, model.law, None, drops=False)
        physics = physics_of(model.law, trusted)
        sample = model.sample(np.tile(model.law.prior.median, (2, 1)), seed).numpy()
        every = observables_of(physics, sample, model.law)
        truth = model.law.build_if_known(trusted)
        exact = None if truth is None else exact_log_prob(truth)
        page = explored_page(model, every, rows, seed, grid, observed, exact, progress)
        page["notes"] += left_out
    command = called(
        "explore", surrogate, out=out, observation=observation, rows=rows, grid=grid,
        simulator=trusted, seed=seed, **use,
    )  # fmt: skip
    about = {"provenance": dataset.provenance(command), "surrogate": origin_of(model)}
    digests = digests_of(about)
    links = links_beside(path, digests)
    text = explore_sheet(page, about).html(
        conclusion=conclusion_of_explored(page, model.name), digests=digests, links=links
    )
    if path:
        dataset.write_bytes(path, text.encode(), sidecar=False)
    how = "drawn on a grid of theta" if "grid" in page else "drawn live"
    many, size = plural(len(page["observables"]), "observable"), len(text) / 1e6
    line = f"{model.name}, x {how}, {many}, {size:.2g} MB"
    return Page(text, "\n".join([headed(path, line), *page["notes"]]), path)

"""Densities in the plane beside the exact one, and losses by epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.reals.tasks import Task
from physgen.reporting.figures import learning
from simulators.base import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_densities", "draw_learning", "keep_densities", "plane"]

POINTS, AT = 121, 3
"""Points along an axis of the plane, and θ at which it is shown."""
DEPTH = 6.0
"""Nats below the exact maximum down to which a density is shown."""


def plane(task: Task) -> tuple[Array, Array]:
    """θ (3, D) and points x of the plane around what they make, (3, m, m, 2)."""
    simulator = task.simulator()
    rng = np.random.default_rng(1)
    theta = simulator.prior.sample(AT, rng)
    centre = simulator.sample(theta.repeat(2000, axis=0), rng).reshape(AT, 2000, 2).mean(1)
    axis = task.window * np.linspace(-1, 1, POINTS)
    return theta, centre[:, None, None] + np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)


def on_plane(task: Task, log_prob: Callable[[Array, Array], Array]) -> Array:
    """log p(x|θ) on the planes of a law, (3, m, m)."""
    theta, x = plane(task)
    each = theta.repeat(POINTS**2, axis=0)
    return log_prob(each, x.reshape(-1, 2)).reshape(x.shape[:-1])


def keep_densities(task: Task, log_prob: Callable[[Array, Array], Array], path: Path) -> None:
    """Write what a method makes of the planes, for the pictures."""
    np.savez_compressed(path, log_p=on_plane(task, log_prob).astype(np.float32))


def draw_densities(figure: Figure, task: Task, panels: Mapping[str, Path | None]) -> None:
    """A column for each method, a row for each θ; log p in one scale, that of the exact one.

    Args:
        figure: empty.
        task: a law of two components.
        panels: label → file of `keep_densities`; the exact law if None.
    """
    exact = on_plane(task, task.simulator().log_prob)
    top = exact.max((1, 2))
    axes = figure.subplots(AT, len(panels), squeeze=False)
    for column, (label, path) in zip(axes.T, panels.items(), strict=True):
        log_p = exact if path is None else np.load(path)["log_p"]
        for ax, values, high in zip(column, log_p, top, strict=True):
            ax.imshow(values.T, origin="lower", vmin=high - DEPTH, vmax=high, cmap="Blues")
            ax.set(xticks=[], yticks=[])
        column[0].set_title(label)


def draw_learning(figure: Figure, curves: Mapping[str, Mapping[str, Any]]) -> None:
    """Training and validation loss by epoch, a panel for each method.

    Args:
        figure: empty.
        curves: method → its losses by their names.
    """
    axes = figure.subplots(1, len(curves), squeeze=False)[0]
    for ax, (label, history) in zip(axes, curves.items(), strict=True):
        pairs = zip(history["train"], history["val"], strict=False)
        learning(ax, [{"epoch": i, "train": t, "val": v} for i, (t, v) in enumerate(pairs, 1)])
        ax.set_title(label)

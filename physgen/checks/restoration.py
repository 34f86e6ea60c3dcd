r"""Draws of x given y = Mx + σε beside the exact p(x|θ, y), and beside draws without y.

Of n draws, with m and s the exact mean and standard deviation of each component,

    off      root mean square of (mean of the draws − m)/s,
    widths   mean of (standard deviation of the draws)/s,
    covered  the exact mass between the 5 % and 95 % quantiles of the draws, mean over components,
    spectrum power of the residuals x − m by wave number, over that of exact draws.

What n exact draws give of each is known from sets of them: so many that what is off by more than
chance is told from what is not. x drawn without y is the control, which must be off.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from physgen.law import Law
from simulators.base import Array

__all__ = ["Reference", "restoration_scores"]

FEW = 5.0
"""Standard deviations over sets of exact draws, beyond which a figure is off."""
CERTAIN = 1e-6
"""Width of a component, of the greatest, below which it is known and does not count."""


class Reference(NamedTuple):
    """The exact p(x|y) of one row.

    Attributes:
        mean: (*x_shape,).
        sd: (*x_shape,).
        error: standard error of the mean at its worst component.
        sets: sets of n draws, (R, n, *x_shape).
    """

    mean: Array
    sd: Array
    error: float
    sets: Array


def restoration_scores(
    x: Array, reference: Reference, law: Law, without: Array | None = None
) -> dict[str, Any]:
    """How far draws (n, *x_shape) are from the exact ones, JSON data.

    Args:
        x: the draws.
        reference: the exact p(x|y), with sets of as many draws.
        law: of x.
        without: x drawn without y, (n, *x_shape); None if there are none.
    """
    free = reference.sd > CERTAIN * reference.sd.max()
    pool = reference.sets.reshape(-1, *x.shape[1:])

    def measured(some: Array) -> dict[str, Any]:
        some = some.astype(float)
        pull = (some.mean(0) - reference.mean)[free] / reference.sd[free]
        found: dict[str, Any] = {"off": float(np.sqrt(np.mean(pull**2)))}
        if not law.discrete:  # a spin's mean says all of its law
            found["widths"] = float((some.std(0, ddof=1)[free] / reference.sd[free]).mean())
            low, high = np.quantile(some, [0.05, 0.95], axis=0)
            found["covered"] = float(((pool >= low) & (pool <= high)).mean(0)[free].mean())
        return found | {"spectrum": spectrum(some - reference.mean, law)}

    exact = [measured(some) for some in reference.sets]
    scores: dict[str, Any] = {"exact_error": reference.error, "components": int(free.sum())}
    found, control = measured(x), None if without is None else measured(without)
    if not law.spatial:
        for some in (found, *exact, *([control] if control else [])):
            some.pop("spectrum")
    for name in found:
        chance = np.array([one[name] for one in exact], float)
        middle, width = chance.mean(0), chance.std(0, ddof=1)
        values = np.asarray(found[name])
        beyond = (values > middle + FEW * width) | (
            (values < middle - FEW * width) & (name != "off")
        )
        scores[name] = {
            "value": values.tolist(),
            "exact": middle.tolist(),
            "chance": width.tolist(),
            "passed": not beyond.any(),
            "control": control and np.asarray(control[name]).tolist(),
        }
    off = scores["off"]
    most = off["exact"] + FEW * off["chance"]
    scores["control_fails"] = None if control is None else off["control"] > most
    return scores


def spectrum(residuals: Array, law: Law) -> list[float]:
    """Mean power of residuals (n, *x_shape) by wave number 0, 1, …, along the axes of a field."""
    axes = [1 + axis for axis in law.spatial]
    if not axes:
        return []
    power = (abs(np.fft.fftn(residuals, axes=axes, norm="ortho")) ** 2).mean(0)
    sides = [law.x_shape[axis] if axis in law.spatial else 1 for axis in range(len(law.x_shape))]
    square = sum(
        np.fft.fftfreq(side, 1 / side).reshape([-1 if i == j else 1 for j in range(len(sides))])
        ** 2
        for i, side in enumerate(sides)
    )
    wave = np.broadcast_to(np.rint(np.sqrt(square)).astype(int), power.shape)
    most = min(side for side in sides if side > 1) // 2 if max(sides) > 1 else 0
    return [float(power[wave == k].mean()) for k in range(most + 1)]

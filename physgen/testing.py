"""The contracts of simulators and surrogates, as checks for classes of your own.

Each check returns what is broken, one line each, and nothing if all is well::

    from physgen.testing import check_simulator
    assert check_simulator(TwoMoons()) == []

Statistical clauses use fixed seeds and a threshold of 5σ, so that they do not fail by chance.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import simulators.base as declared
from physgen.dataset.assumptions import broken_assumptions, float_type
from physgen.dataset.schema import Rows, cast, faults
from physgen.dataset.simulated import Manners, drawn
from physgen.errors import DataError, UsageError
from physgen.law import Law, declarations, require_prior
from physgen.registry import class_path, find, require_own_name
from simulators.base import Array, LogProb, Simulator
from simulators.prior import Prior

if TYPE_CHECKING:
    from physgen.surrogates.base import Surrogate

__all__ = ["check_simulator", "check_surrogate"]

SIGMAS = 5.0
ROWS = 2000
LOOKED_AT = 250  # rows in which real x is looked at
SHIFT = 0.25  # of the prior's width
STEP = 0.01  # of a central difference, in the prior's width or x's


def check_simulator(simulator: Simulator) -> list[str]:
    """What in a simulator breaks the contract of :mod:`simulators.base`, one line each.

    Args:
        simulator: a configured simulator.

    Returns:
        the complaints of the first part (declarations, samples, exact log p) that has any.
    """
    if isinstance(simulator, type):
        return [f"expected a simulator, got the class {simulator.__name__}; call it first"]
    try:
        require_prior(getattr(simulator, "prior", None))
    except ValueError as error:
        return [str(error)]
    if not callable(getattr(simulator, "sample", None)):
        return ["sample: expected a method sample(theta, rng)"]
    try:
        declared_law(simulator)
    except (AttributeError, TypeError, ValueError) as error:
        return [str(error)]
    try:
        return [*samples(simulator)] or [*truth(simulator)]
    except DataError as error:
        return [str(error)]
    except Exception as error:  # whatever a user's code raises is a complaint
        return [f"raised {type(error).__name__}: {error}"]


def declared_law(simulator: Simulator) -> Law:
    """The law of a simulator that need not be found again.

    Raises:
        ValueError: a declaration that is none, or does not go with another.
    """
    return Law(type(simulator).__name__, simulator.prior, **declarations(simulator))


def samples(simulator: Simulator) -> Iterator[str]:
    """Complaints about samples."""
    theta = simulator.prior.sample(7, np.random.default_rng(1))
    manners = Manners.of(simulator, theta)

    def draw(theta: Array, seed: int) -> Array:
        return drawn(simulator, theta.copy(), np.random.default_rng(seed))

    x, other = draw(theta, 2), draw(theta, 3)
    if manners.changes_theta:
        yield "sample: changes the caller's theta"
    law = declared_law(simulator)
    shape = law.x_shape
    if x.shape != (7, *shape):
        yield f"sample: expected shape {(7, *shape)}, got {x.shape}"
        return
    one = draw(theta[:1], 2).shape
    if one != (1, *shape):
        yield f"sample: of one row, expected shape {(1, *shape)}, got {one}"
    if not np.isfinite(x).all():
        yield "sample: x is not finite"
        return
    if manners.reproducible is False:
        yield "sample: the same theta and the same rng give another x; draw from rng alone"
    if np.array_equal(x, other):
        yield "sample: another rng gives the same x; draw from rng"
    yield from (f"sample: {line}" for line in not_in_support(law, x))
    yield from densities(simulator)
    for name, observable in declared.observables(simulator).items():
        value = np.asarray(observable(x))
        if value.ndim not in (1, 2) or len(value) != 7:
            yield f"observable {name}: expected shape (7,) or (7, k), got {value.shape}"
    for name, joint in declared.joint_observables(simulator).items():
        value = np.asarray(joint(theta, x))
        if value.ndim not in (1, 2) or len(value) != 7:
            yield f"joint observable {name}: expected shape (7,) or (7, k), got {value.shape}"


def densities(simulator: Simulator) -> Iterator[str]:
    """Complaints about real x that has no density, or whose digits are lost."""
    law = declared_law(simulator)
    if law.discrete:
        return
    theta = simulator.prior.sample(LOOKED_AT, np.random.default_rng(1))
    x = drawn(simulator, theta, np.random.default_rng(2), law.simulator)
    x = x.astype(declared.dtype(simulator) or float_type(x))
    yield from (f"sample: {line}" for line in broken_assumptions(law, x))


def not_in_support(law: Law, x: Array) -> Iterator[str]:
    """Complaints about x (n, *x_shape) that cannot follow a law."""
    for fault, bad in faults(cast(Rows(x), law, "sample"), law):
        if bad.any():
            yield f"support is {law.support_text}, but {fault}"


def truth(simulator: Simulator) -> Iterator[str]:
    """Complaints about the exact log p: its shape, its symmetries, and whether x follows it."""
    log_prob = declared.exact_log_prob(simulator)
    if log_prob is None:
        return
    prior = simulator.prior
    theta = prior.sample(ROWS, np.random.default_rng(5))
    theta -= SHIFT * (theta - prior.bulk[0])  # leaves room for a shift of θ within the prior
    x = drawn(simulator, theta.copy(), np.random.default_rng(4))
    given = theta.copy(), x.copy()
    log_p = np.asarray(log_prob(theta, x))
    if log_p.shape != (ROWS,) or not np.isfinite(log_p).all():
        yield f"log_prob: expected {ROWS} finite values, got shape {log_p.shape}"
        return
    if not (np.array_equal(theta, given[0]) and np.array_equal(x, given[1])):
        yield "log_prob: changes the caller's theta or x"
        return
    for name, move in moves(declared_law(simulator)):
        if not np.allclose(log_prob(theta, move(x)), log_p):
            yield f"symmetries: log_prob changes under {name}"
    for name, z in ratio_test(log_prob, theta, x, log_p, prior):
        if not abs(z) <= SIGMAS:  # nor NaN
            yield f"log_prob: x does not follow it: E[p(x|theta')/p(x|theta)] is off by {z:.0f} σ"
            yield f"log_prob: the offence shows in {name}"
            return


def moves(law: Law) -> Iterator[tuple[str, Callable[[Array], Array]]]:
    """Generators of the declared symmetries, as maps of x (n, *x_shape)."""
    axes = [1 + axis for axis in law.spatial or range(len(law.x_shape))]
    for axis in axes:
        if axis - 1 in law.shifted:
            yield f"shift of axis {axis}", partial(np.roll, shift=1, axis=axis)
        if "reflect" in law.symmetries:
            yield f"reflect of axis {axis}", partial(np.flip, axis=axis)
    if "transpose" in law.symmetries:
        for one, other in itertools.pairwise(axes):
            yield "transpose", partial(np.swapaxes, axis1=one, axis2=other)
    if "flip" in law.symmetries:
        yield "flip", np.negative


def ratio_test(
    log_prob: LogProb, theta: Array, x: Array, log_p: Array, prior: Prior
) -> Iterator[tuple[str, float]]:
    """E_x[p(x|θ′)/p(x|θ)] = 1 if x follows p(x|θ): its z-score for a shift of each parameter.

    The shift is halved until the ratio's logarithm is below 1 in root mean square, so that the
    mean ratio is well measured, and none of it lost where the ratio underflows.

    Args:
        log_prob: θ (n, D), x (n, *x_shape) → (n,).
        theta: (n, D).
        x: (n, *x_shape), drawn at θ.
        log_p: log_prob of them, (n,).
        prior: within which θ is moved.
    """
    low, high = prior.bulk
    for d, parameter in enumerate(prior.parameters):
        step = SHIFT * (high - low)[d]
        for _ in range(30):
            moved = theta.copy()
            moved[:, d] += step
            log_ratio = np.asarray(log_prob(moved, x)) - log_p
            if (log_ratio**2).mean() < 1:
                break
            step /= 2
        ratio = np.exp(log_ratio)
        error = ratio.std() / np.sqrt(len(ratio)) + 1e-12
        yield parameter.name, float((ratio.mean() - 1) / error)


def check_surrogate(surrogate: Surrogate, rows: int = 7) -> list[str]:
    """What in a surrogate breaks the contract of :mod:`physgen.surrogates.base`, one line each.

    Args:
        surrogate: a surrogate, trained or not.
        rows: how many rows to try.

    Returns:
        the complaints of the first part (class, losses, samples, log p, file, gradient) that has
        any.
    """
    for part in (identity, losses, draws, likelihoods, files, gradients):
        try:
            if complaints := [*part(surrogate, rows)]:
                return complaints
        except UsageError as error:
            return [str(error)]
    return []


def identity(surrogate: Surrogate, rows: int) -> Iterator[str]:
    """Complaints about a class that could not be found again when its checkpoint is opened."""
    cls = type(surrogate)
    require_own_name(cls)
    where = class_path(cls)
    if "<locals>" in where:
        yield f"class: {where} lies within a function; a checkpoint opens classes of modules only"
    elif find("surrogates", where) is not cls:
        yield f"class: {where} is another class than this surrogate's"


def files(surrogate: Surrogate, rows: int) -> Iterator[str]:
    """Complaints about what comes back from a checkpoint."""
    import torch

    from physgen.surrogates import checkpoint

    theta, x = draw_pairs(surrogate, rows)

    def told(one: Surrogate) -> Any:
        if one.likelihood == "none":
            return one.sample(theta, seeded(one, 4))
        return one.log_prob(theta, x, draws=3)

    expected = told(surrogate)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        try:
            checkpoint.save_surrogate(surrogate, path, {})
            again, _ = checkpoint.load_surrogate(path, surrogate.device, type(surrogate))
        except (DataError, TypeError, ValueError) as error:
            yield f"save: does not load again: {error}".replace(str(path), "checkpoint")
            return
    found = told(again.using(symmetrise=surrogate.symmetrise).train(surrogate.training))
    if not torch.allclose(found, expected, rtol=1e-5, atol=1e-4):
        what = "x" if surrogate.likelihood == "none" else "log p"
        yield f"save: loads to another {what}; what it depends on must be weights or options"


def gradients(surrogate: Surrogate, rows: int) -> Iterator[str]:
    """Complaints about the gradient of log p, by θ and by x, against central differences."""
    import torch

    if surrogate.likelihood == "none":
        return
    prior, (theta, x) = surrogate.law.prior, draw_pairs(surrogate, rows)
    middle, width = (
        torch.from_numpy(v) for v in (prior.bulk.mean(0), np.diff(prior.bulk, axis=0)[0])
    )
    theta, x = middle + 0.9 * (theta - middle), x.double()  # leaves room for a step

    def log_p(theta: Any, x: Any) -> Any:
        return surrogate.log_prob(theta, x, draws=3)

    for name, step in zip(prior.names, torch.diag(width), strict=True):
        if not agrees(lambda t: log_p(t, x), theta, step.expand_as(theta)):
            yield f"log_prob: its gradient by {name} is not the slope of its values"
    if surrogate.law.support in ("reals", "nonnegative"):
        generator = torch.Generator().manual_seed(5)
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        scale = x if surrogate.law.support == "nonnegative" else x.std()  # atoms stay
        if not agrees(lambda y: log_p(theta, y), x, scale * direction):
            yield "log_prob: its gradient by x is not the slope of its values"


def agrees(f: Callable[[Any], Any], at: Any, direction: Any) -> bool:
    """Whether the gradient of f (n, …) → (n,) along a direction (n, …) is the slope of f.

    The slope is extrapolated from two steps (Richardson), which tell how smooth f is; float32
    tells a log p to 1e-5 of itself at worst.
    """
    import torch

    start = at.clone().requires_grad_()
    value = f(start)
    (gradient,) = torch.autograd.grad(value.sum(), start)
    found = (gradient * direction).flatten(1).sum(1).cpu()
    wide, narrow = (
        (f(at + h * direction) - f(at - h * direction)) / (2 * h) for h in (STEP, STEP / 2)
    )
    slope = (4 * narrow - wide) / 3
    noise = 1e-5 * (1 + value.detach().abs().max()) / STEP
    allowed = 0.02 * slope.square().mean().sqrt() + 5 * (slope - narrow).abs() + noise
    return bool(((found - slope).abs() <= allowed).all())


def draw_pairs(surrogate: Surrogate, rows: int) -> tuple[Any, Any]:
    """θ from the prior, and x from the surrogate itself."""
    import torch

    theta = torch.from_numpy(surrogate.law.prior.sample(rows, np.random.default_rng(1)))
    return theta, surrogate.sample(theta, seeded(surrogate, 2))


def seeded(surrogate: Surrogate, seed: int) -> Any:
    """A generator on the surrogate's device."""
    import torch

    return torch.Generator(surrogate.device).manual_seed(seed)


def losses(surrogate: Surrogate, rows: int) -> Iterator[str]:
    """Complaints about the objectives."""
    theta, x = draw_pairs(surrogate, rows)
    for objective in surrogate.objectives():
        loss = objective.loss(theta, x, seeded(surrogate, 3))
        if tuple(loss.shape) != (rows,) or not loss.isfinite().all():
            yield f"{objective.name}: expected {rows} finite values, got shape {tuple(loss.shape)}"
        again = objective.loss(theta, x, seeded(surrogate, 3))
        if not loss.equal(again):
            yield f"{objective.name}: the same generator gives another loss; draw from it alone"


def draws(surrogate: Surrogate, rows: int) -> Iterator[str]:
    """Complaints about samples."""
    theta, x = draw_pairs(surrogate, rows)
    if tuple(x.shape) != (rows, *surrogate.law.x_shape):
        yield f"sample: expected shape {(rows, *surrogate.law.x_shape)}, got {tuple(x.shape)}"
    if not x.equal(surrogate.sample(theta, seeded(surrogate, 2))):
        yield "sample: the same generator gives another x; draw from it alone"
    yield from (f"sample: {line}" for line in not_in_support(surrogate.law, x.cpu().numpy()))


def likelihoods(surrogate: Surrogate, rows: int) -> Iterator[str]:
    """Complaints about log p and its random numbers."""
    import torch

    if surrogate.likelihood == "none":
        return
    theta, x = draw_pairs(surrogate, rows)
    index = torch.arange(rows)
    value, stderr, kind = surrogate.log_prob_with_error(theta, x, draws=3)
    if value.shape != (rows,) or not value.isfinite().all():
        yield f"log_prob: expected {rows} finite values, got shape {tuple(value.shape)}"
        return
    if stderr.shape != (rows,) or not (stderr >= 0).all():
        yield f"log_prob: expected {rows} standard errors, got shape {tuple(stderr.shape)}"
    if kind != surrogate.likelihood:
        yield f"log_prob: expected the kind {surrogate.likelihood}, got {kind}"
    backward = surrogate.log_prob(theta.flip(0), x.flip(0), draws=3, index=index.flip(0))
    if not torch.allclose(backward.flip(0), value, rtol=1e-5, atol=1e-4):
        yield "log_prob: depends on the order of the batch"
    alone = surrogate.log_prob(theta[-1:], x[-1:], draws=3, index=index[-1:])
    if not torch.allclose(alone, value[-1:], rtol=1e-5, atol=1e-4):
        yield "log_prob: depends on the other rows of the batch"

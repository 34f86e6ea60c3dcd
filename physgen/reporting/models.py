"""The page of several models side by side: the words in models.html, the ink in figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from physgen.reporting import figures, style
from physgen.reporting.page import parameter_axis, parameter_letters
from physgen.reporting.quantities import flat, measured, number
from physgen.reporting.sheet import Drawing, Sheet, grid, plot

__all__ = ["models_sheet"]

TALL = (4.2, 3.6)
Model = Mapping[str, Any]
"""What is known of a model: "name", "family", and scores by their kind."""


class TableLine(NamedTuple):
    """A line of the table.

    Attributes:
        title: what it is.
        small: its unit, or what is good.
        told: the figure of a model, as text; empty where it has none.
    """

    title: str
    small: str
    told: Callable[[Model], str]


def models_sheet(metrics: Mapping[str, Any]) -> Sheet:
    """The page of several models, as `physgen.verbs.side_by_side` has sorted their scores."""
    models, law = metrics["models"], metrics["law"]
    component = "spin" if law.get("support") == "spins" else "component"
    lines = [*_lines(component), *_checks(models)]
    told = [(line, [line.told(m) for m in models]) for line in lines]
    values = {
        "m": metrics,
        "law": law,
        "names": parameter_letters(law),
        "lines": [(line.title, line.small, cells) for line, cells in told if any(cells)],
        "component": component,
        "files": [(model["name"], [*_origins(model)]) for model in models],
    }
    return Sheet("models.html", values, _plots(models, law, component))


def _origins(model: Model) -> Iterator[tuple[str, str]]:
    """The commands that scored a model, and the file that it is of, as rows."""
    for kind in ("metrics", "calibration", "comparison"):
        if model.get(kind):
            yield kind, model[kind]["provenance"]["command"]
    scores = model.get("metrics") or model.get("calibration") or {}
    for path, value in flat(scores.get("surrogate") or {}):
        if path in ("path", "sha256") or path.startswith("options"):
            yield path, value


def _lines(component: str) -> Iterator[TableLine]:
    """What validate and compare say of every model, and what is known of its making."""

    def of(*path: str, se: str = "", digits: int = 2) -> Callable[[Model], str]:
        def told(model: Model) -> str:
            found: Any = model
            for key in path[:-1]:
                found = found.get(key) or {}
            value = found.get(path[-1])
            if value is None or isinstance(value, str):
                return value or ""
            return measured(value, found.get(se)) if se else number(value, digits)

        return told

    yield TableLine("trained on", "rows", of("metrics", "surrogate", "simulations"))
    yield TableLine("training", "CPU s", _training_seconds)
    yield TableLine("weights", "", of("metrics", "surrogate", "weights"))
    yield TableLine("log p is", "", of("metrics", "nll", "likelihood"))
    for key, small in (("gap_per_dim", f"nats / {component}"), ("gap_total", "nats a row")):
        se = "gap_se" if key == "gap_per_dim" else "gap_total_se"
        yield TableLine("gap to the exact law", small, of("metrics", "nll", key, se=se))
    yield TableLine("NLL", f"nats / {component}", of("metrics", "nll", "per_dim", se="per_dim_se"))
    posterior = ("metrics", "posterior")
    yield TableLine(
        "posterior mean off by", "exact widths", of(*posterior, "mean_error", se="mean_error_se")
    )
    yield TableLine("posterior width", "÷ exact", of(*posterior, "std_ratio", digits=3))
    yield TableLine("posterior C2ST", "½ + TV/2: 0.5 is perfect", of(*posterior, "c2st", digits=3))
    yield TableLine(
        "ten x together: mean off by", "exact widths",
        of(*posterior, "sets", "mean_error", se="mean_error_se"),
    )  # fmt: skip
    yield TableLine(
        "samples told from true ones", "accuracy, 0.5 is perfect",
        of("metrics", "two_sample", "c2st", "accuracy", se="se"),
    )  # fmt: skip
    yield TableLine("samples drawn", "a CPU second, with start", _samples_a_second)
    for key, what in (("low", "x"), ("high", "observables")):
        yield TableLine(
            f"AUC on {what}",
            "0.5 is perfect",
            of("comparison", "classifiers", key, "auc", se="se"),
        )
    yield TableLine("FPD", "as it is", of("comparison", "fpd", "plain", "value"))
    yield TableLine("worst separation", "0 is equal", of("comparison", "worst", "value"))
    yield TableLine(
        "information gained", "nats", of("calibration", "information", "gain", se="se")
    )


def _training_seconds(model: Model) -> str:
    history = ((model.get("metrics") or {}).get("surrogate") or {}).get("history") or [{}]
    seconds = history[-1].get("cpu_seconds")
    return "" if seconds is None else number(seconds)


def _samples_a_second(model: Model) -> str:
    found = model.get("metrics") or {}
    seconds = (found.get("cpu_seconds") or {}).get("samples")
    rows = (found.get("data") or {}).get("rows")
    return number(rows / seconds) if rows and seconds else ""


def _checks(models: Sequence[Model]) -> Iterator[TableLine]:
    """The checks of calibrate, with p and verdict of every model."""
    every = [
        {c["name"]: c for c in (m.get("calibration") or {}).get("checks") or []} for m in models
    ]
    for name in dict.fromkeys(name for checks in every for name in checks):

        def told(model: Model, name: str = name) -> str:
            checks = (model.get("calibration") or {}).get("checks") or []
            found = [c for c in checks if c["name"] == name]
            if not found:
                return ""
            verdict = str(found[0]["verdict"] or "not judged").rpartition(": ")[2]
            return f"{number(found[0]['p_value'])}, {verdict}"

        yield TableLine(name, "calibration, p", told)


def _plots(
    models: Sequence[Model], law: Mapping[str, Any], component: str
) -> dict[str, list[Drawing]]:
    """Section → its figures, of what at least two models have."""
    axis = parameter_axis(law)

    def having(*path: str) -> dict[str, Any]:
        """Name → what is at a path, of the models that have it; empty if they are one."""
        found = {}
        for model in models:
            at: Any = model
            for key in path:
                at = (at.get(key) if isinstance(at, Mapping) else None) or {}
            if at:
                found[model["name"]] = at
        return found if len(found) > 1 else {}

    def first(some: Mapping[str, Any]) -> Any:
        return next(iter(some.values()))

    nll = {k: v for k, v in having("metrics", "nll").items() if v.get("by_theta")}
    curves = {
        name: having("metrics", "curves", name)
        for name in first(having("metrics", "curves") or {"": {}})
    }
    histograms = {
        (kind, name): {
            k: v for k, v in having(kind, "observables", name).items() if v.get("histogram")
        }
        for kind in ("metrics", "comparison")
        for name in first(having(kind, "observables") or {"": {}})
    }
    pairs = {"metrics": ("true", "surrogate"), "comparison": style.PAIR}
    return {
        "nll": [plot(figures.gap, first(nll), axis(first(nll)), component, nll)]
        if len(nll) > 1
        else [],
        "posterior": [
            plot(figures.posterior, first(same), axis(first(same)), same)
            for same in _same_x(having("metrics", "posterior", "examples"))
        ],
        "curves": [
            grid(figures.curve, first(some), axis(first(some)), name, some, size=TALL)
            for name, some in curves.items()
            if _same_theta(some)
        ],
        "observables": [
            plot(figures.histogram, first(some), name, pairs[kind], some)
            for (kind, name), some in histograms.items()
            if len(some) > 1 and _same_true(some, pairs[kind][0])
        ],
    }


def _same_x(examples: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Posteriors of one x, of all models."""
    for some in zip(*examples.values(), strict=False):
        if all((e["theta"], e.get("x")) == (some[0]["theta"], some[0].get("x")) for e in some):
            yield dict(zip(examples, some, strict=True))


def _same_theta(some: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether curves of several models are in the same bins of θ."""
    return len(some) > 1 and len({str(c["theta"]) for c in some.values()}) == 1


def _same_true(some: Mapping[str, Mapping[str, Any]], key: str) -> bool:
    """Whether histograms of several models are beside the same true rows."""
    return len({str(sorted(o["histogram"][key])) for o in some.values()}) == 1

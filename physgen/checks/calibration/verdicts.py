"""What the checks of a calibration come to: one table, warnings, and a line.

A check fails where its p-value in the data is below `ALPHA`. Where a control that it must catch is
missed, the rows are too few for it to say anything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scipy.stats import kstest

from physgen.checks.calibration.posteriors import CONTROLS
from physgen.checks.calibration.uniformity import ALPHA
from simulators.base import Array, Box

__all__ = ["checks", "summary", "warnings"]

PASSED, FAILED, NONE = "passes", "fails", "too few rows: no verdict"


def checks(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All checks on one table: p-value in the data and in own x, controls, verdict."""
    one = len(result["sbc"]) == 1

    def of(what: str, name: str) -> str:
        return what if one else f"{what} of {name}"

    for name, test in result["sbc"].items():
        yield _check(of("SBC", name), "rank of θ", test, ("narrow", "shifted"))
    yield _check("coverage", "densest regions", result["coverage"], ("narrow",))
    yield _check("TARP", "distance from random points", result["tarp"], ("narrow",))
    if result["lc2st"]:
        yield _check("LC2ST", "a classifier at some x", result["lc2st"], ("narrow", "shifted"))
    for name, s in result["score"].items():
        for key, what, about, control in (
            ("mean_p", "mean score", "E ∂ log q = 0", "shifted"),
            ("sum_p", "information", "E ∂² log q = −Var ∂ log q", "narrow"),
        ):
            found = {k: {"p_value": s[k][key]} if s[k] else None for k in ("data", "own")}
            test = found | {"controls": {control: s["controls"][control]}}
            yield _check(of(what, name), about, test, (control,))
    if result["predictive"]:
        yield _predictive(result["predictive"])
    if m := result["misspecification"]:
        test = {"data": m, "own": None, "controls": m["controls"]}
        about = "log q at the best θ" if result["likelihood"] else "observables at the best θ"
        yield _check("misspecification", about, test, ("shuffled",))


def _check(
    name: str, about: str, test: Mapping[str, Any], controls: tuple[str, ...]
) -> dict[str, Any]:
    data, own = test["data"], test["own"]
    judged = {
        k: {"p_value": v["p_value"], "caught": v["caught"], "required": k in controls}
        for k, v in test["controls"].items()
    }
    caught = all(judged[k]["caught"] for k in controls)
    p = data["p_value"] if data else None
    verdict = None if p is None else FAILED if p < ALPHA else PASSED if caught else NONE
    return {
        "name": name,
        "about": about,
        "p_value": p,
        "own_p_value": own["p_value"] if own else None,
        "controls": judged,
        "caught": caught,
        "verdict": verdict,
    }


def _predictive(section: Mapping[str, Any]) -> dict[str, Any]:
    """The worst observable; a control is caught if any of them catches it."""

    def worst(p_values: list[float]) -> float:
        return min(1.0, len(p_values) * min(p_values))

    controls = {}
    for name in ("shifted", "shuffled"):
        p = worst([o["controls"][name]["p_value"] for o in section.values()])
        controls[name] = {"p_value": p, "caught": bool(p < ALPHA)}
    p = worst([o["p_value"] for o in section.values()])
    test = {"data": {"p_value": p}, "own": None, "controls": controls}
    return _check("predictive", f"worst of {len(section)} observables", test, ("shifted",))


def warnings(result: Mapping[str, Any], theta: Array | None, prior: Box) -> Iterator[str]:
    """What a reader must know before the figures."""
    if theta is None:
        yield "the rows have no theta, so that only what their x tell is judged"
    else:
        scaled = (theta - prior.low) / (prior.high - prior.low)
        p = [float(kstest(u, "uniform").pvalue) for u in scaled.T]
        off = [f"{n} (p {v:.1g})" for n, v in zip(prior.names, p, strict=True) if v < ALPHA]
        if off:
            yield (
                f"theta of the rows does not follow the prior: {', '.join(off)}; ranks say "
                "nothing, so take rows of physgen simulate, with --prior for a part of the box"
            )
    if result["left_out"]:
        yield f"{result['left_out']:,} rows have theta outside the prior and are left out"
    if result["resolved"] < 1:
        part = 100 * (1 - result["resolved"])
        yield f"the grid does not resolve {part:.2g} % of the posteriors; widths may be off"
    missed = [
        f"{check['name']} ({', '.join(_missed(check))})"
        for check in result["checks"]
        if not check["caught"]
    ]
    if missed:
        yield (
            f"{result['rows']:,} rows are too few to catch the controls of {'; '.join(missed)}: "
            "take more"
        )
    if wrong := [c["name"] for c in result["checks"] if (c["own_p_value"] or 1) < ALPHA]:
        yield (
            f"on x of its own the surrogate fails {', '.join(wrong)}: its log p is not that of "
            "what it draws; more --draws may help"
        )


def _missed(check: Mapping[str, Any]) -> Iterator[str]:
    for name, control in check["controls"].items():
        if control["required"] and not control["caught"]:
            yield CONTROLS[name]


def summary(result: Mapping[str, Any]) -> str:
    """The verdicts in one line."""
    found = result["checks"]
    by = {v: [c for c in found if c["verdict"] == v] for v in (PASSED, FAILED, NONE)}
    words = []
    if by[PASSED]:
        words.append(f"passes {_named(by[PASSED])}")
    if by[FAILED]:
        words.append(f"fails {_named(by[FAILED], p=True)}")
    if by[NONE]:
        words.append(f"no verdict on {_named(by[NONE])}")
    if outside := result["misspecification"]:
        words.append(
            f"{outside['outside']:,} of {outside['rows']:,} x outside of what is drawn "
            f"({outside['expected']:.2g} expected)"
        )
    gained = result["information"]
    if gained and gained["excluded"]:
        words.append(f"{gained['excluded']:,} posteriors exclude their θ")
    elif gained:
        most = f" of {gained['exact']:.3f}" if gained["exact"] else ""
        words.append(f"information {gained['gain']:.3f} ± {gained['se']:.3f}{most} nats")
    return "; ".join([*words, *result["warnings"]])


def _named(some: list[Mapping[str, Any]], p: bool = False) -> str:
    return ", ".join(c["name"] + (f" (p {c['p_value']:.1g})" if p else "") for c in some)

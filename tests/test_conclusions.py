"""What a page says first: each conclusion beside a control that gets the opposite words."""

import numpy as np
import pytest

from physgen.law import Law
from physgen.reporting.conclusions import conclusion_of

LAW = Law.of("gaussian", {"size": 5, "parameters": 2}).to_json()


def nll(gap, se, likelihood="exact"):
    return {"gap_total": gap, "gap_total_se": se, "likelihood": likelihood}


def post(off, ratio=1.0, observations=100):
    return {"mean_error": off, "mean_error_se": 0.01, "std_ratio": ratio,
            "observations": observations}  # fmt: skip


def c2st(accuracy, control):
    return {"c2st": {"accuracy": accuracy, "se": 0.02, "null": 0.5, "control": control}}


def auc(area, verdict, control=0.9):
    return {"auc": area, "se": 0.02, "control": control, "verdict": verdict}


def checks(*verdicts):
    return [{"name": n, "verdict": v, "p_value": 1e-9 if v == "fails" else 0.5}
            for n, v in zip(("SBC", "TARP"), verdicts, strict=False)]  # fmt: skip


def drawn(width, **more):
    rng = np.random.default_rng(1)
    return {"law": LAW, "arrays": {"theta": width * rng.standard_normal((3, 400, 2)), **more}}


def score(passed, control_fails=True):
    return {"off": {"value": 0.2, "passed": passed}, "control_fails": control_fails}


def restored(*scores):
    return {"arrays": {"x": np.zeros((1, 50, 4))}, "scores": list(scores), "absent": "no law"}


def told(value, se):
    return {"told": {"observables": {"energy": {"all": [value, se]}}}}


def model(name, *figures):
    return {"name": name, "metrics": {"nll": nll(*figures)}}


def compared(name, area, caught=True):
    low = auc(area, "told apart") | {"control_caught": caught}
    return {"name": name, "comparison": {"classifiers": {"low": low}}}


def sizes(p_value, shift=0.01, **more):
    figure = {"p_value": p_value, "pull": 7.0, "worst": 0}
    one = {"name": "a.h5", "at": [2.0], "agreement": {"heat": figure}, "least_shift": shift}
    return {"sizes": [one | more], "labels": {"heat": {"title": "specific heat"}},
            "crossings": [], "critical": 2.27, "coordinate": {"latex": "T"}}  # fmt: skip


WEAK = "too few rows: no verdict"
CASES = {
    "metrics": [
        ({"nll": nll(0.1, 0.01), "posterior": post(0.05)}, "good", "0.050(10) exact posterior"),
        ({"nll": nll(0.1, 0.01), "posterior": post(0.2)}, "good", "from single x"),
        ({"nll": nll(0.1, 0.01), "posterior": post(0.5)}, "care", "Infer with care"),
        ({"nll": nll(0.1, 0.01), "posterior": post(1.5)}, "bad", "Do not infer"),
        ({"posterior": post(0.05, ratio=0.4)}, "bad", "0.40 times the exact ones"),
        ({"posterior": post(0.05, observations=1)}, "unknown", "so few posteriors (1)"),
        ({"nll": nll(-0.3, 0.01), "posterior": post(0.05)}, "bad", "no normalised law"),
        ({"nll": nll(0.01, 0.01)}, "good", "0.020 nats would have been seen"),
        ({"nll": nll(0.1, 0.4)}, "unknown", "too few"),
        ({"nll": nll(2.0, 0.1)}, "bad", "loses 2.00(10) nats a row"),
        ({"nll": nll(2.0, 0.1, "lower bound")}, "care", "at most 2.00(10) nats a row"),
        ({"nll": nll(5.0, 0.1), "posterior": post(0.05, observations=5)}, "bad", "can be told"),
        ({"nll": nll(0.1, 0.1), "posterior": post(0.05, observations=5)}, "unknown", "few"),
        ({"nll": nll(-0.03, 0.012), "posterior": post(0.05)}, "good", "Good to infer"),
        ({"two_sample": c2st(0.52, 0.9)}, "good", "not told from true ones"),
        ({"two_sample": c2st(0.62, 0.9)}, "care", "are told from true ones"),
        ({"two_sample": c2st(0.52, 0.53)}, "unknown", "misses the control"),
        ({}, "unknown", "no exact answer"),
    ],
    "calibration": [
        ({"rows": 900, "checks": checks("passes", "passes")}, "good", "All 2 checks pass"),
        ({"rows": 900, "checks": checks("passes", "fails")}, "bad", "TARP with p = 1.0×10⁻⁹"),
        ({"rows": 90, "checks": checks("passes", WEAK)}, "unknown", "1 of 2 would miss"),
        ({"checks": checks("passes"), "information": {"excluded": 3}}, "bad", "exclude"),
        ({"rows": 90, "checks": []}, "unknown", "Nothing was checked"),
    ],
    "comparison": [
        ({"classifiers": {"low": auc(0.51, "cannot be told apart")}}, "good", "Nothing tells"),
        ({"classifiers": {"low": auc(0.7, "told apart")}}, "care", "area of 0.70(2)"),
        ({"classifiers": {"low": auc(0.5, "too weak")}}, "unknown", "control"),
        ({"classifiers": {"low": auc(0.51, "cannot be told apart")},
          "worst": {"observable": "layer_energy", "p_value": 0.002}}, "care", "layer energy"),
        ({"classifiers": {"low": auc(0.51, "cannot be told apart")},
          "given_theta": {"worst": {"observable": "total", "errors": -7.0}}}, "care", "Total"),
    ],
    "posterior": [
        (drawn(0.1), "unknown", "narrows theta1 to"),
        (drawn(3.0), "unknown", "next to nothing"),
        (drawn(0.1) | {"warnings": ["mind"]}, "care", "note below"),
        (drawn(0.1, r_hat=np.full((3, 2), 1.4)), "bad", "not mixed"),
    ],
    "restoration": [
        (restored(score(True)), "good", "Nothing tells"),
        (restored(score(False)), "bad", "differ from the exact"),
        (restored(score(True) | {"theta": [{"passed": False}]}), "bad", "of one row: p(θ|y)"),
        (restored(score(True) | {"theta": [{"passed": True}]}), "good", "Nothing tells"),
        (restored(score(True)) | {"warnings": ["R̂ is 1.4"]}, "care", "1 to mind"),
        (restored(score(True, control_fails=False)), "unknown", "proves nothing"),
        (restored(), "unknown", "is not known: no law"),
    ],
    "latents": [
        (told(0.6, 0.02), "good", "60(2) % of the variance of energy"),
        (told(0.01, 0.02), "care", "nothing that θ does not"),
        (told(0.1, 0.1), "unknown", "too few"),
        (told(None, None), "unknown", "No observable"),
    ],
    "training": [
        ({"held_out": {"auc": 0.52, "se": 0.02, "control": 0.8}}, "good", "not told from"),
        ({"held_out": {"auc": 0.7, "se": 0.02, "control": 0.8}}, "care", "are told from"),
        ({"held_out": {"auc": 0.52, "se": 0.02, "control": 0.52}}, "unknown", "too few"),
        ({"overfitting": {"gap": 2.0, "se": 0.1}}, "care", "It overfits"),
        ({"overfitting": {"gap": 0.1, "se": 0.1}}, "good", "does not overfit"),
    ],
    "responses": [
        (sizes(0.3), "good", "1 % off would have been told"),
        (sizes(1e-9), "bad", "a.h5: the specific heat at 2 is 7 standard errors off"),
        (sizes(0.3, shift=None), "unknown", "would not tell"),
        (sizes(0.3, agreement={"heat": None}), "unknown", "Nothing exact"),
    ],
    "models": [
        ({"models": [model("a", 0.1, 0.01), model("b", 0.3, 0.01)]}, "good", "a is the closest"),
        ({"models": [model("a", 0.4, 0.01), model("b", 0.3, 0.01)]}, "good", "b is the closest"),
        ({"models": [model("a", 0.1, 0.1), model("b", 0.3, 0.1)]}, "unknown", "told apart"),
        ({"models": [model("a", -0.3, 0.01), model("b", 0.3, 0.01)]}, "bad", "a: log p(x|θ)"),
        ({"models": [model("a", 0.1, 0.01), model("b", 0.3, 0.01, "lower bound")]},
         "unknown", "may be the better one"),
        ({"models": [model("a", 0.1, 0.01), {"name": "b"}]}, "unknown", "no exact law"),
        ({"models": [compared("a", 0.8), compared("b", 0.6)]}, "good", "b is the hardest to tell"),
        ({"models": [compared("a", 0.62), compared("b", 0.6)]}, "unknown", "cannot be told apart"),
        ({"models": [compared("a", 0.8), compared("b", 0.6, False)]}, "unknown", "no exact law"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "metrics", "tone", "words"),
    [(kind, *case) for kind, cases in CASES.items() for case in cases],
)
def test_a_page_concludes_from_its_figures(kind, metrics, tone, words):
    found = conclusion_of({"schema": f"physgen/{kind}/1", **metrics})
    assert found.tone == tone
    assert words in f"{found.head} {found.text}"
    assert len(found.text.split()) < 50


def test_each_kind_of_page_has_every_tone_that_it_can():
    for kind, cases in CASES.items():
        assert len({tone for _, tone, _ in cases}) >= 2, kind

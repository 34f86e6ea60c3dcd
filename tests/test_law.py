"""A law is data: it survives JSON, and never imports what a file names."""

import json
import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from physgen.errors import DataError, UsageError
from physgen.law import Law
from simulators.base import SUPPORTS, SYMMETRIES
from simulators.gaussian import LinearGaussian
from simulators.prior import Box

names = st.text("abcxyz_", min_size=1, max_size=9)
numbers = st.floats(-1e300, 1e300)


@st.composite
def boxes(draw):
    bounds = {}
    for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        low, high = sorted(draw(st.lists(numbers, min_size=2, max_size=2, unique=True)))
        bounds[name] = (low, high, draw(st.text(max_size=5)), draw(st.text(max_size=5)))
    return Box(**bounds)


@st.composite
def laws(draw):
    shape = tuple(draw(st.lists(st.integers(1, 97), min_size=1, max_size=3)))
    support = draw(st.sampled_from([s for s in SUPPORTS if s != "mixed" or math.prod(shape) > 1]))
    several = ("counts", *(["reals"] * (math.prod(shape) - 1))) if support == "mixed" else ()
    possible = [s for s in SYMMETRIES if s != "transpose" or shape == 2 * shape[:1]]
    possible = [s for s in possible if s != "flip" or support in ("spins", "reals")]
    possible = [] if support == "mixed" else possible
    scalars = st.integers() | numbers | st.booleans() | st.text(max_size=5) | st.none()
    return Law(
        draw(names),
        draw(boxes()),
        shape,
        support,
        tuple(draw(st.lists(st.sampled_from(possible), unique=True))) if possible else (),
        draw(st.dictionaries(names, scalars, max_size=3)),
        draw(st.integers(2, 2**15)) if support == "levels" else 0,
        column_supports=several,
    )


@settings(deadline=None, max_examples=50)
@given(laws())
def test_a_law_survives_json(law):
    again = Law.from_json(json.loads(json.dumps(law.to_json())))
    assert again == law
    assert (again.size, again.periodic) == (math.prod(law.x_shape), "shift" in law.symmetries)


GOOD = Law.of("gaussian", {"size": 3}).to_json()


@pytest.mark.parametrize(
    "bad",
    [
        {"x_shape": []},
        {"x_shape": [3, 0]},
        {"x_shape": 3},
        {"x_shape": [math.inf]},
        {"x_shape": ["three"]},
        {"support": "integers"},
        {"support": ["reals"]},
        {"support": "levels"},
        {"support": "levels", "levels": 1},
        {"support": "levels", "levels": 2**15 + 1},
        {"support": "levels", "levels": "three"},
        {"support": "levels", "levels": None},
        {"support": "levels", "levels": 3, "symmetries": ["flip"]},
        {"levels": 3},
        {"symmetries": ["turn"]},
        {"symmetries": "shift"},
        {"symmetries": [["shift"]]},
        {"symmetries": ["transpose"], "x_shape": [2, 3]},
        {"prior": []},
        {"prior": {}},
        {"prior": None},
        {"prior": [{"name": "a"}]},
        {"prior": [{"name": "a", "low": 1, "high": 0}]},
        {"prior": [{"name": "a", "low": "0", "high": 1}]},
        {"prior": [{"name": 7, "low": 0, "high": 1}]},
        {"prior": [{"name": "a", "low": 0, "high": math.nan}]},
        {"options": 7},
        {"options": [1]},
    ],
)
def test_what_is_no_law_is_refused(bad):
    with pytest.raises(DataError, match="not a law"):
        Law.from_json(GOOD | bad)


@pytest.mark.parametrize("missing", GOOD)
def test_a_missing_field_is_refused(missing):
    with pytest.raises(DataError, match="not a law"):
        Law.from_json({k: v for k, v in GOOD.items() if k != missing})


@pytest.mark.parametrize("data", [None, [], 7, "law"])
def test_json_of_another_kind_is_refused(data):
    with pytest.raises(DataError, match="not a law"):
        Law.from_json(data)


def test_the_law_of_a_simulator_has_all_its_options():
    law = Law.of("gaussian", {"size": 3})
    assert law.options == {"size": 3, "parameters": 2, "noise": 0.5}
    assert law.build() == LinearGaussian(3)
    ising = Law.of("ising", {"size": 3, "width": 5})
    assert (ising.x_shape, ising.support, ising.periodic) == ((3, 5), "spins", True)


def test_levels_stand_in_the_json_of_levels_alone():
    assert "levels" not in GOOD
    law = Law("dice", Box(a=(0, 1)), (2,), "levels", levels=6)
    assert law.to_json()["levels"] == 6
    with pytest.raises(ValueError, match="levels: expected 2 to 32768, got 1"):
        Law("dice", Box(a=(0, 1)), (2,), "levels", levels=1)


def test_another_prior_replaces_bounds_and_keeps_names_units_and_order():
    prior = Law.of("ising", {"theta": "beta-h"}, {"h": (0.1, 0.2)}).prior
    assert prior == Box(beta=(0.1, 0.7, "1/J", r"\beta"), h=(0.1, 0.2, "J", "h"))


@pytest.mark.parametrize(
    ("options", "prior", "told"),
    [
        ({}, {"gamma": (0, 1)}, "ising: prior: unknown gamma; has beta"),
        ({}, {"beta": (0.7, 0.1)}, "ising: prior of beta: expected finite low < high"),
        ({"size": 1}, {}, "ising: size: expected 2 to 4096"),
        ({"depth": 3}, {}, "ising: no option 'depth'"),
    ],
)
def test_what_a_simulator_refuses_is_told_in_one_line(options, prior, told):
    with pytest.raises(UsageError) as caught:
        Law.of("ising", options, prior)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


# --- no code from files --------------------------------------------------------------------------


@pytest.fixture
def intruder(tmp_path, monkeypatch):
    """A law of a module in the current folder whose import leaves a trace."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "intruder_of_law.py").write_text(
        "from pathlib import Path\n"
        "from simulators.gaussian import LinearGaussian\n"
        "Path('trace').touch()\n"
        "class Toy(LinearGaussian): pass\n"
    )
    yield Law.from_json(GOOD | {"simulator": "intruder_of_law:Toy"}), tmp_path / "trace"
    sys.modules.pop("intruder_of_law", None)


def test_a_law_from_a_file_imports_registered_simulators_only(intruder):
    law, trace = intruder
    assert law.build_if_known() is None
    assert not trace.exists()
    with pytest.raises(UsageError, match="expected intruder_of_law:Toy, got other:Toy"):
        law.build_if_known("other:Toy")
    assert not trace.exists()


def test_a_trusted_simulator_is_built(intruder):
    law, trace = intruder
    assert type(law.build_if_known("intruder_of_law:Toy")).__name__ == "Toy"
    assert trace.exists()


def test_a_registered_simulator_is_built():
    assert Law.of("gaussian").build_if_known() == LinearGaussian()


class Tilted(Box):
    """A prior of its own law, which no file would keep."""

    def sample(self, n, rng):
        return super().sample(n, rng) ** 2


def test_a_prior_that_files_do_not_keep_is_refused(tmp_path, monkeypatch):
    told = "prior: expected a simulators.Prior or Box, got Tilted; files keep the law"
    with pytest.raises(ValueError, match=told):
        Law("toy", Tilted(a=(0, 1)), (3,))
    (tmp_path / "tilted.py").write_text(
        "from simulators import Box\n"
        "from simulators.gaussian import LinearGaussian\n"
        "class Tilted(Box): pass\n"
        "class Toy(LinearGaussian):\n"
        "    prior = Tilted(theta1=(0, 1), theta2=(0, 1))\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"tilted:Toy: {told}"):
        Law.of("tilted:Toy")

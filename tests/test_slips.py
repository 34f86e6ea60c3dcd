"""Python's own slips: what is given is understood, or told in one line with what to write."""

import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal

import click
import numpy as np
import pytest
import torch
from scipy import stats

import physgen
from physgen.cli.commands import command
from physgen.dataset import sealed, write_arrays
from physgen.errors import DataError, PhysgenError, StorageError, UsageError
from physgen.law import Law
from physgen.posterior.density import GridPosterior
from physgen.runtime.kinds import as_json_data, has_text, parsed, taken, taken_rows, worded
from physgen.runtime.processes import cause_of_death
from simulators import Box, Prior
from simulators.gaussian import LinearGaussian

QUIET = {"samples": 10}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset, a surrogate, a posterior and a dataset of another simulator, in files."""
    folder = tmp_path_factory.mktemp("slips")
    physgen.simulate("gaussian", n=60, out=folder / "q.h5")
    physgen.simulate("oscillator", n=5, out=folder / "osc.h5")
    physgen.fit("cvae", folder / "q.h5", out=folder / "q.pt", epochs=1, channels=4, levels=1)
    physgen.infer(folder / "q.pt", folder / "q.h5", rows="0:2", out=folder / "p.h5", samples=50)
    return folder


@pytest.fixture
def at_home(made, monkeypatch):
    monkeypatch.chdir(made)
    monkeypatch.setenv("HOME", str(made))
    return made


def infer(**given):
    return physgen.infer("q.pt", "q.h5", **QUIET | given)


# --- kinds ---------------------------------------------------------------------------------------


class Mode(Enum):
    FAST = 1
    SLOW = (2, 3)


class Kind(Enum):
    A = "aa"
    B = "bb"


KINDS = [
    (int, np.int64(3), 3, "3"),
    (int, 100.0, 100, "100"),
    (int | None, None, None, "none"),
    (float, np.float32(0.5), 0.5, "0.5"),
    (float, torch.tensor(2), 2.0, "2"),
    (int | float, 1, 1, "1"),
    (int | float, np.float64(2.0), 2.0, "2.0"),
    (bool, np.True_, True, "yes"),
    (bool | None, False, False, "false"),
    (str, "a", "a", "a"),
    (Path, "a/b", Path("a/b"), "a/b"),
    (Literal[1, 2], np.int8(2), 2, "2"),
    (Literal["a", "b"], "b", "b", "b"),
    (Mode, "SLOW", Mode.SLOW, "SLOW"),
    (Mode, (2, 3), Mode.SLOW, "SLOW"),
    (Kind, "bb", Kind.B, "bb"),
    (Kind, "B", Kind.B, "B"),
    (tuple[float, ...], [1, 2.5], (1.0, 2.5), "1,2.5"),
    (tuple[float, ...], np.arange(2), (0.0, 1.0), "0, 1"),
    (tuple[float, ...], (), (), ""),
    (tuple[int, str], (1, "x"), (1, "x"), "1,x"),
    (list[int], (1, 2), [1, 2], "1,2"),
    (list[Kind], ["aa"], [Kind.A], "aa"),
    (slice, 3, slice(3, 4), "3"),
    (slice, range(2, 5), slice(2, 5), "2:5"),
    (slice, slice(np.int64(0), 3.0), slice(0, 3), ":3"),
]


@pytest.mark.parametrize(("kind", "given", "expected", "text"), KINDS)
def test_a_value_is_taken_from_python_text_and_json(kind, given, expected, text):
    found = taken(kind, given)
    assert found == expected
    assert type(found) is type(expected)
    assert has_text(kind)
    read = parsed(kind, text)
    assert (read.stop, type(read)) == (found.stop, slice) if kind is slice else read == found
    if kind is not slice:
        assert taken(kind, as_json_data(found)) == found
        assert parsed(kind, worded(found)) == found


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        (int, 1.5, "expected a whole number, got 1.5"),
        (int, True, "expected a whole number, got True"),
        (int, "3", "expected a whole number, got '3'"),
        (int, None, "expected a whole number, got None"),
        (int, np.inf, "expected a whole number, got inf"),
        (float, "a", "expected a number"),
        (float | None, [1], "expected a number"),
        (int | str, 1.5, "expected a whole number or text"),
        (bool, "no", "expected True or False, got 'no'"),
        (Path, "", "expected a path, got ''"),
        (Path, b"x", "expected a path"),
        (
            Literal["skip", "stop"],
            "skp",
            "expected one of skip, stop, got 'skp'; did you mean 'sk",
        ),
        (Mode, "FASTT", "expected one of FAST, SLOW, got 'FASTT'; did you mean 'FAST'"),
        (tuple[int, int], (1, 2, 3), "expected 2 values, got 3"),
        (tuple[float, ...], "1,2", "expected a list or a tuple, got '1,2'"),
        (tuple[float, ...], [1, "x"], "expected a number, got 'x'"),
        (dict[str, float], {"a": "x"}, "a: expected a number, got 'x'"),
        (dict[str, float], 0.4, "expected values by name"),
        (int, np.zeros((50, 50)), r"expected a whole number, got array\(\[\[0"),
    ],
)
def test_what_is_no_value_of_its_kind_is_told_in_one_line(kind, given, told):
    with pytest.raises(ValueError, match=told) as caught:
        taken(kind, given)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 150


def test_what_text_cannot_tell():
    for kind in (np.ndarray, dict[str, float], tuple, tuple[tuple[int, ...], ...]):
        assert not has_text(kind)
    with pytest.raises(ValueError, match="expected START:STOP, as in 0:10, got '1,2'"):
        parsed(slice | None, "1,2")
    for kind, text in ((int, "x"), (tuple[int, int], "1"), (slice, "a:b"), (bool, "perhaps")):
        with pytest.raises(ValueError, match="expected"):
            parsed(kind, text)
    with pytest.raises(ValueError, match="finite"):
        as_json_data(np.nan)
    with pytest.raises(TypeError, match="got function"):
        as_json_data(lambda: 0)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((0, 3), r"others are physgen.Dataset\(file\)\[\[0, 3\]\]; got \(0, 3\)"),
        ([0, 5, 7], r"physgen.Dataset\(file\)\[\[0, 5, 7\]\]"),
        (np.arange(300) < 3, r"physgen.Dataset\(file\)\[index\]"),
        (slice(0, 9, 2), "expected consecutive rows"),
        (range(-1), "expected consecutive rows"),
        (range(-3, 0), "expected consecutive rows"),
        (True, "expected consecutive rows"),
        (1.5, "expected consecutive rows"),
        ("x", "expected START:STOP"),
    ],
)
def test_rows_that_may_mean_two_things_are_refused(given, told):
    with pytest.raises(ValueError, match=told) as caught:
        taken_rows(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [2**53 + 1, np.int64(2**53 + 1), 10**400])
def test_a_whole_number_that_a_float_would_change_is_refused(value):
    assert taken(float, 2**60) == 2**60
    with pytest.raises(ValueError, match="expected a number that 64 bits hold"):
        taken(float, value)


def test_one_row_is_that_row_alone(made):
    data = physgen.Dataset(made / "q.h5")
    whole = data.read().x
    for given, rows in ((3, [3]), (-1, [-1]), ("3", [3]), ("57:", [57, 58, 59]), (-3, [-3])):
        assert np.array_equal(data.read(given, whole=True).x, whole[rows])
        assert np.array_equal(physgen.read(made / "q.h5", given).x, whole[rows])
    assert np.array_equal(data[[0, 5, 7]].x, whole[[0, 5, 7]])  # as the refusal says


# --- arguments of verbs --------------------------------------------------------------------------


UNDERSTOOD = {
    "a row": lambda: infer(rows=np.int64(3)),
    "rows as text": lambda: infer(rows="3:4"),
    "a device": lambda: infer(rows=1, device=torch.device("cpu")),
    "numbers of NumPy": lambda: infer(rows=1, fix={"theta1": np.float64(1)}, samples=np.int32(9)),
    "bounds as an array": lambda: infer(rows=1, prior={"theta1": np.array([0, 1])}),
    "n as a float": lambda: physgen.simulate("gaussian", n=10.0, size=np.int64(3)),
    "home": lambda: physgen.simulate("gaussian", n=3, out="~/home.h5", force=1),
    "values": lambda: physgen.sample("q.pt", n=2, theta={"theta1": np.float32(0.4), "theta2": 0}),
    "a pair": lambda: physgen.simulate(
        "gaussian", n=3, correlation={("theta1", "theta2"): 0.5}, out="pair.h5", force=True
    ),
    "a row of draws": lambda: physgen.simulate(
        "gaussian", n=3, theta_from="p.h5", row=np.int64(0), widen=np.float32(2), out="r.h5"
    ),
    "epochs": lambda: physgen.fit("cvae", "q.h5", epochs=np.int64(1), out="e.pt", channels=4.0),
}


@pytest.mark.parametrize("what", UNDERSTOOD)
def test_what_is_unambiguous_is_understood(at_home, what):
    assert UNDERSTOOD[what]().summary


TOLD = {
    "n: expected a whole number, got 100.5": lambda: physgen.simulate("gaussian", n=100.5),
    "seed: expected a whole number, got None; leave it out for 0": lambda: physgen.simulate(
        "gaussian", n=3, seed=None
    ),
    r"seed: expected 0 to 2\*\*62": lambda: physgen.fit("cvae", "q.h5", seed=2**70),
    "training: epochs: expected a whole number, got 1.5": lambda: physgen.fit(
        "cvae", "q.h5", epochs=1.5
    ),
    "samples: expected a whole number, got '10'": lambda: infer(samples="10"),
    "device: expected text, got None; leave it out for 'auto'": lambda: infer(device=None),
    "theta: expected theta1, theta2, got none": lambda: physgen.sample("q.pt", n=3, theta={}),
    "theta: expected values by name, as in": lambda: physgen.sample("q.pt", n=3, theta=0.4),
    "theta: theta1: expected a number, got array": lambda: physgen.sample(
        "q.pt", n=3, theta={"theta1": np.zeros(3), "theta2": 0}
    ),
    "prior: expected a Prior, or laws by name": lambda: infer(prior=[(0, 1), (0, 1)]),
    r"fix: expected values by name, .*got \[1\]": lambda: infer(fix=[1]),
    "fix: theta1: expected a number, got 'a'": lambda: infer(fix={"theta1": "a"}),
    "out: expected a path, got 3": lambda: infer(out=3),
    "out: expected a path, got ''": lambda: infer(out=""),
    "expected a file to write, got a folder": lambda: infer(out=".", force=True),
    "force: expected True or False, got 'no'": lambda: infer(force="no"),
    "format: expected text, got None": lambda: physgen.export("q.h5", out="z", format=None),
    "infer: no option 'row'; did you mean 'rows'": lambda: infer(row=3),
    "compare: missing a required argument: 'reference'": lambda: physgen.compare("q.h5"),
    "cvae: no option 'epoch'.* did you mean 'epochs'": lambda: physgen.fit(
        "cvae", "q.h5", epoch=1
    ),
    "unknown 'cvea'.*did you mean 'cvae'": lambda: physgen.fit("cvea", "q.h5"),
    "got 'NPE'; did you mean 'npe'": lambda: infer(method="NPE"),
    "on_error: .*did you mean 'skip'": lambda: physgen.simulate("gaussian", n=3, on_error="skp"),
    "q.h5 is a file; the name of one of them comes first": lambda: physgen.fit("q.h5", "cvae"),
    "q.pt: expected data, got a checkpoint": lambda: physgen.infer("q.h5", "q.pt"),
    "not a physgen checkpoint.*got a dataset": lambda: physgen.sample("q.h5", n=3),
    "q.pt: expected .*got a checkpoint": lambda: physgen.fit("cvae", "q.pt"),
    "got CVAE; are model and data swapped": lambda: physgen.infer(
        physgen.Dataset("q.h5"), physgen.load("q.pt")[0]
    ),
    "load returns a pair, take its first": lambda: physgen.infer(physgen.load("q.pt"), "q.h5"),
    "it is of oscillator, and the model of gaussian": lambda: physgen.infer("q.pt", "osc.h5"),
    "interest: is an option of a posterior": lambda: physgen.report("q.pt", interest="a"),
    "p.h5: is a .*physgen.load opens it": lambda: physgen.read("p.h5"),
}


@pytest.mark.parametrize("told", TOLD)
def test_what_is_not_is_told_in_one_line(at_home, told):
    with pytest.raises(PhysgenError, match=told) as caught:
        TOLD[told]()
    assert "\n" not in str(caught.value)


def test_an_unwritable_place_is_found_before_the_work(at_home, monkeypatch):
    monkeypatch.setattr(
        "physgen.posterior.blocks.infer_posteriors", lambda *a: pytest.fail("began")
    )
    for given in ({"out": "no/p.h5"}, {"out": "n.h5", "network": "no/net.pt"}):
        with pytest.raises(StorageError, match="no folder no; make it first"):
            infer(**given)


# --- what simulators declare ---------------------------------------------------------------------


def declaring(monkeypatch, **declared):
    """A simulator at the top of this module, with some declarations."""
    cls = type("Declaring", (LinearGaussian,), {"x_shape": 5, **declared})
    cls.__module__, cls.__qualname__ = __name__, "Declaring"
    monkeypatch.setattr(sys.modules[__name__], "Declaring", cls, raising=False)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    return Law.of(cls)


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        ({"x_shape": np.int64(5)}, {"x_shape": (5,)}),
        ({"x_shape": [5]}, {"x_shape": (5,)}),
        ({"x_shape": (np.prod([5, 1]),)}, {"x_shape": (5,)}),
        ({"x_shape": torch.Size([5])}, {"x_shape": (5,)}),
        ({"support": "levels", "levels": np.int64(5)}, {"levels": 5}),
        ({"symmetries": ["reflect"]}, {"symmetries": ("reflect",)}),
        ({"symmetries": "reflect"}, {"symmetries": ("reflect",)}),
        ({"symmetries": None}, {"symmetries": ()}),
        ({"dtype": np.float64}, {"dtype": "float64"}),
        ({"dtype": float}, {"dtype": "float64"}),
        ({"prior": Box(a=(np.float32(0), np.float32(1)))}, {"prior": Box(a=(0, 1))}),
    ],
)
def test_declarations_of_numpy_and_lists_are_those_of_python(monkeypatch, declared, found):
    law = declaring(monkeypatch, **declared)
    assert {name: getattr(law, name) for name in found} == found
    assert Law.from_json(law.to_json()) == law


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"x_shape": 2.5}, "x_shape: expected whole numbers, got 2.5"),
        ({"x_shape": "3"}, "x_shape: expected whole numbers, got '3'"),
        ({"x_shape": np.inf}, "x_shape: expected whole numbers, got inf"),
        ({"support": "levels", "levels": 2.5}, "levels: expected whole numbers"),
        ({"symmetries": 3}, "symmetries: expected names"),
        ({"dtype": "foo"}, "dtype: expected float32 or float64, got 'foo'"),
        ({"dtype": int}, "dtype: expected float32 or float64, got 'int64'"),
    ],
)
def test_declarations_that_cannot_be_are_told(monkeypatch, declared, told):
    with pytest.raises(UsageError, match=f"Declaring: {told}"):
        declaring(monkeypatch, **declared)


def test_distributions_of_scipys_new_kind():
    known = Prior(
        a=stats.Normal(mu=1.0, sigma=2.0), b=stats.Uniform(a=1.0, b=3.0), c=stats.Logistic()
    )
    assert known == Prior(a=stats.norm(1, 2), b=(1, 3), c=stats.logistic())
    assert known != Prior(a=stats.norm(1, 3), b=(1, 3), c=stats.logistic())
    for law in (2 * stats.Normal(), stats.Binomial(n=3, p=0.2)):
        with pytest.raises(ValueError, match=r"prior of a: .*such as stats.gamma\(2\)"):
            Prior(a=law)
    assert Box(a=np.array([0, 1])) == Box(a=[0, 1]) == Box(a=torch.tensor([0, 1])) == Box(a=(0, 1))


# --- options of a class --------------------------------------------------------------------------


@dataclass(frozen=True)
class Timed(LinearGaussian):
    """A simulator with options of every kind."""

    times: tuple[float, ...] = (1.0, 2.0)
    pair: tuple[int, int] = (1, 2)
    ns: list[int] = field(default_factory=lambda: [1, 2])
    mode: Mode = Mode.FAST
    kind: Kind = Kind.A
    file: Path = Path("a.txt")
    flag: bool | None = None
    mixed: int | float = 1
    few: Literal[1, 2] = 1
    grid: np.ndarray = field(default_factory=lambda: np.zeros(3))
    table: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Needy(LinearGaussian):
    grid: np.ndarray = None
    other: object = None


class Ordinary(LinearGaussian):
    """Not a dataclass of its own, and its options not annotated."""

    def __init__(self, times=(1.0, 2.0), limit=None):
        super().__init__()
        object.__setattr__(self, "times", np.asarray(times))
        object.__setattr__(self, "limit", limit)


TOLD_OPTIONS = (
    "--times 1,2,4 --pair 3,4 --ns 5,6 --mode SLOW --kind bb --file b.txt --no-flag --mixed 1.5 "
    "--few 2"
)


@pytest.fixture
def in_a_module(monkeypatch):
    """This module under the name by which its classes are found."""
    monkeypatch.setitem(sys.modules, Timed.__module__, sys.modules[Timed.__module__])
    return f"{Timed.__module__}:Timed"


def test_options_come_back_from_the_file_as_what_they_were(in_a_module):
    one = Timed(
        3, 2, 0.5, (1, 2, 4), (3, 4), [5, 6], Mode.SLOW, Kind.B, Path("b.txt"), False, 1.5, 2
    )
    law = Law.of(one)
    again = Law.from_json(law.to_json())
    assert again == law
    built = again.build()
    assert (built.times, built.mode, built.ns) == ((1.0, 2.0, 4.0), Mode.SLOW, [5, 6])
    assert (built.kind, built.file, built.flag) == (Kind.B, Path("b.txt"), False)
    assert "grid" not in law.options
    assert law == Law.of(Timed, {n: v for n, v in vars(one).items() if n != "grid"})
    assert Law.of(Timed(times=[1, 2, 4])).options == Law.of(Timed(times=(1, 2, 4))).options


def test_options_on_the_command_line(in_a_module):
    made = command(physgen.simulate, "toy", {"simulator": "toy"}, Timed)
    with made.make_context("toy", [*TOLD_OPTIONS.split(), "-n", "3", "-o", "x.h5"]) as context:
        found = context.params
        shown = made.get_help(context)
    assert (found["times"], found["pair"], found["ns"]) == ((1.0, 2.0, 4.0), (3, 4), [5, 6])
    assert (found["mode"], found["kind"], found["flag"]) == (Mode.SLOW, Kind.B, False)
    assert (found["mixed"], found["few"], found["file"]) == (1.5, 2, Path("b.txt"))
    assert "grid" not in found
    assert "In Python alone, and here at their defaults: executor, grid, table." in shown
    assert "[FAST|SLOW]" in shown
    for wrong in (["--times", "1,x"], ["--pair", "1"], ["--mode", "FASTT"], ["--few", "3"]):
        with pytest.raises(click.UsageError):
            made.make_context("toy", [*wrong, "-n", "3", "-o", "x.h5"])


def test_an_option_that_no_file_keeps_is_refused_by_class_and_field(in_a_module):
    with pytest.raises(UsageError, match="Timed: grid: a file keeps no ndarray; annotate"):
        Law.of(Timed(grid=np.ones(3)))
    with pytest.raises(UsageError, match="Timed: grid: a file keeps no ndarray"):
        Law.of(Timed, {"grid": np.ones(3)})
    with pytest.raises(UsageError, match="Needy: other: expected numbers, text"):
        Law.of(Needy(other=len))

    class Bare(LinearGaussian):
        def __init__(self, grid: np.ndarray) -> None:
            """It needs one."""

    with pytest.raises(UsageError, match="toy: option 'grid' is of type ndarray, which text"):
        command(physgen.simulate, "toy", {"simulator": "toy"}, Bare)


def test_an_ordinary_class_that_makes_an_array_of_its_option(in_a_module):
    law = Law.of(Ordinary([1, 3]))
    assert law.options == {"times": [1.0, 3.0], "limit": None}
    assert np.array_equal(law.build().times, [1, 3])


# --- worker processes ----------------------------------------------------------------------------

SCRIPT = """
import os, sys
from dataclasses import dataclass
from enum import Enum
import numpy as np, physgen
from simulators import Box
print("once")
SCALE = 2.0
class Mode(Enum):
    A, B = 1, 2
def scaled(theta):
    return SCALE * theta
@dataclass(frozen=True)
class Toy:
    mode: Mode = Mode.A
    prior = Box(a=(0.0, 1.0))
    x_shape = 3
    def sample(self, theta, rng):
        assert self.mode is Mode.B
        return scaled(theta) + rng.normal(size=(len(theta), 3))
by_two = physgen.simulate(Toy, mode=Mode.B, n=40, shard_rows=10, workers=2, out="t.h5")
by_one = physgen.simulate(Toy(Mode.B), n=40, shard_rows=10)
assert np.array_equal(by_two.x, by_one.x) and by_two.law.build() == Toy(Mode.B)
"""


def run(text, folder, *arguments):
    env = os.environ | {"PYTHONPATH": str(Path(physgen.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, *arguments], input=text, cwd=folder, env=env, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("interactive", [False, True])
def test_a_class_of_a_script_without_a_guard_goes_to_other_processes(tmp_path, interactive):
    (tmp_path / "s.py").write_text(SCRIPT)
    done = run(SCRIPT, tmp_path, "-") if interactive else run("", tmp_path, "s.py")
    assert (done.returncode, done.stdout) == (0, "once\n"), done.stderr
    rows = physgen.read(tmp_path / "t.h5")
    assert rows.meta.law.simulator == "__main__:Toy"
    assert rows.meta.law.build_if_known() is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("os.kill(os.getpid(), 9)", "worker processes are killed, as when memory is short"),
        ("os._exit(3)", "worker processes end with exit code 3"),
        ("os.kill(os.getpid(), 11)", r"worker processes crash \(SIGSEGV\)"),
    ],
)
def test_workers_that_die_say_how(tmp_path, end, told):
    die = f"if os.getpid() != PARENT: {end}\n        assert self.mode"
    text = SCRIPT.replace("assert self.mode", die)
    text = text.replace("SCALE = 2.0", "SCALE = 2.0; PARENT = os.getpid()")
    done = run("", tmp_path, "-c", text)
    said = rf"PhysgenError: t\.h5: shard \d+ kills its workers: {told}"
    assert re.search(said, done.stderr), done.stderr


def test_deaths_are_told_apart():
    assert "memory is short" in cause_of_death([-15, -9, -15])
    assert "SIGSEGV" in cause_of_death([-11, -15])
    assert "exit code 3" in cause_of_death([3])


def test_a_class_of_a_script_is_vouched_for_from_its_module():
    law = Law.of("simulators.gaussian:LinearGaussian")
    theirs = Law.from_json(law.to_json() | {"simulator": "__main__:LinearGaussian"})
    assert theirs.build_if_known() is None
    assert theirs.build_if_known("simulators.gaussian:LinearGaussian") == LinearGaussian()
    with pytest.raises(UsageError, match="expected __main__:LinearGaussian, got"):
        theirs.build_if_known("simulators.ising:Ising")


# --- products from files -------------------------------------------------------------------------


def test_a_posterior_on_a_grid_is_reopened_with_its_density(at_home):
    one = physgen.infer("q.pt", "q.h5", rows="0:2", samples=50)
    again, about = physgen.load("p.h5")
    assert type(again) is type(one)
    assert isinstance(again.posterior, GridPosterior)
    assert about["method"] == again.method == "grid"
    theta = one.theta[:, :7]
    assert np.array_equal(again.log_prob(theta), one.log_prob(theta))
    assert np.array_equal(again.interval(0.9), one.interval(0.9))
    assert np.array_equal(again.sample(7, 1), one.sample(7, 1))
    assert np.array_equal(again.mean, one.mean)
    assert np.array_equal(again.profile("theta1").log_density, one.profile("theta1").log_density)
    other = {"theta2": 0.3}
    assert np.array_equal(
        again.slice("theta1", at=other).log_density, one.slice("theta1", at=other).log_density
    )
    again.save("again.h5", force=True)
    assert np.array_equal(physgen.load("again.h5")[0].sd, one.sd)


@pytest.mark.slow
def test_a_posterior_of_draws_says_what_its_file_does_not_keep(at_home):
    one = infer(rows=0, method="smc", samples=60, interest="theta1", out="smc.h5", force=True)
    again, _ = physgen.load("smc.h5")
    assert np.array_equal(again.theta, one.theta)
    assert np.array_equal(again.mean, one.mean)
    kept = again.profile("theta1")
    assert np.array_equal(kept.log_density, one.arrays["profile"][:, 0])
    assert np.isnan(kept.points[..., 1]).all()
    for lost in (
        lambda: again.log_prob(again.theta),
        lambda: again.profile("theta2"),
        lambda: again.slice("theta1", at={"theta2": 0.0}),
    ):
        with pytest.raises(UsageError, match=r"smc.h5: keeps draws of smc, not their density"):
            lost()


def test_a_slice_along_what_stands_still_is_refused(at_home):
    with pytest.raises(UsageError, match="slice: at: theta1 is what varies"):
        physgen.load("p.h5")[0].slice("theta1", at={"theta1": 0.0})


def test_a_damaged_grid_is_no_posterior(at_home):
    arrays, about = physgen.read_arrays("p.h5", "posterior")
    arrays["grid_nodes"] = arrays["grid_nodes"][:, :1]
    write_arrays("bad.h5", arrays, about, kind="posterior", force=True)
    with pytest.raises(DataError, match=r"bad.h5: is not as physgen wrote it: ValueError: a grid"):
        physgen.load("bad.h5")


def test_load_opens_what_there_is(at_home):
    scores = sealed({"schema": "physgen/metrics/1", "provenance": {"package": "physgen"}})
    Path("m.json").write_text(json.dumps(scores))
    found, info = physgen.load("m.json")
    assert (dict(found), info, found.path) == (scores, {"package": "physgen"}, Path("m.json"))
    assert len(physgen.load("q.h5")[0]) == 60
    model, info = physgen.load("q.pt")
    assert (model.name, info["family"]) == ("cvae", "cvae")
    Path("text.txt").write_text("1 2 3")
    with pytest.raises(DataError, match=r"text.txt: not a physgen checkpoint"):
        physgen.load("text.txt")


@pytest.mark.slow
def test_a_network_knows_its_file(at_home, caplog):
    pytest.importorskip("sbi")
    caplog.set_level(logging.ERROR, "physgen")
    given = {"method": "nre", "epochs": 2, "simulations": 100, "samples": 5, "rows": 0}
    found = physgen.infer("q.pt", "q.h5", network="net.pt", force=True, **given)
    assert found.network.path == Path("net.pt")
    again, _ = physgen.load("net.pt")
    assert again.summary == found.network.summary
    assert again.summary.startswith("net.pt: nre of theta1, theta2, ")
    used = physgen.infer(found.network, "q.h5", rows=0, samples=5)
    assert used.about["network"]["path"] == "net.pt"

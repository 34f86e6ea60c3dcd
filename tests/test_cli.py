"""The command line is the Python API: names, defaults, help, exit codes and messages."""

import inspect
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, make_dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import physgen
from physgen.cli import main, short_help
from physgen.cli.commands import adapted, command
from physgen.formats import arrays
from physgen.registry import find, targets
from physgen.runtime.options import REQUIRED, options
from physgen.surrogates.cvae import CVAEConfig
from physgen.training import Training
from physgen.verbs.demo import demo
from simulators.ising import Ising

VERBS = {
    "simulate": physgen.simulate,
    "inspect": physgen.inspect,
    "fit": physgen.fit,
    "sample": physgen.sample,
    "infer": physgen.infer,
    "restore": physgen.restore,
    "validate": physgen.validate,
    "calibrate": physgen.calibrate,
    "compare": physgen.compare,
    "latents": physgen.latents,
    "explore": physgen.explore,
    "report": physgen.report,
    "import": physgen.import_,
    "export": physgen.export,
    "merge": physgen.merge,
    "demo": demo,
}
PRODUCTS = {
    "Dataset",
    "Surrogate",
    "InferredPosterior",
    "RestoredRows",
    "Scores",
    "LatentCodes",
    "Page",
    "Description",
    "Exported",
}
SHARED = {"json", "quiet", "verbose", "debug"}


def run(*words, **kwargs):
    return CliRunner().invoke(main, [str(w) for w in words], **kwargs)


def leaf(name):
    """The command of a verb, and the classes whose options it takes too."""
    found = main.commands[name]
    if not isinstance(found, click.Group):
        return found, []
    child = {"simulate": "ising", "fit": "cvae", "import": "arrays"}[name]
    classes = {
        "simulate": [Ising],
        "fit": [Training, CVAEConfig],
        "import": [arrays.open_foreign],
    }[name]
    return found.get_command(click.Context(found), child), classes


def test_the_verbs_are_the_commands():
    assert set(main.commands) == {*VERBS, "completion"}
    for name in VERBS:
        assert short_help(name) == main.commands[name].short_help, name


@pytest.mark.parametrize("name", VERBS)
def test_options_defaults_and_help_are_those_of_the_function(name):
    command, classes = leaf(name)
    expected = {o.name: o for target in (VERBS[name], *classes) for o in options(target)}
    bound = {"simulate": "simulator", "fit": "family", "import": "format"}
    expected.pop(bound.get(name), None)
    found = {p.name: p for p in command.params if p.name not in SHARED}
    if expected.pop("executor", None):  # no text can tell it
        assert "In Python alone, and here at their defaults: executor." in command.help
    assert set(found) == set(expected)
    for key, option in expected.items():
        assert option.help, f"{key} has no help in the docstring"
        if isinstance(found[key], click.Option):
            assert found[key].help == option.help
            required = option.default is REQUIRED or key == "out"  # a command keeps what it makes
            assert found[key].required == required
            if option.default not in (REQUIRED, None):
                assert found[key].default == option.default


@pytest.mark.parametrize("name", VERBS)
def test_help_carries_an_example_that_parses(name):
    command, _ = leaf(name)
    assert {p.name for p in command.params} >= SHARED
    words = main.commands[name].epilog.splitlines()[-1].split()
    assert words[:2] == ["physgen", name]
    command.make_context(name, words[3 if name in ("simulate", "fit", "import") else 2 :])
    assert run(name, "--help").exit_code == 0


def test_help_of_a_simulator_shows_ranges_units_and_defaults():
    text = " ".join(run("simulate", "ising", "--help").output.split())
    for piece in ("--size", "2 to 4096", "1/J", "[default: 16]", "perfect"):
        assert piece in text


@pytest.mark.parametrize(("verb", "kind"), [("simulate", "simulators"), ("fit", "surrogates")])
def test_help_of_everything_that_is_registered(verb, kind):
    """Two options of one name are told by click in a warning, which is an error here."""
    for name in targets(kind):
        result = run(verb, name, "--help")
        assert result.exit_code == 0, name
        flags = re.findall(r"^  (?:-\w, )?(--[\w-]+)", result.output, re.M)
        assert len(flags) == len(set(flags)) > 5, name


def test_options_of_one_name_are_refused():
    @dataclass
    class Twice:
        seed: int = 0

    for more in ([Twice], [Training, Training]):
        with pytest.raises(physgen.errors.UsageError, match="must not be called"):
            command(physgen.fit, "x", {"family": "x"}, *more)


@pytest.mark.parametrize("name", ["json", "quiet"])
def test_an_option_that_every_command_has_is_refused(name):
    own = make_dataclass("Own", [(name, int, 0)])
    with pytest.raises(physgen.errors.UsageError, match="must not be called"):
        command(physgen.fit, "x", {"family": "x"}, own)


def test_every_public_function_is_annotated_and_documented():
    for verb in VERBS.values():
        assert inspect.signature(verb).return_annotation in PRODUCTS
        assert "Args:" in verb.__doc__
        assert "Example:" in verb.__doc__


def test_an_example_names_its_file_after_what_it_simulates():
    shown = adapted("physgen simulate ising -o ising.h5", "shower-voxel", {"simulator": "ising"})
    assert shown == "physgen simulate shower-voxel -o shower-voxel.h5"
    shown = adapted("physgen simulate ising -o ising.h5", "mine:Own", {"simulator": "ising"})
    assert shown == "physgen simulate mine:Own -o ising.h5"


@pytest.mark.parametrize("name", physgen.__all__)
def test_the_package_exports(name):
    assert getattr(physgen, name) is not None


OLD = Path(__file__).parents[1] / "data" / "v0.1"
HEAVY = ("torch", "sbi", "matplotlib", "jinja2")
LIGHT = {
    "--help": (["--help"], (*HEAVY, "numpy", "h5py", "physgen.verbs.fit")),
    "simulate": (["simulate", "ising", "--size", "2", "-n", "3", "-o", "light.h5", "-q"], HEAVY),
    "inspect": (["inspect"], HEAVY),
    "infer": (
        ["infer", str(OLD / "cvae.pt"), str(OLD / "ising.h5"), "--rows", "0:1", "-o", "p.h5"],
        (*HEAVY[1:], "scipy.stats", "scipy.special", "scipy.linalg", "numba"),
    ),
}


@pytest.mark.parametrize("name", LIGHT)
def test_light_at_the_door(name, tmp_path):
    words, heavy = LIGHT[name]
    code = (
        "import sys\n"
        "from physgen.cli import main\n"
        f"main({words!r}, standalone_mode=False)\n"
        f"heavy = set({heavy!r}) & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_door_test_sees_torch():
    """Negative control: the same probe finds torch when it is there."""
    code = "import sys, physgen.training\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 1


REFUSED = {
    "unknown simulator": (["simulate", "isng", "-n", "3", "-o", "x.h5"], 2, "expected one of"),
    "unknown family": (["fit", "vae", "x.h5", "-o", "x.pt"], 2, "cvae"),
    "bad size": (["simulate", "ising", "--size", "1", "-n", "3", "-o", "x.h5"], 2, "2 to 4096"),
    "no rows": (["simulate", "ising", "-n", "0", "-o", "x.h5"], 2, "at least 1"),
    "no output": (["simulate", "ising", "-n", "3"], 2, "--out"),
    "bad prior": (
        ["simulate", "ising", "-n", "3", "-o", "x.h5", "--prior", "beta=1"], 2, "LOW:HIGH",
    ),
    "unknown parameter": (
        ["simulate", "ising", "-n", "3", "-o", "x.h5", "--prior", "b=0:1"], 2, "has beta",
    ),
    "empty prior": (
        ["simulate", "ising", "-n", "3", "-o", "x.h5", "--prior", "beta=1:1"], 2, "low < high",
    ),
    "no file": (["inspect", "none.h5"], 74, "none.h5"),
    "not HDF5": (["inspect", "text.h5"], 3, "text.h5"),
    "not a checkpoint": (["sample", "text.h5", "-o", "y.h5", "-n", "3"], 3, "checkpoint"),
    "not metrics": (["report", "text.h5", "-o", "y.html"], 3, "validate"),
    "exists": (["simulate", "gaussian", "-n", "3", "-o", "text.h5"], 2, "--force"),
    "half a row": (["simulate", "ising", "-n", "1.5", "-o", "x.h5"], 2, "not a valid integer"),
    "no end": (["simulate", "ising", "-n", "inf", "-o", "x.h5"], 2, "not a valid integer"),
    "initials": (["fit", "cvae", "x.h5", "-o", "y", "--lr", "1"], 2, "mean '--learning-rate'?"),
    "no initials": (["fit", "cvae", "x.h5", "-o", "y", "--seeds", "1"], 2, "'--seed'"),
    "twice": (
        ["import", "arrays", "text.h5", "-o", "x", "--support", "reals", "--support=counts"], 2,
        "Option '--support' was given twice.",
    ),
    "no device": (
        ["sample", "text.h5", "-o", "y.h5", "-n", "3", "--device", "abacus"], 2, "expected auto",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_gets_one_line_and_its_exit_code(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.h5").write_text("not what it says\n")
    words, code, piece = REFUSED[case]
    done = run(*words)
    assert done.exit_code == code, done.output
    assert piece in done.output
    assert "Traceback" not in done.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["text.h5"]
    errors = [line for line in done.output.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1
    assert done.output.splitlines()[-1] == errors[0]


def test_debug_shows_the_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("inspect", "none.h5", "--debug")
    assert "Traceback" in done.output
    assert done.exit_code == 74


def test_environment_variables_set_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHYSGEN_SIMULATE_GAUSSIAN_SEED", "7")
    assert run("simulate", "gaussian", "-n", "3", "-o", "x.h5").exit_code == 0
    assert json.loads(run("inspect", "x.h5", "--json").output)["seed"] == "7"


def test_numbers_and_pairs_as_people_write_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("simulate", "ising", "-n", "1e1", "-o", "x.h5", "--theta-at", "beta = 0.4")
    assert done.exit_code == 0, done.output
    assert json.loads(run("inspect", "x.h5", "--json").output)["rows"] == 10


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_comes_from_click(shell):
    """What the command prints is what click takes from its variable, and it knows the verbs."""
    assert f"_PHYSGEN_COMPLETE={shell}_complete" in run("completion", shell).output
    env = os.environ | {
        "_PHYSGEN_COMPLETE": "bash_complete", "COMP_WORDS": "physgen sim", "COMP_CWORD": "1",
    }  # fmt: skip
    code = "from physgen.cli import main; main(prog_name='physgen')"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout == "plain,simulate\n"


MOONS = '''
from dataclasses import dataclass
import numpy as np
from simulators import Box

@dataclass(frozen=True)
class TwoMoons:
    """Two moons.

    Attributes:
        noise: width of the moons.
    """
    noise: float = 0.01
    prior = Box(theta1=(-1.0, 1.0), theta2=(-1.0, 1.0))
    x_shape = (2,)

    def sample(self, theta, rng):
        angle = rng.uniform(-np.pi / 2, np.pi / 2, len(theta))
        radius = rng.normal(0.1, self.noise, len(theta))
        moon = np.stack([radius * np.cos(angle) + 0.25, radius * np.sin(angle)], axis=1)
        a, b = theta.T
        return moon + np.stack([-abs(a + b), b - a], axis=1) / np.sqrt(2)
'''


def test_a_simulator_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "moons.py").write_text(MOONS)
    name = "moons:TwoMoons"
    assert "width of the moons" in run("simulate", name, "--help").output
    done = run("simulate", name, "--noise", "0.02", "-n", "50", "-o", "mine.h5")
    assert done.exit_code == 0, done.output
    law = json.loads(run("inspect", "mine.h5", "--json").output)["law"]
    assert law["simulator"] == name
    assert law["options"] == {"noise": 0.02}
    sys.modules.pop("moons")


def test_inspect_lists_what_is_registered():
    listed = json.loads(run("inspect", "--json").output)
    assert listed == {k: targets(k) for k in ("simulators", "surrogates", "formats")}
    for kind, names in listed.items():
        for name in names:
            assert inspect.isclass(find(kind, name)) or kind == "formats"


@pytest.mark.slow
@pytest.mark.parametrize("module", ["physgen", "physgen.cli"])
def test_the_command_is_a_module_too(module):
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("physgen, version ")


def test_version():
    assert re.search(r"\d+\.\d+", run("--version").output)

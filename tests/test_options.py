"""Options are read from any callable; what cannot be built is refused in one line."""

import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from physgen.errors import UsageError
from physgen.registry import find, targets
from physgen.runtime.options import (
    REQUIRED,
    Option,
    build,
    command_line,
    entries_of,
    example,
    kept_options,
    options,
    summary,
)

SOURCE = '''
from dataclasses import dataclass
from typing import Literal

@dataclass(frozen=True)
class Box:
    """A box: not a section.

    More of its head.

    Attributes:
        size: number of sides, which
            goes on in a second line: with a colon (at least 1).
        kind: long or short.
    """
    size: int
    kind: Literal["long", "short"] = "long"
    bare: float = 0.5

class Plain:
    """A class.

    Args:
        size: in the head.
    """
    def __init__(self, size: int, *rest, kind: str = "x", **more):
        if size < 1:
            raise ValueError(f"size: expected at least 1, got {size}")

class Empty:
    pass
'''


def module(future, name="options_toy"):
    space = {"__name__": name}
    sys.modules[name] = type(sys)(name)  # where dataclasses look for their names
    exec(("from __future__ import annotations\n" if future else "") + SOURCE, space)
    vars(sys.modules[name]).update(space)
    return sys.modules[name]


@pytest.fixture(params=[False, True], ids=["evaluated", "postponed"])
def toy(request):
    yield module(request.param)
    del sys.modules["options_toy"]


def test_a_dataclass_is_read_with_its_docstring(toy):
    assert options(toy.Box) == (
        Option(
            "size",
            int,
            REQUIRED,
            "number of sides, which goes on in a second line: with a colon (at least 1).",
        ),
        Option("kind", Literal["long", "short"], "long", "long or short."),
        Option("bare", float, 0.5, ""),
    )
    assert summary(toy.Box) == "A box: not a section.\n\nMore of its head."


def test_a_plain_class_is_read_without_its_star_arguments(toy):
    assert options(toy.Plain) == (
        Option("size", int, REQUIRED, "in the head."),
        Option("kind", str, "x", ""),
    )
    assert options(toy.Empty) == ()
    assert summary(toy.Plain) == "A class."
    assert summary(toy.Empty) == example(toy.Empty) == ""


def test_a_docstring_with_other_sections_around():
    text = """Head.

    Args:
        a: one.

            a paragraph that is left out
        b_2: two
           words.
        **given: not an option.

    Raises:
        c: three.
    """
    assert entries_of(text) == {"a": "one.", "b_2": "two words."}
    assert entries_of(None) == entries_of("Head only.") == {}


def test_example_and_summary_of_a_function():
    def verb():
        """Do it.

        Example:
            physgen do it -n 3
        """

    assert (summary(verb), example(verb)) == ("Do it.", "physgen do it -n 3")


@pytest.mark.parametrize(
    ("given_options", "told"),
    [
        ({"size": 2, "sise": 3}, "box: no option 'sise'; it has size, kind"),
        ({}, "box: option 'size' is required"),
        ({"size": 0}, "box: size: expected at least 1, got 0"),
        ({"size": "many"}, "box: size: expected a whole number, got 'many'"),
        ({"size": 2, "rest": ()}, "box: no option 'rest'"),
    ],
)
def test_what_cannot_be_built_is_told_in_one_line(toy, given_options, told):
    with pytest.raises(UsageError) as caught:
        build(toy.Plain, "box", given_options)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def test_what_can_be_built_is_built(toy):
    assert build(toy.Box, "box", {"size": 3}) == toy.Box(3)
    assert kept_options(toy.Box, "box", {"size": 3}) == {"size": 3, "kind": "long", "bare": 0.5}


def test_an_option_named_like_the_machinery_is_passed_on():
    @dataclass
    class Odd:
        label: int = 0
        target: int = 0

    assert build(Odd, "odd", {"label": 2, "target": 3}) == Odd(2, 3)


@given(st.text("abc_", min_size=2), st.integers() | st.floats(allow_nan=False))
def test_every_option_comes_back_from_the_shell(name, value):
    flag = name.removesuffix("_").replace("_", "-")  # from_ is --from
    words = command_line("fit", "cvae", **{name: value}).split(" ")
    assert words == ["physgen", "fit", "cvae", f"--{flag}", str(value)]


def test_command_lines():
    told = command_line(
        "simulate", "ising", n=5, force=True, dry_run=False, prior={"beta": (0.1, 0.5)}, out=None
    )
    assert told == "physgen simulate ising -n 5 --force --prior beta=0.1:0.5"
    assert command_line("infer", rows=slice(0, 10)) == "physgen infer --rows 0:10"


# --- the registry --------------------------------------------------------------------------------


def test_a_class_in_the_current_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_of_options.py").write_text("class Mine: pass\n")
    before = list(sys.path)
    assert find("simulators", "mine_of_options:Mine").__name__ == "Mine"
    monkeypatch.setattr(sys, "path", [str(tmp_path), *before])
    find("simulators", "mine_of_options:Mine")
    assert sys.path == [str(tmp_path), *before]  # and not its order either
    del sys.modules["mine_of_options"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("izing", "unknown 'izing'; expected one of cascade, gaussian, gaussian-field, ising"),
        ("no_such_module:X", "cannot import 'no_such_module:X'"),
        ("simulators.gaussian:NoSuch", "cannot import 'simulators.gaussian:NoSuch'"),
    ],
)
def test_unknown_names_are_told(name, told):
    with pytest.raises(UsageError, match=told) as caught:
        find("simulators", name)
    assert "\n" not in str(caught.value)


def test_registered_names_are_importable():
    assert {"gaussian", "ising"} <= set(targets("simulators"))
    assert all(isinstance(find("surrogates", name), type) for name in targets("surrogates"))


def test_a_choice_that_does_not_exist_is_refused():
    @dataclass
    class Lamp:
        colour: Literal["red", "green"] = "red"

    assert build(Lamp, "lamp", {"colour": "green"}) == Lamp("green")
    with pytest.raises(UsageError, match="lamp: colour: expected one of red, green, got 'blue'"):
        build(Lamp, "lamp", {"colour": "blue"})


def test_formats_of_other_packages_are_found(tmp_path, monkeypatch):
    from physgen.formats import EXPORTS, IMPORTS, room

    (tmp_path / "comma.py").write_text("def open_foreign(file, /, *, separator=','): ...")
    monkeypatch.chdir(tmp_path)
    group = "physgen.formats"
    points = [EntryPoint("comma", "comma", group), EntryPoint("broken", "no_such_module", group)]
    monkeypatch.setattr("physgen.registry.entry_points", lambda group: points)
    assert room("import", "comma", IMPORTS) is sys.modules["comma"]
    assert room("export", "arviz", EXPORTS).__name__ == "physgen.formats.arviz"
    with pytest.raises(UsageError, match=r"expected one of arviz, calochallenge, .*, got 'comma'"):
        room("export", "comma", EXPORTS)
    with pytest.raises(UsageError, match="expected one of arrays, calochallenge, comma, got"):
        room("import", "root", IMPORTS)
    with pytest.raises(UsageError, match="formats: cannot import 'no_such_module'"):
        room("import", "broken", IMPORTS)
    del sys.modules["comma"]

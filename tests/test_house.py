"""The house stands as its documents say."""

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


PAGES = [
    "README.md",
    *(
        f"docs/howto/{p.name}"
        for p in sorted(ROOT.glob("docs/howto/*.md"))
        if p.stem != "clusters"
    ),
    "docs/reference/files.md",
]


@pytest.mark.docs
@pytest.mark.parametrize(
    "page",
    [
        p
        for p in PAGES
        if "```bash" in (ROOT / p).read_text() or "```python" in (ROOT / p).read_text()
    ],
)
def test_every_block_of_a_page_runs(page, tmp_path):
    """From the top, in an empty folder, each block in its turn."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    text = (ROOT / page).read_text()
    for language, block in re.findall(r"^```(bash|python)\n(.*?)^```", text, re.M | re.S):
        if named := re.match(r"# (\w+\.py)\n", block):
            (tmp_path / named[1]).write_text(block)
        call = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-c"]
        done = subprocess.run(
            [*call, block], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert any(tmp_path.iterdir())


def test_links_of_the_documents_lead_somewhere():
    """Each relative link of the README and of the site names a file; the control does not."""
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    for page in pages:
        assert not broken_links(page.parent, page.read_text()), page
    assert broken_links(ROOT, "see [this](docs/nowhere.md)") == ["docs/nowhere.md"]


def broken_links(folder, text):
    """Relative links of Markdown that no file answers."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    return [
        link for link in links
        if link and "://" not in link
        and not any((folder / (link + end)).exists() for end in ("", ".md", ".rst"))
    ]  # fmt: skip


def test_ideas_lead_to_code_tests_and_figures():
    """Each row of the theory page; of the control none of the three is there."""
    page = (ROOT / "docs" / "theory.md").read_text().replace(r"\|", "∣")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    assert len(rows) > 20
    assert [missing_of(row) for row in rows[2:]] == [[]] * len(rows[2:])
    assert missing_of(["", "", "`nowhere.py`", "`test_nothing.py`", "Nothing"]) == [
        "nowhere.py", "test_nothing.py", "Nothing"
    ]  # fmt: skip


def missing_of(row):
    """What a row of the theory page names that is not there."""
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text().replace("|", "∣")
    sections = re.findall(r"^#+ ([^:\n]*)", results, re.M)
    *_, code, tests, section = row
    found = [
        name for name in re.findall("`(.*?)`", code) if not (ROOT / "physgen" / name).exists()
    ]
    found += [
        name for name in re.findall("`(.*?)`", tests) if not (ROOT / "tests" / name).exists()
    ]
    return found + ([] if section in (*sections, "–") else [section])


def test_the_install_commands_of_the_readme_are_those_of_make():
    """`make demo` and `make test` themselves are run by .ci/run."""
    make, plain = blocks("sh")
    for line in make.splitlines():
        target = line.split()[1]
        done = subprocess.run(
            ["make", "--dry-run", "--always-make", target],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        commands = done.stdout.replace("--quiet ", "")
        if target == "demo":
            for step in plain.replace("\\\n    ", "").splitlines():
                assert step in commands
    assert {"make demo", "make test"} <= set((ROOT / ".ci" / "run").read_text().splitlines())


def test_every_test_is_in_one_part(request):
    """`make slow PART=k/n` for all k runs what `make slow` runs, and no part is empty."""
    conftest = request.config.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py"))
    tests = [SimpleNamespace(name=f"test_{i}", nodeid=f"tests/test_x.py::test_{i}")
             for i in range(60)]  # fmt: skip
    found, hook = [], SimpleNamespace(pytest_deselected=lambda items: None)
    for k in (1, 2, 3):
        part = list(tests)
        config = SimpleNamespace(getoption=lambda _, k=k: f"{k}/3", hook=hook)
        conftest.pytest_collection_modifyitems(config, part)
        assert 5 < len(part) < 40
        found += [test.nodeid for test in part]
    assert sorted(found) == sorted(test.nodeid for test in tests)
    for wrong in ("0/3", "4/3", "2", "a/b"):
        config = SimpleNamespace(getoption=lambda _, wrong=wrong: wrong, hook=hook)
        with pytest.raises(pytest.UsageError, match="expected k/n"):
            conftest.pytest_collection_modifyitems(config, list(tests))


def test_nothing_is_left_to_fill_in():
    for path in (*ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.md")):
        assert "@@" not in path.read_text(), path


def test_the_readme_names_the_nouns_before_any_code():
    head = README.partition("```")[0]
    for noun in ("simulator", "surrogate", "posterior", "check"):
        assert f"*{noun}*" in head


def test_torch_is_pinned_to_the_tested_build():
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()


@pytest.mark.parametrize("package", ["physgen", "simulators"])
def test_every_module_stands_in_the_architecture(package):
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for path in (ROOT / package).glob("*.py"):
        if package == "physgen" and not path.stem.startswith("_"):
            assert f"`physgen.{path.stem}`" in text or f"`{path.stem}`" in text, path


@pytest.mark.parametrize("folder", ["physgen", "simulators", "tests", "benchmarks"])
def test_no_drawer(folder):
    drawers = {"utils", "helpers", "misc", "common"}
    assert [p for p in (ROOT / folder).rglob("*.py") if p.stem in drawers] == []


# --- imports at run time ------------------------------------------------------------------------


@cache
def syntax(path):
    """The tree of a module, which several tests look through."""
    return ast.parse(path.read_text())


def imports_of(tree, name, is_package, modules):
    """The modules that a module imports when it is run or called; not those of TYPE_CHECKING."""
    parts = name.split(".")
    package = parts if is_package else parts[:-1]

    def walk(node):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from walk(other)
            return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in modules else base
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    return {found for found in walk(tree) if found in modules and found != name}


@cache
def import_graph(folder):
    """Module → modules that it imports, of a package."""
    paths = {}
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {
        name: imports_of(syntax(path), name, path.stem == "__init__", paths)
        for name, path in paths.items()
    }


def circle(graph):
    """Modules that import one another in a ring, or nothing."""
    done = set()

    def visit(name, way):
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return None
        for other in sorted(graph[name]):
            if found := visit(other, [*way, name]):
                return found
        done.add(name)
        return None

    return next((found for name in sorted(graph) if (found := visit(name, []))), None)


@pytest.mark.parametrize("package", ["physgen", "simulators"])
def test_no_module_imports_itself_by_way_of_others(package):
    """Imports within functions count, those for the type checker do not."""
    assert circle(import_graph(ROOT / package)) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("from toy import a", ["toy.a", "toy.b", "toy.a"]),
        ("from .a import f", ["toy.a", "toy.b", "toy.a"]),
        ("def g():\n    import toy.a", ["toy.a", "toy.b", "toy.a"]),
        ("if TYPE_CHECKING:\n    from toy.a import f", None),
        ("if not x:\n    from toy.a import f", ["toy.a", "toy.b", "toy.a"]),
    ],
)
def test_a_circle_is_found(tmp_path, line, expected):
    """The control."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "a.py").write_text("from toy.b import g\n")
    (folder / "b.py").write_text(f"{line}\n")
    assert circle(import_graph(folder)) == expected


def test_what_knows_sbi_lies_in_one_room_below_surrogates_and_posteriors():
    graph = import_graph(ROOT / "physgen")
    allowed = ("errors", "law", "nn", "registry", "runtime", "sbi")
    for name, found in graph.items():
        if name.startswith("physgen.sbi"):
            assert {other.split(".")[1] for other in found} <= set(allowed), name
    for path in (ROOT / "physgen").rglob("*.py"):
        knows = re.search(r"^\s*(from|import) sbi\b", path.read_text(), re.M)
        assert not knows or path.parent.name == "sbi", path


# --- names and docstrings ------------------------------------------------------------------------

SHAPE = re.compile(r"\([^()]*[\w*…][^()]*,[^()]*\)|\(\)|\(…|\(\.\.\.|\(\*shape\)")


def defined(paths):
    """(file, public function or class) at the top of each module."""
    for path in paths:
        for node in syntax(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield path, node


def twice(paths):
    """Public names that are defined in more than one module."""
    names = [node.name for _, node in defined(paths)]
    return {name for name in names if names.count(name) > 1}


def shapeless(paths):
    """Public functions and methods that take or give arrays, and name no shape."""
    for path, top in defined(paths):
        for node in top.body if isinstance(top, ast.ClassDef) else [top]:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            arguments = [*node.args.args, *node.args.kwonlyargs]
            types = [
                ast.unparse(a) for a in (*(a.annotation for a in arguments), node.returns) if a
            ]
            arrays = any(
                re.search(r"\b(Tensor|Array)\b", t) and "Callable" not in t for t in types
            )
            if arrays and not SHAPE.search(ast.get_docstring(node) or ""):
                yield f"{path}: {node.name}"


def test_a_public_name_means_one_thing_and_tells_its_shapes(tmp_path):
    paths = list((ROOT / "physgen").rglob("*.py"))
    assert twice(paths) == {"open_foreign", "write"}  # what formats offer, and files do
    assert list(shapeless(paths)) == []
    (tmp_path / "a.py").write_text('def f(x: Array):\n    """Of x."""\n')  # the control
    (tmp_path / "b.py").write_text('def f(x: Array):\n    """Of x (n,)."""\nclass C: ...\n')
    assert twice(tmp_path.iterdir()) == {"f"}
    assert list(shapeless(tmp_path.iterdir())) == [f"{tmp_path / 'a.py'}: f"]

"""A family outside the registry: trained, and opened by every verb on the caller's word alone."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

import physgen
from physgen.cli import main
from physgen.errors import UsageError

WIDE = '''
from physgen.surrogates.cvae import CVAE

class Wide(CVAE):
    """A conditional VAE whose spins all point up."""
    name = "wide"

    def _sample(self, c, generator):
        return super()._sample(c, generator).abs()

class Same(CVAE):
    """A family that goes by its parent's name."""
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the family, a dataset and a trained surrogate, none of it imported."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wide.py").write_text(WIDE)
    physgen.simulate("ising", size=4, n=60, seed=1, out="ising.h5")
    run("fit", "wide:Wide", "ising.h5", "-o", "wide.pt", "--epochs", "1", "--channels", "3",
        "--levels", "1", "--stages", "1")  # fmt: skip
    yield tmp_path
    sys.modules.pop("wide", None)


def run(*words, code=0):
    """What a command says; the module is not imported before."""
    sys.modules.pop("wide", None)
    done = CliRunner().invoke(main, [str(w) for w in words])
    assert done.exit_code == code, done.output
    return done.output


VERBS = {
    "sample": ("wide.pt", "-o", "x.h5", "-n", "20"),
    "infer": ("wide.pt", "ising.h5", "-o", "p.h5", "--rows", "0:2", "--draws", "2"),
    "validate": ("wide.pt", "ising.h5", "-o", "m.json", "--draws", "2", "--observations", "3"),
    "calibrate": (
        "wide.pt", "ising.h5", "-o", "c.json", "--rows", "0:20", "--draws", "1", "--samples", "2",
    ),
    "fit": ("wide:Wide", "ising.h5", "-o", "more.pt", "--from", "wide.pt", "--epochs", "1"),
}  # fmt: skip


@pytest.mark.slow
def test_every_verb_opens_it_on_the_callers_word(folder, quick):
    for verb, words in VERBS.items():
        word = () if verb == "fit" else ("--family", "wide:Wide")
        run(verb, *words, *word)
    assert (physgen.read("x.h5").x == 1).all()  # by its own _sample, not the parent's


ELSEWHERE = """
import sys
from click.testing import CliRunner
from physgen.cli import main

for verb, words in {verbs!r}.items():
    if verb == "fit":
        continue
    for more, piece in (
        ((), "add --family wide:Wide (in Python family=Wide) if you trust it"),
        (("--family", "cvae"), "is of the family wide:Wide, not"),
    ):
        done = CliRunner().invoke(main, [verb, *words, *more])
        assert done.exit_code == 2 and piece in done.output, done.output
assert "wide" not in sys.modules
"""


def test_no_verb_opens_it_on_the_files_word(folder):
    """In another process, for this one has imported it."""
    call = [sys.executable, "-c", ELSEWHERE.format(verbs=VERBS)]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_in_python_the_class_will_do(folder):
    sys.path.insert(0, str(folder))
    try:
        sys.modules.pop("wide", None)
        from wide import Same, Wide

        data = physgen.simulate("ising", size=4, n=60, seed=1)
        model = physgen.fit(Wide, data, epochs=1, channels=3, levels=1, stages=1)
        assert (physgen.sample(model, n=20).x == 1).all()
        assert physgen.load("wide.pt", family=Wide)[0].name == "wide"
        with pytest.raises(UsageError, match="goes by the name 'cvae'"):
            physgen.fit(Same, data, epochs=1)
    finally:
        sys.path.remove(str(folder))

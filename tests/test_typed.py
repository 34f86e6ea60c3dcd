"""What a type checker says of a user's script: right calls pass, wrong ones do not."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs
ROOT = Path(__file__).parents[1]

RIGHT = """
import numpy as np
import physgen
from simulators.ising import Ising

data = physgen.simulate(Ising(size=8), n=20_000, seed=1)
also: physgen.Dataset = physgen.simulate("ising", size=8, n=3, out="ising.h5")
model: physgen.Surrogate = physgen.fit("cvae", data, epochs=3)
fake = physgen.sample(model, theta={"beta": 0.44}, n=1000, sampler="ddim")
post = physgen.infer(model, fake.x, method="grid", symmetrise=True)
again: physgen.InferredPosterior = physgen.infer("cvae.pt", "test.h5", out="posterior.h5")
draws: np.ndarray = post.sample(1000)
width = post.sd[0, 0] + post.interval(0.9)[0, 1, 0]
scores: physgen.Scores = physgen.validate(model, data, steps=8)
more = [physgen.calibrate(model, data), physgen.compare(fake, data)]
page: physgen.Page = physgen.report(scores, out="report.html")
text: str = page.html + scores.summary
"""
WRONG = {
    "an option that infer does not have": 'physgen.infer("m.pt", "x.h5", metod="grid")',
    "an option of drawing, for scoring": 'physgen.infer("m.pt", "x.h5", sampler="ddim")',
    "a number for a method": 'physgen.infer("m.pt", "x.h5", method=3)',
    "a posterior taken for scores": 's: physgen.Scores = physgen.infer("m.pt", "x.h5")',
    "scores for observations": 'physgen.infer("m.pt", physgen.compare("a.h5", "b.h5"))',
    "a name that is not there": "physgen.simulat",
    "an attribute that a dataset has not": 'physgen.simulate("ising", n=3).posterior',
}


@pytest.fixture(scope="module")
def complaints(once):
    """Line of the script → what mypy says of it; one run, with `make lint`'s cache."""
    mypy = pytest.importorskip("mypy.api")

    def make(folder):
        script = folder / "script.py"
        script.write_text(RIGHT + "\n" + "\n".join(WRONG.values()) + "\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            config = str(ROOT / "pyproject.toml")
            out, errors, _ = mypy.run(["--config-file", config, str(script)])
        assert not errors
        (folder / "out").write_text(out)

    out = (once("typed", make) / "out").read_text()
    return {int(line): text for line, text in re.findall(r"script\.py:(\d+): error: (.*)", out)}


def test_a_right_script_passes(complaints):
    assert {line: text for line, text in complaints.items() if line <= RIGHT.count("\n")} == {}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_call_is_an_error(what, complaints):
    line = RIGHT.count("\n") + 2 + list(WRONG).index(what)
    assert line in complaints, complaints

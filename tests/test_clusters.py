"""The recipes for clusters run as they stand, with what a batch system would set."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from physgen.nn.tensors import load_tensors

pytestmark = pytest.mark.docs
ROOT = Path(__file__).parents[1]
RECIPES = (ROOT / "docs" / "howto" / "clusters.md").read_text()


def block(language):
    return re.search(rf"^```{language}\n(.*?)^```", RECIPES, re.M | re.S)[1]


def ran(command, folder, **environment):
    found = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"PATH": found, "SOURCE_DATE_EPOCH": "1000000000"} | environment
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_array_job_of_slurm(tmp_path):
    """Three of four tasks, and the joining of what they have made: the bytes of one run."""
    script = block("slurm")
    for task in "431":
        told = ran(script, tmp_path, SLURM_ARRAY_TASK_ID=task, SLURM_ARRAY_TASK_COUNT="4")
        assert f"part {task}/4, 5 shards" in told
    joining = re.search(r"--wrap '(.*)'", block("sh"))[1]
    ran(joining, tmp_path)
    ran(joining.replace("ising.h5", "one.h5"), tmp_path)
    assert (tmp_path / "ising.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != "") == [
        "ising.h5", "ising.h5.sha256", "one.h5", "one.h5.sha256",
    ]  # fmt: skip


def test_the_tasks_of_condor_are_all_parts():
    arguments = re.search(r"arguments  = (.*)", block("condor"))[1]
    assert arguments.endswith("--part $INT(Task)/4")
    assert arguments.partition(" --part")[0] in block("slurm").replace(" \\\n   ", "")


def test_the_script_of_dask_jobqueue_compiles():
    compile(block("jobqueue"), "jobqueue", "exec")


def test_the_training_by_torchrun(tmp_path):
    """One machine of two processes, in the place of two of four."""
    ran("physgen simulate ising -n 200 --size 4 -o ising.h5", tmp_path)
    slurm = 'srun() { "$@"; }; scontrol() { echo localhost; }\n'
    script = slurm + block("torchrun").replace("per-node 4", "per-node 2").replace(
        "29500", "29533"
    )
    told = {"SLURM_NNODES": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "localhost"}
    ran(script.replace("--epochs 20", "--epochs 1"), tmp_path, OMP_NUM_THREADS="1", **told)
    _, info = load_tensors(tmp_path / "cvae.pt")
    assert info["processes"] == [2]


def test_the_notebook_runs(tmp_path):
    pytest.importorskip("distributed")
    notebook = json.loads((ROOT / "examples" / "cluster.ipynb").read_text())
    code = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    script = tmp_path / "cluster.py"
    body = "\n".join(code).replace("\n", "\n    ")
    script.write_text(f'if __name__ == "__main__":\n    {body}\n')
    ran(f"{sys.executable} {script}", tmp_path)

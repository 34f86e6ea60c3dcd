"""A surrogate in another program: physgen makes an ONNX model, and onnxruntime draws from it.

What draws imports neither torch nor physgen. ``python examples/sample_onnx.py [FOLDER]`` writes
into the folder, here if not given: half a minute. Needs ``pip install 'physgen[onnx]'``.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
if not folder.is_dir():
    sys.exit(f"{folder}: expected a folder, where the example trains a model of its own")
for line in (
    "simulate ising --size 6 -n 2000 --seed 1 -o ising.h5 --force",
    "fit autoregressive ising.h5 --epochs 5 -o ising.pt --force",
    "export ising.pt --format onnx -o ising.onnx --force",
):
    subprocess.run([sys.executable, "-m", "physgen", *line.split()], cwd=folder, check=True)

# From here on numpy and onnxruntime alone. The model says which random numbers a row takes.
session = onnxruntime.InferenceSession(str(folder / "ising.onnx"))
about = session.get_modelmeta().custom_metadata_map
print(f"{about['family']} of {about['parameters']} takes {about['noise']}")

rng = np.random.default_rng(0)
laws = {"normal": rng.standard_normal, "uniform": rng.random}
for beta in (0.2, 0.44, 0.6):
    inputs = {"theta": np.full((5000, 1), beta)}
    for name, noise in json.loads(about["noise"]).items():
        inputs[name] = laws[name]((5000, noise["columns"]), dtype=np.float32)
    x = session.run(["x"], inputs)[0]
    energy = -(x * (np.roll(x, 1, 1) + np.roll(x, 1, 2))).mean()
    print(f"beta = {beta}: energy {energy:.3f} J a spin, |m| {abs(x.mean((1, 2))).mean():.3f}")
print("imported:", ", ".join({"numpy", "onnxruntime", "physgen", "torch"} & set(sys.modules)))

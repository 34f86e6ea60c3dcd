"""Surrogates as ONNX models, from which any runtime of ONNX draws x, without torch or physgen.

Inputs are ``theta`` (n, D) float64 in its units and the random numbers ``normal`` and ``uniform``,
float32, those of them that the family takes; the output is ``x`` (n, *x_shape)::

    session = onnxruntime.InferenceSession("model.onnx")
    x = session.run(["x"], {"theta": theta, "uniform": rng.random((n, 64), dtype=np.float32)})[0]

What the inputs are, how many columns they have, the law, its units and the digest of the weights
are in the model's metadata. A model is published only if it runs in onnxruntime and draws there
what torch draws from the same numbers (:mod:`physgen.surrogates.graph`).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from physgen import dataset
from physgen.errors import UsageError
from physgen.formats import Progress

__all__ = ["takes_trained", "write"]

takes_trained = True


def write(
    data: Any,
    out: Path,
    *,
    force: bool = False,
    progress: Progress = lambda done: None,
) -> str:
    """Write a surrogate as an ONNX model.

    Args:
        data: the surrogate.
        out: file to write.
        force: whether to overwrite the file if it exists.
        progress: called with the part that is done, 0 to 1; may raise to stop.

    Returns:
        A line about it.

    Raises:
        StorageError: the file system refused; nothing is left.
        UsageError: an output that exists, a surrogate that has no graph, or whose graph does not
            draw what it draws; or a package that is not installed.
    """
    for package in ("onnx", "onnxruntime"):
        if not find_spec(package):
            raise UsageError(f"export: onnx: needs {package}; pip install 'physgen[onnx]'")
    from physgen.surrogates.graph import WORDS, checked, noise_columns, on_cpu, onnx_model

    dataset.refuse_overwriting(out, force)
    surrogate = on_cpu(data)
    columns = noise_columns(surrogate)
    content = onnx_model(surrogate, columns).SerializeToString()
    progress(0.5)
    found = checked(content, surrogate, columns)
    progress(1)
    dataset.write_bytes(out, content, sidecar=False)
    takes = [f"{n:,} {WORDS[law]}" for law, n in columns.items()]
    to = f"to {found.largest:.1g} of the spread" if found.largest else "bit for bit"
    others = f", but for {found.others} by a rounding" if found.others else ""
    return (
        f"a row takes {' and '.join(takes)}; in onnxruntime {found.rows} rows are those of torch, "
        f"{to}{others}; {len(content) / 1e6:.2g} MB"
    )

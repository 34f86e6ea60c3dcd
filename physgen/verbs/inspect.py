"""Say what a file or an object holds, as JSON data and as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import simulators.base as declared
from physgen import dataset
from physgen.dataset import Dataset
from physgen.dataset.assumptions import broken_assumptions, by_name
from physgen.dataset.missing import missing_in_words, missing_warnings
from physgen.errors import DataError, UsageError, as_written
from physgen.formats.tables import kind_of_table, open_table
from physgen.law import Law
from physgen.registry import KINDS, targets
from physgen.runtime.kinds import as_json_data
from physgen.verbs.arguments import AnyProduct
from physgen.verbs.opening import load, origin_of
from physgen.verbs.pages import scores_in
from physgen.verbs.products import Description, JsonData, LatentCodes, Page
from physgen.verbs.resume import epochs_in
from physgen.verbs.running import on_files, plural

__all__ = ["document", "inspect"]

LOOKED_AT = 1000  # rows
WIDE = 90  # characters of a mapping that still goes in one line
FIRST = 5  # texts of a list, if there are many


@on_files()
def inspect(path: AnyProduct | None = None, *, verify: bool = False) -> Description:
    """Say what a file holds; without a file, which simulators and families there are.

    Args:
        path: what a verb wrote; or a file of arrays by others, such as npz, HDF5 or CSV.
        verify: read and check every value, and compare a dataset with the law that it claims.

    Returns:
        What was found: JSON data; "fault" says what is wrong with it.

    Example:
        physgen inspect ising.h5 --verify
    """
    file = path if isinstance(path, Path | None) else getattr(path, "path", None)
    if file:
        found = described(Path(file), verify)
    elif path is None:
        found = {kind: targets(kind) for kind in KINDS}
    else:
        found = described_in_memory(path, verify)
    failed = [v["name"] for v in found.get("verdicts", []) if not v["passed"]]
    description = Description(found, "\n".join(in_lines(found)), Path(file) if file else None)
    if failed:
        description.fault = f"{path}: does not follow its law: {', '.join(failed)} failed"
    return description


def described(path: Path, verify: bool) -> dict[str, Any]:
    """What a file holds, as JSON data."""
    kind = dataset.container(path)
    if kind == "JSON":
        epochs = epochs_in(path)
        return training_described(path, epochs) if epochs else scores_described(path)
    if kind == "safetensors" or (kind == "zip" and "checkpoint" in dataset.what_is(path)):
        return checkpoint_described(path)
    if kind != "HDF5":
        return foreign_described(path, verify)
    found = dataset.describe(path, verify)
    if found["schema"] == dataset.SCHEMA:
        return found | said_of(Law.from_json(found["law"]), Dataset(path), verify)
    if "arrays" not in found:
        return foreign_described(path, verify)
    if "meta" in found:
        return {"path": str(path), "summary": summary_of_file(path), **found}
    return found


def foreign_described(path: Path, verify: bool) -> dict[str, Any]:
    """What a file of named arrays holds that physgen did not write, as JSON data.

    Raises:
        DataError: a file whose arrays cannot be read, or one that was to be verified.
    """
    mend = f"physgen import arrays {path} -o data.h5"
    with open_table(path) as table:
        kind = kind_of_table(path)
        if not any(info.shape[:1] != (0,) for info in table.arrays.values()):
            told = in_line(table.refused) if table.refused else "others are not read"
            raise DataError(f"{path}: is {kind} without arrays of numbers; {told}")
        if verify:
            raise DataError(
                f"{path}: is {kind} that physgen did not write, with nothing to verify it "
                f"against; {mend} makes a dataset of it"
            )
        return {
            "path": str(path),
            "summary": f"{kind} that physgen did not write; {mend} makes a dataset of it",
            "bytes": path.stat().st_size,
            "arrays": {k: [str(v.dtype), *v.shape] for k, v in table.arrays.items()},
            **({"refused": table.refused} if table.refused else {}),
        }


def summary_of_file(path: Path) -> str:
    """What a verb said of scores, of a posterior and their like when it wrote them."""
    return str(load(path)[0].summary).removeprefix(f"{path}: ")


def described_in_memory(product: Any, verify: bool) -> dict[str, Any]:
    """What an object holds, as JSON data.

    Raises:
        UsageError: something that no verb returns.
    """
    if isinstance(product, Dataset | dataset.Rows):
        data = Dataset(product)
        arrays = {k: [str(v.dtype), *v.shape] for k, v in data.rows.arrays().items()}
        found = {"arrays": arrays, **document(data)}
        if data.meta:
            if verify:
                dataset.validated(data.rows, data.law, str(data.where))
            found |= said_of(data.law, data, verify)
        return found
    if isinstance(product, Mapping) and not hasattr(product, "summary"):
        return dict(product)
    if not hasattr(product, "summary"):
        raise UsageError(f"inspect: expected a file or what a verb returned, got {product!r}")
    return document(product)


def document(product: Any) -> dict[str, Any]:
    """What a product says of itself, as JSON data: its file, its summary and what is known of it.

    Of a posterior with means and standard deviations (n, D), of nothing with draws; a number that
    is not finite is None.
    """
    found: Mapping[str, Any] = {}
    if isinstance(product, JsonData):
        large = ("arrays",) if isinstance(product, LatentCodes) else ()
        found = {name: value for name, value in product.items() if name not in large}
    elif isinstance(product, Dataset):
        if product.path is None or product.path.exists():  # else it is a part, not joined yet
            own = product.meta.to_json() if product.meta else {}
            found = {"rows": len(product), **own}
    elif isinstance(product, Page):
        found = {"data": product.data}
    elif hasattr(product, "describe"):
        found = origin_of(product)
    elif hasattr(product, "about"):
        arrays = {} if "x" in product.arrays else product.arrays
        found = {**product.about, **{k: arrays[k] for k in ("mean", "sd") if k in arrays}}
    if not isinstance(product, Description):  # which is of another product
        found = {"path": product.path, "summary": product.summary, **found}
    return dict(as_json_data(found, null=True))


def said_of(law: Law, data: Dataset, verify: bool) -> dict[str, Any]:
    """What its first rows say against a dataset, and what the check of its simulator does."""
    rows = data.read(slice(0, LOOKED_AT))
    x, labels = rows.x, rows.theta
    found: dict[str, Any] = {}
    if columns := law.column_supports:
        names = data.columns or [f"x[{j}]" for j in range(len(columns))]
        found["columns"] = dict(zip(names, columns, strict=True))
    if words := missing_in_words(x):
        found["missing"] = words
    said = missing_warnings(law, labels, x) if labels is not None else ()
    broken = (by_name(line, data.columns) for line in broken_assumptions(law, x))
    if warnings := [*said, *broken]:
        found["warnings"] = warnings
    if verify:
        simulator = law.build_if_known()
        check = declared.verifier(simulator) if simulator else None
        try:
            found["verdicts"] = [vars(v) for v in check(data.theta, data.x)] if check else []
        except ValueError as error:
            raise DataError(f"{data.where}: {error}") from error
    return found


def checkpoint_described(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, as JSON data."""
    from physgen.nn.tensors import load_tensors

    weights, info = load_tensors(path)
    with as_written(path):
        count = sum(w.numel() for w in weights.values())
        name, law = info.get("family", info.get("method")), info["law"]["simulator"]
        text = f"{name} of {law}, {plural(count, 'weight')}"
        if epochs := info.get("history"):
            text += f", {training_in_words(epochs)}"
    return {
        "path": str(path),
        "summary": text,
        "sha256": dataset.file_digest(path),
        **info,
        "weights": count,
    }


def training_described(path: Path, epochs: list[dict[str, Any]]) -> dict[str, Any]:
    """What the history of a training holds, as JSON data."""
    text = f"history of a training, {training_in_words(epochs)}"
    return {"path": str(path), "summary": text, "history": epochs}


def training_in_words(epochs: list[dict[str, Any]]) -> str:
    """How long a training was, and how low its loss."""
    least = min(epoch["val"] for epoch in epochs)
    return f"{plural(len(epochs), 'epoch')}, least validation loss {least:.4f}"


def scores_described(path: Path) -> dict[str, Any]:
    """What a file of scores holds, as JSON data: all but the figures themselves."""
    found = scores_in(path)
    known = ("summary", "schema", "provenance", "content_sha256", "warnings")
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        **{name: found[name] for name in known if found.get(name)},
        "sections": [name for name in found if name not in known and found[name] is not None],
    }


def in_lines(value: Any, indent: str = "") -> Iterator[str]:
    """JSON data as indented lines, ``key: value``; of a history the last epoch alone."""
    entries = value if isinstance(value, Mapping) else dict(enumerate(value, 1))
    for key, item in entries.items():
        if key == "history" and item:
            key, item = f"{key} ({len(item):,}, the last)", item[-1]
        key, flat = in_line(key), in_line(item)
        if len(indent) + len(key) + len(flat) < WIDE or not isinstance(
            item, Mapping | list | tuple
        ):
            yield f"{indent}{key}: {flat}"
        else:
            yield f"{indent}{key}:"
            yield from in_lines(item, indent + "  ")


def in_line(item: Any) -> str:
    """JSON data in one line, even where there are several in it."""
    if isinstance(item, Mapping):
        return ", ".join(f"{k} = {in_line(v)}" for k, v in item.items())
    if isinstance(item, list | tuple):
        more = [f"and {len(item) - FIRST} more"]
        if len(item) > FIRST and isinstance(item[0], str):
            return "; ".join([*map(in_line, item[:FIRST]), *more])
        shape = any(isinstance(one, int) for one in item)
        return (" × " if shape else "; ").join(map(in_line, item)) or "none"
    return str(item).replace("\n", "\\n")

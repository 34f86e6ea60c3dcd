"""What a dataset holds: rows (θ, x) that follow a law, and the metadata that says which.

Layout ``physgen/1``, one HDF5 file a dataset::

    /theta       float64 (N, D)       inside the prior, bounds included
    /x           int8 (N, …)          −1 or +1, where the law's support is spins
                 int8 or int16 (N, …) 0 … K − 1, where it is levels (int16 for K > 128)
                 int64 (N, …)         0, 1, 2, …, where it is counts
                 float32 (N, …)       otherwise, mixed x included, or float64 where the law says
                                      so or counts are among it; NaN is missing, where the law
                                      allows it
    /aux/<name>  any number (N, …)    optional: energy, exact log p, latent truth, …
    /meta/json   UTF-8, at most 1 MiB Meta: law, source, seed, provenance, failed

    /failed/theta    float64 (F, D)   only where the simulator failed: θ of the draws without x
    /failed/message  int16 (F,)       why, a place in Meta's list of messages

Root attributes: ``schema``, ``n_rows``, ``complete``, ``seed``, ``created``, ``content_sha256``.
The content's hash covers the metadata and all values, block of rows by block of rows, so it is
the same however many processes made the file and whenever they did.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import physgen
from physgen.errors import DataError, UsageError
from physgen.law import Law
from simulators.base import Array
from simulators.columns import levels_of
from simulators.prior import Prior

__all__ = ["SCHEMA", "Failed", "Meta", "Rows", "provenance", "validated"]

SCHEMA = "physgen/1"
CHUNK_BYTES = 2**20
MAX_CHUNK_ROWS = 4096
MOST_COUNT = 2**53
"""Beyond it float64 loses whole numbers."""
MOST_MESSAGES, OTHER = 1000, "(other)"


@dataclass(frozen=True)
class Meta:
    """What a dataset says of itself.

    Attributes:
        law: the law p(x|θ) that the rows follow or, for a surrogate's samples, should follow.
        source: who drew x: ``{"kind": "simulator" | "surrogate" | …, …}`` with its details; and
            under ``theta`` what θ follow, where that is not the prior.
        seed: root seed, up to 128 bits; None where the rows were not drawn here.
        provenance: package, version, git commit, command.
        failed: of a file with draws that failed: what was done, ``on_error``, their ``count`` and
            ``fraction`` of all draws, and their distinct ``messages``; else empty.
    """

    law: Law
    source: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    failed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def proposal(self) -> str:
        """What θ follow, in words, where that is not the prior; else empty."""
        about = self.source.get("theta", "")
        return str(about.get("follow", about) if isinstance(about, Mapping) else about)

    @property
    def columns(self) -> list[str]:
        """Names of the components of x: as they were declared, or those of a table's columns."""
        parts = [part.get("columns") for part in self.source.get("parts", ())]
        same = parts[0] if len({*map(str, parts)}) == 1 else []
        known = (self.source.get("columns"), self.source.get("arrays", {}).get("x"), same)
        told = ([str(name) for name in names or ()] for names in known)
        return next((names for names in told if len(names) == self.law.size > 1), [])

    def to_json(self) -> dict[str, Any]:
        """The metadata as JSON data; the seed as text, since it may have 128 bits."""
        return {
            "law": self.law.to_json(),
            "source": dict(self.source),
            "seed": None if self.seed is None else str(self.seed),
            "provenance": dict(self.provenance),
            **({"failed": dict(self.failed)} if self.failed else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Meta:
        """The metadata that `to_json` wrote.

        Raises:
            DataError: a field that is missing or is not what it must be.
        """
        try:
            return cls(
                law=Law.from_json(data["law"]),
                source=dict(data["source"]),
                seed=None if data["seed"] is None else int(data["seed"]),
                provenance=dict(data["provenance"]),
                failed=failed_of_json(data.get("failed", {})),
            )
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"metadata: not those of a dataset: {error!r}") from error


def failed_of_json(data: Mapping[str, Any]) -> dict[str, Any]:
    """What metadata say of failed draws; empty where there are none.

    Raises:
        KeyError, TypeError, ValueError: it is not what it must be.
    """
    if not data:
        return {}
    return {
        "on_error": str(data["on_error"]),
        "count": int(data["count"]),
        "fraction": float(data["fraction"]),
        "messages": [str(m) for m in data["messages"]],
    }


def provenance(command: str) -> dict[str, Any]:
    """Where a file comes from: package, version, git commit (in a checkout), command.

    Args:
        command: the command in canonical form, without options that only say how to execute it.
    """
    found = {"package": "physgen", "version": physgen.__version__, "command": command}
    root = Path(physgen.__file__).parents[1]
    if not (root / ".git").exists():
        return found
    call = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(call, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return found  # a checkout on a machine without git
    return found | {"git": done.stdout.strip()}


@dataclass(frozen=True)
class Failed:
    """Draws of θ for which the simulator gave no x: with the rows, data to learn failure from.

    Attributes:
        theta: (F, D).
        messages: why, one each.
        on_error: what was done about them, ``skip`` or ``redraw``.
    """

    theta: Array
    messages: tuple[str, ...]
    on_error: str

    def __len__(self) -> int:
        return len(self.messages)

    def coded(self) -> tuple[dict[str, Array], list[str]]:
        """Arrays (F, …) for a file, and the list of distinct messages that they point into."""
        texts = list(dict.fromkeys(self.messages))
        if len(texts) > MOST_MESSAGES:
            texts = [*texts[: MOST_MESSAGES - 1], OTHER]
        places = {text: k for k, text in enumerate(texts)}
        codes = np.array([places.get(m, len(texts) - 1) for m in self.messages], np.int16)
        return {"failed/theta": self.theta, "failed/message": codes}, texts

    @classmethod
    def of(cls, theta: Array, codes: Array, texts: Sequence[str], on_error: str) -> Failed:
        """What `coded` made arrays of: θ (F, D), codes (F,)."""
        return cls(theta, tuple(texts[k] for k in codes), on_error)

    @classmethod
    def joined(cls, parts: Sequence[Failed | None]) -> Failed | None:
        """Those of several shards, one after another; None if there are none."""
        some = [part for part in parts if part]
        if not some:
            return None
        messages = tuple(m for part in some for m in part.messages)
        return cls(np.concatenate([part.theta for part in some]), messages, some[0].on_error)

    def to_json(self, rows: int) -> dict[str, Any]:
        """What metadata say of them, beside so many rows that did not fail."""
        return {
            "on_error": self.on_error,
            "count": len(self),
            "fraction": len(self) / (len(self) + rows),
            "messages": self.coded()[1],
        }


@dataclass(frozen=True)
class Rows:
    """Some rows of a dataset in memory.

    Attributes:
        x: (n, *x_shape).
        theta: (n, D); None in a file of observations.
        aux: name → (n, …).
        meta: the file's metadata; None in a file that physgen did not write.
        dropped: number of invalid rows that were left out in reading.
        failed: draws for which the simulator gave no x; None of some rows of a dataset.
    """

    x: Array
    theta: Array | None = None
    aux: Mapping[str, Array] = field(default_factory=dict)
    meta: Meta | None = None
    dropped: int = 0
    failed: Failed | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: slice | Array) -> Rows:
        """The rows of a slice, a mask or an array of row numbers."""
        return replace(
            self,
            x=self.x[index],
            theta=None if self.theta is None else self.theta[index],
            aux={name: values[index] for name, values in self.aux.items()},
            failed=None,  # they belong to all rows together
        )

    def labels(self, where: str | Path) -> Array:
        """θ, (n, D).

        Args:
            where: the file, for the message.

        Raises:
            DataError: rows without θ.
        """
        if self.theta is None:
            raise DataError(f"{where}: no /theta; expected pairs (theta, x)")
        return self.theta

    def arrays(self) -> dict[str, Array]:
        """Name in the file → values (n, …), in the file's order."""
        theta = {} if self.theta is None else {"theta": self.theta}
        return theta | {"x": self.x} | {f"aux/{k}": self.aux[k] for k in sorted(self.aux)}


def dumps(data: Mapping[str, Any]) -> str:
    """JSON text in the one canonical form.

    Raises:
        UsageError: a value that JSON does not have.
    """
    try:
        return json.dumps(data, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"metadata: {error}; give finite numbers, text, lists, mappings"
        ) from error


def chunk_rows(law: Law) -> int:
    """Rows in about 1 MiB of x: a power of two, at most 4096."""
    row = law.size * x_type(law).itemsize
    return min(MAX_CHUNK_ROWS, 2 ** int(math.log2(max(1, CHUNK_BYTES // row))))


def x_type(law: Law) -> np.dtype[Any]:
    """The type in which a file stores x."""
    if law.support == "counts":
        return np.dtype("i8")
    if law.discrete:
        return np.dtype("i1" if law.levels <= 128 else "i2")
    return np.dtype("f8" if "counts" in law.column_supports else law.dtype)


def validated(rows: Rows, law: Law, where: str = "x", first: int = 0, mend: str = "") -> Rows:
    """The rows as a file stores them, refused if one of them cannot follow the law.

    Args:
        rows: rows of any numeric type.
        law: the law they claim to follow.
        where: the file, for the message.
        first: number of the first row, for the message.
        mend: what to do about it, for the message.

    Raises:
        DataError: a wrong shape or type, infinity, NaN of x that may not be missing, x outside the
            support, θ outside the prior.
    """
    rows = cast(rows, law, where)
    refuse(rows, law, where, first, mend)
    return rows


def cast(rows: Rows, law: Law, where: str) -> Rows:
    """The rows in the layout's types; a spin that is not ±1 becomes 0, another integer −1."""
    n = len(rows)
    x = numeric(rows.x, (n, *law.x_shape), f"{where}: x")
    with np.errstate(over="ignore"):
        if law.support == "spins":
            x = (x == 1).astype(np.int8) - (x == -1)
        elif law.discrete:
            x = np.where(in_support(x, law.component_supports[0]), x, -1)
        elif x.dtype in ("i8", "u8") and (abs(x.astype("f8")) > 2**53).any():
            raise DataError(
                f"{where}: x: has integers beyond 2**53, of which float64 loses digits; subtract "
                "what they have in common, or give them as floats"
            )
        x = as_type(x, x_type(law))
    theta = rows.theta
    if theta is not None:
        theta = as_type(numeric(theta, (n, len(law.prior)), f"{where}: theta"), "f8")
    aux = {k: numeric(v, (n, *np.shape(v)[1:]), f"{where}: aux/{k}") for k, v in rows.aux.items()}
    return replace(rows, x=x, theta=theta, aux=aux)


def as_type(values: Array, dtype: str | np.dtype[Any]) -> Array:
    """Values (…) in native byte order, not copied where they have the type already."""
    return values.astype(dtype, copy=False)


def numeric(values: Any, shape: tuple[int, ...], where: str, copy: bool = True) -> Array:
    """Values (…) as a plain array of numbers of the given shape, booleans as int8."""
    values = np.asarray(values)
    if values.dtype.kind not in "biuf" or values.dtype.itemsize > 8:
        raise DataError(f"{where}: expected real numbers of at most 64 bits, got {values.dtype}")
    if values.shape != shape:
        raise DataError(f"{where}: expected shape {shape}, got {values.shape}")
    kind = np.dtype(np.int8) if values.dtype.kind == "b" else values.dtype.newbyteorder("=")
    return values.astype(kind, copy=copy)


def refuse(
    rows: Rows,
    law: Law | None,
    where: str,
    first: int = 0,
    mend: str = "",
    kind: type[DataError] = DataError,
    names: Sequence[str] = (),
) -> None:
    """Raise an error that names the first invalid row, if there is one."""
    for fault, bad in faults(rows, law, names):
        if not bad.any():
            continue
        i = int(np.argmax(bad))
        detail = outside(rows.theta[i], law.prior) if law and rows.theta is not None else ""
        raise kind(
            f"{where}: row {first + i}: {fault}{detail} ({bad.sum()} of {len(rows)} rows){mend}"
        )


def faults(
    rows: Rows, law: Law | None, names: Sequence[str] = ()
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """What can be wrong with a row → the rows that have this fault, (n,).

    Args:
        rows: in the layout's types.
        law: that they claim to follow.
        names: of the columns of x.
    """
    if rows.x.dtype == np.float32:
        infinite = ~per_row(~np.isinf(rows.x))
        yield "x is infinite, or overflows float32 (then declare dtype = 'float64')", infinite
    for name, values in rows.arrays().items():
        finite = np.isfinite(values)
        if name == "x" and law and law.missing:
            finite |= np.isnan(values)
        yield f"{name} is not finite", ~per_row(finite)
    if law is None:
        return
    yield from outside_support(rows.x, law, names)
    if rows.theta is not None:
        yield "theta is outside the prior", ~law.prior.contains(rows.theta)


OUTSIDE = {
    "spins": "neither -1 nor +1",
    "nonnegative": "negative",
    "counts": "no count: 0, 1, 2, … (to 2**53)",
}


def outside_support(
    x: Array, law: Law, names: Sequence[str] = ()
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """How rows of x (n, *x_shape) can be outside of the support → which are, (n,).

    Of mixed x the components that are outside in any row are told one by one.
    """
    if law.support != "mixed":
        kind = law.component_supports[0]
        yield f"x is {outside_in_words(kind)}", ~per_row(in_support(x, kind))
        return
    flat, supports = x.reshape(len(x), -1), np.array(law.column_supports)
    for kind in dict.fromkeys(law.column_supports):
        places = np.flatnonzero(supports == kind)
        bad = ~in_support(flat[:, places], kind)
        for k in np.flatnonzero(bad.any(0)):
            at = places[k]
            what = f"{names[at]} (column {at} of x)" if names else f"column {at} of x"
            yield f"{what} is {outside_in_words(kind)}", bad[:, k]


def outside_in_words(kind: str) -> str:
    """What a value is that is outside of a support."""
    return OUTSIDE.get(kind) or f"no integer from 0 to {levels_of(kind) - 1}"


def in_support(x: Array, kind: str) -> NDArray[np.bool_]:
    """Which values (…) a component of some support can take; missing ones included."""
    if kind == "spins":
        return np.asarray((x == 1) | (x == -1))
    if kind == "reals":
        return np.ones(x.shape, bool)
    good = ~(x < 0)
    if kind != "nonnegative":
        good &= x == np.floor(x)
    if kind == "counts":
        good &= x <= MOST_COUNT
    elif kind != "nonnegative":
        good &= x < levels_of(kind)
    return np.asarray(good)


def per_row(good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether all components of each row are good, (n, …) → (n,)."""
    return np.asarray(good.all(axis=tuple(range(1, good.ndim))))


def require_inside(theta: Array, prior: Prior, where: str, mend: str = "") -> None:
    """Refuse θ (n, D) outside of the prior.

    Raises:
        DataError: the first row, and the bounds.
    """
    if not (inside := prior.contains(theta)).all():
        row = int(np.argmin(inside))
        raise DataError(
            f"{where}: row {row}: theta is outside the prior{outside(theta[row], prior)} "
            f"({(~inside).sum()} of {len(theta)} rows){mend}"
        )


def require_fixed(columns: Mapping[str, Array], fixed: Mapping[str, float], where: str) -> None:
    """Refuse columns of θ, (n,) each, that are not what is fixed.

    Raises:
        DataError: the first row that is not.
    """
    for name, values in columns.items():
        if name in fixed and (off := values != fixed[name]).any():
            row = int(np.argmax(off))
            raise DataError(
                f"{where}: row {row}: {name}: expected {fixed[name]!r}, as fixed, got "
                f"{float(values[row])!r}"
            )


def outside(theta: Array, prior: Prior) -> str:
    """The components of one θ (D,) that are outside the prior, with the bounds."""
    return "".join(
        f", {p.name}={value!r} not in [{p.low!r}, {p.high!r}]"
        for p, value in zip(prior.parameters, theta.tolist(), strict=True)
        if not p.low <= value <= p.high
    )


def block_digest(arrays: Mapping[str, Array]) -> str:
    """SHA-256 of one block of rows (n, …): names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, values in arrays.items():
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def content_digest(meta_json: str, blocks: Iterable[str]) -> str:
    """SHA-256 of a file's content: its metadata and its blocks in the order of rows."""
    return hashlib.sha256("\n".join([meta_json, *blocks]).encode()).hexdigest()

"""Which pages beside a new one speak of the same model or data, by what all of them carry."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

__all__ = ["Link", "digests_of", "links_beside"]

MODELS, DATA = ("surrogate", "network"), ("data", "observed", "reference", "generated")
"""Places in a record that name a model, and that name data."""
HEAD, MOST = 4096, 200
"""Bytes of a page that are looked at, and pages of a folder, at most."""
CARRIED = re.compile(r'<meta name="physgen-(model|data)" content="([0-9a-f ]*)">')
TITLE = re.compile(r"<title>(.*?): physgen report</title>", re.DOTALL)


class Link(NamedTuple):
    """A page beside another.

    Attributes:
        href: where it is, from there.
        title: its own.
        shared: what both speak of.
    """

    href: str
    title: str
    shared: str


def digests_of(metrics: Mapping[str, Any]) -> dict[str, list[str]]:
    """SHA-256 of the models and of the data that some metrics speak of: "model", "data"."""
    every = [metrics, *metrics.get("sizes", ())]
    if metrics.get("schema") == "physgen/posteriors/1":
        every += metrics["posteriors"]
    for model in metrics.get("models") or ():
        every += [model[k] for k in ("metrics", "calibration", "comparison") if k in model]
    parts = [part for found in every for part in _parts(found)]
    return {kind: sorted({d for k, d in parts if k == kind and d}) for kind in ("model", "data")}


def _parts(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Kind and digest of all that a record names."""
    if found.get("schema") == "physgen/training/1":
        yield "model", found.get("sha256")
    for key in (*MODELS, *DATA):
        about = found.get(key)
        if isinstance(about, Mapping):
            yield ("model" if key in MODELS else "data"), about.get("sha256")
            source = about.get("source")
            if isinstance(source, Mapping) and source.get("kind") == "surrogate":
                yield "model", source.get("sha256")


def links_beside(out: Path | None, digests: Mapping[str, list[str]]) -> list[Link]:
    """The other pages in the folder of a page that speak of the same model, or of the same data.

    Args:
        out: the page that will be written; there is nothing beside one in memory.
        digests: as `digests_of` has them.
    """
    found = []
    for path in sorted(out.parent.glob("*.html"))[:MOST] if out else ():
        if (out and path.name == out.name) or not path.is_file():
            continue
        try:
            with path.open("rb") as file:
                head = file.read(HEAD).decode(errors="replace")
        except OSError:
            continue
        theirs = {kind: set(carried.split()) for kind, carried in CARRIED.findall(head)}
        shared = [k for k in ("model", "data") if theirs.get(k, set()) & set(digests[k])]
        if shared and (title := TITLE.search(head)):
            found.append(Link(quote(path.name), html.unescape(title[1]), shared[0]))
    titles = [link.title for link in found]
    return [
        link._replace(title=f"{link.title}, {link.href}") if titles.count(link.title) > 1 else link
        for link in found
    ]

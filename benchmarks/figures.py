"""Figures of the benchmarks: each run is a line of figures.jsonl, of which RESULTS.md is written.

A *part* is a command that prints tables in Markdown; parts.toml names them. What it prints is kept
as it is, with the commit, the date and the processor: so the tables of RESULTS.md, between marks,
and the page of all figures over commits are made of one file. A run that fails leaves no line.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from physgen.dataset.files import write_bytes

__all__ = [
    "HERE",
    "RESULTS",
    "Goal",
    "Part",
    "Run",
    "Table",
    "figures",
    "heading",
    "joined",
    "newest",
    "parts",
    "place",
    "runs",
    "shown",
    "tables",
    "written",
]

HERE = Path(__file__).parent
HISTORY, RESULTS = "figures.jsonl", "RESULTS.md"
NUMBER = re.compile(r"([+−-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)(?: ± ([\d.e-]+))?(?: \([^)]*\))?")
"""A cell that is a figure: a number, its error, and in brackets what else is said of it."""


class Goal(NamedTuple):
    """What a figure is to reach: "≤ 3" or "≥ 1.5".

    Attributes:
        sign: on which side of the value it is reached.
        value: in the units of the page.
    """

    sign: str
    value: float

    @classmethod
    def of(cls, text: str) -> Goal:
        """The goal of a text.

        Raises:
            ValueError: it has no sign or no number.
        """
        sign, _, value = text.partition(" ")
        if sign not in ("≤", "≥"):
            raise ValueError(f"a goal: expected ≤ or ≥ and a number, got {text!r}")
        return cls(sign, float(value))

    def reached(self, value: float) -> bool:
        """Whether a figure does."""
        return value <= self.value if self.sign == "≤" else value >= self.value


@dataclass(frozen=True)
class Part:
    """A part of the benchmarks, and what is known of its figures.

    Attributes:
        table: where its tables stand in RESULTS.md; several parts may share these.
        command: what follows ``python -m``.
        over: row or column whose figures the others are divided by on the page: another package's
            of the same run. Without it they are drawn as they are.
        names: how many of the first columns name a row.
        goals: "row" or "row | column" → the goal.
    """

    table: str
    command: str
    over: str = ""
    names: int = 1
    goals: Mapping[str, Goal] = field(default_factory=dict)

    def goal(self, row: str, column: str) -> Goal | None:
        """That of a figure, if it has one."""
        return self.goals.get(f"{row} | {column}", self.goals.get(row))


class Table(NamedTuple):
    """A table that a part printed, and the line above it."""

    caption: str
    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Run:
    """One run of a part: a line of the history.

    Attributes:
        part: its name.
        commit: of the package that was measured; a + behind it says that files were changed.
        committed: when, in ISO 8601.
        measured: the day of the run, in ISO 8601.
        processor: as it calls itself.
        cpu_s: CPU seconds of the run.
        tables: what it printed.
    """

    part: str
    commit: str
    committed: str
    measured: str
    processor: str
    cpu_s: float
    tables: list[Table]

    @classmethod
    def of(cls, line: str) -> Run:
        """The run of a line."""
        about = json.loads(line)
        return cls(**about | {"tables": [Table(*table) for table in about["tables"]]})

    def line(self) -> str:
        """The run as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def mark(self) -> str:
        """Of which commit it is, and how old."""
        return (
            f"`{self.part}`: commit {self.commit} of {self.committed[:10]}, measured on "
            f"{self.measured}, {self.processor}, {self.cpu_s:.0f} CPU s"
        )


def parts(path: Path = HERE / "parts.toml") -> dict[str, Part]:
    """Name → part: a table's own name, or that and a dash and a piece of it."""
    found = {}
    for table, about in tomllib.loads(path.read_text()).items():
        goals = {what: Goal.of(text) for what, text in about.get("goals", {}).items()}
        for piece, command in about.pop("pieces", {"": about.pop("command", "")}).items():
            name = f"{table}-{piece}" if piece else table
            found[name] = Part(table, command, **about | {"goals": goals})
    return found


def runs(folder: Path = HERE) -> list[Run]:
    """All runs of a folder's history, from the oldest commit to the newest."""
    history = folder / HISTORY
    lines = history.read_text().splitlines() if history.exists() else []
    return ordered(Run.of(line) for line in lines)


def ordered(found: Iterable[Run]) -> list[Run]:
    """From the oldest commit to the newest, and runs of one commit as they were made."""
    return sorted(found, key=lambda run: (run.committed, run.measured))


def tables(text: str) -> list[Table]:
    """The tables in what was printed; lines between their rows are left out."""
    found: list[Table] = []
    rows: list[list[str]] = []
    caption = above = ""
    for line in text.splitlines():
        if not line.startswith("|"):
            caption = line.strip() or caption
        elif set(line) <= set("|-: "):
            rows, head = [], rows.pop()
            found.append(Table(above, head, rows))
        else:
            cells = line.strip().removeprefix("|").removesuffix("|").split("|")
            rows.append([cell.strip() for cell in cells])
            above, caption = caption, ""
    return found


def joined(last: Iterable[tuple[Run, Part]]) -> list[Table]:
    """The tables of several parts, rows of the same columns below one another, each row once."""
    found: dict[tuple[str, ...], dict[tuple[str, ...], list[str]]] = {}
    for run, part in last:
        for caption, head, rows in run.tables:
            below = found.setdefault((caption, *head), {})
            new = {tuple(row): row for row in rows}
            known = {row[: part.names] for row in below}
            below |= {key: row for key, row in new.items() if key[: part.names] not in known}
    return [Table(caption, head, list(rows.values())) for (caption, *head), rows in found.items()]


def newest(table: str, found: Iterable[Run], known: Mapping[str, Part]) -> list[tuple[Run, Part]]:
    """The last run of each part of a table."""
    last = {run.part: run for run in found}
    return [(last[name], part) for name, part in known.items()
            if part.table == table and name in last]  # fmt: skip


def shown(table: str, found: Iterable[Run], known: Mapping[str, Part]) -> str:
    """The newest figures of a table in Markdown, and how old they are."""
    last = newest(table, found, known)
    blocks = []
    for caption, head, rows in joined(last):
        lines = [head, ["---"] * len(head), *rows]
        text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        blocks.append(f"{caption}\n\n{text}" if caption else text)
    marks = [";\n".join(run.mark() for run, _ in last) + "."] if last else []
    return "\n\n".join(blocks + marks)


def place(table: str, text: str) -> tuple[int, int]:
    """Where the figures of a table stand in a document: from and to.

    Raises:
        LookupError: it has no marks there, or more than one pair.
    """
    start, end = f"<!-- figures: {table} -->\n", "<!-- end -->"
    found = re.findall(f"{start}(.*?){end}", text, re.DOTALL)
    if len(found) != 1 or "<!-- figures:" in found[0]:
        raise LookupError(
            f"RESULTS.md: expected once {start.strip()} and {end} below it; put these two lines "
            f"where the table of {table} is to stand"
        )
    first = text.index(start) + len(start)
    return first, first + len(found[0])


def heading(table: str, text: str) -> str:
    """The title of the section of a document in which the figures of a table stand."""
    above = re.findall(r"^#+ ([^:\n]*)", text[: place(table, text)[0]], re.MULTILINE)
    return above[-1].strip()


def written(known: Mapping[str, Part], run: Run | None = None, folder: Path = HERE) -> None:
    """Add a run to the history of a folder, if there is one, and write all tables anew.

    Raises:
        LookupError: a table has no place.
    """
    history, results = folder / HISTORY, folder / RESULTS
    found, text = runs(folder), results.read_text()
    if run is not None:
        found = ordered([*found, run])
    for table in dict.fromkeys(part.table for part in known.values()):
        first, last = place(table, text)
        block = shown(table, found, known)
        text = text[:first] + (f"\n{block}\n\n" if block else "") + text[last:]
    if run is not None:
        old = history.read_text() if history.exists() else ""
        write_bytes(history, f"{old}{run.line()}\n".encode(), sidecar=False)
    write_bytes(results, text.encode(), sidecar=False)


def figures(run: Run, part: Part) -> Iterator[tuple[str, str, str, float]]:
    """Caption, column, row and value of each figure; "column ÷ peer" where it was divided."""
    for caption, head, rows in run.tables:
        titles = [
            title if title not in head[:i] else f"{title}, beside {head[i - 1]}"
            for i, title in enumerate(head)
        ]
        found: dict[tuple[str, str], float] = {}
        for row in rows:
            name = ", ".join(row[: part.names])
            for title, cell in zip(titles[part.names :], row[part.names :], strict=False):
                for column, value in numbers(title, cell):
                    found.setdefault((column, name), value)
        for (column, name), value in found.items():
            peer = found.get((column, part.over), found.get((part.over, name)))
            if peer is None:
                yield caption, column, name, value
            elif part.over not in (column, name):
                yield caption, f"{column} ÷ {part.over}", name, value / peer


def numbers(title: str, cell: str) -> Iterator[tuple[str, float]]:
    """Column and value of each number in a cell: a / b of a column "a / b" are two."""
    titles, pieces = (re.split(" / |, ", text) for text in (title, cell))
    if len(pieces) == 1:
        titles = [title]
    elif len(titles) != len(pieces):
        titles = [f"{title}, {i}" for i in range(1, len(pieces) + 1)]
    for column, piece in zip(titles, pieces, strict=True):
        if found := NUMBER.fullmatch(piece):
            yield column, float(found[1].replace(",", "").replace("−", "-"))

"""Bars on a terminal, and a line now and then elsewhere."""

import io
import logging
import sys
from contextlib import suppress
from types import SimpleNamespace
from typing import ClassVar

import pytest

from physgen.runtime.progress import bar, log
from physgen.verbs.running import sections


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def said(monkeypatch):
    """What a bar writes: (stream, its length, moves) → text."""
    monkeypatch.setattr(log, "level", logging.INFO)

    def run(stream, length, moves):
        monkeypatch.setattr(sys, "stderr", stream)
        with bar(length, "fit cvae") as move:
            for done, text in moves:
                move(done, text)
        return stream.getvalue()

    return run


def test_a_bar_moves_with_the_work(said):
    text = said(Terminal(), 4, [(1, "samples"), (3, "posterior")])
    assert text.index("25%") < text.index("75%")
    assert "posterior" in text


def test_words_move_where_nobody_knows_how_long(said):
    text = said(Terminal(), None, [(0, "epoch 1"), (0, "epoch 2")])
    assert text.index("epoch 1") < text.index("epoch 2")
    assert "%" not in text


def test_sections_that_are_done_fill_their_bar(monkeypatch):
    """And those that fail do not."""
    stream = Terminal()
    monkeypatch.setattr(log, "level", logging.INFO)
    monkeypatch.setattr(sys, "stderr", stream)
    with suppress(ValueError), sections("validate cvae", {"nll": 1, "sweep": 3}) as progress:
        progress("sweep")
        raise ValueError
    assert "100%" not in stream.getvalue()
    with sections("validate cvae", {"nll": 1, "sweep": 3}) as progress:
        progress("nll")
    assert "100%" in stream.getvalue()


def test_a_line_every_half_minute_where_there_is_no_terminal(said, monkeypatch, caplog):
    """Of a move each 10 s, every third is told; what is short, or done, says nothing."""
    caplog.set_level(logging.INFO, "physgen")
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("physgen.runtime.progress.time.monotonic", lambda: next(clock))
    assert said(io.StringIO(), 9, [(k, f"epoch {k}") for k in range(1, 10)]) == ""
    assert caplog.messages == [
        "fit cvae: 33%, 60 s left, epoch 3", "fit cvae: 67%, 30 s left, epoch 6",
    ]  # fmt: skip
    caplog.clear()
    said(io.StringIO(), None, [(0, f"epoch {k}") for k in range(1, 4)])
    assert caplog.messages == ["fit cvae: epoch 3"]


class Handle:
    """The display of a notebook's cell."""

    lines: ClassVar[list] = []

    def update(self, line):
        self.lines.append(line)


def test_a_notebook_writes_one_line_over_and_over(said, monkeypatch):
    shown = SimpleNamespace(Pretty=str, display=lambda line, display_id: Handle())
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    assert said(io.StringIO(), 4, [(1, "samples"), (3, "posterior")]) == ""
    last = Handle.lines[-1]
    assert "75%" in last
    assert "25%" not in last
    assert last.endswith("posterior")
    assert "25%" in " ".join(Handle.lines)
    assert not any("\x1b" in line or "\r" in line for line in Handle.lines)


def test_quiet_is_quiet(said, monkeypatch):
    monkeypatch.setattr(log, "level", logging.WARNING)
    assert said(Terminal(), 4, [(1, "samples")]) == ""

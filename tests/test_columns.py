"""Rows of mixed kinds: what may be declared, what a law keeps of it, what it refuses."""

import json
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from physgen.errors import UsageError
from physgen.law import Law
from simulators import Box
from simulators.columns import Columns, supports_in_words

MIXED = ("levels:10", "nonnegative", "reals")


@dataclass(frozen=True)
class Of:
    """A simulator with a support, and a shape if one is given."""

    support: Any
    x_shape: list[int] | None = None

    prior = Box(a=(0, 1))

    def sample(self, theta, rng):
        """Nothing is drawn."""


@pytest.mark.parametrize(
    ("given", "supports", "names"),
    [
        ({"hits": "levels:10", "energy": "nonnegative", "t": "reals"}, MIXED, "hits energy t"),
        ("hits=levels:10,energy=nonnegative,t=reals", MIXED, "hits energy t"),
        (list(MIXED), MIXED, ""),
        ({"b": ("levels:2", 2), "t": "reals"}, ("levels:2", "levels:2", "reals"), "b_0 b_1 t"),
        ("b=levels:2*2,t=reals", ("levels:2", "levels:2", "reals"), "b_0 b_1 t"),
        ("levels:2*2,reals", ("levels:2", "levels:2", "reals"), ""),
        (["levels:2"] * 2 + ["reals"], ("levels:2", "levels:2", "reals"), ""),
    ],
)
def test_columns_are_told_in_any_form_and_the_shape_of_x_by_them(given, supports, names):
    found = Columns.of(given)
    assert (found.supports, found.names) == (supports, tuple(names.split()))
    assert found == Columns.of(supports_in_words(found.supports, found.names))
    law = Law.of(Of(given))
    assert (law.support, law.column_supports, law.x_shape) == ("mixed", supports, (3,))
    assert law.component_supports == supports
    assert law.has_support("levels").tolist() == [kind.startswith("levels") for kind in supports]
    assert Law.from_json(json.loads(json.dumps(law.to_json()))) == law


@pytest.mark.parametrize(
    ("given", "support", "levels"),
    [
        ({"a": "counts", "b": "counts"}, "counts", 0),
        (["levels:3"] * 2, "levels", 3),
        ("levels:3*2", "levels", 3),
        (["spins", "spins"], "spins", 0),
    ],
)
def test_columns_of_one_kind_are_one_support(given, support, levels):
    law = Law.of(Of(given))
    assert (law.support, law.levels, law.x_shape) == (support, levels, (2,))
    assert "column_supports" not in law.to_json()
    assert law.discrete


def test_a_law_without_columns_is_written_as_before():
    keys = {"simulator", "prior", "x_shape", "support", "symmetries", "options"}
    assert set(Law.of(Of("reals", [4])).to_json()) == keys
    assert np.array_equal(Law.of(Of("reals", [2, 2])).has_support("reals"), [True] * 4)


@pytest.mark.parametrize(
    ("given", "x_shape", "words"),
    [
        (["reals", "levels"], None, "levels:K, got 'levels'"),
        (["reals", "integers"], None, "expected one of reals, nonnegative, counts, levels:K"),
        (["spins", "reals"], None, "declare levels:2"),
        (["reals", "levels:1"], None, "expected 2 to 32768"),
        ("levels:40000", [2], "declare counts"),
        ({"a": ("reals", 0)}, None, "('levels:2', 5)"),
        ({"a_0": "reals", "a": ("counts", 1)}, None, "different names"),
        (["reals", "counts"], [3], "each of the 3 components of x, got 2"),
        (3, [3], "got 3"),
        ([], [3], "got none"),
        ("mixed", [3], "got 'mixed'"),
    ],
)
def test_what_is_no_support_is_refused_in_one_line(given, x_shape, words):
    with pytest.raises((UsageError, ValueError), match=re.escape(words)) as raised:
        Law.of(Of(given, x_shape))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"column_supports": ("reals",)}, "expected 3, one of each component"),
        ({"column_supports": ("reals", "reals", "reals")}, "expected several kinds"),
        ({"support": "reals"}, "expected 0"),
        ({"missing": True}, "mixed may not miss any"),
        ({"symmetries": ("flip",)}, "neither symmetries "),
        ({"axes": ("open",)}, "nor axes"),
    ],
)
def test_a_law_of_mixed_x_is_consistent(changes, words):
    law = Law.of(Of(list(MIXED)))
    with pytest.raises(ValueError, match=words):
        replace(law, **changes)


def test_axes_are_kept_and_go_with_the_symmetries():
    law = replace(Law.of(Of("reals", [2, 5])), axes=("channel", "periodic"))
    assert Law.from_json(json.loads(json.dumps(law.to_json()))) == law
    with pytest.raises(ValueError, match="channel"):
        replace(law, axes=("open", "channel"))
    with pytest.raises(ValueError, match="expected 2 of channel, open, periodic"):
        replace(law, axes=("round", "open"))
    with pytest.raises(ValueError, match="periodic"):
        replace(law, axes=("channel", "open"), symmetries=("shift",))

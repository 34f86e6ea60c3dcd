"""The page on which a surrogate is explored: the words in explore.html, its script beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from physgen.reporting.conclusions import Conclusion
from physgen.reporting.sheet import Sheet

__all__ = ["conclusion_of_explored", "explore_sheet"]


def explore_sheet(found: Mapping[str, Any], about: Mapping[str, Any]) -> Sheet:
    """The page of what `physgen.verbs.explored.explored_page` gathers.

    Args:
        found: what the script shows, as JSON data.
        about: what the page says of the making of the surrogate and of itself.
    """
    here = Path(__file__).parent
    scripts = [(here / name).read_text() for name in ("graph.js", "chart.js", "explore.js")]
    values = {
        "m": about,
        "law": about["surrogate"]["law"],
        "page": found,
        "data": json.dumps(found, allow_nan=False).replace("<", "\\u003c"),
        "script": "\n".join(scripts),
    }
    return Sheet("explore.html", values, {})


def conclusion_of_explored(page: Mapping[str, Any], name: str) -> Conclusion:
    """What the page is, in a sentence."""
    how = (
        f"{name} has drawn x beforehand on a grid of θ, {page['grid']['rows']} from the same "
        "seed at each node; the nearest are shown."
        if "grid" in page
        else f"This page draws {page['rows']} x from what {name} has learnt. Their random "
        "numbers stay as they are, so that each x changes with θ alone."
    )
    return Conclusion("unknown", "Move a slider.", how)

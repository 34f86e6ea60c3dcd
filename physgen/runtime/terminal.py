"""Text from files on its way to a terminal or a page.

A name or a unit in a file may hold what moves a terminal's cursor, renames its window or types
into it, and what turns the order of letters around. All that is shown goes through `printable`.
"""

from __future__ import annotations

import re

__all__ = ["printable"]

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Text with control characters, but for line ends and tabs, as escapes that can be read."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)

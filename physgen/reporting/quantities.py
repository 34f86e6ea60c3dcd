"""Numbers as a physicist writes them: 0.0123(4), 1,234, 1.2×10⁻⁵, and a dash for the unknown."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

__all__ = [
    "digits_beside",
    "facts",
    "flat",
    "free",
    "law_words",
    "measured",
    "number",
    "to_width",
]

SMALL, HUGE = -6, 12
"""Powers of ten that a measured value is written out to, and any number."""
USUAL = {"loc": 0, "scale": 1}
"""Arguments of a distribution that need not be told."""
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: object, digits: int = 2) -> str:
    """A number with that many significant digits; whole numbers whole, thousands apart."""
    if not _is_number(value):
        return "–"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if int(exponent) < HUGE and (value == round(value) or int(exponent) >= digits):
        return _minus(f"{value:,.0f}")
    if -3 <= int(exponent) < HUGE:
        return _minus(f"{value:,.{digits - 1 - int(exponent)}f}")
    return _minus(mantissa) + _power(int(exponent))


def digits_beside(value: float, width: float, least: int = 3) -> int:
    """Significant digits of a value, so many that a tenth of a width shows."""
    if not (value and width > 0 and math.isfinite(value) and math.isfinite(width)):
        return least
    return max(least, _exponent(value) - _exponent(width) + 2)


def to_width(value: object, width: float) -> str:
    """A number with three digits, or as many as a tenth of a width asks for."""
    return number(value, digits_beside(value, width) if _is_number(value) else 3)


def free(prior: Sequence[Mapping[str, Any]] | None) -> list[Mapping[str, Any]]:
    """The parameters of a prior, as JSON data, that are not fixed: θ's columns."""
    return [p for p in prior or [] if "value" not in p]


def law_words(parameter: Mapping[str, Any]) -> str:
    """The law of a parameter, as JSON data, in words."""
    if "value" in parameter:
        return f"= {number(parameter['value'])}"
    if "law" not in parameter:
        low, high = parameter.get("low"), parameter.get("high")
        width = high - low if _is_number(low) and _is_number(high) else 1
        return f"uniform in [{to_width(low, width)}, {to_width(high, width)}]"
    known = {k: v for k, v in parameter.get("arguments", {}).items() if v != USUAL.get(k)}
    text = f"~ {parameter['law']}({', '.join(f'{k} = {number(v)}' for k, v in known.items())})"
    ties = parameter.get("correlation") or {}
    return text + "".join(f", correlated with {b} by {number(r)}" for b, r in ties.items())


def measured(value: object, error: object) -> str:
    """A value and its standard error: 0.0123(4) is 0.0123 ± 0.0004."""
    if not (_is_number(value) and _is_number(error) and error > 0):
        return number(value)
    size = _exponent(max(abs(value), error))
    if not SMALL <= size < HUGE:
        text = measured(value / 10.0**size, error / 10.0**size)
        return text + _power(size)
    exponent = _exponent(error)
    digits = (1 if error < 2 * 10.0**exponent else 0) - exponent
    last = round(error * 10.0**digits) if digits > 0 else round(error, digits)
    return _minus(f"{round(value, digits) + 0.0:,.{max(digits, 0)}f}({last:,.0f})")


def flat(data: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Nested data as rows (path.to.it, value); lists are written in one line."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from flat(value, f"{path}.{key}" if path else str(key))
    elif data is not None:
        yield path, data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)


def facts(
    metrics: Mapping[str, Any], groups: Iterable[str]
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Groups of metrics that there are, as rows; the history of a training is a figure."""
    for group in groups:
        if metrics.get(group):
            yield group, [row for row in flat(metrics[group]) if not row[0].startswith("history")]


def _exponent(value: float) -> int:
    """Of the power of ten below a value that is not 0."""
    return math.floor(math.log10(abs(value)))


def _power(exponent: int) -> str:
    return "×10" + str(exponent).translate(SUPERSCRIPT)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _minus(text: str) -> str:
    return text.replace("-", "−")

"""How a report writes numbers and texts: formats, escapes, translations."""

from __future__ import annotations

import html
import math
from collections.abc import Callable

from bilingual_chat import messages
from bilingual_chat.text.sanitize import outward, outward_line

LEVELS = 9  # shades of a heat map
Words = Callable[..., str]  # a sentence by its key, ready for HTML


def words_in(lang: str) -> Words:
    """Return a function that renders a sentence in `lang` with its values made harmless."""

    def words(key: str, **values: object) -> str:
        return html.escape(messages.render(key, lang, "shell", **{name: _plain(each) for name, each in values.items()}))

    return words


def _plain(value: object) -> object:
    return value if isinstance(value, int | float | messages.Phrase) else outward_line(str(value))


def escape(text: object) -> str:
    """Return one line of any origin for HTML: markup and control characters cannot act."""
    return html.escape(outward_line(str(text)))


def escape_lines(text: str) -> str:
    """Return a text of any origin for HTML; newlines stay."""
    return html.escape(outward(text))


def number(value: float) -> str:
    """Return about three digits; "–" for NaN."""
    if math.isnan(value):
        return "–"
    for digits, limit in ((2, 0.0005), (3, 0.0995), (2, 9.995), (1, 99.95)):
        if abs(value) < limit:
            return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")
    return f"{value:,.0f}".replace("-", "−")


def signed(value: float) -> str:
    """Return a difference with its sign."""
    text = number(value)
    return f"+{text}" if value > 0 and text.strip("0.,") else text


def interval(low: float, high: float) -> str:
    """Return an interval as text; "–" if there is none."""
    return "–" if math.isnan(low) else f"{number(low)} … {number(high)}"


def p_value(p: float) -> str:
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def level(value: float, low: float, high: float) -> int:
    """Return the shade of `value` between `low` and `high`, from 0 to 8; −1 for NaN."""
    if math.isnan(value):
        return -1
    return round((LEVELS - 1) * (value - low) / (high - low)) if high > low else 0


def shorten(text: str, limit: int) -> str:
    """Return at most `limit` characters of `text`."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"

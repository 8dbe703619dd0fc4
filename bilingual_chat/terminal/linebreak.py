"""Breaks lines on a screen: cells, kinsoku, words.

`LineBreaker` breaks text while it streams. Each character is printed at once; when a word (or a character that
may not begin a line) does not fit, an `Erase` removes its printed part, which is repeated on the next line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from wcwidth import iter_graphemes, wcswidth, wcwidth

# Kinsoku, after JIS X 4051 and JLREQ: characters that may not begin a line …
_NOT_FIRST = frozenset(
    "、。，．・：；？！‼⁇⁈⁉゛゜ヽヾゝゞ々〻ー゠‐–～〜…‥"
    "’”）〕］｝〉》」』】〙〗〟｠»"
    "ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶㇰㇱㇲㇳㇴㇵㇶㇷㇸㇹㇺㇻㇼㇽㇾㇿ"
    "｡､｣･ｰﾞﾟｧｨｩｪｫｬｭｮｯ"
    ")]},.!?:;%％℃°"
)
# … and that may not end one.
_NOT_LAST = frozenset("‘“（〔［｛〈《「『【〘〖〝｟«｢([{￥＄$£")
_GLUE = frozenset("\u00a0\u202f\u2011")
_SPACES = frozenset(" \t\u3000")
_ZWJ = "\u200d"
_TAB_STOP = 8


@dataclass(frozen=True)
class Erase:
    """Erase the last `cells` cells of the line: go to `column` (from 0) and clear to the end of the line.

    Backspaces would not do: after its last column a terminal keeps the cursor on that column.
    """

    cells: int
    column: int


class LineBreaker:
    """Breaks a stream of text into lines of at most `width` cells, starting at the first column.

    The break replaces spaces that do not fit. A word longer than a line breaks where the line is full; so does
    every word without `can_erase`. A character wider than the line stands alone on it.
    """

    def __init__(self, width: int, *, can_erase: bool = True) -> None:
        self._width = max(1, width)
        self._can_erase = can_erase
        self._line: list[str] = []  # the grapheme clusters of the last line
        self._cells = 0  # of the line
        self._printed = 0  # code points that the caller has
        self._full = False  # the line ends in spaces that did not fit
        self._events: list[str | Erase] = []

    def push(self, text: str) -> list[str | Erase]:
        """Return strings to print and Erase events, in order."""
        for character in text:
            self._take(character)
        self._print()
        events, self._events = _joined(self._events), []
        return events

    def finish(self) -> list[str | Erase]:
        """Begin a new line. Nothing is left to print."""
        self._line, self._cells, self._printed, self._full = [], 0, 0, False
        return []

    def _take(self, character: str) -> None:
        if character == "\n":
            self._end_line(len(self._line))
        elif self._line and not self._full and _extends(self._line[-1], character):
            self._extend_last(character)
        elif character in _SPACES and self._line and self._cells + self._count(character) > self._width:
            self._full = True
        else:
            if self._full:
                self._end_line(len(self._line))
            self._cells += self._count(character)
            self._line.append(character)
        while len(self._line) > 1 and self._cells > self._width:
            self._end_line(self._choose_break())

    def _extend_last(self, character: str) -> None:
        extended = self._line[-1] + character
        if self._can_erase:  # without, a character that a selector widens stays where it is
            self._cells += _cluster_cells(extended) - _cluster_cells(self._line[-1])
        self._line[-1] = extended

    def _count(self, cluster: str) -> int:
        """Return the cells of `cluster` at the end of the line."""
        return _TAB_STOP - self._cells % _TAB_STOP if cluster == "\t" else _cluster_cells(cluster)

    def _choose_break(self) -> int:
        """Return the index before which the overfull line breaks."""
        last = len(self._line) - 1
        if self._can_erase:
            for index in range(last, 0, -1):
                if may_break(self._line[index - 1], self._line[index]):
                    return index
        return last

    def _end_line(self, index: int) -> None:
        """Break the line before `index`; the rest, which has no tab, begins the next."""
        kept = "".join(self._line[:index])
        rest = "".join(self._line[index:])
        rest_cells = sum(_cluster_cells(cluster) for cluster in self._line[index:])
        if self._printed > len(kept):
            taken_back = rest[: self._printed - len(kept)]
            self._events.append(Erase(count_cells(taken_back), self._cells - rest_cells))
        else:
            self._events.append(kept[self._printed :])
        self._events.append("\n")
        self._line, self._cells, self._printed, self._full = self._line[index:], rest_cells, 0, False

    def _print(self) -> None:
        text = "".join(self._line)
        self._events.append(text[self._printed :])
        self._printed = len(text)


def break_lines(text: str, width: int) -> list[str]:
    """Break finished text into lines of at most `width` cells."""
    return "".join(event for event in LineBreaker(width).push(text) if isinstance(event, str)).split("\n")


def may_break(before: str, after: str) -> bool:
    """Return True if a line may break between two grapheme clusters."""
    if after[0] in _SPACES:
        return False
    if before[0] in _SPACES:
        return True
    if after[0] in _NOT_FIRST or before[0] in _NOT_LAST or before[0] in _GLUE or after[0] in _GLUE:
        return False
    return _is_ideographic(before) or _is_ideographic(after)


def count_cells(text: str) -> int:
    """Return the screen cells of `text`, one line without tabs."""
    return sum(_cluster_cells(cluster) for cluster in _clusters(text))


def count_grapheme_cells(text: str) -> int:
    """Return the cells of `text`, counting by `graphemes` (a conjunct of several letters is one)."""
    return sum(_cluster_cells(grapheme) for grapheme in graphemes(text))


def graphemes(text: str) -> list[str]:
    """Split `text` into grapheme clusters (UAX 29); Backspace deletes one."""
    return list(text) if text.isascii() else list(iter_graphemes(text))


def _clusters(text: str) -> list[str]:
    """Split `text` into the clusters that a terminal draws as one."""
    clusters: list[str] = []
    for character in text:
        if clusters and _extends(clusters[-1], character):
            clusters[-1] += character
        else:
            clusters.append(character)
    return clusters


@lru_cache(maxsize=4096)
def _cluster_cells(cluster: str) -> int:
    # wcswidth returns -1 for the whole string if it has a control character.
    return wcswidth("".join(character for character in cluster if wcwidth(character) >= 0))


def _is_ideographic(cluster: str) -> bool:
    """Return True for text written without spaces: kanji, kana, their punctuation, emoji."""
    return _cluster_cells(cluster) > 1 or "｡" <= cluster[0] <= "ﾟ"


def _extends(cluster: str, character: str) -> bool:
    """Return True if `character` joins `cluster`: a mark, a selector, part of an emoji sequence."""
    if character in _SPACES:
        return False
    if wcwidth(character) <= 0:
        return True
    joined = cluster[-1] == _ZWJ and _cluster_cells(cluster) > 1  # between letters a ZWJ joins no cells
    if not joined and not _is_emoji_part(character):
        return False
    return _cluster_cells(cluster + character) <= _cluster_cells(cluster)


def _is_emoji_part(character: str) -> bool:
    """Return True for a skin tone and half a flag."""
    return "\U0001f3fb" <= character <= "\U0001f3ff" or "\U0001f1e6" <= character <= "\U0001f1ff"


def _joined(events: list[str | Erase]) -> list[str | Erase]:
    joined: list[str | Erase] = []
    for event in events:
        if isinstance(event, str) and joined and isinstance(joined[-1], str):
            joined[-1] += event
        elif event:
            joined.append(event)
    return joined

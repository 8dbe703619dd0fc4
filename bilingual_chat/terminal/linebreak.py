"""Where a line may break on a screen: cells, kinsoku, words.

`LineBreaker` breaks text while it streams. Every character is put out at once; when a word (or a
character that may not begin a line) turns out not to fit, the part already on the screen is taken
back with an `Erase` and comes again on the next line.
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
    """Take back the last `cells` cells of the line; what remains on it ends before `column` (0 is the first).

    A terminal that has just filled its last column is not where a backspace thinks it is: go to
    `column` and clear to the end of the line.
    """

    cells: int
    column: int


class LineBreaker:
    """Breaks a stream of text into lines of at most `width` cells, starting at the first column.

    Spaces for which a line has no room turn into the break. A word longer than a line is broken
    where the line is full, and so is every word with `can_erase` False, where nothing printed can
    be taken back. A character wider than the line stands alone on it.
    """

    def __init__(self, width: int, *, can_erase: bool = True) -> None:
        self._width = max(1, width)
        self._can_erase = can_erase
        self._line: list[str] = []  # the characters, as a reader counts them, of the last line
        self._cells = 0  # what they take
        self._printed = 0  # how many code points of them the caller has
        self._full = False  # the line ends in spaces that did not fit
        self._events: list[str | Erase] = []

    def push(self, text: str) -> list[str | Erase]:
        """What to do on the screen, in this order: strings to print, and Erase."""
        for character in text:
            self._take(character)
        self._print()
        events, self._events = _joined(self._events), []
        return events

    def finish(self) -> list[str | Erase]:
        """Nothing is ever held back, so there is nothing left to print; the next text begins a new line."""
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
        if self._can_erase:  # what cannot be taken back cannot be moved when a selector widens it
            self._cells += _cluster_cells(extended) - _cluster_cells(self._line[-1])
        self._line[-1] = extended

    def _count(self, cluster: str) -> int:
        """The cells `cluster` takes at the end of the line."""
        return _TAB_STOP - self._cells % _TAB_STOP if cluster == "\t" else _cluster_cells(cluster)

    def _choose_break(self) -> int:
        """Before which character of the overfull line to break."""
        last = len(self._line) - 1
        if self._can_erase:
            for index in range(last, 0, -1):
                if may_break(self._line[index - 1], self._line[index]):
                    return index
        return last

    def _end_line(self, index: int) -> None:
        """Break the line before its character `index`; the rest, which holds no tab, begins the next."""
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
    """The lines of finished text, as `LineBreaker` leaves them on a screen of `width` cells."""
    return "".join(event for event in LineBreaker(width).push(text) if isinstance(event, str)).split("\n")


def may_break(before: str, after: str) -> bool:
    """Whether a line may end after the character `before` and the next begin with `after`.

    Both are characters as a reader counts them: a letter with its marks, an emoji sequence.
    """
    if after[0] in _SPACES:
        return False
    if before[0] in _SPACES:
        return True
    if after[0] in _NOT_FIRST or before[0] in _NOT_LAST or before[0] in _GLUE or after[0] in _GLUE:
        return False
    return _is_ideographic(before) or _is_ideographic(after)


def count_cells(text: str) -> int:
    """The cells that `text`, one line without tabs, takes on a screen."""
    return sum(_cluster_cells(cluster) for cluster in _clusters(text))


def count_grapheme_cells(text: str) -> int:
    """As `count_cells`, with a conjunct of several letters as one character."""
    return sum(_cluster_cells(grapheme) for grapheme in graphemes(text))


def graphemes(text: str) -> list[str]:
    """The characters of `text` as Unicode counts them (UAX 29): what one press of Backspace takes away."""
    return list(text) if text.isascii() else list(iter_graphemes(text))


def _clusters(text: str) -> list[str]:
    """The characters of `text` as a reader counts them."""
    clusters: list[str] = []
    for character in text:
        if clusters and _extends(clusters[-1], character):
            clusters[-1] += character
        else:
            clusters.append(character)
    return clusters


@lru_cache(maxsize=4096)
def _cluster_cells(cluster: str) -> int:
    # A control character has no place here; wcswidth's -1 for it must not make the rest vanish.
    return wcswidth("".join(character for character in cluster if wcwidth(character) >= 0))


def _is_ideographic(cluster: str) -> bool:
    """Whether it is written without spaces around it: kanji, kana, their punctuation, emoji."""
    return _cluster_cells(cluster) > 1 or "｡" <= cluster[0] <= "ﾟ"


def _extends(cluster: str, character: str) -> bool:
    """Whether `character` joins `cluster`: a mark, a selector, a part of an emoji sequence."""
    if character in _SPACES:
        return False
    if wcwidth(character) <= 0:
        return True
    joined = cluster[-1] == _ZWJ and _cluster_cells(cluster) > 1  # between letters a ZWJ joins no cells
    if not joined and not _is_emoji_part(character):
        return False
    return _cluster_cells(cluster + character) <= _cluster_cells(cluster)


def _is_emoji_part(character: str) -> bool:
    """A skin tone or half a flag."""
    return "\U0001f3fb" <= character <= "\U0001f3ff" or "\U0001f1e6" <= character <= "\U0001f1ff"


def _joined(events: list[str | Erase]) -> list[str | Erase]:
    joined: list[str | Erase] = []
    for event in events:
        if isinstance(event, str) and joined and isinstance(joined[-1], str):
            joined[-1] += event
        elif event:
            joined.append(event)
    return joined

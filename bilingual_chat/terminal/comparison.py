"""Shows the replies of a comparison: in columns where they fit, else one after the other."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import pairwise

from bilingual_chat.messages import Phrase
from bilingual_chat.session.compare import ReplyEnd, ReplyPiece
from bilingual_chat.terminal.columns import MIN_LINES, Columns, Styled, column_width, columns_in_row, side_by_side
from bilingual_chat.terminal.display import DIM, MARKED, Display
from bilingual_chat.terminal.signals import interrupted_once
from bilingual_chat.text.conversation import FinishReason
from bilingual_chat.text.differences import Kind, differences
from bilingual_chat.text.sanitize import outward, outward_line

SETTLED_S = 0.3  # after a change of the screen's size, until the replies are drawn anew
_MARKS = {Kind.SAME: "{}", Kind.ADDED: "[{}]", Kind.OMITTED: "[-]"}


def show_comparison(
    display: Display, events: Generator[ReplyPiece | ReplyEnd, None, None], labels: Sequence[str]
) -> list[str]:
    """Show replies while they come; return their texts. Ctrl-C stops them all, and what was said stays."""
    view = _View(display, labels)
    finish = FinishReason.FAILED
    try:
        with interrupted_once(), closing(events):
            for event in events:
                display.doing(None)
                view.add(event)
    except KeyboardInterrupt:
        finish = FinishReason.INTERRUPTED
        raise
    finally:
        display.doing(None)
        view.close(finish)
    return view.texts


class _View:
    """State: the replies so far, how much of each is shown, and the row of replies that is being shown.

    A row is as many replies as stand side by side. Replies in later rows appear when the row before has ended.
    """

    def __init__(self, display: Display, labels: Sequence[str]) -> None:
        self.texts = ["" for _ in labels]
        self._display, self._labels = display, labels
        self._ends: dict[int, str] = {}  # the notes at the end of replies
        self._canvas = display.canvas
        self._changed_at = float("-inf")
        self._begin(0)

    def add(self, event: ReplyPiece | ReplyEnd) -> None:
        if isinstance(event, ReplyPiece):
            self.texts[event.index] += outward(event.text)
        else:
            self._ends[event.index] = self._note(event)
        self._show()

    def close(self, finish: FinishReason) -> None:
        """Show everything that is still to be shown of the rows begun. `finish`: why the others have not ended."""
        if not any(self.texts) and not self._ends:
            return
        self._changed_at = float("-inf")
        note = self._display.text(Phrase(f"finish.{finish.value}"))
        is_stopped = len(self._ends) < len(self.texts)
        for index in self._row if is_stopped else ():
            self._ends.setdefault(index, note)
        self._show(goes_on=not is_stopped)
        self._end_row()

    def _note(self, end: ReplyEnd) -> str:
        finish = Phrase(f"finish.{end.finish.value}")
        note = Phrase("compare.end", finish=finish, tokens=end.tokens, seconds=f"{end.seconds:.1f}")
        if end.same_as is not None:
            note = Phrase("compare.end-same", end=note, number=end.same_as + 1)
        return self._display.text(note)

    def _begin(self, first: int) -> None:
        """Begin the row of replies whose first is `first`."""
        count = len(self.texts)
        self._size = columns_in_row(count, self._canvas.columns) if self._has_columns else 1
        self._row = range(first, min(first + self._size, count))
        self._shown = dict.fromkeys(self._row, 0)
        self._noted: set[int] = set()
        self._columns: Columns | None = None
        self._is_begun = False

    @property
    def _has_columns(self) -> bool:
        return self._display.is_terminal and self._canvas.lines >= MIN_LINES

    def _begin_drawing(self) -> None:
        self._is_begun = True
        headings = [_heading(self._display, index, self._labels[index]) for index in self._row]
        if self._size == 1:
            self._display.begin_reply()
            self._display.say_text(headings[0])
        else:
            cells = column_width(self._size, self._canvas.columns)
            self._columns = Columns(self._display, len(headings), cells, self._canvas.lines)
            self._columns.add_headings(headings, DIM)

    def _show(self, *, goes_on: bool = True) -> None:
        if self._is_resizing():
            return
        while True:
            if not self._is_begun:
                self._begin_drawing()
            for index in self._row:
                self._show_rest(index)
            is_last = self._row.stop == len(self.texts)
            if is_last or not goes_on or not all(index in self._ends for index in self._row):
                return
            self._end_row()
            self._begin(self._row.stop)

    def _show_rest(self, index: int) -> None:
        """Show what is new of a reply."""
        text = self.texts[index][self._shown[index] :]
        self._shown[index] = len(self.texts[index])
        column = index - self._row.start
        if text and self._columns:
            self._columns.add(column, text)
        elif text:
            self._display.piece(text)
        if index in self._ends and index not in self._noted:
            self._noted.add(index)
            if self._columns:
                self._columns.end(column, self._ends[index], DIM)
            else:
                self._display.end_reply()
                self._display.say_text(self._ends[index])

    def _end_row(self) -> None:
        if self._columns:
            self._display.begin_line()
        elif self._is_begun:
            self._display.end_reply()
        self._is_begun, self._columns = False, None

    def _is_resizing(self) -> bool:
        """Return True while the screen changes. Afterwards draw all replies anew: their old lines have moved."""
        canvas = self._display.canvas
        if self._columns and canvas != self._canvas:
            self._canvas, self._changed_at = canvas, time.monotonic()
            self._end_row()
            self._begin(0)
        return time.monotonic() - self._changed_at < SETTLED_S


def show_differences(display: Display, texts: Sequence[str], labels: Sequence[str]) -> None:
    """Show replies with what differs from the first one marked, with and without colour."""
    first = outward(texts[0])
    marked = [[(first, "")], *(_marked(first, outward(text)) for text in texts[1:])]
    replies = [[(_heading(display, n, labels[n]) + "\n", DIM), *text] for n, text in enumerate(marked)]
    width = display.canvas.columns
    size = columns_in_row(len(replies), width) if display.is_terminal else 1
    for start in range(0, len(replies), size):
        row = replies[start : start + size]
        lines = side_by_side(row, column_width(size, width)) if display.is_terminal else row
        for line in lines:
            display.put_styled(line)
    display.say(Phrase("compare.marks"))


def _heading(display: Display, index: int, label: str) -> str:
    return outward_line(display.text(Phrase("compare.variant", number=index + 1, label=label)))


def _marked(first: str, text: str) -> list[Styled]:
    """Mark what differs; a gap only where nothing stands in place of what is missing."""
    marked = list[Styled]()
    for span, after in pairwise([*differences(first, text), None]):
        if span is not None and not (span.kind is Kind.OMITTED and after and after.kind is Kind.ADDED):
            marked.append((_MARKS[span.kind].format(span.text), "" if span.kind is Kind.SAME else MARKED))
    return marked

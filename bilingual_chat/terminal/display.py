"""What a person sees: the model's words on stdout, bchat's own on stderr. The only room that knows rich.

Everything from outside passes `untrusted` here, and is printed as plain text, never as markup. Output is
append-only, except that a word which turns out too long for its line moves down whole. rich writes to
screens; pipes and files get the bare text, and rich is not imported for them.
"""

from __future__ import annotations

import codecs
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from io import StringIO, TextIOWrapper
from typing import TYPE_CHECKING, Any, TextIO

from bilingual_chat import messages
from bilingual_chat.messages import Interface, Phrase
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.storage.sizes import format_bytes
from bilingual_chat.terminal.linebreak import Erase, LineBreaker, break_lines, count_cells
from bilingual_chat.text.sanitize import outward, outward_line

if TYPE_CHECKING:
    from rich.console import Console

    from bilingual_chat.hub.download import Progress

MIN_WIDTH = 10  # narrower screens are left to the terminal
MIN_LAST_COLUMN = 16  # cells; a table with less room for its last column is written as lines
GAP = "  "  # between columns
NOTE_INDENT = 4  # cells, of a note below its row
PROGRESS_S = 0.1  # between two looks of a download
DIM, RED = "dim", "red"

Row = tuple[str, ...]


class OutputLost(OSError):
    """What was asked for cannot be written to stdout. (That nobody reads it any more is BrokenPipeError.)"""


@contextmanager
def _to_stdout() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(error.errno, error.strerror) from error


def sentence(said: Phrase | BchatError, lang: str, interface: Interface = "shell") -> str:
    """A sentence of bchat's with what is foreign in it made visible, on one line each."""
    shown = {name: _shown(value, lang, interface) for name, value in said.values.items()}
    return messages.render(said.key, lang, interface, **shown)


def _shown(value: object, lang: str, interface: Interface) -> object:
    if isinstance(value, BchatError | Phrase):
        return sentence(value, lang, interface)
    return value if isinstance(value, int | float) else outward_line(str(value))


class Display:
    """Prints. State: where the reply that is being printed stands on its line, and how far a download is."""

    def __init__(self, lang: str = "en", *, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.lang = lang
        self.interface: Interface = "shell"  # "chat" during a chat: remedies differ
        self._out = _tolerant(out or sys.stdout)
        self._err = _tolerant(err or sys.stderr)
        self.is_terminal = _is_screen(self._out)
        self.is_dumb = _is_terminal(self._out) and not self.is_terminal  # somebody looks, and nothing can move
        self._breaker: LineBreaker | None = None  # None: the rest of the line is left to the terminal
        self._width = 0
        self._at_line_start = True
        self._download = _Download()

    @property
    def out(self) -> TextIO:
        """The stream of the model's words."""
        return self._out

    # -- the model's words ----------------------------------------------------------------------------

    def begin_reply(self) -> None:
        self._breaker = None
        self._at_line_start = True

    def piece(self, text: str) -> None:
        """Some more of a reply, on the screen when this returns."""
        text = outward(text)
        if not text:
            return
        with _to_stdout():
            if self.is_terminal:
                self._put_events(self._broken(text))
            else:
                self._out.write(text)
            self._at_line_start = text.endswith("\n")
            self._out.flush()

    def _put_events(self, events: list[str | Erase]) -> None:
        from rich.control import Control
        from rich.segment import ControlType

        for event in events:
            if isinstance(event, Erase):
                # A terminal that has just filled its last column is not where a backspace thinks it is.
                to_column = (ControlType.CURSOR_MOVE_TO_COLUMN, event.column)
                self._screen.control(Control(to_column, (ControlType.ERASE_IN_LINE, 0)))
            else:
                self._screen.out(event, end="", highlight=False)

    @cached_property
    def _screen(self) -> Console:
        """stdout, where it is a screen."""
        return _console(self._out)

    @cached_property
    def _err_screen(self) -> Console:
        return _console(self._err)

    def end_reply(self) -> None:
        """Leave the line; an empty reply leaves none behind."""
        if not self._at_line_start:
            with _to_stdout():
                self._out.write("\n")
                self._out.flush()
        self.begin_reply()

    def _broken(self, text: str) -> list[str | Erase]:
        """`text` in lines of the screen's width; a line begun at another width is left to the terminal."""
        width = _width(self._out)
        if self._breaker is not None and width == self._width:
            return self._breaker.push(text)
        begun = ""
        if not self._at_line_start:
            begun, newline, text = text.partition("\n")
            if not newline:
                self._breaker = None
                return [_untabbed(begun)]
            begun += newline
        self._width = width
        self._breaker = LineBreaker(width) if width >= MIN_WIDTH else None
        return [_untabbed(begun), *(self._breaker.push(text) if self._breaker else [_untabbed(text)])]

    # -- bchat's own ----------------------------------------------------------------------------------

    def say(self, said: Phrase | BchatError, *, is_error: bool = False) -> None:
        """A sentence; an error in red, anything else dim."""
        self._print(self.text(said), RED if is_error or isinstance(said, BchatError) else DIM)

    def show(self, text: str) -> None:
        """Text of any origin, as it is, except that it cannot act."""
        self._print(outward(text))

    def show_rows(self, rows: Iterable[Row]) -> None:
        """A table without lines; tabs between the columns where nobody looks at a screen."""
        _write_rows(rows, self._err)

    def text(self, said: Phrase | BchatError) -> str:
        """A sentence in the language that is spoken."""
        return sentence(said, self.lang, self.interface)

    def _print(self, text: str, style: str = "") -> None:
        if self._download.is_half_written:
            self._err.write("\n")
            self._download.is_half_written = False
        if _is_screen(self._err) and not style:  # without rich, whose import the first prompt would wait for
            width = _width(self._err)
            self._err.write("".join(line + "\n" for part in text.split("\n") for line in _lines(part, width)))
        elif _is_screen(self._err):
            self._print_styled(text, style)
        else:
            self._err.write(text + "\n")
        self._err.flush()

    def _print_styled(self, text: str, style: str) -> None:
        from rich.text import Text

        # The empty string is any value but "", so says https://no-color.org; dim is a colour to those who ask.
        style = "" if os.environ.get("NO_COLOR") else style
        width = _width(self._err)
        for line in (line for part in text.split("\n") for line in _lines(part, width)):
            self._err_screen.print(Text(line, style=style), soft_wrap=True)

    def progress(self, now: Progress) -> None:
        """Where a download stands: one line that changes on a screen, else a line for each tenth."""
        is_screen = _is_screen(self._err)
        if not self._download.is_news(now, each_tenth=not is_screen):
            return
        text = self.text(_progress_phrase(now))
        if is_screen:
            fitting = (_lines(text, _width(self._err) - 1) or [""])[0]
            self._download.is_half_written = now.done < now.size
            self._rewrite_line(fitting, end="" if self._download.is_half_written else "\n")
        else:
            self._err.write(text + "\n")
        self._err.flush()

    def doing(self, said: Phrase | None) -> None:
        """What is being done: one line that changes on a screen and goes with None, else a line each."""
        if _is_screen(self._err) and (said is not None or self._download.is_half_written):
            text = self.text(said) if said is not None else ""
            self._rewrite_line((_lines(text, _width(self._err) - 1) or [""])[0], end="")
            self._download.is_half_written = said is not None
        elif said is not None:
            self._err.write(self.text(said) + "\n")
        self._err.flush()

    def waiting(self, percent: int | None) -> None:
        """Say that the model is loading, with the percent loaded if known; 100 removes the line."""
        if percent == 100:
            self.doing(None)
        elif percent is None:
            self.doing(Phrase("chat.waiting"))
        elif self.is_terminal:  # elsewhere it would be a hundred lines
            self.doing(Phrase("chat.waiting-at", percent=percent))

    def reading(self, done: int, size: int) -> None:
        """How much of a long prompt the model has read, for whoever waits at a screen."""
        if _is_screen(self._err):
            self.doing(Phrase("chat.reading", percent=100 * done // size))

    def _rewrite_line(self, text: str, end: str) -> None:
        from rich.control import Control
        from rich.segment import ControlType

        self._err_screen.control(Control((ControlType.CURSOR_MOVE_TO_COLUMN, 0), (ControlType.ERASE_IN_LINE, 0)))
        self._err_screen.out(text, end=end, highlight=False)

    # -- what was asked for, on stdout -----------------------------------------------------------------

    def put(self, text: str) -> None:
        """Text of any origin."""
        self._put_out(outward(text) + "\n")

    def _put_out(self, text: str) -> None:
        with _to_stdout():
            self._out.write(text)
            self._out.flush()

    def has_room_for(self, text: str) -> bool:
        """Whether a line to type in that holds `text` leaves half of the screen to what stands above it."""
        columns, lines = _size(self._out)
        if len(text) > columns * lines:  # before a megabyte is counted
            return False
        width = max(1, columns - len("> "))
        return sum(max(1, -(-count_cells(line) // width)) for line in text.split("\n")) <= lines // 2

    def prompt(self, text: str) -> None:
        """What stands before the line that a person types."""
        self._put_out(outward(text))

    def put_rows(self, rows: Iterable[Row]) -> None:
        """As `show_rows`."""
        with _to_stdout():
            _write_rows(rows, self._out)

    def put_noted_rows(self, rows: Iterable[tuple[Row, str]]) -> None:
        """A table with a note to each row: below it on a screen, else as its last column."""
        noted = [(tuple(outward_line(cell) for cell in row), outward_line(note)) for row, note in rows]
        if _is_screen(self._out):
            lines = _noted_lines(noted, _width(self._out))
        else:
            lines = ["\t".join([*(cell.strip() for cell in row), note]) for row, note in noted]
        self._put_out("".join(f"{line}\n" for line in lines))

    def put_json(self, value: Any, *, indent: int | None = None) -> None:
        """JSON that reads back as `value`, although nothing in it can act; Japanese stays readable where it can."""
        is_utf8 = codecs.lookup(getattr(self._out, "encoding", None) or "utf-8").name == "utf-8"
        text = json.dumps(value, ensure_ascii=not is_utf8, indent=indent)
        self._put_out(_escaped(text) + "\n")


def _progress_phrase(now: Progress) -> Phrase:
    """The file and all of it; rate and time left where something comes over the network."""
    values = {"file_percent": 100 * now.file_done // max(now.file_size, 1), "percent": now.percent}
    where = Phrase("progress", file=now.file, size=format_bytes(now.size), **values)
    return Phrase("progress.rate", where=where, rate=f"{now.rate / 1e6:.1f}", left=now.time_left) if now.rate else where


class _Download:
    """How far a download is, and what of it was told."""

    def __init__(self) -> None:
        self.is_half_written = False  # its line is not ended
        self._told_at = 0.0
        self._tenths = -1

    def is_news(self, now: Progress, *, each_tenth: bool) -> bool:
        """Whether to tell it already."""
        at, tenths = time.monotonic(), 10 * now.done // max(now.size, 1)
        is_news = tenths != self._tenths if each_tenth else now.done >= now.size or at - self._told_at >= PROGRESS_S
        if is_news:
            self._told_at, self._tenths = at, tenths
        return is_news


# -- tables -------------------------------------------------------------------------------------------


def _write_rows(rows: Iterable[Row], file: TextIO) -> None:
    cleaned = [tuple(outward_line(cell) for cell in row) for row in rows]
    lines = laid_out(cleaned, _width(file)) if _is_screen(file) else ["\t".join(row) for row in cleaned]
    file.write("".join(line + "\n" for line in lines))
    file.flush()


def laid_out(rows: list[Row], width: int) -> list[str]:
    """The lines of a table on a screen of `width` cells: columns side by side, the last one broken.

    Where that leaves too little of the screen, each row is a line of its own, broken where it must be.
    """
    count = max((len(row) for row in rows), default=0)
    widths = [max(count_cells(row[column]) for row in rows if column < len(row)) for column in range(count)]
    indent = sum(widths[:-1]) + len(GAP) * (count - 1)
    if count and width - indent < min(MIN_LAST_COLUMN, widths[-1]):
        return [line for row in rows for line in _lines(GAP.join(filter(None, row)), width)]
    lines = []
    for row in rows:
        *before, last = (*row, *[""] * (count - len(row)))
        start = "".join(cell + " " * (widths[at] - count_cells(cell)) + GAP for at, cell in enumerate(before))
        first, *more = _lines(last, width - indent)
        lines += [(start + first).rstrip(" "), *(" " * indent + line for line in more)]
    return lines


def _noted_lines(rows: Sequence[tuple[Row, str]], width: int) -> list[str]:
    columns = max((len(row) for row, _ in rows), default=0)
    widths = [max(count_cells(row[at]) for row, _ in rows if at < len(row)) for at in range(columns)]
    indent = " " * NOTE_INDENT if width >= NOTE_INDENT + MIN_LAST_COLUMN else ""
    lines: list[str] = []
    for row, note in rows:
        line = GAP.join(cell + " " * (widths[at] - count_cells(cell)) for at, cell in enumerate(row))
        lines += _lines(line.rstrip(" "), width)
        lines += [indent + part for part in _lines(note, width - len(indent))]
    return lines


def _lines(text: str, width: int) -> list[str]:
    """One line of text in lines of the screen, at least one."""
    return [line.rstrip(" ") for line in break_lines(text, width)] if width >= MIN_WIDTH else [_untabbed(text)]


def _untabbed(text: str) -> str:
    """A tab at the end of a full line makes terminals write over its last character."""
    return text.replace("\t", " ")


def _escaped(text: str) -> str:
    """JSON text in which what `outward` would mark is an escape of JSON's: the same value, and harmless."""
    if outward(text) == text:
        return text
    return "".join(c if outward(c) == c else json.dumps(c)[1:-1] for c in text)


# -- the terminal -------------------------------------------------------------------------------------


def _is_terminal(file: TextIO) -> bool:
    try:
        return file.isatty()
    except ValueError:  # closed
        return False


def _is_screen(file: TextIO) -> bool:
    """Whether somebody looks at a terminal that can move its cursor."""
    return _is_terminal(file) and os.environ.get("TERM", "") not in ("dumb", "unknown")


def _console(file: TextIO) -> Console:
    """rich for a screen: no markup, no emoji names, no highlighting (quadratic on some text), nothing wrapped."""
    from rich.console import Console

    return Console(file=file, force_terminal=True, markup=False, emoji=False, highlight=False, soft_wrap=True)


def _size(file: TextIO) -> os.terminal_size:
    """The columns and lines of the screen that `file` is, at this moment."""
    try:
        size = os.get_terminal_size(file.fileno())
    except (OSError, ValueError):
        size = os.terminal_size((0, 0))
    return size if all(size) else shutil.get_terminal_size()


def _width(file: TextIO) -> int:
    return _size(file).columns


def _tolerant(file: TextIO | None) -> TextIO:
    """A stream that prints a replacement for what its encoding lacks; one that was closed swallows everything."""
    if file is None:
        return StringIO()
    if isinstance(file, TextIOWrapper):
        file.reconfigure(errors="replace")
    return file

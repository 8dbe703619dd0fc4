"""The screen: replies on stdout, bchat's own messages on stderr. The only file that knows rich.

All text passes `text.sanitize` and is printed without markup. Output is append-only, except that a word too long for
its line moves to the next. rich writes to screens only; it is not imported for pipes and files.
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
from dataclasses import dataclass
from functools import cached_property
from io import StringIO, TextIOWrapper
from typing import TYPE_CHECKING, Any, TextIO

from bilingual_chat import messages
from bilingual_chat.messages import Interface, Phrase
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.storage.sizes import format_bytes
from bilingual_chat.terminal.linebreak import Erase, LineBreaker, count_cells
from bilingual_chat.terminal.tables import MIN_WIDTH, Row, format_columns, format_noted_table, untabbed, wrap
from bilingual_chat.text.sanitize import outward, outward_line

if TYPE_CHECKING:
    from rich.console import Console

    from bilingual_chat.hub.download import Progress

PROGRESS_S = 0.1  # between two updates of the progress line
BOLD, DIM, RED, MARKED = "bold", "dim", "red", "bold magenta"


@dataclass(frozen=True)
class Canvas:
    """A screen at one time; it is another one after a resize, and after another program has used it."""

    columns: int
    lines: int
    resumed: int  # how often this process was resumed


class OutputLost(OSError):
    """stdout cannot be written, for a reason other than a closed pipe (BrokenPipeError)."""


@contextmanager
def _to_stdout() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(error.errno, error.strerror) from error


def sentence(said: Phrase | BchatError, lang: str, interface: Interface = "shell") -> str:
    """Render a message; control characters in its values become visible marks."""
    shown = {name: _shown(value, lang, interface) for name, value in said.values.items()}
    return messages.render(said.key, lang, interface, **shown)


def _shown(value: object, lang: str, interface: Interface) -> object:
    if isinstance(value, BchatError | Phrase):
        return sentence(value, lang, interface)
    return value if isinstance(value, int | float) else outward_line(str(value))


class Display:
    """Prints. State: the position of the reply on its line, and the progress line."""

    def __init__(self, lang: str = "en", *, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.lang = lang
        self.interface: Interface = "shell"  # "chat" during a chat: remedies differ
        self._out = _tolerant(out or sys.stdout)
        self._err = _tolerant(err or sys.stderr)
        self.is_terminal = _is_screen(self._out)
        self.is_dumb = _is_terminal(self._out) and not self.is_terminal  # a terminal that only prints
        self._breaker: LineBreaker | None = None  # None: the terminal wraps the rest of the line
        self._width = 0
        self._at_line_start = True
        self._progress_line = _ProgressLine()
        self._resumed = 0

    @property
    def canvas(self) -> Canvas:
        """The screen of replies as it is now."""
        return Canvas(*_size(self._out), self._resumed)

    def resume(self) -> None:
        """Go on after the process was suspended: another program has written to the screen."""
        self._resumed += 1
        self.begin_reply()

    @property
    def has_color(self) -> bool:
        """True if colours may be used. https://no-color.org: any value but the empty string disables them, dim too."""
        return self.is_terminal and not os.environ.get("NO_COLOR")

    @property
    def out(self) -> TextIO:
        """The stream of replies."""
        return self._out

    # -- replies on stdout ----------------------------------------------------------------------------

    def begin_reply(self) -> None:
        self._breaker = None
        self._at_line_start = True

    def piece(self, text: str) -> None:
        """Print the next piece of a reply, and flush it."""
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
                to_column = (ControlType.CURSOR_MOVE_TO_COLUMN, event.column)
                self._screen.control(Control(to_column, (ControlType.ERASE_IN_LINE, 0)))
            else:
                self._screen.out(event, end="", highlight=False)

    @cached_property
    def _screen(self) -> Console:
        """stdout, if it is a screen."""
        return _console(self._out)

    @cached_property
    def _err_screen(self) -> Console:
        return _console(self._err)

    def end_reply(self) -> None:
        """End the line, unless the reply was empty."""
        if not self._at_line_start:
            with _to_stdout():
                self._out.write("\n")
                self._out.flush()
        self.begin_reply()

    def begin_line(self) -> None:
        """Begin a line of columns."""
        self._put_out("\n")

    def draw_above(self, up: int, column: int, text: str, style: str = "") -> None:
        """See `terminal.columns.Canvas`."""
        from rich.control import Control
        from rich.segment import ControlType

        to_column = (ControlType.CURSOR_MOVE_TO_COLUMN, column)
        with _to_stdout(), self._screen:  # one write
            self._screen.control(Control((ControlType.CURSOR_UP, up), to_column) if up else Control(to_column))
            self._screen.out(text, end="", style=_style(style), highlight=False)
            if up:
                self._screen.control(Control((ControlType.CURSOR_DOWN, up)))
        self._out.flush()

    def _broken(self, text: str) -> list[str | Erase]:
        """Break `text` to the screen's width; the terminal wraps the rest of a line begun at another width."""
        width = _width(self._out)
        if self._breaker is not None and width == self._width:
            return self._breaker.push(text)
        begun = ""
        if not self._at_line_start:
            begun, newline, text = text.partition("\n")
            if not newline:
                self._breaker = None
                return [untabbed(begun)]
            begun += newline
        self._width = width
        self._breaker = LineBreaker(width) if width >= MIN_WIDTH else None
        return [untabbed(begun), *(self._breaker.push(text) if self._breaker else [untabbed(text)])]

    # -- bchat's messages on stderr ----------------------------------------------------------------------------------

    def say(self, said: Phrase | BchatError, *, is_error: bool = False) -> None:
        """Print a sentence: an error in red, others dim."""
        self._print(self.text(said), RED if is_error or isinstance(said, BchatError) else DIM)

    def say_text(self, text: str) -> None:
        """Print a sentence that is put together already."""
        self._print(outward(text), DIM)

    def show(self, text: str) -> None:
        """Print text of any origin with control characters made visible."""
        self._print(outward(text))

    def show_heading(self, said: Phrase) -> None:
        """Print the heading of a table."""
        self._print(self.text(said), BOLD)

    def show_rows(self, rows: Iterable[Row], per_line: int = 1) -> None:
        """Print a table, `per_line` rows side by side where they fit; off a screen, tabs separate the columns."""
        _write_rows(rows, self._err, per_line)

    def text(self, said: Phrase | BchatError) -> str:
        """Return a sentence in the current language."""
        return sentence(said, self.lang, self.interface)

    def _print(self, text: str, style: str = "") -> None:
        if self._progress_line.is_half_written:
            self._err.write("\n")
            self._progress_line.is_half_written = False
        if _is_screen(self._err) and not style:  # without rich, whose import would delay the first prompt
            width = _width(self._err)
            self._err.write("".join(line + "\n" for part in text.split("\n") for line in wrap(part, width)))
        elif _is_screen(self._err):
            self._print_styled(text, style)
        else:
            self._err.write(text + "\n")
        self._err.flush()

    def _print_styled(self, text: str, style: str) -> None:
        from rich.text import Text

        style = _style(style)
        width = _width(self._err)
        for line in (line for part in text.split("\n") for line in wrap(part, width)):
            self._err_screen.print(Text(line, style=style), soft_wrap=True)

    def progress(self, now: Progress) -> None:
        """Show the progress of a download: one changing line on a screen, else a line for each tenth."""
        is_screen = _is_screen(self._err)
        if not self._progress_line.is_news(now, each_tenth=not is_screen):
            return
        text = self.text(_progress_phrase(now))
        if is_screen:
            fitting = (wrap(text, _width(self._err) - 1) or [""])[0]
            self._progress_line.is_half_written = now.done < now.size
            self._rewrite_line(fitting, end="" if self._progress_line.is_half_written else "\n")
        else:
            self._err.write(text + "\n")
        self._err.flush()

    def doing(self, said: Phrase | None) -> None:
        """Show an activity: one changing line on a screen, which None removes; else a line for each."""
        if _is_screen(self._err) and (said is not None or self._progress_line.is_half_written):
            text = self.text(said) if said is not None else ""
            self._rewrite_line((wrap(text, _width(self._err) - 1) or [""])[0], end="")
            self._progress_line.is_half_written = said is not None
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
        """Show on a screen how much of a long prompt is prefilled."""
        if _is_screen(self._err):
            self.doing(Phrase("chat.reading", percent=100 * done // size))

    def _rewrite_line(self, text: str, end: str) -> None:
        from rich.control import Control
        from rich.segment import ControlType

        self._err_screen.control(Control((ControlType.CURSOR_MOVE_TO_COLUMN, 0), (ControlType.ERASE_IN_LINE, 0)))
        self._err_screen.out(text, end=end, highlight=False)

    # -- requested output on stdout -----------------------------------------------------------------

    def put(self, text: str) -> None:
        """Print text of any origin, and a newline."""
        self._put_out(outward(text) + "\n")

    def _put_out(self, text: str) -> None:
        with _to_stdout():
            self._out.write(text)
            self._out.flush()

    def put_styled(self, parts: Sequence[tuple[str, str]]) -> None:
        """Print styled parts of text, and a newline; off a screen without styles."""
        if not self.is_terminal:
            self.put("".join(text for text, _ in parts))
            return
        from rich.text import Text

        line = Text.assemble(*((outward(text), _style(style)) for text, style in parts))
        with _to_stdout():
            self._screen.print(line, soft_wrap=True)

    def has_room_for(self, text: str) -> bool:
        """Return True if a prompt with `text` takes at most half of the screen."""
        columns, lines = _size(self._out)
        if len(text) > columns * lines:  # cheap for a megabyte
            return False
        width = max(1, columns - len("> "))
        return sum(max(1, -(-count_cells(line) // width)) for line in text.split("\n")) <= lines // 2

    def prompt(self, text: str) -> None:
        """Print a prompt."""
        self._put_out(outward(text))

    def put_rows(self, rows: Iterable[Row]) -> None:
        """Print a table as `show_rows` does."""
        with _to_stdout():
            _write_rows(rows, self._out)

    def put_noted_rows(self, rows: Iterable[tuple[Row, str]]) -> None:
        """Print a table with a note for each row: below it on a screen, else as the last column."""
        noted = [(tuple(outward_line(cell) for cell in row), outward_line(note)) for row, note in rows]
        if _is_screen(self._out):
            lines = format_noted_table(noted, _width(self._out))
        else:
            lines = ["\t".join([*(cell.strip() for cell in row), note]) for row, note in noted]
        self._put_out("".join(f"{line}\n" for line in lines))

    def put_json(self, value: Any, *, indent: int | None = None) -> None:
        """Print `value` as JSON with control characters escaped; Japanese stays readable if the encoding has it."""
        is_utf8 = codecs.lookup(getattr(self._out, "encoding", None) or "utf-8").name == "utf-8"
        text = json.dumps(value, ensure_ascii=not is_utf8, indent=indent)
        self._put_out(_escaped(text) + "\n")


def _write_rows(rows: Iterable[Row], file: TextIO, per_line: int = 1) -> None:
    cleaned = [tuple(outward_line(cell) for cell in row) for row in rows]
    lines = format_columns(cleaned, _width(file), per_line) if _is_screen(file) else ["\t".join(row) for row in cleaned]
    file.write("".join(line + "\n" for line in lines))
    file.flush()


def _progress_phrase(now: Progress) -> Phrase:
    """Return the progress of the file and of the whole; with rate and time left while bytes arrive."""
    values = {"file_percent": 100 * now.file_done // max(now.file_size, 1), "percent": now.percent}
    where = Phrase("progress", file=now.file, size=format_bytes(now.size), **values)
    return Phrase("progress.rate", where=where, rate=f"{now.rate / 1e6:.1f}", left=now.time_left) if now.rate else where


class _ProgressLine:
    """The progress line. State: whether it stands unfinished on the screen, and the progress shown last."""

    def __init__(self) -> None:
        self.is_half_written = False  # it stands on the screen without a newline
        self._shown_at = 0.0
        self._tenths = -1

    def is_news(self, now: Progress, *, each_tenth: bool) -> bool:
        """Return True if `now` is worth showing."""
        at, tenths = time.monotonic(), 10 * now.done // max(now.size, 1)
        is_news = tenths != self._tenths if each_tenth else now.done >= now.size or at - self._shown_at >= PROGRESS_S
        if is_news:
            self._shown_at, self._tenths = at, tenths
        return is_news


def _escaped(text: str) -> str:
    """Escape in JSON text the characters that `outward` would mark; the value is the same."""
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
    """Return True for a terminal that can move its cursor."""
    return _is_terminal(file) and os.environ.get("TERM", "") not in ("dumb", "unknown")


def _style(style: str) -> str:
    """Return the style, or none. https://no-color.org: any value but the empty one disables colour, dim included."""
    return "" if os.environ.get("NO_COLOR") else style


def _console(file: TextIO) -> Console:
    """Return a rich console without markup, emoji names, highlighting (quadratic on some text) and wrapping."""
    from rich.console import Console

    return Console(file=file, force_terminal=True, markup=False, emoji=False, highlight=False, soft_wrap=True)


def _size(file: TextIO) -> os.terminal_size:
    """Return the present columns and lines of the screen `file`."""
    try:
        size = os.get_terminal_size(file.fileno())
    except (OSError, ValueError):
        size = os.terminal_size((0, 0))
    return size if all(size) else shutil.get_terminal_size()


def _width(file: TextIO) -> int:
    return _size(file).columns


def _tolerant(file: TextIO | None) -> TextIO:
    """Return a stream that replaces characters its encoding lacks; for a closed stream, one that discards."""
    if file is None:
        return StringIO()
    if isinstance(file, TextIOWrapper):
        file.reconfigure(errors="replace")
    return file

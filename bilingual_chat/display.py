"""What a person sees: the model's words on stdout, bchat's own on stderr. The only room that knows rich.

Everything from outside passes `untrusted` here, and nothing is ever read as markup. Output is
append-only, except that a word which turns out too long for its line moves down whole.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable
from io import TextIOWrapper
from typing import TextIO

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from bilingual_chat import messages
from bilingual_chat.errors import BchatError
from bilingual_chat.hub import Progress
from bilingual_chat.linebreak import Erase, LineBreaker, break_lines
from bilingual_chat.messages import Phrase
from bilingual_chat.untrusted import outward, outward_line

MIN_WIDTH = 10  # narrower screens are left to the terminal


def sentence(said: Phrase | BchatError, lang: str) -> str:
    """A sentence of bchat's with what is foreign in it made visible, on one line each."""
    return messages.render(said.key, lang, **{name: _shown(value, lang) for name, value in said.values.items()})


def _shown(value: object, lang: str) -> object:
    if isinstance(value, BchatError):
        return sentence(value, lang)
    if isinstance(value, Phrase):
        return sentence(value, lang)
    return value if isinstance(value, int | float) else outward_line(str(value))


class Display:
    """Prints. State: where the reply that is being printed stands on its line."""

    def __init__(self, lang: str = "en", *, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.lang = lang
        self._out_file = _tolerant(out or sys.stdout)
        self._err_file = _tolerant(err or sys.stderr)
        self._out = _console(self._out_file)
        self._err = _console(self._err_file)
        self.is_terminal = _is_screen(self._out_file)
        self._breaker: LineBreaker | None = None
        self._width = 0
        self._at_line_start = True
        self._download: tuple[float, int] | None = None
        self._tenths = -1

    # -- the model's words ----------------------------------------------------------------------------

    def begin_reply(self) -> None:
        self._breaker = None
        self._at_line_start = True

    def piece(self, text: str) -> None:
        """Some more of a reply, on the screen when this returns."""
        text = outward(text)
        if not text:
            return
        if not self.is_terminal:
            self._out_file.write(text)
        else:
            for event in self._broken(text):
                if isinstance(event, Erase):
                    self._out.control(
                        Control((ControlType.CURSOR_MOVE_TO_COLUMN, event.column), (ControlType.ERASE_IN_LINE, 0))
                    )
                else:
                    self._out.out(event, end="", highlight=False)
        self._at_line_start = text.endswith("\n")
        self._out_file.flush()

    def end_reply(self) -> None:
        """Leave the line; an empty reply leaves none behind."""
        if not self._at_line_start:
            self._out_file.write("\n")
            self._out_file.flush()
        self._at_line_start = True

    def _broken(self, text: str) -> list[str | Erase]:
        """`text` in lines of the screen's width; after a resize the rest of that line is left to the terminal."""
        width = shutil.get_terminal_size().columns
        if width < MIN_WIDTH:
            return [text]
        if self._breaker is None:
            self._breaker, self._width = LineBreaker(width), width
        elif width != self._width:
            head, newline, tail = text.partition("\n")
            if not newline:
                return [text]
            self._breaker, self._width = LineBreaker(width), width
            return [head + newline, *self._breaker.push(tail)]
        return self._breaker.push(text)

    # -- bchat's own ----------------------------------------------------------------------------------

    def say(self, said: Phrase | BchatError, *, is_error: bool = False) -> None:
        """A sentence; an error in red, anything else dim."""
        style = "red" if is_error or isinstance(said, BchatError) else "dim"
        self._print(sentence(said, self.lang), style)

    def show(self, text: str) -> None:
        """Text of any origin, as it is, except that it cannot act."""
        self._print(outward(text), "")

    def show_rows(self, rows: Iterable[tuple[str, ...]]) -> None:
        """A table without lines; tabs between the columns where nobody looks at a screen."""
        _print_rows(rows, self._err, self._err_file)

    def put_rows(self, rows: Iterable[tuple[str, ...]]) -> None:
        """The same on stdout: for commands whose output is what was asked for."""
        _print_rows(rows, self._out, self._out_file)

    def put(self, text: str) -> None:
        """Text of any origin on stdout."""
        self._out_file.write(outward(text) + "\n")
        self._out_file.flush()

    def progress(self, now: Progress) -> None:
        """Where a download stands: one line that changes on a screen, else a line for each tenth."""
        began, before = self._download or (time.monotonic(), now.done)
        self._download = began, before
        seconds = max(time.monotonic() - began, 1e-3)
        rate = (now.done - before) / seconds
        left = f"{(now.size - now.done) / rate:.0f} s" if rate > 0 else "–"
        percent = 100 * now.done // max(now.size, 1)
        values = {"percent": percent, "size": f"{now.size / 1e9:.2f}", "rate": f"{rate / 1e6:.1f}", "left": left}
        text = sentence(Phrase("progress", file=now.file, **values), self.lang)
        if _is_screen(self._err_file):
            self._err.control(Control((ControlType.CURSOR_MOVE_TO_COLUMN, 0), (ControlType.ERASE_IN_LINE, 2)))
            self._err.out(text, end="\n" if now.done >= now.size else "", highlight=False)
        elif percent // 10 != self._tenths:
            self._tenths = percent // 10
            self._err_file.write(text + "\n")
        self._err_file.flush()

    def _print(self, text: str, style: str) -> None:
        if _is_screen(self._err_file):
            width = shutil.get_terminal_size().columns
            lines = (
                [line for part in text.split("\n") for line in (break_lines(part, width) or [""])]
                if width >= MIN_WIDTH
                else text.split("\n")
            )
            for line in lines:
                self._err.print(Text(line, style=style, end=""), soft_wrap=True)
        else:
            self._err_file.write(text + "\n")
        self._err_file.flush()


def _print_rows(rows: Iterable[tuple[str, ...]], console: Console, file: TextIO) -> None:
    cleaned = [tuple(outward_line(cell) for cell in row) for row in rows]
    if not cleaned:
        return
    if not _is_screen(file):
        for row in cleaned:
            file.write("\t".join(row) + "\n")
        file.flush()
        return
    table = Table.grid(padding=(0, 2))
    for _ in range(max(map(len, cleaned))):
        table.add_column(overflow="fold")
    for row in cleaned:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _console(file: TextIO) -> Console:
    """A console that never interprets what it prints; colour only on a screen that wants it."""
    return Console(
        file=file, highlight=False, markup=False, emoji=False, legacy_windows=False if os.name != "nt" else None
    )


def _is_screen(file: TextIO) -> bool:
    """Whether somebody looks at a terminal that can move its cursor."""
    try:
        return file.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
    except ValueError:  # closed
        return False


def _tolerant(file: TextIO) -> TextIO:
    """A stream that prints a replacement for what its encoding lacks, instead of failing."""
    if isinstance(file, TextIOWrapper):
        file.reconfigure(errors="replace")
    return file

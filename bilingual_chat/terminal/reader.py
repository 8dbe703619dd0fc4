"""Reads lines without the line editor: from a pipe, or on a terminal that only prints."""

from __future__ import annotations

from collections.abc import Callable

from bilingual_chat.commands.app import App, Page
from bilingual_chat.terminal.display import Display
from bilingual_chat.terminal.standard_input import StandardInput
from bilingual_chat.text.sanitize import inward

MAX_LINE = 1_000_000  # characters of one line from a pipe


class PlainReader:
    """Reads the lines of a pipe or a file. It implements `Reader`; each line is a message or a command."""

    has_editor = False
    is_interactive = False

    def __init__(self, file: StandardInput) -> None:
        self._file = file

    def read(self, app: App, prefill: str = "") -> str:
        return self._read_line()

    def ask(self, question: str) -> str:
        return ""

    def flip(self, count: int, page: Callable[[int], str | Page], first: int, hint: str) -> int | None:
        return None

    def refresh(self) -> None:
        pass

    def put_aside(self, call: Callable[[], None]) -> None:
        pass

    def _read_line(self) -> str:
        line = self._file.readline(MAX_LINE)
        if not line:
            raise EOFError
        return inward(line).rstrip("\n")


class DumbReader(PlainReader):
    """Reads lines on a terminal that only prints, and that edits and echoes the line itself."""

    is_interactive = True

    def __init__(self, file: StandardInput, display: Display) -> None:
        super().__init__(file)
        self._display = display

    def read(self, app: App, prefill: str = "") -> str:
        """Read a line as the editor does, except that Ctrl-C never leaves: the line may not have been empty."""
        if prefill:  # the user sees it above the line, which cannot hold it
            self._display.show(prefill)
        while True:
            try:
                return self._read_after("> ")
            except KeyboardInterrupt:
                if prefill:
                    raise

    def ask(self, question: str) -> str:
        """Return the answer to a question of bchat's own; "" for Ctrl-C or Ctrl-D."""
        try:
            return self._read_after(question)
        except (EOFError, KeyboardInterrupt):
            return ""

    def _read_after(self, prompt: str) -> str:
        self._display.prompt(prompt)
        try:
            return self._read_line()
        except (EOFError, KeyboardInterrupt):
            self._display.prompt("\n")  # the next output must not stand behind the ^C
            raise

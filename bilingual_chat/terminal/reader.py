"""Where lines come from if not from the line editor: a pipe, or a terminal that only prints."""

from __future__ import annotations

from typing import Protocol, TextIO

from bilingual_chat.messages import Phrase
from bilingual_chat.terminal.display import Display
from bilingual_chat.text.sanitize import inward

MAX_LINE = 1_000_000  # characters of one line from a pipe


class Reader(Protocol):
    """Where lines come from. EOFError at the end."""

    def read(self, prefill: str = "") -> str: ...


class PlainReader:
    """Lines of a pipe or a file: each is a message or a command."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def read(self, prefill: str = "") -> str:
        line = rest = self._file.readline(MAX_LINE)
        if not line:
            raise EOFError
        while rest and not rest.endswith("\n"):  # what is beyond is no message of its own
            rest = self._file.readline(MAX_LINE)
        return inward(line).rstrip("\n")


class DumbReader(PlainReader):
    """Lines of a person at a terminal that only prints; it edits and echoes them itself."""

    def __init__(self, file: TextIO, display: Display) -> None:
        super().__init__(file)
        self._display = display

    def read(self, prefill: str = "") -> str:
        """As the line editor's, except that Ctrl-C never leaves: whether the line was empty nobody knows here."""
        if prefill:  # to be looked at, since it cannot stand in the line
            self._display.show(prefill)
        while True:
            try:
                return self._read_after("> ")
            except KeyboardInterrupt:
                if prefill:
                    raise

    def ask(self, question: Phrase) -> str:
        """The answer to a question of bchat's own; "" for Ctrl-C or Ctrl-D."""
        try:
            return self._read_after(self._display.text(question))
        except (EOFError, KeyboardInterrupt):
            return ""

    def _read_after(self, prompt: str) -> str:
        self._display.prompt(prompt)
        try:
            return super().read()
        except (EOFError, KeyboardInterrupt):
            self._display.prompt("\n")  # what comes next is not to stand behind the ^C
            raise

"""Terminals for tests: a pty with bchat and a user, or with a Display; pyte is the screen."""

from __future__ import annotations

import contextlib
import os
import re
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pyte

from bilingual_chat.transcript.journal import read_journal
from tests.runs import ROOT, scripted

PATIENCE_S = 20.0  # for what should take a fraction of it, on a busy machine
ENTER, CTRL_C, CTRL_D = "\r", "\x03", "\x04"
# Each would do something to a terminal, or to a library that reads markup.
HOSTILE = [
    "\x1b]52;c;ZXZpbA==\x07",  # the clipboard
    "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",  # a link
    "\x1b]0;evil title\x07",  # the title
    "\x1b[2J\x1b[H\x1b[31mred\x1b[?1049h\x1b[6n",  # CSI: clear, colour, alternate screen, a question
    '\x1bP$q"p\x1b\\\x1b[c',  # DCS
    "\x1bc",  # reset
    "\x9b2J\x9d0;evil\x9c\x90",  # C1
    "visible\rhidden",
    "abc\b\b\bxyz",
    "\x0e\x0f\x7f\x00\x07\x0b\x0c",
    "\u202egnp.exe\u202c\u2066x\u2069\u200b\ufeff\u2028",
    "[red]not red[/red] [/INST] :skull: [bold",
    "<b>&amp;</b> {name} %s",
    "\ud800 lone \udfff",
    "\U000e0041\U000e007f",
]
MIXED = (
    "これは日本語と English の混ざった文章です。「かぎ括弧」や、句読点。A-very-long-word-without-any-space-in-it ok。\n"
    "  indented, and a tab\there\n\n一二三四五六七八九十一二三四五六七八九十。x"
)


class Answering(pyte.Screen):
    """A screen that answers a request for the cursor's position."""

    def __init__(self, columns: int, lines: int, answer: Callable[[bytes], None]) -> None:
        super().__init__(columns, lines)
        self._answer = answer

    def write_process_input(self, data: str) -> None:
        self._answer(data.encode())


class Terminal:
    def __init__(self, command: list[str], *, columns: int = 80, rows: int = 40, **environment: str) -> None:
        env = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **environment}
        self.child = pexpect.spawn(command[0], command[1:], dimensions=(rows, columns), env=env, echo=True)
        self.child.delaybeforesend = None
        self.raw = b""
        self._lines: list[str] | None = None
        self.screen = Answering(columns, rows, self._write)
        self._stream = pyte.ByteStream(self.screen)

    def type(self, text: str) -> None:
        self._write(text.encode())

    def _write(self, data: bytes) -> None:
        os.write(self.child.child_fd, data)

    def listen(self, seconds: float = 0.02) -> bool:
        """Read the output; return False at the end of the program."""
        try:
            data = self.child.read_nonblocking(65536, timeout=seconds)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += data
        self._stream.feed(data)
        self._lines = None
        return True

    @property
    def lines(self) -> list[str]:
        """The lines of the screen, without the empty ones below."""
        if self._lines is None:  # pyte takes milliseconds for it
            self._lines = [line.rstrip() for line in self.screen.display]
            while self._lines and not self._lines[-1]:
                self._lines.pop()
        return self._lines

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, wanted: str | Callable[[str], bool], seconds: float = PATIENCE_S) -> None:
        """Wait until the text is on the screen."""
        is_there = wanted if callable(wanted) else lambda text: wanted in text
        until = time.monotonic() + seconds
        alive = True
        while not is_there(self.text):
            assert alive, f"{wanted} does not come:\n{self.text}"
            assert time.monotonic() < until, f"{wanted} does not come:\n{self.text}"
            alive = self.listen()

    def wait_for_raw(self, wanted: bytes, seconds: float = PATIENCE_S) -> None:
        until = time.monotonic() + seconds
        while wanted not in self.raw:
            assert self.listen(), f"{wanted!r} does not come:\n{self.text}"
            assert time.monotonic() < until, f"{wanted!r} does not come:\n{self.text}"

    def ask(self, line: str, wanted: str | Callable[[str], bool]) -> None:
        """Type a line, and wait for its answer and the next prompt."""
        self.type(line + ENTER)
        self.wait_for(wanted)
        self.wait_for(at_prompt)

    def quit(self) -> int:
        """Type Ctrl-D; return the exit status."""
        self.type(CTRL_D)
        return self.leave()

    def leave(self, seconds: float = PATIENCE_S) -> int:
        """Wait for the end; return the exit status as a shell reports it."""
        until = time.monotonic() + seconds
        while self.listen():
            assert time.monotonic() < until, f"it does not end:\n{self.text}"
        self.child.close()
        return self.child.exitstatus if self.child.signalstatus is None else 128 + self.child.signalstatus

    def close(self) -> int:
        """Close the window, as a user does; return the exit status of its program."""
        self.child.ptyproc.fileobj.close()
        self.child.closed = self.child.ptyproc.closed = self.child.ptyproc.terminated = True
        self.child.child_fd = self.child.ptyproc.fd = -1
        return os.waitstatus_to_exitcode(os.waitpid(self.child.pid, 0)[1])


# The kernel puts a terminal back by itself when the first process on it ends; so that is a shell here,
# which lives on after its Ctrl-C, and looks what bchat left.
_SHELL = """
cd "$1"; shift; trap : INT
stty -g > before
sh -c 'echo $$ > pid; exec "$@"' sh "$@"
status=$?
stty -g > after
exit $status
"""


def in_a_shell(directory: Path, command: list[str]) -> list[str]:
    """Run `command` in a shell that records its process id, and the terminal's modes before and after."""
    return ["sh", "-c", _SHELL, "sh", str(directory), *command]


def process_id(directory: Path) -> int:
    return int((directory / "pid").read_text())


def was_put_back(directory: Path) -> bool:
    """Return True if the terminal's modes are those from before."""
    return (directory / "before").read_text() == (directory / "after").read_text()


class Pty:
    """A screen that a Display writes to, without a process."""

    def __init__(self, columns: int, rows: int = 200) -> None:
        self._master, slave = os.openpty()
        self.file = open(slave, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.resize(columns)

    def resize(self, columns: int) -> None:
        self.read()
        termios.tcsetwinsize(self.file.fileno(), (self.screen.lines, columns))
        self.screen.resize(columns=columns)

    def read(self) -> None:
        """Feed the screen with the written bytes."""
        self.file.flush()
        os.set_blocking(self._master, False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._master, 65536):
                self.raw += data
                self._stream.feed(data)

    def see(self) -> str:
        """The whole text on the screen."""
        self.read()
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip("\n")

    def close(self) -> None:
        self.file.close()
        os.close(self._master)


@contextlib.contextmanager
def pty(columns: int) -> Iterator[Pty]:
    made = Pty(columns)
    try:
        yield made
    finally:
        made.close()


def is_loaded(text: str) -> bool:
    """Return True if the toolbar shows the used context."""
    return re.search(r"· \d+/\d+", text.rpartition("\n")[2]) is not None


def at_prompt(text: str) -> bool:
    return any(line == ">" for line in text.split("\n"))


def turns(home: Path) -> list[tuple[str, str, str]]:
    """The turns of the only journal: (user, reply, finish)."""
    (file,) = (home / ".local/share/bchat").glob("*.jsonl")
    return [(turn.user, turn.reply, turn.finish.value) for turn in read_journal(file).conversation.turns]


def begin(*arguments: str, columns: int = 80, noting: Path | None = None, **script: object) -> Terminal:
    """A chat at its prompt; `noting`: the file for the shell's record of the terminal."""
    command = scripted(*arguments, **script)
    terminal = Terminal(in_a_shell(noting, command) if noting else command, columns=columns)
    terminal.wait_for(at_prompt)
    return terminal


def unspaced(text: str) -> str:
    return "".join(text.split())

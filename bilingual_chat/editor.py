"""The line a person types: editing, history, completion, the toolbar. The only room that knows prompt_toolkit."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app_or_none
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition, completion_is_selected
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.styles import Style

from bilingual_chat import commands
from bilingual_chat.commands import COMMANDS, Desk
from bilingual_chat.messages import Phrase
from bilingual_chat.untrusted import inward, outward_line

REFRESH_S = 0.25  # how often the toolbar looks again, while a model loads
HISTORY_LIMIT = 2_000_000  # bytes of the history file that are read

# No colours of a theme: what the terminal has, and reverse video for the toolbar.
STYLE = Style.from_dict(
    {"bottom-toolbar": "noreverse", "bottom-toolbar.text": "", "prompt": "bold", "auto-suggestion": "ansibrightblack"}
)


class Editor:
    """Reads lines. `toolbar` gives the text of the bottom line, `busy` whether it may change by itself;
    `when_shown` is called once, when the first prompt is on the screen."""

    def __init__(
        self,
        desk: Desk,
        history_file: Path | None,
        toolbar: Callable[[], str],
        busy: Callable[[], bool],
        when_shown: Callable[[], None] = lambda: None,
    ) -> None:
        self._desk = desk
        self._busy = busy
        self._when_shown: Callable[[], None] | None = when_shown
        self._session: PromptSession[str] = PromptSession(
            history=SharedHistory(history_file) if history_file else None,
            auto_suggest=AutoSuggestFromHistory(),
            completer=CommandCompleter(desk),
            complete_while_typing=Condition(_typing_a_command),
            complete_in_thread=False,
            enable_history_search=False,
            multiline=True,
            prompt_continuation=lambda width, number, wrapped: " " * width,
            bottom_toolbar=lambda: FormattedText([("class:bottom-toolbar.text", toolbar())]),
            key_bindings=_key_bindings(),
            style=STYLE,
            refresh_interval=REFRESH_S,
            reserve_space_for_menu=6,
            mouse_support=False,
        )

    def read(self, prefill: str = "") -> str:
        """One message or command, several lines perhaps.

        EOFError for Ctrl-D; KeyboardInterrupt for Ctrl-C on an empty line.
        """
        refresh = REFRESH_S if self._busy() else 0
        return inward(
            self._session.prompt("> ", default=prefill, refresh_interval=refresh, pre_run=self._after_first_paint)
        )

    def ask(self, question: Phrase) -> str:
        """The answer to a question of bchat's own; "" for Ctrl-C or Ctrl-D."""
        plain: PromptSession[str] = PromptSession()
        try:
            return plain.prompt(outward_line(self._desk.text(question)))
        except (EOFError, KeyboardInterrupt):
            return ""

    def _after_first_paint(self) -> None:
        """What takes the processor for itself (importing torch) starts when the prompt is on the screen."""
        when_shown, self._when_shown = self._when_shown, None
        if when_shown is not None and (loop := self._session.app.loop) is not None:
            loop.call_later(0.01, when_shown)

    def is_reading(self) -> bool:
        return self._session.app.is_running

    def leave(self, error: BaseException) -> None:
        """End `read` with `error` from a signal handler; terminal modes are put back on the way."""
        app = self._session.app
        if app.loop is not None:
            app.loop.call_soon_threadsafe(lambda: app.exit(exception=error))


@contextmanager
def quiet_keys() -> Iterator[None]:
    """Keys typed while a reply is printed wait for the next line instead of being mixed into it."""
    try:
        import sys
        import termios

        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
    except (ImportError, OSError, ValueError):  # Windows, or no terminal
        yield
        return
    quiet = [*before]
    quiet[0] &= ~termios.ICRNL  # Return stays what the line editor takes for Return
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(fd, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        with suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSANOW, before)


def _typing_a_command() -> bool:
    app = get_app_or_none()
    return app is not None and commands.is_command(app.current_buffer.text)


def _key_bindings() -> KeyBindings:
    keys = KeyBindings()

    @keys.add(Keys.Enter, filter=~completion_is_selected)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add(Keys.Enter, filter=completion_is_selected)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.complete_state = None

    @keys.add(Keys.Escape, Keys.Enter)
    @keys.add(Keys.ControlJ)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add(Keys.ControlC)
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.text:
            buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt(), style="class:aborting")

    return keys


class CommandCompleter(Completer):
    """Commands and their arguments, each with its description; words of a message are left alone."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        line = document.text_before_cursor
        if not commands.is_command(line) or "\n" in line:
            return
        name, space, argument = line[1:].replace("　", " ").partition(" ")
        if not space:
            yield from _matching(commands.folded(name).lower(), len(name), self._commands())
            return
        command = next((c for c in COMMANDS if commands.folded(name).lower() in (c.name, *c.aliases)), None)
        if command is None or command.choices is None:
            return
        if isinstance(command.choices, str):
            yield from self._paths.get_completions(Document(argument, len(argument)), complete_event)
            return
        last = argument.rsplit(" ", 1)[-1]
        yield from _matching(last, len(last), command.choices(self._desk, argument))

    def _commands(self) -> Iterable[tuple[str, str]]:
        return [(command.name, self._desk.text(command.description)) for command in COMMANDS]


def _matching(typed: str, length: int, choices: Iterable[tuple[str, str]]) -> Iterable[Completion]:
    for text, remark in choices:
        if text.startswith(typed):
            yield Completion(text, start_position=-length, display_meta=outward_line(remark))


class SharedHistory(History):
    """Lines typed before, in a file that several bchats may write: each entry is one locked append, mode 0600.

    The format is prompt_toolkit's own (`FileHistory`): "+" before each line of an entry.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._guard = threading.Lock()

    def load_history_strings(self) -> Iterable[str]:
        try:
            with self._path.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - HISTORY_LIMIT))
                data = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        entries: list[str] = []
        lines: list[str] = []
        for line in [*data.split("\n"), ""]:
            if line.startswith("+"):
                lines.append(line[1:])
            elif lines:
                entries.append("\n".join(lines))
                lines = []
        return reversed(entries)

    def store_string(self, string: str) -> None:
        entry = "\n" + "".join(f"+{line}\n" for line in string.split("\n"))
        # A line history is a convenience: where it cannot be written, the chat goes on without a word.
        with self._guard, suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                with _locked(fd):
                    os.write(fd, inward(entry).encode())
            finally:
                os.close(fd)


@contextmanager
def _locked(fd: int) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows: O_APPEND alone
        yield
        return
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)

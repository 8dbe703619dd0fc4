"""The line editor: keys, history, completion, toolbar. The only room that knows prompt_toolkit."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application, get_app, run_in_terminal
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, completion_is_selected, has_focus
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent, merge_key_bindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout.screen import Char
from prompt_toolkit.output import Output
from prompt_toolkit.styles import Style

from bilingual_chat.commands import table
from bilingual_chat.commands.app import App, Command, Page
from bilingual_chat.commands.arguments import folded
from bilingual_chat.commands.table import COMMANDS
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.terminal.editor.graphemes import grapheme_keys, grapheme_output, use_graphemes
from bilingual_chat.terminal.editor.history import SharedHistory
from bilingual_chat.terminal.editor.pages import Pages
from bilingual_chat.terminal.editor.rewrap import erase_rewrapped_draft
from bilingual_chat.terminal.editor.typeahead import feed_typed_ahead, signal_keys, typed_ahead_kept, typed_ahead_keys
from bilingual_chat.terminal.keyboard import KEYBOARD
from bilingual_chat.terminal.signals import wait_for_foreground
from bilingual_chat.terminal.toolbar import Toolbar
from bilingual_chat.text.encodings import has_undecoded_bytes
from bilingual_chat.text.sanitize import MARKS, inward, outward_line

REFRESH_S = 0.25  # between two redraws of the toolbar while it may change
BETWEEN_S = 0.5  # at most, from the last news to the next prompt
SETTLED_S = 0.01  # from the first paint to the loading of the model

# The colours of the terminal, not of a theme.
STYLE = Style.from_dict(
    {"bottom-toolbar": "noreverse", "bottom-toolbar.text": "", "prompt": "bold", "auto-suggestion": "ansibrightblack"}
)
# Control characters are shown as marks in the line, as they are in a reply.
Char.display_mappings.update(MARKS)


class Editor:
    """The line editor. It implements `Reader`. State: the chat whose line is being read."""

    has_editor = True
    is_interactive = True

    def __init__(self, history_file: Path | None, *, keys: Input | None = None, screen: Output | None = None) -> None:
        self._keys, self._screen = keys, screen or grapheme_output()
        self._app: App | None = None
        self._is_prefilled = False
        self._history = SharedHistory(history_file)
        self._session: PromptSession[str] = PromptSession(
            history=self._history,
            auto_suggest=AutoSuggestFromHistory(),
            complete_while_typing=Condition(lambda: table.is_command(get_app().current_buffer.text)),
            multiline=True,
            prompt_continuation=lambda width, number, wrapped: " " * width,
            key_bindings=merge_key_bindings([grapheme_keys(), self._key_bindings()]),
            style=STYLE,
            reserve_space_for_menu=6,
            input=keys,
            output=self._screen,
        )
        use_graphemes(self._session)
        erase_rewrapped_draft(self._session.app)
        self._session.default_buffer.on_text_changed += self._report_typed
        self._active: Application[Any] = self._session.app

    def read(self, app: App, prefill: str = "") -> str:
        """Read one message or command, of one or more lines, without trailing newlines.

        EOFError for Ctrl-D; KeyboardInterrupt for Ctrl-C on an empty line, and on one that began as `prefill`.
        """
        self._app, self._is_prefilled = app, bool(prefill)
        toolbar = Toolbar(app)
        wait_for_foreground()
        feed_typed_ahead(self._session.app.input)
        try:
            text = self._session.prompt(
                "> ",
                default=prefill,
                completer=CommandCompleter(app),
                bottom_toolbar=lambda: FormattedText(
                    [("class:bottom-toolbar.text", toolbar.text(get_app().output.get_size().columns))]
                ),
                refresh_interval=REFRESH_S if app.is_busy else 0,
                pre_run=self._load_after_first_paint,
            )
        finally:
            KEYBOARD.hold_again()
        if has_undecoded_bytes(text):
            raise BchatError("encoding.terminal", status=ExitStatus.DATA)
        return inward(text).rstrip("\n")

    def ask(self, question: str) -> str:
        """Return the answer to a question; "" for Ctrl-C or Ctrl-D. Keys typed ahead do not answer it."""
        bindings = merge_key_bindings([grapheme_keys(), signal_keys()])
        session: PromptSession[str] = PromptSession(key_bindings=bindings, input=self._keys, output=self._screen)
        use_graphemes(session)
        try:
            with self._instead_of_line(session.app):
                return inward(session.prompt(outward_line(question)))
        except (EOFError, KeyboardInterrupt):
            return ""

    def flip(self, count: int, page: Callable[[int], str | Page], first: int, hint: str) -> int | None:
        """Let the user flip through pages; see `Reader.flip`. Keys typed ahead do not flip them."""
        application = Pages(count, page, first, hint).application(self._keys, self._screen)
        with self._instead_of_line(application):
            return application.run()

    @contextmanager
    def _instead_of_line(self, application: Application[Any]) -> Iterator[None]:
        """Direct signals to `application`, and keep the keys typed ahead for the next line."""
        self._active = application
        try:
            with typed_ahead_kept(self._session.app.input):
                yield
        finally:
            self._active = self._session.app
            KEYBOARD.hold_again()

    def is_reading(self) -> bool:
        return self._active.is_running

    def refresh(self) -> None:
        """Redraw the toolbar. Any thread may call this."""
        self._session.app.invalidate()

    def put_aside(self, call: Callable[[], None]) -> None:
        """Call `call` with the line put aside, if one is being read. Any thread may call this."""
        until = time.monotonic() + BETWEEN_S  # a line may be about to be read
        while not self._session.app.is_running and time.monotonic() < until:
            time.sleep(BETWEEN_S / 10)
        loop = self._session.app.loop
        if self._session.app.is_running and loop is not None:
            loop.call_soon_threadsafe(lambda: run_in_terminal(call))

    def leave(self, error: BaseException) -> None:
        """End `read` or `ask` with `error`, from a signal handler; prompt_toolkit restores the terminal modes."""
        app = self._active

        def end() -> None:
            if app.is_running and app.future is not None and not app.future.done():
                app.exit(exception=error)

        self._between_events(end)

    def between_keys(self, call: Callable[[], None]) -> None:
        """Call `call`, from a signal handler, between two keys and with the line erased."""
        app = self._active

        def erase_and_call() -> None:
            app.renderer.erase()
            call()

        self._between_events(erase_and_call)

    def draw_again(self) -> None:
        """Redraw after the process was suspended: another program has used the terminal."""
        app = self._active

        def draw() -> None:
            if app.is_running:
                KEYBOARD.hold_again()
                with suppress(Exception):  # suspended again: the next SIGCONT repeats this
                    app.input.raw_mode().__enter__()
                app.renderer.reset()
                app.renderer.request_absolute_cursor_position()
                app.key_processor.feed_multiple(typed_ahead_keys(app.input))
                app.key_processor.process_keys()
                app.invalidate()

        self._between_events(draw)

    def _between_events(self, call: Callable[[], None]) -> None:
        if (loop := self._active.loop) is not None:
            loop.call_soon_threadsafe(call)

    def _report_typed(self, buffer: Buffer) -> None:
        if self._app is not None:
            self._app.prefetch.typed(None if table.is_command(buffer.text) else buffer.text)

    def _load_after_first_paint(self) -> None:
        """Load the model once the prompt is on the screen: importing torch takes the processor for itself."""
        if self._app is not None and (loop := self._session.app.loop) is not None:
            loop.call_later(SETTLED_S, self._app.loader.start)

    def _key_bindings(self) -> KeyBindings:
        keys = signal_keys()
        in_line = has_focus(DEFAULT_BUFFER)  # not in the search line

        @keys.add(Keys.Enter, filter=in_line & ~completion_is_selected)
        def _(event: KeyPressEvent) -> None:
            self._history.keep_drafts(event.current_buffer, sent=event.current_buffer.text)
            event.current_buffer.validate_and_handle()

        @keys.add(Keys.Enter, filter=in_line & completion_is_selected)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.complete_state = None

        @keys.add(Keys.Escape, Keys.Enter, filter=in_line)
        @keys.add(Keys.ControlJ, filter=in_line)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add(Keys.ControlC, filter=in_line)
        def _(event: KeyPressEvent) -> None:
            self._history.keep_drafts(event.current_buffer)
            if event.current_buffer.text and not self._is_prefilled:
                self._history.begin_line(event.current_buffer, event.app)
                self._report_typed(event.current_buffer)
            else:
                event.app.exit(exception=KeyboardInterrupt(), style="class:aborting")

        return keys


# -- completion ---------------------------------------------------------------------------------------


class CommandCompleter(Completer):
    """Completes commands and their arguments, each with a description; never words of a message."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._paths = PathCompleter(expanduser=True)
        self._offered: dict[str, list[tuple[str, str]]] = {}  # presets, models, conversations: looked up once a line

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        line = document.text_before_cursor
        if not table.is_command(line) or "\n" in line:
            return
        parts = re.fullmatch(r"(\S*)(\s+)?(.*)", line.lstrip()[1:])
        assert parts is not None
        name, space, argument = parts.groups()
        if not space:
            listed = [(command.name, self._app.text(command.description)) for command in COMMANDS]
            yield from _matching(name, listed)
            return
        # On an error nothing is offered; running the command reports it.
        with suppress(BchatError, OSError, ValueError):
            command = table.find(folded(name).lower())
            if command.choices == "file":
                yield from self._files(argument, complete_event)
            else:
                yield from self._arguments(command, argument)

    def _arguments(self, command: Command, argument: str) -> Iterator[Completion]:
        if command.choices is None or isinstance(command.choices, str):
            return
        if command.name not in self._offered:
            self._offered[command.name] = list(command.choices(self._app, argument))
        *_, before, last = ["", *re.split(r"[\s,、，]" if command.takes_several else r"\s", argument)]
        choices = self._offered[command.name]
        if command.takes_several or before not in [choice for choice, _ in choices]:  # after a setting comes its value
            yield from _matching(last, choices)

    def _files(self, argument: str, event: CompleteEvent) -> Iterator[Completion]:
        for found in self._paths.get_completions(Document(argument, len(argument)), event):
            yield Completion(found.text, found.start_position, display=outward_line(found.display_text))


def _matching(typed: str, choices: Iterable[tuple[str, str]]) -> Iterator[Completion]:
    wanted = folded(typed).lower()
    for text, remark in choices:
        if text.lower().startswith(wanted):
            yield Completion(text, -len(typed), display=outward_line(text), display_meta=outward_line(remark))

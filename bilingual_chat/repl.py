"""The chat: read a line, do it, show what comes. With a line editor on a terminal, or plainly from a pipe."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Protocol, TextIO

from bilingual_chat import commands
from bilingual_chat.catalogue import ModelEntry
from bilingual_chat.commands import Desk, Edit, Leave, Retry, Say
from bilingual_chat.decoding import RANGES
from bilingual_chat.display import Display
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.messages import Phrase
from bilingual_chat.session import Event, Model, open_model
from bilingual_chat.untrusted import inward, outward_line

if TYPE_CHECKING:
    from bilingual_chat.editor import Editor

MAX_LINE = 1_000_000  # characters of one line from a pipe


class Terminated(BaseException):
    """SIGTERM or SIGHUP: close the conversation and go."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


class Loader:
    """Opens a model in a thread of its own, so that the prompt takes keys meanwhile."""

    def __init__(self, entry: ModelEntry, open_it: Callable[[ModelEntry], Model] = open_model) -> None:
        self._done = threading.Event()
        self._model: Model | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._open, args=(entry, open_it), name="load", daemon=True)

    def start(self) -> None:
        if not self._thread.is_alive() and not self._done.is_set():
            self._thread.start()

    def _open(self, entry: ModelEntry, open_it: Callable[[ModelEntry], Model]) -> None:
        try:
            self._model = open_it(entry)
        except BaseException as error:
            self._error = error
        finally:
            self._done.set()

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    @property
    def model(self) -> Model | None:
        """The model, if it is there already."""
        return self._model

    def wait(self) -> Model:
        """The model; waits for it, Ctrl-C ends the waiting. Raises what went wrong while opening."""
        self.start()
        while not self._done.wait(0.1):
            pass
        if self._error is not None:
            raise self._error
        assert self._model is not None
        return self._model


class Reader(Protocol):
    """Where lines come from. EOFError at the end."""

    def read(self, prefill: str = "") -> str: ...


class PlainReader:
    """Lines of a pipe or a file: each is a message or a command."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def read(self, prefill: str = "") -> str:
        line = self._file.readline(MAX_LINE)
        if not line:
            raise EOFError
        return inward(line).rstrip("\n")


class Chat:
    """The loop. State: which model is loading, and what the line editor is to start with."""

    def __init__(self, desk: Desk, display: Display, loader: Loader) -> None:
        self.desk = desk
        self._display = display
        self._loader = loader
        self._prefill = ""
        self._replaces_last = False
        self._used: tuple[object, int] = (None, 0)

    def run(self, reader: Reader, *, interactive: bool) -> int:
        """Until the person leaves; the exit status. Without a person, the first error that stops a reply counts."""
        status = int(ExitStatus.OK)
        interrupts = 0
        try:
            while True:
                prefill, self._prefill = self._prefill, ""
                try:
                    line = reader.read(prefill)
                except KeyboardInterrupt:
                    self._replaces_last = False
                    interrupts += 1
                    if not interactive or interrupts == 2:
                        return ExitStatus.INTERRUPTED
                    self._display.say(Phrase("chat.how-to-leave"))
                    continue
                except EOFError:
                    return status
                interrupts = 0
                try:
                    if not self.handle(line):
                        return status
                except BchatError as error:
                    self._display.say(error)
                    status = status if interactive else status or int(error.status)
        finally:
            self._close()

    def handle(self, line: str) -> bool:
        """Do one line; False when it ends the chat. Raises BchatError; the chat goes on after it."""
        if not line.strip():
            self._replaces_last = False
            return True
        if commands.is_command(line):
            action = commands.execute(line, self.desk)
            self._display.lang = self.desk.lang
        else:
            action = Say(commands.message_of(line))
        replaces, self._replaces_last = self._replaces_last, False
        if isinstance(action, Leave):
            return False
        if isinstance(action, Edit):
            self._prefill, self._replaces_last = action.text, action.replaces_last
        elif isinstance(action, Retry):
            self._speak(self.desk.session.retry(action.changes))
        elif isinstance(action, Say):
            self._speak(self._said_again(action.text) if replaces else self.desk.session.reply(action.text))
        return True

    def _said_again(self, text: str) -> Generator[Event, None, None]:
        """An edited message: the old turn goes only when the new one is sent."""
        self.desk.session.take_back()
        yield from self.desk.session.reply(text)

    def _speak(self, events: Generator[Event, None, None]) -> None:
        """Show a reply as it comes. Ctrl-C stops it within a token; what was said is kept."""
        if not self._loader.is_done:
            self._display.say(Phrase("chat.waiting"))
        self._display.begin_reply()
        try:
            with closing(events), quiet_keys(self._display.is_terminal):
                for event in events:
                    if isinstance(event, str):
                        self._display.piece(event)
                    else:
                        self._display.end_reply()
                        self._display.say(event)
        except KeyboardInterrupt:
            self._display.end_reply()
            if not self._loader.is_done:
                raise
            self._display.say(Phrase("chat.stopped"))
        finally:
            self._display.end_reply()

    def load(self, entry: ModelEntry) -> Callable[[], Model]:
        """Begin to open another model; for `Desk.load`."""
        self._loader = Loader(entry)
        self._loader.start()
        return self._loader.wait

    def model_ready(self) -> Model | None:
        return self._loader.model

    def is_loading(self) -> bool:
        return not self._loader.is_done

    def toolbar(self) -> str:
        """Model, preset, what differs from it, context, speed: the bottom line of the terminal."""
        session = self.desk.session
        text = self.desk.text
        parts = [session.entry.name]
        if not self._loader.is_done:
            parts.append(text(Phrase("toolbar.loading")))
        elif self._loader.model is None:
            parts.append(text(Phrase("toolbar.failed")))
        changed = [
            f"{name}={getattr(session.settings.parameters, name)}"
            for name in RANGES
            if session.settings.provenance[name] == "session"
        ]
        parts.append(" ".join([session.settings.preset, *changed]))
        if model := self._loader.model:
            parts.append(f"{self._context_used(model)}/{model.context_length}")
        if session.last and session.last.tokens_per_second:
            parts.append(f"{session.last.tokens_per_second:.0f} tok/s")
        if session.conversation.turns and not session.is_saved:
            parts.append(text(Phrase("toolbar.unsaved")))
        return outward_line(" · ".join(part for part in parts if part))

    def _context_used(self, model: Model) -> int:
        """Counted once for each state of the conversation: the toolbar is drawn at every key."""
        state = (self.desk.session.conversation, model)
        if self._used[0] != state:
            self._used = (state, self.desk.session.context_used(model))
        return self._used[1]

    def _close(self) -> None:
        try:
            self.desk.session.close()
        except BchatError as error:
            self._display.say(error)


@contextmanager
def quiet_keys(wanted: bool) -> Iterator[None]:
    """See `editor.quiet_keys`; nothing where no keys are read."""
    if not wanted or "bilingual_chat.editor" not in sys.modules:
        yield
        return
    from bilingual_chat import editor

    with editor.quiet_keys():
        yield


@contextmanager
def signals_end_the_chat(editor: Editor | None) -> Iterator[None]:
    """SIGTERM and SIGHUP close the conversation and put the terminal back before the process ends."""

    def end(number: int, frame: FrameType | None) -> None:
        if editor is not None and editor.is_reading():
            editor.leave(Terminated(number))
        else:
            raise Terminated(number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {}
    with suppress(ValueError):  # not the main thread, in a test
        before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

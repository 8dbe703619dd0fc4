"""The chat: read a line, do it, show what comes. With a line editor on a terminal, or plainly from a pipe."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, nullcontext

from bilingual_chat.commands import models, table
from bilingual_chat.commands.app import App, Compare, Edit, Leave, Retry, Say
from bilingual_chat.engines.torch_preload import load_library
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.compare import compare
from bilingual_chat.session.model import Model, OpenOptions, open_model
from bilingual_chat.session.prefetch import PromptPrefetch
from bilingual_chat.session.session import Event
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.config import DEFAULT, Settings
from bilingual_chat.settings.decoding import RANGES
from bilingual_chat.terminal.display import Display
from bilingual_chat.terminal.linebreak import count_cells
from bilingual_chat.terminal.reader import Reader
from bilingual_chat.terminal.signals import interrupted_once
from bilingual_chat.text.sanitize import outward_line

SWITCH_S = 0.0005  # after which a thread lets another have Python's lock; 0.005 as Python starts
THREAD = "bchat loads a model"


Open = Callable[[ModelEntry], Model]


class ModelLoader:
    """Opens a model in a thread of its own, so that the prompt takes keys meanwhile."""

    def __init__(self, entry: ModelEntry, open_it: Open | None = None, opening: OpenOptions | None = None) -> None:
        self.opening = opening
        self.percent: int | None = None  # of the weights that are verified or converted, while that goes on
        self.tell: Callable[[int], None] = lambda percent: None  # called with `percent` while one waits
        self.when_done: Callable[[], None] = lambda: None
        self._done = threading.Event()
        self._model: Model | None = None
        self._error: BchatError | None = None
        self._thread = threading.Thread(
            target=self._open, args=(entry, open_it or self._open_behind), name=THREAD, daemon=True
        )

    def start(self) -> None:
        if not self._thread.is_alive() and not self._done.is_set():
            self._thread.start()

    def _progress(self, done: int, size: int) -> None:
        self.percent = 100 * done // max(size, 1)

    def _open_behind(self, entry: ModelEntry) -> Model:
        """`open_model` in a thread, so that keys keep their echo meanwhile."""
        load_library()
        return open_model(entry, self.opening, self._progress)

    def _open(self, entry: ModelEntry, open_it: Open) -> None:
        try:
            with keys_first():
                self._model = open_it(entry)
        except BchatError as error:
            self._error = error
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            self._error = BchatError("chat.not-loaded", status=ExitStatus.MODEL, name=entry.name, reason=reason)
            self._error.__cause__ = error
        finally:
            self._done.set()
            self.when_done()

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    @property
    def model(self) -> Model | None:
        """The model, if it is there already."""
        return self._model

    def wait(self) -> Model:
        """The model; waits for it, Ctrl-C ends the waiting. Raises BchatError when it could not be opened."""
        self.start()
        told = None
        while not self._done.wait(0.1):
            if self.percent is not None and self.percent != told:
                told = self.percent
                self.tell(told)
        if self._error is not None:
            raise self._error
        assert self._model is not None
        return self._model


def is_a_model_loading() -> bool:
    """Whether a thread is inside a load that nobody waits for any more."""
    return any(thread.name == THREAD for thread in threading.enumerate())


@contextmanager
def keys_first() -> Iterator[None]:
    """While a thread imports torch and reads a model, the prompt comes first.

    Measured on two busy cores: the longest that a key waited for its echo went from 300–640 ms to
    30–60 ms. (The rest of it is `engines.preload`.)
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    gc.disable()  # a full collection among torch's objects stops everything for 50–90 ms
    try:
        yield
    finally:
        gc.freeze()  # nor may the first collection afterwards look at them all: 200 ms
        gc.enable()
        sys.setswitchinterval(usual)


class Chat:
    """The loop. State: which model is loading, and what the line editor is to start with."""

    def __init__(self, app: App, display: Display, loader: ModelLoader) -> None:
        self.app = app
        self._display = display
        self._loader = loader
        self._has_editor = False
        self._prefill = ""
        self._replaces_last = False
        self._used: tuple[object, int] = (None, 0)
        self.ahead = PromptPrefetch(app.session, self.model_ready)
        loader.when_done = self.ahead.model_changed

    def run(self, reader: Reader, *, interactive: bool) -> int:
        """Until the person leaves; the exit status. Without a person, that of the first line that failed."""
        status = int(ExitStatus.OK)
        self._has_editor = interactive and not self._display.is_dumb
        try:
            while (line := self._read(reader, interactive)) is not None:
                try:
                    if not self.handle(line):
                        break
                except BchatError as error:
                    self._display.say(error)
                    status = status if interactive else status or int(error.status)
                except KeyboardInterrupt:
                    if not interactive:
                        raise
                    self._display.say(self._how_stopped())
            return status
        except KeyboardInterrupt:
            return ExitStatus.INTERRUPTED
        finally:
            self._display.place = "shell"
            self._close()

    def _read(self, reader: Reader, interactive: bool) -> str | None:
        """The next line, None after the last. KeyboardInterrupt for a second Ctrl-C on an empty line."""
        is_warned = False
        while True:
            self.tell_news()
            prefill, self._prefill = self._prefill, ""
            try:
                with self.ahead.reading(prefill, replaces_last=self._replaces_last) if interactive else nullcontext():
                    return reader.read(prefill)
            except EOFError:
                return None
            except KeyboardInterrupt:
                self._replaces_last = False
                if prefill:  # an edit was given up
                    continue
                if is_warned or not interactive:
                    raise
                is_warned = True
                self._display.say(Phrase("chat.how-to-leave"))

    def handle(self, line: str) -> bool:
        """Do one line; False when it ends the chat. Raises BchatError; the chat goes on after it."""
        replaces, self._replaces_last = self._replaces_last, False
        if not line.strip():
            return True
        if table.is_command(line):
            action = table.execute(line, self.app)
            self._display.lang = self.app.lang
        elif models.answers_offer(self.app, line):
            return True
        else:
            action = Say(table.message_of(line))
        if isinstance(action, Leave):
            return False
        if isinstance(action, Edit):
            self.begin_line(action)
        elif isinstance(action, Retry):
            self._speak(self.app.session.retry(action.change))
        elif isinstance(action, Compare):
            self._speak(compare(self.app.session, action.variants))
            self._display.say(Phrase("compare.done"))
        elif isinstance(action, Say):
            self._say(action.text, replaces)
        return True

    def _how_stopped(self) -> Phrase:
        """What was stopped is no part of the conversation where an earlier reply still is."""
        session = self.app.session
        if session.pending is not None:
            return Phrase("chat.stopped-unanswered")
        is_beside = session.chosen is not None and session.chosen + 1 < len(session.replies)
        return Phrase("chat.stopped-beside" if is_beside else "chat.stopped")

    def begin_line(self, edit: Edit) -> None:
        """What the next line starts with."""
        self._prefill, self._replaces_last = edit.text, edit.replaces_last

    def _say(self, text: str, replaces_last: bool) -> None:
        try:
            session = self.app.session
            # A base model's continuation belongs to what was typed: both are shown as one text.
            typed = text if session.is_completing else ""
            self._speak(session.revise(text) if replaces_last else session.reply(text), typed)
        except BchatError as error:
            if error.key == "prompt.too-long":
                if self._display.has_room_for(text):  # for the person to shorten
                    self._prefill, self._replaces_last = text, replaces_last
                elif self._has_editor:  # which would push the reason off the screen
                    raise BchatError("chat.too-long", status=error.status, reason=error) from error
            raise

    def _speak(self, events: Generator[Event, None, None], typed: str = "") -> None:
        """Show a reply as it comes. Ctrl-C stops it within a token; what was said is kept."""
        if self.is_loading():
            self._display.doing(Phrase("chat.waiting"))
            self._loader.tell = self._tell_loading
        self.app.session.tell_reading = self._display.reading
        self._display.begin_reply()
        try:
            with interrupted_once(), closing(events):
                for event in events:
                    self._display.doing(None)
                    if isinstance(event, str):
                        self._display.piece(typed + event)
                        typed = ""
                    else:
                        self._display.end_reply()
                        self._display.say(event)
        finally:
            self._display.doing(None)
            self._display.end_reply()

    def _tell_loading(self, percent: int) -> None:
        if self._display.is_terminal:  # elsewhere it would be a hundred lines
            self._display.doing(Phrase("chat.waiting-at", percent=percent))

    def load(self, entry: ModelEntry) -> Callable[[], Model]:
        """Begin to open another model; for `App.load`."""
        self._loader = ModelLoader(entry, opening=self._loader.opening)
        self._loader.when_done = self.ahead.model_changed
        self._loader.start()
        return self.obtain_model

    def obtain_model(self) -> Model:
        """The model in force, free to answer; for `Session`. Waits for both; raises as `ModelLoader.wait` does."""
        model = self._loader.wait()
        self.ahead.rest()
        return model

    def model_ready(self) -> Model | None:
        return self._loader.model

    def is_loading(self) -> bool:
        return not self._loader.is_done

    def is_busy(self) -> bool:
        """Whether the toolbar may change by itself."""
        return self.is_loading() or self.app.downloads.is_running

    def tell_news(self) -> None:
        """What has happened meanwhile, beside the conversation."""
        models.tell_news(self.app)

    def toolbar(self, width: int | None = None) -> str:
        """Model, preset, what differs from it, context, speed: the bottom line of a terminal of `width` cells."""
        session = self.app.session
        model = self._loader.model
        differing = _differing(session.settings)
        preset = session.settings.preset
        parts = {
            "model": session.entry.name,
            "state": self._state_of_model(),
            "settings": " ".join(filter(None, [preset, *differing])),
            "context": f"{self._context_used(model)}/{model.context_length}" if model else "",
            "speed": "",
            "unsaved": "",
            "pull": models.progress_text(self.app),
        }
        if model and model.precision in ("int8", "w8a8", "int4"):
            parts["model"] += f" {model.precision}"
        if session.last and session.last.tokens_per_second:
            parts["speed"] = f"{session.last.tokens_per_second:.0f} tok/s"
        used = session.last.parameters if session.last else session.settings.parameters
        if used.temperature and used.seed != session.settings.parameters.seed:
            parts["seed"] = self.app.text(Phrase("toolbar.seed", seed=used.seed))
        if self.ahead.percent is not None:
            parts["ahead"] = self.app.text(Phrase("toolbar.ahead", percent=self.ahead.percent))
        if session.conversation.turns and not session.is_saved:
            parts["unsaved"] = self.app.text(Phrase("toolbar.unsaved"))
        # What there is no room for, the least important first; context and warnings stay.
        shorter = [
            ("seed", ""),
            ("ahead", ""),
            ("settings", " ".join(filter(None, [preset, f"+{len(differing)}" if differing else ""]))),
            ("pull", models.progress_text(self.app, short=True)),
            ("settings", ""),
            ("model", ""),
            ("speed", ""),
            ("pull", ""),
        ]
        while True:
            line = outward_line(" · ".join(part for part in parts.values() if part))
            if width is None or not shorter or count_cells(line) <= width:
                return line
            name, instead = shorter.pop(0)
            parts[name] = instead

    def _state_of_model(self) -> str:
        """What is to be said of it as long as it cannot answer."""
        if self.is_loading():
            percent = self._loader.percent
            return self.app.text(Phrase("toolbar.loading")) + ("" if percent is None else f" {percent} %")
        return "" if self._loader.model else self.app.text(Phrase("toolbar.failed"))

    def _context_used(self, model: Model) -> int:
        """Counted once for each state of the conversation: the toolbar is drawn at every key.

        At most all of it: where the conversation is longer, the next message leaves its oldest turns out.
        """
        state = (self.app.session.conversation, model)
        if self._used[0] != state:
            self._used = (state, min(self.app.session.context_used(model), model.context_length))
        return self._used[1]

    def _close(self) -> None:
        try:
            self.app.session.close()
        except BchatError as error:
            self._display.say(error)
        finally:
            models.leave(self.app)


def _differing(settings: Settings) -> list[str]:
    """The settings that something stronger than the preset said."""
    usual = (DEFAULT, f"preset {settings.preset}")
    changed = {name: getattr(settings.parameters, name) for name in RANGES if settings.provenance[name] not in usual}
    return [
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in changed.items()
        if value is not None
    ]

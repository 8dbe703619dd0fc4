"""Opens the model in a thread, so that the prompt takes keys meanwhile, and decides who uses its engine."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bilingual_chat.engines.protocol import OpenOptions, Progress
from bilingual_chat.engines.torch_preload import load_library
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import Model, open_model
from bilingual_chat.settings.catalogue import ModelEntry

POLL_S = 0.1
SWITCH_S = 0.0005  # after which a thread lets another have Python's lock; 0.005 is Python's default
THREAD = "bchat loads a model"

Open = Callable[[ModelEntry, Progress], Model]


@dataclass
class _Load:
    """One attempt to open a model. Its thread writes it, others read it."""

    entry: ModelEntry
    is_started: bool = False
    is_done: bool = False
    percent: int | None = None  # of the weights verified or converted, while that takes time
    model: Model | None = None
    error: BchatError | None = None


class ModelLoader:
    """The model in force, and the right to use its engine, which serves one caller at a time.

    `open_model` runs in a thread. `on_wait` is called while a caller of `obtain` waits for the model: with the percent
    loaded (None if unknown), and with 100 when the wait is over. `changed` is notified when a model has been opened and
    when its engine is free again.
    """

    def __init__(
        self, entry: ModelEntry, open_model: Open, on_wait: Callable[[int | None], None] = lambda percent: None
    ) -> None:
        self.changed = threading.Condition()
        self._open_model = open_model
        self._on_wait = on_wait
        self._load = _Load(entry)
        self._is_borrowed = False

    @property
    def model(self) -> Model | None:
        """The model, if it has been opened."""
        return self._load.model

    @property
    def is_loading(self) -> bool:
        return not self._load.is_done

    @property
    def percent(self) -> int | None:
        return self._load.percent

    def start(self) -> None:
        """Begin to open the model, once."""
        load = self._load
        if not load.is_started:
            load.is_started = True
            threading.Thread(target=self._run, args=(load,), name=THREAD, daemon=True).start()

    def load(self, entry: ModelEntry) -> None:
        """Begin to open another model, which replaces the one in force."""
        self._load = _Load(entry)
        self.start()

    def obtain(self) -> Model:
        """Return the model when it is open and its engine is free. Ctrl-C cancels the wait.

        Raises BchatError when the model could not be opened.
        """
        self.start()
        load = self._load
        if not load.is_done:
            self._wait_for(load)
        with self.changed:
            self.changed.wait_for(lambda: not self._is_borrowed)
        if load.error is not None:
            raise load.error
        assert load.model is not None
        return load.model

    @contextmanager
    def borrowed(self, is_wanted: Callable[[], bool]) -> Iterator[Model]:
        """Wait until the model is open and `is_wanted`; then lend the model, and let `obtain` wait for its return."""
        with self.changed:
            self.changed.wait_for(lambda: self.model is not None and is_wanted())
            model = self.model
            assert model is not None
            self._is_borrowed = True
        try:
            yield model
        finally:
            with self.changed:
                self._is_borrowed = False
                self.changed.notify_all()

    def _wait_for(self, load: _Load) -> None:
        reported = load.percent
        self._on_wait(reported)
        try:
            while not self._is_done_soon(load):
                if load.percent != reported:
                    reported = load.percent
                    self._on_wait(None if reported is None else min(reported, 99))
        finally:
            self._on_wait(100)

    def _is_done_soon(self, load: _Load) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: load.is_done, POLL_S)

    def _run(self, load: _Load) -> None:
        def progress(done: int, size: int) -> None:
            load.percent = 100 * done // max(size, 1)

        try:
            with keys_first():
                load.model = self._open_model(load.entry, progress)
        except BchatError as error:
            load.error = error
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            load.error = BchatError("chat.not-loaded", status=ExitStatus.MODEL, name=load.entry.name, reason=reason)
            load.error.__cause__ = error
        finally:
            with self.changed:
                load.is_done = True
                self.changed.notify_all()


def open_in_background(entry: ModelEntry, options: OpenOptions, progress: Progress) -> Model:
    """Open a model as `open_model` does, without stopping the threads that echo keys."""
    if not entry.server:
        load_library()
    return open_model(entry, options, progress)


def is_a_model_loading() -> bool:
    """Return True while any thread, also an abandoned one, opens a model."""
    return any(thread.name == THREAD for thread in threading.enumerate())


@contextmanager
def keys_first() -> Iterator[None]:
    """Give the prompt priority while a thread imports torch and reads a model.

    Measured on two busy cores: the longest delay of a key's echo fell from 300–640 ms to 30–60 ms, together
    with `engines.torch_preload`.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    gc.disable()  # a full collection among torch's objects stops every thread for 50–90 ms
    try:
        yield
    finally:
        gc.freeze()  # spares the next collection those objects: 200 ms
        gc.enable()
        sys.setswitchinterval(usual)

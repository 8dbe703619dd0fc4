"""What a person is typing, told to the model before it is sent: the first token then waits for the last few words only.

A conversation that is gone on with, or whose oldest turns were left out, is prefilled in the same way
while the person still thinks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile

from bilingual_chat.messages.errors import BchatError
from bilingual_chat.session.model import Model
from bilingual_chat.session.session import Session

UNSETTLED = 8  # characters at the end of a line that is being typed; a word, in most cases
MOST_CHARACTERS = 16  # of a token; no text has so many on average
THREAD = "bchat reads ahead"


def settled_ids(session: Session, model: Model, text: str, *, replaces_last: bool = False) -> tuple[int, ...]:
    """The ids with which the prompt for a message begins that begins like `text`, as far as more letters hardly
    change them; none for a message that the model cannot be told."""
    if len(text) > MOST_CHARACTERS * model.context_length:
        return ()
    try:
        # The next letters may still make another piece of the last ones.
        without, whole = (
            session.prompt_for(each, model, replaces_last=replaces_last).ids
            for each in (text[:-UNSETTLED], text or "。")
        )
    except BchatError:
        return ()
    return tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(without, whole, strict=False)))


class PromptPrefetch:
    """A thread that prefills while a line is being read. State: that line, and whether it is still being read.

    `model` gives the model in force, None while it loads. The engine serves one at a time: whoever wants it calls
    `rest` before.
    """

    def __init__(self, session: Session, model: Callable[[], Model | None]) -> None:
        self._session = session
        self._model = model
        self._changed = threading.Condition()
        self._text: str | None = None  # None: no message is being typed
        self._replaces_last = False
        self._is_new = False
        self._is_computing = False
        self._thread: threading.Thread | None = None
        self.percent: int | None = None  # of the prompt, while there is more to compute than a person would notice
        self.when_further: Callable[[], None] = lambda: None  # called when that has changed, in the thread

    @contextmanager
    def reading(self, text: str, *, replaces_last: bool) -> Iterator[None]:
        """While a message is being typed, which begins as `text`."""
        self._replaces_last = replaces_last
        self.typed(text)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=THREAD, daemon=True)
            self._thread.start()
        try:
            yield
        finally:
            self.typed(None)

    def rest(self) -> None:
        """Wait until the engine is free: a pass of a few tokens, which the message needs anyway, at the most.

        Outside of `reading`. Ctrl-C ends the waiting.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._is_computing)

    def typed(self, text: str | None) -> None:
        """The line is `text` now; None where it is not a message. Any thread, and at every key."""
        with self._changed:
            self._text, self._is_new = text, True
            self._changed.notify_all()

    def model_changed(self) -> None:
        """Something else has changed: the model is there."""
        with self._changed:
            self._is_new = True
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_new and self._text is not None)
                text = self._text
                assert text is not None
                self._is_new, self._is_computing = False, True
            try:
                # Whatever hinders it hinders the reply too, which says so.
                with suppress(Exception):
                    self._prefill(text)
            finally:
                with self._changed:
                    self._is_computing = False
                    self._changed.notify_all()

    def _prefill(self, text: str) -> None:
        model = self._model()
        if model is None or not model.engine.can_prefill:
            return
        settled = settled_ids(self._session, model, text, replaces_last=self._replaces_last)
        try:
            for done in model.engine.prefill(settled):
                if self._is_new:
                    break
                self._tell(100 * done // len(settled) if done < len(settled) else None)
        finally:
            if self._text is None or not self._is_new:  # it goes no further
                self._tell(None)

    def _tell(self, percent: int | None) -> None:
        if percent != self.percent:
            self.percent = percent
            self.when_further()

"""Prefills the prompt while the user types, so that a reply waits for its last few words only.

A resumed conversation, and one whose oldest turns were left out, is prefilled in the same way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile

from bilingual_chat.messages.errors import BchatError
from bilingual_chat.session.model import Model
from bilingual_chat.session.model_loader import ModelLoader
from bilingual_chat.session.session import Session

UNSETTLED = 8  # characters at the end of a line being typed; mostly one word
MAX_TOKEN_CHARACTERS = 16  # no text averages so many characters a token
THREAD = "bchat prefills the prompt"


def settled_ids(session: Session, model: Model, text: str, *, replaces_last: bool = False) -> tuple[int, ...]:
    """Return the prompt ids that further typing after `text` is unlikely to change; none if `text` cannot be sent."""
    if len(text) > MAX_TOKEN_CHARACTERS * model.context_length:
        return ()
    try:
        # The next letters may still merge with the last ones into another token.
        without, whole = (
            session.prompt_for(each, model, replaces_last=replaces_last).ids
            for each in (text[:-UNSETTLED], text or "。")
        )
    except BchatError:
        return ()
    return tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(without, whole, strict=False)))


class PromptPrefetch:
    """A thread that prefills while a line is being read. State, guarded by `ModelLoader.changed`: that line.

    `on_progress` is called in the thread when `percent` has changed.
    """

    def __init__(self, session: Session, loader: ModelLoader, on_progress: Callable[[], None] = lambda: None) -> None:
        self.percent: int | None = None  # of the prompt, while the rest takes noticeable time
        self._session = session
        self._loader = loader
        self._on_progress = on_progress
        self._text: str | None = None  # None: the user is not typing a message
        self._replaces_last = False
        self._version = 0  # of the line
        self._prefilled: tuple[int, Model | None] = (0, None)  # version and model that were prefilled last
        self._thread: threading.Thread | None = None

    @contextmanager
    def reading(self, text: str, *, replaces_last: bool) -> Iterator[None]:
        """Prefill while the user types a message that begins as `text`."""
        self._replaces_last = replaces_last
        self.typed(text)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=THREAD, daemon=True)
            self._thread.start()
        try:
            yield
        finally:
            self.typed(None)

    def typed(self, text: str | None) -> None:
        """Report the line as it is now, None where it is not a message. Any thread may call this, at every key."""
        with self._loader.changed:
            self._text = text
            self._version += 1
            self._loader.changed.notify_all()

    def _work(self) -> None:
        while True:
            # A failure here happens again in the reply, which reports it.
            with self._loader.borrowed(self._has_work) as model, suppress(Exception):
                self._prefill(model)

    def _has_work(self) -> bool:
        return self._text is not None and self._is_stale()

    def _is_stale(self) -> bool:
        return self._prefilled != (self._version, self._loader.model)

    def _prefill(self, model: Model) -> None:
        with self._loader.changed:
            text, replaces_last = self._text, self._replaces_last
            self._prefilled = (self._version, model)
        if text is None or not model.engine.can_prefill:
            return
        settled = settled_ids(self._session, model, text, replaces_last=replaces_last)
        try:
            for done in model.engine.prefill(settled):
                if self._is_stale():
                    break
                self._report(100 * done // len(settled) if done < len(settled) else None)
        finally:
            if self._text is None or not self._is_stale():  # nothing follows
                self._report(None)

    def _report(self, percent: int | None) -> None:
        if percent != self.percent:
            self.percent = percent
            self._on_progress()

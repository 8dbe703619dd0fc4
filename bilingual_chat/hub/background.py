"""A download in the background of a chat."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from bilingual_chat.hub import download
from bilingual_chat.hub.download import Progress
from bilingual_chat.hub.pool import Cancelled
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry

_JOIN_S = 2.0  # a thread that hangs longer no longer writes anything, and ends with the process


class BackgroundDownload:
    """A download in a thread of its own, which writes `progress` and `error`; `error` stays None on success."""

    def __init__(self, entry: ModelEntry, on_finished: Callable[[], None] = lambda: None) -> None:
        self.entry = entry
        self.progress: Progress | None = None
        self.error: BchatError | None = None
        self._on_finished = on_finished
        self._cancel = threading.Event()
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"bchat downloads {entry.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_finished(self) -> bool:
        return self._finished.is_set()

    def cancel(self) -> None:
        """Stop the download and keep its partial files. `on_finished` is not called."""
        self._cancel.set()
        with suppress(RuntimeError):  # it was never started
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        try:
            with suppress(Cancelled):
                download.download(self.entry, self._set_progress, cancel=self._cancel)
        except BchatError as error:
            self.error = error
        except Exception as error:
            reason = type(error).__name__
            self.error = BchatError("hub.failed", status=ExitStatus.MODEL, repo=self.entry.hub_id, reason=reason)
            self.error.__cause__ = error
        finally:
            self._finished.set()
        if not self._cancel.is_set():
            self._on_finished()

    def _set_progress(self, progress: Progress) -> None:
        self.progress = progress

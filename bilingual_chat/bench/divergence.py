"""How well a model expects a text, and how far from a reference: perplexity, KL divergence, likeliest tokens.

The reference's log-probabilities wait in a file without a name, so that one model is in memory at a time.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

import torch
from torch import Tensor

from bilingual_chat.engines.local import LocalEngine
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.storage.sizes import format_bytes

ROWS = 32  # at once, in float64: 65,536 tokens a row
MARGIN = 256 << 20  # bytes left free on the disk


class Window(NamedTuple):
    """Ids that a model reads at once, and the place of the first that is judged: 1 or later."""

    ids: Sequence[int]
    begin: int = 1

    @property
    def judged(self) -> int:
        return len(self.ids) - self.begin


@dataclass(frozen=True)
class Judged:
    """One value a position: surprise and KL divergence in nats, and whether the likeliest token is the same."""

    surprise: Tensor
    divergence: Tensor
    same: Tensor

    @property
    def perplexity(self) -> float:
        return float(self.surprise.mean().exp())

    @property
    def kl_mean(self) -> float:
        return float(self.divergence.mean())

    @property
    def kl_p99(self) -> float:
        return float(self.divergence.quantile(0.99))

    @property
    def agreement(self) -> float:
        return float(self.same.double().mean())


class Reference:
    """What the first model that is judged expects; close it (`with`), and its file is gone."""

    def __init__(self, directory: Path) -> None:
        """directory: where the disk has room."""
        self._directory = directory
        self._file: IO[bytes] | None = None
        self.is_whole = False

    def __enter__(self) -> Reference:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def begin(self, positions: int, vocabulary: int) -> None:
        """From the first row again. Raises BchatError where there is no room for them."""
        needed = positions * vocabulary * 4
        try:
            if self._file is None:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - closed by `with` of the whole
            self._file.seek(0)
            free = shutil.disk_usage(self._directory).free
        except OSError as error:
            raise self._not_kept(error) from None
        if not self.is_whole and free < needed + MARGIN:
            raise BchatError(
                "bench.no-room",
                directory=self._directory,
                needed=format_bytes(needed + MARGIN),
                free=format_bytes(free),
            )

    def finish(self) -> None:
        """All rows are in: from now on they are compared with, not written. Raises BchatError as `begin` does."""
        if not self.is_whole and self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                raise self._not_kept(error) from None
        self.is_whole = True

    def compare(self, logprobs: Tensor) -> tuple[Tensor, Tensor]:
        """KL divergence from the next rows to these, and whether the likeliest token is the same.

        While it is not whole yet, these are kept, and compared with themselves.
        """
        assert self._file is not None
        if not self.is_whole:
            try:
                self._file.write(logprobs.contiguous().view(torch.uint8).numpy().data)
            except OSError as error:
                raise self._not_kept(error) from None
            return torch.zeros(len(logprobs), dtype=torch.float64), torch.ones(len(logprobs), dtype=torch.bool)
        rows = bytearray(self._file.read(logprobs.nbytes))
        kept = torch.frombuffer(rows, dtype=torch.float32).view(logprobs.shape)
        own, exact = logprobs.double(), kept.double()
        return (exact.exp() * (exact - own)).sum(-1), exact.argmax(-1) == own.argmax(-1)

    def _not_kept(self, error: OSError) -> BchatError:
        reason = error.strerror or type(error).__name__
        return BchatError("bench.not-kept", directory=self._directory, reason=reason)


def judge(engine: LocalEngine, windows: Sequence[Window], reference: Reference, told: Callable[[int], None]) -> Judged:
    """The tokens of each window from its `begin` on. The first model that is judged becomes the reference.

    told: how many tokens are judged, now and then. Raises BchatError as `LocalEngine.score` does, and where
    the reference cannot be kept.
    """
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    done = 0
    for logits, targets in _expected(engine, windows):
        if not found:
            reference.begin(sum(window.judged for window in windows), logits.shape[-1])
        logprobs = logits.log_softmax(-1)
        surprise = -logprobs.gather(-1, targets[:, None])[:, 0]
        found.append((surprise.double(), *reference.compare(logprobs)))
        done += len(targets)
        told(done)
    reference.finish()
    return Judged(*(torch.cat(part) for part in zip(*found, strict=True)))


def _expected(engine: LocalEngine, windows: Sequence[Window]) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (rows, vocabulary) and the ids that did follow (rows,), a few at a time."""
    for ids, begin in windows:
        at = 1  # the place of what the next row expects
        for block in engine.score(ids):
            for logits in torch.split(block, ROWS):
                skipped = max(0, begin - at)
                targets = torch.tensor(ids[at + skipped : at + len(logits)], dtype=torch.int64)
                at += len(logits)
                if len(targets):
                    yield logits[skipped : skipped + len(targets)], targets

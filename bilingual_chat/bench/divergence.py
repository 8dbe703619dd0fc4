"""Perplexity of a text, and KL divergence and top-token agreement with a reference model.

The reference's log probabilities are kept in an unnamed file, so that only one model is in memory at a time.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import torch
from torch import Tensor

from bilingual_chat.engines.local import LocalEngine
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.storage.os_errors import reason
from bilingual_chat.storage.sizes import format_bytes

ROWS = 32  # at a time, in float64: 65,536 tokens a row
MARGIN = 256 << 20  # bytes left free on the disk


class Window(NamedTuple):
    """Ids that a model reads at once, and the index of the first that is judged, at least 1."""

    ids: Sequence[int]
    begin: int = 1

    @property
    def judged(self) -> int:
        return len(self.ids) - self.begin


@dataclass(frozen=True)
class Judged:
    """One model on one text. Divergence in nats; agreement: the share of positions with the same likeliest token."""

    perplexity: float
    kl_mean: float
    kl_p99: float
    agreement: float


class Reference:
    """The log probabilities of the first model. A context manager, which removes the file."""

    def __init__(self, directory: Path) -> None:
        """directory: on a disk with room."""
        self._directory = directory
        self._file: IO[bytes] | None = None
        self.is_complete = False

    def __enter__(self) -> Reference:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def rewind(self, positions: int, vocabulary: int) -> None:
        """Start from the first row. Raises BchatError if the disk has no room for the rows."""
        with self._errors_explained():
            if self._file is None:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - `__exit__` closes it
            self._file.seek(0)
            free, needed = shutil.disk_usage(self._directory).free, positions * vocabulary * 4 + MARGIN
        if not self.is_complete and free < needed:
            shown = format_bytes(needed)
            raise BchatError("bench.no-room", directory=self._directory, needed=shown, free=format_bytes(free))

    def finish(self) -> None:
        """Complete the reference: later rows are compared with it. Raises BchatError as `rewind` does."""
        if not self.is_complete and self._file is not None:
            with self._errors_explained():
                self._file.flush()
        self.is_complete = True

    def compare(self, logprobs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the KL divergence from the reference's next rows, and the agreement of the likeliest token.

        Until the reference is complete, its rows are these.
        """
        assert self._file is not None
        if not self.is_complete:
            with self._errors_explained():
                self._file.write(logprobs.contiguous().view(torch.uint8).numpy().data)
            return torch.zeros(len(logprobs), dtype=torch.float64), torch.ones(len(logprobs), dtype=torch.bool)
        rows = bytearray(self._file.read(logprobs.nbytes))
        kept = torch.frombuffer(rows, dtype=torch.float32).view(logprobs.shape)
        own, exact = logprobs.double(), kept.double()
        return (exact.exp() * (exact - own)).sum(-1), exact.argmax(-1) == own.argmax(-1)

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BchatError("bench.not-kept", directory=self._directory, reason=reason(error)) from None


def judge(
    engine: LocalEngine, windows: Sequence[Window], reference: Reference, report: Callable[[int], None]
) -> Judged:
    """Judge the tokens of each window from its `begin` on. The first model becomes the reference.

    report: called with the number of tokens judged. Raises BchatError as `LocalEngine.score` does, and if the
    reference cannot be kept.
    """
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    done = 0
    for logits, targets in _score(engine, windows):
        if not found:
            reference.rewind(sum(window.judged for window in windows), logits.shape[-1])
        logprobs = logits.log_softmax(-1)
        surprise = -logprobs.gather(-1, targets[:, None])[:, 0]
        found.append((surprise.double(), *reference.compare(logprobs)))
        done += len(targets)
        report(done)
    reference.finish()
    surprise, divergence, same = (torch.cat(part) for part in zip(*found, strict=True))
    shares = {"kl_mean": divergence.mean(), "kl_p99": divergence.quantile(0.99), "agreement": same.double().mean()}
    return Judged(float(surprise.mean().exp()), **{name: float(value) for name, value in shares.items()})


def _score(engine: LocalEngine, windows: Sequence[Window]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits (rows, vocabulary) and the ids that followed (rows,), some rows at a time."""
    for ids, begin in windows:
        index = 1  # of the id that the next row predicts
        for block in engine.score(ids):
            for logits in torch.split(block, ROWS):
                skipped = max(0, begin - index)
                targets = torch.tensor(ids[index + skipped : index + len(logits)], dtype=torch.int64)
                index += len(logits)
                if len(targets):
                    yield logits[skipped : skipped + len(targets)], targets

"""One reply under way: what has been chosen, and the choice of the next token."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from bilingual_chat.engines.protocol import Chunk, Progress
from bilingual_chat.engines.sampling import choose
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.text.conversation import FinishReason

NOTICED_S = 0.5


class Reply:
    """State: the ids so far, which of the vocabulary are among them, the random numbers, whether it is done."""

    def __init__(
        self,
        prompt_ids: Sequence[int],
        parameters: DecodingParameters,
        seed: int,
        *,
        eos_ids: Sequence[int],
        vocab_size: int,
        context_length: int,
    ) -> None:
        """Raises BchatError for a prompt that leaves no position, ValueError for ids outside the vocabulary."""
        self.ids = list(prompt_ids)
        if not self.ids or min(self.ids) < 0 or max(self.ids) >= vocab_size:
            raise ValueError("a prompt is at least one id, each within the tokenizer's vocabulary")
        if len(self.ids) >= context_length:
            raise BchatError("engine.prompt-too-long", prompt=len(self.ids), context=context_length)
        self.cached_tokens = 0  # of the prompt; whoever computes says how many
        self._parameters = parameters
        self._eos_ids = list(eos_ids)
        self._generator = torch.Generator().manual_seed(seed)
        self._seen = torch.zeros(vocab_size, dtype=torch.bool)
        self._seen[self.ids] = True
        self._new_tokens = 0
        self._room = min(parameters.max_new_tokens, context_length - len(self.ids))
        self.is_done = self._room <= 0

    @property
    def room(self) -> int:
        """Tokens that may still be added."""
        return 0 if self.is_done else self._room - self._new_tokens

    def add(self, logits: Tensor) -> Chunk:
        """Choose the next token from float32 `logits` (vocabulary,)."""
        if self._new_tokens < self._parameters.min_new_tokens:
            logits = logits.clone()
            logits[self._eos_ids] = -torch.inf  # `choose` knows of one end only
        with threads(1):
            token, logprob = choose(
                logits, self._seen, self._new_tokens, self._parameters, self._eos_ids[0], self._generator
            )
        finish = None
        if token in self._eos_ids:
            finish = FinishReason.STOP
        else:
            self.ids.append(token)
            self._seen[token] = True
            self._new_tokens += 1
            finish = FinishReason.LENGTH if self._new_tokens == self._room else None
        self.is_done = finish is not None
        return Chunk(token, logprob, self.cached_tokens, finish)


class Reading:
    """Tells how far a prompt is computed, where the rest takes so long that a person would notice."""

    def __init__(self, progress: Progress, size: int, done: int) -> None:
        self._progress, self._size, self._first = progress, size, done
        self._began = time.perf_counter()

    def at(self, done: int) -> None:
        """So many ids are computed, after one more pass."""
        rest_s = (time.perf_counter() - self._began) * (self._size - done) / (done - self._first)
        if rest_s >= NOTICED_S:
            self._progress(done, self._size)


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """`count` of torch's threads within; None leaves them.

    Sampling and the passes of a small model are rows of tiny kernels: on a machine that is busy with
    something else, two threads wait up to 8 ms for each other at each of them, and use the CPU meanwhile.
    """
    if count is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def allocation_errors() -> Iterator[None]:
    """A failed allocation, in whatever words torch has for it, as BchatError."""
    try:
        yield
    except MemoryError:
        raise BchatError("engine.out-of-memory") from None
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate" in str(error) or "out of memory" in str(error):
            raise BchatError("engine.out-of-memory") from None
        raise

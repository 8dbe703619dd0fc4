"""One generation in progress: its ids, and the choice of the next token."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from bilingual_chat.engines.penalties import first_step
from bilingual_chat.engines.protocol import Chunk, Progress
from bilingual_chat.engines.sampling import choose, unmodified
from bilingual_chat.engines.token_rules import TokenRules
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.text.conversation import FinishReason

NOTICEABLE_S = 0.5  # a shorter wait needs no progress report


class Generation:
    """State: the ids so far and their counts, the random generator."""

    def __init__(
        self,
        prompt_ids: Sequence[int],
        parameters: DecodingParameters,
        *,
        rules: TokenRules,
        vocab_size: int,
        context_length: int,
    ) -> None:
        """Raises BchatError if the prompt fills the context, ValueError for ids outside the vocabulary."""
        check_ids(prompt_ids, vocab_size)
        self._step = first_step(prompt_ids, parameters, rules, vocab_size)
        if len(self.ids) >= context_length:
            raise BchatError("engine.prompt-too-long", prompt=len(self.ids), context=context_length)
        self.cached_tokens = 0  # of the prompt; the engine sets it
        self._generator = random_numbers(parameters.seed)
        self._new_tokens = 0
        self._most_tokens = min(parameters.max_new_tokens, context_length - len(self.ids))
        self.is_done = self.remaining <= 0

    @property
    def ids(self) -> list[int]:
        """The ids of prompt and reply."""
        return self._step.ids

    @property
    def remaining(self) -> int:
        """The number of tokens that may follow."""
        return self._most_tokens - self._new_tokens

    @property
    def most_positions(self) -> int:
        """The positions of prompt and reply at most."""
        return len(self.ids) + self.remaining

    def add(self, logits: Tensor) -> Chunk:
        """Choose the next token from float32 `logits` (vocabulary,)."""
        with limit_threads(1):
            before = unmodified(logits)
            choice = choose(logits, self._step, self._generator, [each for each, _ in before.top])
            token, logit = choice.token, logits[choice.token]
            rank = 1 + int((logits > logit).sum())
        finish = None
        if token in self._step.rules.eos_ids:
            finish = FinishReason.STOP
        else:
            self._step.add(token)
            self._new_tokens += 1
            finish = None if self.remaining else FinishReason.LENGTH
        self.is_done = finish is not None
        return Chunk(
            token,
            choice.logprob,
            self.cached_tokens,
            finish,
            raw_logprob=float(logit) - before.shift,
            entropy=before.entropy,
            rank=rank,
            top=before.top,
            kept=choice.kept,
            removed=choice.removed,
        )


def random_numbers(seed: int | None) -> torch.Generator:
    """Return the random numbers of `seed`; without one, of a fresh seed."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def check_ids(ids: Sequence[int], vocab_size: int) -> None:
    """Raise ValueError unless there is at least one id and each is in the vocabulary."""
    if not ids or min(ids) < 0 or max(ids) >= vocab_size:
        raise ValueError("at least one id is needed, each within the tokenizer's vocabulary")


class PrefillProgress:
    """Reports the progress of a prefill, if the rest takes noticeable time."""

    def __init__(self, progress: Progress, total: int, done: int) -> None:
        self._progress, self._total, self._first = progress, total, done
        self._began = time.perf_counter()

    def update(self, done: int) -> None:
        """Report `done` ids, after a pass."""
        rest_s = (time.perf_counter() - self._began) * (self._total - done) / (done - self._first)
        if rest_s >= NOTICEABLE_S:
            self._progress(done, self._total)


@contextmanager
def limit_threads(count: int | None) -> Iterator[None]:
    """Limit torch to `count` threads; None changes nothing.

    Sampling and small models run tiny kernels. On a busy machine two threads wait up to 8 ms for each other at
    each kernel, and use the CPU meanwhile.
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
    """Turn a failed allocation, which torch reports in several ways, into BchatError."""
    try:
        yield
    except MemoryError:
        raise BchatError("engine.out-of-memory") from None
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate" in str(error) or "out of memory" in str(error):
            raise BchatError("engine.out-of-memory") from None
        raise

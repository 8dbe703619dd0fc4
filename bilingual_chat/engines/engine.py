"""The generation loop of every engine: reuse the cached prefix, prefill the rest, then sample and decode."""

from __future__ import annotations

from collections.abc import Container, Generator, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.backends.cpu import get_cpu_capability as cpu_capability

from bilingual_chat.engines.batch import Batch, Prefilled, Row, Rows, room_for
from bilingual_chat.engines.device import free_memory
from bilingual_chat.engines.generation import Generation, PrefillProgress, allocation_errors, check_ids, limit_threads
from bilingual_chat.engines.lookahead import Lookahead
from bilingual_chat.engines.neox.cpu_model import CpuNeox
from bilingual_chat.engines.neox.kernel_library import features
from bilingual_chat.engines.protocol import MOST_ROWS, Chunk, Progress, one_after_another
from bilingual_chat.engines.token_rules import Vocabulary, token_rules
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.decoding import DecodingParameters

LEAST_PREFILL_AHEAD = 8  # tokens; a pass reads all weights, so fewer are not worth one
MOST_TRIED = 3  # lookahead tokens per pass: four rows cost little more than one


class CausalModel(Protocol):
    """A forward pass over a KV cache."""

    dtype: torch.dtype
    device: torch.device
    context_length: int
    kernel: str  # "native" (the CPU kernels), "torch" or "transformers"
    # True: a pass writes only its own positions, so that the cache survives an interrupt and can be copied.
    has_positional_cache: bool
    can_rewind: bool  # the cache can drop its last positions

    def new_cache(self) -> Any: ...

    def run(self, ids: Tensor, start: int, cache: Any, keep: int | None = None) -> Tensor:
        """See `GptNeox.run`."""

    def new_rows(self, *, is_exact: bool) -> Rows | None:
        """Return no rows yet; is_exact: to the last bit as `run` computes them. None if there is no such way."""

    def logits(self, hidden: Tensor) -> Tensor:
        """See `GptNeox.logits`."""


class CachedEngine:
    """A model in this process; implements `Engine`. One completion at a time.

    State: the weights (constant), the KV cache, and the cached ids, which alone say how much of the cache is valid.
    """

    prefill_rows = 96  # prompt tokens per pass; Ctrl-C takes effect between two passes

    def __init__(
        self,
        model: CausalModel,
        *,
        name: str,
        eos_ids: Sequence[int],
        vocabulary: Vocabulary,
        notices: Iterable[Phrase] = (),
        max_threads: int | None = None,
    ) -> None:
        """eos_ids: each ends a reply. vocabulary: the tokenizer's; later ids (padding) are not sampled."""
        self._model, self._name = model, name
        self._eos_ids, self._vocabulary, self._vocab_size = list(eos_ids), vocabulary, vocabulary.size
        self._notices, self._threads = tuple(notices), max_threads
        self.forget()

    @property
    def name(self) -> str:
        return self._name

    @property
    def context_length(self) -> int:
        """The positions that the model was trained for."""
        return self._model.context_length

    @property
    def precision(self) -> str:
        """The dtype of the weights: "float32", "bfloat16" or "float16"."""
        return str(self._model.dtype).removeprefix("torch.")

    @property
    def device_name(self) -> str:
        """The device: "cpu", "cuda:0", …"""
        return str(self._model.device)

    @property
    def threads(self) -> int:
        """The CPU threads of a pass."""
        return self._threads or torch.get_num_threads()

    def computation(self) -> dict[str, Any]:
        """Return what a record says of the code and the hardware that compute: rounding depends on them."""
        kernel, device = self._model.kernel, self._model.device
        if kernel == "native":
            processor = " ".join(features())
        else:
            processor = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_capability()
        return {"kernel": kernel, "processor": processor, "threads": self.threads}

    @property
    def notices(self) -> tuple[Phrase, ...]:
        """Notices for the user about how the model was opened."""
        return self._notices

    @property
    def cached_ids(self) -> tuple[int, ...]:
        """The ids in the KV cache, from position 0 on."""
        return tuple(self._cached)

    def forget(self) -> None:
        """Drop the KV cache and free its memory."""
        self._cached: list[int] = []
        self._cache = self._model.new_cache()

    def complete(
        self, prompt_ids: Sequence[int], parameters: DecodingParameters, progress: Progress | None = None
    ) -> Generator[Chunk, None, None]:
        """See `Engine.complete`. The first `next` starts the computation.

        Raises BchatError if the prompt fills the context, memory runs out, or logits are NaN or infinite;
        ValueError for ids outside the vocabulary.
        """
        generation = self._begin(prompt_ids, parameters)
        generation.cached_tokens = self._common_prefix(generation.ids)
        self._prefill_all_but_last(generation.ids, progress)
        if not self._is_row_invariant:
            while not generation.is_done:
                yield generation.add(self._logits_after(generation.ids)[0])
            return
        lookahead = Lookahead(self._logits_after, MOST_TRIED)
        while not generation.is_done:
            yield generation.add(lookahead.logits_after(generation.ids, generation.remaining))

    def complete_many(
        self,
        prompts: Sequence[Sequence[int]],
        requests: Sequence[DecodingParameters],
        progress: Progress | None = None,
        *,
        unwanted: Container[int] = frozenset(),
        width: int = MOST_ROWS,
        is_exact: bool = False,
    ) -> Generator[tuple[int, Chunk], None, None]:
        """See `Engine.complete_many`. Raises as `complete` does.

        A prompt that equals the one before is not computed again; each step is one pass over all rows.
        """
        rows = self._model.new_rows(is_exact=is_exact) if width > 1 and len(requests) > 1 else None
        if rows is None:
            yield from one_after_another(self, prompts, requests, progress, unwanted)
            return
        begun = (Row(index, self._begin(*each)) for index, each in enumerate(zip(prompts, requests, strict=True)))
        has_room = room_for(width, free_memory(self._model.device), lambda: self._cache.bytes_per_position)
        batch = Batch(rows, partial(self._prefill_row, progress=progress), partial(self._step_rows, rows))
        yield from batch.complete(begun, has_room, unwanted)

    def _prefill_row(self, ids: list[int], progress: Progress | None) -> Prefilled:
        cached = self._common_prefix(ids)
        self._prefill_all_but_last(ids, progress)
        return Prefilled(self._logits_after(ids)[0], self._cache, cached)

    def _step_rows(self, rows: Rows, ids: Sequence[int]) -> Tensor:
        with allocation_errors(), limit_threads(self._threads):
            return self._checked(rows.step(ids))

    @property
    def can_prefill(self) -> bool:
        """See `Engine.can_prefill`. With torch, the rounding of a reply depends on how its prompt was split."""
        return self._is_row_invariant

    def prefill(self, ids: Sequence[int]) -> Iterator[int]:
        """See `Engine.prefill`. Does nothing if only a few ids are missing. Raises as `complete` does."""
        ids = list(ids)[: self.context_length]
        if not self.can_prefill or not ids or self._common_prefix([*ids, -1]) > len(ids) - LEAST_PREFILL_AHEAD:
            return
        check_ids(ids, self._vocab_size)
        del self._cached[self._common_prefix(ids) :]
        while (start := len(self._cached)) < len(ids):
            self._run(ids[start : start + self.prefill_rows], keep=0)
            yield len(self._cached)

    def score(self, ids: Sequence[int]) -> Iterator[Tensor]:
        """Yield float32 logits (rows, vocabulary) for the token after each of `ids`, some rows at a time.

        The KV cache is empty afterwards. Raises as `complete` does.
        """
        ids = list(ids)
        check_ids(ids, self._vocab_size)
        if len(ids) > self.context_length:
            raise BchatError("engine.prompt-too-long", prompt=len(ids), context=self.context_length)
        self.forget()
        try:
            for start in range(0, len(ids), self.prefill_rows):
                yield self._logits(self._run(ids[start : start + self.prefill_rows]))
        finally:
            self.forget()

    def score_continuations(
        self, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> Iterator[list[float]]:
        """See `Engine.score_continuations`. Raises as `complete` does."""
        longest = max(map(len, continuations), default=0)
        check_ids([*prompt_ids, *(each for ids in continuations for each in ids)], self._vocab_size)
        if len(prompt_ids) + longest > self.context_length:
            raise BchatError("engine.prompt-too-long", prompt=len(prompt_ids) + longest, context=self.context_length)
        for ids in continuations:
            logprobs = self._logits_after(list(prompt_ids), ids).double().log_softmax(-1)
            end = float(logprobs[-1, self._eos_ids].logsumexp(-1))
            yield [*logprobs[range(len(ids)), list(ids)].tolist(), end]

    def _begin(self, prompt_ids: Sequence[int], parameters: DecodingParameters) -> Generation:
        return Generation(
            prompt_ids,
            parameters,
            rules=token_rules(parameters, self._eos_ids, self._vocabulary),
            vocab_size=self._vocab_size,
            context_length=self.context_length,
        )

    @property
    def _is_row_invariant(self) -> bool:
        """Return True if a row's result does not depend on the rows computed with it."""
        return isinstance(self._model, CpuNeox)

    def _common_prefix(self, ids: list[int]) -> int:
        """Return how many leading ids the cache can serve: at most all but the last, which is always computed."""
        most = min(len(self._cached), len(ids) - 1)
        if self._cached[:most] == ids[:most]:
            common = most
        else:
            common = next(index for index in range(most) if self._cached[index] != ids[index])
        return common if self._model.can_rewind or common == len(self._cached) else 0

    def _logits_after(self, ids: list[int], tried: Sequence[int] = ()) -> Tensor:
        """Return float32 logits (1 + tokens tried, vocabulary): after `ids`, and after each token tried.

        Without row invariance, the last id is always a pass of its own: so a repeated prompt goes through the same
        kernels as before, and a seed gives the same reply in 16 bits too.
        """
        self._prefill_all_but_last(ids)
        return self._logits(self._run([*ids[len(self._cached) :], *tried], keep=1 + len(tried)))

    def _prefill_all_but_last(self, ids: list[int], progress: Progress | None = None) -> None:
        """Bring the cache to `ids`, except those of the last pass."""
        del self._cached[self._common_prefix(ids) :]
        last_rows = self.prefill_rows if self._is_row_invariant else 1
        report = PrefillProgress(progress, len(ids), len(self._cached)) if progress else None
        while (rest := len(ids) - len(self._cached)) > last_rows:
            passes = -(-rest // self.prefill_rows)
            start, rows = len(self._cached), -(-rest // passes)  # equal passes: each reads all weights
            self._run(ids[start : min(start + rows, len(ids) - 1)], keep=0)
            if report:
                report.update(len(self._cached))

    def _run(self, ids: list[int], keep: int | None = None) -> Tensor:
        """Compute `ids` after the cached ones; return hidden states (keep, hidden), see `GptNeox.run`."""
        try:
            hidden = self._pass(ids, len(self._cached), self._cache, keep)
        except BaseException as error:
            # A failed allocation needs the memory of the cache. Ctrl-C leaves the earlier positions valid.
            if isinstance(error, Exception) or not self._model.has_positional_cache:
                self.forget()
            raise
        self._cached += ids
        return hidden

    def _pass(self, ids: list[int], start: int, cache: Any, keep: int | None = None) -> Tensor:
        with allocation_errors(), limit_threads(self._threads):
            return self._model.run(torch.tensor(ids, device=self._model.device), start, cache, keep)

    def _logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits (rows, tokenizer's vocabulary). On NaN or infinity, forget and raise BchatError."""
        try:
            with allocation_errors(), limit_threads(self._threads):
                return self._checked(self._model.logits(hidden))
        except Exception:
            self.forget()
            raise

    def _checked(self, logits: Tensor) -> Tensor:
        """Return the logits of the tokenizer's vocabulary. Raises BchatError on NaN or infinity."""
        logits = logits[:, : self._vocab_size]
        with limit_threads(1):
            is_finite = bool(logits.isfinite().all())
        if not is_finite:
            raise BchatError("engine.not-numbers", status=ExitStatus.MODEL)
        return logits

    def _check_weights(self, weights: Iterable[Tensor], ids: list[int]) -> Tensor:
        """Return the logits after `ids`. Raises BchatError (MODEL) if these or `weights` are NaN or infinite."""
        with allocation_errors(), torch.inference_mode():
            is_finite = all(bool(each.isfinite().all()) for each in weights)
        try:
            if is_finite:
                return self._logits_after(ids)
        except BchatError as error:
            if error.key != "engine.not-numbers":
                raise
        raise BchatError("engine.weights-not-numbers", status=ExitStatus.MODEL)

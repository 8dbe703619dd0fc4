"""The engine that computes here: load, prefill, decode, sample; the KV cache is kept between replies.

`complete` reads as the algorithm: bring the cache to the ids, choose a token, append it, again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from bilingual_chat.catalogue import ModelEntry
from bilingual_chat.conversation import FinishReason
from bilingual_chat.decoding import DecodingParameters
from bilingual_chat.engines import Chunk, DeviceName, DtypeName
from bilingual_chat.engines.convert import open_weights
from bilingual_chat.engines.files import find_weights, read_json
from bilingual_chat.engines.gpt_neox import GptNeox, KVCache, parse_config
from bilingual_chat.engines.hardware import check_memory, pick_device, pick_dtype
from bilingual_chat.engines.memory import SMALL
from bilingual_chat.engines.sampling import choose
from bilingual_chat.engines.withdrawn import check_withdrawn
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.messages import Phrase

PREFILL_ROWS = 256  # prompt tokens a pass: Ctrl-C acts between passes at the latest


class LocalEngine:
    """A GPT-NeoX model in this process. One completion at a time.

    Implements `Engine`. State: the weights (constant), the KV cache, and the ids that the cache
    holds; `cached_ids` alone says how much of the cache is valid.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str,
        eos_id: int,
        vocab_size: int,
        entry: ModelEntry | None = None,
        dtype: DtypeName = "auto",
        device: DeviceName = "auto",
        accept_withdrawn: bool = False,
        progress: Callable[[int, int], None] | None = None,
        others: Iterable[ModelEntry] = (),
    ) -> None:
        """Load `directory` (config.json and weights) and try it once.

        eos_id, vocab_size: the tokenizer's; ids from vocab_size on (padding) are never sampled. The
        rest is explained at `open_engine`. Raises BchatError (MODEL): unsupported, withdrawn, damaged,
        incomplete, too large for the memory.
        """
        entry = entry or ModelEntry(name)
        config = parse_config(read_json(directory / "config.json"))
        if config.vocab_size < vocab_size:
            raise _refused("engine.vocabulary", model=config.vocab_size, tokenizer=vocab_size)
        paths = find_weights(directory)
        place = pick_device(device, config)
        kind = pick_dtype(dtype, place, config, paths, entry.dtype)
        check_memory(config, kind, place, others)
        self._withdrawn = check_withdrawn(paths, entry, accept=accept_withdrawn, progress=progress)
        with _allocation_errors():
            weights, problem = open_weights(paths, config.shapes(), kind, place, progress)
            self._model = GptNeox(config, weights)
        self._notices = () if problem is None else (problem,)
        self._name, self._eos_id, self._vocab_size = name, eos_id, vocab_size
        self._narrow_threads = 1 if place.type == "cpu" and config.parameter_count < SMALL else None
        self.forget()
        self._try_once()

    @property
    def name(self) -> str:
        return self._name

    @property
    def context_length(self) -> int:
        """Positions the model was trained for."""
        return self._model.config.context_length

    @property
    def parameter_count(self) -> int:
        """Learned numbers; an output head tied to the embedding counts once."""
        return self._model.config.parameter_count

    @property
    def dtype_name(self) -> str:
        """What it computes in: "float32", "bfloat16" or "float16"."""
        return str(self._model.dtype).removeprefix("torch.")

    @property
    def device_name(self) -> str:
        """Where it computes: "cpu", "cuda:0", …"""
        return str(self._model.device)

    @property
    def precision(self) -> str:
        """What its weights are numbers of."""
        return self.dtype_name

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """What is read for every token: all weights but the embedding, of which one row is."""
        return self._model.read_per_token()

    @property
    def bytes_per_token(self) -> int:
        """Bytes of weights that are read for one token: memory bandwidth divided by it is the limit."""
        return sum(tensor.nbytes for tensor in self.weights)

    @property
    def withdrawn(self) -> bool:
        """Whether these weights were withdrawn by their publisher, and opened all the same."""
        return self._withdrawn

    @property
    def notices(self) -> tuple[Phrase, ...]:
        """What a person should know about how the model was opened; mostly nothing."""
        return self._notices

    @property
    def cached_ids(self) -> tuple[int, ...]:
        """The ids whose keys and values are kept, from position 0 on."""
        return tuple(self._cached)

    def forget(self) -> None:
        """Drop the KV cache and its memory; the next prompt is computed from its first token."""
        self._cached: list[int] = []
        self._cache = KVCache(self._model.config, self._model.dtype, self._model.device)

    def complete(
        self, prompt_ids: Sequence[int], parameters: DecodingParameters, seed: int
    ) -> Generator[Chunk, None, None]:
        """Continue `prompt_ids`; see `Engine.complete`. Nothing is computed before the first `next`.

        Raises BchatError, when consumed: a prompt that leaves no position, memory exhausted, logits
        that are no numbers. ValueError for ids outside the vocabulary.
        """
        ids = list(prompt_ids)
        self._check_prompt(ids)
        generator = torch.Generator().manual_seed(seed)
        seen = torch.zeros(self._vocab_size, dtype=torch.bool)
        seen[ids] = True
        room = min(parameters.max_new_tokens, self.context_length - len(ids))
        reused = self._common_prefix(ids)
        for new_tokens in range(room):
            logits = self._logits_after(ids)
            with _threads(1):
                token, logprob = choose(logits, seen, new_tokens, parameters, self._eos_id, generator)
            if token == self._eos_id:
                yield Chunk(token, logprob, reused, FinishReason.STOP)
                return
            ids.append(token)
            seen[token] = True
            yield Chunk(token, logprob, reused, FinishReason.LENGTH if new_tokens + 1 == room else None)

    def score(self, ids: Sequence[int]) -> Iterator[Tensor]:
        """float32 logits (rows, tokenizer's vocabulary) for what follows each of `ids`, block by block.

        The cache is not kept. Raises BchatError and ValueError as `complete` does.
        """
        given = list(ids)
        if not given or min(given) < 0 or max(given) >= self._vocab_size:
            raise ValueError("a text is at least one id, each within the tokenizer's vocabulary")
        if len(given) > self.context_length:
            raise BchatError("engine.prompt-too-long", prompt=len(given), context=self.context_length)
        self.forget()
        try:
            for at in range(0, len(given), PREFILL_ROWS):
                yield self._run(given[at : at + PREFILL_ROWS], wants_logits=True)[:, : self._vocab_size]
        finally:
            self.forget()

    def _check_prompt(self, ids: list[int]) -> None:
        if not ids or min(ids) < 0 or max(ids) >= self._vocab_size:
            raise ValueError("a prompt is at least one id, each within the tokenizer's vocabulary")
        if len(ids) >= self.context_length:
            raise BchatError("engine.prompt-too-long", prompt=len(ids), context=self.context_length)

    def _common_prefix(self, ids: list[int]) -> int:
        """How many leading ids the cache holds already; at most all but the last, which is always run."""
        most = min(len(self._cached), len(ids) - 1)
        if self._cached[:most] == ids[:most]:
            return most
        return next(at for at in range(most) if self._cached[at] != ids[at])

    def _logits_after(self, ids: list[int]) -> Tensor:
        """float32 logits (tokenizer's vocabulary,) for what follows `ids`, with the cache brought to `ids`.

        The last id is a pass of its own even in a prompt: so a repeated prompt goes through the same
        kernels as the first time, and in 16 bits too a seed gives the same reply again.
        """
        del self._cached[self._common_prefix(ids) :]
        while (at := len(self._cached)) < len(ids) - 1:
            self._run(ids[at : min(at + PREFILL_ROWS, len(ids) - 1)], wants_logits=False)
        logits = self._run(ids[-1:], wants_logits=True)[0, : self._vocab_size]
        if not bool(logits.isfinite().all()):
            self.forget()
            raise BchatError("engine.not-numbers", status=ExitStatus.MODEL)
        return logits

    def _run(self, ids: list[int], *, wants_logits: bool) -> Tensor:
        """One pass over `ids` after what is cached: logits (rows, vocabulary), or the hidden states."""
        try:
            with _allocation_errors(), _threads(self._narrow_threads if len(ids) == 1 else None):
                hidden = self._model.run(torch.tensor(ids, device=self._model.device), len(self._cached), self._cache)
                result = self._model.logits(hidden) if wants_logits else hidden
        except BaseException:
            # Half a pass is no cache; and after a failed allocation its memory is what is needed.
            self.forget()
            raise
        self._cached += ids
        return result

    def _try_once(self) -> None:
        """Refuse weights that are not numbers. One pass meets every weight but the other embeddings."""
        with _allocation_errors():
            rows = torch.split(self._model.embedding, 4096)
            sound = all(bool(block.isfinite().all()) for block in rows)
            sound = sound and bool(self._run([self._eos_id], wants_logits=True).isfinite().all())
        self.forget()
        if not sound:
            raise _refused("engine.weights-not-numbers")


def _refused(key: str, **values: object) -> BchatError:
    return BchatError(key, status=ExitStatus.MODEL, **values)


@contextmanager
def _allocation_errors() -> Iterator[None]:
    """A failed allocation, in whatever words torch has for it, as BchatError."""
    try:
        yield
    except MemoryError:
        raise BchatError("engine.out-of-memory") from None
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate" in str(error) or "out of memory" in str(error):
            raise BchatError("engine.out-of-memory") from None
        raise


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """`count` threads within; None leaves them.

    Sampling and a small model's step are rows of tiny kernels: on a machine that is busy with
    something else, two threads wait up to 8 ms for each other at each of them.
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

"""The engine that computes here: load, prefill, decode, sample; the KV cache is kept between replies.

`complete` reads as the algorithm: bring the cache to the ids, choose a token, append it, again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bilingual_chat.engines.device import check_memory, pick_device, pick_dtype, pick_precision, why_narrow
from bilingual_chat.engines.generation import Reading, Reply, allocation_errors, threads
from bilingual_chat.engines.lookahead import Lookahead
from bilingual_chat.engines.memory import SMALL
from bilingual_chat.engines.neox.build import kernel_problem, load_library
from bilingual_chat.engines.neox.config import EMBEDDING, NeoxConfig, parse_config
from bilingual_chat.engines.neox.cpu_model import CpuNeox, can_compute
from bilingual_chat.engines.neox.cuda_graph import CudaGraphNeox
from bilingual_chat.engines.neox.kv_cache import KVCache
from bilingual_chat.engines.neox.torch_model import GptNeox
from bilingual_chat.engines.protocol import Chunk, DeviceName, DtypeName, Progress, QuantizeName
from bilingual_chat.engines.weights.convert import open_weights
from bilingual_chat.engines.weights.files import find_weights, read_json
from bilingual_chat.engines.weights.quantize import open_quantized
from bilingual_chat.engines.weights.quantized_matrix import QuantizedMatrix, QuantizedPrecision
from bilingual_chat.engines.weights.withdrawn import check_withdrawn
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.decoding import DecodingParameters

PREFILL_ROWS = 96  # prompt tokens a pass: Ctrl-C acts between passes at the latest
AHEAD_LEAST = 8  # tokens; fewer are not worth a pass of their own: it reads all weights
TRIED = 3  # tokens that lookahead tries at a time: four rows cost little more than one


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
        quantize: QuantizeName = "auto",
        accept_withdrawn: bool = False,
        progress: Progress | None = None,
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
        place = pick_device(device, config.parameter_count)
        kind = pick_dtype(dtype, place, config, paths, entry.dtype)
        self._quantized = pick_precision(quantize, place, config, kind)
        check_memory(config, kind, place, others, self._quantized)
        self._withdrawn = check_withdrawn(paths, entry, accept=accept_withdrawn, progress=progress)
        with allocation_errors():
            weights: Mapping[str, Tensor | QuantizedMatrix]
            if self._quantized is not None:
                weights, problem = open_quantized(paths, config.shapes(), self._quantized, progress)
            else:
                weights, problem = open_weights(paths, config.shapes(), kind, place, progress)
            self._model = _network(config, weights, place, self._quantized)
        self._notices = (*filter(None, (problem,)), *self._remarks(quantize, config, kind, place))
        self._name, self._eos_id, self._vocab_size = name, eos_id, vocab_size
        is_small = config.parameter_count < SMALL and isinstance(self._model, GptNeox)
        self._threads = 1 if place.type == "cpu" and is_small else None
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
        """What its matrices are in: `dtype_name`, "int8" or "int4"; or "w8a8", activations in 8 bits too."""
        return self._quantized or self.dtype_name

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """What is read for every token: all weights but the embedding, of which one row is."""
        return self._model.weights_per_token()

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
        self, prompt_ids: Sequence[int], parameters: DecodingParameters, seed: int, progress: Progress | None = None
    ) -> Generator[Chunk, None, None]:
        """Continue `prompt_ids`; see `Engine.complete`. Nothing is computed before the first `next`.

        Raises BchatError, when consumed: a prompt that leaves no position, memory exhausted, logits
        that are no numbers. ValueError for ids outside the vocabulary.
        """
        reply = self._reply(prompt_ids, parameters, seed)
        reply.cached_tokens = self._common_prefix(reply.ids)
        self._prefill_all_but_last(reply.ids, progress)
        if not self._is_row_invariant:
            while not reply.is_done:
                yield reply.add(self._logits_after(reply.ids)[0])
            return
        ahead = Lookahead(self._logits_after, TRIED)
        while not reply.is_done:
            yield reply.add(ahead.logits_after(reply.ids, reply.room))

    def complete_many(
        self,
        prompt_ids: Sequence[int],
        wanted: Sequence[tuple[DecodingParameters, int]],
        progress: Progress | None = None,
    ) -> Generator[tuple[int, Chunk], None, None]:
        """Several replies to one prompt, side by side: (number of the reply, its next chunk), in turn.

        wanted: parameters and seed of each. The prompt is computed once; each step is one pass over
        all replies that go on. A reply is the one that `complete` gives. Raises as `complete` does.
        """
        replies = [self._reply(prompt_ids, parameters, seed) for parameters, seed in wanted]
        if not replies:
            return
        cached = self._common_prefix(replies[0].ids)
        self._prefill_all_but_last(replies[0].ids, progress)
        first = self._logits_after(replies[0].ids)[0]
        caches = [self._cache.copy(len(self._cached)) for _ in replies]
        logits = [first.clone() for _ in replies]
        going = list(range(len(replies)))
        while going:
            for at, each in zip(going, logits, strict=True):
                replies[at].cached_tokens = cached
                yield at, replies[at].add(each)
            going = [at for at in going if not replies[at].is_done]
            if going:
                logits = self._side_by_side([replies[at].ids for at in going], [caches[at] for at in going])

    @property
    def can_prefill(self) -> bool:
        """As `Engine.can_prefill`: torch's sums depend on how a prompt is cut."""
        return self._is_row_invariant

    def prefill(self, ids: Sequence[int]) -> Iterator[int]:
        """Bring the cache to `ids`, as `Engine.prefill` says; left alone where a few are missing.

        Raises BchatError as `complete` does; ValueError for ids outside the vocabulary.
        """
        given = list(ids)[: self.context_length]
        if not self.can_prefill or not given or self._common_prefix([*given, -1]) > len(given) - AHEAD_LEAST:
            return
        if min(given) < 0 or max(given) >= self._vocab_size:
            raise ValueError("ids are each within the tokenizer's vocabulary")
        del self._cached[self._common_prefix(given) :]
        while (at := len(self._cached)) < len(given):
            self._run(given[at : at + PREFILL_ROWS], wanted=0)
            yield len(self._cached)

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
                yield self._logits(self._run(given[at : at + PREFILL_ROWS]))
        finally:
            self.forget()

    def _remarks(
        self, quantize: QuantizeName, config: NeoxConfig, dtype: torch.dtype, place: torch.device
    ) -> list[Phrase]:
        """What a person should know who did not ask for it, or what is slow here."""
        remarks = []
        if self._quantized is not None and quantize == "auto":
            remarks.append(why_narrow(self._quantized, config, dtype, place))
        problem = None if self._is_row_invariant else _missing_kernels(config, dtype, place, self._quantized)
        if problem is not None and self._quantized is None:
            remarks.append(Phrase("engine.no-kernels", reason=problem))
        elif problem is not None:
            remarks.append(Phrase("engine.no-kernels-quantized", reason=problem, precision=self._quantized))
        return remarks

    def _reply(self, prompt_ids: Sequence[int], parameters: DecodingParameters, seed: int) -> Reply:
        return Reply(
            prompt_ids,
            parameters,
            seed,
            eos_ids=[self._eos_id],
            vocab_size=self._vocab_size,
            context_length=self.context_length,
        )

    @property
    def _is_row_invariant(self) -> bool:
        """Whether a row's numbers are the same whatever rows are computed with it."""
        return isinstance(self._model, CpuNeox)

    def _common_prefix(self, ids: list[int]) -> int:
        """How many leading ids the cache holds already; at most all but the last, which is always run."""
        most = min(len(self._cached), len(ids) - 1)
        if self._cached[:most] == ids[:most]:
            return most
        return next(at for at in range(most) if self._cached[at] != ids[at])

    def _logits_after(self, ids: list[int], tried: Sequence[int] = ()) -> Tensor:
        """float32 logits (1 + tokens tried, vocabulary): for what follows `ids`, and then each of `tried`.

        Brings the cache to all of them. Where rows are not computed independently of each other, the last id
        is a pass of its own even in a prompt: so a repeated prompt goes through the same kernels as the
        first time, and in 16 bits too a seed gives the same reply again.
        """
        self._prefill_all_but_last(ids)
        return self._logits(self._run([*ids[len(self._cached) :], *tried], wanted=1 + len(tried)))

    def _prefill_all_but_last(self, ids: list[int], progress: Progress | None = None) -> None:
        """Bring the cache to `ids` without those of the last pass."""
        del self._cached[self._common_prefix(ids) :]
        last = PREFILL_ROWS if self._is_row_invariant else 1
        reading = Reading(progress, len(ids), len(self._cached)) if progress else None
        while (rest := len(ids) - len(self._cached)) > last:
            passes = -(-rest // PREFILL_ROWS)
            at, size = len(self._cached), -(-rest // passes)  # equal ones: each reads all weights
            self._run(ids[at : min(at + size, len(ids) - 1)], wanted=0)
            if reading:
                reading.at(len(self._cached))

    def _run(self, ids: list[int], wanted: int | None = None) -> Tensor:
        """One pass over `ids` after what is cached: hidden states (wanted, hidden), see `GptNeox.run`."""
        try:
            hidden = self._pass(ids, len(self._cached), self._cache, wanted)
        except Exception:
            self.forget()  # after a failed allocation its memory is what is needed
            raise
        # Ctrl-C within leaves what was cached before: a pass writes its own positions only.
        self._cached += ids
        return hidden

    def _logits(self, hidden: Tensor) -> Tensor:
        """float32 (rows, tokenizer's vocabulary), finite; what was computed with other numbers is forgotten."""
        try:
            with allocation_errors(), threads(self._threads):
                logits = self._model.logits(hidden)[:, : self._vocab_size]
        except Exception:
            self.forget()
            raise
        with threads(1):
            sound = bool(logits.isfinite().all())
        if not sound:
            self.forget()
            raise BchatError("engine.not-numbers", status=ExitStatus.MODEL)
        return logits

    def _pass(self, ids: list[int], start: int, cache: KVCache, wanted: int | None = None) -> Tensor:
        """Hidden states (wanted, hidden)."""
        with allocation_errors(), threads(self._threads):
            return self._model.run(torch.tensor(ids, device=self._model.device), start, cache, wanted)

    def _side_by_side(self, prompts: Sequence[list[int]], caches: Sequence[KVCache]) -> list[Tensor]:
        """Logits after the last id of each prompt, whose cache holds the others."""
        places = [len(ids) - 1 for ids in prompts]
        if isinstance(self._model, CpuNeox):
            with allocation_errors():
                last = torch.tensor([ids[-1] for ids in prompts])
                return list(self._logits(self._model.run_rows(last, places, caches)))
        return [
            self._logits(self._pass(ids[-1:], place, cache))[0]
            for ids, place, cache in zip(prompts, places, caches, strict=True)
        ]

    def _try_once(self) -> None:
        """Refuse weights that are not numbers. One pass meets every weight but the other embeddings."""
        with allocation_errors():
            rows = torch.split(self._model.embedding, 4096)
            sound = all(bool(block.isfinite().all()) for block in rows)
            try:
                self._logits(self._run([self._eos_id]))
            except BchatError as error:
                if error.key != "engine.not-numbers":
                    raise
                sound = False
        self.forget()
        if not sound:
            raise _refused("engine.weights-not-numbers")


def _network(
    config: NeoxConfig,
    weights: Mapping[str, Tensor | QuantizedMatrix],
    place: torch.device,
    precision: QuantizedPrecision | None,
) -> GptNeox | CpuNeox:
    """Our own kernels where it is worth compiling them, else torch's, on a GPU in recorded steps."""
    embedding = weights[EMBEDDING]
    wants = isinstance(embedding, Tensor) and _wants_kernels(config, embedding.dtype, place, precision)
    library = load_library() if wants else None
    if library is not None:
        return CpuNeox(config, weights, library, 1 if precision == "w8a8" else 2)
    return CudaGraphNeox(config, weights) if place.type == "cuda" else GptNeox(config, weights)


def _wants_kernels(
    config: NeoxConfig, dtype: torch.dtype, place: torch.device, precision: QuantizedPrecision | None
) -> bool:
    """Whether our own kernels can compute this, and it is worth compiling them."""
    is_worth_it = precision is not None or config.parameter_count >= SMALL
    return place.type == "cpu" and is_worth_it and dtype != torch.float16 and can_compute(config)


def _missing_kernels(
    config: NeoxConfig, dtype: torch.dtype, place: torch.device, precision: QuantizedPrecision | None
) -> Phrase | None:
    """Why torch computes what the kernels should."""
    return kernel_problem() if _wants_kernels(config, dtype, place, precision) else None


def _refused(key: str, **values: object) -> BchatError:
    return BchatError(key, status=ExitStatus.MODEL, **values)

"""Models of other families, by transformers: for comparing with newer ones.

Imported only when such a model is opened: AutoModelForCausalLM alone takes seconds. Never remote
code, never a pickle, nothing from the network. The loop is that of `engines.local`.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterator, Sequence
from logging import ERROR
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from bilingual_chat.engines.device import DTYPES, ROOM, free_memory, name_of, pick_device, tenths
from bilingual_chat.engines.generation import Reading, Reply, allocation_errors, threads
from bilingual_chat.engines.memory import SMALL, available_memory, needed_memory
from bilingual_chat.engines.other_families.chat_template import TemplateTokenizer
from bilingual_chat.engines.protocol import Chunk, DeviceName, DtypeName, Progress, one_after_another
from bilingual_chat.engines.weights.files import find_weights, read_json, refused
from bilingual_chat.engines.weights.reader import read_tensors
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.text.prompt import PromptFormat

PREFILL_ROWS = 256  # prompt tokens a pass: Ctrl-C acts between passes at the latest
USUAL_CONTEXT = 2048  # positions, where config.json does not say; and of the KV cache that must fit
# What holds every number of the weights, by what they are stored as; float16 is slow on a CPU.
_LOSSLESS = {torch.float64: torch.float32, torch.float32: torch.float32, torch.float16: torch.float16}


def open_transformers_engine(
    directory: Path,
    format: PromptFormat,
    *,
    name: str,
    device: DeviceName = "auto",
    dtype: DtypeName = "auto",
    insists: bool = False,
) -> tuple[TemplateTokenizer, TransformersEngine]:
    """The tokenizer and the engine of a directory with config.json, tokenizer.json and safetensors.

    insists: the precision in which the weights are stored, even where that is slow or leaves little memory.
    Raises BchatError (MODEL): no template, an unknown architecture, one that brings its own code, weights
    that are pickled, damaged, or no match for the config, too little memory.
    """
    config = read_json(directory / "config.json")
    _check_config(directory, config)
    tokenizer = TemplateTokenizer(directory, format)
    engine = TransformersEngine(
        directory,
        name=name,
        eos_ids=tokenizer.eos_ids,
        vocab_size=tokenizer.vocab_size,
        device=device,
        dtype=dtype,
        insists=insists,
    )
    return tokenizer, engine


class TransformersEngine:
    """A causal language model of transformers in this process. One completion at a time.

    Implements `Engine`. State: the weights (constant), the KV cache, and the ids that the cache holds.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str,
        eos_ids: Sequence[int],
        vocab_size: int,
        device: DeviceName = "auto",
        dtype: DtypeName = "auto",
        insists: bool = False,
    ) -> None:
        """Load `directory` and try it; eos_ids (at least one) end a reply, ids from vocab_size on are not sampled.

        dtype, insists: see `open_transformers_engine`.
        """
        paths = find_weights(directory)
        if any(path.suffix != ".safetensors" for path in paths):
            raise refused("engine.foreign-pickle", paths[0])
        parameters, stored = _measure(paths)
        place = pick_device(device, parameters)
        kind, remark = _pick_dtype(dtype, insists, place, parameters, stored)
        self._notices = (remark,) if remark else ()
        self._threads = 1 if place.type == "cpu" and parameters < SMALL else None
        with allocation_errors():
            self._network = _load(directory, kind, parameters).to(place)
        text_config = self._network.config.get_text_config()
        if text_config.vocab_size < vocab_size:
            raise _refused("engine.vocabulary", model=text_config.vocab_size, tokenizer=vocab_size)
        positions = getattr(text_config, "max_position_embeddings", None)
        self._context_length = positions if isinstance(positions, int) and positions > 0 else USUAL_CONTEXT
        self._name, self._vocab_size, self._device = name, vocab_size, place
        self._eos_ids = [each for each in eos_ids if each < vocab_size]
        accepted = inspect.signature(self._network.forward).parameters
        self._only_last = "logits_to_keep" in accepted
        self._cache_name = "cache" if "cache" in accepted else "past_key_values"  # renamed in transformers 5.24
        self._crops = True
        self.forget()
        self._try_once()

    @property
    def name(self) -> str:
        return self._name

    @property
    def context_length(self) -> int:
        """Positions the model was trained for."""
        return self._context_length

    @property
    def precision(self) -> str:
        """What it computes in: "float32", "bfloat16" or "float16"."""
        return name_of(self._network.dtype)

    @property
    def device_name(self) -> str:
        """Where it computes: "cpu", "cuda:0", …"""
        return str(self._device)

    @property
    def notices(self) -> tuple[Phrase, ...]:
        """What a person should know about how the model was opened; mostly nothing."""
        return self._notices

    @property
    def cached_ids(self) -> tuple[int, ...]:
        """The ids whose keys and values are kept, from position 0 on."""
        return tuple(self._cached)

    def forget(self) -> None:
        """Drop the KV cache; the next prompt is computed from its first token."""
        self._cached: list[int] = []
        # Not told the config, so that no layer keeps a window only: what is cropped must still be whole.
        self._cache = DynamicCache()

    def complete(
        self, prompt_ids: Sequence[int], parameters: DecodingParameters, seed: int, progress: Progress | None = None
    ) -> Generator[Chunk, None, None]:
        """Continue `prompt_ids`; see `Engine.complete`. Raises as `LocalEngine.complete` does."""
        reply = Reply(
            prompt_ids,
            parameters,
            seed,
            eos_ids=self._eos_ids,
            vocab_size=self._vocab_size,
            context_length=self.context_length,
        )
        reply.cached_tokens = self._common_prefix(reply.ids)
        self._prefill_all_but_last(reply.ids, progress)
        while not reply.is_done:
            yield reply.add(self._logits_after(reply.ids))

    def complete_many(
        self,
        prompt_ids: Sequence[int],
        wanted: Sequence[tuple[DecodingParameters, int]],
        progress: Progress | None = None,
    ) -> Generator[tuple[int, Chunk], None, None]:
        """See `Engine.complete_many`; the prompt is read once, since its cache stays."""
        return one_after_another(self, prompt_ids, wanted, progress)

    @property
    def can_prefill(self) -> bool:
        """Never: the sums of other families depend on how a prompt is cut."""
        return False

    def prefill(self, ids: Sequence[int]) -> Iterator[int]:
        """Nothing; see `can_prefill`."""
        return iter(())

    def _common_prefix(self, ids: list[int]) -> int:
        """How many leading ids the cache holds already; at most all but the last, which is always run."""
        most = min(len(self._cached), len(ids) - 1)
        same = next((at for at in range(most) if self._cached[at] != ids[at]), most)
        return same if self._crops or same == len(self._cached) else 0

    def _logits_after(self, ids: list[int]) -> Tensor:
        """float32 logits (tokenizer's vocabulary,) for what follows `ids`, with the cache brought to `ids`.

        The last id is a pass of its own even in a prompt: so a repeated prompt goes through the same
        kernels as the first time.
        """
        self._prefill_all_but_last(ids)
        logits = self._run(ids[-1:])
        if not bool(logits.isfinite().all()):
            self.forget()
            raise _refused("engine.not-numbers")
        return logits

    def _prefill_all_but_last(self, ids: list[int], progress: Progress | None = None) -> None:
        self._crop_to(self._common_prefix(ids))
        reading = Reading(progress, len(ids), len(self._cached)) if progress else None
        while (at := len(self._cached)) < len(ids) - 1:
            self._run(ids[at : min(at + PREFILL_ROWS, len(ids) - 1)])
            if reading:
                reading.at(len(self._cached))

    def _crop_to(self, length: int) -> None:
        surplus = len(self._cached) - length
        if surplus and length:
            self._cache.crop(-surplus)  # by how much; a length is refused
            del self._cached[length:]
        elif surplus:
            self.forget()

    def _run(self, ids: list[int]) -> Tensor:
        """One pass over `ids` after what is cached: float32 logits (tokenizer's vocabulary,) after the last."""
        options: dict[str, Any] = {self._cache_name: self._cache, **({"logits_to_keep": 1} if self._only_last else {})}
        try:
            with allocation_errors(), threads(self._threads), torch.inference_mode():
                rows = torch.tensor([ids], device=self._device)
                result = self._network(input_ids=rows, use_cache=True, **options)
                logits: Tensor = result.logits[0, -1, : self._vocab_size].float().cpu()
        except BaseException:
            self.forget()  # half a pass is no cache
            raise
        self._cached += ids
        return logits.clone()

    def _try_once(self) -> None:
        """Refuse weights that are not numbers; find out whether this kind of model can go back in its cache."""
        with torch.inference_mode():
            sound = all(bool(each.isfinite().all()) for each in self._network.parameters())
        if not sound:
            raise _refused("engine.weights-not-numbers")
        step = max(1, self._vocab_size // 7)
        ids = [at * step for at in range(6)]
        try:
            reference = self._logits_after(ids)
        except BchatError as error:
            raise (_refused("engine.weights-not-numbers") if error.key == "engine.not-numbers" else error) from None
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError, ImportError) as error:
            raise _refused("engine.foreign-fails", kind=type(error).__name__) from None
        self._crops = self._goes_back(ids, reference)
        self.forget()

    def _goes_back(self, ids: list[int], reference: Tensor) -> bool:
        """Whether the logits after a detour and a crop are those of the straight way. A recurrent state cannot."""
        try:
            if self._cache.get_seq_length() != len(ids):
                return False
            self._logits_after([*ids[:3], ids[5], ids[4]])
            again = self._logits_after(ids)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError, NotImplementedError):
            return False
        allowed = 1e-3 if self._network.dtype == torch.float32 else 0.1
        return bool((again - reference).abs().max() <= allowed * reference.abs().max())


def _check_config(directory: Path, config: dict[str, Any]) -> None:
    if "auto_map" in config:
        raise refused("engine.foreign-code", directory / "config.json")
    model_type = config.get("model_type")
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise _refused("engine.foreign-type", model_type=model_type)
    if "quantization_config" in config:
        quantization = config["quantization_config"]
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        raise _refused("engine.option", name="quantization_config", value=method)


def _measure(paths: Sequence[Path]) -> tuple[int, torch.dtype]:
    """How many numbers the files hold, and what most of them are stored as; nothing is read but headers."""
    counts: dict[torch.dtype, int] = {}
    for path in paths:
        for _, tensor in read_tensors(path):
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.numel()
    if not counts:
        raise refused("engine.weights-damaged", paths[0])
    return sum(counts.values()), max(counts, key=lambda each: counts[each])


def _pick_dtype(
    name: DtypeName, insists: bool, device: torch.device, parameters: int, stored: torch.dtype
) -> tuple[torch.dtype, Phrase | None]:
    """auto: float32 if small, else what the weights are stored as; bfloat16 where that is slow or does not fit.

    The second value says that numbers are rounded, and why.
    """
    if name != "auto":
        return DTYPES[name], None
    if parameters < SMALL:
        return torch.float32, None
    lossless = _LOSSLESS.get(stored, torch.bfloat16)
    is_slow = lossless == torch.float16 and device.type == "cpu"
    if insists or lossless == torch.bfloat16:
        return (torch.float32 if is_slow else lossless), None
    if is_slow:
        return torch.bfloat16, Phrase("engine.rounded", dtype=name_of(lossless), narrow="bfloat16")
    needed, free = needed_memory(parameters, 0, lossless.itemsize), free_memory(device)
    if free is None or needed * (1 + ROOM) <= free:
        return lossless, None
    told = {"needed": tenths(needed), "available": tenths(free)}
    return torch.bfloat16, Phrase("engine.narrowed", precision="bfloat16", dtype=name_of(lossless), **told)


def _load(directory: Path, dtype: torch.dtype, parameters: int) -> Any:
    """The model, on the CPU. Refuses what does not fit the memory, and any key that is not just right."""
    needed, available = needed_memory(parameters, 0, dtype.itemsize), available_memory()
    if available is not None and needed > available:
        raise _refused(
            "engine.memory",
            needed=f"{needed / 1e9:.1f}",
            available=f"{available / 1e9:.1f}",
            choice=Phrase("engine.choose-smaller"),
        )
    logging.set_verbosity(ERROR)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        opened: Any = AutoModelForCausalLM.from_pretrained(
            directory,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever it trips over; its words name options that must stay as they are
        if isinstance(error, RuntimeError) and "allocate" in str(error):
            raise
        raise _refused("engine.foreign-damaged", directory=directory, kind=type(error).__name__) from None
    network, report = opened
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if found := sorted(map(str, report.get(problem) or ())):
            raise _refused("engine.foreign-keys", directory=directory, count=len(found), name=found[0])
    return network.eval()


def _refused(key: str, **values: object) -> BchatError:
    return BchatError(key, status=ExitStatus.MODEL, **values)

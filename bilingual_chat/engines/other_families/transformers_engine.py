"""Models of other families, computed by transformers; for comparisons with newer models.

The import of AutoModelForCausalLM takes seconds, so only such a model imports this file. bchat never runs remote code,
reads no pickle and uses no network.
"""

from __future__ import annotations

import inspect
from functools import cached_property
from logging import ERROR
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from bilingual_chat.engines.batch import Rows
from bilingual_chat.engines.device import ModelSize, Preference, check_memory, choose_hardware
from bilingual_chat.engines.engine import CachedEngine
from bilingual_chat.engines.generation import allocation_errors
from bilingual_chat.engines.memory import SMALL
from bilingual_chat.engines.other_families.chat_template import TemplateTokenizer
from bilingual_chat.engines.other_families.rows import LeftPaddedRows, layers_of
from bilingual_chat.engines.protocol import OpenOptions
from bilingual_chat.engines.token_rules import Vocabulary
from bilingual_chat.engines.weights.files import find_weights, read_json, refused
from bilingual_chat.engines.weights.reader import count_stored
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry

USUAL_CONTEXT = 2048  # positions, if config.json does not say
# A model that transformers cannot run, or cannot run back, raises one of these.
_FAILURES = (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError)


def open_transformers_engine(
    directory: Path, entry: ModelEntry, options: OpenOptions
) -> tuple[TemplateTokenizer, TransformersEngine]:
    """Open a directory with config.json, tokenizer.json and safetensors; return its tokenizer and its engine.

    With `quantize` "none" the stored precision stays, even if that is slow or leaves little memory.
    Raises BchatError (MODEL): no template, an unknown architecture or one with code of its own, weights that are
    pickled, damaged, or do not match the config, too little memory.
    """
    _check_config(directory)
    tokenizer = TemplateTokenizer(directory, entry.prompt)
    return tokenizer, TransformersEngine(directory, entry.name, tokenizer, options)


class TransformersEngine(CachedEngine):
    """A causal language model of transformers in this process."""

    _model: TransformersModel
    prefill_rows = 256

    def __init__(self, directory: Path, name: str, tokenizer: TemplateTokenizer, options: OpenOptions) -> None:
        """Load `directory` and compute some tokens. See `open_transformers_engine` and `CachedEngine`."""
        paths = find_weights(directory)
        if any(path.suffix != ".safetensors" for path in paths):
            raise refused("engine.foreign-pickle", paths[0])
        counts = count_stored(paths)
        if not counts:
            raise refused("engine.weights-damaged", paths[0])
        size = ModelSize(counts.total())
        prefer: Preference = "exact" if options.quantize == "none" else "exact if it fits"
        hardware = choose_hardware(size, lambda: counts.most_common(1)[0][0], prefer, options)
        check_memory(size, hardware.dtype, torch.device("cpu"))  # where transformers loads every model first
        with allocation_errors():
            network = _load(directory, hardware.dtype).to(hardware.device)
        model = TransformersModel(network, hardware.device)
        vocab_size = tokenizer.vocab_size
        if model.vocab_size < vocab_size:
            raise _refused("engine.vocabulary", model=model.vocab_size, tokenizer=vocab_size)
        super().__init__(
            model,
            name=name,
            eos_ids=[each for each in tokenizer.eos_ids if each < vocab_size],
            notices=[hardware.notice] if hardware.notice else [],
            max_threads=1 if hardware.device.type == "cpu" and size.parameters < SMALL else None,
            vocabulary=Vocabulary(tokenizer),
        )
        self._test()
        self.forget()

    def _test(self) -> None:
        """Refuse a model that does not compute; find out if its cache can rewind."""
        step = max(1, self._vocab_size // 7)
        ids = [index * step for index in range(6)]
        try:
            reference = self._check_weights(self._model.network.parameters(), ids)
        except (*_FAILURES, ImportError) as error:
            raise _refused("engine.foreign-fails", kind=type(error).__name__) from None
        self._model.can_rewind = self._rewinds(ids, reference)

    def _rewinds(self, ids: list[int], reference: Tensor) -> bool:
        """Return True if a detour and a rewind give the same logits. A recurrent state cannot rewind."""
        try:
            if self._cache.states.get_seq_length() != len(ids):
                return False
            self._logits_after([*ids[:3], ids[5], ids[4]])
            again = self._logits_after(ids)
        except (*_FAILURES, NotImplementedError):
            return False
        return self._model.is_close(again, reference)


class RewindableCache:
    """transformers' KV cache, and the number of positions that it holds."""

    def __init__(self) -> None:
        # Without the config, no layer keeps only a window of its positions: a rewind needs all of them.
        self.states, self.length = DynamicCache(), 0

    @property
    def bytes_per_position(self) -> int:
        """The bytes of keys and values of all layers."""
        return sum(each.nbytes for layer in layers_of(self.states) for each in layer) // max(self.length, 1)

    def rewind(self, length: int) -> None:
        """Drop the positions from `length` on."""
        if length == 0:
            self.states = DynamicCache()
        elif length < self.length:
            self.states.crop(length - self.length)  # transformers 5 refuses a positive number
        self.length = length


class TransformersModel:
    """A network of transformers; implements `CausalModel`. Its hidden states are the logits already."""

    kernel = "transformers"
    has_positional_cache = False

    def __init__(self, network: Any, device: torch.device) -> None:
        config = network.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None)
        self.context_length = positions if isinstance(positions, int) and positions > 0 else USUAL_CONTEXT
        self.network, self.device = network, device
        self.dtype: torch.dtype = network.dtype
        self.vocab_size: int = config.vocab_size
        self.can_rewind = True
        accepted = inspect.signature(network.forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._keeps_some = "logits_to_keep" in accepted
        self._cache_name = "cache" if "cache" in accepted else "past_key_values"  # transformers 5.24 renamed it

    def new_cache(self) -> RewindableCache:
        """Return an empty KV cache."""
        return RewindableCache()

    def new_rows(self, *, is_exact: bool) -> Rows | None:
        """See `CausalModel.new_rows`. None also for a model that computes something else in several rows."""
        return LeftPaddedRows(self._forward, self.device) if not is_exact and self._can_batch else None

    @cached_property
    def _can_batch(self) -> bool:
        """Return True if rows of different lengths have the logits that each has alone. A recurrent state has none."""
        if not self.can_rewind or not self._takes_positions:
            return False
        step = max(1, self.vocab_size // 7)
        prompts = [[index * step for index in range(length)] for length in (6, 3)]
        rows, alone = LeftPaddedRows(self._forward, self.device), []
        try:
            for ids in prompts:
                cache = self.new_cache()
                self.run(torch.tensor(ids, device=self.device), 0, cache)
                rows.add(cache, len(ids))
                alone.append(self.run(torch.tensor([step], device=self.device), len(ids), cache))
            return self.is_close(rows.step([step, step]), torch.cat(alone))
        except (*_FAILURES, NotImplementedError):
            return False

    @torch.inference_mode()
    def run(self, ids: Tensor, start: int, cache: RewindableCache, keep: int | None = None) -> Tensor:
        """Compute `ids` at positions from `start` on; return float32 logits (keep, vocabulary) on the CPU."""
        cache.rewind(start)
        rows = len(ids) if keep is None else keep
        options = {"logits_to_keep": max(rows, 1)} if self._keeps_some else {}  # 0 would keep all
        logits = self._forward(ids[None], cache.states, **options)
        cache.length += len(ids)
        return logits[len(logits) - rows :]

    @torch.inference_mode()
    def _forward(self, ids: Tensor, states: DynamicCache, **options: Any) -> Tensor:
        """Return float32 logits (rows × positions, vocabulary) on the CPU."""
        result = self.network(input_ids=ids, use_cache=True, **{self._cache_name: states}, **options)
        logits: Tensor = result.logits.flatten(0, 1).float().cpu()
        return logits

    def is_close(self, logits: Tensor, reference: Tensor) -> bool:
        """Return True if logits differ by rounding at most."""
        allowed = 1e-3 if self.dtype == torch.float32 else 0.1
        return bool((logits - reference).abs().max() <= allowed * reference.abs().max())

    def logits(self, hidden: Tensor) -> Tensor:
        """Return `hidden`."""
        return hidden


def _check_config(directory: Path) -> None:
    config = read_json(directory / "config.json")
    if "auto_map" in config:
        raise refused("engine.foreign-code", directory / "config.json")
    model_type = config.get("model_type")
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise _refused("engine.foreign-type", model_type=model_type)
    if "quantization_config" in config:
        quantization = config["quantization_config"]
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        raise _refused("engine.option", name="quantization_config", value=method)


def _load(directory: Path, dtype: torch.dtype) -> Any:
    """Return the network, on the CPU. Refuses missing, unexpected and mismatched tensors."""
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
    except Exception as error:  # any kind; the messages recommend unsafe options
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

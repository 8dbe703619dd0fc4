"""The engine of GPT-NeoX models: chooses device, dtype and precision, loads the weights, and builds the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bilingual_chat.engines.device import DTYPES, Hardware, ModelSize, choose_hardware, exact_dtype
from bilingual_chat.engines.engine import CachedEngine
from bilingual_chat.engines.generation import allocation_errors
from bilingual_chat.engines.memory import SMALL
from bilingual_chat.engines.neox.config import NeoxConfig, parse_config
from bilingual_chat.engines.neox.cpu_model import CpuNeox, can_compute
from bilingual_chat.engines.neox.cuda_graph import CudaGraphNeox
from bilingual_chat.engines.neox.kernel_library import kernel_problem, load_library
from bilingual_chat.engines.neox.torch_model import GptNeox
from bilingual_chat.engines.protocol import OpenOptions, Progress
from bilingual_chat.engines.token_rules import Vocabulary
from bilingual_chat.engines.weights.convert import open_weights
from bilingual_chat.engines.weights.files import find_weights, read_json
from bilingual_chat.engines.weights.reader import stored_dtype
from bilingual_chat.engines.weights.withdrawn import check_withdrawn
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry

if TYPE_CHECKING:
    from bilingual_chat.text.tokenizer import Tokenizer


class LocalEngine(CachedEngine):
    """A GPT-NeoX model in this process."""

    _model: GptNeox | CpuNeox

    def __init__(
        self,
        directory: Path,
        entry: ModelEntry,
        tokenizer: Tokenizer,
        options: OpenOptions,
        progress: Progress | None = None,
    ) -> None:
        """Load `directory` (config.json and weights) and compute one token.

        entry: names the checksums of withdrawn weights, and the dtype of the stored ones. progress: called in this
        thread with (bytes done, bytes in all), first for checksums, then for a conversion; each happens once per file.
        Raises BchatError (MODEL): unsupported, withdrawn, damaged, incomplete, too large for the memory.
        """
        config = parse_config(read_json(directory / "config.json"))
        sizes = {"model": config.vocab_size, "tokenizer": tokenizer.vocab_size}
        if sizes["model"] < sizes["tokenizer"]:
            raise BchatError("engine.vocabulary", status=ExitStatus.MODEL, **sizes)
        paths, size = find_weights(directory), neox_size(config)
        hardware = _choose_hardware(entry, paths, size, options)
        self._quantized = hardware.precision
        accept, others = options.accept_withdrawn, options.others
        self.withdrawn = check_withdrawn(paths, entry, others, accept=accept, progress=progress)
        with allocation_errors():
            model, problems = _load_model(config, paths, hardware, progress)
        is_small = hardware.device.type == "cpu" and size.parameters < SMALL and isinstance(model, GptNeox)
        super().__init__(
            model,
            name=entry.name,
            eos_ids=[tokenizer.eos_id],
            notices=filter(None, (hardware.notice, *problems)),
            max_threads=1 if is_small else None,
            vocabulary=Vocabulary(tokenizer),
        )
        # One pass reads every weight but the other rows of the embedding.
        self._check_weights(torch.split(model.embedding, 4096), [tokenizer.eos_id])
        self.forget()

    @property
    def precision(self) -> str:
        """The precision of the matrices: a dtype, "int8", "int4", or "w8a8" (int8 with activations in 8 bits)."""
        return self._quantized or super().precision

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """The weights that one token reads: all but the embedding, of which it reads one row."""
        return self._model.weights_per_token()

    @property
    def bytes_per_token(self) -> int:
        """The bytes of `weights`: memory bandwidth divided by it limits the tokens per second."""
        return sum(tensor.nbytes for tensor in self.weights)


def neox_size(config: NeoxConfig) -> ModelSize:
    """Return the size of a model, with shapes if the CPU kernels can compute it."""
    shapes = config.shapes() if can_compute(config) else None
    return ModelSize(config.parameter_count, config.cache_elements(), shapes)


def _choose_hardware(entry: ModelEntry, paths: Sequence[Path], size: ModelSize, options: OpenOptions) -> Hardware:
    def stored() -> torch.dtype | None:
        return DTYPES[entry.dtype] if entry.dtype else stored_dtype(paths)

    # A user's own float32 model keeps float32 on request; bchat computes the models that it knows in 16 bits.
    is_exact = options.quantize == "none" and not entry.dtype and exact_dtype(stored()) == torch.float32
    return choose_hardware(size, stored, "exact" if is_exact else "fast", options)


def _load_model(
    config: NeoxConfig, paths: Sequence[Path], hardware: Hardware, progress: Progress | None
) -> tuple[GptNeox | CpuNeox, tuple[Phrase | None, ...]]:
    """Return the model, and the reasons why it opens or runs slowly."""
    weights, problem = open_weights(
        paths, config.shapes(), hardware.dtype, hardware.device, hardware.precision, progress
    )
    if hardware.device.type == "cuda":
        return CudaGraphNeox(config, weights), (problem,)
    if not _wants_kernels(config, hardware):
        return GptNeox(config, weights), (problem,)
    library = load_library()
    if library is not None:
        return CpuNeox(config, weights, library, 1 if hardware.precision == "w8a8" else 2), (problem,)
    key = "engine.no-kernels-quantized" if hardware.precision else "engine.no-kernels"
    slow = Phrase(key, reason=kernel_problem(), precision=hardware.precision)
    return GptNeox(config, weights), (problem, slow)


def _wants_kernels(config: NeoxConfig, hardware: Hardware) -> bool:
    """Return True if the CPU kernels can compute the model and are worth compiling."""
    if hardware.device.type != "cpu" or not can_compute(config):
        return False
    is_float16 = hardware.precision is None and hardware.dtype == torch.float16
    return not is_float16 and (hardware.precision is not None or config.parameter_count >= SMALL)

"""The vLLM command for a model, and the memory that it needs on GPUs. Computed from shapes, not measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from bilingual_chat.settings.catalogue import ModelEntry

USABLE = 0.9  # of a GPU's memory, vLLM's default
WORKING_MEMORY = 1.5e9  # bytes a GPU for activations and CUDA graphs; an estimate
_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class Shape:
    """The numbers of a model that decide about memory and about the number of GPUs."""

    parameters: int
    layers: int
    heads: int
    hidden_size: int
    context_length: int

    def weights_bytes(self, dtype: str) -> int:
        return self.parameters * _BYTES[dtype]

    def cache_bytes(self, dtype: str) -> int:
        """Return the bytes of the KV cache of one token."""
        return 2 * self.layers * self.hidden_size * _BYTES[dtype]


@dataclass(frozen=True)
class Layout:
    """The layout of one server on GPUs: `tensor` share each layer, `pipeline` groups share the layers; or copies."""

    tensor: int = 1
    pipeline: int = 1
    copies: int = 1
    machines: int = 1  # that one server needs

    @property
    def gpus(self) -> int:
        return self.tensor * self.pipeline * self.copies


def choose_layout(shape: Shape, dtype: str, *, memory: float, gpus: int, machines: int) -> Layout:
    """Return the layout of one server on up to `machines`, each with `gpus` of `memory` bytes.

    The smallest that holds one conversation: a GPU, a machine, all machines. Copies of a small layout answer more users
    than one large layout. Within a machine, as many GPUs as divide the heads share each layer; machines share layers.
    """
    if users(shape, dtype, memory, 1):
        return Layout(copies=gpus)
    tensor = math.gcd(shape.heads, gpus)
    machines = 1 if users(shape, dtype, memory, gpus) else machines
    return Layout(tensor, gpus * machines // tensor, machines=machines)


def users(shape: Shape, dtype: str, memory: float, gpus: int) -> int:
    """Return how many conversations of the full context fit beside the weights on `gpus` of `memory` bytes each."""
    free = gpus * (memory * USABLE - WORKING_MEMORY) - shape.weights_bytes(dtype)
    return max(int(free // (shape.cache_bytes(dtype) * shape.context_length)), 0)


def command(
    entry: ModelEntry, directory: Path | None, dtype: str, layout: Layout, *, host: str, port: int, context_length: int
) -> list[str]:
    """Return the arguments of vLLM, `vllm` first. directory: of the model; None takes it from the hub.

    Without a tokenizer, prompts are token ids only, and nothing rewrites them. `--generation-config vllm`: no default
    of the model's files changes a distribution. Log probabilities are those of the model, before all settings.
    """
    source = [str(directory)] if directory else [entry.hub_id, "--revision", entry.revision]
    parallel = {
        "--tensor-parallel-size": layout.tensor,
        "--pipeline-parallel-size": layout.pipeline,
        "--data-parallel-size": layout.copies,
    }
    return [
        *("vllm", "serve", *source),
        *("--served-model-name", entry.name),
        "--skip-tokenizer-init",
        *("--generation-config", "vllm"),
        *("--logprobs-mode", "raw_logprobs"),
        *("--dtype", dtype),
        *("--max-model-len", str(context_length)),
        *("--host", host, "--port", str(port)),
        *(word for name, count in parallel.items() if count > 1 for word in (name, str(count))),
        *(("--distributed-executor-backend", "ray") if layout.machines > 1 else ()),
    ]

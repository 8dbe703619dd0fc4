"""Convert a GPT-NeoX model directory to GGUF files for llama.cpp: the same weights under its names, in its order.

Source: llama.cpp's converter for `GPTNeoXForCausalLM` (conversion/gptneox.py) and its loader
(src/models/gptneox.cpp) of autumn 2026:
- The rows of query_key_value are ordered by head in the directory (query, key, value of head 0, then of head 1, …);
  in GGUF all queries come first, then all keys, then all values.
- Vectors (norms, biases) are float32; there is always an output matrix, even for tied embeddings.
- A vocabulary of the type "none" needs its size only: token ids in, logits out.

llama.cpp's own quantizer makes 8 and 4 bits from the BF16 file, with its usual mixtures (with Q4_0 the output matrix
has 6 bits).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bilingual_chat.engines.neox.config import EMBEDDING, HEAD, NeoxConfig, parse_config
from bilingual_chat.engines.weights.files import find_weights, read_json
from bilingual_chat.engines.weights.reader import read_stored, survey

GGML_LOG_LEVEL_ERROR = 4
KINDS = ("F32", "BF16", "Q8_0", "Q4_0")
NAMES = {
    "input_layernorm": "attn_norm",
    "attention.query_key_value": "attn_qkv",
    "attention.dense": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.dense_h_to_4h": "ffn_up",
    "mlp.dense_4h_to_h": "ffn_down",
}
OUTSIDE = {"gpt_neox.embed_in": "token_embd", "gpt_neox.final_layer_norm": "output_norm", "embed_out": "output"}

_tell: Any = None


def make(directory: Path, path: Path, kind: str) -> Path:
    """Return the GGUF file of this kind, made if it is missing."""
    if path.is_file():
        return path
    part = path.with_suffix(".part")
    if kind in ("F32", "BF16"):
        write(directory, part, kind)
    else:
        quantize(make(directory, path.with_name(path.name.replace(kind, "BF16")), "BF16"), part, kind)
    part.replace(path)
    return path


def write(directory: Path, path: Path, kind: str) -> None:
    """The weights of `directory` as F32 or BF16, tensor by tensor."""
    import gguf

    config = parse_config(read_json(directory / "config.json"))
    kinds = {"F32": gguf.GGMLQuantizationType.F32, "BF16": gguf.GGMLQuantizationType.BF16}
    writer = gguf.GGUFWriter(path, "gptneox")
    describe(writer, config, kind)
    for name, tensor in tensors(directory, config):
        stored = kinds["F32" if tensor.dim() == 1 else kind]
        data = numbers(tensor, stored.name)
        writer.add_tensor_info(name, data.shape, data.dtype, data.nbytes, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, tensor in tensors(directory, config):
        writer.write_tensor_data(numbers(tensor, "F32" if tensor.dim() == 1 else kind))
    writer.close()


def describe(writer: Any, config: NeoxConfig, kind: str) -> None:
    import gguf

    writer.add_file_type({"F32": gguf.LlamaFileType.ALL_F32, "BF16": gguf.LlamaFileType.MOSTLY_BF16}[kind])
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.heads)
    writer.add_layer_norm_eps(config.norm_epsilon)
    writer.add_rope_dimension_count(config.rotary_dims)
    writer.add_rope_freq_base(config.rotary_base)
    writer.add_parallel_residual(config.parallel_residual)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("none")


def tensors(directory: Path, config: NeoxConfig) -> Iterator[tuple[str, Tensor]]:
    """Return llama.cpp's name and row order of each weight."""
    for stored, tensor in read_stored(survey(find_weights(directory), config.shapes())):
        yield renamed(stored.name), reordered(stored.name, tensor, config.heads)
        if config.tied_head and stored.name == EMBEDDING:
            yield renamed(HEAD), tensor


def renamed(name: str) -> str:
    module, _, part = name.rpartition(".")
    if module in OUTSIDE:
        return f"{OUTSIDE[module]}.{part}"
    layer, _, inner = module.removeprefix("gpt_neox.layers.").partition(".")
    return f"blk.{layer}.{NAMES[inner]}.{part}"


def reordered(name: str, tensor: Tensor, heads: int) -> Tensor:
    """(head, query/key/value, …) as (query/key/value, head, …)."""
    if "query_key_value" not in name:
        return tensor
    by_head = tensor.view(heads, 3, tensor.shape[0] // heads // 3, *tensor.shape[1:])
    return by_head.transpose(0, 1).reshape(tensor.shape)


def numbers(tensor: Tensor, kind: str) -> Any:
    """Return the array for numpy; bfloat16, which numpy lacks, as bytes."""
    if kind == "F32":
        return tensor.float().contiguous().numpy()
    return tensor.to(torch.bfloat16).contiguous().view(torch.uint8).numpy()


def quantize(source: Path, path: Path, kind: str) -> None:
    import llama_cpp

    hush()
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = {"Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}[kind]
    if llama_cpp.llama_model_quantize(str(source).encode(), str(path).encode(), ctypes.byref(options)):
        raise SystemExit(f"llama.cpp could not quantise {source} to {kind}.")


def hush() -> None:
    """Discard llama.cpp's output, hundreds of lines for each model, except errors."""
    global _tell  # kept: C has only its address
    import llama_cpp

    @llama_cpp.llama_log_callback
    def tell(level: int, text: bytes, _: object) -> None:
        if level == GGML_LOG_LEVEL_ERROR:
            sys.stderr.write(text.decode(errors="replace"))

    _tell = tell
    llama_cpp.llama_log_set(tell, None)


def bytes_per_token(path: Path) -> int:
    """Return the bytes of weights that llama.cpp reads for a token: all but the embedding, of which it reads a row."""
    import gguf

    return sum(int(each.n_bytes) for each in gguf.GGUFReader(path).tensors if each.name != "token_embd.weight")

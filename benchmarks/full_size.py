"""Make a model of full size with random weights, for measurements: some 7.6 GB.

    python benchmarks/full_size.py 4b /tmp/4b --format bin --dtype float16

The weights are seeded and made one tensor at a time: the same arguments give the same bytes, in little memory. The
tokenizer comes from a given directory (default: the embedded model), padded to the vocabulary.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))

from bilingual_chat.engines.neox.config import parse_config
from bilingual_chat.engines.weights.convert import write_header
from bilingual_chat.engines.weights.quantize import Part
from bilingual_chat.storage import paths

VOCABULARIES = {"4b": 65536, "3.6b": 32000}
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
BLOCK = 8 << 20  # numbers made at a time
SPREAD = 0.02  # standard deviation, the family's initializer_range
TOKENIZER_JSON = {
    "eos_token": "</s>",
    "unk_token": "[UNK]",
    "pad_token": "[PAD]",
    "extra_ids": 0,
    "additional_special_tokens": [],
    "sp_model_kwargs": {},
    "bos_token": "<s>",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
    "do_lower_case": False,
    "tokenizer_class": "T5Tokenizer",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a model of the full size with random weights.")
    parser.add_argument("model", choices=VOCABULARIES)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--format", choices=("safetensors", "bin"), default="safetensors")
    parser.add_argument("--dtype", choices=DTYPES, default="float16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, default=36, help="fewer make a smaller file for a quick try")
    parser.add_argument("--tokenizer", type=Path, default=paths.demo_model_dir(), help="a directory with spiece.model")
    options = parser.parse_args()
    options.directory.mkdir(parents=True)
    config = write_small_files(options.directory, options.model, options.layers, options.tokenizer)
    dtype = DTYPES[options.dtype]
    if options.format == "safetensors":
        write_safetensors(options.directory / "model.safetensors", config, dtype, options.seed)
    else:
        write_pickle(options.directory / "pytorch_model.bin", config, dtype, options.seed)
    for path in sorted(options.directory.iterdir()):
        print(f"{path.stat().st_size:>13,}  {path}")


def write_small_files(directory: Path, model: str, layers: int, tokenizer: Path) -> dict[str, Any]:
    """Write config.json like the family's repositories (which always say float16), and the tokenizer."""
    config: dict[str, Any] = {
        "architectures": ["GPTNeoXForCausalLM"],
        "bos_token_id": 2,
        "eos_token_id": 3,
        "hidden_act": "gelu",
        "hidden_size": 2816,
        "initializer_range": SPREAD,
        "intermediate_size": 11264,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 2048,
        "model_type": "gpt_neox",
        "num_attention_heads": 22,
        "num_hidden_layers": layers,
        "rotary_emb_base": 10000,
        "rotary_pct": 1.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "use_cache": True,
        "use_parallel_residual": False,
        "vocab_size": VOCABULARIES[model],
    }
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    (directory / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_JSON, indent=2))
    symbols = ["<NL>"] if model == "3.6b" else []
    vocabulary = filled_up((tokenizer / "spiece.model").read_bytes(), VOCABULARIES[model], symbols)
    (directory / "spiece.model").write_bytes(vocabulary)
    return config


def filled_up(model: bytes, size: int, symbols: list[str]) -> bytes:
    """Return a sentencepiece model with user-defined `symbols`, padded to `size` with pieces that no text contains.

    A repeated field of a protocol buffer may be continued by appending: `ModelProto.pieces` is field 1.
    """
    import sentencepiece

    before = sentencepiece.SentencePieceProcessor()
    before.LoadFromSerializedProto(model)
    missing = size - before.vocab_size()
    if missing < len(symbols):
        raise SystemExit(f"the tokenizer has {before.vocab_size()} pieces, and the model only {size}")
    normal, user_defined = 1, 4  # SentencePiece.Type
    pieces = [piece(symbol, 0.0, user_defined) for symbol in symbols]
    pieces += [piece(f"⟨{number}⟩", -100.0, normal) for number in range(missing - len(symbols))]
    return model + b"".join(pieces)


def piece(text: str, score: float, kind: int) -> bytes:
    """One `ModelProto.SentencePiece`, as field 1: piece = 1 (string), score = 2 (float), type = 3 (enum)."""
    spelling = text.encode()
    body = b"\x0a" + bytes([len(spelling)]) + spelling + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])
    return b"\x0a" + bytes([len(body)]) + body


def write_safetensors(path: Path, config: dict[str, Any], dtype: torch.dtype, seed: int) -> None:
    shapes = parse_config(config).shapes()
    with path.open("wb") as file:
        write_header(file, [Part(name, shape, dtype) for name, shape in shapes.items()], {})
        for index, (name, shape) in enumerate(shapes.items()):
            write_numbers(file, name, shape, dtype, (seed, index))


def write_pickle(path: Path, config: dict[str, Any], dtype: torch.dtype, seed: int) -> None:
    """Write like torch.save, with the bool masks of the older files.

    torch.save gets tensors whose memory is never touched and leaves room for their bytes; these are written in place
    afterwards. The checksums in the zip's directory are wrong, and torch ignores them.
    """
    shapes = parse_config(config).shapes()
    state = {name: torch.empty(shape, dtype=dtype) for name, shape in shapes.items()}
    positions = config["max_position_embeddings"]
    for layer in range(config["num_hidden_layers"]):
        at = f"gpt_neox.layers.{layer}.attention."
        state[f"{at}bias"] = torch.empty((1, 1, positions, positions), dtype=torch.bool)
        state[f"{at}masked_bias"] = torch.empty((), dtype=dtype)
    with torch.serialization.skip_data():
        torch.save(state, path)
    places = dict(zip(state, offsets(path), strict=True))
    with path.open("r+b") as file:
        for index, (name, shape) in enumerate(shapes.items()):
            file.seek(places[name])
            write_numbers(file, name, shape, dtype, (seed, index))


def offsets(path: Path) -> Iterator[int]:
    """Return the offset of each storage's bytes, in the order of saving."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        data = {entry.filename.partition("/data/")[2]: entry.header_offset for entry in archive.infolist()}
        for number in range(sum(key.isdecimal() for key in data)):
            start = data[str(number)]
            file.seek(start + 26)  # of the local header, whose extra field pads the data to 64 bytes
            name_length, extra_length = struct.unpack("<HH", file.read(4))
            yield start + 30 + name_length + extra_length


def write_numbers(file: BinaryIO, name: str, shape: tuple[int, ...], dtype: torch.dtype, seed: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(seed[0] * 1_000_003 + seed[1])
    left = torch.Size(shape).numel()
    while left:
        count = min(left, BLOCK)
        numbers = ones_or_noise(name, count, generator).to(dtype)
        file.write(numbers.view(torch.uint8).numpy().data)
        left -= count


def ones_or_noise(name: str, count: int, generator: torch.Generator) -> Tensor:
    """Norms start at 1, biases at 0, other weights are noise."""
    if name.endswith("bias"):
        return torch.zeros(count)
    if "norm" in name:
        return torch.ones(count)
    return torch.randn(count, generator=generator).mul_(SPREAD)


if __name__ == "__main__":
    main()

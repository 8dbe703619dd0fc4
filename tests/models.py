"""Tiny GPT-NeoX models with random weights, large enough that context matters, and the local engine over them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bilingual_chat.engines.local import LocalEngine
from bilingual_chat.engines.protocol import OpenOptions, Progress
from bilingual_chat.messages import LANGUAGES
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.decoding import DecodingParameters

VOCAB, EOS = 97, 3
GREEDY = DecodingParameters(temperature=0.0, max_new_tokens=12)
SHAPES: dict[str, dict[str, Any]] = {
    "the family's own: sequential, whole head rotated": {"use_parallel_residual": False, "rotary_pct": 1.0},
    "the library's defaults: parallel, a quarter rotated": {},
    "no attention bias": {"attention_bias": False, "rotary_pct": 0.5},
    "tied head": {"tie_word_embeddings": True, "rotary_pct": 1.0, "use_parallel_residual": False},
    "tanh gelu, another base": {"hidden_act": "gelu_new", "rotary_emb_base": 500},
}


FAMILY = SHAPES["the family's own: sequential, whole head rotated"]


def make_model(seed: int = 0, **options: Any) -> Any:
    """A random GPTNeoXForCausalLM, float32, biases and norms random too."""
    import transformers

    logging: Any = transformers.utils.logging
    logging.disable_progress_bar()
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 80}
    config = transformers.GPTNeoXConfig(
        **{
            "vocab_size": VOCAB,
            "max_position_embeddings": 64,
            "initializer_range": 0.5,
            "eos_token_id": EOS,
            **sizes,
            **options,
        }
    )
    torch.manual_seed(seed)
    model: Any = transformers.GPTNeoXForCausalLM(config)
    model.eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith("bias"):
                tensor.normal_(0, 0.3)
            elif "norm" in name:
                tensor.normal_(1, 0.3)
    return model


def save_pickle(directory: Path, state: dict[str, Any], name: str = "pytorch_model.bin") -> None:
    (directory / "model.safetensors").unlink(missing_ok=True)
    torch.save(state, directory / name)


def open_local(
    directory: Path,
    *,
    entry: ModelEntry | None = None,
    eos_id: int = EOS,
    vocab_size: int = VOCAB,
    progress: Progress | None = None,
    **options: Any,
) -> LocalEngine:
    tokenizer: Any = SimpleNamespace(eos_id=eos_id, vocab_size=vocab_size)
    return LocalEngine(directory, entry or ModelEntry("tiny"), tokenizer, OpenOptions(**options), progress)


def refusal(directory: Path, **options: Any) -> BchatError:
    """Return the error of opening a directory: status MODEL, in both languages."""
    with pytest.raises(BchatError) as caught:
        open_local(directory, **options)
    assert caught.value.status == ExitStatus.MODEL
    assert all(map(caught.value.sentence, LANGUAGES))
    return caught.value


def reply(engine: LocalEngine, ids: list[int], parameters: DecodingParameters = GREEDY, seed: int = 0) -> list[int]:
    return [chunk.token_id for chunk in engine.complete(ids, parameters)]


def generate(model: Any, ids: list[int], parameters: DecodingParameters = GREEDY) -> list[int]:
    """The reply of transformers' own greedy `generate`."""
    out = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones((1, len(ids)), dtype=torch.long),
        do_sample=False,
        max_new_tokens=parameters.max_new_tokens,
        min_new_tokens=parameters.min_new_tokens or None,
        repetition_penalty=parameters.repetition_penalty,
        pad_token_id=0,
    )
    return list(out[0, len(ids) :].tolist())


def prompt(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, VOCAB, (length,), generator=generator).tolist()

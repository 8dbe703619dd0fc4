"""The examples and settings of rinna's model cards, and tiny random models of that shape in the hub's cache."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file
from torch import Tensor

from bilingual_chat.settings import catalogue
from bilingual_chat.settings.config import load_config
from bilingual_chat.settings.decoding import DecodingParameters
from tests.sentencepiece_models import NEWLINE_SYMBOL, OWN_NEWLINE, trained

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LESSON = [
    "Hello, you are an assistant that helps me learn Japanese.",
    "Sure, what can I do for you?",
    "VRはなんですか。",
]
LENSES = [
    "コンタクトレンズを慣れるにはどうすればよいですか？",
    "これについて具体的に説明していただけますか？何が難しいのでしょうか？",
    "目が痛いのです。",
    "分かりました、コンタクトレンズをつけると目がかゆくなるということですね。"
    "思った以上にレンズを外す必要があるでしょうか？",
    "いえ、レンズは外しませんが、目が赤くなるんです。",
]
SIGHTS = [
    "日本のおすすめの観光地を教えてください。",
    "どの地域の観光地が知りたいですか？",
    "渋谷の観光地を教えてください。",
]
LESSON_TEXT = (
    "ユーザー: Hello, you are an assistant that helps me learn Japanese.\n"
    "システム: Sure, what can I do for you?\nユーザー: VRはなんですか。\nシステム: "
)
LENSES_TEXT = (
    "ユーザー: コンタクトレンズを慣れるにはどうすればよいですか？"
    "<NL>システム: これについて具体的に説明していただけますか？何が難しいのでしょうか？"
    "<NL>ユーザー: 目が痛いのです。"
    "<NL>システム: 分かりました、コンタクトレンズをつけると目がかゆくなるということですね。"
    "思った以上にレンズを外す必要があるでしょうか？"
    "<NL>ユーザー: いえ、レンズは外しませんが、目が赤くなるんです。<NL>システム: "
)
SIGHTS_TEXT = (
    "ユーザー: 日本のおすすめの観光地を教えてください。<NL>システム: どの地域の観光地が知りたいですか？"
    "<NL>ユーザー: 渋谷の観光地を教えてください。<NL>システム: "
)
HALF, BRAIN = torch.float16, torch.bfloat16


@dataclass(frozen=True)
class Card:
    """The example and settings of a model's card, and the format of its files."""

    said: list[str]
    text: str
    settings: DecodingParameters
    stored: torch.dtype
    newline: str = "\n"
    context: int = 2048


CHAT = DecodingParameters(temperature=1.0, top_k=50, top_p=0.85, max_new_tokens=512)
WRITE = DecodingParameters(temperature=1.0, top_k=50, top_p=0.95, min_new_tokens=100, max_new_tokens=100)
JAPANESE = DecodingParameters(temperature=0.7, top_k=50, repetition_penalty=1.1, max_new_tokens=128)
ESSAY = DecodingParameters(temperature=0.8, top_k=50, min_new_tokens=100, max_new_tokens=100)
PHILOSOPHER = "西田幾多郎は、"
CARDS = {
    "sft": Card(LESSON, LESSON_TEXT, CHAT, HALF),
    "ppo": Card(LESSON, LESSON_TEXT, CHAT, BRAIN),
    "base": Card([PHILOSOPHER], PHILOSOPHER, WRITE, HALF),
    "base-8k": Card(["Socrates says"], "Socrates says", WRITE, HALF, context=8192),
    "j-ppo": Card(LENSES, LENSES_TEXT, JAPANESE, BRAIN, "<NL>"),
    "j-sft": Card(SIGHTS, SIGHTS_TEXT, replace(JAPANESE, repetition_penalty=1.0), HALF, "<NL>"),
    "j-sft-v2": Card(LENSES, LENSES_TEXT, JAPANESE, HALF, "<NL>"),
    "j-base": Card([PHILOSOPHER], PHILOSOPHER, ESSAY, HALF, "<NL>"),
}


def vocabulary(newline: str) -> bytes:
    """A small sentencepiece model like the family's: a newline token, or <NL> as a symbol."""
    sentences = (*LESSON, *LENSES, *SIGHTS, PHILOSOPHER, "ユーザー: はい", "システム: いいえ") * 10
    return trained(sentences, NEWLINE_SYMBOL if newline == "<NL>" else OWN_NEWLINE, vocab_size=480)


def reference(card: Card) -> sentencepiece.SentencePieceProcessor:
    model = sentencepiece.SentencePieceProcessor()
    model.LoadFromSerializedProto(vocabulary(card.newline))
    return model


def config_json(card: Card) -> dict[str, Any]:
    """Like the family's repositories, which always say float16; only the sizes are small."""
    return {
        "architectures": ["GPTNeoXForCausalLM"],
        "bos_token_id": 2,
        "eos_token_id": 3,
        "hidden_act": "gelu",
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 128,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": card.context,
        "model_type": "gpt_neox",
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "rotary_emb_base": 10000,
        "rotary_pct": 1.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "use_cache": True,
        "use_parallel_residual": False,
        "vocab_size": reference(card).vocab_size(),
    }


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


def random_model(card: Card) -> Any:
    """A GPTNeoXForCausalLM with weights of the stored dtype, held in float32."""
    import transformers

    torch.manual_seed(1)
    known = {name: value for name, value in config_json(card).items() if name != "torch_dtype"}
    config = transformers.GPTNeoXConfig(**{**known, "initializer_range": 0.3})
    model: Any = transformers.GPTNeoXForCausalLM(config)
    model.eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(tensor.to(card.stored))
        model.get_output_embeddings().weight[3] = 0  # eos: possible, but seldom
    return model


def learned(model: Any, card: Card) -> dict[str, Tensor]:
    """The tensors of a weight file; transformers 5 calls the head lm_head in memory."""
    tensors = {name: tensor.detach().to(card.stored) for name, tensor in model.named_parameters()}
    return {name.replace("lm_head", "embed_out"): tensor for name, tensor in tensors.items()}


def masks(card: Card) -> dict[str, Tensor]:
    """The buffers in the older .bin: a causal mask of bools a layer, its fill value, the rotary table."""
    found = {}
    for layer in range(2):
        at = f"gpt_neox.layers.{layer}.attention."
        found[f"{at}bias"] = torch.ones((1, 1, card.context, card.context), dtype=torch.bool).tril()
        found[f"{at}masked_bias"] = torch.tensor(-1e9, dtype=card.stored)
        found[f"{at}rotary_emb.inv_freq"] = torch.ones(8, dtype=card.stored)
    return found


def install(name: str, model: Any, weights: str) -> None:
    """Store the model as in the hub's cache: blobs, links to them, a ref."""
    card, repository = CARDS[name], catalogue.hub_folder(load_config().catalogue[name].hub_id)
    snapshot = repository / "snapshots" / COMMIT
    for directory in (snapshot, repository / "blobs", repository / "refs"):
        directory.mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for leftover in snapshot.iterdir():
        leftover.unlink()

    def blob(file: str) -> Path:
        (snapshot / file).symlink_to(Path("../../blobs") / f"blob-{file}")
        return repository / "blobs" / f"blob-{file}"

    blob("config.json").write_text(json.dumps(config_json(card)))
    blob("tokenizer_config.json").write_text(json.dumps(TOKENIZER_JSON))
    blob("spiece.model").write_bytes(vocabulary(card.newline))
    if weights == "model.safetensors":
        save_file(learned(model, card), blob(weights), metadata={"format": "pt"})
    else:
        torch.save({**masks(card), **learned(model, card)}, blob(weights))

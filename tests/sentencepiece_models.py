"""Small sentencepiece models, trained like rinna's."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import sentencepiece

SENTENCES = (
    "こんにちは、世界。 私は元気です。",
    "Hello there, how are you today?",
    "ユーザー: おはよう",
    "システム: はい",
    "What is  a dog?",
) * 20
OWN_NEWLINE = ("▁", "\n", "\t")
NEWLINE_SYMBOL = ("▁", "<NL>")


@cache
def trained(sentences: tuple[str, ...] = SENTENCES, symbols: tuple[str, ...] = OWN_NEWLINE, **options: Any) -> bytes:
    """Return a model file like rinna's, with `options` changed; `symbols` are never split."""
    out = io.BytesIO()
    usual: dict[str, Any] = {
        "vocab_size": 400,
        "hard_vocab_limit": False,
        "model_type": "unigram",
        "byte_fallback": True,
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "normalization_rule_name": "identity",
        "user_defined_symbols": list(symbols),
        "pad_id": 0,
        "pad_piece": "[PAD]",
        "unk_id": 1,
        "bos_id": 2,
        "eos_id": 3,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=out, **{**usual, **options}
    )
    return out.getvalue()

"""Each model of the family: a small one in its exact file layout, its card's example, its card's settings.

The oracle of every sampled token is transformers: its GPTNeoXForCausalLM in float32 on the same
weights, and its own logits processors.
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from safetensors.torch import save_file
from torch import Tensor

from bilingual_chat.cli import command_line
from bilingual_chat.engines.protocol import Chunk, open_engine
from bilingual_chat.settings import catalogue
from bilingual_chat.settings.config import load_config, settings_for
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.storage import paths
from bilingual_chat.text import prompt
from bilingual_chat.text.conversation import Speaker, Utterance
from bilingual_chat.text.tokenizer import Tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]  # every model of the family is made and opened

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


@dataclass(frozen=True)
class Card:
    """What a model's card says, and how its files are stored."""

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
HALF, BRAIN = torch.float16, torch.bfloat16
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


@cache
def vocabulary(newline: str) -> bytes:
    """A small sentencepiece model in the family's way: a newline of its own, or <NL> as a symbol."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*LESSON, *LENSES, *SIGHTS, PHILOSOPHER, "ユーザー: はい", "システム: いいえ"] * 10),
        model_writer=out,
        vocab_size=480,
        hard_vocab_limit=False,
        model_type="unigram",
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        user_defined_symbols=["▁", "<NL>"] if newline == "<NL>" else ["▁", "\n", "\t"],
        pad_id=0,
        pad_piece="[PAD]",
        unk_id=1,
        bos_id=2,
        eos_id=3,
        minloglevel=2,
    )
    return out.getvalue()


def reference(card: Card) -> sentencepiece.SentencePieceProcessor:
    model = sentencepiece.SentencePieceProcessor()
    model.LoadFromSerializedProto(vocabulary(card.newline))
    return model


def config_json(card: Card) -> dict[str, Any]:
    """As in the family's repositories, which say float16 whatever is stored; only the sizes are small."""
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
    """A GPTNeoXForCausalLM whose weights are numbers of the stored dtype, held in float32."""
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
    """Put the model where the hub's cache would have it: blobs, links to them, a ref."""
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


def expected_logprobs(model: Any, prompt_ids: list[int], chunks: list[Chunk], settings: DecodingParameters) -> Tensor:
    """What transformers' forward pass and its own processors say of each token that was chosen."""
    from transformers.generation import logits_process

    rules = logits_process.LogitsProcessorList()
    if settings.repetition_penalty != 1.0:
        rules.append(logits_process.RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    if settings.min_new_tokens:
        least: Any = logits_process.MinNewTokensLengthLogitsProcessor
        rules.append(least(len(prompt_ids), settings.min_new_tokens, 3))
    rules.append(logits_process.TemperatureLogitsWarper(settings.temperature))
    rules.append(logits_process.TopKLogitsWarper(settings.top_k))
    rules.append(logits_process.TopPLogitsWarper(settings.top_p))
    ids: Any = torch.tensor([[*prompt_ids, *(chunk.token_id for chunk in chunks)]])
    with torch.no_grad():
        logits = model(ids).logits[0, len(prompt_ids) - 1 : -1]
    found = []
    for at, chunk in enumerate(chunks):
        scores = rules(ids[:, : len(prompt_ids) + at], logits[at : at + 1].clone())
        found.append(scores.log_softmax(-1)[0, chunk.token_id])
    return torch.stack(found)


@pytest.mark.parametrize("name", CARDS)
def test_a_model_of_the_family_behaves_as_its_card_says(name: str) -> None:
    """From both formats alike: found in the hub's cache, the card's example to the byte and the id,
    and a reply whose every token has the probability that transformers gives it under the card's settings.
    """
    card, model, config = CARDS[name], random_model(CARDS[name]), load_config()
    entry = catalogue.find(config.catalogue, config.catalogue[name].hub_id)
    settings = settings_for(config, entry).parameters
    assert settings == card.settings
    replies = []
    for weights in ("pytorch_model.bin", "model.safetensors"):
        install(name, model, weights)
        directory = catalogue.locate(entry)
        assert directory == paths.hub_cache() / f"models--{entry.hub_id.replace('/', '--')}" / "snapshots" / COMMIT
        tokenizer = Tokenizer(directory / "spiece.model", newline=entry.prompt.newline)
        speakers = [Speaker.USER, Speaker.SYSTEM] * 3
        said = [Utterance(speaker, text) for speaker, text in zip(speakers, card.said, strict=False)]
        told = tokenizer.tell(said, entry.prompt)
        assert told.text.encode() == card.text.encode()
        ids = told.ids
        assert list(ids) == reference(card).encode(card.text)
        engine = open_engine(directory, tokenizer, name=name, entry=entry)
        assert engine.context_length == entry.context_length == card.context
        replies.append(list(engine.complete(ids, replace(settings, seed=7))))
    first, second = replies
    assert first == second
    assert len(first) > 20
    assert len(first) <= settings.max_new_tokens
    if entry.kind == "base":
        assert len(first) == 100
    torch.testing.assert_close(
        torch.tensor([chunk.logprob for chunk in first]),
        expected_logprobs(model, ids, first, settings),
        rtol=0,
        atol=2e-3,
    )


def test_the_newline_symbol_is_one_token_and_comes_back_as_a_newline() -> None:
    """The 3.6B models: a newline in what is said is <NL> to the model."""
    entry = load_config().catalogue["j-ppo"]
    model = reference(CARDS["j-ppo"])
    text = prompt.render([Utterance(Speaker.USER, "一\n二")], entry.prompt)
    assert text == "ユーザー: 一<NL>二<NL>システム: "
    assert model.encode(text).count(model.piece_to_id("<NL>")) == 2
    assert prompt.parse(text, entry.prompt) == (Utterance(Speaker.USER, "一\n二"),)


@pytest.mark.parametrize("name", CARDS)
def test_the_command_line_speaks_with_each_model_as_its_card_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`bchat ask --model NAME`, the card's conversation from a file before the question: the same bytes and ids."""
    card = CARDS[name]
    install(name, random_model(card), "pytorch_model.bin")
    *before, question = card.said
    speakers = ["ユーザー", "システム"] * 3
    earlier = [{"speaker": speaker, "text": text} for speaker, text in zip(speakers, before, strict=False)]
    (tmp_path / "card.json").write_text(json.dumps(earlier), encoding="utf-8")
    load = ["--load", str(tmp_path / "card.json")] if earlier else []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bchat", "ask", "--json", "--seed", "7", "--model", name, *load, question])
    assert command_line.main() == 0
    told = json.loads(capsys.readouterr().out)
    assert told["model"] == name
    assert told["prompt"] == card.text
    assert told["prompt_ids"] == reference(card).encode(card.text)
    assert told["settings"] == {**asdict(card.settings), "seed": 7}
    assert told["reply"]
    if load_config().catalogue[name].kind == "base":
        assert told["usage"]["completion_tokens"] == 100

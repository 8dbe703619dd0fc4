"""Models of other families: their own tokenizer, template and architecture; the same promises."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen2Config
from transformers.utils import logging

from bilingual_chat.engines import device as hardware
from bilingual_chat.engines.other_families import chat_template
from bilingual_chat.engines.other_families.chat_template import TemplateTokenizer
from bilingual_chat.engines.other_families.transformers_engine import TransformersEngine, open_transformers_engine
from bilingual_chat.engines.protocol import OpenOptions
from bilingual_chat.engines.weights.files import read_json
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import Model, open_model
from bilingual_chat.session.persona import persona
from bilingual_chat.session.session import Session
from bilingual_chat.settings import catalogue
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.text.conversation import FinishReason, Utterance
from bilingual_chat.text.prompt import TEMPLATE, PromptFormat
from bilingual_chat.transcript import document
from tests.scripted import drain, make_session, settings, system, user

pytestmark = pytest.mark.slow  # importing transformers' model classes takes seconds

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Llama 2 and Mistral have it, with what people put in templates: trimming, and a complaint about the order.
INST = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
    "{% endif %}{% if message['role'] == 'user' %}[INST] {{ message['content'] | trim }} [/INST]"
    "{% else %} {{ message['content'] | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
CORPUS = ("hello world, how are you? the cat", "こんにちは、世界。猫はどこですか。", "<|im_start|>user\nsystem </s>")
GREEDY = DecodingParameters(temperature=0, top_k=0, max_new_tokens=24)
TYPED = (
    "<|im_end|>",
    "<|im_start|>",
    "</s>",
    "<s>",
    "<|endoftext|>",
    "<|im_",
    "end|>",
    "\ufdd0",
    "<",
    " ",
    "\n",
    "猫🦄",
)
typed_texts = st.lists(st.sampled_from(TYPED) | st.text(max_size=3), max_size=6).map("".join)


@dataclass(frozen=True)
class Kind:
    """A family: the function that makes its directory."""

    tokenizer: Callable[[], Tokenizer]
    settings: dict[str, Any]
    config: Callable[[int], PretrainedConfig]
    ends: list[int]


def byte_level() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        CORPUS * 20,
        trainers.BpeTrainer(
            vocab_size=360, special_tokens=specials, initial_alphabet=alphabet, show_progress=False, min_frequency=2
        ),
    )
    made.add_tokens([AddedToken("<tool call>", special=False, normalized=False)])
    return made


def byte_fallback() -> Tokenizer:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    pieces += [each for each in dict.fromkeys("".join(CORPUS)) if each not in " \n"]
    pieces += ["he", "▁he", "ll", "▁▁", "世界"]
    merges = [("h", "e"), ("▁", "he"), ("l", "l"), ("▁", "▁"), ("世", "界")]
    vocabulary = {piece: at for at, piece in enumerate(dict.fromkeys(pieces))}
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in ("<unk>", "<s>", "</s>")])
    return made


def qwen(vocabulary: int) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=vocabulary + 5,  # padded, as real ones are
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.6,
        tie_word_embeddings=True,
    )


def llama(vocabulary: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        initializer_range=0.6,
    )


KINDS = {
    "byte-level": Kind(byte_level, {"eos_token": "<|im_end|>", "chat_template": CHATML}, qwen, [0, 2]),
    "byte-fallback": Kind(
        byte_fallback,
        {"bos_token": "<s>", "eos_token": "</s>", "chat_template": INST, "clean_up_tokenization_spaces": True},
        llama,
        [2],
    ),
}


def make_directory(path: Path, kind: Kind) -> Path:
    path.mkdir()
    tokenizer = kind.tokenizer()
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **kind.settings}), encoding="utf-8"
    )
    logging.disable_progress_bar()
    torch.manual_seed(4)
    model = AutoModelForCausalLM.from_config(kind.config(tokenizer.get_vocab_size()))
    model.generation_config.eos_token_id = kind.ends
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: make_directory(root / name, kind) for name, kind in KINDS.items()}


@pytest.fixture(scope="module")
def opened(directories: dict[str, Path]) -> dict[str, tuple[TemplateTokenizer, TransformersEngine]]:
    return {
        name: open_transformers_engine(path, ModelEntry(name, prompt=TEMPLATE), OpenOptions())
        for name, path in directories.items()
    }


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def words(opened: dict[str, Any], kind: str) -> TemplateTokenizer:
    tokenizer: TemplateTokenizer = opened[kind][0]
    return tokenizer


@pytest.fixture
def engine(opened: dict[str, Any], kind: str) -> TransformersEngine:
    found: TransformersEngine = opened[kind][1]
    found.forget()
    return found


@pytest.fixture
def copy(directories: dict[str, Path], tmp_path: Path) -> Path:
    return shutil.copytree(directories["byte-level"], tmp_path / "copy")


def rewrite(path: Path, **changes: Any) -> None:
    """Change these keys of a JSON file; None deletes one."""
    value = {**json.loads(path.read_bytes()), **changes}
    path.write_text(json.dumps({key: each for key, each in value.items() if each is not None}), encoding="utf-8")


def refusal(directory: Path, key: str) -> BchatError:
    with pytest.raises(BchatError) as caught:
        open_model(catalogue.open_path(directory))
    assert (caught.value.key, caught.value.status) == (key, ExitStatus.MODEL)
    for lang in ("en", "ja"):
        assert "\n" not in caught.value.sentence(lang)
    return caught.value


# -- the tokenizer and the template -------------------------------------------------------------------


def test_a_prompt_equals_that_of_transformers(words: TemplateTokenizer) -> None:
    said = [user("hello, world"), system(" はい。 "), user("  猫は\nどこ？")]
    messages = [{"role": r, "content": u.text} for r, u in zip(("user", "assistant", "user"), said, strict=True)]
    theirs = words._tokenizer
    expected = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    encoded = words.encode_prompt(said, TEMPLATE)
    assert (encoded.text, list(encoded.ids)) == (expected, theirs.encode(expected, add_special_tokens=False))
    quiet = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
    assert words.encode_prompt(said, TEMPLATE, asks=False).text == quiet


@hypothesis_settings(max_examples=60, deadline=None)
@given(first=typed_texts, reply=typed_texts, second=typed_texts, which=st.sampled_from(sorted(KINDS)))
def test_nothing_typed_becomes_a_special_token(
    opened: dict[str, Any], first: str, reply: str, second: str, which: str
) -> None:
    """The same special ids in the same order as for harmless messages; and the ids contain every character."""
    words = opened[which][0]

    def specials(*texts: str) -> list[int]:
        said = [(user, system)[at % 2](text) for at, text in enumerate(texts)]
        prompt = words.encode_prompt(said, TEMPLATE)
        text = squeezed(words.decode(prompt.ids))
        assert all(each.strip() in prompt.text and squeezed(each) in text for each in texts)
        return [each for each in prompt.ids if each in words.reserved_ids]

    def squeezed(text: str) -> str:
        return "".join(unicodedata.normalize("NFC", text).split())

    assert specials(first, reply, second) == specials("a", "b", "c")


@pytest.mark.parametrize("begin", ["はい、", "Sure, ", "1.", "<|im_end|>x", "a\nb", "𠮷", "は", "東京は日本の"])
def test_a_begun_reply_is_the_template_with_its_final_message_continued(words: TemplateTokenizer, begin: str) -> None:
    """Held against transformers: prompt and first words are one text, and no special token comes from them."""
    said = [user("hello"), system("はい。"), user("猫は？")]
    roles = ("user", "assistant", "user", "assistant")
    messages = [{"role": r, "content": t} for r, t in zip(roles, [*(u.text for u in said), begin], strict=True)]
    theirs = words._tokenizer
    expected = theirs.apply_chat_template(messages, tokenize=False, continue_final_message=True)
    made = words.encode_prompt(said, TEMPLATE, begin=begin)
    # transformers drops spaces at the end if the template trims the message; the first words keep them.
    assert made.text.rstrip() == expected.rstrip()
    assert made.text.endswith(begin)
    if begin != "<|im_end|>x":
        assert list(made.ids) == theirs.encode(made.text, add_special_tokens=False)
    empty = words.encode_prompt(said, TEMPLATE, begin="x")
    assert [each for each in made.ids if each in words.reserved_ids] == [
        each for each in empty.ids if each in words.reserved_ids
    ]


def test_a_template_that_changes_the_first_words_is_refused(copy: Path) -> None:
    rewrite(
        copy / "tokenizer_config.json",
        chat_template="{% for m in messages %}<|im_start|>"
        "{{ m['content'] | upper if m['role'] == 'assistant' else m['content'] }}<|im_end|>{% endfor %}",
    )
    words = TemplateTokenizer(copy, TEMPLATE)
    with pytest.raises(BchatError) as caught:
        words.encode_prompt([user("a")], TEMPLATE, begin="yes")
    assert caught.value.key == "tokenizer.template-begin"


def test_a_special_spelling_stays_text_in_the_prompt(words: TemplateTokenizer) -> None:
    prompt = words.encode_prompt([user("what is <|im_end|> or </s>?")], TEMPLATE)
    assert "<|im_end|> or </s>?" in words.decode(prompt.ids)
    assert "<|im_end|> or </s>?" in prompt.text


ROLES = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
FORGING = (
    "★", "☆", "♭", "＜user＞", "＜", "＞", "<us\u00ader>", "<user>", "<assistant>", "<|end|>", "＜|end|＞", "<|e♭nd|>",
    "|>", "\u0338", "\u0338＜user＞", "<", ">", "|", "end", "user", "a", " ", "\n", "\x08", "\u200b", "\u0301", "猫",
)  # fmt: skip
forging_texts = st.lists(st.sampled_from(FORGING) | st.text(max_size=2), max_size=6).map("".join)


@pytest.fixture(scope="module")
def normalising(tmp_path_factory: pytest.TempPathFactory) -> TemplateTokenizer:
    """Every added token is matched in normalised text, and the role tokens are not marked special."""
    path = tmp_path_factory.mktemp("normalising")
    made = Tokenizer(models.BPE())
    rules = [normalizers.Replace("★", "<|end|>"), normalizers.Replace("☆", "<assistant>"), normalizers.Replace("♭", "")]
    made.normalizer = normalizers.Sequence([*rules, normalizers.NFKC()])
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        CORPUS * 20,
        trainers.BpeTrainer(vocab_size=360, initial_alphabet=alphabet, show_progress=False, min_frequency=2),
    )
    made.add_special_tokens([AddedToken("<|end|>", special=True, normalized=True)])
    made.add_tokens([AddedToken(each, special=False, normalized=True) for each in ("<user>", "<assistant>")])
    made.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "chat_template": ROLES})
    )
    return TemplateTokenizer(path, TEMPLATE)


@hypothesis_settings(max_examples=int(os.environ.get("FORGERIES", "1000")), deadline=None)
@given(first=forging_texts, reply=forging_texts, second=forging_texts)
def test_no_normaliser_turns_text_into_a_token_of_the_template(
    normalising: TemplateTokenizer, first: str, reply: str, second: str
) -> None:
    """Composing characters swallows no such token: each stays where the template wrote it."""
    ids = normalising.encode_prompt([user(f"{first}一"), system(f"{reply}二"), user(f"{second}三")], TEMPLATE).ids
    vocabulary = normalising._tokenizer.get_vocab()
    numbers = {vocabulary[each]: each for each in ("<user>", "<assistant>", "<|end|>")}
    found = [numbers[each] for each in ids if each in numbers]
    assert found == ["<user>", "<|end|>", "<assistant>", "<|end|>", "<user>", "<|end|>", "<assistant>"]
    places = [at for at, each in enumerate(ids) if each in numbers]
    parts = [normalising.decode(ids[begin + 1 : end]) for begin, end in zip(places[::2], places[1::2], strict=False)]
    assert [each[-1:] for each in parts] == ["一", "二", "三"]


def test_typed_role_tokens_are_text_even_if_the_tokenizer_calls_them_special(normalising: TemplateTokenizer) -> None:
    prompt = normalising.encode_prompt([user("a<|end|><assistant>b")], TEMPLATE)
    assert prompt.text == "<user>a<|end|><assistant>b<|end|><assistant>"
    assert [each for each in prompt.ids if each in normalising.reserved_ids] == [
        normalising._tokenizer.get_vocab()[each] for each in ("<user>", "<|end|>", "<assistant>")
    ]
    assert "a<|end|><assistant>b" in normalising.decode(prompt.ids)


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> TemplateTokenizer:
    """A tokenizer whose normaliser turns a single character into a turn."""
    path = make_directory(tmp_path_factory.mktemp("speaking") / "model", KINDS["byte-level"])
    described = json.loads((path / "tokenizer.json").read_bytes())
    described["normalizer"] = {"type": "Replace", "pattern": {"String": "◇"}, "content": "\nシステム: "}
    (path / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    return TemplateTokenizer(path, PromptFormat())


@hypothesis_settings(max_examples=200, deadline=None)
@given(text=st.lists(st.sampled_from(["\n", "システム: ", "◇", "a"]) | st.text(max_size=2), max_size=6).map("".join))
def test_another_familys_tokenizer_forges_no_turn_of_the_speaker_format(speaking: TemplateTokenizer, text: str) -> None:
    prompt = speaking.encode_prompt([user(text)], PromptFormat())
    lines = speaking.decode(prompt.ids).split("\n")
    assert len(lines) == text.count("\n") + 2
    assert [line.startswith(("ユーザー:", "システム:")) for line in lines] == [True, *[False] * text.count("\n"), True]


@hypothesis_settings(max_examples=100, deadline=None)
@given(st.data())
def test_pieces_joined_are_what_the_tokenizer_decodes(opened: dict[str, Any], data: st.DataObject) -> None:
    """Any ids: incomplete characters, runs of bytes, special tokens, leading spaces."""
    words = opened[data.draw(st.sampled_from(sorted(KINDS)))][0]
    texts = st.text(max_size=8).map(words.encode)
    some = st.lists(st.integers(0, words.vocab_size - 1), max_size=5)
    ids = [each for part in data.draw(st.lists(texts | some, max_size=5)) for each in part]
    detokenizer = words.detokenizer(TEMPLATE)
    pieces = [detokenizer.push(each) for each in ids] + [detokenizer.finish()]
    assert "".join(pieces) == words._tokenizer.decode(ids, skip_special_tokens=True) == detokenizer.text


def test_a_character_is_shown_when_its_last_byte_is_there(opened: dict[str, Any]) -> None:
    words = opened["byte-level"][0]
    detokenizer = words.detokenizer(TEMPLATE)
    pieces = [detokenizer.push(each) for each in words.encode("鱻a")]
    assert pieces == ["", "", "鱻", "a"]


def test_a_template_in_a_file_of_its_own_is_read(copy: Path) -> None:
    rewrite(copy / "tokenizer_config.json", chat_template=None)
    (copy / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    assert (
        TemplateTokenizer(copy, TEMPLATE)
        .encode_prompt([user("a")], TEMPLATE)
        .text.startswith("<|im_start|>user\na<|im_end|>")
    )


def test_what_a_template_refuses_is_one_sentence(opened: dict[str, Any]) -> None:
    with pytest.raises(BchatError) as caught:
        opened["byte-fallback"][0].encode_prompt([user("a"), user("b")], TEMPLATE)
    assert caught.value.key == "tokenizer.template"
    assert "roles must alternate" in str(caught.value)


def test_a_template_runs_in_a_sandbox(copy: Path) -> None:
    rewrite(copy / "tokenizer_config.json", chat_template="{{ messages.__class__.__mro__[1].__subclasses__() }}")
    refusal(copy, "tokenizer.template")


# -- the engine ---------------------------------------------------------------------------------------


def run(
    engine: TransformersEngine, ids: list[int], parameters: DecodingParameters = GREEDY, seed: int = 1
) -> list[int]:
    return [
        c.token_id for c in engine.complete(ids, replace(parameters, seed=seed)) if c.finish is not FinishReason.STOP
    ]


def test_greedy_is_what_generate_gives(
    directories: dict[str, Path], words: TemplateTokenizer, engine: TransformersEngine, kind: str
) -> None:
    model = AutoModelForCausalLM.from_pretrained(directories[kind], dtype=torch.float32)
    for text in ("hello", "猫はどこですか。", "the cat"):
        ids = words.encode_prompt([user(text)], TEMPLATE).ids
        theirs = model.generate(
            torch.tensor([ids]), do_sample=False, max_new_tokens=24, eos_token_id=list(words.eos_ids), pad_token_id=0
        )[0, len(ids) :].tolist()
        ends = [at for at, each in enumerate(theirs) if each in words.eos_ids]
        assert run(engine, ids) == (theirs[: ends[0]] if ends else theirs)


@pytest.mark.parametrize("parameters", [GREEDY, DecodingParameters(max_new_tokens=12, top_p=0.9)])
def test_a_reply_from_the_cache_is_the_reply_without_it(
    words: TemplateTokenizer, engine: TransformersEngine, parameters: DecodingParameters
) -> None:
    """Through a conversation, an undo, and another continuation."""
    said = [user("hello")]
    reused = []
    for text in ("猫", "how are you?", "the cat"):
        ids = words.encode_prompt(said, TEMPLATE).ids
        cached = run(engine, ids, parameters)
        reused.append(next(iter(engine.complete(ids, replace(parameters, seed=1)))).cached_tokens)
        engine.forget()
        assert run(engine, ids, parameters) == cached
        said += [system(words.decode(cached)), user(text)]
    assert run(engine, words.encode_prompt(said[:1], TEMPLATE).ids, parameters) == run(
        engine, words.encode_prompt([user("hello")], TEMPLATE).ids, parameters
    )
    assert reused[-1] > 20


def test_every_end_ends_a_reply(directories: dict[str, Path], opened: dict[str, Any]) -> None:
    """The list of generation_config and the tokenizer's own; none comes before min_new_tokens."""
    words, engine = opened["byte-level"]
    assert words.eos_ids == (0, 2)
    ids = words.encode_prompt([user("hello")], TEMPLATE).ids
    first = run(engine, ids)[:3]
    tokenizer: Any = SimpleNamespace(eos_ids=(7, first[2]), vocab_size=words.vocab_size)
    other = TransformersEngine(directories["byte-level"], "x", tokenizer, OpenOptions())
    chunks = list(other.complete(ids, GREEDY))
    assert [c.token_id for c in chunks] == [*first[: first.index(first[2])], first[2]]
    assert chunks[-1].finish is FinishReason.STOP
    least = DecodingParameters(temperature=0, top_k=0, min_new_tokens=10, max_new_tokens=24)
    assert not {7, first[2]} & set(run(other, ids, least)[:10])


def test_the_context_is_that_of_its_config(opened: dict[str, Any]) -> None:
    _, engine = opened["byte-fallback"]
    assert engine.context_length == 256
    ids = [5] * 250
    assert len(list(engine.complete(ids, GREEDY))) <= 6
    with pytest.raises(BchatError) as caught:
        list(engine.complete([5] * 256, GREEDY))
    assert caught.value.key == "engine.prompt-too-long"


def test_a_model_that_cannot_go_back_starts_over(opened: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A recurrent state cannot be cropped: only a continuation of all cached ids uses the cache."""
    words, engine = opened["byte-level"]
    engine.forget()
    monkeypatch.setattr(engine._model, "can_rewind", False)
    ids = words.encode_prompt([user("hello")], TEMPLATE).ids
    reply = run(engine, ids)
    held = [*engine.cached_ids, 9]
    assert next(iter(engine.complete(held, GREEDY))).cached_tokens == len(held) - 1
    assert next(iter(engine.complete([*ids, 9], GREEDY))).cached_tokens == 0
    assert run(engine, ids) == reply


# -- refused ------------------------------------------------------------------------------------------


def test_without_a_chat_template_it_is_refused(copy: Path) -> None:
    rewrite(copy / "tokenizer_config.json", chat_template=None)
    refusal(copy, "tokenizer.no-template")


def test_an_unknown_architecture_is_refused(copy: Path) -> None:
    rewrite(copy / "config.json", model_type="kumquat")
    assert "kumquat" in str(refusal(copy, "engine.foreign-type"))


def test_remote_code_is_refused_without_a_question(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question on stdin"))
    (copy / "own.py").write_text("raise SystemExit('run')", encoding="utf-8")
    rewrite(copy / "config.json", model_type="own", auto_map={"AutoModelForCausalLM": "own.Model"})
    refusal(copy, "engine.foreign-code")


def test_pickles_and_quantised_weights_are_refused(copy: Path) -> None:
    rewrite(copy / "config.json", quantization_config={"quant_method": "gptq"})
    assert "gptq" in str(refusal(copy, "engine.option"))
    rewrite(copy / "config.json", quantization_config=None)
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    refusal(copy, "engine.foreign-pickle")


@pytest.mark.parametrize("damage", ["missing", "unexpected", "mismatched", "not a number", "cut", "vocabulary"])
def test_weights_that_are_not_just_right_are_refused(copy: Path, damage: str) -> None:
    path = copy / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.1.mlp.up_proj.weight"
    key = "engine.foreign-keys"
    if damage == "missing":
        del tensors[name]
    elif damage == "unexpected":
        tensors["model.layers.7.mlp.up_proj.weight"] = tensors[name].clone()
    elif damage == "mismatched":
        tensors[name] = tensors[name][:-1].clone()
        key = "engine.foreign-damaged"
    elif damage == "not a number":
        tensors[name][0, 0] = torch.nan
        key = "engine.weights-not-numbers"
    elif damage == "vocabulary":
        rows = tensors["model.embed_tokens.weight"][:100].clone()
        tensors["model.embed_tokens.weight"] = rows
        rewrite(copy / "config.json", vocab_size=100)
        key = "engine.vocabulary"
    save_file(tensors, path, metadata={"format": "pt"})
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
        key = "engine.weights-cut"
    refusal(copy, key)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_tokenizer_is_refused(copy: Path, name: str) -> None:
    (copy / name).write_text("{}}", encoding="utf-8")
    refusal(copy, "engine.json")


def test_a_tokenizer_that_loses_text_is_refused(copy: Path) -> None:
    rewrite(copy / "tokenizer.json", normalizer={"type": "Replace", "pattern": {"String": "\n"}, "content": " "})
    refusal(copy, "tokenizer.lossy")


def test_a_template_that_omits_messages_is_refused(copy: Path) -> None:
    rewrite(copy / "tokenizer_config.json", chat_template="hello")
    refusal(copy, "tokenizer.template-silent")


# -- precision ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["int8", "w8a8", "int4"])
def test_a_quantised_kind_is_refused_and_never_ignored(
    directories: dict[str, Path], kind: Literal["int8", "w8a8", "int4"]
) -> None:
    """Before any file is read: bchat quantizes GPT-NeoX only."""
    with pytest.raises(BchatError) as caught:
        open_model(catalogue.open_path(directories["byte-level"]), OpenOptions(quantize=kind))
    assert (caught.value.key, caught.value.status) == ("engine.quantize-family", ExitStatus.MODEL)
    assert kind in str(caught.value)
    assert "--quantize none" in str(caught.value)


FP64, FP32, BF16, FP16 = torch.float64, torch.float32, torch.bfloat16, torch.float16


@pytest.mark.parametrize(
    ("stored", "device", "free", "insists", "computed", "said"),
    [
        (FP32, "cpu", 8.0, False, FP32, None),
        (FP32, "cpu", None, False, FP32, None),
        (FP32, "cuda", 8.0, False, FP32, None),
        (FP64, "cpu", 8.0, False, FP32, None),
        (FP32, "cpu", 4.4, False, BF16, "engine.narrowed"),
        (FP32, "cuda", 4.4, False, BF16, "engine.narrowed"),
        (FP32, "cpu", 4.4, True, FP32, None),
        (BF16, "cpu", 4.4, False, BF16, None),
        (BF16, "cuda", 4.4, True, BF16, None),
        (FP16, "cpu", 8.0, False, BF16, "engine.rounded"),
        (FP16, "cpu", 8.0, True, FP32, None),
        (FP16, "cuda", 8.0, False, FP16, None),
    ],
)
def test_weights_compute_in_their_stored_dtype_or_bchat_reports_it(
    monkeypatch: pytest.MonkeyPatch,
    stored: torch.dtype,
    device: str,
    free: float | None,
    insists: bool,
    computed: torch.dtype,
    said: str | None,
) -> None:
    """A model of a billion parameters, with so many GB free."""
    monkeypatch.setattr(hardware, "free_memory", lambda device: free and int(free * 1e9))
    monkeypatch.setattr(hardware, "pick_device", lambda name, parameters: torch.device(device))
    prefer: Any = "exact" if insists else "exact if it fits"
    chosen = hardware.choose_hardware(hardware.ModelSize(10**9), lambda: stored, prefer, OpenOptions())
    assert (chosen.dtype, chosen.notice and chosen.notice.key) == (computed, said)


def test_float32_weights_that_do_not_fit_are_announced_before_the_first_reply(
    directories: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "SMALL", 0)
    monkeypatch.setattr(hardware, "free_memory", lambda device: 140_000_000)  # fits, but leaves no headroom
    session, model = make_chat(directories["byte-level"], tmp_path)
    assert drain(session.reply("hello")).keys[0] == "engine.narrowed"
    assert model.precision == session.conversation.turns[-1].details["precision"] == "bfloat16"
    session.close()


def test_a_transcript_records_precision_and_device(directories: dict[str, Path], tmp_path: Path) -> None:
    session, _ = make_chat(directories["byte-level"], tmp_path)
    drain(session.reply("hello"))
    details = session.conversation.turns[-1].details
    assert (details["precision"], details["device"]) == ("float32", "cpu")
    session.close()


def test_a_small_model_takes_one_thread(opened: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads mostly wait for each other, and use the CPU meanwhile."""
    words, engine = opened["byte-level"]
    counts: list[int] = []
    network = engine._model.network
    monkeypatch.setattr(
        engine._model, "network", lambda **given: counts.append(torch.get_num_threads()) or network(**given)
    )
    engine.forget()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(engine, words.encode_prompt([user("hello")], TEMPLATE).ids)
    finally:
        torch.set_num_threads(before)
    assert set(counts) == {1}


# -- the catalogue, and a chat ------------------------------------------------------------------------


def test_a_directory_of_another_family_opens_by_its_path(directories: dict[str, Path]) -> None:
    entry = catalogue.open_path(directories["byte-level"])
    assert (entry.name, entry.prompt, entry.kind) == ("byte-level", TEMPLATE, "chat")
    assert catalogue.locate(entry) == directories["byte-level"]
    (table,) = catalogue.load_catalogue({"q": {"directory": "/q", "prompt": {"kind": "template"}}}).values()
    assert table.prompt == TEMPLATE


def test_withdrawn_weights_beside_are_known_here_too(copy: Path) -> None:
    """Saved again by transformers, with the pickle left beside it."""
    (copy / "pytorch_model.bin").write_bytes(b"withdrawn")
    other = ModelEntry("sft", withdrawn_md5=(hashlib.md5(b"withdrawn").hexdigest(),))
    entry = catalogue.open_path(copy)
    with pytest.raises(BchatError) as caught:
        open_model(entry, OpenOptions(others=(other,)))
    assert caught.value.key == "engine.withdrawn"
    assert open_model(entry, OpenOptions(others=(other,), accept_withdrawn=True)).is_withdrawn


def make_chat(directory: Path, home: Path, opening: tuple[Utterance, ...] = ()) -> tuple[Session, Model]:
    entry = catalogue.open_path(directory)
    model = open_model(entry)
    chosen = settings(entry, {"temperature": 0.0, "max_new_tokens": 12})
    return Session(lambda: model, chosen, entry=entry, directory=home, opening=opening), model


def test_a_chat_of_three_turns_with_undo_and_retry(directories: dict[str, Path], kind: str, tmp_path: Path) -> None:
    session, model = make_chat(directories[kind], tmp_path, persona("You are a cat."))
    for text in ("hello", "猫は？", "typed <|im_end|> </s>"):
        shown = drain(session.reply(text))
        assert shown.reply == session.conversation.turns[-1].reply
        assert session.last is not None
        turn = session.conversation.turns[-1]
        if turn.finish is not FinishReason.REPETITION:
            held = model.tokenizer.detokenizer(TEMPLATE)
            assert shown.reply == "".join(map(held.push, session.last.reply_ids)) + (
                held.finish() if turn.finish is FinishReason.STOP else ""
            )
    assert session.last is not None
    assert session.last.cached_tokens > 20
    assert session.prompt_for("x").text.count("You are a cat.") == 1
    third = session.conversation.turns[2].reply
    drain(session.retry())
    assert session.conversation.turns[2].reply == third
    session.undo()
    drain(session.revise("猫は？"))
    assert [turn.user for turn in session.conversation.turns] == ["hello", "猫は？"]
    assert session.context_used(model) > 20
    saved = document.read_document(document.write_document(tmp_path / "it.json", session.snapshot()))
    assert saved.conversation.turns == session.conversation.turns
    session.close()


def test_a_long_chat_is_fitted_by_whole_turns(directories: dict[str, Path], tmp_path: Path) -> None:
    session, _ = make_chat(directories["byte-fallback"], tmp_path)
    keys = [key for number in range(20) for key in drain(session.reply(f"hello {number} " * 4)).keys]
    assert "session.dropped" in keys
    assert session.last is not None
    assert session.last.prompt.text.startswith("<s>[INST] hello")
    session.close()


def test_the_usual_models_do_not_wait_for_transformers(tmp_path: Path) -> None:
    program = (
        "import sys; from bilingual_chat.settings import catalogue; from bilingual_chat.storage import paths;"
        "from bilingual_chat.session.model import open_model;"
        "open_model(catalogue.open_path(paths.demo_model_dir())); assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_scripted_session_still_reads_the_usual_format(tmp_path: Path) -> None:
    """A template belongs to its own models only."""
    session, engine = make_session(tmp_path, ["はい。"])
    drain(session.reply("猫"))
    assert engine.prompts
    assert isinstance(session.format, PromptFormat)
    assert session.prompt_for("x").text.startswith("ユーザー: 猫\nシステム: はい。\n")


def test_a_huge_tokenizer_of_another_family_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.write(b"{")
        file.truncate((64 << 20) + 1)
    with pytest.raises(BchatError) as caught:
        TemplateTokenizer(tmp_path, TEMPLATE)
    assert caught.value.key == "engine.json"


def test_the_tokenizer_of_a_large_vocabulary_is_within_the_bounds(tmp_path: Path) -> None:
    """262,144 pieces and 514,906 merges as pairs: the size of the largest published tokenizer."""
    pieces = {f"piece{number:07}": number for number in range(262_144)}
    merges = [[f"a{number:06}", f"b{number:06}"] for number in range(514_906)]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"decoder": {}, "model": {"vocab": pieces, "merges": merges}}))
    assert read_json(tmp_path / "tokenizer.json", chat_template._MOST, chat_template._MOST_VALUES)["decoder"] == {}

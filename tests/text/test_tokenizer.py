"""Ids are sentencepiece's own; a model file that loses text is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.text.detokenizer import Detokenizer
from bilingual_chat.text.tokenizer import Tokenizer
from tests.sentencepiece_models import NEWLINE_SYMBOL, OWN_NEWLINE, trained


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path_factory.mktemp("model") / "spiece.model"
        path.write_bytes(data)
        return path

    return write


@pytest.fixture(scope="module")
def good(write: Callable[[bytes], Path]) -> Tokenizer:
    return Tokenizer(write(trained()))


@pytest.fixture(scope="module")
def reference() -> sentencepiece.SentencePieceProcessor:
    model = sentencepiece.SentencePieceProcessor()
    model.LoadFromSerializedProto(trained())
    return model


TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",))),
    st.text("aあ漢　 \n\t:ユーザシステム</s>[PAD]<0x0A>😀\r\x1b鱻\u200d"),
    st.lists(st.sampled_from(["</s>", "<s>", "[PAD]", "<unk>", "<0x0A>", "  ", "\n\n", "システム: ", "a"])).map(
        "".join
    ),
)


@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_ids_are_those_of_sentencepiece_and_nothing_is_lost(
    good: Tokenizer, reference: sentencepiece.SentencePieceProcessor, text: str
) -> None:
    """U+2581 alone does not come back: sentencepiece spells a space with it."""
    ids = good.encode(text)
    assert ids == reference.encode(text)
    assert good.decode(ids) == text.replace("▁", " ") == good.normalize(text)
    assert not {good.eos_id, good.bos_id, 0, 1} & set(ids)


@settings(max_examples=200, deadline=None)
@given(numbers=st.lists(st.integers(0, 10_000)))
def test_pieces_joined_are_the_decoded_text_for_any_ids(good: Tokenizer, numbers: list[int]) -> None:
    """Also for ids that no text has: incomplete characters, control and unknown tokens in the middle."""
    ids = [number % good.vocab_size for number in numbers]
    detokenizer = Detokenizer(good.piece)
    streamed = "".join(map(detokenizer.push, ids)) + detokenizer.finish()
    assert streamed == good.decode(ids)


def test_a_piece_is_text_or_one_byte_or_nothing(good: Tokenizer) -> None:
    (space,) = good.encode(" ")
    assert good.piece(space) == " "
    assert good.piece(good.eos_id) == good.piece(good.bos_id) == ""
    assert [good.piece(token) for token in good.encode("鱻")] == [b"\xe9", b"\xb1", b"\xbb"]
    (newline,) = good.encode("\n")
    assert good.piece(newline) == "\n"


def test_lone_surrogates_become_replacement_characters(good: Tokenizer) -> None:
    """sentencepiece raises on them; halves of a pair are joined."""
    assert good.encode("a\ud800b") == good.encode("a\ufffdb")
    assert good.encode("\ud83d\ude00") == good.encode("😀")
    assert good.normalize("a\udfff") == "a\ufffd"


def test_the_ends_come_from_the_model(write: Callable[[bytes], Path], good: Tokenizer) -> None:
    assert (good.bos_id, good.eos_id) == (2, 3)
    other = Tokenizer(write(trained(pad_id=-1, unk_id=0, bos_id=-1, eos_id=1)))
    assert (other.bos_id, other.eos_id) == (-1, 1)
    assert other.vocab_size == good.vocab_size - 2
    assert other.fingerprint != good.fingerprint
    assert len(good.fingerprint) == 64


BAD = {
    "a space is put in front": ({"add_dummy_prefix": True}, "space"),
    "double spaces are joined": ({"remove_extra_whitespaces": True}, "space"),
    "rare characters are unknown": ({"byte_fallback": False}, "rare"),
    "newlines become spaces": ({"normalization_rule_name": "nmt_nfkc", "symbols": ("▁",)}, "newline"),
    "tabs become spaces": ({"normalization_rule_name": "nmt_nfkc", "symbols": ("▁", "\n")}, "tab"),
    "a typed [PAD] is a token": ({"pad_id": -1, "symbols": (*OWN_NEWLINE, "[PAD]")}, "special"),
    "a typed </s> is a token": ({"eos_piece": "<end>", "symbols": (*OWN_NEWLINE, "</s>")}, "special"),
    "a reply has no end": ({"eos_id": -1}, "no-end"),
}


@pytest.mark.parametrize(("options", "what"), BAD.values(), ids=BAD)
def test_a_model_that_loses_something_is_refused(
    write: Callable[[bytes], Path], options: dict[str, Any], what: str
) -> None:
    with pytest.raises(BchatError) as caught:
        Tokenizer(write(trained(**options)))
    assert caught.value.key == "tokenizer.lossy"
    assert caught.value.status is ExitStatus.MODEL
    assert caught.value.values["what"].key == f"tokenizer.{what}"
    assert "使ってください" in caught.value.sentence("ja")


@pytest.mark.parametrize("rule", ["nfkc", "nmt_nfkc"])
def test_a_normalising_model_is_taken_as_far_as_its_normaliser_goes(write: Callable[[bytes], Path], rule: str) -> None:
    """Full-width becomes half-width there; the renderer of a prompt must know that."""
    tokenizer = Tokenizer(write(trained(normalization_rule_name=rule)))
    assert tokenizer.normalize("ｼｽﾃﾑ： x") == "システム: x"
    assert tokenizer.encode("システム：") == tokenizer.encode("システム:")
    assert tokenizer.decode(tokenizer.encode("a\n\n\tb")) == "a\n\n\tb"


@pytest.mark.parametrize("rule", ["identity", "nmt_nfkc"])
def test_a_model_with_a_newline_symbol_is_opened_as_such(write: Callable[[bytes], Path], rule: str) -> None:
    """The Japanese 3.6B models read newlines as "<NL>", one token."""
    path = write(trained(normalization_rule_name=rule, symbols=NEWLINE_SYMBOL))
    tokenizer = Tokenizer(path, newline="<NL>")
    assert len(tokenizer.encode("<NL>")) == 1
    assert tokenizer.decode(tokenizer.encode("a<NL><NL>b  c")) == "a<NL><NL>b  c"


def test_a_model_without_that_newline_symbol_is_refused(write: Callable[[bytes], Path]) -> None:
    """Its newlines would be four ordinary pieces, which the model never saw there."""
    with pytest.raises(BchatError) as caught:
        Tokenizer(write(trained()), newline="<NL>")
    assert caught.value.values["what"].key == "tokenizer.newline"


BROKEN = {
    "empty": b"",
    "a page": b"<html>404</html>",
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_no_model_is_one_sentence(write: Callable[[bytes], Path], data: bytes) -> None:
    with pytest.raises(BchatError) as caught:
        Tokenizer(write(data))
    assert caught.value.key == "tokenizer.broken"
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_cut_off_file_never_opens(write: Callable[[bytes], Path], part: float) -> None:
    data = trained()
    with pytest.raises(BchatError):
        Tokenizer(write(data[: int(len(data) * part)]))


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BchatError) as caught:
        Tokenizer(tmp_path / "spiece.model")
    assert caught.value.key == "tokenizer.unreadable"
    assert "no such file" in str(caught.value)


def test_a_huge_tokenizer_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "spiece.model"
    path.write_bytes(b"\n" * ((8 << 20) + 1))
    with pytest.raises(BchatError) as caught:
        Tokenizer(path)
    assert caught.value.key == "tokenizer.broken"

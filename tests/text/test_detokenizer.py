"""Pieces never split a character; joined, they equal sentencepiece's decoding."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from bilingual_chat.text.detokenizer import Detokenizer
from bilingual_chat.text.prompt import PromptFormat

CORPUS = (
    "こんにちは、世界。今日は良い天気ですね。",
    "Hello there, how are you?  Fine,\tthanks",
    "ユーザー: はい<NL>システム: いいえ",
    "a b c  d e : < >",
)
STOPS = PromptFormat().stop_strings
NL_STOPS = PromptFormat(separator="<NL>", newline="<NL>").stop_strings
Piece = Callable[[int], bytes | str]


@pytest.fixture(scope="module")
def processor() -> sentencepiece.SentencePieceProcessor:
    """A tokenizer like the family's: byte fallback, spaces and newlines kept, no normalisation."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 30),
        model_writer=model,
        vocab_size=330,
        model_type="unigram",
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        user_defined_symbols=["<NL>"],
        hard_vocab_limit=False,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@pytest.fixture(scope="module")
def piece(processor: sentencepiece.SentencePieceProcessor) -> Piece:
    def look_up(token_id: int) -> bytes | str:
        if processor.is_byte(token_id):
            return bytes([int(processor.id_to_piece(token_id)[1:-1], 16)])
        if processor.is_control(token_id):
            return ""
        return str(processor.decode([token_id])) if token_id else " ⁇ "

    return look_up


def spelt(token_id: int) -> bytes | str:
    """Ids 0–255 are bytes, others characters."""
    return bytes([token_id]) if token_id < 256 else chr(token_id)


def ids_of(text: str) -> list[int]:
    """Full-width text for characters, ASCII as single bytes."""
    return [ord(character) for character in text]


def run(detokenizer: Detokenizer, ids: list[int]) -> str:
    return "".join([*map(detokenizer.push, ids), detokenizer.finish()])


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_joined_pieces_are_decode_of_any_ids(
    processor: sentencepiece.SentencePieceProcessor, piece: Piece, data: st.DataObject
) -> None:
    """Invalid bytes, runs split by pieces and control tokens, ends within a character."""
    byte = st.sampled_from(
        [processor.piece_to_id(f"<0x{b:02X}>") for b in b"\xe3\x81\x82\xf0\x9f\x98\x80\xc3\xed\xa0\xff\xe0A"]
    )
    ids = data.draw(st.lists(byte | st.integers(0, processor.vocab_size() - 1), max_size=12))
    assert run(Detokenizer(piece), ids) == processor.decode(ids)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from("あ猫𠮷鷗葛\U000e0100👩\u200d❤\ufe0f🇯🇵aé \n\t") | st.characters(codec="utf-8"), max_size=20
    )
)
def test_each_character_comes_in_the_step_that_completes_it(
    processor: sentencepiece.SentencePieceProcessor, piece: Piece, characters: list[str]
) -> None:
    """No character is late or early, and no U+FFFD is added."""
    text = "".join(characters).replace("\0", "").replace("▁", "").replace("\ufffd", "")
    ids = processor.encode(text)
    detokenizer, seen = Detokenizer(piece), ""
    for count, token_id in enumerate(ids, 1):
        new = detokenizer.push(token_id)
        assert "\ufffd" not in new
        seen += new
        assert seen == processor.decode(ids[:count]).rstrip("\ufffd")
    assert seen == detokenizer.text == text
    assert detokenizer.finish() == ""


def test_the_leading_space_of_a_reply_is_kept(processor: sentencepiece.SentencePieceProcessor, piece: Piece) -> None:
    assert run(Detokenizer(piece), processor.encode("  a b")) == "  a b"


def test_a_byte_that_cannot_go_on_is_shown_at_once() -> None:
    detokenizer = Detokenizer(spelt)
    assert [detokenizer.push(b) for b in b"\xe3\x81\xf0\x9f\x98\x80"] == ["", "", "\ufffd\ufffd", "", "", "😀"]
    assert [detokenizer.push(b) for b in b"\xe0\x80"] == ["", "\ufffd\ufffd"]


def test_nothing_of_a_stop_string_is_ever_returned() -> None:
    detokenizer = Detokenizer(spelt, stop_strings=STOPS)
    pushed = [detokenizer.push(t) for t in ids_of("はい\nユーザー:あ")]
    assert "".join(pushed) == detokenizer.text == "はい"
    assert detokenizer.stopped
    assert detokenizer.finish() == ""


def test_a_stop_string_that_comes_to_nothing_is_text_at_once() -> None:
    detokenizer = Detokenizer(spelt, stop_strings=STOPS)
    assert [detokenizer.push(t) for t in ids_of("a\nユーザは\nシ")] == ["a", "", "", "", "", "\nユーザは", "", ""]
    assert detokenizer.finish() == "\nシ"
    assert detokenizer.text == "a\nユーザは\nシ"


@pytest.mark.parametrize("cut", [1, 2, 3, 5])
def test_newline_symbols_come_out_as_newlines(cut: int) -> None:
    text = "一<NL>二<<NL>三<N<NL"
    pieces = [text[i : i + cut] for i in range(0, len(text), cut)]
    detokenizer = Detokenizer(pieces.__getitem__, stop_strings=NL_STOPS, newline="<NL>")
    assert run(detokenizer, list(range(len(pieces)))) == "一\n二<\n三<N<NL"


def test_of_two_stop_strings_in_one_token_the_one_that_ends_first_counts() -> None:
    """If the token had been several, that one would have stopped the reply."""
    assert run(Detokenizer(["xabc"].__getitem__, stop_strings=("abc", "b")), [0]) == "xa"


@pytest.mark.parametrize("newline", ["<NL>", "\n"])
def test_the_japanese_models_stop_at_either_spelling_of_the_newline(newline: str) -> None:
    detokenizer = Detokenizer(spelt, stop_strings=NL_STOPS, newline="<NL>")
    assert run(detokenizer, ids_of(f"はい{newline}ユーザー:い")) == "はい"
    assert detokenizer.stopped


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "ab", "<", "N", "L>", "<NL>", "ba<NL>", "ab<NL>", "é", ""]), max_size=10),
    st.lists(st.sampled_from(["ab<NL>", "b", "aba", "<NL><NL>", "b<", "ééa"]), max_size=2),
)
def test_a_reply_does_not_depend_on_how_it_was_cut_into_tokens(pieces: list[str], stops: list[str]) -> None:
    """For every split, the reply is the text up to the stop string that ends first."""
    whole = "".join(pieces).replace("<NL>", "\n")
    wanted = [stop.replace("<NL>", "\n") for stop in stops]
    ends = [(whole.index(stop) + len(stop), whole.index(stop)) for stop in wanted if stop in whole]
    detokenizer = Detokenizer(pieces.__getitem__, stop_strings=stops, newline="<NL>")
    assert run(detokenizer, list(range(len(pieces)))) == whole[: min(ends)[1] if ends else None]
    assert detokenizer.stopped == bool(ends)


def test_a_token_costs_the_same_however_long_the_reply() -> None:
    """The last of 40,000 tokens take as long as the first, within the noise of a busy machine."""
    detokenizer = Detokenizer(spelt, stop_strings=STOPS)

    def seconds(count: int) -> float:
        best = float("inf")
        for _ in range(3):
            began = time.perf_counter()
            for _ in range(count):
                detokenizer.push(0x3042)
            best = min(best, time.perf_counter() - began)
        return best

    first = seconds(2000)
    for _ in range(30_000):
        detokenizer.push(0x3042)
    assert seconds(2000) < 8 * first


@given(
    begin=st.lists(st.sampled_from(["a", "\n", "ユーザー", "ユーザ", ":", "シ"]), max_size=4).map("".join),
    pieces=st.lists(st.sampled_from(["a", "\n", "ユーザー", "ー", ":", "システム", " ", "\nユー"]), max_size=6),
    added=st.lists(st.sampled_from(["aa", "a\n", "ザー:", "\nユーザー: "]), max_size=2, unique=True),
)
@settings(max_examples=500, deadline=None)
def test_a_stop_string_may_begin_in_the_first_words_and_never_cuts_them(
    begin: str, pieces: list[str], added: list[str]
) -> None:
    """The slow oracle: the first stop string in the whole text that ends after the first words."""
    detokenizer = Detokenizer(lambda number: pieces[number], stop_strings=STOPS)
    detokenizer.start_with(begin)
    detokenizer.also_stop_at(added)
    shown = "".join(detokenizer.push(number) for number in range(len(pieces)))
    shown += detokenizer.finish()
    whole = begin + "".join(pieces)
    ends = [
        (at + len(stop), at)
        for stop in (*STOPS, *added)
        for at in range(len(whole))
        if whole.startswith(stop, at) and at + len(stop) > len(begin)
    ]
    expected = whole[: max(min(ends)[1], len(begin))] if ends else whole
    assert detokenizer.stopped is bool(ends)
    assert detokenizer.text == begin + shown == expected

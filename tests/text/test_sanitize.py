"""No text from outside controls the terminal; ordinary writing is unchanged."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilingual_chat.text.sanitize import inward, outward, outward_line

ACTING = {
    *(c for c in range(0x110000) if unicodedata.category(chr(c)) in ("Cc", "Zl", "Zp", "Cs")),
    *(0x061C, 0x200B, 0x200E, 0x200F, 0xFEFF),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2065),
    *range(0x2066, 0x2070),
    *range(0xFFF9, 0xFFFC),
    *range(0xE0000, 0xE0080),
} - {0x09, 0x0A}
SEQUENCES = (
    "\x1b]52;c;aGVsbG8=\x07", "\x1b]8;;http://example.com\x1b\\link", "\x1b]0;title\x07", "\x1b[2J\x1b[?1049h", "\x1bc",
    "\x1bP+q544e\x1b\\", "\x9b31m", "\x9d0;t\x9c", "\x1b[6n", "\x05", "over\rwritten", "a\b\bb", "\u202egnp.exe",
    "a\u2066b\u2069", "tag\U000e0041\U000e007f", "\ud83d\ude00", "half \udc80",
)  # fmt: skip
awkward = st.lists(
    st.sampled_from([*SEQUENCES, "\r\n", "\n", "\t", "\0", "\ud83d", "\ude00", "猫"]) | st.characters(), max_size=8
).map("".join)
CLEAN = (
    "こんにちは、世界。Hello, world!\n\t　全角スペース 👩‍👩‍👧 ❤️ 👍🏽 🇯🇵 葛󠄀城市 か\u3099 ﾊﾝｶｸ ¿Qué? naïve – “quotes” "
    "‰ 𠮷野家 \u200cم\u200d\U0001fae9\U0001faea\u0378 [red][/INST] :skull: </s> <0x0A>\n"
)


def test_exactly_the_characters_that_act_or_hide_are_replaced() -> None:
    """All of Unicode, one by one."""
    assert {c for c in range(0x110000) if outward(chr(c)) != chr(c)} == ACTING


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_no_acting_character_is_left(sequence: str) -> None:
    shown = outward(sequence)
    assert not {ord(c) for c in shown} & ACTING
    assert shown != sequence
    shown.encode()


def test_marks_can_be_read() -> None:
    assert outward("\x1b[31m\x7f\0") == "␛[31m␡␀"
    assert outward("\u202e\x85\ud83d\U000e0041") == "‹U+202E›‹U+0085›‹U+D83D›‹U+E0041›"
    assert outward("a\n\tb") == "a\n\tb"
    assert outward_line("a\n\tb\x1b") == "a␊␉b␛"


def test_a_megabyte_of_ordinary_text_is_unchanged_and_quick() -> None:
    text = CLEAN * (1_000_000 // len(CLEAN))
    began = time.perf_counter()
    assert outward(text) == text
    assert time.perf_counter() - began < 1
    assert inward(text) == text


@settings(max_examples=100, deadline=None)
@given(awkward)
def test_text_may_come_in_any_pieces(text: str) -> None:
    """A sequence split over tokens is as harmless as a whole one."""
    for cut in range(len(text) + 1):
        assert outward(text[:cut]) + outward(text[cut:]) == outward(text)
    assert "".join(map(outward_line, text)) == outward_line(text)


@settings(max_examples=200, deadline=None)
@given(awkward)
def test_what_is_kept_can_be_written_and_read_back(text: str) -> None:
    kept = inward(text)
    assert kept.encode().decode() == kept == inward(kept)
    assert not set(kept) & {"\r", "\0"}


def test_what_is_kept_is_what_was_meant() -> None:
    assert inward("a\r\nb\rc\n\r\n") == "a\nb\nc\n\n"
    assert inward("\ud83d\ude00 \ud83dx\ude00") == "😀 \ufffdx\ufffd"
    assert inward("a\0b\x1b[0m") == "ab\x1b[0m"

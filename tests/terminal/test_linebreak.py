"""No line is wider than the screen, no character is lost or late, and Japanese breaks at permitted places."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilingual_chat.terminal.linebreak import Erase, LineBreaker, break_lines, count_cells, may_break

SAMPLES = (
    "あ", "漢", "、", "。", "」", "「", "（", "っ", "ー", "…", "……", "ｱ", "ﾞ", "a", "word", "Hello,", "(", ")", " ",
    "  ", "\n", "\u3000", "\u00a0", "か\u3099", "葛\U000e0100", "e\u0301",
    "👩\u200d👩\u200d👧", "❤\ufe0f", "❤", "👍🏽", "🇯🇵", "🇫🇷", "\u200d",
    "‹U+202E›", "\x1b", "\ufe0f", "supercalifragilistic",
)  # fmt: skip
texts = st.lists(
    st.sampled_from(SAMPLES) | st.characters(codec="utf-8", categories=["Lu", "Lo", "So", "Po"]), max_size=25
)
WHITESPACE = str.maketrans("", "", " \n\t\u3000")


def play(events: list[str | Erase], lines: list[str]) -> None:
    """A screen: text is appended, an Erase removes the last characters of a line that is too long."""
    for event in events:
        if isinstance(event, Erase):
            before = count_cells(lines[-1])
            while count_cells(lines[-1]) > event.column:
                lines[-1] = lines[-1][:-1]
            assert count_cells(lines[-1]) == event.column == before - event.cells
        else:
            first, *others = event.split("\n")
            lines[-1] += first
            lines.extend(others)


@settings(max_examples=300, deadline=None)
@given(texts, st.integers(1, 14), st.integers(1, 5), st.booleans())
def test_lines_fit_and_nothing_is_lost(samples: list[str], width: int, cut: int, can_erase: bool) -> None:
    """Streamed in pieces of any size; on a screen of one cell, a wide character stands alone."""
    text = "".join(samples)
    breaker, lines = LineBreaker(width, can_erase=can_erase), [""]
    for start in range(0, len(text), cut):
        events = breaker.push(text[start : start + cut])
        assert can_erase or not any(isinstance(event, Erase) for event in events)
        play(events, lines)
        seen = "".join(lines).translate(WHITESPACE)
        assert seen == text[: start + cut].translate(WHITESPACE), "a character is late"
    assert breaker.finish() == []
    for line in lines:
        # What cannot be taken back cannot move when a selector widens it.
        widened = 0 if can_erase else line.count("\ufe0f")
        assert count_cells(line) <= max(width, 2) + widened


@settings(max_examples=300, deadline=None)
@given(texts, st.integers(1, 14), st.integers(1, 5))
def test_streamed_text_breaks_as_finished_text(samples: list[str], width: int, cut: int) -> None:
    text = "".join(samples)
    breaker, lines = LineBreaker(width), [""]
    for start in range(0, len(text), cut):
        play(breaker.push(text[start : start + cut]), lines)
    assert lines == break_lines(text, width)


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("今日は晴れ。明日も", 10, ["今日は晴", "れ。明日も"]),
        ("今日は晴れです", 10, ["今日は晴れ", "です"]),
        ("彼は「はい」と", 6, ["彼は", "「は", "い」と"]),
        ("ああちょっと", 8, ["ああ", "ちょっと"]),
        ("データベース", 4, ["デー", "タ", "ベー", "ス"]),
        ("まって……ね", 7, ["まっ", "て……ね"]),
        ("あ(日本)b", 4, ["あ", "(日", "本)b"]),
    ],
)
def test_japanese_breaks_where_kinsoku_allows(text: str, width: int, lines: list[str]) -> None:
    assert break_lines(text, width) == lines


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("the quick brown fox", 10, ["the quick ", "brown fox"]),
        ("the quick brown fox", 9, ["the quick", "brown fox"]),
        ("well, hello", 7, ["well, ", "hello"]),
        ("a incomprehensible b", 6, ["a ", "incomp", "rehens", "ible b"]),
        ("日本語word", 8, ["日本語", "word"]),
        ("10\u00a0km", 4, ["10\u00a0k", "m"]),
        ("a 10\u00a0km", 5, ["a ", "10\u00a0km"]),
        ("  return x\n    y", 10, ["  return x", "    y"]),
        ("", 5, [""]),
        ("\n\na\n", 5, ["", "", "a", ""]),
    ],
)
def test_words_are_whole_unless_longer_than_a_line(text: str, width: int, lines: list[str]) -> None:
    assert break_lines(text, width) == lines


def test_spaces_without_room_turn_into_the_break() -> None:
    """They would begin the next line, or make an empty one."""
    assert break_lines("abcd   ef", 4) == ["abcd", "ef"]
    assert break_lines("abcd  \nef", 4) == ["abcd", "ef"]
    assert break_lines("abcd  ", 4) == ["abcd"]
    assert break_lines("\u3000\u3000a", 1) == ["\u3000", "a"]


def test_a_tab_goes_to_the_next_stop() -> None:
    assert break_lines("a\tbcd", 10) == ["a\t", "bcd"]
    assert break_lines("a\tbc", 10) == ["a\tbc"]
    assert break_lines("ab\tc", 6) == ["ab", "c"]
    assert break_lines("\ta", 4) == ["\t", "a"]


def test_a_word_that_overflows_is_taken_back_and_comes_again() -> None:
    breaker = LineBreaker(8)
    assert breaker.push("go ahea") == ["go ahea"]
    assert breaker.push("d") == ["d"]
    assert breaker.push("!") == [Erase(cells=5, column=3), "\nahead!"]


def test_a_forbidden_first_character_takes_the_one_before_with_it() -> None:
    breaker = LineBreaker(4)
    assert breaker.push("はい") == ["はい"]
    assert breaker.push("。") == [Erase(cells=2, column=2), "\nい。"]


def test_a_selector_that_widens_the_last_character_moves_it() -> None:
    breaker = LineBreaker(3)
    assert breaker.push("あ❤") == ["あ❤"]
    assert breaker.push("\ufe0f") == [Erase(cells=1, column=2), "\n❤\ufe0f"]


def test_what_was_not_yet_printed_is_not_erased() -> None:
    assert LineBreaker(8).push("go ahead! はい。") == ["go \nahead! \nはい。"]


def test_nothing_is_taken_back_where_nothing_can_be() -> None:
    breaker = LineBreaker(8, can_erase=False)
    assert [*breaker.push("go ahead"), *breaker.push("! はい。")] == ["go ahead", "\n! はい。"]
    breaker = LineBreaker(3, can_erase=False)
    assert [*breaker.push("あ❤"), *breaker.push("\ufe0f")] == ["あ❤", "\ufe0f"]


def test_emoji_sequences_and_marks_stay_whole() -> None:
    family = "👩\u200d👩\u200d👧"
    for whole in (family, "👍🏽", "🇯🇵", "か\u3099", "葛\U000e0100", "❤\ufe0f"):
        assert break_lines(whole * 3, 5) == [whole * 2, whole]
        assert break_lines(whole * 2, 1) == [whole, whole]


@pytest.mark.parametrize("width", [-1, 0, 1])
def test_no_screen_is_too_narrow(width: int) -> None:
    assert break_lines("ab 漢", width) == ["a", "b", "漢"]
    assert break_lines("\u200da", width) == ["\u200da"]


def test_where_a_line_may_break() -> None:
    assert may_break("あ", "い")
    assert may_break("a", "い")
    assert may_break("ｱ", "ｲ")
    assert may_break(" ", "a")
    assert may_break("。", "a")
    for before, after in (
        ("a", "b"),
        ("あ", "。"),
        ("「", "あ"),
        ("あ", "っ"),
        ("あ", " "),
        ("…", "…"),
        ("\u00a0", "あ"),
    ):
        assert not may_break(before, after)


def test_a_new_text_begins_on_a_new_line() -> None:
    breaker = LineBreaker(4)
    breaker.push("abc")
    assert breaker.finish() == []
    assert breaker.push("def") == ["def"]

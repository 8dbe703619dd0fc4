"""Measures of replies, against cases computed by hand."""

from __future__ import annotations

import unicodedata
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilingual_chat.explore import measures
from bilingual_chat.explore.measures import chrf, distinct, has_leak, is_loop, japanese_share, pairwise_chrf, repetition

LABELS = ("ユーザー", "システム")


def test_repetition_counts_the_ngrams_that_came_before() -> None:
    assert repetition([1, 2, 3, 4], 4) == 0
    assert repetition([1, 2, 3, 4, 1, 2, 3, 4], 4) == pytest.approx(1 / 5)  # 1234 2341 3412 4123 1234
    assert repetition([7] * 8, 4) == pytest.approx(4 / 5)
    assert repetition([1, 2, 3], 4) is None


def test_distinct_pools_the_replies_and_joins_none() -> None:
    assert distinct([[1, 2, 1]], 1) == pytest.approx(2 / 3)
    assert distinct([[1, 2], [1, 2]], 2) == 0.5
    assert distinct([[1, 2], [3, 4]], 2) == 1  # 2 3 is no bigram of either
    assert distinct([[], [5]], 2) is None


@pytest.mark.parametrize(
    "ids",
    [
        [*range(50), *[7] * 12],
        [*range(50), *[1, 2, 3, 4] * 3],
        [*range(50), *[1, 2, 3, 4] * 3, 1, 2],  # the last copy is cut
        [*range(10, 60)] * 3,
        [1, 1, 1, 2] * 3,
    ],
)
def test_three_copies_at_the_end_are_a_loop(ids: list[int]) -> None:
    assert is_loop(ids)


@pytest.mark.parametrize(
    "ids",
    [
        [],
        [7] * 11,  # a laugh
        [*range(100)],
        [*range(10, 60)] * 2,  # a sentence said twice
        [*[7] * 40, 1],  # the loop was left
        [*range(9)] * 2 + [*range(8)],
    ],
)
def test_fewer_copies_or_a_loop_that_ended_are_none(ids: list[int]) -> None:
    assert not is_loop(ids)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("東京です", 1.0),
        ("ラーメン ｶﾞｽ 佐々木 〆切", 1.0),
        ("hello", 0.0),
        ("Ｈｅｌｌｏ", 0.0),  # full width is no script
        ("AI です。", 0.5),
        ("안녕 привет", 0.0),
        ("3.14 (42)!😀", None),
        ("", None),
    ],
)
def test_japanese_is_told_by_script(text: str, share: float | None) -> None:
    assert japanese_share(text) == share


def test_every_letter_with_a_japanese_name_is_japanese() -> None:
    """The ranges are held against the names of this Python's Unicode, which has no scripts."""
    names = ("HIRAGANA", "KATAKANA", "CJK UNIFIED", "CJK COMPATIBILITY IDEO", "HALFWIDTH KATA", "HENTAIGANA")
    for code in range(0x110000):
        character = chr(code)
        name = unicodedata.name(character, "")
        if character.isalpha() and (name.startswith(names) or not name.startswith(("IDEO", "VERT", "MASU"))):
            assert japanese_share(character) == float(name.startswith(names)), hex(code)


@pytest.mark.parametrize("text", ["はい。\nユーザー: 次", "はい<NL>システム：", "ユーザー : x"])
def test_a_label_with_a_colon_is_a_leak(text: str) -> None:
    assert has_leak(text, LABELS)


def test_a_word_that_contains_a_label_is_no_leak() -> None:
    assert not has_leak("ユーザーの皆様", LABELS)
    assert not has_leak("superuser: root", ("user",))
    assert not has_leak("ユーザー: x", ())


# Values of sacreBLEU 2.5 (CHRF().sentence_score(a, [b]).score / 100).
PUBLISHED = [
    ("the cat sat", "the cat sat down", 0.6601764142221674),
    ("今日は良い天気です。", "今日はいい天気ですね。", 0.3839482888334086),
    ("東京は日本の首都です", "日本の首都は東京です", 0.4156746031746031),
    ("a", "a b c", 0.3846153846153846),
    ("abc", "xyz", 0.0),
]


@pytest.mark.parametrize(("hypothesis", "reference", "value"), PUBLISHED)
def test_chrf_is_that_of_sacrebleu(hypothesis: str, reference: str, value: float) -> None:
    assert chrf(hypothesis, reference) == pytest.approx(value, abs=1e-12)


def test_chrf_by_hand() -> None:
    """ "ab" in "abc": precision 1 and 1, recall 2/3 and 1/2, F2 = 5·1·(7/12) / (4·1 + 7/12)."""
    assert chrf("ab", "a bc") == pytest.approx(5 * (7 / 12) / (4 + 7 / 12))
    assert chrf("", "") == chrf("same", "s a m e") == 1
    assert chrf("", "x") == chrf("x", "") == 0


def test_pairs_count_in_both_directions() -> None:
    assert pairwise_chrf(["ab", "abc"]) == pytest.approx((chrf("ab", "abc") + chrf("abc", "ab")) / 2)
    assert pairwise_chrf(["x", "x", "x"]) == 1
    assert pairwise_chrf(["alone"]) is None
    mixed = pairwise_chrf(["aaa", "aaa", "bbb"])
    assert mixed == pytest.approx(1 / 3)


@given(st.lists(st.text(alphabet="ab あ😀\ud800", max_size=14), min_size=2, max_size=4))
def test_the_fast_pairs_are_those_of_chrf_one_by_one(replies: list[str]) -> None:
    slow = [chrf(a, b) for at, a in enumerate(replies) for other, b in enumerate(replies) if at != other]
    assert pairwise_chrf(replies) == pytest.approx(sum(slow) / len(slow), abs=1e-12)


def test_all_measures_of_a_reply_at_once() -> None:
    measured = measures.measure_reply("ははは", [7] * 12, LABELS)
    assert asdict(measured) == {
        "tokens": 12,
        "characters": 3,
        "rep4": pytest.approx(8 / 9),
        "loop": True,
        "distinct1": pytest.approx(1 / 12),
        "distinct2": pytest.approx(1 / 11),
        "ja_share": 1.0,
        "leak": False,
    }


def test_an_empty_reply_has_no_shares() -> None:
    measured = measures.measure_reply("", [], LABELS)
    assert (measured.rep4, measured.distinct1, measured.ja_share, measured.loop) == (None, None, None, False)

"""Differences of two texts: by words, by characters in scripts without spaces, in bounded time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilingual_chat.text.differences import Kind, differences


def marked(first: str, other: str) -> str:
    forms = {Kind.SAME: "{}", Kind.ADDED: "[{}]", Kind.OMITTED: "<{}>"}
    return "".join(forms[span.kind].format(span.text) for span in differences(first, other))


@pytest.mark.parametrize(
    ("first", "other", "wanted"),
    [
        ("I like red wine.", "I like white wine.", "I like <red>[white] wine."),
        ("I like wine.", "I like white wine.", "I like [white ]wine."),
        ("Yes, I do.", "Yes, I do.", "Yes, I do."),
        ("Don't go", "Don’t go", "<Don't>[Don’t] go"),
        ("東京は大きい町です。", "京都は古い町です。", "<東京は大き>[京都は古]い町です。"),
        ("猫が好きです。", "犬が好きです。", "<猫>[犬]が好きです。"),
        ("コーヒーを飲む", "コーラを飲む", "<コーヒー>[コーラ]を飲む"),
        ("", "はい", "[はい]"),
        ("はい", "", "<はい>"),
        ("café", "cafe\u0301", "<café>[cafe\u0301]"),
        ("私は👩\u200d👩\u200d👧です", "私は👩\u200d👦です", "私は<👩\u200d👩\u200d👧>[👩\u200d👦]です"),
    ],
)
def test_words_and_characters_that_differ_are_marked(first: str, other: str, wanted: str) -> None:
    assert marked(first, other) == wanted


def test_a_character_that_agrees_by_chance_is_no_island() -> None:
    """Alone between two differences, a particle would split a phrase."""
    assert marked("山の奥へ行きます", "海の底へ行きます") == "<山の奥>[海の底]へ行きます"


texts = st.text(alphabet="ab日本のカー \n'\u0301\u200d👩", max_size=40)


@given(texts, texts)
@settings(max_examples=300, deadline=None)
def test_the_spans_are_the_two_texts(first: str, other: str) -> None:
    spans = differences(first, other)
    assert "".join(span.text for span in spans if span.kind is not Kind.OMITTED) == other
    assert "".join(span.text for span in spans if span.kind is not Kind.ADDED) == first
    assert all(span.text for span in spans)


@pytest.mark.parametrize("unit", ["ああ", "の、", "a b ", "\u0301", "👩\u200d"])
def test_long_texts_of_few_kinds_of_words_end_in_a_blink(unit: str) -> None:
    """Their middle counts as different; comparing it would take minutes."""
    first, other = "始め" + unit * 5000 + "A終わり", "始め" + unit * 4000 + "B" + unit * 900 + "終わり"
    spans = differences(first, other)
    assert spans[0].kind is spans[-1].kind is Kind.SAME
    assert spans[-1].text.endswith("わり")

"""A setting is within its range or refused, from every source and in every spelling."""

from __future__ import annotations

import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.decoding import (
    ALIASES,
    RANGES,
    TEXTS,
    DecodingParameters,
    checked,
    checked_by_name,
    filter_order,
    format_value,
    resolve_name,
)
from bilingual_chat.settings.words import split_words, texts_of


def refusal(name: str, value: Any) -> BchatError:
    with pytest.raises(BchatError) as caught:
        checked_by_name(name, value)
    assert caught.value.status is ExitStatus.USAGE
    assert caught.value.sentence("en")
    assert caught.value.sentence("ja")
    return caught.value


def test_every_parameter_has_a_range_that_holds_its_default() -> None:
    assert {field.name for field in fields(DecodingParameters)} == set(RANGES)
    for name, value in asdict(DecodingParameters()).items():
        assert checked(name, value) == value
    assert set(ALIASES.values()) <= set(RANGES)


def test_the_defaults_are_those_that_the_cards_leave_in_force() -> None:
    """No card sets top_k; transformers' default of 50 was in force."""
    assert DecodingParameters() == DecodingParameters(1.0, 50, 1.0, 1.0, 0, 512, None)


@pytest.mark.parametrize("name", ["top_p", "top-p", "Top_P", " TOP-P "])
def test_a_name_may_be_spelt_as_people_spell_it(name: str) -> None:
    assert resolve_name(name) == "top_p"


def test_an_alias_changes_the_parameter_it_means() -> None:
    assert checked_by_name("temp", "0.7") == ("temperature", 0.7)
    assert checked_by_name("max-tokens", "8") == ("max_new_tokens", 8)


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        ("stop", "\n", ("\n",)),
        ("stop", ["a", "b", "a"], ("a", "b")),
        ("stop", (), ()),
        ("stop", None, ()),
        ("bad_words", ["猫", "ｉｄ：１２"], ("猫", "id:12")),
        ("logit_bias", ["猫=5", "a=b=-0.50", "＝＝１"], ("猫=5", "a=b=-0.5", "＝=1")),
        ("logit_bias", ["ID:7＝２。５"], ("id:7=2.5",)),
        ("penalty_scope", " Reply ", "reply"),
        ("penalty_scope", "ａｌｌ", "all"),
    ],
)
def test_texts_and_choices_are_recorded_alike(name: str, value: Any, result: Any) -> None:
    assert checked(name, value) == result
    assert checked(name, list(result) if isinstance(result, tuple) else result) == result


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("stop", [""], "setting.text"),
        ("stop", ["x" * 201], "setting.text"),
        ("stop", ["x"] * 257, "setting.texts"),
        ("stop", [1], "setting.type"),
        ("stop", 0, "setting.type"),
        ("stop", {}, "setting.type"),
        ("stop", 1, "setting.type"),
        ("logit_bias", ["猫"], "setting.bias"),
        ("logit_bias", ["猫=x"], "setting.bias"),
        ("logit_bias", ["=5"], "setting.bias"),
        ("logit_bias", ["猫=101"], "setting.bias"),
        ("logit_bias", ["猫=nan"], "setting.bias"),
        ("penalty_scope", "both", "setting.choice"),
        ("penalty_scope", 1, "setting.type"),
    ],
)
def test_other_texts_are_refused(name: str, value: Any, key: str) -> None:
    assert refusal(name, value).key == key


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, unique=True))
def test_texts_are_written_as_they_are_read(texts: list[str]) -> None:
    """What /last and the advice show can be typed again."""
    typed = format_value(checked("stop", texts))
    assert texts_of(split_words(typed)) == texts


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    error = refusal("temprature", 1)
    assert error.key == "setting.unknown"
    assert "Did you mean temperature?" in error.sentence("en")
    assert "もしかして temperature" in error.sentence("ja")
    assert "Did you mean" not in refusal("xyzzy", 1).sentence("en")


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        ("temperature", "0", 0.0),
        ("temperature", 1, 1.0),
        ("temperature", " 0.7 ", 0.7),
        ("temperature", "０．７", 0.7),
        ("temperature", "0。7", 0.7),
        ("temperature", "０。７", 0.7),
        ("top_k", "40", 40),
        ("seed", "none", None),
        ("seed", "Random", None),
        ("seed", None, None),
        ("seed", 2**63 - 1, 2**63 - 1),
    ],
)
def test_a_value_comes_out_with_its_type(name: str, value: Any, result: Any) -> None:
    found = checked(name, value)
    assert found == result
    assert type(found) is type(result)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "abc"),
        ("temperature", True),
        ("temperature", None),
        ("temperature", [1]),
        ("temperature", ""),
        ("top_k", "4.5"),
        ("top_k", "1_0"),
        ("temperature", "1_0"),
        ("temperature", "0。"),
        ("top_k", 4.0),
        ("top_k", False),
        ("seed", "1e3"),
        ("top_k", "9" * 5000),
        ("temperature", 10**400),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: Any) -> None:
    assert refusal(name, value).key == "setting.type"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", "\N{MINUS SIGN}1"),
        ("temperature", "nan"),
        ("temperature", float("nan")),
        ("temperature", "inf"),
        ("top_p", 7),
        ("top_p", 0),
        ("top_k", -1),
        ("top_k", 10**400),
        ("repetition_penalty", 0),
        ("max_new_tokens", 0),
        ("seed", -1),
        ("seed", 2**63),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(name: str, value: Any) -> None:
    error = refusal(name, value)
    assert error.key == "setting.range"
    assert error.values["name"] == name


@pytest.mark.parametrize("typed", ["11", "1e2", "-3"])
def test_what_is_out_of_range_is_shown_as_it_was_typed(typed: str) -> None:
    assert refusal("temperature", f" {typed} ").sentence("en").endswith(f"not {typed}.")


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(RANGES)), st.text(max_size=6) | st.floats() | st.integers() | st.none() | st.booleans())
def test_every_value_is_in_range_or_refused_in_a_sentence(name: str, value: Any) -> None:
    try:
        found = checked(name, value)
    except BchatError as error:
        refused = error
    else:
        if RANGES[name].kind in (int, float):
            assert (found is None and RANGES[name].optional) or RANGES[name].low <= found <= RANGES[name].high
        else:
            assert found in RANGES[name].choices or isinstance(found, tuple)
        assert checked(name, found) == found
        return
    assert refused.sentence("ja")


@pytest.mark.parametrize("page", ["docs/decoding.md", "docs/ja/decoding.md"])
def test_the_page_lists_the_filters_in_their_order_and_every_other_setting(page: str) -> None:
    text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`\w+`(?:[,、] ?`\w+`)*) \|", text, re.MULTILINE)
    names = [name for cell in cells for name in re.findall(r"\w+", cell)]
    on = {name: spec.low for name, spec in RANGES.items() if spec.kind in (int, float)}
    on |= {name: spec.high for name, spec in RANGES.items() if name.endswith("penalty") or spec.low == 0}
    texts = dict.fromkeys(TEXTS, ("a=1",))
    order = filter_order(DecodingParameters(**{**on, **texts, "top_p": 0.5, "typical_p": 0.5, "penalty_scope": "all"}))
    assert tuple(names[: len(order)]) == order
    assert sorted(names) == sorted(RANGES)

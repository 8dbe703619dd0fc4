"""The cells of a sweep: axes as typed, their combinations, and what is refused."""

from __future__ import annotations

import unicodedata
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilingual_chat.explore.grid import MAX_CELLS, make_cells, parse_axis, read_settings, varied_names
from bilingual_chat.messages.errors import BchatError
from tests.scripted import settings

FULL_WIDTH = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)})


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(BchatError) as caught:
        make_cells(settings(), *arguments, **options)
    assert caught.value.sentence("en")
    assert caught.value.sentence("ja")
    return caught.value.key


@given(st.integers(1, 99), st.integers(0, 40), st.integers(1, 9))
def test_a_range_has_exact_decimals_and_both_ends(first: int, steps: int, step: int) -> None:
    """As floats, 0.1 + 0.2 would be 0.30000000000000004."""
    values = [Decimal(first + index * step) / 100 for index in range(steps + 1)]
    text = f"temperature={values[0]}:{values[-1]}:{Decimal(step) / 100}"
    assert parse_axis(text) == ("temperature", tuple(map(float, values)))
    assert parse_axis(text.translate(FULL_WIDTH)) == parse_axis(text)


@given(st.lists(st.sampled_from(["0.1", "0.5", "1", "1.25"]), min_size=1))
def test_values_keep_their_order_and_occur_once(typed: list[str]) -> None:
    name, values = parse_axis("Top-P=" + "、".join(typed).replace("1.25", "0.25"))
    assert name == "top_p"
    assert values == tuple(dict.fromkeys(float(each.replace("1.25", "0.25")) for each in typed))


def test_a_last_value_between_two_steps_is_left_out() -> None:
    assert parse_axis("temp=0.1:0.8:0.3,2") == ("temperature", (0.1, 0.4, 0.7, 2.0))
    assert parse_axis("temp=1:0:-0.5")[1] == (1.0, 0.5, 0.0)
    assert parse_axis("top_k=10:30:10,0") == ("top_k", (10, 20, 30, 0))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("temperature", "sweep.axis"),
        ("temperature=", "sweep.axis"),
        ("tempratur=1", "setting.unknown"),
        ("temperature=hot", "setting.type"),
        ("temperature=11", "setting.range"),
        ("temperature=0.1:0.9", "sweep.axis-range"),
        ("temperature=0.1:0.9:0", "sweep.axis-steps"),
        ("temperature=0.9:0.1:0.1", "sweep.axis-steps"),
        ("temperature=0.1:0.9:-0.1", "sweep.axis-steps"),
        ('stop="a","b"', "sweep.axis-list"),
        ('bad_words="a" "b"', "sweep.axis-list"),
        ("stop=a、b", "sweep.axis-list"),
        ("temperature=a:b:c", "sweep.axis-range"),
        ("temperature=nan:1:1", "sweep.axis-range"),
        ("temperature=0:inf:1", "sweep.axis-range"),
        ("temperature=0:10:1e-900000", "sweep.cells"),
        ("temperature=0:1:0.000001", "sweep.cells"),
        ("top_k=1:2:0.5", "setting.type"),
        ("seed=1,2", "sweep.axis-seed"),
    ],
)
def test_an_axis_that_makes_no_sense_is_one_sentence(text: str, key: str) -> None:
    with pytest.raises(BchatError) as caught:
        parse_axis(text)
    assert caught.value.key == key
    assert caught.value.sentence("ja")


def test_texts_are_one_value_of_an_axis_and_keep_their_width() -> None:
    assert parse_axis(r'stop="\n，"') == ("stop", (("\n，",),))
    (cell,) = make_cells(settings(), [parse_axis("stop=。")])
    assert (cell.label, cell.values["stop"]) == ('stop="。"', ["。"])


def test_a_grid_combines_all_values_and_labels_each_cell() -> None:
    cells = make_cells(settings(), [parse_axis("temperature=0,0.5"), parse_axis("top_p=0.8,1")])
    assert [cell.label for cell in cells] == [f"temperature={t} top_p={p}" for t in ("0", "0.5") for p in ("0.8", "1")]
    assert [cell.is_greedy for cell in cells] == [True, True, False, False]
    assert varied_names(cells) == ["temperature", "top_p"]
    assert all(cell.values["top_k"] == settings().parameters.top_k for cell in cells)


def test_one_at_a_time_changes_one_setting_of_the_baseline() -> None:
    axes = [parse_axis("temperature=0,0.5"), parse_axis("top_p=0.8,1")]
    cells = make_cells(settings(options={"temperature": 0.7, "top_p": 1}), axes, one_at_a_time=True)
    assert [cell.label for cell in cells] == ["baseline", "temperature=0", "temperature=0.5", "top_p=0.8"]
    assert {cell.values["top_k"] for cell in cells} == {cells[0].values["top_k"]}


def test_presets_and_tables_are_bases_of_the_grid(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[wild]\ntemperature = 1.7\ndescription.en = "wild"\n[presets.tame]\ntop_k = 3\n', "utf-8")
    cells = make_cells(settings(), [parse_axis("top_p=0.8,0.9")], ["calm"], read_settings(path))
    assert [cell.label for cell in cells] == [
        f"{base} top_p={p}" for base in ("calm", "wild", "tame") for p in ("0.8", "0.9")
    ]
    assert (cells[2].values["temperature"], cells[4].values["top_k"]) == (1.7, 3)
    path.write_text("temperature = 1.7\n", "utf-8")
    assert read_settings(path) == {"mine": {"temperature": 1.7}}


@pytest.mark.parametrize(
    "content", ["[a]\ntemprature = 1", "[a]\ntemperature = '1'", "[[a]]", "a = 1", "[presets]\na=1"]
)
def test_settings_that_are_wrong_are_refused_with_file_and_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(content, "utf-8")
    with pytest.raises(BchatError, match=r"mine\.toml"):
        read_settings(path)


def test_cells_with_the_same_settings_are_one() -> None:
    assert len(make_cells(settings(), [parse_axis("top_p=0.8")], ["calm", "calm"])) == 1


def test_a_grid_of_a_million_cells_is_refused_before_it_is_made() -> None:
    axes = [parse_axis(f"{name}=0:999:1") for name in ("top_k", "min_new_tokens")]
    assert refusal(axes) == "sweep.cells"
    with pytest.raises(BchatError, match="20,001; the limit is 10,000"):
        parse_axis("top_k=0:20000:1")
    assert len(make_cells(settings(), [parse_axis(f"top_k=1:{MAX_CELLS}:1")])) == MAX_CELLS
    assert refusal([parse_axis("top_k=1"), parse_axis("top_k=2")]) == "sweep.axis-twice"
    assert refusal([], ["clam"]) == "preset.unknown"


def test_full_width_is_what_an_input_method_gives() -> None:
    typed = "ｔｅｍｐ＝０．１：０．９：０．４，１"
    assert unicodedata.normalize("NFKC", typed) == "temp=0.1:0.9:0.4,1"
    assert parse_axis(typed) == ("temperature", (0.1, 0.5, 0.9, 1.0))

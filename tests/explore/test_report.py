"""The report: its numbers against plain loops, its layout, its page."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bilingual_chat.explore.measures import pairwise_chrf
from bilingual_chat.explore.report import text_map
from bilingual_chat.explore.report.analysis import Analysis, analyse
from bilingual_chat.explore.report.layout import arrange
from bilingual_chat.explore.report.marks import interval, level, number, p_value, signed
from bilingual_chat.explore.report.page import write_page
from bilingual_chat.explore.report.plots import pareto_front
from bilingual_chat.explore.results import Cell, read_results
from bilingual_chat.messages.errors import BchatError
from tests.sweeps import write_sweep

SECTIONS = ["run", "maps", "trade-off", "differences", "variance", "prompts", "problems", "replies", "methods"]
HOSTILE = "<script>alert(1)</script> \x1b[31mred\x1b[0m \u202eabc\u2066 \"'><img src=x onerror=alert(1)> &lt;b&gt; \x07"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "sweep")


@pytest.fixture
def analysis(sweep: Path) -> Analysis:
    return analyse(read_results(sweep))


def page_of(directory: Path, lang: str = "en") -> str:
    return write_page(analyse(read_results(directory)), lang).decode("utf-8")


# -- numbers --------------------------------------------------------------------------------------------


def test_means_are_those_of_plain_loops(sweep: Path, analysis: Analysis) -> None:
    groups: dict[tuple[str, int], list[Any]] = defaultdict(list)
    for line in (sweep / "replies.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        groups[row["prompt_id"], row["cell"]].append(row)
    for (prompt, cell), rows in groups.items():
        for name in ("rep4", "score", "tokens"):
            mean = sum(row[name] for row in rows) / len(rows)
            assert analysis.measured[name].means[int(prompt), cell] == pytest.approx(mean)
        diversity = analysis.measured["diversity"].means[int(prompt), cell]
        assert diversity == pytest.approx(1 - (pairwise_chrf([row["reply"] for row in rows]) or 0))


def test_the_score_chooses_the_best_cell_and_otherwise_clean_replies(tmp_path: Path, analysis: Analysis) -> None:
    assert analysis.main.measure.name == "score"
    unscored = analyse(read_results(write_sweep(tmp_path / "unscored", has_score=False)))
    assert unscored.main.measure.name == "clean"
    assert "score" not in unscored.measured


def test_a_score_may_be_better_when_lower(tmp_path: Path) -> None:
    directory = write_sweep(tmp_path / "sweep", grid={"temperature": [0.1, 2.0]}, prompts=30)
    assert analyse(read_results(directory)).winner == 0
    path = directory / "manifest.json"
    path.write_text(path.read_text("utf-8").replace('"higher_is_better": true', '"higher_is_better": false'), "utf-8")
    assert analyse(read_results(directory)).winner == 1


def test_another_measure_can_choose(sweep: Path) -> None:
    found = analyse(read_results(sweep), by="distinct2")
    assert found.main.measure.name == "distinct2"
    assert found.main.best in found.main.near


@pytest.mark.parametrize("name", ["tokens", "speed"])
def test_a_measure_without_better_or_worse_cannot_choose(sweep: Path, name: str) -> None:
    with pytest.raises(BchatError) as refused:
        analyse(read_results(sweep), by=name)
    assert refused.value.key == "report.by"


@pytest.mark.parametrize("cell", [-1, 6])
def test_the_baseline_is_a_cell(sweep: Path, cell: int) -> None:
    with pytest.raises(BchatError) as refused:
        analyse(read_results(sweep), baseline=cell)
    assert refused.value.key == "report.baseline"


def test_a_faulty_reply_is_not_clean(tmp_path: Path) -> None:
    replies = {(0, 0, 0): "", (1, 0, 0): "fine"}
    directory = write_sweep(tmp_path / "sweep", cells=[{"temperature": 0.5}], prompts=5, seeds=1, replies=replies)
    path = directory / "replies.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    clean = {"loop": False, "leak": False, "finish": "stop"}
    for row, wrong in zip(rows, [{}, {}, {"loop": True}, {"leak": True}, {"finish": "length"}], strict=True):
        row |= {**clean, **wrong}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert analyse(read_results(directory)).measured["clean"].means[:, 0].tolist() == [0, 1, 0, 0, 0]


def test_replies_of_a_set_length_are_not_expected_to_end(tmp_path: Path) -> None:
    cell = {"temperature": 0.5, "min_new_tokens": 64}
    directory = write_sweep(tmp_path / "sweep", cells=[cell], prompts=1, seeds=1)
    path = directory / "replies.jsonl"
    row = {**json.loads(path.read_text("utf-8")), "finish": "length", "loop": False}
    path.write_text(json.dumps(row) + "\n", "utf-8")
    assert analyse(read_results(directory)).measured["clean"].means.tolist() == [[1]]


def test_one_prompt_one_cell_one_seed_is_a_report(tmp_path: Path) -> None:
    for has_score in (True, False):
        directory = write_sweep(
            tmp_path / str(has_score), cells=[{"temperature": 0}], prompts=1, seeds=1, has_score=has_score
        )
        page = page_of(directory)
        assert "NaN" not in page
        assert ">nan" not in page


def test_numbers_that_are_too_large_count_as_missing(sweep: Path) -> None:
    path = sweep / "replies.jsonl"
    path.write_text(re.sub(r'"score": [\d.]+', '"score": 1e300', path.read_text("utf-8"), count=5), "utf-8")
    found = analyse(read_results(sweep))
    assert max(each.mean for each in found.main.estimates) <= 1
    assert write_page(found, "en")


def test_values_of_wrong_types_count_as_missing(sweep: Path) -> None:
    path = sweep / "replies.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for row in rows:
        row |= {"score": "high", "tokens": None, "rep4": [], "ids": "x", "logprob_model": {}, "loop": "no"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    found = analyse(read_results(sweep))
    assert not {"score", "tokens", "rep4", "surprisal", "loop", "distinct2"} & set(found.measured)
    assert write_page(found, "en")


# -- layout and marks -----------------------------------------------------------------------------------


def cells(*settings: dict[str, Any]) -> list[Cell]:
    return [Cell(" ".join(f"{name}={value}" for name, value in each.items()), each) for each in settings]


def test_two_settings_make_a_grid_with_the_longer_one_across() -> None:
    grid = [{"top_p": p, "temperature": t} for p in (1.0, 0.5) for t in (0.9, 0.1, 0.5)]
    layout = arrange(cells(*grid), ["top_p", "temperature"])
    assert (layout.row_name, layout.rows) == ("top_p", ["0.5", "1"])
    assert (layout.column_name, layout.columns) == ("temperature", ["0.1", "0.5", "0.9"])
    assert layout.panels[0].cells[0, 0] == 4  # top_p 0.5, temperature 0.1
    assert len(layout.panels[0].cells) == 6


def test_a_third_setting_makes_a_panel_for_each_value() -> None:
    grid = [{"a": a, "b": b, "c": c} for a in (1, 2, 3) for b in (1, 2) for c in (5, 6)]
    layout = arrange(cells(*grid), ["a", "b", "c"])
    assert [panel.title for panel in layout.panels] == ["c=5", "c=6"]
    assert sorted(at for panel in layout.panels for at in panel.cells.values()) == list(range(12))


def test_cells_that_are_no_grid_are_a_list_of_labels() -> None:
    one_at_a_time = [{"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 3, "b": 1}, {"a": 1, "b": 2}, {"a": 1, "b": 3}]
    two_presets = [{"a": 1}, {"a": 1}]
    assert arrange(cells(*two_presets), ["a"]).rows == ["a=1", "a=1"]
    assert arrange(cells(*two_presets, {"a": 2}), ["a"]).rows == ["a=1", "a=1", "a=2"]
    assert arrange(cells({"a": 1, "b": 1}, {"a": 2, "b": 2}, {"a": 3, "b": 3}), ["a", "b"]).column_name == ""
    assert arrange(cells(*one_at_a_time), ["a", "b"]).column_name == "a"  # 5 of 9: a grid with holes


def test_numbers_have_about_three_digits() -> None:
    assert [number(value) for value in (0.0, 0.8333, 0.0123, 9.996, 44.58, 123.4, 12345.6)] == [
        *("0.00", "0.83", "0.012", "10.0", "44.6", "123", "12,346"),
    ]
    assert [number(value) for value in (-0.5, math.nan, -0.0001)] == ["−0.50", "–", "0.00"]
    assert [signed(value) for value in (0.5, -0.5, 0.0, 0.0001)] == ["+0.50", "−0.50", "0.00", "0.00"]
    assert interval(math.nan, math.nan) == p_value(math.nan) == "–"
    assert [p_value(p) for p in (0.0, 0.0312, 1.0)] == ["< 0.001", "0.031", "1.000"]
    assert [level(value, 0, 1) for value in (0, 0.5, 1, math.nan)] == [0, 4, 8, -1]
    assert level(3, 3, 3) == 0


def test_the_front_is_of_the_cells_that_none_beats_in_both(analysis: Analysis) -> None:
    across, up = analysis.measured["diversity"], analysis.main
    front = pareto_front(across, up, range(6))
    for cell in range(6):
        beaten = any(
            other != cell
            and across.estimates[other].mean >= across.estimates[cell].mean
            and up.estimates[other].mean >= up.estimates[cell].mean
            for other in range(6)
        )
        assert (cell in front) != beaten


def test_the_map_in_a_terminal_marks_the_best_without_colour(analysis: Analysis) -> None:
    layout = arrange(analysis.results.cells, ["temperature", "top_p"])
    lines = ["".join(text for text, _ in line) for line in text_map.text_lines(analysis.main, layout, 80)]
    assert "temperature" in lines[0]
    assert "".join(lines).count(text_map.BEST) == 1
    assert "".join(lines).count(text_map.NEAR) == len(analysis.main.near) - 1
    assert "█" in "".join(lines)


def test_a_narrow_terminal_gets_a_list(analysis: Analysis) -> None:
    layout = arrange(analysis.results.cells, ["temperature", "top_p"])
    lines = ["".join(text for text, _ in line) for line in text_map.text_lines(analysis.main, layout, 30)]
    assert len(lines) == 6
    assert all("temperature=" in line and "top_p=" in line for line in lines)


# -- the page -------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in ("meta", "p", "td", "i"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("p", "td", "i"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_page_has_all_sections_and_needs_nothing_else(sweep: Path, lang: str) -> None:
    text = page_of(sweep, lang)
    page = Page(text)
    assert re.findall(r'<section id="([\w-]+)"', text) == SECTIONS
    assert not page.tags & {"script", "img", "link", "iframe", "object", "embed", "form", "base"}
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "style")]
    assert all(str(value).startswith("#") for name, value in page.attributes if name == "href")
    assert "url(" not in text
    assert "@import" not in text
    assert page.open == []


def test_the_two_languages_differ_in_words_only(sweep: Path) -> None:
    english, japanese = page_of(sweep, "en"), page_of(sweep, "ja")
    assert re.findall(r"<(\w+)", english) == re.findall(r"<(\w+)", japanese)
    assert "ヒートマップ" in japanese
    assert "Heat maps" not in japanese
    assert '<html lang="ja">' in japanese


def test_a_report_is_reproducible(sweep: Path) -> None:
    assert page_of(sweep) == page_of(sweep)


def test_hostile_texts_cannot_act(tmp_path: Path) -> None:
    """In replies, prompts, labels, settings and all texts of the manifest."""
    directory = write_sweep(tmp_path / "sweep", replies={(0, 0, 0): HOSTILE, (1, 2, 1): HOSTILE + "</p></details>"})
    manifest = json.loads((directory / "manifest.json").read_text("utf-8"))
    hostile: dict[str, Any] = dict.fromkeys(("created", "bchat", "tokenizer", "base_seed"), HOSTILE)
    hostile |= {"model": {"name": HOSTILE, HOSTILE: HOSTILE}, "fixed": {HOSTILE: HOSTILE}, "versions": {HOSTILE: 1}}
    hostile |= {"order": [HOSTILE], "command": ["bchat", HOSTILE], "varied": ["temperature", HOSTILE]}
    hostile |= {"score": {"name": HOSTILE}, "prompts": {"source": HOSTILE, "sha256": HOSTILE, "count": 6}}
    for cell in manifest["cells"]:
        cell["label"] += HOSTILE
        cell["settings"][HOSTILE] = f"{HOSTILE}{cell['cell']}"
    (directory / "manifest.json").write_text(json.dumps({**manifest, **hostile}), "utf-8")
    lines = (directory / "replies.jsonl").read_text("utf-8").splitlines()
    rows = [{**json.loads(line), "loop": True, "finish": HOSTILE} for line in lines]
    rows = [{**row, "prompt": row["prompt"] + HOSTILE} for row in rows]
    (directory / "replies.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    for lang in ("en", "ja"):
        text = page_of(directory, lang)
        page = Page(text)
        assert not page.tags & {"script", "img"}
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        assert not set(text) & {"\x1b", "\x07", "\u202e", "\u2066"}
        assert "␛[31mred" in page.text
        assert "<script>alert(1)</script>" in page.text


def test_1500_replies_fit_into_500_kb(tmp_path: Path) -> None:
    grid = {"temperature": [0.3, 0.5, 0.7, 0.9, 1.1], "top_p": [0.5, 0.8, 1.0], "top_k": [50, 0]}
    page = page_of(write_sweep(tmp_path / "sweep", grid=grid, prompts=10, seeds=5, length=30), "ja")
    assert len(page.encode()) <= 500_000
    assert page.count("<details>") == 10
    assert "省いて" not in page


def test_long_replies_are_shortened_with_a_word_about_it(tmp_path: Path) -> None:
    directory = write_sweep(tmp_path / "sweep", prompts=30, length=20, replies={(0, 0, 0): "長い" * 400_000})
    page = page_of(directory)
    assert len(page.encode()) <= 500_000
    assert "texts are cut to" in page


def test_a_large_grid_leaves_out_heat_maps_but_not_the_score(tmp_path: Path) -> None:
    grid = {"temperature": [n / 10 for n in range(1, 23)], "top_p": [n / 20 for n in range(1, 21)]}
    page = page_of(write_sweep(tmp_path / "sweep", grid=grid, prompts=2, seeds=1))
    assert len(page.encode()) <= 500_000
    assert "Left out, to keep this file small" in page
    assert "<h3>score <small>" in page


def test_each_column_of_a_table_has_values(sweep: Path) -> None:
    for table in re.findall(r"<table.*?</table>", page_of(sweep)):
        heads, *rows = re.findall(r"<tr>.*?(?=<tr>|</table>)", table)
        widths = {len(re.findall(r"<t[hd][ >]", row)) for row in rows}
        assert widths == {len(re.findall(r"<th[ >]", heads))}


def test_fixed_settings_are_those_that_act(sweep: Path) -> None:
    path = sweep / "manifest.json"
    fixed = {"temperature": 0, "top_k": 50, "min_p": 0.0, "stop": []}
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "fixed": fixed}), "utf-8")
    page = page_of(sweep)
    assert "temperature=0 · top_k=50" in page
    assert "min_p=0" not in page


def test_a_faulty_text_is_quoted_once(sweep: Path) -> None:
    path = sweep / "replies.jsonl"
    rows = [{**json.loads(line), "reply": "loop loop", "loop": True} for line in path.read_text("utf-8").splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert page_of(sweep).count("<blockquote><p>loop loop") == 2  # as a loop, and as a cut reply


def test_an_unfinished_sweep_reports_what_is_there(sweep: Path) -> None:
    path = sweep / "replies.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 2]))
    assert "54 of 108 replies" in page_of(sweep)
    path.write_bytes(lines[0])
    assert "1 of 108 replies" in page_of(sweep)


def test_few_prompts_are_warned_of(tmp_path: Path, sweep: Path) -> None:
    assert "t intervals" in page_of(sweep)
    many = page_of(write_sweep(tmp_path / "many", grid={"temperature": [0.3, 1]}, prompts=20))
    assert "Fewer than 20" not in many
    assert "10,000 resamples" in many


def test_cells_that_are_all_equal_have_no_best(tmp_path: Path) -> None:
    directory = write_sweep(tmp_path / "sweep", grid={"temperature": [0.3, 1]})
    path = directory / "replies.jsonl"
    path.write_text(re.sub(r'"score": [\d.]+', '"score": 1.0', path.read_text("utf-8")), "utf-8")
    page = page_of(directory)
    assert "All cells have the same score" in page
    assert '<p class="big">–</p>' in page
    assert 'id="trade-off"' not in page


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_browser_shows_all_sections_without_complaint(tmp_path: Path, sweep: Path, lang: str) -> None:
    file = tmp_path / "report.html"
    file.write_text(page_of(sweep, lang), "utf-8")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path}/c",
    ]
    command = ["chromium", *options, "--dump-dom", file.as_uri()]
    env = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=env)
    assert re.findall(r'<section id="([\w-]+)"', done.stdout) == SECTIONS
    assert "CONSOLE" not in done.stderr

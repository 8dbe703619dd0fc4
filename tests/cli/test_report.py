"""`bchat report` from its command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.runs import Run, program, real
from tests.sweeps import write_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "sweep")


def test_a_report_is_written_into_the_directory(run: Run, sweep: Path) -> None:
    ran = run("report", str(sweep))
    assert (ran.status, ran.out) == (0, "")
    assert "report.html" in ran.err
    assert (sweep / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_a_report_replaces_itself_and_nothing_else(run: Run, sweep: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine.html"
    for _ in range(2):
        assert run("report", str(sweep), "-o", str(output)).status == 0
    output.write_text("my own page", "utf-8")
    ran = run("report", str(sweep), "-o", str(output))
    assert ran.status == 2
    assert "exists" in ran.err
    assert output.read_text("utf-8") == "my own page"
    assert run("report", str(sweep), "-o", str(tmp_path)).status == 2


def test_an_output_that_cannot_be_written_is_one_sentence(run: Run, sweep: Path, tmp_path: Path) -> None:
    ran = run("report", str(sweep), "-o", str(tmp_path / "no" / "such" / "r.html"))
    assert ran.status == 1
    assert ran.err.startswith("Cannot write")


def test_the_terminal_gets_the_map_and_no_file(run: Run, sweep: Path) -> None:
    ran = run("report", str(sweep), "--terminal")
    assert ran.status == 0
    assert "★" in ran.out
    assert "\x1b" not in ran.out
    assert "score" in ran.err
    assert not (sweep / "report.html").exists()


@pytest.mark.parametrize("name", ["winner", "勝者", 'a "b"', "calm"])
def test_bchat_loads_the_preset_that_it_wrote(run: Run, sweep: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / f"{name}.toml"
    assert run("report", str(sweep), "--preset-out", str(file)).status == 0
    listed = run("presets", "--config", str(file))
    assert (listed.status, listed.err) == (0, "")
    row = next(line for line in listed.out.splitlines() if line.strip().startswith(f"{name}\t"))
    assert "temp=0.3" in row
    assert "max=64" in row
    asked = run("ask", "Hi", "--model", "demo", "--config", str(file), "--preset", name, "--json")
    assert asked.json["settings"]["temperature"] == 0.3


@pytest.mark.parametrize("differs_by_prompt", [False, True])
def test_equal_cells_have_no_mark_and_give_no_preset(run: Run, tmp_path: Path, differs_by_prompt: bool) -> None:
    directory = write_sweep(tmp_path / "sweep", grid={"temperature": [0.3, 1]})
    path = directory / "replies.jsonl"
    replies = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    first = replies[0]["prompt_id"]
    for each in replies:
        each["score"] = 0.5 if differs_by_prompt and each["prompt_id"] == first else 1.0
    path.write_text("".join(f"{json.dumps(each)}\n" for each in replies), "utf-8")
    ran = run("report", str(directory), "--terminal")
    assert "★" not in ran.out + ran.err
    assert "○" not in ran.out + ran.err
    file = tmp_path / "best.toml"
    assert run("report", str(directory), "--preset-out", str(file)).status == 4
    assert not file.exists()


def test_another_measure_chooses_another_preset(run: Run, sweep: Path, tmp_path: Path) -> None:
    file = tmp_path / "varied.toml"
    assert run("report", str(sweep), "--by", "distinct2", "--preset-out", str(file)).status == 0
    assert "temperature = 1.0" in file.read_text("utf-8")


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_what_does_not_fit_is_one_sentence_with_the_remedy(run: Run, sweep: Path, tmp_path: Path, lang: str) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, status in [
        ([str(tmp_path / "missing")], 4),
        ([str(tmp_path / "empty")], 4),
        ([str(sweep), "--by", "scores"], 2),
        ([str(sweep), "--baseline", "6"], 2),
    ]:
        ran = run("report", *arguments, "--lang", lang)
        assert (ran.status, ran.out) == (status, "")
        assert len(ran.err.splitlines()) == 1
        assert ran.err.rstrip()[-1] in ".。?？"


def test_an_unfinished_sweep_is_named_so(run: Run, sweep: Path) -> None:
    path = sweep / "replies.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:50]) + b"{broken\n")
    ran = run("report", str(sweep))
    assert ran.status == 0
    assert "50 of 108" in ran.err
    assert "1 damaged line of" in ran.err


@pytest.mark.slow
def test_a_real_sweep_becomes_a_report(tmp_path: Path) -> None:
    """With the embedded model, from prompts to a page, and from the page's preset to a chat."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(
        '{"prompt": "Hello!", "reference": "Hello"}\n{"prompt": "こんにちは", "reference": "こんにちは"}\n', "utf-8"
    )
    sweep, page, preset = (str(tmp_path / name) for name in ("sweep", "page.html", "best.toml"))
    grid = ("--grid", "temperature=0,1,2", "top_p=0.5,1", "--seeds", "2", "--score", "contains")
    assert program(real("sweep", str(prompts), "--model", "demo", *grid, "-o", sweep)).returncode == 0
    done = program(real("report", sweep, "-o", page, "--preset-out", preset))
    assert done.returncode == 0, done.stderr.decode()
    assert b"unfinished" not in done.stderr
    assert "2 prompts × 6 cells" in Path(page).read_text("utf-8")
    assert program(real("ask", "Hi", "--model", "demo", "--config", preset, "--preset", "best")).returncode == 0

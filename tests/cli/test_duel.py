"""`bchat duel` with letters on standard input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bilingual_chat.cli import duel
from bilingual_chat.explore.duel import Choice
from bilingual_chat.terminal.display import Display
from tests.runs import Run
from tests.sweeps import write_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "sweep")


def test_letters_judge_and_the_next_run_resumes(run: Run, sweep: Path) -> None:
    first = run("duel", str(sweep), "--cells", "0,3", stdin="l\nR t\nｂ\nq\n")
    assert first.status == 0
    assert "18 of 18" in first.err
    assert first.out.count("Pair ") == 5  # the fifth was shown and not judged
    second = run("duel", str(sweep), "--cells", "0", "--cells", "3", stdin="t\n")
    assert "14 of 18" in second.err
    assert second.out.startswith("\nPair 5 of 18")
    assert len((sweep / "duels.jsonl").read_text("utf-8").splitlines()) == 5


def test_the_settings_stay_hidden_until_the_end(run: Run, sweep: Path) -> None:
    ran = run("duel", str(sweep), "--cells", "0,3", stdin="lrlr")
    judged, _, rates = ran.out.partition("win rate")
    assert "temperature" not in judged.replace("cell\t", "")
    assert "temperature=0.7" in rates


def test_another_letter_is_asked_again(run: Run, sweep: Path) -> None:
    ran = run(
        "duel",
        str(sweep),
        "--cells",
        "0,3",
        stdin="x\nl\n",
    )
    assert "not 'x'" in ran.err
    assert len((sweep / "duels.jsonl").read_text("utf-8").splitlines()) == 1


def test_preference_pairs_are_what_dpo_trainers_read(run: Run, sweep: Path, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    for letters, count in (("lrtb", 2), ("l", 3)):  # the second run replaces its own file
        ran = run("duel", str(sweep), "--cells", "0,3", "--pairs", str(file), stdin=letters)
        assert ran.status == 0
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        assert len(rows) == count
        assert all(set(row) == {"prompt", "chosen", "rejected"} and row["chosen"] != row["rejected"] for row in rows)
    file.write_text("mine\n", "utf-8")
    ran = run("duel", str(sweep), "--cells", "0,3", "--pairs", str(file))
    assert ran.status == 2
    assert file.read_text("utf-8") == "mine\n"


def test_the_report_has_a_section_about_it(run: Run, sweep: Path) -> None:
    run("report", str(sweep))
    assert 'id="duels"' not in (sweep / "report.html").read_text("utf-8")
    run("duel", str(sweep), "--cells", "0,3", stdin="lrt")
    run("report", str(sweep))
    page = (sweep / "report.html").read_text("utf-8")
    assert 'id="duels"' in page
    assert "3 blind judgements" in page


def test_all_cells_of_a_small_sweep_are_compared(run: Run, sweep: Path, tmp_path: Path) -> None:
    assert "of 270 pairs" in run("duel", str(sweep)).err
    large = write_sweep(tmp_path / "large", grid={"temperature": [0.1 * n for n in range(1, 8)]}, prompts=1, seeds=1)
    ran = run("duel", str(large))
    assert ran.status == 2
    assert "--cells" in ran.err


@pytest.mark.parametrize("cells", ["0", "0,0", "0,6", "a,b", "-1,2", "0;3", "²,1"])
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_cells_that_are_no_pair_are_one_sentence(run: Run, sweep: Path, cells: str, lang: str) -> None:
    ran = run("duel", str(sweep), f"--cells={cells}", "--lang", lang)
    assert (ran.status, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1


def test_what_replies_contain_cannot_act_on_the_terminal(run: Run, tmp_path: Path) -> None:
    replies = {(prompt, 0, 0): "\x1b[2J\x07\u202eabc" for prompt in range(2)}
    cells = [{"temperature": 0.5}, {"temperature": 0.6}]
    directory = write_sweep(tmp_path / "sweep", cells=cells, prompts=2, seeds=1, replies=replies)
    ran = run("duel", str(directory), stdin="ll")
    assert not {"\x1b", "\x07", "\u202e"} & set(ran.out)
    assert "␛[2J" in ran.out


def test_ctrl_c_ends_with_130_and_keeps_what_was_judged(run: Run, sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(display: Display) -> Iterator[Choice]:
        yield "left"
        raise KeyboardInterrupt

    monkeypatch.setattr(duel, "_answers", interrupted)
    ran = run("duel", str(sweep), "--cells", "0,3")
    assert ran.status == 130
    assert str(sweep) in ran.err
    assert len((sweep / "duels.jsonl").read_text("utf-8").splitlines()) == 1

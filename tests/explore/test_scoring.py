"""Scores of replies, and commands that crash, hang or answer nonsense."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path

import pytest

from bilingual_chat.explore import scoring
from bilingual_chat.explore.measures import chrf
from bilingual_chat.explore.prompts import SweepPrompt
from bilingual_chat.explore.scoring import open_score, require_fields, require_score
from bilingual_chat.messages.errors import BchatError

PROMPT = SweepPrompt("a", 3, "1+1?", reference="2。", choices=("2。", "3。"), pattern="^[0-9]")


def score(name: str, reply: str, prompt: SweepPrompt = PROMPT) -> float:
    with open_score(name) as scored:
        return scored(prompt, reply)


def command(directory: Path, program: str) -> str:
    path = directory / "my score.py"
    path.write_text("import json, sys, time\n" + program, "utf-8")
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))}"


def refusal(name: str, *replies: str) -> BchatError:
    with open_score(name) as scored, pytest.raises(BchatError) as caught:
        list(map(partial(scored, PROMPT), replies))
    assert caught.value.sentence("en")
    assert caught.value.sentence("ja")
    return caught.value


def test_the_scores_are_what_they_are_called() -> None:
    assert (score("exact", " 2。\n"), score("exact", "2")) == (1.0, 0.0)
    assert (score("contains", "答えは2。です"), score("contains", "2")) == (1.0, 0.0)
    assert (score("regex", "2です"), score("regex", "答えは2")) == (1.0, 0.0)
    assert score("chrf", "2です。") == chrf("2です。", "2。")


@pytest.mark.parametrize(
    ("name", "prompt", "key"),
    [
        ("exact", SweepPrompt("a", 3, "x"), "sweep.score-field"),
        ("contains", SweepPrompt("a", 3, "x", reference=""), "sweep.score-field"),
        ("regex", SweepPrompt("a", 3, "x", reference="y"), "sweep.score-field"),
        ("choice", SweepPrompt("a", 3, "x", reference="y"), "sweep.score-field"),
        ("choice", SweepPrompt("a", 3, "x", reference="y", choices=("a", "b")), "sweep.score-reference"),
    ],
)
def test_a_prompt_that_cannot_be_scored_is_refused_by_line(name: str, prompt: SweepPrompt, key: str) -> None:
    with pytest.raises(BchatError) as caught:
        require_fields(name, [PROMPT, prompt])
    assert (caught.value.key, caught.value.values["line"]) == (key, 3)
    assert caught.value.sentence("ja")
    require_fields("my-command", [prompt])


@pytest.mark.parametrize("name", ["exat", "", "   ", "'", "/no/such/program --x"])
def test_what_is_neither_a_score_nor_a_program_is_refused(name: str) -> None:
    with pytest.raises(BchatError) as caught:
        require_score(name)
    assert caught.value.key == "sweep.score"
    for known in (*scoring.NAMES, sys.executable):
        require_score(known)


def test_a_command_reads_json_lines_and_writes_numbers(tmp_path: Path) -> None:
    """Without a shell: the semicolon is an argument. A program that does not flush works, too."""
    name = command(
        tmp_path, "for line in sys.stdin: x = json.loads(line); print(len(x['reply']) / 2, x['reference'] and '')"
    )
    with open_score(name + " ; echo 1") as scored:
        assert [scored(PROMPT, each) for each in ("", "はい。\n", "x" * 100_000)] == [0.0, 2.0, 50_000.0]


@pytest.mark.parametrize(
    ("program", "key"),
    [
        ("sys.exit(3)", "sweep.scorer-ended"),
        ("print(1); sys.exit(3)", "sweep.scorer-ended"),
        ("for line in sys.stdin: print('good')", "sweep.scorer-answer"),
        ("for line in sys.stdin: print('nan')", "sweep.scorer-answer"),
        ("for line in sys.stdin: print()", "sweep.scorer-answer"),
        ("for line in sys.stdin: sys.stdout.buffer.write(bytes([255, 10])); sys.stdout.flush()", "sweep.scorer-answer"),
        ("for line in sys.stdin: print('9' * 10**6)", "sweep.scorer-answer"),
        ("time.sleep(600)", "sweep.scorer-silent"),
    ],
)
def test_a_command_that_fails_is_one_sentence(
    tmp_path: Path, program: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if key == "sweep.scorer-silent":
        monkeypatch.setattr(scoring, "TIMEOUT_S", 0.3)
    assert refusal(command(tmp_path, program), "a", "b", "c").key == key


def test_a_command_that_was_given_up_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "TIMEOUT_S", 0.3)
    ended = []
    close = scoring.CommandScore.close

    def noted(self: scoring.CommandScore) -> None:
        close(self)
        ended.append(self._process.returncode)

    monkeypatch.setattr(scoring.CommandScore, "close", noted)
    refusal(command(tmp_path, "time.sleep(600)"), "a")
    assert ended
    assert ended[0] is not None

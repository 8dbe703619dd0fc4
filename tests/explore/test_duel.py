"""Blind comparison: pairs, their sides, judgements that survive a crash, win rates, preference pairs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from bilingual_chat.explore.duel import (
    FILE,
    Choice,
    DuelLog,
    Judgement,
    make_pairs,
    preferences,
    read_judgements,
    win_rates,
)
from bilingual_chat.explore.results import Results, read_results
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.terminal.editor.choice import ask_key
from tests.sweeps import write_sweep


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return read_results(write_sweep(tmp_path / "sweep"))


def test_a_pair_is_of_one_prompt_and_one_seed(results: Results) -> None:
    pairs = make_pairs(results, [0, 3, 5])
    assert len({pair.key for pair in pairs}) == len(pairs) == 6 * 3 * 3
    for pair in pairs:
        assert pair.left.prompt == pair.right.prompt
        assert pair.left.replicate == pair.right.replicate
        assert pair.left.cell != pair.right.cell


def test_sides_are_random_and_the_same_each_time(results: Results) -> None:
    pairs = make_pairs(results, [0, 3])
    assert pairs == make_pairs(results, [0, 3])
    lefts = Counter(pair.left.cell for pair in pairs)
    assert min(lefts[0], lefts[3]) >= 4


def test_each_prompt_is_asked_once_before_one_is_asked_twice(results: Results) -> None:
    asked = [pair.prompt_id for pair in make_pairs(results, [0, 3])]
    assert all(len(set(asked[start : start + 6])) == 6 for start in (0, 6, 12))


def test_equal_replies_are_no_pair(tmp_path: Path) -> None:
    same = {(prompt, cell, 0): "same" for prompt in range(3) for cell in range(2)}
    cells = [{"temperature": 0.5}, {"temperature": 0.6}]
    directory = write_sweep(tmp_path / "sweep", cells=cells, prompts=4, seeds=1, replies=same)
    assert [pair.prompt_id for pair in make_pairs(read_results(directory), [0, 1])] == ["3"]


def test_a_greedy_cell_meets_every_seed_of_the_others(tmp_path: Path) -> None:
    cells = [{"temperature": 0}, {"temperature": 0.6}]
    pairs = make_pairs(read_results(write_sweep(tmp_path / "sweep", cells=cells, prompts=2, seeds=3)), [0, 1])
    assert len(pairs) == 6
    assert Counter(side.replicate for pair in pairs for side in (pair.left, pair.right) if side.cell == 0) == {0: 6}


def test_judgements_are_there_after_a_crash(results: Results) -> None:
    pairs = make_pairs(results, [0, 3])
    with DuelLog(results.directory) as log:
        for pair, choice in zip(pairs, ("left", "bad", "tie"), strict=False):
            log.add(pair, choice)
            assert len(read_judgements(results.directory)) == len(log.judgements)
    path = results.directory / FILE
    path.write_bytes(path.read_bytes() + b'{"time": "2026' + b" " * 500)  # cut off by a power loss
    with DuelLog(results.directory) as log:
        assert [each.choice for each in log.judgements] == ["left", "bad", "tie"]
        log.add(pairs[3], "right")
    assert [each.key for each in read_judgements(results.directory)] == [pair.key for pair in pairs[:4]]
    assert path.read_bytes().count(b"\n") == 4
    assert path.read_bytes().endswith(b"}\n")


def test_two_duels_on_one_directory_exclude_each_other(results: Results) -> None:
    with DuelLog(results.directory), pytest.raises(BchatError) as refused:
        DuelLog(results.directory)
    assert refused.value.key == "duel.in-use"


@pytest.mark.parametrize("line", [b"{", b"[]", b"{}", b'{"left": 1, "right": 2, "prompt_id": "0", "choice": "left"}'])
def test_a_damaged_line_is_left_out(results: Results, line: bytes) -> None:
    with DuelLog(results.directory) as log:
        log.add(make_pairs(results, [0, 3])[0], "left")
    path = results.directory / FILE
    path.write_bytes(line + b"\n" + path.read_bytes())
    assert len(read_judgements(results.directory)) == 1


def judgements(*choices: tuple[str, Choice]) -> list[Judgement]:
    return [Judgement(prompt, (0, at), (3, at), choice) for at, (prompt, choice) in enumerate(choices)]


def test_win_rates_by_hand(results: Results) -> None:
    """Prompt 0: 1 and 0.5, mean 0.75. Prompt 1: 0; the bad pair does not count. So 0.375 against 0.625."""
    said = judgements(("0", "left"), ("0", "tie"), ("1", "right"), ("1", "bad"))
    first, second = win_rates(results, said)
    assert (first.cell, first.rate.mean, first.wins, first.ties, first.losses, first.bad) == (3, 0.625, 1, 1, 1, 1)
    assert (second.cell, second.rate.mean, second.rate.prompts) == (0, 0.375, 2)


def test_pairs_that_are_all_bad_have_no_rate(results: Results) -> None:
    found = win_rates(results, judgements(("0", "bad")))
    assert [(each.bad, each.rate.prompts) for each in found] == [(1, 0), (1, 0)]
    assert win_rates(results, [Judgement("0", (0, 0), (99, 0), "left")]) == []


def test_only_decided_pairs_are_preferences(results: Results) -> None:
    texts = {(reply.prompt, reply.cell, reply.replicate): reply.text for reply in results.replies}
    said = [
        Judgement("0", (0, 1), (3, 1), "left"),
        Judgement("1", (0, 2), (3, 2), "right"),
        Judgement("2", (0, 0), (3, 0), "tie"),
        Judgement("2", (0, 1), (3, 1), "bad"),
        Judgement("gone", (0, 1), (3, 1), "left"),
    ]
    assert preferences(results, said) == [
        {"prompt": results.prompts[0][1], "chosen": texts[0, 0, 1], "rejected": texts[0, 3, 1]},
        {"prompt": results.prompts[1][1], "chosen": texts[1, 3, 2], "rejected": texts[1, 0, 2]},
    ]


@pytest.mark.parametrize(
    ("typed", "choice"),
    [
        *(("l", "left"), ("R", "right"), ("ｌ", "left"), ("\x1b[D", "left"), ("\x1b[C", "right"), ("xzt", "tie")),
        *(("q", None), ("\x04", None), ("\x1b", None), ("\x1b[A q", None)),
    ],
)
def test_one_key_is_an_answer(typed: str, choice: str | None) -> None:
    choices = {"l": "left", "r": "right", "t": "tie", "left": "left", "right": "right"}
    with create_pipe_input() as keys:
        keys.send_text(typed)
        assert ask_key(choices, "?", keys=keys, screen=DummyOutput()) == choice


def test_ctrl_c_interrupts_the_question() -> None:
    with create_pipe_input() as keys:
        keys.send_text("\x03")
        with pytest.raises(KeyboardInterrupt):
            ask_key({"l": "left"}, "?", keys=keys, screen=DummyOutput())

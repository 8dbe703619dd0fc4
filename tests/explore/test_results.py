"""Reading the directory of a sweep, finished, unfinished or damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bilingual_chat.explore.results import read_results
from bilingual_chat.messages.errors import BchatError
from tests.sweeps import write_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "sweep")


def change(path: Path, **values: Any) -> None:
    manifest = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**manifest, **values}), "utf-8")


def problem(directory: Path) -> str:
    with pytest.raises(BchatError) as refused:
        read_results(directory)
    return refused.value.key


def test_a_sweep_is_read_whole(sweep: Path) -> None:
    results = read_results(sweep)
    assert (len(results.cells), len(results.prompts), results.replicates) == (6, 6, [0, 1, 2])
    assert len(results.replies) == results.expected == 6 * 6 * 3
    assert results.damaged == ()


def test_a_greedy_cell_has_one_reply_a_prompt(tmp_path: Path) -> None:
    results = read_results(write_sweep(tmp_path / "sweep", grid={"temperature": [0, 0.0001, 1]}))
    assert len(results.replies) == results.expected == 6 * (1 + 3 + 3)


def test_what_is_no_sweep_is_refused(tmp_path: Path, sweep: Path) -> None:
    assert problem(tmp_path / "missing") == "report.no-directory"
    assert problem(sweep / "manifest.json") == "report.unreadable"
    assert problem(tmp_path) == "report.no-sweep"
    (tmp_path / "manifest.json").write_text('{"name": "a browser extension", "version": 1}', "utf-8")
    assert problem(tmp_path) == "report.no-sweep"


def test_a_later_version_is_not_guessed_at(sweep: Path) -> None:
    change(sweep / "manifest.json", version=2)
    assert problem(sweep) == "report.newer"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"null", b'{"kind": NaN}'])
def test_a_manifest_that_is_no_json_is_damaged(sweep: Path, content: bytes) -> None:
    (sweep / "manifest.json").write_bytes(content)
    assert problem(sweep) == "report.damaged"


@pytest.mark.parametrize(
    "values",
    [
        *({name: value} for name in ("cells", "prompts", "seeds") for value in (None, "x", [], -1, True)),
        *({"cells": [cell]} for cell in (1, {}, {"label": "a"}, {"label": "a", "settings": 3})),
        *({name: value} for name in ("varied", "order", "command") for value in (3, "temperature", {"a": 1})),
        {"prompts": {"count": "6"}},
        {"prompts": {}},
    ],
    ids=repr,
)
def test_a_manifest_without_what_a_report_needs_is_damaged(sweep: Path, values: dict[str, Any]) -> None:
    change(sweep / "manifest.json", **values)
    assert problem(sweep) == "report.damaged"


def test_a_sweep_without_replies_is_no_report_yet(sweep: Path) -> None:
    (sweep / "replies.jsonl").write_bytes(b"")
    assert problem(sweep) == "report.empty"
    (sweep / "replies.jsonl").unlink()
    assert problem(sweep) == "report.empty"
    (sweep / "replies.jsonl").mkdir()
    assert problem(sweep) == "report.damaged"


def test_a_line_that_a_crash_cut_off_is_not_read(sweep: Path) -> None:
    path = sweep / "replies.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    results = read_results(sweep)
    assert len(results.replies) == results.expected - 1
    assert results.damaged == ()


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"3",
        b"\xff\xfe",
        b'{"reply": "x"}',
        *(
            json.dumps({"reply": "x", "prompt": "p", "finish": "stop", "cell": 0, "replicate": 0, **wrong}).encode()
            for wrong in ({"cell": 6}, {"cell": -1}, {"cell": 0.0}, {"cell": True}, {"replicate": -1}, {"reply": None})
        ),
    ],
)
def test_a_damaged_line_costs_itself_only(sweep: Path, line: bytes) -> None:
    path = sweep / "replies.jsonl"
    first, second, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, line + b"\n", second, b"\n", *rest]))
    results = read_results(sweep)
    assert results.damaged == (2,)
    assert len(results.replies) == results.expected


def test_a_reply_that_is_there_twice_counts_once(sweep: Path) -> None:
    path = sweep / "replies.jsonl"
    path.write_bytes(path.read_bytes() * 2)
    assert len(read_results(sweep).replies) == 108


def test_huge_numbers_of_seeds_take_no_memory(sweep: Path) -> None:
    """Seeds are counted, not indexed: one line may name any replicate."""
    path = sweep / "replies.jsonl"
    lines = path.read_text("utf-8").splitlines()
    row = {**json.loads(lines[0]), "replicate": 10**15}
    path.write_text("\n".join([*lines, json.dumps(row), ""]), "utf-8")
    assert read_results(sweep).replicates == [0, 1, 2, 10**15]

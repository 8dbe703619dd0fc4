"""The directory of a sweep: durable lines, torn lines, two runs, other sweeps, full disks."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from bilingual_chat.explore.store import DAMAGED, MANIFEST, REPLIES, SweepStore
from bilingual_chat.messages.errors import BchatError

MANIFEST_VALUE: dict[str, Any] = {
    "kind": "bchat-sweep",
    "version": 1,
    "created": "2026-11-28T00:00:00+00:00",
    "command": ["bchat", "sweep", "my prompts.txt"],
    "model": {"name": "demo", "digest": "ab", "precision": "float32"},
    "prompts": {"source": "my prompts.txt", "sha256": "cd", "count": 2, "limit": 2},
    "seeds": 2,
    "base_seed": 0,
    "cells": [{"cell": 0, "label": "", "settings": {"temperature": 0.5}}],
}


def changed(**values: Any) -> dict[str, Any]:
    return {**MANIFEST_VALUE, **values}


def refusal(directory: Path, manifest: dict[str, Any] = MANIFEST_VALUE) -> BchatError:
    with pytest.raises(BchatError) as caught:
        opened(directory, manifest)
    assert caught.value.sentence("en")
    assert caught.value.sentence("ja")
    return caught.value


def opened(directory: Path, manifest: dict[str, Any] = MANIFEST_VALUE) -> SweepStore:
    store = SweepStore(directory)
    try:
        store.begin(manifest)
    except BaseException:
        store.close()
        raise
    return store


def filled(directory: Path, count: int = 3) -> list[bytes]:
    """Write some replies; return the lines."""
    store = opened(directory)
    for number in range(count):
        store.append({"id": str(number), "reply": "はい\n\ud800"})
    store.close()
    return (directory / REPLIES).read_bytes().splitlines(keepends=True)


def test_what_was_written_is_known_again(tmp_path: Path) -> None:
    lines = filled(tmp_path / "deep" / "er")
    assert [json.loads(line)["id"] for line in lines] == ["0", "1", "2"]
    store = opened(tmp_path / "deep" / "er")
    assert store.done == {"0", "1", "2"}
    store.append({"id": "3"})
    store.close()
    assert (tmp_path / "deep" / "er" / REPLIES).read_bytes().splitlines(keepends=True)[:3] == lines
    assert not list((tmp_path / "deep" / "er").glob(".*"))


def test_each_line_is_on_disk_before_the_next_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path / "s")
    calls: list[str] = []
    write, path = os.write, tmp_path / "s" / REPLIES
    monkeypatch.setattr(os, "write", lambda fd, data: calls.append("write") or write(fd, data[:7]))
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append(f"fsync {path.read_bytes().count(b'}')}"))
    store.append({"id": "0"})
    store.append({"id": "1"})
    store.close()
    assert calls == ["write", "write", "fsync 1", "write", "write", "fsync 2"]


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_line_that_was_written_in_part_is_cut_off(tmp_path: Path, cut: int) -> None:
    *whole, last = filled(tmp_path / "s")
    rest = last[: len(last) - cut] if cut < len(last) else b"\0" * cut
    (tmp_path / "s" / REPLIES).write_bytes(b"".join(whole) + rest)
    store = opened(tmp_path / "s")
    assert store.done == {"0", "1"}
    store.append({"id": "new"})
    store.close()
    assert (tmp_path / "s" / REPLIES).read_bytes() == b"".join(whole) + b'{"id": "new"}\n'


@pytest.mark.parametrize("damage", [b"\n", b"{}\n", b"\xff\xfe\n", b'{"id": 3}\n', b"[" * 100_000 + b"\n"])
def test_a_damaged_line_among_good_ones_is_set_aside_and_its_reply_is_missing(tmp_path: Path, damage: bytes) -> None:
    lines = filled(tmp_path / "s")
    torn = b'{"id": "torn'
    for _ in range(2):  # the second time, the lines are added to the same file
        (tmp_path / "s" / REPLIES).write_bytes(lines[0] + damage + damage + lines[2] + torn)
        store = opened(tmp_path / "s")
        assert (store.done, store.damaged) == ({"0", "2"}, [2, 3])
        store.append({"id": "new"})
        store.close()
        assert (tmp_path / "s" / REPLIES).read_bytes() == lines[0] + lines[2] + b'{"id": "new"}\n'
    assert (tmp_path / "s" / DAMAGED).read_bytes() == damage * 4


def test_another_sweep_changes_no_damaged_file(tmp_path: Path) -> None:
    lines = filled(tmp_path / "s")
    data = lines[0] + b"damaged\n" + lines[2] + b"torn"
    (tmp_path / "s" / REPLIES).write_bytes(data)
    assert refusal(tmp_path / "s", changed(seeds=1)).key == "sweep.other"
    assert (tmp_path / "s" / REPLIES).read_bytes() == data
    assert not (tmp_path / "s" / DAMAGED).exists()


@pytest.mark.parametrize("rest", [b"", b'{"id": "to'])
def test_a_sweep_without_a_reply_gives_way_to_any_other(tmp_path: Path, rest: bytes) -> None:
    filled(tmp_path / "s", 0)
    (tmp_path / "s" / REPLIES).write_bytes(rest)
    other = changed(
        score={"name": "ok.py"},
        cells=[],
        seeds=1,
        created="later",
        prompts={**MANIFEST_VALUE["prompts"], "sha256": "e"},
    )
    store = opened(tmp_path / "s", other)
    store.append({"id": "a"})
    store.close()
    assert json.loads((tmp_path / "s" / MANIFEST).read_text("utf-8")) == other
    assert (tmp_path / "s" / REPLIES).read_bytes() == b'{"id": "a"}\n'


def test_two_runs_on_one_directory_exclude_each_other(tmp_path: Path) -> None:
    first = opened(tmp_path / "s")
    assert refusal(tmp_path / "s").key == "sweep.in-use"
    first.close()
    opened(tmp_path / "s").close()


@pytest.mark.parametrize(
    ("manifest", "key", "name"),
    [
        (changed(cells=[]), "sweep.other", "cells"),
        (changed(base_seed=1), "sweep.other", "base_seed"),
        (changed(seeds=1), "sweep.other", "seeds"),
        (changed(score={"name": "exact"}), "sweep.other", "score"),
        (changed(model={**MANIFEST_VALUE["model"], "precision": "int8"}), "sweep.other", "model.precision"),
        (changed(prompts={**MANIFEST_VALUE["prompts"], "limit": 1}), "sweep.other", "prompts.limit"),
        (changed(prompts={**MANIFEST_VALUE["prompts"], "sha256": "ef"}), "sweep.prompts-changed", None),
    ],
)
def test_another_sweep_is_refused_with_what_differs(
    tmp_path: Path, manifest: dict[str, Any], key: str, name: str | None
) -> None:
    lines = filled(tmp_path / "s")
    before = (tmp_path / "s" / MANIFEST).read_bytes()
    error = refusal(tmp_path / "s", manifest)
    assert error.key == key
    assert name is None or str(error.values["changes"]).startswith(f"{name} ")
    if key == "sweep.other":
        assert "bchat sweep 'my prompts.txt'" in error.sentence("en")
    assert (tmp_path / "s" / REPLIES).read_bytes() == b"".join(lines)
    assert (tmp_path / "s" / MANIFEST).read_bytes() == before


def test_cells_are_not_quoted_beside_the_setting_that_changed(tmp_path: Path) -> None:
    filled(tmp_path / "s")
    error = refusal(tmp_path / "s", changed(base_seed=1, cells=[]))
    assert error.values["changes"] == f"base_seed {MANIFEST_VALUE['base_seed']} → 1"


def test_more_seeds_more_prompts_and_a_moved_file_continue_the_sweep(tmp_path: Path) -> None:
    filled(tmp_path / "s")
    wider = changed(seeds=5, created="later", prompts={"source": "/moved", "sha256": "cd", "count": 9, "limit": None})
    store = opened(tmp_path / "s", wider)
    assert len(store.done) == 3
    store.close()
    kept = json.loads((tmp_path / "s" / MANIFEST).read_text("utf-8"))
    assert kept == {**wider, "created": MANIFEST_VALUE["created"]}
    assert "prompts.limit" in str(refusal(tmp_path / "s").values["changes"])


@pytest.mark.parametrize("content", [None, "", "{}", '{"kind": "bchat-sweep", "version": 9}', "[" * 10_000])
def test_a_directory_with_other_files_is_left_alone(tmp_path: Path, content: str | None) -> None:
    (tmp_path / (MANIFEST if content is not None else "thesis.tex")).write_text(content or "", "utf-8")
    assert refusal(tmp_path).key == "sweep.not-ours"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("written", [0, 5])
def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    lines = filled(tmp_path / "s")
    store = opened(tmp_path / "s")
    write = os.write

    def full(fd: int, data: Any) -> int:
        if written and len(data) > written:
            return write(fd, data[: len(data) - written])
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(BchatError) as caught:
            store.append({"id": "3"})
    assert caught.value.key == "sweep.not-written"
    assert "full" in caught.value.sentence("en")
    assert (tmp_path / "s" / REPLIES).read_bytes() == b"".join(lines)
    store.append({"id": "3"})
    store.close()
    assert opened(tmp_path / "s").done == {"0", "1", "2", "3"}


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert refusal(tmp_path / "file").key == "sweep.not-written"
    assert refusal(tmp_path / "file" / "s").key == "sweep.not-written"

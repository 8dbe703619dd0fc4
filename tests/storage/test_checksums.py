"""The store of checksums."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from bilingual_chat.storage import checksums, paths
from bilingual_chat.storage.checksums import MD5, SHA256


@pytest.mark.parametrize(
    "mark",
    [
        None,
        [],
        {},
        {"size": "x", "digests": 3},
        {"size": True, "mtime_ns": None, "inode": [], "digests": {}, "etag": ""},
        {"digests": {MD5: []}},
        {"digests": {MD5: "0"}},
        {"digests": {"crc": "0" * 32}},
        {"digests": []},
        {"etag": 5},
        {"etag": "../x"},
    ],
)
def test_a_mark_of_another_shape_is_none(tmp_path: Path, mark: object) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    digests = checksums.compute_digests(path, [MD5], lambda count: None)
    store = paths.cache_dir() / "checked.json"
    kept = json.loads(store.read_text())
    whole = kept[os.path.realpath(path)]
    store.write_text(json.dumps({os.path.realpath(path): {**whole, **mark} if mark and "digests" in mark else mark}))
    if isinstance(mark, dict) and "etag" in mark and len(mark) == 1:
        store.write_text(json.dumps({os.path.realpath(path): {**whole, **mark}}))
    assert checksums.find_record(path) is None
    assert checksums.compute_digests(path, [MD5], lambda count: None) == digests
    assert checksums.find_record(path) is not None


def test_marks_that_two_threads_make_at_once_are_all_kept(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}" for number in range(16)]
    for path in files:
        path.write_bytes(path.name.encode())
    threads = [
        threading.Thread(target=checksums.compute_digests, args=(path, [SHA256], lambda n: None)) for path in files
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(checksums.known_digests(path) for path in files)


def test_the_store_keeps_the_latest_of_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "_MAX_FILES", 3)
    files = [tmp_path / f"{number}" for number in range(5)]
    for path in files:
        path.write_bytes(b"")
        checksums.compute_digests(path, [SHA256], lambda count: None)
    assert [bool(checksums.known_digests(path)) for path in files] == [False, False, True, True, True]


def test_records_of_an_earlier_bchat_are_read(tmp_path: Path) -> None:
    """It called the ETag "stated"."""
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    checksums.record(path, {}, etag="0" * 64)
    store = paths.cache_dir() / "checked.json"
    store.write_text(store.read_text().replace('"etag"', '"stated"'))
    found = checksums.find_record(path)
    assert found is not None
    assert found.etag == "0" * 64

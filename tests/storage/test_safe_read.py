"""Bounded reads of arbitrary files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bilingual_chat.storage import safe_read
from tests.runs import posix


@posix
def test_neither_a_fifo_nor_a_device_nor_a_large_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"x" * 101)
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("fifo", "large", "zero"):
        with pytest.raises(safe_read.Unfit):
            safe_read.read_bytes(tmp_path / name, 100)
    (tmp_path / "large").write_bytes(b"x" * 100)
    assert safe_read.read_bytes(tmp_path / "large", 100) == b"x" * 100


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b'"a"',
        b"\xff",
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b"1" * 101 + b"}",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": [' + b"[]," * 600_000 + b"[]]}",
    ],
    ids=["empty", "list", "cut", "text", "not UTF-8", "deep", "digits", "NaN", "infinite", "values"],
)
def test_json_that_is_no_object_of_bounded_size_is_unfit(data: bytes) -> None:
    with pytest.raises(safe_read.Unfit):
        safe_read.parse_json(data)


def test_json_that_is_fit_is_read_with_a_mark_of_its_encoding_too(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1e3, "b": ' + b"9" * 100 + b"}")
    assert safe_read.read_json(tmp_path / "a.json") == {"a": 1000.0, "b": int("9" * 100)}

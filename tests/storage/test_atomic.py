"""Atomic writes; tests/transcript/test_faults.py lets every system call fail."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bilingual_chat.storage import atomic
from tests.runs import posix


@posix
def test_a_file_is_replaced_in_one_step_and_a_link_with_it(tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "mine"
    other.write_text("precious")
    path.symlink_to(other)
    atomic.write(path, b"new")
    assert (path.read_text(), other.read_text(), path.is_symlink()) == ("new", "precious", False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {each.name for each in tmp_path.iterdir()} == {"other", "mine"}


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError):
        atomic.write(tmp_path / "directory", b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["directory"]

"""Status and listings of arbitrary files and directories."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bilingual_chat.storage import own_files, safe_stat
from tests.runs import posix


def refusing(number: int) -> Callable[..., os.stat_result]:
    def refuse(*args: object, **kwargs: object) -> os.stat_result:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ELOOP, errno.ENOTCONN, errno.EOVERFLOW]
)
def test_looking_never_raises_for_any_error_of_the_disk(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("a")
    for name in ("stat", "lstat", "listdir", "scandir"):
        monkeypatch.setattr(os, name, refusing(number))
    found = (
        safe_stat.status(tmp_path),
        safe_stat.is_file(tmp_path / "a"),
        safe_stat.is_dir(tmp_path),
        safe_stat.is_link(tmp_path),
    )
    assert found == (None, False, False, False)
    assert (safe_stat.size_of(tmp_path / "a"), safe_stat.entries(tmp_path), safe_stat.files_below(tmp_path)) == (
        None,
        [],
        [],
    )
    found = safe_stat.find_trouble([tmp_path])
    assert found is not None
    assert found[0] == tmp_path
    assert found[1].key in ("reason.denied", "reason.other")


@pytest.mark.parametrize("name", ["a\0b", "\udcff" * 3 + "\ud800", "x" * 5000])
def test_a_name_that_no_file_can_have_is_only_absent(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert not safe_stat.is_file(path)
    assert safe_stat.entries(path) == []
    assert not own_files.is_ours(path)


def test_what_is_only_absent_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert safe_stat.find_trouble([tmp_path / "no", tmp_path / "file" / "below"]) is None


@posix
def test_a_loop_of_links_is_skipped_and_reported(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").write_text("c")
    assert not safe_stat.is_file(tmp_path / "a")
    assert [path.name for path in safe_stat.files_below(tmp_path)] == ["a", "b", "c"]
    found = safe_stat.find_trouble([tmp_path / "a"])
    assert found is not None
    assert found[0] == tmp_path / "a"

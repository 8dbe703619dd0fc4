"""Opening our own files in directories where others may write."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bilingual_chat.storage import own_files
from tests.runs import posix


@posix
@pytest.mark.parametrize("kind", ["link", "dangling", "hard link", "fifo", "loop"])
def test_what_lies_in_the_way_is_removed_and_never_written_through(tmp_path: Path, kind: str) -> None:
    other, path = tmp_path / "other", tmp_path / "mine"
    other.write_text("precious")
    if kind == "link":
        path.symlink_to(other)
    elif kind == "dangling":
        path.symlink_to(tmp_path / "made for me")
    elif kind == "hard link":
        path.hardlink_to(other)
    elif kind == "loop":
        path.symlink_to(path)
    else:
        os.mkfifo(path)
    fd = own_files.open_own(path)
    os.write(fd, b"new")
    os.close(fd)
    assert (path.read_text(), other.read_text()) == ("new", "precious")
    assert stat.S_ISREG(path.lstat().st_mode)
    assert not (tmp_path / "made for me").exists()


@posix
def test_another_persons_file_is_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even for root, who may write to it; and no other user's conversion or library is used."""
    path = tmp_path / "mine"
    path.write_text("half")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(own_files, "_ATTEMPTS", 2)
    monkeypatch.setattr(own_files, "_is_by_us", lambda found, directory: found.st_size == 0)
    assert not own_files.is_ours(path)
    fd = own_files.open_own(path)
    assert os.fstat(fd).st_size == 0
    os.close(fd)


@posix
def test_where_a_file_system_names_another_owner_what_we_make_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share that maps every user to one: a download must work there too."""
    path = tmp_path / "mine"
    path.write_text("half")
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    fd = own_files.open_own(path)
    assert os.fstat(fd).st_size == 4
    os.close(fd)
    assert own_files.is_ours(path)
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


@posix
def test_what_lies_where_everybody_may_write_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "library.so"
    path.write_text("")
    assert own_files.is_ours(path)
    path.chmod(0o666)
    assert not own_files.is_ours(path)
    path.chmod(0o600)
    tmp_path.chmod(0o777)
    assert not own_files.is_ours(path)
    with pytest.raises(OSError):
        own_files.require_our_directory(tmp_path)


@posix
def test_a_file_that_another_process_makes_meanwhile_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes the name of the opened file before its status is read."""
    path = tmp_path / "part"
    path.write_text("old")
    real = os.fstat

    def racing(fd: int) -> os.stat_result:
        monkeypatch.setattr(os, "fstat", real)
        path.unlink()
        path.write_text("theirs")
        return real(fd)

    monkeypatch.setattr(os, "fstat", racing)
    fd = own_files.open_own(path)
    assert os.read(fd, 10) == b"theirs"
    os.close(fd)


@posix
def test_another_users_file_is_used_where_that_is_permitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock in a cache that several users share."""
    path = tmp_path / "lock"
    path.write_text("theirs")
    monkeypatch.setattr(own_files, "_is_by_us", lambda found, directory: False)
    fd = own_files.open_own(path, any_owner=True)
    assert os.read(fd, 10) == b"theirs"
    os.close(fd)

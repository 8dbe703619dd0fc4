"""Looking at, reading and writing files that may be anything, in directories where others may write."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bilingual_chat.storage import checksums, lock, paths, reading, safe_stat, writing
from bilingual_chat.storage.checksums import MD5, SHA256

posix = pytest.mark.skipif(os.name == "nt", reason="links, owners and FIFOs of POSIX")


def refusing(number: int) -> Callable[..., os.stat_result]:
    def refuse(*args: object, **kwargs: object) -> os.stat_result:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ELOOP, errno.ENOTCONN, errno.EOVERFLOW]
)
def test_looking_never_raises_whatever_the_disk_says(
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
    assert (safe_stat.size_of(tmp_path / "a"), safe_stat.entries(tmp_path), safe_stat.below(tmp_path)) == (-1, [], [])
    assert safe_stat.trouble([tmp_path]) == (tmp_path, os.strerror(number))


@pytest.mark.parametrize("name", ["a\0b", "\udcff" * 3 + "\ud800", "x" * 5000])
def test_a_name_that_no_file_can_have_is_only_absent(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert not safe_stat.is_file(path)
    assert safe_stat.entries(path) == []
    assert not writing.is_ours(path)


def test_what_is_only_absent_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert safe_stat.trouble([tmp_path / "no", tmp_path / "file" / "below"]) is None


@posix
def test_a_loop_of_links_is_passed_over_and_told(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").write_text("c")
    assert not safe_stat.is_file(tmp_path / "a")
    assert [path.name for path in safe_stat.below(tmp_path)] == ["a", "b", "c"]
    found = safe_stat.trouble([tmp_path / "a"])
    assert found is not None
    assert found[0] == tmp_path / "a"


# -- reading


@posix
def test_neither_a_fifo_nor_a_device_nor_a_large_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"x" * 101)
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("fifo", "large", "zero"):
        with pytest.raises(reading.Unfit):
            reading.read_bytes(tmp_path / name, 100)
    (tmp_path / "large").write_bytes(b"x" * 100)
    assert reading.read_bytes(tmp_path / "large", 100) == b"x" * 100


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
    with pytest.raises(reading.Unfit):
        reading.parse_json(data)


def test_json_that_is_fit_is_read_with_a_mark_of_its_encoding_too(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1e3, "b": ' + b"9" * 100 + b"}")
    assert reading.read_json(tmp_path / "a.json") == {"a": 1000.0, "b": int("9" * 100)}


# -- writing


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
    fd = writing.open_own(path)
    os.write(fd, b"new")
    os.close(fd)
    assert (path.read_text(), other.read_text()) == ("new", "precious")
    assert stat.S_ISREG(path.lstat().st_mode)
    assert not (tmp_path / "made for me").exists()


@posix
def test_another_persons_file_is_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root, who may write to it; and no other person's conversion or library is used."""
    path = tmp_path / "mine"
    path.write_text("half")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(writing, "_TRIES", 2)
    monkeypatch.setattr(writing, "_is_by_us", lambda found, directory: found.st_size == 0)
    assert not writing.is_ours(path)
    fd = writing.open_own(path)
    assert os.fstat(fd).st_size == 0
    os.close(fd)


@posix
def test_where_a_file_system_names_another_owner_what_we_make_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share that maps every user to one: a download must go on there, too."""
    path = tmp_path / "mine"
    path.write_text("half")
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    fd = writing.open_own(path)
    assert os.fstat(fd).st_size == 4
    os.close(fd)
    assert writing.is_ours(path)
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


@posix
def test_what_lies_where_everybody_may_write_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "library.so"
    path.write_text("")
    assert writing.is_ours(path)
    path.chmod(0o666)
    assert not writing.is_ours(path)
    path.chmod(0o600)
    tmp_path.chmod(0o777)
    assert not writing.is_ours(path)
    with pytest.raises(OSError):
        writing.require_our_directory(tmp_path)


@posix
def test_a_file_is_replaced_in_one_step_and_a_link_with_it(tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "mine"
    other.write_text("precious")
    path.symlink_to(other)
    writing.write(path, b"new")
    assert (path.read_text(), other.read_text(), path.is_symlink()) == ("new", "precious", False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {each.name for each in tmp_path.iterdir()} == {"other", "mine"}


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError):
        writing.write(tmp_path / "directory", b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["directory"]


@posix
def test_a_lock_that_is_held_is_waited_for_a_moment_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_PATIENCE_S", 0.05)
    order = []
    with lock.waited_for(tmp_path / "lock"), lock.waited_for(tmp_path / "lock"):
        order.append("without")
    with lock.waited_for(tmp_path / "no" / "lock"):
        order.append("nowhere")
    assert order == ["without", "nowhere"]


# -- checksums


@pytest.mark.parametrize(
    "mark",
    [
        None,
        [],
        {},
        {"size": "x", "digests": 3},
        {"size": True, "mtime_ns": None, "inode": [], "digests": {}, "stated": ""},
        {"digests": {MD5: []}},
        {"digests": {MD5: "0"}},
        {"digests": {"crc": "0" * 32}},
        {"digests": []},
        {"stated": 5},
        {"stated": "../x"},
    ],
)
def test_a_mark_of_another_shape_is_none(tmp_path: Path, mark: object) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    digests = checksums.digests_of(path, [MD5], lambda count: None)
    store = paths.cache_dir() / "checked.json"
    kept = json.loads(store.read_text())
    whole = kept[os.path.realpath(path)]
    store.write_text(json.dumps({os.path.realpath(path): {**whole, **mark} if mark and "digests" in mark else mark}))
    if isinstance(mark, dict) and "stated" in mark and len(mark) == 1:
        store.write_text(json.dumps({os.path.realpath(path): {**whole, **mark}}))
    assert checksums.recall(path) is None
    assert checksums.digests_of(path, [MD5], lambda count: None) == digests
    assert checksums.recall(path) is not None


def test_marks_that_two_threads_make_at_once_are_all_kept(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}" for number in range(16)]
    for path in files:
        path.write_bytes(path.name.encode())
    threads = [threading.Thread(target=checksums.digests_of, args=(path, [SHA256], lambda n: None)) for path in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(checksums.recall_current(path) for path in files)


def test_the_store_keeps_the_latest_of_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "_MOST_FILES", 3)
    files = [tmp_path / f"{number}" for number in range(5)]
    for path in files:
        path.write_bytes(b"")
        checksums.digests_of(path, [SHA256], lambda count: None)
    assert [bool(checksums.recall_current(path)) for path in files] == [False, False, True, True, True]

"""The lock between processes."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bilingual_chat.storage import lock, own_files
from tests.runs import posix


@posix
def test_a_lock_that_is_held_is_waited_for_a_moment_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_BEST_EFFORT_TIMEOUT_S", 0.05)
    order = []
    with lock.best_effort(tmp_path / "lock"), lock.best_effort(tmp_path / "lock"):
        order.append("without")
    with lock.best_effort(tmp_path / "no" / "lock"):
        order.append("nowhere")
    assert order == ["without", "nowhere"]


def test_a_lock_is_held_by_one_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not lock.is_held(path)
    held = lock.acquire(path)
    assert held is not None
    assert held.is_exclusive
    assert lock.is_held(path)
    assert lock.acquire(path) is None
    held.release()
    held.release()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_waited_for_until_its_timeout(tmp_path: Path) -> None:
    """Its holder releases it while we wait."""
    held = lock.acquire(tmp_path / "lock")
    assert held is not None
    threading.Timer(0.1, held.release).start()
    assert lock.acquire(tmp_path / "lock", timeout_s=20) is not None


@posix
@pytest.mark.parametrize("kind", ["symlink_to", "hardlink_to"])
def test_a_lock_follows_no_link(tmp_path: Path, kind: str) -> None:
    other, path = tmp_path / "other", tmp_path / "lock"
    other.write_text("precious")
    other.chmod(0o600)
    getattr(path, kind)(other)
    held = lock.acquire(path, is_shared=True)
    assert held is not None
    assert not lock.is_held(other)
    assert (other.read_text(), stat.S_IMODE(other.stat().st_mode)) == ("precious", 0o600)


@posix
def test_a_shared_lock_stays_and_its_group_may_take_it(tmp_path: Path) -> None:
    """As huggingface_hub leaves its locks, for every umask."""
    path, old = tmp_path / "lock", os.umask(0o077)
    try:
        held = lock.acquire(path, is_shared=True)
    finally:
        os.umask(old)
    assert held is not None
    held.release()
    assert stat.S_IMODE(path.stat().st_mode) == 0o664


@posix
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_locks_gives_a_lock_that_is_not_exclusive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(lock, "_lock", failing(number))
    held = lock.acquire(tmp_path / "lock")
    assert held is not None
    assert not held.is_exclusive


@posix
@pytest.mark.parametrize("call", ["_lock", "is_at"])
def test_a_lock_that_cannot_be_found_out_raises_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(lock if call == "_lock" else own_files, call, failing(errno.EIO))
    with pytest.raises(OSError):
        lock.acquire(tmp_path / "lock")
    assert list(tmp_path.iterdir()) == []


def failing(number: int) -> Callable[..., None]:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail

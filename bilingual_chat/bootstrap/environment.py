"""The checkout's .venv: makes it, marks it as complete or not, and locks it meanwhile."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bilingual_chat.bootstrap.console import say, show_last
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.storage import lock
from bilingual_chat.text.sanitize import outward_line

OLDEST = (3, 11)
# Relative, because pip splits PIP_CONSTRAINT at spaces, and the checkout's path may contain some.
CONSTRAINTS = ".ci/constraints.txt"
MARKER, LOCK, LOG = "bchat-setup", "bchat-setup.lock", "bchat-setup.log"
UNFINISHED, INCOMPLETE = "unfinished", "incomplete"
WINDOWS = os.name == "nt"


def python_of(root: Path) -> Path:
    """Return the path of the environment's Python, which may not exist yet."""
    return root / ".venv" / ("Scripts/python.exe" if WINDOWS else "bin/python")


def is_running(root: Path) -> bool:
    """Return True if the running Python is the environment's."""
    return Path(sys.prefix).resolve() == (root / ".venv").resolve()


def read_marker(root: Path) -> str:
    """Return the state that the last set-up wrote; "" if there was none."""
    try:
        return (root / ".venv" / MARKER).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def write_marker(root: Path, state: str) -> None:
    """Write the state of the set-up."""
    (root / ".venv" / MARKER).write_text(state + "\n", encoding="utf-8")


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the set-up's lock; wait for it while another process sets up."""
    path = root / ".venv" / LOCK
    path.parent.mkdir(exist_ok=True)
    held = lock.acquire(path)
    if held is None:
        say("bootstrap.waiting")
    while held is None:
        held = lock.acquire(path, timeout_s=0.3)
    try:
        yield
    finally:
        held.release()


def make(root: Path) -> None:
    """Make a .venv whose Python runs and has pip. An unfinished or broken one of ours is replaced."""
    directory = root / ".venv"
    state = read_marker(root)
    if state != UNFINISHED and _has_pip(python_of(root)):
        write_marker(root, UNFINISHED)
        return
    if not state and not is_running(root) and any(path.name != LOCK for path in directory.iterdir()):
        raise BchatError("bootstrap.foreign", path=outward_line(str(directory)))
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise BchatError("bootstrap.no-venv", version=dotted(sys.version_info[:2]))
    say("bootstrap.environment", version=dotted(sys.version_info[:3]), path=outward_line(str(directory)))
    write_marker(root, UNFINISHED)
    if not is_running(root):
        _empty(directory)
    made = subprocess.run(
        [sys.executable, "-I", "-m", "venv", str(directory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if made.returncode:
        show_last(made.stdout.decode(errors="replace").splitlines())
        raise BchatError("bootstrap.venv-failed", path=outward_line(str(directory)))


def _has_pip(python: Path) -> bool:
    if not python.exists():
        return False
    command = [str(python), "-I", "-c", f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"]
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.name in (LOCK, MARKER):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def dotted(version: Sequence[int]) -> str:
    """Return (3, 11) as "3.11"."""
    return ".".join(map(str, version))

"""Sets up a bare checkout: makes .venv, installs the pinned libraries into it, starts bchat.

Standard library only, and no syntax newer than Python 3.8, so that an older Python can say that it is too old. All
files lie in .venv inside the checkout; of the user's files, only pip's cache is used.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bilingual_chat.bootstrap import environment, pip, torch_build
from bilingual_chat.bootstrap.console import say
from bilingual_chat.bootstrap.environment import CONSTRAINTS, OLDEST, dotted, python_of, read_marker, write_marker
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.text.sanitize import outward_line

# The import names of the `dependencies` in pyproject.toml.
REQUIRED = (
    "torch",
    "numpy",
    "transformers",
    "safetensors",
    "sentencepiece",
    "huggingface_hub",
    "typer",
    "rich",
    "prompt_toolkit",
    "wcwidth",
)


def checkout() -> Path | None:
    """Return the root of the checkout that holds this file; None if bchat was installed from a wheel."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() and (root / CONSTRAINTS).is_file() else None


def is_ready() -> bool:
    """Return True if the running Python has bchat and its libraries."""
    root = checkout()
    if sys.version_info[:2] < OLDEST:
        return False
    if root and environment.is_running(root) and is_current(root):
        return True
    return not missing_libraries() and (root is None or _is_installed())


def missing_libraries() -> list[str]:
    """Return the names in REQUIRED that the running Python cannot import."""
    return [name for name in REQUIRED if importlib.util.find_spec(name) is None]


def run(arguments: Sequence[str], extra: str = "") -> int:
    """Set up the environment if necessary, then replace this process by its Python with `arguments`.

    `extra`: an optional dependency group of pyproject.toml ("dev"). Return an exit status: 1 after an error, 130 after
    Ctrl-C, the command's own on Windows, where a process cannot be replaced.
    """
    try:
        root = _root_for(sys.version_info[:2])
        if not is_current(root, extra):
            set_up(root, extra)
        return _replace_process([str(python_of(root)), *arguments])
    except BchatError as error:
        say(error.key, **error.values)
    except OSError as error:
        say("bootstrap.os", reason=outward_line(str(error)))
    except KeyboardInterrupt:
        say("bootstrap.interrupted")
        return ExitStatus.INTERRUPTED
    return ExitStatus.FAILED


def _root_for(version: tuple[int, ...]) -> Path:
    if version < OLDEST:
        raise BchatError("bootstrap.python", needed=dotted(OLDEST), found=dotted(version))
    root = checkout()
    if root is None:
        raise BchatError("bootstrap.libraries-missing", names=", ".join(missing_libraries()))
    return root


def is_current(root: Path, extra: str = "") -> bool:
    """Return True if .venv matches pyproject.toml, the constraints, BCHAT_TORCH and `extra`."""
    try:
        fingerprint, build, *extras = read_marker(root).split()
    except ValueError:
        return False
    is_whole = python_of(root).exists() and fingerprint == _fingerprint(root) and extra in ("", *extras)
    return is_whole and torch_build.is_acceptable(os.environ, build)


def set_up(root: Path, extra: str) -> None:
    """Complete .venv. A second set-up waits for the first. Raise BchatError, OSError or KeyboardInterrupt."""
    wanted = torch_build.requested_build(os.environ)
    began = time.monotonic()
    with environment.locked(root):
        if is_current(root, extra):
            return
        environment.make(root)
        try:
            build = _install(root, extra, wanted)
        except BchatError:
            # pip ended and left no package half unpacked: the next run may continue from here.
            write_marker(root, environment.INCOMPLETE)
            raise
        write_marker(root, f"{_fingerprint(root)} {build} {extra}")
    say("bootstrap.done", seconds=round(time.monotonic() - began))


def _install(root: Path, extra: str, wanted: str) -> str:
    """Install torch, then bchat and its libraries. Return the build of torch."""
    (root / ".venv" / environment.LOG).write_bytes(b"")
    build = torch_build.install(root, wanted)
    say("bootstrap.libraries")
    output = pip.install(root, ["--editable", f".[{extra}]" if extra else ".", *torch_build.pin_build(root, build)])
    if output:
        raise pip.failed(root, output)
    return build


def _is_installed() -> bool:
    from importlib import metadata

    try:
        metadata.version("bilingual-chat")
    except metadata.PackageNotFoundError:
        return False
    return True


def _fingerprint(root: Path) -> str:
    """Return a hash of the requirements, the Python below .venv, and the checkout's path (a .pth file names it)."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", CONSTRAINTS, "bilingual_chat/__init__.py"):
        digest.update((root / name).read_bytes())
    digest.update(os.fsencode(f"{root}\0{os.path.realpath(python_of(root))}"))
    return digest.hexdigest()


def _replace_process(command: list[str]) -> int:
    """Replace this process by `command`. On Windows, run it and return its status."""
    if not environment.WINDOWS:
        os.execv(command[0], command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the console sends Ctrl-C to the child, too
    return subprocess.call(command)

"""From a bare checkout to a running bchat: makes .venv, installs into it what is pinned, starts it.

Standard library only, and no syntax newer than Python 3.8, so that an older Python can be told that it is too old.
Everything it makes lies in .venv inside the checkout; pip's cache is the only thing of the person's it uses.
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

# What `dependencies` in pyproject.toml is imported as; asked without importing any of them.
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
    """The root of the checkout this file lies in; None where bchat is installed from a wheel."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() and (root / CONSTRAINTS).is_file() else None


def is_ready() -> bool:
    """Whether the Python that runs now has bchat and its libraries, so that nothing is to be set up."""
    root = checkout()
    if sys.version_info[:2] < OLDEST:
        return False
    if root and environment.runs_now(root) and is_current(root):
        return True
    return not missing_libraries() and (root is None or _is_installed())


def missing_libraries() -> list[str]:
    """The names in REQUIRED that the running Python cannot import."""
    return [name for name in REQUIRED if importlib.util.find_spec(name) is None]


def run(arguments: Sequence[str], extra: str = "") -> int:
    """Sets up what is missing, then becomes the environment's Python with `arguments`.

    `extra` is an optional group of pyproject.toml that is wanted too ("dev"). Returns an exit status:
    1 after one sentence on stderr, 130 after Ctrl-C, and the command's own where a process cannot be replaced.
    """
    try:
        root = _root_for(sys.version_info[:2])
        if not is_current(root, extra):
            set_up(root, extra)
        return _become([str(python_of(root)), *arguments])
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
    """Whether .venv holds what pyproject.toml, the constraints and BCHAT_TORCH say now, `extra` included."""
    try:
        fingerprint, build, *extras = read_marker(root).split()
    except ValueError:
        return False
    is_whole = python_of(root).exists() and fingerprint == _fingerprint(root) and extra in ("", *extras)
    return is_whole and torch_build.grants(os.environ, build)


def set_up(root: Path, extra: str) -> None:
    """Makes .venv whole; raises BchatError with the sentence, OSError, or KeyboardInterrupt.

    Two at once: the second waits, then finds the work done.
    """
    wanted = torch_build.wish(os.environ)
    began = time.monotonic()
    with environment.alone(root):
        if is_current(root, extra):
            return
        environment.make(root)
        try:
            build = _install(root, extra, wanted)
        except BchatError:
            # pip gave up by itself and left no package half unpacked, so that the next run may go on from here.
            write_marker(root, environment.INCOMPLETE)
            raise
        write_marker(root, f"{_fingerprint(root)} {build} {extra}")
    say("bootstrap.done", seconds=round(time.monotonic() - began))


def _install(root: Path, extra: str, wanted: str) -> str:
    """torch first and alone, then bchat and its libraries; the build of torch."""
    (root / ".venv" / environment.LOG).write_bytes(b"")
    build = torch_build.install(root, wanted)
    say("bootstrap.libraries")
    last = pip.install(root, ["--editable", f".[{extra}]" if extra else ".", *torch_build.keep(root, build)])
    if last:
        raise pip.failed(root, last)
    return build


def _is_installed() -> bool:
    from importlib import metadata

    try:
        metadata.version("bilingual-chat")
    except metadata.PackageNotFoundError:
        return False
    return True


def _fingerprint(root: Path) -> str:
    """Changes with what is to be installed, with the Python below, and with the checkout's place (a .pth names it)."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", CONSTRAINTS, "bilingual_chat/__init__.py"):
        digest.update((root / name).read_bytes())
    digest.update(os.fsencode(f"{root}\0{os.path.realpath(python_of(root))}"))
    return digest.hexdigest()


def _become(command: list[str]) -> int:
    """Replaces this process by `command`; Windows cannot, so there it waits for it and returns its status."""
    if not environment.WINDOWS:
        os.execv(command[0], command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the child, which the console tells as well
    return subprocess.call(command)

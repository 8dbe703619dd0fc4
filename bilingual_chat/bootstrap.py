"""From a bare checkout to a running bchat: makes .venv, installs into it what is pinned, starts it.

Standard library only, and no syntax newer than Python 3.8, so that an older Python can be told that it is too old.
Everything it makes lies in .venv inside the checkout; pip's cache is the only thing of the person's it uses.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from bilingual_chat import messages
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.untrusted import outward_line

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

OLDEST = (3, 11)
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
# Relative, since pip splits PIP_CONSTRAINT at blanks and a checkout's path may hold some.
CONSTRAINTS = ".ci/constraints.txt"
MARKER, LOCK, LOG = "bchat-setup", "bchat-setup.lock", "bchat-setup.log"
UNFINISHED, INCOMPLETE = "unfinished", "incomplete"
WINDOWS = os.name == "nt"


class Say(Protocol):
    """Shows the sentence `key` of `messages.TABLE` on stderr."""

    def __call__(self, key: str, **values: object) -> None: ...


def checkout() -> Path | None:
    """The root of the checkout this file lies in; None where bchat is installed from a wheel."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "pyproject.toml").is_file() and (root / CONSTRAINTS).is_file() else None


def is_ready() -> bool:
    """Whether the Python that runs now has bchat and its libraries, so that nothing is to be set up."""
    root = checkout()
    if sys.version_info[:2] < OLDEST:
        return False
    if root and _inside(root) and is_current(root):
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
    language = messages.language_of(os.environ)

    def say(key: str, **values: object) -> None:
        print("bchat:", messages.render(key, language, **values), file=sys.stderr, flush=True)

    try:
        root = _root_for(sys.version_info[:2])
        if not is_current(root, extra):
            set_up(root, extra, say)
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
        raise BchatError("bootstrap.python", needed=_dotted(OLDEST), found=_dotted(version))
    root = checkout()
    if root is None:
        raise BchatError("bootstrap.libraries-missing", names=", ".join(missing_libraries()))
    return root


def is_current(root: Path, extra: str = "") -> bool:
    """Whether .venv holds what pyproject.toml and the constraints say now, `extra` included."""
    try:
        fingerprint, *extras = _read_marker(root).split()
    except ValueError:
        return False
    return python_of(root).exists() and fingerprint == _fingerprint(root) and extra in ("", *extras)


def set_up(root: Path, extra: str, say: Say) -> None:
    """Makes .venv whole; raises BchatError with the sentence, OSError, or KeyboardInterrupt.

    Two at once: the second waits, then finds the work done.
    """
    began = time.monotonic()
    with _alone(root, say):
        if is_current(root, extra):
            return
        _make_environment(root, say)
        try:
            _install(root, extra, say)
        except BchatError:
            # pip gave up by itself and left no package half unpacked, so that the next run may go on from here.
            _write_marker(root, INCOMPLETE)
            raise
        _write_marker(root, f"{_fingerprint(root)} {extra}")
    say("bootstrap.done", seconds=round(time.monotonic() - began))


def python_of(root: Path) -> Path:
    """The Python of the checkout's environment, there or not."""
    return root / ".venv" / ("Scripts/python.exe" if WINDOWS else "bin/python")


def _inside(root: Path) -> bool:
    return Path(sys.prefix).resolve() == (root / ".venv").resolve()


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


def _read_marker(root: Path) -> str:
    try:
        return (root / ".venv" / MARKER).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _write_marker(root: Path, state: str) -> None:
    (root / ".venv" / MARKER).write_text(state + "\n", encoding="utf-8")


@contextmanager
def _alone(root: Path, say: Say) -> Iterator[None]:
    """Holds the set-up's lock, which the system gives back however the process ends."""
    (root / ".venv").mkdir(exist_ok=True)
    with (root / ".venv" / LOCK).open("a+b") as file:
        if not _lock(file):
            say("bootstrap.waiting")
            while not _lock(file):
                time.sleep(0.3)
        yield


def _lock(file: BinaryIO) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # held by another; Windows says the second
        return False
    except OSError:  # a file system without locks: better unguarded than not at all
        return True
    return True


def _make_environment(root: Path, say: Say) -> None:
    """A .venv whose Python runs and has pip; an unfinished or broken one of ours is made anew."""
    directory = root / ".venv"
    state = _read_marker(root)
    if state != UNFINISHED and _has_pip(python_of(root)):
        _write_marker(root, UNFINISHED)
        return
    if not state and not _inside(root) and any(path.name != LOCK for path in directory.iterdir()):
        raise BchatError("bootstrap.foreign", path=outward_line(str(directory)))
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise BchatError("bootstrap.no-venv", version=_dotted(sys.version_info[:2]))
    say("bootstrap.environment", version=_dotted(sys.version_info[:3]), path=outward_line(str(directory)))
    _write_marker(root, UNFINISHED)
    if not _inside(root):
        _empty(directory)
    made = subprocess.run(
        [sys.executable, "-I", "-m", "venv", str(directory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if made.returncode:
        _show_last(made.stdout.decode(errors="replace").splitlines())
        raise BchatError("bootstrap.venv-failed", path=outward_line(str(directory)))


def _has_pip(python: Path) -> bool:
    if not python.exists():
        return False
    check = f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"
    command = [str(python), "-I", "-c", check]
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


def _install(root: Path, extra: str, say: Say) -> None:
    """torch first and alone: its CPU build, which most machines want, is a version that not every index has."""
    (root / ".venv" / LOG).write_bytes(b"")
    torch = _pinned(root, "torch")
    if torch and wants_cpu_torch():
        say("bootstrap.torch", version=torch)
        last = _pip(root, [f"torch=={torch}+cpu"], say)
        if last and (_is_offline(last) or not _is_unknown(last)):
            raise _pip_failed(root, last)
        if last:
            say("bootstrap.torch-full")
    say("bootstrap.libraries")
    last = _pip(root, ["--editable", f".[{extra}]" if extra else "."], say)
    if last:
        raise _pip_failed(root, last)


def wants_cpu_torch() -> bool:
    """Whether torch's ordinary build would bring gigabytes of CUDA that this machine cannot use."""
    has_nvidia = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()
    return sys.platform == "linux" and not has_nvidia


def _pinned(root: Path, name: str) -> str | None:
    text = (root / CONSTRAINTS).read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(name)}==([\w.]+)", text, re.MULTILINE)
    return found[1] if found else None


def _pip(root: Path, wanted: Sequence[str], say: Say) -> list[str]:
    """Installs; [] if that went well, else pip's last lines. All of them are in .venv's log."""
    command = [str(python_of(root)), "-I", "-m", "pip", "install", "--progress-bar", "off", *wanted]
    last: deque[str] = deque(maxlen=40)
    with (root / ".venv" / LOG).open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=_pip_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        try:
            for raw in process.stdout:
                log.write(raw)
                line = raw.decode(errors="replace").rstrip()
                last.append(line)
                # Only what takes a while to fetch.
                large = re.match(r"\s*Downloading ([A-Za-z0-9_.]+)-\S+ \((\d{2,}\.\d MB|[\d.]+ GB)\)", line)
                if large:
                    say("bootstrap.downloading", name=large[1], size=large[2])
            status = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
            process.stdout.close()
    return (list(last) or [f"pip: {status}"]) if status else []


def _pip_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The person's settings of indexes, proxies and certificates stay; those of where and what to install do not."""
    elsewhere = {"PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_NO_DEPS", "PIP_DRY_RUN"}
    kept = {name: value for name, value in environ.items() if name not in elsewhere}
    ours = {"PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_QUIET": "0"}
    # As variables, so that they also hold for what builds the package; newer pips read the second one there.
    return {**kept, **ours, "PIP_CONSTRAINT": CONSTRAINTS, "PIP_BUILD_CONSTRAINT": CONSTRAINTS}


def _is_offline(lines: Sequence[str]) -> bool:
    signs = r"NewConnectionError|Failed to establish|name resolution|ConnectTimeout|ReadTimeout|ProxyError|Max retries"
    return any(re.search(signs, line) for line in lines)


def _is_unknown(lines: Sequence[str]) -> bool:
    """Whether no index has the version; pip calls it a conflict where a constraint names the project as well."""
    return any(re.search(r"No matching distribution found for torch|ResolutionImpossible", line) for line in lines)


def _pip_failed(root: Path, last: Sequence[str]) -> BchatError:
    _show_last(last)
    key = "bootstrap.offline" if _is_offline(last) else "bootstrap.pip-failed"
    return BchatError(key, log=outward_line(str(root / ".venv" / LOG)))


def _show_last(lines: Sequence[str]) -> None:
    for line in lines[-8:]:
        print("  |", outward_line(line), file=sys.stderr)


def _become(command: list[str]) -> int:
    """Replaces this process by `command`; Windows cannot, so there it waits for it and returns its status."""
    if not WINDOWS:
        os.execv(command[0], command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the child, which the console tells as well
    return subprocess.call(command)


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))

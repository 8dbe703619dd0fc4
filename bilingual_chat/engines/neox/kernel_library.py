"""Compiles and loads the CPU kernels (engines/kernels), once per machine, with its own C compiler. No torch here."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.storage import atomic, os_errors, own_files, paths

SOURCE = Path(__file__).parents[1] / "kernels" / "layer.c"  # includes the headers beside it
COMPILE_TIMEOUT_S = 120
_FUNCTIONS = ("bchat_pool", "bchat_layer", "bchat_head", "bchat_multiplies_bfloat16")
_MOST_CHARACTERS = 200  # of a compiler's message in a sentence
_MOST_LOG = 1 << 20  # bytes


def load_library() -> ctypes.CDLL | None:
    """Return the kernels, compiled if needed (some seconds, once per machine); None: `kernel_problem` says why."""
    return _loaded()[0]


def kernel_problem() -> Phrase | None:
    """Return the reason why `load_library` returns None."""
    return _loaded()[1]


@cache
def _loaded() -> tuple[ctypes.CDLL | None, Phrase | None]:
    try:
        return _load(), None
    except BchatError as error:
        return None, error.phrase
    except OSError as error:  # bchat's own sources are unreadable
        return None, Phrase("native.load", path=SOURCE, reason=os_errors.reason(error))


def _load() -> ctypes.CDLL:
    """Load the library from bchat's cache, or compile it first. Raises BchatError."""
    if sys.platform == "win32":
        raise BchatError("native.windows")
    compiler = find_compiler()
    if compiler is None:
        raise BchatError("native.no-compiler")
    command = [compiler, "-std=gnu11", "-O3", *target_flags(), "-fPIC", "-shared", "-pthread"]
    path = paths.cache_dir() / "native" / f"{_identity(command)}.so"
    try:
        if own_files.is_ours(path):  # a library that another user wrote could run anything
            return _open(path)
    except BchatError:
        if os.statvfs(path).f_flag & getattr(os, "ST_NOEXEC", 0):  # a new library would not load either
            raise
    _build(command, path)
    return _open(path)


def find_compiler() -> str | None:
    """Return the C compiler for the CPU kernels; None on Windows, which has no POSIX threads."""
    if sys.platform == "win32":
        return None
    found = map(shutil.which, (os.environ.get("CC", ""), "cc", "gcc", "clang"))
    return next(filter(None, found), None)


def _open(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
        for name in _FUNCTIONS:
            getattr(library, name)
    except (OSError, AttributeError) as error:
        raise BchatError("native.load", path=path, reason=error) from None
    return library


def _identity(command: Sequence[str]) -> str:
    """Return a hash of everything that the compiled library depends on."""
    sources = [path.read_bytes() for path in sorted(SOURCE.parent.glob("*.[ch]"))]
    return hashlib.sha256(b"\0".join([*sources, " ".join(command).encode(), _processor()])).hexdigest()[:32]


def _build(command: Sequence[str], path: Path) -> None:
    """Compile to `path`, atomically. Raises BchatError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        own_files.require_our_directory(path.parent)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            output = Path(folder) / path.name
            _compile([*command, "-o", str(output), str(SOURCE), "-lm"])
            output.chmod(0o700)
            output.replace(path)
    except OSError as error:
        raise BchatError("native.cache", path=path.parent, reason=os_errors.reason(error)) from None


def _compile(command: list[str]) -> None:
    """Run the compiler. Raises BchatError with the cause, after it saved the compiler's output in a log."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that `_kill` reaches the compiler's children
        )
    except OSError as error:
        raise BchatError("native.cannot-run", compiler=command[0], reason=os_errors.reason(error)) from None
    try:
        output, _ = process.communicate(timeout=COMPILE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        log = _save_log(command, _kill(process))
        raise BchatError("native.timeout", compiler=command[0], seconds=COMPILE_TIMEOUT_S, where=log) from None
    except BaseException:
        _kill(process)
        raise
    if code := process.returncode:
        line, log = _first_error(output), _save_log(command, output)
        raise BchatError("native.compile", compiler=command[0], code=code, line=line, where=log)


def _kill(process: subprocess.Popen[bytes]) -> bytes:
    """Kill the compiler and its children; return its output."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[0]


def _first_error(output: bytes) -> str:
    """Return the first line that contains "error", else the first line."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), (lines or ["-"])[0])[:_MOST_CHARACTERS]


def _save_log(command: list[str], output: bytes) -> Phrase:
    """Save the compiler's output; return a phrase that says where, or why it could not be saved."""
    path = paths.state_dir() / "compiler.log"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic.write(path, " ".join(command).encode() + b"\n" + output[:_MOST_LOG])
    except OSError as error:
        return Phrase("native.no-log", path=path, reason=os_errors.reason(error))
    return Phrase("native.log", path=path)


def target_flags() -> list[str]:
    """Return the flags that let the compiler use all instructions of this processor; Apple's compiler needs none."""
    if platform.machine() in ("x86_64", "AMD64"):
        return ["-march=native"]
    return [] if sys.platform == "darwin" else ["-mcpu=native"]


def features() -> list[str]:
    """Return the instruction sets of this processor that the kernels have a path for."""
    known = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "asimddp", "i8mm", "bf16")
    present = _processor().decode(errors="replace").split()
    return [name for name in known if name in present]


def _processor() -> bytes:
    """Return the processor's features: machines that share a home directory need different libraries."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
        features = next((line for line in lines if line.startswith((b"flags", b"Features"))), b"")
    except OSError:
        features = b""
    return f"{platform.machine()} {platform.processor()}".encode() + features

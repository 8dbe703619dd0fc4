"""Runs the pip of the checkout's environment, and classifies its failures."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from bilingual_chat.bootstrap.console import say, show_last
from bilingual_chat.bootstrap.environment import CONSTRAINTS, LOG, python_of
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.text.sanitize import outward_line

# bchat, not the user's shell, decides what is installed, where, and which Python code runs meanwhile.
_OPTIONS = (
    *("TARGET", "PREFIX", "ROOT", "PYTHON", "DRY_RUN", "NO_DEPS", "REQUIREMENT", "EDITABLE"),
    *("IGNORE_INSTALLED", "FORCE_REINSTALL", "UPGRADE", "PRE", "REQUIRE_HASHES"),
)
NOT_INHERITED = {"PYTHONHOME", "PYTHONPATH", *(f"PIP_{name}" for name in _OPTIONS)}
TIMED_OUT = "no answer within"
UNREACHABLE = (
    "NewConnectionError|Failed to establish|name resolution|ConnectTimeout|ReadTimeout|ProxyError|Max retries|"
    f"{TIMED_OUT}"
)


def install(root: Path, wanted: Sequence[str], timeout_s: float | None = None) -> list[str]:
    """Install `wanted`. Return [] on success, else pip's last lines; the log in .venv has all.

    pip is terminated if no download starts within `timeout_s`.
    """
    command = [str(python_of(root)), "-I", "-m", "pip", "install", "--progress-bar", "off", *wanted]
    with (root / ".venv" / LOG).open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            last = _follow(process, log, timeout_s)
            status = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    return (last or [f"pip: {status}"]) if status else []


def _follow(process: subprocess.Popen[bytes], log: BinaryIO, timeout_s: float | None) -> list[str]:
    """Write pip's output to the log and announce large downloads. Return the last lines."""
    assert process.stdout is not None
    last: deque[str] = deque(maxlen=40)
    notes: list[str] = []

    def terminate() -> None:
        notes.append(f"pip: {TIMED_OUT} {timeout_s} s")
        process.terminate()

    timer = threading.Timer(timeout_s or threading.TIMEOUT_MAX, terminate)
    timer.daemon = True
    timer.start()
    with process.stdout as output:
        for raw in output:
            log.write(raw)
            line = raw.decode(errors="replace").rstrip()
            last.append(line)
            if "Downloading " in line:
                timer.cancel()
            _announce(line)
    timer.cancel()
    return [*last, *notes]


def _announce(line: str) -> None:
    """Print name and size of a download from 10 MB on; pip names some by file, some by URL."""
    large = re.match(r"\s*Downloading (?:\S*/)?([A-Za-z0-9_.]+)-\S+ \((\d{2,}\.\d MB|[\d.]+ GB)\)", line)
    if large:
        say("bootstrap.downloading", name=large[1], size=large[2])


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` with the user's indexes, proxies and certificates, and with bchat's decisions."""
    kept = {name: value for name, value in environ.items() if name not in NOT_INHERITED}
    ours = {"PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_QUIET": "0"}
    # As variables, so that they also apply where the package is built; newer pips read the second one there.
    return {**kept, **ours, "PIP_CONSTRAINT": CONSTRAINTS, "PIP_BUILD_CONSTRAINT": CONSTRAINTS}


def is_unreachable(lines: Sequence[str]) -> bool:
    """Return True if pip failed because no package index answered."""
    return any(re.search(UNREACHABLE, line) for line in lines)


def is_unknown(lines: Sequence[str]) -> bool:
    """Return True if no index has the version; pip calls that a conflict where a constraint names the project too."""
    return any(re.search(r"No matching distribution found for torch|ResolutionImpossible", line) for line in lines)


def failed(root: Path, last: Sequence[str]) -> BchatError:
    """Print pip's last lines and return the error to raise."""
    show_last(last)
    key = "bootstrap.offline" if is_unreachable(last) else "bootstrap.pip-failed"
    return BchatError(key, log=outward_line(str(root / ".venv" / LOG)))

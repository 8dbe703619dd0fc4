"""What every test gets: a home of its own, no network, no settings of the person who runs it."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

# Whoever starts the tests in the background, or under nohup, has them inherit signals that are ignored, and with them
# every program they start. Many tests here press Ctrl-C or close a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


def needs_a_terminal(test: Path) -> bool:
    """Whether a file of tests imports what only POSIX has, itself or through another one."""
    return bool(
        re.search(r"^(import|from) (termios|tests\.(terminal|test_display))", test.read_text("utf-8"), re.MULTILINE)
    )


if os.name == "nt":
    collect_ignore = [path.name for path in Path(__file__).parent.glob("test_*.py") if needs_a_terminal(path)]


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """HOME and XDG_* in a temporary directory; BCHAT_* and hub settings gone, and streams buffered as a user's are."""
    directory = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(("BCHAT_", "XDG_", "HF_", "LC_", "NO_COLOR", "FORCE_COLOR", "PYTHONUNBUFFERED")):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("LANG", "C.UTF-8")
    return directory

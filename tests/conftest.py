"""What every test gets: a home of its own, no network, no settings of the person who runs it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# Whoever starts the tests in the background has them inherit an ignored Ctrl-C (POSIX says so of "&"), and with it
# every program they start. Many tests here press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """HOME and XDG_* in a temporary directory; BCHAT_* and hub settings gone."""
    directory = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(("BCHAT_", "XDG_", "HF_", "LC_", "NO_COLOR", "FORCE_COLOR")):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("LANG", "C.UTF-8")
    return directory

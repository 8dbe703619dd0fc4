"""bchat's command line, run in this process or in a separate one."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bilingual_chat.cli import chat, command_line
from bilingual_chat.session.model import Model
from bilingual_chat.settings.catalogue import ModelEntry
from tests.scripted import Script, ScriptedEngine, tokenizer

ROOT = Path(__file__).parent.parent
posix = pytest.mark.skipif(os.name == "nt", reason="links, owners, modes and FIFOs of POSIX")


class Ran:
    """The result of a command."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


def in_this_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], engines: list[ScriptedEngine]
) -> Run:
    """A function that runs bchat over a scripted model, which replies `reply` and adds itself to `engines`."""

    def run(*arguments: str, reply: str | Script = "Hello.", stdin: str | bytes = "") -> Ran:
        def open_model(entry: ModelEntry, *how: object) -> Model:
            engines.append(ScriptedEngine([reply]))
            return Model(entry, tokenizer(), engines[-1])

        monkeypatch.setattr(chat, "open_model", open_model)
        monkeypatch.setattr(chat, "open_in_background", open_model)
        monkeypatch.setattr(sys, "argv", ["bchat", *arguments])
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        status = command_line.main()
        return Ran(status, *capsys.readouterr())

    return run


def program(command: list[str], stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, input=stdin, capture_output=True, env=env, check=False, timeout=60)


def scripted(*arguments: str, **script: Any) -> list[str]:
    """The command of a bchat over a scripted model; see `scripted_bchat`."""
    return [sys.executable, "-m", "tests.scripted_bchat", json.dumps(script), *arguments]


def real(*arguments: str) -> list[str]:
    """The command of bchat itself."""
    return [sys.executable, "-m", "bilingual_chat", *arguments]

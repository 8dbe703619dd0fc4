"""`bchat doctor` names the problems of a machine, and the remedies."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bilingual_chat import messages
from bilingual_chat.cli import doctor
from bilingual_chat.engines import memory
from bilingual_chat.engines.neox import kernel_library
from bilingual_chat.messages import Phrase
from bilingual_chat.settings.config import load_config
from bilingual_chat.storage import paths
from bilingual_chat.terminal.display import Display
from tests.pseudo_terminal import Terminal
from tests.runs import real

HUB = "http://127.0.0.1:9"  # nothing listens there
OF_MACHINE = {"HF_ENDPOINT": HUB, "HF_HUB_OFFLINE": "0", "XDG_CACHE_HOME": str(paths.cache_dir().parent)}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", HUB)
    return tmp_path


def findings(check: Any) -> list[doctor.Finding]:
    return list(check(load_config(), Display(out=io.StringIO())))


def test_a_missing_compiler_is_reported_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_library, "kernel_problem", lambda: Phrase("native.no-compiler"))
    [_, kernels] = findings(doctor._kernels)
    assert kernels.remedy is not None
    assert not kernels.is_problem


@pytest.mark.parametrize(("free", "precision"), [(40 << 30, "float32"), (12 << 30, "bfloat16"), (1 << 30, None)])
def test_the_memory_decides_the_precision(monkeypatch: pytest.MonkeyPatch, free: int, precision: str | None) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: free)
    [found] = findings(doctor._memory)
    assert isinstance(found.text, Phrase)
    assert found.text.values.get("precision") == precision
    assert (found.remedy is None) == (precision is not None)


def test_a_directory_that_cannot_be_written_is_a_problem(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: Path(path) != machine)
    assert {each.check for each in findings(doctor._files) if each.is_problem} == {"data", "cache", "models"}


def test_an_encoding_without_japanese_is_a_problem() -> None:
    display = Display(out=io.TextIOWrapper(io.BytesIO(), encoding="shift_jis"))
    [found] = doctor._locale(load_config(), display)
    assert found.is_problem


def test_offline_sends_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "is_offline", lambda: True)
    [found] = findings(doctor._network)
    assert found.remedy is None


@pytest.mark.slow
@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_on_a_terminal_and_for_a_bug_report(lang: str, machine: Path) -> None:
    terminal = Terminal(real("doctor", "--lang", lang), columns=100, rows=50, HOME=str(machine), **OF_MACHINE)
    assert terminal.leave() == 0
    for check in ("program", "terminal", "colours", "ambiguous", "encoding", "memory", "network"):
        assert messages.render(f"doctor.check.{check}", lang) in terminal.text
    assert "100×50" in terminal.text
    assert HUB in terminal.text
    environment = {**os.environ, "HOME": str(machine), **OF_MACHINE}
    reported = subprocess.run(
        real("doctor", "--json", "--lang", lang), env=environment, capture_output=True, text=True, check=True
    )
    assert str(machine) not in reported.stdout
    assert {"check", "found", "remedy", "is_problem"} == set(json.loads(reported.stdout)[0])

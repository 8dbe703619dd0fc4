"""A checkout whose set-up is scripted: pip, the environment and the start of bchat are only recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bilingual_chat import bootstrap
from bilingual_chat.bootstrap import environment, pip, torch_build

NO_MATCH = [
    "ERROR: Could not find a version that satisfies the requirement torch==9.9.0+cpu (from versions: 9.8.0, 9.9.0)",
    "ERROR: No matching distribution found for torch==9.9.0+cpu",
]
CONFLICT = [
    "The conflict is caused by:",
    "    The user requested torch==9.9.0+cpu",
    "    The user requested (constraint) torch==9.9.0",
    "ERROR: ResolutionImpossible: for help visit the documentation",
]
OFFLINE = [
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('Failed to establish')'",
    "ERROR: Could not find a version that satisfies the requirement torch==9.9.0+cpu (from versions: none)",
    "ERROR: No matching distribution found for torch==9.9.0+cpu",
]


class Stage:
    """An empty checkout, and a record of the actions that the set-up would have taken."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[list[str]] = []
        self.answers: list[list[str] | type[BaseException]] = []
        self.became: list[list[str]] = []
        self.torch = ""
        self.has_gpu = False

    def pip(self, root: Path, wanted: Sequence[str], timeout_s: float | None = None) -> list[str]:
        self.asked.append(list(wanted))
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, list):
            return answer
        raise answer

    def make_environment(self, root: Path) -> None:
        python = environment.python_of(root)
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        environment.write_marker(root, environment.UNFINISHED)

    def become(self, command: list[str]) -> int:
        self.became.append(command)
        return 7

    @property
    def marker(self) -> str:
        return environment.read_marker(self.root)


def bare_checkout(root: Path, torch: str = "torch==9.9.0\n") -> Path:
    (root / ".ci").mkdir(parents=True)
    (root / "bilingual_chat").mkdir()
    (root / "bilingual_chat" / "__init__.py").write_text("")
    (root / "pyproject.toml").write_text("[project]\n")
    (root / environment.CONSTRAINTS).write_text(torch)
    return root


def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """All but venv, pip and exec is real."""
    stage = Stage(bare_checkout(tmp_path / "a checkout"))
    monkeypatch.setattr(bootstrap, "checkout", lambda: stage.root)
    monkeypatch.setattr(pip, "install", stage.pip)
    monkeypatch.setattr(environment, "make", stage.make_environment)
    monkeypatch.setattr(bootstrap, "_replace_process", stage.become)
    monkeypatch.setattr(torch_build, "installed_version", lambda root: stage.torch)
    monkeypatch.setattr(torch_build, "has_nvidia_gpu", lambda: stage.has_gpu)
    monkeypatch.setattr(torch_build, "LINUX", True)
    monkeypatch.delenv("BCHAT_TORCH", raising=False)
    return stage

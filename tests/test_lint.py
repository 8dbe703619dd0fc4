"""Formatting, lint and types: the test suite is the whole check."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def check(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    check("ruff", "check", ".")


def test_everything_is_formatted() -> None:
    check("ruff", "format", "--check", ".")


@pytest.mark.slow
def test_the_types_agree() -> None:
    """Slow without a cache."""
    check("mypy")


@pytest.mark.parametrize("folder", ["benchmarks", "training", "docs"])
def test_scripts_import_only_names_that_exist(folder: str) -> None:
    """Nobody runs them at each change."""
    missing = []
    for path in (ROOT / folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("bilingual_chat", "tests"):
                module = importlib.import_module(node.module or "")
                names = [each.name for each in node.names if not hasattr(module, each.name)]
                missing += [f"{path.name}: {name}" for name in names if find_spec(f"{node.module}.{name}") is None]
    assert missing == []

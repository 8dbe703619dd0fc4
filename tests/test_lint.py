"""Formatting, lint and types: the test suite is the whole check."""

from __future__ import annotations

import subprocess
import sys
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

"""`python3 -m tests`: the parts of the suite, and what reaches pytest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bilingual_chat import bootstrap
from tests import __main__ as suite
from tests import newest, sanitize


def test_the_newest_transformers_is_tried_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(bootstrap, "run", lambda arguments, extra: ran.append((arguments, extra)) or 5)
    assert suite.main(["--newest", "-x"]) == 5
    assert ran == [(["-m", "tests.newest", "-x"], "dev")]
    assert newest.allowed().startswith("transformers>=")
    assert any(path.endswith("test_other_families.py") for path in newest.concerned())


def test_the_sanitizers_run_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(bootstrap, "run", lambda arguments, extra: ran.append((arguments, extra)) or 5)
    assert suite.main(["--sanitize", "-x"]) == 5
    assert ran == [(["-m", "tests.sanitize", "-x"], "dev")]
    assert all((Path(suite.__file__).parents[1] / path).is_file() for path in sanitize.TESTS)


@pytest.mark.parametrize(
    ("given", "handed_on"),
    [([], []), (["--quick", "-x"], ["-m", "not slow", "-x"]), (["tests/test_a.py"], ["tests/test_a.py"])],
)
def test_the_test_command_hands_its_arguments_to_pytest(
    monkeypatch: pytest.MonkeyPatch, given: list[str], handed_on: list[str]
) -> None:
    ran = []

    def run(arguments: list[str], extra: str) -> int:
        ran.append((arguments, extra))
        return 5

    monkeypatch.setattr(bootstrap, "run", run)
    assert suite.main(given) == 5
    assert ran == [(["-m", "pytest", *handed_on], "dev")]


def test_the_quick_part_tries_fewer_random_cases_unless_the_environment_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bootstrap, "run", lambda arguments, extra: 0)
    monkeypatch.setattr(os, "environ", {"FORGERIES": "7"})
    suite.main(["-x"])
    assert os.environ == {"FORGERIES": "7"}
    suite.main(["--quick"])
    assert os.environ == {"FORGERIES": "7", "FUZZ_CASES": "50"}

"""For every test: a temporary home, no network, none of the user's settings."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# The shared modules assert, too.
pytest.register_assert_rewrite(*(f"tests.{path.stem}" for path in Path(__file__).parent.glob("[a-z]*.py")))

from bilingual_chat.transcript.journal import Journal  # noqa: E402
from tests.loopback_hub import HASTY, Hub, serve  # noqa: E402
from tests.runs import Run, in_this_process  # noqa: E402
from tests.scripted import ScriptedEngine  # noqa: E402

# Whoever starts the tests in the background, or under nohup, has them inherit signals that are ignored, and with them
# every program they start. Many tests here press Ctrl-C or close a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


def needs_a_terminal(test: Path) -> bool:
    """Return True if a test module imports a POSIX library, directly or through shared modules."""
    return bool(re.search(r"^(import|from) (termios|tests\.pseudo_terminal)", test.read_text("utf-8"), re.MULTILINE))


if os.name == "nt":
    collect_ignore = [str(path) for path in Path(__file__).parent.rglob("test_*.py") if needs_a_terminal(path)]


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """HOME and XDG_* in a temporary directory, BCHAT_* and hub settings unset, streams buffered as usual."""
    directory = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(("BCHAT_", "XDG_", "HF_", "LC_", "NO_COLOR", "FORCE_COLOR", "PYTHONUNBUFFERED")):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("LANG", "C.UTF-8")
    return directory


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync returns at once: no test has a power failure, and tests/transcript/test_faults.py checks the calls."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


@pytest.fixture(autouse=True)
def closed_journals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the journals that a test leaves open: each has two descriptors, and `select` takes those below 1,024."""
    opened: list[Journal] = []
    make = Journal.__init__

    def remember(self: Journal, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        opened.append(self)

    monkeypatch.setattr(Journal, "__init__", remember)
    yield
    for each in opened:
        each._release()


@pytest.fixture(autouse=True, scope="session")
def few_descriptors() -> Iterator[None]:
    """Fail the run if its tests leave descriptors open: with 1,024 of them the editor's tests hang."""
    yield
    descriptors = Path("/proc/self/fd")
    assert not descriptors.exists() or len(list(descriptors.iterdir())) < 500


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Use one thread: on a busy machine, threads that compute tiny kernels mostly wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest) -> Any:
    """A random GPTNeoXForCausalLM, with the module's MODEL options, or those of the family."""
    from tests.models import FAMILY, make_model

    return make_model(**getattr(request.module, "MODEL", FAMILY))


@pytest.fixture(scope="module")
def saved(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That model as a directory, which no test may change."""
    path = tmp_path_factory.mktemp("model")
    model.save_pretrained(path)
    return path


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[Hub]:
    """A hub on loopback, under the address that bchat uses."""
    import huggingface_hub.constants

    from bilingual_chat.hub import http

    monkeypatch.delenv("HF_HUB_OFFLINE")
    # huggingface_hub reads the environment at import, which may have been while HF_HUB_OFFLINE was set.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(http, "TIMEOUTS", HASTY)
    with serve(Hub()) as it:
        monkeypatch.setenv("HF_ENDPOINT", it.url)
        yield it


@pytest.fixture
def engines() -> list[ScriptedEngine]:
    """The engines that `run` opened."""
    return []


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], engines: list[ScriptedEngine], tmp_path: Path
) -> Iterator[Run]:
    """Run bchat in this process over a scripted model; check that each started reply was closed."""
    monkeypatch.chdir(tmp_path)
    yield in_this_process(monkeypatch, capsys, engines)
    for engine in engines:
        assert engine.closed == len(engine.prompts)

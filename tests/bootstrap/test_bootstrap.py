"""The first command: from a bare checkout to a running bchat, with every failure on the way."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import bilingual_chat
from bilingual_chat import bootstrap
from bilingual_chat import messages as sentences
from bilingual_chat.bootstrap import environment, pip
from tests.setup_stage import OFFLINE, Stage, bare_checkout, staged

PACKAGE = Path(bilingual_chat.__file__).parent
ALONE = [
    *("__init__", "__main__", "text/__init__", "text/sanitize"),
    *(f"storage/{name}" for name in ("__init__", "atomic", "lock", "os_errors", "own_files")),
    *(f"messages/{path.stem}" for path in (PACKAGE / "messages").glob("*.py")),
    *(f"bootstrap/{path.stem}" for path in (PACKAGE / "bootstrap").glob("*.py")),
]


@pytest.fixture(autouse=True)
def nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the code under test must neither replace the test process nor use the network."""

    def refuse(command: list[str]) -> int:
        raise AssertionError(command)

    monkeypatch.setattr(bootstrap, "_replace_process", refuse)
    monkeypatch.setenv("PIP_NO_INDEX", "1")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return staged(tmp_path, monkeypatch)


def test_set_up_then_start(stage: Stage) -> None:
    """torch's CPU build first, then the rest, then the environment's Python with the same arguments."""
    assert bootstrap.run(["-m", "bilingual_chat", "--version"]) == 7
    assert stage.asked == [["torch==9.9.0+cpu"], ["--editable", ".", "torch==9.9.0+cpu"]]
    assert stage.became == [[str(environment.python_of(stage.root)), "-m", "bilingual_chat", "--version"]]


def test_the_second_time_nothing_is_installed(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    bootstrap.run([])
    capsys.readouterr()
    del stage.asked[:]
    assert bootstrap.run([]) == 7
    assert stage.asked == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["pyproject.toml", environment.CONSTRAINTS, "bilingual_chat/__init__.py"])
def test_a_change_of_what_is_wanted_is_installed(stage: Stage, name: str) -> None:
    bootstrap.run([])
    (stage.root / name).write_text("torch==9.9.1\n")
    assert not bootstrap.is_current(stage.root)
    bootstrap.run([])
    assert len(stage.asked) == 4
    assert bootstrap.is_current(stage.root)


def test_a_checkout_that_was_moved_is_set_up_again(stage: Stage) -> None:
    """An editable install names the path that it was made in."""
    bootstrap.run([])
    stage.root = stage.root.rename(stage.root.with_name("elsewhere"))
    assert not bootstrap.is_current(stage.root)


def test_a_python_that_went_away_is_noticed(stage: Stage) -> None:
    bootstrap.run([])
    environment.python_of(stage.root).unlink()
    assert not bootstrap.is_current(stage.root)


def test_the_tests_want_more_than_the_chat(stage: Stage) -> None:
    """The dev group includes the chat's libraries, not the other way round."""
    bootstrap.run([])
    assert not bootstrap.is_current(stage.root, "dev")
    bootstrap.run([], extra="dev")
    assert stage.asked[-1] == ["--editable", ".[dev]", "torch==9.9.0+cpu"]
    assert bootstrap.is_current(stage.root, "dev")
    assert bootstrap.is_current(stage.root)


def test_a_missing_network_is_reported_at_once(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Not "no CPU build here", and no second wait for the same network."""
    stage.answers = [OFFLINE]
    assert bootstrap.run([]) == 1
    assert stage.asked == [["torch==9.9.0+cpu"]]
    assert stage.became == []
    assert "Check the network" in capsys.readouterr().err.splitlines()[-1]


def test_when_pip_fails_its_last_lines_and_one_sentence_are_shown(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """pip repeats what a server sends; no line may control the terminal."""
    stage.answers = [[], [*(f"line {number}" for number in range(30)), "ERROR: \x1b[31mNo space left on device"]]
    assert bootstrap.run([]) == 1
    shown = capsys.readouterr().err.splitlines()
    assert shown[-1].startswith("bchat: Setup failed: pip cannot install the libraries")
    assert shown[-2] == "  | ERROR: ␛[31mNo space left on device"
    assert "  | line 3" not in shown
    assert stage.marker == environment.INCOMPLETE


def test_what_failed_is_done_the_next_time(stage: Stage) -> None:
    stage.answers = [OFFLINE]
    bootstrap.run([])
    assert not bootstrap.is_current(stage.root)
    assert bootstrap.run([]) == 7
    assert bootstrap.is_current(stage.root)


def test_ctrl_c_leaves_with_130_and_a_note_for_the_next_time(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.answers = [[], KeyboardInterrupt]
    assert bootstrap.run([]) == 130
    assert stage.marker == environment.UNFINISHED
    assert capsys.readouterr().err.splitlines()[-1].startswith("bchat: setup interrupted")


def test_a_read_only_checkout_is_reported(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    (stage.root / ".venv").write_text("a file in the way")
    assert bootstrap.run([]) == 1
    assert capsys.readouterr().err.startswith("bchat: Setup failed: ")


@pytest.mark.parametrize(
    ("lang", "sentence"), [("ja_JP.UTF-8", "以上が必要です（これは 3.8 です）"), ("C", "needs Py")]
)
def test_an_old_python_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lang: str, sentence: str
) -> None:
    monkeypatch.setenv("LANG", lang)
    monkeypatch.setattr(sys, "version_info", (3, 8, 18))
    assert not bootstrap.is_ready()
    assert bootstrap.run([]) == 1
    assert sentence in capsys.readouterr().err
    assert not (stage.root / ".venv").exists()


@pytest.mark.parametrize("name", ALONE)
def test_an_old_python_can_read_this_far(name: str) -> None:
    """Syntax of 3.8; no `list[str]` or `str | None` that is computed at import, outside of annotations."""
    tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"), feature_version=(3, 8))
    for node in tree.body:
        if isinstance(node, ast.Assign):
            is_alias = isinstance(node.value, ast.Subscript)
            assert not is_alias or ast.unparse(node.value).startswith("Literal[")
            assert not (isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.BitOr))


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_without_venv_the_error_names_the_package_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    """Like the python3 of Debian."""
    root = bare_checkout(tmp_path / "x")
    found = importlib.util.find_spec
    monkeypatch.setattr(bootstrap, "checkout", lambda: root)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    assert bootstrap.run([]) == 1
    assert "apt install python3" in capsys.readouterr().err


def test_an_environment_of_another_tool_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An environment without pip, as other tools make it, cannot be used and is not ours to delete."""
    root = bare_checkout(tmp_path / "x")
    theirs = root / ".venv" / "pyvenv.cfg"
    theirs.parent.mkdir()
    theirs.write_text("uv = 0.9\n")
    monkeypatch.setattr(bootstrap, "checkout", lambda: root)
    assert bootstrap.run([]) == 1
    assert theirs.read_text() == "uv = 0.9\n"
    assert "is not an environment that bchat made" in capsys.readouterr().err


def test_a_wheel_without_its_libraries_names_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "checkout", lambda: None)
    monkeypatch.setattr(bootstrap, "missing_libraries", lambda: ["typer"])
    assert not bootstrap.is_ready()
    assert bootstrap.run([]) == 1
    assert "(typer)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "installed", "ready"), [([], True, True), (["rich"], True, False), ([], False, False)]
)
def test_a_python_that_has_everything_is_used_as_it_is(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, missing: list[str], installed: bool, ready: bool
) -> None:
    monkeypatch.setattr(bootstrap, "missing_libraries", lambda: missing)
    monkeypatch.setattr(bootstrap, "_is_installed", lambda: installed)
    assert bootstrap.is_ready() is ready


def test_inside_the_environment_nothing_is_started_twice(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if a library was removed by hand: otherwise bchat would start itself forever."""
    bootstrap.run([])
    monkeypatch.setattr(bootstrap, "missing_libraries", lambda: ["rich"])
    assert not bootstrap.is_ready()
    monkeypatch.setattr(sys, "prefix", str(stage.root / ".venv"))
    assert bootstrap.is_ready()


def test_pip_is_not_led_astray_by_the_persons_settings() -> None:
    """bchat decides where to install; the user decides from which index."""
    theirs = {"PIP_INDEX_URL": "theirs", "PIP_TARGET": "/x", "PIP_USER": "1", "PYTHONPATH": "/y", "PYTHONHOME": "/z"}
    theirs["PIP_FORCE_REINSTALL"] = "1"  # would replace the CPU build by the index's usual one
    environ = pip.environment(theirs)
    assert environ["PIP_INDEX_URL"] == "theirs"
    assert environ["PIP_USER"] == "0"
    assert environ["PIP_CONSTRAINT"] == environment.CONSTRAINTS
    assert not {"PIP_TARGET", "PYTHONPATH", "PYTHONHOME", "PIP_FORCE_REINSTALL"} & environ.keys()


@pytest.fixture
def scripted_pip(tmp_path: Path) -> Callable[[str], Path]:
    """A checkout whose environment's Python is a shell script."""

    def make(script: str) -> Path:
        root = bare_checkout(tmp_path / "scripted")
        python = environment.python_of(root)
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        return root

    return make


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_pip_is_quiet_except_for_large_downloads(
    scripted_pip: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A small download is not announced, a large one is; everything is in the log."""
    root = scripted_pip(
        "echo 'Collecting torch'\n"
        "echo '  Downloading torch-9.9.0-cp311.whl (190.3 MB)'\n"
        "echo '  Downloading https://an.index/whl/torch-9.9.0%2Bcpu-cp311.whl (2180.5 MB)'\n"
        "echo '  Downloading rich-15.0.0-py3.whl (310 kB)'\n"
        "echo '  Downloading idna-3.0-py3.whl (1.2 MB)'"
    )
    assert pip.install(root, ["torch"]) == []
    assert capsys.readouterr().err == "bchat:   downloading torch, 190.3 MB\nbchat:   downloading torch, 2180.5 MB\n"
    assert b"rich-15.0.0" in (root / ".venv" / environment.LOG).read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
@pytest.mark.parametrize("script", ["echo it broke; exit 3", "exit 3"])
def test_a_pip_that_fails_is_never_taken_for_one_that_did_not(scripted_pip: Callable[[str], Path], script: str) -> None:
    assert pip.install(scripted_pip(script), ["torch"])


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_a_pip_that_starts_no_download_in_time_is_ended(scripted_pip: Callable[[str], Path]) -> None:
    """Like an index behind a firewall that drops packets; it counts as unreachable."""
    last = pip.install(scripted_pip("echo Looking in indexes; exec sleep 600"), ["torch"], timeout_s=0.5)
    assert last[0] == "Looking in indexes"
    assert pip.is_unreachable(last)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_a_download_that_has_started_may_take_longer(scripted_pip: Callable[[str], Path]) -> None:
    root = scripted_pip("echo '  Downloading torch-9.9.0-cp311.whl (190.3 MB)'; sleep 2; echo whole")
    assert pip.install(root, ["torch"], timeout_s=1) == []
    assert b"whole" in (root / ".venv" / environment.LOG).read_bytes()


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({}, "en"),
        ({"LANG": "ja_JP.UTF-8"}, "ja"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LC_ALL": "", "LC_MESSAGES": "ja", "LANG": "en_US"}, "ja"),
    ],
)
def test_the_locale_chooses_the_language(environ: dict[str, str], language: str) -> None:
    assert sentences.language_of(environ) == language


BACKEND = """
import zipfile

def build_editable(directory, config_settings=None, metadata_directory=None):
    name = "bilingual_chat-0-py3-none-any.whl"
    with zipfile.ZipFile(directory + "/" + name, "w") as wheel:
        info = "bilingual_chat-0.dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: bilingual-chat\\nVersion: 0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["backend"]
[project]
name = "bilingual-chat"
version = "0"
"""


@pytest.fixture
def small_checkout(tmp_path: Path) -> Path:
    """bchat's own first command, around a bchat that needs no library: the test needs no network."""
    root = bare_checkout(tmp_path / "a checkout", torch="")
    for name in ALONE:
        (root / "bilingual_chat" / name).parent.mkdir(exist_ok=True)
        (root / "bilingual_chat" / f"{name}.py").write_bytes((PACKAGE / f"{name}.py").read_bytes())
    for path in (PACKAGE / "messages").glob("*.json"):
        shutil.copy(path, root / "bilingual_chat" / "messages")
    (root / "bilingual_chat" / "cli").mkdir()
    (root / "bilingual_chat" / "cli" / "__init__.py").touch()
    (root / "bilingual_chat" / "cli" / "command_line.py").write_text(
        "import sys\ndef main(): print(sys.argv[1:]); return 3\n"
    )
    (root / "backend").mkdir()
    (root / "backend" / "backend.py").write_text(BACKEND)
    (root / "pyproject.toml").write_text(PYPROJECT)
    return root


def begin(root: Path) -> subprocess.Popen[str]:
    """The first command, with a Python without any library and a home that is read-only."""
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "PYTHONPATH")}
    return subprocess.Popen(
        [sys.executable, "-S", "-m", "bilingual_chat", "--seed", "a b"],
        cwd=root,
        env={**kept, "HOME": "/nonexistent/home", "PIP_NO_INDEX": "1", "PIP_NO_CACHE_DIR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


@pytest.mark.slow
def test_the_first_command_for_real(small_checkout: Path) -> None:
    """Two start at once: one sets up, one waits. A third starts at once. A killed set-up is completed."""
    pair = [begin(small_checkout) for _ in range(2)]
    ends = [process.communicate(timeout=300) for process in pair]
    assert [(process.returncode, out) for process, (out, _) in zip(pair, ends, strict=True)] == [
        (3, "['--seed', 'a b']\n")
    ] * 2, ends
    assert sorted("waiting for it" in err for _, err in ends) == [False, True]
    assert sorted("setup finished in" in err for _, err in ends) == [False, True]

    third = begin(small_checkout)
    assert third.communicate(timeout=60) == ("['--seed', 'a b']\n", "")

    leftover = small_checkout / ".venv" / "half-unpacked"
    leftover.touch()
    (small_checkout / ".venv" / environment.MARKER).unlink()
    (small_checkout / "pyproject.toml").write_text(PYPROJECT + "description = ''\n")
    killed = begin(small_checkout)
    deadline = time.monotonic() + 60
    while environment.read_marker(small_checkout) != environment.UNFINISHED and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    time.sleep(0.5)  # a pip that outlived its parent

    last = begin(small_checkout)
    out, err = last.communicate(timeout=300)
    assert (last.returncode, out) == (3, "['--seed', 'a b']\n"), err
    assert not leftover.exists()

"""The build of torch that the set-up installs: with a scripted pip, then with the real pip and local indexes."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bilingual_chat import bootstrap
from bilingual_chat.bootstrap import console, environment, pip, torch_build
from tests.setup_stage import CONFLICT, NO_MATCH, OFFLINE, Stage, bare_checkout, staged

OWN, FROM_PYTORCH = ["torch==9.9.0+cpu"], list(torch_build.FROM_PYTORCH)
CUDA = ["torch==9.9.0,!=9.9.0+cpu"]
PLAIN, KEPT = ["--editable", "."], ["--editable", ".", "torch==9.9.0+cpu"]
MISMATCH = ["ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."]
LATE = [f"pip: {pip.TIMED_OUT} 20.0 s"]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("LANG", "C")
    stage = staged(tmp_path, monkeypatch)
    monkeypatch.setattr(torch_build, "confirms", lambda key: pytest.fail("asked"))
    return stage


@pytest.mark.parametrize("answer", [NO_MATCH, CONFLICT])
def test_without_an_own_cpu_build_pytorch_is_asked(stage: Stage, answer: list[str]) -> None:
    """pip with constraints reports a conflict, not a missing version."""
    stage.answers = [answer, []]
    assert bootstrap.run([]) == 7
    assert stage.asked == [OWN, FROM_PYTORCH, KEPT]


@pytest.mark.parametrize("answer", [NO_MATCH, OFFLINE, LATE])
@pytest.mark.parametrize("wish", [None, "cpu"])
def test_without_any_cpu_build_and_without_a_terminal_nothing_is_downloaded(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: list[str],
    wish: str | None,
) -> None:
    """Status 1 and a sentence with size and remedy; BCHAT_TORCH=cpu answers the question too."""
    if wish:
        monkeypatch.setenv("BCHAT_TORCH", wish)
    else:
        monkeypatch.setattr(torch_build, "confirms", console.confirms)  # the standard input of the tests is no terminal
    stage.answers = [NO_MATCH, answer]
    assert bootstrap.run([]) == 1
    assert stage.asked == [OWN, FROM_PYTORCH]
    said = capsys.readouterr().err.splitlines()[-1]
    assert all(part in said for part in ("3 GB", "PIP_EXTRA_INDEX_URL", "BCHAT_TORCH=cuda"))


@pytest.mark.parametrize(("agrees", "status", "last"), [(True, 7, PLAIN), (False, 1, FROM_PYTORCH)])
def test_on_a_terminal_the_user_decides(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, agrees: bool, status: int, last: list[str]
) -> None:
    monkeypatch.setattr(torch_build, "confirms", lambda key: agrees)
    stage.answers = [NO_MATCH, OFFLINE]
    assert bootstrap.run([]) == status
    assert stage.asked[-1] == last


def test_a_file_with_another_hash_ends_the_set_up(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """This is not "no CPU build here", and no reason to ask another index."""
    stage.answers = [NO_MATCH, MISMATCH]
    assert bootstrap.run([]) == 1
    assert stage.asked == [OWN, FROM_PYTORCH]
    assert "DO NOT MATCH THE HASHES" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wish", "has_gpu", "asked"),
    [
        ("cpu", False, [OWN, KEPT]),
        ("cpu", True, [OWN, KEPT]),
        ("cuda", False, [CUDA, PLAIN]),
        (" CUDA ", False, [CUDA, PLAIN]),
        ("any", False, [PLAIN]),
        ("any", True, [PLAIN]),
        ("", False, [OWN, KEPT]),
        ("", True, [CUDA, PLAIN]),
    ],
)
def test_bchat_torch_decides_in_advance(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, wish: str, has_gpu: bool, asked: list[list[str]]
) -> None:
    """Otherwise the GPU decides."""
    monkeypatch.setenv("BCHAT_TORCH", wish)
    stage.has_gpu = has_gpu
    assert bootstrap.run([]) == 7
    assert stage.asked == asked


@pytest.mark.parametrize(("wish", "status", "asked"), [("", 7, [CUDA, PLAIN]), ("cuda", 1, [CUDA])])
def test_a_gpu_takes_a_cpu_build_rather_than_none(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, wish: str, status: int, asked: list[list[str]]
) -> None:
    """Unless the user asked for CUDA."""
    monkeypatch.setenv("BCHAT_TORCH", wish)
    stage.has_gpu = True
    stage.answers = [NO_MATCH]
    assert bootstrap.run([]) == status
    assert stage.asked == asked


@pytest.mark.parametrize("is_set_up", [False, True])
def test_a_misspelt_wish_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_set_up: bool
) -> None:
    if is_set_up:
        bootstrap.run([])
        stage.asked.clear()
    monkeypatch.setenv("BCHAT_TORCH", "gpu\x1b[2J")
    assert bootstrap.run([]) == 1
    assert stage.asked == []
    assert capsys.readouterr().err.splitlines()[-1] == (
        "bchat: BCHAT_TORCH is 'gpu␛[2j'. Set it to cpu, cuda or any, or unset it."
    )


@pytest.mark.parametrize(
    ("installed", "wish", "asked"),
    [
        ("9.9.0+cpu", "", [KEPT]),
        ("9.9.0", "", [PLAIN]),
        ("9.9.0", "cuda", [PLAIN]),
        ("9.9.0", "cpu", [OWN, KEPT]),
        ("9.9.0+cpu", "cuda", [CUDA, PLAIN]),
        ("9.8.0+cpu", "", [OWN, KEPT]),
    ],
)
def test_a_torch_that_is_there_is_not_fetched_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, installed: str, wish: str, asked: list[list[str]]
) -> None:
    """After a set-up that failed later, or a build that the user accepted before."""
    monkeypatch.setenv("BCHAT_TORCH", wish)
    stage.torch = installed
    assert bootstrap.run([]) == 7
    assert stage.asked == asked


def test_another_wish_sets_up_again_and_then_never(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment sets the same variable, and must not start a set-up forever."""
    bootstrap.run([])
    for wish in ("cuda", "cpu"):
        monkeypatch.setenv("BCHAT_TORCH", wish)
        assert not bootstrap.is_current(stage.root)
        bootstrap.run([])
        assert bootstrap.is_current(stage.root)
    for wish in ("", "any"):
        monkeypatch.setenv("BCHAT_TORCH", wish)
        assert bootstrap.is_current(stage.root)


@pytest.mark.parametrize("wish", ["", "cpu", "cuda", "any"])
def test_elsewhere_than_on_linux_the_usual_build_is_the_small_one(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, wish: str
) -> None:
    monkeypatch.setattr(torch_build, "LINUX", False)
    monkeypatch.setenv("BCHAT_TORCH", wish)
    assert bootstrap.run([]) == 7
    assert stage.asked == [PLAIN]
    assert bootstrap.is_current(stage.root)


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
@pytest.mark.parametrize(
    ("script", "has_gpu"),
    [
        ("echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'", True),
        ("echo 'No devices found.'", False),
        ("echo 'NVIDIA-SMI has failed' >&2; exit 9", False),
        (None, False),
    ],
)
def test_a_driver_without_a_gpu_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, has_gpu: bool
) -> None:
    if Path("/proc/driver/nvidia/gpus").exists():
        pytest.skip("this machine has a GPU")
    if script:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert torch_build.has_nvidia_gpu() is has_gpu


# -- the real pip, on indexes served here


class Index(ThreadingHTTPServer):
    """A package index in `directory`, which records requests."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), self.handler)

    def handler(self, *arguments: object) -> None:
        index = self

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, *values: object) -> None:
                index.asked.append(self.path)

        Handler(*arguments, directory=str(self.directory))  # type: ignore[arg-type]

    def url(self, path: str = "simple") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"

    def offer(self, version: str, needs: str = "") -> str:
        """Make a torch of a few bytes; return its hash."""
        name = f"torch-{version}-py3-none-any.whl"
        page = self.directory / "simple" / "torch" / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        info = f"torch-{version}.dist-info/"
        with zipfile.ZipFile(page.parent / name, "w") as wheel:
            wheel.writestr(info + "METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n{needs}")
            wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(info + "RECORD", "")
        with page.open("a") as text:
            text.write(f'<a href="{name.replace("+", "%2B")}">{name}</a>\n')
        return hashlib.sha256((page.parent / name).read_bytes()).hexdigest()

    @property
    def wheels(self) -> list[str]:
        """The downloaded wheels."""
        return [path.rpartition("/")[2] for path in self.asked if path.endswith(".whl")]


@pytest.fixture
def indexes(tmp_path: Path) -> Iterator[tuple[Index, Index]]:
    """The user's index, and a stand-in for PyTorch's."""
    pair = Index(tmp_path / "own"), Index(tmp_path / "pytorch")
    for index in pair:
        threading.Thread(target=index.serve_forever, daemon=True).start()
    yield pair
    for index in pair:
        index.shutdown()
        index.server_close()


@pytest.fixture(scope="module")
def made_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    with environment.locked(root):
        environment.make(root)
    return root / ".venv"


@pytest.fixture
def ladder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_environment: Path, indexes: tuple[Index, Index]
) -> Iterator[Path]:
    """A checkout with an environment, without torch; pip knows the user's index only."""
    if os.name == "nt":
        pytest.skip("the environment is reached by a symbolic link")
    root = bare_checkout(tmp_path / "a checkout")
    (root / ".venv").symlink_to(made_environment)
    for name in [name for name in os.environ if name.startswith("PIP_") or name == "BCHAT_TORCH"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_INDEX_URL", indexes[0].url())
    monkeypatch.setattr(torch_build, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(torch_build, "LINUX", True)
    indexes[0].offer("9.9.0", needs="Requires-Dist: nvidia-cuda-runtime\n")
    yield root
    uninstall = [environment.python_of(root), "-I", "-m", "pip", "uninstall", "--yes", "--quiet", "torch"]
    subprocess.run(uninstall, check=True, capture_output=True)


def pin(root: Path, index: str, digest: str) -> None:
    lines = [f"--index-url {index}", "torch==9.9.0+cpu \\", f"    --hash=sha256:{digest}"]
    (root / ".ci" / "torch-cpu.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.slow
def test_the_own_index_comes_first(ladder: Path, indexes: tuple[Index, Index]) -> None:
    own, pytorch = indexes
    own.offer("9.9.0+cpu")
    pin(ladder, pytorch.url(), pytorch.offer("9.9.0+cpu"))
    assert torch_build.install(ladder, "") == "cpu"
    assert torch_build.installed_version(ladder) == "9.9.0+cpu"
    assert own.wheels == ["torch-9.9.0%2Bcpu-py3-none-any.whl"]
    assert pytorch.asked == []


@pytest.mark.slow
def test_pytorchs_index_gives_torch_and_nothing_else(ladder: Path, indexes: tuple[Index, Index]) -> None:
    """Not its dependencies, which an index may offer in other versions; and the user's index gives no CUDA."""
    own, pytorch = indexes
    pin(ladder, pytorch.url(), pytorch.offer("9.9.0+cpu", needs="Requires-Dist: filelock\n"))
    assert torch_build.install(ladder, "") == "cpu"
    assert torch_build.installed_version(ladder) == "9.9.0+cpu"
    assert own.wheels == []
    assert {path.split("/")[2] for path in pytorch.asked} == {"torch"}


@pytest.mark.slow
def test_a_file_that_was_exchanged_is_not_installed(ladder: Path, indexes: tuple[Index, Index]) -> None:
    pytorch = indexes[1]
    pytorch.offer("9.9.0+cpu")
    pin(ladder, pytorch.url(), "0" * 64)
    with pytest.raises(bootstrap.BchatError, match="cannot install"):
        torch_build.install(ladder, "")
    assert torch_build.installed_version(ladder) == ""


def silent_server() -> socket.socket:
    """Accepts connections and answers none."""
    return socket.create_server(("127.0.0.1", 0))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["closed", "silent", "no such version", "no such host"])
def test_an_index_that_does_not_help_downloads_nothing(
    ladder: Path, indexes: tuple[Index, Index], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    own, pytorch = indexes
    monkeypatch.setattr(torch_build, "START_TIMEOUT_S", 3.0)
    with silent_server() as silent:
        urls = {
            "closed": "http://127.0.0.1:9/simple",
            "silent": f"http://127.0.0.1:{silent.getsockname()[1]}/simple",
            "no such version": pytorch.url(),
            "no such host": "http://index.invalid/simple",
        }
        pytorch.offer("9.8.0+cpu")
        pin(ladder, urls[kind], "0" * 64)
        with pytest.raises(bootstrap.BchatError, match="no package index has"):
            torch_build.install(ladder, "")
    assert own.wheels == []
    assert torch_build.installed_version(ladder) == ""


@pytest.mark.slow
def test_where_the_own_index_has_both_builds_cuda_is_cuda(ladder: Path, indexes: tuple[Index, Index]) -> None:
    """pip alone would prefer the build with a label."""
    own, _ = indexes
    own.offer("9.9.0+cpu")
    own.offer("9.9.0+cu130")
    assert torch_build.install(ladder, "cuda") == "cuda"
    assert torch_build.installed_version(ladder) == "9.9.0+cu130"


# -- the question


def on_a_terminal(typed: bytes, early: bytes = b"", language: str = "C") -> tuple[bool, str]:
    """Return True if the question counts as answered with yes, and the screen."""
    if os.name == "nt":
        pytest.skip("the terminal is a pseudo-terminal")
    controller, terminal = os.openpty()
    program = (
        "import sys, time\n"
        "from bilingual_chat.bootstrap import console\n"
        "sys.stderr.write('ready'); sys.stderr.flush(); time.sleep(0.5)\n"
        "sys.exit(40 + console.confirms('bootstrap.torch-question'))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=terminal,
        stderr=terminal,
        env={**os.environ, "LC_ALL": language, "PYTHONUTF8": "1"},
    )
    os.close(terminal)
    screen = read_until(controller, b"ready")
    os.write(controller, early)
    screen += read_until(controller, b"[y/N] ")
    os.write(controller, typed)
    status = process.wait(timeout=60)
    os.close(controller)
    assert status in (40, 41), screen
    return status == 41, screen.decode()


def read_until(controller: int, end: bytes) -> bytes:
    seen = b""
    while end not in seen:
        seen += os.read(controller, 1000)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "agrees"),
    [("y\n", True), ("Ｙ\n", True), ("はい\n", True), ("YES \n", True), ("\n", False), ("n\n", False), ("\x04", False)],
)
def test_only_a_yes_is_a_yes(typed: str, agrees: bool) -> None:
    assert on_a_terminal(typed.encode())[0] is agrees


@pytest.mark.slow
def test_the_question_states_the_size_in_both_languages() -> None:
    assert "3 GB" in on_a_terminal(b"n\n")[1]
    assert "約 3 GB" in on_a_terminal(b"n\n", language="ja_JP.UTF-8")[1]


@pytest.mark.slow
def test_keys_typed_before_the_question_do_not_answer_it() -> None:
    """A "y" typed too early was meant for the chat."""
    assert not on_a_terminal(b"\n", early=b"y\n")[0]

"""Every model that cannot be located or opened, from the command line: one sentence, status 3, no files left."""

from __future__ import annotations

import io
import json
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from bilingual_chat import messages
from bilingual_chat.cli import command_line
from bilingual_chat.engines import device
from bilingual_chat.messages.errors import ExitStatus
from bilingual_chat.settings import catalogue
from bilingual_chat.settings.config import load_config
from bilingual_chat.storage import safe_stat
from tests.loopback_hub import WEIGHTS, Hub
from tests.model_cards import CARDS, install, random_model

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]  # a model is made, and torch imported

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 7592000000\n"
PICKLE = "pytorch_model.bin"
Damage = Callable[[Path], object]


@pytest.fixture(params=[WEIGHTS, PICKLE])
def model(request: pytest.FixtureRequest, tmp_path: Path, home: Path) -> Path:
    """A directory as a user copies it from the hub's cache; both formats of weights."""
    install("ppo", random_model(CARDS["ppo"]), request.param)
    entry = load_config().catalogue["ppo"]
    snapshot = catalogue.locate(entry)
    assert snapshot is not None
    directory = Path(shutil.copytree(snapshot, tmp_path / "mine"))
    shutil.rmtree(catalogue.hub_folder(entry.hub_id).parents[2])
    return directory


def everything_below(*directories: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for each in directories for path in each.rglob("*") if path.is_file()}


@pytest.fixture
def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path
) -> Callable[..., str]:
    """Return bchat's English error: one sentence, status 3, no files left."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        sentences = []
        for lang in messages.LANGUAGES:
            monkeypatch.setattr(sys, "argv", ["bchat", "--lang", lang, *arguments])
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
            before = everything_below(home, tmp_path)
            status = command_line.main()
            out, err = capsys.readouterr()
            assert (status, out) == (ExitStatus.MODEL, "")
            assert err.count("\n") == 1, err
            assert everything_below(home, tmp_path) == before
            sentences.append(err)
        assert sentences[0] != sentences[1]
        return sentences[0]

    return run


def keep(share: float) -> Damage:
    def cut(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return cut


def flip(at: int) -> Damage:
    """Damage one byte of the header."""

    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[at] ^= 0xFF
        path.write_bytes(data)

    return change


def put(data: bytes) -> Damage:
    return lambda path: path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (Path.unlink, "is incomplete: model.safetensors is missing"),
        (put(b""), "is empty. Download the model again"),
        (put(POINTER), "is a Git LFS pointer, not the file itself. Run `git lfs pull` there"),
        (put(b"<html>not found</html>" * 100), "is damaged, or not a weights file. Download the model again"),
        (keep(0.3), "Download the model again"),
        (keep(0.999), "Download the model again"),
        (flip(3), "Download the model again"),
    ],
    ids=["missing", "empty", "pointer", "a page", "cut at 30 %", "cut at the end", "flipped"],
)
def test_weights_that_are_not_whole(model: Path, said: Callable[..., str], damage: Damage, sentence: str) -> None:
    (weights,) = (path for path in model.iterdir() if path.name in (WEIGHTS, PICKLE))
    damage(weights)
    assert sentence in said("ask", "--model", str(model), "Hello")


@pytest.mark.parametrize(
    ("name", "damage", "sentence"),
    [
        ("config.json", Path.unlink, "config.json is missing"),
        ("spiece.model", Path.unlink, "spiece.model is missing"),
        ("config.json", put(b"{"), "has invalid content. Download the model again"),
        ("spiece.model", put(b"pieces"), "is not a sentencepiece model, or it is damaged. Download the model again"),
        ("spiece.model", put(POINTER), "is not a sentencepiece model, or it is damaged. Download the model again"),
    ],
)
def test_a_directory_that_is_no_model(
    model: Path, said: Callable[..., str], name: str, damage: Damage, sentence: str
) -> None:
    damage(model / name)
    assert sentence in said("ask", "--model", str(model), "Hello")


def test_a_foreign_architecture(model: Path, said: Callable[..., str]) -> None:
    """Its tokenizer is sentencepiece's, but the model is a Llama."""
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    assert "cannot open models of type 'llama'" in said("ask", "--model", str(model), "Hello")


def test_too_little_memory(model: Path, said: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With figures, and a smaller model that would fit."""
    monkeypatch.setattr(device, "available_memory", lambda: 1_000_000)
    sentence = said("ask", "--model", str(model), "Hello")
    assert "MB of memory, but only 1.0 MB are free; close other programs, or choose a smaller model" in sentence


def test_no_directory_and_no_such_name(said: Callable[..., str]) -> None:
    assert "There is no directory /no/such" in said("ask", "--model", "/no/such", "Hello")
    assert "There is no model 'stf'. Did you mean sft?" in said("ask", "--model", "stf", "Hello")
    assert "There is no model 'stf'. Did you mean sft?" in said("pull", "stf")
    assert "There is no model 'stf'. Did you mean sft?" in said("rm", "stf")
    assert "There is no model 'stf'. Did you mean sft?" in said("models", "stf")


def test_a_model_that_is_not_here(said: Callable[..., str]) -> None:
    assert "The model ppo is not on this machine" in said("ask", "--model", "ppo", "Hello")
    assert "The model ppo is not on this machine" in said("models", "ppo", "--verify")


@pytest.fixture
def tiny(served: Hub, tmp_path: Path) -> list[str]:
    """Options that name the model of the loopback hub."""
    (tmp_path / "tiny.toml").write_text('[models.tiny]\nhub_id = "someone/tiny"\n')
    return ["--config", str(tmp_path / "tiny.toml")]


def test_no_network(tiny: list[str], said: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert "Check the network" in said(*tiny, "pull", "tiny")


def test_too_little_disk(tiny: list[str], said: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_stat.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000))
    assert "The download needs" in said(*tiny, "pull", "tiny")


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (404, "has no repository someone/tiny, or it is private"),
        (429, "limits requests. Try again in"),
        (503, "answered with HTTP status 503. Try again later"),
    ],
)
def test_a_hub_that_refuses(tiny: list[str], served: Hub, said: Callable[..., str], status: int, sentence: str) -> None:
    served.status["main"] = status
    assert sentence in said(*tiny, "pull", "tiny")

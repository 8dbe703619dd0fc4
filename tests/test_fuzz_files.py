"""The whole program over damaged files, links and disks: one sentence and a known status in every case.

The files are all that bchat reads automatically: settings, the hub's cache, a model's directory, bchat's own caches.
`FUZZ_CASES=100000 python3 -m tests tests/test_fuzz_files.py` runs longer; a failure names its number, and
`FUZZ_FIRST=NUMBER FUZZ_CASES=1` runs that one again.
"""

from __future__ import annotations

import errno
import io
import json
import os
import random
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bilingual_chat.cli import command_line
from bilingual_chat.messages.errors import ExitStatus
from bilingual_chat.settings.catalogue import hub_folder
from bilingual_chat.storage import checksums, paths

CASES = int(os.environ.get("FUZZ_CASES", "2000"))
FIRST = int(os.environ.get("FUZZ_FIRST", "0"))
SLICES = min(6, CASES)
COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
MOST_SAID = 200_000  # characters

SETTINGS = """\
model = "demo"
preset = "calm"
lang = "en"
persona = "a friend"
[decoding]
temperature = 0.7
seed = 3
[presets.calm]
top_k = 20
description.en = "calm"
[models.tiny]
hub_id = "someone/tiny"
revision = "main"
aliases = ["small"]
context_length = 64
parameters = 1000
scores = { a = 1.5 }
weights_md5 = { "pytorch_model.bin" = "00000000000000000000000000000000" }
withdrawn_md5 = ["11111111111111111111111111111111"]
description.en = "tiny"
prompt = { separator = "\\n", user_label = "U" }
[models.own]
directory = "~/own"
kind = "base"
"""
INDEX = json.dumps({"weight_map": {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}})
HEADER = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + b"\0" * 4
SIZES = {"vocab_size": 5120, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 64, "max_position_embeddings": 64}
CONFIG = json.dumps({"model_type": "gpt_neox", "_name_or_path": "someone/tiny", "eos_token_id": 2, **SIZES})

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("models",),
    ("models",),
    ("models", "tiny"),
    ("models", "own"),
    ("models", "~/own"),
    ("models", "--verify"),
    ("models", "tiny", "--verify"),
    ("models", "own", "--verify"),
    ("pull", "tiny"),
    ("rm", "own"),
    ("rm", "tiny"),
    ("ask", "--model", "tiny", "Hello"),
    ("ask", "--model", "own", "Hello"),
    ("ask", "--model", "nothing", "Hello"),
)
# What a value may be instead; TOML and JSON both take most of these.
VALUES = (
    '"a\\u0000b"',
    '"../../x"',
    '"/"',
    '"~nobody/x"',
    '"' + "x" * 5000 + '"',
    '"\\ud800"',
    '"\x1b[31m"',
    '""',
    "9" * 50,
    "9" * 5000,
    "-1",
    "1e999",
    "nan",
    "NaN",
    "-inf",
    "0x" + "f" * 5000,
    "true",
    "null",
    "[]",
    "[[1]]",
    "[" * 3000,
    "{}",
    '{"a": {"a": []}}',
    '{ a = { "b.c" = [1, { d = 2 }] } }',
    "1979-05-27T07:32:00Z",
    ".".join("a" * 100),
)
VALUE = re.compile(rb'"(?:[^"\\\n]|\\.)*"|[\d.]+|true|false|null|\[[^\[\]\n]*\]|\{[^{}\n]*\}')
ERRORS = (errno.EACCES, errno.EIO, errno.ELOOP, errno.ESTALE, errno.ENOTCONN, errno.ENOMEM, errno.EMFILE, errno.ENOSPC)
CALLS = ("stat", "lstat", "open", "listdir", "scandir", "mkdir", "replace", "rename", "unlink", "rmdir", "fsync")


class World:
    """The files of bchat, intact, and damaged in one case."""

    def __init__(self, home: Path, project: Path) -> None:
        snapshot = hub_folder("someone/tiny") / "snapshots" / COMMIT
        own = home / "own"
        self.files: dict[Path, bytes] = {
            paths.config_file(): SETTINGS.encode(),
            project / "bchat.toml": b"[decoding]\ntop_p = 0.9\n",
            hub_folder("someone/tiny") / "refs" / "main": COMMIT.encode(),
            paths.state_dir() / "offer": b"shown",
        }
        pieces = (paths.demo_model_dir() / "spiece.model").read_bytes()
        for directory in (snapshot, own):
            self.files |= {directory / "config.json": CONFIG.encode(), directory / "spiece.model": pieces}
        self.files |= {snapshot / "model.safetensors": WEIGHTS, own / "pytorch_model.bin.index.json": INDEX.encode()}
        self.files |= {own / f"pytorch_model-0000{number}-of-00002.bin": b"PK\x03\x04" for number in (1, 2)}
        kept = paths.cache_dir() / "converted" / ("0" * 32) / "model.safetensors"
        source = json.dumps({"__metadata__": {"bchat.source": json.dumps([["/nowhere", 1, 2, 3]])}}).encode()
        self.files[kept] = len(source).to_bytes(8, "little") + source
        self.roots = (home, project)
        self.restore()
        for path in (snapshot / "model.safetensors", own / "pytorch_model-00001-of-00002.bin"):
            checksums.compute_digests(path, (checksums.SHA256, checksums.MD5), lambda count: None)
        store = paths.cache_dir() / "checked.json"
        self.files[store] = store.read_bytes()

    def restore(self) -> None:
        for root in self.roots:
            for path in root.iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for path, data in self.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def damage(self, chance: random.Random) -> None:
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            path = chance.choice(list(self.files))
            if path.is_file() and not path.is_symlink():
                chance.choice((change, change, change, self._put_in_place))(path, self.files[path], chance)

    def _put_in_place(self, path: Path, data: bytes, chance: random.Random) -> None:
        """Not a file, or a large one; or the directory is not one."""
        path.unlink()
        kind = chance.randrange(8)
        if kind == 0:
            path.mkdir()
        elif kind == 1 and hasattr(os, "mkfifo"):
            os.mkfifo(path)
        elif kind == 2:
            path.symlink_to(path)
        elif kind == 3:
            path.symlink_to("/dev/zero")
        elif kind == 4:
            path.symlink_to("/nowhere/at/all")
        elif kind == 5:
            path.write_bytes(chance.choice((b"[", b"{", b"a", b'"a": [],', b"\0", b"1")) * 400_000)
        elif kind == 6 and path.parent not in self.roots:  # pytest cannot clear away a loop there
            shutil.rmtree(path.parent)
            path.parent.symlink_to(path.parent)


def change(path: Path, data: bytes, chance: random.Random) -> None:
    """Other bytes, other values, or other lines."""
    kind, at = chance.randrange(6), chance.randrange(len(data) + 1)
    values = list(VALUE.finditer(data))
    if kind < 3 and values:
        found = chance.choice(values)
        new = chance.choice(VALUES).encode("utf-8", "surrogatepass")
        data = data[: found.start()] + new + data[found.end() :]
    elif kind == 3:
        data = data[:at]
    elif kind == 4:
        data = data[:at] + chance.randbytes(chance.choice((1, 8, 300))) + data[at:]
    else:
        lines = data.splitlines(keepends=True)
        chance.shuffle(lines)
        data = b"".join(lines * chance.choice((1, 2)))
    path.write_bytes(data)


@contextmanager
def disk_that_fails(chance: random.Random, roots: tuple[Path, ...]) -> Iterator[None]:
    """Calls on these files fail: one, some, or all below a directory."""
    number, rate, calls = chance.choice(ERRORS), chance.choice((0.05, 0.5, 1.0)), set(chance.sample(CALLS, 3))
    below = str(chance.choice([each for root in roots for each in (root, *sorted(root.rglob("*")))]))
    real = {name: getattr(os, name) for name in calls}

    def failing(name: str) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(path, str | Path) and str(path).startswith(below) and chance.random() < rate:
                raise OSError(number, os.strerror(number), str(path))
            return real[name](path, *args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in calls:
            patch.setattr(os, name, failing(name))
        yield


@pytest.fixture
def world(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    return World(home, tmp_path)


def run(arguments: tuple[str, ...], chance: random.Random, roots: tuple[Path, ...]) -> int:
    sys.argv = ["bchat", "--lang", chance.choice(("en", "ja")), *arguments]
    if chance.random() < 0.7:
        return int(command_line.main())
    with disk_that_fails(chance, roots):
        return int(command_line.main())


def where(error: Exception) -> str:
    """The innermost lines of bchat in its traceback, and the exception."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if "bilingual_chat" in frame.filename]
    return " > ".join([*(f"{Path(each.filename).name}:{each.lineno}" for each in own[-3:]), repr(error)])


def caught_by(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """The exceptions that bchat would report as unexpected, from now on."""
    unforeseen: list[Exception] = []
    for module in ("bilingual_chat.cli.command_line", "bilingual_chat.cli.errors"):
        monkeypatch.setattr(sys.modules[module], "report_unexpected", lambda error, display: unforeseen.append(error))
    return unforeseen


@pytest.mark.slow
@pytest.mark.parametrize("slice_number", range(SLICES))
def test_no_damaged_file_is_more_than_a_sentence(
    world: World,
    slice_number: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No unexpected error, no unknown status, no control character, no screenful of garbage."""
    unforeseen = caught_by(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["bchat"])
    try:
        for number in range(FIRST + slice_number, FIRST + CASES, SLICES):
            chance = random.Random(number)
            world.damage(chance)
            arguments = chance.choice(COMMANDS)
            status = run(arguments, chance, world.roots)
            said = "".join(capsys.readouterr())
            assert unforeseen == [], (number, arguments, where(unforeseen[0]))
            assert status in set(ExitStatus), (number, arguments, status)
            assert len(said) < MOST_SAID, (number, arguments)
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f]|Traceback", said), (number, arguments, said)
            world.restore()
    finally:
        world.restore()


def test_this_would_be_seen(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The test above detects an unexpected exception."""
    unforeseen: list[Exception] = []
    monkeypatch.setattr(
        sys.modules["bilingual_chat.cli.errors"], "report_unexpected", lambda error, display: unforeseen.append(error)
    )
    monkeypatch.setattr(paths, "shipped_config", lambda name: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["bchat", "models"])
    assert command_line.main() == ExitStatus.FAILED
    assert isinstance(unforeseen[0], ZeroDivisionError)

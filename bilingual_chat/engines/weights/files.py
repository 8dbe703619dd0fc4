"""The files of a model directory: finds them and refuses unusable ones. No torch here."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import CONFIG_FILE, TOKENIZER_FILES, WEIGHT_FILES
from bilingual_chat.storage import os_errors, safe_read, safe_stat
from bilingual_chat.storage.checksums import short_digest

_POINTER = b"version https://git-lfs.github.com/spec/"
_BLOCKS, _BLOCK = 4096, 4096  # samples of a file, and their bytes


def read_json(
    path: Path, most: int = safe_read.JSON_LIMIT, most_values: int = safe_read.VALUES_LIMIT
) -> dict[str, Any]:
    """Return the JSON object in `path`. Raises BchatError (MODEL): missing, a pointer, too large, not an object."""
    check_file(path)
    try:
        return safe_read.read_json(path, most, most_values)
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError:
        raise refused("engine.json", path) from None


def find_weights(directory: Path) -> list[Path]:
    """Return the weight files of a model directory, several if it is sharded. Raises BchatError (MODEL)."""
    for name in WEIGHT_FILES:
        path = directory / name
        if safe_stat.is_file(path):
            return _shards(path) if name.endswith(".index.json") else [path]
    raise BchatError("engine.weights-missing", status=ExitStatus.MODEL, directory=str(directory))


def digest_model(directory: Path) -> str:
    """Return a digest of everything that decides the logits: config.json and the weight files, with their sizes.

    A file of at most 16 MiB is read whole, of a larger one 4096 blocks of 4 KiB at equal distances: other weights
    differ in every block, so this is enough to tell models apart. Damage is found by `hub.verify`.
    Raises BchatError (MODEL).
    """
    return _digest([directory / CONFIG_FILE, *find_weights(directory)])


def digest_tokenizer(directory: Path) -> str:
    """Return a digest of the tokenizer's files, a chat template among them. Raises BchatError (MODEL)."""
    return _digest([path for name in TOKENIZER_FILES if safe_stat.is_file(path := directory / name)])


def _digest(files: list[Path]) -> str:
    return short_digest(*(part for path in files for part in _samples(path)))


def _samples(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            yield b"%d:" % size
            distance = max(_BLOCK, size // _BLOCKS)
            for start in range(0, size, distance):
                file.seek(start)
                yield file.read(_BLOCK)
    except OSError as error:
        raise unreadable(path, error) from None


def check_file(path: Path) -> None:
    """Raise BchatError (MODEL) unless `path` is a regular file, not empty, and no Git-LFS pointer."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise refused("engine.file-missing", path)
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except OSError as error:
        raise unreadable(path, error) from None
    if not start:
        raise refused("engine.file-empty", path)
    if start == _POINTER:
        raise refused("engine.file-pointer", path)


def refused(key: str, path: Path, **values: object) -> BchatError:
    """Return the error for a file of a model."""
    return BchatError(key, status=ExitStatus.MODEL, file=path.name, directory=str(path.parent), **values)


def unreadable(path: Path, error: OSError) -> BchatError:
    """Return the error for a file that the system cannot read."""
    if isinstance(error, FileNotFoundError):
        return refused("engine.file-missing", path)
    return refused("engine.file-unreadable", path, reason=os_errors.reason(error))


def _shards(index: Path) -> list[Path]:
    """Return the files that an index names; each must be a plain name in the index's directory."""
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(name, str) for name in files.values()):
        raise refused("engine.json", index)
    suffix = ".safetensors" if ".safetensors." in index.name else ".bin"
    names = sorted(set(files.values()))
    if any("/" in name or "\\" in name or "\0" in name or not name.endswith(suffix) for name in names):
        raise refused("engine.json", index)
    return [index.parent / name for name in names]

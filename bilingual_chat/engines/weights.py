"""Weights from a model directory, tensor by tensor, and a clear word when they are not what they should be.

Only safetensors and tensors-only pickles are read; nothing in a file is ever executed.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bilingual_chat.errors import BchatError, ExitStatus

# In this order: the first that is there is read.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Masks and tables that older versions of transformers saved; they are computed, not learned.
_HARMLESS = re.compile(
    r"(gpt_neox\.)?(layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)|rotary_emb\.inv_freq)"
)
_ALSO_CALLED = {"lm_head.weight": "embed_out.weight"}
_KINDS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_POINTER = b"version https://git-lfs.github.com/spec/"
_MOST_HEADER = 100_000_000  # bytes; safetensors' own bound
_MOST_JSON = 64 << 20


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`. Raises BchatError (MODEL): missing, a pointer, too large, not an object."""
    _check_file(path)
    try:
        if path.stat().st_size > _MOST_JSON:
            raise ValueError
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _refused("engine.json", path)
    return value


def find_weights(directory: Path) -> list[Path]:
    """The weight files of a model directory; several where it is sharded. Raises BchatError (MODEL)."""
    for name in WEIGHT_FILES:
        path = directory / name
        if path.is_file():
            return _shards(path) if name.endswith(".index.json") else [path]
    raise BchatError("engine.weights-missing", status=ExitStatus.MODEL, directory=str(directory))


def load_weights(
    paths: list[Path], shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    """Every tensor of `shapes`, as `dtype` on `device`.

    Converted one at a time, so that no second copy of a model is ever in memory; tensors that are
    stored as `dtype` stay mapped to the file. An output head in the file of a tied model is kept.
    Raises BchatError (MODEL) for missing, foreign or misshapen tensors and for unreadable files.
    """
    vocabulary_shape = shapes["gpt_neox.embed_in.weight"]
    weights: dict[str, Tensor] = {}
    for path in paths:
        for stored_name, tensor in read_tensors(path):
            name = _ALSO_CALLED.get(stored_name, stored_name)
            if _HARMLESS.fullmatch(name):
                continue
            expected = shapes.get(name, vocabulary_shape if name == "embed_out.weight" else None)
            if expected is None:
                raise _refused("engine.weights-foreign", path, name=name)
            _check_tensor(path, name, tensor, expected)
            weights[name] = tensor.detach().to(device, dtype).contiguous()
    missing = [name for name in shapes if name not in weights]
    if missing:
        raise _refused("engine.weights-incomplete", paths[0], name=missing[0], count=len(missing))
    return weights


def stored_dtype(paths: list[Path]) -> torch.dtype | None:
    """The dtype of the first learned tensor; config.json is known to be wrong about it."""
    for path in paths:
        for name, tensor in read_tensors(path):
            if not _HARMLESS.fullmatch(name):
                return tensor.dtype
    return None


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor, lazily, of one weight file. Raises BchatError (MODEL) if it is not one."""
    _check_file(path)
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def _read_safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    _check_safetensors_length(path)
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                yield name, file.get_tensor(name)
    except SafetensorError:
        raise _refused("engine.weights-damaged", path) from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _check_safetensors_length(path: Path) -> None:
    """Tell a file that was cut off from one that was never safetensors; the library's words say neither."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            begins_well = file.read(1) == b"{" and length <= _MOST_HEADER
            file.seek(8)
            header = file.read(length) if begins_well else b""
    except OSError as error:
        raise _unreadable(path, error) from None
    size = path.stat().st_size
    if not begins_well:
        raise _refused("engine.weights-cut" if size < 9 else "engine.weights-damaged", path)
    try:
        entries = json.loads(header) if len(header) == length else None
        spans = [entry["data_offsets"] for name, entry in (entries or {}).items() if name != "__metadata__"]
        whole = max((int(end) for _, end in spans), default=0) + 8 + length
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _refused("engine.weights-damaged", path) from None
    if entries is None or size < whole:
        raise _refused("engine.weights-cut", path)


def _read_pickle(path: Path) -> Iterator[tuple[str, Tensor]]:
    _check_zip(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise _refused("engine.weights-code", path) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    except MemoryError:
        raise
    except Exception:  # torch.load raises whatever its parser trips over in a damaged file
        raise _refused("engine.weights-damaged", path) from None
    if not isinstance(state, dict):
        raise _refused("engine.weights-damaged", path)
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise _refused("engine.weights-damaged", path)
        yield name, tensor


def _check_zip(path: Path) -> None:
    """The zip that torch.save writes: whole, and with nothing compressed (it is mapped, not unpacked)."""
    try:
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
        if not is_zip:
            raise _refused("engine.weights-damaged", path)
        with zipfile.ZipFile(path) as archive:
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
    except OSError as error:
        raise _unreadable(path, error) from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise _refused("engine.weights-cut", path) from None
    if not stored:
        raise _refused("engine.weights-damaged", path)


def _check_tensor(path: Path, name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != expected:
        shape, wanted = "×".join(map(str, tensor.shape)), "×".join(map(str, expected))
        raise _refused("engine.weights-shape", path, name=name, shape=shape, expected=wanted)
    if tensor.dtype not in _KINDS or tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise _refused("engine.weights-kind", path, name=name, kind=str(tensor.dtype).removeprefix("torch."))


def _check_file(path: Path) -> None:
    """A regular file with something in it that is not a Git-LFS pointer; else BchatError (MODEL)."""
    try:
        if not path.is_file():
            raise _refused("engine.file-missing", path)
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except OSError as error:
        raise _unreadable(path, error) from None
    if not start:
        raise _refused("engine.file-empty", path)
    if start == _POINTER:
        raise _refused("engine.file-pointer", path)


def _shards(index: Path) -> list[Path]:
    """The files an index names; each must be a plain name, in the index's own directory."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise _refused("engine.json", index)
    suffix = ".safetensors" if ".safetensors." in index.name else ".bin"
    names = sorted(set(places.values()))
    if any("/" in name or "\\" in name or "\0" in name or not name.endswith(suffix) for name in names):
        raise _refused("engine.json", index)
    return [index.parent / name for name in names]


def _refused(key: str, path: Path, **values: object) -> BchatError:
    return BchatError(key, status=ExitStatus.MODEL, file=path.name, directory=str(path.parent), **values)


def _unreadable(path: Path, error: OSError) -> BchatError:
    return _refused("engine.file-unreadable", path, reason=error.strerror or type(error).__name__)

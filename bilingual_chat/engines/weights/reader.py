"""Reads weights tensor by tensor, and refuses unusable files with a clear error.

Reads only safetensors and pickles of tensors; never executes anything in a file.
"""

from __future__ import annotations

import math
import os
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bilingual_chat.engines.neox.config import EMBEDDING, HEAD
from bilingual_chat.engines.weights.files import check_file, refused, unreadable
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.storage import safe_read

# The pages of a mapped file count as this process's memory: map the file anew after so many bytes.
BATCH = 256 << 20
# Computed masks and tables, which older versions of transformers saved.
_HARMLESS = re.compile(
    r"(gpt_neox\.)?(layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)|rotary_emb\.inv_freq)"
)
_ALSO_CALLED = {"lm_head.weight": HEAD}
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_MOST_HEADER = 16 << 20  # bytes; the largest models need two
_MOST_PICKLE = 2 << 20  # bytes that describe the tensors, 150 each
_MOST_DIRECTORY = 16 << 20  # bytes of the zip's central directory
_ZIP_END, _ZIP64_END = b"PK\x05\x06", b"PK\x06\x06"


@dataclass(frozen=True)
class Stored:
    """One learned tensor in a file: its name there and in bchat, its shape and dtype."""

    path: Path
    stored_name: str
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def survey(paths: Iterable[Path], shapes: Mapping[str, tuple[int, ...]]) -> list[Stored]:
    """Return the tensors of `shapes` in these files, without reading values. Accepts the head of a tied model.

    Raises BchatError (MODEL) for missing, unexpected or misshapen tensors and for unreadable files.
    """
    paths = list(paths)
    vocabulary_shape = shapes[EMBEDDING]
    found: dict[str, Stored] = {}
    for path in paths:
        for stored_name, tensor in read_tensors(path):
            name = _ALSO_CALLED.get(stored_name, stored_name)
            if _HARMLESS.fullmatch(name):
                continue
            expected = shapes.get(name, vocabulary_shape if name == HEAD else None)
            if expected is None:
                raise refused("engine.weights-foreign", path, name=name)
            _check_tensor(path, name, tensor, expected)
            found[name] = Stored(path, stored_name, name, expected, tensor.dtype)
    missing = [name for name in shapes if name not in found]
    if missing:
        raise refused("engine.weights-incomplete", paths[0], name=missing[0], count=len(missing))
    return list(found.values())


def load_weights(tensors: Sequence[Stored], dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """Return these tensors by name, as `dtype` on `device`.

    Converts one at a time and maps the file anew now and then, so that memory never holds a second copy of the model.
    Tensors stored as `dtype` stay mapped to the file.
    """
    copied = sum(each.count * dtype.itemsize for each in tensors if each.dtype != dtype or device.type != "cpu")
    batch = BATCH if copied > BATCH else None
    return {
        stored.name: tensor.detach().to(device, dtype).contiguous() for stored, tensor in read_stored(tensors, batch)
    }


def read_stored(tensors: Sequence[Stored], batch: int | None = BATCH) -> Iterator[tuple[Stored, Tensor]]:
    """Yield each tensor, mapped; after `batch` bytes the file is mapped anew."""
    for path, wanted in _batches(tensors, batch):
        for stored_name, tensor in read_tensors(path, wanted):
            yield wanted[stored_name], tensor


def stored_dtype(paths: Iterable[Path]) -> torch.dtype | None:
    """Return the dtype of most stored weights; config.json is often wrong about it."""
    counts = count_stored(paths)
    return counts.most_common(1)[0][0] if counts else None


def count_stored(paths: Iterable[Path]) -> Counter[torch.dtype]:
    """Count the stored weights by dtype; reads headers only."""
    counts: Counter[torch.dtype] = Counter()
    for path in paths:
        for name, tensor in read_tensors(path):
            if not _HARMLESS.fullmatch(name):
                counts[tensor.dtype] += tensor.numel()
    return counts


def read_tensors(path: Path, names: Collection[str] | None = None) -> Iterator[tuple[str, Tensor]]:
    """Yield name and tensor of one weight file, lazily. Raises BchatError (MODEL) for anything else.

    names: the tensors to read; None reads all.
    """
    check_file(path)
    return _read_safetensors(path, names) if path.suffix == ".safetensors" else _read_pickle(path, names)


def _batches(tensors: Sequence[Stored], batch: int | None) -> Iterator[tuple[Path, dict[str, Stored]]]:
    """Yield tensors of one file by stored name, at least one and at most `batch` bytes at a time."""
    part: dict[str, Stored] = {}
    size = 0
    path: Path | None = None
    for each in tensors:
        more = each.count * each.dtype.itemsize
        if path is not None and (each.path != path or (batch is not None and size + more > batch)):
            yield path, part
            part, size = {}, 0
        path = each.path
        part[each.stored_name] = each
        size += more
    if path is not None:
        yield path, part


def _read_safetensors(path: Path, names: Collection[str] | None) -> Iterator[tuple[str, Tensor]]:
    _check_safetensors_length(path)
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                if names is None or name in names:
                    yield name, file.get_tensor(name)
    except SafetensorError:
        raise refused("engine.weights-damaged", path) from None
    except OSError as error:
        raise unreadable(path, error) from None


def _check_safetensors_length(path: Path) -> None:
    """Refuse a truncated file, and a file that is not safetensors; the library reports both alike."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            begins_well = file.read(1) == b"{" and length <= _MOST_HEADER
            file.seek(8)
            header = file.read(length) if begins_well else b""
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise unreadable(path, error) from None
    if not begins_well:
        raise refused("engine.weights-cut" if size < 9 else "engine.weights-damaged", path)
    try:
        entries = safe_read.parse_json(header) if len(header) == length else None
        spans = [entry["data_offsets"] for name, entry in (entries or {}).items() if name != "__metadata__"]
        whole = max((int(end) for _, end in spans), default=0) + 8 + length
    except (ArithmeticError, ValueError, TypeError, KeyError, AttributeError):
        raise refused("engine.weights-damaged", path) from None
    if entries is None or size < whole:
        raise refused("engine.weights-cut", path)


def _read_pickle(path: Path, names: Collection[str] | None) -> Iterator[tuple[str, Tensor]]:
    _check_zip(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise refused("engine.weights-code", path) from None
    except OSError as error:
        raise unreadable(path, error) from None
    except (MemoryError, BchatError):
        raise
    except Exception:  # torch.load raises anything for a damaged file
        raise refused("engine.weights-damaged", path) from None
    if not isinstance(state, dict):
        raise refused("engine.weights-damaged", path)
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise refused("engine.weights-damaged", path)
        if names is None or name in names:
            yield name, tensor


def _check_zip(path: Path) -> None:
    """Refuse anything but a complete zip of torch.save, without compression (bchat maps it, never unpacks it)."""
    try:
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04" and _directory_size(file) <= _MOST_DIRECTORY
        if not is_zip:
            raise refused("engine.weights-damaged", path)
        with zipfile.ZipFile(path) as archive:
            is_plain = all(map(_is_plain, archive.infolist()))
    except OSError as error:
        raise unreadable(path, error) from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise refused("engine.weights-cut", path) from None
    if not is_plain:
        raise refused("engine.weights-damaged", path)


def _is_plain(member: zipfile.ZipInfo) -> bool:
    is_description = member.filename.endswith(".pkl")
    return member.compress_type == zipfile.ZIP_STORED and not (is_description and member.file_size > _MOST_PICKLE)


def _directory_size(file: BinaryIO) -> int:
    """Return the bytes of the central directory, which `zipfile` reads at once; 0 if there is none."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - (1 << 17), 0))
    tail = file.read()
    at, at64 = tail.rfind(_ZIP_END), tail.rfind(_ZIP64_END)
    short = int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0
    return int.from_bytes(tail[at64 + 40 : at64 + 48], "little") if short == 0xFFFFFFFF and at64 >= 0 else short


def _check_tensor(path: Path, name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != expected:
        shape, wanted = "×".join(map(str, tensor.shape)), "×".join(map(str, expected))
        raise refused("engine.weights-shape", path, name=name, shape=shape, expected=wanted)
    if tensor.dtype not in _DTYPES or tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise refused("engine.weights-kind", path, name=name, kind=str(tensor.dtype).removeprefix("torch."))

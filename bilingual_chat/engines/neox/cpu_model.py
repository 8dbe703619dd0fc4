"""GPT-NeoX on a CPU at the speed of its memory: kernels/, compiled once by the machine's own C compiler.

`CpuNeox` does what `GptNeox` does. Where they cannot be compiled or loaded, torch computes, and
`kernel_problem` says why.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ctypes import POINTER, Structure, c_float, c_int, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bilingual_chat.engines.neox.torch_model import HEAD, KVCache, NeoxConfig, rotary_angles
from bilingual_chat.engines.precision import find_compiler
from bilingual_chat.engines.weights.quantized_matrix import QuantizedMatrix
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.storage import paths, writing

SOURCE = Path(__file__).parents[1] / "kernels" / "layer.c"  # and what it includes, beside it
COMPILE_S = 120
LONGEST_LINE = 200  # characters of a compiler's message in a sentence
MOST_LOG = 1 << 20  # bytes
_KINDS = {torch.float32: 0, torch.bfloat16: 1}
_INT8, _INT4 = 2, 3
_ACTIVATIONS = {"gelu": 0, "gelu_new": 1, "gelu_fast": 1, "gelu_pytorch_tanh": 1, "relu": 2}
_HEAD_STEP = 32
_MOST_HEAD = 1024  # the numbers of one head that the kernels have room for
_COLUMNS = 64  # of a matrix, at a time
_MOST_COLUMNS = 1 << 16  # whose products of bytes add up within 32 bits


class _Matrix(Structure):
    _fields_ = (
        ("numbers", c_void_p),
        ("levels", c_void_p),
        ("scales", c_void_p),
        ("bias", c_void_p),
        ("rows", c_int64),
        ("columns", c_int64),
        ("kind", c_int32),
        ("parts", c_int32),
    )


class _Layer(Structure):
    _fields_ = (("matrices", _Matrix * 4), ("norm", c_void_p * 4))


class _Shape(Structure):
    _fields_ = (
        *((name, c_int32) for name in ("hidden", "heads", "head_size", "wide", "rotary_dims", "parallel")),
        ("activation", c_int32),
        ("narrow", c_int32),
        ("narrow_cache", c_int32),
        ("epsilon", c_float),
        ("cos", c_void_p),
        ("sin", c_void_p),
    )


class _Places(Structure):
    _fields_ = (("rows", c_int32), *((name, c_void_p) for name in ("position", "keys", "values", "capacity")))


def can_compute(config: NeoxConfig) -> bool:
    """Whether the kernels have code for these sizes."""
    sizes = (config.hidden_size, config.intermediate_size)
    return (
        all(size % _COLUMNS == 0 and size <= _MOST_COLUMNS for size in sizes)
        and config.head_size % _HEAD_STEP == 0
        and config.head_size <= _MOST_HEAD
    )


def load_library() -> ctypes.CDLL | None:
    """The kernels as a library, compiled if need be (some seconds, once a machine); None: see `kernel_problem`."""
    return _loaded()[0]


def kernel_problem() -> Phrase | None:
    """Why `load_library` gives None."""
    return _loaded()[1]


@cache
def _loaded() -> tuple[ctypes.CDLL | None, Phrase | None]:
    try:
        return _load(), None
    except BchatError as error:
        return None, Phrase(error.key, **error.values)
    except OSError as error:  # bchat's own sources cannot be read
        return None, Phrase("native.load", path=SOURCE, reason=error.strerror)


def _load() -> ctypes.CDLL:
    """From bchat's cache, else compiled. Raises BchatError."""
    if sys.platform == "win32":
        raise BchatError("native.windows")
    compiler = find_compiler()
    if compiler is None:
        raise BchatError("native.no-compiler")
    command = [compiler, "-std=gnu11", "-O3", *_tuning(), "-fPIC", "-shared", "-pthread"]
    path = paths.cache_dir() / "native" / f"{_identity(command)}.so"
    try:
        if writing.is_ours(path):  # whoever can put a library there has it run
            return _open(path)
    except BchatError:
        if os.statvfs(path).f_flag & getattr(os, "ST_NOEXEC", 0):  # a new one could not be loaded either
            raise
    _build(command, path)
    return _open(path)


def _open(path: Path) -> ctypes.CDLL:
    try:
        return _declare(ctypes.CDLL(str(path)))
    except (OSError, AttributeError) as error:
        raise BchatError("native.load", path=path, reason=error) from None


def _identity(command: Sequence[str]) -> str:
    """Changes with whatever the compiled library depends on."""
    sources = [path.read_bytes() for path in sorted(SOURCE.parent.glob("*.[ch]"))]
    return hashlib.sha256(b"\0".join([*sources, " ".join(command).encode(), _processor()])).hexdigest()[:32]


def _build(command: Sequence[str], path: Path) -> None:
    """Compile to `path`, whole or not at all. Raises BchatError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        writing.require_our_directory(path.parent)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            _compile([*command, "-o", str(made), str(SOURCE), "-lm"])
            made.chmod(0o700)
            made.replace(path)
    except OSError as error:
        raise BchatError("native.cache", path=path.parent, reason=error.strerror) from None


def _compile(command: list[str]) -> None:
    """Raises BchatError with the cause; what the compiler printed is in a log then."""
    try:
        # A session of its own, so that what it started can be ended with it.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise BchatError("native.cannot-run", compiler=command[0], reason=error.strerror) from None
    try:
        output, _ = process.communicate(timeout=COMPILE_S)
    except subprocess.TimeoutExpired:
        output = _end(process)
        raise BchatError(
            "native.timeout", compiler=command[0], seconds=COMPILE_S, where=_keep_log(command, output)
        ) from None
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        raise BchatError(
            "native.compile",
            compiler=command[0],
            code=process.returncode,
            line=_telling_line(output),
            where=_keep_log(command, output),
        )


def _end(process: subprocess.Popen[bytes]) -> bytes:
    """Kill it and what it started; what it printed."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[0]


def _telling_line(output: bytes) -> str:
    """The first line that names an error, else the first one."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), (lines or ["-"])[0])[:LONGEST_LINE]


def _keep_log(command: list[str], output: bytes) -> Phrase:
    """Where the compiler's output is, or that it could not be kept."""
    path = paths.state_dir() / "compiler.log"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        writing.write(path, " ".join(command).encode() + b"\n" + output[:MOST_LOG])
    except OSError as error:
        return Phrase("native.no-log", path=path, reason=error.strerror)
    return Phrase("native.log", path=path)


def _tuning() -> list[str]:
    """What lets the compiler use all of this processor; Apple's does so by itself."""
    if platform.machine() in ("x86_64", "AMD64"):
        return ["-march=native"]
    return [] if sys.platform == "darwin" else ["-mcpu=native"]


def _processor() -> bytes:
    """Another one in the same home directory needs a library of its own."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
        told = next((line for line in lines if line.startswith((b"flags", b"Features"))), b"")
    except OSError:
        told = b""
    return f"{platform.machine()} {platform.processor()}".encode() + told


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    library.bchat_pool.restype = c_void_p
    library.bchat_pool.argtypes = [c_int]
    library.bchat_layer.argtypes = [c_void_p, POINTER(_Shape), POINTER(_Layer), POINTER(_Places), c_int, c_void_p]
    library.bchat_head.argtypes = [c_void_p, POINTER(_Shape), POINTER(_Matrix), c_void_p, c_int, c_void_p, c_void_p]
    return library


@cache
def _pool(library: ctypes.CDLL, threads: int) -> int:
    """The threads that compute; they live as long as the process and sleep between passes."""
    made = library.bchat_pool(threads)
    if made is None:
        raise MemoryError
    return int(made)


class CpuNeox:
    """The weights, and the pass over them; see `GptNeox`, which has the same methods.

    A row's numbers do not depend on the rows beside it, bit for bit.
    """

    def __init__(
        self,
        config: NeoxConfig,
        weights: Mapping[str, Tensor | QuantizedMatrix],
        library: ctypes.CDLL,
        activation_bytes: int = 2,
    ) -> None:
        """weights: as `config.shapes` names them, on the CPU; matrices may be quantized, HEAD absent if tied.

        activation_bytes: 1 or 2, of what a layer's matrices in int8 are multiplied with; the head takes 2.
        """
        self.config = config
        self._activation_bytes = activation_bytes
        self._library = library
        embedding = weights["gpt_neox.embed_in.weight"]
        assert isinstance(embedding, Tensor)
        self.embedding = embedding
        self.dtype, self.device = self.embedding.dtype, self.embedding.device
        self._kept: list[Tensor] = []  # what the kernels point to
        self._pool = _pool(library, torch.get_num_threads())
        self._shape = self._describe_shape()
        self._layers = [self._describe_layer(weights, f"gpt_neox.layers.{at}.") for at in range(config.layers)]
        self._head = self._describe_matrix(weights.get(HEAD, self.embedding), None, parts=2)
        norm = [self._keep(weights[f"gpt_neox.final_layer_norm.{part}"], torch.float32) for part in ("weight", "bias")]
        self._norm = (c_void_p * 2)(*norm)

    @torch.inference_mode()
    def run(self, ids: Tensor, start: int, cache: KVCache, wanted: int | None = None) -> Tensor:
        """Hidden states, float32 (wanted, hidden), of the last of `ids` (rows,) at positions from `start` on.

        See `GptNeox.run`.
        """
        return self.run_rows(ids, range(start, start + ids.shape[0]), [cache] * ids.shape[0], wanted)

    @torch.inference_mode()
    def run_rows(
        self, ids: Tensor, positions: Sequence[int], caches: Sequence[KVCache], wanted: int | None = None
    ) -> Tensor:
        """The same for rows that stand at `positions` of `caches`, which may be of different sequences.

        Rows of one sequence are in the order of their positions, without a gap.
        """
        rows = len(positions)
        wanted = rows if wanted is None else wanted
        needed: dict[int, int] = {}
        for position, each in zip(positions, caches, strict=True):
            needed[id(each)] = max(needed.get(id(each), 0), position + 1)
        for each in caches:
            each.reserve(needed[id(each)])
        hidden = F.embedding(ids, self.embedding).float()
        where = (c_int32 * rows)(*positions)
        capacity = (c_int64 * rows)(*(each.layers[0][0].shape[1] for each in caches))
        for index, layer in enumerate(self._layers):
            keys = (c_void_p * rows)(*(each.layers[index][0].data_ptr() for each in caches))
            values = (c_void_p * rows)(*(each.layers[index][1].data_ptr() for each in caches))
            places = _Places(rows, *(ctypes.addressof(array) for array in (where, keys, values, capacity)))
            here = wanted if index == len(self._layers) - 1 else rows
            if not self._library.bchat_layer(self._pool, self._shape, layer, places, here, hidden.data_ptr()):
                raise MemoryError
        return hidden[rows - wanted :]

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """float32 logits (rows, vocabulary) of hidden states (rows, hidden), which are yet to be normalised."""
        hidden = hidden.contiguous()
        rows = hidden.shape[0]
        result = torch.empty((rows, self.config.vocab_size))
        if not self._library.bchat_head(
            self._pool, self._shape, self._head, self._norm, rows, hidden.data_ptr(), result.data_ptr()
        ):
            raise MemoryError
        return result

    def read_per_token(self) -> tuple[Tensor, ...]:
        """As `GptNeox.read_per_token`."""
        return tuple(self._kept)

    def _describe_shape(self) -> _Shape:
        config = self.config
        angles = rotary_angles(config)
        is_narrow = self.dtype != torch.float32
        return _Shape(
            hidden=config.hidden_size,
            heads=config.heads,
            head_size=config.head_size,
            wide=config.intermediate_size,
            rotary_dims=config.rotary_dims,
            parallel=config.parallel_residual,
            activation=_ACTIVATIONS[config.activation],
            narrow=is_narrow and bool(self._library.bchat_multiplies_bfloat16()),
            narrow_cache=is_narrow,
            epsilon=config.norm_epsilon,
            cos=self._keep(angles.cos(), torch.float32),
            sin=self._keep(angles.sin(), torch.float32),
        )

    def _describe_layer(self, weights: Mapping[str, Any], prefix: str) -> _Layer:
        names = ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
        matrices = [
            self._describe_matrix(weights[f"{at}.weight"], weights.get(f"{at}.bias"), self._activation_bytes)
            for at in (f"{prefix}{name}" for name in names)
        ]
        norm = [
            self._keep(weights[f"{prefix}{name}.{part}"], torch.float32)
            for name in ("input_layernorm", "post_attention_layernorm")
            for part in ("weight", "bias")
        ]
        return _Layer((_Matrix * 4)(*matrices), (c_void_p * 4)(*norm))

    def _describe_matrix(self, weight: Tensor | QuantizedMatrix, bias: Tensor | None, parts: int) -> _Matrix:
        rows, columns = weight.shape
        told: dict[str, Any] = {"rows": rows, "columns": columns, "parts": parts}
        if bias is not None:
            told["bias"] = self._keep(bias, torch.float32)
        if isinstance(weight, Tensor):
            return _Matrix(numbers=self._keep(weight, weight.dtype), kind=_KINDS[weight.dtype], **told)
        if weight.levels is not None:
            told["levels"] = self._keep(weight.levels, torch.uint8)
        return _Matrix(
            numbers=self._keep(weight.codes, torch.uint8),
            scales=self._keep(weight.scales, torch.float32),
            kind=_INT8 if weight.levels is None else _INT4,
            **told,
        )

    def _keep(self, tensor: Any, dtype: torch.dtype) -> int:
        """The address of a tensor's numbers as `dtype`, which stay where they are."""
        kept = tensor.detach().to(dtype).contiguous()
        if kept.data_ptr() % kept.element_size():  # a file may put them anywhere
            kept = kept.clone()
        self._kept.append(kept)
        return int(kept.data_ptr())

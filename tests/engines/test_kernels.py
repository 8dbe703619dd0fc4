"""The C code of the kernels: warnings, sanitizers, and the sizes and structures that Python repeats."""

from __future__ import annotations

import ctypes
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bilingual_chat.engines.neox import cpu_model, kernel_library, kv_cache
from bilingual_chat.engines.weights import quantized_matrix
from tests import sanitize
from tests.runs import ROOT

KERNELS = kernel_library.SOURCE.parent
TUNINGS = {
    "this processor": kernel_library.target_flags(),
    "AVX2": ["-mavx2", "-mfma"],
    "SSE 4": ["-march=x86-64-v2"],
    "no extension": ["-march=x86-64"],
}
needs_x86 = platform.machine() in ("x86_64", "AMD64")


def compiles(compiler: str, *arguments: str) -> None:
    found = shutil.which(compiler)
    if found is None:
        pytest.skip(f"no {compiler} here")
    done = subprocess.run([found, "-std=gnu11", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("tuning", TUNINGS)
def test_the_kernels_compile_without_a_warning(compiler: str, tuning: str, tmp_path: Path) -> None:
    """Optimized as for users: GCC detects some faults only then."""
    if tuning != "this processor" and not needs_x86:
        pytest.skip("not an x86 processor")
    options = ["-O3", "-Wall", "-Wextra", "-Werror", "-fPIC", "-pthread", "-c", "-o", str(tmp_path / "kernels.o")]
    compiles(compiler, *TUNINGS[tuning], *options, str(kernel_library.SOURCE))


def test_python_and_c_agree_on_structures_and_sizes(tmp_path: Path) -> None:
    """Each field of a ctypes structure has the offset of the C member with the same name, and none is missing."""
    mirrors = {
        "matrix": cpu_model._Matrix,
        "layer": cpu_model._Layer,
        "shape": cpu_model._Shape,
        "batch": cpu_model._Batch,
    }
    # struct layer has a name for each of the matrices that Python has in an array.
    members = [(name, mirror) for name, mirror in mirrors.items() if name != "layer"]
    claims = [
        f"offsetof(struct {name}, {field[0]}) == {getattr(mirror, field[0]).offset}"
        for name, mirror in members
        for field in mirror._fields_
    ]
    claims += [f"sizeof(struct {name}) == {ctypes.sizeof(mirror)}" for name, mirror in mirrors.items()]
    claims += [
        f"HADAMARD_SIZE == {quantized_matrix.HADAMARD_SIZE}",
        f"INT4_GROUP == {quantized_matrix.INT4_GROUP}",
        f"COLUMN_BLOCK == {quantized_matrix.COLUMN_BLOCK}",
        f"TILE_OUTPUTS == {quantized_matrix.TILE_OUTPUTS}",
        f"ROWS_PER_TASK == {quantized_matrix.ROWS_PER_TASK}",
        f"INT8_GROUP == {quantized_matrix.INT8_GROUP}",
        f"{kv_cache.CAPACITY_STEP} % MAX_LANES == 0",
        f"{cpu_model._COLUMN_STEP} == COLUMN_BLOCK",
        f"{cpu_model._INT8} == INT8 && {cpu_model._INT4} == INT4",
        f"{cpu_model._KINDS[torch.float32]} == FLOAT32 && {cpu_model._KINDS[torch.bfloat16]} == BFLOAT16",
        f"{cpu_model._ACTIVATIONS['gelu']} == GELU && {cpu_model._ACTIVATIONS['relu']} == RELU",
        f"{cpu_model._ACTIVATIONS['gelu_new']} == GELU_TANH",
        f"{cpu_model._MOST_COLUMNS}ll * 255 * 128 < 1ll << 31",
    ]
    source = tmp_path / "claims.c"
    asserts = "\n".join(f'_Static_assert({claim}, "");' for claim in claims)
    source.write_text(f'#include "types.h"\n#include <stddef.h>\n{asserts}\n')
    compiles("cc", "-fsyntax-only", f"-I{KERNELS}", str(source))


@pytest.mark.parametrize("path", sorted(KERNELS.glob("*.[ch]")), ids=lambda path: path.name)
def test_each_kernel_file_names_tests_that_exist(path: Path) -> None:
    named = set(re.findall(r"\btest_\w+", path.read_text(encoding="utf-8")))
    written = "\n".join(each.read_text(encoding="utf-8") for each in (ROOT / "tests").rglob("test_*.py"))
    assert named
    assert not {name for name in named if f"def {name}(" not in written}


needs_sanitizers = pytest.mark.skipif(sanitize.runtime() is None, reason="no gcc with sanitizers here")


def sanitized(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.sanitize", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
@needs_sanitizers
def test_the_sanitizers_find_nothing_in_the_kernels() -> None:
    """A part of `python3 -m tests --sanitize`: all row counts, int8 and int4, and activations that are NaN."""
    some = "(neighbours and small and (int or float32)) or no_numbers or lie_together"
    done = sanitized(sanitize.TESTS[0], "-k", f"this and processor and ({some})")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert "passed" in done.stdout


CALLER = """
import ctypes, pathlib, shutil, subprocess

def test_it(tmp_path):
    source = pathlib.Path(__file__).with_name("fault.c")
    library = str(tmp_path / "fault.so")
    subprocess.run([shutil.which("cc"), "-shared", "-fPIC", "-o", library, source], check=True)
    ctypes.CDLL(library).fault(100)
"""


@pytest.mark.slow
@needs_sanitizers
@pytest.mark.parametrize(
    ("source", "report"),
    [
        (
            "#include <stdlib.h>\nvoid fault(int n) { volatile char *p = malloc(n); p[n] = 1; }\n",
            "heap-buffer-overflow",
        ),
        ("int fault(int n) { return n << 30; }\n", "left shift"),
    ],
    ids=["a write behind a buffer", "an overflow"],
)
def test_the_sanitizers_end_a_run_at_a_fault(source: str, report: str, tmp_path: Path) -> None:
    (tmp_path / "fault.c").write_text(source)
    (tmp_path / "test_it.py").write_text(CALLER)
    done = sanitized(str(tmp_path))
    assert report in done.stdout + done.stderr
    assert done.returncode not in (0, 5)

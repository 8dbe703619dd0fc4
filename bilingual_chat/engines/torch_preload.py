"""Loads torch's largest library without blocking other threads."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

_LIBRARY = {"linux": "libtorch_cpu.so", "darwin": "libtorch_cpu.dylib"}


def load_library() -> None:
    """Load libtorch_cpu, so that `import torch` finds it in memory.

    The import would hold the GIL for 0.3 to 0.5 s while the system loads it, and typed keys would wait; dlopen through
    ctypes releases the GIL. Errors are ignored: the import reports them.
    """
    name = _LIBRARY.get(sys.platform)
    spec = importlib.util.find_spec("torch") if name and "torch" not in sys.modules else None
    if name is None or spec is None or spec.origin is None:
        return
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes = [ctypes.c_char_p, ctypes.c_int]
    dlopen.restype = ctypes.c_void_p
    dlopen(os.fsencode(Path(spec.origin).parent / "lib" / name), os.RTLD_NOW)

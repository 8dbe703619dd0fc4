"""torch's largest library, loaded without stopping the other threads."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

_LIBRARY = {"linux": "libtorch_cpu.so", "darwin": "libtorch_cpu.dylib"}


def load_library() -> None:
    """Let `import torch` find libtorch_cpu in memory.

    The import holds Python's lock while the system loads and relocates it (0.3–0.5 s, the longest
    that a key waits for its echo during the start); called through ctypes, dlopen does not. What
    goes wrong here goes wrong again, with words, in the import.
    """
    name = _LIBRARY.get(sys.platform)
    spec = importlib.util.find_spec("torch") if name and "torch" not in sys.modules else None
    if name is None or spec is None or spec.origin is None:
        return
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes = [ctypes.c_char_p, ctypes.c_int]
    dlopen.restype = ctypes.c_void_p
    dlopen(os.fsencode(Path(spec.origin).parent / "lib" / name), os.RTLD_NOW)

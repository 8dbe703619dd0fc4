"""The precisions of `bchat models`, and the memory that they take. No torch here."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass

from bilingual_chat.engines.memory import WORKING_MEMORY, estimate_memory
from bilingual_chat.settings.catalogue import ModelEntry


@dataclass(frozen=True)
class Precision:
    name: str
    weight: float  # bytes per weight, with scales
    cache: int  # bytes per value of the KV cache


# The most exact first.
PRECISIONS = (
    Precision("float32", 4, 4),
    Precision("bfloat16", 2, 2),
    # Averages: embeddings keep 16 bits, and int4 has an 8-bit head, so the vocabulary matters a little.
    Precision("int8", 1.04, 2),
    Precision("int4", 0.6, 2),
)


def memory_in(precision: Precision, entry: ModelEntry) -> int:
    """Return the bytes of weights, a full KV cache and activations, within a few percent; 0 if the size is unknown."""
    if not entry.parameters:
        return 0
    cache_elements = estimate_memory(entry, 1) - entry.parameters - WORKING_MEMORY
    return int(entry.parameters * precision.weight) + cache_elements * precision.cache + WORKING_MEMORY


def least_memory(entry: ModelEntry) -> int:
    """Return the least memory with which auto opens a model: that of the narrowest fast precision."""
    narrowest = PRECISIONS[-1] if find_compiler() else PRECISIONS[1]
    return memory_in(narrowest, entry)


def find_compiler() -> str | None:
    """Return the C compiler for the CPU kernels; None on Windows, which has no POSIX threads."""
    if sys.platform == "win32":
        return None
    found = map(shutil.which, (os.environ.get("CC", ""), "cc", "gcc", "clang"))
    return next(filter(None, found), None)

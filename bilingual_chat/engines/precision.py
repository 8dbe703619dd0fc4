"""What numbers a model can be computed in, and the memory that takes: one table. No torch here."""

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
    weight: float  # bytes of a weight, what belongs to it (scales) included
    cache: int  # bytes of a number in the KV cache


# The most exact first.
PRECISIONS = (
    Precision("float32", 4, 4),
    Precision("bfloat16", 2, 2),
    # Embeddings stay in 16 bits, and in int4 the output head has 8: that depends a little on the vocabulary.
    Precision("int8", 1.04, 2),
    Precision("int4", 0.6, 2),
)


def memory_in(precision: Precision, entry: ModelEntry) -> int:
    """Bytes for weights, a full KV cache and working, within a few percent; 0 if the size is not known."""
    if not entry.parameters:
        return 0
    cache_elements = estimate_memory(entry, 1) - entry.parameters - WORKING_MEMORY
    return int(entry.parameters * precision.weight) + cache_elements * precision.cache + WORKING_MEMORY


def least_memory(entry: ModelEntry) -> int:
    """`memory_in` the narrowest that this machine computes quickly: what has to fit for the model to open by itself."""
    narrowest = PRECISIONS[-1] if find_compiler() else PRECISIONS[1]
    return memory_in(narrowest, entry)


def find_compiler() -> str | None:
    """The C compiler for our kernels, without which 8 and 4 bits are slow. None on Windows, where it has no threads."""
    if sys.platform == "win32":
        return None
    found = map(shutil.which, (os.environ.get("CC", ""), "cc", "gcc", "clang"))
    return next(filter(None, found), None)

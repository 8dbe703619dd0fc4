"""The memory that a model needs in each precision, and the free memory of this machine and cgroup. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from bilingual_chat.settings.catalogue import ModelEntry

SMALL = 100_000_000  # parameters; a smaller model computes in float32 on the CPU: fast enough, and exact
WORKING_MEMORY = 128 << 20  # bytes for activations and logits
UNLIMITED = 1 << 60  # cgroup v1 writes "no limit" as a number near 2**63
_USUAL_CONTEXT = 2048  # positions, if an entry does not say


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


def needed_memory(parameters: int, cache_elements: int, itemsize: int) -> int:
    """Return the bytes of weights and a full KV cache in values of `itemsize` bytes, and of activations."""
    return (parameters + cache_elements) * itemsize + WORKING_MEMORY


def estimate_memory(entry: ModelEntry, itemsize: int) -> int:
    """Estimate `needed_memory` from a catalogue entry, within a few percent; 0 if its size is unknown."""
    return memory_in(Precision("", itemsize, itemsize), entry)


def memory_in(precision: Precision, entry: ModelEntry) -> int:
    """Estimate the bytes of weights, a full KV cache and activations, within a few percent; 0 if the size is unknown.

    The KV cache follows from the usual shape: 12·layers·hidden² parameters, hidden about 80 times the layers.
    """
    if not entry.parameters:
        return 0
    hidden = (entry.parameters * 80 / 12) ** (1 / 3)
    cache = int(2 * hidden * (hidden / 80) * (entry.context_length or _USUAL_CONTEXT))
    return int(entry.parameters * precision.weight) + cache * precision.cache + WORKING_MEMORY


def least_memory(entry: ModelEntry) -> int:
    """Return the least memory with which auto opens a model: that of the narrowest fast precision."""
    from bilingual_chat.engines.neox.kernel_library import (
        find_compiler,  # 10 ms, which a list of models need not wait for
    )

    return memory_in(PRECISIONS[-1 if find_compiler() else 1], entry)


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that are free without swapping; None if the system does not say.

    The least of /proc/meminfo's MemAvailable and the rest of each enclosing cgroup (v2 or v1). File pages count as
    free, because the kernel can drop them. root: the directory of proc and sys.
    """
    machine = (
        line.split()[1] for line in _read(root / "proc/meminfo").splitlines() if line.startswith("MemAvailable:")
    )
    return min([*(_number(size) * 1024 for size in machine), *_cgroups(root)], default=None)


def used_memory(root: Path = Path("/")) -> tuple[int | None, int | None]:
    """Return this process's private bytes now, and its peak with mapped files; None if the system does not say.

    The kernel can drop mapped pages, but not private ones.
    """
    lines = (line.split() for line in _read(root / "proc/self/status").splitlines())
    known = {words[0]: _number(words[1]) * 1024 for words in lines if len(words) == 3 and words[2] == "kB"}
    return known.get("RssAnon:"), known.get("VmHWM:")


def reset_peak(root: Path = Path("/")) -> bool:
    """Reset the peak of `used_memory`; return False if the system cannot."""
    try:
        (root / "proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _cgroups(root: Path) -> list[int]:
    """Return the rest of our memory cgroup and of each of its parents."""
    left: list[int] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            top, names = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        else:
            continue
        parts = [part for part in group.split("/") if part not in ("", "..")]
        left += chain.from_iterable(_left(top.joinpath(*parts[:depth]), *names) for depth in range(len(parts) + 1))
    return left


def _left(group: Path, limit_name: str, usage_name: str, prefix: str) -> Iterator[int]:
    limit = _number(_read(group / limit_name))
    if not 0 < limit < UNLIMITED:
        return
    stat = dict(line.split() for line in _read(group / "memory.stat").splitlines() if len(line.split()) == 2)
    reclaimable = sum(_number(stat.get(f"{prefix}{kind}_file", "0")) for kind in ("inactive", "active"))
    yield max(0, limit - _number(_read(group / usage_name)) + reclaimable)


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""


def _number(text: str) -> int:
    text = text.strip()
    return int(text) if text.isdecimal() else 0

"""How much memory is left: for the machine, and for the control group (container) we run in."""

from __future__ import annotations

from pathlib import Path

UNLIMITED = 1 << 60  # cgroup v1 writes "no limit" as a number near 2**63


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that can still be used without swapping, or None where the system does not say.

    The least of /proc/meminfo's MemAvailable and what each enclosing cgroup (v2 or v1) leaves;
    file pages count as free, because the kernel gives them back. `root` is where proc and sys lie.
    """
    found = [_machine(root), *_groups(root)]
    known = [size for size in found if size is not None]
    return min(known) if known else None


def _machine(root: Path) -> int | None:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return _number(line.split()[1]) * 1024
    return None


def _groups(root: Path) -> list[int | None]:
    """What is left in our memory cgroup and in each of its parents."""
    left: list[int | None] = []
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
        left += [_left(top.joinpath(*parts[:depth]), *names) for depth in range(len(parts) + 1)]
    return left


def _left(group: Path, limit_name: str, usage_name: str, prefix: str) -> int | None:
    limit = _number(_read(group / limit_name))
    if not 0 < limit < UNLIMITED:
        return None
    stat = dict(line.split() for line in _read(group / "memory.stat").splitlines() if len(line.split()) == 2)
    reclaimable = sum(_number(stat.get(f"{prefix}{kind}_file", "0")) for kind in ("inactive", "active"))
    return max(0, limit - _number(_read(group / usage_name)) + reclaimable)


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""


def _number(text: str) -> int:
    text = text.strip()
    return int(text) if text.isdecimal() else 0

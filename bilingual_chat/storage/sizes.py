"""Sizes in bytes, as a person reads them."""

from __future__ import annotations

_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def format_bytes(size: float) -> str:
    """Return "7.6 GB", "201 kB", "0 B": two digits below ten of a unit, else whole numbers."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}" if size < 10 * unit else f"{size / unit:.0f} {name}"
    return f"{size:.0f} B"

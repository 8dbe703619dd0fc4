"""Sizes in bytes, as a person reads them."""

from __future__ import annotations

_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def format_bytes(size: float) -> str:
    """Return "7.6 GB", "201 kB", "0 B": gigabytes and single digits with one decimal."""
    for unit, name in _UNITS:
        if size >= unit:
            decimals = 1 if name == "GB" or size < 10 * unit else 0
            return f"{size / unit:.{decimals}f} {name}"
    return f"{size:.0f} B"

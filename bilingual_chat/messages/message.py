"""One sentence in both languages."""

from __future__ import annotations

from typing import NamedTuple


class Message(NamedTuple):
    en: str
    ja: str

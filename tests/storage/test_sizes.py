"""Sizes in bytes as text."""

from __future__ import annotations

import pytest

from bilingual_chat.storage.sizes import format_bytes


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (12, "12 B"),
        (1500, "1.5 kB"),
        (201_000, "201 kB"),
        (9_950_000, "9.9 MB"),
        (7.59e9, "7.6 GB"),
        (17.14e9, "17.1 GB"),
    ],
)
def test_a_size_has_the_unit_that_a_person_would_use(size: float, text: str) -> None:
    assert format_bytes(size) == text

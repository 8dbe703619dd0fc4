"""What the tests of the kernels share."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest
import torch

from bilingual_chat.engines.neox import build


@pytest.fixture
def two_threads() -> Iterator[None]:
    """As many threads as compute a layer together on any machine; more would wait for each other on a busy one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def compiled() -> ctypes.CDLL:
    """The kernels, as they are compiled for a user of this machine."""
    library = build.load_library()
    if library is None:
        pytest.skip("no C compiler here")
    return library

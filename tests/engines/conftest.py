"""Fixtures of the kernel tests."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest
import torch

from bilingual_chat.engines.neox import kernel_library


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two threads: the fewest that share a layer; more would wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def compiled() -> ctypes.CDLL:
    """The kernels as they are compiled for users of this machine."""
    library = kernel_library.load_library()
    if library is None:
        pytest.skip("no C compiler here")
    return library

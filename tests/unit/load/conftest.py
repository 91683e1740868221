"""What tests of whole runs get."""

import os
import socket
from collections.abc import Iterator

import pytest
from tests.unit.load.responder import Responder

from cygnet.observe.system import process_tree


@pytest.fixture
def responder() -> Iterator[Responder]:
    with Responder() as running:
        yield running


@pytest.fixture
def silent() -> Iterator[tuple[int, int]]:
    """Two ports whose owner answers nothing."""
    with socket.socket(type=socket.SOCK_DGRAM) as ike, socket.socket(type=socket.SOCK_DGRAM) as natt:
        ike.bind(("127.0.0.1", 0))
        natt.bind(("127.0.0.1", 0))
        yield ike.getsockname()[1], natt.getsockname()[1]


@pytest.fixture
def no_process_is_left() -> Iterator[None]:
    before = set(process_tree(os.getpid()))
    yield
    assert set(process_tree(os.getpid())) <= before

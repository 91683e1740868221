import socket
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from cygnet.ike.path import Path
from cygnet.net.path_mtu import KNOWN_FOR_S, MAX_PATHS, UNREACHABLE_MTU, PathMtus


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mtus(clock: Clock) -> Iterator[PathMtus]:
    made = PathMtus(clock)
    yield made
    made.close()


def to(remote: str) -> Path:
    return Path("192.0.2.1", 4500, remote, 4500)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_kernel_knows(mtus: PathMtus, address: str) -> None:
    # The longest IPv4 packet is one octet shorter than the loopback device would take.
    assert mtus.mtu(to(address)) in (int(File("/sys/class/net/lo/mtu").read_text()), 65535)


def test_what_the_kernel_does_not_say_is_left_to_the_sender(mtus: PathMtus, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise OSError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert mtus.mtu(to("192.0.2.2")) == mtus.mtu(to("2001:db8::2")) == UNREACHABLE_MTU


def test_it_is_asked_once_a_second_for_each_peer(mtus: PathMtus, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def look_up(self: PathMtus, path: Path) -> int:
        asked.append(path.remote)
        return 1400 + len(asked)

    monkeypatch.setattr(PathMtus, "_look_up", look_up)
    first, second = to("192.0.2.2"), to("192.0.2.3")
    assert [mtus.mtu(path) for path in (first, second, first, second)] == [1401, 1402, 1401, 1402]
    clock.now = KNOWN_FOR_S
    assert mtus.mtu(first) == 1403
    for number in range(MAX_PATHS + 10):
        mtus.mtu(to(f"2001:db8::{number:x}"))
    assert len(mtus._known) == MAX_PATHS

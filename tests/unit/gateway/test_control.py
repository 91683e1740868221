import asyncio

import pytest

from cygnet.gateway.control import (
    MAX_WAITING,
    AddressHanded,
    AddressReturned,
    AddressWanted,
    AddRoute,
    AnyMessage,
    Channel,
    DelRoute,
    LeaseGrant,
    LeaseRecall,
    LeaseRequest,
    LeaseReturn,
    LonelyPeer,
    PeersAreAlone,
    PeersAreHeard,
    Ready,
    Stop,
)

MESSAGES: list[AnyMessage] = [
    Ready(),
    Stop(),
    LeaseRequest("clients", 2, 17),
    LeaseGrant("clients", (1, 2, 1 << 32)),
    LeaseRecall("clients", 17),
    LeaseReturn("clients", ()),
    PeersAreHeard((bytes(8),)),
    AddressWanted("v4", bytes(4), (2, b"c1@example.org")),
    AddressHanded("v4", bytes(4), (2, b"c1@example.org"), 1, True),
    AddressReturned(bytes(4)),
    PeersAreAlone((LonelyPeer(bytes(8), (2, b"gw.example.org"), (3, b"c1@example.org")),)),
    AddRoute("10.7.0.0/16"),
    DelRoute("fd00::/64"),
]


class Listener:
    def __init__(self, channel: Channel) -> None:
        self.heard: list[AnyMessage] = []
        self.ends = 0
        channel.attach(asyncio.get_running_loop(), self.heard.append, self.end)

    def end(self) -> None:
        self.ends += 1


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def pair() -> tuple[Channel, Channel]:
    return Channel.pair()


def test_carries_every_kind_of_message_in_order(pair: tuple[Channel, Channel]) -> None:
    async def scenario() -> list[AnyMessage]:
        listener = Listener(pair[1])
        for message in MESSAGES:
            assert pair[0].send(message)
        await settle()
        pair[0].close()
        pair[1].close()
        return listener.heard

    assert asyncio.run(scenario()) == MESSAGES


def test_keeps_what_the_kernel_does_not_take_and_loses_nothing(pair: tuple[Channel, Channel]) -> None:
    async def scenario() -> list[AnyMessage]:
        Listener(pair[0])
        sent = [LeaseReturn("clients", (number,)) for number in range(2000)]
        assert all(pair[0].send(message) for message in sent)
        listener = Listener(pair[1])
        while len(listener.heard) < len(sent):
            await asyncio.sleep(0)
        pair[0].close()
        pair[1].close()
        assert listener.heard == sent
        return listener.heard

    assert asyncio.run(asyncio.wait_for(scenario(), 10))


def test_never_waits_and_says_when_it_drops(pair: tuple[Channel, Channel]) -> None:
    results = [pair[0].send(Ready()) for _ in range(MAX_WAITING + 5000)]
    assert not results[-1]
    assert sum(results) >= MAX_WAITING
    pair[0].close()
    pair[1].close()


def test_tells_once_that_the_other_side_is_gone(pair: tuple[Channel, Channel]) -> None:
    async def scenario() -> tuple[int, bool]:
        listener = Listener(pair[1])
        pair[0].send(Ready())
        pair[0].close()
        await settle()
        assert listener.heard == [Ready()]
        return listener.ends, pair[1].send(Ready())

    assert asyncio.run(scenario()) == (1, False)


def test_a_message_that_does_not_decode_harms_no_other(
    pair: tuple[Channel, Channel], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> list[AnyMessage]:
        listener = Listener(pair[1])
        pair[0]._socket.send(b"\x93\xa5Bogus\x01\x02")
        pair[0].send(Stop())
        await settle()
        pair[0].close()
        pair[1].close()
        return listener.heard

    assert asyncio.run(scenario()) == [Stop()]
    assert "does not decode" in caplog.text

from collections.abc import Callable

import msgspec

from cygnet.auth.identity import Identity, parse_identity
from cygnet.gateway.control import AnyMessage, LonelyPeer, PeersAreAlone
from cygnet.gateway.lonely_peers import MAX_OCTETS, LonelyPeers
from cygnet.ike.effects import InitialContact

GATEWAY = parse_identity("gw.example.org")


class Rig:
    def __init__(self) -> None:
        self.sent: list[AnyMessage] = []
        self.scheduled: list[Callable[[], None]] = []
        self.peers = LonelyPeers(self.sent.append, self.scheduled.append)

    def turn(self) -> None:
        todo, self.scheduled[:] = list(self.scheduled), []
        for run in todo:
            run()


def contact(number: int, data: bytes = b"c1@example.org") -> InitialContact:
    return InitialContact(number.to_bytes(8, "big"), GATEWAY, Identity(3, data))


def peer(number: int, data: bytes = b"c1@example.org") -> LonelyPeer:
    return LonelyPeer(number.to_bytes(8, "big"), (GATEWAY.id_type, GATEWAY.data), (3, data))


def test_those_of_a_turn_go_in_one_message() -> None:
    rig = Rig()
    for number in range(3):
        rig.peers.add(contact(number))
    assert (rig.sent, len(rig.scheduled)) == ([], 1)
    rig.turn()
    assert rig.sent == [PeersAreAlone((peer(0), peer(1), peer(2)))]
    rig.peers.add(contact(3))
    rig.turn()
    assert rig.sent[1:] == [PeersAreAlone((peer(3),))]
    assert rig.scheduled == []


def test_a_message_stays_below_what_a_channel_takes() -> None:
    rig = Rig()
    long = bytes(MAX_OCTETS // 3)
    for number in range(7):
        rig.peers.add(contact(number, long))
    rig.turn()
    told = [p for message in rig.sent if isinstance(message, PeersAreAlone) for p in message.peers]
    assert told == [peer(number, long) for number in range(7)]
    assert max(len(msgspec.msgpack.encode(message)) for message in rig.sent) < 2 * MAX_OCTETS
    assert len(rig.sent) == 4

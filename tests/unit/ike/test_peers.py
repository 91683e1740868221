"""Which SAs stand with which peer."""

import sys
from collections.abc import Iterator
from typing import NoReturn

import pytest

from cygnet.auth.identity import parse_identity
from cygnet.ike.peers import PeerIndex
from cygnet.ike.sharded_map import SPLIT_AT, ShardedMap

CAROL, DAVE = parse_identity("carol@example.org"), parse_identity("dave@example.org")


def test_sas_of_a_peer_come_and_go() -> None:
    peers = PeerIndex()
    assert peers.of(CAROL) == ()
    for identity, spi in ((CAROL, b"1"), (DAVE, b"2"), (CAROL, b"3"), (CAROL, b"4")):
        peers.add(identity, spi)
    assert (peers.of(CAROL), peers.of(DAVE)) == ((b"1", b"3", b"4"), (b"2",))
    peers.remove(CAROL, b"3")
    assert peers.of(CAROL) == (b"1", b"4")
    peers.remove(CAROL, b"1")
    peers.remove(CAROL, b"4")
    assert (peers.of(CAROL), peers.of(DAVE)) == ((), (b"2",))


def test_the_newest_but_for_one() -> None:
    peers = PeerIndex()
    assert peers.newest(CAROL, b"1") is None
    for number in (b"1", b"2", b"3"):
        peers.add(CAROL, number)
    assert (peers.newest(CAROL, b"2"), peers.newest(CAROL, b"3")) == (b"3", b"2")
    peers.remove(CAROL, b"3")
    peers.remove(CAROL, b"2")
    assert (peers.newest(CAROL, b"1"), peers.newest(CAROL, b"2")) == (None, b"1")


def test_what_is_not_there_can_be_removed() -> None:
    peers = PeerIndex()
    peers.remove(CAROL, b"1")
    peers.add(CAROL, b"1")
    peers.remove(CAROL, b"2")
    peers.remove(DAVE, b"1")
    assert peers.of(CAROL) == (b"1",)


def test_a_peer_without_sas_takes_no_room() -> None:
    peers = PeerIndex()
    for number in range(100):
        peers.add(parse_identity(f"c{number}@example.org"), b"1")
        peers.remove(parse_identity(f"c{number}@example.org"), b"1")
    assert not peers._spis


def test_a_peer_whose_sa_was_rekeyed_takes_no_more_room() -> None:
    """The one that takes the place of another is there before that goes."""
    peers = PeerIndex()
    peers.add(CAROL, b"1")
    before = dict(_rooms(peers))
    for number in (b"2", b"3"):
        peers.add(CAROL, number)
        peers.remove(CAROL, bytes((number[0] - 1,)))
    assert peers.of(CAROL) == (b"3",)
    assert dict(_rooms(peers)) == before


def _rooms(peers: PeerIndex) -> Iterator[tuple[bytes, int]]:
    return ((key, sys.getsizeof(peers._spis[key])) for key in peers._spis)


def test_the_many_sas_of_a_tester_are_with_one_peer() -> None:
    peers = PeerIndex()
    spis = [n.to_bytes(2, "big") for n in range(2 * SPLIT_AT)]
    for spi in spis:
        peers.add(CAROL, spi)
    assert sorted(peers.of(CAROL)) == spis
    assert peers.newest(CAROL, spis[-1]) in spis[:-1]
    for spi in spis[:-1]:
        peers.remove(CAROL, spi)
    assert peers.of(CAROL) == (spis[-1],) and peers.newest(CAROL, spis[-1]) is None


def test_an_sa_that_is_added_twice_is_there_once() -> None:
    for number in range(1, 10):
        spis = [n.to_bytes(2, "big") for n in range(number)]
        peers = PeerIndex()
        for spi in spis * 2:
            peers.add(CAROL, spi)
        assert peers.of(CAROL) == tuple(spis)
        for spi in spis:
            peers.remove(CAROL, spi)
        assert not peers._spis


def test_of_many_that_go_none_looks_for_those_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tester's IKE_SAs are all with one peer, and go in the order in which they came: a dict keeps their places, so
    each looked through more of them than the one before."""
    peers = PeerIndex()
    spis = [bytes([1, n >> 8, n & 255]) for n in range(1000)]
    for spi in spis:
        peers.add(CAROL, spi)

    def look(self: ShardedMap[bytes, None]) -> NoReturn:
        raise AssertionError("it is looked through")

    monkeypatch.setattr(ShardedMap, "__iter__", look)
    for spi in spis[:-5]:
        peers.remove(CAROL, spi)
    monkeypatch.undo()
    assert set(peers.of(CAROL)) == set(spis[-5:])
    for spi in spis[-5:]:
        peers.remove(CAROL, spi)
    assert not peers.has(CAROL)

"""The steering program and the Python statement of its rules agree, in an interpreter and in the kernel."""

import os
import select
import socket
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cygnet.ike.spi import new_esp_spi, new_ike_spi
from cygnet.net.bpf import Op
from cygnet.net.sockets import UdpSocket, open_udp_group
from cygnet.net.steering import (
    SPREAD_BY_FLOW,
    SteeringKey,
    hash_spi,
    raw_esp_filter,
    steer,
    steering_program,
)

KEY = SteeringKey(0x01234567, 0x89ABCDEF)
_U32 = 0xFFFFFFFF


def run(program: bytes, packet: bytes) -> int:
    """What the kernel's classic BPF machine returns; a load beyond the packet ends with 0."""
    code = list(struct.iter_unpack("=HBBI", program))
    a: int = 0
    x: int = 0
    memory = [0] * 16
    position: int = 0
    op: int
    then: int
    otherwise: int
    k: int
    while True:
        op, then, otherwise, k = code[position]
        position += 1
        if op in (Op.LOAD_WORD, Op.LOAD_OCTET, Op.LOAD_OCTET_AT_X, Op.LOAD_HEADER_LENGTH):
            size = 4 if op == Op.LOAD_WORD else 1
            start = k + (x if op == Op.LOAD_OCTET_AT_X else 0)
            if start + size > len(packet):
                return 0
            loaded = int.from_bytes(packet[start : start + size], "big")
            if op == Op.LOAD_HEADER_LENGTH:
                x = 4 * (loaded & 15)
            else:
                a = loaded
        elif op == Op.LOAD_LENGTH:
            a = len(packet)
        elif op == Op.ADD:
            a = (a + k) & _U32
        elif op == Op.MULTIPLY:
            a = (a * k) & _U32
        elif op == Op.AND:
            a &= k
        elif op == Op.SHIFT_RIGHT:
            a >>= k
        elif op == Op.MODULO:
            a %= k
        elif op == Op.XOR:
            a ^= k
        elif op == Op.XOR_X:
            a ^= x
        elif op == Op.STORE:
            memory[k] = a
        elif op == Op.LOAD_STORED:
            a = memory[k]
        elif op == Op.TO_X:
            x = a
        elif op == Op.JUMP:
            position += k
        elif op == Op.JUMP_IF_EQUAL:
            position += then if a == k else otherwise
        elif op == Op.JUMP_IF_AT_LEAST:
            position += then if a >= k else otherwise
        elif op == Op.JUMP_IF_ANY_BIT:
            position += then if a & k else otherwise
        elif op == Op.RETURN:
            return k
        elif op == Op.RETURN_A:
            return a
        else:
            raise AssertionError(f"the kernel has no instruction {op:#x} that we use")


def ike(spi_i: bytes, spi_r: bytes, flags: int) -> bytes:
    return spi_i + spi_r + bytes((33, 0x20, 34, flags)) + bytes(4) + (28).to_bytes(4, "big")


spis = st.one_of(
    st.just(bytes(8)), st.binary(min_size=8, max_size=8), st.builds(bytes.fromhex, st.just("0" * 15 + "1"))
)
messages = st.builds(ike, spis, spis, st.integers(0, 255))
datagrams = st.one_of(
    st.binary(max_size=64),
    messages,
    messages.map(lambda message: bytes(4) + message),
    st.builds(lambda message, n: (bytes(4) + message)[:n], messages, st.integers(0, 32)),
)
workers = st.integers(1, 255)
keys = st.binary(min_size=8, max_size=8).map(SteeringKey.from_octets)


@given(datagrams, workers, keys, st.booleans())
@example(b"", 2, KEY, False)
@example(b"\xff", 2, KEY, True)
@example(bytes(4), 2, KEY, True)
@example(bytes(28), 3, KEY, False)
def test_the_program_does_what_the_rules_say(datagram: bytes, n: int, key: SteeringKey, is_natt: bool) -> None:
    result = run(steering_program(workers=n, key=key, is_natt=is_natt), datagram)
    stated = steer(datagram, workers=n, key=key, is_natt=is_natt)
    assert result == (SPREAD_BY_FLOW if stated is None else stated)
    assert stated is None or 0 <= stated < (2 * n if is_natt else n)


@pytest.mark.parametrize("is_natt", [False, True])
@pytest.mark.parametrize("octets", range(33))
def test_a_datagram_cut_anywhere_is_steered_or_left_alone(octets: int, is_natt: bool) -> None:
    marker = bytes(4) if is_natt else b""
    datagram = (marker + ike(b"\x01" * 8, b"\x01\x02" * 4, 0x28) + b"more")[:octets]
    result = run(steering_program(workers=4, key=KEY, is_natt=is_natt), datagram)
    assert result == (2 if octets >= len(marker) + 20 else SPREAD_BY_FLOW)
    assert steer(datagram, workers=4, key=KEY, is_natt=is_natt) == (None if result == SPREAD_BY_FLOW else result)


@given(st.integers(0, 6), spis, st.booleans())
def test_our_spis_lead_to_their_worker(worker: int, peer: bytes, is_natt: bool) -> None:
    ours = new_ike_spi(1, worker, os.urandom)
    marker = bytes(4) if is_natt else b""
    for flags in (0x08, 0x28):  # from the original initiator: our SPI is the responder's
        assert steer(marker + ike(peer, ours, flags), workers=7, key=KEY, is_natt=is_natt) == worker
    for flags in (0x00, 0x20):
        assert steer(marker + ike(ours, peer, flags), workers=7, key=KEY, is_natt=is_natt) == worker
    packet = new_esp_spi(worker, os.urandom) + bytes(20)
    assert steer(packet, workers=7, key=KEY, is_natt=True) == 7 + worker


@given(spis, workers, keys)
def test_a_new_peer_stays_with_one_worker(spi_i: bytes, n: int, key: SteeringKey) -> None:
    first = ike(spi_i, bytes(8), 0x08)
    with_cookie = first[:16] + b"\x29" + first[17:] + bytes(40)
    chosen = {
        steer(datagram, workers=n, key=key, is_natt=is_natt)
        for datagram, is_natt in (
            (first, False),
            (with_cookie, False),
            (bytes(4) + first, True),
            (bytes(4) + with_cookie, True),
        )
    }
    assert chosen == {hash_spi(spi_i, key) % n}


def test_new_peers_are_spread_evenly_whatever_their_spis_look_like() -> None:
    counted_up = [n.to_bytes(8, "big") for n in range(4000)]
    counted_up_above = [n.to_bytes(4, "big") + bytes(4) for n in range(4000)]
    drawn = [os.urandom(8) for _ in range(4000)]
    for population in (counted_up, counted_up_above, drawn):
        shares = [0] * 4
        for spi_i in population:
            shares[hash_spi(spi_i, KEY) % 4] += 1
        assert min(shares) > 850, shares


def test_the_key_decides() -> None:
    spi_i = b"initiatr"
    assert len({hash_spi(spi_i, SteeringKey.from_octets(os.urandom(8))) % 64 for _ in range(400)}) > 48


@given(st.binary(min_size=4, max_size=40), st.integers(1, 8), st.integers(5, 15))
def test_raw_esp_goes_to_the_worker_that_udp_would_lead_to(packet: bytes, n: int, header_words: int) -> None:
    stated = steer(b"\x00" + packet[:3] if packet[:4] == bytes(4) else packet, workers=n, key=KEY, is_natt=True)
    header = bytes((0x40 | header_words,)) + os.urandom(4 * header_words - 1)
    for worker in range(n):
        passes = [
            run(raw_esp_filter(worker=worker, workers=n, is_ipv6=True), packet),
            run(raw_esp_filter(worker=worker, workers=n, is_ipv6=False), header + packet),
        ]
        if packet[:4] != bytes(4):
            assert passes == [_U32 if n + worker == stated else 0] * 2


def _receiver_of(group: list[UdpSocket], datagram: bytes) -> int:
    with socket.socket(group[0].socket.family, socket.SOCK_DGRAM) as sender:
        sender.sendto(datagram, (group[0].address, group[0].port))
        readable, _, _ = select.select([member.socket for member in group], [], [], 2)
    (found,) = readable
    assert found.recv(2048) == datagram
    return [member.socket for member in group].index(found)


@pytest.mark.parametrize("is_natt", [False, True])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_kernel_does_what_the_rules_say(address: str, is_natt: bool) -> None:
    n = 5
    key = SteeringKey.from_octets(os.urandom(8))
    group = open_udp_group(address, 0, workers=n, key=key, is_natt=is_natt)
    marker = bytes(4) if is_natt else b""
    try:
        seen = set()
        for round_ in range(60):
            ours = new_ike_spi(1, round_ % 8, os.urandom)  # workers 5 to 7 are from before a restart
            for message in (
                ike(os.urandom(8), bytes(8), 0x08),
                ike(os.urandom(8), ours, 0x08),
                ike(ours, os.urandom(8), 0x20),
            ):
                expected = steer(marker + message, workers=n, key=key, is_natt=is_natt)
                assert _receiver_of(group, marker + message) == expected
                seen.add(expected)
            if is_natt:
                packet = new_esp_spi(round_ % 8, os.urandom) + os.urandom(1000)
                assert _receiver_of(group, packet) == n + round_ % 8 % n
        assert seen == set(range(n))
        # Too short to be steered: any of them, but it does arrive.
        assert _receiver_of(group, b"\xff") in range(len(group))
    finally:
        for member in group:
            member.close()


def test_a_closed_flow_of_retransmissions_meets_one_socket_from_many_source_ports() -> None:
    key = SteeringKey.from_octets(os.urandom(8))
    group = open_udp_group("127.0.0.1", 0, workers=3, key=key)
    try:
        message = ike(os.urandom(8), bytes(8), 0x08)
        assert len({_receiver_of(group, message) for _ in range(20)}) == 1
    finally:
        for member in group:
            member.close()

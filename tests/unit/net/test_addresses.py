"""What rtnetlink says of our addresses, from octets and from the kernel."""

import asyncio
import ipaddress
import socket
import struct

import pytest

from cygnet.net import addresses
from cygnet.net.addresses import AddressWatch, read_addresses
from cygnet.net.sockets import open_udp_socket

UNIVERSE, LINK = 0, 253
TENTATIVE, DEPRECATED = 0x40, 0x20


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def address_message(text: str, *, scope: int = UNIVERSE, flags: int = 0, local: str = "", index: int = 1) -> bytes:
    """The body of an RTM_NEWADDR; `local` is our end of a point-to-point link."""
    packed = ipaddress.ip_address(text).packed
    family = socket.AF_INET6 if len(packed) == 16 else socket.AF_INET
    body = struct.pack("=BBBBI", family, 24, 0, scope, index) + attribute(1, packed)
    if local:
        body += attribute(2, ipaddress.ip_address(local).packed)
    return body + attribute(3, b"eth0\0") + attribute(8, struct.pack("=I", flags))


@pytest.mark.parametrize(
    ("body", "address"),
    [
        (address_message("192.0.2.1"), "192.0.2.1"),
        (address_message("2001:db8::1"), "2001:db8::1"),
        (address_message("192.0.2.9", local="192.0.2.1"), "192.0.2.1"),
        (address_message("127.0.0.1", scope=254), None),
        (address_message("fe80::1", scope=LINK), None),
        (address_message("2001:db8::1", flags=TENTATIVE), None),
        (address_message("2001:db8::1", flags=DEPRECATED), None),
    ],
)
def test_only_addresses_that_peers_can_use_count(body: bytes, address: str | None) -> None:
    assert addresses._decode_address(body) == address


def test_a_packet_of_several_messages_is_taken_apart() -> None:
    bodies = [address_message("192.0.2.1"), b"odd", b""]
    packet = b"".join(
        struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)
        for kind, body in zip((20, 24, 3), bodies, strict=True)
    )
    assert list(addresses._messages(packet)) == [(20, bodies[0]), (24, b"odd"), (3, b"")]
    assert list(addresses._messages(bytes(16))) == [], "a length of zero does not go on for ever"


def test_other_routes_than_the_default_are_not_our_business() -> None:
    assert addresses._matters(20, b"") and addresses._matters(21, b"")
    assert addresses._matters(24, bytes((socket.AF_INET, 0)) + bytes(10))
    assert not addresses._matters(24, bytes((socket.AF_INET, 24)) + bytes(10))
    assert not addresses._matters(16, bytes(16))


def test_what_the_kernel_says() -> None:
    assert not {"127.0.0.1", "::1"} & set(read_addresses())
    bound = open_udp_socket("127.0.0.1", 0)
    watch = AddressWatch([bound])
    try:
        assert watch.all() == (), "the loopback address is nobody's to reach"
        assert watch.source_to("127.0.0.7") == "127.0.0.1"
    finally:
        watch.close()
        bound.close()


def test_addresses_inside_our_tunnels_are_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual address that one peer has given us is no way for another to reach us."""
    names = {1: "eth0", 2: "cygnet0", 3: "cygnet-lan", 4: "tun0"}
    bodies = [address_message(f"192.0.2.{index}", index=index) for index in (1, 2, 3, 4, 5)]
    packet = b"".join(struct.pack("=IHHII", 16 + len(body), 20, 0, 0, 0) + body for body in bodies)
    done = struct.pack("=IHHII", 16, 3, 0, 0, 0)

    def open_netlink(groups: int) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        theirs.send(packet + done)
        kernels.append(theirs)
        return ours

    kernels: list[socket.socket] = []

    def name_of(index: int) -> str:
        if index not in names:
            raise OSError
        return names[index]

    monkeypatch.setattr(addresses, "_open", open_netlink)
    monkeypatch.setattr(socket, "if_indextoname", name_of)
    assert read_addresses("cygnet") == ("192.0.2.1", "192.0.2.3", "192.0.2.4", "192.0.2.5")
    assert len(read_addresses()) == 5
    for kernel in kernels:
        kernel.close()


def test_a_change_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens within the settling time; with the new list, and with the routes looked up anew."""
    told: list[bool] = []
    now = ["192.0.2.1"]
    monkeypatch.setattr(addresses, "read_addresses", lambda inside: tuple(now))
    monkeypatch.setattr(addresses, "SETTLE_S", 0.0)

    async def run() -> None:
        anywhere = open_udp_socket("0.0.0.0", 0)
        watch = AddressWatch([anywhere])
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        watch._netlink.close()
        watch._netlink = ours
        watch.attach(asyncio.get_running_loop(), told.append)
        body = address_message("192.0.2.2")
        message = struct.pack("=IHHII", 16 + len(body), 20, 0, 0, 0) + body
        assert watch.all() == ("192.0.2.1",)
        now.append("192.0.2.2")
        for _ in range(5):
            theirs.send(message)
        while not told:
            await asyncio.sleep(0)
        assert watch.all() == ("192.0.2.1", "192.0.2.2")
        theirs.send(message)
        while len(told) < 2:
            await asyncio.sleep(0)
        watch.close()
        theirs.close()
        anywhere.close()

    asyncio.run(run())
    assert told == [True, False]

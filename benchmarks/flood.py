"""A flood of IKE datagrams over loopback, for `attack.py`: as fast as one core makes them, and never elsewhere.

    python -m benchmarks.flood KIND --target 127.0.0.1:500 --seconds 5 [--rate 50000] [--spis-from 127.0.0.1:500]
        [--proposal aes128gcm16-prfsha256-x25519]

Datagrams go out 64 at a time (sendmmsg), each batch from the next of 256 sources in 127.0.0.0/8. It ends by itself
and prints how many it has sent, as one JSON object. Kinds:

ike_sa_init     requests for new IKE_SAs, each with a new SPI
forged          the same, each from another address of 127.0.0.0/8, drawn at random; the answers are not read
ike_auth        rubbish for half-open IKE_SAs, which it opens itself first, at `--spis-from`
fragments       the same, as fragments (RFC 7383)
informational   requests for IKE_SAs that do not exist
"""

import argparse
import ctypes
import json
import os
import socket
import struct
import time
from ipaddress import ip_address

from cygnet.crypto.ke import KE
from cygnet.iana import ExchangeType, ProtocolId, TransformType
from cygnet.ike.proposals import parse_proposal, to_offer
from cygnet.net.sockets import IP_PKTINFO
from cygnet.wire.header import FLAG_INITIATOR, NO_SPI, decode_header
from cygnet.wire.message import encode_message
from cygnet.wire.payloads import Encrypted, EncryptedFragment, KeyExchange, Nonce, Payload

KINDS = ("ike_sa_init", "forged", "ike_auth", "fragments", "informational")
BATCH = 64
SOURCES = 256
HALF_OPEN = 200
"""SAs that are opened for rubbish: fewer than make a gateway ask for cookies."""
MAX_SECONDS = 600.0
RUBBISH_OCTETS = 220
_PKTINFO_HEADER = struct.pack("@Nii", socket.CMSG_LEN(12), socket.IPPROTO_IP, IP_PKTINFO)
"""Of an ancillary message with a struct in_pktinfo: its interface, the source to send from, and an unused address."""
_PKTINFO_OCTETS = socket.CMSG_SPACE(12)
_SOURCE_OFFSET = len(_PKTINFO_HEADER) + 4

_libc = ctypes.CDLL(None, use_errno=True)


class _IoVector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _MessageHeader(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_IoVector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    _fields_ = (("header", _MessageHeader), ("sent", ctypes.c_uint))


class Batch:
    """64 datagrams of one length in memory, that the kernel takes in one call."""

    def __init__(self, template: bytes) -> None:
        self.stride = len(template)
        self.octets = bytearray(template * BATCH)
        base = ctypes.addressof((ctypes.c_char * len(self.octets)).from_buffer(self.octets))
        self._vectors = (_IoVector * BATCH)()
        self._messages = (_Message * BATCH)()
        for n in range(BATCH):
            self._vectors[n].base = base + n * self.stride
            self._vectors[n].length = self.stride
            self._messages[n].header.vectors = ctypes.pointer(self._vectors[n])
            self._messages[n].header.vector_count = 1

    def put(self, offset: int, values: bytes, octets: int) -> None:
        """Write the next `octets` of `values` at `offset` of each datagram."""
        for n in range(BATCH):
            start = n * self.stride + offset
            self.octets[start : start + octets] = values[n * octets : (n + 1) * octets]

    def forge(self, address: tuple[str, int]) -> None:
        """Have each datagram go to that address, from a source that `put_sources` chooses."""
        name = (
            struct.pack("=H", socket.AF_INET) + struct.pack("!H", address[1]) + socket.inet_aton(address[0]) + bytes(8)
        )
        self._name = ctypes.create_string_buffer(name, len(name))
        control = _PKTINFO_HEADER.ljust(_PKTINFO_OCTETS, b"\0") * BATCH
        self._control = bytearray(control)
        base = ctypes.addressof((ctypes.c_char * len(control)).from_buffer(self._control))
        for n in range(BATCH):
            header = self._messages[n].header
            header.name, header.name_length = ctypes.addressof(self._name), len(name)
            header.control, header.control_length = base + n * _PKTINFO_OCTETS, _PKTINFO_OCTETS

    def put_sources(self, values: bytes) -> None:
        """The next sources: three octets of 127.0.0.0/8 each."""
        for n in range(BATCH):
            start = n * _PKTINFO_OCTETS + _SOURCE_OFFSET
            self._control[start : start + 4] = b"\x7f" + values[3 * n : 3 * n + 3]

    def send(self, descriptor: int) -> int:
        """How many of them left."""
        sent: int = _libc.sendmmsg(descriptor, self._messages, BATCH, 0)
        return max(0, sent)


def initial_request(proposal: str) -> bytes:
    """An IKE_SA_INIT request that a gateway of the benchmark accepts."""
    offered = parse_proposal(ProtocolId.IKE, proposal)
    method = offered.of_type(TransformType.KE)[0].id
    payloads = (to_offer((offered,)), KeyExchange(method, KE[method].generate().public), Nonce(os.urandom(32)))
    return message(ExchangeType.IKE_SA_INIT, 0, NO_SPI, payloads)


def message(exchange_type: int, message_id: int, spi_r: bytes, payloads: tuple[Payload, ...]) -> bytes:
    """A datagram of an initiator."""
    return encode_message(
        spi_i=os.urandom(8),
        spi_r=spi_r,
        exchange_type=exchange_type,
        flags=FLAG_INITIATOR,
        message_id=message_id,
        payloads=payloads,
    )


def template(kind: str, proposal: str) -> bytes:
    """What all datagrams of a flood have in common."""
    rubbish = os.urandom(RUBBISH_OCTETS)
    match kind:
        case "ike_sa_init" | "forged":
            return initial_request(proposal)
        case "ike_auth":
            return message(ExchangeType.IKE_AUTH, 1, bytes(8), (Encrypted(35, rubbish),))
        case "fragments":
            return message(ExchangeType.IKE_AUTH, 1, bytes(8), (EncryptedFragment(35, 1, 3, rubbish),))
        case _:
            return message(ExchangeType.INFORMATIONAL, 3, os.urandom(8), (Encrypted(0, rubbish),))


def half_open_spis(address: tuple[str, int], number: int, proposal: str) -> list[bytes]:
    """Both SPIs of so many SAs, begun and left half open, one after the other."""
    first = initial_request(proposal)
    spis: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(2.0)
        for n in range(number):
            request = bytearray(first)
            request[:8] = (n + 1).to_bytes(8, "little")
            sender.sendto(request, address)
            header = decode_header(sender.recv(2048))
            if header.spi_r == NO_SPI:
                raise SystemExit("flood: the gateway asks for cookies already; start it afresh")
            spis.append(header.spi_i + header.spi_r)
    return spis


def sources(address: tuple[str, int]) -> list[socket.socket]:
    """Sockets at many addresses of 127.0.0.0/8, connected to the target."""
    opened = []
    for n in range(SOURCES):
        each = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        each.bind((f"127.{16 + n % 200}.{n // 200}.{1 + n % 250}", 0))
        each.connect(address)
        opened.append(each)
    return opened


def anywhere() -> socket.socket:
    """A socket that can send from any address of the loopback device."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(("0.0.0.0", 0))
    return opened


def flood(
    kind: str, address: tuple[str, int], seconds: float, rate: float, spis: list[bytes], proposal: str
) -> tuple[int, float, float]:
    """Send until the time is over, and no faster than `rate` a second; datagrams, seconds, and those of CPU time."""
    batch = Batch(template(kind, proposal))
    opened = [anywhere()] * SOURCES if kind == "forged" else sources(address)
    if kind == "forged":
        batch.forge(address)
    begun, cpu = time.monotonic(), time.process_time()
    end = begun + seconds
    sent = turn = 0
    while (now := time.monotonic()) < end:
        ahead = sent / rate - (now - begun) if rate else 0.0
        if ahead > 0.001:
            time.sleep(ahead)
            continue
        if spis:
            batch.put(0, b"".join(spis[(turn * BATCH + n) % len(spis)] for n in range(BATCH)), 16)
            batch.put(40, os.urandom(8 * BATCH), 8)
        else:
            batch.put(0, os.urandom(8 * BATCH), 8)
            if kind == "informational":
                batch.put(8, os.urandom(8 * BATCH), 8)
        if kind == "forged":
            batch.put_sources(os.urandom(3 * BATCH))
        sent += batch.send(opened[turn % SOURCES].fileno())
        turn += 1
    for each in opened:
        each.close()
    return sent, time.monotonic() - begun, time.process_time() - cpu


def parse_address(text: str) -> tuple[str, int]:
    """`127.x.y.z:PORT`; nothing else may be flooded."""
    host, _, port = text.rpartition(":")
    if not ip_address(host).is_loopback:
        raise argparse.ArgumentTypeError("only a loopback address may be flooded")
    return host, int(port)


def main() -> None:
    """Flood, and say how much it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--target", type=parse_address, required=True, help="where it goes")
    parser.add_argument("--spis-from", type=parse_address, help="where the SAs for rubbish are opened (the target)")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=50_000.0, help="datagrams a second at most; 0 for no bound")
    parser.add_argument("--proposal", default="aes128gcm16-prfsha256-x25519", help="what first requests offer")
    options = parser.parse_args()
    if not 0 < options.seconds <= MAX_SECONDS:
        parser.error(f"a flood lasts at most {MAX_SECONDS:g} s")
    spis = []
    if options.kind in ("ike_auth", "fragments"):
        spis = half_open_spis(options.spis_from or options.target, HALF_OPEN, options.proposal)
    print("flooding", flush=True)
    sent, took, cpu = flood(options.kind, options.target, options.seconds, options.rate, spis, options.proposal)
    print(json.dumps({"kind": options.kind, "sent": sent, "seconds": took, "per_s": sent / took, "cpu_s": cpu}))


if __name__ == "__main__":
    main()

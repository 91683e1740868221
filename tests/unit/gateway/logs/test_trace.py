import logging
from types import SimpleNamespace
from typing import cast

import pytest

from cygnet.gateway.logs.trace import Trace
from cygnet.iana import ExchangeType
from cygnet.ike.path import Path
from cygnet.ike.sa import IkeSa
from cygnet.ike.spi import unique_id
from cygnet.observe.log_groups import RAW

OURS, HALF_OPEN, GONE, THEIRS = b"\1\0ours!!", b"\1\0half-o", b"\1\0gone!!", b"theirs!!"
HERE = Path("192.0.2.1", 500, "192.0.2.2", 4500)


def datagram(spi_i: bytes, spi_r: bytes, exchange: int, flags: int, message_id: int = 1) -> bytes:
    head = spi_i + spi_r + bytes((0, 0x20, exchange, flags)) + message_id.to_bytes(4, "big")
    return head + (28).to_bytes(4, "big")


class Rig:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        sas = {spi: cast("IkeSa", SimpleNamespace(name=name)) for spi, name in ((OURS, "rw"), (HALF_OPEN, ""))}
        self.trace = Trace(lambda octets, path: self.sent.append(octets), sas.get)


@pytest.fixture
def rig(caplog: pytest.LogCaptureFixture) -> Rig:
    caplog.set_level(logging.DEBUG, logger="cygnet.net")
    return Rig()


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, tuple[str, int] | None]]:
    return [(record.getMessage(), getattr(record, "sa", None)) for record in caplog.records]


@pytest.mark.parametrize(
    ("is_from_us", "spis", "flags"),
    [
        (False, (THEIRS, OURS), 0x08),
        (False, (OURS, THEIRS), 0x20),
        (True, (OURS, THEIRS), 0x08),
        (True, (THEIRS, OURS), 0x20),
        (False, (OURS, THEIRS), 0x00),
        (True, (THEIRS, OURS), 0x00),
    ],
)
def test_a_line_names_message_ends_and_sa(
    rig: Rig, caplog: pytest.LogCaptureFixture, is_from_us: bool, spis: tuple[bytes, bytes], flags: int
) -> None:
    octets = datagram(*spis, ExchangeType.IKE_AUTH, flags)
    if is_from_us:
        rig.trace.send(octets, HERE)
        assert rig.sent == [octets]
    else:
        rig.trace.received([(octets, HERE)])
    kind = "response" if flags & 0x20 else "request"
    text = (
        f"sending IKE_AUTH {kind} 1 from 192.0.2.1[500] to 192.0.2.2[4500] (28 octets)"
        if is_from_us
        else f"received IKE_AUTH {kind} 1 from 192.0.2.2[4500] to 192.0.2.1[500] (28 octets)"
    )
    assert lines(caplog) == [(text, ("rw", int.from_bytes(OURS[-4:], "big") & 0x7FFFFFFF))]


def test_an_ike_sa_without_a_connection_has_its_number(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """One that has none yet, and one whose last message this is; but not what somebody invents."""
    rig.trace.received([(datagram(THEIRS, HALF_OPEN, ExchangeType.IKE_AUTH, 0x08), HERE)])
    rig.trace.send(datagram(THEIRS, GONE, ExchangeType.INFORMATIONAL, 0x20), HERE)
    rig.trace.received([(datagram(THEIRS, GONE, ExchangeType.INFORMATIONAL, 0x08), HERE)])
    rig.trace.send(datagram(THEIRS, bytes(8), ExchangeType.IKE_SA_INIT, 0x20), HERE)
    whose = [sa for _, sa in lines(caplog)]
    assert whose == [("", unique_id(HALF_OPEN)), ("", unique_id(GONE)), None, None]


def test_anything_may_come(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.trace.received([(b"short", HERE), (datagram(THEIRS, bytes(8), 250, 0xFF), HERE)])
    ends = "from 192.0.2.2[4500] to 192.0.2.1[500]"
    assert lines(caplog) == [
        (f"received what is no message {ends} (5 octets)", None),
        (f"received exchange 250 response 1 {ends} (28 octets)", None),
    ]


def test_octets_at_level_3_only(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.trace.received([(b"short", HERE)])
    caplog.set_level(RAW, logger="cygnet.net")
    rig.trace.received([(b"short", HERE)])
    assert [text for text, _ in lines(caplog)][2:] == [b"short".hex()]
    assert len(caplog.records) == 3

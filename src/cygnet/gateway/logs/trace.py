"""A line for each IKE datagram, where the group `net` is at level 2, and its octets at level 3.

A worker has one of these only while somebody wants the lines: nothing of it is there on the way of a datagram else.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Final

from cygnet.iana import ExchangeType
from cygnet.ike.path import Path
from cygnet.ike.sa import IkeSa
from cygnet.ike.spi import unique_id
from cygnet.observe.log_groups import RAW, about, group_logger
from cygnet.wire.header import HEADER_OCTETS

_net = group_logger("net")

# RFC 7296 section 3.1: both SPIs, next payload, version, exchange type, flags, message ID.
_HEADER: Final = struct.Struct("!8s8sxxBBI4x")
_INITIATOR: Final = 0x08
_RESPONSE: Final = 0x20


class Trace:
    """Tells of datagrams on their way in and out."""

    __slots__ = ("_sa_of", "_send_ike")

    def __init__(self, send_ike: Callable[[bytes, Path], object], sa_of: Callable[[bytes], IkeSa | None]) -> None:
        """`send_ike` sends; `sa_of` finds an IKE_SA by our SPI, None if there is none."""
        self._send_ike = send_ike
        self._sa_of = sa_of

    def received(self, batch: Sequence[tuple[bytes, Path]]) -> None:
        """These have come."""
        for datagram, path in batch:
            ends = (path.remote, path.remote_port, path.local, path.local_port)
            self._tell("received", datagram, ends, is_ours=False)

    def send(self, datagram: bytes, path: Path, /) -> object:
        """Send, and tell."""
        ends = (path.local, path.local_port, path.remote, path.remote_port)
        self._tell("sending", datagram, ends, is_ours=True)
        return self._send_ike(datagram, path)

    def _tell(self, deed: str, datagram: bytes, ends: tuple[str, int, str, int], *, is_ours: bool) -> None:
        what, whose = self._describe(datagram, is_ours=is_ours)
        text = f"{deed} {what} from %s[%d] to %s[%d] (%d octets)"
        _net.debug(text, *ends, len(datagram), extra=whose)
        if _net.isEnabledFor(RAW):
            _net.log(RAW, "%s", datagram.hex(), extra=whose)

    def _describe(self, datagram: bytes, *, is_ours: bool) -> tuple[str, dict[str, tuple[str, int]] | None]:
        """Such as `IKE_AUTH request 1`, and the IKE_SA that it names, if it is there. Nothing of it is proven."""
        if len(datagram) < HEADER_OCTETS:
            return "what is no message", None
        spi_i, spi_r, exchange, flags, message_id = _HEADER.unpack_from(datagram)
        try:
            name = ExchangeType(exchange).name
        except ValueError:
            name = f"exchange {exchange}"
        kind = "response" if flags & _RESPONSE else "request"
        spi = spi_i if bool(flags & _INITIATOR) is is_ours else spi_r
        sa = self._sa_of(spi)
        # What we send may be the last of an IKE_SA; what has come may name any.
        is_known = sa is not None or (is_ours and any(spi))
        whose = about(sa.name if sa is not None else "", unique_id(spi)) if is_known else None
        return f"{name} {kind} {message_id}", whose

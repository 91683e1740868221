"""A worker's part of updown scripts: it knows which CHILD_SAs come and go, and tells the supervisor, which runs them.

A CHILD_SA and its successors by rekeying are one to a script, as with strongSwan.
"""

import ipaddress
from collections import Counter
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from cygnet.gateway.control import AnyMessage, ChildDown, ChildUp
from cygnet.gateway.errands.name_servers import PeerServers
from cygnet.ike.effects import ChildRekeyed, Effect, InstallChild, RemoveChild
from cygnet.ike.sa import IkeSa
from cygnet.ike.spi import unique_id


class ChildScripts:
    """Called with what happens to CHILD_SAs, if any has a script."""

    __slots__ = ("_again", "_alive", "_lines", "_new", "_sa_of", "_scripted", "_send", "_servers_of")

    def __init__(
        self,
        send: Callable[[AnyMessage], object],
        again: Callable[[Callable[[], object]], object],
        sa_of: Callable[[bytes], IkeSa | None],
        servers: PeerServers,
    ) -> None:
        """`send` takes messages to the supervisor, `again` calls when what happens now is over."""
        self._servers_of = servers.of
        self._send = send
        self._again = again
        self._sa_of = sa_of
        self._scripted: AbstractSet[tuple[str, str]] = frozenset()
        self._new: list[InstallChild] = []
        self._lines: dict[bytes, bytes] = {}
        """The first of a line of CHILD_SAs by each that is there, as inbound SPIs."""
        self._alive: Counter[bytes] = Counter()

    def configure(self, scripted: AbstractSet[tuple[str, str]]) -> bool:
        """These have a script, by the names of connection and child; whether to be told of anything."""
        self._scripted = scripted
        return bool(self._scripted or self._lines)

    def __call__(self, effect: Effect) -> None:
        """Something has happened."""
        if isinstance(effect, InstallChild):
            # Only when all is done that belongs to it is it known whether it is a successor, and whose it is.
            if not self._new:
                self._again(self._tell)
            self._new.append(effect)
        elif isinstance(effect, RemoveChild):
            self._removed(effect.spi_in)
        elif isinstance(effect, ChildRekeyed) and effect.old in self._lines:
            first = self._lines[effect.spi_in] = self._lines[effect.old]
            self._alive[first] += 1

    def _tell(self) -> None:
        new, self._new = self._new, []
        for child in new:
            sa = self._sa_of(child.sa)
            if child.spi_in not in self._lines and sa is not None and (sa.name, child.name) in self._scripted:
                self._lines[child.spi_in] = child.spi_in
                self._alive[child.spi_in] = 1
                self._send(self._up(child, sa))

    def _removed(self, spi_in: bytes) -> None:
        if self._new:
            self._new = [child for child in self._new if child.spi_in != spi_in]
        first = self._lines.pop(spi_in, None)
        if first is None:
            return
        self._alive[first] -= 1
        if not self._alive[first]:
            del self._alive[first]
            self._send(ChildDown(first))

    def _up(self, child: InstallChild, sa: IkeSa) -> ChildUp:
        addresses = tuple(str(ipaddress.ip_address(address)) for address in sa.virtual_ips)
        return ChildUp(
            spi_in=child.spi_in,
            connection=sa.name,
            child=child.name,
            unique_id=unique_id(sa.spi),
            reqid=unique_id(child.spi_in),
            local_host=child.path.local,
            remote_host=child.path.remote,
            remote_port=child.path.remote_port if child.is_udp_encapsulated else 0,
            local_id=str(sa.local_id),
            remote_id=str(sa.remote_id),
            local_ts=child.ts_local,
            remote_ts=child.ts_remote,
            local_vips=() if sa.has_leases else addresses,
            remote_vips=addresses if sa.has_leases else (),
            servers=self._servers_of(sa.spi),
        )

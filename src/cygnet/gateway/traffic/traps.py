"""Traps: children that are set up when there is a packet for them (`start_action = trap`, RFC 4301 section 4.4.1).

The kernel's routes bring the packets for a trap's `remote_ts` to the worker that sets its connection up. What no tunnel
takes comes here. The first packet that a trap is for begins a CHILD_SA, with the packet's own selectors before those of
the policy (RFC 7296 section 2.9), in the connection's IKE_SA if there is one. It and a few more are held meanwhile.

One attempt is under way at a time. After one that failed, or whose CHILD_SA is not for what was held, packets are
dropped for a pause which doubles each time: a peer that is not there is not asked for each packet.
"""

from collections.abc import Callable, Iterable
from typing import Final

from cygnet.dataplane.base import Count
from cygnet.dataplane.inner import Flow
from cygnet.dataplane.selection import AddressTable, covers, flow_selectors
from cygnet.gateway.host.host_network import HostNetwork
from cygnet.gateway.initiations import Initiations, first_single, initiating_worker, path_to_peer
from cygnet.ike.connections import Child, Connection
from cygnet.ike.effects import ChildFailed, Effect, InstallChild, Revive, SaClosed, SaEstablished, SaRekeyed
from cygnet.ike.errors import LocalError
from cygnet.ike.exchanges.child import ends
from cygnet.ike.nat import pack_address
from cygnet.ike.path import Path
from cygnet.ike.sa import IkeSa
from cygnet.ike.states import SaState
from cygnet.ike.tasks import CreateChild, DeleteChild
from cygnet.ike.transport_mode import is_wanted, policy_between
from cygnet.net.driver import Driver
from cygnet.observe.log_groups import about, group_logger
from cygnet.wire.payloads.traffic_selectors import TrafficSelector

_log = group_logger("chd")

MAX_HELD: Final = 8
"""Packets of one trap: those of some connections that begin at once. Their senders send again what is not held."""
FIRST_PAUSE_S: Final = 1.0
LAST_PAUSE_S: Final = 60.0
"""Pauses double up to this."""


class _Trap:
    """A child that waits for a packet."""

    __slots__ = ("child", "connection", "held", "pause_s", "quiet_until", "remote", "sa")

    def __init__(self, connection: Connection, child: Child, peer: str) -> None:
        self.connection = connection
        self.child = child
        self.remote: tuple[TrafficSelector, ...] = child.remote.resolve((pack_address(peer),))
        self.held: list[bytes] = []
        self.sa = b""
        """The IKE_SA, by our SPI, in which it is being set up; empty if it is not."""
        self.pause_s = FIRST_PAUSE_S
        self.quiet_until = 0.0

    @property
    def key(self) -> bytes:
        """By which it is known here."""
        return key_of(self.connection.settings.name, self.child.settings.name)


def key_of(connection: str, child: str) -> bytes:
    """What is the same for the traps of one child."""
    return f"{connection}/{child}".encode()


class Traps:
    """Those of one worker."""

    def __init__(
        self,
        driver: Driver,
        initiations: Initiations,
        network: HostNetwork,
        *,
        port: int,
        worker: int,
        workers: int,
        send: Callable[[bytes], object],
        count_event: Count,
        path_to: Callable[[Connection, int], Path] = lambda connection, port: path_to_peer(connection.settings, port),
    ) -> None:
        """`send` takes what was held when there is a tunnel for it; `network` has the kernel bring packets."""
        self._driver = driver
        self._initiations = initiations
        self._network = network
        self._port = port
        self._worker = worker
        self._workers = workers
        self._send = send
        self._count_event = count_event
        self._path_to = path_to
        self._traps: dict[bytes, _Trap] = {}
        self._places = AddressTable()
        self._lost: set[tuple[str, str]] = set()
        """Connection and child: what was lost, and is to be set up again when there is a packet for it."""
        self._waiting: dict[bytes, list[_Trap]] = {}
        """Those that are being set up, by our SPI of the IKE_SA."""
        self._sas: dict[str, bytes] = {}
        """The newest IKE_SA of each connection that traps set up."""
        self._is_stopped = False

    def __len__(self) -> int:
        return len(self._traps)

    # Which there are.

    def names(self) -> Iterable[tuple[str, str]]:
        """Of the connection and the child of each."""
        return [(trap.connection.settings.name, trap.child.settings.name) for trap in self._traps.values()]

    def configure(self) -> None:
        """Have the traps that the configuration asks for now, and no others."""
        env = self._driver.table.env
        orders = {(order.connection, order.child): order.is_installed for order in env.settings.trap_orders}
        wanted: dict[bytes, tuple[Connection, Child]] = {}
        for name in dict.fromkeys((*env.connections.trapped, *(each for each, _ in (*self._lost, *orders)))):
            connection = env.connections.named(name)
            if connection is None:
                continue
            is_ours = initiating_worker(connection.settings, self._workers) == self._worker
            for child in connection.children:
                which = (name, child.settings.name)
                is_trapped = which in self._lost or (is_ours and child.settings.start_action.has_trap)
                if orders.get(which, is_trapped) and (is_ours or is_trapped):
                    wanted[key_of(*which)] = (connection, child)
        for key in [key for key, trap in self._traps.items() if wanted.get(key) != (trap.connection, trap.child)]:
            self._remove(key)
        for key, (connection, child) in wanted.items():
            if key not in self._traps:
                self._install(connection, child)

    def lost(self, effect: Revive) -> None:
        """CHILD_SAs are gone that are to be set up again when there is a packet for them."""
        connection = self._driver.table.env.connections.named(effect.connection)
        for name in effect.trap:
            child = connection.child(name) if connection is not None else None
            self._lost.add((effect.connection, name))
            if connection is not None and child is not None and key_of(effect.connection, name) not in self._traps:
                self._install(connection, child)

    def stop(self) -> None:
        """Begin nothing more."""
        self._is_stopped = True

    def _install(self, connection: Connection, child: Child) -> None:
        peer = first_single(connection.settings.remote_addrs)
        if peer is None:
            about_it = about(connection.settings.name)
            _log.warning("no trap for a peer without a single address: %s", child.settings.name, extra=about_it)
            return
        trap = _Trap(connection, child, peer)
        diverted = self._between_hosts(trap, peer) if is_wanted(child) else None
        if diverted is not None:
            if not all(diverted):
                return
            trap.remote = diverted[1]
        self._traps[trap.key] = trap
        for selector in trap.remote:
            self._places.add(selector.start, selector.end, trap.key)
        if diverted is not None:
            self._network.transport_trap_installed(trap.key, *diverted)
            return
        self._network.trap_installed(trap.key, peer, trap.remote, is_client=bool(connection.settings.vips))

    def _between_hosts(self, trap: _Trap, peer: str) -> tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]]:
        """What a trap for transport mode is for, at our end and at the peer's; nothing, with a word, if it can't be."""
        name, about_it = trap.child.settings.name, about(trap.connection.settings.name)
        if not self._driver.table.env.takes_transport:
            _log.warning("no trap for %s, since there is no transport mode here", name, extra=about_it)
            return (), ()
        try:
            ours = self._path_to(trap.connection, self._port).local
        except LocalError as exc:
            _log.warning("no trap for %s while our own address is not known: %s", name, exc, extra=about_it)
            return (), ()
        return policy_between(trap.child, pack_address(ours), pack_address(peer))

    def _remove(self, key: bytes) -> None:
        trap = self._traps.pop(key)
        self._end_wait(trap)
        self._drop_held(trap)
        for selector in trap.remote:
            self._places.discard(selector.start, selector.end, key)
        self._network.trap_removed(key)

    # Packets.

    def take(self, packet: bytes, flow: Flow) -> bool:
        """Take a packet that no tunnel is for; False if no trap is for it either."""
        for key in self._places.candidates(flow.destination):
            trap = self._traps[key]
            if covers(trap.remote, flow.destination, flow.protocol, flow.destination_port):
                return self._spring(trap, packet, flow)
        return False

    def _spring(self, trap: _Trap, packet: bytes, flow: Flow) -> bool:
        if trap.sa:
            if len(trap.held) < MAX_HELD:
                trap.held.append(packet)
            else:
                self._count_event("trap_dropped")
            return True
        now = self._driver.clock()
        if self._is_stopped or now < trap.quiet_until:
            self._count_event("trap_dropped")
            return True
        try:
            path = self._path_to(trap.connection, self._port)
        except LocalError as exc:
            self._failed(trap, str(exc))
            self._count_event("trap_dropped")
            return True
        sa = self._sa_of(trap.connection)
        ours = _own_end(trap, sa, path)
        if ours is not None and not covers(ours, flow.source, flow.protocol, flow.source_port):
            return False
        trap.held.append(packet)
        self._count_event("trap_sprung")
        self._begin(trap, sa, path, flow)
        return True

    def _begin(self, trap: _Trap, sa: IkeSa | None, path: Path, flow: Flow) -> None:
        """Set the CHILD_SA up: in the IKE_SA that is there, or in a new one."""
        driver, connection = self._driver, trap.connection
        name, selectors = connection.settings.name, flow_selectors(flow)
        attempt = self._initiations.attempt_at(name)
        if attempt is not None and not attempt.sa:
            self._failed(trap, "the connection is between two attempts to set it up")
            return
        if attempt is not None and trap.child.settings.name in attempt.children:
            self._wait(trap, attempt.sa)
            return
        if attempt is not None:
            sa = driver.table.sa(attempt.sa)
        if sa is not None:
            self._wait(trap, sa.spi)
            effects = driver.table.order(sa.spi, CreateChild(trap.child.settings.name, flow=selectors), driver.clock())
        else:
            spi, effects = driver.table.initiate(connection, path, driver.clock(), child=trap.child, flow=selectors)
            self._wait(trap, spi)
            self._sas[name] = spi
        driver.carry_out(effects)

    def _sa_of(self, connection: Connection) -> IkeSa | None:
        """The IKE_SA of a connection, if there is one that a CHILD_SA can be set up in."""
        settings, table = connection.settings, self._driver.table
        sa = table.sa(self._sas.get(settings.name, b"")) or table.established_as(settings.name, settings.remote.id)
        if sa is None or sa.is_ending or not (sa.is_being_set_up or sa.state == SaState.ESTABLISHED):
            return None
        return sa

    # What becomes of them.

    def on_event(self, effect: Effect) -> None:
        """Something has happened in the core: perhaps what traps wait for."""
        kind = type(effect)
        if kind is SaEstablished or kind is SaRekeyed:
            self._note_sa(effect)  # type: ignore[arg-type]
        if not self._waiting:
            return
        if kind is InstallChild:
            for trap in self._of(effect.sa, effect.name):  # type: ignore[union-attr]
                self._succeeded(trap, effect)  # type: ignore[arg-type]
        elif kind is ChildFailed:
            for trap in self._of(effect.sa, effect.name):  # type: ignore[union-attr]
                self._failed(trap, effect.reason)  # type: ignore[union-attr]
        elif kind is SaClosed:
            for trap in tuple(self._waiting.get(effect.sa, ())):  # type: ignore[union-attr]
                self._failed(trap, effect.reason)  # type: ignore[union-attr]

    def _note_sa(self, effect: SaEstablished | SaRekeyed) -> None:
        if effect.connection in self._sas:
            self._sas[effect.connection] = effect.sa
        if isinstance(effect, SaRekeyed):
            for trap in tuple(self._waiting.get(effect.old, ())):
                self._wait(trap, effect.sa)

    def _of(self, spi: bytes, name: str) -> Iterable[_Trap]:
        return [trap for trap in self._waiting.get(spi, ()) if trap.child.settings.name == name]

    def _wait(self, trap: _Trap, spi: bytes) -> None:
        """It is being set up in that IKE_SA, by our SPI."""
        self._end_wait(trap)
        trap.sa = spi
        self._waiting.setdefault(spi, []).append(trap)

    def _end_wait(self, trap: _Trap) -> None:
        waiting = self._waiting.get(trap.sa, [])
        if trap in waiting:
            waiting.remove(trap)
            if not waiting:
                del self._waiting[trap.sa]
        trap.sa = b""

    def _succeeded(self, trap: _Trap, child: InstallChild) -> None:
        self._end_wait(trap)
        held, trap.held = trap.held, []
        # Should none of it fit the tunnel, it comes back here: it must not set up the next one at once.
        self._pause(trap)
        sent = sum(bool(self._send(packet)) for packet in held)
        if sent or not held:
            trap.quiet_until, trap.pause_s = 0.0, FIRST_PAUSE_S
            return
        name, about_it = trap.child.settings.name, about(trap.connection.settings.name)
        _log.warning("CHILD_SA %s is not for the packet that set it up", name, extra=about_it)
        sa = self._driver.table.sa(child.sa)
        if sa is not None and any(each.name == child.name and each.spi_in != child.spi_in for each in sa.children):
            # The peer has narrowed it to what there is a CHILD_SA for already.
            self._driver.carry_out(self._driver.table.order(sa.spi, DeleteChild(child.spi_in), self._driver.clock()))

    def _failed(self, trap: _Trap, reason: str) -> None:
        name, about_it = trap.child.settings.name, about(trap.connection.settings.name)
        _log.warning("%s not set up for a packet, nor for %.0f s: %s", name, trap.pause_s, reason, extra=about_it)
        self._end_wait(trap)
        self._drop_held(trap)
        self._pause(trap)

    def _pause(self, trap: _Trap) -> None:
        trap.quiet_until = self._driver.clock() + trap.pause_s
        trap.pause_s = min(2 * trap.pause_s, LAST_PAUSE_S)

    def _drop_held(self, trap: _Trap) -> None:
        for _ in trap.held:
            self._count_event("trap_dropped")
        trap.held = []


def _own_end(trap: _Trap, sa: IkeSa | None, path: Path) -> tuple[TrafficSelector, ...] | None:
    """Our end of the policy of a trap; None while a virtual address is yet to be given."""
    if sa is not None and sa.state == SaState.ESTABLISHED:
        return trap.child.local.resolve(ends(sa)[0])
    return None if trap.connection.settings.vips else trap.child.local.resolve((pack_address(path.local),))

"""Two or more cores on a fake network with a fake clock: loss, duplication, reordering and NATs by a seed.

Nothing sleeps: `World.run` takes the next event from a heap and sets the clock to it. The same seed gives the same run.
"""

import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

import msgspec

from cygnet.auth.identity import Identity, parse_identity
from cygnet.iana import ExchangeType, ProtocolId
from cygnet.ike import waking
from cygnet.ike.connections import Connection
from cygnet.ike.effects import (
    Effect,
    InitialContact,
    InstallChild,
    MoveChild,
    RemoveChild,
    RetireChild,
    SaClosed,
    SaEstablished,
    Send,
    SendKeepalive,
    UseChild,
)
from cygnet.ike.environment import Environment
from cygnet.ike.errors import AddressAwaited
from cygnet.ike.lifetimes import NEVER
from cygnet.ike.path import Path
from cygnet.ike.proposals import parse_proposal
from cygnet.ike.resting import IDLE_S
from cygnet.ike.sa import IkeSa
from cygnet.ike.selectors import parse_selector
from cygnet.ike.settings import (
    AuthSettings,
    ChildSettings,
    ConnectionSettings,
    RetransmitPolicy,
    Settings,
    SharedSecret,
)
from cygnet.ike.table import IkeTable
from cygnet.ike.timer_wheel import TimerWheel
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.configuration import ConfigurationAttribute

IKE = (parse_proposal(ProtocolId.IKE, "aes128gcm16-prfsha256-x25519"),)
ESP = (parse_proposal(ProtocolId.ESP, "aes128gcm16"),)
EVERYTHING = (parse_selector("0.0.0.0/0"), parse_selector("::/0"))
GATEWAY_ID = parse_identity("gw.example.org")
CLIENT_ID = parse_identity("carol@example.org")
SECRET = SharedSecret(b"a secret of some length")

CLIENT, GATEWAY = "192.0.2.1", "198.51.100.1"

Address = tuple[str, int]
NOWHERE: Address = ("0.0.0.0", 0)
_FEW = 5


class ListPool:
    """Virtual addresses from a list: the simplest thing that is one."""

    def __init__(self, addresses: Iterable[bytes] = (), attributes: tuple[ConfigurationAttribute, ...] = ()) -> None:
        self.free = list(addresses)
        self.used: set[bytes] = set()
        self._attributes = attributes

    def acquire(self, pools: tuple[str, ...], octets: int, wanted: bytes, identity: Identity) -> bytes | None:
        for address in self.free:
            if len(address) == octets:
                self.free.remove(address)
                self.used.add(address)
                return address
        return None

    def release(self, address: bytes) -> bool:
        self.used.remove(address)
        self.free.append(address)
        return False

    def is_handed_over(self, address: bytes) -> bool:
        return False

    def attributes(self, pools: tuple[str, ...], addresses: tuple[bytes, ...]) -> tuple[ConfigurationAttribute, ...]:
        return self._attributes


class SlowPool(ListPool):
    """Its addresses have to be fetched."""

    def acquire(self, pools: tuple[str, ...], octets: int, wanted: bytes, identity: Identity) -> bytes | None:
        address = super().acquire(pools, octets, wanted, identity)
        if address is None:
            raise AddressAwaited
        return address


def gateway_settings(**changes: object) -> Settings:
    """A gateway for road warriors with one pool."""
    connection = ConnectionSettings(
        name="rw",
        proposals=IKE,
        local=AuthSettings(id=GATEWAY_ID),
        remote=AuthSettings(id=parse_identity("*@example.org")),
        pools=("pool",),
        children=(ChildSettings(name="net", esp_proposals=ESP, local_ts=EVERYTHING),),
    )
    settings = Settings(connections=(connection,), secrets=(SECRET,))
    return msgspec.structs.replace(settings, **changes)


def change_connection(settings: Settings, **changes: object) -> Settings:
    """The same with other values in its first connection."""
    first = msgspec.structs.replace(settings.connections[0], **changes)
    return msgspec.structs.replace(settings, connections=(first, *settings.connections[1:]))


def client_connection(**changes: object) -> ConnectionSettings:
    """A road warrior that wants an IPv4 address, and stays where it is."""
    connection = ConnectionSettings(
        name="home",
        proposals=IKE,
        local=AuthSettings(id=CLIENT_ID),
        remote=AuthSettings(id=GATEWAY_ID),
        mobike=False,
        vips=(bytes(4),),
        children=(ChildSettings(name="net", esp_proposals=ESP, remote_ts=EVERYTHING),),
    )
    return msgspec.structs.replace(connection, **changes)


def client_settings(**changes: object) -> Settings:
    """What goes with `client_connection`."""
    settings = Settings(secrets=(SECRET,), retransmit=RetransmitPolicy(timeout_s=1.0, base=1.5, tries=5))
    return msgspec.structs.replace(settings, **changes)


def counted(number: int) -> Iterator[bytes]:
    """That many packed addresses, 10.0.0.1 and up."""
    return (bytes((10, 0, n >> 8, n & 255)) for n in range(1, number + 1))


class HostAddresses:
    """The addresses of a host, as its core sees them: the first of a family is where it sends from."""

    def __init__(self, host: "Host") -> None:
        self._host = host

    def all(self) -> tuple[str, ...]:
        return tuple(self._host.addresses)

    def source_to(self, remote: str) -> str:
        return next((each for each in self._host.addresses if (":" in each) == (":" in remote)), "")


class Host:
    """A core at an address, with what its effects left behind."""

    packs_always = False
    """Pack every IKE_SA that is at rest after each message and timer, and wake it again: nothing may change by that."""

    def __init__(
        self,
        world: "World",
        address: str,
        settings: Settings,
        pool: ListPool | None = None,
        *,
        sends_initial_contact: bool = False,
    ) -> None:
        self.world = world
        self.address = address
        self.addresses = [address]
        self.counters: Counter[str] = Counter()
        self.children: dict[bytes, InstallChild] = {}
        self.paths: dict[bytes, Path] = {}
        self.esp_sent: dict[bytes, float] = {}
        """When ESP last went out on a CHILD_SA, by our SPI."""
        self.events: list[Effect] = []
        self.pool = pool if pool is not None else ListPool()
        if world.fragment_size is not None:
            settings = msgspec.structs.replace(settings, fragment_size=world.fragment_size)
        self.env = Environment(
            settings,
            entropy=world.rng.randbytes,
            count=self._count,
            addresses=self.pool,
            sends_initial_contact=sends_initial_contact,
            local_addresses=HostAddresses(self),
        )
        self.env.last_sent = lambda spi_in: self.esp_sent.get(spi_in, 0.0)
        # No sweep besides: it would come due all the time, since what is packed here is awake again at once.
        self.table = IkeTable(self.env, idle_s=math.inf if self.packs_always else IDLE_S)
        self.is_down = False
        world.add(self)

    def _count(self, name: str, n: int = 1) -> None:
        self.counters[name] += n

    def initiate(self, peer: "Host", connection: ConnectionSettings, *, further: Iterable[str] = ()) -> bytes:
        """Begin an IKE_SA with the peer: with the first child, and then those that are named."""
        path = Path(self.address, 500, peer.address, 500)
        spi, effects = self.table.initiate(Connection(connection), path, self.world.now, further=further)
        self.carry_out(effects)
        return spi

    def set_addresses(self, *addresses: str) -> None:
        """Have these and no others from now on, and tell the core."""
        self.addresses = list(addresses)
        for address in addresses:
            self.world.hosts[address] = self
        self.carry_out(self.table.roam(self.world.now, is_list_new=True))

    def delete(self, spi: bytes) -> None:
        """End an IKE_SA and tell the peer."""
        self.carry_out(self.table.delete(spi, self.world.now))

    def receive(self, datagram: bytes, path: Path) -> None:
        if self.is_down:
            return
        effects = self.table.receive(datagram, path, self.world.now)
        self.check_timers()
        self.carry_out(effects)

    def next_timer(self) -> float | None:
        """When it is to be woken."""
        return self.table.next_timer()

    def wake(self) -> None:
        effects = self.table.handle_timers(self.world.now)
        self.check_timers()
        self.carry_out(effects)

    def check_timers(self) -> None:
        """Whatever was served, each IKE_SA will be woken in time: the one that was, and where there are few all.

        What can wait while the host is behind may have no time.
        """
        sas, served = self.table.sas, self.table.serving
        spis = sas if len(sas) <= _FEW else [served.spi] if served is not None else []
        for sa in map(sas.look, spis):
            if isinstance(sa, IkeSa):
                due = sa.next_timer()
                lag = self.env.lag(self.world.now)
                if due is not None and (lag or self.table.put_off):
                    due = max(due, waking.can_wait_until(sa, lag))
                if due not in (None, NEVER):
                    assert 0 < sa.wheel_slot <= TimerWheel.slot_of(due), "nobody would wake it in time"

    def carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self.world.send(self, effect)
                case SendKeepalive():
                    self.world.keep_alive(effect)
                case InstallChild():
                    assert effect.spi_in not in self.children, "an inbound SPI is in use twice"
                    self.children[effect.spi_in] = effect
                    self.paths[effect.spi_in] = effect.path
                case RemoveChild():
                    del self.children[effect.spi_in]
                case UseChild() | RetireChild():
                    assert effect.spi_in in self.children
                case MoveChild():
                    self.paths[effect.spi_in] = effect.path
            self.events.append(effect)
        if self.packs_always:
            self.repack()

    def repack(self) -> None:
        """Put in each IKE_SA that is at rest what its record says. They stay the objects that tests hold."""
        sas = self.table.sas
        awake = {spi: sa for spi in sas if isinstance(sa := sas.look(spi), IkeSa)}
        sas.rest_all(self.world.now)
        for spi, sa in awake.items():
            again = sas[spi]
            for name in IkeSa.__struct_fields__:
                setattr(sa, name, getattr(again, name))
            sas[spi] = sa

    def of_kind(self, kind: type) -> list[Effect]:
        """The events of one kind so far."""
        return [e for e in self.events if type(e) is kind]

    @property
    def closed(self) -> list[str]:
        """Why SAs were closed, in order."""
        return [e.reason for e in self.events if isinstance(e, SaClosed)]

    @property
    def established(self) -> list[SaEstablished]:
        return [e for e in self.events if isinstance(e, SaEstablished)]

    @property
    def initial_contacts(self) -> list[InitialContact]:
        return [e for e in self.events if isinstance(e, InitialContact)]


@dataclass
class Weather:
    """What the network does to datagrams: probabilities, and delays in seconds."""

    loss: float = 0.0
    duplication: float = 0.0
    delay: float = 0.01
    jitter: float = 0.0
    """Up to this much more delay; what exceeds the gap between two datagrams reorders them."""


@dataclass
class Nat:
    """Hides a host behind another address; each of its ports gets a port there when it is first used."""

    inside: str
    outside: str
    ports: dict[Address, Address] = field(default_factory=dict)
    back: dict[Address, Address] = field(default_factory=dict)
    next_port: Iterator[int] = field(default_factory=lambda: count(40000))
    idle_s: float = math.inf
    """How long a mapping lives without a packet from inside."""
    used: dict[Address, float] = field(default_factory=dict)

    def out(self, source: Address, now: float) -> Address:
        if now - self.used.get(source, now) > self.idle_s:
            del self.back[self.ports.pop(source)]
        self.used[source] = now
        if source not in self.ports:
            mapped = (self.outside, next(self.next_port))
            self.ports[source] = mapped
            self.back[mapped] = source
        return self.ports[source]

    def into(self, target: Address, now: float) -> Address:
        """Where a packet to the outside goes: nowhere, if nothing has come out that way lately."""
        source = self.back.get(target, NOWHERE)
        return source if now - self.used.get(source, now) <= self.idle_s else NOWHERE

    def rebind(self) -> None:
        """Forget what goes out through which port, as after a restart; old ports lead nowhere."""
        self.ports.clear()
        self.back.clear()
        self.used.clear()


class World:
    """The network, the clock and the hosts."""

    fragment_size: int | None = None
    """In place of what the settings of its hosts say."""

    def __init__(self, seed: int = 0, weather: Weather | None = None) -> None:
        self.rng = random.Random(seed)
        self.now = 1000.0
        self.weather = weather if weather is not None else Weather()
        self.nats: list[Nat] = []
        self.unreachable: set[str] = set()
        """Addresses whose packets get lost on the way in."""
        self.hosts: dict[str, Host] = {}
        self.sent: list[tuple[Host, Send]] = []
        self.mtu = 0xFFFF
        """Octets of the longest IP packet that gets through."""
        self.tamper: Callable[[Host, Send], Iterable[Send]] = lambda host, send: (send,)
        """Sees each datagram that is sent, and returns what goes on in its place."""
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], object]]] = []

    def add(self, host: Host) -> None:
        self.hosts[host.address] = host

    def at(self, delay: float, event: Callable[[], object]) -> None:
        """Let something happen `delay` seconds from now."""
        heapq.heappush(self._events, (self.now + delay, next(self._order), event))

    def send(self, host: Host, send: Send) -> None:
        self.sent.append((host, send))
        for each in self.tamper(host, send):
            if packet_octets(each) > self.mtu:
                continue
            copies = 1 + (self.rng.random() < self.weather.duplication)
            for _ in range(copies):
                if self.rng.random() >= self.weather.loss:
                    delay = self.weather.delay + self.rng.random() * self.weather.jitter
                    self._carry(each, delay)

    def keep_alive(self, effect: SendKeepalive) -> None:
        """It refreshes the mapping that it passes, and ends in the peer's socket."""
        for nat in self.nats:
            if effect.path.local == nat.inside:
                nat.out((effect.path.local, effect.path.local_port), self.now)

    def _carry(self, send: Send, delay: float) -> None:
        path = send.path
        sender = self.hosts.get(path.local)
        if sender is not None and path.local not in sender.addresses:
            return
        source, target = (path.local, path.local_port), (path.remote, path.remote_port)
        for nat in self.nats:
            if source[0] == nat.inside:
                source = nat.out(source, self.now)
            if target[0] == nat.outside:
                target = nat.into(target, self.now)
        host = self.hosts.get(target[0])
        if host is not None and target[0] in host.addresses and target[0] not in self.unreachable:
            arrived = Path(target[0], target[1], source[0], source[1])
            self.at(delay, lambda: host.receive(send.datagram, arrived))

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end = self.now + seconds
        while True:
            due = [(host.next_timer(), host) for host in self.hosts.values() if not host.is_down]
            timer, host = min(
                ((max(t, self.now), h) for t, h in due if t is not None),
                key=lambda item: item[0],
                default=(None, None),
            )
            event = self._events[0][0] if self._events else None
            nearest = min((t for t in (timer, event) if t is not None), default=None)
            if nearest is None or nearest > end:
                break
            self.now = max(self.now, nearest)
            if event is not None and event <= nearest:
                heapq.heappop(self._events)[2]()
            elif host is not None:
                host.wake()
        self.now = end


def packet_octets(send: Send) -> int:
    """Octets of the IP packet that a datagram makes."""
    return len(send.datagram) + (48 if send.path.is_ipv6 else 28) + (4 if send.path.local_port == 4500 else 0)


def agree(a: Host, b: Host) -> bool:
    """Whether both hold the same IKE_SAs and, key by key, the same CHILD_SAs."""
    if {(s.spi_i, s.spi_r) for s in a.table.sas.values()} != {(s.spi_i, s.spi_r) for s in b.table.sas.values()}:
        return False
    ours = {(c.spi_in, c.spi_out, c.keys_in, c.keys_out, c.ts_local, c.ts_remote) for c in a.children.values()}
    theirs = {(c.spi_out, c.spi_in, c.keys_out, c.keys_in, c.ts_remote, c.ts_local) for c in b.children.values()}
    return ours == theirs


def sa_of(host: Host) -> IkeSa:
    """Its one IKE_SA."""
    (sa,) = host.table.sas.values()
    return sa


def request(host: Host, payloads: tuple[Payload, ...], exchange_type: int = ExchangeType.INFORMATIONAL) -> bytes:
    """An authentic request of `host`, whatever it says, with the message ID that the peer expects."""
    sa = sa_of(host)
    return sa.seal(exchange_type, sa.message_ids.next_id, payloads, is_response=False)


def drops(host: Host) -> dict[str, int]:
    """Dropped datagrams by reason."""
    prefix = 'datagrams_dropped_total{reason="'
    return {name[len(prefix) : -2]: n for name, n in host.counters.items() if name.startswith(prefix)}

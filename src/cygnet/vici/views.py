"""What is shown of SAs, and the layout that strongSwan's clients expect of it (events `list-sa`, `ike-updown`, ...)."""

import msgspec

from cygnet.vici.message import Encodable, Encoded


class Algorithms(msgspec.Struct, frozen=True, array_like=True):
    """The transforms of an SA by strongSwan's names, such as `AES_GCM_16`; empty where there is none."""

    encr: str = ""
    encr_bits: int = 0
    """0 where the algorithm has one key length only."""
    integ: str = ""
    prf: str = ""
    ke: str = ""

    def layout(self) -> dict[str, str | int | None]:
        """Their keys in a message."""
        return {
            "encr-alg": self.encr or None,
            "encr-keysize": self.encr_bits or None,
            "integ-alg": self.integ or None,
            "prf-alg": self.prf or None,
            "dh-group": self.ke or None,
        }


class ChildView(msgspec.Struct, frozen=True, array_like=True):
    """A CHILD_SA. Times are in whole seconds; None where nothing is planned, or nothing has come."""

    name: str
    unique_id: int
    state: str
    mode: str
    is_udp_encapsulated: bool
    spi_in: bytes
    spi_out: bytes
    algorithms: Algorithms
    is_esn: bool
    octets_in: int
    packets_in: int
    used_in_s: int | None
    """Since the last packet came in."""
    octets_out: int
    packets_out: int
    used_out_s: int | None
    """Since the last packet went out."""
    rekey_s: int | None
    life_s: int | None
    installed_s: int
    """Since it was installed."""
    local_ts: tuple[str, ...]
    remote_ts: tuple[str, ...]

    @property
    def key(self) -> str:
        """Its name among the `child-sas`."""
        return f"{self.name}-{self.unique_id}"

    def layout(self) -> Encodable:
        """Its section in a message."""
        return {
            "name": self.name,
            "uniqueid": self.unique_id,
            "reqid": self.unique_id,
            "state": self.state,
            "mode": self.mode,
            "protocol": "ESP",
            "encap": True if self.is_udp_encapsulated else None,
            "spi-in": self.spi_in.hex(),
            "spi-out": self.spi_out.hex(),
            **self.algorithms.layout(),
            "esn": 1 if self.is_esn else None,
            "bytes-in": self.octets_in,
            "packets-in": self.packets_in,
            "use-in": self.used_in_s,
            "bytes-out": self.octets_out,
            "packets-out": self.packets_out,
            "use-out": self.used_out_s,
            "rekey-time": self.rekey_s,
            "life-time": self.life_s,
            "install-time": self.installed_s,
            "local-ts": self.local_ts,
            "remote-ts": self.remote_ts,
        }


class SaView(msgspec.Struct, frozen=True, array_like=True):
    """An IKE_SA with its CHILD_SAs."""

    name: str
    unique_id: int
    state: str
    local_host: str
    local_port: int
    local_id: str
    remote_host: str
    remote_port: int
    remote_id: str
    is_initiator: bool
    spi_i: bytes
    spi_r: bytes
    is_behind_nat: bool
    is_peer_behind_nat: bool
    is_nat_feigned: bool
    """Whether we have said that there is a NAT, for ESP to go in UDP (`encap`)."""
    algorithms: Algorithms
    established_s: int | None
    """Since it was established; None while it isn't."""
    rekey_s: int | None
    reauth_s: int | None
    local_vips: tuple[str, ...]
    remote_vips: tuple[str, ...]
    tasks_active: tuple[str, ...]
    """What is under way, and what waits for that, by strongSwan's names."""
    tasks_queued: tuple[str, ...]
    children: tuple[ChildView, ...]

    def layout(self, children: "tuple[ChildView, ...] | Encoded | None" = None) -> Encodable:
        """Its section in a message, with all its CHILD_SAs or with these."""
        is_established = self.established_s is not None
        if not isinstance(children, Encoded):
            shown = self.children if children is None else children
        return {
            "uniqueid": self.unique_id,
            "version": 2,
            "state": self.state,
            "local-host": self.local_host,
            "local-port": self.local_port,
            "local-id": self.local_id,
            "remote-host": self.remote_host,
            "remote-port": self.remote_port,
            "remote-id": self.remote_id,
            "initiator": True if self.is_initiator else None,
            "initiator-spi": self.spi_i.hex(),
            "responder-spi": self.spi_r.hex(),
            "nat-local": True if self.is_behind_nat else None,
            "nat-remote": True if self.is_peer_behind_nat else None,
            "nat-fake": True if self.is_nat_feigned else None,
            "nat-any": True if self.is_behind_nat or self.is_peer_behind_nat or self.is_nat_feigned else None,
            **self.algorithms.layout(),
            "established": self.established_s if is_established else None,
            "rekey-time": self.rekey_s if is_established else None,
            "reauth-time": self.reauth_s if is_established else None,
            "local-vips": self.local_vips or None,
            "remote-vips": self.remote_vips or None,
            "tasks-queued": self.tasks_queued or None,
            "tasks-active": self.tasks_active or None,
            "child-sas": children if isinstance(children, Encoded) else {each.key: each.layout() for each in shown},
        }


class SaFilter(msgspec.Struct, frozen=True, array_like=True):
    """Which SAs are meant: those that fit all that is given. Empty and 0 stand for any."""

    ike: str = ""
    """Name of the connection."""
    child: str = ""
    """Name of the CHILD_SA."""
    ike_id: int = 0
    child_id: int = 0
    peer: str = ""
    """The peer's address."""
    identity: str = ""
    """The peer's identity."""
    vip: str = ""
    """A virtual address, of either end."""

    @property
    def is_any(self) -> bool:
        """Whether nothing is given."""
        return self == SaFilter()

    @property
    def is_of_children(self) -> bool:
        """Whether CHILD_SAs are meant, rather than whole IKE_SAs."""
        return bool(self.child or self.child_id)

    def has_child(self, name: str, unique_id: int) -> bool:
        """Whether a CHILD_SA is meant, its IKE_SA aside."""
        return self.child in ("", name) and self.child_id in (0, unique_id)

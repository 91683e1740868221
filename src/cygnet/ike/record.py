"""An idle IKE_SA as octets: its record, from which it is made again as it was.

The record is MessagePack, the fields of `IkeSa` in their order: a field that is added there is carried along without a
word here, as long as msgspec knows its type. What it doesn't know, or what SAs share, has its own place in `Record`:

- algorithms and connections are numbers of `SharedObjects`;
- a protection is its keys and its counter. The counter is what matters most: were it to begin anew, AES-GCM would use
  nonces twice and so give its keys away (RFC 5282 section 3). Cipher objects, nearly 3 kB each, are made when needed.
- the last response is kept apart, and for some minutes only: see `kept_responses.py`.
"""

import msgspec

from cygnet.crypto.keymat import IkeSuite
from cygnet.crypto.protection import Entropy, PacketProtection, make_protection
from cygnet.ike.connections import Connection
from cygnet.ike.kept_responses import KeptResponses
from cygnet.ike.resting import IDLE_S, PACKED_PER_CALL, RestingMap, exact_encoder
from cygnet.ike.sa import IkeSa
from cygnet.ike.shared_objects import SharedObjects


class ProtectionRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The lasting part of a `PacketProtection`."""

    encr_key: bytes
    integ_key: bytes
    counter: int

    @classmethod
    def of(cls, protection: PacketProtection) -> "ProtectionRecord":
        """That of a protection."""
        return cls(*protection.keys, protection.counter)

    def restore(self, suite: IkeSuite, entropy: Entropy) -> PacketProtection:
        """The protection, whose next nonce is one that it never used."""
        protection = make_protection(
            suite.encr,
            suite.encr_key_bits,
            suite.integ,
            encr_key=self.encr_key,
            integ_key=self.integ_key,
            entropy=entropy,
        )
        protection.counter = self.counter
        return protection

    def __repr__(self) -> str:
        return "ProtectionRecord(<redacted>)"


class Record(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is packed."""

    suite: int
    connection: int
    has_own_identity: bool
    """Whether the connection is one of a fleet, made with `Connection.with_local_id` of the one that is referred to."""
    outgoing: ProtectionRecord
    incoming: ProtectionRecord
    sa: IkeSa
    """Without our SPI, which is the record's key, the last response, and what stands above."""


class SaRecords:
    """Packs the IKE_SAs of one table: its `Codec`."""

    __slots__ = ("_decode", "_encode", "_entropy", "responses", "shared")

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._encode = exact_encoder(_refuse)
        self._decode = msgspec.msgpack.Decoder(Record).decode
        self.shared = SharedObjects()
        self.responses = KeptResponses()

    def pack(self, key: bytes, value: IkeSa, now: float) -> bytes | None:
        """The record; None unless the SA is established and waits for nothing."""
        outgoing, incoming, connection = value.outgoing, value.incoming, value.connection
        if not value.is_at_rest or outgoing is None or incoming is None or connection is None:
            return None
        ids = value.message_ids
        origin = connection.origin
        bare = msgspec.structs.replace(
            value,
            spi=b"",
            message_ids=msgspec.structs.replace(ids, cached_response=b""),
            connection=None,
            suite=None,
            outgoing=None,
            incoming=None,
        )
        record = self._encode(
            Record(
                self.shared.refer(value.suite),
                self.shared.refer(origin or connection),
                origin is not None,
                ProtectionRecord.of(outgoing),
                ProtectionRecord.of(incoming),
                bare,
            )
        )
        self.responses.put(key, ids.cached_response, ids.answered_at, now)
        return record

    def unpack(self, key: bytes, record: bytes) -> IkeSa:
        """The SA, as it was but for a response that is too old to be asked for."""
        packed = self._decode(record)
        suite, connection = self.shared.release(packed.suite), self.shared.release(packed.connection)
        assert isinstance(suite, IkeSuite)
        sa = _complete(key, packed, suite, connection)
        sa.outgoing = packed.outgoing.restore(suite, self._entropy)
        sa.incoming = packed.incoming.restore(suite, self._entropy)
        sa.message_ids.cached_response = self.responses.take(key, sa.message_ids.answered_at)
        return sa

    def view(self, key: bytes, record: bytes) -> IkeSa:
        """A copy without keys: two that both send would use the same nonces."""
        packed = self._decode(record)
        suite = self.shared.look(packed.suite)
        assert isinstance(suite, IkeSuite)
        sa = _complete(key, packed, suite, self.shared.look(packed.connection))
        sa.sk_d = b""
        return sa


def _complete(key: bytes, packed: Record, suite: IkeSuite, connection: object) -> IkeSa:
    assert isinstance(connection, Connection)
    sa = packed.sa
    sa.spi = key
    sa.suite = suite
    sa.connection = connection.with_local_id(sa.local_id) if packed.has_own_identity else connection
    return sa


def _refuse(value: object) -> object:
    raise NotImplementedError(f"a record of an IKE_SA has no place for a {type(value).__name__}")


class SaStore(RestingMap[IkeSa]):
    """The IKE_SAs of a table, by our SPI."""

    __slots__ = ("_responses", "records")

    def __init__(self, entropy: Entropy, *, idle_s: float = IDLE_S) -> None:
        self.records = SaRecords(entropy)
        self._responses = self.records.responses
        super().__init__(self.records, idle_s=idle_s)

    def next_due(self) -> float | None:
        """When `rest` wants to be called: to pack SAs, or to forget responses."""
        rest, forget = super().next_due(), self._responses.next_due()
        if rest is None or forget is None:
            return forget if rest is None else rest
        return min(rest, forget)

    def rest(self, now: float, limit: int = PACKED_PER_CALL) -> None:
        """Pack what has been awake for long enough, and forget responses of which nobody asks any more."""
        super().rest(now, limit)
        self._responses.forget(now)

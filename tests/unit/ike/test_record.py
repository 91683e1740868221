"""Idle IKE_SAs as octets: nothing is lost, and no nonce comes twice."""

import os
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cygnet.auth.identity import parse_identity
from cygnet.crypto.encr import ENCR
from cygnet.crypto.errors import IntegrityError
from cygnet.crypto.integ import INTEG
from cygnet.crypto.keymat import IkeKeys, IkeSuite
from cygnet.crypto.protection import make_protection
from cygnet.iana import ExchangeType, ProtocolId
from cygnet.ike.connections import Connection
from cygnet.ike.environment import Environment
from cygnet.ike.handshake import Handshake
from cygnet.ike.kept_responses import KEPT_S
from cygnet.ike.message_id import MessageIds
from cygnet.ike.path import Path
from cygnet.ike.proposals import ike_suite, parse_proposal
from cygnet.ike.record import Record, SaRecords, SaStore
from cygnet.ike.sa import ChildSa, ChildState, IkeSa, MobikeRole, Proof
from cygnet.ike.settings import ConnectionSettings, Settings
from cygnet.ike.states import SaState
from cygnet.ike.tasks import Probe

SPI_I, SPI_R = b"initiatr", b"respondr"
PATH = Path("198.51.100.1", 4500, "192.0.2.1", 40321)
NOW = 1000.0
ENV = Environment(Settings(), entropy=os.urandom, count=lambda name, n=1: None)
SUITES = {
    "aead": "aes128gcm16-prfsha256-x25519",
    "aead_short_icv": "aes256gcm8-prfsha384-x25519",
    "ccm": "aes128ccm16-prfsha256-x25519",
    "chacha": "chacha20poly1305-prfsha256-x25519",
    "cbc": "aes128-sha256-x25519",
    "ctr": "aes256ctr-sha512-x25519",
}
CONNECTION = Connection(ConnectionSettings(name="rw"))

# A value for each field of an SA that rests, other than its default. Whoever adds a field adds it here; if this test
# then fails, `record.py` does not carry it.
MESSAGE_IDS: dict[str, Any] = {
    "next_id": 7,
    "expected_id": 0xFFFFFFFF,
    "outstanding": None,
    "cached_response": b"the response",
    "request_hash": -(2**63),
    "answered_at": NOW - 1.0,
}
FIELDS: dict[str, Any] = {
    "spi": SPI_R,
    "spi_i": SPI_I,
    "spi_r": SPI_R,
    "is_original_initiator": False,
    "state": SaState.ESTABLISHED,
    "path": PATH,
    "last_inbound": 999.25,
    "message_ids": MessageIds(**MESSAGE_IDS),
    "handshake": None,
    "connection": CONNECTION,
    "suite": None,
    "outgoing": None,
    "incoming": None,
    "sk_d": b"key of keys",
    "children": (
        ChildSa("net", b"in  ", b"out ", 997.5, 1e5, 2e5, ChildState.REPLACED),
        ChildSa("other", b"in 2", b"out2", 999.5, 3e5, 4e5, ChildState.INSTALLED, b"in  ", 31),
    ),
    "local_id": parse_identity("gw.example.org"),
    "remote_id": parse_identity("carol@example.org"),
    "virtual_ips": (bytes((10, 0, 0, 1)), bytes(16)),
    "established": 998.5,
    "has_leases": True,
    "is_line_ours": True,
    "is_udp_encapsulated": True,
    "is_behind_nat": True,
    "is_peer_behind_nat": True,
    "mobike": MobikeRole.INITIATOR,
    "peer_addresses": ("198.51.100.1", "2001:db8::1"),
    "nat_mapping": b"a digest of an address",
    "largest_octets": 544,
    "keepalive_due": 1234.5,
    "pending": (),
    "quiet_until": None,
    "draft": None,
    "predecessor": b"replaced",
    "rekey_due": 14_400.5,
    "dies": 15_840.5,
    "proof": Proof(2e5, 3e5, SPI_I),
    "ending": "reason",
    "wheel_slot": 1 << 40,
}


def suite_of(text: str) -> IkeSuite:
    return ike_suite(parse_proposal(ProtocolId.IKE, text).transforms)


def keyed(sa: IkeSa, suite: IkeSuite) -> IkeSa:
    """The SA with keys of its suite."""
    sa.suite = suite
    encr = suite.encr.key_octets(suite.encr_key_bits)
    integ = suite.integ.key_octets if suite.integ is not None else 0
    sizes = {"sk_d": 32, "sk_ai": integ, "sk_ar": integ, "sk_ei": encr, "sk_er": encr, "sk_pi": 32, "sk_pr": 32}
    keys = {name: name.encode() * 32 for name in sizes}
    sa.set_keys(IkeKeys(**{name: keys[name][:size] for name, size in sizes.items()}), ENV)
    return sa


def established(text: str = SUITES["aead"], *, is_initiator: bool = False, **changes: Any) -> IkeSa:
    """An SA at rest with every field set."""
    fields = {**FIELDS, "spi": SPI_I if is_initiator else SPI_R, "is_original_initiator": is_initiator, **changes}
    fields["message_ids"] = msgspec.structs.replace(fields["message_ids"])
    return keyed(IkeSa(**fields), suite_of(text))


def through(records: SaRecords, sa: IkeSa) -> IkeSa:
    record = records.pack(sa.spi, sa, NOW)
    assert record is not None
    return records.unpack(sa.spi, record)


def test_every_field_has_a_sample() -> None:
    """A new field of an SA: add a sample of it above, and see whether the tests below still hold."""
    assert set(FIELDS) == set(IkeSa.__struct_fields__)
    assert set(MESSAGE_IDS) == set(MessageIds.__struct_fields__)
    sample = msgspec.structs.replace(IkeSa.as_responder(SPI_I, SPI_R, PATH, 0.0), **FIELDS)
    defaults = IkeSa.as_responder(SPI_I, SPI_R, PATH, 0.0)
    same = {name for name in FIELDS if getattr(sample, name) == getattr(defaults, name)}
    resting = {"handshake", "suite", "outgoing", "incoming", "pending", "quiet_until", "draft"}
    assert same <= resting | {"spi", "spi_i", "spi_r", "path", "is_original_initiator"}, "a sample that proves nothing"


@pytest.mark.parametrize("is_initiator", [False, True])
@pytest.mark.parametrize("text", SUITES.values(), ids=SUITES)
def test_nothing_is_lost(text: str, is_initiator: bool) -> None:
    records = SaRecords(os.urandom)
    before = established(text, is_initiator=is_initiator)
    after = through(records, before)
    assert after is not before
    for name in IkeSa.__struct_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if name == "message_ids":
            assert msgspec.structs.astuple(new) == msgspec.structs.astuple(old)
        elif name in ("outgoing", "incoming"):
            assert type(new) is type(old) and (new.keys, new.counter) == (old.keys, old.counter)
        else:
            assert new == old and type(new) is type(old), name
    assert after.suite is before.suite and after.connection is before.connection
    assert len(records.shared) == 0 and len(records.responses) == 0, "what a record held is free again"


@pytest.mark.parametrize("text", SUITES.values(), ids=SUITES)
def test_both_sides_go_on_talking(text: str) -> None:
    records = SaRecords(os.urandom)
    ours, theirs = established(text), established(text, is_initiator=True)
    sent = []
    for number in range(4):
        ours, theirs = through(records, ours), through(records, theirs)
        assert ours.outgoing is not None and theirs.incoming is not None
        plaintext = bytes(16 * number)
        sealed = ours.outgoing.seal(b"header", plaintext)
        sent.append(sealed)
        assert theirs.incoming.open(b"header", sealed) == plaintext
        with pytest.raises(IntegrityError):
            theirs.incoming.open(b"another", sealed)
    iv_octets = ours.suite.encr.iv_octets if ours.suite is not None else 0
    assert len({sealed[:iv_octets] for sealed in sent}) == len(sent), "an IV has come twice"


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 2**64 - 40))
def test_a_counter_never_goes_back(steps: list[bool], start: int) -> None:
    """AES-GCM: a nonce that comes twice gives the keys away."""
    records = SaRecords(os.urandom)
    sa = established()
    assert sa.outgoing is not None
    sa.outgoing.counter = start
    ivs = []
    for is_packed in steps:
        if is_packed:
            sa = through(records, sa)
        else:
            sealed = sa.seal(ExchangeType.INFORMATIONAL, 1, (), is_response=False)
            ivs.append(int.from_bytes(sealed[32:40], "big"))
    assert ivs == list(range(start, start + len(ivs)))


@pytest.mark.parametrize(
    "changes",
    [
        {"state": SaState.HALF_OPEN},
        {"state": SaState.DELETING},
        {"handshake": Handshake(0.0)},
        {"pending": (Probe(),)},
    ],
)
def test_what_waits_for_something_is_not_packed(changes: dict[str, Any]) -> None:
    records = SaRecords(os.urandom)
    sa = established(**changes)
    assert not sa.is_at_rest and records.pack(sa.spi, sa, NOW) is None
    assert len(records.shared) == 0


def test_an_outstanding_request_keeps_it_awake() -> None:
    records = SaRecords(os.urandom)
    sa = established()
    sa.message_ids.sent(ExchangeType.INFORMATIONAL, b"request", Settings().retransmit, NOW)
    assert records.pack(sa.spi, sa, NOW) is None
    sa.message_ids.response_received()
    assert records.pack(sa.spi, sa, NOW) is not None


def test_an_old_response_is_forgotten_and_its_request_is_stale() -> None:
    """RFC 7296 section 2.1: after "several minutes"; then the request is ignored, not run again."""
    store = SaStore(os.urandom)
    sa = established()
    request = b"the request"
    sa.message_ids.expected_id = 1
    sa.message_ids.answered(request, b"the answer")
    sa.message_ids.answered_at = NOW
    store[SPI_R] = sa
    store.rest_all(NOW)
    assert store[SPI_R].message_ids.cached_response == b"the answer"
    store.rest_all(NOW + 10.0)
    store.rest(NOW + KEPT_S)
    assert store[SPI_R].message_ids.classify(1, request).value == "repeated"
    store.rest_all(NOW + KEPT_S + 1.0)
    due = store.next_due()
    assert due is not None
    store.rest(due)
    assert store[SPI_R].message_ids.classify(1, request).value == "stale"


def test_a_fleet_shares_one_connection() -> None:
    """The load tester gives each attempt a connection of its own; packed, they are one and an identity."""
    records = SaRecords(os.urandom)
    identities = [parse_identity(f"c{n}@example.org") for n in range(5)]
    packed = []
    for identity in identities:
        twin = CONNECTION.with_local_id(identity).with_local_id(identity)
        packed.append(records.pack(SPI_R, established(connection=twin, local_id=identity), NOW))
    assert len(records.shared) == 2, "the suite and the connection"
    for identity, record in zip(identities, packed, strict=True):
        assert record is not None
        connection = records.unpack(SPI_R, record).connection
        assert connection is not None and connection.settings == CONNECTION.with_local_id(identity).settings
        assert connection.origin is CONNECTION


def test_a_view_can_do_nothing() -> None:
    records = SaRecords(os.urandom)
    record = records.pack(SPI_R, established(), NOW)
    assert record is not None
    view = records.view(SPI_R, record)
    assert (view.spi, view.name, view.remote_id) == (SPI_R, "rw", FIELDS["remote_id"])
    assert view.outgoing is None and view.incoming is None and not view.sk_d
    assert records.unpack(SPI_R, record).outgoing is not None, "the record stands"


def test_a_type_without_a_place_is_an_error() -> None:
    records = SaRecords(os.urandom)
    sa = established()
    sa.ending = object()  # type: ignore[assignment]
    with pytest.raises(NotImplementedError, match="no place for a object"):
        records.pack(SPI_R, sa, NOW)


def test_a_record_is_small_and_silent() -> None:
    records = SaRecords(os.urandom)
    sa = established(
        remote_id=parse_identity("c123456@example.org"),
        mobike=MobikeRole.RESPONDER,
        # Only MOBIKE's initiator keeps these.
        peer_addresses=(),
        nat_mapping=b"",
        predecessor=b"",
        proof=None,
        ending="",
        wheel_slot=0,
    )
    record = records.pack(SPI_R, sa, NOW)
    assert record is not None and len(record) <= 418
    assert "sk_e" not in repr(msgspec.msgpack.decode(record, type=Record).outgoing)


def test_every_algorithm_keeps_its_keys() -> None:
    """What `make_protection` is given comes out of `keys` again."""
    for encr in ENCR.values():
        for integ in [None] if encr.is_aead else INTEG.values():
            keys = os.urandom(encr.key_octets(encr.key_bits[0])), os.urandom(integ.key_octets if integ else 0)
            protection = make_protection(
                encr, encr.key_bits[0], integ, encr_key=keys[0], integ_key=keys[1], entropy=os.urandom
            )
            assert protection.keys == keys

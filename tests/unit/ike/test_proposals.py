"""Proposals as they are written, offered, chosen and checked."""

import msgspec
import pytest

from cygnet.iana import EncrId, IntegId, KeId, PrfId, ProtocolId, SequenceNumbers, TransformType
from cygnet.ike.errors import InvalidSyntax
from cygnet.ike.proposals import (
    DEFAULT_ESP_PROPOSALS,
    DEFAULT_IKE_PROPOSALS,
    Negotiator,
    child_suite,
    ike_suite,
    parse_proposal,
    select_proposal,
    spi_of,
    to_offer,
    with_spi,
)
from cygnet.wire.payloads.security_association import (
    Proposal,
    SecurityAssociation,
    Transform,
    decode_security_association,
    encode_security_association,
)

IKE, ESP = ProtocolId.IKE, ProtocolId.ESP
AES128 = Transform(TransformType.ENCR, EncrId.AES_CBC, 128)
SHA256 = Transform(TransformType.INTEG, IntegId.HMAC_SHA2_256_128)
PRF256 = Transform(TransformType.PRF, PrfId.HMAC_SHA2_256)
X25519 = Transform(TransformType.KE, KeId.CURVE25519)
GCM = Transform(TransformType.ENCR, EncrId.AES_GCM_16, 128)
NO_ESN = Transform(TransformType.SN, SequenceNumbers.NO_ESN)
ESN = Transform(TransformType.SN, SequenceNumbers.ESN)
NO_INTEG = Transform(TransformType.INTEG, IntegId.NONE)
NO_KE = Transform(TransformType.KE, KeId.NONE)


@pytest.mark.parametrize(
    ("protocol", "text", "transforms"),
    [
        (IKE, "aes128-sha256-x25519", (AES128, PRF256, SHA256, X25519)),
        (IKE, " X25519 - aes128gcm16-prfsha256", (GCM, PRF256, X25519)),
        (IKE, "aes128gcm16-aes128gcm16-prfsha256-curve25519", (GCM, PRF256, X25519)),
        (ESP, "aes128gcm16", (GCM, NO_ESN)),
        (ESP, "aes128-sha256-x25519-esn-noesn", (AES128, SHA256, X25519, ESN, NO_ESN)),
    ],
)
def test_a_proposal_is_read(protocol: ProtocolId, text: str, transforms: tuple[Transform, ...]) -> None:
    assert parse_proposal(protocol, text).transforms == transforms


@pytest.mark.parametrize(
    ("protocol", "text", "complaint"),
    [
        (IKE, "aes128-sha257-x25519", 'unknown algorithm "sha257"'),
        (IKE, "", 'unknown algorithm ""'),
        (IKE, "sha256-x25519", "no encryption algorithm"),
        (IKE, "aes128-prfsha256-x25519", "no integrity algorithm"),
        (IKE, "aes128gcm16-x25519", "needs a PRF"),
        (IKE, "aes128-sha256", "needs a key exchange method"),
        (IKE, "aes128-sha256-x25519-esn", "belong to ESP"),
        (IKE, "aes128-aes128gcm16-sha256-x25519", "mixes"),
        (IKE, "aes128gcm16-sha256-prfsha256-x25519", "mixes"),
        (ESP, "aes128", "no integrity algorithm"),
        (ESP, "aes128gcm16-prfsha256", "belongs to IKE"),
    ],
)
def test_a_bad_proposal_is_refused_with_a_reason(protocol: ProtocolId, text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_proposal(protocol, text)


def test_the_defaults_take_no_algorithm_that_rfc_8247_forbids() -> None:
    ids = {(t.type, t.id) for p in (*DEFAULT_IKE_PROPOSALS, *DEFAULT_ESP_PROPOSALS) for t in p.transforms}
    for weak in (KeId.MODP_1024, KeId.MODP_1536, KeId.MODP_1024_160):
        assert (TransformType.KE, weak) not in ids
    for encr in (EncrId.DES, EncrId.TRIPLE_DES, EncrId.NULL):
        assert (TransformType.ENCR, encr) not in ids
    assert (TransformType.INTEG, IntegId.HMAC_MD5_96) not in ids


def offer(*proposals: tuple[Transform, ...], protocol: ProtocolId = ESP) -> tuple[Proposal, ...]:
    return tuple(Proposal(n, protocol, bytes((n,)) * 4, transforms) for n, transforms in enumerate(proposals, 1))


@pytest.mark.parametrize(
    ("configured", "offered", "number", "chosen"),
    [
        # Our order of preference decides, within a type and between proposals.
        (("aes128-sha256", "aes128gcm16"), (("g",), ("a", "s")), 2, (AES128, SHA256, NO_ESN)),
        (("aes128gcm16-esn-noesn",), (("g", "n", "e"),), 1, (GCM, ESN)),
        # No ESN transform means 32-bit sequence numbers.
        (("aes128gcm16-noesn",), (("g",),), 1, (GCM, NO_ESN)),
        (("aes128gcm16-esn",), (("g",),), None, ()),
        # Types that we have no use for: only where "none" is on offer (RFC 7296 section 3.3.6).
        (("aes128gcm16",), (("g", "i0"),), 1, (GCM, NO_ESN)),
        (("aes128gcm16",), (("g", "s"),), None, ()),
        # And none may be missing.
        (("aes128-sha256",), (("a",),), None, ()),
        # Without PFS a key exchange must be optional.
        (("aes128gcm16",), (("g", "k"),), None, ()),
        (("aes128gcm16",), (("g", "k", "k0"),), 1, (GCM, NO_ESN)),
        (("aes128gcm16-x25519",), (("g", "k"),), 1, (GCM, X25519, NO_ESN)),
        # A transform with an attribute that we don't know can't be chosen, nor one of another key length.
        (("aes128gcm16",), (("gx",),), None, ()),
        (("aes128gcm16",), (("g256",),), None, ()),
    ],
)
def test_the_choice(
    configured: tuple[str, ...],
    offered: tuple[tuple[str, ...], ...],
    number: int | None,
    chosen: tuple[Transform, ...],
) -> None:
    names = {
        "a": AES128,
        "s": SHA256,
        "g": GCM,
        "n": NO_ESN,
        "e": ESN,
        "k": X25519,
        "k0": NO_KE,
        "i0": NO_INTEG,
        "gx": msgspec.structs.replace(GCM, attributes=((99, 1),)),
        "g256": msgspec.structs.replace(GCM, key_bits=256),
    }
    proposals = offer(*(tuple(names[n] for n in words) for words in offered))
    settings = tuple(parse_proposal(ESP, text) for text in configured)
    choice = select_proposal(proposals, settings)
    assert (choice and (choice.number, choice.transforms)) == (None if number is None else (number, chosen))


def test_the_protocol_of_a_proposal_counts() -> None:
    settings = (parse_proposal(ESP, "aes128gcm16"),)
    assert select_proposal(offer((GCM, NO_ESN), protocol=ProtocolId.AH), settings) is None


def test_in_ike_auth_key_exchange_methods_are_neither_offered_nor_looked_at() -> None:
    settings = (parse_proposal(ESP, "aes128gcm16-x25519"),)
    (proposal,) = with_spi(to_offer(settings, has_ke=False), b"spi!").proposals
    assert proposal == Proposal(1, ESP, b"spi!", (GCM, NO_ESN))
    choice = select_proposal(offer((GCM, X25519, NO_ESN)), settings, has_ke=False)
    assert choice is not None and choice.ke_method == KeId.NONE


def received(*proposals: Proposal) -> SecurityAssociation:
    return decode_security_association(encode_security_association(SecurityAssociation(proposals)))


@pytest.mark.parametrize(
    "proposals",
    [
        (),
        offer((GCM, NO_ESN), (GCM, NO_ESN)),
        (Proposal(0, ESP, b"1234", (GCM, NO_ESN)),),
        (Proposal(2, ESP, b"1234", (GCM, NO_ESN)),),
        (Proposal(1, ESP, b"1234", (GCM, NO_ESN, ESN)),),
        (Proposal(1, ESP, b"1234", (NO_ESN,)),),
        (Proposal(1, ESP, b"1234", (AES128, SHA256, NO_ESN)),),
        (Proposal(1, ProtocolId.IKE, b"1234", (GCM, NO_ESN)),),
    ],
    ids=["none", "two", "number 0", "not offered", "two of a type", "type missing", "other algorithm", "protocol"],
)
def test_an_answer_that_is_no_choice_among_the_offered_is_refused(proposals: tuple[Proposal, ...]) -> None:
    negotiator = Negotiator((parse_proposal(ESP, "aes128gcm16-esn-noesn"),), has_ke=False)
    with pytest.raises(InvalidSyntax):
        negotiator.accept(SecurityAssociation(proposals))
    assert negotiator.accept(received(*offer((GCM, ESN)))).transforms == (GCM, ESN)


def test_choices_are_remembered_apart_from_spis_and_within_bounds() -> None:
    negotiator = Negotiator((parse_proposal(ESP, "aes128gcm16"),), has_ke=False)
    once = received(Proposal(1, ESP, b"aaaa", (GCM, NO_ESN)))
    again = received(Proposal(1, ESP, b"bbbb", (GCM, NO_ESN)))
    assert negotiator.choose(once) is negotiator.choose(again)
    assert (spi_of(once, 1), spi_of(again, 1)) == (b"aaaa", b"bbbb")
    for number in range(3000):
        negotiator.choose(received(Proposal(1, ESP, b"", (Transform(TransformType.ENCR, number), NO_ESN))))
    assert len(negotiator._choices) <= 1024
    long = received(Proposal(1, ESP, b"", tuple(Transform(TransformType.ENCR, n) for n in range(200))))
    negotiator.choose(long)
    assert long.fingerprint and long.fingerprint not in negotiator._choices


def test_a_choice_is_allowed_where_one_proposal_holds_it_all() -> None:
    choice = select_proposal(offer((GCM, NO_ESN)), (parse_proposal(ESP, "aes128gcm16"),))
    assert choice is not None
    for texts, is_allowed in (
        (("aes128gcm16-esn-noesn",), True),
        (("aes128gcm16-esn",), False),
        (("aes128-sha256", "aes256gcm16-aes128gcm16"), True),
        (("aes128gcm16-x25519",), False),
    ):
        settings = tuple(parse_proposal(ESP, text) for text in texts)
        assert Negotiator(settings, has_ke=True).allows(choice) == is_allowed, texts


def test_a_choice_becomes_the_rows_of_its_algorithms() -> None:
    suite = ike_suite((AES128, PRF256, SHA256, X25519))
    assert suite.integ is not None
    assert (suite.encr.id, suite.encr_key_bits, suite.integ.id) == (EncrId.AES_CBC, 128, IntegId.HMAC_SHA2_256_128)
    assert (suite.prf.id, suite.ke.id) == (PrfId.HMAC_SHA2_256, KeId.CURVE25519)
    child = child_suite((GCM, NO_INTEG, NO_KE, ESN))
    assert (child.encr.id, child.key_bits, child.integ, child.ke, child.is_esn) == (
        EncrId.AES_GCM_16,
        128,
        None,
        None,
        True,
    )

"""What the log says of peers that get nothing."""

import pytest

from cygnet.auth.identity import Identity, parse_identity
from cygnet.gateway.logs.refusals import (
    MAX_IDENTITY,
    MAX_LIST,
    say_authentication_refused,
    say_child_refused,
    say_offer_refused,
)
from cygnet.iana import IdType, ProtocolId, TransformType, TsType
from cygnet.ike.effects import AuthenticationRefused, ChildRefused, OfferRefused
from cygnet.ike.path import Path
from cygnet.ike.proposals import ProposalSettings, parse_proposal, to_offer
from cygnet.ike.selectors import parse_selector
from cygnet.ike.settings import ChildSettings
from cygnet.observe.metrics import METRICS
from cygnet.wire.payloads.security_association import Proposal, SecurityAssociation, Transform
from cygnet.wire.payloads.traffic_selectors import TrafficSelector

HERE = Path("192.0.2.1", 500, "198.51.100.7", 4500)
CAROL, GATEWAY = parse_identity("carol@example.org"), parse_identity("gw.example.org")
CHILD = ChildSettings(
    name="net",
    esp_proposals=(parse_proposal(ProtocolId.ESP, "aes128gcm16"),),
    local_ts=(parse_selector("10.1.0.0/16"), parse_selector("10.2.0.0/16[tcp/443]")),
)


def ike(*texts: str) -> tuple[ProposalSettings, ...]:
    return tuple(parse_proposal(ProtocolId.IKE, text) for text in texts)


def test_both_ends_proposals_are_shown() -> None:
    offer = to_offer(ike("aes256-sha512-modp2048", "aes256gcm16-prfsha384-ecp384"))
    said = say_offer_refused(OfferRefused(HERE, offer, ike("aes128-sha256-x25519")))
    assert said == (
        "198.51.100.7[4500] gets no IKE_SA: it offers aes256-prfsha512-sha512-modp2048, aes256gcm16-prfsha384-ecp384, "
        "and aes128-prfsha256-sha256-x25519 is taken"
    )


def test_where_no_connection_is_for_the_address_that_is_said() -> None:
    said = say_offer_refused(OfferRefused(HERE, to_offer(ike("aes128-sha256-x25519")), ()))
    assert said == "198.51.100.7[4500] gets no IKE_SA: no connection is for it at 192.0.2.1"


def test_what_nobody_knows_is_shown_by_its_numbers() -> None:
    offer = SecurityAssociation((Proposal(1, ProtocolId.IKE, b"", (Transform(TransformType.ENCR, 65000, 128),)),))
    assert "it offers 1:65000:128, and" in say_offer_refused(OfferRefused(HERE, offer, ike("aes128-sha256-x25519")))


def test_who_is_not_authenticated_to_whom_and_why() -> None:
    said = say_authentication_refused(AuthenticationRefused(b"", "", HERE, "wrong_secret", CAROL, GATEWAY))
    assert said == (
        "198.51.100.7[4500] as carol@example.org is not authenticated to gw.example.org: its secret is not ours"
    )
    said = say_authentication_refused(AuthenticationRefused(b"", "home", HERE, "no_auth_payload"))
    assert said == "198.51.100.7[4500] is not authenticated: it does not authenticate itself"


LABELS = next(metric.values for metric in METRICS if metric.name == "authentication_failures_total")


@pytest.mark.parametrize("why", [label for label in LABELS if label != "other"])
def test_each_reason_has_its_words(why: str) -> None:
    assert why not in say_authentication_refused(AuthenticationRefused(b"", "", HERE, why, CAROL, GATEWAY))


def test_a_child_is_shown_with_what_it_might_be() -> None:
    offer = to_offer((parse_proposal(ProtocolId.ESP, "aes256-sha512"),))
    asked = TrafficSelector(TsType.IPV4_ADDR_RANGE, 0, 0, 65535, bytes((10, 77, 0, 0)), bytes((10, 77, 0, 255)))
    theirs = TrafficSelector(TsType.IPV4_ADDR_RANGE, 0, 0, 65535, bytes(4), b"\xff" * 4)
    head = "CHILD_SA refused to the peer: "
    refused = ChildRefused(b"", "ts_unacceptable", offer, (theirs,), (asked,), (CHILD,))
    assert say_child_refused(refused) == (
        f"{head}ts_unacceptable, as it asks for 10.77.0.0/24 === 0.0.0.0/0, "
        "and 10.1.0.0/16, 10.2.0.0/16[tcp/443] === dynamic is allowed"
    )
    refused = ChildRefused(b"", "no_proposal_chosen", offer, (theirs,), (asked,), (CHILD, CHILD))
    assert say_child_refused(refused) == (
        f"{head}no_proposal_chosen, as it offers aes256-sha512-noesn, and aes128gcm16-noesn is taken"
    )
    assert say_child_refused(ChildRefused(b"", "failed_cp_required")) == f"{head}failed_cp_required"
    assert "and nothing is allowed" in say_child_refused(ChildRefused(b"", "ts_unacceptable"))


def test_selectors_of_other_types_are_shown_too() -> None:
    label = TrafficSelector(10, 0, 0, 65535, b"system_u:object_r", b"")
    assert "it asks for type 10 === type 10, and" in say_child_refused(
        ChildRefused(b"", "ts_unacceptable", None, (label,), (label,))
    )


def test_what_a_stranger_sends_is_cut_short() -> None:
    endless = Identity(IdType.FQDN, b"x" * 60000)
    said = say_authentication_refused(AuthenticationRefused(b"", "", HERE, "no_connection", endless, endless))
    assert len(said) < 2 * MAX_IDENTITY + 200
    transforms = tuple(Transform(TransformType.ENCR, number) for number in range(2000))
    offer = SecurityAssociation((Proposal(1, ProtocolId.IKE, b"", transforms),))
    assert len(say_offer_refused(OfferRefused(HERE, offer, ike("aes128-sha256-x25519")))) < MAX_LIST + 200

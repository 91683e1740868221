"""What the log says of peers that get nothing: enough to mend the configuration, theirs or ours.

All that is shown of a peer's is what it claims, and is cut short.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from cygnet.auth.identity import Identity
from cygnet.ike.effects import AuthenticationRefused, ChildRefused, OfferRefused
from cygnet.ike.path import Path
from cygnet.ike.proposals import transform_names
from cygnet.ike.selector_text import format_selector, format_setting
from cygnet.wire.payloads.security_association import SecurityAssociation
from cygnet.wire.payloads.traffic_selectors import TrafficSelector

MAX_IDENTITY: Final = 200
"""Characters: a peer that has proven nothing must not fill the log."""
MAX_LIST: Final = 600
"""Characters of what it offers."""

_WHY: Final[Mapping[str, str]] = {
    "auth_method": "it authenticates itself by another method than a pre-shared key",
    "no_auth_payload": "it does not authenticate itself",
    "no_connection": "no connection is for these identities and addresses",
    "no_secret": "there is no secret for them",
    "not_unique": "it has an IKE_SA already, and unique = keep",
    "peer_identity": "it is not who it is to be",
    "wrong_secret": "its secret is not ours",
}


def end_of(path: Path) -> str:
    """Where the peer is."""
    return f"{path.remote}[{path.remote_port}]"


def say_offer_refused(effect: OfferRefused) -> str:
    """Such as `192.0.2.2[500] gets no IKE_SA: it offers aes256-..., and aes128-... is taken`."""
    if not effect.proposals:
        return f"{end_of(effect.path)} gets no IKE_SA: no connection is for it at {effect.path.local}"
    taken = _cut(", ".join(map(str, effect.proposals)))
    return f"{end_of(effect.path)} gets no IKE_SA: it offers {_offer(effect.offer)}, and {taken} is taken"


def say_authentication_refused(effect: AuthenticationRefused) -> str:
    """Such as `192.0.2.2[4500] as carol is not authenticated to gw: its secret is not ours`."""
    who = f" as {_name(effect.remote_id)}" if effect.remote_id is not None else ""
    whom = f" to {_name(effect.local_id)}" if effect.local_id is not None else ""
    return f"{end_of(effect.path)}{who} is not authenticated{whom}: {_WHY.get(effect.why, effect.why)}"


def say_child_refused(effect: ChildRefused) -> str:
    """Such as `CHILD_SA refused to the peer: ts_unacceptable, as it asks for 10.0.0.0/8 === ...`."""
    text = f"CHILD_SA refused to the peer: {effect.reason}"
    if effect.reason == "no_proposal_chosen" and effect.offer is not None:
        taken = _cut(", ".join(dict.fromkeys(str(each) for child in effect.children for each in child.esp_proposals)))
        return f"{text}, as it offers {_offer(effect.offer)}, and {taken} is taken"
    if effect.reason == "ts_unacceptable":
        asked = f"{_list(map(_selector, effect.ts_local))} === {_list(map(_selector, effect.ts_remote))}"
        children = (
            f"{_list(map(format_setting, child.local_ts))} === {_list(map(format_setting, child.remote_ts))}"
            for child in effect.children
        )
        return f"{text}, as it asks for {asked}, and {_cut('; '.join(children)) or 'nothing'} is allowed"
    return text


def _selector(selector: TrafficSelector) -> str:
    # Of a type that is no range of addresses there are octets only.
    return format_selector(selector) if selector.end else f"type {selector.ts_type}"


def _name(identity: Identity) -> str:
    return _cut(str(identity), MAX_IDENTITY)


def _offer(offer: SecurityAssociation) -> str:
    return _list("-".join(transform_names(proposal.transforms)) for proposal in offer.proposals)


def _list(texts: Iterable[str]) -> str:
    return _cut(", ".join(texts))


def _cut(text: str, most: int = MAX_LIST) -> str:
    return text if len(text) <= most else f"{text[:most]}..."

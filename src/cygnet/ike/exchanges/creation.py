"""What all CREATE_CHILD_SA exchanges have in common (RFC 7296 section 1.3): nonces, key exchange, refusals."""

from typing import Final

import msgspec

from cygnet.crypto.errors import InvalidKeyExchange
from cygnet.crypto.ke import KE, KeyPair
from cygnet.iana import KeId, NotifyType
from cygnet.ike.errors import InvalidSyntax, OtherKeWanted, PeerRefused, TemporaryFailure
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.lifetimes import fraction
from cygnet.ike.proposals import ProposalChoice
from cygnet.ike.sa import Draft, IkeSa, Turn
from cygnet.ike.states import SaState
from cygnet.ike.tasks import CreateChild, DeleteIke, RekeyChild, RekeyIke
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.key_exchange import KeyExchange

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_ESTABLISHED = SaState.ESTABLISHED
_INVALID_KE_PAYLOAD = NotifyType.INVALID_KE_PAYLOAD
_NONE = KeId.NONE

NONCE_OCTETS: Final = 32

FIRST_WAIT_S: Final = 1.0
"""After the first TEMPORARY_FAILURE; the wait doubles with each, and each is up to twice as long by chance."""
LONGEST_WAIT_S: Final = 32.0
MAX_TRIES: Final = 12
"""TEMPORARY_FAILUREs in a row, in some five minutes, after which the two ends are out of step for good: RFC 7296
section 2.25 wants the IKE_SA closed then."""
AGAIN_S: Final = 30.0
"""Wait before an SA is rekeyed again which the peer has refused to rekey; up to twice as long by chance."""


def begin(task: CreateChild | RekeyChild | RekeyIke, spi: bytes, ke_method: int, turn: Turn) -> Draft:
    """As initiator: what goes into the request, and is needed again when the response comes."""
    key_pair = KE[ke_method].generate() if ke_method else None
    return Draft(task, spi, turn.env.entropy(NONCE_OCTETS), ke_method, key_pair)


def own_public(ke_method: int, key_pair: KeyPair | None) -> tuple[Payload, ...]:
    """The KE payload, if there is to be a key exchange."""
    return (KeyExchange(method=ke_method, data=key_pair.public),) if key_pair is not None else ()


def respond_ke(parts: Parts, choice: ProposalChoice) -> tuple[bytes, tuple[Payload, ...]]:
    """As responder: the shared secret and our KE payload; both empty where no key exchange was chosen.

    Raises OtherKeWanted if the initiator guessed another method.
    """
    if choice.ke_method == _NONE:
        return b"", ()
    theirs = parts.find(KeyExchange)
    if theirs is None or theirs.method != choice.ke_method:
        raise OtherKeWanted(choice.ke_method)
    key_pair = KE[choice.ke_method].generate()
    return _shared(key_pair, theirs), own_public(choice.ke_method, key_pair)


def finish_ke(draft: Draft, parts: Parts, choice: ProposalChoice) -> bytes:
    """As initiator: the shared secret; empty where no key exchange was chosen. Raises InvalidSyntax."""
    if choice.ke_method == _NONE:
        return b""
    theirs = parts.need(KeyExchange)
    if choice.ke_method != draft.ke_method or theirs.method != draft.ke_method or draft.key_pair is None:
        raise InvalidSyntax("the response is for another key exchange method than ours")
    return _shared(draft.key_pair, theirs)


def _shared(key_pair: KeyPair, theirs: KeyExchange) -> bytes:
    try:
        return key_pair.shared(theirs.data)
    except InvalidKeyExchange as error:
        raise InvalidSyntax("the public value is none of its key exchange method") from error


def take_draft(sa: IkeSa) -> Draft:
    """As initiator: what the request held; it is over with."""
    draft = sa.draft
    assert draft is not None
    sa.draft = None
    return draft


def other_method(draft: Draft, methods: tuple[int, ...], refusal: PeerRefused, parts: Parts) -> int:
    """The key exchange method that the peer wants instead, if it is one that we offered and did not try; else NONE."""
    if refusal.notify_type == _INVALID_KE_PAYLOAD:
        for data in parts.notify_data(_INVALID_KE_PAYLOAD)[:1]:
            method = int.from_bytes(data, "big") if len(data) == 2 else _NONE
            if method in methods and method not in (draft.ke_method, *draft.ke_methods_tried):
                return method
    return _NONE


def with_method(draft: Draft, ke_method: int) -> None:
    """As initiator: begin again with another key exchange method; all else stays (RFC 7296 section 1.3)."""
    draft.ke_methods_tried = (*draft.ke_methods_tried, draft.ke_method)
    draft.ke_method = ke_method
    draft.key_pair = KE[ke_method].generate()


def ask_later(sa: IkeSa, task: CreateChild | RekeyChild | RekeyIke, turn: Turn) -> None:
    """After a TEMPORARY_FAILURE: try again when whatever it is may be over (RFC 7296 section 2.25)."""
    turn.env.count("temporary_failures_total")
    if task.tries >= MAX_TRIES:
        sa.ending = "temporary_failure"
        turn.table.request(sa, DeleteIke(), turn)
        return
    wait = min(FIRST_WAIT_S * 2**task.tries, LONGEST_WAIT_S) * (1 + fraction(turn.env.entropy))
    sa.quiet_until = turn.now + wait
    turn.table.request(sa, msgspec.structs.replace(task, tries=task.tries + 1), turn)


def again_at(turn: Turn) -> float:
    """When to rekey an SA again that the peer has refused to rekey."""
    return turn.now + AGAIN_S * (1 + fraction(turn.env.entropy))


def refuse_if_busy(sa: IkeSa) -> None:
    """As responder: CHILD_SAs are neither made nor rekeyed while their IKE_SA goes (RFC 7296 section 2.25.2).

    Raises TemporaryFailure.
    """
    if sa.state != _ESTABLISHED or sa.is_ending:
        raise TemporaryFailure("the IKE_SA ends")
    if sa.draft is not None and isinstance(sa.draft.task, RekeyIke):
        raise TemporaryFailure("the IKE_SA is being rekeyed")

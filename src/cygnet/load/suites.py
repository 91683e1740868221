"""The algorithms of a tunnel as one line: no result means anything without them."""

from collections.abc import Iterable

from cygnet.crypto.keymat import ChildSuite, IkeSuite
from cygnet.crypto.keywords import keyword_of
from cygnet.iana import TransformType
from cygnet.ike.proposals import ProposalSettings


def describe_suites(ike: IkeSuite, child: ChildSuite | None) -> str:
    """What was negotiated, in strongSwan's keywords: `aes128gcm16-prfsha256-x25519 / aes128gcm16`."""
    words = [keyword_of(TransformType.ENCR, ike.encr.id, ike.encr_key_bits)]
    if ike.integ is not None:
        words.append(keyword_of(TransformType.INTEG, ike.integ.id, 0))
    words.append(keyword_of(TransformType.PRF, ike.prf.id, 0))
    words.append(keyword_of(TransformType.KE, ike.ke.id, 0))
    text = "-".join(words)
    return text if child is None else f"{text} / {_describe_child(child)}"


def _describe_child(child: ChildSuite) -> str:
    words = [keyword_of(TransformType.ENCR, child.encr.id, child.key_bits)]
    if child.integ is not None:
        words.append(keyword_of(TransformType.INTEG, child.integ.id, 0))
    if child.is_esn:
        words.append("esn")
    return "-".join(words)


def describe_offer(proposals: Iterable[ProposalSettings], esp_proposals: Iterable[ProposalSettings]) -> str:
    """What was offered, for a run in which nothing was agreed on."""
    return f"{','.join(map(str, proposals))} / {','.join(map(str, esp_proposals))}"

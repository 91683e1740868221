"""Proposals: what we would agree to, written as strongSwan writes it, and the choice among what a peer offers.

Choosing is pure. Fleets offer the same few proposals again and again, so a `Negotiator` remembers its choices by the
received octets (without the SPIs in them, which differ).
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeVar

import msgspec

from cygnet.crypto.encr import ENCR
from cygnet.crypto.integ import INTEG
from cygnet.crypto.ke import KE
from cygnet.crypto.keymat import ChildSuite, IkeSuite
from cygnet.crypto.keywords import KEYWORDS, keyword_of
from cygnet.crypto.prf import PRF
from cygnet.iana import EncrId, IntegId, KeId, PrfId, ProtocolId, SequenceNumbers, TransformType
from cygnet.ike.errors import InvalidSyntax
from cygnet.wire.payloads.security_association import Proposal, SecurityAssociation, Transform

_CHOICES_REMEMBERED = 1024
"""Bound of a negotiator's memory: a peer that invents offers can push out the fleet's, but not grow it."""
_REMEMBERED_OCTETS = 1024
"""Longer offers, which no fleet makes, are not remembered: they would be the peer's to fill our memory with."""

_PRF_OF_INTEG = {
    IntegId.HMAC_SHA1_96: PrfId.HMAC_SHA1,
    IntegId.HMAC_SHA2_256_128: PrfId.HMAC_SHA2_256,
    IntegId.HMAC_SHA2_384_192: PrfId.HMAC_SHA2_384,
    IntegId.HMAC_SHA2_512_256: PrfId.HMAC_SHA2_512,
    IntegId.AES_XCBC_96: PrfId.AES128_XCBC,
    IntegId.AES_CMAC_96: PrfId.AES128_CMAC,
}
"""The PRF that a proposal without one means, as in strongSwan."""

_TYPE_NAMES = {
    TransformType.ENCR: "an encryption algorithm",
    TransformType.INTEG: "an integrity algorithm",
    TransformType.PRF: "a PRF",
    TransformType.KE: "a key exchange method",
}


class ProposalSettings(msgspec.Struct, frozen=True):
    """One acceptable proposal: per transform type the acceptable transforms, best first."""

    protocol_id: int
    transforms: tuple[Transform, ...]

    def of_type(self, transform_type: int) -> tuple[Transform, ...]:
        """The acceptable transforms of one type."""
        return tuple(t for t in self.transforms if t.type == transform_type)

    def __str__(self) -> str:
        return "-".join(transform_names(self.transforms))


class ProposalChoice(msgspec.Struct, frozen=True, gc=False):
    """What was chosen: the number of the offered proposal, and one transform of each type."""

    number: int
    transforms: tuple[Transform, ...]
    ke_method: int
    """The chosen key exchange method; KeId.NONE where there is none."""
    answer: SecurityAssociation
    """The payload that tells the initiator, as it is for an SA whose SPIs are in the header (IKE_SA_INIT)."""

    def __str__(self) -> str:
        return "-".join(transform_names(self.transforms))


def covering_suites(settings: ProposalSettings) -> list[tuple[Transform, ...]]:
    """Possible choices from one proposal, as few as have each of its transforms in one of them."""
    types = [of_type for t in TransformType if (of_type := settings.of_type(t))]
    return [tuple(of_type[n % len(of_type)] for of_type in types) for n in range(max(map(len, types), default=0))]


def transform_names(transforms: Iterable[Transform]) -> list[str]:
    """The keywords of transforms, as they stand in a proposal string."""
    return [
        ("esn" if t.id == SequenceNumbers.ESN else "noesn")
        if t.type == TransformType.SN
        else keyword_of(t.type, t.id, t.key_bits)
        for t in transforms
    ]


def parse_proposal(protocol_id: ProtocolId, text: str) -> ProposalSettings:
    """Read a proposal such as `aes128gcm16-prfsha256-x25519`.

    Raises ValueError, with a text for the user, for a keyword that is unknown and for algorithms that make no suite.
    """
    transforms: list[Transform] = []
    for word in text.strip().split("-"):
        transform = _parse_keyword(word.strip().lower(), text)
        if transform not in transforms:
            transforms.append(transform)
    complete = _complete_ike if protocol_id == ProtocolId.IKE else _complete_esp
    transforms = complete(transforms, text)
    order = {t: i for i, t in enumerate(TransformType)}
    transforms.sort(key=lambda t: order[TransformType(t.type)])
    return ProposalSettings(protocol_id=protocol_id, transforms=tuple(transforms))


def _parse_keyword(word: str, text: str) -> Transform:
    if word == "esn":
        return Transform(type=TransformType.SN, id=SequenceNumbers.ESN)
    if word == "noesn":
        return Transform(type=TransformType.SN, id=SequenceNumbers.NO_ESN)
    keyword = KEYWORDS.get(word)
    if keyword is None:
        raise ValueError(f'unknown algorithm "{word}" in proposal "{text}"')
    return Transform(type=keyword.transform_type, id=keyword.id, key_bits=keyword.key_bits)


def _check_integrity(transforms: list[Transform], text: str) -> None:
    """Encryption that authenticates takes no integrity algorithm (RFC 7296 section 3.3), the rest needs one."""
    kinds = {ENCR[EncrId(t.id)].is_aead for t in transforms if t.type == TransformType.ENCR}
    has_integ = any(t.type == TransformType.INTEG for t in transforms)
    if not kinds:
        raise ValueError(f'proposal "{text}" names no encryption algorithm')
    if kinds == {True, False} or (kinds == {True} and has_integ):
        raise ValueError(
            f'proposal "{text}" mixes algorithms that authenticate (GCM, CCM, ChaCha20-Poly1305) with ones that '
            f"need an integrity algorithm; write them as two proposals"
        )
    if kinds == {False} and not has_integ:
        raise ValueError(f'proposal "{text}" names no integrity algorithm, and its encryption needs one')


def _complete_ike(transforms: list[Transform], text: str) -> list[Transform]:
    if any(t.type == TransformType.SN for t in transforms):
        raise ValueError(f'proposal "{text}": extended sequence numbers belong to ESP, not to IKE')
    if not any(t.type == TransformType.PRF for t in transforms):
        for transform in [t for t in transforms if t.type == TransformType.INTEG]:
            prf = _PRF_OF_INTEG.get(IntegId(transform.id))
            if prf is not None:
                transforms.append(Transform(type=TransformType.PRF, id=prf))
    _check_integrity(transforms, text)
    for wanted in (TransformType.PRF, TransformType.KE):
        if not any(t.type == wanted for t in transforms):
            example = "prfsha256" if wanted == TransformType.PRF else "x25519"
            raise ValueError(f'IKE proposal "{text}" needs {_TYPE_NAMES[wanted]}, such as {example}')
    return transforms


def _complete_esp(transforms: list[Transform], text: str) -> list[Transform]:
    if any(t.type == TransformType.PRF for t in transforms):
        raise ValueError(f'proposal "{text}": a PRF belongs to IKE, not to ESP')
    _check_integrity(transforms, text)
    if not any(t.type == TransformType.SN for t in transforms):
        transforms.append(Transform(type=TransformType.SN, id=SequenceNumbers.NO_ESN))
    return transforms


def to_offer(configured: Sequence[ProposalSettings], *, has_ke: bool = True) -> SecurityAssociation:
    """The SA payload that offers what is configured, numbered from 1 (RFC 7296 section 3.3.1), still without SPI.

    Without `has_ke` key exchange methods are left out, as they must be in IKE_AUTH (RFC 7296 section 1.2).
    """
    return SecurityAssociation(
        proposals=tuple(
            Proposal(
                number=number,
                protocol_id=settings.protocol_id,
                spi=b"",
                transforms=tuple(t for t in settings.transforms if has_ke or t.type != TransformType.KE),
            )
            for number, settings in enumerate(configured, 1)
        )
    )


def with_spi(offer: SecurityAssociation, spi: bytes) -> SecurityAssociation:
    """The same offer for an SA with that SPI of ours."""
    return SecurityAssociation(tuple([Proposal(p.number, p.protocol_id, spi, p.transforms) for p in offer.proposals]))


def _match(settings: ProposalSettings, proposal: Proposal, *, has_ke: bool) -> ProposalChoice | None:
    if proposal.protocol_id != settings.protocol_id:
        return None
    offered: dict[int, set[tuple[int, int]]] = {}
    for transform in proposal.transforms:
        # An attribute that we don't know makes the transform unacceptable (RFC 7296 section 3.3.6).
        if not transform.attributes:
            offered.setdefault(transform.type, set()).add((transform.id, transform.key_bits))
        else:
            offered.setdefault(transform.type, set())
    if not has_ke:
        offered.pop(TransformType.KE, None)
    if settings.protocol_id == ProtocolId.ESP:
        offered.setdefault(TransformType.SN, {(SequenceNumbers.NO_ESN, 0)})
    chosen: list[Transform] = []
    for transform_type in TransformType:
        acceptable = settings.of_type(transform_type) if has_ke or transform_type != TransformType.KE else ()
        if acceptable:
            among = offered.pop(transform_type, set())
            best = next((t for t in acceptable if (t.id, t.key_bits) in among), None)
            if best is None:
                return None
            chosen.append(best)
    # What is left are types that we don't want; acceptable only where "none of it" (0) is on offer.
    if any((0, 0) not in ids for ids in offered.values()):
        return None
    transforms = tuple(chosen)
    return ProposalChoice(
        number=proposal.number,
        transforms=transforms,
        ke_method=next((t.id for t in transforms if t.type == TransformType.KE), KeId.NONE),
        answer=SecurityAssociation((Proposal(proposal.number, proposal.protocol_id, b"", transforms),)),
    )


def select_proposal(
    offered: Sequence[Proposal], configured: Sequence[ProposalSettings], *, has_ke: bool = True
) -> ProposalChoice | None:
    """Choose by our order of preference among what is offered (RFC 7296 section 2.7); None if nothing fits."""
    for settings in configured:
        for proposal in offered:
            choice = _match(settings, proposal, has_ke=has_ke)
            if choice is not None:
                return choice
    return None


class Negotiator:
    """Choices for one list of configured proposals, remembered by the octets of the offer or the answer.

    Make a new one when the configuration changes: what it remembers belongs to the list that it was made for.
    """

    __slots__ = ("_answers", "_choices", "_has_ke", "configured", "offer")

    def __init__(self, configured: Sequence[ProposalSettings], *, has_ke: bool) -> None:
        self.configured = tuple(configured)
        self.offer = to_offer(self.configured, has_ke=has_ke)
        """All of it, as an initiator."""
        self._has_ke = has_ke
        self._choices: dict[bytes, ProposalChoice | None] = {}
        self._answers: dict[bytes, ProposalChoice] = {}

    def choose(self, offer: SecurityAssociation) -> ProposalChoice | None:
        """As `select_proposal`, remembering the answer."""
        try:
            return self._choices[offer.fingerprint]
        except KeyError:
            choice = select_proposal(offer.proposals, self.configured, has_ke=self._has_ke)
            _remember(self._choices, offer.fingerprint, choice)
            return choice

    def allows(self, choice: ProposalChoice) -> bool:
        """Whether what another negotiator chose could have been chosen here."""
        chosen = set(choice.transforms)
        types = {t.type for t in chosen}
        return any(chosen <= set(p.transforms) and types == {t.type for t in p.transforms} for p in self.configured)

    def accept(self, answer: SecurityAssociation) -> ProposalChoice:
        """Check a responder's choice against what we offered, all that is configured (RFC 7296 section 3.3.6).

        Raises InvalidSyntax unless it is exactly one proposal, with one transform of each type that we offered.
        """
        try:
            return self._answers[answer.fingerprint]
        except KeyError:
            choice = _check_answer(answer, self.configured, has_ke=self._has_ke)
            _remember(self._answers, answer.fingerprint, choice)
            return choice


_T = TypeVar("_T")


def _remember(memory: dict[bytes, _T], fingerprint: bytes, choice: _T) -> None:
    if len(memory) >= _CHOICES_REMEMBERED:
        memory.clear()
    if 0 < len(fingerprint) <= _REMEMBERED_OCTETS:
        memory[fingerprint] = choice


def _check_answer(
    answer: SecurityAssociation, configured: Sequence[ProposalSettings], *, has_ke: bool
) -> ProposalChoice:
    if len(answer.proposals) != 1:
        raise InvalidSyntax("the answer holds not exactly one proposal")
    proposal = answer.proposals[0]
    if not 1 <= proposal.number <= len(configured):
        raise InvalidSyntax(f"the answer chooses proposal {proposal.number}, which was not offered")
    types = [t.type for t in proposal.transforms]
    if len(types) != len(set(types)):
        raise InvalidSyntax("the answer chooses two transforms of one type")
    choice = _match(configured[proposal.number - 1], proposal, has_ke=has_ke)
    if choice is None:
        raise InvalidSyntax("the answer chooses what was not offered")
    return choice


def spi_of(offer: SecurityAssociation, number: int) -> bytes:
    """The SPI in the proposal of that number."""
    for proposal in offer.proposals:
        if proposal.number == number:
            return proposal.spi
    raise InvalidSyntax(f"no proposal {number} in the SA payload")


@lru_cache(maxsize=256)
def ike_suite(transforms: tuple[Transform, ...]) -> IkeSuite:
    """The algorithm rows of a chosen IKE proposal."""
    by_type = {t.type: t for t in transforms}
    encr = by_type[TransformType.ENCR]
    integ = by_type.get(TransformType.INTEG)
    return IkeSuite(
        encr=ENCR[EncrId(encr.id)],
        encr_key_bits=encr.key_bits,
        integ=None if integ is None or integ.id == IntegId.NONE else INTEG[IntegId(integ.id)],
        prf=PRF[PrfId(by_type[TransformType.PRF].id)],
        ke=KE[KeId(by_type[TransformType.KE].id)],
    )


@lru_cache(maxsize=256)
def child_suite(transforms: tuple[Transform, ...]) -> ChildSuite:
    """The algorithm rows of a chosen ESP proposal."""
    by_type = {t.type: t for t in transforms}
    encr = by_type[TransformType.ENCR]
    integ = by_type.get(TransformType.INTEG)
    ke = by_type.get(TransformType.KE)
    esn = by_type.get(TransformType.SN)
    return ChildSuite(
        encr=ENCR[EncrId(encr.id)],
        key_bits=encr.key_bits,
        integ=None if integ is None or integ.id == IntegId.NONE else INTEG[IntegId(integ.id)],
        ke=None if ke is None or ke.id == KeId.NONE else KE[KeId(ke.id)],
        is_esn=esn is not None and esn.id == SequenceNumbers.ESN,
    )


_DEFAULT_KE = "x25519-ecp256-ecp384-ecp521-x448-modp3072-modp4096-modp2048"

DEFAULT_IKE_PROPOSALS = tuple(
    parse_proposal(ProtocolId.IKE, text)
    for text in (
        f"aes128gcm16-aes192gcm16-aes256gcm16-chacha20poly1305-prfsha256-prfsha384-prfsha512-{_DEFAULT_KE}",
        f"aes128-aes192-aes256-sha256-sha384-sha512-prfsha256-prfsha384-prfsha512-{_DEFAULT_KE}",
    )
)
"""What `proposals = default` stands for."""

DEFAULT_ESP_PROPOSALS = tuple(
    parse_proposal(ProtocolId.ESP, text)
    for text in (
        "aes128gcm16-aes192gcm16-aes256gcm16-chacha20poly1305",
        "aes128-aes192-aes256-sha256-sha384-sha512",
    )
)
"""What `esp_proposals = default` stands for."""

"""strongSwan's words for transforms, as proposals join them: `aes128gcm16-prfsha256-x25519`."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from cygnet.crypto.encr import NO_KEY_LENGTH, EncrAlgorithm
from cygnet.crypto.legacy import with_legacy
from cygnet.crypto.tables import STANDARD, AlgorithmTables
from cygnet.iana.transforms import SequenceNumbers, TransformType


class Keyword(msgspec.Struct, frozen=True, gc=False):
    """The transform that a keyword stands for."""

    transform_type: TransformType
    id: int
    key_bits: int = NO_KEY_LENGTH


def build_keywords(tables: AlgorithmTables) -> Mapping[str, Keyword]:
    """Every keyword of the algorithms in `tables`; the one we print comes before its aliases."""
    return MappingProxyType(dict(_iterate_keywords(tables)))


def keyword_of(transform_type: int, number: int, key_bits: int = NO_KEY_LENGTH) -> str:
    """strongSwan's keyword of a transform, legacy or not; of an unknown one `type:id` or `type:id:bits`."""
    keyword = _NAMES.get((transform_type, number, key_bits))
    if keyword is not None:
        return keyword
    return f"{transform_type}:{number}:{key_bits}" if key_bits else f"{transform_type}:{number}"


def _iterate_keywords(tables: AlgorithmTables) -> Iterator[tuple[str, Keyword]]:
    for encr in tables.encr.values():
        yield from _iterate_encr_keywords(encr)
    for integ in tables.integ.values():
        for word in integ.keywords:
            yield word, Keyword(TransformType.INTEG, integ.id)
    for prf in tables.prf.values():
        for word in prf.keywords:
            yield word, Keyword(TransformType.PRF, prf.id)
    for method in tables.ke.values():
        for word in method.keywords:
            yield word, Keyword(TransformType.KE, method.id)
    yield "noesn", Keyword(TransformType.SN, SequenceNumbers.NO_ESN)
    yield "esn", Keyword(TransformType.SN, SequenceNumbers.ESN)


def _iterate_encr_keywords(encr: EncrAlgorithm) -> Iterator[tuple[str, Keyword]]:
    for pattern in encr.keywords:
        # A word without its key length, such as "aes", stands for the shortest.
        for key_bits in encr.key_bits if "{bits}" in pattern else encr.key_bits[:1]:
            yield pattern.format(bits=key_bits), Keyword(TransformType.ENCR, encr.id, key_bits)


KEYWORDS: Final = build_keywords(STANDARD)
"""The keywords of what may be used without asking for legacy algorithms."""

_NAMES: Final[Mapping[tuple[int, int, int], str]] = {
    (keyword.transform_type, keyword.id, keyword.key_bits): word
    for word, keyword in reversed(list(build_keywords(with_legacy()).items()))
}

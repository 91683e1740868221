"""Keywords mean what strongSwan means by them (src/libstrongswan/crypto/proposal/proposal_keywords_static.txt)."""

import pytest

from cygnet.crypto.keywords import KEYWORDS, Keyword, build_keywords, keyword_of
from cygnet.crypto.legacy import with_legacy
from cygnet.iana.transforms import EncrId, IntegId, KeId, PrfId, SequenceNumbers, TransformType

ENCR = {
    "aes": (EncrId.AES_CBC, 128),
    "aes128": (EncrId.AES_CBC, 128),
    "aes192": (EncrId.AES_CBC, 192),
    "aes256": (EncrId.AES_CBC, 256),
    "aes256ctr": (EncrId.AES_CTR, 256),
    "aes128ccm8": (EncrId.AES_CCM_8, 128),
    "aes128ccm64": (EncrId.AES_CCM_8, 128),
    "aes192ccm12": (EncrId.AES_CCM_12, 192),
    "aes192ccm96": (EncrId.AES_CCM_12, 192),
    "aes256ccm16": (EncrId.AES_CCM_16, 256),
    "aes256ccm128": (EncrId.AES_CCM_16, 256),
    "aes256ccm": (EncrId.AES_CCM_16, 256),
    "aes128gcm8": (EncrId.AES_GCM_8, 128),
    "aes128gcm64": (EncrId.AES_GCM_8, 128),
    "aes192gcm12": (EncrId.AES_GCM_12, 192),
    "aes192gcm96": (EncrId.AES_GCM_12, 192),
    "aes128gcm16": (EncrId.AES_GCM_16, 128),
    "aes128gcm128": (EncrId.AES_GCM_16, 128),
    "aes128gcm": (EncrId.AES_GCM_16, 128),
    "chacha20poly1305": (EncrId.CHACHA20_POLY1305, 0),
}
OTHERS = {
    "sha": (TransformType.INTEG, IntegId.HMAC_SHA1_96),
    "sha1": (TransformType.INTEG, IntegId.HMAC_SHA1_96),
    "sha256": (TransformType.INTEG, IntegId.HMAC_SHA2_256_128),
    "sha2_256": (TransformType.INTEG, IntegId.HMAC_SHA2_256_128),
    "sha384": (TransformType.INTEG, IntegId.HMAC_SHA2_384_192),
    "sha2_384": (TransformType.INTEG, IntegId.HMAC_SHA2_384_192),
    "sha512": (TransformType.INTEG, IntegId.HMAC_SHA2_512_256),
    "sha2_512": (TransformType.INTEG, IntegId.HMAC_SHA2_512_256),
    "aesxcbc": (TransformType.INTEG, IntegId.AES_XCBC_96),
    "aescmac": (TransformType.INTEG, IntegId.AES_CMAC_96),
    "prfsha1": (TransformType.PRF, PrfId.HMAC_SHA1),
    "prfsha256": (TransformType.PRF, PrfId.HMAC_SHA2_256),
    "prfsha384": (TransformType.PRF, PrfId.HMAC_SHA2_384),
    "prfsha512": (TransformType.PRF, PrfId.HMAC_SHA2_512),
    "prfaesxcbc": (TransformType.PRF, PrfId.AES128_XCBC),
    "prfaescmac": (TransformType.PRF, PrfId.AES128_CMAC),
    "modp1024": (TransformType.KE, KeId.MODP_1024),
    "modp1536": (TransformType.KE, KeId.MODP_1536),
    "modp2048": (TransformType.KE, KeId.MODP_2048),
    "modp3072": (TransformType.KE, KeId.MODP_3072),
    "modp4096": (TransformType.KE, KeId.MODP_4096),
    "modp6144": (TransformType.KE, KeId.MODP_6144),
    "modp8192": (TransformType.KE, KeId.MODP_8192),
    "ecp256": (TransformType.KE, KeId.ECP_256),
    "ecp384": (TransformType.KE, KeId.ECP_384),
    "ecp521": (TransformType.KE, KeId.ECP_521),
    "ecp256bp": (TransformType.KE, KeId.BRAINPOOL_256),
    "ecp384bp": (TransformType.KE, KeId.BRAINPOOL_384),
    "ecp512bp": (TransformType.KE, KeId.BRAINPOOL_512),
    "x25519": (TransformType.KE, KeId.CURVE25519),
    "curve25519": (TransformType.KE, KeId.CURVE25519),
    "x448": (TransformType.KE, KeId.CURVE448),
    "curve448": (TransformType.KE, KeId.CURVE448),
    "noesn": (TransformType.SN, SequenceNumbers.NO_ESN),
    "esn": (TransformType.SN, SequenceNumbers.ESN),
}


@pytest.mark.parametrize(("word", "meaning"), ENCR.items())
def test_encryption(word: str, meaning: tuple[EncrId, int]) -> None:
    assert KEYWORDS[word] == Keyword(TransformType.ENCR, *meaning)


@pytest.mark.parametrize(("word", "meaning"), OTHERS.items())
def test_others(word: str, meaning: tuple[TransformType, int]) -> None:
    assert KEYWORDS[word] == Keyword(*meaning)


def test_every_keyword_names_its_transform_again() -> None:
    for keyword in build_keywords(with_legacy()).values():
        word = keyword_of(keyword.transform_type, keyword.id, keyword.key_bits)
        assert build_keywords(with_legacy())[word] == keyword


@pytest.mark.parametrize(
    ("transform", "word"),
    [
        ((TransformType.ENCR, EncrId.AES_CBC, 128), "aes128"),
        ((TransformType.ENCR, EncrId.AES_GCM_16, 256), "aes256gcm16"),
        ((TransformType.INTEG, IntegId.HMAC_SHA1_96, 0), "sha1"),
        ((TransformType.KE, KeId.CURVE25519, 0), "x25519"),
        ((TransformType.ENCR, EncrId.TRIPLE_DES, 0), "3des"),
        ((TransformType.INTEG, IntegId.HMAC_MD5_96, 0), "md5"),
        ((TransformType.ENCR, EncrId.CAMELLIA_CBC, 128), "1:23:128"),
        ((TransformType.KE, 9999, 0), "4:9999"),
    ],
)
def test_printed_keyword(transform: tuple[int, int, int], word: str) -> None:
    assert keyword_of(*transform) == word


@pytest.mark.parametrize("word", ["3des", "md5", "prfmd5"])
def test_legacy_keywords_need_legacy_tables(word: str) -> None:
    assert word not in KEYWORDS
    assert word in build_keywords(with_legacy())


def test_no_word_means_two_things() -> None:
    tables = with_legacy()
    words = [
        word.format(bits=bits)
        for row in tables.encr.values()
        for word in row.keywords
        for bits in (row.key_bits if "{bits}" in word else row.key_bits[:1])
    ]
    words += [
        word for table in (tables.integ, tables.prf, tables.ke) for row in table.values() for word in row.keywords
    ]
    assert len(words) == len(set(words)) == len(build_keywords(tables)) - 2  # esn and noesn have no row

"""IANA "Transform Type Values", the transform IDs of each type, and "IKEv2 Transform Attribute Types".

The registries prefix their names with `ENCR_`, `PRF_` and `AUTH_`; here the class says it.
"""

from enum import IntEnum


class TransformType(IntEnum):
    """What a transform is for (RFC 7296 section 3.3.2)."""

    ENCR = 1  # RFC 7296
    PRF = 2  # RFC 7296
    INTEG = 3  # RFC 7296
    KE = 4  # RFC 7296, renamed from D-H by RFC 9370
    SN = 5  # RFC 7296, renamed from ESN by RFC 9827
    ADDKE1 = 6  # RFC 9370
    ADDKE2 = 7  # RFC 9370
    ADDKE3 = 8  # RFC 9370
    ADDKE4 = 9  # RFC 9370
    ADDKE5 = 10  # RFC 9370
    ADDKE6 = 11  # RFC 9370
    ADDKE7 = 12  # RFC 9370
    KWA = 13  # RFC 9838
    GCAUTH = 14  # RFC 9838


class AttributeType(IntEnum):
    """What a transform attribute says (RFC 7296 section 3.3.5)."""

    KEY_LENGTH = 14  # RFC 7296, in bits
    SIGNATURE_ALGORITHM_IDENTIFIER = 18  # RFC 9838


class EncrId(IntEnum):
    """Transform type 1, encryption algorithms."""

    DES_IV64 = 1  # RFC 1827
    DES = 2  # RFC 2405
    TRIPLE_DES = 3  # RFC 2451
    RC5 = 4  # RFC 2451
    IDEA = 5  # RFC 2451
    CAST = 6  # RFC 2451
    BLOWFISH = 7  # RFC 2451
    TRIPLE_IDEA = 8  # RFC 2451
    DES_IV32 = 9  # RFC 7296
    NULL = 11  # RFC 2410
    AES_CBC = 12  # RFC 3602
    AES_CTR = 13  # RFC 3686, RFC 5930
    AES_CCM_8 = 14  # RFC 4309, RFC 5282
    AES_CCM_12 = 15  # RFC 4309, RFC 5282
    AES_CCM_16 = 16  # RFC 4309, RFC 5282
    AES_GCM_8 = 18  # RFC 4106, RFC 5282
    AES_GCM_12 = 19  # RFC 4106, RFC 5282
    AES_GCM_16 = 20  # RFC 4106, RFC 5282
    NULL_AUTH_AES_GMAC = 21  # RFC 4543
    CAMELLIA_CBC = 23  # RFC 5529
    CAMELLIA_CTR = 24  # RFC 5529
    CAMELLIA_CCM_8 = 25  # RFC 5529
    CAMELLIA_CCM_12 = 26  # RFC 5529
    CAMELLIA_CCM_16 = 27  # RFC 5529
    CHACHA20_POLY1305 = 28  # RFC 7634
    AES_CCM_8_IIV = 29  # RFC 8750
    AES_GCM_16_IIV = 30  # RFC 8750
    CHACHA20_POLY1305_IIV = 31  # RFC 8750
    KUZNYECHIK_MGM_KTREE = 32  # RFC 9227
    MAGMA_MGM_KTREE = 33  # RFC 9227
    KUZNYECHIK_MGM_MAC_KTREE = 34  # RFC 9227
    MAGMA_MGM_MAC_KTREE = 35  # RFC 9227


class PrfId(IntEnum):
    """Transform type 2, pseudorandom functions."""

    HMAC_MD5 = 1  # RFC 2104
    HMAC_SHA1 = 2  # RFC 2104
    HMAC_TIGER = 3  # RFC 2104
    AES128_XCBC = 4  # RFC 4434
    HMAC_SHA2_256 = 5  # RFC 4868
    HMAC_SHA2_384 = 6  # RFC 4868
    HMAC_SHA2_512 = 7  # RFC 4868
    AES128_CMAC = 8  # RFC 4615
    HMAC_STREEBOG_512 = 9  # RFC 9385


class IntegId(IntEnum):
    """Transform type 3, integrity algorithms."""

    NONE = 0  # RFC 7296
    HMAC_MD5_96 = 1  # RFC 2403
    HMAC_SHA1_96 = 2  # RFC 2404
    DES_MAC = 3  # RFC 7296
    KPDK_MD5 = 4  # RFC 7296
    AES_XCBC_96 = 5  # RFC 3566
    HMAC_MD5_128 = 6  # RFC 4595
    HMAC_SHA1_160 = 7  # RFC 4595
    AES_CMAC_96 = 8  # RFC 4494
    AES_128_GMAC = 9  # RFC 4543
    AES_192_GMAC = 10  # RFC 4543
    AES_256_GMAC = 11  # RFC 4543
    HMAC_SHA2_256_128 = 12  # RFC 4868
    HMAC_SHA2_384_192 = 13  # RFC 4868
    HMAC_SHA2_512_256 = 14  # RFC 4868


class KeId(IntEnum):
    """Transform types 4 and 6 to 12, key exchange methods; also the number in a KE payload."""

    NONE = 0  # RFC 7296
    MODP_768 = 1  # RFC 7296
    MODP_1024 = 2  # RFC 7296
    MODP_1536 = 5  # RFC 3526
    MODP_2048 = 14  # RFC 3526
    MODP_3072 = 15  # RFC 3526
    MODP_4096 = 16  # RFC 3526
    MODP_6144 = 17  # RFC 3526
    MODP_8192 = 18  # RFC 3526
    ECP_256 = 19  # RFC 5903
    ECP_384 = 20  # RFC 5903
    ECP_521 = 21  # RFC 5903
    MODP_1024_160 = 22  # RFC 5114
    MODP_2048_224 = 23  # RFC 5114
    MODP_2048_256 = 24  # RFC 5114
    ECP_192 = 25  # RFC 5114
    ECP_224 = 26  # RFC 5114
    BRAINPOOL_224 = 27  # RFC 6954
    BRAINPOOL_256 = 28  # RFC 6954
    BRAINPOOL_384 = 29  # RFC 6954
    BRAINPOOL_512 = 30  # RFC 6954
    CURVE25519 = 31  # RFC 8031
    CURVE448 = 32  # RFC 8031
    GOST3410_2012_256 = 33  # RFC 9385
    GOST3410_2012_512 = 34  # RFC 9385
    ML_KEM_512 = 35  # draft-ietf-ipsecme-ikev2-mlkem
    ML_KEM_768 = 36  # draft-ietf-ipsecme-ikev2-mlkem
    ML_KEM_1024 = 37  # draft-ietf-ipsecme-ikev2-mlkem


class SequenceNumbers(IntEnum):
    """Transform type 5, the sequence numbers of ESP and AH (RFC 9827)."""

    NO_ESN = 0  # RFC 7296: 32-bit sequential numbers
    ESN = 1  # RFC 7296: partially transmitted 64-bit sequential numbers
    UNSPECIFIED_32 = 2  # RFC 9827: 32-bit unspecified numbers

"""Integrity algorithms and PRFs: a message, a key, and the code of the one under the other."""

from typing import NamedTuple

from cygnet.iana.transforms import IntegId, PrfId


class IntegVector(NamedTuple):
    """One ICV, in hexadecimal."""

    source: str
    id: IntegId
    key: str
    message: str
    icv: str


class PrfVector(NamedTuple):
    """prf(key, message), in hexadecimal."""

    source: str
    id: PrfId
    key: str
    message: str
    output: str


class PrfPlusVector(NamedTuple):
    """prf+(key, seed), in hexadecimal."""

    source: str
    id: PrfId
    key: str
    seed: str
    stream: str


_HI_THERE = b"Hi There".hex()
_JEFE = b"Jefe".hex()
_JEFE_WANTS = b"what do ya want for nothing?".hex()
_TRUNCATION = b"Test With Truncation".hex()
_AES_KEY = "000102030405060708090a0b0c0d0e0f"
_CMAC_KEY = "2b7e151628aed2a6abf7158809cf4f3c"
_CMAC_MESSAGE = (
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
_XCBC_CASES = (
    (1, 0, "75f0251d528ac01c4573dfd584d79f29"),
    (2, 3, "5b376580ae2f19afe7219ceef172756f"),
    (3, 16, "d2a246fa349b68a79998a4394ff7a263"),
    (4, 20, "47f51b4564966215b8985c63055ed308"),
    (5, 32, "f54f0ec8d2b9f3d36807734bd5283fd4"),
    (6, 34, "becbb3bccdb518a30677d5481fb6b4d8"),
)
_CMAC_CASES = (
    (1, 0, "bb1d6929e95937287fa37d129b756746"),
    (2, 16, "070a16b46b4d4144f79bdd9dd04a287c"),
    (3, 40, "dfa66747de9ae63030ca32611497c827"),
    (4, 64, "51f0bebf7e3b9d92fc49741779363cfe"),
)

INTEG = (
    IntegVector(
        "RFC 2202 section 2, case 5, digest-96",
        IntegId.HMAC_MD5_96,
        "0c" * 16,
        _TRUNCATION,
        "56461ef2342edc00f9bab995",
    ),
    IntegVector(
        "RFC 2202 section 3, case 5, digest-96",
        IntegId.HMAC_SHA1_96,
        "0c" * 20,
        _TRUNCATION,
        "4c1a03424b55e07fe7f27be1",
    ),
    IntegVector(
        "RFC 4868 section 2.7.2.1, AUTH256-1",
        IntegId.HMAC_SHA2_256_128,
        "0b" * 32,
        _HI_THERE,
        "198a607eb44bfbc69903a0f1cf2bbdc5",
    ),
    IntegVector(
        "RFC 4868 section 2.7.2.1, AUTH256-2",
        IntegId.HMAC_SHA2_256_128,
        _JEFE * 8,
        _JEFE_WANTS,
        "167f928588c5cc2eef8e3093caa0e87c",
    ),
    IntegVector(
        "RFC 4868 section 2.7.2.1, AUTH256-3",
        IntegId.HMAC_SHA2_256_128,
        "aa" * 32,
        "dd" * 50,
        "cdcb1220d1ecccea91e53aba3092f962",
    ),
    IntegVector(
        "RFC 4868 section 2.7.2.2, AUTH384-1",
        IntegId.HMAC_SHA2_384_192,
        "0b" * 48,
        _HI_THERE,
        "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973",
    ),
    IntegVector(
        "RFC 4868 section 2.7.2.2, AUTH384-2",
        IntegId.HMAC_SHA2_384_192,
        _JEFE * 12,
        _JEFE_WANTS,
        "2c7353974f1842fd66d53c452ca42122b28c0b594cfb184d",
    ),
    IntegVector(
        "RFC 4868 section 2.7.2.3, AUTH512-1",
        IntegId.HMAC_SHA2_512_256,
        "0b" * 64,
        _HI_THERE,
        "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8",
    ),
    IntegVector(
        "RFC 4868 section 2.7.2.3, AUTH512-2",
        IntegId.HMAC_SHA2_512_256,
        _JEFE * 16,
        _JEFE_WANTS,
        "cb370917ae8a7ce28cfd1d8f4705d6141c173b2a9362c15df235dfb251b15454",
    ),
    *(
        IntegVector(
            f"RFC 3566 section 4.6, case {case}",
            IntegId.AES_XCBC_96,
            _AES_KEY,
            bytes(range(octets)).hex(),
            code[:24],
        )
        for case, octets, code in _XCBC_CASES
    ),
    IntegVector("RFC 3566 section 4.6, case 7", IntegId.AES_XCBC_96, _AES_KEY, "00" * 1000, "f0dafee895db30253761103b"),
    *(
        IntegVector(
            f"RFC 4494 section 4, case {case}",
            IntegId.AES_CMAC_96,
            _CMAC_KEY,
            _CMAC_MESSAGE[: 2 * octets],
            code[:24],
        )
        for case, octets, code in _CMAC_CASES
    ),
)

_TWENTY_OCTETS = bytes(range(20)).hex()
_LARGER_KEY = b"Test Using Larger Than Block-Size Key - Hash Key First".hex()

PRF = (
    PrfVector("RFC 2202 section 2, case 1", PrfId.HMAC_MD5, "0b" * 16, _HI_THERE, "9294727a3638bb1c13f48ef8158bfc9d"),
    PrfVector("RFC 2202 section 2, case 2", PrfId.HMAC_MD5, _JEFE, _JEFE_WANTS, "750c783e6ab0b503eaa86e310a5db738"),
    PrfVector(
        "RFC 2202 section 3, case 1",
        PrfId.HMAC_SHA1,
        "0b" * 20,
        _HI_THERE,
        "b617318655057264e28bc0b6fb378c8ef146be00",
    ),
    PrfVector(
        "RFC 2202 section 3, case 2",
        PrfId.HMAC_SHA1,
        _JEFE,
        _JEFE_WANTS,
        "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
    ),
    PrfVector(
        "RFC 2202 section 3, case 6",
        PrfId.HMAC_SHA1,
        "aa" * 80,
        _LARGER_KEY,
        "aa4ae5e15272d00e95705637ce8a3b55ed402112",
    ),
    PrfVector(
        "RFC 4231 section 4.2, case 1",
        PrfId.HMAC_SHA2_256,
        "0b" * 20,
        _HI_THERE,
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
    ),
    PrfVector(
        "RFC 4231 section 4.3, case 2",
        PrfId.HMAC_SHA2_256,
        _JEFE,
        _JEFE_WANTS,
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    PrfVector(
        "RFC 4231 section 4.7, case 6",
        PrfId.HMAC_SHA2_256,
        "aa" * 131,
        _LARGER_KEY,
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    PrfVector(
        "RFC 4231 section 4.2, case 1",
        PrfId.HMAC_SHA2_384,
        "0b" * 20,
        _HI_THERE,
        "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6",
    ),
    PrfVector(
        "RFC 4231 section 4.7, case 6",
        PrfId.HMAC_SHA2_384,
        "aa" * 131,
        _LARGER_KEY,
        "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952",
    ),
    PrfVector(
        "RFC 4231 section 4.2, case 1",
        PrfId.HMAC_SHA2_512,
        "0b" * 20,
        _HI_THERE,
        "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
        "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
    ),
    PrfVector(
        "RFC 4231 section 4.7, case 6",
        PrfId.HMAC_SHA2_512,
        "aa" * 131,
        _LARGER_KEY,
        "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352"
        "6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
    ),
    *(
        PrfVector(
            f"RFC 3566 section 4.6, case {case}",
            PrfId.AES128_XCBC,
            _AES_KEY,
            bytes(range(octets)).hex(),
            code,
        )
        for case, octets, code in _XCBC_CASES
    ),
    PrfVector(
        "RFC 4434 section 3, key of 10 octets",
        PrfId.AES128_XCBC,
        "00010203040506070809",
        _TWENTY_OCTETS,
        "0fa087af7d866e7653434e602fdde835",
    ),
    PrfVector(
        "RFC 4434 section 3, key of 18 octets",
        PrfId.AES128_XCBC,
        _AES_KEY + "edcb",
        _TWENTY_OCTETS,
        "8cd3c93ae598a9803006ffb67c40e9e4",
    ),
    *(
        PrfVector(
            f"RFC 4493 section 4, case {case}",
            PrfId.AES128_CMAC,
            _CMAC_KEY,
            _CMAC_MESSAGE[: 2 * octets],
            code,
        )
        for case, octets, code in _CMAC_CASES
    ),
    PrfVector(
        "RFC 4615 section 4, key of 18 octets",
        PrfId.AES128_CMAC,
        _AES_KEY + "edcb",
        _TWENTY_OCTETS,
        "84a348a4a45d235babfffc0d2b4da09a",
    ),
    PrfVector(
        "RFC 4615 section 4, key of 16 octets",
        PrfId.AES128_CMAC,
        _AES_KEY,
        _TWENTY_OCTETS,
        "980ae87b5f4c9c5214f5b6a8455e4c2d",
    ),
    PrfVector(
        "RFC 4615 section 4, key of 10 octets",
        PrfId.AES128_CMAC,
        "00010203040506070809",
        _TWENTY_OCTETS,
        "290d9e112edb09ee141fcf64c0b72f3d",
    ),
)

# HKDF-Expand of RFC 5869 is prf+ over HMAC.
PRF_PLUS = (
    PrfPlusVector(
        "RFC 5869 appendix A.1",
        PrfId.HMAC_SHA2_256,
        "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
        "f0f1f2f3f4f5f6f7f8f9",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    PrfPlusVector(
        "RFC 5869 appendix A.2",
        PrfId.HMAC_SHA2_256,
        "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
        bytes(range(0xB0, 0x100)).hex(),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
        "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
        "cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    PrfPlusVector(
        "RFC 5869 appendix A.4",
        PrfId.HMAC_SHA1,
        "9b6c18c432a7bf8f0e71c8eb88f4b30baa2ba243",
        "f0f1f2f3f4f5f6f7f8f9",
        "085a01ea1b10f36933068b56efa5ad81a4f14b822f5b091568a9cdd4f155fda2c22e422478d305f3f896",
    ),
)

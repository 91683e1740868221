"""Encryption: one packet each, sealed under known keys.

`key` is the keying material with the salt at its end; `sealed` is the ciphertext, followed by the ICV of an AEAD.
Where a mode's authors publish no vector in the layout of IPsec, nonces are cut into salt | IV, and tags to the length
of the ICV.
"""

from typing import NamedTuple

from cygnet.iana.transforms import EncrId


class EncrVector(NamedTuple):
    """One packet, in hexadecimal."""

    source: str
    id: EncrId
    key_bits: int
    key: str
    iv: str
    aad: str
    plaintext: str
    sealed: str


_CBC_IV = "000102030405060708090a0b0c0d0e0f"
_SP800_38A_PLAINTEXT = (
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)

CBC = (
    EncrVector(
        "RFC 3602 section 4, case 1",
        EncrId.AES_CBC,
        128,
        "06a9214036b8a15b512e03d534120006",
        "3dafba429d9eb430b422da802c9fac41",
        "",
        b"Single block msg".hex(),
        "e353779c1079aeb82708942dbe77181a",
    ),
    EncrVector(
        "RFC 3602 section 4, case 2",
        EncrId.AES_CBC,
        128,
        "c286696d887c9aa0611bbb3e2025a45a",
        "562e17996d093d28ddb3ba695a2e6f58",
        "",
        bytes(range(32)).hex(),
        "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
    ),
    EncrVector(
        "RFC 3602 section 4, case 3",
        EncrId.AES_CBC,
        128,
        "6c3ea0477630ce21a2ce334aa746c2cd",
        "c782dc4c098c66cbd9cd27d825682c81",
        "",
        b"This is a 48-byte message (exactly 3 AES blocks)".hex(),
        "d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5021c19216bad525c8579695d83ba2684",
    ),
    EncrVector(
        "RFC 3602 section 4, case 4",
        EncrId.AES_CBC,
        128,
        "56e47a38c5598974bc46903dba290349",
        "8ce82eefbea0da3c44699ed7db51b7d9",
        "",
        bytes(range(0xA0, 0xE0)).hex(),
        "c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e"
        "35907aa632c3ffdf868bb7b29d3d46ad83ce9f9a102ee99d49a53e87f4c3da55",
    ),
    EncrVector(
        "NIST SP 800-38A F.2.3",
        EncrId.AES_CBC,
        192,
        "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
        _CBC_IV,
        "",
        _SP800_38A_PLAINTEXT,
        "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a"
        "571b242012fb7ae07fa9baac3df102e008b0e27988598881d920a9e64f5615cd",
    ),
    EncrVector(
        "NIST SP 800-38A F.2.5",
        EncrId.AES_CBC,
        256,
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        _CBC_IV,
        "",
        _SP800_38A_PLAINTEXT,
        "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d"
        "39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b",
    ),
    EncrVector(
        "NIST CAVS TDES multiblock message test, TCBC, 1",
        EncrId.TRIPLE_DES,
        0,
        "627f460e08104a1043cd265d5840eaf1313edf97df2a8a8c",
        "8e29f75ea77e5475",
        "",
        "326a494cd33fe756",
        "b22b8d66de970692",
    ),
    EncrVector(
        "NIST CAVS TDES multiblock message test, TCBC, 2",
        EncrId.TRIPLE_DES,
        0,
        "37ae5ebf46dff2dc0754b94f31cbb3855e7fd36dc870bfae",
        "3d1de3cc132e3b65",
        "",
        "84401f78fe6c10876d8ea23094ea5309",
        "7b1f7c7e3b1c948ebd04a75ffba7d2f5",
    ),
)

CTR = (
    EncrVector(
        "RFC 3686 section 6, vector 1",
        EncrId.AES_CTR,
        128,
        "ae6852f8121067cc4bf7a5765577f39e00000030",
        "0000000000000000",
        "",
        b"Single block msg".hex(),
        "e4095d4fb7a7b3792d6175a3261311b8",
    ),
    EncrVector(
        "RFC 3686 section 6, vector 2",
        EncrId.AES_CTR,
        128,
        "7e24067817fae0d743d6ce1f32539163006cb6db",
        "c0543b59da48d90b",
        "",
        bytes(range(32)).hex(),
        "5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28",
    ),
    EncrVector(
        "RFC 3686 section 6, vector 3",
        EncrId.AES_CTR,
        128,
        "7691be035e5020a8ac6e618529f9a0dc00e0017b",
        "27777f3f4a1786f0",
        "",
        bytes(range(36)).hex(),
        "c1cf48a89f2ffdd9cf4652e9efdb72d74540a42bde6d7836d59a5ceaaef3105325b2072f",
    ),
    EncrVector(
        "RFC 3686 section 6, vector 4",
        EncrId.AES_CTR,
        192,
        "16af5b145fc9f579c175f93e3bfb0eed863d06ccfdb7851500000048",
        "36733c147d6d93cb",
        "",
        b"Single block msg".hex(),
        "4b55384fe259c9c84e7935a003cbe928",
    ),
    EncrVector(
        "RFC 3686 section 6, vector 7",
        EncrId.AES_CTR,
        256,
        "776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c10400000060",
        "db5672c97aa8f0b2",
        "",
        b"Single block msg".hex(),
        "145ad01dbf824ec7560863dc71e3e0c0",
    ),
    EncrVector(
        "RFC 3686 section 6, vector 8",
        EncrId.AES_CTR,
        256,
        "f6d66d6bd52d59bb0796365879eff886c66dd51a5b6a99744b50590c87a2388400faac24",
        "c1585ef15a43d875",
        "",
        bytes(range(32)).hex(),
        "f05e231b3894612c49ee000b804eb2a9b8306b508f839d6a5530831d9344af1c",
    ),
)

_GCM_KEY = "feffe9928665731c6d6a8f9467308308"
_GCM_SALT = "cafebabe"
_GCM_IV = "facedbaddecaf888"
_GCM_AAD = "feedfacedeadbeeffeedfacedeadbeefabaddad2"
_GCM_PLAINTEXT = (
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
)
_GCM_CIPHERTEXT_128 = (
    "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
    "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985"
)
_GCM_CIPHERTEXT_192 = (
    "3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c"
    "7d773d00c144c525ac619d18c84a3f4718e2448b2fe324d9ccda2710acade256"
)
_GCM_CIPHERTEXT_256 = (
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
)
# The McGrew-Viega paper's cases that have nonces of 12 octets: key length, has AAD and 60 octets of plaintext, tag.
_GCM_CASES = (
    (3, 128, _GCM_KEY, False, _GCM_CIPHERTEXT_128, "4d5c2af327cd64a62cf35abd2ba6fab4"),
    (4, 128, _GCM_KEY, True, _GCM_CIPHERTEXT_128, "5bc94fbc3221a5db94fae95ae7121a47"),
    (9, 192, _GCM_KEY + _GCM_KEY[:16], False, _GCM_CIPHERTEXT_192, "9924a7c8587336bfb118024db8674a14"),
    (10, 192, _GCM_KEY + _GCM_KEY[:16], True, _GCM_CIPHERTEXT_192, "2519498e80f1478f37ba55bd6d27618c"),
    (15, 256, _GCM_KEY * 2, False, _GCM_CIPHERTEXT_256, "b094dac5d93471bdec1a502270e3cc6c"),
    (16, 256, _GCM_KEY * 2, True, _GCM_CIPHERTEXT_256, "76fc6ece0f4e1768cddf8853bb2d551b"),
)


def _gcm(number: EncrId, icv_octets: int) -> tuple[EncrVector, ...]:
    return tuple(
        EncrVector(
            f"McGrew and Viega, The Galois/Counter Mode of Operation, appendix B, case {case}",
            number,
            key_bits,
            key + _GCM_SALT,
            _GCM_IV,
            _GCM_AAD if has_aad else "",
            _GCM_PLAINTEXT[:120] if has_aad else _GCM_PLAINTEXT,
            (ciphertext[:120] if has_aad else ciphertext) + tag[: 2 * icv_octets],
        )
        for case, key_bits, key, has_aad, ciphertext, tag in _GCM_CASES
    )


GCM = _gcm(EncrId.AES_GCM_8, 8) + _gcm(EncrId.AES_GCM_12, 12) + _gcm(EncrId.AES_GCM_16, 16)

_CAVS_CCM = "NIST CAVS, as in Linux crypto/testmgr.h"  # the published CCM vectors with nonces of 11 octets
_CCM_12_AAD = "57f56b8b575c3d3b1302010c834c96358ed639cf7d149b94b03936e68f57e013"
_CCM_12_PLAINTEXT = "3b6c2936b6ef07a68372074fcffa66895fcab1bad58f2c2730db750993d465e4"

CCM = (
    EncrVector(
        _CAVS_CCM,
        EncrId.AES_CCM_16,
        128,
        "83ac5466c2ebe5052e01d1fc5d82662e96ac59",
        "3007a1e2a2c75524",
        "",
        "19c881f6e986ff930b7867e5bbb7fc6e8377b3a60c8c9f9c352eade062f991a1",
        "ab6fe1691d1999a892a0c46f7ee28bb170bb8ca64c6e978a572bbe5d98a6b132da24ead9a13998fda4bed9f21a6d22a8",
    ),
    EncrVector(
        _CAVS_CCM,
        EncrId.AES_CCM_16,
        128,
        "1e2c7e01419aefc00d58966e5ca24bd34fa319",
        "d3015ad830601556",
        "dae6289c452dfd635eda4cb6e6fcf9b70c56cbe4e0057ae10a630978bc2c55de",
        "87a336fd96b39378a92863ba12a31485571e06c97b21ef767f387e8e29a43e7e",
        "8a1e11f0026be219fc70c46d8eb799abc54ba2acd3f348ff3bb5ce53efdebb02a986156c13feda0a22b8293dd8399a23",
    ),
    EncrVector(
        _CAVS_CCM,
        EncrId.AES_CCM_16,
        192,
        "56df5c8f263f0e42ef7ad3cefc846062cab440af5fc9c901d63c8c",
        "8684b6cdef092e94",
        "0265783ce9213091b1b9da769a786d95f28832a3f250cb4ce300736984698779",
        "9fd2024b5249313c43693a2d8e70ad7ee0e54609808913b28c8bd93f86fbb56b",
        "39df7c3c5a29b9625d51c216d8bd069f9b6a0970c15183c266881d4f9adae01ec7791158e56b20407aea46428be46fe1",
    ),
    EncrVector(
        _CAVS_CCM,
        EncrId.AES_CCM_16,
        256,
        "abd0e9330726e5838c7695d4b6dcf346f98fade3021383773fb0f1a1a1220f2b24a78b",
        "07cbcc0ee633bff5",
        "d4db301d03fefd5f87d48cb6b6f17a5dab90658d8eca4d4f160c40904bc73673",
        "f5c67d48c1b7e692975acac4a96df93d6cdebcf190ea6ab2358636af5cfe4b3a",
        "836f408772cfc113efbb8021046c5809071bfcdfc03f5bc7e079a86e717c3fcf5cdab233e513e20d74d1efb50f3ab5f8",
    ),
    EncrVector(
        _CAVS_CCM,
        EncrId.AES_CCM_8,
        128,
        "ab2f8a74b71cd2b1ff802e487d82f8b9af9487",
        "783582817f889468",
        "",
        "",
        "413cb88773cbf3f3",
    ),
    EncrVector(
        _CAVS_CCM,
        EncrId.AES_CCM_8,
        192,
        "585da096651a04d796e5c568aa9535e029a0ba9e4878d1baee4983",
        "e9a9ffe957bafd9e",
        "44a62c05e9e143b1587cf25c6d390a64a4f01305d177996711c4c6db00563661",
        "85346642c8920f3658e06b913c985cbb0a85cc02ad7a96e96543a4c30fdc5581",
        "fbe55d34bee5e8e75aef2fbf1f7fd4b266ca611e967a61b31c164552ba049c9fb1d240bc527c6fb1",
    ),
    EncrVector(
        _CAVS_CCM,
        EncrId.AES_CCM_8,
        256,
        "e08d997160d7971abd0199d58adf713ad3df244b5e3d4b4e307ab9d8530a5e2b1e2991",
        "ad8ec1530acf2dbe",
        "19b61f57c4f3f08b782b9402290f42276b75cb9834087e79e43e490d848b2287",
        "e1d9d813eb3a753f9dbd5f66bedcbb66bf1799624a39271f1ddc24ae192f984c",
        "19b86133452b43966f51d020307d9bc6263df8c96516a89ff0621734f21e8d754e13ccc0c32a542d",
    ),
    EncrVector(
        _CAVS_CCM,
        EncrId.AES_CCM_12,
        256,
        "7cc8183b8d99e07c4541b8bd5ca7c2328ab80259a4fea92c09759a9b3c9b2739f9d94e",
        "63b53d9d43f61e50",
        _CCM_12_AAD,
        _CCM_12_PLAINTEXT,
        "b0885a33aae5c71d8523c7c62ff41e3dcc63442507784f9e96b888ebbc481f0639af39acd84a80397b728af7",
    ),
    EncrVector(
        "strongSwan test vector aes_ccm16",
        EncrId.AES_CCM_12,
        192,
        "7cc8183b8d99e07c4541b8bd5ca7c2328ab80259a4fea92cf9d94e",
        "63b53d9d43f61e50",
        _CCM_12_AAD,
        _CCM_12_PLAINTEXT,
        "481960bb65a800b826f17f161f3cfc6d866210c551cfef74acc6df28ac366fa03a382450680f401eafea4216",
    ),
)

_CHACHA_KEY = bytes(range(0x80, 0xA4)).hex()  # the salt a0a1a2a3 at its end
_CHACHA_IV = "1011121314151617"

CHACHA20_POLY1305 = (
    EncrVector(
        "RFC 7634 appendix A, an ESP packet",
        EncrId.CHACHA20_POLY1305,
        0,
        _CHACHA_KEY,
        _CHACHA_IV,
        "0102030400000005",
        "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10"
        "0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223"
        "2425262728292a2b2c2d2e2f303132333435363701020204",
        "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6"
        "14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3"
        "cbec163fac469b502773f6fb94e664da9165b82829f641e0"
        "76aaa8266b7fb0f7b11b369907e1ad43",
    ),
    EncrVector(
        "RFC 7634 appendix B, an IKE message",
        EncrId.CHACHA20_POLY1305,
        0,
        _CHACHA_KEY,
        _CHACHA_IV,
        "c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029",
        "0000000c000040010000000a00",
        "610394701f8d017f7c129248896b71bfe25236efd7cdc67066906315b2",
    ),
)

VECTORS = CBC + CTR + GCM + CCM + CHACHA20_POLY1305

"""Algorithms that nobody should choose and some old peers have nothing but: 3DES and HMAC-MD5.

RFC 8247 and RFC 8221 say MUST NOT or worse of them. They are in no table; `with_legacy` makes tables that
have them, for whoever asks in so many words.
"""

from types import MappingProxyType
from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES

from cygnet.crypto.ciphers import CbcCipher
from cygnet.crypto.encr import NO_KEY_LENGTH, EncrAlgorithm
from cygnet.crypto.integ import hmac_integ
from cygnet.crypto.mac import MD5
from cygnet.crypto.prf import hmac_prf
from cygnet.crypto.tables import STANDARD, AlgorithmTables
from cygnet.iana.transforms import EncrId, IntegId, PrfId


def _triple_des_cbc(key: bytes) -> CbcCipher:
    return CbcCipher(TripleDES(key))


_ENCR: Final = (
    EncrAlgorithm(  # RFC 2451
        id=EncrId.TRIPLE_DES,
        keywords=("3des",),
        key_bits=(NO_KEY_LENGTH,),
        fixed_key_octets=24,
        iv_octets=8,
        block_octets=8,
        kernel_name="cbc(des3_ede)",
        factory=_triple_des_cbc,
        is_legacy=True,
    ),
)
_INTEG: Final = (
    hmac_integ(IntegId.HMAC_MD5_96, ("md5",), MD5, icv_octets=12, is_legacy=True),  # RFC 2403
)
_PRF: Final = (hmac_prf(PrfId.HMAC_MD5, ("prfmd5",), MD5, is_legacy=True),)  # RFC 2104


def with_legacy(tables: AlgorithmTables = STANDARD) -> AlgorithmTables:
    """New tables: `tables`, and the legacy algorithms behind them."""
    return AlgorithmTables(
        encr=MappingProxyType({**tables.encr, **{row.id: row for row in _ENCR}}),
        integ=MappingProxyType({**tables.integ, **{row.id: row for row in _INTEG}}),
        prf=MappingProxyType({**tables.prf, **{row.id: row for row in _PRF}}),
        ke=tables.ke,
    )

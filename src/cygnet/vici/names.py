"""strongSwan's names of algorithms, where they differ from IANA's."""

from typing import Final

from cygnet.crypto.encr import EncrAlgorithm
from cygnet.crypto.integ import IntegAlgorithm
from cygnet.crypto.ke import KeyExchangeMethod
from cygnet.crypto.prf import PrfAlgorithm
from cygnet.iana import EncrId, KeId
from cygnet.vici.views import Algorithms

_ENCR: Final = {EncrId.TRIPLE_DES: "3DES_CBC"}
_KE: Final = {
    KeId.CURVE25519: "CURVE_25519",
    KeId.CURVE448: "CURVE_448",
    KeId.BRAINPOOL_256: "ECP_256_BP",
    KeId.BRAINPOOL_384: "ECP_384_BP",
    KeId.BRAINPOOL_512: "ECP_512_BP",
}


def encr_name(row: EncrAlgorithm) -> str:
    """Of a cipher, such as `AES_GCM_16`."""
    return _ENCR.get(row.id, row.id.name)


def integ_name(row: IntegAlgorithm) -> str:
    """Of an integrity algorithm, such as `HMAC_SHA2_256_128`."""
    return row.id.name


def prf_name(row: PrfAlgorithm) -> str:
    """Of a pseudorandom function, such as `PRF_HMAC_SHA2_256`."""
    return f"PRF_{row.id.name}"


def ke_name(row: KeyExchangeMethod) -> str:
    """Of a key exchange method, such as `CURVE_25519`."""
    return _KE.get(row.id, row.id.name)


def algorithms(
    encr: EncrAlgorithm,
    encr_bits: int,
    integ: IntegAlgorithm | None,
    prf: PrfAlgorithm | None,
    ke: KeyExchangeMethod | None,
) -> Algorithms:
    """The names of an SA's algorithms."""
    return Algorithms(
        encr=encr_name(encr),
        encr_bits=encr_bits,
        integ=integ_name(integ) if integ is not None else "",
        prf=prf_name(prf) if prf is not None else "",
        ke=ke_name(ke) if ke is not None else "",
    )

"""`get-algorithms`: the tables, with the library that each algorithm comes from."""

from typing import Final

from cygnet.crypto.encr import ENCR
from cygnet.crypto.integ import INTEG
from cygnet.crypto.ke import KE
from cygnet.crypto.prf import PRF
from cygnet.vici.message import Encodable
from cygnet.vici.names import encr_name, integ_name, ke_name, prf_name
from cygnet.vici.server import Call, Command

_LIBRARY: Final = "openssl"


def table() -> dict[str, Command]:
    """The command by name."""
    return {"get-algorithms": Command(_get)}


async def _get(call: Call) -> Encodable:
    return {
        "encryption": {encr_name(row): _LIBRARY for row in ENCR.values() if not row.is_aead},
        "integrity": {integ_name(row): _LIBRARY for row in INTEG.values()},
        "aead": {encr_name(row): _LIBRARY for row in ENCR.values() if row.is_aead},
        "prf": {prf_name(row): _LIBRARY for row in PRF.values()},
        "ke": {ke_name(row): _LIBRARY for row in KE.values()},
    }

"""The tables of all algorithms, taken together: what a configuration may choose from."""

from collections.abc import Mapping
from typing import Final

import msgspec

from cygnet.crypto.encr import ENCR, EncrAlgorithm
from cygnet.crypto.integ import INTEG, IntegAlgorithm
from cygnet.crypto.ke import KE, KeyExchangeMethod
from cygnet.crypto.prf import PRF, PrfAlgorithm
from cygnet.iana.transforms import EncrId, IntegId, PrfId


class AlgorithmTables(msgspec.Struct, frozen=True):
    """One table for each type of transform."""

    encr: Mapping[EncrId, EncrAlgorithm]
    integ: Mapping[IntegId, IntegAlgorithm]
    prf: Mapping[PrfId, PrfAlgorithm]
    ke: Mapping[int, KeyExchangeMethod]


STANDARD: Final = AlgorithmTables(encr=ENCR, integ=INTEG, prf=PRF, ke=KE)
"""What may be used without asking for legacy algorithms."""

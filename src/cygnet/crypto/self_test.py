"""Try algorithms before anybody depends on them: does the library here have them, and do they fit together?

It is also what makes the library load all that it loads late. A process that gives its privileges up may not be able to
read the library's files any more.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from cryptography.exceptions import UnsupportedAlgorithm

from cygnet.crypto.encr import ENCR
from cygnet.crypto.errors import CryptoError
from cygnet.crypto.integ import INTEG
from cygnet.crypto.ke import KE
from cygnet.crypto.keymat import ChildSuite, IkeSuite, derive_child_keys, derive_ike_keys
from cygnet.crypto.prf import PRF
from cygnet.crypto.protection import Entropy, make_protection
from cygnet.iana import KeId

_AAD = b"associated data"
_NONCE_OCTETS = 32


def try_ike_suite(suite: IkeSuite, entropy: Entropy) -> None:
    """Run a key exchange with ourselves, derive keys and protect a message with them.

    Raises CryptoError, with a text for the operator, if an algorithm is missing or does not give back what it got.
    """
    _guard(f"key exchange {suite.ke.keywords[0]}", lambda: _exchange(suite))
    nonce_i, nonce_r = entropy(_NONCE_OCTETS), entropy(_NONCE_OCTETS)
    keys = derive_ike_keys(
        suite, shared=entropy(_NONCE_OCTETS), nonce_i=nonce_i, nonce_r=nonce_r, spi_i=bytes(8), spi_r=bytes(8)
    )
    protection = make_protection(
        suite.encr, suite.encr_key_bits, suite.integ, encr_key=keys.sk_ei, integ_key=keys.sk_ai, entropy=entropy
    )
    plaintext = entropy(4 * suite.encr.block_octets)
    _guard(suite.encr.id.name, lambda: _same(protection.open(_AAD, protection.seal(_AAD, plaintext)), plaintext))


def load_everything(entropy: Entropy) -> None:
    """Use each algorithm of the tables once, so that the library has loaded what it needs for any of them.

    For what nobody has configured yet, and somebody may while the process runs. One that the library lacks is passed
    over: it is tried again, and reported, by whoever asks for it.
    """
    # All MODP groups are one piece of code, and the long ones are slow.
    rows = [row for row in KE.values() if not row.keywords[0].startswith("modp") or row.id == KeId.MODP_2048]
    attempts: list[Callable[[], object]] = [row.generate for row in rows]
    attempts += [partial(row.factory, entropy(row.key_octets)) for row in INTEG.values()]
    attempts += [partial(row.plus, entropy(row.key_octets), b"seed", 2 * row.output_octets) for row in PRF.values()]
    for row in ENCR.values():
        integ = None if row.is_aead else next(iter(INTEG.values()))
        keys = {
            "encr_key": entropy(row.key_octets(row.key_bits[0])),
            "integ_key": entropy(integ.key_octets) if integ is not None else b"",
        }
        protection = make_protection(row, row.key_bits[0], integ, **keys, entropy=entropy)
        attempts.append(partial(protection.seal, _AAD, entropy(4 * row.block_octets)))
    for attempt in attempts:
        with suppress(UnsupportedAlgorithm, CryptoError):
            attempt()


def try_child_suite(suite: ChildSuite, ike: IkeSuite, entropy: Entropy) -> None:
    """Derive the keys of a CHILD_SA and protect a packet with them; raises CryptoError."""
    nonce_i, nonce_r = entropy(_NONCE_OCTETS), entropy(_NONCE_OCTETS)
    keys = derive_child_keys(suite, ike.prf, entropy(ike.prf.key_octets), nonce_i=nonce_i, nonce_r=nonce_r)
    protection = make_protection(
        suite.encr, suite.key_bits, suite.integ, encr_key=keys.encr_i, integ_key=keys.integ_i, entropy=entropy
    )
    plaintext = entropy(4 * suite.encr.block_octets)
    _guard(suite.encr.id.name, lambda: _same(protection.open(_AAD, protection.seal(_AAD, plaintext)), plaintext))


def _exchange(suite: IkeSuite) -> None:
    ours, theirs = suite.ke.generate(), suite.ke.generate()
    _same(ours.shared(theirs.public), theirs.shared(ours.public))


def _same(a: bytes, b: bytes) -> None:
    if a != b:
        raise CryptoError("it does not give back what it was given")


def _guard(what: str, run: Callable[[], None]) -> None:
    try:
        run()
    except (UnsupportedAlgorithm, CryptoError) as exc:
        raise CryptoError(f"{what} does not work on this machine: {exc}") from exc

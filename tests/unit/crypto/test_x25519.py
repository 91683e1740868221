"""X25519 by both libraries: the same octets, and the same refusals."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.vectors.ke import ELLIPTIC

from cygnet.crypto.errors import InvalidKeyExchange
from cygnet.crypto.ke import KE
from cygnet.crypto.x25519 import KEY_OCTETS, OpensslKeyPair, SodiumKeyPair
from cygnet.iana.transforms import KeId

type_of_pair = Callable[[bytes | None], SodiumKeyPair | OpensslKeyPair]
both = pytest.mark.parametrize("pair", [SodiumKeyPair, OpensslKeyPair])
keys = st.binary(min_size=KEY_OCTETS, max_size=KEY_OCTETS)


@both
def test_published_exchanges(pair: type_of_pair) -> None:
    vectors = [vector for vector in ELLIPTIC if vector.id == KeId.CURVE25519]
    assert vectors
    for vector in vectors:
        initiator, responder = (pair(bytes.fromhex(key)) for key in (vector.private_i, vector.private_r))
        assert (initiator.public.hex(), responder.public.hex()) == (vector.public_i, vector.public_r)
        assert initiator.shared(responder.public).hex() == responder.shared(initiator.public).hex() == vector.shared


@both
@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (1, "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"),
        (1000, "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"),
    ],
)
def test_again_and_again(pair: type_of_pair, times: int, expected: str) -> None:
    """RFC 7748 section 5.2."""
    k = u = bytes([9]) + bytes(31)
    for _ in range(times):
        k, u = pair(k).shared(u), k
    assert k.hex() == expected


@given(private=keys, peer=keys)
def test_both_agree_on_any_octets(private: bytes, peer: bytes) -> None:
    """Also on those above the prime, and with the highest bit set, which does not count (RFC 7748 section 5)."""
    results = []
    for pair in (SodiumKeyPair(private), OpensslKeyPair(private)):
        try:
            results.append((pair.public, pair.shared(peer)))
        except InvalidKeyExchange:
            results.append((pair.public, b"refused"))
    assert results[0] == results[1]


@both
def test_what_is_no_key_is_refused(pair: type_of_pair) -> None:
    """Of other lengths; and the points of small order, also in forms that are not reduced (RFC 7748 section 6.1)."""
    ours = pair(None)
    p = 2**255 - 19
    small = [n | high for n in (0, 1, p - 1, p, p + 1) for high in (0, 2**255)]
    small += [325606250916557431795983626356110631294008115727848805560023387167927233504]
    small += [39382357235489614581723060781553021112529911719440698176882885853963445705823]
    for peer in [n.to_bytes(KEY_OCTETS, "little") for n in small] + [b"", bytes([9]) * 31, bytes([9]) * 33]:
        with pytest.raises(InvalidKeyExchange):
            ours.shared(peer)
    for private in (b"", b"1" * 31, b"1" * 33):
        with pytest.raises(ValueError, match="X25519"):
            pair(private)


@both
def test_keys_are_fresh(pair: type_of_pair) -> None:
    assert len({pair(None).public for _ in range(20)}) == 20


def test_libsodium_is_used_where_it_is_installed() -> None:
    assert isinstance(KE[KeId.CURVE25519].generate(), SodiumKeyPair)


def test_openssl_is_used_where_libsodium_is_not() -> None:
    script = (
        "import sys; sys.modules['nacl'] = None\n"
        "from cygnet.crypto.ke import KE\n"
        "from cygnet.crypto.x25519 import OpensslKeyPair\n"
        "assert isinstance(KE[31].generate(), OpensslKeyPair)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

"""prf+ at its limits."""

import pytest

from cygnet.crypto.errors import CryptoError
from cygnet.crypto.legacy import with_legacy
from cygnet.crypto.prf import PrfAlgorithm

ROWS = tuple(with_legacy().prf.values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id.name)
def test_prf_plus_ends_after_255_blocks(row: PrfAlgorithm) -> None:
    """RFC 7296 section 2.13: the counter is one octet, and prf+ is not defined beyond it."""
    limit = 255 * row.output_octets
    assert len(row.plus(b"key", b"seed", limit)) == limit
    with pytest.raises(CryptoError):
        row.plus(b"key", b"seed", limit + 1)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id.name)
def test_output_has_the_length_of_the_row(row: PrfAlgorithm) -> None:
    assert len(row.key(b"key").digest(b"data")) == row.output_octets


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id.name)
def test_nonces_become_a_key(row: PrfAlgorithm) -> None:
    nonce_i, nonce_r = b"i" * 16, b"r" * 20
    expected = row.key(b"i" * 8 + b"r" * 8 if row.is_fixed_key else nonce_i + nonce_r)
    assert row.skeyseed(nonce_i, nonce_r, b"g^ir") == expected.digest(b"g^ir")

"""The tables: immutable, without legacy rows unless asked, and sound in their figures."""

from collections.abc import Mapping
from typing import Any

import pytest

from cygnet.crypto.encr import ENCR
from cygnet.crypto.errors import CryptoError
from cygnet.crypto.integ import INTEG
from cygnet.crypto.ke import KE
from cygnet.crypto.legacy import with_legacy
from cygnet.crypto.prf import PRF
from cygnet.crypto.tables import STANDARD
from cygnet.iana.transforms import EncrId, IntegId, PrfId

ALL = with_legacy()


@pytest.mark.parametrize("table", [ENCR, INTEG, PRF, KE, ALL.encr, ALL.integ, ALL.prf])
def test_tables_cannot_be_changed(table: Mapping[int, Any]) -> None:
    with pytest.raises(TypeError):
        table[EncrId.AES_CBC] = None  # type: ignore[index]


@pytest.mark.parametrize("table", [ENCR, INTEG, PRF, KE])
def test_rows_stand_under_their_own_number(table: Mapping[int, Any]) -> None:
    assert all(row.id == number for number, row in table.items())


def test_legacy_rows_are_in_no_table_until_asked_for() -> None:
    assert not any(row.is_legacy for row in STANDARD.encr.values())
    assert not any(row.is_legacy for row in STANDARD.integ.values())
    assert not any(row.is_legacy for row in STANDARD.prf.values())
    assert set(ALL.encr) - set(STANDARD.encr) == {EncrId.TRIPLE_DES}
    assert set(ALL.integ) - set(STANDARD.integ) == {IntegId.HMAC_MD5_96}
    assert set(ALL.prf) - set(STANDARD.prf) == {PrfId.HMAC_MD5}
    assert EncrId.TRIPLE_DES not in ENCR
    assert ALL.encr[EncrId.TRIPLE_DES].is_legacy
    assert ALL.integ[IntegId.HMAC_MD5_96].is_legacy
    assert ALL.prf[PrfId.HMAC_MD5].is_legacy


@pytest.mark.parametrize(
    ("number", "key_bits", "octets"),
    [
        (EncrId.AES_CBC, 256, 32),
        (EncrId.AES_CTR, 128, 20),  # RFC 3686 section 5.1: a nonce of 4 octets
        (EncrId.AES_CCM_8, 128, 19),  # RFC 4309 section 7.1: a salt of 3
        (EncrId.AES_GCM_16, 256, 36),  # RFC 4106 section 8.1: a salt of 4
        (EncrId.CHACHA20_POLY1305, 0, 36),  # RFC 7634 section 2
        (EncrId.TRIPLE_DES, 0, 24),
    ],
)
def test_keying_material_includes_the_salt(number: EncrId, key_bits: int, octets: int) -> None:
    assert ALL.encr[number].key_octets(key_bits) == octets


@pytest.mark.parametrize(
    ("number", "key_bits"),
    [(EncrId.AES_CBC, 0), (EncrId.AES_GCM_16, 64), (EncrId.AES_GCM_16, 160), (EncrId.CHACHA20_POLY1305, 256)],
)
def test_other_key_lengths_are_refused(number: EncrId, key_bits: int) -> None:
    with pytest.raises(CryptoError):
        ALL.encr[number].key_octets(key_bits)


@pytest.mark.parametrize("row", ALL.integ.values(), ids=lambda row: row.id.name)
def test_integrity_keys_of_another_length_are_refused(row: Any) -> None:
    for octets in (0, row.key_octets - 1, row.key_octets + 1):
        with pytest.raises(CryptoError):
            row.factory(bytes(octets))


def test_ciphers_with_counter_ivs_have_a_salt_and_a_counter_of_64_bits() -> None:
    """Their nonces repeat under one key only if the counter does; `protection` relies on it."""
    for row in ALL.encr.values():
        assert row.iv_octets == (8 if row.salt_octets else row.block_octets)
        assert row.salt_octets > 0 or not row.is_aead

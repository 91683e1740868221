"""Every algorithm of every table computes what the RFCs and NIST print."""

import pytest
from tests.vectors import encr, ke, macs
from tests.vectors.encr import EncrVector
from tests.vectors.ke import KeVector
from tests.vectors.macs import IntegVector, PrfPlusVector, PrfVector

from cygnet.crypto.encr import EncrAlgorithm
from cygnet.crypto.legacy import with_legacy
from cygnet.crypto.protection import PacketProtection, make_protection
from cygnet.iana.transforms import IntegId

TABLES = with_legacy()


def _name(vector: EncrVector | IntegVector | PrfVector | PrfPlusVector | KeVector) -> str:
    return f"{vector.id.name}-{vector.source}"


def _protect(row: EncrAlgorithm, vector: EncrVector) -> PacketProtection:
    integ = None if row.is_aead else TABLES.integ[IntegId.HMAC_SHA2_256_128]
    return make_protection(
        row,
        vector.key_bits,
        integ,
        encr_key=bytes.fromhex(vector.key),
        integ_key=bytes(integ.key_octets) if integ else b"",
        entropy=lambda octets: bytes.fromhex(vector.iv),
    )


@pytest.mark.parametrize("vector", encr.VECTORS, ids=_name)
def test_packet_is_sealed_and_opened(vector: EncrVector) -> None:
    row = TABLES.encr[vector.id]
    protection = _protect(row, vector)
    if row.salt_octets:
        protection.counter = int(vector.iv, 16)
    aad, plaintext = bytes.fromhex(vector.aad), bytes.fromhex(vector.plaintext)

    body = protection.seal(aad, plaintext)

    expected = vector.iv + vector.sealed
    assert body[: len(expected) // 2].hex() == expected
    assert len(body) == len(plaintext) + protection.overhead
    assert _protect(row, vector).open(aad, body) == plaintext


@pytest.mark.parametrize("vector", macs.INTEG, ids=_name)
def test_icv(vector: IntegVector) -> None:
    compute_icv = TABLES.integ[vector.id].factory(bytes.fromhex(vector.key))
    assert compute_icv(bytes.fromhex(vector.message)).hex() == vector.icv


@pytest.mark.parametrize("vector", macs.PRF, ids=_name)
def test_prf(vector: PrfVector) -> None:
    row, key, message = TABLES.prf[vector.id], bytes.fromhex(vector.key), bytes.fromhex(vector.message)
    assert row.once(key, message).hex() == vector.output
    assert row.key(key).digest(message).hex() == vector.output


@pytest.mark.parametrize("vector", macs.PRF_PLUS, ids=_name)
def test_prf_plus(vector: PrfPlusVector) -> None:
    key, seed = bytes.fromhex(vector.key), bytes.fromhex(vector.seed)
    assert TABLES.prf[vector.id].plus(key, seed, len(vector.stream) // 2).hex() == vector.stream


@pytest.mark.parametrize("vector", ke.VECTORS, ids=_name)
def test_key_exchange(vector: KeVector) -> None:
    method = TABLES.ke[vector.id]
    initiator = method.from_private(bytes.fromhex(vector.private_i))
    responder = method.from_private(bytes.fromhex(vector.private_r))
    assert initiator.public.hex() == vector.public_i
    assert responder.public.hex() == vector.public_r
    assert len(initiator.public) == method.public_octets
    assert initiator.shared(responder.public).hex() == vector.shared
    assert responder.shared(initiator.public).hex() == vector.shared


def test_no_row_lacks_a_vector() -> None:
    assert {vector.id for vector in encr.VECTORS} == set(TABLES.encr)
    assert {vector.id for vector in macs.INTEG} == set(TABLES.integ)
    assert {vector.id for vector in macs.PRF} == set(TABLES.prf)
    assert {vector.id for vector in ke.VECTORS} == set(TABLES.ke)


def test_every_aes_key_length_has_a_vector_in_every_mode() -> None:
    modes = {row.factory if not row.is_aead else row.kernel_name for row in TABLES.encr.values()}
    tested: dict[object, set[int]] = {mode: set() for mode in modes}
    negotiable: dict[object, set[int]] = {mode: set() for mode in modes}
    for row in TABLES.encr.values():
        negotiable[row.factory if not row.is_aead else row.kernel_name] |= set(row.key_bits)
    for vector in encr.VECTORS:
        row = TABLES.encr[vector.id]
        tested[row.factory if not row.is_aead else row.kernel_name].add(vector.key_bits)
    assert tested == negotiable

import os

import pytest

from cygnet.ike import spi


def _ones(n: int) -> bytes:
    return b"\xff" * n


def test_ike_spi_names_node_and_worker() -> None:
    octets = spi.new_ike_spi(1, 7, _ones)
    assert octets == b"\x01\x07" + b"\xff" * 6
    assert (spi.node_of_ike_spi(octets), spi.worker_of_ike_spi(octets)) == (1, 7)


@pytest.mark.parametrize("worker", [0, 1, spi.MAX_WORKERS - 1])
def test_esp_spi_names_the_worker_and_keeps_clear_of_reserved_values(worker: int) -> None:
    octets = spi.new_esp_spi(worker, bytes)
    assert len(octets) == 4
    assert spi.worker_of_esp_spi(octets) == worker
    assert int.from_bytes(octets, "big") > 255  # RFC 4303 section 2.1


def test_a_worker_beyond_the_last_has_no_esp_spi() -> None:
    with pytest.raises(ValueError, match="range"):
        spi.new_esp_spi(spi.MAX_WORKERS, bytes)


def test_spis_that_nobody_chose_belong_to_no_worker() -> None:
    assert spi.worker_of_esp_spi(bytes(4)) >= spi.MAX_WORKERS


def test_after_a_restart_with_fewer_workers_both_spis_of_an_sa_lead_to_the_same_one() -> None:
    for worker in range(8):
        ike = spi.owner(spi.worker_of_ike_spi(spi.new_ike_spi(1, worker, _ones)), 3)
        esp = spi.owner(spi.worker_of_esp_spi(spi.new_esp_spi(worker, _ones)), 3)
        assert ike == esp == worker % 3


class TestSeal:
    SEAL = spi.SpiSeal.from_octets(bytes(range(16)))

    def test_a_sealed_spi_says_the_same_as_any(self) -> None:
        octets = spi.new_ike_spi(2, 7, _ones, self.SEAL)
        assert len(octets) == 8
        assert (spi.node_of_ike_spi(octets), spi.worker_of_ike_spi(octets)) == (2, 7)
        assert octets[4:] == b"\xff" * 4
        assert self.SEAL.is_on(octets)

    def test_no_other_gateway_finds_its_own_on_it(self) -> None:
        others = [spi.SpiSeal.from_octets(os.urandom(16)) for _ in range(400)]
        octets = spi.new_ike_spi(2, 7, _ones, self.SEAL)
        # A chance of 1 in 65,536 each.
        assert sum(other.is_on(octets) for other in others) < 3

    def test_what_is_guessed_does_not_bear_it(self) -> None:
        assert sum(self.SEAL.is_on(os.urandom(8)) for _ in range(2000)) < 4

    def test_it_depends_on_each_bit_that_is_drawn(self) -> None:
        """Half the bits of the seal change with any of them, more or less."""
        for bit in range(32):
            changed = [
                (self.SEAL.of(drawn) ^ self.SEAL.of(drawn ^ 1 << bit)).bit_count()
                for drawn in (int.from_bytes(os.urandom(4), "big") for _ in range(400))
            ]
            assert 5.5 < sum(changed) / len(changed) < 10.5, bit

    def test_the_key_is_not_shown(self) -> None:
        assert repr(self.SEAL) == "SpiSeal(<redacted>)"

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

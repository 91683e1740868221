import os
from pathlib import Path

import pytest

from cygnet.observe.counters import Counters
from cygnet.observe.metrics import Kind, Metric, by_reason, counter, gauge
from cygnet.observe.shared_words import UnreadableWords

TABLE = (
    counter("packets_total", "Packets."),
    by_reason("dropped_total", "Drops.", ("stale", "full")),
    Metric("sas", Kind.GAUGE, "SAs.", "state", ("half_open", "established")),
    gauge("leases", "Leases."),
    Metric("wait_seconds", Kind.HISTOGRAM, "Waiting."),
)


def test_rows_are_summed() -> None:
    counters = Counters.create(writers=3, metrics=TABLE)
    for index in range(3):
        counters.writer(index).count("packets_total", index + 1)
    counters.writer(1).count("packets_total")
    assert counters.value("packets_total") == 7
    assert [counters.value_of(index, "packets_total") for index in range(3)] == [1, 3, 3]


def test_values_are_in_the_order_of_the_table() -> None:
    counters = Counters.create(writers=1, metrics=TABLE)
    writer = counters.writer(0)
    writer.count('sas{state="half_open"}', 5)
    writer.count('sas{state="half_open"}', -2)
    assert counters.values() == {
        "packets_total": 0,
        'dropped_total{reason="stale"}': 0,
        'dropped_total{reason="full"}': 0,
        'dropped_total{reason="other"}': 0,
        'sas{state="half_open"}': 3,
        'sas{state="established"}': 0,
        "leases": 0,
    }
    assert writer.value('sas{state="half_open"}') == 3


@pytest.mark.parametrize("value", ["unheard_of", "", 'x"} 1\n', "other"])
def test_an_unlisted_label_counts_as_other_and_makes_no_series(value: str) -> None:
    counters = Counters.create(writers=1, metrics=TABLE)
    before = len(counters.values())
    counters.writer(0).count(f'dropped_total{{reason="{value}"}}')
    counters.writer(0).by_label("dropped_total")(value)
    assert counters.value('dropped_total{reason="other"}') == 2
    assert len(counters.values()) == before


@pytest.mark.parametrize(
    "name", ["packet_total", 'packets_total{reason="stale"}', 'sas{state="asleep"}', "dropped_total"]
)
def test_a_name_that_is_no_metric_is_a_bug(name: str) -> None:
    with pytest.raises(KeyError, match="no metric"):
        Counters.create(writers=1, metrics=TABLE).writer(0).count(name)


def test_counting_by_label_takes_the_label_alone() -> None:
    counters = Counters.create(writers=1, metrics=TABLE)
    dropped = counters.writer(0).by_label("dropped_total")
    dropped("stale")
    dropped("stale", 4)
    assert counters.value('dropped_total{reason="stale"}') == 5
    with pytest.raises(KeyError, match="asleep"):
        counters.writer(0).by_label("sas")("asleep")
    with pytest.raises(KeyError, match="leases"):
        counters.writer(0).by_label("leases")


def test_a_worker_that_restarts_keeps_its_counters_and_loses_its_gauges() -> None:
    counters = Counters.create(writers=1, metrics=TABLE)
    first = counters.writer(0)
    first.count("packets_total", 7)
    first.set("leases", 3)
    first.histogram("wait_seconds").record(0.5)
    second = counters.writer(0)
    second.reset_gauges()
    second.count("packets_total")
    assert counters.value("packets_total") == 8
    assert counters.value("leases") == 0
    assert counters.histogram("wait_seconds").count == 1


def test_children_write_and_the_parent_reads() -> None:
    counters = Counters.create(writers=2, metrics=TABLE)
    children = []
    for index in range(2):
        pid = os.fork()
        if pid == 0:
            writer = counters.writer(index)
            for _ in range(1000):
                writer.count("packets_total")
            writer.histogram("wait_seconds").record(index + 1.0)
            os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    assert counters.value("packets_total") == 2000
    assert counters.histogram("wait_seconds").count == 2
    assert counters.histogram("wait_seconds").max_s == 2.0


def test_another_process_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    written = Counters.create(writers=2, metrics=TABLE, path=path)
    writer = written.writer(1)
    writer.count("packets_total", 3)
    read = Counters.open(path)
    assert read.metrics == TABLE
    assert read.writers == 2
    assert read.values() == written.values()
    writer.count("packets_total")
    assert read.value("packets_total") == 4
    with pytest.raises(TypeError):
        read.writer(0).count("packets_total")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["counters"]
    read.close()


def test_a_new_gateway_replaces_the_file_under_readers_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    Counters.create(writers=1, metrics=TABLE, path=path).writer(0).count("packets_total", 3)
    old = Counters.open(path)
    Counters.create(writers=1, metrics=TABLE, path=path)
    assert old.value("packets_total") == 3
    assert Counters.open(path).value("packets_total") == 0


def _damage_nothing(octets: bytearray) -> None:
    octets[:] = b""


def _damage_magic(octets: bytearray) -> None:
    octets[0] ^= 1


def _damage_length(octets: bytearray) -> None:
    del octets[-8:]


def _damage_description(octets: bytearray) -> None:
    octets[24] = ord("{")


def _damage_head_length(octets: bytearray) -> None:
    octets[8:12] = b"\xff\xff\xff\xff"


@pytest.mark.parametrize(
    "damage",
    [_damage_nothing, _damage_magic, _damage_length, _damage_description, _damage_head_length],
)
def test_a_file_that_is_something_else_is_said_to_be(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "counters"
    Counters.create(writers=1, metrics=TABLE, path=path)
    octets = bytearray(path.read_bytes())
    assert callable(damage)
    damage(octets)
    path.write_bytes(octets)
    with pytest.raises(UnreadableWords):
        Counters.open(path)


def test_a_description_longer_than_the_rows_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    Counters.create(writers=1, metrics=(counter("a_total", "A."),), path=path)
    octets = path.read_bytes()
    more = b'[{"name":"b_seconds","kind":"histogram","help":""}]'
    size = int.from_bytes(octets[20:24], "little")
    path.write_bytes(octets[:24] + more.ljust(size) + octets[24 + size :])
    with pytest.raises(UnreadableWords, match="damaged"):
        Counters.open(path)


def test_closing_lets_go_of_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    counters = Counters.create(writers=2, metrics=TABLE, path=path)
    maps = Path("/proc/self/maps")
    assert str(path) in maps.read_text()
    counters.value("packets_total")
    counters.histogram("wait_seconds")
    counters.close()
    assert str(path) not in maps.read_text()


def test_two_metrics_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two metrics"):
        Counters.create(writers=1, metrics=(*TABLE, TABLE[0]))


def test_every_series_of_the_gateway_can_be_counted() -> None:
    counters = Counters.create(writers=1)
    count = counters.writer(0).count
    for name in counters.values():
        count(name)
    assert set(counters.values().values()) == {1}

from cygnet.observe.counters import Counters
from cygnet.observe.exposition import render
from cygnet.observe.metrics import Kind, Metric, by_reason, counter


def test_the_text_is_what_prometheus_reads() -> None:
    counters = Counters.create(
        writers=2,
        metrics=(
            counter("packets_total", "Packets."),
            by_reason("dropped_total", "Drops.", ("stale",)),
            Metric("wait_seconds", Kind.HISTOGRAM, "Waiting."),
        ),
    )
    counters.writer(0).count("packets_total", 2)
    counters.writer(1).count('dropped_total{reason="stale"}')
    counters.writer(0).histogram("wait_seconds").record(0.004)
    counters.writer(1).histogram("wait_seconds").record(300)
    lines = render(counters).splitlines()
    assert lines[:6] == [
        "# HELP cygnet_packets_total Packets.",
        "# TYPE cygnet_packets_total counter",
        "cygnet_packets_total 2",
        "# HELP cygnet_dropped_total Drops.",
        "# TYPE cygnet_dropped_total counter",
        'cygnet_dropped_total{reason="stale"} 1',
    ]
    assert "# TYPE cygnet_wait_seconds histogram" in lines
    assert 'cygnet_wait_seconds_bucket{le="0.0025"} 0' in lines
    assert 'cygnet_wait_seconds_bucket{le="0.005"} 1' in lines
    assert 'cygnet_wait_seconds_bucket{le="60"} 1' in lines
    assert lines[-3:] == [
        'cygnet_wait_seconds_bucket{le="+Inf"} 2',
        "cygnet_wait_seconds_sum 300.004",
        "cygnet_wait_seconds_count 2",
    ]

"""What the reader of a report sees."""

import io
from typing import Any

import pytest
from tests.unit.load.test_results import measured

from cygnet.load.options import LoadOptions
from cygnet.load.report import print_results, print_table, remarks
from cygnet.load.results import Results


def results(*delays: float, target: str = "192.0.2.1", **changes: Any) -> Results:
    found = Results(LoadOptions(target=target, secret=b"s"), 100.0)
    found.add(measured(list(delays), **changes))
    return found


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(found: Results) -> dict[str, str]:
    stream = io.StringIO()
    print_results(found, stream)
    return {line[:20].strip(): line[20:].strip() for line in stream.getvalue().splitlines()}


@pytest.mark.parametrize("target", ["fd00:ab::5", "2001:db8:a:b::1", "fe80::1"])
def test_an_ipv6_target_is_printed_as_it_is(target: str) -> None:
    # `[fd00...]` looks like markup, and `:ab:` like an emoji.
    failures = {"timeout_ike_sa_init": 1}
    refused = {'receive_failures_total{reason="refused"}': 1}
    stream = io.StringIO()
    print_results(results(target=target, failures=failures, counters=refused, phases={}), stream)
    assert f"target               [{target}]:500\n" in stream.getvalue()
    assert f"\n[{target}]:500 refuses datagrams" in stream.getvalue()


def test_in_a_file_each_row_is_one_line_with_nothing_cut_off() -> None:
    found = results(failures={"timeout_ike_sa_init": 1}, suites=[])
    assert printed(found)["suites offered"] == found.suite
    assert len(found.suite) > 200


def test_on_a_terminal_long_values_go_on_below_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")  # of 80 columns
    stream = Terminal()
    print_table([("name", "word " * 20), ("other name", "value")], ["A sentence."], stream)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "name        " + " ".join(["word"] * 13)
    assert lines[1] == "            " + " ".join(["word"] * 7)
    assert lines[-2:] == ["other name  value", "A sentence."]


def test_the_port_that_refuses_is_named() -> None:
    refused = {'send_failures_total{reason="refused"}': 3}
    failures = {"timeout_ike_auth": 3}
    (silent,) = remarks(results(failures=failures, counters=refused, phases={}))
    assert silent == "192.0.2.1:500 refuses datagrams: no IKE responder listens there."
    (half,) = remarks(results(failures=failures, counters=refused, phases={"ike_sa_init": measured([0.1]).delays}))
    assert half.startswith("192.0.2.1:4500 refuses datagrams: no IKE responder listens there.")
    (gone,) = remarks(results(0.1, counters=refused))
    assert gone.startswith("192.0.2.1:4500 has refused datagrams")


def test_datagrams_that_were_of_no_use_are_told_where_attempts_failed() -> None:
    dropped = {'datagrams_dropped_total{reason="version"}': 2, 'datagrams_dropped_total{reason="too_short"}': 5}
    (told,) = remarks(results(failures={"timeout_ike_sa_init": 1}, counters=dropped))
    assert told == "The tester could not use datagrams that it received: too_short 5, version 2."
    assert remarks(results(0.1, counters=dropped)) == []


def test_a_tester_that_waits_for_its_cores_says_so() -> None:
    alone = results(0.01, busy_cpu_s=1.8)
    assert printed(alone)["tester CPU"].endswith("90% of its cores")
    assert remarks(alone) == [
        "The tester was the limit: it used 90% of its cores. Give it more with --processes, or another machine."
    ]
    crowded = results(0.01, busy_cpu_s=1.0, busy_waited_s=0.9)
    assert printed(crowded)["tester CPU"].endswith("50% of its cores, waited for one 45% of the time")
    assert remarks(crowded) == [
        "The tester was the limit: it used 50% of its cores, waited for one 45% of the time. Others have them, too: "
        "see what runs here, or use another machine."
    ]

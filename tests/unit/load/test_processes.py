"""Whole runs: forked testers against a responder on loopback."""

import asyncio
import errno
import os
import signal
import socket
import threading
import time
from typing import Any

import pytest
from tests.unit.load.responder import ECHO, SUITE, Responder, settings
from tests.unit.load.runs import CBC, FAST, load, options, signal_when

from cygnet.iana import ProtocolId
from cygnet.ike.errors import LocalError
from cygnet.ike.proposals import parse_proposal
from cygnet.ike.settings import RetransmitPolicy
from cygnet.load import processes
from cygnet.load.fleet import TESTER_FULL
from cygnet.load.options import Arrivals, LoadOptions, PingOptions
from cygnet.load.processes import Progress, _loop_factory, _read_by, run_load
from cygnet.load.report import remarks
from cygnet.load.results import DIED, Results
from cygnet.observe.system import process_tree
from cygnet.wire.message import decode_message
from cygnet.wire.payloads.key_exchange import KeyExchange
from cygnet.wire.payloads.nonce import Nonce

pytestmark = pytest.mark.usefixtures("no_process_is_left")


def test_all_attempts_bring_a_tunnel() -> None:
    with Responder() as responder:
        results = load(responder)
    assert (results.attempted, results.established, results.failed) == (30, 30, 0)
    assert results.is_success()
    assert results.suite == SUITE
    assert sorted(responder.peers) == sorted(f"c{n}@example.org" for n in range(30))
    assert len(results.delays) == len(results.phases["ike_sa_init"]) == len(results.phases["ike_auth"]) == 30
    assert results.cpu_us_per_tunnel is not None
    assert 50 < results.cpu_us_per_tunnel < 100_000


def test_the_phases_add_up_to_the_delay(responder: Responder) -> None:
    results = load(responder, count=1, concurrency=1)
    delay, *phases = (s.percentiles_ms()["max"] or 0.0 for s in (results.delays, *results.phases.values()))
    assert sum(phases) == pytest.approx(delay, abs=0.01)


def test_processes_share_the_attempts_and_repeat_none() -> None:
    with Responder() as responder:
        results = load(responder, processes=3, count=31)
    assert (results.attempted, results.established) == (31, 31)
    assert sorted(responder.peers) == sorted(f"c{n}@example.org" for n in range(31))


def _assert_rate(results: Results, rate: float, tolerance: float) -> None:
    """No attempt is early, and the tester knows of those with which the machine made it late."""
    assert results.attempt_rate < rate * (1 + tolerance)
    assert results.late_starts or results.attempt_rate > rate * (1 - tolerance)


@pytest.mark.parametrize("arrivals", [Arrivals.CONSTANT, Arrivals.POISSON])
def test_an_open_loop_keeps_its_rate(responder: Responder, arrivals: Arrivals) -> None:
    results = load(responder, arrivals=arrivals, rate=100.0, count=60, processes=2)
    assert results.established == 60
    _assert_rate(results, 100.0, 0.4 if arrivals is Arrivals.POISSON else 0.15)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"secret": b"wrong"}, "authentication_failed"),
        ({"proposals": CBC}, "no_proposal_chosen"),
        ({"esp_proposals": (parse_proposal(ProtocolId.ESP, "aes256gcm16"),)}, "no_proposal_chosen"),
    ],
)
def test_failures_are_counted_by_reason(responder: Responder, changes: dict[str, Any], reason: str) -> None:
    results = load(responder, count=10, **changes)
    assert results.failures == {reason: 10}
    assert not results.is_success()


def test_attempts_without_an_answer_time_out(silent: tuple[int, int]) -> None:
    results = run_load(options(*silent, count=5, timeout_s=0.3))
    assert results.failures == {"timeout_ike_sa_init": 5}
    assert results.duration_s < 5.0


def test_attempts_end_with_their_last_retransmission(silent: tuple[int, int]) -> None:
    policy = RetransmitPolicy(timeout_s=0.1, base=1.0, tries=2)
    results = run_load(options(*silent, count=5, timeout_s=0.0, retransmit=policy))
    assert results.failures == {"timeout_ike_sa_init": 5}
    assert results.retransmits == {"ike_sa_init": 10}


@pytest.mark.parametrize("is_reused", [False, True])
def test_attempts_offer_one_public_value_only_if_told_to(is_reused: bool) -> None:
    """What else must differ does so in any case: SPIs and nonces, and with them the keys."""
    with socket.socket(type=socket.SOCK_DGRAM) as ike, socket.socket(type=socket.SOCK_DGRAM) as natt:
        for each in (ike, natt):
            each.bind(("127.0.0.1", 0))
        ike.settimeout(5)
        ports = ike.getsockname()[1], natt.getsockname()[1]
        run_load(options(*ports, count=8, timeout_s=0.3, is_ke_reused=is_reused))
        offers = [decode_message(ike.recv(2000)) for _ in range(8)]
    publics = {payload.data for offer in offers for payload in offer.payloads if isinstance(payload, KeyExchange)}
    nonces = {payload.data for offer in offers for payload in offer.payloads if isinstance(payload, Nonce)}
    assert len(publics) == (1 if is_reused else 8)
    assert len(nonces) == len({offer.header.spi_i for offer in offers}) == 8


def test_tunnels_come_up_with_one_public_value(responder: Responder) -> None:
    results = load(responder, is_ke_reused=True, ping=PingOptions(target=ECHO), encap=True)
    assert (results.established, len(results.first_packets)) == (30, 30)
    assert results.to_json()["reuse_ke"] is True


def test_the_tester_keeps_no_more_attempts_than_it_may_and_arrivals_go_on(silent: tuple[int, int]) -> None:
    results = run_load(
        options(*silent, arrivals=Arrivals.CONSTANT, rate=200.0, count=40, max_pending=10, timeout_s=1.0, processes=2)
    )
    assert results.failures == {TESTER_FULL: 30, "timeout_ike_sa_init": 10}
    # Ten a second would be made if each waited for a place.
    assert results.attempt_rate > 20
    _assert_rate(results, 200.0, 0.15)
    assert any("30 attempts were not made because 10" in remark for remark in remarks(results))


def test_a_responder_that_forgets_the_peers_times_out_in_ike_auth() -> None:
    with Responder(settings(half_open_timeout_s=30.0), is_silent_every=2) as responder:
        results = load(responder, count=1, concurrency=1, timeout_s=0.5)
    assert results.failures == {"timeout_ike_auth": 1}


def test_a_port_at_which_nobody_listens_is_given_up(silent: tuple[int, int]) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = run_load(options(port, silent[1], count=1000))
    assert results.failures == {"connection_refused": results.attempted}
    assert results.refusals > 0
    assert results.duration_s < 5.0


def test_who_sends_back_what_it_gets_is_no_responder() -> None:
    # The tester set tunnels up with itself, and called them established.
    with socket.socket(type=socket.SOCK_DGRAM) as ike, socket.socket(type=socket.SOCK_DGRAM) as natt:
        for each in (ike, natt):
            each.bind(("127.0.0.1", 0))

        def reflect(own: socket.socket) -> None:
            while True:
                datagram, sender = own.recvfrom(65536)
                if not datagram:
                    return
                own.sendto(datagram, sender)

        mirrors = [threading.Thread(target=reflect, args=(each,)) for each in (ike, natt)]
        for mirror in mirrors:
            mirror.start()
        results = run_load(options(ike.getsockname()[1], natt.getsockname()[1], count=3, timeout_s=1.0))
        for each in (ike, natt):
            each.sendto(b"", each.getsockname())
        for mirror in mirrors:
            mirror.join()
    assert (results.established, results.failed) == (0, 3)
    assert any("has begun IKE_SAs with the tester" in remark for remark in remarks(results))


def test_a_process_that_cannot_be_started_is_an_error_and_leaves_none(
    silent: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    forks = iter((os.fork, None))

    def fork() -> int:
        real = next(forks)
        if real is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return real()

    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(LocalError, match="cannot start a process of the tester: Resource temporarily unavailable"):
        run_load(options(*silent, processes=2))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_an_interrupt_while_the_sources_are_opened_ends_it(
    silent: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(options: LoadOptions, process: int) -> None:
        os.kill(os.getppid(), signal.SIGINT)
        signal.pause()

    monkeypatch.setattr(processes, "open_sources", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_load(options(*silent))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_lost_datagrams_are_retransmitted() -> None:
    with Responder(is_silent_every=5) as responder:
        results = load(responder, retransmit=FAST)
    assert results.established == 30
    assert results.retransmits.total() >= 10
    assert results.retransmits.keys() <= {"ike_sa_init", "ike_auth"}


def test_delays_count_from_the_intended_start() -> None:
    """The responder stands still until the last attempt has begun: in an open loop, the others have waited for it.

    At 100 a second the first of 40 was due 390 ms before the last, and the half of them at least 190 ms.
    """
    with Responder() as responder:
        os.kill(responder.pid, signal.SIGSTOP)

        def wake_after_the_last(progress: Progress) -> None:
            if progress.attempted == 40:
                os.kill(responder.pid, signal.SIGCONT)

        results = load(responder, on_progress=wake_after_the_last, arrivals=Arrivals.CONSTANT, rate=100.0, count=40)
    assert results.established == 40
    percentiles = results.delays.percentiles_ms()
    assert (percentiles["max"] or 0) >= 390
    assert (percentiles["p50"] or 0) >= 190


def test_each_tunnel_is_pinged() -> None:
    with Responder() as responder:
        results = load(responder, ping=PingOptions(target=ECHO), encap=True)
    assert (len(results.first_packets), results.echo_failures) == (30, 0)
    assert responder.counts["echo_answered"] == 30
    first_packet, delay = results.first_packets.percentiles_ms(), results.delays.percentiles_ms()
    assert (first_packet["p50"] or 0) > (delay["p50"] or 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets need root")
def test_a_ping_needs_no_encapsulation_where_raw_sockets_are_allowed() -> None:
    with Responder(has_raw_esp=True) as responder:
        results = load(responder, ping=PingOptions(target=ECHO), encap=False, processes=2)
    assert (len(results.first_packets), results.echo_failures) == (30, 0)


def test_an_echo_through_ipv6() -> None:
    target = (0xFD << 120 | 1).to_bytes(16, "big")
    with Responder(address="::1") as responder:
        results = load(responder, vips=(bytes(16),), ping=PingOptions(target=target), encap=True)
    assert (results.established, len(results.first_packets)) == (30, 30)


def test_unanswered_echoes_are_failures() -> None:
    with Responder(is_echoing=False) as responder:
        results = load(responder, count=5, ping=PingOptions(target=ECHO, timeout_s=0.1, tries=2), encap=True)
    assert (results.established, results.echo_failures) == (5, 5)
    assert not results.is_success()


def test_no_attempt_starts_after_the_time_is_up(responder: Responder) -> None:
    results = load(responder, arrivals=Arrivals.CONSTANT, rate=50.0, count=1000, max_duration_s=0.5)
    assert 15 <= results.attempted <= 27
    assert results.established == results.attempted
    assert results.is_success()


def test_sources_are_used_in_turn(responder: Responder) -> None:
    addresses = tuple(f"127.0.0.{n}" for n in range(2, 12))
    results = load(responder, addresses=addresses, processes=2)
    assert results.established == 30


def test_fixed_source_ports(responder: Responder) -> None:
    results = load(responder, port_pairs=((27000, 27001), (27002, 27003)), processes=2, count=8)
    assert results.established == 8


def test_a_source_port_that_is_taken_is_told_at_once(silent: tuple[int, int], responder: Responder) -> None:
    with pytest.raises(LocalError, match=rf"UDP port {silent[0]} on 127\.0\.0\.1"):
        load(responder, port_pairs=((silent[0], 27005),))


def test_an_address_that_is_not_ours_is_told_at_once(responder: Responder) -> None:
    with pytest.raises(LocalError, match=r"192\.0\.2\.77"):
        load(responder, addresses=("192.0.2.77",))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_has_results(responder: Responder, number: int) -> None:
    handler = signal.getsignal(number)
    interrupt = signal_when(lambda progress: progress.established > 5, number)
    endless = options(
        responder.port, responder.natt_port, arrivals=Arrivals.CONSTANT, rate=100.0, count=100_000, processes=2
    )
    results = run_load(endless, on_progress=interrupt)
    assert results.is_interrupted
    assert 5 < results.established <= results.attempted < 1000
    assert results.established + results.failed == results.attempted
    assert results.failures.keys() <= {"interrupted"}
    assert signal.getsignal(number) is handler


def test_attempts_under_way_are_interrupted(silent: tuple[int, int]) -> None:
    results = run_load(options(*silent, count=50), on_progress=signal_when(lambda progress: progress.attempted > 0))
    assert results.is_interrupted
    assert results.failures == {"interrupted": 8}


def test_a_second_interrupt_kills(silent: tuple[int, int]) -> None:
    def on_progress(progress: Progress) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_load(options(*silent), on_progress=on_progress)


def test_a_process_that_dies_is_reported(silent: tuple[int, int]) -> None:
    before = set(process_tree(os.getpid()))
    is_killed = False

    def on_progress(progress: Progress) -> None:
        nonlocal is_killed
        if not is_killed and progress.attempted == 8:
            is_killed = True
            os.kill(min(set(process_tree(os.getpid())) - before), signal.SIGKILL)

    results = run_load(options(*silent, count=8, processes=2, timeout_s=1.0), on_progress=on_progress)
    assert results.died == 1
    assert results.failures == {DIED: 4, "timeout_ike_sa_init": 4}
    assert not results.is_success(100.0)


def test_testers_end_with_their_parent(silent: tuple[int, int]) -> None:
    pid = os.fork()
    if pid == 0:
        run_load(options(*silent, count=8, processes=2, timeout_s=600.0))
        os._exit(0)
    deadline = time.monotonic() + 10
    while len(process_tree(pid)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    testers = process_tree(pid)[1:]
    assert len(testers) == 2
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while any(process_tree(tester) for tester in testers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(process_tree(tester) for tester in testers)


def test_a_result_longer_than_a_sockets_queue_can_be_sent() -> None:
    """uvloop makes what it reads non-blocking: the results of some 10,000 tunnels were lost."""
    ours, theirs = socket.socketpair()

    async def read() -> None:
        with _read_by(asyncio.get_running_loop(), ours, lambda: None):
            await asyncio.sleep(0)

    with ours, theirs, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(read())
        assert os.get_blocking(ours.fileno())

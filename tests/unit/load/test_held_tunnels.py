"""Whole runs whose tunnels are held: what they do meanwhile, and how they end.

At which times things are due is in test_upkeep.py and test_churn.py, with a clock of their own.
"""

import os
import signal
import time
from typing import Any

import msgspec
import pytest
from tests.unit.load.responder import Responder, settings
from tests.unit.load.runs import load, load_until, options, signal_when

from cygnet.iana import ProtocolId
from cygnet.ike.proposals import parse_proposal
from cygnet.ike.settings import RetransmitPolicy
from cygnet.load.options import Rekeyed
from cygnet.load.processes import Progress, run_load
from cygnet.load.report import _rows

pytestmark = pytest.mark.usefixtures("no_process_is_left")


def test_tunnels_are_held_and_then_deleted() -> None:
    with Responder() as responder:
        begun = time.monotonic()
        results = load(responder, count=150, hold_s=0.5, delete=True, processes=2)
        took_s = time.monotonic() - begun
    assert (results.deleted, results.delete_failures) == (150, 0)
    assert not results.lost
    assert took_s - results.duration_s >= 0.5
    assert responder.left == 0


def test_tunnels_ask_whether_the_responder_lives() -> None:
    with Responder() as responder:
        # Each tunnel was two, and has one under way.
        results, took_s = load_until(
            responder, lambda: responder.seen("ike_datagrams") >= 20 + 20, count=10, dpd_s=0.3, processes=2
        )
    assert 10 <= len(results.checks.delays) <= results.checks.begun <= 10 * (took_s / 0.3 + 1)
    assert not results.lost
    assert "liveness checks" in dict(_rows(results))


def test_tunnels_are_replaced_while_they_are_held() -> None:
    with Responder() as responder:
        results, took_s = load_until(
            responder,
            lambda: responder.seen("established") >= 10 + 30,
            count=10,
            churn_rate=40.0,
            dpd_s=0.4,
            processes=2,
            delete=True,
        )
    found = results.to_json()["churn"]
    assert 10 <= found["established"] <= found["begun"] <= 40 * took_s + 1
    assert 10 <= found["deleted"] <= found["begun"]
    assert (found["failures"], found["unconfirmed"], results.lost) == ({}, 0, {})
    # Each that came took the place of one that went, or will when it is there.
    under_way = found["begun"] - found["established"]
    assert 10 - under_way <= results.deleted <= 10 + under_way
    everybody = {f"c{n}@example.org" for n in range(10 + found["begun"] + 1)}
    assert len(responder.peers) == len(set(responder.peers)) >= 10 + found["established"]
    assert set(responder.peers) <= everybody
    assert {"replaced while held", "  deleted after"} <= dict(_rows(results)).keys()


@pytest.mark.parametrize("rekeyed", Rekeyed)
def test_tunnels_are_rekeyed_while_they_are_held_and_stay_tunnels(rekeyed: Rekeyed) -> None:
    name = {Rekeyed.CHILD: "child_sas_rekeyed_total", Rekeyed.IKE: "ike_sas_rekeyed_total"}[rekeyed]
    with Responder() as responder:
        # Each tunnel has one under way.
        results, took_s = load_until(
            responder,
            lambda: responder.seen(name) >= 20,
            count=10,
            rekey_s=0.5,
            rekeyed=rekeyed,
            processes=2,
            delete=True,
        )
    found = results.to_json()
    assert 10 <= found["rekeys"]["completed"] <= found["rekeys"]["begun"] <= 10 * (took_s / 0.5 + 1)
    assert (found["rekeys"]["of"], found["rekeys"]["failures"]) == (rekeyed.value, {})
    assert found["rekey_delay_ms"]["max"] > 0
    assert responder.counts[name] >= found["rekeys"]["completed"]
    assert (results.lost, results.deleted, results.delete_failures, responder.left) == ({}, 10, 0, 0)
    assert {f"rekeyings ({rekeyed.value})", "  rekeyed after"} <= dict(_rows(results)).keys()


def test_tunnels_that_are_rekeyed_are_replaced_and_asked_as_others() -> None:
    with Responder() as responder:
        results, _ = load_until(
            responder,
            lambda: responder.seen("ike_sas_rekeyed_total") >= 60,
            count=10,
            rekey_s=0.2,
            rekeyed=Rekeyed.IKE,
            churn_rate=20.0,
            dpd_s=0.3,
            delete=True,
        )
    found = results.to_json()
    assert (found["churn"]["failures"], found["churn"]["unconfirmed"], found["lost"]) == ({}, 0, {})
    assert found["rekeys"]["completed"] >= 10 and found["liveness_checks"]["answered"] >= 10
    assert (results.delete_failures, responder.left) == (0, 0)


def test_rekeyings_that_the_responder_refuses_fail_by_its_reason() -> None:
    # It takes the CHILD_SA's keys from the IKE_SA, as it has to in IKE_AUTH, and wants a key exchange in the next one.
    esp = (parse_proposal(ProtocolId.ESP, "aes128gcm16-ecp256"),)
    connection = settings().connections[0]
    child = msgspec.structs.replace(connection.children[0], esp_proposals=esp)
    connections = (msgspec.structs.replace(connection, children=(child,)),)
    strict = msgspec.structs.replace(settings(), connections=connections)
    with Responder(strict) as responder:
        results = load(responder, count=5, hold_s=0.6, rekey_s=0.4, delete=True)
    found = results.to_json()["rekeys"]
    assert found["failures"].keys() == {"no_proposal_chosen"} and found["completed"] == 0
    assert (results.lost, results.deleted) == ({}, 5)


@pytest.mark.parametrize("is_mobike", [False, True])
def test_tunnels_move_while_they_are_held_and_the_responder_follows(is_mobike: bool) -> None:
    with Responder() as responder:
        results, took_s = load_until(
            responder,
            lambda: responder.seen("moved") >= 20,
            count=10,
            roam_s=0.5,
            mobike=is_mobike,
            processes=2,
            delete=True,
        )
    found = results.to_json()
    assert 10 <= found["moves"]["completed"] <= found["moves"]["begun"] <= 10 * (took_s / 0.5 + 1)
    assert (found["moves"]["failures"], results.lost, results.deleted, responder.left) == ({}, {}, 10, 0)
    assert found["moves"]["by"] == ("mobike" if is_mobike else "nat")
    assert responder.moved >= found["moves"]["completed"]
    assert bool(responder.counts["address_updates_received_total"]) is is_mobike
    assert {f"moves ({found['moves']['by']})", "  answered after"} <= dict(_rows(results)).keys()


def test_moves_between_addresses_are_checked_by_the_responder() -> None:
    addresses = ("127.0.0.2", "127.0.0.3")
    with Responder() as responder:
        results, _ = load_until(
            responder,
            lambda: responder.seen("moved") >= 8 and responder.seen("routability_checks_total") >= 4,
            count=4,
            roam_s=0.5,
            mobike=True,
            addresses=addresses,
            delete=True,
        )
    found = results.to_json()["moves"]
    assert found["completed"] >= 4 and found["failures"] == results.lost == {}
    assert responder.counts["routability_checks_total"] >= 4


def test_moves_by_mobike_need_a_responder_that_does_it() -> None:
    connection = msgspec.structs.replace(settings().connections[0], mobike=False)
    with Responder(msgspec.structs.replace(settings(), connections=(connection,))) as responder:
        results = load(responder, count=4, hold_s=0.6, roam_s=0.4, mobike=True, delete=True)
    found = results.to_json()["moves"]
    assert found["failures"] == {"no_mobike": found["begun"]} and found["begun"] >= 4
    assert (found["completed"], results.deleted, responder.moved) == (0, 4, 0)


def test_a_responder_that_is_gone_answers_no_moves() -> None:
    policy = RetransmitPolicy(timeout_s=0.2, base=1.0, tries=1)
    with Responder() as responder:
        moving = options(responder.port, responder.natt_port, count=3, hold_s=1.5, roam_s=0.6, retransmit=policy)
        try:
            results = run_load(moving, on_over=lambda: os.kill(responder.pid, signal.SIGSTOP))
        finally:
            os.kill(responder.pid, signal.SIGCONT)
    assert results.moves.failures == results.lost == {"timeout_informational": 3}
    assert not len(results.moves.delays)


def test_what_needs_a_hold_or_sources_says_so() -> None:
    def problem(**changes: Any) -> str:
        return options(500, 4500, **changes).problem() or ""

    assert "--rekey" in problem(rekey_s=1.0) and not problem(rekey_s=1.0, hold_s=1.0)
    assert "--roam" in problem(roam_s=1.0) and not problem(roam_s=1.0, hold_s=1.0)
    pairs = ((20000, 20001), (20002, 20003), (20004, 20005))
    assert "--roam" in problem(roam_s=1.0, hold_s=1.0, port_pairs=pairs, processes=2)
    assert not problem(roam_s=1.0, hold_s=1.0, port_pairs=pairs)


def test_peers_that_a_dead_responder_does_not_take_are_told() -> None:
    policy = RetransmitPolicy(timeout_s=0.1, base=1.0, tries=1)
    with Responder() as responder:
        churning = options(responder.port, responder.natt_port, count=5, hold_s=1.5, churn_rate=4.0, retransmit=policy)
        try:
            results = run_load(churning, on_over=lambda: os.kill(responder.pid, signal.SIGSTOP))
        finally:
            os.kill(responder.pid, signal.SIGCONT)
    found = results.to_json()["churn"]
    assert found["established"] == found["deleted"] == 0
    assert found["failures"].keys() == {"timeout_ike_sa_init"}
    assert found["failures"]["timeout_ike_sa_init"] >= 4
    assert found["unconfirmed"] >= 4


def test_a_responder_that_is_gone_loses_its_tunnels_and_answers_no_checks() -> None:
    policy = RetransmitPolicy(timeout_s=0.2, base=1.0, tries=1)
    with Responder() as responder:
        checking = options(responder.port, responder.natt_port, count=3, hold_s=1.5, dpd_s=0.2, retransmit=policy)
        try:
            results = run_load(checking, on_over=lambda: os.kill(responder.pid, signal.SIGSTOP))
        finally:
            os.kill(responder.pid, signal.SIGCONT)
    assert results.lost == {"timeout_informational": 3}
    assert results.checks.begun - len(results.checks.delays) == 3
    # The next question is due before the one before is given up.
    assert results.checks.overdue >= 3
    assert results.retransmits["informational"] == 3


def test_tunnels_that_the_responder_deletes_are_lost() -> None:
    with Responder(deletes_after_s=0.3) as responder:
        results = load(responder, hold_s=1.0)
    assert results.established == 30
    assert results.lost == {"deleted_by_peer": 30}


def test_deletions_that_nobody_answers_are_given_up() -> None:
    policy = RetransmitPolicy(timeout_s=0.1, base=1.0, tries=1)
    with Responder() as responder:
        deleting = options(responder.port, responder.natt_port, count=3, delete=True, retransmit=policy)
        try:
            results = run_load(deleting, on_over=lambda: os.kill(responder.pid, signal.SIGSTOP))
        finally:
            os.kill(responder.pid, signal.SIGCONT)
    assert (results.established, results.deleted, results.delete_failures) == (3, 0, 3)


def test_an_interrupt_ends_the_hold(responder: Responder) -> None:
    held = options(responder.port, responder.natt_port, hold_s=600.0)
    results = run_load(held, on_progress=signal_when(lambda progress: progress.established == 30))
    assert results.is_interrupted
    assert results.established == 30


def test_the_attempts_are_over_before_the_tunnels_are_deleted() -> None:
    seen: list[int] = []
    with Responder() as responder:
        progress: list[Progress] = []
        run_load(
            options(responder.port, responder.natt_port, delete=True, processes=2),
            on_progress=progress.append,
            on_over=lambda: seen.append(max((p.deleted for p in progress), default=0)),
        )
    assert seen == [0]
    assert progress[-1].deleted == 30

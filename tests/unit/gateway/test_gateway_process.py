"""The whole gateway in processes of its own, with real sockets on loopback and real handshakes."""

import mmap
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from tests.unit.gateway.commands.clients import (
    COSTLY_IKE,
    IKE,
    LOOPBACK,
    SECRETS,
    Clients,
    loopback_gateway,
    responder_settings,
)

from cygnet.auth.identity import parse_identity
from cygnet.gateway.embedded import GatewayProcess
from cygnet.gateway.process import memory
from cygnet.iana import ExchangeType, NotifyType, PayloadType, ProtocolId
from cygnet.ike.errors import LocalError
from cygnet.ike.sa import Turn
from cygnet.ike.selectors import parse_selector
from cygnet.ike.settings import (
    AdmissionSettings,
    AuthSettings,
    ChildSettings,
    ConnectionSettings,
    Settings,
    StartAction,
    Unique,
)
from cygnet.ike.spi import worker_of_ike_spi
from cygnet.ike.tasks import Probe
from cygnet.vici.client import ViciClient
from cygnet.wire.header import FLAG_INITIATOR, NO_SPI, decode_header
from cygnet.wire.message import encode_message
from cygnet.wire.payloads.encrypted import Encrypted
from cygnet.wire.payloads.notify import Notify

PATIENCE_S = 30.0
"""Longer than an end takes on a busy machine. Whom `stop` loses patience with has another status than 0."""
ESTABLISHED = 'ike_sas{state="established"}'


@contextmanager
def gateway(workers: int = 2, settings: Settings | None = None) -> Iterator[tuple[GatewayProcess, Clients]]:
    settings = settings if settings is not None else responder_settings()
    with (
        GatewayProcess.start(settings, loopback_gateway(workers)) as process,
        Clients(process.port, process.natt_port) as clients,
    ):
        yield process, clients
        # Peers that answer its farewell, so that it need not wait for them.
        if is_alive(process.pid):
            os.kill(process.pid, signal.SIGTERM)
            clients.wait(lambda: not is_alive(process.pid))


def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.01)


def counted(process: GatewayProcess, *families: str) -> float:
    """The sum of all counters of these families."""
    return sum(count for name, count in process.counters.values().items() if name.startswith(families))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def owner(clients: Clients, spi: bytes) -> int:
    """The gateway's worker that has the SA with our SPI."""
    return worker_of_ike_spi(clients.table.sas[spi].spi_r)


def say_alone(clients: Clients, spi: bytes) -> None:
    """Tell the gateway on an SA that the peer has no other (RFC 7296 section 2.4)."""
    turn = Turn(clients.table.env, clients.table, time.monotonic())
    notify = Notify(ProtocolId.NONE, b"", NotifyType.INITIAL_CONTACT, b"")
    clients.table.sas[spi].send_request(ExchangeType.INFORMATIONAL, (notify,), turn, Probe())
    clients.driver.carry_out(turn.effects)


def test_workers_share_the_peers_and_give_each_an_address_of_its_own() -> None:
    with gateway() as (process, clients):
        spis = clients.establish(64)
        assert {owner(clients, spi) for spi in spis} == {0, 1}
        assert len({clients.address(spi) for spi in spis}) == 64
        assert process.counters.value(ESTABLISHED) == 64
        assert process.counters.value("child_sas") == 64
        assert process.counters.value("pool_addresses_in_use") == 64
        assert process.counters.histogram("handshake_duration_seconds").count == 64
        assert {process.counters.value_of(worker, ESTABLISHED) > 0 for worker in (0, 1)} == {True}


def test_it_has_a_control_socket_if_it_is_told_where(tmp_path: Path) -> None:
    path = tmp_path / "vici"
    with GatewayProcess.start(Settings(), loopback_gateway(1), vici=path), ViciClient(path) as client:
        assert client.request("stats")["ikesas"] == {"total": b"0", "half-open": b"0"}


def test_answers_echo_requests_inside_of_the_tunnel() -> None:
    with gateway() as (process, clients):
        spis = clients.establish(8)
        for spi in spis:
            clients.ping(spi)
        clients.wait(lambda: len(clients.echoes) == 8)
        assert process.counters.value('esp_packets_total{direction="in"}') == 8
        assert process.counters.value('esp_packets_total{direction="out"}') == 8
        assert process.counters.value('dataplane_events_total{event="echo_answered"}') == 8


def test_a_flood_of_rubbish_is_counted_to_the_last_datagram_and_costs_no_sa() -> None:
    """Random octets, half of them with a header that looks right, to both ports."""
    rng = random.Random(7)
    # So much for no IKE_SA within half a second is too much, on a machine that takes that long for it.
    shed = "strays_shed_total"
    dropped = ("datagrams_dropped_total", "dataplane_events_total", "keepalives_received_total", shed)
    with gateway() as (process, clients), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
        spis = clients.establish(4)
        before = counted(process, "datagrams_received_total", shed)
        for sent in range(1, 2001):
            octets = bytearray(rng.randbytes(rng.randrange(1, 200)))
            if sent % 2 and len(octets) >= 28:
                octets[17:20] = bytes((0x20, rng.choice((34, 35, 36, 37)), rng.choice((0, 8, 0x20, 0x28))))
                octets[24:28] = len(octets).to_bytes(4, "big")
            marker = bytes(4 if sent % 3 == 0 else 0)
            port = process.port if sent % 4 < 2 else process.natt_port
            attacker.sendto(marker + octets, (LOOPBACK, port))
            if sent % 100 == 0:
                now = before + sent
                eventually(lambda now=now: counted(process, "datagrams_received_total", shed) == now)  # type: ignore[misc]
        eventually(lambda: counted(process, *dropped) == 2000)
        assert process.counters.value("internal_errors_total") == 0
        assert process.counters.value(ESTABLISHED) == 4
        assert set(spis) == set(clients.table.sas)


def test_a_flood_of_new_peers_is_turned_away_in_the_kernel_and_those_who_are_in_do_not_notice() -> None:
    shed = 'new_peers_shed_total{socket="ipv4_ike"}'
    # Without cookies, which would cost so much less than a key exchange that a flood from one process is no overload.
    settings = msgspec.structs.replace(
        responder_settings(), admission=AdmissionSettings(cookie_threshold=10**6, cookie_threshold_ip=10**6)
    )
    (model,) = settings.connections
    settings = msgspec.structs.replace(
        settings, connections=(msgspec.structs.replace(model, proposals=IKE + COSTLY_IKE),)
    )
    with gateway(1, settings) as (process, clients), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
        (spi,) = clients.establish(1)
        waiting = clients.table.sas[clients.start("model", proposals=COSTLY_IKE)].message_ids.outstanding
        assert waiting is not None
        deadline = time.monotonic() + 10
        sent = 0
        while not process.counters.value(shed):
            assert time.monotonic() < deadline, "nobody was turned away"
            for _ in range(500):
                sent += 1
                attacker.sendto(sent.to_bytes(8, "big") + waiting.datagram[8:], (LOOPBACK, process.port))
            clients.run(0.005)
        clients.ping(spi)
        clients.wait(lambda: len(clients.echoes) == 1)
        # The flood is over: whoever comes now gets in, and soon nobody is turned away. Until then it is by chance who
        # is, and comes again after 4 and 11 seconds.
        spi = clients.start("after")
        clients.wait(lambda: spi in clients.established, timeout_s=PATIENCE_S)
        assert process.counters.value(ESTABLISHED) >= 2
        assert process.counters.value("internal_errors_total") == 0


@pytest.mark.parametrize("is_half_open", [False, True], ids=["unknown SPIs", "an SPI that is half open"])
def test_a_flood_for_no_sa_is_turned_away_in_the_kernel_and_nobody_else_notices(is_half_open: bool) -> None:
    shed = 'strays_shed_total{socket="ipv4_ike"}'
    with gateway(1) as (process, clients), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
        spis = clients.establish(4)
        spi_r = os.urandom(8)
        if is_half_open:
            request = clients.table.sas[clients.start("model")].message_ids.outstanding
            assert request is not None
            attacker.settimeout(10)
            attacker.sendto(b"attacker" + request.datagram[8:], (LOOPBACK, process.port))
            spi_r = decode_header(attacker.recv(2048)).spi_r
            assert spi_r != NO_SPI
        deadline = time.monotonic() + 10
        while not process.counters.value(shed):
            assert time.monotonic() < deadline, "nothing was turned away"
            for _ in range(500):
                attacker.sendto(rubbish_for(spi_r if is_half_open else os.urandom(8)), (LOOPBACK, process.port))
            clients.run(0.01)
        for spi in spis:
            clients.driver.order(spi, Probe())
            clients.ping(spi)
        clients.wait(lambda: len(clients.echoes) == 4)
        clients.wait(lambda: all(clients.table.sas[spi].message_ids.outstanding is None for spi in spis))
        clients.establish(2, prefix="meanwhile")
        assert set(spis) <= set(clients.established)
        assert process.counters.value("internal_errors_total") == 0


def rubbish_for(spi_r: bytes) -> bytes:
    """An IKE_AUTH request that nobody has the keys of."""
    return encode_message(
        spi_i=b"attacker",
        spi_r=spi_r,
        exchange_type=ExchangeType.IKE_AUTH,
        flags=FLAG_INITIATOR,
        message_id=1,
        payloads=(Encrypted(PayloadType.IDI, os.urandom(60)),),
    )


def test_tells_its_peers_when_it_stops_and_leaves_no_process() -> None:
    with gateway() as (process, clients):
        clients.establish(40)
        pids = [process.pid, *process.worker_pids()]
        os.kill(process.pid, signal.SIGTERM)
        clients.wait(lambda: len(clients.closed) == 40, timeout_s=4)
        assert set(clients.closed.values()) == {"deleted_by_peer"}
        assert process.stop(PATIENCE_S) == 0
        assert not any(map(is_alive, pids))
        assert process.counters.value(ESTABLISHED) == 0
        assert process.counters.value("ike_sas_established_total") == 40


def test_peers_that_do_not_answer_hold_the_end_up_for_three_seconds_and_not_for_as_long_as_they_like() -> None:
    with gateway(1) as (process, clients):
        clients.establish(4)
        started = time.monotonic()
        # Nobody runs the clients' loop meanwhile.
        assert process.stop(PATIENCE_S) == 0
        assert time.monotonic() - started > 3


def test_who_has_no_patience_for_its_peers_leaves_no_worker_behind() -> None:
    with gateway() as (process, clients):
        clients.establish(8)
        workers = process.worker_pids()
        # Nobody runs the clients' loop meanwhile: no peer answers.
        assert process.stop(0.1) == 130
        assert not any(map(is_alive, workers))


def test_a_stuck_worker_is_killed_in_time() -> None:
    with gateway() as (process, _):
        stuck = process.worker_pids()[0]
        os.kill(stuck, signal.SIGSTOP)
        assert process.stop(PATIENCE_S) == 0
        assert not is_alive(stuck)


def test_a_killed_worker_is_started_again_and_the_other_does_not_notice() -> None:
    with gateway() as (process, clients):
        spis = clients.establish(40)
        kept = [spi for spi in spis if owner(clients, spi) == 1]
        victim, other = sorted(process.worker_pids())
        os.kill(victim, signal.SIGKILL)
        # Meanwhile datagrams wait in the supervisor's sockets: nobody is refused.
        clients.establish(40, prefix="d")
        assert process.counters.value("worker_restarts_total") == 1
        assert sorted(process.worker_pids())[0] == other
        assert process.counters.value_of(1, ESTABLISHED) >= len(kept)
        for spi in kept:
            clients.ping(spi)
        clients.wait(lambda: len(clients.echoes) == len(kept))
        addresses = [clients.address(spi) for spi in clients.table.sas if owner(clients, spi) == 1]
        assert len(set(addresses)) == len(addresses)


def test_a_worker_that_keeps_dying_is_started_again_ever_more_slowly() -> None:
    with gateway(1) as (process, clients):
        for restarts in range(1, 4):
            eventually(lambda: len(process.worker_pids()) == 1)
            killed = time.monotonic()
            os.kill(process.worker_pids()[0], signal.SIGKILL)
            eventually(lambda n=restarts: process.counters.value("worker_restarts_total") == n)  # type: ignore[misc]
        eventually(lambda: len(process.worker_pids()) == 1)
        assert time.monotonic() - killed > 0.2
        clients.establish(4)


def test_no_worker_outlives_its_supervisor() -> None:
    with gateway() as (process, _):
        pids = process.worker_pids()
        assert len(pids) == 2
        os.kill(process.pid, signal.SIGKILL)
        eventually(lambda: not any(map(is_alive, pids)))


def test_initial_contact_reaches_the_sa_that_another_worker_has() -> None:
    with gateway() as (process, clients):
        spis: list[bytes] = []
        # The keyed hash decides the worker: try until the same peer has been on both.
        while len({owner(clients, spi) for spi in spis}) < 2:
            spis += clients.establish(1, prefix="same")
            assert len(spis) < 40
        newest = spis[-1]
        say_alone(clients, newest)
        clients.wait(lambda: process.counters.value(ESTABLISHED) == 1)
        assert process.counters.value('ike_sas_closed_total{reason="initial_contact"}') == len(spis) - 1
        clients.ping(newest)
        clients.wait(lambda: len(clients.echoes) == 1)


def with_unique(unique: Unique) -> Settings:
    settings = responder_settings()
    connection = msgspec.structs.replace(settings.connections[0], unique=unique)
    return msgspec.structs.replace(settings, connections=(connection,))


def test_of_a_peers_ike_sas_the_last_stands_whichever_workers_have_them() -> None:
    with gateway(settings=with_unique(Unique.REPLACE)) as (process, clients):
        owners: list[int] = []
        while len(set(owners)) < 2 or len(owners) < 6:
            (spi,) = clients.establish(1, prefix="same")
            owners.append(owner(clients, spi))
            clients.wait(lambda: process.counters.value(ESTABLISHED) == 1)
            assert list(clients.table.sas) == [spi] and len(owners) < 40


def test_of_a_peers_ike_sas_that_come_at_once_one_stands() -> None:
    with gateway(settings=with_unique(Unique.REPLACE)) as (process, clients):
        for _ in range(5):
            spis = [clients.start("same") for _ in range(8)]
            clients.wait(lambda spis=spis: all(spi in clients.established for spi in spis))  # type: ignore[misc]
            clients.wait(lambda: process.counters.value(ESTABLISHED) == 1)
            clients.run(0.1)
            assert process.counters.value(ESTABLISHED) == 1
            clients.wait(lambda: process.counters.value("pool_addresses_in_use") == 1)


def test_a_peer_keeps_its_address_whichever_worker_it_meets() -> None:
    with gateway(workers=3) as (process, clients):
        (spi,) = clients.establish(1, prefix="same")
        address, standing, owners = clients.address(spi), [spi], [owner(clients, spi)]
        while len(set(owners)) < 3 or len(owners) < 9:
            spi = clients.start("same0", vip=address)
            clients.wait(lambda spi=spi: spi in clients.established)  # type: ignore[misc]
            assert clients.address(spi) == address and len(owners) < 60
            standing.append(spi)
            owners.append(owner(clients, spi))
            if len(standing) > 2:
                clients.driver.delete(standing.pop(0))
        clients.ping(spi)
        clients.wait(lambda: len(clients.echoes) == 1)
        assert process.counters.value("pool_addresses_in_use") == 1
        other = clients.start("other0", vip=address)
        clients.wait(lambda: other in clients.established)
        assert clients.address(other) != address


def test_a_worker_that_runs_out_gets_what_the_other_has_to_spare() -> None:
    # Both begin with half of the pool. One gets no peers at all: those of its hash are not waited for.
    with gateway(settings=responder_settings("10.3.0.32")) as (process, clients):
        spis: list[bytes] = []
        while sum(owner(clients, spi) == 0 for spi in spis) < 24:
            (spi,) = clients.establish(1, prefix=f"n{len(spis)}-")
            if owner(clients, spi) == 1:
                clients.driver.delete(spi)
                clients.wait(lambda spi=spi: spi in clients.closed)  # type: ignore[misc]
            else:
                spis.append(spi)
        eventually(lambda: process.counters.value_of(0, "pool_addresses_in_use") == 24)


def test_the_only_address_of_a_pool_serves_the_peers_of_every_worker() -> None:
    # One address: 10.3.0.1 is the echo's. Each peer gets it at its first try, whichever worker it meets.
    with gateway(settings=responder_settings("10.3.0.2")) as (process, clients):
        owners: list[int] = []
        while len(set(owners)) < 2 or len(owners) < 6:
            (spi,) = clients.establish(1, prefix=f"n{len(owners)}-")
            owners.append(owner(clients, spi))
            clients.driver.delete(spi)
            clients.wait(lambda spi=spi: spi in clients.closed)  # type: ignore[misc]
            assert len(owners) < 40
        assert process.counters.value('child_sas_refused_total{reason="internal_address_failure"}') == 0


def test_addresses_of_peers_that_left_are_given_again() -> None:
    with gateway(1, settings=responder_settings("10.3.0.4")) as (process, clients):
        for _ in range(3):
            spis = clients.establish(4)
            for spi in spis:
                clients.driver.delete(spi)
            clients.wait(lambda: process.counters.value("pool_addresses_in_use") == 0)


class SharedMeasure:
    """Memory of a worker that is what the test says. What it really has depends on what its parent left free."""

    def __init__(self) -> None:
        self._word = mmap.mmap(-1, 8)

    def say(self, octets: int) -> None:
        self._word[:] = octets.to_bytes(8, "little")

    def private_octets(self) -> int:
        return int.from_bytes(self._word[:], "little")

    def address_space_octets(self) -> int:
        return 0


def test_new_peers_are_refused_while_memory_is_short_and_the_others_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = SharedMeasure()
    monkeypatch.setattr(memory, "OwnMemory", lambda: measure)
    settings = msgspec.structs.replace(loopback_gateway(1), memory_limit=100 << 20)
    with (
        GatewayProcess.start(responder_settings(), settings) as process,
        Clients(process.port, process.natt_port) as clients,
    ):
        spis = clients.establish(8)
        measure.say(100 << 20)
        eventually(lambda: process.counters.value("workers_full") == 1)
        late = clients.start("late")
        clients.wait(lambda: process.counters.value('datagrams_dropped_total{reason="memory"}') >= 1)
        assert late not in clients.established
        for spi in spis:
            clients.ping(spi)
        clients.wait(lambda: len(clients.echoes) == 8)
        measure.say(80 << 20)
        # The peer that was refused sends again until there is room.
        clients.wait(lambda: late in clients.established)
        assert process.counters.value("workers_full") == 0
        assert process.counters.value(ESTABLISHED) == 9
        os.kill(process.pid, signal.SIGTERM)
        clients.wait(lambda: not is_alive(process.pid))


def test_a_port_in_use_is_an_error_and_leaves_nothing() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((LOOPBACK, 0))
        settings = msgspec.structs.replace(loopback_gateway(), port=taken.getsockname()[1])
        with pytest.raises(LocalError, match="Address already in use"):
            GatewayProcess.start(responder_settings(), settings)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_an_interrupt_during_the_stop_ends_it_at_once() -> None:
    with gateway(1) as (process, clients):
        clients.establish(2)
        workers = process.worker_pids()
        os.kill(process.pid, signal.SIGINT)
        # It has told its peers and waits for them, three seconds; who has waited to the end has another status.
        eventually(lambda: process.counters.value('ike_messages_total{message="info-out-req"}') == 2)
        os.kill(process.pid, signal.SIGINT)
        eventually(lambda: not is_alive(process.pid))
        assert process.stop() == 130
        assert not any(map(is_alive, workers))


def test_an_interrupt_while_the_last_script_runs_ends_it_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # It stopped an event loop that ran for something else: a traceback, and the control socket left behind.
    began = tmp_path / "began"
    settings = responder_settings()
    connection = settings.connections[0]
    script = f"case $PLUTO_VERB in down*) touch {began}; sleep 20;; esac"
    child = msgspec.structs.replace(connection.children[0], updown=script)
    connection = msgspec.structs.replace(connection, children=(child,))
    with gateway(1, msgspec.structs.replace(settings, connections=(connection,))) as (process, clients):
        clients.establish(1)
        # The script for the tunnel that came up is one of its processes too, while it runs.
        eventually(lambda: len(process.worker_pids()) == 1)
        (worker,) = process.worker_pids()
        os.kill(process.pid, signal.SIGTERM)
        clients.wait(lambda: began.exists() and not is_alive(worker))
        os.kill(process.pid, signal.SIGINT)
        # Sooner than the script ends.
        eventually(lambda: not is_alive(process.pid))
        assert process.stop() == 130
    assert "Traceback" not in capfd.readouterr().err


def initiator_settings(port: int, natt_port: int, connections: int) -> Settings:
    """A gateway that sets up connections to another by itself, each to a network of its own."""
    model = responder_settings().connections[0]
    children = [
        ChildSettings(
            name="net",
            esp_proposals=model.children[0].esp_proposals,
            remote_ts=(parse_selector(f"10.{100 + number}.0.0/16"),),
            start_action=StartAction.START,
        )
        for number in range(connections)
    ]
    return Settings(
        connections=tuple(
            ConnectionSettings(
                name=f"out{number}",
                remote_addrs=(LOOPBACK,),
                remote_port=port,
                remote_natt_port=natt_port,
                proposals=model.proposals,
                local=AuthSettings(id=parse_identity(f"out{number}@example.org")),
                remote=model.local,
                vips=(bytes(4),),
                children=(child,),
            )
            for number, child in enumerate(children)
        ),
        secrets=SECRETS,
    )


def test_connections_that_are_to_be_started_are_each_by_one_worker() -> None:
    with GatewayProcess.start(responder_settings(), loopback_gateway(1)) as responder:
        settings = initiator_settings(responder.port, responder.natt_port, 6)
        with GatewayProcess.start(settings, loopback_gateway(2)) as initiator:
            eventually(lambda: initiator.counters.value(ESTABLISHED) == 6)
            eventually(lambda: responder.counters.value(ESTABLISHED) == 6)
            assert initiator.counters.value("ike_sas_established_total") == 6
            assert all(initiator.counters.value_of(worker, ESTABLISHED) > 0 for worker in (0, 1))
        eventually(lambda: responder.counters.value('ike_sas_closed_total{reason="deleted_by_peer"}') == 6)

"""Rekeying by order of swanctl, and what strongSwan's clients hear of it and of all else that happens to SAs."""

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import vici
from tests.interop.controlled import Controlled, RawSection
from tests.interop.cygnet_gateway import Cygnet
from tests.interop.ownership import marked_environment
from tests.interop.pairs import Role, child_of, paired, section
from tests.interop.polling import eventually
from tests.interop.test_mobike import OWN_TABLE, change_client_address
from tests.interop.topologies import Topology

PATIENCE_S = 10.0
POLL_S = 0.1


class Listener:
    """strongSwan's Python client, which listens."""

    def __init__(self, session: vici.Session, *names: str) -> None:
        self._events = session.listen(list(names), timeout=POLL_S)
        # It registers before it first waits.
        next(self._events)

    def hear(self, wanted: str) -> dict[str, object]:
        """The next event of that name."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            name, message = next(self._events)
            if name is not None and name.decode() == wanted:
                return dict(message)
        raise AssertionError(f"no event {wanted} came")

    def close(self) -> None:
        """While the connection is there: it says that it wants to hear no more."""
        self._events.close()


@contextmanager
def listening(cygnet: Cygnet, *names: str) -> Iterator[Listener]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(cygnet.vici_socket))
        listener = Listener(vici.Session(connection), *names)
        try:
            yield listener
        finally:
            listener.close()


def inner(message: dict[str, object], *names: str) -> dict[str, object]:
    found: object = message
    for name in names:
        assert isinstance(found, dict), message
        found = found[name]
    assert isinstance(found, dict), message
    return found


def name_of(role: Role) -> str:
    return "rw" if role is Role.RESPONDER else "home"


def only_sa(daemon: Controlled) -> RawSection:
    """The one that is left, with one CHILD_SA."""
    [ike_sa] = daemon.sas()
    assert ike_sa["state"] == "ESTABLISHED"
    [child] = [each for each in section(ike_sa["child-sas"]).values() if section(each)["state"] == "INSTALLED"]
    return {**ike_sa, "child-sas": {"one": child}}


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
def test_swanctl_rekeys_a_child(direct: Topology, role: Role) -> None:
    with paired(role, direct) as pair, listening(pair.cygnet, "child-rekey") as client:
        pair.set_up()
        before = child_of(pair.cygnet.sas()[0])
        assert "rekey completed successfully" in pair.cygnet.swanctl("--rekey", "--child", "net")
        both = inner(client.hear("child-rekey"), name_of(role), "child-sas", "net")
        after = child_of(eventually(lambda: only_sa(pair.cygnet)))
        assert inner(both, "old")["spi-in"] == str(before["spi-in"]).encode()
        assert inner(both, "new")["spi-in"] == str(after["spi-in"]).encode()
        assert after["spi-in"] != before["spi-in"]
        assert after["spi-out"] == child_of(eventually(lambda: only_sa(pair.strongswan)))["spi-in"]


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
def test_swanctl_rekeys_an_ike_sa(direct: Topology, role: Role) -> None:
    with paired(role, direct) as pair, listening(pair.cygnet, "ike-rekey", "ike-updown") as client:
        pair.set_up()
        [before] = pair.cygnet.sas()
        assert "rekey completed successfully" in pair.cygnet.swanctl("--rekey", "--ike", name_of(role))
        told = inner(client.hear("ike-rekey"), name_of(role))
        after = eventually(lambda: only_sa(pair.cygnet))
        assert inner(told, "old")["uniqueid"] == str(before["uniqueid"]).encode()
        assert inner(told, "new")["uniqueid"] == str(after["uniqueid"]).encode()
        assert child_of(after)["spi-in"] == child_of(before)["spi-in"]
        [theirs] = pair.strongswan.sas()
        assert theirs["initiator-spi"] == after["initiator-spi"] != before["initiator-spi"]


def test_swanctl_has_an_ike_sa_authenticated_anew(direct: Topology) -> None:
    """By the end that set it up: the other one can't begin."""
    with paired(Role.INITIATOR, direct) as pair, listening(pair.cygnet, "ike-updown") as client:
        pair.set_up()
        [before] = pair.cygnet.sas()
        assert "rekey completed successfully" in pair.cygnet.swanctl("--rekey", "--ike", "home", "--reauth")
        after = eventually(lambda: only_sa(pair.cygnet))

        def is_another() -> bool:
            nonlocal after
            after = only_sa(pair.cygnet)
            return after["uniqueid"] != before["uniqueid"]

        eventually(is_another, what="another IKE_SA has taken its place")
        assert pair.cygnet.count("reauthentications_total") == 1
        assert [client.hear("ike-updown").get("up") for _ in range(2)] == [b"yes", None]
        assert child_of(after)["spi-in"] != child_of(before)["spi-in"]
        assert after["local-vips"] == before["local-vips"]


def test_a_client_that_moves_is_heard_of(direct: Topology) -> None:
    """`ike-update`, by MOBIKE."""
    with paired(Role.RESPONDER, direct, settings=OWN_TABLE) as pair, listening(pair.cygnet, "ike-update") as client:
        pair.set_up()
        [before] = pair.cygnet.sas()
        moved = change_client_address(direct, "ipv6")
        told = inner(client.hear("ike-update"), "rw")
        assert told["remote-host"] == moved.encode()
        assert told["uniqueid"] == str(before["uniqueid"]).encode()


def test_swanctl_monitors(direct: Topology) -> None:
    """It prints what comes and goes; what is rekeyed does neither."""
    with paired(Role.RESPONDER, direct) as pair:
        said = pair.cygnet.directory / "monitor"
        uri = f"unix://{pair.cygnet.vici_socket}"
        command = ["stdbuf", "-oL", "swanctl", "--monitor-sa", "--raw", "--uri", uri]
        with said.open("w") as output, subprocess.Popen(command, stdout=output, env=marked_environment()) as monitor:

            def has_seen(*events: str) -> bool:
                assert re.findall(r"^(\S+) event", said.read_text(), re.MULTILINE) == list(events)
                return True

            try:
                # It does not say when it is ready.
                time.sleep(0.5)
                pair.set_up()
                eventually(lambda: has_seen("ike-updown", "child-updown"))
                pair.cygnet.rekey(child="net")
                pair.cygnet.await_count("child_sas_rekeyed_total", 1)
                pair.cygnet.rekey(ike="rw")
                pair.cygnet.await_count("ike_sas_rekeyed_total", 1)
                eventually(lambda: only_sa(pair.cygnet))
                pair.cygnet.terminate(ike="rw")
                eventually(lambda: has_seen("ike-updown", "child-updown", "child-updown", "ike-updown"))
            finally:
                monitor.terminate()

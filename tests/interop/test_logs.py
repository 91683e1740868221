"""Debian's swanctl, and our own command, follow the log of a running gateway and change how much it logs."""

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop.cygnet_gateway import Cygnet
from tests.interop.ownership import marked_environment
from tests.interop.pairs import Role, paired
from tests.interop.polling import eventually
from tests.interop.test_swanctl import session
from tests.interop.topologies import Topology

_SA_UP = r"IKE_SA with carol@example\.org at 192\.0\.2\.2\[4500\] established in \d+ ms, virtual address 10\.3\.0\.\d+"
_BY_SWANCTL = rf"^\d\d\[IKE\] {_SA_UP}$"
"""Debian's swanctl leaves out the name and the number of the SA that the event has."""
_BY_US = rf"\d\d\[IKE\] <rw\|\d+> {_SA_UP}$"


@contextmanager
def following(cygnet: Cygnet, name: str, *argv: str) -> Iterator["subprocess.Popen[str]"]:
    """A program that follows, with its output in the file `name`; it must be there before something happens."""
    with (cygnet.directory / name).open("w") as output:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, text=True, env=marked_environment(PYTHONUNBUFFERED="1")
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def follow(cygnet: Cygnet, *options: str) -> list[str]:
    return [sys.executable, "-m", "cygnet", "log", "--state-dir", str(cygnet.state_directory), *options]


def test_swanctl_and_our_own_command_show_the_log(direct: Topology) -> None:
    with paired(Role.RESPONDER, direct, gateway="workers = 2\nlog { default = -1 }") as pair:
        cygnet = pair.cygnet
        swanctl = ("stdbuf", "-oL", "swanctl", "--log", "--uri", f"unix://{cygnet.vici_socket}")
        with (
            following(cygnet, "swanctl.log", *swanctl),
            following(cygnet, "text.log", *follow(cygnet, "--group", "ike")) as text,
            following(cygnet, "json.log", *follow(cygnet, "--json", "--up-to", "0")),
        ):

            def shown(name: str) -> str:
                return (cygnet.directory / name).read_text()

            def an_attempt_is_seen_by_all() -> bool:
                """Whoever is not there yet misses the first one."""
                pair.set_up()
                pair.strongswan.terminate(ike="home")
                eventually(pair.is_bare)
                assert re.search(_BY_SWANCTL, shown("swanctl.log"), re.MULTILINE)
                assert re.search(_BY_US, shown("text.log"), re.MULTILINE)
                assert '"group": "IKE"' in shown("json.log")
                return True

            eventually(an_attempt_is_seen_by_all, timeout_s=20)
            said = json.loads(shown("json.log").splitlines()[0])
            assert (said["group"], said["level"], said["ikesa-name"]) == ("IKE", 0, "rw")
            assert re.search(
                r"\d\d\[IKE\] IKE_SA [0-9a-f]{16} with carol@example\.org closed: deleted_by_peer", shown("swanctl.log")
            )

            assert "CHILD_SA" not in shown("swanctl.log")
            levels = cygnet.cygnet("log", "--state-dir", str(cygnet.state_directory), "--level", "chd=2")
            assert levels == "default=-1 chd=2\n"
            workers = cygnet.workers()
            pair.set_up()
            tunnel = r"\d\d\[CHD\] CHILD_SA net established with SPIs \w{8}_i \w{8}_o and TS 10\.1\.0\.0/24 "
            eventually(lambda: bool(re.search(tunnel, shown("swanctl.log"))))
            assert cygnet.workers() == workers, "they follow without a restart"
            assert "CHD" not in shown("text.log")
            assert '"level": 2' not in shown("json.log")
            # The daemon's own log has what it is to have, and not what only clients wanted to hear.
            assert "[CHD] <rw|" in cygnet.log()
            assert "[IKE]" not in cygnet.log()

            text.send_signal(signal.SIGINT)
            assert text.wait(10) == 0


def test_a_level_that_does_not_exist_is_refused(direct: Topology) -> None:
    with Cygnet(direct.server, "connections {\n}\n") as cygnet:
        where = ("--state-dir", str(cygnet.state_directory))
        done = cygnet.namespace.run(*cygnet.program("log", *where, "--level", "ike=7"), check=False)
        assert done.returncode == 2
        assert 'argument --level: "7" is no log level: -1 to 4' in done.stderr
        done = cygnet.namespace.run(*cygnet.program("log", *where, "--level", "kei=1"), check=False)
        assert done.returncode == 2
        assert cygnet.cygnet("log", *where, "--levels", "--json") == '{"success": "yes", "levels": {"default": "1"}}\n'


def test_the_event_has_the_fields_of_strongswan(direct: Topology) -> None:
    with paired(Role.RESPONDER, direct) as pair, session(pair.cygnet) as client:
        events = client.listen(["log"], timeout=0.5)
        assert next(events) == (None, None), "registered, and silent so far"
        pair.set_up()
        name, event = next(events)
        events.close()
        [sa] = pair.cygnet.sas()
    assert name == b"log"
    assert event is not None
    assert (event["group"], event["level"], event["ikesa-name"]) == (b"IKE", b"0", b"rw")
    assert event["ikesa-uniqueid"].decode() == sa["uniqueid"]
    assert re.fullmatch(_SA_UP, event["msg"].decode())


def test_datagrams_are_shown_at_level_2_of_net_while_it_lasts(direct: Topology) -> None:
    with paired(Role.RESPONDER, direct, gateway="workers = 1") as pair:
        where = ("--state-dir", str(pair.cygnet.state_directory))
        assert pair.cygnet.cygnet("log", *where, "--level", "net=2") == "default=1 net=2\n"
        pair.set_up()
        ends = r"from 192\.0\.2\.2\[\d+\] to 192\.0\.2\.1\[500\] \(\d+ octets\)"
        assert re.search(rf"01\[NET\] received IKE_SA_INIT request 0 {ends}", pair.cygnet.log())
        assert re.search(r"01\[NET\] <rw\|\d+> sending IKE_AUTH response 1 from", pair.cygnet.log())
        assert pair.cygnet.cygnet("log", *where, "--level", "net=") == "default=1\n"
        shown = pair.cygnet.log().count("[NET]")
        pair.strongswan.terminate(ike="home")
        eventually(pair.is_bare)
        assert pair.cygnet.log().count("[NET]") == shown


def test_a_log_that_nobody_reads_delays_no_tunnel(direct: Topology, tmp_path: Path) -> None:
    """A named pipe, full to the brim; and the gateway ends in order all the same."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with paired(Role.RESPONDER, direct, gateway=f"log {{ file = {pipe}\n net = 3 }}") as pair:
            waits, before = _waiting(reader), -1
            while waits != before:
                pair.set_up()
                pair.strongswan.terminate(ike="home")
                eventually(pair.is_bare)
                waits, before = _waiting(reader), waits
            assert waits > 30_000, "it is full, though not each page of it"
            pair.set_up()
    finally:
        os.close(reader)


def _waiting(fd: int) -> int:
    """Octets in a pipe."""
    (octets,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))
    return int(octets)

"""`cygnet initiate`, `terminate`, `rekey`, `reload`, `sas` and `statusall`, on a daemon that is made up."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.cli.daemons import SAS, Daemon

from cygnet.cli.daemon_options import plain
from cygnet.cli.main import main
from cygnet.ike.errors import LocalError
from cygnet.vici.views import Algorithms, SaFilter

COMMANDS = (
    ("initiate", "net"),
    ("terminate", "rw"),
    ("rekey", "rw"),
    ("reload",),
    ("sas",),
    ("statusall",),
)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "vici") as daemon:
        yield daemon


class Shell:
    """Runs commands on the daemon."""

    def __init__(self, daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
        self._daemon = daemon
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """The status, and what was said on either output."""
        try:
            status = main([*arguments, "--vici", str(self._daemon.path)])
        except SystemExit as ended:
            assert isinstance(ended.code, int)
            status = ended.code
        out, err = self._capsys.readouterr()
        return status, out, err


@pytest.fixture
def cygnet(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(daemon, capsys)


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("initiate",), "the following arguments are required: NAME"),
            (("initiate", "net", "--timeout", "0"), '"0" is no time in seconds, above 0 and up to 86400'),
            (("initiate", "net", "--timeout", "soon"), '"soon" is no time in seconds'),
            (("terminate",), "which SAs? Give the NAME of a connection, or one of --child, "),
            (("terminate", "rw", "--ike", "rw"), "NAME is the same as --ike: give one of them"),
            (("terminate", "--ike-id", "x"), '"x" is no number of an SA, as `cygnet sas` shows them'),
            (("terminate", "rw", "--ike-id", "-1"), '"-1" is no number of an SA'),
            (("rekey", "--child-id", "0"), '"0" is no number of an SA'),
            (("sas", "--nonsense"), "unrecognized arguments: --nonsense"),
            (("rekey",), "which SAs? Give the NAME of a connection, or one of --child, "),
            (("rekey", "--peer", "nobody"), '"nobody" is no IP address'),
            (("reload", "now"), "unrecognized arguments: now"),
            (("sas", "--vip", "10.3.0.256"), '"10.3.0.256" is no IP address'),
            (("sas", "--vici", "tcp://127.0.0.1:4502"), '"tcp://127.0.0.1:4502" is no UNIX socket'),
            (("statusall", "rw"), "unrecognized arguments: rw"),
        ],
    )
    def test_wrong_usage_is_one_line_after_the_usage_and_status_2(
        self, arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (2, "")
        *usage, last = err.splitlines()
        assert usage[0].startswith("usage: cygnet")
        assert "error: " in last and says in last

    @pytest.mark.parametrize("arguments", COMMANDS, ids=lambda words: words[0])
    def test_no_gateway_is_one_line_and_status_1(
        self, arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([*arguments, "--state-dir", str(tmp_path)]) == 1
        out, err = capsys.readouterr()
        where = f"no gateway answers on {tmp_path / 'vici'}: No such file or directory"
        assert (out, err) == ("", f"cygnet {arguments[0]}: {where}; choose another with --vici or --state-dir\n")

    @pytest.mark.parametrize("form", ["{}", "unix://{}"])
    @pytest.mark.parametrize("option", ["--vici", "--uri"])
    def test_a_socket_is_named_as_a_path_or_as_swanctl_has_it(
        self, daemon: Daemon, option: str, form: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["sas", "--ike", "site", option, form.format(daemon.path)]) == 0
        assert capsys.readouterr().out.startswith("site #3 ")


class TestOrders:
    @pytest.mark.parametrize(
        ("arguments", "done", "says"),
        [
            (("initiate", "net"), ("initiate", "", "net"), "net is up\n"),
            (("initiate", "net", "--ike", "rw"), ("initiate", "rw", "net"), "net is up\n"),
            (("initiate", "rw", "--ike-only"), ("initiate", "rw", ""), "rw is up\n"),
            (("terminate", "rw"), ("terminate", SaFilter(ike="rw"), False), "2 ended\n"),
            (("terminate", "--ike", "rw", "--force"), ("terminate", SaFilter(ike="rw"), True), "2 ended\n"),
            (("terminate", "--child-id", "101"), ("terminate", SaFilter(child_id=101), False), "1 ended\n"),
            (("terminate", "--peer", "192.0.2.2"), ("terminate", SaFilter(peer="192.0.2.2"), False), "1 ended\n"),
            (("rekey", "rw"), ("rekey", SaFilter(ike="rw"), False), "2 to be rekeyed\n"),
            (("rekey", "--ike-id", "3", "--reauth"), ("rekey", SaFilter(ike_id=3), True), "1 to be rekeyed\n"),
            (("reload",), ("reload",), "the configuration is in force: connection rw changed; pool v6 added\n"),
        ],
    )
    def test_is_done_and_told(
        self, daemon: Daemon, cygnet: Shell, arguments: tuple[str, ...], done: object, says: str
    ) -> None:
        assert cygnet(*arguments) == (0, says, "")
        assert daemon.backend.done == [done]

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("initiate", "net"), "establishing CHILD_SA 'net' failed: no answer from the peer"),
            (("reload",), "no answer from the peer"),
            (("terminate", "rw"), "no answer from the peer"),
        ],
    )
    def test_a_failure_is_one_line_and_status_1(
        self, daemon: Daemon, cygnet: Shell, arguments: tuple[str, ...], says: str
    ) -> None:
        daemon.backend.fails = "no answer from the peer"
        assert cygnet(*arguments) == (1, "", f"cygnet {arguments[0]}: {says}\n")

    @pytest.mark.parametrize("command", ["terminate", "rekey"])
    def test_nobody_is_meant(self, cygnet: Shell, command: str) -> None:
        doing = "terminate" if command == "terminate" else "rekey"
        assert cygnet(command, "nobody") == (1, "", f"cygnet {command}: no matching SAs to {doing} found\n")

    def test_not_all_have_ended(self, daemon: Daemon, cygnet: Shell) -> None:
        daemon.backend.unfinished = 1
        assert cygnet("terminate", "rw") == (1, "", "cygnet terminate: 1 SAs are yet to be terminated\n")

    def test_a_time_limit(self, daemon: Daemon, cygnet: Shell) -> None:
        daemon.backend.hangs = True
        says = "cygnet initiate: CHILD_SA 'net' not established after 50ms\n"
        assert cygnet("initiate", "net", "--timeout", "0.05") == (1, "", says)

    def test_json(self, daemon: Daemon, cygnet: Shell) -> None:
        status, out, err = cygnet("terminate", "rw", "--json")
        assert (status, json.loads(out), err) == (0, {"success": "yes", "matches": "2", "terminated": "2"}, "")
        daemon.backend.fails = "no"
        status, out, err = cygnet("reload", "--json")
        assert (status, json.loads(out), err) == (1, {"success": "no", "errmsg": "no"}, "")

    def test_warnings_of_a_reload(self, daemon: Daemon, cygnet: Shell) -> None:
        daemon.backend.warnings = ("gw.conf:1:1: warning: so and so",)
        status, out, err = cygnet("reload")
        assert (status, err) == (0, "gw.conf:1:1: warning: so and so\n")
        assert out.startswith("the configuration is in force: ")

    def test_an_interrupt_ends_the_command_and_what_the_gateway_does_for_it(self, daemon: Daemon) -> None:
        daemon.backend.hangs = True
        words = [sys.executable, "-m", "cygnet", "initiate", "net", "--vici", str(daemon.path)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert daemon.backend.began.wait(20)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=20)
            finally:
                process.kill()
        assert (process.returncode, out, err) == (130, "", "")
        assert daemon.backend.given_up.wait(20)


class TestSas:
    @pytest.mark.parametrize(
        ("arguments", "numbers"),
        [
            ((), (1, 2, 3)),
            (("--ike", "rw"), (1, 2)),
            (("--ike", "site"), (3,)),
            (("--ike-id", "2"), (2,)),
            (("--child", "net"), (1, 2, 3)),
            (("--child-id", "103"), (3,)),
            (("--peer", "192.0.2.1"), (1,)),
            (("--peer", "2001:DB8:0::3"), (3,)),
            (("--identity", "c2@example.org"), (2,)),
            (("--identity", "branch.example.org", "--ike", "site"), (3,)),
            (("--vip", "10.3.0.2"), (2,)),
            (("--vip", "10.3.0.2", "--ike", "site"), ()),
        ],
    )
    def test_filters(self, cygnet: Shell, arguments: tuple[str, ...], numbers: tuple[int, ...]) -> None:
        status, out, err = cygnet("sas", "--json", *arguments)
        assert (status, err) == (0, "")
        assert [int(sa["uniqueid"]) for sa in json.loads(out)] == list(numbers)

    def test_the_lines_of_one(self, cygnet: Shell) -> None:
        assert cygnet("sas", "--ike-id", "1") == (
            0,
            "rw #1  ESTABLISHED  c1@example.org @ 192.0.2.1[4500] [10.3.0.1]\n"
            "    AES_GCM_16_128/PRF_HMAC_SHA2_256/CURVE_25519, 0101010101010101_i fefefefefefefefe_r, "
            "established 60 seconds ago\n"
            "  net #101  INSTALLED  10.1.0.0/24 === 10.3.0.1/32\n"
            "    AES_GCM_16_128, in 1 packets 84 B, out 1,234 packets 1,234,567 B\n",
            "",
        )

    def test_none(self, cygnet: Shell) -> None:
        assert cygnet("sas", "--ike", "nobody") == (0, "no SAs\n", "")
        assert cygnet("sas", "--ike", "nobody", "--json") == (0, "[]\n", "")

    def test_a_reader_that_has_enough_is_no_failure_of_the_gateway(self, daemon: Daemon) -> None:
        """As with `cygnet sas | head`."""
        daemon.list_many(2000)
        words = [sys.executable, "-m", "cygnet", "sas", "--vici", str(daemon.path)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.readline().startswith("rw #1 ")
            process.stdout.close()
            assert process.stderr.read() == ""
            assert process.wait(20) == 1

    def test_an_interrupt_in_the_midst_of_a_list(self, daemon: Daemon) -> None:
        daemon.backend.hangs = True
        words = [sys.executable, "-u", "-m", "cygnet", "sas", "--vici", str(daemon.path)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert daemon.backend.began.wait(20)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=20)
            finally:
                process.kill()
        assert (process.returncode, err) == (130, "")
        assert out.count("ESTABLISHED") <= len(SAS)


class TestRekey:
    def test_says_for_how_many_nothing_can_be_done_from_here(self, daemon: Daemon, cygnet: Shell) -> None:
        daemon.backend.unfinished = 1
        says = "1 to be rekeyed; not 1, which only their peers can authenticate anew\n"
        assert cygnet("rekey", "rw", "--reauth") == (0, says, "")


class TestStatusall:
    def test_says_what_the_gateway_says(self, cygnet: Shell) -> None:
        status, out, err = cygnet("statusall")
        assert (status, err) == (0, "")
        for line in (
            "  memory: 64 MiB in the workers",
            "  workers: 1 of 2 idle, 1/0/0/0 working, job queue: 1/2/3/4, scheduled: 17",
            "  loaded parts: cygnet",
            "  v4 (10.3.0.0): 254/3/0",
            "  192.0.2.1[4500]",
            "          rw:  %any...%any  IKEv2",
            "         net:   child:  10.1.0.0/24 === dynamic TUNNEL",
            "Security Associations (2 up, 1 connecting):",
            "        site[3]: ESTABLISHED 60 seconds ago, "
            "198.51.100.1[gw.example.org]...2001:db8::3[branch.example.org]",
            "         net{103}:  INSTALLED, TUNNEL, reqid 103, ESP in UDP SPIs: 01000003_i 02000003_o",
            "         net{103}:  AES_GCM_16_128, 84 bytes_i (1 pkt, 1s ago), 1234567 bytes_o (1234 pkts, 3s ago), "
            "rekeying in 50 minutes",
            "         net{103}:   10.1.0.0/24 === 10.3.0.3/32",
        ):
            assert line in out.splitlines(), out

    def test_json(self, cygnet: Shell) -> None:
        status, out, _ = cygnet("statusall", "--json")
        shown = json.loads(out)
        assert status == 0
        assert set(shown) == {"version", "stats", "pools", "connections", "traps", "sas"}
        assert shown["stats"]["queues"] == {"critical": "1", "high": "2", "medium": "3", "low": "4"}
        assert [sa["uniqueid"] for sa in shown["sas"]] == ["1", "2", "3"]

    def test_tasks_reauthentication_and_traps_are_shown(self, daemon: Daemon, cygnet: Shell) -> None:
        busy = msgspec.structs.replace(
            SAS[0], tasks_active=("IKE_REKEY",), tasks_queued=("CHILD_CREATE",), reauth_s=7200
        )
        daemon.backend.sas_up = (busy,)
        daemon.backend.trapped = {("rw", "net")}
        shown = cygnet("statusall")[1].splitlines()
        for line in (
            "          rw[1]: Tasks active: IKE_REKEY",
            "          rw[1]: Tasks queued: CHILD_CREATE",
            "Routed Connections:",
            "         net:  ROUTED, TUNNEL",
            "         net:   10.1.0.0/24 === dynamic",
        ):
            assert line in shown
        assert any(line.endswith("rekeying in 4 hours, reauthentication in 2 hours") for line in shown)

    def test_what_a_data_plane_does_not_know_leaves_no_gaps(self, daemon: Daemon, cygnet: Shell) -> None:
        [child] = SAS[0].children
        bare = msgspec.structs.replace(
            child, algorithms=Algorithms(), local_ts=(), remote_ts=(), packets_in=0, octets_in=0, used_in_s=None
        )
        daemon.backend.sas_up = (msgspec.structs.replace(SAS[0], children=(bare,)),)
        for command in ("statusall", "sas"):
            lines = cygnet(command)[1].splitlines()
            # Three spaces and a comma, or selectors of nothing.
            assert not [line for line in lines if line.endswith((" ", "==="))]
            assert not [line for line in lines if line.lstrip().startswith((",", "==="))]
        assert "         net{101}:  0 bytes_i, 1234567 bytes_o (1234 pkts, 3s ago), rekeying in 50 minutes" in (
            cygnet("statusall")[1].splitlines()
        )

    def test_of_a_gateway_without_anything(self, daemon: Daemon, cygnet: Shell) -> None:
        daemon.backend.sas_up = ()
        assert cygnet("statusall")[1].endswith("  none\n")


def test_what_another_daemon_does_not_tell_is_one_line() -> None:
    shown: Any = plain({"daemon": b"charon", "stats": {"uptime": {}}})
    with pytest.raises(LocalError, match='the answer has no "running": is it another daemon that answers'):
        shown["stats"]["uptime"]["running"]
    assert json.dumps(shown) == '{"daemon": "charon", "stats": {"uptime": {}}}'


@pytest.mark.parametrize("words", [("initiate", "\udcff"), ("sas", "--identity", "\udcff")])
def test_what_is_no_text_is_not_sent(
    daemon: Daemon, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert main([*words, "--vici", str(daemon.path)]) == 2
    assert capsys.readouterr() == ("", "cygnet: '\\udcff' is no UTF-8 text\n")

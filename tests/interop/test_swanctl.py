"""Debian's own swanctl, and strongSwan's Python client, drive our gateway as they drive charon."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import vici
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from tests import pki
from tests.interop.controlled import Controlled, RawSection
from tests.interop.cygnet_gateway import ESTABLISHED, Cygnet
from tests.interop.pairs import SERVER_INNER, Role, child_of, paired
from tests.interop.polling import eventually
from tests.interop.strongswan import StrongSwan, client_config, server_config
from tests.interop.topologies import Topology

EMPTY = "connections {\n}\n"


@contextmanager
def session(daemon: Controlled) -> Iterator[vici.Session]:
    """strongSwan's Python client on a control socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(daemon.vici_socket))
        yield vici.Session(connection)


# What is different from one daemon, or one run, to the next.
VOLATILE = {
    *("name", "uniqueid", "reqid", "initiator-spi", "responder-spi", "spi-in", "spi-out", "local-port", "remote-port"),
    *("established", "rekey-time", "reauth-time", "life-time", "install-time", "use-in", "use-out"),
    *("bytes-in", "bytes-out", "packets-in", "packets-out", "tasks-active", "tasks-queued", "tasks-passive"),
    *("encap", "nat-local", "nat-remote", "nat-fake", "nat-any"),
}
"""The last line because kernel-libipsec always encapsulates, and pretends to be behind a NAT for it."""


def steady(shown: RawSection) -> dict[str, object]:
    """A section without what differs from run to run, and without the numbers in the names of CHILD_SAs."""
    kept: dict[str, object] = {}
    for key, value in shown.items():
        if isinstance(value, dict):
            kept[re.sub(r"-\d+$", "", key) if key.startswith("net-") else key] = steady(value)
        elif key not in VOLATILE:
            kept[key] = value
    return kept


def test_lists_have_the_layout_of_strongswan_in_the_same_state(direct: Topology) -> None:
    """The same configuration, loaded by swanctl into both, one after the other; the same client; the same words."""
    config = server_config(
        proposals="aes128-sha256-x25519", esp_proposals="aes128gcm16", pools={"v4": "10.3.0.7-10.3.0.7"}
    )
    direct.server.add_address(f"{SERVER_INNER}/32")
    shown: list[tuple[object, object, set[str]]] = []
    responders: list[Controlled] = [
        StrongSwan("charon", direct.server, config),
        Cygnet(direct.server, EMPTY, "--workers", "1"),
    ]
    for responder in responders:
        with responder, StrongSwan("strongswan", direct.client, client_config(direct.server_address)) as client:
            (responder.directory / "swanctl.conf").write_text(config)
            responder.load()
            client.initiate("net")
            [ike_sa] = responder.sas()
            [connection] = responder.connections()
            shown.append((steady(ike_sa), steady(connection), set(child_of(ike_sa))))
    (sa, conn, child_keys), (our_sa, our_conn, our_child_keys) = shown
    assert our_sa == sa
    assert our_conn == conn
    # use-out is the time of the last packet that went out, and there was none that told us.
    assert our_child_keys == child_keys - {"use-out"}


def test_an_ike_sa_that_is_being_set_up_is_shown_as_by_strongswan(direct: Topology) -> None:
    """With nobody there. Of the tasks those are shown that are done here; charon has more of them."""
    config = client_config("192.0.2.77")
    shown: list[tuple[dict[str, object], list[str]]] = []
    initiators: list[Controlled] = [
        StrongSwan("charon", direct.client, config),
        Cygnet(direct.client, EMPTY, "--workers", "1"),
    ]
    for initiator in initiators:
        with initiator:
            (initiator.directory / "swanctl.conf").write_text(config)
            initiator.load()
            initiator.swanctl("--initiate", "--child", "net", "--timeout", "-1")
            [ike_sa] = initiator.sas()
            tasks = ike_sa["tasks-active"]
            assert isinstance(tasks, list)
            # charon does not know its own address before there is an answer.
            shown.append(({k: v for k, v in steady(ike_sa).items() if k != "local-host"}, tasks))
            assert "terminate completed" in initiator.swanctl("--terminate", "--ike", "home")
            assert initiator.sas() == []
    (theirs, their_tasks), (ours, our_tasks) = shown
    assert ours == theirs
    assert [task for task in their_tasks if task in our_tasks] == our_tasks == ["IKE_INIT", "IKE_AUTH", "CHILD_CREATE"]


def test_everything_is_loaded_shown_and_unloaded(direct: Topology) -> None:
    with Cygnet(direct.server, EMPTY) as cygnet:
        (cygnet.directory / "swanctl.conf").write_text(server_config(pools={"v4": "10.3.0.0/24", "v6": "fd00:3::/112"}))
        loaded = cygnet.swanctl("--load-all", "--noprompt")
        assert "successfully loaded 1 connections, 0 unloaded" in loaded
        assert "successfully loaded 2 pools, 0 unloaded" in loaded
        assert "rw: IKEv2" in cygnet.swanctl("--list-conns")
        pools = cygnet.swanctl("--list-pools")
        assert re.search(r"v4 +10\.3\.0\.0 +0 / 0 / 254", pools)
        assert re.search(r"v6 +fd00:3:: +0 / 0 / ", pools)
        (cygnet.directory / "swanctl.conf").write_text(EMPTY)
        cygnet.swanctl("--load-all", "--noprompt")
        assert cygnet.swanctl("--list-conns") == cygnet.swanctl("--list-pools") == ""


def test_each_kind_is_loaded_by_a_command_of_its_own(direct: Topology) -> None:
    with Cygnet(direct.server, EMPTY) as cygnet:
        (cygnet.directory / "swanctl.conf").write_text(server_config(pools={"v4": "10.3.0.0/24"}))
        assert "loaded ike secret" in cygnet.swanctl("--load-creds", "--noprompt")
        assert cygnet.swanctl("--list-conns") == cygnet.swanctl("--list-pools") == ""
        assert "successfully loaded 1 pools, 0 unloaded" in cygnet.swanctl("--load-pools")
        assert cygnet.swanctl("--list-conns") == ""
        assert "successfully loaded 1 connections, 0 unloaded" in cygnet.swanctl("--load-conns")
        assert "rw: IKEv2" in cygnet.swanctl("--list-conns")
        assert "v4" in cygnet.swanctl("--list-pools")
        (cygnet.directory / "swanctl.conf").write_text(EMPTY)
        assert "1 unloaded" in cygnet.swanctl("--load-conns")
        assert cygnet.swanctl("--list-conns") == ""
        assert "v4" in cygnet.swanctl("--list-pools")


def test_authorities_are_loaded_listed_and_unloaded(direct: Topology) -> None:
    config = EMPTY + "authorities { a { file = /etc/ca.pem\n crl_uris = http://a/crl, http://b/crl\n } }"
    with Cygnet(direct.server, EMPTY) as cygnet:
        (cygnet.directory / "swanctl.conf").write_text(config)
        assert "loaded authority 'a'" in cygnet.swanctl("--load-all", "--noprompt")
        listed = cygnet.swanctl("--list-authorities")
        assert re.search(
            r"^a:\n +cacert: /etc/ca\.pem\n +crl_uris: +http://a/crl\n +http://b/crl$", listed, re.MULTILINE
        )
        (cygnet.directory / "swanctl.conf").write_text(EMPTY)
        cygnet.swanctl("--load-authorities")
        assert cygnet.swanctl("--list-authorities") == ""


def test_credentials_are_listed_as_charon_lists_them(direct: Topology) -> None:
    """The same files, loaded by the same swanctl into both; its replies are the same too, but for our warnings."""
    root = pki.authority()
    gateway = root.issue("gw", dns="gw.example.org")
    files = {
        "x509/gw.pem": gateway.pem,
        "x509ca/root.pem": root.pem,
        "x509crl/root.pem": root.revocation_list(),
        "pubkey/gw.pem": gateway.public_octets(),
        "private/gw.pem": gateway.key_octets(),
    }
    config = EMPTY + "authorities { a { cacert = root.pem\n crl_uris = http://a/crl } }"
    shown: list[list[str]] = []
    daemons: list[Controlled] = [
        StrongSwan("charon", direct.server, EMPTY),
        Cygnet(direct.server, EMPTY, "--workers", "1"),
    ]
    for daemon in daemons:
        with daemon:
            (daemon.directory / "swanctl.conf").write_text(config)
            for name, content in files.items():
                (daemon.directory / name).parent.mkdir(exist_ok=True)
                (daemon.directory / name).write_bytes(content)
            replies = [daemon.swanctl("--load-creds", "--raw"), daemon.swanctl("--load-authorities", "--raw")]
            lists = [("--list-certs",), ("--list-certs", "--pem"), ("--list-certs", "--type", "x509", "--flag", "ca")]
            lists += [("--list-certs", "--subject", "gw.example.org"), ("--list-authorities",), ("--flush-certs",)]
            replies += [daemon.swanctl(*arguments, *raw) for arguments in lists for raw in ((), ("--raw",))]
            # Keys whose files are gone are unloaded, and certificates when all are cleared.
            (daemon.directory / "private/gw.pem").unlink()
            replies += [daemon.swanctl("--load-creds", "--raw"), daemon.swanctl("--list-certs", "--raw")]
            for name in files:
                (daemon.directory / name).unlink(missing_ok=True)
            replies += [daemon.swanctl("--load-creds", "--clear", "--raw"), daemon.swanctl("--list-certs", "--raw")]
            shown.append([re.sub(r" warnings=\[.*\]\}", "}", reply) for reply in replies])
    ours, theirs = shown[1], shown[0]
    assert ours == theirs


class BesideItsFiles(Cygnet):
    """Its configuration is `swanctl.conf`, in the folder that has the others."""

    @property
    def config_path(self) -> Path:
        return self.directory / "swanctl.conf"


def test_what_lies_beside_swanctl_conf_is_listed_without_swanctl_having_loaded_it(direct: Topology) -> None:
    """As it is by charon when its swanctl has loaded it, whose secrets have the passwords."""
    root = pki.authority()
    gateway, other = root.issue("gw", dns="gw.example.org"), root.issue("other")
    locked = BestAvailableEncryption(b"open sesame")
    files = {
        "x509/gw.pem": gateway.pem,
        "x509ca/root.pem": root.pem,
        "x509crl/root.pem": root.revocation_list(),
        "pubkey/gw.pem": gateway.public_octets(),
        "private/gw.pem": gateway.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked),
        "pkcs12/other.p12": serialize_key_and_certificates(b"o", other.key, other.certificate, None, locked),
    }
    config = EMPTY + "authorities { a { cacert = root.pem\n crl_uris = http://a/crl } }\nsecrets {\n"
    for section, file in (("private-gw", "gw.pem"), ("pkcs12-other", "other.p12")):
        config += f"{section} {{ file = {file}\n secret = open sesame\n }}\n"
    config += "}\n"
    asked = [("--list-certs",), ("--list-certs", "--raw"), ("--list-authorities",)]
    shown: list[list[str]] = []
    daemons: list[StrongSwan | Cygnet] = [
        StrongSwan("charon", direct.server, config, files=files),
        BesideItsFiles(direct.server, config, "--workers", "1"),
    ]
    for daemon in daemons:
        with daemon:
            if isinstance(daemon, StrongSwan):
                daemon.swanctl("--load-all", "--noprompt")
            else:
                for name, content in files.items():
                    (daemon.directory / name).parent.mkdir(exist_ok=True)
                    (daemon.directory / name).write_bytes(content)
                daemon.cygnet("reload", "--state-dir", str(daemon.state_directory))
            shown.append([daemon.swanctl(*arguments) for arguments in asked])
            if not isinstance(daemon, StrongSwan):
                (daemon.directory / "x509/gw.pem").unlink()
                daemon.cygnet("reload", "--state-dir", str(daemon.state_directory))
                assert "CN=gw" not in daemon.swanctl("--list-certs", "--type", "x509")
    theirs, ours = shown
    assert ours == theirs
    assert "has private key" in ours[0]


def _has_counted(daemon: Controlled, name: str) -> bool:
    return re.search(rf"{name} +: 1", daemon.swanctl("--counters")) is not None


def test_counters_are_charons(direct: Topology) -> None:
    """The same messages, counted by both: for the daemon, for the connection, and after a reset of some or all."""
    config = server_config(proposals="aes128-sha256-x25519", esp_proposals="aes128gcm16")
    direct.server.add_address(f"{SERVER_INNER}/32")
    shown: list[list[str]] = []
    responders: list[Controlled] = [
        StrongSwan("charon", direct.server, config),
        Cygnet(direct.server, config, "--workers", "2"),
    ]
    asked = [(), ("--all",), ("--name", "rw"), ("--name", "nope")]
    resets = [("--name", "nope"), ("--name", "rw"), (), ("--all",)]
    for responder in responders:
        with responder, StrongSwan("strongswan", direct.client, client_config(direct.server_address)) as client:
            seen = [responder.swanctl("--counters", "--all", "--raw")]
            client.initiate("net")
            client.rekey(child="net")
            eventually(partial(_has_counted, responder, "create-child-out-resp"))
            client.terminate(ike="home")
            for reset in resets:
                seen += [responder.swanctl("--counters", *which, "--raw") for which in asked]
                seen.append(responder.swanctl("--counters", "--reset", *reset, "--raw"))
            seen += [responder.swanctl("--counters", *which, "--raw") for which in asked]
            shown.append(seen)
    theirs, ours = shown
    assert ours == theirs


def test_what_pools_tell_is_loaded_shown_and_told(direct: Topology) -> None:
    """charon as the client logs each attribute that it does not know what to do with."""
    config = server_config(pools={"v4": "10.3.0.0/24"})
    config = config.replace("10.3.0.0/24", "10.3.0.0/24\n dns = 10.1.0.53\n subnet = 10.1.0.0/16\n 25 = example.org")
    direct.server.add_address(f"{SERVER_INNER}/32")
    with (
        Cygnet(direct.server, EMPTY) as cygnet,
        StrongSwan("strongswan", direct.client, client_config(direct.server_address)) as client,
    ):
        (cygnet.directory / "swanctl.conf").write_text(config)
        cygnet.load()
        shown = cygnet.swanctl("--list-pools", "--raw")
        assert "dns=[10.1.0.53] subnet=[10.1.0.0/16] 25=[example.org]" in shown
        client.initiate("net")
        assert "CPRP(ADDR DNS SUBNET DOMAIN)" in client.log()


def test_what_can_not_be_loaded_is_refused_by_name(direct: Topology) -> None:
    config = server_config(connection="ppk_required = yes")
    with Cygnet(direct.server, EMPTY) as cygnet:
        (cygnet.directory / "swanctl.conf").write_text(config)
        with pytest.raises(AssertionError, match=r"ppk_required in connections\.rw is refused"):
            cygnet.load()
        assert cygnet.swanctl("--list-conns") == ""


@pytest.mark.parametrize(
    ("arguments", "shows"),
    [
        (("--version",), r"strongSwan swanctl"),
        (("--version", "--daemon"), r"cygnet|strongSwan"),
        (("--stats",), r"IKE_SAs: 1 total, 0 half-open"),
        (("--stats",), r"^worker threads: (\d+) total, \1 idle, working: 0/0/0/0$"),
        (("--stats",), r"^job queues: 0/0/0/0$"),
        (("--stats",), r"^IKE_SAs: 1 total, 0 half-open\nloaded plugins: cygnet$"),
        (("--stats", "--raw"), r"ikesas \{total=1 half-open=0\}"),
        (("--list-algs",), r"AES_GCM_16\[openssl\]"),
        (("--list-sas", "--pretty"), r"state = ESTABLISHED"),
        (("--list-sas", "--ike", "rw"), r"rw: #\d+, ESTABLISHED, IKEv2"),
        (("--list-sas", "--ike", "other"), r"^$"),
        (("--list-pools", "--leases"), r"10\.3\.0\.\d+ +online +'carol@example\.org'"),
        (("--list-certs",), r"^$"),
        (("--list-authorities",), r"^$"),
        (("--list-pols",), r"^$"),
        (("--counters",), r"ike-auth-in-req +: 1"),
        (("--counters", "--name", "rw"), r"^rw:(\n  .*)*\n  ike-auth-out-resp +: 1$"),
        (("--counters", "--reset"), r"reset"),
        (("--flush-certs",), r"^$"),
        (("--reload-settings",), r"^$"),
    ],
)
def test_swanctl_shows(one_tunnel: Cygnet, arguments: tuple[str, ...], shows: str) -> None:
    assert re.search(shows, one_tunnel.swanctl(*arguments), re.MULTILINE)


def test_swanctl_shows_how_many_timers_are_set(one_tunnel: Cygnet) -> None:
    """Which a worker notes once a second."""
    eventually(lambda: re.search(r"^jobs scheduled: [1-9]\d*$", one_tunnel.swanctl("--stats"), re.MULTILINE))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--redirect", "--ike", "rw", "--gateway", "192.0.2.1"), "RFC 5685"),
        (("--redirect", "--ike", "nonsense", "--gateway", "192.0.2.1"), "no matching SAs to redirect found"),
        (("--redirect", "--ike", "rw"), "missing target gateway"),
        (("--install", "--child", "net"), "no single address to connect to"),
        (("--install", "--child", "nonsense"), "install failed: configuration name not found"),
        (("--uninstall", "--child", "net"), "policy 'net' not found"),
        (("--initiate", "--child", "nonsense"), "initiate failed: CHILD_SA config 'nonsense' not found"),
        (("--terminate", "--ike", "nonsense"), "no matching SAs to terminate found"),
        (("--rekey", "--ike", "nonsense"), "no matching SAs to rekey found"),
    ],
)
def test_swanctl_is_told_why_not(one_tunnel: Cygnet, arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        one_tunnel.swanctl(*arguments)


@pytest.fixture(scope="module")
def one_tunnel(module_direct: Topology) -> Iterator[Cygnet]:
    """A gateway with one tunnel up."""
    module_direct.server.add_address(f"{SERVER_INNER}/32")
    with (
        Cygnet(module_direct.server, server_config()) as cygnet,
        StrongSwan("strongswan", module_direct.client, client_config(module_direct.server_address)) as client,
    ):
        client.initiate("net")
        yield cygnet


def test_terminate_by_number_and_by_name(direct: Topology) -> None:
    with paired(Role.RESPONDER, direct) as pair:
        for how in ("number", "name", "child"):
            pair.set_up()
            [ike_sa] = pair.cygnet.sas()
            if how == "number":
                pair.cygnet.swanctl("--terminate", "--ike-id", str(ike_sa["uniqueid"]))
            elif how == "name":
                pair.cygnet.swanctl("--terminate", "--ike", "rw", "--force")
            else:
                pair.cygnet.swanctl("--terminate", "--child-id", str(child_of(ike_sa)["uniqueid"]))
                assert pair.cygnet.sas()[0]["child-sas"] == {}
                pair.cygnet.swanctl("--terminate", "--ike", "rw")
            eventually(pair.is_bare)


def test_initiate_and_see_it_in_the_monitor(direct: Topology) -> None:
    """The Python client hears of the IKE_SA and the CHILD_SA that swanctl has set up, and of their end."""
    direct.server.add_address(f"{SERVER_INNER}/32")
    with (
        StrongSwan("strongswan", direct.server, server_config()),
        Cygnet(direct.client, client_config(direct.server_address)) as cygnet,
        session(cygnet) as client,
    ):
        events = client.listen(["ike-updown", "child-updown"], timeout=0.2)
        with pytest.raises(AssertionError, match="not found"):
            cygnet.swanctl("--initiate", "--child", "other", "--ike", "home")
        # It registers, and then waits in vain for as long as its timeout says.
        assert next(events) == (None, None)
        cygnet.initiate("net", ike="home")
        assert cygnet.count(ESTABLISHED) == 1
        cygnet.terminate(ike="home")
        seen: list[tuple[str, bool]] = []

        def has_seen_all() -> bool:
            name, message = next(events)
            if name is not None:
                seen.append((name.decode(), message.get("up") == b"yes"))
            return len(seen) >= 4

        eventually(has_seen_all, what="there are four events")
        events.close()
    assert seen == [
        ("ike-updown", True),
        ("child-updown", True),
        ("child-updown", False),
        ("ike-updown", False),
    ]


def test_the_python_client_lists_and_loads(one_tunnel: Cygnet) -> None:
    with session(one_tunnel) as client:
        assert client.version()["daemon"] == b"cygnet"
        assert client.get_conns() == {"conns": [b"rw"]}
        [sas] = client.list_sas()
        assert sas["rw"]["remote-id"] == b"carol@example.org"
        client.load_shared({"id": "extra", "type": "IKE", "data": "secret", "owners": ["x@example.org"]})
        assert b"extra" in client.get_shared()["keys"]
        client.unload_shared({"id": "extra"})
        with pytest.raises(vici.exception.CommandException, match="EAP"):
            client.load_shared({"type": "EAP", "data": "secret", "owners": ["x@example.org"]})


MISTAKES: list[tuple[str, dict[str, str]]] = [
    ("unload-conn", {}),
    ("unload-conn", {"name": "nope"}),
    ("unload-pool", {}),
    ("unload-pool", {"name": "nope"}),
    ("load-shared", {}),
    ("load-shared", {"type": "nope", "data": "x"}),
    ("load-shared", {"type": "ike"}),
    ("unload-shared", {}),
    ("unload-shared", {"id": "nope"}),
    ("load-key", {"data": "x"}),
    ("load-key", {"type": "rsa", "data": "x"}),
    ("unload-key", {"id": "nope"}),
    ("load-cert", {"data": "x"}),
    ("load-cert", {"type": "X509", "data": "x"}),
    ("unload-authority", {"name": "nope"}),
    ("flush-certs", {"type": "nope"}),
    ("initiate", {}),
    ("initiate", {"child": "nope"}),
    ("initiate", {"ike": "nope", "child": "net"}),
    ("terminate", {}),
    ("terminate", {"ike": "nope"}),
    ("rekey", {}),
    ("rekey", {"child": "nope"}),
    ("redirect", {"ike": "rw"}),
    ("redirect", {"gateway": "192.0.2.1"}),
    ("install", {}),
    ("install", {"child": "nope"}),
    ("uninstall", {"child": "nope"}),
    ("get-counters", {"name": "nope"}),
]


def test_the_python_client_is_told_of_a_mistake_in_strongswans_words(direct: Topology) -> None:
    said: list[list[str]] = []
    daemons: list[Controlled] = [
        StrongSwan("charon", direct.server, server_config()),
        Cygnet(direct.server, server_config(), "--workers", "1"),
    ]
    for daemon in daemons:
        with daemon, session(daemon) as client:
            if isinstance(daemon, StrongSwan):
                daemon.load()
            said.append([f"{command} {message}: {_answer(client, command, message)}" for command, message in MISTAKES])
    theirs, ours = said
    assert ours == theirs


def _answer(client: vici.Session, command: str, message: dict[str, str]) -> str:
    try:
        client.request(command, message)
    except vici.exception.CommandException as exc:
        return str(exc)
    return "done"


def test_a_pool_in_use_stays(one_tunnel: Cygnet) -> None:
    with session(one_tunnel) as client:
        with pytest.raises(vici.exception.CommandException, match="1 online leases"):
            client.unload_pool({"name": "v4"})
        with pytest.raises(vici.exception.CommandException, match="1 online leases"):
            client.load_pool({"v4": {"addrs": "10.4.0.0/24"}})
        client.load_pool({"v4": {"addrs": "10.3.0.0/24", "dns": ["10.1.0.53"]}})
        client.load_pool({"more": {"addrs": "10.5.0.0/24"}})
        with pytest.raises(vici.exception.CommandException, match="overlap"):
            client.load_pool({"other": {"addrs": "10.5.0.128/25"}})
        client.unload_pool({"name": "more"})
        assert list(client.get_pools({})) == ["v4"]


def test_a_reload_takes_the_file_as_a_whole_or_not_at_all(direct: Topology) -> None:
    with paired(Role.RESPONDER, direct) as pair, session(pair.cygnet) as client:
        pair.set_up()
        good = pair.cygnet.config_path.read_text()
        pair.cygnet.config_path.write_text(good.replace("local_ts = 10.1.0.0/24", "local_ts = 10.1.0.0/240"))
        with pytest.raises(vici.exception.CommandException, match=r"10\.1\.0\.0/240"):
            client.request("reload")
        assert client.get_conns() == {"conns": [b"rw"]}
        pair.cygnet.config_path.write_text(good.replace("    rw {", "    renamed {"))
        client.request("reload")
        assert client.get_conns() == {"conns": [b"renamed"]}
        # What stands stays, and what comes next is of the new configuration.
        assert [sa["name"] for sa in pair.cygnet.sas()] == ["rw"]
        pair.strongswan.terminate(ike="home")
        eventually(pair.is_bare)
        pair.strongswan.initiate("net")
        assert [sa["name"] for sa in pair.cygnet.sas()] == ["renamed"]


def test_our_own_commands(one_tunnel: Cygnet) -> None:
    def cygnet(*arguments: str) -> str:
        return one_tunnel.cygnet(*arguments, "--state-dir", str(one_tunnel.state_directory))

    shown = cygnet("sas", "--ike", "rw")
    assert re.search(
        r"^rw #\d+  ESTABLISHED  carol@example\.org @ [\d.]+\[\d+\] \[10\.3\.0\.\d+\]$", shown, re.MULTILINE
    )
    assert re.search(r"^  net #\d+  INSTALLED  10\.1\.0\.0/24 === 10\.3\.0\.\d+/32$", shown, re.MULTILINE)
    assert cygnet("sas", "--identity", "dave@example.org") == "no SAs\n"
    [sa] = json.loads(cygnet("sas", "--json", "--identity", "carol@example.org"))
    assert (sa["name"], sa["state"], next(iter(sa["child-sas"]))[:4]) == ("rw", "ESTABLISHED", "net-")
    status = cygnet("statusall")
    for line in (
        r"^Status of IKE cygnet daemon \(cygnet [\d.]+, Linux .*\):$",
        r"^  uptime: \d+ seconds?, since ",
        r"^  memory: \d+ MiB in the workers$",
        r"^  workers: (\d+) of \1 idle, 0/0/0/0 working, job queue: 0/0/0/0, scheduled: \d+$",
        r"^  loaded parts: cygnet$",
        r"^  0\.0\.0\.0\[500\]$",
        r"^  v4 \(10\.3\.0\.0\): 254/1/0$",
        r"^ +rw:  %any\.\.\.%any  IKEv2$",
        r"^ +net:   child:  10\.1\.0\.0/24 === dynamic TUNNEL$",
        r"^Security Associations \(1 up, 0 connecting\):$",
        r"^ +rw\[\d+\]: ESTABLISHED .* ago, .*\[gw\.example\.org\]\.\.\..*\[carol@example\.org\]$",
    ):
        assert re.search(line, status, re.MULTILINE), line
    assert "the configuration is in force" in cygnet("reload")


def test_what_is_loaded_is_started(direct: Topology) -> None:
    """`start_action = start`, as with strongSwan; loading the same again begins nothing."""
    direct.server.add_address(f"{SERVER_INNER}/32")
    with StrongSwan("strongswan", direct.server, server_config()), Cygnet(direct.client, EMPTY) as cygnet:
        config = client_config(direct.server_address, child="start_action = start")
        (cygnet.directory / "swanctl.conf").write_text(config)
        cygnet.load()
        eventually(lambda: cygnet.established == 1)
        cygnet.load()
        cygnet.initiate("net")
        assert cygnet.count("ike_sas_established_total") == 1

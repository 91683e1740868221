"""Scripts for CHILD_SAs: what strongSwan's are told of a tunnel, ours are told of the same one."""

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.interop.controlled import Controlled
from tests.interop.cygnet_gateway import Cygnet
from tests.interop.pairs import SERVER_INNER
from tests.interop.polling import eventually
from tests.interop.strongswan import StrongSwan, client_config, server_config
from tests.interop.topologies import Topology

ANY_NUMBER = ("PLUTO_REQID", "PLUTO_UNIQUEID")
OF_THE_SHELL = ("PATH", "PWD", "OLDPWD", "SHLVL", "_")
POOLS = {
    "v4": "10.3.0.7-10.3.0.7\n        dns = 10.1.0.53, 10.1.0.54",
    "v6": "fd00:3::7-fd00:3::7\n        dns = fd00:1::53",
}


class Recorder:
    """Scripts that write down their environment, one file for each run of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def script(self, who: str) -> str:
        """A line of a child's section."""
        file = f"{self.folder}/{who}-$PLUTO_VERB-$PLUTO_MY_PROTOCOL-$PLUTO_PEER_PROTOCOL"
        return f'updown = "env > {file}.new && echo recorded && mv {file}.new {file}"'

    def runs(self, who: str) -> dict[str, dict[str, str]]:
        """What it was told, by its verb and the protocols of its selectors, without what differs from run to run."""
        return {
            file.name.removeprefix(f"{who}-"): _steady(file.read_text())
            for file in self.folder.glob(f"{who}-*")
            if file.suffix != ".new"
        }


def _steady(text: str) -> dict[str, str]:
    variables = dict(line.split("=", 1) for line in text.splitlines())
    for name in ANY_NUMBER:
        assert int(variables.pop(name)) > 0
    return {name: value for name, value in variables.items() if name not in OF_THE_SHELL}


@contextmanager
def tunnel(
    topology: Topology, recorder: Recorder, *, server: str, client: str, address: str, selectors: str
) -> Iterator[Cygnet | None]:
    """Both ends, each `cygnet` or `strongswan`, with the scripts `<server>-responds` and `<client>-initiates`."""
    server_text = server_config(pools=POOLS, local_ts=selectors, child=recorder.script(f"{server}-responds"))
    child = recorder.script(f"{client}-initiates") + "\nhostaccess = yes"
    client_text = client_config(address, virtual_ips="0.0.0.0, ::", remote_ts=selectors, child=child)
    handler = {"plugins": {"updown": {"dns_handler": True}}}
    with ExitStack() as stack:
        responder: Controlled = (
            Cygnet(topology.server, server_text, "--workers", "1", label="server")
            if server == "cygnet"
            else StrongSwan("server", topology.server, server_text)
        )
        initiator: Controlled = (
            Cygnet(topology.client, client_text, label="client")
            if client == "cygnet"
            else StrongSwan("client", topology.client, client_text, settings=handler)
        )
        stack.enter_context(responder)
        stack.enter_context(initiator)
        initiator.initiate("net")
        yield next((each for each in (responder, initiator) if isinstance(each, Cygnet)), None)
        initiator.terminate(ike="home")
        for who in (f"{server}-responds", f"{client}-initiates"):
            eventually(lambda who=who: _is_complete(recorder.runs(who), selectors.count(",") + 1))  # type: ignore[misc]


def _is_complete(runs: dict[str, dict[str, str]], pairs: int) -> bool:
    """Whether it was told of the beginning and of the end of each pair of selectors."""
    verbs = [each["PLUTO_VERB"].partition("-")[0] for each in runs.values()]
    return verbs.count("up") == verbs.count("down") == pairs


@pytest.mark.parametrize("role", ["responds", "initiates"])
@pytest.mark.parametrize(
    ("family", "selectors"),
    [
        (4, "10.1.0.0/24"),
        (6, "10.1.0.0/24"),
        (4, "10.1.0.0/24, fd00:1::/64"),
        (4, "10.1.0.0/24[tcp/443], 10.1.0.0/25[udp/1000-2000], 10.1.0.1/32[icmp/8]"),
    ],
)
def test_our_scripts_are_told_what_strongswans_are(
    direct: Topology, tmp_path: Path, role: str, family: int, selectors: str
) -> None:
    recorder = Recorder(tmp_path)
    direct.server.add_address(f"{SERVER_INNER}/32")
    direct.server.add_address("fd00:1::1/128")
    address = direct.server_address if family == 4 else direct.server_address_v6
    both = functools.partial(tunnel, direct, recorder, address=address, selectors=selectors)
    with both(server="strongswan", client="strongswan"):
        pass
    theirs = recorder.runs(f"strongswan-{role}")
    ends = {"responds": ("cygnet", "strongswan"), "initiates": ("strongswan", "cygnet")}[role]
    with both(server=ends[0], client=ends[1]) as cygnet:
        assert cygnet is not None
        eventually(lambda: "[CHD] <" in cygnet.log() and "updown: recorded" in cygnet.log())
    ours = recorder.runs(f"cygnet-{role}")
    # charon names no interface with kernel-libipsec.
    interfaces = {told.pop("PLUTO_INTERFACE") for told in ours.values()}
    assert {told.pop("PLUTO_INTERFACE") for told in theirs.values()} <= {*interfaces, "unknown"}
    assert interfaces == {"to-client" if role == "responds" else "to-server"}
    assert ours == theirs


def test_a_script_that_hangs_delays_no_tunnel(direct: Topology) -> None:
    direct.server.add_address(f"{SERVER_INNER}/32")
    config = server_config(child='updown = "sleep 1000"') + "gateway { updown_timeout = 1s }\n"
    with (
        Cygnet(direct.server, config) as cygnet,
        StrongSwan("client", direct.client, client_config(direct.server_address)) as client,
    ):
        for _ in range(2):
            client.initiate("net")
            assert cygnet.established == 1
            client.terminate(ike="home")
        cygnet.await_count('scripts_total{result="killed"}', 4, timeout_s=15)
        assert "is killed after 1 s" in cygnet.log()

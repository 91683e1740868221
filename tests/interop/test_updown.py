"""Scripts for CHILD_SAs: what strongSwan's are told of a tunnel, ours are told of the same one."""

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
POOL = {"v4": "10.3.0.7-10.3.0.7\n        dns = 10.1.0.53"}


class Recorder:
    """Scripts that write down their environment, one file for each run of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def script(self, who: str) -> str:
        """A line of a child's section."""
        file = f"{self.folder}/{who}-$PLUTO_VERB"
        return f'updown = "env > {file}.new && echo recorded && mv {file}.new {file}"'

    def runs(self, who: str) -> dict[str, dict[str, str]]:
        """What it was told, by its verb; without what differs from one daemon, or one run, to the next."""
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
def tunnel(topology: Topology, recorder: Recorder, *, server: str, client: str) -> Iterator[Cygnet | None]:
    """Both ends, each `cygnet` or `strongswan`, with the scripts `<server>-responds` and `<client>-initiates`."""
    server_text = server_config(pools=POOL, child=recorder.script(f"{server}-responds"))
    child = recorder.script(f"{client}-initiates") + "\nhostaccess = yes"
    client_text = client_config(topology.server_address, child=child)
    handler = {"plugins": {"updown": {"dns_handler": True}}}
    with ExitStack() as stack:
        responder: Controlled = (
            Cygnet(topology.server, server_text, label="server")
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
            eventually(lambda who=who: set(recorder.runs(who)) == {"up-client", "down-client"})  # type: ignore[misc]


@pytest.mark.parametrize("role", ["responds", "initiates"])
def test_our_scripts_are_told_what_strongswans_are(direct: Topology, tmp_path: Path, role: str) -> None:
    recorder = Recorder(tmp_path)
    direct.server.add_address(f"{SERVER_INNER}/32")
    with tunnel(direct, recorder, server="strongswan", client="strongswan"):
        pass
    theirs = recorder.runs(f"strongswan-{role}")
    ends = {"responds": ("cygnet", "strongswan"), "initiates": ("strongswan", "cygnet")}[role]
    with tunnel(direct, recorder, server=ends[0], client=ends[1]) as cygnet:
        assert cygnet is not None
        eventually(lambda: "[CHD] <" in cygnet.log() and "updown: recorded" in cygnet.log())
    ours = recorder.runs(f"cygnet-{role}")
    # charon names no interface with kernel-libipsec.
    interfaces = {told.pop("PLUTO_INTERFACE") for told in ours.values()}
    assert {told.pop("PLUTO_INTERFACE") for told in theirs.values()} <= {*interfaces, "unknown"}
    assert interfaces == {"to-client" if role == "responds" else "to-server"}
    assert ours == theirs
    assert theirs["up-client"]["PLUTO_ME"] == (direct.server_address if role == "responds" else direct.client_address)


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

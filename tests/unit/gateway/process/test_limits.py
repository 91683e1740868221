import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.gateway.commands.clients import loopback_gateway, responder_settings

from cygnet.config.gateway_settings import GatewaySettings
from cygnet.gateway.embedded import GatewayProcess
from cygnet.gateway.process import limits
from cygnet.gateway.process.limits import (
    OWN_DESCRIPTORS,
    Facts,
    descriptors_needed,
    find,
    raise_descriptors,
    survey_machine,
    workers_that_fit,
)
from cygnet.ike.settings import AdmissionSettings, Settings
from cygnet.net import sockets

MIB = 1 << 20
ENOUGH = Facts(
    workers_asked=4,
    workers=4,
    cores=4,
    descriptors_needed=100,
    descriptors=100,
    has_steering=True,
    receive_buffer_asked=8 * MIB,
    receive_buffer=8 * MIB,
    memory_needed=600 * MIB,
    memory=600 * MIB,
    memory_source="machine",
    tunnels=60_000,
)


def test_where_all_is_met_there_is_nothing_to_say() -> None:
    assert find(ENOUGH) == ()


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        pytest.param(
            {"receive_buffer": 212_992},
            "receive buffer of a socket: 208 KiB instead of 8 MiB; run it as root or with CAP_NET_ADMIN, or "
            "`sysctl -w net.core.rmem_max=8388608`",
            id="rmem_max",
        ),
        pytest.param(
            {"descriptors": 99, "workers": 3},
            "file descriptors: 99 and so 3 workers instead of 100 for 4 workers; raise the hard limit: LimitNOFILE=100 "
            "in the unit, or `ulimit -n 100` as root",
            id="descriptors",
        ),
        pytest.param(
            {"has_steering": False, "workers": 1},
            "steering of datagrams: none, so nothing can tell which worker a datagram is for, and there is one worker "
            "instead of a program in the kernel for 4; it needs Linux 4.5 and no sandbox that refuses "
            "SO_ATTACH_REUSEPORT_CBPF",
            id="steering",
        ),
        pytest.param(
            {"has_steering": False, "workers_asked": 1, "workers": 1},
            "steering of datagrams: none, so IKE and ESP share a queue on the NAT traversal port instead of a program "
            "in the kernel; it needs Linux 4.5 and no sandbox that refuses SO_ATTACH_REUSEPORT_CBPF",
            id="steering of one worker",
        ),
        pytest.param(
            {"cores": 2},
            "cores: 2, in turns instead of 4, one for each worker; set workers = auto in the section gateway, or let "
            "it use more cores (AllowedCPUs= of the unit, taskset)",
            id="cores",
        ),
        pytest.param(
            {"memory": 580 * MIB, "memory_source": "cgroup"},
            "memory: 580 MiB, enough for about 39,029 tunnels, instead of 600 MiB for the 60,000 that the pools and "
            "ike_sa_limit allow; raise the limit of the control group (MemoryMax= of the unit, --memory of the "
            "container), or lower those; when it is used up, new peers are refused",
            id="memory",
        ),
    ],
)
def test_a_limit_that_is_not_met_is_named_with_its_mend(facts: dict[str, Any], line: str) -> None:
    assert [str(finding) for finding in find(msgspec.structs.replace(ENOUGH, **facts))] == [line]


@pytest.mark.parametrize(("source", "mend"), limits._MEMORY_MENDS.items())
def test_every_bound_of_the_memory_has_its_mend(source: str, mend: str) -> None:
    (finding,) = find(msgspec.structs.replace(ENOUGH, memory=0, memory_source=source))
    assert finding.mend.startswith(mend)
    assert "about 0 tunnels" in finding.found


def test_several_are_all_named() -> None:
    poor = msgspec.structs.replace(ENOUGH, receive_buffer=1, descriptors=1, cores=1, memory=1, has_steering=False)
    assert len(find(poor)) == 5


def test_there_are_as_many_workers_as_there_are_descriptors_for() -> None:
    gateway = GatewaySettings(workers=8)
    for workers in range(1, 9):
        assert workers_that_fit(gateway, descriptors_needed(workers, gateway)) == workers
        assert workers_that_fit(gateway, descriptors_needed(workers, gateway) - 1) == max(1, workers - 1)
    assert workers_that_fit(gateway, 1_000_000) == 8


def test_the_bound_of_descriptors_is_what_a_gateway_has_open() -> None:
    """With a few to spare that are open for a moment only."""
    gateway = loopback_gateway(workers=6)
    with GatewayProcess.start(responder_settings(), gateway) as process:
        has_open = len(os.listdir(f"/proc/{process.pid}/fd"))  # noqa: PTH208
    inherited = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    assert has_open - inherited <= descriptors_needed(6, gateway) - OWN_DESCRIPTORS // 2


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_NOFILE, (50, 300))
        is_raised = raise_descriptors() == 300 and resource.getrlimit(resource.RLIMIT_NOFILE) == (300, 300)
        os._exit(0 if is_raised else 1)
    assert os.waitpid(pid, 0)[1] == 0


_FEW_DESCRIPTORS = """
import resource
from tests.unit.gateway.commands.clients import Clients, loopback_gateway, responder_settings
from cygnet.gateway.embedded import GatewayProcess
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 90))
with GatewayProcess.start(responder_settings(), loopback_gateway(workers=8)) as process:
    print(process.worker_count, *process.serving.limits, sep=chr(10))
    with Clients(process.port, process.natt_port) as clients:
        print("established", len(clients.establish(4)))
"""


def test_a_gateway_with_few_descriptors_serves_with_fewer_workers_and_says_so() -> None:
    root = Path(__file__).parents[4]
    words = [sys.executable, "-c", _FEW_DESCRIPTORS]
    done = subprocess.run(words, cwd=root, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    workers, *found, established = done.stdout.splitlines()
    assert workers == "3"
    assert found[0].startswith("file descriptors: 90 and so 3 workers instead of 128 for 8 workers; ")
    assert established == "established 4"


def test_the_machine_is_asked_without_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = responder_settings("10.3.0.100")
    gateway = GatewaySettings(workers=1, memory_limit=1 << 40)
    facts = survey_machine(settings, gateway)
    assert (facts.workers, facts.has_steering, facts.tunnels, facts.memory) == (1, True, 100, 1 << 40)
    assert facts.receive_buffer <= facts.receive_buffer_asked == gateway.receive_buffer
    assert facts.memory_source == "memory_limit"
    few = msgspec.structs.replace(settings, admission=AdmissionSettings(ike_sa_limit=30))
    assert survey_machine(few, gateway).tunnels == 30

    def decline(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(sockets, "attach", decline)
    facts = survey_machine(Settings(), GatewaySettings(workers=3))
    assert (facts.workers, facts.workers_asked, facts.has_steering, facts.tunnels) == (1, 3, False, 0)

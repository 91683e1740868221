"""What the machine does not give: each limit that can't be met, with what was wanted and how to mend it.

The gateway runs with what it has. `Facts` says what that is, `find` what is wrong with it; the rest collects facts.
"""

import resource
from collections.abc import Sequence
from typing import Final

import msgspec

from cygnet.config.gateway_settings import GatewaySettings, usable_cores
from cygnet.gateway.process.listeners import Listeners
from cygnet.gateway.process.memory import memory_limit
from cygnet.ike.settings import Settings
from cygnet.net.sockets import BufferSizes, open_udp_group
from cygnet.net.steering import SteeringKey
from cygnet.observe.memory import OwnMemory, address_space_limit, memory_bound

OWN_DESCRIPTORS: Final = 64
"""What the supervisor has open whatever the number of workers: standard streams, event loop, lock, counters, vici."""
ENOUGH_DESCRIPTORS: Final = 65536
"""As far as the soft limit is raised."""
PROCESS_OCTETS: Final = 48 << 20
"""An interpreter with our modules, which all processes share but for a little."""
WORKER_OCTETS: Final = 12 << 20
"""What a worker has of its own before it has peers."""
TUNNEL_OCTETS: Final = 1000
"""An IKE_SA with its CHILD_SA while they rest, all in all (`make bench BENCHMARK=tunnels`)."""
_IPV4_OCTETS: Final = 4


class Facts(msgspec.Struct, frozen=True):
    """What a gateway asked for, and what it has."""

    workers_asked: int
    workers: int
    """Those that run."""
    cores: int
    """That may be used."""
    descriptors_needed: int
    """For the workers asked for."""
    descriptors: int
    """The hard limit (RLIMIT_NOFILE)."""
    has_steering: bool
    """Whether the kernel takes a program that tells datagrams apart."""
    receive_buffer_asked: int
    receive_buffer: int
    """Octets; the least of all sockets."""
    memory_needed: int
    """Octets that all processes need with as many tunnels as are allowed."""
    memory: int
    """Octets that they may use."""
    memory_source: str
    """What bounds them: `memory_limit`, `cgroup`, `machine` or `RLIMIT_AS`."""
    tunnels: int
    """That the pools have IPv4 addresses for, and `ike_sa_limit` allows."""


class Finding(msgspec.Struct, frozen=True):
    """One limit that is not met."""

    what: str
    found: str
    wanted: str
    mend: str

    def __str__(self) -> str:
        return f"{self.what}: {self.found} instead of {self.wanted}; {self.mend}"


def find(facts: Facts) -> tuple[Finding, ...]:
    """Every limit that is not met."""
    found = (_descriptors(facts), _steering(facts), _cores(facts), _receive_buffer(facts), _memory(facts))
    return tuple(finding for finding in found if finding is not None)


def _descriptors(facts: Facts) -> Finding | None:
    if facts.descriptors >= facts.descriptors_needed:
        return None
    return Finding(
        "file descriptors",
        f"{facts.descriptors} and so {_workers(facts.workers)}",
        f"{facts.descriptors_needed} for {_workers(facts.workers_asked)}",
        f"raise the hard limit: LimitNOFILE={facts.descriptors_needed} in the unit, "
        f"or `ulimit -n {facts.descriptors_needed}` as root",
    )


def _steering(facts: Facts) -> Finding | None:
    if facts.has_steering:
        return None
    mend = "it needs Linux 4.5 and no sandbox that refuses SO_ATTACH_REUSEPORT_CBPF"
    if facts.workers_asked > 1:
        found = "none, so nothing can tell which worker a datagram is for, and there is one worker"
        return Finding("steering of datagrams", found, f"a program in the kernel for {facts.workers_asked}", mend)
    found = "none, so IKE and ESP share a queue on the NAT traversal port"
    return Finding("steering of datagrams", found, "a program in the kernel", mend)


def _cores(facts: Facts) -> Finding | None:
    if facts.workers <= facts.cores:
        return None
    return Finding(
        "cores",
        f"{facts.cores}, in turns",
        f"{facts.workers}, one for each worker",
        "set workers = auto in the section gateway, or let it use more cores (AllowedCPUs= of the unit, taskset)",
    )


def _receive_buffer(facts: Facts) -> Finding | None:
    if facts.receive_buffer >= facts.receive_buffer_asked:
        return None
    return Finding(
        "receive buffer of a socket",
        _size(facts.receive_buffer),
        _size(facts.receive_buffer_asked),
        f"run it as root or with CAP_NET_ADMIN, or `sysctl -w net.core.rmem_max={facts.receive_buffer_asked}`",
    )


_MEMORY_MENDS: Final = {
    "memory_limit": "raise memory_limit in the section gateway",
    "cgroup": "raise the limit of the control group (MemoryMax= of the unit, --memory of the container)",
    "RLIMIT_AS": "raise the limit of the address space (LimitAS= of the unit, `ulimit -v`)",
    "machine": "give the machine more memory",
}


def _memory(facts: Facts) -> Finding | None:
    if facts.memory >= facts.memory_needed:
        return None
    tunnels = max(0, facts.tunnels - (facts.memory_needed - facts.memory) // TUNNEL_OCTETS)
    return Finding(
        "memory",
        f"{_size(facts.memory)}, enough for about {tunnels:,} tunnels,",
        f"{_size(facts.memory_needed)} for the {facts.tunnels:,} that the pools and ike_sa_limit allow",
        f"{_MEMORY_MENDS[facts.memory_source]}, or lower those; when it is used up, new peers are refused",
    )


def no_space(state_dir: str, error: OSError) -> Finding:
    """The state directory takes no files."""
    return Finding(
        f"the state directory {state_dir}",
        f"{error.strerror}, so the counters are in memory and `cygnet status` can't read them",
        "room for a megabyte",
        "make room there and restart, or choose another with --state-dir",
    )


def _workers(n: int) -> str:
    return f"{n} worker{'' if n == 1 else 's'}"


def _size(octets: int) -> str:
    """`8 MiB`, rounded down."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if octets >= unit:
            return f"{octets / unit:.3g} {name}" if octets < 10 * unit else f"{octets // unit} {name}"
    return f"{octets} octets"


# Facts.


def descriptors_needed(workers: int, gateway: GatewaySettings) -> int:
    """What the supervisor has open with so many workers."""
    # On each address two ports, the second with a queue for ESP. Raw sockets for each family; then a TUN device, the
    # channel, and the descriptor of the process.
    return OWN_DESCRIPTORS + workers * (3 * len(gateway.listen) + 2 + 3)


def workers_that_fit(gateway: GatewaySettings, descriptors: int) -> int:
    """As many of the workers that are asked for as there are file descriptors for; one at least."""
    workers = gateway.worker_count
    while workers > 1 and descriptors_needed(workers, gateway) > descriptors:
        workers -= 1
    return workers


def raise_descriptors() -> int:
    """Raise the soft limit of file descriptors to the hard one, or as far as makes sense; returns what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return ENOUGH_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def survey(settings: Settings, asked: GatewaySettings, listeners: Listeners, descriptors: int) -> Facts:
    """The facts of a gateway that has opened its sockets."""
    opened = [each for worker in listeners.udp for each in worker]
    return _facts(
        settings,
        asked,
        workers=listeners.workers,
        descriptors=descriptors,
        has_steering=any(each.is_for_esp for each in opened),
        receive_buffer=min(each.buffers.receive for each in opened),
    )


def survey_machine(settings: Settings, asked: GatewaySettings) -> Facts:
    """The facts that a gateway would meet if it were started here, by us. Raises SocketUnavailable."""
    descriptors = raise_descriptors()
    probes = open_udp_group(
        "127.0.0.1",
        0,
        workers=1,
        key=SteeringKey(0, 0),
        is_natt=True,
        buffers=BufferSizes(receive=asked.receive_buffer),
    )
    for each in probes:
        each.close()
    has_steering = len(probes) > 1
    return _facts(
        settings,
        asked,
        workers=workers_that_fit(asked, descriptors) if has_steering else 1,
        descriptors=descriptors,
        has_steering=has_steering,
        receive_buffer=min(each.buffers.receive for each in probes),
    )


def _facts(
    settings: Settings,
    asked: GatewaySettings,
    *,
    workers: int,
    descriptors: int,
    has_steering: bool,
    receive_buffer: int,
) -> Facts:
    memory, source = _memory_of(asked, workers)
    tunnels = _tunnels(settings, workers)
    return Facts(
        workers_asked=asked.worker_count,
        workers=workers,
        cores=usable_cores(),
        descriptors_needed=descriptors_needed(asked.worker_count, asked),
        descriptors=descriptors,
        has_steering=has_steering,
        receive_buffer_asked=asked.receive_buffer,
        receive_buffer=receive_buffer,
        memory_needed=PROCESS_OCTETS + workers * WORKER_OCTETS + tunnels * TUNNEL_OCTETS,
        memory=memory,
        memory_source=source,
        tunnels=tunnels,
    )


def _memory_of(asked: GatewaySettings, workers: int) -> tuple[int, str]:
    bound = memory_bound()
    choices = [(memory_limit(asked.memory_limit, bound), "memory_limit" if asked.memory_limit else bound.source)]
    address_space = address_space_limit()
    if address_space is not None:
        own = OwnMemory()
        room = address_space - own.address_space_octets()
        own.close()
        choices.append((PROCESS_OCTETS + workers * room, "RLIMIT_AS"))
    return min(choices)


def _tunnels(settings: Settings, workers: int) -> int:
    """IPv4 addresses of the pools. How many peers are meant to come an IPv6 pool doesn't say."""
    limit = settings.admission.ike_sa_limit * workers
    addresses = sum(
        int.from_bytes(pool.last, "big") - int.from_bytes(pool.first, "big") + 1
        for pool in settings.pools
        if len(pool.first) == _IPV4_OCTETS
    )
    return min(addresses, limit) if limit else addresses


def to_json(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """For programs."""
    return [msgspec.structs.asdict(finding) for finding in findings]

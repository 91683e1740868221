"""Opens the sockets that attempts come from: two for each source, IKE and NAT traversal."""

import contextlib
import resource
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from cygnet.load.options import LoadOptions
from cygnet.load.plan import Source, share_of, sources_of
from cygnet.net.errors import SocketUnavailable
from cygnet.net.sockets import EspSocket, UdpSocket, open_esp_socket, open_udp_socket, source_address

_TRIES: Final = 16
"""To get an ephemeral port that no other of our sources has on another address."""


class SourceSockets:
    """The sockets of one process."""

    def __init__(
        self,
        sources: Sequence[Source],
        udp: Sequence[UdpSocket],
        esp: Sequence[EspSocket],
        natt_ports: Mapping[int, int],
    ) -> None:
        self.sources = sources
        """With the ports that they got."""
        self.udp = udp
        self.esp = esp
        self.natt_ports = natt_ports
        """The NAT traversal port of each IKE port; so no IKE port may have two, even on different addresses."""


def open_sources(options: LoadOptions, process: int) -> SourceSockets:
    """Open the sources of one process, as many as it has attempts for. SocketUnavailable if one can't be had.

    They are connected to the target: that is how the kernel tells of a port at which nobody listens.
    """
    addresses = options.addresses or (source_address(options.target, options.port),)
    planned = sources_of(addresses, options.port_pairs, process=process, processes=options.processes)
    planned = planned[: max(2 if options.roam_s else 1, share_of(options.count, process, options.processes))]
    if options.roam_s and len(planned) == 1:
        # Its ports are ephemeral: from one pair of them to another is far enough.
        planned *= 2
    _allow_files(2 * len(planned) + 64)
    sources: list[Source] = []
    natt_ports: dict[int, int] = {}
    with contextlib.ExitStack() as opened:
        udp: list[UdpSocket] = []
        for source in planned:
            ike = _open(source.address, source.port, options, taken=natt_ports)
            opened.callback(ike.close)
            natt = _open(source.address, source.natt_port, options, is_natt=True)
            opened.callback(natt.close)
            udp += (ike, natt)
            natt_ports[ike.port] = natt.port
            sources.append(Source(source.address, ike.port, natt.port))
        esp = list(_open_esp(options, process))
        opened.pop_all()
    return SourceSockets(sources, udp, esp, natt_ports)


def _open(
    address: str, port: int, options: LoadOptions, *, is_natt: bool = False, taken: Mapping[int, int] | None = None
) -> UdpSocket:
    for _ in range(_TRIES):
        opened = open_udp_socket(address, port, is_natt=is_natt)
        if port or not taken or opened.port not in taken:
            break
        opened.close()
    else:
        raise SocketUnavailable(f"cannot find a free UDP port on {address} that no other source has", 0)
    try:
        opened.socket.connect((options.target, options.natt_port if is_natt else options.port))
    except OSError as exc:
        opened.close()
        raise SocketUnavailable(
            f"{options.target} is not to be reached from {address}: {exc.strerror}", exc.errno or 0
        ) from exc
    return opened


def _open_esp(options: LoadOptions, process: int) -> Iterator[EspSocket]:
    if options.ping is not None and not options.is_encapsulation_forced:
        yield open_esp_socket(is_ipv6=":" in options.target, worker=process, workers=options.processes)


def _allow_files(wanted: int) -> None:
    """Raise our limit of open files as far as that takes and is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))

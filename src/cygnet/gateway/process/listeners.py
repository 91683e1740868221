"""The sockets of all workers, opened before there are any, and kept open while one restarts."""

import errno
import os
from collections.abc import Sequence

from cygnet.config.gateway_settings import DataplaneKind, GatewaySettings
from cygnet.ike.spi import SpiSeal
from cygnet.net.errors import SocketUnavailable, SteeringUnavailable
from cygnet.net.sockets import BufferSizes, EspSocket, UdpSocket, open_esp_socket, open_udp_group
from cygnet.net.steering import SteeringKey
from cygnet.observe.log_groups import group_logger

_log = group_logger("net")

_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_WILDCARD_6 = "::"


class Listeners:
    """For each worker UDP sockets on every address and port, and raw ESP sockets where we may have them."""

    def __init__(self, workers: int) -> None:
        self.udp: list[list[UdpSocket]] = [[] for _ in range(workers)]
        """By worker; each address's IKE port is followed by its NAT traversal port, and that by its second socket, for
        ESP, where the kernel can keep the two apart."""
        self.esp: list[list[EspSocket]] = [[] for _ in range(workers)]
        self.spi_seal = SpiSeal.from_octets(os.urandom(16))
        """What filters on these sockets know our IKE SPIs by: the same for all workers, and those that replace them."""

    @property
    def workers(self) -> int:
        """How many workers there are sockets for."""
        return len(self.udp)

    @property
    def addresses(self) -> tuple[str, ...]:
        """What is listened on, such as `0.0.0.0[500]`."""
        return tuple(f"{each.address}[{each.port}]" for each in self.udp[0] if not each.is_for_esp)

    @property
    def port(self) -> int:
        """The IKE port."""
        return next(each.port for each in self.udp[0] if not each.is_natt)

    @property
    def natt_port(self) -> int:
        """The NAT traversal port."""
        return next(each.port for each in self.udp[0] if each.is_natt)

    def descriptors_of(self, worker: int) -> list[int]:
        """The file descriptors of one worker's sockets."""
        return [each.socket.fileno() for each in self._of(worker)]

    def close(self) -> None:
        """Close all of them here. A group keeps its order while any process has its sockets."""
        for worker in range(self.workers):
            for each in self._of(worker):
                each.close()

    def _of(self, worker: int) -> list[UdpSocket | EspSocket]:
        return [*self.udp[worker], *self.esp[worker]]


def open_listeners(gateway: GatewaySettings) -> Listeners:
    """Open all sockets, or none. Raises SocketUnavailable.

    Where the kernel can't steer datagrams to the worker that has their SA, there will be one worker.
    """
    workers = gateway.worker_count
    try:
        return _open(gateway, workers)
    except SteeringUnavailable as exc:
        _log.info("one worker instead of %d: %s", workers, exc)
        return _open(gateway, 1)


def _open(gateway: GatewaySettings, workers: int) -> Listeners:
    listeners = Listeners(workers)
    key = SteeringKey.from_octets(os.urandom(8))
    buffers = BufferSizes(receive=gateway.receive_buffer)
    try:
        port, natt_port = gateway.port, gateway.natt_port
        for address in gateway.listen:
            try:
                _add(listeners, open_udp_group(address, port, workers=workers, key=key, buffers=buffers))
            except SocketUnavailable as exc:
                # A machine without IPv6 has no "::", and needs none.
                if address == _WILDCARD_6 and exc.errno in _NO_SUCH_FAMILY and listeners.udp[0]:
                    _log.info("no IPv6 here: not listening on ::")
                    continue
                raise
            group = open_udp_group(address, natt_port, workers=workers, key=key, is_natt=True, buffers=buffers)
            _add(listeners, group)
            # Where 0 has let the kernel choose, other addresses get the same ports.
            port, natt_port = listeners.port, listeners.natt_port
        if gateway.dataplane is not DataplaneKind.NULL:
            _open_raw(listeners, buffers)
    except BaseException:
        listeners.close()
        raise
    return listeners


def _add(listeners: Listeners, group: Sequence[UdpSocket]) -> None:
    for place, each in enumerate(group):
        listeners.udp[place % listeners.workers].append(each)


def _open_raw(listeners: Listeners, buffers: BufferSizes) -> None:
    """ESP without UDP needs a privilege; without it, all peers get ESP in UDP, if they can."""
    for is_ipv6 in sorted({each.is_ipv6 for each in listeners.udp[0]}):
        for worker in range(listeners.workers):
            try:
                esp = open_esp_socket(is_ipv6=is_ipv6, worker=worker, workers=listeners.workers, buffers=buffers)
            except SocketUnavailable as exc:
                if exc.errno not in (errno.EPERM, errno.EACCES, *_NO_SUCH_FAMILY, errno.EPROTONOSUPPORT):
                    raise
                _log.info("ESP is carried in UDP only: %s", exc)
                break
            listeners.esp[worker].append(esp)

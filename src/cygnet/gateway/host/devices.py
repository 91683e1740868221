"""The TUN devices of the workers, the routes and diversions into them, and the virtual addresses on them."""

import logging
import os
from collections.abc import Sequence

from cygnet.dataplane.tun import configure_tun, loosen_source_check, open_tun, tun_name
from cygnet.gateway.claims import NOBODY
from cygnet.gateway.control import Diversion
from cygnet.gateway.host.addresses import VirtualAddresses
from cygnet.gateway.host.diversions import Diversions
from cygnet.gateway.host.routes import Routes
from cygnet.ike.errors import LocalError
from cygnet.observe.log_groups import group_logger

_log = group_logger("knl")


class Devices:
    """One device for each worker. They are gone when the last process that has their descriptors is."""

    def __init__(self, workers: int, mtu: int, ports: Sequence[int]) -> None:
        """Make and configure them all, for packets of up to `mtu` octets; raises LocalError.

        `ports` are our UDP ports, to be kept out of what is diverted.
        """
        self.descriptors: list[int] = []
        try:
            for _ in range(workers):
                self.descriptors.append(open_tun())
            self.names = names = [tun_name(fd) for fd in self.descriptors]
            for name in names:
                configure_tun(name, (), mtu)
                if workers > 1:
                    loosen_source_check(name)
            self.routes = Routes(names)
            self.addresses = VirtualAddresses(names)
            self.diversions = _open_diversions(names, ports)
        except BaseException:
            self._close_descriptors()
            raise

    def holder(self, key: str | Diversion, *, otherwise: int) -> int:
        """The worker that the packets for a prefix, or what is diverted, are brought to; or else `otherwise`."""
        if isinstance(key, str):
            holder = self.routes.holder(key)
        else:
            holder = self.diversions.holder(key) if self.diversions is not None else NOBODY
        return otherwise if holder == NOBODY else holder

    def close(self) -> None:
        """Give the devices up; the kernel drops their routes with them."""
        if self.diversions is not None:
            self.diversions.close()
        self.addresses.close()
        self.routes.close()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        for fd in self.descriptors:
            os.close(fd)


def _open_diversions(names: Sequence[str], ports: Sequence[int]) -> Diversions | None:
    """What transport mode needs; None, with a word in the log, if there is none to be had."""
    try:
        return Diversions(names, ports)
    except LocalError as exc:
        _log.warning("there is no transport mode: %s", exc)
        return None


def open_devices(workers: int, mtu: int, ports: Sequence[int]) -> Devices | None:
    """The devices, if we may have any; None, with a word in the log, if not."""
    try:
        return Devices(workers, mtu, ports)
    except LocalError as exc:
        # Root expects its traffic carried; others know that they get the echo only.
        level = logging.WARNING if os.geteuid() == 0 else logging.INFO
        _log.log(level, "inner packets reach the echo only: %s", exc)
        return None

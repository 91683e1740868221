"""`rightsourceip` and `rightdns` to sections of `pools`."""

import ipaddress
from typing import Final

from cygnet.config.errors import Problem, quote
from cygnet.config.syntax import Position, Section, Setting

_CLIENT_CHOOSES: Final = ("%config", "%cfg", "%modeconfig", "%modecfg", "%config4", "%config6")


class Pools:
    """The pools of all conns: several that name the same addresses share them, as in strongSwan."""

    __slots__ = ("_by_addresses", "_problems", "section")

    def __init__(self, position: Position, problems: list[Problem]) -> None:
        self.section = Section("pools", position)
        self._by_addresses: dict[str, str] = {}
        self._problems = problems

    def names_for(self, connection: str, addresses: Setting, dns: Setting | None) -> list[str]:
        """The names of the pools that a conn gives addresses of, made where they aren't there yet."""
        names = []
        for item in (item for part in (addresses.value or "").split(",") if (item := part.strip())):
            if item in _CLIENT_CHOOSES:
                self._complain(addresses, f"{item} of rightsourceip is not carried over: peers can't choose addresses")
            elif item.startswith("%"):
                self._complain(addresses, f"{item} of rightsourceip is not carried over: it is a pool of a plugin's")
            else:
                names.append(self._by_addresses.get(item) or self._add(connection, item, addresses))
        for name in names:
            self._tell(self.section.sections[name], dns)
        return names

    def _add(self, connection: str, item: str, source: Setting) -> str:
        number = 1
        while (name := connection if number == 1 else f"{connection}-{number}") in self.section.sections:
            number += 1
        section = self.section.sections[name] = Section(name, source.value_position)
        section.settings["addrs"] = Setting(_addresses(item), source.value_position, source.value_position)
        self._by_addresses[item] = name
        return name

    def _tell(self, pool: Section, dns: Setting | None) -> None:
        before = pool.settings.get("dns")
        if before is None:
            if dns is not None:
                pool.settings["dns"] = Setting(dns.value, dns.value_position, dns.value_position)
        elif dns is None or dns.value != before.value:
            message = f"pool {quote(pool.name)} is shared: all that get an address of it are told of {before.value}"
            self._problems.append((dns or before).name_position.problem(message))

    def _complain(self, setting: Setting, message: str) -> None:
        self._problems.append(setting.value_position.problem(message))


def _addresses(item: str) -> str:
    """A subnet that begins in the middle is a range up to its end."""
    try:
        network = ipaddress.ip_network(item, strict=False)
        first = ipaddress.ip_address(item.partition("/")[0])
    except ValueError:
        return item
    if first == network.network_address or network.num_addresses <= 2:
        return item
    return f"{first}-{network[-2]}"

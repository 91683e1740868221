"""A configuration file to checked settings: every value in range, every reference resolved, or every problem named."""

import ipaddress
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from cygnet.auth.held_credentials import HeldFiles
from cygnet.config.defaults import MAX_PROBLEMS
from cygnet.config.errors import ConfigError, Problem, quote
from cygnet.config.folders import read_folders
from cygnet.config.gateway_settings import GatewaySettings
from cygnet.config.keys import TABLES
from cygnet.config.log_settings import TARGETS, Levels, LogSettings
from cygnet.config.reader import Reader, Values
from cygnet.config.references import referenced_names, resolve_references
from cygnet.config.resource_keys import CERTIFICATES, OPENS_A_FILE, UNBUILT_SECRETS
from cygnet.config.syntax import Position, Section, Setting, Source, parse_file, parse_text
from cygnet.ike.settings import (
    AdmissionSettings,
    AuthKind,
    AuthoritySettings,
    AuthSettings,
    ChildSettings,
    ConnectionSettings,
    PoolSettings,
    RetransmitPolicy,
    Settings,
    SharedSecret,
    StartAction,
)

_T = TypeVar("_T")

_OUTERMOST: Final = ("connections", "pools", "secrets", "gateway", "authorities")
_CERTIFICATE_KEYS: Final = ("cacert", "file", "handle")


class Configuration(msgspec.Struct, frozen=True):
    """What a configuration says, checked, with the warnings that came up."""

    settings: Settings
    gateway: GatewaySettings = GatewaySettings()
    warnings: tuple[Problem, ...] = ()
    files: HeldFiles = HeldFiles()
    """The certificates and keys in the folders beside the file."""


class ConfigurationFile:
    """A configuration that is read again when somebody asks for it."""

    __slots__ = ("_read", "files")

    def __init__(self, read: Callable[[], Configuration], files: HeldFiles = HeldFiles()) -> None:  # noqa: B008 - frozen
        """`files` are those that were there when it was read first."""
        self._read = read
        self.files = files

    def read(self) -> Configuration:
        """What it says by now. Raises ConfigError."""
        return self._read()


def load_settings(path: str) -> Configuration:
    """Read a configuration file. Raises ConfigError, which names everything that is wrong with it."""
    loader = _Loader()
    configuration = loader.load(parse_file(path))
    files, warnings = read_folders(path, loader.root)
    return msgspec.structs.replace(configuration, warnings=(*configuration.warnings, *warnings), files=files)


def load_text(text: str, name: str = "<text>") -> Configuration:
    """Like `load_settings`, for text that is at hand."""
    return _Loader().load(parse_text(text, name))


def load_tree(root: Section) -> Configuration:
    """Like `load_settings`, for sections that were put together in another way; they hold no references."""
    return _Loader().load(root)


def load_connection(section: Section) -> tuple[ConnectionSettings, tuple[Problem, ...]]:
    """One connection, with the warnings that came up; its pools may be yet to come. Raises ConfigError."""
    loader = _Loader()
    connection = loader.read_connection(section.name, section)
    return connection, loader.findings()


def load_pool(section: Section) -> tuple[PoolSettings, tuple[Problem, ...]]:
    """One pool, with the warnings that came up. Raises ConfigError."""
    loader = _Loader()
    pool = loader.read_pool(section.name, section)
    findings = loader.findings()
    assert pool is not None  # what has no addresses is a finding
    return pool, findings


def load_authority(section: Section) -> tuple[AuthoritySettings, tuple[Problem, ...]]:
    """One certification authority, with the warnings that came up. Raises ConfigError."""
    loader = _Loader()
    authority = loader.read_authority(section.name, section)
    return authority, loader.findings()


class _Loader:
    __slots__ = ("_made", "_reader", "root")

    def __init__(self) -> None:
        self._reader = Reader()
        self._made: dict[tuple[int, str], tuple[Section, Any]] = {}
        """What was read of sections that were found right: what many inherit is read once, and shared."""
        self.root = Section("", Position(Source("", ""), 0))
        """What was loaded, with all that sections inherit."""

    def load(self, raw: Section) -> Configuration:
        root = self.root = resolve_references(raw, self._reader.problems)
        self._check_outermost(root, referenced_names(raw))
        gateway = self._read_gateway(root)
        pools = self._read_pools(root)
        secrets = self._read_secrets(root)
        authorities = self._read_authorities(root)
        connections = self._read_connections(root)
        self._check_pool_names(root, connections, {pool.name for pool in pools} | set(_section(root, "pools").sections))
        if not secrets and any(_uses_psk(connection) for connection in connections):
            self._warn_of_no_secrets(root)
        warnings = self.findings()
        settings_values = _part_of(Settings, gateway)
        settings_values["retransmit"] = RetransmitPolicy(**_part_of(RetransmitPolicy, gateway))
        settings_values["admission"] = AdmissionSettings(**_part_of(AdmissionSettings, gateway))
        # A pool of one address has none to spare.
        gateway.setdefault("echo", tuple(pool.first for pool in pools if pool.first != pool.last))
        return Configuration(
            settings=Settings(
                connections=connections, pools=pools, secrets=secrets, authorities=authorities, **settings_values
            ),
            gateway=GatewaySettings(**_part_of(GatewaySettings, gateway)),
            warnings=warnings,
        )

    def findings(self) -> tuple[Problem, ...]:
        """The warnings. Raises ConfigError if there is any error."""
        # What several sections inherit is found wrong several times, in one place.
        problems = sorted(dict.fromkeys(self._reader.problems))
        if any(not problem.is_warning for problem in problems):
            raise ConfigError(problems[:MAX_PROBLEMS])
        return tuple(problems)

    def _warn_of_no_secrets(self, root: Section) -> None:
        if not self._reader.inner_sections(_section(root, "secrets"), "ike"):
            message = "there is no secret (secrets { ike { ... } }): no peer can authenticate itself"
            self._reader.warn(_section(root, "connections").position, message)

    def _check_outermost(self, root: Section, referenced: frozenset[str]) -> None:
        for name, setting in root.settings.items():
            self._reader.error(setting.name_position, f"{quote(name)} stands outside of every section")
        for name, section in root.sections.items():
            if name in _OUTERMOST or name in referenced:
                continue
            self._reader.unknown_section(section, "", _OUTERMOST)

    def _read_gateway(self, root: Section) -> Values:
        section = _section(root, "gateway")
        found = self._reader.read(section, "gateway", TABLES["gateway"])
        defaults = GatewaySettings()
        if found.get("port", defaults.port) == found.get("natt_port", defaults.natt_port):
            setting = section.settings.get("natt_port") or section.settings["port"]
            self._reader.error(setting.value_position, "port and natt_port in gateway must be two ports")
        found["log"] = self._read_log(_section(section, "log"))
        return found

    def _read_log(self, section: Section) -> LogSettings:
        found = self._reader.read(section, "gateway.log", TABLES["log"])
        for name in (f"{target}_levels" for target in TARGETS):
            if name in section.sections:
                levels = self._reader.read(section.sections[name], f"gateway.log.{name}", TABLES["log_levels"])
                found[name] = Levels(**levels)
        return LogSettings(**found)

    def _read_pools(self, root: Section) -> tuple[PoolSettings, ...]:
        pools: list[PoolSettings] = []
        for name, section in self._reader.named_sections(_section(root, "pools"), "pools"):
            pool = self.read_pool(name, section)
            if pool is None:
                continue
            pools.append(pool)
        places = {pool.name: number for number, pool in enumerate(pools)}
        for pair in _overlapping(pools):
            first, second = sorted(pair, key=lambda pool: places[pool.name])
            position = root.sections["pools"].sections[second.name].settings["addrs"].value_position
            self._reader.error(position, f"addrs in pools.{second.name} overlap with those of pools.{first.name}")
        return tuple(pools)

    def read_pool(self, name: str, section: Section) -> PoolSettings | None:
        """A pool; None if its addresses are missing or wrong."""
        found = self._reader.read(section, f"pools.{name}", TABLES["pool"])
        addresses = found.pop("addrs", None)
        if addresses is None:
            return None
        return PoolSettings(name=name, first=addresses.first, last=addresses.last, base=addresses.base, **found)

    def _read_secrets(self, root: Section) -> tuple[SharedSecret, ...]:
        secrets: list[SharedSecret] = []
        files: dict[str, Setting] = {}
        for name, section in self._reader.named_sections(_section(root, "secrets"), "secrets"):
            path = f"secrets.{name}"
            unbuilt = next((table for prefix, table in UNBUILT_SECRETS.items() if name.startswith(prefix)), None)
            if unbuilt is not None:
                self._reader.read(section, path, unbuilt)
                # Its file is opened with it where the folders are read, and what is in there is listed.
                use = "only opens a file, to be listed" if name.startswith(OPENS_A_FILE) else "is skipped"
                self._reader.warn(section.position, f"{path} {use}: {unbuilt.help}")
            elif name.startswith("ike"):
                found = self._reader.read(section, path, TABLES["secret"])
                if "secret" in found:
                    owners = tuple(dict.fromkeys(found.get("id", ())))
                    secrets.append(SharedSecret(secret=found["secret"], owners=owners))
            else:
                self._reader.unknown_section(section, " in secrets", ("ike", *UNBUILT_SECRETS))
            secret = section.settings.get("secret") or section.settings.get("pin")
            if secret is not None:
                files.setdefault(secret.name_position.source.name, secret)
        for file, secret in files.items():
            if _is_world_readable(file):
                message = f"this secret is readable by everybody on this machine: chmod o-rwx {file}"
                self._reader.warn(secret.name_position, message)
        return tuple(secrets)

    def _read_authorities(self, root: Section) -> tuple[AuthoritySettings, ...]:
        return tuple(
            self.read_authority(name, section)
            for name, section in self._reader.named_sections(_section(root, "authorities"), "authorities")
        )

    def read_authority(self, name: str, section: Section) -> AuthoritySettings:
        """An authority, as far as it is right."""
        path = f"authorities.{name}"
        found = self._reader.read(section, path, TABLES["authority"])
        given = [key for key in _CERTIFICATE_KEYS if key in found]
        if not given:
            self._reader.error(section.position, f"{path} has no certificate: write cacert = FILE")
        elif len(given) > 1:
            position = section.settings[given[1]].name_position
            self._reader.error(position, f"{path} has both {given[0]} and {given[1]}: one of them is its certificate")
        self._reader.warn(section.position, f"{path} has no effect: {CERTIFICATES}")
        return AuthoritySettings(name=name, **found)

    def _read_connections(self, root: Section) -> tuple[ConnectionSettings, ...]:
        return tuple(
            self.read_connection(name, section)
            for name, section in self._reader.named_sections(_section(root, "connections"), "connections")
        )

    def read_connection(self, name: str, section: Section) -> ConnectionSettings:
        """A connection, as far as it is right."""
        path = f"connections.{name}"
        found = self._reader.read(section, path, TABLES["connection"])
        local = self._read_round(section, path, "local")
        remote = self._read_round(section, path, "remote")
        children = self._read_children(section, path)
        connection = ConnectionSettings(name=name, local=local, remote=remote, children=children, **found)
        if not children:
            self._reader.warn(section.position, f"{path} has no children: it can carry no traffic")
        if any(child.start_action is not StartAction.NONE for child in children) and not is_initiable(connection):
            position = section.settings["remote_addrs"].value_position if "remote_addrs" in section.settings else None
            message = f"{path} is to be started, and its remote_addrs hold no single address to connect to"
            self._reader.error(position or section.position, message)
        return connection

    def _read_round(self, connection: Section, path: str, side: str) -> AuthSettings:
        rounds = self._reader.inner_sections(connection, side)
        if not rounds:
            self._reader.error(connection.position, f"{path} has no section {side}: write {side} {{ auth = psk }}")
            return AuthSettings()
        if len(rounds) > 1:
            message = f"{path} has several {side} rounds: multiple authentication (RFC 4739) is not built yet"
            self._reader.error(rounds[1].position, message)
        section = rounds[0]
        return self._once(
            section, side, lambda: AuthSettings(**self._reader.read(section, f"{path}.{section.name}", TABLES[side]))
        )

    def _read_children(self, connection: Section, path: str) -> tuple[ChildSettings, ...]:
        section = connection.sections.get("children")
        if section is None:
            return ()
        path = f"{path}.children"
        return tuple(
            self._once(child, "child", partial(self._read_child, name, child, path))
            for name, child in self._reader.named_sections(section, path)
        )

    def _read_child(self, name: str, section: Section, path: str) -> ChildSettings:
        return ChildSettings(name=name, **self._reader.read(section, f"{path}.{name}", TABLES["child"]))

    def _once(self, section: Section, kind: str, read: Callable[[], _T]) -> _T:
        """What `read` makes of a section, or has made of it for another one that inherits it. Where that has found
        anything wrong, it finds that again, for the other one."""
        made: tuple[Section, _T] | None = self._made.get((id(section), kind))
        if made is None:
            found = len(self._reader.problems)
            made = section, read()
            if len(self._reader.problems) == found:
                self._made[id(section), kind] = made
        return made[1]

    def _check_pool_names(self, root: Section, connections: tuple[ConnectionSettings, ...], pools: set[str]) -> None:
        """Connections refer to pools that exist; a pool that is itself in error counts as one."""
        for connection in connections:
            setting = _section(root, "connections").sections[connection.name].settings.get("pools")
            for name in connection.pools:
                if name not in pools and setting is not None:
                    message = f"pools in connections.{connection.name}: there is no pool {quote(name)}"
                    self._reader.error(setting.value_position, message + _known(pools))


def _section(root: Section, name: str) -> Section:
    """A section that may be missing: then an empty one."""
    return root.sections.get(name) or Section(name, root.position)


def _overlapping(pools: Iterable[PoolSettings]) -> Iterator[tuple[PoolSettings, PoolSettings]]:
    """Pairs of pools with addresses in common: each pool that has any, with the one that reaches furthest of those that
    begin before it."""
    furthest: PoolSettings | None = None
    for pool in sorted(pools, key=lambda pool: (len(pool.first), pool.first)):
        if furthest is not None and pool.overlaps(furthest):
            yield furthest, pool
        if furthest is None or (len(pool.last), pool.last) > (len(furthest.last), furthest.last):
            furthest = pool


def _part_of(struct: type[msgspec.Struct], found: Values) -> dict[str, Any]:
    """The values that are attributes of `struct`."""
    return {name: value for name, value in found.items() if name in struct.__struct_fields__}


def _known(names: set[str]) -> str:
    return f" (there is: {', '.join(sorted(names))})" if 0 < len(names) <= 5 else ""


def _uses_psk(connection: ConnectionSettings) -> bool:
    return AuthKind.PSK in (connection.local.auth, connection.remote.auth)


def is_initiable(connection: ConnectionSettings) -> bool:
    for address in connection.remote_addrs:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            continue
        return True
    return False


def _is_world_readable(file: str) -> bool:
    try:
        return bool(stat.S_IMODE(Path(file).stat().st_mode) & stat.S_IROTH)
    except (OSError, ValueError):
        return False

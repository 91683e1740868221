"""`ipsec.conf` and `ipsec.secrets` to the `swanctl.conf` that means the same.

The result is the tree that reading such a file gives, except that each value stands where it came from: what Cygnet
then finds wrong with it is found in the file that is converted.
"""

import difflib
from collections.abc import Mapping

import msgspec

from cygnet.config.defaults import SUGGESTION_CUTOFF
from cygnet.config.errors import ConfigError, Problem, quote
from cygnet.config.ipsec.connections import Conn, safe_name
from cygnet.config.ipsec.keywords import ALIASES, CA_KEYWORDS, SETUP_LEFT_OUT
from cygnet.config.ipsec.log_levels import convert_log_levels
from cygnet.config.ipsec.pools import Pools
from cygnet.config.ipsec.secrets import convert_secrets
from cygnet.config.ipsec.syntax import DEFAULT, IpsecConf, parse_ipsec_conf
from cygnet.config.load import load_tree
from cygnet.config.syntax import Section, Setting, reading_failed
from cygnet.config.writer import render

_SETUP_KEYWORDS = ("uniqueids", "strictcrlpolicy", "charondebug")


class Conversion(msgspec.Struct, frozen=True):
    """What became of the files."""

    root: Section
    left_out: tuple[Problem, ...]
    """What can't be carried over, by file and line."""
    errors: tuple[Problem, ...]
    """What Cygnet refuses of what was carried over."""
    notes: tuple[Problem, ...]
    """What is different in the new file, and means the same."""
    warnings: tuple[Problem, ...]
    """What Cygnet takes, and makes no use of."""

    @property
    def is_complete(self) -> bool:
        """Whether everything was carried over, and Cygnet takes it."""
        return not self.left_out and not self.errors

    @property
    def text(self) -> str:
        """The file."""
        return render(self.root)


def convert(path: str, secrets_path: str | None = None, *, is_right_local: bool = False) -> Conversion:
    """Convert a configuration, with its secrets if there is a file of them. Raises ConfigError if one can't be read.

    strongSwan takes that end for its own whose address the machine has, and `left` if neither is. What is converted
    may be for another machine: here it is `left`, or `right` for all if `is_right_local`.
    """
    reading = path
    problems: list[Problem] = []
    try:
        conf = parse_ipsec_conf(path)
        secrets = None
        if secrets_path is not None:
            reading = secrets_path
            secrets = convert_secrets(secrets_path, problems)
    except (OSError, ValueError) as exc:
        raise ConfigError([Problem(reading, 0, 0, reading_failed(exc))]) from exc
    problems += conf.problems
    root = Section("", conf.setup.position)
    _convert_connections(conf, root, problems, is_right_local=is_right_local)
    _convert_authorities(conf, root, problems)
    if secrets is not None and secrets.sections:
        root.sections["secrets"] = secrets
    debug = conf.setup.settings.get("charondebug")
    if debug is not None:
        gateway = convert_log_levels(debug, problems)
        if gateway.sections:
            root.sections["gateway"] = gateway
    problems = sorted(dict.fromkeys(problems))
    found: list[Problem]
    try:
        found = list(load_tree(root).warnings)
    except ConfigError as exc:
        found = list(exc.problems)
    return Conversion(
        root,
        left_out=tuple(problem for problem in problems if not problem.is_warning),
        errors=tuple(problem for problem in found if not problem.is_warning),
        notes=tuple(problem for problem in problems if problem.is_warning),
        warnings=tuple(problem for problem in found if problem.is_warning),
    )


def _convert_connections(conf: IpsecConf, root: Section, problems: list[Problem], *, is_right_local: bool) -> None:
    pools = Pools(conf.setup.position, problems)
    connections = Section("connections", conf.setup.position)
    setup = _setup(conf, problems)
    templates = {reference.name for section in conf.connections.values() for reference in section.references}
    made: list[tuple[Conn, Section]] = []
    used: set[str] = set()
    for name, section in conf.connections.items():
        if name == DEFAULT:
            continue
        settings = _normal(conf.inherited(conf.connections, name), is_right_local=is_right_local)
        if "auto" not in settings or settings["auto"].value == "ignore":
            if name not in templates:
                message = f"conn {quote(name)} is left out: without auto = add strongSwan does not load it"
                problems.append(section.position.problem(message, is_warning=True))
            continue
        new_name = _new_name(name, used)
        if new_name != name:
            message = f"conn {quote(name)} is called {quote(new_name)} now"
            problems.append(section.position.problem(message, is_warning=True))
        used.add(new_name)
        conn = Conn(new_name, settings, section.position, problems, setup=setup)
        conn.convert(pools)
        _add_connection(connections, conn, made)
    if connections.sections:
        root.sections["connections"] = connections
    if pools.section.sections:
        root.sections["pools"] = pools.section


def _new_name(name: str, used: set[str]) -> str:
    """A name that `swanctl.conf` allows, and that no other conn has."""
    new = base = safe_name(name)
    number = 1
    while new in used:
        number += 1
        new = f"{base}-{number}"
    return new


def _add_connection(connections: Section, conn: Conn, made: list[tuple[Conn, Section]]) -> None:
    """Conns that differ in their children only are one connection, as in strongSwan."""
    for other, children in made:
        if _is_alike(other.connection, conn.connection):
            children.sections[conn.child.name] = conn.child
            return
    children = Section("children", conn.position)
    children.sections[conn.child.name] = conn.child
    made.append((conn, children))
    connections.sections[conn.connection.name] = conn.connection
    conn.connection.sections["children"] = children


def _is_alike(one: Section, other: Section) -> bool:
    inner = {name: section for name, section in one.sections.items() if name != "children"}
    return (
        {key: setting.value for key, setting in one.settings.items()}
        == {key: setting.value for key, setting in other.settings.items()}
        and inner.keys() == other.sections.keys()
        and all(_is_alike(section, other.sections[name]) for name, section in inner.items())
    )


def _convert_authorities(conf: IpsecConf, root: Section, problems: list[Problem]) -> None:
    authorities = Section("authorities", conf.setup.position)
    for name, section in conf.authorities.items():
        settings = _normal(conf.inherited(conf.authorities, name), is_right_local=False)
        if name == DEFAULT or settings.get("auto") is None or settings["auto"].value == "ignore":
            continue
        made = authorities.sections[safe_name(name)] = Section(safe_name(name), section.position)
        for key, keywords in (
            ("cacert", ("cacert",)),
            ("crl_uris", ("crluri", "crluri2")),
            ("ocsp_uris", ("ocspuri", "ocspuri2")),
            ("cert_uri_base", ("certuribase",)),
        ):
            given = [settings[keyword] for keyword in keywords if keyword in settings]
            if given:
                value = ", ".join(setting.value or "" for setting in given)
                made.settings[key] = Setting(value, given[0].value_position, given[0].value_position)
        _name_unknown(settings, CA_KEYWORDS, "ca", problems)
    if authorities.sections:
        root.sections["authorities"] = authorities


def _setup(conf: IpsecConf, problems: list[Problem]) -> Mapping[str, Setting]:
    settings = {key: setting for key, setting in conf.setup.settings.items() if setting.value is not None}
    for key, setting in settings.items():
        if key in SETUP_LEFT_OUT:
            problems.append(setting.name_position.problem(f"{key} is not carried over: {SETUP_LEFT_OUT[key]}"))
    _name_unknown(settings, (*_SETUP_KEYWORDS, *SETUP_LEFT_OUT), "config setup", problems)
    return settings


def _name_unknown(settings: Mapping[str, Setting], known: tuple[str, ...], where: str, problems: list[Problem]) -> None:
    for key, setting in settings.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, SUGGESTION_CUTOFF)
            hint = f" (did you mean {quote(near[0])}?)" if near else ""
            problems.append(setting.name_position.problem(f"{quote(key)} is no keyword of {where}{hint}"))


def _normal(settings: Mapping[str, Setting], *, is_right_local: bool) -> dict[str, Setting]:
    """Keywords by their usual names, with our end on the left."""
    found: dict[str, Setting] = {}
    for key, setting in settings.items():
        name = key
        if is_right_local and key.startswith("left"):
            name = f"right{key[4:]}"
        elif is_right_local and key.startswith("right"):
            name = f"left{key[5:]}"
        found[ALIASES.get(name, name)] = setting
    return found

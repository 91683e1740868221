"""A conn of `ipsec.conf` to a section of `connections`, with its child and its pools.

The rules are those by which strongSwan's starter and stroke plugin (confread.c, stroke_config.c) make the same objects
of a conn as vici makes of `swanctl.conf`, and the defaults, where the two differ, are written out.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Final

from cygnet.config.defaults import SUGGESTION_CUTOFF
from cygnet.config.errors import Problem, quote
from cygnet.config.ipsec.keywords import CHILD_KEYS, CONN_KEYWORDS, CONNECTION_KEYS, LEFT_OUT
from cygnet.config.ipsec.pools import Pools
from cygnet.config.syntax import Position, Section, Setting

IKE_LIFETIME_S: Final = 10800
LIFETIME_S: Final = 3600
MARGIN_S: Final = 540
FUZZ_PERCENT: Final = 100
KEYINGTRIES: Final = "3"

_FIREWALL: Final = "ipsec _updown iptables"
"""What strongSwan makes of leftfirewall=yes."""
_OF_NO_USE: Final = "nothing else of this conn makes use of it"
_TIME: Final = re.compile(r"([0-9]{1,9})([smhd]?)\Z")
_TIME_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_UNITS: Final = (("h", 3600), ("m", 60), ("s", 1))
_NAME_LEFT_OUT: Final = re.compile(r'[#{}:.,="\s]')
_ANYBODY: Final = ("%any", "%any4", "%any6", "0.0.0.0", "::", "%defaultroute")  # noqa: S104 - nothing is bound to it
_END_ACTIONS: Final = {"none": "none", "clear": "none", "hold": "trap", "restart": "start"}
_START_ACTIONS: Final = {"add": "none", "route": "trap", "start": "start"}
_UNIQUE: Final = {"yes": "replace", "replace": "replace", "keep": "keep", "never": "never", "no": "no"}
_VERSIONS: Final = {"ikev2": "2", "ikev1": "1", "ike": "0"}
_SEND_CERT: Final = {"always": "always", "yes": "always", "never": "never", "no": "never", "ifasked": "ifasked"}
_SEND_CERTREQ: Final = {key: "no" if value == "never" else "yes" for key, value in _SEND_CERT.items()}
_MODES: Final = {"passthrough": "pass", "reject": "drop"}
_AUTHBY: Final = {
    **dict.fromkeys(("psk", "secret"), ("psk", "")),
    **dict.fromkeys(("pubkey", "rsa", "rsasig", "ecdsa", "ecdsasig"), ("pubkey", "")),
    # For shunts: strongSwan authenticates nobody by it, and takes its default.
    "never": ("pubkey", ""),
    "xauthpsk": ("psk", "xauth"),
    "xauthrsasig": ("pubkey", "xauth"),
}


class Conn:
    """One conn on its way, under a name that `swanctl.conf` allows. Each keyword is taken once; what is left in the end
    can't be carried over."""

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Setting],
        position: Position,
        problems: list[Problem],
        *,
        setup: Mapping[str, Setting],
    ) -> None:
        self.name = name
        self.position = position
        self._settings = settings
        self._left = dict(settings)
        self._setup = setup
        self._problems = problems
        self.connection = Section(name, position)
        self.child = Section(name, position)

    def convert(self, pools: Pools) -> None:
        """Fill `connection`, without its children, and `child`."""
        self._convert_ike()
        self._convert_lifetimes()
        self._convert_addresses(pools)
        self._convert_auth()
        self._convert_child()
        for key, setting in self._left.items():
            if key not in CONN_KEYWORDS:
                near = difflib.get_close_matches(key, CONN_KEYWORDS, 1, SUGGESTION_CUTOFF)
                hint = f" (did you mean {quote(near[0])}?)" if near else ""
                self._complain(setting, f"{quote(key)} is no keyword of a conn{hint}")
            elif setting.value != "no":
                self._complain(setting, f"{key} is not carried over: {LEFT_OUT.get(key, _OF_NO_USE)}")

    def _convert_ike(self) -> None:
        self._choice(self.connection, "version", "keyexchange", _VERSIONS, default="0")
        self._proposals(self.connection, "proposals", "ike")
        for side, key in (("left", "local_addrs"), ("right", "remote_addrs")):
            self._end_addresses(side, key)
        for keyword, key in CONNECTION_KEYS.items():
            self._copy(self.connection, key, keyword)
        self._choice(self.connection, "pull", "modeconfig", {"push": "no", "pull": "yes"}, default="yes")
        self._choice(self.connection, "send_cert", "leftsendcert", _SEND_CERT)
        self._choice(self.connection, "send_certreq", "rightsendcert", _SEND_CERTREQ, default="yes")
        tries = self._take("keyingtries")
        value = tries.value if tries is not None else KEYINGTRIES
        self._put(self.connection, "keyingtries", "0" if value == "%forever" else value, tries)
        unique = self._setup.get("uniqueids")
        value = _UNIQUE.get(unique.value or "", unique.value) if unique else "replace"
        self._put(self.connection, "unique", value, unique)
        self._convert_dpd()

    def _convert_dpd(self) -> None:
        action, delay, timeout = (self._take(key) for key in ("dpdaction", "dpddelay", "dpdtimeout"))
        if action is None or action.value == "none":
            # Without an action nobody is asked.
            return
        self._put(self.connection, "dpd_delay", delay.value if delay else "30s", delay or action)
        version = self.connection.settings.get("version")
        if timeout is not None and (version is None or version.value != "2"):
            self._put(self.connection, "dpd_timeout", timeout.value, timeout)
        value = {"clear": "clear", "hold": "trap", "restart": "restart"}.get(action.value or "", action.value)
        self._put(self.child, "dpd_action", value, action)

    def _convert_lifetimes(self) -> None:
        """strongSwan counts back from the end of a life by the margin, and that by a random part of the fuzz; in
        `swanctl.conf` one counts on from the rekeying."""
        rekey, reauth = self._take("rekey"), self._take("reauth")
        ike_life = self._time("ikelifetime", IKE_LIFETIME_S)
        life = self._time("lifetime", LIFETIME_S)
        margin = self._time("margintime", MARGIN_S)
        fuzz = self._fuzz()
        if rekey is not None and rekey.value == "no":
            for section, key in (
                (self.connection, "rekey_time"),
                (self.child, "rekey_time"),
                (self.child, "life_time"),
            ):
                self._put(section, key, "0s", rekey)
            for key in ("lifebytes", "lifepackets", "marginbytes", "marginpackets"):
                self._take(key)
            return
        random_part = margin * fuzz // 100
        is_rekeyed = reauth is not None and reauth.value == "no"
        key = "rekey_time" if is_rekeyed else "reauth_time"
        self._put(self.connection, key, _time(max(ike_life - margin, 0)), reauth)
        self._put(self.connection, "over_time", _time(margin), None)
        self._put(self.connection, "rand_time", _time(random_part), None)
        self._put(self.child, "life_time", _time(life), None)
        self._put(self.child, "rekey_time", _time(max(life - margin, 0)), None)
        self._put(self.child, "rand_time", _time(random_part), None)
        for unit in ("bytes", "packets"):
            limit, margin_setting = self._take(f"life{unit}"), self._take(f"margin{unit}")
            end, before = self._number(limit), self._number(margin_setting)
            if not end:
                continue
            self._put(self.child, f"life_{unit}", str(end), limit)
            self._put(self.child, f"rekey_{unit}", str(max(end - before, 0)), limit)
            self._put(self.child, f"rand_{unit}", str(before * fuzz // 100), limit)

    def _convert_addresses(self, pools: Pools) -> None:
        ours, theirs, dns = self._take("leftsourceip"), self._take("rightsourceip"), self._take("rightdns")
        if theirs is not None:
            names = pools.names_for(self.connection.name, theirs, dns)
            if names:
                self._put(self.connection, "pools", ", ".join(names), theirs)
            if ours is not None:
                self._complain(ours, "leftsourceip is not carried over: rightsourceip goes before it")
        elif dns is not None:
            self._complain(dns, "rightdns is not carried over: it goes with the addresses of rightsourceip")
        if ours is not None and theirs is None:
            vips = [self._virtual_address(item) for item in _items(ours)]
            self._put(self.connection, "vips", ", ".join(dict.fromkeys(vips)), ours)

    def _virtual_address(self, item: str) -> str:
        if item == "%config6":
            return "::"
        if item not in ("%config", "%cfg", "%modeconfig", "%modecfg", "%config4"):
            return item
        # strongSwan looks at the subnets, and then at our address, to tell which family is meant.
        hints = (self._peek("leftsubnet"), self._peek("rightsubnet"), self._peek("left"))
        hint = next((text for text in hints if text), "")
        is_ipv6 = item != "%config4" and "." not in hint and ":" in hint
        return "::" if is_ipv6 else "0.0.0.0"  # noqa: S104 - asks for any address

    def _convert_auth(self) -> None:
        authby = self._take("authby")
        both, extended = _AUTHBY.get((authby.value if authby else None) or "", ("", ""))
        if authby is not None and not both:
            self._complain(authby, f"{quote(authby.value or '')} is no value of authby; there is: {', '.join(_AUTHBY)}")
        if self._peek("leftauth") or self._peek("rightauth"):
            both, extended = "", ""
        xauth = self._take("xauth")
        is_xauth_server = xauth is not None and xauth.value == "server"
        for side in ("left", "right"):
            self._round(side, "", both or "pubkey", authby)
            second = extended if (side == "right") == is_xauth_server else ""
            if self._peek(f"{side}auth2") or second:
                self._round(side, "2", second, authby)

    def _round(self, side: str, suffix: str, default: str, source: Setting | None) -> None:
        """One authentication of one end: `local`, `remote`, `local-2`, `remote-2`."""
        is_local = side == "left"
        name = ("local" if is_local else "remote") + (f"-{suffix}" if suffix else "")
        section = Section(name, self.position)
        self.connection.sections[name] = section
        auth = self._take(f"{side}auth{suffix}")
        method = (auth.value if auth else default) or default
        self._put(section, "auth", "psk" if method == "secret" else method, auth or source)
        self._identity(section, side, suffix)
        certificates = self._take(f"{side}cert{suffix}")
        if certificates is not None:
            self._put(section, "certs", certificates.value, certificates)
        if not is_local:
            authority = self._take(f"rightca{suffix}")
            if authority is not None:
                same = authority.value == "%same"
                self._put(section, "ca_id", self._peek(f"leftca{suffix}") if same else authority.value, authority)
            self._copy(section, "groups", f"rightgroups{suffix}")
            if not suffix:
                self._copy(section, "cert_policy", "rightcertpolicy")
            strict = self._setup.get("strictcrlpolicy")
            if strict is not None and strict.value != "no" and not method.startswith(("psk", "secret", "eap", "xauth")):
                self._put(section, "revocation", "strict" if strict.value == "yes" else strict.value, strict)
        if method.startswith("eap"):
            self._choice(section, "eap_id", "eap_identity", {"%identity": "%any"})
            if is_local:
                self._copy(section, "aaa_id", "aaa_identity")
        if method.startswith("xauth") and is_local:
            self._copy(section, "xauth_id", "xauth_identity")

    def _identity(self, section: Section, side: str, suffix: str) -> None:
        identity = self._take(f"{side}id{suffix}")
        if identity is not None:
            value = identity.value or ""
            if value.startswith("%") and value not in ("%any", "%any4", "%any6"):
                self._complain(identity, f"the % of {side}id{suffix} is not carried over: the identity must be proven")
                value = value[1:]
            self._put(section, "id", value, identity)
        elif not suffix and side == "right":
            # Without rightid the peer must prove to have the address.
            addresses = self._settings.get(side)
            if addresses is not None and addresses.value is not None and addresses.value not in _ANYBODY:
                self._put(section, "id", addresses.value.lstrip("%"), addresses)

    def _end_addresses(self, side: str, key: str) -> None:
        setting, any_too = self._take(side), self._take(f"{side}allowany")
        if setting is None or setting.value is None or setting.value in _ANYBODY:
            if setting is not None and setting.value in ("%any4", "%any6"):
                self._put(self.connection, key, setting.value, setting)
            return
        addresses = setting.value.lstrip("%")
        if setting.value.startswith("%") or (any_too is not None and any_too.value == "yes"):
            addresses += ", 0.0.0.0/0, ::/0"
        self._put(self.connection, key, addresses, setting)

    def _convert_child(self) -> None:
        for side, key in (("left", "local_ts"), ("right", "remote_ts")):
            self._selectors(side, key)
        self._proposals(self.child, "esp_proposals", "esp")
        self._proposals(self.child, "ah_proposals", "ah")
        mode = self._take("type")
        if mode is not None:
            self._put(self.child, "mode", _MODES.get(mode.value or "", mode.value), mode)
        for keyword, key in CHILD_KEYS.items():
            self._copy(self.child, key, keyword)
        firewall = self._take("leftfirewall")
        if firewall is not None and firewall.value != "no" and "updown" not in self.child.settings:
            self._put(self.child, "updown", _FIREWALL, firewall)
        mark = self._take("mark")
        for key in ("mark_in", "mark_out"):
            setting = self._take(key) or mark
            if setting is not None:
                self._put(self.child, key, setting.value, setting)
        padding = self._take("tfc")
        if padding is not None:
            self._put(self.child, "tfc_padding", "mtu" if padding.value == "%mtu" else padding.value, padding)
        self._choice(self.child, "start_action", "auto", _START_ACTIONS, default="none")
        self._choice(self.child, "close_action", "closeaction", _END_ACTIONS, default="none")

    def _selectors(self, side: str, key: str) -> None:
        subnets, protoport = self._take(f"{side}subnet"), self._take(f"{side}protoport")
        if subnets is None and protoport is None:
            return
        suffix = f"[{(protoport.value or '').replace('%', '')}]" if protoport else ""
        items = _items(subnets) if subnets else ["dynamic"]
        found = [(item if "[" in item else item + suffix).replace("%", "") for item in items]
        self._put(self.child, key, ", ".join(found), subnets or protoport)

    def _proposals(self, section: Section, key: str, keyword: str) -> None:
        setting = self._take(keyword)
        if setting is None or setting.value is None:
            return
        # What does not end in a ! is a preference, with strongSwan's defaults behind it.
        text = setting.value.strip()
        items = ", ".join(item.strip() for item in text.rstrip("!").split(",") if item.strip())
        self._put(section, key, items if text.endswith("!") else f"{items}, default", setting)

    def _choice(
        self, section: Section, key: str, keyword: str, choices: Mapping[str, str], *, default: str | None = None
    ) -> None:
        """A keyword whose values have other names here; a value that is not known goes as it is, to be complained
        of."""
        setting = self._take(keyword)
        if setting is not None:
            value = choices.get(setting.value or "", setting.value)
            if value != default:
                self._put(section, key, value, setting)

    def _copy(self, section: Section, key: str, keyword: str) -> None:
        setting = self._take(keyword)
        if setting is not None:
            self._put(section, key, setting.value, setting)

    def _fuzz(self) -> int:
        setting = self._take("rekeyfuzz")
        if setting is None:
            return FUZZ_PERCENT
        match = re.match(r"([0-9]{1,6})%\Z", setting.value or "")
        if match is None:
            self._complain(setting, f"{quote(setting.value or '')} is no percentage such as 100%")
            return FUZZ_PERCENT
        return int(match[1])

    def _time(self, keyword: str, default_s: int) -> int:
        setting = self._take(keyword)
        if setting is None:
            return default_s
        match = _TIME.match(setting.value or "")
        if match is None:
            self._complain(setting, f"{quote(setting.value or '')} is no time such as 8h; {keyword} has its default")
            return default_s
        return int(match[1]) * _TIME_UNITS_S[match[2]]

    def _number(self, setting: Setting | None) -> int:
        if setting is None:
            return 0
        if not re.match(r"[0-9]{1,18}\Z", setting.value or ""):
            self._complain(setting, f"{quote(setting.value or '')} is no number")
            return 0
        return int(setting.value or "")

    def _take(self, keyword: str) -> Setting | None:
        return self._left.pop(keyword, None)

    def _peek(self, keyword: str) -> str:
        """The value of a keyword, whether taken or not; empty if there is none."""
        setting = self._settings.get(keyword)
        return (setting.value or "") if setting is not None else ""

    def _put(self, section: Section, key: str, value: str | None, source: Setting | None) -> None:
        """`source` is where it comes from, or None for a default of ipsec.conf's."""
        position = source.value_position if source is not None else self.position
        section.settings[key] = Setting(value, position, position)

    def _complain(self, setting: Setting, message: str) -> None:
        self._problems.append(setting.name_position.problem(message))


def safe_name(name: str) -> str:
    """A name as `swanctl.conf` allows it for a section."""
    return _NAME_LEFT_OUT.sub("_", name)


def _items(setting: Setting) -> list[str]:
    return [item for part in (setting.value or "").split(",") if (item := part.strip())]


def _time(seconds: int) -> str:
    """A duration in the largest unit that it is a whole number of."""
    return next(f"{seconds // size}{unit}" for unit, size in _UNITS if not seconds % size) if seconds else "0s"

"""The keywords of `ipsec.conf` that are carried over as they are, and those that can't be; all others have a rule in
`connections.py`."""

from types import MappingProxyType
from typing import Final

ALIASES: Final = MappingProxyType(
    {
        "keylife": "lifetime",
        "rekeymargin": "margintime",
        "leftsubnetwithin": "leftsubnet",
        "rightsubnetwithin": "rightsubnet",
        "leftrsasigkey": "leftsigkey",
        "rightrsasigkey": "rightsigkey",
        "crluri1": "crluri",
        "ocspuri1": "ocspuri",
    }
)

CONNECTION_KEYS: Final = MappingProxyType(
    {
        "aggressive": "aggressive",
        "forceencaps": "encap",
        "fragmentation": "fragmentation",
        "ikedscp": "dscp",
        "leftikeport": "local_port",
        "mediated_by": "mediated_by",
        "mediation": "mediation",
        "me_peerid": "mediation_peer",
        "mobike": "mobike",
        "rightikeport": "remote_port",
    }
)
CHILD_KEYS: Final = MappingProxyType(
    {
        "compress": "ipcomp",
        "inactivity": "inactivity",
        "installpolicy": "policies",
        "lefthostaccess": "hostaccess",
        "leftupdown": "updown",
        "replay_window": "replay_window",
        "reqid": "reqid",
        "sha256_96": "sha256_96",
    }
)

_ENDS: Final = (
    *("allowany", "auth", "auth2", "ca", "ca2", "cert", "cert2", "certpolicy", "dns", "firewall", "groups"),
    *("groups2", "hostaccess", "id", "id2", "ikeport", "nexthop", "protoport", "rsasigkey", "sendcert"),
    *("sigkey", "sourceip", "subnet", "subnetwithin", "updown"),
)
CONN_KEYWORDS: Final = (
    *("aaa_identity", "aggressive", "ah", "also", "authby", "auto", "closeaction", "compress", "dpdaction"),
    *("dpddelay", "dpdtimeout", "eap", "eap_identity", "esp", "forceencaps", "fragmentation", "ike"),
    *("ikedscp", "ikelifetime", "inactivity", "installpolicy", "keyexchange", "keyingtries", "keylife"),
    *("left", "lifebytes", "lifepackets", "lifetime", "marginbytes", "margintime", "marginpackets", "mark"),
    *("mark_in", "mark_out", "me_peerid", "mediated_by", "mediation", "mobike", "modeconfig", "pfs"),
    *("pfsgroup", "reauth", "rekey", "rekeyfuzz", "rekeymargin", "replay_window", "reqid", "right"),
    *("sha256_96", "tfc", "type", "xauth", "xauth_identity"),
    *(f"left{key}" for key in _ENDS),
    *(f"right{key}" for key in _ENDS),
)
"""All keywords of a conn that strongSwan knows (starter/keywords.txt)."""

CA_KEYWORDS: Final = (
    *("also", "auto", "cacert", "certuribase", "crluri", "crluri1", "crluri2", "ocspuri", "ocspuri1", "ocspuri2"),
    *("ldaphost", "ldapbase"),
)

_NOT_USED: Final = "strongSwan makes no use of it either"
_NO_LONGER: Final = "strongSwan has had no such keyword for long"

LEFT_OUT: Final = MappingProxyType(
    {
        "rightfirewall": _NOT_USED,
        "righthostaccess": _NOT_USED,
        "rightupdown": _NOT_USED,
        "leftca": "the authority of our own certificate can't be chosen",
        "leftca2": "the authority of our own certificate can't be chosen",
        "leftgroups": _NOT_USED,
        "leftgroups2": _NOT_USED,
        "leftcertpolicy": _NOT_USED,
        "leftdns": "DNS servers are asked for whenever virtual addresses are",
        "leftsigkey": "put the key into a file and write pubkeys = FILE",
        "rightsigkey": "put the key into a file and write pubkeys = FILE",
        **dict.fromkeys(("eap", "leftnexthop", "rightnexthop", "pfs", "pfsgroup"), _NO_LONGER),
    }
)
"""Keywords of a conn that `swanctl.conf` has nothing for, and why."""

SETUP_LEFT_OUT: Final = MappingProxyType(
    {
        "cachecrls": "certificates are not built yet",
        **dict.fromkeys(
            (
                *("interfaces", "dumpdir", "charonstart", "plutostart", "klipsdebug", "plutodebug", "prepluto"),
                *("postpluto", "plutostderrlog", "fragicmp", "packetdefault", "hidetos", "overridemtu"),
                *("crlcheckinterval", "nocrsend", "nat_traversal", "keep_alive", "force_keepalive"),
                *("virtual_private", "pkcs11module", "pkcs11initargs", "pkcs11keepstate", "pkcs11proxy"),
            ),
            _NO_LONGER,
        ),
    }
)

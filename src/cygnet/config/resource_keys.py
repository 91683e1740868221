"""The keys of what connections refer to: `pools`, `secrets` and `authorities`."""

from types import MappingProxyType
from typing import Final

from cygnet.config import attributes, values
from cygnet.config.schema import ANYTHING, Key, Table, Unbuilt

CERTIFICATES: Final = "certificates are not built yet; peers prove themselves by a pre-shared key (auth = psk)"
_UNITY: Final = "it is Cisco's extension of IKEv1; peers that speak IKEv2 are told by `subnet`"

POOL: Final = Table(
    title="pools.<pool>",
    help="Virtual addresses for peers, and what peers that get one of them are told of. Pools must not overlap.",
    keys=(
        Key(
            "addrs",
            values.POOL_ADDRESSES,
            "",
            "A subnet, of which the first and the last address stay out, or a range `10.3.0.1-10.3.0.99`.",
            is_required=True,
        ),
        Key("dns", attributes.DNS, "", "DNS servers.", field="attributes", is_shared=True),
        Key("nbns", attributes.NBNS, "", "NetBIOS name servers (WINS).", field="attributes", is_shared=True),
        Key("dhcp", attributes.DHCP, "", "DHCP servers.", field="attributes", is_shared=True),
        Key(
            "netmask",
            attributes.NETMASK,
            "",
            "Netmask of the virtual network, such as `255.255.255.0`. RFC 7296 has none for IPv6.",
            field="attributes",
            is_shared=True,
        ),
        Key(
            "server",
            attributes.SERVER,
            "",
            "Servers of the private attribute types 23456 (IPv4) and 23457 (IPv6).",
            field="attributes",
            is_shared=True,
        ),
        Key(
            "subnet",
            attributes.SUBNET,
            "",
            "Subnets that the peer reaches through us, such as `10.1.0.0/16`.",
            field="attributes",
            is_shared=True,
        ),
        Key(
            "p_cscf",
            attributes.P_CSCF,
            "",
            "P-CSCF servers, for telephony (RFC 7651).",
            field="attributes",
            is_shared=True,
        ),
        Key(
            "<number>",
            attributes.NUMBERED,
            "",
            "Any other attribute by the number of its type, 1 to 32767: addresses, subnets, octets as `0x` and "
            "hexadecimal, or text, such as `25 = corp.example.org` for a DNS domain (RFC 8598).",
            is_number=True,
            is_shared=True,
            field="attributes",
        ),
    ),
    unbuilt=(Unbuilt("split_include", _UNITY), Unbuilt("split_exclude", _UNITY)),
)

_ID: Final = "Whose key it is; `id-1`, `id-2` and so on for several. Patterns are allowed."

SECRET: Final = Table(
    title="secrets.ike<suffix>",
    help=(
        "One pre-shared key. Of several that fit, the one that names the peer best is used, then the one that names us "
        "best."
    ),
    keys=(
        Key(
            "secret",
            values.SECRET,
            "",
            "The key: text, or octets as `0x` and hexadecimal or `0s` and base64.",
            is_required=True,
        ),
        Key("id", values.IDENTITY, "%any", _ID, is_prefix=True),
    ),
)


def _unbuilt_secret(name: str, instead: str, *keys: str) -> Table:
    """A kind of secret that nothing uses yet; the names of its keys are checked all the same."""
    rows = tuple(Unbuilt(key, instead, (ANYTHING,), is_prefix=key == "id") for key in keys)
    return Table(title=f"secrets.{name}<suffix>", help=instead, unbuilt=rows)


EAP: Final = "EAP is not built yet; peers prove themselves by a pre-shared key (auth = psk)"
PPK: Final = "post-quantum pre-shared keys are not built yet; a peer that requires one can't be served"
_FILE_KEYS: Final = ("file", "secret")

OPENS_A_FILE: Final = ("private", "rsa", "ecdsa", "bliss", "pkcs8", "pkcs12")
"""Sections within `secrets`, by prefix, that have the password of a file in a folder beside `swanctl.conf`."""

UNBUILT_SECRETS: Final = MappingProxyType(
    {
        "eap": _unbuilt_secret("eap", EAP, "secret", "id"),
        "xauth": _unbuilt_secret("xauth", "it is about IKEv1, which is not spoken here", "secret", "id"),
        "ntlm": _unbuilt_secret("ntlm", EAP, "secret", "id"),
        "ppk": _unbuilt_secret("ppk", PPK, "secret", "id"),
        **{name: _unbuilt_secret(name, CERTIFICATES, *_FILE_KEYS) for name in OPENS_A_FILE},
        "token": _unbuilt_secret("token", CERTIFICATES, "handle", "slot", "module", "pin"),
    }
)
"""Sections within `secrets` that prove nothing yet, by prefix. A warning says so, and `help` why."""

AUTHORITY: Final = Table(
    title="authorities.<name>",
    help=(
        "A certification authority. It is kept and listed (`swanctl --list-authorities`), and has no effect yet: "
        f"{CERTIFICATES}. One of `cacert`, `file` and `handle` is required."
    ),
    keys=(
        Key("cacert", values.TEXT, "", "File of its certificate, by name in the folder `x509ca` or by its whole path."),
        Key("file", values.TEXT, "", "The same, by its whole path."),
        Key("handle", values.TEXT, "", "CKA_ID, in hexadecimal, of its certificate on a token."),
        Key("slot", values.TEXT, "", "Slot of the token."),
        Key("module", values.TEXT, "", "PKCS#11 module of the token."),
        Key("crl_uris", values.NAMES, "", "Where its revocation lists are."),
        Key("ocsp_uris", values.NAMES, "", "Where its OCSP responders are."),
        Key("cert_uri_base", values.TEXT, "", "Where certificates are found by their hashes."),
    ),
)

"""The table of keys: what each section of a configuration may hold, what it means, and what is not built yet.

Reading a configuration, `cygnet check` and docs/configuration.md all follow this table. Names, meanings and defaults
are those of strongSwan's `swanctl.conf`; rows marked `is_own` are Cygnet's.

A key that strongSwan has and Cygnet has not is a row of `unbuilt`. It is refused where leaving it out would let in a
peer, let through traffic, or send in the clear what the file means to keep out or protect. Otherwise it is named in a
warning, with what happens instead. Values that ask for what happens anyway pass in silence.
"""

from types import MappingProxyType
from typing import Final

from cygnet.config import values
from cygnet.config.gateway_keys import GATEWAY
from cygnet.config.log_keys import LOG, LOG_LEVELS
from cygnet.config.resource_keys import AUTHORITY, CERTIFICATES, EAP, POOL, PPK, SECRET
from cygnet.config.schema import ANYTHING, Inner, Key, Table, Unbuilt
from cygnet.config.values import Kind

_YES = ("yes", "true", "enabled", "1")
_NO = ("no", "false", "disabled", "0")
_NO_TIME = ("0", "0s", "0m", "0h", "0d")
_IKEV1 = "it is about IKEv1, which is not spoken here"
_PACKETS = Kind("packets", values.integer(0, 1 << 62))
_MEDIATION = "mediation is not built; give the peer's own address as remote_addrs"
_XFRM = "the kernel's IPsec (xfrm) is not built yet, so traffic can't be kept apart by it"


def _rounds(*, is_local: bool) -> Table:
    identity = (
        Key("id", values.OWN_IDENTITY, "", "Our identity. Without it, our IP address.")
        if is_local
        else Key("id", values.IDENTITY, "%any", "The identity, or pattern, that the peer must prove to have.")
    )
    side = "local" if is_local else "remote"
    certificate_keys = ("certs", "pubkeys") if is_local else ("certs", "cacerts", "pubkeys", "ca_id", "cert_policy")
    refused = [Unbuilt(name, CERTIFICATES, is_refused=True) for name in certificate_keys]
    if is_local:
        refused += [Unbuilt(name, EAP, is_refused=True) for name in ("eap_id", "aaa_id")]
    else:
        refused += [
            Unbuilt("groups", "group membership can't be proven yet", is_refused=True),
            Unbuilt("eap_id", EAP, is_refused=True),
            Unbuilt("revocation", CERTIFICATES, ("relaxed",), is_refused=True),
        ]
    return Table(
        title=f"connections.<conn>.{side}",
        help=(
            "How we prove who we are. Required."
            if is_local
            else "How the peer must prove who it is. Required; of several connections that fit a peer, the one whose "
            "`id` matches best is used, then the one whose `remote_addrs` are the most specific, then the first."
        ),
        keys=(
            Key(
                "auth", values.AUTH, "", "`psk`, a pre-shared key. strongSwan's default is `pubkey`.", is_required=True
            ),
            identity,
        ),
        unbuilt=(
            *refused,
            Unbuilt("round", "there is one round only", (ANYTHING,)),
            Unbuilt("xauth_id", _IKEV1),
        ),
        sections=tuple(
            Inner(name, is_prefix=True, refusal=CERTIFICATES)
            for name in (("cert",) if is_local else ("cert", "cacert"))
        ),
    )


_CONNECTION = Table(
    title="connections.<conn>",
    help="One connection: who may connect, or whom we connect to, and what for.",
    keys=(
        Key(
            "local_addrs",
            values.PEER_ADDRESSES,
            "%any",
            "Our addresses that the connection is for: addresses, subnets, ranges. Names are not looked up.",
        ),
        Key(
            "remote_addrs",
            values.PEER_ADDRESSES,
            "%any",
            "The peer's addresses, likewise. The first single address is the one we initiate to.",
        ),
        Key("local_port", values.PORT, "500", "The port that we initiate from."),
        Key("remote_port", values.PORT, "500", "The port that we initiate to."),
        Key(
            "remote_natt_port",
            values.PORT,
            "4500",
            "The port that we go on to when there is a NAT; for peers on unprivileged ports.",
            is_own=True,
        ),
        Key("proposals", values.IKE_PROPOSALS, "default", "Algorithms for the IKE_SA, best first."),
        Key("vips", values.PACKED_ADDRESSES, "", "Virtual addresses to ask for; `0.0.0.0` and `::` ask for any."),
        Key("pools", values.NAMES, "", "Names of the pools that peers get their virtual addresses from."),
        Key("encap", values.BOOLEAN, "no", "Put ESP into UDP even where no NAT is found."),
        Key("mobike", values.BOOLEAN, "yes", "Let either end change its addresses without a new IKE_SA (RFC 4555)."),
        Key(
            "mobike_check",
            values.BOOLEAN,
            "yes",
            "Send traffic to a new address of the peer only after it has answered there.",
            is_own=True,
        ),
        Key(
            "fragmentation",
            values.FRAGMENTATION,
            "yes",
            "Whether long messages go in fragments (RFC 7383): `yes`, where the peer supports it; `accept`, only the "
            "peer's; `no`. `force` is `yes`.",
        ),
        Key(
            "childless",
            values.CHILDLESS,
            "allow",
            "Whether the IKE_SA may begin without a CHILD_SA (RFC 6023). A peer that begins: `allow` or `prefer`, it "
            "may; `force`, it must; `never`. When we begin, `prefer` does without where the peer supports that, and "
            "`force` always: then each CHILD_SA has a key exchange of its own, if its proposals have one. Else the "
            "first CHILD_SA comes with the IKE_SA.",
        ),
        Key(
            "unique",
            values.UNIQUE,
            "no",
            "What becomes of a peer's other IKE_SAs when it sets up one more: `no`, they go if the peer says that it "
            "has none (INITIAL_CONTACT); `replace`, they go; `keep`, they stay and the new one is refused; `never`, "
            "all stay. As initiator we say INITIAL_CONTACT unless this is `never`.",
        ),
        Key(
            "dpd_delay",
            values.TIME,
            "0s",
            "After so long without a packet from the peer, or up to half of it sooner, ask whether it lives; 0 never "
            "asks.",
            field="dpd_delay_s",
        ),
        Key(
            "keyingtries",
            Kind("number", values.integer(0, 1_000_000)),
            "1",
            "How often to try to set up a connection that we initiate, or a child of it that the peer refuses; 0 tries "
            "for ever.",
        ),
        Key(
            "rekey_time",
            values.TIME,
            "",
            "Age at which the IKE_SA gets new keys, less a random part of `rand_time`; 0 for never. Without it, 4h, "
            "or never if there is a `reauth_time`.",
            field="rekey_time_s",
        ),
        Key(
            "reauth_time",
            values.TIME,
            "0s",
            "Age at which we, if we have set the IKE_SA up, set up another one with its CHILD_SAs in its place, less a "
            "random part of `rand_time`; 0 for never. A peer that has set it up is told to do that, and its IKE_SA "
            "closed `over_time` later if it has not.",
            field="reauth_time_s",
        ),
        Key(
            "over_time",
            values.TIME,
            "",
            "How much longer an IKE_SA lives that could not be rekeyed or authenticated anew. Without it, a tenth of "
            "the longer one of `rekey_time` and `reauth_time`.",
            field="over_time_s",
        ),
        Key(
            "rand_time",
            values.TIME,
            "",
            "Up to so much earlier either is done, so that not all are at once. Without it, as long as `over_time`.",
            field="rand_time_s",
        ),
    ),
    unbuilt=(
        Unbuilt("version", "IKEv1 is not spoken here: use 2", ("0", "2"), is_refused=True),
        Unbuilt("aggressive", _IKEV1, _NO),
        Unbuilt("pull", _IKEV1, _YES),
        Unbuilt("dpd_timeout", f"{_IKEV1}; a peer is given up after `retransmit_tries`", _NO_TIME),
        Unbuilt("send_certreq", CERTIFICATES, _YES),
        Unbuilt("send_cert", CERTIFICATES, ("ifasked",)),
        Unbuilt("ocsp", CERTIFICATES, ("reply",)),
        Unbuilt("dscp", "IKE datagrams are sent with the default codepoint", ("000000",)),
        Unbuilt("ppk_id", PPK, is_refused=True),
        Unbuilt("ppk_required", PPK, _NO, is_refused=True),
        Unbuilt("if_id_in", _XFRM, ("0",), is_refused=True),
        Unbuilt("if_id_out", _XFRM, ("0",), is_refused=True),
        Unbuilt("mediation", _MEDIATION, _NO, is_refused=True),
        Unbuilt("mediated_by", _MEDIATION, is_refused=True),
        Unbuilt("mediation_peer", _MEDIATION, is_refused=True),
    ),
    sections=(
        Inner("local", is_prefix=True),
        Inner("remote", is_prefix=True),
        Inner("children"),
    ),
)

_CHILD = Table(
    title="connections.<conn>.children.<child>",
    help="One CHILD_SA of a connection: the traffic that it protects, and how.",
    keys=(
        Key("esp_proposals", values.ESP_PROPOSALS, "default", "Algorithms for ESP, best first."),
        Key(
            "local_ts",
            values.SELECTORS,
            "dynamic",
            "Traffic selectors of our side: `10.1.0.0/16`, `10.0.0.1-10.0.0.9`, `10.1.0.1/32[tcp/443]`, or `dynamic`, "
            "which is the virtual address, else the address of the IKE_SA.",
        ),
        Key("remote_ts", values.SELECTORS, "dynamic", "Traffic selectors of the peer's side."),
        Key(
            "mode",
            values.MODE,
            "tunnel",
            "`tunnel`, or `transport` for what the two hosts themselves send each other. Without the privilege to "
            "bring it to the gateway, a peer that proposes transport mode gets a tunnel, and we do not propose it.",
        ),
        Key(
            "start_action",
            values.START_ACTION,
            "none",
            "`start` sets the CHILD_SA up when the configuration is loaded, `trap` when the kernel has a "
            "packet for it (without a TUN device there is none), `trap|start` both.",
        ),
        Key(
            "dpd_action",
            values.END_ACTION,
            "clear",
            "What happens when the peer is found dead: `clear`, `restart` to set the CHILD_SA up again, or `trap` to "
            "do that when there is a packet for it.",
        ),
        Key(
            "close_action",
            values.END_ACTION,
            "none",
            "What happens when the peer ends the CHILD_SA, alone or with its IKE_SA: `none`, `start` to set it up "
            "again, or `trap` to do that when there is a packet for it.",
        ),
        Key(
            "replay_window",
            Kind("packets", values.integer(0, 4096)),
            "32",
            "Packets that may arrive late and still count; 0 switches the protection against replay off.",
        ),
        Key(
            "updown",
            values.TEXT,
            "",
            "Command that `/bin/sh` runs, as the gateway's own user, when the CHILD_SA comes and when it goes, with "
            "strongSwan's environment (`PLUTO_VERB` and so on), once for each pair of traffic selectors.",
        ),
        Key("hostaccess", values.BOOLEAN, "no", "Tell that command to let this host itself use the tunnel."),
        Key(
            "tfc_padding",
            values.TFC_PADDING,
            "0",
            "Octets that inner packets are filled up to, to hide how long they are; `mtu` is as many as the path "
            "takes. Not for a peer that says that it can't take padding.",
        ),
        Key(
            "copy_df",
            values.BOOLEAN,
            "yes",
            "Tell the sender of an IPv4 packet with DF that is too big for the path; with `no` such packets are sent "
            "in fragments of the outer packet. IPv6 senders are always told.",
        ),
        Key("copy_ecn", values.BOOLEAN, "yes", "Let congestion marks cross between inner and outer header (RFC 6040)."),
        Key(
            "copy_dscp",
            values.COPY_DSCP,
            "out",
            "Which way the DSCP is copied: `out`, from the inner header to the outer one, `in`, `yes` for both, `no`.",
        ),
        Key(
            "rekey_time",
            values.TIME,
            "1h",
            "Age at which the CHILD_SA gets new keys, less a random part of `rand_time`; 0 for never.",
            field="rekey_time_s",
        ),
        Key(
            "life_time",
            values.TIME,
            "",
            "Age at which a CHILD_SA is closed that could not be rekeyed. Without it, a tenth more than `rekey_time`.",
            field="life_time_s",
        ),
        Key(
            "rand_time",
            values.TIME,
            "",
            "Up to so much earlier it is rekeyed. Without it, what lies between `rekey_time` and `life_time`.",
            field="rand_time_s",
        ),
        Key(
            "inactivity",
            values.TIME,
            "0s",
            "Close the CHILD_SA after so long without a packet in either direction, or up to an eighth later; 0 for "
            "never. Rekeying is no traffic. See also `inactivity_close_ike`.",
            field="inactivity_s",
        ),
        Key("rekey_bytes", values.SIZE, "0", "Octets, in either direction, after which it gets new keys; 0 for never."),
        Key("life_bytes", values.SIZE, "", "Octets after which it is closed. Without it, a tenth more."),
        Key(
            "rand_bytes", values.SIZE, "", "Up to so many octets earlier it gets new keys. Without it, the difference."
        ),
        Key("rekey_packets", _PACKETS, "0", "The same for packets."),
        Key("life_packets", _PACKETS, "", "The same for packets."),
        Key("rand_packets", _PACKETS, "", "The same for packets."),
    ),
    unbuilt=(
        Unbuilt("ah_proposals", "AH is not built yet; use esp_proposals", is_refused=True),
        Unbuilt(
            "sha256_96",
            "HMAC-SHA-256 is used with 128 bits as in RFC 4868; such a peer can't be served",
            _NO,
            is_refused=True,
        ),
        Unbuilt("policies", "a CHILD_SA is always used for the traffic it is for", _YES),
        Unbuilt("policies_fwd_out", "there are no kernel policies", _NO),
        Unbuilt("ipcomp", "packets are not compressed", _NO),
        Unbuilt("reqid", "there are no kernel policies", ("0",)),
        Unbuilt("priority", "the most specific traffic selector goes first", ("0",)),
        *(
            Unbuilt(name, _XFRM, ("0/0x00000000", *_NO), is_refused=True)
            for name in ("mark_in", "mark_out", "mark_in_sa", "set_mark_in", "set_mark_out", "if_id_in", "if_id_out")
        ),
        Unbuilt("interface", _XFRM, is_refused=True),
        Unbuilt("label", "security labels are not built, so all traffic of the selectors would pass", is_refused=True),
        Unbuilt("label_mode", "there are no security labels", ("system",)),
        Unbuilt("hw_offload", "the data plane runs in software", ("no", "auto")),
        Unbuilt("icmp", "ICMP errors are sent back through the tunnel only where the selectors let them", _NO),
        Unbuilt("per_cpu_sas", "one CHILD_SA carries all its traffic", _NO),
    ),
)

TABLES: Final = MappingProxyType(
    {
        "connection": _CONNECTION,
        "local": _rounds(is_local=True),
        "remote": _rounds(is_local=False),
        "child": _CHILD,
        "pool": POOL,
        "secret": SECRET,
        "authority": AUTHORITY,
        "gateway": GATEWAY,
        "log": LOG,
        "log_levels": LOG_LEVELS,
    }
)
"""Every kind of section that is understood, in the order of the documentation."""

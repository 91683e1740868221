"""What is counted: the names, kinds and meanings of all metrics.

Names follow Prometheus: `_total` for what only grows, base units, and the prefix `cygnet_` where they are
exposed. A metric may have one label, whose values stand here: a value that is not listed counts as `other`,
so nothing a peer sends makes a new series.
"""

from enum import Enum
from typing import Final

import msgspec

OTHER: Final = "other"


class Kind(Enum):
    """What may be done to a metric, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(msgspec.Struct, frozen=True):
    """One metric: a single series, or with a label one series for each of its values."""

    name: str
    kind: Kind
    help: str
    label: str = ""
    values: tuple[str, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which it is counted, such as `sas_closed_total{reason="timeout"}`."""
        if not self.label:
            return (self.name,)
        return tuple(f'{self.name}{{{self.label}="{value}"}}' for value in self.values)


def counter(name: str, text: str) -> Metric:
    """A metric that only grows."""
    return Metric(name, Kind.COUNTER, text)


def gauge(name: str, text: str) -> Metric:
    """A metric that goes up and down."""
    return Metric(name, Kind.GAUGE, text)


def by_reason(name: str, text: str, reasons: tuple[str, ...]) -> Metric:
    """A counter with the label `reason`, and `other` for reasons that are not listed."""
    return Metric(name, Kind.COUNTER, text, "reason", (*reasons, OTHER))


SOCKET_KINDS: Final = tuple(
    f"{family}_{purpose}" for family in ("ipv4", "ipv6") for purpose in ("ike", "natt", "natt_esp", "esp")
)
"""The kinds of socket that a worker has: for the IKE port, for the NAT traversal port (and its ESP, where that queues
apart), and for ESP without UDP. Several listening addresses of a family count together."""

_SOCKET_FAILURES: Final = (
    "would_block",
    "refused",
    "unreachable",
    "address_gone",
    "not_permitted",
    "too_big",
    "no_socket",
)

MALFORMED: Final = (
    "truncated",
    "trailing_octets",
    "bad_length",
    "bad_substructure",
    "bad_nonce_length",
    "no_nonce",
    "bad_spi_size",
    "bad_fragment_number",
    "duplicate_attribute",
    "encrypted_not_last",
    "nested_encrypted",
    "too_many_payloads",
    "too_long",
)
"""Why octets are no message: the reasons of WireError."""

STANDINGS: Final = ("established", "under_way", "new", "stray")
"""What an IKE datagram belongs to, in the order in which a worker serves them: established SAs, handshakes under way,
requests for new SAs, and what belongs to no SA."""

EXCHANGE_MESSAGES: Final = tuple(
    f"{exchange}-{way}-{kind}"
    for exchange in ("ike-init", "ike-auth", "create-child", "info")
    for way in ("in", "out")
    for kind in ("req", "resp")
)
"""Messages by exchange, direction and role, as strongSwan counts them."""

_DROPS: Final = (
    *MALFORMED,
    "too_short",
    "version",
    "unknown_spi",
    "other_worker",
    "not_encrypted",
    "no_initiator_spi",
    "invalid_syntax",
    "integrity",
    "message_id",
    "stale_request",
    "unexpected_response",
    "fragment_unexpected",
    "fragment_duplicate",
    "fragment_of_fewer",
    "fragment_limit",
    "fragment_repeated",
    "exchange_not_allowed",
    "half_open_limit",
    "held_back",
    "ike_sa_limit",
    "source_limit",
    "puzzle_unsolved",
    "too_many_failures",
    "queue_full",
    "waits_already",
    "too_late",
    "stopping",
    "memory",
)

# What a data plane counts besides the packets that it carries.
_DATAPLANE_EVENTS: Final = (
    "esp_unknown_spi",
    "esp_early",
    "esp_short",
    "esp_integrity",
    "esp_replayed",
    "esp_too_old",
    "esp_padding",
    "esp_inner_length",
    "esp_next_header",
    "esp_dummy",
    "esp_ecn",
    "esp_selectors",
    "esp_sequence_exhausted",
    "esp_nonce_exhausted",
    "esp_ignored",
    "inner_malformed",
    "inner_no_tunnel",
    "inner_handed_on",
    "inner_not_handed_on",
    "inner_too_big",
    "trap_sprung",
    "trap_dropped",
    "tun_dropped",
    "echo_answered",
    "echo_ignored",
)

# The error notifies of RFC 7296 section 3.10.1, in lower case.
_ERROR_NOTIFIES: Final = (
    "unsupported_critical_payload",
    "invalid_ike_spi",
    "invalid_major_version",
    "invalid_syntax",
    "invalid_message_id",
    "invalid_spi",
    "no_proposal_chosen",
    "invalid_ke_payload",
    "authentication_failed",
    "single_pair_required",
    "no_additional_sas",
    "internal_address_failure",
    "failed_cp_required",
    "ts_unacceptable",
    "invalid_selectors",
    "temporary_failure",
    "child_sa_not_found",
    "unexpected_nat_detected",
)

_REFUSALS: Final = (
    *_ERROR_NOTIFIES,
    "unknown_error_notify",
    "no_connection",
    "transport_mode_declined",
    "transport_mode_unavailable",
)

_ADDRESS_REFUSALS: Final = ("unacceptable_addresses", "unexpected_nat_detected", "by_peer")

_ENDINGS: Final = (
    *_ERROR_NOTIFIES,
    *(f"peer_{notify}" for notify in _ERROR_NOTIFIES),
    "peer_invalid_key_exchange",
    "peer_error",
    "local_error",
    "childless_unsupported",
    "transport_mode_unavailable",
    "unknown_error_notify",
    "timeout_ike_sa_init",
    "timeout_ike_auth",
    "timeout_create_child_sa",
    "timeout_informational",
    "rekeyed",
    "redundant",
    "reauthenticated",
    "expired",
    "half_open_timeout",
    "deleted",
    "deleted_by_peer",
    "abandoned",
    "initial_contact",
    "cookie2_mismatch",
    "replaced",
    "inactive",
    "internal_error",
)

_AUTHENTICATION_FAILURES: Final = (
    "no_auth_payload",
    "auth_method",
    "wrong_secret",
    "no_connection",
    "no_secret",
    "peer_identity",
    "not_unique",
)

_ABANDONED: Final = ("superseded", "timeout", "limit", "closed")

METRICS: Final = (
    counter("datagrams_received_total", "UDP datagrams and raw ESP packets taken from the kernel."),
    counter("datagrams_sent_total", "UDP datagrams and raw ESP packets given to the kernel."),
    counter("keepalives_received_total", "NAT keepalives received (RFC 3948 section 2.3)."),
    counter("keepalives_sent_total", "NAT keepalives sent."),
    by_reason("datagrams_dropped_total", "IKE datagrams thrown away.", _DROPS),
    by_reason("send_failures_total", "Datagrams that could not be sent.", _SOCKET_FAILURES),
    by_reason("receive_failures_total", "Errors that a socket reported on receipt.", _SOCKET_FAILURES),
    counter("kernel_drops_total", "Datagrams lost in the kernel because a socket's queue was full."),
    Metric("socket_drops_total", Kind.COUNTER, "The same by kind of socket.", "socket", SOCKET_KINDS),
    Metric("new_peers_shed_total", Kind.COUNTER, "First requests turned away in the kernel.", "socket", SOCKET_KINDS),
    Metric("strays_shed_total", Kind.COUNTER, "The same of what is for no IKE_SA.", "socket", SOCKET_KINDS),
    gauge("suspect_sources", "Sources that never return the cookies they ask for, of which few requests get in."),
    gauge("workers_limiting_strangers", "Workers that let few first requests in from where nobody is known to them."),
    Metric("receive_queue_octets", Kind.GAUGE, "What waits in the kernel to be received.", "socket", SOCKET_KINDS),
    Metric("datagrams_waiting", Kind.GAUGE, "IKE datagrams that wait in the workers.", "standing", STANDINGS),
    gauge("timers", "Timers of IKE_SAs that are set; of some nothing will come."),
    gauge("exchanges_put_off", "IKE_SAs whose new keys or liveness checks wait until what has arrived is served."),
    Metric("ike_sas", Kind.GAUGE, "IKE_SAs that exist, by state.", "state", ("half_open", "established")),
    gauge("child_sas", "CHILD_SAs that exist."),
    counter("ike_sas_established_total", "IKE_SAs that became established."),
    by_reason("ike_sas_closed_total", "IKE_SAs that ended, or never came to be.", _ENDINGS),
    by_reason("ike_sa_init_refused_total", "New peers that were answered with an error.", _ERROR_NOTIFIES),
    by_reason("authentication_failures_total", "Peers that were not let in.", _AUTHENTICATION_FAILURES),
    by_reason("child_sas_refused_total", "CHILD_SAs that were answered with an error.", _ERROR_NOTIFIES),
    by_reason(
        "child_sas_failed_total", "CHILD_SAs that were not made or not rekeyed, mostly since peers refused.", _REFUSALS
    ),
    by_reason("requests_failed_total", "Requests of peers that were answered with an error.", _ERROR_NOTIFIES),
    counter("retransmissions_total", "Requests of ours that went unanswered and were sent again."),
    counter("responses_repeated_total", "Retransmitted requests of peers, answered from the cache."),
    counter("ike_sas_rekeyed_total", "IKE_SAs that were replaced by one with new keys."),
    counter("ike_sas_rekeyed_by_us_total", "Those of them that were replaced because we began to."),
    counter("child_sas_rekeyed_total", "CHILD_SAs that were replaced by one with new keys."),
    counter("child_sas_inactive_total", "CHILD_SAs that were closed because they carried nothing for too long."),
    counter("reauthentications_total", "IKE_SAs begun to take the place of one that is to be authenticated anew."),
    by_reason("rekeyings_refused_total", "Rekeyings of ours that peers answered with an error.", _ERROR_NOTIFIES),
    counter("temporary_failures_total", "Requests of ours that peers could not fulfil just then; they are repeated."),
    counter("messages_reassembled_total", "Messages of peers that came in fragments (RFC 7383)."),
    counter("messages_cut_smaller_total", "Messages of ours that went unanswered and were cut into smaller fragments."),
    by_reason("reassemblies_abandoned_total", "Messages of which fragments stayed away.", _ABANDONED),
    counter("liveness_checks_total", "Silent peers asked whether they live (RFC 7296 section 2.4)."),
    counter("ike_sas_moved_total", "IKE_SAs that went on to another path: by MOBIKE, or after a NAT's mapping."),
    counter("address_updates_sent_total", "Peers told of a new address of ours (RFC 4555)."),
    counter("address_updates_received_total", "Peers that told us of a new address of theirs."),
    by_reason("address_updates_refused_total", "New addresses that were refused.", _ADDRESS_REFUSALS),
    counter("routability_checks_total", "New addresses of peers that were checked by a cookie."),
    counter("cookies_sent_total", "Initiators asked to return a cookie (RFC 7296 section 2.6)."),
    counter("cookies_accepted_total", "Initiators that returned a valid cookie."),
    counter("cookies_rejected_total", "Initiators that returned something else."),
    counter("invalid_ike_spi_sent_total", "Requests for unknown IKE_SAs answered (RFC 7296 section 2.21.4)."),
    counter("puzzles_sent_total", "Initiators asked to solve a puzzle (RFC 8019)."),
    counter("puzzles_accepted_total", "Initiators that solved their puzzle."),
    counter("puzzles_rejected_total", "Solutions that were wrong, or had been used before."),
    counter("puzzles_solved_total", "Puzzles that we solved, as initiator."),
    counter("puzzles_declined_total", "Puzzles that were too hard for us, as initiator, or not understood."),
    counter("cookies_returned_total", "Cookies that we were asked to return, as initiator."),
    Metric("esp_packets_total", Kind.COUNTER, "ESP packets carried.", "direction", ("in", "out")),
    Metric("esp_octets_total", Kind.COUNTER, "Octets of inner packets carried.", "direction", ("in", "out")),
    Metric(
        "dataplane_events_total",
        Kind.COUNTER,
        "Packets that the data plane dropped, or did something else with than to carry them.",
        "event",
        (*_DATAPLANE_EVENTS, OTHER),
    ),
    counter("internal_errors_total", "Exceptions that nobody expected; each ended one IKE_SA."),
    gauge("pool_addresses_in_use", "Virtual addresses that peers hold."),
    Metric(
        "ike_messages_total",
        Kind.COUNTER,
        "Messages of IKE_SAs, each once, by exchange and direction.",
        "message",
        (*EXCHANGE_MESSAGES, OTHER),
    ),
    counter("vici_clients_refused_total", "Connections to the control socket beyond those that it serves at a time."),
    counter("vici_events_dropped_total", "Events that a client of the control socket did not read in time."),
    gauge("memory_octets", "Resident memory of the workers; what they share counts in each."),
    gauge("workers_full", "Workers that refuse new peers because their share of the memory is used up."),
    Metric(
        "scripts_total",
        Kind.COUNTER,
        "Updown scripts, and programs that name servers; dropped are those that too many others were before.",
        "result",
        ("done", "failed", "killed", "dropped"),
    ),
    Metric(
        "log_lines_lost_total",
        Kind.COUNTER,
        "Lines of the log that a target did not take, or the supervisor not from a worker.",
        "target",
        ("stderr", "file", "syslog", "journal", "worker"),
    ),
    counter("worker_restarts_total", "Workers that ended and were started again."),
    Metric("handshake_duration_seconds", Kind.HISTOGRAM, "From an initial request to an established IKE_SA."),
)
"""Every metric of the gateway."""

"""The keys of `gateway { }` that limit new peers."""

from typing import Final

from cygnet.config import values
from cygnet.config.schema import Key
from cygnet.config.values import Kind

ADMISSION_KEYS: Final = (
    Key(
        "cookie_threshold",
        Kind("number", values.integer(0, 10**9)),
        "1000",
        "Half-open IKE_SAs of a worker from which on new peers must return a cookie first; 0 always asks. Where peers "
        "have authenticated themselves lately, only those count that were begun from such prefixes without a cookie. "
        "Sooner with groups larger than MODP-2048: when their key exchanges have cost as much as so many with that.",
        is_own=True,
    ),
    Key(
        "cookie_threshold_ip",
        Kind("number", values.integer(0, 10**9)),
        "250",
        "The same for one source prefix, counting peers that have not returned a cookie.",
        is_own=True,
    ),
    Key(
        "block_threshold",
        Kind("number", values.integer(0, 10**9)),
        "2000",
        "Half-open IKE_SAs of a worker from one source prefix, of peers that have returned a cookie, from which on "
        "more are dropped; 0 sets no limit.",
        is_own=True,
    ),
    Key(
        "init_limit_half_open",
        Kind("number", values.integer(1, 10**9)),
        "20000",
        "Half-open IKE_SAs of a worker from which on new ones are refused.",
        is_own=True,
    ),
    Key(
        "init_limit_job_load",
        Kind("number", values.integer(0, 10**9)),
        "0",
        "Datagrams of new peers that wait in a worker from which on a cookie is asked for; 0 sets no limit. "
        "(strongSwan drops then.)",
        is_own=True,
    ),
    Key(
        "ike_sa_limit",
        Kind("number", values.integer(0, 10**9)),
        "1000000",
        "IKE_SAs of a worker from which on new ones are refused; 0 sets no limit.",
        is_own=True,
    ),
    Key(
        "puzzle_threshold",
        Kind("number", values.integer(0, 10**9)),
        "5000",
        "Half-open IKE_SAs of a worker from which on a new peer must solve a puzzle (RFC 8019), once it has returned a "
        "cookie; 0 never asks.",
        is_own=True,
    ),
    Key(
        "puzzle_threshold_ip",
        Kind("number", values.integer(0, 10**9)),
        "1000",
        "The same for one source prefix, counting as `block_threshold` does; 0 never asks.",
        is_own=True,
    ),
    Key(
        "puzzle_difficulty",
        Kind("number", values.integer(1, 24)),
        "10",
        "Zero bits that a puzzle asks for at these thresholds; each more doubles the work.",
        is_own=True,
    ),
    Key(
        "puzzle_max_difficulty",
        Kind("number", values.integer(1, 24)),
        "16",
        "Zero bits that it asks for where `init_limit_half_open` or `block_threshold` is reached.",
        is_own=True,
    ),
    Key(
        "puzzle_unsolved_rate",
        Kind("number", values.integer(0, 10**6)),
        "100",
        "Peers that a worker lets in each second although they do not solve its puzzles; most can't.",
        is_own=True,
    ),
    Key(
        "puzzle_effort",
        Kind("number", values.integer(0, 24)),
        "18",
        "Zero bits of the hardest puzzle that we solve as initiator; 0 solves none.",
        is_own=True,
    ),
    Key(
        "source_prefix_ipv4",
        Kind("number", values.integer(8, 32)),
        "32",
        "Bits of a peer's IPv4 address by which half-open IKE_SAs are counted for each source.",
        is_own=True,
    ),
    Key(
        "source_prefix_ipv6",
        Kind("number", values.integer(40, 128)),
        "64",
        "The same for IPv6.",
        is_own=True,
    ),
    Key(
        "invalid_ike_spi_rate",
        Kind("number", values.integer(0, 1000)),
        "0",
        "Requests for IKE_SAs that do not exist which a worker answers each second with INVALID_IKE_SPI; 0 drops them "
        "all. A few help a peer whose SA was lost to notice it.",
        is_own=True,
    ),
)

"""Which connection a peer gets: by address first, then by identity."""

import pytest

from cygnet.auth.identity import ANY_IDENTITY, Identity, matches, parse_identity
from cygnet.iana import KeId, ProtocolId
from cygnet.ike.connection_index import ConnectionIndex
from cygnet.ike.connections import Candidates, Connection, choose_connection
from cygnet.ike.path import Path
from cygnet.ike.proposals import parse_proposal, to_offer
from cygnet.ike.settings import AuthSettings, ChildSettings, ConnectionSettings


def settings(
    name: str, remote: tuple[str, ...] = (), local: tuple[str, ...] = (), *, ids: tuple[str, str] = ("%any", "%any")
) -> ConnectionSettings:
    ours, theirs = map(parse_identity, ids)
    return ConnectionSettings(
        name=name,
        remote_addrs=remote,
        local_addrs=local,
        local=AuthSettings(id=ours),
        remote=AuthSettings(id=theirs),
    )


INDEX = ConnectionIndex(
    [
        settings("any"),
        settings("net", ("192.0.2.0/24", "2001:db8::/32")),
        settings("range", ("192.0.2.5 - 192.0.2.9",)),
        settings("host", ("192.0.2.7",)),
        settings("second host", ("192.0.2.7", "203.0.113.0/24")),
        settings("other local", ("192.0.2.7",), ("198.51.100.2",)),
        settings("v6 host", ("2001:DB8:0::1",)),
    ]
)


@pytest.mark.parametrize(
    ("remote", "local", "names"),
    [
        ("192.0.2.7", "198.51.100.1", ["host", "second host", "range", "net", "any"]),
        ("192.0.2.7", "198.51.100.2", ["host", "second host", "other local", "range", "net", "any"]),
        ("192.0.2.10", "198.51.100.1", ["net", "any"]),
        ("203.0.113.3", "198.51.100.1", ["second host", "any"]),
        ("10.0.0.1", "198.51.100.1", ["any"]),
        ("2001:db8::1", "2001:db8::2", ["v6 host", "net", "any"]),
    ],
)
def test_connections_on_a_path_the_most_specific_first(remote: str, local: str, names: list[str]) -> None:
    assert [c.settings.name for c in INDEX.on_path(Path(local, 500, remote, 500))] == names


def test_without_restrictions_every_peer_gets_the_same_tuple() -> None:
    index = ConnectionIndex([settings("one"), settings("two")])
    first, second = (index.on_path(Path("198.51.100.1", 500, remote, 500)) for remote in ("192.0.2.1", "192.0.2.2"))
    assert first is second
    assert [c.settings.name for c in first] == [c.settings.name for c in index.all()] == ["one", "two"]


def test_connections_are_found_by_name() -> None:
    found = INDEX.named("host")
    assert found is not None and found.settings.name == "host"
    assert INDEX.named("nobody") is None


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="example"):
        ConnectionIndex([settings("bad", ("gw.example.org",))])


CANDIDATES = Candidates(
    tuple(
        Connection(s)
        for s in (
            settings("anybody"),
            settings("org", ids=("gw.example.org", "*@example.org")),
            settings("carol", ids=("gw.example.org", "carol@example.org")),
            settings("again", ids=("gw.example.org", "carol@example.org")),
            settings("loose", ids=("%any", "carol@example.org")),
            settings("net", ids=("gw.example.net", "carol@example.org")),
        )
    )
)


@pytest.mark.parametrize(
    ("id_i", "id_r", "name"),
    [
        ("carol@example.org", None, "carol"),
        ("dave@example.org", None, "org"),
        ("dave@example.com", None, "anybody"),
        ("carol@example.org", "gw.example.net", "net"),
        ("carol@example.org", "gw.example.com", "loose"),
        ("dave@example.org", "gw.example.com", "anybody"),
    ],
)
def test_the_best_match_of_identities_wins_and_the_first_among_equals(id_i: str, id_r: str | None, name: str) -> None:
    chosen = choose_connection(CANDIDATES, parse_identity(id_i), parse_identity(id_r) if id_r else None)
    assert chosen is not None and chosen.settings.name == name


def test_nobody_fits() -> None:
    assert choose_connection(Candidates(tuple(CANDIDATES)[1:]), parse_identity("dave@example.com"), None) is None
    assert choose_connection(Candidates(), ANY_IDENTITY, None) is None


def test_a_peer_that_sends_a_pattern_is_not_everybody() -> None:
    pattern = Identity(3, b"*@example.org")
    chosen = choose_connection(Candidates(tuple(CANDIDATES)[2:3]), pattern, None)
    assert chosen is None


def test_key_exchange_methods_come_in_order_and_once() -> None:
    proposals = tuple(
        parse_proposal(ProtocolId.IKE, f"aes128-sha256-{methods}") for methods in ("x25519-ecp256", "modp2048-x25519")
    )
    connection = Connection(ConnectionSettings(name="c", proposals=proposals))
    assert connection.ke_methods == (KeId.CURVE25519, KeId.ECP_256, KeId.MODP_2048)
    assert [p.number for p in connection.ike_offer.proposals] == [1, 2]


def test_among_thousands_the_choice_is_that_of_looking_at_each() -> None:
    """Exact identities, in any case, and patterns between them: the index finds what the rule says."""
    texts = [
        "*@example.org" if n % 100 == 7 else "%any" if n % 250 == 11 else f"User{n}@Example.org" for n in range(1000)
    ]
    many = tuple(
        Connection(ConnectionSettings(name=str(n), remote=AuthSettings(id=parse_identity(text))))
        for n, text in enumerate(texts)
    )
    candidates = Candidates(many)
    for text in ("user5@example.org", "USER999@EXAMPLE.ORG", "nobody@example.org", "nobody@example.com", "10.0.0.1"):
        identity = parse_identity(text)
        fits = [(matches(c.settings.remote.id, identity), -n) for n, c in enumerate(many)]
        _, best = max((quality, number) for quality, number in fits if quality is not None)
        assert choose_connection(candidates, identity, None) is many[-best]
    tried = list(candidates.may_fit(parse_identity("user5@example.org")))
    assert len(tried) == 1 + 10 + 4


def test_of_thousands_with_addresses_only_those_that_fit_are_looked_at() -> None:
    """Whatever the addresses of the others are: theirs, their subnets, ours."""
    sites = [settings(f"site{n}", (f"10.{n >> 8}.{n & 255}.0/29",), ("198.51.100.1",)) for n in range(2000)]
    hosts = [settings(f"host{n}", (f"172.16.{n >> 8}.{n & 255}",), ("198.51.100.1",)) for n in range(2000)]
    clients = [settings(f"client{n}", (), ("198.51.100.1",), ids=("gw", f"c{n}")) for n in range(2000)]
    index = ConnectionIndex([*clients, *sites, *hosts])

    def tried(remote: str, identity: str) -> list[str]:
        candidates = index.on_path(Path("198.51.100.1", 500, remote, 500))
        return [c.settings.name for c in candidates.may_fit(parse_identity(identity))]

    assert tried("10.3.7.5", "c9") == ["site775", "client9"]
    assert tried("10.3.7.9", "c9") == ["client9"]
    assert tried("172.16.3.7", "nobody") == ["host775"]
    assert tried("fd00::1", "c1999") == ["client1999"]
    assert not list(index.on_path(Path("198.51.100.2", 500, "10.3.7.5", 500)))


def test_what_fits_is_what_looking_at_each_finds() -> None:
    """Over addresses in all corners of sets that overlap."""
    sets = [(), ("10.0.0.0/8",), ("10.1.0.0/16", "10.1.2.3"), ("10.1.2.3",), ("10.1.2.0-10.1.3.7",), ("fd00::/8",)]
    sets += [("10.1.2.3/32",), ("fd00::1-fd00::5", "10.1.0.0/16"), ("0.0.0.0/0",), ("::/0", "fd00::1")]
    index = ConnectionIndex([settings(str(n), both) for n, both in enumerate(sets)])
    remotes = ("10.1.2.3", "10.1.3.7", "10.1.3.8", "10.255.255.255", "11.0.0.0", "fd00::1", "fd00::6", "fe80::1")
    for remote in remotes:
        path = Path("198.51.100.1", 500, remote, 500)
        found = [c.settings.name for c in index.on_path(path)]
        assert sorted(found) == sorted(c.settings.name for c in index.all() if c.fits(path))


def test_an_offer_is_matched_once_with_connections_of_the_same_proposals() -> None:
    proposals = [(parse_proposal(ProtocolId.IKE, text),) for text in ("aes128-sha256-x25519", "aes256-sha512-x448")]
    many = tuple(Connection(ConnectionSettings(name=str(n), proposals=proposals[n % 2])) for n in range(100))
    candidates = Candidates(many)
    assert list(candidates.distinct()) == [many[0], many[1]]
    assert candidates.led_by(many[0]) is candidates
    assert candidates.led_by(many[1]).first is many[1]
    assert list(candidates.led_by(many[1])) == list(many)


@pytest.mark.parametrize(
    ("remote", "name"), [("192.0.2.7", "host"), ("192.0.2.8", "small net"), ("192.0.2.200", "net"), ("9.9.9.9", "two")]
)
def test_of_equal_identities_the_most_specific_address_decides_and_then_the_order(remote: str, name: str) -> None:
    both = ("gw.example.org", "carol@example.org")
    index = ConnectionIndex(
        (
            settings("pattern at the host", ("192.0.2.7",), ids=("gw.example.org", "*@example.org")),
            settings("net", ("192.0.2.0/24",), ids=both),
            settings("two", ids=both),
            settings("three", ids=both),
            settings("small net", ("192.0.2.0/28",), ids=both),
            settings("host", ("192.0.2.7",), ids=both),
        )
    )
    candidates = index.on_path(Path("198.51.100.1", 500, remote, 500))
    for id_r in (None, parse_identity("gw.example.org")):
        chosen = choose_connection(candidates, parse_identity("carol@example.org"), id_r)
        assert chosen is not None and chosen.settings.name == name


def test_a_connection_whose_addresses_overlap_is_one_candidate_at_its_most_specific() -> None:
    index = ConnectionIndex(
        (
            settings("net", ("192.0.2.0/28",)),
            settings("twice", ("192.0.2.0/24", "192.0.0.0/16", "192.0.2.7")),
            settings("any"),
        )
    )

    def names(remote: str) -> list[str]:
        return [c.settings.name for c in index.on_path(Path("198.51.100.1", 500, remote, 500))]

    assert names("192.0.2.7") == ["twice", "net", "any"]
    assert names("192.0.2.8") == ["net", "twice", "any"]
    assert names("192.0.2.99") == ["twice", "any"]


def test_a_thousand_connections_with_the_same_proposals_have_one_offer() -> None:
    children = (ChildSettings(name="net"),)
    one, other = (Connection(ConnectionSettings(name=name, children=children)) for name in ("a", "b"))
    assert one.ike_offer is other.ike_offer
    [child], [same] = one.children, other.children
    assert child.offer is same.offer and child.further_offer is same.further_offer
    # A CHILD_SA within IKE_AUTH has no key exchange of its own (RFC 7296 section 1.2).
    assert child.offer == to_offer(child.settings.esp_proposals, has_ke=False)


def test_a_twin_shares_all_but_who_we_are() -> None:
    connection = Connection(ConnectionSettings(name="a", children=(ChildSettings(name="net"),)))
    twin = connection.with_local_id(parse_identity("carol@example.org"))
    assert twin.origin is connection and twin.with_local_id(ANY_IDENTITY).origin is connection
    assert twin.settings.local.id == parse_identity("carol@example.org")
    shared = set(Connection.__slots__) - {"settings", "origin"}
    assert all(getattr(twin, name) is getattr(connection, name) for name in shared)

"""Which connection a peer gets: by address first, then by identity."""

import pytest

from cygnet.auth.identity import ANY_IDENTITY, Identity, matches, parse_identity
from cygnet.iana import KeId, ProtocolId
from cygnet.ike.connections import Candidates, Connection, ConnectionIndex, choose_connection
from cygnet.ike.path import Path
from cygnet.ike.proposals import parse_proposal
from cygnet.ike.settings import AuthSettings, ConnectionSettings


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
        ("192.0.2.7", "198.51.100.1", ["host", "second host", "any", "net", "range"]),
        ("192.0.2.7", "198.51.100.2", ["host", "second host", "other local", "any", "net", "range"]),
        ("192.0.2.10", "198.51.100.1", ["any", "net"]),
        ("203.0.113.3", "198.51.100.1", ["any", "second host"]),
        ("10.0.0.1", "198.51.100.1", ["any"]),
        ("2001:db8::1", "2001:db8::2", ["v6 host", "any", "net"]),
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
    assert choose_connection(CANDIDATES[1:], parse_identity("dave@example.com"), None) is None
    assert choose_connection(Candidates(), ANY_IDENTITY, None) is None


def test_a_peer_that_sends_a_pattern_is_not_everybody() -> None:
    pattern = Identity(3, b"*@example.org")
    chosen = choose_connection(CANDIDATES[2:3], pattern, None)
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
        assert choose_connection(candidates[500:], identity, None) in (None, *many[500:])
    tried = list(candidates.may_fit(parse_identity("user5@example.org")))
    assert len(tried) == 1 + 10 + 4
    assert candidates[0:] is candidates

"""Which secret is found for whom."""

import pytest

from cygnet.auth.credentials import SharedSecrets, _Rank
from cygnet.auth.identity import Identity, parse_identity
from cygnet.ike.settings import SharedSecret

FLEET = 3000


def secrets(*rows: tuple[str, ...]) -> SharedSecrets:
    return SharedSecrets(
        SharedSecret(name.encode(), tuple(parse_identity(owner) for owner in owners)) for name, *owners in rows
    )


def find(among: SharedSecrets, local: str, remote: str) -> str | None:
    secret = among.find(parse_identity(local), parse_identity(remote))
    return None if secret is None else secret.decode()


ROWS = (
    ("anybody's",),
    ("example's", "*@example.org"),
    ("gateway's", "gw.example.org"),
    ("carol's", "carol@example.org"),
    ("carol's here", "carol@example.org", "gw.example.org"),
    ("dave's", "dave@example.org", "%any"),
    ("dave's too", "dave@example.org"),
    ("net's", "10.0.0.0/8", "gw.example.org"),
    ("host's", "10.0.0.1"),
    ("firm's", "C=CH, O=x, CN=*"),
)


@pytest.mark.parametrize(
    ("local", "remote", "found"),
    [
        ("gw.example.org", "carol@example.org", "carol's here"),
        ("GW.example.org", "Carol@Example.org", "carol's here"),
        ("other.example.org", "carol@example.org", "carol's"),
        ("gw.example.org", "dave@example.org", "dave's"),
        ("gw.example.org", "erin@example.org", "example's"),
        ("gw.example.org", "stranger.example.com", "anybody's"),
        ("gw.example.org", "10.2.3.4", "net's"),
        ("gw.example.org", "10.0.0.1", "host's"),
        ("x", "C=CH, O=X, CN=moon", "firm's"),
        ("x", "C=CH, O=Y, CN=moon", "anybody's"),
        ("carol@example.org", "gw.example.org", "carol's here"),
        ("erin@example.org", "gw.example.org", "gateway's"),
    ],
)
def test_choice(local: str, remote: str, found: str) -> None:
    assert find(secrets(*ROWS), local, remote) == found


def test_the_first_of_equals_is_taken() -> None:
    among = secrets(("first", "a", "b"), ("second", "a", "b"), ("first any",), ("second any",))
    assert find(among, "a", "b") == "first"
    assert find(among, "x", "y") == "first any"


def test_a_secret_of_ours_alone_is_taken_before_none() -> None:
    among = secrets(("other's", "z"), ("ours", "gw"))
    assert find(among, "gw", "peer") == "ours"
    assert find(among, "x", "peer") is None


def test_an_identity_that_looks_like_a_pattern_is_none() -> None:
    among = secrets(("wild", "*.example.org"), ("any",))
    assert find(among, "gw", "fqdn:*.example.com") == "any"


def test_nothing_is_found_among_nothing() -> None:
    assert find(secrets(), "a", "b") is None
    assert len(secrets()) == 0


def test_a_large_fleet_is_not_searched() -> None:
    ranked: list[int] = []

    class Counting(SharedSecrets):
        def _rank(self, number: int, local: Identity, remote: Identity) -> _Rank:
            ranked.append(number)
            return super()._rank(number, local, remote)

    gateway = parse_identity("gw.example.org")
    fleet = [SharedSecret(b"%d" % n, (gateway, parse_identity(f"c{n}@example.org"))) for n in range(FLEET)]
    among = Counting([*fleet, SharedSecret(b"pattern", (parse_identity("*@example.net"),))])
    assert find(among, "gw.example.org", "c2999@example.org") == "2999"
    assert ranked == []
    assert find(among, "gw.example.org", "nobody@example.org") == "0"
    assert len(ranked) == 2


def test_a_fleet_of_ours_without_secrets_of_its_own_is_searched_for_once() -> None:
    searched: list[str] = []

    class Counting(SharedSecrets):
        def _search(self, local: Identity, remote: Identity) -> bytes | None:
            searched.append(str(local))
            return super()._search(local, remote)

    among = Counting([SharedSecret(b"named", (parse_identity("c7@example.org"),))])
    found = {find(among, f"c{number}@example.org", "gw.example.org") for number in range(50) if number != 7}
    assert found == {None} and len(searched) == 1
    assert [find(among, "C7@example.org", "gw.example.org") for _ in range(3)] == ["named"] * 3
    assert len(searched) == 2


def test_secrets_are_not_printed() -> None:
    among = secrets(("hunter2", "gw"))
    assert "hunter2" not in repr(among) + str(among)

import itertools

import pytest

from cygnet.gateway.claims import NOBODY, RESERVED, USED, WAITING, Claim, Claims


def test_what_counts_is_what_a_worker_has_and_then_who_came_last() -> None:
    claims: Claims[str] = Claims()
    assert claims.holder("a") == NOBODY
    claims.add("a", 0, RESERVED)
    claims.add("a", 1, WAITING)
    assert claims.holder("a") == 1, "a CHILD_SA goes before a trap"
    claims.add("a", 2, USED)
    claims.add("a", 0, WAITING)
    assert claims.holder("a") == 2, "one that the peer has not used yet does not"
    claims.add("a", 0, USED)
    assert claims.holder("a") == 0
    claims.add("a", 2, USED)
    assert claims.holder("a") == 2
    claims.discard("a", 2, USED)
    claims.discard("a", 2, USED)
    assert claims.holder("a") == 0
    claims.discard("a", 0, USED)
    assert claims.holder("a") == 0, "both wait, and this one came last"
    claims.discard("a", 0, WAITING)
    claims.discard("a", 1, WAITING)
    assert claims.holder("a") == 0 and claims.wants("a", 0) and not claims.wants("a", 1)


@pytest.mark.parametrize("order", list(itertools.permutations(Claim)))
def test_the_order_of_different_claims_does_not_matter(order: tuple[Claim, ...]) -> None:
    claims: Claims[str] = Claims()
    for claim in order:
        claims.add("a", int(claim), claim)
    assert claims.holder("a") == int(USED)


def test_a_dead_worker_wants_nothing_and_leaves_nothing_behind() -> None:
    claims: Claims[str] = Claims()
    for key, worker, claim in (("a", 0, USED), ("a", 0, RESERVED), ("a", 1, WAITING), ("b", 0, USED), ("c", 1, USED)):
        claims.add(key, worker, claim)
    assert sorted(claims.discard_all(0)) == ["a", "b"]
    assert [claims.holder(key) for key in "abc"] == [1, NOBODY, 1]
    claims.discard_all(1)
    assert not claims._wanted

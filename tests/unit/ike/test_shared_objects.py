"""Numbers in place of objects that records share."""

from cygnet.ike.shared_objects import SharedObjects


def test_an_object_is_known_as_long_as_a_record_refers_to_it() -> None:
    shared = SharedObjects()
    first, second = ["equal"], ["equal"]
    number = shared.refer(first)
    assert shared.refer(first) == number and shared.refer(second) != number
    assert shared.look(number) is first and len(shared) == 2
    assert shared.release(number) is first and shared.look(number) is first
    assert shared.release(number) is first and len(shared) == 1
    third: list[str] = []
    assert shared.refer(third) == number, "numbers are used again, so that they stay small"
    assert shared.look(number) is third

"""What waits for the window of one: every task has its way, and can be kept."""

from typing import get_args

import msgspec
import pytest

from cygnet.ike import requests
from cygnet.ike.tasks import CreateChild, DeleteChild, DeleteIke, Probe, RekeyIke, TakeOver, Task


def test_every_task_has_a_way() -> None:
    assert set(requests.WAYS) == set(get_args(Task))


@pytest.mark.parametrize(
    "task",
    [
        Probe(),
        DeleteIke(),
        DeleteChild(b"abcd"),
        CreateChild("net"),
        RekeyIke(2),
        TakeOver(b"spi", ("net", "lan"), ("net",)),
    ],
    ids=str,
)
def test_a_task_can_be_kept_as_octets(task: Task) -> None:
    kept = msgspec.msgpack.encode((task,))
    assert msgspec.msgpack.decode(kept, type=tuple[Task, ...]) == (task,)

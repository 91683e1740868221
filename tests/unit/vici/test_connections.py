"""What is shown of connections."""

import pytest

from cygnet.ike.settings import ChildSettings, ConnectionSettings, EndAction, Unique
from cygnet.vici.commands.connections import layout
from cygnet.vici.message import decode, encode


@pytest.mark.parametrize("unique", Unique)
def test_the_policy_of_uniqueness_has_strongswans_name(unique: Unique) -> None:
    shown = decode(encode(layout(ConnectionSettings(name="rw", unique=unique))))
    assert shown["unique"] == f"UNIQUE_{unique.value.upper()}".encode()


@pytest.mark.parametrize(("dpd", "close"), [(EndAction.NONE, EndAction.START), (EndAction.START, EndAction.NONE)])
def test_actions_are_what_is_configured(dpd: EndAction, close: EndAction) -> None:
    child = ChildSettings(name="net", dpd_action=dpd, close_action=close)
    children = decode(encode(layout(ConnectionSettings(name="rw", children=(child,)))))["children"]
    assert isinstance(children, dict)
    shown = children["net"]
    assert isinstance(shown, dict)
    assert (shown["dpd_action"], shown["close_action"]) == (dpd.value.encode(), close.value.encode())

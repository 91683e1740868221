"""strongSwan's counters, for the daemon and by connection."""

import asyncio
from typing import Any, cast

import pytest

from cygnet.observe.counters import Counters
from cygnet.vici.backend import Backend
from cygnet.vici.commands.counters import SERIES, table
from cygnet.vici.message import Encodable, Section
from cygnet.vici.server import Call

AUTH = 'ike_messages_total{message="ike-auth-out-resp"}'


class Tallies:
    """A daemon that has counted this for its connections."""

    def __init__(self) -> None:
        self.tallies_of: dict[str, dict[str, int]] = {}

    async def tallies(self, name: str) -> dict[str, dict[str, int]]:
        return {each: tally for each, tally in self.tallies_of.items() if name in ("", each)}


class Asked:
    """Its commands, asked."""

    def __init__(self) -> None:
        self.counters = Counters.create(writers=1)
        self.backend = Tallies()
        self._commands = table(cast("Backend", self.backend), self.counters)

    def run(self, command: str, **message: bytes) -> Any:
        async def run() -> Encodable:
            return await self._commands[command].run(Call(cast("Section", dict(message)), emit, emit))

        return asyncio.run(run())

    def authentications(self, **message: bytes) -> dict[str, int]:
        counters = self.run("get-counters", **message)["counters"]
        assert all(list(values) == list(SERIES) for values in counters.values())
        return {name: values["ike-auth-out-resp"] for name, values in counters.items()}


async def emit(*arguments: object) -> None:
    raise AssertionError("these commands have no events")


@pytest.fixture
def asked() -> Asked:
    it = Asked()
    it.counters.writer(0).count(AUTH, 5)
    it.backend.tallies_of = {"b": {AUTH: 2}, "a": {AUTH: 3}, "idle": {}}
    return it


def test_the_daemon_one_connection_and_all_of_them(asked: Asked) -> None:
    assert asked.authentications() == {"": 5}
    assert asked.authentications(name=b"a") == {"a": 3}
    assert list(asked.authentications(all=b"yes").items()) == [("a", 3), ("b", 2)]


@pytest.mark.parametrize("name", [b"nonsense", b"idle"])
def test_a_connection_that_has_counted_nothing(asked: Asked, name: bytes) -> None:
    answer = asked.run("get-counters", name=name)
    assert answer == {"counters": {}, "success": False, "errmsg": "no counters found for this connection"}
    assert asked.run("reset-counters", name=name) == {"success": True}


def test_rekeyings_that_the_peer_began_are_those_that_we_did_not(asked: Asked) -> None:
    asked.backend.tallies_of["a"] = {"ike_sas_rekeyed_total": 5, "ike_sas_rekeyed_by_us_total": 2}
    values = asked.run("get-counters", name=b"a")["counters"]["a"]
    assert (values["ike-rekey-init"], values["ike-rekey-resp"]) == (2, 3)


def test_each_is_reset_by_itself(asked: Asked) -> None:
    asked.run("reset-counters", name=b"a")
    assert asked.authentications() == {"": 5}
    assert asked.authentications(all=b"yes") == {"b": 2}
    asked.backend.tallies_of["a"] = {AUTH: 4}
    assert asked.authentications(all=b"yes") == {"a": 1, "b": 2}
    asked.run("reset-counters")
    assert asked.authentications() == {"": 0}
    assert asked.authentications(all=b"yes") == {"a": 1, "b": 2}


def test_all_are_reset_at_once(asked: Asked) -> None:
    asked.run("reset-counters", all=b"yes")
    assert asked.authentications(all=b"yes") == {}
    assert asked.authentications() == {"": 0}


def test_a_worker_that_was_started_anew_does_not_count_backwards(asked: Asked) -> None:
    asked.run("reset-counters", name=b"a")
    asked.backend.tallies_of["a"] = {AUTH: 1, 'ike_messages_total{message="info-in-req"}': 1}
    assert asked.authentications(name=b"a") == {"a": 0}

"""What a handshake costs in the core, in bytecode instructions: the same on every machine, however busy it is.

Time can't be asserted, and every feature puts a little on the way of each handshake. Whoever needs more than there is
here raises the limit, and says in the commit for what.
"""

import sys

import pytest
from tests.instructions import Instructions
from tests.sim.world import (
    GATEWAY,
    Host,
    ListPool,
    World,
    client_connection,
    client_settings,
    counted,
    gateway_settings,
)

from cygnet.auth.identity import parse_identity
from cygnet.ike.settings import AuthSettings, ConnectionSettings

WARM_UP = 5
"""Handshakes before: the first of a fleet fills what the others find."""
RESPONDER, INITIATOR = 6900, 7800
"""As counted with CPython 3.11, and a tenth. Its successors need fewer."""


def make_client(gateway: Host, number: int) -> tuple[Host, ConnectionSettings]:
    """A peer that has an identity and an address of its own."""
    identity = parse_identity(f"c{number}@example.org")
    client = Host(gateway.world, f"192.0.2.{number}", client_settings())
    return client, client_connection(local=AuthSettings(id=identity))


@pytest.mark.skipif(sys.gettrace() is not None, reason="a debugger or a measurement of coverage traces already")
def test_a_handshake_stays_cheap() -> None:
    world = World()
    gateway = Host(world, GATEWAY, gateway_settings(), ListPool(counted(WARM_UP + 1)))
    for number in range(1, WARM_UP + 1):
        client, connection = make_client(gateway, number)
        client.initiate(gateway, connection)
        world.run(1.0)
    client, connection = make_client(gateway, WARM_UP + 1)
    of_responder, of_initiator = Instructions(), Instructions()
    gateway.table.receive = of_responder.counting(gateway.table.receive)  # type: ignore[method-assign]
    client.table.receive = of_initiator.counting(client.table.receive)  # type: ignore[method-assign]
    client.table.initiate = of_initiator.counting(client.table.initiate)  # type: ignore[method-assign]
    client.initiate(gateway, connection)
    world.run(1.0)
    assert len(gateway.established) == WARM_UP + 1 and len(client.established) == 1
    assert 1000 < of_responder.by_function.total() <= RESPONDER, str(of_responder)
    assert 1000 < of_initiator.by_function.total() <= INITIATOR, str(of_initiator)

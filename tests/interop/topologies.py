"""The networks that most tests want: a client and a server, joined directly or through a NAT."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec
from tests.interop.namespaces import Link, Namespace, NatNamespace


class Topology(msgspec.Struct, frozen=True):
    """Two namespaces that reach each other, and by which addresses."""

    client: Namespace
    server: Namespace
    client_address: str
    server_address: str
    server_address_v6: str = ""
    client_address_v6: str = ""
    nat: NatNamespace | None = None
    """The router between them; the server sees its address instead of the client's."""


@contextmanager
def direct_topology() -> Iterator[Topology]:
    """client 192.0.2.2, 2001:db8::2 -- 192.0.2.1, 2001:db8::1 server."""
    with ExitStack() as stack:
        client = stack.enter_context(Namespace("client"))
        server = stack.enter_context(Namespace("server"))
        stack.enter_context(
            Link(client, ["192.0.2.2/24", "2001:db8::2/64"], server, ["192.0.2.1/24", "2001:db8::1/64"])
        )
        yield Topology(
            client=client,
            server=server,
            client_address="192.0.2.2",
            server_address="192.0.2.1",
            client_address_v6="2001:db8::2",
            server_address_v6="2001:db8::1",
        )


@contextmanager
def nat_topology() -> Iterator[Topology]:
    """client 10.99.0.2 -- 10.99.0.1 router 192.0.2.254 -- 192.0.2.1 server with no route to 10.99.0.0/24."""
    with ExitStack() as stack:
        client = stack.enter_context(Namespace("client"))
        router = stack.enter_context(NatNamespace("router"))
        server = stack.enter_context(Namespace("server"))
        stack.enter_context(Link(client, ["10.99.0.2/24"], router, ["10.99.0.1/24"]))
        outside = stack.enter_context(Link(router, ["192.0.2.254/24"], server, ["192.0.2.1/24"]))
        client.add_route("default", "10.99.0.1")
        router.masquerade(outside.left_device)
        yield Topology(
            client=client,
            server=server,
            client_address="10.99.0.2",
            server_address="192.0.2.1",
            nat=router,
        )

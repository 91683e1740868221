"""What IKE settles about how a CHILD_SA carries packets: its mode, and padding (RFC 7296 section 1.3.1)."""

import msgspec
import pytest
from tests.sim.world import (
    CLIENT,
    ESP,
    EVERYTHING,
    GATEWAY,
    Host,
    ListPool,
    World,
    agree,
    change_connection,
    client_connection,
    client_settings,
    counted,
    gateway_settings,
)

from cygnet.iana import ExchangeType, NotifyType, ProtocolId
from cygnet.ike.carriage import Carriage
from cygnet.ike.sa import IkeSa, Turn
from cygnet.ike.settings import TFC_MTU, ChildSettings
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.notify import Notify


class AuthTap:
    """Adds a notify to the IKE_AUTH message of one end, and keeps the notify types of both messages."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, added: NotifyType, *, by_initiator: bool = True) -> None:
        self.asked: list[int] = []
        self.answered: list[int] = []
        extra = (Notify(ProtocolId.NONE, b"", added, b""),)
        send_request, send_response = IkeSa.send_request, IkeSa.send_response

        def tap_request(sa: IkeSa, exchange: ExchangeType, payloads: tuple[Payload, ...], turn: Turn) -> None:
            if exchange == ExchangeType.IKE_AUTH:
                payloads = (*payloads, *extra) if by_initiator else payloads
                self.asked += [p.notify_type for p in payloads if isinstance(p, Notify)]
            send_request(sa, exchange, payloads, turn)

        def tap_response(
            sa: IkeSa, datagram: bytes, exchange: ExchangeType, payloads: tuple[Payload, ...], turn: Turn
        ) -> None:
            if exchange == ExchangeType.IKE_AUTH:
                payloads = payloads if by_initiator else (*payloads, *extra)
                self.answered += [p.notify_type for p in payloads if isinstance(p, Notify)]
            send_response(sa, datagram, exchange, payloads, turn)

        monkeypatch.setattr(IkeSa, "send_request", tap_request)
        monkeypatch.setattr(IkeSa, "send_response", tap_response)


def establish(world: World, tfc_padding: int = 0) -> tuple[Carriage, Carriage]:
    """Set a tunnel up; what the client's end and the gateway's are to do."""
    ours = ChildSettings(name="net", esp_proposals=ESP, local_ts=EVERYTHING, tfc_padding=tfc_padding)
    theirs = ChildSettings(name="net", esp_proposals=ESP, remote_ts=EVERYTHING, tfc_padding=tfc_padding)
    gateway = Host(world, GATEWAY, change_connection(gateway_settings(), children=(ours,)), ListPool(counted(1)))
    client = Host(world, CLIENT, client_settings())
    client.initiate(gateway, client_connection(children=(theirs,)))
    world.run(1.0)
    assert agree(client, gateway)
    [client_end], [gateway_end] = client.children.values(), gateway.children.values()
    return client_end.carriage, gateway_end.carriage


def test_transport_mode_is_answered_with_tunnel_mode(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A responder that does not agree leaves USE_TRANSPORT_MODE out, and the CHILD_SA is a tunnel."""
    tap = AuthTap(monkeypatch, NotifyType.USE_TRANSPORT_MODE)
    establish(world)
    assert NotifyType.USE_TRANSPORT_MODE in tap.asked
    assert NotifyType.USE_TRANSPORT_MODE not in tap.answered


@pytest.mark.parametrize("padding", [1000, TFC_MTU])
@pytest.mark.parametrize("by_initiator", [True, False])
def test_a_peer_that_takes_no_padding_gets_none(
    world: World, monkeypatch: pytest.MonkeyPatch, padding: int, by_initiator: bool
) -> None:
    AuthTap(monkeypatch, NotifyType.ESP_TFC_PADDING_NOT_SUPPORTED, by_initiator=by_initiator)
    padded = Carriage(tfc_padding=padding)
    plain = msgspec.structs.replace(padded, tfc_padding=0)
    assert establish(world, padding) == ((padded, plain) if by_initiator else (plain, padded))


def test_padding_is_always_taken_and_never_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tap = AuthTap(monkeypatch, NotifyType.USE_TRANSPORT_MODE)
    assert establish(world, 500) == (Carriage(tfc_padding=500), Carriage(tfc_padding=500))
    assert NotifyType.ESP_TFC_PADDING_NOT_SUPPORTED not in (*tap.asked, *tap.answered)

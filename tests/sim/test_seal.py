"""While a filter keeps out what names no SPI of ours, no datagram of an honest peer is kept out."""

import pytest
from tests.property.test_steering import run
from tests.sim.test_rekey import Ends
from tests.sim.world import Host, Weather, World, agree, sa_of

from cygnet.ike.effects import Send
from cygnet.ike.spi import SpiSeal, node_of_ike_spi
from cygnet.ike.tasks import RekeyChild, RekeyIke
from cygnet.net.shedding_filter import SpiRules, shedding_filter

UDP_HEADER = bytes(8)


class Sealed(Host):
    """A host whose SPIs bear a seal of its own."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        seal = SpiSeal.from_octets(self.address.encode().ljust(16))
        self.env.spi_seal = seal
        self.filter = shedding_filter(1.0, is_natt=False, spis=SpiRules(self.env.node, seal))


@pytest.mark.parametrize("seed", range(4))
def test_all_that_peers_send_bears_the_seal_of_whom_it_is_for(seed: int) -> None:
    world = World(seed=seed)
    let_in = 0

    def check(host: Host, send: Send) -> tuple[Send, ...]:
        nonlocal let_in
        receiver = world.hosts[send.path.remote]
        assert isinstance(receiver, Sealed)
        assert run(receiver.filter, UDP_HEADER + send.datagram), send
        wrong = bytearray(send.datagram)
        place = 11 if wrong[19] & 0x08 else 3
        wrong[place] ^= 1
        assert not run(receiver.filter, UDP_HEADER + wrong)
        let_in += 1
        return (send,)

    world.tamper = check
    ends = Ends(world, connection={"dpd_delay_s": 5.0, "rekey_time_s": 0.0}, kind=Sealed)
    world.weather = Weather(loss=0.1, duplication=0.1, jitter=0.1)
    for host in (ends.client, ends.gateway):
        ends.order(host, RekeyIke())
        ends.order(host, RekeyChild(sa_of(host).children[0].spi_in))
        world.run(60.0)
        assert agree(ends.client, ends.gateway)
    for host in (ends.client, ends.gateway):
        ends.order(host, RekeyIke())
    # Both at once: what one end has forgotten, since the answer to its Delete was lost for too long, times out.
    world.run(200.0)
    assert agree(ends.client, ends.gateway)
    assert node_of_ike_spi(sa_of(ends.gateway).spi) == ends.gateway.env.node
    ends.client.delete(sa_of(ends.client).spi)
    world.run(60.0)
    assert not ends.gateway.table.sas
    assert let_in > 40

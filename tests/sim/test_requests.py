"""An IKE_SA has one request outstanding; what else it wants waits, in order."""

from tests.sim.world import Host, World, agree, sa_of

from cygnet.ike.tasks import DeleteChild, DeleteIke, Probe, Task


def ask(world: World, host: Host, *tasks: Task) -> None:
    for task in tasks:
        host.carry_out(host.table.order(sa_of(host).spi, task, world.now))


def test_they_go_one_after_the_other(world: World, client: Host, gateway: Host) -> None:
    sa = sa_of(client)
    [child] = sa.children
    before = sa.message_ids.next_id
    ask(world, client, Probe(), DeleteChild(child.spi_in), DeleteChild(child.spi_in))
    waiting = sa.message_ids.outstanding
    assert waiting is not None
    assert waiting.task == Probe()
    assert sa.pending == (DeleteChild(child.spi_in),), "the same wish twice is one"
    world.run(1.0)
    assert sa.message_ids.next_id == before + 2
    assert not client.children and not gateway.children
    assert agree(client, gateway)


def test_what_is_no_longer_needed_is_passed_over(world: World, client: Host) -> None:
    sa = sa_of(client)
    before = sa.message_ids.next_id
    ask(world, client, DeleteChild(b"gone"), Probe())
    assert sa.message_ids.next_id == before + 1


def test_the_end_goes_before_all_and_instead_of_it(world: World, client: Host, gateway: Host) -> None:
    sa = sa_of(client)
    ask(world, client, Probe())
    ask(world, client, DeleteChild(sa.children[0].spi_in), DeleteIke(), Probe())
    assert sa.pending == (DeleteIke(),)
    world.run(1.0)
    assert client.closed == ["deleted"]
    assert gateway.closed == ["deleted_by_peer"]


def test_a_child_that_both_sides_delete_at_once(world: World, client: Host, gateway: Host) -> None:
    """RFC 7296 section 2.25.1: each answers without a Delete payload for what it is closing itself."""
    for host in (client, gateway):
        ask(world, host, DeleteChild(sa_of(host).children[0].spi_in))
    world.run(1.0)
    assert not client.children and not gateway.children
    assert agree(client, gateway)

"""A worker looks through its SAs, for a list or to do something with some of them, while its datagrams are served.

A turn of it takes a millisecond: after that the loop has its own, with all that came meanwhile. It looks at copies
where SAs are asleep, so that nothing wakes for being looked at.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import chain
from typing import Final

from cygnet.dataplane.base import Dataplane
from cygnet.gateway.commands.sa_views import busy_with, view_child, view_sa
from cygnet.ike.errors import LocalError
from cygnet.ike.nat import unpack_address
from cygnet.ike.sa import ChildSa, IkeSa
from cygnet.ike.spi import unique_id
from cygnet.ike.table import IkeTable
from cygnet.vici.message import Encoded, encode
from cygnet.vici.packet import MAX_PACKET_OCTETS, encode_event
from cygnet.vici.views import SaFilter

TURN_S: Final = 0.001
"""For looking at SAs at a time, but for the last one of them: some dozens. A handshake takes about as long."""
LIST_SA: Final = "list-sa"
_MAX_CHILDREN_OCTETS: Final = MAX_PACKET_OCTETS - 16384
"""Of the CHILD_SAs in one event. An IKE_SA with more of them is told of in several."""


class SaListing:
    """The SAs of one table, with what a data plane knows of them."""

    def __init__(
        self,
        table: IkeTable,
        dataplane: Dataplane,
        clock: Callable[[], float],
        *,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`clock` is the one that SAs live by; `timer` measures turns, in seconds."""
        self._table = table
        self._dataplane = dataplane
        self._clock = clock
        self._timer = timer

    async def each(self) -> AsyncIterator[IkeSa]:
        """All IKE_SAs of now that are there when their turn comes."""
        turn = _Turn(self._timer)
        async for sa in self._those(self._spis(), turn):
            yield sa

    async def chosen(self, chosen: SaFilter) -> AsyncIterator[tuple[IkeSa, tuple[ChildSa, ...]]]:
        """The IKE_SAs that are meant, with the CHILD_SAs that are. Raises LocalError if a number is ambiguous."""
        async for found in self._chosen(chosen, _Turn(self._timer)):
            yield found

    async def packets(self, chosen: SaFilter) -> AsyncIterator[bytes]:
        """The same, each as a packet of the event `list-sa`."""
        turn = _Turn(self._timer)
        async for sa, children in self._chosen(chosen, turn):
            # What is asleep is a copy, and what is awake may change while others have their turn.
            view = view_sa(sa, self._dataplane, self._clock(), ())
            name = view.name or "(unnamed)"
            sections: list[bytes] = []
            octets = 0
            for child in children:
                shown = view_child(child, self._dataplane, self._clock(), busy_with(sa))
                section = encode({shown.key: shown.layout()})
                if octets + len(section) > _MAX_CHILDREN_OCTETS:
                    yield encode_event(LIST_SA, {name: view.layout(Encoded(b"".join(sections)))})
                    sections, octets = [], 0
                sections.append(section)
                octets += len(section)
                if turn.is_over():
                    await turn.next()
            yield encode_event(LIST_SA, {name: view.layout(Encoded(b"".join(sections)))})

    async def _chosen(self, chosen: SaFilter, turn: "_Turn") -> AsyncIterator[tuple[IkeSa, tuple[ChildSa, ...]]]:
        spis: Iterable[bytes]
        if chosen.ike_id:
            spis = await _with_number(self._spis(), chosen.ike_id, turn)
        elif chosen.child_id:
            found = await _with_number(chain.from_iterable(self._table.child_spis()), chosen.child_id, turn)
            spis = [self._table.owner_of(spi_in) for spi_in in found]
        else:
            spis = self._spis()
        async for sa in self._those(spis, turn):
            if not _is_meant(sa, chosen):
                continue
            children = sa.children
            if chosen.is_of_children:
                children = tuple(each for each in children if chosen.has_child(each.name, unique_id(each.spi_in)))
            if children or not chosen.is_of_children:
                yield sa, children

    def _spis(self) -> Iterator[bytes]:
        """Of all IKE_SAs; they may come and go meanwhile."""
        return chain.from_iterable(self._table.sas.portions())

    async def _those(self, spis: Iterable[bytes], turn: "_Turn") -> AsyncIterator[IkeSa]:
        view = self._table.sas.view
        for spi in spis:
            sa = view(spi)
            if sa is not None:
                yield sa
            if turn.is_over():
                await turn.next()


class _Turn:
    """Says when others are to have theirs."""

    __slots__ = ("_timer", "_until")

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._until = timer() + TURN_S

    def is_over(self) -> bool:
        return self._timer() >= self._until

    async def next(self) -> None:
        await asyncio.sleep(0)
        self._until = self._timer() + TURN_S


async def _with_number(spis: Iterable[bytes], number: int, turn: _Turn) -> list[bytes]:
    """The one SPI that has some number, if there is one. Raises LocalError if several have it."""
    found: list[bytes] = []
    for spi in spis:
        if unique_id(spi) == number:
            found.append(spi)
        if turn.is_over():
            await turn.next()
    if len(found) > 1:
        raise LocalError("several SAs have that number: choose by the name, the peer or its identity")
    return found


def _is_meant(sa: IkeSa, chosen: SaFilter) -> bool:
    """Whether an IKE_SA is meant, its CHILD_SAs aside."""
    return (
        chosen.ike in ("", sa.name)
        and chosen.ike_id in (0, unique_id(sa.spi))
        and chosen.peer in ("", sa.path.remote)
        and (not chosen.identity or chosen.identity == str(sa.remote_id))
        and (not chosen.vip or chosen.vip in map(unpack_address, sa.virtual_ips))
    )

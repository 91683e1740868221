"""Who has a virtual address that went from one worker to another with its peer: the supervisor's side.

The worker that a block is leased to owns its addresses. One of them may be handed over, and handed on, to workers that
have an IKE_SA with its peer. The last of them decides who gets it next, until no IKE_SA of its has the address any
more; then the one before, and in the end the owner.

The packets for it go another way, by a route of their own: they stay with whoever has an IKE_SA that the peer uses, and
go to the next when the peer uses that, or when the IKE_SA before has ended.
"""

import ipaddress
from collections.abc import Callable, Collection

from cygnet.gateway.claims import RESERVED, USED, WAITING, Claim
from cygnet.gateway.control import AddressClaimed, AddressHanded, AddressReturned, AddressWanted, AnyMessage
from cygnet.gateway.host.routes import Routes
from cygnet.gateway.pools.ledger import NOBODY, Ledger


class Lending:
    """The addresses that were handed over. Workers are numbers."""

    def __init__(self, ledger: Ledger, *, routes: Routes | None, send: Callable[[int, AnyMessage], bool]) -> None:
        """`send` says whether a worker was reached."""
        self._ledger = ledger
        self._routes = routes
        self._send = send
        self._lent: dict[bytes, tuple[str, list[int]]] = {}
        """The pool, and to whom it was handed: the one that has it now comes last."""

    def __len__(self) -> int:
        return len(self._lent)

    def wanted(self, worker: int, message: AddressWanted) -> None:
        """A peer of that worker wants an address: ask who has it."""
        pool, address = message.pool, message.address
        holder = self._lent[address][1][-1] if address in self._lent else self._ledger.owner(pool, address)
        question = AddressWanted(pool, address, message.peer, worker)
        if holder in (worker, NOBODY) or not self._send(holder, question):
            self._send(worker, AddressHanded(pool, address, message.peer, worker, is_given=False))

    def handed(self, worker: int, message: AddressHanded) -> None:
        """That worker hands an address over, or does not."""
        pool, address, receiver = message.pool, message.address, message.worker
        holders = self._lent.get(address, (pool, []))[1]
        is_given = message.is_given and (worker in holders or worker == self._ledger.owner(pool, address))
        if is_given:
            if receiver in holders:
                holders.remove(receiver)
            elif not holders:
                # The owner has it by its block, and an IKE_SA that is in use.
                self._claim(address, worker, USED)
            holders.append(receiver)
            self._lent[address] = pool, holders
            self._claim(address, receiver, WAITING)
        if not self._send(receiver, AddressHanded(pool, address, message.peer, receiver, is_given)) and is_given:
            self.returned(receiver, AddressReturned(address))

    def claimed(self, worker: int, message: AddressClaimed) -> None:
        """What that worker has for its packets."""
        address, claim = message.address, message.claim
        if address not in self._lent:
            return
        pool, holders = self._lent[address]
        if claim is not RESERVED and (worker in holders or worker == self._ledger.owner(pool, address)):
            self._claim(address, worker, claim)
        self._disclaim(address, worker, *{WAITING, USED} - {claim})

    def returned(self, worker: int, message: AddressReturned) -> None:
        """No peer of that worker has the address any more. When that is so of all, it is its owner's again."""
        address = message.address
        pool, holders = self._lent.get(address, ("", []))
        if worker not in holders:
            return
        holders.remove(worker)
        owner = self._ledger.owner(pool, address)
        self._disclaim(address, worker, WAITING, USED)
        if holders:
            self._send(holders[-1], message)
            return
        del self._lent[address]
        self._disclaim(address, owner, USED)
        if owner != NOBODY:
            self._send(owner, message)
        elif not self._is_any_lent(pool, address):
            self._ledger.give_back(pool, NOBODY, (self._block(pool, address),))

    def gone(self, worker: int) -> None:
        """That worker is dead. Of what it owned, blocks with an address that is lent are leased to nobody meanwhile."""
        for address in list(self._lent):
            self.returned(worker, AddressReturned(address))
        for address, (pool, _) in self._lent.items():
            if self._ledger.owner(pool, address) == worker:
                self._ledger.withdraw(pool, worker, self._block(pool, address))

    def forget(self, pools: Collection[str]) -> None:
        """Those pools are no more, or have other addresses from now on."""
        if not pools:
            return
        for address, (name, holders) in list(self._lent.items()):
            if name in pools:
                del self._lent[address]
                for worker in (self._ledger.owner(name, address), *holders):
                    self._disclaim(address, worker, WAITING, USED)

    def _claim(self, address: bytes, worker: int, claim: Claim) -> None:
        if self._routes is not None:
            self._routes.add(_prefix(address), worker, claim)

    def _disclaim(self, address: bytes, worker: int, *claims: Claim) -> None:
        if self._routes is not None:
            for claim in claims:
                self._routes.discard(_prefix(address), worker, claim)

    def _block(self, pool: str, address: bytes) -> int:
        return self._ledger.plan(pool).block_of(int.from_bytes(address, "big"))

    def _is_any_lent(self, pool: str, beside: bytes) -> bool:
        block = self._block(pool, beside)
        return any(name == pool and self._block(pool, address) == block for address, (name, _) in self._lent.items())


def _prefix(address: bytes) -> str:
    return f"{ipaddress.ip_address(address)}/{8 * len(address)}"

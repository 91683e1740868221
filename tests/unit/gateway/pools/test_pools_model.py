"""Ledger and workers together, against a model that knows every address: none is given twice, and none gets lost."""

import ipaddress
from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cygnet.auth.identity import ANY_IDENTITY
from cygnet.gateway.control import AnyMessage, LeaseRequest, LeaseReturn
from cygnet.gateway.pools.ledger import Ledger, PoolPlan
from cygnet.gateway.pools.pools import PATIENCE_TICKS, AddressPools, blocks_at_start
from cygnet.ike.errors import AddressAwaited
from cygnet.ike.settings import PoolSettings

WORKERS = 3


class PoolsMachine(RuleBasedStateMachine):
    """The supervisor's part is played as `Supervisor` does it; messages arrive when the machine likes."""

    @initialize(first=st.integers(0, 300), size=st.integers(1, 400), reserved=st.sets(st.integers(0, 700), max_size=3))
    def begin(self, first: int, size: int, reserved: set[int]) -> None:
        base = int(ipaddress.ip_address("10.0.0.0"))
        pack = [(base + offset).to_bytes(4, "big") for offset in (first, first + size - 1)]
        self.settings = PoolSettings(name="p", first=pack[0], last=pack[1])
        self.reserved = {(base + offset).to_bytes(4, "big") for offset in reserved}
        self.range = range(base + first, base + first + size)
        self.plan = PoolPlan(self.settings, WORKERS)
        self.ledger = Ledger([self.plan])
        self.mail: list[tuple[int, AnyMessage]] = []
        self.in_use: dict[bytes, int] = {}
        self.workers: dict[int, AddressPools] = {}
        for worker in range(WORKERS):
            self.start(worker)

    def start(self, worker: int) -> None:
        pools = AddressPools(
            (self.settings,),
            workers=WORKERS,
            reserved=self.reserved,
            send=lambda message: self.mail.append((worker, message)),
        )
        pools.granted("p", self.ledger.lease("p", worker, blocks_at_start(self.plan, WORKERS)))
        self.workers[worker] = pools

    @rule(worker=st.integers(0, WORKERS - 1), wanted=st.one_of(st.just(0), st.integers(0, 420)))
    def acquire(self, worker: int, wanted: int) -> None:
        wish = (int(ipaddress.ip_address("10.0.0.0")) + wanted).to_bytes(4, "big") if wanted else bytes(4)
        with suppress(AddressAwaited):
            self.given(worker, self.workers[worker].acquire(("p",), 4, wish, ANY_IDENTITY))

    @rule(worker=st.integers(0, WORKERS - 1))
    def insist(self, worker: int) -> None:
        """A peer that waits gets the last address there is, whichever worker had it."""
        while self.mail:
            self.deliver()
        for _ in range(PATIENCE_TICKS + 1):
            self.workers[worker].tick()
        try:
            address = self.workers[worker].acquire(("p",), 4, bytes(4), ANY_IDENTITY)
        except AddressAwaited:
            while self.mail:
                self.deliver()
            try:
                address = self.workers[worker].acquire(("p",), 4, bytes(4), ANY_IDENTITY)
            except AddressAwaited:
                address = None
        is_there = len(self.in_use) < len([n for n in self.range if n.to_bytes(4, "big") not in self.reserved])
        assert address is not None or not is_there or self.plan.size > 1
        self.given(worker, address)

    def given(self, worker: int, address: bytes | None) -> None:
        if address is not None:
            assert address not in self.in_use, "given twice"
            assert address not in self.reserved
            assert int.from_bytes(address, "big") in self.range
            self.in_use[address] = worker

    @precondition(lambda self: self.in_use)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.in_use)))
        self.workers[self.in_use.pop(address)].release(address)

    @precondition(lambda self: self.mail)
    @rule()
    def deliver(self) -> None:
        worker, message = self.mail.pop(0)
        if isinstance(message, LeaseRequest):
            blocks = self.ledger.lease("p", worker, message.blocks, is_urgent=message.is_urgent)
            self.workers[worker].granted("p", blocks)
            if len(blocks) < message.blocks:
                for holder in self.ledger.holders("p"):
                    if holder != worker:
                        self.workers[holder].recalled("p", message.free, is_urgent=message.is_urgent)
        elif isinstance(message, LeaseReturn):
            assert self.ledger.give_back("p", worker, message.blocks) == message.blocks
            self.settle()

    def settle(self) -> None:
        for worker, blocks in self.ledger.settle("p"):
            self.workers[worker].granted("p", blocks)

    @rule(worker=st.integers(0, WORKERS - 1))
    def tick(self, worker: int) -> None:
        self.workers[worker].tick()

    @rule(worker=st.integers(0, WORKERS - 1))
    def die(self, worker: int) -> None:
        self.mail = [(sender, message) for sender, message in self.mail if sender != worker]
        self.in_use = {address: owner for address, owner in self.in_use.items() if owner != worker}
        self.ledger.reclaim(worker)
        self.settle()
        self.start(worker)

    @invariant()
    def counts_what_is_in_use(self) -> None:
        for worker, pools in getattr(self, "workers", {}).items():
            assert pools.in_use == sum(owner == worker for owner in self.in_use.values())

    def teardown(self) -> None:
        """With all workers dead but one, that one gets every address."""
        if not hasattr(self, "workers"):
            return
        for worker in range(WORKERS):
            self.ledger.reclaim(worker)
        last = AddressPools((self.settings,), workers=1, reserved=self.reserved, send=lambda message: None)
        last.granted("p", self.ledger.lease("p", 0, self.plan.blocks))
        given = set()
        while (address := last.acquire(("p",), 4, bytes(4), ANY_IDENTITY)) is not None:
            assert address not in given
            given.add(address)
        assert given == {number.to_bytes(4, "big") for number in self.range} - self.reserved


PoolsMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60)
TestPools = PoolsMachine.TestCase

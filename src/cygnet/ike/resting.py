"""A map whose values sleep: most SAs carry nothing for hours, and are octets meanwhile.

A value is looked up as in any mapping, and whoever finds it finds it awake. A sweep packs it again once it has been
awake for a while and is at rest. The sweep looks at what is awake only, in the order in which it woke, and at a bounded
number each time: it never scans the map, however large that is.
"""

from collections import deque
from collections.abc import Callable, Iterator, MutableMapping
from itertools import chain
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from cygnet.ike.sharded_map import ShardedMap

IDLE_S: Final = 3.0
"""How long a value stays awake at least, where few are. It bounds what is awake to so many seconds of the rate at which
SAs come, and spares an exchange of two requests or a Delete that follows at once from packing between."""
MANY: Final = 4096
"""Values awake, beyond which they are packed sooner: what was needed for them at a time, the process keeps for good."""
_SLICES: Final = 12
"""Of that time. What woke in the same slice is looked at together."""
PACKED_PER_CALL: Final = 64
"""Values that one call of `rest` looks at: less than a millisecond of work."""

T = TypeVar("T")


def exact_encoder(enc_hook: Callable[[object], object] | None = None) -> Callable[[object], bytes]:
    """A MessagePack encoder for what is kept for long.

    That of msgspec returns octets in the memory that it had set aside for them, up to half as much again.
    """
    encode_into = msgspec.msgpack.Encoder(enc_hook=enc_hook).encode_into
    buffer = bytearray()

    def encode(value: object) -> bytes:
        encode_into(value, buffer)
        return bytes(buffer)

    return encode


class Codec(Protocol[T]):
    """Makes octets of a value, and a value of them."""

    def pack(self, key: bytes, value: T, now: float) -> bytes | None:
        """All that is to be known of the value, which is given up then; None while it is in the midst of something."""

    def unpack(self, key: bytes, record: bytes) -> T:
        """The value, as it was; the record is given up then."""

    def view(self, key: bytes, record: bytes) -> T:
        """A copy to look at, which can do nothing; the record stands."""


class RestingMap(MutableMapping[bytes, T], Generic[T]):
    """Values by octets. A value must not be `bytes` itself."""

    __slots__ = ("_awake", "_codec", "_entries", "_idle_s", "_next_turn", "_size", "_slices", "_tired", "look")

    def __init__(self, codec: Codec[T], *, idle_s: float = IDLE_S) -> None:
        self._codec = codec
        self._idle_s = idle_s
        self._entries = ShardedMap[bytes, T | bytes]()
        self._size = 0
        """How many there are: asked for with each new peer, and all dicts of the map would have to be looked at."""
        self.look: Callable[[bytes], T | bytes | None] = self._entries.get
        """The value as it is, and octets if that is asleep; None if there is none."""
        # The key of each value that is awake stands in just one of these three, and perhaps keys of what is gone.
        self._awake: list[bytes] = []
        self._slices: deque[list[bytes]] = deque()
        self._tired: list[bytes] = []
        self._next_turn = 0.0

    # What is in it.

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __getitem__(self, key: bytes) -> T:
        found = self._entries[key]
        return self._wake(key, found) if type(found) is bytes else found  # type: ignore[return-value]

    def get(self, key: bytes, default: T | None = None) -> T | None:  # type: ignore[override]
        """The value, awake; `default` if there is none."""
        found = self._entries.get(key)
        if type(found) is bytes:
            return self._wake(key, found)
        return found if found is not None else default  # type: ignore[return-value]

    def view(self, key: bytes) -> T | None:
        """The value, to be looked at only: one that is asleep stays so, and what is returned is a copy."""
        found = self._entries.get(key)
        return self._codec.view(key, found) if type(found) is bytes else found  # type: ignore[return-value]

    def views(self) -> Iterator[T]:
        """All values, to be looked at only, one after the other. What comes or goes meanwhile may be among them."""
        for key in chain.from_iterable(self.portions()):
            value = self.view(key)
            if value is not None:
                yield value

    def portions(self) -> Iterator[list[bytes]]:
        """All keys, some hundreds at a time; what goes meanwhile may be among them."""
        return self._entries.portions()

    def __setitem__(self, key: bytes, value: T) -> None:
        found = self._entries.get(key)
        if found is None:
            self._size += 1
            self._awake.append(key)
        elif type(found) is bytes:
            self._awake.append(key)
        self._entries[key] = value

    def __delitem__(self, key: bytes) -> None:
        # Awake first: a record may hold on to what others share.
        self[key]
        self._remove(key)

    def pop(self, key: bytes, default: T | None = None) -> T | None:  # type: ignore[override]
        """Take the value out, awake; `default` if there is none."""
        value = self.get(key)
        if value is None:
            return default
        self._remove(key)
        return value

    def _remove(self, key: bytes) -> None:
        del self._entries[key]
        self._size -= 1
        if not self._size:
            self._awake.clear()
            self._slices.clear()
            self._tired.clear()

    def _wake(self, key: bytes, record: bytes) -> T:
        value = self._entries[key] = self._codec.unpack(key, record)
        self._awake.append(key)
        return value

    # The sweep.

    @property
    def awake(self) -> int:
        """How many values are awake, or were until they went."""
        return len(self._awake) + sum(map(len, self._slices)) + len(self._tired)

    @property
    def has_tired(self) -> bool:
        """Whether `rest` has left some that it is to look at."""
        return bool(self._tired)

    def next_due(self) -> float | None:
        """When `rest` wants to be called; None while all sleep."""
        if self._tired:
            return 0.0
        return self._next_turn if self._awake or any(self._slices) else None

    def rest(self, now: float, limit: int = PACKED_PER_CALL) -> None:
        """Pack what has been awake for long enough and is at rest; at most `limit` values are looked at."""
        if now >= self._next_turn:
            self._next_turn = now + self._idle_s / _SLICES
            self._slices.append(self._awake)
            self._awake = []
            while len(self._slices) > (_SLICES if self._idle_s else 0) or self._are_many_awake():
                # In reverse, since they are taken from the end.
                self._tired[:0] = reversed(self._slices.popleft())
        tired = self._tired
        for _ in range(min(limit, len(tired))):
            key = tired.pop()
            value = self._entries.get(key)
            if value is None or type(value) is bytes:
                continue
            record = self._codec.pack(key, value, now)  # type: ignore[arg-type]
            if record is None:
                self._awake.append(key)
            else:
                self._entries[key] = record

    def _are_many_awake(self) -> bool:
        """Too many to leave them awake for as long as they might be, were it not that all woke just now."""
        return len(self._slices) > 1 and sum(map(len, self._slices)) > MANY

    def rest_all(self, now: float) -> None:
        """Pack at once all that is at rest."""
        for waiting in self._slices:
            self._awake += waiting
            waiting.clear()
        self._tired += self._awake
        self._awake = []
        self.rest(now, len(self._tired))

"""Length-checked reading, for the formats whose speed does not matter."""

import struct
from types import TracebackType
from typing import Self

from cygnet.wire.errors import WireError, WireFault

_U16 = struct.Struct("!H")
_U32 = struct.Struct("!I")


class Reader:
    """A position in octets that only moves forward.

    Every method raises `WireError` where the octets end early. Used as a context manager, it checks on
    leaving that everything was read:

        with reader.sub(reader.u16()) as body:
            kind = body.u8()
    """

    __slots__ = ("_end", "_octets", "_offset")

    def __init__(self, octets: bytes | memoryview) -> None:
        self._octets = memoryview(octets)
        self._offset = 0
        self._end = len(octets)

    @property
    def remaining(self) -> int:
        """Octets not read yet."""
        return self._end - self._offset

    def u8(self) -> int:
        """One octet as a number."""
        return self._octets[self._advance(1)]

    def u16(self) -> int:
        """Two octets as a number in network byte order."""
        value: int = _U16.unpack_from(self._octets, self._advance(2))[0]
        return value

    def u32(self) -> int:
        """Four octets as a number in network byte order."""
        value: int = _U32.unpack_from(self._octets, self._advance(4))[0]
        return value

    def octets(self, count: int) -> bytes:
        """A copy of the next `count` octets."""
        start = self._advance(count)
        return bytes(self._octets[start : start + count])

    def sub(self, count: int) -> "Reader":
        """A reader of the next `count` octets alone."""
        start = self._advance(count)
        return Reader(self._octets[start : start + count])

    def rest(self) -> bytes:
        """A copy of all octets not read yet."""
        return self.octets(self._end - self._offset)

    def finish(self) -> None:
        """Raise `WireError` unless everything was read."""
        if self._offset != self._end:
            raise WireError(WireFault.TRAILING_OCTETS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()

    def _advance(self, count: int) -> int:
        start = self._offset
        if count < 0 or count > self._end - start:
            raise WireError(WireFault.TRUNCATED)
        self._offset = start + count
        return start

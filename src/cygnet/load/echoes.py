"""Tries out each new tunnel with one ICMP echo, repeated a few times: a tunnel counts when traffic passes."""

from collections import deque
from collections.abc import Callable

from cygnet.dataplane.echo import build_echo_request, parse_echo_reply
from cygnet.load.options import PingOptions

_PAYLOAD = b"cygnet load"
_MASK_16 = 0xFFFF


class _Echo:
    __slots__ = ("intended", "number", "source", "tries")

    def __init__(self, number: int, source: bytes, intended: float) -> None:
        self.number = number
        self.source = source
        self.intended = intended
        self.tries = 0


class Echoes:
    """The echo requests of one process that have no answer yet; a sink for inner packets."""

    __slots__ = ("_clock", "_due", "_on_answer", "_options", "_pending", "_send", "failed")

    def __init__(
        self, options: PingOptions, *, on_answer: Callable[[bytes, float], None], clock: Callable[[], float]
    ) -> None:
        """`on_answer` gets our ESP SPI, and the seconds from the intended start of the attempt to its first answer."""
        self._options = options
        self._on_answer = on_answer
        self._clock = clock
        self._send: Callable[[bytes, bytes], bool] = lambda spi_in, packet: False
        self._pending: dict[bytes, _Echo] = {}
        # All wait equally long, so the order of sending is the order in which they come due.
        self._due: deque[tuple[float, bytes, _Echo]] = deque()
        self.failed = 0
        """Tunnels in which no request was answered."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is waited for."""
        return not self._pending

    def connect(self, send: Callable[[bytes, bytes], bool]) -> None:
        """Send with the data plane's `send_through`."""
        self._send = send

    def start(self, spi_in: bytes, *, number: int, source: bytes, intended: float) -> None:
        """Ask through a new tunnel, from the packed inner address `source`."""
        if len(source) != len(self._options.target):
            self.failed += 1
            return
        echo = self._pending[spi_in] = _Echo(number, source, intended)
        self._ask(spi_in, echo)

    def deliver(self, packet: bytes, spi_in: bytes) -> None:
        """Take an inner packet; anything but the first answer to our request is none of our business."""
        echo = self._pending.get(spi_in)
        if echo is None:
            return
        reply = parse_echo_reply(packet)
        if reply is None or reply.source != self._options.target or reply.identifier != echo.number & _MASK_16:
            return
        del self._pending[spi_in]
        self._on_answer(spi_in, self._clock() - echo.intended)

    def forget(self, spi_in: bytes) -> None:
        """The tunnel is gone; if it was not answered yet, it never will be."""
        if self._pending.pop(spi_in, None) is not None:
            self.failed += 1

    def forget_all(self) -> None:
        """Wait for no answer any more."""
        self.failed += len(self._pending)
        self._pending.clear()

    def handle_timers(self, now: float) -> None:
        """Ask again, or give up, where it is time."""
        while self._due and self._due[0][0] <= now:
            _, spi_in, echo = self._due.popleft()
            if self._pending.get(spi_in) is not echo:
                continue
            if echo.tries < self._options.tries:
                self._ask(spi_in, echo)
            else:
                self.forget(spi_in)

    def _ask(self, spi_in: bytes, echo: _Echo) -> None:
        echo.tries += 1
        packet = build_echo_request(
            echo.source,
            self._options.target,
            identifier=echo.number & _MASK_16,
            sequence=echo.tries & _MASK_16,
            payload=_PAYLOAD,
        )
        self._send(spi_in, packet)
        self._due.append((self._clock() + self._options.timeout_s, spi_in, echo))

"""Messages for IKE_SAs that we don't have: what is left to say to whoever sends them.

An SA that ended by a request which we answered may be asked again, if the answer was lost: it is repeated for a little
while. Anything else is dropped, at the price of a look at its header. If told to, we answer a few of the requests a
second with INVALID_IKE_SPI (RFC 7296 sections 1.5 and 2.21.4), so that a peer whose SA is lost with us finds out
sooner. Nobody may believe that answer alone, and it may be sent where a forger wants it: hence few, and smaller than
any request.
"""

from cygnet.iana import NotifyType
from cygnet.ike.answers import plain_notify, stateless_answer
from cygnet.ike.effects import Send
from cygnet.ike.environment import Environment
from cygnet.ike.expiring_map import ExpiringMap
from cygnet.ike.message_id import LastWords
from cygnet.ike.path import Path
from cygnet.ike.rate_limit import RateLimit
from cygnet.ike.sa import Turn
from cygnet.wire.header import NO_SPI, Header

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_INVALID_IKE_SPI = NotifyType.INVALID_IKE_SPI

LAST_WORDS_S = 12.0
"""Seconds for which the last response of a closed SA is repeated: past the second retransmission of most peers."""
MAX_LAST_WORDS = 50_000
"""Closed SAs whose last response is kept; above that the oldest is forgotten early."""


class Strays:
    """Answers, or drops, what belongs to no IKE_SA of one worker."""

    __slots__ = ("_env", "_last_words", "_may_answer")

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._last_words: ExpiringMap[bytes, LastWords] = ExpiringMap(LAST_WORDS_S, MAX_LAST_WORDS)
        self._may_answer = RateLimit()

    def knows(self, spi: bytes) -> bool:
        """Whether the SA with that SPI of ours ended a moment ago, by a request whose answer may have been lost."""
        return self._last_words.get(spi) is not None

    def remember(self, spi: bytes, words: LastWords, now: float) -> None:
        """Keep the last answer of an SA that is closed."""
        self._last_words.put(spi, words, now)

    def next_due(self) -> float | None:
        """When something kept is to be forgotten; None if nothing is."""
        return self._last_words.next_due()

    def forget(self, now: float) -> None:
        """Forget what has been kept for long enough."""
        self._last_words.take_expired(now)

    def receive(self, header: Header, datagram: bytes, spi: bytes, path: Path, turn: Turn) -> None:
        """Take a message whose `spi` should be ours, and is not."""
        words = self._last_words.get(spi)
        if words is not None and not header.is_response and words.request_hash == hash(datagram):
            self._env.count("responses_repeated_total")
            turn.send(words.response, path)
            return
        if not self._env.owns(spi):
            # Steered wrongly: whether its owner knows it is not ours to say.
            self._env.count('datagrams_dropped_total{reason="other_worker"}')
            return
        self._env.count('datagrams_dropped_total{reason="unknown_spi"}')
        # Never to a response, or two nodes could answer each other for ever; nor to what names no SPI of ours.
        may_answer, rate = self._may_answer, self._env.settings.invalid_ike_spi_rate
        if not header.is_response and spi != NO_SPI and may_answer.take(turn.now, rate):
            self._env.count("invalid_ike_spi_sent_total")
            turn.effects.append(Send(stateless_answer(header, plain_notify(_INVALID_IKE_SPI)), path))

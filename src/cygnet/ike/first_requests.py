"""What new peers begin with: IKE_SA_INIT requests, of which some are let in, and some come twice."""

from typing import Final

from cygnet.ike.admission import MAX_INITIAL_OCTETS, Admission
from cygnet.ike.effects import Send
from cygnet.ike.environment import Environment
from cygnet.ike.errors import ProtocolViolation
from cygnet.ike.exchanges import ike_sa_init
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.expiring_map import ExpiringMap
from cygnet.ike.message_id import Arrival
from cygnet.ike.path import Path
from cygnet.ike.sa import IkeSa, Turn
from cygnet.ike.settings import Settings
from cygnet.wire.errors import WireFault
from cygnet.wire.header import NO_SPI, Header
from cygnet.wire.message import decode_message

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_REPEATED: Final = Arrival.REPEATED


def _drop(reason: str) -> str:
    return f'datagrams_dropped_total{{reason="{reason}"}}'


class FirstRequests:
    """Receives them, and knows those again that were answered with an IKE_SA."""

    __slots__ = ("_admission", "_answered", "_env")

    def __init__(self, env: Environment, admission: Admission) -> None:
        self._env = env
        self._admission = admission
        # By their octets and the sender's address: our SPIs. They tell a repetition from a new peer, which the
        # initiator's SPI does not: two peers behind one NAT may choose the same (RFC 7296 section 2.1). They are not
        # more than the half-open SAs and those that got past that lately.
        self._answered: ExpiringMap[tuple[int, str], bytes] = ExpiringMap(env.settings.half_open_timeout_s)

    def configure(self, settings: Settings) -> None:
        """Go on with other settings."""
        self._answered.life_s = settings.half_open_timeout_s
        self._admission.configure(settings.admission)

    def ask_cookies(
        self, requests: list[tuple[bytes, Path]], ike_sas: int, now: float
    ) -> tuple[list[tuple[bytes, Path]], list[tuple[bytes, Path]]]:
        """What to send to new peers that get nothing but a cookie now, and those requests that are yet to be received.

        `receive` comes to the same one by one, and takes several times as long. `ike_sas`: how many there are.
        """
        admission = self._admission
        if not admission.asks_all(ike_sas):
            return [], requests
        answers, others = [], []
        for request in requests:
            datagram, path = request
            # One that is repeated gets again what it got.
            is_known = self._answered.get((hash(datagram), path.remote)) is not None
            answer = None if is_known else admission.ask(datagram, path, ike_sas, now)
            if answer is None:
                others.append(request)
            else:
                answers.append((answer, path))
        if answers:
            self._env.count("cookies_sent_total", len(answers))
        return answers, others

    def receive(self, header: Header, datagram: bytes, path: Path, turn: Turn, ike_sas: int) -> IkeSa | None:
        """The half-open IKE_SA of a peer that is let in; None for one that is not, or that repeats its request.

        `ike_sas`: how many there are.

        Raises WireError for what is dropped.
        """
        if header.message_id != 0 or header.spi_i == NO_SPI:
            self._env.count(_drop("message_id" if header.message_id else "no_initiator_spi"))
            return None
        if len(datagram) > MAX_INITIAL_OCTETS:
            self._env.count(_drop(WireFault.TOO_LONG))
            return None
        key = (hash(datagram), path.remote)
        known = self._answered.get(key)
        if known is not None:
            self._repeat(known, datagram, path, turn)
            return None
        admitted = self._admission.admit(header, datagram, path, turn, ike_sas)
        if admitted is None:
            return None
        try:
            parts = Parts(decode_message(datagram, header).payloads)
        except ProtocolViolation as error:
            ike_sa_init.refuse(header, error, path, turn)
            return None
        sa = ike_sa_init.respond(header, datagram, parts, path, turn)
        if sa is None:
            return None
        self._admission.entered(sa, admitted, turn.now)
        self._answered.put(key, sa.spi, turn.now)
        return sa

    def _repeat(self, spi: bytes, datagram: bytes, path: Path, turn: Turn) -> None:
        sa = turn.table.sa(spi)
        if sa is None or sa.message_ids.classify(0, datagram) != _REPEATED:
            self._env.count(_drop("stale_request"))
            return
        self._env.count("responses_repeated_total")
        turn.effects.append(Send(sa.message_ids.cached_response, path))

    def next_due(self) -> float | None:
        """When `take_expired` wants to be called."""
        return self._answered.next_due()

    def take_expired(self, now: float) -> list[bytes]:
        """Forget the oldest; our SPIs of their SAs, which must not be half open any more."""
        return self._answered.take_expired(now)

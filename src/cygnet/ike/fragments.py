"""Messages in fragments (RFC 7383): put together again, and made smaller where they don't get through.

A fragment is authenticated by itself before anything of it is kept, so only a holder of an SA's keys can make us keep
octets, one message at a time in each direction. That is bounded in three ways: by message, by time, and by worker.
A peer whose IKE_SA is still half open has keys and has proven no identity; what such peers may fill is kept apart, so
that they can't push out what established ones have begun.

How large the datagrams of an SA may be is its `largest_octets`; it never grows. Nobody tells a sender that a datagram
was too large for the path, but that it goes unanswered. So on the third go of a request, or when the peer sends its
request for the third time, the message is cut smaller (section 2.5.2).
"""

from functools import lru_cache
from typing import Final

import msgspec

from cygnet.iana import PayloadType
from cygnet.ike.protected import datagrams_of, open_body, open_message, seal_fragments
from cygnet.ike.sa import IkeSa, Turn
from cygnet.ike.settings import Fragmentation
from cygnet.ike.states import SaState
from cygnet.wire.errors import WireError
from cygnet.wire.header import Header
from cygnet.wire.message import decode_message, sole_encrypted
from cygnet.wire.payloads.encrypted import Encrypted
from cygnet.wire.payloads.encrypted_fragment import EncryptedFragment

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_ACCEPT: Final = Fragmentation.ACCEPT
_HALF_OPEN: Final = SaState.HALF_OPEN
_SKF: Final = PayloadType.SKF

MAX_FRAGMENTS: Final = 512
"""Of one message; strongSwan takes 255."""
MAX_MESSAGE_OCTETS: Final = 0xFFFF
"""Of one message put together: the longest payload there can be. A chain of large certificates has a third of that."""
MAX_HELD_OCTETS: Final = 8 << 20
"""Of the messages that a worker has in part, from half-open IKE_SAs and from established ones each. Above that the
oldest is given up: an honest message is complete, or begun anew by its sender, long before."""
REASSEMBLY_S: Final = 60.0
"""How long a message may take: four rounds of retransmissions, of which each brings fragments that are missing."""
FRAGMENT_OVERHEAD_OCTETS: Final = 120
"""What a fragment costs us beside its octets."""

ONLY_THE_PEERS: Final = 0xFFFF
"""As `largest_octets`: we take fragments and make none."""
_UNANSWERED_BEFORE_SMALLER: Final = 2
_MAX_REPEATS_NOTED: Final = 4096

_UDP_OCTETS: Final = 8
_MARKER_OCTETS: Final = 4
"""Non-ESP marker; counted on port 500 too, since an SA may move to the other port at any time."""
_IPV4_OCTETS: Final = 20
_IPV6_OCTETS: Final = 40
# RFC 7383 section 2.5.1: what gets through nearly everywhere. Below 1280 no IPv6 link may go (RFC 8200 section 5).
_IPV4_SIZES: Final = (1280, 576)
_IPV6_SIZES: Final = (1280,)


@lru_cache
def largest_datagram(fragment_size: int, *, is_ipv6: bool) -> int:
    """The longest IKE datagram in an IP packet of `fragment_size` octets; 0 is the smallest size of the family."""
    size = fragment_size or (_IPV6_SIZES if is_ipv6 else _IPV4_SIZES)[-1]
    return max(size - (_IPV6_OCTETS if is_ipv6 else _IPV4_OCTETS) - _UDP_OCTETS - _MARKER_OCTETS, 1)


def agree(sa: IkeSa, fragmentation: Fragmentation, fragment_size: int) -> None:
    """Both ends have said that they support fragmentation (RFC 7383 section 2.3)."""
    if fragmentation is _ACCEPT:
        sa.largest_octets = ONLY_THE_PEERS
    else:
        sa.largest_octets = largest_datagram(fragment_size, is_ipv6=sa.path.is_ipv6)


Opened = tuple[int, bytes, bytes]
"""A message, verified and decrypted: the `PayloadType` of its first payload, the octets of the chain, and the datagram
by which a repetition is known: the whole one, or the first fragment."""


class _Assembly(msgspec.Struct, gc=False, eq=False):
    """A message of which fragments are missing."""

    born: float
    message_id: int
    exchange_type: int
    total: int
    parts: dict[int, bytes]
    inner_type: int = 0
    first: bytes = b""
    """The datagram of fragment 1."""
    octets: int = 0
    """Of the message, so far."""
    held: int = 0
    """What all of it costs us, roughly."""
    last: tuple[int, int] = (0, 0)
    """The number of the fragment that came last, and what that costs us."""


class _Shelf:
    """Assemblies of one kind of peers, the oldest first."""

    __slots__ = ("assemblies", "held")

    def __init__(self) -> None:
        self.assemblies: dict[tuple[bytes, bool], _Assembly] = {}
        """By our SPI, and whether it is a response."""
        self.held = 0

    def pop(self, key: tuple[bytes, bool]) -> _Assembly | None:
        assembly = self.assemblies.pop(key, None)
        if assembly is not None:
            self.held -= assembly.held
        return assembly

    def oldest(self) -> tuple[bytes, bool]:
        return next(iter(self.assemblies))


class Fragments:
    """What a worker keeps of messages in fragments."""

    __slots__ = ("_half_open", "_proven", "_repeats", "_whole")

    def __init__(self) -> None:
        self._half_open = _Shelf()
        self._proven = _Shelf()
        # Requests whose peers repeat them although their answers, large ones, have gone out: message ID and how often.
        self._repeats: dict[bytes, tuple[int, int]] = {}
        self._whole: tuple[_Shelf, tuple[bytes, bool], _Assembly] | None = None
        """The message that was put together last."""

    def __len__(self) -> int:
        """Messages that are held in part."""
        return len(self._half_open.assemblies) + len(self._proven.assemblies)

    @property
    def held(self) -> int:
        """Octets that they take, roughly."""
        return self._half_open.held + self._proven.held

    # Receiving.

    def open(self, sa: IkeSa, header: Header, datagram: bytes, turn: Turn) -> Opened | None:
        """Verify and decrypt a datagram; None if it is a fragment, and others of its message are missing.

        Raises WireError for what is no protected message, or a fragment that is dropped; CryptoError if the peer, the
        holder of the keys, did not make it.
        """
        inner_type = sole_encrypted(datagram, header)
        if inner_type is not None:
            return inner_type, open_body(sa.incoming or sa.opening(turn.env), datagram), datagram
        payloads = decode_message(datagram, header).payloads
        encrypted = payloads[-1] if payloads else None
        if isinstance(encrypted, Encrypted):
            return encrypted.inner_type, open_message(sa.opening(turn.env), datagram, encrypted), datagram
        if isinstance(encrypted, EncryptedFragment):
            return self._take(sa, header, datagram, encrypted, turn)
        raise WireError("not_encrypted")

    def _take(self, sa: IkeSa, header: Header, datagram: bytes, piece: EncryptedFragment, turn: Turn) -> Opened | None:
        """RFC 7383 section 2.6, in its order: what can be judged without the keys comes first."""
        if not sa.largest_octets:
            raise WireError("fragment_unexpected")
        if piece.total > MAX_FRAGMENTS:
            raise WireError("fragment_limit")
        shelf = self._half_open if sa.state == _HALF_OPEN else self._proven
        key = (sa.spi, header.is_response)
        assembly = shelf.assemblies.get(key)
        if assembly is not None and (assembly.message_id, assembly.exchange_type) != (
            header.message_id,
            header.exchange_type,
        ):
            assembly = None
        if assembly is not None and piece.total == assembly.total and piece.number in assembly.parts:
            raise WireError("fragment_duplicate")
        if assembly is not None and piece.total < assembly.total:
            raise WireError("fragment_of_fewer")
        share = open_message(sa.opening(turn.env), datagram, piece)
        if assembly is None or piece.total > assembly.total:
            # A message cut smaller, since it did not get through, replaces what came of its larger pieces.
            self._abandon(shelf, key, "superseded", turn)
            assembly = _Assembly(turn.now, header.message_id, header.exchange_type, piece.total, {})
            shelf.assemblies[key] = assembly
        self._add(shelf, key, assembly, datagram, piece, share, turn)
        if len(assembly.parts) < assembly.total:
            return None
        shelf.pop(key)
        self._whole = shelf, key, assembly
        turn.env.count("messages_reassembled_total")
        chain = b"".join([assembly.parts[number] for number in range(1, assembly.total + 1)])
        return assembly.inner_type, chain, assembly.first

    def _add(
        self,
        shelf: _Shelf,
        key: tuple[bytes, bool],
        assembly: _Assembly,
        datagram: bytes,
        piece: EncryptedFragment,
        share: bytes,
        turn: Turn,
    ) -> None:
        if assembly.octets + len(share) > MAX_MESSAGE_OCTETS:
            self._abandon(shelf, key, "limit", turn)
            raise WireError("fragment_limit")
        assembly.parts[piece.number] = share
        assembly.octets += len(share)
        cost = len(share) + FRAGMENT_OVERHEAD_OCTETS
        if piece.number == 1:
            assembly.inner_type = piece.inner_type
            assembly.first = datagram
            cost += len(datagram)
        assembly.last = piece.number, cost
        assembly.held += cost
        shelf.held += cost
        self._bound(shelf, turn)

    def _bound(self, shelf: _Shelf, turn: Turn) -> None:
        # Never the one that came last: it alone is far below the limit.
        while shelf.held > MAX_HELD_OCTETS:
            self._abandon(shelf, shelf.oldest(), "limit", turn)

    def reopen(self, turn: Turn) -> None:
        """What was put together just now can't be served yet: its last fragment, handed in again, shall complete it."""
        assert self._whole is not None
        (shelf, key, assembly), self._whole = self._whole, None
        number, cost = assembly.last
        assembly.octets -= len(assembly.parts.pop(number))
        assembly.held -= cost
        if assembly.parts:
            shelf.assemblies[key] = assembly
            shelf.held += assembly.held
            self._bound(shelf, turn)

    # Answering again.

    def answer_again(self, sa: IkeSa, turn: Turn) -> None:
        """The peer has repeated the request that we answered last: it has not got the answer."""
        turn.env.count("responses_repeated_total")
        ids = sa.message_ids
        smaller = _smaller_size(sa, ids.cached_response)
        if smaller:
            last_id, repeats = self._repeats.get(sa.spi, (0, 0))
            repeats = repeats + 1 if last_id == ids.expected_id else 1
            if len(self._repeats) >= _MAX_REPEATS_NOTED:
                self._repeats.clear()
            self._repeats[sa.spi] = (ids.expected_id, repeats)
            if repeats >= _UNANSWERED_BEFORE_SMALLER:
                ids.cached_response = _cut_smaller(sa, ids.cached_response, smaller, turn)
        assert turn.path is not None
        turn.send(ids.cached_response, turn.path)

    def stale(self, sa: IkeSa, header: Header, datagram: bytes, turn: Turn) -> None:
        """A request has come that is neither new nor, octet for octet, the last one; raises WireError to drop it.

        It may be the last one for all that, in other fragments. The first of them is answered, and the others are
        ignored (RFC 7383 section 2.6.1).
        """
        ids = sa.message_ids
        if header.next_payload != _SKF or not ids.cached_response or header.message_id != ids.expected_id - 1:
            raise WireError("stale_request")
        piece = decode_message(datagram, header).payloads[-1]
        if not isinstance(piece, EncryptedFragment) or piece.number != 1 or not sa.largest_octets:
            raise WireError("fragment_repeated")
        open_message(sa.opening(turn.env), datagram, piece)
        # It is known by its octets from now on.
        ids.request_hash = hash(datagram)
        self.answer_again(sa, turn)

    # Sending.

    @staticmethod
    def back_off(sa: IkeSa, turn: Turn) -> None:
        """Before our request goes out again: cut it smaller, if it has gone unanswered often enough."""
        waiting = sa.message_ids.outstanding
        if waiting is not None and waiting.sent >= _UNANSWERED_BEFORE_SMALLER and sa.outgoing is not None:
            smaller = _smaller_size(sa, waiting.datagram)
            if smaller:
                waiting.datagram = _cut_smaller(sa, waiting.datagram, smaller, turn)

    # Forgetting.

    def forget(self, sa: IkeSa, turn: Turn) -> None:
        """The SA is closed."""
        self._repeats.pop(sa.spi, None)
        if len(self):
            for shelf in (self._half_open, self._proven):
                for is_response in (False, True):
                    self._abandon(shelf, (sa.spi, is_response), "closed", turn)

    def next_due(self) -> float | None:
        """When `expire` has something to do; None while nothing is held."""
        if not self._half_open.held and not self._proven.held:
            return None
        births = [shelf.assemblies[shelf.oldest()].born for shelf in (self._half_open, self._proven) if shelf.held]
        return min(births) + REASSEMBLY_S

    def expire(self, turn: Turn) -> None:
        """Give up what was begun too long ago."""
        for shelf in (self._half_open, self._proven):
            while shelf.held and shelf.assemblies[shelf.oldest()].born + REASSEMBLY_S <= turn.now:
                self._abandon(shelf, shelf.oldest(), "timeout", turn)

    def _abandon(self, shelf: _Shelf, key: tuple[bytes, bool], reason: str, turn: Turn) -> None:
        if shelf.pop(key) is not None:
            turn.env.count(f'reassemblies_abandoned_total{{reason="{reason}"}}')


def _smaller_size(sa: IkeSa, flight: bytes) -> int:
    """The next smaller `largest_octets` than a flight was made for; 0 if there is none, or if we make no fragments."""
    if not 0 < sa.largest_octets < ONLY_THE_PEERS or len(flight) <= largest_datagram(0, is_ipv6=sa.path.is_ipv6):
        return 0
    is_ipv6 = sa.path.is_ipv6
    longest = len(datagrams_of(flight)[0])
    for size in _IPV6_SIZES if is_ipv6 else _IPV4_SIZES:
        octets = largest_datagram(size, is_ipv6=is_ipv6)
        if octets < longest:
            return octets
    return 0


def _cut_smaller(sa: IkeSa, flight: bytes, largest_octets: int, turn: Turn) -> bytes:
    """The same message in more and smaller fragments, under new nonces; the SA keeps to that size from now on.

    Where that makes no more of them it stays as it is: the peer tells the two cuts apart by their number alone, and
    would mix what is cut differently (RFC 7383 section 2.5.2).
    """
    protection = sa.outgoing
    assert protection is not None
    datagrams = datagrams_of(flight)
    chain = b""
    inner_type = 0
    for datagram in datagrams:
        message = decode_message(datagram)
        sealed = message.payloads[-1]
        assert isinstance(sealed, Encrypted | EncryptedFragment)
        # What we have sealed can be opened with the same keys: nothing need be kept in the clear for this.
        chain += open_message(protection, datagram, sealed)
        inner_type = inner_type or sealed.inner_type
    header = message.header
    cut = seal_fragments(
        protection,
        spi_i=header.spi_i,
        spi_r=header.spi_r,
        exchange_type=header.exchange_type,
        flags=header.flags,
        message_id=header.message_id,
        inner_type=inner_type,
        chain=chain,
        largest_octets=largest_octets,
    )
    if len(datagrams_of(cut)) <= len(datagrams):
        return flight
    turn.env.count("messages_cut_smaller_total")
    sa.largest_octets = min(sa.largest_octets, largest_octets)
    return cut

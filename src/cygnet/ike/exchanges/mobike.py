"""MOBIKE (RFC 4555): an IKE_SA and its CHILD_SAs stay while the addresses of the ends change.

The initiator chooses the path; the responder goes where an authentic UPDATE_SA_ADDRESSES came from. Either end sends
traffic to an address of the peer that is new to it only after the peer has answered there with a cookie (section 3.7),
so that nobody can have us flood a third party. In an IKE_SA with MOBIKE no other IKE message moves anything (section
3.8); authentic ESP from behind a NAT still does.
"""

import hmac
import socket
from functools import lru_cache
from typing import Final

import msgspec

from cygnet.iana import ExchangeType, NotifyType
from cygnet.ike.answers import plain_notify
from cygnet.ike.effects import SaMoved
from cygnet.ike.errors import ProtocolViolation, UnacceptableAddresses, UnexpectedNatDetected, error_notify
from cygnet.ike.exchanges.parts import Parts
from cygnet.ike.nat import begin_keepalives, detect_nat, detection_notifies, move_children, pack_address
from cygnet.ike.path import Path
from cygnet.ike.paths import best_path, candidate_paths, is_reachable, other_addresses
from cygnet.ike.sa import IkeSa, MobikeRole, Turn
from cygnet.ike.tasks import CheckPath, MoveAddresses, Probe, Task, TellAddresses
from cygnet.wire.payloads import Payload
from cygnet.wire.payloads.notify import Notify

# Looked up once: CPython 3.11 finds a member through the metaclass, at ten times the cost of a global.
_ADDITIONAL_IP4_ADDRESS = NotifyType.ADDITIONAL_IP4_ADDRESS
_ADDITIONAL_IP6_ADDRESS = NotifyType.ADDITIONAL_IP6_ADDRESS
_COOKIE2 = NotifyType.COOKIE2
_INFORMATIONAL = ExchangeType.INFORMATIONAL
_INITIATOR = MobikeRole.INITIATOR
_MOBIKE_SUPPORTED = NotifyType.MOBIKE_SUPPORTED
_NAT_DETECTION_DESTINATION_IP = NotifyType.NAT_DETECTION_DESTINATION_IP
_NAT_DETECTION_SOURCE_IP = NotifyType.NAT_DETECTION_SOURCE_IP
_NO_ADDITIONAL_ADDRESSES = NotifyType.NO_ADDITIONAL_ADDRESSES
_NO_NATS_ALLOWED = NotifyType.NO_NATS_ALLOWED
_RESPONDER = MobikeRole.RESPONDER
_UNACCEPTABLE_ADDRESSES = NotifyType.UNACCEPTABLE_ADDRESSES
_UPDATE_SA_ADDRESSES = NotifyType.UPDATE_SA_ADDRESSES

COOKIE2_OCTETS: Final = 16
_MIN_COOKIE2_OCTETS: Final = 8
_MAX_COOKIE2_OCTETS: Final = 64
_TRIES_ON_ONE_PATH: Final = 2
"""How often a request goes out on the path of the SA alone, before the initiator tries the others as well."""
_MAX_PEER_ADDRESSES: Final = 16
_FAMILIES: Final[dict[tuple[int, int], socket.AddressFamily]] = {
    (_ADDITIONAL_IP4_ADDRESS, 4): socket.AF_INET,
    (_ADDITIONAL_IP6_ADDRESS, 16): socket.AF_INET6,
}


_SUPPORTED: Final = (plain_notify(_MOBIKE_SUPPORTED),)


# In IKE_AUTH (sections 3.2 to 3.4).


def _is_allowed(sa: IkeSa) -> bool:
    """Not where there may be transport mode: its packets have the addresses of the path, and can't go on another (RFC
    4555 section 1.2)."""
    assert sa.connection is not None
    return sa.connection.settings.mobike and not sa.connection.has_transport


def offer(sa: IkeSa, turn: Turn) -> tuple[Payload, ...]:
    """As initiator: what goes into the request."""
    return (*_SUPPORTED, *_additional(sa, turn)) if _is_allowed(sa) else ()


def accept(sa: IkeSa, parts: Parts, turn: Turn) -> None:
    """As initiator: see from the response whether the peer supports it too."""
    if _is_allowed(sa) and parts.has_notify(_MOBIKE_SUPPORTED):
        sa.mobike = _INITIATOR
        _note_addresses(sa, parts, turn)


def answer_offer(sa: IkeSa, parts: Parts, turn: Turn) -> tuple[Payload, ...]:
    """As responder: what goes into the response."""
    if not _is_allowed(sa) or not parts.has_notify(_MOBIKE_SUPPORTED):
        return ()
    sa.mobike = _RESPONDER
    return (*_SUPPORTED, *_additional(sa, turn))


def check_nats(parts: Parts, path: Path) -> None:
    """Raises UnexpectedNatDetected if the sender forbids NATs, and its addresses are not those of the IP header."""
    for data in parts.notify_data(_NO_NATS_ALLOWED):
        ports = path.remote_port.to_bytes(2, "big") + path.local_port.to_bytes(2, "big")
        if data != pack_address(path.remote) + pack_address(path.local) + ports:
            raise UnexpectedNatDetected("NO_NATS_ALLOWED names other addresses than the IP header")


@lru_cache(maxsize=256)
def _address_notifies(addresses: tuple[str, ...]) -> tuple[Notify, ...]:
    return tuple(
        plain_notify(_ADDITIONAL_IP6_ADDRESS if ":" in address else _ADDITIONAL_IP4_ADDRESS, pack_address(address))
        for address in addresses
    )


def _additional(sa: IkeSa, turn: Turn) -> tuple[Notify, ...]:
    """Where else we may be reached: not where this message comes from, nor what lies inside the tunnel."""
    return _address_notifies(other_addresses(sa, turn.env))


def _note_addresses(sa: IkeSa, parts: Parts, turn: Turn) -> None:
    """Take the list of the peer's addresses in place of the one before (section 3.6). A responder has no use for it."""
    assert turn.path is not None
    if sa.mobike is not _INITIATOR:
        return
    found: dict[str, None] = {}
    is_told = False
    for notify in parts.notifies:
        family = _FAMILIES.get((notify.notify_type, len(notify.data)))
        is_told = is_told or family is not None or notify.notify_type == _NO_ADDITIONAL_ADDRESSES
        if family is not None and len(found) < _MAX_PEER_ADDRESSES:
            address = socket.inet_ntop(family, notify.data)
            if is_reachable(address):
                found[address] = None
    if is_told:
        sa.peer_addresses = (turn.path.remote, *found) if found else ()


# As the end that is asked, in INFORMATIONAL.


def respond(sa: IkeSa, parts: Parts, turn: Turn) -> tuple[Payload, ...]:
    """Do what the notifies of a request ask for; returns what goes into the response."""
    assert turn.path is not None
    # Section 3.7: as it is.
    answer: tuple[Payload, ...] = tuple(
        plain_notify(_COOKIE2, cookie)
        for cookie in parts.notify_data(_COOKIE2)[:1]
        if _MIN_COOKIE2_OCTETS <= len(cookie) <= _MAX_COOKIE2_OCTETS
    )
    if sa.mobike:
        try:
            check_nats(parts, turn.path)
            if sa.mobike is _RESPONDER and parts.has_notify(_UPDATE_SA_ADDRESSES):
                _adopt(sa, parts, turn.path, turn)
            _note_addresses(sa, parts, turn)
        except ProtocolViolation as error:
            # Neither ends anything but this update (sections 3.5, 3.9).
            turn.env.count(f'address_updates_refused_total{{reason="{error.notify.name.lower()}"}}')
            return (error_notify(error), *answer)
    if _has_detection(parts):
        # In a liveness check too: so the peer sees that its NAT has changed the mapping (section 3.8).
        answer += detection_notifies(sa, turn.path, turn, is_forced=_is_forced(sa))
    return answer


def _adopt(sa: IkeSa, parts: Parts, path: Path, turn: Turn) -> None:
    """As responder: the peer is to be reached on this path from now on (section 3.5)."""
    assert sa.connection is not None
    settings = sa.connection.settings
    if not sa.connection.fits(path):
        raise UnacceptableAddresses(f"{path} is not within local_addrs and remote_addrs")
    turn.env.count("address_updates_received_total")
    before, was_encapsulated = sa.path, sa.is_udp_encapsulated
    sa.path = path
    _detect(sa, parts, path, turn)
    if path != before:
        _send_again(sa, turn)
        turn.effects.append(SaMoved(sa.spi, sa.name, sa.remote_id, path))
    if path.remote != before.remote and settings.mobike_check:
        turn.table.request(sa, CheckPath(), turn)
    elif not _is_checking(sa) and (path != before or sa.is_udp_encapsulated != was_encapsulated):
        move_children(sa, turn)


def _is_checking(sa: IkeSa) -> bool:
    """Whether the peer's address is being checked: then its traffic moves when that is done."""
    waiting = sa.message_ids.outstanding
    asked = (*sa.pending, waiting.task) if waiting is not None else sa.pending
    return any(type(task) is CheckPath for task in asked)


def _is_forced(sa: IkeSa) -> bool:
    return sa.connection is not None and sa.connection.settings.encap


def _has_detection(parts: Parts) -> bool:
    return parts.has_notify(_NAT_DETECTION_SOURCE_IP) or parts.has_notify(_NAT_DETECTION_DESTINATION_IP)


def _detect(sa: IkeSa, parts: Parts, path: Path, turn: Turn) -> None:
    """See anew who is behind a NAT: on another path it may be the one or the other, or none."""
    if _has_detection(parts):
        detect_nat(sa, parts, path, sa.spi_i, sa.spi_r, is_forced=_is_forced(sa))
    begin_keepalives(sa, turn)


def _send_again(sa: IkeSa, turn: Turn) -> None:
    """The path is another: what is unanswered goes out there at once, with all its tries before it.

    Nothing is known then of the path on which it will have been answered (sections 3.5, 3.7).
    """
    datagram = sa.message_ids.begin_again(turn.env.settings.retransmit, turn.now)
    if datagram is not None:
        _forget_path(sa)
        turn.send(datagram, sa.path)


def _forget_path(sa: IkeSa) -> None:
    waiting = sa.message_ids.outstanding
    if waiting is not None and isinstance(waiting.task, MoveAddresses | CheckPath):
        waiting.task = msgspec.structs.replace(waiting.task, path=None)


def unanswered(sa: IkeSa) -> tuple[Task, ...]:
    """What the IKE_SA that takes the place of this one is to ask again: the peer may get the request of this one only
    after that, and the answer moves only what is still in this one."""
    waiting = sa.message_ids.outstanding
    if waiting is None or not isinstance(waiting.task, MoveAddresses | CheckPath | TellAddresses):
        return ()
    again = type(waiting.task)()
    return () if again in sa.pending else (again,)


# The return routability check (section 3.7).


def start_check(sa: IkeSa, task: CheckPath, turn: Turn) -> None:
    """Send a cookie to where the peer says that it is."""
    turn.env.count("routability_checks_total")
    cookie = turn.env.entropy(COOKIE2_OCTETS)
    sa.send_request(_INFORMATIONAL, (plain_notify(_COOKIE2, cookie),), turn, CheckPath(sa.path, cookie))


def finish_check(sa: IkeSa, task: CheckPath, parts: Parts, turn: Turn) -> None:
    """The peer is there: its traffic follows. Or it has moved on meanwhile, and is to be checked anew."""
    if not _is_right_cookie(task.cookie, parts):
        turn.table.close(sa, "cookie2_mismatch", turn)
    elif task.path != sa.path:
        turn.table.request(sa, CheckPath(), turn)
    else:
        move_children(sa, turn)


def _is_right_cookie(cookie: bytes, parts: Parts) -> bool:
    """Whether the peer has seen our request, and not only guessed that there was one."""
    return any(hmac.compare_digest(cookie, each) for each in parts.notify_data(_COOKIE2)[:1])


# As the end that chooses the path.


def roam(sa: IkeSa, turn: Turn, *, is_list_new: bool) -> None:
    """Our addresses or routes have changed: stay if the path is good, or take the best one that there is.

    `is_list_new`: they are others than those that the peer was told of.
    """
    path = best_path(sa, turn.env)
    if path is None:
        # Nowhere to go. Requests are repeated until there is, or the peer is given up.
        return
    if path != sa.path:
        _move(sa, path, turn)
        _send_again(sa, turn)
    elif is_list_new:
        turn.table.request(sa, TellAddresses(), turn)


def move(sa: IkeSa, path: Path, turn: Turn) -> None:
    """Go on from another address or port of ours. Without MOBIKE that is to the peer what the mapping of a NAT in front
    of us does when it changes, and any authentic message tells it where we are (RFC 7296 section 2.23)."""
    if sa.mobike is _INITIATOR:
        _move(sa, path, turn)
        _send_again(sa, turn)
    else:
        sa.path = path
        move_children(sa, turn)
        turn.table.request(sa, Probe(), turn)


def _move(sa: IkeSa, path: Path, turn: Turn, *, tries: int = 0) -> None:
    assert sa.connection is not None
    is_known = path.remote == sa.path.remote or not sa.connection.settings.mobike_check
    sa.path = path
    turn.effects.append(SaMoved(sa.spi, sa.name, sa.remote_id, path))
    if is_known:
        move_children(sa, turn)
    turn.table.request(sa, MoveAddresses(tries=tries), turn)


def heard_elsewhere(sa: IkeSa, path: Path, turn: Turn) -> None:
    """An authentic IKE message has come on another path: it means something only to an initiator that looks for one."""
    waiting = sa.message_ids.outstanding
    if (
        sa.mobike is _INITIATOR
        and waiting is not None
        and waiting.sent > _TRIES_ON_ONE_PATH
        and path in candidate_paths(sa, turn.env)
    ):
        _move(sa, path, turn)


def send_again(sa: IkeSa, datagram: bytes, turn: Turn) -> None:
    """Repeat a request: on every path that the initiator has, once the one in use seems dead (sections 3.10, 3.11)."""
    waiting = sa.message_ids.outstanding
    paths: tuple[Path, ...] = ()
    if sa.mobike is _INITIATOR and waiting is not None and waiting.sent > _TRIES_ON_ONE_PATH:
        paths = candidate_paths(sa, turn.env)
        if any(path != sa.path for path in paths):
            _forget_path(sa)
    for path in paths or (sa.path,):
        turn.send(datagram, path)


def start_move(sa: IkeSa, task: MoveAddresses, turn: Turn) -> None:
    """Send UPDATE_SA_ADDRESSES; what it says is in its IP header (section 3.5)."""
    turn.env.count("address_updates_sent_total")
    cookie = turn.env.entropy(COOKIE2_OCTETS)
    payloads = (
        plain_notify(_UPDATE_SA_ADDRESSES),
        *detection_notifies(sa, sa.path, turn, is_forced=_is_forced(sa)),
        *_list_of_addresses(sa, turn),
        plain_notify(_COOKIE2, cookie),
    )
    sa.send_request(_INFORMATIONAL, payloads, turn, MoveAddresses(sa.path, cookie, task.tries))


def finish_move(sa: IkeSa, task: MoveAddresses, parts: Parts, turn: Turn) -> None:
    """Take the answer: the traffic goes where the IKE_SA went, in UDP or not as the NATs there want it."""
    if not _is_right_cookie(task.cookie, parts):
        turn.table.close(sa, "cookie2_mismatch", turn)
    elif task.path != sa.path:
        turn.table.request(sa, MoveAddresses(), turn)
    elif parts.has_notify(_UNACCEPTABLE_ADDRESSES):
        _try_another(sa, task, turn)
    else:
        _detect(sa, parts, turn.path or sa.path, turn)
        sa.nat_mapping = b""
        move_children(sa, turn)


def _try_another(sa: IkeSa, task: MoveAddresses, turn: Turn) -> None:
    """The peer does not want us here: try the other paths, each once, and then stay and hope."""
    turn.env.count('address_updates_refused_total{reason="by_peer"}')
    paths = candidate_paths(sa, turn.env)
    if task.tries + 1 >= len(paths):
        return
    index = paths.index(sa.path) if sa.path in paths else -1
    _move(sa, paths[(index + 1) % len(paths)], turn, tries=task.tries + 1)


def start_tell(sa: IkeSa, task: TellAddresses, turn: Turn) -> None:
    """Send the list of our other addresses (section 3.6)."""
    sa.send_request(_INFORMATIONAL, _list_of_addresses(sa, turn), turn, task)


def finish_tell(sa: IkeSa, task: TellAddresses, parts: Parts, turn: Turn) -> None:
    """The peer knows them."""


def _list_of_addresses(sa: IkeSa, turn: Turn) -> tuple[Payload, ...]:
    return _additional(sa, turn) or (plain_notify(_NO_ADDITIONAL_ADDRESSES),)


def probe_notifies(sa: IkeSa, turn: Turn) -> tuple[Payload, ...]:
    """What goes into a liveness check: from behind a NAT the question where the peer sees us (section 3.8)."""
    if sa.mobike is not _INITIATOR or not sa.is_behind_nat:
        return ()
    return detection_notifies(sa, sa.path, turn, is_forced=_is_forced(sa))


def note_mapping(sa: IkeSa, parts: Parts, turn: Turn) -> None:
    """The answer to a liveness check: if the NAT has changed our address or port, the peer is to follow."""
    if sa.mobike is not _INITIATOR or not sa.is_behind_nat:
        return
    for digest in parts.notify_data(_NAT_DETECTION_DESTINATION_IP)[:1]:
        if sa.nat_mapping and digest != sa.nat_mapping:
            turn.table.request(sa, MoveAddresses(), turn)
        sa.nat_mapping = digest

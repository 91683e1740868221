"""What a worker shows of its SAs."""

import math
from collections.abc import Mapping

from cygnet.dataplane.base import Dataplane
from cygnet.ike.effects import InstallChild
from cygnet.ike.nat import unpack_address
from cygnet.ike.sa import ChildSa, ChildState, IkeSa
from cygnet.ike.selector_text import format_selector
from cygnet.ike.spi import unique_id
from cygnet.ike.states import SaState
from cygnet.ike.tasks import (
    CheckPath,
    CreateChild,
    DeleteChild,
    DeleteIke,
    MoveAddresses,
    Probe,
    Reauthenticate,
    RekeyChild,
    RekeyIke,
    TakeOver,
    Task,
    TellAddresses,
)
from cygnet.vici.names import algorithms
from cygnet.vici.views import Algorithms, ChildView, SaView

_STATES = {
    SaState.INIT_SENT: "CONNECTING",
    SaState.AUTH_SENT: "CONNECTING",
    SaState.HALF_OPEN: "CONNECTING",
    SaState.ESTABLISHED: "ESTABLISHED",
    SaState.DELETING: "DELETING",
}
"""strongSwan's names of the states."""

_TASKS: Mapping[type[Task], str] = {
    Probe: "IKE_DPD",
    DeleteIke: "IKE_DELETE",
    DeleteChild: "CHILD_DELETE",
    CreateChild: "CHILD_CREATE",
    RekeyChild: "CHILD_REKEY",
    RekeyIke: "IKE_REKEY",
    Reauthenticate: "IKE_REAUTH",
    TakeOver: "IKE_REAUTH_COMPLETE",
    MoveAddresses: "IKE_MOBIKE",
    CheckPath: "IKE_MOBIKE",
    TellAddresses: "IKE_MOBIKE",
}
_HANDSHAKE_TASKS = {SaState.INIT_SENT: ("IKE_INIT", "IKE_AUTH"), SaState.AUTH_SENT: ("IKE_AUTH",)}
"""And of what is done in them."""


def view_sa(sa: IkeSa, dataplane: Dataplane, now: float, children: tuple[ChildSa, ...] | None = None) -> SaView:
    """An IKE_SA with its children, or with these. `now` is of the worker's clock."""
    path = sa.path
    suite = sa.suite
    addresses = tuple(unpack_address(address) for address in sa.virtual_ips)
    is_standing = sa.handshake is None
    return SaView(
        name=sa.name,
        unique_id=unique_id(sa.spi),
        state="REKEYING" if isinstance(busy_with(sa), RekeyIke) else _STATES.get(sa.state, sa.state.name),
        local_host=path.local,
        local_port=path.local_port,
        local_id=str(sa.local_id),
        remote_host=path.remote,
        remote_port=path.remote_port,
        remote_id=str(sa.remote_id),
        is_initiator=sa.is_original_initiator,
        spi_i=sa.spi_i,
        spi_r=sa.spi_r,
        is_behind_nat=sa.is_behind_nat,
        is_peer_behind_nat=sa.is_peer_behind_nat,
        is_nat_feigned=sa.connection is not None and sa.connection.settings.encap,
        algorithms=(
            algorithms(suite.encr, suite.encr_key_bits, suite.integ, suite.prf, suite.ke)
            if suite is not None
            else Algorithms()
        ),
        established_s=_ago(sa.established, now) if is_standing else None,
        rekey_s=_until(sa.rekey_due, now),
        reauth_s=_until(sa.proof.reauth_due if sa.proof is not None else None, now),
        local_vips=() if sa.has_leases else addresses,
        remote_vips=addresses if sa.has_leases else (),
        tasks_active=_active_tasks(sa),
        tasks_queued=tuple(_TASKS[type(task)] for task in sa.pending),
        children=tuple(
            view_child(child, dataplane, now, busy_with(sa))
            for child in (sa.children if children is None else children)
        ),
    )


_CHILD_STATES = {
    ChildState.INSTALLED: "INSTALLED",
    ChildState.REPLACED: "REKEYED",
}
"""As strongSwan calls them."""


def view_child(child: ChildSa, dataplane: Dataplane, now: float, task: Task | None = None) -> ChildView:
    """One CHILD_SA; `task` is what its IKE_SA is busy with."""
    carried, usage = dataplane.carried(child.spi_in) or (None, None)
    received = usage.last_received if usage is not None else 0.0
    sent = usage.last_sent if usage is not None else 0.0
    return ChildView(
        name=child.name,
        unique_id=unique_id(child.spi_in),
        state=_child_state(child, task),
        mode="TRANSPORT" if child.is_transport else "TUNNEL",
        is_udp_encapsulated=carried.is_udp_encapsulated if carried is not None else False,
        spi_in=child.spi_in,
        spi_out=child.spi_out,
        algorithms=_child_algorithms(carried),
        is_esn=carried.suite.is_esn if carried is not None else False,
        octets_in=usage.octets_in if usage is not None else 0,
        packets_in=usage.packets_in if usage is not None else 0,
        used_in_s=_ago(received, now) if received else None,
        octets_out=usage.octets_out if usage is not None else 0,
        packets_out=usage.packets_out if usage is not None else 0,
        used_out_s=_ago(sent, now) if sent else None,
        rekey_s=_until(child.rekey_due, now),
        life_s=_until(child.dies, now),
        installed_s=_ago(child.installed, now),
        local_ts=tuple(map(format_selector, carried.ts_local)) if carried is not None else (),
        remote_ts=tuple(map(format_selector, carried.ts_remote)) if carried is not None else (),
    )


def _child_algorithms(carried: InstallChild | None) -> Algorithms:
    if carried is None:
        return Algorithms()
    suite = carried.suite
    return algorithms(suite.encr, suite.key_bits, suite.integ, None, suite.ke)


def busy_with(sa: IkeSa) -> Task | None:
    """The task whose request waits for its response."""
    waiting = sa.message_ids.outstanding
    return waiting.task if waiting is not None else None


def _child_state(child: ChildSa, task: Task | None) -> str:
    if isinstance(task, RekeyChild | DeleteChild) and task.spi_in == child.spi_in:
        return "REKEYING" if isinstance(task, RekeyChild) else "DELETING"
    return _CHILD_STATES[child.state]


def _active_tasks(sa: IkeSa) -> tuple[str, ...]:
    task = busy_with(sa)
    if task is not None:
        return (_TASKS[type(task)],)
    if sa.handshake is None or sa.state not in _HANDSHAKE_TASKS:
        return ()
    child = ("CHILD_CREATE",) if sa.handshake.child is not None else ()
    return (*_HANDSHAKE_TASKS[sa.state], *child)


def _ago(then: float, now: float) -> int:
    return max(0, round(now - then))


def _until(due: float | None, now: float) -> int | None:
    return max(0, round(due - now)) if due and due != math.inf else None

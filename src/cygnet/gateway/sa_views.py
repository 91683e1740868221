"""What a worker shows of its SAs."""

import math

import msgspec

from cygnet.dataplane.base import Dataplane
from cygnet.ike.effects import InstallChild
from cygnet.ike.nat import unpack_address
from cygnet.ike.sa import ChildSa, ChildState, IkeSa
from cygnet.ike.selector_text import format_selector
from cygnet.ike.spi import unique_id
from cygnet.ike.states import SaState
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


def view_sa(sa: IkeSa, dataplane: Dataplane, now: float, children: tuple[ChildSa, ...] | None = None) -> SaView:
    """An IKE_SA with its children, or with these. `now` is of the worker's clock."""
    path = sa.path
    suite = sa.suite
    addresses = tuple(unpack_address(address) for address in sa.virtual_ips)
    is_standing = sa.handshake is None
    return SaView(
        name=sa.name,
        unique_id=unique_id(sa.spi),
        state=_STATES.get(sa.state, sa.state.name),
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
        tasks=_tasks_of(sa),
        children=tuple(view_child(child, dataplane, now) for child in (sa.children if children is None else children)),
    )


_CHILD_STATES = {
    ChildState.INSTALLED: "INSTALLED",
    ChildState.REPLACED: "REKEYED",
}
"""As strongSwan calls them."""


def view_child(child: ChildSa, dataplane: Dataplane, now: float) -> ChildView:
    """One CHILD_SA."""
    carried, usage = dataplane.carried(child.spi_in) or (None, None)
    received = usage.last_received if usage is not None else 0.0
    sent = usage.last_sent if usage is not None else 0.0
    return ChildView(
        name=child.name,
        unique_id=unique_id(child.spi_in),
        state=_CHILD_STATES[child.state],
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


def _tasks_of(sa: IkeSa) -> tuple[str, ...]:
    waiting = sa.message_ids.outstanding
    under_way = (waiting.task,) if waiting is not None and waiting.task is not None else ()
    return tuple(_task_name(task) for task in (*under_way, *sa.pending))


def _task_name(task: msgspec.Struct) -> str:
    """`REKEY_CHILD` of `RekeyChild`."""
    name = type(task).__name__
    return "".join(f"_{char}" if char.isupper() and index else char for index, char in enumerate(name)).upper()


def _ago(then: float, now: float) -> int:
    return max(0, round(now - then))


def _until(due: float | None, now: float) -> int | None:
    return max(0, round(due - now)) if due and due != math.inf else None

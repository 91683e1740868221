"""What an IKE_SA still has to ask of its peer.

With a window of one (RFC 7296 section 2.3) a request waits until the one before is answered. What waits is not the
request, whose contents may have changed by then, but the wish for it: a task, in `IkeSa.pending`. `requests.py` says
how each kind of task is begun and how it ends.
"""

from typing import TypeAlias

import msgspec

from cygnet.ike.path import Path
from cygnet.ike.selectors import FlowSelectors


class _Task(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """Small and without references into the SA, so that it can be kept with an idle one."""


class Probe(_Task, frozen=True, gc=False, tag=True, array_like=True):
    """Ask the peer whether it lives (RFC 7296 section 2.4)."""


class DeleteIke(_Task, frozen=True, gc=False, tag=True, array_like=True):
    """End the IKE_SA with all that it carries (section 1.4.1)."""


class DeleteChild(_Task, frozen=True, gc=False, tag=True, array_like=True):
    """End a CHILD_SA."""

    spi_in: bytes


class CreateChild(_Task, frozen=True, gc=False, tag=True, array_like=True):
    """Set up one more CHILD_SA (section 1.3.1)."""

    name: str
    """Of its `children` section."""
    tries: int = 0
    """How often the peer could not do it just then."""
    flow: FlowSelectors | None = None
    """The packet that it is wanted for, if it is for one: then beside others of that name, which are not for it."""


class RekeyChild(_Task, frozen=True, gc=False, tag=True, array_like=True):
    """Replace a CHILD_SA by one with new keys (section 1.3.3)."""

    spi_in: bytes
    tries: int = 0


class RekeyIke(_Task, frozen=True, gc=False, tag=True, array_like=True):
    """Replace the IKE_SA by one with new keys, to which its CHILD_SAs move (section 1.3.2)."""

    tries: int = 0


class Reauthenticate(_Task, frozen=True, gc=False, tag=True, array_like=True):
    """Begin an IKE_SA that is to take the place of this one, with a new proof of who the ends are (section 2.8.3)."""


class TakeOver(_Task, frozen=True, gc=False, tag=True, array_like=True):
    """Set up the CHILD_SAs of the IKE_SA whose place this one is to take, and then end that."""

    successor: bytes
    """Our SPI of the IKE_SA that was begun for it; that may have been rekeyed since."""
    names: tuple[str, ...]
    """Of the CHILD_SAs that stood then."""
    asked: tuple[str, ...] = ()
    """Of those that were asked for."""


class MoveAddresses(_Task, frozen=True, gc=False, tag=True, array_like=True):
    """Tell the peer where it finds us, or where we want to find it, from now on (RFC 4555 section 3.5)."""

    path: Path | None = None
    """The one path that the request went out on; None before it did, and if it has gone out on several."""
    cookie: bytes = b""
    tries: int = 0
    """Paths that the peer has refused in a row."""


class CheckPath(_Task, frozen=True, gc=False, tag=True, array_like=True):
    """See whether the peer receives what we send to its new address (RFC 4555 section 3.7)."""

    path: Path | None = None
    """As in `MoveAddresses`."""
    cookie: bytes = b""


class TellAddresses(_Task, frozen=True, gc=False, tag=True, array_like=True):
    """Tell the peer of our other addresses (RFC 4555 section 3.6)."""


Task: TypeAlias = (
    Probe
    | DeleteIke
    | DeleteChild
    | CreateChild
    | RekeyChild
    | RekeyIke
    | Reauthenticate
    | TakeOver
    | MoveAddresses
    | CheckPath
    | TellAddresses
)

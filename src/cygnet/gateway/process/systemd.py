"""Word to the service manager, where there is one (sd_notify(3)): a datagram with assignments."""

import os
import socket
from contextlib import suppress


def notify(state: str) -> None:
    """Tell it `READY=1` or `STOPPING=1`; nothing happens where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        # An at sign stands for an address in the abstract namespace, which begins with a zero octet.
        manager.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
        manager.send(state.encode())

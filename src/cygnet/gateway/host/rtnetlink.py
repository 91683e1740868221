"""Requests to the kernel's network configuration (rtnetlink), answered before `request` returns.

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+---------------------------------------------------------------+
| length                                                        |  struct nlmsghdr
| type                          | flags                         |
| sequence                                                      |
| port                                                          |
| what is of that type                                          |
| attribute length              | attribute type                |  struct rtattr
| value ...                                                     |
+---------------------------------------------------------------+
"""

import os
import socket
import struct
from typing import Final

_NLMSGHDR: Final = struct.Struct("=IHHII")
_RTATTR: Final = struct.Struct("=HH")
_ERROR: Final = struct.Struct("=i")

# linux/netlink.h
_NETLINK_ROUTE: Final = 0
_NLMSG_ERROR: Final = 2
_NLM_F_REQUEST: Final = 0x001
_NLM_F_ACK: Final = 0x004
NLM_F_REPLACE: Final = 0x100
NLM_F_CREATE: Final = 0x400

_ANSWER_OCTETS: Final = 8192
_ANSWER_TIMEOUT_S: Final = 1.0
"""Never needed: the kernel answers within `send`."""


class RtNetlink:
    """A socket to the kernel. Whoever changes something needs CAP_NET_ADMIN."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE)
        self._socket.settimeout(_ANSWER_TIMEOUT_S)
        self._socket.bind((0, 0))
        self._sequence = 0

    def request(self, kind: int, body: bytes, flags: int = 0) -> None:
        """Ask for something. Raises OSError if the kernel refuses."""
        self._sequence += 1
        self._socket.send(encode_request(kind, body, flags, self._sequence))
        while True:
            answer = self._socket.recv(_ANSWER_OCTETS)
            _, message_type, _, sequence, _ = _NLMSGHDR.unpack_from(answer)
            if message_type == _NLMSG_ERROR and sequence == self._sequence:
                break
        number = -_ERROR.unpack_from(answer, _NLMSGHDR.size)[0]
        if number:
            raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """Let go of the kernel."""
        self._socket.close()


def encode_request(kind: int, body: bytes, flags: int, sequence: int) -> bytes:
    """A request that is to be acknowledged."""
    return _NLMSGHDR.pack(_NLMSGHDR.size + len(body), kind, flags | _NLM_F_REQUEST | _NLM_F_ACK, sequence, 0) + body


def encode_attribute(kind: int, value: bytes) -> bytes:
    """An attribute, padded to a multiple of four octets."""
    return _RTATTR.pack(_RTATTR.size + len(value), kind) + value + bytes(-len(value) % 4)

"""The keys of `gateway { }` about what is done on the host for CHILD_SAs."""

from typing import Final

from cygnet.config import values
from cygnet.config.schema import Key
from cygnet.config.values import Kind

HOST_KEYS: Final = (
    Key(
        "updown_timeout",
        Kind("time", values.time_between(1, 3600)),
        "30s",
        "Time after which a script of `updown` is killed.",
        field="updown_timeout_s",
        is_own=True,
    ),
)

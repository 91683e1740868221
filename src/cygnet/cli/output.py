"""What a command says to people, when nobody may be there to read it."""

import sys
from contextlib import suppress


def complain(text: object) -> None:
    """Print a line on standard error. Where that can't be written, a full disk for one, it is lost: nothing more can
    be said, and it is no reason to end."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)

"""The folders beside `swanctl.conf` whose files strongSwan loads by itself: certificates and keys."""

from pathlib import Path
from typing import Final

from cygnet.config.errors import Problem, quote
from cygnet.config.resource_keys import CERTIFICATES

FILE_NAME: Final = "swanctl.conf"
"""Only beside a file of this name are they that; a folder `private` elsewhere may hold anything."""

FOLDERS: Final = (
    "x509",
    "x509ca",
    "x509ocsp",
    "x509aa",
    "x509ac",
    "x509crl",
    "pubkey",
    "private",
    "rsa",
    "ecdsa",
    "bliss",
    "pkcs8",
    "pkcs12",
)
_SHOWN: Final = 3


def unused_files(path: str) -> tuple[Problem, ...]:
    """A warning for each of these folders that holds something, beside the configuration file `path`."""
    if Path(path).name != FILE_NAME:
        return ()
    parent = Path(path).parent
    found = []
    for folder in FOLDERS:
        names = _files(parent / folder)
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            shown = ", ".join(map(quote, names[:_SHOWN]))
            message = f"{shown}{more} can't be used: {CERTIFICATES}"
            found.append(Problem(str(parent / folder), 0, 0, message, is_warning=True))
    return tuple(found)


def _files(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError:
        return []

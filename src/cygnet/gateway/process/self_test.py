"""Before anything is served: each configured algorithm is tried once."""

import os

from cygnet.crypto.errors import CryptoError
from cygnet.crypto.self_test import load_everything, try_child_suite, try_ike_suite
from cygnet.ike.errors import LocalError
from cygnet.ike.proposals import child_suite, covering_suites, ike_suite
from cygnet.ike.settings import Settings


def try_algorithms(settings: Settings) -> None:
    """Use every algorithm that a connection may choose; raises LocalError if one does not work here.

    A worker runs without privileges, and perhaps without the right to read the files of the libraries that it uses:
    this also makes them load everything while we still may, be it for connections that are loaded later.
    """
    load_everything(os.urandom)
    ike_proposals = dict.fromkeys(p for c in settings.connections for p in c.proposals)
    esp_proposals = dict.fromkeys(p for c in settings.connections for child in c.children for p in child.esp_proposals)
    try:
        suites = [ike_suite(transforms) for p in ike_proposals for transforms in covering_suites(p)]
        for suite in suites:
            try_ike_suite(suite, os.urandom)
        for proposal in esp_proposals:
            for transforms in covering_suites(proposal):
                try_child_suite(child_suite(transforms), suites[0], os.urandom)
    except CryptoError as exc:
        raise LocalError(str(exc)) from exc

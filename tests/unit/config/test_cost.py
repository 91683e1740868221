"""What a configuration of many connections costs to read, in bytecode instructions for each: see `test_cost.py` of the
simulated world."""

import sys

import pytest
from tests.instructions import Instructions

from cygnet.config.load import load_text

EACH = 8000
"""For a connection with two children, its pool and its secret; as counted with CPython 3.11, and a tenth."""

_DEFAULTS = """
defaults {
    local_addrs = 198.51.100.1
    proposals = aes128gcm16-prfsha256-x25519, aes256-sha256-modp2048
    local {
        auth = psk
        id = gw.example.org
    }
    remote { auth = psk }
}
"""
_CONNECTION = """
    site-%(n)d : defaults {
        remote_addrs = 10.0.%(n)d.1
        pools = pool-%(n)d
        remote {
            id = site-%(n)d.example.org
        }
        children {
            nets {
                local_ts = 10.1.0.0/16
                remote_ts = 172.16.%(n)d.0/24
                start_action = none
            }
            mail {
                local_ts = 10.1.0.25/32[tcp/25]
            }
        }
    }
"""
_POOL = "    pool-%(n)d {\n        addrs = 100.64.%(n)d.0/24\n    }\n"
_SECRET = "    ike-%(n)d {\n        id = site-%(n)d.example.org\n        secret = s%(n)d\n    }\n"


def cost(numbers: range) -> int:
    """Of reading a connection for each number, which none had before."""
    parts = ["".join(each % {"n": n} for n in numbers) for each in (_CONNECTION, _POOL, _SECRET)]
    text = _DEFAULTS + "connections {{{}}}\npools {{\n{}}}\nsecrets {{\n{}}}\n".format(*parts)
    counted = Instructions()
    loaded = counted.counting(load_text)(text)
    assert len(loaded.settings.connections) == len(numbers)
    print(counted)
    return counted.by_function.total()


@pytest.mark.skipif(sys.gettrace() is not None, reason="a debugger or a measurement of coverage traces already")
def test_a_connection_stays_cheap_to_read_however_many_there_are() -> None:
    cost(range(1))
    few, some, many = cost(range(1, 21)), cost(range(21, 61)), cost(range(61, 141))
    assert 1000 < (some - few) / 20 <= EACH
    # So many more cost so much more: nothing is looked through for each.
    assert many - some <= 2.02 * (some - few)

"""How fast a core is now: a fixed piece of work in the language of handshakes, timed every half second.

    python -m benchmarks.calibrate --core 0 --group modp2048      until its standard input ends

The machines that benchmarks run on, virtual ones above all, change their speed by up to a factor of two from one minute
to the next. Two levels of load that were measured one after the other can be compared only if it is known how fast the
machine was at each. So this runs beside what is measured, on the same core, and takes about a hundredth of it.

The unit of work is one half of a key exchange with the group in question, and as many messages encoded and decoded as
cost about as much: OpenSSL and the interpreter, as in a handshake. It is timed by the CPU time of its thread, so that
it doesn't matter how much of the core is left to it, and done once before, so that the caches are its own. When its
input ends it prints units per second of CPU: the mean over the time, and every sample with its time.
"""

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cygnet.crypto.ke import KE, KeyExchangeMethod  # noqa: E402
from cygnet.iana import ExchangeType  # noqa: E402
from cygnet.wire.header import FLAG_INITIATOR  # noqa: E402
from cygnet.wire.message import decode_message, encode_message  # noqa: E402
from cygnet.wire.payloads import Nonce, Payload  # noqa: E402

EVERY_S = 0.5
MESSAGES = 20
_NONCES: tuple[Payload, ...] = tuple(Nonce(bytes((n,)) * 32) for n in range(8))


class Speed(msgspec.Struct):
    """What was measured, when it has ended."""

    units_per_s: float = 0.0
    """Of CPU time, the mean over the time."""
    samples: int = 0


def unit(method: KeyExchangeMethod) -> None:
    """The piece of work."""
    method.generate()
    for n in range(MESSAGES):
        octets = encode_message(
            spi_i=bytes(8),
            spi_r=bytes(8),
            exchange_type=ExchangeType.IKE_SA_INIT,
            flags=FLAG_INITIATOR,
            message_id=n,
            payloads=_NONCES,
        )
        decode_message(octets)


def sample(method: KeyExchangeMethod) -> float:
    """Units per second of CPU time, now."""
    unit(method)
    begun = time.thread_time()
    unit(method)
    return 1 / (time.thread_time() - begun)


@contextmanager
def calibrating(core: int, group: str) -> Iterator[Speed]:
    """Measure a core's speed meanwhile; the result is there afterwards."""
    command = [sys.executable, "-m", "benchmarks.calibrate", "--core", str(core), "--group", group]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    speed = Speed()
    try:
        yield speed
    finally:
        out, _ = process.communicate(timeout=30)
    found = json.loads(out)
    speed.units_per_s, speed.samples = found["units_per_s"], len(found["samples"])


def main() -> None:
    """Measure until the input ends, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", type=int, default=0)
    methods = {keyword: method for method in KE.values() for keyword in method.keywords}
    parser.add_argument("--group", choices=sorted(methods), default="x25519")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    samples: list[tuple[float, float]] = []
    begun = time.monotonic()
    while True:
        samples.append((time.monotonic() - begun, sample(methods[options.group])))
        if select.select([sys.stdin], [], [], EVERY_S)[0]:
            break
    mean = statistics.fmean(speed for _, speed in samples)
    print(json.dumps({"units_per_s": round(mean, 1), "samples": [[round(t, 2), round(s, 1)] for t, s in samples]}))


if __name__ == "__main__":
    main()

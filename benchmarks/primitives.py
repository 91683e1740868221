"""What the cryptography of a responder takes by itself: what no way of writing the rest can save.

    python -m benchmarks.primitives [--suite x25519] [--times 300]

The calls are those of the gateway, with the octets of its messages, one after the other in this process: one for all
messages of a handshake, one for those of a rekeying with a key exchange and the Delete after it. So it counts what the
libraries do, and what it takes to call them; and neither messages, nor tables, nor sockets. `benchmarks.handshake` and
`benchmarks.rekey` report it beside what they measure, from the same core. At last X25519 by each library that is there.
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial

from benchmarks import common
from benchmarks.common import SECRET, SUITES

from cygnet.auth.psk import compute_psk_auth, verify_psk_auth
from cygnet.crypto.keymat import (
    ChildSuite,
    IkeKeys,
    IkeSuite,
    derive_child_keys,
    derive_ike_keys,
    derive_rekeyed_ike_keys,
)
from cygnet.crypto.protection import PacketProtection, make_protection
from cygnet.crypto.x25519 import IS_WITH_SODIUM, OpensslKeyPair, SodiumKeyPair
from cygnet.iana import ProtocolId
from cygnet.ike.nat import detection_digest
from cygnet.ike.proposals import child_suite, ike_suite, parse_proposal

TIMES = 300
INIT_OCTETS = 250
"""Of an IKE_SA_INIT, which the AUTH payloads cover; the key exchange's public value comes on top."""
AUTH_OCTETS, CREATE_OCTETS, DELETE_OCTETS = 230, 120, 16
"""Of what is encrypted in a message of IKE_AUTH, CREATE_CHILD_SA and INFORMATIONAL."""
AAD = bytes(32)
NONCES = {"nonce_i": bytes(32), "nonce_r": bytes(range(32))}
SPIS = {"spi_i": bytes(8), "spi_r": bytes(range(8))}


class Responder:
    """Both ends' keys, and what the peer has sent."""

    def __init__(self, suite: str) -> None:
        ike, esp = SUITES[suite]
        self.suite: IkeSuite = ike_suite(parse_proposal(ProtocolId.IKE, ike).transforms)
        self.child: ChildSuite = child_suite(parse_proposal(ProtocolId.ESP, esp).transforms)
        self.peer = self.suite.ke.generate().public
        self.keys = self._derive(self.suite.ke.generate().shared(self.peer))
        self.init = bytes(INIT_OCTETS + self.suite.ke.public_octets)
        self.auth = self._auth()
        self.sealed = {octets: self._protect().seal(AAD, bytes(octets)) for octets in (AUTH_OCTETS, DELETE_OCTETS)}
        rekeying = CREATE_OCTETS + self.suite.ke.public_octets
        self.sealed[CREATE_OCTETS] = self._protect().seal(AAD, bytes(rekeying))

    def answer_handshake(self) -> None:
        """IKE_SA_INIT and IKE_AUTH, with a pre-shared key."""
        key_pair = self.suite.ke.generate()
        for address in ("192.0.2.1", "198.51.100.1") * 2:
            detection_digest(**SPIS, address=address, port=500)
        self._derive(key_pair.shared(self.peer))
        incoming, outgoing = self._protect(), self._protect()
        incoming.open(AAD, self.sealed[AUTH_OCTETS])
        secret, prf = SECRET.encode(), self.suite.prf
        verify_psk_auth(
            self.auth,
            prf,
            secret,
            sk_p=self.keys.sk_pi,
            message=self.init,
            nonce=NONCES["nonce_r"],
            id_body=bytes(20),
        )
        self._auth()
        derive_child_keys(self.child, prf, self.keys.sk_d, **NONCES)
        outgoing.seal(AAD, bytes(AUTH_OCTETS))

    def rekey_child(self) -> None:
        """CREATE_CHILD_SA with a key exchange, and the Delete of the old one."""
        incoming, outgoing = self._protect(), self._protect()
        self._exchange(incoming, outgoing, CREATE_OCTETS)
        shared = self.suite.ke.generate().shared(self.peer)
        derive_child_keys(self.child, self.suite.prf, self.keys.sk_d, **NONCES, shared=shared)
        self._exchange(incoming, outgoing, DELETE_OCTETS)

    def rekey_ike(self) -> None:
        """CREATE_CHILD_SA for the IKE_SA, and the Delete of the old one."""
        incoming, outgoing = self._protect(), self._protect()
        self._exchange(incoming, outgoing, CREATE_OCTETS)
        shared = self.suite.ke.generate().shared(self.peer)
        derive_rekeyed_ike_keys(
            self.suite, old_prf=self.suite.prf, old_sk_d=self.keys.sk_d, shared=shared, **NONCES, **SPIS
        )
        self._exchange(incoming, outgoing, DELETE_OCTETS)

    def _exchange(self, incoming: PacketProtection, outgoing: PacketProtection, octets: int) -> None:
        incoming.open(AAD, self.sealed[octets])
        outgoing.seal(AAD, bytes(octets))

    def _derive(self, shared: bytes) -> IkeKeys:
        return derive_ike_keys(self.suite, shared=shared, **NONCES, **SPIS)

    def _auth(self) -> bytes:
        return compute_psk_auth(
            self.suite.prf,
            SECRET.encode(),
            sk_p=self.keys.sk_pi,
            message=self.init,
            nonce=NONCES["nonce_r"],
            id_body=bytes(20),
        )

    def _protect(self) -> PacketProtection:
        suite = self.suite
        return make_protection(
            suite.encr,
            suite.encr_key_bits,
            suite.integ,
            encr_key=self.keys.sk_ei,
            integ_key=self.keys.sk_ai,
            entropy=os.urandom,
        )


def measure(work: Callable[[], object], *, core: int, times: int = TIMES) -> float:
    """Microseconds of CPU that it takes on that core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        work()
        begun = time.process_time()
        for _ in range(times):
            work()
        return (time.process_time() - begun) / times * 1e6
    finally:
        os.sched_setaffinity(0, cores)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.add_suite(parser)
    parser.add_argument("--times", type=int, default=TIMES, help=f"how often (default {TIMES})")
    options = parser.parse_args()
    responder = Responder(options.suite)
    for name, work in (
        ("handshake", responder.answer_handshake),
        ("rekeyed CHILD_SA", responder.rekey_child),
        ("rekeyed IKE_SA", responder.rekey_ike),
    ):
        print(f"{measure(work, core=common.RESPONDER_CORE, times=options.times):6.0f} us a {name}")
    peer = OpensslKeyPair(None).public
    for library, kind in (("OpenSSL", OpensslKeyPair), *((("libsodium", SodiumKeyPair),) if IS_WITH_SODIUM else ())):
        for name, work in (("key pair", partial(kind, None)), ("shared secret", partial(kind(None).shared, peer))):
            took = measure(work, core=common.RESPONDER_CORE, times=options.times)
            print(f"{took:6.0f} us a {name} of X25519 by {library}")


if __name__ == "__main__":
    main()

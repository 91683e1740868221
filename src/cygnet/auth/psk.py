"""Authentication by a pre-shared key (RFC 7296 section 2.15).

    AUTH = prf( prf(Shared Secret, "Key Pad for IKEv2"), <SignedOctets>)
    SignedOctets = message | nonce | prf(SK_p, IDbody)

`message` is the signer's own first message as it was on the wire, `nonce` the content of the other side's Nonce
payload, `SK_p` is SK_pi for the initiator and SK_pr for the responder.
"""

import hmac
from functools import lru_cache
from typing import Final

from cygnet.crypto.mac import Mac
from cygnet.crypto.prf import PrfAlgorithm

_KEY_PAD: Final = b"Key Pad for IKEv2"

SECRETS_REMEMBERED: Final = 4096
"""Padded secrets kept ready. Fleets share few secrets, or have one for each peer: then this bounds the memory."""


def compute_psk_auth(
    prf: PrfAlgorithm, secret: bytes, *, sk_p: bytes, message: bytes, nonce: bytes, id_body: bytes
) -> bytes:
    """The authentication data of one end, `prf.output_octets` long.

    `id_body` is the body of its Identification payload: ID type, three reserved octets, data.
    """
    signed = b"".join((message, nonce, prf.once(sk_p, id_body)))
    return _padded_key(prf, secret).digest(signed)


def verify_psk_auth(
    received: bytes,
    prf: PrfAlgorithm,
    secret: bytes,
    *,
    sk_p: bytes,
    message: bytes,
    nonce: bytes,
    id_body: bytes,
) -> bool:
    """Whether the peer's authentication data proves that it has `secret`; the time taken says nothing about it."""
    expected = compute_psk_auth(prf, secret, sk_p=sk_p, message=message, nonce=nonce, id_body=id_body)
    return hmac.compare_digest(expected, received)


def forget_secrets() -> None:
    """Drop what was derived from secrets, as when a configuration is replaced."""
    _padded_key.cache_clear()


@lru_cache(maxsize=SECRETS_REMEMBERED)
def _padded_key(prf: PrfAlgorithm, secret: bytes) -> Mac:
    return prf.key(prf.once(secret, _KEY_PAD))

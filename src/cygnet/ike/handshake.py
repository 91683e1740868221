"""What an IKE_SA holds only until both ends are authenticated, and what its setting-up may cost."""

import msgspec

from cygnet.crypto.ke import KeyPair
from cygnet.crypto.keymat import IkeKeys
from cygnet.ike.connections import Candidates, Child
from cygnet.ike.proposals import ProposalChoice
from cygnet.ike.selectors import FlowSelectors

MAX_FAILED_OPENS = 10
"""Requests to a half-open SA that we try to open in vain; what follows is dropped unseen, and the SA times out.
Who sends them has seen the SPIs, and so could have ended the handshake by forging the answer to IKE_SA_INIT anyway."""
MALFORMED_PER_OPEN = 10
"""So many requests that are refused before they are opened, which is cheap, count like one that was opened in vain."""


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """As what a new peer was let in."""

    source: bytes
    """The prefix of its address."""
    is_proven: bool
    """Whether it has returned a cookie, and so is at that address."""
    is_known: bool = False
    """Whether peers had authenticated themselves from that prefix before."""
    spent: bytes = b""
    """The cookie whose puzzle it has solved for that, and which lets nobody in again."""


class Handshake(msgspec.Struct, gc=False, eq=False):
    """What is needed only until both ends are authenticated; dropped then, with the ephemeral key in it."""

    started: float
    nonce_i: bytes = b""
    nonce_r: bytes = b""
    init_request: bytes = b""
    """IKE_SA_INIT as it crossed the wire: what AUTH signs (RFC 7296 section 2.15)."""
    init_response: bytes = b""
    ke_method: int = 0
    key_pair: KeyPair | None = None
    peer_public: bytes = b""
    keys: IkeKeys | None = None
    # As original responder.
    admitted: Admitted | None = None
    failures: int = 0
    """Requests that were not the peer's, those that were opened in vain times MALFORMED_PER_OPEN."""
    candidates: Candidates = Candidates()
    """The first made the choice; of the others those that don't allow it are out."""
    choice: ProposalChoice | None = None
    # As original initiator.
    cookie: bytes = b""
    solution: bytes = b""
    """Of the puzzle that came with the cookie (RFC 8019)."""
    cookies_taken: int = 0
    ke_methods_tried: tuple[int, ...] = ()
    child: Child | None = None
    flow: FlowSelectors | None = None
    """The packet that the child is wanted for, if it is for one."""
    spi_in: bytes = b""
    vips: tuple[bytes, ...] = ()
    """The virtual addresses of the IKE_SA whose place it is to take: those are asked for again."""
    takes_childless: bool = False
    """The peer has said that an IKE_SA may begin without a CHILD_SA (RFC 6023)."""
    says_alone: bool = False
    """We have said that we have no other IKE_SA with the peer (INITIAL_CONTACT)."""

    def __repr__(self) -> str:
        return f"<Handshake since {self.started:.3f}, keys redacted>"

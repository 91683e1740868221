"""What the supervisor hands a worker of new settings: only what is different from those that it has, in small pieces.

Each piece stands alone, so that a worker can take one, and serve its peers before the next. Connections and pools come
in the order of the configuration, and those that the worker has already by name only. Lists in which nothing has
changed do not come at all. The last piece has the rest.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from cygnet.ike.settings import ConnectionSettings, PoolSettings, Settings, SharedSecret

_NAMES_AT_ONCE: Final = 512
"""Names in a piece; a worker takes that many in a millisecond or two."""
_WEIGHT: Final = 16
"""As many names a connection, a pool or a secret counts for."""


class _Piece(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Tagged by its kind."""


class Connections(_Piece, frozen=True, array_like=True, tag=True):
    """The next connections; names are of those that stay as they are."""

    items: tuple[str | ConnectionSettings, ...]


class Pools(_Piece, frozen=True, array_like=True, tag=True):
    """The next pools, likewise."""

    items: tuple[str | PoolSettings, ...]


class Secrets(_Piece, frozen=True, array_like=True, tag=True):
    """The next secrets."""

    items: tuple[SharedSecret, ...]


class Rest(_Piece, frozen=True, array_like=True, tag=True):
    """All that is in no list, and which lists have come; the others stay as they are."""

    settings: Settings
    """Without connections, pools and secrets."""
    has_connections: bool
    has_pools: bool
    has_secrets: bool


Piece = Connections | Pools | Secrets | Rest

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Piece]] = msgspec.msgpack.Decoder(Piece)

_Named = TypeVar("_Named", ConnectionSettings, PoolSettings)


def encode_changes(settings: Settings, known: Settings | None) -> Iterator[bytes]:
    """The pieces that make `settings` of those that a worker has; None if that is not known: then all of it."""
    has_connections = known is None or settings.connections != known.connections
    has_pools = known is None or settings.pools != known.pools
    has_secrets = known is None or settings.secrets != known.secrets
    if has_connections:
        for connections in _parts(_changes(settings.connections, known.connections if known is not None else ())):
            yield _encoder.encode(Connections(connections))
    if has_pools:
        for pools in _parts(_changes(settings.pools, known.pools if known is not None else ())):
            yield _encoder.encode(Pools(pools))
    if has_secrets:
        for secrets in _parts(settings.secrets):
            yield _encoder.encode(Secrets(secrets))
    rest = msgspec.structs.replace(settings, connections=(), pools=(), secrets=())
    yield _encoder.encode(Rest(rest, has_connections, has_pools, has_secrets))


def decode_piece(octets: bytes) -> Piece:
    """Raises msgspec.MsgspecError."""
    return _decoder.decode(octets)


def _changes(items: Sequence[_Named], known: Iterable[_Named]) -> Iterator[str | _Named]:
    before = {each.name: each for each in known}
    for item in items:
        old = before.get(item.name)
        yield item.name if old is not None and (old is item or old == item) else item


_Item = TypeVar("_Item")


def _parts(items: Iterable[_Item]) -> Iterator[tuple[_Item, ...]]:
    part: list[_Item] = []
    room = _NAMES_AT_ONCE
    for item in items:
        part.append(item)
        room -= 1 if isinstance(item, str) else _WEIGHT
        if room <= 0:
            yield tuple(part)
            part, room = [], _NAMES_AT_ONCE
    if part:
        yield tuple(part)

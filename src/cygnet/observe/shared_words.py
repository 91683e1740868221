"""Rows of 64-bit words in shared memory: one row for each process that writes, all readable by anybody.

A reader never waits and never disturbs a writer: an aligned word is stored and loaded in one piece. With a
file behind it, a process that is no relative can read too; its head says what the words mean:

    octets 0..7    magic
           8..11   octets of this head, a multiple of 64
          12..15   rows
          16..19   octets of a row, a multiple of 64: rows share no cache line
          20..23   octets of the description
          24..     description, as its writer likes it

All numbers are in the byte order of the machine, which is where the file makes sense.
"""

import mmap
import os
import struct
from pathlib import Path
from typing import Final

_MAGIC: Final = b"cygnet\x00\x01"
"""The last octet is the version of the layout."""
_HEAD: Final = struct.Struct("=8s4I")
_CACHE_LINE: Final = 64


class UnreadableWords(Exception):
    """A file is no rows of words, or of another version."""


class SharedWords:
    """The mapped memory. `row(i)` is a memoryview of signed 64-bit words."""

    __slots__ = ("_head_octets", "_map", "_row_octets", "_view", "description", "rows")

    def __init__(self, mapped: mmap.mmap) -> None:
        if len(mapped) < _HEAD.size:
            raise UnreadableWords("too short")
        magic, head_octets, rows, row_octets, description_octets = _HEAD.unpack_from(mapped)
        if magic != _MAGIC:
            raise UnreadableWords("not written by this version of Cygnet")
        if head_octets < _HEAD.size + description_octets or len(mapped) != head_octets + rows * row_octets:
            raise UnreadableWords("damaged")
        self._map = mapped
        self._view = memoryview(mapped)
        self._head_octets: int = head_octets
        self._row_octets: int = row_octets
        self.rows: int = rows
        self.description: bytes = mapped[_HEAD.size : _HEAD.size + description_octets]

    @classmethod
    def create(cls, *, rows: int, words: int, description: bytes, path: Path | None = None) -> "SharedWords":
        """New rows of zeros. They are shared with children by fork, and with all that may read `path` if it
        is given.

        A file at `path` is replaced in one piece, so a reader sees the old one or the new one.
        """
        head_octets = _round_up(_HEAD.size + len(description))
        row_octets = _round_up(8 * words)
        octets = head_octets + rows * row_octets
        head = _HEAD.pack(_MAGIC, head_octets, rows, row_octets, len(description)) + description
        if path is None:
            mapped = mmap.mmap(-1, octets)
            mapped[: len(head)] = head
            return cls(mapped)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            # Reserved now: a full disk must be an error here, not a bus error when a counter is touched.
            os.posix_fallocate(fd, 0, octets)
            mapped = mmap.mmap(fd, octets)
            mapped[: len(head)] = head
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        return cls(mapped)

    @classmethod
    def open(cls, path: Path) -> "SharedWords":
        """The rows that another process writes to `path`, to be read; OSError, or UnreadableWords."""
        with path.open("rb") as file:
            try:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as exc:
                raise UnreadableWords("empty") from exc
        try:
            return cls(mapped)
        except UnreadableWords:
            mapped.close()
            raise

    def row(self, index: int) -> "memoryview[int]":
        """One row, as words."""
        start = self._head_octets + index * self._row_octets
        return self._view[start : start + self._row_octets].cast("q")

    def close(self) -> None:
        """Let go of the memory; BufferError while a row is in use."""
        self._view.release()
        self._map.close()


def _round_up(octets: int) -> int:
    return -(-octets // _CACHE_LINE) * _CACHE_LINE

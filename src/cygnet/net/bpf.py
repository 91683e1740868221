"""Assembles classic BPF, the filter language that the kernel runs on datagrams (bpf(4), linux/filter.h).

A program is a list of instructions and labels. Jumps name labels, which must lie ahead; the accumulator is A,
the index register X. Loads are big-endian, and one beyond the end of the datagram ends the program with the
result 0.
"""

import ctypes
import socket
import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import msgspec

SO_ATTACH_FILTER: Final = 26
SO_ATTACH_REUSEPORT_CBPF: Final = 51

_INSTRUCTION: Final = struct.Struct("=HBBI")
_PROGRAM: Final = struct.Struct("@HP")
"""struct sock_fprog: number of instructions, pointer to them."""


class Op(IntEnum):
    """The instructions that we use; each says what it does with its operand k."""

    LOAD_WORD = 0x20  # A = 4 octets at k
    LOAD_OCTET = 0x30  # A = octet at k
    LOAD_LENGTH = 0x80  # A = octets of the datagram
    LOAD_OCTET_AT_X = 0x50  # A = octet at X + k
    LOAD_HEADER_LENGTH = 0xB1  # X = 4 * (octet at k & 15): the length of an IPv4 header
    ADD = 0x04  # A += k
    MULTIPLY = 0x24  # A *= k
    AND = 0x54  # A &= k
    SHIFT_RIGHT = 0x74  # A >>= k
    MODULO = 0x94  # A %= k
    XOR = 0xA4  # A ^= k
    XOR_X = 0xAC  # A ^= X
    TO_X = 0x07  # X = A
    STORE = 0x02  # word k of the memory = A
    LOAD_STORED = 0x60  # A = word k of the memory
    JUMP = 0x05  # to the label
    JUMP_IF_EQUAL = 0x15  # A == k
    JUMP_IF_AT_LEAST = 0x35  # A >= k, unsigned
    JUMP_IF_ANY_BIT = 0x45  # A & k != 0
    RETURN = 0x06  # the result is k
    RETURN_A = 0x16  # the result is A


class Instruction(msgspec.Struct, frozen=True):
    """One instruction; a jump's labels are `then` and `otherwise`, empty for the next instruction."""

    op: Op
    k: int = 0
    then: str = ""
    otherwise: str = ""


class Label(msgspec.Struct, frozen=True):
    """Where jumps of this name go: to the instruction after it."""

    name: str


def assemble(source: Sequence[Instruction | Label]) -> bytes:
    """The program in the kernel's form, 8 octets an instruction; ValueError for a jump that can't be made."""
    targets: dict[str, int] = {}
    instructions: list[Instruction] = []
    for line in source:
        if isinstance(line, Label):
            targets[line.name] = len(instructions)
        else:
            instructions.append(line)

    def distance(position: int, label: str) -> int:
        if not label:
            return 0
        if label not in targets or targets[label] <= position:
            raise ValueError(f"instruction {position} jumps to {label!r}, which is not ahead of it")
        return targets[label] - position - 1

    octets = bytearray()
    for position, instruction in enumerate(instructions):
        then, otherwise = distance(position, instruction.then), distance(position, instruction.otherwise)
        if instruction.op is Op.JUMP:
            octets += _INSTRUCTION.pack(instruction.op, 0, 0, then)
            continue
        if max(then, otherwise) > 255:
            raise ValueError(f"instruction {position} jumps too far")
        octets += _INSTRUCTION.pack(instruction.op, then, otherwise, instruction.k)
    return bytes(octets)


def attach(target: socket.socket, option: int, program: bytes) -> None:
    """Give a program to the kernel, as SO_ATTACH_FILTER or SO_ATTACH_REUSEPORT_CBPF, or raise OSError."""
    instructions = ctypes.create_string_buffer(program, len(program))
    header = _PROGRAM.pack(len(program) // _INSTRUCTION.size, ctypes.addressof(instructions))
    target.setsockopt(socket.SOL_SOCKET, option, header)

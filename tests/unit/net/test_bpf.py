import socket

import pytest

from cygnet.net.bpf import SO_ATTACH_FILTER, Instruction, Label, Op, assemble, attach


def test_jumps_become_distances() -> None:
    program = assemble(
        [
            Instruction(Op.LOAD_LENGTH),
            Instruction(Op.JUMP_IF_EQUAL, 3, then="three"),
            Instruction(Op.RETURN, 0),
            Label("three"),
            Instruction(Op.RETURN, 1),
        ]
    )
    assert program[8:16] == (0x15).to_bytes(2, "little") + b"\x01\x00" + (3).to_bytes(4, "little")
    assert len(program) == 4 * 8


@pytest.mark.parametrize("target", ["behind", "nowhere"])
def test_a_jump_that_does_not_lead_ahead_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match=target):
        assemble(
            [
                Label("behind"),
                Instruction(Op.LOAD_LENGTH),
                Instruction(Op.JUMP, then=target),
                Instruction(Op.RETURN),
            ]
        )


def test_a_conditional_jump_reaches_255_instructions() -> None:
    def program(between: int) -> list[Instruction | Label]:
        return [
            Instruction(Op.JUMP_IF_EQUAL, 0, then="end"),
            *[Instruction(Op.ADD, 1)] * between,
            Label("end"),
            Instruction(Op.RETURN_A),
        ]

    assert assemble(program(255))[2] == 255
    with pytest.raises(ValueError, match="too far"):
        assemble(program(256))


def test_the_kernel_runs_what_is_attached() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        # A socket filter sees the UDP header, 8 octets, too.
        attach(
            receiver,
            SO_ATTACH_FILTER,
            assemble(
                [
                    Instruction(Op.LOAD_OCTET, 8),
                    Instruction(Op.JUMP_IF_EQUAL, ord("y"), then="pass"),
                    Instruction(Op.RETURN, 0),
                    Label("pass"),
                    Instruction(Op.RETURN, 0xFFFFFFFF),
                ]
            ),
        )
        for letter in (b"n", b"y", b"x"):
            sender.sendto(letter, receiver.getsockname())
        assert receiver.recv(10) == b"y"
        with pytest.raises(BlockingIOError):
            receiver.recv(10)


def test_the_kernel_declines_nonsense() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        pytest.raises(OSError, match="Invalid argument"),
    ):
        attach(receiver, SO_ATTACH_FILTER, b"\xff" * 8)

"""Signals that come when no event loop handles them."""

import os
import signal
from pathlib import Path

import msgspec
import pytest
from tests.unit.gateway.commands.clients import loopback_gateway, responder_settings

from cygnet.gateway import embedded, supervisor
from cygnet.gateway.embedded import GatewayProcess
from cygnet.gateway.process import signals


def test_before_the_loop_sigterm_is_an_orderly_end_and_sighup_nothing() -> None:
    before = [signal.getsignal(number) for number in signals.HANDLED]
    with pytest.raises(SystemExit) as ended, signals.starting():
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 0
    assert [signal.getsignal(number) for number in signals.HANDLED] == before


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_the_interpreter_passes_over_is_not_lost(number: int, error: type[BaseException]) -> None:
    class Finalized:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)

    with signals.starting() as early:
        Finalized()
        with pytest.raises(error):
            early.check()


def test_a_gateway_that_is_ended_at_its_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def end(*arguments: object, **more: object) -> None:
        # All that leaves traces is open by now.
        seen.append((tmp_path / "state").exists())
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(supervisor, "Leasing", end)
    settings = msgspec.structs.replace(loopback_gateway(1), port=0, natt_port=0)
    with pytest.raises(SystemExit):
        supervisor.Supervisor(responder_settings(), settings, state_dir=tmp_path / "state", has_tun=False).run()
    assert seen == [True]
    assert not (tmp_path / "state").exists()


def test_an_interrupt_while_a_gateway_starts_ends_it_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(read_end: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded, "_read_answer", interrupt)
    with pytest.raises(KeyboardInterrupt):
        GatewayProcess.start(responder_settings(), loopback_gateway(1))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert capfd.readouterr().err == ""

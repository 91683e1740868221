import logging
from collections.abc import Iterator

import pytest

from cygnet.observe.log_groups import (
    AUDIT,
    GROUPS,
    PRIVATE,
    RAW,
    group_logger,
    group_of,
    level_of,
    parse_threshold,
    put_into_force,
    threshold_text,
)


@pytest.fixture(autouse=True)
def levels_as_before() -> Iterator[None]:
    names = ["", "cygnet", *(f"cygnet.{name}" for name in (*GROUPS, "cli", "gateway", "vici", "config", "dataplane"))]
    before = {name: logging.getLogger(name).level for name in names}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_the_groups_are_those_of_strongswan() -> None:
    known = "dmn mgr ike chd job cfg knl net asn enc tnc imc imv pts tls app esp lib"
    assert set(GROUPS) == set(known.split())


@pytest.mark.parametrize(
    ("level", "passes", "stays_out"),
    [
        ("-1", None, logging.CRITICAL),
        ("0", AUDIT, logging.INFO),
        ("1", logging.INFO, logging.DEBUG),
        ("2", logging.DEBUG, RAW),
        ("3", RAW, PRIVATE),
        ("4", PRIVATE, None),
        ("error", logging.ERROR, logging.WARNING),
        ("warning", logging.WARNING, AUDIT),
        ("info", logging.INFO, logging.DEBUG),
        ("debug", logging.DEBUG, RAW),
    ],
)
def test_a_level_is_a_least_severity(level: str, passes: int | None, stays_out: int | None) -> None:
    put_into_force({"default": logging.ERROR, "ike": parse_threshold(level)})
    ike = group_logger("ike")
    assert passes is None or ike.isEnabledFor(passes)
    assert stays_out is None or not ike.isEnabledFor(stays_out)
    assert not group_logger("chd").isEnabledFor(logging.WARNING)


@pytest.mark.parametrize("text", ["5", "-2", "", "loud", "1.5"])
def test_other_levels_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no log level"):
        parse_threshold(text)


@pytest.mark.parametrize("text", ["-1", "0", "1", "2", "3", "4", "error", "warning"])
def test_levels_are_shown_as_they_were_given(text: str) -> None:
    assert threshold_text(parse_threshold(text)) == text


@pytest.mark.parametrize(
    ("severity", "level"), [(logging.ERROR, 0), (AUDIT, 0), (logging.INFO, 1), (logging.DEBUG, 2), (RAW, 3), (1, 4)]
)
def test_a_line_is_of_the_first_level_that_shows_it(severity: int, level: int) -> None:
    assert level_of(severity) == level


@pytest.mark.parametrize(
    ("logger", "group"),
    [
        ("cygnet.chd", "chd"),
        ("cygnet.net.driver", "net"),
        ("cygnet.ike.table", "ike"),
        ("cygnet.gateway.supervisor", "dmn"),
        ("cygnet.vici.server", "cfg"),
        ("cygnet", "dmn"),
        ("asyncio", "lib"),
        ("root", "lib"),
    ],
)
def test_every_logger_is_of_a_group(logger: str, group: str) -> None:
    assert group_of(logger) == group


def test_libraries_say_only_what_matters_unless_asked() -> None:
    library = logging.getLogger("somelibrary")
    put_into_force({"default": PRIVATE})
    assert not library.isEnabledFor(logging.INFO)
    assert library.isEnabledFor(logging.WARNING)
    put_into_force({"default": logging.ERROR, "lib": logging.INFO})
    assert library.isEnabledFor(logging.INFO)


def test_a_group_without_level_goes_back_to_the_default() -> None:
    put_into_force({"default": logging.INFO, "dmn": logging.DEBUG})
    assert logging.getLogger("cygnet.gateway.supervisor").isEnabledFor(logging.DEBUG)
    put_into_force({"default": logging.INFO})
    assert not logging.getLogger("cygnet.gateway.supervisor").isEnabledFor(logging.DEBUG)

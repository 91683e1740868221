"""The page about configuration says what the table says."""

import re
from pathlib import Path

from cygnet.config.keys import TABLES
from cygnet.config.load import load_text
from cygnet.config.reference import render_reference

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == render_reference()


def test_every_row_is_on_it() -> None:
    page = render_reference()
    for table in TABLES.values():
        for name in table.names:
            assert f"`{name}" in page


def test_its_example_loads() -> None:
    example = re.search(r"```\n(.*?)```", render_reference(), re.DOTALL)
    assert example is not None
    assert load_text(example[1]).warnings == ()
